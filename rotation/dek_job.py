"""Carries out the jobs on a tenant's DEKs: add, rotate, retire, off-board, reinstate, destroy.

One sequence serves them all, first delivery and recovery alike:

    1. read the keyring and decide          dies here: nothing has happened
    2. record the intent                    dies here: the next delivery finds the intent and goes on
    3. make the change, one transaction     dies here: the next delivery finds the change, or not, and goes on
    4. record the outcome                   dies here: recording it again changes nothing

A Conflict in step 3 means that somebody changed the tenant since step 1: begin again. Whoever delivers the jobs
delivers one until it has ended; what cannot end goes to `settle` by way of the poison queue.
"""

import logging
from dataclasses import replace
from datetime import datetime
from typing import Final

from rotation.audit import AuditEvent, Outcome
from rotation.audit_job import AuditTrail
from rotation.catalog import DekPolicy
from rotation.dek import Change, Standing, Step, decide
from rotation.kek import MAX_STALL
from rotation.message import Action, Job
from rotation.primary_kek import PrimaryKek
from rotation.wrapping import Entropy, new_dek
from shared.clock import Clock
from shared.errors import Conflict, Integrity, Rejected
from shared.ports import Deks, Vault
from shared.values import Keyring, WrappedDek

log = logging.getLogger(__name__)

_TRIES: Final = 5
_OUTCOMES: Final = {Standing.DONE: Outcome.SUCCEEDED, Standing.SUPERSEDED: Outcome.SUPERSEDED}


class DekJobs:
    """Performs rotation jobs. Any number of workers, in any number of processes, may work on the same tenant."""

    def __init__(
        self,
        deks: Deks,
        vault: Vault,
        kek: PrimaryKek,
        audit: AuditTrail,
        policy: DekPolicy,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._deks = deks
        self._vault = vault
        self._kek = kek
        self._audit = audit
        self._policy = policy
        self._clock = clock
        self._entropy = entropy

    def run(self, job: Job) -> None:
        """Perform `job`; returns when its effect and its audit record are durable, whoever made them.

        Raises Transient or Conflict to be called again later, Rejected or Integrity when it cannot be done.
        """
        # A DEK's row names the job that made it; who made the other changes, only the trail remembers for ever.
        if job.action is Action.ROTATE_DEK or not self._has_succeeded(job):
            self._perform(job)
        if job.action is Action.ADD_TENANT:
            self.run(_first_rotation(job))

    def standing(self, job: Job) -> Outcome:
        """How a job that was given up stands in truth: done after all, superseded, or failed. Records nothing."""
        outcome = self._found(job)[0]
        if job.action is Action.ADD_TENANT and outcome is not Outcome.FAILED:
            return self._found(_first_rotation(job))[0]
        return outcome

    def settle(self, job: Job) -> Outcome:
        """Record how a job that was given up stands; the answer is that of `standing`.

        Its own outcome comes last: if we die before, its intent is still open, and whoever looks for those comes again.
        """
        outcome, keyring = self._found(job)
        answer = outcome
        if job.action is Action.ADD_TENANT and outcome is not Outcome.FAILED:
            answer = self.settle(_first_rotation(job))
        if not self._has_succeeded(job):
            self._audit.record(_event(job, outcome, keyring))
        return answer

    def _found(self, job: Job) -> tuple[Outcome, Keyring | None]:
        if self._has_succeeded(job):
            return Outcome.SUCCEEDED, None
        keyring = None
        try:
            keyring = self._deks.read(job.tenant)
            step: Step | None = decide(keyring, job, self._policy, self._clock(), _make_nothing)
        except (Rejected, Integrity) as error:
            step = None
            log.warning("job was given up", extra={"job": job.id, "because": str(error)})
        return _OUTCOMES[step] if isinstance(step, Standing) else Outcome.FAILED, keyring

    def _perform(self, job: Job) -> None:
        for _ in range(_TRIES):
            decided = self._clock()
            keyring = self._deks.read(job.tenant)
            step = self._decide(keyring, job)
            if isinstance(step, Standing):
                self._close(job, keyring, _OUTCOMES[step])
                return
            self._audit.record(_event(job, Outcome.INTENT, keyring, step))
            try:
                self._change(keyring, step, decided)
            except Conflict:
                log.info("tenant changed meanwhile, deciding again", extra={"job": job.id})
                continue
            if not step.more:
                self._audit.record(_event(job, Outcome.SUCCEEDED, keyring, step))
                log.info("job done", extra={"job": job.id, "trigger": job.trigger})
                return
        raise Conflict("a tenant keeps changing", tenant=job.tenant)

    def _has_succeeded(self, job: Job) -> bool:
        return self._audit.knows(_event(job, Outcome.SUCCEEDED, None))

    def _decide(self, keyring: Keyring | None, job: Job) -> Step:
        now = self._clock()

        def make_dek(version: int) -> WrappedDek:
            return new_dek(job.tenant, version, self._kek(), now, job.id, self._entropy, self._vault.wrap)

        return decide(keyring, job, self._policy, now, make_dek)

    def _change(self, keyring: Keyring | None, change: Change, decided: datetime) -> None:
        if self._clock() - decided > MAX_STALL:
            # The KEK may have been rotated since, and the version that wraps a new DEK disabled.
            raise Conflict("a worker stood still for too long")
        if keyring is None:
            self._deks.add(change.new.tenant)
        else:
            self._deks.replace(keyring, change.new)

    def _close(self, job: Job, keyring: Keyring | None, outcome: Outcome) -> None:
        """Give an intent that an earlier delivery left open its outcome; without an intent there is nothing to say."""
        if self._audit.knows(_event(job, Outcome.INTENT, keyring)):
            self._audit.record(_event(job, outcome, keyring))


def _first_rotation(adding: Job) -> Job:
    """The job that gives a new tenant its DEK: the planner's own, so that only one of them has an effect."""
    return replace(adding, action=Action.ROTATE_DEK, request="v1", target=1)


def _make_nothing(version: int) -> WrappedDek:
    raise Rejected("the job has not made its DEK", version=version)


def _event(job: Job, outcome: Outcome, keyring: Keyring | None, change: Change | None = None) -> AuditEvent:
    old = keyring.tenant.primary if keyring else None
    new = change.new.tenant.primary if change else old
    details: dict[str, str] = {}
    made = next(
        (dek for dek in (change.new.deks if change else keyring.deks if keyring else ()) if dek.job == job.id), None
    )
    if made is not None:
        old, new = made.version - 1, made.version
        details |= {"kid": made.kid, "check_value": made.check_value.hex()}
    if job.action is Action.DESTROY_TENANT and keyring and keyring.deks:
        details["versions"] = f"{keyring.deks[0].version}-{keyring.deks[-1].version}"
    if job.failure and outcome is Outcome.FAILED:
        details["error"] = job.failure
    return AuditEvent(
        job=job.id,
        outcome=outcome,
        action=job.action,
        subject=f"dek/{job.tenant}",
        actor=job.actor,
        trigger=job.trigger,
        reason=job.reason,
        old_version=old,
        new_version=new,
        details=details,
    )
