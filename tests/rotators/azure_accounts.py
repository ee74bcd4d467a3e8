"""Azure accounts with two keys each, as far as rotators see them: Resource Manager and the service, below `requests`.

Shapes are those of Microsoft's REST reference, named beside each. Every signature is recomputed with the keys that the
account has at that moment, by the documented rules and not by the code under test.
"""

import base64
import hashlib
import hmac
import io
import json
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, override
from urllib.parse import parse_qsl, unquote, urlsplit

import requests
from azure.core.credentials import AccessToken
from azure.core.pipeline.transport import RequestsTransport
from requests.adapters import BaseAdapter
from urllib3.response import HTTPResponse

from tests.rotators.contract import Faults

SUBSCRIPTION: Final = "8f2c7a10-5b6e-4d3c-9a1f-0c2d4e6f8a9b"
GROUP: Final = "atp"
_ARM: Final = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/"


class Identity:
    """The app's identity, with a token that Resource Manager knows."""

    def get_token(self, *scopes: str, **_: object) -> AccessToken:
        """Always the same."""
        assert scopes == ("https://management.azure.com/.default",)
        return AccessToken("of-the-app", 2**40)


@dataclass
class Answer:
    """An HTTP answer."""

    status: int
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


def error(status: int, code: str, **headers: str) -> Answer:
    """As Resource Manager says it: https://learn.microsoft.com/azure/azure-resource-manager/troubleshooting/overview."""
    return Answer(status, json.dumps({"error": {"code": code, "message": "a text with anything in it"}}), headers)


@dataclass(frozen=True)
class Asked:
    """A request that has arrived."""

    method: str
    host: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: str


class Account(ABC):
    """An account, its keys, and what it was asked."""

    slots: tuple[str, ...]
    resource: str  # behind providers/
    api_version: str
    list_action = "listKeys"
    regenerate_action = "regenerateKey"
    regenerate_field: str
    key_bytes = 64

    def __init__(self) -> None:
        self.faults = Faults(lost=lambda: requests.ConnectionError("no answer"))
        self.draw = random.Random(11)
        self.keys: dict[str, str] = {}
        self.renew()
        self.asked: list[Asked] = []
        self.regenerated: list[str] = []
        self.instead: Callable[[Asked], Answer | None] = lambda _: None
        """Answers in place of the account."""

    def renew(self) -> None:
        """As after its creation."""
        self.keys = {slot: self.key() for slot in self.slots}

    def key(self) -> str:
        """One that was never used."""
        return base64.b64encode(self.draw.randbytes(self.key_bytes)).decode()

    def regenerate(self, slot: str) -> Answer:
        """Do it."""
        self.regenerated.append(slot)
        self.keys[slot] = self.key()
        return self.listing()

    @abstractmethod
    def listing(self) -> Answer:
        """The answer to listKeys."""

    @abstractmethod
    def served(self, asked: Asked) -> Answer:
        """The answer of the service itself."""

    def managed(self, asked: Asked) -> Answer:
        """The answer of Resource Manager."""
        assert asked.headers["Authorization"] == "Bearer of-the-app"
        assert asked.query == {"api-version": self.api_version}
        action = asked.path.removeprefix(f"{_ARM}{self.resource}/")
        assert asked.method == "POST", asked
        if action == self.regenerate_action:
            body = json.loads(asked.body)
            assert body.keys() == {self.regenerate_field}
            return self.regenerate(body[self.regenerate_field])
        assert action == self.list_action, asked.path
        return self.listing()

    def answer(self, asked: Asked) -> Answer:
        """To whatever is asked."""
        self.asked.append(asked)
        instead = self.instead(asked)
        if instead is not None:
            return instead
        return self.managed(asked) if asked.host == "management.azure.com" else self.served(asked)


