"""The audit trail under threads, failures and missing rows."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import override

import pytest

from rotation.audit import STREAMS, AuditEvent, Outcome, verify_chain
from rotation.audit_job import AuditTrail
from shared.errors import Conflict, Integrity, Transient
from shared.values import StoredRecord
from tests.simulator import SimRecords, World

PATIENCE_S = 30


def event(number: int) -> AuditEvent:
    return AuditEvent(f"job/{number}", Outcome.INTENT, "dek.rotate", "dek/acme", "planner", "schedule", "due")


STREAM = event(0).stream


class GatedRecords(SimRecords):
    """Stands still in its first append until the gate opens; then does as told."""

    def __init__(self, world: World, later: Callable[[], None] = lambda: None) -> None:
        super().__init__(world)
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.groups: list[int] = []
        self._later = later

    @override
    def append(self, records: Sequence[StoredRecord]) -> None:
        self.groups.append(len(records))
        if len(self.groups) == 1:
            self.entered.set()
            assert self.gate.wait(PATIENCE_S)
        else:
            self._later()
        super().append(records)


def written_together(records: GatedRecords, events: Sequence[AuditEvent]) -> list["Future[None]"]:
    """The first event is being written when the others come, who therefore wait for each other."""
    trail = AuditTrail(records, World().clock, sleep=lambda _: None)
    waiting = trail._streams[STREAM].waiting
    with ThreadPoolExecutor(len(events)) as writers:
        futures = [writers.submit(trail.record, events[0])]
        assert records.entered.wait(PATIENCE_S)
        futures += [writers.submit(trail.record, event) for event in events[1:]]
        while len(waiting) < len(events) - 1:
            threading.Event().wait(0.001)
        records.gate.set()
    return futures


def test_those_who_wait_for_the_same_stream_share_transactions_of_fifty() -> None:
    world = World()
    records = GatedRecords(world)
    futures = written_together(records, [event(number) for number in range(80)])
    assert [future.exception() for future in futures] == [None] * 80
    assert records.groups == [1, 50, 29]
    assert verify_chain(world.streams[STREAM])[0] == 80


def test_an_event_that_two_want_to_record_at_once_is_recorded_once() -> None:
    world = World()
    futures = written_together(GatedRecords(world), [event(0), event(1), event(1), event(2)])
    assert [future.exception() for future in futures] == [None] * 4
    assert len(world.streams[STREAM]) == 3


@pytest.mark.parametrize("failure", [Transient("no answer"), RuntimeError("a bug"), Integrity("a broken row")])
def test_nobody_takes_a_record_for_written_that_is_not(failure: Exception) -> None:
    def fail() -> None:
        raise failure

    world = World()
    futures = written_together(GatedRecords(world, fail), [event(number) for number in range(4)])
    assert futures[0].exception() is None
    assert len(world.streams[STREAM]) == 1
    errors = [future.exception() for future in futures[1:]]
    assert None not in errors
    if isinstance(failure, Integrity):
        assert errors == [failure] * 3, "what is broken is not to be tried again"


def test_a_record_missing_before_the_end_of_its_stream_is_broken_and_nothing_is_appended() -> None:
    world = World()
    trail = AuditTrail(SimRecords(world), world.clock)
    for number in range(6):
        trail.record(event(number))

    class Holed(SimRecords):
        """One row was deleted."""

        @override
        def read(self, stream: int, first_seq: int, limit: int) -> Sequence[StoredRecord]:
            return [record for record in super().read(stream, first_seq, limit) if record.seq != 5]

    restarted = AuditTrail(Holed(world), world.clock, sleep=lambda _: None)
    with pytest.raises((Integrity, Transient)):
        restarted.record(event(7))
    assert len(world.streams[STREAM]) == 6


def test_a_restarted_writer_finds_the_end_of_streams_of_any_length() -> None:
    for length in (1, 2, 3, 7, 8, 9, 40):
        world = World()
        for number in range(length):
            AuditTrail(SimRecords(world), world.clock).record(event(number))
        assert verify_chain(world.streams[STREAM])[0] == length
    assert STREAM < STREAMS


def test_a_planted_row_of_an_event_does_not_pass_for_its_record() -> None:
    world = World()

    class Planted(SimRecords):
        """Somebody has inserted a row that says that event 7 is record 1."""

        @override
        def find(self, stream: int, event_id: str) -> int | None:
            return 1 if event_id == event(7).id else super().find(stream, event_id)

        @override
        def append(self, records: Sequence[StoredRecord]) -> None:
            if any(record.event_id == event(7).id for record in records):
                raise Conflict("taken")
            super().append(records)

    trail = AuditTrail(Planted(world), world.clock, sleep=lambda _: None)
    trail.record(event(1))
    for ask in (lambda: trail.record(event(7)), lambda: trail.knows(event(7))):
        with pytest.raises(Integrity):
            ask()
    with pytest.raises(Integrity):
        trail.find("job/7", Outcome.INTENT, "dek/acme")
