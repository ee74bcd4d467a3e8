"""The commands `tenant ...`."""

import argparse
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Final

from rotation.catalog import load
from rotation.commands.asking import Asked, accepted, follow, new_request, quoted, user
from rotation.commands.grammar import Commands, add_command, add_group, add_json, add_origin, add_wait
from rotation.commands.ports import Ports
from rotation.commands.tables import Row, rendered
from rotation.message import ROTATION_JOBS, Action, Job, Trigger
from rotation.rotators.registry import READERS
from rotation.schedule import rotation_due
from shared.errors import Rejected
from shared.settings import Settings
from shared.values import SHARDS, Tenant, TenantId, TenantState, tenant_id

_PAGE: Final = 1000

_ACTIONS: Final[Mapping[str, tuple[Action, str]]] = {
    "add": (Action.ADD_TENANT, "add tenants, with their first DEK"),
    "rotate": (Action.ROTATE_DEK, "give tenants a new DEK now"),
    "offboard": (Action.OFFBOARD_TENANT, "make tenants read-only; their DEKs are destroyed after the retention period"),
    "reinstate": (Action.REINSTATE_TENANT, "undo an off-boarding before the retention period is over"),
}
_OF_KNOWN: Final = frozenset(action for action, _ in _ACTIONS.values()) - {Action.ADD_TENANT}
"""A slip of the pen in these would end as a dead letter, and wake somebody."""


def add_to(nouns: Commands) -> None:
    """Put the commands into the command line."""
    tenant = add_group(nouns, "tenant", "add, list, rotate, off-board, reinstate tenants", sample="tenant list")
    for verb, (action, purpose) in _ACTIONS.items():
        command = add_command(tenant, verb, purpose, _ask, sample=f"tenant {verb} acme --reason 'ticket 4711' --wait")
        command.add_argument(
            "tenant", nargs="+", help="1 to 64 of a-z 0-9 . _ - beginning and ending with a letter or digit"
        )
        add_origin(command, verb)
        add_wait(command, "the tenants")
        command.set_defaults(action=action)
    purpose = "all tenants, their DEK versions and due dates"
    add_json(add_command(tenant, "list", purpose, _list, sample="tenant list --json"))


def tenants(ports: Ports) -> Iterator[Tenant]:
    """Every tenant there is, shard by shard."""
    for shard in range(SHARDS):
        after = None
        while page := ports.deks.scan(shard, after, _PAGE):
            yield from page
            after = page[-1].tenant
            if len(page) < _PAGE:
                break


def _ask(options: argparse.Namespace, settings: Settings, ports: Ports) -> Iterator[str]:  # noqa: ARG001
    wrong = [text for text in options.tenant if not _is_tenant_id(text)]
    if wrong:
        raise Rejected(
            "not a tenant id: 1 to 64 of a-z 0-9 . _ - beginning and ending with a letter or digit; nothing was asked",
            tenant=quoted(wrong),
        )
    unknown = [text for text in options.tenant if options.action in _OF_KNOWN and not _is_known(ports, tenant_id(text))]
    if unknown:
        raise Rejected("no such tenant; nothing was asked", tenant=quoted(unknown))
    jobs = [_job(options, tenant_id(text)) for text in options.tenant]
    before = {job.tenant: _primary(ports, job.tenant) for job in jobs} if options.wait else {}
    for job in jobs:
        ports.queues.send(ROTATION_JOBS, job.to_json())
        yield f"asked: {job.id}"
    if options.wait:
        asked = [Asked(job.id, job.tenant, partial(_is_done, ports, job, before[job.tenant])) for job in jobs]
        yield from follow(ports, asked, options.wait, "tenants")


def _job(options: argparse.Namespace, tenant: TenantId) -> Job:
    """A job that the app will accept."""
    request = new_request()
    job = Job(options.action, tenant, request, Trigger.MANUAL, options.actor or user(), options.reason)
    return accepted(Job.parse, job.to_json(), request, options.actor)


def _is_tenant_id(text: str) -> bool:
    try:
        tenant_id(text)
    except Rejected:
        return False
    return True


def _is_known(ports: Ports, tenant: TenantId) -> bool:
    return ports.deks.read(tenant) is not None


def _is_done(ports: Ports, job: Job, before: int) -> bool:
    keyring = ports.deks.read(job.tenant)
    return keyring is not None and _shows(keyring.tenant, job.action, before)


def _shows(tenant: Tenant, action: Action, before: int) -> bool:
    """Whether a tenant's row shows what was asked for; `before`: the version of its primary DEK when it was."""
    match action:
        case Action.ROTATE_DEK:
            return tenant.primary > before
        case Action.OFFBOARD_TENANT:
            return tenant.state is not TenantState.ACTIVE
        case _:
            return tenant.state is TenantState.ACTIVE and tenant.primary > 0


def _primary(ports: Ports, tenant: TenantId) -> int:
    keyring = ports.deks.read(tenant)
    return keyring.tenant.primary if keyring else 0


def _list(options: argparse.Namespace, settings: Settings, ports: Ports) -> Iterator[str]:
    policy = load(settings.catalog, READERS).dek

    def rows() -> Iterator[Row]:
        for tenant in tenants(ports):
            rotates = tenant.state is TenantState.ACTIVE and tenant.primary > 0
            yield {
                "tenant": tenant.tenant,
                "state": tenant.state.value,
                "dek": tenant.primary,
                "since": tenant.primary_since,
                "rotates": rotation_due(tenant, policy) if rotates else None,
                "destroyed_after": tenant.destroy_after,
            }

    return rendered(rows(), as_json=options.json)
