"""The contract of the port `SecretRotations`."""

from dataclasses import fields, replace
from datetime import timedelta

import pytest

from shared.errors import Conflict, Transient
from shared.values import Etag, SecretPhase, SecretRotation
from tests.adapters.backends import AzureBackend, Backend
from tests.pure.keyrings import NOW

STALE = Etag("W/\"datetime'2020-01-01T00%3A00%3A00.0000000Z'\"")
FIRST = SecretRotation("database", SecretPhase.STEADY, NOW, generation=0)
FULL = SecretRotation(
    name="database",
    phase=SecretPhase.REVOKING,
    phase_since=NOW + timedelta(microseconds=1),
    generation=17,
    current="0123456789abcdef" * 2,
    slot="user-a@db.example:5432/atp+1",
    since=NOW + timedelta(days=1),
    previous="fedcba9876543210" * 2,
    previous_slot="projects/4711:key-2",
    previous_since=NOW + timedelta(days=2),
    grace_until=NOW + timedelta(days=3),
    pending="00112233445566778899aabbccddeeff",
    pending_slot="key1",
    before="ffeeddccbbaa99887766554433221100",
    order="secret.rotate/database/cli-0123456789ab",
    actor="alice@atp",
    trigger="manual",
    reason='because of "Zoë 密钥" \\ 🔑',
    undone_by="bob@atp",
    undone_trigger="manual",
    undone_because="old clients cannot log in",
    confirmed_by="carol@atp",
    confirmed_trigger="emergency",
    confirmed_because="revoked in the portal",
    compromised=True,
    rolled_back=True,
    announced=True,
    confirmed=True,
    task="make a new one and drop it",
    verdict="the target will not (code=28P01)",
    trouble="no connection to the database server (host=db.example)",
    claim="0123456789abcdef",
    claimed_until=NOW + timedelta(minutes=5),
    asked="secret.drive/database/g17-revoking",
    asked_at=NOW + timedelta(minutes=1),
)


def read(backend: Backend, name: str = "database") -> SecretRotation:
    found = backend.secret_rotations.read(name)
    assert found is not None
    return found


def test_the_full_row_of_this_test_has_no_column_left_at_its_default() -> None:
    same = {each.name for each in fields(FULL) if getattr(FULL, each.name) == getattr(FIRST, each.name)}
    assert same == {"name", "etag"}


def test_a_secret_reads_as_none_before_it_was_looked_at(backend: Backend) -> None:
    assert backend.secret_rotations.read("database") is None
    assert list(backend.secret_rotations.page(None, 10)) == []


@pytest.mark.parametrize("rotation", [FIRST, FULL], ids=["plain", "full"])
def test_a_row_reads_back_as_put_whether_inserted_or_replaced(backend: Backend, rotation: SecretRotation) -> None:
    stored = backend.secret_rotations.put(rotation)
    assert stored.etag is not None
    assert replace(stored, etag=None) == rotation
    assert read(backend) == stored
    for other in (FULL, FIRST):
        again = backend.secret_rotations.put(replace(other, etag=stored.etag))
        assert again.etag != stored.etag
        assert read(backend) == again == replace(other, etag=again.etag)
        stored = again


def test_every_phase_reads_back(backend: Backend) -> None:
    for phase in SecretPhase:
        backend.secret_rotations.put(replace(FIRST, name=phase.value, phase=phase))
        assert read(backend, phase.value).phase is phase


def test_inserting_a_row_that_exists_is_a_conflict_and_the_first_stays(backend: Backend) -> None:
    before = backend.secret_rotations.put(FIRST)
    with pytest.raises(Conflict):
        backend.secret_rotations.put(FULL)
    assert read(backend) == before


def test_replacing_a_row_that_was_put_meanwhile_is_a_conflict_and_changes_nothing(backend: Backend) -> None:
    old = backend.secret_rotations.put(FIRST)
    between = backend.secret_rotations.put(replace(old, claim="somebody"))
    with pytest.raises(Conflict):
        backend.secret_rotations.put(replace(old, claim="another"))
    assert read(backend) == between


def test_replacing_a_row_that_does_not_exist_is_a_conflict(backend: Backend) -> None:
    with pytest.raises(Conflict):
        backend.secret_rotations.put(replace(FIRST, etag=STALE))
    assert backend.secret_rotations.read("database") is None


def test_rows_do_not_get_into_each_others_way(backend: Backend) -> None:
    one = backend.secret_rotations.put(FIRST)
    other = backend.secret_rotations.put(replace(FULL, name="database-2"))
    assert (read(backend), read(backend, "database-2")) == (one, other)


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8, 1000])
def test_pages_lead_through_all_rows_in_the_order_of_their_names(backend: Backend, limit: int) -> None:
    names = ["A", "a", "a-1", "a1", "b", "z", "Z9"]
    for name in names:
        backend.secret_rotations.put(replace(FIRST, name=name))
    found: list[str] = []
    while page := backend.secret_rotations.page(found[-1] if found else None, limit):
        assert len(page) <= limit
        assert [each.etag for each in page] == [read(backend, each.name).etag for each in page]
        found += [each.name for each in page]
    assert found == sorted(names)


def test_a_page_begins_behind_a_name_that_has_no_row(backend: Backend) -> None:
    for name in ("a", "c"):
        backend.secret_rotations.put(replace(FIRST, name=name))
    assert [each.name for each in backend.secret_rotations.page("b", 10)] == ["c"]
    assert list(backend.secret_rotations.page("c", 10)) == []


def test_an_answer_that_was_cut_short_does_not_end_the_page(
    azure: AzureBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        azure.secret_rotations.put(replace(FIRST, name=name))
    query = azure.rotations_table.query_entities
    monkeypatch.setattr(
        azure.rotations_table,
        "query_entities",
        lambda text, **options: query(text, **options | {"results_per_page": 1}),
    )
    assert [each.name for each in azure.secret_rotations.page(None, 2)] == ["a", "b"]


def test_a_row_of_an_earlier_release_has_the_defaults_of_what_it_lacks(azure: AzureBackend) -> None:
    azure.rotations_table.create_entity(
        {"PartitionKey": "secret", "RowKey": "database", "phase": "steady", "phase_since": NOW, "generation": 0}
    )
    assert replace(read(azure), etag=None) == FIRST


def test_a_secret_that_got_into_a_text_for_people_is_masked_and_nowhere_else_stored(azure: AzureBackend) -> None:
    token = "glpat-" + "k3yK3yk3yK3yk3yK3y12"
    azure.secret_rotations.put(replace(FULL, reason=token, task=token, verdict=token, trouble=token))
    row = read(azure)
    for text in (row.reason, row.task, row.verdict, row.trouble):
        assert token not in text
    for column in ("slot", "previous_slot", "pending_slot", "order", "actor", "claim", "asked"):
        with pytest.raises(ValueError, match=f"a secret is in {column}"):
            azure.secret_rotations.put(replace(FULL, etag=row.etag, **{column: token}))  # type: ignore[arg-type]
    assert read(azure) == row


def test_a_table_that_is_missing_is_transient(azure: AzureBackend) -> None:
    azure.rotations_table.delete_table()
    try:
        for call in (
            lambda: azure.secret_rotations.page(None, 10),
            lambda: azure.secret_rotations.put(FIRST),
        ):
            with pytest.raises(Transient):
                call()
    finally:
        azure.rotations_table.create_table()
