"""The commands `alerts` and `alerts resolve`."""

import argparse
import re
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Final

from rotation.alerting import DEFAULT_OWNER, kind_of
from rotation.commands.asking import quoted, recordable_user
from rotation.commands.grammar import Commands, add_command, add_json, add_origin
from rotation.commands.ports import Ports
from rotation.commands.tables import Cell, Row, minute, printable, rendered
from shared.errors import Rejected
from shared.settings import Settings
from shared.values import Alert, Severity

_HEADLINE: Final = ("severity", "subject", "what")
_TIME: Final = re.compile(
    r"(?<!\S)20[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?(?:Z|\+00:00)(?!\S)"
)


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
    return _described(sorted(chosen, key=_urgency)) if chosen else iter(["none"])


def _urgency(alert: Alert) -> tuple[bool, bool, datetime]:
    return alert.resolved is not None, alert.severity is not Severity.CRITICAL, alert.raised


def _row(alert: Alert) -> Row:
    kind = kind_of(alert.what)
    row: dict[str, Cell] = {"id": alert.id, "raised": alert.raised, "severity": alert.severity.value}
    row |= {"subject": alert.subject, "what": alert.what, "owner": alert.owner or DEFAULT_OWNER}
    row |= {"next": kind.next, "runbook": kind.runbook, "resolved": alert.resolved, "resolved_by": alert.resolved_by}
    return row | {name: value for name, value in alert.details.items() if name not in row}


def _described(alerts: list[Alert]) -> Iterator[str]:
    """How many there are, then one paragraph for each: a table of this would be wider than any terminal."""
    counts = Counter("over" if alert.resolved else alert.severity.value for alert in alerts)
    yield ", ".join(f"{counts[kind]} {kind}" for kind in (*map(str, reversed(Severity)), "over") if counts[kind])
    for alert in alerts:
        yield ""
        yield printable(f"{alert.severity.upper()}  {alert.subject}: {alert.what}")
        told = {name: cell for name, cell in _row(alert).items() if cell and name not in _HEADLINE}
        width = max(map(len, told)) + 2
        for name, cell in told.items():
            text = f"{minute(cell)} UTC" if isinstance(cell, datetime) else str(cell)
            yield printable(f"  {name:<{width}}{_TIME.sub(_as_shown, text)}")


def _as_shown(found: re.Match[str]) -> str:
    """A time in the details of an alert, as all others are shown."""
    try:
        return f"{minute(datetime.fromisoformat(found[0]))} UTC"
    except ValueError:  # no day of any calendar: details may quote what somebody typed
        return found[0]


def _resolve(options: argparse.Namespace, settings: Settings, ports: Ports) -> Iterator[str]:  # noqa: ARG001
    alert = next((alert for alert in ports.alerts.all() if alert.id == options.id), None)
    if alert is None:
        raise Rejected("no such alert; nothing was done", id=quoted([options.id]))
    if alert.resolved is not None:
        yield f"was resolved before: {alert.id}"
        return
    ports.alerts.resolve(alert.id, recordable_user(options), options.reason)
    yield f"resolved: {alert.id}"
