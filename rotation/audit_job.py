"""Writing the audit trail: every event once, in order, however many workers write and whatever fails.

Events of one process that want the same stream at the same time are served by one transaction (group commit): the
first writer takes the stream's lock and commits for all who came before it was free.

Appending: build the records behind the head as we know it -> insert them. A Conflict means that somebody was first or
that an event is there already: read on to the true head, drop what is there, chain again. While others write the same
stream, the head is read before, which is cheaper than to lose. If we die before the insert, nothing is there and the
job is delivered again; if we die after it, the deterministic event id finds it.
"""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from rotation.audit import GENESIS, STREAMS, AuditEvent, Outcome, Record, chained, event_id, record_in, stream_of
from rotation.trail import last_number
from shared.clock import Clock
from shared.errors import AtpError, Conflict, Integrity, Transient
from shared.ports import MAX_ROWS_PER_TRANSACTION, Records
from shared.values import StoredRecord

_GROUP: Final = MAX_ROWS_PER_TRANSACTION // 2
_PAGE: Final = 1000
_TRIES: Final = 60
_STALE_HEADS: Final = 8
"""Conflicts in a row that are taken for somebody having been first."""
_LONGEST_PAUSE_S: Final = 0.01
"""About what an append takes."""


@dataclass(slots=True)
class _Waiting:
    event: AuditEvent
    done: bool = False
    error: AtpError | None = None


@dataclass(slots=True)
class _Stream:
    number: int
    lock: threading.Lock = field(default_factory=threading.Lock)
    waiting: list[_Waiting] = field(default_factory=list)
    seq: int | None = None  # number of the last record we know of, None before the first look
    head: bytes = GENESIS
    contended: bool = False  # others were writing it lately: look for the head first


class AuditTrail:
    """The audit streams of this platform. Thread-safe; any number of processes may write."""

    def __init__(self, records: Records, clock: Clock, sleep: Callable[[float], None] = time.sleep) -> None:
        self._records = records
        self._clock = clock
        self._sleep = sleep
        self._streams = [_Stream(number) for number in range(STREAMS)]

    def record(self, *events: AuditEvent) -> None:
        """Make the events part of their streams; returns when they are durable. Recording one again changes nothing.

        Many at once take few transactions. If some fail the first error is raised when all had their turn.
        """
        mine = [_Waiting(event) for event in events]
        for waiting in mine:
            self._streams[waiting.event.stream].waiting.append(waiting)
        for waiting in mine:
            stream = self._streams[waiting.event.stream]
            with stream.lock:
                while not waiting.done:
                    self._commit(stream)
        for waiting in mine:
            if waiting.error is not None:
                raise waiting.error

    def knows(self, event: AuditEvent) -> bool:
        """Whether the event is in its stream. Integrity if its row leads elsewhere."""
        return self._located(event.stream, event.id) is not None

    def find(self, job: str, outcome: Outcome, subject: str) -> Record | None:
        """What was recorded as that outcome of a job on that subject, None if nothing was."""
        stored = self._located(stream_of(subject), event_id(job, outcome))
        return record_in(stored) if stored else None

    def _located(self, stream: int, event: str) -> StoredRecord | None:
        """The record of an event. The row that says where it is may be a lie: the record itself has to say so."""
        seq = self._records.find(stream, event)
        if seq is None:
            return None
        found = self._records.read(stream, seq, 1)
        if not found or (found[0].seq, found[0].event_id) != (seq, event):
            raise Integrity("an audit event does not lead to its record", stream=stream, seq=seq)
        return found[0]

    def _commit(self, stream: _Stream) -> None:
        group = stream.waiting[:_GROUP]
        del stream.waiting[: len(group)]
        # Whatever ends the append early, a bug included: nobody of the group may take his record for written.
        error: AtpError | None = Transient("the audit trail could not be written")
        try:
            self._append(stream, group)
            error = None
        except Integrity as broken:
            error = broken
        except AtpError as cause:
            error = Transient("the audit trail could not be written", cause=type(cause).__name__)
            error.__cause__ = cause
        finally:
            for waiting in group:
                waiting.error, waiting.done = error, True

    def _append(self, stream: _Stream, group: list[_Waiting]) -> None:
        events = list({waiting.event.id: waiting.event for waiting in group}.values())
        conflicts = 0
        while conflicts < _TRIES:
            if stream.seq is None:
                self._find_head(stream)
            elif conflicts or stream.contended:
                passed = self._read_on(stream)
                stream.contended = bool(passed)
                if conflicts > _STALE_HEADS or (conflicts and not passed):
                    # Not because somebody was first: an event is there from before.
                    passed |= {event.id for event in events if self.knows(event)}
                events = [event for event in events if event.id not in passed]
                if not events:
                    return
            assert stream.seq is not None  # noqa: S101 - for the type checker
            records = chained(events, stream.seq + 1, stream.head, self._clock())
            try:
                self._records.append(records)
            except Conflict:
                conflicts += 1
                self._sleep(random.uniform(0, _LONGEST_PAUSE_S))  # noqa: S311 - so that not all who lost come at once
            else:
                stream.seq, stream.head = records[-1].seq, records[-1].leaf_hash
                return
        raise Conflict("an audit stream stayed too busy", stream=stream.number)

    def _find_head(self, stream: _Stream) -> None:
        """Find the last record."""
        last = last_number(lambda seq: bool(self._records.read(stream.number, seq, 1)))
        stream.seq, stream.head = max(last - 1, 0), GENESIS
        if stream.seq:
            before = self._records.read(stream.number, stream.seq, 1)
            if not before:
                stream.seq = None
                raise Integrity("an audit record is missing before the end of its stream", stream=stream.number)
            stream.head = before[0].leaf_hash
        self._read_on(stream)

    def _read_on(self, stream: _Stream) -> set[str]:
        """Move to the true head from the one we know; returns the ids of the events passed on the way."""
        assert stream.seq is not None  # noqa: S101 - for the type checker
        passed: set[str] = set()
        while True:
            page = self._records.read(stream.number, stream.seq + 1, _PAGE)
            if page:
                if page[-1].seq != stream.seq + len(page):
                    raise Integrity("an audit record is missing before the end of its stream", stream=stream.number)
                stream.seq, stream.head = page[-1].seq, page[-1].leaf_hash
                passed |= {record.event_id for record in page}
            if len(page) < _PAGE:
                return passed
