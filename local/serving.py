"""What the servers of the local stack do alike: one process for one folder, on loopback, until it is told to stop.

Where a server listens it says in a file, for whoever has started it: `local/server_process.py`.
"""

import asyncio
import fcntl
import json
import os
import signal
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from aiohttp import web

ENDPOINT: Final = "endpoint.json"
_SHUTDOWN_S: Final = 2.0


class StateInUseError(Exception):
    """Another process serves the same folder."""


@contextmanager
def only_server(state: Path, what: str) -> Iterator[None]:
    """Make the folder and keep other processes out of it.

    Nobody else on the machine can read what this process writes from now on. Raises StateInUseError.
    """
    os.umask(0o077)
    state.mkdir(parents=True, exist_ok=True)
    with claimed(state, f"another {what} serves {state}"):
        yield


@contextmanager
def claimed(folder: Path, taken: str) -> Iterator[None]:
    """The folder is this process's alone; the kernel gives it up when the process ends, however it does.

    Raises StateInUseError, which says `taken`.
    """
    with (folder / "lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateInUseError(taken) from None
        yield


def stop_signal() -> asyncio.Event:
    """Set once SIGTERM or SIGINT came."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    return stopped


async def serve_until(
    stopped: asyncio.Event,
    application: web.Application,
    listener: socket.socket,
    endpoint: Path,
    about: Mapping[str, object],
    tls: ssl.SSLContext | None = None,
) -> None:
    """Serve on the listener until the event is set. Once it listens, the file `endpoint` holds `about` and the pid."""
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=_SHUTDOWN_S)
    await runner.setup()
    try:
        await web.SockSite(runner, listener, ssl_context=tls).start()
        announce(endpoint, about)
        await stopped.wait()
    finally:
        await runner.cleanup()


def announce(endpoint: Path, about: Mapping[str, object]) -> None:
    """Write the file in one step, with the pid: one that another process has left behind has another."""
    new = endpoint.with_suffix(".new")
    new.write_text(json.dumps({**about, "pid": os.getpid()}))
    new.replace(endpoint)
