"""Rows for people, as an aligned table, or for programs, as JSON lines."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

_TIMES: Final = frozenset(
    {
        "time",
        "since",
        "rotates",
        "rotated",
        "last_rotated",
        "next",
        "due",
        "grace_until",
        "deadline",
        "created",
        "expires",
        "destroyed_after",
        "raised",
        "kept",
        "started",
        "updated",
    }
)

type Cell = str | int | datetime | None
type Row = Mapping[str, Cell]


def rendered(rows: Iterable[Row], *, as_json: bool) -> Iterator[str]:
    """Rows as JSON lines as they come, or as one aligned table."""
    if as_json:
        for row in rows:
            yield json.dumps(in_json(row))
        return
    table = [{name: _in_table(cell) for name, cell in row.items()} for row in rows]
    if not table:
        yield "none"
        return
    names = list(dict.fromkeys(name for row in table for name in row))
    heads = {name: name.replace("_", " ") + (" (UTC)" if name in _TIMES else "") for name in names}
    widths = {name: max(len(heads[name]), *(len(row.get(name, "")) for row in table)) for name in names}
    for line in (heads, *table):
        yield "  ".join(f"{line.get(name, ''):<{widths[name]}}" for name in names).rstrip()


def as_csv(names: Sequence[str], rows: Iterable[Mapping[str, object]]) -> Iterator[str]:
    """RFC 4180, but for the ends of lines. What a spreadsheet would take for a formula is quoted as text."""
    line = io.StringIO()
    writer = csv.writer(line, lineterminator="")
    writer.writerow(names)
    yield line.getvalue()
    for row in rows:
        line.seek(0)
        line.truncate()
        cells = in_json(row)
        writer.writerow([_plain(cells[name]) for name in names])
        yield line.getvalue()


def in_json(row: Mapping[str, object]) -> Mapping[str, object]:
    """The row with its times as texts, in UTC."""
    return {
        name: f"{cell.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if isinstance(cell, datetime) else cell
        for name, cell in row.items()
    }


def _plain(value: object) -> str:
    match value:
        case None:
            text = ""
        case dict():
            text = json.dumps(value)
        case tuple():
            text = "; ".join(value)
        case _:
            text = str(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


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
