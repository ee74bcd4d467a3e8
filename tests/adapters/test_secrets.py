"""The contract of the port `Secrets`, and the bad moments of a vault of secrets."""

import traceback
from collections.abc import Callable, Mapping
from datetime import timedelta
from types import SimpleNamespace
from typing import Literal

import pytest

from local.stack import Stack
from shared.errors import AtpError, Integrity, Rejected, Throttled, Transient
from shared.secret import Secret
from shared.values import SecretVersion
from tests.adapters.backends import AzureBackend, Backend
from tests.pure.keyrings import NOW

NO_VERSION = "0" * 32
TAGS = {"atp-state": "current", "atp-slot": "user-a", "atp-generation": "1", "of others": "Zoë \\ 密钥"}
PAUSES = [0.5, 1.0, 2.0]


def name_in(backend: Backend, name: str = "database") -> str:
    return backend.key_name(name)


def put(
    backend: Backend, value: str = "a value of theirs", tags: Mapping[str, str] | None = None, name: str = "database"
) -> SecretVersion:
    """One more version, a second after the one before."""
    backend.pass_a_second()
    return backend.secrets.put(name_in(backend, name), Secret(value.encode()), tags or {}, None)


# The contract


def test_a_secret_that_nobody_made_has_no_versions(backend: Backend) -> None:
    name = name_in(backend)
    assert backend.secrets.newest(name) is None
    assert list(backend.secrets.versions(name)) == []
    with pytest.raises(Rejected):
        backend.secrets.value(name, NO_VERSION)
    with pytest.raises(Rejected):
        backend.secrets.change(name, NO_VERSION, {}, enabled=True)


def test_what_was_put_is_the_newest_version_with_its_tags_and_its_end(backend: Backend) -> None:
    name, expires = name_in(backend), NOW.replace(microsecond=0) + timedelta(days=4_000)
    made = backend.secrets.put(name, Secret(b"a value of theirs"), TAGS, expires)
    assert (made.enabled, made.expires, made.tags) == (True, expires, TAGS)
    assert backend.secrets.newest(name) == made
    assert list(backend.secrets.versions(name)) == [made]
    assert backend.secrets.value(name, made.version).reveal() == b"a value of theirs"


@pytest.mark.parametrize(
    "value", [" a blank at both ends ", "two\nlines\r\n", "Zoë 密钥 🔑", '{"json": "\\""}', "x" * 25 * 1024]
)
def test_a_value_comes_back_byte_by_byte(backend: Backend, value: str) -> None:
    made = put(backend, value)
    assert backend.secrets.value(name_in(backend), made.version).reveal() == value.encode()


def test_what_is_put_twice_is_there_twice(backend: Backend) -> None:
    first, second = put(backend, tags=TAGS), put(backend, tags=TAGS)
    assert first.version != second.version
    assert backend.secrets.newest(name_in(backend)) == second


def test_versions_come_oldest_first_from_all_pages(backend: Backend) -> None:
    made = [put(backend, f"value {number}", {"number": str(number)}) for number in range(30)]
    assert list(backend.secrets.versions(name_in(backend))) == made
    assert backend.secrets.newest(name_in(backend)) == made[-1]
    assert backend.secrets.value(name_in(backend), made[7].version).reveal() == b"value 7"


def test_a_change_sets_all_tags_and_nothing_else(backend: Backend) -> None:
    name, made = name_in(backend), put(backend, tags=TAGS)
    for tags in ({"atp-state": "previous"}, {}, TAGS):
        backend.secrets.change(name, made.version, tags, enabled=True)
        (found,) = backend.secrets.versions(name)
        assert found.tags == tags
        assert (found.version, found.created, found.expires) == (made.version, made.created, made.expires)
    assert backend.secrets.value(name, made.version).reveal() == b"a value of theirs"


