"""Checkpoints: one way to write each, signed notes as others sign them, and nothing else is taken for one."""

import base64
import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from rotation import checkpoint
from rotation.audit import STREAMS
from rotation.checkpoint import (
    Statement,
    from_der,
    handovers_to,
    is_signature,
    key_id,
    parse,
    signed,
    streams_root,
    to_der,
)
from rotation.merkle import leaf_hash, root_of
from shared.errors import Integrity
from shared.values import Kid, StreamHead

KEY = ec.derive_private_key(1, ec.SECP256R1())
NEXT = ec.derive_private_key(2, ec.SECP256R1())
KID = Kid(f"https://atp.vault.azure.net/keys/audit-signing/{1:032x}")
HEADS = {3: StreamHead(3014, bytes(range(32))), 11: StreamHead(1, bytes(32))}
STATEMENT = Statement(
    "atp.example/audit", 48211, bytes(range(32)), 4711, datetime(2026, 11, 21, 14, 30, tzinfo=UTC), KID, 0, HEADS
)
HANDOVER = replace(STATEMENT, next_kid=Kid(f"{KID[:-1]}2"), next_key=to_der(NEXT.public_key()))

HASHES = st.binary(min_size=32, max_size=32)
NUMBERS = st.integers(0, 10**18 - 1)
STATEMENTS = st.builds(
    Statement,
    origin=st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="+"), min_size=1, max_size=30),
    size=NUMBERS,
    root=HASHES,
    number=NUMBERS,
    time=st.datetimes(datetime(2000, 1, 1), datetime(2999, 12, 31), timezones=st.just(UTC)),  # noqa: DTZ001 - bounds
    kid=st.just(KID),
    handover=NUMBERS,
    grown=st.dictionaries(st.integers(0, STREAMS - 1), st.builds(StreamHead, NUMBERS, HASHES)),
    next_kid=st.none(),
)


def note(statement: Statement = STATEMENT, *keys: ec.EllipticCurvePrivateKey) -> str:
    text = statement.to_text().encode()
    return signed(statement, [(key.public_key(), key.sign(text, ec.ECDSA(SHA256()))) for key in keys or (KEY,)])


GOOD = note()


@given(STATEMENTS, st.booleans())
def test_a_checkpoint_that_was_written_is_read_as_it_was(statement: Statement, handover: bool) -> None:
    if handover:
        statement = replace(statement, next_kid=HANDOVER.next_kid, next_key=HANDOVER.next_key)
    read = parse(note(statement, KEY, NEXT) if handover else note(statement))
    assert read.statement == statement
    assert read.is_signed_by(KEY.public_key())
    assert read.is_signed_by(NEXT.public_key()) == handover


def test_a_checkpoint_is_this_text_for_ever() -> None:
    root = base64.b64encode(bytes(range(32))).decode()
    assert HANDOVER.to_text() == (
        f"atp.example/audit\n48211\n{root}\nnumber 4711\ntime 2026-11-21T14:30:00.000000Z\nkid {KID}\nhandover 0\n"
        f"stream 03 3014 {root}\nstream 11 1 {base64.b64encode(bytes(32)).decode()}\n"
        f"next-kid {HANDOVER.next_kid}\nnext-key {base64.b64encode(HANDOVER.next_key).decode()}\n"
    )


def test_two_keys_may_sign_and_each_is_asked_for_itself() -> None:
    read = parse(note(HANDOVER, KEY, NEXT))
    assert len(read.signatures) == 2
    assert read.is_signed_by(KEY.public_key())
    assert read.is_signed_by(NEXT.public_key())
    assert not read.is_signed_by(ec.derive_private_key(3, ec.SECP256R1()).public_key())


def test_a_signature_under_the_id_of_another_key_is_none_of_either() -> None:
    text = STATEMENT.to_text().encode()
    read = parse(signed(STATEMENT, [(NEXT.public_key(), KEY.sign(text, ec.ECDSA(SHA256())))]))
    assert not read.is_signed_by(KEY.public_key())
    assert not read.is_signed_by(NEXT.public_key())


def resigned(sign: Callable[[list[str]], list[str]], good: str) -> str:
    """A note with other lines of signatures."""
    text, _, tail = good.partition("\n\n")
    return f"{text}\n\n" + "".join(sign(tail.splitlines(keepends=True)))


