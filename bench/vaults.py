"""One vault against several: throughput that grows with their number, in simulated time.

Measured: DEKs a second through `VaultBudget` and its lease rows, with eight workers for each of N RSA-2048 vaults, each
a process of its own with its own budget, that asks for its next operation 2 to 18 ms after it had the last one. Time is
simulated: the worker that wakes up first acts next.
Floor: N times what one vault gives with its eight workers.
"""

import heapq
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bench.made_up import OneBudget, SimulatedTime
from bench.result import Result
from rotation.quota import Operation, rate
from rotation.vault_budget import NotNow, VaultBudget
from shared.values import KeyKind, KeyShape

_NUMBERS: Final = (1, 2, 4, 8, 16)
_WORKERS: Final = 8
_HEADROOM: Final = 0.2
_SECONDS: Final = 120.0
_SECONDS_IF_QUICK: Final = 20.0
_THINKING_S: Final = (0.002, 0.018)
_TARGET: Final = 0.95


@dataclass(slots=True)
class _Worker:
    """A process at one vault; instead of sleeping it remembers for how long."""

    vault: str
    asleep_s: float = 0.0

    def sleep(self, seconds: float) -> None:
        """Remember it."""
        self.asleep_s = seconds


def measure(quick: bool) -> Sequence[Result]:
    """Compare every number of vaults with one."""
    seconds = _SECONDS_IF_QUICK if quick else _SECONDS
    alone = _served(1, seconds)
    return [
        Result(
            "vaults",
            f"{number} vaults, {_WORKERS} workers each",
            f"{together:.0f} DEKs/s",
            f"{number} x {alone:.0f} DEKs/s",
            together / (number * alone),
            _TARGET,
            at_least=True,
        )
        for number in _NUMBERS[1:]
        for together in [_served(number, seconds)]
    ]


def _served(vaults: int, seconds: float) -> float:
    """DEKs a second that all vaults together give."""
    time, budgets, draw = SimulatedTime(), OneBudget(), random.Random(vaults)
    cost = 1 / rate("", KeyShape(KeyKind.RSA, 2048), Operation.UNWRAP) / (1 - _HEADROOM)
    order = itertools.count()  # of those that wake up at the same moment
    agenda: list[tuple[float, int, _Worker, VaultBudget]] = []
    for number in range(vaults * _WORKERS):
        worker = _Worker(f"https://vault-{number % vaults}.vault.azure.net")
        budget = VaultBudget(budgets, time.clock, worker.sleep)
        heapq.heappush(agenda, (draw.uniform(*_THINKING_S), next(order), worker, budget))
    served = 0
    while agenda[0][0] < seconds:
        wakes, _, worker, budget = heapq.heappop(agenda)
        time.sleep(wakes - time.monotonic())
        worker.asleep_s = 0.0
        try:
            budget.take(worker.vault, cost)
        except NotNow as later:
            wakes += later.delay.total_seconds()
        else:
            served += 1
            wakes += worker.asleep_s + draw.uniform(*_THINKING_S)
        heapq.heappush(agenda, (wakes, next(order), worker, budget))
    return served / seconds
