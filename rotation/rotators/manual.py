"""Secrets that only a person can rotate: the service has no interface for it, or gives it to people only.

The person makes the new value at the service and puts it aside in the vault; later the person revokes the old one there
and confirms it. `obtain` and `revoke` wait for that, and everything between goes as with any other secret. What the
service thinks of a value is found out by a declared HTTP request; without one `test` believes the person.
"""

import hmac
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, override

from rotation.fields import Fields
from rotation.rotators.base import Change, Credential, Place, Rotator, Surroundings
from rotation.rotators.http_request import URL, URL_IN_WORDS, StatusOf, host_of, status_of
from rotation.tasks import Step, TaskPolicy, how
from shared.errors import Rejected, Transient, Waiting
from shared.secret import Secret

_HEADER: Final = re.compile(r"[A-Za-z0-9-]{1,64}: [ -z|~]{0,200}\{value\}[ -z|~]{0,200}")
_VALUE: Final = "{value}"
_IN_A_HEADER: Final = re.compile(rb"[!-~](?:[ -~]*[!-~])?")
_TIMEOUT_S: Final = 15


@dataclass(frozen=True, slots=True)
class Check:
    """A GET request that tells whether the service accepts a value."""

    url: str
    header: str  # its name
    template: str  # its value, with {value} in it
    accepted: tuple[int, ...]  # statuses that say yes
    refused: tuple[int, ...]  # statuses that say no


@dataclass(frozen=True, slots=True)
class Parameters:
    """What the catalog says of one."""

    task: TaskPolicy
    check: Check | None


def read(fields: Fields) -> Parameters:
    """The parameters of an entry."""
    task = TaskPolicy(
        instructions=fields.text("instructions"),
        revocation=fields.text("revocation", default=""),
        deadline=timedelta(days=fields.integer("deadline_days", 1, 90, 7)),
        reminder_days=tuple(sorted(fields.integers("reminder_days", 1, 89, (1,)), reverse=True)),
    )
    if any(timedelta(days=days) >= task.deadline for days in task.reminder_days):
        fields.mistake("reminder_days: must be fewer than deadline_days")
    return Parameters(task, _check(fields.table("test")) if fields.has("test") else None)


def _check(fields: Fields) -> Check:
    header, _, template = fields.matching("header", _HEADER, "a header with {value} in it, once").partition(": ")
    check = Check(
        url=fields.matching("url", URL, URL_IN_WORDS),
        header=header,
        template=template,
        accepted=fields.integers("accepted", 200, 599, (200,)),
        refused=fields.integers("refused", 200, 599, (401, 403)),
    )
    if set(check.accepted) & set(check.refused):
        fields.mistake("accepted and refused have a status in common")
    if not check.accepted or not check.refused:
        fields.mistake("accepted and refused must each name a status")
    fields.finish()
    return check


def make(name: str, parameters: Parameters, surroundings: Surroundings) -> Rotator:
    """The rotator."""
    return Manual(name, parameters, surroundings)


class Manual(Rotator):
    """Waits for people to rotate one of them."""

    def __init__(self, name: str, parameters: Parameters, around: Surroundings, ask: StatusOf = status_of) -> None:
        self._name = name
        self._task = parameters.task
        self._check = parameters.check
        self._around = around
        self._ask = ask

    @override
    def locate(self, value: Secret) -> str:
        self._ensure_usable(value)
        return "g0"

    @override
    def place(self, current: Credential | None, generation: int) -> Place:
        return Place(f"g{generation}")

    @override
    def obtain(self, change: Change) -> Credential:
        value = self._around.dropped(change.generation)
        if value is None:
            raise self._waiting("a person has to make and drop the new value", change.place.slot, Step.DROP)
        return Credential(change.place.slot, value)

    @override
    def install(self, change: Change, new: Credential) -> bool:
        """The service made it, and accepts it already; here is seen to it that it is a new one."""
        self._ensure_usable(new.value)
        if _is_in_use(new.value, change):
            # Its revocation would be that of the credential in use.
            raise Rejected("the value that was dropped is the one in use", name=self._name, slot=new.slot)
        return True

    @override
    def test(self, credential: Credential) -> bool:
        if self._check is None:
            return not self._around.confirmed(credential.slot)
        check = self._check
        self._ensure_usable(credential.value)
        header = check.template.replace(_VALUE, credential.value.reveal().decode())
        status = self._ask("GET", check.url, {check.header: header}, None, _TIMEOUT_S)
        if status in check.accepted:
            return True
        if status in check.refused:
            return False
        raise Transient("the service has not said yes or no", name=self._name, host=host_of(check.url), status=status)

    @override
    def revoke(self, old: Credential, current: Credential) -> None:
        self._wait_until_refused(old)

    @override
    def abandon(self, change: Change) -> None:
        """What was dropped may be valid at the service, and only a person can end that."""
        value = self._around.dropped(change.generation)
        if value is not None and value.reveal() and not _is_in_use(value, change):
            self._wait_until_refused(Credential(change.place.slot, value))

    def _wait_until_refused(self, old: Credential) -> None:
        if self._around.confirmed(old.slot):
            return
        if self._check is None or self._unusable(old.value) or self.test(old):
            what = "a person has to revoke a value at the service and confirm that"
            raise self._waiting(what, old.slot, Step.CONFIRM)

    def _waiting(self, what: str, slot: str, step: Step) -> Waiting:
        return Waiting(what, name=self._name, slot=slot, instructions=how(self._task, step))

    def _ensure_usable(self, value: Secret) -> None:
        if problem := self._unusable(value):
            raise Rejected(problem, name=self._name)

    def _unusable(self, value: Secret) -> str:
        """What is wrong with the value; empty if nothing is."""
        if not value.reveal():
            return "the value is empty"
        if self._check is not None and not _IN_A_HEADER.fullmatch(value.reveal()):
            return "the value cannot stand in the header of the test"
        return ""


def _is_in_use(value: Secret, change: Change) -> bool:
    return change.current is not None and hmac.compare_digest(value.reveal(), change.current.value.reveal())
