"""Tasks for people: what they read, and what they are told when."""

from dataclasses import replace
from datetime import timedelta

import pytest

from rotation.rotators.manual import Parameters
from rotation.tasks import Step, Task, TaskPolicy, due, ids, task_of, text
from shared.values import SecretPhase, SecretRotation, Severity
from tests.pure.keyrings import NOW

POLICY = TaskPolicy("Ask the bank's desk for a new one.", timedelta(days=7), (3, 1))
DROP = Task("bank-token", 4, Step.DROP, NOW, POLICY)
CONFIRM = Task("bank-token", 4, Step.CONFIRM, NOW, POLICY)
UNDO = Task("bank-token", 4, Step.UNDO, NOW, POLICY)
SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(("task", "command"), [(DROP, "drop"), (CONFIRM, "confirm"), (UNDO, "confirm")])
def test_a_task_says_what_to_do_how_with_which_command_and_until_when(task: Task, command: str) -> None:
    words = text(task)
    assert "bank-token, generation 4" in words
    assert f"python -m rotation secret {command} bank-token" in words
    assert f"{task.deadline:%Y-%m-%d %H:%M} UTC" in words
    assert words.endswith(POLICY.instructions)


@pytest.mark.parametrize("phase", [SecretPhase.REVOKING, SecretPhase.ABANDONING])
def test_a_task_to_revoke_names_the_value_and_how_it_is_revoked_and_does_not_ask_for_another(
    phase: SecretPhase,
) -> None:
    rotation = SecretRotation(
        "bank-token", phase, NOW, 4, task="x", previous="b" * 32, previous_since=NOW, pending="c" * 32
    )
    for policy, how in (
        (POLICY, f"How such a value is made, which is not asked for here: {POLICY.instructions}"),
        (replace(POLICY, revocation="Portal of the bank."), "Portal of the bank."),
    ):
        task = task_of(rotation, Parameters(policy, None))
        assert task is not None
        words = text(task)
        assert words.endswith(f"UTC. {how}")
        version = f"(version {'b' * 32} in the vault, in use since {NOW:%Y-%m-%d})"
        assert (version if phase is SecretPhase.REVOKING else f"(version {'c' * 32} in the vault)") in words


# How long after its beginning, and what is told then.
TELLINGS = (
    (timedelta(days=4), "reminder-3", Severity.WARNING),
    (timedelta(days=6) - SECOND, "reminder-3", Severity.WARNING),
    (timedelta(days=6), "reminder-1", Severity.WARNING),
    (timedelta(days=7) - SECOND, "reminder-1", Severity.WARNING),
    (timedelta(days=7), "overdue", Severity.CRITICAL),
    (timedelta(days=400), "overdue", Severity.CRITICAL),
)


@pytest.mark.parametrize(("after", "telling", "severity"), TELLINGS)
def test_what_is_told_is_the_last_telling_whose_time_has_come(
    after: timedelta, telling: str, severity: Severity
) -> None:
    alert = due(DROP, NOW + after)
    assert alert is not None
    assert alert.id == f"secret/bank-token/task/g4/drop/{telling}"
    assert (alert.severity, alert.subject, alert.raised) == (severity, "secret/bank-token", NOW + after)
    assert alert.details == {"task": text(DROP), "deadline": DROP.deadline.isoformat(timespec="seconds")}


def test_every_telling_has_an_id_of_its_own_and_all_are_known_when_the_task_is_done() -> None:
    for task in (DROP, CONFIRM, UNDO):
        told = [due(task, NOW + after) for after, _, _ in TELLINGS]
        assert {alert.id for alert in told if alert} == set(ids(task))
    assert len({*ids(DROP), *ids(CONFIRM), *ids(UNDO)}) == 3 * len(ids(DROP))


@pytest.mark.parametrize("after", [timedelta(0), timedelta(days=4) - SECOND])
def test_nothing_more_is_told_before_the_first_reminder(after: timedelta) -> None:
    assert due(DROP, NOW + after) is None


def test_without_reminders_people_hear_again_when_a_task_is_overdue() -> None:
    task = Task("bank-token", 4, Step.DROP, NOW, TaskPolicy("By phone.", timedelta(days=1), ()))
    assert due(task, NOW + timedelta(days=1) - SECOND) is None
    assert due(task, NOW + timedelta(days=1)) is not None


# The phase of a rotation that waits, and what for.
STEPS = (
    (SecretPhase.INTENDED, False, Step.DROP),
    (SecretPhase.REVOKING, False, Step.CONFIRM),
    (SecretPhase.REVOKING, True, Step.UNDO),
    (SecretPhase.ABANDONING, False, Step.UNDO),
    (SecretPhase.ABANDONING, True, Step.UNDO),
)


@pytest.mark.parametrize(("phase", "rolled_back", "step"), STEPS)
def test_the_task_of_a_rotation_is_never_to_revoke_what_is_in_use(
    phase: SecretPhase, rolled_back: bool, step: Step
) -> None:
    task = "somebody has to do something"
    rotation = SecretRotation("bank-token", phase, NOW, 4, task=task, rolled_back=rolled_back)
    assert task_of(rotation, Parameters(POLICY, None)) == Task("bank-token", 4, step, NOW, POLICY)


def test_a_rotation_that_waits_for_nobody_has_no_task() -> None:
    assert task_of(SecretRotation("bank-token", SecretPhase.GRACE, NOW, 4), Parameters(POLICY, None)) is None
    waiting = SecretRotation("database", SecretPhase.REVOKING, NOW, 4, task="somebody has to do something")
    assert task_of(waiting, None) is None
