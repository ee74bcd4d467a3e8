"""When an object of the catalog falls due again: a number of days after its last rotation, or on dates of the calendar.

Pure functions of the schedule and a moment; all in UTC.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final


class Period(StrEnum):
    """How often the calendar says so."""

    MONTHLY = "monthly"  # on the first of each month
    QUARTERLY = "quarterly"  # on the first of January, April, July, October
    YEARLY = "yearly"  # on the first of January


_MONTHS: Final = {Period.MONTHLY: 1, Period.QUARTERLY: 3, Period.YEARLY: 12}
_HOUR: Final = 2
"""Of the day, when few people work: `0 0 2 1 */3 *` is a quarterly one in the timers of Azure Functions."""
AHEAD: Final = timedelta(minutes=15)
"""A rotation that is so little ahead of a date is that date's: the worker's clock is behind that of who ordered it."""


@dataclass(frozen=True, slots=True)
class Every:
    """Due when the last rotation is so long ago."""

    interval: timedelta

    def next_after(self, moment: datetime) -> datetime:
        """When it is due again after a rotation at that moment."""
        return moment + self.interval

    @property
    def longest(self) -> timedelta:
        """The longest time between two rotations."""
        return self.interval

    def __str__(self) -> str:
        return "daily" if self.interval.days == 1 else f"every {self.interval.days} days"


@dataclass(frozen=True, slots=True)
class Calendar:
    """Due at 02:00 UTC of the first day of each period, whenever the last rotation was."""

    period: Period

    def next_after(self, moment: datetime) -> datetime:
        """When it is due again after a rotation at that moment."""
        utc = moment.astimezone(UTC)
        step = _MONTHS[self.period]
        month = utc.year * 12 + (utc.month - 1) // step * step
        due = _first_of(month)
        return due if due > moment + AHEAD else _first_of(month + step)

    @property
    def longest(self) -> timedelta:
        """The longest time between two rotations."""
        return timedelta(days={Period.MONTHLY: 31, Period.QUARTERLY: 92, Period.YEARLY: 366}[self.period])

    def __str__(self) -> str:
        return self.period.value


type Schedule = Every | Calendar


def _first_of(month: int) -> datetime:
    return datetime(month // 12, month % 12 + 1, 1, _HOUR, tzinfo=UTC)
