"""The cipher that ATP services import: its cache, its behaviour in outages, threads and forks."""

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
from azure.core.exceptions import ResourceNotFoundError
from azure.data.tables import TableEntity

from rotation import tenant_cipher, use_reports
from rotation.envelope import BadEnvelope, NotAuthentic, UnknownVersion, header, parse
from rotation.tenant_cipher import CachePolicy, TenantCipher
from rotation.xaes import derive
from shared.azure.registers import AzureConsumers
from shared.errors import (
    AtpError,
    Integrity,
    Rejected,
    TenantDestroyed,
    TenantOffboarded,
    Transient,
    UnknownTenant,
    UnusableKey,
)
from shared.values import ConsumerReport, KekUse, Keyring, KeyState, Kid, TenantId, TenantState
from tests.pure.keyrings import ACME, KID, NEW_KID, NOW, dek_bytes, keyring, rewrapped, with_dek
from tests.pure.surroundings import Hanging, Surroundings

PRIMARY, SECONDARY, RETIRED, REVOKED = KeyState.PRIMARY, KeyState.SECONDARY, KeyState.RETIRED, KeyState.REVOKED
HOUR = 3600.0


@pytest.fixture
def around() -> Surroundings:
    around = Surroundings()
    around.put(keyring(PRIMARY))
    return around


