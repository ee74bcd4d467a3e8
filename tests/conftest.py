"""What all tests share: Hypothesis settings, and a tally of cases that is printed at the end."""

import logging
from collections import Counter
from collections.abc import Iterator
from copy import copy
from typing import Any

import pytest
from hypothesis import settings

from shared.redact import KNOWN_SECRETS

settings.register_profile("project", deadline=None, derandomize=True)
settings.load_profile("project")


class Tally:
    """Counts the cases behind a claim, so that the run says how many there were."""

    def __init__(self) -> None:
        self.cases: Counter[str] = Counter()

    def count(self, claim: str, cases: int = 1) -> None:
        """Add to the claim's number."""
        self.cases[claim] += cases


TALLY = Tally()
_QUIETED = ("azure", "urllib3", "msal")  # by shared.log.configure


@pytest.fixture(autouse=True)
def _as_if_alone() -> Iterator[None]:
    """What a test makes known as a secret, and how it sets logging up, ends with it: any order of tests will do."""
    with KNOWN_SECRETS._lock:
        known = {name: copy(value) for name, value in vars(KNOWN_SECRETS).items() if name != "_lock"}
    call_handlers, raises = logging.Logger.callHandlers, logging.raiseExceptions
    loggers = [logging.getLogger(name) for name in ("", *_QUIETED)]
    logs = [(logger, logger.level, logger.handlers[:]) for logger in loggers]
    formatters = [(handler, handler.formatter) for logger in loggers for handler in logger.handlers]
    yield
    vars(KNOWN_SECRETS).update(known)
    logging.Logger.callHandlers = call_handlers  # type: ignore[method-assign]
    logging.raiseExceptions = raises
    logging.captureWarnings(capture=False)
    for logger, level, handlers in logs:
        logger.setLevel(level)
        logger.handlers[:] = handlers
    for handler, formatter in formatters:
        handler.setFormatter(formatter)


_OF_WORKER = "tally"


@pytest.fixture
def tally() -> Tally:
    """The tally of this run."""
    return TALLY


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tests that run in several processes: tell the one that prints what was counted here."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[_OF_WORKER] = dict(TALLY.cases)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Add what another process has counted."""
    TALLY.cases.update(getattr(node, "workeroutput", {}).get(_OF_WORKER, {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the tally."""
    if TALLY.cases:
        terminalreporter.section("cases behind the claims")
        for claim, cases in sorted(TALLY.cases.items()):
            terminalreporter.write_line(f"{cases:>8,}  {claim}")
