"""A worker that is suspended for weeks while it waits for an answer, and then goes on as if nothing had happened."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final, override

import pytest

from rotation.message import SecretAction
from rotation.secret import CLAIM
from shared.values import SecretPhase
from tests.conftest import Tally
from tests.jobs.platform import Process
from tests.jobs.secret_scene import Scene
from tests.jobs.secret_targets import GRACE, NATURES
from tests.simulator import Fault, QueuedMessage, World

DAY: Final = timedelta(days=1)
_EXCEPT: Final = ("target.list", "target.set", "target.unset", "host.delete")
"""Within one call of a rotator nobody asks whether the claim still holds; and behind the last one nothing comes."""


@dataclass
class DrowsyWorld(World):
    """The answer to one call comes late, and much happens meanwhile."""

    late: int = 0
    meanwhile: Callable[[], None] | None = None
    met: str = ""
    but_for: tuple[str, ...] = _EXCEPT

    @override
    def io[T](self, port: str, name: str, effect: Callable[[], T]) -> T:
        is_late = self.calls + 1 == self.late
        if is_late:
            self.met = f"{port}.{name}"
        result = super().io(port, name, effect)
        if is_late and self.met not in self.but_for and self.meanwhile is not None:
            self.meanwhile()
        return result


def begun(kind: str) -> Scene:
    """With a rotation on the queue."""
    scene = Scene(DrowsyWorld(), kind=NATURES[kind])
    scene.send(SecretAction.ROTATE)
    return scene


def rolled_back(kind: str) -> Scene:
    """In dual running, with a rollback on the queue."""
    scene = begun(kind)
    scene.settle()
    scene.send(SecretAction.ROLLBACK, generation=1)
    return scene


def over(kind: str) -> Scene:
    """Behind the dual running, with the revocation on the queue."""
    scene = begun(kind)
    scene.settle()
    scene.world.now += GRACE
    scene.plan()
    return scene


def given_up(kind: str) -> Scene:
    """Before the publication, with a rollback on the queue."""
    scene, calls = begun(kind), 0
    while scene.row.phase is not SecretPhase.INSTALLED:
        scene, calls = begun(kind), calls + 1
        scene.world.faults = {scene.world.calls + calls: Fault.KILLED_BEFORE}
        scene.deliver(scene.world.messages[0])
    scene.world.now += CLAIM
    scene.world.messages.clear()
    scene.send(SecretAction.ROLLBACK, generation=1)
    return scene


def taken_over(scene: Scene, message: QueuedMessage) -> Process:
    """The message comes again to another worker, which does what it can; gives the one that is suspended."""
    suspended, scene.process = scene.process, Process(scene.world)
    scene.world.now += CLAIM
    scene.world.messages.remove(message)
    scene.drop(message.queue, message.body)
    scene.settle()
    return suspended


def others(scene: Scene, message: QueuedMessage) -> None:
    """The message comes again to another worker, and one more rotation comes to its end."""
    suspended = taken_over(scene, message)
    for _ in range(2):
        if scene.row.phase is SecretPhase.STEADY:
            scene.send(SecretAction.ROTATE, "meanwhile")
            scene.settle()
        scene.world.now += GRACE + DAY
        scene.plan()
        scene.settle()
        assert scene.row.phase is SecretPhase.STEADY
    scene.process = suspended


@pytest.mark.parametrize("ordered", [begun, rolled_back, over, given_up])
@pytest.mark.parametrize("kind", NATURES)
def test_whatever_answer_a_worker_has_waited_for_for_weeks_it_harms_no_rotation_since(
    kind: str, ordered: Callable[[str], Scene], tally: Tally
) -> None:
    for at in itertools.count(1):
        scene = ordered(kind)
        world, message = scene.world, scene.world.messages[0]
        assert isinstance(world, DrowsyWorld)
        world.late, world.meanwhile = world.calls + at, partial(others, scene, message)
        scene.deliver(message)
        if not world.met:
            assert at > 10
            return
        tally.count("workers suspended for weeks")
        scene.consume()
        scene.settle()
        scene.pass_time(GRACE + DAY)
        scene.check_secret()
        assert not world.letters
        assert not world.alerts


def test_a_revocation_that_is_cut_off_goes_on_though_a_worker_thaws_that_had_yet_to_tell_of_its_publication() -> None:
    for at in itertools.count(1):
        scene = begun("logins")
        world, message = scene.world, scene.world.messages[0]
        assert isinstance(world, DrowsyWorld)
        world.late, world.meanwhile = world.calls + at, partial(cut_off, scene)
        scene.deliver(message)
        if not world.met:
            assert at > 30
            return
        if world.met == "secrets.versions":
            continue  # behind the list there is but the mark: what is on it cannot be made a condition
        scene.settle()
        scene.pass_time(GRACE + DAY)
        scene.pass_time(DAY)
        scene.check_secret()
        assert not world.alerts


def cut_off(scene: Scene) -> None:
    """Other workers go on; the last one has marked what it has revoked when the alerts are away."""
    suspended, scene.process = scene.process, Process(scene.world)
    scene.world.now += CLAIM
    message = scene.world.messages.pop()
    scene.drop(message.queue, message.body)
    scene.settle()
    scene.world.now += GRACE
    scene.plan()
    scene.world.outage = frozenset({"alerts"})
    scene.deliver(scene.world.messages[0])
    scene.world.outage = frozenset()
    assert (scene.row.phase, scene.versions()[0][0].enabled) == (SecretPhase.REVOKING, False)
    scene.process = suspended


def test_a_worker_that_gave_a_rotation_up_weeks_ago_takes_nothing_away_from_the_one_under_way() -> None:
    for at in itertools.count(1):
        scene = given_up("logins")
        world, message = scene.world, scene.world.messages[0]
        assert isinstance(world, DrowsyWorld)
        world.late, world.meanwhile = world.calls + at, partial(next_one, scene, message)
        world.but_for = ("host.delete",)  # this rotator has one call of its own: behind it the engine goes on
        scene.deliver(message)
        if not world.met:
            assert at > 10
            return
        scene.settle()
        scene.pass_time(GRACE + DAY)
        scene.check_secret()
        assert scene.row.verdict == ("rolled back" if world.met in world.but_for else "rotated")


def next_one(scene: Scene, message: QueuedMessage) -> None:
    """Another worker ends the rotation, and the next one comes as far as its target, which does not answer."""
    suspended = taken_over(scene, message)
    scene.plan()
    scene.settle()
    scene.send(SecretAction.ROTATE, "the-next-one")
    scene.world.outage = frozenset({"target"})
    scene.deliver(scene.world.messages[0])
    scene.world.outage = frozenset()
    assert (scene.row.phase, scene.row.generation) == (SecretPhase.STAGED, 2)
    scene.process = suspended
