"""Finds keys that occur more than once among any number of them, in memory that does not grow.

Keys are spread over files by their first byte, 256 in all, so that one file's keys are few enough to be looked at at
once. The files are temporary and have no name.
"""

import tempfile
from collections.abc import Iterator
from typing import IO, Final, Self

KEY_BYTES: Final = 16
_PLACE_BYTES: Final = 8
_ENTRY_BYTES: Final = KEY_BYTES + _PLACE_BYTES
_BUCKETS: Final = 256
_BUFFERED: Final = 170 * _ENTRY_BYTES  # of one bucket, before it goes to its file: a page of the disk


class Repeats:
    """A multiset of 16-byte keys, each with a number that says where it was found. Close it when done."""

    def __init__(self) -> None:
        self._buffers = [bytearray() for _ in range(_BUCKETS)]
        self._files: dict[int, IO[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for file in self._files.values():
            file.close()

    def add(self, key: bytes, place: int) -> None:
        """Put a key in; what looks random spreads well."""
        buffer = self._buffers[key[0]]
        buffer += key
        buffer += place.to_bytes(_PLACE_BYTES)
        if len(buffer) >= _BUFFERED:
            self._spill(key[0])

    def places(self) -> Iterator[int]:
        """Where a key was found that had been found before, in the order of the keys."""
        for bucket, buffer in enumerate(self._buffers):
            file = self._files.get(bucket)
            if file is not None:
                file.seek(0)
            entries = (file.read() if file else b"") + bytes(buffer)
            seen: set[bytes] = set()
            for start in range(0, len(entries), _ENTRY_BYTES):
                key = entries[start : start + KEY_BYTES]
                if key in seen:
                    yield int.from_bytes(entries[start + KEY_BYTES : start + _ENTRY_BYTES])
                seen.add(key)

    def _spill(self, bucket: int) -> None:
        if bucket not in self._files:
            self._files[bucket] = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed in __exit__
        self._files[bucket].write(self._buffers[bucket])
        self._buffers[bucket].clear()
