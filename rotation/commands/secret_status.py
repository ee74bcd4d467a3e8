"""The command `secret status`: where every secret of the catalog stands, or all about one."""

import argparse
import json
from collections.abc import Iterator, Mapping
from typing import Final

from rotation.catalog import PENDING_SUFFIX, SecretPolicy, load
from rotation.commands.grammar import Commands, add_command, add_json
from rotation.commands.ports import Ports
from rotation.commands.secret_orders import policy_of, row_of
from rotation.commands.secret_plan import LABEL, gone
from rotation.commands.tables import Row, labelled, rendered
from rotation.rotators.registry import READERS
from rotation.secret import due
from rotation.secret_progress import waits_for
from rotation.secret_versions import GENERATION_TAG, RESTORES_TAG, STATE_TAG
from rotation.tasks import task_of, text
from shared.errors import Rejected, Transient
from shared.settings import Settings
from shared.values import SLOT_TAG, SecretRotation

_PAGE: Final = 1000


def add_to(secret: Commands) -> None:
    """Put the command into the command line."""
    purpose = "where the rotation of every secret stands and what it waits for, or all about one"
    status = add_command(secret, "status", purpose, _status, sample="secret status orders-database")
    status.add_argument("secret", metavar="NAME", nargs="?", help="name of a secret in the catalog; all unless given")
    add_json(status, "one JSON object a line; with NAME one with all about it")


def _status(options: argparse.Namespace, settings: Settings, ports: Ports) -> Iterator[str]:
    if options.secret is None:
        policies = load(settings.catalog, READERS).secrets
        return rendered(_rows(ports, policies), as_json=options.json)
    policy = policy_of(options.secret, settings)
    row = row_of(ports, policy.name)
    return _in_json(ports, policy, row) if options.json else _in_full(ports, policy, row)


def _rows(ports: Ports, policies: Mapping[str, SecretPolicy]) -> Iterator[Row]:
    stored = {row.name: row for row in _stored(ports)}
    for name in sorted(policies.keys() | stored.keys()):
        row = stored.get(name)
        policy = policies.get(name)
        yield {
            "name": name,
            "phase": row.phase.value if row else "steady",
            "generation": row.generation if row else 0,
            "since": row.phase_since if row else None,
            "due": due(row, policy.entry) if row and policy else None,
            "grace_until": row.grace_until if row else None,
            "waits_for": _waits_for(ports, policy, row),
        }


def _stored(ports: Ports) -> Iterator[SecretRotation]:
    after: str | None = None
    while page := ports.secret_rotations.page(after, _PAGE):
        yield from page
        after = page[-1].name


def _waits_for(ports: Ports, policy: SecretPolicy | None, row: SecretRotation | None) -> str:
    if policy is None:
        return "nobody: the catalog has no such secret any more"
    if row is None:
        return "the first look at it"
    if row.task:
        return f"a person: secret status {row.name}"
    return waits_for(row, policy.entry, ports.clock())


def _in_full(ports: Ports, policy: SecretPolicy, row: SecretRotation) -> Iterator[str]:
    """All about one secret, for people."""
    for name, cell in _facts(ports, policy, row).items():
        if cell is not None and cell != "" and cell is not False:
            yield labelled(name.replace("_", " "), cell, LABEL)
    for name in _objects(policy):
        yield ""
        yield f"versions of {name}"
        try:
            versions = list(_versions(ports, policy, name))
            yield from rendered(versions, as_json=False)
            if not versions and row.current and name == policy.entry.object:
                yield gone(row)
        except (Transient, Rejected) as error:
            yield f"not known: {type(error).__name__}: {error}"


def _in_json(ports: Ports, policy: SecretPolicy, row: SecretRotation) -> Iterator[str]:
    """All about one secret, for programs; without its versions where the vault does not tell them."""
    (line,) = rendered([_facts(ports, policy, row)], as_json=True)
    fields = json.loads(line)
    for key, name in zip(("versions", "aside"), _objects(policy), strict=True):
        # No versions, and one on record as `current`: the secret is gone from the vault.
        try:
            fields[key] = [json.loads(each) for each in rendered(_versions(ports, policy, name), as_json=True)]
        except (Transient, Rejected):
            fields[key] = None
    yield json.dumps(fields)


def _facts(ports: Ports, policy: SecretPolicy, row: SecretRotation) -> Row:
    entry, now = policy.entry, ports.clock()
    is_claimed = row.claimed_until is not None and row.claimed_until > now
    task = task_of(row, policy.parameters)
    return {
        "name": row.name,
        "rotator": policy.rotator,
        "owner": entry.owner,
        "rotates": str(entry.schedule),
        "phase": row.phase.value,
        "phase_since": row.phase_since if row.etag else None,
        "generation": row.generation,
        "waits_for": waits_for(row, entry, now),
        "due": due(row, entry),
        "verdict": row.verdict,
        "trouble": row.trouble,
        "task": text(task) if task else row.task,
        "deadline": task.deadline if task else None,
        "claimed_until": row.claimed_until if is_claimed else None,
        "current": row.current,
        "slot": row.slot,
        "since": row.since,
        "previous": row.previous,
        "previous_slot": row.previous_slot,
        "grace_until": row.grace_until,
        "pending": row.pending,
        "pending_slot": row.pending_slot,
        "order": row.order,
        "trigger": row.trigger,
        "asked_by": row.actor,
        "reason": row.reason,
        "undone_by": row.undone_by,
        "undone_because": row.undone_because,
        "confirmed_by": row.confirmed_by,
        "confirmed_because": row.confirmed_because,
        "compromised": row.compromised,
        "rolled_back": row.rolled_back,
        "confirmed": row.confirmed,
    }


def _objects(policy: SecretPolicy) -> tuple[str, str]:
    """What it is in the vault, and what is set aside for it there."""
    return policy.entry.object, policy.entry.object + PENDING_SUFFIX


def _versions(ports: Ports, policy: SecretPolicy, name: str) -> Iterator[Row]:
    for each in ports.secrets.versions(name, policy.entry.vault):
        made_for = each.tags.get(GENERATION_TAG, "")
        restores = each.tags.get(RESTORES_TAG)
        yield {
            "version": each.version,
            "created": each.created,
            "state": each.tags.get(STATE_TAG, ""),
            "enabled": each.enabled,
            "generation": f"undoes {restores}" if restores else made_for,
            "slot": each.tags.get(SLOT_TAG, ""),
            "expires": each.expires,
        }
