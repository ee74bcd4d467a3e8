"""The Key Vault emulator, through the real SDK clients over TLS; its rules also as plain values."""

import base64
import http.client
import itertools
import json
import ssl
import stat
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from hashlib import sha256, sha384, sha512
from pathlib import Path
from typing import Any, cast

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
    ServiceRequestError,
    ServiceResponseError,
)
from azure.keyvault.certificates import (
    CertificateClient,
    CertificateContentType,
    CertificatePolicy,
    CertificatePolicyAction,
    KeyVaultCertificate,
    LifetimeAction,
)
from azure.keyvault.keys import (
    JsonWebKey,
    KeyClient,
    KeyCurveName,
    KeyOperation,
    KeyRotationLifetimeAction,
    KeyRotationPolicy,
    KeyRotationPolicyAction,
    KeyType,
    KeyVaultKey,
)
from azure.keyvault.keys.crypto import (
    CryptographyClient,
    EncryptionAlgorithm,
    KeyWrapAlgorithm,
    SignatureAlgorithm,
)
from azure.keyvault.secrets import SecretClient
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, pkcs12

from local.key_vault.body import Body
from local.key_vault.client import KeyVaultProcess
from local.key_vault.errors import VaultError
from local.key_vault.faults import Faults, Moment, Rule
from local.key_vault.rotation_policy import later
from local.key_vault.throttle import LIMITS, WINDOW, Bucket, Charge, Throttle, creation_charge, operation_charge
from local.key_vault.versions import KeyShape, KeyVersion, Operation
from local.key_vault.versions import KeyType as Kty
from local.server_process import ServerStartError
from shared.clock import MovableClock

NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)
DATA = bytes(range(32))


class AnyToken:
    def get_token(self, *_scopes: str, **_options: Any) -> AccessToken:
        return AccessToken("any", int(time.time()) + 3600)


class Stack:
    """One vault, its clock, and SDK clients that show every error at once instead of trying again."""

    def __init__(self, folder: Path, *, quota: bool = False) -> None:
        self.folder = folder
        self.clock = MovableClock(folder / "clock")
        self._quota = quota
        self._closing: list[Any] = []
        self.start()

    def start(self) -> None:
        self.vault = KeyVaultProcess.start(
            self.folder / "vault", self.folder / "clock", self.folder / "log", quota=self._quota
        )
        self.keys = self._client(KeyClient, self.vault.url)
        self.secrets = self._client(SecretClient, self.vault.url)
        self.certificates = self._client(CertificateClient, self.vault.url)

    def crypto(self, key: KeyVaultKey | str) -> CryptographyClient:
        return self._client(CryptographyClient, key)

    def crypto_without_the_key(self, key: KeyVaultKey) -> CryptographyClient:
        """A client that may not read the key and so does everything in the vault.

        Symmetric keys need one: from a key without its value, as HSMs answer it, azure-keyvault-keys 4.11 makes up a
        random one and wraps with that, locally and beyond recovery.
        """
        self.vault.inject(f"GET /keys/{key.name}/", status=403)
        client = self.crypto(key.id)
        digest = sha256(DATA).digest()
        assert error_of(lambda: client.sign(SignatureAlgorithm.es256, digest)) is not None
        assert self.vault.faults()[-1]["left"] == 0
        self.vault.clear_faults()
        return client

    def remote(self, key: KeyVaultKey, operation: str, **body: str) -> dict[str, Any]:
        """A cryptographic operation that surely goes to the vault, where the SDK would do it locally."""
        path = (key.id or "").removeprefix(self.vault.url)
        status, answer, _ = self.raw("POST", f"{path}/{operation}?api-version=7.6", body)
        if status != 200:
            raise AssertionError((status, answer))
        return answer

    def raw(
        self, method: str, path: str, body: object = None, token: str | None = "any"
    ) -> tuple[int, dict[str, Any], dict[str, str]]:
        connection = self.connection()
        try:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            text = response.read()
            return response.status, json.loads(text) if text else {}, {k.lower(): v for k, v in response.getheaders()}
        finally:
            connection.close()

    def connection(self) -> http.client.HTTPSConnection:
        context = ssl.create_default_context(cafile=str(self.vault.ca))
        return http.client.HTTPSConnection("localhost", self.vault.port, timeout=30, context=context)

    def log_lines(self) -> list[list[str]]:
        return [line.split(" ") for line in (self.folder / "vault" / "requests.log").read_text().splitlines()]

    def close(self) -> None:
        for client in self._closing:
            client.close()
        self.vault.stop()
        assert "Traceback" not in (self.folder / "log").read_text()

    def _client[C](self, make: Callable[..., C], what: object) -> C:
        client = make(
            what,
            AnyToken(),
            connection_verify=str(self.vault.ca),
            verify_challenge_resource=False,
            retry_total=0,
        )
        self._closing.append(client)
        return client


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Shared: tests use names of their own and leave neither faults nor a moved clock behind."""
    stack = Stack(tmp_path_factory.mktemp("shared"))
    yield stack
    stack.close()


@pytest.fixture
def own_stack(tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(tmp_path)
    yield stack
    stack.close()


_numbers = itertools.count()


@pytest.fixture
def name() -> str:
    return f"object-{next(_numbers)}"


def eventually[T](attempt: Callable[[], T | None]) -> T:
    """Ask until it has happened."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        result = attempt()
        if result is not None:
            return result
    raise AssertionError("it did not happen")


def refusal(call: Callable[[], object]) -> tuple[int | None, str | None, str | None]:
    """Status, code and inner code of the error that `call` must raise."""
    with pytest.raises(HttpResponseError) as caught:
        call()
    error = cast("Any", caught.value.error)
    return caught.value.status_code, error.code, (error.innererror or {}).get("code")


def error_of(call: Callable[[], object]) -> HttpResponseError | None:
    try:
        call()
    except HttpResponseError as error:
        return error
    return None


def public(key: KeyVaultKey) -> Any:
    """The JWK, whose parts the SDK sets without declaring them."""
    return key.key


