"""Audit records: what a record says, its canonical bytes, and the chain that makes a change show.

A record is canonical JSON (RFC 8785). Its hash is that of an RFC 6962 leaf, and each record of a stream names the hash
of the one before it. Streams are a fixed number, chosen by a hash of the subject, so that unrelated writers rarely
meet. Numbers begin at 1 and have no gaps.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

import rfc8785

from shared.errors import Integrity
from shared.redact import mask
from shared.values import StoredRecord

SCHEMA: Final = "atp-audit/1"
STREAMS: Final = 16
"""Part of every record's address: never changes."""
GENESIS: Final = bytes(32)
"""What the first record of a stream names as its predecessor."""

_KID_PATTERN: Final = r"https://[A-Za-z0-9.:-]{1,150}/keys/[A-Za-z0-9-]{1,127}/[0-9a-f]{1,40}"
_GRAMMAR: Final[Mapping[str, re.Pattern[str]]] = {
    name: re.compile(pattern)
    for name, pattern in {
        "action": r"[a-z]{1,20}\.[a-z]{1,20}",
        "subject": r"[a-z-]{1,20}/[a-zA-Z0-9._-]{1,127}",
        "actor": r"[A-Za-z0-9._:@/+-]{1,80}",
        "trigger": r"[a-z]{1,20}",
        "kid": _KID_PATTERN,
        "check_value": r"[0-9a-f]{64}",
        "error": r"[A-Za-z]{1,40}",
        "job": r"[A-Za-z0-9._:/+-]{1,200}",
        "versions": r"[0-9]{1,10}(-[0-9]{1,10})?",
        "run": r"[A-Za-z0-9-]{1,127}\.[0-9]{6}",
        "phases": r"[a-z-]{1,20} > [a-z-]{1,20}",
        "old_kid": _KID_PATTERN,
        "new_kid": _KID_PATTERN,
        "root_before": r"[0-9a-f]{64}",
        "root_after": r"[0-9a-f]{64}",
        "rows": r"[0-9]{1,12}",
        "births": r"[0-9]{1,12}",
        "removed": r"[0-9]{1,12}",
        "part": r"(shard/[0-9]{1,2}|tenant/[a-z0-9._-]{1,64})",
    }.items()
}
_DETAILS: Final = _GRAMMAR.keys() - {"action", "subject", "actor", "trigger", "job"}
_MAX_REASON: Final = 200


class Outcome(StrEnum):
    """Where the recorded action stands."""

    INTENT = "intent"  # about to be done
    SUCCEEDED = "succeeded"  # done
    SUPERSEDED = "superseded"  # not done: another job made it unnecessary
    FAILED = "failed"  # not done: given up, a person has been alerted


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """What happened, before it has a place in a stream.

    A typed field has no room for a secret: what does not follow its grammar, or looks like a secret, is a ValueError.
    In the free-text reason secrets are masked.
    """

    job: str  # id of the job it belongs to
    outcome: Outcome
    action: str
    subject: str
    actor: str
    trigger: str
    reason: str
    old_version: int | None = None
    new_version: int | None = None
    details: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.details.keys() <= _DETAILS:
            raise ValueError(f"audit details are {', '.join(sorted(_DETAILS))}")
        typed = {"action": self.action, "subject": self.subject, "actor": self.actor, "trigger": self.trigger}
        for name, value in (typed | {"job": self.job} | dict(self.details)).items():
            if not _GRAMMAR[name].fullmatch(value) or mask(value) != value:
                raise ValueError(f"audit field {name!r} does not follow its grammar")

    @property
    def id(self) -> str:
        """32 hex digits; the same for the same outcome of the same job, so that a retry cannot record it twice."""
        return event_id(self.job, self.outcome)

    @property
    def stream(self) -> int:
        """The stream of the subject: all that happened to one object is in one stream."""
        return stream_of(self.subject)


def event_id(job: str, outcome: Outcome) -> str:
    """The id of that outcome of that job."""
    return hashlib.sha256(f"{job}\0{outcome}".encode()).hexdigest()[:32]


def stream_of(subject: str) -> int:
    """The stream that holds everything about a subject."""
    return int.from_bytes(hashlib.sha256(subject.encode()).digest()[:4]) % STREAMS


def chained(events: Iterable[AuditEvent], seq: int, previous: bytes, now: datetime) -> list[StoredRecord]:
    """The events as consecutive records of their stream, the first one being `seq` behind the hash `previous`."""
    records = []
    for number, event in enumerate(events, seq):
        canonical = _canonical(event, number, previous, now)
        previous = leaf_hash(canonical)
        records.append(StoredRecord(event.stream, number, event.id, canonical, previous))
    return records


def fields_of(record: StoredRecord) -> Mapping[str, Any]:
    """What a record says. Integrity if it is not one, or was changed."""
    fields = _fields(record.canonical)
    if not fields or leaf_hash(record.canonical) != record.leaf_hash:
        raise Integrity("an audit record is not as we write it", stream=record.stream, seq=record.seq)
    return fields


def leaf_hash(canonical: bytes) -> bytes:
    """RFC 6962 section 2.1: SHA-256 over 0x00 and the leaf."""
    return hashlib.sha256(b"\x00" + canonical).digest()


def verify_chain(records: Iterable[StoredRecord], previous: bytes = GENESIS, seq: int = 1) -> tuple[int, bytes]:
    """Check consecutive records of one stream; returns (last number, last hash). Integrity at the first bad one."""
    number, stream = seq - 1, None
    for number, record in enumerate(records, seq):
        stream = record.stream if stream is None else stream
        expected = {
            "schema": SCHEMA,
            "stream": stream,
            "seq": number,
            "prev": previous.hex(),
            "event": record.event_id,
        }
        fields = _fields(record.canonical)
        sound = all(fields.get(name) == value for name, value in expected.items())
        sound &= (record.stream, record.seq) == (stream, number)
        sound &= leaf_hash(record.canonical) == record.leaf_hash
        if not sound:
            raise Integrity("an audit stream is broken", stream=stream, seq=number)
        previous = record.leaf_hash
    return number, previous


def _fields(canonical: bytes) -> Mapping[str, object]:
    """The fields of a record; none if the bytes are not the canonical form of an object."""
    try:
        fields: object = json.loads(canonical)
        return fields if isinstance(fields, dict) and rfc8785.dumps(fields) == canonical else {}
    except (ValueError, RecursionError):
        return {}


def _canonical(event: AuditEvent, seq: int, previous: bytes, now: datetime) -> bytes:
    return rfc8785.dumps(
        {
            "schema": SCHEMA,
            "stream": event.stream,
            "seq": seq,
            "prev": previous.hex(),
            "time": now.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "event": event.id,
            "job": event.job,
            "outcome": event.outcome.value,
            "action": event.action,
            "subject": event.subject,
            "actor": event.actor,
            "trigger": event.trigger,
            "reason": mask(event.reason)[:_MAX_REASON],
            "old_version": event.old_version,
            "new_version": event.new_version,
            "details": dict(event.details),
        }
    )
