"""The contract of the port `Deks`."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import accumulate, batched
from typing import Any

import pytest

from shared.errors import Conflict
from shared.ports import MAX_ROWS_PER_TRANSACTION
from shared.values import Etag, Keyring, KeyState, Kid, Tenant, TenantId, TenantState, Wrap, shard_of
from tests.adapters.backends import AzureBackend, Backend
from tests.pure.keyrings import ACME, KID, NOW, keyring, wrapped_dek

PRIMARY, SECONDARY, RETIRED = KeyState.PRIMARY, KeyState.SECONDARY, KeyState.RETIRED
STALE = Etag("W/\"datetime'2020-01-01T00%3A00%3A00.0000000Z'\"")
SHARD = 7
NAMES = [TenantId(f"{a}{b}") for a in ("a", "b-", "b.", "b_", "b1", "z") for b in range(1000)]
IN_SHARD = sorted(name for name in NAMES if shard_of(name) == SHARD)


def unread(ring: Keyring) -> Keyring:
    """The keyring as its author made it: no row has been stored yet."""
    return Keyring(replace(ring.tenant, etag=None), tuple(replace(dek, etag=None) for dek in ring.deks))


def stored(backend: Backend, *states: KeyState) -> Keyring:
    """A tenant with these DEKs, as read back."""
    wanted = keyring(*states)
    backend.deks.add(replace(wanted.tenant, primary=0, etag=None))
    backend.deks.replace(read(backend), wanted)
    return read(backend)


def read(backend: Backend, tenant: TenantId = ACME) -> Keyring:
    ring = backend.deks.read(tenant)
    assert ring is not None
    return ring


def changed(ring: Keyring, version: int, state: KeyState) -> Keyring:
    """With that version in another state."""
    deks = tuple(replace(dek, state=state) if dek.version == version else dek for dek in ring.deks)
    return replace(ring, deks=deks)


def rotated(ring: Keyring) -> Keyring:
    version = len(ring.deks) + 1
    return Keyring(
        replace(ring.tenant, primary=version), (*ring.deks, wrapped_dek(version, PRIMARY, ring.tenant.tenant))
    )


def test_a_tenant_that_was_never_added_reads_as_none(backend: Backend) -> None:
    assert backend.deks.read(ACME) is None


def test_an_added_tenant_reads_back_as_added(backend: Backend) -> None:
    full = Tenant(
        tenant=ACME,
        state=TenantState.OFFBOARDED,
        added=NOW,
        primary=3,
        primary_since=NOW + timedelta(microseconds=1),
        dual_running_since=NOW + timedelta(days=1),
        offboarded=NOW + timedelta(days=2),
        destroy_after=NOW + timedelta(days=3),
        added_by="tenant.add/acme/1",
        offboarded_by="tenant.offboard/acme/1",
        destroyed_by="tenant.destroy/acme/1",
    )
    backend.deks.add(full)
    ring = read(backend)
    assert ring.tenant.etag is not None
    assert unread(ring) == Keyring(full)


def test_adding_a_tenant_that_exists_is_a_conflict_and_changes_nothing(backend: Backend) -> None:
    before = stored(backend, SECONDARY, PRIMARY)
    with pytest.raises(Conflict):
        backend.deks.add(Tenant(ACME, TenantState.OFFBOARDED, NOW))
    assert read(backend) == before


def test_all_deks_read_back_as_written_in_the_order_of_their_versions(backend: Backend) -> None:
    wanted = keyring(*[RETIRED] * 10, SECONDARY, PRIMARY)
    backend.deks.add(replace(wanted.tenant, primary=0, etag=None))
    backend.deks.replace(read(backend), wanted)
    assert unread(read(backend)) == unread(wanted)


def test_a_replace_inserts_changes_and_deletes_in_one_go(backend: Backend) -> None:
    old = stored(backend, RETIRED, SECONDARY, PRIMARY)
    new = Keyring(replace(old.tenant, primary=4), (*changed(old, 3, SECONDARY).deks[1:], wrapped_dek(4, PRIMARY)))
    backend.deks.replace(old, new)
    assert unread(read(backend)) == unread(new)


def test_a_replace_gives_new_etags_to_the_tenant_and_to_what_it_changed_and_to_nothing_else(backend: Backend) -> None:
    old = stored(backend, RETIRED, SECONDARY, PRIMARY)
    backend.deks.replace(old, changed(old, 2, RETIRED))
    new = read(backend)
    assert new.tenant.etag != old.tenant.etag
    assert [after.etag == before.etag for before, after in zip(old.deks, new.deks, strict=True)] == [True, False, True]


def test_replacing_a_keyring_by_itself_moves_the_tenants_row(backend: Backend) -> None:
    old = stored(backend, PRIMARY)
    backend.deks.replace(old, old)
    with pytest.raises(Conflict):
        backend.deks.replace(old, rotated(old))


def meanwhile_rotated(old: Keyring, backend: Backend) -> None:
    backend.deks.replace(old, rotated(old))


def meanwhile_destroyed(old: Keyring, backend: Backend) -> None:
    backend.deks.replace(old, replace(old, deks=()))


@pytest.mark.parametrize("meanwhile", [meanwhile_rotated, meanwhile_destroyed])
@pytest.mark.parametrize(
    "change",
    [rotated, lambda old: changed(old, 1, RETIRED), lambda old: replace(old, deks=old.deks[1:]), lambda old: old],
    ids=["insert", "update", "delete", "tenant only"],
)
def test_a_replace_of_what_was_read_before_another_change_is_a_conflict_and_changes_nothing(
    backend: Backend, meanwhile: Callable[[Keyring, Backend], None], change: Callable[[Keyring], Keyring]
) -> None:
    old = stored(backend, SECONDARY, PRIMARY)
    meanwhile(old, backend)
    between = read(backend)
    with pytest.raises(Conflict):
        backend.deks.replace(old, change(old))
    assert read(backend) == between


@pytest.mark.parametrize(
    "change",
    [lambda old: changed(old, 1, RETIRED), lambda old: replace(old, deks=old.deks[1:])],
    ids=["update", "delete"],
)
def test_a_stale_dek_is_a_conflict_even_with_a_fresh_tenant_row(
    backend: Backend, change: Callable[[Keyring], Keyring]
) -> None:
    old = stored(backend, SECONDARY, PRIMARY)
    stale = replace(old, deks=(replace(old.deks[0], etag=STALE), *old.deks[1:]))
    with pytest.raises(Conflict):
        backend.deks.replace(stale, change(stale))
    assert read(backend) == old


@pytest.mark.parametrize(
    "change",
    [lambda old: changed(old, 1, RETIRED), lambda old: replace(old, deks=old.deks[1:])],
    ids=["update", "delete"],
)
def test_a_dek_that_is_gone_is_a_conflict_even_with_a_fresh_tenant_row(
    backend: Backend, change: Callable[[Keyring], Keyring]
) -> None:
    old = stored(backend, SECONDARY, PRIMARY)
    backend.deks.replace(old, replace(old, deks=old.deks[1:]))
    fresh = read(backend)
    believed = replace(fresh, deks=old.deks)
    with pytest.raises(Conflict):
        backend.deks.replace(believed, change(believed))
    assert read(backend) == fresh


def test_a_dek_version_that_somebody_inserted_first_is_a_conflict_even_with_a_fresh_tenant_row(
    backend: Backend,
) -> None:
    old = stored(backend, PRIMARY)
    backend.deks.replace(old, rotated(old))
    between = read(backend)
    believed = replace(between, deks=old.deks)
    with pytest.raises(Conflict):
        backend.deks.replace(believed, rotated(believed))
    assert read(backend) == between


def test_replacing_a_tenant_that_does_not_exist_is_a_conflict(backend: Backend) -> None:
    with pytest.raises(Conflict):
        backend.deks.replace(keyring(etag=STALE), keyring(PRIMARY))
    assert backend.deks.read(ACME) is None


def test_a_replace_of_as_many_rows_as_a_transaction_takes_happens_as_a_whole(backend: Backend) -> None:
    backend.deks.add(replace(keyring().tenant, etag=None))
    many = keyring(*[RETIRED] * (MAX_ROWS_PER_TRANSACTION - 2), PRIMARY)
    backend.deks.replace(read(backend), many)
    assert unread(read(backend)) == unread(many)
    backend.deks.replace(read(backend), replace(read(backend), deks=()))
    assert read(backend).deks == ()


def test_a_replace_of_as_many_rows_as_a_transaction_takes_fails_as_a_whole(backend: Backend) -> None:
    backend.deks.add(replace(keyring().tenant, etag=None))
    many = keyring(*[RETIRED] * (MAX_ROWS_PER_TRANSACTION - 2), PRIMARY)
    empty = read(backend)
    backend.deks.replace(empty, replace(many, deks=many.deks[-1:]))
    before = read(backend)
    with pytest.raises(Conflict):
        backend.deks.replace(replace(before, deks=()), many)
    assert read(backend) == before


def test_a_replace_of_more_rows_than_a_transaction_takes_is_our_own_bug(backend: Backend) -> None:
    backend.deks.add(replace(keyring().tenant, etag=None))
    empty = read(backend)
    with pytest.raises((ValueError, AssertionError)):
        backend.deks.replace(empty, keyring(*[RETIRED] * (MAX_ROWS_PER_TRANSACTION - 1), PRIMARY))
    assert read(backend) == empty


def test_only_what_was_read_can_be_replaced(backend: Backend) -> None:
    old = stored(backend, PRIMARY)
    for guess in (replace(old, tenant=replace(old.tenant, etag=None)), replace(old, deks=unread(old).deks)):
        with pytest.raises((ValueError, AssertionError)):
            backend.deks.replace(guess, changed(guess, 1, SECONDARY))
    assert read(backend) == old


def test_tenants_do_not_see_each_others_rows(backend: Backend) -> None:
    stored(backend, PRIMARY)
    for name in ("acme-2", "acm", "acmf"):
        assert backend.deks.read(TenantId(name)) is None


def test_a_shard_without_tenants_scans_as_empty(backend: Backend) -> None:
    assert list(backend.deks.scan(0, None, 10)) == []


def test_a_scan_gives_the_tenants_of_one_shard_in_the_order_of_their_ids_page_by_page(backend: Backend) -> None:
    neighbours = [name for name in NAMES if shard_of(name) in (SHARD - 1, SHARD + 1)][:10]
    for name in (*reversed(IN_SHARD), *neighbours):
        backend.deks.add(Tenant(name, TenantState.ACTIVE, NOW))
    pages: list[list[TenantId]] = []
    after: TenantId | None = None
    while page := backend.deks.scan(SHARD, after, 40):
        pages.append([tenant.tenant for tenant in page])
        after = page[-1].tenant
    assert [name for page_ in pages for name in page_] == IN_SHARD
    assert {len(page_) for page_ in pages[:-1]} == {40}


@pytest.mark.parametrize(("first", "last"), [(0, 1), (SHARD, 9), (62, 63)])
def test_a_scan_does_not_cross_the_borders_of_its_shard(backend: Backend, first: int, last: int) -> None:
    names = [next(name for name in NAMES if shard_of(name) == shard) for shard in (first, last)]
    for name in names:
        backend.deks.add(Tenant(name, TenantState.ACTIVE, NOW))
    for shard, name in zip((first, last), names, strict=True):
        assert [tenant.tenant for tenant in backend.deks.scan(shard, None, 10)] == [name]
        assert list(backend.deks.scan(shard, name, 10)) == []


def test_a_scan_may_begin_behind_a_tenant_that_does_not_exist(backend: Backend) -> None:
    for name in IN_SHARD[:3]:
        backend.deks.add(Tenant(name, TenantState.ACTIVE, NOW))
    assert [tenant.tenant for tenant in backend.deks.scan(SHARD, TenantId(IN_SHARD[0] + "-"), 10)] == IN_SHARD[1:3]


def test_a_scan_gives_tenants_not_their_deks_and_with_the_etag_of_a_read(backend: Backend) -> None:
    ring = stored(backend, RETIRED, SECONDARY, PRIMARY)
    assert list(backend.deks.scan(shard_of(ACME), None, 10)) == [ring.tenant]


def test_a_scan_of_a_thousand_tenants_is_one_list(backend: Backend) -> None:
    names = sorted(TenantId(f"t{number}") for number in range(100_000) if shard_of(TenantId(f"t{number}")) == SHARD)
    for name in names[:1_005]:
        backend.deks.add(Tenant(name, TenantState.ACTIVE, NOW))
    assert [tenant.tenant for tenant in backend.deks.scan(SHARD, None, 1_003)] == names[:1_003]


def populated(backend: Backend, counts: Sequence[int]) -> list[Keyring]:
    """Tenants of one shard with that many DEKs each, and neighbours in the next shards, as read back."""
    for neighbour in (SHARD - 1, SHARD + 1):
        name = next(name for name in NAMES if shard_of(name) == neighbour)
        backend.deks.add(Tenant(name, TenantState.ACTIVE, NOW))
    rings = []
    for name, count in zip(IN_SHARD, counts, strict=False):
        wanted = keyring(*[RETIRED] * (count - 1), *[PRIMARY] * bool(count), tenant=name)
        backend.deks.add(replace(wanted.tenant, primary=0, etag=None))
        for deks in batched(wanted.deks, MAX_ROWS_PER_TRANSACTION - 1, strict=False):
            old = read(backend, name)
            backend.deks.replace(old, Keyring(wanted.tenant, (*old.deks, *deks)))
        rings.append(read(backend, name))
    return rings


def expected_page(rings: Sequence[Keyring], rows: int) -> list[Keyring]:
    """As many as fit, but at least one."""
    sizes = accumulate(1 + len(ring.deks) for ring in rings)
    fitting = [ring for ring, size in zip(rings, sizes, strict=True) if size <= rows]
    return fitting or list(rings[:1])


def test_a_shard_without_tenants_pages_as_empty(backend: Backend) -> None:
    populated(backend, [])
    assert list(backend.deks.page(SHARD, None, 10)) == []


@pytest.mark.parametrize("rows", [*range(1, 12), 17, 1_000])
def test_pages_are_whole_tenants_in_the_order_of_their_ids_as_many_as_fit(backend: Backend, rows: int) -> None:
    rings = populated(backend, [1, 0, 3, 2, 5, 0, 1])
    left = rings
    while left:
        page = list(backend.deks.page(SHARD, rings[-len(left) - 1].tenant.tenant if left != rings else None, rows))
        assert page == expected_page(left, rows)
        left = left[len(page) :]
    assert list(backend.deks.page(SHARD, rings[-1].tenant.tenant, rows)) == []


def test_a_page_may_begin_behind_a_tenant_that_does_not_exist(backend: Backend) -> None:
    rings = populated(backend, [1, 1, 1])
    assert list(backend.deks.page(SHARD, TenantId(IN_SHARD[0] + "-"), 10)) == rings[1:]
    assert list(backend.deks.page(SHARD, TenantId("~"), 10)) == []


def test_a_tenant_that_is_larger_than_a_page_is_a_page_of_its_own(backend: Backend) -> None:
    rings = populated(backend, [1, 150, 1])
    assert list(backend.deks.page(SHARD, None, 20)) == rings[:1]
    assert list(backend.deks.page(SHARD, IN_SHARD[0], 20)) == rings[1:2]
    assert list(backend.deks.page(SHARD, IN_SHARD[0], 151)) == rings[1:2]
    assert list(backend.deks.page(SHARD, IN_SHARD[0], 152)) == rings[1:2]
    assert list(backend.deks.page(SHARD, IN_SHARD[0], 153)) == rings[1:]


def test_a_page_of_more_rows_than_one_answer_of_the_service_is_one_list(backend: Backend) -> None:
    rings = populated(backend, [95] * 12)
    assert [len(ring.deks) for ring in rings] == [95] * 12
    for rows in (959, 960, 1_000, 1_056, 1_151, 1_152, 5_000):
        assert list(backend.deks.page(SHARD, None, rows)) == expected_page(rings, rows)


def test_a_kept_previous_wrap_reads_back_as_written_and_can_be_dropped(backend: Backend) -> None:
    old = stored(backend, SECONDARY, PRIMARY)
    previous = Wrap(b"\x00wrapped before", Kid(KID[:-1] + "0"), "A256KW")
    kept = replace(old, deks=(replace(old.deks[0], previous=previous), old.deks[1]))
    backend.deks.replace(old, kept)
    ring = read(backend)
    assert [dek.previous for dek in ring.deks] == [previous, None]
    assert list(backend.deks.page(shard_of(ACME), None, 10)) == [ring]
    backend.deks.replace(ring, replace(ring, deks=(replace(ring.deks[0], previous=None), ring.deks[1])))
    assert unread(read(backend)) == unread(old)


def test_a_tenant_that_changed_between_two_answers_of_the_service_is_not_read_as_a_mixture(
    azure: AzureBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    rings = populated(azure, [95] * 11)
    cut = rings[10]
    honest = azure.deks_table.query_entities

    def query_entities(query: str, **options: Any) -> Any:
        results = honest(query, **options)
        if "PartitionKey gt" not in query:
            return results
        answers = results.by_page

        def by_page() -> Iterator[Any]:
            pages = answers()
            yield list(next(pages))
            azure.deks.replace(cut, rotated(cut))
            yield from pages

        monkeypatch.setattr(results, "by_page", by_page)
        return results

    with monkeypatch.context() as patched:
        patched.setattr(azure.deks_table, "query_entities", query_entities)
        page = azure.deks.page(SHARD, None, 1_500)
    assert list(page) == [*rings[:10], read(azure, cut.tenant.tenant)]
    assert page[10].version(96) is not None
