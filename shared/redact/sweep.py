"""`python -m shared.redact.sweep`: looks for secrets in what was written already: log files, exported records.

By fingerprints, so that whoever sweeps need not have the secrets: keyed hashes of every eight bytes of a value in a
row. A text is read in every way in which bytes can be written, and of that every eighth position is compared; so a
value of 16 bytes or more is found wherever it begins, and a part of it of 15 bytes, too.
"""

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from shared.redact.command_line import Parser
from shared.redact.known import other_forms, readings

SCHEMA: Final = "atp-fingerprints/1"
SHORTEST: Final = 16
"""Bytes; shorter values, and those with few different bytes, would be found where they are not meant."""
_FEWEST_DIFFERENT: Final = 8
_GRAM: Final = 8
_HASH_BYTES: Final = 8
EXIT_FOUND: Final = 1
EXIT_WRONG: Final = 2


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """Of secrets, and of no use for finding out what they are: eight random bytes are too many to try."""

    key: bytes
    hashes: frozenset[bytes]

    @classmethod
    def of(cls, values: Iterable[bytes], key: bytes | None = None) -> Self:
        """Of every value that is long and random enough."""
        key = os.urandom(16) if key is None else key
        forms = (form for value in values if _is_random(value) for form in (value, *other_forms(value)))
        grams = {gram for form in forms for gram in _windows(form, 1)}
        return cls(key, frozenset(_hash(gram, key) for gram in grams))

    @classmethod
    def parse(cls, text: str) -> Self:
        """What `to_json` has written; ValueError for anything else."""
        try:
            document = json.loads(text)
            key, hashes = bytes.fromhex(document[SCHEMA]), frozenset(map(bytes.fromhex, document["hashes"]))
        except (LookupError, TypeError, ValueError, RecursionError):
            raise ValueError("not a file of fingerprints") from None
        return cls(key, hashes)

    def to_json(self) -> str:
        """To be kept with care all the same: whoever has it can tell whether a guess is right."""
        hashes = sorted(each.hex() for each in self.hashes)
        return json.dumps({SCHEMA: self.key.hex(), "hashes": hashes})

    def are_in(self, text: str) -> bool:
        """Whether a value, or a part of one, is in the text."""
        return any(
            _hash(gram, self.key) in self.hashes for reading in readings(text) for gram in _windows(reading, _GRAM)
        )


def sweep(texts: Iterable[tuple[str, str]], fingerprints: Fingerprints) -> Iterator[str]:
    """The names of those of the (name, text) that hold a secret."""
    return (name for name, text in texts if fingerprints.are_in(text))


def lines_of(file: Path) -> Iterator[tuple[str, str]]:
    """Its lines, named by file and number."""
    with file.open(encoding="utf-8", errors="surrogateescape") as lines:
        for number, line in enumerate(lines, 1):
            yield f"{file}:{number}", line


def _is_random(value: bytes) -> bool:
    return len(value) >= SHORTEST and len(set(value)) >= _FEWEST_DIFFERENT


def _windows(read: bytes, step: int) -> Iterator[bytes]:
    return (read[at : at + _GRAM] for at in range(0, len(read) - _GRAM + 1, step))


def _hash(gram: bytes, key: bytes) -> bytes:
    return hashlib.blake2b(gram, digest_size=_HASH_BYTES, key=key).digest()


def main(arguments: Sequence[str]) -> int:
    """0: nothing found, 1: something, 2: it could not be looked for."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.learn is bool(options.file):
        parser.error("--learn reads standard input and no file" if options.learn else "no file to look in was named")
    try:
        if options.learn:
            learnt = Fingerprints.of(_secrets_in(sys.stdin.buffer))
            options.fingerprints.write_text(learnt.to_json(), encoding="utf-8")
            options.fingerprints.chmod(0o600)
            return 0
        fingerprints = _read(options.fingerprints)
        found = [place for file in options.file for place in sweep(lines_of(file), fingerprints)]
    except OSError as error:
        sys.stderr.write(f"{error.filename or 'stdin'}: {error.strerror}\n")
        return EXIT_WRONG
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_WRONG
    sys.stdout.writelines(f"{place}\n" for place in found)
    return EXIT_FOUND if found else 0


def _secrets_in(lines: Iterable[bytes]) -> Sequence[bytes]:
    """The secret of each line that has one. ValueError if one could not be found: no find would prove nothing."""
    values = {number: value for number, line in enumerate(lines, 1) if (value := line.rstrip(b"\r\n"))}
    unfit = ", ".join(str(number) for number, value in values.items() if not _is_random(value))
    if unfit:
        least = f"{SHORTEST} bytes or more, {_FEWEST_DIFFERENT} of them different"
        raise ValueError(f"cannot be looked for, a secret must have {least}; nothing was written: line {unfit}")
    if not values:
        raise ValueError("stdin has no secret, a line each; nothing was written")
    return list(values.values())


def _read(file: Path) -> Fingerprints:
    try:
        return Fingerprints.parse(file.read_text(encoding="utf-8"))
    except ValueError:
        raise ValueError(f"{file}: not a file of fingerprints") from None


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m shared.redact.sweep",
        description="Look for secrets, known by their fingerprints, in files that were written already.",
        epilog="example: python -m shared.redact.sweep fingerprints.json app.log",
    )
    parser.add_argument("fingerprints", type=Path, help="what to look for")
    parser.add_argument("file", type=Path, nargs="*", help="where: logs, or anything in lines")
    parser.add_argument(
        "--learn", action="store_true", help="write the fingerprints instead, of secrets from stdin, a line each"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
