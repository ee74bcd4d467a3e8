"""`python -m shared.redact` in a pipe: lines as they come, JSON Lines, and nothing of a wrong line."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pure import credentials

ROOT = Path(__file__).parents[2]


def filtered(text: str | bytes, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    given = text if isinstance(text, bytes) else text.encode()
    command = [sys.executable, "-m", "shared.redact", *arguments]
    return subprocess.run(command, cwd=ROOT, input=given, capture_output=True, check=False)


def test_lines_come_out_masked_and_the_others_as_they_were() -> None:
    given = b"first\r\npassword=hunter2hunter2 \n\xff\xfe no UTF-8 \x00\nlast, without an end"
    ended = filtered(given)
    assert ended.stdout == given.replace(b"hunter2hunter2", b"[REDACTED:credential]")
    assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.mark.parametrize("whole", [True, False])
def test_a_private_key_over_many_lines_comes_out_as_one_mask(whole: bool) -> None:
    armour = "-----{} RSA PRIVATE" + " KEY-----\n"
    key = armour.format("BEGIN") + "MIIEowIBAAKCAQEA\n" * 3 + (armour.format("END") if whole else "")
    ended = filtered(f"before\n{key}{{after}}\n")
    assert ended.stdout == b"before\n[REDACTED:private-key]\n{after}\n"


def test_json_lines_say_which_kinds_were_found() -> None:
    (secret,) = {secret for kind, secret in credentials.vendors() if kind == "npm-token"}
    texts = [f"got {secret}", "nothing", "password=hunter2hunter2 ä"]
    ended = filtered("".join(json.dumps({"text": text}) + "\n" for text in texts), "--json")
    assert [json.loads(line) for line in ended.stdout.splitlines()] == [
        {"text": "got [REDACTED:npm-token]", "found": ["npm-token"]},
        {"text": "nothing", "found": []},
        {"text": "password=[REDACTED:credential] ä", "found": ["credential"]},
    ]


WRONG = {
    "no JSON": "hunter2",
    "no object": '["hunter2"]',
    "no text": '{"message": "hunter2"}',
    "a text that is none": '{"text": ["hunter2"]}',
    "more than the text": '{"text": "x", "more": "hunter2"}',
    "too deep": "[" * 100_000,
}


@pytest.mark.parametrize("line", WRONG.values(), ids=list(WRONG))
def test_a_wrong_line_is_named_by_its_number_and_not_shown(line: str) -> None:
    ended = filtered(f'{{"text": "fine"}}\n{line}\n', "--json")
    assert ended.returncode == 2
    assert ended.stderr.startswith(b"line 2: ")
    assert json.loads(ended.stdout) == {"text": "fine", "found": []}
    assert b"hunter2" not in ended.stderr
    assert b"Traceback" not in ended.stderr


def test_each_line_comes_out_before_the_next_one_goes_in() -> None:
    command = [sys.executable, "-m", "shared.redact"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as filter_:
        assert filter_.stdin is not None
        assert filter_.stdout is not None
        for number in range(3):
            filter_.stdin.write(b"line %d\n" % number)
            filter_.stdin.flush()
            assert filter_.stdout.readline() == b"line %d\n" % number
        filter_.stdin.close()


def test_further_patterns_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "file.toml"
    file.write_text('[own]\nkind = "pattern"\nshape = "own_[0-9]{8}"\nowner = "me"\n')
    digits = random.Random(1).randrange(10**7, 10**8)
    assert filtered(f"own_{digits}\n", "--redaction", str(file)).stdout == b"[REDACTED:own]\n"
    file.write_text("[own]\n")
    ended = filtered("x\n", "--redaction", str(file))
    assert (ended.returncode, ended.stdout) == (2, b"")
    assert b"[own] kind is None" in ended.stderr


def test_help_shows_an_example() -> None:
    assert b"example: " in filtered("", "--help").stdout


def test_a_wrong_option_is_not_repeated_if_it_is_a_secret() -> None:
    for module in ("shared.redact", "shared.redact.scan", "shared.redact.sweep"):
        command = [sys.executable, "-m", module, "x", "--password=hunter2hunter2"]
        ended = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        assert ended.returncode == 2
        assert "--password=[REDACTED:credential]" in ended.stderr


@pytest.mark.parametrize("redirected", ["<&-", ">&-", "> /dev/full"])
def test_without_input_or_output_it_ends_with_one_sentence(redirected: str) -> None:
    command = f"echo password=hunter2 | {sys.executable} -m shared.redact {redirected}"
    ended = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "hunter2" not in ended.stderr


def test_whoever_reads_may_go_away() -> None:
    command = f"yes password=hunter2 | {sys.executable} -m shared.redact | head -1"
    ended = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr) == ("password=[REDACTED:credential]\n", "")
