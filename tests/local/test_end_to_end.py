"""The whole app in real hosts, on Azurite and the Key Vault emulator, through kills, outages, mistakes and years."""

import base64
import hashlib
import http.client
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from local.events import event
from local.functions_host.client import HostProcess
from local.server_process import ServerStartError
from local.stack import ROOT
from rotation.__main__ import EXIT_REJECTED, EXIT_UNAVAILABLE
from rotation.message import PLAN_SHARDS, ROTATION_JOBS, Action
from shared.azure.deks import partition
from shared.errors import TenantDestroyed, TenantOffboarded
from shared.values import SHARDS, KeyState, Severity, TenantId, TenantState
from tests.conftest import Tally
from tests.local.scene import PATIENCE_S, Scene, operate, restart_vault, scene_in

WEBHOOK = "/runtime/webhooks/eventgrid?functionName=key_vault_event"
CLOUD_WEBHOOK = "/runtime/webhooks/eventgrid?functionName=key_vault_cloud_event"
NEAR_EXPIRY: list[dict[str, Any]] = json.loads((ROOT / "docs" / "near-expiry.json").read_text())


def call(host: HostProcess, path: str, body: str | None = None) -> tuple[int, str]:
    """GET, or POST as Event Grid does if there is a body; status and answer."""
    connection = http.client.HTTPConnection(urlsplit(host.url).netloc, timeout=PATIENCE_S)
    headers = {"aeg-event-type": "Notification", "Content-Type": "application/json"}
    try:
        connection.request("GET" if body is None else "POST", path, body, {} if body is None else headers)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def names(prefix: str, number: int) -> list[str]:
    return [f"{prefix}-{n:02d}" for n in range(number)]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Two hosts that log all they can; for tests that leave the clock and the services alone."""
    with scene_in(tmp_path_factory.mktemp("shared"), ATP_LOG_LEVEL="DEBUG") as scene:
        scene.new_host()
        scene.new_host()
        yield scene


# Kills and outages


def rotated(scene: Scene, tenants: Sequence[str]) -> int:
    """How many have their second DEK, as the hosts log it: storage answers late while they keep it busy."""
    jobs = [line["job"].split("/") for line in scene.logged("job done")]
    return len({job[1] for job in jobs if job[0] == Action.ROTATE_DEK and job[2] != "v1"} & {*tenants})


def test_a_worker_killed_amid_sixty_rotations_costs_no_rotation_no_read_and_no_write(
    scene: Scene, tally: Tally
) -> None:
    tenants = names("kill", 60)
    scene.add(*tenants)
    with scene.load(*tenants) as load:
        scene.ask(Action.ROTATE_DEK, *tenants)
        scene.until(lambda: rotated(scene, tenants) >= 3, "rotations are under way")
        assert rotated(scene, tenants) < len(tenants), "the worker is killed too late to matter"
        scene.stack.hosts[0].kill()
        scene.new_host()
        scene.until(lambda: all(scene.primary(name) == 2 for name in tenants), "every tenant is rotated")
        scene.settle()
    scene.check()
    assert {name: scene.primary(name) for name in tenants} == dict.fromkeys(tenants, 2)
    tally.count("reads and writes while a worker is killed, none failed", load.reads.done + load.writes.done)


@pytest.fixture(scope="module")
def durable_scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Storage on disk, for tests that stop services."""
    with ExitStack() as later, scene_in(tmp_path_factory.mktemp("durable"), keep=True) as scene:
        later.callback(lambda: scene.stack.vault.stop())
        yield scene


def test_jobs_that_meet_a_vault_outage_wait_for_its_end(durable_scene: Scene) -> None:
    scene, tenants = durable_scene, names("outage", 12)
    scene.stack.vault.kill()
    host = scene.new_host()
    scene.ask(Action.ADD_TENANT, *tenants)
    scene.until(
        lambda: {line["job"].split("/")[1] for line in scene.logged("job put back")} >= set(tenants),
        "every job was put back",
    )
    status, answer = call(host, "/api/health")
    assert (status, json.loads(answer)) == (503, {"healthy": False, "checks": {"storage": "ok", "kek": "Transient"}})

    scene.stack.vault = restart_vault(scene.stack)
    scene.until(lambda: all(scene.primary(name) for name in tenants), "every tenant is added")
    scene.settle()
    status, answer = call(host, "/api/health")
    assert (status, json.loads(answer)) == (200, {"healthy": True, "checks": {"storage": "ok", "kek": "ok"}})
    assert not scene.stack.adapters.alerts.all()
    assert not scene.stack.adapters.dead_letters.all()


