"""An in-memory twin of every port, that can fail at any call.

`World` holds what survives a process: tables, queues, the vault. Every call of a port is one I/O call of the world and
may be made to fail, not applied or applied but unreported, by an error or by the death of the process. The world
complains (AssertionError) about what no port may be asked for, and keeps a history that the invariants are checked on.
"""

import hashlib
import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import cache
from typing import Any, override

from cryptography.hazmat.primitives import hashes, keywrap
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from rotation.alert_job import AlertDesk
from shared.errors import AtpError, Conflict, Integrity, Rejected, Throttled, Transient, UnusableKey
from shared.ports import (
    MAX_ROWS_PER_TRANSACTION,
    AlertRegister,
    AlertSink,
    AuditSigner,
    Budgets,
    Checkpoints,
    Consumers,
    DeadLetters,
    Deks,
    Evidence,
    Keks,
    KekUses,
    Queues,
    Records,
    SecretRotations,
    Secrets,
    Shards,
    Vault,
    VaultObjects,
)
from shared.secret import Secret
from shared.values import (
    Alert,
    AlertEntry,
    Budget,
    ConsumerReport,
    DeadLetter,
    Etag,
    EvidenceFile,
    FrozenPage,
    KekRecord,
    KekRun,
    KekUse,
    KekVersion,
    KeyKind,
    KeyPointer,
    Keyring,
    KeyShape,
    Kid,
    Notice,
    ObjectKind,
    Phase,
    RenewalPolicy,
    SecretRotation,
    SecretVersion,
    ShardProgress,
    SigningKey,
    SinkName,
    StoredCheckpoint,
    StoredRecord,
    Tenant,
    TenantId,
    VaultObject,
    Wrap,
    WrappedDek,
    shard_of,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
VAULT_URL = "https://sim.vault.azure.net"
OTHER_VAULT_URL = "https://other.vault.azure.net"
VAULTS = (VAULT_URL, OTHER_VAULT_URL)
SIGNING_KEY = "audit-signing"
MAX_APPEND_BYTES = 4 * 1024 * 1024
MAX_BLOCKS = 50_000


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
    checkpoints: dict[int, StoredCheckpoint] = field(default_factory=dict)
    evidence: dict[str, list[bytes]] = field(default_factory=dict)  # the blocks of every file
    signing_keys: dict[Kid, SigningKey] = field(default_factory=dict)  # in the order they were made
    messages: list[QueuedMessage] = field(default_factory=list)
    pointers: dict[str, KeyPointer] = field(default_factory=dict)
    reports: dict[tuple[str, TenantId], ConsumerReport] = field(default_factory=dict)
    alert_rows: dict[str, AlertEntry] = field(default_factory=dict)
    notices: list[tuple[SinkName, Notice]] = field(default_factory=list)  # everything that sinks were told
    refusals: dict[SinkName, AtpError] = field(default_factory=dict)  # what sinks answer instead
    letters: dict[tuple[str, str], DeadLetter] = field(default_factory=dict)
    effects: list[Effect] = field(default_factory=list)
    keks: dict[Kid, KekVersion] = field(default_factory=dict)
    runs: dict[tuple[str, int], KekRun] = field(default_factory=dict)
    shards: dict[tuple[str, int, int], ShardProgress] = field(default_factory=dict)
    pages: dict[tuple[str, int, int], FrozenPage] = field(default_factory=dict)
    budgets: dict[str, Budget] = field(default_factory=dict)
    uses: dict[str, KekUse] = field(default_factory=dict)
    secrets: dict[tuple[str, str], list[tuple[SecretVersion, bytes]]] = field(default_factory=dict)
    rotations: dict[str, SecretRotation] = field(default_factory=dict)
    targets: dict[str, Any] = field(default_factory=dict)  # of secrets, by catalog entry
    entries: dict[str, Any] = field(default_factory=dict)  # of the catalog, about other objects
    kill_in: Phase | None = None  # the process dies when it has brought a run into this phase
    phases: list[tuple[str, Phase]] = field(default_factory=list)  # of the runs, in the order they were stored
    disabled: list[tuple[Kid, int]] = field(default_factory=list)  # every disabling, and how many DEKs were under it
    objects: dict[tuple[str, ObjectKind, str], list[VaultObject]] = field(default_factory=dict)  # versions by name
    renewals: dict[tuple[str, ObjectKind, str], RenewalPolicy] = field(default_factory=dict)
    throttled: int = 0  # so many of the next vault operations are answered 429
    operations: Counter[str] = field(default_factory=Counter)  # of the vault, by kind
    vault_operations: int = 0
    drawn: list[bytes] = field(default_factory=list)  # every 32 random bytes handed out
    _etags: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def clock(self) -> datetime:
        """The simulated time."""
        return self.now

    def monotonic(self) -> float:
        """The simulated time, for measuring how long something takes."""
        return self.now.timestamp()

    def sleep(self, seconds: float) -> None:
        """Let that much time pass."""
        self.now += timedelta(seconds=seconds)

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

    @property
    def alerts(self) -> dict[str, Alert]:
        """The open alerts."""
        rows = self.alert_rows.values()
        return {entry.alert.id: entry.alert for entry in rows if entry.alert.resolved is None}

    def add_kek(self, name: str = "master-kek", vault: str = VAULT_URL, **changes: object) -> Kid:
        """Create a KEK version in the vault."""
        kid = Kid(f"{vault}/keys/{name}/{len(self.keks) + 1:032x}")
        kind = changes.get("kind", KeyKind.RSA)
        public = None if kind is KeyKind.OCT_HSM else private_key(_number(kid)).public_key()
        kek = KekVersion(kid, public, True, None, None, frozenset({"wrapKey", "unwrapKey"}), created=self.now)
        self.keks[kid] = replace(kek, **changes)  # type: ignore[arg-type] # any field, by name
        return kid

    def add_secret(
        self,
        name: str,
        value: bytes,
        tags: Mapping[str, str] | None = None,
        expires: datetime | None = None,
        vault: str | None = None,
    ) -> SecretVersion:
        """Create a version of a secret in the vault."""
        versions = self.secrets.setdefault((_vault(vault), name), [])
        number = sum(len(each) for each in self.secrets.values()) + 1
        version = SecretVersion(f"{number:032x}", True, self.now, expires, dict(tags or {}))
        versions.append((version, value))
        return version

    def add_signing_key(self, *, enabled: bool = True) -> Kid:
        """Create a version of the key that signs checkpoints."""
        number = len(self.signing_keys) + 1
        kid = Kid(f"{VAULT_URL}/keys/{SIGNING_KEY}/{number:032x}")
        self.signing_keys[kid] = SigningKey(kid, signing_secret(number).public_key(), enabled, self.now)
        return kid

    def add_object(self, kind: ObjectKind, name: str, vault: str = VAULT_URL, **changes: object) -> VaultObject:
        """Create an object in the vault, or a version of it; a certificate with its key and secret."""
        made = VaultObject(kind, vault, name, True, self.now, self.now)
        made = replace(made, **changes)  # type: ignore[arg-type] # any field, by name
        versions = self.objects.setdefault((vault, kind, name.lower()), [])
        versions.append(replace(made, version=f"{len(versions) + 1:032x}"))
        if kind is ObjectKind.CERTIFICATE:
            for part in (ObjectKind.KEY, ObjectKind.SECRET):
                self.add_object(part, name, vault, **changes, managed=True)
        return versions[-1]

    def held(self, vault: str, kind: ObjectKind) -> set[str]:
        """The names of everything of that kind in a vault, whether it was made as an object, a secret or a KEK."""
        names = {name for place_vault, place_kind, name in self.objects if (place_vault, place_kind) == (vault, kind)}
        if kind is ObjectKind.SECRET:
            names |= {name for place, name in self.secrets if place == vault}
        if kind is ObjectKind.KEY:
            names |= {kid.split("/")[-2] for kid in self.keks if kid.startswith(f"{vault}/keys/")}
        return names

    def versions(self, vault: str, kind: ObjectKind, name: str) -> list[VaultObject]:
        """All versions of one of them, oldest first."""
        made = list(self.objects.get((vault, kind, name.lower()), ()))
        if kind is ObjectKind.SECRET:
            for each, _ in self.secrets.get((vault, name), ()):
                about = VaultObject(kind, vault, name, each.enabled, each.created, expires=each.expires, tags=each.tags)
                made.append(replace(about, version=each.version))
        if kind is ObjectKind.KEY:
            for kid, kek in self.keks.items():
                if kid.startswith(f"{vault}/keys/{name}/"):
                    about = VaultObject(kind, vault, name, kek.enabled, START, expires=kek.expires)
                    made.append(replace(about, version=kid.rpartition("/")[2]))
        return made

    def open(self, dek: WrappedDek) -> bytes:
        """The plaintext DEK, for checking invariants only."""
        return self.open_wrap(dek.wrap)

    def open_wrap(self, wrap: Wrap) -> bytes:
        """The plaintext in a wrap; ValueError if its key does not open it."""
        if wrap.algorithm == "A256KW":
            return _open_symmetric(wrap.kid, wrap.wrapped)
        return _open(_number(wrap.kid), wrap.wrapped)

    def audited(self) -> list[dict[str, Any]]:
        """What is on record in the audit trail, stream by stream."""
        return [json.loads(record.canonical) for records in self.streams.values() for record in records]

    def outcomes(self) -> dict[str, set[str]]:
        """The recorded outcomes of every job in the audit trail."""
        outcomes: dict[str, set[str]] = {}
        for fields in self.audited():
            outcomes.setdefault(fields["job"], set()).add(fields["outcome"])
        return outcomes


@cache
def private_key(number: int) -> rsa.RSAPrivateKey:
    """A KEK's private half; generated once, because generating is slow."""
    assert number in (0, 1)
    return rsa.generate_private_key(65537, 2048)


@cache
def signing_secret(number: int) -> ec.EllipticCurvePrivateKey:
    """The private half of a version of the key that signs checkpoints."""
    return ec.generate_private_key(ec.SECP256R1())


def _number(kid: Kid) -> int:
    """Versions of a simulated KEK take turns with two keys."""
    return int(kid.rpartition("/")[2], 16) % 2


@cache
def _open(number: int, wrapped: bytes) -> bytes:
    return private_key(number).decrypt(wrapped, padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None))


