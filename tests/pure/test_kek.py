"""What comes next in the rotation of a KEK, as a table; and what every move changes."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from rotation.kek import (
    FINAL,
    MOVES,
    SETTLE,
    STALE_AFTER,
    TASKS,
    UNHEARD_AFTER,
    Advance,
    Decision,
    FanOut,
    NextPass,
    Resend,
    Wait,
    advance,
    applied,
    decide,
    diagram,
    due_order,
    is_current,
    is_over,
    move_for,
    question,
    refused,
    started,
)
from rotation.manifest import run_root
from rotation.merkle import Tree
from rotation.message import KekAction, KekOrder, Trigger
from shared.errors import Integrity, Rejected
from shared.values import (
    SHARDS,
    KekRecord,
    KekRun,
    KekUse,
    KekVersion,
    KeyKind,
    KeyPointer,
    KeyShape,
    Kid,
    Phase,
    ShardProgress,
    ShardState,
    TenantId,
)
from tests.pure.keyrings import KEK_POLICY, KID, NOW

NEW = Kid(KID.replace("0123", "9999"))
ROOT = run_root([Tree().to_text()] * SHARDS).hex()


def run(phase: Phase, **changes: object) -> KekRun:
    """A run that came into this phase just now."""
    values: dict[str, object] = {
        "kek": "master-kek",
        "generation": 3,
        "phase": phase,
        "started": NOW,
        "phase_since": NOW,
        "old_kid": KID,
        "request": "kek.rotate/master-kek/r1",
        "new_kid": None if phase is Phase.PLANNED else NEW,
        "pass_number": 1,
        "pass_since": NOW,
        "fanned_out": True,
        "root_before": "" if phase is Phase.PLANNED else ROOT,
    }
    return KekRun(**(values | changes))  # type: ignore[arg-type] # any field, by name


def shards(state: ShardState = ShardState.DONE, count: int = SHARDS, **of_first: object) -> list[ShardProgress]:
    """The checkpoints of so many shards; the first one is special."""
    each = [ShardProgress("master-kek.000003", 1, shard, NOW, NOW, state) for shard in range(count)]
    return [replace(each[0], **of_first), *each[1:]] if each else []  # type: ignore[arg-type] # any field, by name


def use(consumer: str, *kids: Kid, refused: Sequence[Kid] = (), seen: timedelta = timedelta()) -> KekUse:
    return KekUse(consumer, kids, tuple(refused), NOW + seen)


LATER = timedelta(days=30)
STRANGER = Kid(KID.replace("0123", "7777"))
WAIT = "wait"
ALARM = "alarm"
CASES: dict[str, tuple[KekRun, list[ShardProgress], list[KekUse], timedelta, Decision | str]] = {
    "a pass begins": (run(Phase.PLANNED, fanned_out=False), [], [], timedelta(), FanOut()),
    "somebody sends": (run(Phase.PLANNED, fanned_out=False, resent=NOW), [], [], timedelta(seconds=9), WAIT),
    "somebody died sending": (
        run(Phase.PLANNED, fanned_out=False, resent=NOW),
        [],
        [],
        timedelta(seconds=10),
        FanOut(),
    ),
    "some shards have not begun": (run(Phase.PLANNED), shards(count=60), [], timedelta(), WAIT),
    "some have not begun for long": (run(Phase.PLANNED), shards(count=60), [], UNHEARD_AFTER, Resend([60, 61, 62, 63])),
    "one is silent": (run(Phase.SWEEPING), shards(state=ShardState.WORKING, count=64), [], UNHEARD_AFTER, WAIT),
    "one is silent for long": (
        run(Phase.SWEEPING),
        shards(state=ShardState.WORKING),
        [],
        STALE_AFTER,
        Resend(list(range(SHARDS))),
    ),
    "sent again just now": (
        run(Phase.SWEEPING, resent=NOW + LATER),
        shards(state=ShardState.WORKING),
        [],
        LATER + timedelta(minutes=1),
        WAIT,
    ),
    "a shard has stopped": (run(Phase.SWEEPING), shards(state=ShardState.STOPPED), [], LATER, ALARM),
    "everything is frozen": (run(Phase.PLANNED), shards(by_kid={KID: 5}), [], timedelta(), Advance(Phase.CANARY, "")),
    "a DEK under another version": (
        run(Phase.PLANNED),
        shards(by_kid={KID: 5, STRANGER: 1}),
        [],
        timedelta(),
        Advance(Phase.FAILED, ""),
    ),
    "the canary is next": (run(Phase.CANARY), [], [], timedelta(), Advance(Phase.FLIPPED, "")),
    "the sweep is next": (run(Phase.FLIPPED), [], [], timedelta(), Advance(Phase.SWEEPING, "")),
    "a pass that found something": (run(Phase.SWEEPING, clean_passes=1), shards(found=1), [], timedelta(), NextPass(0)),
    "the first clean pass": (run(Phase.SWEEPING), shards(), [], timedelta(), NextPass(1)),
    "the second": (run(Phase.SWEEPING, clean_passes=1), shards(), [], timedelta(), Advance(Phase.SCRUBBING, "")),
    "a shard is held": (run(Phase.SWEEPING, clean_passes=1, held_shards=(3,)), shards(), [], timedelta(), WAIT),
    "a tenant is held": (
        run(Phase.SWEEPING, clean_passes=1, held_tenants=(TenantId("acme"),)),
        shards(),
        [],
        timedelta(),
        WAIT,
    ),
    "the scrub found an old reference": (
        run(Phase.SCRUBBING),
        shards(found=1),
        [],
        timedelta(),
        Advance(Phase.SWEEPING, ""),
    ),
    "the manifest differs": (run(Phase.SCRUBBING, root_before="0" * 64), shards(), [], timedelta(), ALARM),
    "the manifest is the same": (run(Phase.SCRUBBING), shards(), [], timedelta(), Advance(Phase.GRACE, "")),
    "in grace": (run(Phase.GRACE), [], [], KEK_POLICY.grace - timedelta(seconds=1), WAIT),
    "grace is over": (run(Phase.GRACE), [], [use("a", NEW)], KEK_POLICY.grace, Advance(Phase.RETIRING, "")),
    "a consumer lags": (run(Phase.GRACE), [], [use("a", NEW), use("b", KID, NEW)], KEK_POLICY.grace, WAIT),
    "a consumer lags too long": (
        run(Phase.GRACE),
        [],
        [use("b", KID)],
        KEK_POLICY.grace + KEK_POLICY.consumer_timeout,
        Advance(Phase.RETIRING, ""),
    ),
    "grace after a compromise": (run(Phase.GRACE, compromised=True), [], [], 2 * SETTLE, Advance(Phase.RETIRING, "")),
    "retiring finds a reference": (run(Phase.RETIRING), shards(found=1), [], timedelta(), Advance(Phase.SWEEPING, "")),
    "retiring, first clean pass": (run(Phase.RETIRING), shards(), [], timedelta(), NextPass(1)),
    "retiring, second": (run(Phase.RETIRING, clean_passes=1), shards(), [], timedelta(), Advance(Phase.SOAKING, "")),
    "soaking": (run(Phase.SOAKING, retired=NOW), [], [], KEK_POLICY.soak - timedelta(seconds=1), WAIT),
    "soaked": (run(Phase.SOAKING, retired=NOW), [], [], KEK_POLICY.soak, Advance(Phase.CLOSING, "")),
    "missed": (
        run(Phase.SOAKING, retired=NOW),
        [],
        [use("a", refused=[KID])],
        timedelta(),
        Advance(Phase.SWEEPING, ""),
    ),
    "missed before it was disabled": (
        run(Phase.SOAKING, retired=NOW),
        [],
        [use("a", refused=[KID], seen=timedelta(seconds=-1))],
        timedelta(),
        WAIT,
    ),
    "missed after a compromise": (
        run(Phase.SOAKING, retired=NOW, compromised=True),
        [],
        [use("a", refused=[KID])],
        timedelta(),
        ALARM,
    ),
    "missed while closing": (
        run(Phase.CLOSING, retired=NOW),
        shards(count=3),
        [use("a", refused=[KID])],
        timedelta(),
        Advance(Phase.SWEEPING, ""),
    ),
    "closing finds a reference": (run(Phase.CLOSING), shards(found=1), [], timedelta(), Advance(Phase.SWEEPING, "")),
    "closing": (run(Phase.CLOSING), shards(), [], timedelta(), Advance(Phase.CLOSED, "")),
    "rolling back, found some": (run(Phase.ROLLING_BACK, flipped=NOW), shards(found=1), [], timedelta(), NextPass(0)),
    "rolling back, too early": (run(Phase.ROLLING_BACK, flipped=NOW), shards(), [], timedelta(), WAIT),
    "rolling back, settled": (run(Phase.ROLLING_BACK, flipped=NOW), shards(), [], SETTLE, NextPass(0)),
    "rolling back, first clean pass": (
        run(Phase.ROLLING_BACK, flipped=NOW - SETTLE),
        shards(),
        [],
        SETTLE,
        NextPass(1),
    ),
    "rolled back": (
        run(Phase.ROLLING_BACK, flipped=NOW - SETTLE, clean_passes=1),
        shards(),
        [],
        SETTLE,
        Advance(Phase.ROLLED_BACK, ""),
    ),
    "paused": (run(Phase.PAUSED), [], [], LATER, WAIT),
    "over": (run(Phase.CLOSED), [], [], LATER, WAIT),
}


@pytest.mark.parametrize(("at", "progress", "uses", "after", "expected"), CASES.values(), ids=list(CASES))
def test_what_comes_next(
    at: KekRun, progress: list[ShardProgress], uses: list[KekUse], after: timedelta, expected: Decision | str
) -> None:
    found = decide(at, progress, uses, KEK_POLICY, NOW + after)
    if isinstance(expected, str):
        assert isinstance(found, Wait)
        assert found.why
        assert found.alarm is (expected == ALARM)
    elif isinstance(expected, Advance):
        assert isinstance(found, Advance)
        assert found.to is expected.to
        assert found.why
        assert found.to in MOVES[at.phase], "the table has every move that is decided"
    else:
        assert found == expected


def test_the_table_has_every_phase_and_the_final_ones_lead_nowhere() -> None:
    assert set(MOVES) == set(Phase)
    assert {Phase.CLOSED, Phase.ROLLED_BACK, Phase.FAILED} == FINAL
    assert all(f"--> {phase.value.replace('-', '_')}" in diagram() for phase in Phase)


def test_a_move_that_the_table_does_not_have_is_refused() -> None:
    for phase in Phase:
        for to in set(Phase) - MOVES[phase]:
            with pytest.raises(Integrity):
                advance(run(phase), Advance(to, "because"))


POINTER = KeyPointer("master-kek", KID, NOW - LATER, generation=2)


def order(action: KekAction, **changes: object) -> KekOrder:
    values = {"trigger": Trigger.MANUAL, "actor": "alice", "reason": "asked for"} | changes
    return KekOrder(action, "master-kek", "r1", **values)  # type: ignore[arg-type] # any field, by name


def test_a_run_begins_with_its_first_move_stored_and_the_next_number() -> None:
    record = started(KekRecord(POINTER), order(KekAction.ROTATE, deadline_hours=5), NOW)
    assert record.pointer == replace(POINTER, generation=3)
    assert record.run
    assert record.run.id == "master-kek.000003"
    assert (record.run.phase, record.run.old_kid, record.run.deadline) == (Phase.PLANNED, KID, NOW + timedelta(hours=5))
    assert record.run.move
    assert (record.run.move.job, record.run.move.applied) == ("kek.rotate/master-kek/r1", False)
    with pytest.raises(Rejected, match="not over"):
        started(record, order(KekAction.ROTATE), NOW)
    with pytest.raises(Rejected, match="already"):
        started(KekRecord(POINTER), order(KekAction.ROTATE, kid=KID), NOW)


def moved(at: KekRun, to: Phase, progress: Sequence[ShardProgress] = (), pointer: KeyPointer = POINTER) -> KekRecord:
    return applied(KekRecord(pointer, at), at, advance(at, Advance(to, "because")), progress, NEW, NOW + LATER)


def test_every_move_counts_and_a_walk_begins_anew() -> None:
    for phase in Phase:
        for to in MOVES[phase] - {Phase.PAUSED}:
            record = moved(run(phase), to, shards())
            assert record.run
            assert (record.run.phase, record.run.phase_since, record.run.step) == (to, NOW + LATER, 1)
            assert record.run.move
            assert record.run.move.applied
            if to in TASKS:
                assert (record.run.pass_number, record.run.fanned_out, record.run.clean_passes) == (2, False, 0)
            else:
                assert record.run.pass_number == 1


def test_the_write_target_moves_with_the_flip_and_back_with_the_rollback() -> None:
    flipped = moved(run(Phase.CANARY), Phase.FLIPPED)
    assert (flipped.pointer.kid, flipped.pointer.previous_kid) == (NEW, KID)
    compromised = moved(run(Phase.CANARY, compromised=True), Phase.FLIPPED)
    assert (compromised.pointer.kid, compromised.pointer.previous_kid) == (NEW, None)
    back = moved(run(Phase.SWEEPING, held_shards=(1,)), Phase.ROLLING_BACK, pointer=flipped.pointer)
    assert (back.pointer.kid, back.pointer.previous_kid) == (KID, None)
    assert back.run
    assert back.run.held_shards == ()
    retired = moved(run(Phase.RETIRING), Phase.SOAKING, pointer=flipped.pointer)
    assert (retired.pointer.kid, retired.pointer.previous_kid) == (NEW, None)


def test_what_the_walks_have_counted_is_kept() -> None:
    frozen = moved(run(Phase.PLANNED), Phase.CANARY, shards(rows=7))
    assert frozen.run
    assert (frozen.run.rows, frozen.run.root_before, frozen.run.new_kid) == (7, ROOT, NEW)
    proven = moved(run(Phase.SCRUBBING), Phase.GRACE, shards(births=2, removed=1))
    assert proven.run
    assert (proven.run.root_after, proven.run.births, proven.run.removed) == (ROOT, 2, 1)


def test_a_move_that_turns_out_to_be_impossible_fails_the_run() -> None:
    at = run(Phase.CANARY)
    failed = refused(at, advance(at, Advance(Phase.FLIPPED, "because")), "it does not open", NOW)
    assert (failed.phase, failed.verdict) == (Phase.FAILED, "it does not open")
    assert failed.move
    assert failed.move.failure == "it does not open"
    assert not is_over(failed), "its outcome is not recorded yet"
    assert is_over(replace(failed, move=None))


def test_orders_that_ask_for_what_is_so_already_ask_for_nothing() -> None:
    assert move_for(run(Phase.PAUSED), order(KekAction.PAUSE)) is None
    assert move_for(run(Phase.ROLLING_BACK), order(KekAction.ROLLBACK)) is None
    assert move_for(run(Phase.GRACE), order(KekAction.RESUME)) is None
    assert move_for(run(Phase.SWEEPING, held_shards=(3,)), order(KekAction.ROLLBACK, shard=3)) is None
    assert move_for(run(Phase.SWEEPING), order(KekAction.RESUME, shard=3)) is None


REFUSED: dict[str, tuple[KekRun, KekOrder]] = {
    "pausing the soak": (run(Phase.SOAKING), order(KekAction.PAUSE)),
    "rolling back the soak": (run(Phase.SOAKING), order(KekAction.ROLLBACK)),
    "rolling back to a compromised version": (run(Phase.SWEEPING, compromised=True), order(KekAction.ROLLBACK)),
    "a part of it": (run(Phase.SWEEPING, compromised=True), order(KekAction.ROLLBACK, shard=3)),
    "a part before the flip": (run(Phase.CANARY), order(KekAction.ROLLBACK, shard=3)),
    "a part while everything goes back": (run(Phase.ROLLING_BACK), order(KekAction.ROLLBACK, shard=3)),
    "resuming a part of what is paused": (run(Phase.PAUSED, held_shards=(3,)), order(KekAction.RESUME, shard=3)),
}


@pytest.mark.parametrize(("at", "asked"), REFUSED.values(), ids=list(REFUSED))
def test_orders_that_could_lose_something_are_refused(at: KekRun, asked: KekOrder) -> None:
    with pytest.raises(Rejected):
        move_for(at, asked)


def test_a_message_is_worked_on_in_its_own_pass_only() -> None:
    assert is_current(run(Phase.SWEEPING), 3, 1)
    assert not is_current(run(Phase.SWEEPING), 3, 2)
    assert not is_current(run(Phase.SWEEPING), 2, 1)
    assert not is_current(run(Phase.GRACE), 3, 1)
    assert not is_current(run(Phase.PAUSED), 3, 1)


def test_a_deadline_that_is_over_is_refused() -> None:
    shape = KeyShape(KeyKind.RSA, 2048)
    at = run(Phase.PLANNED, deadline=NOW)
    with pytest.raises(Rejected, match="deadline was over"):
        question(at, 10, "https://atp.vault.azure.net", shape, shape, KEK_POLICY, NOW)
    asked = question(at, 10, "https://atp.vault.azure.net", shape, shape, KEK_POLICY, NOW - timedelta(hours=1))
    assert asked.deadline == timedelta(hours=1)


OPERATIONS = frozenset({"wrapKey", "unwrapKey"})


def version(kid: Kid, made_for: str = "", *, enabled: bool = True) -> KekVersion:
    return KekVersion(kid, None, enabled, None, None, OPERATIONS, KeyKind.OCT_HSM, made_for)


def test_the_calendar_and_the_vault_call_for_a_rotation() -> None:
    fresh = KekRecord(replace(POINTER, since=NOW))
    due = KekRecord(replace(POINTER, since=NOW - KEK_POLICY.interval))
    assert due_order(fresh, version(KID), [], KEK_POLICY, NOW) is None
    by_calendar = due_order(due, version(KID), [], KEK_POLICY, NOW)
    assert by_calendar
    assert (by_calendar.request, by_calendar.trigger, by_calendar.kid) == ("g3", Trigger.SCHEDULE, None)
    by_vault = due_order(fresh, version(NEW), [], KEK_POLICY, NOW)
    assert by_vault
    assert (by_vault.request, by_vault.trigger, by_vault.kid) == ("g3", Trigger.VAULT, NEW)
    assert due_order(fresh, version(NEW, "master-kek.000002"), [], KEK_POLICY, NOW) is None, "made for a run"
    assert due_order(fresh, version(NEW), [run(Phase.ROLLED_BACK)], KEK_POLICY, NOW) is None, "rolled back before"
    instead = due_order(due, version(NEW, enabled=False), [], KEK_POLICY, NOW)
    assert instead
    assert (instead.trigger, instead.kid) == (Trigger.SCHEDULE, None), "a version that must not wrap holds up nobody"
    busy = KekRecord(due.pointer, run(Phase.GRACE))
    assert due_order(busy, version(KID), [], KEK_POLICY, NOW) is None
    assert due_order(None, version(KID), [], KEK_POLICY, NOW) is None
