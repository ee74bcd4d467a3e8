"""The quota of each vault, shared by all workers of all processes.

One row per vault says until when the vault's time is leased out. A worker leases the next chunk by moving that moment
on, conditionally, and spends the chunk evenly over the time it stands for: so the operations of all workers together
come as one even stream at the allowed rate, and no window of any position holds more than its share (the idea of the
generic cell rate algorithm, ITU-T I.371). A worker that cannot keep up may spend its chunk a little later, and leases
smaller ones. One whose turn is too far away is told when to come back; it does not wait. Dying with a chunk loses that
chunk, half a second of one vault at most.

After a 429 the moment is moved on for everybody by a growing pause, as
https://learn.microsoft.com/azure/key-vault/general/overview-throttling recommends.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from shared.clock import Clock
from shared.errors import Conflict, Throttled
from shared.ports import Budgets
from shared.values import Budget

log = logging.getLogger(__name__)

_LARGEST_CHUNK: Final = timedelta(seconds=0.5)
_SMALLEST_CHUNK: Final = timedelta(seconds=0.1)
"""Smaller ones cost more storage calls than they are worth."""
_LATENESS: Final = timedelta(seconds=3)
"""How much later than its moment an operation may still be done; what is older is given up."""
_PATIENCE: Final = timedelta(seconds=2)
"""How far away a turn may be that is waited for."""
_ABSURD: Final = timedelta(minutes=2)
"""A schedule that is full for longer was written by a clock that is wrong."""
_PAUSES_S: Final = (1, 2, 4, 8, 16)
_TRIES: Final = 10


class NotNow(Throttled):
    """The vault's quota is used up for the moment: come back after `delay`."""

    def __init__(self, delay: timedelta) -> None:
        super().__init__("the quota of the vault is used up for the moment", delay_s=delay.total_seconds())
        self.delay = delay


@dataclass(slots=True)
class _Lease:
    """What this process may use of one vault now."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    next_at: datetime | None = None  # the next operation's moment
    until: datetime | None = None
    chunk: timedelta = _SMALLEST_CHUNK
    known: Budget | None = None
    throttled: int = 0  # 429s in a row


class VaultBudget:
    """Gives out the time of vaults. Thread-safe; one per process."""

    def __init__(self, budgets: Budgets, clock: Clock, sleep: Callable[[float], None] = time.sleep) -> None:
        self._budgets = budgets
        self._clock = clock
        self._sleep = sleep
        self._leases: dict[str, _Lease] = {}
        self._lock = threading.Lock()

    def take(self, vault: str, seconds: float) -> None:
        """Wait for the turn of operations that cost `seconds` of the vault's time; NotNow if it is far away."""
        cost = timedelta(seconds=seconds)
        lease = self._lease(vault)
        with lease.lock:
            now = self._clock()
            at = max(lease.next_at or now, now - _LATENESS)
            if lease.until is None or at + cost > lease.until:
                lease.chunk = _resized(lease, now)
                at, lease.until = self._extended(vault, lease, max(lease.chunk, cost), now)
            lease.next_at = at + cost
        if at > now:
            self._sleep((at - now).total_seconds())

    def ensure_soon(self, vault: str) -> None:
        """NotNow if a turn is far away; takes nothing. For those who have something costly to do before they ask."""
        lease = self._lease(vault)
        with lease.lock:
            now = self._clock()
            if lease.next_at is not None and lease.until is not None and max(lease.next_at, now) < lease.until:
                return
            lease.known = self._budgets.read(vault)
            start = lease.known.free_at if lease.known else now
            if now + _PATIENCE < start < now + _ABSURD:
                raise NotNow(start - now)

    def went_well(self, vault: str) -> None:
        """The vault has answered."""
        self._lease(vault).throttled = 0

    def throttled(self, vault: str, retry_after: float | None) -> NotNow:
        """The vault has answered 429: nobody asks it for a while. Answers with the error to give up with."""
        lease = self._lease(vault)
        with lease.lock:
            pause = timedelta(seconds=max(retry_after or 0, _PAUSES_S[min(lease.throttled, len(_PAUSES_S) - 1)]))
            lease.throttled += 1
            lease.next_at = lease.until = None
            for _ in range(_TRIES):
                now = self._clock()
                lease.known = self._budgets.read(vault)
                stored = lease.known.free_at if lease.known else now
                if stored >= now + pause:
                    break
                try:
                    self._put(vault, lease, now + pause)
                except Conflict:
                    continue
                break
        log.warning("throttled by the vault", extra={"vault": vault, "pause_s": pause.total_seconds()})
        return NotNow(pause)

    def _lease(self, vault: str) -> _Lease:
        with self._lock:
            return self._leases.setdefault(vault, _Lease())

    def _extended(self, vault: str, lease: _Lease, chunk: timedelta, now: datetime) -> tuple[datetime, datetime]:
        """A chunk of the vault's time: from, until. What is left of the last one is given up: it is less than asked."""
        for attempt in range(_TRIES):
            if lease.known is None or attempt:
                lease.known = self._budgets.read(vault)
            start = lease.known.free_at if lease.known else now
            if not now < start < now + _ABSURD:
                start = now
            if start > now + _PATIENCE:
                # What we know may be old: time given up by others is not, but a pause may be over.
                raise NotNow(start - now)
            try:
                self._put(vault, lease, start + chunk)
            except Conflict:
                continue
            return start, start + chunk
        raise NotNow(_PATIENCE)

    def _put(self, vault: str, lease: _Lease, free_at: datetime) -> None:
        lease.known = self._budgets.put(Budget(vault, free_at, lease.known.etag if lease.known else None))


def _resized(lease: _Lease, now: datetime) -> timedelta:
    """The next chunk: twice the last one if that was spent in its time, half of it if it took twice as long."""
    if lease.until is None:
        return _SMALLEST_CHUNK
    if now <= lease.until:
        return min(2 * lease.chunk, _LARGEST_CHUNK)
    return max(lease.chunk / 2, _SMALLEST_CHUNK) if now > lease.until + lease.chunk else lease.chunk
