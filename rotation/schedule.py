"""When a tenant's keys fall due: pure functions of what is stored, the policy, and now.

Nothing is stored that the policy could make stale, and nothing depends on when a timer fired, so that a missed tick
loses nothing and a changed policy holds at once.
"""

import hashlib
from datetime import datetime
from typing import Final

from rotation.catalog import DekPolicy
from rotation.dek import occasion
from rotation.message import Action, Job, Trigger
from shared.values import Tenant, TenantState

_LEAST_LEAD: Final = 0.1  # of the spread, so that even the last tenant is planned before its interval ends


def rotation_due(tenant: Tenant, policy: DekPolicy) -> datetime:
    """When the primary DEK should be replaced: never later than its interval, earlier by the tenant's own jitter.

    The jitter is a hash of tenant and version: even over the spread, the same for every planner, new each time.
    """
    since = tenant.primary_since or tenant.added
    draw = hashlib.sha256(f"{tenant.tenant}/{tenant.primary}".encode()).digest()
    fraction = int.from_bytes(draw[:4]) / 2**32
    return since + policy.interval - policy.spread * (_LEAST_LEAD + (1 - _LEAST_LEAD) * fraction)


def due_job(tenant: Tenant, policy: DekPolicy, now: datetime) -> Job | None:
    """The one job that this tenant needs now, None if it needs nothing. The next plan finds what comes after it."""
    if tenant.state is TenantState.OFFBOARDED or tenant.state is TenantState.DESTROYING:
        due = tenant.destroy_after
        if due is None or now < due:
            return None
        return _scheduled(Action.DESTROY_TENANT, tenant, occasion(due), "retention period is over")
    if tenant.state is TenantState.DESTROYED:
        return None
    target = tenant.primary + 1
    if tenant.primary == 0:
        return _scheduled(Action.ROTATE_DEK, tenant, f"v{target}", "tenant has no DEK yet", target)
    if now >= rotation_due(tenant, policy):
        return _scheduled(Action.ROTATE_DEK, tenant, f"v{target}", "rotation interval is over", target)
    if tenant.dual_running_since and now >= tenant.dual_running_since + policy.grace:
        return _scheduled(Action.RETIRE_DEK, tenant, occasion(tenant.dual_running_since), "dual running is over")
    return None


def _scheduled(action: Action, tenant: Tenant, request: str, reason: str, target: int | None = None) -> Job:
    return Job(action, tenant.tenant, request, Trigger.SCHEDULE, "planner", reason, target)
