"""The bridge to Microsoft's Python runtime: index an app, load its functions, invoke them.

The runtime normally talks protobuf to the .NET host, and takes the message classes from whoever calls it
(`request.properties["protos"]`); simple bags of fields serve as well. Invocations go through its protobuf-free entry,
`native_invocation.invocation_request_native`.
"""

import asyncio
import json
import logging
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Self

import azure_functions_runtime
from azure_functions_runtime.bindings.datumdef import Datum
from azure_functions_runtime.native_invocation import invocation_request_native

from local.functions_host.config import Binding

_log = logging.getLogger("functions_host")


class AppError(Exception):
    """The app cannot be indexed or loaded; the message is the runtime's, with the app's traceback."""


class InvocationFailed(Exception):
    """The function raised, or ran out of time; the details are in the log and not for callers."""


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how soon a failed invocation is tried again.

    Source: learn.microsoft.com/azure/azure-functions/functions-bindings-error-pages#retry-policies.
    """

    max_retry_count: int
    """-1: for ever."""
    shortest: timedelta
    longest: timedelta
    """Equal to `shortest` for fixedDelay."""

    def delay_before(self, retry: int) -> timedelta | None:
        """The wait before retry number `retry` (from 1), or None when there is none any more."""
        if 0 <= self.max_retry_count < retry:
            return None
        doubled: timedelta = self.shortest * 2.0 ** min(retry - 1, 30)
        return min(self.longest, doubled)


@dataclass(frozen=True)
class Function:
    """One loaded function."""

    name: str
    id: str
    trigger: Binding
    outputs: Mapping[str, Binding]
    """By parameter name; `$return` is the returned value."""
    retry: RetryPolicy | None
    disabled: bool = False
    """By the app settings: nothing triggers it, and it can be run by hand only."""

    @property
    def trigger_type(self) -> str:
        """In lower case, such as `queuetrigger`."""
        return str(self.trigger["type"]).lower()

    @property
    def bindings(self) -> list[Binding]:
        """All of them, the trigger first."""
        return [self.trigger, *self.outputs.values()]


@dataclass(frozen=True)
class TriggerInput:
    """What a trigger hands to its function, in the runtime's own intermediate type."""

    value: Datum
    metadata: Mapping[str, Datum]


@dataclass(frozen=True)
class Result:
    """What a function gave back."""

    returned: Datum | None
    outputs: Sequence[tuple[str, Datum]]
    """Parameter name and value of every `Out` that was set."""


class Runtime:
    """A loaded app. One per process: the runtime keeps it in module-wide variables."""

    def __init__(self, functions: Sequence[Function], function_timeout: timedelta | None) -> None:
        self.functions = functions
        self._timeout_s = None if function_timeout is None else function_timeout.total_seconds()

    @classmethod
    async def load(cls, app: Path, function_timeout: timedelta | None) -> Self:
        """Index the app in folder `app` and load every function; raises `AppError`.

        The app settings must be in the environment already: the runtime reads its own there (such as
        PYTHON_THREADPOOL_THREAD_COUNT, the number of threads for sync functions), and so does the app.
        """
        sys.path.insert(0, str(app))
        azure_functions_runtime.start_threadpool_executor()
        initialised = await azure_functions_runtime.worker_init_request(
            _request(worker_init_request=SimpleNamespace(capabilities={}, function_app_directory=str(app)))
        )
        if initialised.result.status != _StatusResult.Success:
            failure = initialised.result.exception
            raise AppError(f"{failure.message}\n{failure.stack_trace}")
        indexed = await azure_functions_runtime.functions_metadata_request(
            _request(functions_metadata_request=SimpleNamespace())
        )
        if indexed.function_metadata_results is None:
            raise AppError(f"{app} holds no function_app.py")
        return cls([_function(metadata) for metadata in indexed.function_metadata_results], function_timeout)

    async def invoke(self, function: Function, trigger: TriggerInput, retry: int = 0) -> Result:
        """Run the function once; raises `InvocationFailed`.

        `retry` counts from 1 in a repetition under the function's retry policy. At functionTimeout an async function is
        cancelled. A sync one cannot be: its thread is abandoned, and a fresh pool takes over, so that it holds up
        nobody else. (The real host ends the whole worker process instead.)
        """
        max_retries = function.retry.max_retry_count if function.retry else 0
        try:
            async with asyncio.timeout(self._timeout_s):
                ok, returned, outputs, _, _ = await invocation_request_native(
                    str(uuid.uuid4()),
                    function.id,
                    [(function.trigger["name"], trigger.value)],
                    trigger.metadata,
                    retry_count=retry,
                    max_retry_count=max_retries,
                )
        except TimeoutError:
            azure_functions_runtime.start_threadpool_executor()
            _log.error("function %s timed out after %s s", function.name, self._timeout_s)
            raise InvocationFailed(f"function {function.name} timed out") from None
        if not ok:
            # The runtime has logged the exception; its text may hold anything, and goes no further.
            raise InvocationFailed(f"function {function.name} failed")
        return Result(returned, outputs)


def _function(metadata: SimpleNamespace) -> Function:
    bindings = [json.loads(raw) for raw in metadata.raw_bindings]
    trigger = next(binding for binding in bindings if binding["type"].lower().endswith("trigger"))
    return Function(
        name=metadata.name,
        id=metadata.function_id,
        trigger=trigger,
        outputs={binding["name"]: binding for binding in bindings if binding is not trigger},
        retry=_retry_policy(metadata.retry_options),
    )


def _retry_policy(options: SimpleNamespace | None) -> RetryPolicy | None:
    if options is None:
        return None
    if options.retry_strategy == "fixed_delay":
        return RetryPolicy(options.max_retry_count, options.delay_interval, options.delay_interval)
    return RetryPolicy(options.max_retry_count, options.minimum_interval, options.maximum_interval)


def _request(**fields: SimpleNamespace) -> SimpleNamespace:
    return SimpleNamespace(request=SimpleNamespace(**fields), properties={"host": "127.0.0.1", "protos": _PROTOS})


class _BindingInfo(SimpleNamespace):
    """The runtime compares the numbers that azure.functions puts into a binding with these."""

    undefined = 0
    out = 1
    inout = 2


class _StatusResult(SimpleNamespace):
    Failure = 0
    Success = 1


_PROTOS = SimpleNamespace(
    BindingInfo=_BindingInfo,
    StatusResult=_StatusResult,
    FunctionMetadataResponse=SimpleNamespace,
    RpcException=SimpleNamespace,
    RpcFunctionMetadata=SimpleNamespace,
    RpcRetryOptions=SimpleNamespace,
    WorkerInitResponse=SimpleNamespace,
    WorkerMetadata=SimpleNamespace,
)
