"""A KEK rotation whose workers are killed: afterwards every DEK is under the new version and opens to what it was.

Measured: the rotation of the KEK of 100,000 DEKs, eight for each tenant, on the local stack with the vault's real
quota, ordered by a message on `kek-orders` and done by two functions hosts with the app in them. Ten times in its sweep
one of them is killed with SIGKILL, at random moments, and another one started at once; what the dead one had in hand
comes back when its lease of 20 s ends. When the run has come to its grace period, all rows are read: counted are the
DEKs under the new version that keep their wrap under the old one. 500 of them are opened at the vault and compared with
their check values, and the run's own manifest must say that no DEK has changed.
Floor: all DEKs.
"""

import random
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import batched
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bench import tenants
from bench.made_up import CATALOG
from bench.result import Result
from local.functions_host.client import HostProcess
from local.stack import Stack, running
from rotation.message import KEK_ORDERS, KekAction, KekOrder, Trigger
from rotation.quota import MAX_ROWS_PER_BATCH
from rotation.wrapping import ensure_is
from shared.errors import Integrity
from shared.values import SHARDS, KekRun, Keyring, Phase, TenantId, WrappedDek

_VERSIONS: Final = 8
_TENANTS: Final = 12_500
_TENANTS_IF_QUICK: Final = 640
_HOSTS: Final = 2
_KILLS: Final = 10
_KILLS_IF_QUICK: Final = 3
_SWEPT: Final = (0.02, 0.9)
"""Between which parts of the sweep the kills are."""
_LEASE_S: Final = 20
_OPENED: Final = 500
_PATIENCE_S: Final = 20 * 60.0
_LOOK_EVERY_S: Final = 1.0
_TELL_EVERY_S: Final = 15.0


def measure(quick: bool) -> Sequence[Result]:
    """Rotate, kill, count."""
    number, kills = (_TENANTS_IF_QUICK, _KILLS_IF_QUICK) if quick else (_TENANTS, _KILLS)
    with TemporaryDirectory() as folder, running(Path(folder)) as stack:
        _tell(f"adding {number * _VERSIONS:,} DEKs")
        adapters, kek = stack.adapters, CATALOG.dek.kek
        for some in batched(tenants.names(number), 1_000, strict=False):
            tenants.add(stack, adapters.vault.newest(kek), some, _VERSIONS)
        hosts = [stack.add_host(lease_s=_LEASE_S) for _ in range(_HOSTS)]
        order = KekOrder(KekAction.ROTATE, kek, "bench", Trigger.MANUAL, "bench", "to see it survive")
        adapters.queues.send(KEK_ORDERS, order.to_json())
        run = _until_grace(stack, hosts, number * _VERSIONS, kills)
        if run.rows != number * _VERSIONS or run.root_after != run.root_before:
            raise RuntimeError(f"the run does not say that it has found every DEK unchanged: {run}")
        right = _right(stack, run)
    what = f"{run.rows:,} DEKs, {kills} hosts killed"
    return [
        Result("survival", what, f"{right:,} right", f"{run.rows:,} DEKs", right / run.rows, target=1.0, at_least=True)
    ]


def _until_grace(stack: Stack, hosts: list[HostProcess], deks: int, kills: int) -> KekRun:
    """The run when it has come there. RuntimeError if that takes too long, or not all kills were in the sweep."""
    seed = random.randrange(10**6)
    draw = random.Random(seed)
    moments = sorted(draw.uniform(*_SWEPT) for _ in range(kills))
    _tell(f"random seed {seed}")
    begun = told = time.monotonic()
    while time.monotonic() - begun < _PATIENCE_S:
        run = _run(stack)
        if run is not None and run.phase is Phase.GRACE and run.move is None:
            if moments:
                raise RuntimeError("the sweep was over before the last kill")
            _tell(f"in the grace period after {time.monotonic() - begun:.0f} s")
            return run
        unwraps = stack.vault.counts().operations.get("unwrapkey", 0)
        if moments and run is not None and run.phase is Phase.SWEEPING and unwraps >= moments[0] * deks:
            moments.pop(0)
            at = draw.randrange(len(hosts))
            hosts[at].kill()
            hosts[at] = stack.add_host(lease_s=_LEASE_S)
            _tell(f"killed a host at {unwraps:,} unwraps, {len(moments)} kills to go")
        if time.monotonic() - told > _TELL_EVERY_S:
            told = time.monotonic()
            _tell(f"{told - begun:.0f} s: {_standing(stack, run)}, {unwraps:,} unwraps")
        time.sleep(_LOOK_EVERY_S)
    letters = [letter.reason for letter in stack.adapters.dead_letters.all()]
    raise RuntimeError(f"not in the grace period after {_PATIENCE_S:.0f} s; dead letters: {letters}; {_run(stack)}")


def _run(stack: Stack) -> KekRun | None:
    record = stack.adapters.keks.read(CATALOG.dek.kek)
    return record.run if record else None


def _standing(stack: Stack, run: KekRun | None) -> str:
    if run is None:
        return "not begun"
    checkpoints = stack.adapters.shards.of_pass(run.id, run.pass_number)
    return f"{run.phase}, pass {run.pass_number}, {sum(each.rows for each in checkpoints):,} rows checkpointed"


def _right(stack: Stack, run: KekRun) -> int:
    """How many DEKs are as they should be."""
    found = [
        (keyring.tenant.tenant, dek)
        for keyring in _keyrings(stack)
        for dek in keyring.deks
        if dek.kid == run.new_kid and dek.previous is not None and dek.previous.kid == run.old_kid
    ]
    sample = random.sample(found, min(_OPENED, len(found)))
    return len(found) - sum(not _opens(stack, tenant, dek) for tenant, dek in sample)


def _opens(stack: Stack, tenant: TenantId, dek: WrappedDek) -> bool:
    """Whether the vault opens it to what it was made as."""
    try:
        ensure_is(stack.adapters.vault.unwrap(dek.kid, dek.algorithm, dek.wrapped), tenant, dek)
    except Integrity:
        return False
    return True


def _keyrings(stack: Stack) -> Iterator[Keyring]:
    for shard in range(SHARDS):
        after: TenantId | None = None
        while page := stack.adapters.deks.page(shard, after, MAX_ROWS_PER_BATCH):
            yield from page
            after = page[-1].tenant.tenant


def _tell(what: str) -> None:
    print(f"survival: {what}", file=sys.stderr, flush=True)
