"""The command `kek history`."""

import argparse
from collections.abc import Iterator
from typing import Final

from rotation.commands.grammar import Commands, add_command, add_json
from rotation.commands.kek_orders import add_name, policy_of
from rotation.commands.ports import Ports
from rotation.commands.tables import Row, rendered
from shared.settings import Settings
from shared.values import KekRun, Kid

_SHOWN: Final = 16  # digits of a root: enough to compare by eye, all of them are in --json


def add_to(kek: Commands) -> None:
    """Put the command into the command line."""
    sample = "kek history master-kek --json"
    history = add_command(kek, "history", "every rotation that the KEK had", _list, sample=sample)
    add_name(history)
    add_json(history)


def _list(options: argparse.Namespace, settings: Settings, ports: Ports) -> Iterator[str]:
    runs = ports.keks.history(policy_of(options.kek, settings).name)
    return rendered((_row(run, in_full=options.json) for run in runs), as_json=options.json)


def _row(run: KekRun, *, in_full: bool) -> Row:
    return {
        "generation": run.generation,
        "phase": run.phase.value,
        "started": run.started,
        "since": run.phase_since,
        "old": _version(run.old_kid, in_full=in_full),
        "new": _version(run.new_kid, in_full=in_full) if run.new_kid else None,
        "rows": run.rows,
        "root_before": run.root_before if in_full else run.root_before[:_SHOWN],
        "root_after": run.root_after if in_full else run.root_after[:_SHOWN],
        "because": run.verdict,
    }


def _version(kid: Kid, *, in_full: bool) -> str:
    return kid if in_full else kid.rpartition("/")[2]
