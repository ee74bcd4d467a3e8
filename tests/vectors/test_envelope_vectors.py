"""The frozen envelopes: every release must open them, and write the same bytes from the same random ones.

If one of these fails, the format has changed: give it a new format version, and leave the file as it is.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.ciphers import algorithms
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFCMAC, CounterLocation, Mode

from rotation.tenant_cipher import TenantCipher
from rotation.wrapping import check_value
from shared.secret import Secret
from shared.values import Keyring, KeyState, TenantId
from tests.pure.keyrings import keyring
from tests.pure.surroundings import Surroundings

FROZEN: Final[dict[str, Any]] = json.loads((Path(__file__).parent / "envelope.json").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Vector:
    """One frozen envelope."""

    tenant: str
    version: int
    context: bytes
    plaintext: bytes
    nonce: bytes
    envelope: bytes


VECTORS: Final = {
    entry["what"]: Vector(
        entry["tenant"],
        entry["version"],
        *(bytes.fromhex(entry[name]) for name in ("context", "plaintext", "nonce", "envelope")),
    )
    for entry in FROZEN["envelopes"]
}
each_vector = pytest.mark.parametrize("vector", VECTORS.values(), ids=list(VECTORS))


def frozen_keyring(tenant: str, primary: int) -> Keyring:
    """The frozen DEKs of a tenant up to its primary."""
    ring = keyring(*[KeyState.RETIRED] * (primary - 1), KeyState.PRIMARY, tenant=TenantId(tenant))
    frozen = FROZEN["tenants"][tenant][:primary]
    deks = [
        replace(
            dek,
            wrapped=b"wrapped:" + bytes.fromhex(entry["dek"])[::-1],
            check_value=bytes.fromhex(entry["check_value"]),
        )
        for dek, entry in zip(ring.deks, frozen, strict=True)
    ]
    return replace(ring, deks=tuple(deks))


@pytest.fixture(scope="module")
def reader() -> TenantCipher:
    """A service that knows every tenant in the file, with its newest DEK as primary."""
    around = Surroundings()
    around.put(*(frozen_keyring(tenant, len(deks)) for tenant, deks in FROZEN["tenants"].items()))
    return around.cipher()


@each_vector
def test_a_frozen_envelope_decrypts(reader: TenantCipher, vector: Vector) -> None:
    assert reader.decrypt(vector.tenant, vector.envelope, vector.context) == vector.plaintext


@each_vector
def test_the_same_random_bytes_make_the_same_envelope(vector: Vector) -> None:
    around = Surroundings()
    around.put(frozen_keyring(vector.tenant, vector.version))
    draws = iter((vector.nonce[:12], vector.nonce[12:]))
    cipher = around.cipher(entropy=lambda size: next(draws)[:size])
    assert cipher.encrypt(vector.tenant, vector.plaintext, vector.context) == vector.envelope


@each_vector
def test_a_frozen_envelope_opens_by_its_description_alone(vector: Vector) -> None:
    """As somebody would write it who has the format's description, the DEK and a NIST SP 800-108 library."""
    envelope = vector.envelope
    assert envelope[:6] == b"ATPE\x01\x01"
    assert int.from_bytes(envelope[6:10]) == vector.version
    end = 11 + envelope[10]
    assert envelope[11:end].decode() == vector.tenant
    dek = bytes.fromhex(FROZEN["tenants"][vector.tenant][vector.version - 1]["dek"])
    label_and_prefix = b"X\0" + envelope[end : end + 12]
    kdf = KBKDFCMAC(
        algorithms.AES, Mode.CounterMode, 32, 2, None, CounterLocation.BeforeFixed, None, None, label_and_prefix
    )
    opened = AESGCM(kdf.derive(dek)).decrypt(
        envelope[end + 12 : end + 24], envelope[end + 24 :], envelope[:end] + vector.context
    )
    assert opened == vector.plaintext


@pytest.mark.parametrize("tenant", FROZEN["tenants"])
def test_a_frozen_check_value_is_still_that_of_its_dek(tenant: str) -> None:
    for entry in FROZEN["tenants"][tenant]:
        dek = Secret(bytes.fromhex(entry["dek"]))
        assert check_value(dek, TenantId(tenant), entry["version"]).hex() == entry["check_value"]


def test_the_vectors_cover_what_they_are_for() -> None:
    vectors = VECTORS.values()
    assert len({vector.tenant for vector in vectors}) >= 3
    assert len({(vector.tenant, vector.version) for vector in vectors}) >= 6
    assert any(not vector.plaintext for vector in vectors)
    assert any(not vector.plaintext.isascii() for vector in vectors)
    assert {len(vector.tenant) for vector in vectors} >= {1, 64}
    assert len({vector.nonce for vector in vectors}) == len(vectors)
