"""The inventory: what is said of each entry and object, the policies that the catalog asks for, and the calendar."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotation import icalendar
from rotation.calendar import Calendar, Every, Period
from rotation.catalog import Catalog, Entry, EntryKind, RotatedBy, SecretPolicy
from rotation.inventory import Difference, Known, Row, State, entry_row
from rotation.inventory_scan import InventoryScan
from rotation.renewal import longest_life, shortfalls, wanted
from rotation.upcoming import Due, upcoming
from shared.values import (
    KekRecord,
    KekRun,
    KeyPointer,
    Kid,
    ObjectKind,
    Phase,
    RenewalPolicy,
    SecretPhase,
    SecretRotation,
    VaultObject,
)
from tests.pure.keyrings import POLICY
from tests.simulator import OTHER_VAULT_URL, VAULT_URL, SimKeks, SimSecretRotations, SimVaultObjects, World

NOW = datetime(2026, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)
KEY = Entry("signing", EntryKind.KEY, "security", Every(90 * DAY), "atp-signing", rotated_by=RotatedBy.VAULT)
SECRET = Entry("sql", EntryKind.SECRET, "platform", Calendar(Period.QUARTERLY), "sql-login", grace=7 * DAY)
CERTIFICATE = Entry("tls", EntryKind.CERTIFICATE, "platform", Every(60 * DAY), "tls", rotated_by=RotatedBy.VAULT)
KEK = Entry("master-kek", EntryKind.KEK, "security", Every(365 * DAY), "master-kek", grace=7 * DAY)
DEK = Entry("tenant-dek", EntryKind.DEK, "security", Every(90 * DAY), "tenant-dek", grace=7 * DAY)
MESH = Entry("mesh", EntryKind.CERTIFICATE, "platform", Every(DAY), "mesh", rotated_by=RotatedBy.SERVICE_MESH)
ENTRIES = (KEY, SECRET, CERTIFICATE, KEK, DEK, MESH)
RUN = KekRun("master-kek", 2, Phase.SWEEPING, NOW, NOW, Kid("old"), "r")
STEADY = SecretRotation("sql", SecretPhase.STEADY, NOW, 3, current="a" * 32, since=NOW - 20 * DAY)


def catalog(*entries: Entry) -> Catalog:
    secrets = {entry.name: SecretPolicy(entry, "manual", None) for entry in entries if entry.kind is EntryKind.SECRET}
    return Catalog({}, POLICY, secrets, {entry.name: entry for entry in entries})


def found(entry: Entry, age: int, life: int | None, **changes: object) -> VaultObject:
    """The entry's object, so many days old, that lives so many days."""
    created = NOW - age * DAY
    expires = None if life is None else created + life * DAY
    made = VaultObject(entry.object_kind, VAULT_URL, entry.object, True, created, expires=expires)
    return replace(made, **changes)  # type: ignore[arg-type] # any field, by name


def kek(run: KekRun | None = None, since: int = 10) -> Known:
    pointer = KeyPointer("master-kek", Kid(f"{VAULT_URL}/keys/master-kek/{'b' * 32}"), NOW - since * DAY)
    return Known(kek=KekRecord(pointer, run))


