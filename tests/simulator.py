"""An in-memory twin of every port, that can fail at any call.

`World` holds what survives a process: tables, queues, the vault. Every call of a port is one I/O call of the world and
may be made to fail, not applied or applied but unreported, by an error or by the death of the process. The world
complains (AssertionError) about what no port may be asked for, and keeps a history that the invariants are checked on.
"""

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import cache
from typing import override

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from shared.errors import Conflict, Integrity, Rejected, Transient, UnusableKey
from shared.ports import (
    MAX_ROWS_PER_TRANSACTION,
    Alerts,
    Consumers,
    DeadLetters,
    Deks,
    KeyPointers,
    Queues,
    Records,
    Vault,
)
from shared.secret import Secret
from shared.values import (
    Alert,
    ConsumerReport,
    DeadLetter,
    Etag,
    KeyPointer,
    Keyring,
    Kid,
    PublicKek,
    StoredRecord,
    Tenant,
    TenantId,
    WrappedDek,
    shard_of,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
VAULT_URL = "https://sim.vault.azure.net"


class Killed(BaseException):
    """The process died here. Nothing may catch it but the test."""


class Fault(Enum):
    """How an I/O call goes wrong."""

    ERROR_BEFORE = "no answer, not applied"
    ERROR_AFTER = "no answer, applied"
    KILLED_BEFORE = "killed, not applied"
    KILLED_AFTER = "killed, applied"

    def strike(self) -> None:
        """Do it."""
        if self in (Fault.KILLED_BEFORE, Fault.KILLED_AFTER):
            raise Killed
        raise Transient("simulated outage")

    @property
    def applied(self) -> bool:
        """Whether the call took effect."""
        return self in (Fault.ERROR_AFTER, Fault.KILLED_AFTER)


@dataclass(slots=True)
class QueuedMessage:
    """A message in a simulated queue."""

    id: str
    queue: str
    body: str
    visible_at: datetime
    deliveries: int = 0


@dataclass(frozen=True, slots=True)
class Effect:
    """A committed change of a tenant, as history remembers it."""

    before: Keyring | None
    after: Keyring
    intended: frozenset[str]  # jobs whose intent was durable at that moment


@dataclass
class World:
    """Everything outside a process."""

    now: datetime = START
    calls: int = 0
    call_names: list[str] = field(default_factory=list)
    faults: dict[int, Fault] = field(default_factory=dict)  # by number of the call
    interruptions: dict[int, Callable[[], None]] = field(default_factory=dict)  # run before that call
    outage: frozenset[str] = frozenset()  # ports that do not answer
    keyrings: dict[TenantId, Keyring] = field(default_factory=dict)
    streams: dict[int, list[StoredRecord]] = field(default_factory=dict)
    messages: list[QueuedMessage] = field(default_factory=list)
    pointers: dict[str, KeyPointer] = field(default_factory=dict)
    reports: dict[tuple[str, TenantId], ConsumerReport] = field(default_factory=dict)
    alerts: dict[str, Alert] = field(default_factory=dict)
    letters: dict[tuple[str, str], DeadLetter] = field(default_factory=dict)
    effects: list[Effect] = field(default_factory=list)
    keks: dict[Kid, PublicKek] = field(default_factory=dict)
    vault_operations: int = 0
    drawn: list[bytes] = field(default_factory=list)  # every 32 random bytes handed out
    _etags: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def clock(self) -> datetime:
        """The simulated time."""
        return self.now

    def entropy(self, size: int) -> bytes:
        """Deterministic bytes that look random, all different."""
        value = hashlib.shake_256(f"draw {len(self.drawn)}".encode()).digest(size)
        self.drawn.append(value)
        return value

    def io[T](self, port: str, name: str, effect: Callable[[], T]) -> T:
        """One I/O call: counted, interrupted, failed as planned."""
        self.calls += 1
        self.call_names.append(f"{port}.{name}")
        if (interruption := self.interruptions.pop(self.calls, None)) is not None:
            interruption()
        fault = self.faults.pop(self.calls, None)
        if port in self.outage:
            raise Transient("simulated outage", port=port)
        if fault is not None and not fault.applied:
            fault.strike()
        result = effect()
        if fault is not None:
            fault.strike()
        return result

    def etag(self) -> Etag:
        """A new one."""
        return Etag(f'W/"{next(self._etags)}"')

    def add_kek(self, name: str = "master-kek", **changes: object) -> Kid:
        """Create a KEK version in the vault."""
        kid = Kid(f"{VAULT_URL}/keys/{name}/{len(self.keks) + 1:032x}")
        kek = PublicKek(
            kid, private_key(_number(kid)).public_key(), True, None, None, frozenset({"wrapKey", "unwrapKey"})
        )
        self.keks[kid] = replace(kek, **changes)  # type: ignore[arg-type] # any field, by name
        return kid

    def open(self, dek: WrappedDek) -> bytes:
        """The plaintext DEK, for checking invariants only."""
        return _open(_number(dek.kid), dek.wrapped)

    def outcomes(self) -> dict[str, set[str]]:
        """The recorded outcomes of every job in the audit trail."""
        outcomes: dict[str, set[str]] = {}
        for records in self.streams.values():
            for record in records:
                fields = json.loads(record.canonical)
                outcomes.setdefault(fields["job"], set()).add(fields["outcome"])
        return outcomes


@cache
def private_key(number: int) -> rsa.RSAPrivateKey:
    """A KEK's private half; generated once, because generating is slow."""
    assert number in (0, 1)
    return rsa.generate_private_key(65537, 2048)


def _number(kid: Kid) -> int:
    """Versions of a simulated KEK take turns with two keys."""
    return int(kid.rpartition("/")[2], 16) % 2


@cache
def _open(number: int, wrapped: bytes) -> bytes:
    return private_key(number).decrypt(wrapped, padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None))


