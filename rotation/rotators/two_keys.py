"""Services that hold two access keys and draw their values themselves: the inactive key is regenerated, by turns.

The service keeps no history and knows no conditions: all that can be told of a slot is which value it lists now. So a
slot is regenerated only after a look at it:

1. `place` notes the fingerprint of what the inactive slot lists.
2. `obtain` regenerates that slot if it still lists it, and takes the value from a fresh listing. Killed behind that, it
   finds another value there, of which nobody knows, and takes that one.
3. `install` has nothing to do: it looks whether the service still lists the value. It does not where a request of a
   killed worker arrived late.
4. `revoke` regenerates the slot of the old key if that is still listed there; `abandon`, if the slot no longer lists
   what `place` has seen. What is listed afterwards, nobody has read. Done twice, it is as unknown as before.

Before every regeneration it is made sure that the slot is not the one in use, by its name and by its value.

What remains: a worker that is suspended just before its request, for longer than its claim on the secret, can
regenerate a slot that has meanwhile been given out. One that is merely slow does not: too long after the start of a
call nothing is regenerated.
"""

import hmac
import re
from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, override

from azure.core.exceptions import AzureError, HttpResponseError
from azure.core.pipeline.transport import RequestsTransport

from rotation.fields import Fields
from rotation.rotators.base import Change, Credential, Place, Rotator, Surroundings, fingerprint
from shared.clock import Stopwatch
from shared.errors import Integrity, Rejected, Throttled, Transient
from shared.secret import Secret

ONCE: Final[Mapping[str, Any]] = {"retry_total": 0}
"""For SDK clients: nothing is regenerated twice by a retry, and who called us comes again anyway."""

LONGEST_LOOK_S: Final = 45.0
"""How long after the start of a call a slot may be regenerated at the latest."""

_TIMEOUTS: Final = {"connection_timeout": 5, "read_timeout": 20}  # seconds
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
# https://learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules
_GROUP: Final = re.compile(r"[\w().-]{0,89}[\w()-]", re.ASCII)
_CODE: Final = re.compile(r"[A-Za-z]{1,80}")
_PLACEHOLDER: Final = "{key}"
_MOST_TEMPLATE: Final = 500


@dataclass(frozen=True, slots=True)
class Account:
    """Where the keys are, and how consumers are given them."""

    subscription: str
    group: str
    template: str  # of the value in the vault, with {key}
    asks_listing: bool  # a test compares with what is listed, because the app's network does not reach the service


class Keys(ABC):
    """The keys of one account. Any method may raise Transient: not known, or not now."""

    slots: Sequence[str]
    """The two names that the service has for them."""
    shape: re.Pattern[str]
    """What a key looks like in a connection string."""

    @abstractmethod
    def listed(self) -> Mapping[str, Secret]:
        """What each slot holds. Transient while the service is at work on them."""

    @abstractmethod
    def regenerate(self, slot: str) -> None:
        """Have the service draw a new value. On return it has agreed to; the listing tells when it is done."""

    @abstractmethod
    def accepts(self, key: str) -> bool:
        """Whether the service serves who comes with that key. Transient if anything but the key is in the way."""


