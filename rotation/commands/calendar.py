"""The command `calendar`: the rotations of the months to come."""

import argparse
from calendar import monthrange
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from rotation.catalog import EntryKind, load
from rotation.commands.grammar import Commands, add_command, number
from rotation.commands.inventory import scan
from rotation.commands.ports import Ports
from rotation.commands.tables import Cell, rendered
from rotation.icalendar import lines
from rotation.rotators.registry import READERS
from rotation.upcoming import Due, upcoming
from shared.settings import Settings

_MONTHS: Final = 12
_MOST_MONTHS: Final = 120


def add_to(nouns: Commands) -> None:
    """Put the command into the command line."""
    purpose = "the coming dates of every rotation"
    parser = add_command(nouns, "calendar", purpose, _calendar, sample="calendar --months 12 --ics > rotations.ics")
    months = number("a number of months", _MOST_MONTHS)
    parser.add_argument("--months", type=months, default=_MONTHS, help=f"how far ahead (default: {_MONTHS})")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="one JSON object a line")
    shape.add_argument("--ics", action="store_true", help="as an iCalendar file (RFC 5545), for calendars to import")


def _calendar(options: argparse.Namespace, settings: Settings, ports: Ports) -> Iterator[str]:
    now = ports.clock()
    until = _months_later(now, options.months)
    catalog = load(settings.catalog, READERS)
    rows = scan(catalog, ports).rows(now, policies=False)
    dates = upcoming(rows, catalog.entries, now, until)
    if options.ics:
        yield from (f"{line}\r" for line in lines(dates, now, until))  # RFC 5545 section 3.1: lines end in CRLF
    else:
        yield from rendered((_row(due) for due in dates), as_json=options.json)


def _row(due: Due) -> dict[str, Cell]:
    entry = due.entry
    return {
        "due": due.at,
        "entry": entry.name,
        "kind": entry.kind.value,
        "owner": entry.owner,
        "rotated_by": entry.rotated_by.value,
        "schedule": str(entry.schedule),
        "last_rotated": due.since,
        "note": _note(due),
    }


def _note(due: Due) -> str | None:
    if due.entry.kind is EntryKind.DEK:
        return "each tenant at its own time"
    if due.late:
        return "overdue"
    repeated = "and so on" if due.every is not None else ""
    unknown = "last rotation unknown: counted from now" if due.since is None else ""
    return ", ".join(filter(None, (repeated, unknown))) or None


def _months_later(now: datetime, months: int) -> datetime:
    """So many months later; on the last day of a month that has no such day."""
    year, month = divmod(now.year * 12 + now.month - 1 + months, 12)
    day = min(now.day, monthrange(year, month + 1)[1])
    return datetime(year, month + 1, day, now.hour, now.minute, tzinfo=UTC)
