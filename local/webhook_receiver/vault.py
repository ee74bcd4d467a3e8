"""Reads secrets of the local vault through the SDK."""

import time
from pathlib import Path
from typing import Any, override

from azure.core.credentials import AccessToken, TokenCredential
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.keyvault.secrets import SecretClient

from rotation.webhook_secrets import ReadableSecrets
from shared.azure.key_requests import inner_code
from shared.azure.translate import RETRIES, pooled_transport, translated
from shared.errors import Rejected
from shared.secret import Secret
from shared.values import SecretVersion


class _AnyToken(TokenCredential):
    """What the vault of a local stack accepts."""

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:  # noqa: ANN401, ARG002 - the SDK's signature
        return AccessToken("local", int(time.time()) + 3600)


class VaultReader(ReadableSecrets):
    """The secrets of one vault, read only; `vault` of its methods is not looked at."""

    def __init__(self, url: str, ca: Path) -> None:
        self.client = SecretClient(
            url, _AnyToken(), transport=pooled_transport(ca), verify_challenge_resource=False, **RETRIES
        )

    @override
    def newest(self, name: str, vault: str | None = None) -> SecretVersion | None:
        with translated("reading a secret"):
            try:
                found = self.client.get_secret(name).properties
            except ResourceNotFoundError:
                return None
        if found.version is None or found.created_on is None:
            raise RuntimeError("a secret without version or date")
        return SecretVersion(
            found.version, bool(found.enabled), found.created_on, found.expires_on, dict(found.tags or {})
        )

    @override
    def value(self, name: str, version: str, vault: str | None = None) -> Secret:
        with translated("reading a version of a secret"):
            try:
                found = self.client.get_secret(name, version)
            except HttpResponseError as error:
                if isinstance(error, ResourceNotFoundError) or inner_code(error) == "SecretDisabled":
                    raise Rejected("the vault does not give that version", secret=name, version=version) from error
                raise
        return Secret((found.value or "").encode())

    def close(self) -> None:
        """Close its connections."""
        self.client.close()
