"""The proof that one record is in the audit trail, in one small file: for handing to a customer.

It leads from the record to the root of its stream, from there to the root over all streams, and to the signature of a
checkpoint. Whoever has the public key can check it, and learns nothing of any other record.
"""

import base64
from collections.abc import Sequence
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from rotation.audit import STREAMS, Record, parse_time, parsed
from rotation.checkpoint import Checkpoint, from_der, handovers_to, leaf_text, parse, stream_leaves
from rotation.merkle import HASH_BYTES, inclusion_proof, leaf_hash, root_from, root_of
from rotation.streams import Streams, heads_of
from shared.errors import Integrity, Rejected
from shared.values import StreamHead

SCHEMA: Final = "atp-audit-proof/1"


class Path(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The hashes on the way to a root."""

    size: int  # records of the stream at that checkpoint
    in_stream: str  # from the record to its stream's root: hashes side by side in base64
    in_checkpoint: str  # from there to the checkpoint's root


class Proof(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that is needed but the public key."""

    schema: str
    record: str  # canonical JSON
    path: Path
    checkpoint: str  # a note
    handovers: list[str]  # notes by which the key that signed it was handed over to, oldest first


_DECODE: Final = msgspec.json.Decoder(Proof).decode


def made(
    canonical: bytes, leaf_hashes: Sequence[bytes], streams: Streams, note: str, handovers: Sequence[str]
) -> Proof:
    """The proof of a record, given the hashes of all records of its stream and the streams at a checkpoint.

    Integrity if the hashes are not those of the stream.
    """
    record = parsed(canonical)
    if record is None:
        raise Integrity("a record is not as we write it")
    heads = heads_of(streams)
    if StreamHead(len(leaf_hashes), root_of(leaf_hashes)) != heads[record.stream]:
        raise Integrity("the records that are stored are not the ones that were signed", stream=record.stream)
    path = Path(
        len(leaf_hashes),
        _joined(inclusion_proof(leaf_hashes, record.seq - 1)),
        _joined(inclusion_proof(stream_leaves(heads), record.stream)),
    )
    return Proof(SCHEMA, canonical.decode(), path, note, list(handovers))


def to_text(proof: Proof) -> str:
    """The file: JSON on a few lines."""
    return msgspec.json.format(msgspec.json.encode(proof), indent=1).decode() + "\n"


def from_text(text: bytes) -> Proof:
    """The proof in a file; Rejected if it is none, Integrity if it is one but not to the last byte as we write it."""
    try:
        proof = _DECODE(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        proof = None
    if proof is None or proof.schema != SCHEMA:
        raise Rejected(f"not a proof: it does not follow the schema {SCHEMA}")
    if to_text(proof).encode() != text:
        raise Integrity("a proof is not as we write it")
    return proof


def verified(proof: Proof, keys: Sequence[EllipticCurvePublicKey]) -> tuple[Record, Checkpoint]:
    """The record that the proof proves, and the checkpoint that signs it. Integrity if it proves nothing.

    `keys` are the pinned ones; a key that one of them has handed over to counts from there on.
    """
    record, checkpoint = parsed(proof.record.encode()), parse(proof.checkpoint)
    if record is None or not 0 <= record.stream < STREAMS or record.seq < 1:
        raise Integrity("the record of a proof is not as we write it")
    parse_time(record.time)
    root = root_from(leaf_hash(proof.record.encode()), record.seq - 1, proof.path.size, _split(proof.path.in_stream))
    leaf = leaf_hash(leaf_text(record.stream, StreamHead(proof.path.size, root)).encode())
    if root_from(leaf, record.stream, STREAMS, _split(proof.path.in_checkpoint)) != checkpoint.statement.root:
        raise Integrity("the record is not in the checkpoint of its proof", stream=record.stream, seq=record.seq)
    trusted = list(keys)
    own = [proof.checkpoint] if checkpoint.statement.next_key else []
    for handover in handovers_to(proof.checkpoint, [*proof.handovers, *own])[: len(proof.handovers)]:
        if any(handover.is_signed_by(key) for key in trusted):
            trusted = [from_der(handover.statement.next_key)]
    signers = [key for key in trusted if checkpoint.names(key)]
    if not signers or not all(map(checkpoint.is_signed_by, signers)):
        raise Integrity("the checkpoint of a proof is signed by a key that is not trusted")
    return record, checkpoint


def fields(record: Record) -> dict[str, object]:
    """What a record says, by the names of its fields."""
    return {str(name): value for name, value in msgspec.structs.asdict(record).items()}


def _joined(hashes: Sequence[bytes]) -> str:
    return base64.b64encode(b"".join(hashes)).decode()


def _split(text: str) -> list[bytes]:
    try:
        joined = base64.b64decode(text, validate=True)
    except ValueError:
        joined = b""
    hashes = [joined[start : start + HASH_BYTES] for start in range(0, len(joined), HASH_BYTES)]
    if _joined(hashes) != text:
        raise Integrity("the hashes of a proof are not as we write them")
    return hashes
