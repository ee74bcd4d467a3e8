"""The KEK version that new DEKs are wrapped under.

Which one that is stands in the key's pointer, not in the vault: a version that appears in the vault by itself is not
used before a KEK rotation makes it primary. Without a pointer the newest version is adopted, once.
"""

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from rotation.wrapping import ensure_may_wrap
from shared.clock import Clock
from shared.errors import Conflict, Integrity, Transient, UnusableKey
from shared.ports import KeyPointers, Vault
from shared.values import KeyPointer, PublicKek

_READ_AGAIN: Final = timedelta(minutes=5)
"""For how long a KEK that was disabled meanwhile may still be used to wrap; expiry is checked at every wrap."""
_READ_UNUSABLE_AGAIN: Final = timedelta(seconds=30)
"""For how long a KEK that was repaired meanwhile is still refused."""


class PrimaryKek:
    """Gives the primary version of one KEK, read from the vault every few minutes instead of for every tenant."""

    def __init__(
        self,
        name: str,
        pointers: KeyPointers,
        vault: Vault,
        clock: Clock,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._pointers = pointers
        self._vault = vault
        self._clock = clock
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._kek: PublicKek | None = None
        self._read_at = float("-inf")
        self._failed_at = float("-inf")

    def __call__(self) -> PublicKek:
        """The primary version; whether it may wrap right now is for the caller to check."""
        asked = self._monotonic()
        with self._lock:
            if self._kek is None or self._monotonic() - self._read_at > self._fresh_for(self._kek).total_seconds():
                if asked < self._failed_at:
                    # It failed while we waited. Were every job of a worker to wait for a time-out of its own, one
                    # after the other, they would run out of the host's time and end as poison.
                    raise Transient("the KEK could not be read just now", name=self._name)
                self._kek = self._read()
                self._read_at = self._monotonic()
            return self._kek

    def _fresh_for(self, kek: PublicKek) -> timedelta:
        try:
            ensure_may_wrap(kek, self._clock())
        except UnusableKey:
            return _READ_UNUSABLE_AGAIN
        return _READ_AGAIN

    def _read(self) -> PublicKek:
        try:
            pointer = self._pointers.read(self._name) or self._adopt()
            if f"/keys/{self._name}/" not in pointer.kid:
                raise Integrity("the pointer of a KEK names another key", name=self._name, kid=pointer.kid)
            return self._vault.version(pointer.kid)
        except Transient:
            self._failed_at = self._monotonic()
            raise

    def _adopt(self) -> KeyPointer:
        pointer = KeyPointer(self._name, self._vault.newest(self._name).kid, self._clock())
        try:
            self._pointers.add(pointer)
        except Conflict:
            first = self._pointers.read(self._name)
            if first is not None:
                return first
            raise
        return pointer
