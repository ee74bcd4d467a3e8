"""The process whose memory is measured: `python -m bench.memory_worker TENANTS` prints what it has done as JSON."""

import json
import logging
import os
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, override

from cryptography.hazmat.primitives.asymmetric import rsa

from rotation.audit_job import AuditTrail
from rotation.catalog import load
from rotation.dek_job import DekJobs
from rotation.message import PLAN_SHARDS, ROTATION_JOBS
from rotation.planner_job import Planner
from rotation.primary_kek import PrimaryKek
from rotation.worker import Worker
from rotation.wrapping import RSA_OAEP_256
from shared import log
from shared.clock import system_clock
from shared.ports import Alerts, DeadLetters, Deks, KeyPointers, Queues, Records, Vault
from shared.secret import Secret
from shared.values import (
    SHARDS,
    Alert,
    DeadLetter,
    Etag,
    KeyPointer,
    Keyring,
    KeyState,
    Kid,
    KekVersion,
    StoredRecord,
    Tenant,
    TenantId,
    TenantState,
    WrappedDek,
)

_KID: Final = Kid(f"https://bench.vault.azure.net/keys/master-kek/{'0' * 32}")
_CATALOG: Final = Path(__file__).parent.parent / "rotation" / "catalog.toml"
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
            kid=_KID,
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
    def add(self, tenant: Tenant) -> None:
        raise NotImplementedError

    @override
    def replace(self, old: Keyring, new: Keyring) -> None:
        self.rotated += new.tenant.primary == old.tenant.primary + 1


class WriteOnlyRecords(Records):
    """Audit streams that remember nothing: their writer knows their heads."""

    @override
    def read(self, stream: int, first_seq: int, limit: int) -> Sequence[StoredRecord]:
        return []

    @override
    def find(self, stream: int, event_id: str) -> int | None:
        return None

    @override
    def append(self, records: Sequence[StoredRecord]) -> None:
        return


class OneKek(Vault, KeyPointers):
    """The KEK and the pointer to it."""

    def __init__(self) -> None:
        public = rsa.generate_private_key(65537, 2048).public_key()
        self._kek = KekVersion(_KID, public, True, None, None, frozenset({"wrapKey", "unwrapKey"}))

    @override
    def version(self, kid: Kid) -> KekVersion:
        return self._kek

    @override
    def read(self, name: str) -> KeyPointer | None:
        return KeyPointer(name, _KID, _LONG_AGO)

    @override
    def newest(self, name: str) -> KekVersion:
        raise NotImplementedError

    @override
    def unwrap(self, kid: Kid, algorithm: str, wrapped: bytes) -> Secret:
        raise NotImplementedError

    @override
    def add(self, pointer: KeyPointer) -> None:
        raise NotImplementedError


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
    policy = load(_CATALOG).dek
    deks, queues, kek = MadeUpDeks(tenants), Relay(), OneKek()
    audit = AuditTrail(WriteOnlyRecords(), system_clock)
    jobs = DekJobs(deks, PrimaryKek(policy.kek, kek, kek, system_clock), audit, policy, system_clock, os.urandom)
    planner = Planner(deks, queues, policy, system_clock)
    worker = queues.worker = Worker(jobs, planner, audit, queues, NothingGoesWrong(), NothingGoesWrong(), system_clock)
    planner.start()
    for plan in _taken(queues.plans):
        worker.handle(PLAN_SHARDS, plan.encode(), "bench")
    return deks.rotated


class NothingGoesWrong(Alerts, DeadLetters):
    """Takes neither alerts nor letters."""

    @override
    def raise_alert(self, alert: Alert) -> None:
        raise RuntimeError(alert.what)

    @override
    def keep(self, letter: DeadLetter) -> None:
        raise RuntimeError(letter.reason)

    @override
    def all(self) -> Any:
        return []

    @override
    def resolve(self, letter: DeadLetter) -> None:
        raise NotImplementedError


def _taken(plans: deque[str]) -> Iterator[str]:
    while plans:
        yield plans.popleft()


def _peak_kib() -> int:
    """Not from getrusage, whose maximum a child inherits from the process that started it."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


if __name__ == "__main__":
    with Path(os.devnull).open("w") as nowhere:
        logging.getLogger().addHandler(logging.StreamHandler(nowhere))
        log.configure("INFO")
        rotated = _rotate_all(int(sys.argv[1]))
    print(json.dumps({"rotated": rotated, "peak_kib": _peak_kib()}))
