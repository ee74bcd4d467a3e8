"""The job queues on Azure Queue Storage."""

from collections.abc import Mapping
from datetime import timedelta
from math import ceil
from typing import override

from azure.storage.queue import QueueClient

from shared.azure.translate import translated
from shared.ports import Queues

_NEVER_EXPIRES = -1  # a job waits for as long as it takes


class AzureQueues(Queues):
    """The port `Queues`."""

    def __init__(self, queues: Mapping[str, QueueClient]) -> None:
        self._queues = queues

    @override
    def send(self, queue: str, body: str, delay: timedelta = timedelta()) -> None:
        with translated("sending a message"):
            self._queues[queue].send_message(
                body, visibility_timeout=ceil(delay.total_seconds()), time_to_live=_NEVER_EXPIRES
            )
