"""The catalog: everything that must rotate, its policy and its owner.

A TOML file with one table per entry. All mistakes are reported at once, each with file, entry and reason.
"""

import re
import tomllib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

from rotation.calendar import Calendar, Every, Period, Schedule
from rotation.fields import NAME, Fields
from shared.errors import InvalidCatalog
from shared.files import text_of
from shared.redact import let_pass
from shared.values import ObjectKind

SAMPLED_WHILE_SWEEPING: Final = 0.005
"""Share of the new wraps that are opened at the vault before they are stored."""
ALERT_DAYS: Final = (30, 7, 1)
"""How many days before an object expires people are told, unless its entry says otherwise."""

PENDING_SUFFIX: Final = "-pending"
"""How the name of the secret ends in which the next value of another one waits."""

_CONTROL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ().:/-]{0,59}")
_MOST_ALERT_DAYS: Final = 365
# https://learn.microsoft.com/azure/key-vault/keys/how-to-configure-key-rotation#key-rotation-policy
_SHORTEST_OF_VAULT: Final = timedelta(days=7)


class EntryKind(StrEnum):
    """What an entry is about."""

    KEK = "kek"  # a key in the vault that wraps DEKs
    DEK = "dek"  # the keys of all tenants, wrapped in Table Storage
    KEY = "key"  # any other key in the vault
    SECRET = "secret"  # noqa: S105 - a secret in the vault
    CERTIFICATE = "certificate"


class RotatedBy(StrEnum):
    """Who rotates it."""

    APP = "app"  # the jobs of this app
    VAULT = "key-vault"  # the vault, by the policy that is written from the catalog
    CERT_MANAGER = "cert-manager"
    SERVICE_MESH = "service-mesh"
    PERSON = "person"


_ROTATED_BY: Final[Mapping[EntryKind, tuple[RotatedBy, ...]]] = {
    EntryKind.KEY: (RotatedBy.PERSON, RotatedBy.VAULT),
    EntryKind.CERTIFICATE: (RotatedBy.PERSON, RotatedBy.VAULT, RotatedBy.CERT_MANAGER, RotatedBy.SERVICE_MESH),
}
type Readers = Mapping[str, Callable[[Fields], Any]]
"""What reads the parameters of each rotator that an entry may name."""

_ELSEWHERE: Final = (RotatedBy.CERT_MANAGER, RotatedBy.SERVICE_MESH)


@dataclass(frozen=True, slots=True)
class Entry:
    """What every entry says, whatever it is about."""

    name: str
    kind: EntryKind
    owner: str
    schedule: Schedule
    object: str  # its name in the vault
    vault: str | None = None  # URL without a slash at its end; None: the first configured one
    grace: timedelta = timedelta()  # dual running: how long the previous one still works
    alert_days: tuple[int, ...] = ALERT_DAYS  # before it expires, largest first
    controls: tuple[str, ...] = ()  # what auditors call the requirement that it meets
    rotated_by: RotatedBy = RotatedBy.APP
    expires: bool = True  # whether every version must have an expiry date

    @property
    def object_kind(self) -> ObjectKind:
        """What the vault calls an object of its kind."""
        return ObjectKind.KEY if self.kind in (EntryKind.KEK, EntryKind.DEK) else ObjectKind(self.kind)

    @property
    def in_vault(self) -> bool:
        """Whether the vault has an object of its name."""
        return self.kind is not EntryKind.DEK and self.rotated_by not in _ELSEWHERE


@dataclass(frozen=True, slots=True)
class KekPolicy:
    """A key encryption key in Key Vault."""

    name: str
    owner: str
    interval: timedelta
    grace: timedelta  # after a rotation: how long both versions work before the old one is disabled
    consumer_timeout: timedelta  # how much longer a consumer that still uses the old one is waited for
    soak: timedelta  # how long the old one stays disabled under watch before the rotation is closed
    scrub: float  # share of the DEKs opened at the vault at the end of a rotation, 1: all
    headroom: float  # share of the vault's quota that a rotation leaves to production

    @property
    def sampled(self) -> float:
        """Share of the DEKs that a rotation opens a second time."""
        return SAMPLED_WHILE_SWEEPING + self.scrub


@dataclass(frozen=True, slots=True)
class DekPolicy:
    """How the DEKs of all tenants rotate."""

    name: str
    owner: str
    kek: str  # name of the KEK entry that wraps them
    interval: timedelta  # the longest a DEK is primary
    spread: timedelta  # how much earlier it may be replaced, so that tenants do not fall due together
    grace: timedelta  # how long the previous DEK stays secondary
    retention: timedelta  # from off-boarding to destruction


@runtime_checkable
class HasTargets(Protocol):
    """Parameters of a secret whose credentials other secrets could have too."""

    @property
    def targets(self) -> frozenset[str]:
        """What its rotations change, each by the one name that it has in whatever entry."""


