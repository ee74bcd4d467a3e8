"""What key vaults can do in a time, by Microsoft's published limits, and what a rotation needs of it."""

from datetime import timedelta

import pytest

from rotation.quota import (
    Operation,
    Question,
    ensure_feasible,
    estimate,
    is_managed_hsm,
    rate,
    spoken,
    vault_of,
)
from shared.errors import Rejected
from shared.values import KeyKind, KeyShape, Kid

VAULT = "https://atp.vault.azure.net"
OTHER = "https://atp-2.vault.azure.net"
MANAGED = "https://atp.managedhsm.azure.net"
RSA, HSM, OCT = KeyKind.RSA, KeyKind.RSA_HSM, KeyKind.OCT_HSM


def question(
    shape: KeyShape, new: KeyShape | None = None, *, vault: str = VAULT, new_vault: str | None = None, **changes: float
) -> Question:
    """A million DEKs at the whole quota, without samples, unless said otherwise."""
    rows, vaults = int(changes.get("rows", 1_000_000)), int(changes.get("vaults", 1))
    sampled, headroom = changes.get("sampled", 0.0), changes.get("headroom", 0.0)
    deadline = timedelta(hours=changes["deadline_hours"]) if "deadline_hours" in changes else None
    return Question(rows, vault, shape, new_vault or vault, new or shape, sampled, headroom, vaults, deadline)


@pytest.mark.parametrize(
    ("kind", "bits", "minutes"),
    [
        (RSA, 2048, 42),
        (HSM, 2048, 83),
        (RSA, 3072, 2.8 * 60),
        (HSM, 3072, 5.6 * 60),
        (RSA, 4096, 5.6 * 60),
        (HSM, 4096, 11.1 * 60),
    ],
)
def test_a_million_deks_take_as_long_as_the_published_limits_say(kind: KeyKind, bits: int, minutes: float) -> None:
    found = estimate(question(KeyShape(kind, bits)))
    assert found.duration / timedelta(minutes=1) == pytest.approx(minutes, rel=0.01)
    assert found.allowed_per_second == pytest.approx(1_000_000 / found.duration.total_seconds())
    assert (found.unwraps, found.checks, found.wraps, found.vault_operations) == (1_000_000, 0, 0, 1_000_000)


@pytest.mark.parametrize(
    ("vault", "kind", "bits", "operation", "per_second"),
    [
        (VAULT, RSA, 2048, Operation.UNWRAP, 400),
        (VAULT, RSA, 3072, Operation.UNWRAP, 100),
        (VAULT, RSA, 4096, Operation.UNWRAP, 50),
        (VAULT, HSM, 2048, Operation.UNWRAP, 200),
        (VAULT, HSM, 3072, Operation.UNWRAP, 50),
        (VAULT, HSM, 4096, Operation.UNWRAP, 25),
        (MANAGED, HSM, 2048, Operation.UNWRAP, 1100),
        (MANAGED, HSM, 3072, Operation.UNWRAP, 360),
        (MANAGED, HSM, 4096, Operation.UNWRAP, 160),
        (MANAGED, OCT, 256, Operation.UNWRAP, 2200),
        (MANAGED, OCT, 256, Operation.WRAP, 2100),
    ],
)
def test_every_kind_and_size_has_its_published_rate(
    vault: str, kind: KeyKind, bits: int, operation: Operation, per_second: int
) -> None:
    shape = KeyShape(kind, bits)
    assert rate(vault, shape, operation) == per_second
    assert is_managed_hsm(vault, shape) is (vault == MANAGED)


def test_a_size_without_a_published_rate_is_refused() -> None:
    with pytest.raises(Rejected, match="bits=1024, known=2048, 3072, 4096"):
        estimate(question(KeyShape(RSA, 1024)))


def test_the_vault_of_a_key_id_is_all_before_the_keys() -> None:
    assert vault_of(Kid(f"{VAULT}/keys/master-kek/{7:032x}")) == VAULT


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        (question(KeyShape(RSA, 2048), rows=0), 0),
        (question(KeyShape(RSA, 2048), headroom=0.2), 2500 / 0.8),
        (question(KeyShape(RSA, 2048), vaults=5), 500),
        (question(KeyShape(RSA, 2048), sampled=0.01), 2500 + 25),
        (question(KeyShape(RSA, 2048), KeyShape(RSA, 4096), sampled=0.01), 2500 + 200),
        # side by side, the slower one counts
        (question(KeyShape(RSA, 2048), KeyShape(RSA, 4096), sampled=0.01, new_vault=OTHER), 2500),
        (question(KeyShape(RSA, 2048), KeyShape(RSA, 4096), sampled=1.0, new_vault=OTHER), 20_000),
        (question(KeyShape(OCT, 256), vault=MANAGED), 1e6 / 2200 + 1e6 / 2100),
        (question(KeyShape(RSA, 2048), KeyShape(OCT, 256), new_vault=MANAGED), 2500),
    ],
)
def test_operations_add_up_on_one_vault_and_run_side_by_side_on_two(asked: Question, seconds: float) -> None:
    assert estimate(asked).duration.total_seconds() == pytest.approx(seconds)


