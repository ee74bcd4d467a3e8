"""Secrets that webhooks are signed with, as Standard Webhooks has them; see rotation/webhook.py.

Nobody has to be told to accept a new one: sender and receivers take from the vault what is valid, which is the newest
version and, as long as its tags name it, the one before. So the vault is the target, `install` has nothing to do, and a
credential is refused when the vault no longer gives it, for which `revoke` is called after the tags were taken off.

`receivers` are told of either change by a message that is signed with what is valid, and holds no value. Each answers a
message that it has verified with 2xx, and one that it refuses with 401 or 403. Where `probe` says that they do, `test`
asks them instead of the vault, with a message that is signed with that one credential. Before a credential is published
no receiver can know it, and nothing can be said of it but that it is well-formed.
"""

import hmac
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, override

from rotation import webhook
from rotation.fields import Fields
from rotation.rotators.base import Change, Credential, Kind, Notice, Place, Rotator, Surroundings
from rotation.rotators.http_request import URL, URL_IN_WORDS, StatusOf, host_of, status_of
from shared.errors import Rejected, Transient
from shared.secret import Secret
from shared.values import SecretVersion

log = logging.getLogger(__name__)

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
        timeout_s=fields.integer("timeout_s", 1, 60, 15),
        secret_bytes=fields.integer("secret_bytes", webhook.LEAST_BYTES, webhook.MOST_BYTES, 32),
    )
    if parameters.probe and not parameters.receivers:
        fields.mistake("probe: there are no receivers to ask")
    return parameters


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
        self._tell(f"rotated-{notice.name}-g{notice.generation}", webhook.ROTATED, data, valid)

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
        body = json.dumps({"type": webhook.TEST}, separators=(",", ":")).encode()
        accepted, refused = [], []
        for url in self._parameters.receivers:
            status = self._post(url, f"test-{self._around.entropy(16).hex()}", body, [value])
            if 200 <= status < 300:
                accepted.append(host_of(url))
            elif status in _REFUSED:
                refused.append(host_of(url))
            else:
                raise Transient("a webhook receiver has not said yes or no", host=host_of(url), status=status)
        if accepted and refused:
            raise Transient("webhook receivers do not agree", accepted=accepted, refused=refused)
        return not refused

    def _tell(self, message_id: str, kind: str, data: Mapping[str, object], valid: Sequence[Secret]) -> None:
        """Tell every receiver; Transient if one of them did not take it. A repeated message has the same id."""
        body = json.dumps({"type": kind, "data": data}, separators=(",", ":")).encode()
        failed = {}
        for url in self._parameters.receivers:
            try:
                status = self._post(url, message_id, body, valid)
            except Transient as error:
                failed[host_of(url)] = str(error.fields.get("cause"))
            else:
                if not 200 <= status < 300:
                    failed[host_of(url)] = str(status)
        if failed:
            raise Transient("a webhook receiver could not be told", message_id=message_id, failed=failed)
        log.info("told webhook receivers", extra={"message_id": message_id})

    def _post(self, url: str, message_id: str, body: bytes, valid: Sequence[Secret]) -> int:
        headers = webhook.sign(message_id, body, valid, self._around.clock())
        headers["Content-Type"] = "application/json"
        return self._ask("POST", url, headers, body, self._parameters.timeout_s)


def _is_published(slot: str, versions: Sequence[SecretVersion]) -> bool:
    return bool(versions) and (slot == _BY_HAND or any(each.tags.get(webhook.SLOT) == slot for each in versions))


KIND: Final = Kind(read, WebhookHmac)