def _symmetric(kid: Kid) -> bytes:
    return hashlib.sha256(kid.encode()).digest()


def _open_symmetric(kid: Kid, wrapped: bytes) -> bytes:
    try:
        return keywrap.aes_key_unwrap(_symmetric(kid), wrapped)
    except keywrap.InvalidUnwrap as error:
        raise ValueError("does not open") from error


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
    def page(self, shard: int, after: TenantId | None, rows: int) -> Sequence[Keyring]:
        def effect() -> Sequence[Keyring]:
            names = sorted(name for name in self._world.keyrings if shard_of(name) == shard and name > (after or ""))
            page: list[Keyring] = []
            left = rows
            for name in names:
                keyring = self._world.keyrings[name]
                left -= 1 + len(keyring.deks)
                if page and left < 0:
                    break
                page.append(keyring)
            return page

        return self._world.io("deks", "page", effect)

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
    """The port `Vault` in memory, with real RSA and real AES key wrap."""

    def __init__(self, world: World) -> None:
        self._world = world

    @override
    def newest(self, name: str, vault: str | None = None) -> KekVersion:
        kids = [kid for kid in self._world.keks if kid.startswith(f"{_vault(vault)}/keys/{name}/")]
        if not kids:
            raise Rejected("there is no such key in the vault", name=name)
        return self.version(kids[-1])

    @override
    def version(self, kid: Kid) -> KekVersion:
        _ensure_ours(kid)

        def effect() -> KekVersion:
            if kid not in self._world.keks:
                raise Rejected("there is no such key in the vault", kid=kid)
            return self._world.keks[kid]

        return self._operation("version", effect)

    @override
    def made_for(self, run: str, name: str, vault: str, shape: KeyShape) -> KekVersion:
        prefix = f"{_vault(vault)}/keys/{name}/"

        def made() -> KekVersion | None:
            keks = self._world.keks.values()
            return next((kek for kek in keks if kek.kid.startswith(prefix) and kek.run == run), None)

        def create() -> KekVersion:
            return self._world.keks[self._world.add_kek(name, vault, run=run, kind=shape.kind)]

        found = self._operation("list", made)
        return self._operation("create", create) if found is None else found

    @override
    def set_enabled(self, kid: Kid, *, enabled: bool) -> None:
        _ensure_ours(kid)

        def effect() -> None:
            if kid not in self._world.keks:
                raise Rejected("there is no such key in the vault", kid=kid)
            if self._world.keks[kid].enabled and not enabled:
                deks = [dek for keyring in self._world.keyrings.values() for dek in keyring.deks]
                self._world.disabled.append((kid, sum(dek.kid == kid for dek in deks)))
            self._world.keks[kid] = replace(self._world.keks[kid], enabled=enabled)

        self._operation("set_enabled", effect)

    @override
    def wrap(self, kid: Kid, algorithm: str, dek: Secret) -> bytes:
        _ensure_ours(kid)
        assert algorithm == "A256KW", "an RSA key wraps by its public half"

        def effect() -> bytes:
            self._usable(kid, "wrapKey")
            return keywrap.aes_key_wrap(_symmetric(kid), dek.reveal())

        return self._operation("wrap", effect)

    @override
    def unwrap(self, kid: Kid, algorithm: str, wrapped: bytes) -> Secret:
        _ensure_ours(kid)
        if algorithm not in ("RSA-OAEP-256", "A256KW"):
            raise Integrity("a DEK is wrapped by an algorithm that we do not use", kid=kid, algorithm=algorithm)

        def effect() -> Secret:
            self._usable(kid, "unwrapKey")
            try:
                return Secret(self._world.open_wrap(Wrap(wrapped, kid, algorithm)))
            except ValueError:
                raise Integrity("a wrapped DEK does not open under its KEK version", kid=kid) from None

        return self._operation("unwrap", effect)

    def _usable(self, kid: Kid, operation: str) -> None:
        kek = self._world.keks.get(kid)
        if kek is None:
            raise Integrity("a DEK is wrapped under a KEK version that does not exist", kid=kid)
        if not kek.enabled or operation not in kek.operations:
            raise UnusableKey("the vault refuses to unwrap with this KEK version", kid=kid)

    def _operation[T](self, name: str, effect: Callable[[], T]) -> T:
        self._world.vault_operations += 1
        self._world.operations[name] += 1
        if self._world.throttled:
            self._world.throttled -= 1
            raise Throttled("simulated throttling", status=429, retry_after=None)
        return self._world.io("vault", name, effect)


