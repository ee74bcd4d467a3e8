"""The operator's command line: `python -m rotation`. Changes are asked for by queue message, as anybody else's are."""

import argparse
import getpass
import json
import os
import sys
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from rotation.message import ROTATION_JOBS, Action, Job, Trigger
from rotation.schedule import rotation_due
from shared import log
from shared.azure import wiring
from shared.errors import AtpError, Conflict, Integrity, InvalidSettings, Rejected, Transient
from shared.settings import Settings
from shared.values import SHARDS, DeadLetter, Tenant, TenantState, tenant_id

EXIT_REJECTED: Final = 2  # the request has to change
EXIT_UNAVAILABLE: Final = 3  # try again later
EXIT_INTEGRITY: Final = 4  # stop and call somebody
_PAGE: Final = 1000

_ACTIONS: Final[Mapping[str, tuple[Action, str]]] = {
    "add": (Action.ADD_TENANT, "add tenants, with their first DEK"),
    "rotate": (Action.ROTATE_DEK, "give tenants a new DEK now"),
    "offboard": (Action.OFFBOARD_TENANT, "make tenants read-only; their DEKs are destroyed after the retention period"),
    "reinstate": (Action.REINSTATE_TENANT, "undo an off-boarding before the retention period is over"),
}


def main(arguments: Sequence[str]) -> int:
    """Run one command; the exit code says how it went: 0, or one of the EXIT_ codes."""
    options = _parser().parse_args(arguments)
    try:
        settings = Settings.parse(_environment(options.settings))
        log.configure("WARNING")
        adapters = wiring.Adapters(settings)
        for line in options.command(options, settings, adapters):
            print(line)
    except AtpError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        if isinstance(error, Integrity):
            return EXIT_INTEGRITY
        return EXIT_UNAVAILABLE if isinstance(error, Transient | Conflict) else EXIT_REJECTED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m rotation",
        description="Operate ATP key rotation.",
        epilog="example: python -m rotation --settings .stack/local.settings.json tenant rotate acme --reason audit",
    )
    parser.add_argument("--settings", type=Path, help="a local.settings.json to read instead of the environment")
    nouns = parser.add_subparsers(required=True, metavar="{tenant,alerts,letters}")
    tenant = nouns.add_parser("tenant", help="add, list, rotate, off-board").add_subparsers(required=True)
    for verb, (action, purpose) in _ACTIONS.items():
        command = tenant.add_parser(
            verb, help=purpose, description=purpose, epilog=f"example: python -m rotation tenant {verb} acme"
        )
        command.add_argument("tenant", nargs="+")
        command.add_argument("--reason", default=f"operator asked to {verb}", help="recorded in the audit trail")
        command.add_argument("--actor", default=getpass.getuser(), help="recorded in the audit trail")
        command.set_defaults(command=_ask, action=action)
    listing = tenant.add_parser("list", help="all tenants, their DEK versions and due dates")
    listing.add_argument("--json", action="store_true", help="one JSON object a line")
    listing.set_defaults(command=_list_tenants)
    alerts = nouns.add_parser("alerts", help="what people were alerted of")
    alerts.add_argument("--json", action="store_true", help="one JSON object a line")
    alerts.set_defaults(command=_list_alerts)
    letters = nouns.add_parser("letters", help="messages that wait for an operator").add_subparsers(required=True)
    waiting = letters.add_parser("list", help="all of them")
    waiting.add_argument("--json", action="store_true", help="one JSON object a line")
    waiting.set_defaults(command=_list_letters)
    for verb, purpose in (("resend", "put messages on their queue again"), ("drop", "forget messages")):
        command = letters.add_parser(verb, help=purpose, description=purpose)
        command.add_argument("id", nargs="+", help="as `letters list` shows it")
        command.set_defaults(command=_resolve_letters, resend=verb == "resend")
    return parser


def _environment(settings: Path | None) -> Mapping[str, str]:
    if settings is None:
        return os.environ
    try:
        values: Mapping[str, str] = json.loads(settings.read_text(encoding="utf-8"))["Values"]
    except (OSError, ValueError, KeyError, TypeError):
        raise InvalidSettings(f"{settings}: not a local.settings.json") from None
    return values


