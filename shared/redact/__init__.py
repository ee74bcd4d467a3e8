"""Masking of secrets in text that leaves the process: the one gate.

Two nets, both applied to the final text: the exact values this process has handled, in whichever way they are written,
and the shapes of credentials for those it has not. Masks are idempotent: a mask is never masked again. Hashes, ids,
signatures, versions and wrapped keys pass.
"""

import os
from collections.abc import Iterable, Sequence
from typing import Final

from shared.redact.engine import MASK, VALUE, Engine, Finding
from shared.redact.known import KnownSecrets

__all__ = [
    "KNOWN_SECRETS",
    "MASK",
    "MASK_KNOWN",
    "Engine",
    "Finding",
    "KnownSecrets",
    "find",
    "let_pass",
    "mask",
    "masked",
    "use",
]

MASK_KNOWN: Final = f"{MASK}known]"
MASK_MANY: Final = f"{MASK}many]"
_ROUNDS: Final = 4
"""How often what is left is looked at again: a mask can set apart what was hidden in something longer."""
_LONG: Final = 50_000
"""Characters; a longer text is looked at again once, which takes long enough, and is masked as a whole if need be."""
_MOST_IN_LONG: Final = 250
"""Secrets in a long text by their shape; one with more is masked as a whole."""

KNOWN_SECRETS = KnownSecrets()
"""Every secret of this process; `Secret` adds to it."""
os.register_at_fork(after_in_child=KNOWN_SECRETS.renew_lock)

_engine = Engine()
_names: set[str] = set()


def use(engine: Engine) -> None:
    """Mask with these patterns from now on."""
    global _engine  # one gate for the whole process
    _engine = engine


def let_pass(names: Iterable[str]) -> None:
    """From now on these, as the value of a telling name, are no secrets: `"secret": "orders-database"`.

    For names that stand in files which everybody may read, as the catalog's. A value that the process has handled is
    masked all the same, and so is what has the shape of a credential.
    """
    _names.update(names)


def mask(text: str) -> str:
    """`text` with known secrets and credential shapes replaced by `[REDACTED:kind]`."""
    return masked(text)[0]


def masked(text: str) -> tuple[str, Sequence[str]]:
    """The masked text, and the kinds of what was masked."""
    kinds: list[str] = []
    if known := _known(text):
        kinds += [finding.kind for finding in known]
        text = _replaced(text, known)
    is_long = len(text) > _LONG
    for _ in range(1 if is_long else _ROUNDS):
        found = _shaped(text)
        if not found:
            return text, kinds
        kinds += [finding.kind for finding in found]
        if is_long and len(found) > _MOST_IN_LONG:
            return MASK_MANY, kinds
        text = _replaced(text, found)
    return (MASK_MANY if _shaped(text) else text), kinds


def find(text: str) -> Sequence[Finding]:
    """Where secrets are: known ones, or else those that have a shape."""
    return _known(text) or _shaped(text)


def _known(text: str) -> Sequence[Finding]:
    return [Finding(start, end, "known") for start, end in KNOWN_SECRETS.find(text)]


def _shaped(text: str) -> Sequence[Finding]:
    found = _engine.find(text)
    if not found or not _names:
        return found
    # Without what can stand around a name: a bracket, the end of a sentence.
    return [each for each in found if each.kind != VALUE or text[each.start : each.end].strip("[({.:,") not in _names]


def _replaced(text: str, found: Sequence[Finding]) -> str:
    kept: list[str] = []
    done = 0
    for finding in found:
        kept += (text[done : finding.start], f"{MASK}{finding.kind}]")
        done = finding.end
    return "".join((*kept, text[done:]))
