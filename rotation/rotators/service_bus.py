"""Keys of an authorization rule of Azure Service Bus: `PrimaryKey` and `SecondaryKey`.

The rule is one of the namespace, of a queue or of a topic. Keys:
https://learn.microsoft.com/rest/api/servicebus/namespaces/list-keys and .../regenerate-keys, likewise for queues and
topics. Test: a GET of the queue, of the topic, or of the namespace's list of queues, with a token of the rule as in
https://learn.microsoft.com/azure/service-bus-messaging/service-bus-sas. That needs the claim Manage; a rule without
it is tested by its listing, because all that it could do would send or take away messages.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, override
from urllib.parse import quote, quote_plus

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

_NAMESPACE: Final = re.compile(r"[A-Za-z](?:[A-Za-z0-9-]{4,48}[A-Za-z0-9])")
_RULE: Final = re.compile(r"[A-Za-z0-9](?:[\w.-]{0,48}\w)?", re.ASCII)
_ENTITY: Final = re.compile(r"[A-Za-z0-9](?:[\w.-]{0,258}\w)?", re.ASCII)  # none with a slash
_SHAPE: Final = re.compile(r"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{43}=(?![A-Za-z0-9+/=])")  # 32 bytes
_EXAMPLE: Final = "A" * 43 + "="
_SLOTS: Final = ("PrimaryKey", "SecondaryKey")
_LIFE: Final = timedelta(minutes=5)
# 401 is also what a rule without the claim Manage gets; only these are about the key.
_BAD_SIGNATURES: Final = ("SubCode=40103", "InvalidSignature")


@dataclass(frozen=True, slots=True)
class ServiceBusParameters:
    """Which rule."""

    account: Account
    namespace: str
    rule: str
    queue: str
    topic: str

    @property
    def targets(self) -> frozenset[str]:
        """The rule, whose two keys take turns. No two namespaces have the same name, no queue that of a topic."""
        entity = self.queue or self.topic
        where = f"{self.namespace}/{entity}" if entity else self.namespace
        return frozenset({f"keys of rule {self.rule.lower()} of {where.lower()}"})


def read(fields: Fields) -> ServiceBusParameters:
    """Reads `subscription`, `resource_group`, `namespace`, `rule`, `queue` or `topic`, `template` and `test`."""
    namespace = fields.matching("namespace", _NAMESPACE, "the name of a Service Bus namespace")
    rule = fields.matching("rule", _RULE, "the name of an authorization rule")
    queue = fields.matching("queue", _ENTITY, "the name of a queue", default="")
    topic = fields.matching("topic", _ENTITY, "the name of a topic", default="")
    if queue and topic:
        fields.mistake("has queue and topic: a rule is of one of them, or of the namespace")
    template = f"Endpoint=sb://{namespace}.servicebus.windows.net/;SharedAccessKeyName={rule};SharedAccessKey={{key}}"
    entity = queue or topic
    if entity:
        template += f";EntityPath={entity}"
    return ServiceBusParameters(account(fields, template, _SHAPE, _EXAMPLE), namespace, rule, queue, topic)


def make(name: str, parameters: Parameters, around: Surroundings) -> Rotator:  # noqa: ARG001 - a Maker
    """The rotator of one rule's keys. MissingPackage without azure-mgmt-servicebus."""
    return TwoKeys(_ServiceBusKeys(parameters, around), parameters.account)


class _ServiceBusKeys(Keys):
    slots = _SLOTS
    shape = _SHAPE

    def __init__(self, parameters: ServiceBusParameters, around: Surroundings) -> None:
        try:
            from azure.mgmt.servicebus import ServiceBusManagementClient
        except ImportError:
            raise MissingPackage("Service Bus needs an optional package", package="azure-mgmt-servicebus") from None
        self._clock = around.clock
        self._parameters = parameters
        self._transport = transport(around)
        self._client = ServiceBusManagementClient(
            around.credential, parameters.account.subscription, transport=self._transport, **ONCE
        )

    @override
    def listed(self) -> Mapping[str, Secret]:
        group, namespace, rule = self._where()
        with asking("keys of a Service Bus rule"):
            if self._parameters.queue:
                found = self._client.queues.list_keys(group, namespace, self._parameters.queue, rule)
            elif self._parameters.topic:
                found = self._client.topics.list_keys(group, namespace, self._parameters.topic, rule)
            else:
                found = self._client.namespaces.list_keys(group, namespace, rule)
        return listed_keys(dict(zip(_SLOTS, (found.primary_key, found.secondary_key), strict=True)), _SHAPE)

    @override
    def regenerate(self, slot: str) -> None:
        from azure.mgmt.servicebus.models import RegenerateAccessKeyParameters

        group, namespace, rule = self._where()
        what = RegenerateAccessKeyParameters(key_type=slot)
        with asking("regenerating a key of a Service Bus rule"):
            if self._parameters.queue:
                self._client.queues.regenerate_keys(group, namespace, self._parameters.queue, rule, what)
            elif self._parameters.topic:
                self._client.topics.regenerate_keys(group, namespace, self._parameters.topic, rule, what)
            else:
                self._client.namespaces.regenerate_keys(group, namespace, rule, what)

    @override
    def accepts(self, key: str) -> bool:
        host = f"https://{self._parameters.namespace.lower()}.servicebus.windows.net/"
        entity = self._parameters.queue or self._parameters.topic
        resource = quote_plus(host + entity)
        expiry = int((self._clock() + _LIFE).timestamp())
        signature = base64.b64encode(hmac.digest(key.encode(), f"{resource}\n{expiry}".encode(), hashlib.sha256))
        token = f"sr={resource}&sig={quote_plus(signature)}&se={expiry}&skn={quote_plus(self._parameters.rule)}"
        path = quote(entity) if entity else "$Resources/Queues"
        query = "api-version=2017-04" if entity else "api-version=2017-04&$skip=0&$top=1"
        headers = {"Authorization": f"SharedAccessSignature {token}"}
        with asking("Service Bus"):
            answer = self._transport.send(HttpRequest("GET", f"{host}{path}?{query}", headers=headers))
        match answer.status_code:
            case 200:
                return True
            case 401 if any(text in answer.text() for text in _BAD_SIGNATURES):
                return False
            case 429:
                raise Throttled("Service Bus: too many requests", status=429)
        raise Transient("Service Bus: no success", status=answer.status_code)

    def _where(self) -> tuple[str, str, str]:
        return self._parameters.account.group, self._parameters.namespace, self._parameters.rule
