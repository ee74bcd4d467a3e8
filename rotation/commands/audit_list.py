"""The commands `audit list` and `audit open`: what the audit trail says, of anything."""

import argparse
import csv
import heapq
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from rotation.audit import STREAMS, Outcome, Record, record_in, stream_of, time_text
from rotation.commands.grammar import Commands, add_command, add_json, moment
from rotation.commands.ports import Ports
from rotation.commands.tables import Row, rendered
from rotation.intents import openings
from rotation.trail import Trail
from shared.settings import Settings

_SKEW: Final = timedelta(minutes=10)
"""How far a record's time may be from its place: clocks differ, and a write takes its time."""
_FIELDS: Final = (
    "time",
    "place",
    "action",
    "subject",
    "outcome",
    "old_version",
    "new_version",
    "actor",
    "trigger",
    "reason",
    "job",
    "details",
)
_SHOWN: Final = ("time", "place", "action", "subject", "outcome", "actor", "reason")


def add_to(audit: Commands) -> None:
    """Put the commands into the command line."""
    sample = "audit list --since 2026-11-01 --tenant acme --outcome failed --csv"
    query = add_command(audit, "list", "records by time, object, actor, outcome; oldest first", _list, sample=sample)
    _add_range(query)
    query.add_argument("--tenant", help="of this tenant's DEKs")
    query.add_argument("--subject", help="of this object: kek/master-kek, dek/acme, queue/rotation-jobs")
    query.add_argument("--key", help="that name this key: a key id, its name or its version")
    query.add_argument("--actor", help="by this actor")
    query.add_argument("--action", help="of this action, or of all that begin so: dek.rotate, kek.")
    query.add_argument("--outcome", choices=[outcome.value for outcome in Outcome])
    form = query.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="JSON Lines, every field")
    form.add_argument("--csv", action="store_true", help="comma-separated values, every field")
    opened = add_command(
        audit, "open", "what was begun and has no outcome; oldest first", _open, sample="audit open --since 2026-11-01"
    )
    opened.add_argument("--since", type=moment, help="begun since then; default: at any time")
    add_json(opened)


def _add_range(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--since", type=moment, metavar="TIME", help="not before; 2026-11-01 or 2026-11-01T14:30Z, UTC")
    parser.add_argument("--until", type=moment, metavar="TIME", help="before")


def _list(options: argparse.Namespace, settings: Settings, ports: Ports) -> Iterator[str]:  # noqa: ARG001
    records = found(ports, options)
    if options.csv:
        return _as_csv(records)
    if options.json:
        return (json.dumps(_row(record)) for record in records)
    return rendered((_shown(record) for record in records), as_json=False)


def found(ports: Ports, options: argparse.Namespace) -> Iterator[Record]:
    """The records that the options ask for, by time."""
    trail = Trail(ports.records, ports.checkpoints)
    subject = f"dek/{options.tenant}" if options.tenant else options.subject
    streams = (stream_of(subject),) if subject else tuple(range(STREAMS))
    sizes = dict.fromkeys(range(STREAMS), 0)
    if options.since:
        sizes = trail.point_before(trail.number_at(options.since - _SKEW)).sizes
    earliest = time_text(options.since) if options.since else ""
    latest = time_text(options.until) if options.until else "~"

    def of_stream(stream: int) -> Iterator[Record]:
        for stored in trail.records(stream, sizes[stream]):
            record = record_in(stored)
            if options.until and record.moment > options.until + _SKEW:
                return
            if earliest <= record.time < latest and _is_wanted(record, options, subject):
                yield record

    return heapq.merge(*map(of_stream, streams), key=lambda record: (record.time, record.stream, record.seq))


def _is_wanted(record: Record, options: argparse.Namespace, subject: str | None) -> bool:
    return (
        (subject is None or record.subject == subject)
        and (options.actor is None or record.actor == options.actor)
        and (options.action is None or record.action.startswith(options.action))
        and (options.outcome is None or record.outcome == options.outcome)
        and (options.key is None or _names(record, options.key))
    )


def _names(record: Record, key: str) -> bool:
    """Whether the record names the key: as its subject, or by a key id that is it, or has it as a part."""
    kids = [record.details[name] for name in ("kid", "old_kid", "new_kid") if name in record.details]
    return record.subject.partition("/")[2] == key or any(key == kid or key in kid.split("/") for kid in kids)


def _open(options: argparse.Namespace, settings: Settings, ports: Ports) -> Iterator[str]:  # noqa: ARG001
    trail = Trail(ports.records, ports.checkpoints)
    since = options.since or datetime.min.replace(tzinfo=UTC)
    sizes = trail.point_before(trail.number_at(since)).sizes
    records = (
        record
        for stream in range(STREAMS)
        for record in openings(map(record_in, trail.records(stream, sizes[stream])))
        if record.moment >= since
    )
    rows = (_row(record) if options.json else _shown(record) for record in sorted(records, key=lambda each: each.time))
    return rendered(rows, as_json=options.json)


def _row(record: Record) -> Row:
    """Every field, for programs."""
    place = {"time": record.time, "place": f"{record.stream}/{record.seq}"}
    fields = {name: getattr(record, name) for name in _FIELDS if name not in ("time", "place", "details")}
    return place | fields | {"details": json.dumps(record.details)}


def _shown(record: Record) -> Row:
    """What fits a terminal."""
    row = _row(record)
    return {name: row[name] for name in _SHOWN} | {"time": record.moment}


def _as_csv(records: Iterator[Record]) -> Iterator[str]:
    """RFC 4180. What a spreadsheet would take for a formula is quoted as text."""
    line = io.StringIO()
    writer = csv.writer(line, lineterminator="")
    for row in ([*_FIELDS], *([_plain(_row(record)[name]) for name in _FIELDS] for record in records)):
        writer.writerow(row)
        yield line.getvalue()
        line.seek(0)
        line.truncate()


def _plain(cell: object) -> str:
    text = "" if cell is None else str(cell)
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
