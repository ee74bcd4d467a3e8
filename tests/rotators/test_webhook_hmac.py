"""Webhook secrets: the contract of all rotators, what receivers are told, and what is asked of them."""

import itertools
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, override

import pytest

from rotation import webhook
from rotation.fields import Fields
from rotation.rotators.base import Change, Credential, Notice, Place, Rotator, Surroundings
from rotation.rotators.registry import ROTATORS
from rotation.rotators.webhook_hmac import MOST_RECEIVERS, Parameters, WebhookHmac, read
from rotation.webhook_secrets import KEPT_S, WebhookSecrets, WebhookVerifier
from shared.errors import Rejected, Transient
from shared.secret import Secret
from shared.values import SLOT_TAG
from tests.pure.published import Published
from tests.rotators.contract import Bench, RotatorContract

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
DAY = timedelta(days=1)
FIRST, SECOND = "https://first.example/hooks", "https://second.example/hooks"


@dataclass
class Receiver:
    """A service that verifies what it gets, with what it reads from the vault."""

    vault: Published
    answer: int | None = None  # to everything; 0: none at all
    messages: list[tuple[Mapping[str, str], bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        minutes = itertools.count()
        self._secrets = WebhookSecrets(self.vault, "hook", None, lambda: NOW, lambda: next(minutes) * KEPT_S)

    def take(self, headers: Mapping[str, str], body: bytes) -> int:
        """The status that it answers."""
        self.messages.append((headers, body))
        if self.answer == 0:
            raise Transient("no answer over HTTP", cause="ConnectionError")
        if self.answer is not None:
            return self.answer
        try:
            WebhookVerifier(self._secrets).verify(headers, body)
        except Rejected:
            return 401
        return 204

    def accepts(self, value: Secret) -> bool:
        """Whether it accepts a message that only that value has signed."""
        return self.take(webhook.sign("msg_1", b"{}", [value], NOW), b"{}") == 204


class Engined(WebhookHmac):
    """With what the engine does at the vault before it calls these methods."""

    def __init__(self, vault: Published, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._vault = vault

    @override
    def announce(self, notice: Notice) -> None:
        if not self._is_newest(notice.current):
            self._vault.publish(notice.current.slot, notice.current.value, notice.previous_until)
        super().announce(notice)

    @override
    def revoke(self, old: Credential, current: Credential) -> None:
        if not self._is_newest(current):  # rolled back
            self._vault.publish(current.slot, current.value, None)
        self._vault.end_dual_running()
        super().revoke(old, current)

    def _is_newest(self, credential: Credential) -> bool:
        newest = self._vault.newest("hook")
        return newest is not None and newest.tags[SLOT_TAG] == credential.slot


class WebhookBench(Bench):
    """The vault, and one receiver that reads it."""

    def __init__(self, *, probe: bool) -> None:
        super().__init__()
        self._parameters = Parameters((FIRST,), probe=probe, timeout_s=1, secret_bytes=32)
        self.clear()

    @override
    def clear(self) -> None:
        self.vault = Published()
        self.receiver = Receiver(self.vault)

    @override
    def rotator(self) -> Rotator:
        return Engined(self.vault, "hook", self._parameters, self._around(), self._ask)

    @override
    def unreachable(self) -> Rotator:
        around = self._around()
        away = Published()
        away.failure = Transient("no answer")
        return WebhookHmac(
            "hook",
            self._parameters,
            Surroundings(
                around.secret, around.credential, os.urandom, around.clock, None, away.versions, away.value_of
            ),
            self._ask,
        )

    @override
    def adopt(self) -> Secret:
        self.clear()
        value = webhook.make_secret(os.urandom(24))
        self.vault.publish("g0", value, None)
        return value

    @override
    def wrong(self) -> Secret:
        return webhook.make_secret(os.urandom(32))

    @override
    def working(self) -> set[bytes]:
        published = [self.vault.stored(each.version) for each in self.vault.versions()]
        return {value.reveal() for value in published if self.receiver.accepts(value)}

    def _around(self) -> Surroundings:
        return Surroundings(
            secret=lambda _: pytest.fail("there is no other secret"),
            credential=None,  # type: ignore[arg-type] # nothing of Azure is asked
            entropy=os.urandom,
            clock=lambda: NOW,
            versions=lambda: self.faults.around(self.vault.versions),
            value=lambda version: self.faults.around(lambda: self.vault.value_of(version)),
        )

    def _ask(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, _timeout_s: float) -> int:
        assert (method, url) == ("POST", FIRST)
        return self.faults.around(lambda: self.receiver.take(headers, body or b""))


class WebhookContract(RotatorContract):
    """What differs: nothing is installed, and who does not hear of a revocation still finds it in the vault."""

    def test_a_target_that_does_not_answer_is_no_refusal(  # type: ignore[override]
        self, bench: WebhookBench
    ) -> None:
        value = bench.adopt()
        with pytest.raises(Transient):
            bench.unreachable().test(Credential("g0", value))
        assert bench.working() == {value.reveal()}


class TestWhereTheVaultIsAsked(WebhookContract):
    @pytest.fixture
    def bench(self) -> Iterator[Bench]:
        yield WebhookBench(probe=False)


class TestWhereTheReceiversAreAsked(WebhookContract):
    @pytest.fixture
    def bench(self) -> Iterator[Bench]:
        yield WebhookBench(probe=True)


class Scene:
    """One secret in the vault, two receivers, and what the rotator sends them."""

    def __init__(self, *, probe: bool = True, until: datetime = NOW + DAY) -> None:
        self.vault = Published()
        self.receivers = {FIRST: Receiver(self.vault), SECOND: Receiver(self.vault)}
        self.old, self.new = (
            Credential(slot, webhook.make_secret(bytes(range(first, first + 32))))
            for slot, first in (("g1", 0), ("g2", 1))
        )
        self.vault.publish("g1", self.old.value, None)
        self.version = self.vault.publish("g2", self.new.value, until)
        around = Surroundings(
            secret=lambda _: pytest.fail("there is no other secret"),
            credential=None,  # type: ignore[arg-type] # nothing of Azure is asked
            entropy=os.urandom,
            clock=lambda: NOW,
            versions=self.vault.versions,
            value=self.vault.value_of,
        )
        parameters = Parameters((FIRST, SECOND), probe=probe, timeout_s=1, secret_bytes=24)
        self.rotator = WebhookHmac("hook", parameters, around, self._ask)
        self.notice = Notice("hook", 2, self.version, self.new, self.old, until)

    def _ask(self, _method: str, url: str, headers: Mapping[str, str], body: bytes | None, _timeout_s: float) -> int:
        return self.receivers[url].take(headers, body or b"")


def test_receivers_are_told_of_a_new_secret_and_not_what_it_is() -> None:
    scene = Scene()
    scene.rotator.announce(scene.notice)
    for receiver in scene.receivers.values():
        ((headers, body),) = receiver.messages
        assert json.loads(body) == {
            "type": "secret.rotated",
            "data": {
                "name": "hook",
                "generation": 2,
                "version": scene.version,
                "previousUntil": "2026-11-22T12:00:00+00:00",
            },
        }
        assert headers["Content-Type"] == "application/json"
        for one in (scene.old.value, scene.new.value):
            webhook.verify(headers, body, [one], NOW)


def test_a_notice_that_is_repeated_has_the_same_id_and_one_of_another_version_has_not() -> None:
    scene = Scene()
    scene.rotator.announce(scene.notice)
    scene.rotator.announce(scene.notice)
    scene.rotator.announce(Notice("hook", 2, "f" * 32, scene.old, scene.new, NOW + DAY))
    ids = [headers[webhook.ID] for headers, _ in scene.receivers[FIRST].messages]
    assert ids[0] == ids[1] != ids[2]


def test_receivers_are_told_of_a_revocation_by_the_secret_that_stays() -> None:
    scene = Scene()
    scene.rotator.revoke(scene.old, scene.new)
    ((headers, body),) = scene.receivers[SECOND].messages
    assert json.loads(body) == {"type": "secret.revoked", "data": {"name": "hook"}}
    webhook.verify(headers, body, [scene.new.value], NOW)
    with pytest.raises(Rejected):
        webhook.verify(headers, body, [scene.old.value], NOW)


@pytest.mark.parametrize("answer", [0, 302, 401, 404, 503])
def test_a_notice_is_given_again_while_a_receiver_has_not_taken_it_and_the_others_get_theirs(answer: int) -> None:
    scene = Scene()
    scene.receivers[FIRST].answer = answer
    with pytest.raises(Transient) as caught:
        scene.rotator.announce(scene.notice)
    assert caught.value.fields["missed"] == {"first.example": answer}
    assert len(scene.receivers[SECOND].messages) == 1


def test_a_receiver_that_is_away_delays_no_revocation() -> None:
    scene = Scene(until=NOW)
    scene.receivers[FIRST].answer = 0
    scene.rotator.announce(scene.notice)
    scene.rotator.revoke(scene.old, scene.new)
    assert len(scene.receivers[SECOND].messages) == 2


def test_a_new_secret_is_only_looked_at_before_it_is_published() -> None:
    scene = Scene()
    change = Change("hook", 3, Place("g3"), scene.new)
    made = scene.rotator.obtain(change)
    assert len(made.value.reveal()) == len("whsec_") + 32
    assert scene.rotator.install(change, made)
    assert scene.rotator.test(made)
    assert not scene.rotator.test(Credential("g3", Secret(b"whsec_" + b"short")))
    assert not [receiver for receiver in scene.receivers.values() if receiver.messages]


# What the two receivers answer to a message that one secret has signed, and what that means.
ANSWERS: dict[tuple[int, int], bool | None] = {
    (204, 200): True,
    (401, 403): False,
    (204, 401): None,
    (204, 0): None,
    (401, 0): None,
    (401, 503): None,
    (204, 302): None,
    (404, 404): None,
}


@pytest.mark.parametrize(("answers", "meaning"), ANSWERS.items(), ids=str)
def test_a_secret_works_if_all_receivers_accept_it_and_fails_if_all_refuse_it(
    answers: tuple[int, int], meaning: bool | None
) -> None:
    scene = Scene()
    for receiver, answer in zip(scene.receivers.values(), answers, strict=True):
        receiver.answer = answer
    if meaning is None:
        with pytest.raises(Transient):
            scene.rotator.test(scene.new)
    else:
        assert scene.rotator.test(scene.new) is meaning
    for receiver in scene.receivers.values():
        ((headers, body),) = receiver.messages
        assert json.loads(body) == {"type": "secret.test"}
        webhook.verify(headers, body, [scene.new.value], NOW)


def test_receivers_that_refuse_nothing_are_not_asked() -> None:
    scene = Scene(probe=False)
    assert scene.rotator.test(scene.new)
    assert scene.rotator.test(scene.old)
    scene.vault.end_dual_running()
    assert scene.rotator.test(scene.new)
    assert not scene.rotator.test(scene.old)
    assert not [receiver for receiver in scene.receivers.values() if receiver.messages]


def test_a_previous_version_that_is_disabled_fails() -> None:
    scene = Scene(probe=False)
    scene.vault.disable(scene.vault.versions()[0].version)
    assert not scene.rotator.test(scene.old)


def test_a_secret_made_by_hand_fails_when_the_vault_gives_another_though_its_version_has_no_tags() -> None:
    scene = Scene(probe=False)
    value = webhook.make_secret(os.urandom(32))
    scene.vault.put(value, {})
    credential = Credential(scene.rotator.locate(value), value)
    assert scene.rotator.test(credential)
    scene.vault.publish("g3", webhook.make_secret(os.urandom(32)), NOW)
    assert not scene.rotator.test(credential)


def parsed(table: dict[str, object]) -> tuple[Parameters, list[str]]:
    """What the catalog makes of an entry's parameters."""
    mistakes: list[str] = []
    fields = Fields("[hook] parameters:", table, mistakes)
    parameters = read(fields)
    fields.finish()
    return parameters, mistakes


def test_nothing_need_be_said_of_a_webhook_secret() -> None:
    nothing = Parameters((), probe=False, timeout_s=15, secret_bytes=32)
    assert ROTATORS["webhook-hmac"].read(Fields("", {}, [])) == nothing
    assert parsed({}) == (nothing, [])


RECEIVERS = ["https://a.example/hooks", "http://127.0.0.1:8080/", "http://localhost", "https://b.example:8443"]
WRONG: dict[str, tuple[dict[str, object], str]] = {
    "http elsewhere": ({"receivers": ["http://a.example"]}, "receivers:"),
    "another scheme": ({"receivers": ["ftp://a.example"]}, "receivers:"),
    "a password": ({"receivers": ["https://u:" + "p@a.example"]}, "receivers:"),
    "a query": ({"receivers": ["https://a.example/?q=1"]}, "receivers:"),
    "loopback in front of another host": ({"receivers": ["http://localhost.example"]}, "receivers:"),
    "twice the same": ({"receivers": ["https://a.example"] * 2}, "twice"),
    "one host twice": ({"receivers": ["https://a.example/1", "https://a.example/2"]}, "same host"),
    "too many": ({"receivers": [f"https://{n}.example" for n in range(MOST_RECEIVERS + 1)]}, "more than 16"),
    "nobody to ask": ({"probe": True}, "no receivers to ask"),
    "a secret too short": ({"secret_bytes": 23}, "secret_bytes:"),
    "a secret too long": ({"secret_bytes": 65}, "secret_bytes:"),
    "no time": ({"timeout_s": 0}, "timeout_s:"),
    "a misspelt field": ({"reciever": []}, "unknown field"),
}


def test_receivers_may_be_anywhere_by_https_and_here_by_http() -> None:
    parameters, mistakes = parsed({"receivers": RECEIVERS, "probe": True})
    assert mistakes == []
    assert parameters.receivers == tuple(RECEIVERS)


@pytest.mark.parametrize(("table", "reason"), WRONG.values(), ids=list(WRONG))
def test_a_mistake_in_the_catalog_is_told(table: dict[str, object], reason: str) -> None:
    (mistake,) = parsed(table)[1]
    assert reason in mistake
