"""Audit records: what a record says, its canonical bytes, and the chain that makes a change show.

A record is canonical JSON (RFC 8785). Its hash is that of an RFC 6962 leaf, and each record of a stream names the hash
of the one before it. Streams are a fixed number, chosen by a hash of the subject, so that unrelated writers rarely
meet. Numbers begin at 1 and have no gaps.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Final

import msgspec

from rotation.merkle import leaf_hash
from shared.errors import Integrity
from shared.redact import mask
from shared.redact.gate import fitting
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
        "previous_version": r"[0-9a-f]{32}",
        "current_version": r"[0-9a-f]{32}",
        "alert": r"[A-Za-z0-9._:/+-]{1,200}",
        "part": r"(shard/[0-9]{1,2}|tenant/[a-z0-9._-]{1,64})",
    }.items()
}
_DETAILS: Final = _GRAMMAR.keys() - {"action", "subject", "actor", "trigger", "job"}
_NUMBERS: Final = 2**53  # RFC 8785, by way of RFC 7493: below it, what every reader reads alike
MAX_REASON: Final = 200  # characters
_SHA256: Final = hashlib.sha256()  # to be copied: see rotation/merkle.py
_FROM_ISO: Final = datetime.fromisoformat
_TIME_LENGTH: Final = len("2026-11-21T14:30:00.000000Z")


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
        if not all(version is None or 0 <= version < _NUMBERS for version in (self.old_version, self.new_version)):
            raise ValueError("an audit version is no number that every reader reads alike")

    @property
    def id(self) -> str:
        """32 hex digits; the same for the same outcome of the same job, so that a retry cannot record it twice."""
        return event_id(self.job, self.outcome)

    @property
    def stream(self) -> int:
        """The stream of the subject: all that happened to one object is in one stream."""
        return stream_of(self.subject)


def event_id(job: str, outcome: str) -> str:
    """The id of that outcome of that job."""
    return event_digest(job, outcome).hex()


def event_digest(job: str, outcome: str) -> bytes:
    """The same as 16 bytes."""
    digest = _SHA256.copy()
    digest.update(f"{job}\0{outcome}".encode())
    return digest.digest()[:16]


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


_NUMBER: Final = msgspec.Meta(ge=0, lt=_NUMBERS)
_STREAM: Final = msgspec.Meta(ge=0, lt=STREAMS)


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """What a stored record says. Its fields stand in the order in which canonical JSON has them."""

    action: str
    actor: str
    details: dict[str, str]
    event: str
    job: str
    new_version: Annotated[int, _NUMBER] | None
    old_version: Annotated[int, _NUMBER] | None
    outcome: str
    prev: str
    reason: str
    schema: str
    seq: Annotated[int, _NUMBER]
    stream: Annotated[int, _STREAM]
    subject: str
    time: str
    trigger: str

    @property
    def moment(self) -> datetime:
        """When it was written, by the clock of its writer. Integrity if that is no time."""
        return parse_time(self.time)


_DECODER: Final = msgspec.json.Decoder(Record)
_ENCODER: Final = msgspec.json.Encoder(order="deterministic")  # RFC 8785: the names of objects are in order
_NO_RECORD: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def parsed(canonical: bytes) -> Record | None:
    """The record in these bytes; None if they are not the canonical form of one, so that no two readers can differ."""
    try:
        record = _DECODER.decode(canonical)
    except _NO_RECORD:
        return None
    return record if _ENCODER.encode(record) == canonical else None


def all_parsed(canonicals: Sequence[bytes]) -> Sequence[Record | None]:
    """What `parsed` says of each; where all are records, in less time. Some dozens at a time are the quickest."""
    lines = b"\n".join([*canonicals, b""])
    try:
        records = _DECODER.decode_lines(lines)
    except _NO_RECORD:
        records = []
    # However the decoder tells lines apart: what is encoded has no line feed but behind each record, so that where
    # it is the same as the lines, and there are as many of both, each of them is the canonical form of its record.
    if len(records) == len(canonicals) and _ENCODER.encode_lines(records) == lines:
        return records
    return [parsed(canonical) for canonical in canonicals]


def record_in(stored: StoredRecord) -> Record:
    """What a stored record says. Integrity if it is none, or was changed."""
    record = parsed(stored.canonical)
    if record is None or leaf_hash(stored.canonical) != stored.leaf_hash:
        raise Integrity("an audit record is not as we write it", stream=stored.stream, seq=stored.seq)
    return record


def verify_chain(records: Iterable[StoredRecord], previous: bytes = GENESIS, seq: int = 1) -> tuple[int, bytes]:
    """Check consecutive records of one stream; returns (last number, last hash). Integrity at the first bad one."""
    number, stream = seq - 1, None
    for number, stored in enumerate(records, seq):
        stream = stored.stream if stream is None else stream
        record = parsed(stored.canonical)
        said = record and (record.schema, record.stream, record.seq, record.prev, record.event)
        if (
            said != (SCHEMA, stream, number, previous.hex(), stored.event_id)
            or (stored.stream, stored.seq) != (stream, number)
            or leaf_hash(stored.canonical) != stored.leaf_hash
        ):
            raise Integrity("an audit stream is broken", stream=stream, seq=number)
        previous = stored.leaf_hash
    return number, previous


def time_text(moment: datetime) -> str:
    """A time as records have it: UTC, to the microsecond."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def parse_time(text: str) -> datetime:
    """The time that `time_text` has written; Integrity for anything else."""
    try:
        moment = _FROM_ISO(text)
    except (ValueError, OverflowError):
        moment = None
    # ISO 8601 has many more forms, and zones: of all that are read above, no other has this length and these marks.
    # A pattern would say the same, and cost the verification of a large export one record in twenty.
    if (
        moment is None
        or len(text) != _TIME_LENGTH
        or text[7] != "-"
        or text[10] != "T"
        or text[19] != "."
        or text[26] != "Z"
    ):
        raise Integrity("a time in the audit trail is not as we write it")
    return moment


def _canonical(event: AuditEvent, seq: int, previous: bytes, now: datetime) -> bytes:
    """RFC 8785: names in order, no blanks; of texts and whole numbers msgspec writes what it wants."""
    record = Record(
        action=event.action,
        actor=event.actor,
        details=dict(event.details),
        event=event.id,
        job=event.job,
        new_version=event.new_version,
        old_version=event.old_version,
        outcome=event.outcome.value,
        prev=previous.hex(),
        reason="",
        schema=SCHEMA,
        seq=seq,
        stream=event.stream,
        subject=event.subject,
        time=time_text(now),
        trigger=event.trigger,
    )

    def with_reason(reason: str) -> bytes:
        return _ENCODER.encode(msgspec.structs.replace(record, reason=reason))

    # A record that looks as if it held a secret would be refused, and what it is about could never be done.
    return with_reason(fitting(event.reason, lambda reason: with_reason(reason).decode(), MAX_REASON))
