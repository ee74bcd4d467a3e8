"""How far the rotation of a KEK is: its run and the checkpoints of its shards as numbers, and as lines for people.

Rates are those of the current pass, from its beginning to now, or to the last checkpoint once nobody works on it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from rotation.catalog import SAMPLED_WHILE_SWEEPING, KekPolicy
from rotation.kek import CLEAN_PASSES, TASKS, Advance, Decision, FanOut, NextPass, Resend, Task, Wait
from rotation.quota import Operation, Question, estimate, rate, spoken, vault_of
from shared.values import SHARDS, KekRun, KeyShape, Phase, ShardProgress, ShardState

_LABEL: Final = 12
_LEAST_SHARE: Final = 0.001  # of a pass, before anybody can say when it ends
_FEW: Final = 10  # below it a rate is told with a digit behind the point


@dataclass(frozen=True, slots=True)
class Progress:
    """A run as it is at one moment."""

    run: KekRun
    at: datetime
    waits_for: str  # or what it does next
    alarm: bool  # a person has to do something
    rests: bool  # nothing happens before time passes or somebody acts
    shards: Sequence[ShardProgress]  # of the current pass, by number; those not begun are missing
    allowed_per_second: float | None  # DEKs, by the quota that is left to it; None: this pass needs no vault

    @property
    def walks(self) -> bool:
        """Whether its phase walks over all shards."""
        return self.run.phase in TASKS

    @property
    def done(self) -> int:
        """Shards that are through."""
        return sum(each.state is ShardState.DONE for each in self.shards)

    @property
    def stopped(self) -> Sequence[ShardProgress]:
        """Shards that stopped at a row that no program may touch."""
        return [each for each in self.shards if each.state is ShardState.STOPPED]

    @property
    def working(self) -> int:
        """Shards that are neither, those not begun included."""
        return SHARDS - self.done - len(self.stopped)

    @property
    def rows(self) -> int:
        """DEKs that this pass has looked at."""
        return sum(each.rows for each in self.shards)

    @property
    def total(self) -> int | None:
        """DEKs that it has to look at, as far as the manifest knows; None while that is being made."""
        if self.shards and self.done == SHARDS:
            return self.rows
        return max(self.run.rows, self.rows) if self.run.root_before else None

    @property
    def share(self) -> float:
        """How much of the pass is done, from 0 to 1."""
        if self.total:
            return self.rows / self.total
        return self.done / SHARDS

    @property
    def found(self) -> int:
        """DEKs that were not as this pass wants them."""
        return sum(each.found for each in self.shards)

    @property
    def changed(self) -> int:
        """Those that it has changed."""
        return sum(each.changed for each in self.shards)

    @property
    def verified(self) -> int:
        """DEKs opened at the vault as a sample."""
        return sum(each.verified for each in self.shards)

    @property
    def births(self) -> int:
        """DEKs made since the freeze, as far as they have been counted."""
        return sum(each.births for each in self.shards) if self.run.phase is Phase.SCRUBBING else self.run.births

    @property
    def removed(self) -> int:
        """DEKs destroyed since the freeze, as far as they have been counted."""
        return sum(each.removed for each in self.shards) if self.run.phase is Phase.SCRUBBING else self.run.removed

    @property
    def elapsed(self) -> timedelta:
        """For how long the pass has been worked on."""
        since = self.run.pass_since
        if since is None:
            return timedelta()
        ends = [each.updated for each in self.shards]
        return max((self.at if self.walks and self.working else max(ends, default=since)) - since, timedelta())

    @property
    def per_second(self) -> float:
        """DEKs that it looks at in a second."""
        return self.rows / self.elapsed.total_seconds() if self.elapsed else 0.0

    @property
    def needing_vault_per_second(self) -> float:
        """DEKs in a second of those that the allowed rate is about: rewrapped ones, or all where samples are opened."""
        if self.elapsed and TASKS.get(self.run.phase) is Task.SWEEP:
            return self.changed / self.elapsed.total_seconds()
        return self.per_second

    @property
    def share_of_quota(self) -> float | None:
        """How much of the allowed rate it uses, 1: all; None where there is none."""
        return self.needing_vault_per_second / self.allowed_per_second if self.allowed_per_second else None

    @property
    def eta(self) -> datetime | None:
        """When the pass ends if it goes on so; None if that cannot be known, or nobody works on it."""
        if not self.walks or not self.working or not self.elapsed or self.share < _LEAST_SHARE:
            return None
        return self.at + self.elapsed * ((1 - self.share) / self.share)


def measured(
    run: KekRun, shards: Sequence[ShardProgress], decision: Decision, allowed_per_second: float | None, now: datetime
) -> Progress:
    """The run with the checkpoints of its current pass, and what rotation.kek.decide makes of both."""
    alarm = isinstance(decision, Wait) and decision.alarm
    # A pass may be through before whoever sends its messages has noted that all are sent: then more comes by itself.
    is_walked = run.fanned_out and sum(each.state is not ShardState.WORKING for each in shards) == SHARDS
    rests = alarm or run.phase not in TASKS or is_walked
    return Progress(
        run=run,
        at=now,
        waits_for=_next(run, decision),
        alarm=alarm,
        rests=rests and run.move is None and isinstance(decision, Wait),
        shards=shards,
        allowed_per_second=allowed_per_second,
    )


def _next(run: KekRun, decision: Decision) -> str:
    if run.move is not None:
        return f"its move from {run.move.at} to {run.move.to} is being made"
    match decision:
        case Wait():
            return decision.why
        case Advance():
            return f"nothing: moves on to {decision.to}, because {decision.why}"
        case FanOut():
            return "nothing: sends every shard its message"
        case Resend():
            return f"nothing: sends {len(decision.shards)} silent shards their messages again"
        case NextPass():
            return "nothing: walks over all shards once more"


def allowed_rate(run: KekRun, policy: KekPolicy, old: KeyShape, new: KeyShape) -> float | None:
    """DEKs per second that the quota left to the run allows in its phase; None where no vault is needed."""
    if run.new_kid is None:
        return None
    new_vault = vault_of(run.new_kid)
    match run.phase:
        case Phase.SWEEPING | Phase.RETIRING:
            asked = Question(1, vault_of(run.old_kid), old, new_vault, new, SAMPLED_WHILE_SWEEPING, policy.headroom)
            return estimate(asked).allowed_per_second
        case Phase.SCRUBBING:
            return rate(new_vault, new, Operation.UNWRAP) * (1 - policy.headroom) / policy.scrub
        case _:
            return None


def where(progress: Progress) -> str:
    """The phase, and its pass if it has any."""
    run = progress.run
    return f"{run.phase}  pass {run.pass_number}" if progress.walks else run.phase.value


def how_far(progress: Progress) -> str:
    """The numbers of the pass in a line, or what a phase without passes waits for."""
    if not progress.walks:
        return progress.waits_for
    eta = [f"ETA {progress.eta.astimezone(UTC):%H:%M} UTC"] if progress.eta else []
    return "  ".join([_rows(progress), f"{_rate(progress.per_second)}/s", *eta, _shards_done(progress)])


def one_line(progress: Progress) -> str:
    """The moment in a line, for a log of moments."""
    return f"{progress.at.astimezone(UTC):%Y-%m-%d %H:%M:%S}  {where(progress)}  {how_far(progress)}"


def lines(progress: Progress) -> Iterator[str]:
    """All that people want to know, a label before each line."""
    run = progress.run
    yield _labelled("rotation", f"{run.kek}, generation {run.generation}, since {_minute(run.started)}")
    yield _labelled("phase", f"{run.phase} since {_minute(run.phase_since)}{_resuming(run)}")
    if run.verdict:
        yield _labelled("because", run.verdict)
    yield _labelled("waits for", f"{progress.waits_for}{' - somebody has to act' if progress.alarm else ''}")
    yield _labelled("old version", f"{run.old_kid}{', compromised: only forward' if run.compromised else ''}")
    yield _labelled("new version", run.new_kid or "not made yet")
    if run.deadline:
        yield _labelled("deadline", _minute(run.deadline))
    if progress.shards or progress.walks:
        yield from _pass_lines(progress)
    held = [f"shard {shard}" for shard in run.held_shards] + [f"tenant {tenant}" for tenant in run.held_tenants]
    if held:
        yield _labelled("held", f"rolled back: {', '.join(held)}")
    if run.root_before:
        yield _labelled(
            "manifest", f"{run.rows:,} DEKs, {progress.births:,} born and {progress.removed:,} removed since"
        )
        yield _labelled("root before", run.root_before)
    if run.root_after:
        yield _labelled("root after", run.root_after)


def _pass_lines(progress: Progress) -> Iterator[str]:
    run = progress.run
    clean = f", {run.clean_passes} of {CLEAN_PASSES} clean" if TASKS.get(run.phase) is Task.SWEEP else ""
    yield _labelled("pass", f"{run.pass_number}{clean}, since {_minute(run.pass_since or run.phase_since)}")
    yield _labelled("DEKs", _rows(progress))
    counts = {"found": progress.found, "changed": progress.changed, "opened as a check": progress.verified}
    if any(counts.values()):
        yield _labelled("of them", ", ".join(f"{count:,} {what}" for what, count in counts.items()))
    yield _labelled("rate", _rates(progress))
    if progress.eta:
        left = max(progress.eta - progress.at, timedelta())
        yield _labelled("pass ends", f"{_minute(progress.eta)}, in {spoken(left)}")
    yield _labelled("shards", _shards(progress))
    for each in progress.stopped:
        yield _labelled("", f"shard {each.shard} stopped: {each.problem}")


def _rates(progress: Progress) -> str:
    text = f"{_rate(progress.per_second)} DEKs/s"
    if progress.share_of_quota is None or progress.allowed_per_second is None:
        return text
    if TASKS.get(progress.run.phase) is Task.SWEEP:
        text += f", {_rate(progress.needing_vault_per_second)}/s rewrapped"
    return f"{text}: {progress.share_of_quota:.0%} of the {_rate(progress.allowed_per_second)}/s that the quota allows"


def _rows(progress: Progress) -> str:
    if progress.total is None:
        return f"{progress.rows:,} DEK{'s' * (progress.rows != 1)} so far"
    return f"{progress.rows:,} of {progress.total:,} DEKs ({int(progress.share * 100)} %)"


def _shards(progress: Progress) -> str:
    return f"{progress.done} done, {progress.working} working, {len(progress.stopped)} stopped"


def _shards_done(progress: Progress) -> str:
    stopped = f", {len(progress.stopped)} stopped" if progress.stopped else ""
    return f"{progress.done} of {SHARDS} shards done{stopped}"


def _resuming(run: KekRun) -> str:
    return f", goes back to {run.resumes}" if run.resumes else ""


def _rate(per_second: float) -> str:
    return f"{per_second:,.1f}" if per_second < _FEW else f"{per_second:,.0f}"


def _labelled(label: str, text: str) -> str:
    return f"{label:<{_LABEL}} {text}"


def _minute(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def as_json(progress: Progress) -> Mapping[str, object]:
    """The moment for programs: times in ISO 8601, rates per second, shares from 0 to 1."""
    run, share = progress.run, progress.share_of_quota
    return {
        "kek": run.kek,
        "generation": run.generation,
        "at": _iso(progress.at),
        "started": _iso(run.started),
        "phase": run.phase.value,
        "since": _iso(run.phase_since),
        "resumes": run.resumes.value if run.resumes else None,
        "because": run.verdict,
        "waits_for": progress.waits_for,
        "alarm": progress.alarm,
        "rests": progress.rests,
        "old_kid": run.old_kid,
        "new_kid": run.new_kid,
        "compromised": run.compromised,
        "deadline": _iso(run.deadline),
        "pass": run.pass_number,
        "clean_passes": run.clean_passes,
        "rows_done": progress.rows,
        "rows_total": progress.total,
        "found": progress.found,
        "changed": progress.changed,
        "verified": progress.verified,
        "per_second": round(progress.per_second, 3),
        "allowed_per_second": None if progress.allowed_per_second is None else round(progress.allowed_per_second, 3),
        "share_of_quota": None if share is None else round(share, 4),
        "pass_ends": _iso(progress.eta),
        "shards_done": progress.done,
        "shards_working": progress.working,
        "shards_stopped": [{"shard": each.shard, "reason": each.problem} for each in progress.stopped],
        "held_shards": list(run.held_shards),
        "held_tenants": list(run.held_tenants),
        "rows": run.rows,
        "root_before": run.root_before,
        "root_after": run.root_after,
        "births": progress.births,
        "removed": progress.removed,
    }


def shard_rows(progress: Progress) -> Iterator[Mapping[str, str | int | datetime | None]]:
    """One row per shard, those not begun included; none in a phase that walks over no shards."""
    heard = {each.shard: each for each in progress.shards}
    for shard in range(SHARDS) if heard or progress.walks else ():
        each = heard.get(shard)
        yield {
            "shard": shard,
            "state": each.state.value if each else "not begun",
            "tenants": each.tenants if each else 0,
            "deks": each.rows if each else 0,
            "found": each.found if each else 0,
            "changed": each.changed if each else 0,
            "verified": each.verified if each else 0,
            "updated": each.updated if each else None,
            "after": each.after if each else None,
            "problem": each.problem if each else "",
        }


def _iso(moment: datetime | None) -> str | None:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if moment else None
