"""The watchdog: whatever was begun and lost its message ends, once, or a person is told."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from rotation.audit import AuditEvent, Outcome
from rotation.audit_job import AuditTrail
from rotation.ended_causes import EndedCauses
from rotation.intents import GIVEN_UP_AFTER, REPEATED_EVERY, SENT_AGAIN_AFTER, TOLD_AFTER
from rotation.intents_job import IntentWatch
from rotation.message import Action, KekAction
from rotation.trail import Trail
from shared.errors import AtpError, Integrity
from shared.values import Phase, TenantId, TenantState
from tests.conftest import Tally
from tests.jobs.auditing import AuditProcess
from tests.jobs.platform import Platform, Process
from tests.simulator import (
    Fault,
    Killed,
    SimAlerts,
    SimCheckpoints,
    SimKeks,
    SimQueues,
    SimRecords,
    SimVault,
    World,
)

ACME = TenantId("acme")
ROTATION = f"dek.rotate/{ACME}/by-hand"
MINUTES = timedelta(minutes=5)


def new_watch(world: World) -> IntentWatch:
    """A watchdog in a process that has just started."""
    trail = Trail(SimRecords(world), SimCheckpoints(world))
    return IntentWatch(trail, Process(world).jobs, SimQueues(world), SimAlerts(world), world.clock)


def resolve_what_is_over(world: World) -> None:
    """What the same timer does after the watchdog."""
    audit = AuditTrail(SimRecords(world), world.clock)
    EndedCauses(SimAlerts(world), audit, SimVault(world), SimKeks(world), world.clock).run()


@dataclass
class Guarded:
    """The platform with its watchdog; `lossy`: every message that the watchdog sends is lost."""

    platform: Platform = field(default_factory=Platform)
    lossy: bool = False

    def __post_init__(self) -> None:
        self.watch = new_watch(self.world)

    @property
    def world(self) -> World:
        """What survives."""
        return self.platform.world

    @property
    def open(self) -> set[str]:
        """Jobs that have an intent and nothing else."""
        return {job for job, outcomes in self.world.outcomes().items() if outcomes == {Outcome.INTENT}}

    def tick(self, after: timedelta = timedelta()) -> None:
        """Let time pass, then the timer fires; whatever it sends is delivered."""
        self.world.now += after
        try:
            self.watch.run()
            resolve_what_is_over(self.world)
        except Killed:
            self.watch = new_watch(self.world)
        except AtpError:
            pass
        if self.lossy:
            self.world.messages.clear()
        self.platform.settle()

    def until_quiet(self, every: timedelta) -> None:
        """Fire the timer until no intent is open, and some more."""
        for _ in range(60):
            self.tick(every)
            if not self.open:
                break
        assert not self.open, "an intent stays open"
        self.tick(every)


def begun(guarded: Guarded, begin: Callable[[Platform], None], at: str, fault: Fault) -> None:
    """A job whose process dies at a call, and whose message is lost then."""
    platform, world = guarded.platform, guarded.world
    scout = Platform()
    _prepared(scout)
    first = scout.world.calls
    begin(scout)
    while scout.world.messages:
        scout.deliver(scout.world.messages[0])
    number = scout.world.call_names[first:].index(at) + 1
    _prepared(platform)
    begin(platform)
    world.faults[world.calls + number] = fault
    while world.faults:
        platform.deliver(world.messages[0])
    world.messages.clear()


def _prepared(platform: Platform) -> None:
    platform.add_tenant(ACME)
    platform.write(ACME)


def rotation(platform: Platform) -> None:
    platform.ask(Action.ROTATE_DEK, ACME, "by-hand")


def offboarding(platform: Platform) -> None:
    platform.ask(Action.OFFBOARD_TENANT, ACME, "by-hand")


def addition(platform: Platform) -> None:
    platform.ask(Action.ADD_TENANT, "globex", "by-hand")


def rotated(guarded: Guarded, versions: int = 2) -> bool:
    keyring = guarded.world.keyrings[ACME]
    return (keyring.tenant.primary, len(keyring.deks)) == (versions, versions)


# One case after the other


def test_a_job_killed_between_intent_and_effect_whose_message_is_lost_is_finished() -> None:
    guarded = Guarded()
    begun(guarded, rotation, "deks.replace", Fault.KILLED_BEFORE)
    assert guarded.open == {ROTATION}
    assert rotated(guarded, 1)
    guarded.tick(SENT_AGAIN_AFTER)
    assert rotated(guarded)
    assert guarded.world.outcomes()[ROTATION] == {"intent", "succeeded"}
    assert guarded.world.alerts == {}
    guarded.platform.check()


def test_a_job_killed_between_effect_and_outcome_gets_its_outcome() -> None:
    guarded = Guarded()
    begun(guarded, rotation, "deks.replace", Fault.KILLED_AFTER)
    made = guarded.world.keyrings[ACME]
    assert rotated(guarded)
    guarded.tick(SENT_AGAIN_AFTER)
    assert guarded.world.keyrings[ACME] == made
    assert guarded.world.outcomes()[ROTATION] == {"intent", "succeeded"}
    guarded.platform.check()


def test_a_job_that_never_ends_is_settled_as_failed_with_an_alert_after_four_days() -> None:
    guarded = Guarded(lossy=True)
    begun(guarded, rotation, "deks.replace", Fault.KILLED_BEFORE)
    guarded.tick(GIVEN_UP_AFTER - MINUTES)
    assert guarded.open == {ROTATION}
    assert guarded.world.alerts == {}
    guarded.tick(MINUTES)
    assert guarded.world.outcomes()[ROTATION] == {"intent", "failed"}
    (alert,) = guarded.world.alerts.values()
    assert (alert.id, alert.subject) == (f"intent/{ROTATION}", "dek/acme")
    assert rotated(guarded, 1)
    guarded.platform.check()


def test_a_job_that_was_done_after_all_is_settled_as_that_without_an_alert() -> None:
    guarded = Guarded(lossy=True)
    begun(guarded, rotation, "deks.replace", Fault.KILLED_AFTER)
    guarded.tick(GIVEN_UP_AFTER)
    assert guarded.world.outcomes()[ROTATION] == {"intent", "succeeded"}
    assert guarded.world.alerts == {}
    guarded.platform.check()


def test_a_tenant_that_was_added_without_its_first_dek_is_settled_as_failed_with_an_alert() -> None:
    guarded = Guarded(lossy=True)
    begun(guarded, addition, "deks.add", Fault.KILLED_AFTER)
    guarded.tick(GIVEN_UP_AFTER)
    assert guarded.world.outcomes()["tenant.add/globex/by-hand"] == {"intent", "succeeded"}
    assert guarded.world.outcomes()["dek.rotate/globex/v1"] == {"failed"}
    assert list(guarded.world.alerts) == ["intent/tenant.add/globex/by-hand"]


def test_a_step_of_a_kek_rotation_that_has_no_outcome_alerts_after_a_day() -> None:
    guarded = Guarded()
    step = AuditEvent(
        "kek.advance/master-kek.000001/0003",
        Outcome.INTENT,
        "kek.advance",
        "kek/master-kek",
        "worker",
        "schedule",
        "the canary is over",
    )
    AuditTrail(SimRecords(guarded.world), guarded.world.clock).record(step)
    guarded.tick(TOLD_AFTER - MINUTES)
    assert guarded.world.alerts == {}
    guarded.tick(MINUTES)
    (alert,) = guarded.world.alerts.values()
    assert (alert.subject, alert.details["job"]) == ("kek/master-kek", step.job)
    assert guarded.open == {step.job}
    AuditTrail(SimRecords(guarded.world), guarded.world.clock).record(replace(step, outcome=Outcome.SUCCEEDED))
    guarded.tick(MINUTES)
    assert guarded.world.alerts == {}, "it has its outcome"


def test_what_was_told_of_a_step_is_over_when_it_has_its_outcome_and_not_before_whatever_can_be_read() -> None:
    guarded = Guarded()
    step = AuditEvent("kek.advance/k.000001/0003", Outcome.INTENT, "kek.advance", "kek/k", "worker", "schedule", "so")
    AuditTrail(SimRecords(guarded.world), guarded.world.clock).record(step)
    guarded.tick(TOLD_AFTER)
    assert list(guarded.world.alerts) == [f"intent/{step.job}"]
    whole = guarded.world.streams[step.stream]
    guarded.world.streams[step.stream] = [replace(whole[0], canonical=b"{}"), *whole[1:]]
    guarded.watch = new_watch(guarded.world)
    guarded.tick(MINUTES)
    assert list(guarded.world.alerts) == [f"intent/{step.job}"]
    guarded.world.streams[step.stream] = whole
    guarded.tick(timedelta(days=20))
    guarded.watch = new_watch(guarded.world)
    guarded.tick(MINUTES)
    assert list(guarded.world.alerts) == [f"intent/{step.job}"], "out of view is not over"
    AuditTrail(SimRecords(guarded.world), guarded.world.clock).record(replace(step, outcome=Outcome.SUCCEEDED))
    guarded.watch = new_watch(guarded.world)
    guarded.tick(timedelta(days=20))
    assert guarded.world.alerts == {}, "over, however long ago it was begun"


def test_that_an_order_was_given_up_before_it_was_sent_again_and_begun_is_no_outcome_of_its_step() -> None:
    guarded = Guarded()
    trail = AuditTrail(SimRecords(guarded.world), guarded.world.clock)
    given_up = AuditEvent("kek.rotate/k/again", Outcome.FAILED, "kek.rotate", "kek/k", "operator", "manual", "so")
    trail.record(given_up)
    trail.record(replace(given_up, outcome=Outcome.INTENT))
    for _ in range(3):
        guarded.tick(TOLD_AFTER)
        assert list(guarded.world.alerts) == [f"intent/{given_up.job}"]
    trail.record(replace(given_up, outcome=Outcome.SUCCEEDED))
    guarded.tick(MINUTES)
    assert guarded.world.alerts == {}


def test_a_step_that_gets_its_outcome_while_a_slow_watchdog_reads_is_not_told_of() -> None:
    guarded = Guarded()
    world = guarded.world
    step = AuditEvent("kek.advance/k.000001/0003", Outcome.INTENT, "kek.advance", "kek/k", "worker", "schedule", "so")
    AuditTrail(SimRecords(world), world.clock).record(step)
    calls = world.calls
    new_watch(world)._open()
    reading = world.calls - calls

    def meanwhile() -> None:
        AuditTrail(SimRecords(world), world.clock).record(replace(step, outcome=Outcome.SUCCEEDED))
        world.now += TOLD_AFTER

    world.interruptions[world.calls + reading] = meanwhile  # behind the stream of the step
    guarded.watch.run()
    assert world.alerts == {}


def test_an_alert_about_a_step_is_repeated_a_few_times_a_day_and_not_by_every_tick(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    guarded, heard = Guarded(), []
    step = AuditEvent("kek.advance/k.000001/0003", Outcome.INTENT, "kek.advance", "kek/k", "worker", "schedule", "so")
    AuditTrail(SimRecords(guarded.world), guarded.world.clock).record(step)
    monkeypatch.setattr(SimAlerts, "raise_alert", lambda _, alert: heard.append(alert.id))
    guarded.tick(TOLD_AFTER)
    for _ in range(24 * 12):
        guarded.tick(MINUTES)
    assert len(heard) == 1 + timedelta(days=1) // REPEATED_EVERY


def test_a_rotation_of_a_kek_that_goes_its_way_is_left_alone() -> None:
    guarded = Guarded()
    _prepared(guarded.platform)
    guarded.platform.order(KekAction.ROTATE)
    for _ in range(60):
        guarded.tick()
        run = guarded.platform.kek_run
        if run is not None and run.phase is Phase.CLOSED:
            break
        guarded.world.now += timedelta(days=1)
        guarded.platform.tick()
    assert guarded.platform.kek_run is not None
    assert guarded.platform.kek_run.phase is Phase.CLOSED
    assert not [alert for alert in guarded.world.alerts if alert.startswith("intent/")]
    guarded.platform.check()


def test_a_job_that_is_only_slow_is_left_alone() -> None:
    guarded = Guarded()
    platform, world = guarded.platform, guarded.world
    _prepared(platform)
    rotation(platform)
    number = _number_of("deks.replace", world)

    def meanwhile() -> None:
        world.now += SENT_AGAIN_AFTER - MINUTES
        guarded.watch.run()
        assert guarded.open == {ROTATION}
        assert len(world.messages) == 1, "the message is the one that is being worked on"
        world.now -= SENT_AGAIN_AFTER - MINUTES  # else the worker gives up: it stood still for too long

    world.interruptions[world.calls + number] = meanwhile
    platform.settle()
    assert rotated(guarded)
    platform.check()


def _number_of(name: str, world: World) -> int:
    """Which call from now on that is, in a world of one tenant that is rotated."""
    scout = Platform()
    _prepared(scout)
    first = scout.world.calls
    rotation(scout)
    scout.settle()
    assert first == world.calls
    return scout.world.call_names[first:].index(name) + 1


def test_a_job_that_is_put_back_again_and_again_is_done_once_though_it_is_sent_again() -> None:
    guarded = Guarded()
    platform, world = guarded.platform, guarded.world
    _prepared(platform)
    number = _number_of("deks.replace", world)
    rotation(platform)
    world.faults[world.calls + number] = Fault.ERROR_BEFORE
    platform.deliver(world.messages[0])
    assert guarded.open == {ROTATION}
    guarded.watch.run()
    (put_back,) = world.messages
    world.now += SENT_AGAIN_AFTER
    guarded.watch.run()
    guarded.watch.run()
    assert len(world.messages) == 2, "once, not at every tick"
    assert world.messages[0] is put_back
    platform.settle(twice=True)
    assert rotated(guarded)
    platform.check()


def test_a_job_is_sent_again_once_in_six_hours() -> None:
    guarded, sent = Guarded(lossy=True), 0
    begun(guarded, rotation, "deks.replace", Fault.KILLED_BEFORE)
    for _ in range(24 * 12):
        calls = len(guarded.world.call_names)
        guarded.tick(MINUTES)
        sent += guarded.world.call_names[calls:].count("queues.send")
    assert sent == timedelta(days=1) // REPEATED_EVERY


def test_a_restart_forgets_nothing() -> None:
    guarded = Guarded(lossy=True)
    begun(guarded, rotation, "deks.replace", Fault.KILLED_BEFORE)
    auditor = AuditProcess(guarded.world)
    guarded.world.add_signing_key()
    for _ in range(4 * 24):  # checkpoints, so that a restarted watchdog does not begin at the beginning
        guarded.world.now += timedelta(hours=1)
        auditor.checkpointer.run()
        guarded.watch = new_watch(guarded.world)
        guarded.tick()
    assert guarded.world.outcomes()[ROTATION] == {"intent", "failed"}
    assert f"intent/{ROTATION}" in guarded.world.alerts


def test_a_restarted_watchdog_reads_two_weeks_and_not_the_whole_trail() -> None:
    guarded = Guarded()
    world = guarded.world
    world.add_signing_key()
    auditor = AuditProcess(world)
    _prepared(guarded.platform)
    for _ in range(30):
        world.now += timedelta(days=1)
        auditor.checkpointer.run()
    begun_late = AuditEvent(
        "dek.retire/acme/by-hand", Outcome.INTENT, "dek.retire", "dek/acme", "a", "manual", "so", 1, 1
    )
    auditor.audit.record(begun_late)
    watch = new_watch(world)
    assert [record.job for record in watch._open()] == [begun_late.job]
    assert watch._streams is not None
    first = next(stored for records in world.streams.values() for stored in records)
    reading = SimRecords(world)
    reads: list[int] = []
    watch = new_watch(world)
    watch._trail._records = _Noting(reading, reads)
    watch._open()
    assert first.seq not in reads, "what was signed two weeks ago is not read again"


class _Noting(SimRecords):
    """Notes from which number on a stream that has records is read."""

    def __init__(self, records: SimRecords, reads: list[int]) -> None:
        super().__init__(records._world)
        self._reads = reads

    def read(self, stream: int, first_seq: int, limit: int):  # type: ignore[no-untyped-def] # noqa: ANN202
        found = super().read(stream, first_seq, limit)
        self._reads += [each.seq for each in found]
        return found


def test_a_broken_stream_does_not_keep_the_others_from_being_looked_after() -> None:
    guarded = Guarded()
    begun(guarded, rotation, "deks.replace", Fault.KILLED_BEFORE)
    (job,) = guarded.open
    stream = next(number for number, records in guarded.world.streams.items() if job in repr(records))
    other = next(
        name
        for name in (f"tenant-{number}" for number in range(99))
        if AuditEvent(f"x/{name}", Outcome.FAILED, "a.b", f"dek/{name}", "a", "b", "c").stream < stream
    )
    guarded.platform.ask(Action.ADD_TENANT, other, "by-hand")
    guarded.platform.settle()
    for number, records in guarded.world.streams.items():
        if number != stream:
            records[0] = replace(records[0], canonical=records[0].canonical.replace(b"asked", b"ASKED"))
    guarded.tick(SENT_AGAIN_AFTER)
    assert guarded.open == set()
    assert rotated(guarded)


def test_an_intent_that_names_no_job_does_not_keep_the_others_from_being_looked_after() -> None:
    guarded = Guarded()
    begun(guarded, rotation, "deks.replace", Fault.KILLED_BEFORE)
    odd = AuditEvent("dek.rotate/NOT A TENANT".replace(" ", "."), Outcome.INTENT, "dek.rotate", "dek/x", "a", "b", "c")
    AuditTrail(SimRecords(guarded.world), guarded.world.clock).record(odd)
    guarded.world.now += SENT_AGAIN_AFTER
    with pytest.raises(Integrity, match="does not name its job"):
        guarded.watch.run()
    guarded.platform.settle()
    assert guarded.open == {odd.job}
    assert rotated(guarded)


def test_of_several_watchdogs_at_once_each_may_do_what_it_likes_and_nothing_is_done_twice() -> None:
    guarded = Guarded()
    begun(guarded, rotation, "deks.replace", Fault.KILLED_BEFORE)
    guarded.world.now += SENT_AGAIN_AFTER
    others = [new_watch(guarded.world) for _ in range(3)]
    for watch in (guarded.watch, *others):
        watch.run()
    assert len(guarded.world.messages) == 4
    guarded.platform.settle(twice=True)
    assert rotated(guarded)
    guarded.platform.check()


def test_two_watchdogs_that_settle_at_once_record_one_outcome_and_one_alert() -> None:
    guarded = Guarded(lossy=True)
    begun(guarded, rotation, "deks.replace", Fault.KILLED_BEFORE)
    guarded.world.now += GIVEN_UP_AFTER
    other = new_watch(guarded.world)
    calls = guarded.world.calls
    new_watch(guarded.world)._open()
    reading = guarded.world.calls - calls
    guarded.world.interruptions[guarded.world.calls + reading + 1] = other.run  # after the first has read
    guarded.watch.run()
    assert [json for json in _outcomes_of(guarded, ROTATION) if json == "failed"] == ["failed"]
    assert len(guarded.world.alerts) == 1
    guarded.platform.check()


def _outcomes_of(guarded: Guarded, job: str) -> list[str]:
    trail = Trail(SimRecords(guarded.world), SimCheckpoints(guarded.world))
    return [
        outcome.value
        for stream in guarded.world.streams
        for stored in trail.records(stream, 0)
        for outcome in Outcome
        if f'"job":"{job}"'.encode() in stored.canonical and f'"outcome":"{outcome}"'.encode() in stored.canonical
    ]


# The crash matrix


@dataclass(frozen=True)
class Case:
    """How a job was left behind, how the watchdog goes on, and what must have come of it."""

    begin: Callable[[Platform], None]
    at: str
    fault: Fault
    ended: Callable[[Guarded], bool]
    every: timedelta = SENT_AGAIN_AFTER
    lossy: bool = False
    alerts: Sequence[str] = ()


def offboarded(guarded: Guarded) -> bool:
    return guarded.world.keyrings[ACME].tenant.state is TenantState.OFFBOARDED


def globex_has(deks: int) -> Callable[[Guarded], bool]:
    return lambda guarded: len(guarded.world.keyrings[TenantId("globex")].deks) == deks


CASES = {
    "no effect, sent again": Case(rotation, "deks.replace", Fault.KILLED_BEFORE, rotated),
    "no outcome, sent again": Case(rotation, "deks.replace", Fault.KILLED_AFTER, rotated),
    "a tenant's state, sent again": Case(offboarding, "deks.replace", Fault.KILLED_AFTER, offboarded),
    "a new tenant, sent again": Case(addition, "deks.add", Fault.KILLED_AFTER, globex_has(1)),
    "no effect, settled": Case(
        rotation,
        "deks.replace",
        Fault.KILLED_BEFORE,
        lambda guarded: rotated(guarded, 1),
        GIVEN_UP_AFTER,
        lossy=True,
        alerts=[f"intent/{ROTATION}"],
    ),
    "no outcome, settled": Case(rotation, "deks.replace", Fault.KILLED_AFTER, rotated, GIVEN_UP_AFTER, lossy=True),
    "a tenant without its DEK, settled": Case(
        addition,
        "deks.add",
        Fault.KILLED_AFTER,
        globex_has(0),
        GIVEN_UP_AFTER,
        lossy=True,
        alerts=["intent/tenant.add/globex/by-hand"],
    ),
}


def run(case: Case, at: int | None, fault: Fault | None) -> int:
    """One case with one fault at call number `at` of the watchdog and what it makes happen; returns how many calls."""
    guarded = Guarded(lossy=case.lossy)
    begun(guarded, case.begin, case.at, case.fault)
    first = guarded.world.calls
    if at is not None and fault is not None:
        guarded.world.faults[first + at] = fault
    guarded.until_quiet(case.every)
    calls = guarded.world.calls - first
    guarded.platform.check()
    assert case.ended(guarded)
    assert sorted(guarded.world.alerts) == list(case.alerts)
    assert not guarded.world.letters
    return calls


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.name.lower())
def test_the_watchdog_survives_a_fault_at_every_call(name: str, fault: Fault, tally: Tally) -> None:
    calls = run(CASES[name], None, None)
    for at in range(1, calls + 1):
        run(CASES[name], at, fault)
        tally.count("crash matrix of the watchdog")


def test_what_only_looks_settled_is_not_recorded_as_failed_when_the_tables_do_not_answer() -> None:
    guarded = Guarded(lossy=True)
    begun(guarded, rotation, "deks.replace", Fault.KILLED_AFTER)
    guarded.world.outage = frozenset({"deks"})
    guarded.tick(GIVEN_UP_AFTER)
    assert guarded.open == {ROTATION}
    guarded.world.outage = frozenset()
    guarded.tick(MINUTES)
    assert guarded.world.outcomes()[ROTATION] == {"intent", "succeeded"}
    assert guarded.world.alerts == {}


def test_an_intent_closed_by_somebody_else_in_between_is_no_conflict() -> None:
    guarded = Guarded()
    begun(guarded, rotation, "deks.replace", Fault.KILLED_BEFORE)
    guarded.world.now += GIVEN_UP_AFTER
    records = guarded.watch._open()
    rotation(guarded.platform)
    guarded.platform.settle()
    for record in records:
        guarded.watch._treat(record, guarded.world.now)
    assert guarded.world.outcomes()[ROTATION] == {"intent", "succeeded"}
    assert guarded.world.alerts == {}
