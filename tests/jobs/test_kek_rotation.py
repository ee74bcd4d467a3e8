"""The rotation of a KEK: what operators, vaults, consumers and intruders do to it, and what comes of it."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

import rotation.quota
from rotation.kek import MOVES
from rotation.message import KEK_ORDERS, Action, KekAction
from rotation.wrapping import wrapped
from shared.secret import Secret
from shared.values import (
    KekUse,
    KeyKind,
    Keyring,
    KeyShape,
    Kid,
    Phase,
    TenantId,
    TenantState,
    WrappedDek,
    shard_of,
)
from tests.jobs.platform import POLICY, Platform
from tests.pure.keyrings import KEK_POLICY, no_vault
from tests.simulator import OTHER_VAULT_URL, Fault, World

pytestmark = pytest.mark.usefixtures("few_shards")

TENANTS = tuple(f"tenant-{number}" for number in range(8))
VICTIM = TenantId("tenant-0")
REVERSIBLE = [phase for phase, targets in MOVES.items() if Phase.ROLLING_BACK in targets and Phase.SWEEPING in targets]
REVERSIBLE.remove(Phase.PAUSED)
BEFORE_FLIP = [Phase.PLANNED, Phase.CANARY]
PAUSABLE = [phase for phase, targets in MOVES.items() if Phase.PAUSED in targets]


@pytest.fixture
def platform() -> Platform:
    """Eight tenants in two shards, one with three DEKs, and something encrypted for each."""
    platform = Platform()
    for name in TENANTS:
        platform.add_tenant(name, versions=3 if name == VICTIM else 1)
        platform.write(name)
    return platform


def phase_of(platform: Platform) -> Phase:
    """Where the rotation stands."""
    assert platform.kek_run
    return platform.kek_run.phase


def refusals(platform: Platform) -> list[str]:
    """The names of the errors that letters were refused with."""
    return [letter.reason.partition(":")[0] for letter in platform.world.letters.values()]


def rotate_until(platform: Platform, phase: Phase) -> None:
    """Order a rotation and stop the world in the moment it comes into that phase."""
    platform.order(KekAction.ROTATE, "setup")
    platform.world.kill_in = phase
    for _ in range(100):
        if not deliver_until_killed(platform):
            break
        platform.world.now += timedelta(days=1)
        platform.tick()
    assert phase_of(platform) is phase


def deliver_until_killed(platform: Platform) -> bool:
    """Deliver all messages; False once a worker was killed."""
    while platform.world.messages and platform.world.kill_in:
        message = min(platform.world.messages, key=lambda message: message.visible_at)
        platform.world.now = max(platform.world.now, message.visible_at)
        platform.deliver(message)
    return platform.world.kill_in is not None


def test_a_rotation_goes_through_its_phases_in_order(platform: Platform) -> None:
    platform.order(KekAction.ROTATE)
    platform.run_until(Phase.CLOSED)
    phases = [phase for _, phase in platform.world.phases]
    assert list(dict.fromkeys(phases)) == [
        Phase.PLANNED,
        Phase.CANARY,
        Phase.FLIPPED,
        Phase.SWEEPING,
        Phase.SCRUBBING,
        Phase.GRACE,
        Phase.RETIRING,
        Phase.SOAKING,
        Phase.CLOSING,
        Phase.CLOSED,
    ]
    old, new = platform.world.keks.values()
    assert platform.kids() == {new.kid}
    assert not old.enabled
    assert all(dek.previous is None for keyring in platform.world.keyrings.values() for dek in keyring.deks)
    platform.check()
    platform.read_and_write()


def test_the_audit_trail_tells_the_whole_rotation_with_its_roots(platform: Platform) -> None:
    platform.order(KekAction.ROTATE)
    platform.run_until(Phase.CLOSED)
    records = [json.loads(record.canonical) for stream in platform.world.streams.values() for record in stream]
    told = [record for record in records if record["subject"] == "kek/master-kek" and record["outcome"] == "succeeded"]
    assert [record["details"]["phases"] for record in told] == [
        "planned > planned",
        "planned > canary",
        "canary > flipped",
        "flipped > sweeping",
        "sweeping > scrubbing",
        "scrubbing > grace",
        "grace > retiring",
        "retiring > soaking",
        "soaking > closing",
        "closing > closed",
    ]
    last = told[-1]["details"]
    assert last["root_before"] == last["root_after"]
    assert (last["rows"], last["births"], last["removed"]) == ("10", "0", "0")


def test_a_rewrapped_dek_costs_one_unwrap_and_few_samples(platform: Platform) -> None:
    before = platform.world.operations["unwrap"]
    platform.order(KekAction.ROTATE)
    platform.settle()
    rows, canaries = 10, 1 + 2 * 2
    assert sum(each.changed for each in platform.world.shards.values()) == rows
    samples = sum(each.verified for each in platform.world.shards.values())
    assert platform.world.operations["unwrap"] - before == rows + canaries + samples
    assert platform.world.operations["create"] == 1


@pytest.mark.parametrize("phase", REVERSIBLE)
def test_a_rotation_rolls_back_from_every_phase_before_retirement_without_the_vault(
    platform: Platform, phase: Phase
) -> None:
    rotate_until(platform, phase)
    old = next(iter(platform.world.keks))
    platform.write(TENANTS[1])
    platform.ask(Action.ADD_TENANT, "newcomer", "by-hand")
    before = platform.world.operations["unwrap"]
    platform.order(KekAction.ROLLBACK)
    platform.run_until(Phase.ROLLED_BACK)
    assert platform.world.operations["unwrap"] == before
    assert platform.kids() == {old}
    assert platform.world.pointers["master-kek"].kid == old
    assert all(kek.enabled for kek in platform.world.keks.values())
    platform.check()
    platform.read_and_write()


@pytest.mark.parametrize("phase", BEFORE_FLIP)
def test_a_rotation_that_has_changed_nothing_is_given_up_at_once(platform: Platform, phase: Phase) -> None:
    rotate_until(platform, phase)
    platform.order(KekAction.ROLLBACK)
    platform.run_until(Phase.ROLLED_BACK)
    assert Phase.ROLLING_BACK not in [phase for _, phase in platform.world.phases]
    platform.check()


@pytest.mark.parametrize("phase", [Phase.SOAKING, Phase.CLOSING, Phase.CLOSED])
def test_there_is_no_way_back_after_retirement(platform: Platform, phase: Phase) -> None:
    rotate_until(platform, phase)
    order = platform.order(KekAction.ROLLBACK)
    platform.run_until(Phase.CLOSED)
    assert refusals(platform) == ["Rejected"]
    assert platform.world.outcomes()[order.id] == {"failed"}
    platform.check()


@pytest.mark.parametrize("phase", PAUSABLE)
def test_a_paused_rotation_stands_still_and_goes_on_where_it_was(platform: Platform, phase: Phase) -> None:
    if phase is Phase.ROLLING_BACK:
        rotate_until(platform, Phase.GRACE)
        platform.order(KekAction.ROLLBACK)
        platform.deliver(platform.world.messages[-1])
    else:
        rotate_until(platform, phase)
    assert platform.kek_run
    platform.order(KekAction.PAUSE)
    platform.settle()
    assert phase_of(platform) is Phase.PAUSED
    at = platform.world.operations.copy()
    platform.world.now += timedelta(days=100)
    platform.tick()
    platform.settle()
    assert phase_of(platform) is Phase.PAUSED
    assert platform.world.operations == at
    platform.check()
    platform.order(KekAction.RESUME)
    platform.run_until(Phase.ROLLED_BACK if phase is Phase.ROLLING_BACK else Phase.CLOSED)
    platform.check()


@pytest.mark.parametrize("phase", [Phase.SWEEPING, Phase.SCRUBBING, Phase.GRACE, Phase.RETIRING])
@pytest.mark.parametrize("part", ["shard", "tenant"])
def test_a_part_rolls_back_alone_is_held_there_and_rolls_forward(platform: Platform, phase: Phase, part: str) -> None:
    rotate_until(platform, phase)
    old, new = platform.world.keks
    chosen = {"shard": shard_of(VICTIM)} if part == "shard" else {"tenant": VICTIM}
    held = {TenantId(name) for name in TENANTS if part == "shard" and shard_of(TenantId(name)) == shard_of(VICTIM)}
    platform.order(KekAction.ROLLBACK, "part", **chosen)
    platform.settle()
    for name in TENANTS:
        expected = old if TenantId(name) in held | {VICTIM} else new
        assert {dek.kid for dek in platform.world.keyrings[TenantId(name)].deks} == {expected}
    platform.world.now += timedelta(days=30)
    platform.tick()
    platform.settle()
    assert phase_of(platform) is Phase.SWEEPING, "nothing is finished while a part is held"
    platform.check()
    before = platform.world.operations["unwrap"]
    platform.order(KekAction.RESUME, "part", **chosen)
    platform.settle()
    assert platform.kids() == {new}
    assert platform.world.operations["unwrap"] - before <= 10 + 4, "the kept wraps were swapped back"
    platform.run_until(Phase.CLOSED)
    platform.check()


def test_the_same_order_has_one_effect_however_often_and_late_it_comes(platform: Platform) -> None:
    platform.order(KekAction.ROTATE, "first")
    platform.settle()
    platform.order(KekAction.PAUSE, "lunch")
    platform.settle()
    platform.order(KekAction.RESUME, "lunch")
    platform.settle()
    for message in list(platform.delivered):
        platform.drop(message.queue, message.body)
    platform.settle(twice=True)
    platform.run_until(Phase.CLOSED)
    for message in list(platform.delivered):
        platform.drop(message.queue, message.body)
    platform.settle()
    assert len(platform.world.runs) == 1
    assert not platform.world.letters
    platform.check()


def test_a_second_rotation_is_refused_while_the_first_is_not_over(platform: Platform) -> None:
    platform.order(KekAction.ROTATE, "first")
    platform.settle()
    platform.order(KekAction.ROTATE, "second")
    platform.settle()
    assert len(platform.world.runs) == 1
    assert refusals(platform) == ["Rejected"]


def test_a_rotation_is_refused_while_an_older_version_still_wraps_a_dek(platform: Platform) -> None:
    stranger = platform.world.add_kek()
    overwrite(platform, lambda dek: under(platform.world, dek, stranger), version=2)
    platform.order(KekAction.ROTATE)
    platform.run_until(Phase.FAILED)
    assert platform.kek_run
    assert stranger in platform.kek_run.verdict
    assert platform.world.operations["create"] == 0
    assert len(platform.world.alerts) == 1
    platform.check()


def test_a_deadline_that_the_quota_cannot_meet_fails_the_rotation_before_anything_is_made(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(rotation.quota._PER_SECOND[KeyKind.RSA], 2048, 0.001)
    pointer = platform.world.pointers["master-kek"]
    platform.order(KekAction.ROTATE, deadline_hours=1)
    platform.run_until(Phase.FAILED)
    assert platform.kek_run
    assert "cannot meet the deadline" in platform.kek_run.verdict
    assert "would_help" in platform.kek_run.verdict
    assert platform.world.operations["create"] == 0
    assert platform.world.pointers["master-kek"].kid == pointer.kid
    platform.check()


def test_the_calendar_starts_a_rotation_once(platform: Platform) -> None:
    platform.world.now += KEK_POLICY.interval
    for _ in range(3):
        platform.start_plan()
    platform.settle()
    platform.start_plan()
    platform.run_until(Phase.CLOSED)
    platform.start_plan()
    platform.settle()
    assert len(platform.world.runs) == 1
    assert not platform.world.letters
    platform.check()


def test_a_version_that_appears_in_the_vault_by_itself_is_rotated_to_once(platform: Platform) -> None:
    appeared = platform.world.add_kek()
    for _ in range(3):
        platform.process.kek_jobs.plan("master-kek")
    platform.settle()
    platform.run_until(Phase.CLOSED)
    platform.start_plan()
    platform.settle()
    assert platform.kids() == {appeared}
    assert len(platform.world.runs) == 1
    assert platform.world.operations["create"] == 0
    platform.check()


def test_a_version_that_was_rolled_back_is_not_rotated_to_again_by_itself(platform: Platform) -> None:
    appeared = platform.world.add_kek()
    platform.process.kek_jobs.plan("master-kek")
    platform.settle()
    platform.order(KekAction.ROLLBACK)
    platform.run_until(Phase.ROLLED_BACK)
    platform.start_plan()
    platform.settle()
    assert len(platform.world.runs) == 1
    assert appeared not in platform.kids()


SHAPES = {
    "another size": KeyShape(KeyKind.RSA, 3072),
    "an HSM": KeyShape(KeyKind.RSA_HSM, 2048),
    "AES in a managed HSM": KeyShape(KeyKind.OCT_HSM, 256),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))
def test_a_rotation_may_change_kind_and_size_and_go_to_another_vault_and_back(
    platform: Platform, shape: KeyShape
) -> None:
    platform.order(KekAction.ROTATE, "there", shape=shape, vault=OTHER_VAULT_URL)
    platform.run_until(Phase.CLOSED)
    platform.add_tenant("newcomer")
    (kid,) = platform.kids()
    assert kid.startswith(OTHER_VAULT_URL)
    assert platform.world.keks[kid].kind is shape.kind
    platform.check()
    platform.read_and_write()
    platform.order(KekAction.ROTATE, "back", shape=KeyShape(KeyKind.RSA, 2048))
    platform.run_until(Phase.CLOSED)
    (kid,) = platform.kids()
    assert platform.world.keks[kid].kind is KeyKind.RSA
    platform.check()
    platform.read_and_write()


def test_after_a_compromise_there_is_no_way_back(platform: Platform) -> None:
    platform.order(KekAction.ROTATE, "setup", compromised=True)
    platform.settle()
    platform.order(KekAction.ROLLBACK, "all")
    platform.order(KekAction.ROLLBACK, "part", shard=0)
    platform.ask(Action.ADD_TENANT, "newcomer", "by-hand")
    platform.settle()
    assert len(platform.world.letters) == 2
    assert platform.world.keyrings[TenantId("newcomer")].deks[0].previous is None
    platform.run_until(Phase.CLOSED)
    platform.check()


def test_deks_are_born_and_die_while_the_kek_rotates(platform: Platform) -> None:
    platform.ask(Action.OFFBOARD_TENANT, TENANTS[7], "by-hand")
    platform.settle()
    platform.world.now += POLICY.retention
    rotate_until(platform, Phase.SWEEPING)
    platform.ask(Action.ADD_TENANT, "newcomer", "by-hand")
    platform.ask(Action.ROTATE_DEK, VICTIM, "by-hand")
    platform.start_plan()
    platform.run_until(Phase.GRACE)
    assert platform.kek_run
    assert platform.world.keyrings[TenantId(TENANTS[7])].tenant.state is TenantState.DESTROYED
    assert (platform.kek_run.births, platform.kek_run.removed) == (2, 1)
    assert platform.kek_run.root_after == platform.kek_run.root_before
    platform.run_until(Phase.CLOSED)
    platform.check()


def test_a_consumer_that_still_uses_the_old_version_is_waited_for_then_alerted(platform: Platform) -> None:
    rotate_until(platform, Phase.GRACE)
    platform.settle()
    old = next(iter(platform.world.keks))
    platform.world.now += KEK_POLICY.grace
    platform.world.uses["ingest-7"] = KekUse("ingest-7", (old,), (), platform.world.now)
    platform.tick()
    platform.settle()
    assert phase_of(platform) is Phase.GRACE
    assert not platform.world.alerts
    platform.world.now += KEK_POLICY.consumer_timeout
    platform.tick()
    platform.settle()
    assert phase_of(platform) is Phase.SOAKING
    (alert,) = platform.world.alerts.values()
    assert "ingest-7" in alert.details["reason"]


def test_a_consumer_that_confirms_the_new_version_is_not_waited_for(platform: Platform) -> None:
    rotate_until(platform, Phase.GRACE)
    platform.settle()
    old, new = platform.world.keks
    platform.world.uses["ingest-7"] = KekUse("ingest-7", (old,), (), platform.world.now)
    platform.world.now += KEK_POLICY.grace
    platform.world.uses["ingest-7"] = KekUse("ingest-7", (new,), (), platform.world.now)
    platform.tick()
    platform.settle()
    assert phase_of(platform) is Phase.SOAKING
    assert not platform.world.alerts


@pytest.mark.parametrize("phase", [Phase.SOAKING, Phase.CLOSING])
def test_a_disabled_version_that_somebody_misses_is_enabled_again(platform: Platform, phase: Phase) -> None:
    rotate_until(platform, phase)
    old = next(iter(platform.world.keks))
    assert not platform.world.keks[old].enabled
    platform.world.uses["report-2"] = KekUse("report-2", (), (old,), platform.world.now)
    platform.tick()
    assert platform.world.keks[old].enabled
    assert len(platform.world.alerts) == 1
    platform.world.uses["report-2"] = KekUse("report-2", (), (), platform.world.now + timedelta(hours=1))
    platform.run_until(Phase.CLOSED)
    assert not platform.world.keks[old].enabled
    platform.check()


def test_a_version_missed_after_some_kept_wraps_are_dropped_is_enabled_again_and_the_rotation_ends(
    platform: Platform,
) -> None:
    rotate_until(platform, Phase.CLOSING)
    platform.tick()
    for message in list(platform.world.messages):
        platform.world.now = max(platform.world.now, message.visible_at)
        platform.deliver(message)
    kept = [dek.previous is not None for keyring in platform.world.keyrings.values() for dek in keyring.deks]
    assert set(kept) == {True, False}
    old = next(iter(platform.world.keks))
    platform.world.uses["report-2"] = KekUse("report-2", (), (old,), platform.world.now)
    platform.tick()
    assert platform.world.keks[old].enabled
    platform.world.uses["report-2"] = KekUse("report-2", (), (), platform.world.now + timedelta(hours=1))
    platform.run_until(Phase.CLOSED)
    platform.check()


def test_a_compromised_version_is_disabled_soon_and_not_enabled_again(platform: Platform) -> None:
    platform.order(KekAction.ROTATE, "setup", compromised=True)
    platform.settle()
    assert phase_of(platform) is Phase.GRACE
    old = next(iter(platform.world.keks))
    platform.world.now += timedelta(minutes=21)
    platform.tick()
    platform.settle()
    assert phase_of(platform) is Phase.SOAKING
    platform.world.uses["report-2"] = KekUse("report-2", (), (old,), platform.world.now)
    platform.tick()
    assert phase_of(platform) is Phase.SOAKING
    assert not platform.world.keks[old].enabled
    (alert,) = platform.world.alerts.values()
    assert "report-2" in alert.details["reason"]


def test_a_throttled_vault_loses_nothing_and_the_messages_wait(platform: Platform) -> None:
    platform.order(KekAction.ROTATE)
    for _ in range(200):
        if not platform.world.messages:
            break
        message = min(platform.world.messages, key=lambda message: message.visible_at)
        platform.world.now = max(platform.world.now, message.visible_at)
        platform.world.throttled = 1 if message.queue == "rewrap-batches" and platform.world.calls % 3 else 0
        platform.deliver(message)
        platform.world.throttled = 0
    platform.run_until(Phase.CLOSED)
    assert not platform.world.letters
    platform.check()


def test_lost_messages_are_sent_again(platform: Platform) -> None:
    rotate_until(platform, Phase.SWEEPING)
    platform.tick()
    platform.world.messages.clear()
    platform.world.now += timedelta(minutes=9)
    platform.tick()
    assert not platform.world.messages
    platform.world.now += timedelta(minutes=2)
    platform.tick()
    assert {message.queue for message in platform.world.messages} == {"rewrap-batches"}
    sent = len(platform.world.messages)
    platform.tick()
    assert len(platform.world.messages) == sent, "and not every minute"
    platform.run_until(Phase.CLOSED)
    platform.check()


def test_a_batch_that_kills_every_worker_is_a_dead_letter_and_the_shard_is_sent_again(platform: Platform) -> None:
    rotate_until(platform, Phase.SWEEPING)
    platform.tick()
    message = next(message for message in platform.world.messages if message.queue == "rewrap-batches")
    for _ in range(5):
        platform.world.faults[platform.world.calls + 2] = Fault.KILLED_BEFORE
        platform.deliver(message)
    platform.settle()
    assert len(platform.world.letters) == len(platform.world.alerts) == 1
    platform.run_until(Phase.CLOSED)
    platform.check()


def test_a_rotation_to_a_version_that_must_not_wrap_is_refused_at_once(platform: Platform) -> None:
    disabled = platform.world.add_kek(enabled=False)
    platform.order(KekAction.ROTATE, kid=disabled)
    platform.settle()
    assert len(platform.world.letters) == 1
    assert not platform.world.runs
    platform.world.keks[disabled] = replace(platform.world.keks[disabled], enabled=True)
    platform.world.now += timedelta(days=3)
    platform.tick()
    platform.settle()
    assert not platform.world.runs, "it does not come true when nobody expects it"


def test_a_part_that_does_not_exist_is_not_held(platform: Platform) -> None:
    rotate_until(platform, Phase.GRACE)
    platform.order(KekAction.ROLLBACK, tenant=TenantId("nobody"))
    platform.settle()
    assert phase_of(platform) is Phase.GRACE
    assert refusals(platform) == ["Rejected"]


def test_resuming_what_goes_on_changes_nothing_and_what_is_held_must_be_named(platform: Platform) -> None:
    rotate_until(platform, Phase.SWEEPING)
    platform.order(KekAction.RESUME, "stray")
    platform.deliver(platform.world.messages[-1])
    assert platform.kek_run
    assert platform.kek_run.step == 4
    platform.order(KekAction.ROLLBACK, "part", shard=1)
    platform.settle()
    platform.order(KekAction.RESUME, "all-of-it")
    platform.settle()
    assert refusals(platform) == ["Rejected"]
    assert platform.kek_run.held_shards == (1,)


def test_an_order_for_an_unknown_kek_or_without_a_rotation_is_refused(platform: Platform) -> None:
    stray = {"schema": "kek-order/1", "action": "kek.rotate", "kek": "no-such-kek", "reason": "why not"}
    platform.drop(KEK_ORDERS, json.dumps(stray))
    platform.order(KekAction.PAUSE)
    platform.settle()
    assert len(platform.world.letters) == 2
    platform.check()


def overwrite(platform: Platform, change: Callable[[WrappedDek], WrappedDek], version: int = 1) -> None:
    """An intruder, or a broken disk, changes a row behind everybody's back; its ETag changes with it."""
    keyring = platform.world.keyrings[VICTIM]
    deks = tuple(change(dek) if dek.version == version else dek for dek in keyring.deks)
    platform.world.keyrings[VICTIM] = replace(keyring, deks=deks)


