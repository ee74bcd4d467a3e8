"""Walks the shards for a KEK rotation: one queue message handles one batch of one pass over one shard.

    1. read the run and the checkpoint              dies here: nothing has happened
    2. handle the tenants behind the checkpoint     dies here: they are looked at again, and found to be done
    3. put the checkpoint                           dies here: the message comes again and goes on from it
    4. send the continuation, if there is more      dies here: the message comes again and does the next batch

A message whose checkpoint somebody else has moved meanwhile ends without a continuation: theirs goes on. A tenant whose
rows cannot be right stops its shard at that tenant; nothing of it is touched.
"""

import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from rotation.audit import Outcome
from rotation.audit_job import AuditTrail
from rotation.budgeted_keks import BudgetedKeks
from rotation.catalog import SAMPLED_WHILE_SWEEPING, KekPolicy
from rotation.dek import ensure_sound
from rotation.kek import MAX_STALL, TASKS, Task, is_current
from rotation.manifest import add_tenant, frozen, tenant_root
from rotation.merkle import Tree
from rotation.message import REWRAP_BATCHES, Action, RewrapBatch
from rotation.quota import MAX_ROWS_PER_BATCH, Operation
from rotation.rewrap import dropped, is_readable, kept_wrap, outdated, rewrapped, wanted_kid, with_changed
from rotation.vault_budget import NotNow, VaultBudget
from rotation.wrapping import ensure_is
from shared.clock import Clock
from shared.errors import Conflict, Integrity, Transient
from shared.ports import MAX_ROWS_PER_TRANSACTION, Alerts, Deks, Keks, Queues, Shards, Vault
from shared.secret import Secret
from shared.values import (
    Alert,
    FrozenPage,
    FrozenTenant,
    KekRun,
    Keyring,
    Phase,
    Severity,
    ShardProgress,
    ShardState,
    TenantId,
    WrappedDek,
)

log = logging.getLogger(__name__)

_MAX_BATCH_S: Final = 60.0
"""Longest that one message is worked on: a small part of what the host allows."""
_AFTER_HICCUP: Final = timedelta(seconds=5)
"""When a batch goes on that kept what it had done before something failed."""
_TRIES: Final = 5
_END: Final = TenantId("~")  # sorts behind every tenant id


@dataclass(slots=True)
class _Batch:
    """What the handling of one message goes by."""

    run: KekRun
    policy: KekPolicy
    ends: float  # monotonic
    began: datetime  # when the run was last seen to be where it is
    checked: int  # DEKs of this pass over the shard that were opened at the vault as a sample


