"""The rotation of a KEK, decided: its phases, what each waits for, and what every move changes.

    planned -> canary -> flipped -> sweeping -> scrubbing -> grace -> retiring -> soaking -> closing -> closed

`decide` says what comes next, given the run, the checkpoints of its current pass and the time; `applied` says what a
move changes. Neither does anything: rotation/kek_job.py carries moves out, rotation/rewrap_job.py walks the shards.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Final

from rotation.catalog import KekPolicy
from rotation.manifest import run_root
from rotation.message import KekAction, KekOrder, Trigger
from rotation.quota import Question, vault_of
from rotation.wrapping import may_wrap
from shared.errors import Integrity, Rejected
from shared.values import (
    SHARDS,
    KekRecord,
    KekRun,
    KekUse,
    KekVersion,
    KeyPointer,
    KeyShape,
    Kid,
    Move,
    Phase,
    ShardProgress,
    ShardState,
    shard_of,
)

CLEAN_PASSES: Final = 2
"""Whole passes in a row that must find no old reference before anything is finished."""
_FAN_OUT_TAKES: Final = timedelta(seconds=10)
"""How long whoever began to send every shard its message has for it, before another one begins again."""
UNHEARD_AFTER: Final = timedelta(minutes=10)
"""After which the message of a shard that has not begun is taken for lost and sent again."""
STALE_AFTER: Final = timedelta(minutes=30)
"""The same of a shard that has begun: its message may be put back for up to 19 minutes."""
SETTLE: Final = timedelta(minutes=10)
"""How long after the write target moved a worker may still finish a DEK under the other version, by a wide margin."""
MAX_STALL: Final = timedelta(minutes=5)
"""After which a worker that stood still decides again before it writes; less than SETTLE."""
_PATIENCE_AFTER_COMPROMISE: Final = timedelta(hours=1)
"""How long consumers that still use a version in wrong hands are waited for at most."""

MOVES: Final[Mapping[Phase, frozenset[Phase]]] = {
    Phase.PLANNED: frozenset({Phase.PLANNED, Phase.CANARY, Phase.PAUSED, Phase.ROLLED_BACK, Phase.FAILED}),
    Phase.CANARY: frozenset({Phase.FLIPPED, Phase.PAUSED, Phase.ROLLED_BACK, Phase.FAILED}),
    Phase.FLIPPED: frozenset({Phase.SWEEPING, Phase.PAUSED, Phase.ROLLING_BACK}),
    Phase.SWEEPING: frozenset({Phase.SWEEPING, Phase.SCRUBBING, Phase.PAUSED, Phase.ROLLING_BACK}),
    Phase.SCRUBBING: frozenset({Phase.SCRUBBING, Phase.GRACE, Phase.SWEEPING, Phase.PAUSED, Phase.ROLLING_BACK}),
    Phase.GRACE: frozenset({Phase.RETIRING, Phase.SWEEPING, Phase.PAUSED, Phase.ROLLING_BACK}),
    Phase.RETIRING: frozenset({Phase.RETIRING, Phase.SOAKING, Phase.SWEEPING, Phase.PAUSED, Phase.ROLLING_BACK}),
    Phase.SOAKING: frozenset({Phase.CLOSING, Phase.SWEEPING}),
    Phase.CLOSING: frozenset({Phase.CLOSING, Phase.CLOSED, Phase.SWEEPING}),
    Phase.CLOSED: frozenset(),
    Phase.PAUSED: frozenset(
        {
            Phase.PLANNED,
            Phase.CANARY,
            Phase.FLIPPED,
            Phase.SWEEPING,
            Phase.SCRUBBING,
            Phase.GRACE,
            Phase.RETIRING,
            Phase.ROLLING_BACK,
            Phase.ROLLED_BACK,
        }
    ),
    Phase.ROLLING_BACK: frozenset({Phase.ROLLING_BACK, Phase.ROLLED_BACK, Phase.PAUSED}),
    Phase.ROLLED_BACK: frozenset(),
    Phase.FAILED: frozenset(),
}
"""The one table that decides. A phase that leads to itself begins again: its shards are walked from the start."""

FINAL: Final = frozenset(phase for phase, targets in MOVES.items() if not targets)
_BEFORE_FLIP: Final = frozenset({Phase.PLANNED, Phase.CANARY})
_REVERSIBLE: Final = frozenset(phase for phase, targets in MOVES.items() if Phase.ROLLING_BACK in targets)
_PROVEN: Final = frozenset({Phase.RETIRING, Phase.CLOSING})
"""Walks that change no DEK: the root at the end stays true."""
DISABLED: Final = frozenset({Phase.SOAKING, Phase.CLOSING})
"""Phases in which the old version is disabled and can be enabled again."""
_REWRAPPED: Final = _REVERSIBLE - {Phase.FLIPPED, Phase.PAUSED, Phase.ROLLING_BACK}
"""Phases in which a part of the tenants can go back alone."""


class Task(Enum):
    """What the walk over the shards does with each tenant."""

    FREEZE = auto()  # count its DEKs and put it into the manifest
    SWEEP = auto()  # put its DEKs under the wanted version
    VERIFY = auto()  # compare it with the manifest, open samples
    DROP = auto()  # the same once more, and drop the kept previous wraps of what is proven


TASKS: Final[Mapping[Phase, Task]] = {
    Phase.PLANNED: Task.FREEZE,
    Phase.SWEEPING: Task.SWEEP,
    Phase.SCRUBBING: Task.VERIFY,
    Phase.RETIRING: Task.SWEEP,
    Phase.CLOSING: Task.DROP,
    Phase.ROLLING_BACK: Task.SWEEP,
}
"""The phases that walk over all shards."""


@dataclass(frozen=True, slots=True)
class Advance:
    """Move on."""

    to: Phase
    why: str


@dataclass(frozen=True, slots=True)
class FanOut:
    """Send every shard its message of the current pass."""


@dataclass(frozen=True, slots=True)
class Resend:
    """Send these shards theirs again: nothing was heard of them for long."""

    shards: Sequence[int]


@dataclass(frozen=True, slots=True)
class NextPass:
    """Walk over all shards once more."""

    clean_passes: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do now."""

    why: str
    alarm: bool = False  # a person has to do something


