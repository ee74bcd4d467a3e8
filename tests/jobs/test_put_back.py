"""What becomes of messages that meet an outage, and of two workers that meet a new KEK."""

from dataclasses import replace

from rotation.message import ROTATION_JOBS, Action, Job, Trigger, retry_delay
from rotation.primary_kek import PrimaryKek
from shared.values import KeyPointer, TenantId
from tests.jobs.platform import Platform
from tests.simulator import SimKeks, SimVault, World

JOB = Job(Action.ROTATE_DEK, TenantId("acme"), "by-hand", Trigger.MANUAL, "alice", "asked for")


def in_an_outage(job: Job) -> Platform:
    platform = Platform()
    platform.add_tenant("acme")
    platform.drop(ROTATION_JOBS, job.to_json())
    platform.world.outage = frozenset({"deks"})
    platform.deliver(platform.world.messages[0])
    platform.world.outage = frozenset()
    return platform


def test_a_message_that_met_an_outage_waits_and_counts() -> None:
    platform = in_an_outage(JOB)
    (message,) = platform.world.messages
    assert message.queue == ROTATION_JOBS
    assert Job.parse(message.body.encode(), "another") == replace(JOB, attempt=1)
    assert message.visible_at == platform.world.now + retry_delay(JOB)


def test_a_message_is_given_up_after_three_days_of_outage() -> None:
    platform = in_an_outage(replace(JOB, attempt=299))
    assert [message.queue for message in platform.world.messages] == [ROTATION_JOBS]
    platform = in_an_outage(replace(JOB, attempt=300))
    platform.settle()
    platform.check()
    (letter,) = platform.world.letters.values()
    assert letter.reason == "Transient: simulated outage (port=deks)"
    platform.drop(letter.queue, letter.body)
    platform.settle()
    assert platform.world.keyrings[TenantId("acme")].tenant.primary == 2, "sent again, it has all its attempts again"


def test_of_two_workers_that_adopt_a_new_kek_the_first_one_decides_for_both() -> None:
    world = World()
    older = world.add_kek()
    pointers = SimKeks(world)

    def another_worker_is_faster() -> None:
        pointers.add(KeyPointer("master-kek", older, world.now))

    world.add_kek()
    world.interruptions = {world.calls + 3: another_worker_is_faster}
    kek = PrimaryKek("master-kek", pointers, SimVault(world), world.clock)
    assert kek().primary.kid == older
    assert world.pointers["master-kek"].kid == older
    assert not world.interruptions
