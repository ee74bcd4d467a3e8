"""Compares the tables of the audit trail with its evidence copy, line by line, in memory that does not grow."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from rotation.audit import parsed
from rotation.bundle import Anchor, Signed, checkpoint_line, is_record, part_in
from rotation.checkpoint import parse
from rotation.merkle import leaf_hash
from rotation.streams import from_texts
from rotation.trail import Trail
from shared.errors import Integrity
from shared.ports import Evidence, Records
from shared.values import EvidenceFile

_ROWS: Final = 1000
_CHUNK: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that table and evidence copy do not agree on."""

    what: str
    file: str
    checkpoint: int
    stream: int | None = None
    seq: int | None = None


def differences(
    records: Records, trail: Trail, evidence: Evidence, files: Iterable[EvidenceFile]
) -> Iterator[Difference]:
    """Every difference between those files of the copy and the tables."""
    comparison = _Comparison(records, trail, evidence)
    for file in files:
        yield from comparison.of(file)


class _Comparison:
    """Of files of the copy with the tables."""

    def __init__(self, records: Records, trail: Trail, evidence: Evidence) -> None:
        self._records = records
        self._trail = trail
        self._evidence = evidence

    def of(self, file: EvidenceFile) -> Iterator[Difference]:
        lines = self._lines(file)
        anchor = part_in(next(lines, b""))
        if not isinstance(anchor, Anchor):
            raise Integrity("a file of the evidence copy does not begin with an anchor", file=file.name)
        number = anchor.number
        copied = {stream: state.size for stream, state in from_texts(anchor.streams).items()}
        batch: list[tuple[int, int, bytes]] = []  # consecutive records of one stream
        for line in lines:
            record = parsed(line[:-1]) if is_record(line) else None
            at = (record.stream, record.seq) if record else None
            if batch and (at != (batch[-1][0], batch[-1][1] + 1) or len(batch) == _ROWS):
                yield from self._compared(file, number + 1, batch)
                batch = []
            if record is None:
                part = part_in(line)
                number = part.number
                if isinstance(part, Signed):
                    yield from self._compared_checkpoint(file, part, line, copied)
                continue
            for seq in range(copied[record.stream] + 1, record.seq):
                yield Difference("a record is missing in the evidence copy", file.name, number + 1, record.stream, seq)
            copied[record.stream] = record.seq
            batch.append((record.stream, record.seq, line[:-1]))
        yield from self._compared(file, number + 1, batch)

    def _compared(
        self, file: EvidenceFile, number: int, batch: Sequence[tuple[int, int, bytes]]
    ) -> Iterator[Difference]:
        """Records of the copy with those of the table."""
        if not batch:
            return
        stream, first, _ = batch[0]
        rows = {row.seq: row for row in self._records.read(stream, first, len(batch))}
        for _, seq, canonical in batch:
            row = rows.get(seq)
            if row is None:
                yield Difference("a record is missing in the table", file.name, number, stream, seq)
            elif row.canonical != canonical or row.leaf_hash != leaf_hash(canonical):
                yield Difference("a record differs", file.name, number, stream, seq)

    def _compared_checkpoint(
        self, file: EvidenceFile, part: Signed, line: bytes, copied: dict[int, int]
    ) -> Iterator[Difference]:
        for stream, head in parse(part.note).statement.grown.items():
            for seq in range(copied[stream] + 1, head.size + 1):
                yield Difference("a record is missing in the evidence copy", file.name, part.number, stream, seq)
            copied[stream] = head.size
        try:
            stored = self._trail.checkpoint(part.number)
        except Integrity:
            yield Difference("a checkpoint is missing in the table", file.name, part.number)
            return
        if checkpoint_line(stored) != line:
            yield Difference("a checkpoint differs", file.name, part.number)

    def _lines(self, file: EvidenceFile) -> Iterator[bytes]:
        """The whole lines of a file: the last one may still be being written."""
        left, start = b"", 0
        while part := self._evidence.read(file.name, start, _CHUNK):
            start += len(part)
            *whole, left = (left + part).split(b"\n")
            yield from (line + b"\n" for line in whole)
