"""The catalog: everything that must rotate, its policy and its owner.

A TOML file with one table per entry. All mistakes are reported at once, each with file, entry and reason; a field that
nobody reads is a mistake too, because it is usually a misspelt one.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from shared.errors import InvalidCatalog

# Key Vault object names: https://learn.microsoft.com/azure/key-vault/general/about-keys-secrets-certificates
_NAME: Final = re.compile(r"[0-9a-zA-Z-]{1,127}")
_MAX_DAYS: Final = 3650
SAMPLED_WHILE_SWEEPING: Final = 0.005
"""Share of the new wraps that are opened at the vault before they are stored."""


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


@dataclass(frozen=True, slots=True)
class Catalog:
    """All entries by kind."""

    keks: Mapping[str, KekPolicy]
    dek: DekPolicy


def load(path: Path) -> Catalog:
    """The catalog in the file; InvalidCatalog names the file and every mistake in it."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidCatalog(f"{path}: cannot be read: {error}") from None
    return parse(text, str(path))


def parse(text: str, source: str) -> Catalog:
    """The catalog written in `text`; `source` names it in mistakes."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidCatalog(f"{source}: not TOML: {error}") from None
    mistakes: list[str] = []
    keks: dict[str, KekPolicy] = {}
    deks: list[DekPolicy] = []
    for name, table in tables.items():
        entry = _Entry(name, table, mistakes)
        match entry.kind:
            case "kek":
                keks[name] = _kek_policy(entry)
            case "dek":
                deks.append(_dek_policy(entry))
            case kind:
                entry.mistake(f"kind is {kind!r}; known kinds: 'dek', 'kek'")
                continue
        entry.finish()
    if len(deks) != 1:
        mistakes.append(f"exactly one entry of kind 'dek' is needed, there are {len(deks)}")
    strangers = [dek for dek in deks if dek.kek and dek.kek not in keks]
    mistakes += [f"[{dek.name}] kek: {dek.kek!r} is no entry of kind 'kek'" for dek in strangers]
    if mistakes:
        raise InvalidCatalog("\n".join(f"{source}: {mistake}" for mistake in mistakes))
    return Catalog(keks, deks[0])


def _kek_policy(entry: "_Entry") -> KekPolicy:
    return KekPolicy(
        name=entry.name,
        owner=entry.text("owner"),
        interval=entry.days("interval_days"),
        grace=entry.days("grace_days"),
        consumer_timeout=entry.days("consumer_timeout_days", least=0),
        soak=entry.days("soak_days"),
        scrub=entry.share("scrub_percent", least=0.1, most=100.0),
        headroom=entry.share("headroom_percent", least=0.0, most=90.0),
    )


def _dek_policy(entry: "_Entry") -> DekPolicy:
    policy = DekPolicy(
        name=entry.name,
        owner=entry.text("owner"),
        kek=entry.text("kek"),
        interval=entry.days("interval_days"),
        spread=entry.days("spread_days"),
        grace=entry.days("grace_days"),
        retention=entry.days("retention_days", least=0),
    )
    if policy.spread + policy.grace >= policy.interval:
        entry.mistake("spread_days and grace_days together must be shorter than interval_days")
    return policy


class _Entry:
    """Reads one table field by field and collects what is wrong with it."""

    def __init__(self, name: str, table: object, mistakes: list[str]) -> None:
        self.name = name
        self._mistakes = mistakes
        self._fields = dict(table) if isinstance(table, dict) else {}
        if not isinstance(table, dict):
            self.mistake("must be a table, as in [name]")
        elif not _NAME.fullmatch(name):
            self.mistake("the name must be 1 to 127 of 0-9 a-z A-Z and dash, as Key Vault wants it")
        self.kind = self._fields.pop("kind", None)

    def mistake(self, reason: str) -> None:
        self._mistakes.append(f"[{self.name}] {reason}")

    def text(self, field: str) -> str:
        value = self._fields.pop(field, None)
        if isinstance(value, str) and _NAME.fullmatch(value):
            return value
        self.mistake(f"{field}: " + ("is missing" if value is None else f"{value!r} is not a name (0-9 a-z A-Z -)"))
        return ""

    def days(self, field: str, least: int = 1) -> timedelta:
        value = self._fields.pop(field, None)
        if type(value) is int and least <= value <= _MAX_DAYS:
            return timedelta(days=value)
        wanted = f"a whole number of days from {least} to {_MAX_DAYS}"
        self.mistake(f"{field}: " + (f"is missing ({wanted})" if value is None else f"{value!r} is not {wanted}"))
        return timedelta(days=_MAX_DAYS if field == "interval_days" else 0)

    def share(self, field: str, least: float, most: float) -> float:
        value = self._fields.pop(field, None)
        if type(value) in (int, float) and least <= value <= most:
            return float(value) / 100
        wanted = f"a percentage from {least:g} to {most:g}"
        self.mistake(f"{field}: " + (f"is missing ({wanted})" if value is None else f"{value!r} is not {wanted}"))
        return 0.0

    def finish(self) -> None:
        for field in self._fields:
            self.mistake(f"{field}: unknown field")
