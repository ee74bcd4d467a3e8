"""Calls that may never end: who answers octet by octet keeps every time-out of a socket and never comes to an end."""

from collections.abc import Callable
from concurrent.futures import Future
from threading import BoundedSemaphore, Thread

from shared.errors import Transient


class InTime:
    """Has calls end in time for who waits for them, each on a thread of its own.

    One that has not ended goes on for nobody until its connection ends; no more than `most` at once.
    """

    def __init__(self, most: int) -> None:
        self._free = BoundedSemaphore(most)

    def call[T](self, limit_s: float, call: Callable[[], T]) -> T:
        """What the call answers or raises. Transient if it does not end in time, or too many others have not."""
        if not self._free.acquire(blocking=False):
            raise Transient("earlier requests have not ended yet")
        answer: Future[T] = Future()
        Thread(target=self._run, args=(call, answer), daemon=True).start()
        try:
            return answer.result(limit_s)
        except TimeoutError:
            if answer.done():
                raise  # it is the call's own
            raise Transient("an answer does not end") from None

    def _run[T](self, call: Callable[[], T], answer: Future[T]) -> None:
        try:
            found = call()
        except BaseException as error:  # noqa: BLE001 - it is raised where the answer is waited for
            self._free.release()
            answer.set_exception(error)
        else:
            self._free.release()
            answer.set_result(found)
