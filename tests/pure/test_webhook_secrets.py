"""What senders and receivers of webhooks read from the vault, how long they keep it, and what they do without it."""

import threading
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest

from rotation import webhook
from rotation.webhook import SIGNATURE, make_secret
from rotation.webhook_secrets import KEPT_S, PAUSE_S, WebhookSecrets, WebhookSigner, WebhookVerifier
from shared.errors import Rejected, Transient
from shared.secret import Secret
from tests.pure.keyrings import NOW
from tests.pure.published import Published

OLD, NEW, STRANGE = (make_secret(bytes(range(first, first + 32))) for first in (0, 1, 2))
DAY = timedelta(days=1)
BODY = b'{"type":"order.paid"}'


@dataclass
class Scene:
    """A vault, and time that a test moves."""

    vault: Published = field(default_factory=Published)
    seconds: float = 0.0
    suspended: timedelta = timedelta()  # time that passed while nothing of the machine went on

    @property
    def now(self) -> datetime:
        """The time."""
        return NOW + self.suspended + timedelta(seconds=self.seconds)

    def secrets(self) -> WebhookSecrets:
        """Those of a service that has just started."""
        return WebhookSecrets(self.vault, "hook", None, lambda: self.now, lambda: self.seconds)

    def signed_by(self, *secrets: Secret) -> dict[str, str]:
        """Headers of a message that somebody sends now."""
        return webhook.sign("msg_1", BODY, secrets, self.now)


@pytest.fixture
def scene() -> Scene:
    """With one secret in the vault."""
    scene = Scene()
    scene.vault.publish("g1", OLD, None)
    return scene


def refuses(verifier: WebhookVerifier, headers: dict[str, str]) -> bool:
    """Whether it does."""
    try:
        verifier.verify(headers, BODY)
    except Rejected:
        return True
    return False


def test_a_sender_signs_with_the_current_secret(scene: Scene) -> None:
    headers = WebhookSigner(scene.secrets()).sign("msg_1", BODY)
    assert headers == scene.signed_by(OLD)


def test_during_dual_running_a_sender_signs_with_both_and_afterwards_with_one(scene: Scene) -> None:
    scene.vault.publish("g2", NEW, scene.now + timedelta(seconds=30))
    signer = WebhookSigner(scene.secrets())
    assert signer.sign("msg_1", BODY) == scene.signed_by(NEW, OLD)
    scene.seconds = 29
    assert signer.sign("msg_1", BODY) == scene.signed_by(NEW, OLD)
    scene.seconds = 30
    assert signer.sign("msg_1", BODY) == scene.signed_by(NEW)
    assert scene.vault.calls == 3, "the end of dual running is known without asking again"


def test_a_previous_version_that_is_disabled_is_not_signed_with(scene: Scene) -> None:
    scene.vault.publish("g2", NEW, scene.now + DAY)
    scene.vault.disable(scene.vault.versions()[0].version)
    assert WebhookSigner(scene.secrets()).sign("msg_1", BODY) == scene.signed_by(NEW)


def test_what_was_read_is_kept_for_a_minute(scene: Scene) -> None:
    signer = WebhookSigner(scene.secrets())
    signer.sign("msg_1", BODY)
    scene.vault.publish("g2", NEW, None)
    calls = scene.vault.calls
    scene.seconds = KEPT_S - 1
    assert signer.sign("msg_1", BODY) == scene.signed_by(OLD)
    assert scene.vault.calls == calls
    scene.seconds = KEPT_S
    assert signer.sign("msg_1", BODY) == scene.signed_by(NEW)


def test_what_was_read_before_a_machine_was_suspended_is_read_again_at_once(scene: Scene) -> None:
    signer, verifier = WebhookSigner(scene.secrets()), WebhookVerifier(scene.secrets())
    verifier.verify(signer.sign("msg_1", BODY), BODY)
    scene.vault.publish("g2", NEW, scene.now + DAY)
    scene.suspended = 2 * DAY
    assert signer.sign("msg_1", BODY) == scene.signed_by(NEW)
    assert refuses(verifier, scene.signed_by(OLD))


