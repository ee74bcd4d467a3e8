"""The daily scan: it finds what no event told, tells it once and more urgently, and survives a fault at every call."""

import random
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final, override

import pytest

from rotation.alerting import DEFAULT_OWNER
from rotation.audit_job import AuditTrail
from rotation.calendar import Every
from rotation.catalog import Catalog, Entry, EntryKind, RotatedBy
from rotation.expiry import Happening
from rotation.expiry_job import Overview
from rotation.message import SecretAction
from rotation.scan_job import VaultScan
from rotation.secret_planner_job import SecretPlanner
from shared.errors import AtpError, Integrity, Rejected, Transient
from shared.values import ObjectKind, Severity, VaultObject
from tests.conftest import Tally
from tests.jobs.platform import POLICY, Process
from tests.jobs.test_expiry_job import DAY, NAME
from tests.jobs.test_expiry_job import Scene as EventScene
from tests.simulator import (
    OTHER_VAULT_URL,
    SIGNING_KEY,
    VAULT_URL,
    Fault,
    Killed,
    SimAlertRegister,
    SimAlerts,
    SimKeks,
    SimQueues,
    SimRecords,
    SimSecretRotations,
    SimVaultObjects,
    World,
)

HOST: Final = "sim.vault.azure.net"
OTHER_HOST: Final = "other.vault.azure.net"
SOON: Final = "an object in the vault expires soon"


@dataclass
class Scene(EventScene):
    """The same with all its objects there, and the timer."""

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        self.world.add_object(ObjectKind.CERTIFICATE, "ingress")
        for name in ("storage-key", SIGNING_KEY):
            self.world.add_object(ObjectKind.KEY, name)

    def scan(self) -> None:
        """The timer fires; the host fires it again after a failure."""
        for _ in range(6):
            try:
                self.process.scan.run()
            except Killed:
                self.process = Process(self.world)
            except AtpError:
                continue
            else:
                return

    def told(self) -> int:
        """How often somebody was told of something."""
        return sum(entry.revision for entry in self.world.alert_rows.values())


@pytest.fixture
def scene() -> Scene:
    scene = Scene()
    scene.adopt()
    return scene


def test_a_scan_of_what_is_well_does_nothing(scene: Scene) -> None:
    scene.world.add_object(ObjectKind.KEY, "storage-key", expires=scene.world.now + 90 * DAY)
    scene.world.add_object(ObjectKind.CERTIFICATE, "ingress", expires=scene.world.now + 90 * DAY)
    scene.scan()
    assert (scene.open(), scene.orders()) == ({}, [])


def test_a_version_is_told_at_each_threshold_once_under_one_alert_until_a_newer_one_is_there(scene: Scene) -> None:
    made = scene.world.add_object(ObjectKind.KEY, "storage-key", expires=scene.world.now + 40 * DAY)
    told: list[tuple[int, Severity, str]] = []
    for day in range(45):
        for _ in range(2):  # twice a day: the second one changes nothing
            before = scene.told()
            scene.scan()
            if scene.told() != before:
                (alert,) = scene.world.alerts.values()
                assert alert.id == f"expiry/key/storage-key/{made.version}"
                told.append((40 - day, alert.severity, alert.what))
        scene.world.now += DAY
    assert told == [
        (30, Severity.WARNING, SOON),
        (7, Severity.CRITICAL, "an object in the vault is about to expire"),
        (1, Severity.CRITICAL, "last warning: an object in the vault expires"),
        (0, Severity.CRITICAL, "an object in the vault has expired"),
    ]
    scene.world.add_object(ObjectKind.KEY, "storage-key", expires=scene.world.now + 90 * DAY)
    scene.scan()
    assert scene.open() == {}
    assert len(scene.world.alert_rows) == 1


