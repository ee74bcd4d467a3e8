"""A whole KEK rotation, killed or cut off at every I/O call it makes, delivered again until it ends."""

from collections.abc import Callable

import pytest

from rotation.message import Action, KekAction
from shared.values import Phase
from tests.conftest import Tally
from tests.jobs.platform import POLICY, Platform
from tests.simulator import Fault

pytestmark = pytest.mark.usefixtures("few_shards")

type Workflow = tuple[Callable[[Platform], None], Callable[[Platform], None], Phase]


def tenants(platform: Platform) -> None:
    """Five tenants, one of them with three DEKs, one without a future."""
    for number in range(5):
        platform.add_tenant(f"tenant-{number}", versions=3 if number == 0 else 1)
        platform.write(f"tenant-{number}")
    platform.ask(Action.OFFBOARD_TENANT, "tenant-4", "by-hand")
    platform.settle()


def swept(platform: Platform) -> None:
    tenants(platform)
    platform.order(KekAction.ROTATE, "setup")
    platform.run_until(Phase.GRACE)


def soaking(platform: Platform) -> None:
    swept(platform)
    platform.run_until(Phase.SOAKING)


def order(action: KekAction) -> Callable[[Platform], None]:
    def ask(platform: Platform) -> None:
        platform.order(action)

    return ask


def rolled_back_in_part(platform: Platform) -> None:
    platform.order(KekAction.ROLLBACK, "part", shard=1)
    platform.settle()
    platform.order(KekAction.RESUME, "part", shard=1)


def with_a_birth_and_a_destruction(platform: Platform) -> None:
    """They happen between the freeze and the end."""
    platform.order(KekAction.ROTATE)
    platform.settle()
    platform.ask(Action.ADD_TENANT, "newcomer", "by-hand")
    platform.ask(Action.ROTATE_DEK, "tenant-1", "by-hand")
    platform.world.now += POLICY.retention
    platform.start_plan()


WORKFLOWS: dict[str, Workflow] = {
    "from the order to grace": (tenants, order(KekAction.ROTATE), Phase.GRACE),
    "from grace to the end": (swept, Platform.tick, Phase.CLOSED),
    "from the soak to the end": (soaking, Platform.tick, Phase.CLOSED),
    "back from grace": (swept, order(KekAction.ROLLBACK), Phase.ROLLED_BACK),
    "one shard back and forward again": (swept, rolled_back_in_part, Phase.GRACE),
    "with births and a destruction": (tenants, with_a_birth_and_a_destruction, Phase.CLOSED),
}


def run(name: str, at: int | None, fault: Fault | None, *, twice: bool = False) -> int:
    """One workflow with one fault at its call number `at`; returns how many calls it made."""
    prepare, begin, end = WORKFLOWS[name]
    platform = Platform()
    prepare(platform)
    first = platform.world.calls
    if at is not None and fault is not None:
        platform.world.faults[first + at] = fault
    begin(platform)
    platform.settle(twice=twice)
    platform.run_until(end)
    calls = platform.world.calls - first
    platform.check()
    assert not platform.world.letters
    # Here time passes by the day, so that a pass whose messages were lost is silent for long.
    assert not [alert for alert in platform.world.alerts if not alert.endswith("/silent")]
    platform.read_and_write()
    return calls


@pytest.mark.parametrize("name", WORKFLOWS)
@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.name.lower())
def test_a_rotation_survives_a_fault_at_every_call(name: str, fault: Fault, tally: Tally) -> None:
    for at in range(1, run(name, None, None) + 1):
        run(name, at, fault)
        tally.count("crash matrix, KEK rotation")
