"""The contract of the port `Records`."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from shared.errors import Conflict
from shared.ports import MAX_ROWS_PER_TRANSACTION
from shared.values import StoredRecord
from tests.adapters.backends import AzureBackend, Backend

GROUP = MAX_ROWS_PER_TRANSACTION // 2


def records(first: int, count: int, stream: int = 3, prefix: str = "event") -> list[StoredRecord]:
    """Consecutive records; their events are named by their numbers."""
    made = []
    for seq in range(first, first + count):
        canonical = f'{{"seq":{seq},"reason":"Zoë 密钥"}}'.encode()
        event = hashlib.sha256(f"{prefix} {seq}".encode()).hexdigest()[:32]
        made.append(StoredRecord(stream, seq, event, canonical, hashlib.sha256(canonical).digest()))
    return made


def test_an_empty_stream_reads_as_empty_and_finds_nothing(backend: Backend) -> None:
    assert list(backend.records.read(3, 1, 10)) == []
    assert backend.records.find(3, records(1, 1)[0].event_id) is None


def test_what_was_appended_reads_back_byte_for_byte(backend: Backend) -> None:
    written = records(1, 3)
    backend.records.append(written)
    assert list(backend.records.read(3, 1, 10)) == written


def test_a_read_begins_where_it_is_told_and_ends_at_its_limit_or_the_end(backend: Backend) -> None:
    written = records(1, 12)
    backend.records.append(written)
    assert list(backend.records.read(3, 9, 3)) == written[8:11]
    assert list(backend.records.read(3, 11, 10)) == written[10:]
    assert list(backend.records.read(3, 13, 10)) == []


def test_a_record_that_somebody_removed_does_not_pass_for_the_end(azure: AzureBackend) -> None:
    azure.records.append(records(1, 5))
    azure.audit_table.delete_entity("s03", f"{3:020d}")
    assert [record.seq for record in azure.records.read(3, 3, 1)] == [4]
    assert [record.seq for record in azure.records.read(3, 1, 10)] == [1, 2, 4, 5]


def test_a_group_of_the_largest_size_is_appended_as_a_whole(backend: Backend) -> None:
    written = records(1, GROUP)
    backend.records.append(written)
    assert list(backend.records.read(3, 1, 1000)) == written


def test_a_larger_group_is_our_own_bug(backend: Backend) -> None:
    with pytest.raises((ValueError, AssertionError)):
        backend.records.append(records(1, GROUP + 1))
    assert list(backend.records.read(3, 1, 1000)) == []


def test_more_records_than_one_page_of_the_service_read_as_one_list(backend: Backend) -> None:
    written = records(1, 21 * GROUP)
    for first in range(0, len(written), GROUP):
        backend.records.append(written[first : first + GROUP])
    assert list(backend.records.read(3, 1, 2_000)) == written


type Group = Callable[[], Sequence[StoredRecord]]


@pytest.mark.parametrize(
    "late",
    [
        lambda: records(1, 1, prefix="other"),
        lambda: records(2, 3, prefix="other"),
        lambda: [replace(records(4, 1)[0], event_id=records(1, 1)[0].event_id)],
        lambda: [
            *records(4, GROUP - 1, prefix="other"),
            replace(records(GROUP + 3, 1)[0], event_id=records(2, 1)[0].event_id),
        ],
    ],
    ids=["number taken", "first of several numbers taken", "event taken", "event of the last of a group taken"],
)
def test_a_number_or_an_event_that_is_taken_is_a_conflict_and_nothing_of_the_group_is_inserted(
    backend: Backend, late: Group
) -> None:
    written = records(1, 3)
    backend.records.append(written)
    with pytest.raises(Conflict):
        backend.records.append(late())
    assert list(backend.records.read(3, 1, 1000)) == written
    assert [backend.records.find(3, record.event_id) for record in written] == [1, 2, 3]
    taken = {record.event_id for record in written}
    assert all(backend.records.find(3, record.event_id) is None for record in late() if record.event_id not in taken)


def test_an_event_is_found_by_its_number_in_its_own_stream_only(backend: Backend) -> None:
    written = records(1, 5)
    backend.records.append(written)
    assert backend.records.find(3, written[4].event_id) == 5
    assert backend.records.find(4, written[4].event_id) is None


def test_streams_number_their_records_independently(backend: Backend) -> None:
    backend.records.append(records(1, 2, stream=0))
    backend.records.append(records(1, 3, stream=15))
    assert [len(backend.records.read(stream, 1, 10)) for stream in (0, 1, 15)] == [2, 0, 3]
