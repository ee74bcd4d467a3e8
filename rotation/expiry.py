"""Key Vault events: what a near expiry, an expiry or a new version of an object means to us.

Events arrive more than once, late and out of order, so that they only ever raise an alert, under an id that makes the
second one silent. Source: https://learn.microsoft.com/azure/event-grid/event-schema-key-vault
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from rotation.catalog import Catalog
from shared.errors import InvalidMessage
from shared.values import Alert, Severity

_TYPE: Final = re.compile(
    r"Microsoft\.KeyVault\.(?P<kind>Key|Secret|Certificate)(?P<what>NearExpiry|Expired|NewVersionCreated)"
)
_NAME: Final = re.compile(r"[0-9a-zA-Z-]{1,127}")


class Happening(StrEnum):
    """What happened to the object."""

    NEAR_EXPIRY = "NearExpiry"  # 30 days ahead
    EXPIRED = "Expired"
    NEW_VERSION = "NewVersionCreated"


@dataclass(frozen=True, slots=True)
class VaultEvent:
    """One event about one version of one object."""

    kind: str  # key, secret, certificate
    happening: Happening
    vault: str
    name: str
    version: str


def parse(event_type: str, data: object) -> VaultEvent:
    """The event; InvalidMessage if it is none of ours.

    Tolerant of what published examples do: blanks around names and values, `id` for `Id`.
    """
    matched = _TYPE.fullmatch(event_type)
    if matched is None:
        raise InvalidMessage("an event of a type that is not handled")
    if not isinstance(data, Mapping):
        raise InvalidMessage("an event has no data")
    fields = {str(name).strip().lower(): str(value).strip() for name, value in data.items()}
    texts = [fields.get(name, "") for name in ("vaultname", "objectname", "version")]
    if not all(_NAME.fullmatch(text) for text in texts):
        raise InvalidMessage("an event does not name vault, object and version")
    vault, name, version = texts
    return VaultEvent(matched["kind"].lower(), Happening(matched["what"]), vault, name, version)


def alert_for(event: VaultEvent, catalog: Catalog, now: datetime) -> Alert | None:
    """What a person must know of the event; None for what is routine."""
    entry = catalog.keks.get(event.name) if event.kind == "key" else None
    what, severity = _MEANINGS[event.happening] if entry else _UNKNOWN
    if what is None:
        return None
    details = {"version": event.version, "vault": event.vault, "owner": entry.owner if entry else "nobody"}
    subject = f"{event.kind}/{event.name}"
    return Alert(f"{event.vault}/{subject}/{event.version}/{event.happening}", severity, what, subject, now, details)


def is_new_kek_version(event: VaultEvent, catalog: Catalog) -> bool:
    """Whether a KEK of the catalog may have to be rotated to a version that has appeared by itself."""
    return event.kind == "key" and event.happening is Happening.NEW_VERSION and event.name == catalog.dek.kek


_MEANINGS: Final[Mapping[Happening, tuple[str | None, Severity]]] = {
    Happening.NEAR_EXPIRY: ("a KEK version expires within 30 days: rotate the KEK", Severity.WARNING),
    Happening.EXPIRED: ("a KEK version has expired: no DEK can be wrapped under it any more", Severity.CRITICAL),
    Happening.NEW_VERSION: (None, Severity.WARNING),
}
_UNKNOWN: Final = ("Key Vault reports an object that the catalog does not know", Severity.WARNING)
