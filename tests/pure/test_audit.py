"""Audit records: their bytes, what they refuse to hold, and that every change to a chain is found at its number."""

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from rotation.audit import (
    GENESIS,
    SCHEMA,
    STREAMS,
    AuditEvent,
    Outcome,
    all_parsed,
    chained,
    parse_time,
    parsed,
    time_text,
    verify_chain,
)
from rotation.merkle import leaf_hash
from shared.errors import Integrity
from shared.redact import mask
from shared.values import StoredRecord
from tests.pure.keyrings import KID, NOW


def matching(pattern: str) -> st.SearchStrategy[str]:
    """Texts of a grammar in which nothing looks like a secret."""
    return st.from_regex(pattern, fullmatch=True).filter(lambda text: mask(text) == text)


EVENTS = st.builds(
    AuditEvent,
    job=matching(r"[A-Za-z0-9._:/+-]{1,200}"),
    outcome=st.sampled_from(Outcome),
    action=matching(r"[a-z]{1,20}\.[a-z]{1,20}"),
    subject=matching(r"[a-z-]{1,20}/[a-zA-Z0-9._-]{1,80}"),
    actor=matching(r"[A-Za-z0-9._:@/+-]{1,80}"),
    trigger=matching(r"[a-z]{1,20}"),
    reason=st.text(st.characters(codec="utf-8"), max_size=300),
    old_version=st.none() | st.integers(0, 2**32),
    new_version=st.none() | st.integers(0, 2**32),
    details=st.fixed_dictionaries(
        {},
        optional={"kid": st.just(KID), "error": matching(r"[A-Za-z]{1,40}"), "versions": matching(r"[0-9]{1,9}-[0-9]")},
    ),
)


def event(number: int = 1, **changes: Any) -> AuditEvent:
    """An event of one subject."""
    plain = AuditEvent(
        job=f"dek.rotate/acme/v{number}",
        outcome=Outcome.SUCCEEDED,
        action="dek.rotate",
        subject="dek/acme",
        actor="planner",
        trigger="schedule",
        reason="rotation interval is over",
        old_version=number - 1,
        new_version=number,
        details={"kid": KID},
    )
    return replace(plain, **changes)


def chain(length: int = 6) -> list[StoredRecord]:
    return chained([event(number) for number in range(1, length + 1)], 1, GENESIS, NOW)


def test_a_record_is_these_bytes_for_ever() -> None:
    (record,) = chained([event()], 1, GENESIS, NOW)
    assert record.canonical.decode() == (
        '{"action":"dek.rotate","actor":"planner","details":{"kid":"' + KID + '"},'
        '"event":"' + event().id + '","job":"dek.rotate/acme/v1","new_version":1,"old_version":0,'
        '"outcome":"succeeded","prev":"' + "00" * 32 + '","reason":"rotation interval is over",'
        '"schema":"atp-audit/1","seq":1,"stream":' + str(event().stream) + ',"subject":"dek/acme",'
        '"time":"2026-11-20T12:30:15.250000Z","trigger":"schedule"}'
    )
    assert record.leaf_hash == hashlib.sha256(b"\0" + record.canonical).digest()


def test_an_events_id_and_stream_are_these_for_ever() -> None:
    assert event().id == hashlib.sha256(b"dek.rotate/acme/v1\0succeeded").hexdigest()[:32]
    assert event().stream == int.from_bytes(hashlib.sha256(b"dek/acme").digest()[:4]) % 16
    assert STREAMS == 16


def test_one_outcome_of_one_job_is_one_event_whatever_else_is_said_of_it() -> None:
    assert event().id == event(reason="another", actor="alice", details={}).id
    assert len({event(outcome=outcome).id for outcome in Outcome}) == len(Outcome)
    assert event(1).id != event(2).id


@given(st.lists(EVENTS, max_size=8), st.integers(1, 2**40), st.binary(min_size=32, max_size=32))
def test_every_chain_verifies_and_holds_what_was_said(events: list[AuditEvent], seq: int, previous: bytes) -> None:
    events = [replace(each, subject="dek/acme") for each in events]
    records = chained(events, seq, previous, NOW)
    assert verify_chain(records, previous, seq) == (
        seq - 1 + len(events),
        records[-1].leaf_hash if records else previous,
    )
    for each, record in zip(events, records, strict=True):
        fields = json.loads(record.canonical)
        assert rfc8785.dumps(fields) == record.canonical
        for name in ("job", "outcome", "action", "subject", "actor", "trigger", "old_version", "new_version"):
            assert fields[name] == getattr(each, name)
        assert fields["details"] == dict(each.details)
        assert fields["reason"] == mask(each.reason)[:200]
        assert (fields["schema"], fields["event"]) == (SCHEMA, each.id)


