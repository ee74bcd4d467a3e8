"""The lines of an export: written in one way, read back as they were, and nothing else is read."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotation.audit import STREAMS
from rotation.bundle import SCHEMA, Anchor, Signed, anchor_line, checkpoint_line, is_record, line_of, part_in
from shared.errors import Integrity
from shared.values import StoredCheckpoint

NUMBERS = st.integers(0, 2**53 - 1)
TEXT = st.text(st.characters(codec="utf-8"), max_size=50)
ANCHORS = st.builds(
    Anchor,
    schema=st.just(SCHEMA),
    number=NUMBERS,
    note=TEXT,
    streams=st.lists(TEXT, min_size=STREAMS, max_size=STREAMS),
    handovers=st.lists(TEXT, max_size=3),
    since=TEXT,
    until=TEXT,
)
PLAIN = st.builds(Signed, NUMBERS, TEXT)
STAMPED = st.builds(
    lambda number, about, note, token: Signed(number, note, min(about, number - 1), base64.b64encode(token).decode()),
    st.integers(2, 2**53 - 1),
    st.integers(1, 2**53 - 1),
    TEXT,
    st.binary(min_size=1, max_size=50),
)
EMPTY = dict.fromkeys(range(STREAMS), "")


@given(ANCHORS | PLAIN | STAMPED)
def test_a_line_that_was_written_is_read_as_it_was(part: Anchor | Signed) -> None:
    line = line_of(part)
    assert part_in(line) == part
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert not is_record(line)


@pytest.mark.parametrize("part", [Signed(1, "n"), Anchor(SCHEMA, 0, "", [""] * STREAMS, [])])
def test_a_line_without_its_line_feed_is_cut_off(part: Anchor | Signed) -> None:
    with pytest.raises(Integrity, match="cut off"):
        part_in(line_of(part)[:-1])


@pytest.mark.parametrize(
    ("stamped", "token"),
    [
        *((0, "AAAA"), (1, ""), (7, "AAAA"), (8, "AAAA"), (-1, "AAAA"), (2**53, "AAAA")),
        *((1, "A"), (1, "AAAB="), (1, "AB=="), (1, "AA AA"), (1, "AAAA\n"), (1, "junk!"), (1, "\u00e9" * 4)),
    ],
)
def test_a_time_stamp_that_nobody_has_written_so_is_refused(stamped: int, token: str) -> None:
    with pytest.raises(Integrity):
        part_in(line_of(Signed(7, "n", stamped, token)))


def test_the_lines_are_these_bytes_for_ever() -> None:
    assert anchor_line(0, "", EMPTY, []) == (
        b'{"line":"anchor","schema":"atp-audit-bundle/1","number":0,"note":"","streams":['
        + b",".join([b'""'] * STREAMS)
        + b'],"handovers":[],"since":"","until":""}\n'
    )
    stored = StoredCheckpoint(7, "note\n", trees={}, stamped=5, token=b"\x00\xff")
    assert checkpoint_line(stored) == b'{"line":"checkpoint","number":7,"note":"note\\n","stamped":5,"token":"AP8="}\n'


def changed(**changes: Any) -> bytes:
    """An anchor with other fields."""
    return json.dumps(json.loads(anchor_line(0, "", EMPTY, [])) | changes, separators=(",", ":")).encode() + b"\n"


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"{}\n",
        b"[]\n",
        b"null\n",
        b"\xff\n",
        b"[" * 5000,
        b'{"line":"record"}\n',
        b'{"line":"checkpoint","number":"7","note":""}\n',
        b'{"line":"checkpoint","number":7}\n',
        changed(schema="atp-audit-bundle/2"),
        changed(streams=[""] * (STREAMS - 1)),
        changed(streams=[""] * (STREAMS + 1)),
        changed(streams=[1] * STREAMS),
        changed(more=1),
        changed(line="checkpoint"),
        changed(number=1.5),
        changed(number=True),
        changed(number=-1),
        changed(number=2**53),
        changed(number=10**30),
        changed().replace(b'"number":0', b'"number":' + b"9" * 5000),
    ],
)
def test_a_line_that_is_none_of_ours_is_refused(line: bytes) -> None:
    with pytest.raises(Integrity):
        part_in(line)


@pytest.mark.parametrize(
    "again",
    [
        lambda line: b" " + line,
        lambda line: line.replace(b":", b": ", 1),
        lambda line: line[:-1] + b" \n",
        lambda line: line.replace(b'"note":"n"', b'"note":"\\u006e"'),
        lambda line: line.replace(b'"stamped":0,', b""),
        lambda line: line.replace(b'{"line":"checkpoint","number":1,', b'{"number":1,"line":"checkpoint",'),
        lambda line: line.replace(b'"number":1,', b'"number":2,"number":1,'),
        lambda line: line.replace(b'"number":1', b'"number":1.0'),
        lambda line: line[:-1] + b"\r\n",
    ],
)
def test_the_same_said_in_another_way_is_refused(again: Any) -> None:
    line = line_of(Signed(1, "n"))
    assert again(line) != line
    with pytest.raises(Integrity):
        part_in(again(line))


@given(st.binary(max_size=100))
def test_any_bytes_are_a_line_or_refused(line: bytes) -> None:
    with pytest.raises(Integrity):
        part_in(line)


def test_a_token_travels_as_base64() -> None:
    token = bytes(range(256))
    part = part_in(checkpoint_line(StoredCheckpoint(2, "n", trees={}, stamped=1, token=token)))
    assert isinstance(part, Signed)
    assert base64.b64decode(part.token) == token