def test_a_secret_whose_events_were_lost_is_rotated_and_its_alert_is_over_afterwards(scene: Scene) -> None:
    scene.world.now += 75 * DAY
    scene.scan()
    scene.scan()
    assert scene.orders() == [f"{SecretAction.ROTATE}/{NAME}/g1"]
    assert list(scene.open().values()) == [SOON]
    scene.settle()
    scene.scan()
    assert (scene.orders(), scene.open()) == ([], {})


def test_an_event_and_the_scan_order_and_tell_the_same(scene: Scene) -> None:
    scene.world.now += 75 * DAY
    scene.tell(ObjectKind.SECRET, NAME, Happening.NEAR_EXPIRY)
    rows, orders = dict(scene.world.alert_rows), scene.orders()
    scene.scan()
    assert (scene.world.alert_rows, scene.orders()) == (rows, orders)


def test_a_version_of_somebody_else_whose_event_was_lost_is_found(scene: Scene) -> None:
    made = scene.world.add_secret(NAME, b"made by hand")
    scene.world.targets[NAME].accepted["made by hand"] = b"made by hand"
    scene.scan()
    assert list(scene.open().values()) == ["somebody else has changed a secret that this app rotates"]
    scene.settle()
    assert scene.world.rotations[NAME].current == made.version
    scene.scan()
    assert scene.orders() == []


def test_what_expired_long_ago_is_found_in_every_vault_by_the_next_scan(scene: Scene) -> None:
    entry = Entry(
        "far", EntryKind.KEY, "other-team", Every(90 * DAY), "far", OTHER_VAULT_URL, rotated_by=RotatedBy.PERSON
    )
    scene.world.entries["far"] = entry
    scene.process = Process(scene.world)
    scene.world.add_object(ObjectKind.KEY, "far", OTHER_VAULT_URL, expires=scene.world.now - 100 * DAY)
    scene.scan()
    (alert,) = scene.world.alerts.values()
    assert (alert.severity, alert.owner, alert.details["vault"]) == (Severity.CRITICAL, "other-team", OTHER_VAULT_URL)


def test_a_rotation_that_the_vault_should_have_made_is_told_and_over_when_it_has(scene: Scene) -> None:
    scene.world.add_object(ObjectKind.KEY, "storage-key")
    scene.world.add_object(ObjectKind.CERTIFICATE, "ingress")  # a person rotates it
    scene.world.now += 92 * DAY
    scene.scan()
    told = [what for alert_id, what in scene.open().items() if alert_id.startswith("overdue/key/storage-key")]
    assert told == ["a rotation that should have happened has not"]
    assert not [alert_id for alert_id in scene.open() if "ingress" in alert_id]
    scene.world.add_object(ObjectKind.KEY, "storage-key")
    scene.scan()
    assert not [alert_id for alert_id in scene.open() if "storage-key" in alert_id]


def test_the_version_of_a_kek_that_is_in_use_is_watched_though_it_is_not_the_newest(scene: Scene) -> None:
    scene.add_tenant("acme")
    pointer = scene.world.pointers["master-kek"]
    scene.world.keks[pointer.kid] = replace(scene.world.keks[pointer.kid], expires=scene.world.now + 5 * DAY)
    scene.world.add_kek(expires=scene.world.now + 700 * DAY)
    scene.scan()
    (alert_id,) = [each for each in scene.open() if each.startswith("expiry/")]
    assert alert_id.endswith(pointer.kid.rpartition("/")[2])


def test_an_object_that_the_catalog_does_not_know_is_told_once_until_it_is_gone_or_known(scene: Scene) -> None:
    for name in ("stray", "other"):
        scene.world.add_object(ObjectKind.SECRET, name)
    scene.scan()
    before = scene.told()
    scene.scan()
    assert scene.told() == before
    assert sorted(scene.open()) == [f"unmanaged/{HOST}/secret/other", f"unmanaged/{HOST}/secret/stray"]
    del scene.world.objects[VAULT_URL, ObjectKind.SECRET, "other"]
    scene.world.entries["stray"] = Entry("stray", EntryKind.SECRET, "platform", Every(90 * DAY), "stray")
    scene.process = Process(scene.world)
    scene.scan()
    assert scene.open() == {}


