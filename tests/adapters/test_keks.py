"""The contract of the port `Keks`."""

from collections.abc import Callable
from dataclasses import fields, replace
from datetime import timedelta

import pytest

from shared.errors import Conflict
from shared.values import Etag, KekRecord, KekRun, KeyKind, KeyPointer, KeyShape, Kid, Move, Phase, TenantId
from tests.adapters.backends import Backend
from tests.pure.keyrings import KID, NOW

KEK = "master-kek"
NEW_KID = Kid(KID[:-1] + "0")
POINTER = KeyPointer(KEK, KID, NOW)
STALE = Etag("W/\"datetime'2020-01-01T00%3A00%3A00.0000000Z'\"")
MOVE = Move(
    at=Phase.SWEEPING,
    to=Phase.PAUSED,
    job="kek.pause/master-kek/r1",
    action="kek.pause",
    actor="alice@atp",
    trigger="manual",
    reason='because of "Zoë 密钥" \\ 🔑',
    applied=True,
    failure="none",
    shard=0,
    tenant=TenantId("acme"),
)
FIRST = KekRun(KEK, 1, Phase.PLANNED, NOW, NOW, KID, "kek.rotate/master-kek/r1")
FULL = KekRun(
    kek=KEK,
    generation=1,
    phase=Phase.ROLLING_BACK,
    started=NOW,
    phase_since=NOW + timedelta(microseconds=1),
    old_kid=KID,
    request="kek.rotate/master-kek/r1",
    new_kid=NEW_KID,
    shape=KeyShape(KeyKind.OCT_HSM, 256),
    vault="https://other.vault.azure.net",
    deadline=NOW + timedelta(days=1),
    compromised=True,
    resumes=Phase.SWEEPING,
    flipped=NOW + timedelta(days=2),
    retired=NOW + timedelta(days=3),
    has_retired=True,
    dropping=True,
    step=17,
    pass_number=4,
    pass_since=NOW + timedelta(days=4),
    fanned_out=True,
    resent=NOW + timedelta(days=5),
    clean_passes=1,
    held_shards=(0, 7, 63),
    held_tenants=(TenantId("acme"), TenantId("z.9")),
    rows=1_000_001,
    root_before="ab" * 32,
    root_after="cd" * 32,
    births=3,
    removed=2,
    verdict="Zoë 密钥",
    move=MOVE,
)


def unread(run: KekRun | None) -> KekRun | None:
    """The run as its author made it."""
    return replace(run, etag=None) if run else None


def read(backend: Backend) -> KekRecord:
    record = backend.keks.read(KEK)
    assert record is not None
    return record


def stored(backend: Backend, run: KekRun | None = None) -> KekRecord:
    """The KEK with that run, as read back."""
    backend.keks.add(POINTER)
    if run is not None:
        old = read(backend)
        backend.keks.replace(old, KekRecord(replace(old.pointer, generation=run.generation), run))
    return read(backend)


def moved(record: KekRecord) -> KekRecord:
    """The record with its run one step further."""
    assert record.run is not None
    return replace(record, run=replace(record.run, step=record.run.step + 1))


def followed(record: KekRecord) -> KekRecord:
    """The record with the next run."""
    number = record.pointer.generation + 1
    return KekRecord(replace(record.pointer, generation=number), replace(FIRST, generation=number))


def test_the_full_run_of_this_test_has_no_column_left_at_its_default() -> None:
    for full, plain in ((FULL, FIRST), (MOVE, Move(MOVE.at, MOVE.to, "", "", "", "", ""))):
        same = {each.name for each in fields(full) if getattr(full, each.name) == getattr(plain, each.name)}
        assert same <= {"kek", "generation", "started", "old_kid", "request", "at", "to", "etag"}


def test_a_kek_reads_as_none_before_its_first_pointer_and_as_added_after(backend: Backend) -> None:
    assert backend.keks.pointer(KEK) is None
    assert backend.keks.read(KEK) is None
    assert list(backend.keks.history(KEK)) == []
    backend.keks.add(POINTER)
    pointer = backend.keks.pointer(KEK)
    assert pointer is not None
    assert pointer.etag is not None
    assert replace(pointer, etag=None) == POINTER
    assert backend.keks.read(KEK) == KekRecord(pointer)
    assert list(backend.keks.history(KEK)) == []
    assert backend.keks.pointer("other-kek") is None
    assert backend.keks.read("other-kek") is None


def test_a_pointer_with_all_its_fields_reads_back_as_added(backend: Backend) -> None:
    full = replace(POINTER, previous_kid=NEW_KID)
    backend.keks.add(full)
    assert replace(read(backend).pointer, etag=None) == full


def test_adding_a_second_pointer_is_a_conflict_and_the_first_stays(backend: Backend) -> None:
    before = stored(backend)
    with pytest.raises(Conflict):
        backend.keks.add(replace(POINTER, since=NOW + timedelta(seconds=1)))
    assert read(backend) == before