def under(world: World, dek: WrappedDek, kid: Kid) -> WrappedDek:
    """The DEK, correctly wrapped under some version."""
    wrap = wrapped(Secret(world.open(dek)), world.keks[kid], no_vault)
    return replace(dek, wrapped=wrap.wrapped, kid=wrap.kid)


def flipped_byte(platform: Platform) -> None:
    overwrite(platform, lambda dek: replace(dek, wrapped=dek.wrapped[:-1] + bytes([dek.wrapped[-1] ^ 1])))


def swapped_pair(platform: Platform) -> None:
    one, other, last = platform.world.keyrings[VICTIM].deks
    swapped = (replace(one, wrapped=other.wrapped), replace(other, wrapped=one.wrapped), last)
    platform.world.keyrings[VICTIM] = replace(platform.world.keyrings[VICTIM], deks=swapped)


def wrong_kid(platform: Platform) -> None:
    run = platform.kek_run
    assert run
    other = run.old_kid if platform.world.keyrings[VICTIM].deks[0].kid == run.new_kid else run.new_kid
    assert other
    overwrite(platform, lambda dek: replace(dek, kid=other))


def third_version(platform: Platform) -> None:
    third = platform.world.add_kek()
    overwrite(platform, lambda dek: under(platform.world, dek, third))


