"""`python -m shared.redact.scan`: looks for secrets in the files of a repository, its commits, or the next one.

With the patterns that mask the logs, and one thing more: in source code most that follows `password =` is an
expression, so the value of a telling name counts only if it could be one. Prints places and kinds, never a value.
"""

import argparse
import re
import secrets
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shared.errors import InvalidSettings
from shared.redact import config
from shared.redact.command_line import Parser
from shared.redact.engine import MASK, VALUE, Engine

ALLOWED: Final = Path(".ci/allowed-secrets.toml")
"""Secrets that were planted on purpose, in the folder that is looked through; in the style of the redaction file."""
EXIT_FOUND: Final = 1
EXIT_WRONG: Final = 2
_LARGEST: Final = 5 * 2**20
_SCISSORS: Final = re.compile(r"^. -+ >8 -+$", re.MULTILINE)
"""What is behind it in the file of a message, git leaves out."""
_HUNK: Final = re.compile(r"@@ -\S+ \+(\d+)")
# Values of telling names that are no secret: expressions, templates, names, words, types, paths.
_EXPRESSION: Final = re.compile(
    r"""[A-Za-z_$@.\[\]/<>:*|?!~-]*\.?  # words, paths, types: a secret that was drawn has digits
    | .*[(){}<>$|*?\[\]].*              # calls, templates, types, regular expressions
    | [A-Z][A-Z0-9_]*                   # constants
    | [a-z_][a-z0-9_]*(?:\.[a-z_][a-z0-9_]*)+  # attributes
    | sha(?:256-[A-Za-z0-9+/]{43}=|384-[A-Za-z0-9+/]{64}|512-[A-Za-z0-9+/]{86}==)  # hashes of packages
    | .*\s.*                            # sentences
    | (?:\\x[0-9a-f]{2}){1,7}           # a few bytes
    | [0-9.,:;_-]*                      # numbers, versions
    | (.)\1*                            # placeholders""",
    re.VERBOSE | re.DOTALL,
)
_SHORTEST: Final = 8
_BY_CONTEXT: Final = {VALUE, "url-password", "xml-password"}
"""Kinds that are known by what stands around them alone."""


@dataclass(frozen=True, slots=True)
class Text:
    """Lines to look through, and what they are called."""

    place: str
    first_line: int
    text: str


def look_through(texts: Iterable[Text], engine: Engine) -> Iterator[str]:
    """`place:line: kind` of every secret."""
    for each in texts:
        for finding in engine.find(each.text):
            if finding.kind in _BY_CONTEXT and not _could_be_a_secret(each.text[finding.start : finding.end]):
                continue
            line = each.first_line + each.text.count("\n", 0, finding.start)
            yield f"{_masked(each.place, engine)}:{line}: {finding.kind}"


def _masked(place: str, engine: Engine) -> str:
    """A place without what is secret in its name."""
    for finding in reversed(engine.find(place)):
        place = f"{place[: finding.start]}{MASK}{finding.kind}]{place[finding.end :]}"
    return place