def test_the_end_of_an_object_that_the_catalog_does_not_know_is_told_each_time_it_is_nearer(scene: Scene) -> None:
    ends = scene.world.now + 31 * DAY
    scene.world.add_object(ObjectKind.CERTIFICATE, "stray", expires=ends)
    alert_id = f"expiry/{HOST}/certificate/stray"
    scene.scan()
    assert alert_id not in scene.open()
    for left, severity, what in (
        (30, Severity.WARNING, "an object in the vault expires soon"),
        (7, Severity.CRITICAL, "an object in the vault is about to expire"),
        (1, Severity.CRITICAL, "last warning: an object in the vault expires"),
        (0, Severity.CRITICAL, "an object in the vault has expired"),
    ):
        scene.world.now = ends - left * DAY
        scene.scan()
        alert = scene.world.alerts[alert_id]
        assert (alert.severity, alert.what, alert.owner) == (severity, what, DEFAULT_OWNER)
        before = scene.told()
        scene.scan()
        assert scene.told() == before
    scene.world.add_object(ObjectKind.CERTIFICATE, "stray", expires=ends + 90 * DAY)
    scene.scan()
    assert list(scene.open()) == [f"unmanaged/{HOST}/certificate/stray"]


@pytest.mark.parametrize(("kind", "name"), [(ObjectKind.CERTIFICATE, "stray"), (ObjectKind.KEY, "storage-key")])
def test_what_was_told_of_an_end_that_was_moved_is_over_though_the_new_one_is_near_too(
    scene: Scene, kind: ObjectKind, name: str
) -> None:
    made = scene.world.add_object(kind, name, expires=scene.world.now)
    scene.scan()
    (alert_id,) = (each for each in scene.open() if each.startswith("expiry/"))
    assert scene.world.alerts[alert_id].severity is Severity.CRITICAL
    scene.world.objects[made.vault, kind, name][-1] = replace(made, expires=scene.world.now + 20 * DAY)
    for _ in range(2):
        scene.scan()
        alert = scene.world.alerts[alert_id]
        assert (alert.severity, alert.what) == (Severity.WARNING, SOON)
    before = scene.told()
    scene.scan()
    assert scene.told() == before


def test_an_object_of_the_catalog_that_vanishes_is_told_once_until_it_is_there_again(scene: Scene) -> None:
    scene.scan()
    kept = {
        kind: scene.world.objects.pop((VAULT_URL, kind, name))
        for kind, name in ((ObjectKind.KEY, "storage-key"), (ObjectKind.CERTIFICATE, "ingress"))
    }
    scene.scan()
    before = scene.told()
    scene.scan()
    assert scene.told() == before
    assert scene.open() == {
        f"missing/{HOST}/{name}": "the catalog names an object that Key Vault does not have"
        for name in ("certificate/ingress", "key/storage-key")
    }
    assert {(alert.severity, alert.owner) for alert in scene.world.alerts.values()} == {(Severity.WARNING, "platform")}
    scene.world.objects[VAULT_URL, ObjectKind.KEY, "storage-key"] = kept[ObjectKind.KEY]
    scene.world.add_object(ObjectKind.CERTIFICATE, "ingress")
    scene.tell(ObjectKind.CERTIFICATE, "ingress", Happening.NEW_VERSION)
    assert list(scene.open()) == [f"missing/{HOST}/key/storage-key"]
    scene.scan()
    assert scene.open() == {}


