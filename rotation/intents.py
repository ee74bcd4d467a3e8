"""Open intents: what was begun and has no outcome on record, and what is to be done about it.

A job that lost its message leaves one behind. Jobs are idempotent, so sending one again does no harm, whether it was
done, half done or never begun; it then records its outcome itself. One that is still open when every message must
long have been given up is settled as it stands. Steps of KEK rotations have no message of their own: the timer that
drives them finishes them; if it cannot, a person is told.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Final

from rotation.audit import Outcome, Record
from rotation.message import PLANNED, Action, Job, Trigger
from shared.errors import Integrity, Rejected
from shared.values import tenant_id

SENT_AGAIN_AFTER: Final = timedelta(minutes=30)
"""A message whose worker died is delivered again after 10 minutes; put back, after 15 at most."""
REPEATED_EVERY: Final = timedelta(hours=6)
"""Sent or told again by one watchdog, while nothing changes."""
GIVEN_UP_AFTER: Final = timedelta(days=4)
"""Messages are put back for three days, then poison."""
TOLD_AFTER: Final = timedelta(days=1)
"""Of an intent that has no message."""
SECRETS_TOLD_AFTER: Final = timedelta(days=10)
"""Of one about a secret: a person may have to act first, and the planner tells sooner of what stands still."""


def note(opened: dict[str, Record], record: Record) -> None:
    """Keep in `opened`, by job, the intents without an outcome, as one record after the other is read."""
    if record.outcome == Outcome.INTENT:
        opened[record.job] = record
    else:
        opened.pop(record.job, None)


def openings(records: Iterable[Record]) -> Iterable[Record]:
    """The intents among consecutive records of a stream that have no outcome."""
    opened: dict[str, Record] = {}
    for record in records:
        note(opened, record)
    return opened.values()


class Remedy(Enum):
    """What to do about an open intent."""

    WAIT = auto()  # it may still end by itself
    SEND_AGAIN = auto()  # its message may be lost
    SETTLE = auto()  # it will not end by itself any more
    TELL = auto()  # only a person can find out


def remedy(record: Record, now: datetime) -> Remedy:
    """What to do about an intent that is open now."""
    age = now - record.moment
    if record.action.startswith("secret."):
        return Remedy.TELL if age >= SECRETS_TOLD_AFTER else Remedy.WAIT
    if record.action not in Action:
        return Remedy.TELL if age >= TOLD_AFTER else Remedy.WAIT
    if age >= GIVEN_UP_AFTER:
        return Remedy.SETTLE
    return Remedy.SEND_AGAIN if age >= SENT_AGAIN_AFTER else Remedy.WAIT


def job_of(record: Record) -> Job:
    """The job whose intent that is, as its message said it. Integrity if it names none."""
    action, _, rest = record.job.partition("/")
    tenant, _, request = rest.partition("/")
    try:
        return Job(
            Action(action),
            tenant_id(tenant),
            request,
            Trigger(record.trigger),
            record.actor,
            record.reason,
            target=int(request[1:]) if PLANNED.fullmatch(request) else None,
        )
    except (ValueError, Rejected):
        raise Integrity("an audit record does not name its job", stream=record.stream, seq=record.seq) from None
