"""Checkpoints: signed statements of how far every audit stream was at one moment.

The tree of a checkpoint is one of RFC 6962 with one leaf for each stream: its number, how many records it holds and
the root of the tree over them. So a checkpoint pins every record, and a path of hashes leads from any record to it.
The leaves that are new since the checkpoint before stand in the text, so that a contradiction leads to its stream.

The text has the form of https://c2sp.org/tlog-checkpoint: origin, size, root, and lines of our own below. The size
counts the records of all streams, where a log of one tree would count its leaves. It is signed as
https://c2sp.org/signed-note has it, by ECDSA on P-256 with SHA-256:

    contoso.example/audit
    48211
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
    number 4711
    time 2026-11-21T14:30:00.000000Z
    kid https://contoso.vault.azure.net/keys/audit-signing/0123...
    handover 0
    stream 03 3014 8hFq...
    <empty line>
    -- contoso.example/audit <base64 of key id and signature>      (the dash is U+2014)

One signature, of that key and by that name, and no other: a signed note may carry those of witnesses, and a verifier is
to ignore the ones that it does not know. Nobody can witness sixteen trees in one, so a line that we have not written
says nothing but that the note was changed, and is refused.

The signing key rotates by a handover: a checkpoint that names the next key, signed by the old key and by that one.
Whoever trusts the old one can therefore trust the new one, from there on. Every checkpoint names the last handover
before it, so that the way back to an older key is short.

What no form can rule out: to an ECDSA signature (r, s) there is (r, -s), which anybody can write down and which holds
for the same text. Two notes of one text are therefore one checkpoint.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from rotation.audit import STREAMS, parse_time, time_text
from rotation.merkle import HASH_BYTES, leaf_hash, root_of
from shared.errors import Integrity
from shared.values import Kid, StreamHead

_MAX_NOTE: Final = 8_000
TOLERANCE: Final = timedelta(minutes=5)
"""How far clocks may differ, and how long a write may take."""
_SIGNATURE: Final = re.compile(r"\u2014 (?P<name>[!-*,-~]{1,100}) (?P<signature>[A-Za-z0-9+/]{8,200}={0,2})")
_NUMBER: Final = r"(?:0|[1-9][0-9]{0,17})"
_KID: Final = r"https://[A-Za-z0-9.:-]{1,150}/keys/[A-Za-z0-9-]{1,127}/[0-9a-f]{1,40}"
_TEXT: Final = re.compile(
    rf"""(?P<origin>[!-*,-~]{{1,100}})\n
    (?P<size>{_NUMBER})\n
    (?P<root>[A-Za-z0-9+/]{{43}}=)\n
    number\ (?P<number>{_NUMBER})\n
    time\ (?P<time>[0-9T:.Z-]{{27}})\n
    kid\ (?P<kid>{_KID})\n
    handover\ (?P<handover>{_NUMBER})\n
    (?P<grown>(?:stream\ [0-9]{{2}}\ {_NUMBER}\ [A-Za-z0-9+/]{{43}}=\n)*)
    (?:next-kid\ (?P<next_kid>{_KID})\nnext-key\ (?P<next_key>[A-Za-z0-9+/]{{1,200}}={{0,2}})\n)?""",
    re.VERBOSE,
)
_KEY_ID_BYTES: Final = 4
_STREAMS: Final = frozenset(range(STREAMS))
_YEARS: Final = range(2000, 3000)
"""What is said to be signed in another year is no checkpoint: so a time can be counted from without a second look."""


@dataclass(frozen=True, slots=True)
class Statement:
    """What a checkpoint states."""

    origin: str  # names the trail, 1 to 100 visible ASCII characters but plus
    size: int  # records in all streams
    root: bytes  # of the tree over the streams
    number: int  # 1, 2, 3 ... without gaps
    time: datetime  # by the clock of whoever had it signed
    kid: Kid  # the key that signs
    handover: int  # number of the last handover before this one, 0 without one
    grown: Mapping[int, StreamHead]  # the streams that have grown since the checkpoint before
    next_kid: Kid | None = None  # of a handover: the key that signs from the next one on
    next_key: bytes = b""  # and its public half, DER

    def to_text(self) -> str:
        """What is signed."""
        lines = [
            self.origin,
            str(self.size),
            base64.b64encode(self.root).decode(),
            f"number {self.number}",
            f"time {time_text(self.time)}",
            f"kid {self.kid}",
            f"handover {self.handover}",
            *(f"stream {leaf_text(stream, head)}" for stream, head in sorted(self.grown.items())),
        ]
        if self.next_kid:
            lines += [f"next-kid {self.next_kid}", f"next-key {base64.b64encode(self.next_key).decode()}"]
        return "".join(f"{line}\n" for line in lines)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A signed statement as it is handed around. `parse` makes one; whether a signature is right is asked of it."""

    statement: Statement
    text: bytes
    signatures: Sequence[tuple[bytes, bytes]]  # key id, ECDSA signature in DER

    def names(self, key: ec.EllipticCurvePublicKey) -> bool:
        """Whether it says that the key has signed it."""
        wanted = key_id(key)
        return any(identity == wanted for identity, _ in self.signatures)

    def is_signed_by(self, key: ec.EllipticCurvePublicKey) -> bool:
        """Whether the key has signed it."""
        return any(
            identity == key_id(key) and is_signature(key, signature, self.text)
            for identity, signature in self.signatures
        )


