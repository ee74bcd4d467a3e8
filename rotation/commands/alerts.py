"""The commands `alerts` and `alerts resolve`."""

import argparse
from collections.abc import Iterator
from typing import Final

from rotation.alerting import DEFAULT_OWNER, kind_of
from rotation.commands.asking import quoted, recordable_user
from rotation.commands.grammar import Commands, add_command, add_json, add_origin
from rotation.commands.ports import Ports
from rotation.commands.tables import Cell, Row, printable, rendered
from shared.errors import Rejected
from shared.settings import Settings
from shared.values import Alert, Severity

_HEADLINE: Final = ("severity", "subject", "what")


def add_to(nouns: Commands) -> None:
    """Put the commands into the command line."""
    alerts = add_command(nouns, "alerts", "what people were alerted of and is not over", _list, sample="alerts --all")
    alerts.add_argument("--all", action="store_true", help="what is over, too")
    alerts.add_argument("--severity", choices=[severity.value for severity in Severity], help="only those")
    add_json(alerts)
    verbs = alerts.add_subparsers(metavar="{resolve}")
    resolve = add_command(
        verbs, "resolve", "say that what an alert is about is over", _resolve, sample="alerts resolve sink/teams"
    )
    resolve.add_argument("id", help="as `alerts` shows it")
    add_origin(resolve, "resolve it")


def _list(options: argparse.Namespace, settings: Settings, ports: Ports) -> Iterator[str]:  # noqa: ARG001
    chosen = [
        alert
        for alert in ports.alerts.all()
        if (options.all or alert.resolved is None) and options.severity in (None, alert.severity)
    ]
    if options.json:
        return rendered(map(_row, chosen), as_json=True)
    return _described(chosen) if chosen else iter(["none"])


def _row(alert: Alert) -> Row:
    kind = kind_of(alert.what)
    row: dict[str, Cell] = {"id": alert.id, "raised": alert.raised, "severity": alert.severity.value}
    row |= {"subject": alert.subject, "what": alert.what, "owner": alert.owner or DEFAULT_OWNER}
    row |= {"next": kind.next, "runbook": kind.runbook, "resolved": alert.resolved, "resolved_by": alert.resolved_by}
    return row | {name: value for name, value in alert.details.items() if name not in row}


def _described(alerts: list[Alert]) -> Iterator[str]:
    """One paragraph for each: a table of this would be wider than any terminal."""
    for number, alert in enumerate(alerts):
        if number:
            yield ""
        yield printable(f"{alert.severity.upper()}  {alert.subject}: {alert.what}")
        told = {name: cell for name, cell in _row(alert).items() if cell and name not in _HEADLINE}
        width = max(map(len, told)) + 2
        for name, cell in told.items():
            text = cell if isinstance(cell, str) else f"{cell:%Y-%m-%d %H:%M} UTC"
            yield printable(f"  {name:<{width}}{text}")


def _resolve(options: argparse.Namespace, settings: Settings, ports: Ports) -> Iterator[str]:  # noqa: ARG001
    alert = next((alert for alert in ports.alerts.all() if alert.id == options.id), None)
    if alert is None:
        raise Rejected("no such alert; nothing was done", id=quoted([options.id]))
    if alert.resolved is not None:
        yield f"was resolved before: {alert.id}"
        return
    ports.alerts.resolve(alert.id, recordable_user(options), options.reason)
    yield f"resolved: {alert.id}"
