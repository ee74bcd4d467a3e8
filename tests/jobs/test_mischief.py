"""Whatever is done to the lines of a trail by who has no signing key: a verdict that holds tells the truth."""

import json
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
import rfc8785

from rotation.bundle import Signed, anchor_line, is_anchor, is_record, part_in
from rotation.checkpoint import parse
from rotation.merkle import leaf_hash
from rotation.streams import no_records, to_texts
from rotation.verification import Verdict
from shared.errors import Integrity
from tests.jobs.auditing import Platform, verified

type Files = list[list[bytes]]


@pytest.fixture(scope="module")
def platform() -> Platform:
    """Fourteen checkpoints, two of them handovers, over a hundred records."""
    platform = Platform()
    for minute in range(14):
        platform.record(minute * 7 % 9)
        platform.record(3, "acme")
        platform.sign()
        if minute in (4, 9):
            platform.world.add_signing_key()
            platform.restart()
    return platform


@pytest.fixture(scope="module")
def lines(platform: Platform) -> list[bytes]:
    """Its trail."""
    return platform.export()


def in_files(lines: list[bytes], random: Random) -> Files:
    """The lines as several files, each with its anchor."""
    streams, handovers = no_records(), list[str]()
    files = [lines[:1]]
    for line in lines[1:]:
        files[-1].append(line)
        if is_record(line):
            streams[json.loads(line)["stream"]].add(line.removesuffix(b"\n"))
            continue
        note = part_in(line).note
        handovers += [note] if parse(note).statement.next_key else []
        if random.random() < 0.3 and line is not lines[-1]:
            files.append([anchor_line(part_in(line).number, note, to_texts(streams), handovers)])
    return files


def places(files: Files, wanted: Callable[[bytes], bool]) -> list[tuple[int, int]]:
    """Where those lines are, by file and line."""
    return [(number, at) for number, file in enumerate(files) for at, line in enumerate(file) if wanted(line)]


def chain(files: Files, stream: int, behind: int, *, numbered: bool) -> None:
    """Compute the hashes of a stream anew behind that record, and the numbers, too."""
    prev, count = "", 0
    for number, at in places(files, is_record):
        record: dict[str, Any] = json.loads(files[number][at])
        if record["stream"] != stream:
            continue
        count += 1
        if record["seq"] > behind:
            record |= {"prev": prev or record["prev"]} | ({"seq": count} if numbered else {})
        files[number][at] = rfc8785.dumps(record) + b"\n"
        prev = leaf_hash(files[number][at][:-1]).hex()


def do_mischief(files: Files, random: Random) -> None:
    """One of the things that can be done to the files."""
    records = places(files, is_record)
    others = places(files, lambda line: not is_record(line) and not is_anchor(line))
    if not records or not others:
        return
    number, at = random.choice(records)
    record = json.loads(files[number][at])
    of_stream = [place for place in records if json.loads(files[place[0]][place[1]])["stream"] == record["stream"]]
    match random.randrange(10):
        case 0:
            del files[number][at]
        case 1 | 9:
            first = random.randrange(len(of_stream))
            for file, place in reversed(of_stream[first : first + random.choice((2, 4, 99))]):
                del files[file][place]
        case 2 | 3:
            files[number][at] = rfc8785.dumps(record | {"reason": "it never happened"}) + b"\n"
            if random.random() < 0.8:
                chain(files, record["stream"], record["seq"], numbered=random.random() < 0.3)
        case 4:
            for file, place in reversed(others[random.randrange(len(others)) :][: random.randrange(1, 4)]):
                del files[file][place]
        case 5:
            file, place = random.choice(records + others)
            files[number][at], files[file][place] = files[file][place], files[number][at]
        case 6:
            file, place = random.choice(records + others)
            files[number].insert(at, files[file][place])
        case 7:
            del files[number][at:]
        case _:
            whole = files.pop(random.randrange(len(files)))
            if random.random() < 0.5 or not files:
                files.insert(random.randrange(len(files) + 1), whole)


@pytest.mark.parametrize("seed", range(500))
def test_a_verdict_that_holds_tells_the_truth_whatever_was_done(
    platform: Platform, lines: list[bytes], seed: int
) -> None:
    random = Random(seed)
    done = random.randrange(6)
    files = in_files(lines, random)
    for _ in range(done):
        do_mischief(files, random)
    try:
        report = verified(files, platform.keys)
    except Integrity:
        assert done
        return
    given_records = [line for file in files for line in file if is_record(line)]
    if report.holds(Verdict.INTEGRITY):
        assert set(given_records) <= set(lines), "none was altered"
        assert len(set(given_records)) == len(given_records), "none is there twice"
    if report.sound:
        parts = [part_in(line) for file in files for line in file if not is_record(line)]
        numbers = [part.number for part in parts if isinstance(part, Signed)]
        assert numbers == list(range(report.from_number + 1, report.to_number + 1)), "no checkpoint is missing"
        ends = [at for at, line in enumerate(lines) if not is_record(line)]
        asked = lines[ends[report.from_number] : ends[report.to_number] + 1]
        assert [line for line in asked if is_record(line)] == given_records, "nor a record, each in its place"
    assert report.sound or done
