"""The contract of the port `Checkpoints`."""

import hashlib
from dataclasses import replace

import pytest

from rotation.audit import STREAMS
from shared.errors import Conflict
from shared.values import StoredCheckpoint
from tests.adapters.backends import AzureBackend, Backend

COLUMN_BYTES = 64 * 1024
ENTITY_BYTES = 1024 * 1024


def root(number: int) -> bytes:
    return hashlib.sha256(f"root {number}".encode()).digest()


def checkpoint(number: int) -> StoredCheckpoint:
    """A checkpoint as most are: no trees, no token."""
    return StoredCheckpoint(number, f"atp-audit\n{number}\n\n— atp-audit AAAA=\n")


def full(number: int) -> StoredCheckpoint:
    """The largest that can be, with all trees and a long token."""
    trees = {stream: ",".join([root(stream).hex()] * 64) for stream in range(STREAMS)}
    token = b"".join(root(number) for number in range(4_000))
    return StoredCheckpoint(number, checkpoint(1).note * 50, trees, number - 1, token)


def test_no_checkpoint_is_there_at_first(backend: Backend) -> None:
    assert list(backend.checkpoints.read(1, 10)) == []


def test_a_checkpoint_reads_back_as_appended(backend: Backend) -> None:
    backend.checkpoints.append(checkpoint(1))
    backend.checkpoints.append(full(2))
    assert list(backend.checkpoints.read(1, 10)) == [checkpoint(1), full(2)]


def test_a_read_of_checkpoints_begins_where_it_is_told_and_ends_at_its_limit_or_the_end(backend: Backend) -> None:
    written = [checkpoint(number) for number in range(1, 13)]
    for each in written:
        backend.checkpoints.append(each)
    assert list(backend.checkpoints.read(9, 3)) == written[8:11]
    assert list(backend.checkpoints.read(11, 10)) == written[10:]
    assert list(backend.checkpoints.read(12, 1)) == written[11:]
    assert list(backend.checkpoints.read(13, 10)) == []
    assert list(backend.checkpoints.read(1, 5_000)) == written


def test_a_number_that_is_taken_is_a_conflict_and_the_first_stays(backend: Backend) -> None:
    backend.checkpoints.append(checkpoint(1))
    for again in (checkpoint(1), replace(checkpoint(1), note="another\n")):
        with pytest.raises(Conflict):
            backend.checkpoints.append(again)
    assert list(backend.checkpoints.read(1, 10)) == [checkpoint(1)]


def test_a_checkpoint_that_somebody_removed_does_not_pass_for_the_end(azure: AzureBackend) -> None:
    for number in range(1, 5):
        azure.checkpoints.append(checkpoint(number))
    azure.checkpoints_table.delete_entity("checkpoints", f"{2:020d}")
    assert [each.number for each in azure.checkpoints.read(2, 1)] == [3]
    assert [each.number for each in azure.checkpoints.read(1, 10)] == [1, 3, 4]


def test_the_largest_checkpoint_fits_into_the_columns_and_the_row_that_the_service_takes(azure: AzureBackend) -> None:
    azure.checkpoints.append(full(2))
    (row,) = azure.checkpoints_table.list_entities()
    sizes = [
        2 * len(value) if isinstance(value, str) else len(value) for value in row.values() if hasattr(value, "__len__")
    ]
    assert max(sizes) <= COLUMN_BYTES
    assert sum(sizes) <= ENTITY_BYTES // 2
    assert len(row) < 100
