"""Raises, resolves and tells alerts.

Raising and resolving are done when the row is written; that is all that a job waits for. Telling the sinks is the work
of a timer, so that a sink that hangs or is away costs no job anything. Every row has its own outbox: which sinks have
still to be told how it stands, after how many attempts, and when next.

Telling: send -> write down that it was told. If we die before the sending, the next round finds the sink owed; if we
die in between, it is told once more, with the same key and revision. If the row changes meanwhile, nothing is written
down, and the next round tells how the alert stands then, though another one has told it before: ours was the last word.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final, override

from rotation.alerting import (
    due,
    failed,
    given_up,
    key_of,
    kind_of,
    notice_of,
    owing,
    owner_of,
    raised,
    resolved,
    told,
    urgent_first,
)
from rotation.audit import AuditEvent, Outcome
from rotation.audit_job import AuditTrail
from shared import metrics
from shared.clock import Clock
from shared.errors import AtpError, Conflict, Integrity, Rejected, Transient
from shared.ports import AlertRegister, Alerts, AlertSink
from shared.values import Alert, AlertEntry, Closing, Severity, SinkName

log = logging.getLogger(__name__)

ACTION: Final = "alert.resolve"
"""What is on record of an alert that a person has resolved."""
_TRIES: Final = 5
_PATIENCE_S: Final = 15.0
"""For how long one sink is told of alerts in one round."""
_LONGEST_WAIT_S: Final = 86_400.0
"""More than any pause; a sink may state a number that is no time any more."""


class AlertDesk(Alerts):
    """The port `Alerts`: a log record, a metric, and a row with an outbox."""

    def __init__(self, register: AlertRegister, clock: Clock, owners: Mapping[str, str] | None = None) -> None:
        """`owners` is who owns what, by `rotation.alerting.owners_in`."""
        self._register = register
        self._clock = clock
        self._owners = owners or {}

    @override
    def raise_alert(self, alert: Alert) -> None:
        alert = replace(alert, owner=owner_of(alert, self._owners))
        kind = kind_of(alert.what)
        # First, and each time: rules on the log hear of it even where the tables are away.
        log.error(
            "alert",
            extra={
                "alert": alert.id,
                "severity": alert.severity,
                "what": alert.what,
                "subject": alert.subject,
                "owner": alert.owner,
                "next": kind.next,
                "runbook": kind.runbook,
                "details": dict(alert.details),
            },
        )
        try:
            entry = self._change(alert.id, lambda stored: raised(stored, alert))
        except Integrity as error:
            # What was done to its row must not keep a job from its work; the log has the alert.
            log.error("an alert cannot be recorded", extra={"because": str(error)})  # noqa: TRY400 - no bug
            return
        if entry is not None:
            metrics.emit("alerts.raised", severity=alert.severity, what=alert.what)

    @override
    def resolve(self, alert_id: str, by: str = "", because: str = "") -> None:
        entry = self._change(alert_id, lambda stored: resolved(stored, self._clock(), by, because))
        if entry is not None:
            alert = entry.alert
            log.warning(
                "alert resolved", extra={"alert": alert_id, "what": alert.what, "subject": alert.subject, "by": by}
            )
            metrics.emit("alerts.resolved", severity=alert.severity, what=alert.what)

    @override
    def all(self) -> list[Alert]:
        return [entry.alert for entry in self._register.all()]

    def _change(self, alert_id: str, decide: Callable[[AlertEntry | None], AlertEntry | None]) -> AlertEntry | None:
        """What is stored then; None if it stays as it is."""
        for _ in range(_TRIES):
            entry = decide(self._register.read(alert_id))
            if entry is None:
                return None
            try:
                self._register.put(entry)
            except Conflict:
                continue  # somebody was first, or it was our own write whose answer was lost
            return entry
        raise Transient("an alert keeps changing", alert=key_of(alert_id))


@dataclass(slots=True)
class _Round:
    """What one round knows of the sinks."""

    spent: dict[SinkName, float] = field(default_factory=dict)  # seconds
    away: set[SinkName] = field(default_factory=set)
    reached: set[SinkName] = field(default_factory=set)
    refused: set[SinkName] = field(default_factory=set)


class AlertDelivery:
    """Tells the sinks what they are owed. Any number may try at once: a sink is told twice at worst."""

    def __init__(
        self,
        register: AlertRegister,
        alerts: Alerts,
        sinks: Iterable[AlertSink],
        audit: AuditTrail,
        clock: Clock,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._register = register
        self._alerts = alerts
        self._sinks = {sink.name: sink for sink in sinks}
        self._audit = audit
        self._clock = clock
        self._monotonic = monotonic
        self._unstorable: set[str] = set()

    def run(self) -> None:
        """One round over all that is owed. Transient where the tables do not answer: the next round goes on."""
        this_round = _Round()
        for entry in urgent_first(self._register.owing()):
            key = key_of(entry.alert.id)
            if key in self._unstorable:
                continue
            try:
                self._treat(entry, this_round)
            except Conflict:
                log.info("an alert has changed while it was told", extra={"alert": entry.alert.id})
            except ValueError:
                # A secret is in its id, say: it cannot be written down that it was told, so it would be for ever.
                log.exception("an alert cannot be stored and is told no more", extra={"key": key})
                self._unstorable.add(key)
        for name in this_round.reached - this_round.refused:
            self._alerts.resolve(_sink_alert(name))

    def _treat(self, stored: AlertEntry, this_round: _Round) -> None:
        entry, tried = self._recorded(stored), set[SinkName]()
        for name in due(entry, self._clock()):
            sink = self._sinks.get(name)
            if sink is None:
                entry = told(entry, name)  # nobody there to be told
            elif name not in this_round.away and this_round.spent.get(name, 0.0) < _PATIENCE_S:
                tried.add(name)
                entry = self._attempted(entry, sink, this_round)
        if entry == stored:
            return
        try:
            self._register.put(entry)
        except Conflict:
            self._tell_again(entry, frozenset(tried))
            raise

    def _tell_again(self, late: AlertEntry, tried: frozenset[SinkName]) -> None:
        """Have sinks told how the alert stands now: another round may have told them that before us, who told less."""
        for _ in range(_TRIES):
            entry = self._register.read(late.alert.id)
            if entry is None or entry.revision == late.revision or tried <= entry.owed.keys():
                return
            with suppress(Conflict):
                self._register.put(owing(entry, tried))
                return

    def _recorded(self, entry: AlertEntry) -> AlertEntry:
        """The row once the audit trail has what people did to it; as it is while the trail cannot be written."""
        if not entry.closings:
            return entry
        try:
            self._audit.record(*(closing_event(entry.alert.id, closing) for closing in entry.closings))
        except ValueError:
            log.error("a resolved alert cannot be put on record", extra={"alert": entry.alert.id})  # noqa: TRY400
        except AtpError as error:
            log.warning("a resolved alert is not on record yet", extra={"because": str(error)})
            return entry
        return replace(entry, closings=())

    def _attempted(self, entry: AlertEntry, sink: AlertSink, this_round: _Round) -> AlertEntry:
        alert, name = entry.alert, sink.name
        began = self._monotonic()
        try:
            sink.send(notice_of(entry))
        except Rejected as error:
            log.error(  # noqa: TRY400 - no bug
                "an alert was refused by a sink", extra={"alert": alert.id, "sink": name, "because": str(error)}
            )
            self._tell_of(name, str(error), this_round)
            return given_up(entry, name, str(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, the other sinks are told
            this_round.away.add(name)  # other alerts would wait for it in vain
            reason = str(error) if isinstance(error, AtpError) else type(error).__name__
            entry = failed(entry, name, self._clock(), reason, timedelta(seconds=_retry_after(error)))
            owed = entry.owed[name]
            log.warning(
                "a sink was not told of an alert",
                extra={"alert": alert.id, "sink": name, "attempt": owed.attempts, "because": reason},
            )
            if owed.given_up:
                self._tell_of(name, reason, this_round)
            return entry
        finally:
            this_round.spent[name] = this_round.spent.get(name, 0.0) + self._monotonic() - began
        this_round.reached.add(name)
        log.info("a sink was told of an alert", extra={"alert": alert.id, "sink": name, "revision": entry.revision})
        return told(entry, name)

    def _tell_of(self, name: SinkName, reason: str, this_round: _Round) -> None:
        """Alert, over the other sinks, of one that takes none; before it is written down that it is given up."""
        if name in this_round.refused:
            return
        self._alerts.raise_alert(
            Alert(
                id=_sink_alert(name),
                severity=Severity.WARNING,
                what="a sink does not take alerts",
                subject=f"sink/{name}",
                raised=self._clock(),
                details={"reason": reason},
            )
        )
        this_round.refused.add(name)


def _sink_alert(name: SinkName) -> str:
    return f"sink/{name}"


def _retry_after(error: Exception) -> float:
    wait = error.fields.get("retry_after") if isinstance(error, AtpError) else None
    return min(float(wait), _LONGEST_WAIT_S) if isinstance(wait, int | float) else 0.0


def closing_event(alert_id: str, closing: Closing) -> AuditEvent:
    """What is recorded when a person has resolved an alert. ValueError if it does not follow the trail's grammar."""
    key = key_of(alert_id)
    event = AuditEvent(
        job=f"{ACTION}/{key}/{closing.revision}",
        outcome=Outcome.SUCCEEDED,
        action=ACTION,
        subject=f"alert/{key}",
        actor=closing.by,
        trigger="manual",
        reason=closing.because,
    )
    with suppress(ValueError):  # an id that a record has no room for: there is the key of it
        return replace(event, details={"alert": alert_id})
    return event
