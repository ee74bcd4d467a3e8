"""Masking, against what policy sets: 50,000 log lines a second on one core, none slow, no text that stops a worker.

Measured, in processor time: `mask` of log lines as the jobs write them, with their ids and hashes drawn anew for every
line, while 10,000 DEKs are known; the slowest of a hundred of them; the worst of some fifty texts of 500 kB that are
made to be slow - all escapes, all base64, all `password=`, all beginnings of keys - with a known DEK at the end; and
what a DEK costs that is made known.
Floor: 50,000 lines a second; 100 µs for a line; 100 ms for a text; 10 µs for a DEK, of which a worker that rewraps
1,000 a second has one in a hundred of its time.
"""

import json
import os
import random
import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from bench.result import Result
from shared import redact
from shared.redact import KnownSecrets, mask

_LINES_PER_S: Final = 50_000
_SLOWEST_LINE_US: Final = 100.0
_SLOWEST_TEXT_MS: Final = 100.0
_DEK_US: Final = 10.0
_KNOWN: Final = 10_000
_TEXT_CHARACTERS: Final = 500_000
_KEY: Final = "-----BEGIN PRIVATE" + " KEY-----"


def measure(quick: bool) -> Sequence[Result]:
    """The four numbers."""
    before, redact.KNOWN_SECRETS = redact.KNOWN_SECRETS, KnownSecrets()
    try:
        deks = [os.urandom(32) for _ in range(_KNOWN)]
        for dek in deks:
            redact.KNOWN_SECRETS.add(dek)
        lines = _lines(10_000 if quick else 50_000)
        rate = 1 / statistics.median(_seconds(lambda: [mask(line) for line in lines]) for _ in range(5)) * len(lines)
        each = sorted(_seconds(lambda line=line: mask(line)) for line in lines)  # type: ignore[misc] # bound at once
        slowest = each[len(each) * 99 // 100] * 1e6
        worst, name = max((_seconds(lambda text=text: mask(text)) * 1e3, name) for name, text in _texts(deks[7]))  # type: ignore[misc] # bound at once
        new = KnownSecrets()
        more = [os.urandom(32) for _ in range(20_000)]
        dek_us = _seconds(lambda: deque(map(new.add, more), 0)) / len(more) * 1e6
    finally:
        redact.KNOWN_SECRETS = before
    characters = round(statistics.mean(map(len, lines)))
    return [
        _result(f"lines of {characters} characters", rate, _LINES_PER_S, "lines/s", at_least=True),
        _result("slowest of 100 lines", slowest, _SLOWEST_LINE_US, "µs", at_least=False),
        _result(f"worst text of 500 kB ({name})", worst, _SLOWEST_TEXT_MS, "ms", at_least=False),
        _result("making a DEK known", dek_us, _DEK_US, "µs", at_least=False),
    ]


def _result(what: str, measured: float, floor: float, unit: str, *, at_least: bool) -> Result:
    return Result("redact", what, f"{measured:,.1f} {unit}", f"{floor:,.0f} {unit}", measured / floor, 1.0, at_least)


def _seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def _lines(count: int) -> list[str]:
    """Log lines of the jobs, as `MaskingFormatter` renders them."""
    draw = random.Random(1)
    kids = [f"https://atp-kv.vault.azure.net/keys/master-kek/{draw.randbytes(16).hex()}" for _ in range(3)]

    def line(number: int) -> str:
        tenant, version = f"tenant-{draw.randrange(10**6):06d}", draw.randrange(1, 40)
        fields: dict[str, object] = {
            "time": f"2026-11-20 12:30:{number % 60:02d},{number % 1000:03d}",
            "level": "INFO",
            "logger": "rotation.dek_job",
        }
        match number % 5:
            case 0:
                fields |= {"event": "dek rotated", "tenant": tenant, "job": f"dek.rotate/{tenant}/v{version}"}
                fields |= {"kid": draw.choice(kids), "version": version, "check_value": draw.randbytes(32).hex()}
            case 1:
                fields |= {
                    "event": "rewrapped batch",
                    "shard": number % 64,
                    "rows": 1000,
                    "changed": 998,
                    "after": tenant,
                }
                fields |= {"old_kid": draw.choice(kids), "run": f"master-kek.{version:06d}"}
            case 2:
                fields |= {
                    "event": "job put back",
                    "job": f"dek.rotate/{tenant}/{draw.randbytes(8).hex()}",
                    "delay_s": 5,
                }
                fields |= {"because": "unwrapping a DEK: no success (status=503)", "kid": draw.choice(kids)}
            case 3:
                fields |= {"event": "message refused", "queue": "rotation-jobs", "message_id": draw.randbytes(16).hex()}
                fields |= {
                    "because": "a field does not follow its grammar (field=tenant, grammar=[a-z0-9][a-z0-9._-]{0,63})"
                }
            case _:
                fields |= {
                    "event": "shard is through",
                    "run": f"master-kek.{version:06d}",
                    "pass": 3,
                    "shard": number % 64,
                }
                fields |= {"root": draw.randbytes(32).hex(), "tenants": 15_625, "rows": 31_250, "verified": 157}
        return json.dumps(fields)

    return [line(number) for number in range(count)]


def _texts(dek: bytes) -> Sequence[tuple[str, str]]:
    pieces = {
        "words": "abc def ",
        "base64": "QUJD",
        "hex": "ab",
        "bytes escaped": "\\x41",
        "bytes escaped between letters": "a\\x41",
        "characters escaped": "\\u0041",
        "line breaks escaped": "\\n",
        "line breaks escaped between letters": "a\\n",
        "backslashes": "\\",
        "backslashes between letters": "\\d",
        "percent": "%41",
        "percent of percent": "%2541",
        "numbers": "1,",
        "letters beyond ASCII": "é",
        "quotes": '"',
        "password=": "password=",
        'password="': 'password="',
        "passwords": "password=abcdefg ",
        "passwords in JSON in JSON": '\\"password\\": \\"',
        "passwords of connections": ";Password=a b",
        "options": "--api-key ",
        "names": "secret",
        "tokens": "token:",
        "beginnings of keys": _KEY,
        "beginnings of keys in lines": f"{_KEY}\n",
        "beginnings of tokens": "eyJ",
        "tokens half done": "eyJabcdefgh.",
        "URLs": "://a:",
        "signatures": "sig=",
        "signatures of keys": "JQQJ",
        "bearers": "bearer ",
        "prefixes": "glpat-",
        "XML": "<password>",
        "lists": "secret: [",
        "lists of one": "secret: [a],",
        "lists in lists": "secret: [[['a', ",
        "mappings": '{"secret": {"a": ',
        "calls": "password=f(",
        "blocks": "password:\n  a: b\n  ",
        "blocks escaped": "password:\\n  a: b\\n  ",
        "scalars": "password: |\n  a",
        "types": "password: str | str | str ",
        "tags": "password: !a ",
        "SQL": "PASSWORD 'a",
        "arguments": '"--password", ',
        "hex with colons": "de:ad:",
        "hex as in C": "0x",
        "short lines": "a\n",
        "lines of base64": f"{'QUJDREVG' * 9}\n",
        "commands": "curl -u ",
        "commands with passwords": "curl -u a:",
        "sentences": "password is ",
        "sentences beyond ASCII": "password is é ",
        "signatures of keys that other masks set apart": f"{'a' * 30}JQQJ{'b' * 88}",
        "sentences with passwords": "password is abcdefg1 ",
        "longer sentences": "password for ",
        "known DEKs": f"{dek.hex()} ",
        "known DEKs with colons": f"{dek.hex(':')}\n",
        "known DEKs far from each other": f"{dek.hex()} {'abc def ' * 1_000}",
        "known DEKs among escapes": f"{dek.hex()} {'\\\\n4a:' * 1_300}",
        "characters of Latin-1": "\\u00e9\\u0080",
    }
    begun = {
        "a password of backslashes": ("password=", "\\"),
        "a quoted password of backslashes": ('{"password": "', "\\"),
        "a password of a connection of backslashes": (";password=", "\\"),
        "an option of backslashes": ("--password ", "\\"),
        "a list of words": ("secrets: [", "abcdef, "),
        "a list of brackets": ("secrets: ", "["),
        "a list of separators": ("secrets: [", ",:="),
        "a list of blanks": ("secrets: [", " "),
        "a list of masks": ("secrets: [", "[REDACTED:"),
        "a block of lines": ("secrets:\n", "  - a\n"),
        "a block of long lines": ("secrets:\n", "  a: abcdef\n"),
        "an escaped block of backslashes": ("secrets:\\n  - ", "\\\\x"),
        "doubled quotes": ("password='", "''"),
        "doubled quotes of JSON": ('password=\\\\\\"', '\\\\\\"'),
    }
    started = [(name, start + piece * (_TEXT_CHARACTERS // len(piece))) for name, (start, piece) in begun.items()]
    mixture = [
        "--token ",
        "password is a1b2c3 ",
        "QUJD" * 40,
        _KEY,
        "é",
        "sig=" * 20,
        "\\u0041&",
        "00" * 40,
        "a\n" * 30,
    ]
    draw = random.Random(7)
    for number in range(3):
        mixed = "".join(draw.choice(mixture) * draw.randrange(1, 60) for _ in range(3_000))[:_TEXT_CHARACTERS]
        started.append((f"mixture {number + 1}", mixed))
    return started + [
        (name, piece * (_TEXT_CHARACTERS // len(piece)) + f" {dek.hex()}") for name, piece in pieces.items()
    ]
