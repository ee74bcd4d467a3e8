"""One invocation as every trigger needs it: run the function, then send what it put out."""

from collections.abc import Mapping, Sequence

from local.functions_host.queue_output import QueueOutputs
from local.functions_host.runtime import Function, Result, Runtime, TriggerInput


class Invoker:
    """Runs the functions of a loaded app."""

    def __init__(self, runtime: Runtime, functions: Sequence[Function], outputs: Mapping[str, QueueOutputs]) -> None:
        """`functions` with their settings resolved; `outputs` by function name."""
        self.functions = functions
        self._runtime = runtime
        self._outputs = outputs

    async def run(self, function: Function, trigger: TriggerInput, retry: int = 0) -> Result:
        """Returns once the outputs are sent; raises `InvocationFailed`. `retry` as in `Runtime.invoke`."""
        result = await self._runtime.invoke(function, trigger, retry)
        await self._outputs[function.name].send(result)
        return result
