"""What the catalog asks of the policies by which vaults renew keys and certificates, and where a policy falls short.

A policy that is stricter than the catalog is left as it is. KEKs are rotated by the app, so a vault must only announce
that they expire. Sources: https://learn.microsoft.com/azure/key-vault/keys/how-to-configure-key-rotation and
https://learn.microsoft.com/azure/key-vault/certificates/tutorial-rotate-certificates
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Final

from rotation.catalog import Entry, EntryKind, RotatedBy
from shared.values import ObjectKind, RenewalPolicy

_MARGIN: Final = timedelta(days=7)  # Key Vault: between any action, and the making and the expiry of a version
_SHORTEST_LIFE: Final = timedelta(days=28)
_LATEST_DAYS_PER_MONTH: Final = 27  # of a certificate's validity, before its expiry


def has_policy(entry: Entry) -> bool:
    """Whether a vault's policy has to be as this entry says."""
    return entry.kind is EntryKind.KEK or entry.rotated_by is RotatedBy.VAULT


def longest_life(entry: Entry) -> timedelta:
    """How long after its making a version may expire at the latest.

    A certificate is renewed when people are told that it expires, so it needs no more than that. A key or secret that
    outlives its rotation harms less than one that expires because a rotation is late: it has a second interval.
    """
    if entry.kind is EntryKind.CERTIFICATE:
        return entry.schedule.longest + entry.grace + _told(entry)
    return max(2 * entry.schedule.longest + entry.grace, _life(entry))


def shortfalls(entry: Entry, policy: RenewalPolicy) -> tuple[str, ...]:
    """In what respects the policy is weaker than the catalog, in words; none if it is as strict or stricter."""
    return tuple(_shortfalls_of_kek(policy) if entry.kind is EntryKind.KEK else _shortfalls(entry, policy))


def wanted(entry: Entry, policy: RenewalPolicy) -> RenewalPolicy:
    """What to replace a weaker policy by.

    How long a certificate is valid is a matter of its issuing, and stays as it is.
    """
    if entry.kind is EntryKind.KEK:
        return RenewalPolicy(lifetime=policy.lifetime, notifies_before=policy.notifies_before or _told(entry))
    interval = entry.schedule.longest
    if entry.object_kind is ObjectKind.CERTIFICATE:
        life = policy.lifetime or longest_life(entry)
        months = life.days // 366 * 12 + life.days % 366 // 31
        latest = timedelta(days=months * _LATEST_DAYS_PER_MONTH)
        return replace(policy, rotates_after=None, rotates_before=min(latest, max(_told(entry), life - interval)))
    if not entry.expires:
        return RenewalPolicy(rotates_after=interval)
    life = _life(entry)
    return RenewalPolicy(life, rotates_after=interval, notifies_before=min(_told(entry), life - _MARGIN))


def _shortfalls_of_kek(policy: RenewalPolicy) -> Iterator[str]:
    if policy.rotates_after is not None or policy.rotates_before is not None:
        yield "the vault makes versions by itself"
    if policy.notifies_before is None:
        yield "no notice before a version expires"


def _shortfalls(entry: Entry, policy: RenewalPolicy) -> Iterator[str]:
    interval, life, longest = entry.schedule.longest, policy.lifetime, policy.longest
    if longest is None:
        yield "the vault makes no versions by itself"
    elif longest > interval:
        yield f"a new version after {longest.days} days instead of {interval.days}"
    if not entry.expires:
        return
    if life is None:
        yield "versions do not expire"
    elif life > longest_life(entry):
        yield f"versions expire after {life.days} days instead of {longest_life(entry).days} at most"
    if policy.notifies_before is None and entry.object_kind is ObjectKind.KEY:
        yield "no notice before a version expires"


def _life(entry: Entry) -> timedelta:
    """How long a key lives by a policy that is written from the catalog."""
    return max(entry.schedule.longest + max(entry.grace, _told(entry)), _SHORTEST_LIFE)


def _told(entry: Entry) -> timedelta:
    """How long before an expiry people are first told."""
    return max(timedelta(days=entry.alert_days[0]), _MARGIN)