def b64(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


# ---- keys: how they come into being


@pytest.mark.parametrize("size", [2048, 3072, 4096])
@pytest.mark.parametrize("hsm", [False, True])
def test_an_rsa_key_of_each_size_wraps_locally_and_unwraps_in_the_vault(
    stack: Stack, name: str, size: int, hsm: bool
) -> None:
    key = stack.keys.create_rsa_key(name, size=size, hardware_protected=hsm, tags={"purpose": "test"})

    assert key.key_type == ("RSA-HSM" if hsm else "RSA")
    assert key.id == f"{stack.vault.url}/keys/{name}/{key.properties.version}"
    assert key.properties.tags == {"purpose": "test"}
    assert len(public(key).n) * 8 == size
    crypto = stack.crypto(key)
    for algorithm in (KeyWrapAlgorithm.rsa_oaep, KeyWrapAlgorithm.rsa_oaep_256, KeyWrapAlgorithm.rsa1_5):
        wrapped = crypto.wrap_key(algorithm, DATA).encrypted_key
        assert crypto.unwrap_key(algorithm, wrapped).key == DATA


@pytest.mark.parametrize(
    ("curve", "algorithm", "digest"),
    [
        (KeyCurveName.p_256, SignatureAlgorithm.es256, sha256),
        (KeyCurveName.p_384, SignatureAlgorithm.es384, sha384),
        (KeyCurveName.p_521, SignatureAlgorithm.es512, sha512),
    ],
)
@pytest.mark.parametrize("hsm", [False, True])
def test_an_ec_key_on_each_curve_signs_in_the_vault_and_verifies_anywhere(
    stack: Stack, name: str, curve: KeyCurveName, algorithm: SignatureAlgorithm, digest: Any, hsm: bool
) -> None:
    key = stack.keys.create_ec_key(name, curve=curve, hardware_protected=hsm)
    assert key.key_type == ("EC-HSM" if hsm else "EC")
    message = digest(DATA).digest()

    signature = stack.crypto(key).sign(algorithm, message).signature

    assert stack.crypto(key).verify(algorithm, message, signature).is_valid
    verify = {"alg": algorithm.value, "digest": b64(message)}
    assert stack.remote(key, "verify", **verify, value=b64(signature)) == {"value": True}
    assert stack.remote(key, "verify", **verify, value=b64(signature[::-1])) == {"value": False}
    assert stack.remote(key, "verify", **verify, value=b64(signature[:-1])) == {"value": False}


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"])
def test_an_rsa_key_signs_with_each_algorithm(stack: Stack, algorithm: str) -> None:
    key = stack.keys.create_rsa_key(f"signer-{algorithm}")
    message = {"256": sha256, "384": sha384, "512": sha512}[algorithm[2:]](DATA).digest()

    signature = stack.crypto(key).sign(SignatureAlgorithm(algorithm), message).signature

    assert stack.crypto(key).verify(SignatureAlgorithm(algorithm), message, signature).is_valid
    assert stack.remote(key, "verify", alg=algorithm, digest=b64(message), value=b64(signature))["value"] is True
    other = bytes(len(message))
    assert stack.remote(key, "verify", alg=algorithm, digest=b64(other), value=b64(signature))["value"] is False


def test_an_rsa_key_encrypts_and_wraps_in_the_vault_too(stack: Stack, name: str) -> None:
    key = stack.keys.create_rsa_key(name)
    for protect, algorithm in (("encrypt", "RSA-OAEP"), ("wrapkey", "RSA-OAEP-256")):
        answer = stack.remote(key, protect, alg=algorithm, value=b64(DATA))
        assert answer["kid"] == key.id
        ciphertext = base64.urlsafe_b64decode(answer["value"] + "==")
        decrypted = stack.crypto(key).decrypt(EncryptionAlgorithm(algorithm), ciphertext)
        assert decrypted.plaintext == DATA


def test_an_oct_key_wraps_and_unwraps_and_never_shows_itself(stack: Stack, name: str) -> None:
    key = stack.keys.create_oct_key(name, size=256, hardware_protected=True)
    assert key.key_type == KeyType.oct_hsm
    assert public(key).k is None
    crypto = stack.crypto_without_the_key(key)

    wrapped = crypto.wrap_key(KeyWrapAlgorithm.aes_256, DATA).encrypted_key

    assert crypto.unwrap_key(KeyWrapAlgorithm.aes_256, wrapped).key == DATA
    broken = bytes([wrapped[0] ^ 1]) + wrapped[1:]
    assert refusal(lambda: crypto.unwrap_key(KeyWrapAlgorithm.aes_256, broken)) == (400, "BadParameter", None)


def test_an_oct_key_agrees_with_the_published_vector(stack: Stack, name: str) -> None:
    # RFC 3394 section 4.6: 256 bits of key data with a 256-bit KEK.
    kek = bytes(range(32))
    data = bytes.fromhex("00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F")
    wrapped = bytes.fromhex("28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43BFB988B9B7A02DD21")
    key = stack.keys.import_key(name, JsonWebKey(kty="oct-HSM", key_ops=["wrapKey", "unwrapKey"], k=kek))
    crypto = stack.crypto_without_the_key(key)

    assert crypto.wrap_key(KeyWrapAlgorithm.aes_256, data).encrypted_key == wrapped
    assert crypto.unwrap_key(KeyWrapAlgorithm.aes_256, wrapped).key == data


def test_an_imported_rsa_key_is_the_very_key(stack: Stack, name: str) -> None:
    private = rsa.generate_private_key(65537, 2048)
    numbers = private.private_numbers()
    parts = {part: getattr(numbers, part) for part in ("d", "p", "q")}
    parts |= {"dp": numbers.dmp1, "dq": numbers.dmq1, "qi": numbers.iqmp}
    parts |= {"n": numbers.public_numbers.n, "e": numbers.public_numbers.e}
    octets = {part: value.to_bytes((value.bit_length() + 7) // 8) for part, value in parts.items()}

    key = stack.keys.import_key(name, JsonWebKey(kty="RSA", **octets), hardware_protected=True)

    assert key.key_type == KeyType.rsa_hsm
    assert int.from_bytes(public(key).n) == parts["n"]
    assert public(key).d is None
    wrapped = CryptographyClient.from_jwk(key.key).wrap_key(KeyWrapAlgorithm.rsa_oaep_256, DATA).encrypted_key
    assert stack.crypto(key).unwrap_key(KeyWrapAlgorithm.rsa_oaep_256, wrapped).key == DATA
    inconsistent = JsonWebKey(kty="RSA", **{**octets, "p": octets["q"]})
    assert refusal(lambda: stack.keys.import_key(name, inconsistent))[:2] == (400, "BadParameter")


def test_an_imported_ec_key_is_the_very_key(stack: Stack, name: str) -> None:
    numbers = ec.generate_private_key(ec.SECP384R1()).private_numbers()
    jwk = JsonWebKey(
        kty="EC",
        crv="P-384",
        d=numbers.private_value.to_bytes(48),
        x=numbers.public_numbers.x.to_bytes(48),
        y=numbers.public_numbers.y.to_bytes(48),
    )
    key = stack.keys.import_key(name, jwk)
    assert int.from_bytes(public(key).x) == numbers.public_numbers.x


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("odd-size/create", {"kty": "RSA", "key_size": 1024}),
        ("odd-type/create", {"kty": "DSA"}),
        ("odd-curve/create", {"kty": "EC", "crv": "P-192"}),
        ("odd-op/create", {"kty": "RSA", "key_ops": ["dance"]}),
        ("odd-attribute/create", {"kty": "RSA", "attributes": {"exp": "tomorrow"}}),
        ("odd_name/create", {"kty": "EC"}),
        (f"{'n' * 128}/create", {"kty": "EC"}),
        ("not-an-object/create", ["kty"]),
    ],
)
def test_a_malformed_request_is_a_bad_parameter(stack: Stack, path: str, body: object) -> None:
    status, answer, _ = stack.raw("POST", f"/keys/{path}?api-version=7.6", body)
    assert (status, answer["error"]["code"]) == (400, "BadParameter")


# ---- keys: versions and attributes


def test_a_new_version_becomes_the_current_one_and_the_old_one_stays(stack: Stack, name: str) -> None:
    first = stack.keys.create_ec_key(name)
    second = stack.keys.create_ec_key(name)

    assert stack.keys.get_key(name).id == second.id
    assert public(stack.keys.get_key(name, first.properties.version)).x == public(first).x
    versions = {properties.version for properties in stack.keys.list_properties_of_key_versions(name)}
    assert versions == {first.properties.version, second.properties.version}


def test_names_that_differ_in_case_only_are_one_name(stack: Stack, name: str) -> None:
    first = stack.keys.create_ec_key(f"Upper-{name}")
    second = stack.keys.create_ec_key(f"upper-{name}")
    assert stack.keys.get_key(f"UPPER-{name}").id == second.id
    assert first.name == second.name
    stack.secrets.set_secret(f"Upper-{name}", "value")
    assert stack.secrets.get_secret(f"upper-{name}").value == "value"


def test_what_does_not_exist_is_not_found(stack: Stack, name: str) -> None:
    stack.keys.create_ec_key(name)
    absent = f"no-{name}"
    with pytest.raises(ResourceNotFoundError):
        stack.keys.get_key(absent)
    with pytest.raises(ResourceNotFoundError):
        stack.keys.get_key(name, "0" * 32)
    assert refusal(lambda: stack.keys.begin_delete_key(absent)) == (404, "KeyNotFound", None)
    assert refusal(lambda: stack.secrets.get_secret(absent)) == (404, "SecretNotFound", None)
    assert refusal(lambda: stack.keys.get_deleted_key(name)) == (404, "KeyNotFound", None)
    assert list(stack.keys.list_properties_of_key_versions(absent)) == []
    assert stack.raw("GET", "/nothing?api-version=7.6")[0] == 404
    assert stack.raw("DELETE", f"/keys/{name}/versions?api-version=7.6")[0] == 405


def test_an_update_changes_what_it_names_only(stack: Stack, name: str) -> None:
    expires = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)
    key = stack.keys.create_ec_key(name, expires_on=expires, tags={"a": "1"})

    updated = stack.keys.update_key_properties(name, key.properties.version, tags={"b": "2"}, enabled=False)

    assert (updated.properties.tags, updated.properties.enabled) == ({"b": "2"}, False)
    assert updated.properties.expires_on == expires
    again = stack.keys.update_key_properties(name, enabled=True, key_operations=[KeyOperation.verify])
    assert again.properties.tags == {"b": "2"}
    assert again.key_operations == ["verify"]
    assert again.properties.recovery_level == "Recoverable+Purgeable"
    assert again.properties.recoverable_days == 90


