"""The Event Grid webhook, `/runtime/webhooks/EventGrid?functionName=NAME`.

Sources: learn.microsoft.com/azure/event-grid/end-point-validation-event-grid-events-schema and
.../end-point-validation-cloud-events-schema; EventGridExtensionConfigProvider in github.com/Azure/azure-sdk-for-net
(it answers 202 when every event was handled, 500 when one was not, upon which Event Grid sends all of them again).
"""

import asyncio
import json
import logging

from aiohttp import web
from azure_functions_runtime.bindings.datumdef import Datum

from local.functions_host.invoker import Invoker
from local.functions_host.runtime import Function, InvocationFailed, TriggerInput

PATH = "/runtime/webhooks/eventgrid"

_log = logging.getLogger("functions_host")


class EventGridWebhook:
    """Delivers posted events to the app's Event Grid functions."""

    def __init__(self, invoker: Invoker) -> None:
        self._invoker = invoker
        self._functions = {
            function.name.lower(): function
            for function in invoker.functions
            if function.trigger_type == "eventgridtrigger" and not function.disabled
        }

    async def handle(self, request: web.Request) -> web.Response:
        """Handshakes and notifications, in Event Grid's own schema and as CloudEvents 1.0."""
        function = self._functions.get(request.query.get("functionName", "").lower())
        if function is None:
            return web.Response(status=404)
        if request.method == "OPTIONS":
            # CloudEvents 1.0 HTTP webhook, section 4: the receiver names the origins that it accepts.
            origin = request.headers.get("WebHook-Request-Origin", "")
            return web.Response(headers={"WebHook-Allowed-Origin": origin}) if origin else web.Response(status=400)
        if request.method != "POST":
            return web.Response(status=405)
        try:
            body = json.loads(await request.read())
        except ValueError:
            return web.Response(status=400)
        events = body if isinstance(body, list) else [body]
        if not all(isinstance(event, dict) for event in events):
            return web.Response(status=400)
        kind = request.headers.get("aeg-event-type", "").lower()
        if kind == "subscriptionvalidation":
            return _validated(events)
        if kind == "unsubscribe":
            return web.Response(status=202)
        if kind == "notification" or request.content_type.startswith("application/cloudevents"):
            return await self._deliver(function, events)
        return web.Response(status=400)

    async def _deliver(self, function: Function, events: list[dict[str, object]]) -> web.Response:
        outcomes = await asyncio.gather(
            *(self._invoker.run(function, event_input(event)) for event in events), return_exceptions=True
        )
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        for failure in failures:
            if not isinstance(failure, InvocationFailed):
                raise failure
            _log.warning("event not handled: %s", failure)
        return web.Response(status=500 if failures else 202)


def event_input(event: object) -> TriggerInput:
    """What a function is given for one event."""
    return TriggerInput(Datum(json.dumps(event), "json"), {})


def _validated(events: list[dict[str, object]]) -> web.Response:
    data = events[0].get("data") if events else None
    if not isinstance(data, dict) or "validationCode" not in data:
        return web.Response(status=400)
    return web.json_response({"validationResponse": data["validationCode"]})