NOBODY = "\u2014 atp.example/audit AAAAAAAAAAAA\n"
WITNESS = "\u2014 witness.example/1 AAAAAAAAAAAA\n"
OTHER_LINES: dict[str, Callable[[list[str]], list[str]]] = {
    "none": lambda lines: [],  # noqa: ARG005 - like the others
    "the first twice": lambda lines: [lines[0], *lines],
    "the last twice": lambda lines: [*lines, lines[-1]],
    "the first for the last": lambda lines: [*lines[:-1], lines[0], *lines[len(lines) - 1 : 1]],
    "the last for the first": lambda lines: [lines[-1]] * 2,
    "the first and nobody's": lambda lines: [lines[0], NOBODY],
    "nobody's at the end": lambda lines: [*lines, NOBODY],
    "nobody's in front": lambda lines: [NOBODY, *lines],
    "a witness's at the end": lambda lines: [*lines, WITNESS],
    "a witness's in front": lambda lines: [WITNESS, *lines],
    "a witness's alone": lambda lines: [WITNESS] * len(lines),
    "in another order": lambda lines: [*lines[::-1], *lines[: 2 - len(lines)]],
    "by another name": lambda lines: [line.replace("\u2014 atp.example", "\u2014 btp.example") for line in lines],
}


@pytest.mark.parametrize("lines", OTHER_LINES)
@pytest.mark.parametrize("is_handover", [False, True])
def test_a_note_with_other_lines_of_signatures_is_refused(is_handover: bool, lines: str) -> None:
    good = note(HANDOVER, KEY, NEXT) if is_handover else GOOD
    changed = resigned(OTHER_LINES[lines], good)
    assert parse(resigned(lambda same: same, good)) == parse(good)
    if changed != good:
        with pytest.raises(Integrity):
            parse(changed)


def test_a_next_key_is_written_in_one_way_only() -> None:
    point = NEXT.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    head = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200")
    compressed = replace(HANDOVER, next_key=head + point)
    assert to_der(from_der(compressed.next_key)) == HANDOVER.next_key
    with pytest.raises(Integrity):
        parse(note(compressed, KEY, NEXT))


# Handovers


def handovers(*keys: ec.EllipticCurvePrivateKey) -> list[str]:
    """Each key hands over to the next: by checkpoints 10, 20 and so on."""
    return [
        note(_handover(10 * number, 10 * (number - 1), new), old, new)
        for number, (old, new) in enumerate(pairwise(keys), 1)
    ]


def _handover(number: int, before: int, new: ec.EllipticCurvePrivateKey) -> Statement:
    return replace(HANDOVER, number=number, handover=before, next_key=to_der(new.public_key()))


THIRD, FORGER = (ec.derive_private_key(number, ec.SECP256R1()) for number in (3, 99))
CHAIN = handovers(KEY, NEXT, THIRD)
LAST = note(replace(STATEMENT, number=25, handover=20), THIRD)


def test_handovers_that_follow_each_other_lead_to_their_checkpoint() -> None:
    for last, chain in ((LAST, CHAIN), (CHAIN[1], CHAIN), (CHAIN[0], CHAIN[:1]), (GOOD, [])):
        assert [each.statement for each in handovers_to(last, chain)] == [parse(each).statement for each in chain]


OTHER_CHAINS: dict[str, tuple[str, list[str]]] = {
    "none": (LAST, []),
    "the first is missing": (LAST, CHAIN[1:]),
    "the last is missing": (LAST, CHAIN[:1]),
    "one twice": (LAST, [CHAIN[0], *CHAIN]),
    "the last twice": (LAST, [*CHAIN, CHAIN[1]]),
    "in another order": (LAST, CHAIN[::-1]),
    "one that is none": (LAST, [*CHAIN, LAST]),
    "junk": (LAST, [*CHAIN, "x"]),
    "one too many": (GOOD, CHAIN),
    "of a handover, without itself": (CHAIN[1], CHAIN[:1]),
    "of a later one": (note(replace(STATEMENT, number=19, handover=20), THIRD), CHAIN),
    "of the same number": (note(replace(STATEMENT, number=20, handover=20), THIRD), CHAIN),
    "a key between that nobody has handed over to": (LAST, [CHAIN[0], note(_handover(20, 10, THIRD), FORGER, THIRD)]),
    "a signature of the next key that is wrong": (
        LAST,
        [
            CHAIN[0],
            signed(
                _handover(20, 10, THIRD),
                [
                    (NEXT.public_key(), NEXT.sign(_handover(20, 10, THIRD).to_text().encode(), ec.ECDSA(SHA256()))),
                    (THIRD.public_key(), FORGER.sign(b"", ec.ECDSA(SHA256()))),
                ],
            ),
        ],
    ),
    "of another trail": (
        LAST.replace("atp.example", "btp.example"),
        CHAIN,
    ),
}


