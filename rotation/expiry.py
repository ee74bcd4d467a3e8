"""What becomes of what the vaults say about their objects: which alerts, which orders, and what is routine.

Events of Key Vault arrive more than once, late and out of order, and never for versions older than the subscription. So
an event is only a reason to look: what follows is decided from the object as it is in the vault, by the same functions
for an event and for the daily scan, and each alert and order has an id that makes the second one silent.

Source: https://learn.microsoft.com/azure/event-grid/event-schema-key-vault
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

from rotation.audit import AuditEvent, Outcome
from rotation.catalog import ALERT_DAYS, Entry, EntryKind, RotatedBy
from rotation.inventory import Difference, Known, entry_row
from rotation.kek import FINAL
from rotation.message import SecretAction, SecretOrder, Trigger
from rotation.secret import ASKED_AGAIN_AFTER, unknown
from shared.errors import InvalidMessage
from shared.redact import mask
from shared.values import Alert, KekRecord, ObjectKind, SecretPhase, SecretRotation, Severity, VaultObject

NEAR: Final = timedelta(days=30)
"""How long before the end Key Vault calls it near."""
EXPIRY: Final = "expiry"
OVERDUE: Final = "overdue"
DISABLED: Final = "disabled"
MISSING: Final = "missing"
UNMANAGED: Final = "unmanaged"
"""How the ids of alerts begin that are about the state of an object, and over with it."""
FOREIGN: Final = "foreign"
"""How the ids of alerts begin about a version that somebody else has made."""

SKEW: Final = timedelta(hours=1)
"""How far ahead of ours the vault's clock may be, when it says that something is near or has come."""
_TYPE: Final = re.compile(
    r"Microsoft\.KeyVault\.(?P<kind>Key|Secret|Certificate)(?P<what>NearExpiry|Expired|NewVersionCreated)"
)
_NAME: Final = re.compile(r"[0-9a-zA-Z-]{1,127}")
_AUTOMATIC: Final = (RotatedBy.APP, RotatedBy.VAULT)


class Happening(StrEnum):
    """What happened to the object."""

    NEAR_EXPIRY = "NearExpiry"  # 30 days ahead
    EXPIRED = "Expired"
    NEW_VERSION = "NewVersionCreated"


@dataclass(frozen=True, slots=True)
class VaultEvent:
    """One event about one version of one object."""

    kind: ObjectKind
    happening: Happening
    vault: str  # its name
    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Sight:
    """An object of the catalog as it was found."""

    entry: Entry
    version: VaultObject  # the one in use: the newest, but for a KEK
    rotation: SecretRotation | None = None  # of a secret that this app rotates
    kek: KekRecord | None = None
    is_lost: bool = False  # the vault does not have the version in use: this is the newest one
    is_ours: bool = False  # this app has made the version, as its tags and the row say
    said: Happening | None = None  # what an event says of that version


def parse(envelope: Mapping[str, object]) -> VaultEvent:
    """The event in an envelope of either schema, Event Grid's or CloudEvents 1.0; InvalidMessage if it is none of ours.

    Tolerant of what published examples do: blanks around names and values, `id` for `Id`. Of the envelope nothing but
    type and data is read: what else is in it does not matter to what follows.
    """
    event_type = envelope.get("type") or envelope.get("event_type")
    matched = _TYPE.fullmatch(event_type) if isinstance(event_type, str) else None
    if matched is None:
        raise InvalidMessage("an event of a type that is not handled")
    data = envelope.get("data")
    if not isinstance(data, Mapping):
        raise InvalidMessage("an event has no data")
    fields = {str(name).strip().lower(): str(value).strip() for name, value in data.items()}
    texts = [fields.get(name, "") for name in ("vaultname", "objectname", "version")]
    if not all(_NAME.fullmatch(text) for text in texts):
        raise InvalidMessage("an event does not name vault, object and version")
    vault, name, version = texts
    return VaultEvent(ObjectKind(matched["kind"].lower()), Happening(matched["what"]), vault, name, version)


def vault_of(event: VaultEvent, vaults: Iterable[str]) -> str:
    """The URL of the event's vault among those; InvalidMessage if it is none of them."""
    for url in vaults:
        if vault_name(url) == event.vault.lower():
            return url
    raise InvalidMessage("an event of a vault that is not configured")


def vault_name(url: str) -> str:
    """What events call the vault with that URL."""
    return _host(url).partition(".")[0]


def expiry_alert(sight: Sight, now: datetime) -> Alert | None:
    """That the version expires or has expired, more urgent at each of the entry's `alert_days`; None before."""
    told = _telling(_left(sight.version, now, sight.said), sight.entry.alert_days)
    return None if told is None else _alert(EXPIRY, sight, *told, now)


