"""The states of a key version: the table decides, and nothing else."""

from itertools import product

import pytest

from rotation.lifecycle import MOVES, diagram, move
from shared.errors import Integrity
from shared.values import KeyState

LEGAL = {
    ("pending", "primary"),
    ("primary", "secondary"),
    ("secondary", "retired"),
    ("retired", "archived"),
    *((state, "revoked") for state in ("pending", "primary", "secondary", "retired", "archived")),
}
PAIRS = list(product(KeyState, KeyState))


@pytest.mark.parametrize(("old", "new"), [pair for pair in PAIRS if pair in LEGAL])
def test_a_legal_move_is_made(old: KeyState, new: KeyState) -> None:
    assert move(old, new) is new


@pytest.mark.parametrize(("old", "new"), [pair for pair in PAIRS if pair not in LEGAL])
def test_every_other_move_is_an_integrity_error_that_names_both_ends(old: KeyState, new: KeyState) -> None:
    with pytest.raises(Integrity) as caught:
        move(old, new)
    assert caught.value.fields == {"old": old, "new": new}


def test_every_state_is_in_the_table_and_can_be_reached() -> None:
    assert set(MOVES) == set(KeyState)
    reached, frontier = set(), {KeyState.PENDING}
    while frontier:
        reached |= frontier
        frontier = {new for old in frontier for new in MOVES[old]} - reached
    assert reached == set(KeyState)


def test_nothing_is_ever_trusted_again_after_it_was_revoked() -> None:
    assert not MOVES[KeyState.REVOKED]
    assert all(KeyState.REVOKED in MOVES[state] for state in KeyState if state is not KeyState.REVOKED)


def test_the_diagram_has_an_arrow_for_every_move_and_no_other() -> None:
    lines = diagram().splitlines()
    assert lines[:2] == ["stateDiagram-v2", "    [*] --> pending"]
    assert {tuple(line.split(" --> ")) for line in map(str.strip, lines[2:])} == LEGAL
    assert len(lines) - 2 == len(LEGAL)
