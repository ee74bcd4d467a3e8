"""The streams up to some point, in few bytes: carried on from there they are what they were, and nothing else fits."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotation.audit import GENESIS, STREAMS, AuditEvent, Outcome, chained
from rotation.merkle import leaf_hash, root_of
from rotation.streams import StreamState, copied, extend, from_texts, heads_of, no_records, to_texts
from shared.errors import Integrity
from shared.values import StoredRecord
from tests.pure.keyrings import NOW

TENANTS = st.lists(st.sampled_from([f"tenant-{number}" for number in range(12)]), max_size=40)


def records(tenants: Sequence[str]) -> list[StoredRecord]:
    """The records of one event after the other, each in the stream of its tenant."""
    written: dict[int, list[StoredRecord]] = {}
    every = []
    for number, tenant in enumerate(tenants):
        event = AuditEvent(
            f"dek.rotate/{tenant}/v{number}", Outcome.SUCCEEDED, "dek.rotate", f"dek/{tenant}", "a", "schedule", "due"
        )
        stream = written.setdefault(event.stream, [])
        previous = stream[-1].leaf_hash if stream else GENESIS
        stream += chained([event], len(stream) + 1, previous, NOW)
        every.append(stream[-1])
    return every


@given(TENANTS, st.integers(0, 40))
def test_streams_that_were_written_down_and_read_again_go_on_as_the_same(tenants: list[str], handed_over: int) -> None:
    whole, carried = no_records(), no_records()
    for number, record in enumerate(records(tenants)):
        if number == handed_over:
            carried = from_texts(to_texts(carried))
        for streams in (whole, carried):
            extend(streams, record.stream, record.canonical)
    assert to_texts(whole) == to_texts(carried)
    assert heads_of(whole) == heads_of(carried)


@given(TENANTS)
def test_the_head_of_a_stream_is_the_root_over_its_records(tenants: list[str]) -> None:
    streams = no_records()
    leaves: list[list[bytes]] = [[] for _ in range(STREAMS)]
    for record in records(tenants):
        said = extend(streams, record.stream, record.canonical)
        leaves[record.stream].append(leaf_hash(record.canonical))
        assert (said.stream, said.seq) == (record.stream, record.seq)
    for stream, head in heads_of(streams).items():
        assert (head.size, head.root) == (len(leaves[stream]), root_of(leaves[stream]))


def test_a_copy_goes_its_own_way() -> None:
    first, second, third = records(["acme"] * 3)
    streams = no_records()
    extend(streams, first.stream, first.canonical)
    extend(streams, second.stream, second.canonical)
    before = to_texts(streams)
    extend(copied(streams), third.stream, third.canonical)
    assert to_texts(streams) == before


def test_a_state_stays_small() -> None:
    state = StreamState()
    for number in range(5000):
        state.add(str(number).encode())
    assert len(state.to_text()) < 1000


def test_what_does_not_continue_a_stream_is_refused_and_changes_nothing() -> None:
    first, second, third = records(["acme"] * 3)
    streams = no_records()
    extend(streams, first.stream, first.canonical)
    before = to_texts(streams)
    other = (first.stream + 1) % STREAMS
    wrong = [
        (first.stream, first.canonical),
        (first.stream, third.canonical),
        (other, second.canonical),
        (first.stream, second.canonical + b" "),
        (first.stream, second.canonical.replace(b'"due"', b'"do"').replace(b"v1", b"v7")),
        (first.stream, second.canonical.replace(b"atp-audit/1", b"atp-audit/2")),
        (first.stream, second.canonical.replace(first.leaf_hash.hex().encode(), bytes(32).hex().encode())),
        (first.stream, b"{}"),
        (first.stream, b""),
    ]
    for stream, canonical in wrong:
        with pytest.raises(Integrity, match="does not continue"):
            extend(streams, stream, canonical)
    assert to_texts(streams) == before
    extend(streams, second.stream, second.canonical)


HASH = "ab" * 32


@pytest.mark.parametrize(
    "text",
    [
        *("x", "/", "0", "0/", f"/{HASH}", f"-1/{HASH}", f"1/{HASH}", f"1.{HASH[2:]}/{HASH}"),
        *(f"0/{HASH[:-2]}", f"0/{HASH}zz", f"0/{HASH}/", f"0/{HASH}/{HASH}", f"0/{HASH} ", f"0/ab {HASH[2:]}"),
        *(f"0/{HASH.upper()}", f"00/{HASH}", f"01.{HASH}/{HASH}", f"+1.{HASH}/{HASH}", f" 1.{HASH}/{HASH}"),
        *(f"\u0661.{HASH}/{HASH}", f"1_6.{HASH}/{HASH}", f"1.{HASH.upper()}/{HASH}", f"1.{HASH}./{HASH}"),
    ],
)
def test_a_state_that_no_stream_has_is_refused(text: str) -> None:
    with pytest.raises(Integrity):
        StreamState.from_text(text)


def test_every_stream_must_be_there() -> None:
    texts = to_texts(no_records())
    assert to_texts(from_texts(list(texts.values()))) == texts
    for wrong in ({}, {**texts, STREAMS: ""}, {stream: texts[stream] for stream in range(1, STREAMS)}):
        with pytest.raises(Integrity):
            from_texts(wrong)
    with pytest.raises(Integrity):
        from_texts([""] * (STREAMS - 1))


def test_a_changed_record_changes_the_head() -> None:
    first, second = records(["acme"] * 2)
    whole, changed = StreamState(), StreamState()
    for record in (first, second):
        whole.add(record.canonical)
        changed.add(replace(record, canonical=record.canonical.replace(b"due", b"duo")).canonical)
    assert whole.head() != changed.head()
