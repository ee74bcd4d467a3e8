"""`inventory`, `policies` and `calendar`: what they print, their exit codes, what `policies --apply` has on record."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rotation.__main__ import EXIT_DIFFERENT, EXIT_REJECTED, EXIT_UNAVAILABLE, main
from rotation.commands import calendar
from shared import log
from shared.azure import wiring
from shared.values import ObjectKind, RenewalPolicy
from tests.pure.test_catalog import DEK, KEK
from tests.pure.test_command_line import VALUES
from tests.simulator import (
    VAULT_URL,
    Fault,
    SimKeks,
    SimRecords,
    SimSecretRotations,
    SimVaultObjects,
    World,
)

DAY = timedelta(days=1)
MORE = """
[signing]
kind = "key"
owner = "security"
interval_days = 90
grace_days = 7
object = "atp-signing"
rotated_by = "key-vault"
controls = ["SOC 2 CC6.1", "NIST SP 800-57"]
[clients]
kind = "certificate"
owner = "platform"
calendar = "yearly"
grace_days = 14
rotated_by = "person"
[mesh]
kind = "certificate"
owner = "platform"
interval_days = 1
grace_days = 0
rotated_by = "service-mesh"
"""
GOOD = RenewalPolicy(120 * DAY, rotates_after=90 * DAY, notifies_before=30 * DAY)
SIGNING = VAULT_URL, ObjectKind.KEY, "atp-signing"

type Said = Callable[[], str]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    """A vault with a KEK and a signing key in order."""
    for name, value in VALUES.items():
        monkeypatch.setenv(name, value)
    catalog = tmp_path / "catalog.toml"
    catalog.write_text(KEK + DEK + MORE)
    monkeypatch.setenv("ATP_CATALOG", str(catalog))
    world = World()
    ports = SimpleNamespace(
        clock=world.clock,
        records=SimRecords(world),
        keks=SimKeks(world),
        vault_objects=SimVaultObjects(world),
        secret_rotations=SimSecretRotations(world),
    )
    monkeypatch.setattr(wiring, "Adapters", lambda _: ports)
    monkeypatch.setattr(log, "configure", lambda _: None)  # it is for a process of its own
    world.add_object(ObjectKind.KEY, "master-kek", expires=world.now + 400 * DAY)
    world.add_object(ObjectKind.KEY, "atp-signing", expires=world.now + 120 * DAY)
    world.add_object(ObjectKind.CERTIFICATE, "clients", expires=world.now + 365 * DAY)
    world.renewals[SIGNING] = GOOD
    return world


@pytest.fixture
def out(capsys: pytest.CaptureFixture[str]) -> Said:
    return lambda: capsys.readouterr().out


def test_the_table_has_a_line_for_each_entry_by_owner_and_a_sum(world: World, out: Said) -> None:
    world.now += 100 * DAY
    world.add_object(ObjectKind.SECRET, "forgotten")
    assert main(["inventory"]) == 0
    head, *lines, blank, total = out().splitlines()
    assert head.split()[:4] == ["owner", "kind", "name", "state"]
    assert [line.split()[0] for line in lines] == [*["platform"] * 2, *["security"] * 3, "nobody"]
    assert any("overdue" in line and "signing" in line for line in lines)
    assert (blank, total) == ("", "5 in the catalog, 1 not; 3 with differences")


def test_json_and_csv_say_the_same_with_every_field(world: World, out: Said) -> None:
    world.add_object(ObjectKind.SECRET, "forgotten")
    assert main(["inventory", "--json"]) == 0
    objects = [json.loads(line) for line in out().splitlines()]
    (signing,) = (each for each in objects if each["entry"] == "signing")
    assert signing == {
        "entry": "signing",
        "kind": "key",
        "object": "atp-signing",
        "vault": VAULT_URL,
        "owner": "security",
        "state": "current",
        "version": "",
        "versions": None,
        "age_days": 0,
        "rotated": "2026-01-01T00:00:00Z",
        "next": "2026-04-01T00:00:00Z",
        "expires": "2026-05-01T00:00:00Z",
        "rotated_by": "key-vault",
        "schedule": "every 90 days",
        "controls": ["SOC 2 CC6.1", "NIST SP 800-57"],
        "differences": [],
        "details": [],
    }
    assert main(["inventory", "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(out())))
    assert [row["object"] for row in rows] == [each["object"] for each in objects]
    assert {row["controls"] for row in rows} == {"", "SOC 2 CC6.1; NIST SP 800-57"}


def test_differences_alone_and_the_exit_code(world: World, out: Said) -> None:
    assert main(["inventory", "--differences", "--check"]) == 0
    assert out().splitlines()[0] == "none"
    world.add_object(ObjectKind.SECRET, "forgotten")
    assert main(["inventory", "--differences", "--json"]) == 0
    (line,) = out().splitlines()
    assert json.loads(line)["differences"] == ["unmanaged-object"]
    assert main(["inventory", "--differences"]) == 0
    assert out().splitlines()[-1] == "5 in the catalog, 1 not; 1 with differences"
    assert main(["inventory", "--check"]) == EXIT_DIFFERENT


def test_versions_are_counted_where_asked(world: World, out: Said) -> None:
    world.add_object(ObjectKind.KEY, "atp-signing")
    assert main(["inventory", "--versions", "--json"]) == 0
    (signing,) = (each for each in map(json.loads, out().splitlines()) if each["entry"] == "signing")
    assert (signing["versions"], signing["version"]) == (2, f"{2:032x}")


def test_a_vault_that_does_not_answer_is_not_shown_as_empty(world: World) -> None:
    world.outage = frozenset({"objects"})
    assert main(["inventory"]) == EXIT_UNAVAILABLE


def test_policies_that_are_strong_enough_are_left_alone(world: World, out: Said) -> None:
    assert main(["policies", "--apply", "--check", "--actor", "jane"]) == 0
    assert "new version after 90 d" in out()
    assert world.outcomes() == {}
    assert world.renewals == {SIGNING: GOOD}


def test_a_dry_run_shows_what_is_weak_and_writes_nothing(world: World, out: Said) -> None:
    del world.renewals[SIGNING]
    assert main(["policies", "--json"]) == 0
    kek, signing = map(json.loads, out().splitlines())
    assert kek["weaker"] is None
    assert signing == {
        "entry": "signing",
        "kind": "key",
        "object": "atp-signing",
        "policy": "notice before expiry 30 d",
        "weaker": "the vault makes no versions by itself; versions do not expire",
        "to_be": "new version after 90 d, expires after 120 d, notice before expiry 30 d",
    }
    assert (world.renewals, world.outcomes()) == ({}, {})
    assert main(["policies", "--check"]) == EXIT_DIFFERENT


def recorded(world: World) -> list[str]:
    return [outcome for outcomes in world.outcomes().values() for outcome in sorted(outcomes)]


def test_applied_policies_are_on_record(world: World) -> None:
    del world.renewals[SIGNING]
    assert main(["policies", "--apply", "--check", "--reason", "CHG-1", "--actor", "jane"]) == 0
    assert world.renewals == {SIGNING: GOOD}
    assert recorded(world) == ["intent", "succeeded"]
    (record, _) = (json.loads(each.canonical) for records in world.streams.values() for each in records)
    assert (record["action"], record["subject"], record["actor"]) == ("policy.write", "key/atp-signing", "jane")
    assert record["reason"] == "CHG-1: new version after 90 d, expires after 120 d, notice before expiry 30 d"


def test_a_policy_that_somebody_has_made_stricter_meanwhile_is_left_as_it_is(
    world: World, out: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    stricter = replace(GOOD, rotates_after=timedelta(days=30), lifetime=timedelta(days=60))
    del world.renewals[SIGNING]
    renewal = SimVaultObjects.renewal

    def weak_at_first(objects: SimVaultObjects, *place: Any) -> RenewalPolicy:
        found = renewal(objects, *place)
        if place[1] == "atp-signing":
            world.renewals.setdefault(SIGNING, stricter)
        return found

    monkeypatch.setattr(SimVaultObjects, "renewal", weak_at_first)
    assert main(["policies", "--apply", "--check", "--actor", "jane"]) == 0
    assert "new version after 30 d" in out()
    assert (world.renewals, world.outcomes()) == ({SIGNING: stricter}, {})


def test_somebody_whose_name_cannot_be_recorded_changes_nothing(world: World) -> None:
    del world.renewals[SIGNING]
    assert main(["policies", "--apply", "--actor", "CORP\\Jane"]) == EXIT_REJECTED
    assert world.renewals == {}


def test_an_object_that_is_not_there_is_said_so(world: World, out: Said) -> None:
    del world.objects[SIGNING]
    assert main(["policies", "--apply", "--check", "--actor", "jane"]) == EXIT_DIFFERENT
    assert "the vault has no such object" in out()


def call_of_apply(world: World, name: str) -> int:
    """The number of the first such call of `policies --apply`, which is made and forgotten."""
    assert main(["policies", "--apply", "--actor", "jane"]) == 0
    number = world.call_names.index(name) + 1
    world.renewals.clear()
    world.streams.clear()
    world.call_names.clear()
    world.calls = 0
    return number


@pytest.mark.parametrize(
    ("fault", "code", "outcomes"),
    [
        (Fault.ERROR_BEFORE, EXIT_UNAVAILABLE, ["failed", "intent"]),
        (Fault.ERROR_AFTER, 0, ["intent", "succeeded"]),
    ],
)
def test_a_lost_answer_is_looked_for_and_not_guessed(
    world: World, fault: Fault, code: int, outcomes: list[str]
) -> None:
    del world.renewals[SIGNING]
    world.faults = {call_of_apply(world, "objects.set_renewal"): fault}
    assert main(["policies", "--apply", "--actor", "jane"]) == code
    assert recorded(world) == outcomes
    assert (SIGNING in world.renewals) is (code == 0)


def test_what_goes_wrong_with_one_policy_does_not_keep_the_next_from_being_written(world: World, out: Said) -> None:
    world.renewals = {(VAULT_URL, ObjectKind.KEY, "master-kek"): RenewalPolicy()}
    number = call_of_apply(world, "objects.set_renewal")
    world.renewals = {(VAULT_URL, ObjectKind.KEY, "master-kek"): RenewalPolicy()}
    world.faults = {number: Fault.ERROR_BEFORE}
    assert main(["policies", "--apply", "--actor", "jane"]) == EXIT_UNAVAILABLE
    assert world.renewals[SIGNING] == GOOD
    kek, signing = out().splitlines()[-2:]
    assert "no notice" in kek
    assert "no notice" not in signing


def test_a_vault_that_cannot_be_asked_leaves_an_open_intent(world: World) -> None:
    del world.renewals[SIGNING]
    number = call_of_apply(world, "objects.set_renewal")
    world.faults = {number: Fault.ERROR_AFTER, number + 1: Fault.ERROR_BEFORE}
    assert main(["policies", "--apply", "--actor", "jane"]) == EXIT_UNAVAILABLE
    assert recorded(world) == ["intent"]


@pytest.mark.usefixtures("world")
def test_the_calendar_of_a_year(out: Said) -> None:
    assert main(["calendar", "--months", "12", "--json"]) == 0
    dates = [json.loads(line) for line in out().splitlines()]
    assert [(each["due"], each["entry"]) for each in dates] == [
        ("2026-01-01T02:00:00Z", "clients"),
        ("2026-01-02T00:00:00Z", "mesh"),
        ("2026-04-01T00:00:00Z", "signing"),
        ("2026-06-30T00:00:00Z", "signing"),
        ("2026-09-28T00:00:00Z", "signing"),
        ("2026-12-27T00:00:00Z", "signing"),
        ("2027-01-01T00:00:00Z", "master-kek"),
        (None, "tenant-dek"),
    ]
    assert dates[1]["note"] == "and so on, last rotation unknown: counted from now"
    assert dates[-1]["note"] == "each tenant at its own time"
    assert (dates[0]["rotated_by"], dates[1]["last_rotated"]) == ("person", None)


@pytest.mark.usefixtures("world")
def test_an_icalendar_file_has_lines_that_end_in_crlf(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["calendar", "--ics"]) == 0
    lines = capsysbinary.readouterr().out.split(b"\r\n")
    assert (lines[0], lines[-2:]) == (b"BEGIN:VCALENDAR", [b"END:VCALENDAR", b""])
    assert not any(b"\n" in line or b"\r" in line for line in lines)
    assert b"[" not in b"".join(lines), "nothing of it is taken for a secret"


@pytest.mark.parametrize(
    ("now", "months", "until"),
    [("2026-11-29", 12, "2027-11-29"), ("2026-08-31", 6, "2027-02-28"), ("2027-12-31", 2, "2028-02-29")],
)
def test_twelve_months_from_a_late_day_of_a_month_end_on_the_same_day_or_the_last(
    now: str, months: int, until: str
) -> None:
    morning = datetime.fromisoformat(f"{now}T05:41:00Z")
    assert calendar._months_later(morning, months) == datetime.fromisoformat(f"{until}T05:41:00Z")


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("months", ["0", "121", "x"])
def test_a_calendar_of_no_or_too_many_months_is_refused(months: str) -> None:
    with pytest.raises(SystemExit):
        main(["calendar", "--months", months])