class SimDeks(Deks):
    """The port `Deks` in memory."""

    def __init__(self, world: World) -> None:
        self._world = world

    @override
    def read(self, tenant: TenantId) -> Keyring | None:
        return self._world.io("deks", "read", lambda: self._world.keyrings.get(tenant))

    @override
    def scan(self, shard: int, after: TenantId | None, limit: int) -> Sequence[Tenant]:
        def effect() -> Sequence[Tenant]:
            names = sorted(name for name in self._world.keyrings if shard_of(name) == shard and name > (after or ""))
            return [self._world.keyrings[name].tenant for name in names[:limit]]

        return self._world.io("deks", "scan", effect)

    @override
    def add(self, tenant: Tenant) -> None:
        def effect() -> None:
            if tenant.tenant in self._world.keyrings:
                raise Conflict("exists")
            self._commit(None, Keyring(replace(tenant, etag=self._world.etag())))

        self._world.io("deks", "add", effect)

    @override
    def replace(self, old: Keyring, new: Keyring) -> None:
        assert old.tenant.etag is not None, "a tenant that was not read cannot be changed"
        assert all(dek.etag is not None for dek in old.deks)
        before = {dek.version: dek for dek in old.deks}
        after = {dek.version: dek for dek in new.deks}
        touched = [version for version in before | after if before.get(version) != after.get(version)]
        assert len(touched) + 1 <= MAX_ROWS_PER_TRANSACTION, "too many rows for one transaction"

        def effect() -> None:
            stored = self._world.keyrings.get(old.tenant.tenant)
            if stored is None or stored.tenant.etag != old.tenant.etag:
                raise Conflict("the tenant changed")
            rows = {dek.version: dek for dek in stored.deks}
            for version in touched:
                if (rows[version].etag if version in rows else None) != (
                    before[version].etag if version in before else None
                ):
                    raise Conflict("a DEK changed")
                if version in after:
                    rows[version] = replace(after[version], etag=self._world.etag())
                else:
                    del rows[version]
            tenant = replace(new.tenant, etag=self._world.etag())
            self._commit(stored, Keyring(tenant, tuple(rows[version] for version in sorted(rows))))

        self._world.io("deks", "replace", effect)

    def _commit(self, before: Keyring | None, after: Keyring) -> None:
        self._world.keyrings[after.tenant.tenant] = after
        self._world.effects.append(Effect(before, after, frozenset(self._world.outcomes())))


class SimVault(Vault):
    """The port `Vault` in memory, with real RSA."""

    def __init__(self, world: World) -> None:
        self._world = world

    @override
    def newest(self, name: str) -> PublicKek:
        kids = [kid for kid in self._world.keks if f"/keys/{name}/" in kid]
        if not kids:
            raise Rejected("there is no such key in the vault", name=name)
        return self.version(kids[-1])

    @override
    def version(self, kid: Kid) -> PublicKek:
        _ensure_ours(kid)
        self._world.vault_operations += 1

        def effect() -> PublicKek:
            if kid not in self._world.keks:
                raise Rejected("there is no such key in the vault", kid=kid)
            return self._world.keks[kid]

        return self._world.io("vault", "version", effect)

    @override
    def unwrap(self, kid: Kid, algorithm: str, wrapped: bytes) -> Secret:
        _ensure_ours(kid)
        if algorithm != "RSA-OAEP-256":
            raise Integrity("a DEK is wrapped by an algorithm that we do not use", kid=kid, algorithm=algorithm)
        self._world.vault_operations += 1

        def effect() -> Secret:
            kek = self._world.keks.get(kid)
            if kek is None:
                raise Integrity("a DEK is wrapped under a KEK version that does not exist", kid=kid)
            if not kek.enabled or "unwrapKey" not in kek.operations:
                raise UnusableKey("the vault refuses to unwrap with this KEK version", kid=kid)
            try:
                return Secret(_open(_number(kid), wrapped))
            except ValueError:
                raise Integrity("a wrapped DEK does not open under its KEK version", kid=kid) from None

        return self._world.io("vault", "unwrap", effect)