def deleted_row(platform: Platform) -> None:
    keyring = platform.world.keyrings[VICTIM]
    platform.world.keyrings[VICTIM] = replace(keyring, deks=keyring.deks[1:])


def deleted_newest_row(platform: Platform) -> None:
    keyring = platform.world.keyrings[VICTIM]
    deks = (keyring.deks[0], replace(keyring.deks[1], state=keyring.deks[2].state))
    platform.world.keyrings[VICTIM] = Keyring(replace(keyring.tenant, primary=2), deks)


def deleted_tenant(platform: Platform) -> None:
    del platform.world.keyrings[VICTIM]


def another_key(platform: Platform) -> None:
    """Everything agrees, but it is not the DEK it was."""
    stranger = platform.world.keyrings[TenantId(TENANTS[1])].deks[0]

    def stand_in(dek: WrappedDek) -> WrappedDek:
        stands_for = {"version": dek.version, "state": dek.state, "demoted": dek.demoted, "job": dek.job}
        return replace(stranger, created=dek.created, **stands_for)  # type: ignore[arg-type] # by name

    overwrite(platform, stand_in)


def planted_row(platform: Platform) -> None:
    keyring = platform.world.keyrings[VICTIM]
    planted = replace(keyring.deks[-1], version=4, job="dek.rotate/tenant-0/v4")
    older = replace(keyring.deks[-1], state=keyring.deks[0].state, demoted=platform.world.now)
    platform.world.keyrings[VICTIM] = Keyring(replace(keyring.tenant, primary=4), (*keyring.deks[:-1], older, planted))