def test_storage_that_restarts_amid_forty_rotations_loses_and_repeats_none(durable_scene: Scene) -> None:
    scene, tenants = durable_scene, names("restart", 40)
    if not scene.stack.hosts:
        scene.new_host()
    host = scene.stack.hosts[0]
    scene.add(*tenants)
    scene.ask(Action.ROTATE_DEK, *tenants)
    scene.until(lambda: rotated(scene, tenants) >= 3, "rotations are under way")
    assert rotated(scene, tenants) < len(tenants), "storage is restarted too late to matter"
    scene.stack.azurite.restart()

    scene.until(lambda: all(scene.primary(name) == 2 for name in tenants), "every tenant is rotated")
    scene.check()
    assert {name: scene.primary(name) for name in tenants} == dict.fromkeys(tenants, 2)
    assert json.loads((scene.stack.folder / "host" / "host-1.json").read_text())["pid"] == host.pid
    assert call(host, "/api/health")[0] == 200
    assert host.stop() == 0


def test_jobs_wait_while_the_kek_is_disabled_and_its_owner_is_told_once(durable_scene: Scene) -> None:
    scene, tenants = durable_scene, names("disabled", 6)
    keys = scene.stack.adapters.key_client
    version = keys.get_key("master-kek").properties.version
    for host in scene.stack.hosts:
        host.stop()  # it may go on with the KEK as it has last seen it, for minutes
    keys.update_key_properties("master-kek", version, enabled=False)
    before = len(scene.logged("job put back"))
    host = scene.new_host()
    scene.ask(Action.ADD_TENANT, *tenants)
    scene.until(lambda: len(scene.logged("job put back")) >= before + len(tenants), "every job was put back")
    assert json.loads(call(host, "/api/health")[1])["checks"]["kek"] == "UnusableKey"
    (alert,) = scene.stack.adapters.alerts.all()
    assert (alert.subject, alert.severity) == ("key/master-kek", Severity.CRITICAL)

    keys.update_key_properties("master-kek", version, enabled=True)
    host.stop()
    scene.new_host()
    scene.until(lambda: all(scene.primary(name) for name in tenants), "every tenant is added")
    scene.settle()
    assert scene.stack.adapters.alerts.all() == [alert]
    assert not scene.stack.adapters.dead_letters.all()


# Messages


BAD_MESSAGES = {
    "malformed": (ROTATION_JOBS, '{"schema": "rotation-job/1", ', "not JSON"),
    "oversized": (ROTATION_JOBS, json.dumps({"schema": "rotation-job/1", "reason": "x" * 60_000}), "too large"),
    "of an unknown schema": (ROTATION_JOBS, '{"schema": "rotation-job/99", "action": "dek.rotate"}', "no schema"),
    "garbage in base64": (ROTATION_JOBS, base64.b64encode(b"\xff\xfe\x00garbage\x80").decode(), "not JSON"),
    "for no shard": (PLAN_SHARDS, '{"schema": "plan-shard/1", "shard": 64}', "range"),
}


def letter_of(body: str) -> str:
    return f"message/{hashlib.sha256(body.encode()).hexdigest()[:32]}"


