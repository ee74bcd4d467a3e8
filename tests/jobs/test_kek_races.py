"""Workers that stand still in the middle of something while the rotation of the KEK goes on without them."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from rotation.message import KEK_ORDERS, POISON_SUFFIX, ROTATION_JOBS, Action, KekAction
from rotation.wrapping import WriteTarget, new_dek
from shared.errors import Transient
from shared.values import KekUse, Keyring, KeyState, Phase, TenantId, shard_of
from tests.jobs.platform import Platform, Process
from tests.jobs.test_kek_rotation import TENANTS, VICTIM, phase_of, platform, rotate_until
from tests.pure.keyrings import KEK_POLICY, no_vault
from tests.simulator import QueuedMessage

__all__ = ["platform"]
pytestmark = pytest.mark.usefixtures("few_shards")


def meanwhile(
    platform: Platform, call: str, others: Callable[[], None], act: Callable[[], None], *, behind: bool = False
) -> None:
    """Do `act`; the worker stands still at its first call of that name until the `others` are done.

    It does so before the call, or `behind` it, with the answer in its hands.
    """
    world = platform.world
    real = world.io
    stood_still = False

    def io[T](port: str, name: str, effect: Callable[[], T]) -> T:
        nonlocal stood_still
        if stood_still or f"{port}.{name}" != call:
            return real(port, name, effect)
        stood_still = True
        answer = real(port, name, effect) if behind else None
        platform.process = Process(world)
        others()
        return answer if behind else real(port, name, effect)  # type: ignore[return-value] # of the same call

    world.io = io  # type: ignore[method-assign] # the world as this worker meets it
    try:
        act()
    finally:
        world.io = real  # type: ignore[method-assign]
    assert stood_still


def days_later(platform: Platform, days: int = 3) -> None:
    for _ in range(days):
        platform.world.now += timedelta(days=1)
        platform.tick()
        platform.settle()


def test_a_late_disabling_is_undone(platform: Platform) -> None:
    rotate_until(platform, Phase.RETIRING)
    old = next(iter(platform.world.keks))

    def others() -> None:
        platform.tick()
        platform.settle()
        assert phase_of(platform) is Phase.SOAKING
        platform.world.uses["report-2"] = KekUse("report-2", (), (old,), platform.world.now)
        platform.tick()
        platform.settle()
        platform.world.uses["report-2"] = KekUse("report-2", (), (), platform.world.now)
        platform.order(KekAction.ROLLBACK, "back")
        platform.run_until(Phase.ROLLED_BACK)

    platform.world.now += timedelta(days=1)
    meanwhile(platform, "vault.set_enabled", others, lambda: days_later(platform, 1))
    days_later(platform)
    assert phase_of(platform) is Phase.ROLLED_BACK
    assert platform.world.keks[old].enabled
    assert any("enabled again" in alert.what for alert in platform.world.alerts.values())
    platform.read_and_write()


def test_a_sweeper_that_comes_late_leaves_a_rolled_back_tenant_alone(platform: Platform) -> None:
    rotate_until(platform, Phase.SWEEPING)
    old = next(iter(platform.world.keks))
    platform.tick()
    shard = f'"shard": {shard_of(VICTIM)}'
    message = next(message for message in platform.world.messages if shard in message.body)
    platform.world.messages.remove(message)

    def others() -> None:
        platform.world.messages.append(message)
        platform.order(KekAction.ROLLBACK, "back")
        platform.run_until(Phase.ROLLED_BACK)

    meanwhile(platform, "deks.replace", others, lambda: platform.deliver(message))
    platform.settle()
    assert platform.kids() == {old}
    platform.check()


def test_what_a_request_in_flight_for_days_does_is_noticed_and_mended(platform: Platform) -> None:
    rotate_until(platform, Phase.GRACE)
    old = next(iter(platform.world.keks))
    platform.order(KekAction.ROLLBACK, "part", shard=shard_of(VICTIM))
    platform.deliver(platform.world.messages[-1])
    shard = f'"shard": {shard_of(VICTIM)}'
    message = next(message for message in platform.world.messages if shard in message.body and "pass" in message.body)
    platform.world.messages.remove(message)

    def others() -> None:
        platform.order(KekAction.RESUME, "part", shard=shard_of(VICTIM))
        platform.run_until(Phase.SOAKING)

    meanwhile(platform, "deks.replace", others, lambda: platform.deliver(message))
    platform.world.uses["report-2"] = KekUse("report-2", (), (old,), platform.world.now)
    platform.tick()
    assert platform.world.keks[old].enabled, "a service has missed it"
    platform.world.uses["report-2"] = KekUse("report-2", (), (), platform.world.now + timedelta(hours=1))
    platform.read_all()
    platform.run_until(Phase.CLOSED)
    platform.read_and_write()
    assert old not in platform.kids()


def test_a_first_dek_that_was_decided_before_the_rotation_is_decided_again(platform: Platform) -> None:
    platform.ask(Action.ADD_TENANT, "late", "by-hand")
    message = platform.world.messages.pop()

    def others() -> None:
        platform.order(KekAction.ROTATE)
        platform.run_until(Phase.CLOSED)

    meanwhile(platform, "audit.append", others, lambda: platform.deliver(message))
    platform.settle()
    platform.world.now += timedelta(hours=1)
    platform.settle()
    assert platform.world.keyrings[TenantId("late")].tenant.primary == 1
    platform.check()
    platform.read_and_write()


@pytest.mark.parametrize("scope", ["part", "second rotation"])
def test_a_damaged_kept_wrap_is_not_taken_on_trust(platform: Platform, scope: str) -> None:
    rotate_until(platform, Phase.GRACE)
    new = list(platform.world.keks)[1]
    part = {"shard": shard_of(VICTIM)} if scope == "part" else {}
    platform.order(KekAction.ROLLBACK, "back", **part)
    platform.run_until(Phase.SWEEPING if part else Phase.ROLLED_BACK)
    keyring = platform.world.keyrings[VICTIM]
    kept = keyring.deks[0].previous
    assert kept
    assert kept.kid == new
    damaged = replace(kept, wrapped=kept.wrapped[:-1] + bytes([kept.wrapped[-1] ^ 1]))
    deks = (replace(keyring.deks[0], previous=damaged), *keyring.deks[1:])
    platform.world.keyrings[VICTIM] = replace(keyring, deks=deks)
    if part:
        platform.order(KekAction.RESUME, "forward", **part)
    else:
        platform.order(KekAction.ROTATE, "forward", kid=new)
    platform.run_until(Phase.CLOSED)
    platform.check()


def test_a_birth_by_a_job_that_was_given_up_is_not_accounted_for(platform: Platform) -> None:
    platform.ask(Action.ROTATE_DEK, VICTIM, "unlucky")
    message = platform.world.messages.pop()
    real = platform.world.io

    def io[T](port: str, name: str, effect: Callable[[], T]) -> T:
        if (port, name) == ("deks", "replace"):
            raise Transient("away")
        return real(port, name, effect)

    platform.world.io = io  # type: ignore[method-assign]
    platform.deliver(message)
    platform.world.io = real  # type: ignore[method-assign]
    platform.world.messages.clear()
    platform.drop(ROTATION_JOBS + POISON_SUFFIX, message.body)
    platform.settle()
    job = f"dek.rotate/{VICTIM}/unlucky"
    assert platform.world.outcomes()[job] == {"intent", "failed"}
    rotate_until(platform, Phase.FLIPPED)
    old, new = platform.world.keks.values()
    keyring = platform.world.keyrings[VICTIM]
    planted = new_dek(VICTIM, 4, WriteTarget(new, old), platform.world.now, job, lambda size: b"E" * size, no_vault)
    older = replace(keyring.deks[-1], state=KeyState.SECONDARY, demoted=platform.world.now)
    deks = (*keyring.deks[:-1], older, replace(planted, etag=platform.world.etag()))
    platform.world.keyrings[VICTIM] = Keyring(replace(keyring.tenant, primary=4), deks)
    days_later(platform, 10)
    assert phase_of(platform) is Phase.SCRUBBING
    assert any("left alone" in alert.what for alert in platform.world.alerts.values())


def test_an_order_that_changed_nothing_changes_nothing_later(platform: Platform) -> None:
    rotate_until(platform, Phase.GRACE)
    platform.order(KekAction.PAUSE, "alice")
    platform.settle()
    late = platform.order(KekAction.PAUSE, "bob")
    platform.settle()
    assert platform.world.outcomes()[late.id] == {"superseded"}
    platform.order(KekAction.RESUME, "alice")
    platform.settle()
    platform.drop(KEK_ORDERS, late.to_json())
    platform.settle()
    assert phase_of(platform) is Phase.GRACE
    assert all(platform.world.keyrings[TenantId(name)].deks for name in TENANTS)


def test_an_order_behind_a_move_that_cannot_be_made_is_told_of(platform: Platform) -> None:
    rotate_until(platform, Phase.RETIRING)
    old = next(iter(platform.world.keks))
    gone = platform.world.keks.pop(old)
    days_later(platform, 1)
    order = platform.order(KekAction.PAUSE)
    platform.settle()
    assert platform.world.outcomes()[order.id] == {"failed"}
    assert [letter.id for letter in platform.world.letters.values() if letter.queue == KEK_ORDERS] == [order.id]
    platform.world.keks[old] = gone
    platform.run_until(Phase.CLOSED)


def swept_message(platform: Platform) -> QueuedMessage:
    """The message of the victim's shard, taken from its queue."""
    shard = f'"shard": {shard_of(VICTIM)}'
    message = next(message for message in platform.world.messages if shard in message.body and "pass" in message.body)
    platform.world.messages.remove(message)
    return message


