"""The inventory of 10,000 objects, against the bare listing, and its memory against that of 1,000.

Measured: everything that `inventory --json` does: the vault listed through the port, matched with the shipped catalog,
judged, and written as JSON lines; the policies of the entries and the tables with KEKs and rotations are read as well.
Floor: a loop over the same three listings with the SDK's clients, that looks at the name and the attributes of each
object, without which nothing can be said of it, and does nothing with them. Of the memory: the same process with 1,000
objects in the vault. Both are the peak resident memory of a process of its own that takes one inventory.
Both run against the Key Vault emulator, which answers pages of 25 objects in a few milliseconds: closer than any vault,
so that the program's own share is larger here than it will be.
"""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from azure.keyvault.certificates import CertificateProperties
from azure.keyvault.keys import KeyProperties
from azure.keyvault.secrets import SecretProperties

from bench.inventory_worker import taken
from bench.result import Result, in_turns
from local.stack import Stack, running

_FEW: Final = 1_000
_MANY: Final = 10_000
_MANY_IF_QUICK: Final = 2_000
_RUNS: Final = 5
_THREADS: Final = 16
_SLOWER: Final = 1.3
_LARGER: Final = 1.2
_ROOT: Final = Path(__file__).parent.parent


def measure(quick: bool) -> Sequence[Result]:
    """Compare the inventory with the listing, and many objects with few."""
    many = _MANY_IF_QUICK if quick else _MANY
    with TemporaryDirectory() as folder, running(Path(folder), quota=False) as stack:
        _fill(stack, range(_FEW))
        least = _peak_kib(stack, _FEW)
        _fill(stack, range(_FEW, many))
        peak = _peak_kib(stack, many)
        ours, bare = in_turns(1 if quick else _RUNS, lambda: _time(stack, many), lambda: _time_of_listing(stack, many))
    what = f"{many:,} objects to {_FEW:,}: memory"
    return [
        Result("inventory", f"{many:,} objects", f"{ours:.2f} s", f"{bare:.2f} s", ours / bare, _SLOWER, False),
        Result("inventory", what, f"{peak / 1024:.1f} MiB", f"{least / 1024:.1f} MiB", peak / least, _LARGER, False),
    ]


def _fill(stack: Stack, numbers: range) -> None:
    """Make that many secrets that no entry knows."""
    secrets = stack.adapters.vault_clients[stack.settings.vault_url].secrets
    with ThreadPoolExecutor(_THREADS) as pool:
        for _ in pool.map(lambda number: secrets.set_secret(f"service-{number:05d}", "of no use"), numbers):
            pass


def _time(stack: Stack, objects: int) -> float:
    """Seconds of one inventory."""
    started = time.perf_counter()
    if taken(stack.adapters, stack.settings) < objects:
        raise RuntimeError("the inventory misses something")
    return time.perf_counter() - started


def _time_of_listing(stack: Stack, objects: int) -> float:
    """Seconds of one bare listing."""
    clients = stack.adapters.vault_clients[stack.settings.vault_url]
    started = time.perf_counter()
    found = [
        *map(_looked_at, clients.keys.list_properties_of_keys()),
        *map(_looked_at, clients.secrets.list_properties_of_secrets()),
        *map(_looked_at, clients.certificates.list_properties_of_certificates()),
    ]
    if len(found) < objects:
        raise RuntimeError("the listing misses something")
    return time.perf_counter() - started


def _looked_at(item: KeyProperties | SecretProperties | CertificateProperties) -> bool:
    times = item.created_on, item.updated_on, item.not_before, item.expires_on
    return bool(item.name and item.enabled and any(times) and item.tags is None and item.version is None)


def _peak_kib(stack: Stack, objects: int) -> int:
    """Has one process take the inventory; RuntimeError if it has not seen everything."""
    command = [sys.executable, "-m", "bench.inventory_worker", str(stack.settings_file)]
    ended = subprocess.run(command, cwd=_ROOT, stdout=subprocess.PIPE, check=True)
    report: dict[str, int] = json.loads(ended.stdout)
    if report["lines"] < objects:
        raise RuntimeError(f"{report['lines']} of {objects} objects were seen")
    return report["peak_kib"]
