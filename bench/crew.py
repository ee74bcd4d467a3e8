"""One worker without its functions host: one core, as many threads, the same queues, the same order of things."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Final

from azure.storage.queue import QueueClient, QueueMessage

from shared.azure.wiring import Adapters

THREADS: Final = 16
"""As host.json gives them to an instance."""
_LEASE_S: Final = 600
_SHORTEST_PAUSE_S: Final = 0.02
_LONGEST_PAUSE_S: Final = 2.0

type Handler = Callable[[bytes, str], None]
"""Handles the body and the id of a message."""


@contextmanager
def on_one_core() -> Iterator[None]:
    """Keep this thread, and those that it starts, on one core: as many as the deployed instances of 2,048 MB have.

    Threads of Python that hand its lock from core to core take a fifth more processor time.
    """
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Crew:
    """Threads that take messages from queues, handle them and delete them. A handler that raises ends the crew."""

    def __init__(self, adapters: Adapters, handlers: Mapping[str, Handler]) -> None:
        self._queues = [(adapters.queue_service.get_queue_client(name), handlers[name]) for name in handlers]

    def work(self, is_over: Callable[[], bool], patience_s: float = float("inf")) -> None:
        """Work until it is over; what was begun is finished. RuntimeError if that takes longer than `patience_s`."""
        with on_one_core():
            self._work(is_over, patience_s)

    def _work(self, is_over: Callable[[], bool], patience_s: float) -> None:
        deadline = time.monotonic() + patience_s
        pause = _SHORTEST_PAUSE_S
        with ThreadPoolExecutor(THREADS) as pool:
            busy: set[Future[None]] = set()
            while not is_over():
                if time.monotonic() > deadline:
                    raise RuntimeError("the work is not done in time")
                started = self._started(pool, THREADS - len(busy))
                done, busy = wait(busy | started, pause, FIRST_COMPLETED)
                for each in done:
                    each.result()
                if not busy | done:
                    time.sleep(pause)
                pause = _SHORTEST_PAUSE_S if started or done else min(2 * pause, _LONGEST_PAUSE_S)
        for each in busy:
            each.result()

    def _started(self, pool: ThreadPoolExecutor, free: int) -> set[Future[None]]:
        started: set[Future[None]] = set()
        for queue, handler in self._queues:
            if free > len(started):
                limit = min(free - len(started), 32)
                messages = queue.receive_messages(max_messages=limit, visibility_timeout=_LEASE_S)
                started |= {pool.submit(_handle, queue, handler, message) for message in messages}
        return started


def _handle(queue: QueueClient, handler: Handler, message: QueueMessage) -> None:
    handler(message.content.encode(), message.id)
    queue.delete_message(message)
