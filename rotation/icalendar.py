"""Coming rotations as an iCalendar file, RFC 5545: one event for each, told once however often the file is read again.

An event's identity is its entry and its day, so that a file made tomorrow replaces the events of today's; where no last
rotation is known and the day moves with every file, it is its number among the entry's events. Times are in UTC and
occupy nobody.
"""

import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Final

from rotation.upcoming import Due

_LONGEST: Final = 75  # octets of a line without its end, RFC 5545 section 3.1
_NAMESPACE: Final = uuid.UUID("c1f6e1c1-6a5f-5e0e-9f2e-6b1f0a5d7c11")  # of our own, for the UIDs


def lines(dates: Iterable[Due], now: datetime, until: datetime) -> Iterator[str]:
    """The file line by line, each without its CRLF. What has no date, or is late already, is left out."""
    yield "BEGIN:VCALENDAR"  # section 3.6
    yield "VERSION:2.0"  # section 3.7.4
    yield "PRODID:-//ATP//Key rotation//EN"  # section 3.7.3
    yield "CALSCALE:GREGORIAN"  # section 3.7.1
    yield "METHOD:PUBLISH"  # section 3.7.2, RFC 5546 section 3.2.1
    yield "NAME:ATP key rotation"  # RFC 7986 section 5.1
    events: Counter[str] = Counter()
    for due in dates:
        if due.at is not None and not due.late:
            events[due.entry.name] += 1
            day = str(events[due.entry.name]) if due.since is None else f"{due.at.astimezone(UTC):%Y-%m-%d}"
            for line in _event(due, due.at, uuid.uuid5(_NAMESPACE, f"{due.entry.name}/{day}"), now, until):
                yield from _folded(line)
    yield "END:VCALENDAR"


def _event(due: Due, at: datetime, identity: uuid.UUID, now: datetime, until: datetime) -> Iterator[str]:
    """Section 3.6.1. Without DTEND it takes no time."""
    entry = due.entry
    known = f"last rotated {due.since.astimezone(UTC):%Y-%m-%d}" if due.since else "last rotation unknown"
    yield "BEGIN:VEVENT"
    yield f"UID:{identity}"  # section 3.8.4.7, RFC 7986 section 5.3
    yield f"DTSTAMP:{_time(now)}"  # section 3.8.7.2
    yield f"DTSTART:{_time(at)}"  # section 3.8.2.4
    if due.every is not None:
        yield f"RRULE:FREQ=DAILY;INTERVAL={due.every.days};UNTIL={_time(until)}"  # section 3.3.10: UNTIL in UTC, too
    yield f"SUMMARY:{_text(f'{entry.name} is to be rotated')}"  # section 3.8.1.12
    facts = f"{entry.kind}, {entry.schedule}, by {entry.rotated_by}, {known}\nowner: {entry.owner}"
    yield f"DESCRIPTION:{_text(facts)}"  # section 3.8.1.5
    yield f"CATEGORIES:{_text(entry.kind)},{_text(entry.owner)}"  # section 3.8.1.2
    yield "TRANSP:TRANSPARENT"  # section 3.8.2.7
    yield "END:VEVENT"


def _time(moment: datetime) -> str:
    """Section 3.3.5, form 2: UTC."""
    return f"{moment.astimezone(UTC):%Y%m%dT%H%M%SZ}"


def _text(text: str) -> str:
    """Section 3.3.11: what has a meaning of its own is escaped."""
    for special in ("\\", ";", ","):
        text = text.replace(special, f"\\{special}")
    return text.replace("\n", "\\n")


def _folded(line: str) -> Iterator[str]:
    """Section 3.1: a longer line goes on behind a blank in the next; no character of UTF-8 is cut in two."""
    part, size = "", 0
    for character in line:
        octets = len(character.encode())
        if size + octets > _LONGEST:
            yield part
            part, size = " ", 1
        part, size = part + character, size + octets
    yield part
