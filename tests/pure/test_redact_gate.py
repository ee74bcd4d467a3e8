"""What leaves otherwise than by a log line: rows, messages, errors; and a sweep of what was written before."""

import io
import json
import logging
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotation.audit import GENESIS, AuditEvent, chained
from rotation.message import Action, Job, Trigger
from shared import log
from shared.azure.queues import AzureQueues
from shared.azure.records import AzureRecords
from shared.azure.registers import AzureAlertRegister, AzureDeadLetters
from shared.errors import Transient
from shared.redact import KNOWN_SECRETS, find, mask
from shared.redact.gate import HIDDEN, ensure_clean, gated
from shared.redact.sweep import Fingerprints, main, sweep
from shared.values import Alert, AlertEntry, Closing, DeadLetter, Severity, StoredRecord, tenant_id
from tests.pure.keyrings import NOW
from tests.pure.test_audit import EVENTS, event
from tests.pure.test_known_secrets import WRAPPED, WRITTEN

ROOT = Path(__file__).parents[2]
PLANTED = "password=hunter2hunter2"
MASKED = "password=[REDACTED:credential]"


class Written:
    """In the place of a table or a queue; remembers what it is given."""

    def __init__(self) -> None:
        self.rows: list[Any] = []

    def create_entity(self, row: Any) -> None:
        self.rows.append(row)

    def submit_transaction(self, operations: Any) -> None:
        self.rows += operations

    def send_message(self, body: str, **_: object) -> None:
        self.rows.append(body)


def test_free_text_of_a_row_is_masked_and_all_else_stays_as_it_is() -> None:
    row = {"PartitionKey": "a", "reason": PLANTED, "wrapped": b"\x01" * 256, "seen": NOW, "rows": 7}
    assert gated(row, ("reason",)) == row | {"reason": MASKED}
    clean = {"PartitionKey": "a", "reason": "password=", "kid": "hunter2hunter2"}
    assert gated(clean) is clean or gated(clean) == clean


@pytest.mark.parametrize("text", ["--password hunter2hunter2", "credentials:\n  password: hunter2hunter2"])
def test_what_is_masked_alone_is_masked_in_a_row_and_in_a_log_record_among_others(text: str) -> None:
    assert "hunter2" not in str(gated({"PartitionKey": "secret", "verdict": text, "reason": "x"}, ("verdict",)))
    record = logging.makeLogRecord({"name": "a", "msg": text, "tenant": "acme"})
    assert "hunter2" not in str(vars(log.masked_copy(record)))


@pytest.mark.parametrize(
    "reason",
    [
        "credentials: password: {}",
        "ran psql\n--password {}",
        "psql\t--password {}",
        "ALTER ROLE app PASSWORD '{}'",
        'ran ["psql", "--password", "{}"]',
        "secret:\n  value: {}",
    ],
)
def test_no_secret_of_a_reason_gets_into_a_record(reason: str) -> None:
    (record,) = chained([event(reason=reason.format("hunter2hunter2"))], 1, GENESIS, NOW)
    assert b"hunter2" not in record.canonical
    assert not find(record.canonical.decode())


@pytest.mark.parametrize("column", ["PartitionKey", "kid", "job"])
def test_a_row_with_a_secret_in_a_typed_column_is_not_stored(column: str) -> None:
    with pytest.raises(ValueError, match=f"a secret is in {column}") as caught:
        gated({column: PLANTED, "reason": PLANTED}, ("reason",))
    assert "hunter2" not in str(caught.value)


def test_a_text_that_is_stored_as_it_is_must_be_clean() -> None:
    ensure_clean('{"reason": "the interval is over"}')
    with pytest.raises(ValueError, match="a secret is in a text"):
        ensure_clean(PLANTED)


def test_messages_alerts_and_letters_pass_the_gate() -> None:
    queue, table = Written(), Written()
    AzureQueues({"jobs": cast("Any", queue)}).send("jobs", json.dumps({"reason": PLANTED, "a": 1}))
    assert json.loads(queue.rows[0]) == {"reason": MASKED, "a": 1}
    alert = Alert("a/1", Severity.CRITICAL, "what", "queue/jobs", NOW, {"reason": PLANTED, "letter": "x"})
    AzureAlertRegister(cast("Any", table)).put(AlertEntry(alert))
    assert json.loads(table.rows[0]["details"]) == {"reason": MASKED, "letter": "x"}
    letter = DeadLetter("jobs", "a", PLANTED, json.dumps({"reason": PLANTED}), NOW, can_resend=True)
    AzureDeadLetters(cast("Any", table)).keep(letter)
    assert table.rows[1]["reason"] == MASKED
    assert json.loads(table.rows[1]["body"]) == {"reason": MASKED}


