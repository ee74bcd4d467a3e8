"""What leaves the process otherwise than by a log line: rows, messages, answers."""

from collections.abc import Collection, Mapping
from typing import Any

from shared.redact import find, mask


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


def ensure_clean(text: str) -> None:
    """ValueError if there is a secret in a text that must be stored as it is."""
    if find(text):
        raise ValueError("a secret is in a text that is stored as it is")
