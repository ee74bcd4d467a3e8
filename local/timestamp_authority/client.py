"""A time-stamp authority as a child process, and its admin interface in Python: for tests and the local stack."""

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

from local import process
from local.timestamp_authority.faults import Fault

_START_S: Final = 30.0
_ADMIN_S: Final = 30.0
_POLL_S: Final = 0.02


class TimestampAuthorityStartError(Exception):
    """The authority ended, or did not listen in time; the message ends with the last lines of its log."""


class TimestampAuthorityProcess:
    """One running authority. It dies with the thread that started it; as a context manager it stops at the end."""

    def __init__(self, child: subprocess.Popen[bytes], url: str, roots: Path) -> None:
        self._child = child
        self.url = url
        """What ATP_TSA_URL wants."""
        self.roots = roots
        """A PEM file: what its time-stamps are trusted by."""

    @classmethod
    def start(cls, folder: Path, clock_file: Path, log_file: Path, port: int = 0) -> Self:
        """Start an authority that keeps its key in `folder`, and return once it listens.

        `clock_file` is the file of a `MovableClock`; the output is appended to `log_file`. Port 0 is a free one. A
        later start on the same folder has the same roots. Raises TimestampAuthorityStartError.
        """
        arguments = ["--port", str(port), "--state", str(folder.resolve()), "--clock", str(clock_file.resolve())]
        child = process.spawn([sys.executable, "-m", "local.timestamp_authority", *arguments], log_file)
        try:
            endpoint = _wait_for_endpoint(folder / "endpoint.json", child, log_file)
        except BaseException:
            process.stop(child)
            raise
        return cls(child, endpoint["url"], Path(endpoint["roots"]))

    @property
    def pid(self) -> int:
        """The process."""
        return self._child.pid

    @property
    def port(self) -> int:
        """Where it listens, on loopback."""
        return urlsplit(self.url).port or 0

    def stop(self) -> None:
        """End it politely; returns when it is gone."""
        process.stop(self._child)

    def fail(self, fault: Fault, *, times: int | None = 1) -> None:
        """Have the next `times` requests fail, None for all; an earlier fault is forgotten."""
        self._admin("POST", "fault", {"fault": fault, "times": times})

    def heal(self) -> None:
        """Fail no more."""
        self._admin("POST", "fault", {"fault": None, "times": None})

    def requests(self) -> int:
        """How many time-stamps were asked for since it started, failures included."""
        number: int = self._admin("GET", "requests")["requests"]
        return number

    def _admin(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:  # noqa: ANN401 - JSON
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_ADMIN_S)
        try:
            connection.request(method, f"/_local/{path}", None if body is None else json.dumps(body))
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        if response.status >= 300:
            raise ValueError(f"the time-stamp authority refused {method} {path}: {text.decode()}")
        return json.loads(text)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _wait_for_endpoint(path: Path, child: subprocess.Popen[bytes], log: Path) -> dict[str, Any]:
    """The endpoint that this very child has announced; a file of an earlier run has another pid."""
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise TimestampAuthorityStartError(
                f"the time-stamp authority ended with exit code {child.returncode}:\n{_tail(log)}"
            )
        if path.exists():
            endpoint: dict[str, Any] = json.loads(path.read_text())
            if endpoint["pid"] == child.pid:
                return endpoint
        time.sleep(_POLL_S)
    raise TimestampAuthorityStartError(
        f"the time-stamp authority did not listen within {_START_S:.0f} s:\n{_tail(log)}"
    )


def _tail(log: Path, lines: int = 5) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
