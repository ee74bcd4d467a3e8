"""Rotation policies: what the vault accepts as one, and which expiry it gives to a new version.

Nothing rotates by itself here: the policy is kept, answered, and applied when a rotation is asked for.
Source: https://learn.microsoft.com/azure/key-vault/keys/how-to-configure-key-rotation
"""

import calendar
import re
from datetime import UTC, datetime, timedelta

from local.key_vault.body import Body
from local.key_vault.errors import bad_parameter, invalid_property
from local.key_vault.wire import Json, JsonObject

_DURATION = re.compile(r"P(?=\d)(?:(\d{1,4})Y)?(?:(\d{1,4})M)?(?:(\d{1,5})D)?", re.ASCII)
_ACTIONS = {"rotate": "Rotate", "notify": "Notify"}
_ACTION_MARGIN = timedelta(days=7)
_SHORTEST_LIFE = timedelta(days=28)
_LONGEST_YEARS = 1000
_REFERENCE = datetime(2001, 1, 1, tzinfo=UTC)

DEFAULT: JsonObject = {
    "lifetimeActions": [{"trigger": {"timeBeforeExpiry": "P30D"}, "action": {"type": "Notify"}}],
    "attributes": {},
}
"""What a key without a policy of its own answers."""


def later(start: datetime, duration: str) -> datetime:
    """`start` plus an ISO 8601 duration of years, months and days, on the calendar.

    Raises ValueError on any other duration. The last day of a month stays one: 31 January + P1M is 28 or 29 February.
    """
    match = _DURATION.fullmatch(duration)
    if match is None:
        raise ValueError("not a duration in years, months and days")
    years, months, days = (int(part or 0) for part in match.groups())
    month_index = start.year * 12 + start.month - 1 + years * 12 + months
    year, month = month_index // 12, month_index % 12 + 1
    if year >= start.year + _LONGEST_YEARS:
        raise ValueError("too long a duration")
    day = min(start.day, calendar.monthrange(year, month)[1])
    return start.replace(year=year, month=month, day=day) + timedelta(days=days)


def checked(body: Body, now: int, previous: JsonObject | None) -> JsonObject:
    """The policy to keep, from the body of a PUT and the policy that it replaces. Raises a 400."""
    expiry_time = body.part("attributes").optional_text("expiryTime")
    life = None if expiry_time is None else _length(expiry_time, "attributes.expiryTime")
    if life is not None and life < _SHORTEST_LIFE:
        raise bad_parameter("Property attributes.expiryTime must be at least 28 days")
    actions = [_checked_action(action, life) for action in body.parts("lifetimeActions")]
    kinds = [kind for kind, _ in actions]
    if len(set(kinds)) != len(kinds):
        raise bad_parameter("Property lifetimeActions names an action twice")
    created = Body(previous or {}).part("attributes").optional_int("created")
    attributes: dict[str, Json] = {"created": now if created is None else created, "updated": now}
    if expiry_time is not None:
        attributes["expiryTime"] = expiry_time
    return {
        "lifetimeActions": [{"trigger": trigger, "action": {"type": kind}} for kind, trigger in actions],
        "attributes": attributes,
    }


def expiry(policy: JsonObject | None, created: int) -> int | None:
    """When a version created by a rotation expires, in Unix seconds; None without a policy that says so."""
    expiry_time = Body(policy or {}).part("attributes").optional_text("expiryTime")
    if expiry_time is None:
        return None
    return int(later(datetime.fromtimestamp(created, UTC), expiry_time).timestamp())


def _length(duration: str, where: str) -> timedelta:
    try:
        return later(_REFERENCE, duration) - _REFERENCE
    except ValueError:
        raise invalid_property(where) from None


def _checked_action(action: Body, life: timedelta | None) -> tuple[str, dict[str, str]]:
    """The kind of one lifetime action and its trigger."""
    kind = _ACTIONS.get(action.part("action").text("type").lower())
    if kind is None:
        raise invalid_property("lifetimeActions[].action.type")
    trigger = action.part("trigger")
    times = {
        name: duration
        for name in ("timeAfterCreate", "timeBeforeExpiry")
        if (duration := trigger.optional_text(name)) is not None
    }
    if len(times) != 1:
        raise bad_parameter("Property lifetimeActions[].trigger must have exactly one of two times")
    [(name, duration)] = times.items()
    if kind == "Rotate" and name == "timeBeforeExpiry" and life is None:
        raise bad_parameter("Property timeBeforeExpiry needs attributes.expiryTime")
    wait = _length(duration, trigger.path(name))
    if wait < _ACTION_MARGIN or (life is not None and wait > life - _ACTION_MARGIN):
        raise bad_parameter(f"Property {name} must be 7 days after creation and 7 days before expiry")
    return kind, times
