"""Logging: no way of putting a secret into a log line puts it out."""

import contextlib
import io
import json
import logging
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator

import pytest

from shared import log
from shared.redact import KNOWN_SECRETS, MASK_KNOWN
from shared.secret import Secret

PASSWORD = "tr0ub4dor & \"3\" 'ä'"
SECRET = Secret(PASSWORD.encode())
KEY = Secret(bytes(range(7, 39)))


# Loggers that nobody else, pytest included, hangs handlers on.
LOGGER = logging.Manager(logging.RootLogger(logging.DEBUG)).getLogger("application")


class Disguised(str):
    """A text that is shown as another."""

    __slots__ = ()

    def __str__(self) -> str:
        return PASSWORD

    def __repr__(self) -> str:
        return PASSWORD


class Unprintable:
    """Something that fails while it is rendered."""

    def __str__(self) -> str:
        raise RuntimeError(PASSWORD)


@pytest.fixture(autouse=True)
def known() -> None:
    """The secrets are among the last that the process has handled, whatever other tests have handled since."""
    for secret in (SECRET, KEY):
        KNOWN_SECRETS.add(secret.reveal())


@pytest.fixture
def lines() -> io.StringIO:
    """What `LOGGER` writes, with our formatter on a handler of its own."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(log.MaskingFormatter())
    LOGGER.handlers = [handler]
    return stream


def fail_with(text: object) -> None:
    raise ValueError(text)


def log_exception(logger: logging.Logger) -> None:
    try:
        fail_with(PASSWORD)
    except ValueError:
        logger.exception("it failed")


def log_chain(logger: logging.Logger) -> None:
    try:
        try:
            fail_with(f"inner: {PASSWORD}")
        except ValueError as error:
            raise RuntimeError("outer") from error
    except RuntimeError:
        logger.warning("it failed", exc_info=True)


def log_group(logger: logging.Logger) -> None:
    group = ExceptionGroup("several", [ValueError(PASSWORD), TypeError(KEY.reveal().hex())])
    logger.error("they failed", exc_info=group)


WAYS: dict[str, Callable[[logging.Logger], None]] = {
    "message": lambda logger: logger.info(f"password {PASSWORD}"),  # noqa: G004 - one of the ways
    "argument": lambda logger: logger.info("password %s", PASSWORD),
    "repr of an argument": lambda logger: logger.info("password %r", PASSWORD),
    "argument by name": lambda logger: logger.info("password %(value)s", {"value": PASSWORD}),
    "object as message": lambda logger: logger.info({"value": PASSWORD}),
    "bytes": lambda logger: logger.info("key %s", KEY.reveal()),
    "hexadecimal": lambda logger: logger.info("key %s", KEY.reveal().hex()),
    "extra": lambda logger: logger.info("got it", extra={"value": PASSWORD}),
    "bytes in an extra": lambda logger: logger.info("got it", extra={"value": KEY.reveal()}),
    "list in an extra": lambda logger: logger.info("got it", extra={"value": list(KEY.reveal())}),
    "object in an extra": lambda logger: logger.info("got it", extra={"value": {"deep": [PASSWORD]}}),
    "name of an extra": lambda logger: logger.info("got it", extra={PASSWORD: 1}),
    "error in an extra": lambda logger: logger.info("got it", extra={"value": ValueError(PASSWORD)}),
    "JSON in the message": lambda logger: logger.info("body %s", json.dumps({"value": PASSWORD})),
    "exception": log_exception,
    "exception behind an exception": log_chain,
    "group of exceptions": log_group,
    "stack": lambda logger: logger.info("here %s", PASSWORD, stack_info=True),
    "child logger": lambda logger: logger.getChild("sub.module").info("password %s", PASSWORD),
    "name of a logger": lambda logger: logger.getChild(PASSWORD.replace(".", "")).info("hello"),
    "line break in it": lambda logger: logger.info("a\n%s\nb", PASSWORD),
}


@pytest.mark.parametrize("name", WAYS)
def test_a_known_secret_gets_into_no_log_line(lines: io.StringIO, name: str) -> None:
    WAYS[name](LOGGER)
    written = lines.getvalue()
    assert MASK_KNOWN in written
    assert "tr0ub4dor" not in written
    assert KEY.reveal().hex() not in written
    assert "9, 10, 11, 12" not in written
    assert written.count("\n") == 1, "a record is one line, whatever is in it"
    assert name == "list in an extra" or json.loads(written), "a mask is no JSON where a number was"


def test_a_line_is_json_with_what_was_said(lines: io.StringIO) -> None:
    LOGGER.warning("took %d s", 5, extra={"tenant": "acme", "versions": [1, 2]})
    line = json.loads(lines.getvalue())
    assert line.pop("time")
    assert line == {
        "level": "WARNING",
        "logger": "application",
        "event": "took 5 s",
        "tenant": "acme",
        "versions": [1, 2],
    }


def test_a_traceback_is_in_the_line(lines: io.StringIO) -> None:
    log_chain(LOGGER)
    error = json.loads(lines.getvalue())["error"]
    assert "RuntimeError: outer" in error
    assert "direct cause" in error


FAILURES: dict[str, Callable[[logging.Logger], None]] = {
    "a message that cannot be printed": lambda logger: logger.info(Unprintable()),
    "an argument that cannot be printed": lambda logger: logger.info("%s", Unprintable()),
    "an argument too few": lambda logger: logger.info("%s %s", PASSWORD),
    "an extra that cannot be printed": lambda logger: logger.info("hi", extra={"value": Unprintable()}),
    "an extra that contains itself": lambda logger: logger.info("hi", extra={"value": (a := [PASSWORD], a.append(a))}),  # type: ignore[arg-type, func-returns-value] # that is the point
    "an extra whose names are no text": lambda logger: logger.info("hi", extra={"value": {b"x": PASSWORD}}),
}


@pytest.mark.parametrize("way", FAILURES.values(), ids=list(FAILURES))
def test_a_line_that_cannot_be_rendered_is_dropped_and_counted(
    lines: io.StringIO, capsys: pytest.CaptureFixture[str], way: Callable[[logging.Logger], None]
) -> None:
    before = log.MaskingFormatter.dropped
    way(LOGGER)
    assert json.loads(lines.getvalue())["event"] == "a log line could not be masked and was dropped"
    assert "tr0ub4dor" not in lines.getvalue()
    assert log.MaskingFormatter.dropped == before + 1
    assert capsys.readouterr() == ("", "")


def test_a_line_that_cannot_be_masked_is_dropped_and_counted(
    lines: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = log.MaskingFormatter.dropped
    monkeypatch.setattr(log, "mask", fail_with)
    LOGGER.info("hello %s", PASSWORD)
    assert "hello" not in lines.getvalue()
    assert log.MaskingFormatter.dropped > before, "once by each handler that there is"


@contextlib.contextmanager
def bare_root() -> Iterator[logging.Logger]:
    """A root logger without handlers; everything that `configure` and `guard_hooks` change is put back."""
    root = logging.getLogger()
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
    call_handlers, show_warning = logging.Logger.callHandlers, warnings.showwarning
    loggers = [root, *map(logging.getLogger, ("azure", "urllib3", "msal"))]
    levels = [logger.level for logger in loggers]
    handlers, raising = root.handlers, logging.raiseExceptions
    root.handlers = []
    try:
        yield root
    finally:
        root.handlers, logging.raiseExceptions = handlers, raising
        sys.excepthook, threading.excepthook, sys.unraisablehook = hooks
        logging.captureWarnings(capture=False)
        warnings.showwarning = show_warning
        logging.Logger.callHandlers = call_handlers  # type: ignore[method-assign]
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def test_configuring_puts_the_masking_on_every_handler_there_is() -> None:
    own, deep = io.StringIO(), io.StringIO()
    library = logging.getLogger("some.library")
    handler = logging.StreamHandler(deep)
    handler.setFormatter(logging.Formatter("%(message)s"))
    library.addHandler(handler)
    with bare_root() as root:
        root.addHandler(logging.StreamHandler(own))
        for _ in range(2):
            log.configure("INFO")
        library.warning("password %s", PASSWORD)
        assert len(root.handlers) == 1
    library.removeHandler(handler)
    for stream in (own, deep):
        assert json.loads(stream.getvalue())["event"] == f"password {MASK_KNOWN}"


def test_configuring_a_process_without_handlers_logs_to_stderr() -> None:
    with bare_root() as root:
        log.configure("DEBUG")
        (handler,) = root.handlers
        assert isinstance(handler, logging.StreamHandler)
        assert handler.stream is sys.stderr
        assert root.level == logging.DEBUG


@pytest.mark.parametrize(("level", "sdk_level"), [("DEBUG", logging.WARNING), ("ERROR", logging.ERROR)])
def test_the_sdks_are_quiet(level: str, sdk_level: int) -> None:
    with bare_root():
        log.configure(level)
        assert logging.getLogger("azure").getEffectiveLevel() == sdk_level
        assert logging.getLogger("azure.core.pipeline.policies").getEffectiveLevel() == sdk_level


class Broken(io.StringIO):
    """A stream that cannot be written to."""

    def write(self, text: str, /) -> int:
        raise OSError(f"disk full, {len(text)} characters lost")


def test_a_handler_that_cannot_write_does_not_print_the_record_instead(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with bare_root() as root:
        root.addHandler(logging.StreamHandler(Broken()))
        log.configure("INFO")
        root.info("password %s", PASSWORD)
    assert capsys.readouterr() == ("", "")


def test_a_line_can_be_written_whatever_is_in_it_and_whatever_the_stream_encodes() -> None:
    raw = io.BytesIO()
    handler = logging.StreamHandler(io.TextIOWrapper(raw, encoding="ascii", write_through=True))
    handler.setFormatter(log.MaskingFormatter())
    handler.emit(logging.makeLogRecord({"msg": "half a character \ud800, Übergröße"}))
    assert json.loads(raw.getvalue())["event"] == "half a character \ud800, Übergröße"


class Careless(logging.Handler):
    """Somebody else's handler: takes all that there is of a record, and formats it itself."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        error = "".join(traceback.format_exception(record.exc_info[1])) if record.exc_info else ""
        formatted = logging.Formatter("%(message)s %(name)s").format(record)
        self.seen.append(f"{vars(record)!r} {record.msg % (record.args or ())} {error} {formatted}")


