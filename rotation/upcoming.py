"""When what rotates falls due in the months to come, by its schedule and its last rotation."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from rotation.catalog import Entry, EntryKind
from rotation.inventory import Row

SHORTEST_LISTED: Final = timedelta(days=28)
"""What rotates more often has one line, with how often, and not one for each date."""


@dataclass(frozen=True, slots=True)
class Due:
    """A date on which an entry falls due."""

    entry: Entry
    at: datetime | None  # None: it has no date of its own, as the tenants' DEKs
    since: datetime | None  # the last rotation; None: not known, counted from now
    late: bool = False  # the date is over
    every: timedelta | None = None  # from then on so often


def upcoming(rows: Iterable[Row], entries: Mapping[str, Entry], now: datetime, until: datetime) -> list[Due]:
    """Every date up to `until`, in order; those without a date at the end."""
    found = [due for row in rows if row.entry for due in _dates(entries[row.entry], row.rotated, now, until)]
    return sorted(found, key=lambda due: (due.at is None, due.at or now, due.entry.name))


def _dates(entry: Entry, since: datetime | None, now: datetime, until: datetime) -> Iterator[Due]:
    if entry.kind is EntryKind.DEK:
        yield Due(entry, None, None)
        return
    at = entry.schedule.next_after(now if since is None else since)
    every = entry.schedule.longest if entry.schedule.longest < SHORTEST_LISTED else None
    while at <= until:
        yield Due(entry, at, since, at < now, every)
        if every is not None:
            return
        at = entry.schedule.next_after(max(at, now))
