"""Merkle trees and their proofs: those of RFC 6962, with the vectors of its reference implementation."""

import hashlib
from collections.abc import Sequence
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotation.merkle import (
    Tree,
    inclusion_proof,
    leaf_hash,
    root_from,
    root_of,
)
from shared.errors import Integrity

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


HASH = "0a" * 32


@pytest.mark.parametrize(
    "text",
    [
        *("1", "x.00", "3.00", "0.", f"1.{HASH[2:]}", f"2.{HASH}.{HASH}", "-1", "00", "-0", " 0", "0\n", "\u0660"),
        *(f"01.{HASH}", f"1_6.{HASH}", f"1.{HASH.upper()}", f"1. {HASH}", f"1.{HASH[:2]} {HASH[2:]}"),
        f"{2**53}.{HASH}",
        ".".join([str(10**4300 - 2), *[HASH] * (10**4300 - 2).bit_count()]),
        ".".join([str(2**60 - 1), *[HASH] * 60]),
    ],
)
def test_a_state_that_no_tree_has_is_refused(text: str) -> None:
    with pytest.raises(Integrity):
        Tree.from_text(text)


def test_a_tree_may_be_as_large_as_the_largest_number_of_a_record() -> None:
    text = ".".join([str(2**53 - 1), *[HASH] * 53])
    assert Tree.from_text(text).to_text() == text


HASHES = [leaf_hash(leaf) for leaf in LEAVES]
_TWO_AND_THREE = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
_SECOND = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
_FOUR_TO_SEVEN = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"
_FIFTH = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"
_SIX_AND_SEVEN = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"


@pytest.mark.parametrize(
    ("index", "size", "proof"),
    [
        (0, 1, []),
        (0, 8, [_SECOND, _TWO_AND_THREE, _FOUR_TO_SEVEN]),
        (5, 8, [_FIFTH, _SIX_AND_SEVEN, ROOTS[3]]),
        (2, 3, [ROOTS[1]]),
        (1, 5, [ROOTS[0], _TWO_AND_THREE, _FIFTH]),
    ],
)
def test_the_inclusion_proofs_are_the_published_ones(index: int, size: int, proof: Sequence[str]) -> None:
    assert [each.hex() for each in inclusion_proof(HASHES[:size], index)] == proof
    assert root_from(HASHES[index], index, size, [bytes.fromhex(each) for each in proof]).hex() == ROOTS[size - 1]


def hashes(size: int) -> list[bytes]:
    return [leaf_hash(str(number).encode()) for number in range(size)]


def test_every_leaf_of_every_small_tree_has_a_proof() -> None:
    for size in range(1, 40):
        leaves = hashes(size)
        root = root_of(leaves)
        for index in range(size):
            assert root_from(leaves[index], index, size, inclusion_proof(leaves, index)) == root


@given(st.data())
def test_a_proof_with_anything_changed_proves_nothing(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 60))
    leaves = hashes(size)
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(leaves, index)
    root = root_of(leaves)
    match data.draw(st.sampled_from(["flipped", "short", "long", "leaf", "index"])):
        case "flipped":
            place = data.draw(st.integers(0, len(proof) - 1))
            proof[place] = bytes(32)
        case "short":
            proof.pop()
        case "long":
            proof.append(bytes(32))
        case "leaf":
            leaves[index] = bytes(32)
        case _:
            index = (index + 1) % size
    with suppress(Integrity):
        assert root_from(leaves[index], index, size, proof) != root


def test_what_is_no_leaf_has_no_proof() -> None:
    with pytest.raises(ValueError, match="no such leaf"):
        inclusion_proof(HASHES, 8)
    with pytest.raises(Integrity):
        root_from(HASHES[0], 1, 1, [])
    with pytest.raises(Integrity):
        root_from(HASHES[0], 0, 8, [b"short"] * 3)


def test_a_copy_goes_its_own_way() -> None:
    tree = Tree()
    tree.add(b"first")
    other = tree.copy()
    other.add(b"second")
    assert (tree.size, other.size) == (1, 2)
    assert tree.root() != other.root()
