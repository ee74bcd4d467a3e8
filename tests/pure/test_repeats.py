"""What occurs twice among very many is found, wherever it lies, and nothing else is."""

import hashlib
import tempfile
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotation import repeats
from rotation.repeats import KEY_BYTES, PLACES, Repeats
from shared.errors import Rejected


def key(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()[:KEY_BYTES]


def found(numbers: list[int]) -> list[int]:
    """Where a number was found again; its place is its index."""
    with Repeats() as among:
        for place, number in enumerate(numbers):
            among.add(key(number), place)
        return sorted(among.places())


def expected(numbers: list[int]) -> list[int]:
    return [place for place, number in enumerate(numbers) if number in numbers[:place]]


@given(st.lists(st.integers(0, 30), max_size=60))
def test_every_repetition_is_found_and_nothing_else(numbers: list[int]) -> None:
    assert found(numbers) == expected(numbers)


def test_what_lies_on_different_pages_of_the_disk_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "_PAGE_BYTES", 2 * repeats._ENTRY_BYTES)
    numbers = [number % 1900 for number in range(4000)]
    assert found(numbers) == list(range(1900, 4000))


def test_a_hundred_thousand_without_a_repetition_have_none_and_one_is_found_among_them() -> None:
    with Repeats() as among:
        for number in range(100_000):
            among.add(key(number), number)
        assert among._written > 256, "the disk was needed"
        assert max(map(len, among._buffers)) < repeats._PAGE_BYTES
        assert list(among.places()) == []
        among.add(key(4711), PLACES - 1)
        assert list(among.places()) == [PLACES - 1]
        assert list(among.places()) == [PLACES - 1], "they can be asked for again"


def test_keys_that_all_begin_the_same_are_found_all_the_same() -> None:
    with Repeats() as among:
        for number in range(1000):
            among.add(b"\0" * 8 + number.to_bytes(8), number)
        among.add(b"\0" * 8 + (5).to_bytes(8), 1000)
        assert list(among.places()) == [1000]


def test_one_file_is_open_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: Counter[str] = Counter()
    real = tempfile.TemporaryFile

    def counted(*arguments: Any, **options: Any) -> Any:
        opened["files"] += 1
        return real(*arguments, **options)

    monkeypatch.setattr(tempfile, "TemporaryFile", counted)
    monkeypatch.setattr(repeats, "_PAGE_BYTES", repeats._ENTRY_BYTES)
    assert found(list(range(2000))) == []
    assert opened["files"] == 1


def test_a_full_disk_is_told_with_what_to_do_about_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    monkeypatch.setattr(repeats, "_PAGE_BYTES", repeats._ENTRY_BYTES)
    with Repeats() as among, pytest.raises(Rejected, match=r"TMPDIR.*No space left on device"):
        among.add(key(1), 1)