def _vault(url: str | None) -> str:
    if url is not None and url not in VAULTS:
        raise Rejected("the vault is not one of the configured ones", vault=url)
    return url or VAULT_URL


def _ensure_ours(kid: Kid) -> None:
    if not re.fullmatch(f"({'|'.join(map(re.escape, VAULTS))})/keys/[0-9a-zA-Z-]{{1,127}}/[0-9a-f]{{32}}", kid):
        raise Integrity("a key id does not belong to a configured vault", kid=kid)


class SimVaultObjects(VaultObjects):
    """The port `VaultObjects` in memory."""

    def __init__(self, world: World) -> None:
        self._world = world

    @property
    @override
    def vaults(self) -> Sequence[str]:
        return VAULTS

    @override
    def of(self, kind: ObjectKind, vault: str | None = None) -> Iterator[VaultObject]:
        url = _configured(vault)

        def effect() -> list[VaultObject]:
            names = sorted(self._world.held(url, kind))
            return [replace(self._world.versions(url, kind, name)[-1], version="") for name in names]

        yield from self._world.io("objects", "of", effect)

    @override
    def versions(self, kind: ObjectKind, name: str, vault: str | None = None) -> Sequence[VaultObject]:
        url = _configured(vault)
        return self._world.io("objects", "versions", lambda: self._world.versions(url, kind, name))

    @override
    def renewal(self, kind: ObjectKind, name: str, vault: str | None = None) -> RenewalPolicy:
        place = _configured(vault), kind, name.lower()

        def effect() -> RenewalPolicy:
            _ensure_there(self._world.objects, place)
            return self._world.renewals.get(place, _FRESH[kind])

        return self._world.io("objects", "renewal", effect)

    @override
    def set_renewal(self, kind: ObjectKind, name: str, policy: RenewalPolicy, vault: str | None = None) -> None:
        place = _configured(vault), kind, name.lower()

        def effect() -> None:
            _ensure_there(self._world.objects, place)
            if kind is ObjectKind.CERTIFICATE:
                assert policy.rotates_before is not None
                self._world.renewals[place] = replace(_FRESH[kind], rotates_before=policy.rotates_before)
                return
            for time in (policy.rotates_after, policy.rotates_before, policy.notifies_before):
                if time is not None and time < timedelta(days=7):
                    raise Rejected("the vault takes no such policy", kind=kind, name=name)
            self._world.renewals[place] = policy

        self._world.io("objects", "set_renewal", effect)