ROTATES = RenewalPolicy(120 * DAY, rotates_after=90 * DAY, notifies_before=30 * DAY)
# what the vault has, what else is known -> state and differences
ROWS: dict[str, tuple[Entry, VaultObject | None, Known, State, set[Difference]]] = {
    "a key in order": (KEY, found(KEY, 10, 120), Known(policy=ROTATES), State.CURRENT, set()),
    "a key that is not there": (KEY, None, Known(), State.MISSING, {Difference.MISSING}),
    "a key that does not expire": (KEY, found(KEY, 10, None), Known(), State.CURRENT, {Difference.NO_EXPIRY}),
    "a key that need not expire": (
        replace(KEY, expires=False),
        found(KEY, 10, None),
        Known(policy=RenewalPolicy(rotates_after=90 * DAY)),
        State.CURRENT,
        set(),
    ),
    "a key that expires late": (KEY, found(KEY, 10, 181), Known(), State.CURRENT, {Difference.LATE_EXPIRY}),
    "a key that lives two intervals": (KEY, found(KEY, 10, 180), Known(), State.CURRENT, set()),
    "a key on its day": (KEY, found(KEY, 91, 120), Known(), State.CURRENT, set()),
    "a key a day after its day": (KEY, found(KEY, 92, 120), Known(), State.OVERDUE, {Difference.OVERDUE}),
    "a key that has expired": (
        KEY,
        found(KEY, 120, 120),
        Known(),
        State.EXPIRED,
        {Difference.EXPIRED, Difference.OVERDUE},
    ),
    "a disabled key": (KEY, found(KEY, 1, 120, enabled=False), Known(), State.DISABLED, {Difference.DISABLED}),
    "a key without a policy": (
        KEY,
        found(KEY, 1, 120),
        Known(policy=RenewalPolicy()),
        State.CURRENT,
        {Difference.WEAK_POLICY},
    ),
    "a secret at rest": (SECRET, found(SECRET, 20, 90), Known(STEADY), State.CURRENT, set()),
    "a secret that is tried": (
        SECRET,
        found(SECRET, 20, 90),
        Known(replace(STEADY, phase=SecretPhase.TESTED)),
        State.ROTATING,
        set(),
    ),
    "a secret with two in use": (
        SECRET,
        found(SECRET, 20, 90),
        Known(replace(STEADY, phase=SecretPhase.GRACE)),
        State.GRACE,
        set(),
    ),
    "a secret going back": (
        SECRET,
        found(SECRET, 20, 90),
        Known(replace(STEADY, phase=SecretPhase.RESTORING)),
        State.ROTATING,
        set(),
    ),
    "a secret whose quarter began": (
        SECRET,
        found(SECRET, 80, 90),
        Known(replace(STEADY, since=datetime(2026, 3, 31, tzinfo=UTC))),
        State.OVERDUE,
        {Difference.OVERDUE},
    ),
    "a secret that was changed by hand lately": (
        SECRET,
        found(SECRET, 1, 90),
        Known(replace(STEADY, since=datetime(2026, 3, 31, tzinfo=UTC))),
        State.OVERDUE,
        {Difference.OVERDUE},
    ),
    "a certificate in order": (CERTIFICATE, found(CERTIFICATE, 1, 90), Known(), State.CURRENT, set()),
    "a certificate of a year": (
        CERTIFICATE,
        found(CERTIFICATE, 1, 365),
        Known(),
        State.CURRENT,
        {Difference.LONG_VALIDITY},
    ),
    "a certificate that was valid before it was made": (
        CERTIFICATE,
        found(CERTIFICATE, 1, 90, not_before=NOW - 3 * DAY),
        Known(),
        State.CURRENT,
        {Difference.LONG_VALIDITY},
    ),
    "a KEK at rest": (KEK, found(KEK, 10, 731), kek(), State.CURRENT, set()),
    "a KEK that is swept": (KEK, found(KEK, 10, 731), kek(RUN), State.ROTATING, set()),
    "a KEK in grace": (KEK, found(KEK, 10, 731), kek(replace(RUN, phase=Phase.SOAKING)), State.GRACE, set()),
    "a KEK whose rotation is over": (
        KEK,
        found(KEK, 10, 731),
        kek(replace(RUN, phase=Phase.CLOSED)),
        State.CURRENT,
        set(),
    ),
    "a KEK that points to an old version": (
        KEK,
        found(KEK, 10, 731),
        kek(since=400),
        State.OVERDUE,
        {Difference.OVERDUE},
    ),
    "the tenants' DEKs": (DEK, None, Known(), State.ELSEWHERE, set()),
    "what the mesh keeps": (MESH, None, Known(), State.ELSEWHERE, set()),
}


@pytest.mark.parametrize(("entry", "thing", "known", "state", "differences"), ROWS.values(), ids=list(ROWS))
def test_state_and_differences_follow_from_what_is_known(
    entry: Entry, thing: VaultObject | None, known: Known, state: State, differences: set[Difference]
) -> None:
    row = entry_row(entry, thing, known, NOW)
    assert (row.state, set(row.differences)) == (state, differences)
    assert (row.owner, row.rotated_by, row.kind) == (entry.owner, entry.rotated_by, entry.kind)


def test_every_difference_but_that_of_strangers_has_its_case() -> None:
    cases = {difference for *_, differences in ROWS.values() for difference in differences}
    assert cases == set(Difference) - {Difference.UNMANAGED}
    assert {state for _, _, _, state, _ in ROWS.values()} == set(State) - {State.UNMANAGED}