def test_a_sweeper_that_stood_still_with_the_run_in_its_hands_sweeps_nothing(platform: Platform) -> None:
    rotate_until(platform, Phase.SWEEPING)
    old = next(iter(platform.world.keks))
    platform.tick()
    message = swept_message(platform)

    def others() -> None:
        platform.order(KekAction.ROLLBACK, "back")
        platform.run_until(Phase.ROLLED_BACK)

    meanwhile(platform, "keks.read", others, lambda: platform.deliver(message), behind=True)
    platform.settle()
    assert platform.kids() == {old}
    platform.order(KekAction.ROTATE, "again")
    platform.run_until(Phase.CLOSED)


def test_a_dek_is_not_born_under_a_version_that_was_read_long_ago(platform: Platform) -> None:
    old = next(iter(platform.world.keks))
    platform.ask(Action.ROTATE_DEK, VICTIM, "slow")
    message = platform.world.messages.pop()
    platform.world.now += timedelta(minutes=2)  # what is cached is read again

    def others() -> None:
        platform.order(KekAction.ROTATE, compromised=True)
        platform.run_until(Phase.SOAKING)
        assert not platform.world.keks[old].enabled

    meanwhile(platform, "vault.version", others, lambda: platform.deliver(message), behind=True)
    platform.settle()
    assert old not in platform.kids()
    platform.read_and_write()


