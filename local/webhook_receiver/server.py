"""Binds one verifier to one port and one state folder, and runs it until it is told to stop.

POST /               a webhook: 204 if it is genuine, 401 if not, 503 while the vault has never answered
GET  /_local/counts  {"verified": number, "refused": number, "unread": number}: webhooks since the start, by those three

A genuine message that says that the secret changes has it read again before the next message.
"""

import asyncio
import fcntl
import json
import logging
import os
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from aiohttp import web

from rotation.webhook import REVOKED, ROTATED
from rotation.webhook_secrets import WebhookSecrets, WebhookVerifier
from shared.errors import Rejected, Transient

COUNTED: Final = ("verified", "refused", "unread")

_SHUTDOWN_S: Final = 2.0
_MOST_BYTES: Final = 64 * 1024
_log = logging.getLogger(__name__)


class StateInUseError(Exception):
    """Another process serves the same folder."""


async def serve(state: Path, secrets: WebhookSecrets, port: int) -> None:
    """Serve on loopback until SIGTERM or SIGINT. Once it listens, `endpoint.json` in the state folder says where."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    with ExitStack() as resources:
        resources.enter_context(_locked(state))
        listener = resources.enter_context(socket.create_server(("127.0.0.1", port)))
        runner = web.AppRunner(_Service(secrets).application(), access_log=None, shutdown_timeout=_SHUTDOWN_S)
        await runner.setup()
        try:
            await web.SockSite(runner, listener).start()
            _announce(state / "endpoint.json", f"http://127.0.0.1:{listener.getsockname()[1]}")
            await stopped.wait()
        finally:
            await runner.cleanup()


class _Service:
    def __init__(self, secrets: WebhookSecrets) -> None:
        self._verifier = WebhookVerifier(secrets)
        self._counts: Counter[str] = Counter()

    def application(self) -> web.Application:
        application = web.Application(client_max_size=_MOST_BYTES)
        application.router.add_post("/", self.receive)
        application.router.add_get("/_local/counts", self.count)
        return application

    async def count(self, _: web.Request) -> web.Response:
        return web.json_response({name: self._counts[name] for name in COUNTED})

    async def receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        try:
            await asyncio.to_thread(self._verifier.verify, dict(request.headers), body)
        except Rejected as error:
            self._counts["refused"] += 1
            _log.info("refused a webhook: %s", error)
            return web.Response(status=401)
        except Transient as error:
            self._counts["unread"] += 1
            _log.warning("could not verify a webhook: %s", error)
            return web.Response(status=503)
        self._counts["verified"] += 1
        kind = _type_of(body)
        _log.info("verified a webhook of type %s", kind)
        if kind in (ROTATED, REVOKED):
            self._verifier.renew()
        return web.Response(status=204)


def _type_of(body: bytes) -> str | None:
    try:
        message = json.loads(body)
    except ValueError:
        return None
    kind = message.get("type") if isinstance(message, dict) else None
    return kind if isinstance(kind, str) else None


@contextmanager
def _locked(state: Path) -> Iterator[None]:
    """Make the folder and keep other processes out of it; the kernel lets go of the lock whatever this one dies of."""
    state.mkdir(parents=True, exist_ok=True)
    with (state / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateInUseError(f"another webhook receiver serves {state}") from None
        yield


def _announce(endpoint: Path, url: str) -> None:
    new = endpoint.with_suffix(".new")
    new.write_text(json.dumps({"url": url, "pid": os.getpid()}))
    new.replace(endpoint)
