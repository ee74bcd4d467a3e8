"""Logging through which no key material can pass.

Twice, because a handler may belong to somebody else. What loggers hand to handlers, those added later included, is a
copy of the record in which everything is plain, rendered and masked: whatever a foreign handler or formatter makes of
it - the Functions worker reads message and exception itself - it makes of masked text. And our own handlers format
through `MaskingFormatter`: one JSON object a line, masked as the last step, on the final text. If rendering or masking
fails the line is dropped, counted, and said to be so; it is never let through.
"""

import json
import logging
import sys
import threading
import traceback
from collections.abc import Callable, Iterable
from functools import wraps
from types import TracebackType
from typing import Any, Final

from shared.redact import MASK, find, mask
from shared.redact.engine import VALUE

_STANDARD_FIELDS: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_DROPPED: Final = "a log line could not be masked and was dropped"
_call_handlers: Final = logging.Logger.callHandlers


class MaskingFormatter(logging.Formatter):
    """Renders a record as one line of JSON and masks it."""

    dropped = 0
    """Lines dropped by this process because masking failed."""

    def format(self, record: logging.LogRecord) -> str:
        """The masked line, or a constant one when anything in rendering or masking fails."""
        try:
            return mask(self._render(record))
        except Exception:  # noqa: BLE001 - whatever failed, the unmasked line must not get out
            MaskingFormatter.dropped += 1
            return json.dumps({"level": "ERROR", "event": _DROPPED, "dropped": MaskingFormatter.dropped})

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
        elif record.exc_text:
            fields["error"] = record.exc_text
        if record.stack_info:
            fields["stack"] = self.formatStack(record.stack_info)
        return json.dumps(fields, default=str)  # ASCII, so that no stream can refuse the line


def masked_copy(record: logging.LogRecord) -> logging.LogRecord:
    """The record with its message rendered, its error and stack as text, its extras as plain data, all masked.

    It has no `exc_info`: an exception object would bring its arguments and the variables of its frames along.
    """
    fields = vars(record)
    error = logging.Formatter().formatException(record.exc_info) if record.exc_info else record.exc_text
    plain = {name: fields[name] for name in _STANDARD_FIELDS & fields.keys()}
    plain |= {"msg": record.getMessage(), "args": None, "exc_info": None, "exc_text": error}
    extras = {name: _plain(value) for name, value in fields.items() if name not in _STANDARD_FIELDS}
    plain |= extras
    plain["message"] = plain["msg"]
    texts = [*plain, *(value if isinstance(value, str) else _json(value) for value in plain.values())]
    if find("\n".join(texts)) or (extras and find(_json(extras))):
        plain = {mask(name): _masked(value) for name, value in plain.items()}
        plain |= {mask(name): _masked_behind(name, plain[mask(name)]) for name in extras}
    return logging.makeLogRecord(plain)


def _plain(value: object) -> object:
    """An extra as a number, a text, or what JSON makes of it."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    return str(value) if isinstance(value, str) else json.loads(_json(value))


def _masked(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    said = value if isinstance(value, str) else _json(value)
    masked = mask(said)
    return value if masked == said and type(value) is not str else masked


def _masked_behind(name: str, value: object) -> object:
    """The value of a name that may tell what it is: an extra called `password` holds one, whatever it looks like."""
    said = _json({name: value})
    masked = mask(said)
    if masked == said:
        return value
    try:
        (found,) = json.loads(masked).values()
    except ValueError:
        return f"{MASK}{VALUE}]"
    return found


def _json(value: object) -> str:
    return json.dumps(value, default=str)


def _hand_out_masked(logger: logging.Logger, record: logging.LogRecord) -> None:
    """In the place of `Logger.callHandlers`."""
    try:
        copy = masked_copy(record)
    except Exception:  # noqa: BLE001 - whatever failed, the unmasked record must not get out
        MaskingFormatter.dropped += 1
        copy = logging.makeLogRecord(
            {"name": "shared.log", "levelno": logging.ERROR, "levelname": "ERROR", "msg": _DROPPED}
            | {"dropped": MaskingFormatter.dropped}
        )
    _call_handlers(logger, copy)


def configure(level: str) -> None:
    """Hand masked records to all handlers there will be, and our format to those there are, or to a new one on stderr.

    The SDKs are quiet below WARNING, and warnings are logged. A handler that cannot write says nothing: what Python
    would print of it on stderr is the unmasked record.

    Idempotent. In Azure the Functions worker has installed its own handler on the root logger; it keeps its place and
    gets our formatter.
    """
    logging.Logger.callHandlers = _hand_out_masked  # type: ignore[method-assign,assignment] # of every logger
    logging.captureWarnings(capture=True)
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


def masked_errors[**P, R](function: Callable[P, R]) -> Callable[P, R]:
    """For what a host calls: an error that holds a secret comes out as its masked text, and any other as it is.

    The Functions worker sends the text and the stack of an error to the host, past every handler.
    """

    @wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            shown = _shown(error)
            if shown is None:
                raise
        raise RuntimeError(shown)

    return guarded


def _shown(error: Exception) -> str | None:
    """The masked text of an error; None if nothing in it is masked."""
    try:
        text = "".join(traceback.format_exception(error))
        masked = mask(text)
    except Exception:  # noqa: BLE001 - whatever failed, the unmasked error must not get out
        MaskingFormatter.dropped += 1
        return f"{type(error).__name__}: its text could not be masked and was dropped"
    return None if masked == text else masked


def guard_hooks() -> None:
    """Mask what Python prints of errors that nobody has caught: in a thread, a finalizer, at a program's end."""

    def uncaught(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
        _print_masked("", kind, error, where)

    def in_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_type is not SystemExit:
            name = args.thread.name if args.thread else "that has ended"
            _print_masked(f"Exception in thread {name}:\n", args.exc_type, args.exc_value, args.exc_traceback)

    def unraisable(args: Any) -> None:  # noqa: ANN401 - its type exists for type checkers only
        what = args.err_msg or "Exception ignored in"
        _print_masked(f"{what}: {type(args.object).__name__}\n", args.exc_type, args.exc_value, args.exc_traceback)

    sys.excepthook = uncaught
    threading.excepthook = in_thread
    sys.unraisablehook = unraisable


def _print_masked(
    title: str, kind: type[BaseException], error: BaseException | None, where: TracebackType | None
) -> None:
    try:
        text = mask(title + "".join(traceback.format_exception(kind, error, where)))
    except Exception:  # noqa: BLE001 - whatever failed, the unmasked text must not get out
        MaskingFormatter.dropped += 1
        text = f"{kind.__name__}: its text could not be masked and was dropped\n"
    if sys.stderr is not None:
        sys.stderr.write(text)
