"""The process that rotates a made-up KEK: `python -m bench.scale_worker DEKS KILLS` prints what it has done as JSON."""

import json
import logging
import os
import random
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Final, override

from bench.made_up import (
    CATALOG,
    DEK,
    NEW_KID,
    OLD_KID,
    Call,
    MadeUpVault,
    NobodyReports,
    NothingGoesWrong,
    OneBudget,
    OneKek,
    ShardsOnDisk,
    SimulatedTime,
    WriteOnlyRecords,
    fill_known_secrets,
    peak_kib,
)
from rotation.audit_job import AuditTrail
from rotation.kek_job import KekJobs
from rotation.message import KEK_ORDERS, KekAction, KekOrder, RewrapBatch, Trigger
from rotation.rewrap_job import ShardWalk
from rotation.vault_budget import VaultBudget
from rotation.wrapping import RSA_OAEP_256, check_value
from shared import log
from shared.ports import Deks, Queues
from shared.secret import Secret
from shared.values import (
    SHARDS,
    Etag,
    Keyring,
    KeyState,
    Kid,
    Phase,
    Tenant,
    TenantId,
    TenantState,
    Wrap,
    WrappedDek,
)

_VERSIONS: Final = 4
_WRAPS: Final[Mapping[Kid, Sequence[Wrap]]] = {
    kid: [Wrap(bytes([version]) * 256, kid, RSA_OAEP_256) for version in range(_VERSIONS)] for kid in (OLD_KID, NEW_KID)
}
_ETAG: Final = Etag("1")
_TICKS: Final = 60
"""Of the timer in a row without a message: minutes in which shards whose messages were lost are sent again."""


@dataclass(frozen=True, slots=True)
class Done:
    """What the process has done."""

    rows: int  # DEKs under the new version
    verified: bool  # whether the run has found every DEK of its manifest unchanged
    seconds: float  # of the processor, from the order to the grace period
    peak_kib: int
    looked_at: int  # rows that the walks were given, tenants' own included
    calls: int  # of ports
    kills: int


class Killed(BaseException):
    """The worker is dead."""


class Fate:
    """Kills the worker at the calls with these numbers."""

    def __init__(self, moments: frozenset[int]) -> None:
        self._moments = moments
        self.calls = 0
        self.kills = 0

    def call(self) -> None:
        """One call of a port."""
        self.calls += 1
        if self.calls in self._moments:
            self.kills += 1
            raise Killed


