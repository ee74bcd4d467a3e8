"""The command `plan kek`: a dry run. It counts what there is to rewrap and says what that takes; nothing is changed."""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from rich.console import Console
from rich.progress import track

from rotation.commands.grammar import Commands, add_command, add_json, number
from rotation.commands.kek_orders import add_name, add_new_version, order_from, policy_of, run_of
from rotation.commands.ports import Ports
from rotation.kek import question, started
from rotation.message import KekAction
from rotation.quota import MAX_ROWS_PER_BATCH, Estimate, Question, ensure_feasible, estimate, spoken, vault_of
from rotation.rewrap import is_readable
from shared.errors import Rejected
from shared.settings import Settings
from shared.values import SHARDS, KekRecord, KeyPointer, KeyShape, Kid

_MAX_VAULTS: Final = 1000
_LABEL: Final = 20


@dataclass
class Census:
    """The DEKs that a rotation would rewrap."""

    tenants: int = 0
    by_kid: Counter[Kid] = field(default_factory=Counter)

    @property
    def deks(self) -> int:
        """All of them."""
        return self.by_kid.total()


@dataclass(frozen=True, slots=True)
class Plan:
    """What a rotation would find and take."""

    kek: str
    primary: Kid
    census: Census
    question: Question
    estimate: Estimate
    begun: datetime

    @property
    def eta(self) -> datetime:
        """When its last DEK would be checked if it began now."""
        return self.begun + self.estimate.duration


def add_to(plan: Commands) -> None:
    """Put the command into the command line."""
    kek = add_command(
        plan,
        "kek",
        "count the DEKs and say what rotating the KEK takes; refused if the quota does not allow the deadline",
        _plan,
        sample="plan kek master-kek --deadline 4 --vaults 2",
    )
    add_name(kek)
    add_new_version(kek)
    vaults = number("a number of vaults", _MAX_VAULTS)
    kek.add_argument("--vaults", type=vaults, default=1, metavar="N", help="as if KEKs were spread over so many vaults")
    add_json(kek, "one JSON object")
    kek.set_defaults(
        action=KekAction.ROTATE, kid=None, compromised=False, shard=None, tenant=None, actor=None, reason="plan"
    )


def _plan(options: argparse.Namespace, settings: Settings, ports: Ports) -> Iterator[str]:
    policy = policy_of(options.kek, settings)
    order = order_from(options, "plan", settings)
    now = ports.clock()
    record = ports.keks.read(policy.name)
    if record is None:  # the first rotation would adopt it
        record = KekRecord(KeyPointer(policy.name, ports.vault.newest(policy.name).kid, now))
    primary = record.pointer.kid
    run = run_of(started(record, order, now), policy.name)
    old = ports.vault.version(primary).shape
    census = counted(ports)
    asked = question(run, census.deks, run.vault or vault_of(primary), old, run.shape or old, policy, now)
    asked = replace(asked, vaults=options.vaults)
    plan = Plan(policy.name, primary, census, asked, estimate(asked), now)
    yield from [json.dumps(as_json(plan))] if options.json else lines(plan)
    strangers = sorted(kid for kid in census.by_kid if kid != primary)
    if strangers:
        raise Rejected(
            "DEKs are still wrapped under another version: bring that rotation to its end",
            kid=strangers[0],
            deks=sum(census.by_kid[kid] for kid in strangers),
        )
    ensure_feasible(asked)


def counted(ports: Ports) -> Census:
    """Every DEK that is to be kept, by KEK version; a bar on standard error while it counts, if that is a terminal."""
    census = Census()
    console = Console(stderr=True)
    is_seen = sys.stderr.isatty()
    for shard in track(range(SHARDS), "counting DEKs", console=console, transient=True, disable=not is_seen):
        after = None
        while page := ports.deks.page(shard, after, MAX_ROWS_PER_BATCH):
            for keyring in page:
                if is_readable(keyring.tenant):
                    census.tenants += 1
                    census.by_kid.update(dek.kid for dek in keyring.deks)
            after = page[-1].tenant.tenant
    return census


def lines(plan: Plan) -> Iterator[str]:
    """The plan for people."""
    asked, found, census = plan.question, plan.estimate, plan.census
    yield _labelled("KEK", f"{plan.kek}: {_spoken(asked.old)} in {asked.old_vault}")
    yield _labelled("new version", f"{_spoken(asked.new)} in {asked.new_vault}")
    yield _labelled("DEKs", f"{census.deks:,} in {census.tenants:,} tenants")
    for kid, deks in sorted(census.by_kid.items()):
        yield _labelled("", f"{deks:,} under {kid}{', the primary version' if kid == plan.primary else ''}")
    yield _labelled(
        "vault operations",
        f"{found.vault_operations:,}: {found.unwraps:,} unwraps, {found.checks:,} checks, {found.wraps:,} wraps",
    )
    yield _labelled("storage transactions", f"about {found.storage_transactions:,}")
    vaults = f", on {asked.vaults} vaults" if asked.vaults > 1 else ""
    yield _labelled(
        "allowed rate",
        f"{found.allowed_per_second:,.0f} DEKs/s{vaults}, leaving {asked.headroom:.0%} of the quota to production",
    )
    yield _labelled("sweep and scrub take", f"{spoken(found.duration)} of the vault's time")
    yield _labelled(
        "ETA", f"{plan.eta.astimezone(UTC):%Y-%m-%d %H:%M} UTC at the earliest, if begun now; then come grace and soak"
    )


def as_json(plan: Plan) -> Mapping[str, object]:
    """The plan for programs."""
    asked, found, census = plan.question, plan.estimate, plan.census
    return {
        "kek": plan.kek,
        "primary": plan.primary,
        "old": {"vault": asked.old_vault, "kind": asked.old.kind, "bits": asked.old.bits},
        "new": {"vault": asked.new_vault, "kind": asked.new.kind, "bits": asked.new.bits},
        "tenants": census.tenants,
        "deks": census.deks,
        "by_kid": dict(sorted(census.by_kid.items())),
        "unwraps": found.unwraps,
        "checks": found.checks,
        "wraps": found.wraps,
        "storage_transactions": found.storage_transactions,
        "vaults": asked.vaults,
        "headroom": asked.headroom,
        "allowed_per_second": round(found.allowed_per_second, 3),
        "duration_s": round(found.duration.total_seconds()),
        "eta": f"{plan.eta.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "deadline_s": round(asked.deadline.total_seconds()) if asked.deadline else None,
        "feasible": asked.deadline is None or found.duration <= asked.deadline,
    }


def _spoken(shape: KeyShape) -> str:
    return f"{shape.kind} {shape.bits} bits"


def _labelled(label: str, text: str) -> str:
    return f"{label:<{_LABEL}} {text}"
