"""The operator's command line: `python -m rotation`. Changes are asked for by queue message, as anybody else's are."""

import argparse
import io
import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rotation.commands import (
    alerts,
    audit_list,
    audit_proof,
    calendar,
    inventory,
    kek_history,
    kek_orders,
    kek_plan,
    kek_status,
    letters,
    policies,
    secret_drop,
    secret_orders,
    secret_status,
)
from rotation.commands import tenants as tenant_commands
from rotation.commands.grammar import WHOLE_LINES, add_group, example
from rotation.commands.tenants import tenants
from shared import log
from shared.errors import (
    AtpError,
    Conflict,
    Different,
    Disabled,
    Integrity,
    InvalidSettings,
    MissingPackage,
    Rejected,
    Transient,
    Waiting,
)
from shared.redact import config, mask
from shared.redact.command_line import Parser
from shared.settings import Settings

__all__ = ["EXIT_DIFFERENT", "EXIT_INTEGRITY", "EXIT_REJECTED", "EXIT_UNAVAILABLE", "main", "tenants"]

EXIT_REJECTED: Final = 2  # the request has to change
EXIT_UNAVAILABLE: Final = 3  # try again later
EXIT_INTEGRITY: Final = 4  # stop and call somebody
EXIT_DIFFERENT: Final = 5  # what was compared is not the same

_EXIT_CODES: Final = """exit codes:
  0  done
  2  the request has to change
  3  try again later, or a person has to act first
  4  what is stored cannot be: stop and call somebody
  5  --check was given, and something is not the same"""
_EXAMPLE: Final = "--settings .stack/local.settings.json"


def main(arguments: Sequence[str]) -> int:
    """Run one command; the exit code says how it went: 0, or one of the EXIT_ codes."""
    options = _parser().parse_args(arguments)
    try:
        for line in _lines(options):
            with _output():
                print(mask(line))
        with _output():
            sys.stdout.flush()
    except AtpError as error:
        print(mask(f"{type(error).__name__}: {error}{_advice(error)}"), file=sys.stderr)
        if isinstance(error, Different):
            return EXIT_DIFFERENT
        if isinstance(error, Integrity):
            return EXIT_INTEGRITY
        return EXIT_UNAVAILABLE if isinstance(error, Transient | Conflict | Waiting | Disabled) else EXIT_REJECTED
    except BrokenPipeError:  # whoever read has enough
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


@contextmanager
def _output() -> Iterator[None]:
    """Rejected, or BrokenPipeError, if what is said goes nowhere."""
    try:
        yield
    except OSError as error:
        # What is left in the buffer must go somewhere, or Python complains at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        raise Rejected(f"the output cannot be written: {error.strerror}") from None


def _lines(options: argparse.Namespace) -> Iterator[str]:
    """What the command has to say, as it comes."""
    log.configure("ERROR")  # what a warning would say of a command that was typed, the command says itself
    if "offline" in options:
        yield from options.offline(options)
        return
    settings = _settings(options.settings)
    config.apply(settings.redaction)
    # Only here: who verifies an audit trail needs no Azure package.
    try:
        from shared.azure import wiring
    except ModuleNotFoundError as error:
        what = "this command needs all packages of requirements.txt, and one is not installed"
        raise MissingPackage(what, package=error.name) from None

    yield from options.command(options, settings, wiring.Adapters(settings))


def _advice(error: AtpError) -> str:
    """What to do about a refusal; no status at all is a sign-in that failed before anything was sent."""
    refused = "status" in error.fields and error.fields["status"] in (None, 401, 403)
    return ": no access: sign in (az login) or check the key" if refused else ""


def _parser() -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = Parser(
        prog="python -m rotation",
        description="Operate ATP key rotation.",
        epilog=f"{_EXIT_CODES}\n\n{example('tenant list')}",
        formatter_class=WHOLE_LINES,
    )
    parser.add_argument("--settings", type=Path, help="a local.settings.json to read instead of the environment")
    names = "{tenant,plan,kek,secret,inventory,policies,calendar,audit,alerts,letters}"
    nouns = parser.add_subparsers(required=True, metavar=names)
    tenant_commands.add_to(nouns)
    purpose = "what a rotation would cost, without doing anything"
    kek_plan.add_to(add_group(nouns, "plan", purpose, sample="plan kek master-kek --deadline 4"))
    purpose = "rotate KEKs, pause, resume and roll back rotations, see how far they are"
    kek = add_group(nouns, "kek", purpose, sample="kek status master-kek")
    kek_orders.add_to(kek)
    kek_status.add_to(kek)
    kek_history.add_to(kek)
    purpose = "rotate secrets, roll back, hand over values, see where they stand"
    secret = add_group(nouns, "secret", purpose, sample="secret status")
    secret_orders.add_to(secret)
    secret_drop.add_to(secret)
    secret_status.add_to(secret)
    inventory.add_to(nouns)
    policies.add_to(nouns)
    calendar.add_to(nouns)
    purpose = "search the audit trail, export and verify it, prove what is in it"
    audit = add_group(nouns, "audit", purpose, sample="audit list --tenant acme --last 20")
    audit_list.add_to(audit)
    audit_proof.add_to(audit)
    alerts.add_to(nouns)
    letters.add_to(nouns)
    return parser


def _settings(file: Path | None) -> Settings:
    if file is not None:
        return Settings.parse(_values(file))
    try:
        return Settings.parse(os.environ)
    except InvalidSettings as error:
        raise InvalidSettings(f"{error.message}; or name a local.settings.json: {_EXAMPLE}") from None


def _values(settings: Path) -> Mapping[str, str]:
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


if __name__ == "__main__":
    log.guard_hooks()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # a checkpoint is signed as UTF-8, whatever the terminal's letters are
    sys.exit(main(sys.argv[1:]))