@pytest.mark.parametrize("name", OTHER_CHAINS)
def test_other_handovers_are_refused(name: str) -> None:
    with pytest.raises(Integrity):
        handovers_to(*OTHER_CHAINS[name])


def test_a_signature_over_another_text_is_none() -> None:
    other = replace(STATEMENT, number=4712).to_text().encode()
    read = parse(signed(STATEMENT, [(KEY.public_key(), KEY.sign(other, ec.ECDSA(SHA256())))]))
    assert not read.is_signed_by(KEY.public_key())


@pytest.mark.parametrize("garbage", [b"", b"\0", b"\x30\x06\x02\x01\x00\x02\x01\x00", bytes(72)])
def test_what_is_no_signature_at_all_is_not_right(garbage: bytes) -> None:
    assert not is_signature(KEY.public_key(), garbage, b"text")


REKOR_KEY = """
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE2G2Y+2tabdTV5BcGiBIx0a9fAFwr
kBbmLSGtks4L3qX6yYY0zufBnhC8Ur/iy55GhWP/9A/bY2LhC30M9+RYtw==
"""
"""Of the public log of Sigstore."""
REKOR = base64.b64decode(REKOR_KEY)
# Two of its checkpoints, as (text, signature): one that note_verifier_test.go in github.com/transparency-dev/formats
# verifies, and one that came with the attestation of sigstore@2.3.1 on npm.
REKOR_NOTES = [
    (
        "Rekor\n798034\nf+7CoKgXKE/tNys9TTXcr/ad6U/K3xvznmzew9y6SP0=\n",
        "wNI9ajBEAiARInWIWyCdyG27CO6LPnPekyw20qO0YJfoaPaowGp/XgIgc+qEHS3+GKVClgqq20uDLet7MCoTURUCRdxwWBHHufk=",
    ),
    (
        "rekor.sigstore.dev - 2605736670972794746\n90244708\nCOSIc1jqxpbuuTChPdiTqtZBBve7GAVJqTYjqAaM940=\n",
        "wNI9ajBEAiAkKWVCpp/N5yF/GlQkAyKQxUsjc3Vpu04YyALJvrBsvAIgcZfXJsJdwLdgUAWwnekWg8YXS4gfz/DM1wVhhcouJBE=",
    ),
]


@pytest.mark.parametrize(("text", "line"), REKOR_NOTES)
def test_a_signed_note_of_a_public_log_has_the_key_id_and_the_signature_that_we_would_expect(
    text: str, line: str
) -> None:
    """https://c2sp.org/signed-note, ECDSA: what others write is what we write, but for the lines of our own."""
    key, value = from_der(REKOR), base64.b64decode(line)
    assert value[:4] == key_id(key) == bytes.fromhex("c0d23d6a")
    assert is_signature(key, value[4:], text.encode())
    assert not is_signature(key, value[4:], text.encode()[:-1])


def test_a_signature_line_is_written_as_a_signed_note_has_it() -> None:
    text, separator, tail = note().partition("\n\n")
    dash, name, value = tail.removesuffix("\n").split(" ")
    assert (dash, name, separator) == ("\N{EM DASH}", "atp.example/audit", "\n\n")
    assert base64.b64decode(value)[:4] == hashlib.sha256(to_der(KEY.public_key())).digest()[:4]
    assert is_signature(KEY.public_key(), base64.b64decode(value)[4:], f"{text}\n".encode())


