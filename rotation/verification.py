"""Checks the lines of an audit trail, alone: without Azure, without a network, without a secret.

Three verdicts, each for itself:

- integrity: every record is the one that was signed, in its place, once; every checkpoint is signed by a key that is
  trusted, or that a trusted one has handed over to; what is held from before is still there.
- completeness: no record and no checkpoint is missing, from the time asked for to the time asked for.
- time: no record claims a time that the checkpoints around it, or the time-stamps on them, speak against.

Records are read once and forgotten, so that memory does not grow with them.
"""

import base64
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from functools import reduce
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from rotation.audit import SCHEMA, all_parsed, event_digest, parse_time, time_text
from rotation.bundle import RECORD, Anchor, Signed, part_in
from rotation.checkpoint import TOLERANCE, Checkpoint, Statement, from_der, handovers_to, parse, streams_root, to_der
from rotation.repeats import Repeats
from rotation.streams import Streams, from_texts, heads_of, no_records, to_texts
from shared.errors import Integrity, Rejected
from shared.values import StreamHead

MAX_GAP: Final = timedelta(minutes=10)
"""The longest time without a checkpoint that is not remarked on: in it, nothing was held to anything yet."""
STAMPED_EVERY: Final = timedelta(hours=2)
"""Where time-stamps are asked for, no stretch without one may be longer: they are taken each hour."""
_UNDER_NONE: Final = "records are under no checkpoint: nothing proves them"
_KEPT: Final = 100
_BATCH_BYTES: Final = 40_000  # of records that are read together: more would not stay in the cache of the processor
_MOST_UNSTAMPED: Final = 1_000  # eight times as many as there are in two hours
_ANYWHERE: Final = -1  # in the place of a stream: their order was found wrong, which is said once for a checkpoint
_PLACE_BITS: Final = 56  # of a record's place: its stream is above


