"""The contract of the port `Evidence`."""

import threading

import pytest

from shared.azure.evidence import MAX_APPEND_BYTES
from shared.errors import Conflict, Integrity
from shared.values import EvidenceFile
from tests.adapters.backends import AzureBackend, Backend

NAME = "2026/11/21/0000.jsonl"
LINE = '{"reason":"Zoë 密钥"}\n'.encode()


def test_there_is_no_evidence_at_first(backend: Backend) -> None:
    assert list(backend.evidence.files()) == []
    assert backend.evidence.newest() is None


def test_a_new_file_is_empty(backend: Backend) -> None:
    backend.evidence.create(NAME)
    assert list(backend.evidence.files()) == [EvidenceFile(NAME, 0, 0)]
    assert backend.evidence.newest() == EvidenceFile(NAME, 0, 0)
    assert backend.evidence.read(NAME, 0, 100) == b""


def test_a_file_that_exists_is_a_conflict_and_keeps_what_is_in_it(backend: Backend) -> None:
    backend.evidence.create(NAME)
    backend.evidence.append(NAME, 0, LINE)
    with pytest.raises(Conflict):
        backend.evidence.create(NAME)
    assert backend.evidence.read(NAME, 0, 100) == LINE


def test_what_was_appended_reads_back_byte_for_byte_and_every_append_is_a_block(backend: Backend) -> None:
    backend.evidence.create(NAME)
    content = b""
    for number in range(1, 6):
        backend.evidence.append(NAME, len(content), LINE * number)
        content += LINE * number
        assert backend.evidence.newest() == EvidenceFile(NAME, len(content), number)
    assert backend.evidence.read(NAME, 0, 1_000_000) == content


def test_a_read_of_evidence_begins_where_it_is_told_and_ends_at_its_limit_or_the_end(backend: Backend) -> None:
    backend.evidence.create(NAME)
    backend.evidence.append(NAME, 0, b"0123456789")
    assert backend.evidence.read(NAME, 3, 4) == b"3456"
    assert backend.evidence.read(NAME, 8, 100) == b"89"
    for start in (10, 11, 10_000):
        assert backend.evidence.read(NAME, start, 100) == b""


@pytest.mark.parametrize("at", [0, 9, 11, 1_000])
def test_an_append_at_another_place_than_the_end_is_a_conflict_and_appends_nothing(backend: Backend, at: int) -> None:
    backend.evidence.create(NAME)
    backend.evidence.append(NAME, 0, b"0123456789")
    with pytest.raises(Conflict):
        backend.evidence.append(NAME, at, b"more")
    assert backend.evidence.newest() == EvidenceFile(NAME, 10, 1)


def test_an_append_made_twice_is_there_once(backend: Backend) -> None:
    backend.evidence.create(NAME)
    backend.evidence.append(NAME, 0, LINE)
    with pytest.raises(Conflict):
        backend.evidence.append(NAME, 0, LINE)
    assert backend.evidence.read(NAME, 0, 1_000) == LINE


def test_a_block_of_the_largest_size_is_appended_as_a_whole_and_read_with_its_neighbours(backend: Backend) -> None:
    largest = bytes(range(256)) * (MAX_APPEND_BYTES // 256)
    backend.evidence.create(NAME)
    backend.evidence.append(NAME, 0, LINE)
    backend.evidence.append(NAME, len(LINE), largest)
    backend.evidence.append(NAME, len(LINE) + len(largest), LINE)
    whole = LINE + largest + LINE
    assert backend.evidence.newest() == EvidenceFile(NAME, len(whole), 3)
    assert backend.evidence.read(NAME, 0, 2 * len(whole)) == whole
    assert backend.evidence.read(NAME, 5, len(whole) - 7) == whole[5:-2]


@pytest.mark.parametrize("size", [0, MAX_APPEND_BYTES + 1])
def test_a_block_that_the_service_does_not_take_is_our_own_bug(backend: Backend, size: int) -> None:
    backend.evidence.create(NAME)
    with pytest.raises((ValueError, AssertionError)):
        backend.evidence.append(NAME, 0, bytes(size))
    assert backend.evidence.newest() == EvidenceFile(NAME, 0, 0)


@pytest.mark.parametrize(
    "names",
    [
        ["2026/11/20/0000.jsonl", "2026/11/21/0000.jsonl", "2026/11/21/0001.jsonl"],
        ["2026/12/31/0000.jsonl", "2027/01/01/0000.jsonl"],
        ["a", "a.b", "a/b", "a0"],
        ["a/", "a/b/c"],
    ],
)
def test_files_are_listed_in_the_order_of_their_names_and_the_last_is_the_newest(
    backend: Backend, names: list[str]
) -> None:
    for name in reversed(names):
        backend.evidence.create(name)
        backend.evidence.append(name, 0, name.encode())
    assert list(backend.evidence.files()) == [EvidenceFile(name, len(name), 1) for name in names]
    assert backend.evidence.newest() == EvidenceFile(names[-1], len(names[-1]), 1)


def test_a_file_that_is_not_there_is_an_integrity_failure(backend: Backend) -> None:
    with pytest.raises(Integrity):
        backend.evidence.read(NAME, 0, 10)
    with pytest.raises(Integrity):
        backend.evidence.append(NAME, 0, LINE)


def test_of_appends_at_the_same_place_one_wins(azure: AzureBackend) -> None:
    azure.evidence.create(NAME)
    writers = 8
    together = threading.Barrier(writers)
    won: list[bytes] = []

    def write(number: int) -> None:
        data = f"writer {number}\n".encode()
        together.wait()
        try:
            azure.evidence.append(NAME, 0, data)
        except Conflict:
            return
        won.append(data)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert azure.evidence.read(NAME, 0, 1_000) == won[0]


def test_a_blob_that_cannot_be_appended_to_is_an_integrity_failure(azure: AzureBackend) -> None:
    azure.container.upload_blob(NAME, b"forged")
    for call in (
        azure.evidence.files,
        azure.evidence.newest,
        lambda: azure.evidence.append(NAME, len(b"forged"), LINE),
    ):
        with pytest.raises(Integrity):
            call()


def test_a_listing_of_several_pages_is_one_list(azure: AzureBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"2026/11/21/{number:04d}.jsonl" for number in range(12)]
    for name in names:
        azure.evidence.create(name)
    list_all, walk = azure.container.list_blob_names, azure.container.walk_blobs
    monkeypatch.setattr(azure.container, "list_blob_names", lambda **options: list_all(results_per_page=5, **options))
    monkeypatch.setattr(
        azure.container, "walk_blobs", lambda *given, **options: walk(*given, results_per_page=5, **options)
    )
    assert [file.name for file in azure.evidence.files()] == names
    newest = azure.evidence.newest()
    assert newest is not None
    assert newest.name == names[-1]
