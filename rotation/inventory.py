"""The inventory: every entry of the catalog beside what the vaults hold and how its rotation stands.

`Matching` says, object by object as the vaults are listed, which entry an object belongs to, and at the end which
entries found none; it remembers the entries, and of the objects nothing. `entry_row` and `stranger_row` say what there
is to say. A key or secret that is part of a certificate is not counted a second time.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from rotation.catalog import Entry, EntryKind
from rotation.kek import FINAL
from rotation.renewal import has_policy, longest_life, shortfalls
from shared.values import (
    KekRecord,
    ObjectKind,
    Phase,
    RenewalPolicy,
    SecretPhase,
    SecretRotation,
    VaultObject,
)

PLANNED_WITHIN: Final = timedelta(days=1)
"""Rotations are planned once a day: so long after its date, one that has not happened is late."""

_GRACE_OF_KEKS: Final = frozenset({Phase.GRACE, Phase.RETIRING, Phase.SOAKING, Phase.CLOSING})
_GRACE_OF_SECRETS: Final = frozenset({SecretPhase.GRACE, SecretPhase.REVOKING})


class State(StrEnum):
    """How an entry stands. The first one of this order that is true."""

    ELSEWHERE = "elsewhere"  # no object of a vault: the tenants' DEKs, and what cert-manager or a service mesh keeps
    UNMANAGED = "unmanaged"  # an object that no entry is about
    MISSING = "missing"  # the vault has no such object
    DISABLED = "disabled"  # its newest version is
    EXPIRED = "expired"
    ROTATING = "rotating"
    GRACE = "grace"  # dual running: the version before still works
    OVERDUE = "overdue"
    CURRENT = "current"


class Difference(StrEnum):
    """Where catalog and vaults differ, or a rotation did not happen."""

    UNMANAGED = "unmanaged-object"  # no entry is about it
    MISSING = "missing-object"  # the catalog names it, the vault has none such
    DISABLED = "newest-disabled"
    NO_EXPIRY = "no-expiry"
    LATE_EXPIRY = "late-expiry"  # it outlives two rotations and the dual running
    LONG_VALIDITY = "long-validity"  # of a certificate: it outlives its schedule and the time of the alerts
    WEAK_POLICY = "weak-policy"  # the vault renews it later than the catalog says, or not at all
    OVERDUE = "overdue"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of an entry besides the list of the vault; None: nothing, or nobody asked."""

    rotation: SecretRotation | None = None
    kek: KekRecord | None = None
    policy: RenewalPolicy | None = None
    versions: int | None = None
    newest: str = ""  # version


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the inventory."""

    entry: str  # empty for an object that no entry is about
    kind: str
    object: str
    vault: str  # URL; empty where it is in none
    state: State
    owner: str = ""
    rotated_by: str = ""
    schedule: str = ""
    version: str = ""  # the one in use, as far as it is known without looking at every version
    versions: int | None = None
    rotated: datetime | None = None  # the last time
    next: datetime | None = None
    expires: datetime | None = None
    controls: tuple[str, ...] = ()
    differences: tuple[Difference, ...] = ()
    details: tuple[str, ...] = ()  # what is weak about a policy

    def age(self, now: datetime) -> timedelta | None:
        """How long ago it was rotated."""
        return None if self.rotated is None else now - self.rotated


class Matching:
    """Which object belongs to which entry.

    `first_vault` is where entries are that name none, `aside` ends the name of the secret in which the next value of
    another one waits.
    """

    def __init__(self, entries: Iterable[Entry], keks: Mapping[str, KekRecord], first_vault: str, aside: str) -> None:
        self._left: dict[str, Entry] = {}
        self._places: dict[tuple[str, ObjectKind, str], Entry] = {}
        self._aside: set[tuple[str, ObjectKind, str]] = set()
        self._keks: set[str] = set()
        for entry in entries:
            self._left[entry.name] = entry
            if not entry.in_vault:
                continue
            vault = entry.vault or first_vault
            if entry.kind is EntryKind.KEK:
                self._keks.add(entry.object.lower())
                if entry.name in keks:  # a rotation may have moved it
                    vault = keks[entry.name].pointer.kid.partition("/keys/")[0]
            elif entry.kind is EntryKind.SECRET:
                self._aside.add((vault, ObjectKind.SECRET, (entry.object + aside).lower()))
            self._places[vault, entry.object_kind, entry.object.lower()] = entry

    def entry_of(self, found: VaultObject) -> Entry | None:
        """The entry that the object belongs to, which then is not left any more."""
        entry = self._places.get((found.vault, found.kind, found.name.lower()))
        if entry is not None:
            self._left.pop(entry.name, None)
        return entry

    def is_stranger(self, found: VaultObject) -> bool:
        """Whether no entry explains the object: neither one of its own, nor that of its certificate, KEK or secret."""
        is_aside = (found.vault, found.kind, found.name.lower()) in self._aside
        is_old_home = found.kind is ObjectKind.KEY and found.name.lower() in self._keks
        return not (found.managed or is_aside or is_old_home)

    def left(self) -> Iterator[Entry]:
        """The entries whose object was not seen."""
        yield from self._left.values()

    def entries_in(self, vault: str, kind: ObjectKind) -> Iterator[Entry]:
        """The entries whose object is one of that kind in that vault, seen or not."""
        return (entry for place, entry in self._places.items() if place[:2] == (vault, kind))


def entry_row(entry: Entry, found: VaultObject | None, known: Known, now: datetime) -> Row:
    """What there is to say of an entry; `found` is its object as the vault lists it."""
    rotated = _rotated(found, known)
    due = None if rotated is None else entry.schedule.next_after(rotated)
    weak = shortfalls(entry, known.policy) if known.policy is not None and has_policy(entry) else ()
    differences = tuple(_differences(entry, found, due, weak, now))
    return Row(
        entry=entry.name,
        kind=entry.kind,
        object=entry.object,
        vault=found.vault if found else entry.vault or "",
        state=_state(entry, found, known, differences),
        owner=entry.owner,
        rotated_by=entry.rotated_by,
        schedule=str(entry.schedule),
        version=_version(known),
        versions=known.versions,
        rotated=rotated,
        next=due,
        expires=found.expires if found else None,
        controls=entry.controls,
        differences=differences,
        details=weak,
    )


def stranger_row(found: VaultObject) -> Row:
    """What there is to say of an object that no entry is about."""
    return Row(
        entry="",
        kind=found.kind,
        object=found.name,
        vault=found.vault,
        state=State.UNMANAGED,
        rotated=found.created,
        expires=found.expires,
        differences=(Difference.UNMANAGED,),
    )


def _rotated(found: VaultObject | None, known: Known) -> datetime | None:
    if known.rotation is not None and known.rotation.since is not None:
        return known.rotation.since
    if known.kek is not None:
        return known.kek.pointer.since
    return None if found is None else found.created


def _version(known: Known) -> str:
    if known.rotation is not None and known.rotation.current:
        return known.rotation.current
    return known.kek.pointer.kid.rpartition("/")[2] if known.kek is not None else known.newest


def _state(entry: Entry, found: VaultObject | None, known: Known, differences: tuple[Difference, ...]) -> State:
    if not entry.in_vault:
        return State.ELSEWHERE
    if found is None:
        return State.MISSING
    if Difference.DISABLED in differences:
        return State.DISABLED
    if Difference.EXPIRED in differences:
        return State.EXPIRED
    run = known.kek.run if known.kek is not None else None
    if run is not None and run.phase not in FINAL:
        return State.GRACE if run.phase in _GRACE_OF_KEKS else State.ROTATING
    if known.rotation is not None and known.rotation.phase is not SecretPhase.STEADY:
        return State.GRACE if known.rotation.phase in _GRACE_OF_SECRETS else State.ROTATING
    return State.OVERDUE if Difference.OVERDUE in differences else State.CURRENT


def _differences(
    entry: Entry, found: VaultObject | None, due: datetime | None, weak: tuple[str, ...], now: datetime
) -> Iterator[Difference]:
    if due is not None and due + PLANNED_WITHIN < now:
        yield Difference.OVERDUE
    if found is None:
        if entry.in_vault:
            yield Difference.MISSING
        return
    if not found.enabled:
        yield Difference.DISABLED
    if found.expires is None:
        if entry.expires:
            yield Difference.NO_EXPIRY
    elif found.expires <= now:
        yield Difference.EXPIRED
    elif entry.kind is EntryKind.CERTIFICATE:
        if found.expires - (found.not_before or found.created) > longest_life(entry):
            yield Difference.LONG_VALIDITY
    elif entry.expires and found.expires - found.created > longest_life(entry):
        yield Difference.LATE_EXPIRY
    if weak:
        yield Difference.WEAK_POLICY
