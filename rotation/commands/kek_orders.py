"""The commands `kek rotate`, `pause`, `resume` and `rollback`: orders for the rotation of a KEK.

What the app would refuse is refused here at once where the stored run shows it, so that nobody has to look for a dead
letter; the app decides again when the order gets there.
"""

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Final

from rotation.catalog import KekPolicy, load
from rotation.commands.asking import Asked, accepted, follow, new_request, quoted, user
from rotation.commands.grammar import Commands, add_command, add_origin, add_wait, number
from rotation.commands.ports import Ports
from rotation.kek import FINAL, TASKS, decide, is_stuck, move_for, started
from rotation.message import KEK_ORDERS, KekAction, KekOrder, Trigger
from rotation.rotators.registry import READERS
from shared.errors import Rejected
from shared.settings import Settings
from shared.values import SHARDS, KekRecord, KekRun, KeyKind, KeyShape, Kid, Phase, TenantId

MAX_DEADLINE_H: Final = 24 * 365

_CHANGES: Final[Mapping[str, tuple[KekAction, str, str]]] = {
    "pause": (KekAction.PAUSE, "let a rotation stand where it is", "kek pause master-kek --reason 'ticket 4711'"),
    "resume": (
        KekAction.RESUME,
        "go on after a pause, walk again after shards have stopped, or let a part that was rolled back alone rejoin",
        "kek resume master-kek --shard 7 --wait",
    ),
    "rollback": (
        KekAction.ROLLBACK,
        "go back to the old version: all tenants, one shard, or one tenant",
        "kek rollback master-kek --tenant acme --reason 'ticket 4711' --wait",
    ),
}


def add_to(kek: Commands) -> None:
    """Put the commands into the command line."""
    sample = "kek rotate master-kek --deadline 4 --reason 'ticket 4711' --wait"
    rotate = add_command(kek, "rotate", "put every DEK under a new version of the KEK", _ask, sample=sample)
    add_name(rotate)
    rotate.add_argument(
        "--kid",
        help="a version that exists already, https://<vault>/keys/<name>/<version>; not with --kind, --bits, --vault",
    )
    add_new_version(rotate)
    rotate.add_argument("--compromised", action="store_true", help="the old version is in wrong hands: no way back")
    add_origin(rotate, "rotate")
    add_wait(rotate, "the name")
    rotate.set_defaults(action=KekAction.ROTATE, shard=None, tenant=None)
    for verb, (action, purpose, sample) in _CHANGES.items():
        change = add_command(kek, verb, purpose, _ask, sample=sample)
        add_name(change)
        change.set_defaults(action=action, kid=None, kind=None, bits=None, vault=None, deadline=None, compromised=False)
        if action is KekAction.PAUSE:
            change.set_defaults(shard=None, tenant=None)
        else:
            part = change.add_mutually_exclusive_group()
            shard = number("the number of a shard", SHARDS - 1, least=0)
            part.add_argument("--shard", type=shard, help=f"this shard alone, 0 to {SHARDS - 1}")
            part.add_argument("--tenant", help="this tenant alone")
        add_origin(change, verb)
        add_wait(change, "the name")


def add_name(parser: argparse.ArgumentParser) -> None:
    """The argument that names the KEK."""
    parser.add_argument("kek", metavar="NAME", help="name of the KEK in the catalog")


def add_new_version(parser: argparse.ArgumentParser) -> None:
    """The options that say what the new version is to be, and by when."""
    parser.add_argument("--kind", choices=[kind.value for kind in KeyKind], help="of the new version; default: as now")
    parser.add_argument(
        "--bits",
        type=number("a number of bits", 4096),
        help="of the new version, with --kind: 2048, 3072 or 4096; oct-HSM: 256",
    )
    parser.add_argument("--vault", metavar="URL", help="where to make the new version; default: where the old one is")
    hours = number("a whole number of hours", MAX_DEADLINE_H)
    parser.add_argument(
        "--deadline",
        type=hours,
        metavar="HOURS",
        help="refuse if the vault's quota cannot sweep and scrub in that time",
    )


def policy_of(name: str, settings: Settings) -> KekPolicy:
    """The KEK's entry in the catalog; Rejected if it has none."""
    policies = load(settings.catalog, READERS).keks
    if name not in policies:
        raise Rejected("the catalog has no KEK of that name", kek=quoted([name]), known=", ".join(sorted(policies)))
    return policies[name]


