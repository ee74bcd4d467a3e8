"""Known values: not one leaks, in any of 2,000 and more cases; many are kept, and none is in the way of the others."""

import base64
import html
import json
import random
import re
import tracemalloc
from collections.abc import Callable, Iterator
from urllib.parse import quote, quote_plus
from xml.sax import saxutils

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.redact import MASK_KNOWN, KnownSecrets, known
from shared.redact.known import unescaped
from tests.conftest import Tally

SIZES = (8, 9, 11, 13, 16, 24, 32, 33, 48, 64, 100, 300)
_DRAW = random.Random(11)


def around(value: bytes) -> bytes:
    before = _DRAW.randbytes(_DRAW.randrange(12))
    while re.search(rb"(?:%[0-9A-Fa-f]?|\\+[0-9A-Za-z]*)\Z", before):  # an escape that the value would go on with
        before = _DRAW.randbytes(_DRAW.randrange(12))
    return before + value + _DRAW.randbytes(_DRAW.randrange(12))


WRITTEN: dict[str, Callable[[bytes], str]] = {
    "hex": bytes.hex,
    "HEX": lambda value: value.hex().upper(),
    "hex in longer hex": lambda value: around(value).hex(),
    "hex behind a digit": lambda value: f"a{value.hex()}",
    "hex with colons": lambda value: value.hex(":"),
    "hex with blanks in longer hex": lambda value: around(value).hex(" "),
    "HEX with dashes": lambda value: value.hex("-").upper(),
    "hex as in C": lambda value: ", ".join(f"0x{byte:02x}" for byte in value),
    "hex over lines": lambda value: in_lines(around(value).hex(), 10, "\n    "),
    "hex with colons over lines": lambda value: in_lines(value.hex(":"), 9, "\n    "),
    "base64": lambda value: base64.b64encode(value).decode(),
    "base64 without padding": lambda value: base64.b64encode(value).decode().rstrip("="),
    "base64, URL-safe": lambda value: base64.urlsafe_b64encode(value).decode(),
    "base64 in a URL": lambda value: quote(base64.b64encode(value).decode(), safe=""),
    "base64 in longer base64": lambda value: base64.b64encode(around(value)).decode(),
    "base64 in longer URL-safe base64": lambda value: base64.urlsafe_b64encode(around(value)).decode(),
    "base64 over lines": lambda value: in_lines(base64.b64encode(around(value)).decode(), 8, "\n"),
    "base64 over lines of Windows": lambda value: in_lines(base64.b64encode(value).decode(), 8, "\r\n"),
    "base64 over lines, escaped": lambda value: in_lines(base64.urlsafe_b64encode(value).decode(), 8, "\\n"),
    "base64 over indented lines": lambda value: in_lines(base64.b64encode(around(value)).decode(), 9, "\n    "),
    "base64 of MIME": lambda value: base64.encodebytes(bytes(50) + around(value)).decode(),
    "base64 behind other characters": lambda value: f"/keys/x{base64.b64encode(value).decode()}",
    "percent": lambda value: quote(value, safe=""),
    "percent, twice": lambda value: quote(quote(value, safe=""), safe=""),
    "form": quote_plus,
    "every byte in percent": lambda value: "".join(f"%{byte:02x}" for byte in value),
    "repr": repr,
    "repr of something longer": lambda value: repr(around(value)),
    "repr with both quotes": lambda value: repr(b"'\"" + value + b"\"'"),
    "every byte escaped": lambda value: "".join(f"\\x{byte:02X}" for byte in value),
    "octal": lambda value: "".join(f"\\{byte:03o}" for byte in value),
    "JSON of Latin-1": lambda value: json.dumps(value.decode("latin-1")),
    "JSON of Latin-1, in UTF-8": lambda value: json.dumps(value.decode("latin-1"), ensure_ascii=False),
    "repr of Latin-1": lambda value: repr(value.decode("latin-1")),
    "Latin-1 in a longer text": lambda value: json.dumps(f"a {around(value).decode('latin-1')} \u20ac"),
    "list": lambda value: str(list(value)),
    "compact list": lambda value: json.dumps(list(value), separators=(",", ":")),
    "list over lines": lambda value: json.dumps(list(value), indent=2),
    "list in a longer one": lambda value: str([1, 2, 300, *around(value), 4]),
}
WRAPPED: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in a sentence": lambda text: f"the key {text} is wrong: ä",
    "in JSON": lambda text: json.dumps({"event": f"got {text}", "a": [1, 2]}),
    "in JSON in JSON": lambda text: json.dumps({"event": json.dumps({"value": text, "a": 1})}),
    "in a repr in JSON": lambda text: json.dumps(repr({"value": text})),
}