def planted_destruction(platform: Platform) -> None:
    keyring = platform.world.keyrings[VICTIM]
    gone = replace(keyring.tenant, state=TenantState.DESTROYED, destroyed_by=keyring.deks[0].job)
    platform.world.keyrings[VICTIM] = Keyring(gone)


DRILLS: dict[str, tuple[Callable[[Platform], None], Phase]] = {
    "a flipped byte before the sweep": (flipped_byte, Phase.FLIPPED),
    "a flipped byte after the sweep": (flipped_byte, Phase.SCRUBBING),
    "a swapped pair of rows before the sweep": (swapped_pair, Phase.FLIPPED),
    "a swapped pair of rows after the sweep": (swapped_pair, Phase.SCRUBBING),
    "a wrong kid before the sweep": (wrong_kid, Phase.FLIPPED),
    "a wrong kid after the sweep": (wrong_kid, Phase.SCRUBBING),
    "a third version before the sweep": (third_version, Phase.FLIPPED),
    "a third version after the sweep": (third_version, Phase.SCRUBBING),
    "a deleted row before the sweep": (deleted_row, Phase.FLIPPED),
    "a deleted row after the sweep": (deleted_row, Phase.SCRUBBING),
    "the newest row deleted": (deleted_newest_row, Phase.FLIPPED),
    "a deleted tenant": (deleted_tenant, Phase.FLIPPED),
    "another key in its place before the sweep": (another_key, Phase.FLIPPED),
    "another key in its place after the sweep": (another_key, Phase.SCRUBBING),
    "a planted row": (planted_row, Phase.FLIPPED),
    "a third version before retirement": (third_version, Phase.GRACE),
    "a deleted row before retirement": (deleted_row, Phase.GRACE),
    "a deleted row in the soak": (deleted_row, Phase.SOAKING),
    "a flipped byte in the soak": (flipped_byte, Phase.SOAKING),
    "a swapped pair of rows in the soak": (swapped_pair, Phase.SOAKING),
    "a wrong kid in the soak": (wrong_kid, Phase.SOAKING),
    "a third version in the soak": (third_version, Phase.SOAKING),
    "another key in its place in the soak": (another_key, Phase.SOAKING),
    "a planted row in the soak": (planted_row, Phase.SOAKING),
    "the newest row deleted in the soak": (deleted_newest_row, Phase.SOAKING),
    "a deleted tenant in the soak": (deleted_tenant, Phase.SOAKING),
    "a destruction that nobody asked for": (planted_destruction, Phase.GRACE),
}


