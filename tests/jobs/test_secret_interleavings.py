"""Random histories of one secret: orders, planner runs, duplicates, faults, races, outages, refusals, lost rows, hands.

At every step consumers can use what they read, what dual running promises holds, and what a person has disabled is
disabled; at the end one credential works.
"""

import contextlib
from dataclasses import replace
from datetime import timedelta
from typing import Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from rotation.catalog import PENDING_SUFFIX
from rotation.message import SecretAction
from rotation.secret import CLAIM, MOVES, TRIED_AGAIN_AFTER
from rotation.secret_versions import STATE_TAG
from shared.errors import AtpError
from shared.values import SecretPhase
from tests.conftest import TALLY
from tests.jobs.platform import Process
from tests.jobs.secret_scene import NAME, Scene
from tests.jobs.secret_targets import GRACE, NATURES
from tests.simulator import Fault

PORTS: Final = ("secrets", "rotations", "audit", "queues", "alerts", "target", "letters")


class SecretHistory(RuleBasedStateMachine):
    """One random history of one secret."""

    @initialize(nature=st.sampled_from(list(NATURES)))
    def begin(self, nature: str) -> None:
        self.scene = Scene(kind=NATURES[nature])
        self.world = self.scene.world
        self.requests = 0
        self.has_lost_row = False
        self.disabled: set[str] = set()
        self.last = self.scene.row

    @rule(compromised=st.sampled_from((False, False, True)), again=st.booleans())
    def an_operator_has_it_rotated(self, compromised: bool, again: bool) -> None:
        self.requests += not again
        self.scene.send(SecretAction.ROTATE, f"request-{self.requests}-{compromised}", compromised=compromised)

    @rule(action=st.sampled_from((SecretAction.ROLLBACK, SecretAction.CONFIRM, SecretAction.DRIVE)), back=st.booleans())
    def an_operator_orders(self, action: SecretAction, back: bool) -> None:
        self.requests += 1
        generation = max(self.last.generation - back, 0)
        self.scene.send(action, f"request-{self.requests}", generation=generation)

    @rule()
    def the_timer_fires(self) -> None:
        self.scene.plan()

    @rule(days=st.sampled_from((0.01, 0.05, 1, 8, 91)))
    def time_passes(self, days: float) -> None:
        self.world.now += timedelta(days=days)

    @rule(hours=st.sampled_from((1, 48)))
    def clocks_are_put_back(self, hours: int) -> None:
        self.world.now -= timedelta(hours=hours)

    @rule(pick=st.integers(0, 10_000), twice=st.booleans())
    def a_message_is_delivered(self, pick: int, twice: bool) -> None:
        if self.world.messages:
            self.scene.deliver(self.world.messages[pick % len(self.world.messages)], twice=twice)

    @rule()
    def all_messages_are_delivered(self) -> None:
        self.scene.settle()

    @rule(pick=st.integers(0, 10_000), call=st.integers(1, 60), fault=st.sampled_from(Fault))
    def a_delivery_meets_a_fault(self, pick: int, call: int, fault: Fault) -> None:
        if self.world.messages:
            self.world.faults = {self.world.calls + call: fault}
            self.scene.deliver(self.world.messages[pick % len(self.world.messages)])
            self.world.faults.clear()

    @rule(pick=st.integers(0, 10_000))
    def an_old_message_comes_again(self, pick: int) -> None:
        if self.scene.delivered:
            old = self.scene.delivered[pick % len(self.scene.delivered)]
            self.scene.drop(old.queue, old.body)

    @rule(first=st.integers(0, 10_000), second=st.integers(0, 10_000), call=st.integers(1, 60), late=st.booleans())
    def two_workers_race(self, first: int, second: int, call: int, late: bool) -> None:
        """`late`: the first one has died, and the claim is over when the second one comes."""
        if not self.world.messages:
            return
        one = self.world.messages[first % len(self.world.messages)]
        other = self.world.messages[second % len(self.world.messages)]

        def meanwhile() -> None:
            with contextlib.suppress(AtpError):
                Process(self.world).perform(other)
                Process(self.world).secret_planner.run()

        if late:
            self.world.faults = {self.world.calls + call: Fault.KILLED_AFTER}
        else:
            self.world.interruptions = {self.world.calls + call: meanwhile}
        self.scene.deliver(one)
        self.world.interruptions.clear()
        self.world.faults.clear()
        if late:
            self.world.now += CLAIM
            meanwhile()

    @rule(ports=st.sets(st.sampled_from(PORTS), min_size=1), deliveries=st.integers(1, 4))
    def an_outage_passes(self, ports: set[str], deliveries: int) -> None:
        self.world.outage = frozenset(ports)
        for message in self.world.messages[:deliveries]:
            self.scene.deliver(message)
        self.world.outage = frozenset()

    @rule(refuses=st.booleans(), ignores=st.booleans())
    def the_target_is_moody(self, refuses: bool, ignores: bool) -> None:
        if self.scene.kind is NATURES["logins"]:
            self.scene.target.refuses, self.scene.target.ignores = refuses, ignores

    @rule(lost=st.sampled_from((False, False, True)))
    def the_row_is_lost(self, lost: bool) -> None:
        if lost and self.world.rotations.pop(NAME, None) is not None:
            self.has_lost_row = True

    @rule()
    def somebody_stores_the_newest_value_again(self) -> None:
        self.world.add_secret(NAME, self.scene.versions()[-1][1])

    @rule()
    def somebody_disables_the_version_before(self) -> None:
        if self.last.previous:
            self._switch({self.last.previous}, enabled=False)

    @rule()
    def somebody_enables_again_what_was_disabled(self) -> None:
        self._switch(self.disabled, enabled=True)

    def _switch(self, names: set[str], *, enabled: bool) -> None:
        """By hand, versions that the app has not revoked itself."""
        versions = self.scene.versions()
        chosen = {
            each.version for each, _ in versions if each.version in names and each.tags.get(STATE_TAG) != "revoked"
        }
        versions[:] = [
            (replace(each, enabled=enabled) if each.version in chosen else each, value) for each, value in versions
        ]
        self.disabled = self.disabled - names if enabled else self.disabled | chosen

    @invariant()
    def consumers_and_dual_running_are_safe(self) -> None:
        TALLY.count("interleavings of secrets, steps")
        self.scene.consume()
        assert not any(each.enabled for each, _ in self.scene.versions() if each.version in self.disabled)
        row = self.world.rotations.get(NAME)
        if row is None:
            return
        if row.generation == self.last.generation and row.phase is not self.last.phase and not self.has_lost_row:
            assert reaches(self.last.phase, row.phase)
        if row.phase is SecretPhase.GRACE and row.grace_until is not None and self.world.now < row.grace_until:
            assert self.scene.works(row.previous)
        assert row.generation >= self.last.generation or self.has_lost_row
        self.last = row

    def teardown(self) -> None:
        TALLY.count("interleavings of secrets, histories")
        self.scene.target.refuses = self.scene.target.ignores = False
        self._switch(set(self.disabled), enabled=True)
        self.scene.settle()
        for _ in range(3):
            self.world.now += TRIED_AGAIN_AFTER + GRACE
            self.scene.pass_time(GRACE)
        row = self.scene.row
        assert row.phase in (SecretPhase.STEADY, SecretPhase.GRACE)
        assert not row.claim
        self.scene.consume()
        asides = self.scene.versions(NAME + PENDING_SUFFIX)
        told = {value for _, value in (*self.scene.versions(), *asides)}
        in_use = {value for each, value in self.scene.versions() if each.version in (row.current, row.previous)}
        assert set(self.scene.target.accepted.values()) & told <= in_use
        assert not any(each.enabled for each, _ in asides)
        if not self.has_lost_row:
            self.scene.check()


def reaches(old: SecretPhase, new: SecretPhase) -> bool:
    """Whether the table leads from one phase to the other."""
    seen, todo = {old}, [old]
    while todo:
        for phase in MOVES[todo.pop()] - seen:
            seen.add(phase)
            todo.append(phase)
    return new in seen


TestSecretHistories = SecretHistory.TestCase
TestSecretHistories.settings = settings(max_examples=800, stateful_step_count=30)