def in_lines(text: str, width: int, line_break: str) -> str:
    """The text, broken after so many characters."""
    return line_break.join(text[at : at + width] for at in range(0, len(text), width))


def traces(value: bytes) -> list[str]:
    """Parts of a value, in what a reader would try first."""
    middle = value[len(value) // 4 : len(value) // 4 * 3 + 2]
    return [middle.hex(), middle.hex().upper(), str(list(middle))[1:-1], base64.b64encode(value).decode()[4:-4]]


def test_of_more_than_2_000_encoded_values_none_leaks(tally: Tally) -> None:
    cases = leaks = 0
    for size in SIZES:
        for _ in range(3):
            value = _DRAW.randbytes(size)
            secrets = KnownSecrets()
            secrets.add(value)
            for write in WRITTEN.values():
                written = write(value)
                for wrap in WRAPPED.values():
                    shown = secrets.mask(wrap(written))
                    cases += 1
                    leaks += MASK_KNOWN not in shown or any(trace in shown for trace in traces(value))
    tally.count("encoded values that are known, none leaked", cases)
    assert cases > 2_000
    assert leaks == 0


MARKUP: dict[str, Callable[[str], str]] = {
    "XML": saxutils.escape,
    "an attribute of XML": saxutils.quoteattr,
    "an attribute of XML, apostrophes too": lambda text: saxutils.escape(text, {"'": "&apos;", '"': "&quot;"}),
    "HTML": html.escape,
    "SQL": lambda text: text.replace("'", "''"),
    "CSV": lambda text: text.replace('"', '""'),
}


@pytest.mark.parametrize("name", MARKUP)
@pytest.mark.parametrize("wrap", WRAPPED)
@pytest.mark.parametrize(
    "text", ["Zx9&kP<2Lq7!vB4t", "it's 'so' &amp; 7>3", "pä<ß>wörd&7", 'a"b"c"d<1%&', "n&\\n'2\"x>y"]
)
def test_a_text_is_found_as_markup_and_quotes_have_it(name: str, wrap: str, text: str) -> None:
    secrets = KnownSecrets()
    secrets.add(text.encode())
    written = MARKUP[name](text)
    shown = secrets.mask(WRAPPED[wrap](written))
    assert MASK_KNOWN in shown
    assert written[1:-1] not in shown


@given(value=st.binary(min_size=8, max_size=60).filter(lambda value: len(set(value)) > 3))
@pytest.mark.parametrize("name", WRITTEN)
def test_a_value_is_found_in_every_encoding_whatever_its_bytes_are(name: str, value: bytes) -> None:
    secrets = KnownSecrets()
    secrets.add(value)
    for wrap in WRAPPED.values():
        assert MASK_KNOWN in secrets.mask(wrap(WRITTEN[name](value)))


@given(value=st.binary(min_size=16, max_size=40).filter(lambda value: len(set(value)) > 8), at=st.integers(0, 5))
def test_only_the_value_is_masked_and_not_what_is_encoded_beside_it(value: bytes, at: int) -> None:
    secrets = KnownSecrets()
    secrets.add(value)
    front, back = bytes(range(200, 200 + at)), b"what comes behind it"
    assert secrets.mask(f"0f{value.hex()}") == f"0f{MASK_KNOWN}"
    text = json.dumps({"a": f'"{value.hex()}"', "b": "ä\\n"})
    assert secrets.mask(text) == text.replace(value.hex(), MASK_KNOWN)
    shown = secrets.mask(base64.b64encode(front + value + back).decode())
    before, _, behind = shown.partition(MASK_KNOWN)
    # A character that holds bits of both is masked: at most one on either side.
    assert len(before) == at * 8 // 6
    assert base64.b64encode(front).decode().startswith(before[: at // 3 * 4])
    assert base64.b64encode(front + value + back).decode().endswith(behind)
    assert len(behind) >= len(back) * 4 // 3 - 1


def test_hex_with_something_between_its_digits_and_broken_base64_are_masked_to_their_last_character() -> None:
    value = bytes(range(100, 164))
    secrets = KnownSecrets()
    secrets.add(value)
    groups = [value.hex(" ", size) for size in (1, 2, 4, 8)] + [value.hex("-", 2), value.hex("_"), value.hex(".")]
    lines = [in_lines(base64.b64encode(value).decode(), width, "\r\n") for width in (20, 64, 76)]
    for written in (*groups, *lines):
        assert secrets.mask(f"at 12:30:05, {written}\nbehind") == f"at 12:30:05, {MASK_KNOWN}\nbehind"


def test_one_of_many_values_is_found_in_a_long_text_in_its_place() -> None:
    draw = random.Random(5)
    secrets = KnownSecrets()
    values = [draw.randbytes(32) for _ in range(5_000)]
    for value in values:
        secrets.add(value)
    filler = base64.b64encode(draw.randbytes(60_000)).decode() + ' {"a": "\\n"} '
    text = f"{filler}{values[17].hex()}{filler}|{values[4_000]!r}|{filler}"
    shown = secrets.mask(text)
    assert (
        shown == f"{filler}{MASK_KNOWN}{filler}|b{repr(values[4_000])[1]}{MASK_KNOWN}{repr(values[4_000])[1]}|{filler}"
    )


@pytest.mark.parametrize("name", WRITTEN)
def test_a_value_is_masked_wherever_it_stands_in_a_long_text(name: str) -> None:
    """Where the text is cut to look for it, too."""
    value = b"\x00\xffTiefe \xe2\x82\xacWasser"
    secrets = KnownSecrets()
    secrets.add(value)
    written = WRITTEN[name](value)
    rest = "it is so; " * 4_000
    for cut in (known._BLOCK, known._BLOCK // 2, known._BLOCK // 4):
        for at in range(cut - 300, cut + 60, 67):
            masked = secrets.mask(f"{rest[:at]} {written} {rest[at:]}")
            assert masked.startswith(rest[: at - 8]), (name, at)
            assert masked.endswith(rest[at + 8 :]), (name, at)
            assert len(masked) < len(rest) + 2 * len(written), (name, at)
            assert written not in masked, (name, at)


@pytest.mark.parametrize("piece", ["\\n4a:", "4a ", "%4a", "65,66,", "QUJD\n", "a b c "])
@pytest.mark.parametrize("distance", [2_000, 8_000, 30_000])
def test_values_far_from_each_other_are_not_located_in_all_of_a_long_text(
    piece: str, distance: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That takes ten times as long as to know that they are there."""
    value = b"correct-horse-battery"
    secrets = KnownSecrets()
    secrets.add(value)
    located: list[int] = []
    spans = KnownSecrets._spans

    def noted(self: KnownSecrets, raw: bytes) -> Iterator[tuple[int, int]]:
        located.append(len(raw))
        return spans(self, raw)

    monkeypatch.setattr(KnownSecrets, "_spans", noted)
    text = (piece * (distance // len(piece)) + f" {value.decode()} ") * (500_000 // distance)
    assert value.decode() not in secrets.mask(text)
    assert sum(located) < 3 * known._BLOCK


def test_100_000_values_are_kept_in_less_than_60_mb_and_the_newest_stay() -> None:
    draw = random.Random(3)
    secrets = KnownSecrets()
    first, last = draw.randbytes(32), draw.randbytes(32)
    secrets.add(first)
    tracemalloc.start()
    for _ in range(99_999):
        secrets.add(draw.randbytes(32))
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 60 * 2**20
    assert secrets.mask(first.hex()) == MASK_KNOWN
    secrets.add(last)
    assert secrets.mask(first.hex()) == first.hex()
    assert secrets.mask(last.hex()) == MASK_KNOWN
    assert len(secrets) == 100_000


def test_what_was_clean_before_a_value_was_known_is_masked_afterwards() -> None:
    secrets = KnownSecrets()
    value = bytes(range(100, 132))
    secrets.add(b"something else altogether")
    assert secrets.mask(value.hex()) == value.hex()
    secrets.add(value)
    assert secrets.mask(value.hex()) == MASK_KNOWN


def test_nothing_is_left_of_values_that_were_forgotten() -> None:
    draw = random.Random(2)
    secrets = KnownSecrets(capacity=3)
    for size in (8, 9, 20, 32, 64) * 20:
        secrets.add(b" %\\" + draw.randbytes(size))
    assert len(secrets) == 3
    kept = {form for forms in secrets._index.values() for form in ([forms] if isinstance(forms, bytes) else forms)}
    assert len(kept) <= 3 * 9


@given(st.text(st.sampled_from('\\"nux041%25fF/a'), max_size=40))
def test_escapes_are_undone_alike_in_the_fast_and_in_the_exact_way(text: str) -> None:
    raw = text.encode()
    assert unescaped(raw) == known._BACKSLASH.undone(known._PERCENT.undone(raw))