def test_a_disabled_key_does_nothing_but_answer_get(stack: Stack, name: str) -> None:
    key = stack.keys.create_rsa_key(name)
    wrapped = stack.crypto(key).wrap_key(KeyWrapAlgorithm.rsa_oaep, DATA).encrypted_key
    stack.keys.update_key_properties(name, enabled=False)

    assert stack.keys.get_key(name).properties.enabled is False
    unwrap = stack.crypto(key).unwrap_key
    assert refusal(lambda: unwrap(KeyWrapAlgorithm.rsa_oaep, wrapped)) == (403, "Forbidden", "KeyDisabled")
    for operation in ("wrapkey", "encrypt", "decrypt", "sign", "verify"):
        status, answer, _ = stack.raw("POST", f"{key.id[len(stack.vault.url) :]}/{operation}?api-version=7.6", {})
        assert (status, answer["error"]["innererror"]["code"]) == (403, "KeyDisabled")
    stack.keys.update_key_properties(name, enabled=True)
    assert unwrap(KeyWrapAlgorithm.rsa_oaep, wrapped).key == DATA


@pytest.mark.parametrize("outside", [{"nbf": +1}, {"exp": -1}])
def test_outside_its_dates_a_key_opens_old_data_and_protects_no_new(
    stack: Stack, name: str, outside: dict[str, int]
) -> None:
    key = stack.keys.create_rsa_key(name)
    digest = b64(sha256(DATA).digest())
    wrapped = stack.remote(key, "wrapkey", alg="RSA-OAEP", value=b64(DATA))["value"]
    signed = stack.remote(key, "sign", alg="PS256", value=digest)["value"]
    dates = {
        "nbf": None if "nbf" not in outside else datetime.now(UTC) + timedelta(days=outside["nbf"]),
        "exp": None if "exp" not in outside else datetime.now(UTC) + timedelta(days=outside["exp"]),
    }
    stack.keys.update_key_properties(name, not_before=dates["nbf"], expires_on=dates["exp"])

    assert stack.remote(key, "unwrapkey", alg="RSA-OAEP", value=wrapped)["value"] == b64(DATA)
    assert stack.remote(key, "decrypt", alg="RSA-OAEP", value=wrapped)["value"] == b64(DATA)
    assert stack.remote(key, "verify", alg="PS256", digest=digest, value=signed)["value"] is True
    inner = "KeyNotYetValid" if "nbf" in outside else "KeyExpired"
    for operation in ("wrapkey", "encrypt", "sign"):
        status, answer, _ = stack.raw("POST", f"{key.id[len(stack.vault.url) :]}/{operation}?api-version=7.6", {})
        assert (status, answer["error"]["innererror"]["code"]) == (403, inner)


def test_a_key_expires_when_the_clock_moves(own_stack: Stack, name: str) -> None:
    key = own_stack.keys.create_ec_key(name, expires_on=datetime.now(UTC) + timedelta(days=1))
    crypto = own_stack.crypto(own_stack.keys.get_key(name).id)
    digest = sha256(DATA).digest()
    signature = crypto.sign(SignatureAlgorithm.es256, digest).signature

    own_stack.clock.move(timedelta(days=2))

    error = error_of(lambda: crypto.sign(SignatureAlgorithm.es256, digest))
    assert error is not None
    assert error.status_code == 403
    assert crypto.verify(SignatureAlgorithm.es256, digest, signature).is_valid
    before, after = key.properties.created_on, own_stack.keys.create_ec_key(name).properties.created_on
    assert before is not None
    assert after is not None
    assert after - before >= timedelta(days=2)


def test_an_operation_that_the_key_does_not_allow_is_forbidden(stack: Stack, name: str) -> None:
    key = stack.keys.create_rsa_key(name, key_operations=[KeyOperation.wrap_key])
    unwrap = stack.crypto(key.id).unwrap_key
    assert refusal(lambda: unwrap(KeyWrapAlgorithm.rsa_oaep, DATA)) == (403, "Forbidden", "KeyOperationForbidden")


