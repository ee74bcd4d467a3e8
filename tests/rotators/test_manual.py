"""Secrets that a person rotates: the contract of all rotators with a person who is quick, and what is waited for."""

import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, override

import pytest

from rotation.fields import Fields
from rotation.rotators.base import Change, Credential, Place, Rotator, Surroundings
from rotation.rotators.manual import Check, Manual, Parameters, read
from rotation.tasks import TaskPolicy
from shared.errors import Rejected, Transient, Waiting
from shared.secret import Secret
from tests.rotators.contract import Bench, RotatorContract

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
TASK = TaskPolicy("Ask the bank's desk for a new one.", timedelta(days=7), (1,))
CHECK = Check("https://bank.example/me", "Authorization", "Bearer {value}", (200, 204), (401, 403))


class Bank:
    """A service whose people make and revoke values, and a person who knows what was asked for."""

    def __init__(self) -> None:
        self.valid: dict[str, bytes] = {}  # by slot
        self.dropped: dict[int, Secret] = {}  # by generation
        self.confirmed: set[str] = set()
        self.answer: int | None = None  # to every check; 0: none at all

    def make(self, slot: str) -> Secret:
        """A new value."""
        self.valid[slot] = os.urandom(24).hex().encode()
        return Secret(self.valid[slot])

    def drop(self, generation: int) -> Secret:
        """The person makes a value and puts it aside."""
        self.dropped[generation] = self.make(f"g{generation}")
        return self.dropped[generation]

    def confirm(self, slot: str) -> None:
        """The person revokes a value and says so."""
        self.valid.pop(slot, None)
        self.confirmed.add(slot)

    def ask(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, _timeout_s: float) -> int:
        """The declared check."""
        assert (method, url, body) == ("GET", CHECK.url, None)
        if self.answer == 0:
            raise Transient("no answer over HTTP", cause="ConnectionError")
        if self.answer is not None:
            return self.answer
        name, _, value = headers["Authorization"].partition(" ")
        return 200 if name == "Bearer" and value.encode() in self.valid.values() else 401

    def around(self) -> Surroundings:
        """What the app tells of what the person did."""
        return Surroundings(
            secret=lambda _: pytest.fail("there is no other secret"),
            credential=None,  # type: ignore[arg-type] # nothing of Azure is asked
            entropy=os.urandom,
            clock=lambda: NOW,
            dropped=self.dropped.get,
            confirmed=self.confirmed.__contains__,
        )

    def rotator(self, check: Check | None = CHECK) -> Manual:
        """The rotator of a process that has just started."""
        return Manual("bank-token", Parameters(TASK, check), self.around(), self.ask)


