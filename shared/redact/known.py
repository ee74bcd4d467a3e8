"""The exact values that this process has handled, found in text in whichever way they are written there.

A value has a few encodings in mind and a text has few places that can be one, so the work starts from the text: it is
read once in every way in which bytes can be written - as it is, with its escapes undone, as Latin-1, as base64 at each
of the four alignments, as hex at both, each of them over several lines, as hex with something between its digits, as a
list of numbers - and what comes out is compared with the values. Of a value four overlapping windows of four bytes are
indexed, at its end; of what was read every fourth position is looked up, all of them by one call into C. So a value is
found wherever it begins, and adding one takes a microsecond.
"""

import html
import json
import re
import sys
import threading
from binascii import a2b_base64, unhexlify
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Final
from urllib.parse import quote

SHORTEST: Final = 8
"""Bytes; what is shorter is not masked as a known value, because it would be found where it is not meant."""
_WINDOW: Final = 4
_INDEXED: Final = 2 * _WINDOW - 1  # bytes at the end of a value: of their four windows one is at any fourth position
_WORD: Final = 2**32 - 1
_LEAST_BASE64: Final = 11  # characters that hold eight bytes
_LEAST_HEX: Final = 16
_LEAST_NUMBERS: Final = 8
_MAX_CLEAN: Final = 4_096
_LONG: Final = 2_048
_BLOCK: Final = 32_768
_PIECE: Final = 2_048
_OVERLAP: Final = 4_096
_MOST: Final = 500  # values in one text; one with more is masked as a whole
_NEW_LINE, _PERCENT_SIGN, _BACKSLASH_SIGN = b"\n%\\"  # as numbers: looked for five times as fast as bytes
_WIDEST: Final = 16  # characters for one byte: escaped, and its escape escaped twice
_CODEC: Final = ("utf-8", "surrogatepass")  # half characters, too, can be logged


def _table(kept: bytes, changed: dict[bytes, bytes], other: bytes) -> bytes:
    """For `bytes.translate`: what is kept, what becomes something else, what all the rest becomes."""
    table = bytearray(other * 256)
    for byte in kept:
        table[byte] = byte
    for before, after in changed.items():
        table[ord(before)] = ord(after)
    return bytes(table)


_ALPHANUMERIC: Final = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_TO_BASE64: Final = _table(_ALPHANUMERIC + b"+/", {b"-": b"+", b"_": b"/"}, b" ")  # RFC 4648, sections 4 and 5 alike
_TO_HEX: Final = _table(b"0123456789abcdefABCDEF", {}, b" ")
_TO_LINES: Final = _table(_ALPHANUMERIC + b"+/\n", {b"-": b"+", b"_": b"/"}, b" ")
_DIGITS: Final = b"0123456789abcdefABCDEF"
_BETWEEN_DIGITS: Final = b" \t\r\n:,.-_"  # and 0x, in front of each byte
_TO_SEPARATORS: Final = _table(b"", {bytes([each]): b":" for each in (*_BETWEEN_DIGITS, *b"xX")}, b".")
_SEPARATED: Final = b":" * 7
"""What is left, without digits, of hex with something between eight bytes, or groups of bytes."""
_TO_NUMBERS: Final = _table(b",", {str(digit).encode(): b"0" for digit in range(10)}, b".")
_BASE64: Final = re.compile(rb"[0-9A-Za-z+/_-]{11,}")
_DENSE: Final = re.compile(rb"[0-9A-Za-z+/_-]+")
_HEX: Final = re.compile(rb"[0-9A-Fa-f]{16,}")
_SPACED_HEX: Final = re.compile(rb"[0-9A-Fa-f](?:(?:[ \t\r\n:,._-]|0[xX])*+[0-9A-Fa-f])*+")
_0X: Final = re.compile(rb"0[xX]")
_NUMBER: Final = rb"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_NUMBERS: Final = re.compile(rb"(?<!\d)" + _NUMBER + rb"(?:\s{0,9},\s{0,9}" + _NUMBER + rb"(?!\d)){7,}")
_UTF8: Final = re.compile(
    rb"(?:[\x00-\x7f]|[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3})*+"
)
_MARKED: Final = re.compile(rb"""[&<>"']""")
"""What is written in another way in markup or between quotes. Only of text: random bytes would often have one."""
_ESCAPABLE: Final = b"nrtbfvaxuU01234567\"'/"
_CUT_ESCAPE: Final = re.compile(rb"(?:\\+(?:[xuU][0-9a-fA-F]*)?|%(?:25)*[0-9a-fA-F]?)\Z")


