"""Compares the tables of the audit trail with its evidence copy, line by line, in memory that does not grow."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from rotation.audit import parsed
from rotation.bundle import Anchor, Signed, checkpoint_line, is_record, part_in
from rotation.checkpoint import parse
from rotation.evidence_files import end_of, lines_of
from rotation.merkle import leaf_hash
from rotation.streams import from_texts
from rotation.trail import Trail
from shared.errors import Integrity
from shared.ports import Evidence, Records
from shared.values import EvidenceFile

_ROWS: Final = 1000


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that table and evidence copy do not agree on."""

    what: str
    file: str
    checkpoint: int
    stream: int | None = None
    seq: int | None = None  # of the first record concerned
    upto: int | None = None  # of the last one, if they are several


def differences(
    records: Records, trail: Trail, evidence: Evidence, files: Iterable[EvidenceFile]
) -> Iterator[Difference]:
    """Every difference between those files of the copy and the tables, and every file that does not join the last."""
    everything = evidence.files()
    names = [each.name for each in everything]
    for file in files:
        at = names.index(file.name)
        comparison = _Comparison(records, trail, evidence, file)
        try:
            yield from comparison.of_lines(end_of(evidence, everything[at - 1]).number if at else 0)
        except Integrity as error:
            yield Difference(f"cannot be compared: {error.message}", file.name, comparison.number)


class _Comparison:
    """Of a file of the copy with the tables."""

    def __init__(self, records: Records, trail: Trail, evidence: Evidence, file: EvidenceFile) -> None:
        self._records = records
        self._trail = trail
        self._evidence = evidence
        self._file = file
        self.number = 0  # of the last checkpoint that was compared
        self._copied: dict[int, int] = {}

    def of_lines(self, begins: int) -> Iterator[Difference]:
        """Every difference, in a file that begins behind the checkpoint of that number."""
        lines = lines_of(self._evidence, self._file)
        first = next(lines, None)
        if first is None:  # it has just been made, or its maker died over it
            return
        yield from self._anchor(first, begins)
        batch: list[tuple[int, int, bytes]] = []  # consecutive records of one stream
        for line in lines:
            record = parsed(line[:-1]) if is_record(line) else None
            at = (record.stream, record.seq) if record else None
            if batch and (at != (batch[-1][0], batch[-1][1] + 1) or len(batch) == _ROWS):
                yield from self._records_of(batch)
                batch = []
            if record is not None:
                yield from self._missing(record.stream, record.seq - 1)
                self._copied[record.stream] = record.seq
                batch.append((record.stream, record.seq, line[:-1]))
            elif isinstance(part := part_in(line), Signed):
                yield from self._checkpoint(part, line)
        yield from self._records_of(batch)

    def _anchor(self, line: bytes, begins: int) -> Iterator[Difference]:
        anchor = part_in(line)
        if not isinstance(anchor, Anchor):
            raise Integrity("a file of the evidence copy does not begin with an anchor")
        self.number = anchor.number
        self._copied = {stream: state.size for stream, state in from_texts(anchor.streams).items()}
        if anchor.number != begins:
            yield self._difference("a file does not begin where the one before ends")
        point = self._trail.point_before(anchor.number)
        if point.number != anchor.number or self._trail.anchor(point) != line:
            yield self._difference("an anchor differs")

    def _records_of(self, batch: Sequence[tuple[int, int, bytes]]) -> Iterator[Difference]:
        """Records of the copy with those of the table."""
        if not batch:
            return
        stream, first, _ = batch[0]
        rows = {row.seq: row for row in self._records.read(stream, first, len(batch))}
        for _, seq, canonical in batch:
            row = rows.get(seq)
            if row is None:
                yield self._difference("a record is missing in the table", stream, seq)
            elif row.canonical != canonical or row.leaf_hash != leaf_hash(canonical):
                yield self._difference("a record differs", stream, seq)

    def _missing(self, stream: int, upto: int) -> Iterator[Difference]:
        """The records up to there that the copy does not have."""
        first = self._copied[stream] + 1
        if first <= upto:
            what = "a record is missing in the evidence copy" if first == upto else "records are missing in the copy"
            yield self._difference(what, stream, first, upto if upto > first else None)

    def _checkpoint(self, part: Signed, line: bytes) -> Iterator[Difference]:
        if part.number > self.number + 1:
            self.number += 1
            yield self._difference("a checkpoint is missing in the evidence copy")
        for stream, head in parse(part.note).statement.grown.items():
            yield from self._missing(stream, head.size)
            self._copied[stream] = head.size
        self.number = part.number
        try:
            stored = self._trail.checkpoint(part.number)
        except Integrity:
            yield self._difference("a checkpoint is missing in the table")
            return
        if checkpoint_line(stored) != line:
            yield self._difference("a checkpoint differs")

    def _difference(
        self, what: str, stream: int | None = None, seq: int | None = None, upto: int | None = None
    ) -> Difference:
        return Difference(what, self._file.name, self.number, stream, seq, upto)
