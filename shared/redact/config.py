"""The redaction file: further shapes to mask, and what looks like a secret and is none.

A TOML file with one table per entry, as the catalog. All mistakes are reported at once, each with file, entry and
reason; a field that nobody reads is a mistake too.
"""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shared.errors import InvalidSettings
from shared.files import text_of
from shared.redact import use
from shared.redact.engine import MASK, PRIVATE_KEY, VALUE, Engine, compiled
from shared.redact.patterns import AZURE, GENERAL, VENDORS, Pattern

_NAME: Final = re.compile(r"[a-z0-9-]{1,40}")
_OWNER: Final = re.compile(r"[0-9a-zA-Z-]{1,127}")
_LONGEST_SHAPE: Final = 1_000
_KINDS: Final = {"known", "many", PRIVATE_KEY, VALUE, *(each.kind for each in (*AZURE, *GENERAL, *VENDORS))}


@dataclass(frozen=True, slots=True)
class Redaction:
    """What is masked beyond what is built in, and what is not."""

    patterns: tuple[Pattern, ...] = ()
    allowed: tuple[str, ...] = ()

    def engine(self) -> Engine:
        """An engine that follows it."""
        return Engine(self.patterns, self.allowed)


def apply(path: Path) -> None:
    """Mask by that file from now on, in the whole process."""
    use(load(path).engine())


def load(*paths: Path) -> Redaction:
    """What the files say together; InvalidSettings names each mistake with its file."""
    found = [parse(text_of(path, InvalidSettings), str(path)) for path in paths]
    return Redaction(
        tuple(pattern for each in found for pattern in each.patterns),
        tuple(shape for each in found for shape in each.allowed),
    )


def parse(text: str, source: str) -> Redaction:
    """What is written in `text`; `source` names it in mistakes."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidSettings(f"{source}: not TOML: {error}") from None
    mistakes: list[str] = []
    patterns: list[Pattern] = []
    allowed: list[str] = []
    for name, table in tables.items():
        entry = _Entry(name, table, mistakes)
        match entry.kind:
            case "pattern":
                if name in _KINDS:
                    entry.mistake("there is a pattern of this name already")
                shape = entry.shape(groups=1)
                patterns.append(Pattern(name, entry.trigger(shape), shape))
            case "allow":
                allowed.append(entry.shape(groups=0))
                entry.text("reason", re.compile(r".{3,200}"))
            case kind:
                entry.mistake(f"kind is {kind!r}; known kinds: 'allow', 'pattern'")
                continue
        entry.text("owner", _OWNER)
        entry.finish()
    if mistakes:
        raise InvalidSettings("\n".join(f"{source}: {mistake}" for mistake in mistakes))
    return Redaction(tuple(patterns), tuple(allowed))


class _Entry:
    """Reads one table field by field and collects what is wrong with it."""

    def __init__(self, name: str, table: object, mistakes: list[str]) -> None:
        self._name = name
        self._mistakes = mistakes
        self._fields = dict(table) if isinstance(table, dict) else {}
        if not isinstance(table, dict):
            self.mistake("must be a table, as in [name]")
        elif not _NAME.fullmatch(name):
            self.mistake("the name must be 1 to 40 of 0-9 a-z and dash: it stands in the mask")
        self.kind = self._fields.pop("kind", None)

    def mistake(self, reason: str) -> None:
        self._mistakes.append(f"[{self._name}] {reason}")

    def text(self, field: str, grammar: re.Pattern[str]) -> str:
        value = self._fields.pop(field, None)
        if isinstance(value, str) and grammar.fullmatch(value):
            return value
        self.mistake(f"{field}: " + ("is missing" if value is None else f"does not match {grammar.pattern}"))
        return ""

    def shape(self, groups: int) -> str:
        """A regular expression that both engines understand; group 1, if there is one, is the secret."""
        return self._expression("shape", self._fields.pop("shape", None), groups) or "(?:x{9})"

    def trigger(self, shape: str) -> str:
        """What every find has in it; the shape itself where nothing is said."""
        given = self._fields.pop("trigger", None)
        return shape if given is None else self._expression("trigger", given, 0) or shape

    def finish(self) -> None:
        for field in self._fields:
            self.mistake(f"{field}: unknown field")

    def _expression(self, field: str, value: object, groups: int) -> str | None:
        if not isinstance(value, str) or len(value) > _LONGEST_SHAPE:
            reason = "is missing" if value is None else f"must be text of at most {_LONGEST_SHAPE} characters"
            self.mistake(f"{field}: {reason}")
            return None
        try:
            compiled(value)
            pattern = re.compile(value, re.ASCII)
        except (ValueError, re.error) as error:
            self.mistake(f"{field}: not a regular expression: {error}")
            return None
        if pattern.groups > groups:
            self.mistake(f"{field}: has {pattern.groups} groups; at most {groups} can be used")
        elif pattern.search("") or pattern.search(f"{MASK}known]"):
            self.mistake(f"{field}: finds what is no secret: an empty text, or a mask")
        return value
