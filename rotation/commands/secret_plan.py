"""What `secret rotate --dry-run` says: what would happen. The target is read, and nothing is changed anywhere."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from rotation.catalog import SecretPolicy
from rotation.commands.ports import Ports
from rotation.commands.tables import labelled, minute
from rotation.message import SecretOrder
from rotation.rotators.base import Credential
from rotation.rotators.registry import ROTATORS
from rotation.secret import Decision, will_replace
from rotation.secret_versions import EXPIRES_BEHIND_DUE, Versions
from rotation.tasks import HasTasks
from shared.errors import Rejected, Transient, Waiting
from shared.values import SLOT_TAG, SecretPhase, SecretRotation, SecretVersion

LABEL: Final = 18
"""How wide the column of labels is."""


def planned(
    ports: Ports, policy: SecretPolicy, row: SecretRotation, order: SecretOrder, decision: Decision
) -> Iterator[str]:
    """The lines about an order to rotate, if it were carried out now.

    What keeps it from being carried out is raised at the end: Transient, Rejected.
    """
    begins = not will_replace(row)
    is_by_hand = isinstance(policy.parameters, HasTasks)
    entry, now = policy.entry, ports.clock()
    grace = timedelta() if order.compromised else entry.grace
    due = entry.schedule.next_after(now)
    yield labelled("name", policy.name, LABEL)
    yield labelled("rotator", policy.rotator, LABEL)
    yield labelled("what happens", _comes_to(decision, begins=begins), LABEL)
    if is_by_hand and (begins or row.phase is SecretPhase.INTENDED):
        yield labelled("waits for", "a person to make the new value and to hand it over by `secret drop`", LABEL)
    is_first = False
    problem: Transient | Rejected | None = None
    try:
        versions = Versions(ports.secrets, policy.entry, ports.clock)
        newest = versions.newest()
        is_first = newest is None and not row.current
        yield from _read(ports, policy, row, versions, newest, begins=begins)
    except (Transient, Rejected) as error:
        problem = error
        yield labelled("not known", f"vault or target cannot be asked: {type(error).__name__}: {error}", LABEL)
    except Waiting as task:
        yield labelled("waits for", f"a person: {task}", LABEL)
    if is_first:
        yield labelled("dual running", "none: it is the first one", LABEL)
    else:
        running = f"{grace.days} days" if grace else "none: the one in use is revoked at once"
        yield labelled("dual running", running, LABEL)
        who = ", by a person who says so by `secret confirm`" if is_by_hand else ""
        yield labelled("revoked after", f"{minute(now + grace)} UTC{who}", LABEL)
    yield labelled("due next", f"{minute(due)} UTC, {entry.schedule}", LABEL)
    yield labelled("expires", due + EXPIRES_BEHIND_DUE, LABEL)
    yield "nothing was changed, nothing was asked"
    if problem is not None:
        raise problem


def _comes_to(decision: Decision, *, begins: bool) -> str:
    if decision is Decision.BEGIN:
        return "a new rotation begins"
    if begins:
        return "the dual running ends at once, and a new rotation begins"
    return "the rotation under way ends without dual running, and no other begins"


def gone(row: SecretRotation) -> str:
    """What there is to say of a secret that is on record, and of which the vault has no version."""
    return (
        f"the vault has no version, and {row.current} is on record: recover it, "
        "or store a value that works if it was purged; nothing can be rotated before"
    )


def _read(
    ports: Ports,
    policy: SecretPolicy,
    row: SecretRotation,
    versions: Versions,
    newest: SecretVersion | None,
    *,
    begins: bool,
) -> Iterator[str]:
    """What vault and target say."""
    if newest is None and row.current:
        yield labelled("current version", gone(row), LABEL)
        raise Rejected("the vault has no version of the secret", name=policy.name, current=row.current)
    if newest is None:
        yield labelled("current version", "none", LABEL)
    else:
        age = ports.clock() - newest.created
        yield labelled("current version", f"{newest.version}, {age.days} days old", LABEL)
    rotator = ROTATORS[policy.rotator].make(policy.name, policy.parameters, ports.surroundings(policy))
    current = None
    if newest is not None:
        value = versions.value(newest.version)
        current = Credential(newest.tags.get(SLOT_TAG) or rotator.locate(value), value)
        yield labelled("its slot", current.slot, LABEL)
    generation = max(row.generation, versions.newest_generation()) + 1
    slot = rotator.place(current, generation).slot if begins else row.pending_slot
    rotator.rehearse(slot, current)
    yield labelled("new slot", slot or "named by the service when it makes the credential", LABEL)
