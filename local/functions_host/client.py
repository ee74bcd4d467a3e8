"""Start and stop a functions host from a test or a demo."""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, override

from local.posting import post
from local.server_process import ServerProcess


class HostProcess(ServerProcess):
    """One running host. Told to stop, it finishes its work first."""

    WHAT = "host"
    START_S = 60.0
    STOP_S = 15.0  # more than a host gives its running invocations

    @override
    def __init__(self, child: subprocess.Popen[bytes], announced: Mapping[str, Any]) -> None:
        super().__init__(child, announced)
        self.functions = [str(name) for name in announced["functions"]]
        """Names of the functions that it serves."""

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
        """Start a host and return once it is ready; its output is appended to `log`. Raises `ServerStartError`."""
        arguments = [
            *("--app", str(app.resolve()), "--settings", str(settings_file.resolve())),
            *("--state", str(state.resolve()), "--clock", str(clock.resolve())),
            *("--port", str(port), "--lease-seconds", str(lease_s), "--name", name),
        ]
        return cls.launched("local.functions_host", arguments, state / f"{name}.json", log)

    def fire(self, function: str) -> None:
        """Have it run a function now, whatever its schedule says; OSError if it does not take that."""
        post(f"{self.url}/admin/functions/{function}", b"{}", {"Content-Type": "application/json"})