def test_every_bad_message_ends_as_one_letter_one_alert_and_one_record_and_holds_up_nobody(scene: Scene) -> None:
    tenants = names("around", len(BAD_MESSAGES) + 1)
    before = {alert.id for alert in scene.stack.adapters.alerts.all()}
    for name, (queue, body, _) in zip(tenants, BAD_MESSAGES.values(), strict=False):
        scene.ask(Action.ADD_TENANT, name)
        scene.send(body, queue)
    good = {"schema": "rotation-job/1", "action": "tenant.add", "tenant": tenants[-1], "reason": "from a portal"}
    scene.send(base64.b64encode(json.dumps(good).encode()).decode())
    scene.until(lambda: all(scene.primary(name) for name in tenants), "the good messages are done")
    scene.settle()

    alerts = [alert for alert in scene.stack.adapters.alerts.all() if alert.id not in before]
    letters = {letter.id: letter for letter in scene.stack.adapters.dead_letters.all()}
    records = [record for record in scene.audit() if record["action"] == "message.refused"]
    assert len(alerts) == len(BAD_MESSAGES)
    for queue, body, reason in BAD_MESSAGES.values():
        (alert,) = (alert for alert in alerts if alert.details["letter"] == letter_of(body))
        letter = letters[alert.details["letter"]]
        assert reason in alert.details["reason"]
        assert (letter.queue, letter.reason, letter.can_resend) == (queue, alert.details["reason"], False)
        (record,) = (record for record in records if record["job"].startswith(f"{queue}/{letter.id}/"))
        assert record["outcome"] == "failed"
        assert reason in record["reason"]


def test_operators_list_resend_and_drop_letters(scene: Scene) -> None:
    scene.ask(Action.ROTATE_DEK, "early", request="too-soon")
    job, reason = "dek.rotate/early/too-soon", "UnknownTenant: no such tenant (tenant=early)"

    def letters() -> dict[str, dict[str, str]]:
        listed = scene.operate("letters", "list", "--json")
        assert listed.returncode == 0, listed.stderr
        return {row["id"]: row for row in map(json.loads, listed.stdout.splitlines())}

    def without_schema() -> list[str]:
        return [letter for letter, row in letters().items() if "no schema" in row["reason"]]

    known = set(without_schema())
    scene.send("{}")
    (no_job,) = scene.until(lambda: set(without_schema()) - known, "the letter that is no job")
    scene.until(lambda: job in letters(), "the letter of the job")
    assert letters()[job] | {"kept": ""} == {
        "id": job,
        "queue": ROTATION_JOBS,
        "kept": "",
        "can_resend": True,
        "reason": reason,
    }
    assert {"reason": reason, "letter": job, "severity": "critical"}.items() <= next(
        row for row in map(json.loads, scene.operate("alerts", "--json").stdout.splitlines()) if row["letter"] == job
    ).items()
    assert job in scene.operate("letters", "list").stdout

    refused = scene.operate("letters", "resend", no_job)
    assert refused.returncode == EXIT_REJECTED
    assert "does not follow its schema" in refused.stderr
    assert scene.operate("letters", "drop", no_job).stdout == f"dropped: {no_job}\n"
    assert scene.operate("letters", "drop", no_job).returncode == EXIT_REJECTED

    added = scene.operate("tenant", "add", "early")
    assert (added.returncode, added.stdout[:24]) == (0, "asked: tenant.add/early/")
    scene.until(lambda: scene.primary("early") == 1, "the tenant is there")
    assert scene.operate("letters", "resend", job).stdout == f"sent again: {job}\n"
    scene.until(lambda: scene.primary("early") == 2, "the job is done after all")
    scene.settle()
    assert not {job, no_job} & letters().keys()
    outcomes = [record["outcome"] for record in scene.audit() if record["job"] == job]
    assert outcomes == ["failed", "intent", "succeeded"]


def test_the_command_line_says_by_its_exit_code_whose_turn_it_is(scene: Scene, tmp_path: Path) -> None:
    scene.add("listed")
    listed = scene.operate("tenant", "list", "--json")
    assert listed.returncode == 0
    row = next(row for row in map(json.loads, listed.stdout.splitlines()) if row["tenant"] == "listed")
    assert (row["state"], row["dek"], row["destroyed_after"]) == ("active", 1, None)
    assert row["since"] < row["rotates"]

    assert scene.operate("tenant", "rotate", "Not A Tenant").returncode == EXIT_REJECTED
    assert operate(tmp_path / "missing.json", "alerts").returncode == EXIT_REJECTED
    settings = json.loads(scene.stack.settings_file.read_text())
    connection_string = settings["Values"]["AzureWebJobsStorage"]
    for port in scene.stack.azurite.ports:
        connection_string = connection_string.replace(f":{port}/", ":1/")
    settings["Values"]["AzureWebJobsStorage"] = connection_string
    unreachable = tmp_path / "unreachable.json"
    unreachable.write_text(json.dumps(settings))
    assert operate(unreachable, "alerts").returncode == EXIT_UNAVAILABLE


