"""What leaves the process otherwise than by a log line: rows, messages, answers."""

import json
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from shared.redact import MASK, find, mask
from shared.redact.engine import VALUE

HIDDEN: Final = f"{MASK}{VALUE}]"
"""In the place of a text that cannot be told from a secret."""
_NAME: Final = re.compile(r"[A-Za-z0-9._:/+@-]*")


def gated[Row: Mapping[str, Any]](row: Row, free_text: Collection[str] = ()) -> Row | dict[str, Any]:
    """The row as it may be stored: secrets in its free text are masked; ValueError if one is in any other column.

    Such a column has a grammar, and somebody reads it again: masked it would be wrong, and so nothing is stored. Bytes
    pass: they are wrapped keys and hashes.
    """
    texts = {name: value for name, value in row.items() if isinstance(value, str)}
    if not find("\n".join(texts.values())):
        return row
    changed = {name: shown for name, value in texts.items() if (shown := mask(value)) != value}
    if misplaced := changed.keys() - set(free_text):
        raise ValueError(f"a secret is in {', '.join(sorted(misplaced))}")
    return {**row, **changed}


def cleaned(document: object) -> object:
    """A JSON document with the secrets in its texts masked, those in names too."""
    match document:
        case str():
            return mask(document)
        case Mapping():
            return {mask(str(name)): cleaned(value) for name, value in document.items()}
        case list() | tuple():
            return [cleaned(value) for value in document]
        case _:
            return document


def fitting(text: str, whole: Callable[[str], str], longest: int | None = None) -> str:
    """Free text, masked and cut, as it may stand in `whole`: with nothing left to mask, which would break its form.

    A text can be no secret and yet look like one there: escaped, or together with what comes behind it.
    """
    shown = mask(text)[:longest]
    return HIDDEN if find(whole(shown)) else shown


def json_of(texts: Mapping[str, str]) -> str:
    """A JSON object of texts, masked one by one, in which there is nothing left to mask."""
    shown = {mask(name): mask(value) for name, value in texts.items()}
    written = json.dumps(shown)
    if not find(written):
        return written
    return json.dumps({name: value if _NAME.fullmatch(value) else HIDDEN for name, value in shown.items()})


def ensure_clean(text: str) -> None:
    """ValueError if there is a secret in a text that must be stored as it is."""
    if find(text):
        raise ValueError("a secret is in a text that is stored as it is")
