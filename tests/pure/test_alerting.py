"""What follows from an alert, and what raising, resolving and telling make of its row."""

import ast
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotation import alerting, ended_causes, intents_job
from rotation.alerting import (
    DEFAULT_OWNER,
    KINDS,
    MAX_ATTEMPTS,
    due,
    failed,
    given_up,
    key_of,
    kind_of,
    owner_of,
    owners_in,
    raised,
    resolved,
    told,
)
from rotation.catalog import load
from rotation.rotators.registry import READERS
from shared.values import Alert, AlertEntry, Closing, Owed, Severity, SinkName
from tests.pure.keyrings import NOW

ROOT = Path(__file__).parents[2]
ALERT = Alert("jobs/1", Severity.WARNING, "it is late", "dek/acme", NOW, {"reason": "r"})
OPEN = AlertEntry(replace(ALERT, owner="sre"), 3, {SinkName.TEAMS: Owed(2)})
DAY = timedelta(days=1)
FUNCTIONS = (ast.FunctionDef,)


def texts(file: Path) -> Iterator[str | None]:
    """The text of every alert that a module makes, None where it cannot be told."""
    tree = ast.parse(file.read_text())
    constants = {
        node.target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and isinstance(node.value, ast.Constant)
    }

    def text(node: ast.expr | None) -> str | None:
        if isinstance(node, ast.Name):
            node = ast.Constant(constants.get(node.id))
        return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None

    functions = [node for node in ast.walk(tree) if isinstance(node, FUNCTIONS)]
    telling = [node for node in functions if node.returns and "tuple[Severity, str]" in ast.unparse(node.returns)]
    for function in telling:
        for node in ast.walk(function):
            if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
                yield text(node.value.elts[1])
    for function in functions:
        for call in calls(function, "Alert"):
            if telling and is_told(call):
                continue
            what = argument(call, "what", 2)
            names = [parameter.arg for parameter in function.args.args if parameter.arg != "self"]
            if not isinstance(what, ast.Name) or what.id not in names:
                yield text(what)
                continue
            for caller in calls(tree, function.name):
                if not (telling and is_told(caller)):
                    yield text(argument(caller, what.id, names.index(what.id)))


def calls(tree: ast.AST, name: str) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called == name:
                yield node


def is_told(call: ast.Call) -> bool:
    """Whether severity and text come together, from a function that says both."""
    return any(isinstance(each, ast.Starred) and ast.unparse(each) == "*told" for each in call.args)


def argument(call: ast.Call, name: str, position: int) -> ast.expr | None:
    named = [keyword.value for keyword in call.keywords if keyword.arg == name]
    return named[0] if named else call.args[position] if len(call.args) > position else None


def test_every_alert_that_the_app_raises_has_its_line_in_the_table_and_no_line_is_left_over() -> None:
    found: set[str | None] = set()
    for file in sorted((ROOT / "rotation").rglob("*.py")):
        found |= set(texts(file))
    assert len(found) > 20
    assert found == set(KINDS)


def test_every_text_by_which_ended_causes_are_recognized_is_that_of_an_alert() -> None:
    assert {ended_causes.UNUSABLE, intents_job.OPEN, *ended_causes.OF_A_RUN} <= set(KINDS)


def test_a_text_has_one_line_in_the_table() -> None:
    kind = next(iter(KINDS.values()))
    with pytest.raises(ValueError, match="the same text"):
        alerting._table(kind, kind)


def test_an_alert_that_the_table_does_not_know_leads_to_a_runbook_too() -> None:
    assert kind_of("never seen").runbook.startswith("docs/runbooks/alerts.md#")
    assert all(kind.next and len(kind.next) < 200 for kind in KINDS.values())


@pytest.mark.parametrize(
    ("subject", "named", "owner"),
    [
        ("dek/acme", "", "the owner of the DEKs"),
        ("tenant/master-kek", "", "the owner of the DEKs"),
        ("kek/master-kek", "", "the owner of the KEK"),
        ("key/master-kek", "", "the owner of the KEK"),
        ("key/stray-key", "", DEFAULT_OWNER),
        ("queue/rotation-jobs", "", DEFAULT_OWNER),
        ("kek/master-kek", "somebody", "somebody"),
    ],
)
def test_the_owner_is_who_is_named_or_owns_the_object_or_the_default(subject: str, named: str, owner: str) -> None:
    catalog = load(ROOT / "rotation" / "catalog.toml", READERS)
    names = {"the owner of the DEKs": catalog.dek.owner, "the owner of the KEK": catalog.keks["master-kek"].owner}
    alert = replace(ALERT, subject=subject, owner=named)
    assert owner_of(alert, owners_in(catalog)) == names.get(owner, owner)