@pytest.mark.parametrize("name", WAYS)
def test_a_foreign_handler_that_is_added_later_sees_no_secret_either(name: str) -> None:
    handler = Careless()
    with bare_root() as root:
        log.configure("DEBUG")
        root.handlers = [handler]
        WAYS[name](logging.getLogger("some.library"))
    (seen,) = handler.seen
    assert MASK_KNOWN in seen
    assert "tr0ub4dor" not in seen
    assert KEY.reveal().hex() not in seen
    assert "9, 10, 11, 12" not in seen


def test_a_foreign_handler_still_gets_everything_else() -> None:
    handler = Careless()
    with bare_root() as root:
        log.configure("INFO")
        root.handlers = [handler]
        logging.getLogger("some.library").warning("took %d s", 5, extra={"tenant": "acme", "versions": [1, 2]})
        log_chain(logging.getLogger("some.library"))
    first, second = handler.seen
    for text in ("took 5 s", "'tenant': 'acme'", "'versions': [1, 2]", "'levelname': 'WARNING'"):
        assert text in first
    assert "RuntimeError: outer" in second


def test_a_text_that_is_shown_as_another_is_masked_as_it_is_shown() -> None:
    handler = Careless()
    with bare_root() as root:
        log.configure("DEBUG")
        root.handlers = [handler]
        logging.getLogger("some.library").info("got it", extra={"value": Disguised("x")})
    assert MASK_KNOWN in handler.seen[0]
    assert "tr0ub4dor" not in handler.seen[0]