type Decision = Advance | FanOut | Resend | NextPass | Wait


def diagram() -> str:
    """The table as a Mermaid state diagram, as it stands in docs/architecture.md."""
    names = {phase: phase.value.replace("-", "_") for phase in Phase}
    arrows = [
        f"    {names[old]} --> {names[new]}"
        for old, targets in MOVES.items()
        for new in Phase
        if new in targets and new is not old
    ]
    return "\n".join(["stateDiagram-v2", "    [*] --> planned", *arrows])


def is_over(run: KekRun) -> bool:
    """Whether the run has ended, one way or another, and everything of it is recorded."""
    return run.phase in FINAL and run.move is None


def is_stuck(progress: Sequence[ShardProgress], decision: Decision) -> bool:
    """Whether something of the run stands until somebody resumes it."""
    stopped = any(each.state is ShardState.STOPPED for each in progress)
    return stopped or (isinstance(decision, Wait) and decision.alarm)


def is_current(run: KekRun, generation: int, pass_number: int) -> bool:
    """Whether a message of that pass is still to be worked on."""
    return (run.generation, run.pass_number) == (generation, pass_number) and run.phase in TASKS


def decide(
    run: KekRun,
    progress: Sequence[ShardProgress],
    uses: Sequence[KekUse],
    policy: KekPolicy,
    now: datetime,
    *,
    old_enabled: bool = False,
) -> Decision:
    """What comes next. `progress`: the checkpoints of the run's current pass; `uses`: all consumers' reports.

    `old_enabled`: whether the old version is enabled in the vault, although it should be disabled.
    """
    if run.phase in DISABLED and (missed := _missed(run, uses, policy, now, old_enabled=old_enabled)):
        return missed
    if run.phase in TASKS:
        if not run.fanned_out:
            is_claimed = run.resent is not None and now - run.resent < _FAN_OUT_TAKES
            return Wait("every shard is being sent its message") if is_claimed else FanOut()
        unfinished = _unfinished(run, progress, now)
        if unfinished is not None:
            return unfinished
    match run.phase:
        case Phase.PLANNED:
            return _after_freeze(run, progress)
        case Phase.CANARY:
            return Advance(Phase.FLIPPED, "the new version has proved itself")
        case Phase.FLIPPED:
            return Advance(Phase.SWEEPING, "new DEKs are wrapped under the new version")
        case Phase.SWEEPING:
            return _after_sweep(run, progress, Phase.SCRUBBING)
        case Phase.SCRUBBING:
            return _after_comparison(run, progress, Phase.GRACE, "every DEK of the manifest is unchanged")
        case Phase.GRACE:
            return _in_grace(run, uses, policy, now)
        case Phase.RETIRING:
            if _found(progress):
                return Advance(Phase.SWEEPING, "DEKs were found under the old version")
            return _after_sweep(run, progress, Phase.SOAKING)
        case Phase.SOAKING:
            return _in_soak(run, policy, now)
        case Phase.CLOSING:
            return _after_comparison(run, progress, Phase.CLOSED, "the kept previous wraps are dropped")
        case Phase.ROLLING_BACK:
            return _after_rollback(run, progress, now)
        case Phase.PAUSED:
            return Wait("paused by an operator")
        case _:
            return Wait("it is over")


