"""When something falls due again: never at or before its last rotation, never later than the schedule promises."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotation.calendar import AHEAD, Calendar, Every, Period, Schedule

MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - it adds them
SCHEDULES = st.one_of(
    st.builds(Calendar, st.sampled_from(Period)),
    st.builds(Every, st.integers(1, 3650).map(lambda days: timedelta(days=days))),
)


def at(*numbers: int) -> datetime:
    return datetime(*numbers, tzinfo=UTC)  # type: ignore[arg-type, misc] # year, month, day, hour, minute


DATES: dict[str, tuple[Period, datetime, datetime]] = {
    "in the midst of a month": (Period.MONTHLY, at(2026, 11, 21), at(2026, 12, 1, 2)),
    "at the end of a year": (Period.MONTHLY, at(2026, 12, 31, 23), at(2027, 1, 1, 2)),
    "at the very moment": (Period.MONTHLY, at(2026, 12, 1, 2), at(2027, 1, 1, 2)),
    "just before, by a clock that is behind": (Period.MONTHLY, at(2026, 12, 1, 1, 59), at(2027, 1, 1, 2)),
    "shortly before": (Period.MONTHLY, at(2026, 12, 1, 1, 44), at(2026, 12, 1, 2)),
    "in the midst of a quarter": (Period.QUARTERLY, at(2026, 2, 28), at(2026, 4, 1, 2)),
    "in the last quarter": (Period.QUARTERLY, at(2026, 10, 1, 2), at(2027, 1, 1, 2)),
    "in a leap year": (Period.YEARLY, at(2028, 2, 29), at(2029, 1, 1, 2)),
    "at the beginning of a year": (Period.YEARLY, at(2026, 1, 1), at(2026, 1, 1, 2)),
    "told in another time zone": (
        Period.MONTHLY,
        at(2026, 12, 1, 1).astimezone(timezone(timedelta(hours=9))),
        at(2026, 12, 1, 2),
    ),
}


@pytest.mark.parametrize(("period", "last", "due"), DATES.values(), ids=list(DATES))
def test_the_calendar_says_when(period: Period, last: datetime, due: datetime) -> None:
    assert Calendar(period).next_after(last) == due


@given(SCHEDULES, MOMENTS)
def test_what_is_due_again_is_so_after_its_last_rotation_and_within_the_longest_time(
    schedule: Schedule, last: datetime
) -> None:
    due = schedule.next_after(last)
    assert last < due <= last + schedule.longest + AHEAD
    assert schedule.next_after(due) > due


def test_schedules_say_what_they_are() -> None:
    assert str(Calendar(Period.QUARTERLY)) == "quarterly"
    assert str(Every(timedelta(days=90))) == "every 90 days"
