"""Finds what has the shape of a credential, in time linear in the text.

Every pattern has a trigger, a short expression that its finds cannot be without. All triggers are looked for at once;
most texts have none, and are done. Patterns run on RE2, and where that is not installed on `re`, with the same finds.
What is assigned to a telling name needs more than an expression: where a value ends depends on how it is quoted.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from shared.redact.patterns import AZURE, GENERAL, NAMES, VENDORS, Pattern

try:
    import re2
except ImportError:
    re2 = None

MASK: Final = "[REDACTED:"
_SHORTEST: Final = 6  # characters of a value without quotes
_SHORTEST_TOKEN: Final = 12
_SAYS_NOTHING: Final = frozenset({"true", "false", "null", "none", "nil", "undefined", "no", "yes", "str", "bytes"})
_PEM_KEY: Final = r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
_PEM_END: Final = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_PEM_BODY: Final = re.compile(r"[A-Za-z0-9+/=\s\\:,-]*")
_ASSIGNED: Final = (
    rf"(?i)({NAMES})(?:\\*[\"'`])?(?:\s{{0,4}}(?::=|=>|==?|:|%3[dD]|\\+u003[dD])\s{{0,4}})(?:[rbfu]{{0,2}}(\\*[\"'`]))?"
)
_OPTION: Final = rf"(?i)--?(?:[a-z0-9]+-)*({NAMES})\s{{1,4}}(\\*[\"'])?"
_ASSIGNED_TRIGGER: Final = (
    r"(?i)(?:pass(?:word|wd|phrase|code|wort)|pwd|secret|token|key|credential|string|signature)[a-z_-]{0,8}"
    r"(?:\\*[\"'`])?\s{0,4}(?:[=:]|%3d|\\)"
)
_OPTION_TRIGGER: Final = (
    r"(?i)-[a-z0-9_-]{0,40}(?:pass(?:word|wd|phrase|code|wort)|pwd|secret|token|key|credential|string|signature)"
    r"[a-z_-]{0,8}\s"
)
_CLOSING: Final = re.compile(r"""\s*(?:\Z|[\])}]*\s*(?:\Z|[,\])}]\s*(?:\\*["'{\[\])}]|\Z)))""")
"""What stands behind a quote that ends a text about a password, and does not begin one."""
_QUOTE: Final = re.compile(r"(\\*)([\"'`\n])")
_END_OF_BARE: Final = re.compile(r"""[\s"'`,;&}\])>]|\\+["']""")
_END_IN_CONNECTION_STRING: Final = re.compile(r"""[\r\n"'`;]|\\+["'nr]""")


@dataclass(frozen=True, slots=True, order=True)
class Finding:
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
    except Exception as error:
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
        self._finders += [_private_keys(linear), _assigned(compiled(_ASSIGNED, linear=linear))]
        self._finders.append(_assigned(compiled(_OPTION, linear=linear)))
        triggers = [*(pattern.trigger for pattern in patterns), "-----BEGIN", _ASSIGNED_TRIGGER, _OPTION_TRIGGER]
        self._triggered = _all_triggers(triggers, linear=linear)
        self._allowed = [compiled(expression, linear=linear) for expression in allowed]

    def find(self, text: str) -> Sequence[Finding]:
        """Every secret by its shape, in order; none overlaps another."""
        triggered = self._triggered(text)
        if not triggered:
            return ()
        found = [finding for number in sorted(triggered) for finding in self._finders[number](text)]
        return self._chosen(text, found)

    def _chosen(self, text: str, found: list[Finding]) -> Sequence[Finding]:
        """Without masks and what is allowed; of those that overlap one, from the first's start to the last's end."""
        chosen: list[Finding] = []
        for finding in sorted(found, key=lambda each: (each.start, -each.end)):
            secret = text[finding.start : finding.end]
            if secret.startswith(MASK) or any(allowed.fullmatch(secret) for allowed in self._allowed):
                continue
            if chosen and finding.start < chosen[-1].end:
                last = chosen[-1]
                chosen[-1] = Finding(last.start, max(last.end, finding.end), last.kind)
            else:
                chosen.append(finding)
        return chosen


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


def _private_keys(linear: bool) -> Callable[[str], Iterator[Finding]]:
    """PEM: to its end, or what there is of it where the end is cut off."""
    begin = compiled(_PEM_KEY, linear=linear)

    def find(text: str) -> Iterator[Finding]:
        ends = iter([match.end() for match in _PEM_END.finditer(text)])
        end: int | None = 0
        done = 0
        starts = [match.span() for match in begin.finditer(text)]
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
            yield Finding(start, done, "private-key")

    return find


def _assigned(heads: Any) -> Callable[[str], Iterator[Finding]]:  # noqa: ANN401 - see `compiled`
    """The values of telling names: `password=x`, `"dbPassword": "x y"`, `--token x`."""

    def find(text: str) -> Iterator[Finding]:
        done = 0
        for head in heads.finditer(text):
            start = head.end()
            if head.start() < done:
                continue
            quote = head.group(2)
            if quote and _CLOSING.match(text, start):
                continue
            if quote:
                end = _end_of_quoted(text, start, len(quote) - 1, quote[-1])
            else:
                end = _end_of_bare(text, start, in_connection_string=_is_in_connection_string(text, head))
            if _is_secret(head.group(1), text[start:end], bool(quote)):
                done = end
                yield Finding(start, end, "credential")

    return find


def _is_in_connection_string(text: str, head: Any) -> bool:  # noqa: ANN401 - a match of one of two libraries
    """`...;Password=a b, c;...`: a value that only a semicolon ends."""
    before = text[max(0, head.start() - 1) : head.start()]
    return before == ";" and text[head.end() - 1] == "=" and text[head.end() : head.end() + 1] != " "


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


def _end_of_bare(text: str, start: int, *, in_connection_string: bool) -> int:
    pattern = _END_IN_CONNECTION_STRING if in_connection_string else _END_OF_BARE
    match = pattern.search(text, start)
    if match is None:
        return len(text)
    if text[match.start()] == "\\" and match.end() - match.start() > 1:
        # Backslashes in pairs are the value's, the odd one escapes the quote.
        backslashes = match.end() - match.start() - 1
        return match.start() + backslashes - backslashes % 2
    return match.start()


def _is_secret(name: str, value: str, quoted: bool) -> bool:
    bare = value.strip().lower()
    if not bare or bare in _SAYS_NOTHING or value.startswith((MASK, "\\" * 2 + MASK)):
        return False
    if quoted:
        return True
    least = _SHORTEST_TOKEN if name.lower().endswith("token") else _SHORTEST
    return len(value) >= least