def test_a_new_alert_is_owed_to_every_sink() -> None:
    entry = raised(None, ALERT)
    assert entry is not None
    assert (entry.revision, set(entry.owed), entry.is_owing) == (1, set(SinkName), True)
    assert due(entry, NOW) == list(SinkName)


def test_an_open_alert_stays_as_it_is_when_it_is_raised_again() -> None:
    assert raised(OPEN, replace(ALERT, details={"reason": "other"}, raised=NOW + DAY)) is None


def test_an_alert_as_severe_that_says_something_else_is_told_again_and_a_less_severe_one_is_not() -> None:
    next_step = raised(OPEN, replace(ALERT, what="it is later"))
    assert next_step is not None
    assert (next_step.alert.what, next_step.revision, next_step.is_owing) == ("it is later", 4, True)
    critical = replace(OPEN, alert=replace(ALERT, severity=Severity.CRITICAL))
    assert raised(critical, replace(ALERT, what="it is later")) is None


def test_a_warning_becomes_critical_and_every_sink_is_told_again_but_not_the_other_way_round() -> None:
    worse = raised(OPEN, replace(ALERT, severity=Severity.CRITICAL))
    assert worse is not None
    assert (worse.alert.severity, worse.revision, worse.owed) == (Severity.CRITICAL, 4, dict.fromkeys(SinkName, Owed()))
    assert raised(worse, ALERT) is None


def test_a_resolved_alert_is_opened_again_and_may_be_less_severe_then() -> None:
    over = resolved(replace(OPEN, alert=replace(ALERT, severity=Severity.CRITICAL)), NOW)
    assert over is not None
    assert over.alert.resolved == NOW
    again = raised(over, replace(ALERT, raised=NOW + DAY))
    assert again is not None
    assert (again.alert, again.revision, again.is_owing) == (replace(ALERT, raised=NOW + DAY), 5, True)


def test_what_was_never_raised_or_is_resolved_stays_as_it_is_when_it_is_resolved() -> None:
    assert resolved(None, NOW) is None
    over = resolved(OPEN, NOW)
    assert over is not None
    assert resolved(over, NOW + DAY, "alice", "again") is None


def test_who_resolved_an_alert_is_kept_until_it_is_on_record_even_if_the_alert_is_opened_again() -> None:
    over = resolved(OPEN, NOW, "alice", "it is mended")
    assert over is not None
    assert (over.alert.resolved_by, over.closings) == ("alice", (Closing(4, "alice", "it is mended"),))
    again = raised(over, ALERT)
    assert again is not None
    assert again.closings == over.closings
    assert again.alert.resolved_by == ""
    assert replace(again, owed={}).is_owing


def test_a_sink_that_was_told_is_owed_nothing_and_the_others_still_are() -> None:
    entry = raised(None, ALERT)
    assert entry is not None
    assert due(told(entry, SinkName.TEAMS), NOW) == [SinkName.WEBHOOK, SinkName.PAGERDUTY]


def test_a_sink_that_does_not_answer_is_tried_again_ever_later_for_days_and_given_up_in_the_end() -> None:
    entry, now, pauses = replace(OPEN, owed={SinkName.TEAMS: Owed()}), NOW, []
    while not entry.owed[SinkName.TEAMS].given_up:
        assert due(entry, now) == [SinkName.TEAMS]
        entry = failed(entry, SinkName.TEAMS, now, "no answer", timedelta())
        at = entry.owed[SinkName.TEAMS].due
        if at is not None:
            assert due(entry, at - timedelta(seconds=1)) == []
            pauses.append(at - now)
            now = at
    assert [pause.total_seconds() / 60 for pause in pauses[:7]] == [1, 2, 4, 8, 16, 30, 30]
    assert len(pauses) == MAX_ATTEMPTS - 1
    assert sum(pauses, timedelta()) > 1.5 * DAY
    assert due(entry, now + DAY) == []
    assert not entry.is_owing


def test_a_sink_that_says_for_how_long_it_wants_to_be_left_alone_is_left_alone_but_not_for_ever() -> None:
    entry = replace(OPEN, owed={SinkName.TEAMS: Owed()})
    for wait, pause in ((600, 600), (10, 60), (10**6, 1800)):
        later = failed(entry, SinkName.TEAMS, NOW, "busy", timedelta(seconds=wait))
        assert later.owed[SinkName.TEAMS].due == NOW + timedelta(seconds=pause)


def test_a_sink_that_was_given_up_is_owed_the_next_revision() -> None:
    entry = given_up(OPEN, SinkName.TEAMS, "status 404")
    assert due(entry, NOW + DAY) == []
    over = resolved(entry, NOW)
    assert over is not None
    assert due(over, NOW) == list(SinkName)


@given(st.text())
def test_a_key_is_40_hex_digits_whatever_the_id_is(text: str) -> None:
    key = key_of(text)
    assert len(key) == 40
    assert key == key_of(text)
    assert set(key) <= set("0123456789abcdef")
