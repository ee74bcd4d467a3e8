"""Key Vault keys, spoken to through the SDK, with the checks that the SDK leaves to its caller."""

import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, override

from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.core.rest import HttpResponse
from azure.keyvault.keys import KeyClient, KeyOperation, KeyProperties, KeyVaultKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers

from shared.azure.key_requests import FORBIDDEN, PAUSES_S, KeyRequest, Patience, inner_code
from shared.azure.translate import LAST_DATE, date_of, translated
from shared.clock import Clock, system_clock
from shared.errors import Integrity, Rejected, UnusableKey
from shared.ports import Vault
from shared.secret import Secret
from shared.values import KekVersion, KeyKind, KeyShape, Kid

log = logging.getLogger(__name__)

RUN_TAG: Final = "atp-run"
"""The tag of a key version that names the run it was made for."""

# https://learn.microsoft.com/azure/key-vault/general/about-keys-secrets-certificates#object-identifiers
_NAME_AND_VERSION: Final = re.compile(r"(?P<name>[0-9a-zA-Z-]{1,127})/(?P<version>[0-9a-f]{32})")
_RSA_OAEP_256: Final = "RSA-OAEP-256"
_A256KW: Final = "A256KW"
_A256KW_GROWTH: Final = 8  # bytes, RFC 3394 section 2.2.1
_DELETED: Final = "ObjectIsDeletedButRecoverable"


class AzureVault(Vault):
    """The port `Vault` on Key Vaults and Managed HSMs: `keys` by their URLs without a slash, the default one first.

    A wrap or unwrap that is throttled is tried again after each of `pauses`, in seconds; without any it raises at once.
    """

    def __init__(
        self,
        keys: Mapping[str, KeyClient],
        sleep: Callable[[float], None] = time.sleep,
        pauses: Sequence[float] = PAUSES_S,
        clock: Clock = system_clock,
    ) -> None:
        self._keys = dict(keys)
        self._default = next(iter(self._keys))
        self._patience = Patience(sleep, tuple(pauses))
        self._clock = clock

    @override
    def newest(self, name: str, vault: str | None = None) -> KekVersion:
        return self._get(self._client(vault or self._default), name, None)

    @override
    def version(self, kid: Kid) -> KekVersion:
        return self._get(*self._located(kid))

    @override
    def made_for(self, run: str, name: str, vault: str, shape: KeyShape) -> KekVersion:
        keys = self._client(vault)
        with translated("looking for the KEK version of a run"):
            made = _made_for(run, _versions(keys, name))
        if made is None:
            own = self._create(keys, run, name, shape)
            log.info("made a KEK version", extra={"run": run, "kid": own.id})
            with translated("looking for the KEK version of a run"):
                # Of two workers that came here together, both take the older version.
                made = _made_for(run, _versions(keys, name)) or own.properties
        return self._get(keys, name, made.version)

    @override
    def set_enabled(self, kid: Kid, *, enabled: bool) -> None:
        keys, name, version = self._located(kid)
        with translated("enabling or disabling a KEK version"):
            try:
                keys.update_key_properties(name, version, enabled=enabled)
            except ResourceNotFoundError as error:
                raise Rejected("there is no such key in the vault", kid=kid) from error

    @override
    def wrap(self, kid: Kid, algorithm: str, dek: Secret) -> bytes:
        if algorithm != _A256KW:
            raise ValueError("only symmetric keys wrap at the vault")
        wrapped = self._operate("wrapkey", kid, algorithm, dek.reveal())
        if len(wrapped) != len(dek.reveal()) + _A256KW_GROWTH:
            raise Integrity("the vault's answer is no wrapped DEK", kid=kid)
        return wrapped

    @override
    def unwrap(self, kid: Kid, algorithm: str, wrapped: bytes) -> Secret:
        if algorithm not in (_RSA_OAEP_256, _A256KW):
            raise Integrity("a DEK is wrapped by an algorithm that we do not use", kid=kid, algorithm=algorithm)
        return Secret(self._operate("unwrapkey", kid, algorithm, wrapped))

    def _operate(self, operation: str, kid: Kid, algorithm: str, value: bytes) -> bytes:
        """What the vault makes of `value`; patient with a vault that is throttled."""
        keys, name, version = self._located(kid)
        request = KeyRequest(f"/keys/{name}/{version}", kid, operation, algorithm, value)
        return self._patience.ask(
            keys,
            request,
            "asking a vault to wrap or unwrap",
            lambda response: _ensure_done(response, operation, kid),
        )

    def _create(self, keys: KeyClient, run: str, name: str, shape: KeyShape) -> KeyVaultKey:
        options: dict[str, Any] = {
            "size": shape.bits,
            "hardware_protected": shape.kind is not KeyKind.RSA,
            "key_operations": [KeyOperation.wrap_key, KeyOperation.unwrap_key],
            "tags": {RUN_TAG: run},
            "enabled": True,
            "expires_on": self._expiry(keys, name),
        }
        create = keys.create_oct_key if shape.kind is KeyKind.OCT_HSM else keys.create_rsa_key
        with translated("making a KEK version"):
            try:
                return create(name, **options)
            except HttpResponseError as error:
                if error.status_code == 400:
                    raise Rejected(
                        "the vault makes no such keys", name=name, kind=shape.kind, bits=shape.bits
                    ) from error
                if error.status_code == 409 and inner_code(error) == _DELETED:
                    raise Rejected("the vault holds a deleted key of that name", name=name) from error
                raise

    def _expiry(self, keys: KeyClient, name: str) -> datetime | None:
        """When a version made now expires, if it is to live as long as the newest one."""
        with translated("reading a KEK"):
            try:
                newest = keys.get_key(name).properties
            except ResourceNotFoundError:
                return None
        expires = date_of(newest.expires_on)
        if expires is None or expires == LAST_DATE or newest.created_on is None:
            return None
        return self._clock() + (expires - newest.created_on)

    def _get(self, keys: KeyClient, name: str, version: str | None) -> KekVersion:
        with translated("reading a KEK"):
            try:
                return _described(keys.get_key(name, version))
            except ResourceNotFoundError as error:
                raise Rejected("there is no such key in the vault", name=name, version=version) from error

    def _client(self, vault: str) -> KeyClient:
        if vault not in self._keys:
            raise Rejected("the vault is not one of the configured ones", vault=vault)
        return self._keys[vault]

    def _located(self, kid: Kid) -> tuple[KeyClient, str, str]:
        """Vault, name and version of a key. A row must not be able to send our token to another host."""
        vault, _, path = kid.partition("/keys/")
        matched = _NAME_AND_VERSION.fullmatch(path)
        if vault not in self._keys or matched is None:
            raise Integrity("a key id does not belong to a configured vault", kid=kid)
        return self._keys[vault], matched["name"], matched["version"]


