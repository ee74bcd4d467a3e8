"""The sweep of a KEK rotation, against a bare loop and against rewrapping one DEK after the other.

Measured: one process with 16 threads on one core, which is what a deployed instance has, that works off the sweep's
messages of `rewrap-batches` as a functions host does, with the app's own `ShardWalk`, adapters and audit trail, on
Azurite and the Key Vault emulator; from the first message to the last checkpoint, everything that a pass reads and
writes beside the DEKs included. The run is brought to its sweep by the ordinary code. Tenants have four DEKs. Nobody
throttles: the emulator's quotas are off and the budget lets everything through, for at 320 DEKs a second it would be
all that is measured.
Floor: a loop of 16 threads that has read the rows before, unwraps through the same adapter, wraps here and writes the
same rows in the same transactions: no checks, samples, checkpoints, messages or log.

One by one: the procedure that this replaces, in one thread: unwrap at the vault, wrap at the vault, update the row,
next. Both get answers from the vault 15 ms later than it could give them, and from table `deks` 7 ms later, as over a
network: on this machine, whose two processors worker, vault and storage share, there is nothing else to wait for. The
same without these delays is shown as well; it has to be no slower.

Vault operations: what the emulator counts in sweep, clean passes and scrub - unwraps of DEKs, samples, reads of the KEK
versions - for each DEK. Tenants are in 4 of the 64 shards for this, 800 DEKs in each, because of every shard at
least one sample is opened: many DEKs in a shard are what a large platform has.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, sleep
from typing import Any, Final, override

from azure.core import MatchConditions
from azure.core.rest import HttpRequest
from azure.data.tables import TableEntity, UpdateMode

from bench import tenants
from bench.crew import THREADS, Crew, on_one_core
from bench.result import Result, in_turns
from local.stack import Stack, running
from rotation.audit_job import AuditTrail
from rotation.message import REWRAP_BATCHES, KekAction, KekOrder, RewrapBatch, Trigger, retry_delay
from rotation.rewrap_job import ShardWalk
from rotation.vault_budget import VaultBudget
from rotation.wrapping import RSA_OAEP_256, wrapped
from shared.azure import wiring
from shared.azure.deks import AzureDeks
from shared.errors import Conflict, Transient
from shared.values import SHARDS, KekRun, KekVersion, Keyring, Phase, ShardState, TenantId, Wrap

_VERSIONS: Final = 4
_TENANTS: Final = 1280
_TENANTS_IF_QUICK: Final = 256
_SHARDS: Final = range(16)
"""Those that have tenants when speed is measured: as many as there are threads."""
_ONE_BY_ONE: Final = 200
_ONE_BY_ONE_IF_QUICK: Final = 50
"""DEKs: a rate that does not change needs no more."""
_COUNTED_SHARDS: Final = range(4)
_COUNTED_TENANTS: Final = 800
_RUNS: Final = 3
_VAULT_MS: Final = 15
_TABLE_MS: Final = 7
"""How much later than on one machine they answer."""
_PATIENCE_S: Final = 120.0
_LOOP_TARGET: Final = 0.8
_ONE_BY_ONE_TARGET: Final = 10.0
_WITHOUT_DELAYS_TARGET: Final = 1.0
_OPERATIONS_TARGET: Final = 1.02


class Unlimited(VaultBudget):
    """A budget that lets everything through."""

    @override
    def take(self, vault: str, seconds: float) -> None:
        return


class Far(AzureDeks):
    """Table `deks` at the other end of a network."""

    @override
    def page(self, shard: int, after: TenantId | None, rows: int) -> Sequence[Keyring]:
        sleep(_TABLE_MS / 1000)
        return super().page(shard, after, rows)

    @override
    def replace(self, old: Keyring, new: Keyring) -> None:
        sleep(_TABLE_MS / 1000)
        super().replace(old, new)


@dataclass(frozen=True, slots=True)
class Sweep:
    """A KEK rotation on a stack, ready to begin its sweep."""

    stack: Stack
    name: str
    app: wiring.App
    walk: ShardWalk
    old: KekVersion
    new: KekVersion

    def handle(self, body: bytes, message_id: str) -> None:
        """What the app does with a message of the sweep, but for the budget."""
        batch = RewrapBatch.parse(body, message_id)
        try:
            if self.walk.perform(batch):
                self.app.kek_jobs.drive(batch.kek)
        except (Transient, Conflict):
            self.stack.adapters.queues.send(REWRAP_BATCHES, batch.again().to_json(), retry_delay(batch))

    def work(self, is_over: Callable[[], bool]) -> None:
        """Work off messages until it is over."""
        Crew(self.stack.adapters, {REWRAP_BATCHES: self.handle}).work(is_over, _PATIENCE_S)

    @property
    def run(self) -> KekRun:
        """The run as it stands."""
        return _run(self.stack, self.name)


def measure(quick: bool) -> Sequence[Result]:
    """Compare the sweep with the loop and with one by one, each time on a new stack; then count operations."""
    runs = 1 if quick else _RUNS
    number = _TENANTS_IF_QUICK if quick else _TENANTS
    few = _ONE_BY_ONE_IF_QUICK if quick else _ONE_BY_ONE

    def on_a_new_stack(rate: Callable[[Sweep], float], *, far: bool) -> float:
        with TemporaryDirectory() as folder, running(Path(folder), quota=False) as stack:
            sweep = ready(stack, tenants.names(number, _SHARDS), far=far)
            if far:
                stack.vault.inject("POST .*/keys/", latency_ms=_VAULT_MS, times=None)
            return rate(sweep)

    def medians(*rates: Callable[[Sweep], float], far: bool) -> tuple[float, ...]:
        return in_turns(runs, *(partial(on_a_new_stack, rate, far=far) for rate in rates))

    def one_by_one(delay_ms: float) -> Callable[[Sweep], float]:
        return lambda sweep: _rate_of_one_by_one(sweep, few, delay_ms)

    ours, loop, slow = medians(_rate_of_sweep, _rate_of_loop, one_by_one(0), far=False)
    far, far_slow = medians(_rate_of_sweep, one_by_one(_TABLE_MS), far=True)
    return [
        _compared("a bare loop", ours, loop, _LOOP_TARGET),
        _compared("one by one, far away", far, far_slow, _ONE_BY_ONE_TARGET),
        _compared("one by one", ours, slow, _WITHOUT_DELAYS_TARGET),
        _operations(),
    ]


def _compared(what: str, ours: float, floor: float, target: float) -> Result:
    return Result("rewrap", what, f"{ours:.0f} DEKs/s", f"{floor:.0f} DEKs/s", ours / floor, target, at_least=True)


def ready(
    stack: Stack,
    names: Sequence[TenantId],
    versions: int = _VERSIONS,
    *,
    far: bool = False,
    before_sweep: Callable[[], None] | None = None,
) -> Sweep:
    """A rotation of the KEK of these tenants, which are added, with the messages of its first sweep waiting."""
    adapters = stack.adapters
    app, catalog = wiring.app(stack.settings, adapters), wiring.load_catalog(stack.settings)
    name = catalog.dek.kek
    old = adapters.vault.newest(name)
    tenants.add(stack, old, names, versions)
    walk = ShardWalk(
        Far(adapters.table("deks")) if far else adapters.deks,
        adapters.keks,
        adapters.shards,
        adapters.budgeted_vault,
        Unlimited(adapters.budgets, adapters.clock),
        AuditTrail(adapters.records, adapters.clock),
        adapters.queues,
        adapters.alerts,
        catalog.keks,
        adapters.clock,
    )
    order = KekOrder(KekAction.ROTATE, name, "bench", Trigger.MANUAL, "bench", "to measure it")
    app.kek_jobs.perform(order)
    freeze = _run(stack, name)

    def handle(body: bytes, message_id: str) -> None:
        walk.perform(RewrapBatch.parse(body, message_id))

    Crew(adapters, {REWRAP_BATCHES: handle}).work(lambda: _is_walked(stack, freeze), _PATIENCE_S)
    if before_sweep is not None:
        before_sweep()
    app.kek_jobs.drive(name)
    run = _run(stack, name)
    if run.phase is not Phase.SWEEPING or run.new_kid is None:
        raise RuntimeError(f"the rotation does not come to its sweep: {run}")
    return Sweep(stack, name, app, walk, old, adapters.vault.version(run.new_kid))


def _run(stack: Stack, name: str) -> KekRun:
    record = stack.adapters.keks.read(name)
    if record is None or record.run is None:
        raise RuntimeError("there is no rotation")
    return record.run


def _is_walked(stack: Stack, run: KekRun) -> bool:
    """Whether the run's pass has come to the end of every shard."""
    checkpoints = stack.adapters.shards.of_pass(run.id, run.pass_number)
    return sum(each.state is ShardState.DONE for each in checkpoints) == SHARDS


