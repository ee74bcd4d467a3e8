"""How far a rotation is, from its run and checkpoints: rates, shares, ends, and the lines about them."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotation.catalog import KekPolicy
from rotation.kek import Advance, Decision, FanOut, NextPass, Resend, Wait
from rotation.progress import Progress, allowed_rate, as_json, how_far, lines, measured, one_line, shard_rows, where
from shared.values import SHARDS, KekRun, KeyKind, KeyShape, Kid, Move, Phase, ShardProgress, ShardState, TenantId

T0 = datetime(2026, 3, 1, 2, 0, tzinfo=UTC)
NOW = T0 + timedelta(seconds=1000)
VAULT = "https://atp.vault.azure.net"
OTHER = "https://atp-2.vault.azure.net"
OLD = Kid(f"{VAULT}/keys/master-kek/{1:032x}")
NEW = Kid(f"{VAULT}/keys/master-kek/{2:032x}")
POLICY = KekPolicy(
    "master-kek", "security", timedelta(365), timedelta(7), timedelta(3), timedelta(7), scrub=0.005, headroom=0.2
)
RSA_2048 = KeyShape(KeyKind.RSA, 2048)
SWEEP = KekRun(
    kek="master-kek",
    generation=3,
    phase=Phase.SWEEPING,
    started=T0 - timedelta(hours=1),
    phase_since=T0,
    old_kid=OLD,
    request="kek.rotate/master-kek/r",
    new_kid=NEW,
    pass_number=2,
    pass_since=T0,
    fanned_out=True,
    rows=1_000_000,
    root_before="ab" * 32,
    verdict="new DEKs are wrapped under the new version",
)
STILL = Wait("0 of 64 shards are done")


def shards(number: int = SHARDS, **changes: Any) -> list[ShardProgress]:
    each = ShardProgress("master-kek.000003", 2, 0, T0, NOW, **changes)
    return [replace(each, shard=shard) for shard in range(number)]


def progress(
    run: KekRun = SWEEP,
    heard: list[ShardProgress] | None = None,
    decision: Decision = STILL,
    allowed: float | None = None,
    now: datetime = NOW,
) -> Progress:
    return measured(run, heard or [], decision, allowed, now)


def test_a_pass_under_way_is_told_in_numbers() -> None:
    half = shards(rows=7_812, found=5_000, changed=4_000, verified=20)
    seen = progress(heard=half, allowed=320.0)
    assert (seen.rows, seen.total, seen.found, seen.changed, seen.verified) == (
        499_968,
        1_000_000,
        320_000,
        256_000,
        1_280,
    )
    assert (seen.done, seen.working, list(seen.stopped)) == (0, 64, [])
    assert seen.per_second == pytest.approx(499.968)
    assert seen.share_of_quota == pytest.approx(0.8)
    assert seen.eta is not None
    assert seen.eta - NOW == pytest.approx(timedelta(seconds=1000), abs=timedelta(seconds=1))
    assert list(lines(seen)) == [
        "rotation     master-kek, generation 3, since 2026-03-01 01:00 UTC",
        "phase        sweeping since 2026-03-01 02:00 UTC",
        "because      new DEKs are wrapped under the new version",
        "waits for    0 of 64 shards are done",
        f"old version  {OLD}",
        f"new version  {NEW}",
        "pass         2, 0 of 2 clean, since 2026-03-01 02:00 UTC",
        "DEKs         499,968 of 1,000,000 DEKs (49 %)",
        "of them      320,000 found, 256,000 changed, 1,280 opened as a check",
        "rate         500 DEKs/s, 256/s rewrapped: 80% of the 320/s that the quota allows",
        "pass ends    2026-03-01 02:33 UTC, in 0 h 17 min",
        "shards       0 done, 64 working, 0 stopped",
        "manifest     1,000,000 DEKs, 0 born and 0 removed since",
        f"root before  {'ab' * 32}",
    ]
    assert one_line(seen) == (
        "2026-03-01 02:16:40  sweeping  pass 2  "
        "499,968 of 1,000,000 DEKs (49 %)  500/s  ETA 02:33 UTC  0 of 64 shards done"
    )


def test_shards_done_working_and_stopped_make_all() -> None:
    heard = shards(10, state=ShardState.DONE, rows=10)
    heard[3] = replace(heard[3], state=ShardState.STOPPED, problem="a DEK does not open")
    heard[4] = replace(heard[4], state=ShardState.WORKING)
    seen = progress(heard=heard)
    assert (seen.done, len(seen.stopped), seen.working) == (8, 1, SHARDS - 9)
    assert "             shard 3 stopped: a DEK does not open" in lines(seen)
    assert how_far(seen).endswith("  8 of 64 shards done, 1 stopped")
    assert as_json(seen)["shards_stopped"] == [{"shard": 3, "reason": "a DEK does not open"}]
    rows = list(shard_rows(seen))
    assert [row["state"] for row in rows[2:5]] == ["done", "stopped", "working"]
    assert (len(rows), rows[10]["state"], rows[10]["updated"]) == (SHARDS, "not begun", None)


def test_what_is_being_counted_has_no_total_and_goes_by_shards() -> None:
    freeze = replace(SWEEP, phase=Phase.PLANNED, rows=0, root_before="", new_kid=None)
    heard = [*shards(16, state=ShardState.DONE, rows=100)]
    seen = progress(freeze, heard)
    assert (seen.total, seen.share) == (None, 0.25)
    assert seen.eta == NOW + timedelta(seconds=3000)
    assert how_far(seen).startswith("1,600 DEKs so far  1.6/s")
    assert "new version  not made yet" in lines(seen)
    assert as_json(seen)["rows_total"] is None


def test_births_do_not_make_more_than_all() -> None:
    assert progress(heard=shards(rows=20_000)).share == 1.0
    through = progress(heard=shards(rows=20_000, state=ShardState.DONE))
    assert (through.total, through.share, through.eta) == (64 * 20_000, 1.0, None)


def test_the_rate_is_that_of_the_work_once_the_work_is_over() -> None:
    through = shards(rows=100, state=ShardState.DONE)
    later = progress(heard=through, now=NOW + timedelta(days=3))
    assert later.elapsed == timedelta(seconds=1000)
    paused = replace(SWEEP, phase=Phase.PAUSED, resumes=Phase.SWEEPING)
    seen = progress(paused, shards(rows=100), Wait("paused by an operator"), now=NOW + timedelta(days=3))
    assert (seen.elapsed, seen.eta, seen.rests) == (timedelta(seconds=1000), None, True)
    assert "phase        paused since 2026-03-01 02:00 UTC, goes back to sweeping" in lines(seen)


def test_a_run_does_not_rest_while_its_pass_is_through_and_not_yet_noted_as_sent() -> None:
    run = replace(SWEEP, fanned_out=False)
    assert not progress(run, shards(state=ShardState.DONE), Wait("every shard is being sent its message")).rests


@pytest.mark.parametrize(
    ("phase", "decision", "state", "rests"),
    [
        (Phase.SWEEPING, STILL, ShardState.WORKING, False),
        (Phase.SWEEPING, Wait("rolled back and held: shard 7"), ShardState.DONE, True),
        (Phase.SWEEPING, Wait("shards stopped: 7", alarm=True), ShardState.STOPPED, True),
        (Phase.SWEEPING, NextPass(0), ShardState.DONE, False),
        (Phase.SWEEPING, Advance(Phase.SCRUBBING, "none left"), ShardState.DONE, False),
        (Phase.SCRUBBING, Wait("the manifest is not what it was at the freeze", alarm=True), ShardState.DONE, True),
        (Phase.ROLLING_BACK, Wait("settling until 02:10 UTC"), ShardState.DONE, True),
        (Phase.CANARY, Advance(Phase.FLIPPED, "it has proved itself"), ShardState.DONE, False),
        (Phase.GRACE, Wait("grace period until 2026-03-08 02:00 UTC"), ShardState.DONE, True),
        (Phase.GRACE, Advance(Phase.RETIRING, "the grace period is over"), ShardState.DONE, False),
        (Phase.SOAKING, Wait("soaking until 2026-03-08 02:00 UTC"), ShardState.DONE, True),
        (Phase.PAUSED, Wait("paused by an operator"), ShardState.WORKING, True),
        (Phase.CLOSED, Wait("it is over"), ShardState.DONE, True),
        (Phase.FAILED, Wait("it is over"), ShardState.DONE, True),
        (Phase.ROLLED_BACK, Wait("it is over"), ShardState.DONE, True),
    ],
)
def test_a_run_rests_where_only_time_or_people_help(
    phase: Phase, decision: Decision, state: ShardState, *, rests: bool
) -> None:
    run = replace(SWEEP, phase=phase)
    assert progress(run, shards(state=state), decision).rests is rests
    moving = replace(run, move=Move(phase, Phase.SWEEPING, "job", "kek.resume", "alice", "manual", "go on"))
    seen = progress(moving, shards(state=state), decision)
    assert not seen.rests
    assert seen.waits_for == f"its move from {phase} to sweeping is being made"


@pytest.mark.parametrize(
    ("decision", "told"),
    [
        (Wait("grace period until tomorrow"), "grace period until tomorrow"),
        (Advance(Phase.SCRUBBING, "none left"), "nothing: moves on to scrubbing, because none left"),
        (FanOut(), "nothing: sends every shard its message"),
        (Resend([1, 2]), "nothing: sends 2 silent shards their messages again"),
        (NextPass(1), "nothing: walks over all shards once more"),
    ],
)
def test_every_decision_is_told_in_words(decision: Decision, told: str) -> None:
    assert progress(decision=decision).waits_for == told


@pytest.mark.parametrize(
    ("phase", "new_kid", "old", "new", "allowed"),
    [
        (Phase.SWEEPING, NEW, RSA_2048, RSA_2048, 0.8 / (1.005 / 400)),
        (Phase.RETIRING, NEW, RSA_2048, RSA_2048, 0.8 / (1.005 / 400)),
        (Phase.SWEEPING, Kid(NEW.replace(VAULT, OTHER)), RSA_2048, RSA_2048, 0.8 * 400),
        (Phase.SWEEPING, NEW, KeyShape(KeyKind.RSA_HSM, 4096), RSA_2048, 0.8 / (1 / 25 + 0.005 / 400)),
        (Phase.SCRUBBING, NEW, RSA_2048, KeyShape(KeyKind.RSA, 4096), 0.8 * 50 / 0.005),
        (Phase.PLANNED, None, RSA_2048, RSA_2048, None),
        (Phase.ROLLING_BACK, NEW, RSA_2048, RSA_2048, None),
        (Phase.CLOSING, NEW, RSA_2048, RSA_2048, None),
        (Phase.GRACE, NEW, RSA_2048, RSA_2048, None),
    ],
)
def test_the_allowed_rate_is_that_of_what_the_phase_asks_of_the_vaults(
    phase: Phase, new_kid: Kid | None, old: KeyShape, new: KeyShape, allowed: float | None
) -> None:
    found = allowed_rate(replace(SWEEP, phase=phase, new_kid=new_kid), POLICY, old, new)
    assert found == (allowed if allowed is None else pytest.approx(allowed))


def test_a_scrub_is_measured_by_the_deks_it_looks_at_and_counts_what_was_born() -> None:
    run = replace(SWEEP, phase=Phase.SCRUBBING, births=99)
    seen = progress(run, shards(rows=1_000, verified=5, births=2, removed=1), allowed=128_000.0)
    assert seen.share_of_quota == pytest.approx(0.0005)
    assert "rate         64 DEKs/s: 0% of the 128,000/s that the quota allows" in lines(seen)
    assert (seen.births, seen.removed) == (128, 64)
    assert progress(replace(run, phase=Phase.GRACE)).births == 99


def test_a_run_at_rest_has_no_pass_but_its_roots_and_held_parts() -> None:
    run = replace(
        SWEEP,
        phase=Phase.GRACE,
        root_after="ab" * 32,
        births=3,
        held_shards=(3, 7),
        held_tenants=(TenantId("acme"),),
        compromised=True,
        deadline=NOW,
    )
    told = list(lines(progress(run, decision=Wait("grace period until tomorrow"))))
    assert not [line for line in told if line.startswith(("pass", "rate", "shards", "DEKs"))]
    assert "held         rolled back: shard 3, shard 7, tenant acme" in told
    assert list(shard_rows(progress(run))) == []
    assert f"old version  {OLD}, compromised: only forward" in told
    assert "deadline     2026-03-01 02:16 UTC" in told
    assert told[-3:] == [
        "manifest     1,000,000 DEKs, 3 born and 0 removed since",
        f"root before  {'ab' * 32}",
        f"root after   {'ab' * 32}",
    ]
    assert (where(progress(run)), how_far(progress(run))) == ("grace", "0 of 64 shards are done")


def test_an_alarm_calls_for_somebody() -> None:
    seen = progress(decision=Wait("the manifest is not what it was at the freeze", alarm=True))
    assert "waits for    the manifest is not what it was at the freeze - somebody has to act" in lines(seen)


@given(
    heard=st.integers(0, SHARDS),
    rows=st.integers(0, 10**9),
    elapsed=st.timedeltas(timedelta(days=-1), timedelta(days=700)),
    phase=st.sampled_from(Phase),
    state=st.sampled_from(ShardState),
    frozen=st.integers(0, 10**9),
)
def test_every_run_can_be_told(
    heard: int, rows: int, elapsed: timedelta, phase: Phase, state: ShardState, frozen: int
) -> None:
    run = replace(SWEEP, phase=phase, rows=frozen)
    seen = progress(run, shards(heard, rows=rows, state=state), allowed=320.0, now=T0 + elapsed)
    assert all(lines(seen))
    assert one_line(seen)
    assert 0 <= seen.share <= 1
    assert seen.eta is None or seen.eta >= seen.at
    assert json.loads(json.dumps(as_json(seen)))["rows_done"] == heard * rows