def _unfinished(run: KekRun, progress: Sequence[ShardProgress], now: datetime) -> Decision | None:
    heard = {each.shard: each for each in progress}
    since = max(run.pass_since or run.phase_since, run.resent or run.phase_since)
    still = [shard for shard in range(SHARDS) if shard not in heard or heard[shard].state is ShardState.WORKING]
    if still:
        # Each time twice as late, or an outage of days would end with a flood.
        already = run.resent - (run.pass_since or run.phase_since) if run.resent else timedelta()
        silent = [
            shard
            for shard in still
            if now - max(heard[shard].updated if shard in heard else since, since)
            >= max(already, STALE_AFTER if shard in heard else UNHEARD_AFTER)
        ]
        return Resend(silent) if silent else Wait(f"{SHARDS - len(still)} of {SHARDS} shards are done")
    stopped = [each for each in progress if each.state is ShardState.STOPPED]
    if stopped:
        names = ", ".join(str(each.shard) for each in stopped)
        return Wait(f"shards stopped: {names}: {stopped[0].problem}", alarm=True)
    return None


def _after_freeze(run: KekRun, progress: Sequence[ShardProgress]) -> Decision:
    strangers = sorted({kid for each in progress for kid in each.by_kid if kid != run.old_kid})
    if strangers:
        return Advance(Phase.FAILED, f"DEKs are still wrapped under {strangers[0]}: bring that rotation to its end")
    return Advance(Phase.CANARY, "everything is counted and the manifest is frozen")


def _after_sweep(run: KekRun, progress: Sequence[ShardProgress], to: Phase) -> Decision:
    if _found(progress):
        return NextPass(0)
    if run.clean_passes + 1 < CLEAN_PASSES:
        return NextPass(run.clean_passes + 1)
    if held := _held(run):
        return Wait(f"rolled back and held: {held}")
    return Advance(to, f"{CLEAN_PASSES} passes in a row found no old reference")


def _after_comparison(run: KekRun, progress: Sequence[ShardProgress], to: Phase, why: str) -> Decision:
    if _found(progress):
        return Advance(Phase.SWEEPING, "DEKs were found under the old version")
    root = run_root([each.tree for each in progress]).hex()
    if root != run.root_before:
        return Wait("the manifest is not what it was at the freeze", alarm=True)
    return Advance(to, why)


def _in_grace(run: KekRun, uses: Sequence[KekUse], policy: KekPolicy, now: datetime) -> Decision:
    grace, patience = policy.grace, policy.consumer_timeout
    if run.compromised:
        grace, patience = min(grace, 2 * SETTLE), min(patience, _PATIENCE_AFTER_COMPROMISE)
    end = run.phase_since + grace
    if now < end:
        return Wait(f"grace period until {end:%Y-%m-%d %H:%M} UTC")
    behind = laggards(run, uses)
    if behind and now < end + patience:
        names = ", ".join(use.consumer for use in behind)
        return Wait(f"consumers still use the old version: {names}")
    return Advance(Phase.RETIRING, "the grace period is over")


def laggards(run: KekRun, uses: Sequence[KekUse]) -> Sequence[KekUse]:
    """The consumers whose last report still has the old version in it."""
    return [use for use in uses if run.old_kid in use.kids]


