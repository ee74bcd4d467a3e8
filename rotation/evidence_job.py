"""Keeps the evidence copy: every record and checkpoint once more, where nobody can change or delete them for years.

The copy is the audit trail as lines (rotation/bundle.py), in append-only files, one a day. What is stored decides every
byte of it, so there is no state to lose: how far the copy is stands at the end of its last file. If we die in the
midst, the next call finds what is there to be a beginning of what belongs there, and appends the rest.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Final

from rotation.checkpoint import parse
from rotation.comparison import Difference, differences
from rotation.evidence_files import Place, last_place
from rotation.streams import from_texts
from rotation.trail import BEGINNING, Point, Trail
from shared.clock import Clock
from shared.errors import Integrity
from shared.ports import Alerts, Evidence, Records
from shared.values import Alert, EvidenceFile, Severity

log = logging.getLogger(__name__)

BLOCKS: Final = 40_000
"""Appends to one file before the next one is begun; Azure takes 50,000 to a blob, and an hour must fit in between."""
_PATIENCE: Final = timedelta(minutes=4)
"""For how long one call catches up; the next minute goes on."""
_BLOCK_BYTES: Final = 4 * 1024 * 1024
_CYCLE: Final = 30
"""Days in which every file is compared once. The newest two are compared each day."""
_MAX_BEHIND: Final = 10
"""Checkpoints that the copy may lag behind before a person is told."""


class EvidenceCopy:
    """Appends what was signed to the evidence copy. Any number of workers may try at once."""

    def __init__(self, trail: Trail, evidence: Evidence, alerts: Alerts, clock: Clock, blocks: int = BLOCKS) -> None:
        self._trail = trail
        self._evidence = evidence
        self._alerts = alerts
        self._clock = clock
        self._blocks = blocks
        self._sizes: tuple[int, dict[int, int]] | None = None  # records of each stream up to a checkpoint

    def run(self) -> None:
        """Bring the copy up to the newest checkpoint. Conflict if another worker was first.

        Where it is not the beginning of what belongs there, it stays as it is, and a person is alerted.
        """
        try:
            self._run()
        except Integrity as error:
            log.error("cannot go on with the evidence copy", extra={"because": str(error)})  # noqa: TRY400 - no bug
            now = self._clock()
            self._alerts.raise_alert(_alert(f"stuck/{now:%Y-%m-%d}", error.message, {"error": str(error)}, now))

    def ensure_agrees(self) -> None:
        """Integrity unless the last checkpoint in the copy is that of the tables.

        The copy is read first: in between, another worker may sign the next one and copy that.
        """
        place = last_place(self._evidence)
        if place is None or not place.number:
            return
        if place.number > self._trail.newest() or self._trail.checkpoint(place.number).note != place.note:
            raise Integrity("the evidence copy has another checkpoint than the tables", checkpoint=place.number)

    def _run(self) -> None:
        newest = self._trail.newest()
        if not newest:
            return
        self.ensure_agrees()
        place = last_place(self._evidence)
        if place is None:
            place = self._begun(BEGINNING, None)
        elif place.file.size == 0:
            place = self._anchored(place.file.name, self._point_at(place.number))
        copied, began = place.number, self._clock()
        while place.number < newest and self._clock() - began < _PATIENCE:
            place = self._next(place)
        if place.number > copied:
            log.info("copied checkpoints to the evidence", extra={"number": place.number, "file": place.file.name})

    def _point_at(self, number: int) -> Point:
        """The point right behind that checkpoint, where a file begins."""
        point = self._trail.point_before(number)
        if point.number != number:
            raise Integrity("a file of the evidence copy begins where none may begin", checkpoint=number)
        return point

    def _next(self, place: Place) -> Place:
        """Append the lines of one checkpoint."""
        if (point := self._point_to_roll_at(place)) is not None:
            place = self._begun(point, place.file)
        number = place.number + 1
        sizes = self._sizes_at(place.number)
        there = self._evidence.read(place.file.name, place.end, place.file.size - place.end)
        at, blocks = place.file.size, place.file.blocks
        for block in _blocks(_behind(there, self._trail.lines(sizes, place.number, number))):
            self._evidence.append(place.file.name, at, block)
            at, blocks = at + len(block), blocks + 1
        self._sizes = (number, sizes)
        return Place(EvidenceFile(place.file.name, at, blocks), number, self._trail.checkpoint(number).note, at)

    def _point_to_roll_at(self, place: Place) -> Point | None:
        """Where a new file begins if one is due: a day is over, or the file nearly full, at a checkpoint with state."""
        if place.number == 0 or place.end != place.file.size:
            return None
        stored = self._trail.checkpoint(place.number)
        time = parse(stored.note).statement.time
        is_due = place.file.name < f"{time:%Y/%m/%d}" or place.file.blocks >= self._blocks
        if not is_due or not stored.trees:
            return None
        return Point(stored.number, stored.note, from_texts(stored.trees))

    def _begun(self, point: Point, last: EvidenceFile | None) -> Place:
        """A new file that begins at that point."""
        note = point.note or self._trail.checkpoint(1).note
        day = f"{parse(note).statement.time:%Y/%m/%d}"
        count = 0
        if last and last.name >= day:
            # Of a day to come, if a clock was ahead when that was begun: files stay in the order of their names.
            day, _, number = last.name.rpartition("/")
            count = int(number.partition(".")[0]) + 1
        name = f"{day}/{count:04d}.jsonl"
        self._evidence.create(name)
        return self._anchored(name, point)

    def _anchored(self, name: str, point: Point) -> Place:
        line = self._trail.anchor(point)
        self._evidence.append(name, 0, line)
        self._sizes = (point.number, point.sizes)
        return Place(EvidenceFile(name, len(line), 1), point.number, point.note, len(line))

    def _sizes_at(self, number: int) -> dict[int, int]:
        if self._sizes is None or self._sizes[0] != number:
            point = self._trail.point_before(number)
            sizes = point.sizes
            for stored in self._trail.checkpoints(point.number, number):
                sizes |= {stream: head.size for stream, head in parse(stored.note).statement.grown.items()}
            self._sizes = (number, sizes)
        return dict(self._sizes[1])


class Reconciler:
    """Compares the tables with the evidence copy, line by line."""

    def __init__(self, records: Records, trail: Trail, evidence: Evidence, alerts: Alerts, clock: Clock) -> None:
        self._records = records
        self._trail = trail
        self._evidence = evidence
        self._alerts = alerts
        self._clock = clock

    def run(self) -> None:
        """Compare the newest two files and a thirtieth of all others, another one each day; alert every difference."""
        today = self._clock().toordinal() % _CYCLE
        files = list(self._evidence.files())
        chosen = [file for index, file in enumerate(files) if index % _CYCLE == today or index >= len(files) - 2]
        found = 0
        for difference in differences(self._records, self._trail, self._evidence, chosen):
            found += 1
            self._tell(difference)
        end = last_place(self._evidence)
        behind = self._trail.newest() - (end.number if end else 0)
        if behind > _MAX_BEHIND:
            occasion = f"behind/{self._clock():%Y-%m-%d}"
            self._raise(occasion, "the evidence copy is behind", {"checkpoints": str(behind)})
        log.info("reconciled the evidence copy", extra={"files": len(chosen), "differences": found, "behind": behind})

    def _tell(self, difference: Difference) -> None:
        details = {"file": difference.file, "checkpoint": str(difference.checkpoint)}
        occasion = f"{difference.what}/{difference.checkpoint}"
        if difference.stream is not None:
            upto = f"-{difference.upto}" if difference.upto else ""
            details |= {"stream": str(difference.stream), "seq": f"{difference.seq}{upto}"}
            occasion += f"/{difference.stream}/{difference.seq}"
        self._raise(occasion, difference.what, details)

    def _raise(self, occasion: str, reason: str, details: Mapping[str, str]) -> None:
        self._alerts.raise_alert(_alert(occasion, reason, details, self._clock()))


def _alert(occasion: str, reason: str, details: Mapping[str, str], now: datetime) -> Alert:
    return Alert(
        id=f"audit/evidence/{occasion}",
        severity=Severity.CRITICAL,
        what="audit trail and evidence copy differ",
        subject="audit/evidence",
        raised=now,
        details={"reason": reason, **details},
    )


def _behind(there: bytes, lines: Iterable[bytes]) -> Iterator[bytes]:
    """What is left of the lines when `there` has been written already. Integrity if that is not their beginning."""
    at = 0
    for line in lines:
        known = min(len(line), len(there) - at)
        if not there.startswith(line[:known], at):
            raise Integrity("the evidence copy does not go on as the audit trail does")
        at += known
        if known < len(line):
            yield line[known:]
    if at < len(there):
        raise Integrity("the evidence copy does not go on as the audit trail does")


def _blocks(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The lines in as few blocks as may be."""
    block = bytearray()
    for line in lines:
        block += line
        while len(block) >= _BLOCK_BYTES:
            yield bytes(block[:_BLOCK_BYTES])
            del block[:_BLOCK_BYTES]
    if block:
        yield bytes(block)
