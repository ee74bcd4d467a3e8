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
_MOST_NAMES: Final = 2_000
_MOST_HEADS: Final = 2_000
_MOST_PARTS: Final = 4_000
_MOST_COMMANDS: Final = 1_000
"""Telling names in one text, those with a value, parts of a value, commands; what is behind the last of them is masked,
as with `MOST`."""
PRIVATE_KEY: Final = "private-key"
VALUE: Final = "credential"
"""Kinds of what is found by its armour, and by its name."""
MOST: Final = 2_000
"""Secrets in one text; one with more is masked as a whole, so that no text can keep a process busy."""
_HALF: Final = re.compile("[\ud800-\udfff]")
_CAPITAL_I_WITH_DOT: Final = "\u0130"  # alone of all characters it becomes two when it is made small
_SMALL_I_WITHOUT_DOT: Final = "\u0131"  # any other letter would do in its place
_SHORTEST: Final = 6  # characters of a value without quotes
_SHORTEST_TOKEN: Final = 12
_SAYS_NOTHING: Final = frozenset({"true", "false", "null", "none", "nil", "undefined", "no", "yes", "str", "bytes"})
_LONGEST_NOTHING: Final = 12
_PEM_KEY: Final = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_PEM_END: Final = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_PEM_BODY: Final = re.compile(r"[A-Za-z0-9+/=\s\\:,-]*")
_NAME: Final = re.compile(rf"(?:{NAME_ENDS})(?={NAME_TAILS}[\s\"'`\\:=%&(])")
_OWNER: Final = re.compile(rf"{KEY_OWNERS}\Z")
_LONGEST_OWNER: Final = 14
_LONGEST_HEAD: Final = 1_000
_ENTITY: Final = r"\\+u0022|&quot;"  # a quote, as .NET writes it within JSON and everybody in XML
_BLANK: Final = r"(?:\s|\\{1,9}[nrt\n])"  # as it is, escaped, or a line that goes on in the next
_PREFIX: Final = r"[rbfuneRBFUNE]{0,2}"  # of a quoted text, in Python and in SQL
_ASSIGNMENT: Final = re.compile(
    rf"{NAME_TAILS}(?:\\*[\"'`]|{_ENTITY})?\s{{0,20}}(?::=|=>|==?|:|%3[dD]|\\+u003[dD]){_BLANK}{{0,60}}"
    rf"(?:{_PREFIX}(\\*[\"'`]|{_ENTITY}))?",
    re.ASCII | re.IGNORECASE,
)
_PAIR: Final = re.compile(
    rf"{NAME_TAILS}\\*[\"']\s{{0,4}}(?:,?{_BLANK}{{0,40}}(?:\\*[\"'])?value(?:\\*[\"'])?\s{{0,4}}[:=]|(,))"
    rf"{_BLANK}{{0,40}}(\\*[\"'])",
    re.ASCII | re.IGNORECASE,
)
"""`"name": "password", "value": "x"`, `("password", "x")` and `["--password", "x"]`."""
_BEGINS_PAIR: Final = re.compile(r"[(\[]\s{0,4}\\*[\"'][A-Za-z0-9_.-]{0,40}\Z")
_LONGEST_PAIR: Final = 50
_NEXT_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,60}\\*[\"']\s{0,4}:", re.ASCII)
"""Of an object in JSON, behind a text that ends like an option: `"reason": "leaked by --password", "job": ...`."""
_SPOKEN: Final = re.compile(
    rf"{NAME_TAILS}(?:{_BLANK}{{0,4}}(\(){_BLANK}{{0,20}}|{_BLANK}{{1,20}}"
    rf"(?:(?:by|is|to){_BLANK}{{1,4}}|for\s{{1,4}}[^\s=]{{1,80}}\s{{0,4}}=\s{{0,4}})?)[ne]?(\\*[\"'])",
    re.ASCII | re.IGNORECASE,
)
"""`PASSWORD 'x'`, `IDENTIFIED BY 'x'`, `PASSWORD('x')`, `PASSWORD FOR a = 'x'`: SQL, and English."""
_SAID: Final = re.compile(
    r"(?:\s{1,4}(?:for|of)\s{1,4}[^\s\"'`]{1,80}\s{1,4}(?:[^\s\"'`]{1,80}\s{1,4})?)?"
    r"\s{0,4}(?:is|was|(?:(?:is|was)\s{1,4})?(?:set|changed)\s{1,4}to)\s{0,4}:?\s{1,4}"
    r"(?=[^\s\"'`\[\]{}<>()\\]{8})",
    re.ASCII | re.IGNORECASE,
)
"""`the password is x1`, `password for app was set to x1`."""
_NO_WORD: Final = re.compile(r"[A-Za-z][^A-Za-z0-9]*[0-9]|[0-9][^A-Za-z0-9]*[A-Za-z]")
"""In what is neither a word nor a number or a time."""
_OPTION: Final = re.compile(rf"{NAME_TAILS}{_BLANK}{{1,40}}(?:-\s{{1,4}})?(\\*[\"'])?", re.ASCII | re.IGNORECASE)
_LONGEST_OPTION: Final = 60
_WORD: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-"
_ESCAPED_LETTER: Final = re.compile(r"(?:[a-z]|u[0-9A-Fa-f]{4}|x[0-9A-Fa-f]{2})(?=-)")
_ASSIGNED_TRIGGER: Final = rf"(?i)(?:{NAME_ENDS})[a-z_-]{{0,11}}(?:\\*[\"'`]|&quot;)?(?:\s{{0,4}}(?:[=:,(]|%3d|\\)|\s)"
_BEHIND: Final = rf"""{_BLANK}*+(?:\\*["'{{\[\])}}]|\Z)"""
_CLOSING: Final = re.compile(
    rf"""{_BLANK}*+(?:\Z|\\*["'`]\s*[,}}\]]{_BEHIND}|[\])}}]*{_BLANK}*+(?:\Z|\\*["'`]\s*[,}}\]]{_BEHIND}|[,\])}}]{_BEHIND}))"""
)
"""What stands behind a quote that ends a text about a password, and does not begin one."""
_AS_ARGUMENT: Final = r"(?:\\*[\"'])?[\s,=]{%d,9}(\\*[\"'])?"
_COMMANDS: Final = {
    "curl": re.compile(
        r"(?<=[\s\"'])(?:-[A-Za-z]{0,8}u|--(?:proxy-)?user)" + _AS_ARGUMENT % 0 + r"[^\s:\"'\[]{1,100}:", re.ASCII
    ),
    "sshpass": re.compile(r"(?<=[\s\"'])-p" + _AS_ARGUMENT % 0, re.ASCII),
    "redis-cli": re.compile(r"(?<=[\s\"'])-a" + _AS_ARGUMENT % 1, re.ASCII),
    r"(?:mysql|mariadb)(?:-?dump|admin)?": re.compile(r"(?<=[\s\"'])-p(\\*[\"'])?(?=[^\s\"'\\])", re.ASCII),
    r"(?:docker|podman|az|helm)(?:[\s\"',\\]{1,8}[a-z]{1,20})?[\s\"',\\]{1,8}login": re.compile(
        r"(?<=[\s\"'])-p" + _AS_ARGUMENT % 1, re.ASCII
    ),
}
"""Commands that take a password as an option of one letter, which tells nothing elsewhere; and that option."""
_OPTIONS: Final = tuple(_COMMANDS.values())
_COMMAND: Final = re.compile(
    rf"(?<![A-Za-z0-9_-])(?:{'|'.join(f'({name})' for name in _COMMANDS)})(?=[\s\"'\\])", re.ASCII
)
_COMMAND_TRIGGER: Final = r"(?:curl|sshpass|redis-cli|(?:mysql|mariadb)(?:-?dump|admin)?|login)[\s\"'\\]"
_LONGEST_COMMAND: Final = 250
_SPACE: Final = re.compile(r"\s*")
_QUOTE: Final = re.compile(r"(?<!\\)(\\*)([\"'`\n])")
_FRONT: Final = re.compile(
    rf"(?:(?:![^\s\"'{{}}\[\],]{{0,60}}|&\w{{1,60}})\s{{1,4}}"  # a tag or an anchor of YAML
    # A type and what is assigned: `password: str | None = "x"`.
    r"|&?(?:'[a-z]{1,10}\s)?[A-Za-z_][A-Za-z_.]{0,60}(?:\[[A-Za-z_., |\[\]]{0,60}\])?"
    rf"(?:\s\|\s[A-Za-z_.]{{1,40}}){{0,4}}\s{{0,4}}=\s{{0,4}})(?:{_PREFIX}(\\*[\"'`]))?",
    re.ASCII,
)
"""What can stand in front of a value and is none."""
_OPENS: Final = re.compile(r"(?:[A-Za-z_][\w.]{0,60})?[(\[{]", re.ASCII)
_PART: Final = re.compile(
    rf"{_BLANK}{{0,200}}+(?:([(\[{{])|([)\]}}])|(=>|[,:=])|{_PREFIX}(\\*[\"'`])|([^\s\"'`,;&}}\])>(\[{{:=\\]+))",
    re.ASCII,
)
"""Of a container: what opens or closes one, what separates, a quote, a word."""
_SCAFFOLD: Final = re.compile(r"[A-Za-z_.]*[(\[{]*[A-Za-z_.-]*[:=]?")
"""What can stand before the first value in brackets and is no part of it."""
_MASKED: Final = re.compile(r"\[REDACTED:[a-z0-9-]{0,40}\]?|\[RE?D?A?C?T?E?D?(?![A-Za-z0-9])")
"""A mask, or one that was cut off."""
_COLON: Final = re.compile(r"\s{0,4}(?:=>|[:=])")
_NEW_LINE: Final = re.compile(r"(\n|\\{1,9}n)([ \t]*)(?:-\s{1,4})?\Z")
_SCALAR: Final = re.compile(r"(?:![^\s\"']{1,60} )?[|>][0-9+-]{0,2}[ \t]*(?:\\{1,9}r|\r)?(\n|\\{1,9}n)([ \t]*)")
_NAMED: Final = re.compile(
    r"(?:-[ ]{1,4}){0,4}(?:\\*[\"']?[A-Za-z_][\w.-]{0,60}\\*[\"']?:(?:[ \t]{1,20}|(?=[\n\\]|\Z)))?", re.ASCII
)
_REST: Final = re.compile(r"[^\n]*")
_REST_ESCAPED: Final = re.compile(
    r"""(?:\\*["'](?:[^\"'\\\n]++|\\++(?![nr\"']))*+\\*["']|(?:[^\"'\\\n]++|\\++(?![nr\"']))*+)"""
)
_END_OF_BARE: Final = re.compile(r"""[\s"'`,;&}\])>]|(?<!\\)\\+["']""")
_END_IN_CONNECTION_STRING: Final = re.compile(r"""[\r\n"'`;]|(?<!\\)\\+["'nr]""")


