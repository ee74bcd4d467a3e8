"""The admin API, as far as tools and operators use it.

Source: learn.microsoft.com/azure/azure-functions/functions-manually-run-non-http.
"""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass

from aiohttp import web

from local.functions_host.runtime import Function, InvocationFailed, TriggerInput

PREFIX = "/admin/"

_log = logging.getLogger("functions_host")


@dataclass(frozen=True)
class ManualRun:
    """How to run one function by hand."""

    input_for: Callable[[str], TriggerInput]
    """Makes the trigger's value of the text that the operator gave; raises `ValueError`."""
    invoke: Callable[[TriggerInput], Coroutine[None, None, None]]


class Admin:
    """Answers below `/admin/`."""

    def __init__(self, host: str, functions: list[Function], runs: Mapping[str, ManualRun]) -> None:
        """`runs` by function name; a function that is not in it cannot be run by hand."""
        self._host = host
        self._functions = functions
        self._runs = {name.lower(): run for name, run in runs.items()}
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
                return web.json_response([_described(function) for function in self._functions])
            case "POST", ["functions", name]:
                return await self._run(name, await request.read())
        return web.Response(status=404)

    async def finish(self) -> None:
        """Return once every run by hand is over."""
        if self._running:
            await asyncio.wait(self._running)

    async def _run(self, name: str, body: bytes) -> web.Response:
        if name not in self._runs:
            return web.Response(status=404)
        run = self._runs[name]
        try:
            request = json.loads(body or b"{}")
            text = request.get("input", "") if isinstance(request, dict) else None
            if not isinstance(text, str):
                return web.Response(status=400, text='the body must be {"input": "..."}')
            value = run.input_for(text)
        except ValueError as error:
            return web.Response(status=400, text=str(error))
        task = asyncio.create_task(_invoke(run, value))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return web.Response(status=202)


async def _invoke(run: ManualRun, value: TriggerInput) -> None:
    try:
        await run.invoke(value)
    except InvocationFailed as failure:
        _log.warning("run by hand: %s", failure)


def _described(function: Function) -> dict[str, object]:
    return {"name": function.name, "language": "python", "config": {"bindings": function.bindings}}
