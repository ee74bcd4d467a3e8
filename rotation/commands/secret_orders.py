"""The commands `secret rotate`, `rollback` and `confirm`: orders for the rotation of a secret.

What the app would refuse is refused here at once where the stored row shows it; the app decides again when the order
gets there.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from rotation.catalog import SecretPolicy, load
from rotation.commands.asking import Asked, accepted, follow, new_request, quoted, user
from rotation.commands.grammar import Commands, add_command, add_origin, add_wait
from rotation.commands.ports import Ports
from rotation.commands.secret_plan import planned
from rotation.message import SECRET_JOBS, SecretAction, SecretOrder, Trigger
from rotation.rotators.registry import READERS
from rotation.secret import Decision, decide, unknown, will_replace
from rotation.secret_progress import has_failed, is_published, is_rolled_back
from shared.errors import Rejected, Waiting
from shared.settings import Settings
from shared.values import SecretRotation


def add_to(secret: Commands) -> None:
    """Put the commands into the command line."""
    purpose = "give consumers a new credential; the one before works until the dual running is over"
    sample = "secret rotate orders-database --reason 'ticket 4711' --wait"
    rotate = add_command(secret, "rotate", purpose, _ask, sample=sample)
    add_name(rotate)
    rotate.add_argument(
        "--compromised", action="store_true", help="the one in use is in wrong hands: no dual running, no way back"
    )
    rotate.add_argument(
        "--dry-run", action="store_true", help="say what would happen; the target is only read, nothing is changed"
    )
    add_origin(rotate, "rotate")
    add_wait(rotate, "the name")
    rotate.set_defaults(action=SecretAction.ROTATE)

    purpose = "undo the newest rotation, as long as the credential before works"
    sample = "secret rollback orders-database --reason 'ticket 4711' --wait"
    rollback = add_command(secret, "rollback", purpose, _ask, sample=sample)
    add_name(rollback)
    add_origin(rollback, "roll back")
    add_wait(rollback, "the name")
    rollback.set_defaults(action=SecretAction.ROLLBACK, compromised=False, dry_run=False)

    purpose = "say that a person has revoked the credential that a task names, where only a person can"
    sample = "secret confirm partner-api-admin --reason 'ticket 4711'"
    confirm = add_command(secret, "confirm", purpose, _ask, sample=sample)
    add_name(confirm)
    add_origin(confirm, "confirm")
    confirm.set_defaults(action=SecretAction.CONFIRM, compromised=False, dry_run=False, wait=None)


def add_name(parser: argparse.ArgumentParser) -> None:
    """The argument that names the secret."""
    parser.add_argument("secret", metavar="NAME", help="name of the secret in the catalog")


def policy_of(name: str, settings: Settings) -> SecretPolicy:
    """The secret's entry in the catalog; Rejected if it has none."""
    policies = load(settings.catalog, READERS).secrets
    if name not in policies:
        known = ", ".join(sorted(policies)) or "none"
        raise Rejected("the catalog has no secret of that name", entry=quoted([name]), known=known)
    return policies[name]


def row_of(ports: Ports, name: str) -> SecretRotation:
    """Where the secret stands."""
    return ports.secret_rotations.read(name) or unknown(name, ports.clock())


def order_from(options: argparse.Namespace, action: SecretAction, **fields: object) -> SecretOrder:
    """The order in the options, as the app will read it; Rejected or InvalidMessage if it would refuse it."""
    order = SecretOrder(
        action=action,
        secret=options.secret,
        request=new_request(),
        trigger=Trigger.MANUAL,
        actor=options.actor or user(),
        reason=options.reason,
    )
    order = replace(order, **fields)  # type: ignore[arg-type] # any field, by name
    return accepted(SecretOrder.parse, order.to_json(), order.request, options.actor)


def _ask(options: argparse.Namespace, settings: Settings, ports: Ports) -> Iterator[str]:
    policy = policy_of(options.secret, settings)
    row = row_of(ports, policy.name)
    rotates = options.action is SecretAction.ROTATE
    generation = None if rotates else row.generation
    order = order_from(options, options.action, generation=generation, compromised=options.compromised)
    decision = decide(row, order)
    if options.dry_run:
        yield from planned(ports, policy, row, order, decision)
        return
    if decision in (Decision.NOTHING, Decision.DRIVE):
        if order.action is SecretAction.CONFIRM:
            raise Rejected("nothing waits to be confirmed; nothing was asked", entry=order.secret)
        yield f"it is so already, nothing was asked: {order.action} {order.secret}"
        return
    ports.queues.send(SECRET_JOBS, order.to_json())
    yield f"asked: {order.id}"
    if options.wait:
        asked = Asked(order.id, policy.name, partial(_is_done, ports, order, row))
        yield from follow(ports, [asked], options.wait, "entry")


def _is_done(ports: Ports, order: SecretOrder, before: SecretRotation) -> bool:
    row = ports.secret_rotations.read(order.secret)
    return row is not None and shows(row, order, before)


def shows(row: SecretRotation, order: SecretOrder, before: SecretRotation) -> bool:
    """Whether the row shows what was ordered; `before`: the row when it was.

    Rejected if the rotation was given up, Waiting if it is a person's turn.
    """
    if order.action is SecretAction.ROLLBACK:
        return row.generation == order.generation and is_rolled_back(row)
    is_hastened = will_replace(before) and row.compromised and row.generation == before.generation
    is_meant = row.order == order.id or is_hastened
    if is_meant and has_failed(row):
        raise Rejected("the rotation was given up, the credential in use works on", because=row.verdict)
    if is_meant and is_published(row):
        return True
    if row.task:
        raise Waiting("asked; it is a person's turn", task=row.task)
    return False