def test_the_value_of_a_disabled_version_is_refused_until_it_is_enabled_again(backend: Backend) -> None:
    name, old, newest = name_in(backend), put(backend, "value 1"), put(backend, "value 2")
    backend.secrets.change(name, old.version, {}, enabled=False)
    backend.secrets.change(name, old.version, {}, enabled=False)
    with pytest.raises(Rejected):
        backend.secrets.value(name, old.version)
    assert [each.enabled for each in backend.secrets.versions(name)] == [False, True]
    assert backend.secrets.newest(name) == newest
    backend.secrets.change(name, old.version, TAGS, enabled=None)
    backend.secrets.change(name, newest.version, TAGS, enabled=None)
    found = backend.secrets.versions(name)
    assert [(each.enabled, each.tags) for each in found] == [(False, TAGS), (True, TAGS)]
    backend.secrets.change(name, old.version, {}, enabled=True)
    assert backend.secrets.value(name, old.version).reveal() == b"value 1"


def test_a_disabled_newest_version_is_read_by_nobody(backend: Backend) -> None:
    name = name_in(backend)
    put(backend)
    newest = put(backend)
    backend.secrets.change(name, newest.version, {}, enabled=False)
    with pytest.raises(Rejected):
        backend.secrets.newest(name)
    assert len(backend.secrets.versions(name)) == 2


def test_a_version_that_does_not_exist_is_rejected_and_nothing_is_changed(backend: Backend) -> None:
    name, made = name_in(backend), put(backend, tags=TAGS)
    with pytest.raises(Rejected):
        backend.secrets.change(name, NO_VERSION, {}, enabled=False)
    with pytest.raises(Rejected):
        backend.secrets.value(name, NO_VERSION)
    assert list(backend.secrets.versions(name)) == [made]


def test_what_is_set_aside_is_another_secret(backend: Backend) -> None:
    made, aside = put(backend), put(backend, "a value to come", name="database-pending")
    assert list(backend.secrets.versions(name_in(backend))) == [made]
    assert list(backend.secrets.versions(name_in(backend, "database-pending"))) == [aside]
    with pytest.raises(Rejected):
        backend.secrets.value(name_in(backend), aside.version)


def test_every_vault_has_secrets_of_its_own(backend: Backend) -> None:
    name, (first, second) = name_in(backend), backend.vaults
    made = backend.secrets.put(name, Secret(b"a value of theirs"), TAGS, None, second)
    assert backend.secrets.newest(name) is None
    assert list(backend.secrets.versions(name, first)) == []
    assert backend.secrets.newest(name, second) == made
    backend.secrets.change(name, made.version, {}, enabled=True, vault=second)
    assert backend.secrets.versions(name, second)[0].tags == {}
    assert backend.secrets.value(name, made.version, second).reveal() == b"a value of theirs"


def test_a_vault_that_is_not_configured_is_never_asked(backend: Backend) -> None:
    elsewhere, name = "https://elsewhere.vault.azure.net", name_in(backend)
    calls: list[Callable[[], object]] = [
        lambda: backend.secrets.newest(name, elsewhere),
        lambda: backend.secrets.versions(name, elsewhere),
        lambda: backend.secrets.value(name, NO_VERSION, elsewhere),
        lambda: backend.secrets.put(name, Secret(b"a value of theirs"), {}, None, elsewhere),
        lambda: backend.secrets.change(name, NO_VERSION, {}, enabled=True, vault=elsewhere),
    ]
    for call in calls:
        with pytest.raises(Rejected):
            call()


# What only a vault spoken to over TLS has


CALLS: dict[str, tuple[str, Callable[[AzureBackend, str], object]]] = {
    "newest": ("GET /secrets/", lambda azure, _: azure.secrets.newest(name_in(azure))),
    "versions": ("GET /secrets/.*/versions", lambda azure, _: azure.secrets.versions(name_in(azure))),
    "value": ("GET /secrets/", lambda azure, version: azure.secrets.value(name_in(azure), version)),
    "put": ("PUT /secrets/", lambda azure, _: put(azure)),
    "change": (
        "PATCH /secrets/",
        lambda azure, version: azure.secrets.change(name_in(azure), version, {}, enabled=True),
    ),
}
each_call = pytest.mark.parametrize(("match", "call"), CALLS.values(), ids=CALLS.keys())


@each_call
def test_what_is_throttled_is_asked_again_after_growing_pauses(
    stack: Stack, azure: AzureBackend, match: str, call: Callable[[AzureBackend, str], object]
) -> None:
    made = put(azure)
    stack.vault.inject(match, status=429, times=2)
    call(azure, made.version)
    assert azure.pauses == [pytest.approx(pause, rel=0.2) for pause in PAUSES[:2]]
    assert stack.vault.faults()[0]["struck"] == 2


