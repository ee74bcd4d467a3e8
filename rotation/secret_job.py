"""Carries out the rotation of secrets, step by step; recovery and the normal way are the same code.

Each step has one effect outside, which may be repeated, and then moves the secret's row by compare-and-swap. Whoever
dies leaves the row in a phase, and the next delivery goes on from there:

    STEADY      choose the place, record the intent             dies here: an intent is open, the order comes again
    INTENDED    obtain the credential, set it aside in the vault dies here: it is found there by its generation, or
                                                                 obtained again, and then the earlier one is void
    STAGED      have the target accept it                        dies here: told so again
    INSTALLED   try it                                           dies here: tried again
    TESTED      publish it                                       dies here: it is found by its generation
    GRACE       record the outcome, tell consumers, wait         dies here: all of it again
    RESTORING   rolled back: publish the one before again        dies here: it is found by its tag
    REVOKING    revoke the credential before, prove it           dies here: all of it again
    ABANDONING  undo what was begun and not published            dies here: all of it again

A claim in the row keeps everybody else away from the secret: what targets are told cannot be made conditional. Nobody
begins a step without enough of the claim left; who stood still for longer finds that the row has changed.

A step that needs a version which a person has disabled waits, whatever the phase, and somebody is told. Nothing enables
it but a person.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, Final

from rotation.audit import AuditEvent, Outcome
from rotation.audit_job import AuditTrail
from rotation.catalog import SecretPolicy
from rotation.message import SecretAction, SecretOrder
from rotation.rotators.base import Change, Credential, Notice, Place, Rotator, fingerprint
from rotation.secret import (
    CLAIM,
    CLAIM_MARGIN,
    SETTLING,
    Decision,
    begun,
    confirmed_by,
    decide,
    ended,
    found,
    is_claimed,
    is_grace_over,
    moved,
    published,
    restored,
    taken_over,
    undone_by,
    unknown,
    will_replace,
)
from rotation.secret_versions import RESTORES_TAG, Versions
from rotation.tasks import ids, task_of, text
from shared.clock import Clock
from shared.errors import AtpError, Conflict, Disabled, Integrity, MissingPackage, Rejected, Transient, Waiting
from shared.ports import Alerts, SecretRotations, Secrets
from shared.values import SLOT_TAG, Alert, SecretPhase, SecretRotation, SecretVersion, Severity

log = logging.getLogger(__name__)

_LONGEST_TASK: Final = 1000


class SecretJobs:
    """Performs what is ordered of secrets. Any number of workers, in any number of processes, may."""

    def __init__(
        self,
        policies: Mapping[str, SecretPolicy],
        rotations: SecretRotations,
        secrets: Secrets,
        rotators: Callable[[SecretPolicy], Rotator],
        audit: AuditTrail,
        alerts: Alerts,
        clock: Clock,
        entropy: Callable[[int], bytes],
    ) -> None:
        self._policies = policies
        self._rotations = rotations
        self._secrets = secrets
        self._rotators = rotators
        self._audit = audit
        self._alerts = alerts
        self._clock = clock
        self._entropy = entropy

    def perform(self, order: SecretOrder) -> None:
        """Do what is ordered, and bring the rotation as far as it gets now.

        Raises Transient or Conflict to be called again later, Rejected or Integrity when it cannot be done.
        """
        policy = self._policies.get(order.secret)
        if policy is None:
            raise Rejected("the catalog has no secret of that name", entry=order.secret)
        work = self._work(policy)
        try:
            work.perform(order)
        finally:
            work.release()

    def settle(self, order: SecretOrder) -> bool:
        """Whether an order that was given up is lost, and a person has to see to it."""
        rotation = self._rotations.read(order.secret)
        if rotation is None or order.secret not in self._policies:
            return True
        if _has_ended(self._audit, rotation, order):
            return False
        try:
            decision = decide(rotation, order)
        except Rejected:
            return True
        is_driven = rotation.phase is SecretPhase.STEADY and bool(rotation.current)
        return decision is not Decision.NOTHING and not (decision is Decision.DRIVE and is_driven)

    def _work(self, policy: SecretPolicy) -> "_Work":
        return _Work(
            policy,
            self._rotators,
            self._rotations,
            self._secrets,
            self._audit,
            self._alerts,
            self._clock,
            self._entropy(8).hex(),
        )


class _Work:
    """One worker's work on one secret: the claim, the row as it was last stored, the steps."""

    def __init__(
        self,
        policy: SecretPolicy,
        rotators: Callable[[SecretPolicy], Rotator],
        rotations: SecretRotations,
        secrets: Secrets,
        audit: AuditTrail,
        alerts: Alerts,
        clock: Clock,
        claim: str,
    ) -> None:
        self._policy = policy
        self._rotators = rotators
        self._rotations = rotations
        self._versions = Versions(secrets, policy.entry, clock)
        self._audit = audit
        self._alerts = alerts
        self._clock = clock
        self._claim = claim
        self._row: SecretRotation | None = None
        self._trouble: str | None = None  # None: nothing was tried

    def perform(self, order: SecretOrder) -> None:
        """Claim the secret, do what is ordered."""
        try:
            self._perform_or_wait(order)
        except (Transient, Integrity) as error:
            self._trouble = str(error)[:_LONGEST_TASK]
            raise

    def _perform_or_wait(self, order: SecretOrder) -> None:
        try:
            self._perform(order)
        except Waiting as task:  # before anything is under way that could wait: the order does
            self._tell_task(str(task))
            raise Transient("a person has to do something before the order", entry=self._policy.name) from task
        except Disabled as error:
            self._tell_disabled(error, is_urgent=order.compromised)
            raise Transient("a version that somebody has disabled is needed: enable it", **error.fields) from error

    def _perform(self, order: SecretOrder) -> None:
        row = self._take()
        match self._decide(row, order):
            case Decision.NOTHING:
                self._count(row, order)
                return
            case Decision.BEGIN:
                self._begin(row, order)
            case Decision.HASTEN:
                self._hasten(row, order)
            case Decision.ABANDON:
                self._undo(row, order)
            case Decision.RESTORE:
                self._roll_back(order)
            case Decision.CONFIRM:
                self._audit.record(_confirmation(row, order))
                self._store(replace(row, confirmed=True, **confirmed_by(order)))  # type: ignore[arg-type] # by name
            case Decision.DRIVE:
                pass
        self._drive()
        self._trouble = ""

    def release(self) -> None:
        """Let others work on the secret at once. Should that fail, they wait until the claim has ended."""
        row = self._row
        if row is None or row.claim != self._claim:
            return
        trouble = row.trouble if self._trouble is None else self._trouble
        try:
            self._rotations.put(replace(row, claim="", claimed_until=None, trouble=trouble))
        except AtpError as error:
            log.info("a claim runs out by itself", extra={"entry": row.name, "because": str(error)})

    @cached_property
    def _rotator(self) -> Rotator:
        """Made when it is first needed: until then nothing has to be installed or reached."""
        return self._rotators(self._policy)

    # The row

    @property
    def _stored(self) -> SecretRotation:
        """The row as it was last stored."""
        if self._row is None:
            raise RuntimeError("the secret was not claimed")
        return self._row

    def _take(self) -> SecretRotation:
        """Claim the secret. Conflict if somebody else works on it."""
        now = self._clock()
        row = self._rotations.read(self._policy.name) or unknown(self._policy.name, now)
        if is_claimed(row, now):
            raise Conflict("another worker has this secret", entry=row.name, until=row.claimed_until)
        self._store(row)
        if row.phase is SecretPhase.STEADY:
            self._look()
        return self._stored

    def _look(self) -> None:
        """STEADY: what consumers use now, whoever published it. No generation is used again that is known anywhere."""
        newest = self._versions.newest()
        self._resolve(self._stored, "stalled", "disabled")
        generation = max(self._stored.generation, self._versions.newest_generation())
        while self._was_used(generation + 1):  # and no value of it is left in the vault
            generation += 1
        row = replace(self._stored, generation=generation)
        if newest is None or newest.version == row.current:
            if row != self._stored:
                self._store(row)
            return
        is_known = row.current and self._versions.are_same(newest.version, row.current)  # stored again by hand
        slot, since = (row.slot, row.since) if is_known else (self._slot(newest), newest.created)
        if row.current and not is_known:  # tags do not tell whether it works: a late write of ours may have come again
            self._ensure_works(row, Credential(slot, self._versions.value(newest.version)))
        self._resolve(row, "broken")
        row = replace(row, current=newest.version, slot=slot, since=since)
        before = self._versions.before(newest)
        if before is not None:
            previous, until = before
            until = min(until, self._clock() + self._policy.entry.grace)  # whatever a person has written there
            slot, back = self._slot(previous), RESTORES_TAG in newest.tags
            row = found(row, previous.version, slot, previous.created, until, self._clock(), back=back)
        self._store(row)

    def _was_used(self, generation: int) -> bool:
        """Whether the audit trail has the end of a rotation of that number, under an id that another would have."""
        name = self._policy.name
        return any(
            self._audit.find(f"{action}/{name}/g{generation}", outcome, f"secret/{name}") is not None
            for action, outcome in _NUMBERED_ENDS
        )

    def _slot(self, version: SecretVersion) -> str:
        return version.tags.get(SLOT_TAG) or self._rotator.locate(self._versions.value(version.version))

    def _store(self, row: SecretRotation) -> SecretRotation:
        """Put the row, the claim renewed."""
        self._row = self._rotations.put(replace(row, claim=self._claim, claimed_until=self._clock() + CLAIM))
        return self._row

    def _advance(self, row: SecretRotation, phase: SecretPhase, **changes: object) -> None:
        """Put the row in another phase; whatever a person had to do before is done."""
        if row.task:
            self._end_task(row)
        self._store(moved(row, phase, self._clock(), **changes))

    def _ensure_claimed(self) -> None:
        """Conflict unless there is time for an effect outside."""
        until = self._stored.claimed_until
        if until is None or self._clock() > until - CLAIM_MARGIN:
            raise Conflict("a worker stood still for too long", entry=self._policy.name)

    def _count(self, row: SecretRotation, order: SecretOrder) -> None:
        """The planner's next order was superseded before: the row is older than that, and its generation is used up."""
        is_next = row.phase is SecretPhase.STEADY and order.generation == row.generation + 1
        if is_next and order.action is SecretAction.ROTATE:
            self._store(replace(row, generation=row.generation + 1))

    def _ensure_in_use(self, row: SecretRotation) -> None:
        """As `_newest_in_use`, but what is on record may be disabled: consumers have nothing to lose then."""
        try:
            self._newest_in_use(row)
        except Disabled as error:
            if error.fields["version"] != row.current:
                raise

    def _newest_in_use(self, row: SecretRotation) -> SecretVersion | None:
        """What consumers read. Integrity if somebody else gave them another value: that one must not be touched."""
        newest = self._versions.newest()
        version = newest.version if newest else ""
        if version != row.current and not (version and row.current and self._versions.are_same(version, row.current)):
            raise Integrity("the vault's newest version is not the one on record", entry=row.name, current=row.current)
        return newest

    # What is ordered

    def _decide(self, row: SecretRotation, order: SecretOrder) -> Decision:
        """What the order comes to; it may have come before, whatever has happened since."""
        if row.order == order.id:
            return decide(row, order)
        if _has_ended(self._audit, row, order):
            return Decision.NOTHING
        try:
            decision = decide(row, order)
        except Rejected:
            if not self._is_intended(row, order):
                raise
            if order.action is SecretAction.ROLLBACK:
                self._audit.record(_ordered(row, order, Outcome.FAILED))
                raise
            decision = Decision.NOTHING  # another order came between its intent and its first step
        if decision is Decision.NOTHING and self._is_intended(row, order):
            self._audit.record(_ordered(row, order, Outcome.SUPERSEDED))
        return decision

    def _is_intended(self, row: SecretRotation, order: SecretOrder) -> bool:
        return self._audit.knows(_ordered(row, order, Outcome.INTENT))

    def _hasten(self, row: SecretRotation, order: SecretOrder) -> None:
        """Have the rotation under way replace what consumers use at once; if it does not, end it and begin another."""
        if will_replace(row):
            self._audit.record(_event(row, SecretAction.ROTATE, Outcome.SUPERSEDED))
            self._audit.record(_ordered(row, order, Outcome.INTENT))
            self._store(taken_over(row, order))
            return
        self._store(replace(row, grace_until=self._clock()))
        self._drive()
        if self._stored.phase is not SecretPhase.STEADY:
            raise Transient("the rotation under way has to end first", entry=row.name, phase=self._stored.phase)
        self._begin(self._stored, order)

    # The steps

    def _drive(self) -> None:
        """Take one step after the other, as far as it gets now."""
        steps: Mapping[SecretPhase, Callable[[SecretRotation], bool]] = {
            SecretPhase.INTENDED: self._stage,
            SecretPhase.STAGED: self._install,
            SecretPhase.INSTALLED: self._test,
            SecretPhase.TESTED: self._publish,
            SecretPhase.GRACE: self._follow_up,
            SecretPhase.RESTORING: self._restore,
            SecretPhase.REVOKING: self._revoke,
            SecretPhase.ABANDONING: self._abandon,
        }
        try:
            while (step := steps.get(self._stored.phase)) is not None:
                self._ensure_claimed()
                if not step(self._stored):
                    return
        except Waiting as task:
            self._wait_for_person(str(task))

    def _begin(self, row: SecretRotation, order: SecretOrder) -> None:
        """STEADY: choose the place, record the intent."""
        place = self._rotator.place(self._credential(row.current, row.slot), row.generation + 1)
        row = begun(row, order, place.slot, place.before, self._clock())
        self._audit.record(_event(row, SecretAction.ROTATE, Outcome.INTENT))
        self._store(row)

    def _stage(self, row: SecretRotation) -> bool:
        """INTENDED: obtain the credential and set it aside."""
        self._newest_in_use(row)
        aside = self._versions.aside(row.generation)
        if aside is not None and row.slot and aside.tags.get(SLOT_TAG) == row.slot:
            self._versions.clear_aside(row.generation)  # of a row that was lost: by now that place is the one in use
            aside = None
        if aside is None:
            try:
                change = self._change(row)
                self._ensure_claimed()
                new = self._rotator.obtain(change)
                self._ensure_claimed()
                aside = self._versions.set_aside(row.generation, new)
            except Rejected as error:
                return self._refused(error)
        slot = aside.tags.get(SLOT_TAG) or row.pending_slot
        self._advance(row, SecretPhase.STAGED, pending=aside.version, pending_slot=slot)
        return True

    def _install(self, row: SecretRotation) -> bool:
        """STAGED: have the target accept it."""
        self._newest_in_use(row)
        try:
            change, pending = self._change(row), self._pending(row)
            self._ensure_claimed()
            accepted = self._rotator.install(change, pending)
        except Rejected as error:
            return self._refused(error)
        if not accepted:
            self._advance(row, SecretPhase.INTENDED, pending="")
            self._versions.clear_aside(row.generation)  # dies before: it is installed again, and void again
            raise Transient("the new credential is void, and another one has to be made", entry=row.name)
        self._advance(row, SecretPhase.INSTALLED)
        return True

    def _test(self, row: SecretRotation) -> bool:
        """INSTALLED: try it."""
        try:
            self._ensure_accepted(row, self._pending(row))
        except Rejected as error:
            return self._refused(error)
        self._advance(row, SecretPhase.TESTED)
        return True

    def _ensure_accepted(self, row: SecretRotation, new: Credential) -> None:
        """Rejected unless the target accepts the new credential; Transient as long as it may still come to."""
        if self._rotator.test(new):
            return
        if self._clock() - row.phase_since < SETTLING:
            raise Transient("the target does not accept the new credential yet", entry=row.name)
        raise Rejected("the target does not accept the new credential")

    def _publish(self, row: SecretRotation) -> bool:
        """TESTED: give it to consumers."""
        new = self._versions.published(row.generation)
        if new is None:
            self._newest_in_use(row)
            try:
                pending = self._pending(row)
                self._ensure_accepted(row, pending)  # the last test may be long ago
            except Rejected as error:
                return self._refused(error)
            self._ensure_claimed()
            now = self._clock()
            until = now if row.compromised else now + self._policy.entry.grace
            new = self._versions.publish(row.generation, pending, row.current, until)
        self._store(published(row, self._policy, new.version, self._clock()))
        return True

    def _follow_up(self, row: SecretRotation) -> bool:
        """GRACE: record the outcome, tell consumers; then wait until it is over."""
        if not row.announced:
            self._audit.record(_event(row, *_what_happened(row)))
            self._ensure_claimed()
            if row.previous:
                self._versions.mark_previous(row.previous, row.current)
            self._versions.clear_aside(row.generation)
            self._rotator.announce(self._notice(row))
            self._end_task(row)
            self._resolve(row, "failed", "stalled", "broken", "disabled")
            row = self._store(replace(row, announced=True, task=""))
        if not row.previous:
            return self._end(row, row.verdict or "first credential")
        if not is_grace_over(row, self._clock()):
            return False
        # As long as the one in use does not work, or the one before cannot be read to be revoked, there is a way back.
        self._ensure_works(row, self._in_use(row))
        self._versions.value(row.previous)
        if self._versions.are_same(row.previous, row.current):
            self._versions.mark_revoked(row.previous, row.current)
            return self._end(row, row.verdict or "rotated")  # it was found in the vault: nothing is to be revoked
        self._audit.record(_event(row, _REVOKE, Outcome.INTENT))
        self._store(moved(row, SecretPhase.REVOKING, self._clock()))
        return True

    def _revoke(self, row: SecretRotation) -> bool:
        """REVOKING: revoke the credential before, and prove that it fails and that the one in use does not."""
        newest = self._newest_in_use(row)
        if newest is not None and newest.version != row.current:
            row = self._store(replace(row, current=newest.version))
        if not self._versions.is_revoked(row.previous):
            self._revoke_credential(row, self._credential(row.previous, row.previous_slot), self._in_use(row))
            row = self._store(row)  # renewed: a target may take its time, and what is marked is disabled
            self._versions.mark_revoked(row.previous, row.current)
        self._end_task(row)
        self._resolve(row, "broken")
        self._audit.record(_event(row, _REVOKE, Outcome.SUCCEEDED))
        return self._end(row, row.verdict or "rotated")

    def _revoke_credential(self, row: SecretRotation, old: Credential | None, current: Credential) -> None:
        if old is None:
            raise Integrity("a secret has no credential before the one in use", entry=row.name)
        if fingerprint(old.value) == fingerprint(current.value):
            raise Integrity("the credential before is the one in use, and must not be revoked", entry=row.name)
        self._ensure_works(row, current)
        self._ensure_claimed()
        self._versions.end_dual_running()  # earlier than the tags say, where it was cut short
        self._ensure_claimed()
        try:
            self._rotator.revoke(old, current)
        except Waiting:
            if not row.confirmed:
                raise
        if self._rotator.test(old):
            raise Transient("the target still accepts the revoked credential", entry=row.name)
        self._ensure_works(row, current)

    def _ensure_works(self, row: SecretRotation, current: Credential) -> None:
        """Transient, and somebody is told, unless the credential in use works: without it the one before is needed."""
        if not self._rotator.test(current):
            self._tell(
                self._alert(
                    "broken",
                    Severity.CRITICAL,
                    "the credential in use does not work: the one before is kept",
                    {"generation": str(row.generation)},
                )
            )
            raise Transient("the credential in use does not work, so the one before is kept", entry=row.name)

    def _abandon(self, row: SecretRotation) -> bool:
        """ABANDONING: undo what was begun."""
        self._newest_in_use(row)
        change = self._change(row)
        self._ensure_claimed()
        self._rotator.abandon(change)
        self._versions.clear_aside(row.generation)
        self._end_task(row)
        self._audit.record(_event(row, SecretAction.ROTATE, Outcome.FAILED))
        if row.rolled_back:
            self._audit.record(_event(row, SecretAction.ROLLBACK, Outcome.SUCCEEDED))
        return self._end(row, row.verdict)

    def _end(self, row: SecretRotation, verdict: str) -> bool:
        """Nothing is under way any more; whoever says now that it stands still looks at the row afterwards."""
        self._store(ended(row, self._clock(), verdict))
        self._resolve(row, "stalled", "disabled")
        return False

    def _undo(self, row: SecretRotation, order: SecretOrder) -> None:
        """Give up by that order what was begun; the order ends with it also where it is being given up already."""
        self._audit.record(_ordered(row, order, Outcome.INTENT))
        if row.phase is SecretPhase.ABANDONING:
            self._store(replace(row, rolled_back=True, **undone_by(order)))  # type: ignore[arg-type] # by name
        else:
            self._give_up("rolled back", rolled_back=True, **undone_by(order))

    def _roll_back(self, order: SecretOrder) -> None:
        """Record the intent to give consumers the credential before again."""
        if self._stored.phase is SecretPhase.TESTED:
            self._publish(self._stored)
        row = self._stored
        if row.phase is SecretPhase.ABANDONING:  # the target does not accept the new one any more
            self._undo(row, order)
            return
        if not row.previous:
            raise Rejected("there is nothing to go back to", entry=row.name, phase=row.phase)
        try:
            self._ensure_way_back(row)
        except Disabled:
            raise  # it is waited for
        except (Rejected, Integrity):
            if self._is_intended(row, order):
                self._audit.record(_ordered(row, order, Outcome.FAILED))
            raise
        self._audit.record(_event(row, SecretAction.ROTATE, Outcome.SUCCEEDED))
        self._audit.record(_ordered(row, order, Outcome.INTENT))
        self._advance(row, SecretPhase.RESTORING, **undone_by(order))

    def _ensure_way_back(self, row: SecretRotation) -> None:
        """Rejected or Integrity unless consumers may be given the credential before again."""
        self._ensure_in_use(row)
        try:
            old = Credential(row.previous_slot, self._versions.value(row.previous))
        except Disabled as error:
            raise Rejected("somebody has disabled the credential to go back to", **error.fields) from error
        if not self._rotator.test(old):
            raise Rejected("the credential to go back to does not work any more", entry=row.name)

    def _restore(self, row: SecretRotation) -> bool:
        """RESTORING: publish the credential before again."""
        again = self._versions.restored(row.generation)
        if again is None:
            self._ensure_in_use(row)
            old = Credential(row.previous_slot, self._versions.value(row.previous))
            self._ensure_claimed()
            until = self._clock() + self._policy.entry.grace
            again = self._versions.restore(row.generation, old, row.current, until)
        self._store(restored(row, self._policy, again.version, self._clock()))
        return True

    # What goes wrong

    def _refused(self, error: Rejected) -> bool:
        """The target will not: undo it, and tell."""
        if isinstance(error, MissingPackage | Disabled):
            raise error
        row = self._stored
        log.error("a secret could not be rotated", extra={"entry": row.name, "because": str(error)})
        self._tell(
            self._alert(
                "failed",
                Severity.CRITICAL if row.compromised else Severity.WARNING,
                "a secret could not be rotated: the one in use works on",
                {"reason": str(error), "generation": str(row.generation)},
            )
        )
        self._give_up(str(error))
        return True

    def _give_up(self, verdict: str, **changes: object) -> None:
        self._advance(self._stored, SecretPhase.ABANDONING, verdict=verdict[:_LONGEST_TASK], **changes)

    def _wait_for_person(self, task: str) -> None:
        self._tell_task(task)
        row = self._stored
        if row.task != task[:_LONGEST_TASK]:
            self._store(replace(row, task=task[:_LONGEST_TASK]))

    def _tell(self, alert: Alert) -> None:
        """Conflict if the row has changed: whoever stood still for long knows nothing that is true now."""
        self._store(self._stored)
        self._alerts.raise_alert(alert)

    def _tell_task(self, task: str) -> None:
        row = self._stored
        details = {"task": task[:_LONGEST_TASK], "phase": row.phase.value}
        if known := task_of(replace(row, task=task), self._policy.parameters):
            details |= {"task": text(known), "deadline": known.deadline.isoformat(timespec="seconds")}
        severity = Severity.CRITICAL if row.compromised else Severity.WARNING
        self._tell(self._alert("task", severity, "a person has to rotate a secret", details))

    def _tell_disabled(self, error: Disabled, *, is_urgent: bool) -> None:
        row = self._stored
        details = {"version": str(error.fields["version"]), "phase": row.phase.value}
        severity = Severity.CRITICAL if is_urgent or row.compromised else Severity.WARNING
        self._tell(
            self._alert(
                "disabled",
                severity,
                "the rotation of a secret needs a version that somebody has disabled",
                details,
            )
        )

    def _end_task(self, row: SecretRotation) -> None:
        """Nobody has to do anything any more."""
        self._resolve(row, "task")
        task = task_of(row, self._policy.parameters)
        for told in ids(task) if task else ():
            self._alerts.resolve(told)

    def _resolve(self, row: SecretRotation, *causes: str) -> None:
        for cause in causes:
            self._alerts.resolve(alert_id(row.name, cause))

    def _alert(self, cause: str, severity: Severity, what: str, details: Mapping[str, str]) -> Alert:
        name = self._policy.name
        return Alert(alert_id(name, cause), severity, what, f"secret/{name}", self._clock(), details)

    # What rotators are told

    def _credential(self, version: str, slot: str) -> Credential | None:
        return Credential(slot, self._versions.value(version)) if version else None

    def _in_use(self, row: SecretRotation) -> Credential:
        current = self._credential(row.current, row.slot)
        if current is None:
            raise Integrity("a secret has no credential in use", entry=row.name)
        return current

    def _pending(self, row: SecretRotation) -> Credential:
        return Credential(row.pending_slot, self._versions.value_aside(row.pending))

    def _change(self, row: SecretRotation) -> Change:
        current = self._credential(row.current, row.slot)
        return Change(row.name, row.generation, Place(row.pending_slot, row.before), current)

    def _notice(self, row: SecretRotation) -> Notice:
        try:
            previous = self._credential(row.previous, row.previous_slot)
        except Disabled:  # nobody can read it, and nobody has to be told of it
            previous = None
        return Notice(row.name, row.generation, row.current, self._in_use(row), previous, row.grace_until)