_FRESH: Mapping[ObjectKind, RenewalPolicy] = {
    ObjectKind.KEY: RenewalPolicy(notifies_before=timedelta(days=30)),
    ObjectKind.CERTIFICATE: RenewalPolicy(lifetime=timedelta(days=366), rotates_before=timedelta(days=30)),
}
"""Policies of what somebody has just made."""


def _configured(vault: str | None) -> str:
    if vault is not None and vault not in VAULTS:
        raise Rejected("the vault is not one of the configured ones", vault=vault)
    return vault or VAULT_URL


def _ensure_there(objects: Mapping[tuple[str, ObjectKind, str], object], place: tuple[str, ObjectKind, str]) -> None:
    assert place[1] in _FRESH, "only keys and certificates have policies"
    if place not in objects:
        raise Rejected("there is no such object in the vault", kind=place[1], name=place[2])


class SimKeks(Keks):
    """The port `Keks` in memory."""

    def __init__(self, world: World) -> None:
        self._world = world

    @override
    def pointer(self, name: str) -> KeyPointer | None:
        return self._world.io("keks", "pointer", lambda: self._world.pointers.get(name))

    @override
    def add(self, pointer: KeyPointer) -> None:
        def effect() -> None:
            if pointer.name in self._world.pointers:
                raise Conflict("exists")
            self._world.pointers[pointer.name] = replace(pointer, etag=self._world.etag())

        self._world.io("keks", "add", effect)

    @override
    def read(self, name: str) -> KekRecord | None:
        def effect() -> KekRecord | None:
            pointer = self._world.pointers.get(name)
            return KekRecord(pointer, self._world.runs.get((name, pointer.generation))) if pointer else None

        return self._world.io("keks", "read", effect)

    @override
    def replace(self, old: KekRecord, new: KekRecord) -> None:
        assert old.pointer.etag is not None, "a pointer that was not read cannot be changed"
        assert new.run is not None
        assert new.run.generation == new.pointer.generation
        name, run = old.pointer.name, new.run

        def effect() -> None:
            if self._world.pointers[name].etag != old.pointer.etag:
                raise Conflict("the pointer changed")
            stored = self._world.runs.get((name, run.generation))
            expected = old.run.etag if old.run and old.run.generation == run.generation else None
            if (stored.etag if stored else None) != expected:
                raise Conflict("the run changed")
            self._world.pointers[name] = replace(new.pointer, etag=self._world.etag())
            self._world.runs[name, run.generation] = replace(run, etag=self._world.etag())
            self._world.phases.append((run.id, run.phase))
            if self._world.kill_in is run.phase and run.move is None:
                self._world.kill_in = None
                raise Killed

        self._world.io("keks", "replace", effect)

    @override
    def history(self, name: str) -> Sequence[KekRun]:
        runs = self._world.runs
        return self._world.io("keks", "history", lambda: [runs[key] for key in sorted(runs) if key[0] == name])