def test_only_a_symmetric_key_is_wrapped_at_the_vault() -> None:
    assert estimate(question(KeyShape(OCT, 256), KeyShape(HSM, 2048), vault=MANAGED)).wraps == 0
    found = estimate(question(KeyShape(HSM, 2048), KeyShape(OCT, 256), vault=MANAGED, sampled=0.01))
    assert (found.unwraps, found.checks, found.wraps) == (1_000_000, 10_000, 1_000_000)
    assert found.vault_operations == 2_010_000


def test_storage_transactions_are_few_per_dek_and_never_none() -> None:
    assert estimate(question(KeyShape(RSA, 2048), rows=0)).storage_transactions == 64 * 2 * 64
    assert estimate(question(KeyShape(RSA, 2048))).storage_transactions == 2_000_000 + 64 * (2000 + 128)


def test_a_deadline_that_can_be_met_is_answered_with_the_estimate() -> None:
    asked = question(KeyShape(RSA, 2048), deadline_hours=1)
    assert ensure_feasible(asked) == estimate(asked)
    ensure_feasible(question(KeyShape(RSA, 2048), rows=1_440_000, deadline_hours=1))  # to the second
    with pytest.raises(Rejected):
        ensure_feasible(question(KeyShape(RSA, 2048), rows=1_440_001, deadline_hours=1))
    ensure_feasible(question(KeyShape(HSM, 4096)))  # no deadline, no refusal


NEXT_TIME = "from the next rotation on, "


@pytest.mark.parametrize(
    ("asked", "late_by", "would_help"),
    [
        (
            question(KeyShape(HSM, 2048), headroom=0.2, deadline_hours=1),
            "0 h 45 min",
            [
                "a deadline of 2 h or more",
                "KEKs spread over 2 vaults",
                f"{NEXT_TIME}AES-256 in a Managed HSM (0 h 20 min)",
            ],
        ),
        (
            question(KeyShape(RSA, 2048), rows=1_200_000, headroom=0.2, deadline_hours=1),
            "0 h 03 min",
            [
                "a deadline of 2 h or more",
                "KEKs spread over 2 vaults",
                f"{NEXT_TIME}AES-256 in a Managed HSM (0 h 24 min)",
            ],
        ),
        (
            question(KeyShape(RSA, 4096), deadline_hours=4),
            "1 h 34 min",
            [
                "a deadline of 6 h or more",
                "KEKs spread over 2 vaults",
                f"{NEXT_TIME}AES-256 in a Managed HSM (0 h 16 min)",
                f"{NEXT_TIME}a KEK of 2048 bits (0 h 42 min)",
            ],
        ),
        # what is fastest already has nothing to change to
        (
            question(KeyShape(HSM, 2048), vault=MANAGED, rows=10_000_000, deadline_hours=1),
            "1 h 32 min",
            ["a deadline of 3 h or more", "KEKs spread over 3 vaults"],
        ),
        (
            question(KeyShape(OCT, 256), vault=MANAGED, rows=10_000_000, deadline_hours=1),
            "1 h 36 min",
            ["a deadline of 3 h or more", "KEKs spread over 3 vaults"],
        ),
    ],
)
def test_a_deadline_that_cannot_be_met_is_refused_with_what_would_help(
    asked: Question, late_by: str, would_help: list[str]
) -> None:
    with pytest.raises(Rejected, match="cannot meet the deadline") as refusal:
        ensure_feasible(asked)
    assert refusal.value.fields["late_by"] == late_by
    assert refusal.value.fields["would_help"] == "; ".join(would_help)


def test_as_many_vaults_as_would_help_do_help() -> None:
    asked = question(KeyShape(HSM, 4096), headroom=0.2, sampled=0.01, deadline_hours=2, vaults=3)
    with pytest.raises(Rejected, match="spread over 8 vaults"):
        ensure_feasible(asked)
    ensure_feasible(question(KeyShape(HSM, 4096), headroom=0.2, sampled=0.01, deadline_hours=2, vaults=8))


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(), "0 h 00 min"),
        (timedelta(microseconds=1), "0 h 01 min"),
        (timedelta(minutes=83, seconds=20), "1 h 24 min"),
        (timedelta(days=2), "48 h 00 min"),
    ],
)
def test_durations_are_told_in_hours_and_minutes_rounded_up(duration: timedelta, text: str) -> None:
    assert spoken(duration) == text
