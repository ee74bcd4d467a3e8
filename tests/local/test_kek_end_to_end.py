"""The rotation of a KEK by the whole app in real hosts, started and steered from outside."""

import http.client
import json
import time
from collections.abc import Iterator
from datetime import timedelta
from urllib.parse import urlsplit

import pytest

from local.events import event
from local.functions_host.client import HostProcess
from shared.clock import system_clock
from shared.values import KekRun, KeyKind, Kid, Phase
from tests.local.scene import PATIENCE_S, Scene, scene_in

WEBHOOK = "/runtime/webhooks/eventgrid?functionName=key_vault_event"
TENANTS = [f"tenant-{number:02d}" for number in range(12)]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Two hosts and twelve tenants."""
    with scene_in(tmp_path_factory.mktemp("kek")) as scene:
        scene.new_host()
        scene.new_host()
        scene.add(*TENANTS)
        yield scene


def publish(host: HostProcess, version: Kid) -> int:
    """Deliver the event that a key has a new version, as Event Grid does; the answer's status."""
    connection = http.client.HTTPConnection(urlsplit(host.url).netloc, timeout=PATIENCE_S)
    try:
        headers = {"aeg-event-type": "Notification", "Content-Type": "application/json"}
        connection.request("POST", WEBHOOK, json.dumps([event("KeyNewVersionCreated", version, system_clock)]), headers)
        return connection.getresponse().status
    finally:
        connection.close()


def run_of(scene: Scene) -> KekRun | None:
    record = scene.stack.adapters.keks.read("master-kek")
    return record.run if record else None


def reached(scene: Scene, phase: Phase) -> KekRun:
    """The newest run once it is in that phase and at rest."""

    def found() -> KekRun | None:
        run = run_of(scene)
        return run if run and run.phase is phase and run.move is None else None

    run = scene.until(found, f"the rotation is {phase}")
    assert run
    return run


def kids(scene: Scene) -> set[Kid]:
    return {dek.kid for name in TENANTS for dek in scene.keyring(name).deks}


def test_a_version_that_appears_in_the_vault_is_rotated_to_under_load_though_a_worker_dies(scene: Scene) -> None:
    keys = scene.stack.adapters.key_client
    appeared = Kid(str(keys.create_rsa_key("master-kek", size=3072, key_operations=["wrapKey", "unwrapKey"]).id))
    with scene.load(*TENANTS) as load:
        assert [publish(scene.stack.hosts[1], appeared) for _ in range(2)] == [202, 202]
        scene.until(lambda: (run := run_of(scene)) and run.phase is Phase.SWEEPING and run.fanned_out, "the sweep")
        scene.stack.hosts[0].kill()
        scene.new_host()
        run = reached(scene, Phase.GRACE)
        before = load.work()
        scene.until(lambda: load.work().reads > before.reads + 20, "the services go on")
    assert kids(scene) == {appeared}
    assert run.root_before == run.root_after != ""
    assert (run.generation, run.rows, run.births) == (1, 12, 0)
    assert scene.stack.adapters.vault.version(run.old_kid).enabled


def test_operators_steer_a_rotation_from_the_command_line(scene: Scene) -> None:
    refused = scene.operate("kek", "rotate", "master-kek")
    assert (refused.returncode, "not over" in refused.stderr) == (2, True)
    assert scene.operate("kek", "pause", "master-kek", "--wait").returncode == 0
    assert scene.operate("kek", "resume", "master-kek", "--wait").returncode == 0
    assert scene.operate("kek", "rollback", "master-kek", "--tenant", TENANTS[0], "--wait").returncode == 0
    old = reached(scene, Phase.SWEEPING).old_kid
    scene.until(lambda: {dek.kid for dek in scene.keyring(TENANTS[0]).deks} == {old}, "one tenant has gone back")
    status = json.loads(scene.operate("kek", "status", "master-kek", "--json").stdout)
    assert status["phase"] == "sweeping"
    assert scene.operate("kek", "resume", "master-kek", "--tenant", TENANTS[0], "--wait").returncode == 0
    run = reached(scene, Phase.GRACE)
    assert kids(scene) == {run.new_kid}


def test_a_rotation_moves_every_dek_to_an_aes_key_that_never_leaves_its_hsm(scene: Scene) -> None:
    first = run_of(scene)
    assert first
    assert scene.operate("kek", "rollback", "master-kek", "--reason", "another kind is wanted").returncode == 0
    reached(scene, Phase.ROLLING_BACK)
    scene.until(lambda: kids(scene) == {first.old_kid}, "every DEK has gone back")
    # Workers that have not heard of the rollback are waited for by the clock.
    deadline = time.monotonic() + PATIENCE_S
    while (run := run_of(scene)) and run.phase is not Phase.ROLLED_BACK:
        assert time.monotonic() < deadline
        scene.stack.clock.move(timedelta(minutes=3))
        time.sleep(1)
    asked = scene.operate("kek", "rotate", "master-kek", "--kind", "oct-HSM", "--bits", "256")
    assert asked.returncode == 0, asked.stderr
    scene.until(lambda: (now := run_of(scene)) and now.generation == 2, "the second rotation has begun")
    run = reached(scene, Phase.GRACE)
    (kid,) = kids(scene)
    assert kid == run.new_kid
    assert scene.stack.adapters.vault.version(kid).kind is KeyKind.OCT_HSM
    assert {dek.algorithm for name in TENANTS for dek in scene.keyring(name).deks} == {"A256KW"}
    newcomers = (f"newcomer-{number:03d}" for number in range(999))

    def born_under_the_new_one() -> bool:
        scene.add(newcomer := next(newcomers))
        return {dek.kid for dek in scene.keyring(newcomer).deks} == {kid}

    # A worker may go by the old write target for up to a minute; what it made meanwhile is found before retirement.
    scene.until(born_under_the_new_one, "tenants begin under the new version")
    cipher = scene.cipher()
    assert cipher.decrypt("newcomer-000", cipher.encrypt("newcomer-000", b"x")) == b"x"
