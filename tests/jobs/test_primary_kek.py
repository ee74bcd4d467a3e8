import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import override

import pytest

from rotation.primary_kek import PrimaryKek
from shared.errors import Transient
from shared.values import KekVersion, Kid
from tests.simulator import SimKeks, SimVault, World

JOBS = 8


class HangingVault(SimVault):
    """Does not answer before every job has asked for the KEK."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.everybody_asked = threading.Event()
        self.tried = 0
        self.answers = False

    @override
    def version(self, kid: Kid) -> KekVersion:
        self.tried += 1
        assert self.everybody_asked.wait(30)
        if not self.answers:
            raise Transient("no answer")
        return super().version(kid)


def test_jobs_that_wait_while_the_vault_times_out_do_not_each_wait_for_a_time_out_of_their_own() -> None:
    world = World()
    world.add_kek()
    vault = HangingVault(world)
    ticks = itertools.count()

    def monotonic() -> float:
        now = next(ticks)
        if now == JOBS - 1:  # each job looks at the time once before it waits
            vault.everybody_asked.set()
        return float(now)

    kek = PrimaryKek("master-kek", SimKeks(world), vault, world.clock, monotonic)

    def ask() -> None:
        with pytest.raises(Transient):
            kek()

    with ThreadPoolExecutor(JOBS) as jobs:
        for job in [jobs.submit(ask) for _ in range(JOBS)]:
            job.result()
    assert vault.tried == 1

    vault.answers = True
    assert kek().primary.kid in world.keks


def test_a_repaired_kek_is_used_again_within_half_a_minute_and_a_sound_one_is_read_every_minute() -> None:
    world = World()
    kid = world.add_kek(enabled=False)
    seconds = [0.0]
    kek = PrimaryKek("master-kek", SimKeks(world), SimVault(world), world.clock, lambda: seconds[0])
    assert not kek().primary.enabled
    world.keks[kid] = replace(world.keks[kid], enabled=True)
    seconds[0] = 29
    assert not kek().primary.enabled
    seconds[0] = 31
    assert kek().primary.enabled
    world.keks[kid] = replace(world.keks[kid], enabled=False)
    seconds[0] = 31 + 59
    assert kek().primary.enabled
    seconds[0] = 31 + 61
    assert not kek().primary.enabled


def test_a_kek_that_was_there_before_the_app_is_as_old_as_its_version() -> None:
    world = World()
    made = world.now
    world.add_kek()
    world.now += timedelta(days=300)
    PrimaryKek("master-kek", SimKeks(world), SimVault(world), world.clock)()
    assert world.pointers["master-kek"].since == made