def order_from(options: argparse.Namespace, request: str, settings: Settings) -> KekOrder:
    """The order in the options, as the app will read it; Rejected or InvalidMessage if it would refuse it."""
    if (options.kind is None) != (options.bits is None):
        raise Rejected("--kind and --bits go together", kind=options.kind, bits=options.bits)
    vaults = (settings.vault_url, *settings.more_vault_urls)
    if options.vault is not None and options.vault.rstrip("/") not in vaults:
        raise Rejected("the vault is not one of the configured ones", vault=options.vault, known=", ".join(vaults))
    order = KekOrder(
        action=options.action,
        kek=options.kek,
        request=request,
        trigger=Trigger.MANUAL,
        actor=options.actor or user(),
        reason=options.reason,
        kid=Kid(options.kid) if options.kid is not None else None,
        shape=KeyShape(KeyKind(options.kind), options.bits) if options.kind is not None else None,
        vault=options.vault.rstrip("/") if options.vault is not None else None,
        deadline_hours=options.deadline,
        compromised=options.compromised,
        shard=options.shard,
        tenant=TenantId(options.tenant) if options.tenant is not None else None,
    )
    return accepted(KekOrder.parse, order.to_json(), request, options.actor)


def run_of(record: KekRecord | None, name: str) -> KekRun:
    """The newest rotation of a KEK; Rejected if there was none."""
    if record is None or record.run is None:
        raise Rejected("this KEK has never been rotated", kek=name)
    return record.run


def _ask(options: argparse.Namespace, settings: Settings, ports: Ports) -> Iterator[str]:
    policy = policy_of(options.kek, settings)
    name = policy.name
    order = order_from(options, new_request(), settings)
    record = ports.keks.read(name)
    if order.action is not KekAction.ROTATE:
        order = replace(order, generation=run_of(record, name).generation)
    if not _would_change(ports, policy, record, order):
        yield f"it is so already, nothing was asked: {order.action} {name}"
        return
    ports.queues.send(KEK_ORDERS, order.to_json())
    yield f"asked: {order.id}"
    if options.wait:
        asked = Asked(order.id, name, partial(_is_done, ports, order, record.run if record else None))
        yield from follow(ports, [asked], options.wait, "kek")
        if order.action is KekAction.ROTATE:
            yield f"the rotation has begun; to see how far it is: kek status {name} --watch"


def _would_change(ports: Ports, policy: KekPolicy, record: KekRecord | None, order: KekOrder) -> bool:
    """Whether there is something to do; Rejected if the app would refuse it."""
    if order.action is KekAction.ROTATE:
        if order.kid is not None and f"/keys/{order.kek}/" not in order.kid:
            raise Rejected("the version is one of another key", kid=order.kid, kek=order.kek)
        if record is not None:
            started(record, order, ports.clock())
        return True
    run = run_of(record, order.kek)
    if run.phase in FINAL and not (order.action is KekAction.ROLLBACK and run.phase is Phase.ROLLED_BACK):
        raise Rejected("the rotation is over", run=run.id, phase=run.phase.value)
    if order.tenant is not None and ports.deks.read(order.tenant) is None:
        raise Rejected("no such tenant", tenant=order.tenant)
    return run.move is not None or move_for(run, order, stuck=_is_stuck(ports, policy, run)) is not None


def _is_stuck(ports: Ports, policy: KekPolicy, run: KekRun) -> bool:
    progress = ports.shards.of_pass(run.id, run.pass_number) if run.phase in TASKS else ()
    decision = decide(run, progress, (), policy, ports.clock())
    return is_stuck(progress, decision)


def _is_done(ports: Ports, order: KekOrder, before: KekRun | None) -> bool:
    record = ports.keks.read(order.kek)
    return record is not None and record.run is not None and shows(record.run, order, before)


def shows(run: KekRun, order: KekOrder, before: KekRun | None) -> bool:
    """Whether the run shows what was ordered; `before`: the newest run when it was."""
    match order.action:
        case KekAction.ROTATE:
            return run.request == order.id and run.step > 0
        case KekAction.PAUSE:
            return run.phase is Phase.PAUSED
        case KekAction.RESUME if order.shard is None and order.tenant is None:
            return run.phase is not Phase.PAUSED and (before is None or run.step > before.step)
        case KekAction.RESUME:
            return order.shard not in run.held_shards and order.tenant not in run.held_tenants
        case _ if order.shard is None and order.tenant is None:
            return run.phase in (Phase.ROLLING_BACK, Phase.ROLLED_BACK)
        case _:
            return order.shard in run.held_shards or order.tenant in run.held_tenants
