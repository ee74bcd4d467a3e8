"""The benchmarks run; what they say of this machine is not a test's business."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from bench import tenants
from bench.__main__ import BENCHMARKS, main
from bench.result import Result, in_turns, machine, page, table
from bench.scale_worker import rotate
from shared.values import shard_of

ROOT = Path(__file__).parent.parent
GOOD = Result("cipher", "encrypt", "9 MB/s", "10 MB/s", 0.9, 0.9, at_least=True)
BAD = Result("memory", "many", "13 MiB", "10 MiB", 1.3, 1.2, at_least=False)


def test_the_quick_cipher_benchmark_prints_a_table_and_writes_its_results(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench", "cipher", "--quick", "--json", str(tmp_path / "cipher.json")]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    document: dict[str, Any] = json.loads((tmp_path / "cipher.json").read_text())
    results = document["results"]
    assert len(results) == 4
    assert ended.returncode == (0 if all(result["passed"] for result in results) else 1)
    for result in results:
        assert result["ratio"] > 0
        assert result["what"] in ended.stdout


def test_a_ratio_that_just_meets_its_target_passes_and_one_beyond_it_fails() -> None:
    assert GOOD.passed
    assert not BAD.passed
    assert "pass" in table([GOOD])
    assert "FAIL" in table([BAD])


def test_the_page_names_the_machine_and_every_result() -> None:
    text = page([GOOD, BAD], [("cipher", "What it measures.")], "3 cores and 5 GiB of memory")
    assert "| cipher | encrypt | 9 MB/s | 10 MB/s | 0.90 | >= 0.9 | pass |" in text
    assert "3 cores and 5 GiB" in text
    assert "## cipher\n\nWhat it measures.\n" in text


def test_every_benchmark_says_what_it_measures() -> None:
    for module in BENCHMARKS.values():
        assert "Floor: " in (module.__doc__ or "")


def test_a_benchmark_that_fails_takes_nothing_from_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(_: bool) -> list[Result]:
        raise RuntimeError("no room")

    results, document = tmp_path / "results.json", tmp_path / "benchmarks.md"
    monkeypatch.setattr("bench.__main__._RESULTS", results)
    monkeypatch.setattr("bench.__main__._PAGE", document)
    monkeypatch.setattr("bench.cipher.measure", lambda _: [GOOD])
    monkeypatch.setattr("bench.memory.measure", fails)
    results.write_text(json.dumps({"machine": machine(), "results": [asdict(BAD) | {"passed": False}]}))
    assert main(["memory", "cipher", "--write"]) == 1
    recorded = json.loads(results.read_text())["results"]
    assert [(each["benchmark"], each["ratio"]) for each in recorded] == [("cipher", 0.9), ("memory", 1.3)]
    assert "| memory | many |" in document.read_text()
    ended = capsys.readouterr()
    assert "encrypt" in ended.out
    assert "no room" in ended.err
    assert "failed: memory" in ended.err


def test_medians_are_of_runs_taken_in_turns() -> None:
    order: list[str] = []
    values = {"a": iter([1.0, 9.0, 2.0]), "b": iter([5.0, 4.0, 7.0])}

    def run(name: str) -> float:
        order.append(name)
        return next(values[name])

    assert in_turns(3, lambda: run("a"), lambda: run("b")) == (2.0, 5.0)
    assert order == ["a", "b"] * 3


def test_tenants_are_named_so_that_each_of_the_shards_has_as_many() -> None:
    assert sorted(map(shard_of, tenants.names(7, [3, 40]))) == [3] * 4 + [40] * 3


def test_a_made_up_rotation_that_is_killed_ends_as_one_that_is_not() -> None:
    undisturbed, killed = rotate(1_024, frozenset()), rotate(1_024, frozenset(range(50, 3_000, 97)))
    assert killed.kills > 0
    assert (killed.rows, killed.verified) == (undisturbed.rows, undisturbed.verified) == (1_024, True)


@pytest.mark.parametrize("arguments", [["no-such"], ["--write", "--quick"]])
def test_what_makes_no_sense_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "python -m bench" in capsys.readouterr().err
