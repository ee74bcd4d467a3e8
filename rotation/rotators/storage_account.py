"""Access keys of Azure storage accounts: `key1` and `key2`.

Keys: https://learn.microsoft.com/rest/api/storagerp/storage-accounts/list-keys and .../regenerate-key.
Test: https://learn.microsoft.com/rest/api/storageservices/get-blob-service-properties, signed with the key. It needs no
container and is served by every kind of account but FileStorage, which has to be tested by its listing.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, override

from azure.core.exceptions import HttpResponseError
from azure.storage.blob import BlobServiceClient

from rotation.fields import Fields
from rotation.rotators.base import Parameters, Rotator, Surroundings
from rotation.rotators.two_keys import (
    ONCE,
    Account,
    Keys,
    TwoKeys,
    account,
    asking,
    listed_keys,
    transport,
)
from shared.errors import MissingPackage
from shared.secret import Secret

_NAME: Final = re.compile(r"[a-z0-9]{3,24}")
_SHAPE: Final = re.compile(r"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{86}==(?![A-Za-z0-9+/=])")  # 64 bytes
_EXAMPLE: Final = "A" * 86 + "=="
_SLOTS: Final = ("key1", "key2")


@dataclass(frozen=True, slots=True)
class StorageParameters:
    """Which account."""

    account: Account
    name: str  # no two accounts have the same one

    @property
    def targets(self) -> frozenset[str]:
        """The account, whose two keys take turns."""
        return frozenset({f"keys of storage account {self.name}"})


def read(fields: Fields) -> StorageParameters:
    """Reads `subscription`, `resource_group`, `account`, `template` and `test`."""
    name = fields.matching("account", _NAME, "the name of a storage account")
    template = f"DefaultEndpointsProtocol=https;AccountName={name};AccountKey={{key}};EndpointSuffix=core.windows.net"
    return StorageParameters(account(fields, template, _SHAPE, _EXAMPLE), name)


def make(name: str, parameters: Parameters, around: Surroundings) -> Rotator:  # noqa: ARG001 - a Maker
    """The rotator of one account's keys. MissingPackage without azure-mgmt-storage."""
    return TwoKeys(_StorageKeys(parameters, around), parameters.account)


class _StorageKeys(Keys):
    slots = _SLOTS
    shape = _SHAPE

    def __init__(self, parameters: StorageParameters, around: Surroundings) -> None:
        try:
            from azure.mgmt.storage import StorageManagementClient
        except ImportError:
            raise MissingPackage("storage accounts need an optional package", package="azure-mgmt-storage") from None
        self._parameters = parameters
        self._transport = transport(around)
        self._accounts = StorageManagementClient(
            around.credential, parameters.account.subscription, transport=self._transport, **ONCE
        ).storage_accounts

    @override
    def listed(self) -> Mapping[str, Secret]:
        with asking("keys of a storage account"):
            found = self._accounts.list_keys(
                self._parameters.account.group,
                self._parameters.name,
                expand=None,  # type: ignore[arg-type]  # leaves Kerberos keys out; the package's types do not know
            )
        keys = {key.key_name: key.value for key in found.keys_property or ()}
        return listed_keys({slot: keys.get(slot) for slot in _SLOTS}, _SHAPE)

    @override
    def regenerate(self, slot: str) -> None:
        with asking("regenerating a key of a storage account"):
            self._accounts.regenerate_key(self._parameters.account.group, self._parameters.name, {"keyName": slot})

    @override
    def accepts(self, key: str) -> bool:
        client = BlobServiceClient(
            f"https://{self._parameters.name}.blob.core.windows.net",
            {"account_name": self._parameters.name, "account_key": key},
            transport=self._transport,
            **ONCE,
        )
        with asking("a storage account"):
            try:
                client.get_service_properties()
            except HttpResponseError as error:
                # https://learn.microsoft.com/rest/api/storageservices/common-rest-api-error-codes: AuthenticationFailed
                # is about the signature; AuthorizationFailure about networks, others about what the account allows.
                code = getattr(error, "error_code", None)
                if error.status_code in (401, 403) and code == "AuthenticationFailed":
                    return False
                raise
        return True
