"""What a KEK rotation makes of one tenant's keyring: pure decisions, asked again after every conflict."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from rotation.dek import ensure_sound
from shared.errors import Integrity
from shared.ports import MAX_ROWS_PER_TRANSACTION
from shared.values import KekRun, Keyring, Kid, Phase, Tenant, TenantState, Wrap, WrappedDek, shard_of

_UNREADABLE: Final = frozenset({TenantState.DESTROYING, TenantState.DESTROYED})


def is_readable(tenant: Tenant) -> bool:
    """Whether the tenant's DEKs are to be kept."""
    return tenant.state not in _UNREADABLE


def wanted_kid(run: KekRun, tenant: Tenant) -> Kid:
    """What the tenant's DEKs are to be wrapped under as the run stands now."""
    held = shard_of(tenant.tenant) in run.held_shards or tenant.tenant in run.held_tenants
    if run.phase is Phase.ROLLING_BACK or held:
        return run.old_kid
    if run.new_kid is None:
        raise Integrity("a KEK rotation rewraps and has no new version", run=run.id)
    return run.new_kid


def outdated(keyring: Keyring, run: KekRun) -> Sequence[WrappedDek]:
    """The DEKs that are not wrapped under what the run wants.

    Integrity if the rows contradict each other, or a DEK is wrapped under a version that is not part of this run.
    """
    tenant = keyring.tenant
    ensure_sound(keyring)
    if not is_readable(tenant):
        return ()
    wanted = wanted_kid(run, tenant)
    for dek in keyring.deks:
        if dek.kid not in (run.old_kid, run.new_kid):
            raise Integrity(
                "a DEK is wrapped under a third KEK version", tenant=tenant.tenant, version=dek.version, kid=dek.kid
            )
    return [dek for dek in keyring.deks if dek.kid != wanted]


def kept_wrap(dek: WrappedDek, wanted: Kid) -> Wrap | None:
    """The kept previous wrap of a DEK, if it is the wanted one."""
    return dek.previous if dek.previous is not None and dek.previous.kid == wanted else None


def rewrapped(dek: WrappedDek, wrap: Wrap) -> WrappedDek:
    """The DEK under another wrap; the one it had is kept."""
    return replace(
        dek,
        wrapped=wrap.wrapped,
        kid=wrap.kid,
        algorithm=wrap.algorithm,
        wrap_generation=dek.wrap_generation + 1,
        previous=dek.wrap,
    )


def dropped(keyring: Keyring) -> Sequence[WrappedDek]:
    """The DEKs that keep a previous wrap, without it."""
    return [replace(dek, previous=None) for dek in keyring.deks if dek.previous is not None]


def with_changed(keyring: Keyring, changed: Sequence[WrappedDek]) -> Keyring:
    """The keyring with some of its versions changed, as many as fit into one transaction."""
    by_version = {dek.version: dek for dek in changed[: MAX_ROWS_PER_TRANSACTION - 1]}
    return replace(keyring, deks=tuple(by_version.get(dek.version, dek) for dek in keyring.deks))