def test_an_old_version_that_is_enabled_late_is_retired_once_more(platform: Platform) -> None:
    rotate_until(platform, Phase.SOAKING)
    old = next(iter(platform.world.keks))
    platform.tick()
    platform.world.keks[old] = replace(platform.world.keks[old], enabled=True)
    platform.tick()
    assert phase_of(platform) is Phase.SOAKING, "the vault may answer with what it knew"
    platform.world.now += timedelta(minutes=11)
    platform.tick()
    assert phase_of(platform) is Phase.SWEEPING
    platform.run_until(Phase.CLOSED)
    assert not platform.world.keks[old].enabled


def test_a_compromised_version_that_somebody_enables_keeps_the_run_from_its_close(platform: Platform) -> None:
    old = next(iter(platform.world.keks))
    platform.order(KekAction.ROTATE, compromised=True)
    platform.run_until(Phase.SOAKING)
    platform.world.keks[old] = replace(platform.world.keks[old], enabled=True)
    days_later(platform, 60)
    assert phase_of(platform) is Phase.SOAKING
    assert [alert.details["reason"] for alert in platform.world.alerts.values() if "cannot go on" in alert.what] == [
        "the compromised version is enabled: disable it"
    ]
    platform.world.keks[old] = replace(platform.world.keks[old], enabled=False)
    platform.run_until(Phase.CLOSED)


def test_disabling_is_not_undone_by_who_looks_while_it_is_under_way(platform: Platform) -> None:
    rotate_until(platform, Phase.RETIRING)
    old = next(iter(platform.world.keks))
    platform.world.now += timedelta(days=1)

    def others() -> None:
        platform.process.kek_jobs.drive_all()

    meanwhile(platform, "vault.set_enabled", others, lambda: days_later(platform, 1), behind=True)
    assert phase_of(platform) is Phase.SOAKING
    assert not platform.world.keks[old].enabled
    assert not any("enabled again" in alert.what for alert in platform.world.alerts.values())