def test_ten_requests_at_once_of_which_five_repeat_others_make_five_versions(scene: Scene) -> None:
    scene.add("busy")
    requests = [f"at-once-{number % 5}" for number in range(10)]
    with ThreadPoolExecutor(len(requests)) as senders:
        list(senders.map(lambda request: scene.ask(Action.ROTATE_DEK, "busy", request=request), requests))
    scene.until(lambda: scene.primary("busy") >= 6, "five rotations")
    scene.settle()
    assert [dek.version for dek in scene.keyring("busy").deks] == [1, 2, 3, 4, 5, 6]
    assert {dek.job for dek in scene.keyring("busy").deks[1:]} == {f"dek.rotate/busy/{r}" for r in requests}


# Key Vault events


def as_cloud_event(event: dict[str, Any]) -> dict[str, Any]:
    """The same event as a subscription with the CloudEvents 1.0 schema delivers it."""
    return {
        "specversion": "1.0",
        "id": event["id"],
        "source": event["topic"],
        "type": event["eventType"],
        "subject": event["subject"],
        "time": event["eventTime"],
        "data": event["data"],
    }


@pytest.mark.parametrize("schema", ["Event Grid", "CloudEvents"])
def test_an_event_delivered_twice_makes_each_alert_once_for_the_owner(scene: Scene, schema: str) -> None:
    near = scene.stack.clock() + timedelta(days=5)
    name = f"stray-key-{schema.partition(' ')[0].lower()}"
    key = scene.stack.adapters.key_client.create_rsa_key(name, size=2048, expires_on=near)
    told = event("KeyNearExpiry", str(key.id), scene.stack.clock)
    path, body = (WEBHOOK, told) if schema == "Event Grid" else (CLOUD_WEBHOOK, as_cloud_event(told))
    assert [call(scene.stack.hosts[1], path, json.dumps([body]))[0] for _ in range(2)] == [202, 202]
    told_of = [alert for alert in scene.stack.adapters.alerts.all() if alert.subject == f"key/{name}"]
    assert sorted((alert.what, alert.owner) for alert in told_of) == [
        ("Key Vault has an object that the catalog does not know", "security-engineering"),
        ("an object in the vault is about to expire", "security-engineering"),
    ]


def test_the_daily_scan_finds_a_kek_that_expires_and_no_event_told_of(scene: Scene) -> None:
    keys = scene.stack.adapters.key_client
    version = keys.get_key("master-kek").properties
    keys.update_key_properties("master-kek", version.version, expires_on=scene.stack.clock() + timedelta(days=5))
    before = len(scene.logged("scanned the vaults"))
    for _ in range(2):
        call(scene.stack.hosts[1], "/admin/functions/scan_vaults", "{}")
    scene.until(lambda: len(scene.logged("scanned the vaults")) == before + 2, "both scans have ended")
    found = [each for each in scene.stack.adapters.alerts.all() if each.subject == "key/master-kek"]
    keys.update_key_properties("master-kek", version.version, expires_on=version.expires_on)
    assert [(each.what, each.owner) for each in found] == [
        ("an object in the vault is about to expire", "security-engineering")
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"eventType": "Microsoft.Storage.BlobCreated"},
        {"data": None},
        {"data": "text"},
        {"data": {"ObjectName": "../../etc/passwd"}},
        {"data": [1, 2]},
    ],
)
def test_an_event_that_can_never_be_handled_is_not_asked_for_again(scene: Scene, change: dict[str, object]) -> None:
    (known,) = NEAR_EXPIRY
    before = {alert.id for alert in scene.stack.adapters.alerts.all()}
    assert call(scene.stack.hosts[1], WEBHOOK, json.dumps([known | change]))[0] == 202
    assert {alert.id for alert in scene.stack.adapters.alerts.all()} == before


def test_a_request_to_the_webhook_that_is_no_event_is_the_senders_fault(scene: Scene) -> None:
    assert [call(scene.stack.hosts[1], WEBHOOK, body)[0] for body in ("", "{", "[1]", '"text"')] == [400] * 4


# Secrets