def test_what_the_sdks_say_at_debug_is_masked() -> None:
    handler = Careless()
    sdk = logging.getLogger("azure.core.pipeline.policies.http_logging_policy")
    with bare_root() as root:
        log.configure("DEBUG")
        root.handlers = [handler]
        logging.getLogger("azure").setLevel(logging.DEBUG)
        sdk.debug("Request URL: %r\nRequest headers: %s", "https://acc?sig=" + "a1B2" * 11, {"x": f"Bearer {PASSWORD}"})
    assert "[REDACTED:sas]" in handler.seen[0]
    assert "tr0ub4dor" not in handler.seen[0]


@pytest.mark.parametrize("way", FAILURES.values(), ids=list(FAILURES))
def test_a_record_that_cannot_be_masked_is_dropped_for_foreign_handlers_too(
    way: Callable[[logging.Logger], None],
) -> None:
    handler = Careless()
    before = log.MaskingFormatter.dropped
    with bare_root() as root:
        log.configure("DEBUG")
        root.handlers = [handler]
        way(logging.getLogger("some.library"))
    (seen,) = handler.seen
    assert "a log line could not be masked and was dropped" in seen
    assert f"'dropped': {before + 1}" in seen
    assert "tr0ub4dor" not in seen


def test_warnings_are_logged_and_masked() -> None:
    handler = Careless()
    with bare_root() as root, warnings.catch_warnings():
        warnings.simplefilter("always")
        log.configure("INFO")
        root.handlers = [handler]
        warnings.warn(f"do not use {PASSWORD}", UserWarning, stacklevel=1)
    assert MASK_KNOWN in handler.seen[0]
    assert "tr0ub4dor" not in handler.seen[0]


