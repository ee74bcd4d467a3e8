"""The budget of a vault: whatever the number of workers, the stream is even and within the allowed rate."""

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta
from typing import override

import pytest

from rotation.vault_budget import NotNow, VaultBudget
from shared.errors import Transient
from shared.values import Budget
from tests.simulator import START, SimBudgets, World

VAULT = "https://sim.vault.azure.net"
COST = 1 / 400
WINDOW = timedelta(seconds=10)


class Worker:
    """A process that asks for operations as fast as it may; it sleeps by remembering when it wakes up."""

    def __init__(self, world: World) -> None:
        self.wakes = world.now
        self.asleep = 0.0
        self.budget = VaultBudget(SimBudgets(world), world.clock, self.sleep)

    def sleep(self, seconds: float) -> None:
        self.asleep = seconds


def served(workers: int, seconds: int, draw: random.Random) -> tuple[list[float], World]:
    """The moments of all operations that so many workers were given in that time."""
    world = World()
    pool = [Worker(world) for _ in range(workers)]
    moments: list[float] = []
    end = START + timedelta(seconds=seconds)
    while True:
        worker = min(pool, key=lambda each: each.wakes)
        world.now = max(world.now, worker.wakes)
        if world.now >= end:
            return moments, world
        worker.asleep = 0.0
        try:
            worker.budget.take(VAULT, COST)
        except NotNow as later:
            worker.wakes = world.now + later.delay
            continue
        moment = world.now + timedelta(seconds=worker.asleep)
        moments.append((moment - START).total_seconds())
        worker.wakes = moment + timedelta(seconds=draw.uniform(0, 0.002 * workers))