def test_a_secret_in_any_part_of_a_message_is_nowhere_afterwards(scene: Scene) -> None:
    scene.add("planted")
    secret = "hunter2hunter2"
    planted = f"password={secret}"
    job = {"schema": "rotation-job/1", "action": "dek.rotate", "tenant": "planted", "reason": "none"}
    scene.ask(Action.ROTATE_DEK, "planted", request="in-reason", reason=planted)
    scene.ask(Action.ROTATE_DEK, "no-such-tenant", request="in-reason-of-a-failure", reason=planted)
    for field in ("reason", "actor", "tenant", "request", "target", "failure", "schema", "action", "trigger", "extra"):
        scene.send(json.dumps(job | {"request": f"field-{field}"} | {field: planted}))
    for body in (f'{{"schema": {planted}', planted, base64.b64encode(planted.encode()).decode()):
        scene.send(body)
    scene.until(lambda: scene.primary("planted") == 3, "the messages with a secret in the reason are done")
    scene.settle()
    scene.check_no_secrets(secret)
    reasons = {record["job"]: record["reason"] for record in scene.audit()}
    assert reasons["dek.rotate/planted/in-reason"] == "password=[REDACTED:credential]"


def test_the_search_for_secrets_finds_an_opened_dek_in_a_log_and_in_a_row(scene: Scene) -> None:
    scene.add("leaky")
    (dek,) = scene.keyring("leaky").deks
    opened = scene.stack.adapters.vault.unwrap(dek.kid, dek.algorithm, dek.wrapped).reveal()
    scene.learn("leaky")
    log = scene.stack.folder / "host-leak.log"
    log.write_text(f'{{"event": "x{base64.b64encode(opened).decode()}y"}}')
    with pytest.raises(AssertionError, match=r"host-leak\.log"):
        scene.check_no_secrets()
    log.unlink()
    with scene.stack.adapters.table("consumers") as table:
        table.create_entity({"PartitionKey": "leak", "RowKey": "leak", "column": b"in front" + opened})
        with pytest.raises(AssertionError, match="table consumers"):
            scene.check_no_secrets()
        table.delete_entity("leak", "leak")
    scene.check_no_secrets()


# Settings


def start_with(scene: Scene, folder: Path, **app_settings: str | None) -> str:
    """What a host says that refuses to start with these app settings; None removes one."""
    settings = json.loads(scene.stack.settings_file.read_text())
    changed = settings["Values"] | app_settings
    settings["Values"] = {name: value for name, value in changed.items() if value is not None}
    file = folder / "settings.json"
    file.write_text(json.dumps(settings))
    log = folder / "host.log"
    with pytest.raises(ServerStartError) as refusal:
        HostProcess.start(ROOT, file, folder, scene.stack.folder / "clock", log, name="refused")
    return str(refusal.value)


def test_a_catalog_with_three_mistakes_is_refused_at_start_with_all_three(scene: Scene, tmp_path: Path) -> None:
    catalog = tmp_path / "wrong.toml"
    catalog.write_text("""\
[master-kek]
kind = "kek"
owner = "security-engineering"
interval_days = 0

[tenant-dek]
kind = "dek"
owner = "security-engineering"
kek = "another-kek"
interval_days = 90
spread_days = 10
grace_days = 7
retention_days = 365
retention_day = 365
""")
    said = start_with(scene, tmp_path, ATP_CATALOG=str(catalog))
    assert f"{catalog}: [master-kek] interval_days: 0 is not a whole number of days from 1 to 3650" in said
    assert f"{catalog}: [tenant-dek] retention_day is an unknown field" in said
    assert f"{catalog}: [tenant-dek] kek: 'another-kek' is no entry of kind 'kek'" in said


@pytest.mark.parametrize(
    ("app_settings", "reason"),
    [
        ({"ATP_VAULT_URL": None}, "ATP_VAULT_URL: is missing"),
        ({"ATP_PLAN_SCHEDULE": None}, "app setting ATP_PLAN_SCHEDULE is not set"),
        ({"ATP_LOG_LEVEL": "LOUD"}, "ATP_LOG_LEVEL: must be one of"),
    ],
)
def test_a_missing_or_wrong_app_setting_is_refused_at_start_by_name(
    scene: Scene, tmp_path: Path, app_settings: dict[str, str | None], reason: str
) -> None:
    assert reason in start_with(scene, tmp_path, **app_settings)


