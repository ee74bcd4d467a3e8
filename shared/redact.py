"""Masking of secrets in text that leaves the process.

Two nets, both applied to the final text: the exact values this process has handled, in the encodings in which they
could appear, and the shapes of common credentials for those it has not. Masks are idempotent: a mask is never masked
again. Hashes, ids and versions pass.
"""

import base64
import contextlib
import json
import os
import re
import threading
from collections import deque
from collections.abc import Iterable
from functools import partial
from urllib.parse import quote, quote_plus

MASK_KNOWN = "[REDACTED:known]"
_SAME_IN_JSON = re.compile(r"[ -!#-\[\]-~]*")
_GRAM = 8  # characters by which a known value is looked up; shorter values than this are not secrets


class KnownSecrets:
    """The last `capacity` secret values the process has handled, found in text in any of their encodings.

    Bounded, because a value costs about 2 kB and a worker sees one DEK per tenant. Of its encodings only the
    beginnings are kept; they are made again for the rare text in which one of these is found. Thread-safe.
    """

    def __init__(self, capacity: int = 1_000) -> None:
        self._values_by_gram: dict[str, tuple[bytes, ...]] = {}
        self._order: deque[tuple[bytes, frozenset[str]]] = deque()  # values with what their encodings begin with
        self._seen: set[bytes] = set()
        self._capacity = capacity
        self.renew_lock()

    def renew_lock(self) -> None:
        """For a forked child, which inherits the lock but not the thread that may have held it."""
        self._lock = threading.Lock()

    def add(self, value: bytes, *, for_ever: bool = False) -> None:
        """Mask `value` from now on; `for_ever`: whatever else is added later."""
        if len(value) < _GRAM:
            return
        with self._lock:
            if value in self._seen:
                return
            self._seen.add(value)
            grams = _grams(value)
            for gram in grams:
                self._values_by_gram[gram] = (*self._values_by_gram.get(gram, ()), value)
            if not for_ever:
                self._order.append((value, grams))
            if len(self._order) > self._capacity:
                self._forget(*self._order.popleft())

    def mask(self, text: str) -> str:
        """`text` with every known value replaced, in time linear in its length."""
        values_by_gram = self._values_by_gram
        if not values_by_gram:
            return text
        kept: list[str] = []
        done = at = 0
        end = len(text) - _GRAM
        while at <= end:
            values = values_by_gram.get(text[at : at + _GRAM])
            length = _longest_at(text, at, values) if values else 0
            if length:
                kept += (text[done:at], MASK_KNOWN)
                at = done = at + length
            else:
                at += 1
        return "".join((*kept, text[done:])) if kept else text

    def _forget(self, value: bytes, grams: frozenset[str]) -> None:
        self._seen.discard(value)
        for gram in grams:
            others = tuple(other for other in self._values_by_gram[gram] if other != value)
            if others:
                self._values_by_gram[gram] = others
            else:
                del self._values_by_gram[gram]


def _longest_at(text: str, at: int, values: Iterable[bytes]) -> int:
    """Length of the longest encoding of any of the values that `text` has at that place, 0 if it has none there."""
    return max((len(form) for value in values for form in _encodings(value) if text.startswith(form, at)), default=0)


def _grams(value: bytes) -> frozenset[str]:
    """What the encodings of a value begin with."""
    return frozenset(form[:_GRAM] for form in _encodings(value))


def _encodings(value: bytes) -> frozenset[str]:
    """Every text in which `value` could appear: hex, base64 at any alignment, repr, list of numbers, UTF-8, JSON."""
    both_quotes = b"'\""  # with both of them in it, a repr escapes the single ones
    numbers = str(list(value))[1:-1]
    forms = {value.hex(), value.hex().upper(), repr(value)[2:-1], numbers, numbers.replace(" ", "")}
    forms.add(repr(value + both_quotes)[2:-4])
    encoded = [base64.b64encode(value).decode()]
    for alignment in range(3):
        # Inside a longer base64 text the characters shared with its neighbours differ: leave them out.
        shared_in_front = -(-alignment * 8 // 6)
        inner = base64.b64encode(bytes(alignment) + value).decode().rstrip("=")[shared_in_front:]
        encoded.append(inner if (alignment + len(value)) % 3 == 0 else inner[:-1])
    for form in (*encoded, encoded[0].rstrip("=")):
        forms |= {form, form.replace("+", "-").replace("/", "_"), quote(form, safe="")}
    with contextlib.suppress(UnicodeDecodeError):
        text = value.decode()
        forms |= {text, quote(text, safe=""), quote_plus(text)}
        forms |= {repr(text)[1:-1], repr(text + both_quotes.decode())[1:-4]}
    for _ in ("JSON", "JSON inside JSON, as in a log line"):
        changed = [form for form in forms if not _SAME_IN_JSON.fullmatch(form)]
        forms |= {json.dumps(form, ensure_ascii=escaped)[1:-1] for form in changed for escaped in (False, True)}
    return frozenset(form for form in forms if len(form) >= _GRAM)


KNOWN_SECRETS = KnownSecrets()
"""Every secret of this process; `Secret` adds to it."""
os.register_at_fork(after_in_child=KNOWN_SECRETS.renew_lock)

_SHAPES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("private-key", re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.S)),
    ("jwt", re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*")),
    ("bearer", re.compile(r"(?i)(?<=\bbearer )[A-Za-z0-9._~+/=-]{8,}")),
    ("basic", re.compile(r"(?i)(?<=\bbasic )[A-Za-z0-9+/=]{8,}")),
    ("sas", re.compile(r"(?i)(?<=[?&;]sig=)[A-Za-z0-9%+/=]{16,}")),
    ("url-password", re.compile(r"(?<=://)([^\s:/@]+):[^\s:/@]+(?=@)")),
    (
        "credential",
        re.compile(
            r"""(?ix)(?:account_?key|shared_?access_?key|pass(?:word|wd|phrase)|pwd|secret|client_?secret
            |api_?key|access_?token|refresh_?token|private_?key)(?:\\*["'])?\s*[=:]\s*(?:\\*["'])?+(?!\[REDACTED)
            ((?:[^\s"';,&}\\]|\\\\|\\(?!["'])){6,})"""  # a backslash may escape the quote that ends the value
        ),
    ),
)


def mask(text: str) -> str:
    """`text` with known secrets and credential shapes replaced by `[REDACTED:kind]`."""
    text = KNOWN_SECRETS.mask(text)
    for kind, shape in _SHAPES:
        text = shape.sub(partial(_replace, kind), text)
    return text


def _replace(kind: str, match: re.Match[str]) -> str:
    """Keep the name in front of a value (`password=`), replace the value."""
    whole, redacted = match.group(), f"[REDACTED:{kind}]"
    if kind == "credential":
        return whole[: match.start(1) - match.start()] + redacted
    return redacted
