"""The contract of the port `Vault`."""

import pytest

from rotation.wrapping import RSA_OAEP_256
from shared.errors import Integrity, Rejected, UnusableKey
from shared.values import Kid
from tests.adapters.backends import Backend, name_of, wrapped_under

DEK = bytes(range(32))


def another_version(kid: Kid, version: str) -> Kid:
    return Kid(kid.rpartition("/")[0] + "/" + version)


def foreign(kid: Kid) -> list[Kid]:
    """Key ids that could lead a request, with our token on it, somewhere else."""
    vault, path = kid.split("/keys/")
    return [
        Kid(text)
        for text in (
            f"https://evil.example/keys/{path}",
            f"{vault}.evil.example/keys/{path}",
            f"{vault}@evil.example/keys/{path}",
            f"{vault.replace('https', 'http')}/keys/{path}",
            f"{vault}/secrets/{path}",
            f"{vault}/keys/../keys/{path}",
            f"{vault}/keys/{path}/unwrapkey",
            f"{vault}/keys/{path}?api-version=1",
            f"{vault}/keys/{path.partition('/')[0]}/",
            f"{vault}/keys/{path}\n",
            "",
        )
    ]


def test_a_new_key_is_described_as_it_was_made(backend: Backend) -> None:
    kid = backend.new_kek("kek")
    kek = backend.vault.newest(name_of(kid))
    assert kek.kid == kid
    assert kek.enabled
    assert (kek.not_before, kek.expires) == (None, None)
    assert kek.operations == {"wrapKey", "unwrapKey"}
    assert kek.public_key.key_size == 2048


def test_the_newest_version_is_the_last_that_was_made_and_the_old_one_stays(backend: Backend) -> None:
    old, new = backend.new_kek("kek"), backend.new_kek("kek")
    assert backend.vault.newest(name_of(new)).kid == new
    assert backend.vault.version(old).kid == old
    assert backend.vault.version(new) == backend.vault.newest(name_of(new))


def test_a_key_that_does_not_exist_is_rejected(backend: Backend) -> None:
    with pytest.raises(Rejected):
        backend.vault.newest("no-such-key")


def test_a_version_that_does_not_exist_is_rejected(backend: Backend) -> None:
    with pytest.raises(Rejected):
        backend.vault.version(another_version(backend.new_kek("kek"), "f" * 32))


def test_a_disabled_version_is_described_as_disabled(backend: Backend) -> None:
    kid = backend.new_kek("kek")
    backend.disable(kid)
    assert not backend.vault.version(kid).enabled


def test_what_was_wrapped_with_any_version_unwraps_with_that_version(backend: Backend) -> None:
    for kid in [backend.new_kek("kek") for _ in range(2)]:
        wrapped = wrapped_under(backend.vault.version(kid), DEK)
        assert backend.vault.unwrap(kid, RSA_OAEP_256, wrapped).reveal() == DEK


def test_one_unwrap_costs_one_operation_when_the_key_is_known(backend: Backend) -> None:
    kid = backend.new_kek("kek")
    wrapped = wrapped_under(backend.vault.version(kid), DEK)
    backend.vault.unwrap(kid, RSA_OAEP_256, wrapped)
    before = backend.vault_operations()
    for _ in range(5):
        backend.vault.unwrap(kid, RSA_OAEP_256, wrapped)
    assert backend.vault_operations() - before == 5


def test_a_disabled_version_does_not_unwrap_and_says_so(backend: Backend) -> None:
    kid = backend.new_kek("kek")
    wrapped = wrapped_under(backend.vault.version(kid), DEK)
    backend.vault.unwrap(kid, RSA_OAEP_256, wrapped)
    backend.disable(kid)
    with pytest.raises(UnusableKey):
        backend.vault.unwrap(kid, RSA_OAEP_256, wrapped)


def test_a_key_that_may_not_unwrap_says_so(backend: Backend) -> None:
    kid = backend.new_kek("kek", "wrapKey")
    wrapped = wrapped_under(backend.vault.version(kid), DEK)
    with pytest.raises(UnusableKey):
        backend.vault.unwrap(kid, RSA_OAEP_256, wrapped)


@pytest.mark.parametrize("wrapped", [b"", b"garbage", bytes(256), b"\xff" * 256, b"\x01" * 4096])
def test_what_is_no_wrapped_dek_is_an_integrity_failure(backend: Backend, wrapped: bytes) -> None:
    with pytest.raises(Integrity):
        backend.vault.unwrap(backend.new_kek("kek"), RSA_OAEP_256, wrapped)


def test_what_was_wrapped_with_another_version_is_an_integrity_failure(backend: Backend) -> None:
    old, new = backend.new_kek("kek"), backend.new_kek("kek")
    with pytest.raises(Integrity):
        backend.vault.unwrap(new, RSA_OAEP_256, wrapped_under(backend.vault.version(old), DEK))


def test_an_unwrap_with_a_version_that_does_not_exist_is_an_integrity_failure(backend: Backend) -> None:
    kid = backend.new_kek("kek")
    wrapped = wrapped_under(backend.vault.version(kid), DEK)
    with pytest.raises(Integrity):
        backend.vault.unwrap(another_version(kid, "f" * 32), RSA_OAEP_256, wrapped)


def test_an_algorithm_that_we_do_not_use_is_an_integrity_failure(backend: Backend) -> None:
    kid = backend.new_kek("kek")
    wrapped = wrapped_under(backend.vault.version(kid), DEK)
    for algorithm in ("RSA1_5", "RSA-OAEP", "none", ""):
        with pytest.raises(Integrity):
            backend.vault.unwrap(kid, algorithm, wrapped)


def test_a_key_id_of_another_vault_is_an_integrity_failure_and_nobody_is_asked(backend: Backend) -> None:
    kid = backend.new_kek("kek")
    wrapped = wrapped_under(backend.vault.version(kid), DEK)
    before = backend.vault_operations()
    for elsewhere in foreign(kid):
        with pytest.raises(Integrity):
            backend.vault.unwrap(elsewhere, RSA_OAEP_256, wrapped)
        with pytest.raises(Integrity):
            backend.vault.version(elsewhere)
    assert backend.vault_operations() == before
