"""`python -m local.functions_host`: run one host. Exit code 0 after SIGTERM, 1 if it broke down, 2 if misconfigured."""

import argparse
import asyncio
import logging
import os
import sys
from datetime import timedelta
from pathlib import Path

from local.functions_host.config import ConfigError
from local.functions_host.host import HostOptions, serve
from local.functions_host.runtime import AppError


def _options() -> HostOptions:
    parser = argparse.ArgumentParser(prog="python -m local.functions_host", description="Run an Azure Functions app.")
    parser.add_argument("--app", type=Path, required=True, help="folder that holds function_app.py and host.json")
    parser.add_argument("--settings", type=Path, required=True, help="app settings, as in local.settings.json")
    parser.add_argument("--state", type=Path, required=True, help="folder shared by the hosts of one stack")
    parser.add_argument("--clock", type=Path, required=True, help="file of the stack's movable clock")
    parser.add_argument("--port", type=int, default=0, help="HTTP port on loopback, 0 for a free one")
    parser.add_argument("--lease-seconds", type=int, default=600, help="how long a received message stays invisible")
    parser.add_argument("--name", default="host-1", help="unique among the hosts of one stack")
    given = parser.parse_args()
    if given.lease_seconds < 1:
        parser.error("--lease-seconds must be at least 1")
    return HostOptions(
        app=given.app.resolve(),
        settings=given.settings.resolve(),
        state=given.state.resolve(),
        clock=given.clock.resolve(),
        port=given.port,
        lease=timedelta(seconds=given.lease_seconds),
        name=given.name,
    )


def _main() -> int:
    options = _options()
    options.state.mkdir(parents=True, exist_ok=True)
    try:
        return 0 if asyncio.run(serve(options)) else 1
    except ConfigError as error:
        print(f"functions host: {error}", file=sys.stderr)
        return 2
    except AppError as error:
        print(f"functions host: the app cannot be loaded: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    code = _main()
    logging.shutdown()
    sys.stdout.flush()
    # A plain exit waits for every thread, and one that overran its function's time may never end.
    os._exit(code)
