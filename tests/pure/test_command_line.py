"""The operator's command line: all of a request or nothing of it, errors in a sentence, typed JSON."""

import getpass
import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import pytest

from local.__main__ import _parser as local_parser
from rotation.__main__ import EXIT_REJECTED, EXIT_UNAVAILABLE, main
from rotation.commands import asking
from rotation.message import Job
from shared import log
from shared.azure import wiring
from shared.errors import Transient
from shared.values import SHARDS, Alert, DeadLetter, Keyring, Severity, Tenant, TenantId, TenantState, shard_of

ROOT = Path(__file__).parent.parent.parent
T0 = datetime(2026, 3, 1, 2, 3, 4, tzinfo=UTC)
VALUES = {
    "ATP_VAULT_URL": "https://atp.vault.azure.net",
    "AzureWebJobsStorage": "AccountName=acc;AccountKey=aHVudGVyMmh1bnRlcjI=",
}


class Platform:
    """The ports that the command line uses, in memory; `handle` is what the app does with a message."""

    def __init__(self) -> None:
        self.tenants: dict[str, Tenant] = {}
        self.letters: dict[str, DeadLetter] = {}
        self.notes: list[Alert] = []
        self.sent: list[Job] = []
        self.looks = 0
        self.refusal: Transient | None = None
        self.deks = SimpleNamespace(read=self._read, scan=self._scan)
        self.queues = SimpleNamespace(send=self._send)
        self.dead_letters = SimpleNamespace(all=lambda: list(self.letters.values()), resolve=self._resolve)
        self.resolved: list[tuple[str, ...]] = []
        self.alerts = SimpleNamespace(all=lambda: self.notes, resolve=lambda *said: self.resolved.append(said))

    def handle(self, job: Job) -> None:
        """Nothing, unless a test says what."""

    def _read(self, name: TenantId) -> Keyring | None:
        self.looks += 1
        return Keyring(self.tenants[name]) if name in self.tenants else None

    def _scan(self, shard: int, after: TenantId | None, limit: int) -> list[Tenant]:
        if self.refusal:
            raise self.refusal
        assert shard < SHARDS
        assert after is None
        return [tenant for tenant in self.tenants.values() if shard_of(tenant.tenant) == shard][:limit]

    def _send(self, queue: str, body: str) -> None:
        job = Job.parse(body.encode(), queue)
        self.sent.append(job)
        self.handle(job)

    def _resolve(self, letter: DeadLetter) -> None:
        del self.letters[letter.id]

    def letter(self, name: str, *, can_resend: bool = True) -> None:
        body = '{"schema": "rotation-job/1", "action": "dek.rotate", "tenant": "acme", "reason": "r"}'
        self.letters[name] = DeadLetter("rotation-jobs", name, "UnknownTenant", body, T0, can_resend)


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> Platform:
    for name, value in VALUES.items():
        monkeypatch.setenv(name, value)
    platform = Platform()
    monkeypatch.setattr(wiring, "Adapters", lambda _: platform)
    monkeypatch.setattr(asking, "LOOK_EVERY_S", 0)
    monkeypatch.setattr(
        log, "configure", lambda _: None
    )  # it is for a process of its own, and this one has other tests
    return platform


def active(name: str, primary: int = 1) -> Tenant:
    return Tenant(TenantId(name), TenantState.ACTIVE, T0, primary, T0)


@pytest.mark.parametrize("bad", ["Bad Name", "", "bell\a", "x" * 81, "pwd=hunter2hunter2"])
def test_one_wrong_name_and_nothing_is_asked(platform: Platform, capsys: pytest.CaptureFixture[str], bad: str) -> None:
    assert main(["tenant", "add", "good", bad, "good2"]) == EXIT_REJECTED
    assert platform.sent == []
    said = capsys.readouterr()
    assert said.out == ""
    assert ("'Bad Name'" in said.err) is (bad == "Bad Name")
    assert not any(hidden in said.err for hidden in ("\a", "xxx", "hunter2"))


