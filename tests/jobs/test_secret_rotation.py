"""What a rotation of a secret does when targets, people and vaults are not as they should be."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from rotation.calendar import Calendar, Period
from rotation.catalog import PENDING_SUFFIX, SecretPolicy
from rotation.message import SECRET_JOBS, SecretAction, SecretOrder, Trigger
from rotation.secret import CLAIM, SETTLING
from rotation.secret_versions import GENERATION_TAG, RESTORES_TAG, STATE_TAG
from shared.errors import Conflict
from shared.values import PREVIOUS_TAG, PREVIOUS_UNTIL_TAG, SLOT_TAG, SecretPhase, Severity
from tests.jobs.platform import Process
from tests.jobs.secret_scene import NAME, Scene
from tests.jobs.secret_targets import GRACE, INTERVAL, NATURES, ByHand, Logins, Target
from tests.simulator import Fault

DAY = timedelta(days=1)


def rotated(kind: type = Logins) -> Scene:
    """In dual running after one rotation."""
    scene = Scene(kind=kind)
    scene.send(SecretAction.ROTATE)
    scene.settle()
    assert phase(scene) is SecretPhase.GRACE
    return scene


def phase(scene: Scene) -> SecretPhase:
    return scene.row.phase


def alerts(scene: Scene) -> set[str]:
    return {name.rpartition("/")[2] for name in scene.world.alerts}


def test_consumers_are_told_by_tags_what_still_works_and_until_when() -> None:
    scene = rotated()
    (old, _), (new, _) = scene.versions()
    assert old.tags == {STATE_TAG: "previous"}
    until = scene.row.grace_until
    assert until is not None
    assert new.tags == {
        STATE_TAG: "current",
        GENERATION_TAG: "1",
        SLOT_TAG: "user-b",
        PREVIOUS_TAG: old.version,
        PREVIOUS_UNTIL_TAG: f"{until:%Y-%m-%dT%H:%M:%SZ}",
    }
    assert scene.works(old.version)
    assert scene.works(new.version)
    (notice,) = scene.target.notices
    assert (notice.generation, notice.version, notice.previous_until) == (1, new.version, until)


def test_a_new_version_expires_a_month_behind_its_next_rotation() -> None:
    scene = rotated()
    new = scene.versions()[-1][0]
    assert new.expires == new.created + INTERVAL + timedelta(days=31)


def test_the_credential_before_works_to_the_end_of_dual_running_and_then_never_again() -> None:
    scene = rotated()
    old = scene.row.previous
    scene.world.now += GRACE - timedelta(seconds=30)
    scene.plan()
    scene.settle()
    assert scene.works(old)
    scene.pass_time(timedelta(hours=12))
    assert not scene.works(old)
    assert not scene.versions()[0][0].enabled
    assert scene.versions()[0][0].tags[STATE_TAG] == "revoked"
    scene.check_secret()


def test_what_is_due_is_rotated_by_the_planner_and_only_once() -> None:
    scene = Scene()
    for _ in range(3):
        scene.plan()
    scene.settle()
    assert scene.row.generation == 0
    scene.world.now += INTERVAL
    for _ in range(5):
        scene.plan()
    assert len(scene.world.messages) == 1
    scene.settle()
    assert scene.row.generation == 1


def test_slots_take_turns() -> None:
    scene = Scene()
    slots = []
    for number in range(4):
        scene.send(SecretAction.ROTATE, f"number-{number}")
        scene.settle()
        slots.append(scene.row.slot)
        scene.pass_time(GRACE)
    assert slots == ["user-b", "user-a", "user-b", "user-a"]
    scene.check_secret()


def test_a_target_that_ignores_the_new_credential_is_given_time_and_then_the_rotation_is_undone() -> None:
    scene = Scene()
    scene.target.ignores = True
    scene.send(SecretAction.ROTATE)
    begun = scene.world.now
    scene.settle()
    assert scene.world.now - begun >= SETTLING
    assert phase(scene) is SecretPhase.STEADY
    assert scene.row.verdict == "the target does not accept the new credential"
    assert alerts(scene) == {"failed"}
    scene.check_secret()
    scene.target.ignores = False
    scene.send(SecretAction.ROTATE, "again")
    scene.settle()
    assert (scene.row.generation, scene.row.phase) == (2, SecretPhase.GRACE)
    assert alerts(scene) == set()


def test_a_failed_rotation_is_on_record_as_failed() -> None:
    scene = Scene()
    scene.target.refuses = True
    scene.send(SecretAction.ROTATE)
    scene.settle()
    assert scene.world.outcomes()[f"secret.rotate/{NAME}/by-hand"] == {"intent", "failed"}


def test_the_credential_before_is_kept_while_the_one_in_use_does_not_work() -> None:
    scene = rotated()
    broken = scene.target.accepted.pop("user-b")
    old = scene.row.previous
    scene.world.now += GRACE
    scene.plan()
    for _ in range(5):
        scene.deliver(scene.world.messages[0])
        scene.world.now += timedelta(minutes=16)
    assert scene.works(old)
    assert scene.world.alerts[f"secret/{NAME}/broken"].severity is Severity.CRITICAL
    scene.target.accepted["user-b"] = broken
    scene.settle()
    assert not scene.works(old)
    assert alerts(scene) == set()
    scene.check_secret()


def test_a_version_that_somebody_else_has_published_in_dual_running_stops_the_revocation() -> None:
    scene = rotated()
    old = scene.row.previous
    scene.world.add_secret(NAME, scene.versions()[0][1])  # somebody has gone back by hand
    scene.world.now += GRACE
    scene.plan()
    scene.settle()
    assert scene.works(old)
    assert len(scene.world.letters) == 1


def test_what_somebody_else_has_published_is_what_is_never_touched() -> None:
    scene = Scene()
    scene.target.accepted["user-b"] = b"made by hand, and published by hand"
    scene.world.add_secret(NAME, scene.target.accepted["user-b"])
    scene.send(SecretAction.ROTATE)
    scene.settle()
    assert (scene.row.slot, scene.row.previous_slot) == ("user-a", "user-b")
    assert scene.works(scene.row.previous)
    scene.pass_time(GRACE)
    assert set(scene.target.accepted) == {"user-a"}


def test_a_version_that_somebody_else_has_disabled_counts_as_revoked_only_if_it_was() -> None:
    scene = rotated()
    versions = scene.versions()
    versions[0] = (replace(versions[0][0], enabled=False), versions[0][1])
    scene.world.now += GRACE
    scene.plan()
    scene.settle()
    assert phase(scene) is SecretPhase.GRACE
    assert len(scene.world.letters) == 1
    assert f"secret.revoke/{NAME}/g1" not in scene.world.outcomes()
    assert scene.works(versions[0][0].version)


def test_a_lost_row_is_found_again_in_the_vault_and_no_generation_is_used_twice() -> None:
    scene = rotated()
    scene.pass_time(GRACE)
    lost = scene.world.rotations.pop(NAME)
    scene.send(SecretAction.ROTATE, "again")
    scene.settle()
    assert scene.row.generation == 2
    assert scene.row.previous == lost.current
    scene.pass_time(GRACE)
    scene.check_secret()


def test_the_first_credential_of_all_is_published_without_dual_running() -> None:
    scene = Scene()
    scene.world.secrets.clear()
    scene.world.rotations.clear()
    scene.target.accepted.clear()
    scene.world.now += 400 * DAY
    scene.plan()
    scene.settle()
    assert scene.row.generation == 0, "nobody has asked for it"
    scene.send(SecretAction.ROTATE)
    scene.settle()
    assert (scene.row.phase, scene.row.generation) == (SecretPhase.STEADY, 1)
    scene.check_secret()


@pytest.mark.parametrize("kind", NATURES.values(), ids=list(NATURES))
def test_a_compromised_credential_works_no_more_within_the_same_hour(kind: type) -> None:
    scene = Scene(kind=kind)
    old = scene.row.current
    scene.send(SecretAction.ROTATE, compromised=True)
    begun = scene.world.now
    scene.settle()
    assert not scene.works(old)
    assert scene.world.now - begun < timedelta(hours=1)
    assert phase(scene) is SecretPhase.STEADY
    scene.check_secret()


def test_a_compromise_in_dual_running_ends_both_credentials() -> None:
    scene = rotated()
    old, new = scene.row.previous, scene.row.current
    scene.send(SecretAction.ROTATE, "leak", compromised=True)
    scene.settle()
    assert not scene.works(old)
    assert not scene.works(new)
    assert (scene.row.phase, scene.row.generation) == (SecretPhase.STEADY, 2)
    scene.check_secret()


def test_a_compromise_before_the_publication_needs_no_second_rotation() -> None:
    scene = Scene()
    old = scene.row.current
    scene.target.ignores = True
    scene.send(SecretAction.ROTATE)
    scene.deliver(scene.world.messages[0])
    assert phase(scene) is SecretPhase.INSTALLED
    scene.target.ignores = False
    scene.target.accepted["user-b"] = scene.versions(NAME + PENDING_SUFFIX)[-1][1]
    scene.send(SecretAction.ROTATE, "leak", compromised=True)
    scene.settle()
    assert not scene.works(old)
    assert (scene.row.phase, scene.row.generation) == (SecretPhase.STEADY, 1)
    scene.check_secret()


def test_there_is_no_way_back_to_a_compromised_credential() -> None:
    scene = Scene()
    scene.target.ignores = True
    scene.send(SecretAction.ROTATE, compromised=True)
    scene.deliver(scene.world.messages[0])
    scene.world.rotations[NAME] = replace(scene.row, phase=SecretPhase.TESTED)
    scene.send(SecretAction.ROLLBACK, generation=1)
    scene.deliver(scene.world.messages[-1])
    assert [message.queue for message in scene.world.messages if "poison" in message.queue]


def test_a_rollback_gives_the_newer_credential_a_grace_period_too() -> None:
    scene = rotated()
    old, new = scene.row.previous, scene.row.current
    scene.send(SecretAction.ROLLBACK, generation=1)
    scene.settle()
    newest = scene.versions()[-1][0]
    assert newest.tags[RESTORES_TAG] == "1"
    assert scene.works(old)
    assert scene.works(new)
    assert scene.row.previous == new
    scene.pass_time(GRACE)
    assert not scene.works(new)
    assert scene.world.outcomes()[f"secret.rollback/{NAME}/g1"] == {"intent", "succeeded"}
    scene.check_secret()


def test_a_rollback_of_what_is_not_published_abandons_it() -> None:
    scene = Scene()
    scene.target.ignores = True
    scene.send(SecretAction.ROTATE)
    scene.deliver(scene.world.messages[0])
    assert phase(scene) is SecretPhase.INSTALLED
    scene.send(SecretAction.ROLLBACK, generation=1)
    scene.settle()
    assert phase(scene) is SecretPhase.STEADY
    assert scene.row.verdict == "rolled back"
    scene.check_secret()


REFUSED = {
    "a rollback when there is nothing to go back to": (SecretAction.ROLLBACK, {"generation": 0}),
    "a rollback of another rotation": (SecretAction.ROLLBACK, {"generation": 7}),
}


@pytest.mark.parametrize(("action", "fields"), REFUSED.values(), ids=list(REFUSED))
def test_an_order_that_makes_no_sense_ends_as_a_letter(action: SecretAction, fields: dict[str, Any]) -> None:
    scene = Scene()
    scene.send(action, **fields)
    scene.settle()
    assert len(scene.world.letters) == 1
    scene.check_secret()


@pytest.mark.parametrize(
    ("trigger", "is_compromised", "severity"),
    [
        (Trigger.SCHEDULE, False, Severity.WARNING),
        (Trigger.MANUAL, False, Severity.CRITICAL),
        (Trigger.VAULT, True, Severity.CRITICAL),
    ],
)
def test_a_letter_about_a_secret_names_it_and_the_record_says_who_had_ordered_what(
    trigger: Trigger, is_compromised: bool, severity: Severity
) -> None:
    scene = Scene()
    order = SecretOrder(
        SecretAction.ROTATE, "nobody", "by-hand", trigger, "alice@atp", "ticket 4711", compromised=is_compromised
    )
    scene.drop(SECRET_JOBS, order.to_json())
    scene.settle()
    (alert,) = scene.world.alerts.values()
    assert (alert.subject, alert.severity) == ("secret/nobody", severity)
    (record,) = (each for each in scene.world.audited() if each["subject"] == "secret/nobody")
    assert (record["outcome"], record["actor"], record["trigger"]) == ("failed", "alice@atp", trigger)
    assert record["reason"].startswith("Rejected: the catalog has no secret of that name")
    assert record["reason"].endswith("asked because: ticket 4711")


def test_who_has_handed_a_value_over_is_on_record_once() -> None:
    scene = Scene()
    for _ in range(2):
        order = SecretOrder(SecretAction.DRIVE, NAME, "cli-1", Trigger.MANUAL, "alice@atp", "ticket 4711", 0)
        scene.drop(SECRET_JOBS, order.to_json())
        scene.settle()
    (record,) = (each for each in scene.world.audited() if each["action"] == "secret.drop")
    assert (record["actor"], record["reason"], record["subject"]) == ("alice@atp", "ticket 4711", f"secret/{NAME}")


def test_a_second_rotation_is_refused_while_the_first_is_not_over() -> None:
    scene = rotated()
    scene.send(SecretAction.ROTATE, "too-soon")
    scene.settle()
    (letter,) = scene.world.letters.values()
    assert "another rotation of this secret is not over" in letter.reason
    scene.pass_time(GRACE)
    scene.check_secret()


def test_an_unknown_secret_is_refused() -> None:
    scene = Scene()
    order = SecretOrder(SecretAction.ROTATE, "nobody", "by-hand", Trigger.MANUAL, "alice@atp", "asked for")
    scene.drop(SECRET_JOBS, order.to_json())
    scene.settle()
    (letter,) = scene.world.letters.values()
    assert "the catalog has no secret of that name" in letter.reason


def test_two_workers_do_not_work_on_one_secret() -> None:
    scene = Scene()
    first = scene.send(SecretAction.ROTATE)
    other = Process(scene.world)

    def meanwhile() -> None:
        with pytest.raises(Conflict):
            other.secret_jobs.perform(replace(first, request="other"))

    names = scene.world.call_names
    scene.world.interruptions = {scene.world.calls + at: meanwhile for at in (4, 9, 14)}
    scene.settle()
    assert not scene.world.interruptions
    assert names
    scene.check_secret()


@pytest.mark.parametrize("at", [*range(11, 38)])
def test_a_worker_that_stood_still_for_too_long_does_no_harm_any_more(at: int) -> None:
    scene = Scene()
    scene.send(SecretAction.ROTATE)
    other = Process(scene.world)

    def sleep() -> None:
        """The claim runs out, and somebody else rotates the secret to its end."""
        scene.world.now += CLAIM
        order = SecretOrder(SecretAction.DRIVE, NAME, "meanwhile", Trigger.SCHEDULE, "planner", "late", 1)
        other.secret_jobs.perform(order)

    calls = scene.world.calls
    scene.world.interruptions = {calls + at: sleep}
    scene.deliver(scene.world.messages[0])
    scene.settle()
    scene.consume()
    scene.pass_time(GRACE)
    assert not scene.world.interruptions
    assert scene.row.generation == 1
    scene.send(SecretAction.ROTATE, "the-next-one")
    scene.settle()
    scene.check_secret()


def test_a_rotation_that_stands_still_is_told_of_and_no_longer_when_it_has_ended() -> None:
    scene = Scene()
    scene.target.ignores = True
    scene.send(SecretAction.ROTATE)
    scene.deliver(scene.world.messages[0])
    scene.world.messages.clear()
    scene.world.outage = frozenset({"target"})
    scene.world.now += DAY
    scene.plan()
    assert alerts(scene) == {"stalled"}
    scene.world.outage = frozenset()
    scene.settle()
    assert phase(scene) is SecretPhase.STEADY
    assert alerts(scene) == {"failed"}


def test_why_a_rotation_gets_no_further_is_in_its_row_and_its_alert_until_it_does() -> None:
    scene = Scene()
    scene.world.outage = frozenset({"target"})
    scene.send(SecretAction.ROTATE)
    scene.deliver(scene.world.messages[0])
    assert phase(scene) is SecretPhase.STAGED
    why = scene.row.trouble
    assert why
    scene.world.now += DAY
    scene.plan()
    (alert,) = (alert for alert in scene.world.alerts.values() if alert.resolved is None)
    assert alert.details["reason"] == why
    scene.send(SecretAction.CONFIRM, generation=7)  # does nothing, and so says nothing
    scene.deliver(scene.world.messages[-1])
    assert scene.row.trouble == why
    scene.world.outage = frozenset()
    scene.settle()
    assert phase(scene) is SecretPhase.GRACE
    assert scene.row.trouble == ""


def test_a_lost_message_is_made_up_for_by_the_planner() -> None:
    scene = Scene()
    scene.send(SecretAction.ROTATE)
    scene.world.faults[scene.world.calls + 18] = Fault.KILLED_AFTER
    scene.deliver(scene.world.messages[0])
    scene.world.messages.clear()
    assert phase(scene) is SecretPhase.INTENDED
    scene.world.now += timedelta(hours=1)
    scene.plan()
    scene.settle()
    assert phase(scene) is SecretPhase.GRACE


def test_what_only_a_person_can_rotate_waits_for_the_person_twice() -> None:
    scene = Scene(kind=ByHand)
    scene.send(SecretAction.ROTATE)
    scene.settle()
    assert (scene.row.phase, scene.row.task) == (SecretPhase.INTENDED, "make a new one and drop it")
    assert alerts(scene) == {"task"}
    scene.pass_time(3 * DAY)
    assert alerts(scene) == {"task"}, "it does not count as standing still"

    scene.target.accepted["user-b"] = b"made by a person"
    tags = {STATE_TAG: "pending", GENERATION_TAG: "1", SLOT_TAG: scene.row.pending_slot}
    scene.world.add_secret(NAME + PENDING_SUFFIX, b"made by a person", tags)
    scene.send(SecretAction.DRIVE, "dropped", generation=1)
    scene.settle()
    assert phase(scene) is SecretPhase.GRACE
    assert alerts(scene) == set()
    assert scene.versions()[-1][1] == b"made by a person"

    scene.pass_time(GRACE)
    assert (scene.row.phase, scene.row.task) == (SecretPhase.REVOKING, "revoke the one before and confirm it")
    scene.target.accepted.pop("user-a")
    scene.send(SecretAction.CONFIRM, generation=1)
    scene.settle()
    assert phase(scene) is SecretPhase.STEADY
    assert alerts(scene) == set()
    scene.check_secret()


def test_a_person_who_confirms_what_is_not_true_is_not_believed() -> None:
    scene = Scene(kind=ByHand)
    scene.send(SecretAction.ROTATE)
    scene.settle()
    scene.target.accepted["user-b"] = b"made by a person"
    scene.world.add_secret(NAME + PENDING_SUFFIX, b"made by a person", {GENERATION_TAG: "1", SLOT_TAG: "user-b"})
    scene.send(SecretAction.DRIVE, "dropped", generation=1)
    scene.settle()
    scene.pass_time(GRACE)
    scene.send(SecretAction.CONFIRM, generation=1)
    scene.deliver(scene.world.messages[0])
    assert phase(scene) is SecretPhase.REVOKING
    assert scene.world.messages, "it is tried again"


def test_an_order_that_comes_again_after_everything_has_no_effect() -> None:
    scene = Scene()
    order = scene.send(SecretAction.ROTATE)
    scene.settle()
    scene.pass_time(GRACE)
    scene.send(SecretAction.ROTATE, "the-next-one")
    scene.settle()
    scene.pass_time(GRACE)
    scene.drop(SECRET_JOBS, order.to_json())
    scene.settle()
    assert scene.row.generation == 2
    scene.check_secret()


def test_a_person_is_told_at_once_that_what_is_to_be_rotated_is_compromised() -> None:
    scene = Scene(kind=ByHand)
    scene.send(SecretAction.ROTATE, compromised=True)
    scene.settle()
    assert scene.world.alerts[f"secret/{NAME}/task"].severity is Severity.CRITICAL


def test_a_rotation_that_ends_just_when_it_is_said_to_stand_still_leaves_no_alert() -> None:
    for at in range(1, 8):
        scene = rotated()
        scene.world.now += GRACE + 2 * DAY
        scene.process.secret_planner.ask(
            scene.row, SecretOrder(SecretAction.DRIVE, NAME, "g1-grace", Trigger.SCHEDULE, "planner", "over", 1)
        )
        other = Process(scene.world)
        (message,) = scene.world.messages
        scene.world.interruptions = {scene.world.calls + at: partial(other.perform, message)}
        scene.plan()
        scene.world.interruptions.clear()
        scene.settle()
        assert phase(scene) is SecretPhase.STEADY
        assert alerts(scene) == set(), at


def test_a_worker_whose_clock_is_behind_rotates_once_for_a_date_of_the_calendar(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entry = replace(Scene().target.policy.entry, schedule=Calendar(Period.MONTHLY))
    monkeypatch.setattr(Target, "policy", SecretPolicy(entry, "Logins", None))
    scene = Scene()
    scene.world.now = datetime(2026, 2, 1, 2, tzinfo=UTC)
    scene.plan()
    scene.world.now -= timedelta(minutes=3)  # as the worker has it
    scene.deliver(scene.world.messages[0])
    assert phase(scene) is SecretPhase.GRACE
    assert scene.versions()[-1][0].expires == datetime(2026, 4, 1, 2, tzinfo=UTC)
    for _ in range(3):
        scene.pass_time(GRACE)
    assert (phase(scene), scene.row.generation) == (SecretPhase.STEADY, 1)
