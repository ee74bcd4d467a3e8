"""The command `policies`: where the vaults' own rotation policies are weaker than the catalog, and setting them right.

Each write stands between an intent and an outcome in the audit trail. If we die in between, or the vault's answer is
lost and it cannot be asked, the intent stays open, and the audit trail's watch tells a person.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from rotation.audit import AuditEvent, Outcome
from rotation.audit_job import AuditTrail
from rotation.catalog import Catalog, Entry, EntryKind, load
from rotation.commands.asking import new_request, user
from rotation.commands.grammar import Commands, add_check, add_command, add_json, add_origin
from rotation.commands.ports import Ports
from rotation.commands.tables import Cell, rendered
from rotation.message import Trigger
from rotation.renewal import has_policy, shortfalls, wanted
from rotation.rotators.registry import READERS
from shared.errors import AtpError, Different, Rejected, Transient
from shared.ports import VaultObjects
from shared.settings import Settings
from shared.values import KekRecord, RenewalPolicy

ACTION: Final = "policy.write"


@dataclass(frozen=True, slots=True)
class Drift:
    """The policy of one entry's object, as it is."""

    entry: Entry
    vault: str | None
    policy: RenewalPolicy | None  # None: the vault has no such object

    @property
    def shortfalls(self) -> tuple[str, ...]:
        """In what it is weaker than the catalog."""
        return ("the vault has no such object",) if self.policy is None else shortfalls(self.entry, self.policy)


def add_to(nouns: Commands) -> None:
    """Put the command into the command line."""
    purpose = "where the vaults' rotation policies are weaker than the catalog; --apply sets them right"
    parser = add_command(nouns, "policies", purpose, _policies, sample="policies --apply --reason CHG-1234")
    parser.add_argument("--apply", action="store_true", help="write the policies; without it nothing is changed")
    add_origin(parser, "write rotation policies")
    add_check(parser, "a policy is weaker than the catalog, after --apply: still is")
    add_json(parser)


def _policies(options: argparse.Namespace, settings: Settings, ports: Ports) -> Iterator[str]:
    drifts = list(drifting(load(settings.catalog, READERS), ports))
    errors: list[AtpError] = []
    if options.apply:
        trail = AuditTrail(ports.records, ports.clock)
        writer = Writer(trail, ports.vault_objects, new_request(), options.actor or user(), options.reason)
        drifts = [_applied(writer, drift, errors) for drift in drifts]
    yield from rendered((_row(drift) for drift in drifts), as_json=options.json)
    if errors:
        raise errors[0]
    weak = sum(bool(drift.shortfalls) for drift in drifts)
    if options.check and weak:
        raise Different("policies are weaker than the catalog or missing", objects=weak)


def _applied(writer: "Writer", drift: Drift, errors: list[AtpError]) -> Drift:
    """What the vault has then. What goes wrong with one policy keeps none of the others from being written."""
    try:
        return writer.write(drift) if drift.policy and drift.shortfalls else drift
    except (Rejected, Transient) as error:
        errors.append(error)
        return drift


def drifting(catalog: Catalog, ports: Ports) -> Iterator[Drift]:
    """Every entry whose object has a policy, with what the vault says of it."""
    for entry in catalog.entries.values():
        if not has_policy(entry):
            continue
        vault = _home(ports.keks.read(entry.name)) if entry.kind is EntryKind.KEK else entry.vault
        try:
            policy = ports.vault_objects.renewal(entry.object_kind, entry.object, vault)
        except Rejected:
            policy = None
        yield Drift(entry, vault, policy)


def _home(kek: KekRecord | None) -> str | None:
    """The vault that a KEK's primary version is in."""
    return None if kek is None else kek.pointer.kid.partition("/keys/")[0]


class Writer:
    """Writes policies, on record."""

    def __init__(self, trail: AuditTrail, objects: VaultObjects, request: str, actor: str, reason: str) -> None:
        self._trail = trail
        self._objects = objects
        self._request = request
        self._actor = actor
        self._reason = reason

    def write(self, drift: Drift) -> Drift:
        """Replace a policy that is too weak by what the catalog wants; answers with what the vault has then.

        Rejected if the vault refuses it, Transient if it cannot be told whether it is written.
        """
        # A vault takes no condition with a policy: what somebody has set since the list was made is seen here.
        found = self._now(drift)
        drift = replace(drift, policy=found)
        if not drift.shortfalls:
            return drift
        entry, policy = drift.entry, wanted(drift.entry, found)
        # 1. The intent. If we die behind it, nothing may have happened: the watch tells a person, who looks.
        self._record(entry, policy, Outcome.INTENT)
        # 2. The change. Writing the same again is harmless.
        try:
            self._objects.set_renewal(entry.object_kind, entry.object, policy, drift.vault)
        except Rejected:
            self._record(entry, policy, Outcome.FAILED)
            raise
        except Transient:
            if self._now(drift) == drift.policy:
                self._record(entry, policy, Outcome.FAILED)
                raise
        # 3. The outcome.
        self._record(entry, policy, Outcome.SUCCEEDED)
        return replace(drift, policy=self._now(drift))

    def _now(self, drift: Drift) -> RenewalPolicy:
        return self._objects.renewal(drift.entry.object_kind, drift.entry.object, drift.vault)

    def _record(self, entry: Entry, policy: RenewalPolicy, outcome: Outcome) -> None:
        subject = f"{entry.object_kind}/{entry.object}"
        try:
            event = AuditEvent(
                job=f"{self._request}/{subject}",
                outcome=outcome,
                action=ACTION,
                subject=subject,
                actor=self._actor,
                trigger=Trigger.MANUAL,
                reason=f"{self._reason}: {described(policy)}",
            )
        except ValueError:
            raise Rejected("this name cannot be recorded: say who you are with --actor", subject=subject) from None
        self._trail.record(event)


def described(policy: RenewalPolicy) -> str:
    """A policy in words."""
    parts = {
        "new version after": policy.rotates_after,
        "new version before expiry": policy.rotates_before,
        "expires after": policy.lifetime,
        "notice before expiry": policy.notifies_before,
    }
    return ", ".join(f"{name} {time.days} d" for name, time in parts.items() if time is not None) or "nothing"


def _row(drift: Drift) -> dict[str, Cell]:
    policy, weak = drift.policy, drift.shortfalls
    return {
        "entry": drift.entry.name,
        "kind": drift.entry.kind.value,
        "object": drift.entry.object,
        "policy": described(policy) if policy else None,
        "weaker": "; ".join(weak) or None,
        "to_be": described(wanted(drift.entry, policy)) if policy and weak else None,
    }
