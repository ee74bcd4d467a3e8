"""Takes what is said or seen of objects in the vaults, and sees to it that their owners hear and rotations are ordered.

An event is followed in this order; whoever dies leaves it undelivered, and it is followed again from the beginning:

    read the object            dies here: nothing is there
    record and alert           dies here: the same record and the same alert, which are there once
    order                      dies here: the order is sent again, and done once
    resolve what is over       dies here: resolved again, which changes nothing

The alert comes before the order: once the order is done, nothing would tell any more that somebody has to know.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from rotation.audit_job import AuditTrail
from rotation.catalog import PENDING_SUFFIX, Catalog, Entry, EntryKind
from rotation.expiry import (
    DISABLED,
    EXPIRY,
    OVERDUE,
    SKEW,
    Happening,
    Sight,
    VaultEvent,
    disabled_alert,
    expiry_alert,
    foreign_alert,
    lost_alert,
    missing_id,
    order_for,
    parse,
    signing_alert,
    state_id,
    stranger_expiry_alert,
    unmanaged_alert,
    unmanaged_event,
    vault_of,
)
from rotation.inventory import Matching
from rotation.kek_job import KekJobs
from rotation.message import Trigger
from rotation.secret import unknown
from rotation.secret_planner_job import SecretPlanner
from rotation.secret_versions import GENERATION_TAG, RESTORES_TAG, STATE_TAG
from shared.clock import Clock
from shared.errors import Integrity, Rejected
from shared.ports import Alerts, Keks, SecretRotations, VaultObjects
from shared.values import KekRecord, ObjectKind, SecretRotation, VaultObject

log = logging.getLogger(__name__)

_PAGE: Final = 1000


class Overview:
    """What the catalog and the tables say of an object in a vault."""

    def __init__(
        self, catalog: Catalog, objects: VaultObjects, keks: Keks, rotations: SecretRotations, signing_key: str
    ) -> None:
        """`signing_key` is the name of the key in the first vault that signs checkpoints."""
        self._signing_key = signing_key
        self._objects = objects
        self._keks = keks
        self._rotations = rotations
        self._keys = [entry for entry in catalog.entries.values() if entry.object_kind is ObjectKind.KEY]
        self._others = self._matching(catalog.entries.values(), {})

    def matching(self, kind: ObjectKind) -> Matching:
        """What finds the entry of an object of that kind."""
        return self._matching(self._keys, self._kek_records()) if kind is ObjectKind.KEY else self._others

    def sight(self, entry: Entry, versions: Sequence[VaultObject], said: Happening | None = None) -> Sight:
        """The version in use, and how its rotation stands now."""
        kek = self._keks.read(entry.name) if entry.kind is EntryKind.KEK else None
        rotation = self._rotations.read(entry.name) if entry.kind is EntryKind.SECRET else None
        used = self._in_use(versions, kek)
        version = used or versions[-1]
        return Sight(entry, version, rotation, kek, used is None, _is_ours(version, versions, rotation), said)

    def rotations(self) -> Mapping[str, SecretRotation]:
        """How the rotation of every secret stands now."""
        found: dict[str, SecretRotation] = {}
        after: str | None = None
        while page := self._rotations.page(after, _PAGE):
            found |= {each.name: each for each in page}
            after = page[-1].name
        return found

    def is_used(self, entry: Entry) -> bool:
        """Whether a version of the object is on record: DEKs are wrapped under it, or consumers were given it."""
        if entry.kind is EntryKind.KEK:
            return self._keks.read(entry.name) is not None
        rotation = self._rotations.read(entry.name) if entry.kind is EntryKind.SECRET else None
        return rotation is not None and bool(rotation.current)

    def is_signing_key(self, found: VaultObject) -> bool:
        """Whether checkpoints are signed with the object."""
        is_key_of_first_vault = (found.kind, found.vault) == (ObjectKind.KEY, self._objects.vaults[0])
        return is_key_of_first_vault and found.name.lower() == self._signing_key.lower()

    def _in_use(self, versions: Sequence[VaultObject], kek: KekRecord | None) -> VaultObject | None:
        """The newest version; of a KEK the one that wraps, if it is there; of the signing key one that can sign."""
        if kek is not None:
            primary = kek.pointer.kid.rpartition("/")[2]
            return next((each for each in versions if each.version == primary), None)
        if self.is_signing_key(versions[-1]):
            return next((each for each in reversed(versions) if each.enabled), versions[-1])
        return versions[-1]

    def _matching(self, entries: Iterable[Entry], keks: Mapping[str, KekRecord]) -> Matching:
        return Matching(entries, keks, self._objects.vaults[0], PENDING_SUFFIX)

    def _kek_records(self) -> dict[str, KekRecord]:
        names = [entry.name for entry in self._keys if entry.kind is EntryKind.KEK]
        found = {name: self._keks.read(name) for name in names}
        return {name: record for name, record in found.items() if record is not None}


def is_plainly_ours(found: VaultObject, rotation: SecretRotation | None) -> bool:
    """Whether a list, which names no version, leaves no doubt that the newest one is that of the newest rotation."""
    if rotation is None or rotation.since is None or found.created > rotation.since + SKEW:
        return False
    return str(rotation.generation) in (found.tags.get(GENERATION_TAG), found.tags.get(RESTORES_TAG))


def _is_ours(version: VaultObject, versions: Sequence[VaultObject], rotation: SecretRotation | None) -> bool:
    """Whether the newest rotation has made the version. Its tags say so; whoever copies them has made another one."""
    if rotation is None:
        return STATE_TAG in version.tags
    return any(
        [each.version for each in versions if each.tags.get(tag) == str(rotation.generation)] == [version.version]
        for tag in (GENERATION_TAG, RESTORES_TAG)
    )


class ExpiryWatch:
    """Handles the events of the Event Grid subscriptions on the vaults."""

    def __init__(
        self,
        catalog: Catalog,
        overview: Overview,
        objects: VaultObjects,
        kek_jobs: KekJobs,
        planner: SecretPlanner,
        audit: AuditTrail,
        alerts: Alerts,
        clock: Clock,
    ) -> None:
        self._catalog = catalog
        self._overview = overview
        self._objects = objects
        self._kek_jobs = kek_jobs
        self._planner = planner
        self._audit = audit
        self._alerts = alerts
        self._clock = clock

    def handle(self, envelope: Mapping[str, object]) -> None:
        """Do what the event in an envelope of either schema calls for; nothing, if it is not about the version in use.

        An event that can never be followed is refused for good, with its reason in the log: sending it again is no use.
        What stands in its way is met and told by the scan and the planners, too.

        Transient and Conflict make Event Grid deliver the event again.
        """
        try:
            event = parse(envelope)
            vault = vault_of(event, self._objects.vaults)
            versions = self._objects.versions(event.kind, event.name, vault)
            what_came = self._follow(event, versions) if versions else "the object is gone"
        except (Rejected, Integrity) as error:
            log.error("event refused", extra={"because": str(error)})  # noqa: TRY400 - no bug of ours
            return
        log.info(
            "event handled",
            extra={"object": f"{event.kind}/{event.name}", "happening": event.happening, "came": what_came},
        )

    def _follow(self, event: VaultEvent, versions: Sequence[VaultObject]) -> str:
        newest = versions[-1]
        matching = self._overview.matching(event.kind)
        entry = matching.entry_of(newest)
        if entry is None:
            return self._meet_stranger(matching, newest, event)
        sight = self._overview.sight(entry, versions, event.happening)
        about = newest if event.happening is Happening.NEW_VERSION else sight.version
        if event.version.lower() != about.version:
            return "it is late: that version is not in use any more"
        now = self._clock()
        if event.happening is Happening.NEW_VERSION and self._overview.is_signing_key(newest):
            self._alerts.raise_alert(signing_alert(newest, now))
        for decide in (foreign_alert, lost_alert, disabled_alert, expiry_alert):
            alert = decide(sight, now)
            if alert is not None:
                self._alerts.raise_alert(alert)
        order = order_for(sight, now)
        if order is not None:
            self._planner.ask(sight.rotation or unknown(entry.name, now), order)
        if event.happening is Happening.NEW_VERSION:
            self._welcome(entry, versions)
        return "ordered" if order is not None else "looked at"

    def _meet_stranger(self, matching: Matching, found: VaultObject, event: VaultEvent) -> str:
        if not matching.is_stranger(found):
            return "it is part of another object"
        self._audit.record(unmanaged_event(found, Trigger.VAULT))
        now = self._clock()
        self._alerts.raise_alert(unmanaged_alert(found, now))
        if event.version.lower() == found.version:
            expiry = stranger_expiry_alert(found, now, event.happening)
            if expiry is not None:
                self._alerts.raise_alert(expiry)
        return "the catalog does not know it"

    def _welcome(self, entry: Entry, versions: Sequence[VaultObject]) -> None:
        """A newer version is there: what was said of the one before is over, but for a KEK, which is still in use."""
        if entry.kind is EntryKind.KEK:
            if entry.name == self._catalog.dek.kek:
                self._kek_jobs.plan(entry.name)
            return
        self._alerts.resolve(missing_id(entry, versions[-1].vault))
        for former in versions[-2:-1]:
            for cause in (EXPIRY, OVERDUE, DISABLED):
                self._alerts.resolve(state_id(cause, entry, former.version))
