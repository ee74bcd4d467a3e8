"""Attacks on the rotation of secrets: late duplicates, orders at bad moments, hands in the vault, lost rows, bugs."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any, Final, Never

import pytest

from rotation.audit import record_in
from rotation.catalog import PENDING_SUFFIX
from rotation.message import SECRET_JOBS, SecretAction, SecretOrder, Trigger
from rotation.secret import ASKED_AGAIN_AFTER, CLAIM, TRIED_AGAIN_AFTER
from rotation.secret_versions import GENERATION_TAG, STATE_TAG, Versions
from shared.errors import Integrity, MissingPackage, Rejected, Transient, Waiting
from shared.values import PREVIOUS_TAG, PREVIOUS_UNTIL_TAG, SLOT_TAG, SecretPhase, SecretRotation, Severity
from tests.jobs.platform import Process
from tests.jobs.secret_scene import NAME, Scene
from tests.jobs.secret_targets import GRACE, INTERVAL, NATURES, ApiKeys, ByHand, Keys, Logins, Target
from tests.simulator import VAULT_URL, Fault, SimSecretRotations, SimSecrets, World

DAY: Final = timedelta(days=1)
HOUR: Final = timedelta(hours=1)
ROTATE: Final = f"secret.rotate/{NAME}"
_BEFORE: Final = (SecretPhase.INTENDED, SecretPhase.STAGED, SecretPhase.INSTALLED, SecretPhase.TESTED)


def rotated(kind: type = Logins, **fields: Any) -> Scene:
    """In dual running after one rotation."""
    scene = Scene(kind=kind)
    scene.send(SecretAction.ROTATE, **fields)
    scene.settle()
    assert phase(scene) is SecretPhase.GRACE
    return scene


def killed(ordered: Callable[[], Scene], until: Callable[[Scene], bool]) -> Scene:
    """A scene whose only worker died on its order, at the first call before which it was so; its claim is over."""
    for calls in range(1, 100):
        scene = ordered()
        scene.world.faults = {scene.world.calls + calls: Fault.KILLED_BEFORE}
        scene.deliver(scene.world.messages[0])
        scene.world.faults.clear()
        if until(scene):
            scene.world.now += CLAIM
            return scene
    raise AssertionError("it never comes to that")


def sent(scene: Scene, action: SecretAction, **fields: Any) -> Scene:
    """The scene with an order on the queue."""
    scene.send(action, **fields)
    return scene


def rolled_back() -> Scene:
    """In dual running, with a rollback on the queue."""
    return sent(rotated(), SecretAction.ROLLBACK, generation=1)


def stopped_at(wanted: SecretPhase, kind: type = Logins) -> Scene:
    """In that phase of a first rotation, whose message is lost."""
    scene = killed(lambda: sent(Scene(kind=kind), SecretAction.ROTATE), lambda scene: scene.row.phase is wanted)
    scene.world.messages.clear()
    return scene


def revoking() -> Scene:
    """Behind its dual running, killed before the credential before is revoked."""

    def ordered() -> Scene:
        scene = rotated()
        scene.world.now += GRACE
        scene.plan()
        return scene

    return killed(ordered, lambda scene: phase(scene) is SecretPhase.REVOKING)


def phase(scene: Scene) -> SecretPhase:
    return scene.row.phase


def alerts(scene: Scene) -> set[str]:
    return {name.rpartition("/")[2] for name in scene.world.alerts if name.startswith("secret/")}


def outcomes(scene: Scene, job: str) -> set[str]:
    return scene.world.outcomes().get(job, set())


def records(scene: Scene, action: str, outcome: str) -> list[dict[str, Any]]:
    found = [json.loads(each.canonical) for stream in scene.world.streams.values() for each in stream]
    return [each for each in found if (each["action"], each["outcome"]) == (action, outcome)]


def switch(scene: Scene, version: str, *, enabled: bool) -> None:
    """A person disables a version in the vault, or enables it."""
    versions = scene.versions()
    versions[:] = [
        (replace(each, enabled=enabled) if each.version == version else each, value) for each, value in versions
    ]


def is_enabled(scene: Scene, version: str) -> bool:
    return next(each.enabled for each, _ in scene.versions() if each.version == version)


def raises(error: Exception) -> Callable[..., Never]:
    def method(*_: object) -> Never:
        raise error

    return method


# Late, early and overtaken orders


def test_a_compromise_order_that_comes_again_does_not_cut_a_later_dual_running_short() -> None:
    scene = Scene()
    order = scene.send(SecretAction.ROTATE, "leak", compromised=True)
    scene.settle()
    scene.send(SecretAction.ROTATE, "ordinary")
    scene.settle()
    until = scene.row.grace_until
    scene.drop(SECRET_JOBS, order.to_json())
    scene.settle()
    assert (scene.row.phase, scene.row.grace_until) == (SecretPhase.GRACE, until)
    assert scene.works(scene.row.previous)


def test_a_compromise_order_that_comes_again_does_not_take_the_dual_running_from_a_later_rotation() -> None:
    scene = Scene()
    order = scene.send(SecretAction.ROTATE, "leak", compromised=True)
    scene.settle()
    scene.target.ignores = True
    scene.send(SecretAction.ROTATE, "ordinary")
    scene.deliver(scene.world.messages[0])
    scene.drop(SECRET_JOBS, order.to_json())
    scene.deliver(scene.world.messages[-1])
    assert not scene.row.compromised


@pytest.mark.parametrize("action", [SecretAction.ROTATE, SecretAction.ROLLBACK])
def test_an_order_that_was_done_and_comes_again_while_another_rotation_runs_alarms_nobody(action: SecretAction) -> None:
    scene = Scene()
    orders = [scene.send(SecretAction.ROTATE, "first")]
    scene.settle()
    orders.append(scene.send(SecretAction.ROLLBACK, generation=1))
    scene.settle()
    scene.pass_time(GRACE)
    scene.send(SecretAction.ROTATE, "second")
    scene.settle()
    scene.drop(SECRET_JOBS, next(order for order in orders if order.action is action).to_json())
    scene.settle()
    assert not scene.world.letters


def test_a_rollback_before_the_publication_may_come_twice() -> None:
    scene = stopped_at(SecretPhase.INSTALLED)
    order = scene.send(SecretAction.ROLLBACK, generation=1)
    scene.settle()
    scene.drop(SECRET_JOBS, order.to_json())
    scene.settle()
    assert not scene.world.letters
    assert phase(scene) is SecretPhase.STEADY


def test_a_rollback_before_the_publication_is_on_record_with_who_ordered_it() -> None:
    scene = stopped_at(SecretPhase.INSTALLED)
    order = SecretOrder(SecretAction.ROLLBACK, NAME, "no", Trigger.MANUAL, "bob@atp", "a mistake", 1)
    scene.drop(SECRET_JOBS, order.to_json())
    scene.settle()
    assert outcomes(scene, f"secret.rollback/{NAME}/g1") == {"intent", "succeeded"}
    assert [each["actor"] for each in records(scene, "secret.rollback", "succeeded")] == ["bob@atp"]
    assert [each["actor"] for each in records(scene, "secret.rotate", "failed")] == ["alice@atp"]
    row = scene.row
    assert (row.actor, row.reason, row.undone_by, row.undone_because) == (
        "alice@atp",
        "asked for",
        "bob@atp",
        "a mistake",
    )
    assert outcomes(scene, f"{ROTATE}/by-hand") == {"intent", "failed"}


def test_a_rollback_that_came_too_late_is_refused_and_its_intent_has_an_outcome() -> None:
    job = f"secret.rollback/{NAME}/g1"
    scene = killed(rolled_back, lambda scene: outcomes(scene, job) == {"intent"})
    assert phase(scene) is SecretPhase.GRACE
    late = scene.world.messages.pop()
    scene.pass_time(GRACE)
    assert phase(scene) is SecretPhase.STEADY
    scene.world.messages.append(late)
    scene.settle()
    assert len(scene.world.letters) == 1
    assert outcomes(scene, job) == {"intent", "failed"}


@pytest.mark.parametrize("at", [SecretPhase.INTENDED, SecretPhase.STAGED, SecretPhase.INSTALLED])
def test_a_rollback_of_a_rotation_that_is_given_up_meanwhile_has_an_outcome(
    at: SecretPhase, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = f"secret.rollback/{NAME}/g1"
    ordered = partial(sent, action=SecretAction.ROLLBACK, generation=1)
    scene = killed(lambda: ordered(stopped_at(at)), lambda scene: outcomes(scene, job) == {"intent"})
    assert phase(scene) is at
    late = scene.world.messages.pop()
    with monkeypatch.context() as patch:
        patch.setattr(Logins, "obtain", raises(Rejected("no")))
        patch.setattr(Logins, "install", raises(Rejected("no")))
        patch.setattr(Logins, "test", raises(Rejected("no")))
        patch.setattr(Logins, "abandon", raises(Transient("the target is away")))
        scene.world.now += HOUR
        scene.send(SecretAction.DRIVE, generation=1)
        scene.deliver(scene.world.messages[0])
    assert phase(scene) is SecretPhase.ABANDONING
    scene.world.messages[:] = [late]
    scene.settle()
    assert phase(scene) is SecretPhase.STEADY
    assert outcomes(scene, job) == {"intent", "succeeded"}
    assert not scene.world.letters


def test_a_rollback_that_finds_the_new_credential_refused_before_its_publication_gives_it_up() -> None:
    scene = stopped_at(SecretPhase.TESTED)
    scene.target.accepted["user-b"] = b"changed by hand"
    scene.world.now += HOUR
    scene.send(SecretAction.ROLLBACK, generation=1)
    scene.settle()
    assert (phase(scene), scene.row.rolled_back) == (SecretPhase.STEADY, True)
    assert outcomes(scene, f"secret.rollback/{NAME}/g1") == {"intent", "succeeded"}
    assert not scene.world.letters
    scene.check_secret()


@pytest.mark.parametrize(("trigger", "late"), [(Trigger.SCHEDULE, 0), (Trigger.SCHEDULE, 8), (Trigger.MANUAL, 0)])
def test_an_order_that_was_overtaken_between_its_intent_and_its_first_step_has_an_outcome(
    trigger: Trigger, late: int
) -> None:
    generation = 1 if trigger is Trigger.SCHEDULE else None
    first = SecretOrder(SecretAction.ROTATE, NAME, "first", trigger, "carol@atp", "asked for", generation)

    def ordered() -> Scene:
        scene = Scene()
        scene.drop(SECRET_JOBS, first.to_json())
        return scene

    scene = killed(ordered, lambda scene: bool(outcomes(scene, first.id)))
    assert phase(scene) is SecretPhase.STEADY
    overtaken = scene.world.messages.pop()
    scene.send(SecretAction.ROTATE, "second")
    scene.settle()
    scene.pass_time(late * DAY)
    scene.world.messages.append(overtaken)
    scene.settle()
    assert outcomes(scene, first.id) == {"intent", "superseded"}
    assert scene.row.generation == 1
    assert not scene.world.letters


# Compromise


def test_a_compromise_order_waits_for_the_person_who_has_to_end_the_rotation_before() -> None:
    scene = Scene(kind=ByHand)
    scene.send(SecretAction.ROTATE)
    scene.settle()
    scene.target.accepted["user-b"] = b"made by a person"
    scene.world.add_secret(NAME + PENDING_SUFFIX, b"made by a person", {GENERATION_TAG: "1", SLOT_TAG: "user-b"})
    scene.send(SecretAction.DRIVE, "dropped", generation=1)
    scene.settle()
    scene.send(SecretAction.ROTATE, "leak", compromised=True)
    scene.deliver(scene.world.messages[0])
    assert phase(scene) is SecretPhase.REVOKING
    assert scene.world.messages, "the order is lost"
    scene.target.accepted.pop("user-a")
    scene.send(SecretAction.CONFIRM, generation=1)
    scene.settle()
    assert (scene.row.generation, scene.row.order) == (2, f"{ROTATE}/leak")


def test_a_compromise_order_in_the_middle_of_a_rollback_is_not_lost() -> None:
    scene = killed(rolled_back, lambda scene: phase(scene) is SecretPhase.RESTORING)
    old, new = scene.row.previous, scene.row.current
    scene.world.messages.clear()
    scene.world.now += CLAIM
    scene.send(SecretAction.ROTATE, "leak", compromised=True)
    scene.settle()
    assert (scene.row.phase, scene.row.generation) == (SecretPhase.STEADY, 2)
    assert not scene.works(old)
    assert not scene.works(new)
    scene.check_secret()


def test_a_compromise_order_takes_over_the_rotation_under_way_and_its_failure_is_critical() -> None:
    scene = stopped_at(SecretPhase.STAGED)
    scene.target.refuses = True
    scene.send(SecretAction.ROTATE, "leak", compromised=True)
    scene.settle()
    assert outcomes(scene, f"{ROTATE}/by-hand") == {"intent", "superseded"}
    assert outcomes(scene, f"{ROTATE}/leak") == {"intent", "failed"}
    assert scene.world.alerts[f"secret/{NAME}/failed"].severity is Severity.CRITICAL


def test_a_compromise_order_that_names_a_generation_that_was_begun_already_is_no_less_urgent() -> None:
    scene = rotated()
    old = scene.row.previous
    scene.send(SecretAction.ROTATE, "leak", compromised=True, generation=1)
    scene.settle()
    assert not scene.works(old)
    assert phase(scene) is SecretPhase.STEADY


# Hands in the vault and in the target


@pytest.mark.parametrize("at", [SecretPhase.INTENDED, SecretPhase.STAGED, SecretPhase.TESTED])
@pytest.mark.parametrize("action", [SecretAction.DRIVE, SecretAction.ROLLBACK])
def test_what_somebody_else_publishes_during_a_rotation_is_not_touched(at: SecretPhase, action: SecretAction) -> None:
    scene = stopped_at(at)
    scene.target.accepted["user-b"] = b"published by hand"
    scene.world.add_secret(NAME, b"published by hand")
    first = scene.versions()[0][1]
    scene.send(action, generation=1)
    for _ in range(3):
        if scene.world.messages:
            scene.deliver(scene.world.messages[0])
        scene.consume()
    scene.settle()
    scene.consume()
    assert scene.target.accepted["user-b"] == b"published by hand"
    assert len(scene.world.letters) == 1
    scene.target.accepted.pop("user-b")
    scene.world.add_secret(NAME, first)  # the person takes it back
    scene.world.now += ASKED_AGAIN_AFTER
    scene.pass_time(GRACE + DAY)
    assert phase(scene) is SecretPhase.STEADY
    scene.consume()
    assert len(scene.target.accepted) == 1


@pytest.mark.parametrize("at", [SecretPhase.STAGED, SecretPhase.INSTALLED, SecretPhase.TESTED])
def test_a_rotation_whose_value_aside_was_taken_away_is_undone(at: SecretPhase) -> None:
    scene = stopped_at(at)
    aside = scene.versions(NAME + PENDING_SUFFIX)
    aside[:] = [(replace(each, enabled=False), value) for each, value in aside]
    scene.pass_time(DAY)
    assert phase(scene) is SecretPhase.STEADY
    assert outcomes(scene, f"{ROTATE}/by-hand") == {"intent", "failed"}
    assert alerts(scene) == {"failed"}
    scene.check_secret()


def test_nobody_is_sent_back_to_a_credential_that_works_no_more() -> None:
    scene = rotated()
    scene.target.accepted.pop("user-a")  # somebody has cleared up
    scene.send(SecretAction.ROLLBACK, generation=1)
    scene.settle()
    scene.consume()
    assert phase(scene) is SecretPhase.GRACE
    (letter,) = scene.world.letters.values()
    assert "does not work any more" in letter.reason


def test_there_is_a_way_back_as_long_as_the_new_credential_does_not_work() -> None:
    scene = rotated()
    scene.target.accepted.pop("user-b")
    scene.world.now += GRACE
    scene.plan()
    scene.deliver(scene.world.messages[0])
    assert alerts(scene) == {"broken"}
    scene.send(SecretAction.ROLLBACK, generation=1)
    scene.deliver(scene.world.messages[-1])
    scene.consume()
    assert scene.row.rolled_back
    assert alerts(scene) == set()


def store_by_hand(scene: Scene) -> bytes:
    """A person changes the password of the other user and gives it to consumers."""
    scene.target.accepted["user-b"] = b"made-by-a-person-0123456789"
    scene.world.add_secret(NAME, scene.target.accepted["user-b"])
    return scene.target.accepted["user-b"]


def restoring() -> Scene:
    """A rollback whose worker has died before it gave the credential before back."""
    return killed(rolled_back, lambda scene: phase(scene) is SecretPhase.RESTORING)


@pytest.mark.parametrize("ordered", [rolled_back, restoring])
def test_a_rollback_is_not_published_over_what_somebody_else_has_stored(ordered: Callable[[], Scene]) -> None:
    scene = ordered()
    first, second = (value for _, value in scene.versions())
    by_hand = store_by_hand(scene)
    scene.settle()
    scene.pass_time(GRACE + DAY)
    scene.consume()
    assert scene.versions()[-1][1] == by_hand
    assert scene.target.accepted == {"user-a": first, "user-b": by_hand}
    assert any("newest version is not the one on record" in each.reason for each in scene.world.letters.values())
    scene.target.accepted["user-b"] = second
    scene.world.add_secret(NAME, second)  # the person takes it back
    scene.world.now += ASKED_AGAIN_AFTER
    scene.pass_time(GRACE + DAY)
    scene.pass_time(GRACE + DAY)
    assert phase(scene) is SecretPhase.STEADY
    scene.consume()
    assert len(scene.target.accepted) == 1


def test_a_rollback_is_published_over_a_version_that_somebody_has_disabled() -> None:
    scene = rotated()
    scene.world.now += HOUR
    new = scene.row.current
    switch(scene, new, enabled=False)
    scene.send(SecretAction.ROLLBACK, generation=1)
    scene.deliver(scene.world.messages[0])
    scene.consume()
    assert (scene.row.rolled_back, scene.row.announced) == (True, True)
    assert not is_enabled(scene, new)


def test_rotators_are_given_all_versions_though_the_newest_is_disabled() -> None:
    scene = rotated()
    versions = Versions(SimSecrets(scene.world), scene.target.policy.entry, scene.world.clock)
    before = [each.version for each in versions.all()]
    switch(scene, before[-1], enabled=False)
    assert [each.version for each in versions.all()] == before


@pytest.mark.parametrize("hand", ["disables", "clears up", "stores"])
def test_a_rollback_that_is_refused_after_its_intent_has_an_outcome(hand: str) -> None:
    job = f"secret.rollback/{NAME}/g1"
    scene = killed(rolled_back, lambda scene: outcomes(scene, job) == {"intent"})
    assert phase(scene) is SecretPhase.GRACE
    match hand:
        case "disables":
            switch(scene, scene.row.previous, enabled=False)
        case "clears up":
            scene.target.accepted.pop("user-a")
        case _:
            store_by_hand(scene)
    scene.settle()
    assert outcomes(scene, job) == {"intent", "failed"}
    assert len(scene.world.letters) == 1


def test_nobody_is_sent_back_to_a_credential_that_somebody_has_disabled() -> None:
    scene = rotated()
    old = scene.row.previous
    switch(scene, old, enabled=False)
    scene.send(SecretAction.ROLLBACK, generation=1)
    scene.settle()
    (letter,) = scene.world.letters.values()
    assert "disabled" in letter.reason
    assert (phase(scene), is_enabled(scene, old)) == (SecretPhase.GRACE, False)


@pytest.mark.parametrize("kind", NATURES.values(), ids=list(NATURES))
@pytest.mark.parametrize("compromised", [False, True])
def test_an_order_waits_for_the_person_who_enables_the_version_in_use(kind: type, compromised: bool) -> None:
    scene = Scene(kind=kind)
    first = scene.row.current
    switch(scene, first, enabled=False)
    scene.send(SecretAction.ROTATE, compromised=compromised)
    for _ in range(3):
        scene.deliver(scene.world.messages[0])
    assert (phase(scene), scene.row.generation) == (SecretPhase.STEADY, 0)
    assert not is_enabled(scene, first)
    assert not scene.world.letters
    alert = scene.world.alerts[f"secret/{NAME}/disabled"]
    assert alert.details["version"] == first
    assert alert.severity is (Severity.CRITICAL if compromised else Severity.WARNING)
    switch(scene, first, enabled=True)
    scene.settle()
    assert alerts(scene) == set()
    scene.pass_time(GRACE + DAY)
    assert (phase(scene), scene.row.generation) == (SecretPhase.STEADY, 1)
    assert not scene.works(first)
    scene.check_secret()


@pytest.mark.parametrize("kind", NATURES.values(), ids=list(NATURES))
def test_the_way_back_stays_open_as_long_as_the_version_to_be_revoked_is_disabled(kind: type) -> None:
    scene = rotated(kind)
    old = scene.row.previous
    switch(scene, old, enabled=False)
    scene.world.now += GRACE
    scene.plan()
    scene.deliver(scene.world.messages[0])
    assert (phase(scene), alerts(scene)) == (SecretPhase.GRACE, {"disabled"})
    assert scene.works(old)
    assert not is_enabled(scene, old)
    scene.send(SecretAction.ROTATE, "leak", compromised=True)
    scene.deliver(scene.world.messages[-1])
    assert scene.world.alerts[f"secret/{NAME}/disabled"].severity is Severity.CRITICAL
    assert not scene.world.letters
    switch(scene, old, enabled=True)
    scene.settle()
    assert (phase(scene), scene.row.generation, alerts(scene)) == (SecretPhase.STEADY, 2, set())
    assert not scene.world.letters
    scene.check_secret()


@pytest.mark.parametrize(
    ("at", "which"),
    [
        *((at, "current") for at in (*_BEFORE, SecretPhase.GRACE, SecretPhase.REVOKING)),
        *((at, "previous") for at in (SecretPhase.GRACE, SecretPhase.REVOKING)),
    ],
)
def test_whatever_version_a_person_disables_in_whatever_phase_stays_disabled_and_is_waited_for(
    at: SecretPhase, which: str
) -> None:
    scene = revoking() if at is SecretPhase.REVOKING else stopped_at(at)
    version = getattr(scene.row, which)
    accepted = dict(scene.target.accepted)
    switch(scene, version, enabled=False)
    for _ in range(3):
        scene.world.now += GRACE
        scene.plan()
        scene.deliver(scene.world.messages[-1])
    assert not is_enabled(scene, version)
    assert "disabled" in alerts(scene)
    assert accepted.items() <= scene.target.accepted.items()
    switch(scene, version, enabled=True)
    scene.settle()
    scene.pass_time(GRACE + DAY)
    assert (phase(scene), alerts(scene)) == (SecretPhase.STEADY, set())
    scene.check_secret()


def test_a_version_that_is_disabled_before_consumers_are_told_stays_disabled(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    with monkeypatch.context() as patch:
        patch.setattr(Logins, "announce", raises(Transient("a receiver is away")))
        scene.send(SecretAction.ROTATE)
        scene.deliver(scene.world.messages[0])
        assert (phase(scene), scene.row.announced) == (SecretPhase.GRACE, False)
        old = scene.row.previous
        switch(scene, old, enabled=False)
        scene.deliver(scene.world.messages[0])
    scene.settle()
    assert not is_enabled(scene, old)
    assert scene.row.announced
    assert scene.target.notices[-1].previous is None


def test_a_version_that_is_disabled_while_it_is_marked_stays_disabled() -> None:
    for calls in range(1, 40):
        scene = stopped_at(SecretPhase.GRACE)
        old = scene.row.previous
        scene.send(SecretAction.DRIVE, generation=1)
        disable = partial(switch, scene, old, enabled=False)
        scene.world.interruptions = {scene.world.calls + calls: disable}
        scene.deliver(scene.world.messages[0])
        if scene.world.interruptions:
            break
        assert not is_enabled(scene, old), calls
    assert calls > 5


def test_what_was_changed_in_the_target_since_the_test_is_not_published() -> None:
    scene = stopped_at(SecretPhase.TESTED)
    scene.target.accepted["user-b"] = b"changed by hand"
    scene.pass_time(DAY)
    assert (scene.row.phase, alerts(scene)) == (SecretPhase.STEADY, {"failed"})
    scene.check_secret()


# Lost rows


@pytest.mark.parametrize("kind", NATURES.values(), ids=list(NATURES))
@pytest.mark.parametrize("back", [False, True], ids=["rotated", "rolled back"])
def test_a_row_that_is_lost_in_dual_running_is_found_again_with_its_end(kind: type, back: bool) -> None:
    scene = rotated(kind)
    if back:
        scene.send(SecretAction.ROLLBACK, generation=1)
        scene.settle()
    lost = scene.world.rotations.pop(NAME)
    scene.pass_time(DAY)
    row = scene.row
    assert (row.phase, row.generation, row.rolled_back) == (SecretPhase.GRACE, 1, back)
    assert (row.current, row.slot) == (lost.current, lost.slot)
    assert (row.previous, row.previous_slot) == (lost.previous, lost.previous_slot)
    assert lost.grace_until is not None
    assert row.grace_until == lost.grace_until.replace(microsecond=0)
    scene.consume()
    assert scene.works(row.previous)
    scene.pass_time(GRACE)
    assert phase(scene) is SecretPhase.STEADY
    assert not scene.works(lost.previous)
    scene.check_secret()


@pytest.mark.parametrize("back", [False, True], ids=["rotated", "rolled back"])
def test_a_row_that_is_lost_at_any_call_of_a_revocation_leaves_nothing_that_works_beside_the_newest(back: bool) -> None:
    def ordered() -> Scene:
        scene = rotated(ApiKeys)
        if back:
            scene.send(SecretAction.ROLLBACK, generation=1)
            scene.settle()
        scene.world.now += GRACE
        scene.plan()
        return scene

    for calls in range(1, 60):
        scene = ordered()
        scene.world.faults = {scene.world.calls + calls: Fault.KILLED_AFTER}
        scene.deliver(scene.world.messages[0])
        if scene.world.faults:
            break
        scene.world.messages.clear()
        scene.world.rotations.pop(NAME)
        scene.pass_time(DAY)
        assert phase(scene) is SecretPhase.STEADY
        assert len(scene.target.accepted) == 1, calls
        scene.consume()
    assert calls > 20


@pytest.mark.parametrize("back", [False, True], ids=["rotated", "rolled back"])
def test_a_row_that_is_lost_in_a_revocation_whose_version_is_disabled_too_waits_for_a_person(back: bool) -> None:
    for calls in range(1, 60):
        scene = rotated(ApiKeys)
        if back:
            scene.send(SecretAction.ROLLBACK, generation=1)
            scene.settle()
        old = scene.row.previous
        scene.world.now += GRACE
        scene.plan()
        scene.world.faults = {scene.world.calls + calls: Fault.KILLED_AFTER}
        scene.deliver(scene.world.messages[0])
        if scene.world.faults:
            break
        if not is_enabled(scene, old):
            continue  # it was revoked before
        scene.world.messages.clear()
        scene.world.rotations.pop(NAME)
        switch(scene, old, enabled=False)
        scene.plan()
        if scene.world.messages:
            scene.deliver(scene.world.messages[0])
        scene.world.now += DAY
        scene.plan()
        if scene.world.messages:
            scene.deliver(scene.world.messages[-1])
        assert not is_enabled(scene, old)
        assert "disabled" in alerts(scene), calls
        switch(scene, old, enabled=True)
        scene.world.now += DAY
        scene.pass_time(DAY)
        assert (phase(scene), alerts(scene)) == (SecretPhase.STEADY, set())
        assert len(scene.target.accepted) == 1, calls
        scene.consume()
    assert calls > 20


def test_a_version_found_as_the_one_before_with_the_value_in_use_is_never_revoked() -> None:
    """Tagged by hand, and unreadable when it is found."""
    scene = rotated()
    scene.send(SecretAction.ROLLBACK, generation=1)
    scene.settle()
    scene.pass_time(GRACE)
    assert phase(scene) is SecretPhase.STEADY
    versions = scene.versions()
    first, value = versions[0]
    versions[0] = (replace(first, tags={**first.tags, STATE_TAG: "previous", SLOT_TAG: "user-a"}), value)
    scene.world.rotations.pop(NAME)
    scene.plan()
    scene.deliver(scene.world.messages[0])
    assert phase(scene) is SecretPhase.GRACE
    switch(scene, first.version, enabled=True)
    scene.pass_time(DAY)
    assert phase(scene) is SecretPhase.STEADY
    scene.consume()


@pytest.mark.parametrize("kind", NATURES.values(), ids=list(NATURES))
@pytest.mark.parametrize("at", [SecretPhase.STAGED, SecretPhase.INSTALLED, SecretPhase.TESTED])
def test_a_row_that_is_lost_before_the_publication_leaves_no_third_credential(kind: type, at: SecretPhase) -> None:
    scene = stopped_at(at, kind)
    scene.world.rotations.pop(NAME)
    scene.send(SecretAction.ROTATE)  # delivered once more
    scene.settle()
    scene.pass_time(GRACE)
    assert phase(scene) is SecretPhase.STEADY
    scene.check_secret()


@pytest.mark.parametrize("at", [SecretPhase.STAGED, SecretPhase.INSTALLED, SecretPhase.TESTED])
def test_what_was_set_aside_for_the_place_that_is_in_use_by_now_is_void(at: SecretPhase) -> None:
    scene = stopped_at(at)
    store_by_hand(scene)
    scene.world.rotations.pop(NAME)
    scene.send(SecretAction.ROTATE, "again")
    for _ in range(3):
        if scene.world.messages:
            scene.deliver(scene.world.messages[0])
        scene.consume()
    assert (phase(scene), scene.row.slot) == (SecretPhase.GRACE, "user-a")
    scene.pass_time(GRACE + DAY)
    assert phase(scene) is SecretPhase.STEADY
    scene.consume()
    assert len(scene.target.accepted) == 1


def test_a_row_that_is_lost_after_a_failure_does_not_stop_the_planner() -> None:
    scene = Scene()
    scene.target.refuses = True
    scene.world.now += INTERVAL
    scene.plan()
    scene.settle()
    assert outcomes(scene, f"{ROTATE}/g1") == {"intent", "failed"}
    scene.target.refuses = False
    scene.world.rotations.pop(NAME)
    scene.pass_time(DAY)
    scene.pass_time(DAY)
    assert phase(scene) is SecretPhase.GRACE
    assert scene.row.generation == 2


@pytest.mark.parametrize("kind", NATURES.values(), ids=list(NATURES))
@pytest.mark.parametrize("at", [SecretPhase.INTENDED, SecretPhase.STAGED, SecretPhase.INSTALLED])
def test_a_row_from_a_backup_locks_nobody_out(kind: type, at: SecretPhase) -> None:
    scene = stopped_at(at, kind)
    old = scene.row
    scene.pass_time(GRACE + DAY)
    assert phase(scene) is SecretPhase.STEADY
    scene.world.rotations[NAME] = replace(old, etag=scene.world.etag())
    scene.pass_time(DAY)
    scene.consume()
    assert scene.world.letters
    scene.world.rotations.pop(NAME)  # what the runbook says
    scene.pass_time(DAY)
    assert (scene.row.phase, scene.row.generation) == (SecretPhase.STEADY, 1)
    scene.check_secret()


def failed(how: str, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """The planner's first rotation has failed."""
    scene = Scene()
    scene.world.now += INTERVAL
    with monkeypatch.context() as patch:
        patch.setattr(Logins, how, raises(Rejected("no")))
        scene.plan()
        scene.settle()
    assert outcomes(scene, f"{ROTATE}/g1") == {"intent", "failed"}
    return scene


