"""Events of Key Vault: what is current is followed once, what is late or routine does nothing."""

import json
import logging
import random
import tracemalloc
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

import pytest

from rotation.calendar import Every
from rotation.catalog import Entry, EntryKind, RotatedBy
from rotation.expiry import Happening
from rotation.message import KEK_ORDERS, SECRET_JOBS, SecretAction, SecretOrder
from rotation.secret_versions import GENERATION_TAG, STATE_TAG
from shared.errors import AtpError, Integrity
from shared.values import ObjectKind, SecretPhase, Severity
from tests.conftest import Tally
from tests.jobs.platform import Platform, Process
from tests.jobs.secret_targets import INTERVAL, NATURES, Target
from tests.simulator import SIGNING_KEY, START, VAULT_URL, Fault, Killed, SimSecretRotations, World

DAY: Final = timedelta(days=1)
NAME: Final = "database"


@dataclass
class Scene(Platform):
    """A secret that this app rotates, a key that the vault renews, a certificate of somebody."""

    secrets: Iterable[str] = (NAME,)

    def __post_init__(self) -> None:
        world = self.world
        for name, kind, by in (
            ("ingress", EntryKind.CERTIFICATE, RotatedBy.PERSON),
            ("storage-key", EntryKind.KEY, RotatedBy.VAULT),
            (SIGNING_KEY, EntryKind.KEY, RotatedBy.VAULT),
        ):
            world.entries[name] = Entry(name, kind, "platform", Every(INTERVAL), name, rotated_by=by)
        for name in self.secrets:
            target = world.targets[name] = Target(name, NATURES["logins"])
            world.add_secret(name, target.rotator(World()).first().value.reveal(), None, START + 100 * DAY)
        super().__post_init__()

    def adopt(self) -> None:
        """The app takes the secrets over as they are."""
        self.process.secret_planner.run()
        self.settle()

    def event(self, kind: ObjectKind, name: str, happening: Happening, version: str | None = None) -> dict[str, object]:
        """What the SDK makes of an event about that version, or the newest one."""
        newest = self.world.versions(VAULT_URL, kind, name)[-1].version
        data = {"VaultName": "sim", "ObjectName ": name, "Version": f" {version or newest}"}
        return {"event_type": f"Microsoft.KeyVault.{kind.capitalize()}{happening}", "data": data}

    def tell(self, kind: ObjectKind, name: str, happening: Happening, version: str | None = None) -> None:
        """Event Grid delivers the event, again and again until it was handled."""
        envelope = self.event(kind, name, happening, version)
        for _ in range(5):
            try:
                self.process.expiry.handle(envelope)
            except Killed:
                self.process = Process(self.world)
            except AtpError:
                continue
            else:
                return

    def orders(self) -> list[str]:
        """What waits to be done for secrets."""
        messages = [message for message in self.world.messages if message.queue == SECRET_JOBS]
        return [SecretOrder.parse(message.body.encode(), message.id).id for message in messages]

    def open(self) -> dict[str, str]:
        """The open alerts, by what they are about and what they say."""
        return {alert_id: alert.what for alert_id, alert in self.world.alerts.items()}


@pytest.fixture
def scene() -> Scene:
    scene = Scene()
    scene.adopt()
    return scene


def test_a_secret_near_its_expiry_is_alerted_rotated_and_then_the_alert_is_over(scene: Scene) -> None:
    scene.world.now += 71 * DAY
    scene.tell(ObjectKind.SECRET, NAME, Happening.NEAR_EXPIRY)
    assert scene.orders() == [f"{SecretAction.ROTATE}/{NAME}/g1"]
    ((alert_id, what),) = scene.open().items()
    assert (alert_id.rpartition("/")[0], what) == ("expiry/secret/database", "an object in the vault expires soon")

    scene.settle()
    assert scene.world.rotations[NAME].generation == 1
    scene.tell(ObjectKind.SECRET, NAME, Happening.NEW_VERSION)
    assert scene.open() == {}
    assert scene.orders() == []