class SimShards(Shards):
    """The port `Shards` in memory."""

    def __init__(self, world: World) -> None:
        self._world = world

    @override
    def read(self, run: str, pass_number: int, shard: int) -> ShardProgress | None:
        return self._world.io("shards", "read", lambda: self._world.shards.get((run, pass_number, shard)))

    @override
    def of_pass(self, run: str, pass_number: int) -> Sequence[ShardProgress]:
        def effect() -> Sequence[ShardProgress]:
            keys = sorted(key for key in self._world.shards if key[:2] == (run, pass_number))
            return [self._world.shards[key] for key in keys]

        return self._world.io("shards", "of_pass", effect)

    @override
    def put(self, progress: ShardProgress) -> None:
        key = progress.run, progress.pass_number, progress.shard

        def effect() -> None:
            stored = self._world.shards.get(key)
            if (stored.etag if stored else None) != progress.etag:
                raise Conflict("the checkpoint changed")
            self._world.shards[key] = replace(progress, etag=self._world.etag())

        self._world.io("shards", "put", effect)

    @override
    def add_page(self, page: FrozenPage) -> None:
        def effect() -> None:
            if (page.run, page.shard, page.number) in self._world.pages:
                raise Conflict("exists")
            self._world.pages[page.run, page.shard, page.number] = page

        self._world.io("shards", "add_page", effect)

    @override
    def read_page(self, run: str, shard: int, number: int) -> FrozenPage | None:
        return self._world.io("shards", "read_page", lambda: self._world.pages.get((run, shard, number)))


