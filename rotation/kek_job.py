"""Carries the rotation of KEKs through its phases, and does what operators order.

A move from one phase to the next is made in five steps, each found done or not done by whoever comes next:

    1. store the move in the run                  dies here: the next one goes on with it, whatever it came for
    2. record the intent                          dies here: recording it again changes nothing
    3. have the effect at the vault, if any       dies here: having it again changes nothing
    4. store the new phase and the write target   dies here: the next one finds it applied
       (one transaction)
    5. record the outcome, clear the move         dies here: recording it again changes nothing

No other move begins before that, so that every intent gets its outcome and an order never meets half a move.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from itertools import product
from typing import Final

from rotation.audit import AuditEvent, Outcome
from rotation.audit_job import AuditTrail
from rotation.catalog import KekPolicy
from rotation.kek import (
    DISABLED,
    FINAL,
    SETTLE,
    TASKS,
    Advance,
    FanOut,
    NextPass,
    Resend,
    Wait,
    advance,
    applied,
    complaints,
    decide,
    due_order,
    is_over,
    is_stuck,
    laggards,
    move_for,
    next_pass,
    question,
    refused,
    started,
    wants_enabled,
)
from rotation.message import KEK_ORDERS, REWRAP_BATCHES, KekAction, KekOrder, RewrapBatch, Trigger
from rotation.primary_kek import adopted
from rotation.quota import ensure_feasible, vault_of
from rotation.rewrap import is_readable, rewrapped
from rotation.wrapping import Entropy, WriteTarget, ensure_is, ensure_may_wrap, new_dek, wrapped
from shared.clock import Clock
from shared.errors import AtpError, Conflict, Integrity, Rejected, Transient, UnusableKey
from shared.ports import Alerts, Deks, Keks, KekUses, Queues, Shards, Vault
from shared.secret import Secret
from shared.values import (
    SHARDS,
    Alert,
    KekRecord,
    KekRun,
    KekVersion,
    Kid,
    Move,
    Phase,
    Severity,
    ShardProgress,
    TenantId,
    WrappedDek,
)

log = logging.getLogger(__name__)

_STEPS: Final = 60
"""Most that one call does before it leaves the rest to the next: far more than a run ever has to do at once."""
_WITH_CONSUMERS: Final = frozenset({Phase.GRACE, Phase.SOAKING, Phase.CLOSING})
_NO_PROGRESS: Final = timedelta(hours=2)
"""Silence of shards that a person is told of."""
_CANARY: Final = TenantId("canary")
_CANARIES: Final = 3
"""Tenants whose DEKs prove a new version before anything depends on it."""


class KekJobs:
    """Performs orders and drives runs. Any number of workers may do so at once."""

    def __init__(
        self,
        deks: Deks,
        keks: Keks,
        shards: Shards,
        vault: Vault,
        uses: KekUses,
        audit: AuditTrail,
        queues: Queues,
        alerts: Alerts,
        policies: Mapping[str, KekPolicy],
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._deks = deks
        self._keks = keks
        self._shards = shards
        self._vault = vault
        self._uses = uses
        self._audit = audit
        self._queues = queues
        self._alerts = alerts
        self._policies = policies
        self._clock = clock
        self._entropy = entropy

    def plan(self, name: str) -> None:
        """Order a rotation if the calendar, or a new version in the vault, calls for one."""
        pointer = self._keks.pointer(name) or adopted(name, self._keks, self._vault, self._clock)
        newest = self._vault.newest(name, vault_of(pointer.kid))
        order = due_order(self._keks.read(name), newest, self._keks.history(name), self._policies[name], self._clock())
        if order is not None:
            self._queues.send(KEK_ORDERS, order.to_json())
            log.info("KEK rotation ordered", extra={"order": order.id, "because": order.reason})

    def plan_all(self) -> None:
        """Do so for every KEK of the catalog; the first error is raised when all were planned."""
        self._for_all(self.plan)

    def drive_all(self) -> None:
        """Bring every run as far as it gets now; the first error is raised when all had their turn."""
        self._for_all(self._reconcile, self.drive)

    def _reconcile(self, name: str) -> None:
        """Mend and tell of what others did to old versions while the run went another way, or after it was over.

        A worker that was to enable or disable one may have stood still in that very call, and so may a person.
        """
        record = self._keks.read(name)
        run = record.run if record else None
        if run is None:
            return
        if wants_enabled(run) and not self._vault.version(run.old_kid).enabled:
            self._alert(run, "a KEK version that is needed was disabled and is enabled again", run.old_kid, "late")
            self._vault.set_enabled(run.old_kid, enabled=True)
        if run.phase is Phase.CLOSED and self._clock() >= run.phase_since + SETTLE and self._is_enabled(run.old_kid):
            self._alert(run, "a KEK version that is retired is enabled", run.old_kid, "enabled")
        for closed, use in complaints(self._keks.history(name), self._uses.all()):
            self._alert(closed, "a KEK version that is retired is missed", use.consumer, f"missed/{use.consumer}")

    def _is_enabled(self, kid: Kid) -> bool:
        """Whether a version can be used; one that is gone cannot."""
        try:
            return self._vault.version(kid).enabled
        except Rejected:
            return False

    def perform(self, order: KekOrder) -> None:
        """Do what is ordered; returns when it is durable, whoever did it. The run goes on with later messages.

        Raises Transient or Conflict to be called again later, Rejected where it must not be done.
        """
        if order.kek not in self._policies:
            raise Rejected("the catalog has no KEK of that name", kek=order.kek)
        self._advance(order.kek, only_finish=True)
        if self._end(order) is None:
            if order.action is KekAction.ROTATE:
                self._start(order)
            else:
                self._change(order)
        self.drive(order.kek)

    def settle(self, order: KekOrder) -> Outcome:
        """Record how an order that was given up stands in truth. Transient while its move is being made."""
        if order.kek in self._policies:
            # A move that cannot be made, of whomever, does not keep this order from being told of.
            with suppress(Rejected, Integrity):
                self._advance(order.kek, only_finish=True)
            if (end := self._end(order)) is not None:
                return end
        self._audit.record(_ordered(order, Outcome.FAILED))
        return Outcome.FAILED

    def drive(self, name: str) -> None:
        """Bring the run of a KEK as far as it gets now."""
        self._advance(name)

    def _advance(self, name: str, *, only_finish: bool = False) -> None:
        """The same, or only to the end of the move that is being made."""
        for _ in range(_STEPS):
            record = self._keks.read(name)
            if record is None or record.run is None or is_over(record.run):
                return
            if only_finish and record.run.move is None:
                return
            try:
                if not self._step(record, record.run):
                    return
            except Conflict:
                log.info("the run changed meanwhile, deciding again", extra={"run": record.run.id})
        raise Conflict("a KEK rotation keeps changing", kek=name)

    def _for_all(self, *acts: Callable[[str], None]) -> None:
        errors: list[Exception] = []
        for name, act in product(self._policies, acts):
            try:
                act(name)
            except Exception as error:  # noqa: BLE001 - whatever it is, the next KEK has its turn, and a rule counts the record
                because = str(error) if isinstance(error, AtpError) else type(error).__name__
                log.warning("KEK not served", extra={"kek": name, "because": because})
                errors.append(error)
        if errors:
            raise errors[0]

    def _start(self, order: KekOrder) -> None:
        is_asked = order.trigger is Trigger.MANUAL
        pointer = self._keks.pointer(order.kek) or adopted(order.kek, self._keks, self._vault, self._clock)
        if not is_asked and order.request != f"g{pointer.generation + 1}":
            log.info("order is over", extra={"order": order.id})
            return
        if any(run.request == order.id for run in self._keks.history(order.kek)):
            return
        if order.kid is not None:
            self._ensure_usable(order.kek, order.kid)
        record = self._keks.read(order.kek)
        if record is None:
            raise Transient("the pointer of a KEK has vanished", kek=order.kek)
        self._keks.replace(record, started(record, order, self._clock()))
        log.info("KEK rotation begun", extra={"order": order.id})

    def _ensure_usable(self, name: str, kid: Kid) -> None:
        """Rejected at once if the version must not wrap: the order must not come true when nobody expects it."""
        try:
            ensure_may_wrap(self._named(name, kid), self._clock())
        except UnusableKey as error:
            raise Rejected(error.message, kid=kid) from error

    def _named(self, name: str, kid: Kid) -> KekVersion:
        """A version that somebody named, of that key."""
        if f"/keys/{name}/" not in kid:
            raise Rejected("the version is one of another key", kid=kid, kek=name)
        try:
            return self._vault.version(kid)
        except Integrity as error:
            raise Rejected(error.message, kid=kid) from error

    def _change(self, order: KekOrder) -> None:
        record = self._keks.read(order.kek)
        if record is None or record.run is None:
            raise Rejected("this KEK has never been rotated", kek=order.kek)
        run = record.run
        if order.generation not in (None, run.generation):
            raise Rejected("the order was meant for another rotation", run=run.id, generation=order.generation)
        if run.move is not None:
            raise Conflict("another move is being made", run=run.id)
        if run.phase in FINAL and not (order.action is KekAction.ROLLBACK and run.phase is Phase.ROLLED_BACK):
            raise Rejected("the rotation is over", run=run.id, phase=run.phase.value)
        if order.tenant is not None and self._deks.read(order.tenant) is None:
            raise Rejected("no such tenant", tenant=order.tenant)
        progress = self._progress(run)
        decision = decide(run, progress, (), self._policies[run.kek], self._clock())
        move = move_for(run, order, stuck=is_stuck(progress, decision))
        if move is None:
            log.info("it is so already", extra={"order": order.id})
            self._audit.record(_ordered(order, Outcome.SUPERSEDED))
            return
        if order.action is KekAction.ROLLBACK and move.to is not Phase.ROLLED_BACK:
            ensure_may_wrap(self._vault.version(run.old_kid), self._clock())
        self._keks.replace(record, replace(record, run=replace(run, move=move)))

    def _step(self, record: KekRecord, run: KekRun) -> bool:
        """One step of the run; whether there may be another one now."""
        if run.move is None:
            return self._decide(record, run)
        if not run.move.applied:
            self._apply(record, run, run.move)
        else:
            self._conclude(record, run, run.move)
        return True

    def _decide(self, record: KekRecord, run: KekRun) -> bool:
        progress = self._progress(run)
        uses = self._uses.all() if run.phase in _WITH_CONSUMERS else ()
        old_enabled = run.phase in DISABLED and self._is_enabled(run.old_kid)
        decision = decide(run, progress, uses, self._policies[run.kek], self._clock(), old_enabled=old_enabled)
        if isinstance(decision, Wait):
            if decision.alarm:
                self._alert(run, "a KEK rotation cannot go on", decision.why, f"{run.pass_number}")
            return False
        new = run
        send: Sequence[int] = ()
        match decision:
            case FanOut():
                new, send = replace(run, resent=self._clock()), range(SHARDS)
            case Resend():
                new, send = replace(run, resent=self._clock()), decision.shards
                if self._clock() - run.phase_since > _NO_PROGRESS:
                    self._alert(run, "a KEK rotation makes no progress", f"{len(send)} shards are silent", "silent")
            case NextPass():
                new = next_pass(run, decision.clean_passes, self._clock())
            case Advance():
                if decision.to is Phase.RETIRING and (behind := laggards(run, uses)):
                    names = ", ".join(use.consumer for use in behind)
                    self._alert(run, "a KEK version is disabled that consumers may still use", names, "laggards")
                if run.phase in DISABLED and decision.to is Phase.SWEEPING:
                    self._alert(run, "a disabled KEK version is missed and enabled again", decision.why, f"{run.step}")
                has_retired = run.has_retired or decision.to is Phase.SOAKING
                new = replace(run, move=advance(run, decision), has_retired=has_retired)
        self._keks.replace(record, replace(record, run=new))
        if send:
            # Behind the claim, so that of all who saw the pass begin one sends. Dying here, another soon begins again.
            self._send(run, send)
        if isinstance(decision, FanOut):
            self._note_fan_out(run)
        return True

    def _note_fan_out(self, run: KekRun) -> None:
        record = self._keks.read(run.kek)
        if record is not None and record.run is not None and record.run.step == run.step:
            now = record.run
            if now.pass_number == run.pass_number and not now.fanned_out:
                self._keks.replace(record, replace(record, run=replace(now, fanned_out=True, resent=None)))

    def _send(self, run: KekRun, shards: Sequence[int]) -> None:
        for shard in shards:
            batch = RewrapBatch(run.kek, run.generation, run.pass_number, shard)
            self._queues.send(REWRAP_BATCHES, batch.to_json())
        log.info("shards sent", extra={"run": run.id, "phase": run.phase, "shards": len(shards)})

    def _apply(self, record: KekRecord, run: KekRun, move: Move) -> None:
        self._audit.record(_event(run, move, Outcome.INTENT))
        progress = self._progress(run)
        try:
            new_kid = self._effect(run, move, progress)
        except (Rejected, Integrity) as error:
            if move.to not in (Phase.CANARY, Phase.FLIPPED):
                raise
            self._keks.replace(record, replace(record, run=refused(run, move, str(error), self._clock())))
            return
        self._keks.replace(record, applied(record, run, move, progress, new_kid, self._clock()))
        log.info("KEK rotation moved on", extra={"run": run.id, "phase": move.to, "because": move.reason})

    def _conclude(self, record: KekRecord, run: KekRun, move: Move) -> None:
        if move.failure or run.phase is Phase.FAILED:
            self._alert(run, "a KEK rotation was given up before anything was changed", run.verdict, "failed")
        self._audit.record(_event(run, move, Outcome.FAILED if move.failure else Outcome.SUCCEEDED))
        self._keks.replace(record, replace(record, run=replace(run, move=None)))

    def _effect(self, run: KekRun, move: Move, progress: Sequence[ShardProgress]) -> Kid | None:
        """What a move does at the vault. Answers with the new version where it leads to the canary."""
        is_planned = run.phase is Phase.PLANNED
        if move.to is Phase.CANARY and is_planned:
            return self._new_version(run, progress)
        if move.to is Phase.FLIPPED and run.phase is Phase.CANARY:
            self._prove(run)
        elif move.to is Phase.SOAKING:
            self._vault.set_enabled(run.old_kid, enabled=False)
        elif move.to is Phase.SWEEPING and run.phase in DISABLED:
            self._vault.set_enabled(run.old_kid, enabled=True)
        return None

    def _new_version(self, run: KekRun, progress: Sequence[ShardProgress]) -> Kid:
        """The version to rotate to, made if there is none. Rejected if the vaults cannot do it in time."""
        now = self._clock()
        old = self._vault.version(run.old_kid)
        given = self._named(run.kek, run.new_kid) if run.new_kid else None
        vault = vault_of(run.new_kid) if run.new_kid else run.vault or vault_of(run.old_kid)
        shape = given.shape if given else run.shape or old.shape
        rows = sum(each.rows for each in progress)
        ensure_feasible(question(run, rows, vault, old.shape, shape, self._policies[run.kek], now))
        new = given or self._vault.made_for(run.id, run.kek, vault, shape)
        ensure_may_wrap(new, now)
        return new.kid

    def _prove(self, run: KekRun) -> None:
        """The canary: the new version wraps and opens a key of our own, and DEKs of real tenants.

        Integrity if anything comes out different, UnusableKey if the version must not be used.
        """
        if run.new_kid is None:
            raise Integrity("a KEK rotation has no new version", run=run.id)
        new = self._vault.version(run.new_kid)
        target = WriteTarget(new)
        made_up = new_dek(_CANARY, 1, target, self._clock(), run.id, self._entropy, self._vault.wrap)
        ensure_is(self._opened(made_up), _CANARY, made_up)
        for tenant, dek in self._canaries():
            opened = self._opened(dek)
            ensure_is(opened, tenant, dek)
            ensure_is(self._opened(rewrapped(dek, wrapped(opened, new, self._vault.wrap))), tenant, dek)

    def _opened(self, dek: WrappedDek) -> Secret:
        return self._vault.unwrap(dek.kid, dek.algorithm, dek.wrapped)

    def _canaries(self) -> Sequence[tuple[TenantId, WrappedDek]]:
        found: list[tuple[TenantId, WrappedDek]] = []
        for shard in range(SHARDS):
            page = self._deks.page(shard, None, 1)
            found += [(each.tenant.tenant, each.deks[-1]) for each in page if each.deks and is_readable(each.tenant)]
            if len(found) >= _CANARIES:
                break
        return found

    def _progress(self, run: KekRun) -> Sequence[ShardProgress]:
        return self._shards.of_pass(run.id, run.pass_number) if run.phase in TASKS else ()

    def _end(self, order: KekOrder) -> Outcome | None:
        """How an order that is over has ended; None if it is not over, or was given up."""
        ends = (Outcome.SUCCEEDED, Outcome.SUPERSEDED)
        return next((end for end in ends if self._audit.find(order.id, end, f"kek/{order.kek}") is not None), None)

    def _alert(self, run: KekRun, what: str, reason: str, occasion: str) -> None:
        self._alerts.raise_alert(
            Alert(
                id=f"{run.id}/{run.phase}/{occasion}",
                severity=Severity.CRITICAL,
                what=what,
                subject=f"kek/{run.kek}",
                raised=self._clock(),
                details={"run": run.id, "phase": run.phase.value, "reason": reason},
            )
        )


def _ordered(order: KekOrder, outcome: Outcome) -> AuditEvent:
    """The end of an order that has moved nothing."""
    return AuditEvent(
        job=order.id,
        outcome=outcome,
        action=order.action,
        subject=f"kek/{order.kek}",
        actor=order.actor,
        trigger=order.trigger,
        reason=order.reason,
        details={"error": order.failure} if order.failure else {},
    )


def _event(run: KekRun, move: Move, outcome: Outcome) -> AuditEvent:
    details = {"run": run.id, "phases": f"{move.at} > {move.to}", "old_kid": str(run.old_kid)}
    if run.new_kid:
        details["new_kid"] = str(run.new_kid)
    if run.root_before:
        details |= {"rows": str(run.rows), "root_before": run.root_before}
    if run.root_after:
        details |= {"root_after": run.root_after, "births": str(run.births), "removed": str(run.removed)}
    if move.shard is not None:
        details["part"] = f"shard/{move.shard}"
    if move.tenant is not None:
        details["part"] = f"tenant/{move.tenant}"
    return AuditEvent(
        job=move.job,
        outcome=outcome,
        action=move.action,
        subject=f"kek/{run.kek}",
        actor=move.actor,
        trigger=move.trigger,
        reason=move.failure or move.reason,
        old_version=None,
        new_version=None,
        details=details,
    )
