"""Account keys of Azure Cosmos DB: `primary` and `secondary`, or the two read-only ones.

Keys: https://learn.microsoft.com/rest/api/cosmos-db-resource-provider/database-accounts/list-keys, .../regenerate-key
and .../get. Test: a GET of the account itself, signed as in
https://learn.microsoft.com/rest/api/cosmos-db/access-control-on-cosmosdb-resources.

A regeneration takes from a minute to hours, and changes the value when it comes to its end. While one is under way, no
value is taken and no other one begun: the account says so in `provisioningState`, and refuses with 412.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, override
from urllib.parse import quote
from wsgiref.handlers import format_date_time

from azure.core.rest import HttpRequest

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
from shared.errors import MissingPackage, Throttled, Transient
from shared.secret import Secret

_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{1,42}[a-z0-9])")
_SHAPE: Final = re.compile(r"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{86}==(?![A-Za-z0-9+/=])")  # 64 bytes
_EXAMPLE: Final = "A" * 86 + "=="
_READ_WRITE: Final = ("primary", "secondary")
_READ_ONLY: Final = ("primaryReadonly", "secondaryReadonly")
_API_VERSION: Final = "2018-12-31"
_BUSY: Final = frozenset({"Creating", "Updating"})
_LOOKS: Final = 4
_PAUSE_S: Final = 10
"""How often and how far apart one call looks whether a regeneration is done; later calls look after a longer one."""


@dataclass(frozen=True, slots=True)
class CosmosParameters:
    """Which account, and which of its pairs of keys."""

    account: Account
    name: str  # no two accounts have the same one
    slots: tuple[str, str]

    @property
    def targets(self) -> frozenset[str]:
        """The two keys."""
        return frozenset(f"{slot} key of Cosmos DB account {self.name}" for slot in self.slots)


def read(fields: Fields) -> CosmosParameters:
    """Reads `subscription`, `resource_group`, `account`, `keys`, `template` and `test`."""
    name = fields.matching("account", _NAME, "the name of a Cosmos DB account")
    template = f"AccountEndpoint=https://{name}.documents.azure.com:443/;AccountKey={{key}};"
    is_read_only = fields.one_of("keys", ("read-write", "read-only"), default="read-write") == "read-only"
    return CosmosParameters(
        account(fields, template, _SHAPE, _EXAMPLE), name, _READ_ONLY if is_read_only else _READ_WRITE
    )


def make(name: str, parameters: Parameters, around: Surroundings) -> Rotator:  # noqa: ARG001 - a Maker
    """The rotator of one account's keys. MissingPackage without azure-mgmt-cosmosdb."""
    return TwoKeys(_CosmosKeys(parameters, around), parameters.account)


class _CosmosKeys(Keys):
    shape = _SHAPE

    def __init__(self, parameters: CosmosParameters, around: Surroundings) -> None:
        try:
            from azure.mgmt.cosmosdb import CosmosDBManagementClient
        except ImportError:
            raise MissingPackage("Cosmos DB needs an optional package", package="azure-mgmt-cosmosdb") from None
        self.slots = parameters.slots
        self._clock = around.clock
        self._parameters = parameters
        self._transport = transport(around)
        self._accounts = CosmosDBManagementClient(
            around.credential, parameters.account.subscription, transport=self._transport, **ONCE
        ).database_accounts

    @override
    def listed(self) -> Mapping[str, Secret]:
        if self._is_busy():
            raise Transient("Cosmos DB is at work on the account")
        group, name = self._parameters.account.group, self._parameters.name
        with asking("keys of Cosmos DB"):
            if self.slots == _READ_ONLY:
                readers = self._accounts.list_read_only_keys(group, name)
                values = (readers.primary_readonly_master_key, readers.secondary_readonly_master_key)
            else:
                writers = self._accounts.list_keys(group, name)
                values = (writers.primary_master_key, writers.secondary_master_key)
        return listed_keys(dict(zip(self.slots, values, strict=True)), _SHAPE)

    @override
    def regenerate(self, slot: str) -> None:
        with asking("regenerating a key of Cosmos DB"):
            self._accounts.begin_regenerate_key(
                self._parameters.account.group, self._parameters.name, {"keyKind": slot}, polling=False
            )
        for _ in range(_LOOKS):
            self._transport.sleep(_PAUSE_S)
            if not self._is_busy():
                break

    def _is_busy(self) -> bool:
        with asking("Cosmos DB account"):
            found = self._accounts.get(self._parameters.account.group, self._parameters.name)
        return bool(found.properties and found.properties.provisioning_state in _BUSY)

    @override
    def accepts(self, key: str) -> bool:
        date = format_date_time(self._clock().timestamp())
        # Verb, type and link of the resource, date, and an empty line. The account has neither type nor link.
        signed = f"get\n\n\n{date.lower()}\n\n"
        signature = base64.b64encode(hmac.digest(base64.b64decode(key), signed.encode(), hashlib.sha256)).decode()
        headers = {
            "Authorization": quote(f"type=master&ver=1.0&sig={signature}", safe=""),
            "x-ms-date": date,
            "x-ms-version": _API_VERSION,
        }
        url = f"https://{self._parameters.name}.documents.azure.com/"
        with asking("Cosmos DB"):
            status = self._transport.send(HttpRequest("GET", url, headers=headers)).status_code
        match status:
            case 200:
                return True
            # https://learn.microsoft.com/azure/cosmos-db/troubleshoot-unauthorized: the signature; 403 is the firewall.
            case 401:
                return False
            case 429:
                raise Throttled("Cosmos DB: too many requests", status=status)
        raise Transient("Cosmos DB: no success", status=status)