@pytest.fixture(autouse=True)
def reports_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that looks at reports must not depend on how fast they are."""
    monkeypatch.setattr(use_reports, "_WAIT_FOR_REPORT_S", 20.0)


def version_of(envelope: bytes) -> int:
    return parse(envelope).version


# What it writes


@pytest.mark.parametrize("size", [0, 1, 16 * 1024 - 1, 16 * 1024, 16 * 1024 + 1, 100_000])
def test_an_envelope_is_the_same_however_large_it_is(around: Surroundings, size: int) -> None:
    plaintext, context = b"\xa5" * size, b"context"
    draws = iter((b"p" * 12, b"t" * 12))
    envelope = around.cipher(entropy=lambda _: next(draws)).encrypt(ACME, plaintext, context)
    head = header(ACME, 1)
    sealed = derive(dek_bytes(ACME, 1), b"p" * 12).encrypt(b"t" * 12, plaintext, head + context)
    assert envelope == head + b"p" * 12 + b"t" * 12 + sealed
    assert around.cipher().decrypt(ACME, envelope, context) == plaintext


def test_a_nonce_prefix_serves_as_many_messages_as_it_may_and_not_one_more(
    around: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenant_cipher, "MAX_MESSAGES_PER_PREFIX", 3)
    cipher = around.cipher()
    envelopes = [cipher.encrypt(ACME, b"x") for _ in range(9)]
    prefixes = Counter(envelope[15:27] for envelope in envelopes)
    assert list(prefixes.values()) == [3, 3, 3]
    assert len({envelope[15:39] for envelope in envelopes}) == 9
    assert all(cipher.decrypt(ACME, envelope) == b"x" for envelope in envelopes)
    assert len(around.opened) == 1


def test_more_nonce_prefixes_than_are_remembered_still_decrypt(
    around: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenant_cipher, "_OPENERS_PER_TENANT", 4)
    writers = [around.cipher() for _ in range(11)]
    envelopes = [writer.encrypt(ACME, b"x") for writer in writers]
    reader = around.cipher()
    for envelope in envelopes * 2:
        assert reader.decrypt(ACME, envelope) == b"x"
        assert 1 <= len(reader._open[ACME].openers) <= 4


# The cache


def test_a_tenant_is_read_and_its_dek_opened_once(around: Surroundings) -> None:
    cipher = around.cipher()
    for _ in range(5):
        assert cipher.decrypt(ACME, cipher.encrypt(ACME, b"x")) == b"x"
    assert (around.reads, len(around.opened)) == ([ACME], 1)


def test_a_new_version_is_taken_up_without_a_restart(around: Surroundings) -> None:
    cipher = around.cipher()
    old = cipher.encrypt(ACME, b"old")
    around.put(keyring(SECONDARY, PRIMARY))
    around.seconds += 59.9
    assert version_of(cipher.encrypt(ACME, b"x")) == 1
    around.seconds += 0.1
    new = cipher.encrypt(ACME, b"new")
    assert version_of(new) == 2
    assert (cipher.decrypt(ACME, old), cipher.decrypt(ACME, new)) == (b"old", b"new")
    assert len(around.opened) == 2


def test_a_row_that_changed_in_nothing_that_matters_opens_nothing_again(around: Surroundings) -> None:
    cipher = around.cipher()
    envelope = cipher.encrypt(ACME, b"x")
    around.put(keyring(PRIMARY, dual_running_since=NOW))
    around.seconds += 60
    assert cipher.decrypt(ACME, envelope) == b"x"
    assert version_of(cipher.encrypt(ACME, b"x")) == 1
    assert len(around.opened) == 1


def test_a_version_younger_than_the_last_look_is_looked_up_at_once(around: Surroundings) -> None:
    reader, writer = around.cipher(), around.cipher()
    reader.encrypt(ACME, b"x")
    around.put(keyring(SECONDARY, PRIMARY))
    assert reader.decrypt(ACME, writer.encrypt(ACME, b"new")) == b"new"


def test_made_up_versions_cost_one_read_a_second(around: Surroundings) -> None:
    cipher = around.cipher()
    envelope = bytearray(cipher.encrypt(ACME, b"x"))
    envelope[6] = 99
    with pytest.raises(UnknownVersion):
        cipher.decrypt(ACME, bytes(envelope))
    around.seconds += 0.5
    for _ in range(5):
        with pytest.raises(Transient):
            cipher.decrypt(ACME, bytes(envelope))
    assert len(around.reads) == 2
    around.seconds += 0.5
    with pytest.raises(UnknownVersion):
        cipher.decrypt(ACME, bytes(envelope))
    assert len(around.reads) == 3


def test_a_version_born_right_after_a_look_up_is_not_called_unknown(around: Surroundings) -> None:
    reader = around.cipher()
    made_up = bytearray(reader.encrypt(ACME, b"x"))
    made_up[9] = 2
    with pytest.raises(UnknownVersion):
        reader.decrypt(ACME, bytes(made_up))
    around.put(keyring(SECONDARY, PRIMARY))
    around.seconds += 0.5
    envelope = around.cipher().encrypt(ACME, b"new")
    with pytest.raises(Transient):
        reader.decrypt(ACME, envelope)
    around.seconds += 0.5
    assert reader.decrypt(ACME, envelope) == b"new"


def test_a_version_that_cannot_be_looked_up_in_an_outage_is_not_called_unknown(around: Surroundings) -> None:
    reader = around.cipher()
    reader.encrypt(ACME, b"x")
    around.put(keyring(SECONDARY, PRIMARY))
    envelope = around.cipher().encrypt(ACME, b"new")
    around.outage("deks")
    around.seconds += 5
    with pytest.raises(Transient):
        reader.decrypt(ACME, envelope)
    around.outage()
    around.seconds += 5
    assert reader.decrypt(ACME, envelope) == b"new"


def test_deks_are_opened_again_after_their_time(around: Surroundings) -> None:
    around.put(keyring(RETIRED, SECONDARY, PRIMARY))
    cipher = around.cipher()
    old = around.cipher().encrypt(ACME, b"x")
    cipher.decrypt(ACME, old)
    opened = len(around.opened)
    around.seconds += HOUR - 1
    cipher.decrypt(ACME, old)
    assert len(around.opened) == opened
    around.seconds += 61
    cipher.decrypt(ACME, old)
    assert len(around.opened) == opened + 1, "the version in use, and no other"


def test_no_more_tenants_are_remembered_than_allowed(around: Surroundings) -> None:
    names = [f"tenant-{number}" for number in range(6)]
    around.put(*(keyring(PRIMARY, tenant=TenantId(name)) for name in names))
    cipher = around.cipher(CachePolicy(max_tenants=4))
    for name in names:
        cipher.encrypt(name, b"x")
    assert list(cipher._open) == names[2:]
    cipher.encrypt(names[0], b"x")
    assert list(cipher._open) == [*names[3:], names[0]]


# A KEK rotation


def test_another_wrap_of_the_same_deks_costs_nothing(around: Surroundings) -> None:
    around.put(keyring(SECONDARY, PRIMARY))
    old = around.cipher().encrypt(ACME, b"old")
    cipher = around.cipher()
    before = cipher.encrypt(ACME, b"x")
    assert (cipher.decrypt(ACME, old), cipher.decrypt(ACME, before)) == (b"old", b"x")
    openers = dict(cipher._open[ACME].openers)
    around.put(rewrapped(keyring(SECONDARY, PRIMARY)))
    around.calls.clear()
    around.seconds += 60
    assert (cipher.decrypt(ACME, old), cipher.decrypt(ACME, before)) == (b"old", b"x")
    assert cipher.encrypt(ACME, b"x")[15:27] == before[15:27], "sealed with the same nonce prefix"
    assert cipher._open[ACME].openers == openers
    assert {dek.kid for dek in cipher._open[ACME].keyring.deks} == {NEW_KID}
    assert (around.calls["deks"], around.calls["vault"]) == (1, 0)


def test_after_a_rewrap_deks_are_opened_again_as_they_are_wrapped_now(around: Surroundings) -> None:
    cipher = around.cipher()
    envelope = cipher.encrypt(ACME, b"x")
    ring = rewrapped(keyring(PRIMARY))
    around.put(ring)
    around.disabled = {KID}
    around.seconds += HOUR
    assert cipher.decrypt(ACME, envelope) == b"x"
    assert around.opened[1:] == [ring.deks[0].wrapped]


def test_a_revocation_that_comes_with_another_wrap_is_seen(around: Surroundings) -> None:
    around.put(keyring(SECONDARY, PRIMARY))
    cipher = around.cipher()
    envelope = cipher.encrypt(ACME, b"x")
    around.put(keyring(RETIRED, SECONDARY, PRIMARY))
    around.seconds += 60
    assert cipher.decrypt(ACME, envelope) == b"x"
    around.put(rewrapped(keyring(RETIRED, REVOKED, PRIMARY)))
    around.seconds += 60
    with pytest.raises(Rejected, match="revoked"):
        cipher.decrypt(ACME, envelope)


@pytest.fixture
def stale(around: Surroundings) -> tuple[TenantCipher, bytes]:
    """A cipher whose memory is from before the rewrap, and an envelope under a DEK that it has not opened yet."""
    envelope = around.cipher().encrypt(ACME, b"old")
    around.put(keyring(SECONDARY, PRIMARY))
    cipher = around.cipher()
    cipher.encrypt(ACME, b"x")
    around.put(rewrapped(keyring(SECONDARY, PRIMARY)))
    around.disabled = {KID}
    around.calls.clear()
    around.uses.clear()
    return cipher, envelope


def test_a_row_that_was_rewrapped_since_it_was_read_is_read_again_when_the_vault_refuses_it(
    around: Surroundings, stale: tuple[TenantCipher, bytes]
) -> None:
    cipher, envelope = stale
    for _ in range(3):
        assert cipher.decrypt(ACME, envelope) == b"old"
        assert cipher.encrypt(ACME, b"x")
    assert (around.calls["deks"], around.calls["vault"]) == (1, 2)
    assert {dek.kid for dek in cipher._open[ACME].keyring.deks} == {NEW_KID}
    assert not any(use.refused for use in around.uses), "nobody missed the old version"


def test_a_row_that_still_names_what_the_vault_refuses_fails(
    around: Surroundings, stale: tuple[TenantCipher, bytes]
) -> None:
    cipher, envelope = stale
    around.put(keyring(SECONDARY, PRIMARY))
    with pytest.raises(UnusableKey):
        cipher.decrypt(ACME, envelope)
    assert (around.calls["deks"], around.calls["vault"]) == (1, 1)
    assert around.uses[-1].refused == (KID,)
    assert cipher.encrypt(ACME, b"x"), "the other version is not its hostage"


def test_rows_are_read_again_once_and_not_more_often(around: Surroundings, stale: tuple[TenantCipher, bytes]) -> None:
    cipher, envelope = stale
    around.disabled = {KID, NEW_KID}
    with pytest.raises(UnusableKey):
        cipher.decrypt(ACME, envelope)
    assert (around.calls["deks"], around.calls["vault"]) == (1, 2)
    assert around.uses[-1].refused == (NEW_KID,)


def test_only_a_refusal_is_a_reason_to_read_rows_again(around: Surroundings, stale: tuple[TenantCipher, bytes]) -> None:
    cipher, envelope = stale
    around.disabled = set()
    around.refused[keyring(SECONDARY).deks[0].wrapped] = Integrity("the KEK version does not exist")
    with pytest.raises(Integrity):
        cipher.decrypt(ACME, envelope)
    assert around.calls["deks"] == 0


@pytest.mark.parametrize(
    ("rows", "error"),
    [
        (rewrapped(keyring(REVOKED, PRIMARY)), Rejected),
        (keyring(state=TenantState.DESTROYED, primary=2), TenantDestroyed),
        (keyring(PRIMARY, PRIMARY), Integrity),
    ],
    ids=["revoked", "destroyed", "unsound"],
)
def test_what_the_rows_say_when_they_are_read_again_holds(
    around: Surroundings, stale: tuple[TenantCipher, bytes], rows: Keyring, error: type[AtpError]
) -> None:
    cipher, envelope = stale
    around.put(rows)
    with pytest.raises(AtpError) as raised:
        cipher.decrypt(ACME, envelope)
    assert type(raised.value) is error
    assert not any(use.refused for use in around.uses)


def test_an_off_boarding_that_is_found_so_is_not_forgotten(
    around: Surroundings, stale: tuple[TenantCipher, bytes]
) -> None:
    cipher, envelope = stale
    around.put(rewrapped(keyring(SECONDARY, PRIMARY, state=TenantState.OFFBOARDED)))
    assert cipher.decrypt(ACME, envelope) == b"old"
    with pytest.raises(TenantOffboarded):
        cipher.encrypt(ACME, b"x")


def test_a_refusal_is_not_final_while_the_rows_cannot_be_read(
    around: Surroundings, stale: tuple[TenantCipher, bytes]
) -> None:
    cipher, envelope = stale
    around.outage("deks")
    with pytest.raises(Transient):
        cipher.decrypt(ACME, envelope)
    around.outage()
    assert cipher.decrypt(ACME, envelope) == b"old"
    assert not any(use.refused for use in around.uses)


# Tenants that may not


def test_a_tenant_that_was_never_added_is_unknown_until_it_is(around: Surroundings) -> None:
    cipher = around.cipher()
    for _ in range(2):
        with pytest.raises(UnknownTenant):
            cipher.encrypt("globex", b"x")
    around.put(keyring(PRIMARY, tenant=TenantId("globex")))
    assert cipher.encrypt("globex", b"x")


@pytest.mark.parametrize("name", ["", "ACME", "a/b", "acme ", "a" * 65])
def test_what_is_no_tenant_id_never_reaches_the_store(around: Surroundings, name: str) -> None:
    with pytest.raises(Rejected):
        around.cipher().encrypt(name, b"x")
    with pytest.raises(Rejected):
        around.cipher().decrypt(name, b"x")
    assert not around.reads


@pytest.mark.parametrize("wait", [0.0, 61.0, HOUR + 61, 10 * HOUR])
def test_a_tenant_without_a_dek_is_told_to_wait_however_long_until_it_has_one(
    around: Surroundings, wait: float
) -> None:
    around.put(keyring())
    cipher = around.cipher()
    for _ in range(3):
        with pytest.raises(Transient):
            cipher.encrypt(ACME, b"x")
        around.seconds += wait
    around.put(keyring(PRIMARY))
    assert version_of(cipher.encrypt(ACME, b"x")) == 1


def test_an_off_boarded_tenant_is_read_only_from_the_next_refresh_on(around: Surroundings) -> None:
    cipher = around.cipher()
    envelope = cipher.encrypt(ACME, b"x")
    around.put(keyring(PRIMARY, state=TenantState.OFFBOARDED))
    around.seconds += 60
    with pytest.raises(TenantOffboarded):
        cipher.encrypt(ACME, b"x")
    assert cipher.decrypt(ACME, envelope) == b"x"


@pytest.mark.parametrize("state", [TenantState.DESTROYING, TenantState.DESTROYED])
def test_a_destroyed_tenant_is_forgotten(around: Surroundings, state: TenantState) -> None:
    cipher = around.cipher()
    envelope = cipher.encrypt(ACME, b"x")
    around.put(keyring(tenant=ACME, state=state, primary=1))
    around.seconds += 60
    with pytest.raises(TenantDestroyed):
        cipher.decrypt(ACME, envelope)
    with pytest.raises(TenantDestroyed):
        cipher.encrypt(ACME, b"x")
    assert not cipher._open


@pytest.mark.parametrize("wait", [60.0, HOUR + 60])
def test_a_revoked_version_opens_nothing_and_takes_nothing_else_with_it(around: Surroundings, wait: float) -> None:
    cipher = around.cipher()
    old = cipher.encrypt(ACME, b"old")
    cipher.decrypt(ACME, old)
    around.put(keyring(REVOKED, PRIMARY))
    around.seconds += wait
    with pytest.raises(Rejected, match="revoked"):
        cipher.decrypt(ACME, old)
    new = cipher.encrypt(ACME, b"new")
    assert cipher.decrypt(ACME, new) == b"new"


REFUSALS: dict[str, AtpError] = {
    "its KEK is disabled": UnusableKey("disabled"),
    "it does not open": Integrity("does not open"),
}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=list(REFUSALS))
def test_an_old_dek_that_cannot_be_opened_again_leaves_the_tenant_working(
    around: Surroundings, refusal: AtpError
) -> None:
    cipher = around.cipher()
    old = cipher.encrypt(ACME, b"old")
    cipher.decrypt(ACME, old)
    ring = keyring(SECONDARY, PRIMARY)
    around.put(ring)
    around.refused[ring.deks[0].wrapped] = refusal
    around.seconds += HOUR
    assert cipher.decrypt(ACME, cipher.encrypt(ACME, b"new")) == b"new"
    with pytest.raises(type(refusal)):
        cipher.decrypt(ACME, old)


def test_a_dek_that_is_not_the_one_that_was_wrapped_is_never_used(around: Surroundings) -> None:
    ring = keyring(PRIMARY)
    around.put(with_dek(ring, 1, wrapped=keyring(PRIMARY, tenant=TenantId("globex")).deks[0].wrapped))
    with pytest.raises(Integrity, match="not the one"):
        around.cipher().encrypt(ACME, b"x")


def test_rows_that_contradict_themselves_stop_the_tenant(around: Surroundings) -> None:
    around.put(keyring(PRIMARY, PRIMARY))
    with pytest.raises(Integrity):
        around.cipher().encrypt(ACME, b"x")


# Outages


@pytest.mark.parametrize("ports", [("deks",), ("vault",), ("deks", "vault", "consumers")], ids=" and ".join)
def test_an_outage_is_not_noticed_before_its_time_and_ends_when_it_ends(
    around: Surroundings, ports: tuple[str, ...]
) -> None:
    cipher = around.cipher()
    envelope = cipher.encrypt(ACME, b"x")
    cipher.decrypt(ACME, envelope)
    around.outage(*ports)
    for _ in range(7):
        around.seconds += HOUR / 2
        assert cipher.decrypt(ACME, envelope) == b"x"
        assert version_of(cipher.encrypt(ACME, b"x")) == 1
    around.seconds += HOUR / 2
    with pytest.raises(Transient):
        cipher.decrypt(ACME, envelope)
    with pytest.raises(Transient):
        cipher.encrypt(ACME, b"x")
    around.outage()
    assert cipher.decrypt(ACME, envelope) == b"x"


def test_an_outage_costs_one_attempt_per_refresh(around: Surroundings, caplog: pytest.LogCaptureFixture) -> None:
    cipher = around.cipher()
    cipher.encrypt(ACME, b"x")
    around.outage("deks")
    around.seconds += 60
    for _ in range(10):
        cipher.encrypt(ACME, b"x")
    assert [record.message for record in caplog.records] == [
        "going on with the keys in memory: vault or storage does not answer"
    ]


def test_a_rotation_seen_while_the_vault_is_down_waits_for_the_vault(around: Surroundings) -> None:
    cipher = around.cipher()
    cipher.encrypt(ACME, b"x")
    around.put(keyring(SECONDARY, PRIMARY))
    around.outage("vault")
    around.seconds += 60
    assert version_of(cipher.encrypt(ACME, b"x")) == 1
    around.outage()
    around.seconds += 60
    assert version_of(cipher.encrypt(ACME, b"x")) == 2


def test_a_cipher_that_starts_in_an_outage_says_so(around: Surroundings) -> None:
    cipher = around.cipher()
    for port in ("deks", "vault"):
        around.outage(port)
        with pytest.raises(Transient):
            cipher.encrypt(ACME, b"x")
    around.outage()
    assert cipher.encrypt(ACME, b"x")


# Outages, many tenants, many threads


TENANTS = [TenantId(f"tenant-{number}") for number in range(10)]


@pytest.fixture
def busy(around: Surroundings) -> TenantCipher:
    """A cipher that knows ten tenants, whose rows it has to read again."""
    around.put(*(keyring(PRIMARY, tenant=name) for name in TENANTS))
    cipher = around.cipher()
    for name in TENANTS:
        cipher.encrypt(name, b"x")
    around.seconds += 60
    around.calls.clear()
    return cipher


@contextmanager
def hangs(around: Surroundings, port: str, work: Callable[[], object]) -> Iterator[None]:
    """While another thread does `work`, which hangs in that port, and is let go in the end."""
    hanging = around.hanging[port] = Hanging()
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(work)
        assert hanging.entered.acquire(timeout=20)
        del around.hanging[port]
        try:
            yield
        finally:
            hanging.let_go.set()
        done.result()


def test_after_a_failure_no_remembered_tenant_asks_again_for_five_seconds(
    around: Surroundings, busy: TenantCipher
) -> None:
    around.outage("deks")
    for _ in range(3):
        for name in TENANTS:
            busy.encrypt(name, b"x")
        assert around.calls["deks"] == 1
        around.seconds += 1.5
    around.seconds += 0.5
    for name in TENANTS:
        busy.encrypt(name, b"x")
    assert around.calls["deks"] == 2
    around.outage()
    around.seconds += 5
    for name in TENANTS[1:]:
        busy.encrypt(name, b"x")
    assert around.calls["deks"] == 2 + 9 - 1, "all but the two that have just failed, and go on for a minute"


def test_after_a_failure_that_took_long_the_pause_is_as_long(around: Surroundings, busy: TenantCipher) -> None:
    around.outage("deks")
    around.failing_takes = 60
    for passed in (0.0, 59.9):
        around.seconds += passed
        for name in TENANTS:
            busy.encrypt(name, b"x")
        assert around.calls["deks"] == 1
    around.seconds += 0.1
    busy.encrypt(TENANTS[5], b"x")
    assert around.calls["deks"] == 2


@pytest.mark.parametrize("outage", [False, True])
def test_while_one_thread_hangs_in_storage_the_others_go_on(
    around: Surroundings, busy: TenantCipher, monkeypatch: pytest.MonkeyPatch, outage: bool
) -> None:
    if outage:
        around.outage("deks")
        busy.encrypt(TENANTS[0], b"x")
        around.seconds += 5
        around.calls.clear()
    else:
        monkeypatch.setattr(busy._keys._storage_outage, "_at_once", 1)
    with hangs(around, "deks", lambda: busy.encrypt(TENANTS[1], b"x")):
        for name in TENANTS:
            assert busy.decrypt(name, busy.encrypt(name, b"x")) == b"x"
        assert around.calls["deks"] == 1


def test_a_tenant_that_one_thread_refreshes_is_there_for_the_others(around: Surroundings, busy: TenantCipher) -> None:
    with_new_prefix = around.cipher().encrypt(TENANTS[1], b"x")
    around.calls.clear()
    with hangs(around, "deks", lambda: busy.encrypt(TENANTS[1], b"x")):
        assert busy.encrypt(TENANTS[1], b"x")
        assert busy.decrypt(TENANTS[1], with_new_prefix) == b"x"
        assert around.calls["deks"] == 1


def test_no_more_threads_than_allowed_refresh_at_once_but_a_look_up_may(
    around: Surroundings, busy: TenantCipher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(busy._keys._storage_outage, "_at_once", 0)
    around.put(keyring(SECONDARY, PRIMARY, tenant=TENANTS[0]))
    envelope = around.cipher().encrypt(TENANTS[0], b"new")
    around.calls.clear()
    assert version_of(busy.encrypt(TENANTS[0], b"x")) == 1
    assert around.calls["deks"] == 0
    assert busy.decrypt(TENANTS[0], envelope) == b"new"


def test_a_look_up_does_not_wait_for_storage_that_is_known_to_be_away(around: Surroundings, busy: TenantCipher) -> None:
    around.put(keyring(SECONDARY, PRIMARY, tenant=TENANTS[0]))
    envelope = around.cipher().encrypt(TENANTS[0], b"new")
    around.outage("deks")
    busy.encrypt(TENANTS[1], b"x")
    around.calls.clear()
    with pytest.raises(Transient):
        busy.decrypt(TENANTS[0], envelope)
    assert around.calls["deks"] == 0


class Meanwhile:
    """A lock that is had only after somebody else has had it."""

    def __init__(self, somebody: Callable[[], None]) -> None:
        self._somebody: Callable[[], None] | None = somebody

    def __enter__(self) -> None:
        somebody, self._somebody = self._somebody, None
        if somebody is not None:
            somebody()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        pass


@pytest.mark.parametrize("port", ["deks", "vault"])
def test_who_waited_for_a_failure_shares_it(around: Surroundings, port: str) -> None:
    cipher = around.cipher()
    if port == "vault":
        cipher._keys.refreshed(ACME)
    around.outage(port)
    around.failing_takes = 60

    def fail() -> None:
        with pytest.raises(Transient):
            cipher.encrypt(ACME, b"x")

    lock: Any = Meanwhile(fail)
    locks, cipher._keys._locks = cipher._keys._locks, [lock]
    with pytest.raises(Transient, match="just now"):
        cipher.encrypt(ACME, b"x")
    assert around.calls[port] == 1
    cipher._keys._locks = locks
    with pytest.raises(Transient, match="no answer"):
        cipher.encrypt(ACME, b"who asks later asks anew")


# Outages of the vault alone: the rows hold


@pytest.mark.parametrize("wait", [60.0, HOUR, 3.9 * HOUR])
def test_an_off_boarding_is_seen_while_the_vault_is_away(around: Surroundings, wait: float) -> None:
    cipher = around.cipher()
    envelope = cipher.encrypt(ACME, b"x")
    cipher.decrypt(ACME, envelope)
    around.put(keyring(PRIMARY, state=TenantState.OFFBOARDED))
    around.outage("vault")
    around.seconds += wait
    with pytest.raises(TenantOffboarded):
        cipher.encrypt(ACME, b"x")
    assert cipher.decrypt(ACME, envelope) == b"x"
    around.put(keyring(PRIMARY))
    around.seconds += 60
    assert version_of(cipher.encrypt(ACME, b"x")) == 1, "reinstated"


@pytest.mark.parametrize("wait", [60.0, HOUR, 3.9 * HOUR])
def test_a_revocation_is_seen_while_the_vault_is_away(around: Surroundings, wait: float) -> None:
    envelope = around.cipher().encrypt(ACME, b"x")
    around.put(keyring(SECONDARY, PRIMARY))
    cipher = around.cipher()
    new = cipher.encrypt(ACME, b"new")
    cipher.decrypt(ACME, envelope)
    around.put(keyring(REVOKED, PRIMARY))
    around.outage("vault")
    around.seconds += wait
    with pytest.raises(Rejected, match="revoked"):
        cipher.decrypt(ACME, envelope)
    assert cipher.decrypt(ACME, new) == b"new"
    assert version_of(cipher.encrypt(ACME, b"x")) == 2


def test_a_revoked_primary_seals_no_more_even_if_its_successor_cannot_be_opened(around: Surroundings) -> None:
    cipher = around.cipher()
    cipher.encrypt(ACME, b"x")
    around.put(keyring(REVOKED, PRIMARY))
    around.outage("vault")
    around.seconds += 60
    with pytest.raises(Transient):
        cipher.encrypt(ACME, b"x")
    around.outage()
    assert version_of(cipher.encrypt(ACME, b"x")) == 2


def test_the_old_primary_seals_on_while_its_successor_cannot_be_opened_and_is_reported(around: Surroundings) -> None:
    writer, reader = around.cipher(), around.cipher()
    reader.decrypt(ACME, writer.encrypt(ACME, b"x"))
    around.put(keyring(SECONDARY, PRIMARY))
    around.outage("vault")
    around.seconds += HOUR
    assert version_of(reader.encrypt(ACME, b"first")) == 1
    assert around.reports[-1].encrypts_with == 1
    around.outage()
    around.seconds += 60
    assert version_of(reader.encrypt(ACME, b"x")) == 2
    assert around.reports[-1].encrypts_with == 2


def test_while_the_vault_hangs_rows_are_read_and_nobody_else_waits(
    around: Surroundings, busy: TenantCipher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(busy._keys._vault_outage, "_at_once", 1)
    around.put(*(keyring(PRIMARY, tenant=name, state=TenantState.OFFBOARDED) for name in TENANTS[:2]))
    around.outage("vault")
    around.seconds += HOUR
    with hangs(around, "vault", lambda: busy._keys.refreshed(TENANTS[0])):
        with pytest.raises(TenantOffboarded):
            busy.encrypt(TENANTS[0], b"x")
        for name in TENANTS[2:]:
            busy.encrypt(name, b"x")
        assert around.calls["vault"] == 1


# Consumer reports


def test_a_consumer_reports_what_it_uses_when_that_changes_and_now_and_then(around: Surroundings) -> None:
    cipher = around.cipher(consumer="query-3")
    old = cipher.encrypt(ACME, b"x")
    assert [(r.consumer, r.tenant, r.encrypts_with, r.decrypts_with) for r in around.reports] == [
        ("query-3", "acme", 1, ())
    ]
    around.put(keyring(SECONDARY, PRIMARY))
    cipher.decrypt(ACME, old)
    around.seconds += 60
    cipher.decrypt(ACME, old)
    assert (around.reports[-1].encrypts_with, around.reports[-1].decrypts_with) == (2, (1,))
    for _ in range(14):
        around.seconds += 60
        cipher.decrypt(ACME, old)
    assert len(around.reports) == 2
    around.seconds += 60
    cipher.decrypt(ACME, old)
    assert len(around.reports) == 3
    assert around.reports[-1].seen == NOW + timedelta(seconds=around.seconds)


def test_a_report_that_cannot_be_made_is_made_at_the_next_refresh(around: Surroundings) -> None:
    cipher = around.cipher()
    around.failures = {"consumers": Integrity("broken")}
    assert cipher.encrypt(ACME, b"x")
    around.outage()
    around.seconds += 60
    cipher.encrypt(ACME, b"x")
    assert len(around.reports) == 1


def test_encryption_does_not_wait_for_a_report_that_hangs(
    around: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(use_reports, "_WAIT_FOR_REPORT_S", 0.0)
    globex = TenantId("globex")
    around.put(keyring(PRIMARY, tenant=globex))
    cipher = around.cipher()
    hanging = around.hanging["consumers"] = Hanging()
    cipher.encrypt(ACME, b"x")
    assert hanging.entered.acquire(timeout=20)
    cipher.encrypt(globex, b"x")
    reporter = cipher._reports._thread
    assert reporter is not None
    assert not around.reports
    hanging.let_go.set()
    reporter.join()
    assert {report.tenant for report in around.reports} == {ACME, globex}
    assert cipher._reports._thread is None


@pytest.mark.parametrize("failure", [Integrity("broken"), ResourceNotFoundError("gone"), RuntimeError("a bug")])
def test_whatever_is_wrong_with_a_report_encryption_goes_on(
    around: Surroundings, failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    cipher = around.cipher()
    around.failures = {"consumers": failure}
    assert cipher.encrypt(ACME, b"x")
    assert [record.message for record in caplog.records] == ["could not report the DEK versions in use"]
    around.failures = {}
    around.seconds += 60
    cipher.encrypt(ACME, b"x")
    assert len(around.reports) == 1


def test_without_a_thread_for_reports_encryption_goes_on(around: Surroundings, monkeypatch: pytest.MonkeyPatch) -> None:
    cipher = around.cipher()

    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        assert cipher.encrypt(ACME, b"x")
    around.seconds += 60
    assert cipher.encrypt(ACME, b"x")
    assert len(around.reports) == 1


def test_a_report_whose_row_is_removed_before_it_is_updated_is_made_anew() -> None:
    class Table:
        """The row is there once, and gone when it is written."""

        def __init__(self) -> None:
            self.rows = [TableEntity(seen=NOW)]
            self.rows[0]._metadata = {"etag": "1", "timestamp": None}
            self.created: list[dict[str, Any]] = []

        def get_entity(self, *_: str) -> TableEntity:
            if not self.rows:
                raise ResourceNotFoundError("gone")
            return self.rows.pop()

        def update_entity(self, *_: object, **__: object) -> None:
            raise ResourceNotFoundError("gone")

        def create_entity(self, row: dict[str, Any]) -> None:
            self.created.append(row)

    table: Any = Table()
    AzureConsumers(table).report(ConsumerReport("ingest-7", ACME, 1, (), NOW))
    assert [row["consumer"] for row in table.created] == ["ingest-7"]


# Reports to the rotations of KEKs


GLOBEX = TenantId("globex")


def named(use: KekUse) -> tuple[tuple[Kid, ...], tuple[Kid, ...]]:
    return use.kids, use.refused


def test_the_kek_versions_of_the_rows_are_reported_now_and_then_and_when_they_change(around: Surroundings) -> None:
    around.put(keyring(PRIMARY, tenant=GLOBEX))
    cipher = around.cipher(consumer="query-3")
    cipher.encrypt(ACME, b"x")
    assert around.uses == [KekUse("query-3", (KID,), (), NOW + timedelta(seconds=around.seconds))]
    cipher.encrypt(GLOBEX, b"x")
    for _ in range(14):
        around.seconds += 60
        cipher.encrypt(ACME, b"x")
        cipher.encrypt(GLOBEX, b"x")
    assert len(around.uses) == 1
    around.seconds += 60
    cipher.encrypt(ACME, b"x")
    assert [named(use) for use in around.uses[1:]] == [((KID,), ())]
    cipher.encrypt(GLOBEX, b"x")
    around.put(rewrapped(keyring(PRIMARY)))
    around.seconds += 60
    cipher.encrypt(ACME, b"x")
    assert [named(use) for use in around.uses[2:]] == [((KID, NEW_KID), ())]
    around.put(rewrapped(keyring(PRIMARY, tenant=GLOBEX)))
    cipher.encrypt(GLOBEX, b"x")
    assert around.uses[-1].kids == (KID, NEW_KID)
    around.seconds += 60
    cipher.encrypt(GLOBEX, b"x")
    assert [named(use) for use in around.uses[3:]] == [((NEW_KID,), ())]
    assert around.uses[-1].seen == NOW + timedelta(seconds=around.seconds)


def test_kek_versions_that_come_and_go_are_reported_every_thirty_seconds_at_most(around: Surroundings) -> None:
    cipher = around.cipher(CachePolicy(refresh_after=timedelta(0)))
    for second in range(91):
        around.put(rewrapped(keyring(PRIMARY), Kid(f"{KID}{second}")))
        cipher.encrypt(ACME, b"x")
        around.seconds += 1
    assert [use.kids for use in around.uses] == [(f"{KID}{second}",) for second in (0, 30, 60, 90)]


def test_rows_that_were_read_long_ago_do_not_count(around: Surroundings) -> None:
    around.put(rewrapped(keyring(PRIMARY, tenant=GLOBEX)))
    cipher = around.cipher()
    cipher.encrypt(ACME, b"x")
    around.seconds += 60
    cipher.encrypt(GLOBEX, b"x")
    assert len(around.uses) == 2
    for _ in range(14):
        around.seconds += 60
        cipher.encrypt(GLOBEX, b"x")
    assert [use.kids for use in around.uses] == [(KID,), (KID, NEW_KID), (NEW_KID,)]


def test_no_more_tenants_are_counted_than_are_remembered(around: Surroundings) -> None:
    around.put(rewrapped(keyring(PRIMARY, tenant=GLOBEX)))
    cipher = around.cipher(CachePolicy(max_tenants=1))
    cipher.encrypt(ACME, b"x")
    around.seconds += 30
    cipher.encrypt(GLOBEX, b"x")
    assert [use.kids for use in around.uses] == [(KID,), (NEW_KID,)]


@pytest.mark.parametrize("state", [TenantState.DESTROYING, TenantState.DESTROYED])
def test_when_the_last_tenant_is_destroyed_no_kek_version_is_in_use(around: Surroundings, state: TenantState) -> None:
    cipher = around.cipher()
    cipher.encrypt(ACME, b"x")
    around.put(keyring(state=state, primary=1))
    around.seconds += 60
    with pytest.raises(TenantDestroyed):
        cipher.encrypt(ACME, b"x")
    assert [named(use) for use in around.uses] == [((KID,), ()), ((), ())]


def test_a_cipher_that_knows_no_tenant_reports_that(around: Surroundings) -> None:
    with pytest.raises(UnknownTenant):
        around.cipher().encrypt(GLOBEX, b"x")
    assert [named(use) for use in around.uses] == [((), ())]


def test_a_refusal_is_reported_at_once_and_then_every_thirty_seconds(around: Surroundings) -> None:
    around.disabled = {KID}
    cipher = around.cipher()

    def refuse() -> None:
        with pytest.raises(UnusableKey):
            cipher.encrypt(ACME, b"x")

    refuse()
    assert [named(use) for use in around.uses] == [((KID,), ()), ((KID,), (KID,))]
    for _ in range(29):
        around.seconds += 1
        refuse()
    assert len(around.uses) == 2
    around.seconds += 1
    refuse()
    assert [named(use) for use in around.uses[2:]] == [((KID,), (KID,))]
    around.disabled = set()
    for _ in range(15):
        around.seconds += 60
        cipher.encrypt(ACME, b"x")
    assert [named(use) for use in around.uses[3:]] == [((KID,), ())]


def test_a_dek_that_cannot_be_opened_again_is_reported_though_nobody_asks_for_it(around: Surroundings) -> None:
    old = around.cipher().encrypt(ACME, b"old")
    around.put(keyring(SECONDARY, PRIMARY))
    cipher = around.cipher()
    cipher.decrypt(ACME, old)
    around.put(with_dek(rewrapped(keyring(SECONDARY, PRIMARY)), 1, kid=KID))
    around.disabled = {KID}
    around.seconds += HOUR
    cipher.encrypt(ACME, b"x")
    assert named(around.uses[-1]) == ((KID, NEW_KID), (KID,))


def test_what_was_refused_stays_to_be_told_until_it_is(around: Surroundings) -> None:
    around.disabled = {KID}
    around.outage("uses")
    cipher = around.cipher()
    with pytest.raises(UnusableKey):
        cipher.encrypt(ACME, b"x")
    tried = around.calls["uses"]
    around.disabled = set()
    around.outage()
    around.seconds += 29
    around.put(keyring(PRIMARY, tenant=GLOBEX))
    cipher.encrypt(GLOBEX, b"x")
    assert (around.calls["uses"], around.uses) == (tried, [])
    around.seconds += 31
    cipher.encrypt(ACME, b"x")
    assert [named(use) for use in around.uses] == [((KID,), (KID,))]


@pytest.mark.parametrize("failure", [Integrity("broken"), ResourceNotFoundError("gone"), RuntimeError("a bug")])
def test_whatever_is_wrong_with_a_report_of_kek_versions_encryption_goes_on(
    around: Surroundings, failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    cipher = around.cipher()
    around.failures = {"uses": failure}
    assert cipher.encrypt(ACME, b"x")
    assert [record.message for record in caplog.records] == ["could not report the KEK versions in use"]
    assert len(around.reports) == 1, "the other reports are made"
    around.failures = {}
    around.seconds += 60
    cipher.encrypt(ACME, b"x")
    assert len(around.uses) == 1


def test_nobody_waits_for_a_report_of_kek_versions_that_hangs(
    around: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(use_reports, "_WAIT_FOR_REPORT_S", 0.0)
    around.put(keyring(PRIMARY, tenant=GLOBEX))
    cipher = around.cipher()
    hanging = around.hanging["uses"] = Hanging()
    cipher.encrypt(ACME, b"x")
    assert hanging.entered.acquire(timeout=20)
    around.disabled = {KID}
    with pytest.raises(UnusableKey):
        cipher.encrypt(GLOBEX, b"x")
    reporter = cipher._reports._thread
    assert reporter is not None
    assert not around.uses
    hanging.let_go.set()
    reporter.join()
    assert [named(use) for use in around.uses] == [((KID,), ()), ((KID,), (KID,))]


def test_refusals_that_wait_for_a_report_that_hangs_are_told_together(
    around: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(use_reports, "_WAIT_FOR_REPORT_S", 0.0)
    around.put(rewrapped(keyring(PRIMARY, tenant=GLOBEX)))
    around.disabled = {KID, NEW_KID}
    cipher = around.cipher()
    hanging = around.hanging["uses"] = Hanging()
    with pytest.raises(UnusableKey):
        cipher.encrypt(ACME, b"x")
    assert hanging.entered.acquire(timeout=20)
    with pytest.raises(UnusableKey):
        cipher.encrypt(GLOBEX, b"x")
    with pytest.raises(UnusableKey):
        cipher.encrypt(ACME, b"x")
    reporter = cipher._reports._thread
    assert reporter is not None
    hanging.let_go.set()
    reporter.join()
    assert named(around.uses[-1]) == ((KID, NEW_KID), (KID, NEW_KID))


def test_without_a_thread_for_reports_a_refusal_stays_to_be_told(
    around: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    around.disabled = {KID}
    cipher = around.cipher()

    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        with pytest.raises(UnusableKey):
            cipher.encrypt(ACME, b"x")
    around.disabled = set()
    around.seconds += 60
    assert cipher.encrypt(ACME, b"x")
    assert [named(use) for use in around.uses] == [((KID,), (KID,))]


# Threads and processes


@pytest.fixture
def hasty_threads() -> object:
    """Threads that change places at every opportunity."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def in_threads(work: Callable[[int], object], threads: int = 8) -> None:
    """Run `work` in that many threads that begin together; their errors are ours."""
    together = threading.Barrier(threads)

    def begin(number: int) -> None:
        together.wait()
        work(number)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(begin, range(threads)))