class MadeUpDeks(Deks):
    """So many tenants with four DEKs each, evenly spread over the shards.

    A shard is walked in the order of its tenants, so all it has to remember of a rewrap is how far it has come.
    """

    def __init__(self, tenants: int, now: datetime, call: Call) -> None:
        self._tenants = tenants
        self._now = now
        self._call = call
        self._secret = Secret(DEK)
        self._rewrapped = [0] * SHARDS
        self.looked_at = 0

    @property
    def rewrapped(self) -> int:
        """DEKs under the new version."""
        return sum(self._rewrapped) * _VERSIONS

    @override
    def page(self, shard: int, after: TenantId | None, rows: int) -> Sequence[Keyring]:
        self._call()
        first = int(after.rpartition("-")[2]) + 1 if after else 0
        mine = len(range(shard, self._tenants, SHARDS))
        page = range(first, mine)[: rows // (_VERSIONS + 1)]
        self.looked_at += len(page) * (_VERSIONS + 1)
        return [self._keyring(shard, number) for number in page]

    @override
    def replace(self, old: Keyring, new: Keyring) -> None:
        self._call()
        shard, number = map(int, new.tenant.tenant.split("-")[1:])
        if any(dek.kid != NEW_KID for dek in new.deks) or self._rewrapped[shard] != number:
            raise RuntimeError("a tenant was left out")
        self._rewrapped[shard] = number + 1

    @override
    def read(self, tenant: TenantId) -> Keyring | None:
        raise NotImplementedError

    @override
    def scan(self, shard: int, after: TenantId | None, limit: int) -> Sequence[Tenant]:
        raise NotImplementedError

    @override
    def add(self, tenant: Tenant) -> None:
        raise NotImplementedError

    def _keyring(self, shard: int, number: int) -> Keyring:
        name = TenantId(f"tenant-{shard:02d}-{number:09d}")
        is_rewrapped = number < self._rewrapped[shard]
        wraps, previous = _WRAPS[NEW_KID if is_rewrapped else OLD_KID], _WRAPS[OLD_KID]
        deks = tuple(
            WrappedDek(
                version=at + 1,
                state=KeyState.PRIMARY if at == _VERSIONS - 1 else KeyState.RETIRED,
                wrapped=wraps[at].wrapped,
                kid=wraps[at].kid,
                algorithm=RSA_OAEP_256,
                wrap_generation=1,
                check_value=check_value(self._secret, name, at + 1),
                created=self._now,
                job="bench",
                previous=previous[at] if is_rewrapped else None,
                etag=_ETAG,
            )
            for at in range(_VERSIONS)
        )
        return Keyring(Tenant(name, TenantState.ACTIVE, self._now, _VERSIONS, self._now, etag=_ETAG), deks)


class Messages(Queues):
    """One queue for all messages, first in, first out."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self.waiting: deque[tuple[str, str]] = deque()

    @override
    def send(self, queue: str, body: str, delay: timedelta = timedelta()) -> None:
        self._call()
        self.waiting.append((queue, body))


class Stage:
    """Everything outside of a worker, which a kill leaves as it is."""

    def __init__(self, deks: int, fate: Fate, pages: IO[bytes]) -> None:
        self.time = SimulatedTime()
        self.deks = MadeUpDeks(deks // _VERSIONS, self.time.clock(), fate.call)
        self.keks = OneKek(fate.call)
        self.shards = ShardsOnDisk(pages, fate.call)
        self.budgets = OneBudget(fate.call)
        self.vault = MadeUpVault(fate.call)
        self.messages = Messages(fate.call)


class Process:
    """A worker that knows nothing of what was before it."""

    def __init__(self, stage: Stage) -> None:
        clock, policies, alerts = stage.time.clock, CATALOG.keks, NothingGoesWrong()
        audit = AuditTrail(WriteOnlyRecords(), clock)
        self._kek_jobs = KekJobs(
            stage.deks,
            stage.keks,
            stage.shards,
            stage.vault,
            NobodyReports(),
            audit,
            stage.messages,
            alerts,
            policies,
            clock,
            lambda _: DEK,  # the canary is opened by the same vault
        )
        self._walk = ShardWalk(
            stage.deks,
            stage.keks,
            stage.shards,
            stage.vault,
            VaultBudget(stage.budgets, clock, stage.time.sleep),
            audit,
            stage.messages,
            alerts,
            policies,
            clock,
            stage.time.monotonic,
            random.Random(1),
        )

    def handle(self, queue: str, body: str) -> None:
        """Perform one message."""
        if queue == KEK_ORDERS:
            self._kek_jobs.perform(KekOrder.parse(body.encode(), "bench"))
        else:
            batch = RewrapBatch.parse(body.encode(), "bench")
            if self._walk.perform(batch):
                self._kek_jobs.drive(batch.kek)

    def tick(self) -> None:
        """What the timer does each minute."""
        self._kek_jobs.drive_all()


def rotate(deks: int, moments: frozenset[int]) -> Done:
    """Rotate the KEK of that many DEKs up to its grace period, killed at these calls of ports."""
    fate = Fate(moments)
    with TemporaryFile() as pages:
        stage = Stage(deks, fate, pages)
        order = KekOrder(KekAction.ROTATE, CATALOG.dek.kek, "bench", Trigger.MANUAL, "bench", "to measure it")
        stage.messages.waiting.append((KEK_ORDERS, order.to_json()))
        started = time.process_time()
        _work_off(stage)
        seconds = time.process_time() - started
        run = stage.keks.stored_run
        if run is None or not _is_done(stage):
            raise RuntimeError(f"the rotation did not come to its grace period: {run}")
        return Done(
            rows=stage.deks.rewrapped,
            verified=run.root_after == run.root_before != "",
            seconds=seconds,
            peak_kib=peak_kib(),
            looked_at=stage.deks.looked_at,
            calls=fate.calls,
            kills=fate.kills,
        )


def _work_off(stage: Stage) -> None:
    """Deliver every message until it is handled, and fire the timer each minute while there is none; to the grace."""
    process, ticks = Process(stage), 0
    while stage.messages.waiting or (ticks < _TICKS and not _is_done(stage)):
        try:
            if stage.messages.waiting:
                process.handle(*stage.messages.waiting[0])
                stage.messages.waiting.popleft()
                ticks = 0
            else:
                ticks += 1
                stage.time.sleep(60)
                process.tick()
        except Killed:
            process = Process(stage)


def _is_done(stage: Stage) -> bool:
    run = stage.keks.stored_run
    return run is not None and run.phase is Phase.GRACE and run.move is None


def main(deks: int, kills: int) -> Done:
    """The same, killed that often at random calls."""
    if not kills:
        return rotate(deks, frozenset())
    calls = rotate(deks, frozenset()).calls
    return rotate(deks, frozenset(random.Random(kills).sample(range(1, calls), kills)))


if __name__ == "__main__":
    with Path(os.devnull).open("w") as nowhere:
        logging.getLogger().addHandler(logging.StreamHandler(nowhere))
        log.configure("INFO")
        fill_known_secrets()
        done = main(int(sys.argv[1]), int(sys.argv[2]))
    print(json.dumps(asdict(done)))
