"""The secrets of the local vault."""

import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from azure.core.credentials import AccessToken, TokenCredential
from azure.keyvault.secrets import SecretClient

from shared.azure.secrets import AzureSecrets
from shared.azure.translate import RETRIES, pooled_transport


class _AnyToken(TokenCredential):
    """What the vault of a local stack accepts."""

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:  # noqa: ANN401, ARG002 - the SDK's signature
        return AccessToken("local", int(time.time()) + 3600)


@contextmanager
def secrets_of(url: str, ca: Path) -> Generator[AzureSecrets]:
    """The secrets of the vault at that URL, which that authority vouches for."""
    options: dict[str, Any] = RETRIES | {"transport": pooled_transport(ca), "verify_challenge_resource": False}
    with SecretClient(url, _AnyToken(), **options) as client:
        yield AzureSecrets({url: client})
