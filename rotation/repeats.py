"""Finds keys that occur more than once among any number of them, in memory that hardly grows.

Keys are spread over 256 buckets by their first byte, so that those of one bucket are few enough to be looked at at
once. What does not fit into memory goes page by page into one temporary file that has no name: one, because whoever
verifies on a laptop may open few. Memory keeps 8 bytes for each page.
"""

import struct
import tempfile
from array import array
from collections.abc import Iterator
from typing import IO, Final, Self

from shared.errors import Rejected

KEY_BYTES: Final = 16
PLACES: Final = 1 << 64
"""A place is below this number."""
_ENTRY: Final = struct.Struct(f">{KEY_BYTES}sQ").pack
_ENTRY_BYTES: Final = KEY_BYTES + 8
_BUCKETS: Final = 256
_PAGE_BYTES: Final = 170 * _ENTRY_BYTES  # about a page of the disk


class Repeats:
    """A multiset of 16-byte keys, each with a number that says where it was found. Close it when done.

    Every method that may need the disk is Rejected if that does not take the keys.
    """

    def __init__(self) -> None:
        self._buffers = [bytearray() for _ in range(_BUCKETS)]
        self._pages = [array("Q") for _ in range(_BUCKETS)]  # of each bucket, by their numbers in the file
        self._written = 0
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, key: bytes, place: int) -> None:
        """Put a key in; what looks random spreads well."""
        buffer = self._buffers[key[0]]
        buffer += _ENTRY(key, place)
        if len(buffer) == _PAGE_BYTES:
            self._spill(key[0])

    def places(self) -> Iterator[int]:
        """Where a key was found that had been found before; by the first byte of the key, then as they were put in."""
        for bucket in range(_BUCKETS):
            content = b"".join(self._content(bucket))
            # Nearly always their first 8 bytes tell all keys apart, and take much less time.
            beginnings = array("Q", content)[:: _ENTRY_BYTES // 8]
            if len(set(beginnings)) == len(beginnings):
                continue
            starts = range(0, len(content), _ENTRY_BYTES)
            seen: set[bytes] = set()
            for start in starts:
                key = content[start : start + KEY_BYTES]
                if key in seen:
                    yield int.from_bytes(content[start + KEY_BYTES : start + _ENTRY_BYTES])
                seen.add(key)

    def _content(self, bucket: int) -> Iterator[bytes]:
        for number in self._pages[bucket]:
            assert self._file is not None  # noqa: S101 - for the type checker
            try:
                self._file.seek(number * _PAGE_BYTES)
                page = self._file.read(_PAGE_BYTES)
            except OSError as error:
                raise _refused(error) from None
            yield page
        yield bytes(self._buffers[bucket])

    def _spill(self, bucket: int) -> None:
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
            self._file.write(self._buffers[bucket])
        except OSError as error:
            raise _refused(error) from None
        self._pages[bucket].append(self._written)
        self._written += 1
        self._buffers[bucket].clear()


def _refused(error: OSError) -> Rejected:
    return Rejected(f"a temporary file is needed; TMPDIR names the folder for it: {error.strerror}")
