"""`python -m local`: run the demo, or leave a local stack up to work with."""

import argparse
import json
import os
import re
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final

from local import demo
from local.events import event
from local.process import die_with_parent
from local.server_process import ServerStartError
from local.serving import StateInUseError
from local.stack import (
    ANY_PORTS,
    AZURITE_PORTS,
    HOST_PORT,
    ROOT,
    VAULT_PORT,
    PortTakenError,
    Stack,
    running,
)
from local.storage import AzuriteError
from shared.clock import MovableClock

_LOOK_EVERY_S: Final = 1.0


def main(arguments: Sequence[str]) -> int:
    """Run one command; 0 if all is well, 1 if a promise was broken, 2 if the stack could not start or stay."""
    options = _parser().parse_args(arguments)
    if options.die_with_parent:
        die_with_parent(os.getppid(), signal.SIGTERM)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        code: int = options.command(options)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read has enough. What is left in the buffer must go somewhere, or Python complains at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except PortTakenError as error:
        print(f"{error}; end it, or use ARGS='--any-ports --folder <another folder>'", file=sys.stderr)
        return 2
    except (StateInUseError, AzuriteError, ServerStartError) as error:
        print(error, file=sys.stderr)
        return 2
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m local", description="The local stack of ATP key rotation.")
    parser.add_argument("--die-with-parent", action="store_true", help="end when the process that started this ends")
    commands = parser.add_subparsers(required=True)
    run = commands.add_parser(
        "run",
        help="rotate the DEKs of many tenants under load and check every promise",
        epilog="example: python -m local run --tenants 500 --json result.json",
    )
    run.add_argument("--tenants", type=partial(_at_least, 1), default=200, help="how many (default 200)")
    run.add_argument("--json", type=Path, metavar="FILE", help="write the summary as JSON as well")
    run.set_defaults(command=lambda options: demo.run(options.tenants, options.json))
    serve = commands.add_parser(
        "serve",
        help="start the stack and leave it up until Ctrl-C; what it stores survives a restart",
        epilog="example: python -m local serve --hosts 2",
    )
    serve.add_argument(
        "--hosts", type=partial(_at_least, 0), default=1, help="functions hosts (default 1); 0 to use `func start`"
    )
    serve.add_argument("--folder", type=Path, default=ROOT / ".stack", help="where to keep everything")
    serve.add_argument("--any-ports", action="store_true", help="free ports instead of the usual ones")
    serve.set_defaults(command=_serve)
    clock = commands.add_parser(
        "clock",
        help="move the time of a stack that is being served, for its vault and its hosts alike",
        epilog="example: python -m local clock --days 8",
    )
    clock.add_argument("--days", type=partial(_at_least, 0), default=0, help="forward by so many days (default 0)")
    clock.add_argument("--minutes", type=partial(_at_least, 0), default=0, help="and so many minutes (default 0)")
    clock.add_argument("--folder", type=Path, default=ROOT / ".stack", help="where that stack keeps everything")
    clock.set_defaults(command=_move_clock)
    return parser


def _at_least(least: int, text: str) -> int:
    if not re.fullmatch("[0-9]{1,6}", text) or int(text) < least:
        raise argparse.ArgumentTypeError(f"must be {least} or more")
    return int(text)


def _serve(options: argparse.Namespace) -> int:
    fixed = not options.any_ports
    with running(
        options.folder,
        keep=True,
        azurite_ports=AZURITE_PORTS if fixed else ANY_PORTS,
        vault_port=VAULT_PORT if fixed else 0,
    ) as stack:
        hosts = [stack.add_host(port=HOST_PORT + number if fixed else 0, lease_s=30) for number in range(options.hosts)]
        operate = f".venv/bin/python -m rotation --settings {shlex.quote(_relative(stack.settings_file))}"
        storage = ", ".join(
            f"{name} {port}" for name, port in zip(("blob", "queue", "table"), stack.azurite.ports, strict=True)
        )
        print("The local stack is up. Ctrl-C ends it; what it stores is kept.\n")
        for name, place in (
            ("functions", ", ".join(host.url for host in hosts) or "none: run `func start`"),
            ("key vault", stack.vault.url),
            ("storage", f"127.0.0.1: {storage}"),
            ("settings", _relative(stack.settings_file)),
            ("logs and state", _relative(stack.folder)),
        ):
            print(f"  {name:<15} {place}")
        print("\nTry:")
        print(f"  {operate} tenant add acme globex --wait")
        print(f"  {operate} tenant list")
        print(f"  {operate} tenant rotate acme --reason 'to see it work' --wait")
        print(f"  {operate} plan kek master-kek")
        print(f"  {operate} kek rotate master-kek --reason 'to see it work' --wait")
        print(f"  {operate} kek status master-kek")
        print(f"  {operate} alerts")
        for host in hosts[:1]:
            print(f"  curl {host.url}/api/health")
            print(f"  curl {host.url}/admin/functions/plan_daily -H 'Content-Type: application/json' -d '{{}}'")
            print(f"  curl '{host.url}/runtime/webhooks/eventgrid?functionName=key_vault_event' \\")
            told = shlex.quote(f"@{_relative(_told(stack))}")
            print(f"    -H 'aeg-event-type: Notification' -H 'Content-Type: application/json' -d {told}")
        sys.stdout.flush()
        while (ended := stack.ended()) is None:
            time.sleep(_LOOK_EVERY_S)
        name, log = ended
        print(f"{name} has ended by itself, so the stack ends; see {_relative(log)}", file=sys.stderr)
    return 2


def _told(stack: Stack) -> Path:
    """A file with the event that the key which signs checkpoints has a new version, as Event Grid would post it."""
    key = stack.adapters.key_client.get_key(stack.settings.audit_signing_key)
    file = stack.folder / "new-version.json"
    file.write_text(json.dumps([event("KeyNewVersionCreated", str(key.id), stack.clock)]))
    return file


def _move_clock(options: argparse.Namespace) -> int:
    if not (options.folder / "stack.json").exists():
        print(f"no stack keeps its things in {options.folder}: start one with `make serve`", file=sys.stderr)
        return 2
    clock = MovableClock(options.folder / "clock")
    clock.move(timedelta(days=options.days, minutes=options.minutes))
    print(f"it is {clock():%Y-%m-%d %H:%M} UTC for that stack now")
    return 0


def _relative(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
