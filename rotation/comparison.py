"""Compares the tables of the audit trail with its evidence copy, line by line, in memory that does not grow."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
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
_MAX_BEHIND: Final = 10
"""Checkpoints that the copy may lag behind: there is one a minute."""
_NOT_COPIED: Final = "a record is missing in the evidence copy"


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that table and evidence copy do not agree on."""

    what: str
    file: str
    checkpoint: int
    stream: int | None = None
    seq: int | None = None


def differences(
    records: Records, trail: Trail, evidence: Evidence, files: Sequence[EvidenceFile], *, whole: bool = False
) -> Iterator[Difference]:
    """Every difference between those files of the copy and the tables.

    `whole`: those files are the whole copy, so that none may be missing between them, and they go on to the end.
    """
    comparison = _Comparison(records, trail, evidence)
    for file in files:
        behind = comparison.number
        yield from comparison.of(file, behind if whole and file is not files[0] else None)
    if whole and trail.newest() - comparison.number > _MAX_BEHIND:
        name = files[-1].name if files else ""
        yield Difference("the evidence copy is behind: no checkpoint from this one on", name, comparison.number + 1)


class _Comparison:
    """Of files of the copy with the tables."""

    def __init__(self, records: Records, trail: Trail, evidence: Evidence) -> None:
        self._records = records
        self._trail = trail
        self._evidence = evidence
        self.number = 0  # the last checkpoint that was compared

    def of(self, file: EvidenceFile, behind: int | None) -> Iterator[Difference]:
        """Of one file, which goes on behind that checkpoint if that is known."""
        lines = self._lines(file)
        first = next(lines, None)
        if first is None:  # it has just been made
            return
        anchor = _part(first)
        if not isinstance(anchor, Anchor):
            raise Integrity("a file of the evidence copy does not begin with an anchor", file=file.name)
        if behind is not None and anchor.number > behind:
            yield Difference("checkpoints are missing in the evidence copy", file.name, behind + 1)
        self.number = anchor.number
        copied = {stream: state.size for stream, state in from_texts(anchor.streams).items()}
        batch: list[tuple[int, int, bytes]] = []  # consecutive records of one stream
        for line in lines:
            record = parsed(line[:-1]) if is_record(line) else None
            at = (record.stream, record.seq) if record else None
            if batch and (at != (batch[-1][0], batch[-1][1] + 1) or len(batch) == _ROWS):
                yield from self._compared(file, self.number + 1, batch)
                batch = []
            if record is None:
                yield from self._compared_checkpoint(file, line, copied)
            elif record.stream not in copied or record.seq <= copied[record.stream]:
                yield Difference(
                    "a record of the evidence copy is out of its place",
                    file.name,
                    self.number + 1,
                    record.stream,
                    record.seq,
                )
            else:
                for seq in range(copied[record.stream] + 1, record.seq):
                    yield Difference(_NOT_COPIED, file.name, self.number + 1, record.stream, seq)
                copied[record.stream] = record.seq
                batch.append((record.stream, record.seq, line[:-1]))
        yield from self._compared(file, self.number + 1, batch)

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

    def _compared_checkpoint(self, file: EvidenceFile, line: bytes, copied: dict[int, int]) -> Iterator[Difference]:
        part, grown = _part(line), None
        if isinstance(part, Signed):
            with suppress(Integrity):
                grown = parse(part.note).statement.grown
        if not isinstance(part, Signed) or grown is None:
            yield Difference("a line of the evidence copy is not as we write it", file.name, self.number + 1)
            return
        if part.number > self.number + 1:
            yield Difference("checkpoints are missing in the evidence copy", file.name, self.number + 1)
        self.number = part.number
        for stream, head in grown.items():
            for seq in range(copied[stream] + 1, head.size + 1):
                yield Difference(_NOT_COPIED, file.name, part.number, stream, seq)
            copied[stream] = max(copied[stream], head.size)
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


def _part(line: bytes) -> Anchor | Signed | None:
    """What is in a line, None if it is nothing that we write."""
    try:
        return part_in(line)
    except Integrity:
        return None
