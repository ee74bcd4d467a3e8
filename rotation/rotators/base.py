"""What a rotator promises. One secret type is one file beside this one and one line in the registry.

A target (a database, an account, a service) holds up to two credentials of one secret: the one that consumers use, and
the one before it or the one to come. Each is in a slot, which is how the target calls it: a user's name, `key1`, the id
of an API key. Rotations take turns with the slots, so that the credential in use is never touched.

`rotation/secret_job.py` calls a rotator in the order of the methods below, holds a claim on the secret meanwhile, and
may die at any moment: every method may be called again, after it took effect or not, and then has the same end. No
method touches what consumers use (`Change.current`), but for `revoke`, when nobody is to use it any more.

Any method may raise

- `Transient`: not known whether it took effect; it is called again later,
- `Rejected`: the target will not, for a reason that the error tells; the rotation is undone, a person alerted,
- `Waiting`: a person has to do something first; it is called again when that is done, or after a while,
- `Integrity`: the target is in a state that no rotation leaves behind; everything stops, a person is paged,
- `MissingPackage`: an optional package is not installed.

No error, log line or slot name carries a value.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rotation.fields import Fields
from shared.clock import Clock
from shared.errors import Rejected
from shared.secret import Secret
from shared.values import SecretVersion

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential


@dataclass(frozen=True, slots=True)
class Credential:
    """One credential of a secret: where the target has it, and what consumers are given."""

    slot: str  # 1 to 120 of A-Z a-z 0-9 . _ : @ / + -
    value: Secret  # UTF-8, at most 25 kB: as it stands in the vault


@dataclass(frozen=True, slots=True)
class Place:
    """Where the next credential goes."""

    slot: str  # empty where the service names it when it is made
    before: str = ""  # fingerprint of what is there now, where the service makes the values; see `fingerprint`


@dataclass(frozen=True, slots=True)
class Change:
    """One rotation, as a rotator has to know it: the same at every try."""

    name: str  # of the secret in the catalog
    generation: int  # 1, 2, 3 ... never used again
    place: Place
    current: Credential | None  # what consumers use; None before the first


@dataclass(frozen=True, slots=True)
class Notice:
    """What consumers are told when a new credential is published."""

    name: str
    generation: int
    version: str  # of the secret in the vault
    current: Credential
    previous: Credential | None
    previous_until: datetime | None  # the end of dual running


class Rotator(ABC):
    """Changes the credentials of one secret in its target."""

    @abstractmethod
    def locate(self, value: Secret) -> str:
        """The slot of a credential that was made before us. Rejected if the target has none such."""

    @abstractmethod
    def place(self, current: Credential | None, generation: int) -> Place:
        """Where the next credential goes: not where the current one is. Changes nothing."""

    def rehearse(self, slot: str, current: Credential | None) -> None:  # noqa: B027 - `place` has asked some targets
        """Try what a rotation into that slot needs of the target, as far as that changes nothing."""

    @abstractmethod
    def obtain(self, change: Change) -> Credential:
        """The new credential: drawn here, or made by the service.

        Called again when its answer was not kept. A value that was given earlier is then forgotten, and must not be
        left valid beside the new one.
        """

    @abstractmethod
    def install(self, change: Change, new: Credential) -> bool:
        """Have the target accept `new`. False: it is void, because the service has made another one since."""

    @abstractmethod
    def test(self, credential: Credential) -> bool:
        """Whether the target accepts the credential, tried as a consumer would. False only if the target said no."""

    def announce(self, notice: Notice) -> None:  # noqa: B027 - most consumers need no telling
        """Tell consumers of the new credential. What reads the vault needs no telling."""

    @abstractmethod
    def revoke(self, old: Credential, current: Credential) -> None:
        """Have the target refuse `old` for ever, and end what is still connected by it; `current` goes on working."""

    @abstractmethod
    def abandon(self, change: Change) -> None:
        """Undo `obtain` and `install` of a rotation that is given up before its credential was published."""


def _no_value(version: str) -> Secret:
    raise Rejected("the vault has no such version of the secret", version=version)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a rotator gets from the app. The last four are of a secret of which nothing is known, unless given."""

    secret: Callable[[str], Secret]
    """The current value of another secret of the same vault, by its name there. Rejected if there is none."""
    credential: "TokenCredential"  # the app's own identity, for Azure Resource Manager
    entropy: Callable[[int], bytes]
    clock: Clock
    transport: Any = None  # of azure-core, for the SDKs' clients; None: their own
    versions: Callable[[], Sequence[SecretVersion]] = tuple
    """All versions of the rotator's own secret that were ever published, oldest first, with their tags."""
    value: Callable[[str], Secret] = _no_value
    """The value of one of them. Rejected if it is disabled."""
    dropped: Callable[[int], Secret | None] = lambda _generation: None
    """What a person has put aside in the vault as the value of that generation; None: nobody has."""
    confirmed: Callable[[str], bool] = lambda _slot: False
    """Whether a person has said that the service refuses the credential in that slot for ever."""


type Parameters = Any
"""What a rotator's file has read from the catalog entry."""

type Maker = Callable[[str, Parameters, Surroundings], Rotator]
"""Makes the rotator of the secret of that name."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One line of the registry."""

    read: Callable[[Fields], Parameters]
    """Reads the entry's table `parameters`. Needs no optional package."""
    make: Maker
    """MissingPackage names what is not installed."""


def fingerprint(value: Secret) -> str:
    """Tells two values of a service's keys apart, 32 hex digits. Of no use for guessing what has 128 bits or more."""
    return hashlib.sha256(b"atp-fingerprint/1\0" + value.reveal()).hexdigest()[:32]
