"""1, 4 and 16 workers at the quota of a vault: they use all of it that a KEK rotation may use, and are never throttled.

Measured: unwraps a second that the Key Vault emulator lets through in the sweep of a KEK rotation, with the quota of
the real vault (4,000 operations in 10 s with RSA-2048), counted at the vault for 20 s in the midst of it. Workers are
processes with 16 threads on one core, which is what a deployed instance has. They take `rewrap-batches` from the queue
and handle them with the app's own `Worker`, each with its own `VaultBudget` on the one row that they share; tenants
have eight DEKs. Without a functions host, because 16 of them and their start would be all that two processors do.
Floor: the 320 operations a second that the catalog's headroom of 20 % leaves. Of them 0.5 % open samples.

Throttled: answers 429 for each request that the vault got in that time.
"""

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from subprocess import Popen
from tempfile import TemporaryDirectory
from typing import Final

from bench import tenants
from bench.made_up import CATALOG
from bench.result import Result
from bench.rewrap import ready
from local import process
from local.stack import Stack, running
from rotation.quota import Operation, rate
from shared.values import KeyKind, KeyShape

_WORKERS: Final = (1, 4, 16)
_VERSIONS: Final = 8
_TENANTS: Final = 2560
_TENANTS_IF_QUICK: Final = 768
_STEADY_AFTER_S: Final = 5.0
_COUNTED_S: Final = 20.0
_COUNTED_IF_QUICK_S: Final = 8.0
_START_PATIENCE_S: Final = 60.0
_USED_TARGET: Final = 0.95
_THROTTLED_TARGET: Final = 0.01


def measure(quick: bool) -> Sequence[Result]:
    """Count with every number of workers, each on a new stack."""
    return [result for workers in _WORKERS for result in _counted(workers, quick)]


def _counted(workers: int, quick: bool) -> Sequence[Result]:
    children: list[Popen[bytes]] = []
    with TemporaryDirectory() as folder, running(Path(folder)) as stack:
        try:
            names = tenants.names(_TENANTS_IF_QUICK if quick else _TENANTS)
            sweep = ready(stack, names, _VERSIONS, before_sweep=lambda: children.extend(_started(stack, workers)))
            run = sweep.run
            time.sleep(_STEADY_AFTER_S)
            stack.vault.reset_counts()
            begun = time.monotonic()
            time.sleep(_COUNTED_IF_QUICK_S if quick else _COUNTED_S)
            counts, elapsed = stack.vault.counts(), time.monotonic() - begun
            if sweep.run.pass_number != run.pass_number:
                raise RuntimeError("the sweep was over before the end of the measurement")
        finally:
            for child in children:
                child.kill()
                child.wait()
    policy = CATALOG.keks[CATALOG.dek.kek]
    allowed = rate(stack.vault.url, KeyShape(KeyKind.RSA, 2048), Operation.UNWRAP) * (1 - policy.headroom)
    used, asked = counts.operations.get("unwrapkey", 0) / elapsed, sum(counts.operations.values()) + counts.throttled
    what = f"{workers} worker{'s' if workers > 1 else ''}"
    return [
        Result("quota", what, f"{used:.0f} unwraps/s", f"{allowed:.0f}/s", used / allowed, _USED_TARGET, at_least=True),
        Result(
            "quota",
            f"{what}, throttled",
            f"{counts.throttled} answers",
            f"{asked:,} requests",
            counts.throttled / max(asked, 1),
            _THROTTLED_TARGET,
            at_least=False,
        ),
    ]


def _started(stack: Stack, workers: int) -> Sequence[Popen[bytes]]:
    """So many processes, when they all look for messages."""
    folder = stack.folder / "workers"
    folder.mkdir()
    files = [folder / f"ready-{number}" for number in range(workers)]
    children = [
        process.spawn(
            [sys.executable, "-m", "bench.quota_worker", str(stack.settings_file), str(file)], file.with_suffix(".log")
        )
        for file in files
    ]
    cores = sorted(os.sched_getaffinity(0))
    for number, child in enumerate(children):
        os.sched_setaffinity(child.pid, {cores[number % len(cores)]})
    deadline = time.monotonic() + _START_PATIENCE_S
    while not all(file.exists() for file in files):
        if time.monotonic() > deadline or any(child.poll() is not None for child in children):
            raise RuntimeError("the workers did not start")
        time.sleep(0.1)
    return children
