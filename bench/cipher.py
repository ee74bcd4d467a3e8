"""Encrypting and decrypting tenant data, against AES-256-GCM itself.

Measured: `TenantCipher.encrypt` and `.decrypt`, with their tenants open, for events of 256 bytes and objects of 1 MiB.
Floor: one `AESGCM` of `cryptography` with a fresh random nonce for every message, as any use of it must have, and the
same associated data. What lies between them is the price of knowing the tenant, its DEK version and its state, of the
header, and of nonces that may be random for ever.
"""

import os
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final, override

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bench.result import Result, in_turns
from rotation.tenant_cipher import CachePolicy, TenantCipher
from rotation.wrapping import DEK_BYTES, WriteTarget, new_dek
from shared.ports import Consumers, Deks, KekUses, Vault
from shared.secret import Secret
from shared.values import (
    ConsumerReport,
    KekUse,
    KekVersion,
    Keyring,
    KeyShape,
    Kid,
    Tenant,
    TenantId,
    TenantState,
)

_NAME: Final = "acme"
_CONTEXT: Final = b"stream/42/object/4711"
_DEK: Final = bytes(range(DEK_BYTES))
_KID: Final = Kid(f"https://bench.vault.azure.net/keys/master-kek/{'0' * 32}")
_NONCE_BYTES: Final = 12
_SIZES: Final = ((256, "256 bytes", 50_000, 0.3), (2**20, "1 MiB", 500, 0.9))
"""Bytes, their name, messages in one run, target."""


def measure(quick: bool) -> Sequence[Result]:
    """Compare both sizes in both directions."""
    runs = 3 if quick else 15
    return [result for size in _SIZES for result in _compared(*size, runs)]


def _compared(size: int, name: str, count: int, target: float, runs: int) -> Sequence[Result]:
    cipher, bare = _cipher(), AESGCM(_DEK)
    data = os.urandom(size)
    envelope = cipher.encrypt(_NAME, data, _CONTEXT)
    nonce = os.urandom(_NONCE_BYTES)
    sealed = bare.encrypt(nonce, data, _CONTEXT)
    contests = {
        "encrypt": (
            lambda: cipher.encrypt(_NAME, data, _CONTEXT),
            lambda: bare.encrypt(os.urandom(_NONCE_BYTES), data, _CONTEXT),
        ),
        "decrypt": (
            lambda: cipher.decrypt(_NAME, envelope, _CONTEXT),
            lambda: bare.decrypt(nonce, sealed, _CONTEXT),
        ),
    }
    results = []
    for what, (subject, floor) in contests.items():
        ours, least = in_turns(runs, _rate(subject, count), _rate(floor, count))
        results.append(
            Result("cipher", f"{what} {name}", _speed(ours, size), _speed(least, size), ours / least, target, True)
        )
    return results


def _rate(operation: Callable[[], object], count: int) -> Callable[[], float]:
    def measured() -> float:
        """Operations per second."""
        started = time.perf_counter()
        for _ in range(count):
            operation()
        return count / (time.perf_counter() - started)

    return measured


def _speed(rate: float, size: int) -> str:
    return f"{rate * size / 1e6:,.0f} MB/s, {rate:,.0f}/s"


def _cipher() -> TenantCipher:
    private = rsa.generate_private_key(65537, 2048)
    kek = KekVersion(_KID, private.public_key(), True, None, None, frozenset({"wrapKey", "unwrapKey"}))
    now = datetime.now(UTC)
    tenant = Tenant(TenantId(_NAME), TenantState.ACTIVE, now, primary=1, primary_since=now)
    vault = _OpenVault()
    dek = new_dek(tenant.tenant, 1, WriteTarget(kek), now, "bench", lambda _: _DEK, vault.wrap)
    return TenantCipher(
        _OneTenant(Keyring(tenant, (dek,))), vault, _Nobody(), _NobodyElse(), "bench", CachePolicy(), entropy=os.urandom
    )


class _OneTenant(Deks):
    """Knows one keyring, and nobody changes it."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    @override
    def read(self, tenant: TenantId) -> Keyring | None:
        return self._keyring

    @override
    def scan(self, shard: int, after: TenantId | None, limit: int) -> Sequence[Tenant]:
        raise NotImplementedError

    @override
    def page(self, shard: int, after: TenantId | None, rows: int) -> Sequence[Keyring]:
        raise NotImplementedError

    @override
    def add(self, tenant: Tenant) -> None:
        raise NotImplementedError

    @override
    def replace(self, old: Keyring, new: Keyring) -> None:
        raise NotImplementedError


class _OpenVault(Vault):
    """Opens everything to the one DEK there is."""

    @override
    def newest(self, name: str, vault: str | None = None) -> KekVersion:
        raise NotImplementedError

    @override
    def version(self, kid: Kid) -> KekVersion:
        raise NotImplementedError

    @override
    def made_for(self, run: str, name: str, vault: str, shape: KeyShape) -> KekVersion:
        raise NotImplementedError

    @override
    def set_enabled(self, kid: Kid, *, enabled: bool) -> None:
        raise NotImplementedError

    @override
    def wrap(self, kid: Kid, algorithm: str, dek: Secret) -> bytes:
        raise NotImplementedError

    @override
    def unwrap(self, kid: Kid, algorithm: str, wrapped: bytes) -> Secret:
        return Secret(_DEK)


class _Nobody(Consumers):
    """Forgets every report."""

    @override
    def report(self, report: ConsumerReport) -> None:
        return

    @override
    def of(self, tenant: TenantId) -> Sequence[ConsumerReport]:
        return []


class _NobodyElse(KekUses):
    """The same about KEK versions."""

    @override
    def report(self, use: KekUse) -> None:
        return

    @override
    def all(self) -> Sequence[KekUse]:
        return []
