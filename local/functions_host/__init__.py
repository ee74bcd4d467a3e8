"""A local Azure Functions host: everything that the .NET host does around Microsoft's own Python runtime.

It indexes, loads and invokes a v2 app through `azure-functions-runtime`, the code that Azure itself runs for Python
3.13, and brings the triggers: storage queues, timers, HTTP, Event Grid, and the admin API. Where a behaviour can be
seen by an app it follows the real host, and the docstring beside it names the source. What it leaves out: function
keys (every caller is trusted, as under `func start`), scale decisions, and bindings other than the ones named here.
"""