class Finding(NamedTuple):
    """A secret in a text, by its place."""

    start: int
    end: int
    kind: str


type Spans = list[tuple[int, int]]


def compiled(expression: str, *, linear: bool = True) -> Any:  # noqa: ANN401 - one of two libraries' types
    """The expression for RE2, or for `re` where that is not wanted or not there; ValueError if it is none."""
    try:
        if re2 is not None and linear:
            return re2.compile(expression, _options())
        return re.compile(expression, re.ASCII)
    except Exception as error:  # noqa: BLE001 - each library has its own
        why = error.args[0] if error.args else error
        text = why.decode(errors="replace") if isinstance(why, bytes) else str(why)  # RE2 says it in bytes
        raise ValueError(text) from None


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
        self._finders += [_private_keys, _in_commands, _assigned]
        triggers = [*(pattern.trigger for pattern in patterns), "-----BEGIN", _COMMAND_TRIGGER, _ASSIGNED_TRIGGER]
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


def _in_commands(text: str) -> Iterator[Finding]:
    """Passwords among the arguments of commands: `curl -u user:x`, `mysql -px`."""
    for number, command in enumerate(_COMMAND.finditer(text)):
        if number == _MOST_COMMANDS:
            yield Finding(command.end(), len(text), VALUE)
            return
        line_end = text.find("\n", command.end(), command.end() + _LONGEST_COMMAND)
        ends = line_end if line_end >= 0 else command.end() + _LONGEST_COMMAND
        for option in _OPTIONS[(command.lastindex or 0) - 1].finditer(text, command.end(), ends):
            start, quote = option.end(), option.group(1)
            if quote and (_CLOSING.match(text, start) or ("," in option.group() and _NEXT_NAME.match(text, start))):
                continue
            if quote:
                end = _end_of_quoted(text, start, len(quote) - 1, quote[-1])
            else:
                end = _end_of_bare(text, start, _END_OF_BARE)
            if start < end:
                yield Finding(start, end, VALUE)


