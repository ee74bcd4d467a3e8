"""A `Secret` can be used and not shown, whichever way somebody tries to show it."""

import copy
import json
import logging
import pickle
import pprint
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass

import pytest

from shared.errors import AtpError
from shared.redact import KNOWN_SECRETS, MASK_KNOWN, mask
from shared.secret import Secret

VALUE = b"correct horse battery staple 7411"
SECRET = Secret(VALUE)


@dataclass(frozen=True)
class Login:
    """Something that holds a secret."""

    user: str
    password: Secret


def refuse(secret: Secret) -> None:
    raise ValueError(secret)


def raised() -> BaseException:
    """An error with the secret among its arguments and in its frame."""
    held = SECRET
    with pytest.raises(ValueError, match="Secret") as caught:
        refuse(held)
    return caught.value


def with_locals() -> str:
    """A traceback that shows the variables of every frame."""
    return "".join(traceback.TracebackException.from_exception(raised(), capture_locals=True).format())


SHOWN: dict[str, Callable[[], str]] = {
    "repr": lambda: repr(SECRET),
    "str": lambda: str(SECRET),
    "format": lambda: format(SECRET),
    "format with a width": lambda: f"{SECRET:>40}",
    "f-string": lambda: f"{SECRET}",
    "f-string with !r": lambda: f"{SECRET!r}",
    "f-string with !s": lambda: f"{SECRET!s}",
    "f-string with !a": lambda: f"{SECRET!a}",
    "f-string with =": lambda: f"{SECRET=}",
    "%s": lambda: "%s" % SECRET,  # noqa: UP031 - one of the ways
    "%r": lambda: "%r" % SECRET,  # noqa: UP031 - one of the ways
    "str.format": lambda: "{}".format(SECRET),  # noqa: UP032 - one of the ways
    "ascii": lambda: ascii(SECRET),
    "a list of it": lambda: str([SECRET]),
    "pprint": lambda: pprint.pformat({"secret": SECRET}),
    "a dataclass": lambda: repr(Login("alice", SECRET)),
    "JSON with a default": lambda: json.dumps({"secret": SECRET}, default=str),
    "an error's text": lambda: str(raised()),
    "our error's fields": lambda: str(AtpError("wrong", secret=SECRET)),
    "a traceback": lambda: "".join(traceback.format_exception(raised())),
    "a traceback with local variables": with_locals,
    "a log record": lambda: logging.makeLogRecord({"msg": "got %s", "args": (SECRET,)}).getMessage(),
    "dir": lambda: " ".join(dir(SECRET)),
}


@pytest.mark.parametrize("show", SHOWN.values(), ids=list(SHOWN))
def test_showing_a_secret_shows_nothing_of_it(show: Callable[[], str]) -> None:
    shown = show()
    for word in VALUE.decode().split():
        assert word not in shown


def test_a_shown_secret_can_be_recognised_as_one() -> None:
    assert repr(SECRET) == f"{SECRET}" == "Secret(...)"


REFUSED: dict[str, Callable[[], object]] = {
    **{f"pickle {n}": lambda n=n: pickle.dumps(SECRET, n) for n in range(pickle.HIGHEST_PROTOCOL + 1)},  # type: ignore[misc] # bound at once
    "copy": lambda: copy.copy(SECRET),
    "deepcopy": lambda: copy.deepcopy(SECRET),
    "deepcopy of a dataclass": lambda: copy.deepcopy(Login("alice", SECRET)),
    "asdict": lambda: asdict(Login("alice", SECRET)),
    "JSON": lambda: json.dumps(SECRET),
    "bytes": lambda: bytes(SECRET),  # type: ignore[call-overload] # what a type checker says of it
    "iteration": lambda: list(SECRET),  # type: ignore[call-overload] # what a type checker says of it
    "length": lambda: len(SECRET),  # type: ignore[arg-type] # what a type checker says of it
    "state": lambda: SECRET.__getstate__(),
    "vars": lambda: vars(SECRET),
    "concatenation": lambda: b"" + SECRET,  # type: ignore[operator] # what a type checker says of it
}


@pytest.mark.parametrize("take", REFUSED.values(), ids=list(REFUSED))
def test_taking_a_secret_along_is_refused_without_showing_it(take: Callable[[], object]) -> None:
    with pytest.raises(TypeError) as caught:
        take()
    assert "horse" not in str(caught.value)


def test_a_secret_is_revealed_on_request_alone() -> None:
    assert SECRET.reveal() == VALUE


def test_a_secret_keeps_its_own_copy() -> None:
    buffer = bytearray(b"a secret in a buffer")
    secret = Secret(bytes(buffer))
    buffer[:] = bytes(len(buffer))
    assert secret.reveal() == b"a secret in a buffer"


def test_secrets_are_not_compared_but_by_identity() -> None:
    assert Secret(VALUE) != SECRET
    assert SECRET in {SECRET}
    assert Secret(VALUE) not in {SECRET}


def test_a_secret_that_is_revealed_into_a_text_is_masked_there() -> None:
    secret = Secret(b"revealed-by-mistake-4711")
    assert mask(f"the value is {secret.reveal().decode()}!") == f"the value is {MASK_KNOWN}!"
    assert b"revealed-by-mistake-4711" in KNOWN_SECRETS._seen
