"""A service with API keys on loopback, over real HTTP: two keys at most, a value is shown once, and it misbehaves."""

import asyncio
import contextlib
import secrets
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

ADMIN: Final = secrets.token_urlsafe(24)
MOST: Final = 2
_PATIENCE_S: Final = 60.0


@dataclass
class Key:
    """One that was made."""

    id: str
    label: str
    value: str
    works: bool = True


class KeyService:
    """`forgets`: what is revoked is listed no longer; else it is, with another state. `page`: items on a page."""

    def __init__(self, *, forgets: bool = False, page: int = 100) -> None:
        self.forgets = forgets
        self.page = page
        self.keys: list[Key] = []
        self.asked: list[str] = []
        self.instead: Mapping[str, Callable[[web.Request], Awaitable[web.StreamResponse]]] = {}
        """Answers in place of the service, by 'METHOD /path'."""
        self.port = 0

    def add(self, label: str, key_id: str = "") -> Key:
        """Make a key."""
        key = Key(key_id or f"key_{len(self.asked)}/{secrets.token_hex(4)}", label, "K" + secrets.token_urlsafe(24))
        self.keys.append(key)
        return key

    def working(self) -> set[bytes]:
        """The values that are accepted."""
        return {key.value.encode() for key in self.keys if key.works}

    def labels(self) -> list[str]:
        """Of the keys that work."""
        return sorted(key.label for key in self.keys if key.works)

    @contextlib.contextmanager
    def running(self) -> Iterator["KeyService"]:
        """Serve on a free port."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=0.1)

        async def start() -> None:
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.port = runner.addresses[0][1]

        async def stop() -> None:
            await runner.cleanup()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        try:
            asyncio.run_coroutine_threadsafe(start(), loop).result(_PATIENCE_S)
            yield self
            asyncio.run_coroutine_threadsafe(stop(), loop).result(_PATIENCE_S)
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(_PATIENCE_S)
            loop.close()

    def _app(self) -> web.Application:
        app = web.Application(middlewares=[self._first])
        app.router.add_post("/v1/keys", self._create)
        app.router.add_get("/v1/keys", self._list)
        app.router.add_delete("/v1/keys/{id}", self._revoke)
        app.router.add_get("/v1/me", self._me)
        return app

    @web.middleware
    async def _first(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        what = f"{request.method} {request.path if request.method != 'DELETE' else '/v1/keys/'}"
        self.asked.append(what)
        if what in self.instead:
            return await self.instead[what](request)
        is_admin = request.headers.get("X-Admin") == f"Token {ADMIN}"
        if request.path != "/v1/me" and not is_admin:
            return web.json_response({"error": "who are you"}, status=401)
        return await handler(request)

    async def create(self, request: web.Request) -> web.StreamResponse:
        """As it is done without a fault."""
        return await self._create(request)

    async def _create(self, request: web.Request) -> web.StreamResponse:
        body: dict[str, Any] = await request.json()
        assert body["scopes"] == ["read"]
        if len([key for key in self.keys if key.works]) >= MOST:
            return web.json_response({"error": "too many keys"}, status=422)
        key = self.add(body["name"])
        return web.json_response({"data": {"id": key.id, "secret": [key.value]}}, status=201)

    async def _list(self, request: web.Request) -> web.StreamResponse:
        assert request.query["limit"] == "100"
        start = int(request.query.get("start", "0"))
        shown = [key for key in self.keys if key.works or not self.forgets]
        items = [
            {"id": key.id, "name": key.label, "status": "active" if key.works else "revoked"}
            for key in shown[start : start + self.page]
        ]
        following = start + self.page
        link = f"/v1/keys?limit=100&start={following}" if following < len(shown) else None
        return web.json_response({"data": items, "links": {"next": link}})

    async def _revoke(self, request: web.Request) -> web.StreamResponse:
        found = [key for key in self.keys if key.id == request.match_info["id"]]
        if not found or (self.forgets and not found[0].works):
            return web.json_response({"error": "no such key"}, status=404)
        found[0].works = False
        return web.Response(status=204)

    async def _me(self, request: web.Request) -> web.StreamResponse:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ").encode()
        return web.json_response({"me": "atp"}, status=200 if given in self.working() else 401)