class ShardWalk:
    """Performs rewrap batches. Any number of workers, in any number of processes, may work on the same shard."""

    def __init__(
        self,
        deks: Deks,
        keks: Keks,
        shards: Shards,
        vault: Vault,
        budget: VaultBudget,
        audit: AuditTrail,
        queues: Queues,
        alerts: Alerts,
        policies: Mapping[str, KekPolicy],
        clock: Clock,
        monotonic: Callable[[], float] = time.monotonic,
        draw: random.Random | None = None,
        max_rows: int = MAX_ROWS_PER_BATCH,
    ) -> None:
        self._deks = deks
        self._keks = keks
        self._shards = shards
        self._kek_versions = BudgetedKeks(vault, budget, clock, monotonic)
        self._audit = audit
        self._queues = queues
        self._alerts = alerts
        self._policies = policies
        self._clock = clock
        self._monotonic = monotonic
        self._draw = draw or random.SystemRandom()
        self._max_rows = max_rows

    def perform(self, message: RewrapBatch) -> bool:
        """Handle one batch and pass the shard on; whether the shard has ended, so that the run may go on.

        A message of a run or pass that is over does nothing. Raises Transient, Conflict or UnusableKey to be called
        again later.
        """
        now = self._clock()  # before the run is read: a worker that stands still right behind that has stood still
        record = self._keks.read(message.kek)
        run = record.run if record else None
        if run is None or not is_current(run, message.generation, message.pass_number):
            log.info("batch is over", extra={"job": message.id})
            return False
        progress = self._shards.read(run.id, run.pass_number, message.shard)
        progress = progress or ShardProgress(run.id, run.pass_number, message.shard, now, now)
        if progress.state is ShardState.WORKING:
            ends = self._monotonic() + _MAX_BATCH_S
            batch = _Batch(run, self._policies[run.kek], ends, now, checked=progress.verified)
            moved, delay = self._batch(batch, progress)
            while not delay and self._may_go_on(batch, progress, moved):
                moved, delay = self._batch(batch, moved)
            try:
                self._shards.put(moved)
            except Conflict:
                log.info("another worker was faster", extra={"job": message.id})
                return False
            self._tell(run, progress, moved)
            if moved.state is ShardState.WORKING:
                again = RewrapBatch(run.kek, run.generation, run.pass_number, message.shard)
                self._queues.send(REWRAP_BATCHES, again.to_json(), delay)
                return False
        return True

    def _may_go_on(self, batch: _Batch, before: ShardProgress, now: ShardProgress) -> bool:
        """Whether another page certainly fits into this message: most shards end with a short one."""
        handled = now.rows + now.tenants - before.rows - before.tenants
        in_time = self._monotonic() <= batch.ends
        return now.state is ShardState.WORKING and in_time and 2 * handled <= self._max_rows

    def _batch(self, batch: _Batch, progress: ShardProgress) -> tuple[ShardProgress, timedelta]:
        """The checkpoint after one batch, and how long the next one is to wait."""
        task = TASKS[batch.run.phase]
        delay = timedelta()
        try:
            if task is Task.SWEEP:
                moved, delay = self._each(batch, progress)
            elif task is Task.FREEZE:
                moved = self._freeze(progress)
            else:
                moved, delay = self._verify(batch, progress, drops=task is Task.DROP)
        except _Stopped as stop:
            moved = self._stopped(batch.run, stop.progress, stop.error)
        return replace(moved, updated=self._clock()), delay

    def _each(self, batch: _Batch, progress: ShardProgress) -> tuple[ShardProgress, timedelta]:
        """Sweep the next page of tenants."""
        if batch.run.phase is not Phase.ROLLING_BACK:
            try:
                self._kek_versions.ensure_soon(batch.run.old_kid)
            except NotNow as later:
                return progress, later.delay
        page = self._deks.page(progress.shard, progress.after, self._max_rows)
        if not page:
            return replace(progress, state=ShardState.DONE), timedelta()
        begun = progress
        for keyring in page:
            try:
                moved = self._sweep(batch, keyring, progress)
            except NotNow as later:
                return progress, later.delay
            except (Transient, Conflict):
                if progress is begun:
                    raise
                return progress, _AFTER_HICCUP
            except Integrity as error:
                raise _Stopped(progress, error) from error
            progress = replace(
                moved, after=keyring.tenant.tenant, tenants=moved.tenants + 1, rows=moved.rows + len(keyring.deks)
            )
            if self._monotonic() > batch.ends:
                break
        return progress, timedelta()

    def _sweep(self, batch: _Batch, keyring: Keyring, progress: ShardProgress) -> ShardProgress:
        """Put a tenant's DEKs under the wanted version."""
        tenant = keyring.tenant.tenant
        opened: dict[bytes, Secret] = {}
        current = keyring
        found = changed = 0
        checked_before = batch.checked
        for _ in range(_TRIES):
            todo = outdated(current, batch.run)
            found = max(found, len(todo))
            chunk = todo[: MAX_ROWS_PER_TRANSACTION - 1]
            if chunk:
                checked = self._sample(batch, chunk)
                after = self._rewrapped(batch, current, chunk, checked, opened)
                try:
                    self._replace(batch, current, after)
                except Conflict:
                    log.info("tenant changed meanwhile, deciding again", extra={"tenant": tenant})
                    self._ensure_current(batch)
                    chunk = []
                changed += len(chunk)
            if len(chunk) == len(todo):
                return replace(
                    progress,
                    found=progress.found + found,
                    changed=progress.changed + changed,
                    verified=progress.verified + batch.checked - checked_before,
                )
            again = self._deks.read(tenant)
            if again is None:
                raise Integrity("a tenant has vanished", tenant=tenant)
            current = again
        raise Conflict("a tenant keeps changing", tenant=tenant)

    def _sample(self, batch: _Batch, deks: Sequence[WrappedDek]) -> frozenset[int]:
        """The versions whose new wrap is opened before it is stored: a random few, one of a shard at least."""
        drawn = {dek.version for dek in deks if self._draw.random() < SAMPLED_WHILE_SWEEPING}
        return frozenset(drawn if drawn or batch.checked else {deks[0].version})

    def _rewrapped(
        self,
        batch: _Batch,
        keyring: Keyring,
        todo: Sequence[WrappedDek],
        checked: frozenset[int],
        opened: dict[bytes, Secret],
    ) -> Keyring:
        """The keyring with these DEKs under the wanted version.

        Backward the kept wraps are swapped in without asking the vault, and the newer ones kept; forward nothing is
        taken on trust, because in the end the other wrap is dropped.
        """
        tenant = keyring.tenant.tenant
        wanted = wanted_kid(batch.run, keyring.tenant)
        is_back = wanted == batch.run.old_kid
        kept = {dek.version: wrap for dek in todo if is_back and (wrap := kept_wrap(dek, wanted))}
        to_wrap = [dek for dek in todo if dek.version not in kept]
        self._kek_versions.reserve(
            batch.policy.headroom,
            [
                *((dek.kid, Operation.UNWRAP) for dek in to_wrap if dek.wrapped not in opened),
                *((wanted, Operation.WRAP) for _ in to_wrap),
                *((wanted, Operation.UNWRAP) for dek in to_wrap if dek.version in checked),
            ],
        )
        new: list[WrappedDek] = []
        for dek in todo:
            wrap = kept.get(dek.version)
            if wrap is None:
                secret = opened.get(dek.wrapped) or self._kek_versions.opened(tenant, dek)
                ensure_is(secret, tenant, dek)  # rows can share the bytes of a wrap, and only one of them rightly
                opened[dek.wrapped] = secret
                wrap = self._kek_versions.wrapped(secret, wanted)
                if dek.version in checked:
                    self._kek_versions.opened(tenant, rewrapped(dek, wrap))
                    batch.checked += 1
            new.append(rewrapped(dek, wrap))
        return with_changed(keyring, new)

    def _drop(self, batch: _Batch, keyring: Keyring, progress: ShardProgress) -> ShardProgress:
        """Drop the kept previous wraps of a tenant that was just compared; not while one is under the old version."""
        current: Keyring | None = keyring
        for _ in range(_TRIES):
            if current is None:
                raise Integrity("a tenant has vanished", tenant=keyring.tenant.tenant)
            new = () if outdated(current, batch.run) else dropped(current)
            if not new:
                return progress
            try:
                self._replace(batch, current, with_changed(current, new))
                progress = replace(progress, changed=progress.changed + len(new))
            except Conflict:
                self._ensure_current(batch)
            current = self._deks.read(keyring.tenant.tenant)
        raise Conflict("a tenant keeps changing", tenant=keyring.tenant.tenant)

    def _replace(self, batch: _Batch, old: Keyring, new: Keyring) -> None:
        """Write, unless we stood still for so long that the run may be somewhere else by now."""
        if self._clock() - batch.began > MAX_STALL:
            raise Conflict("a worker stood still for too long", run=batch.run.id)
        self._deks.replace(old, new)

    def _ensure_current(self, batch: _Batch) -> None:
        """Conflict unless the run is where it was when the batch began: who lost one race may have lost others."""
        now = self._clock()
        record = self._keks.read(batch.run.kek)
        theirs, ours = record.run if record else None, batch.run
        if theirs is None or _place(theirs) != _place(ours):
            raise Conflict("the run has moved on", run=ours.id)
        batch.began = now

    def _freeze(self, progress: ShardProgress) -> ShardProgress:
        """Put the next tenants into the manifest. A page that is there already counts as it is: it is written once."""
        page = self._shards.read_page(progress.run, progress.shard, progress.page)
        if page is None:
            keyrings = self._deks.page(progress.shard, progress.after, self._max_rows)
            if not keyrings:
                return replace(progress, state=ShardState.DONE)
            for keyring in keyrings:
                self._ensure_sound(keyring, progress)
            tenants = tuple(frozen(keyring) for keyring in keyrings if is_readable(keyring.tenant))
            census = Counter(dek.kid for keyring in keyrings if is_readable(keyring.tenant) for dek in keyring.deks)
            page = FrozenPage(progress.run, progress.shard, progress.page, keyrings[-1].tenant.tenant, tenants, census)
            try:
                self._shards.add_page(page)
            except Conflict:
                again = self._shards.read_page(progress.run, progress.shard, progress.page)
                if again is None:
                    raise
                page = again
        tree = Tree.from_text(progress.tree)
        for tenant in page.tenants:
            add_tenant(tree, tenant)
        return replace(
            progress,
            after=page.upto,
            page=progress.page + 1,
            tree=tree.to_text(),
            tenants=progress.tenants + len(page.tenants),
            rows=progress.rows + sum(page.by_kid.values()),
            by_kid=Counter(progress.by_kid) + Counter(page.by_kid),
        )

    def _verify(self, batch: _Batch, progress: ShardProgress, *, drops: bool) -> tuple[ShardProgress, timedelta]:
        """Compare the next tenants with the manifest, open a sample of their DEKs at the vault."""
        page = self._shards.read_page(progress.run, progress.shard, progress.page)
        keyrings = self._deks.page(progress.shard, progress.after, self._max_rows)
        if page is None and not keyrings:
            return replace(progress, state=ShardState.DONE), timedelta()
        # Both are in the order of the ids: what is in reach of both can be compared.
        reach = min((page.upto if page else _END), (keyrings[-1].tenant.tenant if keyrings else _END))
        live = {keyring.tenant.tenant: keyring for keyring in keyrings if keyring.tenant.tenant <= reach}
        begun, before = progress, progress.after or ""
        manifest = {each.tenant: each for each in (page.tenants if page else ()) if before < each.tenant <= reach}
        for name in sorted(live.keys() | manifest.keys()):
            try:
                progress = self._compared(batch, live.get(name), manifest.get(name), progress)
                if drops and is_readable(live[name].tenant):
                    progress = self._drop(batch, live[name], progress)
            except NotNow as later:
                return progress, later.delay
            except (Transient, Conflict):
                if progress is begun:
                    raise
                return progress, _AFTER_HICCUP
            except Integrity as error:
                raise _Stopped(progress, error) from error
            if self._monotonic() > batch.ends:
                return progress, timedelta()
        is_through = page is not None and reach >= page.upto
        return replace(progress, after=reach, page=progress.page + is_through), timedelta()

    def _compared(
        self, batch: _Batch, live: Keyring | None, manifest: FrozenTenant | None, progress: ShardProgress
    ) -> ShardProgress:
        """The checkpoint behind a tenant. Integrity where the difference to the manifest is not accounted for."""
        name = live.tenant.tenant if live else manifest.tenant if manifest else TenantId("")
        if live is None:
            raise Integrity("a tenant of the manifest has vanished", tenant=name)
        tree = Tree.from_text(progress.tree)
        found = births = removed = verified = 0
        if not is_readable(live.tenant):
            if manifest is not None:
                self._account(live.tenant.destroyed_by, name, None)
                removed = manifest.primary
        else:
            ensure_sound(live)
            found = len(outdated(live, batch.run))
            known = manifest.primary if manifest else 0
            if manifest and (live.tenant.primary < known or tenant_root(name, live.deks[:known]) != manifest.root):
                raise Integrity("a tenant's DEKs are not those of the manifest", tenant=name)
            if not found and not batch.run.dropping and not _all_rewrapped(live.deks[:known], batch.run):
                # Frozen under the old version and now under the new one, yet this run has not rewrapped it.
                raise Integrity("a DEK claims a KEK version that it was not rewrapped to", tenant=name)
            for dek in live.deks[known:]:
                self._account(dek.job, name, dek)
            births = len(live.deks) - known
            sample = [dek for dek in live.deks if self._draw.random() < batch.policy.scrub]
            if not sample and not batch.checked:
                sample = list(live.deks[:1])
            self._kek_versions.reserve(batch.policy.headroom, [(dek.kid, Operation.UNWRAP) for dek in sample])
            batch.checked += len(sample)
            for dek in sample:
                self._kek_versions.opened(name, dek)
            verified = len(sample)
        if manifest is not None:
            add_tenant(tree, manifest)
        return replace(
            progress,
            after=name,
            tenants=progress.tenants + 1,
            rows=progress.rows + len(live.deks),
            found=progress.found + found,
            births=progress.births + births,
            removed=progress.removed + removed,
            verified=progress.verified + verified,
            tree=tree.to_text(),
        )

    def _account(self, job: str, tenant: TenantId, dek: WrappedDek | None) -> None:
        """Integrity unless the audit trail knows who made this DEK, and which it was; or who removed the tenant's."""
        subject = f"dek/{tenant}"
        if dek is None:
            removal = self._audit.find(job, Outcome.INTENT, subject)
            if removal is None or removal.action != Action.DESTROY_TENANT:
                raise Integrity(
                    "a tenant's DEKs are gone and the audit trail does not know why", tenant=tenant, job=job
                )
            return
        done = self._audit.find(job, Outcome.SUCCEEDED, subject)
        record = done or self._audit.find(job, Outcome.INTENT, subject)
        is_birth = record is not None and record.action == Action.ROTATE_DEK
        if done is not None:
            is_birth &= done.details.get("check_value") == dek.check_value.hex()
        else:
            is_birth &= self._audit.find(job, Outcome.FAILED, subject) is None
        if not is_birth:
            raise Integrity(
                "a DEK was born that the audit trail does not know", tenant=tenant, version=dek.version, job=job
            )

    def _ensure_sound(self, keyring: Keyring, progress: ShardProgress) -> None:
        try:
            ensure_sound(keyring)
        except Integrity as error:
            raise _Stopped(progress, error) from error

    def _stopped(self, run: KekRun, progress: ShardProgress, error: Integrity) -> ShardProgress:
        """Raise the alert before the checkpoint says so: dying in between raises it again, silently."""
        self._alerts.raise_alert(
            Alert(
                id=f"{run.id}/{run.pass_number}/{progress.shard}",
                severity=Severity.CRITICAL,
                what="a KEK rotation has stopped a shard at a tenant whose rows cannot be right and are left alone",
                subject=f"kek/{run.kek}",
                raised=self._clock(),
                details={"run": run.id, "shard": str(progress.shard), "reason": str(error)},
            )
        )
        return replace(progress, state=ShardState.STOPPED, problem=str(error))

    def _tell(self, run: KekRun, before: ShardProgress, after: ShardProgress) -> None:
        """One record per batch: people read it, the dashboards count it."""
        log.info(
            "rewrap batch",
            extra={
                "run": run.id,
                "phase": run.phase,
                "shard": after.shard,
                "state": after.state,
                "tenants": after.tenants - before.tenants,
                "rows": after.rows - before.rows,
                "found": after.found - before.found,
                "changed": after.changed - before.changed,
                "verified": after.verified - before.verified,
                "shard_rows": after.rows,
            },
        )


class _Stopped(Exception):
    """The walk cannot go on behind this checkpoint."""

    def __init__(self, progress: ShardProgress, error: Integrity) -> None:
        super().__init__(str(error))
        self.progress = progress
        self.error = error


def _place(run: KekRun) -> tuple[int, int, int]:
    return run.generation, run.step, run.pass_number


def _all_rewrapped(deks: Iterable[WrappedDek], run: KekRun) -> bool:
    return all(dek.previous is not None and dek.previous.kid == run.old_kid for dek in deks)