def wants_enabled(run: KekRun) -> bool:
    """Whether the old version must be enabled although the run was about to disable it once.

    A worker that was to disable it may have stood still in that very call, and come to its end only now.
    """
    is_retiring = run.move is not None and run.move.to is Phase.SOAKING
    has_left = run.phase not in (Phase.SOAKING, Phase.CLOSING, Phase.CLOSED) and not is_retiring
    return run.has_retired and not run.compromised and has_left


def complaints(history: Sequence[KekRun], uses: Sequence[KekUse]) -> Sequence[tuple[KekRun, KekUse]]:
    """The reports that a version was refused which a closed run has retired, made since it was closed."""
    closed = [run for run in history if run.phase is Phase.CLOSED]
    return [(run, use) for run in closed for use in uses if run.old_kid in use.refused and use.seen >= run.phase_since]


def _missed(
    run: KekRun, uses: Sequence[KekUse], policy: KekPolicy, now: datetime, *, old_enabled: bool
) -> Decision | None:
    since = run.retired or run.phase_since
    if old_enabled and now >= since + SETTLE:  # before, the vault may answer with what it knew
        if run.compromised:
            return Wait("the compromised version is enabled: disable it", alarm=True)
        return Advance(Phase.SWEEPING, "the old version was enabled, so that nobody can have missed it")
    if run.compromised:
        since = max(since, now - policy.soak)  # nobody enables it, so that an old complaint would stand for ever
    missing = [use.consumer for use in uses if run.old_kid in use.refused and use.seen >= since]
    if not missing:
        return None
    names = ", ".join(missing)
    if run.compromised:
        return Wait(f"the compromised version is missed by {names}: it is not enabled again", alarm=True)
    return Advance(Phase.SWEEPING, f"the old version is missed by {names}"[:200])


def _in_soak(run: KekRun, policy: KekPolicy, now: datetime) -> Decision:
    end = run.phase_since + policy.soak
    if now < end:
        return Wait(f"soaking until {end:%Y-%m-%d %H:%M} UTC")
    return Advance(Phase.CLOSING, "nobody missed the old version")


def _after_rollback(run: KekRun, progress: Sequence[ShardProgress], now: datetime) -> Decision:
    settled = (run.flipped or run.started) + SETTLE
    if _found(progress):
        return NextPass(0)
    if (run.pass_since or run.started) < settled:
        # A worker that had not heard of the rollback may yet finish a DEK under the new version.
        return NextPass(0) if now >= settled else Wait(f"settling until {settled:%H:%M} UTC")
    if run.clean_passes + 1 < CLEAN_PASSES:
        return NextPass(run.clean_passes + 1)
    return Advance(Phase.ROLLED_BACK, f"{CLEAN_PASSES} passes in a row found no DEK under the new version")


def _held(run: KekRun) -> str:
    """The parts that are rolled back and held, for people."""
    return ", ".join([f"shard {each}" for each in run.held_shards] + [f"tenant {each}" for each in run.held_tenants])


def _found(progress: Sequence[ShardProgress]) -> int:
    return sum(each.found for each in progress)


def started(record: KekRecord, order: KekOrder, now: datetime) -> KekRecord:
    """The record with a new run, whose beginning is its first move. Rejected while an older one is not over."""
    pointer, before = record.pointer, record.run
    if before is not None and not is_over(before):
        raise Rejected("another rotation of this KEK is not over", run=before.id, phase=before.phase.value)
    if order.kid == pointer.kid:
        raise Rejected("this KEK version is the primary one already", kid=order.kid)
    run = KekRun(
        kek=pointer.name,
        generation=pointer.generation + 1,
        phase=Phase.PLANNED,
        started=now,
        phase_since=now,
        old_kid=pointer.kid,
        request=order.id,
        new_kid=order.kid,
        shape=order.shape,
        vault=order.vault,
        deadline=now + timedelta(hours=order.deadline_hours) if order.deadline_hours else None,
        compromised=order.compromised,
        move=_asked(Phase.PLANNED, Phase.PLANNED, order),
    )
    return KekRecord(replace(pointer, generation=run.generation), run)


