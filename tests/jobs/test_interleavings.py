"""Random histories: plans, DEK and KEK rotations, readers, writers, off-boardings, rollbacks, duplicates, delays,
races, outages, throttling.

Two workers race by interruption: before one of its I/O calls a worker stands still while another process does its
whole job. That covers every pair of orders that matters, because nothing is shared but what I/O calls touch.
"""

import contextlib
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from rotation.kek import FINAL
from rotation.message import Action, KekAction
from shared.errors import AtpError, TenantDestroyed, TenantOffboarded, Transient, UnknownTenant
from shared.values import Phase, TenantState
from tests.conftest import TALLY
from tests.jobs.platform import POLICY, Platform, Process
from tests.simulator import Fault

if TYPE_CHECKING:
    from rotation.tenant_cipher import TenantCipher

TENANTS = ("acme", "globex", "initech")
CONSUMERS = ("ingest", "query")
PORTS = ("deks", "vault", "audit", "queues", "keks", "shards", "budgets", "uses", "consumers", "alerts", "letters")
SHARDS = (0, 1)
pytestmark = pytest.mark.usefixtures("few_shards")


class History(RuleBasedStateMachine):
    """One random history."""

    @initialize()
    def begin(self) -> None:
        self.platform = Platform()
        self.world = self.platform.world
        self.ciphers: dict[str, TenantCipher] = {
            name: self.platform.cipher(name, tells_keks=True) for name in CONSUMERS
        }
        self.requests = 0

    @rule(tenant=st.sampled_from(TENANTS), action=st.sampled_from(list(Action)), repeat=st.integers(0, 3))
    def an_operator_asks(self, tenant: str, action: Action, repeat: int) -> None:
        self.requests += 1
        request = f"again-{repeat}" if repeat < 2 else f"request-{self.requests}"
        if action in (Action.DESTROY_TENANT, Action.RETIRE_DEK):
            request = "by-hand"
        self.platform.ask(action, tenant, request)

    @rule(tenant=st.sampled_from(TENANTS))
    def a_tenant_is_added(self, tenant: str) -> None:
        self.platform.ask(Action.ADD_TENANT, tenant, "first")

    @rule()
    def the_timer_fires(self) -> None:
        self.platform.start_plan()

    @rule(action=st.sampled_from(list(KekAction)), repeat=st.integers(0, 3), compromised=st.booleans())
    def an_operator_orders(self, action: KekAction, repeat: int, compromised: bool) -> None:
        self.requests += 1
        request = f"again-{repeat}" if repeat < 2 else f"request-{self.requests}"
        is_compromised = compromised and action is KekAction.ROTATE and repeat == 0
        self.platform.order(action, request, compromised=is_compromised)

    @rule()
    def the_kek_rotates(self) -> None:
        self.requests += 1
        self.platform.order(KekAction.ROTATE, f"request-{self.requests}")
        self.platform.settle()

    @rule(action=st.sampled_from((KekAction.ROLLBACK, KekAction.RESUME)), shard=st.sampled_from((*SHARDS, None)))
    def an_operator_orders_for_a_part(self, action: KekAction, shard: int | None) -> None:
        self.requests += 1
        part = {"tenant": TENANTS[0]} if shard is None else {"shard": shard}
        self.platform.order(action, f"request-{self.requests}", **part)

    @rule()
    def the_vault_rotates_the_key_by_itself(self) -> None:
        self.world.add_kek()

    @rule(days=st.sampled_from((0.01, 8)))
    def the_kek_rotation_goes_on(self, days: float) -> None:
        self.platform.settle()
        self.world.now += timedelta(days=days)
        self.platform.tick()
        self.platform.settle()

    @rule()
    def the_minute_timer_fires(self) -> None:
        self.platform.tick()

    @rule(operations=st.integers(1, 12), deliveries=st.integers(1, 4))
    def the_vault_throttles(self, operations: int, deliveries: int) -> None:
        self.world.throttled = operations
        for message in self.world.messages[:deliveries]:
            self.platform.deliver(message)
        self.world.throttled = 0

    @rule(days=st.sampled_from((0.01, 1, 8, 31, 91)))
    def time_passes(self, days: float) -> None:
        self.world.now += timedelta(days=days)

    @rule(pick=st.integers(0, 10_000), twice=st.booleans())
    def a_message_is_delivered(self, pick: int, twice: bool) -> None:
        if self.world.messages:
            self.platform.deliver(self.world.messages[pick % len(self.world.messages)], twice=twice)

    @rule()
    def all_messages_are_delivered(self) -> None:
        self.platform.settle()

    @rule(pick=st.integers(0, 10_000), call=st.integers(1, 12), fault=st.sampled_from(Fault))
    def a_delivery_meets_a_fault(self, pick: int, call: int, fault: Fault) -> None:
        if self.world.messages:
            self.world.faults = {self.world.calls + call: fault}
            self.platform.deliver(self.world.messages[pick % len(self.world.messages)])
            self.world.faults.clear()

    @rule(pick=st.integers(0, 10_000))
    def an_old_message_comes_again(self, pick: int) -> None:
        if self.platform.delivered:
            old = self.platform.delivered[pick % len(self.platform.delivered)]
            self.platform.drop(old.queue, old.body)

    @rule(first=st.integers(0, 10_000), second=st.integers(0, 10_000), call=st.integers(1, 12))
    def two_workers_race(self, first: int, second: int, call: int) -> None:
        if not self.world.messages:
            return
        one = self.world.messages[first % len(self.world.messages)]
        other = self.world.messages[second % len(self.world.messages)]

        def meanwhile() -> None:
            with contextlib.suppress(AtpError):
                Process(self.world).perform(other)

        self.world.interruptions = {self.world.calls + call: meanwhile}
        self.platform.deliver(one)
        self.world.interruptions.clear()

    @rule(ports=st.sets(st.sampled_from(PORTS), min_size=1), deliveries=st.integers(1, 4))
    def an_outage_passes(self, ports: set[str], deliveries: int) -> None:
        self.world.outage = frozenset(ports)
        for message in self.world.messages[:deliveries]:
            self.platform.deliver(message)
        self.world.outage = frozenset()

    @rule()
    def all_workers_restart(self) -> None:
        self.platform.process = Process(self.world)

    @rule(tenant=st.sampled_from(TENANTS), consumer=st.sampled_from(CONSUMERS))
    def a_service_writes(self, tenant: str, consumer: str) -> None:
        keyring = self.world.keyrings.get(tenant)  # type: ignore[call-overload] # a plain string is a fine key
        try:
            self.platform.write(tenant, self.ciphers[consumer])
        except UnknownTenant:
            assert keyring is None
        except TenantOffboarded:
            assert keyring.tenant.state is TenantState.OFFBOARDED
        except TenantDestroyed:
            assert keyring.tenant.state in (TenantState.DESTROYING, TenantState.DESTROYED)
        except Transient:
            assert keyring.tenant.primary == 0

    @rule(consumer=st.sampled_from(CONSUMERS))
    def a_service_restarts(self, consumer: str) -> None:
        self.ciphers[consumer] = self.platform.cipher(consumer, tells_keks=True)

    @rule(consumer=st.sampled_from(CONSUMERS))
    def a_service_reads_everything(self, consumer: str) -> None:
        self.platform.read_all(self.ciphers[consumer])

    @invariant()
    def the_invariants_hold(self) -> None:
        TALLY.count("interleavings, steps")
        self.platform.check(at_rest=False)

    def teardown(self) -> None:
        TALLY.count("interleavings, histories")
        self.platform.settle()
        self.platform.check()
        self.bring_the_kek_rotation_to_its_end()
        # Whatever happened, one plan later no living tenant is without a DEK or beyond its interval.
        self.platform.start_plan()
        self.platform.settle()
        self.platform.check()
        for keyring in self.world.keyrings.values():
            if keyring.tenant.state is TenantState.ACTIVE:
                assert keyring.tenant.primary_since is not None
                assert self.world.now - keyring.tenant.primary_since < POLICY.interval

    def bring_the_kek_rotation_to_its_end(self) -> None:
        """Whatever happened to it, an operator who resumes everything sees it end."""
        for stored in self.world.runs.values():
            TALLY.count(f"interleavings, KEK rotations left {stored.phase}")
        run = self.platform.kek_run
        if run is None or run.phase in FINAL:
            return
        self.platform.order(KekAction.RESUME, "at-last")
        self.platform.settle()
        for shard in run.held_shards:
            self.platform.order(KekAction.RESUME, f"at-last-{shard}", shard=shard)
        for tenant in run.held_tenants:
            self.platform.order(KekAction.RESUME, f"at-last-{tenant}", tenant=tenant)
        self.platform.run_until(Phase.CLOSED, Phase.ROLLED_BACK, Phase.FAILED)
        self.platform.check()


TestHistories = History.TestCase
TestHistories.settings = settings(max_examples=400, stateful_step_count=40)