# The years


@pytest.fixture(scope="module")
def years(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Two hosts at noon, so that no tick of the nightly timer comes but by a moved clock."""
    with scene_in(tmp_path_factory.mktemp("years")) as scene:
        now = datetime.now(UTC)
        scene.stack.clock.move(now.replace(hour=12, minute=0, second=0, microsecond=0) - now)
        scene.new_host()
        scene.new_host()
        yield scene


def days_pass(scene: Scene, days: int) -> None:
    """Move the clock over any number of nights; the timer makes one plan for them all, and what is due gets done."""
    before = len(scene.logged("planned"))
    scene.stack.clock.move(timedelta(days=days))
    scene.until(lambda: len(scene.logged("planned")) >= before + SHARDS, "every shard was planned")
    scene.settle()


def test_a_timer_over_two_hosts_rotates_what_is_due_and_ends_dual_running(years: Scene) -> None:
    tenants = names("due", 8)
    years.add(*tenants)
    plans = len(years.logged("planning started"))
    days_pass(years, 91)
    for name in tenants:
        assert [dek.state for dek in years.keyring(name).deks] == [KeyState.SECONDARY, KeyState.PRIMARY]
    days_pass(years, 8)
    for name in tenants:
        assert [dek.state for dek in years.keyring(name).deks] == [KeyState.RETIRED, KeyState.PRIMARY]
        assert years.keyring(name).tenant.dual_running_since is None
    assert len(years.logged("planning started")) == plans + 2
    days_pass(years, 1)
    assert {years.primary(name) for name in tenants} == {2}


def test_the_life_of_a_tenant_ends_with_the_destruction_of_its_keys(years: Scene) -> None:
    years.add("leaver")
    years.ask(Action.ROTATE_DEK, "leaver")
    years.until(lambda: years.primary("leaver") == 2, "a second DEK")
    envelope = years.cipher().encrypt("leaver", b"an event", b"context")
    years.learn("leaver")

    assert years.operate("tenant", "offboard", "leaver", "--reason", "contract ended").returncode == 0
    years.until(lambda: years.tenants()["leaver"].state is TenantState.OFFBOARDED, "the tenant is off-boarded")
    assert years.cipher().decrypt("leaver", envelope, b"context") == b"an event"
    with pytest.raises(TenantOffboarded):
        years.cipher().encrypt("leaver", b"too late", b"context")
    assert years.operate("tenant", "reinstate", "leaver").returncode == 0
    years.until(lambda: years.tenants()["leaver"].state is TenantState.ACTIVE, "the off-boarding is undone")
    assert years.cipher().encrypt("leaver", b"in time after all", b"context")
    assert years.operate("tenant", "offboard", "leaver", "--reason", "now for good").returncode == 0
    years.until(lambda: years.tenants()["leaver"].state is TenantState.OFFBOARDED, "the tenant is off-boarded again")
    days_pass(years, 364)
    assert years.tenants()["leaver"].state is TenantState.OFFBOARDED

    days_pass(years, 2)
    with years.stack.adapters.table("deks") as table:
        rows = list(table.query_entities(f"PartitionKey eq '{partition(TenantId('leaver'))}'"))
    assert [row["RowKey"] for row in rows] == ["tenant"]
    assert years.tenants()["leaver"].state is TenantState.DESTROYED
    with pytest.raises(TenantDestroyed):
        years.cipher().decrypt("leaver", envelope, b"context")
    ends = [r for r in years.audit() if (r["action"], r["subject"]) == ("tenant.destroy", "dek/leaver")]
    assert [record["outcome"] for record in ends] == ["intent", "succeeded"]
    assert ends[0]["details"] == ends[1]["details"] == {"versions": "1-2"}

    assert years.operate("tenant", "add", "leaver").returncode == 0
    (alert,) = years.until(lambda: [a for a in years.stack.adapters.alerts.all() if "/leaver/" in a.id], "an alert")
    assert alert.details["reason"].startswith("Rejected: the name belongs to a tenant that was off-boarded")
    assert years.tenants()["leaver"].state is TenantState.DESTROYED