def _ask(options: argparse.Namespace, settings: Settings, adapters: wiring.Adapters) -> Iterator[str]:  # noqa: ARG001
    for name in options.tenant:
        request = f"cli-{uuid.uuid4().hex[:12]}"
        job = Job(options.action, tenant_id(name), request, Trigger.MANUAL, options.actor, options.reason)
        checked = Job.parse(job.to_json().encode(), request)
        adapters.queues.send(ROTATION_JOBS, checked.to_json())
        yield f"asked: {checked.id}"


def _list_tenants(options: argparse.Namespace, settings: Settings, adapters: wiring.Adapters) -> Iterator[str]:
    policy = wiring.load_catalog(settings).dek

    def rows() -> Iterator[dict[str, str]]:
        for tenant in tenants(adapters):
            rotates = tenant.state is TenantState.ACTIVE and tenant.primary > 0
            yield {
                "tenant": tenant.tenant,
                "state": tenant.state,
                "dek": str(tenant.primary),
                "since": _shown(tenant.primary_since),
                "rotates": _shown(rotation_due(tenant, policy)) if rotates else "",
                "destroyed_after": _shown(tenant.destroy_after),
            }

    return _rendered(rows(), as_json=options.json)


def _list_alerts(options: argparse.Namespace, settings: Settings, adapters: wiring.Adapters) -> Iterator[str]:  # noqa: ARG001
    rows = (
        {"raised": _shown(alert.raised), "severity": alert.severity.value, "subject": alert.subject, "what": alert.what}
        | dict(alert.details)
        for alert in adapters.alerts.all()
    )
    return _rendered(rows, as_json=options.json)


def _list_letters(options: argparse.Namespace, settings: Settings, adapters: wiring.Adapters) -> Iterator[str]:  # noqa: ARG001
    rows = (
        {
            "id": letter.id,
            "queue": letter.queue,
            "kept": _shown(letter.kept),
            "can_resend": "yes" if letter.can_resend else "no",
            "reason": letter.reason,
        }
        for letter in adapters.dead_letters.all()
    )
    return _rendered(rows, as_json=options.json)


def _resolve_letters(options: argparse.Namespace, settings: Settings, adapters: wiring.Adapters) -> Iterator[str]:  # noqa: ARG001
    waiting = {letter.id: letter for letter in adapters.dead_letters.all()}
    for letter_id in options.id:
        letter = _letter(waiting, letter_id)
        if options.resend:
            if not letter.can_resend:
                raise Rejected("the message does not follow its schema and cannot be sent again", id=letter.id)
            adapters.queues.send(letter.queue, letter.body)
        adapters.dead_letters.resolve(letter)
        yield f"{'sent again' if options.resend else 'dropped'}: {letter.id}"


def _letter(waiting: Mapping[str, DeadLetter], letter_id: str) -> DeadLetter:
    if letter_id not in waiting:
        raise Rejected("no such letter", id=letter_id)
    return waiting[letter_id]


def tenants(adapters: wiring.Adapters) -> Iterator[Tenant]:
    """Every tenant there is, shard by shard."""
    for shard in range(SHARDS):
        after = None
        while page := adapters.deks.scan(shard, after, _PAGE):
            yield from page
            after = page[-1].tenant
            if len(page) < _PAGE:
                break


def _shown(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M}" if moment else ""


def _rendered(rows: Iterable[dict[str, str]], *, as_json: bool) -> Iterator[str]:
    """Rows as JSON lines as they come, or as one aligned table."""
    if as_json:
        for row in rows:
            yield json.dumps(row)
        return
    table = list(rows)
    if not table:
        yield "none"
        return
    names = list(dict.fromkeys(name for row in table for name in row))
    widths = {name: max(len(name), *(len(row.get(name, "")) for row in table)) for name in names}
    for line in ({name: name for name in names}, *table):
        yield "  ".join(f"{line.get(name, ''):<{widths[name]}}" for name in names).rstrip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
