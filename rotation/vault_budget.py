"""The quota of each vault, shared by all workers of all processes.

One row per vault says until when the vault's time is leased out. A worker leases the next chunk by moving that moment
on, conditionally, and spends the chunk evenly over the time it stands for: so the operations of all workers together
come as one even stream at the allowed rate (the idea of the generic cell rate algorithm, ITU-T I.371). Time that was
not used may be used a little later, so that a stall costs nothing; a window of the vault, wherever it begins, holds at
most that much more than its share. A worker that cannot keep up leases smaller chunks, workers that meet at the row
larger ones. One whose turn is too far away is told when to come back; it does not wait. Dying with a chunk loses that
chunk: half a second of one vault, or the time of one tenant's DEKs.

After a 429 the moment is moved on for everybody by a growing pause, as
https://learn.microsoft.com/azure/key-vault/general/overview-throttling recommends.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from shared.clock import Clock
from shared.errors import Conflict, Throttled, Transient
from shared.ports import Budgets
from shared.values import Budget, Etag

log = logging.getLogger(__name__)

_LARGEST_CHUNK: Final = timedelta(seconds=0.5)
_CONTESTED_CHUNK: Final = timedelta(seconds=0.2)
"""What chunks grow to while workers get in each other's way to lease them."""
_SMALLEST_CHUNK: Final = timedelta(seconds=0.05)
"""Smaller ones cost more storage calls than they are worth."""
_CATCH_UP: Final = timedelta(seconds=1)
"""How long time that nobody has leased may still be leased."""
_LATENESS: Final = timedelta(seconds=1.5)
"""How much later than when it was leased, or than its moment, time may still be used; what is older is given up."""
_PATIENCE: Final = timedelta(seconds=2)
"""How far away a turn may be that is waited for."""
_ABSURD: Final = timedelta(minutes=2)
"""A schedule that is full for longer, and that nobody moves for as long, was written by a clock that is wrong."""
_PAUSES_S: Final = (1, 2, 4, 8, 16)
_TRIES: Final = 10
_BACK_OFF_S: Final = 0.03
_LONGEST_BACK_OFF_S: Final = 0.5
_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


class NotNow(Throttled):
    """The vault's quota is used up for the moment: come back after `delay`."""

    def __init__(self, delay: timedelta) -> None:
        super().__init__("the quota of the vault is used up for the moment", delay_s=delay.total_seconds())
        self.delay = delay