class _Escapes(dict[bytes, bytes]):
    """What escapes stand for; remembers those it was asked for."""

    _MOST = 8_192

    def __init__(self, pattern: bytes) -> None:
        super().__init__()
        self.pattern = re.compile(pattern)

    def __missing__(self, escape: bytes) -> bytes:
        meant = self._meant(escape)
        if len(self) < self._MOST and len(escape) < 16:
            self[escape] = meant
        return meant

    def undone(self, raw: bytes) -> bytes:
        """`raw` with all of them undone."""
        pieces = self.pattern.split(raw)
        if len(pieces) == 1:
            return raw
        pieces[1::2] = map(self.__getitem__, pieces[1::2])
        return b"".join(pieces)

    def places(self, raw: bytes) -> "_Places":
        """Where in `raw` each byte of `undone(raw)` comes from."""
        before = self.pattern.split(raw)
        after = list(before)
        after[1::2] = map(self.__getitem__, before[1::2])
        return _Places([*accumulate(map(len, before), initial=0)], [*accumulate(map(len, after), initial=0)])

    @staticmethod
    def _meant(escape: bytes) -> bytes:
        if escape[0] > 0x7F:
            return escape.decode().encode("latin-1")
        if escape[:1] == b"%":
            return bytes.fromhex(escape[-2:].decode())
        said = escape.lstrip(b"\\")
        match said[:1]:
            case b"":
                return b""
            case b"x":
                return bytes.fromhex(said[1:].decode())
            case b"U":
                code = int(said[1:], 16)
                return chr(code).encode(*_CODEC) if code <= sys.maxunicode else said
            case b"u":
                units = bytes.fromhex(said.replace(b"\\", b"").replace(b"u", b"").decode())
                return units.decode("utf-16-be", "surrogatepass").encode(*_CODEC)
            case digit if digit.isdigit():
                return bytes([int(said, 8) & 0xFF])
            case _:
                return said.translate(_CONTROL)


_CONTROL: Final = bytes.maketrans(b"nrtbfva", b"\n\r\t\b\f\v\a")
_PERCENT: Final = _Escapes(rb"(%(?:25)*[0-9A-Fa-f]{2})")
"""Percent encoding, of percent encoding as well."""
_BACKSLASH: Final = _Escapes(
    rb"(\\+(?:u[dD][89abAB][0-9a-fA-F]{2}\\+u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}"
    rb"""|x[0-9a-fA-F]{2}|[0-7]{1,3}|[nrtbfva"'/])?)"""
)
"""Escapes of JSON, repr and C, however often they were escaped again: any number of backslashes counts as one, and a
backslash that escapes nothing as none. The values are read in the same way, so that the two still meet."""
_LATIN: Final = _Escapes(rb"([\xc2\xc3][\x80-\xbf])")
"""Characters that are a byte each: what becomes of bytes that somebody has decoded as Latin-1."""
_NO_BYTE: Final = re.compile("[^\x00-\xff\udc80-\udcff]")