def test_the_version_in_use_is_the_one_that_was_published_not_the_newest() -> None:
    assert entry_row(SECRET, found(SECRET, 1, 90), Known(STEADY, newest="c" * 32), NOW).version == "a" * 32
    assert entry_row(KEK, found(KEK, 1, 731), kek(), NOW).version == "b" * 32
    assert entry_row(KEY, found(KEY, 1, 120), Known(newest="c" * 32), NOW).version == "c" * 32


def scanned(world: World, *entries: Entry, versions: bool = False) -> list[Row]:
    scan = InventoryScan(catalog(*entries), SimVaultObjects(world), SimKeks(world), SimSecretRotations(world))
    return list(scan.rows(NOW, versions=versions))


def test_every_entry_and_every_stranger_has_one_row() -> None:
    world = World(now=NOW)
    for entry in ENTRIES:
        if entry.in_vault:
            world.add_object(entry.object_kind, entry.object.upper(), expires=NOW + 30 * DAY)
    world.add_object(ObjectKind.SECRET, "forgotten")
    world.add_object(ObjectKind.SECRET, SECRET.object, OTHER_VAULT_URL)
    rows = scanned(world, *ENTRIES)
    assert sorted(row.entry for row in rows if row.entry) == sorted(entry.name for entry in ENTRIES)
    strangers = {(row.object, row.vault) for row in rows if not row.entry}
    assert strangers == {("forgotten", VAULT_URL), (SECRET.object, OTHER_VAULT_URL)}
    assert all(row.differences == (Difference.UNMANAGED,) for row in rows if not row.entry)


def test_the_key_and_secret_of_a_certificate_are_not_counted_again() -> None:
    world = World(now=NOW)
    world.add_object(ObjectKind.CERTIFICATE, "stray")
    (row,) = scanned(world)
    assert (row.kind, row.object, row.state) == (ObjectKind.CERTIFICATE, "stray", State.UNMANAGED)


def test_a_value_that_waits_aside_belongs_to_its_secret() -> None:
    world = World(now=NOW)
    world.add_object(ObjectKind.SECRET, SECRET.object)
    world.add_object(ObjectKind.SECRET, f"{SECRET.object}-pending")
    world.add_object(ObjectKind.SECRET, "other-pending")
    assert {row.entry or row.object for row in scanned(world, SECRET)} == {"sql", "other-pending"}


def test_a_kek_is_where_its_pointer_says_and_its_old_home_is_no_stranger() -> None:
    world = World(now=NOW)
    world.pointers["master-kek"] = KeyPointer(
        "master-kek", Kid(f"{OTHER_VAULT_URL}/keys/master-kek/{'b' * 32}"), NOW - DAY
    )
    for vault in (VAULT_URL, OTHER_VAULT_URL):
        world.add_object(ObjectKind.KEY, "master-kek", vault, expires=NOW + 365 * DAY)
    (row,) = scanned(world, KEK)
    assert (row.vault, row.state) == (OTHER_VAULT_URL, State.CURRENT)


def test_versions_are_counted_only_where_asked() -> None:
    world = World(now=NOW)
    *_, newest = (world.add_object(ObjectKind.KEY, KEY.object) for _ in range(3))
    (row,) = scanned(world, KEY)
    assert row.versions is None
    assert "objects.versions" not in world.call_names
    (row,) = scanned(world, KEY, versions=True)
    assert (row.versions, row.version) == (3, newest.version)


def test_where_no_secret_is_in_the_catalog_no_rotation_is_asked_for() -> None:
    world = World(now=NOW)
    rows = InventoryScan(catalog(KEY), SimVaultObjects(world), SimKeks(world), None).rows(NOW)
    assert [row.state for row in rows] == [State.MISSING]


POLICIES = st.builds(
    RenewalPolicy,
    *(st.none() | st.integers(7, 800).map(lambda days: timedelta(days=days)) for _ in range(4)),
)
RENEWED = st.builds(
    lambda days, alert, expires: Entry(
        "e",
        EntryKind.KEY,
        "o",
        Every(timedelta(days=days)),
        "e",
        alert_days=(alert,),
        rotated_by=RotatedBy.VAULT,
        expires=expires,
    ),
    st.integers(7, 3650),
    st.integers(1, 365),
    st.booleans(),
)


