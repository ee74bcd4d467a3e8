"""Key Vault secrets, spoken to through the SDK.

Writes cannot be made conditional there. The order of versions is by creation, and within one second by their ids, which
is arbitrary: whoever needs to find one again looks for its tags.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, override

from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.keyvault.secrets import SecretClient, SecretProperties

from shared.azure.key_requests import inner_code
from shared.azure.translate import translated
from shared.errors import Integrity, Rejected
from shared.ports import Secrets
from shared.redact.gate import gated
from shared.secret import Secret
from shared.values import SecretVersion

_DISABLED: Final = "SecretDisabled"
_DELETED: Final = "ObjectIsDeletedButRecoverable"
_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


class AzureSecrets(Secrets):
    """The port `Secrets` on Key Vaults: their clients by URL without a slash, the default one first."""

    def __init__(self, clients: Mapping[str, SecretClient]) -> None:
        self._clients = dict(clients)
        self._default = next(iter(self._clients))

    @override
    def newest(self, name: str, vault: str | None = None) -> SecretVersion | None:
        with translated("reading a secret"):
            try:
                secret = self._client(vault).get_secret(name)
            except ResourceNotFoundError:
                return None
            except HttpResponseError as error:
                raise _if_disabled(error, name, None) from error
        Secret((secret.value or "").encode())  # known from now on, so that it is masked wherever it turns up
        return _described(secret.properties)

    @override
    def versions(self, name: str, vault: str | None = None) -> Sequence[SecretVersion]:
        with translated("listing the versions of a secret"):
            try:
                found = list(self._client(vault).list_properties_of_secret_versions(name))
            except ResourceNotFoundError:  # vaults say it in either way
                return ()
        return sorted(map(_described, found), key=lambda each: (each.created, each.version))

    @override
    def value(self, name: str, version: str, vault: str | None = None) -> Secret:
        with translated("reading a secret"):
            try:
                secret = self._client(vault).get_secret(name, version)
            except ResourceNotFoundError as error:
                raise Rejected("there is no such version of the secret", name=name, version=version) from error
            except HttpResponseError as error:
                raise _if_disabled(error, name, version) from error
        if secret.value is None or secret.properties.version != version:
            raise Integrity("the vault answers with another secret than it was asked for", name=name, version=version)
        return Secret(secret.value.encode())

    @override
    def put(
        self, name: str, value: Secret, tags: Mapping[str, str], expires: datetime | None, vault: str | None = None
    ) -> SecretVersion:
        with translated("writing a secret"):
            try:
                stored = self._client(vault).set_secret(
                    name, value.reveal().decode(), tags=dict(gated(tags)), expires_on=expires, content_type="text/plain"
                )
            except ResourceExistsError as error:
                if inner_code(error) == _DELETED:
                    raise Rejected("a secret of that name was deleted and has to be recovered", name=name) from error
                raise
        return _described(stored.properties)

    @override
    def change(
        self, name: str, version: str, tags: Mapping[str, str], *, enabled: bool, vault: str | None = None
    ) -> None:
        with translated("changing a version of a secret"):
            try:
                self._client(vault).update_secret_properties(name, version, enabled=enabled, tags=dict(gated(tags)))
            except ResourceNotFoundError as error:
                raise Rejected("there is no such version of the secret", name=name, version=version) from error

    def _client(self, vault: str | None) -> SecretClient:
        url = vault or self._default
        if url not in self._clients:
            raise Rejected("the vault is not one of the configured ones", vault=url)
        return self._clients[url]


def _if_disabled(error: HttpResponseError, name: str, version: str | None) -> Exception:
    """What a refused GET means."""
    if error.status_code == 403 and inner_code(error) == _DISABLED:
        return Rejected("the version of the secret is disabled", name=name, version=version or "newest")
    return error


def _described(properties: SecretProperties) -> SecretVersion:
    return SecretVersion(
        version=properties.version or "",
        enabled=properties.enabled is True,
        created=properties.created_on or _LONG_AGO,
        expires=properties.expires_on,
        tags=dict(properties.tags or {}),
    )
