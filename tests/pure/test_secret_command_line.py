"""The command line of secrets, on a simulated app: orders arrive as typed or not at all, values are shown nowhere."""

import io
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rotation.__main__ import EXIT_INTEGRITY, EXIT_REJECTED, EXIT_UNAVAILABLE, main
from rotation.catalog import PENDING_SUFFIX, SecretPolicy
from rotation.commands import asking
from rotation.fields import Fields
from rotation.message import SECRET_JOBS, SecretAction, SecretOrder, Trigger
from rotation.rotators.base import Kind, Surroundings
from rotation.rotators.manual import Parameters
from rotation.rotators.registry import READERS, ROTATORS
from rotation.secret_versions import GENERATION_TAG, STATE_TAG
from rotation.tasks import TaskPolicy
from shared import log
from shared.azure import wiring
from shared.errors import AtpError, Disabled, Integrity, MissingPackage, Rejected, Transient, Waiting
from shared.values import SLOT_TAG, SecretPhase, SecretVersion
from tests.jobs.secret_scene import NAME, Scene
from tests.jobs.secret_targets import GRACE, INTERVAL, ByHand, Logins, SimRotator
from tests.jobs.test_secret_attacks import raises
from tests.simulator import VAULT_URL, SimAlerts, SimDeadLetters, SimQueues, SimSecretRotations, SimSecrets

CATALOG = f"""
[master-kek]
kind = "kek"
owner = "security"
interval_days = 365
grace_days = 7
consumer_timeout_days = 3
soak_days = 7
scrub_percent = 0.5
headroom_percent = 20

[tenant-dek]
kind = "dek"
owner = "security"
kek = "master-kek"
interval_days = 90
spread_days = 10
grace_days = 7
retention_days = 365

[{NAME}]
kind = "secret"
owner = "platform"
rotator = "simulated"
interval_days = {INTERVAL.days}
grace_days = {GRACE.days}
"""
ASIDE = NAME + PENDING_SUFFIX
FIRST = f"{1:032x}"


class Operator:
    """Somebody at the command line of a simulated app; while a command waits, the app works."""

    works: Callable[[], None]

    def __init__(self, capsys: pytest.CaptureFixture[str], kind: type[SimRotator]) -> None:
        self.scene = Scene(kind=kind)
        self.world = world = self.scene.world
        self.ports: Any = SimpleNamespace(
            clock=world.clock,
            queues=SimQueues(world),
            alerts=SimAlerts(world),
            dead_letters=SimDeadLetters(world),
            secrets=SimSecrets(world),
            secret_rotations=SimSecretRotations(world),
            surroundings=self.surroundings,
        )
        self.works = self.scene.settle
        self.out = self.err = ""
        self._capsys = capsys

    def surroundings(self, policy: SecretPolicy) -> Surroundings:
        """What rotators get: the simulated ones need nothing."""
        assert policy.name == NAME
        nothing: Any = None
        return Surroundings(nothing, nothing, self.world.entropy, self.world.clock)

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

    def told(self) -> dict[str, str]:
        """The labelled lines of the last command."""
        return {line[:18].strip(): line[18:] for line in self.out.splitlines()}

    def orders(self) -> list[SecretOrder]:
        """What was sent and is not delivered yet."""
        return [SecretOrder.parse(each.body.encode(), "") for each in self.world.messages if each.queue == SECRET_JOBS]

    def rotates(self, *, until: SecretPhase = SecretPhase.GRACE, **fields: object) -> None:
        """Have the app rotate, outside of the command line."""
        self.scene.send(SecretAction.ROTATE, "setup", **fields)
        self.scene.settle()
        assert self.scene.row.phase is until


@pytest.fixture
def kind() -> type[SimRotator]:
    return Logins


