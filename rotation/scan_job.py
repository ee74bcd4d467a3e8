"""The daily look at everything that the vaults hold: it finds what no event told.

Events are lost, and never come for what is older than the subscription; this scan does not depend on any. It lists
every vault page by page, alerts and orders what is called for, and resolves what is over. It keeps no state: killed
anywhere and run again, it finds the same, and what was raised or ordered before is raised and ordered once.
"""

import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Final

from rotation.audit_job import AuditTrail
from rotation.catalog import Entry, EntryKind
from rotation.expiry import (
    DISABLED,
    EXPIRY,
    MISSING,
    OVERDUE,
    SKEW,
    UNMANAGED,
    Sight,
    disabled_alert,
    expiry_alert,
    foreign_alert,
    lost_alert,
    missing_alert,
    order_for,
    overdue_alert,
    stranger_expiry_alert,
    unmanaged_alert,
    unmanaged_event,
    unmanaged_id,
)
from rotation.expiry_job import Overview, is_plainly_ours
from rotation.inventory import Matching
from rotation.message import Trigger
from rotation.secret import unknown
from rotation.secret_planner_job import SecretPlanner
from shared.clock import Clock
from shared.errors import AtpError, Conflict, Integrity, Rejected
from shared.ports import Alerts, VaultObjects
from shared.values import Alert, ObjectKind, SecretRotation, Severity, VaultObject

log = logging.getLogger(__name__)

_ALERTS: Final = (disabled_alert, expiry_alert, overdue_alert)
"""What a list of the vault is enough to decide."""
_OF_ONE_OBJECT: Final = (Conflict, Rejected, Integrity, ValueError)
"""Errors that keep no other object from being looked at; ValueError: what is to be recorded of it does not conform."""
_OF_STATE: Final = tuple(f"{cause}/" for cause in (EXPIRY, OVERDUE, DISABLED, MISSING, UNMANAGED))


