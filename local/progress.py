"""How the demo shows that it gets on: bars on a terminal, a line now and then elsewhere."""

import time
from collections.abc import Callable
from typing import Any, Final, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

PATIENCE_S: Final = 300.0
_LOOK_EVERY_S: Final = 0.5


class Unfinished(Exception):
    """Something did not happen within its time."""


class Steps:
    """Shows one count after another growing to its total. A context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description:<28}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, Any] = {}
        self._said: dict[str, int] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._progress.stop()

    def step(self, what: str, done: int, total: int) -> None:
        """Say how far it is."""
        if self._console.is_terminal:
            if what not in self._tasks:
                self._tasks[what] = self._progress.add_task(what, total=total)
            self._progress.update(self._tasks[what], completed=done, total=total)
            return
        quarter = 4 * done // total if total else 4
        if quarter > self._said.get(what, 0):
            self._said[what] = quarter
            self._console.print(f"{what:<28} {done:>6} of {total}")

    def until(self, what: str, total: int, count: Callable[[], int]) -> None:
        """Show `count` growing to `total`; Unfinished if that takes too long."""
        deadline = time.monotonic() + PATIENCE_S
        while (done := count()) < total:
            self.step(what, done, total)
            if time.monotonic() > deadline:
                raise Unfinished(f"{what}: {done} of {total} after {PATIENCE_S:.0f} s")
            time.sleep(_LOOK_EVERY_S)
        self.step(what, total, total)