def _assigned(text: str) -> Iterator[Finding]:
    """The values of telling names: `password=x`, `"dbPassword": "x y"`, `--token x`, `PASSWORD 'x'`.

    A name within a value counts if what is assigned to it lies behind the value, as in `secret: password: x`.
    """
    small = text.replace(_CAPITAL_I_WITH_DOT, _SMALL_I_WITHOUT_DOT).lower()
    done = heads = 0
    closed = False
    for number, name in enumerate(_NAME.finditer(small)):
        if number == _MOST_NAMES:
            yield Finding(max(done, name.end()), len(text), VALUE)
            return
        if name.start() < done and (closed or name.end() < done - _LONGEST_HEAD):
            continue
        behind = name.end()
        if name.group()[0] == "p" and (said := _SAID.match(text, behind)) and said.end() > done:
            end = _end_of_bare(text, said.end(), _END_OF_BARE)
            if _NO_WORD.search(text, said.end(), end):
                done, closed = end, False
                yield Finding(said.end(), end, VALUE)
                continue
        head = _head(text, small, name)
        if head is None or head.end() <= done:
            continue
        start = head.end()
        heads += 1
        if heads > _MOST_HEADS:
            yield Finding(start, len(text), VALUE)
            return
        if text.startswith(MASK, start):
            continue
        quote = head.group(head.re.groups)
        closed = bool(quote)
        least = 1 if quote else _SHORTEST_TOKEN if small[behind - 1] == "n" else _SHORTEST
        spans: Spans | None
        if quote and quote[-1] in "2;":
            spans = [(start, _end_of_entity(text, start, quote))]
        elif quote:
            if _CLOSING.match(text, start):
                continue
            end = _end_of_quoted(text, _SPACE.match(text, start).end(), len(quote) - 1, quote[-1])  # type: ignore[union-attr] # it matches anything
            closed = not text.startswith("\n", end)
            spans = [(start, end)]
        elif small[name.start() - 1 : name.start()] == ";" and text[start - 1] == "=":
            # In a connection string, where only a semicolon ends a value.
            spans = [(start, _end_of_bare(text, start, _END_IN_CONNECTION_STRING))]
        else:
            end = _end_of_bare(text, start, _END_OF_BARE)
            if end - start > 1 and MASK.startswith(small[start:end].upper()):
                continue  # a mask that was cut off with its text
            spans, parts = _structure(text, name.start(), head, end)
            heads += parts
            if spans is None:
                spans = [(start, end)]
            else:
                if end - start >= least and not _SCAFFOLD.fullmatch(text[start:end].partition(MASK)[0]):
                    spans.append((start, end))
                least = 1
        for begin, end in spans:
            if MASK.startswith(small[begin:end].upper()) or text.startswith(MASK, begin):
                continue
            if end - begin >= least and (end - begin > _LONGEST_NOTHING or _says_something(small[begin:end])):
                done = max(done, end)
                yield Finding(begin, end, VALUE)


