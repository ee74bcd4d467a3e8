"""Start and stop a functions host from a test or a demo."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

from local import process

START_PATIENCE_S = 60.0
STOP_PATIENCE_S = 15.0
"""More than a host gives its running invocations."""


class HostStartError(RuntimeError):
    """The host did not become ready; the message ends with the last lines of its log."""


class HostProcess:
    """One running host; it ends with the process that started it."""

    url: str
    """Base URL of its HTTP server, without a slash at the end."""
    pid: int
    functions: list[str]
    """Names of the functions that it serves."""

    def __init__(self, child: subprocess.Popen[bytes], ready: dict[str, object]) -> None:
        self._child = child
        self.url = str(ready["url"])
        self.pid = child.pid
        functions = ready["functions"]
        self.functions = [str(name) for name in functions] if isinstance(functions, list) else []

    @classmethod
    def start(
        cls,
        app: Path,
        settings_file: Path,
        state: Path,
        clock: Path,
        log: Path,
        name: str = "host-1",
        lease_s: int = 600,
        port: int = 0,
    ) -> Self:
        """Start a host and return once it is ready; its output is appended to `log`. Raises `HostStartError`."""
        child = process.spawn(
            [
                *(sys.executable, "-m", "local.functions_host"),
                *("--app", str(app.resolve()), "--settings", str(settings_file.resolve())),
                *("--state", str(state.resolve()), "--clock", str(clock.resolve())),
                *("--port", str(port), "--lease-seconds", str(lease_s), "--name", name),
            ],
            log=log,
        )
        deadline = time.monotonic() + START_PATIENCE_S
        # The number of the process tells its ready file from one that a killed host of that name has left behind.
        while (ready := _ready(state / f"{name}.json")).get("pid") != child.pid:
            if child.poll() is not None:
                raise HostStartError(f"the host ended with code {child.returncode}:\n{_tail(log)}")
            if time.monotonic() > deadline:
                process.stop(child)
                raise HostStartError(f"the host was not ready within {START_PATIENCE_S:.0f} s:\n{_tail(log)}")
            time.sleep(0.02)
        return cls(child, ready)

    def stop(self) -> int:
        """Ask it to finish its work and end; returns its exit code (0: all well)."""
        process.stop(self._child, STOP_PATIENCE_S)
        return self._child.returncode

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._child.kill()
        self._child.wait()


def _ready(file: Path) -> dict[str, object]:
    try:
        content = json.loads(file.read_text())
    except FileNotFoundError:
        return {}
    return content if isinstance(content, dict) else {}


def _tail(log: Path, lines: int = 30) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
