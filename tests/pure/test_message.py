"""Queue messages: what is accepted, what is refused, and that a refusal quotes nothing."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotation.message import PARSERS, Action, Job, ShardPlan, Trigger, retry_delay
from shared.errors import InvalidMessage, Rejected
from shared.values import SHARDS, TenantId
from tests.pure.test_envelope import TENANT_IDS

REQUEST = st.from_regex(r"[A-Za-z0-9._:+-]{1,80}", fullmatch=True).filter(lambda text: "eyJ" not in text)
FAILURE = st.none() | st.from_regex(r"[A-Za-z]{1,40}", fullmatch=True)
REASON = st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=200)
ATTEMPT = st.integers(0, 10**6)
JOBS = st.builds(
    Job,
    action=st.sampled_from([action for action in Action if action is not Action.ROTATE_DEK]),
    tenant=TENANT_IDS.map(TenantId),
    request=REQUEST,
    trigger=st.sampled_from(Trigger),
    actor=st.from_regex(r"[A-Za-z0-9@-]{1,80}", fullmatch=True),
    reason=REASON,
    attempt=ATTEMPT,
    failure=FAILURE,
) | st.builds(
    Job,
    action=st.just(Action.ROTATE_DEK),
    tenant=TENANT_IDS.map(TenantId),
    request=st.just("ticket-7"),
    trigger=st.sampled_from(Trigger),
    actor=st.just("planner"),
    reason=st.just("rotation interval is over"),
    target=st.none() | st.integers(1, 2**32 - 1),
    attempt=ATTEMPT,
    failure=FAILURE,
)
PLANS = st.builds(
    ShardPlan,
    shard=st.integers(0, SHARDS - 1),
    after=st.none() | TENANT_IDS.map(TenantId),
    attempt=ATTEMPT,
    failure=FAILURE,
)
BY_HAND: dict[str, Any] = {
    "schema": "rotation-job/1",
    "action": "dek.rotate",
    "tenant": "acme",
    "reason": "quarterly audit",
}


def parse(changes: dict[str, Any] | None = None, message_id: str = "m-1") -> Job:
    """The hand-written message with changes; `...` removes a field."""
    fields = {name: value for name, value in (BY_HAND | (changes or {})).items() if value is not ...}
    return Job.parse(json.dumps(fields).encode(), message_id)


@given(JOBS)
def test_a_job_comes_back_as_it_was_sent_but_for_secrets_in_its_reason(job: Job) -> None:
    parsed = Job.parse(job.to_json().encode(), "another")
    assert replace(parsed, reason=job.reason) == job
    assert parsed.id == job.id
    again = Job.parse(parsed.to_json().encode(), "a third")
    assert again == parsed, "what was parsed once is parsed the same for ever"


@given(PLANS)
def test_a_plan_comes_back_as_it_was_sent(plan: ShardPlan) -> None:
    assert ShardPlan.parse(plan.to_json().encode(), "m-1") == plan


def test_four_fields_written_by_hand_are_enough() -> None:
    assert parse() == Job(
        Action.ROTATE_DEK, TenantId("acme"), "m-1", Trigger.MANUAL, "operator", "quarterly audit", None
    )


def test_a_message_delivered_again_is_the_same_job_and_another_message_is_not() -> None:
    assert parse().id == parse().id == "dek.rotate/acme/m-1"
    assert parse(message_id="m-2").id != parse().id
    assert parse({"request": "ticket-4711"}).id == parse({"request": "ticket-4711"}, "m-2").id
    assert parse().again().id == parse().id
    assert ShardPlan(3).again().id == ShardPlan(3, failure="Conflict").id == "plan/3/start"
    assert ShardPlan(3, TenantId("acme")).id == "plan/3/acme"


def test_another_attempt_changes_nothing_else() -> None:
    assert parse().again() == replace(parse(), attempt=1)
    assert ShardPlan(3).again() == ShardPlan(3, attempt=1)


def test_secrets_in_a_reason_are_masked_and_the_masked_reason_can_be_sent_again() -> None:
    secret = "hunter2" * 3
    parsed = parse({"reason": "a" * 160 + f" password={secret}"})
    assert secret not in parsed.reason
    again = Job.parse(parsed.again().to_json().encode(), "m-2")
    assert again.reason == parsed.reason
    longest = parse({"reason": "a" * 178 + " password=abcdefghijk"})
    assert Job.parse(longest.again().to_json().encode(), "m-2").reason == longest.reason


# Every way of being wrong that a field has, and the field that is named for it.
WRONG_FIELDS: dict[str, tuple[dict[str, Any], str | None]] = {
    "no action": ({"action": ...}, "action"),
    "unknown action": ({"action": "dek.delete"}, "action"),
    "action in capitals": ({"action": "DEK.ROTATE"}, "action"),
    "action as a list": ({"action": ["dek.rotate"]}, "action"),
    "no action but null": ({"action": None}, "action"),
    "no tenant": ({"tenant": ...}, "tenant"),
    "tenant in capitals": ({"tenant": "ACME"}, "tenant"),
    "tenant as a number": ({"tenant": 7}, "tenant"),
    "tenant with a path": ({"tenant": "../acme"}, "tenant"),
    "tenant with a new line": ({"tenant": "acme\n"}, "tenant"),
    "tenant too long": ({"tenant": "a" * 65}, "tenant"),
    "no reason": ({"reason": ...}, "reason"),
    "empty reason": ({"reason": ""}, "reason"),
    "blank reason": ({"reason": "   "}, "reason"),
    "reason too long": ({"reason": "x" * 201}, "reason"),
    "reason of two lines": ({"reason": "fine\nforged log line"}, "reason"),
    "reason with a terminal escape": ({"reason": "\x1b[2J"}, "reason"),
    "reason written backwards": ({"reason": "\u202e txt"}, "reason"),
    "reason with half a character": ({"reason": "\ud800"}, "reason"),
    "reason as an object": ({"reason": {"text": "fine"}}, "reason"),
    "request with a slash": ({"request": "a/b"}, "request"),
    "empty request": ({"request": ""}, "request"),
    "request too long": ({"request": "x" * 81}, "request"),
    "request as null": ({"request": None}, "request"),
    "request that is a credential": ({"request": "secret:hunter2hunter2"}, "request"),
    "actor with a blank": ({"actor": "alice smith"}, "actor"),
    "actor as a number": ({"actor": 1}, "actor"),
    "actor that is a URL with a password": ({"actor": "https://u:hunter2@host"}, "actor"),
    "unknown trigger": ({"trigger": "moon"}, "trigger"),
    "trigger as null": ({"trigger": None}, "trigger"),
    "target 0": ({"target": 0}, "target"),
    "target too large": ({"target": 2**32}, "target"),
    "target as text": ({"target": "3"}, "target"),
    "target as a fraction": ({"target": 3.0}, "target"),
    "target as a truth value": ({"target": True}, "target"),
    "target not a number": ({"target": float("nan")}, "target"),
    "attempt negative": ({"attempt": -1}, "attempt"),
    "attempt too large": ({"attempt": 10**6 + 1}, "attempt"),
    "failure with a blank": ({"failure": "two words"}, "failure"),
    "empty failure": ({"failure": ""}, "failure"),
    "a field too many": ({"force": True}, None),
    "a misspelt field": ({"taget": 3}, None),
    "a target for another action": ({"action": "dek.retire", "target": 3}, None),
}


@pytest.mark.parametrize(("changes", "field"), WRONG_FIELDS.values(), ids=list(WRONG_FIELDS))
def test_a_wrong_field_refuses_the_message_and_is_named_but_not_quoted(
    changes: dict[str, Any], field: str | None
) -> None:
    with pytest.raises(InvalidMessage) as caught:
        parse(changes)
    assert caught.value.fields.get("field") == field
    assert isinstance(caught.value, Rejected), "a message does not get better by waiting"
    for value in changes.values():
        if isinstance(value, str) and len(value) > 8:
            assert value not in str(caught.value)


GOOD = json.dumps(BY_HAND).encode()
MALFORMED: dict[str, bytes] = {
    "nothing": b"",
    "blank": b"  ",
    "text": b"rotate acme please",
    "half an object": GOOD[:-1],
    "two objects": GOOD + GOOD,
    "a list": b"[" + GOOD + b"]",
    "a string": json.dumps(GOOD.decode()).encode(),
    "null": b"null",
    "a number": b"7",
    "single quotes": GOOD.replace(b'"', b"'"),
    "a comment": b"/* job */" + GOOD,
    "a trailing comma": GOOD[:-1] + b",}",
    "UTF-16": GOOD.decode().encode("utf-16"),
    "UTF-8 with a byte order mark": b"\xef\xbb\xbf" + GOOD,
    "Latin-1": GOOD.replace(b"audit", b"\xe4udit"),
    "overlong UTF-8": GOOD.replace(b"audit", b"\xc0\xaf"),
    "a surrogate in UTF-8": GOOD.replace(b"audit", b"\xed\xa0\x80"),
    "deep lists": b"[" * 8000,
    "a deep object": b'{"a":' * 1500,
    "a deep field": GOOD[:-1] + b', "x": ' + b"[" * 3000 + b"]" * 3000 + b"}",
    "a number of 5000 digits": GOOD[:-1] + b', "target": ' + b"9" * 5000 + b"}",
    "too large": GOOD[:-1] + b" " * 8192 + b"}",
    "the same name twice": GOOD[:-1] + b', "tenant": "globex"}',
    "no schema": GOOD.replace(b'"schema"', b'"scheme"'),
    "another schema": GOOD.replace(b"rotation-job/1", b"rotation-job/2"),
    "the schema of another queue": GOOD.replace(b"rotation-job/1", b"plan-shard/1"),
    "schema as a list": GOOD.replace(b'"rotation-job/1"', b'["rotation-job/1"]'),
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=list(MALFORMED))
@pytest.mark.parametrize("queue", PARSERS)
def test_a_malformed_message_is_refused_by_every_queue(queue: str, body: bytes) -> None:
    body = body.replace(b"rotation-job", b"plan-shard") if queue == "plan-shards" else body
    with pytest.raises(InvalidMessage):
        PARSERS[queue](body, "m-1")


WRONG_PLANS: dict[str, dict[str, Any]] = {
    "no shard": {},
    "shard as null": {"shard": None},
    "shard below 0": {"shard": -1},
    "shard above the last": {"shard": SHARDS},
    "shard as text": {"shard": "1"},
    "shard as a truth value": {"shard": True},
    "after as null": {"shard": 1, "after": None},
    "after that is no tenant": {"shard": 1, "after": "A"},
    "a field too many": {"shard": 1, "tenant": "acme"},
    "attempt as text": {"shard": 1, "attempt": "1"},
}


@pytest.mark.parametrize("fields", WRONG_PLANS.values(), ids=list(WRONG_PLANS))
def test_a_wrong_plan_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidMessage):
        ShardPlan.parse(json.dumps({"schema": "plan-shard/1"} | fields).encode(), "m-1")


@pytest.mark.parametrize("message_id", ["", "a/b", "x" * 81])
def test_a_message_id_that_cannot_be_part_of_a_job_id_is_no_substitute_for_a_request(message_id: str) -> None:
    with pytest.raises(InvalidMessage):
        parse(message_id=message_id)
    assert parse({"request": "r"}, message_id).request == "r"


@given(st.binary(max_size=300))
def test_no_bytes_at_all_get_past_a_parser_with_another_error(body: bytes) -> None:
    for parser in PARSERS.values():
        with pytest.raises(InvalidMessage):
            parser(body, "m-1")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NAMES = ("action", "tenant", "request", "trigger", "actor", "reason", "target", "attempt", "failure", "shard", "after")


@given(schema=st.sampled_from((Job.SCHEMA, ShardPlan.SCHEMA)), fields=st.dictionaries(st.sampled_from(NAMES), JSON))
def test_no_values_at_all_get_past_a_parser_with_another_error(schema: str, fields: dict[str, Any]) -> None:
    body = json.dumps({"schema": schema} | fields).encode()
    for parser in PARSERS.values():
        try:
            message = parser(body, "m-1")
        except InvalidMessage:
            continue
        assert parser(message.to_json().encode(), "m-2") == message


def test_retries_wait_longer_each_time_up_to_a_quarter_of_an_hour() -> None:
    for attempt, seconds in enumerate((5, 10, 20, 40, 80, 160, 320, 640, 900, 900, 900)):
        delays = {retry_delay(ShardPlan(shard, attempt=attempt)) for shard in range(SHARDS)}
        assert timedelta(seconds=seconds) <= min(delays)
        assert max(delays) <= timedelta(seconds=seconds) * 1.25
        assert len(delays) > SHARDS // 2, "what failed together does not come back together"
    assert retry_delay(ShardPlan(0, attempt=10**6)) < timedelta(minutes=19)


@pytest.mark.parametrize(
    ("request_name", "target", "allowed"), [("v4", None, False), ("v4", 5, False), ("v4", 4, True)]
)
def test_only_the_job_for_a_version_may_bear_its_name(request_name: str, target: int | None, allowed: bool) -> None:
    changes = {"request": request_name, "target": target if target is not None else ...}
    if allowed:
        assert parse(changes).id == "dek.rotate/acme/v4"
        return
    with pytest.raises(InvalidMessage, match="only if that is its target"):
        parse(changes)
