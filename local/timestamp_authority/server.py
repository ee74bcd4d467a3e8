"""Binds one authority to one port and one state folder, and runs it until it is told to stop.

POST /                  application/timestamp-query in, application/timestamp-reply out (RFC 3161 section 3.4)
POST /_local/fault      {"fault": "busy", "times": 1}; see faults.Fault; null for none, and for ever
GET  /_local/requests   {"requests": number}: time-stamps asked for since the start

The first without a token: so are the public ones. The others are for tests, and on loopback as everything here.
"""

import asyncio
import logging
import socket
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from aiohttp import web
from asn1crypto import tsp

from local.serving import ENDPOINT, only_server, serve_until, stop_signal
from local.timestamp_authority.authority import ROOTS, Authority, refusal
from local.timestamp_authority.faults import RETRY_AFTER_S, STATUS, Fault, Faults
from shared.clock import Clock

_TRICKLE_S: Final = 0.01
_MAX_QUERY: Final = 16 * 1024
_QUERY: Final = "application/timestamp-query"
_REPLY: Final = "application/timestamp-reply"
_log = logging.getLogger(__name__)


async def serve(state: Path, clock: Clock, port: int) -> None:
    """Serve on loopback until SIGTERM or SIGINT. Once it listens, `endpoint.json` in the state folder says where."""
    stopped = stop_signal()
    with ExitStack() as resources:
        resources.enter_context(only_server(state, "time-stamp authority"))
        listener = resources.enter_context(socket.create_server(("127.0.0.1", port)))
        service = _Service(Authority.kept(state), clock, stopped)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        about = {"url": url, "roots": str((state / ROOTS).resolve())}
        await serve_until(stopped, service.application(), listener, state / ENDPOINT, about)


@dataclass(slots=True)
class _Service:
    authority: Authority
    clock: Clock
    stopped: asyncio.Event
    faults: Faults = field(default_factory=Faults)
    requests: int = 0

    def application(self) -> web.Application:
        application = web.Application(client_max_size=_MAX_QUERY)
        application.router.add_post("/", self.stamp)
        application.router.add_post("/_local/fault", self.arm)
        application.router.add_get("/_local/requests", self.count)
        return application

    async def arm(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.faults.arm(None if body["fault"] is None else Fault(body["fault"]), body["times"])
        return web.json_response({})

    async def count(self, _: web.Request) -> web.Response:
        return web.json_response({"requests": self.requests})

    async def stamp(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        query = await request.read()
        if request.content_type != _QUERY:
            return web.Response(status=415)
        now = self.clock().replace(microsecond=0)
        fault = self.faults.strike()
        _log.info("asked for a time-stamp of %s, fault: %s", now.isoformat(), fault)
        match fault:
            case None:
                return _reply(self.authority.reply(query, now))
            case Fault.UNAVAILABLE | Fault.BUSY | Fault.FORBIDDEN | Fault.MOVED:
                headers = {"Retry-After": str(RETRY_AFTER_S), "Location": "/"}
                return web.Response(status=STATUS[fault], headers=headers)
            case Fault.EMPTY:
                return _reply(b"")
            case Fault.GARBAGE:
                return web.Response(text="<html>Welcome to our hotel's network</html>", content_type="text/html")
            case Fault.COMPRESSED:
                response = _reply(self.authority.reply(query, now))
                response.enable_compression(web.ContentCoding.gzip)
                return response
            case Fault.REJECTION:
                return _reply(refusal("system_failure"))
            case Fault.WAITING:
                return _reply(refusal("time_not_available", "waiting"))
            case Fault.WRONG_DIGEST | Fault.WRONG_NONCE | Fault.NO_NONCE:
                return _reply(self._about_another(query, fault))
            case _:
                return await self._unfinished(request, fault)

    def _about_another(self, query: bytes, fault: Fault) -> bytes:
        asked = tsp.TimeStampReq.load(query)
        digest, nonce = asked["message_imprint"]["hashed_message"].native, asked["nonce"].native
        if fault is Fault.WRONG_DIGEST:
            digest = bytes(len(digest))
        else:
            nonce = None if fault is Fault.NO_NONCE else nonce ^ 1
        return self.authority.granted(digest, self.clock().replace(microsecond=0), nonce=nonce)

    async def _unfinished(self, request: web.Request, fault: Fault) -> web.StreamResponse:
        """The connection ends in the middle, or not before the client has gone or the server is stopped."""
        response = web.StreamResponse(headers={"Content-Type": _REPLY})
        match fault:
            case Fault.SILENT:
                await self.stopped.wait()
            case Fault.CUT:
                response.content_length = 1000
                await response.prepare(request)
                await response.write(b"0")
            case Fault.TRICKLING | Fault.ENDLESS:
                await response.prepare(request)
                while not self.stopped.is_set():
                    await response.write(b"0" if fault is Fault.TRICKLING else bytes(16 * 1024))
                    await asyncio.sleep(_TRICKLE_S if fault is Fault.TRICKLING else 0)
        if request.transport is not None:
            request.transport.abort()
        return response


def _reply(der: bytes) -> web.Response:
    return web.Response(body=der, content_type=_REPLY)
