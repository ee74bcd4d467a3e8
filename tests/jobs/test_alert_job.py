"""Alerts from raising to the sinks: once each, nothing lost, whatever fails at whatever call."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest

from rotation.alert_job import AlertDelivery, closing_event
from rotation.alerting import MAX_ATTEMPTS, key_of
from rotation.audit_job import AuditTrail
from rotation.ended_causes import OF_A_RUN, UNUSABLE, EndedCauses
from rotation.in_turn import InTurn
from rotation.message import KekAction
from shared.errors import AtpError, Conflict, Rejected, Throttled, Transient
from shared.values import Alert, AlertEntry, Closing, Phase, Severity, SinkName
from tests.conftest import Tally
from tests.jobs.platform import Platform
from tests.simulator import (
    Fault,
    Killed,
    SimAlertRegister,
    SimAlerts,
    SimKeks,
    SimRecords,
    SimSink,
    SimVault,
    World,
)

MINUTE = timedelta(minutes=1)
ALERT = Alert("jobs/1", Severity.WARNING, "it is late", "queue/jobs", World().now, {"reason": "r"}, "sre")
WORSE = replace(ALERT, severity=Severity.CRITICAL)
WEBHOOK, TEAMS, PAGERDUTY = SinkName
AWAY = Transient("alert sink: no answer")


def delivery(world: World, *names: SinkName) -> AlertDelivery:
    audit = AuditTrail(SimRecords(world), world.clock, sleep=lambda _: None)
    sinks = [SimSink(world, name) for name in names or SinkName]
    return AlertDelivery(SimAlertRegister(world), SimAlerts(world), sinks, audit, world.clock, world.monotonic)


def told(world: World, sink: SinkName = WEBHOOK) -> list[str]:
    """What a sink was told, in order."""
    notices = [notice for name, notice in world.notices if name is sink]
    return ["resolved" if notice.alert.resolved else notice.alert.severity.value for notice in notices]


def pending(world: World) -> bool:
    return any(entry.is_owing for entry in world.alert_rows.values())


def test_every_sink_is_told_once_of_an_alert_that_is_raised_twice() -> None:
    world = World()
    for _ in range(2):
        SimAlerts(world).raise_alert(ALERT)
        delivery(world).run()
    assert [told(world, name) for name in SinkName] == [["warning"]] * 3
    assert not pending(world)


def test_an_alert_goes_its_way_and_comes_back() -> None:
    world = World()
    alerts = SimAlerts(world)
    steps: list[Callable[[], None]] = [
        lambda: alerts.raise_alert(ALERT),
        lambda: alerts.raise_alert(WORSE),
        lambda: alerts.raise_alert(ALERT),
        lambda: alerts.resolve(ALERT.id),
        lambda: alerts.resolve(ALERT.id),
        lambda: alerts.raise_alert(ALERT),
    ]
    for step in steps:
        step()
        delivery(world).run()
    assert told(world) == ["warning", "critical", "resolved", "warning"]
    assert [notice.revision for name, notice in world.notices if name is WEBHOOK] == [1, 2, 3, 4]
    assert world.alerts == {ALERT.id: ALERT}


def test_a_flood_of_warnings_keeps_no_sink_from_being_told_of_what_is_urgent() -> None:
    world = World()
    for number in range(50):
        SimAlerts(world).raise_alert(replace(ALERT, id=f"unmanaged/{number}"))
    world.now += MINUTE
    SimAlerts(world).raise_alert(replace(WORSE, raised=world.now))
    delivery(world, WEBHOOK).run()
    assert told(world) == ["critical"] + ["warning"] * 50


def test_a_sink_that_was_away_is_told_how_the_alert_stands_then() -> None:
    world = World()
    SimAlerts(world).raise_alert(ALERT)
    SimAlerts(world).resolve(ALERT.id)
    delivery(world).run()
    assert told(world) == ["resolved"]


def test_resolving_what_was_never_raised_does_nothing() -> None:
    world = World()
    SimAlerts(world).resolve("no/such")
    assert world.alert_rows == {}


def test_without_sinks_nothing_is_owed_for_long() -> None:
    world = World()
    SimAlerts(world).raise_alert(ALERT)
    register = SimAlertRegister(world)
    audit = AuditTrail(SimRecords(world), world.clock)
    AlertDelivery(register, SimAlerts(world), [], audit, world.clock).run()
    assert not pending(world)


@pytest.mark.parametrize("stated", [1e15, float("inf")])
def test_a_sink_that_wants_to_be_left_alone_for_ever_delays_no_other_and_is_tried_again(stated: float) -> None:
    world = World()
    world.refusals[WEBHOOK] = Throttled("alert sink: too many requests", status=429, retry_after=stated)
    SimAlerts(world).raise_alert(ALERT)
    delivery(world).run()
    assert (told(world, TEAMS), told(world, PAGERDUTY)) == (["warning"], ["warning"])
    world.refusals.clear()
    world.now += 30 * MINUTE
    delivery(world).run()
    assert told(world) == ["warning"]


def test_a_sink_that_is_away_for_an_hour_delays_no_other_and_loses_nothing() -> None:
    world = World()
    world.refusals[TEAMS] = AWAY
    for minute in range(60):
        SimAlerts(world).raise_alert(replace(ALERT, id=f"jobs/{minute}"))
        before = world.calls
        delivery(world).run()
        assert world.call_names[before:].count("sink-teams.send") <= 1, "the others would wait in vain"
        world.now += MINUTE
        assert len(told(world)) == len(told(world, PAGERDUTY)) == minute + 1
    assert told(world, TEAMS) == []
    world.refusals.clear()
    for _ in range(60):
        delivery(world).run()
        world.now += MINUTE
    assert len(told(world, TEAMS)) == 60
    assert not pending(world)


def test_a_sink_that_takes_its_time_holds_up_the_others_no_longer_than_its_share() -> None:
    world = World()

    class Slow(SimSink):
        def send(self, notice: object) -> None:
            world.now += timedelta(seconds=4)
            super().send(notice)  # type: ignore[arg-type] # as it came

    for number in range(20):
        SimAlerts(world).raise_alert(replace(ALERT, id=f"jobs/{number}"))
    audit = AuditTrail(SimRecords(world), world.clock)
    sinks = [Slow(world, WEBHOOK), SimSink(world, TEAMS)]
    AlertDelivery(SimAlertRegister(world), SimAlerts(world), sinks, audit, world.clock, world.monotonic).run()
    assert (len(told(world)), len(told(world, TEAMS))) == (4, 20)


def test_a_refusal_is_tried_once_marked_and_told_to_the_other_sinks_until_the_sink_takes_alerts_again() -> None:
    world = World()
    world.refusals[TEAMS] = Rejected("alert sink: refused", status=404)
    SimAlerts(world).raise_alert(ALERT)
    for _ in range(5):
        delivery(world).run()
        world.now += MINUTE
    assert world.call_names.count("sink-teams.send") == 2, "once for the alert, once for that about the sink"
    assert "404" in world.alert_rows[ALERT.id].owed[TEAMS].given_up
    about = world.alerts["sink/teams"]
    assert (about.what, about.details) == (
        "a sink does not take alerts",
        {"reason": "alert sink: refused (status=404)"},
    )
    assert len(told(world)) == 2
    world.refusals.clear()
    SimAlerts(world).raise_alert(replace(ALERT, id="jobs/2"))
    delivery(world).run()
    assert "sink/teams" not in world.alerts
    delivery(world).run()
    assert told(world, TEAMS) == ["warning", "resolved"]
    assert not pending(world)


def test_a_sink_that_never_answers_is_given_up_in_the_end_and_somebody_is_told() -> None:
    world = World()
    world.refusals[TEAMS] = AWAY
    SimAlerts(world).raise_alert(ALERT)
    for _ in range(MAX_ATTEMPTS + 1):
        delivery(world).run()
        world.now += timedelta(minutes=31)
    assert world.alert_rows[ALERT.id].owed[TEAMS].given_up
    assert "sink/teams" in world.alerts


def test_a_sink_is_left_alone_for_as_long_as_it_says() -> None:
    world = World()
    world.refusals[TEAMS] = Throttled("alert sink: too many requests", status=429, retry_after=600.0)
    SimAlerts(world).raise_alert(ALERT)
    for _ in range(10):
        delivery(world).run()
        world.now += MINUTE
    assert world.call_names.count("sink-teams.send") == 1


def test_an_error_that_nobody_expects_holds_up_no_other_sink() -> None:
    world = World()
    world.refusals[WEBHOOK] = UnicodeError("odd")  # type: ignore[assignment] # nobody expects it
    SimAlerts(world).raise_alert(ALERT)
    delivery(world).run()
    assert told(world, PAGERDUTY) == ["warning"]
    world.refusals.clear()
    world.now += MINUTE
    delivery(world).run()
    assert told(world) == ["warning"]


def test_an_alert_that_cannot_be_written_down_any_more_is_told_once_and_holds_up_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    SimAlerts(world).raise_alert(ALERT)
    SimAlerts(world).raise_alert(replace(ALERT, id="jobs/2"))
    put = SimAlertRegister.put

    def gated(register: SimAlertRegister, entry: AlertEntry) -> None:
        if entry.alert.id == ALERT.id:
            raise ValueError("a secret is in id")
        put(register, entry)

    monkeypatch.setattr(SimAlertRegister, "put", gated)
    process = delivery(world)
    for _ in range(3):
        process.run()
    assert told(world) == ["warning", "warning"]


def test_who_resolved_an_alert_is_on_record_once_even_if_it_was_opened_again_meanwhile() -> None:
    world = World()
    alerts = SimAlerts(world)
    alerts.raise_alert(ALERT)
    alerts.resolve(ALERT.id, "alice", "it is mended")
    alerts.raise_alert(ALERT)
    for _ in range(2):
        delivery(world).run()
    audit = AuditTrail(SimRecords(world), world.clock)
    event = closing_event(ALERT.id, Closing(2, "alice", "it is mended"))
    record = audit.find(event.job, event.outcome, event.subject)
    assert record is not None
    assert (record.action, record.actor, record.reason) == ("alert.resolve", "alice", "it is mended")
    assert record.details == {"alert": ALERT.id}
    assert sum(len(stream) for stream in world.streams.values()) == 1


@pytest.mark.parametrize("alert_id", ["with a blank", "x" * 201])
def test_an_alert_whose_id_a_record_has_no_room_for_is_recorded_by_its_key(alert_id: str) -> None:
    event = closing_event(alert_id, Closing(2, "alice", "it is mended"))
    assert (event.subject, event.details) == (f"alert/{key_of(alert_id)}", {})


def test_an_audit_trail_that_is_away_holds_up_no_sink_and_what_a_person_did_is_recorded_later() -> None:
    world = World()
    SimAlerts(world).raise_alert(ALERT)
    SimAlerts(world).resolve(ALERT.id, "alice", "it is mended")
    world.outage = frozenset({"audit"})
    delivery(world).run()
    assert told(world) == ["resolved"]
    world.outage = frozenset()
    delivery(world).run()
    assert f"alert.resolve/{key_of(ALERT.id)}/2" in world.outcomes()
    assert not pending(world)


def test_a_name_that_cannot_be_recorded_holds_up_nothing() -> None:
    world = World()
    SimAlerts(world).raise_alert(ALERT)
    SimAlerts(world).resolve(ALERT.id, "a name with blanks", "x")
    delivery(world).run()
    assert told(world) == ["resolved"]
    assert not pending(world)


def test_an_alert_that_changes_while_it_is_told_is_told_again_as_it_stands_then() -> None:
    world = World()
    SimAlerts(world).raise_alert(ALERT)
    first = delivery(world)
    world.interruptions[world.calls + 2] = lambda: SimAlerts(world).resolve(ALERT.id)  # right before it is sent
    first.run()
    first.run()
    assert told(world) == ["warning", "resolved"]
    assert not pending(world)


def test_what_a_suspended_round_tells_too_late_is_not_the_last_word() -> None:
    world = World()
    SimAlerts(world).raise_alert(ALERT)

    def meanwhile() -> None:
        SimAlerts(world).resolve(ALERT.id)
        delivery(world).run()

    sending = world.calls + 2
    world.interruptions = {sending: meanwhile}
    delivery(world).run()
    assert world.call_names[sending - 1].startswith("sink-")
    assert told(world)[:2] == ["resolved", "warning"]
    delivery(world).run()
    assert {told(world, name)[-1] for name in SinkName} == {"resolved"}
    assert not pending(world)


def test_an_alert_that_two_raise_at_once_is_one() -> None:
    world = World()
    world.interruptions[world.calls + 2] = lambda: SimAlerts(world).raise_alert(WORSE)  # between reading and writing
    SimAlerts(world).raise_alert(ALERT)
    assert world.alerts == {ALERT.id: WORSE}
    assert world.alert_rows[ALERT.id].revision == 1


def test_an_alert_that_keeps_changing_is_tried_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(*_: object) -> None:
        raise Conflict("the alert changed")

    monkeypatch.setattr(SimAlertRegister, "put", busy)
    with pytest.raises(Transient):
        SimAlerts(World()).raise_alert(ALERT)


def story(world: World) -> list[Callable[[], None]]:
    """What happens to an alert, each step by a process of its own."""
    return [
        lambda: SimAlerts(world).raise_alert(ALERT),
        lambda: delivery(world).run(),
        lambda: SimAlerts(world).raise_alert(WORSE),
        lambda: delivery(world).run(),
        lambda: SimAlerts(world).resolve(ALERT.id, "alice", "it is mended"),
        lambda: delivery(world).run(),
    ]


def play(at: int | None, fault: Fault | None) -> World:
    """The story with one fault at its call number `at`; whoever failed is called again."""
    world = World()
    if at is not None and fault is not None:
        world.faults[at] = fault
    for step in (*story(world), *(delivery(world).run for _ in range(3))):
        for _ in range(3):
            try:
                step()
            except (AtpError, Killed):
                continue
            break
        world.now += 2 * MINUTE
    return world


@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.name.lower())
def test_whatever_fails_at_whatever_call_every_sink_ends_knowing_how_it_stands(fault: Fault, tally: Tally) -> None:
    length = play(None, None).calls
    assert length > 30
    for at in range(1, length + 1):
        world = play(at, fault)
        assert not world.faults
        assert not pending(world), at
        for name in SinkName:
            heard = told(world, name)
            assert heard[-1] == "resolved", (at, name)
            in_order = [word for word, before in zip(heard, [None, *heard], strict=False) if word != before]
            assert in_order in (["warning", "critical", "resolved"], ["critical", "resolved"], ["warning", "resolved"])
            assert len(heard) <= 4, "told twice at worst"
        assert world.alert_rows[ALERT.id].revision == 3
        assert [set(outcomes) for outcomes in world.outcomes().values()] == [{"succeeded"}]
    tally.count("crash matrix of alerts", length)


@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.name.lower())
def test_whatever_fails_when_a_sink_refuses_somebody_is_told(fault: Fault, tally: Tally) -> None:
    """Killed anywhere, it is tried again; nothing is marked as given up that nobody was told of."""
    at, calls = 0, 1
    while at < calls:
        at += 1
        world = World()
        world.refusals[TEAMS] = Rejected("alert sink: refused", status=404)
        SimAlerts(world).raise_alert(ALERT)
        begun = world.calls
        world.faults[begun + at] = fault
        for _ in range(3):
            with suppress(AtpError, Killed):
                delivery(world).run()
            calls = max(calls, world.calls - begun) if at == 1 else calls
            given_up = world.alert_rows[ALERT.id].owed.get(TEAMS)
            assert given_up is None or not given_up.given_up or "sink/teams" in world.alerts
            world.now += 2 * MINUTE
        assert not pending(world)
        assert "sink/teams" in world.alerts
        assert told(world)[-1] == "warning"
    tally.count("crash matrix of alerts", calls)


def test_that_a_kek_must_not_be_used_is_over_when_the_vault_would_wrap_with_it() -> None:
    world = World()
    kid = world.add_kek()
    world.keks[kid] = replace(world.keks[kid], enabled=False)
    alerts = SimAlerts(world)
    gone = f"{kid[:-1]}f"
    for number, text in enumerate((kid, gone, "https://elsewhere.vault.azure.net/keys/k/1", "")):
        about = Alert(f"unusable/{number}", Severity.CRITICAL, UNUSABLE, "key/master-kek", world.now, {"kid": text})
        alerts.raise_alert(about)
    causes = EndedCauses(
        alerts, AuditTrail(SimRecords(world), world.clock), SimVault(world), SimKeks(world), world.clock
    )
    causes.run()
    assert len(world.alerts) == 4
    world.keks[kid] = replace(world.keks[kid], enabled=True)
    causes.run()
    assert set(world.alerts) == {"unusable/1", "unusable/2", "unusable/3"}


@pytest.mark.usefixtures("few_shards")
def test_what_a_kek_rotation_waited_for_is_over_with_the_rotation() -> None:
    platform = Platform()
    platform.add_tenant("acme")
    world, alerts = platform.world, SimAlerts(platform.world)

    platform.order(KekAction.ROTATE)
    platform.settle()
    run = platform.kek_run
    assert run is not None
    for number, what in enumerate((*OF_A_RUN, "a KEK version that is retired is missed")):
        subject = f"kek/{run.kek}"
        alerts.raise_alert(Alert(f"a/{number}", Severity.CRITICAL, what, subject, world.now, {"run": run.id}))
    causes = EndedCauses(
        alerts, AuditTrail(SimRecords(world), world.clock), SimVault(world), SimKeks(world), world.clock
    )
    causes.run()
    assert len(world.alerts) == 4
    platform.run_until(Phase.CLOSED)
    causes.run()
    assert set(world.alerts) == {"a/3"}


def test_jobs_of_one_trigger_have_their_turn_whatever_the_others_do() -> None:
    done: list[str] = []

    def fail(name: str) -> None:
        done.append(name)
        raise Transient(name)

    jobs = InTurn(lambda: fail("first"), lambda: done.append("second"), lambda: fail("third"))
    with pytest.raises(Transient, match="first"):
        jobs.run()
    assert done == ["first", "second", "third"]
    InTurn().run()
