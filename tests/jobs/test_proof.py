"""The proof of one record: every record has one, it is small, and it proves that record and no other."""

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st

from rotation.audit import GENESIS, STREAMS, Record, chained, record_in
from rotation.checkpoint import Statement, key_id, parse, signed, streams_root, to_der
from rotation.proof import Proof, from_text, made, to_text, verified
from rotation.streams import StreamState, heads_of, no_records
from shared.errors import AtpError, Integrity, Rejected
from shared.values import Kid
from tests.conftest import Tally
from tests.jobs.auditing import AuditProcess, Platform, event
from tests.simulator import START, VAULT_URL, signing_secret


def trail_over_three_keys() -> Platform:
    platform = Platform()
    platform.live(4, each=9)
    for _ in range(2):
        platform.world.add_signing_key()
        platform.live(4, each=9)
    platform.live(1, each=9)
    return platform


PLATFORM = trail_over_three_keys()
PLACES = [(record.stream, record.seq) for records in PLATFORM.world.streams.values() for record in records]


def text_of(platform: Platform, stream: int, seq: int) -> bytes:
    """The proof file of a record."""
    return to_text(AuditProcess(platform.world).trail.proof(stream, seq)).encode()


def stored(stream: int, seq: int) -> Record:
    return record_in(PLATFORM.world.streams[stream][seq - 1])


def test_every_record_of_a_trail_has_a_proof_that_checks_across_handovers() -> None:
    numbers = set()
    trail = AuditProcess(PLATFORM.world).trail
    assert len({parse(note).statement.kid for note in PLATFORM.notes}) == 3
    for stream, seq in PLACES:
        record, checkpoint = verified(from_text(to_text(trail.proof(stream, seq)).encode()), PLATFORM.keys)
        assert record == stored(stream, seq)
        numbers.add(checkpoint.statement.number)
    assert numbers == set(range(1, len(PLATFORM.notes) + 1)), "each by the first checkpoint that signs it"


def test_a_proof_does_not_change_when_the_trail_goes_on() -> None:
    platform = Platform()
    platform.live(2, each=5)
    before = {place: text_of(platform, *place) for place in [(r[0].stream, 1) for r in platform.world.streams.values()]}
    platform.live(70, each=1)
    assert {place: text_of(platform, *place) for place in before} == before


@pytest.mark.parametrize("number", [2, 3])
def test_who_has_pinned_a_later_key_can_check_what_that_one_signed_and_not_what_came_before(number: int) -> None:
    pinned = [list(PLATFORM.world.signing_keys.values())[number - 1].public_key]
    first, last = PLACES[0], max(PLACES, key=lambda place: stored(*place).time)
    assert verified(from_text(text_of(PLATFORM, *last)), pinned)[0] == stored(*last)
    with pytest.raises(Integrity, match="not trusted"):
        verified(from_text(text_of(PLATFORM, *first)), pinned)


def test_a_stranger_proves_nothing() -> None:
    stranger = ec.derive_private_key(99, ec.SECP256R1()).public_key()
    with pytest.raises(Integrity, match="not trusted"):
        verified(from_text(text_of(PLATFORM, *PLACES[0])), [stranger])
    assert verified(from_text(text_of(PLATFORM, *PLACES[0])), [stranger, *PLATFORM.keys])
    with pytest.raises(Integrity, match="not trusted"):
        verified(from_text(text_of(PLATFORM, *PLACES[0])), [])


def test_a_record_that_is_not_signed_yet_has_no_proof_and_gets_one_in_a_minute() -> None:
    platform = Platform()
    trail = AuditProcess(platform.world).trail
    platform.record(tenant="acme")
    stream = event(1, "acme").stream
    with pytest.raises(Rejected, match="no checkpoint signs that record yet"):
        trail.proof(stream, 1)
    platform.sign()
    assert verified(trail.proof(stream, 1), platform.keys)[0].subject == "dek/acme"
    with pytest.raises(Rejected):
        trail.proof(stream, 2)


