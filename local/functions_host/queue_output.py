"""Queue output bindings: what a function sets is sent before its trigger counts as done."""

import base64
import json
import logging

from azure.core.exceptions import AzureError, ResourceNotFoundError
from azure.storage.queue.aio import QueueClient
from azure_functions_runtime.bindings.datumdef import Datum

from local.functions_host.queue_storage import create_if_missing
from local.functions_host.runtime import InvocationFailed, Result

_log = logging.getLogger("functions_host")


class QueueOutputs:
    """The queue outputs of one function, by parameter name; `$return` is the returned value."""

    def __init__(self, queues: dict[str, QueueClient], *, encode: bool) -> None:
        """`encode`: whether messages are sent as base64."""
        self._queues = queues
        self._encode = encode

    async def send(self, result: Result) -> None:
        """Send all of it; raises `InvocationFailed`, since a function whose output is lost has not succeeded."""
        values = [*result.outputs, ("$return", result.returned)] if self._queues else []
        for name, datum in values:
            if name in self._queues and datum is not None:
                for body in _bodies(datum):
                    await self._send(self._queues[name], body)

    async def _send(self, queue: QueueClient, body: bytes) -> None:
        text = base64.b64encode(body).decode() if self._encode else body.decode()
        try:
            try:
                await queue.send_message(text)
            except ResourceNotFoundError:
                await create_if_missing(queue)
                await queue.send_message(text)
        except AzureError as error:
            raise InvocationFailed(f"output to queue {queue.queue_name} failed: {type(error).__name__}") from error


def _bodies(datum: Datum) -> list[bytes]:
    """One per message. The runtime gives a list, or a `QueueMessage`, as JSON: `{"id", "body"}` or plain strings."""
    if datum.type == "bytes":
        return [datum.value]
    if datum.type == "string":
        return [datum.value.encode()]
    items = json.loads(datum.value)
    return [
        (item["body"] if isinstance(item, dict) else item).encode()
        for item in (items if isinstance(items, list) else [items])
    ]
