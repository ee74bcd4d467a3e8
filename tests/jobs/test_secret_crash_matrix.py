"""The rotation of every nature of secrets, killed or cut off at every call: nothing is locked out or left over."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import pytest

from rotation.message import SECRET_JOBS, SecretAction, SecretOrder, Trigger
from rotation.secret_versions import PENDING_SUFFIX
from shared.errors import AtpError
from shared.values import SecretPhase, SecretRotation, SecretVersion
from tests.conftest import Tally
from tests.jobs.platform import Platform, Process
from tests.jobs.secret_targets import GRACE, INTERVAL, NATURES, SimRotator, Target
from tests.simulator import VAULT_URL, Fault, Killed, World

NAME: Final = "database"


@dataclass
class Scene(Platform):
    """A secret, its target, and a consumer that always reads the newest version."""

    kind: type[SimRotator] = NATURES["logins"]
    target: Target = field(init=False)

    def __post_init__(self) -> None:
        self.target = Target(NAME, self.kind)
        self.world.targets[NAME] = self.target
        super().__post_init__()
        first = self.target.rotator(World()).first()
        self.world.add_secret(NAME, first.value.reveal())
        self.plan()
        self.settle()

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

    def pass_time(self, by: timedelta) -> None:
        """Time goes on, and with it the timer: every hour for half a day, and then once."""
        for _ in range(12):
            self.world.now += timedelta(hours=1)
            self.plan()
            self.settle()
        self.world.now += max(by - timedelta(hours=12), timedelta())
        self.plan()
        self.settle()

    def send(self, action: SecretAction, request: str = "by-hand", **fields: object) -> SecretOrder:
        """An operator orders something."""
        order = SecretOrder(action, NAME, request, Trigger.MANUAL, "alice@atp", "asked for", **fields)  # type: ignore[arg-type]
        self.drop(SECRET_JOBS, order.to_json())
        return order

    @property
    def row(self) -> SecretRotation:
        """Where the secret stands."""
        return self.world.rotations[NAME]

    def versions(self, name: str = NAME) -> list[tuple[SecretVersion, bytes]]:
        """What the vault has."""
        return self.world.secrets.get((VAULT_URL, name), [])

    def consume(self) -> None:
        """A consumer reads the newest version and uses it: it must always work (I9)."""
        newest, value = self.versions()[-1]
        assert newest.enabled
        assert value in self.target.accepted.values(), f"{self.row.phase}: what consumers use does not work"

    def works(self, version: str) -> bool:
        """Whether the value of that version is accepted by the target."""
        return any(
            each.version == version and value in self.target.accepted.values() for each, value in self.versions()
        )

    def check_secret(self) -> None:
        """What holds whenever nothing is under way but dual running."""
        self.check()
        self.consume()
        row = self.row
        newest = self.versions()[-1][0]
        assert row.current == newest.version
        assert newest.expires is None or newest.expires > self.world.now
        known = {value for each, value in self.versions() if each.version in (row.current, row.previous)}
        told = {value for _, value in self.versions()} | {value for _, value in self.versions(NAME + PENDING_SUFFIX)}
        # Whatever anybody was ever told and still works is in use, or was in use before.
        assert set(self.target.accepted.values()) & told <= known
        if row.previous:
            assert row.phase is SecretPhase.GRACE
            assert self.works(row.previous)
        if row.phase is SecretPhase.STEADY and self.kind is not NATURES["keys"]:
            assert len(self.target.accepted) == 1, "a credential that nobody has is left"
        enabled = [each.version for each, _ in self.versions() if each.enabled]
        assert set(enabled) <= {row.current, row.previous}
        assert not any(each.enabled for each, _ in self.versions(NAME + PENDING_SUFFIX))


type Workflow = tuple[Callable[[Scene], None], Callable[[Scene], bool]]


def rotate(scene: Scene) -> None:
    scene.send(SecretAction.ROTATE)
    scene.settle()
    scene.pass_time(GRACE)


def fall_due(scene: Scene) -> None:
    scene.world.now += INTERVAL
    scene.plan()
    scene.settle()
    scene.pass_time(GRACE)


def rotate_compromised(scene: Scene) -> None:
    scene.send(SecretAction.ROTATE, compromised=True)
    scene.settle()
    scene.pass_time(timedelta(hours=12))


def roll_back(scene: Scene) -> None:
    scene.send(SecretAction.ROTATE)
    scene.settle()
    if scene.row.phase is not SecretPhase.GRACE:
        scene.pass_time(timedelta(hours=12))
    scene.send(SecretAction.ROLLBACK, generation=1)
    scene.settle()
    scene.pass_time(GRACE)


def refused(scene: Scene) -> None:
    scene.target.refuses = True
    scene.send(SecretAction.ROTATE)
    scene.settle()
    scene.target.refuses = False
    scene.pass_time(timedelta(hours=12))


def steady_at(generation: int, *, changed: bool = True) -> Callable[[Scene], bool]:
    def holds(scene: Scene) -> bool:
        row = scene.row
        first = scene.versions()[0][1]
        return (
            row.phase is SecretPhase.STEADY
            and row.generation == generation
            and (scene.versions()[-1][1] != first) == changed
            and (first in scene.target.accepted.values()) != changed
        )

    return holds


WORKFLOWS: Final[dict[str, Workflow]] = {
    "rotate by hand": (rotate, steady_at(1)),
    "rotate when due": (fall_due, steady_at(1)),
    "rotate what is compromised": (rotate_compromised, steady_at(1)),
    "roll back in dual running": (roll_back, steady_at(1, changed=False)),
    "be refused by the target": (refused, steady_at(1, changed=False)),
}


def run(name: str, nature: str, at: int | None, fault: Fault | None, *, twice: bool = False) -> int:
    """One workflow with one fault at its call number `at`; returns how many calls it made."""
    begin, has_ended = WORKFLOWS[name]
    scene = Scene(kind=NATURES[nature])
    first = scene.world.calls
    if at is not None and fault is not None:
        scene.world.faults[first + at] = fault
    watch = scene.settle

    def settle() -> None:
        watch(twice=twice)
        scene.consume()

    scene.settle = settle  # type: ignore[method-assign, assignment] # consumers are at work all the time
    begin(scene)
    calls = scene.world.calls - first
    scene.check_secret()
    assert has_ended(scene), scene.row
    return calls


@pytest.mark.parametrize("nature", NATURES)
@pytest.mark.parametrize("name", WORKFLOWS)
@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.name.lower())
def test_a_rotation_survives_a_fault_at_every_call(name: str, nature: str, fault: Fault, tally: Tally) -> None:
    calls = run(name, nature, None, None)
    for at in range(1, calls + 1):
        run(name, nature, at, fault)
        tally.count("crash matrix of secrets")