def test_a_stream_can_be_verified_in_pieces() -> None:
    records = chain()
    number, head = verify_chain(records[:4])
    assert verify_chain(records[4:], head, number + 1) == verify_chain(records)


def test_an_empty_stream_is_sound() -> None:
    assert verify_chain([]) == (0, GENESIS)


def test_times_are_utc_whatever_zone_they_came_from() -> None:
    cest = NOW.astimezone(timezone(timedelta(hours=2)))
    assert chained([event()], 1, GENESIS, cest) == chained([event()], 1, GENESIS, NOW)
    midnight = datetime(2026, 1, 1, tzinfo=UTC)
    assert b'"time":"2026-01-01T00:00:00.000000Z"' in chained([event()], 1, GENESIS, midnight)[0].canonical


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_time_is_read_as_it_was_written(moment: datetime) -> None:
    assert parse_time(time_text(moment)) == moment


STRANGE_TIMES = [
    "",
    "yesterday",
    "2026-01-01",
    "2026-01-01T00:00:00Z",
    "2026-01-01T00:00:00.000000",
    "2026-01-01T00:00:00.000000z",
    "2026-01-01T00:00:00.0000000Z",
    "2026-01-01 00:00:00.000000Z",
    "2026-01-01T00:00:00,000000Z",
    "2026-01-01T000000.00000000Z",
    "20260101T000000.0000000000Z",
    "2026-W01-1T00:00:00.000000Z",
    "2026-01-01T24:00:00.000000Z",
    "2026-02-30T00:00:00.000000Z",
    "2026-13-01T00:00:00.000000Z",
    "2026-01-01T00:00:60.000000Z",
    "2026-01-01T00:00:00.00000\u0661Z",
    "2026-01-01T00:00:00.000000+00:00",
    "2026-01-01T00:00:00.000000+23:00",
    "2026-01-01T00:00:00.00000 or any other time you like",
    "9999-12-31T23:59:59.9-12:00",
    "9999-12-31T24:00:00.000000Z",
    "0001-01-01T00:00:00.000000+14:00",
]


@pytest.mark.parametrize("text", STRANGE_TIMES)
def test_what_is_no_time_of_ours_is_refused(text: str) -> None:
    with pytest.raises(Integrity):
        parse_time(text)


@given(
    st.text("0123456789-:.,TWZ +", min_size=27, max_size=27)
    | st.from_regex(
        r"20[0-9]{2}-?W?[0-9]{2}-?[0-9]{1,2}[T ][0-9]{2}:?[0-9]{2}:?[0-9]{2}[.,][0-9]{6,8}Z", fullmatch=True
    )
)
def test_a_text_is_the_time_that_is_written_so_or_refused(text: str) -> None:
    try:
        moment = parse_time(text)
    except Integrity:
        return
    assert time_text(moment) == text


# Attacks on a stored chain of six


def rewritten(record: StoredRecord, **fields: Any) -> StoredRecord:
    """The record with other contents and a hash that fits them."""
    canonical = rfc8785.dumps(json.loads(record.canonical) | fields)
    return replace(record, canonical=canonical, leaf_hash=leaf_hash(canonical))


def reforged(records: list[StoredRecord], at: int) -> list[StoredRecord]:
    """From index `at` on, every record hashed again behind the one before: what a writer of all rows could do."""
    forged = records[:at]
    for record in records[at:]:
        prev = forged[-1].leaf_hash if forged else GENESIS
        forged.append(rewritten(record, prev=prev.hex(), seq=len(forged) + 1))
    return forged


def found_at(records: list[StoredRecord]) -> int | None:
    """The number at which verification stops."""
    try:
        verify_chain(records)
    except Integrity as error:
        assert error.fields["stream"] == event().stream
        number = error.fields["seq"]
        assert isinstance(number, int)
        return number
    return None


@pytest.mark.parametrize("at", range(6))
def test_every_edited_field_is_found_at_its_record(at: int) -> None:
    records = chain()
    names = json.loads(records[at].canonical)
    for name in names:
        edited = rfc8785.dumps(names | {name: "forged"})
        broken = replace(records[at], canonical=edited)
        assert found_at([*records[:at], broken, *records[at + 1 :]]) == at + 1, name


