"""The Merkle trees of the manifest: those of RFC 6962, whoever builds them and in how many goes."""

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotation.manifest import Tree, add_tenant, frozen, run_root, tenant_root
from shared.errors import Integrity
from shared.values import KeyState
from tests.pure.keyrings import ACME, keyring

# The leaves and roots of the reference implementation of Certificate Transparency (merkle_tree_test.cc).
LEAVES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def test_the_tree_has_the_published_roots() -> None:
    tree = Tree()
    assert tree.root() == hashlib.sha256().digest()
    for leaf, root in zip(LEAVES, ROOTS, strict=True):
        tree.add(leaf)
        assert tree.root().hex() == root


@given(st.lists(st.binary(max_size=8), max_size=70), st.integers(0, 70))
def test_a_tree_that_another_worker_carries_on_is_the_same(leaves: list[bytes], handed_over: int) -> None:
    whole, half = Tree(), Tree()
    for leaf in leaves:
        whole.add(leaf)
    for number, leaf in enumerate(leaves):
        if number == handed_over:
            half = Tree.from_text(half.to_text())
        half.add(leaf)
    assert half.root() == whole.root()


@pytest.mark.parametrize("text", ["1", "x.00", "3.00", "0.", f"1.{'0' * 62}", f"2.{'0' * 64}.{'0' * 64}", "-1"])
def test_a_state_that_no_tree_has_is_refused(text: str) -> None:
    with pytest.raises(Integrity):
        Tree.from_text(text)


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