_REVOKE: Final = "secret.revoke"
_ENDS: Final = {
    SecretAction.ROTATE: (Outcome.SUCCEEDED, Outcome.SUPERSEDED, Outcome.FAILED),
    SecretAction.ROLLBACK: (Outcome.SUCCEEDED,),
}
"""With what an order ends, after which it has no effect any more."""
_NUMBERED_ENDS: Final = (
    (SecretAction.ROTATE, Outcome.SUCCEEDED),
    (SecretAction.ROTATE, Outcome.FAILED),
    (SecretAction.ROLLBACK, Outcome.SUCCEEDED),
)
"""With what a rotation ends that has left nothing aside."""


def _event(row: SecretRotation, action: str, outcome: Outcome) -> AuditEvent:
    actor, trigger, reason = _behind(row, action)
    versions = {"previous_version": row.previous, "current_version": row.current}
    return AuditEvent(
        job=row.order if action == SecretAction.ROTATE else f"{action}/{row.name}/g{row.generation}",
        outcome=outcome,
        action=action,
        subject=f"secret/{row.name}",
        actor=actor,
        trigger=trigger,
        reason=reason,
        new_version=row.generation,
        details={name: value for name, value in versions.items() if value},
    )


def _behind(row: SecretRotation, action: str) -> tuple[str, str, str]:
    """Who has ordered that action, by which trigger, and why: the last one of those who may have."""
    if action == _REVOKE and row.confirmed_by:
        return row.confirmed_by, row.confirmed_trigger, row.confirmed_because
    if action != SecretAction.ROTATE and row.undone_by:
        return row.undone_by, row.undone_trigger, row.undone_because
    return row.actor, row.trigger, row.reason