@pytest.mark.parametrize(
    ("kind", "operation", "body"),
    [
        ("rsa", "unwrapkey", {"alg": "RSA-OAEP", "value": b64(bytes(256))}),  # a ciphertext of no key
        ("rsa", "unwrapkey", {"alg": "A256KW", "value": b64(DATA)}),
        ("rsa", "unwrapkey", {"alg": "RSA-OAEP", "value": "not base64url!"}),
        ("rsa", "unwrapkey", {"alg": "RSA-OAEP"}),
        ("rsa", "sign", {"alg": "RS256", "value": b64(bytes(31))}),  # too short for the digest
        ("rsa", "sign", {"alg": "ES256", "value": b64(DATA)}),
        ("ec", "sign", {"alg": "ES384", "value": b64(bytes(48))}),  # another curve's algorithm
        ("ec", "sign", {"alg": "PS256", "value": b64(DATA)}),
    ],
)
def test_data_or_algorithm_that_do_not_fit_are_a_bad_parameter(
    stack: Stack, name: str, kind: str, operation: str, body: dict[str, str]
) -> None:
    key = stack.keys.create_rsa_key(name) if kind == "rsa" else stack.keys.create_ec_key(name)
    status, answer, _ = stack.raw("POST", f"{key.id[len(stack.vault.url) :]}/{operation}?api-version=7.6", body)
    assert (status, answer["error"]["code"]) == (400, "BadParameter")


# ---- keys: rotation


def test_a_rotation_makes_a_new_version_that_expires_by_the_policy(stack: Stack, name: str) -> None:
    old = stack.keys.create_rsa_key(
        name, size=3072, hardware_protected=True, key_operations=[KeyOperation.unwrap_key], tags={"a": "1"}
    )
    action = KeyRotationLifetimeAction(KeyRotationPolicyAction.rotate, time_before_expiry="P30D")
    policy = KeyRotationPolicy(lifetime_actions=[action], expires_in="P1Y")
    stack.keys.update_key_rotation_policy(name, policy)

    new = stack.keys.rotate_key(name)

    assert new.properties.version != old.properties.version
    assert stack.keys.get_key(name).id == new.id
    assert (new.key_type, len(public(new).n)) == ("RSA-HSM", 384)
    assert (new.key_operations, new.properties.tags) == (["unwrapKey"], {"a": "1"})
    assert public(new).n != public(old).n
    created, expires = new.properties.created_on, new.properties.expires_on
    assert created is not None
    assert expires == later(created, "P1Y")


def test_a_rotation_policy_is_kept_and_a_default_one_is_shown_before(stack: Stack, name: str) -> None:
    stack.keys.create_ec_key(name)
    [default] = stack.keys.get_key_rotation_policy(name).lifetime_actions
    assert (default.action, default.time_before_expiry) == (KeyRotationPolicyAction.notify, "P30D")
    action = KeyRotationLifetimeAction(KeyRotationPolicyAction.rotate, time_after_create="P60D")

    stack.keys.update_key_rotation_policy(name, KeyRotationPolicy(lifetime_actions=[action], expires_in="P90D"))

    kept = stack.keys.get_key_rotation_policy(name)
    assert (kept.expires_in, kept.lifetime_actions[0].time_after_create) == ("P90D", "P60D")
    assert kept.created_on is not None


@pytest.mark.parametrize(
    ("action", "times", "expires_in"),
    [
        ("Rotate", {"time_after_create": "P6D"}, None),
        ("Rotate", {"time_after_create": "P84D"}, "P90D"),
        ("Rotate", {"time_before_expiry": "P30D"}, None),
        ("Notify", {"time_before_expiry": "P6D"}, "P90D"),
        ("Notify", {"time_before_expiry": "P30D"}, "P27D"),
        ("Notify", {"time_before_expiry": "30 days"}, "P90D"),
        ("Rotate", {}, "P90D"),
    ],
)
def test_a_rotation_policy_outside_the_limits_is_refused(
    stack: Stack, action: str, times: dict[str, str], expires_in: str | None
) -> None:
    stack.keys.create_ec_key("policy-limits")
    wish = KeyRotationPolicy(
        lifetime_actions=[KeyRotationLifetimeAction(KeyRotationPolicyAction(action), **times)], expires_in=expires_in
    )
    update = stack.keys.update_key_rotation_policy
    assert refusal(lambda: update("policy-limits", wish)) == (400, "BadParameter", None)


# ---- secrets


def test_a_secret_has_versions_and_the_last_one_set_is_current(stack: Stack, name: str) -> None:
    first = stack.secrets.set_secret(name, "one", content_type="text/plain", tags={"a": "1"})
    second = stack.secrets.set_secret(name, "two ☃")

    assert stack.secrets.get_secret(name).value == "two ☃"
    kept = stack.secrets.get_secret(name, first.properties.version)
    assert (kept.value, kept.properties.content_type, kept.properties.tags) == ("one", "text/plain", {"a": "1"})
    listed = {properties.version for properties in stack.secrets.list_properties_of_secret_versions(name)}
    assert listed == {first.properties.version, second.properties.version}


def test_a_disabled_secret_is_not_told_and_can_be_enabled_again(stack: Stack, name: str) -> None:
    stack.secrets.set_secret(name, "value")
    properties = stack.secrets.update_secret_properties(name, enabled=False, content_type="changed")
    assert (properties.enabled, properties.content_type) == (False, "changed")

    assert refusal(lambda: stack.secrets.get_secret(name)) == (403, "Forbidden", "SecretDisabled")

    stack.secrets.update_secret_properties(name, enabled=True)
    assert stack.secrets.get_secret(name).value == "value"


def test_an_expired_secret_is_still_told(stack: Stack, name: str) -> None:
    stack.secrets.set_secret(name, "value", expires_on=datetime.now(UTC) - timedelta(days=1))
    assert stack.secrets.get_secret(name).value == "value"


def test_a_secret_holds_25_kilobytes_and_not_one_more(stack: Stack, name: str) -> None:
    stack.secrets.set_secret(name, "x" * 25600)
    assert refusal(lambda: stack.secrets.set_secret(name, "x" * 25601)) == (400, "BadParameter", None)
    assert len(stack.secrets.get_secret(name).value or "") == 25600


# ---- lists


def test_a_list_of_more_than_a_page_is_complete_and_in_order(own_stack: Stack) -> None:
    names = [f"key-{number:02}" for number in range(60)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(own_stack.keys.create_ec_key, names))
        list(pool.map(lambda number: own_stack.secrets.set_secret("many", str(number)), range(60)))

    pages = [list(page) for page in own_stack.keys.list_properties_of_keys().by_page()]

    assert [len(page) for page in pages] == [25, 25, 10]
    assert [properties.name for page in pages for properties in page] == names
    assert all(properties.version is None for page in pages for properties in page)
    versions = [properties.version for properties in own_stack.secrets.list_properties_of_secret_versions("many")]
    assert len(set(versions)) == len(versions) == 60
    assert len(list(own_stack.secrets.list_properties_of_secrets(max_page_size=7))) == 1
    for each in names:
        own_stack.keys.begin_delete_key(each).wait()
    assert [deleted.name for deleted in own_stack.keys.list_deleted_keys(max_page_size=7)] == names
    assert list(own_stack.keys.list_properties_of_keys()) == []


