"""The KEK versions that new DEKs are wrapped under: the primary, and the other one while a rotation can be rolled back.

Which one that is stands in the key's pointer, not in the vault: a version that appears in the vault by itself is not
used before a KEK rotation makes it primary. Without a pointer the newest version is adopted, once.
"""

import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from rotation.wrapping import WriteTarget, may_wrap
from shared.clock import Clock
from shared.errors import AtpError, Conflict, Integrity, Transient
from shared.ports import Keks, Vault
from shared.values import KekVersion, KeyPointer, Kid

log = logging.getLogger(__name__)

READ_AGAIN: Final = timedelta(minutes=1)
"""For how long a KEK that is primary no more, or was disabled, may still be used; expiry is checked at every wrap."""
_READ_UNUSABLE_AGAIN: Final = timedelta(seconds=30)
"""For how long a KEK that was repaired meanwhile is still refused."""


class PrimaryKek:
    """Gives the primary version of one KEK, read from the vault every few minutes instead of for every tenant."""

    def __init__(
        self,
        name: str,
        keks: Keks,
        vault: Vault,
        clock: Clock,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._keks = keks
        self._vault = vault
        self._clock = clock
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._target: WriteTarget | None = None
        self._read_at = float("-inf")
        self._failed_at = float("-inf")

    def __call__(self) -> WriteTarget:
        """The write target; whether its versions may wrap right now is for the caller to check."""
        asked = self._monotonic()
        with self._lock:
            if (
                self._target is None
                or self._monotonic() - self._read_at > self._fresh_for(self._target).total_seconds()
            ):
                if asked < self._failed_at:
                    # It failed while we waited. Were every job of a worker to wait for a time-out of its own, one
                    # after the other, they would run out of the host's time and end as poison.
                    raise Transient("the KEK could not be read just now", name=self._name)
                self._target = self._read()
                self._read_at = asked  # and not now: a worker may have stood still in the midst of the reading
            return self._target

    def _fresh_for(self, target: WriteTarget) -> timedelta:
        return READ_AGAIN if may_wrap(target.primary, self._clock()) else _READ_UNUSABLE_AGAIN

    def _read(self) -> WriteTarget:
        try:
            pointer = self._keks.pointer(self._name) or adopted(self._name, self._keks, self._vault, self._clock)
            return WriteTarget(self._version(pointer.kid), self._previous(pointer.previous_kid))
        except Transient:
            self._failed_at = self._monotonic()
            raise

    def _previous(self, kid: Kid | None) -> KekVersion | None:
        """The other version; without it DEKs are born all the same, and a rollback has to open them at the vault."""
        try:
            return self._version(kid) if kid else None
        except AtpError as error:
            log.warning("new DEKs are wrapped under one version only", extra={"because": str(error)})
            return None

    def _version(self, kid: Kid) -> KekVersion:
        if f"/keys/{self._name}/" not in kid:
            raise Integrity("the pointer of a KEK names another key", name=self._name, kid=kid)
        return self._vault.version(kid)


def adopted(name: str, keks: Keks, vault: Vault, clock: Clock) -> KeyPointer:
    """The pointer of a KEK that has none yet, on the newest version; whoever adopts first decides.

    It may have been in use before: its age counts from when it was made.
    """
    newest = vault.newest(name)
    pointer = KeyPointer(name, newest.kid, newest.created or clock())
    try:
        keks.add(pointer)
    except Conflict:
        first = keks.pointer(name)
        if first is not None:
            return first
        raise
    return pointer
