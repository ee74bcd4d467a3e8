"""The receiver of webhooks as a process, with a vault: it takes part in a rotation, and tells apart what it gets."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from local.key_vault.client import KeyVaultProcess
from local.server_process import ServerStartError
from local.webhook_receiver.client import Counts, WebhookReceiverProcess
from local.webhook_receiver.vault import secrets_of
from rotation import webhook
from rotation.rotators.base import Credential, Notice, Surroundings
from rotation.rotators.http_request import status_of
from rotation.rotators.webhook_hmac import Parameters, WebhookHmac
from shared.clock import MovableClock
from shared.ports import Secrets
from shared.secret import Secret
from shared.values import PREVIOUS_TAG, PREVIOUS_UNTIL_TAG, SLOT_TAG

NAME = "order-hook"


@dataclass
class Scene:
    """A vault, its clock, and one receiver of what NAME signs."""

    folder: Path
    clock: MovableClock
    vault: KeyVaultProcess
    receiver: WebhookReceiverProcess
    secrets: Secrets

    def post(self, *secrets: Secret) -> int:
        """The status of the answer to a message that these have signed."""
        headers = webhook.sign(f"msg_{os.urandom(4).hex()}", b"{}", secrets, self.clock())
        return status_of("POST", self.receiver.url, headers, b"{}", 20)

    def publish(self, slot: str, value: Secret, previous: str = "", until: str = "") -> str:
        """As the engine does."""
        tags = {SLOT_TAG: slot} | ({PREVIOUS_TAG: previous, PREVIOUS_UNTIL_TAG: until} if previous else {})
        return self.secrets.put(NAME, value, tags, None).version

    def rotator(self) -> WebhookHmac:
        """One that asks the receiver."""
        around = Surroundings(
            secret=lambda _: pytest.fail("there is no other secret"),
            credential=None,  # type: ignore[arg-type] # nothing of Azure is asked
            entropy=os.urandom,
            clock=self.clock,
            versions=lambda: self.secrets.versions(NAME),
            value=lambda version: self.secrets.value(NAME, version),
        )
        return WebhookHmac(NAME, Parameters((self.receiver.url,), probe=True, timeout_s=20, secret_bytes=32), around)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """All of it, without a secret."""
    clock_file = tmp_path / "clock"
    with KeyVaultProcess.start(tmp_path / "vault", clock_file, tmp_path / "vault.log", quota=False) as vault:
        arguments = (clock_file, tmp_path / "receiver.log", vault.url, vault.ca, NAME)
        with WebhookReceiverProcess.start(tmp_path / "receiver", *arguments) as receiver:
            with secrets_of(vault.url, vault.ca) as secrets:
                yield Scene(tmp_path, MovableClock(clock_file), vault, receiver, secrets)
            with pytest.raises(ServerStartError, match="another webhook receiver serves"):
                WebhookReceiverProcess.start(tmp_path / "receiver", *arguments)


def test_a_receiver_verifies_all_through_a_rotation_and_refuses_the_old_secret_afterwards(scene: Scene) -> None:
    old, new = (Credential(slot, webhook.make_secret(os.urandom(32))) for slot in ("g1", "g2"))
    rotator = scene.rotator()
    assert scene.post(old.value) == 401, "there is no secret yet"
    first = scene.publish("g1", old.value)
    rotator.announce(Notice(NAME, 1, first, old, None, None))
    assert scene.post(old.value) == 204

    until = scene.clock() + timedelta(days=1)
    second = scene.publish("g2", new.value, first, until.isoformat())
    rotator.announce(Notice(NAME, 2, second, new, old, until))
    assert [scene.post(new.value), scene.post(old.value), scene.post(new.value, old.value)] == [204, 204, 204]
    assert rotator.test(new)

    scene.clock.move(timedelta(days=1))
    rotator.revoke(old, new)
    assert rotator.test(new)
    assert not rotator.test(Credential("g2", old.value))
    assert scene.post(new.value) == 204
    counts = scene.receiver.counts()
    assert counts.refused == 2, "the one before there was a secret, and the old one in the end"
    assert counts.unread == 0


def test_without_the_vault_a_receiver_that_has_started_says_later_and_not_no(scene: Scene) -> None:
    value = webhook.make_secret(os.urandom(32))
    scene.publish("g1", value)
    scene.vault.inject("GET /secrets/", status=503, times=None)
    assert scene.post(value) == 503
    scene.vault.clear_faults()
    assert scene.post(value) == 204
    assert scene.receiver.counts() == Counts(verified=1, refused=0, unread=1)
