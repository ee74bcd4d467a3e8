"""The manifest of a KEK rotation: Merkle trees over (tenant, version, check value), to prove that no DEK was changed.

A tenant's tree has one leaf per DEK version, a shard's tree one leaf per tenant in the order of their ids, the run's
tree one leaf per shard. All are trees of RFC 6962 section 2.1. They are built leaf by leaf and keep only the roots of
their complete subtrees, one per bit of their size, so that a tree over millions of tenants can be carried on by
whichever worker has the next page.
"""

from collections.abc import Iterable, Sequence

from rotation.merkle import Tree
from shared.values import FrozenTenant, Keyring, TenantId, WrappedDek


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