def _head(text: str, small: str, name: re.Match[str]) -> re.Match[str] | None:
    """What leads from a telling name to its value; None if nothing does."""
    behind = name.end()
    begins = name.group()[0]
    if begins == "k" and not _OWNER.search(small, max(0, name.start() - _LONGEST_OWNER), name.start()):
        return None
    if head := _ASSIGNMENT.match(text, behind):
        return head if begins != "i" else None
    before = text[max(0, name.start() - _LONGEST_OPTION) : behind]
    if head := _SPOKEN.match(text, behind):
        if begins not in "pi":
            return head if _is_option(before) else None
        # A function of SQL; that of a program, `read_password("x")`, is given something else.
        previous = small[max(0, name.start() - 1) : name.start()]
        return None if head.group(1) and (previous.isalnum() or previous == "_") else head
    if head := _OPTION.match(text, behind):
        return head if _is_option(before) else None
    head = _PAIR.match(text, behind)
    if head and head.group(1):
        if _NEXT_NAME.match(text, head.end()):
            return None
        begun = _BEGINS_PAIR.search(text[max(0, name.start() - _LONGEST_PAIR) : name.start()])
        return head if begun or _is_option(before) else None
    return head


def _is_option(before: str) -> bool:
    """Whether the last word is like `--client-secret`."""
    rest = before.rstrip(_WORD)
    word = before[len(rest) :]
    if rest.endswith("\\") and (escaped := _ESCAPED_LETTER.match(word)):
        word = word[escaped.end() :]
    return word.startswith("-") or before[before.rfind(" ") + 1 :].lstrip("\\\"'[,(:{").startswith("-")


