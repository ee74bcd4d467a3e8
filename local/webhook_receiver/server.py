"""Binds one verifier to one port and one state folder, and runs it until it is told to stop.

POST /               a webhook: 204 if it is genuine, 401 if not, 503 while the vault has never answered
GET  /_local/counts  {"verified": number, "refused": number, "unread": number}: webhooks since the start, by those three

A genuine message that says that the secret changes has it read again before the next message.
"""

import asyncio
import json
import logging
import socket
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from aiohttp import web

from local.serving import ENDPOINT, only_server, serve_until, stop_signal
from rotation.webhook import REVOKED, ROTATED
from rotation.webhook_secrets import WebhookSecrets, WebhookVerifier
from shared.errors import Rejected, Transient

COUNTED: Final = ("verified", "refused", "unread")

_MOST_BYTES: Final = 64 * 1024
_log = logging.getLogger(__name__)


async def serve(state: Path, secrets: WebhookSecrets, port: int) -> None:
    """Serve on loopback until SIGTERM or SIGINT. Once it listens, `endpoint.json` in the state folder says where."""
    with ExitStack() as resources:
        resources.enter_context(only_server(state, "webhook receiver"))
        listener = resources.enter_context(socket.create_server(("127.0.0.1", port)))
        about = {"url": f"http://127.0.0.1:{listener.getsockname()[1]}"}
        await serve_until(stop_signal(), _Service(secrets).application(), listener, state / ENDPOINT, about)


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