def test_no_proof_is_made_from_records_that_were_changed_with_their_hashes() -> None:
    platform = Platform()
    for _ in range(3):
        platform.record(3, "acme")
        platform.sign(61)
    records = platform.world.streams[event(1, "acme").stream]
    changed = records[0].canonical.replace(b"it was due", b"it was fun")
    records[0] = replace(records[0], canonical=changed, leaf_hash=hashlib.sha256(b"\0" + changed).digest())
    with pytest.raises(Integrity, match="not the ones that were signed"):
        AuditProcess(platform.world).trail.proof(records[0].stream, 8)


# Tampering


def outcome(text: bytes) -> Record | None:
    """The record that a proof file proves; None if it proves nothing."""
    try:
        return verified(from_text(text), PLATFORM.keys)[0]
    except (Integrity, Rejected):
        return None


def of_each_kind() -> Iterator[bytes]:
    """Proofs under the first key, by a handover itself, and behind two handovers."""
    handovers = [number for number, note in enumerate(PLATFORM.notes, 1) if parse(note).statement.next_key]
    trail = AuditProcess(PLATFORM.world).trail
    for number in (1, handovers[0], len(PLATFORM.notes)):
        place = next(place for place in PLACES if trail.located(*place) == number)
        yield text_of(PLATFORM, *place)


PROOFS = list(of_each_kind())


@pytest.mark.parametrize("index", range(len(PROOFS)))
def test_no_byte_of_a_proof_can_be_changed(index: int, tally: Tally) -> None:
    whole = PROOFS[index]
    assert outcome(whole) is not None
    for at in range(len(whole)):
        assert outcome(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :]) is None, whole[at - 20 : at + 9]
        tally.count("flipped bytes of a proof")


@given(st.sampled_from(PROOFS), st.data())
def test_flipped_bytes_never_prove_another_record(whole: bytes, data: st.DataObject) -> None:
    changed = bytearray(whole)
    for at in data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=4, unique=True)):
        changed[at] ^= data.draw(st.integers(1, 255))
    assert outcome(bytes(changed)) is None


@given(st.sampled_from(PROOFS), st.sampled_from(PROOFS), st.sampled_from(["record", "path", "checkpoint", "handovers"]))
def test_parts_of_two_proofs_prove_nothing_new(one: bytes, other: bytes, part: str) -> None:
    mixed = json.loads(one) | {part: json.loads(other)[part]}
    proved = outcome(to_text(from_json(mixed)).encode())
    assert proved is None or proved in (outcome(one), outcome(other))


def from_json(fields: object) -> Proof:
    """Whatever it is, as a proof."""
    return from_text(_canonical(fields))


def _canonical(fields: object) -> bytes:
    return (json.dumps(fields, indent=1, ensure_ascii=False) + "\n").encode()


@given(st.binary(max_size=200))
def test_any_bytes_are_a_proof_or_refused(text: bytes) -> None:
    with pytest.raises(Rejected, match="not a proof"):
        from_text(text)


def fields() -> dict[str, object]:
    loaded: dict[str, object] = json.loads(PROOFS[0])
    return loaded


