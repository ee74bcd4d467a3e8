"""Wrapping: with which KEK versions, and how an opened DEK is known to be the right one."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from rotation.wrapping import WriteTarget, check_value, ensure_is, ensure_may_wrap, new_dek
from shared.errors import Integrity, Rejected, UnusableKey
from shared.secret import Secret
from shared.values import KekVersion, KeyState, TenantId
from tests.pure.keyrings import ACME, KID, NOW, dek_bytes, no_vault, wrapped_dek

PUBLIC = rsa.RSAPublicNumbers(65537, (1 << 2047) + 1).public_key()
KEK = KekVersion(KID, PUBLIC, True, None, None, frozenset({"wrapKey", "unwrapKey", "encrypt"}))
MOMENT = timedelta(microseconds=1)

USABLE: dict[str, dict[str, Any]] = {
    "without dates": {},
    "valid since this moment": {"not_before": NOW},
    "valid for one more moment": {"expires": NOW + MOMENT},
    "in the middle of its time": {"not_before": NOW - timedelta(days=1), "expires": NOW + timedelta(days=1)},
    "for wrapping alone": {"operations": frozenset({"wrapKey", "unwrapKey"})},
}
UNUSABLE: dict[str, tuple[dict[str, Any], str]] = {
    "disabled": ({"enabled": False}, "disabled"),
    "disabled and in its time": ({"enabled": False, "expires": NOW + timedelta(days=1)}, "disabled"),
    "valid from the next moment on": ({"not_before": NOW + MOMENT}, "not valid yet"),
    "expired this moment": ({"expires": NOW}, "expired"),
    "expired long ago": ({"expires": datetime.min.replace(tzinfo=NOW.tzinfo)}, "expired"),
    "for nothing": ({"operations": frozenset()}, "does not allow"),
    "for wrapping but not unwrapping": ({"operations": frozenset({"wrapKey"})}, "does not allow"),
    "for unwrapping but not wrapping": ({"operations": frozenset({"unwrapKey", "decrypt"})}, "does not allow"),
    "for signing": ({"operations": frozenset({"sign", "verify"})}, "does not allow"),
}


@pytest.mark.parametrize("changes", USABLE.values(), ids=list(USABLE))
def test_a_usable_kek_version_may_wrap(changes: dict[str, Any]) -> None:
    ensure_may_wrap(replace(KEK, **changes), NOW)


@pytest.mark.parametrize(("changes", "reason"), UNUSABLE.values(), ids=list(UNUSABLE))
def test_a_kek_version_that_the_vault_would_refuse_is_refused_before_a_dek_is_made(
    changes: dict[str, Any], reason: str
) -> None:
    def no_entropy(size: int) -> bytes:
        raise AssertionError(f"{size} random bytes were drawn for nothing")

    with pytest.raises(UnusableKey, match=reason) as caught:
        new_dek(ACME, 1, WriteTarget(replace(KEK, **changes)), NOW, "a job", no_entropy, no_vault)
    assert caught.value.fields["kid"] == KID
    assert isinstance(caught.value, Rejected)


def test_the_right_dek_is_the_right_one() -> None:
    ensure_is(Secret(dek_bytes(ACME, 3)), ACME, wrapped_dek(3, KeyState.PRIMARY))


@pytest.mark.parametrize(
    ("tenant", "version"), [("acme", 2), ("globex", 3), ("acme", 33)], ids=["version", "tenant", "both"]
)
def test_the_dek_of_another_version_or_tenant_is_not(tenant: str, version: int) -> None:
    with pytest.raises(Integrity, match="not the one"):
        ensure_is(Secret(dek_bytes(tenant, version)), ACME, wrapped_dek(3, KeyState.PRIMARY))


@given(
    dek=st.binary(min_size=32, max_size=32),
    other=st.binary(min_size=32, max_size=32),
    versions=st.tuples(st.integers(1, 2**32), st.integers(1, 2**32)),
)
def test_a_check_value_is_bound_to_dek_tenant_and_version(dek: bytes, other: bytes, versions: tuple[int, int]) -> None:
    value = check_value(Secret(dek), ACME, versions[0])
    assert len(value) == 32
    assert value == check_value(Secret(dek), ACME, versions[0])
    assert (value == check_value(Secret(other), ACME, versions[0])) == (dek == other)
    assert (value == check_value(Secret(dek), ACME, versions[1])) == (versions[0] == versions[1])
    assert value != check_value(Secret(dek), TenantId("acm"), versions[0])
    assert dek not in value


def test_an_error_about_a_dek_shows_nothing_of_it() -> None:
    wrong = Secret(dek_bytes("globex", 1))
    with pytest.raises(Integrity) as caught:
        ensure_is(wrong, ACME, wrapped_dek(1, KeyState.PRIMARY))
    assert caught.value.fields == {"tenant": ACME, "version": 1}
    assert wrong.reveal().hex() not in str(caught.value)