def _rate_of_sweep(sweep: Sweep) -> float:
    """DEKs a second. RuntimeError if they were not all rewrapped."""
    run, clock = sweep.run, sweep.stack.adapters.clock
    started = clock()
    sweep.work(lambda: sweep.run.pass_number > run.pass_number)
    checkpoints = sweep.stack.adapters.shards.of_pass(run.id, run.pass_number)
    if sum(each.changed for each in checkpoints) != run.rows:
        raise RuntimeError("not every DEK was rewrapped")
    return run.rows / (max(each.updated for each in checkpoints) - started).total_seconds()


def _rate_of_loop(sweep: Sweep) -> float:
    """DEKs a second."""
    adapters = sweep.stack.adapters
    table, vault = adapters.table("deks"), adapters.vault
    partitions = _partitions(sweep.stack)

    def rewrap(rows: Sequence[TableEntity]) -> None:
        tenant, *deks = rows
        changed = [
            _rewrapped(row, wrapped(vault.unwrap(row["kid"], row["algorithm"], row["wrapped"]), sweep.new, vault.wrap))
            for row in deks
        ]
        changes = zip(rows, (dict(tenant), *changed), strict=True)
        table.submit_transaction([("update", new, _if_unchanged(old)) for old, new in changes])

    started = perf_counter()
    with on_one_core(), ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(rewrap, partitions):
            pass
    return sweep.run.rows / (perf_counter() - started)


