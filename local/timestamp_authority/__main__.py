"""`python -m local.timestamp_authority`: one time-stamp authority, in the foreground."""

import argparse
import asyncio
import logging
import sys
from pathlib import Path

from local.serving import StateInUseError
from local.timestamp_authority.server import serve
from shared.clock import MovableClock


def main() -> int:
    """Run an authority until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m local.timestamp_authority", description="A time-stamp authority for one machine."
    )
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--state", type=Path, required=True, help="folder for its key and its certificates")
    parser.add_argument("--clock", type=Path, required=True, help="file that holds the time offset of the local stack")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        asyncio.run(serve(arguments.state, MovableClock(arguments.clock), arguments.port))
    except (StateInUseError, OSError) as error:
        sys.stderr.write(f"{parser.prog}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