def _structure(text: str, name: int, head: re.Match[str], end: int) -> tuple[Spans | None, int]:
    """The values in what begins as a value without quotes and is more than a word; and how many parts were read.

    None if it is a word, which ends at `end`.
    """
    start = head.end()
    before = ""
    if line := _NEW_LINE.search(head.group()):
        begins = text.rfind(line.group(1), max(0, name - _LONGEST_OPTION), name)
        before = text[begins + len(line.group(1)) : name] if begins >= 0 else ""
        if "->" in text[max(0, name - _LONGEST_OPTION) : name]:
            return None, 0  # `def f() -> Secret:`, and then its body
    if scalar := _SCALAR.match(text, start):
        return _in_block(text, scalar.end(), scalar.group(1), scalar.group(2))
    if front := _FRONT.match(text, start):
        quote = front.group(1)
        if not quote:
            last = _end_of_bare(text, front.end(), _END_OF_BARE)
            if text.startswith(("[", "{", "("), front.end()):
                return _in_container(text, front.end(), front.end())
            return ([(start, last)] if max(last - front.end(), end - start) >= _SHORTEST else []), 1
        if not _CLOSING.match(text, front.end()):
            return [(start, _end_of_quoted(text, front.end(), len(quote) - 1, quote[-1]))], 1
    if opens := _OPENS.match(text, start):
        return _in_container(text, start, opens.end() - 1)
    if line and (line.group(2) or text.startswith("-", start)):
        depth = len(line.group(2)) + text.startswith("-", start)
        if depth > len(before) - len(before.lstrip(" \t-")):
            return _in_block(text, start, line.group(1), line.group(2))
    return None, 0


