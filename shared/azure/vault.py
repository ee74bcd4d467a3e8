"""Key Vault keys, spoken to through the SDK, with the checks and the patience that the SDK leaves to its caller."""

import logging
import random
import re
import time
from collections.abc import Callable
from typing import Final, override

from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.keyvault.keys import KeyClient, KeyVaultKey
from azure.keyvault.keys.crypto import CryptographyClient, KeyWrapAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

from shared.azure.translate import translated
from shared.errors import Integrity, Rejected, Transient, UnusableKey
from shared.ports import Vault
from shared.secret import Secret
from shared.values import Kid, PublicKek

log = logging.getLogger(__name__)

# A real 429 carries no Retry-After, and the SDK does not repeat such a POST: the pauses are ours. First part of
# https://learn.microsoft.com/azure/key-vault/general/overview-throttling; then the caller puts its job back.
_PAUSES_S: Final = (0.5, 1.0, 2.0)

# https://learn.microsoft.com/azure/key-vault/general/about-keys-secrets-certificates#object-identifiers
_NAME_AND_VERSION: Final = re.compile(r"(?P<name>[0-9a-zA-Z-]{1,127})/(?P<version>[0-9a-f]{32})")


class AzureVault(Vault):
    """The port `Vault` on one Key Vault."""

    def __init__(self, keys: KeyClient, sleep: Callable[[float], None] = time.sleep) -> None:
        self._keys = keys
        self._sleep = sleep
        self._openers: dict[Kid, CryptographyClient] = {}

    @override
    def newest(self, name: str) -> PublicKek:
        return self._get(name, None)

    @override
    def version(self, kid: Kid) -> PublicKek:
        return self._get(*self._parts(kid))

    @override
    def unwrap(self, kid: Kid, algorithm: str, wrapped: bytes) -> Secret:
        if algorithm != KeyWrapAlgorithm.rsa_oaep_256:
            raise Integrity("a DEK is wrapped by an algorithm that we do not use", kid=kid, algorithm=algorithm)
        opener = self._openers.get(kid)
        if opener is None:
            name, version = self._parts(kid)
            opener = self._openers[kid] = self._keys.get_cryptography_client(name, key_version=version)
        for pause in (*_PAUSES_S, None):
            try:
                with translated("unwrapping a DEK"):
                    return Secret(self._unwrap(opener, kid, wrapped))
            except Transient as error:
                if pause is None or error.fields.get("status") != 429:
                    raise
                self._sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - spreads the load, protects nothing
        raise AssertionError("the last round returns or raises")

    def _unwrap(self, opener: CryptographyClient, kid: Kid, wrapped: bytes) -> bytes:
        try:
            return opener.unwrap_key(KeyWrapAlgorithm.rsa_oaep_256, wrapped).key
        except ResourceNotFoundError as error:
            raise Integrity("a DEK is wrapped under a KEK version that does not exist", kid=kid) from error
        except HttpResponseError as error:
            inner = getattr(getattr(error, "error", None), "innererror", None) or {}
            if error.status_code == 403 and inner.get("code") in ("KeyDisabled", "KeyOperationForbidden"):
                raise UnusableKey("the vault refuses to unwrap with this KEK version", kid=kid) from error
            if error.status_code == 400:
                raise Integrity("a wrapped DEK does not open under its KEK version", kid=kid) from error
            raise

    def _get(self, name: str, version: str | None) -> PublicKek:
        with translated("reading a KEK"):
            try:
                return _public_kek(self._keys.get_key(name, version))
            except ResourceNotFoundError as error:
                raise Rejected("there is no such key in the vault", name=name, version=version) from error

    def _parts(self, kid: Kid) -> tuple[str, str]:
        """Name and version of a key of this vault. A row must not be able to send our token to another host."""
        vault_url, _, path = kid.partition("/keys/")
        matched = _NAME_AND_VERSION.fullmatch(path)
        if vault_url != self._keys.vault_url.rstrip("/") or matched is None:
            raise Integrity("a key id does not belong to the configured vault", kid=kid)
        return matched["name"], matched["version"]


def _public_kek(key: KeyVaultKey) -> PublicKek:
    modulus, exponent = getattr(key.key, "n", None), getattr(key.key, "e", None)
    if not modulus or not exponent:
        raise UnusableKey("a KEK must be an RSA key", kid=key.id)
    public = RSAPublicNumbers(int.from_bytes(exponent), int.from_bytes(modulus)).public_key()
    return PublicKek(
        kid=Kid(key.id or ""),
        public_key=public,
        enabled=key.properties.enabled is True,
        not_before=key.properties.not_before,
        expires=key.properties.expires_on,
        operations=frozenset(str(getattr(name, "value", name)) for name in key.key_operations),
    )
