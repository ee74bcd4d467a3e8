"""Targets of secrets in memory, one of each nature, and their rotators: any call may fail, as all of the world's do.

Each knows which values work, which is what a rotation is checked by.
"""

import hashlib
from abc import abstractmethod
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, override

from rotation.calendar import Every
from rotation.catalog import Entry, EntryKind, SecretPolicy
from rotation.rotators.base import Change, Credential, Notice, Place, Rotator, fingerprint
from shared.errors import Rejected, Transient, Waiting
from shared.secret import Secret
from tests.simulator import World

GRACE: Final = timedelta(days=7)
INTERVAL: Final = timedelta(days=90)


@dataclass
class Target:
    """Which values the target accepts, by slot, and what has happened to it."""

    name: str
    kind: "type[SimRotator]"
    accepted: dict[str, bytes] = field(default_factory=dict)
    drawn: int = 0
    notices: list[Notice] = field(default_factory=list)
    refuses: bool = False  # to accept anything new
    ignores: bool = False  # what it is told, and says nothing

    @property
    def policy(self) -> SecretPolicy:
        """The catalog entry of its secret."""
        entry = Entry(self.name, EntryKind.SECRET, "platform", Every(INTERVAL), self.name, grace=GRACE)
        return SecretPolicy(entry, self.kind.__name__, None)

    def rotator(self, world: World) -> "SimRotator":
        """The rotator of its secret."""
        return self.kind(world, self)

    def draw(self) -> bytes:
        """A value that nobody has seen."""
        self.drawn += 1
        return hashlib.sha256(f"value {self.name} {self.drawn}".encode()).hexdigest().encode()


class SimRotator(Rotator):
    """What the simulated rotators have in common."""

    def __init__(self, world: World, target: Target) -> None:
        self.world = world
        self.target = target

    @override
    def locate(self, value: Secret) -> str:
        found = self.world.io("target", "look", lambda: _slot_of(self.target, value))
        if found is None:
            raise Rejected("the target has no such credential")
        return found

    @override
    def test(self, credential: Credential) -> bool:
        return self.world.io("target", "test", lambda: _slot_of(self.target, credential.value) == credential.slot)

    @override
    def announce(self, notice: Notice) -> None:
        self.world.io("target", "announce", lambda: self.target.notices.append(notice))

    def _set(self, slot: str, value: bytes) -> None:
        def effect() -> None:
            if self.target.refuses:
                raise Rejected("the target does not want to")
            if not self.target.ignores:
                self.target.accepted[slot] = value

        self.world.io("target", "set", effect)

    def _unset(self, slot: str) -> None:
        self.world.io("target", "unset", lambda: self.target.accepted.pop(slot, None))

    @abstractmethod
    def first(self) -> Credential:
        """What somebody has made by hand before there were rotations."""


class Logins(SimRotator):
    """Two users take turns; the value is drawn here."""

    @override
    def first(self) -> Credential:
        self.target.accepted["user-a"] = self.target.draw()
        return Credential("user-a", Secret(self.target.accepted["user-a"]))

    @override
    def place(self, current: Credential | None, generation: int) -> Place:
        return Place("user-b" if current is not None and current.slot == "user-a" else "user-a")

    @override
    def obtain(self, change: Change) -> Credential:
        return Credential(change.place.slot, Secret(self.target.draw()))

    @override
    def install(self, change: Change, new: Credential) -> bool:
        self._set(new.slot, new.value.reveal())
        return True

    @override
    def revoke(self, old: Credential, current: Credential) -> None:
        self._unset(old.slot)

    @override
    def abandon(self, change: Change) -> None:
        self._unset(change.place.slot)


class Keys(SimRotator):
    """Two keys take turns; the service makes the values, and tells them."""

    @override
    def first(self) -> Credential:
        self.target.accepted |= {"key1": self.target.draw(), "key2": self.target.draw()}
        return Credential("key1", Secret(self.target.accepted["key1"]))

    @override
    def place(self, current: Credential | None, generation: int) -> Place:
        slot = "key2" if current is not None and current.slot == "key1" else "key1"
        return Place(slot, fingerprint(self._listed(slot)))

    @override
    def obtain(self, change: Change) -> Credential:
        slot = change.place.slot
        if fingerprint(self._listed(slot)) == change.place.before:
            self._regenerate(slot)
        new = self._listed(slot)
        if fingerprint(new) == change.place.before:
            raise Transient("the target has not made a new key")
        return Credential(slot, new)

    @override
    def install(self, change: Change, new: Credential) -> bool:
        return self._listed(new.slot).reveal() == new.value.reveal()

    @override
    def revoke(self, old: Credential, current: Credential) -> None:
        if self._listed(old.slot).reveal() == old.value.reveal():
            self._regenerate(old.slot)

    @override
    def abandon(self, change: Change) -> None:
        if fingerprint(self._listed(change.place.slot)) != change.place.before:
            self._regenerate(change.place.slot)

    def _listed(self, slot: str) -> Secret:
        return self.world.io("target", "list", lambda: Secret(self.target.accepted[slot]))

    def _regenerate(self, slot: str) -> None:
        self._set(slot, self.target.draw())


class ApiKeys(SimRotator):
    """The service makes a key, names it, and tells its value once; ours is the label."""

    @override
    def first(self) -> Credential:
        self.target.accepted["by-hand/1"] = self.target.draw()
        return Credential("by-hand/1", Secret(self.target.accepted["by-hand/1"]))

    @override
    def place(self, current: Credential | None, generation: int) -> Place:
        return Place("")

    @override
    def obtain(self, change: Change) -> Credential:
        self._revoke_labelled(change)
        value = self.target.draw()
        slot = f"{_label(change)}/{self.target.drawn}"
        self._set(slot, value)
        return Credential(slot, Secret(value))

    @override
    def install(self, change: Change, new: Credential) -> bool:
        return self.world.io("target", "list", lambda: new.slot in self.target.accepted)

    @override
    def revoke(self, old: Credential, current: Credential) -> None:
        self._unset(old.slot)

    @override
    def abandon(self, change: Change) -> None:
        self._revoke_labelled(change)

    def _revoke_labelled(self, change: Change) -> None:
        """A key whose value was lost between its making and the vault is nobody's."""
        slots = self.world.io("target", "list", lambda: list(self.target.accepted))
        for slot in slots:
            if slot.startswith(f"{_label(change)}/"):
                self._unset(slot)


class ByHand(Logins):
    """What only a person can rotate, who supplies the value and revokes the one before."""

    @override
    def obtain(self, change: Change) -> Credential:
        raise Waiting("make a new one and drop it")

    @override
    def install(self, change: Change, new: Credential) -> bool:
        return True

    @override
    def revoke(self, old: Credential, current: Credential) -> None:
        raise Waiting("revoke the one before and confirm it")


NATURES: Final[dict[str, type[SimRotator]]] = {"logins": Logins, "keys": Keys, "api-keys": ApiKeys}
"""Those that need no person."""


def _slot_of(target: Target, value: Secret) -> str | None:
    return next((slot for slot, accepted in target.accepted.items() if accepted == value.reveal()), None)


def _label(change: Change) -> str:
    return f"{change.name}-g{change.generation}"
