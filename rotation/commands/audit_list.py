"""The commands `audit list` and `audit open`: what the audit trail says, of anything.

They check the chain of every stream that they read, and stop where it is broken; whether it is the one that was signed,
`audit export` and `audit verify` tell.
"""

import argparse
import heapq
import json
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from rotation.audit import STREAMS, Outcome, Record, stream_of, time_text
from rotation.commands.grammar import Commands, add_command, add_json, ensure_order, matching, moment, number
from rotation.commands.ports import Ports
from rotation.commands.tables import Row, as_csv, printable, rendered
from rotation.intents import openings
from rotation.streams import copied, extend
from rotation.trail import Point, Trail
from shared.errors import Rejected
from shared.redact import mask
from shared.settings import Settings
from shared.values import tenant_id

_SKEW: Final = timedelta(minutes=10)
"""How far a record's time may be from its place: clocks differ, and a write takes its time."""
_FIRST_LOOK: Final = timedelta(hours=1)
_LOOKS: Final = 6
"""So often --last looks back eight times as far, that is over four years; after that, over everything."""
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
_SHOWN_OPEN: Final = ("time", "place", "job", "actor", "reason")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which records are asked for; None: any."""

    since: datetime | None = None
    until: datetime | None = None
    subject: str | None = None
    key: str | None = None
    actor: str | None = None
    action: str | None = None
    outcome: str | None = None

    def includes(self, record: Record) -> bool:
        """Whether the record is one of them, whatever its time."""
        return (
            (self.subject is None or record.subject == self.subject)
            and (self.actor is None or record.actor == self.actor)
            and (self.action is None or record.action.startswith(self.action))
            and (self.outcome is None or record.outcome == self.outcome)
            and (self.key is None or _names(record, self.key))
        )


def add_to(audit: Commands) -> None:
    """Put the commands into the command line."""
    sample = "audit list --since 2026-11-01 --tenant acme --outcome failed --csv"
    query = add_command(audit, "list", "records by time, object, actor, outcome; oldest first", _list, sample=sample)
    query.add_argument("--since", type=moment, metavar="TIME", help="not before; 2026-11-01 or 2026-11-01T14:30Z, UTC")
    query.add_argument("--until", type=moment, metavar="TIME", help="before")
    query.add_argument("--last", type=number("a number of records"), metavar="N", help="only the newest N of them")
    about = query.add_mutually_exclusive_group()
    about.add_argument("--tenant", type=_tenant, help="of this tenant's DEKs")
    about.add_argument(
        "--subject",
        type=matching("[a-z-]+/.+", "a kind and a name, like kek/master-kek"),
        help="of this object: kek/master-kek, dek/acme, queue/rotation-jobs",
    )
    query.add_argument(
        "--key",
        type=matching(".+", "a key id, a name or a version"),
        help="that name this key: a key id, its name or its version",
    )
    query.add_argument("--actor", type=matching(".+", "a name"), help="by this actor")
    query.add_argument(
        "--action",
        type=matching(r"[a-z]+(\.[a-z]*)?", "an action or the beginning of one, like dek.rotate or kek"),
        help="of this action, or of all that begin so: dek.rotate, kek",
    )
    outcomes = [outcome.value for outcome in Outcome]
    query.add_argument("--outcome", choices=outcomes, help=", ".join(outcomes), metavar="OUTCOME")
    form = query.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="JSON Lines, every field, as they are read")
    form.add_argument("--csv", action="store_true", help="comma-separated values, every field, as they are read")
    opened = add_command(
        audit, "open", "what was begun and has no outcome; oldest first", _open, sample="audit open --since 2026-11-01"
    )
    opened.add_argument("--since", type=moment, metavar="TIME", help="begun since then; default: at any time")
    add_json(opened)


def _tenant(text: str) -> str:
    try:
        return tenant_id(text)
    except Rejected as error:
        raise argparse.ArgumentTypeError(f"{error}: {text!r}") from None


def _list(options: argparse.Namespace, settings: Settings, ports: Ports) -> Iterator[str]:  # noqa: ARG001
    ensure_order(options.since, options.until, "--since must be before --until")
    subject = f"dek/{options.tenant}" if options.tenant else options.subject
    wanted = Wanted(options.since, options.until, subject, options.key, options.actor, options.action, options.outcome)
    trail = Trail(ports.records, ports.checkpoints)
    count = options.last
    records = iter(last(trail, wanted, count, ports.clock())) if count else found(trail, wanted)
    if subject:
        records = _or_hint(records, trail, subject)
    if options.csv:
        return as_csv(_FIELDS, (_in_full(record) for record in records))
    if options.json:
        return (json.dumps(_in_full(record)) for record in records)
    return rendered((_row(record, _SHOWN) for record in records), as_json=False)


def _or_hint(records: Iterator[Record], trail: Trail, subject: str) -> Iterator[Record]:
    """The records; where there are none, and never were any about that subject, a word about it: it may be misspelt."""
    is_empty = True
    for record in records:
        is_empty = False
        yield record
    if is_empty and next(found(trail, Wanted(subject=subject)), None) is None:
        sys.stderr.write(mask(f"note: nothing at all is on record about {printable(subject)}\n"))


def found(trail: Trail, wanted: Wanted) -> Iterator[Record]:
    """The records that are asked for, by time; those of one stream stay in its order, whatever their clocks said.

    They are read as they are asked for, and no further than they can be. Integrity at the first that does not continue
    its stream.
    """
    point = trail.point_before(trail.number_at(wanted.since - _SKEW) if wanted.since else 0)
    earliest = time_text(wanted.since) if wanted.since else ""
    latest = time_text(wanted.until) if wanted.until else "~"

    def of_stream(stream: int) -> Iterator[Record]:
        for record in _chained(trail, point, stream):
            if wanted.until and record.moment > wanted.until + _SKEW:
                return
            if earliest <= record.time < latest and wanted.includes(record):
                yield record

    streams = (stream_of(wanted.subject),) if wanted.subject else tuple(range(STREAMS))
    return heapq.merge(*map(of_stream, streams), key=lambda record: (record.time, record.stream, record.seq))


def last(trail: Trail, wanted: Wanted, count: int, now: datetime) -> Iterable[Record]:
    """The newest `count` of the records that are asked for. Looks back only as far as they are."""
    end = min(wanted.until or now, now)
    for look in range(_LOOKS):
        since = end - _FIRST_LOOK * 8**look
        if wanted.since is not None and since <= wanted.since:
            break
        newest = deque(found(trail, replace(wanted, since=since)), maxlen=count)
        if len(newest) == count:
            return newest
    return deque(found(trail, wanted), maxlen=count)


def _chained(trail: Trail, point: Point, stream: int) -> Iterator[Record]:
    """The records of a stream behind that point."""
    streams = copied(point.streams)
    for stored in trail.records(stream, streams[stream].size):
        yield extend(streams, stream, stored.canonical)


def _names(record: Record, key: str) -> bool:
    """Whether the record names the key: as its subject, or by a key id that is it, or that ends with its name."""
    kids = [record.details[name] for name in ("kid", "old_kid", "new_kid") if name in record.details]
    is_about = record.subject in (f"kek/{key}", f"key/{key}")
    return is_about or any(key == kid or key in kid.split("/")[-2:] for kid in kids)


def _open(options: argparse.Namespace, settings: Settings, ports: Ports) -> Iterator[str]:  # noqa: ARG001
    trail = Trail(ports.records, ports.checkpoints)
    since = options.since or datetime.min.replace(tzinfo=UTC)
    point = trail.point_before(trail.number_at(options.since - _SKEW) if options.since else 0)
    records = sorted(
        (
            record
            for stream in range(STREAMS)
            for record in openings(_chained(trail, point, stream))
            if record.moment >= since
        ),
        key=lambda record: (record.time, record.stream, record.seq),
    )
    if options.json:
        return (json.dumps(_in_full(record)) for record in records)
    return rendered((_row(record, _SHOWN_OPEN) for record in records), as_json=False)


def _in_full(record: Record) -> dict[str, object]:
    """Every field, for programs."""
    derived = {"place": f"{record.stream}/{record.seq}"}
    return {name: derived.get(name) or getattr(record, name) for name in _FIELDS}


def _row(record: Record, shown: Iterable[str]) -> Row:
    """What fits a terminal. Times have seconds: much happens within a minute."""
    cells = {name: str(value) for name, value in _in_full(record).items() if name in shown}
    return {name: cells[name] for name in shown} | {"time": f"{record.moment:%Y-%m-%d %H:%M:%S}"}
