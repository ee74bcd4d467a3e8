"""What a time-stamp authority does wrong when it is told to."""

from enum import StrEnum
from typing import Final


class Fault(StrEnum):
    """One way to fail; the value is what the admin interface calls it."""

    UNAVAILABLE = "unavailable"  # 503
    BUSY = "busy"  # 429, with Retry-After
    FORBIDDEN = "forbidden"  # 403
    MOVED = "moved"  # 302, to itself
    DROPPED = "dropped"  # closes the connection without an answer
    CUT = "cut"  # announces more than it sends before it closes the connection
    SILENT = "silent"  # never answers
    TRICKLING = "trickling"  # sends a byte now and then, for ever
    ENDLESS = "endless"  # sends and sends
    EMPTY = "empty"  # 200, and nothing in it
    GARBAGE = "garbage"  # 200, and a web page
    COMPRESSED = "compressed"  # 200, and an answer that says it is compressed
    REJECTION = "rejection"  # a refusal in the protocol's own words
    WAITING = "waiting"  # "come back later" in the protocol's own words, which only e-mail knows
    WRONG_DIGEST = "wrong digest"  # a token about something else
    WRONG_NONCE = "wrong nonce"  # a token that was made for another request
    NO_NONCE = "no nonce"  # a token that may have been made for anybody


STATUS: Final = {Fault.UNAVAILABLE: 503, Fault.BUSY: 429, Fault.FORBIDDEN: 403, Fault.MOVED: 302}
RETRY_AFTER_S: Final = 7


class Faults:
    """At most one is armed."""

    def __init__(self) -> None:
        self._fault: Fault | None = None
        self._left: int | None = None

    def arm(self, fault: Fault | None, times: int | None) -> None:
        """Fail so often; None is until told otherwise. Without a fault, no more."""
        self._fault = fault
        self._left = times

    def strike(self) -> Fault | None:
        """The fault of the request that has just come."""
        if self._left == 0:
            return None
        if self._left is not None:
            self._left -= 1
        return self._fault