def move_for(run: KekRun, order: KekOrder, *, stuck: bool = False) -> Move | None:
    """The move that an order to pause, resume or roll back asks for; None if it is so already.

    `stuck`: the run waits with an alarm, so that resuming it begins its walk again.
    Rejected where the table does not allow it, or it could lose something.
    """
    match order.action:
        case KekAction.PAUSE:
            return None if run.phase is Phase.PAUSED else _checked(run, _asked(run.phase, Phase.PAUSED, order))
        case KekAction.RESUME:
            return _resumption(run, order, stuck=stuck)
        case _:
            return _rollback(run, order)


def _resumption(run: KekRun, order: KekOrder, *, stuck: bool) -> Move | None:
    if order.shard is not None or order.tenant is not None:
        if order.tenant is not None and (shard := shard_of(order.tenant)) in run.held_shards:
            raise Rejected("the shard of the tenant is rolled back and held: resume the shard", run=run.id, shard=shard)
        if order.shard not in run.held_shards and order.tenant not in run.held_tenants:
            return None
        if run.phase is Phase.PAUSED:
            raise Rejected("the whole rotation is paused: resume it first", run=run.id)
        return _checked(run, _asked(run.phase, Phase.SWEEPING, order))
    if run.phase is Phase.PAUSED:
        return _checked(run, _asked(run.phase, run.resumes or Phase.PLANNED, order))
    if stuck and run.phase in MOVES[run.phase]:
        return _checked(run, _asked(run.phase, run.phase, order))  # what has stopped begins again
    if held := _held(run):
        raise Rejected("a part is rolled back and held: resume that part", run=run.id, held=held)
    return None


def _rollback(run: KekRun, order: KekOrder) -> Move | None:
    if run.compromised:
        raise Rejected("the old KEK version is compromised: there is no way back to it", run=run.id)
    if order.shard is not None or order.tenant is not None:
        if order.shard in run.held_shards or order.tenant in run.held_tenants:
            return None
        if run.phase is Phase.PAUSED:
            raise Rejected("the whole rotation is paused: resume it first", run=run.id)
        if run.phase not in _REWRAPPED:
            raise Rejected(
                "a part can be rolled back only while the run is between its flip and the retirement",
                run=run.id,
                phase=run.phase.value,
            )
        return _checked(run, _asked(run.phase, Phase.SWEEPING, order))
    if run.phase in (Phase.ROLLING_BACK, Phase.ROLLED_BACK):
        return None
    before_flip = run.phase in _BEFORE_FLIP or (run.phase is Phase.PAUSED and run.resumes in _BEFORE_FLIP)
    return _checked(run, _asked(run.phase, Phase.ROLLED_BACK if before_flip else Phase.ROLLING_BACK, order))


def _checked(run: KekRun, move: Move) -> Move:
    if move.to not in MOVES[run.phase]:
        allowed = ", ".join(phase for phase in Phase if move.to in MOVES[phase])
        raise Rejected("the phase does not allow this", run=run.id, phase=run.phase.value, allowed_in=allowed)
    return move


def advance(run: KekRun, decision: Advance) -> Move:
    """The move that a decision of our own makes. Integrity if the table does not have it."""
    if decision.to not in MOVES[run.phase]:
        raise Integrity("a KEK rotation cannot make this move", run=run.id, old=run.phase, new=decision.to)
    job = f"kek.advance/{run.id}/{run.step:04d}"
    return Move(run.phase, decision.to, job, "kek.advance", "worker", Trigger.SCHEDULE, decision.why[:200])


def _asked(at: Phase, to: Phase, order: KekOrder) -> Move:
    return Move(
        at, to, order.id, order.action, order.actor, order.trigger, order.reason, shard=order.shard, tenant=order.tenant
    )


def refused(run: KekRun, move: Move, reason: str, now: datetime) -> KekRun:
    """The run after a move that turned out to be impossible: it has failed, and nothing was changed."""
    failed = replace(move, to=Phase.FAILED, applied=True, failure=reason)
    return replace(run, phase=Phase.FAILED, phase_since=now, step=run.step + 1, verdict=reason, move=failed)