def _rate_of_one_by_one(sweep: Sweep, deks: int, delay_ms: float) -> float:
    """DEKs a second."""
    table, client = sweep.stack.adapters.table("deks"), sweep.stack.adapters.key_client
    rows = [row for partition in _partitions(sweep.stack) for row in partition[1:]][:deks]

    def ask(kid: str, operation: str, value: str) -> str:
        path = kid.removeprefix(sweep.stack.vault.url)
        request = HttpRequest("POST", f"{path}/{operation}", json={"alg": RSA_OAEP_256, "value": value})
        response = client.send_request(request)
        response.raise_for_status()
        answer: str = response.json()["value"]
        return answer

    started = perf_counter()
    with on_one_core():
        for row in rows:
            opened = ask(row["kid"], "unwrapkey", _base64url(row["wrapped"]))
            new = ask(sweep.new.kid, "wrapkey", opened)
            wrap = Wrap(urlsafe_b64decode(new + "=="), sweep.new.kid, RSA_OAEP_256)
            sleep(delay_ms / 1000)
            table.update_entity(_rewrapped(row, wrap), **_if_unchanged(row))
    return len(rows) / (perf_counter() - started)


def _operations() -> Result:
    """What the vault is asked for each DEK."""
    with TemporaryDirectory() as folder, running(Path(folder), quota=False) as stack:
        sweep = ready(stack, tenants.names(_COUNTED_TENANTS, _COUNTED_SHARDS))
        stack.vault.reset_counts()
        sweep.work(lambda: sweep.run.phase is Phase.GRACE)
        operations, deks = sum(stack.vault.counts().operations.values()), sweep.run.rows
    return Result(
        "rewrap",
        "vault operations",
        f"{operations:,} operations",
        f"{deks:,} DEKs",
        operations / deks,
        _OPERATIONS_TARGET,
        at_least=False,
    )


def _partitions(stack: Stack) -> Sequence[Sequence[TableEntity]]:
    """Every tenant's rows, its own first."""
    rows = stack.adapters.table("deks").list_entities()
    return [list(group) for _, group in groupby(rows, lambda row: row["PartitionKey"])]


def _rewrapped(row: TableEntity, wrap: Wrap) -> dict[str, Any]:
    """The row with another wrap; the one it had is kept, as the app keeps it."""
    return {
        **row,
        "wrapped": wrap.wrapped,
        "kid": wrap.kid,
        "wrap_generation": 2,
        "previous_wrapped": row["wrapped"],
        "previous_kid": row["kid"],
        "previous_algorithm": row["algorithm"],
    }


def _if_unchanged(row: TableEntity) -> dict[str, Any]:
    return {"etag": row.metadata["etag"], "match_condition": MatchConditions.IfNotModified, "mode": UpdateMode.REPLACE}


def _base64url(octets: bytes) -> str:
    return urlsafe_b64encode(octets).rstrip(b"=").decode()
