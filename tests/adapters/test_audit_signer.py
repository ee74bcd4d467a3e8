"""The contract of the port `AuditSigner`, and the vault's bad moments."""

from collections.abc import Callable
from datetime import timedelta
from typing import Literal

import pytest
from azure.keyvault.keys import KeyClient
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from local.stack import Stack
from shared.azure.audit_signer import AzureAuditSigner
from shared.azure.key_requests import PAUSES_S
from shared.errors import Integrity, Rejected, Throttled, Transient, UnusableKey
from shared.values import Kid, SigningKey
from tests.adapters.backends import AzureBackend, Backend
from tests.adapters.test_vault import another_version, foreign
from tests.simulator import SIGNING_KEY

TEXT = "atp-audit\n17\nZoë 密钥\n".encode()
SIGN = "POST /keys/.*/sign"


def verify(key: SigningKey, signature: bytes, text: bytes) -> None:
    key.public_key.verify(signature, text, ec.ECDSA(hashes.SHA256()))


def test_a_key_that_does_not_exist_signs_nothing(backend: Backend) -> None:
    with pytest.raises(Rejected):
        backend.audit_signer.newest()


def test_the_newest_version_of_the_signing_key_is_described_as_it_was_made(backend: Backend) -> None:
    kid = backend.new_signing_key()
    key = backend.audit_signer.newest()
    assert (key.kid, key.enabled) == (kid, True)
    assert isinstance(key.public_key.curve, ec.SECP256R1)
    assert key.created.utcoffset() == timedelta(0)
    assert backend.audit_signer.version(kid) == key


def test_a_new_version_becomes_the_newest_and_the_old_one_stays(backend: Backend) -> None:
    old, new = backend.new_signing_key(), backend.new_signing_key()
    assert backend.audit_signer.newest().kid == new
    assert backend.audit_signer.version(old).kid == old


@pytest.mark.parametrize("text", [TEXT, b"", bytes(1_000_000)], ids=["a checkpoint", "nothing", "a megabyte"])
def test_a_signature_of_any_version_verifies_with_that_version_and_for_that_text_only(
    backend: Backend, text: bytes
) -> None:
    old, new = backend.new_signing_key(), backend.new_signing_key()
    for kid, other in ((old, new), (new, old)):
        signature = backend.audit_signer.sign(kid, text)
        verify(backend.audit_signer.version(kid), signature, text)
        for key, said in ((other, text), (kid, text + b"\n")):
            with pytest.raises(InvalidSignature):
                verify(backend.audit_signer.version(key), signature, said)


def test_a_version_of_the_signing_key_that_does_not_exist_is_rejected(backend: Backend) -> None:
    missing = another_version(backend.new_signing_key(), "f" * 32)
    with pytest.raises(Rejected):
        backend.audit_signer.version(missing)
    with pytest.raises(Rejected):
        backend.audit_signer.sign(missing, TEXT)


def test_a_disabled_version_is_described_as_disabled_and_does_not_sign(backend: Backend) -> None:
    kid = backend.new_signing_key()
    signature = backend.audit_signer.sign(kid, TEXT)
    backend.disable(kid)
    key = backend.audit_signer.version(kid)
    assert not key.enabled
    verify(key, signature, TEXT)
    with pytest.raises(UnusableKey):
        backend.audit_signer.sign(kid, TEXT)


def test_a_key_id_that_is_not_one_of_the_signing_key_is_an_integrity_failure_and_asks_nobody(backend: Backend) -> None:
    kid = backend.new_signing_key()
    other_key = Kid(kid.replace(f"/keys/{backend.key_name(SIGNING_KEY)}/", "/keys/master-kek/"))
    for wrong in (*foreign(kid), other_key, Kid(kid.upper())):
        for call in (backend.audit_signer.version, lambda wrong: backend.audit_signer.sign(wrong, TEXT)):
            before = backend.vault_operations()
            with pytest.raises(Integrity):
                call(wrong)
            assert backend.vault_operations() == before


def test_a_local_stack_has_a_key_that_signs_a_table_for_checkpoints_and_a_container_for_the_evidence(
    stack: Stack,
) -> None:
    ports = stack.adapters
    key = ports.audit_signer.newest()
    assert key.kid.startswith(f"{stack.vault.url}/keys/{stack.settings.audit_signing_key}/")
    verify(key, ports.audit_signer.sign(key.kid, TEXT), TEXT)
    assert list(ports.checkpoints.read(1_000_000, 1)) == []
    assert ports.evidence is not None
    ports.evidence.create("there.jsonl")
    assert "there.jsonl" in {file.name for file in ports.evidence.files()}


MADE: dict[str, Callable[[KeyClient, str], object]] = {
    "P-384": lambda keys, name: keys.create_ec_key(name, curve="P-384"),
    "P-521": lambda keys, name: keys.create_ec_key(name, curve="P-521"),
    "RSA": lambda keys, name: keys.create_rsa_key(name, size=2048),
    "oct": lambda keys, name: keys.create_oct_key(name, size=256, hardware_protected=True),
}