@pytest.mark.parametrize("at", range(6))
def test_every_flipped_byte_is_found_at_its_record(at: int) -> None:
    records = chain()
    record = records[at]
    for index in range(0, len(record.canonical), 7):
        flipped = bytearray(record.canonical)
        flipped[index] ^= 1
        assert found_at([*records[:at], replace(record, canonical=bytes(flipped)), *records[at + 1 :]]) == at + 1
    for index in range(32):
        wrong = bytearray(record.leaf_hash)
        wrong[index] ^= 1
        assert found_at([*records[:at], replace(record, leaf_hash=bytes(wrong)), *records[at + 1 :]]) == at + 1


@pytest.mark.parametrize("at", range(5))
def test_an_edit_with_a_hash_that_fits_is_found_at_the_next_record(at: int) -> None:
    records = chain()
    records[at] = rewritten(records[at], reason="never happened")
    assert found_at(records) == at + 2


def test_a_rewritten_end_shows_in_the_head() -> None:
    records = chain()
    _, head = verify_chain(records)
    forged = [*records[:3], rewritten(records[3], reason="never happened"), *records[4:]]
    assert verify_chain(reforged(forged, 4))[1] != head


@pytest.mark.parametrize("at", range(5))
def test_a_deleted_record_is_found_where_it_was(at: int) -> None:
    records = chain()
    assert found_at(records[:at] + records[at + 1 :]) == at + 1


@pytest.mark.parametrize("at", range(5))
def test_a_deleted_record_is_found_even_if_the_others_move_up(at: int) -> None:
    records = chain()
    moved = [replace(record, seq=number) for number, record in enumerate(records[:at] + records[at + 1 :], 1)]
    assert found_at(moved) == at + 1


def test_a_truncated_stream_shows_in_its_length() -> None:
    assert verify_chain(chain()[:-1])[0] == 5


@pytest.mark.parametrize("at", range(5))
def test_two_records_in_each_others_place_are_found_at_the_first(at: int) -> None:
    records = chain()
    records[at], records[at + 1] = records[at + 1], records[at]
    assert found_at(records) == at + 1
    renumbered = [replace(record, seq=number) for number, record in enumerate(records, 1)]
    assert found_at(renumbered) == at + 1


@pytest.mark.parametrize("at", range(7))
def test_an_inserted_record_is_found_where_it_is_or_right_behind(at: int) -> None:
    records = chain()
    previous = records[at - 1].leaf_hash if at else GENESIS
    (inserted,) = chained([event(99)], at + 1, previous, NOW)
    found = found_at([*records[:at], inserted, *records[at:]])
    assert found == (at + 2 if at < 6 else None), "at the end it is no forgery but an append"


@pytest.mark.parametrize("at", range(6))
def test_a_record_that_is_there_twice_is_found(at: int) -> None:
    records = chain()
    assert found_at([*records[: at + 1], *records[at:]]) == at + 2


def test_a_record_of_another_stream_is_found_however_well_it_is_forged() -> None:
    records = chain()
    elsewhere = next(f"dek/tenant-{n}" for n in range(99) if event(subject=f"dek/tenant-{n}").stream != event().stream)
    records += chained([event(7, subject=elsewhere)], 7, records[-1].leaf_hash, NOW)
    assert found_at(records) == 7


@pytest.mark.parametrize("name", ["seq", "event_id", "stream"])
def test_a_row_that_says_something_else_than_its_record_is_found(name: str) -> None:
    records = chain()
    wrong: dict[str, Any] = {"seq": 9, "event_id": "0" * 32, "stream": (event().stream + 1) % STREAMS}
    records[2] = replace(records[2], **{name: wrong[name]})
    assert found_at(records) == 3


_SECOND = json.loads(chain(2)[1].canonical)
NO_RECORDS: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"{",
    "no UTF-8": b'{"reason":"\xff"}',
    "a list": b"[]",
    "a number": b"7",
    "text": b'"record"',
    "null": b"null",
    "an empty object": b"{}",
    "deep nesting": b"[" * 100_000,
    "a number too large": b'{"seq":' + b"9" * 30 + b"}",
    "details out of order": rfc8785.dumps(_SECOND | {"details": {"a": "1", "b": "2"}}).replace(
        b'"a":"1","b":"2"', b'"b":"2","a":"1"'
    ),
    "a detail twice": rfc8785.dumps(_SECOND | {"details": {"a": "1"}}).replace(b'"a":"1"', b'"a":"1","a":"1"'),
    "a field too many": rfc8785.dumps(_SECOND | {"zeal": "much"}),
    "not canonical": json.dumps(_SECOND).encode(),
}


@pytest.mark.parametrize("canonical", NO_RECORDS.values(), ids=list(NO_RECORDS))
def test_what_is_no_canonical_record_breaks_the_chain_even_with_a_hash_that_fits(canonical: bytes) -> None:
    records = chain(3)
    records[1] = replace(records[1], canonical=canonical, leaf_hash=leaf_hash(canonical))
    assert found_at(records) == 2


