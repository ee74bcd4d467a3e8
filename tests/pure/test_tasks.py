"""Tasks for people: what they read, and what they are told when."""

from datetime import timedelta

import pytest

from rotation.tasks import Step, Task, TaskPolicy, due, ids, text
from shared.values import Severity
from tests.pure.keyrings import NOW

POLICY = TaskPolicy("Ask the bank's desk for a new one.", timedelta(days=7), (3, 1))
DROP = Task("bank-token", 4, Step.DROP, NOW, POLICY)
CONFIRM = Task("bank-token", 4, Step.CONFIRM, NOW, POLICY)
SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(("task", "command"), [(DROP, "drop"), (CONFIRM, "confirm")])
def test_a_task_says_what_to_do_how_with_which_command_and_until_when(task: Task, command: str) -> None:
    words = text(task)
    assert "bank-token, generation 4" in words
    assert f"python -m rotation secret {command} bank-token" in words
    assert f"{task.deadline:%Y-%m-%d %H:%M} UTC" in words
    assert words.endswith(POLICY.instructions)


# How long after its beginning, and what is told then.
TELLINGS = (
    (timedelta(0), "opened", Severity.WARNING),
    (timedelta(days=4) - SECOND, "opened", Severity.WARNING),
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
    assert alert.id == f"secret/bank-token/task/g4/drop/{telling}"
    assert (alert.severity, alert.subject, alert.raised) == (severity, "secret/bank-token", NOW + after)
    assert alert.details == {"task": text(DROP), "deadline": DROP.deadline.isoformat()}


def test_every_telling_has_an_id_of_its_own_and_all_are_known_when_the_task_is_done() -> None:
    for task in (DROP, CONFIRM):
        told = {due(task, NOW + after).id for after, _, _ in TELLINGS}
        assert told == set(ids(task))
    assert not set(ids(DROP)) & set(ids(CONFIRM))


def test_without_reminders_people_hear_of_a_task_and_that_it_is_overdue() -> None:
    task = Task("bank-token", 4, Step.DROP, NOW, TaskPolicy("By phone.", timedelta(days=1), ()))
    told = [due(task, NOW + timedelta(hours=hours)).id.rpartition("/")[2] for hours in (0, 23, 24)]
    assert told == ["opened", "opened", "overdue"]
