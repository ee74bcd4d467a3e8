"""A time-stamp authority as a child process, and its admin interface in Python: for tests and the local stack."""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, override

from local.server_process import ServerProcess
from local.serving import ENDPOINT
from local.timestamp_authority.faults import Fault


class TimestampAuthorityProcess(ServerProcess):
    """One running authority; its URL is what ATP_TSA_URL wants."""

    WHAT = "time-stamp authority"

    @override
    def __init__(self, child: subprocess.Popen[bytes], announced: Mapping[str, Any]) -> None:
        super().__init__(child, announced)
        self.roots = Path(announced["roots"])
        """A PEM file: what its time-stamps are trusted by."""

    @classmethod
    def start(cls, folder: Path, clock_file: Path, log_file: Path, port: int = 0) -> Self:
        """Start an authority that keeps its key in `folder`, and return once it listens.

        `clock_file` is the file of a `MovableClock`; the output is appended to `log_file`. Port 0 is a free one. A
        later start on the same folder has the same roots. Raises ServerStartError.
        """
        arguments = ["--port", str(port), "--state", str(folder.resolve()), "--clock", str(clock_file.resolve())]
        return cls.launched("local.timestamp_authority", arguments, folder / ENDPOINT, log_file)

    def fail(self, fault: Fault, *, times: int | None = 1) -> None:
        """Have the next `times` requests fail, None for all; an earlier fault is forgotten."""
        self.admin("POST", "fault", {"fault": fault, "times": times})

    def heal(self) -> None:
        """Fail no more."""
        self.admin("POST", "fault", {"fault": None, "times": None})

    def requests(self) -> int:
        """How many time-stamps were asked for since it started, failures included."""
        number: int = self.admin("GET", "requests")["requests"]
        return number
