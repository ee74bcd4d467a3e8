"""The manifest of a KEK rotation: Merkle trees over (tenant, version, check value), to prove that no DEK was changed.

A tenant's tree has one leaf per DEK version, a shard's tree one leaf per tenant in the order of their ids, the run's
tree one leaf per shard. All are trees of RFC 6962 section 2.1. They are built leaf by leaf and keep only the roots of
their complete subtrees, one per bit of their size, so that a tree over millions of tenants can be carried on by
whichever worker has the next page.
"""

import hashlib
from collections.abc import Iterable, Sequence

from shared.errors import Integrity
from shared.values import FrozenTenant, Keyring, TenantId, WrappedDek

_SEPARATOR = "."


class Tree:
    """A Merkle tree that only grows."""

    def __init__(self) -> None:
        self._size = 0
        self._subtrees: list[bytes] = []  # roots of the complete subtrees, the largest first

    def add(self, leaf: bytes) -> None:
        """Append a leaf."""
        root = hashlib.sha256(b"\x00" + leaf).digest()
        size = self._size
        while size & 1:
            root = hashlib.sha256(b"\x01" + self._subtrees.pop() + root).digest()
            size >>= 1
        self._subtrees.append(root)
        self._size += 1

    def root(self) -> bytes:
        """32 bytes; of the empty tree the hash of nothing, as RFC 6962 has it."""
        if not self._subtrees:
            return hashlib.sha256().digest()
        root = self._subtrees[-1]
        for left in reversed(self._subtrees[:-1]):
            root = hashlib.sha256(b"\x01" + left + root).digest()
        return root

    def to_text(self) -> str:
        """All there is to know of it, in few characters."""
        return _SEPARATOR.join([str(self._size), *(root.hex() for root in self._subtrees)])

    @staticmethod
    def from_text(text: str) -> "Tree":
        """The tree that `to_text` has written; the empty one for an empty text. Integrity for anything else."""
        tree = Tree()
        if text:
            size, *subtrees = text.split(_SEPARATOR)
            try:
                tree._size = int(size)
                tree._subtrees = [bytes.fromhex(root) for root in subtrees]
            except ValueError:
                raise Integrity("the state of a Merkle tree is not as we write it") from None
            if tree._size.bit_count() != len(subtrees) or any(len(root) != 32 for root in tree._subtrees):
                raise Integrity("the state of a Merkle tree is not as we write it")
        return tree


def tenant_root(tenant: TenantId, deks: Iterable[WrappedDek]) -> bytes:
    """The root over a tenant's DEK versions, ascending."""
    tree = Tree()
    for dek in deks:
        tree.add(b"\0".join((tenant.encode(), str(dek.version).encode(), dek.check_value)))
    return tree.root()


def frozen(keyring: Keyring) -> FrozenTenant:
    """The tenant as the manifest remembers it."""
    tenant = keyring.tenant
    return FrozenTenant(tenant.tenant, tenant.primary, tenant_root(tenant.tenant, keyring.deks))


def add_tenant(tree: Tree, tenant: FrozenTenant) -> None:
    """Append a tenant to the tree of its shard."""
    tree.add(b"\0".join((tenant.tenant.encode(), str(tenant.primary).encode(), tenant.root)))


def run_root(shards: Sequence[str]) -> bytes:
    """The root over all shards, given the states of their trees in order."""
    tree = Tree()
    for text in shards:
        tree.add(Tree.from_text(text).root())
    return tree.root()
