"""Processes and the Functions host on top of the simulated world, and the invariants that must hold on it."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from rotation.audit import Outcome, verify_chain
from rotation.audit_job import AuditTrail
from rotation.calendar import Every
from rotation.catalog import Catalog, DekPolicy, Entry, EntryKind
from rotation.dek import ensure_sound
from rotation.dek_job import DekJobs
from rotation.expiry_job import ExpiryWatch, Overview
from rotation.kek import MOVES as KEK_MOVES
from rotation.kek_job import KekJobs
from rotation.lifecycle import MOVES
from rotation.message import KEK_ORDERS, POISON_SUFFIX, ROTATION_JOBS, Action, Job, KekAction, KekOrder, Trigger
from rotation.planner_job import Planner
from rotation.primary_kek import PrimaryKek
from rotation.rewrap_job import ShardWalk
from rotation.scan_job import VaultScan
from rotation.secret_job import SecretJobs
from rotation.secret_planner_job import SecretPlanner
from rotation.tenant_cipher import CachePolicy, TenantCipher
from rotation.vault_budget import VaultBudget
from rotation.worker import Worker
from rotation.wrapping import DEK_BYTES, check_value
from shared.errors import AtpError
from shared.secret import Secret
from shared.values import KekRun, Keyring, Kid, Phase, TenantId, TenantState
from tests.pure.keyrings import KEK_POLICY
from tests.simulator import (
    SIGNING_KEY,
    Killed,
    QueuedMessage,
    SimAlerts,
    SimBudgets,
    SimConsumers,
    SimDeadLetters,
    SimDeks,
    SimKeks,
    SimKekUses,
    SimQueues,
    SimRecords,
    SimSecretRotations,
    SimSecrets,
    SimShards,
    SimVault,
    SimVaultObjects,
    World,
)

POLICY = DekPolicy(
    name="tenant-dek",
    owner="security",
    kek="master-kek",
    interval=timedelta(days=90),
    spread=timedelta(days=10),
    grace=timedelta(days=7),
    retention=timedelta(days=30),
)
KEK_ENTRY = Entry(KEK_POLICY.name, EntryKind.KEK, KEK_POLICY.owner, Every(KEK_POLICY.interval), KEK_POLICY.name)
MAX_DELIVERIES = 5
MAX_ROWS = 7
"""Of a batch: few, so that small worlds have several."""


class Process:
    """One worker process: everything in it is forgotten when it dies."""

    def __init__(self, world: World) -> None:
        deks, queues, vault = SimDeks(world), SimQueues(world), SimVault(world)
        audit = AuditTrail(SimRecords(world), world.clock, sleep=lambda _: None)
        kek = PrimaryKek(POLICY.kek, SimKeks(world), vault, world.clock, world.monotonic)
        self.planner = Planner(deks, queues, POLICY, world.clock, page=3)
        self.jobs = DekJobs(deks, vault, kek, audit, POLICY, world.clock, world.entropy)
        policies = self.policies = {KEK_POLICY.name: KEK_POLICY}
        keks, shards, alerts = SimKeks(world), SimShards(world), SimAlerts(world)
        self.kek_jobs = KekJobs(
            deks, keks, shards, vault, SimKekUses(world), audit, queues, alerts, policies, world.clock, world.entropy
        )
        self.walk = ShardWalk(
            deks,
            keks,
            shards,
            vault,
            VaultBudget(SimBudgets(world), world.clock, world.sleep),
            audit,
            queues,
            alerts,
            policies,
            world.clock,
            world.monotonic,
            random.Random(1),
            MAX_ROWS,
        )
        secrets = {name: target.policy for name, target in world.targets.items()}
        rotations = SimSecretRotations(world)
        self.secret_jobs = SecretJobs(
            secrets,
            rotations,
            SimSecrets(world),
            lambda policy: world.targets[policy.name].rotator(world),
            audit,
            alerts,
            world.clock,
            world.entropy,
        )
        self.secret_planner = SecretPlanner(secrets, rotations, queues, alerts, world.clock, page=2)
        entries = {KEK_ENTRY.name: KEK_ENTRY} | world.entries | {name: each.entry for name, each in secrets.items()}
        catalog = Catalog(policies, POLICY, secrets, entries)
        objects = SimVaultObjects(world)
        overview = Overview(catalog, objects, keks, rotations, SIGNING_KEY)
        planner = self.secret_planner
        self.expiry = ExpiryWatch(catalog, overview, objects, self.kek_jobs, planner, audit, alerts, world.clock)
        self.scan = VaultScan(overview, objects, planner, audit, alerts, world.clock)
        self.worker = Worker(
            self.jobs,
            self.kek_jobs,
            self.walk,
            self.secret_jobs,
            self.planner,
            audit,
            queues,
            alerts,
            SimDeadLetters(world),
            world.clock,
        )

    def perform(self, message: QueuedMessage) -> None:
        """What function_app.py does with a message."""
        body = message.body.encode()
        if message.queue.endswith(POISON_SUFFIX):
            self.worker.bury(message.queue.removesuffix(POISON_SUFFIX), body, message.id)
        else:
            self.worker.handle(message.queue, body, message.id)


@dataclass(frozen=True, slots=True)
class Ciphertext:
    """Something a writer has stored."""

    tenant: TenantId
    envelope: bytes
    plaintext: bytes
    context: bytes


@dataclass
class Platform:
    """The Functions host, the timers, the operators, the ATP services: everything that acts on the world."""

    world: World = field(default_factory=World)
    process: Process = field(init=False)
    written: list[Ciphertext] = field(default_factory=list)
    delivered: list[QueuedMessage] = field(default_factory=list)
    dropped: int = 0

    def __post_init__(self) -> None:
        self.world.add_kek()
        self.process = Process(self.world)

    def ask(self, action: Action, tenant: str, request: str, target: int | None = None) -> None:
        """An operator drops a message."""
        job = Job(action, TenantId(tenant), request, Trigger.MANUAL, "alice@atp", "asked for", target)
        self.drop(ROTATION_JOBS, job.to_json())

    def drop(self, queue: str, body: str) -> None:
        """Somebody puts a message on a queue, without faults."""
        self.dropped += 1
        self.world.messages.append(QueuedMessage(f"dropped-{self.dropped}", queue, body, self.world.now))

    def add_tenant(self, tenant: str, versions: int = 1) -> None:
        """A tenant with that many DEK versions, by the ordinary way."""
        self.ask(Action.ADD_TENANT, tenant, "setup")
        self.settle()
        for number in range(1, versions):
            self.ask(Action.ROTATE_DEK, tenant, f"setup-{number}")
            self.settle()

    def start_plan(self) -> None:
        """The timer fires; the host fires it again after a failure."""
        for _ in range(MAX_DELIVERIES):
            try:
                self.process.planner.start()
                self.process.kek_jobs.plan_all()
            except Killed:
                self.process = Process(self.world)
            except AtpError:
                continue
            else:
                return

    def deliver(self, message: QueuedMessage, *, twice: bool = False) -> None:
        """Hand a message to a worker as the host does, and delete it on success."""
        for _ in range(2 if twice else 1):
            message.deliveries += 1
            try:
                if message.deliveries > MAX_DELIVERIES and not message.queue.endswith(POISON_SUFFIX):
                    self._host_call(lambda: self._move_to_poison(message))
                    continue
                self.process.perform(message)
                self._host_call(lambda: self._delete(message))
            except Killed:
                self.process = Process(self.world)
                message.visible_at = self.world.now + timedelta(minutes=10)
            except AtpError:
                message.visible_at = self.world.now + timedelta(seconds=30)

    def settle(self, *, twice: bool = False) -> None:
        """Deliver until every queue is empty, waiting for what is not visible yet."""
        for _ in range(10_000):
            if not self.world.messages:
                return
            message = min(self.world.messages, key=lambda message: message.visible_at)
            self.world.now = max(self.world.now, message.visible_at)
            self.deliver(message, twice=twice)
        raise AssertionError("the queues never become empty")

    def cipher(self, consumer: str = "test", *, tells_keks: bool = False) -> TenantCipher:
        """An ATP service that has just started; `tells_keks`: which KEK versions it uses."""
        return TenantCipher(
            SimDeks(self.world),
            SimVault(self.world),
            SimConsumers(self.world),
            SimKekUses(self.world if tells_keks else World()),
            consumer,
            CachePolicy(refresh_after=timedelta(0)),
            self.world.clock,
            self.world.monotonic,
            self.world.entropy,
        )

    def write(self, tenant: str, cipher: TenantCipher | None = None) -> None:
        """Store something for a tenant."""
        plaintext, context = f"event {len(self.written)}".encode(), tenant.encode()
        envelope = (cipher or self.cipher()).encrypt(tenant, plaintext, context)
        self.written.append(Ciphertext(TenantId(tenant), envelope, plaintext, context))

    def order(self, action: KekAction, request: str = "by-hand", **fields: Any) -> KekOrder:
        """An operator orders something of the KEK rotation."""
        order = KekOrder(action, KEK_POLICY.name, request, Trigger.MANUAL, "alice@atp", "asked for", **fields)
        self.drop(KEK_ORDERS, order.to_json())
        return order

    def tick(self) -> None:
        """The timer that drives KEK rotations; the host fires it again a minute later, whatever happened."""
        try:
            self.process.kek_jobs.drive_all()
        except Killed:
            self.process = Process(self.world)
        except AtpError:
            return

    def run_until(self, *phases: Phase) -> None:
        """Let messages and time go on until the newest KEK rotation is in one of these phases, and at rest."""
        for _ in range(60):
            self.settle()
            run = self.kek_run
            if run is not None and run.phase in phases and run.move is None:
                return
            self.world.now += timedelta(days=1)
            self.tick()
        raise AssertionError(f"the rotation stays in {self.kek_run and self.kek_run.phase}: {self.kek_run}")

    @property
    def kek_run(self) -> KekRun | None:
        """The newest rotation of the KEK."""
        return self.world.runs[max(self.world.runs)] if self.world.runs else None

    def kids(self) -> set[Kid]:
        """What the DEKs of all tenants are wrapped under."""
        return {dek.kid for keyring in self.world.keyrings.values() for dek in keyring.deks}

    def read_all(self, cipher: TenantCipher | None = None) -> None:
        """Read everything that was ever stored for a tenant whose keys still exist."""
        cipher = cipher or self.cipher()
        for item in self.written:
            tenant = self.world.keyrings[item.tenant].tenant
            if tenant.state in (TenantState.ACTIVE, TenantState.OFFBOARDED):
                assert cipher.decrypt(item.tenant, item.envelope, item.context) == item.plaintext

    def read_and_write(self) -> None:
        """Readers and writers at work: none of them may fail (I9)."""
        for tenant in list(self.world.keyrings.values()):
            if tenant.tenant.state is TenantState.ACTIVE and tenant.tenant.primary:
                self.write(tenant.tenant.tenant)
        self.read_all()

    def check(self, *, at_rest: bool = True) -> None:
        """The invariants; `at_rest` adds those that hold when no message is left."""
        assert not self.world.faults, "a planned fault never happened"
        self.read_all()  # I1
        for keyring in self.world.keyrings.values():
            ensure_sound(keyring)  # I2
            tenant = keyring.tenant.tenant
            for dek in keyring.deks:  # I3
                assert check_value(Secret(self.world.open(dek)), tenant, dek.version) == dek.check_value
                assert self.world.keks[dek.kid].enabled  # I4
                if dek.previous is not None:
                    assert self.world.open_wrap(dek.previous) == self.world.open(dek)
        assert all(references == 0 for _, references in self.world.disabled)  # I4
        self._check_history()
        self._check_runs()
        for stream, records in self.world.streams.items():
            assert verify_chain(records)[0] == len(records), stream
        self._check_no_secrets()
        if at_rest:
            assert not self.world.messages  # I6
            for letter in self.world.letters.values():
                assert f"{letter.queue}/{letter.id}" in self.world.alerts
            assert self._open_intents() == set()  # I7

    def _check_history(self) -> None:
        """I2: versions only grow, rows are immutable but for wrap and state. I7: an intent before every effect."""
        for effect in self.world.effects:
            before, after = effect.before, effect.after
            if before is not None and _without_wraps(before) == _without_wraps(after):
                assert any(job.startswith("kek.") for job in effect.intended)
            else:
                assert _authors(before, after) & effect.intended
            if before is None or after.tenant.state in (TenantState.DESTROYING, TenantState.DESTROYED):
                continue
            assert len(after.deks) >= len(before.deks)
            for old, new in zip(before.deks, after.deks, strict=False):
                assert replace(new, demoted=old.demoted, **{name: getattr(old, name) for name in _MAY_CHANGE}) == old
                assert new.state is old.state or new.state in MOVES[old.state]
                assert new.wrap_generation - old.wrap_generation == (new.wrap != old.wrap)

    def _check_runs(self) -> None:
        """Rotations of the KEK move only where the table lets them, and what they prove is true."""
        last: dict[str, Phase] = {}
        for run_id, phase in self.world.phases:
            before = last.get(run_id, Phase.PLANNED)
            assert phase is before or phase in KEK_MOVES[before]
            last[run_id] = phase
        for run in self.world.runs.values():
            assert run.root_after in ("", run.root_before)
            if run.phase is Phase.CLOSED:
                assert run.root_after
                assert run.old_kid not in self.kids()
                assert not self.world.keks[run.old_kid].enabled

    def _open_intents(self) -> set[str]:
        return {job for job, outcomes in self.world.outcomes().items() if outcomes == {Outcome.INTENT}}

    def _check_no_secrets(self) -> None:
        """I8, on everything that is stored outside the vault, and on what was logged."""
        world = self.world
        stored = (world.keyrings, world.streams, world.messages, world.pointers, world.reports, world.alerts)
        text = repr((stored, world.letters, world.runs, world.shards, world.pages, world.uses))
        for draw in world.drawn:
            if len(draw) == DEK_BYTES:
                assert repr(draw)[2:-1] not in text
                assert draw.hex() not in text

    def _host_call(self, effect: Callable[[], None]) -> None:
        self.world.io("host", "delete", effect)

    def _delete(self, message: QueuedMessage) -> None:
        if message in self.world.messages:
            self.world.messages.remove(message)
            self.delivered.append(message)

    def _move_to_poison(self, message: QueuedMessage) -> None:
        self._delete(message)
        self.drop(message.queue + POISON_SUFFIX, message.body)


_MAY_CHANGE = ("state", "wrapped", "kid", "algorithm", "wrap_generation", "previous", "etag")


def _without_wraps(keyring: Keyring) -> Keyring:
    nothing: dict[str, Any] = {
        "wrapped": b"",
        "kid": "",
        "wrap_generation": 0,
        "algorithm": "",
        "previous": None,
        "etag": None,
    }
    return Keyring(replace(keyring.tenant, etag=None), tuple(replace(dek, **nothing) for dek in keyring.deks))


def _authors(before: Keyring | None, after: Keyring) -> set[str]:
    """The jobs of which one must have made this change."""
    tenant = after.tenant
    if before is None:
        return {tenant.added_by}
    if len(after.deks) > len(before.deks):
        return {after.deks[-1].job}
    if tenant.state is TenantState.OFFBOARDED and before.tenant.state is TenantState.ACTIVE:
        return {tenant.offboarded_by}
    if tenant.state in (TenantState.DESTROYING, TenantState.DESTROYED):
        assert tenant.destroy_after is not None
        due = f"{tenant.destroy_after:%Y%m%dT%H%M%S.%fZ}"
        return {f"tenant.destroy/{tenant.tenant}/{due}", f"tenant.destroy/{tenant.tenant}/by-hand"}
    if tenant.state is TenantState.ACTIVE and before.tenant.state is TenantState.OFFBOARDED:
        return {tenant.reinstated_by}
    since = before.tenant.dual_running_since
    assert since is not None, "a change that no action makes"
    return {f"dek.retire/{tenant.tenant}/{since:%Y%m%dT%H%M%S.%fZ}", f"dek.retire/{tenant.tenant}/by-hand"}
