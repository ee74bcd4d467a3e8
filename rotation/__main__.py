"""The operator's command line: `python -m rotation`. Changes are asked for by queue message, as anybody else's are."""

import argparse
import getpass
import json
import os
import re
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rotation.message import ROTATION_JOBS, Action, Job, Trigger
from rotation.schedule import rotation_due
from shared import log
from shared.azure import wiring
from shared.errors import AtpError, Conflict, Integrity, InvalidMessage, InvalidSettings, Rejected, Transient
from shared.redact import mask
from shared.settings import Settings
from shared.values import SHARDS, Tenant, TenantId, TenantState, tenant_id

EXIT_REJECTED: Final = 2  # the request has to change
EXIT_UNAVAILABLE: Final = 3  # try again later
EXIT_INTEGRITY: Final = 4  # stop and call somebody
_PAGE: Final = 1000
_WAIT_S: Final = 60
_LOOK_EVERY_S: Final = 0.5
_LONGEST_SHOWN: Final = 80  # characters of what somebody typed
_TIMES: Final = frozenset({"since", "rotates", "destroyed_after", "raised", "kept"})

type _Cell = str | int | datetime | None
type _Row = Mapping[str, _Cell]
type _Command = Callable[[argparse.Namespace, Settings, wiring.Adapters], Iterator[str]]

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
        sys.stdout.flush()
    except AtpError as error:
        print(mask(f"{type(error).__name__}: {error}{_advice(error)}"), file=sys.stderr)
        if isinstance(error, Integrity):
            return EXIT_INTEGRITY
        return EXIT_UNAVAILABLE if isinstance(error, Transient | Conflict) else EXIT_REJECTED
    except BrokenPipeError:
        # Whoever read has enough. What is left in the buffer must go somewhere, or Python complains at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


def _advice(error: AtpError) -> str:
    """What to do about a refusal; no status at all is a sign-in that failed before anything was sent."""
    refused = "status" in error.fields and error.fields["status"] in (None, 401, 403)
    return ": no access: sign in (az login) or check the key" if refused else ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m rotation", description="Operate ATP key rotation.", epilog=_example("tenant list")
    )
    parser.add_argument("--settings", type=Path, help="a local.settings.json to read instead of the environment")
    nouns = parser.add_subparsers(required=True, metavar="{tenant,alerts,letters}")
    about = "add, list, rotate, off-board, reinstate tenants"
    tenant = nouns.add_parser("tenant", help=about, description=about).add_subparsers(required=True)
    for verb, (action, purpose) in _ACTIONS.items():
        command = tenant.add_parser(
            verb,
            help=purpose,
            description=purpose,
            epilog=_example(f"tenant {verb} acme --reason 'ticket 4711' --wait"),
        )
        command.add_argument(
            "tenant", nargs="+", help="1 to 64 of a-z 0-9 . _ - beginning and ending with a letter or digit"
        )
        command.add_argument("--reason", default=f"operator asked to {verb}", help="recorded in the audit trail")
        command.add_argument(
            "--actor", help="recorded in the audit trail: A-Z a-z 0-9 . _ : @ / + -; default: the name of your user"
        )
        command.add_argument(
            "--wait",
            nargs="?",
            type=_seconds,
            const=_WAIT_S,
            metavar="SECONDS",
            help=f"wait until it is done, {_WAIT_S} s unless given; stands behind the tenants",
        )
        command.set_defaults(command=_ask, action=action)
    _add_listing(tenant, "list", "all tenants, their DEK versions and due dates", _list_tenants)
    _add_listing(nouns, "alerts", "what people were alerted of", _list_alerts)
    about = "messages that wait for an operator"
    letters = nouns.add_parser("letters", help=about, description=about).add_subparsers(required=True)
    _add_listing(letters, "list", about, _list_letters)
    for verb, purpose in (
        ("resend", "put messages on their queue again"),
        ("drop", "forget messages; what they asked for has not been done and will not be"),
    ):
        command = letters.add_parser(
            verb, help=purpose, description=purpose, epilog=_example(f"letters {verb} dek.rotate/acme/v2")
        )
        command.add_argument("id", nargs="+", help="as `letters list` shows it")
        command.set_defaults(command=_resolve_letters, resend=verb == "resend")
    return parser


def _add_listing(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, purpose: str, command: _Command
) -> None:
    listing = commands.add_parser(name, help=purpose, description=purpose)
    listing.add_argument("--json", action="store_true", help="one JSON object a line")
    listing.set_defaults(command=command)


