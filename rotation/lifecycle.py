"""The states of a key version and the moves between them: the one table that decides.

The diagram in docs/architecture.md is drawn from `MOVES`. Storage enforces the same move with an ETag.
Source: NIST SP 800-57 Part 1 Rev. 5, section 7 (key states and transitions).
"""

from typing import Final

from shared.errors import Integrity
from shared.values import KeyState

MOVES: Final[dict[KeyState, frozenset[KeyState]]] = {
    KeyState.PENDING: frozenset({KeyState.PRIMARY, KeyState.REVOKED}),
    KeyState.PRIMARY: frozenset({KeyState.SECONDARY, KeyState.REVOKED}),
    KeyState.SECONDARY: frozenset({KeyState.RETIRED, KeyState.REVOKED}),
    KeyState.RETIRED: frozenset({KeyState.ARCHIVED, KeyState.REVOKED}),
    KeyState.ARCHIVED: frozenset({KeyState.REVOKED}),
    KeyState.REVOKED: frozenset(),
}


def move(old: KeyState, new: KeyState) -> KeyState:
    """`new`, if a key version may go there from `old`; Integrity otherwise, and nothing has changed."""
    if new not in MOVES[old]:
        raise Integrity("a key version cannot make this move", old=old, new=new)
    return new


def diagram() -> str:
    """The table as a Mermaid state diagram, as it stands in docs/architecture.md."""
    arrows = [f"    {old} --> {new}" for old, targets in MOVES.items() for new in KeyState if new in targets]
    return "\n".join(["stateDiagram-v2", "    [*] --> pending", *arrows])
