"""The process whose memory is measured: `python -m bench.memory_worker TENANTS` prints what it has done as JSON."""

import json
import logging
import os
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Final, override

from bench.made_up import (
    CATALOG,
    OLD_KID,
    MadeUpVault,
    NobodyReports,
    NoSecrets,
    NothingGoesWrong,
    OneBudget,
    OneKek,
    ShardsOnDisk,
    WriteOnlyRecords,
    fill_known_secrets,
    peak_kib,
)
from rotation.audit_job import AuditTrail
from rotation.dek_job import DekJobs
from rotation.kek_job import KekJobs
from rotation.message import PLAN_SHARDS, ROTATION_JOBS
from rotation.planner_job import Planner
from rotation.primary_kek import PrimaryKek
from rotation.rewrap_job import ShardWalk
from rotation.vault_budget import VaultBudget
from rotation.worker import Worker
from rotation.wrapping import RSA_OAEP_256
from shared import log
from shared.clock import system_clock
from shared.ports import Deks, Queues
from shared.values import (
    SHARDS,
    Etag,
    Keyring,
    KeyState,
    Tenant,
    TenantId,
    TenantState,
    WrappedDek,
)

_LONG_AGO: Final = system_clock() - timedelta(days=1000)


class MadeUpDeks(Deks):
    """That many tenants, all due, evenly spread over the shards; what is written is counted and forgotten."""

    def __init__(self, tenants: int) -> None:
        self._tenants = tenants
        self.rotated = 0

    @override
    def read(self, tenant: TenantId) -> Keyring | None:
        dek = WrappedDek(
            version=1,
            state=KeyState.PRIMARY,
            wrapped=bytes(256),
            kid=OLD_KID,
            algorithm=RSA_OAEP_256,
            wrap_generation=1,
            check_value=bytes(32),
            created=_LONG_AGO,
            job="bench",
            etag=Etag("1"),
        )
        return Keyring(_due_tenant(tenant), (dek,))

    @override
    def scan(self, shard: int, after: TenantId | None, limit: int) -> Sequence[Tenant]:
        first = int(after.rpartition("-")[2]) + SHARDS if after else shard
        numbers = range(first, self._tenants, SHARDS)[:limit]
        return [_due_tenant(TenantId(f"tenant-{number:09d}")) for number in numbers]

    @override
    def page(self, shard: int, after: TenantId | None, rows: int) -> Sequence[Keyring]:
        raise NotImplementedError

    @override
    def add(self, tenant: Tenant) -> None:
        raise NotImplementedError

    @override
    def replace(self, old: Keyring, new: Keyring) -> None:
        self.rotated += new.tenant.primary == old.tenant.primary + 1


class Relay(Queues):
    """Has a job done as it is sent, and a plan after the one that sent it: at no time is there a queue of jobs."""

    def __init__(self) -> None:
        self.worker: Worker | None = None
        self.plans: deque[str] = deque()

    @override
    def send(self, queue: str, body: str, delay: timedelta = timedelta()) -> None:
        if queue == PLAN_SHARDS:
            self.plans.append(body)
        elif queue == ROTATION_JOBS and self.worker is not None:
            self.worker.handle(queue, body.encode(), "bench")
        else:
            raise RuntimeError(f"nothing may be sent to {queue}: {body}")


def _due_tenant(name: TenantId) -> Tenant:
    return Tenant(name, TenantState.ACTIVE, _LONG_AGO, primary=1, primary_since=_LONG_AGO, etag=Etag("1"))


def _rotate_all(tenants: int) -> int:
    policy, policies = CATALOG.dek, CATALOG.keks
    deks, queues, keks, vault, clock = MadeUpDeks(tenants), Relay(), OneKek(), MadeUpVault(), system_clock
    shards, uses, nothing_goes_wrong = ShardsOnDisk(BytesIO()), NobodyReports(), NothingGoesWrong()
    audit = AuditTrail(WriteOnlyRecords(), clock)
    jobs = DekJobs(deks, vault, PrimaryKek(policy.kek, keks, vault, clock), audit, policy, clock, os.urandom)
    kek_jobs = KekJobs(deks, keks, shards, vault, uses, audit, queues, nothing_goes_wrong, policies, clock, os.urandom)
    budget = VaultBudget(OneBudget(), clock)
    walk = ShardWalk(deks, keks, shards, vault, budget, audit, queues, nothing_goes_wrong, policies, clock)
    planner = Planner(deks, queues, policy, clock)
    worker = queues.worker = Worker(
        jobs,
        kek_jobs,
        walk,
        NoSecrets(),
        planner,
        audit,
        queues,
        nothing_goes_wrong,
        nothing_goes_wrong,
        clock,
    )
    planner.start()
    for plan in _taken(queues.plans):
        worker.handle(PLAN_SHARDS, plan.encode(), "bench")
    return deks.rotated


def _taken(plans: deque[str]) -> Iterator[str]:
    while plans:
        yield plans.popleft()


if __name__ == "__main__":
    with Path(os.devnull).open("w") as nowhere:
        logging.getLogger().addHandler(logging.StreamHandler(nowhere))
        log.configure("INFO")
        fill_known_secrets()
        rotated = _rotate_all(int(sys.argv[1]))
    print(json.dumps({"rotated": rotated, "peak_kib": peak_kib()}))
