"""The audit streams up to some point, in few bytes: all that is needed to prove that what comes next continues them.

Of each stream that is the RFC 6962 tree over its records, as the roots of its complete subtrees, and the hash of its
last record, which the next one names. The last record is not yet in the tree that is kept: so a state that was stored
shows by the signed root whether its last hash is the right one, too.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Self

from rotation.audit import GENESIS, SCHEMA, STREAMS, Record, event_id, parsed
from rotation.merkle import HASH_BYTES, Tree, leaf_hash
from shared.errors import Integrity
from shared.values import StreamHead

_SEPARATOR: Final = "/"


class StreamState:
    """One stream up to some record."""

    __slots__ = ("_tree", "last", "prev", "size")

    def __init__(self) -> None:
        self._tree = Tree()  # over all records but the last
        self.last: bytes | None = None  # hash of the last record
        self.size = 0
        self.prev = GENESIS.hex()  # what the next record names as its predecessor

    def add(self, canonical: bytes) -> None:
        """Take a record in, whatever it says."""
        if self.last is not None:
            self._tree.add_hash(self.last)
        self.last = last = leaf_hash(canonical)
        self.prev = last.hex()
        self.size += 1

    def pass_over(self, prev: str) -> bool:
        """Take a record in of which nothing is known but the hash that the next one names; False if that is none."""
        try:
            digest = bytes.fromhex(prev)
        except ValueError:
            return False
        if len(digest) != HASH_BYTES or digest.hex() != prev:
            return False
        if self.last is not None:
            self._tree.add_hash(self.last)
        self.last, self.prev = digest, prev
        self.size += 1
        return True

    def head(self) -> StreamHead:
        """The stream in one hash."""
        tree = self._tree.copy()
        if self.last is not None:
            tree.add_hash(self.last)
        return StreamHead(self.size, tree.root())

    def copy(self) -> Self:
        """Another state that is the same now."""
        return type(self).from_text(self.to_text())

    def to_text(self) -> str:
        """All there is to know of it; empty for an empty stream."""
        return f"{self._tree.to_text()}{_SEPARATOR}{self.last.hex()}" if self.last is not None else ""

    @classmethod
    def from_text(cls, text: str) -> Self:
        """The state that `to_text` has written. Integrity for anything else."""
        state = cls()
        if text:
            tree, _, last = text.partition(_SEPARATOR)
            try:
                state.last = bytes.fromhex(last)
            except ValueError:
                state.last = b""
            state._tree = Tree.from_text(tree)
            state.prev = last
            state.size = state._tree.size + 1
            if len(state.last) != HASH_BYTES or state.to_text() != text:
                raise Integrity("the state of an audit stream is not as we write it")
        return state


type Streams = Mapping[int, StreamState]


def no_records() -> Streams:
    """The streams before the first record."""
    return {stream: StreamState() for stream in range(STREAMS)}


def copied(streams: Streams) -> Streams:
    """The same, to go on from without changing what was."""
    return {stream: state.copy() for stream, state in streams.items()}


def heads_of(streams: Streams) -> Mapping[int, StreamHead]:
    """Every stream in one hash each."""
    return {stream: state.head() for stream, state in streams.items()}


def to_texts(streams: Streams) -> Mapping[int, str]:
    """All there is to know of the streams."""
    return {stream: state.to_text() for stream, state in streams.items()}


def from_texts(texts: Mapping[int, str] | Sequence[str]) -> Streams:
    """The streams that `to_texts` has written. Integrity for anything else."""
    given = texts if isinstance(texts, Mapping) else dict(enumerate(texts))
    if given.keys() != set(range(STREAMS)):
        raise Integrity("the state of the audit streams is not as we write it")
    return {stream: StreamState.from_text(given[stream]) for stream in range(STREAMS)}


def extend(streams: Streams, stream: int, canonical: bytes) -> Record:
    """Take the next record of a stream in. Integrity unless it is one, and continues the stream."""
    state = streams[stream]
    record = parsed(canonical)
    if (
        record is None
        or (record.schema, record.stream, record.seq, record.prev) != (SCHEMA, stream, state.size + 1, state.prev)
        or record.event != event_id(record.job, record.outcome)
    ):
        raise Integrity("a record does not continue its audit stream", stream=stream, seq=state.size + 1)
    state.add(canonical)
    return record