def test_an_event_that_comes_again_or_too_late_does_nothing(scene: Scene) -> None:
    scene.world.now += 71 * DAY
    old = scene.world.versions(VAULT_URL, ObjectKind.SECRET, NAME)[-1].version
    for _ in range(3):
        scene.tell(ObjectKind.SECRET, NAME, Happening.NEAR_EXPIRY)
    assert len(scene.orders()) == 1
    scene.settle()
    scene.tell(ObjectKind.SECRET, NAME, Happening.NEW_VERSION)
    for happening in Happening:
        scene.tell(ObjectKind.SECRET, NAME, happening, version=old)
    assert (scene.orders(), scene.open()) == ([], {})
    assert scene.world.rotations[NAME].generation == 1


def test_a_rotation_that_was_refused_is_not_begun_again_by_the_same_event_within_the_hour(scene: Scene) -> None:
    scene.world.now += 71 * DAY
    scene.world.targets[NAME].refuses = True
    scene.tell(ObjectKind.SECRET, NAME, Happening.NEAR_EXPIRY)
    scene.settle()
    assert scene.world.rotations[NAME].generation == 1
    scene.tell(ObjectKind.SECRET, NAME, Happening.NEAR_EXPIRY)
    assert scene.orders() == []
    scene.world.now += timedelta(hours=2)
    scene.tell(ObjectKind.SECRET, NAME, Happening.NEAR_EXPIRY)
    assert scene.orders() == [f"{SecretAction.ROTATE}/{NAME}/g2"]


def test_an_object_that_the_app_does_not_rotate_is_alerted_until_it_has_a_newer_version(scene: Scene) -> None:
    for kind, name in ((ObjectKind.KEY, "storage-key"), (ObjectKind.CERTIFICATE, "ingress")):
        scene.world.add_object(kind, name, expires=scene.world.now + 30 * DAY)
        scene.tell(kind, name, Happening.NEAR_EXPIRY)
        (alert,) = scene.world.alerts.values()
        assert (alert.severity, alert.owner) == (Severity.WARNING, "platform")
        scene.world.now += 30 * DAY
        scene.tell(kind, name, Happening.EXPIRED)
        (alert,) = scene.world.alerts.values()
        assert (alert.severity, alert.what) == (Severity.CRITICAL, "an object in the vault has expired")
        scene.world.add_object(kind, name, expires=scene.world.now + 90 * DAY)
        scene.tell(kind, name, Happening.NEW_VERSION)
        assert scene.open() == {}
    assert scene.orders() == []


def test_a_version_that_somebody_else_has_made_is_alerted_and_taken_over(scene: Scene) -> None:
    made = scene.world.add_secret(NAME, b"made by hand")
    scene.world.targets[NAME].accepted["made by hand"] = b"made by hand"
    scene.tell(ObjectKind.SECRET, NAME, Happening.NEW_VERSION)
    (what,) = scene.open().values()
    assert what == "somebody else has changed a secret that this app rotates"
    scene.settle()
    assert scene.world.rotations[NAME].current == made.version
    scene.tell(ObjectKind.SECRET, NAME, Happening.NEW_VERSION)
    assert scene.orders() == []


def test_versions_that_a_rotation_makes_are_routine_whenever_their_events_come(scene: Scene) -> None:
    scene.world.now += INTERVAL
    scene.process.secret_planner.run()
    scene.settle()
    assert scene.world.rotations[NAME].phase is SecretPhase.GRACE
    # Published, and not on record yet.
    scene.world.rotations[NAME] = replace(scene.world.rotations[NAME], current="f" * 32)
    assert STATE_TAG in scene.world.versions(VAULT_URL, ObjectKind.SECRET, NAME)[-1].tags
    scene.tell(ObjectKind.SECRET, NAME, Happening.NEW_VERSION)
    scene.tell(ObjectKind.SECRET, f"{NAME}-pending", Happening.NEW_VERSION)
    assert (scene.orders(), scene.open()) == ([], {})