def parse(note: str) -> Checkpoint:
    """The checkpoint in a note. Integrity if it is not as `signed` writes it, to the last byte."""
    text, separator, tail = note.partition("\n\n")
    text += "\n"
    matched = _TEXT.fullmatch(text) if len(note) <= _MAX_NOTE else None
    if not separator or not matched or not tail.endswith("\n"):
        raise Integrity("a checkpoint is not as we write it")
    statement = Statement(
        matched["origin"],
        int(matched["size"]),
        _decoded(matched["root"]),
        int(matched["number"]),
        parse_time(matched["time"]),
        Kid(matched["kid"]),
        int(matched["handover"]),
        dict(map(_stream, matched["grown"].splitlines())),
        Kid(matched["next_kid"]) if matched["next_kid"] else None,
        _decoded(matched["next_key"] or ""),
    )
    signatures = []
    for line in tail.removesuffix("\n").split("\n"):
        found = _SIGNATURE.fullmatch(line)
        if found is None or found["name"] != statement.origin:
            raise Integrity("a signature of a checkpoint is not as we write it", checkpoint=statement.number)
        value = _decoded(found["signature"])
        signatures.append((value[:_KEY_ID_BYTES], value[_KEY_ID_BYTES:]))
    if not _are_of(statement, [identity for identity, _ in signatures]):
        raise Integrity("a checkpoint does not have the signatures that it must have", checkpoint=statement.number)
    if (
        statement.to_text() != text
        or len(statement.root) != HASH_BYTES
        or not statement.grown.keys() <= _STREAMS
        or statement.time.year not in _YEARS
    ):
        raise Integrity("a checkpoint is not as we write it", checkpoint=statement.number)
    return Checkpoint(statement, text.encode(), tuple(signatures))


def handovers_to(note: str, handovers: Sequence[str]) -> Sequence[Checkpoint]:
    """The handovers in these notes, oldest first, if they are all there were up to the checkpoint in `note`.

    Integrity unless each names the one before, and is signed by the key that it names and by the one that was named
    before. If `note` is a handover itself, it is the last.
    """
    last = parse(note).statement
    found, number, key = [], 0, None
    for each in handovers:
        handover = parse(each)
        statement = handover.statement
        if not statement.next_key or statement.handover != number or statement.number <= number:
            raise Integrity("handovers do not follow each other", checkpoint=statement.number)
        if key is not None and not handover.is_signed_by(key):
            raise Integrity("a handover is not signed by the key that was handed over to", checkpoint=statement.number)
        number, key = statement.number, from_der(statement.next_key)
        if statement.origin != last.origin or not handover.is_signed_by(key):
            raise Integrity("a handover is not signed by the key it names", checkpoint=statement.number)
        found.append(handover)
    is_whole = handovers[-1:] == [note] if last.next_key else number == last.handover < last.number
    if not is_whole:
        raise Integrity("handovers do not lead to their checkpoint", checkpoint=last.number)
    return found


def signed(statement: Statement, signatures: Sequence[tuple[ec.EllipticCurvePublicKey, bytes]]) -> str:
    """The note that carries the statement with these signatures over its text."""
    lines = [
        f"\u2014 {statement.origin} {base64.b64encode(key_id(key) + signature).decode()}\n"
        for key, signature in signatures
    ]
    return f"{statement.to_text()}\n{''.join(lines)}"


def is_signature(key: ec.EllipticCurvePublicKey, signature: bytes, text: bytes) -> bool:
    """Whether this is a signature of the key over the text."""
    try:
        key.verify(signature, text, ec.ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True


def key_id(key: ec.EllipticCurvePublicKey) -> bytes:
    """4 bytes that hint at the key: for ECDSA the beginning of SHA-256 over its DER, says C2SP's signed-note."""
    return hashlib.sha256(to_der(key)).digest()[:_KEY_ID_BYTES]


def to_der(key: ec.EllipticCurvePublicKey) -> bytes:
    """The key as SubjectPublicKeyInfo."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def from_der(der: bytes) -> ec.EllipticCurvePublicKey:
    """The P-256 key in a SubjectPublicKeyInfo; Integrity for anything else."""
    try:
        key = load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Integrity("a public key in the audit trail is no P-256 key")
    return key


def streams_root(heads: Mapping[int, StreamHead]) -> bytes:
    """The root of the tree over all streams."""
    return root_of(stream_leaves(heads))


def stream_leaves(heads: Mapping[int, StreamHead]) -> Sequence[bytes]:
    """The leaf hashes of that tree."""
    return [leaf_hash(leaf_text(stream, heads[stream]).encode()) for stream in range(STREAMS)]


def leaf_text(stream: int, head: StreamHead) -> str:
    """A leaf of that tree."""
    return f"{stream:02d} {head.size} {base64.b64encode(head.root).decode()}"


def _are_of(statement: Statement, identities: Sequence[bytes]) -> bool:
    """Whether these are the ids of the keys that sign it, in their order: of a handover the old one and the next."""
    if not statement.next_key:
        return len(identities) == 1
    key = from_der(statement.next_key)
    is_written_so = to_der(key) == statement.next_key
    return is_written_so and len(identities) == 2 and identities[0] != identities[1] == key_id(key)


def _stream(line: str) -> tuple[int, StreamHead]:
    _, stream, size, root = line.split(" ")
    return int(stream), StreamHead(int(size), _decoded(root))


def _decoded(text: str) -> bytes:
    """What the base64 says. Bits behind the end must be zero: nothing may be written in two ways."""
    try:
        value = base64.b64decode(text, validate=True)
    except binascii.Error:
        value = b""
    if base64.b64encode(value).decode() != text:
        raise Integrity("a checkpoint is not as we write it")
    return value