class SimBudgets(Budgets):
    """The port `Budgets` in memory."""

    def __init__(self, world: World) -> None:
        self._world = world

    @override
    def read(self, vault: str) -> Budget | None:
        return self._world.io("budgets", "read", lambda: self._world.budgets.get(vault))

    @override
    def put(self, budget: Budget) -> Budget:
        def effect() -> Budget:
            stored = self._world.budgets.get(budget.vault)
            if (stored.etag if stored else None) != budget.etag:
                raise Conflict("the schedule changed")
            new = self._world.budgets[budget.vault] = replace(budget, etag=self._world.etag())
            return new

        return self._world.io("budgets", "put", effect)


class SimSecrets(Secrets):
    """The port `Secrets` in memory."""

    def __init__(self, world: World) -> None:
        self._world = world

    @override
    def newest(self, name: str, vault: str | None = None) -> SecretVersion | None:
        def effect() -> SecretVersion | None:
            versions = self._versions(name, vault)
            if versions and not versions[-1][0].enabled:
                raise Rejected("the version of the secret is disabled", name=name, version="newest")
            return versions[-1][0] if versions else None

        return self._world.io("secrets", "newest", effect)

    @override
    def versions(self, name: str, vault: str | None = None) -> Sequence[SecretVersion]:
        return self._world.io("secrets", "versions", lambda: [each for each, _ in self._versions(name, vault)])

    @override
    def value(self, name: str, version: str, vault: str | None = None) -> Secret:
        def effect() -> Secret:
            for each, value in self._versions(name, vault):
                if each.version == version and each.enabled:
                    return Secret(value)
            raise Rejected("there is no such version of the secret, or it is disabled", name=name, version=version)

        return self._world.io("secrets", "value", effect)

    @override
    def put(
        self, name: str, value: Secret, tags: Mapping[str, str], expires: datetime | None, vault: str | None = None
    ) -> SecretVersion:
        def effect() -> SecretVersion:
            return self._world.add_secret(name, value.reveal(), tags, expires, vault)

        return self._world.io("secrets", "put", effect)

    @override
    def change(
        self, name: str, version: str, tags: Mapping[str, str], *, enabled: bool | None, vault: str | None = None
    ) -> None:
        def effect() -> None:
            versions = self._versions(name, vault)
            for number, (each, value) in enumerate(versions):
                if each.version == version:
                    is_enabled = each.enabled if enabled is None else enabled
                    versions[number] = (replace(each, tags=dict(tags), enabled=is_enabled), value)
                    return
            raise Rejected("there is no such version of the secret", name=name, version=version)

        self._world.io("secrets", "change", effect)

    def _versions(self, name: str, vault: str | None) -> list[tuple[SecretVersion, bytes]]:
        return self._world.secrets.get((_vault(vault), name), [])