def test_tags_that_somebody_has_copied_from_a_version_of_ours_do_not_hide_another_value(scene: Scene) -> None:
    scene.world.now += INTERVAL
    scene.process.secret_planner.run()
    scene.settle()
    scene.world.now += DAY
    newest = scene.world.versions(VAULT_URL, ObjectKind.SECRET, NAME)[-1]
    for tags in (newest.tags, {**newest.tags, GENERATION_TAG: "2"}, {STATE_TAG: "current"}):
        made = scene.world.add_secret(NAME, b"made by hand", tags, newest.expires)
        scene.tell(ObjectKind.SECRET, NAME, Happening.NEW_VERSION)
        assert scene.open() == {
            f"foreign/secret/{NAME}/{made.version}": "somebody else has changed a secret that this app rotates"
        }
        scene.world.alerts.clear()
        scene.world.alert_rows.clear()
        scene.process.scan.run()
        assert f"foreign/secret/{NAME}/{made.version}" in scene.open()
        scene.world.alerts.clear()
        scene.world.alert_rows.clear()
        scene.world.secrets[VAULT_URL, NAME].pop()


def test_the_expiry_of_an_object_that_the_catalog_does_not_know_is_told_by_its_event(scene: Scene) -> None:
    scene.world.add_object(ObjectKind.SECRET, "somebody-elses", expires=scene.world.now + 30 * DAY)
    scene.tell(ObjectKind.SECRET, "somebody-elses", Happening.NEAR_EXPIRY, version="0" * 32)
    assert not any(each.startswith("expiry/") for each in scene.open())
    scene.tell(ObjectKind.SECRET, "somebody-elses", Happening.NEAR_EXPIRY)
    (alert_id,) = (each for each in scene.open() if each.startswith("expiry/"))
    assert alert_id.endswith("/secret/somebody-elses")
    assert scene.open()[alert_id] == "an object in the vault expires soon"


def test_an_object_that_the_catalog_does_not_know_is_recorded_and_alerted_once(scene: Scene) -> None:
    scene.world.add_object(ObjectKind.SECRET, "somebody-elses")
    for happening in (*Happening, *Happening):
        scene.tell(ObjectKind.SECRET, "somebody-elses", happening)
    assert list(scene.open().values()) == ["Key Vault has an object that the catalog does not know"]
    assert len(scene.world.alert_rows) == 1
    recorded = [record for records in scene.world.streams.values() for record in records]
    unknown = [fields for fields in (json.loads(each.canonical) for each in recorded) if "object" in fields["action"]]
    assert [(fields["action"], fields["subject"]) for fields in unknown] == [
        ("object.unknown", "secret/somebody-elses")
    ]


def test_key_and_secret_of_a_certificate_are_no_objects_of_their_own(scene: Scene) -> None:
    scene.world.add_object(ObjectKind.CERTIFICATE, "ingress")
    for kind in (ObjectKind.KEY, ObjectKind.SECRET):
        scene.tell(kind, "ingress", Happening.NEW_VERSION)
    assert scene.open() == {}


def test_a_new_version_of_the_kek_is_rotated_to_and_its_old_one_stays_watched_while_it_is_in_use(scene: Scene) -> None:
    scene.add_tenant("acme")
    old = next(iter(scene.world.keks))
    scene.world.keks[old] = replace(scene.world.keks[old], expires=scene.world.now + 20 * DAY)
    scene.tell(ObjectKind.KEY, "master-kek", Happening.NEAR_EXPIRY)
    scene.world.add_kek(expires=scene.world.now + 700 * DAY)
    scene.tell(ObjectKind.KEY, "master-kek", Happening.NEW_VERSION)
    assert [message.queue for message in scene.world.messages] == [KEK_ORDERS]
    scene.tell(ObjectKind.KEY, "master-kek", Happening.NEAR_EXPIRY, version=old.rpartition("/")[2])
    assert list(scene.open().values()) == ["an object in the vault expires soon"]


def test_a_new_version_of_the_signing_key_is_told_for_the_auditors(scene: Scene) -> None:
    scene.world.add_object(ObjectKind.KEY, SIGNING_KEY.upper())  # names that differ in case only are one name
    for name in (SIGNING_KEY, SIGNING_KEY.upper()):
        scene.tell(ObjectKind.KEY, name, Happening.NEW_VERSION)
    assert list(scene.open().values()) == ["the audit signing key has a new version: tell the auditors"]


