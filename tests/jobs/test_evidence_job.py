"""The evidence copy: byte for byte what is signed, whoever died over it; and every difference is reported."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from rotation.bundle import is_record
from rotation.comparison import Difference, differences
from rotation.evidence_job import EvidenceCopy
from shared.errors import AtpError
from shared.values import EvidenceFile
from tests.jobs.auditing import MINUTE, AuditProcess, Platform, stream_with, verified
from tests.simulator import Fault, Killed, SimAlerts, SimEvidence, SimRecords

DAY = timedelta(days=1)
EVENING = datetime(2026, 1, 1, 22, 57, tzinfo=UTC)


def found(platform: Platform) -> list[Difference]:
    """Every difference between the tables and the whole copy."""
    process = AuditProcess(platform.world)
    files = process.evidence.files()
    return list(differences(SimRecords(platform.world), process.trail, process.evidence, files))


def ensure_whole(platform: Platform) -> None:
    """Tables, copy and export are the same trail, and a sound one."""
    assert found(platform) == []
    exported = verified([platform.export()], platform.keys)
    copied = verified(platform.copies(), platform.keys)
    assert exported.findings == copied.findings == []
    assert exported.records == copied.records
    assert exported.checkpoints == copied.checkpoints == len(platform.notes)


def test_the_copy_has_a_file_a_day_and_each_verifies_alone() -> None:
    platform = Platform()
    platform.world.now = EVENING
    for _ in range(130):
        platform.live(1)
    assert sorted(platform.world.evidence) == ["2026/01/01/0000.jsonl", "2026/01/02/0000.jsonl"]
    for lines in platform.copies():
        assert verified([lines], platform.keys).findings == []
    ensure_whole(platform)


def test_a_file_that_is_nearly_full_of_blocks_is_followed_by_another_one_of_the_day() -> None:
    platform = Platform()
    platform.process = AuditProcess(platform.world, blocks=30)
    platform.live(200, each=1)
    assert len(platform.world.evidence) == 4
    assert all(name.startswith("2026/01/01/000") for name in platform.world.evidence)
    ensure_whole(platform)


def test_a_clock_that_was_far_ahead_stops_the_copy_at_no_later_file() -> None:
    platform = Platform()
    platform.process = AuditProcess(platform.world, blocks=30)
    platform.live(3)
    platform.world.now += 365 * DAY
    platform.live(3)
    platform.world.now -= 365 * DAY
    platform.live(200, each=1)
    assert list(platform.world.evidence) == sorted(platform.world.evidence), "in the order of their names"
    assert len(platform.world.evidence) == 5
    assert found(platform) == []
    assert verified(platform.copies(), platform.keys).checkpoints == len(platform.notes)


class Overtaken(SimEvidence):
    """Evidence of a process that stands still, at its first look, until another one has signed and copied."""

    def __init__(self, platform: Platform) -> None:
        super().__init__(platform.world)
        self._platform = platform
        self._overtaken = False

    def newest(self) -> EvidenceFile | None:
        if not self._overtaken:
            self._overtaken = True
            self._platform.sign()
        return super().newest()


def test_a_worker_that_was_overtaken_says_nothing_against_the_copy() -> None:
    platform = Platform()
    platform.live(3)
    slow = AuditProcess(platform.world)
    EvidenceCopy(slow.trail, Overtaken(platform), SimAlerts(platform.world), platform.world.clock).run()
    copy = EvidenceCopy(slow.trail, Overtaken(platform), SimAlerts(platform.world), platform.world.clock)
    copy.ensure_agrees()
    assert platform.world.alerts == {}
    ensure_whole(platform)


def test_a_copy_that_was_not_made_for_days_is_made_up_for() -> None:
    platform = Platform()
    platform.world.now = EVENING
    for _ in range(200):
        platform.record(1)
        platform.world.now += MINUTE
        platform.process.checkpointer.run()
    platform.process.copy.run()
    assert len(platform.world.evidence) == 2
    ensure_whole(platform)


def test_a_checkpoint_over_more_than_a_block_takes_is_copied_in_several() -> None:
    platform = Platform()
    platform.live(1)
    platform.record(11_000)
    platform.sign()
    (blocks,) = platform.world.evidence.values()
    assert max(map(len, blocks)) == 4 * 1024 * 1024
    ensure_whole(platform)


def scenario(platform: Platform) -> Iterator[Callable[[], None]]:
    """A minute each: one that ends an hour, quiet ones, one with much to do."""
    for recorded in (3, 3, 15, 16, 18):

        def minute(recorded: int = recorded) -> None:
            platform.record(recorded - platform.recorded)
            platform.sign()

        yield minute


def lived(platform: Platform, fault: Fault, at: int) -> None:
    """Play the scenario with a fault at that call; go on until everything is signed and copied."""
    platform.world.faults[platform.world.calls + at] = fault
    for minute in scenario(platform):
        for _ in range(3):
            try:
                minute()
                break
            except Killed:
                platform.restart()
            except AtpError:
                continue
    platform.sign(2)


def calls_of_the_scenario() -> int:
    platform = Platform()
    platform.world.now = EVENING
    before = platform.world.calls
    for minute in scenario(platform):
        minute()
    return platform.world.calls - before


@pytest.mark.parametrize("fault", Fault)
def test_a_fault_at_any_call_changes_nothing_in_the_end(fault: Fault, record_property: Callable[..., None]) -> None:
    calls = calls_of_the_scenario()
    record_property("cases", calls)
    for at in range(1, calls + 1):
        platform = Platform()
        platform.world.now = EVENING
        lived(platform, fault, at)
        ensure_whole(platform)
        jobs = [job for job, outcomes in platform.world.outcomes().items() for _ in outcomes]
        assert len(jobs) == len(set(jobs)) == platform.recorded, at
        assert platform.world.alerts == {}, at


def test_a_death_in_the_midst_of_a_large_checkpoint_is_gone_on_from() -> None:
    platform = Platform()
    platform.live(1)
    platform.record(11_000)
    platform.world.now += MINUTE
    platform.process.checkpointer.run()
    for at in range(1, 40):
        platform.world.faults[platform.world.calls + at] = Fault.KILLED_AFTER
        try:
            platform.process.copy.run()
        except Killed:
            platform.restart()
    platform.world.faults.clear()
    platform.process.copy.run()
    ensure_whole(platform)


# What the comparison reports


@pytest.fixture
def platform() -> Platform:
    """A trail of an hour."""
    platform = Platform()
    platform.live(60)
    return platform


def test_a_record_that_was_changed_in_the_table_is_named(platform: Platform) -> None:
    stream = stream_with(platform.world, 6)
    record = platform.world.streams[stream][4]
    platform.world.streams[stream][4] = replace(record, canonical=record.canonical.replace(b"due", b"dew"))
    assert [(each.what, each.stream, each.seq) for each in found(platform)] == [("a record differs", stream, 5)]


def test_records_that_were_deleted_in_the_table_are_named(platform: Platform) -> None:
    stream = stream_with(platform.world, 6)
    gone = len(platform.world.streams[stream])
    del platform.world.streams[stream][-2:]
    named = [(each.what, each.stream, each.seq) for each in found(platform)]
    assert named == [("a record is missing in the table", stream, seq) for seq in (gone - 1, gone)]


def test_a_record_that_the_copy_lacks_is_named(platform: Platform) -> None:
    ((name, blocks),) = platform.world.evidence.items()
    lines = b"".join(blocks).splitlines(keepends=True)
    at = next(index for index, line in enumerate(lines) if is_record(line) and index > 50)
    lacking = lines[:at] + lines[at + 1 :]
    platform.world.evidence[name] = [b"".join(lacking)]
    assert [each.what for each in found(platform)] == ["a record is missing in the evidence copy"]


def test_a_checkpoint_that_was_changed_or_deleted_in_the_table_is_named(platform: Platform) -> None:
    platform.world.checkpoints[7] = replace(platform.world.checkpoints[7], note=platform.world.checkpoints[8].note)
    del platform.world.checkpoints[9]
    named = [(each.what, each.checkpoint) for each in found(platform)]
    assert named == [("a checkpoint differs", 7), ("a checkpoint is missing in the table", 9)]


def test_the_daily_comparison_alerts_every_difference_once(platform: Platform) -> None:
    platform.process.reconciler.run()
    assert platform.world.alerts == {}
    stream = stream_with(platform.world, 6)
    record = platform.world.streams[stream][4]
    platform.world.streams[stream][4] = replace(record, canonical=record.canonical.replace(b"due", b"dew"))
    platform.process.reconciler.run()
    platform.process.reconciler.run()
    (alert,) = platform.world.alerts.values()
    assert alert.what == "audit trail and evidence copy differ"
    assert (alert.details["stream"], alert.details["seq"]) == (str(stream), "5")


def test_a_copy_that_lags_behind_is_alerted(platform: Platform) -> None:
    for _ in range(12):
        platform.world.now += MINUTE
        platform.process.checkpointer.run()
    platform.process.reconciler.run()
    assert [alert.details["reason"] for alert in platform.world.alerts.values()] == ["the evidence copy is behind"]


def test_a_copy_that_is_not_the_beginning_of_what_belongs_there_stays_and_is_alerted(platform: Platform) -> None:
    ((name, blocks),) = platform.world.evidence.items()
    platform.world.evidence[name] = [*blocks, b'{"action":"mallory was here"}\n']
    platform.live(2)
    assert platform.world.evidence[name][-1] == b'{"action":"mallory was here"}\n'
    assert [alert.details["reason"] for alert in platform.world.alerts.values()] == [
        "the evidence copy does not go on as the audit trail does"
    ]


def test_every_older_file_is_compared_within_a_month() -> None:
    platform = Platform()
    platform.world.now = EVENING
    for _ in range(40):
        platform.live(2)
        platform.world.now += 60 * 24 * MINUTE
    first = platform.world.streams[stream_with(platform.world, 1)]
    first[0] = replace(first[0], canonical=first[0].canonical.replace(b"due", b"dew"))
    for _ in range(30):
        platform.process.reconciler.run()
        platform.world.now += 60 * 24 * MINUTE
    assert [alert.details["reason"] for alert in platform.world.alerts.values()] == ["a record differs"]


def test_a_file_of_the_copy_that_is_gone_is_missed_where_the_next_one_begins() -> None:
    platform = Platform()
    platform.process = AuditProcess(platform.world, blocks=30)
    platform.live(200, each=1)
    names = sorted(platform.world.evidence)
    del platform.world.evidence[names[1]]
    assert [each.what for each in found(platform)] == ["a file does not begin where the one before ends"]


def test_an_anchor_that_was_changed_is_named(platform: Platform) -> None:
    ((name, blocks),) = platform.world.evidence.items()
    anchor, *rest = b"".join(blocks).splitlines(keepends=True)
    platform.world.evidence[name] = [anchor.replace(b'"since":""', b'"since":"x"'), *rest]
    assert [each.what for each in found(platform)] == ["an anchor differs"]


def test_what_cannot_be_compared_is_a_difference_too(platform: Platform) -> None:
    ((name, blocks),) = platform.world.evidence.items()
    platform.world.evidence[name] = [*blocks, b"garbage\n"]
    (difference,) = found(platform)
    assert difference.what.startswith("cannot be compared")
    platform.process.reconciler.run()
    assert len(platform.world.alerts) == 1


def test_many_records_that_are_missing_are_one_difference(platform: Platform) -> None:
    ((name, blocks),) = platform.world.evidence.items()
    lines = b"".join(blocks).splitlines(keepends=True)
    stream = stream_with(platform.world, 6)
    gone = f'"stream":{stream},'.encode()
    platform.world.evidence[name] = [line for line in lines if not (is_record(line) and gone in line)]
    assert all("missing in" in each.what for each in found(platform))
    assert sum((each.upto or each.seq or 0) - (each.seq or 0) + 1 for each in found(platform)) == len(
        platform.world.streams[stream]
    )
