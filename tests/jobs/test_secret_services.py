"""Webhook secrets and manual ones under the real engine: killed or cut off at every call, with services at work."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, override

import pytest

from rotation import webhook
from rotation.calendar import Every
from rotation.catalog import PENDING_SUFFIX, Entry, EntryKind, SecretPolicy
from rotation.message import SECRET_JOBS, SecretAction, SecretOrder, Trigger
from rotation.rotators import manual, webhook_hmac
from rotation.rotators.base import Rotator, Surroundings
from rotation.secret import is_confirmed
from rotation.secret_versions import GENERATION_TAG, Versions
from rotation.tasks import TaskPolicy
from rotation.webhook_secrets import ReadableSecrets, WebhookSecrets, WebhookSigner, WebhookVerifier
from shared.errors import AtpError, Rejected
from shared.secret import Secret
from shared.values import SecretPhase, SecretRotation, SecretVersion
from tests.conftest import Tally
from tests.jobs.platform import Platform, Process
from tests.simulator import Fault, Killed, SimSecretRotations, SimSecrets, World

NAME: Final = "partner"
URL: Final = "https://partner.example/hooks"
GRACE: Final = timedelta(days=7)


def policy(rotator: str, parameters: object) -> SecretPolicy:
    """The entry of the catalog; its object has another name."""
    every = Every(timedelta(days=90))
    return SecretPolicy(
        Entry(NAME, EntryKind.SECRET, "platform", every, f"{NAME}-secret", grace=GRACE), rotator, parameters
    )


def surroundings(world: World, of: SecretPolicy) -> Surroundings:
    """What the app gives its rotator."""
    own = Versions(SimSecrets(world), of.entry, world.clock)

    def dropped(generation: int) -> Secret | None:
        aside = own.aside(generation)
        return own.value_aside(aside.version) if aside else None

    def confirmed(slot: str) -> bool:
        row = SimSecretRotations(world).read(NAME)
        return row is not None and is_confirmed(row, slot)

    return Surroundings(
        secret=lambda _: pytest.fail("there is no other secret"),
        credential=None,  # type: ignore[arg-type] # nothing of Azure is asked
        entropy=os.urandom,
        clock=world.clock,
        versions=own.all,
        value=own.value,
        dropped=dropped,
        confirmed=confirmed,
    )


class Reading(ReadableSecrets):
    """The vault as a service reads it, whose faults are not those of the engine."""

    def __init__(self, world: World) -> None:
        self._world = world

    @override
    def newest(self, name: str, vault: str | None = None) -> SecretVersion | None:
        return self._versions(name)[-1][0]

    @override
    def value(self, name: str, version: str, vault: str | None = None) -> Secret:
        for each, value in self._versions(name):
            if each.version == version and each.enabled:
                return Secret(value)
        raise Rejected("there is no such version, or it is disabled")

    def _versions(self, name: str) -> list[tuple[SecretVersion, bytes]]:
        return next(versions for (_, each), versions in self._world.secrets.items() if each == name)


@dataclass
class Hooks:
    """A sender and a receiver of webhooks, each with what it read within the last minute."""

    world: World
    probe: bool
    policy: SecretPolicy = field(init=False)

    def __post_init__(self) -> None:
        parameters = webhook_hmac.Parameters((URL,), probe=self.probe, timeout_s=1, secret_bytes=32)
        self.policy = policy("webhook-hmac", parameters)
        self.world.add_secret(self.policy.entry.object, webhook.make_secret(os.urandom(32)).reveal())
        self.signer, self.verifier = WebhookSigner(self._read()), WebhookVerifier(self._read())

    def rotator(self, world: World) -> Rotator:
        """Of a new process."""

        def ask(_method: str, _url: str, headers: Mapping[str, str], body: bytes | None, _timeout_s: float) -> int:
            return world.io("target", "post", lambda: self._receive(headers, body or b""))

        return webhook_hmac.WebhookHmac(NAME, self.policy.parameters, surroundings(world, self.policy), ask)

    def work(self) -> None:
        """A message is sent, and must be accepted."""
        self.verifier.verify(self.signer.sign("msg_1", b"{}"), b"{}")

    def working(self) -> set[bytes]:
        """Which values a receiver accepts that reads the vault now."""
        accepted = set()
        for _, value in self.world.secrets[next(iter(self.world.secrets))]:
            headers = webhook.sign("msg_1", b"{}", [Secret(value)], self.world.now)
            try:
                WebhookVerifier(self._read()).verify(headers, b"{}")
            except Rejected:
                continue
            accepted.add(value)
        return accepted

    def attend(self, scene: "Scene") -> None:
        """Nobody has to do anything."""

    def _read(self) -> WebhookSecrets:
        return WebhookSecrets(
            Reading(self.world), self.policy.entry.object, None, self.world.clock, lambda: self.world.now.timestamp()
        )

    def _receive(self, headers: Mapping[str, str], body: bytes) -> int:
        try:
            self.verifier.verify(headers, body)
        except Rejected:
            return 401
        if webhook.TEST.encode() not in body:
            self.verifier.renew()
        return 204


@dataclass
class Bank:
    """A service with a desk, and a person who does what the task says."""

    world: World
    probe: bool  # whether there is a check
    policy: SecretPolicy = field(init=False)

    def __post_init__(self) -> None:
        check = manual.Check(URL, "Authorization", "Bearer {value}", (200,), (401,)) if self.probe else None
        self.policy = policy("manual", manual.Parameters(TaskPolicy("By phone.", timedelta(days=7), (1,)), check))
        self.valid: dict[str, bytes] = {}
        self.made = 0
        self.world.add_secret(self.policy.entry.object, self._make("g0"))

    def rotator(self, world: World) -> Rotator:
        """Of a new process."""

        def ask(_method: str, _url: str, headers: Mapping[str, str], _body: bytes | None, _timeout_s: float) -> int:
            value = headers["Authorization"].removeprefix("Bearer ").encode()
            return world.io("target", "get", lambda: 200 if value in self.valid.values() else 401)

        return manual.Manual(NAME, self.policy.parameters, surroundings(world, self.policy), ask)

    def work(self) -> None:
        """A consumer reads the newest version and uses it."""
        newest = self.world.secrets[next(iter(self.world.secrets))][-1][1]
        assert newest in self.valid.values()

    def working(self) -> set[bytes]:
        """What the service accepts."""
        return set(self.valid.values())

    def attend(self, scene: "Scene") -> None:
        """The person reads the task."""
        row = scene.row
        if not row.task:
            return
        if row.phase is SecretPhase.INTENDED:
            tags = {GENERATION_TAG: str(row.generation)}
            value = self._make(f"g{row.generation}")
            self.world.add_secret(self.policy.entry.object + PENDING_SUFFIX, value, tags)
        elif not row.confirmed:
            slot = row.pending_slot if row.phase is SecretPhase.ABANDONING else row.previous_slot
            self.valid.pop(slot, None)
            scene.send(SecretAction.CONFIRM, f"confirm-{scene.dropped}", generation=row.generation)

    def _make(self, slot: str) -> bytes:
        self.made += 1
        self.valid[slot] = f"value-{self.made}-of-the-bank".encode()
        return self.valid[slot]


@dataclass
class Scene(Platform):
    """One secret, its service, and the engine."""

    kind: Callable[[World, bool], Any] = Hooks
    probe: bool = True
    service: Any = field(init=False)

    def __post_init__(self) -> None:
        self.service = self.kind(self.world, self.probe)
        self.world.targets[NAME] = self.service
        super().__post_init__()
        self.plan()
        self.settle()

    @property
    def row(self) -> SecretRotation:
        """Where the secret stands."""
        return self.world.rotations[NAME]

    def plan(self) -> None:
        """The timer fires; the host fires it again after a failure."""
        for _ in range(5):
            try:
                self.process.secret_planner.run()
            except Killed:
                self.process = Process(self.world)
            except AtpError:
                continue
            else:
                return

    def send(self, action: SecretAction, request: str = "by-hand", **fields: Any) -> None:
        """An operator orders something."""
        order = SecretOrder(action, NAME, request, Trigger.MANUAL, "alice@atp", "asked for", **fields)
        self.drop(SECRET_JOBS, order.to_json())

    @override
    def settle(self, *, twice: bool = False) -> None:
        """Deliver what becomes visible within the hour: an order that waits for people comes again and again."""
        until = self.world.now + timedelta(hours=1)
        while self.world.messages:
            message = min(self.world.messages, key=lambda message: message.visible_at)
            if message.visible_at > until:
                return
            self.world.now = max(self.world.now, message.visible_at)
            self.deliver(message, twice=twice)

    def let(self, hours: int) -> None:
        """Time goes on by hours; people and services are at work."""
        for _ in range(hours):
            self.settle()
            self.service.work()
            if NAME in self.world.rotations:
                self.service.attend(self)
            self.settle()
            self.service.work()
            self.world.now += timedelta(hours=1)
            self.plan()
        self.settle()

    def until(self, phase: SecretPhase) -> None:
        """Hours pass until it is there."""
        for _ in range(12):
            if self.row.phase is phase:
                return
            self.let(1)
        raise AssertionError(f"{self.row} is not {phase}")

    def check_end(self, generation: int, *, changed: bool) -> None:
        """What consumers use works, and nothing else does."""
        self.check()
        row = self.row
        assert (row.phase, row.generation, row.task) == (SecretPhase.STEADY, generation, "")
        versions = self.world.secrets[next(iter(self.world.secrets))]
        assert self.service.working() == {versions[-1][1]}
        assert (versions[-1][1] != versions[0][1]) is changed


def rotate(scene: Scene) -> None:
    scene.send(SecretAction.ROTATE)
    scene.settle()
    scene.until(SecretPhase.GRACE)
    scene.let(3)
    assert len(scene.service.working()) == 2, "dual running"
    scene.world.now += GRACE
    scene.plan()
    scene.let(12)
    scene.check_end(1, changed=True)


def roll_back(scene: Scene) -> None:
    scene.send(SecretAction.ROTATE)
    scene.settle()
    scene.until(SecretPhase.GRACE)
    scene.send(SecretAction.ROLLBACK, generation=1)
    scene.let(2)
    scene.world.now += GRACE
    scene.plan()
    scene.let(12)
    scene.check_end(1, changed=False)


def compromised(scene: Scene) -> None:
    scene.send(SecretAction.ROTATE, compromised=True)
    scene.let(14)
    scene.check_end(1, changed=True)


def compromised_while_both_work(scene: Scene) -> None:
    scene.send(SecretAction.ROTATE)
    scene.settle()
    scene.until(SecretPhase.GRACE)
    began = scene.world.now
    scene.send(SecretAction.ROTATE, "leaked", compromised=True)
    scene.let(26)
    scene.check_end(2, changed=True)
    assert scene.world.now < began + GRACE, "it was only over when the vault's tags said so"


FLOWS: Final = (rotate, roll_back, compromised, compromised_while_both_work)
KINDS: Final = {"webhook": Hooks, "manual": Bank}


def run(kind: str, *, probe: bool, flow: Callable[[Scene], None], at: int = 0, fault: Fault | None = None) -> int:
    """The flow with one fault at that call; how many calls it made."""
    scene = Scene(kind=KINDS[kind], probe=probe)
    first = scene.world.calls
    if fault is not None:
        scene.world.faults[first + at] = fault
    flow(scene)
    return scene.world.calls - first


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("probe", [True, False], ids=["asked", "not asked"])
@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.__name__)
def test_services_work_all_through_a_rotation_that_is_hit_at_any_call(
    kind: str, probe: bool, flow: Callable[[Scene], None], tally: Tally
) -> None:
    calls = run(kind, probe=probe, flow=flow)
    for at in range(1, calls + 1):
        for fault in list(Fault)[at % 2 :: 2]:  # every call with two of the four ways, in turn
            run(kind, probe=probe, flow=flow, at=at, fault=fault)
            tally.count("rotations of webhook and manual secrets hit at a call")


@pytest.mark.parametrize("probe", [True, False], ids=["checked", "not checked"])
def test_a_manual_rotation_given_up_ends_when_the_person_has_revoked_the_new_value(probe: bool) -> None:
    scene = Scene(kind=Bank, probe=probe)
    scene.send(SecretAction.ROTATE)
    scene.settle()
    scene.service.attend(scene)
    scene.send(SecretAction.ROLLBACK, generation=1)
    scene.settle()
    assert scene.row.phase is SecretPhase.ABANDONING
    assert "revoke" in scene.row.task
    assert len(scene.service.working()) == 2
    scene.let(2)
    scene.check_end(1, changed=False)


def test_people_are_reminded_of_a_task_until_it_is_done_and_then_no_more() -> None:
    scene = Scene(kind=Bank)
    scene.send(SecretAction.ROTATE)

    def told() -> set[str]:
        return {name.removeprefix(f"secret/{NAME}/") for name in scene.world.alerts}

    def days_pass(days: int) -> None:
        scene.settle()
        scene.world.now += timedelta(days=days)
        scene.plan()

    days_pass(5)
    assert told() == {"task"}
    days_pass(1)
    assert told() == {"task", "task/g1/drop/reminder-1"}
    days_pass(1)
    assert told() == {"task", "task/g1/drop/reminder-1", "task/g1/drop/overdue"}
    scene.let(2)
    assert scene.row.phase is SecretPhase.GRACE
    assert told() == set()
    scene.world.now += GRACE
    scene.plan()
    days_pass(7)
    assert told() == {"task", "task/g1/confirm/overdue"}
    scene.let(2)
    scene.check_end(1, changed=True)
    assert told() == set()


def test_the_alert_of_a_task_names_command_and_deadline_and_after_a_rollback_the_new_value() -> None:
    scene = Scene(kind=Bank, probe=False)
    scene.send(SecretAction.ROTATE)
    scene.settle()
    (asked,) = [each for each in scene.world.alerts.values() if each.id.endswith("/task")]
    assert f"python -m rotation secret drop {NAME}" in asked.details["task"]
    assert asked.details["deadline"] == (asked.raised + timedelta(days=7)).isoformat(timespec="seconds")
    scene.service.attend(scene)
    scene.send(SecretAction.DRIVE, "dropped", generation=1)
    scene.settle()
    scene.send(SecretAction.ROLLBACK, generation=1)
    scene.settle()
    scene.world.now += GRACE
    scene.plan()
    scene.settle()
    assert scene.row.phase is SecretPhase.REVOKING
    (asked,) = [each for each in scene.world.alerts.values() if each.id.endswith("/task")]
    assert "leave the one before as it is" in asked.details["task"]
