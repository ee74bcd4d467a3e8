"""The process whose memory is measured: `python -m bench.inventory_worker FILE` takes one inventory of a stack."""

import json
import os
import sys
from pathlib import Path

from bench.made_up import peak_kib
from rotation.__main__ import _parser
from rotation.commands.ports import Ports
from shared.azure.wiring import Adapters
from shared.settings import Settings


def taken(ports: Ports, settings: Settings) -> int:
    """Run `inventory --json` and answer with the number of its lines."""
    options = _parser().parse_args(["inventory", "--json"])
    with Path(os.devnull).open("w") as nowhere:
        return sum(1 for line in options.command(options, settings, ports) if nowhere.write(line))


if __name__ == "__main__":
    settings = Settings.parse(json.loads(Path(sys.argv[1]).read_text())["Values"])
    lines = taken(Adapters(settings), settings)
    print(json.dumps({"lines": lines, "peak_kib": peak_kib()}))
