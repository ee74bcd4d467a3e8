"""The contracts of the ports `Shards` and `Budgets`."""

import hashlib
from dataclasses import fields, replace
from datetime import timedelta

import pytest

from shared.errors import Conflict
from shared.values import (
    SHARDS,
    Budget,
    Etag,
    FrozenPage,
    FrozenTenant,
    Kid,
    ShardProgress,
    ShardState,
    TenantId,
)
from tests.adapters.backends import Backend
from tests.pure.keyrings import KID, NOW

RUN = "master-kek.000001"
OTHER_RUN = "master-kek.000002"
STALE = Etag("W/\"datetime'2020-01-01T00%3A00%3A00.0000000Z'\"")
FIRST = ShardProgress(RUN, 1, 7, NOW, NOW)
FULL = ShardProgress(
    run=RUN,
    pass_number=12,
    shard=0x3F,
    started=NOW,
    updated=NOW + timedelta(microseconds=1),
    state=ShardState.STOPPED,
    after=TenantId("z" * 64),
    tenants=1,
    rows=2_000_000,
    found=3,
    changed=4,
    verified=5,
    births=6,
    removed=7,
    by_kid={KID: 8, Kid(KID[:-1] + "0"): 9},
    page=10,
    tree="3." + ".".join(["ab" * 32] * 2),
    problem="Zoë 密钥",
)
SCHEDULE = Budget("https://atp.vault.azure.net", NOW + timedelta(microseconds=1))


def root(number: int) -> bytes:
    return hashlib.sha256(f"tenant {number}".encode()).digest()


def page(number: int = 0, tenants: int = 3, **changes: object) -> FrozenPage:
    """A page whose tenants have the longest ids."""
    frozen = tuple(FrozenTenant(TenantId(f"{each:064d}"), each, root(each)) for each in range(tenants))
    return replace(FrozenPage(RUN, 7, number, TenantId("zeta"), frozen, {KID: tenants}), **changes)  # type: ignore[arg-type]


def put(backend: Backend, progress: ShardProgress) -> ShardProgress:
    """Put it and read it back."""
    backend.shards.put(progress)
    stored = backend.shards.read(progress.run, progress.pass_number, progress.shard)
    assert stored is not None
    return stored


def test_the_full_checkpoint_of_this_test_has_no_column_left_at_its_default() -> None:
    same = {each.name for each in fields(FULL) if getattr(FULL, each.name) == getattr(FIRST, each.name)}
    assert same <= {"run", "started", "etag"}


def test_a_checkpoint_reads_as_none_before_the_first(backend: Backend) -> None:
    assert backend.shards.read(RUN, 1, 7) is None
    assert list(backend.shards.of_pass(RUN, 1)) == []


@pytest.mark.parametrize("progress", [FIRST, FULL], ids=["plain", "full"])
def test_a_checkpoint_reads_back_as_put_whether_inserted_or_replaced(backend: Backend, progress: ShardProgress) -> None:
    stored = put(backend, progress)
    assert stored.etag is not None
    assert replace(stored, etag=None) == progress
    later = replace(stored, after=None, tenants=99, by_kid={})
    again = put(backend, later)
    assert replace(again, etag=None) == replace(later, etag=None)
    assert again.etag != stored.etag


def test_inserting_a_checkpoint_that_exists_is_a_conflict_and_the_first_stays(backend: Backend) -> None:
    before = put(backend, FIRST)
    with pytest.raises(Conflict):
        backend.shards.put(replace(FIRST, tenants=1))
    assert backend.shards.read(RUN, 1, 7) == before


def test_replacing_a_checkpoint_that_was_put_meanwhile_is_a_conflict_and_changes_nothing(backend: Backend) -> None:
    old = put(backend, FIRST)
    between = put(backend, replace(old, tenants=1))
    with pytest.raises(Conflict):
        backend.shards.put(replace(old, tenants=2))
    assert backend.shards.read(RUN, 1, 7) == between


def test_replacing_a_checkpoint_that_does_not_exist_is_a_conflict(backend: Backend) -> None:
    with pytest.raises(Conflict):
        backend.shards.put(replace(FIRST, etag=STALE))
    assert backend.shards.read(RUN, 1, 7) is None


