"""What a benchmark says, and the two ways of showing it."""

import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_COLUMNS: Final = ("benchmark", "what", "measured", "floor", "ratio", "target", "verdict")


@dataclass(frozen=True, slots=True)
class Result:
    """One ratio, and whether it is good enough."""

    benchmark: str
    what: str
    measured: str  # with its unit
    floor: str  # with its unit
    ratio: float  # measured to floor
    target: float
    at_least: bool  # whether the target is the least that the ratio may be, or the most

    @property
    def passed(self) -> bool:
        """Whether the target is met."""
        return self.ratio >= self.target if self.at_least else self.ratio <= self.target

    @property
    def _cells(self) -> tuple[str, ...]:
        target = f"{'>=' if self.at_least else '<='} {self.target:g}"
        verdict = "pass" if self.passed else "FAIL"
        return self.benchmark, self.what, self.measured, self.floor, f"{self.ratio:.2f}", target, verdict


def in_turns(runs: int, *subjects: Callable[[], float]) -> tuple[float, ...]:
    """Medians of what each measures, run A B A B, so that whatever else the machine does meets all alike."""
    rounds = [[subject() for subject in subjects] for _ in range(runs)]
    return tuple(map(statistics.median, zip(*rounds, strict=True)))


def table(results: Sequence[Result]) -> str:
    """An aligned table for a terminal."""
    rows = [_COLUMNS, *(result._cells for result in results)]  # noqa: SLF001 - of its own module
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def page(results: Sequence[Result], sections: Sequence[tuple[str, str]], machine: str) -> str:
    """docs/benchmarks.md: the results, then what each benchmark measures."""
    lines = [
        "# Benchmarks",
        "",
        "Written by `python -m bench --write`; do not edit. Each ratio compares the program with a floor: the least",
        "that anybody would have to do for the same result, measured in the same run, or a number that policy sets,",
        f"on {machine}. Absolute numbers say more about that machine than about the program.",
        "",
        f"| {' | '.join(_COLUMNS)} |",
        f"|{'---|' * len(_COLUMNS)}",
        *(f"| {' | '.join(result._cells)} |" for result in results),  # noqa: SLF001 - of its own module
    ]
    for title, text in sections:
        lines += ["", f"## {title}", "", text]
    return "\n".join(lines) + "\n"


def machine() -> str:
    """Cores and memory of what the benchmarks ran on."""
    total_kib = int(Path("/proc/meminfo").read_text().split()[1])
    return f"{os.cpu_count()} cores and {total_kib / 2**20:.0f} GiB of memory"
