"""When a tenant falls due: never too late, evenly spread, and whenever somebody looks."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotation.message import Action, Job, Trigger
from rotation.schedule import due_job, rotation_due
from shared.values import SHARDS, KeyState, Tenant, TenantId, TenantState, shard_of
from tests.pure.keyrings import ACME, NOW, POLICY, keyring
from tests.pure.test_envelope import TENANT_IDS

DAYS = st.integers(1, 1000).map(lambda days: timedelta(days=days))


def active(tenant: str = ACME, primary: int = 1) -> Tenant:
    """A tenant whose primary DEK was made now."""
    return Tenant(TenantId(tenant), TenantState.ACTIVE, NOW, primary, primary_since=NOW)


@given(tenant=TENANT_IDS, primary=st.integers(1, 2**32 - 1), interval=DAYS, spread=DAYS)
def test_a_rotation_is_due_within_the_spread_and_never_later_than_the_interval(
    tenant: str, primary: int, interval: timedelta, spread: timedelta
) -> None:
    policy = replace(POLICY, interval=interval + spread, spread=spread)
    due = rotation_due(active(tenant, primary), policy)
    assert NOW + policy.interval - spread <= due <= NOW + policy.interval - spread * 0.1


def test_a_hundred_thousand_tenants_fall_due_evenly() -> None:
    """No hour gets more than 1.2 times its share, and none less than 0.8 times."""
    tenants = 100_000
    begin = NOW + POLICY.interval - POLICY.spread
    hours = Counter(
        (rotation_due(active(f"tenant-{number}"), POLICY) - begin) // timedelta(hours=1) for number in range(tenants)
    )
    share = tenants / (POLICY.spread * 0.9 / timedelta(hours=1))
    assert len(hours) == 216
    assert max(hours.values()) <= share * 1.2
    assert min(hours.values()) >= share * 0.8


def test_a_tenant_does_not_keep_its_place_from_one_rotation_to_the_next() -> None:
    dues = [rotation_due(active(primary=primary), POLICY) for primary in range(1, 9)]
    assert len(set(dues)) == 8
    assert max(dues) - min(dues) > POLICY.spread / 4


def test_a_changed_policy_holds_at_once() -> None:
    tenant = active()
    shorter = replace(POLICY, interval=timedelta(days=30))
    assert rotation_due(tenant, POLICY) - rotation_due(tenant, shorter) == timedelta(days=60)


@given(late=st.timedeltas(timedelta(0), timedelta(days=5000)))
def test_a_missed_tick_loses_nothing(late: timedelta) -> None:
    tenant = active(primary=4)
    due = rotation_due(tenant, POLICY)
    job = due_job(tenant, POLICY, due + late)
    assert job is not None
    assert job == due_job(tenant, POLICY, due), "the job is the same whenever it is planned"
    assert (job.action, job.target, job.id) == (Action.ROTATE_DEK, 5, "dek.rotate/acme/v5")


def test_nothing_is_due_a_moment_before_its_time() -> None:
    tenant = active()
    assert due_job(tenant, POLICY, rotation_due(tenant, POLICY) - timedelta(microseconds=1)) is None


def test_a_planned_job_says_who_planned_it_and_why() -> None:
    tenant = active()
    assert due_job(tenant, POLICY, NOW + POLICY.interval) == Job(
        Action.ROTATE_DEK, ACME, "v2", Trigger.SCHEDULE, "planner", "rotation interval is over", 2
    )


DUAL = replace(active(primary=2), dual_running_since=NOW)
GONE = replace(active(), state=TenantState.OFFBOARDED, destroy_after=NOW + timedelta(days=30))
SCENARIOS: dict[str, tuple[Tenant, timedelta, str | None]] = {
    "fresh": (active(), timedelta(0), None),
    "without a DEK": (replace(active(), primary=0, primary_since=None), timedelta(0), "dek.rotate/acme/v1"),
    "dual running": (DUAL, timedelta(days=6), None),
    "dual running at its end": (DUAL, timedelta(days=7), "dek.retire/acme/20261120T123015.250000Z"),
    "dual running and a rotation due": (DUAL, timedelta(days=90), "dek.rotate/acme/v3"),
    "off-boarded": (GONE, timedelta(days=29), None),
    "off-boarded, overdue to rotate": (
        replace(GONE, destroy_after=NOW + timedelta(days=365)),
        timedelta(days=364),
        None,
    ),
    "off-boarded, dual running over": (replace(GONE, dual_running_since=NOW), timedelta(days=20), None),
    "retention over": (GONE, timedelta(days=30), f"tenant.destroy/acme/{NOW + timedelta(days=30):%Y%m%dT%H%M%S.%fZ}"),
    "destruction begun": (
        replace(GONE, state=TenantState.DESTROYING),
        timedelta(days=31),
        f"tenant.destroy/acme/{NOW + timedelta(days=30):%Y%m%dT%H%M%S.%fZ}",
    ),
    "off-boarded without an end": (replace(GONE, destroy_after=None), timedelta(days=9999), None),
    "destroyed": (replace(GONE, state=TenantState.DESTROYED), timedelta(days=9999), None),
}


@pytest.mark.parametrize(("tenant", "later", "job_id"), SCENARIOS.values(), ids=list(SCENARIOS))
def test_a_tenant_gets_the_one_job_that_it_needs(tenant: Tenant, later: timedelta, job_id: str | None) -> None:
    job = due_job(tenant, POLICY, NOW + later)
    assert (job.id if job else None) == job_id


def test_what_is_due_does_not_depend_on_the_deks_but_on_the_tenants_row_alone() -> None:
    ring = keyring(KeyState.SECONDARY, KeyState.PRIMARY)
    job = due_job(ring.tenant, POLICY, NOW + POLICY.grace)
    assert job is not None
    assert job.action is Action.RETIRE_DEK


def test_tenants_are_spread_evenly_over_the_shards() -> None:
    counts = Counter(shard_of(TenantId(f"tenant-{number}")) for number in range(64_000))
    assert len(counts) == SHARDS
    assert max(counts.values()) <= 1000 * 1.15


@pytest.mark.parametrize(("tenant", "shard"), [("acme", 45), ("globex", 13), ("a", 18)])
def test_a_tenants_shard_is_part_of_its_address_and_never_changes(tenant: str, shard: int) -> None:
    assert shard_of(TenantId(tenant)) == shard


def test_a_policy_without_a_spread_worth_the_name_still_holds_the_interval() -> None:
    policy = replace(POLICY, spread=timedelta(0))
    assert rotation_due(active(), policy) == NOW + POLICY.interval
