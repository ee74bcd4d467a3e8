"""Merkle trees of RFC 6962: roots leaf by leaf, and proofs about them that need few hashes.

A `Tree` only grows. It keeps the roots of its complete subtrees and nothing else, one per bit of its size: a tree over
millions of leaves fits into a row of a table and can be carried on by whoever reads it there.

https://www.rfc-editor.org/rfc/rfc6962#section-2.1; how proofs are checked is spelled out in RFC 9162, section 2.1.3.
"""

import hashlib
from collections.abc import Iterable, Sequence

from shared.errors import Integrity

_SEPARATOR = "."
# To copy a hash that has begun takes less time than to make one, and for few bytes that is most of the time.
_LEAF = hashlib.sha256(b"\x00")
_NODE = hashlib.sha256(b"\x01")
HASH_BYTES = 32
_SIZES = 2**53  # RFC 7493 section 2.2: below it, every reader of JSON reads the same number


def leaf_hash(leaf: bytes) -> bytes:
    """SHA-256 over 0x00 and the leaf: no leaf can pass for a node."""
    digest = _LEAF.copy()
    digest.update(leaf)
    return digest.digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256 over 0x01 and both children."""
    digest = _NODE.copy()
    digest.update(left + right)
    return digest.digest()


class Tree:
    """A Merkle tree that only grows."""

    __slots__ = ("_subtrees", "size")

    def __init__(self) -> None:
        self.size = 0
        self._subtrees: list[bytes] = []  # roots of the complete subtrees, the largest first

    def add(self, leaf: bytes) -> None:
        """Append a leaf."""
        self.add_hash(leaf_hash(leaf))

    def add_hash(self, root: bytes) -> None:
        """Append a leaf whose hash is known."""
        subtrees, size = self._subtrees, self.size
        while size & 1:
            root = node_hash(subtrees.pop(), root)
            size >>= 1
        subtrees.append(root)
        self.size += 1

    def root(self) -> bytes:
        """32 bytes; of the empty tree the hash of nothing, as RFC 6962 has it."""
        if not self._subtrees:
            return hashlib.sha256().digest()
        root = self._subtrees[-1]
        for left in reversed(self._subtrees[:-1]):
            root = node_hash(left, root)
        return root

    def copy(self) -> "Tree":
        """Another tree that is the same now."""
        tree = Tree()
        tree.size, tree._subtrees = self.size, self._subtrees.copy()
        return tree

    def to_text(self) -> str:
        """All there is to know of it, in few characters."""
        return _SEPARATOR.join([str(self.size), *(root.hex() for root in self._subtrees)])

    @staticmethod
    def from_text(text: str) -> "Tree":
        """The tree that `to_text` has written; the empty one for an empty text. Integrity for anything else."""
        tree = Tree()
        if text:
            size, *subtrees = text.split(_SEPARATOR)
            try:
                tree.size = int(size)
                tree._subtrees = [bytes.fromhex(root) for root in subtrees]
            except ValueError:
                raise Integrity("the state of a Merkle tree is not as we write it") from None
            if (
                not 0 <= tree.size < _SIZES
                or tree.size.bit_count() != len(subtrees)
                or any(map(_is_no_hash, tree._subtrees))
                or tree.to_text() != text
            ):
                raise Integrity("the state of a Merkle tree is not as we write it")
        return tree


def root_of(leaf_hashes: Iterable[bytes]) -> bytes:
    """The root over leaves whose hashes are given in order."""
    tree = Tree()
    for each in leaf_hashes:
        tree.add_hash(each)
    return tree.root()


def inclusion_proof(leaf_hashes: Sequence[bytes], index: int) -> list[bytes]:
    """What proves that the leaf at `index`, from 0, is in the tree over these leaves: PATH of RFC 6962, 2.1.1."""
    size = len(leaf_hashes)
    if not 0 <= index < size:
        raise ValueError("no such leaf")
    if size == 1:
        return []
    split = _split(size)
    if index < split:
        return [*inclusion_proof(leaf_hashes[:split], index), root_of(leaf_hashes[split:])]
    return [*inclusion_proof(leaf_hashes[split:], index - split), root_of(leaf_hashes[:split])]


def root_from(leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes:
    """The root of the tree of that size in which the proof puts that leaf hash; Integrity if it can be none.

    RFC 9162, section 2.1.3.2. Whoever calls compares the root with one that is signed.
    """
    if not 0 <= index < size or any(map(_is_no_hash, proof)):
        raise Integrity("an inclusion proof is malformed")
    node, last, root = index, size - 1, leaf
    for each in proof:
        if last == 0:
            raise Integrity("an inclusion proof is too long")
        if node & 1 or node == last:
            root = node_hash(each, root)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            root = node_hash(root, each)
        node, last = node >> 1, last >> 1
    if last:
        raise Integrity("an inclusion proof is too short")
    return root


def _split(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << (size - 1).bit_length() - 1


def _is_no_hash(value: bytes) -> bool:
    return len(value) != HASH_BYTES