ROOT_LINE = base64.b64encode(STATEMENT.root).decode()
MALFORMED = {
    "empty": "",
    "no signature": GOOD.partition("\n\n")[0] + "\n\n",
    "no empty line": GOOD.replace("\n\n", "\n"),
    "no last line feed": GOOD[:-1],
    "a line feed too many": GOOD + "\n",
    "carriage returns": GOOD.replace("\n", "\r\n"),
    "blanks at the end": GOOD + " ",
    "another dash": GOOD.replace("\u2014", "-"),
    "a plus in the origin": GOOD.replace("atp.example", "atp+example"),
    "a blank in the origin": GOOD.replace("atp.example", "atp example"),
    "a leading zero": GOOD.replace("\n48211\n", "\n048211\n"),
    "a negative size": GOOD.replace("\n48211\n", "\n-48211\n"),
    "an Arabic digit": GOOD.replace("\n48211\n", "\n4821\u0661\n"),
    "a number too long": GOOD.replace("\n48211\n", f"\n{'9' * 19}\n"),
    "a short root": GOOD.replace(ROOT_LINE, ROOT_LINE[4:], 1),
    "a root with bits behind its end": GOOD.replace("Hh8=\nnumber", "Hh9=\nnumber"),
    "a stream too many": GOOD.replace("stream 11", "stream 16"),
    "a stream twice": GOOD.replace("stream 11", "stream 03"),
    "streams in disorder": GOOD.replace("stream 11", "stream 02"),
    "a time without a zone": GOOD.replace(".000000Z", ".0000000"),
    "a day that is none": GOOD.replace("2026-11-21", "2026-11-31"),
    "a time in another zone": GOOD.replace("14:30:00.000000Z", "15:30:00.000+01"),
    "the first year of all": GOOD.replace("2026-11-21", "0001-01-01"),
    "the last year of all": GOOD.replace("2026-11-21", "9999-12-31"),
    "a key id that is none": GOOD.replace("kid https", "kid http"),
    "lines in another order": GOOD.replace("number 4711\n", "").replace("handover 0\n", "handover 0\nnumber 4711\n"),
    "a line of nobody's": GOOD.replace("handover 0\n", "handover 0\nwitness 1\n"),
    "the next key without its id": note(HANDOVER).replace(f"next-kid {HANDOVER.next_kid}\n", ""),
    "a next key that is no base64": note(HANDOVER).replace("next-key ", "next-key A"),
    "no bytes in a signature": GOOD.partition("\u2014")[0] + "\u2014 atp.example/audit\n",
    "a signature that is no base64": GOOD.partition("\u2014")[0] + "\u2014 atp.example/audit AAAAAAAAA\n",
    "far too long": GOOD + GOOD.partition("\n\n")[2] * 80,
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_not_as_we_write_it_is_refused(name: str) -> None:
    assert MALFORMED[name] != GOOD
    with pytest.raises(Integrity):
        parse(MALFORMED[name])


def test_a_signature_can_be_written_in_one_way_only() -> None:
    """Base64 has spare bits at its end: set, they would make another note of the same signature."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    text = STATEMENT.to_text().encode()
    signature = next(each for _ in range(99) if len(each := KEY.sign(text, ec.ECDSA(SHA256()))) % 3 != 2)
    good = signed(STATEMENT, [(KEY.public_key(), signature)])
    stem, padding = good.rstrip("=\n"), good[len(good.rstrip("=\n")) :]
    changed = stem[:-1] + alphabet[alphabet.index(stem[-1]) ^ 1] + padding
    assert base64.b64decode(changed.split(" ")[-1]) == base64.b64decode(good.split(" ")[-1])
    with pytest.raises(Integrity):
        parse(changed)


@given(st.data())
def test_no_changed_character_of_a_note_leaves_it_signed(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(GOOD) - 1))
    other = data.draw(st.characters(exclude_characters=GOOD[at]))
    try:
        read = parse(GOOD[:at] + other + GOOD[at + 1 :])
    except Integrity:
        return
    assert not read.is_signed_by(KEY.public_key())


@given(st.text(max_size=200))
def test_any_text_is_a_checkpoint_or_refused(text: str) -> None:
    for candidate in (text, f"{text}\n\n{text}\n", GOOD.replace("48211", text)):
        try:
            parse(candidate)
        except Integrity:
            continue
        assert candidate == GOOD or text.isdigit()


def test_a_key_is_read_back_and_anything_else_is_refused() -> None:
    assert to_der(from_der(to_der(KEY.public_key()))) == to_der(KEY.public_key())
    other_curve = ec.derive_private_key(1, ec.SECP384R1()).public_key()
    other_kind = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key()
    ders = [key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) for key in (other_curve, other_kind)]
    for der in (b"", b"\x30\x00", REKOR[:-1], *ders):
        with pytest.raises(Integrity, match="no P-256 key"):
            from_der(der)


def test_a_key_of_a_kind_that_nobody_here_knows_is_refused_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(der: bytes) -> None:
        raise UnsupportedAlgorithm("an algorithm of the future")

    monkeypatch.setattr(checkpoint, "load_der_public_key", unknown)
    with pytest.raises(Integrity, match="no P-256 key"):
        from_der(REKOR)


def test_the_root_of_a_checkpoint_is_that_over_a_leaf_for_each_stream() -> None:
    heads = {stream: StreamHead(stream, bytes([stream]) * 32) for stream in range(STREAMS)}
    leaves = [f"{stream:02d} {stream} {base64.b64encode(bytes([stream]) * 32).decode()}" for stream in range(STREAMS)]
    assert streams_root(heads) == root_of([leaf_hash(leaf.encode()) for leaf in leaves])
