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
from rotation.intents import REPEATED_EVERY, Remedy, job_of, note, remedy
from rotation.message import ROTATION_JOBS
from rotation.trail import Trail
from shared.clock import Clock
from shared.errors import AtpError, Integrity
from shared.ports import Alerts, Queues
from shared.values import Alert, Severity

log = logging.getLogger(__name__)

OPEN: Final = "a step was begun and has no outcome"
_WINDOW: Final = timedelta(days=14)


@dataclass(slots=True)
class _Stream:
    seq: int  # of the last record that was read
    opened: dict[str, Record] = field(default_factory=dict)  # intents without an outcome, by job


class IntentWatch:
    """Looks after open intents. Any number of them may: what they do is done once."""

    def __init__(self, trail: Trail, dek_jobs: DekJobs, queues: Queues, alerts: Alerts, clock: Clock) -> None:
        self._trail = trail
        self._dek_jobs = dek_jobs
        self._queues = queues
        self._alerts = alerts
        self._clock = clock
        self._streams: dict[int, _Stream] | None = None
        self._acted: dict[str, datetime] = {}  # when something was done about a job

    def run(self) -> None:
        """Do about every open intent what is to be done now. The first error is raised when all had their turn."""
        errors: list[AtpError] = []
        now = self._clock()  # before the records: what gets its outcome while they are read is not old by then
        self._acted = {job: acted for job, acted in self._acted.items() if now - acted < REPEATED_EVERY}
        for record in self._open():
            try:
                self._treat(record, now)
            except AtpError as error:
                log.warning("an open intent stays open", extra={"job": record.job, "because": str(error)})
                errors.append(error)
        if errors:
            raise errors[0]

    def _open(self) -> list[Record]:
        if self._streams is None:
            sizes = self._trail.point_before(self._trail.number_at(self._clock() - _WINDOW)).sizes
            self._streams = {stream: _Stream(sizes[stream]) for stream in range(STREAMS)}
        for number, stream in self._streams.items():
            try:
                for stored in self._trail.records(number, stream.seq):
                    note(stream.opened, record_in(stored))
                    stream.seq = stored.seq
            except Integrity as error:
                # Whoever signs checkpoints alerts; the other streams' intents are looked after meanwhile.
                log.error("cannot read an audit stream", extra={"because": str(error)})  # noqa: TRY400 - no bug
        return [record for stream in self._streams.values() for record in stream.opened.values()]

    def _treat(self, record: Record, now: datetime) -> None:
        match remedy(record, now):
            case Remedy.SEND_AGAIN if record.job not in self._acted:
                self._queues.send(ROTATION_JOBS, job_of(record).to_json())
                self._acted[record.job] = now
                log.warning("an intent was open and its job is sent again", extra={"job": record.job})
            case Remedy.SETTLE:
                job = job_of(record)
                # Before the outcome, which closes the intent: if we die in between, an alert too many is left at worst.
                if self._dek_jobs.standing(job) is Outcome.FAILED:
                    self._alert(record, "a job was begun and never ended: it has failed")
                outcome = self._dek_jobs.settle(job)
                log.warning("an intent was open and is settled", extra={"job": record.job, "outcome": outcome})
            case Remedy.TELL if record.job not in self._acted:
                self._alert(record, OPEN)
                self._acted[record.job] = now
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
