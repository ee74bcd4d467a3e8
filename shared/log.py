"""Logging through which no key material can pass.

Every handler formats through `MaskingFormatter`: one JSON object a line, masked as the last step, on the final text
with traceback, stack and extras. If masking fails the line is dropped and counted, never let through.
"""

import json
import logging
import sys
from collections.abc import Iterable
from typing import Final

from shared.redact import mask

_STANDARD_FIELDS: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class MaskingFormatter(logging.Formatter):
    """Renders a record as one line of JSON and masks it."""

    dropped = 0
    """Lines dropped by this process because masking failed."""

    def format(self, record: logging.LogRecord) -> str:
        """The masked line, or a constant one when anything in rendering or masking fails."""
        try:
            return mask(self._render(record))
        except Exception:  # noqa: BLE001 - whatever failed, the unmasked line must not get out
            type(self).dropped += 1
            return '{"level": "ERROR", "event": "a log line could not be masked and was dropped"}'

    def _render(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "logger": record.name,
            "event": record.getMessage(),
        }
        fields |= {name: value for name, value in vars(record).items() if name not in _STANDARD_FIELDS}
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        if record.stack_info:
            fields["stack"] = self.formatStack(record.stack_info)
        return json.dumps(fields, default=str)  # ASCII, so that no stream can refuse the line


def configure(level: str) -> None:
    """Put the masking on every handler there is, or on a new one to stderr; quiet the SDKs below WARNING.

    A handler that cannot write says nothing: what Python would print of it on stderr is the unmasked record.

    Idempotent. In Azure the Functions worker has installed its own handler on the root logger; it keeps its place and
    gets our formatter.
    """
    logging.raiseExceptions = False
    root = logging.getLogger()
    root.setLevel(level)
    if not root.handlers:
        root.addHandler(logging.StreamHandler(sys.stderr))
    for handler in _all_handlers():
        if not isinstance(handler.formatter, MaskingFormatter):
            handler.setFormatter(MaskingFormatter())
    for noisy in ("azure", "urllib3", "msal"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))


def _all_handlers() -> Iterable[logging.Handler]:
    yield from logging.getLogger().handlers
    for logger in tuple(logging.Logger.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger):
            yield from logger.handlers
