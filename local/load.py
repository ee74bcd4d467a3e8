"""ATP services at work: writers that encrypt and store audit events, readers that fetch and decrypt them.

The events are real ones: the stack's own storage and vault request logs, as they arise, cut to sizes from one line to
1 MiB, and the awkward cases: nothing at all, and text beyond ASCII.
"""

import hashlib
import itertools
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from azure.storage.blob import ContainerClient

from rotation.tenant_cipher import TenantCipher

MIB: Final = 2**20
_ONE_LINE: Final = 1
_SIZES: Final = (0, _ONE_LINE, 256, 4096, 65_536, MIB)  # wanted bytes
_AWKWARD: Final = ("", "Ünïcödé — 監査ログ — журнал аудита — 🔐\n")
_WRITE_EVERY_S: Final = 0.04
_READ_EVERY_S: Final = 0.015


class RequestLogs:
    """What storage and vault have logged so far."""

    def __init__(self, storage: Path, vault: Path) -> None:
        self._storage = storage
        self._vault = vault

    def newest(self, size: int) -> bytes:
        """The newest whole lines of both logs, together about `size` bytes; at least one line."""
        vault = _tail(self._vault, size // 4) if size > _ONE_LINE else b""
        return vault + _tail(self._storage, size - len(vault))

    def size(self) -> int:
        """Bytes there are to take from."""
        return self._storage.stat().st_size + self._vault.stat().st_size


def _tail(file: Path, size: int) -> bytes:
    """The newest whole lines of a file up to `size` bytes, at least one if there is one."""
    with file.open("rb") as log:
        end = log.seek(0, 2)
        log.seek(max(0, end - size - 4096))
        lines = log.read().splitlines(keepends=True)
    complete = [line for line in lines[1:] if line.endswith(b"\n")]
    taken: list[bytes] = []
    total = 0
    for line in reversed(complete):
        if taken and total + len(line) > size:
            break
        taken.append(line)
        total += len(line)
    return b"".join(reversed(taken))


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One ciphertext in the store, and what must come out of it."""

    tenant: str
    blob: str
    context: bytes
    digest: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Work:
    """How much was done, and how often it failed."""

    writes: int = 0
    reads: int = 0
    failed: int = 0

    @property
    def told(self) -> str:
        """In words."""
        return f"{self.writes} writes, {self.reads} reads, {self.failed} failed"

    def since(self, before: "Work") -> "Work":
        """What has come on top of `before`."""
        return Work(self.writes - before.writes, self.reads - before.reads, self.failed - before.failed)


@dataclass(slots=True)
class Tally:
    """What one kind of service has done."""

    done: int = 0
    failures: list[str] = field(default_factory=list)


class EventStore:
    """The platform's encrypted events, in blob storage."""

    def __init__(self, blobs: ContainerClient, logs: RequestLogs) -> None:
        self.logs = logs
        self._blobs = blobs
        self._numbers = itertools.count(1)
        self.events: list[StoredEvent] = []

    def write(self, cipher: TenantCipher, tenant: str, size: int) -> None:
        """Encrypt an event of about that size for a tenant and store it."""
        number = next(self._numbers)
        plaintext = _AWKWARD[number % 2].encode() if size == 0 else self.logs.newest(size)
        context = f"{tenant}/event/{number}".encode()
        envelope = cipher.encrypt(tenant, plaintext, context)
        name = f"{tenant}/{number}"
        self._blobs.upload_blob(name, envelope)
        self.events.append(StoredEvent(tenant, name, context, hashlib.sha256(plaintext).digest(), len(plaintext)))

    def read(self, cipher: TenantCipher, event: StoredEvent) -> None:
        """Fetch an event and decrypt it; ValueError if what comes out is not what was written."""
        plaintext = cipher.decrypt(event.tenant, self._blobs.download_blob(event.blob).readall(), event.context)
        if hashlib.sha256(plaintext).digest() != event.digest:
            raise ValueError("an event came back different")


class Load:
    """Writers and readers that run in the background until stopped, and count."""

    def __init__(self, store: EventStore, cipher: TenantCipher, tenants: Sequence[str]) -> None:
        self.writes = Tally()
        self.reads = Tally()
        self._store = store
        self._cipher = cipher
        self._tenants = tenants
        self._stop = threading.Event()
        self._hurrying = False
        services = ((self._write, self.writes, _WRITE_EVERY_S, 1), (self._read, self.reads, _READ_EVERY_S, 2))
        self._threads = [threading.Thread(target=self._run, args=service, daemon=True) for service in services]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def work(self) -> Work:
        """What was done so far."""
        return Work(self.writes.done, self.reads.done, len(self.failures()))

    def failures(self) -> list[str]:
        """What went wrong so far."""
        return self.writes.failures + self.reads.failures

    def hurry(self) -> None:
        """Go on without pauses."""
        self._hurrying = True

    def _run(self, act: Callable[[random.Random], None], tally: Tally, pause_s: float, seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311 - chooses whom to serve next
        while not self._stop.wait(0 if self._hurrying else pause_s):
            try:
                act(chance)
                tally.done += 1
            except Exception as error:  # noqa: BLE001 - whatever a service meets is what is counted here
                tally.failures.append(f"{type(error).__name__}: {error}")

    def _write(self, chance: random.Random) -> None:
        size = chance.choices(_SIZES, weights=(2, 4, 4, 3, 2, 1))[0]
        self._store.write(self._cipher, chance.choice(self._tenants), size)

    def _read(self, chance: random.Random) -> None:
        self._store.read(self._cipher, chance.choice(self._store.events))
