"""The rotation of every nature of secrets, killed or cut off at every call: nothing is locked out or left over."""

from collections.abc import Callable
from datetime import timedelta
from typing import Final

import pytest

from rotation.message import SecretAction
from shared.values import SecretPhase
from tests.conftest import Tally
from tests.jobs.secret_scene import Scene
from tests.jobs.secret_targets import GRACE, INTERVAL, NATURES
from tests.simulator import Fault

NAME: Final = "database"


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


@pytest.mark.parametrize("nature", NATURES)
@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_rotation_survives_every_message_coming_twice(name: str, nature: str) -> None:
    run(name, nature, None, None, twice=True)


@pytest.mark.parametrize("nature", NATURES)
@pytest.mark.parametrize("name", ["rotate by hand", "roll back in dual running"])
def test_a_rotation_survives_two_faults(name: str, nature: str, tally: Tally) -> None:
    calls = run(name, nature, None, None)
    for at in range(1, calls + 1):
        for behind in (1, 2, 3, 5, 8, 13):
            begin, has_ended = WORKFLOWS[name]
            scene = Scene(kind=NATURES[nature])
            first = scene.world.calls
            scene.world.faults = {first + at: Fault.KILLED_AFTER, first + at + behind: Fault.ERROR_AFTER}
            begin(scene)
            scene.world.faults.clear()
            scene.check_secret()
            assert has_ended(scene), scene.row
            tally.count("crash matrix of secrets, two faults")
