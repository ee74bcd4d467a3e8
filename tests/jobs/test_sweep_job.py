"""The sweep over what was recorded: a secret that became known afterwards is found, once."""

from dataclasses import replace

from rotation.merkle import leaf_hash
from rotation.sweep_job import RecordSweep
from shared.secret import Secret
from tests.jobs.auditing import AuditProcess, Platform, stream_with
from tests.simulator import SimAlerts


def test_a_secret_that_became_known_after_it_was_written_is_found_once() -> None:
    platform = Platform()
    platform.live(3, each=10)
    stream = stream_with(platform.world, 2)
    written = platform.world.streams[stream][1]
    leaked = b"orange-Boat-4711-window"
    canonical = written.canonical.replace(b"it was due", b"it was " + leaked)
    platform.world.streams[stream][1] = replace(written, canonical=canonical, leaf_hash=leaf_hash(canonical))
    sweep = RecordSweep(AuditProcess(platform.world).trail, SimAlerts(platform.world), platform.world.clock)
    sweep.run()
    assert platform.world.alerts == {}
    Secret(leaked)
    fresh = RecordSweep(AuditProcess(platform.world).trail, SimAlerts(platform.world), platform.world.clock)
    fresh.run()
    fresh.run()
    (alert,) = platform.world.alerts.values()
    assert alert.what == "an audit record holds a secret"
    assert alert.details["record"] == f"{stream}/2"
    assert leaked.decode() not in str(alert)


def test_what_is_new_is_swept_each_time_and_a_broken_stream_holds_up_no_other() -> None:
    platform = Platform()
    platform.live(2, each=40)
    sweep = RecordSweep(AuditProcess(platform.world).trail, SimAlerts(platform.world), platform.world.clock)
    sweep.run()
    broken = stream_with(platform.world, 1)
    platform.live(2, each=40)
    last = platform.world.streams[broken][-1]
    platform.world.streams[broken][-1] = replace(last, canonical=last.canonical + b" ")
    sweep.run()
    seen = sweep._seen
    assert seen is not None
    for stream, records in platform.world.streams.items():
        assert seen[stream] == len(records) - (stream == broken)
    assert platform.world.alerts == {}