class TwoKeys(Rotator):
    """Rotates the two keys of one account."""

    def __init__(self, keys: Keys, account: Account) -> None:
        self._keys = keys
        self._account = account

    @override
    def locate(self, value: Secret) -> str:
        key = self._key(value)
        for slot, listed in self._keys.listed().items():
            if _same(listed, key):
                return slot
        raise Rejected("the service lists no such key")

    @override
    def place(self, current: Credential | None, generation: int) -> Place:
        # Before the first rotation the first key is the one that somebody uses past the vault, if anybody does.
        used = current.slot if current else self._keys.slots[0]
        slot = next(slot for slot in self._keys.slots if slot != used)
        return Place(slot, fingerprint(self._beside(current, slot)))

    @override
    def obtain(self, change: Change) -> Credential:
        slot, before, since = change.place.slot, change.place.before, Stopwatch()
        key = self._beside(change.current, slot)
        if fingerprint(key) == before:
            self._regenerate(slot, since)
            # Killed here: the next call finds another value in the slot, and takes it.
            key = self._beside(change.current, slot)
            if fingerprint(key) == before:
                raise Transient("the service has not made the new key yet", slot=slot)
        return Credential(slot, filled(self._account.template, key.reveal().decode()))

    @override
    def install(self, change: Change, new: Credential) -> bool:
        return _same(self._listed(new.slot), self._key(new.value))

    @override
    def test(self, credential: Credential) -> bool:
        key = self._key(credential.value)
        return self._is_listed(key) if self._account.asks_listing else self._keys.accepts(key)

    @override
    def revoke(self, old: Credential, current: Credential) -> None:
        key, since = self._key(old.value), Stopwatch()
        if _same(self._beside(current, old.slot), key):
            self._regenerate(old.slot, since)
            # Killed here: the next call finds the old value gone.
            if _same(self._listed(old.slot), key):
                raise Transient("the service has not replaced the old key yet", slot=old.slot)

    @override
    def abandon(self, change: Change) -> None:
        slot, since = change.place.slot, Stopwatch()
        if fingerprint(self._beside(change.current, slot)) != change.place.before:
            self._regenerate(slot, since)
            # Whether it is done is not asked: it could not be told from a value that an earlier call has left here.

    def _regenerate(self, slot: str, since: Stopwatch) -> None:
        if since.seconds() > LONGEST_LOOK_S:
            raise Transient("the service was too slow for a regeneration to be safe", slot=slot)
        self._keys.regenerate(slot)

    def _beside(self, current: Credential | None, slot: str) -> Secret:
        """What the slot lists. Integrity if that is what consumers use."""
        if current is None:
            return self._listed(slot)
        if slot == current.slot:
            raise Integrity("the slot to be regenerated is the one in use", slot=slot)
        listed = self._listed(slot)
        if _same(listed, self._key(current.value)):
            raise Integrity("the key in use stands in the slot to be regenerated", slot=slot, recorded=current.slot)
        return listed

    def _listed(self, slot: str) -> Secret:
        listed = self._keys.listed().get(slot)
        if listed is None:
            raise Integrity("the service lists no key in the slot", slot=slot)
        return listed

    def _is_listed(self, key: str) -> bool:
        return any(_same(listed, key) for listed in self._keys.listed().values())

    def _key(self, value: Secret) -> str:
        """The one key in a vault value, whatever template that was made by."""
        found = set(self._keys.shape.findall(value.reveal().decode(errors="replace")))
        if len(found) != 1:
            raise Rejected("the value holds no key of the service, or several")
        return str(found.pop())


def _same(listed: Secret, key: str) -> bool:
    return hmac.compare_digest(listed.reveal(), key.encode())


def account(fields: Fields, template: str, shape: re.Pattern[str], example: str) -> Account:
    """Reads what all have in common; `template` is the default, `example` a key for trying the given one."""
    given = fields.text("template", default=template, most=_MOST_TEMPLATE)
    if given and (given.count(_PLACEHOLDER) != 1 or shape.findall(given.replace(_PLACEHOLDER, example)) != [example]):
        fields.mistake("template: must hold {key} once, and nothing that could be taken for a part of it")
    return Account(
        subscription=fields.matching("subscription", _UUID, "the id of a subscription"),
        group=fields.matching("resource_group", _GROUP, "the name of a resource group"),
        template=given,
        asks_listing=fields.one_of("test", ("service", "listed"), default="service") == "listed",
    )


def filled(template: str, key: str) -> Secret:
    """The value that consumers are given."""
    return Secret(template.replace(_PLACEHOLDER, key).encode())


def transport(around: Surroundings) -> Any:  # noqa: ANN401 - as azure-core types it
    """The one to send by. SDK clients that are given one know no time-outs of their own."""
    return around.transport or RequestsTransport(**_TIMEOUTS)


@contextmanager
def asking(what: str) -> Generator[None]:
    """Run SDK calls; their errors come out as ours, saying `what` was asked, and without the answer's text.

    Refused access and locks count as Transient: they get repaired, and a rotation half done must not be given up.
    """
    try:
        yield
    except HttpResponseError as error:
        status, code = error.status_code, _code(error)
        if status == 404:
            raise Rejected(f"{what}: not found", code=code) from None
        if status == 429:
            stated = str(getattr(error.response, "headers", {}).get("Retry-After", ""))
            wait = float(stated) if stated.isascii() and stated.isdigit() else None
            raise Throttled(f"{what}: too many requests", status=status, retry_after=wait) from None
        if status in (400, 405, 422):
            raise Rejected(f"{what}: refused", status=status, code=code) from None
        raise Transient(f"{what}: no success", status=status, code=code) from None
    except AzureError as error:
        raise Transient(f"{what}: no answer", cause=type(error).__name__) from None


def _code(error: HttpResponseError) -> str:
    """The service's name for the error."""
    code = getattr(error, "error_code", None) or getattr(error.error, "code", None)
    return code if isinstance(code, str) and _CODE.fullmatch(code) else ""


def listed_keys(keys: Mapping[str, object], shape: re.Pattern[str]) -> Mapping[str, Secret]:
    """A listing's keys as secrets. Integrity if one is missing or is no key."""
    for slot, key in keys.items():
        if not isinstance(key, str) or not shape.fullmatch(key):
            raise Integrity("the service's listing of keys is not as documented", slot=slot)
    return {slot: Secret(str(key).encode()) for slot, key in keys.items()}
