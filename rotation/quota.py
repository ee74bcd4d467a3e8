"""What key vaults can do, and what a KEK rotation asks of them: operations, time, and whether a deadline can be met.

Every operation is priced in seconds of a vault's time, so that kinds and sizes of keys add up whatever limits them.
Sources: https://learn.microsoft.com/azure/key-vault/general/service-limits (4,000 operations per vault and 10 s with
RSA-2048 software keys, a weighted sum over all keys) and
https://learn.microsoft.com/azure/key-vault/managed-hsm/scaling-guidance (operations per second and partition).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import Final

from shared.errors import Rejected
from shared.values import SHARDS, KeyKind, KeyShape, Kid


class Operation(StrEnum):
    """What is asked of a vault."""

    UNWRAP = "unwrap"
    WRAP = "wrap"


MAX_ROWS_PER_BATCH: Final = 1000
"""Rows, tenants' own included, that one queue message handles at most."""
_PASSES: Final = 8
"""Walks over all shards: freeze, sweep, two clean ones, scrub, two before the retirement, the last drop."""
_PER_BATCH: Final = 8
"""Run, checkpoint and DEKs are read, a page of the manifest, the checkpoint put; a message is got, sent and deleted."""
_PER_SECOND: Final[Mapping[KeyKind, Mapping[int, int]]] = {
    KeyKind.RSA: {2048: 400, 3072: 100, 4096: 50},
    KeyKind.RSA_HSM: {2048: 200, 3072: 50, 4096: 25},
}
_MANAGED_RSA: Final[Mapping[int, int]] = {2048: 1100, 3072: 360, 4096: 160}
_MANAGED_OCT: Final[Mapping[Operation, int]] = {Operation.UNWRAP: 2200, Operation.WRAP: 2100}
_MANAGED_HOST: Final = ".managedhsm."


def vault_of(kid: Kid) -> str:
    """The URL of the vault that a key id belongs to."""
    return kid.partition("/keys/")[0]


def is_managed_hsm(vault: str, shape: KeyShape) -> bool:
    """Whether the limits of Managed HSM hold; symmetric keys exist only there."""
    return shape.kind is KeyKind.OCT_HSM or _MANAGED_HOST in vault


def rate(vault: str, shape: KeyShape, operation: Operation) -> int:
    """Operations per second that the vault does with such a key when it does nothing else."""
    if shape.kind is KeyKind.OCT_HSM:
        return _MANAGED_OCT[operation]
    table = _MANAGED_RSA if is_managed_hsm(vault, shape) else _PER_SECOND[shape.kind]
    if shape.bits not in table:
        sizes = ", ".join(str(bits) for bits in table)
        raise Rejected("a KEK of this size has no known quota", bits=shape.bits, known=sizes)
    return table[shape.bits]


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be estimated."""

    rows: int  # DEKs to rewrap
    old_vault: str
    old: KeyShape
    new_vault: str
    new: KeyShape
    sampled: float  # share of the DEKs opened again as a check
    headroom: float  # share of the quota that is left to production
    vaults: int = 1  # over how many vaults KEKs and tenants are spread evenly
    deadline: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a rotation costs and how long it takes."""

    unwraps: int  # with the old version, one per DEK
    checks: int  # unwraps with the new version
    wraps: int  # at the vault; those by public key cost nothing
    storage_transactions: int
    duration: timedelta
    allowed_per_second: float  # DEKs

    @property
    def vault_operations(self) -> int:
        """All of them."""
        return self.unwraps + self.checks + self.wraps


def estimate(question: Question) -> Estimate:
    """Operations of a rotation, and the time of its sweep and scrub at the quota that is left to it."""
    old_cost = 1 / rate(question.old_vault, question.old, Operation.UNWRAP)
    check_cost = question.sampled / rate(question.new_vault, question.new, Operation.UNWRAP)
    remote = question.new.kind is KeyKind.OCT_HSM
    wrap_cost = 1 / rate(question.new_vault, question.new, Operation.WRAP) if remote else 0.0
    new_cost = check_cost + wrap_cost
    # Two vaults work side by side; one has to do both.
    per_row = old_cost + new_cost if question.old_vault == question.new_vault else max(old_cost, new_cost)
    per_row /= (1 - question.headroom) * question.vaults
    return Estimate(
        unwraps=question.rows,
        checks=round(question.rows * question.sampled),
        wraps=question.rows if remote else 0,
        storage_transactions=_storage_transactions(question.rows),
        duration=timedelta(seconds=question.rows * per_row),
        allowed_per_second=1 / per_row,
    )


def _storage_transactions(rows: int) -> int:
    """As if every tenant had a single DEK, which is changed when it is swept and when its kept wrap is dropped."""
    full = -(-2 * rows // MAX_ROWS_PER_BATCH)
    batches = full + 2 * SHARDS  # of each shard the last one is not full, and one more finds the end
    return 2 * rows + _PASSES * _PER_BATCH * batches


def ensure_feasible(question: Question) -> Estimate:
    """The estimate; Rejected if it misses the deadline, saying by how much and what would help."""
    found = estimate(question)
    if question.deadline is None or found.duration <= question.deadline:
        return found
    needed = -(-found.duration * question.vaults // question.deadline)
    raise Rejected(
        "the quota of the vault cannot meet the deadline",
        rows=question.rows,
        takes=spoken(found.duration),
        deadline=spoken(question.deadline),
        late_by=spoken(found.duration - question.deadline),
        would_help="; ".join(_remedies(question, needed)),
    )


def _remedies(question: Question, needed: int) -> list[str]:
    """What would meet the deadline, or come closer: most of all what the next KEK should be."""
    takes = estimate(question).duration
    hours = -(-takes // timedelta(hours=1))
    remedies = [f"a deadline of {hours} h or more", f"KEKs spread over {needed} vaults"]
    shapes = {"AES-256 in a Managed HSM": KeyShape(KeyKind.OCT_HSM, 256)}
    if question.old.kind is not KeyKind.OCT_HSM:
        shapes["a KEK of 2048 bits"] = KeyShape(question.old.kind, 2048)
    for what, shape in shapes.items():
        would_take = estimate(replace(question, old=shape, new=shape)).duration
        if would_take < takes:
            remedies.append(f"from the next rotation on, {what} ({spoken(would_take)})")
    return remedies


def spoken(duration: timedelta) -> str:
    """A duration for people, rounded up to minutes."""
    minutes = -(-duration // timedelta(minutes=1))
    return f"{minutes // 60} h {minutes % 60:02} min"