def applied(
    record: KekRecord, run: KekRun, move: Move, progress: Sequence[ShardProgress], new_kid: Kid | None, now: datetime
) -> KekRecord:
    """The record after the move: the run in its new phase, the write target where it belongs.

    `new_kid`: the version made for the run, where the move leads to the canary.
    """
    pointer = record.pointer
    new = replace(run, phase=move.to, phase_since=now, step=run.step + 1, verdict=move.reason)
    new = replace(new, move=replace(move, applied=True), resumes=run.phase if move.to is Phase.PAUSED else None)
    if move.shard is not None or move.tenant is not None:
        new = _with_part(new, move)
    if move.to in TASKS:
        new = next_pass(new, 0, now)
        new = replace(new, root_after=new.root_after if move.to in _PROVEN else "")
        is_closing = move.to is Phase.CLOSING
        new = replace(new, retired=run.retired if is_closing else None, dropping=run.dropping or is_closing)
    match move.to:
        case Phase.CANARY if run.phase is Phase.PLANNED:
            rows = sum(each.rows for each in progress)
            root = run_root([each.tree for each in progress]).hex()
            new = replace(new, rows=rows, root_before=root, new_kid=new_kid)
        case Phase.FLIPPED if run.phase is Phase.CANARY:
            pointer = _pointed(pointer, run.new_kid, None if run.compromised else run.old_kid, now)
            new = replace(new, flipped=now)
        case Phase.GRACE | Phase.CLOSED if run.phase in (Phase.SCRUBBING, Phase.CLOSING):
            new = replace(
                new,
                root_after=run_root([each.tree for each in progress]).hex(),
                births=sum(each.births for each in progress),
                removed=sum(each.removed for each in progress),
            )
        case Phase.SOAKING:
            pointer = replace(pointer, previous_kid=None)
            new = replace(new, retired=now)
        case Phase.ROLLING_BACK:
            pointer = _pointed(pointer, run.old_kid, None, now)
            new = replace(new, flipped=now, held_shards=(), held_tenants=())
    return KekRecord(pointer, new)


def next_pass(run: KekRun, clean_passes: int, now: datetime) -> KekRun:
    """The run about to walk over all shards again."""
    return replace(
        run, pass_number=run.pass_number + 1, pass_since=now, fanned_out=False, resent=None, clean_passes=clean_passes
    )


def _with_part(run: KekRun, move: Move) -> KekRun:
    shards, tenants = set(run.held_shards), set(run.held_tenants)
    holds = move.action == KekAction.ROLLBACK
    if move.shard is not None:
        shards = shards | {move.shard} if holds else shards - {move.shard}
    if move.tenant is not None:
        tenants = tenants | {move.tenant} if holds else tenants - {move.tenant}
    return replace(run, held_shards=tuple(sorted(shards)), held_tenants=tuple(sorted(tenants)))


def _pointed(pointer: KeyPointer, kid: Kid | None, previous: Kid | None, now: datetime) -> KeyPointer:
    if kid is None:
        raise Integrity("a KEK rotation flips and has no new version", name=pointer.name)
    return replace(pointer, kid=kid, since=now, previous_kid=previous)


def question(
    run: KekRun, rows: int, new_vault: str, old: KeyShape, new: KeyShape, policy: KekPolicy, now: datetime
) -> Question:
    """What the quota of the vaults has to be asked before the run may begin. Rejected if it is too late already."""
    if run.deadline and now >= run.deadline:
        raise Rejected("the deadline was over before the rotation could begin", run=run.id)
    return Question(
        rows,
        vault_of(run.old_kid),
        old,
        new_vault,
        new,
        policy.sampled,
        policy.headroom,
        deadline=run.deadline - now if run.deadline else None,
    )


def due_order(
    record: KekRecord | None, newest: KekVersion, history: Sequence[KekRun], policy: KekPolicy, now: datetime
) -> KekOrder | None:
    """The order to rotate that the calendar or the vault calls for, None if nothing does.

    A version that is newer than the primary one, and was made for no run, has appeared by the key's own rotation.
    """
    if record is None or (record.run is not None and not is_over(record.run)):
        return None
    pointer = record.pointer
    request = f"g{pointer.generation + 1}"
    known = {pointer.kid} | {run.new_kid for run in history} | {run.old_kid for run in history}
    if newest.kid not in known and not newest.run and may_wrap(newest, now):
        reason = "a new version has appeared in the vault"
        return KekOrder(KekAction.ROTATE, pointer.name, request, Trigger.VAULT, "planner", reason, kid=newest.kid)
    if now >= pointer.since + policy.interval:
        return KekOrder(
            KekAction.ROTATE, pointer.name, request, Trigger.SCHEDULE, "planner", "rotation interval is over"
        )
    return None
