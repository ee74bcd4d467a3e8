"""A KEK rotation over a million DEKs, against ten thousand: neither memory nor time for a DEK grows; and killed often.

Measured: one process that rotates the KEK from the order to the grace period - freeze, canary, flip, sweep, two clean
passes, scrub - with the app's own `KekJobs`, `ShardWalk`, manifest, vault budget and masked logging, tenants of four
DEKs, and real wrapping under RSA-2048. The ports are made up: a tenant is made when it is asked for, of what is written
only how far each shard has come is kept, the manifest is in a file, the vault opens everything to one DEK at once, and
waiting for its quota takes simulated time. So what grows with the number of DEKs is the app's own. Seconds are of the
processor, of one run of a million and the median of three of ten thousand.
Floor: the same process with ten thousand DEKs.

Resumption: the same, killed at random calls of its ports and begun anew each time with what they hold. Measured are the
rows that it is given more than without kills, for each kill; floor is a batch, the most that one message handles.
"""

import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.result import Result
from bench.scale_worker import Done
from rotation.quota import MAX_ROWS_PER_BATCH

_FEW: Final = 10_000
_MANY: Final = 1_000_000
_MANY_IF_QUICK: Final = 50_000
_KILLED: Final = (100_000, 100)
_KILLED_IF_QUICK: Final = (50_000, 20)
"""DEKs, kills: so many DEKs that the batches are full."""
_MOST_MEMORY: Final = 1.2
_MOST_TIME: Final = 1.1
_ROOT: Final = Path(__file__).parent.parent


def measure(quick: bool) -> Sequence[Result]:
    """Compare many DEKs with few, then kill the worker again and again."""
    return [*_growth(_MANY_IF_QUICK if quick else _MANY), _resumption(*(_KILLED_IF_QUICK if quick else _KILLED))]


def _growth(many: int) -> Sequence[Result]:
    few = [_rotated(_FEW) for _ in range(3)]
    much = _rotated(many)
    peak, least = much.peak_kib, statistics.median(each.peak_kib for each in few)
    time, least_time = much.seconds / many, statistics.median(each.seconds for each in few) / _FEW
    what = f"{many:,} DEKs to {_FEW:,}"
    return [
        Result(
            "scale",
            f"peak memory, {what}",
            f"{peak / 1024:.1f} MiB",
            f"{least / 1024:.1f} MiB",
            peak / least,
            _MOST_MEMORY,
            at_least=False,
        ),
        Result(
            "scale",
            f"processor time for a DEK, {what}",
            f"{time * 1e6:.1f} us",
            f"{least_time * 1e6:.1f} us",
            time / least_time,
            _MOST_TIME,
            at_least=False,
        ),
    ]


def _resumption(deks: int, kills: int) -> Result:
    again = (_rotated(deks, kills).looked_at - _rotated(deks).looked_at) / kills
    return Result(
        "scale",
        f"looked at twice, {kills} kills",
        f"{again:.0f} rows a kill",
        f"{MAX_ROWS_PER_BATCH} rows",
        again / MAX_ROWS_PER_BATCH,
        1.0,
        at_least=False,
    )


def _rotated(deks: int, kills: int = 0) -> Done:
    """What one worker has done; RuntimeError if it has not rewrapped all DEKs, or was not killed that often."""
    command = [sys.executable, "-m", "bench.scale_worker", str(deks), str(kills)]
    ended = subprocess.run(command, cwd=_ROOT, stdout=subprocess.PIPE, check=True)
    done = Done(**json.loads(ended.stdout))
    if not done.verified or (done.rows, done.kills) != (deks, kills):
        raise RuntimeError(f"{done} where {deks} DEKs were to be rewrapped with {kills} kills")
    return done