def _ensure_ours(kid: Kid) -> None:
    if not re.fullmatch(re.escape(VAULT_URL) + "/keys/[0-9a-zA-Z-]{1,127}/[0-9a-f]{32}", kid):
        raise Integrity("a key id does not belong to the configured vault", kid=kid)


class SimKeyPointers(KeyPointers):
    """The port `KeyPointers` in memory."""

    def __init__(self, world: World) -> None:
        self._world = world

    @override
    def read(self, name: str) -> KeyPointer | None:
        return self._world.io("keys", "read", lambda: self._world.pointers.get(name))

    @override
    def add(self, pointer: KeyPointer) -> None:
        def effect() -> None:
            if pointer.name in self._world.pointers:
                raise Conflict("exists")
            self._world.pointers[pointer.name] = replace(pointer, etag=self._world.etag())

        self._world.io("keys", "add", effect)


class SimRecords(Records):
    """The port `Records` in memory."""

    def __init__(self, world: World) -> None:
        self._world = world

    @override
    def read(self, stream: int, first_seq: int, limit: int) -> Sequence[StoredRecord]:
        assert first_seq >= 1
        assert limit >= 1
        records = self._world.streams.get(stream, [])
        return self._world.io("audit", "read", lambda: list(records[first_seq - 1 : first_seq - 1 + limit]))

    @override
    def find(self, stream: int, event_id: str) -> int | None:
        records = self._world.streams.get(stream, [])
        return self._world.io(
            "audit", "find", lambda: next((record.seq for record in records if record.event_id == event_id), None)
        )

    @override
    def append(self, records: Sequence[StoredRecord]) -> None:
        assert 1 <= len(records) <= MAX_ROWS_PER_TRANSACTION // 2
        assert len({record.stream for record in records}) == 1, "a transaction has one partition"
        stream = self._world.streams.setdefault(records[0].stream, [])

        def effect() -> None:
            ids = {record.event_id for record in stream}
            if records[0].seq <= len(stream) or any(record.event_id in ids for record in records):
                raise Conflict("taken")
            assert [record.seq for record in records] == list(range(len(stream) + 1, len(stream) + 1 + len(records)))
            stream.extend(records)

        self._world.io("audit", "append", effect)


class SimQueues(Queues):
    """The port `Queues` in memory."""

    def __init__(self, world: World) -> None:
        self._world = world

    @override
    def send(self, queue: str, body: str, delay: timedelta = timedelta()) -> None:
        assert len(body.encode()) <= 64 * 1024, "a message this large is refused by the service"
        assert all(character.isprintable() or character in "\t\n\r\xa0" for character in body), "cannot travel as XML"

        def effect() -> None:
            number = f"m{self._world.calls}-{len(self._world.messages)}"
            self._world.messages.append(QueuedMessage(number, queue, body, self._world.now + delay))

        self._world.io("queues", "send", effect)


class SimConsumers(Consumers):
    """The port `Consumers` in memory."""

    def __init__(self, world: World) -> None:
        self._world = world

    @override
    def report(self, report: ConsumerReport) -> None:
        def effect() -> None:
            known = self._world.reports.get((report.consumer, report.tenant))
            if known is None or known.seen <= report.seen:
                self._world.reports[report.consumer, report.tenant] = report

        self._world.io("consumers", "report", effect)

    @override
    def of(self, tenant: TenantId) -> Sequence[ConsumerReport]:
        reports = self._world.reports.values()
        return self._world.io("consumers", "of", lambda: [report for report in reports if report.tenant == tenant])


class SimAlerts(Alerts):
    """The port `Alerts` in memory."""

    def __init__(self, world: World) -> None:
        self._world = world

    @override
    def raise_alert(self, alert: Alert) -> None:
        self._world.io("alerts", "raise", lambda: self._world.alerts.setdefault(alert.id, alert))

    @override
    def all(self) -> Sequence[Alert]:
        alerts = self._world.alerts.values()
        return self._world.io("alerts", "all", lambda: sorted(alerts, key=lambda alert: alert.raised))


class SimDeadLetters(DeadLetters):
    """The port `DeadLetters` in memory."""

    def __init__(self, world: World) -> None:
        self._world = world

    @override
    def keep(self, letter: DeadLetter) -> None:
        self._world.io("letters", "keep", lambda: self._world.letters.setdefault((letter.queue, letter.id), letter))

    @override
    def all(self) -> Sequence[DeadLetter]:
        letters = self._world.letters.values()
        return self._world.io("letters", "all", lambda: sorted(letters, key=lambda letter: letter.kept))

    @override
    def resolve(self, letter: DeadLetter) -> None:
        self._world.io("letters", "resolve", lambda: self._world.letters.pop((letter.queue, letter.id), None))