@pytest.mark.parametrize("run", [FIRST, FULL], ids=["plain", "full"])
def test_a_run_reads_back_as_written_whether_inserted_or_changed(backend: Backend, run: KekRun) -> None:
    inserted = stored(backend, run)
    assert inserted.run is not None
    assert inserted.run.etag is not None
    assert unread(inserted.run) == run
    for other in (FULL, FIRST, FULL):
        before = read(backend)
        backend.keks.replace(before, replace(before, run=other))
        assert unread(read(backend).run) == other


def test_a_replace_changes_pointer_and_run_together(backend: Backend) -> None:
    old = stored(backend, FIRST)
    assert old.run is not None
    pointer = replace(old.pointer, kid=NEW_KID, previous_kid=KID, since=NOW + timedelta(days=1))
    backend.keks.replace(old, KekRecord(pointer, replace(old.run, phase=Phase.FLIPPED)))
    new = read(backend)
    assert new.run is not None
    assert replace(new.pointer, etag=None) == replace(pointer, etag=None)
    assert new.run.phase is Phase.FLIPPED
    assert new.pointer.etag != old.pointer.etag
    assert new.run.etag != old.run.etag


def test_a_previous_version_can_be_forgotten(backend: Backend) -> None:
    old = stored(backend, FIRST)
    backend.keks.replace(old, replace(old, pointer=replace(old.pointer, previous_kid=NEW_KID)))
    kept = read(backend)
    backend.keks.replace(kept, replace(kept, pointer=replace(kept.pointer, previous_kid=None)))
    assert read(backend).pointer.previous_kid is None


def test_a_read_gives_the_newest_run_and_the_history_all_of_them(backend: Backend) -> None:
    stored(backend, FIRST)
    for _ in range(10):
        before = read(backend)
        backend.keks.replace(before, followed(before))
    newest = read(backend)
    assert newest.run is not None
    assert newest.run.generation == newest.pointer.generation == 11
    history = backend.keks.history(KEK)
    assert [run.generation for run in history] == list(range(1, 12))
    assert history[-1] == newest.run


def test_keks_do_not_see_each_others_runs(backend: Backend) -> None:
    stored(backend, FIRST)
    other = replace(POINTER, name="master-kek-2")
    backend.keks.add(other)
    record = backend.keks.read(other.name)
    assert record is not None
    assert record.run is None
    assert list(backend.keks.history(other.name)) == []


@pytest.mark.parametrize("change", [moved, followed], ids=["the same run", "the next run"])
@pytest.mark.parametrize("meanwhile", [moved, followed], ids=["run changed", "next run inserted"])
def test_a_replace_of_what_was_read_before_another_change_is_a_conflict_and_changes_nothing(
    backend: Backend, meanwhile: Callable[[KekRecord], KekRecord], change: Callable[[KekRecord], KekRecord]
) -> None:
    old = stored(backend, FIRST)
    backend.keks.replace(old, meanwhile(old))
    between = read(backend)
    with pytest.raises(Conflict):
        backend.keks.replace(old, change(old))
    assert read(backend) == between
    assert len(backend.keks.history(KEK)) == between.pointer.generation


def test_a_stale_run_is_a_conflict_even_with_a_fresh_pointer(backend: Backend) -> None:
    old = stored(backend, FIRST)
    assert old.run is not None
    stale = replace(old, run=replace(old.run, etag=STALE))
    with pytest.raises(Conflict):
        backend.keks.replace(stale, moved(stale))
    assert read(backend) == old


def test_a_stale_pointer_is_a_conflict_even_with_a_fresh_run(backend: Backend) -> None:
    old = stored(backend, FIRST)
    stale = replace(old, pointer=replace(old.pointer, etag=STALE))
    for change in (moved, followed):
        with pytest.raises(Conflict):
            backend.keks.replace(stale, change(stale))
    assert read(backend) == old


def test_a_run_that_somebody_inserted_first_is_a_conflict_even_with_a_fresh_pointer(backend: Backend) -> None:
    before = stored(backend)
    backend.keks.replace(before, followed(before))
    between = read(backend)
    believed = KekRecord(replace(between.pointer, generation=0))
    with pytest.raises(Conflict):
        backend.keks.replace(believed, followed(believed))
    assert read(backend) == between


def test_only_what_was_read_can_be_replaced_and_only_by_a_run_that_the_pointer_names(backend: Backend) -> None:
    old = stored(backend, FIRST)
    guesses = [
        (replace(old, pointer=replace(old.pointer, etag=None)), moved(old)),
        (old, replace(old, run=None)),
        (old, replace(old, pointer=replace(old.pointer, generation=2))),
    ]
    for guess, new in guesses:
        with pytest.raises((ValueError, AssertionError)):
            backend.keks.replace(guess, new)
    assert read(backend) == old


def test_as_many_tenants_as_an_operator_may_hold_back_are_kept(backend: Backend) -> None:
    many = tuple(TenantId(f"{number:064d}") for number in range(2_000))
    assert unread(stored(backend, replace(FIRST, held_tenants=many)).run) == replace(FIRST, held_tenants=many)