def test_a_list_goes_on_while_objects_vanish_and_appear(own_stack: Stack) -> None:
    for number in range(10):
        own_stack.secrets.set_secret(f"s{number}", "value")
    pages = own_stack.secrets.list_properties_of_secrets(max_page_size=4).by_page()
    seen = [properties.name for properties in next(pages)]
    for gone in ("s0", "s3", "s5"):
        own_stack.secrets.begin_delete_secret(gone).wait()
    own_stack.secrets.set_secret("s1a", "value")

    seen += [properties.name for page in pages for properties in page]

    assert seen == ["s0", "s1", "s2", "s3", "s4", "s6", "s7", "s8", "s9"]


@pytest.mark.parametrize("query", ["maxresults=26", "maxresults=0", "maxresults=x", "$skiptoken=*"])
def test_an_odd_page_is_refused(stack: Stack, query: str) -> None:
    assert stack.raw("GET", f"/keys?api-version=7.6&{query}")[0] == 400


# ---- soft delete


def test_a_deleted_key_comes_back_with_all_its_versions(stack: Stack, name: str) -> None:
    first = stack.keys.create_ec_key(name)
    second = stack.keys.create_ec_key(name)

    poller = stack.keys.begin_delete_key(name)
    poller.wait()

    deleted = stack.keys.get_deleted_key(name)
    assert deleted.recovery_id == f"{stack.vault.url}/deletedkeys/{name}"
    assert deleted.scheduled_purge_date is not None
    assert deleted.deleted_date is not None
    assert deleted.scheduled_purge_date - deleted.deleted_date == timedelta(days=90)
    assert refusal(lambda: stack.keys.get_key(name)) == (404, "KeyNotFound", None)
    digest = sha256(DATA).digest()
    sign = stack.crypto(second.id).sign
    assert refusal(lambda: sign(SignatureAlgorithm.es256, digest)) == (404, "KeyNotFound", None)
    with pytest.raises(ResourceExistsError) as conflict:
        stack.keys.create_ec_key(name)
    assert cast("Any", conflict.value.error).innererror["code"] == "ObjectIsDeletedButRecoverable"

    stack.keys.begin_recover_deleted_key(name).wait()

    assert stack.keys.get_key(name).id == second.id
    assert stack.keys.get_key(name, first.properties.version).id == first.id
    assert refusal(lambda: stack.keys.begin_recover_deleted_key(name))[0] == 409


def test_a_purged_name_is_free_and_its_past_is_gone(stack: Stack, name: str) -> None:
    old = stack.secrets.set_secret(name, "old")
    stack.secrets.begin_delete_secret(name).wait()
    assert [deleted.name for deleted in stack.secrets.list_deleted_secrets() if deleted.name == name] == [name]
    assert stack.secrets.get_deleted_secret(name).name == name

    stack.secrets.purge_deleted_secret(name)

    assert refusal(lambda: stack.secrets.get_deleted_secret(name)) == (404, "SecretNotFound", None)
    stack.secrets.set_secret(name, "new")
    assert refusal(lambda: stack.secrets.get_secret(name, old.properties.version))[0] == 404
    stack.secrets.begin_delete_secret(name).wait()
    stack.secrets.begin_recover_deleted_secret(name).wait()
    assert stack.secrets.get_secret(name).value == "new"


def test_what_was_deleted_90_days_ago_is_gone(own_stack: Stack) -> None:
    own_stack.keys.create_ec_key("k")
    own_stack.keys.begin_delete_key("k").wait()
    own_stack.clock.move(timedelta(days=90))
    error = error_of(lambda: own_stack.keys.get_deleted_key("k"))
    assert error is not None
    assert error.status_code == 404
    own_stack.keys.create_ec_key("k")


# ---- protocol


def test_a_request_without_a_token_is_told_where_to_get_one(stack: Stack) -> None:
    status, answer, headers = stack.raw("GET", "/keys?api-version=7.6", token=None)
    assert (status, answer["error"]["code"]) == (401, "Unauthorized")
    assert headers["www-authenticate"].startswith('Bearer authorization="https://login.microsoftonline.com/')
    assert headers["www-authenticate"].endswith(', resource="https://vault.azure.net"')
    assert stack.raw("GET", "/keys?api-version=7.6", token=" ")[0] == 401


def test_a_request_without_an_api_version_is_refused(stack: Stack) -> None:
    status, answer, headers = stack.raw("GET", "/keys")
    assert (status, answer["error"]["message"]) == (400, "api-version must be specified")
    assert {"x-ms-request-id", "x-ms-keyvault-region", "x-ms-keyvault-service-version"} <= headers.keys()


def test_a_connection_serves_many_requests(stack: Stack) -> None:
    connection = stack.connection()
    try:
        connection.connect()
        socket = connection.sock
        for _ in range(3):
            connection.request("GET", "/keys?api-version=7.6", headers={"Authorization": "Bearer any"})
            assert connection.getresponse().read()
            assert connection.sock is socket
    finally:
        connection.close()


def test_the_log_has_a_line_per_request_and_neither_bodies_nor_tokens(own_stack: Stack) -> None:
    own_stack.secrets.set_secret("logged", "the-secret-value")
    own_stack.vault.inject("GET /secrets/logged", status="drop")
    with pytest.raises((ServiceRequestError, ServiceResponseError)):
        own_stack.secrets.get_secret("logged")

    lines = own_stack.log_lines()

    assert [line[1:2] + line[3:4] for line in lines] == [["PUT", "401"], ["PUT", "200"], ["GET", "dropped"]]
    time_text, _, path, _, milliseconds, client_id = lines[1]
    assert datetime.fromisoformat(time_text).tzinfo is not None
    assert path.startswith("/secrets/logged?api-version=")
    assert float(milliseconds) > 0
    assert len(client_id) == 36
    text = (own_stack.folder / "vault" / "requests.log").read_text()
    assert "the-secret-value" not in text
    assert "Bearer" not in text


# ---- durability


