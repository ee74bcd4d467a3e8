"""Secrets that webhooks are signed with, as Standard Webhooks has them; see rotation/webhook.py.

Nobody has to be told to accept a new one: sender and receivers take from the vault what is valid, which is the newest
version and, as long as its tags name it, the one before. So the vault is the target, `install` has nothing to do, and a
credential is refused when the vault no longer gives it, for which `revoke` is called after the tags were taken off.

`receivers` are told of either change by a message that is signed with what is valid, and holds no value. That is a
courtesy: who is not told reads the vault again within a minute. So a receiver that is away delays a rotation no longer
than to the end of dual running, and a revocation not at all.

A receiver answers a message that it has verified with 2xx. Where `probe` says that all of them answer one that they
refuse with 401 or 403, `test` asks them instead of the vault, with a message that is signed with that one credential.
Before a credential is published no receiver can know it, and nothing can be said of it but that it is well-formed.
"""

import hmac
import json
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, override

from rotation import webhook
from rotation.fields import Fields
from rotation.rotators.base import Change, Credential, Notice, Place, Rotator, Surroundings
from rotation.rotators.http_request import URL, URL_IN_WORDS, StatusOf, host_of, status_of
from shared.errors import Rejected, Transient
from shared.secret import Secret
from shared.values import SLOT_TAG, SecretVersion

log = logging.getLogger(__name__)

MOST_RECEIVERS: Final = 16
_BY_HAND: Final = "g0"
"""The slot of a credential that was made before us, whose version may have no tags."""
_REFUSED: Final = frozenset({401, 403})


@dataclass(frozen=True, slots=True)
class Parameters:
    """What the catalog says of one."""

    receivers: tuple[str, ...]  # URLs that are told of changes
    probe: bool  # whether they answer 401 or 403 to a message whose signature they refuse
    timeout_s: int  # for each of them
    secret_bytes: int  # random bytes of a new one


def read(fields: Fields) -> Parameters:
    """The parameters of an entry."""
    parameters = Parameters(
        receivers=fields.texts("receivers", URL, URL_IN_WORDS),
        probe=fields.flag("probe", default=False),
        timeout_s=fields.integer("timeout_s", 1, 30, 15),
        secret_bytes=fields.integer("secret_bytes", webhook.LEAST_BYTES, webhook.MOST_BYTES, 32),
    )
    if len({host_of(url) for url in parameters.receivers}) < len(parameters.receivers):
        fields.mistake("receivers: two of them have the same host")
    if len(parameters.receivers) > MOST_RECEIVERS:
        fields.mistake(f"receivers: more than {MOST_RECEIVERS}")
    if parameters.probe and not parameters.receivers:
        fields.mistake("probe: there are no receivers to ask")
    return parameters


def make(name: str, parameters: Parameters, surroundings: Surroundings) -> Rotator:
    """The rotator."""
    return WebhookHmac(name, parameters, surroundings)


class WebhookHmac(Rotator):
    """Rotates one of them."""

    def __init__(self, name: str, parameters: Parameters, around: Surroundings, ask: StatusOf = status_of) -> None:
        self._name = name
        self._parameters = parameters
        self._around = around
        self._ask = ask

    @override
    def locate(self, value: Secret) -> str:
        if not webhook.is_well_formed(value):
            raise Rejected("not a webhook secret: whsec_ and 24 to 64 bytes in base64", name=self._name)
        return _BY_HAND

    @override
    def place(self, current: Credential | None, generation: int) -> Place:
        return Place(f"g{generation}")

    @override
    def obtain(self, change: Change) -> Credential:
        return Credential(change.place.slot, webhook.make_secret(self._around.entropy(self._parameters.secret_bytes)))

    @override
    def install(self, change: Change, new: Credential) -> bool:
        return True

    @override
    def test(self, credential: Credential) -> bool:
        if not webhook.is_well_formed(credential.value):
            return False
        versions = self._around.versions()
        if not _is_published(credential.slot, versions):
            return True
        if self._parameters.probe:
            return self._is_accepted(credential.value)
        return self._is_given(credential.value, versions)

    @override
    def announce(self, notice: Notice) -> None:
        until = notice.previous_until.isoformat() if notice.previous_until else None
        data = {
            "name": notice.name,
            "generation": notice.generation,
            "version": notice.version,
            "previousUntil": until,
        }
        valid = [each.value for each in (notice.current, notice.previous) if each is not None]
        missed = self._tell(f"rotated-{notice.name}-{notice.version}", webhook.ROTATED, data, valid)
        if missed and (notice.previous_until is None or self._around.clock() < notice.previous_until):
            raise Transient("webhook receivers could not be told", name=notice.name, missed=missed)

    @override
    def revoke(self, old: Credential, current: Credential) -> None:
        data = {"name": self._name}
        self._tell(f"revoked-{self._name}-{old.slot}", webhook.REVOKED, data, [current.value])

    @override
    def abandon(self, change: Change) -> None:
        """Nothing to undo: what was never published, nobody accepts."""

    def _is_given(self, value: Secret, versions: Sequence[SecretVersion]) -> bool:
        """Whether who reads the vault now finds the value valid."""
        newest = versions[-1].version
        previous = webhook.previous_version(versions[-1], self._around.clock())
        return any(self._is_value(value, version) for version in (newest, previous) if version)

    def _is_value(self, value: Secret, version: str) -> bool:
        try:
            held = self._around.value(version)
        except Rejected:  # disabled
            return False
        return hmac.compare_digest(held.reveal(), value.reveal())

    def _is_accepted(self, value: Secret) -> bool:
        """What the receivers say; Transient as long as they do not agree, because some have not read the vault yet."""
        answers = self._post(f"test-{self._around.entropy(16).hex()}", {"type": webhook.TEST}, [value])
        if all(200 <= status < 300 for status in answers.values()):
            return True
        if all(status in _REFUSED for status in answers.values()):
            return False
        raise Transient("webhook receivers do not agree on a secret", name=self._name, answers=answers)

    def _tell(
        self, message_id: str, kind: str, data: Mapping[str, object], valid: Sequence[Secret]
    ) -> Mapping[str, int]:
        """Tell every receiver; answers with those that did not take it. Told again, the id is the same."""
        answers = self._post(message_id, {"type": kind, "data": data}, valid)
        missed = {host: status for host, status in answers.items() if not 200 <= status < 300}
        log.log(
            logging.WARNING if missed else logging.INFO,
            "told webhook receivers",
            extra={"message_id": message_id, "receivers": len(answers), "missed": missed},
        )
        return missed

    def _post(self, message_id: str, message: Mapping[str, object], valid: Sequence[Secret]) -> Mapping[str, int]:
        """Send the message to all receivers at once: the status from each by its host, 0 where there was no answer."""
        body = json.dumps(message, separators=(",", ":")).encode()
        headers = webhook.sign(message_id, body, valid, self._around.clock()) | {"Content-Type": "application/json"}

        def status(url: str) -> int:
            try:
                return self._ask("POST", url, headers, body, self._parameters.timeout_s)
            except Transient:
                return 0

        urls = self._parameters.receivers
        with ThreadPoolExecutor(max_workers=MOST_RECEIVERS) as threads:
            return dict(zip(map(host_of, urls), threads.map(status, urls), strict=True))


def _is_published(slot: str, versions: Sequence[SecretVersion]) -> bool:
    return bool(versions) and (slot == _BY_HAND or any(each.tags.get(SLOT_TAG) == slot for each in versions))