@pytest.mark.parametrize(
    "envelope",
    [
        {},
        {"event_type": "Microsoft.Storage.BlobCreated", "data": {}},
        {"type": "Microsoft.KeyVault.KeyExpired", "data": "text"},
        {
            "type": "Microsoft.KeyVault.KeyExpired",
            "data": {"VaultName": "strange", "ObjectName": "master-kek", "Version": "1"},
        },
        {
            "type": "Microsoft.KeyVault.KeyExpired",
            "data": {"VaultName": "sim", "ObjectName": "deleted", "Version": "1"},
        },
    ],
)
def test_an_event_that_can_never_be_handled_ends_at_once(scene: Scene, envelope: dict[str, object]) -> None:
    scene.process.expiry.handle(envelope)
    assert (scene.orders(), scene.open()) == ([], {})


def test_an_event_that_meets_what_cannot_be_right_is_refused_with_its_reason(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def damaged(self: object, name: str) -> None:
        raise Integrity("a row cannot be right", secret=name)

    monkeypatch.setattr(SimSecretRotations, "read", damaged)
    scene.process.expiry.handle(scene.event(ObjectKind.SECRET, NAME, Happening.NEAR_EXPIRY))
    assert "event refused" in caplog.messages
    assert any(getattr(record, "because", "").startswith("a row cannot be right") for record in caplog.records)


@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.name.lower())
@pytest.mark.parametrize("happening", [Happening.NEAR_EXPIRY, Happening.NEW_VERSION])
def test_an_event_survives_a_fault_at_every_call(happening: Happening, fault: Fault) -> None:
    def run(at: int | None) -> tuple[int, dict[str, str], set[str]]:
        scene = Scene()
        scene.adopt()
        scene.world.now += 71 * DAY
        if happening is Happening.NEW_VERSION:
            scene.tell(ObjectKind.SECRET, NAME, Happening.NEAR_EXPIRY)
            scene.world.messages.clear()
            scene.world.add_secret(NAME, b"by hand")
        before = scene.world.calls
        if at is not None:
            scene.world.faults[before + at] = fault
        scene.tell(ObjectKind.SECRET, NAME, happening)
        assert not scene.world.faults
        return scene.world.calls - before, scene.open(), set(scene.orders())

    calls, *expected = run(None)
    assert calls > 3
    for at in range(1, calls + 1):
        _, *found = run(at)
        assert found == expected, at


def test_ten_thousand_events_half_of_them_repeated_order_every_rotation_once(
    caplog: pytest.LogCaptureFixture, tally: Tally
) -> None:
    caplog.set_level(logging.CRITICAL)
    names = [f"secret-{number:04d}" for number in range(1250)]
    scene = Scene(secrets=names)
    scene.world.now += 71 * DAY
    for number in range(1250):
        scene.world.add_object(ObjectKind.KEY, "storage-key", expires=scene.world.now + (100 + number) * DAY)
    stale = [each.version for each in scene.world.versions(VAULT_URL, ObjectKind.KEY, "storage-key")]
    events = [
        event
        for name, version in zip(names, stale, strict=True)
        for event in (
            scene.event(ObjectKind.SECRET, name, Happening.NEAR_EXPIRY),
            scene.event(ObjectKind.SECRET, name, Happening.EXPIRED),
            scene.event(ObjectKind.SECRET, name, Happening.NEW_VERSION),
            scene.event(ObjectKind.KEY, "storage-key", Happening.NEAR_EXPIRY, version),
        )
    ]
    events *= 2
    assert len(events) == 10_000
    random.Random(7).shuffle(events)

    tracemalloc.start()
    for event in events:
        scene.process.expiry.handle(event)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sorted(scene.orders()) == [f"{SecretAction.ROTATE}/{name}/g1" for name in names]
    assert peak < 64 * 1024 * 1024
    alerts = scene.open()
    assert len(alerts) == len(names)
    assert set(alerts.values()) == {"an object in the vault expires soon"}
    tally.count("events of a storm, half of them duplicates, shuffled", len(events))
    tally.count("rotations that the storm has ordered, each once", len(names))
