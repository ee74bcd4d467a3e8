"""The manifest: what changes the root of a tenant and of a run."""

from dataclasses import replace

from rotation.manifest import add_tenant, frozen, run_root, tenant_root
from rotation.merkle import Tree
from shared.values import KeyState
from tests.pure.keyrings import ACME, keyring


def test_the_root_of_a_tenant_changes_with_every_version_and_check_value() -> None:
    ring = keyring(KeyState.SECONDARY, KeyState.PRIMARY)
    whole = tenant_root(ACME, ring.deks)
    assert frozen(ring).root == whole
    assert tenant_root(ACME, ring.deks[:1]) != whole
    assert tenant_root(ACME, ring.deks[::-1]) != whole
    assert tenant_root(ACME, (replace(ring.deks[0], check_value=bytes(32)), ring.deks[1])) != whole
    assert tenant_root(ACME, (replace(ring.deks[0], wrapped=b"", kid=ring.deks[0].kid), ring.deks[1])) == whole


def test_the_root_of_a_run_is_over_its_shards_in_order() -> None:
    one, other = Tree(), Tree()
    add_tenant(one, frozen(keyring(KeyState.PRIMARY)))
    texts = [one.to_text(), other.to_text()]
    assert run_root(texts) != run_root(texts[::-1])
    assert run_root(texts) == run_root([*texts])
