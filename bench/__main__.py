"""`python -m bench`: measure, compare with the floors, judge. Exit code 1 if a target is missed or one fails."""

import argparse
import inspect
import json
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from bench import audit, cipher, inventory, memory, quota, redact, rewrap, rotation, scale, survival, vaults
from bench.result import Result, machine, page, table

BENCHMARKS: Final[Mapping[str, ModuleType]] = {
    "cipher": cipher,
    "redact": redact,
    "rotation": rotation,
    "memory": memory,
    "rewrap": rewrap,
    "quota": quota,
    "scale": scale,
    "vaults": vaults,
    "survival": survival,
    "audit": audit,
    "inventory": inventory,
}
"""Each module has `measure(quick) -> Sequence[Result]`, and says in its docstring what it measures."""

_ROOT: Final = Path(__file__).parent.parent
_RESULTS: Final = _ROOT / "bench" / "results.json"
_PAGE: Final = _ROOT / "docs" / "benchmarks.md"


def main(arguments: Sequence[str]) -> int:
    """Run the benchmarks that are named, or all."""
    options = _options(arguments)
    results: list[Result] = []
    failed: list[str] = []
    for name in options.name or BENCHMARKS:
        measure: Callable[[bool], Sequence[Result]] = BENCHMARKS[name].measure
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        try:
            measured = measure(options.quick)
        except Exception:  # noqa: BLE001 - hours of the others' results are not to be lost to it
            traceback.print_exc()
            failed.append(name)
            continue
        results += measured
        if options.write:
            _record(measured)
    print(table(results))
    if options.json:
        _write_json(options.json, _document(results))
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 0 if all(result.passed for result in results) and not failed else 1


def _document(results: Sequence[Result]) -> Mapping[str, Any]:
    return {"machine": machine(), "results": [asdict(result) | {"passed": result.passed} for result in results]}


def _record(measured: Sequence[Result]) -> None:
    """Put the results of one benchmark into the run of record; what another machine measured goes."""
    known = json.loads(_RESULTS.read_text(encoding="utf-8"))
    kept = known["results"] if known["machine"] == machine() else ()
    others = [Result(**{key: value for key, value in each.items() if key != "passed"}) for each in kept]
    results = [
        each
        for name in BENCHMARKS
        for each in (measured if measured[0].benchmark == name else others)
        if each.benchmark == name
    ]
    _write_json(_RESULTS, _document(results))
    sections = [(name, inspect.getdoc(module) or "") for name, module in BENCHMARKS.items()]
    _PAGE.write_text(page(results, sections, machine()), encoding="utf-8")


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure this program against floors that are measured in the same run.",
        epilog="example: python -m bench cipher --quick --json cipher.json",
    )
    parser.add_argument("name", nargs="*", metavar="NAME", help=f"which ones: {', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results there")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs: a look, not a result")
    parser.add_argument(
        "--write", action="store_true", help="put it on record: bench/results.json and docs/benchmarks.md"
    )
    options = parser.parse_args(arguments)
    if unknown := set(options.name) - BENCHMARKS.keys():
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    if options.write and options.quick:
        parser.error("--write records a full run: --quick does not go with it")
    return options


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
