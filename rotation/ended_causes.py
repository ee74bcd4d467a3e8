"""Resolves alerts whose cause is provably gone: nobody has to, and nobody is left with a list of what is over."""

from typing import Final

from rotation.audit import Outcome
from rotation.audit_job import AuditTrail
from rotation.intents_job import OPEN
from rotation.wrapping import may_wrap
from shared.clock import Clock
from shared.errors import Integrity, Rejected
from shared.ports import Alerts, Keks, Vault
from shared.values import Alert, Kid, Phase

UNUSABLE: Final = "a KEK must not be used, and no DEK rotates until it may"
"""Over when the vault would wrap with that version."""
OF_A_RUN: Final = (
    "a KEK rotation cannot go on",
    "a KEK rotation makes no progress",
    "a KEK rotation has stopped a shard at a tenant whose rows cannot be right and are left alone",
)
"""Over when the rotation is."""
_OVER: Final = (Phase.CLOSED, Phase.ROLLED_BACK)
_ENDS: Final = tuple(outcome for outcome in Outcome if outcome is not Outcome.INTENT)


class EndedCauses:
    """Looks at open alerts. Any number may: resolving is done once."""

    def __init__(self, alerts: Alerts, audit: AuditTrail, vault: Vault, keks: Keks, clock: Clock) -> None:
        self._alerts = alerts
        self._audit = audit
        self._vault = vault
        self._keks = keks
        self._clock = clock

    def run(self) -> None:
        """Resolve what is over."""
        for alert in self._alerts.all():
            if alert.resolved is None and self._is_over(alert):
                self._alerts.resolve(alert.id)

    def _is_over(self, alert: Alert) -> bool:
        if alert.what == UNUSABLE:
            return self._is_usable(Kid(alert.details.get("kid", "")))
        if alert.what == OPEN:
            return self._has_outcome(alert.details.get("job", ""), alert.subject)
        if alert.what in OF_A_RUN:
            runs = {run.id: run.phase for run in self._keks.history(alert.subject.partition("/")[2])}
            return runs.get(alert.details.get("run", "")) in _OVER
        return False

    def _has_outcome(self, job: str, subject: str) -> bool:
        """Whether the trail says how a job has ended, however long ago it was begun; not if it cannot be read.

        Given up and then sent again, a job has an outcome before it is begun: that is not its end.
        """
        try:
            begun = self._audit.find(job, Outcome.INTENT, subject)
            ends = [self._audit.find(job, outcome, subject) for outcome in _ENDS]
        except Integrity:
            return False
        return begun is not None and any(end is not None and end.seq > begun.seq for end in ends)

    def _is_usable(self, kid: Kid) -> bool:
        """Whether the vault would wrap with it; not with one that is gone, or in no vault of ours."""
        if not kid:
            return False
        try:
            return may_wrap(self._vault.version(kid), self._clock())
        except (Rejected, Integrity):
            return False
