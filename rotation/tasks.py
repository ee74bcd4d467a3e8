"""What people have to do for secrets that only they can rotate: the text of the task, its deadline, and reminders.

Pure functions of a task and `now`. That there is a task is told by whoever waits for it. What is told later is an alert
under an id that says which telling it is, so that it is told once however often it is asked for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol, runtime_checkable

from shared.values import Alert, SecretPhase, SecretRotation, Severity

_OVERDUE: Final = "overdue"


class Step(StrEnum):
    """What is waited for."""

    DROP = "drop"  # a new value, made at the service
    CONFIRM = "confirm"  # the word that the service refuses the old one
    UNDO = "undo"  # the word that it refuses the new one, of a rotation that was given up or rolled back


@dataclass(frozen=True, slots=True)
class TaskPolicy:
    """What the catalog says of the tasks of one secret."""

    instructions: str  # how a value is made at the service, and revoked unless `revocation` says that
    deadline: timedelta  # from the beginning of a task
    reminder_days: tuple[int, ...]  # before the deadline, largest first
    revocation: str = ""  # how a value is revoked at the service


@runtime_checkable
class HasTasks(Protocol):
    """Parameters of a secret whose rotation waits for people."""

    @property
    def task(self) -> TaskPolicy:
        """How that is done."""


@dataclass(frozen=True, slots=True)
class Task:
    """One thing that somebody has to do."""

    name: str  # of the secret in the catalog
    generation: int
    step: Step
    since: datetime
    policy: TaskPolicy
    version: str = ""  # which value it is about, as the vault calls it
    made: datetime | None = None  # when that was published

    @property
    def deadline(self) -> datetime:
        """When it is overdue."""
        return self.since + self.policy.deadline


_WHAT: Final[Mapping[Step, str]] = {
    Step.DROP: "make a new value at the service, leave the old one as it is, and put the new one into the vault with",
    Step.CONFIRM: (
        "revoke the old value{which} at the service, and leave the new one as it is: that is in use. "
        "Try that the revoked one fails, and confirm it with"
    ),
    Step.UNDO: (
        "revoke the value that was dropped in this rotation{which} at the service, and leave the one before as it is: "
        "that is in use. Try that the revoked one fails, and confirm it with"
    ),
}


def text(task: Task) -> str:
    """What the person reads: what to do, how, with which command, until when."""
    verb = Step.DROP if task.step is Step.DROP else Step.CONFIRM
    command = f"python -m rotation secret {verb} {task.name}"
    return (
        f"{task.name}, generation {task.generation}: {_WHAT[task.step].format(which=_which(task))} `{command}` "
        f"before {task.deadline:%Y-%m-%d %H:%M} UTC. {how(task.policy, task.step)}"
    )


def how(policy: TaskPolicy, step: Step) -> str:
    """How the step is done at the service, as the catalog says it."""
    if step is Step.DROP:
        return policy.instructions
    return policy.revocation or f"How such a value is made, which is not asked for here: {policy.instructions}"


def _which(task: Task) -> str:
    """The value that is to be revoked, in brackets."""
    if not task.version:
        return ""
    made = f", in use since {task.made:%Y-%m-%d}" if task.made else ""
    return f" (version {task.version} in the vault{made})"


def task_of(rotation: SecretRotation, parameters: object) -> Task | None:
    """The task that the rotation waits for, if `parameters` of its catalog entry say how such tasks are done."""
    if not rotation.task or not isinstance(parameters, HasTasks):
        return None
    step = _step(rotation)
    version, made = "", None
    if rotation.phase is SecretPhase.ABANDONING:
        version = rotation.pending
    elif step is not Step.DROP:
        version, made = rotation.previous, rotation.previous_since
    return Task(rotation.name, rotation.generation, step, rotation.phase_since, parameters.task, version, made)


def _step(rotation: SecretRotation) -> Step:
    if rotation.phase is SecretPhase.INTENDED:
        return Step.DROP
    # The two have changed places in a rollback: what is revoked then is the new one.
    ends_new = rotation.phase is SecretPhase.ABANDONING or rotation.rolled_back
    return Step.UNDO if ends_new else Step.CONFIRM


def due(task: Task, now: datetime) -> Alert | None:
    """The last telling whose time has come: a reminder, or that it is overdue. None before the first.

    One that was missed is made up for by the next one.
    """
    if now >= task.deadline:
        return _alert(task, _OVERDUE, "a person has not rotated a secret in time", Severity.CRITICAL, now)
    left = [days for days in task.policy.reminder_days if now >= task.deadline - timedelta(days=days)]
    if left:
        return _alert(task, _reminder(min(left)), "a secret still waits for a person", Severity.WARNING, now)
    return None


def ids(task: Task) -> tuple[str, ...]:
    """Of every alert that `due` may answer for the task, to resolve them when it is done."""
    tellings = (*(_reminder(days) for days in task.policy.reminder_days), _OVERDUE)
    return tuple(_id(task, telling) for telling in tellings)


def _reminder(days: int) -> str:
    return f"reminder-{days}"


def _id(task: Task, telling: str) -> str:
    return f"secret/{task.name}/task/g{task.generation}/{task.step}/{telling}"


def _alert(task: Task, telling: str, what: str, severity: Severity, now: datetime) -> Alert:
    details = {"task": text(task), "deadline": task.deadline.isoformat(timespec="seconds")}
    return Alert(_id(task, telling), severity, what, f"secret/{task.name}", now, details)
