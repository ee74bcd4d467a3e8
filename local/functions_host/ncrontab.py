"""Timer schedules and their memory: pure rules, no clock and no files.

Sources: learn.microsoft.com/azure/azure-functions/functions-bindings-timer#ncrontab-expressions; TimerListener,
ScheduleMonitor and TimerSchedule in github.com/Azure/azure-webjobs-sdk-extensions.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

from croniter import croniter

NEVER = datetime.min.replace(tzinfo=UTC)
"""How the real host writes down that a timer has not run yet."""

# croniter knows more than NCRONTAB does (L, #, ?, @daily, hashes); such an expression would fail in Azure.
_FIELD = r"(?:[0-9*,/\-]|[A-Za-z]{3})+"
_FIELDS = re.compile(rf"{_FIELD}(?: +{_FIELD}){{4,5}}")


class Schedule:
    """When a timer is due: an NCRONTAB expression of six fields, in UTC."""

    def __init__(self, expression: str) -> None:
        """Raises `ValueError` when the expression is no NCRONTAB; five fields mean second 0, as in Azure."""
        if not _FIELDS.fullmatch(expression) or not croniter.is_valid(expression, second_at_beginning=True):
            raise ValueError(f"{expression!r} is no NCRONTAB expression")
        self._expression = expression

    def next_after(self, moment: datetime) -> datetime:
        """The first tick that is later than `moment`."""
        # day_or: where both are restricted, NCRONTAB wants the day of the month AND the day of the week to match.
        ticks = croniter(self._expression, moment, ret_type=datetime, second_at_beginning=True, day_or=False)
        tick: datetime = ticks.get_next()
        return tick

    def is_frequent(self, now: datetime) -> bool:
        """Whether two of its next ticks are less than a minute apart; the real host keeps no memory of such timers."""
        tick = self.next_after(now)
        for _ in range(10):
            tick, earlier = self.next_after(tick), tick
            if tick - earlier < timedelta(minutes=1):
                return True
        return False


@dataclass(frozen=True)
class Status:
    """What is remembered of a timer between runs; the `ScheduleStatus` that a function is shown."""

    last: datetime
    next: datetime
    last_updated: datetime

    @classmethod
    def first(cls, schedule: Schedule, now: datetime) -> Self:
        """Of a timer that has never run."""
        return cls(NEVER, schedule.next_after(now), now)

    def ran(self, schedule: Schedule, at: datetime) -> Self:
        """After a run that began at `at`."""
        return type(self)(at, schedule.next_after(at), at)

    def resumed(self, schedule: Schedule, now: datetime) -> tuple[Self, bool]:
        """The status to go on with after a pause, and whether a tick was missed.

        A schedule that has changed since is taken up from now: its past ticks were never promised.
        """
        since = self.last_updated if self.last == NEVER else self.last
        expected = schedule.next_after(since)
        if expected == self.next:
            return self, now >= self.next
        return type(self)(self.last, schedule.next_after(now), since), False

    def to_json(self) -> dict[str, str]:
        """With the field names of the real host."""
        return {
            "Last": self.last.isoformat(),
            "Next": self.next.isoformat(),
            "LastUpdated": self.last_updated.isoformat(),
        }

    @classmethod
    def from_json(cls, fields: dict[str, str]) -> Self:
        """The reverse of `to_json`; raises KeyError or ValueError."""
        return cls(*(datetime.fromisoformat(fields[name]) for name in ("Last", "Next", "LastUpdated")))