@pytest.mark.parametrize("how", ["obtain", "install"])
def test_a_row_of_before_a_failure_does_not_stop_the_planner(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = Scene().row
    scene = failed(how, monkeypatch)
    scene.world.rotations[NAME] = replace(before, etag=scene.world.etag())
    for _ in range(3):
        scene.pass_time(DAY)
    assert (scene.row.phase, scene.row.generation) == (SecretPhase.GRACE, 2)
    assert not scene.world.letters


def test_a_row_of_before_a_failure_gives_no_generation_out_again(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Scene().row
    scene = failed("install", monkeypatch)
    scene.world.rotations[NAME] = replace(before, etag=scene.world.etag())
    scene.send(SecretAction.ROTATE)
    scene.settle()
    assert scene.row.generation == 2


@pytest.mark.parametrize("tag", ["1000000", f"{2**53}", f"{2**63}", "9" * 256, "\u0661\u0662", "0", "-1", "1e3", "x"])
def test_a_generation_that_somebody_has_made_up_stops_neither_the_rotation_nor_the_audit_trail(tag: str) -> None:
    scene = Scene()
    scene.world.add_secret(NAME, scene.target.rotator(World()).first().value.reveal(), {GENERATION_TAG: tag})
    scene.send(SecretAction.ROTATE)
    scene.settle()
    assert (phase(scene), scene.row.generation) == (SecretPhase.GRACE, 1)
    assert all(record_in(stored) for records in scene.world.streams.values() for stored in records)
    assert not scene.world.letters


@pytest.mark.parametrize("until", ["9999-12-31T23:59:59-2359", "0001-01-01T00:00:00+2359", "9999-12-31T23:59:59+0000"])
def test_an_end_of_dual_running_that_somebody_has_made_up_is_refused_or_no_later_than_ours(until: str) -> None:
    scene = Scene()
    tags = {STATE_TAG: "current", PREVIOUS_TAG: scene.row.current, PREVIOUS_UNTIL_TAG: until}
    scene.target.accepted["user-b"] = b"made by a person"
    scene.world.add_secret(NAME, b"made by a person", tags | {GENERATION_TAG: "1", SLOT_TAG: "user-b"})
    scene.send(SecretAction.ROTATE)
    scene.settle()
    (letter,) = scene.world.letters.values()
    if phase(scene) is SecretPhase.GRACE:
        assert scene.row.grace_until == scene.world.now + GRACE
    else:
        assert "a tag of a secret is not a moment" in letter.reason


def test_a_row_of_before_a_rollback_gives_no_generation_out_again(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    before = scene.row
    with monkeypatch.context() as patch:
        patch.setattr(Logins, "obtain", raises(Transient("the target is away")))
        scene.send(SecretAction.ROTATE)
        scene.deliver(scene.world.messages.pop())
        scene.world.messages.clear()
        scene.send(SecretAction.ROLLBACK, generation=1)
        scene.settle()
    assert (phase(scene), scene.versions(NAME + PENDING_SUFFIX)) == (SecretPhase.STEADY, [])
    scene.world.rotations[NAME] = replace(before, etag=scene.world.etag())
    scene.send(SecretAction.ROTATE, "again")
    scene.settle()
    assert scene.row.generation == 2
    scene.send(SecretAction.ROLLBACK, "again", generation=2)
    scene.settle()
    assert scene.row.rolled_back


@pytest.mark.parametrize("kind", NATURES.values(), ids=list(NATURES))
@pytest.mark.parametrize("back", [False, True], ids=["rotated", "rolled back"])
def test_a_row_that_is_lost_when_the_value_in_use_was_stored_again_finds_the_one_before(kind: type, back: bool) -> None:
    scene = rotated(kind)
    if back:
        scene.send(SecretAction.ROLLBACK, generation=1)
        scene.settle()
    lost = scene.world.rotations.pop(NAME)
    scene.world.add_secret(NAME, scene.versions()[-1][1])
    scene.plan()
    scene.settle()
    assert (scene.row.phase, scene.row.previous) == (SecretPhase.GRACE, lost.previous)
    scene.pass_time(GRACE + DAY)
    assert phase(scene) is SecretPhase.STEADY
    assert not scene.works(lost.previous)
    scene.check_secret()


def test_a_clock_that_was_far_ahead_when_a_rotation_ended_keeps_no_later_one_back() -> None:
    scene = Scene()
    ahead = scene.world.now + 700 * DAY
    scene.world.rotations[NAME] = replace(scene.row, order="secret.rotate/database/x", phase_since=ahead)
    scene.world.now += INTERVAL
    scene.plan()
    scene.settle()
    assert phase(scene) is SecretPhase.GRACE


@pytest.mark.parametrize("kind", NATURES.values(), ids=list(NATURES))
@pytest.mark.parametrize("compromised", [False, True])
def test_the_value_in_use_stored_again_by_hand_is_where_it_was(
    kind: type, compromised: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(kind=kind)
    first = scene.row
    scene.world.now += DAY
    scene.world.add_secret(NAME, scene.versions()[-1][1])
    with monkeypatch.context() as patch:
        patch.setattr(kind, "locate", raises(Rejected("the target has no such credential")))
        scene.send(SecretAction.DRIVE, generation=0)
        scene.settle()
        assert (scene.row.slot, scene.row.since) == (first.slot, first.since)
        assert scene.row.current == scene.versions()[-1][0].version
        scene.send(SecretAction.ROTATE, compromised=compromised)
        scene.settle()
    assert not scene.world.letters
    assert scene.row.generation == 1


@pytest.mark.parametrize("kind", NATURES.values(), ids=list(NATURES))
def test_after_a_purge_nothing_but_a_value_stored_by_hand_goes_on(kind: type) -> None:
    scene = Scene(kind=kind)
    value = scene.versions()[-1][1]
    del scene.world.secrets[VAULT_URL, NAME]
    scene.send(SecretAction.ROTATE)
    scene.settle()
    assert (phase(scene), len(scene.world.letters)) == (SecretPhase.STEADY, 1)
    assert value in scene.target.accepted.values()
    scene.world.add_secret(NAME, value)
    scene.send(SecretAction.ROTATE, "again")
    scene.settle()
    assert (phase(scene), scene.row.generation) == (SecretPhase.GRACE, 1)
    scene.consume()
    scene.pass_time(GRACE)
    assert phase(scene) is SecretPhase.STEADY
    assert value not in scene.target.accepted.values()


# Revocation, restoring and what is on record of them


@pytest.mark.parametrize("breaks", ["before", "by the revocation"])
def test_a_revocation_does_not_end_while_what_consumers_use_does_not_work(
    breaks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = revoking()
    value = scene.target.accepted["user-b"]
    with monkeypatch.context() as patch:
        if breaks == "before":
            scene.target.accepted.pop("user-b")
        else:
            patch.setattr(Logins, "revoke", lambda *_: scene.target.accepted.clear())
        scene.deliver(scene.world.messages[0])
        assert phase(scene) is SecretPhase.REVOKING
        assert alerts(scene) == {"broken"}
        assert ("user-a" in scene.target.accepted) == (breaks == "before")
    scene.target.accepted["user-b"] = value
    scene.settle()
    assert phase(scene) is SecretPhase.STEADY
    assert alerts(scene) == set()


def test_a_rotation_waits_for_a_missing_package_and_is_not_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    with monkeypatch.context() as patch:
        patch.setattr(Logins, "obtain", raises(MissingPackage("not here")))
        scene.send(SecretAction.ROTATE)
        scene.settle()
    assert len(scene.world.letters) == 1
    scene.pass_time(HOUR)
    assert (phase(scene), scene.row.generation) == (SecretPhase.GRACE, 1)


def test_a_rollback_that_is_killed_at_any_call_publishes_once() -> None:
    for calls in range(1, 40):
        scene = rolled_back()
        scene.world.faults = {scene.world.calls + calls: Fault.KILLED_AFTER}
        scene.settle()
        scene.world.faults.clear()
        assert len(scene.versions()) == 3, calls


def test_a_rollback_right_after_the_publication_leaves_no_intent_open() -> None:
    scene = stopped_at(SecretPhase.GRACE)
    scene.send(SecretAction.ROLLBACK, generation=1)
    scene.settle()
    assert scene.row.rolled_back
    assert outcomes(scene, f"{ROTATE}/by-hand") == {"intent", "succeeded"}


def test_no_letter_is_kept_of_a_rotation_that_was_done_before_another_one_began() -> None:
    scene = Scene()
    order = scene.send(SecretAction.ROTATE)
    scene.settle()
    scene.pass_time(GRACE)
    scene.send(SecretAction.ROTATE, "second")
    scene.settle()
    scene.drop(f"{SECRET_JOBS}-poison", order.to_json())
    scene.settle()
    assert not scene.world.letters


# Rotators that raise


METHODS: Final = ("locate", "place", "obtain", "install", "test", "announce", "revoke")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "error", [Rejected("no"), Integrity("what is this"), MissingPackage("not here"), ValueError("a bug")], ids=repr
)
def test_whatever_a_rotator_raises_leaves_no_claim_and_is_told(
    method: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene()
    if method == "locate":
        scene.world.rotations.clear()
    with monkeypatch.context() as patch:
        patch.setattr(Logins, method, raises(error))
        scene.send(SecretAction.ROTATE, generation=1)
        while scene.world.messages:
            try:
                scene.settle()
            except ValueError:
                continue  # the host delivers it again
        scene.world.now += GRACE + HOUR
        scene.plan()
        while scene.world.messages:
            try:
                scene.settle()
            except ValueError:
                continue
        assert not scene.row.claim
        assert scene.world.alerts
        scene.consume()
    scene.world.now += ASKED_AGAIN_AFTER + TRIED_AGAIN_AFTER
    scene.send(SecretAction.ROTATE, "now", compromised=True)
    scene.settle()
    scene.pass_time(GRACE + DAY)
    assert phase(scene) is SecretPhase.STEADY
    scene.consume()


@pytest.mark.parametrize("method", METHODS)
def test_a_rotator_that_waits_for_a_person_loses_no_order_and_leaves_no_alert(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene()
    if method == "locate":
        scene.world.rotations.clear()
    with monkeypatch.context() as patch:
        patch.setattr(Logins, method, raises(Waiting("please")))
        scene.send(SecretAction.ROTATE)
        for _ in range(3):
            if scene.world.messages:
                scene.world.now = max(scene.world.now, scene.world.messages[0].visible_at)
                scene.deliver(scene.world.messages[0])
        if method == "revoke":
            scene.world.now += GRACE
            scene.plan()
            scene.settle()
        assert alerts(scene) == {"task"}
    scene.world.now += ASKED_AGAIN_AFTER
    scene.plan()
    scene.settle()
    assert phase(scene) is (SecretPhase.STEADY if method == "revoke" else SecretPhase.GRACE)
    assert (scene.row.generation, scene.row.task) == (1, "")
    assert alerts(scene) == set()
    assert not scene.world.letters


def test_a_service_that_takes_every_new_credential_for_void_is_not_asked_without_a_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene(kind=ApiKeys)
    with monkeypatch.context() as patch:
        patch.setattr(ApiKeys, "install", lambda *_: False)
        scene.send(SecretAction.ROTATE)
        for _ in range(3):
            scene.deliver(scene.world.messages[0])
        assert scene.target.drawn <= 4
    scene.settle()
    scene.pass_time(GRACE)
    scene.check_secret()


def test_a_void_credential_is_made_anew_wherever_its_worker_dies() -> None:
    for calls in range(1, 40):
        scene = stopped_at(SecretPhase.STAGED, Keys)
        scene.target.accepted["key2"] = b"regenerated by somebody"
        scene.send(SecretAction.DRIVE, generation=1)
        scene.world.faults = {scene.world.calls + calls: Fault.KILLED_BEFORE}
        scene.deliver(scene.world.messages[0])
        scene.settle()
        scene.world.faults.clear()
        scene.pass_time(DAY)
        assert (scene.row.phase, scene.row.generation) == (SecretPhase.GRACE, 1), calls
        assert scene.versions()[-1][1] == scene.target.accepted["key2"]


def test_what_the_vault_will_not_keep_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(kind=ApiKeys)
    refused = raises(Rejected("a secret of that name was deleted and has to be recovered"))
    with monkeypatch.context() as patch:
        patch.setattr("rotation.secret_versions.Versions.set_aside", refused)
        scene.send(SecretAction.ROTATE)
        scene.settle()
    assert phase(scene) is SecretPhase.STEADY
    assert alerts(scene) == {"failed"}
    scene.check_secret()


# The planner


def test_a_rotation_that_fails_is_begun_again_by_the_planner_a_day_later_and_not_at_every_run() -> None:
    scene = Scene()
    scene.target.refuses = True
    scene.world.now += INTERVAL
    for _ in range(10):
        scene.plan()
        scene.settle()
        scene.world.now += timedelta(minutes=10)
    assert scene.row.generation == 1
    scene.target.refuses = False
    scene.world.now += TRIED_AGAIN_AFTER
    scene.plan()
    scene.settle()
    assert (scene.row.phase, scene.row.generation) == (SecretPhase.GRACE, 2)


@pytest.mark.parametrize("at", range(10, 40, 3))
def test_the_planner_does_not_disturb_a_worker(at: int) -> None:
    scene = Scene()
    scene.send(SecretAction.ROTATE)
    scene.world.interruptions = {scene.world.calls + at: Process(scene.world).secret_planner.run}
    scene.deliver(scene.world.messages[0])
    assert not scene.world.interruptions
    assert phase(scene) is SecretPhase.GRACE
    assert not scene.world.messages


@pytest.mark.parametrize("at", range(3, 12))
def test_the_scan_does_not_disturb_a_worker(at: int) -> None:
    scene = Scene()
    newest, value = scene.versions()[-1]
    scene.versions()[-1] = (replace(newest, expires=scene.world.now + DAY), value)
    scene.send(SecretAction.ROTATE)
    scene.world.interruptions = {scene.world.calls + at: Process(scene.world).scan.run}
    order = scene.world.messages[0]
    scene.deliver(order)
    assert not scene.world.interruptions
    assert (phase(scene), order in scene.world.messages) == (SecretPhase.GRACE, False)
    scene.settle()
    assert scene.row.generation == 1
    assert not scene.world.letters


def test_a_clock_that_was_years_ahead_stops_neither_the_planner_nor_the_workers() -> None:
    scene = stopped_at(SecretPhase.INTENDED)
    ahead = scene.world.now + 700 * DAY
    scene.world.rotations[NAME] = replace(
        scene.row, claim="other", claimed_until=ahead, asked=f"secret.drive/{NAME}/g1-intended", asked_at=ahead
    )
    scene.plan()
    scene.settle()
    assert phase(scene) is SecretPhase.GRACE


def test_a_secret_that_leaves_the_catalog_in_the_middle_of_a_rotation_is_told_of() -> None:
    scene = rotated()
    target = scene.world.targets.pop(NAME)
    scene.process = Process(scene.world)
    scene.world.now += GRACE
    scene.plan()
    assert alerts(scene) == set()
    scene.world.now += DAY
    scene.plan()
    assert alerts(scene) == {"stalled"}
    scene.world.targets[NAME] = target
    scene.process = Process(scene.world)
    scene.pass_time(DAY)
    assert phase(scene) is SecretPhase.STEADY
    assert alerts(scene) == set()


def test_an_alert_about_a_rotation_that_stands_still_ends_when_it_goes_on() -> None:
    scene = stopped_at(SecretPhase.INTENDED)
    scene.world.now += DAY
    scene.plan()
    assert alerts(scene) == {"stalled"}
    scene.settle()
    assert phase(scene) is SecretPhase.GRACE
    assert alerts(scene) == set()


def test_a_rollback_that_comes_too_late_is_told_so() -> None:
    scene = revoking()
    scene.world.messages.clear()
    scene.send(SecretAction.ROLLBACK, generation=1)
    scene.deliver(scene.world.messages[0])
    scene.pass_time(DAY)
    (letter,) = scene.world.letters.values()
    assert "too late to go back" in letter.reason
    assert phase(scene) is SecretPhase.STEADY
    scene.check_secret()


def test_a_letter_is_not_kept_of_what_another_message_has_done() -> None:
    scene = stopped_at(SecretPhase.INSTALLED)
    order = SecretOrder(SecretAction.DRIVE, NAME, "g1-installed", Trigger.SCHEDULE, "planner", "not over", 1)
    scene.pass_time(GRACE + DAY)
    assert phase(scene) is SecretPhase.STEADY
    scene.drop(f"{SECRET_JOBS}-poison", order.to_json())
    scene.settle()
    assert not scene.world.letters


# The audit trail


def test_who_has_confirmed_a_revocation_is_on_record() -> None:
    scene = Scene(kind=ByHand)
    scene.send(SecretAction.ROTATE)
    scene.settle()
    scene.target.accepted["user-b"] = b"made by a person"
    scene.world.add_secret(NAME + PENDING_SUFFIX, b"made by a person", {GENERATION_TAG: "1", SLOT_TAG: "user-b"})
    scene.send(SecretAction.DRIVE, "dropped", generation=1)
    scene.settle()
    scene.pass_time(GRACE)
    scene.target.accepted.pop("user-a")
    order = SecretOrder(SecretAction.CONFIRM, NAME, "done", Trigger.MANUAL, "bob@atp", "revoked in the portal", 1)
    scene.drop(SECRET_JOBS, order.to_json())
    scene.settle()
    for action in ("secret.revoke", "secret.confirm"):
        (record,) = records(scene, action, "succeeded")
        assert (record["actor"], record["reason"]) == ("bob@atp", "revoked in the portal")
    row = scene.row
    assert (row.actor, row.reason, row.confirmed_by) == ("alice@atp", "asked for", "bob@atp")
    scene.pass_time(INTERVAL)
    assert (scene.row.generation, scene.row.actor, scene.row.confirmed_by) == (2, "planner", "")


def test_a_version_published_twice_by_a_retry_leaves_nothing_enabled() -> None:
    scene = stopped_at(SecretPhase.TESTED)
    scene.pass_time(timedelta(hours=1))
    (version, value) = scene.versions()[-1]
    scene.world.add_secret(NAME, value, version.tags, version.expires)
    scene.world.now += GRACE
    calls = scene.world.calls
    scene.plan()
    scene.settle()
    total = scene.world.calls - calls
    scene.check_secret()
    assert phase(scene) is SecretPhase.STEADY
    for at in range(1, total + 1):
        scene = stopped_at(SecretPhase.TESTED)
        scene.pass_time(timedelta(hours=1))
        (version, value) = scene.versions()[-1]
        scene.world.add_secret(NAME, value, version.tags, version.expires)
        scene.world.now += GRACE
        scene.world.faults = {scene.world.calls + at: Fault.KILLED_AFTER}
        scene.plan()
        scene.settle()
        scene.world.faults.clear()
        scene.pass_time(DAY)
        scene.check_secret()


def test_the_target_is_told_nothing_by_a_worker_whose_claim_is_nearly_over() -> None:
    scene = Scene()
    scene.send(SecretAction.ROTATE)
    told = len(scene.target.accepted)

    def sleep() -> None:
        scene.world.now += CLAIM

    scene.world.interruptions = {scene.world.calls + at: sleep for at in range(4, 30)}
    scene.deliver(scene.world.messages[0])
    assert len(scene.target.accepted) == told
    scene.world.interruptions.clear()
    scene.settle()
    assert phase(scene) is SecretPhase.GRACE


@pytest.mark.parametrize("kind", NATURES.values(), ids=list(NATURES))
def test_a_version_with_tags_of_ours_that_does_not_work_is_not_taken_over_and_somebody_is_told(kind: type) -> None:
    scene = rotated(kind)
    (old, old_value), (_, value) = scene.versions()
    scene.pass_time(GRACE + DAY)
    on_record = scene.row.current
    late = scene.world.add_secret(NAME, old_value, {STATE_TAG: "current", GENERATION_TAG: "1", SLOT_TAG: "user-a"})
    assert not scene.works(late.version)
    order = SecretOrder(SecretAction.DRIVE, NAME, "look", Trigger.VAULT, "key-vault", "a new version", 1)
    scene.drop(SECRET_JOBS, order.to_json())
    scene.deliver(scene.world.messages[0])
    assert (phase(scene), scene.row.current, is_enabled(scene, old.version)) == (SecretPhase.STEADY, on_record, False)
    assert scene.world.alerts[f"secret/{NAME}/broken"].severity is Severity.CRITICAL
    scene.world.add_secret(NAME, value)  # what the runbook says
    scene.settle()
    assert scene.row.current == scene.versions()[-1][0].version
    assert not alerts(scene)
    scene.consume()


def test_that_a_rotation_stood_still_is_over_with_it_though_the_planner_does_not_run_at_once() -> None:
    def stalled() -> Scene:
        scene = rotated()
        scene.world.now += GRACE + DAY
        scene.plan()
        assert alerts(scene) == {"stalled"}
        return scene

    scene = killed(stalled, lambda scene: phase(scene) is SecretPhase.STEADY)
    assert alerts(scene) == {"stalled"}
    scene.settle()
    assert not alerts(scene)


def test_a_row_that_cannot_be_read_keeps_no_other_secret_from_being_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    for name in ("a-cache", "mail"):
        target = scene.world.targets[name] = Target(name, Logins)
        scene.world.add_secret(name, target.rotator(World()).first().value.reveal())
    scene.process = Process(scene.world)
    scene.plan()
    scene.settle()
    page, read = SimSecretRotations.page, SimSecretRotations.read

    def damaged_page(self: SimSecretRotations, after: str | None, limit: int) -> Sequence[SecretRotation]:
        rows = page(self, after, limit)
        return raises(Integrity("a stored row is not as we write it"))() if NAME in {row.name for row in rows} else rows

    def damaged_read(self: SimSecretRotations, name: str) -> SecretRotation | None:
        return raises(Integrity("a stored row is not as we write it"))() if name == NAME else read(self, name)

    monkeypatch.setattr(SimSecretRotations, "page", damaged_page)
    monkeypatch.setattr(SimSecretRotations, "read", damaged_read)
    scene.world.now += INTERVAL
    with pytest.raises(Integrity):
        scene.process.secret_planner.run()
    scene.settle()
    rows = scene.world.rotations
    assert {name for name in rows if rows[name].phase is SecretPhase.GRACE} == {"a-cache", "mail"}
