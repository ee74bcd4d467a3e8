"""The watchdog over intents: finds those without an outcome, and has them finished, settled or looked at.

It reads each stream from where it was, and remembers what is open. All of that may be forgotten: a new process reads
the last two weeks again, far more than an intent can stay open before it is settled or a person is told.
"""

import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from rotation.audit import STREAMS, Outcome, Record, record_in
from rotation.dek_job import DekJobs
from rotation.intents import SENT_AGAIN_EVERY, Remedy, job_of, remedy
from rotation.message import ROTATION_JOBS
from rotation.trail import Trail
from shared.clock import Clock
from shared.errors import AtpError, Integrity
from shared.ports import Alerts, Queues
from shared.values import Alert, Severity

log = logging.getLogger(__name__)

_WINDOW: Final = timedelta(days=14)


@dataclass(slots=True)
class _Open:
    """An intent without an outcome."""

    record: Record
    sent: datetime | None = None


@dataclass(slots=True)
class _Stream:
    seq: int  # of the last record that was read
    open: dict[str, _Open] = field(default_factory=dict)  # by job


class IntentWatch:
    """Looks after open intents. Any number of them may: what they do is done once."""

    def __init__(self, trail: Trail, dek_jobs: DekJobs, queues: Queues, alerts: Alerts, clock: Clock) -> None:
        self._trail = trail
        self._dek_jobs = dek_jobs
        self._queues = queues
        self._alerts = alerts
        self._clock = clock
        self._streams: dict[int, _Stream] | None = None

    def run(self) -> None:
        """Do about every open intent what is to be done now. The first error is raised when all had their turn."""
        errors: list[AtpError] = []
        for intent in self._open():
            try:
                self._treat(intent)
            except AtpError as error:
                log.warning("an open intent stays open", extra={"job": intent.record.job, "because": str(error)})
                errors.append(error)
        if errors:
            raise errors[0]

    def open_intents(self, since: datetime) -> list[Record]:
        """Every intent since that time that has no outcome, oldest first."""
        self._streams = self._from(since)
        return sorted((intent.record for intent in self._open()), key=lambda record: record.time)

    def _open(self) -> list[_Open]:
        if self._streams is None:
            self._streams = self._from(self._clock() - _WINDOW)
        for number, stream in self._streams.items():
            try:
                self._read_on(number, stream)
            except Integrity as error:
                # Whoever signs checkpoints alerts; the other streams' intents are looked after meanwhile.
                log.error("cannot read an audit stream", extra={"because": str(error)})  # noqa: TRY400 - no bug
        return [intent for stream in self._streams.values() for intent in stream.open.values()]

    def _from(self, since: datetime) -> dict[int, _Stream]:
        """The streams as they were before that time, as far as checkpoints tell."""
        sizes = self._trail.point_before(self._trail.number_at(since)).sizes
        return {stream: _Stream(sizes[stream]) for stream in range(STREAMS)}

    def _read_on(self, number: int, stream: _Stream) -> None:
        for stored in self._trail.records(number, stream.seq):
            record = record_in(stored)
            if record.outcome == Outcome.INTENT:
                stream.open[record.job] = _Open(record)
            else:
                stream.open.pop(record.job, None)
            stream.seq = stored.seq

    def _treat(self, intent: _Open) -> None:
        record, now = intent.record, self._clock()
        match remedy(record, now):
            case Remedy.SEND_AGAIN if intent.sent is None or now - intent.sent >= SENT_AGAIN_EVERY:
                self._queues.send(ROTATION_JOBS, job_of(record).to_json())
                intent.sent = now
                log.warning("an intent was open and its job is sent again", extra={"job": record.job})
            case Remedy.SETTLE:
                outcome = self._dek_jobs.settle(job_of(record))
                log.warning("an intent was open and is settled", extra={"job": record.job, "outcome": outcome})
                if outcome is Outcome.FAILED:
                    self._alert(record, "a job was begun and never ended: it has failed")
            case Remedy.TELL:
                self._alert(record, "a step was begun and has no outcome")
            case _:
                pass

    def _alert(self, record: Record, what: str) -> None:
        self._alerts.raise_alert(
            Alert(
                id=f"intent/{record.job}",
                severity=Severity.CRITICAL,
                what=what,
                subject=record.subject,
                raised=self._clock(),
                details={"job": record.job, "since": record.time},
            )
        )
