"""Key Vault secrets, spoken to through the SDK.

Writes cannot be made conditional there. The order of versions is by creation, and within one second by their ids, which
is arbitrary: whoever needs to find one again looks for its tags.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, override

from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.keyvault.secrets import KeyVaultSecret, SecretClient, SecretProperties

from shared.azure.key_requests import PAUSES_S, Patience, inner_code, stop_when_throttled
from shared.azure.translate import date_of, translated
from shared.errors import Integrity, Rejected
from shared.ports import Secrets
from shared.redact.gate import gated
from shared.secret import Secret
from shared.values import SecretVersion

_DISABLED: Final = "SecretDisabled"
_DELETED: Final = "ObjectIsDeletedButRecoverable"
_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)
_ASK: Final[Mapping[str, Any]] = {"raw_response_hook": stop_when_throttled}
# The SDK repeats a PUT whose answer was lost, and each one that got there is a version: we look for it first.
_ASK_ONCE: Final[Mapping[str, Any]] = {**_ASK, "retry_total": 0}


class AzureSecrets(Secrets):
    """The port `Secrets` on Key Vaults: their clients by URL without a slash, the default one first.

    What is throttled is asked again after each of `pauses`, in seconds.
    """

    def __init__(
        self,
        clients: Mapping[str, SecretClient],
        sleep: Callable[[float], None] = time.sleep,
        pauses: Sequence[float] = PAUSES_S,
    ) -> None:
        self._clients = dict(clients)
        self._default = next(iter(self._clients))
        self._patience = Patience(sleep, tuple(pauses))

    @override
    def newest(self, name: str, vault: str | None = None) -> SecretVersion | None:
        client = self._client(vault)
        try:
            secret = self._ask("reading a secret", lambda: _got(client, name, None))
        except ResourceNotFoundError:
            return None
        Secret((secret.value or "").encode())  # known from now on, so that it is masked wherever it turns up
        return _described(secret.properties)

    @override
    def versions(self, name: str, vault: str | None = None) -> Sequence[SecretVersion]:
        client = self._client(vault)
        try:
            found = self._ask(
                "listing the versions of a secret",
                lambda: list(client.list_properties_of_secret_versions(name, **_ASK)),
            )
        except ResourceNotFoundError:  # vaults say it in either way
            return ()
        return sorted(map(_described, found), key=lambda each: (each.created, each.version))

    @override
    def value(self, name: str, version: str, vault: str | None = None) -> Secret:
        client = self._client(vault)
        try:
            secret = self._ask("reading a secret", lambda: _got(client, name, version))
        except ResourceNotFoundError as error:
            raise _unknown(name, version) from error
        if secret.value is None or secret.properties.version != version:
            raise Integrity("the vault answers with another secret than it was asked for", name=name, version=version)
        return Secret(secret.value.encode())

    @override
    def put(
        self, name: str, value: Secret, tags: Mapping[str, str], expires: datetime | None, vault: str | None = None
    ) -> SecretVersion:
        client, checked = self._client(vault), dict(gated(tags))
        stored = self._ask("writing a secret", lambda: _set(client, name, value, checked, expires))
        return _described(stored.properties)

    @override
    def change(
        self, name: str, version: str, tags: Mapping[str, str], *, enabled: bool | None, vault: str | None = None
    ) -> None:
        client, checked = self._client(vault), dict(gated(tags))
        try:
            self._ask(
                "changing a version of a secret",
                lambda: client.update_secret_properties(name, version, enabled=enabled, tags=checked, **_ASK),
            )
        except ResourceNotFoundError as error:
            raise _unknown(name, version) from error

    def _ask[T](self, what: str, call: Callable[[], T]) -> T:
        def once() -> T:
            with translated(what):
                return call()

        return self._patience.until_admitted(once)

    def _client(self, vault: str | None) -> SecretClient:
        url = vault or self._default
        if url not in self._clients:
            raise Rejected("the vault is not one of the configured ones", vault=url)
        return self._clients[url]


def _got(client: SecretClient, name: str, version: str | None) -> KeyVaultSecret:
    try:
        return client.get_secret(name, version, **_ASK)
    except HttpResponseError as error:
        if error.status_code == 403 and inner_code(error) == _DISABLED:
            raise Rejected("the version of the secret is disabled", name=name, version=version or "newest") from error
        raise


def _set(
    client: SecretClient, name: str, value: Secret, tags: Mapping[str, str], expires: datetime | None
) -> KeyVaultSecret:
    try:
        return client.set_secret(
            name,
            value.reveal().decode(),
            tags=dict(tags),
            expires_on=expires,
            content_type="text/plain",
            **_ASK_ONCE,
        )
    except HttpResponseError as error:
        if error.status_code == 409 and inner_code(error) == _DELETED:
            raise Rejected("the vault holds a deleted secret of that name", name=name) from error
        raise


def _unknown(name: str, version: str) -> Rejected:
    return Rejected("there is no such version of the secret", name=name, version=version)


def _described(properties: SecretProperties) -> SecretVersion:
    return SecretVersion(
        version=properties.version or "",
        enabled=properties.enabled is True,
        created=properties.created_on or _LONG_AGO,
        expires=date_of(properties.expires_on),
        tags=dict(properties.tags or {}),
    )