@pytest.mark.usefixtures("hasty_threads")
def test_threads_share_one_cipher_while_its_tenants_rotate(around: Surroundings) -> None:
    cipher = around.cipher(CachePolicy(refresh_after=timedelta(0), reopen_after=timedelta(hours=1)))
    states: list[Keyring] = [keyring(*[RETIRED] * number, PRIMARY) for number in range(8)]

    def work(number: int) -> None:
        for round_number in range(25):
            if number == 0 and round_number % 4 == 3:
                around.put(states[round_number // 4])
            text = f"{number}/{round_number}".encode()
            assert cipher.decrypt(ACME, cipher.encrypt(ACME, text)) == text

    around.put(states[0])
    in_threads(work)
    assert len(around.opened) == len(set(around.opened)), "a version is opened once, whoever needs it first"


@pytest.mark.usefixtures("hasty_threads")
def test_threads_that_push_each_others_tenants_out_of_the_cache_do_not_fail(around: Surroundings) -> None:
    names = [f"tenant-{number}" for number in range(40)]
    around.put(*(keyring(PRIMARY, tenant=TenantId(name)) for name in names))
    cipher = around.cipher(CachePolicy(max_tenants=3))

    def work(number: int) -> None:
        for turn in range(60):
            name = names[(number * 5 + turn) % len(names)]
            assert cipher.decrypt(name, cipher.encrypt(name, b"x")) == b"x"

    in_threads(work)
    assert len(cipher._open) <= 3


@pytest.mark.usefixtures("hasty_threads")
def test_threads_notice_nothing_of_a_kek_rotation(around: Surroundings) -> None:
    rings = [keyring(PRIMARY, tenant=TenantId(f"tenant-{number}")) for number in range(40)]
    around.put(*rings)
    cipher = around.cipher(CachePolicy(max_tenants=3))

    def work(number: int) -> None:
        for turn in range(60):
            if (number, turn) == (0, 30):
                around.put(*(rewrapped(ring) for ring in rings))
                around.disabled = {KID}
            name = rings[(number * 5 + turn) % len(rings)].tenant.tenant
            assert cipher.decrypt(name, cipher.encrypt(name, b"x")) == b"x"

    in_threads(work)
    assert not any(use.refused for use in around.uses)


def test_threads_together_respect_the_limit_of_a_prefix(
    around: Surroundings, hasty_threads: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenant_cipher, "MAX_MESSAGES_PER_PREFIX", 10)
    cipher = around.cipher()
    prefixes: Counter[bytes] = Counter()
    counting = threading.Lock()

    def work(number: int) -> None:
        for _ in range(50):
            envelope = cipher.encrypt(ACME, b"x")
            with counting:
                prefixes[envelope[15:27]] += 1

    in_threads(work)
    assert sum(prefixes.values()) == 400
    assert max(prefixes.values()) <= 10


def test_a_forked_child_shares_neither_nonce_prefix_nor_locks_with_its_parent() -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "tests.pure.fork"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    parent, child, parent_again = done.stdout.split()
    assert parent == parent_again
    assert child != parent


def test_every_error_of_a_bad_envelope_can_be_caught_as_one(around: Surroundings) -> None:
    assert issubclass(NotAuthentic, BadEnvelope)
    assert issubclass(BadEnvelope, Rejected)
    ring = replace(keyring(PRIMARY), deks=())
    around.put(ring)
    with pytest.raises(Integrity):
        around.cipher().decrypt(ACME, b"")


def test_a_refusal_is_in_every_report_of_the_next_quarter_of_an_hour(around: Surroundings) -> None:
    cipher = around.cipher(CachePolicy(report_every=timedelta(minutes=5)))
    cipher.encrypt(ACME, b"x")
    around.put(rewrapped(keyring(PRIMARY, tenant=GLOBEX)))
    around.disabled = {NEW_KID}
    with pytest.raises(UnusableKey):
        cipher.encrypt(GLOBEX, b"x")
    refused_at = around.seconds
    told = []
    for _ in range(5):
        around.seconds += 300
        cipher.encrypt(ACME, b"x")
        told.append((around.seconds - refused_at, NEW_KID in around.uses[-1].refused))
    assert told == [(300, True), (600, True), (900, False), (1200, False), (1500, False)]
