"""The rotation of a secret: pure decisions, from its row, an order and now.

    STEADY -> INTENDED -> STAGED -> INSTALLED -> TESTED -> GRACE -> REVOKING -> STEADY

Two credentials take turns. While a rotation is under way the one in use is never touched; the new one is tried before
anybody is given it; the one before works until the dual running is over, and then provably no more. Until then there
is a way back: before the publication the new one is abandoned, after it the two change places.

`rotation/secret_job.py` carries it out.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Final

from rotation.catalog import Entry, SecretPolicy
from rotation.message import SecretAction, SecretOrder, Trigger
from shared.errors import Integrity, Rejected
from shared.values import SecretPhase, SecretRotation

MOVES: Final[Mapping[SecretPhase, frozenset[SecretPhase]]] = {
    SecretPhase.STEADY: frozenset({SecretPhase.INTENDED, SecretPhase.GRACE}),
    SecretPhase.INTENDED: frozenset({SecretPhase.STAGED, SecretPhase.ABANDONING}),
    SecretPhase.STAGED: frozenset({SecretPhase.INSTALLED, SecretPhase.INTENDED, SecretPhase.ABANDONING}),
    SecretPhase.INSTALLED: frozenset({SecretPhase.TESTED, SecretPhase.ABANDONING}),
    SecretPhase.TESTED: frozenset({SecretPhase.GRACE, SecretPhase.ABANDONING}),
    SecretPhase.GRACE: frozenset({SecretPhase.RESTORING, SecretPhase.REVOKING, SecretPhase.STEADY}),
    SecretPhase.RESTORING: frozenset({SecretPhase.GRACE}),
    SecretPhase.REVOKING: frozenset({SecretPhase.STEADY}),
    SecretPhase.ABANDONING: frozenset({SecretPhase.STEADY}),
}
"""The diagram in docs/architecture.md is drawn from this table. Storage enforces the same move with an ETag."""

_UNPUBLISHED: Final = (SecretPhase.INTENDED, SecretPhase.STAGED, SecretPhase.INSTALLED)

CLAIM: Final = timedelta(minutes=5)
"""For how long one worker has a secret to itself. It is renewed at every step."""
CLAIM_MARGIN: Final = timedelta(minutes=2)
"""No step begins with less of the claim left: the longest that a step takes."""
SETTLING: Final = timedelta(minutes=10)
"""For how long a target may refuse a new credential, or accept a revoked one, until that is taken for its answer."""
LONGEST_CLAIM: Final = timedelta(hours=1)
"""A claim that is to last longer was made by a wrong clock, and keeps nobody away."""
ASKED_AGAIN_AFTER: Final = timedelta(hours=1)
"""When an order that nothing came of is sent again."""
TRIED_AGAIN_AFTER: Final = timedelta(days=1)
"""How long a rotation that has ended without a new credential is left alone before the planner begins the next one."""
STALLED_AFTER: Final = timedelta(days=1)
"""A rotation that stands for so long in a phase that takes minutes needs a person."""


class Decision(Enum):
    """What an order comes to."""

    BEGIN = auto()  # a new rotation
    DRIVE = auto()  # bring the one that is under way as far as it gets
    HASTEN = auto()  # without dual running: what consumers use is compromised
    RESTORE = auto()  # current and previous change places
    ABANDON = auto()
    CONFIRM = auto()  # a person has revoked the previous one, or the new one of a rotation that is given up
    NOTHING = auto()  # it was done, or is not needed any more


def unknown(name: str, now: datetime) -> SecretRotation:
    """The row of a secret that nobody has looked at."""
    return SecretRotation(name, SecretPhase.STEADY, now, generation=0)


def moved(rotation: SecretRotation, phase: SecretPhase, now: datetime, **changes: object) -> SecretRotation:
    """The row in another phase. Integrity if the table has no such move."""
    if phase not in MOVES[rotation.phase]:
        raise Integrity("a secret's rotation cannot make this move", old=rotation.phase, new=phase)
    return replace(rotation, phase=phase, phase_since=now, task="", trouble="", **changes)  # type: ignore[arg-type] # by name


def diagram() -> str:
    """The table as a Mermaid state diagram, as it stands in docs/architecture.md."""
    arrows = [f"    {old} --> {new}" for old, targets in MOVES.items() for new in SecretPhase if new in targets]
    return "\n".join(["stateDiagram-v2", "    [*] --> steady", *arrows])


def decide(rotation: SecretRotation, order: SecretOrder) -> Decision:
    """What the order comes to. Rejected where it must not be done."""
    match order.action:
        case SecretAction.DRIVE:
            return Decision.DRIVE if order.generation == rotation.generation else Decision.NOTHING
        case SecretAction.ROTATE:
            return _rotate(rotation, order)
        case SecretAction.ROLLBACK:
            return _roll_back(rotation, order)
        case SecretAction.CONFIRM:
            if order.generation != rotation.generation or rotation.phase is SecretPhase.STEADY:
                return Decision.NOTHING
            if rotation.phase not in (SecretPhase.REVOKING, SecretPhase.ABANDONING):
                raise Rejected("there is nothing to confirm yet", entry=rotation.name, phase=rotation.phase)
            return Decision.CONFIRM


def _rotate(rotation: SecretRotation, order: SecretOrder) -> Decision:
    if rotation.order == order.id:
        return Decision.DRIVE
    if order.generation is not None and order.generation <= rotation.generation and not order.compromised:
        return Decision.NOTHING  # another order was first
    if rotation.phase is SecretPhase.STEADY:
        return Decision.BEGIN
    if order.compromised:
        return Decision.HASTEN
    if order.trigger is not Trigger.MANUAL:
        return Decision.NOTHING
    raise Rejected(
        "another rotation of this secret is not over", entry=rotation.name, phase=rotation.phase, **_until(rotation)
    )


def _until(rotation: SecretRotation) -> Mapping[str, str]:
    """When the dual running is over, if that is what the rotation waits for."""
    if rotation.phase is not SecretPhase.GRACE or rotation.grace_until is None:
        return {}
    return {"until": f"{rotation.grace_until:%Y-%m-%d %H:%M} UTC"}


def _roll_back(rotation: SecretRotation, order: SecretOrder) -> Decision:
    if order.generation != rotation.generation:
        raise Rejected("that is not the newest rotation", entry=rotation.name, newest=rotation.generation)
    if rotation.rolled_back or rotation.phase is SecretPhase.RESTORING:
        return Decision.DRIVE
    if rotation.phase in (*_UNPUBLISHED, SecretPhase.ABANDONING):
        return Decision.ABANDON
    if rotation.compromised:
        raise Rejected("there is no way back to a compromised credential", entry=rotation.name)
    if (rotation.phase is SecretPhase.TESTED and rotation.current) or (
        rotation.phase is SecretPhase.GRACE and rotation.previous
    ):
        return Decision.RESTORE
    if rotation.phase is SecretPhase.REVOKING:
        raise Rejected("it is too late to go back: the credential before is being revoked", entry=rotation.name)
    raise Rejected("there is nothing to go back to", entry=rotation.name, phase=rotation.phase)


def begun(rotation: SecretRotation, order: SecretOrder, slot: str, before: str, now: datetime) -> SecretRotation:
    """The row with a new rotation, whose credential goes into that slot."""
    return moved(
        rotation,
        SecretPhase.INTENDED,
        now,
        generation=rotation.generation + 1,
        pending="",
        pending_slot=slot,
        before=before,
        order=order.id,
        actor=order.actor,
        trigger=order.trigger.value,
        reason=order.reason,
        compromised=order.compromised,
        rolled_back=False,
        announced=False,
        confirmed=False,
        verdict="",
        **_of_nobody(),
    )


def will_replace(rotation: SecretRotation) -> bool:
    """Whether the rotation that is under way will replace what consumers use now."""
    return rotation.phase in (*_UNPUBLISHED, SecretPhase.TESTED)


def taken_over(rotation: SecretRotation, order: SecretOrder) -> SecretRotation:
    """The row with the rotation under way as that of another order, to which what consumers use is compromised."""
    return replace(
        rotation,
        order=order.id,
        actor=order.actor,
        trigger=order.trigger.value,
        reason=order.reason,
        compromised=True,
    )


def found(
    rotation: SecretRotation, previous: str, slot: str, since: datetime, until: datetime, now: datetime, *, back: bool
) -> SecretRotation:
    """The row in the dual running that the vault tells of; `back`: after a rollback. It had been lost."""
    return moved(
        rotation,
        SecretPhase.GRACE,
        now,
        previous=previous,
        previous_slot=slot,
        previous_since=since,
        grace_until=until,
        order=f"{SecretAction.ROTATE}/{rotation.name}/g{rotation.generation}",
        actor="planner",
        trigger=Trigger.SCHEDULE.value,
        reason="dual running was found in the vault and not on record",
        compromised=False,
        rolled_back=back,
        announced=False,
        confirmed=False,
        verdict="",
        **_of_nobody(),
    )


def undone_by(order: SecretOrder) -> dict[str, str]:
    """The columns that say who has ordered the rollback, and why. Who ordered the rotation is in others."""
    return {"undone_by": order.actor, "undone_trigger": order.trigger.value, "undone_because": order.reason}


def confirmed_by(order: SecretOrder) -> dict[str, str]:
    """The columns that say who has confirmed a revocation, and why."""
    return {"confirmed_by": order.actor, "confirmed_trigger": order.trigger.value, "confirmed_because": order.reason}


def _of_nobody() -> dict[str, str]:
    """The same columns when nobody has ordered either."""
    columns = ("by", "trigger", "because")
    return {f"{what}_{column}": "" for what in ("undone", "confirmed") for column in columns}


def published(rotation: SecretRotation, policy: SecretPolicy, version: str, now: datetime) -> SecretRotation:
    """The row once consumers are given the new credential as `version`."""
    grace = policy.entry.grace if rotation.current and not rotation.compromised else timedelta()
    return moved(
        rotation,
        SecretPhase.GRACE,
        now,
        previous=rotation.current,
        previous_slot=rotation.slot,
        previous_since=rotation.since,
        current=version,
        slot=rotation.pending_slot,
        since=now,
        grace_until=now + grace,
    )


def restored(rotation: SecretRotation, policy: SecretPolicy, version: str, now: datetime) -> SecretRotation:
    """The row once consumers are given the credential before again, as `version`; the other one gets a grace period."""
    return moved(
        rotation,
        SecretPhase.GRACE,
        now,
        previous=rotation.current,
        previous_slot=rotation.slot,
        previous_since=rotation.since,
        current=version,
        slot=rotation.previous_slot,
        since=rotation.previous_since,
        grace_until=now + policy.entry.grace,
        rolled_back=True,
        announced=False,
        verdict="rolled back",
    )


def ended(rotation: SecretRotation, now: datetime, verdict: str) -> SecretRotation:
    """The row when nothing is under way any more."""
    return moved(
        rotation,
        SecretPhase.STEADY,
        now,
        previous="",
        previous_slot="",
        previous_since=None,
        grace_until=None,
        pending="",
        pending_slot="",
        before="",
        verdict=verdict,
    )


def due(rotation: SecretRotation, entry: Entry) -> datetime | None:
    """When the secret must be rotated; None as long as there is none."""
    return entry.schedule.next_after(rotation.since) if rotation.current and rotation.since else None


def next_order(rotation: SecretRotation, entry: Entry, now: datetime) -> SecretOrder | None:
    """What the planner has to ask for, None if nothing: the same order for as long as it was not done."""
    if is_claimed(rotation, now):
        return None  # and no word in the row: its worker would take that for somebody else's work
    generation = rotation.generation
    if rotation.phase is SecretPhase.STEADY:
        when = due(rotation, entry)
        if when is None:
            reason = "the vault is asked whether there is a secret now"
            return _planned(SecretAction.DRIVE, entry.name, f"look-{now:%Y%m%d}", generation, reason)
        if now < when or (rotation.order and abs(now - rotation.phase_since) < TRIED_AGAIN_AFTER):
            return None
        target = generation + 1
        return _planned(SecretAction.ROTATE, entry.name, f"g{target}", target, "rotation interval is over")
    if rotation.phase is SecretPhase.GRACE and rotation.announced and not is_grace_over(rotation, now):
        return None
    request = f"g{generation}-{rotation.phase}"
    return _planned(SecretAction.DRIVE, entry.name, request, generation, "a rotation is not over")


def is_confirmed(rotation: SecretRotation, slot: str) -> bool:
    """Whether a person has said that the credential in that slot was revoked."""
    given_up = rotation.phase is SecretPhase.ABANDONING
    return rotation.confirmed and slot == (rotation.pending_slot if given_up else rotation.previous_slot)


def is_grace_over(rotation: SecretRotation, now: datetime) -> bool:
    """Whether the credential before is to be revoked."""
    return rotation.grace_until is None or now >= rotation.grace_until


def is_claimed(rotation: SecretRotation, now: datetime) -> bool:
    """Whether a worker has the secret to itself."""
    until = rotation.claimed_until
    return until is not None and now < until <= now + LONGEST_CLAIM


def was_asked(rotation: SecretRotation, order: SecretOrder, now: datetime) -> bool:
    """Whether that very order was sent so lately that it may still be under way."""
    lately = rotation.asked_at is not None and abs(now - rotation.asked_at) < ASKED_AGAIN_AFTER
    return lately and rotation.asked == order.id


def is_stalled(rotation: SecretRotation, now: datetime) -> bool:
    """Whether it stands where nothing but a failure keeps it."""
    if rotation.phase is SecretPhase.STEADY or rotation.task:
        return False
    since = rotation.phase_since
    if rotation.phase is SecretPhase.GRACE and rotation.announced and rotation.grace_until is not None:
        since = max(since, rotation.grace_until)
    return now - since >= STALLED_AFTER


def has_just_ended(rotation: SecretRotation, now: datetime) -> bool:
    """Whether a rotation has ended since the planner ran a few times."""
    is_over = rotation.phase is SecretPhase.STEADY and bool(rotation.order)
    return is_over and now - rotation.phase_since < ASKED_AGAIN_AFTER


def _planned(action: SecretAction, name: str, request: str, generation: int, reason: str) -> SecretOrder:
    return SecretOrder(action, name, request, Trigger.SCHEDULE, "planner", reason, generation)
