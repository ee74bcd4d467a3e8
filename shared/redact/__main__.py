"""`python -m shared.redact`: a filter for pipes, from stdin to stdout, line by line."""

import argparse
import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, TextIO

from shared.errors import InvalidSettings
from shared.redact import config, mask, masked
from shared.redact.command_line import Parser
from shared.redact.engine import begins_private_key, continues_private_key, ends_private_key

EXIT_WRONG: Final = 2


def main(arguments: Sequence[str]) -> int:
    """Mask what comes in until it ends; 2 if a line or the command is wrong."""
    options = _parser().parse_args(arguments)
    if sys.stdin is None or sys.stdout is None:
        sys.stderr.write("stdin and stdout must be open\n")
        return EXIT_WRONG
    for stream in (sys.stdin, sys.stdout):
        # Any bytes pass: what is no UTF-8 comes out as it went in.
        stream.reconfigure(encoding="utf-8", errors="surrogateescape", newline="\n")  # type: ignore[union-attr] # they are text files
    try:
        if options.redaction:
            config.apply(options.redaction)
        for line in _json_lines(sys.stdin) if options.json else _lines(sys.stdin):
            sys.stdout.write(line)
            sys.stdout.flush()
    except (InvalidSettings, _Wrong) as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_WRONG
    except BrokenPipeError:
        # Whoever read has enough. What is left in the buffer must go somewhere, or Python complains at its end.
        _forget_output()
        return 128 + signal.SIGPIPE
    except OSError as error:
        sys.stderr.write(f"{error.strerror}\n")
        _forget_output()
        return EXIT_WRONG
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


def _forget_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Wrong(Exception):
    """A line that is not as it must be; says which one and nothing of what is in it."""


def _lines(source: TextIO) -> Iterator[str]:
    """Lines, masked. Of a private key that goes over several there is the mask, and the rest is left out."""
    inside = False
    for line in source:
        if inside and continues_private_key(line):
            inside = not ends_private_key(line)
            continue
        inside = begins_private_key(line)
        found = mask(line)
        yield found if found.endswith("\n") or not line.endswith("\n") else f"{found}\n"


def _json_lines(source: TextIO) -> Iterator[str]:
    for number, line in enumerate(source, 1):
        try:
            document = json.loads(line)
        except (ValueError, RecursionError):
            raise _Wrong(f"line {number}: not JSON") from None
        if not isinstance(document, dict) or document.keys() != {"text"} or not isinstance(document["text"], str):
            raise _Wrong(f'line {number}: must be an object with the one field "text", a string')
        text, found = masked(document["text"])
        yield json.dumps({"text": text, "found": found}) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m shared.redact",
        description="Mask the secrets in what comes by stdin, line by line.",
        epilog="example: az webapp log tail ... | python -m shared.redact; "
        """printf '{"text": "password=hunter2"}' | python -m shared.redact --json""",
    )
    parser.add_argument(
        "--json", action="store_true", help='JSON Lines, {"text": ...} to {"text": ..., "found": [kinds]}'
    )
    parser.add_argument("--redaction", type=Path, metavar="FILE", help="further patterns and exceptions, in TOML")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