def _confirmation(row: SecretRotation, order: SecretOrder) -> AuditEvent:
    """Who has confirmed that a credential was revoked, and why."""
    event = _event(replace(row, order=order.id, **_by(order)), SecretAction.ROTATE, Outcome.SUCCEEDED)
    return replace(event, action=order.action)


def _ordered(row: SecretRotation, order: SecretOrder, outcome: Outcome) -> AuditEvent:
    """What became of an order that may not be the one in the row."""
    is_rotation = order.action is SecretAction.ROTATE
    generation = row.generation if is_rotation or order.generation is None else order.generation
    asked = replace(row, order=order.id, generation=generation, **_by(order), **undone_by(order))  # type: ignore[arg-type] # by name
    return _event(asked, order.action, outcome)


def _by(order: SecretOrder) -> dict[str, Any]:
    """The columns that say who ordered what happens next, and why."""
    return {"actor": order.actor, "trigger": order.trigger.value, "reason": order.reason}


def _has_ended(audit: AuditTrail, row: SecretRotation, order: SecretOrder) -> bool:
    """Whether an earlier delivery of the order has come to its end, whatever has happened since."""
    return any(audit.knows(_ordered(row, order, each)) for each in _ENDS.get(order.action, ()))


def _what_happened(row: SecretRotation) -> tuple[str, Outcome]:
    """Of which action the publication is the outcome."""
    return (SecretAction.ROLLBACK if row.rolled_back else SecretAction.ROTATE), Outcome.SUCCEEDED


def alert_id(secret: str, cause: str) -> str:
    """Of the alert about a secret that has this cause."""
    return f"secret/{secret}/{cause}"
