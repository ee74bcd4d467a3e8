"""Binds one vault to one port and one state folder, and runs it until it is told to stop.

The port is part of every identifier that the vault has ever given out, so it is chosen once: a later start on the same
folder takes the same one, unless another is asked for.
"""

import asyncio
import errno
import fcntl
import json
import os
import random
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web

from local.key_vault import app, tls
from local.key_vault.admin import Switches
from local.key_vault.request_log import RequestLog
from local.key_vault.store import Store
from shared.clock import Clock

_SHUTDOWN_S = 2.0
# Below Linux's range for outgoing connections (32768 and up), which could otherwise hold the port at a restart.
_FREE_PORTS = range(20000, 32768)


@dataclass(frozen=True, slots=True)
class Options:
    """How to run a vault."""

    state: Path
    """A folder of its own, made if need be."""
    clock: Clock
    host: str
    port: int
    """0 takes the port of the last run, or a free one."""
    quota: bool


class StateInUseError(Exception):
    """Another process serves the same folder."""


async def serve(options: Options) -> None:
    """Serve until SIGTERM or SIGINT. Once it listens, `endpoint.json` in the state folder says where."""
    os.umask(0o077)  # the folder holds keys
    options.state.mkdir(parents=True, exist_ok=True)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    endpoint = options.state / "endpoint.json"
    with ExitStack() as resources:
        resources.enter_context(_locked(options.state))
        listener = resources.enter_context(_listener(options, _last_port(endpoint)))
        url = f"https://localhost:{listener.getsockname()[1]}"
        vault = app.build(
            resources.enter_context(closing(Store(options.state / "vault.db"))),
            options.clock,
            url,
            resources.enter_context(ThreadPoolExecutor(os.cpu_count(), "crypto")),
            Switches(options.quota),
            resources.enter_context(closing(RequestLog(options.state / "requests.log"))),
        )
        runner = web.AppRunner(vault, access_log=None, shutdown_timeout=_SHUTDOWN_S)
        await runner.setup()
        try:
            await web.SockSite(runner, listener, ssl_context=tls.server_context(options.state)).start()
            _announce(endpoint, url, tls.ca_path(options.state))
            await stopped.wait()
        finally:
            await runner.cleanup()


@contextmanager
def _locked(state: Path) -> Iterator[None]:
    """Keep other processes out of the folder; the kernel lets go of the lock whatever this process dies of."""
    with (state / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateInUseError(f"another vault serves {state}") from None
        yield


def _last_port(endpoint: Path) -> int:
    try:
        return urlsplit(json.loads(endpoint.read_text())["url"]).port or 0
    except FileNotFoundError:
        return 0


def _listener(options: Options, last_port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    port = options.port or last_port
    if port:
        return socket.create_server((options.host, port), family=family)
    while True:
        try:
            candidate = random.choice(_FREE_PORTS)  # noqa: S311 - any will do
            return socket.create_server((options.host, candidate), family=family)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise


def _announce(endpoint: Path, url: str, ca: Path) -> None:
    new = endpoint.with_suffix(".new")
    new.write_text(json.dumps({"url": url, "ca": str(ca.resolve()), "pid": os.getpid()}))
    new.replace(endpoint)
