"""Rows for people, as an aligned table, or for programs, as JSON lines."""

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

_TIMES: Final = frozenset(
    {
        "time",
        "since",
        "rotates",
        "destroyed_after",
        "raised",
        "kept",
        "started",
        "updated",
        "due",
        "grace_until",
        "created",
        "expires",
    }
)

type Cell = str | int | datetime | None
type Row = Mapping[str, Cell]


def rendered(rows: Iterable[Row], *, as_json: bool) -> Iterator[str]:
    """Rows as JSON lines as they come, or as one aligned table."""
    if as_json:
        for row in rows:
            yield json.dumps({name: _in_json(cell) for name, cell in row.items()})
        return
    table = [{name: _in_table(cell) for name, cell in row.items()} for row in rows]
    if not table:
        yield "none"
        return
    names = list(dict.fromkeys(name for row in table for name in row))
    heads = {name: f"{name} (UTC)" if name in _TIMES else name for name in names}
    widths = {name: max(len(heads[name]), *(len(row.get(name, "")) for row in table)) for name in names}
    for line in (heads, *table):
        yield "  ".join(f"{line.get(name, ''):<{widths[name]}}" for name in names).rstrip()


def _in_json(cell: Cell) -> str | int | None:
    return f"{cell.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if isinstance(cell, datetime) else cell


def _in_table(cell: Cell) -> str:
    match cell:
        case None:
            return ""
        case bool():
            return "yes" if cell else "no"
        case datetime():
            return minute(cell)
        case _:
            return printable(str(cell))


def minute(moment: datetime) -> str:
    """A time as people are shown it, in UTC."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"


def labelled(label: str, cell: Cell, width: int) -> str:
    """A line about one thing, with its label in a column of that width."""
    zone = " UTC" if isinstance(cell, datetime) else ""
    return f"{label:<{width}}{_in_table(cell)}{zone}"


def printable(text: str) -> str:
    """The text with nothing in it that a terminal would obey, on one line."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
