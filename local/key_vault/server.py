"""Binds one vault to one port and one state folder, and runs it until it is told to stop.

The port is part of every identifier that the vault has ever given out, so it is chosen once: a later start on the same
folder takes the same one, unless another is asked for.
"""

import errno
import json
import os
import random
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from local.key_vault import app, tls
from local.key_vault.admin import Switches
from local.key_vault.request_log import RequestLog
from local.key_vault.store import Store
from local.serving import ENDPOINT, only_server, serve_until, stop_signal
from shared.clock import Clock

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


async def serve(options: Options) -> None:
    """Serve until SIGTERM or SIGINT. Once it listens, `endpoint.json` in the state folder says where."""
    endpoint = options.state / ENDPOINT
    with ExitStack() as resources:
        resources.enter_context(only_server(options.state, "vault"))
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
        about = {"url": url, "ca": str(tls.ca_path(options.state).resolve())}
        await serve_until(stop_signal(), vault, listener, endpoint, about, tls.server_context(options.state))


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