def test_what_happens_to_a_retired_version_after_the_close_is_told(platform: Platform) -> None:
    rotate_until(platform, Phase.CLOSED)
    old = next(iter(platform.world.keks))
    days_later(platform, 1)
    assert not platform.world.alerts
    platform.world.keks[old] = replace(platform.world.keks[old], enabled=True)
    platform.world.uses["service"] = KekUse("service", (), (old,), platform.world.now)
    days_later(platform, 2)
    assert sorted(alert.what for alert in platform.world.alerts.values()) == [
        "a KEK version that is retired is enabled",
        "a KEK version that is retired is missed",
    ]


def fails_now_and_then(platform: Platform, every: int) -> Callable[[], int]:
    """Let so many of the unwraps fail; answers with a count of all."""
    real, unwraps = platform.world.io, 0

    def io[T](port: str, name: str, effect: Callable[[], T]) -> T:
        nonlocal unwraps
        if (port, name) == ("vault", "unwrap"):
            unwraps += 1
            if unwraps % every == 0:
                raise Transient("the vault has hiccups")
        return real(port, name, effect)

    platform.world.io = io  # type: ignore[method-assign]
    return lambda: unwraps


@pytest.mark.parametrize("phase", [Phase.SWEEPING, Phase.SCRUBBING])
def test_a_vault_with_hiccups_is_got_through(platform: Platform, phase: Phase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.jobs.platform.KEK_POLICY", replace(KEK_POLICY, scrub=1.0))
    monkeypatch.setattr("tests.jobs.platform.MAX_ROWS", 1000)
    platform.process = Process(platform.world)
    for number in range(20):
        platform.add_tenant(f"another-{number}")
    rotate_until(platform, phase)
    unwraps = fails_now_and_then(platform, every=5)
    platform.run_until(Phase.GRACE)
    assert unwraps() <= 4 * (20 + len(TENANTS) + 2)
    assert not platform.world.letters


def test_a_tenant_that_takes_longer_than_a_stall_is_swept(platform: Platform) -> None:
    real = platform.world.io

    def io[T](port: str, name: str, effect: Callable[[], T]) -> T:
        if (port, name) == ("vault", "unwrap"):
            platform.world.now += timedelta(minutes=4)
        return real(port, name, effect)

    rotate_until(platform, Phase.SWEEPING)
    platform.world.io = io  # type: ignore[method-assign]
    platform.run_until(Phase.CLOSED)
    assert not platform.world.letters


def test_a_tenant_is_not_resumed_while_its_shard_is_held(platform: Platform) -> None:
    rotate_until(platform, Phase.GRACE)
    platform.order(KekAction.ROLLBACK, "shard", shard=shard_of(VICTIM))
    platform.settle()
    order = platform.order(KekAction.RESUME, "tenant", tenant=VICTIM)
    platform.settle()
    assert platform.world.outcomes()[order.id] == {"failed"}
    (letter,) = platform.world.letters.values()
    assert letter.reason.startswith("Rejected: the shard of the tenant is rolled back and held: resume the shard")


def test_an_order_that_comes_late_leaves_the_next_rotation_alone(platform: Platform) -> None:
    rotate_until(platform, Phase.GRACE)
    order = platform.order(KekAction.ROLLBACK, "for-the-first", generation=1)
    late = platform.world.messages.pop()
    platform.run_until(Phase.CLOSED)
    platform.order(KekAction.ROTATE, "second")
    platform.run_until(Phase.GRACE)
    platform.world.messages.append(late)
    platform.settle()
    assert phase_of(platform) is Phase.GRACE
    assert platform.world.outcomes()[order.id] == {"failed"}


def test_a_mistake_of_ours_in_one_kek_is_on_record_for_the_rule_that_counts_them(
    platform: Platform, caplog: pytest.LogCaptureFixture
) -> None:
    real = platform.world.io

    def io[T](port: str, name: str, effect: Callable[[], T]) -> T:
        if (port, name) == ("keks", "read"):
            raise RuntimeError("the service calls the request wrong")
        return real(port, name, effect)

    platform.world.io = io  # type: ignore[method-assign]
    with pytest.raises(RuntimeError):
        platform.process.kek_jobs.drive_all()
    assert [record.__dict__["because"] for record in caplog.records if record.getMessage() == "KEK not served"] == [
        "RuntimeError"
    ] * 2
