"""Feeds one queue-triggered function from its queue.

The life of a message, as in QueueListener and QueueProcessor of github.com/Azure/azure-sdk-for-net
(sdk/storage/Microsoft.Azure.WebJobs.Extensions.Storage.*):

1. received in a batch, invisible to others for the lease, which is renewed at half time;
2. not base64 though it should be, or received more than maxDequeueCount times: moved to the poison queue;
3. the function runs; on success the message is deleted;
4. on failure it becomes visible again after visibilityTimeout, at the maxDequeueCount-th failure it moves to the
   poison queue;
5. the poison queue's own messages have nowhere to go: a failed one stays where it is until its lease ends.

If the host dies anywhere, the lease ends and the message is received again. Moving to the poison queue is copy, then
delete: dying between them leaves it in both. No message is ever in neither.
"""

import asyncio
import base64
import binascii
import json
import logging
from datetime import datetime, timedelta

from azure.core.exceptions import AzureError, ResourceNotFoundError
from azure.storage.queue import QueueMessage
from azure.storage.queue.aio import QueueClient
from azure_functions_runtime.bindings.datumdef import Datum

from local.functions_host.config import QueueOptions
from local.functions_host.invoker import Invoker
from local.functions_host.queue_storage import create_if_missing
from local.functions_host.runtime import Function, InvocationFailed, TriggerInput

POISON_SUFFIX = "-poison"
SHORTEST_PAUSE_S = 0.1

_log = logging.getLogger("functions_host")


class _Lease:
    """The hold on one message. Renewing changes the pop receipt; only the newest one can delete or release."""

    def __init__(self, queue: QueueClient, message: QueueMessage, seconds: int) -> None:
        self.id = message.id
        self.content = message.content or ""
        self._queue = queue
        self._receipt = message.pop_receipt
        self._seconds = seconds
        self._renewal: asyncio.Task[None] | None = None
        self._timer = self._after(seconds / 2)

    async def delete(self) -> None:
        """End it for good. That the message is gone already is no error: somebody else got it after our lease."""
        await self.stop_renewing()
        try:
            await self._queue.delete_message(self.id, self._receipt)
        except ResourceNotFoundError:
            _log.warning("message %s of queue %s was gone before its deletion", self.id, self._queue.queue_name)

    async def release(self, rest: timedelta) -> None:
        """Let anybody receive the message again after `rest`."""
        await self.stop_renewing()
        await self._queue.update_message(self.id, self._receipt, visibility_timeout=round(rest.total_seconds()))

    def _after(self, delay_s: float) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(delay_s, self._begin_renewal)

    def _begin_renewal(self) -> None:
        self._renewal = asyncio.create_task(self._renew())

    async def _renew(self) -> None:
        try:
            renewed = await self._queue.update_message(self.id, self._receipt, visibility_timeout=self._seconds)
        except ResourceNotFoundError:
            _log.warning("the lease on message %s of queue %s is lost", self.id, self._queue.queue_name)
        except AzureError as error:
            _log.warning("the lease on message %s was not renewed: %s", self.id, type(error).__name__)
            self._timer = self._after(self._seconds / 10)
        else:
            self._receipt = renewed.pop_receipt
            self._timer = self._after(self._seconds / 2)

    async def stop_renewing(self) -> None:
        """Leave the message to the lease that it has; idempotent. The pop receipt is final when this returns."""
        self._timer.cancel()
        if self._renewal is not None:
            await self._renewal
            self._timer.cancel()


