"""Planning: find what is due and enqueue a job for it, shard by shard.

The timer sends one message per shard; each message handles one page of tenants and sends its own continuation. Dying
anywhere, or a page planned twice, enqueues jobs twice at worst, and a job is done once.
"""

import logging
from typing import Final

from rotation.catalog import DekPolicy
from rotation.message import PLAN_SHARDS, ROTATION_JOBS, ShardPlan
from rotation.schedule import due_job
from shared.clock import Clock
from shared.ports import Deks, Queues
from shared.values import SHARDS

log = logging.getLogger(__name__)

PAGE: Final = 500
"""Tenants per message: what one worker scans and enqueues within seconds."""


class Planner:
    """Turns due dates into jobs."""

    def __init__(self, deks: Deks, queues: Queues, policy: DekPolicy, clock: Clock, page: int = PAGE) -> None:
        self._deks = deks
        self._queues = queues
        self._policy = policy
        self._clock = clock
        self._page = page

    def start(self) -> None:
        """Ask for the planning of every shard."""
        for shard in range(SHARDS):
            self._queues.send(PLAN_SHARDS, ShardPlan(shard).to_json())
        log.info("planning started", extra={"shards": SHARDS})

    def plan(self, plan: ShardPlan) -> None:
        """Enqueue a job for every due tenant of one page, then the next page."""
        tenants = self._deks.scan(plan.shard, plan.after, self._page)
        now = self._clock()
        jobs = [job for tenant in tenants if (job := due_job(tenant, self._policy, now))]
        for job in jobs:
            self._queues.send(ROTATION_JOBS, job.to_json())
        if len(tenants) == self._page:
            self._queues.send(PLAN_SHARDS, ShardPlan(plan.shard, after=tenants[-1].tenant).to_json())
        log.info("planned", extra={"shard": plan.shard, "tenants": len(tenants), "due": len(jobs)})
