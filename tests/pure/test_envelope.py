"""The envelope: what it looks like, what is authenticated, and what each kind of damage is called."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotation.envelope import (
    BadEnvelope,
    NotAuthentic,
    Truncated,
    UnknownFormat,
    UnknownVersion,
    WrongTenant,
    header,
    parse,
)
from rotation.tenant_cipher import TenantCipher
from shared.errors import Rejected
from shared.values import KeyState, TenantId, tenant_id
from tests.pure.keyrings import ACME, keyring
from tests.pure.surroundings import Surroundings

TENANT_IDS = st.from_regex(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?", fullmatch=True)
CONTEXT = b"stream/42"
PLAINTEXT = "größer als nötig".encode()


@pytest.fixture
def around() -> Surroundings:
    around = Surroundings()
    around.put(keyring(KeyState.PRIMARY), keyring(KeyState.PRIMARY, tenant=TenantId("acmf")))
    return around


@pytest.fixture
def cipher(around: Surroundings) -> TenantCipher:
    return around.cipher()


@given(tenant=TENANT_IDS, version=st.integers(1, 2**32 - 1), rest=st.binary(min_size=40, max_size=200))
def test_a_header_says_what_was_put_into_it(tenant: str, version: int, rest: bytes) -> None:
    raw = header(TenantId(tenant), version)
    parsed = parse(raw + rest)
    assert (parsed.tenant, parsed.version, parsed.raw) == (tenant, version, raw)


@given(st.binary(max_size=200))
def test_any_bytes_at_all_are_an_envelope_or_a_bad_one(data: bytes) -> None:
    try:
        parse(data)
    except BadEnvelope:
        return
    raise AssertionError("random bytes do not begin with the magic")


@given(st.binary(max_size=120))
def test_any_bytes_behind_the_magic_are_an_envelope_or_a_bad_one(data: bytes) -> None:
    try:
        parsed = parse(b"ATPE\x01\x01" + data)
    except BadEnvelope:
        return
    assert tenant_id(parsed.tenant) == parsed.tenant


@given(
    tenant=TENANT_IDS,
    states=st.integers(1, 3),
    plaintext=st.binary(max_size=300),
    context=st.binary(max_size=80),
)
def test_every_plaintext_comes_back(tenant: str, states: int, plaintext: bytes, context: bytes) -> None:
    around = Surroundings()
    around.put(keyring(*[KeyState.RETIRED] * (states - 1), KeyState.PRIMARY, tenant=TenantId(tenant)))
    envelope = around.cipher().encrypt(tenant, plaintext, context)
    assert len(envelope) == 11 + len(tenant) + 24 + len(plaintext) + 16
    assert parse(envelope).version == states
    assert around.cipher().decrypt(tenant, envelope, context) == plaintext


def test_an_envelope_truncated_at_any_length_is_a_bad_envelope(cipher: TenantCipher) -> None:
    envelope = cipher.encrypt(ACME, PLAINTEXT, CONTEXT)
    for length in range(len(envelope)):
        with pytest.raises(BadEnvelope):
            cipher.decrypt(ACME, envelope[:length], CONTEXT)


def test_an_envelope_with_any_byte_changed_is_a_bad_envelope(around: Surroundings, cipher: TenantCipher) -> None:
    envelope = cipher.encrypt(ACME, PLAINTEXT, CONTEXT)
    for at in range(len(envelope)):
        for mask in (0x01, 0x20, 0x80, 0xFF):
            around.seconds += 1  # a version that does not exist is looked up once a second
            broken = bytearray(envelope)
            broken[at] ^= mask
            with pytest.raises(BadEnvelope):
                cipher.decrypt(ACME, bytes(broken), CONTEXT)
    assert cipher.decrypt(ACME, envelope, CONTEXT) == PLAINTEXT


@pytest.mark.parametrize("extra", [b"\0", b"x" * 40])
def test_an_envelope_with_something_behind_it_is_not_authentic(cipher: TenantCipher, extra: bytes) -> None:
    with pytest.raises(NotAuthentic):
        cipher.decrypt(ACME, cipher.encrypt(ACME, PLAINTEXT, CONTEXT) + extra, CONTEXT)


@pytest.mark.parametrize("context", [b"", b"stream/43", b"stream/4", b"stream/42\0", b"\0stream/42", b"STREAM/42"])
def test_an_envelope_does_not_open_in_another_context(cipher: TenantCipher, context: bytes) -> None:
    envelope = cipher.encrypt(ACME, PLAINTEXT, CONTEXT)
    with pytest.raises(NotAuthentic):
        cipher.decrypt(ACME, envelope, context)


def test_header_and_context_cannot_be_shifted_against_each_other(around: Surroundings) -> None:
    # The same DEK for "acme" and "acmef": only the header tells them apart.
    ring = keyring(KeyState.PRIMARY)
    around.put(ring)
    cipher = around.cipher()
    envelope = cipher.encrypt(ACME, PLAINTEXT, b"f" + CONTEXT)
    longer = envelope[:10] + bytes([5]) + b"acmef" + envelope[15:]
    with pytest.raises(WrongTenant):
        cipher.decrypt(ACME, longer, CONTEXT)
    with pytest.raises(NotAuthentic):
        cipher.decrypt(ACME, envelope, CONTEXT)


def test_another_tenants_envelope_is_refused_by_name(cipher: TenantCipher) -> None:
    envelope = cipher.encrypt("acmf", PLAINTEXT)
    with pytest.raises(WrongTenant) as caught:
        cipher.decrypt(ACME, envelope)
    assert caught.value.fields == {"asked": "acme", "claimed": "acmf"}


def test_an_envelope_relabelled_for_another_tenant_is_not_authentic(cipher: TenantCipher) -> None:
    envelope = cipher.encrypt("acmf", PLAINTEXT)
    with pytest.raises(NotAuthentic):
        cipher.decrypt(ACME, envelope.replace(b"acmf", b"acme", 1))


@pytest.mark.parametrize("version", [0, 2, 2**32 - 1])
def test_a_version_that_the_tenant_never_had_is_unknown(cipher: TenantCipher, version: int) -> None:
    envelope = bytearray(cipher.encrypt(ACME, PLAINTEXT))
    envelope[6:10] = struct.pack(">I", version)
    with pytest.raises(UnknownVersion):
        cipher.decrypt(ACME, bytes(envelope))


def test_an_envelope_relabelled_with_another_version_is_not_authentic(around: Surroundings) -> None:
    around.put(keyring(KeyState.SECONDARY, KeyState.PRIMARY))
    cipher = around.cipher()
    envelope = bytearray(cipher.encrypt(ACME, PLAINTEXT))
    envelope[9] = 1
    with pytest.raises(NotAuthentic):
        cipher.decrypt(ACME, bytes(envelope))


_TAIL = bytes(24 + 16)
BAD = {
    "nothing": (b"", Truncated),
    "half a magic": (b"AT", Truncated),
    "another magic": (b"XTPE" + _TAIL, UnknownFormat),
    "another magic, short": (b"X", UnknownFormat),
    "magic alone": (b"ATPE", Truncated),
    "format of the future": (b"ATPE\x02\x01\0\0\0\x01\x04acme" + _TAIL, UnknownFormat),
    "format 0": (b"ATPE\0\x01\0\0\0\x01\x04acme" + _TAIL, UnknownFormat),
    "another algorithm": (b"ATPE\x01\x02\0\0\0\x01\x04acme" + _TAIL, UnknownFormat),
    "a byte short": (b"ATPE\x01\x01\0\0\0\x01\x04acme" + _TAIL[1:], Truncated),
    "tenant longer than the rest": (b"ATPE\x01\x01\0\0\0\x01\xffacme" + _TAIL, Truncated),
    "no tenant": (b"ATPE\x01\x01\0\0\0\x01\0" + _TAIL, NotAuthentic),
    "tenant in capitals": (b"ATPE\x01\x01\0\0\0\x01\x04ACME" + _TAIL, NotAuthentic),
    "tenant not ASCII": (b"ATPE\x01\x01\0\0\0\x01\x04\xc3\xa4\xc3\xb6" + _TAIL, NotAuthentic),
    "tenant of 65": (b"ATPE\x01\x01\0\0\0\x01\x41" + b"a" * 65 + _TAIL, NotAuthentic),
}


@pytest.mark.parametrize(("data", "error"), BAD.values(), ids=list(BAD))
def test_each_kind_of_damage_has_its_name(data: bytes, error: type[BadEnvelope]) -> None:
    with pytest.raises(error):
        parse(data)


@pytest.mark.parametrize("text", ["", "A", "acme\n", "-a", "a-", ".a", "a b", "ä", "a/b", "a" * 65, None, 7, b"acme"])
def test_what_is_no_tenant_id_is_refused_without_being_quoted(text: object) -> None:
    with pytest.raises(Rejected) as caught:
        tenant_id(text)
    assert caught.value.fields == {}
