"""Asking for a change by queue message, as anybody else does, and waiting until it is made."""

import argparse
import getpass
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from rotation.alert_job import closing_event
from rotation.commands.ports import Ports
from shared.errors import InvalidMessage, Rejected, Transient
from shared.redact import mask
from shared.values import Closing

LOOK_EVERY_S: Final = 0.5
_LONGEST_SHOWN: Final = 80  # characters of what somebody typed


@dataclass(frozen=True, slots=True)
class Asked:
    """A message that was sent, and how to see that what it asks for is done."""

    id: str
    subject: str
    is_done: Callable[[], bool]


def accepted[M](parse: Callable[[bytes, str], M], body: str, request: str, actor: str | None) -> M:
    """The message as the app will read it; Rejected or InvalidMessage if it would refuse it."""
    try:
        return parse(body.encode(), request)
    except InvalidMessage as error:
        if actor is None and error.fields.get("field") == "actor":
            raise Rejected(
                "this user's name cannot be recorded: say who you are with --actor", **error.fields
            ) from None
        raise


def new_request() -> str:
    """What tells this ask from all others."""
    return f"cli-{uuid.uuid4().hex[:12]}"


def user() -> str:
    """Who asks, unless said otherwise."""
    try:
        return getpass.getuser()
    except OSError:  # as in a container, whose user may have no name
        return "operator"


def recordable_user(options: argparse.Namespace) -> str:
    """Who asks, and not by a message; Rejected if the audit trail has no room for the name."""
    by: str = options.actor or user()
    try:
        closing_event("", Closing(0, by, ""))
    except ValueError:
        raise Rejected("this name cannot be recorded: say who you are with --actor", actor=quoted([by])) from None
    return by


def quoted(texts: Sequence[str]) -> str:
    """What somebody typed, as far as it can be shown."""
    shown = (mask(text) if text.isprintable() and len(text) <= _LONGEST_SHOWN else "(unprintable)" for text in texts)
    return ", ".join(f"'{text}'" for text in shown)


def follow(ports: Ports, asked: Sequence[Asked], seconds: int, subjects: str) -> Iterator[str]:
    """Say of each when it is done; Rejected if one ends as a dead letter, Transient when the time is over.

    `subjects` is what an error calls those that are left.
    """
    deadline = time.monotonic() + seconds
    left = list(asked)
    while True:
        for each in tuple(left):
            if each.is_done():
                left.remove(each)
                yield f"done: {each.id}"
        if not left:
            return
        reasons = {letter.id: letter.reason for letter in ports.dead_letters.all()}
        for each in left:
            if each.id in reasons:
                raise Rejected("the job was given up; see `letters list`", id=each.id, reason=reasons[each.id])
        if time.monotonic() > deadline:
            names = ", ".join(each.subject for each in left)
            raise Transient("asked, but not done in time; it may still be done", seconds=seconds, **{subjects: names})
        sys.stdout.flush()
        time.sleep(LOOK_EVERY_S)
