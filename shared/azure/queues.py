"""The job queues on Azure Queue Storage."""

import re
from collections.abc import Mapping
from datetime import timedelta
from math import ceil
from typing import Final, override

from azure.storage.queue import QueueClient

from shared.azure.translate import translated
from shared.ports import Queues
from shared.redact import mask

_NEVER_EXPIRES: Final = -1  # a job waits for as long as it takes
# Messages travel as XML 1.0, whose section 2.2 leaves these out, escaped or not.
_NOT_IN_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class AzureQueues(Queues):
    """The port `Queues`."""

    def __init__(self, queues: Mapping[str, QueueClient]) -> None:
        self._queues = queues

    @override
    def send(self, queue: str, body: str, delay: timedelta = timedelta()) -> None:
        if _NOT_IN_XML.search(body):
            raise ValueError("a message holds characters that the service cannot carry")
        body = mask(body)
        with translated("sending a message"):
            self._queues[queue].send_message(
                body, visibility_timeout=ceil(delay.total_seconds()), time_to_live=_NEVER_EXPIRES
            )
