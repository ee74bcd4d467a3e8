"""The audit commands: found is what was asked for, verified what was signed, every mistake told in a sentence."""

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from rich.console import Console

from rotation.__main__ import EXIT_INTEGRITY, EXIT_REJECTED, main
from rotation.audit import STREAMS, AuditEvent, Outcome, stream_of, time_text
from rotation.checkpoint import parse, signed
from rotation.commands import audit_proof
from rotation.commands.audit_list import Wanted, found, last
from rotation.trail import Trail
from shared import log
from shared.azure import wiring
from shared.values import SigningKey
from tests.jobs.auditing import AuditProcess, Platform
from tests.simulator import (
    SIGNING_KEY,
    START,
    VAULT_URL,
    SimCheckpoints,
    SimEvidence,
    SimRecords,
    SimSigner,
    signing_secret,
)

ROOT = Path(__file__).parents[2]
SETTINGS = {"ATP_VAULT_URL": VAULT_URL, "AzureWebJobsStorage": "AccountName=acc;AccountKey=aHVudGVyMmh1bnRlcjI="}
KID = f"{VAULT_URL}/keys/master-kek/{1:032x}"
NEXT_KID = f"{VAULT_URL}/keys/master-kek/{2:032x}"
MINUTE = timedelta(minutes=1)


class Auditor:
    """Somebody at the command line of a simulated platform."""

    def __init__(self, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
        self.platform = Platform()
        self.world = world = self.platform.world
        self.ports: Any = SimpleNamespace(
            clock=world.clock,
            records=SimRecords(world),
            checkpoints=SimCheckpoints(world),
            audit_signer=SimSigner(world),
            evidence=SimEvidence(world),
        )
        self.folder = folder
        self.out = self.err = ""
        self._capsys = capsys

    def types(self, *arguments: str | Path) -> int:
        """Run a command."""
        try:
            return main(["audit", *map(str, arguments)])
        except SystemExit as exit_of_argparse:
            assert isinstance(exit_of_argparse.code, int)
            return exit_of_argparse.code
        finally:
            self.out, self.err = self._capsys.readouterr()

    def sees(self, *arguments: str | Path) -> list[dict[str, Any]]:
        """What a command that must succeed says in JSON Lines."""
        assert self.types(*arguments, "--json") == 0, self.err
        return [json.loads(line) for line in self.out.splitlines()]

    def is_told(self, *said: str) -> None:
        """One sentence, with all of this in it."""
        assert self.err.count("\n") == 1, self.err
        assert all(each in self.err for each in said), self.err

    def event(self, tenant: str = "acme", **changes: Any) -> AuditEvent:
        """The next event of a tenant."""
        self.platform.recorded += 1
        plain = AuditEvent(
            f"dek.rotate/{tenant}/v{self.platform.recorded}",
            Outcome.SUCCEEDED,
            "dek.rotate",
            f"dek/{tenant}",
            "planner",
            "schedule",
            "it was due",
        )
        return replace(plain, **changes)

    def records(self, tenant: str = "acme", **changes: Any) -> str:
        """Record an event; answers with its place."""
        event = self.event(tenant, **changes)
        self.platform.process.audit.record(event)
        return f"{event.stream}/{len(self.world.streams[event.stream])}"

    def file(self, name: str, content: str | bytes) -> Path:
        """A file with that content."""
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    @property
    def key(self) -> Path:
        """The pinned key."""
        return self.file("pin.pem", pem(self.platform.keys[0]))

    def exported(self, *arguments: str, name: str = "trail.jsonl") -> Path:
        """An export that must succeed."""
        path = self.folder / name
        assert self.types("export", *arguments, path) == 0, self.err
        return path

    def proof(self, place: str) -> Path:
        """A proof that must succeed."""
        path = self.folder / f"{place.replace('/', '-')}.proof"
        assert self.types("prove", place, path) == 0, self.err
        return path


def pem(key: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def text(moment: datetime) -> str:
    """A time as somebody types it."""
    return f"{moment:%Y-%m-%dT%H:%MZ}"


@pytest.fixture
def auditor(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Auditor:
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    auditor = Auditor(capsys, tmp_path)
    monkeypatch.setattr(wiring, "Adapters", lambda _: auditor.ports)
    monkeypatch.setattr(log, "configure", lambda _: None)
    return auditor


def history(auditor: Auditor) -> None:
    """Three hours in which different things happen."""
    for hour in range(3):
        auditor.records("acme", actor="alice@atp", job=f"dek.rotate/acme/by-hand-{hour}", details={"kid": KID})
        auditor.records("globex", outcome=Outcome.FAILED, reason='no "answer", they said')
        auditor.records("globex", job=f"dek.retire/globex/{hour}", action="dek.retire", outcome=Outcome.INTENT)
        auditor.records(
            job=f"kek.advance/master-kek.000001/000{hour}",
            subject="kek/master-kek",
            action="kek.advance",
            details={"old_kid": KID, "new_kid": NEXT_KID},
        )
        auditor.platform.sign(60)


# audit list


def jobs(rows: Sequence[dict[str, Any]]) -> list[str]:
    return [row["job"].split("/")[0] + "/" + row["subject"] for row in rows]


ROTATED, FAILED, RETIRED, ADVANCED = (
    "dek.rotate/dek/acme",
    "dek.rotate/dek/globex",
    "dek.retire/dek/globex",
    "kek.advance/kek/master-kek",
)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (("--tenant", "acme"), {ROTATED}),
        (("--tenant", "globex"), {FAILED, RETIRED}),
        (("--tenant", "nobody"), set()),
        (("--subject", "kek/master-kek"), {ADVANCED}),
        (("--subject", "dek/acme"), {ROTATED}),
        (("--key", "master-kek"), {ROTATED, ADVANCED}),
        (("--key", KID), {ROTATED, ADVANCED}),
        (("--key", f"{1:032x}"), {ROTATED, ADVANCED}),
        (("--key", NEXT_KID), {ADVANCED}),
        (("--key", "keys"), set()),
        (("--key", "sim.vault.azure.net"), set()),
        (("--key", "acme"), set()),
        (("--actor", "alice@atp"), {ROTATED}),
        (("--actor", "alice"), set()),
        (("--action", "dek.rotate"), {ROTATED, FAILED}),
        (("--action", "dek"), {ROTATED, FAILED, RETIRED}),
        (("--action", "kek."), {ADVANCED}),
        (("--outcome", "failed"), {FAILED}),
        (("--outcome", "intent"), {RETIRED}),
        (("--tenant", "globex", "--outcome", "failed", "--action", "dek.", "--actor", "planner"), {FAILED}),
        (("--tenant", "globex", "--actor", "alice@atp"), set()),
    ],
)
def test_records_are_found_by_what_they_say(auditor: Auditor, asked: Sequence[str], expected: set[str]) -> None:
    history(auditor)
    rows = auditor.sees("list", *asked)
    assert set(jobs(rows)) == expected
    assert len(rows) == 3 * len(expected)


def test_a_key_is_found_that_is_no_kek(auditor: Auditor) -> None:
    auditor.records(job="cli-1/key/jwt-signing-key", subject="key/jwt-signing-key", action="policy.write")
    auditor.records(
        job="cli-1/certificate/jwt-signing-key", subject="certificate/jwt-signing-key", action="policy.write"
    )
    (row,) = auditor.sees("list", "--key", "jwt-signing-key")
    assert row["subject"] == "key/jwt-signing-key"


def test_all_records_come_by_time_over_all_streams(auditor: Auditor) -> None:
    for number in range(60):
        auditor.records(f"tenant-{number * 7 % 20}")
        auditor.world.now += timedelta(seconds=1)
    rows = auditor.sees("list")
    assert [row["job"].rpartition("v")[2] for row in rows] == [str(number) for number in range(1, 61)]
    assert len({row["place"].partition("/")[0] for row in rows}) > 5


def test_records_of_one_stream_stay_in_its_order_whatever_their_clocks_said(auditor: Auditor) -> None:
    auditor.records("acme")
    auditor.world.now -= MINUTE
    auditor.records("acme")
    assert [row["place"].partition("/")[2] for row in auditor.sees("list")] == ["1", "2"]


def test_since_is_in_the_range_and_until_is_not(auditor: Auditor) -> None:
    for _ in range(4):
        auditor.records()
        auditor.platform.sign()
    at = [text(START + number * MINUTE) for number in range(5)]
    assert len(auditor.sees("list", "--since", at[1])) == 3
    assert len(auditor.sees("list", "--until", at[1])) == 1
    assert len(auditor.sees("list", "--since", at[1], "--until", at[3])) == 2
    assert len(auditor.sees("list", "--since", at[4])) == 0


@pytest.mark.parametrize("typed", ["2026-01-02", "2026-01-02T00:00", "2026-01-02T00:00Z", "2026-01-02T02:00+02:00"])
def test_times_are_utc_unless_they_say_otherwise(auditor: Auditor, typed: str) -> None:
    auditor.world.now = START + timedelta(hours=23)
    auditor.records("before")
    auditor.world.now = START + timedelta(hours=24)
    auditor.records("after")
    assert jobs(auditor.sees("list", "--since", typed)) == ["dek.rotate/dek/after"]
    assert jobs(auditor.sees("list", "--until", typed)) == ["dek.rotate/dek/before"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("list", "--since", "yesterday"),
        ("list", "--since", "2026-02-30"),
        ("list", "--until", "0001-01-01"),
        ("list", "--until", "9999-12-31"),
        ("list", "--since", "0001-01-01T00:00+14:00"),
        ("open", "--since", "1"),
        ("export", "--from", "tomorrow", "x"),
        ("verify", "x", "--key", "x", "--to", ""),
    ],
)
def test_a_date_that_is_none_is_told_with_one_that_is(auditor: Auditor, arguments: Sequence[str]) -> None:
    assert auditor.types(*arguments) == EXIT_REJECTED
    assert "must be a date like 2026-11-01, or with a time: 2026-11-01T14:30Z" in auditor.err
    assert f"audit {arguments[0]}: error: argument --" in auditor.err