def _example(command: str) -> str:
    return f"example: python -m rotation --settings .stack/local.settings.json {command}"


def _seconds(text: str) -> int:
    if not re.fullmatch("[0-9]{1,6}", text) or not int(text):
        raise argparse.ArgumentTypeError("must be a number of seconds, 1 or more, and stand behind the tenants")
    return int(text)


def _environment(settings: Path | None) -> Mapping[str, str]:
    if settings is None:
        return os.environ
    try:
        parsed = json.loads(settings.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InvalidSettings(f"{settings}: there is no such file; for a local stack `make serve` writes it") from None
    except OSError as error:
        raise InvalidSettings(f"{settings}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise InvalidSettings(f"{settings}: not a local.settings.json: it is not JSON in UTF-8") from None
    values = parsed.get("Values") if isinstance(parsed, dict) else None
    if not isinstance(values, dict):
        raise InvalidSettings(f'{settings}: not a local.settings.json: it has no object "Values"')
    return values


def _ask(options: argparse.Namespace, settings: Settings, adapters: wiring.Adapters) -> Iterator[str]:  # noqa: ARG001
    wrong = [text for text in options.tenant if not _is_tenant_id(text)]
    if wrong:
        raise Rejected(
            "not a tenant id: 1 to 64 of a-z 0-9 . _ - beginning and ending with a letter or digit; nothing was asked",
            tenant=_quoted(wrong),
        )
    jobs = [_job(options, tenant_id(text)) for text in options.tenant]
    before = {job.tenant: _primary(adapters, job.tenant) for job in jobs} if options.wait else {}
    for job in jobs:
        adapters.queues.send(ROTATION_JOBS, job.to_json())
        yield f"asked: {job.id}"
    if options.wait:
        yield from _wait(adapters, jobs, before, options.wait)


def _job(options: argparse.Namespace, tenant: TenantId) -> Job:
    """A job that the app will accept."""
    request = f"cli-{uuid.uuid4().hex[:12]}"
    job = Job(options.action, tenant, request, Trigger.MANUAL, options.actor or _user(), options.reason)
    try:
        return Job.parse(job.to_json().encode(), request)
    except InvalidMessage as error:
        if options.actor is None and error.fields.get("field") == "actor":
            raise Rejected(
                "this user's name cannot be recorded: say who you are with --actor", **error.fields
            ) from None
        raise


def _user() -> str:
    try:
        return getpass.getuser()
    except OSError:  # as in a container, whose user may have no name
        return "operator"


def _is_tenant_id(text: str) -> bool:
    try:
        tenant_id(text)
    except Rejected:
        return False
    return True


def _quoted(texts: Sequence[str]) -> str:
    """What somebody typed, as far as it can be shown."""
    shown = (mask(text) if text.isprintable() and len(text) <= _LONGEST_SHOWN else "(unprintable)" for text in texts)
    return ", ".join(f"'{text}'" for text in shown)


def _wait(
    adapters: wiring.Adapters, jobs: Sequence[Job], before: Mapping[TenantId, int], seconds: int
) -> Iterator[str]:
    """Say of each job when it is done; Rejected if one ends as a dead letter, Transient when the time is over."""
    deadline = time.monotonic() + seconds
    left = list(jobs)
    while True:
        for job in tuple(left):
            keyring = adapters.deks.read(job.tenant)
            if keyring is not None and _shows(keyring.tenant, job.action, before[job.tenant]):
                left.remove(job)
                yield f"done: {job.id}"
        if not left:
            return
        reasons = {letter.id: letter.reason for letter in adapters.dead_letters.all()}
        for job in left:
            if job.id in reasons:
                raise Rejected("the job was given up; see `letters list`", id=job.id, reason=reasons[job.id])
        if time.monotonic() > deadline:
            names = ", ".join(job.tenant for job in left)
            raise Transient("asked, but not done in time; it may still be", seconds=seconds, tenants=names)
        time.sleep(_LOOK_EVERY_S)


def _shows(tenant: Tenant, action: Action, before: int) -> bool:
    """Whether a tenant's row shows what was asked for; `before`: the version of its primary DEK when it was."""
    match action:
        case Action.ROTATE_DEK:
            return tenant.primary > before
        case Action.OFFBOARD_TENANT:
            return tenant.state is not TenantState.ACTIVE
        case _:
            return tenant.state is TenantState.ACTIVE and tenant.primary > 0


def _primary(adapters: wiring.Adapters, tenant: TenantId) -> int:
    keyring = adapters.deks.read(tenant)
    return keyring.tenant.primary if keyring else 0


def _list_tenants(options: argparse.Namespace, settings: Settings, adapters: wiring.Adapters) -> Iterator[str]:
    policy = wiring.load_catalog(settings).dek

    def rows() -> Iterator[_Row]:
        for tenant in tenants(adapters):
            rotates = tenant.state is TenantState.ACTIVE and tenant.primary > 0
            yield {
                "tenant": tenant.tenant,
                "state": tenant.state.value,
                "dek": tenant.primary,
                "since": tenant.primary_since,
                "rotates": rotation_due(tenant, policy) if rotates else None,
                "destroyed_after": tenant.destroy_after,
            }

    return _rendered(rows(), as_json=options.json)


def _list_alerts(options: argparse.Namespace, settings: Settings, adapters: wiring.Adapters) -> Iterator[str]:  # noqa: ARG001
    def rows() -> Iterator[_Row]:
        for alert in adapters.alerts.all():
            row: dict[str, _Cell] = {"id": alert.id} if options.json else {}
            row |= {"raised": alert.raised, "severity": alert.severity.value}
            row |= {"subject": alert.subject, "what": alert.what}
            yield row | {name: value for name, value in alert.details.items() if name not in row}

    return _rendered(rows(), as_json=options.json)


def _list_letters(options: argparse.Namespace, settings: Settings, adapters: wiring.Adapters) -> Iterator[str]:  # noqa: ARG001
    rows: Iterator[_Row] = (
        {
            "id": letter.id,
            "queue": letter.queue,
            "kept": letter.kept,
            "can_resend": letter.can_resend,
            "reason": letter.reason,
        }
        for letter in adapters.dead_letters.all()
    )
    return _rendered(rows, as_json=options.json)


def _resolve_letters(options: argparse.Namespace, settings: Settings, adapters: wiring.Adapters) -> Iterator[str]:  # noqa: ARG001
    waiting = {letter.id: letter for letter in adapters.dead_letters.all()}
    wanted = list(dict.fromkeys(options.id))
    unknown = [text for text in wanted if text not in waiting]
    if unknown:
        raise Rejected("no such letter; nothing was done", id=_quoted(unknown))
    letters = [waiting[text] for text in wanted]
    stuck = [letter.id for letter in letters if not letter.can_resend]
    if options.resend and stuck:
        raise Rejected(
            "the message does not follow its schema and cannot be sent again; nothing was done", id=_quoted(stuck)
        )
    for letter in letters:
        if options.resend:
            adapters.queues.send(letter.queue, letter.body)
        adapters.dead_letters.resolve(letter)
        yield f"{'sent again' if options.resend else 'dropped'}: {letter.id}"


def tenants(adapters: wiring.Adapters) -> Iterator[Tenant]:
    """Every tenant there is, shard by shard."""
    for shard in range(SHARDS):
        after = None
        while page := adapters.deks.scan(shard, after, _PAGE):
            yield from page
            after = page[-1].tenant
            if len(page) < _PAGE:
                break


def _in_json(cell: _Cell) -> str | int | None:
    return f"{cell.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if isinstance(cell, datetime) else cell


def _in_table(cell: _Cell) -> str:
    match cell:
        case None:
            return ""
        case bool():
            return "yes" if cell else "no"
        case datetime():
            return f"{cell.astimezone(UTC):%Y-%m-%d %H:%M}"
        case _:
            return str(cell)


def _rendered(rows: Iterable[_Row], *, as_json: bool) -> Iterator[str]:
    """Rows as JSON lines as they come, or as one aligned table."""
    if as_json:
        for row in rows:
            yield json.dumps({name: _in_json(cell) for name, cell in row.items()})
        return
    table = [{name: _in_table(cell) for name, cell in row.items()} for row in rows]
    if not table:
        yield "none"
        return
    names = list(dict.fromkeys(name for row in table for name in row))
    heads = {name: f"{name} (UTC)" if name in _TIMES else name for name in names}
    widths = {name: max(len(heads[name]), *(len(row.get(name, "")) for row in table)) for name in names}
    for line in (heads, *table):
        yield "  ".join(f"{line.get(name, ''):<{widths[name]}}" for name in names).rstrip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