@dataclass(slots=True)
class _Lease:
    """What this process may use of one vault now."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    next_at: datetime = _LONG_AGO  # the next operation's moment
    until: datetime = _LONG_AGO
    chunk: timedelta = _SMALLEST_CHUNK
    behind: timedelta = timedelta()  # how long ago its time had begun when it was leased
    contested: bool = False  # whether somebody else was faster when it was leased
    strange: tuple[Etag | None, datetime] | None = None  # the row that is full for too long, and since when it is known
    throttled: int = 0  # pauses in a row
    paused_until: datetime = _LONG_AGO
    failed_at: datetime = _LONG_AGO  # when the storage failed last


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
        with self._locked(vault) as lease:
            at = max(lease.next_at, self._clock() - lease.behind - _LATENESS)
            if at + cost > lease.until:
                left = max(lease.until - at, timedelta())
                self._extend(vault, lease, cost)
                at = lease.next_at - left
            lease.next_at = at + cost
            wait = at - self._clock()
        if wait > timedelta():
            self._sleep(wait.total_seconds())

    def ensure_soon(self, vault: str) -> None:
        """NotNow if a turn is far away; takes nothing. For those who have something costly to do before they ask."""
        with self._locked(vault) as lease:
            if max(lease.next_at, self._clock()) < lease.until:
                return
            known, now = self._budgets.read(vault), self._clock()
            _ensure_soon(_free_at(lease, known, now), now)

    def went_well(self, vault: str) -> None:
        """The vault has answered."""
        self._lease(vault).throttled = 0

    def throttled(self, vault: str, retry_after: float | None) -> NotNow:
        """The vault has answered 429: nobody asks it for a while. Answers with the error to give up with."""
        with self._locked(vault) as lease:
            left = lease.paused_until - self._clock()
            if left > timedelta(seconds=retry_after or 0):
                return NotNow(left)  # many threads are answered 429 at once, and that is one reason for one pause
            pause = timedelta(seconds=max(retry_after or 0, _PAUSES_S[min(lease.throttled, len(_PAUSES_S) - 1)]))
            lease.throttled += 1
            lease.paused_until = self._clock() + pause
            lease.next_at = lease.until = _LONG_AGO
            for _ in range(_TRIES):
                until = self._clock() + pause
                known = self._budgets.read(vault)
                if known is not None and known.free_at >= until:
                    break
                with suppress(Conflict):
                    self._put(vault, known, until)
                    break
        log.warning("throttled by the vault", extra={"vault": vault, "pause_s": pause.total_seconds()})
        return NotNow(pause)

    def _lease(self, vault: str) -> _Lease:
        with self._lock:
            return self._leases.setdefault(vault, _Lease())

    @contextmanager
    def _locked(self, vault: str) -> Generator[_Lease]:
        """The lease, for one thread. Transient at once for who waited while the storage failed another one.

        Were every thread to wait for a time-out of its own, one after the other, they would run out of the host's time.
        """
        lease, asked = self._lease(vault), self._clock()
        with lease.lock:
            if asked < lease.failed_at:
                raise Transient("the schedule of a vault could not be read just now", vault=vault)
            try:
                yield lease
            except Transient as error:
                if not isinstance(error, NotNow):
                    lease.failed_at = self._clock()
                raise

    def _extend(self, vault: str, lease: _Lease, cost: timedelta) -> None:
        """Lease the next chunk of the vault's time, `cost` at least."""
        lease.chunk = _resized(lease, self._clock())
        chunk = max(lease.chunk, cost)
        for attempt in range(_TRIES):
            known, now = self._budgets.read(vault), self._clock()
            start = max(_free_at(lease, known, now), now - _CATCH_UP)
            _ensure_soon(start, now)
            try:
                self._put(vault, known, start + chunk)
            except Conflict:
                # Whoever comes first goes on; all others at once would only meet again.
                self._sleep(random.uniform(0, min(_BACK_OFF_S * 2**attempt, _LONGEST_BACK_OFF_S)))  # noqa: S311
                continue
            lease.next_at, lease.until = start, start + chunk
            lease.behind, lease.contested = max(now - start, timedelta()), attempt > 0
            return
        raise NotNow(_PATIENCE)

    def _put(self, vault: str, known: Budget | None, free_at: datetime) -> None:
        self._budgets.put(Budget(vault, free_at, known.etag if known else None))


def _free_at(lease: _Lease, known: Budget | None, now: datetime) -> datetime:
    """Until when the vault's time is leased out.

    A moment far ahead holds while somebody moves it: clocks that differ must not make the schedule jump to and fro.
    """
    if known is None:
        return now
    if known.free_at <= now + _ABSURD:
        lease.strange = None
    elif lease.strange is None or lease.strange[0] != known.etag:
        lease.strange = known.etag, now
    elif now - lease.strange[1] >= _ABSURD:
        return now
    return known.free_at


def _ensure_soon(start: datetime, now: datetime) -> None:
    if start > now + _PATIENCE:
        raise NotNow(min(start - now, _ABSURD))


def _resized(lease: _Lease, now: datetime) -> timedelta:
    """The next chunk: twice the last one if that was spent in its time, half of it if it took twice as long.

    Larger as well while others want the row at the same moment: then leases are what there is too little of.
    """
    if now <= lease.until:
        return min(2 * lease.chunk, _LARGEST_CHUNK)
    if lease.contested:
        return max(lease.chunk, min(2 * lease.chunk, _CONTESTED_CHUNK))
    return max(lease.chunk / 2, _SMALLEST_CHUNK) if now > lease.until + lease.chunk else lease.chunk