@pytest.mark.parametrize(("corrupt", "phase"), DRILLS.values(), ids=list(DRILLS))
def test_a_corrupted_row_is_detected_left_alone_and_not_hidden_by_success(
    platform: Platform, corrupt: Callable[[Platform], None], phase: Phase, monkeypatch: pytest.MonkeyPatch
) -> None:
    rotate_until(platform, phase)
    monkeypatch.setitem(platform.process.policies, "master-kek", replace(KEK_POLICY, scrub=1.0))
    sound_before = platform.world.keyrings[VICTIM]
    corrupt(platform)
    corrupted = platform.world.keyrings.get(VICTIM)
    for _ in range(25):
        platform.settle()
        platform.world.now += timedelta(days=1)
        platform.tick()
    assert phase_of(platform) not in (Phase.CLOSED, Phase.FAILED, Phase.ROLLED_BACK)
    assert platform.world.alerts
    damaged = _wraps(corrupted).items() - _wraps(sound_before).items()
    assert damaged <= _wraps(platform.world.keyrings.get(VICTIM)).items(), "it was not overwritten"
    others = [name for name in TENANTS if shard_of(TenantId(name)) != shard_of(VICTIM)]
    assert {dek.kid for name in others for dek in platform.world.keyrings[TenantId(name)].deks} == {
        platform.kek_run and platform.kek_run.new_kid
    }, "the other shard went on"
    # Somebody puts back what was there.
    platform.world.keyrings[VICTIM] = sound_before
    platform.order(KekAction.RESUME)
    platform.run_until(Phase.CLOSED)
    platform.check()


def _wraps(keyring: Keyring | None) -> dict[int, tuple[bytes, str]]:
    return {dek.version: (dek.wrapped, dek.kid) for dek in keyring.deks} if keyring else {}
