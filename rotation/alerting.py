"""Alerts: what follows from each, who sees to it, and what raising, resolving and telling make of its row.

An alert is one row for each id. Whatever changes how it stands - opened, more severe, resolved, opened again - makes a
new revision, and every sink is owed the newest one: a sink that was away is told how things stand, not how they came to
be so.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from rotation.catalog import Catalog
from shared.values import Alert, AlertEntry, Closing, DeadLetter, Notice, Owed, Severity, SinkName

DEFAULT_OWNER: Final = "security-engineering"
"""Who sees to an alert that names no owner, about an object that the catalog does not know."""
MAX_ATTEMPTS: Final = 100
"""Attempts before a sink is given up: about two days."""
_LONGEST_PAUSE: Final = timedelta(minutes=30)
_TENANTS: Final = "dek"
_SEVERITIES: Final = tuple(Severity)  # ascending
_RUNBOOKS: Final = "docs/runbooks/"
_DEK, _KEK, _AUDIT, _EXPIRY, _SECRETS = (
    f"{_RUNBOOKS}{name}.md" for name in ("dek-rotation", "kek-rotation", "audit-trail", "expiry", "secrets")
)


@dataclass(frozen=True, slots=True)
class Kind:
    """What follows from alerts with the same text."""

    what: str
    next: str  # what happens by itself, and what a person has to do
    runbook: str  # page and heading


_UNKNOWN: Final = Kind("", "Nothing happens by itself: look at its details.", f"{_RUNBOOKS}alerts.md#any-other-alert")


def _table(*kinds: Kind) -> Mapping[str, Kind]:
    table = {kind.what: kind for kind in kinds}
    if len(table) != len(kinds):
        raise ValueError("two kinds of alert have the same text")
    return table


KINDS: Final = _table(
    Kind(
        "a message could not be processed and waits for an operator",
        "It waits as a dead letter and is not done until somebody sends it again or drops it.",
        f"{_DEK}#dead-letters",
    ),
    Kind(
        "an order for a secret could not be carried out and waits for an operator",
        "The app asks again for what it has planned; what a person ordered waits until it is sent again or dropped.",
        f"{_SECRETS}#letters",
    ),
    Kind(
        "a KEK must not be used, and no DEK rotates until it may",
        "Jobs wait and go on by themselves once the KEK may be used: repair it within three days.",
        f"{_DEK}#a-kek-version-is-about-to-expire",
    ),
    Kind(
        "an object in the vault expires soon",
        "The app rotates its secrets now, a person a manual one, and the vault may renew a key: see whether they do.",
        f"{_EXPIRY}#it-expires-soon",
    ),
    Kind(
        "an object in the vault is about to expire",
        "Nobody has rotated it since the first warning: rotate it now, or move its date with its owner agreeing.",
        f"{_EXPIRY}#it-is-about-to-expire",
    ),
    Kind(
        "last warning: an object in the vault expires",
        "Nobody has rotated it since the first warning: rotate it now, or move its date with its owner agreeing.",
        f"{_EXPIRY}#it-is-about-to-expire",
    ),
    Kind(
        "an object in the vault has expired",
        "The app tries its secrets again each day, but manual ones; nothing else happens by itself: rotate it now.",
        f"{_EXPIRY}#it-has-expired",
    ),
    Kind(
        "a rotation that should have happened has not",
        "It is planned again until it is done: see what keeps it.",
        f"{_EXPIRY}#it-is-overdue",
    ),
    Kind(
        "the version in use of an object in the vault is disabled",
        "The vault refuses it to its consumers, nothing happens by itself: find out who has disabled it, and why.",
        f"{_EXPIRY}#it-is-disabled",
    ),
    Kind(
        "the version of a KEK that DEKs are wrapped under is not in Key Vault",
        "No DEK under it can be opened once it leaves the services' memory: recover it now, or restore its backup.",
        f"{_EXPIRY}#it-is-missing",
    ),
    Kind(
        "the catalog names an object that Key Vault does not have",
        "Nothing happens by itself: recover it if it was deleted, make it, or take its entry out of the catalog.",
        f"{_EXPIRY}#it-is-missing",
    ),
    Kind(
        "somebody else has changed a secret that this app rotates",
        "Consumers read that version and the app goes on from it: find out who made it, and whether it works.",
        f"{_EXPIRY}#somebody-else-has-changed-a-secret",
    ),
    Kind(
        "Key Vault has an object that the catalog does not know",
        "Nothing happens by itself: find its owner, put it into the catalog or remove it.",
        f"{_EXPIRY}#an-object-that-the-catalog-does-not-know",
    ),
    Kind(
        "the audit signing key has a new version: tell the auditors",
        "Checkpoints are signed with it from now on: give auditors its public half.",
        f"{_EXPIRY}#the-audit-signing-key-has-a-new-version",
    ),
    Kind(
        "a KEK version that is needed was disabled and is enabled again",
        "It has been enabled again: find out who disabled it.",
        f"{_KEK}#the-old-or-the-new-version-cannot-be-used",
    ),
    Kind(
        "a KEK version that is retired is enabled",
        "It stays enabled: disable it once nobody needs it.",
        f"{_KEK}#a-version-is-missed",
    ),
    Kind(
        "a KEK version that is retired is missed",
        "A service cannot read what it keeps under that version: find its rows.",
        f"{_KEK}#a-version-is-missed",
    ),
    Kind(
        "a disabled KEK version is missed and enabled again",
        "It has been enabled again and DEKs are swept once more: see who missed it.",
        f"{_KEK}#a-version-is-missed",
    ),
    Kind(
        "a KEK rotation cannot go on",
        "The rotation waits and looks again every minute: remove the reason.",
        f"{_KEK}#look-first",
    ),
    Kind(
        "a KEK rotation makes no progress",
        "Silent shards are sent their messages again: see why they are silent.",
        f"{_KEK}#no-progress",
    ),
    Kind(
        "a KEK version is disabled that consumers may still use",
        "The rotation goes on; the version is enabled again if a service misses it: restart the services named.",
        f"{_KEK}#consumers-that-lag",
    ),
    Kind(
        "a KEK rotation was given up before anything was changed",
        "Nothing was changed and nothing goes on: remove the reason, then order it again.",
        f"{_KEK}#it-failed",
    ),
    Kind(
        "a KEK rotation has stopped a shard at a tenant whose rows cannot be right and are left alone",
        "The other shards go on, the rotation waits for this one: find out who has changed the rows.",
        f"{_KEK}#a-shard-has-stopped",
    ),
    Kind(
        "the audit trail cannot be signed",
        "Rotations go on and are recorded, nothing is signed until the cause is gone: treat it as an incident.",
        f"{_AUDIT}#it-cannot-be-signed",
    ),
    Kind(
        "audit trail and evidence copy differ",
        "Both stay as they are: find out which was changed, and by whom.",
        f"{_AUDIT}#they-differ",
    ),
    Kind(
        "the audit signing key cannot be rotated",
        "The version in use signs on: see why the new one cannot.",
        f"{_AUDIT}#the-signing-key-cannot-be-used",
    ),
    Kind(
        "checkpoints of the audit trail are not time-stamped",
        "Signing goes on without and tries again: try another authority if it lasts.",
        f"{_AUDIT}#time-stamps",
    ),
    Kind(
        "the clock of the audit trail was put back",
        "Signing goes on with the new time: check the clock.",
        f"{_AUDIT}#clocks",
    ),
    Kind(
        "an audit record was dated by a wrong clock",
        "The record stays as it is: check the clocks of the workers.",
        f"{_AUDIT}#clocks",
    ),
    Kind(
        "an audit record holds a secret",
        "It cannot be taken out again: rotate the secret now.",
        f"{_AUDIT}#a-secret-in-a-record",
    ),
    Kind(
        "a job was begun and never ended: it has failed",
        "It is recorded as failed and not done again: look at its letter and its tenant.",
        f"{_AUDIT}#open-intents",
    ),
    Kind(
        "a step was begun and has no outcome",
        "The app goes on trying to end it: see what it waits for.",
        f"{_AUDIT}#open-intents",
    ),
    Kind(
        "a secret could not be rotated: the one in use works on",
        "What was begun is undone, and the calendar asks again: remove the reason.",
        f"{_SECRETS}#alerts",
    ),
    Kind(
        "the credential in use does not work: the one before is kept",
        "The one before is not revoked; it is tried again: see what has become of the credential in use.",
        f"{_SECRETS}#the-credential-in-use-does-not-work",
    ),
    Kind(
        "the rotation of a secret needs a version that somebody has disabled",
        "It waits for that version and never enables it by itself: find out why it is disabled, then enable it.",
        f"{_SECRETS}#a-version-is-disabled",
    ),
    Kind(
        "a person has to rotate a secret",
        "The rotation waits for what the task says, and goes on by itself after that.",
        f"{_SECRETS}#what-a-person-does",
    ),
    Kind(
        "a secret still waits for a person",
        "The rotation waits, and reminds again until the task is done: do what the task says.",
        f"{_RUNBOOKS}secrets-manual.md#look-first",
    ),
    Kind(
        "a person has not rotated a secret in time",
        "The rotation waits on, and the secret in use is older than it may be: do what the task says now.",
        f"{_RUNBOOKS}secrets-manual.md#look-first",
    ),
    Kind(
        "the rotation of a secret stands still",
        "It is asked for again and again: see in the log what it meets.",
        f"{_SECRETS}#phases",
    ),
    Kind(
        "a sink does not take alerts",
        "What it was to be told is given up, the other sinks and the log have it: repair its address.",
        f"{_RUNBOOKS}alerts.md#sinks",
    ),
)
"""Every kind of alert, by its text."""


def letter_alert(letter: DeadLetter) -> str:
    """Id of the alert that a letter waits."""
    return f"{letter.queue}/{letter.id}"


def kind_of(what: str) -> Kind:
    """What follows from an alert with that text."""
    return KINDS.get(what, _UNKNOWN)


def owners_in(catalog: Catalog) -> Mapping[str, str]:
    """Who owns what: by the names of entries and of their objects, and by "dek" all that belongs to a tenant."""
    by_object = {entry.object: entry.owner for entry in catalog.entries.values()}
    by_name = {name: entry.owner for name, entry in catalog.entries.items()}
    keks = {name: policy.owner for name, policy in catalog.keks.items()}
    return by_object | by_name | keks | {_TENANTS: catalog.dek.owner}


def owner_of(alert: Alert, owners: Mapping[str, str]) -> str:
    """Who sees to an alert: whom it names, else who owns its subject."""
    kind, _, name = alert.subject.partition("/")
    return alert.owner or owners.get(_TENANTS if kind in ("dek", "tenant") else name, DEFAULT_OWNER)


def key_of(alert_id: str) -> str:
    """What every message about the alert has in common, whatever its id is made of: 40 hex digits."""
    return hashlib.sha256(alert_id.encode()).hexdigest()[:40]


def notice_of(entry: AlertEntry) -> Notice:
    """What a sink is told of it."""
    kind = kind_of(entry.alert.what)
    return Notice(entry.alert, key_of(entry.alert.id), entry.revision, kind.next, kind.runbook)


def raised(entry: AlertEntry | None, alert: Alert) -> AlertEntry | None:
    """The row once the alert is raised; None if it stays as it is.

    An open alert does not get less severe: what comes late must not hide what came first. One that is as severe and
    says something else has come to its next step, and is told again.
    """
    if entry is None:
        return AlertEntry(alert, owed=_owed())
    step = _SEVERITIES.index(alert.severity) - _SEVERITIES.index(entry.alert.severity)
    is_next = step > 0 or (step == 0 and alert.what != entry.alert.what)
    if entry.alert.resolved is None and not is_next:
        return None
    return replace(entry, alert=alert, revision=entry.revision + 1, owed=_owed())


def resolved(entry: AlertEntry | None, now: datetime, by: str = "", because: str = "") -> AlertEntry | None:
    """The row once the alert is resolved; None if it stays as it is."""
    if entry is None or entry.alert.resolved is not None:
        return None
    revision = entry.revision + 1
    closings = (*entry.closings, Closing(revision, by, because)) if by else entry.closings
    alert = replace(entry.alert, resolved=now, resolved_by=by)
    return replace(entry, alert=alert, revision=revision, owed=_owed(), closings=closings)


def urgent_first(entries: Iterable[AlertEntry]) -> Sequence[AlertEntry]:
    """The entries in the order in which sinks are told: a flood of warnings holds up nothing that is critical."""
    return sorted(entries, key=lambda entry: _SEVERITIES.index(entry.alert.severity), reverse=True)


def due(entry: AlertEntry, now: datetime) -> Sequence[SinkName]:
    """The sinks that are to be told now."""
    return [sink for sink, owed in entry.owed.items() if not owed.given_up and (owed.due is None or owed.due <= now)]


def told(entry: AlertEntry, sink: SinkName) -> AlertEntry:
    """The row once a sink was told."""
    return replace(entry, owed={name: owed for name, owed in entry.owed.items() if name is not sink})


def owing(entry: AlertEntry, sinks: Iterable[SinkName]) -> AlertEntry:
    """The row when sinks that were told something else are to be told how it stands, if they are not already."""
    return replace(entry, owed={**_owed(sinks), **entry.owed})


def failed(entry: AlertEntry, sink: SinkName, now: datetime, reason: str, wait: timedelta) -> AlertEntry:
    """The row once a sink did not answer: tried again later, not before `wait`, or given up in the end."""
    attempts = entry.owed[sink].attempts + 1
    if attempts >= MAX_ATTEMPTS:
        return given_up(entry, sink, reason)
    pause = min(timedelta(minutes=2 ** min(attempts - 1, 10)), _LONGEST_PAUSE)
    return _with(entry, sink, Owed(attempts, now + max(pause, min(wait, _LONGEST_PAUSE))))


def given_up(entry: AlertEntry, sink: SinkName, reason: str) -> AlertEntry:
    """The row once a sink is not told any more; the next revision tries anew."""
    return _with(entry, sink, Owed(entry.owed[sink].attempts + 1, None, reason))


def _with(entry: AlertEntry, sink: SinkName, owed: Owed) -> AlertEntry:
    return replace(entry, owed={**entry.owed, sink: owed})


def _owed(sinks: Iterable[SinkName] = SinkName) -> Mapping[SinkName, Owed]:
    """Every sink, whether it is configured or not: who raises or resolves need not know."""
    return dict.fromkeys(sinks, Owed())