class QueueListener:
    """One queue, one function. Storage being away never ends the listener, it pauses and goes on."""

    def __init__(
        self,
        invoker: Invoker,
        function: Function,
        queue: QueueClient,
        poison: QueueClient | None,
        options: QueueOptions,
        lease: timedelta,
    ) -> None:
        """`poison` is None for a queue that is a poison queue itself."""
        self._queue = queue
        self._poison = poison
        self._options = options
        self._lease_s = round(lease.total_seconds())
        self._invoker = invoker
        self._function = function
        self._running: set[asyncio.Task[None]] = set()
        self._has_room = asyncio.Event()
        self._has_room.set()

    async def create_queue(self) -> None:
        """Create the queue if it is missing; when storage is away, polling will create it."""
        try:
            await create_if_missing(self._queue)
        except AzureError as error:
            _log.warning("queue %s could not be created yet: %s", self._queue.queue_name, type(error).__name__)

    async def run(self, stopping: asyncio.Event) -> None:
        """Receive until `stopping`, then return once every message at hand is finished."""
        stop = asyncio.create_task(stopping.wait())
        pause_s = SHORTEST_PAUSE_S
        while not stop.done():
            room = asyncio.create_task(self._has_room.wait())
            await asyncio.wait((room, stop), return_when=asyncio.FIRST_COMPLETED)
            room.cancel()
            if stop.done():
                break
            # Not to be cancelled: messages of an answer that nobody reads stay invisible for the whole lease.
            messages = await self._receive()
            for message in messages:
                self._start(message)
            if messages:
                pause_s = SHORTEST_PAUSE_S
            else:
                await asyncio.wait((stop,), timeout=pause_s)
                pause_s = min(2 * pause_s, self._options.max_polling_interval.total_seconds())
        if self._running:
            await asyncio.wait(self._running)

    async def _receive(self) -> list[QueueMessage]:
        batch = self._options.batch_size
        try:
            pages = self._queue.receive_messages(
                messages_per_page=batch, max_messages=batch, visibility_timeout=self._lease_s
            )
            return [message async for message in pages]
        except ResourceNotFoundError:
            await self.create_queue()
        except AzureError as error:
            _log.warning("queue %s cannot be read: %s", self._queue.queue_name, type(error).__name__)
        return []

    def _start(self, message: QueueMessage) -> None:
        task = asyncio.create_task(self._process(message))
        self._running.add(task)
        task.add_done_callback(self._finished)
        self._check_room()

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._check_room()
        if error := task.exception():
            _log.error("a message of queue %s was not finished", self._queue.queue_name, exc_info=error)

    def _check_room(self) -> None:
        if len(self._running) <= self._options.new_batch_threshold:
            self._has_room.set()
        else:
            self._has_room.clear()

    async def _process(self, message: QueueMessage) -> None:
        lease = _Lease(self._queue, message, self._lease_s)
        try:
            if (body := self._decoded(message)) is None:
                _log.error("message %s of queue %s is not base64", message.id, self._queue.queue_name)
                await self._to_poison(lease)
            elif self._poison is not None and (message.dequeue_count or 0) > self._options.max_dequeue_count:
                await self._to_poison(lease)
            elif await self._succeeds(message, body):
                await lease.delete()
            elif (message.dequeue_count or 0) >= self._options.max_dequeue_count:
                await self._to_poison(lease)
            elif self._poison is not None:
                await lease.release(self._options.visibility_timeout)
        except AzureError as error:
            _log.warning(
                "message %s of queue %s comes back when its lease ends: %s",
                message.id,
                self._queue.queue_name,
                type(error).__name__,
            )
        finally:
            await lease.stop_renewing()

    def _decoded(self, message: QueueMessage) -> str | None:
        """The body as the function gets it, None if it is not base64."""
        content = message.content or ""
        if not self._options.base64:
            return content
        try:
            # .NET's decoder skips white space and puts U+FFFD for what is not UTF-8; so must we, or messages that the
            # app sees in Azure would go to poison here.
            return base64.b64decode("".join(content.split()), validate=True).decode("utf-8", errors="replace")
        except (binascii.Error, ValueError):
            return None

    async def _succeeds(self, message: QueueMessage, body: str) -> bool:
        try:
            await self._invoker.run(self._function, _received(message, body))
        except InvocationFailed as failure:
            _log.warning("message %s (delivery %s): %s", message.id, message.dequeue_count, failure)
            return False
        return True

    async def _to_poison(self, lease: _Lease) -> None:
        if self._poison is None:
            return
        try:
            await self._poison.send_message(lease.content)
        except ResourceNotFoundError:
            await create_if_missing(self._poison)
            await self._poison.send_message(lease.content)
        await lease.delete()
        _log.error("message %s was moved to queue %s", lease.id, self._poison.queue_name)


def message_input(body: str) -> TriggerInput:
    """What a function is given when it is run by hand, without a message."""
    return TriggerInput(Datum(body, "string"), {"QueueTrigger": Datum(body, "string")})


def _received(message: QueueMessage, body: str) -> TriggerInput:
    metadata = {
        "Id": Datum(message.id, "string"),
        "QueueTrigger": Datum(body, "string"),
        "PopReceipt": Datum(message.pop_receipt, "string"),
        "DequeueCount": Datum(json.dumps(message.dequeue_count), "json"),
    }
    for name, moment in (
        ("InsertionTime", message.inserted_on),
        ("ExpirationTime", message.expires_on),
        ("NextVisibleTime", message.next_visible_on),
    ):
        if isinstance(moment, datetime):
            metadata[name] = Datum(moment.isoformat(), "string")
    return TriggerInput(Datum(body, "string"), metadata)
