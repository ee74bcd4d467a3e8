"""A time-stamp authority as a child process, and its admin interface in Python: for tests and the local stack."""

import http.client
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

from local import process
from local.timestamp_authority.faults import Fault

_START_S: Final = 30.0
_ADMIN_S: Final = 30.0


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
            endpoint = process.endpoint_of(
                child,
                folder / "endpoint.json",
                log_file,
                "the time-stamp authority",
                _START_S,
                TimestampAuthorityStartError,
            )
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