def test_sigkill_loses_nothing_acknowledged(own_stack: Stack) -> None:
    key = own_stack.keys.create_rsa_key("kek")
    wrapped = own_stack.crypto(key).wrap_key(KeyWrapAlgorithm.rsa_oaep_256, DATA).encrypted_key
    own_stack.keys.update_key_rotation_policy("kek", KeyRotationPolicy(lifetime_actions=[], expires_in="P90D"))
    own_stack.secrets.set_secret("gone", "value")
    own_stack.secrets.begin_delete_secret("gone").wait()
    url, ca = own_stack.vault.url, own_stack.vault.ca.read_bytes()
    for number in range(5):
        own_stack.secrets.set_secret("last", str(number))
        own_stack.vault.kill()

        own_stack.start()

        assert (own_stack.vault.url, own_stack.vault.ca.read_bytes()) == (url, ca)
        assert own_stack.secrets.get_secret("last").value == str(number)
    assert len(list(own_stack.secrets.list_properties_of_secret_versions("last"))) == 5
    assert own_stack.crypto(key.id).unwrap_key(KeyWrapAlgorithm.rsa_oaep_256, wrapped).key == DATA
    assert own_stack.keys.get_key_rotation_policy("kek").expires_in == "P90D"
    assert own_stack.secrets.get_deleted_secret("gone").name == "gone"


def test_every_acknowledged_write_of_a_busy_vault_survives_sigkill(own_stack: Stack) -> None:
    acknowledged: list[str] = []
    enough = threading.Event()

    def write(thread: int) -> None:
        for number in itertools.count():
            name = f"t{thread}-{number}"
            try:
                own_stack.secrets.set_secret(name, name)
            except (ServiceRequestError, ServiceResponseError):
                return
            acknowledged.append(name)
            if len(acknowledged) >= 40:
                enough.set()

    with ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(write, thread) for thread in range(4)]
        reached = enough.wait(60)
        own_stack.vault.kill()
    for writer in writers:
        writer.result()
    assert reached
    own_stack.start()

    kept = {properties.name for properties in own_stack.secrets.list_properties_of_secrets()}
    assert kept.issuperset(acknowledged)
    assert len(kept) <= len(acknowledged) + 4  # the last write of each thread may have taken effect unheard


def test_nobody_else_can_read_the_keys(own_stack: Stack) -> None:
    own_stack.keys.create_ec_key("k")
    for path in (own_stack.folder / "vault").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path.name


def test_a_folder_is_served_by_one_process_only(own_stack: Stack) -> None:
    folder = own_stack.folder
    with pytest.raises(ServerStartError):
        KeyVaultProcess.start(folder / "vault", folder / "clock", folder / "second-log")
    assert "another vault serves" in (folder / "second-log").read_text()
    own_stack.keys.create_ec_key("still-there")


def test_a_port_that_is_taken_is_said_so(own_stack: Stack, tmp_path: Path) -> None:
    with pytest.raises(ServerStartError):
        KeyVaultProcess.start(tmp_path / "other", tmp_path / "clock", tmp_path / "log2", port=own_stack.vault.port)
    assert "Address already in use" in (tmp_path / "log2").read_text()


# ---- faults


@pytest.mark.parametrize("status", [500, 503, 429, 403, "drop"])
@pytest.mark.parametrize("apply", ["before", "after"])
def test_a_fault_strikes_before_or_after_the_operation_took_effect(
    stack: Stack, name: str, status: Any, apply: Any
) -> None:
    stack.secrets.set_secret(name, "old")
    stack.vault.inject(f"PUT /secrets/{name}$", status=status, apply=apply, times=1)

    with pytest.raises((HttpResponseError, ServiceRequestError, ServiceResponseError)) as caught:
        stack.secrets.set_secret(name, "new")

    if status != "drop":
        assert getattr(caught.value, "status_code", None) == status
    assert stack.secrets.get_secret(name).value == ("old" if apply == "before" else "new")
    stack.secrets.set_secret(name, "newer")
    stack.vault.clear_faults()


def test_the_challenge_does_not_use_a_fault_up(stack: Stack, name: str) -> None:
    stack.secrets.set_secret(name, "value")
    stack.vault.inject(f"GET /secrets/{name}", status=500)
    assert stack.raw("GET", f"/secrets/{name}?api-version=7.6", token=None)[0] == 401
    [rule] = stack.vault.faults()
    assert (rule["left"], rule["struck"]) == (1, 0)
    assert stack.raw("GET", f"/secrets/{name}?api-version=7.6")[0] == 500
    stack.vault.clear_faults()
    assert stack.vault.faults() == []


def test_a_delay_delays_and_changes_nothing(stack: Stack, name: str) -> None:
    stack.secrets.set_secret(name, "value")
    stack.vault.inject(f"GET /secrets/{name}", latency_ms=60, times=None)
    assert stack.secrets.get_secret(name).value == "value"
    stack.vault.clear_faults()
    [line] = [line for line in stack.log_lines() if line[1] == "GET" and line[2].startswith(f"/secrets/{name}/")]
    assert float(line[4]) >= 60


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"match": "("},
        {"match": "x", "status": 200},
        {"match": "x", "status": "explode"},
        {"match": "x", "apply": "never"},
        {"match": "x", "probability": 2},
    ],
)
def test_a_malformed_fault_is_refused(stack: Stack, rule: dict[str, Any]) -> None:
    assert stack.raw("POST", "/_local/faults", rule, token=None)[0] == 400
    assert stack.vault.faults() == []


def test_operations_are_counted_by_kind(own_stack: Stack) -> None:
    key = own_stack.keys.create_rsa_key("k")
    wrapped = own_stack.crypto(key).wrap_key(KeyWrapAlgorithm.rsa_oaep, DATA).encrypted_key
    for _ in range(3):
        own_stack.crypto(key).unwrap_key(KeyWrapAlgorithm.rsa_oaep, wrapped)
    own_stack.keys.get_key("k")
    own_stack.vault.inject("unwrapkey", status=429)
    assert error_of(lambda: own_stack.crypto(key).unwrap_key(KeyWrapAlgorithm.rsa_oaep, wrapped)) is not None

    counts = own_stack.vault.counts()

    assert counts.operations == {"create-key": 1, "unwrapkey": 3, "get-key": 1}
    assert counts.throttled == 1
    own_stack.vault.reset_counts()
    assert own_stack.vault.counts().operations == {}


def rule(**properties: Any) -> Rule:
    return Rule.parse(Body({"match": "GET", **properties}))


def test_a_rule_strikes_as_often_as_it_says() -> None:
    faults = Faults()
    faults.add(rule(status=500, times=2))
    assert [faults.strike(Moment.BEFORE, "GET /x").status for _ in range(3)] == [500, 500, None]


def test_delays_add_up_and_the_first_outcome_wins() -> None:
    faults = Faults()
    for each in (rule(latency_ms=5), rule(status=503, latency_ms=7, times=1), rule(status="drop", times=1)):
        faults.add(each)
    first, second, third = (faults.strike(Moment.BEFORE, "GET /x") for _ in range(3))
    assert (first.latency_ms, first.status, first.drop) == (12, 503, False)
    assert (second.latency_ms, second.status, second.drop) == (5, None, True)
    assert (third.latency_ms, third.status, third.drop) == (5, None, False)
    assert faults.strike(Moment.AFTER, "GET /x").latency_ms == 0
    assert faults.strike(Moment.BEFORE, "PUT /x").latency_ms == 0


