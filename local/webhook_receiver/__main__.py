"""`python -m local.webhook_receiver`: one receiver of webhooks, in the foreground."""

import argparse
import asyncio
import logging
import sys
from pathlib import Path

from local.serving import StateInUseError
from local.webhook_receiver.server import serve
from local.webhook_receiver.vault import secrets_of
from rotation.webhook_secrets import WebhookSecrets
from shared.clock import MovableClock


def main() -> int:
    """Run a receiver until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m local.webhook_receiver", description="A receiver of signed webhooks for one machine."
    )
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--state", type=Path, required=True, help="folder that says where it listens")
    parser.add_argument("--clock", type=Path, required=True, help="file that holds the time offset of the local stack")
    parser.add_argument("--vault", required=True, help="URL of the local vault")
    parser.add_argument("--ca", type=Path, required=True, help="what the vault is trusted by")
    parser.add_argument("--secret", required=True, help="name in the vault of what messages are signed with")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    clock = MovableClock(arguments.clock)
    try:
        with secrets_of(arguments.vault, arguments.ca) as secrets:
            asyncio.run(serve(arguments.state, WebhookSecrets(secrets, arguments.secret, clock=clock), arguments.port))
    except (StateInUseError, OSError) as error:
        sys.stderr.write(f"{parser.prog}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