@given(RENEWED, POLICIES)
def test_what_is_wanted_of_a_key_is_never_weak_and_always_within_the_limits_of_the_vault(
    entry: Entry, policy: RenewalPolicy
) -> None:
    new = wanted(entry, policy)
    assert shortfalls(entry, new) == ()
    assert new.rotates_after is not None
    assert new.rotates_after >= 7 * DAY
    if new.lifetime is not None:
        assert new.lifetime >= 28 * DAY
        assert new.lifetime - new.rotates_after >= 7 * DAY
        assert new.notifies_before is not None
        assert 7 * DAY <= new.notifies_before <= new.lifetime - 7 * DAY


@pytest.mark.parametrize(("months", "days"), [(1, 31), (3, 93), (6, 186), (12, 366), (24, 732)])
def test_a_certificate_renews_within_its_interval_and_when_people_are_told_at_the_latest(
    months: int, days: int
) -> None:
    entry = replace(CERTIFICATE, schedule=Every(365 * DAY))
    new = wanted(entry, RenewalPolicy(lifetime=days * DAY, rotates_after=days * DAY * 0.99))
    assert (new.rotates_after, new.lifetime) == (None, days * DAY)
    assert new.rotates_before is not None
    assert new.rotates_before <= months * 27 * DAY
    assert new.longest is not None
    assert new.longest <= 365 * DAY or months == 24


WEAK: dict[str, tuple[Entry, RenewalPolicy, tuple[str, ...]]] = {
    "what the catalog says": (KEY, ROTATES, ()),
    "stricter than the catalog": (KEY, replace(ROTATES, rotates_after=30 * DAY), ()),
    "no rotation": (
        KEY,
        replace(ROTATES, rotates_after=None),
        ("the vault makes no versions by itself",),
    ),
    "a later rotation": (
        KEY,
        replace(ROTATES, rotates_after=93 * DAY),
        ("a new version after 93 days instead of 90",),
    ),
    "a rotation before a late expiry": (
        KEY,
        RenewalPolicy(180 * DAY, rotates_before=30 * DAY, notifies_before=30 * DAY),
        ("a new version after 150 days instead of 90",),
    ),
    "no expiry, no notice": (
        KEY,
        RenewalPolicy(rotates_after=90 * DAY),
        ("versions do not expire", "no notice before a version expires"),
    ),
    "a late expiry": (
        KEY,
        replace(ROTATES, lifetime=181 * DAY),
        ("versions expire after 181 days instead of 180 at most",),
    ),
    "a KEK that is announced": (KEK, RenewalPolicy(732 * DAY, notifies_before=30 * DAY), ()),
    "a KEK that the vault rotates": (
        KEK,
        RenewalPolicy(rotates_after=90 * DAY),
        ("the vault makes versions by itself", "no notice before a version expires"),
    ),
    "a certificate that renews": (CERTIFICATE, RenewalPolicy(90 * DAY, rotates_before=30 * DAY), ()),
    "a certificate that nobody renews": (
        CERTIFICATE,
        RenewalPolicy(90 * DAY, notifies_before=18 * DAY),
        ("the vault makes no versions by itself",),
    ),
}


@pytest.mark.parametrize(("entry", "policy", "weak"), WEAK.values(), ids=list(WEAK))
def test_a_policy_falls_short_in_what_it_allows_more_than_the_catalog(
    entry: Entry, policy: RenewalPolicy, weak: tuple[str, ...]
) -> None:
    assert shortfalls(entry, policy) == weak
    assert shortfalls(entry, wanted(entry, policy)) == ()


def test_a_kek_keeps_the_life_that_its_policy_gives_it() -> None:
    assert wanted(KEK, RenewalPolicy(732 * DAY, rotates_after=365 * DAY)) == RenewalPolicy(
        732 * DAY, notifies_before=30 * DAY
    )
    assert longest_life(KEK) >= 732 * DAY


def dates(*rows: tuple[Entry, datetime | None], until: datetime = NOW + 365 * DAY) -> list[Due]:
    seen = [replace(entry_row(entry, None, Known(), NOW), rotated=rotated) for entry, rotated in rows]
    return upcoming(seen, {entry.name: entry for entry, _ in rows}, NOW, until)


def test_an_interval_counts_from_the_last_rotation() -> None:
    assert [due.at for due in dates((KEY, NOW - 10 * DAY))] == [NOW + days * DAY for days in (80, 170, 260, 350)]


def test_the_calendar_is_the_calendar() -> None:
    found = [due.at for due in dates((SECRET, NOW - 10 * DAY))]
    assert [f"{at:%Y-%m-%d %H:%M}" for at in found if at] == [
        "2026-07-01 02:00",
        "2026-10-01 02:00",
        "2027-01-01 02:00",
        "2027-04-01 02:00",
    ]