@pytest.mark.parametrize("workers", [1, 4, 16, 64])
def test_all_workers_together_use_the_quota_and_never_more(workers: int) -> None:
    moments, _ = served(workers, 40, random.Random(workers))
    steady = [moment for moment in moments if 10 <= moment < 40]
    assert 0.95 * 400 * 30 <= len(steady) <= 1.005 * 400 * 30
    ordered = sorted(moments)
    most = max(sum(start <= moment < start + 10 for moment in ordered) for start in ordered[:: len(ordered) // 50])
    assert most <= 4000 * 1.06, "no window of ten seconds, wherever it begins, holds more than its share"


@pytest.mark.parametrize(("idle_s", "at_once_s"), [(0.5, 0.5), (1, 1), (3600, 1)])
def test_time_that_nobody_used_may_be_used_for_a_second_more(idle_s: float, at_once_s: float) -> None:
    world = World()
    budget = VaultBudget(SimBudgets(world), world.clock, world.sleep)
    budget.take(VAULT, COST)
    resumed = world.now = START + timedelta(seconds=idle_s)
    taken = 0
    while world.now == resumed:
        budget.take(VAULT, COST)
        taken += 1
    assert taken == pytest.approx(at_once_s / COST, abs=2)


def test_nothing_of_a_chunk_is_lost_to_operations_that_do_not_fit_into_it() -> None:
    world = World()
    budget = VaultBudget(SimBudgets(world), world.clock, world.sleep)
    for _ in range(1000):
        budget.take(VAULT, 0.03)
    assert (world.now - START).total_seconds() == pytest.approx(30, abs=0.1)


def test_a_turn_that_is_far_away_is_not_waited_for() -> None:
    world = World()
    SimBudgets(world).put(Budget(VAULT, world.now + timedelta(seconds=30)))
    with pytest.raises(NotNow) as later:
        VaultBudget(SimBudgets(world), world.clock, world.sleep).take(VAULT, COST)
    assert later.value.delay == timedelta(seconds=30)
    assert world.now == START


def test_one_can_ask_whether_a_turn_is_far_away_without_taking_it() -> None:
    world = World()
    budget = VaultBudget(SimBudgets(world), world.clock, world.sleep)
    budget.ensure_soon(VAULT)
    assert not world.budgets
    SimBudgets(world).put(Budget(VAULT, world.now + timedelta(seconds=30)))
    before = world.budgets[VAULT]
    with pytest.raises(NotNow) as later:
        budget.ensure_soon(VAULT)
    assert later.value.delay == timedelta(seconds=30)
    assert world.budgets[VAULT] == before


def test_a_schedule_of_a_clock_that_is_wrong_is_begun_anew() -> None:
    world = World()
    SimBudgets(world).put(Budget(VAULT, world.now + timedelta(days=30)))
    budget = VaultBudget(SimBudgets(world), world.clock, world.sleep)
    with pytest.raises(NotNow) as later:
        budget.take(VAULT, COST)
    world.now += later.value.delay
    assert world.now == START + timedelta(minutes=2)
    budget.ensure_soon(VAULT)
    budget.take(VAULT, COST)
    assert world.budgets[VAULT].free_at < world.now + timedelta(seconds=1)


@pytest.mark.parametrize("skews", [(0, -125), (70, 0, 0, -60), (0, 0, 0, -600), (0, 600)], ids=str)
def test_clocks_that_differ_never_make_the_schedule_go_back(skews: tuple[int, ...]) -> None:
    world = World()
    taken = 0

    def clock(skew: int) -> Callable[[], datetime]:
        return lambda: world.now + timedelta(seconds=skew)

    workers = [VaultBudget(SimBudgets(world), clock(skew), lambda _: None) for skew in skews]
    for _ in range(30_000):
        world.now += timedelta(milliseconds=1)
        for worker in workers:
            before = world.budgets.get(VAULT)
            with suppress(NotNow):
                worker.take(VAULT, COST)
                taken += 1
            after = world.budgets.get(VAULT)
            assert not before or not after or after.free_at >= before.free_at
    assert taken <= (30 + max(skews) - min(skews) + 5) / COST


def test_many_threads_that_are_throttled_at_once_are_one_reason_for_one_pause() -> None:
    world = World()
    budget = VaultBudget(SimBudgets(world), world.clock, world.sleep)
    assert {budget.throttled(VAULT, None).delay for _ in range(16)} == {timedelta(seconds=1)}
    assert world.budgets[VAULT].free_at == START + timedelta(seconds=1)
    world.now += timedelta(seconds=1)
    assert budget.throttled(VAULT, None).delay == timedelta(seconds=2)
    assert budget.throttled(VAULT, 90).delay == timedelta(seconds=90)


def test_who_waited_while_the_storage_hung_does_not_wait_for_a_time_out_of_his_own() -> None:
    world = World()
    hangs, goes_on, asked = threading.Event(), threading.Event(), threading.Semaphore(0)
    calls = 0

    class Hanging(SimBudgets):
        @override
        def read(self, vault: str) -> Budget | None:
            nonlocal calls
            calls += 1
            hangs.set()
            assert goes_on.wait(10)
            world.now += timedelta(seconds=60)
            raise Transient("no answer")

    def clock() -> datetime:
        now = world.now
        if hangs.is_set():
            asked.release()
        return now

    budget = VaultBudget(Hanging(world), clock, world.sleep)
    with ThreadPoolExecutor(16) as pool:
        first = pool.submit(budget.take, VAULT, COST)
        assert hangs.wait(10)
        others = [pool.submit(budget.take, VAULT, COST) for _ in range(15)]
        assert all(asked.acquire(timeout=10) for _ in others)
        goes_on.set()
        errors = [each.exception(10) for each in (first, *others)]
    assert {type(error) for error in errors} == {Transient}
    assert calls == 1


PAUSES: dict[str, tuple[float | None, list[float]]] = {
    "without Retry-After": (None, [1, 2, 4, 8, 16, 16]),
    "with a short Retry-After": (0.5, [1, 2, 4, 8, 16, 16]),
    "with a long Retry-After": (7, [7, 7, 7, 8, 16, 16]),
}


@pytest.mark.parametrize(("retry_after", "pauses"), PAUSES.values(), ids=list(PAUSES))
def test_a_throttled_vault_is_left_alone_by_everybody_for_a_growing_time(
    retry_after: float | None, pauses: list[float]
) -> None:
    world = World()
    budget = VaultBudget(SimBudgets(world), world.clock, world.sleep)
    other = VaultBudget(SimBudgets(world), world.clock, world.sleep)
    for pause in pauses:
        assert budget.throttled(VAULT, retry_after).delay == timedelta(seconds=pause)
        assert world.budgets[VAULT].free_at == world.now + timedelta(seconds=pause)
        if pause > 2:
            with pytest.raises(NotNow):
                other.take(VAULT, COST)
        world.now += timedelta(seconds=pause)
    budget.went_well(VAULT)
    assert budget.throttled(VAULT, None).delay == timedelta(seconds=1)


def test_a_vault_is_not_asked_while_the_budget_cannot_be_read() -> None:
    world = World(outage=frozenset({"budgets"}))
    with pytest.raises(Transient):
        VaultBudget(SimBudgets(world), world.clock, world.sleep).take(VAULT, COST)


def test_two_workers_that_lease_at_the_same_moment_do_not_get_the_same_time() -> None:
    world = World()
    one, other = (VaultBudget(SimBudgets(world), world.clock, world.sleep) for _ in range(2))
    other.take(VAULT, COST)
    before = world.budgets[VAULT].free_at

    def meanwhile() -> Callable[[], None]:
        return lambda: other.take(VAULT, 1.0)

    world.interruptions = {world.calls + 2: meanwhile()}
    one.take(VAULT, COST)
    assert world.budgets[VAULT].free_at >= before + timedelta(seconds=1)
