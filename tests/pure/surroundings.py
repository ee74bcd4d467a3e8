"""What a `TenantCipher` talks to, without a network: rows, a vault, two tables of consumers, the time."""

import os
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Never, override

from rotation.tenant_cipher import CachePolicy, TenantCipher
from rotation.wrapping import Entropy
from shared.errors import AtpError, Transient, UnusableKey
from shared.ports import Consumers, Deks, KekUses, Vault
from shared.secret import Secret
from shared.values import ConsumerReport, KekUse, KekVersion, Keyring, KeyShape, Kid, Tenant, TenantId
from tests.pure.keyrings import NOW


@dataclass
class Hanging:
    """Calls of one port that do not come back before they are let go."""

    entered: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    let_go: threading.Event = field(default_factory=threading.Event)

    def wait(self) -> None:
        """What a call does."""
        self.entered.release()
        assert self.let_go.wait(20), "nobody lets the call go"


@dataclass
class Surroundings:
    """Everything around one or more ciphers; `seconds` is their monotonic clock."""

    keyrings: dict[str, Keyring] = field(default_factory=dict)
    failures: dict[str, Exception] = field(default_factory=dict)  # by port: deks, vault, consumers, uses
    hanging: dict[str, Hanging] = field(default_factory=dict)  # by port, too
    failing_takes: float = 0.0  # seconds
    calls: Counter[str] = field(default_factory=Counter)  # by port, with those that fail
    refused: dict[bytes, AtpError] = field(default_factory=dict)  # wrapped DEKs that the vault refuses to open
    disabled: set[Kid] = field(default_factory=set)  # KEK versions
    seconds: float = 1000.0
    reads: list[str] = field(default_factory=list)
    opened: list[bytes] = field(default_factory=list)
    reports: list[ConsumerReport] = field(default_factory=list)
    uses: list[KekUse] = field(default_factory=list)

    def put(self, *rings: Keyring) -> None:
        """Store tenants."""
        for ring in rings:
            self.keyrings[ring.tenant.tenant] = ring

    def outage(self, *ports: str) -> None:
        """From now on exactly these do not answer."""
        self.failures = {port: Transient("no answer") for port in ports}

    def call(self, port: str) -> None:
        """Hang if the port is to hang, fail if it is to fail."""
        self.calls[port] += 1
        if port in self.hanging:
            self.hanging[port].wait()
        if port in self.failures:
            self.seconds += self.failing_takes
            raise self.failures[port]

    def cipher(
        self, policy: CachePolicy | None = None, entropy: Entropy = os.urandom, consumer: str = "ingest-7"
    ) -> TenantCipher:
        """A cipher that has just started."""
        return TenantCipher(
            Rows(self),
            OpeningVault(self),
            Registry(self),
            Register(self),
            consumer,
            policy,
            lambda: NOW + timedelta(seconds=self.seconds),
            lambda: self.seconds,
            entropy,
        )


class Rows(Deks):
    """Rows that can only be read: a cipher that tried anything else would fail its test."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around

    @override
    def read(self, tenant: TenantId) -> Keyring | None:
        self._around.call("deks")
        self._around.reads.append(tenant)
        return self._around.keyrings.get(tenant)

    @override
    def scan(self, shard: int, after: TenantId | None, limit: int) -> Sequence[Tenant]:
        _forbidden("scan")

    @override
    def page(self, shard: int, after: TenantId | None, rows: int) -> Sequence[Keyring]:
        _forbidden("page")

    @override
    def add(self, tenant: Tenant) -> None:
        _forbidden("add")

    @override
    def replace(self, old: Keyring, new: Keyring) -> None:
        _forbidden("replace")


class OpeningVault(Vault):
    """Opens what tests/pure/keyrings.py wrapped."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._lock = threading.Lock()

    @override
    def unwrap(self, kid: Kid, algorithm: str, wrapped: bytes) -> Secret:
        self._around.call("vault")
        if kid in self._around.disabled:
            raise UnusableKey("disabled", kid=kid)
        if wrapped in self._around.refused:
            raise self._around.refused[wrapped]
        with self._lock:
            self._around.opened.append(wrapped)
        return Secret(wrapped.partition(b":")[2][::-1])

    @override
    def newest(self, name: str, vault: str | None = None) -> KekVersion:
        _forbidden("newest")

    @override
    def version(self, kid: Kid) -> KekVersion:
        _forbidden("version")

    @override
    def made_for(self, run: str, name: str, vault: str, shape: KeyShape) -> KekVersion:
        _forbidden("made_for")

    @override
    def set_enabled(self, kid: Kid, *, enabled: bool) -> None:
        _forbidden("set_enabled")

    @override
    def wrap(self, kid: Kid, algorithm: str, dek: Secret) -> bytes:
        _forbidden("wrap")


class Registry(Consumers):
    """Keeps every report."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around

    @override
    def report(self, report: ConsumerReport) -> None:
        self._around.call("consumers")
        self._around.reports.append(report)

    @override
    def of(self, tenant: TenantId) -> Sequence[ConsumerReport]:
        _forbidden("of")


class Register(KekUses):
    """Keeps every report about KEK versions."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around

    @override
    def report(self, use: KekUse) -> None:
        self._around.call("uses")
        self._around.uses.append(use)

    @override
    def all(self) -> Sequence[KekUse]:
        _forbidden("all")


def _forbidden(call: str) -> Never:
    raise AssertionError(f"a cipher has no business calling {call}")