class StorageAccount(Account):
    """https://learn.microsoft.com/rest/api/storagerp/storage-accounts/list-keys and .../regenerate-key."""

    slots = ("key1", "key2")
    resource = "Microsoft.Storage/storageAccounts/atpstore"
    api_version = "2026-09-01"
    regenerate_field = "keyName"

    @override
    def listing(self) -> Answer:
        keys = [
            {"creationTime": "2026-11-21T12:00:00.0000000Z", "keyName": slot, "value": key, "permissions": "Full"}
            for slot, key in {**self.keys, "kerb1": self.key()}.items()
        ]
        return Answer(200, json.dumps({"keys": keys}), {"Content-Type": "application/json"})

    @override
    def served(self, asked: Asked) -> Answer:
        """https://learn.microsoft.com/rest/api/storageservices/get-blob-service-properties."""
        assert (asked.method, asked.host, asked.path) == ("GET", "atpstore.blob.core.windows.net", "/")
        assert asked.query == {"restype": "service", "comp": "properties"}
        given = asked.headers["Authorization"]
        if given not in {f"SharedKey atpstore:{self._signature(asked, key)}" for key in self.keys.values()}:
            return storage_error(403, "AuthenticationFailed")
        return Answer(
            200,
            '<?xml version="1.0" encoding="utf-8"?><StorageServiceProperties />',
            {"Content-Type": "application/xml"},
        )

    def _signature(self, asked: Asked, key: str) -> str:
        """https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key, of a GET."""
        ours = sorted(
            (name.lower(), value) for name, value in asked.headers.items() if name.lower().startswith("x-ms-")
        )
        text = "GET" + "\n" * 12 + "".join(f"{name}:{value}\n" for name, value in ours)
        text += f"/atpstore{asked.path}" + "".join(f"\n{name}:{value}" for name, value in sorted(asked.query.items()))
        return base64.b64encode(hmac.digest(base64.b64decode(key), text.encode(), hashlib.sha256)).decode()


def storage_error(status: int, code: str) -> Answer:
    """https://learn.microsoft.com/rest/api/storageservices/status-and-error-codes2."""
    body = f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code><Message>a text</Message></Error>'
    return Answer(status, body, {"x-ms-error-code": code, "Content-Type": "application/xml"})


class CosmosAccount(Account):
    """https://learn.microsoft.com/rest/api/cosmos-db-resource-provider/database-accounts/ and what follows.

    A regeneration is accepted with 202, and done when the account was looked at `looks` times.
    """

    slots = ("primary", "secondary", "primaryReadonly", "secondaryReadonly")
    resource = "Microsoft.DocumentDB/databaseAccounts/atp-cosmos"
    api_version = "2026-03-15"
    regenerate_field = "keyKind"
    looks = 2

    def __init__(self) -> None:
        super().__init__()
        self.under_way: list[str] = []
        self.left = 0

    @override
    def renew(self) -> None:
        super().renew()
        self.under_way = []

    @override
    def managed(self, asked: Asked) -> Answer:
        if asked.path == _ARM + self.resource:
            assert asked.method == "GET"
            return self._account()
        if asked.path.endswith("/readonlykeys"):
            assert asked.method == "POST"
            return self._answer({key: value for key, value in self._documents().items() if "Readonly" in key})
        return super().managed(asked)

    def _account(self) -> Answer:
        state = "Succeeded"
        if self.under_way:
            self.left -= 1
            if self.left > 0:
                state = "Updating"
            else:
                self.finish()
        return self._answer({"name": "atp-cosmos", "properties": {"provisioningState": state}})

    def finish(self) -> None:
        """End the regeneration that is under way."""
        for slot in self.under_way:
            self.regenerated.append(slot)
            self.keys[slot] = self.key()
        self.under_way = []

    @override
    def regenerate(self, slot: str) -> Answer:
        if self.under_way:
            return Answer(412, json.dumps({"code": "PreconditionFailed", "message": "an exclusive lock"}))
        self.under_way, self.left = [slot], self.looks
        status = f"https://management.azure.com/subscriptions/{SUBSCRIPTION}/operationsStatus/1"
        return Answer(202, '{"status": "Enqueued"}', {"Azure-AsyncOperation": status, "Location": status})

    @override
    def listing(self) -> Answer:
        return self._answer(self._documents())

    def _documents(self) -> Mapping[str, str]:
        names = ("primaryMasterKey", "secondaryMasterKey", "primaryReadonlyMasterKey", "secondaryReadonlyMasterKey")
        return dict(zip(names, (self.keys[slot] for slot in self.slots), strict=True))

    def _answer(self, document: Mapping[str, Any]) -> Answer:
        return Answer(200, json.dumps(document), {"Content-Type": "application/json"})

    @override
    def served(self, asked: Asked) -> Answer:
        """https://learn.microsoft.com/rest/api/cosmos-db/access-control-on-cosmosdb-resources."""
        assert (asked.method, asked.host, asked.path) == ("GET", "atp-cosmos.documents.azure.com", "/")
        given = unquote(asked.headers["Authorization"])
        payload = f"get\n\n\n{asked.headers['x-ms-date'].lower()}\n\n".encode()
        for key in self.keys.values():
            signature = base64.b64encode(hmac.digest(base64.b64decode(key), payload, hashlib.sha256)).decode()
            if given == f"type=master&ver=1.0&sig={signature}":
                return self._answer({"id": "atp-cosmos", "_self": ""})
        return Answer(401, json.dumps({"code": "Unauthorized", "message": "a text"}))


