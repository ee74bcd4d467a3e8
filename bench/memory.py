"""Peak memory of a worker, with 100,000 tenants against 1,000: it must not grow with the platform.

Measured: the peak resident memory of one process that plans all shards and rotates the DEK of every tenant, with the
app's own planner, worker, audit trail, wrapping and masked logging. Its ports store nothing: tenants are made up when
they are asked for and forgotten when they are written, and a message is handled as it is sent, so that what grows with
the number of tenants is the app's own. The SDK clients take no part. The bounded list of secrets that the masking
knows is full in both and has changed several times over, as in any worker that has run for a while.
Floor: the same process with 1,000 tenants.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.result import Result

_FEW: Final = 1_000
_MANY: Final = 100_000
_MANY_IF_QUICK: Final = 10_000
_TARGET: Final = 1.2
_ROOT: Final = Path(__file__).parent.parent


def measure(quick: bool) -> Sequence[Result]:
    """Compare many tenants with few."""
    many = _MANY_IF_QUICK if quick else _MANY
    peak, least = _peak_kib(many), _peak_kib(_FEW)
    what = f"{many:,} tenants to {_FEW:,}"
    return [Result("memory", what, f"{peak / 1024:.1f} MiB", f"{least / 1024:.1f} MiB", peak / least, _TARGET, False)]


def _peak_kib(tenants: int) -> int:
    """Runs one worker over that many tenants; RuntimeError if it has not rotated them all."""
    command = [sys.executable, "-m", "bench.memory_worker", str(tenants)]
    ended = subprocess.run(command, cwd=_ROOT, stdout=subprocess.PIPE, check=True)
    report: dict[str, int] = json.loads(ended.stdout)
    if report["rotated"] != tenants:
        raise RuntimeError(f"{report['rotated']} of {tenants} tenants were rotated")
    return report["peak_kib"]
