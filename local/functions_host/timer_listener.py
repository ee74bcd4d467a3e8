"""Fires one timer function when its schedule says so, on one host of a stack at a time."""

import asyncio
import fcntl
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from azure_functions_runtime.bindings.datumdef import Datum

from local.functions_host.invoker import Invoker
from local.functions_host.ncrontab import Schedule, Status
from local.functions_host.runtime import Function, InvocationFailed, TriggerInput
from shared.clock import Clock

CLOCK_POLL_S = 0.1
"""A moved clock sends no signal: it is looked at this often."""
LOCK_POLL_S = 0.5
PAST_DUE_AFTER = timedelta(seconds=10)
"""A tick this late was jumped over; a busy machine is not that late."""

_log = logging.getLogger("functions_host")


class TimerListener:
    """One timer function.

    A file lock makes it a singleton over all hosts on one state folder: the kernel drops the lock with its process, so
    another host takes over at once. The status file is written after a run, so a run that is cut short counts as
    missed and is made up for, past due, by whoever has the timer next.
    """

    def __init__(self, invoker: Invoker, function: Function, schedule: Schedule, folder: Path, clock: Clock) -> None:
        self._invoker = invoker
        self._function = function
        self._schedule = schedule
        self._clock = clock
        self._lock = folder / f"{function.name}.lock"
        self._memory = folder / f"{function.name}.json"
        self._monitored = function.trigger.get("useMonitor") is not False and not schedule.is_frequent(clock())
        self._status = Status.first(schedule, clock())

    async def run(self, stopping: asyncio.Event) -> None:
        """Fire at every tick until `stopping`; a run in progress is finished first."""
        with _lock_file(self._lock) as file:
            while not _try_lock(file):
                if await _happens(stopping, LOCK_POLL_S):
                    return
            past_due = self._resume()
            if past_due or self._function.trigger.get("runOnStartup") is True:
                await self._fire(past_due)
            while True:
                while (remaining := (self._status.next - self._clock()).total_seconds()) > 0:
                    if await _happens(stopping, min(remaining, CLOCK_POLL_S)):
                        return
                if stopping.is_set():
                    return
                await self._fire(past_due=self._clock() - self._status.next > PAST_DUE_AFTER)

    def input_now(self, *, past_due: bool = False) -> TriggerInput:
        """What the function would be given now. `Next` is the tick that is due, as the real host has it."""
        info = {
            "Schedule": {"AdjustForDST": True},
            "ScheduleStatus": self._status.to_json() if self._monitored else None,
            "IsPastDue": past_due,
        }
        return TriggerInput(Datum(json.dumps(info), "json"), {})

    async def _fire(self, past_due: bool) -> None:
        began = self._clock()
        await self._invoke_with_retries(self.input_now(past_due=past_due))
        self._status = self._status.ran(self._schedule, began)
        if self._monitored:
            self._remember()

    async def _invoke_with_retries(self, trigger: TriggerInput) -> None:
        policy = self._function.retry
        retry = 0
        while True:
            try:
                await self._invoker.run(self._function, trigger, retry)
            except InvocationFailed as failure:
                retry += 1
                delay = policy.delay_before(retry) if policy else None
                _log.warning("%s; %s", failure, "no retry" if delay is None else f"retry {retry} in {delay}")
                if delay is None:
                    return
                await asyncio.sleep(delay.total_seconds())
            else:
                return

    def _resume(self) -> bool:
        """Take up where the last host stopped; whether it missed a tick."""
        now = self._clock()
        self._status = Status.first(self._schedule, now)
        if not self._monitored:
            return False
        past_due = False
        if self._memory.exists():
            stored = Status.from_json(json.loads(self._memory.read_text()))
            self._status, past_due = stored.resumed(self._schedule, now)
        self._remember()
        return past_due

    def _remember(self) -> None:
        new = self._memory.with_suffix(".new")
        new.write_text(json.dumps(self._status.to_json()))
        new.replace(self._memory)


async def _happens(event: asyncio.Event, within_s: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), within_s)
    except TimeoutError:
        return False
    return True


@contextmanager
def _lock_file(path: Path) -> Iterator[int]:
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield file
    finally:
        os.close(file)


def _try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
