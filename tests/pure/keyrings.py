"""Tenants, keyrings and jobs as the tests of the pure parts need them."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from rotation.catalog import DekPolicy, KekPolicy
from rotation.message import Action, Job, Trigger
from rotation.wrapping import RSA_OAEP_256, check_value
from shared.secret import Secret
from shared.values import Etag, Keyring, KeyState, Kid, Tenant, TenantId, TenantState, WrappedDek

NOW = datetime(2026, 11, 20, 12, 30, 15, 250_000, tzinfo=UTC)
ACME = TenantId("acme")
KID = Kid("https://atp.vault.azure.net/keys/master-kek/0123456789abcdef0123456789abcdef")
NEW_KID = Kid("https://atp.vault.azure.net/keys/master-kek/fedcba9876543210fedcba9876543210")
POLICY = DekPolicy(
    name="tenant-dek",
    owner="security",
    kek="master-kek",
    interval=timedelta(days=90),
    spread=timedelta(days=10),
    grace=timedelta(days=7),
    retention=timedelta(days=365),
)


KEK_POLICY = KekPolicy(
    name="master-kek",
    owner="security",
    interval=timedelta(days=365),
    grace=timedelta(days=7),
    consumer_timeout=timedelta(days=3),
    soak=timedelta(days=5),
    scrub=0.5,
    headroom=0.2,
)


def no_vault(kid: Kid, algorithm: str, dek: Secret) -> bytes:
    """For what must be wrapped without asking a vault."""
    raise AssertionError(f"{dek} was to be wrapped at the vault by {algorithm} under {kid}")


def dek_bytes(tenant: str, version: int) -> bytes:
    """The plaintext DEK of a test tenant."""
    return hashlib.sha256(f"DEK {version} of {tenant}".encode()).digest()


def wrapped_dek(version: int, state: KeyState, tenant: TenantId = ACME, **changes: Any) -> WrappedDek:
    """A stored DEK; a secondary was demoted just now."""
    dek = WrappedDek(
        version=version,
        state=state,
        wrapped=b"wrapped:" + dek_bytes(tenant, version)[::-1],
        kid=KID,
        algorithm=RSA_OAEP_256,
        wrap_generation=1,
        check_value=check_value(Secret(dek_bytes(tenant, version)), tenant, version),
        created=NOW - timedelta(days=1),
        job=f"dek.rotate/{tenant}/v{version}",
        demoted=NOW if state is KeyState.SECONDARY else None,
        etag=Etag(f"dek-{version}"),
    )
    return replace(dek, **changes)


def keyring(*states: KeyState, tenant: TenantId = ACME, **changes: Any) -> Keyring:
    """A tenant whose DEK versions 1, 2, 3 ... are in these states, its pointer on the last; `changes` of its row."""
    deks = tuple(wrapped_dek(version, state, tenant) for version, state in enumerate(states, 1))
    row = Tenant(
        tenant=tenant,
        state=TenantState.ACTIVE,
        added=NOW - timedelta(days=200),
        primary=len(deks),
        primary_since=NOW - timedelta(days=1) if deks else None,
        dual_running_since=min((dek.demoted for dek in deks if dek.demoted), default=None),
        added_by=f"tenant.add/{tenant}/first",
        etag=Etag(f"tenant-{len(deks)}"),
    )
    return Keyring(replace(row, **changes), deks)


def with_dek(ring: Keyring, version: int, **changes: Any) -> Keyring:
    """The keyring with one DEK changed."""
    return replace(ring, deks=tuple(replace(dek, **changes) if dek.version == version else dek for dek in ring.deks))


def rewrapped(ring: Keyring, kid: Kid = NEW_KID) -> Keyring:
    """The keyring as the rotation of its KEK leaves it: every DEK under another KEK version, its previous wrap kept."""
    deks = [
        replace(
            dek,
            wrapped=b"wrapped again:" + dek.wrapped.partition(b":")[2],
            kid=kid,
            wrap_generation=dek.wrap_generation + 1,
            previous=dek.wrap,
            etag=Etag(f"rewrapped-{dek.version}"),
        )
        for dek in ring.deks
    ]
    return Keyring(replace(ring.tenant, etag=Etag("rewrapped")), tuple(deks))


def job(action: Action, request: str = "r1", target: int | None = None, tenant: TenantId = ACME) -> Job:
    """A job an operator asked for."""
    return Job(action, tenant, request, Trigger.MANUAL, "alice@atp", "asked for", target)