def stranger_expiry_alert(found: VaultObject, now: datetime, said: Happening | None = None) -> Alert | None:
    """The same of an object that no entry of the catalog is about, at the days that entries have by default.

    One alert for all of its versions: a list does not name them.
    """
    told = _telling(_left(found, now, said), ALERT_DAYS)
    if told is None or found.expires is None:
        return None
    details = {
        "vault": found.vault,
        "expires": f"{found.expires:%Y-%m-%dT%H:%M:%SZ}",
        "rotated_by": "unknown: no entry of the catalog is about it",
    }
    alert_id = f"{EXPIRY}/{_host(found.vault)}/{_subject(found).lower()}"
    return Alert(alert_id, *told, _subject(found), now, details)


def _telling(left: timedelta | None, days: Sequence[int]) -> tuple[Severity, str] | None:
    """What there is to tell so long before the end, when there is something to tell at each of those days."""
    passed = 0 if left is None else sum(left <= timedelta(days=each) for each in days)
    if left is not None and left <= timedelta():
        return Severity.CRITICAL, "an object in the vault has expired"
    if passed == 0:
        return None
    if passed == 1:
        return Severity.WARNING, "an object in the vault expires soon"
    if passed == len(days) > 2:
        return Severity.CRITICAL, "last warning: an object in the vault expires"
    return Severity.CRITICAL, "an object in the vault is about to expire"


def overdue_alert(sight: Sight, now: datetime) -> Alert | None:
    """That an object should have been rotated by now and nobody is at it; None if a person rotates it, or it is not."""
    if sight.entry.rotated_by not in _AUTOMATIC:
        return None
    row = entry_row(sight.entry, sight.version, Known(sight.rotation, sight.kek), now)
    if Difference.OVERDUE not in row.differences or _is_under_way(sight) or row.next is None:
        return None
    due = f"{row.next:%Y-%m-%dT%H:%M:%SZ}"
    return _alert(OVERDUE, sight, Severity.WARNING, "a rotation that should have happened has not", now, due=due)


def disabled_alert(sight: Sight, now: datetime) -> Alert | None:
    """That the vault refuses the version to everybody; None if it does not."""
    if sight.version.enabled:
        return None
    return _alert(DISABLED, sight, Severity.CRITICAL, "the version in use of an object in the vault is disabled", now)


def lost_alert(sight: Sight, now: datetime) -> Alert | None:
    """That the vault has the KEK, but not the version that DEKs are wrapped under; None if it has."""
    if not sight.is_lost or sight.kek is None:
        return None
    kid = sight.kek.pointer.kid
    return _missing(
        sight.entry,
        kid.partition("/keys/")[0],
        Severity.CRITICAL,
        "the version of a KEK that DEKs are wrapped under is not in Key Vault",
        now,
        version=kid.rpartition("/")[2],
    )


def missing_alert(entry: Entry, vault: str, now: datetime, *, is_used: bool) -> Alert:
    """That the vault does not have the entry's object; `is_used`: it is on record that it had."""
    severity = Severity.CRITICAL if is_used else Severity.WARNING
    return _missing(entry, vault, severity, "the catalog names an object that Key Vault does not have", now)


def _missing(entry: Entry, vault: str, severity: Severity, what: str, now: datetime, **details: str) -> Alert:
    details |= {"vault": vault, "object": entry.object, "rotated_by": entry.rotated_by}
    subject = f"{entry.object_kind}/{entry.name}"
    return Alert(missing_id(entry, vault), severity, what, subject, now, details, owner=entry.owner)


def missing_id(entry: Entry, vault: str) -> str:
    """Of the alert that the vault does not have the entry's object."""
    return f"{MISSING}/{_host(vault)}/{entry.object_kind}/{entry.name}"


def foreign_alert(sight: Sight, now: datetime) -> Alert | None:
    """That somebody else has given consumers another value of a secret that this app rotates; None if nobody has."""
    if sight.rotation is None or not sight.rotation.current or is_known(sight):
        return None
    known = sight.rotation.current
    return _alert(
        FOREIGN, sight, Severity.WARNING, "somebody else has changed a secret that this app rotates", now, known=known
    )


def unmanaged_alert(found: VaultObject, now: datetime) -> Alert:
    """That no entry of the catalog is about an object."""
    return Alert(
        unmanaged_id(found),
        Severity.WARNING,
        "Key Vault has an object that the catalog does not know",
        _subject(found),
        now,
        {"vault": found.vault, "created": f"{found.created:%Y-%m-%dT%H:%M:%SZ}"},
    )