def test_a_secret_or_a_kek_in_use_that_vanishes_is_critical(scene: Scene) -> None:
    scene.add_tenant("acme")
    del scene.world.secrets[VAULT_URL, NAME]
    scene.world.keks.clear()
    scene.scan()
    assert {alert.id: alert.severity for alert in scene.world.alerts.values()} == {
        f"missing/{HOST}/secret/{NAME}": Severity.CRITICAL,
        f"missing/{HOST}/key/master-kek": Severity.CRITICAL,
    }


def test_an_object_that_is_made_while_the_vault_is_listed_is_not_missing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = scene.world.objects.pop((VAULT_URL, ObjectKind.KEY, "storage-key"))
    listed = SimVaultObjects.of

    def made_meanwhile(self: SimVaultObjects, kind: ObjectKind, vault: str | None = None) -> Iterator[VaultObject]:
        yield from listed(self, kind, vault)
        scene.world.objects[VAULT_URL, ObjectKind.KEY, "storage-key"] = kept

    monkeypatch.setattr(SimVaultObjects, "of", made_meanwhile)
    scene.scan()
    assert scene.open() == {}


def test_a_version_in_use_that_is_disabled_is_told_until_it_is_enabled_or_another_one_is_in_use(scene: Scene) -> None:
    newest = {name: scene.world.objects[VAULT_URL, ObjectKind.KEY, name] for name in ("storage-key", SIGNING_KEY)}
    for versions in newest.values():
        versions[-1] = replace(versions[-1], enabled=False)
    scene.scan()
    what = "the version in use of an object in the vault is disabled"
    assert scene.open() == {f"disabled/key/{name}/{made[-1].version}": what for name, made in newest.items()}
    assert {alert.severity for alert in scene.world.alerts.values()} == {Severity.CRITICAL}
    scene.world.add_object(ObjectKind.KEY, "storage-key")
    scene.tell(ObjectKind.KEY, "storage-key", Happening.NEW_VERSION)
    assert [each for each in scene.open() if "storage-key" in each] == []
    newest[SIGNING_KEY][-1] = replace(newest[SIGNING_KEY][-1], enabled=True)
    scene.scan()
    assert [each for each in scene.open() if each.startswith("disabled/")] == []


def test_the_newest_version_of_the_signing_key_is_not_in_use_while_it_is_disabled(scene: Scene) -> None:
    scene.world.add_object(ObjectKind.KEY, SIGNING_KEY, enabled=False)
    scene.scan()
    assert scene.open() == {}


def test_a_new_version_that_is_disabled_itself_is_told_by_its_event(scene: Scene) -> None:
    made = scene.world.add_object(ObjectKind.KEY, "storage-key", enabled=False)
    scene.tell(ObjectKind.KEY, "storage-key", Happening.NEW_VERSION)
    assert list(scene.open()) == [f"disabled/key/storage-key/{made.version}"]


def test_a_kek_made_again_under_its_name_does_not_pass_for_the_one_that_deks_are_wrapped_under(scene: Scene) -> None:
    scene.add_tenant("acme")
    kid = scene.world.pointers["master-kek"].kid
    scene.world.add_kek()
    kept = scene.world.keks.pop(kid)
    scene.scan()
    (alert,) = scene.world.alerts.values()
    assert (alert.what, alert.severity, alert.details["version"]) == (
        "the version of a KEK that DEKs are wrapped under is not in Key Vault",
        Severity.CRITICAL,
        kid.rpartition("/")[2],
    )
    scene.world.keks[kid] = kept
    scene.scan()
    assert scene.open() == {}


@pytest.mark.parametrize("left", [timedelta(days=30, minutes=30), timedelta(minutes=30)])
def test_what_an_event_has_told_by_the_clock_of_the_vault_is_not_taken_back(scene: Scene, left: timedelta) -> None:
    scene.world.add_object(ObjectKind.KEY, "storage-key", expires=scene.world.now + left)
    scene.tell(ObjectKind.KEY, "storage-key", Happening.EXPIRED if left < DAY else Happening.NEAR_EXPIRY)
    before, told = scene.open(), scene.told()
    assert before
    scene.world.now += timedelta(minutes=10)
    scene.scan()
    assert (scene.open(), scene.told()) == (before, told)


