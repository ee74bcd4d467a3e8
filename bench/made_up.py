"""Ports that store as little as they can, for workers whose own memory and time are measured: SDKs take no part."""

import os
import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any, Final, override

from cryptography.hazmat.primitives.asymmetric import rsa

from rotation.catalog import Catalog, load
from rotation.message import SecretOrder
from rotation.rotators.registry import READERS
from rotation.secret_job import SecretJobs
from shared.errors import Conflict
from shared.ports import Alerts, Budgets, DeadLetters, Keks, KekUses, Records, Shards, Vault
from shared.redact import KNOWN_SECRETS
from shared.secret import Secret
from shared.values import (
    Alert,
    Budget,
    DeadLetter,
    Etag,
    FrozenPage,
    KekRecord,
    KekRun,
    KekUse,
    KekVersion,
    KeyPointer,
    KeyShape,
    Kid,
    ShardProgress,
    StoredRecord,
)

CATALOG: Final[Catalog] = load(Path(__file__).parent.parent / "rotation" / "catalog.toml", READERS)
"""The shipped one."""
VAULT: Final = "https://bench.vault.azure.net"
OLD_KID: Final = Kid(f"{VAULT}/keys/{CATALOG.dek.kek}/{'0' * 31}1")
NEW_KID: Final = Kid(f"{VAULT}/keys/{CATALOG.dek.kek}/{'0' * 31}2")
DEK: Final = bytes(range(32))
"""What everything opens to."""

type Call = Callable[[], None]
"""Called at the beginning of every call of a port; what it raises ends the worker there."""


def nothing() -> None:
    """A call that nothing happens at."""