@each_call
def test_what_stays_throttled_says_so(
    stack: Stack, azure: AzureBackend, match: str, call: Callable[[AzureBackend, str], object]
) -> None:
    made = put(azure)
    stack.vault.inject(match, status=429, times=None)
    with pytest.raises(Throttled) as caught:
        call(azure, made.version)
    assert caught.value.fields == {"status": 429, "retry_after": None}
    assert stack.vault.faults()[0]["struck"] == len(PAUSES) + 1


@each_call
@pytest.mark.parametrize("status", [401, 403, 500, 503, "drop"])
def test_whatever_fails_at_the_vault_is_transient(
    stack: Stack,
    azure: AzureBackend,
    match: str,
    call: Callable[[AzureBackend, str], object],
    status: int | Literal["drop"],
) -> None:
    made = put(azure)
    stack.vault.inject(match, status=status, times=None)
    with pytest.raises(Transient) as caught:
        call(azure, made.version)
    assert "a value of theirs" not in "".join(traceback.format_exception(caught.value))
    assert azure.pauses == []
    stack.vault.clear_faults()
    call(azure, made.version)


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504, "drop"])
def test_one_failure_of_a_read_is_bridged(stack: Stack, azure: AzureBackend, status: int | Literal["drop"]) -> None:
    made = put(azure)
    stack.vault.inject("GET /secrets/", status=status)
    assert azure.secrets.newest(name_in(azure)) == made


@pytest.mark.parametrize("status", [500, 504, "drop"])
def test_a_version_whose_making_was_not_answered_is_there_once(
    stack: Stack, azure: AzureBackend, status: int | Literal["drop"]
) -> None:
    stack.vault.inject("PUT /secrets/", status=status, apply="after", times=None)
    with pytest.raises(Transient):
        put(azure, tags=TAGS)
    stack.vault.clear_faults()
    (found,) = azure.secrets.versions(name_in(azure))
    assert found.tags == TAGS


def test_the_name_of_a_deleted_secret_is_rejected_until_it_is_recovered(azure: AzureBackend) -> None:
    name, made = name_in(azure), put(azure)
    client = azure.secret_clients[azure.vaults[0]]
    client.begin_delete_secret(name).wait()
    assert azure.secrets.newest(name) is None
    assert list(azure.secrets.versions(name)) == []
    with pytest.raises(Rejected):
        azure.secrets.value(name, made.version)
    with pytest.raises(Rejected, match="the vault holds a deleted secret of that name"):
        put(azure)
    client.begin_recover_deleted_secret(name).wait()
    assert azure.secrets.newest(name) == made


def test_a_tag_that_holds_a_secret_is_never_written(azure: AzureBackend) -> None:
    made = put(azure, "only the vault may know it")
    for call in (
        lambda: put(azure, tags={"atp-slot": "only the vault may know it"}),
        lambda: azure.secrets.change(
            name_in(azure), made.version, {"note": "only the vault may know it"}, enabled=True
        ),
    ):
        with pytest.raises(ValueError, match="a secret is in"):
            call()
    assert list(azure.secrets.versions(name_in(azure))) == [made]


def test_a_version_that_was_not_asked_for_is_never_taken_for_it(
    azure: AzureBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = put(azure)
    client = azure.secret_clients[azure.vaults[0]]
    for version, value in ((NO_VERSION, "another value"), (made.version, None)):
        answer = SimpleNamespace(value=value, properties=SimpleNamespace(version=version))
        monkeypatch.setattr(client, "get_secret", lambda *_, answer=answer, **__: answer)
        with pytest.raises(Integrity):
            azure.secrets.value(name_in(azure), made.version)


def test_a_value_that_was_read_is_masked_from_then_on(azure: AzureBackend) -> None:
    made = put(azure, "masked as soon as it is known")
    for read in (
        lambda: azure.secrets.newest(name_in(azure)),
        lambda: azure.secrets.value(name_in(azure), made.version),
    ):
        read()
        assert "masked as soon" not in str(AtpError("an error", quoting="masked as soon as it is known"))