@pytest.mark.parametrize("make", MADE.values(), ids=MADE.keys())
def test_a_signing_key_of_another_kind_is_unusable(
    stack: Stack, azure: AzureBackend, make: Callable[[KeyClient, str], object]
) -> None:
    keys, name = stack.adapters.key_client, azure.key_name(SIGNING_KEY)
    make(keys, name)
    kid = Kid(str(keys.get_key(name).id))
    for call in (azure.audit_signer.newest, lambda: azure.audit_signer.sign(kid, TEXT)):
        with pytest.raises(UnusableKey):
            call()


def test_a_key_of_an_hsm_signs_like_any_other(stack: Stack, azure: AzureBackend) -> None:
    name = azure.key_name(SIGNING_KEY)
    stack.adapters.key_client.create_ec_key(name, curve="P-256", hardware_protected=True)
    key = azure.audit_signer.newest()
    verify(key, azure.audit_signer.sign(key.kid, TEXT), TEXT)


def test_a_key_that_may_not_sign_says_so(stack: Stack, azure: AzureBackend) -> None:
    kid = azure.new_signing_key()
    stack.adapters.key_client.update_key_properties(azure.key_name(SIGNING_KEY), key_operations=["verify"])
    with pytest.raises(UnusableKey):
        azure.audit_signer.sign(kid, TEXT)


def test_an_expired_key_does_not_sign_and_is_described_all_the_same(stack: Stack, azure: AzureBackend) -> None:
    kid = azure.new_signing_key()
    yesterday = stack.clock() - timedelta(days=1)
    stack.adapters.key_client.update_key_properties(azure.key_name(SIGNING_KEY), expires_on=yesterday)
    with pytest.raises(UnusableKey):
        azure.audit_signer.sign(kid, TEXT)
    assert azure.audit_signer.version(kid).enabled


def test_signing_costs_one_operation_when_the_key_is_known(azure: AzureBackend) -> None:
    kid = azure.new_signing_key()
    azure.audit_signer.newest()
    before = azure.vault_operations()
    for _ in range(3):
        azure.audit_signer.sign(kid, TEXT)
    assert azure.vault_operations() - before == 3


def test_a_throttled_signing_is_tried_again_after_growing_pauses(stack: Stack, azure: AzureBackend) -> None:
    kid = azure.new_signing_key()
    stack.vault.inject(SIGN, status=429, times=2)
    verify(azure.audit_signer.version(kid), azure.audit_signer.sign(kid, TEXT), TEXT)
    assert azure.pauses == [pytest.approx(pause, rel=0.2) for pause in PAUSES_S[:2]]


def test_a_signing_that_stays_throttled_is_told_after_the_last_pause(stack: Stack, azure: AzureBackend) -> None:
    kid = azure.new_signing_key()
    stack.vault.inject(SIGN, status=429, times=None)
    with pytest.raises(Throttled):
        azure.audit_signer.sign(kid, TEXT)
    assert len(azure.pauses) == len(PAUSES_S)


CALLS: dict[str, tuple[str, Callable[[AzureBackend, Kid], object]]] = {
    "newest": ("GET /keys/", lambda azure, _: azure.audit_signer.newest()),
    "version": ("GET /keys/", lambda azure, kid: azure.audit_signer.version(kid)),
    "sign": (SIGN, lambda azure, kid: azure.audit_signer.sign(kid, TEXT)),
    "sign, reading the key first": ("GET /keys/", lambda azure, kid: azure.audit_signer.sign(kid, TEXT)),
}


@pytest.mark.parametrize("status", [401, 403, 408, 500, 503, "drop"])
@pytest.mark.parametrize(("match", "call"), CALLS.values(), ids=CALLS.keys())
def test_a_signer_that_fails_is_transient_and_works_again_later(
    stack: Stack,
    azure: AzureBackend,
    match: str,
    call: Callable[[AzureBackend, Kid], object],
    status: int | Literal["drop"],
) -> None:
    kid = azure.new_signing_key()
    stack.vault.inject(match, status=status, times=None)
    with pytest.raises(Transient):
        call(azure, kid)
    assert stack.vault.faults()[0]["struck"] <= 3
    assert azure.pauses == []
    stack.vault.clear_faults()
    call(azure, kid)


def test_an_answer_that_the_public_key_does_not_verify_is_an_integrity_failure(
    azure: AzureBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    kid = azure.new_signing_key()
    signer = azure.audit_signer
    assert isinstance(signer, AzureAuditSigner)
    signer.newest()
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    monkeypatch.setitem(signer._public_keys, kid, other)
    with pytest.raises(Integrity):
        signer.sign(kid, TEXT)


@pytest.mark.parametrize("answer", [b"", bytes(63), bytes(64), b"\xff" * 64, bytes(65)])
def test_an_answer_that_is_no_signature_is_an_integrity_failure(
    azure: AzureBackend, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    kid = azure.new_signing_key()
    monkeypatch.setattr("shared.azure.key_requests.Patience.ask", lambda *_: answer)
    with pytest.raises(Integrity):
        azure.audit_signer.sign(kid, TEXT)