class SimulatedTime:
    """A clock that moves only while somebody sleeps."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._start = start
        self._passed_s = 0.0

    def clock(self) -> datetime:
        """The time."""
        return self._start + timedelta(seconds=self._passed_s)

    def monotonic(self) -> float:
        """Seconds that have passed."""
        return self._passed_s

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self._passed_s += seconds


class MadeUpVault(Vault):
    """Two versions of one KEK, with real public keys; everything opens to the same DEK."""

    def __init__(self, call: Call = nothing) -> None:
        self._call = call
        self._versions = {
            kid: KekVersion(
                kid,
                rsa.generate_private_key(65537, 2048).public_key(),
                enabled=True,
                not_before=None,
                expires=None,
                operations=frozenset({"wrapKey", "unwrapKey"}),
            )
            for kid in (OLD_KID, NEW_KID)
        }

    @override
    def newest(self, name: str, vault: str | None = None) -> KekVersion:
        self._call()
        return self._versions[OLD_KID]

    @override
    def version(self, kid: Kid) -> KekVersion:
        self._call()
        return self._versions[kid]

    @override
    def made_for(self, run: str, name: str, vault: str, shape: KeyShape) -> KekVersion:
        self._call()
        return self._versions[NEW_KID]

    @override
    def set_enabled(self, kid: Kid, *, enabled: bool) -> None:
        raise NotImplementedError

    @override
    def wrap(self, kid: Kid, algorithm: str, dek: Secret) -> bytes:
        raise NotImplementedError

    @override
    def unwrap(self, kid: Kid, algorithm: str, wrapped: bytes) -> Secret:
        self._call()
        return Secret(DEK)


class OneKek(Keks):
    """The pointer of one KEK and its only run."""

    def __init__(self, call: Call = nothing) -> None:
        self._call = call
        self._writes = 0
        self._record: KekRecord | None = None

    @property
    def stored_run(self) -> KekRun | None:
        """The run, for who watches."""
        return self._record.run if self._record else None

    @override
    def pointer(self, name: str) -> KeyPointer | None:
        self._call()
        return self._record.pointer if self._record else None

    @override
    def add(self, pointer: KeyPointer) -> None:
        self._call()
        self._store(KekRecord(pointer))

    @override
    def read(self, name: str) -> KekRecord | None:
        self._call()
        return self._record

    @override
    def replace(self, old: KekRecord, new: KekRecord) -> None:
        self._call()
        if self._record is None or old.pointer.etag != self._record.pointer.etag:
            raise Conflict("another worker was faster")
        self._store(new)

    @override
    def history(self, name: str) -> Sequence[KekRun]:
        self._call()
        return [self._record.run] if self._record and self._record.run else []

    def _store(self, record: KekRecord) -> None:
        self._writes += 1
        self._record = replace(record, pointer=replace(record.pointer, etag=Etag(str(self._writes))))


class ShardsOnDisk(Shards):
    """Checkpoints in memory, as many as a run has shards and passes; the pages of the manifest in a file."""

    def __init__(self, file: IO[bytes], call: Call = nothing) -> None:
        self._call = call
        self._file = file
        self._pages: dict[tuple[int, int], int] = {}
        self._checkpoints: dict[tuple[int, int], ShardProgress] = {}
        self._writes = 0

    @override
    def read(self, run: str, pass_number: int, shard: int) -> ShardProgress | None:
        self._call()
        return self._checkpoints.get((pass_number, shard))

    @override
    def of_pass(self, run: str, pass_number: int) -> Sequence[ShardProgress]:
        self._call()
        return [self._checkpoints[key] for key in sorted(self._checkpoints) if key[0] == pass_number]

    @override
    def put(self, progress: ShardProgress) -> None:
        self._call()
        key = progress.pass_number, progress.shard
        stored = self._checkpoints.get(key)
        if progress.etag != (stored.etag if stored else None):
            raise Conflict("another worker was faster")
        self._writes += 1
        self._checkpoints[key] = replace(progress, etag=Etag(str(self._writes)))

    @override
    def add_page(self, page: FrozenPage) -> None:
        self._call()
        if (page.shard, page.number) in self._pages:
            raise Conflict("there is such a page")
        self._pages[page.shard, page.number] = self._file.seek(0, 2)
        pickle.dump(page, self._file)

    @override
    def read_page(self, run: str, shard: int, number: int) -> FrozenPage | None:
        self._call()
        place = self._pages.get((shard, number))
        if place is None:
            return None
        self._file.seek(place)
        page: FrozenPage = pickle.load(self._file)  # noqa: S301 - this process has written it
        return page


class OneBudget(Budgets):
    """The schedules of vaults that nobody else writes at the same moment."""

    def __init__(self, call: Call = nothing) -> None:
        self._call = call
        self._budgets: dict[str, Budget] = {}
        self._writes = 0

    @override
    def read(self, vault: str) -> Budget | None:
        self._call()
        return self._budgets.get(vault)

    @override
    def put(self, budget: Budget) -> Budget:
        self._call()
        stored = self._budgets.get(budget.vault)
        if budget.etag != (stored.etag if stored else None):
            raise Conflict("another worker was faster")
        self._writes += 1
        self._budgets[budget.vault] = replace(budget, etag=Etag(str(self._writes)))
        return self._budgets[budget.vault]


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


class NobodyReports(KekUses):
    """No consumers."""

    @override
    def report(self, use: KekUse) -> None:
        raise NotImplementedError

    @override
    def all(self) -> Sequence[KekUse]:
        return []


class NothingGoesWrong(Alerts, DeadLetters):
    """Takes neither alerts nor letters."""

    @override
    def raise_alert(self, alert: Alert) -> None:
        raise RuntimeError(f"{alert.what}: {alert.details}")

    @override
    def keep(self, letter: DeadLetter) -> None:
        raise RuntimeError(letter.reason)

    @override
    def all(self) -> Any:
        return []

    @override
    def resolve(self, *what: Any) -> None:
        raise NotImplementedError


class NoSecrets(SecretJobs):
    """There are none in the catalog."""

    def __init__(self) -> None:
        pass

    @override
    def perform(self, order: SecretOrder) -> None:
        raise NotImplementedError


def fill_known_secrets() -> None:
    """As in a worker that has run for a while: the list of known secrets is full, and has changed many times over."""
    for _ in range(5 * KNOWN_SECRETS.capacity):
        KNOWN_SECRETS.add(os.urandom(32))


def peak_kib() -> int:
    """Peak resident memory of this process. Not from getrusage, whose maximum a child inherits from its parent."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