def test_chance_is_repeatable_by_its_seed() -> None:
    def run(seed: int) -> list[bool]:
        faults = Faults()
        faults.add(rule(status=500, probability=0.3, seed=seed))
        return [faults.strike(Moment.BEFORE, "GET /x").status == 500 for _ in range(1000)]

    assert run(1) == run(1) != run(2)
    assert 200 < sum(run(1)) < 400


# ---- throttling


@pytest.mark.parametrize(
    ("kty", "size", "units"),
    [
        (Kty.RSA, 2048, 1),
        (Kty.RSA, 3072, 4),
        (Kty.RSA, 4096, 8),
        (Kty.RSA_HSM, 2048, 2),
        (Kty.RSA_HSM, 3072, 8),
        (Kty.RSA_HSM, 4096, 16),
        (Kty.EC, None, 1),
        (Kty.EC_HSM, None, 2),
    ],
)
def test_a_window_admits_what_the_documentation_says(kty: Kty, size: int | None, units: int) -> None:
    charge = operation_charge(KeyShape(kty, size))
    assert charge.units == units
    throttle = Throttle()
    admitted = sum(throttle.admit(charge, NOW) is None for _ in range(5000))
    assert admitted == 4000 // units


def test_key_operations_share_one_weighted_sum() -> None:
    throttle = Throttle()
    heavy = operation_charge(KeyShape(Kty.RSA_HSM, 4096))
    light = operation_charge(KeyShape(Kty.RSA, 2048))
    assert all(throttle.admit(heavy, NOW) is None for _ in range(200))
    assert all(throttle.admit(light, NOW) is None for _ in range(790))
    assert throttle.admit(heavy, NOW) is not None
    # What was refused counted for nothing.
    assert [throttle.admit(light, NOW) is None for _ in range(11)] == [True] * 10 + [False]


def test_creation_is_a_sum_of_its_own_and_every_sum_is() -> None:
    throttle = Throttle()
    software, hsm = creation_charge(KeyShape(Kty.RSA, 4096)), creation_charge(KeyShape(Kty.RSA_HSM, 2048))
    assert sum(throttle.admit(hsm, NOW) is None for _ in range(30)) == 10
    assert throttle.admit(software, NOW) is not None
    for bucket in (Bucket.KEY_OPERATIONS, Bucket.SETS_AND_IMPORTS, Bucket.OTHER):
        assert throttle.admit(Charge(bucket, LIMITS[bucket]), NOW) is None
        assert throttle.admit(Charge(bucket), NOW) is not None


def test_the_next_window_starts_from_zero() -> None:
    throttle = Throttle()
    charge = Charge(Bucket.KEY_CREATION, LIMITS[Bucket.KEY_CREATION])
    late = NOW + timedelta(seconds=7.5)
    assert throttle.admit(charge, late) is None
    assert throttle.admit(charge, late) == timedelta(seconds=2.5)
    assert throttle.admit(charge, NOW + WINDOW) is None


def test_a_vault_over_its_quota_answers_429_until_the_window_ends(tmp_path: Path) -> None:
    stack = Stack(tmp_path, quota=True)
    numbers = itertools.count()

    def create() -> HttpResponseError | None:
        return error_of(lambda: stack.keys.create_ec_key(f"k{next(numbers)}", hardware_protected=True))

    def refused() -> tuple[int, dict[str, Any], dict[str, str]] | None:
        create()
        answer = stack.raw("POST", "/keys/k/create?api-version=7.6", {"kty": "EC-HSM"})
        return answer if answer[0] == 429 else None

    try:
        _, body, headers = eventually(refused)
        assert body["error"]["code"] == "Throttled"
        assert "VaultRequestTypeLimitReached" in body["error"]["message"]
        assert "retry-after" not in headers
        stack.vault.set_quota(retry_after=True)
        assert 1 <= int(eventually(refused)[2]["retry-after"]) <= 10
        assert stack.vault.counts().throttled >= 2

        stack.clock.move(WINDOW)
        assert create() is None

        eventually(refused)
        stack.vault.set_quota(enabled=False)
        assert [create() for _ in range(30)] == [None] * 30
    finally:
        stack.close()


# ---- rules as values


def test_a_version_may_be_used_from_nbf_and_until_just_before_exp() -> None:
    version = KeyVersion(
        id="v", created=0, updated=0, nbf=10, exp=20, shape=KeyShape(Kty.EC), key_ops=tuple(Operation), secret="s"
    )

    def allowed(operation: Operation, now: int) -> bool:
        try:
            version.check_use(operation, now)
        except VaultError:
            return False
        return True

    assert [allowed(Operation.SIGN, now) for now in (9, 10, 19, 20)] == [False, True, True, False]
    assert all(allowed(Operation.VERIFY, now) for now in (9, 10, 19, 20))
    assert KeyVersion.from_record(json.loads(json.dumps(version.to_record()))) == version
    assert "secret" not in repr(version)


@pytest.mark.parametrize(
    ("start", "duration", "end"),
    [
        ("2026-01-31", "P1M", "2026-02-28"),
        ("2024-02-29", "P1Y", "2025-02-28"),
        ("2026-11-20", "P18M", "2028-05-20"),
        ("2026-12-31", "P1Y2M3D", "2028-03-03"),
        ("2026-03-01", "P90D", "2026-05-30"),
    ],
)
def test_durations_follow_the_calendar(start: str, duration: str, end: str) -> None:
    moment = datetime.fromisoformat(start).replace(tzinfo=UTC)
    assert later(moment, duration) == datetime.fromisoformat(end).replace(tzinfo=UTC)