def test_a_record_with_a_secret_is_not_appended() -> None:
    table = Written()
    (good,) = chained([event()], 1, GENESIS, NOW)
    bad = StoredRecord(good.stream, good.seq, good.event_id, good.canonical + PLANTED.encode(), good.leaf_hash)
    with pytest.raises(ValueError, match="a secret"):
        AzureRecords(cast("Any", table)).append([bad])
    assert table.rows == []
    AzureRecords(cast("Any", table)).append([good])
    assert len(table.rows) == 2


REASONS = st.lists(
    st.sampled_from([PLANTED, "password=", "token: ", '"', "\\", "secret", " ", "x" * 57, "Bearer ", "://a:b@c", ","])
    | st.sampled_from(
        [" PASSWORD '", "\n--password hunter2", "secret: [", "{", "'", ": ", "\n  ", "|", "(", "]", "- ", "str = "]
    )
    | st.sampled_from(["--password", "--token", ";pwd=", "&quot;", "mysql -p", "docker login -p", "apiKey", "é"])
).map("".join)
LOOK_LIKE_SECRETS_IN_JSON = [
    "leaked by --password",
    "typed behind mysql -p",
    "typed behind docker login -p",
    "lost: ;pwd=\\x",
    "of the form ;pwd=&quot;",
    "\t".join(["password:", "abc", "lost"]),
    f"{'x' * 180} password='{'y' * 9}'",
]
"""And are none: the JSON around them, or its escapes, make them look so; the last one is cut in its mask."""


@given(st.lists(EVENTS, max_size=4), REASONS, st.integers(1, 2**40))
def test_no_record_that_can_be_made_is_taken_for_a_secret(events: list[AuditEvent], reason: str, seq: int) -> None:
    for record in chained([*events, event(reason=reason)], seq, os.urandom(32), datetime.now(UTC)):
        assert not find(record.canonical.decode())


@pytest.mark.parametrize("reason", LOOK_LIKE_SECRETS_IN_JSON)
def test_a_reason_that_looks_like_a_secret_in_json_alone_keeps_nothing_from_being_recorded(reason: str) -> None:
    table = Written()
    AzureRecords(cast("Any", table)).append(chained([event(reason=reason)], 1, GENESIS, NOW))
    assert len(table.rows) == 2


@pytest.mark.parametrize("reason", [each for each in LOOK_LIKE_SECRETS_IN_JSON if each.isprintable()])
def test_a_reason_that_looks_like_a_secret_in_json_alone_loses_no_message(reason: str) -> None:
    queue = Written()
    job = Job(Action.ROTATE_DEK, tenant_id("acme"), "r1", Trigger.MANUAL, "operator", reason)
    AzureQueues({"jobs": cast("Any", queue)}).send("jobs", job.to_json())
    received = Job.parse(queue.rows[0].encode(), "m1")
    assert replace(received, reason="") == replace(job, reason="")
    assert received.reason in {reason, HIDDEN, mask(reason)[:200]}


@given(REASONS, REASONS)
def test_an_alert_that_was_masked_is_still_one(reason: str, because: str) -> None:
    table = Written()
    alert = Alert("a/1", Severity.CRITICAL, "what", "queue/jobs", NOW, {"reason": reason, "job": "dek.rotate/acme/v1"})
    entry = AlertEntry(alert, closings=(Closing(1, "somebody", because), Closing(2, "somebody", "x")))
    AzureAlertRegister(cast("Any", table)).put(entry)
    (row,) = table.rows
    details = json.loads(row["details"])
    assert details.keys() == {"reason", "job"}
    assert details["job"] == "dek.rotate/acme/v1"
    assert [each[:2] for each in json.loads(row["closings"])] == [[1, "somebody"], [2, "somebody"]]


def test_an_errors_text_is_masked() -> None:
    assert str(Transient("no answer", url="https://acc?sig=" + "a1B2" * 11)).endswith("sig=[REDACTED:sas])")


def test_an_error_that_cannot_be_masked_leaves_without_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    @log.masked_errors
    def fail() -> None:
        raise KeyError(PLANTED)

    def broken(_: str) -> str:
        raise MemoryError

    monkeypatch.setattr(log, "mask", broken)
    dropped = log.MaskingFormatter.dropped
    with pytest.raises(RuntimeError, match="KeyError: its text could not be masked") as caught:
        fail()
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))
    assert log.MaskingFormatter.dropped == dropped + 1


def test_an_error_that_leaves_for_the_host_is_masked_with_its_stack_and_its_causes() -> None:
    @log.masked_errors
    def fail(text: str) -> str:
        if not text:
            return "done"
        raise ValueError("outer") from KeyError(text)

    with pytest.raises(RuntimeError, match="REDACTED") as caught:
        fail(PLANTED)
    text = "".join(traceback.format_exception(caught.value))
    assert "hunter2" not in text
    assert "ValueError: outer" in text
    with pytest.raises(ValueError, match="outer"):
        fail("nothing secret")
    assert fail("") == "done"


