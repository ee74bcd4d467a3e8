"""The quotas of a vault: how much it does in ten seconds before it answers 429.

Key operations of every type draw on ONE sum, and a heavier key draws more: an operation with an RSA-4096 HSM key weighs
as much as sixteen with an RSA-2048 software key. The unit is one operation with an RSA-2048 software key.
Source: https://learn.microsoft.com/azure/key-vault/general/service-limits

Windows are fixed and start at multiples of ten seconds; where the service's begin is not documented. A refused request
counts towards nothing: https://learn.microsoft.com/azure/key-vault/general/overview-throttling
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum, auto

from local.key_vault.versions import KeyShape

WINDOW = timedelta(seconds=10)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Bucket(Enum):
    """The sums that are limited, each on its own."""

    KEY_OPERATIONS = auto()  # everything done with one key, but creating it
    KEY_CREATION = auto()  # create and rotate
    SETS_AND_IMPORTS = auto()  # setting a secret and importing a key
    OTHER = auto()  # all other operations of secrets and of the vault


LIMITS = {
    Bucket.KEY_OPERATIONS: 4000,
    Bucket.KEY_CREATION: 20,
    Bucket.SETS_AND_IMPORTS: 300,
    Bucket.OTHER: 4000,
}
"""Units per window."""


@dataclass(frozen=True, slots=True)
class Charge:
    """What one request draws, and from which sum."""

    bucket: Bucket
    units: int = 1


def operation_charge(shape: KeyShape) -> Charge:
    """The price of using, reading or changing a key that exists."""
    by_size = {3072: 4, 4096: 8}
    return Charge(Bucket.KEY_OPERATIONS, by_size.get(shape.size or 0, 1) * _hsm_factor(shape))


def creation_charge(shape: KeyShape) -> Charge:
    """The price of a new key or version: the size does not matter, the HSM does."""
    return Charge(Bucket.KEY_CREATION, _hsm_factor(shape))


def _hsm_factor(shape: KeyShape) -> int:
    return 2 if shape.kty.in_hsm else 1


class Throttle:
    """Keeps the sums of the current window. Not safe to share between threads."""

    def __init__(self) -> None:
        self._window = -1
        self._used: dict[Bucket, int] = {}

    def admit(self, charge: Charge, now: datetime) -> timedelta | None:
        """None when admitted and counted; else how long until the next window, and nothing is counted."""
        window = (now - _EPOCH) // WINDOW
        if window != self._window:
            self._window = window
            self._used = {}
        used = self._used.get(charge.bucket, 0) + charge.units
        if used > LIMITS[charge.bucket]:
            return _EPOCH + (window + 1) * WINDOW - now
        self._used[charge.bucket] = used
        return None
