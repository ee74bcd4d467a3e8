"""The audit trail as lines: the one format of the evidence copy and of exports, so that one verifier reads both.

Every line ends with a line feed and is one of

- an anchor: where the lines begin. The streams up to there, the checkpoint that signs them, and the checkpoints by
  which signing keys handed over before. The first line of every file. The anchor of number 0 is the very beginning.
- a record: its canonical JSON, as it was hashed.
- a checkpoint: the note, and perhaps a time-stamp of an earlier checkpoint.

The records that a checkpoint signs stand right before it, by stream and number. A line without its line feed was cut
off. What is stored decides every byte: who writes the same lines again, writes them the same.
"""

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, BinaryIO, Final

import msgspec

from rotation.audit import STREAMS
from shared.errors import Integrity
from shared.values import StoredCheckpoint

SCHEMA: Final = "atp-audit-bundle/1"
_MAX_LINE: Final = 1024 * 1024
RECORD: Final = b'{"action":'
_ANCHOR: Final = b'{"line":"anchor",'

type _Number = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]


class Anchor(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="anchor", tag_field="line"):
    """Where the lines of a file begin."""

    schema: str
    number: _Number  # of the checkpoint that signs these streams, 0 at the very beginning
    note: str  # of that checkpoint, empty at the very beginning
    streams: list[str]  # see rotation/streams.py
    handovers: list[str]  # notes of the handovers up to that checkpoint, oldest first
    since: str = ""  # of an export: what was asked for
    until: str = ""


class Signed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="checkpoint", tag_field="line"):
    """A checkpoint over all lines before it."""

    number: _Number
    note: str
    stamped: _Number = 0  # number of the earlier checkpoint that the token is about
    token: str = ""  # RFC 3161, DER in base64


_DECODE: Final = msgspec.json.Decoder(Anchor | Signed).decode
_ENCODE: Final = msgspec.json.Encoder().encode


def lines_in(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file, each with its line feed. Integrity at one that is longer than any of ours."""
    while line := file.readline(_MAX_LINE + 1):
        if len(line) > _MAX_LINE:
            raise Integrity("a line is longer than any of an audit trail")
        yield line


def is_record(line: bytes) -> bool:
    """Whether the line is a record, if it is anything."""
    return line.startswith(RECORD)


def is_anchor(line: bytes) -> bool:
    """Whether the line is an anchor, if it is anything."""
    return line.startswith(_ANCHOR)


def line_of(part: Anchor | Signed) -> bytes:
    """An anchor or a checkpoint as a line."""
    return _ENCODE(part) + b"\n"


def part_in(line: bytes) -> Anchor | Signed:
    """The anchor or checkpoint in a line. Integrity if it is neither."""
    if line.endswith(b"\r\n"):
        raise Integrity("a line ends with CR and LF: something on the way has changed the ends of lines")
    try:
        part: Anchor | Signed = _DECODE(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Integrity("a line is neither a record nor an anchor nor a checkpoint") from None
    if isinstance(part, Anchor) and (part.schema != SCHEMA or len(part.streams) != STREAMS):
        raise Integrity(f"an anchor does not follow the schema {SCHEMA}")
    if not line.endswith(b"\n"):
        raise Integrity("a line was cut off: it does not end with a line feed")
    if line_of(part) != line:
        raise Integrity("an anchor or a checkpoint is not as we write it")
    if isinstance(part, Signed) and not _is_stamp(part):
        raise Integrity("a time-stamp is not as we write it", checkpoint=part.number)
    return part


def _is_stamp(part: Signed) -> bool:
    """Whether a time-stamp is there as we write it, or none is. Whether it holds is for those to say who have roots."""
    try:
        written = base64.b64encode(base64.b64decode(part.token)).decode()
    except ValueError:
        return False
    return written == part.token and (0 < part.stamped < part.number if part.token else part.stamped == 0)


def checkpoint_line(stored: StoredCheckpoint) -> bytes:
    """A stored checkpoint as a line."""
    return line_of(Signed(stored.number, stored.note, stored.stamped, base64.b64encode(stored.token).decode()))


def anchor_line(
    number: int, note: str, streams: Mapping[int, str], handovers: Sequence[str], since: str = "", until: str = ""
) -> bytes:
    """The first line of a file that begins behind that checkpoint."""
    texts = [streams[stream] for stream in range(STREAMS)]
    return line_of(Anchor(SCHEMA, number, note, texts, list(handovers), since, until))