class _Places:
    """From places in an unescaped text back to those in the text before; pieces are literal and escape in turn."""

    def __init__(self, before: list[int], after: list[int]) -> None:
        self._before = before
        self._after = after

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The smallest span that all of `start` to `end` comes from."""
        first, last = bisect_right(self._after, start) - 1, bisect_right(self._after, end - 1) - 1
        begin = self._before[first] + (0 if first % 2 else start - self._after[first])
        if last % 2:
            return begin, self._before[last + 1]
        return begin, self._before[last] + end - self._after[last]


def unescaped(raw: bytes) -> bytes:
    """`raw` with percent encoding and backslash escapes undone."""
    if b"%" in raw:
        raw = _PERCENT.undone(raw)
    if b"\\" in raw:
        # The same in C for the two that texts are full of; what backslashes may be left in front of them means nothing.
        raw = raw.replace(b'\\"', b'"').replace(b"\\n", b"\n")
    return _BACKSLASH.undone(raw) if b"\\" in raw else raw


def _as_latin(raw: bytes) -> bytes:
    """`_LATIN.undone(raw)`, in C, but for the characters that are no byte."""
    text = raw.decode("utf-8", "surrogateescape")
    try:
        return text.encode("latin-1", "surrogateescape")
    except UnicodeEncodeError:
        return _NO_BYTE.sub("?", text).encode("latin-1", "surrogateescape")


class KnownSecrets:
    """The last `capacity` secret values the process has handled; `for_ever` ones do not count.

    Bounded, because a worker sees one DEK for each tenant: a value takes some 450 bytes. Thread-safe.
    """

    def __init__(self, capacity: int = 100_000) -> None:
        self._index: dict[int, bytes | list[bytes]] = {}
        self._order: deque[bytes] = deque()
        self._seen: set[bytes] = set()
        self._clean: set[bytes] = set()  # dense runs of earlier texts, with no value in them
        self._any_text = False  # whether a value, or a form of one, can stand in a text as it is
        self._forgotten = 0  # since the index was last copied
        self._margin = 0  # bytes that the longest value may take up in a text
        self.capacity = capacity
        self.renew_lock()

    def renew_lock(self) -> None:
        """For a forked child, which inherits the lock but not the thread that may have held it."""
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._seen)

    def add(self, value: bytes, *, for_ever: bool = False) -> None:
        """Mask `value` from now on; `for_ever`: whatever else is added later.

        One byte over and over again is no secret: zeros stand in hashes of nothing and in numbers.
        """
        if len(value) < SHORTEST or value in self._seen or value.count(value[:1]) == len(value):
            return
        with self._lock:
            if value in self._seen:
                return
            self._seen.add(value)
            self._margin = max(self._margin, _WIDEST * len(value))
            self._put(value)
            if _may_look_different(value):
                for form in other_forms(value):
                    self._put(form)
            self._clean = set()  # another one, even in the place of an empty one: somebody may just be filling that
            if not for_ever:
                self._order.append(value)
                while len(self._order) > self.capacity:
                    self._forget(self._order.popleft())
                    self._forgotten += 1
                if self._forgotten > self.capacity // 2:
                    # What was removed from a dictionary keeps its room, and would have it doubled.
                    self._index, self._seen, self._forgotten = dict(self._index), set(self._seen), 0

    def values(self) -> Sequence[bytes]:
        """All that are known now."""
        with self._lock:
            return list(self._seen)

    def mask(self, text: str, replacement: str = "[REDACTED:known]") -> str:
        """`text` with every known value replaced, in time linear in its length."""
        spans = self.find(text)
        if not spans:
            return text
        kept: list[str] = []
        done = 0
        for start, end in spans:
            kept += (text[done:start], replacement)
            done = end
        return "".join((*kept, text[done:]))

    def find(self, text: str) -> Sequence[tuple[int, int]]:
        """Where in `text` known values are: spans in order, none touching another."""
        index = self._index
        if not index or len(text) < SHORTEST:
            return ()
        raw = text.encode(*_CODEC)
        size = max(_BLOCK, 2 * self._margin)
        if len(raw) <= size + self._margin:
            spans, _ = self._find(raw)
        else:
            # Block by block, so that a find is located in one of them; what is on a border is whole in the next.
            # With many values, or few that are far from each other, it is masked as a whole: no text keeps us busy.
            found: list[tuple[int, int]] = []
            searched = 0
            for at in range(0, len(raw), size):
                located, octets = self._find(raw[at : at + size + self._margin])
                found += [(at + start, at + end) for start, end in located]
                searched += octets
                if len(found) > _MOST or searched > size:
                    return [(0, len(text))]
            spans = _merged(found)
        return spans if not spans or len(raw) == len(text) else _in_characters(raw, spans)

    def _find(self, raw: bytes) -> tuple[list[tuple[int, int]], int]:
        """Spans of what is in `raw`, and in how many bytes they had to be located."""
        if not self._is_in(raw):
            return [], 0
        half, overlap = len(raw) // 2, max(_PIECE, self._margin)
        spans: list[tuple[int, int]] = []
        searched = 0
        if half >= 2 * overlap:
            # To locate a value takes ten times as long as to know that it is there, so that is done in a small piece.
            for at, piece in ((0, raw[: half + overlap]), (half, raw[half:])):
                located, octets = self._find(piece)
                spans += [(at + start, at + end) for start, end in located]
                searched += octets
        if not spans:
            spans, searched = [*self._spans(raw)], searched + len(raw)
        return _merged(spans), searched

    def _is_in(self, raw: bytes) -> bool:
        """Whether `raw` has a value in any reading."""
        clean = self._clean  # before the index is read: whoever adds a value puts another set in its place afterwards
        index = self._index
        found, runs = _all_readings(raw, clean, as_it_is=self._any_text)
        read = b"".join(found)
        with memoryview(read).cast("I") as words:
            if index.keys().isdisjoint(words):
                if runs:
                    if len(clean) > _MAX_CLEAN:
                        clean.clear()
                    clean.update(runs)
                return False
            candidates = {form for word in index.keys() & words for form in self._forms_at(word)}
        return any(form in read for form in candidates)

    def _put(self, form: bytes) -> None:
        if not self._any_text and (form.isascii() or _UTF8.fullmatch(form)):
            self._any_text = True
        for word in _words(form):
            other = self._index.setdefault(word, form)
            if isinstance(other, list):
                other.append(form)
            elif other is not form:
                self._index[word] = [other, form]

    def _forget(self, value: bytes) -> None:
        self._seen.discard(value)
        forms = other_forms(value) if _may_look_different(value) else ()
        for form in (value, *forms):
            for word in _words(form):
                left = [other for other in self._forms_at(word) if other != form]
                if len(left) > 1:
                    self._index[word] = left
                elif left:
                    self._index[word] = left[0]
                else:
                    self._index.pop(word, None)

    def _forms_at(self, word: int) -> Iterable[bytes]:
        forms = self._index.get(word, ())
        return (forms,) if isinstance(forms, bytes) else tuple(forms)

    def _spans(self, raw: bytes) -> Iterator[tuple[int, int]]:
        """Spans in `raw` of every value in it, in any reading."""
        yield from self._matches(raw)
        yield from self._encoded(raw)
        once = _PERCENT.undone(raw)
        plain = _BACKSLASH.undone(once)
        if plain != raw:
            outer, inner = _PERCENT.places(raw), _BACKSLASH.places(once)
            for span in (*self._matches(plain), *self._encoded(plain)):
                yield outer.span(*inner.span(*span))
        latin = _LATIN.undone(plain)
        if latin != plain:
            outer, inner, innermost = _PERCENT.places(raw), _BACKSLASH.places(once), _LATIN.places(plain)
            for span in self._matches(latin):
                yield outer.span(*inner.span(*innermost.span(*span)))

    def _encoded(self, raw: bytes) -> Iterator[tuple[int, int]]:
        for run in _BASE64.finditer(raw):
            yield from self._in_base64(raw, run.group(), range(*run.span()))
        for run in _HEX.finditer(raw):
            yield from self._in_hex(run.group(), range(*run.span()))
        for places in _over_lines(raw) if b"\n" in raw else ():
            text = bytes(raw[place] for place in places)
            yield from self._in_base64(raw, text, places)
            for run in _HEX.finditer(text):
                yield from self._in_hex(run.group(), places[run.start() : run.end()])
        for run in _SPACED_HEX.finditer(raw) if _is_spaced_hex(raw) else ():
            passed = {place for sign in _0X.finditer(run.group()) for place in range(*sign.span())}
            digits = [at for at, byte in enumerate(run.group()) if byte in _DIGITS and at not in passed]
            if len(digits) >= _LEAST_HEX:
                text = bytes(run.group()[at] for at in digits)
                yield from self._in_hex(text, [run.start() + at for at in digits])
        for run in _NUMBERS.finditer(raw):
            numbers = [*re.finditer(rb"\d+", run.group())]
            for start, end in self._matches(bytes(int(number.group()) for number in numbers)):
                yield run.start() + numbers[start].start(), run.start() + numbers[end - 1].end()

    def _in_base64(self, raw: bytes, text: bytes, places: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Spans in `raw`, from which the characters of `text` are, at those places."""
        text = text.translate(_TO_BASE64)
        for skipped in range(4):
            for start, end in self._matches(_decoded(text, skipped)):
                if end * 8 <= (len(text) - skipped) * 6:
                    # With the characters that it shares with its neighbours, and the padding behind it.
                    behind = places[skipped - (-end * 8 // 6) - 1] + 1
                    behind += len(raw[behind : behind + 2]) - len(raw[behind : behind + 2].lstrip(b"="))
                    yield places[skipped + start * 8 // 6], behind

    def _in_hex(self, text: bytes, places: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Spans in what the digits in `text` are from, at those places."""
        for skipped in range(2):
            for start, end in self._matches(_unhexed(text, skipped)):
                yield places[skipped + 2 * start], places[skipped + 2 * end - 1] + 1

    def _matches(self, read: bytes) -> Iterator[tuple[int, int]]:
        """Spans in `read` of the values that stand in it as they are."""
        index = self._index
        with memoryview(_whole_words(read)).cast("I") as words:
            hits = [(at * _WINDOW, word) for at, word in enumerate(words) if word in index]
        for at, word in hits:
            for form in self._forms_at(word):
                start = read.find(form, max(0, at - len(form)), at + len(form) + _WINDOW)
                if start >= 0:
                    yield start, start + len(form)


def _words(form: bytes) -> tuple[int, int, int, int]:
    """The windows by which a value is found, as the machine reads them from memory."""
    last = int.from_bytes(form[-_INDEXED:], sys.byteorder)
    return last & _WORD, last >> 8 & _WORD, last >> 16 & _WORD, last >> 24


def _may_look_different(value: bytes) -> bool:
    """Whether it can have other forms."""
    escapes = b"\\" in value or b"%" in value or b" " in value or value[:1] in _ESCAPABLE
    if not escapes and value.isascii():
        return _MARKED.search(value) is not None
    return escapes or not (value.isascii() or _UTF8.fullmatch(value) is None)


def other_forms(value: bytes) -> set[bytes]:
    """What a value looks like in a text whose escapes were undone, where that is not the value itself."""
    cut = _CUT_ESCAPE.sub(b"", value)
    forms = {unescaped(cut), unescaped(b"\\" + cut)}  # behind a backslash its first byte is read as what that escapes
    if not value.isascii() and _UTF8.fullmatch(value):
        text = value.decode()
        forms |= {unescaped(said[1:-1].encode()) for said in (repr(text), ascii(text))}
    forms |= {form.replace(b" ", b"+") for form in forms}  # as in a form, application/x-www-form-urlencoded
    if any(len(form) < SHORTEST for form in forms):
        # Too little is left of a short value whose backslashes are gone: as it is written, then.
        said = [repr(value)[2:-1], quote(value, safe=""), quote(quote(value, safe=""), safe="")]
        for _ in range(2):
            said += [json.dumps(form)[1:-1] for form in said]
        forms |= {form.encode() for form in said}
    if _MARKED.search(value) and _UTF8.fullmatch(value):
        forms |= {marked for form in (value, *forms) for marked in _in_markup(form)}
    return {form for form in forms if len(form) >= SHORTEST} - {value}


def _in_markup(form: bytes) -> Iterator[bytes]:
    """A text as it stands in XML or HTML, and between quotes where those are doubled: in SQL, in CSV."""
    text = form.decode("latin-1")
    in_xml = html.escape(text, quote=False)
    for written in (
        in_xml,
        html.escape(text),
        in_xml.replace('"', "&quot;"),
        in_xml.replace('"', "&quot;").replace("'", "&apos;"),
        text.replace("'", "''"),
        text.replace('"', '""'),
    ):
        yield written.encode("latin-1")


def readings(text: str) -> Iterator[bytes]:
    """The text in every way in which bytes can be written in it; each may end in bytes that are no part of it."""
    raw = text.encode(*_CODEC)
    for at in range(0, len(raw), _BLOCK):
        read, _ = _all_readings(raw[at : at + _BLOCK + _OVERLAP], set())
        yield from read


def _all_readings(raw: bytes, clean: set[bytes], *, as_it_is: bool = True) -> tuple[list[bytes], Sequence[bytes]]:
    """Every reading of `raw`, whole words each; and the dense runs that were decoded for it.

    Runs in `clean` are left out, and the text as it is where no value is a text.
    """
    found = [_whole_words(raw)] if as_it_is else []
    dense = raw.translate(_TO_BASE64)
    plain = unescaped(raw) if _BACKSLASH_SIGN in raw or _PERCENT_SIGN in raw else raw
    if plain is not raw:
        found.append(_whole_words(plain))
        dense += b" " + plain.translate(_TO_BASE64)
    if not plain.isascii() and (0xC3 in plain or 0xC2 in plain):
        found.append(_whole_words(_as_latin(plain)))
    # Splitting is faster, but for a text that is all short words.
    candidates = dense.split() if len(raw) < _LONG else _BASE64.findall(dense)
    if _NEW_LINE in plain:
        lines = b"".join(map(bytes.strip, plain.translate(_TO_LINES).split(b"\n")))
        candidates = [*candidates, *set(_BASE64.findall(lines)).difference(candidates)]
    runs = [run for run in candidates if len(run) >= _LEAST_BASE64 and run not in clean]
    if runs:
        text = b"/".join(runs)
        found += [_whole_words(_decoded(text, skipped)) for skipped in range(4)]
        digits = [run for run in text.translate(_TO_HEX).split() if len(run) >= _LEAST_HEX]
        if digits:
            # A pair of digits between two runs, so that both parities are read of each.
            text = b"00".join(digits)
            found += [_whole_words(_unhexed(text, skipped)) for skipped in range(2)]
    if _is_spaced_hex(plain):
        text = b"00".join(_0X.sub(b"", plain).translate(_TO_HEX, _BETWEEN_DIGITS).split())
        found += [_whole_words(_unhexed(text, skipped)) for skipped in range(2)]
    if plain.translate(_TO_NUMBERS, b" \t\r\n").count(b"0,0") >= _LEAST_NUMBERS // 2:
        for run in _NUMBERS.findall(plain):
            found.append(_whole_words(bytes(map(int, run.split(b",")))))
    return found, runs


def _is_spaced_hex(raw: bytes) -> bool:
    """Whether hex with something between its digits can be in it."""
    return raw.translate(_TO_SEPARATORS, _DIGITS).find(_SEPARATED) >= 0


def _over_lines(raw: bytes) -> Iterator[Sequence[int]]:
    """The places of dense runs that go on in the next line, one after the other without what is between them."""
    places: list[int] = []
    runs = 0
    end = 0
    for run in _DENSE.finditer(raw):
        if b"\n" not in raw[end : run.start()]:
            if runs > 1 and len(places) >= _LEAST_BASE64:
                yield places
            places, runs = [], 0
        places.extend(range(*run.span()))
        runs += 1
        end = run.end()
    if runs > 1 and len(places) >= _LEAST_BASE64:
        yield places


def _whole_words(read: bytes) -> bytes:
    return read + bytes(-len(read) % _WINDOW)


def _decoded(text: bytes, skipped: int) -> bytes:
    """Base64 from that character on; bits that are missing at its end are 0."""
    return a2b_base64(text[skipped:] + b"A" * (-(len(text) - skipped) % 4))


def _unhexed(text: bytes, skipped: int) -> bytes:
    return unhexlify(text[skipped : len(text) - (len(text) - skipped) % 2])


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _in_characters(raw: bytes, spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same spans, of the characters that have a byte in them."""
    found: list[tuple[int, int]] = []
    at = characters = 0

    def count(upto: int) -> int:
        nonlocal at, characters
        characters += sum(byte & 0xC0 != 0x80 for byte in raw[at:upto]) if upto > at else 0
        at = max(at, upto)
        return characters

    for start, end in spans:
        begin, stop = start, end
        while begin > at and raw[begin] & 0xC0 == 0x80:
            begin -= 1
        while stop < len(raw) and raw[stop] & 0xC0 == 0x80:
            stop += 1
        found.append((count(begin), count(stop)))
    return found
