"""The contract of the port `Vault`."""

from itertools import product

import pytest

from rotation.wrapping import A256KW, RSA_OAEP_256
from shared.errors import Integrity, Rejected, UnusableKey
from shared.secret import Secret
from shared.values import KeyKind, KeyShape, Kid
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
    assert kek.public_key is not None
    assert kek.public_key.key_size == 2048
    assert kek.run == ""


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        (KeyKind.RSA, KeyShape(KeyKind.RSA, 2048)),
        (KeyKind.RSA_HSM, KeyShape(KeyKind.RSA_HSM, 2048)),
        (KeyKind.OCT_HSM, KeyShape(KeyKind.OCT_HSM, 256)),
    ],
)
def test_every_kind_of_key_is_told_and_only_a_symmetric_one_has_no_public_half(
    backend: Backend, kind: KeyKind, shape: KeyShape
) -> None:
    kek = backend.vault.version(backend.new_kek("kek", kind=kind))
    assert kek.shape == shape
    assert (kek.public_key is None) == (kind is KeyKind.OCT_HSM)


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
            backend.vault.unwrap(elsewhere, A256KW, wrapped)
        with pytest.raises(Integrity):
            backend.vault.wrap(elsewhere, A256KW, Secret(DEK))
        with pytest.raises(Integrity):
            backend.vault.version(elsewhere)
        with pytest.raises(Integrity):
            backend.vault.set_enabled(elsewhere, enabled=False)
    assert backend.vault_operations() == before


def test_a_symmetric_key_wraps_and_unwraps_at_the_vault_one_operation_each(backend: Backend) -> None:
    kid = backend.new_kek("kek", kind=KeyKind.OCT_HSM)
    backend.vault.version(kid)
    for _ in range(2):
        before = backend.vault_operations()
        wrapped = backend.vault.wrap(kid, A256KW, Secret(DEK))
        assert backend.vault_operations() - before == 1
        assert len(wrapped) == len(DEK) + 8
        assert backend.vault.unwrap(kid, A256KW, wrapped).reveal() == DEK
        assert backend.vault_operations() - before == 2


def test_every_version_of_a_symmetric_key_opens_its_own_wraps_and_no_others(backend: Backend) -> None:
    old, new = (backend.new_kek("kek", kind=KeyKind.OCT_HSM) for _ in range(2))
    wraps = {kid: backend.vault.wrap(kid, A256KW, Secret(DEK)) for kid in (old, new)}
    assert wraps[old] != wraps[new]
    for kid, (by, wrapped) in product((old, new), wraps.items()):
        if kid == by:
            assert backend.vault.unwrap(kid, A256KW, wrapped).reveal() == DEK
        else:
            with pytest.raises(Integrity):
                backend.vault.unwrap(kid, A256KW, wrapped)


@pytest.mark.parametrize("wrapped", [b"", b"garbage", bytes(40), b"\x01" * 4096])
def test_what_a_symmetric_key_has_not_wrapped_is_an_integrity_failure(backend: Backend, wrapped: bytes) -> None:
    with pytest.raises(Integrity):
        backend.vault.unwrap(backend.new_kek("kek", kind=KeyKind.OCT_HSM), A256KW, wrapped)


def test_a_disabled_symmetric_key_neither_wraps_nor_unwraps_and_says_so(backend: Backend) -> None:
    kid = backend.new_kek("kek", kind=KeyKind.OCT_HSM)
    wrapped = backend.vault.wrap(kid, A256KW, Secret(DEK))
    backend.disable(kid)
    with pytest.raises(UnusableKey):
        backend.vault.wrap(kid, A256KW, Secret(DEK))
    with pytest.raises(UnusableKey):
        backend.vault.unwrap(kid, A256KW, wrapped)


def test_a_symmetric_key_that_may_not_wrap_or_unwrap_says_so(backend: Backend) -> None:
    only_unwraps = backend.new_kek("kek", "unwrapKey", kind=KeyKind.OCT_HSM)
    with pytest.raises(UnusableKey):
        backend.vault.wrap(only_unwraps, A256KW, Secret(DEK))
    only_wraps = backend.new_kek("kek", "wrapKey", kind=KeyKind.OCT_HSM)
    with pytest.raises(UnusableKey):
        backend.vault.unwrap(only_wraps, A256KW, backend.vault.wrap(only_wraps, A256KW, Secret(DEK)))


def test_a_wrap_with_a_version_that_does_not_exist_is_an_integrity_failure(backend: Backend) -> None:
    kid = another_version(backend.new_kek("kek", kind=KeyKind.OCT_HSM), "f" * 32)
    with pytest.raises(Integrity):
        backend.vault.wrap(kid, A256KW, Secret(DEK))


def test_wrapping_at_the_vault_by_another_algorithm_is_our_own_bug(backend: Backend) -> None:
    kid = backend.new_kek("kek")
    before = backend.vault_operations()
    with pytest.raises((ValueError, AssertionError)):
        backend.vault.wrap(kid, RSA_OAEP_256, Secret(DEK))
    assert backend.vault_operations() == before