class Leaky:
    """Something that fails when it is collected."""

    def __del__(self) -> None:
        raise RuntimeError(PASSWORD)


def fail_at_the_end() -> None:
    try:
        fail_with(PASSWORD)
    except ValueError as error:
        sys.excepthook(type(error), error, error.__traceback__)


def fail_in_a_thread() -> None:
    thread = threading.Thread(target=fail_with, args=(PASSWORD,), name="worker-7")
    thread.start()
    thread.join()


UNCAUGHT: dict[str, tuple[Callable[[], object], str]] = {
    "at a program's end": (fail_at_the_end, "Traceback"),
    "in a thread": (fail_in_a_thread, "worker-7"),
    "in a finalizer": (Leaky, "RuntimeError"),
}


@pytest.mark.parametrize(("fail", "said"), UNCAUGHT.values(), ids=list(UNCAUGHT))
def test_an_error_that_nobody_catches_is_printed_masked(
    capsys: pytest.CaptureFixture[str], fail: Callable[[], object], said: str
) -> None:
    with bare_root():
        log.guard_hooks()
        fail()
    printed = capsys.readouterr().err
    assert said in printed
    assert MASK_KNOWN in printed
    assert "tr0ub4dor" not in printed


def test_an_uncaught_error_that_cannot_be_masked_is_dropped(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = log.MaskingFormatter.dropped
    with bare_root():
        log.guard_hooks()
        monkeypatch.setattr(log, "mask", fail_with)
        fail_at_the_end()
    assert capsys.readouterr().err == "ValueError: its text could not be masked and was dropped\n"
    assert log.MaskingFormatter.dropped == before + 1


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("password", "hunter2hunter2", "[REDACTED:credential]"),
        ("api_key", {"value": ["hunter2hunter2"]}, {"value": ["[REDACTED:credential]"]}),
        ("clientSecret", 'a "quoted" hunter2 é', "[REDACTED:credential]"),
        ("db_password", 8203919462, "[REDACTED:credential]"),
        ("tenant", "hunter2hunter2", "hunter2hunter2"),
    ],
)
def test_an_extra_with_a_telling_name_is_masked_for_foreign_handlers_too(
    name: str, value: object, shown: object
) -> None:
    record = logging.makeLogRecord({"msg": "got it", name: value})
    assert vars(log.masked_copy(record))[name] == shown
    assert vars(log.masked_copy(log.masked_copy(record)))[name] == shown
