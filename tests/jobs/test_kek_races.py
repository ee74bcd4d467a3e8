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
from tests.pure.keyrings import no_vault

__all__ = ["platform"]
pytestmark = pytest.mark.usefixtures("few_shards")


def meanwhile(platform: Platform, call: str, others: Callable[[], None], act: Callable[[], None]) -> None:
    """Do `act`; the worker stands still before its first call of that name until the `others` are done."""
    world = platform.world
    real = world.io
    stood_still = False

    def io[T](port: str, name: str, effect: Callable[[], T]) -> T:
        nonlocal stood_still
        if not stood_still and f"{port}.{name}" == call:
            stood_still = True
            platform.process = Process(world)
            others()
        return real(port, name, effect)

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