def test_without_the_vault_a_sender_goes_on_with_what_it_has_and_leaves_the_vault_alone(scene: Scene) -> None:
    signer = WebhookSigner(scene.secrets())
    signer.sign("msg_1", BODY)
    scene.vault.failure = Transient("no answer")
    scene.vault.calls = 0
    scene.seconds = KEPT_S
    for _ in range(10):
        assert signer.sign("msg_1", BODY) == scene.signed_by(OLD)
    assert scene.vault.calls == 1
    scene.seconds += PAUSE_S
    scene.vault.failure = None
    scene.vault.publish("g2", NEW, None)
    assert signer.sign("msg_1", BODY) == scene.signed_by(NEW)


def test_a_service_that_has_never_reached_the_vault_signs_nothing_and_can_later(scene: Scene) -> None:
    signer = WebhookSigner(scene.secrets())
    scene.vault.failure = Transient("no answer")
    for _ in range(2):
        with pytest.raises(Transient):
            signer.sign("msg_1", BODY)
    scene.vault.failure = None
    assert signer.sign("msg_1", BODY)[SIGNATURE]


def test_a_secret_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(Rejected) as caught:
        WebhookSigner(Scene().secrets()).sign("msg_1", BODY)
    assert caught.value.fields == {"entry": "hook"}


def test_a_refusal_of_the_vault_is_not_covered_by_what_was_read_before(scene: Scene) -> None:
    signer = WebhookSigner(scene.secrets())
    signer.sign("msg_1", BODY)
    scene.vault.disable(scene.vault.versions()[0].version)
    scene.seconds = KEPT_S
    for _ in range(2):
        with pytest.raises(Rejected):
            signer.sign("msg_1", BODY)


def test_who_comes_while_another_one_asks_the_vault_goes_on_with_what_there_is(scene: Scene) -> None:
    secrets = scene.secrets()
    secrets.valid()
    entered, let_go = threading.Event(), threading.Event()
    ask = scene.vault.newest

    def hanging(name: str, vault: str | None = None) -> object:
        entered.set()
        assert let_go.wait(20)
        return ask(name, vault)

    scene.vault.newest = hanging  # type: ignore[method-assign,assignment]
    scene.seconds = KEPT_S
    asking = threading.Thread(target=secrets.valid)
    asking.start()
    assert entered.wait(20)
    assert secrets.valid() == (OLD,)
    let_go.set()
    asking.join(20)
    assert not asking.is_alive()


def test_a_change_that_is_told_of_while_the_vault_answers_is_read_afterwards(scene: Scene) -> None:
    secrets = scene.secrets()
    ask = scene.vault.value

    def told_meanwhile(name: str, version: str, vault: str | None = None) -> Secret:
        value = ask(name, version, vault)
        scene.vault.value = ask  # type: ignore[method-assign]
        scene.vault.publish("g2", NEW, None)
        secrets.renew()
        return value

    scene.vault.value = told_meanwhile  # type: ignore[method-assign]
    assert secrets.valid() == (OLD,)
    assert secrets.valid() == (NEW,)


def test_a_receiver_accepts_the_current_and_the_previous_secret_and_no_other(scene: Scene) -> None:
    scene.vault.publish("g2", NEW, scene.now + DAY)
    verifier = WebhookVerifier(scene.secrets())
    verifier.verify(scene.signed_by(NEW), BODY)
    verifier.verify(scene.signed_by(OLD), BODY)
    assert refuses(verifier, scene.signed_by(STRANGE))


def test_a_receiver_that_nobody_has_told_reads_the_new_secret_when_it_meets_it(scene: Scene) -> None:
    verifier = WebhookVerifier(scene.secrets())
    verifier.verify(scene.signed_by(OLD), BODY)
    scene.vault.publish("g2", NEW, None)
    scene.seconds = PAUSE_S
    verifier.verify(scene.signed_by(NEW), BODY)


def test_a_receiver_that_was_told_refuses_the_old_secret_at_once(scene: Scene) -> None:
    verifier = WebhookVerifier(scene.secrets())
    verifier.verify(scene.signed_by(OLD), BODY)
    scene.vault.publish("g2", NEW, None)
    verifier.renew()
    assert refuses(verifier, scene.signed_by(OLD))


def test_messages_that_do_not_verify_do_not_keep_the_vault_busy(scene: Scene) -> None:
    verifier = WebhookVerifier(scene.secrets())
    for _ in range(100):
        assert refuses(verifier, scene.signed_by(STRANGE))
    assert scene.vault.calls == 2
    scene.seconds = PAUSE_S
    assert refuses(verifier, scene.signed_by(STRANGE))
    assert scene.vault.calls == 4
