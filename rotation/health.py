"""Whether this worker could rotate a key right now."""

import logging
from collections.abc import Callable

from rotation.primary_kek import PrimaryKek
from rotation.wrapping import ensure_may_wrap
from shared.clock import Clock
from shared.errors import AtpError
from shared.ports import Deks

log = logging.getLogger(__name__)


class Health:
    """Checks what every rotation needs: the tables, and a KEK that may wrap."""

    def __init__(self, deks: Deks, kek: PrimaryKek, clock: Clock) -> None:
        self._deks = deks
        self._kek = kek
        self._clock = clock

    def check(self) -> dict[str, str]:
        """Verdict by part: ok, or the name of the error. Details are in the log: anybody may read the answer."""
        return {
            "storage": _verdict("storage", lambda: self._deks.scan(0, None, 1)),
            "kek": _verdict("kek", lambda: ensure_may_wrap(self._kek().primary, self._clock())),
        }


def _verdict(part: str, probe: Callable[[], object]) -> str:
    try:
        probe()
    except AtpError as error:
        log.warning("unhealthy", extra={"part": part, "because": str(error)})
        return type(error).__name__
    return "ok"
