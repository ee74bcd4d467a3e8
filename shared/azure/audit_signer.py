"""The vault's key that signs checkpoints: an EC key on P-256, which never leaves the vault.

What the vault answers is verified here with the public key of that version before anybody is given it.
"""

import hashlib
import re
import time
from collections.abc import Callable, Sequence
from typing import Final, override

from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.core.rest import HttpResponse
from azure.keyvault.keys import KeyClient, KeyVaultKey
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePublicKey,
    EllipticCurvePublicNumbers,
)
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from shared.azure.key_requests import FORBIDDEN, PAUSES_S, KeyRequest, Patience, inner_code
from shared.azure.translate import translated
from shared.errors import Integrity, Rejected, Transient, UnusableKey
from shared.ports import AuditSigner
from shared.values import Kid, SigningKey

_ES256: Final = "ES256"  # RFC 7518 section 3.4: r and s side by side, 32 bytes each
_COORDINATE_BYTES: Final = 32
_VERSION: Final = re.compile(r"[0-9a-f]{32}")


class AzureAuditSigner(AuditSigner):
    """The port `AuditSigner` on the key `name` of one vault; `vault` is its URL without a slash.

    A signing that is throttled is tried again after each of `pauses`, in seconds; without any it raises at once.
    """

    def __init__(
        self,
        keys: KeyClient,
        vault: str,
        name: str,
        sleep: Callable[[float], None] = time.sleep,
        pauses: Sequence[float] = PAUSES_S,
    ) -> None:
        self._keys = keys
        self._vault = vault
        self._name = name
        self._patience = Patience(sleep, tuple(pauses))
        self._public_keys: dict[Kid, EllipticCurvePublicKey] = {}  # a version never gets another one

    @override
    def newest(self) -> SigningKey:
        return self._get(None)

    @override
    def version(self, kid: Kid) -> SigningKey:
        return self._get(self._located(kid))

    @override
    def sign(self, kid: Kid, text: bytes) -> bytes:
        version = self._located(kid)
        public_key = self._public_keys.get(kid) or self._get(version).public_key
        request = KeyRequest(f"/keys/{self._name}/{version}", kid, "sign", _ES256, hashlib.sha256(text).digest())
        raw = self._patience.ask(
            self._keys, request, "asking a vault to sign", lambda response: _ensure_done(response, kid)
        )
        signature = encode_dss_signature(
            int.from_bytes(raw[:_COORDINATE_BYTES]), int.from_bytes(raw[_COORDINATE_BYTES:])
        )
        try:
            public_key.verify(signature, text, ECDSA(hashes.SHA256()))
        except InvalidSignature:
            raise Integrity("the vault's answer is no signature of what it was to sign", kid=kid) from None
        return signature

    def _get(self, version: str | None) -> SigningKey:
        with translated("reading the key that signs checkpoints"):
            try:
                key = _described(self._keys.get_key(self._name, version))
            except ResourceNotFoundError as error:
                raise Rejected("there is no such key in the vault", name=self._name, version=version) from error
        self._located(key.kid)  # what has come must be what was asked for
        self._public_keys[key.kid] = key.public_key
        return key

    def _located(self, kid: Kid) -> str:
        """The version of a key id. A row must not be able to send our token to another host, or use another key."""
        prefix = f"{self._vault}/keys/{self._name}/"
        version = kid.removeprefix(prefix)
        if not kid.startswith(prefix) or not _VERSION.fullmatch(version):
            raise Integrity("a key id is not one of the key that signs checkpoints", kid=kid)
        return version


def _ensure_done(response: HttpResponse, kid: Kid) -> None:
    """UnusableKey or Rejected if the answer says that the key may not or is not there; else the SDK's own errors."""
    try:
        response.raise_for_status()
    except HttpResponseError as error:
        if response.status_code == 404:
            raise Rejected("there is no such key in the vault", kid=kid) from error
        if response.status_code == 403 and inner_code(error) in FORBIDDEN:
            raise UnusableKey("the vault refuses to sign with this version", kid=kid) from error
        raise


def _described(key: KeyVaultKey) -> SigningKey:
    if key.properties.created_on is None:
        raise Transient("a vault's answer cannot be read", kid=key.id)
    return SigningKey(Kid(key.id or ""), _public_key(key), key.properties.enabled is True, key.properties.created_on)


def _public_key(key: KeyVaultKey) -> EllipticCurvePublicKey:
    curve, x, y = (getattr(key.key, name, None) for name in ("crv", "x", "y"))
    if getattr(curve, "value", curve) != "P-256" or not x or not y:
        raise UnusableKey("the key that signs checkpoints must be an EC key on P-256", kid=key.id)
    try:
        return EllipticCurvePublicNumbers(int.from_bytes(x), int.from_bytes(y), SECP256R1()).public_key()
    except ValueError:
        raise UnusableKey("a public key that is no point of its curve", kid=key.id) from None
