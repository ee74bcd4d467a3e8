"""Signs a checkpoint of the audit trail each minute, also when nothing happened.

One call does this, and every call after a death does the same:

    1. catch up: check every checkpoint since the one we know, and the records it signs
       dies here: nothing has happened
    2. read what was recorded since, and prove that it continues what is signed
    3. state it, have the vault sign it       dies here: a signature that nobody ever sees
    4. insert the checkpoint                  dies here: the next call finds it, and catches up

Of two that sign the same number one inserts, and the other one's signature is never shown to anybody. Whatever
contradicts the last signed checkpoint is refused: an alert, a record, and no signature until a person has found out.

The first checkpoint of every hour carries the state of all streams, so that a restart reads an hour's records at most;
and it is what the time-stamp authority is asked to stamp. The answer goes into the next checkpoint.
"""

import logging
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from rotation.audit import AuditEvent, Outcome
from rotation.audit_job import AuditTrail
from rotation.checkpoint import TOLERANCE, Statement, parse, signed, streams_root, to_der
from rotation.evidence_job import EvidenceCopy
from rotation.merkle import leaf_hash
from rotation.streams import Streams, copied, extend, from_texts, heads_of, no_records, to_texts
from rotation.trail import Trail
from shared.clock import Clock
from shared.errors import AtpError, Conflict, Integrity, Rejected, Transient
from shared.ports import Alerts, AuditSigner, Checkpoints, Records, TimestampAuthority
from shared.values import Alert, Kid, Severity, SigningKey, StoredCheckpoint

log = logging.getLogger(__name__)

_PAGE: Final = 1000
_PATIENCE: Final = timedelta(minutes=4)
"""For how long one checkpoint takes in records. What is left then, after an outage with millions of them, waits for the
next one, and looks backdated there: so this is as long as the time-out of the call lets it be."""
_MANY: Final = 200_000
"""Records that a restart should not have to read again."""
_ANCHORED_EVERY: Final = 60
_EVER: Final = datetime.min.replace(tzinfo=UTC)
_ACTION: Final = "audit.checkpoint"


@dataclass(frozen=True, slots=True)
class _Known:
    """The last checkpoint that was checked, and what the next one needs."""

    statement: Statement | None  # None before the first
    streams: Streams
    anchor: Statement | None  # the last checkpoint that carries the state of all streams
    unstamped: tuple[int, str] | None  # number and note of that one, if it has no time-stamp yet
    handover: int  # number of the last handover

    @property
    def number(self) -> int:
        return self.statement.number if self.statement else 0


