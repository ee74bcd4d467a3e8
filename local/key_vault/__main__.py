"""`python -m local.key_vault`: one vault, in the foreground."""

import argparse
import asyncio
import logging
import sys
from pathlib import Path

from local.key_vault.server import Options, serve
from local.serving import StateInUseError
from shared.clock import MovableClock


def main() -> int:
    """Run a vault until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m local.key_vault", description="A Key Vault for one machine.")
    parser.add_argument("--port", type=int, required=True, help="0: the port of the last run, else a free one")
    parser.add_argument("--state", type=Path, required=True, help="folder for everything that must survive")
    parser.add_argument("--clock", type=Path, required=True, help="file that holds the time offset of the local stack")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument(
        "--quota", action=argparse.BooleanOptionalAction, default=True, help="throttle as the real service does"
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    options = Options(arguments.state, MovableClock(arguments.clock), arguments.host, arguments.port, arguments.quota)
    try:
        asyncio.run(serve(options))
    except (StateInUseError, OSError) as error:
        sys.stderr.write(f"{parser.prog}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
