"""The command `kek status`: how far a rotation is, once or until it has nothing more to do by itself."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bar

from rotation.catalog import KekPolicy
from rotation.commands.grammar import MOST, Commands, add_command, add_json, number
from rotation.commands.kek_orders import add_name, policy_of, run_of
from rotation.commands.ports import Ports
from rotation.commands.tables import rendered
from rotation.kek import DISABLED, TASKS, decide
from rotation.progress import Progress, allowed_rate, as_json, how_far, lines, measured, one_line, shard_rows, where
from shared.errors import Rejected, Transient
from shared.settings import Settings
from shared.values import KekRun, KeyShape, Kid

_WATCH_S: Final = 2


def add_to(kek: Commands) -> None:
    """Put the command into the command line."""
    purpose = "how far the rotation of a KEK is, and what it waits for"
    status = add_command(kek, "status", purpose, _status, sample="kek status master-kek --watch")
    add_name(status)
    status.add_argument(
        "--watch",
        nargs="?",
        type=number("a number of seconds", MOST, ", and stand behind the name"),
        const=_WATCH_S,
        metavar="SECONDS",
        help=f"look again every {_WATCH_S} s unless given, until the rotation waits for time to pass or for people",
    )
    status.add_argument("--shards", action="store_true", help="one row per shard as well")
    add_json(status, "one JSON object; with --watch one a line per look")


def _status(options: argparse.Namespace, settings: Settings, ports: Ports) -> Iterator[str]:
    look = partial(looked, ports, policy_of(options.kek, settings), {})
    progress = look()
    if options.json:
        yield _in_json(progress, with_shards=options.shards)
    if options.watch:
        looks = _looks(look, progress, options.watch)
        if options.json:
            for progress in looks:
                yield _in_json(progress, with_shards=options.shards)
        elif sys.stdout.isatty():
            progress = drawn(Console(highlight=False), progress, looks)
        else:
            yield one_line(progress)
            for progress in looks:
                yield one_line(progress)
    if not options.json:
        yield from lines(progress)
        if options.shards:
            yield from rendered(shard_rows(progress), as_json=False)


def looked(ports: Ports, policy: KekPolicy, shapes: dict[Kid, KeyShape]) -> Progress:
    """How far the newest rotation is now; Rejected if there was none.

    `shapes` keeps what the vault said of its keys: looking takes nothing of the quota that it watches.
    """
    run = run_of(ports.keks.read(policy.name), policy.name)
    is_walked = run.phase in TASKS
    shards = ports.shards.of_pass(run.id, run.pass_number) if is_walked or run.resumes in TASKS else ()
    now = ports.clock()
    uses, old_enabled = ports.kek_uses.all(), run.phase in DISABLED and _is_enabled(ports, run.old_kid)
    decision = decide(run, shards if is_walked else (), uses, policy, now, old_enabled=old_enabled)
    return measured(run, shards, decision, _allowed(ports, run, policy, shapes), now)


def _looks(look: Callable[[], Progress], progress: Progress, seconds: int) -> Iterator[Progress]:
    """Every further look until the rotation has nothing more to do by itself."""
    while not progress.rests:
        sys.stdout.flush()
        time.sleep(seconds)
        progress = look()
        yield progress


def _is_enabled(ports: Ports, kid: Kid) -> bool:
    """Whether a version is enabled; not known to those whom the vault does not let look at its keys."""
    try:
        return ports.vault.version(kid).enabled
    except (Transient, Rejected):
        return False


def _allowed(ports: Ports, run: KekRun, policy: KekPolicy, shapes: dict[Kid, KeyShape]) -> float | None:
    """The allowed rate; unknown to those whom the vault does not let look at its keys."""
    if run.new_kid is None or run.phase not in TASKS:
        return None
    try:
        for kid in (run.old_kid, run.new_kid):
            if kid not in shapes:
                shapes[kid] = ports.vault.version(kid).shape
    except (Transient, Rejected):
        return None
    return allowed_rate(run, policy, shapes[run.old_kid], shapes[run.new_kid])


def drawn(console: Console, progress: Progress, looks: Iterator[Progress]) -> Progress:
    """Draw the looks as a moving bar, a line above it for every phase that is over; answers with the last look."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[told]}", markup=False),
    )
    with Bar(*columns, console=console, transient=True, auto_refresh=False) as bar:
        task = bar.add_task("", total=1.0, told="")
        _draw(bar, task, progress)
        for new in looks:
            if (new.run.generation, new.run.step) != (progress.run.generation, progress.run.step):
                console.print(one_line(progress), markup=False)
            progress = new
            _draw(bar, task, progress)
    return progress


def _draw(bar: Bar, task: TaskID, progress: Progress) -> None:
    share = progress.share if progress.walks else float(progress.rests)
    bar.update(task, description=where(progress), completed=share, told=how_far(progress), refresh=True)


def _in_json(progress: Progress, *, with_shards: bool) -> str:
    fields = dict(as_json(progress))
    if with_shards:
        fields["shards"] = [json.loads(row) for row in rendered(shard_rows(progress), as_json=True)]
    return json.dumps(fields)