class Checkpointer:
    """Signs checkpoints. Any number of them may try at once; nobody else may use their key."""

    def __init__(
        self,
        records: Records,
        checkpoints: Checkpoints,
        signer: AuditSigner,
        copy: EvidenceCopy | None,
        authority: TimestampAuthority | None,
        audit: AuditTrail,
        alerts: Alerts,
        origin: str,
        clock: Clock,
    ) -> None:
        self._records = records
        self._checkpoints = checkpoints
        self._trail = Trail(records, checkpoints)
        self._signer = signer
        self._copy = copy
        self._authority = authority
        self._audit = audit
        self._alerts = alerts
        self._origin = origin
        self._clock = clock
        self._turn = threading.Lock()  # whoever fires the timer by hand must not meet it in here
        self._known: _Known | None = None
        self._keys: dict[Kid, EllipticCurvePublicKey] = {}

    def run(self) -> None:
        """Sign the next checkpoint, unless the trail contradicts the last one: that is recorded and alerted.

        Conflict if another one was first, Transient to be called again; the next minute will do for both. An error that
        nobody has thought of is alerted, too, and raised.
        """
        with self._turn:
            self._run()

    def _run(self) -> None:
        newest = 0
        try:
            newest = self._trail.newest()
            self._known = self._caught_up(newest)
            self._known = self._sign_next(self._known)
        except (Integrity, Rejected) as error:
            # What is known stays known: what contradicts it now must not become the truth in a minute.
            self._refuse(error, newest + 1)
        except (Transient, Conflict):
            raise
        except Exception as error:
            # A bug; if it is a record that brings it out, nothing is signed from here on, which must not stay unsaid.
            self._refuse(Integrity("an error of our own", cause=type(error).__name__), newest + 1)
            raise

    def _sign_next(self, known: _Known) -> _Known:
        now = self._time(known)
        streams = self._read_on(known, now)
        statement, note = self._signed_next(known, streams, now)
        trees = to_texts(streams) if _is_anchor(known.anchor, statement) else {}
        stored = StoredCheckpoint(statement.number, note, trees, *self._stamp(known))
        self._checkpoints.append(stored)
        log.info(
            "signed a checkpoint",
            extra={
                "number": statement.number,
                "records": statement.size,
                "grown": len(statement.grown),
                "kid": statement.kid,
            },
        )
        if statement.next_kid:
            log.warning("handed over to a new audit signing key", extra={"kid": statement.next_kid})
        return _followed(known, stored, statement, streams)

    def _time(self, known: _Known) -> datetime:
        """The time of the next checkpoint: not before the last one, unless a clock was put back by much."""
        now, last = self._clock(), known.statement
        if last is None or now >= last.time:
            return now
        if now >= last.time - TOLERANCE:
            return last.time
        self._alert(
            f"audit/clock/{now:%Y-%m-%d}",
            "the clock of the audit trail was put back",
            Severity.CRITICAL,
            f"the last checkpoint says {last.time:%Y-%m-%d %H:%M}, it is {now:%Y-%m-%d %H:%M}",
        )
        return now

    def _read_on(self, known: _Known, now: datetime) -> Streams:
        """The streams with what was recorded since. Integrity where that contradicts what is signed."""
        streams = copied(known.streams)
        times = (known.statement.time - TOLERANCE if known.statement else _EVER, now + TOLERANCE)
        ends = self._clock() + _PATIENCE
        for stream in streams:
            self._read_stream(streams, stream, ends, times)
        return streams

    def _read_stream(self, streams: Streams, stream: int, ends: datetime, times: tuple[datetime, datetime]) -> None:
        state = streams[stream]
        before = state.size
        # From the last signed record on, to see that it is still there and still the same.
        page = self._records.read(stream, max(before, 1), _PAGE)
        fresh = page
        if before:
            if not page or page[0].seq != before or leaf_hash(page[0].canonical) != state.last:
                raise Integrity("a signed audit record is missing or was changed", stream=stream, seq=before)
            fresh = page[1:]
        while True:
            for stored in fresh:
                if stored.seq != state.size + 1 or stored.leaf_hash != leaf_hash(stored.canonical):
                    raise Integrity("an audit record is missing or was changed", stream=stream, seq=state.size + 1)
                record = extend(streams, stream, stored.canonical)
                if record.event != stored.event_id:
                    raise Integrity("an audit record is not the event of its row", stream=stream, seq=stored.seq)
                if not times[0] <= record.moment <= times[1]:
                    self._alert(
                        f"audit/record-time/{times[1]:%Y-%m-%d}",
                        "an audit record was dated by a wrong clock",
                        Severity.WARNING,
                        f"record {stream}/{stored.seq} says {record.time}",
                    )
            if len(page) < _PAGE or self._clock() > ends:
                return
            page = fresh = self._records.read(stream, state.size + 1, _PAGE)

    def _signed_next(self, known: _Known, streams: Streams, now: datetime) -> tuple[Statement, str]:
        """The next checkpoint and its note; it hands over to the newest version of the key, if that can sign."""
        heads = heads_of(streams)
        last, newest = known.statement, self._newest_key(known)
        if last is not None and last.origin != self._origin:
            raise Rejected("the audit trail was begun under another name", origin=last.origin)
        statement = Statement(
            origin=self._origin,
            size=sum(head.size for head in heads.values()),
            root=streams_root(heads),
            number=known.number + 1,
            time=now,
            kid=newest.kid if last is None else last.next_kid or last.kid,
            handover=known.handover,
            grown={stream: head for stream, head in heads.items() if head.size > known.streams[stream].size},
        )
        if newest.enabled and newest.kid != statement.kid:
            handover = replace(statement, next_kid=newest.kid, next_key=to_der(newest.public_key))
            try:
                return handover, self._signed(handover)
            except (Rejected, Integrity) as error:
                self._alert_rotation(error)
        return statement, self._signed(statement)

    def _newest_key(self, known: _Known) -> SigningKey:
        """The newest version of the key; the one in use where that cannot be had."""
        try:
            return self._signer.newest()
        except (Rejected, Integrity) as error:
            if known.statement is None:
                raise
            self._alert_rotation(error)
            return self._signer.version(known.statement.next_kid or known.statement.kid)

    def _alert_rotation(self, error: AtpError) -> None:
        identity = f"audit/key/{self._clock():%Y-%m-%d}"
        self._alert(identity, "the audit signing key cannot be rotated", Severity.WARNING, str(error))

    def _signed(self, statement: Statement) -> str:
        text = statement.to_text().encode()
        kids = [statement.kid, *([statement.next_kid] if statement.next_kid else [])]
        return signed(statement, [(self._key(kid), self._signer.sign(kid, text)) for kid in kids])

    def _stamp(self, known: _Known) -> tuple[int, bytes]:
        """A time-stamp of the last checkpoint that is to have one; (0, nothing) if there is none to be had."""
        if self._authority is None or known.unstamped is None:
            return 0, b""
        number, note = known.unstamped
        try:
            return number, self._authority.stamp(note.encode())
        except Exception as error:  # noqa: BLE001 - whatever it is, signing goes on
            log.warning("a checkpoint was not time-stamped", extra={"number": number, "because": str(error)})
            identity = f"audit/unstamped/{self._clock():%Y-%m-%d}"
            with suppress(AtpError):
                self._alert(
                    identity,
                    "checkpoints of the audit trail are not time-stamped",
                    Severity.WARNING,
                    type(error).__name__,
                )
            return 0, b""

    def _caught_up(self, newest: int) -> _Known:
        """What is signed, up to the newest checkpoint; everything behind the one that we know is checked."""
        known = self._known or self._loaded(newest)
        if newest < known.number:
            raise Integrity("a checkpoint is missing", checkpoint=newest + 1)
        for stored in self._trail.checkpoints(known.number, newest):
            known = self._checked(known, stored)
        return known

    def _loaded(self, newest: int) -> _Known:
        """The last point that can be gone on from, its signature checked.

        A process that has just begun knows only what the tables say. If they were cut back to an earlier checkpoint,
        the evidence copy, which nobody can cut back, says so.
        """
        if self._copy is not None:
            self._copy.ensure_agrees()
        point = self._trail.point_before(newest)
        if not point.number:
            return _Known(None, no_records(), None, None, 0)
        statement = self._ensure_signed(point.note)
        if statement.number != point.number or streams_root(heads_of(point.streams)) != statement.root:
            raise Integrity("a checkpoint does not carry the streams that it signs", checkpoint=point.number)
        stored = StoredCheckpoint(point.number, point.note, to_texts(point.streams))
        return _followed(_Known(None, point.streams, None, None, statement.handover), stored, statement, point.streams)

    def _checked(self, known: _Known, stored: StoredCheckpoint) -> _Known:
        """Go on to the next checkpoint. Integrity unless it is signed and continues the one before."""
        statement = self._ensure_signed(stored.note)
        streams = copied(known.streams)
        self._trail.extend(streams, statement)
        last = known.statement
        if last is not None and statement.kid != (last.next_kid or last.kid):
            raise Integrity("a checkpoint does not follow the one before it", checkpoint=stored.number)
        if statement.number != stored.number or streams_root(heads_of(streams)) != statement.root:
            raise Integrity("a checkpoint does not sign the records that are stored", checkpoint=stored.number)
        if stored.trees and to_texts(from_texts(stored.trees)) != to_texts(streams):
            raise Integrity("a checkpoint does not carry the streams that it signs", checkpoint=stored.number)
        return _followed(known, stored, statement, streams)

    def _ensure_signed(self, note: str) -> Statement:
        checkpoint = parse(note)
        statement = checkpoint.statement
        keys = [self._key(kid) for kid in (statement.kid, statement.next_kid) if kid]
        is_named = not statement.next_kid or to_der(keys[-1]) == statement.next_key
        if not is_named or not all(checkpoint.is_signed_by(key) for key in keys):
            raise Integrity("a checkpoint is not signed by the audit signing key", checkpoint=statement.number)
        return statement

    def _key(self, kid: Kid) -> EllipticCurvePublicKey:
        """The public key of that version; the vault never changes one."""
        if kid not in self._keys:
            self._keys[kid] = self._signer.version(kid).public_key
        return self._keys[kid]

    def _refuse(self, error: AtpError, number: int) -> None:
        """Tell everybody that no checkpoint is signed, and why."""
        log.error("refused to sign a checkpoint", extra={"number": number, "because": str(error)})
        identity = f"audit/refused/{number}/{type(error).__name__}"
        self._alert(identity, "the audit trail cannot be signed", Severity.CRITICAL, str(error))
        with suppress(AtpError):  # it may be the very stream that is broken; the alert is there
            self._audit.record(
                AuditEvent(
                    job=f"{_ACTION}/{number}",
                    outcome=Outcome.FAILED,
                    action=_ACTION,
                    subject="audit/trail",
                    actor="checkpointer",
                    trigger="schedule",
                    reason=str(error),
                    details={"error": type(error).__name__},
                )
            )

    def _alert(self, identity: str, what: str, severity: Severity, reason: str) -> None:
        self._alerts.raise_alert(
            Alert(
                id=identity,
                severity=severity,
                what=what,
                subject="audit/trail",
                raised=self._clock(),
                details={"reason": reason},
            )
        )


def _followed(known: _Known, stored: StoredCheckpoint, statement: Statement, streams: Streams) -> _Known:
    """What is known behind a checkpoint."""
    unstamped = None if known.unstamped and stored.stamped == known.unstamped[0] else known.unstamped
    if stored.trees:
        unstamped = (stored.number, stored.note)
    return _Known(
        statement,
        streams,
        statement if stored.trees else known.anchor,
        unstamped,
        stored.number if statement.next_kid else statement.handover,
    )


def _is_anchor(last: Statement | None, statement: Statement) -> bool:
    """Whether a checkpoint is to carry the state of all streams: once an hour, and whenever much has come together."""
    return (
        last is None
        or f"{last.time:%Y-%m-%d %H}" != f"{statement.time:%Y-%m-%d %H}"
        or statement.number - last.number >= _ANCHORED_EVERY
        or statement.size - last.size >= _MANY
    )
