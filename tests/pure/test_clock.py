"""The clock of a local stack: one offset for all its processes."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from shared.clock import MovableClock, system_clock

DAY = timedelta(days=1)


def offset(moved: MovableClock) -> timedelta:
    """By how much it is ahead, give or take what this test takes."""
    return timedelta(hours=round((moved() - datetime.now(UTC)) / timedelta(hours=1)))


def test_the_systems_clock_is_in_utc() -> None:
    assert system_clock().tzinfo is UTC


def test_a_clock_that_nobody_moved_shows_the_machines_time(tmp_path: Path) -> None:
    before = datetime.now(UTC)
    shown = MovableClock(tmp_path / "clock")()
    assert before <= shown <= datetime.now(UTC)


def test_a_move_shows_at_once_to_everybody(tmp_path: Path) -> None:
    mine, other = MovableClock(tmp_path / "clock"), MovableClock(tmp_path / "clock")
    assert offset(other) == timedelta(0)
    mine.move(by=3 * DAY)
    assert offset(mine) == offset(other) == 3 * DAY


def test_moves_add_up_whoever_makes_them(tmp_path: Path) -> None:
    MovableClock(tmp_path / "clock").move(by=90 * DAY)
    moved = MovableClock(tmp_path / "clock")
    moved.move(by=timedelta(hours=-24))
    assert offset(moved) == 89 * DAY
    assert offset(MovableClock(tmp_path / "clock")) == 89 * DAY


def test_a_move_leaves_no_other_file_behind(tmp_path: Path) -> None:
    MovableClock(tmp_path / "clock").move(by=DAY)
    assert [path.name for path in tmp_path.iterdir()] == ["clock"]