class SimSecretRotations(SecretRotations):
    """The port `SecretRotations` in memory."""

    def __init__(self, world: World) -> None:
        self._world = world

    @override
    def read(self, name: str) -> SecretRotation | None:
        return self._world.io("rotations", "read", lambda: self._world.rotations.get(name))

    @override
    def page(self, after: str | None, limit: int) -> Sequence[SecretRotation]:
        def effect() -> Sequence[SecretRotation]:
            names = sorted(name for name in self._world.rotations if name > (after or ""))
            return [self._world.rotations[name] for name in names[:limit]]

        return self._world.io("rotations", "page", effect)

    @override
    def put(self, rotation: SecretRotation) -> SecretRotation:
        def effect() -> SecretRotation:
            stored = self._world.rotations.get(rotation.name)
            if (stored.etag if stored else None) != rotation.etag:
                raise Conflict("the secret's row changed")
            new = self._world.rotations[rotation.name] = replace(rotation, etag=self._world.etag())
            return new

        return self._world.io("rotations", "put", effect)


class SimKekUses(KekUses):
    """The port `KekUses` in memory."""

    def __init__(self, world: World) -> None:
        self._world = world

    @override
    def report(self, use: KekUse) -> None:
        def effect() -> None:
            known = self._world.uses.get(use.consumer)
            if known is None or known.seen <= use.seen:
                self._world.uses[use.consumer] = use

        self._world.io("uses", "report", effect)

    @override
    def all(self) -> Sequence[KekUse]:
        return self._world.io("uses", "all", lambda: list(self._world.uses.values()))


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


class SimCheckpoints(Checkpoints):
    """The port `Checkpoints` in memory."""

    def __init__(self, world: World) -> None:
        self._world = world

    @override
    def read(self, first: int, limit: int) -> Sequence[StoredCheckpoint]:
        assert first >= 1
        assert limit >= 1

        def effect() -> Sequence[StoredCheckpoint]:
            numbers = sorted(number for number in self._world.checkpoints if number >= first)
            return [self._world.checkpoints[number] for number in numbers[:limit]]

        return self._world.io("checkpoints", "read", effect)

    @override
    def append(self, checkpoint: StoredCheckpoint) -> None:
        assert bool(checkpoint.stamped) == bool(checkpoint.token), "a token is about a checkpoint"

        def effect() -> None:
            if checkpoint.number in self._world.checkpoints:
                raise Conflict("taken")
            assert checkpoint.number == max(self._world.checkpoints, default=0) + 1, "numbers have no gaps"
            self._world.checkpoints[checkpoint.number] = checkpoint

        self._world.io("checkpoints", "append", effect)


class SimSigner(AuditSigner):
    """The port `AuditSigner` in memory, with real keys on P-256."""

    def __init__(self, world: World) -> None:
        self._world = world

    @override
    def newest(self) -> SigningKey:
        return self._world.io("signer", "newest", lambda: self._found(next(reversed(self._world.signing_keys), None)))

    @override
    def version(self, kid: Kid) -> SigningKey:
        _ensure_signing(kid)
        return self._world.io("signer", "version", lambda: self._found(kid))

    @override
    def sign(self, kid: Kid, text: bytes) -> bytes:
        _ensure_signing(kid)

        def effect() -> bytes:
            if not self._found(kid).enabled:
                raise UnusableKey("the vault refuses to sign with this version", kid=kid)
            return signing_secret(int(kid[-32:], 16)).sign(text, ec.ECDSA(hashes.SHA256()))

        return self._world.io("signer", "sign", effect)

    def _found(self, kid: Kid | None) -> SigningKey:
        if kid not in self._world.signing_keys:
            raise Rejected("there is no such key in the vault", kid=kid)
        return self._world.signing_keys[kid]


