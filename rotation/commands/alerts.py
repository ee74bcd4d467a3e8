"""The command `alerts`."""

import argparse
from collections.abc import Iterator

from rotation.commands.grammar import Commands, add_command, add_json
from rotation.commands.ports import Ports
from rotation.commands.tables import Cell, Row, rendered
from shared.settings import Settings


def add_to(nouns: Commands) -> None:
    """Put the command into the command line."""
    add_json(add_command(nouns, "alerts", "what people were alerted of", _list))


def _list(options: argparse.Namespace, settings: Settings, ports: Ports) -> Iterator[str]:  # noqa: ARG001
    def rows() -> Iterator[Row]:
        for alert in ports.alerts.all():
            row: dict[str, Cell] = {"id": alert.id} if options.json else {}
            row |= {"raised": alert.raised, "severity": alert.severity.value}
            row |= {"subject": alert.subject, "what": alert.what}
            yield row | {name: value for name, value in alert.details.items() if name not in row}

    return rendered(rows(), as_json=options.json)
