"""What the command lines of several commands have in common."""

import argparse
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from rotation.audit import MAX_REASON, time_text
from rotation.commands.ports import Command, OfflineCommand
from shared.errors import Rejected

WAIT_S: Final = 60
MOST: Final = 10**6 - 1
"""The largest number that an option can have."""

type Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - argparse has no other name for it


WHOLE_LINES: Final = argparse.RawDescriptionHelpFormatter
"""An example stays on one line, so that it can be copied."""
_YEARS: Final = range(2000, 3000)


def example(command: str) -> str:
    """The last line of a command's help."""
    return f"example: python -m rotation --settings .stack/local.settings.json {command}"


def add_command(
    commands: Commands, name: str, purpose: str, command: Command, *, sample: str
) -> argparse.ArgumentParser:
    """A command with its help."""
    parser = commands.add_parser(
        name,
        help=purpose,
        description=purpose,
        epilog=example(sample),
        formatter_class=WHOLE_LINES,
    )
    parser.set_defaults(command=command)
    return parser


def add_offline(
    commands: Commands, name: str, purpose: str, command: OfflineCommand, *, sample: str
) -> argparse.ArgumentParser:
    """A command that needs neither settings nor a network."""
    epilog = f"example: python -m rotation {sample}"
    parser = commands.add_parser(name, help=purpose, description=purpose, epilog=epilog, formatter_class=WHOLE_LINES)
    parser.set_defaults(offline=command)
    return parser


def add_group(commands: Commands, name: str, purpose: str, *, sample: str) -> Commands:
    """A word that other commands stand behind."""
    epilog = example(sample)
    parser = commands.add_parser(name, help=purpose, description=purpose, epilog=epilog, formatter_class=WHOLE_LINES)
    return parser.add_subparsers(required=True)


def add_json(parser: argparse.ArgumentParser, what: str = "one JSON object a line") -> None:
    """The option --json."""
    parser.add_argument("--json", action="store_true", help=what)


def add_check(parser: argparse.ArgumentParser, found: str) -> None:
    """The option --check."""
    parser.add_argument("--check", action="store_true", help=f"exit with code 5 if {found}")


def add_origin(parser: argparse.ArgumentParser, verb: str) -> None:
    """The options that say who asks, and why."""
    parser.add_argument(
        "--reason",
        type=_reason,
        default=f"operator asked to {verb}",
        help=f"recorded in the audit trail: 1 to {MAX_REASON} characters",
    )
    parser.add_argument(
        "--actor", help="recorded in the audit trail: A-Z a-z 0-9 . _ : @ / + -; default: the name of your user"
    )


def add_wait(parser: argparse.ArgumentParser, behind: str) -> None:
    """The option --wait, which has to stand behind the arguments."""
    parser.add_argument(
        "--wait",
        nargs="?",
        type=number("a number of seconds", MOST, f", and stand behind {behind}"),
        const=WAIT_S,
        metavar="SECONDS",
        help=f"wait until it is done, {WAIT_S} s unless given; stands behind {behind}",
    )


def moment(text: str) -> datetime:
    """Reads a date, or a date with a time; UTC unless it says otherwise."""
    try:
        read = datetime.fromisoformat(text)
        utc = (read if read.tzinfo else read.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        utc = None
    if utc is None or utc.year not in _YEARS:
        raise argparse.ArgumentTypeError(f"must be a date like 2026-11-01, or with a time: 2026-11-01T14:30Z: {text!r}")
    return utc


def ensure_order(first: datetime | None, last: datetime | None, names: str) -> None:
    """Rejected if a range of time is empty."""
    if first is not None and last is not None and first >= last:
        raise Rejected(f"the range of time is empty: {names}", first=time_text(first), last=time_text(last))


def _reason(text: str) -> str:
    if not text.strip() or not text.isprintable() or len(text) > MAX_REASON:
        raise argparse.ArgumentTypeError(f"must have 1 to {MAX_REASON} printable characters on one line")
    return text


def matching(pattern: str, what: str) -> Callable[[str], str]:
    """Reads what follows a pattern."""

    def read(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise argparse.ArgumentTypeError(f"must be {what}: {text!r}")
        return text

    return read


def number(what: str, most: int = MOST, besides: str = "", least: int = 1) -> Callable[[str], int]:
    """Reads a whole number that an option is given."""

    def read(text: str) -> int:
        if not re.fullmatch("[0-9]{1,6}", text) or not least <= int(text) <= most:
            limits = f"{least} or more" if most == MOST else f"{least} to {most}"
            raise argparse.ArgumentTypeError(f"must be {what}, {limits}{besides}: {text!r}")
        return int(text)

    return read
