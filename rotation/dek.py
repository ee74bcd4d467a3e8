"""What a job makes of a tenant's keyring: pure decisions, one function per action.

Each takes the keyring as just read and answers with a `Step`: the change to make, or why none is needed. Asking again
after a crash, a duplicate or a conflict gives the answer that fits what is stored by then; that is all the recovery
there is.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum, auto
from typing import Final

from rotation.catalog import DekPolicy
from rotation.lifecycle import move
from rotation.message import Action, Job, Trigger
from shared.errors import Integrity, Rejected, TenantDestroyed, TenantOffboarded, UnknownTenant
from shared.ports import MAX_ROWS_PER_TRANSACTION
from shared.values import Keyring, KeyState, Tenant, TenantState, WrappedDek

type DekMaker = Callable[[int], WrappedDek]
"""Makes a new wrapped DEK of that version."""


class Standing(Enum):
    """Why a job has nothing (more) to do."""

    DONE = auto()  # this very job has taken effect
    SUPERSEDED = auto()  # another job made it unnecessary


@dataclass(frozen=True, slots=True)
class Change:
    """One transaction to make."""

    new: Keyring
    more: bool = False  # the action needs another transaction after this one


type Step = Change | Standing


def decide(keyring: Keyring | None, job: Job, policy: DekPolicy, now: datetime, make_dek: DekMaker) -> Step:
    """What `job` must do to `keyring`. Rejected where it must not be done at all; Integrity where the rows are wrong.

    `make_dek` is called only where a new DEK is needed.
    """
    if keyring is not None:
        ensure_sound(keyring)
    if job.action is Action.ADD_TENANT:
        return _add(keyring, job, now)
    if keyring is None:
        raise UnknownTenant("no such tenant", tenant=job.tenant)
    if job.action is Action.ROTATE_DEK:
        return _rotate(keyring, job, policy, now, make_dek)
    return _ACTIONS[job.action](keyring, job, policy, now)


def ensure_sound(keyring: Keyring) -> None:
    """Integrity unless the rows of a tenant agree with each other: one primary, no gaps, the pointer on the primary."""
    tenant, deks = keyring.tenant, keyring.deks
    if tenant.state in (TenantState.DESTROYING, TenantState.DESTROYED):
        if tenant.state is TenantState.DESTROYED and deks:
            raise Integrity("a destroyed tenant still has DEKs", tenant=tenant.tenant, versions=len(deks))
        return
    if [dek.version for dek in deks] != list(range(1, tenant.primary + 1)):
        raise Integrity("the DEK versions of a tenant have a gap or go beyond its primary", tenant=tenant.tenant)
    primaries = [dek.version for dek in deks if dek.state is KeyState.PRIMARY]
    if primaries != ([tenant.primary] if tenant.primary else []):
        raise Integrity("a tenant's pointer and its primary DEK disagree", tenant=tenant.tenant, primary=tenant.primary)
    if any(dek.state is KeyState.SECONDARY and dek.demoted is None for dek in deks):
        raise Integrity("a secondary DEK does not say since when, and would never retire", tenant=tenant.tenant)


def occasion(since: datetime | None) -> str:
    """A moment as the part of a job id that tells one occasion, a dual running say, from the next one."""
    return f"{since:%Y%m%dT%H%M%S.%fZ}" if since else "none"


def _add(keyring: Keyring | None, job: Job, now: datetime) -> Step:
    if keyring is None:
        return Change(Keyring(Tenant(job.tenant, TenantState.ACTIVE, added=now, added_by=job.id)))
    if keyring.tenant.added_by == job.id:
        return Standing.DONE
    if keyring.tenant.state is not TenantState.ACTIVE:
        raise Rejected("the name belongs to a tenant that was off-boarded", tenant=job.tenant)
    return Standing.SUPERSEDED


def _rotate(keyring: Keyring, job: Job, policy: DekPolicy, now: datetime, make_dek: DekMaker) -> Step:
    tenant = keyring.tenant
    made = next((dek for dek in keyring.deks if dek.job == job.id), None)
    if made is not None:
        if job.target not in (None, made.version):
            raise Integrity("a job has made another version than it was to make", job=job.id, version=made.version)
        return Standing.DONE
    if job.target is not None and (job.target <= tenant.primary or tenant.state is not TenantState.ACTIVE):
        return Standing.SUPERSEDED
    if tenant.state is TenantState.OFFBOARDED:
        raise TenantOffboarded("an off-boarded tenant's DEK does not rotate", tenant=tenant.tenant)
    if tenant.state is not TenantState.ACTIVE:
        raise TenantDestroyed("the tenant's DEKs were destroyed", tenant=tenant.tenant)
    version = tenant.primary + 1
    if job.target is not None and job.target > version:
        raise Integrity(
            "the plan has seen a newer DEK than there is: rows were lost or restored",
            tenant=tenant.tenant,
            target=job.target,
            primary=tenant.primary,
        )
    new = make_dek(version)
    demoted = [
        replace(dek, state=move(dek.state, KeyState.SECONDARY), demoted=now) if dek.state is KeyState.PRIMARY else dek
        for dek in keyring.deks
    ]
    deks = (*_retired(demoted, policy, now), new)
    pointer = replace(tenant, primary=version, primary_since=now, dual_running_since=_dual_running_since(deks))
    return Change(Keyring(pointer, deks))


def _retire(keyring: Keyring, job: Job, policy: DekPolicy, now: datetime) -> Step:
    if keyring.tenant.state in (TenantState.DESTROYING, TenantState.DESTROYED):
        return Standing.SUPERSEDED
    if job.trigger is Trigger.SCHEDULE and job.request != occasion(keyring.tenant.dual_running_since):
        return Standing.SUPERSEDED  # planned for an earlier dual running
    deks = tuple(_retired(keyring.deks, policy, now))
    if deks == keyring.deks:
        return Standing.DONE
    pointer = replace(keyring.tenant, dual_running_since=_dual_running_since(deks))
    return Change(Keyring(pointer, deks))


def _offboard(keyring: Keyring, job: Job, policy: DekPolicy, now: datetime) -> Step:
    tenant = keyring.tenant
    if tenant.offboarded_by == job.id:  # even if it was undone since: a late delivery must not do it again
        return Standing.DONE
    if tenant.state is not TenantState.ACTIVE:
        return Standing.SUPERSEDED
    pointer = replace(
        tenant,
        state=TenantState.OFFBOARDED,
        offboarded=now,
        destroy_after=now + policy.retention,
        offboarded_by=job.id,
    )
    return Change(replace(keyring, tenant=pointer))


def _reinstate(keyring: Keyring, job: Job, policy: DekPolicy, now: datetime) -> Step:  # noqa: ARG001 - one signature
    tenant = keyring.tenant
    if tenant.reinstated_by == job.id:
        return Standing.DONE
    if tenant.state is TenantState.ACTIVE:
        return Standing.SUPERSEDED
    if tenant.state is not TenantState.OFFBOARDED:
        raise TenantDestroyed("the tenant's DEKs were destroyed", tenant=tenant.tenant)
    pointer = replace(tenant, state=TenantState.ACTIVE, offboarded=None, destroy_after=None, reinstated_by=job.id)
    return Change(replace(keyring, tenant=pointer))


def _destroy(keyring: Keyring, job: Job, policy: DekPolicy, now: datetime) -> Step:  # noqa: ARG001 - one signature
    tenant = keyring.tenant
    if tenant.state is TenantState.DESTROYED:
        return Standing.DONE if tenant.destroyed_by == job.id else Standing.SUPERSEDED
    if tenant.state is TenantState.ACTIVE and job.trigger is Trigger.SCHEDULE:
        return Standing.SUPERSEDED  # reinstated since it was planned
    is_leaving = tenant.state in (TenantState.OFFBOARDED, TenantState.DESTROYING)
    if not is_leaving or tenant.destroy_after is None or now < tenant.destroy_after:
        raise Rejected(
            "the tenant is not off-boarded, or its retention period is not over",
            tenant=tenant.tenant,
            destroy_after=tenant.destroy_after,
        )
    # The tenant's own row takes part in every transaction, so that nothing else can happen in between.
    left = keyring.deks[MAX_ROWS_PER_TRANSACTION - 1 :]
    state = TenantState.DESTROYING if left else TenantState.DESTROYED
    pointer = replace(tenant, state=state, dual_running_since=None, destroyed_by=tenant.destroyed_by or job.id)
    return Change(Keyring(pointer, left), more=bool(left))


_ACTIONS: Final[Mapping[Action, Callable[[Keyring, Job, DekPolicy, datetime], Step]]] = {
    Action.RETIRE_DEK: _retire,
    Action.OFFBOARD_TENANT: _offboard,
    Action.REINSTATE_TENANT: _reinstate,
    Action.DESTROY_TENANT: _destroy,
}


def _retired(deks: list[WrappedDek] | tuple[WrappedDek, ...], policy: DekPolicy, now: datetime) -> list[WrappedDek]:
    """The DEKs with every secondary retired whose grace is over."""
    return [
        replace(dek, state=move(dek.state, KeyState.RETIRED))
        if dek.state is KeyState.SECONDARY and dek.demoted is not None and now >= dek.demoted + policy.grace
        else dek
        for dek in deks
    ]


def _dual_running_since(deks: tuple[WrappedDek, ...]) -> datetime | None:
    return min((dek.demoted for dek in deks if dek.state is KeyState.SECONDARY and dek.demoted), default=None)
