"""Reads the stored audit trail: its checkpoints, and the lines that prove it to others."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from rotation.bundle import anchor_line, checkpoint_line
from rotation.checkpoint import Statement, parse, streams_root
from rotation.merkle import leaf_hash
from rotation.proof import Proof, made
from rotation.streams import Streams, copied, extend, from_texts, heads_of, no_records, to_texts
from shared.errors import Integrity, Rejected
from shared.ports import Checkpoints, Records
from shared.values import StoredCheckpoint, StoredRecord

_PAGE: Final = 1000
_BACK: Final = 100
"""Checkpoints that are read at once when looking back for one with trees: there is one an hour."""


@dataclass(frozen=True, slots=True)
class Point:
    """A place in the trail from which it can be read on and checked: right behind a checkpoint."""

    number: int  # of the checkpoint, 0 at the very beginning
    note: str
    streams: Streams

    @property
    def sizes(self) -> dict[int, int]:
        """Records of each stream up to here."""
        return {stream: state.size for stream, state in self.streams.items()}


BEGINNING: Final = Point(0, "", no_records())


def last_number(exists: Callable[[int], bool], known: int = 0) -> int:
    """The last of numbers without gaps, `known` or a later one, by doubling and halving: about 2 log2(n) looks."""
    below, step = known, 1
    while exists(below + step):
        below, step = below + step, step * 2
    above = below + step
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (middle, above) if exists(middle) else (below, middle)
    return below


class Trail:
    """The audit trail as it is stored. It is read, never believed: whoever uses it checks it against signatures."""

    def __init__(self, records: Records, checkpoints: Checkpoints) -> None:
        self._records = records
        self._checkpoints = checkpoints
        self._newest = 0

    def newest(self) -> int:
        """Number of the last checkpoint, 0 if there is none. Integrity if one that was there is not."""
        if self._newest:
            self.checkpoint(self._newest)
        self._newest = last_number(lambda number: bool(self._checkpoints.read(number, 1)), self._newest)
        return self._newest

    def checkpoint(self, number: int) -> StoredCheckpoint:
        """That checkpoint. Integrity if it is missing."""
        found = self._checkpoints.read(number, 1)
        if not found or found[0].number != number:
            raise Integrity("a checkpoint is missing", checkpoint=number)
        return found[0]

    def checkpoints(self, behind: int, upto: int) -> Iterator[StoredCheckpoint]:
        """The checkpoints after number `behind` up to number `upto`. Integrity at the first one missing."""
        number = behind
        while number < upto:
            page = self._checkpoints.read(number + 1, min(_PAGE, upto - number))
            for stored in page:
                number += 1
                if stored.number != number:
                    raise Integrity("a checkpoint is missing", checkpoint=number)
                yield stored
            if not page:
                raise Integrity("a checkpoint is missing", checkpoint=number + 1)

    def number_at(self, moment: datetime) -> int:
        """The last checkpoint that was signed at that moment or before, 0 if none was."""
        newest = self.newest()
        if not newest:
            return 0
        below, above = 0, newest + 1
        while above - below > 1:
            middle = (below + above) // 2
            signed = parse(self.checkpoint(middle).note).statement.time
            below, above = (middle, above) if signed <= moment else (below, middle)
        return below

    def point_before(self, number: int) -> Point:
        """The last point at or before that checkpoint from which the trail can be read on."""
        upto = number
        while upto > 0:
            first = max(upto - _BACK + 1, 1)
            for stored in reversed(tuple(self.checkpoints(first - 1, upto))):
                if stored.trees:
                    return Point(stored.number, stored.note, from_texts(stored.trees))
            upto = first - 1
        return BEGINNING

    def handovers(self, point: Point) -> list[str]:
        """The notes by which signing keys handed over up to that point, oldest first."""
        notes: list[str] = []
        statement = parse(point.note).statement if point.note else None
        if statement is not None and statement.next_key:
            notes.append(point.note)
        number = statement.handover if statement else 0
        while number:
            note = self.checkpoint(number).note
            notes.append(note)
            earlier = parse(note).statement.handover
            if earlier >= number:
                raise Integrity("handovers of the audit signing key go in a circle", checkpoint=number)
            number = earlier
        return notes[::-1]

    def anchor(self, point: Point, since: str = "", until: str = "") -> bytes:
        """The first line of a file that begins at that point."""
        return anchor_line(point.number, point.note, to_texts(point.streams), self.handovers(point), since, until)

    def lines(self, sizes: dict[int, int], behind: int, upto: int) -> Iterator[bytes]:
        """Records and checkpoints after number `behind` up to number `upto`, as lines.

        `sizes` says how many records of each stream are signed up to `behind`, and afterwards up to `upto`.
        """
        for stored in self.checkpoints(behind, upto):
            for stream, head in sorted(parse(stored.note).statement.grown.items()):
                for record in self.records(stream, sizes[stream], head.size):
                    yield record.canonical + b"\n"
                sizes[stream] = head.size
            yield checkpoint_line(stored)

    def records(self, stream: int, behind: int, upto: int | None = None) -> Iterator[StoredRecord]:
        """The records of a stream after number `behind`, up to number `upto` or the end.

        Integrity where one is missing or its row contradicts it.
        """
        number = behind
        while upto is None or number < upto:
            limit = _PAGE if upto is None else min(_PAGE, upto - number)
            page = self._records.read(stream, number + 1, limit)
            for stored in page:
                number += 1
                if stored.seq != number or leaf_hash(stored.canonical) != stored.leaf_hash:
                    raise Integrity("an audit record is missing or was changed", stream=stream, seq=number)
                yield stored
            if not page and upto is not None:
                raise Integrity("an audit record is missing", stream=stream, seq=number + 1)
            if not page:
                return

    def located(self, stream: int, seq: int) -> int:
        """Number of the first checkpoint that signs the record. Rejected if none does yet."""
        behind, upto = 0, self.newest()
        while upto - behind > _BACK:
            point = self.point_before((behind + upto) // 2)
            if point.number <= behind:
                break
            if point.streams[stream].size < seq:
                behind = point.number
            else:
                upto = point.number
        for stored in self.checkpoints(behind, upto):
            head = parse(stored.note).statement.grown.get(stream)
            if head is not None and head.size >= seq:
                return stored.number
        raise Rejected("no checkpoint signs that record yet; the next one will, in a minute", stream=stream, seq=seq)

    def extend(self, streams: Streams, statement: Statement) -> None:
        """Take in the records that a checkpoint is the first to sign. Integrity where they do not continue a stream."""
        for stream, head in statement.grown.items():
            for record in self.records(stream, streams[stream].size, head.size):
                extend(streams, stream, record.canonical)

    def streams_at(self, number: int) -> Streams:
        """The streams at that checkpoint. Integrity unless the records stored are the ones that it signs."""
        point = self.point_before(number)
        streams = copied(point.streams)
        for stored in self.checkpoints(point.number, number):
            self.extend(streams, parse(stored.note).statement)
        if streams_root(heads_of(streams)) != parse(self.checkpoint(number).note).statement.root:
            raise Integrity("a checkpoint does not sign the records that are stored", checkpoint=number)
        return streams

    def proof(self, stream: int, seq: int) -> Proof:
        """The proof that a record is in the trail. Rejected if it is not signed yet, or is not there."""
        number = self.located(stream, seq)
        streams = self.streams_at(number)
        canonical, leaf_hashes = b"", []
        for stored in self.records(stream, 0, streams[stream].size):
            leaf_hashes.append(stored.leaf_hash)
            if stored.seq == seq:
                canonical = stored.canonical
        note = self.checkpoint(number).note
        earlier = [each for each in self.handovers(Point(number, note, streams)) if each != note]
        return made(canonical, leaf_hashes, streams, note, earlier)