@pytest.mark.parametrize("duration", ["", "P", "90D", "PT1H", "P1W", "P-1D", "P1D2M", "P9999Y"])
def test_other_durations_are_refused(duration: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        later(NOW, duration)


def test_a_token_is_needed_from_the_sdk_too(stack: Stack) -> None:
    class NoToken(AnyToken):
        def get_token(self, *_scopes: str, **_options: Any) -> AccessToken:
            raise ClientAuthenticationError("no token")

    client = KeyClient(
        stack.vault.url, NoToken(), connection_verify=str(stack.vault.ca), verify_challenge_resource=False
    )
    with client, pytest.raises(ClientAuthenticationError):
        client.get_key("any")


SELF_SIGNED = CertificatePolicy(
    issuer_name="Self",
    subject="CN=atp.example",
    san_dns_names=["atp.example", "www.atp.example"],
    key_type="EC",
    key_curve_name="P-256",
    validity_in_months=3,
    content_type=CertificateContentType.pkcs12,
    lifetime_actions=[LifetimeAction(CertificatePolicyAction.auto_renew, days_before_expiry=30)],
)


def issued(stack: Stack, name: str, policy: CertificatePolicy = SELF_SIGNED, **options: Any) -> KeyVaultCertificate:
    made = stack.certificates.begin_create_certificate(name, policy, _polling_interval=0, **options).result()
    assert isinstance(made, KeyVaultCertificate)
    return made


def test_a_certificate_is_issued_by_its_policy(stack: Stack, name: str) -> None:
    made = issued(stack, name, tags={"for": "tests"}, enabled=False)
    certificate = x509.load_der_x509_certificate(bytes(made.cer or b""))
    assert certificate.subject.rfc4514_string() == "CN=atp.example"
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["atp.example", "www.atp.example"]
    properties = made.properties
    assert properties is not None
    assert (properties.not_before, properties.expires_on) == (
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
    )
    made_at = certificate.not_valid_before_utc + timedelta(minutes=10)
    assert certificate.not_valid_after_utc == later(made_at, "P3M")
    assert (properties.tags, properties.enabled) == ({"for": "tests"}, False)
    assert made.policy is not None
    assert made.policy.validity_in_months == 3


@pytest.mark.parametrize("content", [CertificateContentType.pkcs12, CertificateContentType.pem])
def test_a_certificate_shows_as_a_managed_key_and_secret_too(
    stack: Stack, name: str, content: CertificateContentType
) -> None:
    policy = CertificatePolicy(issuer_name="Self", subject="CN=a", key_type="EC", content_type=content)
    made = issued(stack, name, policy)
    certificate = x509.load_der_x509_certificate(bytes(made.cer or b""))
    public = certificate.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    secret = stack.secrets.get_secret(name)
    if content is CertificateContentType.pem:
        assert x509.load_pem_x509_certificate((secret.value or "").encode()) == certificate
    else:
        key, inside, _ = pkcs12.load_key_and_certificates(base64.b64decode(secret.value or ""), None)
        assert inside == certificate
        assert key is not None
        assert key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo) == public
    assert (made.key_id, made.secret_id) == (stack.keys.get_key(name).id, secret.id)
    for properties in (stack.keys.get_key(name).properties, secret.properties):
        assert (properties.managed, properties.expires_on) == (True, certificate.not_valid_after_utc)
    keys = {each.name: each.managed for each in stack.keys.list_properties_of_keys()}
    secrets = {each.name: each.managed for each in stack.secrets.list_properties_of_secrets()}
    assert (keys[name], secrets[name]) == (True, True)


def test_versions_of_a_certificate_are_listed_and_got_by_their_names(stack: Stack, name: str) -> None:
    old, new = issued(stack, name), issued(stack, name)
    assert old.properties is not None
    assert new.properties is not None
    versions = {each.version for each in stack.certificates.list_properties_of_certificate_versions(name)}
    assert versions == {old.properties.version, new.properties.version}
    assert stack.certificates.get_certificate_version(name, str(old.properties.version)).cer == old.cer
    assert stack.certificates.get_certificate(name).cer == new.cer
    assert name in {each.name for each in stack.certificates.list_properties_of_certificates(max_page_size=1)}


def test_a_certificate_is_disabled_with_its_key_and_secret(stack: Stack, name: str) -> None:
    made = issued(stack, name)
    assert made.properties is not None
    changed = stack.certificates.update_certificate_properties(
        name, str(made.properties.version), enabled=False, tags={"a": "b"}
    )
    assert changed.properties is not None
    assert (changed.properties.enabled, changed.properties.tags) == (False, {"a": "b"})
    assert not stack.keys.get_key(name).properties.enabled
    refused = error_of(lambda: stack.secrets.get_secret(name))
    assert refused is not None
    assert refused.status_code == 403


def test_the_policy_of_a_certificate_is_changed_where_a_request_names_something(stack: Stack, name: str) -> None:
    issued(stack, name)
    action = LifetimeAction(CertificatePolicyAction.auto_renew, lifetime_percentage=50)
    stack.certificates.update_certificate_policy(name, CertificatePolicy(lifetime_actions=[action]))
    policy = stack.certificates.get_certificate_policy(name)
    assert policy.lifetime_actions is not None
    (kept,) = policy.lifetime_actions
    assert (kept.lifetime_percentage, kept.days_before_expiry) == (50, None)
    assert (policy.subject, policy.validity_in_months, policy.issuer_name) == ("CN=atp.example", 3, "Self")


@pytest.mark.parametrize(
    "part",
    [
        {"lifetime_actions": [{"trigger": {"days_before_expiry": 82}, "action": {"action_type": "AutoRenew"}}]},
        {"lifetime_actions": [{"trigger": {}, "action": {"action_type": "AutoRenew"}}]},
        {"lifetime_actions": [{"trigger": {"lifetime_percentage": 100}, "action": {"action_type": "AutoRenew"}}]},
        {"lifetime_actions": [{"trigger": {"lifetime_percentage": 50}, "action": {"action_type": "Rotate"}}]},
        {"x509_props": {"validity_months": 0}},
        {"x509_props": {"subject": "atp"}},
        {"issuer": {"name": "DigiCert"}},
        {"secret_props": {"contentType": "text/plain"}},
        {"key_props": {"kty": "DSA"}},
    ],
)
def test_a_certificate_policy_outside_the_limits_is_refused(stack: Stack, name: str, part: dict[str, Any]) -> None:
    issued(stack, name)
    status, answer, _ = stack.raw("PATCH", f"/certificates/{name}/policy?api-version=7.6", part)
    assert (status, answer["error"]["code"]) == (400, "BadParameter")


def test_a_deleted_certificate_takes_its_key_and_secret_along_and_back(stack: Stack, name: str) -> None:
    made = issued(stack, name)
    stack.certificates.begin_delete_certificate(name, _polling_interval=0).result()
    for gone in (
        lambda: stack.certificates.get_certificate(name),
        lambda: stack.keys.get_key(name),
        lambda: stack.secrets.get_secret(name),
    ):
        with pytest.raises(ResourceNotFoundError):
            gone()
    stack.certificates.begin_recover_deleted_certificate(name, _polling_interval=0).result()
    assert stack.certificates.get_certificate(name).cer == made.cer
    assert stack.keys.get_key(name).id == made.key_id
    stack.certificates.begin_delete_certificate(name, _polling_interval=0).result()
    stack.certificates.purge_deleted_certificate(name)
    stack.secrets.set_secret(name, "the name is free")


def test_what_belongs_to_a_certificate_is_changed_with_it_only(stack: Stack, name: str) -> None:
    issued(stack, name)
    for forbidden in (
        lambda: stack.keys.begin_delete_key(name),
        lambda: stack.secrets.begin_delete_secret(name),
        lambda: stack.secrets.set_secret(name, "another"),
        lambda: stack.keys.create_ec_key(name),
    ):
        refused = error_of(forbidden)
        assert refused is not None
        assert refused.status_code == 403


def test_a_certificate_does_not_take_a_name_that_a_key_has(stack: Stack, name: str) -> None:
    stack.keys.create_ec_key(name)
    with pytest.raises(ResourceExistsError):
        issued(stack, name)
    with pytest.raises(ResourceNotFoundError):
        stack.certificates.get_certificate(name)
    with pytest.raises(ResourceNotFoundError):
        stack.secrets.get_secret(name)