class VaultScan:
    """Looks at all vaults. Any number may at once."""

    def __init__(
        self,
        overview: Overview,
        objects: VaultObjects,
        planner: SecretPlanner,
        audit: AuditTrail,
        alerts: Alerts,
        clock: Clock,
    ) -> None:
        self._overview = overview
        self._objects = objects
        self._planner = planner
        self._audit = audit
        self._alerts = alerts
        self._clock = clock

    def run(self) -> None:
        """Look at every object. The first error is raised when all vaults had their turn."""
        first: Exception | None = None
        opened: dict[str, Alert] = {}
        try:
            # As it was before the first look: what is raised meanwhile by others is not ours to resolve.
            opened = {alert.id: alert for alert in self._alerts.all() if _is_of_state(alert)}
        except Integrity as error:
            first = error  # a row is damaged: nothing is resolved, and raising again what was raised changes nothing
        looks = [self._scan(_Look(vault, opened)) for vault in self._objects.vaults]
        for noted in (*(look.error for look in looks), self._resolve(looks, opened)):
            first = first or noted
        if first is not None:
            raise first
        log.info("scanned the vaults", extra={"vaults": len(self._objects.vaults)})

    def _scan(self, look: "_Look") -> "_Look":
        for kind in ObjectKind:
            with look.noting(AtpError):  # the app may be kept from listing keys only
                self._scan_kind(look, kind)
        log.info("scanned a vault", extra={"vault": look.vault, "objects": look.objects, "alerts": len(look.kept)})
        if look.error is not None:
            log.warning("a vault was not scanned", extra={"vault": look.vault, "because": str(look.error)})
        return look

    def _scan_kind(self, look: "_Look", kind: ObjectKind) -> None:
        matching = self._overview.matching(kind)
        rotations: Mapping[str, SecretRotation] = {}
        if kind is ObjectKind.SECRET:
            with look.noting(AtpError):  # without them every secret is looked at, each with its own row
                rotations = self._overview.rotations()
        for found in self._objects.of(kind, look.vault):
            look.objects += 1
            with look.noting(*_OF_ONE_OBJECT):
                self._see(look, matching, found, rotations)
        for entry in matching.entries_in(look.vault, kind):
            if entry.name not in look.seen:
                with look.noting(*_OF_ONE_OBJECT):
                    self._miss(look, entry)

    def _see(
        self, look: "_Look", matching: Matching, found: VaultObject, rotations: Mapping[str, SecretRotation]
    ) -> None:
        entry = matching.entry_of(found)
        if entry is not None:
            look.seen.add(entry.name)
            if self._wants_a_look(entry, found, is_ours=is_plainly_ours(found, rotations.get(entry.name))):
                self._look_at(look, entry, found)
        elif matching.is_stranger(found):
            look.kept.add(unmanaged_id(found))
            if unmanaged_id(found) not in look.opened:
                self._audit.record(unmanaged_event(found, Trigger.SCHEDULE))
                self._alerts.raise_alert(unmanaged_alert(found, self._clock()))
            expiry = self._as_told(look, partial(stranger_expiry_alert, found))
            if expiry is not None:
                self._tell(look, expiry)

    def _miss(self, look: "_Look", entry: Entry) -> None:
        if not self._objects.versions(entry.object_kind, entry.object, look.vault):  # nor was it made since the list
            is_used = self._overview.is_used(entry)
            self._tell(look, missing_alert(entry, look.vault, self._clock(), is_used=is_used))

    def _wants_a_look(self, entry: Entry, found: VaultObject, *, is_ours: bool) -> bool:
        """Whether its versions must be read, which a list does not name. Of most objects they need not."""
        if entry.kind is EntryKind.KEK:
            return True  # the version in use may be another one than the newest
        sight = Sight(entry, found, is_ours=is_ours)
        now = self._clock()
        return any(decide(sight, now + SKEW) is not None for decide in (*_ALERTS, order_for))

    def _look_at(self, look: "_Look", entry: Entry, found: VaultObject) -> None:
        versions = self._objects.versions(found.kind, found.name, found.vault)
        if not versions:
            return  # it was deleted since it was listed
        sight, now = self._overview.sight(entry, versions), self._clock()
        for decide in (foreign_alert, lost_alert, *_ALERTS):
            alert = self._as_told(look, partial(decide, sight))
            if alert is not None:
                self._tell(look, alert)
        order = order_for(sight, now)
        if order is not None:
            self._planner.ask(sight.rotation or unknown(entry.name, now), order)

    def _as_told(self, look: "_Look", decide: Callable[[datetime], Alert | None]) -> Alert | None:
        """What there is to tell. What an event has told by the vault's clock, which may be ahead, still holds."""
        now = self._clock()
        ahead = decide(now + SKEW)
        return ahead if ahead is not None and look.has_told(ahead) else decide(now)

    def _tell(self, look: "_Look", alert: Alert) -> None:
        look.kept.add(alert.id)
        if look.has_told(alert):
            return
        if look.has_told_worse(alert):  # an open alert gets no less severe, and what it says is over
            self._alerts.resolve(alert.id)
        self._alerts.raise_alert(alert)

    def _resolve(self, looks: "Sequence[_Look]", opened: Mapping[str, Alert]) -> AtpError | None:
        """What was said of objects and is not true any more; the first error, which keeps no other from being resolved.

        Nothing is over because its vault could not be looked at, but what is about a vault that is none of ours now is.
        """
        first: AtpError | None = None
        kept = set().union(*(look.kept for look in looks))
        unclear = {look.vault for look in looks if look.error is not None}
        for alert in opened.values():
            if alert.id not in kept and alert.details.get("vault") not in unclear:
                try:
                    self._alerts.resolve(alert.id)
                except AtpError as error:
                    first = first or error
        return first


class _Look:
    """One look at one vault."""

    def __init__(self, vault: str, opened: Mapping[str, Alert]) -> None:
        self.vault = vault
        self.opened = opened
        self.seen: set[str] = set()  # names of entries whose object is there
        self.kept: set[str] = set()  # ids of the alerts whose cause was seen
        self.objects = 0
        self.error: Exception | None = None  # the first one

    @contextmanager
    def noting(self, *kinds: type[Exception]) -> Generator[None]:
        """Go on after errors of these kinds, which are noted."""
        try:
            yield
        except kinds as error:
            self.error = self.error or error

    def has_told(self, alert: Alert) -> bool:
        """Whether exactly that was told before."""
        stored = self.opened.get(alert.id)
        return stored is not None and (stored.severity, stored.what) == (alert.severity, alert.what)

    def has_told_worse(self, alert: Alert) -> bool:
        """Whether something more severe was told before: the end was moved, or another version is there."""
        stored = self.opened.get(alert.id)
        return stored is not None and (stored.severity, alert.severity) == (Severity.CRITICAL, Severity.WARNING)


def _is_of_state(alert: Alert) -> bool:
    return alert.resolved is None and alert.id.startswith(_OF_STATE)