def _ensure_signing(kid: Kid) -> None:
    if not re.fullmatch(re.escape(f"{VAULT_URL}/keys/{SIGNING_KEY}/") + "[0-9a-f]{32}", kid):
        raise Integrity("a key id is not one of the key that signs checkpoints", kid=kid)


class SimEvidence(Evidence):
    """The port `Evidence` in memory."""

    def __init__(self, world: World) -> None:
        self._world = world

    @override
    def files(self) -> Sequence[EvidenceFile]:
        return self._world.io("evidence", "files", self._files)

    @override
    def newest(self) -> EvidenceFile | None:
        return self._world.io("evidence", "newest", lambda: next(reversed(self._files()), None))

    @override
    def create(self, name: str) -> None:
        def effect() -> None:
            if name in self._world.evidence:
                raise Conflict("exists")
            self._world.evidence[name] = []

        self._world.io("evidence", "create", effect)

    @override
    def read(self, name: str, start: int, limit: int) -> bytes:
        return self._world.io("evidence", "read", lambda: b"".join(self._blocks(name))[start : start + limit])

    @override
    def append(self, name: str, at: int, data: bytes) -> None:
        assert 1 <= len(data) <= MAX_APPEND_BYTES, "the service takes no such block"

        def effect() -> None:
            blocks = self._blocks(name)
            if sum(map(len, blocks)) != at:
                raise Conflict("the file has another length")
            assert len(blocks) < MAX_BLOCKS, "a file has no more blocks than this"
            blocks.append(data)

        self._world.io("evidence", "append", effect)

    def _files(self) -> list[EvidenceFile]:
        files = sorted(self._world.evidence.items())
        return [EvidenceFile(name, sum(map(len, blocks)), len(blocks)) for name, blocks in files]

    def _blocks(self, name: str) -> list[bytes]:
        if name not in self._world.evidence:
            raise Integrity("a file of the evidence copy is gone", file=name)
        return self._world.evidence[name]


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


class SimAlertRegister(AlertRegister):
    """The port `AlertRegister` in memory."""

    def __init__(self, world: World) -> None:
        self._world = world

    @override
    def read(self, alert_id: str) -> AlertEntry | None:
        return self._world.io("alerts", "read", lambda: self._world.alert_rows.get(alert_id))

    @override
    def put(self, entry: AlertEntry) -> None:
        def effect() -> None:
            stored = self._world.alert_rows.get(entry.alert.id)
            if (stored.etag if stored else None) != entry.etag:
                raise Conflict("the alert changed")
            self._world.alert_rows[entry.alert.id] = replace(entry, etag=self._world.etag())

        self._world.io("alerts", "put", effect)

    @override
    def owing(self) -> Sequence[AlertEntry]:
        return self._world.io("alerts", "owing", lambda: [entry for entry in self._ordered() if entry.is_owing])

    @override
    def all(self) -> Sequence[AlertEntry]:
        return self._world.io("alerts", "all", self._ordered)

    def _ordered(self) -> list[AlertEntry]:
        return sorted(self._world.alert_rows.values(), key=lambda entry: entry.alert.raised)


class SimAlerts(AlertDesk):
    """The port `Alerts` on rows in memory."""

    def __init__(self, world: World) -> None:
        super().__init__(SimAlertRegister(world), world.clock)


class SimSink(AlertSink):
    """An alert sink that keeps what it was told."""

    def __init__(self, world: World, name: SinkName = SinkName.WEBHOOK) -> None:
        self._world = world
        self._name = name

    @property
    @override
    def name(self) -> SinkName:
        return self._name

    @override
    def send(self, notice: Notice) -> None:
        def effect() -> None:
            if (refusal := self._world.refusals.get(self._name)) is not None:
                raise refusal
            self._world.notices.append((self._name, notice))

        self._world.io(f"sink-{self._name}", "send", effect)


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
