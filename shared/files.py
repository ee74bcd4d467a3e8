"""Files that people write and the app reads."""

from pathlib import Path

from shared.errors import Rejected


def text_of(path: Path, wrong: type[Rejected]) -> str:
    """The text in a file in UTF-8; `wrong`, with its name and the reason, if it cannot be had."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise wrong(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise wrong(f"{path}: cannot be read: it is not UTF-8") from None
