"""What the vaults say of their objects: events read tolerantly, and what follows from the state of an object."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import azure.functions as func
import pytest
from azure.functions.eventgrid import EventGridEventInConverter
from azure.functions.meta import Datum
from hypothesis import given
from hypothesis import strategies as st

from rotation.calendar import Every
from rotation.catalog import Entry, EntryKind, RotatedBy
from rotation.expiry import (
    Happening,
    Sight,
    VaultEvent,
    expiry_alert,
    foreign_alert,
    order_for,
    overdue_alert,
    parse,
    unmanaged_alert,
    unmanaged_event,
    vault_of,
)
from rotation.message import SecretAction, SecretOrder, Trigger
from rotation.secret import next_order, unknown
from shared.errors import InvalidMessage
from shared.redact import mask
from shared.values import ObjectKind, SecretPhase, SecretRotation, Severity, VaultObject
from tests.pure.keyrings import NOW

DOCS = Path(__file__).parents[2] / "docs"
VAULT = "https://atp-kv.vault.azure.net"
VERSION = "0123456789abcdef0123456789abcdef"
DATA: dict[str, Any] = {
    "Id": f"{VAULT}/keys/master-kek/{VERSION}",
    "VaultName": "atp-kv",
    "ObjectType": "Key",
    "ObjectName": "master-kek",
    "Version": VERSION,
    "NBF": None,
    "EXP": 1795000000,
}
NEAR = "Microsoft.KeyVault.KeyNearExpiry"
DAY = timedelta(days=1)
SKEW = timedelta(minutes=50)


def envelope(event_type: object = NEAR, data: object = DATA) -> dict[str, object]:
    """What the SDK makes of an event in the Event Grid schema, as far as it is read."""
    return {"id": "1", "event_type": event_type, "data": data}


# Reading


@pytest.mark.parametrize("kind", ["Key", "Secret", "Certificate"])
@pytest.mark.parametrize("happening", Happening)
@pytest.mark.parametrize("name", ["event_type", "type"], ids=["Event Grid", "CloudEvents"])
def test_every_type_of_event_about_every_kind_of_object_is_read_in_both_schemas(
    kind: str, happening: Happening, name: str
) -> None:
    event = parse({name: f"Microsoft.KeyVault.{kind}{happening}", "data": DATA})
    assert event == VaultEvent(ObjectKind(kind.lower()), happening, "atp-kv", "master-kek", VERSION)


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("near-expiry.json", func.EventGridEvent),
        ("near-expiry-cloud.json", func.CloudEvent),
    ],
)
def test_the_published_examples_are_read_as_the_sdk_decodes_them(file: str, expected: type) -> None:
    (written,) = json.loads((DOCS / file).read_text())
    decoded = EventGridEventInConverter.decode(Datum(json.dumps(written), "json"), trigger_metadata={})
    assert isinstance(decoded, expected)
    event = parse(decoded.to_dict())
    assert (event.vault, event.happening, len(event.version)) == ("atp-kv", Happening.NEAR_EXPIRY, 32)


AS_PUBLISHED: dict[str, dict[str, Any]] = {
    "a blank behind a name": {"ObjectName ": "master-kek"},
    "a blank before a value": {"Version": f" {VERSION}"},
    "names in small letters": {"objectname": "master-kek", "vaultname": "atp-kv", "id": "x"},
    "dates as text": {"EXP": "1795000000", "NBF": ""},
    "something new": {"Region": "westeurope"},
}


@pytest.mark.parametrize("changes", AS_PUBLISHED.values(), ids=list(AS_PUBLISHED))
def test_events_are_read_as_the_published_examples_write_them(changes: dict[str, Any]) -> None:
    replaced = {name.strip().lower() for name in changes}
    data = {name: value for name, value in DATA.items() if name.lower() not in replaced} | changes
    assert parse(envelope(data=data)) == parse(envelope())


WRONG: dict[str, tuple[object, object, str]] = {
    "another type": ("Microsoft.KeyVault.VaultAccessPolicyChanged", DATA, "a type that is not handled"),
    "another service": ("Microsoft.Storage.BlobCreated", DATA, "a type that is not handled"),
    "no type": ("", DATA, "a type that is not handled"),
    "a type that is null": (None, DATA, "a type that is not handled"),
    "a type that is a number": (7, DATA, "a type that is not handled"),
    "a type with something behind it": (f"{NEAR}\n", DATA, "a type that is not handled"),
    "no data": (NEAR, None, "no data"),
    "data as text": (NEAR, "{}", "no data"),
    "data as a list": (NEAR, [DATA], "no data"),
    "empty data": (NEAR, {}, "does not name"),
    "no version": (NEAR, {name: value for name, value in DATA.items() if name != "Version"}, "does not name"),
    "no vault": (NEAR, DATA | {"VaultName": ""}, "does not name"),
    "a name that is an object": (NEAR, DATA | {"ObjectName": {"a": 1}}, "does not name"),
    "a name with a path": (NEAR, DATA | {"ObjectName": "../master-kek"}, "does not name"),
    "a name that is too long": (NEAR, DATA | {"ObjectName": "a" * 128}, "does not name"),
    "a vault that is a host": (NEAR, DATA | {"VaultName": "evil.example"}, "does not name"),
    "a name with a line break": (NEAR, DATA | {"ObjectName": "master\nkek"}, "does not name"),
}


@pytest.mark.parametrize(("event_type", "data", "reason"), WRONG.values(), ids=list(WRONG))
def test_what_is_no_event_of_ours_is_refused_with_its_reason(event_type: object, data: object, reason: str) -> None:
    with pytest.raises(InvalidMessage, match=reason):
        parse(envelope(event_type, data))


def test_an_event_of_a_vault_that_is_not_configured_is_refused() -> None:
    event = parse(envelope())
    assert vault_of(event, ["https://other.vault.azure.net", VAULT]) == VAULT
    with pytest.raises(InvalidMessage, match="not configured"):
        vault_of(event, ["https://atp-kv2.vault.azure.net"])


@given(st.dictionaries(st.sampled_from(list(DATA)) | st.integers(), st.text() | st.none() | st.integers()))
def test_no_data_at_all_gets_past_with_another_error(data: dict[Any, Any]) -> None:
    try:
        event = parse(envelope(data=data))
    except InvalidMessage:
        return
    assert event.kind is ObjectKind.KEY


# Alerts


def entry(kind: EntryKind = EntryKind.KEY, by: RotatedBy = RotatedBy.VAULT, **changes: Any) -> Entry:
    return replace(Entry("thing", kind, "platform", Every(90 * DAY), "thing", rotated_by=by), **changes)


def version(left: timedelta | None, kind: ObjectKind = ObjectKind.KEY, **changes: Any) -> VaultObject:
    """One whose expiry is so far away."""
    expires = None if left is None else NOW + left
    return replace(VaultObject(kind, VAULT, "thing", True, NOW - DAY, expires=expires, version=VERSION), **changes)


SOON = "an object in the vault expires soon"
LAST = "last warning: an object in the vault expires"
ABOUT_TO = "an object in the vault is about to expire"
HAS = "an object in the vault has expired"
# How far away the expiry is, the entry's thresholds, what an event said, and what is told.
STEPS: list[tuple[timedelta | None, tuple[int, ...], Happening | None, tuple[Severity, str] | None]] = [
    (None, (30, 7, 1), None, None),
    (31 * DAY, (30, 7, 1), None, None),
    (31 * DAY, (30, 7, 1), Happening.NEAR_EXPIRY, None),
    (30 * DAY + SKEW, (30, 7, 1), None, None),
    (30 * DAY + SKEW, (30, 7, 1), Happening.NEAR_EXPIRY, (Severity.WARNING, SOON)),
    (30 * DAY, (14, 7), Happening.NEAR_EXPIRY, None),
    (30 * DAY, (30, 7, 1), None, (Severity.WARNING, SOON)),
    (8 * DAY, (30, 7, 1), None, (Severity.WARNING, SOON)),
    (7 * DAY, (30, 7, 1), None, (Severity.CRITICAL, ABOUT_TO)),
    (2 * DAY, (30, 7, 1), Happening.NEAR_EXPIRY, (Severity.CRITICAL, ABOUT_TO)),
    (DAY, (30, 7, 1), None, (Severity.CRITICAL, LAST)),
    (DAY, (7, 2), None, (Severity.CRITICAL, ABOUT_TO)),
    (DAY, (7,), None, (Severity.WARNING, SOON)),
    (SKEW, (30, 7, 1), Happening.EXPIRED, (Severity.CRITICAL, HAS)),
    (20 * DAY, (30, 7, 1), Happening.EXPIRED, (Severity.WARNING, SOON)),
    (timedelta(), (30, 7, 1), None, (Severity.CRITICAL, HAS)),
    (-400 * DAY, (1,), None, (Severity.CRITICAL, HAS)),
]


@pytest.mark.parametrize(("left", "days", "said", "told"), STEPS)
def test_an_expiry_is_told_at_each_threshold_and_more_urgently(
    left: timedelta | None, days: tuple[int, ...], said: Happening | None, told: tuple[Severity, str] | None
) -> None:
    alert = expiry_alert(Sight(entry(alert_days=days), version(left), said=said), NOW)
    assert (alert and (alert.severity, alert.what)) == told
    if alert:
        assert (alert.id, alert.subject) == (f"expiry/key/thing/{VERSION}", "key/thing")
        assert (alert.owner, alert.details["version"], alert.details["vault"]) == ("platform", VERSION, VAULT)


def test_one_version_has_one_alert_and_another_version_kind_or_entry_another_one() -> None:
    def alert_id(left: timedelta = DAY, **changes: Any) -> str:
        alert = expiry_alert(Sight(entry(**changes.pop("entry", {})), version(left, **changes)), NOW)
        assert alert is not None
        return alert.id

    assert alert_id() == alert_id(8 * DAY) == alert_id(-DAY)
    others = {
        alert_id(version="1"),
        alert_id(entry={"name": "other"}),
        alert_id(entry={"kind": EntryKind.CERTIFICATE}),
    }
    assert len(others | {alert_id()}) == 4


@pytest.mark.parametrize(
    ("by", "age", "is_told"),
    [
        (RotatedBy.VAULT, 92 * DAY, True),
        (RotatedBy.APP, 92 * DAY, True),
        (RotatedBy.VAULT, 90.5 * DAY, False),
        (RotatedBy.PERSON, 200 * DAY, False),
    ],
)
def test_a_rotation_that_should_have_happened_by_itself_is_told_a_day_late(
    by: RotatedBy, age: timedelta, is_told: bool
) -> None:
    alert = overdue_alert(Sight(entry(by=by), version(None, created=NOW - age)), NOW)
    assert (alert is not None) == is_told


@pytest.mark.parametrize("change", [{}, {"expires": NOW - timedelta(days=1)}, {"enabled": False}])
def test_a_late_rotation_that_is_under_way_is_not_told(change: dict[str, Any]) -> None:
    late = rotation(since=NOW - 95 * DAY)
    found = replace(version(None, ObjectKind.SECRET), **change)
    sight = Sight(entry(EntryKind.SECRET, RotatedBy.APP), found, late)
    assert overdue_alert(sight, NOW) is not None
    under_way = replace(late, phase=SecretPhase.STAGED)
    assert overdue_alert(replace(sight, rotation=under_way), NOW) is None


def test_an_unknown_object_has_one_alert_and_one_record_however_it_is_spelled_and_whichever_its_version() -> None:
    found = version(None, ObjectKind.SECRET)
    again = replace(found, name="Thing", version="2" * 32)
    ids = {unmanaged_alert(each, NOW).id for each in (found, again)}
    assert ids == {"unmanaged/atp-kv.vault.azure.net/secret/thing"}
    event = unmanaged_event(found, Trigger.VAULT)
    assert (event.action, event.subject) == ("object.unknown", "secret/thing")
    assert event.id == unmanaged_event(found, Trigger.SCHEDULE).id


@pytest.mark.parametrize("name", ["AKIA" + "IOSFODNN7EXAMPL3", "sk-" + "Ab3dEf9h" * 5, "SK-" + "AB3DEF9H" * 5])
def test_an_object_that_is_named_after_a_secret_is_recorded_and_alerted_under_a_digest(name: str) -> None:
    found = version(None, ObjectKind.SECRET, name=name)
    subject, alert = unmanaged_event(found, Trigger.VAULT).subject, unmanaged_alert(found, NOW)
    assert alert.subject == subject
    for text in (subject, alert.id):  # what is not clean cannot be stored, and would end a scan
        assert name[3:].lower() not in text.lower()
        assert mask(text) == text


# Orders


def rotation(**changes: Any) -> SecretRotation:
    """A secret at rest whose newest version is on record."""
    row = replace(unknown("thing", NOW - 50 * DAY), generation=3, current=VERSION, since=NOW - 50 * DAY)
    return replace(row, **changes)


def ordered(left: timedelta | None, row: SecretRotation | None, **changes: Any) -> tuple[SecretAction, str] | None:
    found = version(left, ObjectKind.SECRET, **changes.pop("version", {}))
    order = order_for(Sight(entry(EntryKind.SECRET, RotatedBy.APP), found, row, **changes), NOW)
    return (order.action, order.request) if order else None


def test_a_secret_that_is_near_its_expiry_is_rotated_by_the_order_that_the_planner_would_send() -> None:
    row = rotation(since=NOW - 91 * DAY)
    secret = entry(EntryKind.SECRET, RotatedBy.APP)
    order = order_for(Sight(secret, version(20 * DAY, ObjectKind.SECRET), row), NOW)
    planned = next_order(row, secret, NOW)
    assert isinstance(order, SecretOrder)
    assert planned is not None
    assert (order.id, order.generation, order.trigger) == (planned.id, 4, Trigger.VAULT)


@pytest.mark.parametrize("said", [Happening.NEAR_EXPIRY, Happening.EXPIRED])
def test_what_the_vault_says_of_the_version_in_use_counts_though_our_clock_is_behind(said: Happening) -> None:
    assert ordered(30 * DAY + SKEW, rotation()) is None
    assert ordered(30 * DAY + SKEW, rotation(), said=said) == (SecretAction.ROTATE, "g4")


def test_what_an_event_says_does_not_count_when_somebody_has_moved_the_date() -> None:
    assert ordered(40 * DAY, rotation(), said=Happening.EXPIRED) is None


NOT_AGAIN: dict[str, SecretRotation] = {
    "its rotation is under way": rotation(phase=SecretPhase.STAGED),
    "it is in dual running": rotation(phase=SecretPhase.GRACE),
    "a rotation has failed a moment ago": rotation(order="secret.rotate/thing/g3", phase_since=NOW),
}


@pytest.mark.parametrize("row", NOT_AGAIN.values(), ids=list(NOT_AGAIN))
def test_a_secret_near_its_expiry_is_not_ordered_when(row: SecretRotation) -> None:
    assert ordered(DAY, row) is None


def test_a_secret_that_nobody_has_looked_at_is_looked_at_or_rotated_without_an_alert() -> None:
    assert ordered(60 * DAY, None) == (SecretAction.DRIVE, f"version-{VERSION}")
    assert ordered(DAY, None) == (SecretAction.ROTATE, "g1")
    assert foreign_alert(Sight(entry(EntryKind.SECRET), version(None, ObjectKind.SECRET)), NOW) is None


def test_a_version_that_somebody_else_has_made_is_told_and_looked_at() -> None:
    row = rotation(current="f" * 32)
    assert ordered(60 * DAY, row) == (SecretAction.DRIVE, f"version-{VERSION}")
    alert = foreign_alert(Sight(entry(EntryKind.SECRET), version(None, ObjectKind.SECRET), row), NOW)
    assert alert is not None
    assert (alert.id, alert.details["known"]) == (f"foreign/secret/thing/{VERSION}", "f" * 32)


@pytest.mark.parametrize(
    ("row", "is_ours"), [(rotation(), False), (rotation(current="f" * 32), True)], ids=["on record", "tagged as ours"]
)
def test_a_version_of_ours_is_routine(row: SecretRotation, is_ours: bool) -> None:
    assert ordered(60 * DAY, row, is_ours=is_ours) is None
    sight = Sight(entry(EntryKind.SECRET), version(None, ObjectKind.SECRET), row, is_ours=is_ours)
    assert foreign_alert(sight, NOW) is None


@pytest.mark.parametrize("kind", [EntryKind.KEY, EntryKind.CERTIFICATE, EntryKind.KEK])
def test_nothing_but_a_secret_is_ordered_as_one(kind: EntryKind) -> None:
    assert order_for(Sight(entry(kind), version(-DAY), said=Happening.EXPIRED), NOW) is None