def test_a_user_without_a_name_is_an_operator(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise OSError("no username set in the environment")

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert main(["tenant", "add", "acme"]) == 0
    assert platform.sent[0].actor == "operator"


def test_a_user_whose_name_cannot_be_recorded_is_told_of_the_option(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "CORP\\Jane Doe")
    assert main(["tenant", "add", "acme"]) == EXIT_REJECTED
    assert "--actor" in capsys.readouterr().err
    assert platform.sent == []
    assert main(["tenant", "add", "acme", "--actor", "jane"]) == 0


@pytest.mark.parametrize(
    ("verb", "before", "after"),
    [
        ("add", None, active("acme")),
        ("rotate", active("acme"), active("acme", 2)),
        ("offboard", active("acme"), replace(active("acme"), state=TenantState.OFFBOARDED)),
        ("reinstate", replace(active("acme"), state=TenantState.OFFBOARDED), active("acme")),
    ],
)
def test_waiting_ends_when_the_row_shows_the_result_and_not_before(
    platform: Platform, capsys: pytest.CaptureFixture[str], verb: str, before: Tenant | None, after: Tenant
) -> None:
    if before:
        platform.tenants["acme"] = before
    assert main(["tenant", verb, "acme", "--wait", "1"]) == EXIT_UNAVAILABLE
    assert "not done in time" in capsys.readouterr().err
    platform.handle = lambda job: platform.tenants.update({job.tenant: after})  # type: ignore[method-assign] # the app
    assert main(["tenant", verb, "acme", "--wait"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"done: {platform.sent[-1].id}"


def test_waiting_ends_when_the_job_is_given_up(platform: Platform, capsys: pytest.CaptureFixture[str]) -> None:
    platform.tenants["acme"] = active("acme")
    platform.handle = lambda job: platform.letter(job.id)  # type: ignore[method-assign] # what the app does
    assert main(["tenant", "rotate", "acme", "--wait"]) == EXIT_REJECTED
    assert "UnknownTenant" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["rotate", "offboard", "reinstate"])
def test_a_slip_in_the_name_of_a_tenant_wakes_nobody(
    platform: Platform, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    platform.tenants["acme"] = active("acme")
    assert main(["tenant", verb, "acme", "amce", "globxe"]) == EXIT_REJECTED
    assert "no such tenant; nothing was asked (tenant='amce', 'globxe')" in capsys.readouterr().err
    assert platform.sent == []


def test_a_new_tenant_is_asked_for_without_reading_anything(platform: Platform) -> None:
    assert main(["tenant", "add", "acme"]) == 0
    assert platform.looks == 0


@pytest.mark.parametrize("reason", ["", "  ", "two\nlines", "x" * 201])
def test_a_reason_that_cannot_be_recorded_is_refused_at_once(
    platform: Platform, capsys: pytest.CaptureFixture[str], reason: str
) -> None:
    with pytest.raises(SystemExit):
        main(["tenant", "add", "acme", "--reason", reason])
    assert "--reason: must have 1 to 200 printable characters on one line" in capsys.readouterr().err
    assert platform.sent == []


def test_without_settings_the_option_for_them_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in VALUES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(log, "configure", lambda _: None)
    assert main(["tenant", "list"]) == EXIT_REJECTED
    assert "ATP_VAULT_URL: is missing" in (said := capsys.readouterr().err)
    assert "--settings .stack/local.settings.json" in said


def test_one_letter_that_cannot_be_resent_and_none_is(platform: Platform, capsys: pytest.CaptureFixture[str]) -> None:
    platform.letter("one")
    platform.letter("two", can_resend=False)
    assert main(["letters", "resend", "one", "three"]) == EXIT_REJECTED
    assert "'three'" in capsys.readouterr().err
    assert main(["letters", "resend", "one", "two"]) == EXIT_REJECTED
    assert "'two'" in capsys.readouterr().err
    assert (platform.sent, len(platform.letters)) == ([], 2)
    assert main(["letters", "resend", "one", "one"]) == 0
    assert len(platform.sent) == 1


def test_json_has_numbers_booleans_times_and_ids(platform: Platform, capsys: pytest.CaptureFixture[str]) -> None:
    platform.tenants["acme"] = active("acme", 12)
    platform.letter("one")
    platform.notes.append(Alert("a-1", Severity.WARNING, "it is late", "dek/acme", T0, {"id": "not mine", "days": "3"}))

    def shown(*command: str) -> dict[str, Any]:
        assert main([*command, "--json"]) == 0
        row: dict[str, Any] = json.loads(capsys.readouterr().out)
        return row

    tenant = shown("tenant", "list")
    assert (tenant["dek"], tenant["since"], tenant["destroyed_after"]) == (12, "2026-03-01T02:03:04Z", None)
    letter = shown("letters", "list")
    assert (letter["can_resend"], letter["kept"]) == (True, "2026-03-01T02:03:04Z")
    alert = shown("alerts")
    assert (alert["id"], alert["raised"], alert["days"]) == ("a-1", "2026-03-01T02:03:04Z", "3")


def alert(name: str, severity: Severity = Severity.WARNING, **changes: Any) -> Alert:
    what = "a message could not be processed and waits for an operator"
    return replace(Alert(name, severity, what, "queue/jobs", T0, {"reason": "a\tb"}, "sre"), **changes)


def test_open_alerts_are_shown_with_owner_next_step_and_runbook(
    platform: Platform, capsys: pytest.CaptureFixture[str]
) -> None:
    a_2, a_3 = alert("a-2", resolved=T0), alert("a-3", Severity.CRITICAL, owner="")
    platform.notes = [alert("a-1", details={"reason": "a\tb", "due": "2026-03-02T04:05:06.789123+00:00"}), a_2, a_3]
    assert main(["alerts"]) == 0
    said = capsys.readouterr().out
    urgent, other = said.split("\n\n")[1:]
    assert said.startswith("1 critical, 1 warning\n\nCRITICAL")
    assert "  id       a-3\n" in urgent
    assert other.splitlines()[:6] == [
        "WARNING  queue/jobs: a message could not be processed and waits for an operator",
        "  id       a-1",
        "  raised   2026-03-01 02:03 UTC",
        "  owner    sre",
        "  next     It waits as a dead letter and is not done until somebody sends it again or drops it.",
        "  runbook  docs/runbooks/dek-rotation.md#dead-letters",
    ]
    assert "  reason   a\N{REPLACEMENT CHARACTER}b\n" in other, "nothing that a terminal would obey"
    assert "  due      2026-03-02 04:05 UTC" in other
    assert "owner    security-engineering" in urgent
    assert "a-2" not in said


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (["--all"], ["a-1", "a-2", "a-3"]),
        (["--severity", "critical"], ["a-3"]),
        (["--severity", "warning", "--all"], ["a-1", "a-2"]),
    ],
)
def test_alerts_can_be_chosen(
    platform: Platform, capsys: pytest.CaptureFixture[str], options: list[str], shown: list[str]
) -> None:
    platform.notes = [alert("a-1"), alert("a-2", resolved=T0, resolved_by="bob"), alert("a-3", Severity.CRITICAL)]
    assert main(["alerts", *options, "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["id"] for row in rows] == shown
    assert all({"owner", "next", "runbook", "resolved", "resolved_by"} <= row.keys() for row in rows)


def test_what_only_looks_like_a_time_is_shown_as_it_is(platform: Platform, capsys: pytest.CaptureFixture[str]) -> None:
    platform.notes = [alert("a-1", details={"reason": "2026-19-39T29:59:59Z"})]
    assert main(["alerts"]) == 0
    assert "2026-19-39T29:59:59Z" in capsys.readouterr().out


def test_without_alerts_it_says_none(platform: Platform, capsys: pytest.CaptureFixture[str]) -> None:
    platform.notes = [alert("a-2", resolved=T0)]
    assert main(["alerts"]) == 0
    assert capsys.readouterr().out == "none\n"


def test_an_alert_is_resolved_by_hand_once(platform: Platform, capsys: pytest.CaptureFixture[str]) -> None:
    platform.notes = [alert("a-1"), alert("a-2", resolved=T0)]
    assert main(["alerts", "resolve", "a-1", "--actor", "alice", "--reason", "mended"]) == 0
    assert main(["alerts", "resolve", "a-2"]) == 0
    assert capsys.readouterr().out.splitlines() == ["resolved: a-1", "was resolved before: a-2"]
    assert platform.resolved == [("a-1", "alice", "mended")]
    assert main(["alerts", "resolve", "a-3"]) == EXIT_REJECTED
    assert "no such alert; nothing was done (id='a-3')" in capsys.readouterr().err
    assert main(["alerts", "resolve", "a-1", "--actor", "a name with blanks"]) == EXIT_REJECTED
    assert "say who you are with --actor" in capsys.readouterr().err
    assert len(platform.resolved) == 1


def test_a_letter_that_is_dropped_takes_its_alert_along(platform: Platform) -> None:
    platform.letter("one")
    (letter,) = platform.letters.values()
    assert main(["letters", "drop", "one", "--reason", "ticket 4711", "--actor", "ann"]) == 0
    assert platform.resolved == [(f"{letter.queue}/one", "ann", "dropped: ticket 4711")]


def test_whoever_drops_a_letter_has_a_name_that_can_be_recorded(
    platform: Platform, capsys: pytest.CaptureFixture[str]
) -> None:
    platform.letter("one")
    assert main(["letters", "drop", "one", "--actor", "a name with blanks"]) == EXIT_REJECTED
    assert "say who you are with --actor" in capsys.readouterr().err
    assert len(platform.letters) == 1


def test_tables_say_what_their_times_are(platform: Platform, capsys: pytest.CaptureFixture[str]) -> None:
    platform.tenants["acme"] = active("acme")
    assert main(["tenant", "list"]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.endswith(" destroyed after (UTC)")
    assert row.index("2026-03-01 02:03") == head.index("since (UTC)")


@pytest.mark.parametrize("status", [None, 401, 403])
def test_refused_access_says_what_to_do(
    platform: Platform, capsys: pytest.CaptureFixture[str], status: int | None
) -> None:
    platform.refusal = Transient("reading a tenant: no success", status=status)
    assert main(["tenant", "list"]) == EXIT_UNAVAILABLE
    assert "no access: sign in (az login) or check the key" in capsys.readouterr().err


@pytest.mark.parametrize("fields", [{"status": 503}, {"cause": "ServiceRequestError"}])
def test_an_outage_is_not_called_a_lack_of_access(
    platform: Platform, capsys: pytest.CaptureFixture[str], fields: dict[str, object]
) -> None:
    platform.refusal = Transient("pwd=hunter2hunter2", **fields)
    assert main(["tenant", "list"]) == EXIT_UNAVAILABLE
    said = capsys.readouterr().err
    assert "no access" not in said
    assert "hunter2" not in said


@pytest.mark.parametrize(
    ("content", "mistake"),
    [
        (None, "there is no such file"),
        ("{", "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        ("\udcff", "it is not JSON"),
        ("[]", 'it has no object "Values"'),
        ('{"Values": []}', 'it has no object "Values"'),
        ('{"Values": {"ATP_VAULT_URL": 5}}', "ATP_VAULT_URL: must be text"),
        (json.dumps({"Values": VALUES | {"AzureWebJobsStorage": "garbage"}}), "must be a connection string"),
    ],
)
def test_wrong_settings_are_told_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, mistake: str
) -> None:
    file = tmp_path / "settings.json"
    if content is not None:
        file.write_bytes(content.encode(errors="surrogateescape"))
    assert main(["--settings", str(file), "alerts"]) == EXIT_REJECTED
    said = capsys.readouterr().err
    assert mistake in said
    assert "garbage" not in said
    assert said.count("\n") == 1


def alerts_to(output: int | IO[bytes]) -> tuple[int, bytes]:
    """The exit code of `alerts`, of which there are none, and what it says on stderr."""
    program = (
        "import sys; from types import SimpleNamespace as N; from rotation import __main__ as m;"
        "from shared.azure import wiring as w;"
        "w.Adapters = lambda _: N(alerts=N(all=list)); sys.exit(m.main(['alerts']))"
    )
    command, environment = [sys.executable, "-c", program], os.environ | VALUES
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.PIPE, check=False)
    return done.returncode, done.stderr


def test_a_reader_that_has_enough_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert alerts_to(writer) == (141, b"")
    finally:
        os.close(writer)


def test_output_that_cannot_be_written_is_told_in_a_sentence() -> None:
    said = b"Rejected: the output cannot be written: No space left on device\n"
    with Path("/dev/full").open("wb") as full:
        assert alerts_to(full) == (EXIT_REJECTED, said)


@pytest.mark.parametrize(
    ("arguments", "mistake"),
    [
        (["run", "--tenants", "0"], "must be 1 or more"),
        (["run", "--tenants", "many"], "must be 1 or more"),
        (["serve", "--hosts", "-1"], "must be 0 or more"),
    ],
)
def test_a_number_out_of_range_is_told_with_its_range(
    capsys: pytest.CaptureFixture[str], arguments: list[str], mistake: str
) -> None:
    with pytest.raises(SystemExit):
        local_parser().parse_args(arguments)
    assert mistake in capsys.readouterr().err


def test_waiting_for_what_is_no_number_says_where_the_option_stands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["tenant", "rotate", "--wait", "acme"])
    assert "stand behind the tenants" in capsys.readouterr().err