class ServiceBusRule(Account):
    """https://learn.microsoft.com/rest/api/servicebus/namespaces/list-keys and .../regenerate-keys; of queues, too."""

    slots = ("PrimaryKey", "SecondaryKey")
    resource = "Microsoft.ServiceBus/namespaces/atp-bus/AuthorizationRules/all"
    api_version = "2026-01-01"
    regenerate_action = "regenerateKeys"
    regenerate_field = "keyType"
    key_bytes = 32
    entity = ""

    @override
    def listing(self) -> Answer:
        first, second = self.keys.values()
        document = {"primaryKey": first, "secondaryKey": second, "keyName": "all"}
        return Answer(200, json.dumps(document), {"Content-Type": "application/json"})

    @override
    def served(self, asked: Asked) -> Answer:
        """https://learn.microsoft.com/azure/service-bus-messaging/service-bus-sas."""
        assert (asked.method, asked.host) == ("GET", "atp-bus.servicebus.windows.net")
        assert asked.path == (f"/{self.entity}" if self.entity else "/$Resources/Queues")
        scheme, _, fields = asked.headers["Authorization"].partition(" ")
        given = dict(parse_qsl(fields))
        raw = dict(each.split("=", 1) for each in fields.split("&"))
        assert (scheme, given["skn"]) == ("SharedAccessSignature", "all")
        assert given["sr"] == f"https://atp-bus.servicebus.windows.net/{self.entity}"
        text = f"{raw['sr']}\n{raw['se']}".encode()
        for key in self.keys.values():
            if given["sig"] == base64.b64encode(hmac.digest(key.encode(), text, hashlib.sha256)).decode():
                return Answer(200, '<feed xmlns="http://www.w3.org/2005/Atom" />')
        return bus_error("SubCode=40103: Invalid authorization token signature. TrackingId:1")


def bus_error(detail: str) -> Answer:
    """As the namespace says it."""
    return Answer(401, f"<Error><Code>401</Code><Detail>{detail}</Detail></Error>")


class QueueRule(ServiceBusRule):
    """The same of one queue."""

    resource = "Microsoft.ServiceBus/namespaces/atp-bus/queues/jobs/authorizationRules/all"
    entity = "jobs"


class TopicRule(ServiceBusRule):
    """The same of one topic."""

    resource = "Microsoft.ServiceBus/namespaces/atp-bus/topics/events/authorizationRules/all"
    entity = "events"


class _Adapter(BaseAdapter):
    """What `requests` takes for the network."""

    def __init__(self, account: Account | None) -> None:
        super().__init__()
        self._account = account

    @override
    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        account = self._account
        if account is None:
            raise requests.ConnectionError("nobody there")
        url = urlsplit(str(request.url))
        body = request.body.decode() if isinstance(request.body, bytes) else request.body or ""
        asked = Asked(
            str(request.method),
            str(url.hostname),
            unquote(url.path),
            dict(parse_qsl(url.query, keep_blank_values=True)),
            {name: str(value) for name, value in request.headers.items()},
            str(body),
        )
        return account.faults.around(lambda: _response(request, account.answer(asked)))

    @override
    def close(self) -> None:
        pass


def _response(request: requests.PreparedRequest, answer: Answer) -> requests.Response:
    raw = HTTPResponse(
        body=io.BytesIO(answer.body.encode()), headers=answer.headers, status=answer.status, preload_content=False
    )
    response = requests.Response()
    response.status_code = answer.status
    response.headers.update(answer.headers)
    response.url = str(request.url)
    response.request = request
    response.raw = raw
    return response


class Transport(RequestsTransport):  # type: ignore[misc]  # azure-core finds it late, so mypy takes it for Any
    """azure-core's own, above an account; it does not wait."""

    def __init__(self, account: Account | None) -> None:
        session = requests.Session()
        session.mount("https://", _Adapter(account))
        super().__init__(session=session, session_owner=False)

    @override
    def sleep(self, duration: float) -> None:
        pass