def _versions(keys: KeyClient, name: str) -> Sequence[KeyProperties]:
    """Every version of a key, in no order; none if there is no such key, which vaults say in either way."""
    try:
        return list(keys.list_properties_of_key_versions(name))
    except ResourceNotFoundError:
        return ()


def _made_for(run: str, versions: Sequence[KeyProperties]) -> KeyProperties | None:
    """The oldest of the versions that were made for the run; those of one second by their ids."""
    tagged = [version for version in versions if (version.tags or {}).get(RUN_TAG) == run]
    return min(tagged, key=lambda each: (each.created_on or datetime.min.replace(tzinfo=UTC), each.id), default=None)


def _ensure_done(response: HttpResponse, operation: str, kid: Kid) -> None:
    """UnusableKey or Integrity if the answer says that the key may not or cannot do it; else the SDK's own errors."""
    try:
        response.raise_for_status()
    except HttpResponseError as error:
        if response.status_code == 404:
            raise Integrity("a KEK version that DEKs are wrapped under does not exist", kid=kid) from error
        if response.status_code == 403 and inner_code(error) in FORBIDDEN:
            raise UnusableKey("the vault refuses to use this KEK version", kid=kid, operation=operation) from error
        if response.status_code == 400 and operation == "unwrapkey":
            raise Integrity("a wrapped DEK does not open under its KEK version", kid=kid) from error
        raise


def _described(key: KeyVaultKey) -> KekVersion:
    try:
        kind = KeyKind(str(getattr(key.key_type, "value", key.key_type)))
    except ValueError:
        raise UnusableKey("a KEK must be an RSA key or a symmetric key of an HSM", kid=key.id) from None
    return KekVersion(
        kid=Kid(key.id or ""),
        public_key=None if kind is KeyKind.OCT_HSM else _public_key(key),
        enabled=key.properties.enabled is True,
        not_before=date_of(key.properties.not_before),
        expires=date_of(key.properties.expires_on),
        operations=frozenset(str(getattr(name, "value", name)) for name in key.key_operations),
        kind=kind,
        run=(key.properties.tags or {}).get(RUN_TAG, ""),
        created=date_of(key.properties.created_on),
    )


def _public_key(key: KeyVaultKey) -> RSAPublicKey:
    modulus, exponent = getattr(key.key, "n", None), getattr(key.key, "e", None)
    if not modulus or not exponent:
        raise UnusableKey("an RSA key without its public half", kid=key.id)
    return RSAPublicNumbers(int.from_bytes(exponent), int.from_bytes(modulus)).public_key()