# The sweep

VALUES = [os.urandom(size) for size in (16, 32, 33, 64)]


@pytest.mark.parametrize("write", WRITTEN.values(), ids=list(WRITTEN))
def test_a_secret_that_was_written_is_found_by_its_fingerprint(write: Callable[[bytes], str]) -> None:
    fingerprints = Fingerprints.of(VALUES)
    for value in VALUES:
        assert all(fingerprints.are_in(wrap(write(value))) for wrap in WRAPPED.values())


def test_fingerprints_hold_nothing_of_the_values_and_survive_being_stored() -> None:
    fingerprints = Fingerprints.of(VALUES)
    stored = fingerprints.to_json()
    assert Fingerprints.parse(stored) == fingerprints
    assert not any(value[at : at + 4].hex() in stored for value in VALUES[:2] for at in range(0, 12, 4))
    assert Fingerprints.of(VALUES).hashes != fingerprints.hashes
    for wrong in ("", "[]", "{}", '{"atp-fingerprints/1": 7}', '{"atp-fingerprints/1": "00", "hashes": ["x"]}'):
        with pytest.raises(ValueError, match="not a file of fingerprints"):
            Fingerprints.parse(wrong)


def test_short_and_simple_values_have_no_fingerprints() -> None:
    assert Fingerprints.of([b"short", bytes(32), b"abab" * 20]).hashes == frozenset()


def test_a_sweep_of_clean_records_finds_nothing_and_of_one_with_a_secret_that_one() -> None:
    fingerprints = Fingerprints.of([*VALUES, *KNOWN_SECRETS.values()[:100]])
    records = chained([event(number) for number in range(1, 20)], 1, GENESIS, NOW)
    texts = [(f"s{record.stream:02d}/{record.seq}", record.canonical.decode()) for record in records]
    assert list(sweep(texts, fingerprints)) == []
    leaking = ("s00/20", json.dumps({"reason": VALUES[1].hex()}))
    assert list(sweep([*texts, leaking], fingerprints)) == ["s00/20"]


def test_the_command_learns_fingerprints_and_names_the_lines(tmp_path: Path) -> None:
    def run(*arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "shared.redact.sweep", *arguments]
        return subprocess.run(command, cwd=ROOT, input=given, capture_output=True, check=False)

    secret = os.urandom(24).hex().encode()
    prints, logged = str(tmp_path / "prints.json"), tmp_path / "app.log"
    assert run(prints, "--learn", given=secret + b"\n").returncode == 0
    assert secret not in (tmp_path / "prints.json").read_bytes()
    logged.write_bytes(b'fine\n{"key": "' + secret + b'"}\nfine\n')
    ended = run(prints, str(logged))
    assert (ended.returncode, ended.stdout) == (1, f"{logged}:2\n".encode())
    logged.write_bytes(b"fine\n")
    assert run(prints, str(logged)).returncode == 0
    assert run(str(tmp_path / "none"), str(logged)).returncode == 2
    for arguments, mistake in (
        ((), b"no file to look in was named"),
        ((str(logged), "--learn"), b"reads standard input"),
        ((str(tmp_path),), f"{tmp_path}: Is a directory".encode()),
    ):
        ended = run(prints, *arguments)
        assert (ended.returncode, ended.stdout) == (2, b"")
        assert mistake in ended.stderr
    (tmp_path / "bytes").write_bytes(b"\xa3")
    for no_prints in (logged, tmp_path / "bytes"):
        ended = run(str(no_prints), str(logged))
        assert (ended.returncode, ended.stderr) == (2, f"{no_prints}: not a file of fingerprints\n".encode())


@pytest.mark.parametrize(
    ("given", "mistake"),
    [
        (b"", "stdin has no secret"),
        (b"\n\r\n", "stdin has no secret"),
        (b"hunter2\n", "line 1"),
        (b"0123456789abcdef\n\nhunter2hunter2\naaaaaaaaaaaaaaaaaaaaaaaa", "line 3, 4"),
    ],
    ids=["nothing", "empty lines", "short", "short and simple"],
)
def test_a_secret_that_no_sweep_can_find_is_told_when_it_is_learnt(
    given: bytes, mistake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
    assert main([str(tmp_path / "prints.json"), "--learn"]) == 2
    told = capsys.readouterr().err
    assert mistake in told
    assert "hunter2" not in told
    assert list(tmp_path.iterdir()) == []


def test_a_mask_that_was_cut_off_is_not_masked_again() -> None:
    for length in range(len("password="), len(MASKED) + 1):
        assert not find(MASKED[:length])
        assert not find(json.dumps({"reason": MASKED[:length], "schema": "x"}))