BLANKS = (b"", b" ", b"\t", b"\r", b"\n", b"\r\n", b"\n\n", b"\0", b"\xef\xbb\xbf", b"\xff", b",", b"null", b"{}")


def spoilt(line: bytes) -> st.SearchStrategy[bytes]:
    """A record's line with something in it, something else in place of a byte, cut off, or there twice."""
    places = st.integers(0, len(line))
    junk = st.sampled_from([*BLANKS, line, b"\n" + line, line[:100], b'"', b"0"])
    return st.one_of(
        st.builds(lambda at, what: line[:at] + what + line[at:], st.sampled_from([0, len(line)]) | places, junk),
        st.builds(lambda at, what: line[:at] + what + line[at + 1 :], places, junk),
        st.builds(lambda at: line[:at], places),
        junk,
    )


LINES = [record.canonical for record in chain(3)]


@given(st.lists(st.sampled_from(LINES) | st.sampled_from(LINES).flatmap(spoilt), max_size=6))
def test_lines_that_are_read_together_say_what_each_says_alone(lines: list[bytes]) -> None:
    assert all_parsed(lines) == [parsed(line) for line in lines]


@pytest.mark.parametrize("junk", BLANKS[1:])
def test_no_junk_between_records_passes_because_they_are_read_together(junk: bytes) -> None:
    first, second, third = LINES
    for lines in (
        [first + junk, second, third],
        [junk + first, second, third],
        [first, junk, second],
        [first + b"\n" + second, third],
        [first + b"\n" + second[:9], second[9:], third],
        [first[:9], first[9:] + b"\n" + second, third],
        [first, second, third, b""],
    ):
        assert all_parsed(lines) == [parsed(line) for line in lines]
        assert None in all_parsed(lines)
    assert None not in all_parsed(LINES)


def test_consecutive_records_name_each_other() -> None:
    for before, after in pairwise(chain()):
        assert json.loads(after.canonical)["prev"] == before.leaf_hash.hex()


# What a record refuses to hold

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJlc2lnbmF0dXJl"
WRONG: dict[str, dict[str, Any]] = {
    "an action without a verb": {"action": "rotate"},
    "an action in capitals": {"action": "DEK.ROTATE"},
    "a subject without a kind": {"subject": "acme"},
    "a subject with a blank": {"subject": "dek/acme corp"},
    "an actor with a line break": {"actor": "alice\n"},
    "an empty actor": {"actor": ""},
    "an actor that is a token": {"actor": JWT},
    "an actor that is a URL with a password": {"actor": "https://user:hunter2@host"},
    "a trigger with a digit": {"trigger": "moon7"},
    "a job with a blank": {"job": "dek.rotate acme"},
    "a job too long": {"job": "x" * 201},
    "a job with a password": {"job": "password:hunter2hunter2"},
    "a detail nobody knows": {"details": {"password": "hunter2"}},
    "a detail with the name of a field": {"details": {"reason": "fine"}},
    "a detail that hides a wrong field": {"actor": "not allowed!", "details": {"actor": "allowed"}},
    "a key id of no vault": {"details": {"kid": "master-kek/1"}},
    "a key id with a user": {"details": {"kid": "https://u:p@vault/keys/k/0a"}},
    "an error that is a sentence": {"details": {"error": "it failed"}},
    "versions that are words": {"details": {"versions": "one-two"}},
}


@pytest.mark.parametrize("changes", WRONG.values(), ids=list(WRONG))
def test_a_typed_field_has_no_room_for_anything_else(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="audit") as caught:
        event(**changes)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("version", [-1, 2**53, 2**64])
@pytest.mark.parametrize("name", ["old_version", "new_version"])
def test_no_version_is_recorded_that_nobody_could_read(name: str, version: int) -> None:
    with pytest.raises(ValueError, match="version"):
        event(**{name: version})
    (stored,) = chained([event(**{name: 2**53 - 1})], 1, GENESIS, NOW)
    assert parsed(stored.canonical) is not None


def test_a_secret_in_the_reason_is_masked_before_it_is_hashed() -> None:
    (record,) = chained([event(reason=f"token {JWT} and password=hunter2hunter2")], 1, GENESIS, NOW)
    assert b"hunter2" not in record.canonical
    assert b"eyJ" not in record.canonical
    assert verify_chain([record])[0] == 1


def test_a_long_reason_is_cut() -> None:
    (record,) = chained([event(reason="x" * 5000)], 1, GENESIS, NOW)
    assert json.loads(record.canonical)["reason"] == "x" * 200
