"""The host's HTTP server on loopback: the app's HTTP triggers, the Event Grid webhook, the admin API."""

import logging
from collections.abc import Callable, Coroutine, Mapping

from aiohttp import web
from azure_functions_runtime.bindings.datumdef import Datum
from multidict import CIMultiDict

from local.functions_host import admin, event_grid
from local.functions_host.invoker import Invoker
from local.functions_host.routes import NoRoute, Route, RouteTable
from local.functions_host.runtime import Function, InvocationFailed, TriggerInput

LARGEST_BODY = 100 * 1024 * 1024
"""learn.microsoft.com/azure/azure-functions/functions-bindings-http-webhook-trigger#limits"""
SET_BY_SERVER = frozenset({"content-length", "transfer-encoding", "connection"})

_log = logging.getLogger("functions_host")


class HttpTriggers:
    """The app's HTTP functions."""

    def __init__(self, invoker: Invoker, prefix: str) -> None:
        """`prefix` is host.json's routePrefix. Raises `ConfigError` for a bad route."""
        self._invoker = invoker
        self._functions = {
            function.name: function
            for function in invoker.functions
            if function.trigger_type == "httptrigger" and not function.disabled
        }
        self._table = RouteTable(_route(function, prefix) for function in self._functions.values())

    async def handle(self, request: web.Request) -> web.Response:
        """Run the function that the path and the method select; no detail of a failure reaches the caller."""
        try:
            name, route_parameters = self._table.match(request.method, request.rel_url.raw_path)
        except NoRoute as answer:
            if answer.allowed:
                return web.Response(status=405, headers={"Allow": ", ".join(sorted(answer.allowed))})
            return web.Response(status=404)
        try:
            result = await self._invoker.run(self._functions[name], await _input(request, route_parameters))
        except InvocationFailed as failure:
            _log.warning("%s", failure)
            return web.Response(status=500)
        return _rendered(result.returned)


class HttpFront:
    """The server. `start` it, `stop` it; requests under way are finished within the time given to `stop`."""

    def __init__(self, triggers: HttpTriggers, webhook: event_grid.EventGridWebhook, control: admin.Admin) -> None:
        self._triggers = triggers
        self._webhook = webhook
        self._control = control
        self._runner: web.AppRunner | None = None

    async def start(self, port: int, patience_s: float) -> str:
        """Listen on 127.0.0.1 and `port`, 0 for a free one; returns the base URL. Raises `OSError`."""
        app = web.Application(client_max_size=LARGEST_BODY)
        app.router.add_route("*", "/{path:.*}", self._dispatch)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=patience_s)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Take no more requests and finish those under way."""
        if self._runner is not None:
            await self._runner.cleanup()
        await self._control.finish()

    async def _dispatch(self, request: web.Request) -> web.Response:
        return await self._handler(request.path.lower())(request)

    def _handler(self, path: str) -> Callable[[web.Request], Coroutine[None, None, web.Response]]:
        if path.rstrip("/") == event_grid.PATH:
            return self._webhook.handle
        if path.startswith(admin.PREFIX):
            return self._control.handle
        return self._triggers.handle


def _route(function: Function, prefix: str) -> Route:
    template = function.trigger.get("route") or function.name
    methods = function.trigger.get("methods")
    return Route.parse(function.name, f"{prefix}/{template}", methods if isinstance(methods, list) else [])


async def _input(request: web.Request, route_parameters: Mapping[str, str]) -> TriggerInput:
    def texts(items: Mapping[str, str]) -> dict[str, Datum]:
        return {name: Datum(", ".join(items.getall(name)), "string") for name in items}  # type: ignore[attr-defined]

    value = {
        "method": Datum(request.method, "string"),
        "url": Datum(str(request.url), "string"),
        "headers": texts(request.headers),
        "query": texts(request.query),
        "params": {name: Datum(value, "string") for name, value in route_parameters.items()},
        "body": Datum(await request.read(), "bytes"),
    }
    return TriggerInput(Datum(value, "http"), {})


def _rendered(returned: Datum | None) -> web.Response:
    if returned is None or returned.type is None:
        return web.Response(status=204)
    if returned.type != "http":
        return web.Response(text=str(returned.value))
    answer = returned.value
    headers = CIMultiDict(
        (name, value.value) for name, value in answer["headers"].items() if name.lower() not in SET_BY_SERVER
    )
    for cookie in answer.get("cookies") or ():
        for morsel in cookie.values():
            headers.add("Set-Cookie", morsel.OutputString())
    return web.Response(status=int(answer["status_code"].value), headers=headers, body=answer["body"].value)
