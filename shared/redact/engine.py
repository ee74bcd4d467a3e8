"""Finds what has the shape of a credential, in time linear in the text.

Every pattern has a trigger, a short expression that its finds cannot be without. All triggers are looked for at once;
most texts have none, and are done. Patterns run on RE2, and where that is not installed on `re`, with the same finds.
What is assigned to a telling name needs more than an expression: where a value ends depends on how it is quoted.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, Final, NamedTuple

from shared.redact.patterns import AZURE, GENERAL, KEY_OWNERS, NAME_ENDS, NAME_TAILS, VENDORS, Pattern

try:
    import re2
except ImportError:
    re2 = None

MASK: Final = "[REDACTED:"
_MOST_HEADS: Final = 10_000
"""Telling names in one text; what is behind the last of them is masked, for the same reason."""
PRIVATE_KEY: Final = "private-key"
VALUE: Final = "credential"
"""Kinds of what is found by its armour, and by its name."""
MOST: Final = 2_000
"""Secrets in one text; one with more is masked as a whole, so that no text can keep a process busy."""
_HALF: Final = re.compile("[\ud800-\udfff]")
_SHORTEST: Final = 6  # characters of a value without quotes
_SHORTEST_TOKEN: Final = 12
_SAYS_NOTHING: Final = frozenset({"true", "false", "null", "none", "nil", "undefined", "no", "yes", "str", "bytes"})
_LONGEST_NOTHING: Final = 12
_PEM_KEY: Final = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_PEM_END: Final = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_PEM_BODY: Final = re.compile(r"[A-Za-z0-9+/=\s\\:,-]*")
_NAME: Final = re.compile(rf"(?:{NAME_ENDS})(?={NAME_TAILS}[\s\"'`\\:=%&])")
_OWNER: Final = re.compile(rf"{KEY_OWNERS}\Z")
_LONGEST_OWNER: Final = 14
_ENTITY: Final = r"\\+u0022|&quot;"  # a quote, as .NET writes it within JSON and everybody in XML
_ASSIGNMENT: Final = re.compile(
    rf"{NAME_TAILS}(?:\\*[\"'`]|{_ENTITY})?\s{{0,4}}(?::=|=>|==?|:|%3[dD]|\\+u003[dD])(?:\s|\\{{1,9}}[nrt]){{0,6}}"
    rf"(?:[rbfuRBFU]{{0,2}}(\\*[\"'`]|{_ENTITY}))?",
    re.ASCII | re.IGNORECASE,
)
_PAIR: Final = re.compile(
    rf"{NAME_TAILS}\\*[\"']\s{{0,4}}(?:,?\s{{0,9}}(?:\\*[\"'])?value(?:\\*[\"'])?\s{{0,4}}[:=]|(,))\s{{0,9}}(\\*[\"'])",
    re.ASCII | re.IGNORECASE,
)
"""`"name": "password", "value": "x"`, and `("password", "x")`."""
_BEGINS_PAIR: Final = re.compile(r"[(\[]\s{0,4}\\*[\"'][A-Za-z0-9_.-]{0,40}\Z")
_LONGEST_PAIR: Final = 50
_OPTION: Final = re.compile(rf"{NAME_TAILS}\s{{1,4}}(\\*[\"'])?", re.ASCII | re.IGNORECASE)
_LONGEST_OPTION: Final = 60
_ASSIGNED_TRIGGER: Final = rf"(?i)(?:{NAME_ENDS})[a-z_-]{{0,11}}(?:\\*[\"'`]|&quot;)?(?:\s{{0,4}}(?:[=:,]|%3d|\\)|\s)"
_CLOSING: Final = re.compile(r"""\s*(?:\Z|[\])}]*\s*(?:\Z|[,\])}]\s*(?:\\*["'{\[\])}]|\Z)))""")
"""What stands behind a quote that ends a text about a password, and does not begin one."""
_QUOTE: Final = re.compile(r"(?<!\\)(\\*)([\"'`\n])")
_END_OF_BARE: Final = re.compile(r"""[\s"'`,;&}\])>]|(?<!\\)\\+["']""")
_END_IN_CONNECTION_STRING: Final = re.compile(r"""[\r\n"'`;]|(?<!\\)\\+["'nr]""")


class Finding(NamedTuple):
    """A secret in a text, by its place."""

    start: int
    end: int
    kind: str


def compiled(expression: str, *, linear: bool = True) -> Any:  # noqa: ANN401 - one of two libraries' types
    """The expression for RE2, or for `re` where that is not wanted or not there; ValueError if it is none."""
    try:
        if re2 is not None and linear:
            return re2.compile(expression, _options())
        return re.compile(expression, re.ASCII)
    except Exception as error:  # noqa: BLE001 - each library has its own
        raise ValueError(str(error)) from None


def _options() -> Any:  # noqa: ANN401 - of a library without types
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 64 << 20
    return options


class Engine:
    """Patterns, made ready to be looked for. Immutable, so that threads may share it."""

    def __init__(self, extra: Sequence[Pattern] = (), allowed: Sequence[str] = (), *, linear: bool = True) -> None:
        patterns = (*extra, *AZURE, *VENDORS, *GENERAL)
        self._finders: list[Callable[[str], Iterator[Finding]]] = [
            _shaped(pattern, compiled(pattern.shape, linear=linear)) for pattern in patterns
        ]
        self._finders += [_private_keys, _assigned]
        triggers = [*(pattern.trigger for pattern in patterns), "-----BEGIN", _ASSIGNED_TRIGGER]
        self._triggered = _all_triggers(triggers, linear=linear)
        self._allowed = [compiled(expression, linear=linear) for expression in allowed]

    def find(self, text: str) -> Sequence[Finding]:
        """Every secret by its shape, in order; none overlaps another."""
        try:
            triggered = self._triggered(text)
        except UnicodeEncodeError:
            # Half characters, which RE2 does not take: any other character will do in their place.
            text = _HALF.sub("?", text)
            triggered = self._triggered(text)
        if not triggered:
            return ()
        all_found = chain.from_iterable(self._finders[number](text) for number in sorted(triggered))
        found = [*islice(all_found, MOST + 1)]
        return self._chosen(text, found) if len(found) <= MOST else [Finding(0, len(text), "many")]

    def _chosen(self, text: str, found: list[Finding]) -> Sequence[Finding]:
        """Without masks and what is allowed; of those that overlap one, from the first's start to the last's end."""
        chosen: list[Finding] = []
        for finding in sorted(found):
            if text.startswith(MASK, finding.start):
                continue
            if self._allowed and self._is_allowed(text[finding.start : finding.end]):
                continue
            if chosen and finding.start < chosen[-1].end:
                last = chosen[-1]
                kind = finding.kind if last.kind == VALUE else last.kind  # the telling name tells less
                chosen[-1] = Finding(last.start, max(last.end, finding.end), kind)
            else:
                chosen.append(finding)
        return chosen

    def _is_allowed(self, secret: str) -> bool:
        return any(allowed.fullmatch(secret) for allowed in self._allowed)


def _all_triggers(triggers: Sequence[str], *, linear: bool) -> Callable[[str], Sequence[int]]:
    if re2 is not None and linear:
        options = _options()
        together = re2.Set.SearchSet(options)
        for trigger in triggers:
            together.Add(trigger)
        together.Compile()
        matching: Callable[[str], Sequence[int]] = together.Match
        return matching
    each = [re.compile(trigger, re.ASCII) for trigger in triggers]
    return lambda text: [number for number, trigger in enumerate(each) if trigger.search(text)]


def _shaped(pattern: Pattern, shape: Any) -> Callable[[str], Iterator[Finding]]:  # noqa: ANN401 - see `compiled`
    group = 1 if shape.groups else 0

    def find(text: str) -> Iterator[Finding]:
        for match in shape.finditer(text):
            start, end = match.span(group)
            if start < end and (pattern.is_one is None or pattern.is_one(text[start:end])):
                yield Finding(start, end, pattern.kind)

    return find


def begins_private_key(text: str) -> bool:
    """Whether a private key begins in the text and does not end in it."""
    last = max((match.end() for match in _PEM_KEY.finditer(text)), default=-1)
    return last >= 0 and not _PEM_END.search(text, last)


def continues_private_key(line: str) -> bool:
    """Whether a line can be part of a private key that began before it."""
    return _PEM_BODY.fullmatch(line) is not None or _PEM_END.search(line) is not None


def ends_private_key(line: str) -> bool:
    """Whether a private key ends in the line."""
    return _PEM_END.search(line) is not None


def _private_keys(text: str) -> Iterator[Finding]:
    """PEM: to its end, or what there is of it where the end is cut off."""
    ends = iter([match.end() for match in _PEM_END.finditer(text)])
    end: int | None = 0
    done = 0
    starts = [match.span() for match in _PEM_KEY.finditer(text)]
    for number, (start, behind) in enumerate(starts):
        if start < done:
            continue
        while end is not None and end < behind:
            end = next(ends, None)
        following = starts[number + 1][0] if number + 1 < len(starts) else len(text)
        if end is not None and end <= following:
            done = end
        else:
            body = _PEM_BODY.match(text, behind)
            done = body.end() if body else behind
        yield Finding(start, done, PRIVATE_KEY)


def _assigned(text: str) -> Iterator[Finding]:
    """The values of telling names: `password=x`, `"dbPassword": "x y"`, `--token x`."""
    small = text.lower() if text.isascii() else "".join(_small(character) for character in text)
    done = heads = 0
    for name in _NAME.finditer(small):
        if name.start() < done:
            continue
        behind = name.end()
        head = _ASSIGNMENT.match(text, behind) or _OPTION.match(text, behind) or _PAIR.match(text, behind)
        if head is None:
            continue
        start = head.end()
        heads += 1
        if heads > _MOST_HEADS:
            yield Finding(start, len(text), VALUE)
            return
        if text.startswith(MASK, start):
            continue
        if head.re is _OPTION and not _is_option(text[max(0, name.start() - _LONGEST_OPTION) : behind]):
            continue
        if small[behind - 1] == "y" and not _OWNER.search(small, max(0, name.start() - _LONGEST_OWNER), name.start()):
            continue
        if head.re is _PAIR and head.group(1):
            before = text[max(0, name.start() - _LONGEST_PAIR) : name.start()]
            if not _BEGINS_PAIR.search(before):
                continue
        quote = head.group(head.re.groups)
        if quote and quote[-1] in "2;":
            end = _end_of_entity(text, start, quote)
        elif quote:
            if _CLOSING.match(text, start):
                continue
            end = _end_of_quoted(text, start, len(quote) - 1, quote[-1])
        elif small[name.start() - 1 : name.start()] == ";" and text[start - 1] == "=":
            # In a connection string, where only a semicolon ends a value.
            end = _end_of_bare(text, start, _END_IN_CONNECTION_STRING)
        else:
            end = _end_of_bare(text, start, _END_OF_BARE)
        if MASK.startswith(small[start:end].upper()):
            continue  # a mask that was cut off with its text
        least = 1 if quote else _SHORTEST_TOKEN if small[behind - 1] == "n" else _SHORTEST
        if end - start >= least and (end - start > _LONGEST_NOTHING or _says_something(small[start:end])):
            done = end
            yield Finding(start, end, VALUE)


def _is_option(before: str) -> bool:
    """Whether the last word is like `--client-secret`."""
    return before[before.rfind(" ") + 1 :].lstrip("\\\"'[,(:{").startswith("-")


def _small(character: str) -> str:
    """In small letters where that is one character, too."""
    small = character.lower()
    return small if len(small) == 1 else character


def _end_of_entity(text: str, start: int, quote: str) -> int:
    ends = (text.find(end, start) for end in (quote, "\n"))
    return min((end for end in ends if end >= 0), default=len(text))


def _end_of_quoted(text: str, start: int, depth: int, quote: str) -> int:
    """Where a quoted value ends that was opened by a quote behind that many backslashes.

    Each level of JSON inside JSON doubles the backslashes and adds one: a quote of the value itself has twice as many
    as the one that ends it, and one more. What is not closed ends with the line.
    """
    for match in _QUOTE.finditer(text, start):
        backslashes, character = len(match.group(1)), match.group(2)
        if character == "\n":
            return match.start()
        if character != quote and backslashes >= depth:
            continue
        if backslashes <= depth:
            return match.start()
        if (backslashes - depth) % (2 * (depth + 1)) == 0:
            return match.end() - 1 - depth
    return len(text)


def _end_of_bare(text: str, start: int, ends: re.Pattern[str]) -> int:
    match = ends.search(text, start)
    if match is None:
        return len(text)
    end, backslashes = match.start(), match.end() - match.start() - 1
    # Backslashes in pairs are the value's, the odd one escapes the quote.
    return end + backslashes - backslashes % 2 if backslashes else end


def _says_something(value: str) -> bool:
    return bool(value.strip()) and value.strip() not in _SAYS_NOTHING