def test_a_version_can_be_disabled_and_enabled_again_however_often(backend: Backend) -> None:
    old, new = backend.new_kek("kek"), backend.new_kek("kek")
    described = backend.vault.version(old)
    wrapped = wrapped_under(described, DEK)
    for enabled in (False, False, True, True, False, True):
        backend.vault.set_enabled(old, enabled=enabled)
        assert backend.vault.version(old).enabled is enabled
        assert backend.vault.version(new).enabled
    assert backend.vault.version(old) == described
    assert backend.vault.unwrap(old, RSA_OAEP_256, wrapped).reveal() == DEK


def test_enabling_a_version_that_does_not_exist_is_rejected(backend: Backend) -> None:
    kid = another_version(backend.new_kek("kek"), "f" * 32)
    with pytest.raises(Rejected):
        backend.vault.set_enabled(kid, enabled=True)


def test_each_vault_has_its_own_keys_and_is_asked_for_them(backend: Backend) -> None:
    here, there = backend.new_kek("kek"), backend.new_kek("kek", other_vault=True)
    name = name_of(here)
    assert name_of(there) == name
    assert [kid.partition("/keys/")[0] for kid in (here, there)] == list(backend.vaults)
    assert backend.vault.newest(name).kid == here
    assert [backend.vault.newest(name, vault).kid for vault in backend.vaults] == [here, there]
    for kid in (here, there):
        wrapped = wrapped_under(backend.vault.version(kid), DEK)
        assert backend.vault.unwrap(kid, RSA_OAEP_256, wrapped).reveal() == DEK
    backend.vault.set_enabled(there, enabled=False)
    assert [backend.vault.version(kid).enabled for kid in (here, there)] == [True, False]


def test_a_version_of_one_vault_does_not_exist_in_the_other(backend: Backend) -> None:
    here = backend.new_kek("kek")
    there = Kid(here.replace(*backend.vaults))
    wrapped = wrapped_under(backend.vault.version(here), DEK)
    with pytest.raises(Rejected):
        backend.vault.version(there)
    with pytest.raises(Integrity):
        backend.vault.unwrap(there, RSA_OAEP_256, wrapped)


def test_a_symmetric_key_of_the_other_vault_wraps_there(backend: Backend) -> None:
    there = backend.new_kek("kek", kind=KeyKind.OCT_HSM, other_vault=True)
    wrapped = backend.vault.wrap(there, A256KW, Secret(DEK))
    assert backend.vault.unwrap(there, A256KW, wrapped).reveal() == DEK


def test_a_vault_that_is_not_configured_is_rejected(backend: Backend) -> None:
    kid = backend.new_kek("kek")
    for vault in ("https://evil.example", backend.vaults[0] + "/", backend.vaults[0].upper()):
        with pytest.raises(Rejected):
            backend.vault.newest(name_of(kid), vault)
        with pytest.raises(Rejected):
            backend.vault.made_for("run", name_of(kid), vault, KeyShape(KeyKind.RSA, 2048))


@pytest.mark.parametrize("shape", [KeyShape(KeyKind.RSA, 2048), KeyShape(KeyKind.OCT_HSM, 256)])
def test_a_version_is_made_once_for_a_run_and_another_one_for_another(backend: Backend, shape: KeyShape) -> None:
    before = backend.new_kek("kek")
    name, vault = name_of(before), backend.vaults[0]
    first = backend.vault.made_for("master-kek.000001", name, vault, shape)
    assert first.kid != before
    assert name_of(first.kid) == name
    assert first.run == "master-kek.000001"
    assert first.shape == shape
    assert first.enabled
    assert first.operations == {"wrapKey", "unwrapKey"}
    assert backend.vault.newest(name) == backend.vault.version(first.kid) == first
    second = backend.vault.made_for("master-kek.000002", name, vault, shape)
    assert second.kid not in (before, first.kid)
    backend.new_kek("kek")
    assert backend.vault.made_for("master-kek.000001", name, vault, shape) == first
    assert backend.vault.made_for("master-kek.000002", name, vault, shape) == second


def test_a_version_that_was_made_for_a_run_stays_it_when_it_is_disabled(backend: Backend) -> None:
    name, shape = name_of(backend.new_kek("kek")), KeyShape(KeyKind.RSA, 2048)
    made = backend.vault.made_for("run", name, backend.vaults[0], shape)
    backend.disable(made.kid)
    assert backend.vault.made_for("run", name, backend.vaults[0], shape).kid == made.kid


def test_a_key_that_the_vault_does_not_have_yet_is_made_there(backend: Backend) -> None:
    here, shape = backend.new_kek("kek"), KeyShape(KeyKind.OCT_HSM, 256)
    name, vault = name_of(here), backend.vaults[1]
    with pytest.raises(Rejected):
        backend.vault.newest(name, vault)
    made = backend.vault.made_for("run", name, vault, shape)
    assert made.kid.startswith(f"{vault}/keys/{name}/")
    assert made.expires is None
    assert backend.vault.newest(name, vault) == made
    assert backend.vault.newest(name).kid == here
    wrapped = backend.vault.wrap(made.kid, A256KW, Secret(DEK))
    assert backend.vault.unwrap(made.kid, A256KW, wrapped).reveal() == DEK
