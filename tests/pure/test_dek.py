"""What a job makes of a keyring: every state of a tenant, every action, every kind of broken row."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotation.dek import Change, Standing, Step, decide, ensure_sound
from rotation.message import Action, Job
from shared.errors import AtpError, Integrity, Rejected, TenantDestroyed, TenantOffboarded, UnknownTenant
from shared.ports import MAX_ROWS_PER_TRANSACTION
from shared.values import Keyring, KeyState, TenantState, WrappedDek
from tests.pure.keyrings import ACME, NOW, POLICY, job, keyring, with_dek, wrapped_dek

PENDING, PRIMARY, SECONDARY = KeyState.PENDING, KeyState.PRIMARY, KeyState.SECONDARY
RETIRED, ARCHIVED, REVOKED = KeyState.RETIRED, KeyState.ARCHIVED, KeyState.REVOKED
LATER = NOW + POLICY.grace


def make_dek(version: int) -> WrappedDek:
    return wrapped_dek(version, PRIMARY, created=NOW, job="the job")


def make_none(version: int) -> WrappedDek:
    raise AssertionError(f"no DEK is needed here, and none of version {version}")


def run(ring: Keyring | None, wanted: Job, now: Any = NOW, maker: Callable[[int], WrappedDek] = make_none) -> Step:
    return decide(ring, wanted, POLICY, now, maker)


ADD, OFFBOARD = job(Action.ADD_TENANT), job(Action.OFFBOARD_TENANT)
REINSTATE = job(Action.REINSTATE_TENANT)
DESTROY, RETIRE = job(Action.DESTROY_TENANT), job(Action.RETIRE_DEK)
ROTATE, ROTATE_TO_2 = job(Action.ROTATE_DEK), job(Action.ROTATE_DEK, "v2", 2)
STANDING: dict[str, Keyring | None] = {
    "unknown": None,
    "new": keyring(),
    "active": keyring(PRIMARY),
    "rotated": keyring(SECONDARY, PRIMARY),
    "offboarded": keyring(PRIMARY, state=TenantState.OFFBOARDED, destroy_after=LATER, offboarded_by="another"),
    "destroying": keyring(state=TenantState.DESTROYING, primary=1, destroy_after=NOW, destroyed_by="another"),
    "destroyed": keyring(state=TenantState.DESTROYED, primary=1, destroy_after=NOW, destroyed_by="another"),
}
# Who is asked, what for, and the answer: a standing, an error, or the tenant's new state and DEK states.
type Answer = Standing | type[AtpError] | tuple[TenantState, tuple[KeyState, ...]]
ACTIVE, OFFBOARDED, DESTROYED = TenantState.ACTIVE, TenantState.OFFBOARDED, TenantState.DESTROYED
ANSWERS: list[tuple[str, Job, Answer]] = [
    ("unknown", ADD, (ACTIVE, ())),
    ("new", ADD, Standing.SUPERSEDED),
    ("active", ADD, Standing.SUPERSEDED),
    ("rotated", ADD, Standing.SUPERSEDED),
    ("offboarded", ADD, Rejected),
    ("destroying", ADD, Rejected),
    ("destroyed", ADD, Rejected),
    ("unknown", ROTATE, UnknownTenant),
    ("new", ROTATE, (ACTIVE, (PRIMARY,))),
    ("active", ROTATE, (ACTIVE, (SECONDARY, PRIMARY))),
    ("rotated", ROTATE, (ACTIVE, (SECONDARY, SECONDARY, PRIMARY))),
    ("offboarded", ROTATE, TenantOffboarded),
    ("destroying", ROTATE, TenantDestroyed),
    ("destroyed", ROTATE, TenantDestroyed),
    ("unknown", ROTATE_TO_2, UnknownTenant),
    ("new", ROTATE_TO_2, Integrity),
    ("active", ROTATE_TO_2, (ACTIVE, (SECONDARY, PRIMARY))),
    ("rotated", replace(ROTATE_TO_2, request="by hand"), Standing.SUPERSEDED),
    ("rotated", ROTATE_TO_2, Standing.DONE),
    ("offboarded", ROTATE_TO_2, Standing.SUPERSEDED),
    ("destroying", ROTATE_TO_2, Standing.SUPERSEDED),
    ("destroyed", ROTATE_TO_2, Standing.SUPERSEDED),
    ("unknown", RETIRE, UnknownTenant),
    ("new", RETIRE, Standing.DONE),
    ("active", RETIRE, Standing.DONE),
    ("rotated", RETIRE, Standing.DONE),
    ("offboarded", RETIRE, Standing.DONE),
    ("destroying", RETIRE, Standing.SUPERSEDED),
    ("destroyed", RETIRE, Standing.SUPERSEDED),
    ("unknown", OFFBOARD, UnknownTenant),
    ("new", OFFBOARD, (OFFBOARDED, ())),
    ("active", OFFBOARD, (OFFBOARDED, (PRIMARY,))),
    ("rotated", OFFBOARD, (OFFBOARDED, (SECONDARY, PRIMARY))),
    ("offboarded", OFFBOARD, Standing.SUPERSEDED),
    ("destroying", OFFBOARD, Standing.SUPERSEDED),
    ("destroyed", OFFBOARD, Standing.SUPERSEDED),
    ("unknown", REINSTATE, UnknownTenant),
    ("new", REINSTATE, Standing.SUPERSEDED),
    ("active", REINSTATE, Standing.SUPERSEDED),
    ("rotated", REINSTATE, Standing.SUPERSEDED),
    ("offboarded", REINSTATE, (ACTIVE, (PRIMARY,))),
    ("destroying", REINSTATE, TenantDestroyed),
    ("destroyed", REINSTATE, TenantDestroyed),
    ("unknown", DESTROY, UnknownTenant),
    ("new", DESTROY, Rejected),
    ("active", DESTROY, Rejected),
    ("rotated", DESTROY, Rejected),
    ("offboarded", DESTROY, Rejected),
    ("destroying", DESTROY, (DESTROYED, ())),
    ("destroyed", DESTROY, Standing.SUPERSEDED),
]


@pytest.mark.parametrize(
    ("standing", "wanted", "answer"), ANSWERS, ids=[f"{name}, {wanted.id}" for name, wanted, _ in ANSWERS]
)
def test_every_action_has_its_answer_in_every_state_of_a_tenant(standing: str, wanted: Job, answer: Answer) -> None:
    ring = STANDING[standing]
    if isinstance(answer, type):
        with pytest.raises(AtpError) as caught:
            run(ring, wanted, maker=make_dek)
        assert type(caught.value) is answer
        return
    step = run(ring, wanted, maker=make_dek)
    if isinstance(answer, Standing):
        assert step is answer
    else:
        assert isinstance(step, Change)
        assert (step.new.tenant.state, tuple(dek.state for dek in step.new.deks)) == answer
        assert not step.more
        ensure_sound(step.new)


def test_the_table_of_answers_has_every_action_in_every_state() -> None:
    assert {(name, wanted.action) for name, wanted, _ in ANSWERS} == {
        (name, action) for name in STANDING for action in Action
    }


def change(ring: Keyring | None, wanted: Job, now: Any = NOW) -> Keyring:
    step = run(ring, wanted, now, make_dek)
    assert isinstance(step, Change)
    return step.new


def test_a_new_tenant_is_active_and_has_no_dek_yet() -> None:
    new = change(None, ADD)
    assert (new.tenant.added, new.tenant.added_by, new.tenant.primary, new.deks) == (NOW, ADD.id, 0, ())
    assert run(new, ADD) is Standing.DONE


def test_a_rotation_demotes_the_old_dek_and_moves_the_pointer_and_touches_nothing_else() -> None:
    before = keyring(RETIRED, RETIRED, PRIMARY)
    after = change(before, ROTATE)
    assert after.deks[:2] == before.deks[:2]
    assert after.deks[2] == replace(before.deks[2], state=SECONDARY, demoted=NOW)
    assert after.deks[3] == make_dek(4)
    assert after.tenant == replace(before.tenant, primary=4, primary_since=NOW, dual_running_since=NOW)


def test_a_rotation_that_was_done_is_done_for_every_later_delivery() -> None:
    before = keyring(PRIMARY)
    done = run(before, ROTATE_TO_2, maker=lambda version: wrapped_dek(version, PRIMARY, job=ROTATE_TO_2.id))
    assert isinstance(done, Change)
    assert run(done.new, ROTATE_TO_2) is Standing.DONE
    much_later = replace(done.new, tenant=replace(done.new.tenant, state=TenantState.OFFBOARDED))
    assert run(much_later, ROTATE_TO_2) is Standing.DONE


def test_a_rotation_retires_what_has_run_in_parallel_for_long_enough() -> None:
    after = change(keyring(SECONDARY, PRIMARY), ROTATE, LATER)
    assert [dek.state for dek in after.deks] == [RETIRED, SECONDARY, PRIMARY]
    assert after.tenant.dual_running_since == LATER


@pytest.mark.parametrize(
    ("after_grace", "states"),
    [(timedelta(microseconds=-1), None), (timedelta(0), (RETIRED, SECONDARY, PRIMARY))],
)
def test_a_secondary_retires_when_its_grace_is_over_and_no_earlier(
    after_grace: timedelta, states: tuple[KeyState, ...] | None
) -> None:
    ring = with_dek(keyring(SECONDARY, SECONDARY, PRIMARY), 2, demoted=NOW + timedelta(days=1))
    step = run(ring, RETIRE, LATER + after_grace)
    if states is None:
        assert step is Standing.DONE
    else:
        assert isinstance(step, Change)
        assert tuple(dek.state for dek in step.new.deks) == states
        assert step.new.tenant.dual_running_since == NOW + timedelta(days=1)
        assert run(step.new, RETIRE, LATER + after_grace) is Standing.DONE


def test_the_end_of_dual_running_is_written_into_the_tenants_row() -> None:
    assert change(keyring(SECONDARY, PRIMARY), RETIRE, LATER).tenant.dual_running_since is None


def test_an_off_boarded_tenants_secondary_still_retires() -> None:
    after = change(keyring(SECONDARY, PRIMARY, state=TenantState.OFFBOARDED), RETIRE, LATER)
    assert [dek.state for dek in after.deks] == [RETIRED, PRIMARY]


def test_an_off_boarded_tenant_keeps_its_deks_for_the_retention_period() -> None:
    before = keyring(SECONDARY, PRIMARY)
    after = change(before, OFFBOARD)
    assert after.deks == before.deks
    assert (after.tenant.offboarded, after.tenant.destroy_after) == (NOW, NOW + POLICY.retention)
    assert run(after, OFFBOARD) is Standing.DONE
    with pytest.raises(Rejected, match="retention period"):
        run(after, DESTROY, NOW + POLICY.retention - timedelta(microseconds=1))
    gone = change(after, DESTROY, NOW + POLICY.retention)
    assert (gone.tenant.state, gone.deks) == (TenantState.DESTROYED, ())
    assert run(gone, DESTROY, NOW + POLICY.retention) is Standing.DONE
    assert run(gone, OFFBOARD) is Standing.DONE


@pytest.mark.parametrize("versions", [98, 99, 100, 198, 199, 350])
def test_a_tenant_with_many_deks_is_destroyed_in_transactions_that_fit(versions: int) -> None:
    ring = keyring(
        *[RETIRED] * (versions - 1), PRIMARY, state=TenantState.OFFBOARDED, destroy_after=NOW, offboarded_by="o"
    )
    transactions = 0
    while True:
        step = run(ring, DESTROY)
        assert isinstance(step, Change)
        transactions += 1
        assert 1 + len(ring.deks) - len(step.new.deks) <= MAX_ROWS_PER_TRANSACTION
        assert step.new.tenant.destroyed_by == DESTROY.id
        ensure_sound(step.new)
        ring = step.new
        if not step.more:
            break
    assert transactions == -(-versions // (MAX_ROWS_PER_TRANSACTION - 1))
    assert (ring.tenant.state, ring.deks) == (TenantState.DESTROYED, ())


def test_a_destruction_taken_over_by_another_job_stays_the_first_ones() -> None:
    ring = keyring(state=TenantState.DESTROYING, primary=1, destroy_after=NOW, destroyed_by="first")
    assert change(ring, DESTROY).tenant.destroyed_by == "first"


def test_a_plan_made_on_newer_rows_than_there_are_stops_the_tenant() -> None:
    with pytest.raises(Integrity, match="lost or restored") as caught:
        run(keyring(PRIMARY), job(Action.ROTATE_DEK, "v3", 3))
    assert caught.value.fields == {"tenant": ACME, "target": 3, "primary": 1}


SOUND: dict[str, Keyring] = {
    "no DEK": keyring(),
    "one DEK": keyring(PRIMARY),
    "all states": keyring(REVOKED, ARCHIVED, RETIRED, SECONDARY, SECONDARY, PRIMARY),
    "off-boarded": keyring(SECONDARY, PRIMARY, state=TenantState.OFFBOARDED),
    "off-boarded before its first DEK": keyring(state=TenantState.OFFBOARDED),
    "half destroyed": replace(
        keyring(RETIRED, RETIRED, PRIMARY, state=TenantState.DESTROYING), deks=(wrapped_dek(3, PRIMARY),)
    ),
    "destroyed": keyring(state=TenantState.DESTROYED, primary=7),
}
BROKEN: dict[str, Keyring] = {
    "no primary": keyring(RETIRED, RETIRED),
    "two primaries": keyring(PRIMARY, PRIMARY),
    "the pointer on the previous version": keyring(SECONDARY, PRIMARY, primary=1),
    "the pointer on the next version": keyring(SECONDARY, PRIMARY, primary=3),
    "the pointer on nothing": keyring(SECONDARY, PRIMARY, primary=0),
    "a negative pointer": keyring(primary=-1),
    "the primary is not the last": keyring(PRIMARY, RETIRED),
    "the primary was revoked": keyring(SECONDARY, REVOKED),
    "the primary is pending": keyring(SECONDARY, PENDING),
    "a version is missing": replace(
        keyring(RETIRED, RETIRED, PRIMARY), deks=(wrapped_dek(1, RETIRED), wrapped_dek(3, PRIMARY))
    ),
    "the first version is missing": replace(keyring(RETIRED, PRIMARY), deks=(wrapped_dek(2, PRIMARY),)),
    "a version is there twice": replace(
        keyring(RETIRED, PRIMARY), deks=(wrapped_dek(1, RETIRED), wrapped_dek(1, RETIRED), wrapped_dek(2, PRIMARY))
    ),
    "the versions are out of order": replace(
        keyring(RETIRED, PRIMARY), deks=(wrapped_dek(2, PRIMARY), wrapped_dek(1, RETIRED))
    ),
    "there is a version 0": replace(keyring(PRIMARY), deks=(wrapped_dek(0, RETIRED), wrapped_dek(1, PRIMARY))),
    "a secondary was never demoted": with_dek(keyring(SECONDARY, PRIMARY), 1, demoted=None),
    "all DEKs are lost": keyring(primary=3),
    "off-boarded with two primaries": keyring(PRIMARY, PRIMARY, state=TenantState.OFFBOARDED),
    "destroyed with a DEK": keyring(PRIMARY, state=TenantState.DESTROYED),
}


@pytest.mark.parametrize("ring", SOUND.values(), ids=list(SOUND))
def test_a_sound_keyring_is_sound(ring: Keyring) -> None:
    ensure_sound(ring)


@pytest.mark.parametrize("ring", BROKEN.values(), ids=list(BROKEN))
@pytest.mark.parametrize("action", Action)
def test_a_broken_keyring_stops_every_action(ring: Keyring, action: Action) -> None:
    with pytest.raises(Integrity) as caught:
        run(ring, job(action), LATER)
    assert caught.value.fields["tenant"] == ACME


STEPS = st.lists(
    st.tuples(st.sampled_from(Action), st.integers(0, 100).map(lambda days: timedelta(days=days))), max_size=30
)


@given(STEPS)
def test_every_history_keeps_a_keyring_sound_and_ends_where_it_is_asked_again(
    steps: list[tuple[Action, timedelta]],
) -> None:
    ring: Keyring | None = None
    now = NOW
    for number, (action, passed) in enumerate(steps):
        now += passed
        wanted = job(action, f"r{number}")

        def maker(version: int, made_by: str = wanted.id, at: Any = now) -> WrappedDek:
            return wrapped_dek(version, PRIMARY, job=made_by, created=at)

        try:
            step = decide(ring, wanted, POLICY, now, maker)
        except (Rejected, UnknownTenant):
            continue
        if isinstance(step, Change):
            ensure_sound(step.new)
            assert decide(step.new, wanted, POLICY, now, make_none) is Standing.DONE
            ring = step.new
