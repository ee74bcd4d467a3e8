"""The admin API, as far as tools and operators use it.

Source: learn.microsoft.com/azure/azure-functions/functions-manually-run-non-http.
"""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping

from aiohttp import web

from local.functions_host.invoker import Invoker
from local.functions_host.runtime import Function, InvocationFailed, TriggerInput

PREFIX = "/admin/"

_log = logging.getLogger("functions_host")


type InputFor = Callable[[str], TriggerInput]
"""Makes a trigger's value of the text that the operator gave; raises `ValueError`."""


class Admin:
    """Answers below `/admin/`."""

    def __init__(self, host: str, invoker: Invoker, inputs: Mapping[str, InputFor]) -> None:
        """`inputs` by function name; a function that is not in it cannot be run by hand."""
        self._host = host
        self._invoker = invoker
        self._runnable = {
            function.name.lower(): (function, inputs[function.name])
            for function in invoker.functions
            if function.name in inputs
        }
        self._started = time.monotonic()
        self._running: set[asyncio.Task[None]] = set()

    async def handle(self, request: web.Request) -> web.Response:
        """GET host/status, GET functions, POST functions/NAME."""
        parts = request.path.lower().removeprefix(PREFIX).rstrip("/").split("/")
        match request.method, parts:
            case "GET", ["host", "status"]:
                uptime_ms = round((time.monotonic() - self._started) * 1000)
                return web.json_response({"id": self._host, "state": "Running", "processUptime": uptime_ms})
            case "GET", ["functions"]:
                return web.json_response([_described(function) for function in self._invoker.functions])
            case "POST", ["functions", name]:
                return await self._run(name, await request.read())
        return web.Response(status=404)

    async def finish(self) -> None:
        """Return once every run by hand is over."""
        if self._running:
            await asyncio.wait(self._running)

    async def _run(self, name: str, body: bytes) -> web.Response:
        if name not in self._runnable:
            return web.Response(status=404)
        function, input_for = self._runnable[name]
        try:
            request = json.loads(body or b"{}")
            text = request.get("input", "") if isinstance(request, dict) else None
            if not isinstance(text, str):
                return web.Response(status=400, text='the body must be {"input": "..."}')
            value = input_for(text)
        except ValueError as error:
            return web.Response(status=400, text=str(error))
        task = asyncio.create_task(self._invoke(function, value))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return web.Response(status=202)

    async def _invoke(self, function: Function, value: TriggerInput) -> None:
        try:
            await self._invoker.run(function, value)
        except InvocationFailed as failure:
            _log.warning("run by hand: %s", failure)


def _described(function: Function) -> dict[str, object]:
    return {
        "name": function.name,
        "language": "python",
        "isDisabled": function.disabled,
        "config": {"bindings": function.bindings},
    }