def _in_container(text: str, start: int, at: int) -> tuple[Spans, int]:
    """All that stands in brackets, but the names: `["x", "y"]`, `{"value": "x"}`, `Secret("x")`."""
    found: Spans = []
    depth = parts = 0
    follows = False  # whether a part may follow here: behind a bracket or what separates
    while part := _PART.match(text, at):
        parts += 1
        if parts > _MOST_PARTS:
            found.append((at, len(text)))
            break
        at = part.end()
        opened, closed, separated, quote, word = part.groups()
        if opened and (masked := _MASKED.match(text, part.start(1))):
            at = masked.end()
            follows = False
        elif opened:
            depth += 1
            follows = True
        elif closed:
            depth -= 1
            follows = False
            if depth == 0:
                break
        elif separated:
            follows = True
        elif not follows:
            break
        elif quote and text.startswith(quote, at):
            at += len(quote)
            follows = False
        elif quote:
            if _CLOSING.match(text, at):
                break
            last = _end_of_quoted(text, at, len(quote) - 1, quote[-1])
            if last == len(text) or text[last] == "\n":
                found.append((at, last))
                break
            if not _COLON.match(text, last + len(quote)):
                found.append((at, last))
            at = last + len(quote)
            follows = False
        elif word:
            if _COLON.match(text, at):
                follows = False
                continue
            last = max(at, _end_of_bare(text, part.start(5), _END_OF_BARE))
            begin = part.start(5) if parts > 2 else start
            if last - begin >= _SHORTEST:
                found.append((begin, last))
            at = last
            follows = False
    return found, parts


def _in_block(text: str, at: int, line_break: str, indent: str) -> tuple[Spans, int]:
    """The lines that are indented alike or deeper, but the names in them: what YAML has below a name."""
    found: Spans = []
    parts = 0
    rest = _REST if line_break == "\n" else _REST_ESCAPED
    while True:
        parts += 1
        if parts > _MOST_PARTS:
            found.append((at, len(text)))
            break
        named = _NAMED.match(text, at)
        begin = named.end() if named else at
        line = rest.match(text, begin)
        end = line.end() if line else begin
        shown = text[begin:end].rstrip(" \t\r,")
        if len(shown) >= (2 if shown[:1] in {'"', "'"} else _SHORTEST):
            found.append((begin, begin + len(shown)))
        if not text.startswith(line_break + indent, end):
            break
        at = end + len(line_break) + len(indent)
        while text.startswith((" ", "\t"), at):
            at += 1
    return found, parts


def _end_of_entity(text: str, start: int, quote: str) -> int:
    ends = (text.find(end, start) for end in (quote, "\n"))
    return min((end for end in ends if end >= 0), default=len(text))


def _end_of_quoted(text: str, start: int, depth: int, quote: str) -> int:
    """Where a quoted value ends that was opened by a quote behind that many backslashes.

    Each level of JSON inside JSON doubles the backslashes and adds one: a quote of the value itself has twice as many
    as the one that ends it, and one more. A quote that is doubled is part of the value, as SQL has it. What is not
    closed ends with the line.
    """
    closing = "\\" * depth + quote
    if text.startswith(closing * 2, start) and (end := text.find(closing * 3, start + 2 * len(closing))) >= 0:
        return end  # three quotes, as in Python
    done = start
    doubled = 0
    for match in _QUOTE.finditer(text, start):
        if match.start() < done:
            continue
        backslashes, character = len(match.group(1)), match.group(2)
        if character == "\n":
            if backslashes % 2:
                continue  # the line goes on in the next
            return match.start()
        if character != quote and backslashes >= depth:
            continue
        if character == quote and backslashes == depth and text.startswith(closing, match.end()):
            done = match.end() + len(closing)
            doubled += 1
            if doubled <= _MOST_PARTS:
                continue
            line_end = text.find("\n", done)
            return line_end if line_end >= 0 else len(text)
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