@pytest.mark.parametrize(
    ("arguments", "mistake"),
    [
        (("--tenant", "Bad Name"), "not a tenant id"),
        (("--tenant", ""), "not a tenant id"),
        (("--tenant", "acme", "--subject", "dek/acme"), "not allowed with argument"),
        (("--subject", "acme"), "must be a kind and a name"),
        (("--key", ""), "must be a key id"),
        (("--action", "Rotate!"), "must be an action"),
        (("--outcome", "lost"), "invalid choice: 'lost'"),
        (("--last", "0"), "must be a number of records, 1 or more"),
        (("--json", "--csv"), "not allowed with argument"),
    ],
)
def test_what_cannot_be_found_is_not_searched_for(auditor: Auditor, arguments: Sequence[str], mistake: str) -> None:
    assert auditor.types("list", *arguments) == EXIT_REJECTED
    assert mistake in auditor.err
    assert auditor.world.calls == 0


@pytest.mark.parametrize("command", [("list", "--since", "--until"), ("export", "--from", "--to")])
def test_a_range_that_is_empty_is_told(auditor: Auditor, command: Sequence[str]) -> None:
    name, first, second = command
    arguments = [name, first, "2026-02-01", second, "2026-01-01", *(["x"] if name == "export" else [])]
    assert auditor.types(*arguments) == EXIT_REJECTED
    auditor.is_told(f"{first} must be before {second}", "2026-02-01")


@pytest.mark.parametrize(
    ("asked", "is_odd"),
    [
        (("--tenant", "acmee"), True),
        (("--subject", "kek/master-kekk", "--outcome", "failed"), True),
        (("--tenant", "acme", "--since", "2050-01-01"), False),
        (("--tenant", "acme"), False),
    ],
)
def test_a_subject_that_nothing_is_on_record_about_may_be_misspelt(
    auditor: Auditor, asked: Sequence[str], *, is_odd: bool
) -> None:
    history(auditor)
    assert auditor.types("list", *asked) == 0
    assert ("nothing at all is on record about" in auditor.err) is is_odd


def test_nothing_found_is_an_answer(auditor: Auditor) -> None:
    assert auditor.types("list") == 0
    assert auditor.out == "none\n"
    assert auditor.sees("list") == []
    assert auditor.types("list", "--csv") == 0
    assert auditor.out.count("\n") == 1
    assert auditor.out.startswith("time,place,action,subject,")


def test_the_table_is_aligned_and_says_its_times(auditor: Auditor) -> None:
    auditor.world.now += timedelta(seconds=7)
    auditor.records("a-tenant-with-a-long-name")
    auditor.records("b")
    assert auditor.types("list") == 0
    head, *rows = auditor.out.splitlines()
    assert head.startswith("time (UTC)  ")
    for row in rows:
        assert row.startswith("2026-01-01 00:00:07")
        assert row.index("planner") == head.index("actor")
        assert row.index("it was due") == head.index("reason")


def test_json_has_every_field_with_its_type(auditor: Auditor) -> None:
    place = auditor.records(old_version=1, new_version=2, details={"kid": KID})
    (row,) = auditor.sees("list")
    assert row == {
        "time": time_text(START),
        "place": place,
        "action": "dek.rotate",
        "subject": "dek/acme",
        "outcome": "succeeded",
        "old_version": 1,
        "new_version": 2,
        "actor": "planner",
        "trigger": "schedule",
        "reason": "it was due",
        "job": "dek.rotate/acme/v1",
        "details": {"kid": KID},
    }


