"""Reads a table of the catalog field by field and collects everything that is wrong with it.

A field that nobody reads is a mistake too, because it is usually a misspelt one. What is missing or wrong reads as some
value of its type: whoever has read a whole entry asks whether there were mistakes before using it.
"""

import re
from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlsplit

MAX_DAYS: Final = 3650
# Key Vault object names: https://learn.microsoft.com/azure/key-vault/general/about-keys-secrets-certificates
NAME: Final = re.compile(r"[0-9a-zA-Z-]{1,127}")
_NAME_IN_WORDS: Final = "a name (0-9 a-z A-Z -)"
_NOTHING: Final[Any] = object()


class Fields:
    """One table. `where` names it in mistakes."""

    def __init__(self, where: str, table: object, mistakes: list[str]) -> None:
        self._where = where
        self._mistakes = mistakes
        self._fields = dict(table) if isinstance(table, dict) else {}
        if not isinstance(table, dict):
            self.mistake("must be a table")

    def mistake(self, reason: str) -> None:
        """Report one."""
        self._mistakes.append(f"{self._where} {reason}")

    def has(self, field: str) -> bool:
        """Whether the field is there and was not read yet."""
        return field in self._fields

    def name(self, field: str, default: str | None = None) -> str:
        """A name of 0-9 a-z A-Z and dash."""
        return self.matching(field, NAME, _NAME_IN_WORDS, default)

    def matching(self, field: str, grammar: re.Pattern[str], in_words: str, default: str | None = None) -> str:
        """A text that follows a grammar."""
        value = self._fields.pop(field, _NOTHING)
        if value is _NOTHING and default is not None:
            return default
        if isinstance(value, str) and grammar.fullmatch(value):
            return value
        self._wrong(field, value, in_words, tell_when_missing=False)
        return ""

    def text(self, field: str, default: str | None = None, most: int = 1000) -> str:
        """Printable text of limited length."""
        value = self._fields.pop(field, _NOTHING)
        if value is _NOTHING and default is not None:
            return default
        if isinstance(value, str) and value.strip() and value.isprintable() and len(value) <= most:
            return value
        self._wrong(field, value, f"printable text of at most {most} characters")
        return ""

    def one_of(self, field: str, choices: Collection[str], default: str | None = None) -> str:
        """One of the texts."""
        if default is not None and not self.has(field):
            return default
        return self.known(field, choices) or next(iter(choices))

    def known(self, field: str, choices: Collection[str]) -> str | None:
        """One of the texts; None if it is not, for what means nothing without it."""
        value = self._fields.pop(field, _NOTHING)
        if isinstance(value, str) and value in choices:
            return value
        self._wrong(field, value, "one of " + ", ".join(repr(str(choice)) for choice in choices))
        return None

    def integer(self, field: str, least: int, most: int, default: int | None = None) -> int:
        """A whole number in its range."""
        value = self._fields.pop(field, _NOTHING)
        if value is _NOTHING and default is not None:
            return default
        if type(value) is int and least <= value <= most:
            return value
        self._wrong(field, value, f"a whole number from {least} to {most}")
        return least

    def flag(self, field: str, *, default: bool) -> bool:
        """True or false."""
        value = self._fields.pop(field, default)
        if isinstance(value, bool):
            return value
        self._wrong(field, value, "true or false")
        return default

    def days(self, field: str, least: int = 1) -> timedelta:
        """A whole number of days."""
        value = self._fields.pop(field, _NOTHING)
        if type(value) is int and least <= value <= MAX_DAYS:
            return timedelta(days=value)
        self._wrong(field, value, f"a whole number of days from {least} to {MAX_DAYS}")
        return timedelta(days=MAX_DAYS if field == "interval_days" else 0)

    def share(self, field: str, least: float, most: float) -> float:
        """A percentage, answered as a share of 1."""
        value = self._fields.pop(field, _NOTHING)
        if type(value) in (int, float) and least <= value <= most:
            return float(value) / 100
        self._wrong(field, value, f"a percentage from {least:g} to {most:g}")
        return 0.0

    def url(self, field: str, default: str | None = None, schemes: Sequence[str] = ("https",)) -> str:
        """A URL without credentials, query and fragment, and without a slash at its end."""
        value = self._fields.pop(field, _NOTHING)
        if value is _NOTHING and default is not None:
            return default
        if isinstance(value, str) and _is_plain_url(value, schemes):
            return value.rstrip("/")
        self._wrong(field, value, f"a URL ({', '.join(schemes)}) without credentials, query and fragment")
        return ""

    def texts(self, field: str, grammar: re.Pattern[str], in_words: str) -> tuple[str, ...]:
        """A list of different texts that follow a grammar; empty where the field is not there."""
        value = self._fields.pop(field, [])
        if isinstance(value, list) and all(isinstance(item, str) and grammar.fullmatch(item) for item in value):
            if len(set(value)) == len(value):
                return tuple(value)
            self.mistake(f"{field}: names something twice")
        else:
            self._wrong(field, value, f"a list of {in_words}")
        return ()

    def integers(self, field: str, least: int, most: int, default: Sequence[int]) -> tuple[int, ...]:
        """A list of different whole numbers in their range."""
        value = self._fields.pop(field, list(default))
        if isinstance(value, list) and all(type(item) is int and least <= item <= most for item in value):
            if len(set(value)) == len(value):
                return tuple(value)
            self.mistake(f"{field}: names something twice")
        else:
            self._wrong(field, value, f"a list of whole numbers from {least} to {most}")
        return tuple(default)

    def table(self, field: str, *, required: bool = False) -> "Fields":
        """A table within this one; one without fields where it is not there, which is one mistake if required."""
        value = self._fields.pop(field, _NOTHING)
        if value is _NOTHING and required:
            self.mistake(f"{field}: is missing (a table)")
            return Fields(self._where, {}, [])  # what it lacks besides goes without saying
        return Fields(f"{self._where} {field}:", {} if value is _NOTHING else value, self._mistakes)

    def finish(self) -> None:
        """Report what nobody has read."""
        for field in self._fields:
            self.mistake(f"{field} is an unknown field")

    def _wrong(self, field: str, value: object, wanted: str, *, tell_when_missing: bool = True) -> None:
        if value is _NOTHING:
            self.mistake(f"{field}: is missing" + (f" ({wanted})" if tell_when_missing else ""))
        else:
            self.mistake(f"{field}: {value!r} is not {wanted}")


def _is_plain_url(text: str, schemes: Sequence[str]) -> bool:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    plain = not set(text) & set("@?# \\") and text.isascii() and text.isprintable()
    return plain and parts.scheme in schemes and bool(parts.hostname) and port != 0
