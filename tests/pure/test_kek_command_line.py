"""The command line of KEK rotation, on a simulated app: orders arrive as typed or not at all, numbers are true."""

import io
import json
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from rotation.__main__ import EXIT_REJECTED, EXIT_UNAVAILABLE, main
from rotation.catalog import load
from rotation.commands import asking
from rotation.commands.kek_status import drawn, looked
from rotation.message import KEK_ORDERS, KekAction, KekOrder, Trigger
from rotation.rotators.registry import READERS
from shared import log
from shared.azure import wiring
from shared.settings import Settings
from shared.values import SHARDS, KeyKind, KeyShape, Kid, Phase, TenantId
from tests.jobs.platform import Platform
from tests.simulator import (
    OTHER_VAULT_URL,
    VAULT_URL,
    SimAlerts,
    SimDeadLetters,
    SimDeks,
    SimKeks,
    SimKekUses,
    SimQueues,
    SimShards,
    SimVault,
)

SETTINGS = {
    "ATP_VAULT_URL": VAULT_URL,
    "ATP_MORE_VAULT_URLS": OTHER_VAULT_URL,
    "AzureWebJobsStorage": "AccountName=acc;AccountKey=aHVudGVyMmh1bnRlcjI=",
}
KID = f"{VAULT_URL}/keys/master-kek/{1:032x}"
NEXT_KID = f"{VAULT_URL}/keys/master-kek/{2:032x}"
UNKNOWN_KID = f"{VAULT_URL}/keys/master-kek/{0xF:032x}"


class Operator:
    """Somebody at the command line of a simulated app; while a command waits, the app works."""

    works: Callable[[], None]

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.platform = Platform()
        self.world = world = self.platform.world
        self.ports: Any = SimpleNamespace(
            clock=world.clock,
            deks=SimDeks(world),
            keks=SimKeks(world),
            shards=SimShards(world),
            kek_uses=SimKekUses(world),
            vault=SimVault(world),
            queues=SimQueues(world),
            alerts=SimAlerts(world),
            dead_letters=SimDeadLetters(world),
        )
        self.works = self.platform.settle
        self.out = self.err = ""
        self._capsys = capsys

    def types(self, *arguments: str) -> int:
        """Run a command."""
        try:
            return main(arguments)
        except SystemExit as exit_of_argparse:
            assert isinstance(exit_of_argparse.code, int)
            return exit_of_argparse.code
        finally:
            self.out, self.err = self._capsys.readouterr()

    def sees(self, *arguments: str) -> dict[str, Any]:
        """Run a command that must succeed and read its last line of JSON."""
        assert self.types(*arguments, "--json") == 0
        seen: dict[str, Any] = json.loads(self.out.splitlines()[-1])
        return seen

    @property
    def phase(self) -> Phase | None:
        """Where the newest rotation stands."""
        run = self.platform.kek_run
        return run.phase if run else None

    def orders(self) -> list[KekOrder]:
        """What was sent and is not delivered yet."""
        return [KekOrder.parse(each.body.encode(), "") for each in self.world.messages if each.queue == KEK_ORDERS]

    def works_a_little(self) -> None:
        """Two seconds of the app's work."""
        for _ in range(50):
            if not self.world.messages:
                break
            message = min(self.world.messages, key=lambda message: message.visible_at)
            self.world.now = max(self.world.now, message.visible_at)
            self.platform.deliver(message)
        self.world.now += timedelta(seconds=2)