GOOD = fields()
LAST = json.loads(PROOFS[2])
PATH = json.loads(PROOFS[0])["path"]
TOO_LONG = base64.b64encode(base64.b64decode(PATH["in_checkpoint"]) + bytes(32)).decode()
MALFORMED = {
    "another schema": GOOD | {"schema": "atp-audit-proof/2"},
    "a field too many": GOOD | {"more": 1},
    "no path": {name: value for name, value in GOOD.items() if name != "path"},
    "an empty record": GOOD | {"record": ""},
    "a record that is none": GOOD | {"record": "{}"},
    "an enormous size": GOOD | {"path": PATH | {"size": 10**40}},
    "a size of nothing": GOOD | {"path": PATH | {"size": 0}},
    "a negative size": GOOD | {"path": PATH | {"size": -1}},
    "a path of letters that are not ASCII": GOOD | {"path": PATH | {"in_stream": "\u00e9" * 44}},
    "a path that is no base64": GOOD | {"path": PATH | {"in_stream": "A"}},
    "a path of half a hash": GOOD | {"path": PATH | {"in_stream": "AAAA"}},
    "a path too short": GOOD | {"path": PATH | {"in_checkpoint": ""}},
    "a path too long": GOOD | {"path": PATH | {"in_checkpoint": TOO_LONG}},
    "no checkpoint": GOOD | {"checkpoint": ""},
    "a handover that is none": GOOD | {"handovers": [GOOD["checkpoint"]]},
    "a handover of later": GOOD | {"handovers": [json.loads(PROOFS[1])["checkpoint"]]},
    "a handover that is missing": LAST | {"handovers": LAST["handovers"][1:]},
    "a handover twice": LAST | {"handovers": [LAST["handovers"][0], *LAST["handovers"]]},
    "a handover in front of none": GOOD | {"handovers": LAST["handovers"][:1]},
    "a handover that is no note": GOOD | {"handovers": ["x"]},
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_proof_is_refused_by_an_error_of_ours(name: str) -> None:
    with pytest.raises(AtpError):
        verified(from_text(_canonical(MALFORMED[name])), PLATFORM.keys)


def test_the_same_proof_written_in_another_way_is_refused() -> None:
    for other in (json.dumps(GOOD).encode(), _canonical(GOOD).replace(b"\n", b"\r\n"), _canonical(GOOD) + b"\n"):
        with pytest.raises(Integrity, match="not as we write it"):
            from_text(other)


def test_a_forged_handover_hands_over_to_nobody() -> None:
    """A note that names the attacker's key, signed by the attacker only, in front of a checkpoint of the attacker's."""
    forger = ec.derive_private_key(5, ec.SECP256R1())
    last = json.loads(PROOFS[2])
    handover = parse(last["handovers"][0]).statement
    forged = replace(handover, next_key=to_der(forger.public_key()))
    checkpoint = replace(parse(last["checkpoint"]).statement, handover=handover.number)
    other = ec.derive_private_key(6, ec.SECP256R1())
    mixed = last | {"handovers": [_signed(forged, other, forger)], "checkpoint": _signed(checkpoint, forger)}
    with pytest.raises(Integrity, match="not trusted"):
        verified(from_json(mixed), PLATFORM.keys)


def _signed(statement: Statement, *keys: ec.EllipticCurvePrivateKey) -> str:
    text = statement.to_text().encode()
    return signed(statement, [(key.public_key(), key.sign(text, ec.ECDSA(SHA256()))) for key in keys])


# Size


def test_the_proof_of_one_record_among_a_million_is_small(tally: Tally) -> None:
    each = 1_000_000 // STREAMS
    (record,) = chained([event(1, "tenant-4711")], each // 3, GENESIS, START)
    hashes = [hashlib.sha256(number.to_bytes(4)).digest() for number in range(each)]
    hashes[record.seq - 1] = record.leaf_hash
    full = StreamState()
    full.size, full.last = each, hashes[-1]
    for leaf in hashes[:-1]:
        full._tree.add_hash(leaf)
    streams = dict.fromkeys(no_records(), full)
    heads = heads_of(dict.fromkeys([0], full))[0]
    signer = signing_secret(1)
    every = dict.fromkeys(streams, heads)
    kid = Kid(f"{VAULT_URL}/keys/audit-signing/{1:032x}")
    statement = Statement("atp.example/audit", 1_000_000, streams_root(every), 525_600, START, kid, 0, every)
    proof = made(record.canonical, hashes, streams, _signed(statement, signer), [])
    text = to_text(proof)
    assert verified(from_text(text.encode()), [signer.public_key()])[0].seq == record.seq
    path = text[text.index('"path"') : text.index('"checkpoint"')]
    assert len(path) < 1000
    assert len(text) < 4000
    assert key_id(signer.public_key()) == parse(proof.checkpoint).signatures[0][0]
    tally.count("bytes of the path in the proof of one record among a million", len(path))
    tally.count("bytes of the whole file of that proof", len(text))
