"""A server of the local stack as a child process: start it, wait until it listens, ask it things, end it."""

import http.client
import json
import ssl
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Final, Self
from urllib.parse import urlsplit

from local import process

_POLL_S: Final = 0.02
_ADMIN_S: Final = 30.0
_LOG_TAIL: Final = 30


class ServerStartError(RuntimeError):
    """The server ended, or did not listen in time; the message ends with the last lines of its log."""


class ServerProcess:
    """One running server. It dies with the thread that started it; as a context manager it stops at the end."""

    WHAT: ClassVar[str]
    """What messages call it."""
    START_S: ClassVar[float] = 30.0
    STOP_S: ClassVar[float] = 5.0
    """How long it may take to end before it is killed."""

    def __init__(self, child: subprocess.Popen[bytes], announced: Mapping[str, Any]) -> None:
        self._child = child
        self.url = str(announced["url"])
        """Where it listens, without a slash at the end."""

    @classmethod
    def launched(cls, module: str, arguments: Sequence[str], endpoint: Path, log: Path) -> Self:
        """Run the module, with its output appended to `log`, and return once it has announced itself in `endpoint`.

        Raises ServerStartError.
        """
        child = process.spawn([sys.executable, "-m", module, *arguments], log)
        try:
            return cls(child, cls._announced(child, endpoint, log))
        except BaseException:
            process.stop(child)
            raise

    @classmethod
    def _announced(cls, child: subprocess.Popen[bytes], endpoint: Path, log: Path) -> Mapping[str, Any]:
        """What this very child has written; one that was killed has left another pid."""
        deadline = time.monotonic() + cls.START_S
        while time.monotonic() < deadline:
            if child.poll() is not None:
                raise ServerStartError(f"the {cls.WHAT} ended with exit code {child.returncode}:\n{_tail(log)}")
            if endpoint.exists():
                about: Mapping[str, Any] = json.loads(endpoint.read_text())
                if about["pid"] == child.pid:
                    return about
            time.sleep(_POLL_S)
        raise ServerStartError(f"the {cls.WHAT} did not listen within {cls.START_S:.0f} s:\n{_tail(log)}")

    @property
    def pid(self) -> int:
        """The process."""
        return self._child.pid

    @property
    def port(self) -> int:
        """Where it listens, on loopback."""
        return urlsplit(self.url).port or 0

    def stop(self) -> int:
        """End it politely; returns its exit code when it is gone."""
        process.stop(self._child, self.STOP_S)
        return self._child.returncode

    def kill(self) -> None:
        """SIGKILL, as a crash would end it. Returns when it is gone."""
        self._child.kill()
        self._child.wait()

    def admin(self, method: str, path: str, body: Mapping[str, object] | None = None, ca: Path | None = None) -> Any:  # noqa: ANN401 - JSON
        """What it answers at /_local/; with `ca` over TLS. Raises ValueError if it refuses."""
        host, port = urlsplit(self.url).hostname or "", self.port
        connection = (
            http.client.HTTPSConnection(
                host, port, timeout=_ADMIN_S, context=ssl.create_default_context(cafile=str(ca))
            )
            if ca
            else http.client.HTTPConnection(host, port, timeout=_ADMIN_S)
        )
        try:
            connection.request(method, f"/_local/{path}", None if body is None else json.dumps(body))
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        if response.status >= 300:
            raise ValueError(f"the {self.WHAT} refused {method} {path}: {text.decode()}")
        return json.loads(text) if text else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_TAIL:])