@dataclass(frozen=True, slots=True)
class SecretPolicy:
    """A secret that this app rotates."""

    entry: Entry
    rotator: str  # name in the registry
    parameters: Any  # what the rotator's file has read of the entry

    @property
    def name(self) -> str:
        """Of the entry."""
        return self.entry.name


@dataclass(frozen=True, slots=True)
class Catalog:
    """All entries: what each kind needs by kind, and what all have in common."""

    keks: Mapping[str, KekPolicy]
    dek: DekPolicy
    secrets: Mapping[str, SecretPolicy] = field(default_factory=dict)
    entries: Mapping[str, Entry] = field(default_factory=dict)


def load(path: Path, rotators: Readers) -> Catalog:
    """The catalog in the file; InvalidCatalog names the file and every mistake in it.

    The names in it are masked no longer: telling names stand in front of them, as in `secret: orders-database`.
    """
    catalog = parse(text_of(path, InvalidCatalog), str(path), rotators)
    names = {*catalog.entries, *(entry.object for entry in catalog.entries.values())}
    let_pass({*rotators, *names, *(name + PENDING_SUFFIX for name in names)})
    return catalog


def parse(text: str, source: str, rotators: Readers) -> Catalog:
    """The catalog written in `text`; `source` names it in mistakes, `rotators` are those that an entry may name."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidCatalog(f"{source}: not TOML: {error}") from None
    mistakes: list[str] = []
    keks: dict[str, KekPolicy] = {}
    deks: list[DekPolicy] = []
    secrets: dict[str, SecretPolicy] = {}
    entries: dict[str, Entry] = {}
    for name, table in tables.items():
        if not isinstance(table, dict):
            mistakes.append(f"[{name}] must be a table, as in [name]")
            continue
        fields = Fields(f"[{name}]", table, mistakes)
        if not NAME.fullmatch(name):
            fields.mistake("the name must be 1 to 127 of 0-9 a-z A-Z and dash, as Key Vault wants it")
        kind = table.get("kind")
        if not isinstance(kind, str) or kind not in set(EntryKind):
            fields.mistake(f"kind is {kind!r}; known kinds: {', '.join(repr(each.value) for each in EntryKind)}")
            continue
        entry = entries[name] = _entry(name, fields)
        match entry.kind:
            case EntryKind.KEK:
                keks[name] = _kek_policy(entry, fields)
            case EntryKind.DEK:
                deks.append(_dek_policy(entry, fields))
            case EntryKind.SECRET:
                secrets[name] = _secret_policy(entry, fields, rotators)
        fields.finish()
    if len(deks) != 1:
        mistakes.append(f"exactly one entry of kind 'dek' is needed, there are {len(deks)}")
    strangers = [dek for dek in deks if dek.kek and dek.kek not in keks]
    mistakes += [f"[{dek.name}] kek: {dek.kek!r} is no entry of kind 'kek'" for dek in strangers]
    mistakes += _shared_objects(entries)
    mistakes += _shared_targets(secrets)
    if mistakes:
        raise InvalidCatalog("\n".join(f"{source}: {mistake}" for mistake in mistakes))
    return Catalog(keks, deks[0], secrets, entries)


def ensure_vaults(catalog: Catalog, vaults: Collection[str], source: str) -> None:
    """InvalidCatalog, naming every entry, if one is in a vault that the settings do not name: nobody could reach it."""
    strangers = [entry for entry in catalog.entries.values() if entry.vault not in (None, *vaults)]
    if strangers:
        mistakes = (f"{source}: [{each.name}] vault: {each.vault!r} is no vault of the settings" for each in strangers)
        raise InvalidCatalog("\n".join(mistakes))


def _entry(name: str, fields: Fields) -> Entry:
    kind = EntryKind(fields.one_of("kind", tuple(EntryKind)))
    owner = fields.name("owner")
    is_internal = kind in (EntryKind.KEK, EntryKind.DEK)
    schedule: Schedule = Every(fields.days("interval_days")) if is_internal else _schedule(fields)
    names_alert_days = fields.has("alert_days")  # those by default may begin before a short-lived version is made
    entry = Entry(
        name=name,
        kind=kind,
        owner=owner,
        schedule=schedule,
        object=name if is_internal else fields.name("object", default=name),
        vault=None if is_internal else fields.url("vault", default="") or None,
        grace=fields.days("grace_days", least=1 if is_internal else 0),
        alert_days=tuple(sorted(fields.integers("alert_days", 1, _MOST_ALERT_DAYS, ALERT_DAYS), reverse=True)),
        controls=fields.texts("controls", _CONTROL, "names of controls like 'SOC 2 CC6.1'"),
        rotated_by=RotatedBy(fields.one_of("rotated_by", _ROTATED_BY[kind])) if kind in _ROTATED_BY else RotatedBy.APP,
        expires=fields.flag("expires", default=True) if kind in (EntryKind.KEY, EntryKind.SECRET) else True,
    )
    if entry.grace >= schedule.longest and kind is not EntryKind.DEK:
        fields.mistake("grace_days must be shorter than the time between two rotations")
    if not entry.alert_days:
        fields.mistake("alert_days: names no day")
    elif names_alert_days and timedelta(days=entry.alert_days[0]) > schedule.longest:
        fields.mistake(f"alert_days: {entry.alert_days[0]} is longer than the time between two rotations")
    if entry.rotated_by is RotatedBy.VAULT and isinstance(schedule, Calendar):
        fields.mistake("calendar: Key Vault counts days from the making of a version: say interval_days")
    if entry.rotated_by is RotatedBy.VAULT and schedule.longest < _SHORTEST_OF_VAULT:
        fields.mistake(f"interval_days: Key Vault rotates after {_SHORTEST_OF_VAULT.days} days or more")
    return entry


def _schedule(fields: Fields) -> Schedule:
    """Either `interval_days` or `calendar`."""
    if not fields.has("calendar"):
        return Every(fields.days("interval_days"))
    if fields.has("interval_days"):
        fields.days("interval_days")
        fields.mistake("has interval_days and calendar: one of them says when it is due")
    return Calendar(Period(fields.one_of("calendar", tuple(Period))))


def _kek_policy(entry: Entry, fields: Fields) -> KekPolicy:
    return KekPolicy(
        name=entry.name,
        owner=entry.owner,
        interval=entry.schedule.longest,
        grace=entry.grace,
        consumer_timeout=fields.days("consumer_timeout_days", least=0),
        soak=fields.days("soak_days"),
        scrub=fields.share("scrub_percent", least=0.1, most=100.0),
        headroom=fields.share("headroom_percent", least=0.0, most=90.0),
    )


def _dek_policy(entry: Entry, fields: Fields) -> DekPolicy:
    policy = DekPolicy(
        name=entry.name,
        owner=entry.owner,
        kek=fields.name("kek"),
        interval=entry.schedule.longest,
        spread=fields.days("spread_days"),
        grace=entry.grace,
        retention=fields.days("retention_days", least=0),
    )
    if policy.spread + policy.grace >= policy.interval:
        fields.mistake("spread_days and grace_days together must be shorter than interval_days")
    return policy


def _secret_policy(entry: Entry, fields: Fields, rotators: Readers) -> SecretPolicy:
    if entry.object and not NAME.fullmatch(entry.object + PENDING_SUFFIX):
        fields.mistake(f"object: is too long to have a secret beside it whose name ends with {PENDING_SUFFIX}")
    rotator = fields.known("rotator", tuple(rotators))
    table = fields.table("parameters")
    if rotator is None:
        return SecretPolicy(entry, "", None)  # nobody knows what its parameters should be
    parameters = rotators[rotator](table)
    table.finish()
    return SecretPolicy(entry, rotator, parameters)


def _shared_objects(entries: Mapping[str, Entry]) -> list[str]:
    """Two entries for one object would rotate it twice; in what waits for one, another would lose its own value.

    An entry without a vault is in the first one, which only the settings know: it may be any.
    """
    mistakes = []
    taken: dict[tuple[ObjectKind, str], list[Entry]] = {}
    for entry in entries.values():
        for name in _objects(entry):
            others = taken.setdefault((entry.object_kind, name.lower()), [])
            for other in filter(partial(_may_share_vault, entry), others):
                if other.object.lower() != entry.object.lower():
                    mistakes.append(f"[{entry.name}] object: [{other.name}] has {name!r}, too, where next values wait")
                elif name == entry.object:
                    same = f"is about the same {entry.object_kind} of the vault"
                    if (other.vault is None) is not (entry.vault is None):
                        same += ", unless both say in which one they are"
                    mistakes.append(f"[{entry.name}] object: [{other.name}] {same}")
                break
            others.append(entry)
    return mistakes


def _objects(entry: Entry) -> tuple[str, ...]:
    """What an entry has in its vault."""
    if entry.kind is EntryKind.SECRET:
        return entry.object, entry.object + PENDING_SUFFIX
    return (entry.object,) if entry.in_vault else ()


def _may_share_vault(one: Entry, other: Entry) -> bool:
    return one.vault is None or other.vault is None or one.vault.lower() == other.vault.lower()


def _shared_targets(secrets: Mapping[str, SecretPolicy]) -> list[str]:
    """Of two entries that take turns with the same users or keys, each would revoke what the other has just made."""
    mistakes = []
    first: dict[str, str] = {}
    for policy in secrets.values():
        if isinstance(policy.parameters, HasTargets):
            for target in sorted(policy.parameters.targets):
                other = first.setdefault(target, policy.name)
                if other != policy.name:
                    mistakes.append(f"[{policy.name}] parameters: [{other}] rotates the same {target}")
    return mistakes