def tree(root: Path) -> Iterator[Text]:
    """Every file that git knows or would add, and its name."""
    for name in _names(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard"):
        yield Text(f"name of {name}", 1, name)
        path = root / name
        if path.is_file() and path.stat().st_size <= _LARGEST:
            yield Text(name, 1, _plain(path.read_bytes().decode(errors="replace")))


def history(root: Path) -> Iterator[Text]:
    """Every line that a commit of any branch or tag has added, merges included; all names and messages."""
    for name in _names(
        root, "log", "--all", "--diff-merges=first-parent", "--no-renames", "--name-only", "-z", "--format="
    ):
        yield Text(f"name of {name}", 1, name)
    for number, ref in enumerate(_git(root, "for-each-ref", "--format=%(refname)").splitlines(), 1):
        yield Text("names of branches and tags", number, ref)
    for tag in _git(root, "for-each-ref", "--format=%(objecttype) %(objectname)", "refs/tags").splitlines():
        kind, _, tagged = tag.partition(" ")
        if kind == "tag":
            yield Text(f"tag {tagged[:7]}", 1, _git(root, "cat-file", "tag", tagged))
    for message in _git(root, "log", "--all", "-z", "--format=%h%n%an <%ae>, %cn <%ce>%n%B").split("\0"):
        name, _, text = message.partition("\n")
        yield Text(f"message of {name}", 0, text)  # line 0 is its author
    seen: set[str] = set()
    mark = f"commit {secrets.token_hex(16)} "  # nothing that a commit holds can pass for it
    log = _git(root, "log", "--all", "--diff-merges=first-parent", f"--format={mark}%h", *_PATCH)
    for commit in log.split(mark)[1:]:
        name, _, patch = commit.partition("\n")
        for added in _added(patch):
            if added.text not in seen:
                seen.add(added.text)
                yield Text(f"{name.strip()} {added.place}", added.first_line, added.text)


def staged(root: Path) -> Iterator[Text]:
    """Every line that the next commit would add, and the names of the files."""
    for name in _names(root, "diff", "--cached", "--no-renames", "--name-only", "-z"):
        yield Text(f"name of {name}", 1, name)
    yield from _added(_git(root, "diff", "--cached", *_PATCH))


def message(file: Path) -> Iterator[Text]:
    """What a commit will say, as git keeps it in that file."""
    written = file.read_bytes().decode(errors="replace")
    yield Text("message", 1, _SCISSORS.split(written, maxsplit=1)[0])


_PATCH: Final = (
    "--patch",
    "--text",
    "--unified=0",
    "--no-color",
    "--no-ext-diff",
    "--no-textconv",
    "--no-renames",
    "--no-prefix",
)


def _added(patch: str) -> Iterator[Text]:
    place, first, lines = "", 0, list[str]()
    for line in patch.split("\n"):
        if lines and not line.startswith("+"):
            yield Text(place, first, "\n".join(lines))
            lines = []
        if line.startswith("+++ ") and not lines and not first:
            place = line[4:].rstrip("\t")
        elif line.startswith("diff --git "):
            first = 0
        elif hunk := _HUNK.match(line):
            first = int(hunk.group(1))
        elif line.startswith("+") and first:
            lines.append(_plain(line[1:]))
    if lines:
        yield Text(place, first, "\n".join(lines))


def _plain(text: str) -> str:
    """The text without NUL: so what is in UTF-16, as PowerShell writes it, can be read, and what is in binary files."""
    return text.replace("\0", "")


def _could_be_a_secret(value: str) -> bool:
    value = value.partition("\\n")[0]  # a line break in a text in source code
    return len(value) >= _SHORTEST and not _EXPRESSION.fullmatch(value)


def _names(root: Path, *arguments: str) -> Sequence[str]:
    return sorted({*_git(root, *arguments).split("\0")} - {""})


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), "-c", "core.quotePath=false", *arguments]
    return subprocess.run(command, capture_output=True, check=True).stdout.decode(errors="replace")


def main(arguments: Sequence[str]) -> int:
    """0: nothing found, 1: something, 2: it could not be looked for."""
    options = _parser().parse_args(arguments)
    root: Path = options.root
    sources = {
        "tree": lambda: tree(root),
        "history": lambda: history(root),
        "staged": lambda: staged(root),
        "message": lambda: message(options.message),
    }
    wanted = [name for name in sources if getattr(options, name)] or ["tree", "history"]
    allowed = [root / ALLOWED] if (root / ALLOWED).is_file() else []
    try:
        engine = config.load(*options.redaction, *allowed).engine()
        found = [line for name in wanted for line in look_through(sources[name](), engine)]
    except InvalidSettings as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_WRONG
    except subprocess.CalledProcessError as error:
        sys.stderr.write(f"git: {error.stderr.decode(errors='replace').strip()}\n")
        return EXIT_WRONG
    except OSError as error:
        sys.stderr.write(f"{error.filename}: {error.strerror}\n")
        return EXIT_WRONG
    sys.stdout.writelines(f"{line}\n" for line in found)
    if found:
        sys.stderr.write(f"{len(found)} found in {' and '.join(wanted)}; what is no secret is listed in {ALLOWED}\n")
    return EXIT_FOUND if found else 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m shared.redact.scan",
        description="Look for secrets in a git repository: by default in its files and all its commits.",
        epilog="example: python -m shared.redact.scan --staged",
    )
    parser.add_argument("root", type=Path, nargs="?", default=Path(), help="the repository (default: this folder)")
    parser.add_argument("--tree", action="store_true", help="files that are tracked or would be added")
    parser.add_argument(
        "--history", action="store_true", help="lines that commits of any branch have added, names and messages"
    )
    parser.add_argument("--staged", action="store_true", help="lines that the next commit would add")
    parser.add_argument("--message", type=Path, metavar="FILE", help="the message of the next commit, in that file")
    parser.add_argument(
        "--redaction", type=Path, action="append", default=[], metavar="FILE", help="further patterns, in TOML"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