class Verdict(StrEnum):
    """What can hold or not, each for itself."""

    INTEGRITY = "integrity"
    COMPLETENESS = "completeness"
    TIME = "time"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that speaks against a verdict."""

    verdict: Verdict
    what: str
    stream: int | None = None
    seq: int | None = None  # of the first record concerned
    upto: int | None = None  # of the last one, if they are several
    checkpoint: int | None = None


@dataclass(slots=True)
class Report:
    """What the lines have come to."""

    origin: str = ""
    records: int = 0
    checkpoints: int = 0
    from_number: int = 0  # the checkpoint that the lines begin behind
    to_number: int = 0
    began: datetime | None = None  # the time from which records are in the lines; None: from the very first
    ended: datetime | None = None  # time of the last checkpoint
    longest_gap: timedelta = timedelta()  # between checkpoints: what was not yet signed could be changed for so long
    handovers: int = 0
    stamps: int = 0  # time-stamps that were checked and are right
    findings: list[Finding] = field(default_factory=list)  # the first of them
    counts: Counter[Verdict] = field(default_factory=Counter)

    def holds(self, verdict: Verdict) -> bool:
        """Whether nothing speaks against it."""
        return not self.counts[verdict]

    @property
    def sound(self) -> bool:
        """Whether all verdicts hold."""
        return not self.counts.total()

    @property
    def first_bad(self) -> Finding | None:
        """The first finding that names a record."""
        return next((each for each in self.findings if each.seq is not None), None)

    def note(self, finding: Finding) -> None:
        """Put a finding on record."""
        self.counts[finding.verdict] += 1
        if len(self.findings) < _KEPT:
            self.findings.append(finding)


type StampCheck = Callable[[bytes, bytes], datetime]
"""Says when an authority saw a message, given its time-stamp and the message. Integrity if that does not say so."""


@dataclass(frozen=True, slots=True)
class Expectations:
    """What the auditor knows from elsewhere."""

    keys: Sequence[EllipticCurvePublicKey]  # pinned
    held: Sequence[str] = ()  # notes of checkpoints that were received earlier
    stamps: StampCheck | None = None  # how to check time-stamps; None: they are not asked for
    since: datetime | None = None
    until: datetime | None = None
    origin: str | None = None  # name of the trail; None: whichever it is
    max_gap: timedelta = MAX_GAP


@dataclass(frozen=True, slots=True)
class _Unstamped:
    """A checkpoint that no time-stamp covers yet."""

    note: str
    time: datetime
    gap: timedelta  # since the one before


class Verification:
    """Feed it the lines of every file in order, then ask for the report. Use it in a `with`."""

    def __init__(self, expected: Expectations) -> None:
        self.report = Report()
        self._expected = expected
        self._streams: Streams = no_records()
        self._signed: dict[int, StreamHead] = dict(heads_of(self._streams))  # as the last checkpoint says
        self._root = streams_root(self._signed)
        self._broken: set[int] = set()  # streams that can be compared with nothing signed any more
        self._gaps: set[int] = set()  # those of them that have records missing
        self._short: set[int] = set()  # those that lack nothing but the last record that was signed
        self._unproven: dict[int, tuple[int, int]] = {}  # by stream: the first and the last record that no root proves
        self._touched: set[int] = set()
        self._at = 0  # the stream that is reached since the last checkpoint: there they stand in their order
        self._last: Checkpoint | None = None
        self._last_note = ""
        self._anchored = False
        self._earliest: tuple[str, int, int] | None = None  # time of a record since the last checkpoint, and where
        self._latest: tuple[str, int, int] | None = None
        self._trusted = {to_der(key): key for key in expected.keys}  # at the place that is reached
        self._handed = b""  # all handovers up to there, in one hash
        self._strangers: set[str] = set()  # some keys that are not trusted
        self._held = [parse(note) for note in expected.held]
        self._unvouched = self._held  # those that no trusted key has signed
        for key in expected.keys:
            self._vouch(key)
        self._met: set[int] = set()  # numbers of those that the lines reach
        self._unstamped: dict[int, _Unstamped] = {}
        self._unstamped_time = timedelta()  # sum of their gaps
        self._forgotten = 0  # up to this number, nothing is known any more of which checkpoint has no time-stamp
        self._time = ""  # of the record before, if it is one; most records share it
        self._begun = dict.fromkeys(self._streams, 0)  # records of each stream before the lines begin
        self._since, self._until = expected.since, expected.until
        self._repeats = Repeats()

    def __enter__(self) -> Self:
        self._repeats.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._repeats.__exit__(*error)

    def feed(self, lines: Iterable[bytes]) -> None:
        """Check the lines of one file, each with its line feed. Integrity if they cannot be a trail's at all."""
        rest = iter(lines)
        line = next(rest, None)
        if line is None:
            raise Integrity("a file of the audit trail is empty")
        anchor = part_in(line)
        if not isinstance(anchor, Anchor):
            raise Integrity("a file of the audit trail does not begin with an anchor")
        self._anchor(anchor)
        self._at = 0
        for records, other in _in_batches(rest):
            if records:
                self._records(records)
                line = records[-1]
            if other is not None:
                line = other
                self._at = 0
                part = part_in(line)
                if not isinstance(part, Signed):
                    raise Integrity("a file of the audit trail has a second anchor")
                self._checkpoint(part)
        if not line.endswith(b"\n"):
            what = "the last line of a file was cut off: it has no line feed"
            self._find(Verdict.COMPLETENESS, what, checkpoint=self.report.to_number)

    def conclude(self) -> Report:
        """What all lines have come to."""
        report = self.report
        if self._touched:
            stream = min(self._touched)
            size = self._signed[stream].size
            self._find(Verdict.INTEGRITY, _UNDER_NONE, stream, size + 1, self._streams[stream].size)
            what = "the lines end without the checkpoint of their last records"
            self._find(Verdict.COMPLETENESS, what, checkpoint=report.to_number)
        self._give_up_proofs()
        for place in self._repeats.places():
            stream, seq = place >> _PLACE_BITS, place & ((1 << _PLACE_BITS) - 1)
            self._find(Verdict.INTEGRITY, "an event is recorded twice", stream, seq)
        for number in sorted({held.statement.number for held in self._held} - self._met):
            if report.from_number < number < report.to_number:
                what = "the trail lacks the checkpoint that is held, and has later ones"
                self._find(Verdict.INTEGRITY, what, checkpoint=number)
                continue
            if number <= report.from_number:
                what = "the lines begin behind the checkpoint that is held"
            else:
                what = "the trail was cut off: it ends before the checkpoint that is held"
            self._find(Verdict.COMPLETENESS, what, checkpoint=number)
        for held in self._unvouched:
            raise Rejected("a checkpoint that is held is signed by no trusted key", number=held.statement.number)
        if not report.checkpoints:
            self._find(Verdict.COMPLETENESS, "nothing is signed: there is no checkpoint", checkpoint=report.from_number)
        self._ensure_range()
        return report

    def _records(self, lines: Sequence[bytes]) -> None:
        """Check records that follow each other. With this loop the verification of a large export spends its time."""
        canonicals = [line.removesuffix(b"\n") for line in lines]
        self.report.records += len(canonicals)
        streams, touched, add_event = self._streams, self._touched, self._repeats.add
        for canonical, record in zip(canonicals, all_parsed(canonicals), strict=True):
            if record is None or record.schema != SCHEMA:
                self._find(Verdict.INTEGRITY, "a line is no record of ours", checkpoint=self.report.to_number)
                continue
            stream, seq, prev = record.stream, record.seq, record.prev
            state = streams[stream]
            if stream > self._at >= 0:
                self._at = stream
            elif stream < self._at:
                self._find(Verdict.INTEGRITY, "a record stands behind those of a later stream", stream, seq)
                self._at = _ANYWHERE
            if seq != state.size + 1:
                if seq <= state.size:
                    self._find(Verdict.INTEGRITY, "a record is out of its place, or there again", stream, seq)
                    continue
                self._find(Verdict.COMPLETENESS, "records are missing", stream, state.size + 1, seq - 1)
                self._leap(stream, seq, prev)
            if prev != state.prev:
                # Its predecessor was changed, or it was; what is signed will not say which.
                self._broken.add(stream)
                bad = seq - 1 if state.size > self._begun[stream] else seq
                self._find(Verdict.INTEGRITY, "a record was altered: the next one names another hash", stream, bad)
            event = event_digest(record.job, record.outcome)
            if record.event != event.hex():
                self._find(Verdict.INTEGRITY, "a record does not have the id of its event", stream, seq)
            add_event(event, stream << _PLACE_BITS | seq)
            state.add(canonical)
            touched.add(stream)
            if record.time != self._time:
                self._timed(record.time, stream, seq)

    def _leap(self, stream: int, seq: int, prev: str) -> None:
        """Go on behind missing records, with one that names its predecessor."""
        state, broken = self._streams[stream], self._broken
        if seq == state.size + 2 and (stream not in broken or stream in self._short) and state.pass_over(prev):
            # Of one that is missing the hash is known: what is signed still proves all others.
            for streams in (broken, self._gaps, self._short):
                streams.discard(stream)
            self._unproven.pop(stream, None)
            return
        broken.add(stream)
        self._gaps.add(stream)
        self._short.discard(stream)
        state.size, state.prev = seq - 1, prev

    def _timed(self, time: str, stream: int, seq: int) -> None:
        """A time that is not that of the record before."""
        try:
            parse_time(time)
        except Integrity:
            self._find(Verdict.TIME, "what a record gives for its time is no time of ours", stream, seq)
            return
        self._time = time
        earliest, latest = self._earliest, self._latest
        if earliest is None or latest is None:
            self._earliest = self._latest = (time, stream, seq)
        elif time > latest[0]:
            self._latest = (time, stream, seq)
        elif time < earliest[0]:
            self._earliest = (time, stream, seq)

    def _anchor(self, anchor: Anchor) -> None:
        streams = from_texts(anchor.streams)
        since, until = (parse_time(text) if text else None for text in (anchor.since, anchor.until))
        if not self._anchored:
            self._anchored = True
            # An export says what it was asked for. It may say too little, and then has less than the auditor asks for.
            self._since, self._until = self._since or since, self._until or until
            self._begin(anchor, streams)
            self.report.from_number = anchor.number
            self.report.began = self._last.statement.time if self._last else None
            return
        is_next = (anchor.number, anchor.note) == (self.report.to_number, self._last_note)
        if not is_next:
            self._find(Verdict.COMPLETENESS, "checkpoints are missing between two files", checkpoint=anchor.number)
        elif reduce(_folded, anchor.handovers, b"") != self._handed:
            self._find(Verdict.INTEGRITY, "a file begins with other handovers than were", checkpoint=anchor.number)
        if anchor.number > self.report.to_number or (is_next and self._broken):
            self._abandon()
            self._begin(anchor, streams)
        elif not self._broken and to_texts(streams) != to_texts(self._streams):
            self._find(Verdict.INTEGRITY, "a file begins with other streams than were", checkpoint=anchor.number)

    def _begin(self, anchor: Anchor, streams: Streams) -> None:
        """Go on behind an anchor, whatever was before it: what it says of the streams is signed."""
        self._streams = streams
        self._begun = {stream: state.size for stream, state in streams.items()}
        self._signed = dict(heads_of(streams))
        self._root = streams_root(self._signed)
        self.report.to_number = anchor.number
        if anchor.number == 0:
            if any(state.size for state in streams.values()) or anchor.note or anchor.handovers:
                raise Integrity("the beginning of an audit trail has records already")
            return
        checkpoint = parse(anchor.note)
        try:
            for handover in handovers_to(anchor.note, anchor.handovers):
                self._trust_from(handover)
        except Integrity as error:
            self._find(Verdict.INTEGRITY, f"of an anchor: {error.message}", checkpoint=anchor.number)
        self._handed = reduce(_folded, anchor.handovers, b"")
        self._ensure_signed(checkpoint)
        statement = checkpoint.statement
        if statement.number != anchor.number or statement.root != self._root:
            self._find(Verdict.INTEGRITY, "the streams of an anchor are not the signed ones", checkpoint=anchor.number)
        if self._last:
            self._date(statement.time, anchor.number)
        self._follow(checkpoint, anchor.note)

    def _abandon(self) -> None:
        """Leave the streams as they were read: what comes next does not continue them."""
        for stream in sorted(self._touched - self._gaps):
            size = self._signed[stream].size
            self._find(Verdict.INTEGRITY, _UNDER_NONE, stream, size + 1, self._streams[stream].size)
        for stream in self._touched:
            self._ask_for_proof(stream)
        self._give_up_proofs()
        for streams in (self._touched, self._broken, self._gaps, self._short):
            streams.clear()

    def _checkpoint(self, part: Signed) -> None:
        checkpoint = parse(part.note)
        statement, number = checkpoint.statement, checkpoint.statement.number
        report = self.report
        report.checkpoints += 1
        if number != part.number or number <= report.to_number:
            self._find(Verdict.INTEGRITY, "a checkpoint is out of its place, or there again", checkpoint=number)
            return
        if number > report.to_number + 1:
            self._find(Verdict.COMPLETENESS, "checkpoints are missing", checkpoint=report.to_number + 1)
            self._bridge(statement)
        self._ensure_signed(checkpoint)
        grown = statement.grown
        for stream in sorted(self._touched | grown.keys()):
            self._compare(stream, grown.get(stream, self._signed[stream]), number)
        self._touched.clear()
        if grown:
            self._signed.update(grown)
            self._root = streams_root(self._signed)
        if self._root != statement.root or sum(head.size for head in self._signed.values()) != statement.size:
            self._find(Verdict.INTEGRITY, "a checkpoint does not have the root of its streams", checkpoint=number)
        self._date(statement.time, number)
        if part.stamped:
            self._stamp(part, statement.time)
        if statement.next_key:
            self._trust_from(checkpoint)
            self._handed = _folded(self._handed, part.note)
            report.handovers += 1
        self._follow(checkpoint, part.note)

    def _bridge(self, statement: Statement) -> None:
        """Learn what missing checkpoints have signed of streams that have not grown since, if this one proves it."""
        read = {stream: self._streams[stream].head() for stream in self._touched - statement.grown.keys()}
        if streams_root({**self._signed, **read, **statement.grown}) == statement.root:
            self._signed |= read

    def _compare(self, stream: int, said: StreamHead, number: int) -> None:
        """A stream as it was read, with what a checkpoint says of it."""
        state, before = self._streams[stream], self._signed[stream].size
        if stream in self._gaps:
            self._ask_for_proof(stream)
            return
        if state.size < said.size:
            what = "records were cut off: fewer than were signed"
            self._find(Verdict.COMPLETENESS, what, stream, state.size + 1, said.size, number)
            self._gaps.add(stream)
            if state.size == said.size - 1 and stream not in self._broken:
                self._short.add(stream)
            self._ask_for_proof(stream)
        elif stream in self._broken:
            return
        elif state.size > said.size:
            what = "records were inserted: more than were signed"
            self._find(Verdict.INTEGRITY, what, stream, before + 1, state.size, number)
        elif state.head().root != said.root:
            what = "records are not the ones that were signed"
            self._find(Verdict.INTEGRITY, what, stream, before + 1, state.size, number)
        else:
            return
        self._broken.add(stream)

    def _ask_for_proof(self, stream: int) -> None:
        """Remember records that were read of a stream with missing ones: its tree needs those, too."""
        if stream in self._touched & self._gaps:
            last = self._streams[stream].size
            first, _ = self._unproven.get(stream, (min(self._signed[stream].size + 1, last), last))
            self._unproven[stream] = first, last

    def _give_up_proofs(self) -> None:
        """Say which records nothing has proven: what comes behind another anchor proves none of those before it."""
        for stream, (first, last) in sorted(self._unproven.items()):
            what = "nothing proves records, because others of their stream are missing"
            self._find(Verdict.INTEGRITY, what, stream, first, last)
        self._unproven.clear()

    def _date(self, time: datetime, number: int) -> None:
        """The time of a checkpoint, with that of the one before and those of the records in between."""
        last = self._last.statement.time if self._last else None
        if last is not None and time < last:
            self._find(Verdict.TIME, "a checkpoint is dated before the one in front of it", checkpoint=number)
        if last is not None and time - last > self._expected.max_gap:
            self._find(Verdict.COMPLETENESS, "no checkpoint was signed for longer than accepted", checkpoint=number)
        # Before the very first checkpoint there is nothing to hold records to but the time that it may have taken.
        earliest = time_text(min(last, time) - TOLERANCE if last else time - self._expected.max_gap - TOLERANCE)
        if self._earliest and self._earliest[0] < earliest:
            what = "a record is dated before the checkpoint in front of it: backdated"
            self._find(Verdict.TIME, what, *self._earliest[1:], checkpoint=number)
        if self._latest and self._latest[0] > time_text(time + TOLERANCE):
            what = "a record is dated after the checkpoint that signs it"
            self._find(Verdict.TIME, what, *self._latest[1:], checkpoint=number)

    def _follow(self, checkpoint: Checkpoint, note: str) -> None:
        """Go on behind a checkpoint."""
        statement = checkpoint.statement
        origin = self._expected.origin or self.report.origin
        self.report.origin = self.report.origin or statement.origin
        if origin and statement.origin != origin:
            self._find(Verdict.INTEGRITY, "a checkpoint is of another trail", checkpoint=statement.number)
        for held in self._held:
            if held.statement.number != statement.number:
                continue
            self._met.add(statement.number)
            if held.text != checkpoint.text:
                self._find(
                    Verdict.INTEGRITY,
                    "the trail was forked or rewritten: it lacks the checkpoint that is held",
                    checkpoint=statement.number,
                )
        gap = statement.time - self._last.statement.time if self._last else timedelta()
        self.report.longest_gap = max(self.report.longest_gap, gap)
        self._last, self._last_note = checkpoint, note
        self._earliest = self._latest = None
        self._time = ""
        self.report.to_number, self.report.ended = statement.number, statement.time
        if self._expected.stamps:
            self._unstamped[statement.number] = _Unstamped(note, statement.time, min(gap, MAX_GAP))
            self._unstamped_time += min(gap, MAX_GAP)
            if self._unstamped_time > STAMPED_EVERY or len(self._unstamped) > _MOST_UNSTAMPED:
                self._find(Verdict.TIME, "checkpoints have no time-stamp", checkpoint=statement.number)
                self._unstamped, self._unstamped_time = {}, timedelta()
                self._forgotten = statement.number

    def _stamp(self, part: Signed, time: datetime) -> None:
        """Check the time-stamp that a checkpoint brings of an earlier one."""
        if self._expected.stamps is None or part.stamped <= self._forgotten:
            return
        about = self._unstamped.get(part.stamped)
        if about is None:
            self._find(Verdict.TIME, "a time-stamp is of no checkpoint that lacks one", checkpoint=part.stamped)
            return
        try:
            when = self._expected.stamps(base64.b64decode(part.token), about.note.encode())
        except (Integrity, ValueError):
            self._find(Verdict.TIME, "a time-stamp is not valid", checkpoint=part.stamped)
            return
        if not about.time - TOLERANCE <= when <= time + TOLERANCE:
            self._find(Verdict.TIME, "a time-stamp contradicts its checkpoint", checkpoint=part.stamped)
            return
        self.report.stamps += 1
        self._unstamped = {number: each for number, each in self._unstamped.items() if number > part.stamped}
        self._unstamped_time = sum((each.gap for each in self._unstamped.values()), timedelta())

    def _ensure_signed(self, checkpoint: Checkpoint) -> None:
        number = checkpoint.statement.number
        signers = [key for key in self._trusted.values() if checkpoint.names(key)]
        if not all(map(checkpoint.is_signed_by, signers)):
            self._find(Verdict.INTEGRITY, "a checkpoint's signature is wrong", checkpoint=number)
        elif not signers and checkpoint.statement.kid not in self._strangers:
            # Once for each key: an auditor who has pinned the key of another time need not read it of every minute.
            if len(self._strangers) < _KEPT:
                self._strangers.add(checkpoint.statement.kid)
            what = "a checkpoint is signed by a key that is not trusted: pin the key of its time"
            self._find(Verdict.INTEGRITY, f"{what}; it says it is {checkpoint.statement.kid}", checkpoint=number)

    def _trust_from(self, handover: Checkpoint) -> None:
        """Trust the key that a trusted one hands over to, and the old one no longer."""
        der = handover.statement.next_key
        key = from_der(der)
        if not handover.is_signed_by(key):
            what = "a handover is not signed by the key it names"
            self._find(Verdict.INTEGRITY, what, checkpoint=handover.statement.number)
            return
        for old, trusted in tuple(self._trusted.items()):
            if old != der and handover.is_signed_by(trusted):
                del self._trusted[old]
                self._trusted[der] = key
                self._vouch(key)

    def _vouch(self, key: EllipticCurvePublicKey) -> None:
        """A key is trusted, and so is what is held if the key has signed it."""
        self._unvouched = [held for held in self._unvouched if not held.is_signed_by(key)]

    def _ensure_range(self) -> None:
        report, since, until = self.report, self._since, self._until
        if since and report.began and report.began > since:
            self._find(Verdict.COMPLETENESS, "the lines begin after the time asked for", checkpoint=report.from_number)
        reach = until or since
        if reach and (report.ended is None or report.ended < reach):
            self._find(Verdict.COMPLETENESS, "the trail ends before the time asked for", checkpoint=report.to_number)

    def _find(
        self,
        verdict: Verdict,
        what: str,
        stream: int | None = None,
        seq: int | None = None,
        upto: int | None = None,
        checkpoint: int | None = None,
    ) -> None:
        self.report.note(Finding(verdict, what, stream, seq, upto, checkpoint))


def _folded(before: bytes, note: str) -> bytes:
    """All notes up to this one in one hash, so that they need not be kept."""
    return hashlib.sha256(before + hashlib.sha256(note.encode()).digest()).digest()


def _in_batches(lines: Iterable[bytes]) -> Iterator[tuple[Sequence[bytes], bytes | None]]:
    """The lines in their order: records that follow each other, and the line behind them if it is something else."""
    records: list[bytes] = []
    size = 0
    try:
        for line in lines:
            if line.startswith(RECORD):
                records.append(line)
                size += len(line)
                if size < _BATCH_BYTES:
                    continue
                yield records, None
            else:
                yield records, line
            records, size = [], 0
    except Integrity:  # what comes next is no line at all: it says nothing about those that were
        yield records, None
        raise
    yield records, None
