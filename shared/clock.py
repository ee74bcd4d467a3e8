"""Where the time comes from. Everything else takes `now` as a value or a `Clock` as a port."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

type Clock = Callable[[], datetime]
"""Returns the current time, aware, in UTC."""


def system_clock() -> datetime:
    """The machine's own time."""
    return datetime.now(UTC)


class Stopwatch:
    """How long ago it was made.

    By either clock: while a machine is suspended, or its time is put right, only one of them goes on.
    """

    def __init__(self, monotonic: Callable[[], float] | None = None, clock: Clock | None = None) -> None:
        self._monotonic, self._clock = monotonic or time.monotonic, clock or system_clock
        self._began = self._monotonic(), self._clock()

    def seconds(self) -> float:
        """So long, at most."""
        began, since = self._began
        return max(self._monotonic() - began, (self._clock() - since).total_seconds())


class MovableClock:
    """The machine's time plus an offset kept in a file, so that every process of a local stack jumps together.

    Only the local stack has such a file; in Azure the wiring always uses `system_clock`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self) -> datetime:
        """The moved time; a move by another process shows at once."""
        return datetime.now(UTC) + self._stored()

    def move(self, by: timedelta) -> None:
        """Jump by `by`, for every process that reads this file. One mover at a time."""
        new = self._path.with_suffix(".new")
        new.write_text(str((self._stored() + by).total_seconds()))
        new.replace(self._path)

    def _stored(self) -> timedelta:
        try:
            return timedelta(seconds=float(self._path.read_text()))
        except FileNotFoundError:
            return timedelta()