def unmanaged_id(found: VaultObject) -> str:
    """Of the alert that no entry is about the object: one for all of its versions."""
    return f"{UNMANAGED}/{_host(found.vault)}/{_subject(found).lower()}"


def unmanaged_event(found: VaultObject, trigger: Trigger) -> AuditEvent:
    """What is recorded of it, once."""
    return AuditEvent(
        job=_unknown(found.vault, _subject(found)),
        outcome=Outcome.SUCCEEDED,
        action="object.unknown",
        subject=_subject(found),
        actor="key-vault",
        trigger=trigger,
        reason="no entry of the catalog is about this object",
    )


def signing_alert(found: VaultObject, now: datetime) -> Alert:
    """That checkpoints will be signed with another version of the key."""
    return Alert(
        f"signing-key/{found.version}",
        Severity.WARNING,
        "the audit signing key has a new version: tell the auditors",
        _subject(found),
        now,
        {"version": found.version, "vault": found.vault},
    )


def order_for(sight: Sight, now: datetime) -> SecretOrder | None:
    """What has to be done about a secret that this app rotates; None if nothing, or it is under way.

    The rotation has the id that the planner's own order for it would have: it is done once, whoever asks first.
    """
    entry = sight.entry
    if entry.kind is not EntryKind.SECRET:
        return None
    rotation = sight.rotation or unknown(entry.name, now)
    if _is_near(sight, now):
        is_tried = bool(rotation.order) and abs(now - rotation.phase_since) < ASKED_AGAIN_AFTER
        if rotation.phase is not SecretPhase.STEADY or is_tried:
            return None
        target = rotation.generation + 1
        return _order(SecretAction.ROTATE, entry, f"g{target}", "the version in use is near its expiry", target)
    if is_known(sight):
        return None
    request, reason = f"version-{sight.version.version}", "the vault has a version that is not on record"
    return _order(SecretAction.DRIVE, entry, request, reason, rotation.generation)


def is_known(sight: Sight) -> bool:
    """Whether this app has made the version, or it is on record; it may have been replaced since it was read."""
    row = sight.rotation
    return sight.is_ours or (row is not None and sight.version.version in (row.current, row.previous))


def state_id(cause: str, entry: Entry, version: str) -> str:
    """Of the alert with that cause about a version of the entry's object: one, however urgent it becomes."""
    return f"{cause}/{entry.object_kind}/{entry.name}/{version}"


def _is_near(sight: Sight, now: datetime) -> bool:
    left = _left(sight.version, now, sight.said)
    return left is not None and left <= NEAR


def _left(version: VaultObject, now: datetime, said: Happening | None) -> timedelta | None:
    """How long the version has; None if it never expires. Whoever has moved its date is believed, not the event."""
    if version.expires is None:
        return None
    left = version.expires - now
    return left - SKEW if said in (Happening.NEAR_EXPIRY, Happening.EXPIRED) else left


def _alert(cause: str, sight: Sight, severity: Severity, what: str, now: datetime, **details: str) -> Alert:
    entry, version = sight.entry, sight.version
    details |= {"version": version.version, "vault": version.vault, "object": version.name}
    if version.expires is not None:
        details["expires"] = f"{version.expires:%Y-%m-%dT%H:%M:%SZ}"
    details["rotated_by"] = entry.rotated_by
    subject = f"{entry.object_kind}/{entry.name}"
    return Alert(state_id(cause, entry, version.version), severity, what, subject, now, details, owner=entry.owner)


def _order(action: SecretAction, entry: Entry, request: str, reason: str, generation: int) -> SecretOrder:
    return SecretOrder(action, entry.name, request, Trigger.VAULT, "key-vault", reason, generation)


def _subject(found: VaultObject) -> str:
    """The object; by a digest if somebody has named it after a secret, or so that what is said of it looks like one."""
    subject = f"{found.kind}/{found.name}"
    written = (found.name, subject, _unknown(found.vault, subject))
    is_clean = all(mask(text) == text for each in written for text in (each, each.lower()))
    return subject if is_clean else f"{found.kind}/{hashlib.sha256(found.name.encode()).hexdigest()[:32]}"


def _unknown(vault: str, subject: str) -> str:
    return f"object.unknown/{_host(vault)}/{subject}"


def _host(url: str) -> str:
    """Which vault, in ids: a vault and a managed HSM may have the same name."""
    return urlsplit(url).hostname or ""


def _is_under_way(sight: Sight) -> bool:
    run = sight.kek.run if sight.kek is not None else None
    is_secret_rotating = sight.rotation is not None and sight.rotation.phase is not SecretPhase.STEADY
    return is_secret_rotating or (run is not None and run.phase not in FINAL)