@pytest.fixture
def operator(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Operator:
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    operator = Operator(capsys)
    monkeypatch.setattr(wiring, "Adapters", lambda _: operator.ports)
    monkeypatch.setattr(log, "configure", lambda _: None)
    monkeypatch.setattr(asking, "user", lambda: "alice")
    monkeypatch.setattr(time, "sleep", lambda _: operator.works())
    for number in range(4):
        operator.platform.add_tenant(f"tenant-{number}", versions=2 if number == 0 else 1)
    return operator


def rotated(operator: Operator, phase: Phase = Phase.GRACE, **fields: Any) -> None:
    operator.platform.order(KekAction.ROTATE, **fields)
    operator.platform.run_until(phase)


# Orders


@pytest.mark.parametrize(
    ("arguments", "fields"),
    [
        ((), {}),
        (("--deadline", "4", "--compromised"), {"deadline_hours": 4, "compromised": True}),
        (("--kid", NEXT_KID), {"kid": NEXT_KID}),
        (("--kind", "RSA-HSM", "--bits", "3072"), {"shape": KeyShape(KeyKind.RSA_HSM, 3072)}),
        (
            ("--kind", "oct-HSM", "--bits", "256", "--vault", f"{OTHER_VAULT_URL}/"),
            {"shape": KeyShape(KeyKind.OCT_HSM, 256), "vault": OTHER_VAULT_URL},
        ),
        (("--reason", "ticket 4711", "--actor", "jane"), {"reason": "ticket 4711", "actor": "jane"}),
    ],
)
def test_a_rotation_is_ordered_as_it_is_typed(
    operator: Operator, arguments: tuple[str, ...], fields: dict[str, Any]
) -> None:
    assert operator.types("kek", "rotate", "master-kek", *arguments) == 0
    (order,) = operator.orders()
    assert operator.out == f"asked: {order.id}\n"
    assert order.trigger is Trigger.MANUAL
    wanted = {
        "action": KekAction.ROTATE,
        "kek": "master-kek",
        "reason": "operator asked to rotate",
        "kid": None,
        "shape": None,
        "vault": None,
        "deadline_hours": None,
        "compromised": False,
    } | fields
    assert {name: getattr(order, name) for name in wanted} == wanted


@pytest.mark.parametrize(
    ("arguments", "action", "shard", "tenant"),
    [
        (("pause",), KekAction.PAUSE, None, None),
        (("resume",), None, None, None),
        (("resume", "--shard", "7"), None, None, None),
        (("rollback",), KekAction.ROLLBACK, None, None),
        (("rollback", "--shard", "0"), KekAction.ROLLBACK, 0, None),
        (("rollback", "--tenant", "tenant-1"), KekAction.ROLLBACK, None, TenantId("tenant-1")),
    ],
)
def test_a_change_is_ordered_unless_it_is_so_already(
    operator: Operator, arguments: tuple[str, ...], action: KekAction | None, shard: int | None, tenant: TenantId | None
) -> None:
    rotated(operator)
    verb, *part = arguments
    assert operator.types("kek", verb, "master-kek", *part) == 0
    if action is None:
        assert operator.orders() == []
        assert operator.out == f"it is so already, nothing was asked: kek.{verb} master-kek\n"
    else:
        (order,) = operator.orders()
        assert (order.action, order.kek, order.shard, order.tenant) == (action, "master-kek", shard, tenant)


@pytest.mark.parametrize(
    ("arguments", "mistake"),
    [
        (("rotate", "slave-kek"), "no KEK of that name (kek='slave-kek', known=master-kek)"),
        (("rotate", "bad\aname"), "kek='(unprintable)'"),
        (("rotate", "master-kek", "--deadline", "0"), "must be a whole number of hours, 1 to 8760"),
        (("rotate", "master-kek", "--deadline", "soon"), "must be a whole number of hours, 1 to 8760"),
        (("rotate", "master-kek", "--deadline", "8761"), "must be a whole number of hours, 1 to 8760"),
        (("rotate", "master-kek", "--wait", "0"), "must be a number of seconds, 1 or more"),
        (("rotate", "master-kek", "--bits", "2048"), "--kind and --bits go together"),
        (("rotate", "master-kek", "--kind", "RSA"), "--kind and --bits go together"),
        (("rotate", "master-kek", "--kind", "RSA", "--bits", "1024"), "kind and bits that go together"),
        (("rotate", "master-kek", "--kind", "EC", "--bits", "256"), "invalid choice"),
        (("rotate", "master-kek", "--kid", "v2"), "field=kid"),
        (("rotate", "master-kek", "--kid", NEXT_KID, "--vault", OTHER_VAULT_URL), "give kid, or kind, bits and vault"),
        (("rotate", "master-kek", "--kid", NEXT_KID.replace("master", "other")), "the version is one of another key"),
        (("rotate", "master-kek", "--kid", KID), "this KEK version is the primary one already"),
        (("rotate", "master-kek", "--vault", "https://atp.vault.azure.net"), "not one of the configured ones"),
        (("rotate", "master-kek", "--reason", ""), "must have 1 to 200 printable characters"),
        (("rotate", "master-kek", "--actor", "CORP\\Jane"), "field=actor"),
        (("pause", "master-kek"), "this KEK has never been rotated (kek=master-kek)"),
        (("resume", "master-kek", "--shard", "64"), "must be the number of a shard, 0 to 63"),
        (("rollback", "master-kek", "--shard", "1", "--tenant", "acme"), "not allowed with argument"),
        (("rollback", "master-kek", "--tenant", "Not A Tenant"), "not a tenant id"),
        (("status", "master-kek"), "this KEK has never been rotated (kek=master-kek)"),
        (("status", "slave-kek"), "no KEK of that name"),
        (("history", "slave-kek"), "no KEK of that name"),
    ],
)
def test_a_mistake_is_told_in_a_line_and_nothing_is_ordered(
    operator: Operator, arguments: tuple[str, ...], mistake: str
) -> None:
    assert operator.types("kek", *arguments) == EXIT_REJECTED
    assert (operator.out, operator.orders()) == ("", [])
    assert mistake in operator.err.splitlines()[-1]
    assert "\a" not in operator.err


@pytest.mark.parametrize(
    ("phase", "fields", "arguments", "mistake"),
    [
        (Phase.GRACE, {}, ("rotate",), "another rotation of this KEK is not over"),
        (Phase.GRACE, {"compromised": True}, ("rollback",), "there is no way back to it"),
        (Phase.SOAKING, {}, ("rollback",), "the phase does not allow this"),
        (Phase.SOAKING, {}, ("rollback", "--shard", "1"), "between its flip and the retirement"),
        (Phase.SOAKING, {}, ("pause",), "the phase does not allow this"),
        (Phase.CLOSED, {}, ("resume",), "the rotation is over (run=master-kek.000001, phase=closed)"),
    ],
)
def test_what_the_app_would_refuse_is_refused_at_once(
    operator: Operator, phase: Phase, fields: dict[str, Any], arguments: tuple[str, ...], mistake: str
) -> None:
    rotated(operator, phase, **fields)
    verb, *rest = arguments
    assert operator.types("kek", verb, "master-kek", *rest) == EXIT_REJECTED
    assert operator.orders() == []
    assert mistake in operator.err


def test_waiting_ends_when_the_run_shows_what_was_ordered(operator: Operator) -> None:
    def waits(verb: str, *arguments: str) -> Phase | None:
        assert operator.types("kek", verb, "master-kek", *arguments, "--wait") == 0, operator.err
        asked, done, *more = operator.out.splitlines()
        assert done == asked.replace("asked", "done")
        assert bool(more) is (verb == "rotate")
        return operator.phase

    assert waits("rotate") is Phase.GRACE
    assert waits("pause") is Phase.PAUSED
    assert waits("resume") is Phase.GRACE
    waits("rollback", "--tenant", "tenant-1")
    assert operator.platform.kids() == {KID, NEXT_KID}
    assert operator.sees("kek", "status", "master-kek")["held_tenants"] == ["tenant-1"]
    waits("resume", "--tenant", "tenant-1")
    assert operator.platform.kids() == {NEXT_KID}
    waits("rollback")
    operator.platform.run_until(Phase.ROLLED_BACK)
    assert operator.platform.kids() == {KID}


def test_waiting_ends_when_the_time_is_over(operator: Operator) -> None:
    operator.works = lambda: None
    assert operator.types("kek", "rotate", "master-kek", "--wait", "1") == EXIT_UNAVAILABLE
    assert operator.err.startswith(
        "Transient: asked, but not done in time; it may still be done (seconds=1, kek=master-kek)"
    )


def test_waiting_ends_when_the_order_is_given_up(operator: Operator) -> None:
    assert operator.types("kek", "rotate", "master-kek", "--kid", UNKNOWN_KID, "--wait") == EXIT_REJECTED
    assert "the job was given up; see `letters list`" in operator.err


# Status and history


def test_the_status_says_where_the_rotation_is_and_what_it_waits_for(operator: Operator) -> None:
    rotated(operator)
    assert operator.types("kek", "status", "master-kek") == 0
    told = {line[:12].strip(): line[13:] for line in operator.out.splitlines()}
    run = operator.platform.kek_run
    assert run is not None
    assert told["phase"].startswith("grace since 2026-01-0")
    assert told["because"] == "every DEK of the manifest is unchanged"
    assert told["waits for"].startswith("grace period until 2026-01-")
    assert (told["old version"], told["new version"]) == (KID, NEXT_KID)
    assert told["manifest"] == "5 DEKs, 0 born and 0 removed since"
    assert told["root before"] == told["root after"] == run.root_before
    assert "shards" not in told


def test_the_status_of_a_stopped_rotation_names_shard_and_reason(operator: Operator) -> None:
    stray = operator.world.add_kek()
    keyring = operator.world.keyrings[TenantId("tenant-2")]
    operator.platform.order(KekAction.ROTATE)
    while operator.phase is not Phase.SWEEPING:
        operator.works_a_little()
    broken = [replace(dek, kid=stray) for dek in keyring.deks]
    operator.world.keyrings[TenantId("tenant-2")] = replace(keyring, deks=tuple(broken))
    operator.works = operator.works_a_little
    assert operator.types("kek", "status", "master-kek", "--watch") == 0
    assert "shards       63 done, 0 working, 1 stopped" in operator.out
    assert "stopped: a DEK is wrapped under a third KEK version (tenant=tenant-2" in operator.out
    assert "somebody has to act" in operator.out
    seen = operator.sees("kek", "status", "master-kek")
    assert (seen["alarm"], seen["rests"], len(seen["shards_stopped"])) == (True, True, 1)


def test_watching_shows_every_phase_and_ends_where_only_time_helps(operator: Operator) -> None:
    operator.platform.order(KekAction.ROTATE)
    operator.works = operator.works_a_little
    operator.works()
    assert operator.types("kek", "status", "master-kek", "--watch", "--json") == 0
    looks = [json.loads(line) for line in operator.out.splitlines()]
    phases = list(dict.fromkeys(look["phase"] for look in looks))
    assert phases == ["planned", "sweeping", "scrubbing", "grace"]
    assert [look["rests"] for look in looks] == [False] * (len(looks) - 1) + [True]
    assert all(0 <= look["shards_done"] + look["shards_working"] <= SHARDS for look in looks)
    sweeps = [look for look in looks if look["phase"] == "sweeping"]
    assert sweeps[0]["allowed_per_second"] > 300  # 400/s, less headroom and samples
    assert 0 < max(look["changed"] for look in sweeps) <= 5
    assert any(look["pass_ends"] for look in sweeps)


def test_watching_prints_plain_lines_where_nobody_can_see_a_bar(operator: Operator) -> None:
    operator.platform.order(KekAction.ROTATE)
    operator.works = operator.works_a_little
    operator.works()
    assert operator.types("kek", "status", "master-kek", "--watch", "1") == 0
    assert "\x1b" not in operator.out
    assert "  sweeping  pass " in operator.out
    assert operator.out.splitlines()[-1].startswith("root after")


def test_watching_on_a_terminal_draws_a_bar(operator: Operator) -> None:
    operator.platform.order(KekAction.ROTATE)
    operator.works_a_little()
    policy = load(Settings.parse(SETTINGS).catalog, READERS).keks["master-kek"]
    screen = io.StringIO()

    def looks() -> Any:
        while not (seen := looked(operator.ports, policy, {})).rests:
            operator.works_a_little()
            yield seen
        yield seen

    last = drawn(Console(file=screen, force_terminal=True, width=150), looked(operator.ports, policy, {}), looks())
    assert last.run.phase is Phase.GRACE
    assert "\x1b[" in screen.getvalue()
    assert "━" in screen.getvalue()
    assert "sweeping  pass 2" in screen.getvalue()


def test_the_shards_are_shown_one_a_row(operator: Operator) -> None:
    rotated(operator, Phase.CLOSED)
    operator.platform.order(KekAction.ROTATE, "again")
    operator.works_a_little()
    assert operator.types("kek", "status", "master-kek", "--shards") == 0
    head, *rows = operator.out.splitlines()[-SHARDS - 1 :]
    assert head.split()[:4] == ["shard", "state", "tenants", "deks"]
    assert [int(row.split()[0]) for row in rows] == list(range(SHARDS))
    assert {row[7:].split("  ")[0].strip() for row in rows} <= {"not begun", "working", "done"}
    assert len(operator.sees("kek", "status", "master-kek", "--shards")["shards"]) == SHARDS


def test_the_status_needs_no_access_to_the_vault(operator: Operator) -> None:
    operator.platform.order(KekAction.ROTATE)
    while operator.phase is not Phase.SWEEPING:
        operator.works_a_little()
    operator.world.outage = frozenset({"vault"})
    assert operator.sees("kek", "status", "master-kek")["allowed_per_second"] is None


def test_watching_asks_the_vault_once_for_each_version(operator: Operator) -> None:
    operator.platform.order(KekAction.ROTATE)
    while operator.phase is not Phase.SWEEPING:
        operator.works_a_little()
    policy = load(Settings.parse(SETTINGS).catalog, READERS).keks["master-kek"]
    shapes: dict[Kid, KeyShape] = {}
    before = operator.world.vault_operations
    assert [looked(operator.ports, policy, shapes).allowed_per_second is None for _ in range(5)] == [False] * 5
    assert operator.world.vault_operations == before + 2


def test_an_outage_is_no_mistake_of_the_operator(operator: Operator) -> None:
    operator.world.outage = frozenset({"keks"})
    for command in (("status", "master-kek"), ("rotate", "master-kek"), ("history", "master-kek")):
        assert operator.types("kek", *command) == EXIT_UNAVAILABLE


def test_the_history_has_every_rotation(operator: Operator) -> None:
    assert operator.types("kek", "history", "master-kek") == 0
    assert operator.out == "none\n"
    rotated(operator, Phase.CLOSED)
    operator.platform.order(KekAction.ROTATE, "again", vault="https://nowhere.vault.azure.net")
    operator.platform.run_until(Phase.FAILED)
    assert operator.types("kek", "history", "master-kek") == 0
    head, first, second = operator.out.splitlines()
    assert head.split()[:4] == ["generation", "phase", "started", "(UTC)"]
    assert first.split()[:2] == ["1", "closed"]
    assert second.split()[:2] == ["2", "failed"]
    newest = operator.sees("kek", "history", "master-kek")
    assert (newest["generation"], newest["phase"], newest["old"], newest["new"]) == (2, "failed", NEXT_KID, None)


# The dry run


def test_the_plan_counts_and_estimates_and_changes_nothing(operator: Operator) -> None:
    pointers, calls = dict(operator.world.pointers), len(operator.world.call_names)
    assert operator.types("plan", "kek", "master-kek") == 0
    told = operator.out.splitlines()
    assert f"KEK                  master-kek: RSA 2048 bits in {VAULT_URL}" in told
    assert "DEKs                 5 in 4 tenants" in told
    assert f"                     5 under {KID}, the primary version" in told
    assert "vault operations     5: 5 unwraps, 0 checks, 0 wraps" in told
    assert any(line.startswith("allowed rate         31") and "leaving 20% of the quota" in line for line in told)
    assert "ETA                  2026-01-01 00:00 UTC at the earliest, if begun now; then come grace and soak" in told
    writes = ("add", "replace", "send", "put", "create", "append", "set_enabled")
    assert not [name for name in operator.world.call_names[calls:] if name.endswith(writes)]
    assert operator.world.pointers == pointers


def test_the_plan_of_the_first_rotation_adopts_nothing(operator: Operator) -> None:
    operator.world.pointers.clear()
    assert operator.sees("plan", "kek", "master-kek")["primary"] == KID
    assert operator.world.pointers == {}


def test_the_plan_says_what_another_kind_of_key_would_take(operator: Operator) -> None:
    seen = operator.sees(
        "plan", "kek", "master-kek", "--kind", "oct-HSM", "--bits", "256", "--vault", OTHER_VAULT_URL, "--vaults", "2"
    )
    assert seen["new"] == {"vault": OTHER_VAULT_URL, "kind": "oct-HSM", "bits": 256}
    assert (seen["deks"], seen["wraps"], seen["by_kid"], seen["vaults"]) == (5, 5, {KID: 5}, 2)
    assert seen["allowed_per_second"] == 2 * 0.8 * 400
    assert (seen["feasible"], seen["deadline_s"]) == (True, None)


def test_a_plan_that_misses_its_deadline_is_told_and_refused(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyring = operator.world.keyrings[TenantId("tenant-1")]
    crowd = [replace(keyring, deks=keyring.deks * 200_000)] * 10
    monkeypatch.setattr(
        operator.ports.deks, "page", lambda shard, after, _: crowd if (shard, after) == (3, None) else []
    )
    assert operator.types("plan", "kek", "master-kek", "--deadline", "1") == EXIT_REJECTED
    assert "DEKs                 2,000,000 in 10 tenants" in operator.out
    assert "sweep and scrub take 1 h 46 min of the vault's time" in operator.out
    assert "the quota of the vault cannot meet the deadline" in operator.err
    assert (
        "takes=1 h 46 min, deadline=1 h 00 min, late_by=0 h 46 min, would_help=a deadline of 2 h or more"
        in operator.err
    )


def test_a_plan_is_refused_while_deks_are_under_another_version(operator: Operator) -> None:
    stray = operator.world.add_kek()
    keyring = operator.world.keyrings[TenantId("tenant-2")]
    operator.world.keyrings[TenantId("tenant-2")] = replace(
        keyring, deks=tuple(replace(dek, kid=stray) for dek in keyring.deks)
    )
    assert operator.types("plan", "kek", "master-kek") == EXIT_REJECTED
    assert f"1 under {stray}\n" in operator.out
    assert f"still wrapped under another version: bring that rotation to its end (kid={stray}, deks=1)" in operator.err


def test_a_plan_is_refused_while_another_rotation_is_under_way(operator: Operator) -> None:
    rotated(operator)
    assert operator.types("plan", "kek", "master-kek") == EXIT_REJECTED
    assert "another rotation of this KEK is not over" in operator.err
    assert operator.out == ""


@pytest.mark.parametrize(
    ("arguments", "mistake"),
    [
        (("slave-kek",), "no KEK of that name"),
        (("master-kek", "--vaults", "0"), "must be a number of vaults, 1 to 1000"),
        (("master-kek", "--deadline", "-1"), "must be a whole number of hours"),
        (("master-kek", "--kind", "RSA"), "--kind and --bits go together"),
        (("master-kek", "--kind", "RSA", "--bits", "512"), "kind and bits that go together"),
    ],
)
def test_a_plan_that_makes_no_sense_is_told_in_a_line(
    operator: Operator, arguments: tuple[str, ...], mistake: str
) -> None:
    assert operator.types("plan", "kek", *arguments) == EXIT_REJECTED
    assert operator.out == ""
    assert mistake in operator.err.splitlines()[-1]


@pytest.mark.parametrize(
    "command",
    ["plan kek", "kek rotate", "kek pause", "kek resume", "kek rollback", "kek status", "kek history"],
)
def test_every_command_has_an_example_that_can_be_typed(operator: Operator, command: str) -> None:
    assert operator.types(*command.split(), "--help") == 0
    assert f"example: python -m rotation --settings .stack/local.settings.json {command} master-kek" in " ".join(
        operator.out.split()
    )