@pytest.fixture
def operator(
    kind: type[SimRotator], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Operator:
    operator = Operator(capsys, kind)
    (tmp_path / "catalog.toml").write_text(CATALOG)
    monkeypatch.setenv("ATP_CATALOG", str(tmp_path / "catalog.toml"))
    monkeypatch.setenv("ATP_VAULT_URL", VAULT_URL)
    monkeypatch.setenv("AzureWebJobsStorage", "AccountName=acc;AccountKey=aHVudGVyMmh1bnRlcjI=")
    simulated = Kind(_read_nothing, lambda *_: operator.scene.target.rotator(operator.world))
    monkeypatch.setitem(ROTATORS, "simulated", simulated)
    monkeypatch.setitem(READERS, "simulated", _read_nothing)
    monkeypatch.setattr(wiring, "Adapters", lambda _: operator.ports)
    monkeypatch.setattr(log, "configure", lambda _: None)
    monkeypatch.setattr(asking, "user", lambda: "alice")
    monkeypatch.setattr("rotation.commands.secret_orders.user", lambda: "alice")
    monkeypatch.setattr(time, "sleep", lambda _: operator.works())
    return operator


by_hand = pytest.mark.parametrize("kind", [ByHand])


def _read_nothing(fields: Fields) -> None:
    del fields


def pipes(monkeypatch: pytest.MonkeyPatch, value: bytes) -> None:
    """What the next command finds on standard input."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(value)))


def everything(operator: Operator) -> str:
    """All that is stored but in the vault, and what the last command said."""
    world = operator.world
    stored = (world.messages, world.rotations, world.alerts, world.letters, world.streams)
    return repr((stored, operator.out, operator.err))


# Orders


@pytest.mark.parametrize(
    ("arguments", "fields"),
    [
        ((), {}),
        (("--compromised",), {"compromised": True}),
        (("--reason", "ticket 4711", "--actor", "jane"), {"reason": "ticket 4711", "actor": "jane"}),
    ],
)
def test_a_rotation_is_ordered_as_it_is_typed(
    operator: Operator, arguments: tuple[str, ...], fields: dict[str, Any]
) -> None:
    assert operator.types("secret", "rotate", NAME, *arguments) == 0
    (order,) = operator.orders()
    assert operator.out == f"asked: {order.id}\n"
    wanted = {
        "action": SecretAction.ROTATE,
        "secret": NAME,
        "trigger": Trigger.MANUAL,
        "actor": "alice",
        "reason": "operator asked to rotate",
        "generation": None,
        "compromised": False,
    } | fields
    assert {name: getattr(order, name) for name in wanted} == wanted


def test_a_rollback_means_the_rotation_that_the_row_shows(operator: Operator) -> None:
    operator.rotates()
    assert operator.types("secret", "rollback", NAME) == 0
    (order,) = operator.orders()
    assert (order.action, order.generation) == (SecretAction.ROLLBACK, 1)


@pytest.mark.parametrize(
    ("arguments", "mistake"),
    [
        (("rotate", "databse"), f"no secret of that name (entry='databse', known={NAME})"),
        (("rotate", "bad\aname"), "entry='(unprintable)'"),
        (("rotate", NAME, "--wait", "0"), "must be a number of seconds, 1 or more"),
        (("rotate", NAME, "--reason", ""), "must have 1 to 200 printable characters"),
        (("rotate", NAME, "--actor", "CORP\\Jane"), "field=actor"),
        (("rollback", NAME), "there is nothing to go back to"),
        (("drop", NAME), "no rotation waits for a value of this secret"),
        (("drop", "databse"), "no secret of that name"),
        (("status", "databse"), "no secret of that name"),
    ],
)
def test_a_mistake_is_told_in_a_line_and_nothing_is_ordered(
    operator: Operator, arguments: tuple[str, ...], mistake: str
) -> None:
    assert operator.types("secret", *arguments) == EXIT_REJECTED
    assert (operator.out, operator.orders()) == ("", [])
    assert mistake in operator.err.splitlines()[-1]
    assert "\a" not in operator.err


@pytest.mark.parametrize(
    ("fields", "arguments", "mistake"),
    [
        ({}, ("rotate",), "another rotation of this secret is not over"),
        ({}, ("rotate", "--dry-run"), "another rotation of this secret is not over"),
        ({}, ("confirm",), "there is nothing to confirm yet"),
        ({}, ("rotate",), "phase=grace, until=2026-01-08 00:00 UTC)"),
    ],
)
def test_what_the_app_would_refuse_is_refused_at_once(
    operator: Operator, fields: dict[str, Any], arguments: tuple[str, ...], mistake: str
) -> None:
    operator.rotates(**fields)
    verb, *rest = arguments
    assert operator.types("secret", verb, NAME, *rest) == EXIT_REJECTED
    assert operator.orders() == []
    assert mistake in operator.err


def test_there_is_no_order_to_go_back_to_a_compromised_credential(operator: Operator) -> None:
    operator.rotates(compromised=True, until=SecretPhase.STEADY)
    assert operator.types("secret", "rollback", NAME) == EXIT_REJECTED
    assert "there is no way back to a compromised credential" in operator.err


def test_what_was_done_already_is_not_asked_again(operator: Operator) -> None:
    operator.rotates()
    assert operator.types("secret", "rollback", NAME, "--wait") == 0
    assert operator.types("secret", "rollback", NAME) == 0
    assert operator.out == f"it is so already, nothing was asked: secret.rollback {NAME}\n"
    operator.scene.pass_time(GRACE)
    assert operator.types("secret", "confirm", NAME) == EXIT_REJECTED
    assert "nothing waits to be confirmed; nothing was asked" in operator.err
    assert operator.orders() == []


def test_waiting_ends_when_the_new_credential_is_published(operator: Operator) -> None:
    assert operator.types("secret", "rotate", NAME, "--wait") == 0, operator.err
    asked, done = operator.out.splitlines()
    assert done == asked.replace("asked", "done")
    assert operator.scene.row.phase is SecretPhase.GRACE
    assert operator.types("secret", "rotate", NAME, "--compromised", "--wait") == 0, operator.err
    assert (operator.scene.row.phase, operator.scene.row.generation) == (SecretPhase.STEADY, 2)


def test_waiting_ends_when_the_rotation_under_way_has_replaced_what_is_compromised(operator: Operator) -> None:
    operator.world.outage = frozenset({"target"})
    operator.scene.send(SecretAction.ROTATE, "setup")
    operator.scene.deliver(operator.world.messages[0])
    assert operator.scene.row.phase is SecretPhase.STAGED
    operator.world.outage = frozenset()
    assert operator.types("secret", "rotate", NAME, "--compromised", "--wait") == 0, operator.err
    row = operator.scene.row
    assert (row.generation, row.phase, row.compromised) == (1, SecretPhase.STEADY, True)


def test_waiting_for_a_rollback_ends_when_consumers_have_the_credential_before(operator: Operator) -> None:
    operator.rotates()
    assert operator.types("secret", "rollback", NAME, "--wait") == 0, operator.err
    assert operator.out.splitlines()[-1].startswith("done: secret.rollback/")
    assert operator.scene.row.rolled_back
    assert operator.scene.versions()[-1][1] == operator.scene.versions()[0][1]


def test_waiting_ends_with_the_verdict_when_the_target_refuses(operator: Operator) -> None:
    operator.scene.target.refuses = True
    assert operator.types("secret", "rotate", NAME, "--wait") == EXIT_REJECTED
    assert "Rejected: the rotation was given up, the credential in use works on" in operator.err
    assert "the target does not want to" in operator.err


def test_waiting_ends_when_the_time_is_over(operator: Operator) -> None:
    operator.works = lambda: None
    assert operator.types("secret", "rotate", NAME, "--wait", "1") == EXIT_UNAVAILABLE
    assert operator.err.startswith(
        f"Transient: asked, but not done in time; it may still be done (seconds=1, entry={NAME})"
    )


def test_waiting_ends_when_the_order_is_given_up(operator: Operator) -> None:
    others = replace(operator.scene.row, phase=SecretPhase.REVOKING)

    def works() -> None:
        stored = operator.world.rotations[NAME]
        operator.world.rotations[NAME] = replace(others, etag=stored.etag)
        operator.scene.deliver(operator.world.messages[0])
        operator.scene.settle()

    operator.works = works
    assert operator.types("secret", "rotate", NAME, "--wait") == EXIT_REJECTED
    assert "the job was given up; see `letters list`" in operator.err


def test_an_outage_is_no_mistake_of_the_operator(operator: Operator) -> None:
    operator.world.outage = frozenset({"rotations"})
    for command in (("status",), ("status", NAME), ("rotate", NAME), ("rollback", NAME), ("drop", NAME)):
        assert operator.types("secret", *command) == EXIT_UNAVAILABLE


# What only a person can do


@by_hand
def test_a_rotation_by_hand_goes_from_order_to_drop_to_confirmation(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = operator.scene
    assert operator.types("secret", "rotate", NAME, "--wait") == EXIT_UNAVAILABLE
    assert "Waiting: asked; it is a person's turn (task=make a new one and drop it)" in operator.err
    made = scene.target.draw()
    scene.target.accepted["user-b"] = made
    pipes(monkeypatch, made + b"\n")
    assert operator.types("secret", "drop", NAME, "--reason", "ticket 4711") == 0, operator.err
    (version, value), (order,) = scene.versions(ASIDE)[-1], operator.orders()
    assert operator.out == f"kept: version {version.version} of {ASIDE}\nasked: {order.id}\n"
    assert value == made
    assert version.tags == {STATE_TAG: "pending", GENERATION_TAG: "1", SLOT_TAG: "user-b"}
    assert (order.action, order.generation, order.reason) == (SecretAction.DRIVE, 1, "ticket 4711")
    assert made.decode() not in everything(operator)
    scene.settle()
    assert (scene.row.phase, scene.versions()[-1][1]) == (SecretPhase.GRACE, made)

    scene.pass_time(GRACE)
    assert operator.types("secret", "rotate", NAME, "--compromised", "--wait") == EXIT_UNAVAILABLE
    assert "Waiting: asked; it is a person's turn (task=revoke the one before and confirm it)" in operator.err
    scene.settle()
    assert operator.types("secret", "status", NAME) == 0
    assert operator.told()["waits for"] == "a person: revoke the one before and confirm it"
    del scene.target.accepted["user-a"]
    assert operator.types("secret", "confirm", NAME) == 0
    (order,) = operator.orders()
    assert (order.action, order.generation) == (SecretAction.CONFIRM, 1)
    scene.settle()
    assert scene.row.phase is SecretPhase.STEADY
    scene.check_secret()


@by_hand
@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (b"a new value", b"a new value"),
        (b"a new value\r\n", b"a new value"),
        (b"two lines\n\n", b"two lines\n"),
        (b" Zo\xc3\xab \r", b" Zo\xc3\xab \r"),
        (b"x" * 25 * 1024 + b"\r\n", b"x" * 25 * 1024),
    ],
)
def test_a_value_is_kept_as_it_is_given_but_for_one_newline(
    operator: Operator, monkeypatch: pytest.MonkeyPatch, given: bytes, kept: bytes
) -> None:
    operator.rotates(until=SecretPhase.INTENDED)
    pipes(monkeypatch, given)
    assert operator.types("secret", "drop", NAME) == 0, operator.err
    assert operator.scene.versions(ASIDE)[-1][1] == kept


@by_hand
@pytest.mark.parametrize(
    ("given", "mistake"),
    [
        (b"", "a value has at least one byte"),
        (b"\n", "a value has at least one byte"),
        (b"x" * (25 * 1024 + 1), "not more than a vault takes (most_bytes=25600)"),
        (b"\xff\xfe secret", "a value is text in UTF-8"),
    ],
)
def test_what_no_vault_takes_is_refused(
    operator: Operator, monkeypatch: pytest.MonkeyPatch, given: bytes, mistake: str
) -> None:
    operator.rotates(until=SecretPhase.INTENDED)
    pipes(monkeypatch, given)
    assert operator.types("secret", "drop", NAME) == EXIT_REJECTED
    assert mistake in operator.err
    assert (operator.scene.versions(ASIDE), operator.orders()) == ([], [])


@by_hand
def test_the_value_in_use_is_not_taken_for_a_new_one(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    operator.rotates(until=SecretPhase.INTENDED)
    pipes(monkeypatch, operator.scene.versions()[0][1] + b"\n")
    assert operator.types("secret", "drop", NAME) == EXIT_REJECTED
    assert "that is the value in use" in operator.err
    assert operator.scene.versions(ASIDE) == []


@by_hand
def test_a_value_is_typed_unseen_at_a_terminal(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    operator.rotates(until=SecretPhase.INTENDED)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("getpass.getpass", lambda prompt: f"typed behind {prompt}")
    assert operator.types("secret", "drop", NAME) == EXIT_REJECTED
    assert "the two are not the same" in operator.err
    assert operator.scene.versions(ASIDE) == []
    monkeypatch.setattr("getpass.getpass", lambda _prompt: "typed twice")
    assert operator.types("secret", "drop", NAME) == 0, operator.err
    assert operator.scene.versions(ASIDE)[-1][1] == b"typed twice"

    def end_of_file(_prompt: str) -> str:
        raise EOFError

    monkeypatch.setattr("getpass.getpass", end_of_file)
    assert operator.types("secret", "drop", NAME) == EXIT_REJECTED
    monkeypatch.setattr(sys, "stdin", None)
    assert operator.types("secret", "drop", NAME) == EXIT_REJECTED
    assert "standard input, which is closed" in operator.err


@by_hand
def test_a_value_for_a_rotation_that_was_given_up_meanwhile_is_not_kept(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator.rotates(until=SecretPhase.INTENDED)

    def typed(_prompt: str) -> str:
        operator.scene.send(SecretAction.ROLLBACK, generation=1)
        operator.scene.settle()
        return "too late"

    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("getpass.getpass", typed)
    assert operator.types("secret", "drop", NAME) == EXIT_REJECTED
    assert operator.scene.versions(ASIDE) == []


@by_hand
def test_a_value_whose_message_was_lost_is_found_by_the_next_run_of_the_planner(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator.rotates(until=SecretPhase.INTENDED)
    made = operator.scene.target.draw()
    operator.scene.target.accepted["user-b"] = made
    pipes(monkeypatch, made)
    operator.world.outage = frozenset({"queues"})
    assert operator.types("secret", "drop", NAME) == EXIT_UNAVAILABLE
    operator.world.outage = frozenset()
    operator.scene.plan()
    operator.scene.settle()
    assert operator.scene.row.phase is SecretPhase.GRACE


# The dry run


def changes(operator: Operator) -> list[str]:
    """The calls so far that change something."""
    quiet = ("read", "page", "newest", "versions", "value", "list", "look", "test")
    return [name for name in operator.world.call_names if not name.endswith(quiet)]


def test_a_dry_run_says_what_would_happen_and_changes_nothing(operator: Operator) -> None:
    operator.world.now += timedelta(days=10)
    before = changes(operator)
    assert operator.types("secret", "rotate", NAME, "--dry-run", "--wait") == 0, operator.err
    told = operator.told()
    assert (told["name"], told["rotator"]) == (NAME, "simulated")
    assert told["what happens"] == "a new rotation begins"
    assert told["current version"] == f"{FIRST}, 10 days old"
    assert (told["its slot"], told["new slot"]) == ("user-a", "user-b")
    assert told["dual running"] == "7 days"
    assert told["revoked after"] == "2026-01-18 00:00 UTC"
    assert told["due next"] == "2026-04-11 00:00 UTC, every 90 days"
    assert changes(operator) == before
    assert operator.orders() == []


def test_a_dry_run_says_that_the_secret_was_deleted(operator: Operator) -> None:
    del operator.world.secrets[VAULT_URL, NAME]
    assert operator.types("secret", "rotate", NAME, "--dry-run") == EXIT_REJECTED
    assert operator.err.startswith("Rejected: the vault has no version of the secret (")
    gone = operator.told()["current version"]
    assert gone.startswith("the vault has no version, and ")
    assert operator.types("secret", "status", NAME) == 0
    assert gone in operator.out.splitlines()
    assert operator.types("secret", "rotate", NAME, "--dry-run") == EXIT_REJECTED
    assert operator.told()["dual running"] == "7 days"


def test_a_dry_run_for_a_compromised_credential_has_no_dual_running(operator: Operator) -> None:
    operator.rotates()
    assert operator.types("secret", "rotate", NAME, "--compromised", "--dry-run") == 0
    told = operator.told()
    assert told["what happens"] == "the dual running ends at once, and a new rotation begins"
    assert told["dual running"].startswith("none")
    assert (told["its slot"], told["new slot"]) == ("user-b", "user-a")


def test_a_dry_run_of_a_first_credential_revokes_nothing(operator: Operator) -> None:
    operator.world.secrets.clear()
    operator.world.rotations.clear()
    assert operator.types("secret", "rotate", NAME, "--dry-run") == 0
    told = operator.told()
    assert (told["current version"], told["dual running"]) == ("none", "none: it is the first one")
    assert "revoked after" not in told


def test_a_dry_run_of_a_first_credential_knows_that_it_is_one_though_the_target_cannot_be_asked(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator.world.secrets.clear()
    operator.world.rotations.clear()
    monkeypatch.setattr(Logins, "rehearse", raises(Transient("no connection to the database server")))
    assert operator.types("secret", "rotate", NAME, "--dry-run") == EXIT_UNAVAILABLE
    told = operator.told()
    assert (told["current version"], told["dual running"]) == ("none", "none: it is the first one")
    assert "revoked after" not in told


@by_hand
def test_a_dry_run_says_that_a_rotation_under_way_takes_the_place_of_another(operator: Operator) -> None:
    operator.rotates(until=SecretPhase.INTENDED)
    assert operator.types("secret", "rotate", NAME, "--compromised", "--dry-run") == 0
    told = operator.told()
    assert told["what happens"] == "the rotation under way ends without dual running, and no other begins"
    assert told["new slot"] == "user-b"


@by_hand
def test_a_dry_run_says_what_a_person_has_to_do(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        READERS, "simulated", lambda _: Parameters(TaskPolicy("Ask them.", timedelta(days=7), (1,)), None)
    )
    assert operator.types("secret", "rotate", NAME, "--dry-run") == 0
    told = operator.told()
    assert told["waits for"] == "a person to make the new value and to hand it over by `secret drop`"
    assert told["revoked after"].endswith(" UTC, by a person who says so by `secret confirm`")


def test_a_dry_run_says_when_vault_or_target_cannot_be_asked(operator: Operator) -> None:
    for port in ("target", "secrets"):
        operator.world.outage = frozenset({port})
        assert operator.types("secret", "rotate", NAME, "--dry-run") == EXIT_UNAVAILABLE
        assert "simulated outage" in operator.err
        told = operator.told()
        assert told["not known"].startswith("vault or target cannot be asked: Transient: simulated outage")
        assert "new slot" not in told
        assert told["due next"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MissingPackage("a package is not installed", package="psycopg"), EXIT_REJECTED),
        (Waiting("look there yourself"), 0),
        (Integrity("the target is not as any rotation leaves it"), EXIT_INTEGRITY),
    ],
)
def test_a_dry_run_passes_on_what_the_rotator_says(
    operator: Operator, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    def place(*_: object) -> None:
        raise error

    monkeypatch.setattr(Logins, "place", place)
    assert operator.types("secret", "rotate", NAME, "--dry-run") == code
    assert str(error) in operator.out + operator.err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Rejected("the server refuses the login that alters the two users", user="rotator"), EXIT_REJECTED),
        (Transient("no connection to the database server"), EXIT_UNAVAILABLE),
        (Disabled("somebody has disabled a version of the secret"), EXIT_UNAVAILABLE),
    ],
)
def test_a_dry_run_tries_what_the_rotation_will_need(
    operator: Operator, monkeypatch: pytest.MonkeyPatch, error: AtpError, code: int
) -> None:
    before = changes(operator)
    monkeypatch.setattr(Logins, "rehearse", raises(error))
    assert operator.types("secret", "rotate", NAME, "--dry-run") == code
    assert str(error) in operator.told()["not known"]
    assert str(error) in operator.err
    assert operator.out.splitlines()[-1] == "nothing was changed, nothing was asked"
    assert (changes(operator), operator.orders()) == (before, [])


# Status


def test_the_status_has_a_row_for_every_secret_of_the_catalog_and_of_the_table(operator: Operator) -> None:
    operator.world.rotations["another"] = replace(operator.scene.row, name="another")
    assert operator.types("secret", "status") == 0
    head, another, first = operator.out.splitlines()
    assert head.split()[:4] == ["name", "phase", "generation", "since"]
    assert another.endswith("nobody: the catalog has no such secret any more")
    assert first.split()[:3] == [NAME, "steady", "0"]
    assert first.endswith("its due date")
    operator.world.rotations.clear()
    seen = operator.sees("secret", "status")
    assert [seen[name] for name in ("name", "phase", "since", "due")] == [NAME, "steady", None, None]
    assert seen["waits_for"] == "the first look at it"


def test_the_status_pages_through_the_table(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rotation.commands.secret_status._PAGE", 2)
    for number in range(5):
        operator.world.rotations[f"s{number}"] = replace(operator.scene.row, name=f"s{number}")
    assert operator.types("secret", "status", "--json") == 0
    assert len(operator.out.splitlines()) == 6


def test_the_status_of_one_secret_has_all_about_it_and_no_value(operator: Operator) -> None:
    operator.rotates()
    assert operator.types("secret", "status", NAME) == 0
    told = operator.told()
    row = operator.scene.row
    assert told["phase"] == "grace"
    assert told["waits for"] == "the end of dual running"
    assert (told["current"], told["slot"]) == (row.current, "user-b")
    assert (told["previous"], told["previous slot"]) == (row.previous, "user-a")
    assert told["grace until"] == "2026-01-08 00:00 UTC"
    assert (told["asked by"], told["reason"]) == ("alice@atp", "asked for")
    assert f"versions of {NAME}" in operator.out.splitlines()
    assert f"versions of {ASIDE}" in operator.out.splitlines()
    shown = [line for line in operator.out.splitlines() if line.startswith(f"{row.previous}  2026-01-01 00:00")]
    assert ["previous" in line for line in shown] == [True]
    for _, value in operator.scene.versions():
        assert value.decode() not in operator.out


def test_the_status_of_one_secret_in_json_has_its_versions(operator: Operator) -> None:
    operator.rotates()
    operator.types("secret", "rollback", NAME, "--wait")
    seen = operator.sees("secret", "status", NAME)
    assert (seen["phase"], seen["verdict"], seen["rolled_back"]) == ("grace", "rolled back", True)
    assert [each["generation"] for each in seen["versions"]] == ["", "1", "undoes 1"]
    assert [each["enabled"] for each in seen["aside"]] == [False]
    assert [each["state"] for each in seen["versions"]] == ["restored", "previous", "current"]
    assert (seen["asked_by"], seen["undone_because"]) == ("alice@atp", "operator asked to roll back")


def test_the_status_needs_no_access_to_the_vault(operator: Operator) -> None:
    operator.rotates()
    operator.world.outage = frozenset({"secrets"})
    seen = operator.sees("secret", "status", NAME)
    assert (seen["phase"], seen["versions"], seen["aside"]) == ("grace", None, None)
    assert operator.types("secret", "status", NAME) == 0
    assert operator.out.count("not known: Transient") == 2


def test_the_status_says_who_works_on_a_secret_and_what_stands_still(operator: Operator) -> None:
    until = operator.world.now + timedelta(minutes=5)
    staged = replace(operator.scene.row, phase=SecretPhase.STAGED, claim="w", claimed_until=until)
    operator.world.rotations[NAME] = staged
    seen = operator.sees("secret", "status", NAME)
    assert (seen["claimed_until"], seen["waits_for"]) == (
        "2026-01-01T00:05:00Z",
        "the target to accept the new credential",
    )
    operator.world.now += timedelta(days=1)
    seen = operator.sees("secret", "status", NAME)
    assert (seen["claimed_until"], seen["waits_for"]) == (None, "somebody has to act: it stands still")


def test_a_version_that_no_rotation_made_is_shown_without_tags(operator: Operator) -> None:
    version: SecretVersion = operator.scene.versions()[0][0]
    (seen,) = operator.sees("secret", "status", NAME)["versions"]
    assert (seen["version"], seen["state"], seen["generation"], seen["enabled"]) == (version.version, "", "", True)


@pytest.mark.parametrize("verb", ["rotate", "rollback", "confirm", "drop", "status"])
def test_every_command_has_an_example_that_can_be_typed(operator: Operator, verb: str) -> None:
    assert operator.types("secret", verb, "--help") == 0
    example = " ".join(operator.out.split())
    assert f"example: python -m rotation --settings .stack/local.settings.json secret {verb} " in example
