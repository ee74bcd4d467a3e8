"""Where the rotation of a secret stands, in words: pure functions of its row, its catalog entry and now."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from rotation.catalog import Entry
from rotation.secret import due, is_grace_over, is_stalled
from shared.values import SecretPhase, SecretRotation

_STEPS: Final[Mapping[SecretPhase, str]] = {
    SecretPhase.INTENDED: "the new credential",
    SecretPhase.STAGED: "the target to accept the new credential",
    SecretPhase.INSTALLED: "the trial of the new credential",
    SecretPhase.TESTED: "the publication of the new credential",
    SecretPhase.RESTORING: "the publication of the credential before",
    SecretPhase.REVOKING: "the revocation of the credential before",
    SecretPhase.ABANDONING: "the end of a rotation that was given up",
}


def waits_for(rotation: SecretRotation, entry: Entry, now: datetime) -> str:
    """What happens next, and whether a person has to see to it."""
    if rotation.task:
        return f"a person: {rotation.task}"
    if is_stalled(rotation, now):
        return "somebody has to act: it stands still"
    match rotation.phase:
        case SecretPhase.STEADY:
            when = due(rotation, entry)
            if when is None:
                return "a secret in the vault"
            return "its due date" if now < when else "a worker, to rotate it"
        case SecretPhase.GRACE if not rotation.announced:
            return "consumers to be told"
        case SecretPhase.GRACE if is_grace_over(rotation, now):
            return _STEPS[SecretPhase.REVOKING]
        case SecretPhase.GRACE:
            return "the end of dual running"
        case phase:
            return _STEPS[phase]


def is_published(rotation: SecretRotation) -> bool:
    """Whether consumers were given the credential of the newest rotation."""
    return rotation.announced or rotation.phase in (SecretPhase.GRACE, SecretPhase.RESTORING, SecretPhase.REVOKING)


def has_failed(rotation: SecretRotation) -> bool:
    """Whether the newest rotation was given up before its credential was published."""
    return rotation.phase in (SecretPhase.ABANDONING, SecretPhase.STEADY) and not is_published(rotation)


def is_rolled_back(rotation: SecretRotation) -> bool:
    """Whether the newest rotation was undone: consumers have the credential before, or never had another."""
    return rotation.rolled_back or (rotation.phase is SecretPhase.STEADY and has_failed(rotation))