def test_an_object_whose_entry_moves_to_another_vault_is_still_missing(scene: Scene) -> None:
    for vault in (OTHER_VAULT_URL, VAULT_URL, OTHER_VAULT_URL):
        scene.world.entries["far"] = Entry(
            "far", EntryKind.KEY, "other-team", Every(90 * DAY), "far", vault, rotated_by=RotatedBy.PERSON
        )
        scene.process = Process(scene.world)
        scene.scan()
        (alert,) = scene.world.alerts.values()
        assert alert.details["vault"] == vault


def test_what_was_said_of_a_vault_that_is_none_of_ours_any_more_is_over(scene: Scene) -> None:
    scene.world.add_object(ObjectKind.SECRET, "stray", OTHER_VAULT_URL)
    scene.scan()
    entry = scene.world.alert_rows.pop(f"unmanaged/{OTHER_HOST}/secret/stray")
    former = "https://former.vault.azure.net"
    alert = replace(entry.alert, id="unmanaged/former.vault.azure.net/secret/stray", details={"vault": former})
    scene.world.alert_rows[alert.id] = replace(entry, alert=alert)
    scene.scan()
    assert list(scene.open()) == [f"unmanaged/{OTHER_HOST}/secret/stray"]


@pytest.mark.parametrize("error", [Rejected("not to be read"), ValueError("no such grammar")])
def test_an_object_that_cannot_be_looked_at_keeps_no_other_one_from_being_seen(
    scene: Scene, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = SimVaultObjects.versions

    def refused(self: SimVaultObjects, kind: ObjectKind, name: str, vault: str | None = None) -> Sequence[VaultObject]:
        if name == "ingress":
            raise error
        return read(self, kind, name, vault)

    del scene.world.objects[VAULT_URL, ObjectKind.CERTIFICATE, "ingress"]
    scene.world.entries["later"] = Entry("later", EntryKind.CERTIFICATE, "platform", Every(90 * DAY), "later")
    scene.process = Process(scene.world)
    monkeypatch.setattr(SimVaultObjects, "versions", refused)
    scene.world.add_object(ObjectKind.SECRET, "stray", OTHER_VAULT_URL)
    with pytest.raises(type(error)):
        scene.process.scan.run()
    assert sorted(scene.open()) == [f"missing/{HOST}/certificate/later", f"unmanaged/{OTHER_HOST}/secret/stray"]


def test_a_name_that_looks_like_a_secret_where_it_is_recorded_is_told_under_a_digest(scene: Scene) -> None:
    scene.world.add_object(ObjectKind.KEY, "a-name-of-a-kind-JQ" + "QJ-not-a-secret-at-all")
    scene.scan()
    (alert_id,) = scene.open()
    assert alert_id.startswith(f"unmanaged/{HOST}/key/")
    assert "a-name" not in alert_id


def test_nothing_is_taken_for_gone_in_a_vault_that_could_not_be_listed(scene: Scene) -> None:
    scene.world.add_object(ObjectKind.SECRET, "stray")
    scene.scan()
    scene.world.outage = frozenset({"objects"})
    with pytest.raises(Transient):
        scene.process.scan.run()
    assert list(scene.open()) == [f"unmanaged/{HOST}/secret/stray"], (
        "neither that it is gone nor that others are missing"
    )


def test_a_vault_that_does_not_answer_keeps_no_other_one_from_being_scanned(scene: Scene) -> None:
    scene.world.add_object(ObjectKind.SECRET, "stray", OTHER_VAULT_URL)
    listing = scene.world.call_names.copy
    before = len(listing())
    scene.process.scan.run()
    first = next(number for number, name in enumerate(listing()) if number >= before and name == "objects.of")
    scene.world.alert_rows.clear()
    scene.world.faults[scene.world.calls + first - before + 1] = Fault.ERROR_BEFORE
    with pytest.raises(Transient):
        scene.process.scan.run()
    assert list(scene.open()) == [f"unmanaged/{OTHER_HOST}/secret/stray"]


@pytest.mark.parametrize("port", [SimAlertRegister, SimKeks])
def test_a_damaged_row_keeps_nothing_else_from_being_seen_and_nothing_is_resolved_meanwhile(
    port: type, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(*_: object) -> None:
        raise Integrity("a row cannot be right")

    scene.world.add_object(ObjectKind.SECRET, "gone")
    scene.scan()
    del scene.world.objects[VAULT_URL, ObjectKind.SECRET, "gone"]
    for vault in (VAULT_URL, OTHER_VAULT_URL):
        scene.world.add_object(ObjectKind.SECRET, "stray", vault)
    monkeypatch.setattr(port, "all" if port is SimAlertRegister else "read", damaged)
    with pytest.raises(Integrity):
        scene.process.scan.run()
    monkeypatch.undo()
    assert sorted(scene.open()) == [
        f"unmanaged/{name}" for name in (f"{OTHER_HOST}/secret/stray", f"{HOST}/secret/gone", f"{HOST}/secret/stray")
    ]


# The crash matrix


def everything_at_once(scene: Scene) -> None:
    """Something for every step of the scan to do."""
    world = scene.world
    world.add_object(ObjectKind.KEY, "storage-key", expires=world.now + 5 * DAY)
    world.add_object(ObjectKind.SECRET, "stray")
    scene.scan()
    del world.objects[VAULT_URL, ObjectKind.SECRET, "stray"]
    world.add_object(ObjectKind.KEY, "storage-key", expires=world.now + 100 * DAY)
    world.add_object(ObjectKind.CERTIFICATE, "ingress", expires=world.now - DAY)
    world.add_object(ObjectKind.CERTIFICATE, "strange", OTHER_VAULT_URL)
    signing = world.objects[VAULT_URL, ObjectKind.KEY, SIGNING_KEY]
    signing[-1] = replace(signing[-1], enabled=False)
    world.entries["lost"] = Entry(
        "lost", EntryKind.KEY, "platform", Every(90 * DAY), "lost", rotated_by=RotatedBy.VAULT
    )
    scene.process = Process(world)
    world.now += 75 * DAY


def foreign_version(scene: Scene) -> None:
    scene.world.add_secret(NAME, b"made by hand")


SITUATIONS: Final[dict[str, Callable[[Scene], None]]] = {
    "everything at once": everything_at_once,
    "a foreign version": foreign_version,
}


def run(situation: str, at: int | None, fault: Fault | None) -> tuple[int, tuple[object, ...]]:
    """One scan with one fault at its call number `at`, and one more; the number of calls, and what came of it."""
    scene = Scene()
    scene.adopt()
    SITUATIONS[situation](scene)
    before = scene.world.calls
    if at is not None and fault is not None:
        scene.world.faults[before + at] = fault
    scene.scan()
    calls = scene.world.calls - before
    assert not scene.world.faults
    revisions = {alert_id: entry.revision for alert_id, entry in scene.world.alert_rows.items()}
    recorded = sorted(job for job in scene.world.outcomes() if job.startswith("object."))
    came = scene.open(), revisions, recorded, set(scene.orders())
    scene.scan()
    again = {alert_id: entry.revision for alert_id, entry in scene.world.alert_rows.items()}
    assert (scene.open(), again, set(scene.orders())) == (came[0], came[1], came[3])
    return calls, came


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.name.lower())
def test_a_scan_that_is_cut_off_anywhere_and_run_again_tells_and_orders_the_same(
    situation: str, fault: Fault, tally: Tally
) -> None:
    calls, expected = run(situation, None, None)
    assert calls > 10
    assert expected[0], "there is something to tell"
    for at in range(1, calls + 1):
        assert run(situation, at, fault)[1] == expected, at
        tally.count("crash matrix of the daily scan")


# Size


class Endless(SimVaultObjects):
    """A vault with a hundred thousand secrets of which nobody holds a list."""

    COUNT: Final = 100_000

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.listed = 0

    @override
    def of(self, kind: ObjectKind, vault: str | None = None) -> Iterator[VaultObject]:
        if kind is not ObjectKind.SECRET or vault != VAULT_URL:
            return
        for number in range(self.COUNT):
            self.listed += 1
            yield VaultObject(kind, VAULT_URL, f"part-{number}", True, START_OF_ALL, managed=True)


START_OF_ALL: Final = World().now


def test_memory_does_not_grow_with_the_vaults() -> None:
    world = World()
    objects, alerts = Endless(world), SimAlerts(world)
    rotations = SimSecretRotations(world)
    planner = SecretPlanner({}, rotations, SimQueues(world), alerts, world.clock)
    overview = Overview(Catalog({}, POLICY), objects, SimKeks(world), rotations, SIGNING_KEY)
    scan = VaultScan(overview, objects, planner, AuditTrail(SimRecords(world), world.clock), alerts, world.clock)
    tracemalloc.start()
    scan.run()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert objects.listed == Endless.COUNT
    assert peak < 1024 * 1024


# Histories


@pytest.mark.parametrize("seed", range(25))
def test_whatever_events_are_lost_repeated_or_shuffled_the_next_scan_leaves_what_is_true(
    seed: int, tally: Tally
) -> None:
    chance, names = random.Random(seed), ["database", "queue", "mail"]
    scene = Scene(secrets=names)
    scene.adopt()
    keys = ["storage-key", SIGNING_KEY]
    objects = [(ObjectKind.SECRET, name) for name in names] + [(ObjectKind.KEY, name) for name in keys]
    for name in keys:
        scene.world.add_object(ObjectKind.KEY, name, expires=scene.world.now + 60 * DAY)
    seen: list[tuple[ObjectKind, str, str]] = []
    for _ in range(60):
        match chance.randrange(6):
            case 0:
                scene.world.now += chance.randrange(20) * DAY
                scene.process.secret_planner.run()
            case 1:
                lives = chance.randrange(120) * DAY
                scene.world.add_object(ObjectKind.KEY, chance.choice(keys), expires=scene.world.now + lives)
            case 2:
                scene.settle()
            case 3:
                scene.scan()
            case _:
                kind, name = chance.choice(objects)
                seen.append((kind, name, scene.world.versions(VAULT_URL, kind, name)[-1].version))
                for kind, name, version in chance.choices(seen, k=2):
                    scene.tell(kind, name, chance.choice(list(Happening)), version)
                tally.count("shuffled events of random histories", 2)
    for _ in range(3):
        scene.scan()
        scene.settle()
        scene.world.now += timedelta(hours=2)
        scene.process.secret_planner.run()
        scene.settle()
    scene.scan()

    now, near = scene.world.now, set()
    for kind, name in objects:
        newest = scene.world.versions(VAULT_URL, kind, name)[-1]
        assert newest.expires is not None
        if newest.expires - now <= 30 * DAY:
            near.add(f"expiry/{kind}/{name}/{newest.version}")
    assert {alert_id for alert_id in scene.open() if alert_id.startswith("expiry/")} == near
    tally.count("versions near their expiry at the end of a history", len(near))
    assert not [alert_id for alert_id in near if "/secret/" in alert_id], "a secret near its expiry was not rotated"
    for name in names:
        published = scene.world.versions(VAULT_URL, ObjectKind.SECRET, name)
        assert len(published) == scene.world.rotations[name].generation + 1, "a rotation was done twice"
        assert published[-1].version == scene.world.rotations[name].current
        tally.count("rotations in random histories", scene.world.rotations[name].generation)