def test_what_is_late_is_shown_as_late_and_counts_on_from_now() -> None:
    first, second, *_ = dates((KEY, NOW - 100 * DAY))
    assert (first.at, first.late) == (NOW - 10 * DAY, True)
    assert (second.at, second.late) == (NOW + 90 * DAY, False)


def test_what_rotates_daily_has_one_line() -> None:
    (due,) = dates((MESH, None))
    assert (due.at, due.since, due.every) == (NOW + DAY, None, DAY)


def test_the_tenants_have_no_common_date_and_stand_last() -> None:
    found = dates((DEK, None), (KEY, NOW))
    assert found[-1] == Due(DEK, None, None)
    times = [due.at for due in found[:-1] if due.at]
    assert all(earlier < later for earlier, later in pairwise(times))


def file(found: Sequence[Due], now: datetime = NOW) -> list[str]:
    return list(icalendar.lines(found, now, NOW + 365 * DAY))


def unfolded(lines: Sequence[str]) -> list[str]:
    """RFC 5545 section 3.1, undone."""
    return "\r\n".join(lines).replace("\r\n ", "").split("\r\n")


def events(lines: Sequence[str]) -> list[dict[str, str]]:
    """The properties of every event, by the grammar of RFC 5545 section 3.4 and 3.6."""
    text = unfolded(lines)
    assert (text[0], text[1], text[-1]) == ("BEGIN:VCALENDAR", "VERSION:2.0", "END:VCALENDAR")
    found: list[dict[str, str]] = []
    inside = False
    for line in text[1:-1]:
        name, _, value = line.partition(":")
        if line in ("BEGIN:VEVENT", "END:VEVENT"):
            assert inside == (name == "END")
            inside = not inside
            found += [{}] if inside else []
        elif inside:
            assert name not in found[-1], "each of these properties may be there once"
            found[-1][name] = value
    assert not inside
    return found


def test_each_date_is_an_event_with_what_rfc_5545_requires() -> None:
    found = events(file(dates((KEY, NOW - 10 * DAY), (MESH, None), (DEK, None))))
    assert len(found) == 5
    for event in found:
        assert {"UID", "DTSTAMP", "DTSTART", "SUMMARY"} <= event.keys()
        assert event["DTSTAMP"] == "20260601T000000Z"
    assert found[0] == {
        "UID": found[0]["UID"],
        "DTSTAMP": "20260601T000000Z",
        "DTSTART": "20260602T000000Z",
        "RRULE": "FREQ=DAILY;INTERVAL=1;UNTIL=20270601T000000Z",
        "SUMMARY": "mesh is to be rotated",
        "DESCRIPTION": "certificate\\, daily\\, by service-mesh\\, last rotation unknown\\nowner: platform",
        "CATEGORIES": "certificate,platform",
        "TRANSP": "TRANSPARENT",
    }


def test_the_same_date_has_the_same_identity_whenever_the_file_is_made() -> None:
    today = events(file(dates((KEY, NOW - 10 * DAY))))
    tomorrow = events(file(dates((KEY, NOW - 10 * DAY)), NOW + DAY))
    assert [event["UID"] for event in today] == [event["UID"] for event in tomorrow]
    assert len({event["UID"] for event in today}) == len(today)


def test_what_has_no_known_rotation_keeps_its_identity_though_its_day_moves() -> None:
    today = events(file(dates((KEY, None))))
    later = [replace(due, at=due.at + DAY) for due in dates((KEY, None)) if due.at]
    assert [event["UID"] for event in events(file(later))] == [event["UID"] for event in today]
    assert len({event["UID"] for event in today}) == len(today)


def test_what_is_late_is_no_coming_event() -> None:
    first, *_ = events(file(dates((KEY, NOW - 100 * DAY))))
    assert first["DTSTART"] == "20260830T000000Z"


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=300))
def test_any_text_comes_back_from_lines_of_75_octets(owner: str) -> None:
    entry = replace(KEY, owner=owner)
    lines = file([Due(entry, NOW + DAY, NOW)])
    assert all(len(line.encode()) <= 75 for line in lines)
    (event,) = events(lines)
    _, _, said = event["DESCRIPTION"].partition("\\nowner: ")
    assert said.replace("\\;", ";").replace("\\,", ",").replace("\\\\", "\\") == owner
