"""Keeps the evidence copy: every record and checkpoint once more, where nobody can change or delete them for years.

The copy is the audit trail as lines (rotation/bundle.py), in append-only files, one a day. What is stored decides every
byte of it, so there is no state to lose: how far the copy is stands at the end of its last file. If we die in the
midst, the next call finds what is there to be a beginning of what belongs there, and appends the rest.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from rotation.bundle import part_in
from rotation.checkpoint import parse
from rotation.comparison import Difference, differences
from rotation.streams import from_texts
from rotation.trail import BEGINNING, Point, Trail
from shared.clock import Clock
from shared.errors import Integrity
from shared.ports import Alerts, Evidence, Records
from shared.values import Alert, EvidenceFile, Severity

log = logging.getLogger(__name__)

BLOCKS: Final = 40_000
"""Appends to one file before the next one is begun; Azure takes 50,000 to a blob, and an hour must fit in between."""
_BLOCK_BYTES: Final = 4 * 1024 * 1024
_CHUNK: Final = 1024 * 1024
_CYCLE: Final = 30
"""Days in which every file is compared once. The newest two are compared each day."""
_MAX_BEHIND: Final = 10
"""Checkpoints that the copy may lag behind before a person is told."""
_CHECKPOINT: Final = b'{"line":"checkpoint",'
_ANCHOR: Final = b'{"line":"anchor",'


@dataclass(frozen=True, slots=True)
class _Place:
    """How far the copy is."""

    file: EvidenceFile
    number: int  # the last checkpoint in it
    end: int  # where that one's line ends; behind it stands a part of the next one's lines, or nothing


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
            self._alerts.raise_alert(_alert("stuck", error.message, {"error": str(error)}, self._clock()))

    def copied(self, file: EvidenceFile) -> int:
        """Number of the last checkpoint in the last file."""
        return self._place(file).number

    def _run(self) -> None:
        newest = self._trail.newest()
        if not newest:
            return
        file = self._evidence.newest()
        place = self._begun(BEGINNING, None) if file is None else self._place(file)
        copied = place.number
        while place.number < newest:
            place = self._next(place)
        if place.number > copied:
            log.info("copied checkpoints to the evidence", extra={"number": place.number, "file": place.file.name})

    def _next(self, place: _Place) -> _Place:
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
        return _Place(EvidenceFile(place.file.name, at, blocks), number, at)

    def _place(self, file: EvidenceFile) -> _Place:
        """How far the file is. One that its maker died over, without an anchor, gets it."""
        if file.size == 0:
            earlier = [each for each in self._evidence.files() if each.name < file.name]
            point = BEGINNING
            if earlier:
                point = self._trail.point_before(number := self._place(earlier[-1]).number)
                if point.number != number:
                    raise Integrity("a file of the evidence copy begins where none may begin", file=file.name)
            return self._anchored(file.name, point)
        end = file.size
        while end > 0:
            start = max(end - _CHUNK, 0)
            found = self._last_mark(file, start, min(end + len(_CHECKPOINT), file.size))
            if found is not None:
                return found
            end = start
        raise Integrity("a file of the evidence copy has no anchor", file=file.name)

    def _last_mark(self, file: EvidenceFile, start: int, end: int) -> _Place | None:
        """The last checkpoint or anchor whose line begins in that part of the file and is whole."""
        part = self._evidence.read(file.name, start, end - start)
        at = len(part)
        while (at := max(part.rfind(_CHECKPOINT, 0, at), part.rfind(_ANCHOR, 0, at))) >= 0:
            line = self._line(file, start + at)
            if line.endswith(b"\n"):
                return _Place(file, part_in(line).number, start + at + len(line))
        return None

    def _line(self, file: EvidenceFile, start: int) -> bytes:
        """The line that begins there, with its line feed if it is whole."""
        line = b""
        while b"\n" not in line and (more := self._evidence.read(file.name, start + len(line), _CHUNK)):
            line += more
        return line[: line.find(b"\n") + 1] if b"\n" in line else line

    def _point_to_roll_at(self, place: _Place) -> Point | None:
        """Where a new file begins if one is due: a day is over, or the file nearly full, at a checkpoint with state."""
        if place.number == 0 or place.end != place.file.size:
            return None
        stored = self._trail.checkpoint(place.number)
        time = parse(stored.note).statement.time
        is_due = place.file.name < f"{time:%Y/%m/%d}" or place.file.blocks >= self._blocks
        if not is_due or not stored.trees:
            return None
        return Point(stored.number, stored.note, from_texts(stored.trees))

    def _begun(self, point: Point, last: EvidenceFile | None) -> _Place:
        """A new file that begins at that point."""
        note = point.note or self._trail.checkpoint(1).note
        day = f"{parse(note).statement.time:%Y/%m/%d}"
        count = int(last.name.rpartition("/")[2].partition(".")[0]) + 1 if last and last.name >= day else 0
        name = f"{day}/{count:04d}.jsonl"
        self._evidence.create(name)
        return self._anchored(name, point)

    def _anchored(self, name: str, point: Point) -> _Place:
        line = self._trail.anchor(point)
        self._evidence.append(name, 0, line)
        self._sizes = (point.number, point.sizes)
        return _Place(EvidenceFile(name, len(line), 1), point.number, len(line))

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

    def __init__(
        self, records: Records, trail: Trail, copy: EvidenceCopy, evidence: Evidence, alerts: Alerts, clock: Clock
    ) -> None:
        self._records = records
        self._trail = trail
        self._copy = copy
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
        behind = self._trail.newest() - (self._copy.copied(files[-1]) if files else 0)
        if behind > _MAX_BEHIND:
            self._raise("behind", "the evidence copy is behind", {"checkpoints": str(behind)})
        log.info("reconciled the evidence copy", extra={"files": len(chosen), "differences": found, "behind": behind})

    def _tell(self, difference: Difference) -> None:
        details = {"file": difference.file, "checkpoint": str(difference.checkpoint)}
        occasion = f"{difference.what}/{difference.checkpoint}"
        if difference.stream is not None:
            details |= {"stream": str(difference.stream), "seq": str(difference.seq)}
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
    for line in lines:
        known, there = there[: len(line)], there[len(line) :]
        if not line.startswith(known):
            raise Integrity("the evidence copy does not go on as the audit trail does")
        if len(known) < len(line):
            yield line[len(known) :]
    if there:
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
