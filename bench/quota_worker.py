"""A worker process without a functions host: `python -m bench.quota_worker SETTINGS READY` works until it is killed.

It creates the file READY when it begins to look for messages.
"""

import json
import sys
from pathlib import Path

from bench.crew import Crew
from rotation.message import REWRAP_BATCHES
from shared import log
from shared.azure import wiring
from shared.settings import Settings


def work(settings_file: Path, ready: Path) -> None:
    """Handle batches as the app does."""
    settings = Settings.parse(json.loads(settings_file.read_text())["Values"])
    log.configure(settings.log_level)
    adapters = wiring.Adapters(settings)
    worker = wiring.app(settings, adapters).worker
    crew = Crew(adapters, {REWRAP_BATCHES: lambda body, message_id: worker.handle(REWRAP_BATCHES, body, message_id)})
    ready.touch()
    crew.work(lambda: False)


if __name__ == "__main__":
    work(Path(sys.argv[1]), Path(sys.argv[2]))
