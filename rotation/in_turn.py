"""Several jobs for one trigger."""

import logging
from collections.abc import Callable
from typing import Final

log: Final = logging.getLogger(__name__)


class InTurn:
    """Jobs that one trigger runs one after the other. One that fails keeps none of the others from running."""

    def __init__(self, *jobs: Callable[[], None]) -> None:
        self._jobs = jobs

    def run(self) -> None:
        """Run them all; the first error is raised when all had their turn, later ones are logged."""
        first: Exception | None = None
        for job in self._jobs:
            try:
                job()
            except Exception as error:
                if first is not None:
                    log.exception("another job of the same trigger has failed")
                first = first or error
        if first is not None:
            raise first