class Attended(Manual):
    """With a person who does at once what is waited for."""

    def __init__(self, bank: Bank, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._bank = bank

    @override
    def obtain(self, change: Change) -> Credential:
        try:
            return super().obtain(change)
        except Waiting:
            self._bank.drop(change.generation)
            return super().obtain(change)

    @override
    def revoke(self, old: Credential, current: Credential) -> None:
        try:
            super().revoke(old, current)
        except Waiting:
            self._bank.confirm(old.slot)
            super().revoke(old, current)

    @override
    def abandon(self, change: Change) -> None:
        try:
            super().abandon(change)
        except Waiting:
            self._bank.confirm(change.place.slot)
            super().abandon(change)


class ManualBench(Bench):
    """The bank with its person."""

    @override
    def clear(self) -> None:
        self.bank = Bank()

    @override
    def rotator(self) -> Rotator:
        return self._rotator(self._ask)

    @override
    def unreachable(self) -> Rotator:
        def no_answer(*_: object) -> int:
            raise Transient("no answer over HTTP")

        return self._rotator(no_answer)

    @override
    def adopt(self) -> Secret:
        self.clear()
        return self.bank.make("g0")

    @override
    def wrong(self) -> Secret:
        return Secret(os.urandom(24).hex().encode())

    @override
    def working(self) -> set[bytes]:
        return set(self.bank.valid.values())

    def _rotator(self, ask: Any) -> Rotator:
        return Attended(self.bank, "bank-token", Parameters(TASK, CHECK), self.bank.around(), ask)

    def _ask(self, *arguments: Any) -> int:
        return self.faults.around(lambda: self.bank.ask(*arguments))


class TestWithACheck(RotatorContract):
    @pytest.fixture
    def bench(self) -> Iterator[Bench]:
        yield ManualBench()

    def test_what_is_no_value_of_this_kind_is_not_adopted(self, bench: Bench) -> None:
        """Any text may be one that fits into the header of the check."""
        bench.adopt()
        for value in (b"", b"two\nlines", b" blank", "ü".encode(), b"\x00"):
            with pytest.raises(Rejected):
                bench.rotator().locate(Secret(value))

    def test_a_target_that_does_not_answer_is_no_refusal(  # type: ignore[override]
        self, bench: ManualBench
    ) -> None:
        """Nothing is installed here, and a person is asked for a revocation, whatever the check says."""
        value = bench.adopt()
        with pytest.raises(Transient):
            bench.unreachable().test(Credential("g0", value))
        with pytest.raises(Transient):
            Manual.revoke(bench.unreachable(), Credential("g0", value), Credential("g1", value))  # type: ignore[arg-type]
        assert bench.working() == {value.reveal()}


@pytest.fixture
def bank() -> Bank:
    """With one value."""
    bank = Bank()
    bank.make("g0")
    return bank


def change_of(bank: Bank, generation: int = 1) -> Change:
    """The next rotation."""
    return Change("bank-token", generation, Place(f"g{generation}"), Credential("g0", Secret(bank.valid["g0"])))


def test_a_rotation_waits_for_the_value_of_its_own_generation(bank: Bank) -> None:
    bank.drop(1)
    for rotator in (bank.rotator(), bank.rotator()):
        with pytest.raises(Waiting) as caught:
            rotator.obtain(change_of(bank, 2))
        assert TASK.instructions in str(caught.value)
    value = bank.drop(2)
    new = bank.rotator().obtain(change_of(bank, 2))
    assert (new.slot, new.value) == ("g2", value)
    assert bank.rotator().install(change_of(bank, 2), new)


def test_the_value_in_use_dropped_as_the_new_one_is_refused_and_never_revoked(bank: Bank) -> None:
    change = change_of(bank)
    bank.dropped[1] = Secret(bank.valid["g0"])
    with pytest.raises(Rejected):
        bank.rotator().install(change, bank.rotator().obtain(change))
    bank.rotator().abandon(change)


@pytest.mark.parametrize("value", [b"", b"two\nlines", b"ends with a line break\n"])
def test_a_value_that_the_check_cannot_send_is_refused(bank: Bank, value: bytes) -> None:
    with pytest.raises(Rejected):
        bank.rotator().install(change_of(bank), Credential("g1", Secret(value)))


def test_without_a_check_any_text_will_do_but_none(bank: Bank) -> None:
    rotator = bank.rotator(None)
    assert rotator.install(change_of(bank), Credential("g1", Secret(b"two\nlines")))
    with pytest.raises(Rejected):
        rotator.install(change_of(bank), Credential("g1", Secret(b"")))


def test_without_a_check_a_person_is_believed(bank: Bank) -> None:
    rotator = bank.rotator(None)
    old, new = Credential("g0", Secret(b"old")), Credential("g1", Secret(b"new"))
    assert rotator.test(old)
    assert rotator.test(new)
    with pytest.raises(Waiting):
        rotator.revoke(old, new)
    bank.confirm("g0")
    rotator.revoke(old, new)
    assert not rotator.test(old)
    assert rotator.test(new)


def test_with_a_check_a_value_that_is_refused_needs_no_word_of_a_person(bank: Bank) -> None:
    old, new = Credential("g0", Secret(bank.valid["g0"])), Credential("g1", bank.drop(1))
    with pytest.raises(Waiting):
        bank.rotator().revoke(old, new)
    del bank.valid["g0"]
    bank.rotator().revoke(old, new)
    assert not bank.rotator().test(old)


def test_a_word_that_the_check_does_not_bear_out_is_found_out(bank: Bank) -> None:
    old = Credential("g0", Secret(bank.valid["g0"]))
    bank.confirmed.add("g0")
    bank.rotator().revoke(old, Credential("g1", bank.drop(1)))
    assert bank.rotator().test(old)


def test_a_rotation_given_up_before_anything_was_dropped_asks_nobody_for_anything(bank: Bank) -> None:
    bank.rotator().abandon(change_of(bank))
    bank.rotator(None).abandon(change_of(bank))


@pytest.mark.parametrize("check", [CHECK, None])
def test_a_rotation_given_up_waits_until_what_was_dropped_is_revoked(bank: Bank, check: Check | None) -> None:
    bank.drop(1)
    with pytest.raises(Waiting):
        bank.rotator(check).abandon(change_of(bank))
    bank.confirm("g1")
    bank.rotator(check).abandon(change_of(bank))


def test_a_rotation_given_up_for_a_value_that_cannot_be_tried_waits_for_a_person(bank: Bank) -> None:
    bank.dropped[1] = Secret(b"two\nlines")
    with pytest.raises(Waiting):
        bank.rotator().abandon(change_of(bank))


@pytest.mark.parametrize(("answer", "meaning"), [(200, True), (204, True), (401, False), (403, False)])
def test_the_declared_statuses_say_yes_and_no(bank: Bank, answer: int, meaning: bool) -> None:
    bank.answer = answer
    assert bank.rotator().test(Credential("g0", Secret(b"value"))) is meaning


@pytest.mark.parametrize("answer", [0, 201, 302, 404, 429, 500])
def test_any_other_status_says_nothing(bank: Bank, answer: int) -> None:
    bank.answer = answer
    with pytest.raises(Transient):
        bank.rotator().test(Credential("g0", Secret(b"value")))


def parsed(table: dict[str, object]) -> tuple[Parameters, list[str]]:
    """What the catalog makes of an entry's parameters."""
    mistakes: list[str] = []
    fields = Fields("[bank] parameters:", table, mistakes)
    parameters = read(fields)
    fields.finish()
    return parameters, mistakes


HOW = {"instructions": TASK.instructions}
ASKING = {"url": CHECK.url, "header": "Authorization: Bearer {value}"}


def test_only_the_instructions_must_be_given() -> None:
    assert parsed({**HOW}) == (Parameters(TASK, None), [])


def test_everything_can_be_given() -> None:
    check = {**ASKING, "accepted": [200, 204], "refused": [401, 403]}
    table = {**HOW, "deadline_days": 14, "reminder_days": [1, 7], "test": check}
    assert parsed(table) == (Parameters(TaskPolicy(TASK.instructions, timedelta(days=14), (7, 1)), CHECK), [])


WRONG: dict[str, tuple[dict[str, object], str]] = {
    "no instructions": ({}, "instructions: is missing"),
    "a reminder before the task": ({**HOW, "reminder_days": [7]}, "fewer than deadline_days"),
    "no deadline": ({**HOW, "deadline_days": 0, "reminder_days": []}, "deadline_days:"),
    "a check without a URL": ({**HOW, "test": {"header": ASKING["header"]}}, "test: url: is missing"),
    "a check over http": ({**HOW, "test": {**ASKING, "url": "http://bank.example"}}, "test: url:"),
    "a check without the value": ({**HOW, "test": {**ASKING, "header": "Accept: *"}}, "test: header:"),
    "the value twice": ({**HOW, "test": {**ASKING, "header": "A: {value}{value}"}}, "test: header:"),
    "two headers": ({**HOW, "test": {**ASKING, "header": "A: {value}\r\nB: c"}}, "test: header:"),
    "a status that says both": ({**HOW, "test": {**ASKING, "accepted": [401]}}, "in common"),
    "no status that says yes": ({**HOW, "test": {**ASKING, "accepted": []}}, "each name a status"),
    "a misspelt field": ({**HOW, "test": {**ASKING, "refuse": [401]}}, "refuse is an unknown field"),
}


@pytest.mark.parametrize(("table", "reason"), WRONG.values(), ids=list(WRONG))
def test_a_mistake_in_the_catalog_is_told(table: dict[str, object], reason: str) -> None:
    (mistake,) = parsed(table)[1]
    assert reason in mistake
