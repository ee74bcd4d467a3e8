"""Puts one host together, runs it until it is told to stop, and takes it down without losing work."""

import asyncio
import json
import logging
import os
import sys
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from azure.storage.queue.aio import QueueClient

from local.functions_host.admin import Admin, InputFor
from local.functions_host.config import Binding, ConfigError, HostJson, Settings
from local.functions_host.event_grid import EventGridWebhook, event_input
from local.functions_host.http_front import HttpFront, HttpTriggers
from local.functions_host.invoker import Invoker
from local.functions_host.ncrontab import Schedule
from local.functions_host.queue_listener import POISON_SUFFIX, QueueListener, message_input
from local.functions_host.queue_output import QueueOutputs
from local.functions_host.queue_storage import QueueStorage
from local.functions_host.runtime import Function, Runtime
from local.functions_host.timer_listener import TimerListener
from local.serving import announce, stop_signal
from shared.clock import MovableClock

DRAIN_PATIENCE_S = 10.0
"""How long running invocations may take to finish after SIGTERM."""

_log = logging.getLogger("functions_host")


@dataclass(frozen=True)
class HostOptions:
    """What the command line says."""

    app: Path
    settings: Path
    state: Path
    """Shared by all hosts of a stack: ready files and timers."""
    clock: Path
    port: int
    lease: timedelta
    """How long a received queue message stays invisible to others; 10 minutes in Azure."""
    name: str

    @property
    def ready_file(self) -> Path:
        """Says `{"url", "pid", "functions"}` while the host is ready."""
        return self.state / f"{self.name}.json"


async def serve(options: HostOptions) -> bool:
    """Run the host until SIGTERM or SIGINT; False if a part of it broke down. Raises `ConfigError`, `AppError`."""
    settings = Settings.read(options.settings)
    host_json = HostJson.read(options.app / "host.json")
    options.ready_file.unlink(missing_ok=True)
    settings.export()
    _log_to_stdout()
    os.chdir(options.app)
    runtime = await Runtime.load(options.app, host_json.function_timeout)

    stopping = stop_signal()
    async with QueueStorage() as storage:
        parts = _Parts(options, settings, host_json, runtime, storage)
        front = HttpFront(
            HttpTriggers(parts.invoker, host_json.route_prefix),
            EventGridWebhook(parts.invoker),
            Admin(options.name, parts.invoker, parts.inputs_by_hand),
        )
        try:
            url = await front.start(options.port, DRAIN_PATIENCE_S)
        except OSError as error:
            raise ConfigError(f"port {options.port} cannot be used: {error.strerror}") from error
        await asyncio.gather(*(listener.create_queue() for listener in parts.queues))
        listeners: list[QueueListener | TimerListener] = [*parts.queues, *parts.timers]
        tasks = [asyncio.create_task(listener.run(stopping)) for listener in listeners]
        for task in tasks:
            task.add_done_callback(lambda _: stopping.set())
        announce(options.ready_file, {"url": url, "functions": [function.name for function in runtime.functions]})
        _log.info("host %s is ready at %s with %d functions", options.name, url, len(runtime.functions))

        await stopping.wait()
        options.ready_file.unlink(missing_ok=True)
        tasks.append(asyncio.create_task(front.stop()))
        done, unfinished = await asyncio.wait(tasks, timeout=DRAIN_PATIENCE_S)
    broken = [breakdown for task in done if (breakdown := task.exception())]
    for breakdown in broken:
        _log.critical("a part of the host broke down", exc_info=breakdown)
    _log.info("host %s has stopped%s", options.name, "; some invocations were cut short" if unfinished else "")
    return not broken


class _Parts:
    """One listener per trigger that is not disabled, and how to run each function by hand. Raises `ConfigError`."""

    def __init__(
        self, options: HostOptions, settings: Settings, host_json: HostJson, runtime: Runtime, storage: QueueStorage
    ) -> None:
        self._options = options
        self._settings = settings
        self._queue_options = host_json.queues
        self._storage = storage
        self._clock = MovableClock(options.clock)
        functions = [_resolved(function, settings) for function in runtime.functions]
        outputs = {function.name: self._queue_outputs(function) for function in functions}
        self.invoker = Invoker(runtime, functions, outputs)
        self.queues: list[QueueListener] = []
        self.timers: list[TimerListener] = []
        self.inputs_by_hand: dict[str, InputFor] = {}
        for function in functions:
            self._add(function)

    def _add(self, function: Function) -> None:
        match function.trigger_type:
            case "queuetrigger":
                if not function.disabled:
                    self.queues.append(self._queue_listener(function))
                self.inputs_by_hand[function.name] = message_input
            case "timertrigger":
                listener = self._timer_listener(function)
                if not function.disabled:
                    self.timers.append(listener)
                self.inputs_by_hand[function.name] = lambda _: listener.input_now()
            case "eventgridtrigger":
                self.inputs_by_hand[function.name] = lambda text: event_input(json.loads(text))
            case "httptrigger":
                pass
            case other:
                raise ConfigError(f"function {function.name}: this host has no {other}")

    def _queue_listener(self, function: Function) -> QueueListener:
        is_poison_queue = str(function.trigger["queueName"]).endswith(POISON_SUFFIX)
        return QueueListener(
            self.invoker,
            function,
            queue=self._queue(function, function.trigger),
            poison=None if is_poison_queue else self._queue(function, function.trigger, POISON_SUFFIX),
            options=self._queue_options,
            lease=self._options.lease,
        )

    def _timer_listener(self, function: Function) -> TimerListener:
        folder = self._options.state / "timers"
        folder.mkdir(parents=True, exist_ok=True)
        try:
            schedule = Schedule(str(function.trigger["schedule"]))
            return TimerListener(self.invoker, function, schedule, folder, self._clock)
        except ValueError as error:
            raise ConfigError(f"function {function.name}: {error}") from error

    def _queue_outputs(self, function: Function) -> QueueOutputs:
        queues = {
            name: self._queue(function, binding)
            for name, binding in function.outputs.items()
            if str(binding["type"]).lower() == "queue"
        }
        return QueueOutputs(queues, encode=self._queue_options.base64)

    def _queue(self, function: Function, binding: Binding, suffix: str = "") -> QueueClient:
        connection = self._settings.connection_string(binding, function.name)
        try:
            return self._storage.queue(connection, f"{binding['queueName']}{suffix}")
        except ValueError as error:
            setting = binding.get("connection")
            raise ConfigError(f"function {function.name}: app setting {setting} is no connection string") from error


def _resolved(function: Function, settings: Settings) -> Function:
    def resolve(binding: Binding) -> Binding:
        return settings.resolve(binding, function.name)

    outputs = {name: resolve(binding) for name, binding in function.outputs.items()}
    disabled = settings.disables(function.name)
    return replace(function, trigger=resolve(function.trigger), outputs=outputs, disabled=disabled)


def _log_to_stdout() -> None:
    """Give the root logger a handler before the app is indexed, as the worker in Azure does; the app may restyle it."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    logging.getLogger().setLevel(logging.INFO)
    # These would drown the rest: a line for every request of every SDK client, and one of all bindings of the app.
    for chatty in ("azure.core.pipeline.policies.http_logging_policy", "azure.functions"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
