"""Every workflow, killed or cut off at every I/O call it makes, delivered again until it ends: the invariants hold."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from rotation.message import PLAN_SHARDS, ROTATION_JOBS, Action, ShardPlan
from shared.errors import Integrity
from shared.values import KeyPointer, Keyring, KeyState, TenantId, TenantState, shard_of
from tests.conftest import Tally
from tests.jobs.platform import POLICY, Platform, Process
from tests.simulator import Fault, SimDeks

type Workflow = tuple[Callable[[Platform], None], Callable[[Platform], None], Callable[[Platform], bool]]

ACME = TenantId("acme")


def nothing(platform: Platform) -> None:
    """No preparation."""


def one_tenant(platform: Platform) -> None:
    platform.add_tenant(ACME, versions=2)
    platform.write(ACME)


def due(platform: Platform) -> None:
    one_tenant(platform)
    platform.world.now += POLICY.interval


def dual_running_over(platform: Platform) -> None:
    one_tenant(platform)
    platform.world.now += POLICY.grace


def retention_over(platform: Platform, versions: int = 2) -> None:
    platform.add_tenant(ACME, versions)
    platform.write(ACME)
    platform.ask(Action.OFFBOARD_TENANT, ACME, "by-hand")
    platform.settle()
    platform.world.now += POLICY.retention


def offboarded(platform: Platform) -> None:
    one_tenant(platform)
    platform.ask(Action.OFFBOARD_TENANT, ACME, "setup")
    platform.settle()


def ask(action: Action) -> Callable[[Platform], None]:
    return lambda platform: platform.ask(action, ACME, "by-hand")


def drop(body: str) -> Callable[[Platform], None]:
    return lambda platform: platform.drop(ROTATION_JOBS, body)


def plan(platform: Platform) -> None:
    """The timer, for the one shard that matters; the fan-out has its own workflow."""
    platform.drop(PLAN_SHARDS, ShardPlan(shard_of(ACME)).to_json())


def acme_is(state: TenantState, primary: int, deks: int) -> Callable[[Platform], bool]:
    def holds(platform: Platform) -> bool:
        keyring = platform.world.keyrings[ACME]
        return (keyring.tenant.state, keyring.tenant.primary, len(keyring.deks)) == (state, primary, deks)

    return holds


def dead_letters(count: int) -> Callable[[Platform], bool]:
    return lambda platform: len(platform.world.letters) == len(platform.world.alerts) == count


def no_dual_running(platform: Platform) -> bool:
    return platform.world.keyrings[ACME].tenant.dual_running_since is None


ACTIVE, OFFBOARDED, DESTROYED = TenantState.ACTIVE, TenantState.OFFBOARDED, TenantState.DESTROYED
WORKFLOWS: dict[str, Workflow] = {
    "add a tenant with its first DEK": (nothing, ask(Action.ADD_TENANT), acme_is(ACTIVE, 1, 1)),
    "rotate a due DEK": (due, plan, acme_is(ACTIVE, 3, 3)),
    "rotate by hand": (one_tenant, ask(Action.ROTATE_DEK), acme_is(ACTIVE, 3, 3)),
    "end dual running": (dual_running_over, plan, no_dual_running),
    "off-board": (one_tenant, ask(Action.OFFBOARD_TENANT), acme_is(OFFBOARDED, 2, 2)),
    "undo an off-boarding": (offboarded, ask(Action.REINSTATE_TENANT), acme_is(ACTIVE, 2, 2)),
    "destroy after retention": (retention_over, plan, acme_is(DESTROYED, 2, 0)),
    "refuse to destroy early": (one_tenant, ask(Action.DESTROY_TENANT), dead_letters(1)),
    "refuse an unknown tenant": (nothing, ask(Action.ROTATE_DEK), dead_letters(1)),
    "refuse a malformed message": (one_tenant, drop("{not json"), dead_letters(1)),
    "refuse an oversized message": (one_tenant, drop(json.dumps({"schema": "x" * 30_000})), dead_letters(1)),
    "fan out the plan": (due, Platform.start_plan, acme_is(ACTIVE, 3, 3)),
}


def run(name: str, at: int | None, fault: Fault | None, *, twice: bool) -> int:
    """One workflow with one fault at its call number `at`; returns how many calls it made."""
    prepare, begin, ended = WORKFLOWS[name]
    platform = Platform()
    prepare(platform)
    first = platform.world.calls
    if at is not None and fault is not None:
        platform.world.faults[first + at] = fault
    begin(platform)
    platform.settle(twice=twice)
    calls = platform.world.calls - first
    platform.check()
    assert ended(platform)
    if ACME in platform.world.keyrings:
        platform.read_and_write()
    return calls


@pytest.mark.parametrize("name", WORKFLOWS)
@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.name.lower())
def test_a_workflow_survives_a_fault_at_every_call(name: str, fault: Fault, tally: Tally) -> None:
    for twice in (False, True):
        calls = run(name, None, None, twice=twice)
        for at in range(1, calls + 1):
            run(name, at, fault, twice=twice)
            tally.count("crash matrix")


@pytest.mark.parametrize("name", ["add a tenant with its first DEK", "rotate a due DEK", "destroy after retention"])
def test_a_workflow_survives_two_faults(name: str, tally: Tally) -> None:
    calls = run(name, None, None, twice=False)
    for first in range(1, calls + 1):
        for second in (1, 2, 3, 5, 8):
            prepare, begin, ended = WORKFLOWS[name]
            platform = Platform()
            prepare(platform)
            base = platform.world.calls
            platform.world.faults = {base + first: Fault.KILLED_AFTER, base + first + second: Fault.ERROR_AFTER}
            begin(platform)
            platform.settle()
            platform.world.faults.clear()
            platform.check()
            assert ended(platform)
            tally.count("crash matrix, two faults")


def test_destruction_of_a_long_keyring_survives_a_fault_at_every_call(tally: Tally) -> None:
    def destroyed(at: int | None, fault: Fault | None) -> int:
        platform = Platform()
        retention_over(platform, versions=120)
        first = platform.world.calls
        if at is not None and fault is not None:
            platform.world.faults[first + at] = fault
        plan(platform)
        platform.settle()
        platform.check()
        assert acme_is(DESTROYED, 120, 0)(platform)
        return platform.world.calls - first

    for at in range(1, destroyed(None, None) + 1):
        for fault in (Fault.KILLED_AFTER, Fault.ERROR_AFTER):
            destroyed(at, fault)
            tally.count("crash matrix")


def test_a_message_that_kills_every_worker_ends_as_a_dead_letter() -> None:
    platform = Platform()
    one_tenant(platform)
    platform.ask(Action.ROTATE_DEK, ACME, "by-hand")
    message = platform.world.messages[0]
    for _ in range(5):
        platform.world.faults[platform.world.calls + 1] = Fault.KILLED_BEFORE
        platform.deliver(message)
    platform.settle()
    platform.check()
    assert dead_letters(1)(platform)
    assert acme_is(ACTIVE, 2, 2)(platform)


def test_a_message_given_up_after_its_effect_is_recorded_as_done() -> None:
    platform = Platform()
    one_tenant(platform)
    platform.ask(Action.ROTATE_DEK, ACME, "by-hand")
    message = platform.world.messages[0]
    calls = [name for name in run_names(ACME) if name]
    at_effect = calls.index("deks.replace") + 1
    platform.world.faults[platform.world.calls + at_effect] = Fault.KILLED_AFTER
    platform.deliver(message)
    for _ in range(4):
        platform.world.faults[platform.world.calls + 1] = Fault.KILLED_BEFORE
        platform.deliver(message)
    platform.settle()
    platform.check()
    assert dead_letters(0)(platform)
    assert acme_is(ACTIVE, 3, 3)(platform)
    assert platform.world.outcomes()[f"dek.rotate/{ACME}/by-hand"] == {"intent", "succeeded"}


def run_names(tenant: str) -> list[str]:
    """The calls of a rotation by hand."""
    platform = Platform()
    one_tenant(platform)
    first = platform.world.calls
    platform.ask(Action.ROTATE_DEK, tenant, "by-hand")
    platform.settle()
    return platform.world.call_names[first:]


def test_the_steady_state_costs_no_vault_operation() -> None:
    platform = Platform()
    platform.add_tenant(ACME)
    before = platform.world.vault_operations
    for number in range(20):
        platform.ask(Action.ADD_TENANT, f"tenant-{number}", "by-hand")
    platform.settle()
    assert platform.world.vault_operations == before


def test_a_shard_of_many_pages_is_planned_to_its_end() -> None:
    platform = Platform()
    shard = shard_of(ACME)
    names = [name for n in range(1500) if shard_of(TenantId(name := f"tenant-{n}")) == shard][:10]
    for name in names:
        platform.ask(Action.ADD_TENANT, name, "setup")
    platform.settle()
    platform.world.now += POLICY.interval
    platform.start_plan()
    platform.settle()
    platform.check()
    assert len(names) == 10
    assert all(platform.world.keyrings[TenantId(name)].tenant.primary == 2 for name in names)


def test_a_plan_that_another_rotation_overtook_changes_nothing() -> None:
    platform = Platform()
    due(platform)
    plan(platform)
    platform.deliver(platform.world.messages[0])
    (scheduled,) = platform.world.messages
    platform.ask(Action.ROTATE_DEK, ACME, "by-hand")
    platform.deliver(platform.world.messages[1])
    platform.deliver(scheduled)
    platform.settle()
    platform.check()
    assert acme_is(ACTIVE, 3, 3)(platform)


def test_an_unusable_kek_makes_jobs_wait_and_alerts_once_a_day() -> None:
    platform = Platform()
    names = [f"tenant-{number}" for number in range(5)]
    platform.add_tenant(ACME)
    (kid,) = platform.world.keks
    platform.world.keks[kid] = replace(platform.world.keks[kid], enabled=False)
    platform.process = Process(platform.world)
    for name in names:
        platform.ask(Action.ADD_TENANT, name, "by-hand")
    for message in [*platform.world.messages, *platform.world.messages]:
        platform.deliver(message)
    assert not platform.world.letters
    (alert,) = platform.world.alerts.values()
    assert alert.subject == "key/master-kek"
    platform.world.keks[kid] = replace(platform.world.keks[kid], enabled=True)
    platform.process = Process(platform.world)
    platform.settle()
    assert all(platform.world.keyrings[TenantId(name)].tenant.primary == 1 for name in names)
    platform.check()


def test_a_late_offboarding_does_not_undo_a_reinstatement() -> None:
    platform = Platform()
    offboarded(platform)
    late = platform.delivered[-1]
    platform.ask(Action.REINSTATE_TENANT, ACME, "by-hand")
    platform.settle()
    platform.drop(late.queue, late.body)
    platform.settle()
    platform.check()
    assert acme_is(ACTIVE, 2, 2)(platform)


def test_a_destruction_that_a_reinstatement_overtook_changes_nothing() -> None:
    platform = Platform()
    retention_over(platform)
    plan(platform)
    platform.deliver(platform.world.messages[0])
    (scheduled,) = platform.world.messages
    platform.ask(Action.REINSTATE_TENANT, ACME, "by-hand")
    platform.deliver(platform.world.messages[1])
    platform.deliver(scheduled)
    platform.settle()
    platform.check()
    assert acme_is(ACTIVE, 2, 2)(platform)


def test_a_message_without_a_name_keeps_its_identity_into_the_poison_queue_and_back() -> None:
    platform = Platform()
    one_tenant(platform)
    by_hand = {"schema": "rotation-job/1", "action": "dek.rotate", "tenant": ACME, "reason": "asked for"}
    platform.drop(ROTATION_JOBS, json.dumps(by_hand))
    platform.deliver(platform.world.messages[0])
    (named,) = platform.world.messages
    at_effect = run_names(ACME).index("deks.replace") + 1
    platform.world.faults[platform.world.calls + at_effect] = Fault.KILLED_AFTER
    platform.deliver(named)
    for _ in range(4):
        platform.world.faults[platform.world.calls + 1] = Fault.KILLED_BEFORE
        platform.deliver(named)
    platform.settle()
    platform.check()
    assert dead_letters(0)(platform)
    platform.drop(named.queue, named.body)
    platform.settle()
    assert acme_is(ACTIVE, 3, 3)(platform)


def test_a_request_for_retirement_that_comes_again_retires_nothing_more() -> None:
    platform = Platform()
    dual_running_over(platform)
    for _ in range(2):
        platform.ask(Action.RETIRE_DEK, ACME, "by-hand")
        platform.settle()
        platform.ask(Action.ROTATE_DEK, ACME, "once-more")
        platform.settle()
        platform.world.now += POLICY.grace
    states = [dek.state for dek in platform.world.keyrings[ACME].deks]
    assert states == [KeyState.RETIRED, KeyState.SECONDARY, KeyState.PRIMARY]
    platform.check()


def test_a_retirement_planned_for_an_earlier_dual_running_does_nothing() -> None:
    platform = Platform()
    dual_running_over(platform)
    plan(platform)
    platform.deliver(platform.world.messages[0])
    (late,) = platform.world.messages
    platform.ask(Action.ROTATE_DEK, ACME, "by-hand")
    platform.deliver(platform.world.messages[1])
    platform.world.now += POLICY.grace
    before = platform.world.keyrings[ACME]
    platform.deliver(late)
    assert platform.world.keyrings[ACME] == before
    platform.settle()
    platform.check()


def test_a_duplicate_that_arrives_after_the_end_of_its_tenant_says_nothing_new() -> None:
    platform = Platform()
    one_tenant(platform)
    platform.ask(Action.ROTATE_DEK, ACME, "by-hand")
    platform.settle()
    late = platform.delivered[-1]
    platform.ask(Action.OFFBOARD_TENANT, ACME, "by-hand")
    platform.settle()
    platform.world.now += POLICY.retention
    plan(platform)
    platform.settle()
    platform.drop(late.queue, late.body)
    platform.settle()
    platform.check()
    assert dead_letters(0)(platform)
    assert platform.world.outcomes()[f"dek.rotate/{ACME}/by-hand"] == {"intent", "succeeded"}


def test_a_rotation_may_be_asked_for_while_its_tenant_is_still_being_added() -> None:
    platform = Platform()
    platform.ask(Action.ROTATE_DEK, ACME, "by-hand")
    platform.deliver(platform.world.messages[0])
    platform.ask(Action.ADD_TENANT, ACME, "by-hand")
    platform.settle()
    platform.check()
    assert dead_letters(0)(platform)
    assert acme_is(ACTIVE, 2, 2)(platform)


def test_a_letter_that_is_sent_again_and_refused_again_is_another_letter() -> None:
    platform = Platform()
    platform.ask(Action.ROTATE_DEK, "nobody", "by-hand")
    platform.settle()
    (first,) = platform.world.letters.values()
    platform.drop(first.queue, first.body)
    platform.settle()
    assert {letter.id for letter in platform.world.letters.values()} == {first.id, f"{first.id}+1"}


def test_a_broken_keyring_ends_as_a_letter_and_an_alert() -> None:
    platform = Platform()
    one_tenant(platform)
    whole = platform.world.keyrings[ACME]
    platform.world.keyrings[ACME] = replace(whole, deks=whole.deks[1:])
    platform.ask(Action.ROTATE_DEK, ACME, "by-hand")
    platform.settle()
    assert dead_letters(1)(platform)


def test_a_row_that_cannot_be_read_ends_as_a_letter_and_an_alert(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(self: SimDeks, tenant: TenantId) -> Keyring:
        raise Integrity("a stored row is not as we write it", tenant=tenant)

    platform = Platform()
    one_tenant(platform)
    monkeypatch.setattr(SimDeks, "read", unreadable)
    platform.ask(Action.ROTATE_DEK, ACME, "by-hand")
    platform.settle()
    assert dead_letters(1)(platform)


def test_a_pointer_to_another_key_wraps_nothing() -> None:
    platform = Platform()
    foreign = platform.world.add_kek("somebody-elses-key")
    platform.world.pointers["master-kek"] = KeyPointer("master-kek", foreign, platform.world.now)
    platform.ask(Action.ADD_TENANT, ACME, "by-hand")
    platform.settle()
    assert dead_letters(1)(platform)
    assert acme_is(ACTIVE, 0, 0)(platform)


def test_a_missed_tick_loses_nothing() -> None:
    platform = Platform()
    platform.add_tenant(ACME)
    platform.world.now += POLICY.interval + timedelta(days=400)
    platform.start_plan()
    platform.settle()
    platform.check()
    assert acme_is(ACTIVE, 2, 2)(platform)