@pytest.mark.parametrize("reason", ['a "quoted" word, and more', "two\nlines", "tab\tand\rreturn", "", "\u2014 dash"])
def test_csv_says_what_json_says(auditor: Auditor, reason: str) -> None:
    auditor.records(reason=reason, new_version=7, details={"kid": KID})
    (row,) = auditor.sees("list")
    assert auditor.types("list", "--csv") == 0
    (read,) = csv.DictReader(io.StringIO(auditor.out, newline=""))
    assert read["reason"] == row["reason"] == reason
    assert (read["old_version"], read["new_version"]) == ("", "7")
    assert json.loads(read["details"]) == row["details"]


@pytest.mark.parametrize("reason", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1"])
def test_nothing_in_csv_is_a_formula_to_a_spreadsheet(auditor: Auditor, reason: str) -> None:
    auditor.records(reason=reason)
    assert auditor.types("list", "--csv") == 0
    (read,) = csv.DictReader(io.StringIO(auditor.out, newline=""))
    assert read["reason"] == f"'{reason}"


def test_no_reason_moves_the_cursor_of_a_terminal(auditor: Auditor) -> None:
    auditor.records(reason="\x1b[2J\x1b[31mall is well\n2026-01-01 forged\u202e")
    assert auditor.types("list") == 0
    assert len(auditor.out.splitlines()) == 2
    assert "\x1b" not in auditor.out
    assert "\u202e" not in auditor.out


def test_the_last_ones_are_the_newest_of_those_asked_for(auditor: Auditor) -> None:
    history(auditor)
    every = auditor.sees("list")
    assert auditor.sees("list", "--last", "5") == every[-5:]
    assert auditor.sees("list", "--last", "99") == every
    failed = [row for row in every if row["outcome"] == "failed"]
    assert auditor.sees("list", "--last", "2", "--outcome", "failed") == failed[-2:]
    until = text(START + timedelta(hours=1))
    assert auditor.sees("list", "--last", "2", "--until", until) == every[2:4]
    assert auditor.sees("list", "--last", "9", "--since", until) == every[4:]


def read_rows(auditor: Auditor, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Where the number of rows that are read from now on is kept."""
    rows: list[int] = []
    real = SimRecords.read

    def counted(self: SimRecords, stream: int, first: int, limit: int) -> Any:
        page = real(self, stream, first, min(limit, 10))
        rows.append(len(page))
        return page

    monkeypatch.setattr(SimRecords, "read", counted)
    return rows


def long_history(auditor: Auditor, hours: int = 30) -> Trail:
    for _ in range(hours):
        for _ in range(20):
            auditor.records()
        auditor.platform.sign(60)
    return Trail(auditor.ports.records, auditor.ports.checkpoints)


def test_records_are_read_as_they_are_asked_for(auditor: Auditor, monkeypatch: pytest.MonkeyPatch) -> None:
    trail = long_history(auditor)
    rows = read_rows(auditor, monkeypatch)
    records = found(trail, Wanted())
    assert rows == []
    for _ in range(25):
        next(records)
    assert sum(rows) <= 30


def test_nothing_is_read_that_lies_far_before_since_or_behind_until(
    auditor: Auditor, monkeypatch: pytest.MonkeyPatch
) -> None:
    trail = long_history(auditor)
    rows = read_rows(auditor, monkeypatch)
    middle = START + timedelta(hours=15)
    assert len(list(found(trail, Wanted(since=middle, until=middle + timedelta(hours=1))))) == 20
    assert sum(rows) <= 80


def test_the_last_ones_are_looked_for_at_the_end(auditor: Auditor, monkeypatch: pytest.MonkeyPatch) -> None:
    trail = long_history(auditor)
    rows = read_rows(auditor, monkeypatch)
    assert len(list(last(trail, Wanted(), 3, auditor.world.now))) == 3
    assert sum(rows) <= 80


@pytest.mark.parametrize("form", [(), ("--json",), ("--csv",)])
def test_a_stream_that_was_tampered_with_is_told_with_its_place(auditor: Auditor, form: Sequence[str]) -> None:
    for _ in range(5):
        auditor.records()
    auditor.records("globex")
    stream = auditor.world.streams[stream_of("dek/acme")]
    stream[2] = replace(stream[2], canonical=stream[2].canonical.replace(b"it was due", b"it was fun"))
    assert auditor.types("list", "--tenant", "acme", *form) == EXIT_INTEGRITY
    auditor.is_told("Integrity", f"stream={stream_of('dek/acme')}, seq=3")
    assert stream_of("dek/globex") != stream_of("dek/acme")
    assert len(auditor.sees("list", "--tenant", "globex")) == 1


def test_a_record_that_was_changed_with_its_hash_is_found_by_the_next_one(auditor: Auditor) -> None:
    for _ in range(5):
        auditor.records()
    relink(auditor, 2, b"it was due", b"it was fun")
    assert auditor.types("list") == EXIT_INTEGRITY
    auditor.is_told("does not continue its audit stream", "seq=4")
    assert auditor.types("open") == EXIT_INTEGRITY


def relink(auditor: Auditor, index: int, old: bytes, new: bytes) -> None:
    """Change a record and the hash that is stored with it."""
    from rotation.merkle import leaf_hash

    stream = auditor.world.streams[stream_of("dek/acme")]
    changed = stream[index].canonical.replace(old, new)
    assert changed != stream[index].canonical
    stream[index] = replace(stream[index], canonical=changed, leaf_hash=leaf_hash(changed))


# audit open


def test_open_shows_what_has_no_outcome_oldest_first(auditor: Auditor) -> None:
    for name in ("acme", "globex", "initech"):
        auditor.records(name, job=f"dek.rotate/{name}/v1", outcome=Outcome.INTENT)
        auditor.platform.sign()
    auditor.records("globex", job="dek.rotate/globex/v1")
    rows = auditor.sees("open")
    assert [row["job"] for row in rows] == ["dek.rotate/acme/v1", "dek.rotate/initech/v1"]
    assert jobs(auditor.sees("open", "--since", text(START + MINUTE))) == ["dek.rotate/dek/initech"]
    assert auditor.types("open") == 0
    assert "dek.rotate/initech/v1" in auditor.out
    auditor.records("acme", job="dek.rotate/acme/v1")
    auditor.records("initech", job="dek.rotate/initech/v1", outcome=Outcome.SUPERSEDED)
    assert auditor.types("open") == 0
    assert auditor.out == "none\n"


def test_open_finds_what_a_clock_that_is_ahead_has_begun(auditor: Auditor) -> None:
    """Signed by a checkpoint that says it is earlier than its records."""
    auditor.platform.sign(61)
    auditor.world.now += timedelta(minutes=3)
    auditor.records(outcome=Outcome.INTENT)
    auditor.world.now -= timedelta(minutes=3)
    auditor.platform.sign(61)
    begun = START + timedelta(minutes=63)
    assert len(auditor.sees("open", "--since", text(begun))) == 1


# audit export and audit verify


def test_an_export_verifies(auditor: Auditor) -> None:
    history(auditor)
    export = auditor.exported()
    assert auditor.out == "exported 12 records under 180 checkpoints, signed up to 2026-01-01 03:00 UTC\n"
    assert auditor.err == ""
    assert auditor.types("verify", export, "--key", auditor.key) == 0
    assert auditor.err == ""
    assert [line.split()[:2] for line in auditor.out.splitlines()[2:]] == [
        ["integrity", "holds"],
        ["completeness", "holds"],
        ["time", "holds"],
        ["note", "whether"],
    ]


def test_a_report_in_json_has_this_shape(auditor: Auditor) -> None:
    history(auditor)
    (report,) = auditor.sees("verify", auditor.exported(), "--key", auditor.key)
    assert report == {
        "sound": True,
        "verdicts": {"integrity": True, "completeness": True, "time": True},
        "origin": "atp.example/audit",
        "records": 12,
        "checkpoints": 180,
        "from_checkpoint": 0,
        "to_checkpoint": 180,
        "from": None,
        "to": "2026-01-01T03:00:00.000000Z",
        "longest_gap_s": 60,
        "handovers": 0,
        "time_stamps": 0,
        "counts": {"integrity": 0, "completeness": 0, "time": 0},
        "first_bad": None,
        "findings": [],
    }


def test_nothing_is_exported_before_anything_is_signed(auditor: Auditor) -> None:
    auditor.records()
    for command in (("export", "x"), ("checkpoint",)):
        assert auditor.types(*(auditor.folder / each if each == "x" else each for each in command)) == EXIT_REJECTED
        auditor.is_told("nothing is signed yet")
    assert list(auditor.folder.iterdir()) == []


def test_a_file_that_is_there_is_not_overwritten(auditor: Auditor) -> None:
    history(auditor)
    there = auditor.file("there", "mine")
    for command in (("export", there), ("prove", "1/1", there), ("prove", auditor.records(), there)):
        assert auditor.types(*command) == EXIT_REJECTED
    assert there.read_text() == "mine"
    assert auditor.types("export", there) == EXIT_REJECTED
    auditor.is_told("exists already", "there")


def test_a_folder_that_is_not_there_is_told(auditor: Auditor) -> None:
    history(auditor)
    assert auditor.types("export", auditor.folder / "none" / "x") == EXIT_REJECTED
    auditor.is_told("cannot be written: No such file", "none/x")
    assert auditor.types("export", auditor.folder) == EXIT_REJECTED


def test_an_export_that_was_killed_leaves_nothing_under_its_name(
    auditor: Auditor, monkeypatch: pytest.MonkeyPatch
) -> None:
    history(auditor)
    name = auditor.folder / "trail.jsonl"
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)  # whoever is killed cleans nothing up
    auditor.world.outage = frozenset({"audit"})
    assert auditor.types("export", name) != 0
    assert [each.name for each in auditor.folder.iterdir()] == ["trail.jsonl.part"]
    auditor.world.outage = frozenset()
    assert auditor.types("export", name) == EXIT_REJECTED
    auditor.is_told("broken off: then delete this file", "trail.jsonl.part")
    monkeypatch.undo()


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_export_that_is_broken_off_cleans_up(
    auditor: Auditor, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    history(auditor)

    def broken(*_: object) -> Any:
        raise error

    monkeypatch.setattr(Trail, "lines", broken)
    code = auditor.types("export", auditor.folder / "x")
    assert list(auditor.folder.iterdir()) == []
    if isinstance(error, OSError):
        assert code == EXIT_REJECTED
        auditor.is_told("cannot be written: No space left on device")
    else:
        assert code == 130


def test_a_tampered_trail_is_not_exported(auditor: Auditor) -> None:
    history(auditor)
    stream = auditor.world.streams[stream_of("dek/acme")]
    stream[1] = replace(stream[1], canonical=stream[1].canonical.replace(b"it was due", b"it was fun"))
    assert auditor.types("export", auditor.folder / "x") == EXIT_INTEGRITY
    auditor.is_told("seq=2")
    assert list(auditor.folder.iterdir()) == []


@pytest.mark.parametrize(("first", "second"), [(30, 45), (60, 61), (61, 100), (0, 10), (90, 180), (119, 121)])
def test_an_export_of_a_range_begins_before_it_and_reaches_its_end(auditor: Auditor, first: int, second: int) -> None:
    for _ in range(3):
        auditor.platform.live(60, each=1)
    since, until = text(START + first * MINUTE), text(START + second * MINUTE)
    export = auditor.exported("--from", since, "--to", until)
    (report,) = auditor.sees("verify", export, "--key", auditor.key, "--from", since, "--to", until)
    assert (report["from"] or "") <= since.replace("Z", ":00.000000Z")
    assert report["to"] >= until.replace("Z", ":00.000000Z")
    assert report["to_checkpoint"] <= second + 1
    assert first - report["from_checkpoint"] <= 61, "an anchor is there every hour"
    wider = text(START + timedelta(hours=9))
    assert auditor.types("verify", export, "--key", auditor.key, "--to", wider) == EXIT_INTEGRITY
    assert "the trail ends before the time asked for" in auditor.out
    auditor.is_told("failed=completeness")


def test_an_export_that_is_asked_for_more_than_is_signed_says_how_far_it_goes(auditor: Auditor) -> None:
    history(auditor)
    auditor.exported("--to", "2026-02-01")
    assert "signed up to 2026-01-01 03:00 UTC" in auditor.out
    assert "it does not reach 2026-02-01 00:00 UTC" in auditor.out


def test_exports_of_ranges_that_follow_each_other_verify_as_one(auditor: Auditor) -> None:
    for _ in range(4):
        auditor.platform.live(60, each=1)
    trail = AuditProcess(auditor.world).trail
    point = trail.point_before(120)
    one = auditor.file("one", b"".join(auditor.platform.export(upto=point.number)))
    two = auditor.file("two", b"".join(auditor.platform.export(behind=point.number)))
    (report,) = auditor.sees("verify", one, two, "--key", auditor.key)
    assert (report["records"], report["checkpoints"]) == (240, 240)
    assert auditor.types("verify", two, one, "--key", auditor.key) == EXIT_INTEGRITY
    assert auditor.types("verify", one, one, "--key", auditor.key) == EXIT_INTEGRITY


def test_the_files_of_the_evidence_copy_verify(auditor: Auditor) -> None:
    auditor.platform.process = AuditProcess(auditor.world, blocks=50)
    auditor.platform.live(150, each=1)
    files = [auditor.file(f"copy-{number}", b"".join(lines)) for number, lines in enumerate(auditor.platform.copies())]
    assert len(files) == 3
    (report,) = auditor.sees("verify", *files, "--key", auditor.key)
    assert report["records"] == 150
    assert auditor.types("verify", files[1], "--key", auditor.key) == 0


def damaged(auditor: Auditor, change: Callable[[list[bytes]], None]) -> Path:
    """An export that was changed."""
    lines = auditor.platform.export()
    change(lines)
    return auditor.file("damaged.jsonl", b"".join(lines))


def replaced(index: int, old: bytes, new: bytes) -> Callable[[list[bytes]], None]:
    def change(lines: list[bytes]) -> None:
        changed = lines[index].replace(old, new)
        assert changed != lines[index]
        lines[index] = changed

    return change


def deleted(index: int) -> Callable[[list[bytes]], None]:
    def change(lines: list[bytes]) -> None:
        del lines[index]

    return change


@pytest.mark.parametrize(
    ("change", "verdict", "what"),
    [
        (replaced(1, b"it was due", b"it was fun"), "integrity", "the ones that were signed"),
        (deleted(1), "completeness", "missing"),
        (replaced(-1, b'"line"', b'"lime"'), "integrity", "neither a record nor an anchor nor a checkpoint"),
        (replaced(2, b'"seq":', b'"seq":9999999999999999999999'), "integrity", "no record of ours"),
        (replaced(3, b"{", b"\x1b[2J{"), "integrity", "damaged.jsonl, line 4"),
        (lambda lines: lines.append(lines[0]), "integrity", "damaged.jsonl, line 185: "[:20]),
        (lambda lines: lines.append(b"\xff" * 100), "integrity", "neither a record"),
        (lambda lines: lines.append(lines[-1][:50]), "integrity", "neither a record"),
        (replaced(-1, b"number", b"number 1"), "integrity", "neither a record"),
        (replaced(-1, b"2026-01-01T", b"0001-01-01T"), "integrity", "not as we write it"),
    ],
)
def test_a_verdict_that_fails_is_told_and_ends_with_4(
    auditor: Auditor, change: Callable[[list[bytes]], None], verdict: str, what: str
) -> None:
    history(auditor)
    path = damaged(auditor, change)
    assert auditor.types("verify", path, "--key", auditor.key) == EXIT_INTEGRITY
    assert what in auditor.out
    assert "\x1b" not in auditor.out
    fails = [line for line in auditor.out.splitlines() if line.split()[1] == "FAILS"]
    assert any(line.startswith(verdict) for line in fails)
    auditor.is_told("not every verdict holds", verdict)
    assert auditor.types("verify", path, "--key", auditor.key, "--json") == EXIT_INTEGRITY
    report = json.loads(auditor.out)
    assert (report["sound"], report["verdicts"][verdict]) == (False, False)
    assert report["counts"][verdict] == len([each for each in report["findings"] if each["verdict"] == verdict]) > 0


def test_a_record_that_is_dated_back_fails_by_its_time(auditor: Auditor) -> None:
    history(auditor)
    lines = auditor.platform.export()
    index = max(number for number, line in enumerate(lines) if line.startswith(b'{"action"'))
    path = damaged(auditor, replaced(index, b'"time":"2026-01-01', b'"time":"2025-01-01'))
    assert auditor.types("verify", path, "--key", auditor.key, "--json") == EXIT_INTEGRITY
    report = json.loads(auditor.out)
    assert report["verdicts"] == {"integrity": False, "completeness": True, "time": False}
    assert report["first_bad"]["stream"] is not None


def test_without_a_checkpoint_nothing_is_known_and_nothing_holds(auditor: Auditor) -> None:
    history(auditor)
    path = auditor.file("anchor.jsonl", auditor.platform.export()[0])
    assert auditor.types("verify", path, "--key", auditor.key) == EXIT_INTEGRITY
    assert "time          unknown  there is no checkpoint to hold anything to" in auditor.out
    assert auditor.types("verify", path, "--key", auditor.key, "--json") == EXIT_INTEGRITY
    report = json.loads(auditor.out)
    assert report["verdicts"] == {"integrity": None, "completeness": False, "time": None}


def test_the_trail_must_have_the_name_that_is_asked_for(auditor: Auditor) -> None:
    history(auditor)
    export = auditor.exported()
    assert auditor.types("verify", export, "--key", auditor.key, "--origin", "atp.example/audit") == 0
    assert auditor.types("verify", export, "--key", auditor.key, "--origin", "atp.example/test") == EXIT_INTEGRITY
    assert "a checkpoint is of another trail" in auditor.out
    assert auditor.types("verify", export, "--key", auditor.key, "--origin", "") == EXIT_REJECTED
    assert "--origin: must be 1 to 100 ASCII characters" in auditor.err


def test_a_longer_time_without_a_checkpoint_than_accepted_fails(auditor: Auditor) -> None:
    auditor.platform.live(2)
    auditor.world.now += timedelta(minutes=14)
    auditor.platform.live(2)
    export = auditor.exported()
    assert auditor.types("verify", export, "--key", auditor.key) == EXIT_INTEGRITY
    assert "no checkpoint was signed for longer than accepted" in auditor.out
    assert auditor.types("verify", export, "--key", auditor.key, "--max-gap", "15") == 0
    assert "the longest time without a checkpoint was 0:15:00" in auditor.out


def test_a_broken_line_is_named_by_file_and_line_among_several(auditor: Auditor) -> None:
    auditor.platform.live(125, each=1)
    point = AuditProcess(auditor.world).trail.point_before(120)
    one = auditor.file("one.jsonl", b"".join(auditor.platform.export(upto=point.number)))
    lines = auditor.platform.export(behind=point.number)
    lines[6] = b"what is this\n"
    two = auditor.file("two.jsonl", b"".join(lines))
    assert auditor.types("verify", one, two, "--key", auditor.key) == EXIT_INTEGRITY
    assert f"{two}, line 7" in auditor.out


def test_the_key_of_another_time_is_told_of_once(auditor: Auditor) -> None:
    auditor.platform.live(150, each=1)
    stranger = auditor.file("stranger.pem", pem(ec.derive_private_key(9, ec.SECP256R1()).public_key()))
    assert auditor.types("verify", auditor.exported(), "--key", stranger) == EXIT_INTEGRITY
    assert "integrity     FAILS  1 finding\n" in auditor.out
    assert "/keys/audit-signing/" in auditor.out


def test_an_export_of_a_time_that_is_not_signed_yet_is_refused(auditor: Auditor) -> None:
    auditor.platform.live(5)
    assert auditor.types("export", "--from", "2030-01-01", auditor.folder / "none.jsonl") == EXIT_REJECTED
    auditor.is_told("nothing is signed yet of that time")
    assert not (auditor.folder / "none.jsonl").exists()


def test_a_trail_that_ends_before_the_time_asked_for_begins_is_not_complete(auditor: Auditor) -> None:
    history(auditor)
    export = auditor.exported()
    assert auditor.types("verify", export, "--key", auditor.key, "--from", "2026-01-01T02:00Z") == 0
    assert auditor.types("verify", export, "--key", auditor.key, "--from", "2026-02-01") == EXIT_INTEGRITY
    assert "the trail ends before the time asked for" in auditor.out
    auditor.is_told("failed=completeness")


def test_more_findings_than_are_kept_are_counted(auditor: Auditor) -> None:
    auditor.platform.live(150, each=1)
    command = ("verify", auditor.exported(), "--key", auditor.key, "--origin", "another.example")
    assert auditor.types(*command) == EXIT_INTEGRITY
    assert "integrity     FAILS  150 findings" in auditor.out
    assert auditor.out.splitlines()[-1] == "and 50 findings more"


def test_a_checkpoint_that_is_held_must_be_in_the_trail(auditor: Auditor) -> None:
    history(auditor)
    assert auditor.types("checkpoint") == 0
    held = auditor.file("held.note", auditor.out)
    dos = auditor.file("dos.note", auditor.out.replace("\n", "\r\n"))
    export = auditor.exported()
    assert auditor.types("verify", export, "--key", auditor.key, "--held", held, "--held", dos) == 0
    short = auditor.file("short.jsonl", b"".join(auditor.platform.export(upto=100)))
    assert auditor.types("verify", short, "--key", auditor.key, "--held", held) == EXIT_INTEGRITY
    assert "cut off: it ends before the checkpoint that is held" in auditor.out
    statement = replace(parse(held.read_text()).statement, size=13)
    signature = signing_secret(1).sign(statement.to_text().encode(), ec.ECDSA(SHA256()))
    fork = auditor.file("fork.note", signed(statement, [(signing_secret(1).public_key(), signature)]))
    assert auditor.types("verify", export, "--key", auditor.key, "--held", held, "--held", fork) == EXIT_INTEGRITY
    assert "forked or rewritten" in auditor.out


def test_a_held_checkpoint_that_nobody_trusted_has_signed_proves_nothing(auditor: Auditor) -> None:
    history(auditor)
    other = auditor.file("other", auditor.platform.notes[-1].replace("number 180", "number 170"))
    assert auditor.types("verify", auditor.exported(), "--key", auditor.key, "--held", other) == EXIT_REJECTED
    auditor.is_told("a checkpoint that is held is signed by no trusted key", "number=170")


def test_a_rotated_key_is_trusted_by_its_handover(auditor: Auditor) -> None:
    history(auditor)
    auditor.world.add_signing_key()
    auditor.platform.live(3)
    (report,) = auditor.sees("verify", auditor.exported(), "--key", auditor.key)
    assert report["handovers"] == 1
    assert auditor.types("key") == 0
    assert auditor.out.encode() == pem(signing_secret(2).public_key())


def test_the_key_to_be_pinned_is_the_newest_before_anything_is_signed(auditor: Auditor) -> None:
    assert auditor.types("key") == 0
    assert auditor.out.encode() == auditor.key.read_bytes()


def unusable(auditor: Auditor) -> dict[str, tuple[Sequence[str | Path], str]]:
    """Arguments for `audit verify` that cannot be used, and what must be said."""
    good, key = auditor.exported(), auditor.key
    missing = auditor.folder / "missing"
    file = auditor.file
    other_curve = pem(ec.derive_private_key(1, ec.SECP384R1()).public_key())
    other_kind = pem(ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key())
    return {
        "no such file": ((missing, "--key", key), f"cannot be read: No such file or directory (file={missing}"),
        "a folder": ((auditor.folder, "--key", key), "cannot be read: Is a directory"),
        "an empty file": ((file("e", ""), "--key", key), "it is empty"),
        "a key": ((key, "--key", key), f"the first line is no anchor (file={key}, line=1)"),
        "binary": ((file("b", bytes(range(256)) * 99), "--key", key), "the first line is no anchor"),
        "a second file that is none": ((good, key, "--key", key), f"file={key}"),
        "a key that is missing": ((good, "--key", missing), f"file={missing}"),
        "a key that is none": ((good, "--key", good), "not a P-256 public key in PEM; `audit key` prints"),
        "a key on another curve": ((good, "--key", file("c", other_curve)), "not a P-256 public key"),
        "a key of another kind": ((good, "--key", file("k", other_kind)), "not a P-256 public key"),
        "a note that is none": ((good, "--key", key, "--held", key), "not a checkpoint; `audit checkpoint` prints"),
        "a note in UTF-16": ((good, "--key", key, "--held", file("u", "x".encode("utf-16"))), "not a checkpoint"),
        "roots that are none": ((good, "--key", key, "--tsa-roots", key), f"file={key}"),
        "roots that are missing": ((good, "--key", key, "--tsa-roots", missing), f"file={missing}"),
    }


CASES = [
    "no such file",
    "a folder",
    "an empty file",
    "a key",
    "binary",
    "a second file that is none",
    "a key that is missing",
    "a key that is none",
    "a key on another curve",
    "a key of another kind",
    "a note that is none",
    "a note in UTF-16",
    "roots that are none",
    "roots that are missing",
]


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_file_is_told_with_its_name_and_ends_with_2(auditor: Auditor, name: str) -> None:
    auditor.platform.live(3)
    cases = unusable(auditor)
    assert list(cases) == CASES
    arguments, said = cases[name]
    assert auditor.types("verify", *arguments) == EXIT_REJECTED
    auditor.is_told("Rejected: ", said)
    assert auditor.out == ""


def test_a_disk_that_cannot_be_read_is_told(auditor: Auditor, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(io.BytesIO):
        def read(self, *_: object) -> bytes:
            raise OSError(5, "Input/output error")

        readline = read

    auditor.platform.live(3)
    export, key, held = auditor.exported(), auditor.key, auditor.file("held", auditor.platform.notes[0])
    real = Path.open
    for broken in (export, key, held):
        monkeypatch.setattr(
            Path, "open", lambda path, mode, broken=broken: Broken() if path == broken else real(path, mode)
        )
        assert auditor.types("verify", export, "--key", key, "--held", held) == EXIT_REJECTED
        auditor.is_told("cannot be read: Input/output error", str(broken))


def test_time_stamps_are_said_not_to_be_checked_without_roots(auditor: Auditor) -> None:
    history(auditor)
    assert auditor.types("verify", auditor.exported(), "--key", auditor.key) == 0
    assert "time-stamps were not checked" in auditor.out


def test_how_far_it_is_is_told_on_a_terminal_and_nowhere_else(
    auditor: Auditor, monkeypatch: pytest.MonkeyPatch
) -> None:
    history(auditor)
    monkeypatch.setattr(audit_proof, "_SHOW_EVERY", 5)
    export = auditor.exported()
    assert auditor.err == ""
    shown = io.StringIO()
    monkeypatch.setattr(
        audit_proof, "Console", lambda stderr: Console(file=shown, force_terminal=True, width=80) if stderr else None
    )
    auditor.exported(name="again")
    assert auditor.types("verify", export, "--key", auditor.key) == 0
    assert "exporting" in shown.getvalue()
    assert "verifying" in shown.getvalue()
    assert auditor.err == ""
    assert "\x1b" not in auditor.out


# audit prove and audit check


def test_a_record_is_proven(auditor: Auditor) -> None:
    history(auditor)
    (place, *_) = [row["place"] for row in auditor.sees("list", "--key", NEXT_KID)]
    proof = auditor.proof(place)
    assert f"record {place} is signed by checkpoint 1; the proof is in {proof}" in auditor.out
    assert auditor.types("check", proof, "--key", auditor.key) == 0
    assert auditor.out.startswith("proven: the record is in the trail atp.example/audit, signed at 2026-01-01 00:01:00")
    assert f'details       {{"new_kid": "{NEXT_KID}", "old_kid": "{KID}"}}' in auditor.out
    (said,) = auditor.sees("check", proof, "--key", auditor.key)
    assert (said["proven"], said["checkpoint"]["number"]) == (True, 1)
    assert said["record"]["details"] == {"new_kid": NEXT_KID, "old_kid": KID}


def test_every_record_that_is_listed_can_be_proven(auditor: Auditor) -> None:
    history(auditor)
    for row in auditor.sees("list"):
        (said,) = auditor.sees("check", auditor.proof(row["place"]), "--key", auditor.key)
        assert said["record"]["job"] == row["job"]


@pytest.mark.parametrize(
    "place", ["", "3", "3/", "/3", "3/0", "16/1", "-1/1", "3/-1", "3/x", "1/1/1", "\u0663/1", f"3/{'9' * 5000}", "3/1 "]
)
def test_a_place_that_is_none_is_told_with_one_that_is(auditor: Auditor, place: str) -> None:
    assert auditor.types("prove", "--", place, auditor.folder / "x") == EXIT_REJECTED
    auditor.is_told("a place is a stream and a number, as `audit list` shows it: 3/1712")
    assert list(auditor.folder.iterdir()) == []


def test_a_record_that_is_not_there_or_not_signed_yet_is_told_as_that(auditor: Auditor) -> None:
    history(auditor)
    place = auditor.records()
    stream, seq = place.split("/")
    assert auditor.types("prove", place, auditor.folder / "x") == EXIT_REJECTED
    auditor.is_told("no checkpoint signs that record yet; the next one will, in a minute")
    assert auditor.types("prove", f"{stream}/{int(seq) + 1}", auditor.folder / "x") == EXIT_REJECTED
    auditor.is_told("there is no record at that place")
    empty = next(number for number in range(STREAMS) if number not in auditor.world.streams)
    assert auditor.types("prove", f"{empty}/1", auditor.folder / "x") == EXIT_REJECTED
    auditor.is_told("there is no record at that place")
    assert list(auditor.folder.iterdir()) == []


def test_a_proof_is_not_checked_by_another_key(auditor: Auditor) -> None:
    place = auditor.records()
    auditor.platform.sign()
    stranger = auditor.file("stranger.pem", pem(ec.derive_private_key(9, ec.SECP256R1()).public_key()))
    proof = auditor.proof(place)
    assert auditor.types("check", proof, "--key", stranger) == EXIT_INTEGRITY
    auditor.is_told("signed by a key that is not trusted", str(proof))
    assert auditor.types("check", proof, "--key", stranger, "--json") == EXIT_INTEGRITY
    assert json.loads(auditor.out)["proven"] is False
    assert auditor.types("check", proof, "--key", stranger, "--key", auditor.key) == 0


def test_a_tampered_proof_proves_nothing(auditor: Auditor) -> None:
    place = auditor.records()
    auditor.platform.sign()
    whole, key = auditor.proof(place).read_bytes(), auditor.key
    for at in range(0, len(whole), 41):
        changed = auditor.file("changed", whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert auditor.types("check", changed, "--key", key) in (EXIT_REJECTED, EXIT_INTEGRITY)
        auditor.is_told(str(changed))
        assert auditor.out == ""


@pytest.mark.parametrize("content", ["", "{", "[]", "\x00", '{"schema": "atp-audit-proof/2"}', "[" * 9999])
def test_a_file_that_is_no_proof_is_told(auditor: Auditor, content: str) -> None:
    path = auditor.file("x", content)
    assert auditor.types("check", path, "--key", auditor.key) == EXIT_REJECTED
    auditor.is_told("not a proof", str(path))


def test_a_proof_that_is_missing_is_told(auditor: Auditor) -> None:
    assert auditor.types("check", auditor.folder / "none", "--key", auditor.key) == EXIT_REJECTED
    auditor.is_told("cannot be read: No such file")


# audit compare


def test_a_copy_that_is_the_same_has_no_differences(auditor: Auditor) -> None:
    auditor.platform.live(90)
    assert auditor.types("compare") == 0
    assert (auditor.out, auditor.err) == ("files compared with the tables: 1; differences: none\n", "")
    assert auditor.sees("compare") == []


def test_a_copy_that_lags_a_little_is_no_difference_and_one_that_stands_still_is(auditor: Auditor) -> None:
    auditor.platform.live(5)
    for minutes, code in ((5, 0), (10, EXIT_INTEGRITY)):
        for _ in range(minutes):
            auditor.world.now += MINUTE
            auditor.platform.process.checkpointer.run()
        assert auditor.types("compare", "--json") == code
    (difference,) = map(json.loads, auditor.out.splitlines())
    assert difference["what"].startswith("the evidence copy is behind")
    assert difference["checkpoint"] == 6


def test_a_copy_that_is_empty_is_a_difference(auditor: Auditor) -> None:
    auditor.platform.live(20)
    auditor.world.evidence.clear()
    assert auditor.types("compare") == EXIT_INTEGRITY
    assert "the evidence copy is behind" in auditor.out


def test_a_file_that_has_just_been_made_is_no_difference(auditor: Auditor) -> None:
    auditor.platform.live(5)
    auditor.world.evidence["2026/01/02/0000.jsonl"] = []
    assert auditor.types("compare") == 0


def lines_of(auditor: Auditor) -> list[bytes]:
    (blocks,) = auditor.world.evidence.values()
    return b"".join(blocks).splitlines(keepends=True)


def drop_record(auditor: Auditor, lines: list[bytes]) -> None:
    del lines[next(number for number, line in enumerate(lines) if is_ninth(line))]


def change_record(auditor: Auditor, lines: list[bytes]) -> None:
    index = next(number for number, line in enumerate(lines) if is_ninth(line))
    lines[index] = lines[index].replace(b"it was due", b"it was fun")


def is_ninth(line: bytes) -> bool:
    return line.startswith(b'{"action"') and b'"job":"dek.rotate/acme/v9"' in line


def change_table(auditor: Auditor, lines: list[bytes]) -> None:
    relink(auditor, 8, b"it was due", b"it was fun")


def drop_from_table(auditor: Auditor, lines: list[bytes]) -> None:
    del auditor.world.streams[stream_of("dek/acme")][8:]


def change_checkpoint(auditor: Auditor, lines: list[bytes]) -> None:
    auditor.world.checkpoints[5] = replace(auditor.world.checkpoints[5], note="what")


def drop_checkpoint_from_table(auditor: Auditor, lines: list[bytes]) -> None:
    del auditor.world.checkpoints[5]


def drop_checkpoint(auditor: Auditor, lines: list[bytes]) -> None:
    del lines[next(number for number, line in enumerate(lines) if line.startswith(b'{"line":"checkpoint","number":4,'))]


def garble(auditor: Auditor, lines: list[bytes]) -> None:
    lines[next(number for number, line in enumerate(lines) if is_ninth(line))] = b"what\n"


PLACE = (stream_of("dek/acme"), 9)
NOT_COPIED = "a record is missing in the evidence copy"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (drop_record, [(NOT_COPIED, 4, *PLACE)]),
        (change_record, [("a record differs", 4, *PLACE)]),
        (change_table, [("a record differs", 4, *PLACE)]),
        (drop_from_table, [("a record is missing in the table", 4, PLACE[0], seq) for seq in (9, 10)]),
        (change_checkpoint, [("a checkpoint differs", 5, None, None)]),
        (drop_checkpoint_from_table, [("a checkpoint is missing in the table", 5, None, None)]),
        (drop_checkpoint, [("a checkpoint is missing in the evidence copy", 4, None, None)]),
        (
            garble,
            [("cannot be compared: a line is neither a record nor an anchor nor a checkpoint", 4, None, None)],
        ),
    ],
)
def test_every_difference_is_named_and_ends_with_4(
    auditor: Auditor, change: Callable[[Auditor, list[bytes]], None], expected: list[tuple[Any, ...]]
) -> None:
    for _ in range(5):
        auditor.platform.record(2, "acme")
        auditor.platform.sign()
    lines = lines_of(auditor)
    change(auditor, lines)
    (name,) = auditor.world.evidence
    auditor.world.evidence[name] = [b"".join(lines)]
    for arguments in ((), ("--file", name)):
        assert auditor.types("compare", "--json", *arguments) == EXIT_INTEGRITY
        auditor.is_told("audit trail and evidence copy differ", f"differences={len(expected)}, files=1")
        seen = [json.loads(line) for line in auditor.out.splitlines()]
        assert [(row["what"], row["checkpoint"], row["stream"], row["seq"]) for row in seen] == expected
        assert {row["file"] for row in seen} == {name}


@pytest.mark.parametrize("gone", [0, 1])
def test_a_file_that_is_missing_in_the_copy_is_a_difference(auditor: Auditor, gone: int) -> None:
    auditor.platform.process = AuditProcess(auditor.world, blocks=50)
    auditor.platform.live(150, each=1)
    names = sorted(auditor.world.evidence)
    assert len(names) == 3
    del auditor.world.evidence[names[gone]]
    assert auditor.types("compare", "--json") == EXIT_INTEGRITY
    (row,) = map(json.loads, auditor.out.splitlines())
    assert (row["what"], row["file"]) == ("a file does not begin where the one before ends", names[gone + 1])


def test_a_platform_without_an_evidence_copy_and_a_file_that_is_not_in_it_are_told(auditor: Auditor) -> None:
    auditor.platform.live(3)
    assert auditor.types("compare", "--file", "") == EXIT_REJECTED, "a variable of a script that is not set"
    assert auditor.types("compare", "--file", "2025/01/01/0000.jsonl") == EXIT_REJECTED
    auditor.is_told("no such file", "2025/01/01/0000.jsonl")
    auditor.ports.evidence = None
    assert auditor.types("compare") == EXIT_REJECTED
    auditor.is_told("set ATP_EVIDENCE_URL")


# Help


COMMANDS = ("list", "open", "export", "verify", "prove", "check", "checkpoint", "key", "compare")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help_with_an_example_that_can_be_copied(auditor: Auditor, command: str) -> None:
    assert auditor.types(command, "--help") == 0
    example = auditor.out.rstrip().splitlines()[-1]
    assert example.startswith("example: python -m rotation ")
    assert f"audit {command}" in example


def test_the_help_of_all_names_each(auditor: Auditor) -> None:
    assert auditor.types("--help") == 0
    for command in COMMANDS:
        assert f"\n    {command} " in auditor.out
    assert "example: python -m rotation" in auditor.out
    assert auditor.types() == EXIT_REJECTED


# Alone

_ALONE = """
import sys
def forbidden(event, arguments):
    if event.startswith(("socket.", "urllib.", "http.")):
        raise RuntimeError(f"the network: {event}")
    if event == "import" and arguments[0].split(".")[0] in ("azure", "msal", "requests", "aiohttp", "urllib3", "httpx"):
        raise ModuleNotFoundError(f"not there: {arguments[0]}", name=arguments[0])
sys.addaudithook(forbidden)
import runpy
sys.argv[0] = "rotation"
runpy.run_module("rotation", run_name="__main__", alter_sys=False)
"""


def alone(*arguments: str | Path, program: str = _ALONE) -> subprocess.CompletedProcess[bytes]:
    """Run the command line in a process with neither Azure nor a network nor settings nor UTF-8."""
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )


def test_verification_needs_neither_azure_nor_a_network_nor_settings(auditor: Auditor) -> None:
    place = auditor.records(reason="die Schl\u00fcssel waren f\u00e4llig")
    auditor.platform.live(3)
    export, proof, key = auditor.exported(), auditor.proof(place), auditor.key
    held = auditor.file("held", auditor.platform.notes[1])
    verified = alone("audit", "verify", export, "--key", key, "--held", held)
    assert (verified.returncode, verified.stderr) == (0, b"")
    assert verified.stdout.startswith(b"10 records under 3 checkpoints")
    checked = alone("audit", "check", proof, "--key", key)
    assert (checked.returncode, checked.stderr) == (0, b"")
    assert "Schl\u00fcssel" in checked.stdout.decode()
    damaged_export = auditor.file("damaged", export.read_bytes().replace(b"it was due", b"it was fun", 1))
    refused = alone("audit", "verify", damaged_export, "--key", key)
    assert (refused.returncode, refused.stderr.count(b"\n")) == (EXIT_INTEGRITY, 1)
    settings = auditor.file("settings.json", json.dumps({"Values": SETTINGS}))
    online = alone("--settings", settings, "audit", "key")
    assert online.returncode == EXIT_REJECTED
    assert online.stderr.startswith(b"MissingPackage: this command needs all packages of requirements.txt")
    assert online.stderr.count(b"\n") == 1


def test_the_command_line_imports_no_azure_package_before_a_command_needs_it() -> None:
    program = (
        "import sys, rotation.__main__;"
        "sys.exit(' '.join(each for each in sys.modules"
        " if each.split('.')[0] in ('azure', 'msal', 'requests', 'aiohttp', 'urllib3') or each == 'shared.azure') or 0)"
    )
    done = alone(program=program)
    assert (done.returncode, done.stderr) == (0, b""), done.stderr


def test_the_signing_key_of_the_tests_is_the_one_that_is_pinned(auditor: Auditor) -> None:
    (key,) = auditor.world.signing_keys.values()
    assert isinstance(key, SigningKey)
    assert f"/{SIGNING_KEY}/" in key.kid