def test_the_checkpoints_of_a_pass_come_by_shard_and_no_other_passes(backend: Backend) -> None:
    for shard in (9, 0x3F, 10, 0):
        backend.shards.put(replace(FIRST, shard=shard))
    for other in (
        replace(FIRST, pass_number=2),
        replace(FIRST, pass_number=11),
        replace(FIRST, pass_number=0),
        replace(FIRST, run=OTHER_RUN),
    ):
        backend.shards.put(other)
    backend.shards.add_page(page())
    assert [progress.shard for progress in backend.shards.of_pass(RUN, 1)] == [0, 9, 10, 0x3F]
    assert [progress.shard for progress in backend.shards.of_pass(OTHER_RUN, 1)] == [7]


def test_every_shard_of_a_pass_is_there(backend: Backend) -> None:
    for shard in range(SHARDS):
        backend.shards.put(replace(FIRST, shard=shard))
    assert [progress.shard for progress in backend.shards.of_pass(RUN, 1)] == list(range(SHARDS))


def test_a_page_reads_as_none_before_it_is_added(backend: Backend) -> None:
    assert backend.shards.read_page(RUN, 7, 0) is None


@pytest.mark.parametrize("tenants", [0, 1, 3, 557, 1_000])
def test_a_page_of_any_size_reads_back_as_added(backend: Backend, tenants: int) -> None:
    added = page(tenants=tenants, by_kid={Kid(f"{KID[:-4]}{number:04x}"): number for number in range(tenants)})
    backend.shards.add_page(added)
    assert backend.shards.read_page(RUN, 7, 0) == added


def test_a_page_of_short_ids_and_no_keys_reads_back_as_added(backend: Backend) -> None:
    names = [TenantId(name) for name in ("a", "a.b-c_d", "z9")]
    added = page(tenants=0, by_kid={}, upto=TenantId("z9"))
    added = replace(added, tenants=tuple(FrozenTenant(name, 2**31, root(1)) for name in names))
    backend.shards.add_page(added)
    assert backend.shards.read_page(RUN, 7, 0) == added


def test_adding_a_page_of_a_number_that_is_taken_is_a_conflict_and_the_first_stays(backend: Backend) -> None:
    backend.shards.add_page(page())
    with pytest.raises(Conflict):
        backend.shards.add_page(page(tenants=4))
    assert backend.shards.read_page(RUN, 7, 0) == page()


def test_pages_are_told_apart_by_run_shard_and_number(backend: Backend) -> None:
    pages = [page(), page(1), page(10, tenants=1), page(shard=8), page(run=OTHER_RUN)]
    for number, each in enumerate(pages):
        backend.shards.add_page(replace(each, upto=TenantId(f"t{number}")))
    for number, each in enumerate(pages):
        stored = backend.shards.read_page(each.run, each.shard, each.number)
        assert stored == replace(each, upto=TenantId(f"t{number}"))


def test_a_schedule_reads_as_none_before_the_first_lease(backend: Backend) -> None:
    assert backend.budgets.read(SCHEDULE.vault) is None


def test_a_schedule_reads_back_as_put_and_as_the_put_answered(backend: Backend) -> None:
    first = backend.budgets.put(SCHEDULE)
    assert first.etag is not None
    assert replace(first, etag=None) == SCHEDULE
    assert backend.budgets.read(SCHEDULE.vault) == first
    second = backend.budgets.put(replace(first, free_at=NOW + timedelta(seconds=9)))
    third = backend.budgets.put(replace(second, free_at=NOW + timedelta(seconds=10)))
    assert backend.budgets.read(SCHEDULE.vault) == third
    assert third.free_at == NOW + timedelta(seconds=10)
    assert len({first.etag, second.etag, third.etag}) == 3


@pytest.mark.parametrize("believed", [None, "first", STALE])
def test_a_schedule_that_was_put_meanwhile_is_a_conflict_and_stays(backend: Backend, believed: Etag | None) -> None:
    first = backend.budgets.put(SCHEDULE)
    between = backend.budgets.put(replace(first, free_at=NOW + timedelta(seconds=1)))
    etag = first.etag if believed == "first" else believed
    with pytest.raises(Conflict):
        backend.budgets.put(replace(first, etag=etag, free_at=NOW + timedelta(seconds=2)))
    assert backend.budgets.read(SCHEDULE.vault) == between


def test_replacing_a_schedule_that_does_not_exist_is_a_conflict(backend: Backend) -> None:
    with pytest.raises(Conflict):
        backend.budgets.put(replace(SCHEDULE, etag=STALE))


def test_every_vault_has_a_schedule_of_its_own(backend: Backend) -> None:
    urls = ["https://atp.vault.azure.net", "https://atp.managedhsm.azure.net", "https://localhost:8443"]
    stored = [backend.budgets.put(replace(SCHEDULE, vault=url)) for url in urls]
    assert [backend.budgets.read(url) for url in urls] == stored
