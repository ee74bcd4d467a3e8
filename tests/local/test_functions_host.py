import base64
import http.client
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.queue import QueueClient

from local.functions_host.client import HostProcess
from local.functions_host.config import ConfigError, HostJson, Settings
from local.functions_host.ncrontab import NEVER, Schedule, Status
from local.functions_host.routes import NoRoute, Route, RouteTable
from local.functions_host.runtime import RetryPolicy
from local.server_process import ServerStartError
from local.stack import ROOT
from local.storage import AzuriteProcess
from shared.clock import MovableClock

SAMPLE_APP = Path(__file__).parent / "sample_app"
PATIENCE_S = 120.0

type Record = dict[str, Any]


def until[T](look: Callable[[], T], what: str) -> T:
    """Poll until `look` finds something; other processes' files and queues cannot be awaited."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := look()):
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.01)
    return found


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: str

    def json(self) -> Any:
        return json.loads(self.body)


def call(method: str, url: str, body: object = None, headers: Mapping[str, str] | None = None) -> Answer:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=PATIENCE_S)
    try:
        content = body if isinstance(body, str) or body is None else json.dumps(body)
        connection.request(method, f"{parts.path}?{parts.query}", content, dict(headers or {}))
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read().decode())
    finally:
        connection.close()


class Queue:
    def __init__(self, connection_string: str, name: str) -> None:
        self._client = QueueClient.from_connection_string(connection_string, name)

    def send(self, body: object, delay: timedelta | None = None) -> None:
        self.send_raw(base64.b64encode(json.dumps(body).encode()).decode(), delay)

    def send_raw(self, text: str, delay: timedelta | None = None) -> None:
        self._client.send_message(text, visibility_timeout=round(delay.total_seconds()) if delay else None)

    def length(self) -> int:
        """Of visible and invisible messages."""
        return self._client.get_queue_properties().approximate_message_count or 0

    def visible(self) -> list[str]:
        """Raw bodies of what is visible now; they stay in the queue."""
        return [str(message.content) for message in self._client.peek_messages(max_messages=32)]

    def exists(self) -> bool:
        try:
            self._client.get_queue_properties()
        except ResourceNotFoundError:
            return False
        return True

    def create(self) -> None:
        self._client.create_queue()

    def delete(self) -> None:
        self._client.delete_queue()

    def close(self) -> None:
        self._client.close()


class Site:
    """One app with its settings and state on one Azurite, run by any number of hosts."""

    def __init__(self, folder: Path, name: str, connection_string: str) -> None:
        self.connection_string = connection_string
        self.folder = folder
        self.app = SAMPLE_APP
        self.work_queue = name
        self.state = folder / "state"
        self.clock = MovableClock(folder / "clock")
        self.log = folder / "host.log"
        self.values = {
            "Storage": connection_string,
            "WORK_QUEUE": name,
            "NIGHTLY": "0 0 3 * * *",
            "RECORDS": str(folder / "records"),
            "FAIL_NIGHTLY": str(folder / "fail-nightly"),
            "PYTHON_THREADPOOL_THREAD_COUNT": "8",
        }
        self._hosts: list[HostProcess] = []
        self._queues: dict[str, Queue] = {}

    def change_app(self, source: str | None = None, host_json: Mapping[str, object] | str = "") -> None:
        """Work on a copy of the app, with other code or other top-level entries of host.json."""
        self.app = self.folder / "app"
        shutil.copytree(SAMPLE_APP, self.app, dirs_exist_ok=True)
        if source is not None:
            (self.app / "function_app.py").write_text(source)
        file = self.app / "host.json"
        file.write_text(
            host_json if isinstance(host_json, str) else json.dumps(json.loads(file.read_text()) | host_json)
        )

    def start(self, name: str = "host-1", lease_s: int = 600) -> HostProcess:
        settings = self.folder / "settings.json"
        settings.write_text(json.dumps({"IsEncrypted": False, "Values": self.values}))
        host = HostProcess.start(
            self.app, settings, self.state, self.folder / "clock", self.log, name=name, lease_s=lease_s
        )
        self._hosts.append(host)
        return host

    def queue(self, name: str = "") -> Queue:
        name = name or self.work_queue
        if name not in self._queues:
            self._queues[name] = Queue(self.connection_string, name)
        return self._queues[name]

    def records(self, name: str) -> list[Record]:
        """What the functions of that name have written, in order."""
        file = self.folder / "records"
        lines = file.read_text().splitlines() if file.exists() else []
        return [record for record in map(json.loads, lines) if record["name"] == name]

    def wait_for(self, name: str, number: int = 1, **facts: object) -> list[Record]:
        """The first `number` records of that name with those facts."""

        def matching() -> list[Record]:
            return [record for record in self.records(name) if facts.items() <= record.items()]

        until(lambda: len(matching()) >= number, f"{number} times {name} with {facts}")
        return matching()[:number]

    def wait_for_log(self, text: str) -> None:
        until(lambda: self.log.exists() and text in self.log.read_text(), f"{text!r} in the log")

    def close(self) -> None:
        for host in self._hosts:
            host.kill()
        for queue in self._queues.values():
            queue.close()


@pytest.fixture(scope="module")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzuriteProcess]:
    process = AzuriteProcess.start(None, tmp_path_factory.mktemp("azurite") / "log")
    yield process
    process.stop()


_numbers = count(1)


@pytest.fixture
def site(azurite: AzuriteProcess, tmp_path: Path) -> Iterator[Site]:
    """A site of its own for one test, no host running yet."""
    site = Site(tmp_path, f"work-{next(_numbers)}", azurite.connection_string)
    yield site
    site.close()


@pytest.fixture(scope="module")
def shared_site(azurite: AzuriteProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("site"), "work-shared", azurite.connection_string)
    yield site
    site.close()


@pytest.fixture(scope="module")
def host(shared_site: Site) -> HostProcess:
    """A host for tests that leave nothing behind which another one could trip over."""
    return shared_site.start()


# Queues


def test_a_message_reaches_its_function_with_its_metadata_and_is_deleted_afterwards(
    shared_site: Site, host: HostProcess
) -> None:
    shared_site.queue().send({"case": "plain"})

    record = shared_site.wait_for("work", body={"case": "plain"})[0]
    assert record["delivery"] == 1
    assert record["id"]
    assert abs(datetime.fromisoformat(record["inserted"]) - datetime.now(UTC)) < timedelta(minutes=5)
    until(lambda: shared_site.queue().length() == 0, "the message is deleted")


def test_a_failed_message_is_delivered_again_until_it_succeeds(shared_site: Site, host: HostProcess) -> None:
    body = {"case": "twice", "fail": 1}
    shared_site.queue().send(body)

    assert [record["delivery"] for record in shared_site.wait_for("work", 2, body=body)] == [1, 2]
    until(lambda: shared_site.queue().length() == 0, "the message is deleted")
    assert not shared_site.records("work_poison")


def test_a_message_that_fails_too_often_moves_to_the_poison_queue_whose_trigger_sees_it(site: Site) -> None:
    site.start()
    body = {"fail": 9}
    site.queue().send(body)

    site.wait_for("work_poison", body=body)
    assert [record["delivery"] for record in site.records("work")] == [1, 2, 3]
    until(lambda: site.queue().length() == 0, "the message has left its queue")


def test_a_message_that_fails_in_the_poison_queue_stays_in_it(site: Site) -> None:
    site.start()
    stubborn = {"fail": 9, "stubborn": True}
    site.queue().send(stubborn)

    site.wait_for("work_poison", body=stubborn)
    site.queue(f"{site.work_queue}-poison").send({"after": "it"}, delay=timedelta(seconds=1))
    site.wait_for("work_poison", body={"after": "it"})
    assert [record["body"] for record in site.records("work_poison")] == [stubborn, {"after": "it"}]
    until(lambda: site.queue(f"{site.work_queue}-poison").length() == 1, "only the failed message is left")
    assert not site.queue(f"{site.work_queue}-poison-poison").exists()


def test_a_body_that_is_not_base64_goes_to_the_poison_queue_as_it_is(site: Site) -> None:
    host = site.start(lease_s=1)
    site.queue().send_raw("<not> base64 é!")

    poison = site.queue(f"{site.work_queue}-poison")
    until(lambda: poison.length() == 1 and site.queue().length() == 0, "the message has moved")
    site.queue().send({"after": "it"})
    site.wait_for("work", body={"after": "it"})
    assert host.stop() == 0
    assert until(poison.visible, "the lease has ended") == ["<not> base64 é!"]
    assert len(site.records("work")) == 1


def test_the_lease_is_renewed_while_the_function_runs(site: Site) -> None:
    site.start(lease_s=1)
    release = site.folder / "release"
    held = {"hold": str(release)}
    site.queue().send(held)
    site.wait_for("work", body=held)

    site.queue().send({"witness": "visible after twice the lease"}, delay=timedelta(seconds=2))
    site.wait_for("work", body={"witness": "visible after twice the lease"})
    release.touch()

    until(lambda: site.queue().length() == 0, "the renewed message is deleted with its newest receipt")
    assert len(site.records("released")) == 1
    assert [record["delivery"] for record in site.records("work") if record["body"] == held] == [1]


def test_a_message_of_a_killed_host_is_delivered_to_another_one(site: Site) -> None:
    release = site.folder / "release"
    body = {"hold": str(release)}
    first = site.start("first", lease_s=1)
    site.queue().send(body)
    site.wait_for("work", body=body)
    first.kill()

    second = site.start("second", lease_s=1)
    release.touch()

    record = site.wait_for("released")[0]
    assert record["pid"] == second.pid
    assert [record["delivery"] for record in site.records("work")] == [1, 2]
    until(lambda: site.queue().length() == 0, "the message is deleted")


def test_sigterm_lets_a_running_invocation_finish_and_takes_nothing_new(site: Site) -> None:
    host = site.start()
    release = site.folder / "release"
    site.queue().send({"hold": str(release)})
    site.wait_for("work")

    os.kill(host.pid, signal.SIGTERM)
    until(lambda: not (site.state / "host-1.json").exists(), "the host has begun to stop")
    site.queue().send({"too": "late"})
    release.touch()

    assert host.stop() == 0
    assert len(site.records("released")) == 1
    assert len(site.records("work")) == 1
    assert site.queue().length() == 1


def test_storage_that_goes_away_and_comes_back_ends_neither_the_host_nor_a_running_function(tmp_path: Path) -> None:
    azurite = AzuriteProcess.start(tmp_path / "data", tmp_path / "azurite.log")
    site = Site(tmp_path, "work", azurite.connection_string)
    release = tmp_path / "release"
    try:
        host = site.start()
        site.queue().send({"hold": str(release)})
        site.wait_for("work")
        azurite.stop()
        site.wait_for_log("cannot be read")
        azurite.restart()
        release.touch()
        site.queue().send({"after": "the restart"})
        site.wait_for("work", body={"after": "the restart"})
        until(lambda: site.queue().length() == 0, "both messages are deleted")
        assert host.stop() == 0
        assert len(site.records("work")) == 2
    finally:
        site.close()
        azurite.stop()


def test_a_queue_that_was_deleted_is_created_again(site: Site) -> None:
    site.start()
    site.queue().delete()
    until(site.queue().exists, "the queue is back")
    site.queue().send({"case": "recreated"})
    site.wait_for("work", body={"case": "recreated"})


def test_an_output_binding_sends_a_message_in_the_same_encoding(shared_site: Site, host: HostProcess) -> None:
    shared_site.queue("chain-in").send_raw(base64.b64encode(b"text").decode())

    until(lambda: shared_site.queue("chain-out").exists(), "the missing queue is created")
    bodies = until(shared_site.queue("chain-out").visible, "the message has arrived")
    assert base64.b64decode(bodies[0]) == b"text forwarded"


def test_as_many_sync_functions_run_at_once_as_there_are_threads(site: Site) -> None:
    release = site.folder / "release"
    site.queue().create()
    for number in range(8):
        site.queue().send({"hold": str(release), "number": number})

    site.start()  # with all of them there: above newBatchThreshold no more are taken
    site.wait_for("work", 8)
    release.touch()
    site.wait_for("released", 8)


def test_a_function_that_outlives_its_time_has_failed_and_holds_up_no_other(site: Site) -> None:
    site.change_app(host_json={"functionTimeout": "00:00:01"})
    site.values["PYTHON_THREADPOOL_THREAD_COUNT"] = "1"
    host = site.start()
    site.queue().send({"hold": str(site.folder / "never")})

    assert [record["delivery"] for record in site.wait_for("work", 3)] == [1, 2, 3]
    site.wait_for("work_poison")
    assert host.stop() == 0, "threads that never end do not keep the host from ending"


# Timers


def test_a_timer_fires_once_when_the_clock_jumps_over_several_ticks(site: Site) -> None:
    site.start()
    site.clock.move(timedelta(days=3))
    first = site.wait_for("nightly")[0]
    site.clock.move(timedelta(days=1))
    second = site.wait_for("nightly", 2)[1]

    assert first["past_due"]
    assert datetime.fromisoformat(first["status"]["Last"]) == NEVER
    ran = datetime.fromisoformat(second["status"]["Last"])
    assert abs(ran - (site.clock() - timedelta(days=1))) < timedelta(minutes=5)
    assert datetime.fromisoformat(second["status"]["Next"]) == Schedule("0 0 3 * * *").next_after(ran)
    assert len(site.records("nightly")) == 2


def test_a_tick_missed_while_nothing_ran_fires_once_at_the_next_start(site: Site) -> None:
    assert site.start().stop() == 0
    site.clock.move(timedelta(days=5))
    assert not site.records("nightly")

    host = site.start()
    assert site.wait_for("nightly")[0]["past_due"]
    assert host.stop() == 0
    host = site.start()
    site.wait_for("at_start", 3)
    assert host.stop() == 0
    assert len(site.records("nightly")) == 1


def test_a_tick_of_two_hosts_fires_on_one_and_the_other_takes_over_when_that_one_dies(site: Site) -> None:
    hosts = {host.pid: host for host in (site.start("one"), site.start("two"))}
    site.clock.move(timedelta(days=1))
    owner = site.wait_for("nightly")[0]["pid"]
    site.clock.move(timedelta(days=1))
    assert [record["pid"] for record in site.wait_for("nightly", 2)] == [owner, owner]

    hosts.pop(owner).kill()
    site.clock.move(timedelta(days=1))
    site.wait_for("nightly", 3)
    assert [record["pid"] for record in site.records("nightly")] == [owner, owner, *hosts]


def test_a_failed_timer_is_retried_by_its_policy(site: Site) -> None:
    (site.folder / "fail-nightly").write_text("2")
    site.start()
    site.clock.move(timedelta(days=1))

    assert [record["retry"] for record in site.wait_for("nightly", 3)] == [0, 1, 2]


def test_run_on_startup_fires_at_start_without_a_monitor_or_a_status(shared_site: Site, host: HostProcess) -> None:
    record = shared_site.wait_for("at_start", pid=host.pid)[0]
    assert not record["past_due"]
    assert record["status"] == {}


SECOND = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "ticks"),
    [
        ("*/20 * * * * *", ["2026-01-01T00:00:20", "2026-01-01T00:00:40"]),
        ("0 */5 * * * *", ["2026-01-01T00:05:00", "2026-01-01T00:10:00"]),
        ("*/5 * * * *", ["2026-01-01T00:05:00", "2026-01-01T00:10:00"]),
        ("30 0 3 1 */3 *", ["2026-01-01T03:00:30", "2026-04-01T03:00:30"]),
        ("0 0 3 * * 1-5", ["2026-01-01T03:00:00", "2026-01-02T03:00:00", "2026-01-05T03:00:00"]),
        ("0 0 3 1 * MON", ["2026-06-01T03:00:00", "2027-02-01T03:00:00"]),
    ],
)
def test_ncrontab_ticks_are_those_of_the_real_host(expression: str, ticks: list[str]) -> None:
    moment, seen = SECOND, []
    for _ in ticks:
        moment = Schedule(expression).next_after(moment)
        seen.append(moment.isoformat())
    assert seen == [f"{tick}+00:00" for tick in ticks]


@pytest.mark.parametrize("expression", ["", "* * * *", "* * * * * * *", "@daily", "0 0 3 L * *", "61 * * * * *", "x"])
def test_what_is_no_ncrontab_is_rejected(expression: str) -> None:
    with pytest.raises(ValueError, match="NCRONTAB"):
        Schedule(expression)


def test_a_changed_schedule_owes_no_ticks_of_the_past() -> None:
    daily, hourly = Schedule("0 0 3 * * *"), Schedule("0 0 * * * *")
    before = Status.first(daily, SECOND)
    later = SECOND + timedelta(days=2)

    assert before.resumed(daily, later) == (before, True)
    resumed, missed = before.resumed(hourly, later)
    assert not missed
    assert resumed.next == later + timedelta(hours=1)
    assert Status.from_json(resumed.to_json()) == resumed


def test_retry_delays_double_up_to_the_longest_and_end_with_the_count() -> None:
    policy = RetryPolicy(4, timedelta(seconds=2), timedelta(seconds=10))
    assert [policy.delay_before(retry) for retry in range(1, 6)] == [
        timedelta(seconds=2),
        timedelta(seconds=4),
        timedelta(seconds=8),
        timedelta(seconds=10),
        None,
    ]
    assert RetryPolicy(-1, timedelta(), timedelta()).delay_before(10**6) == timedelta()


# HTTP


def test_an_http_function_sees_the_request_and_its_response_is_rendered(host: HostProcess) -> None:
    url = f"{host.url}/api/echo/a%20b/7?q=1&q=2"
    answer = call("POST", url, "body", {"X-Test": "yes"})

    assert answer.status == 201
    assert answer.json() == {
        "method": "POST",
        "url": url,
        "route": {"tenant": "a b", "version": "7"},
        "query": {"q": "1, 2"},
        "header": "yes",
        "body": "body",
    }
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["X-Answer"] == "42"
    assert answer.headers.get_all("Set-Cookie") == ["a=1; Path=/", "b=2; HttpOnly"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/echo/tenant", 201),
        ("GET", "/API/Echo/tenant/-5", 201),
        ("GET", "/api/echo/tenant/five", 404),
        ("GET", "/api/echo/tenant/5/more", 404),
        ("DELETE", "/api/echo/tenant", 405),
        ("DELETE", "/api/echo/exact", 200),
        ("GET", "/api/nothing", 404),
        ("GET", "/echo/tenant", 404),
        ("GET", "/", 404),
        ("GET", "/admin/nothing", 404),
    ],
)
def test_routes_select_by_path_and_method(host: HostProcess, method: str, path: str, status: int) -> None:
    assert call(method, host.url + path).status == status


def test_a_failing_http_function_answers_500_and_tells_the_caller_nothing(host: HostProcess) -> None:
    answer = call("GET", f"{host.url}/api/fails")
    assert (answer.status, answer.body) == (500, "")


def test_an_http_function_that_outlives_its_time_answers_500(site: Site) -> None:
    site.change_app(host_json={"functionTimeout": "00:00:01"})
    host = site.start()
    assert call("GET", f"{host.url}/api/never").status == 500
    assert call("GET", f"{host.url}/api/threads").status == 200


def test_what_the_app_logs_and_prints_goes_to_the_hosts_output(shared_site: Site, host: HostProcess) -> None:
    call("GET", f"{host.url}/api/threads")
    shared_site.wait_for_log("a line of the app's own log")
    shared_site.wait_for_log("\na line that the app prints\n")


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/keys/list", "literal"),
        ("/keys/17", "constrained"),
        ("/keys/other", "free"),
        ("/keys/a/b/c", "catch-all"),
        ("/keys", "catch-all"),
    ],
)
def test_the_most_specific_route_wins(path: str, found: str) -> None:
    templates = {
        "catch-all": "keys/{*rest}",
        "free": "keys/{name}",
        "constrained": "keys/{id:int}",
        "literal": "keys/list",
    }
    table = RouteTable(Route.parse(function, template, ["get"]) for function, template in templates.items())
    assert table.match("GET", path)[0] == found
    with pytest.raises(NoRoute):
        table.match("POST", path)


def test_an_unknown_route_constraint_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match=r"function f: \{id:regex\}"):
        Route.parse("f", "keys/{id:regex}", [])


# Event Grid

NOTIFICATION = {"aeg-event-type": "Notification"}


def event(subject: str = "key", event_id: str = "1") -> Record:
    return {
        "id": event_id,
        "topic": "/subscriptions/s/resourceGroups/g/providers/Microsoft.KeyVault/vaults/v",
        "subject": subject,
        "eventType": "Microsoft.KeyVault.KeyNearExpiry",
        "eventTime": "2026-01-01T00:00:00.1234567Z",
        "data": {"ObjectName": subject},
        "dataVersion": "1",
        "metadataVersion": "1",
    }


def webhook(host: HostProcess, function: str = "KEY_EVENT") -> str:
    return f"{host.url}/runtime/webhooks/EventGrid?functionName={function}"


# https://learn.microsoft.com/azure/event-grid/end-point-validation-event-grid-events-schema
VALIDATION = {
    "id": "2d1781af-3a4c-4d7c-bd0c-e34b19da4e66",
    "topic": "/subscriptions/00000000-0000-0000-0000-000000000000",
    "subject": "",
    "data": {
        "validationCode": "512d38b6-c7b8-40c8-89fe-f46f9e9622b6",
        "validationUrl": "https://rp-eastus2.eventgrid.azure.net:553/eventsubscriptions/estest/validate?id=512d38b6",
    },
    "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
    "eventTime": "2018-01-25T22:12:19.4556811Z",
    "metadataVersion": "1",
    "dataVersion": "1",
}


def test_event_grids_handshake_is_answered_with_its_code(shared_site: Site, host: HostProcess) -> None:
    answer = call("POST", webhook(host), [VALIDATION], {"aeg-event-type": "SubscriptionValidation"})
    assert (answer.status, answer.json()) == (200, {"validationResponse": "512d38b6-c7b8-40c8-89fe-f46f9e9622b6"})
    assert not [record for record in shared_site.records("key_event") if record["id"] == VALIDATION["id"]]


@pytest.mark.parametrize("changes", [{"data": None}, {"data": {}}, {"data": {"validationUrl": "https://example.org"}}])
def test_a_handshake_without_a_code_is_refused(host: HostProcess, changes: dict[str, object]) -> None:
    answer = call("POST", webhook(host), [VALIDATION | changes], {"aeg-event-type": "SubscriptionValidation"})
    assert answer.status == 400


def test_an_event_whose_time_the_sdk_cannot_read_fails_before_the_function_sees_it(host: HostProcess) -> None:
    body = [event(event_id="timeless") | {"eventTime": "yesterday"}]
    assert call("POST", webhook(host), body, NOTIFICATION).status == 500


def test_events_are_delivered_one_by_one_whether_posted_alone_or_as_a_list(
    shared_site: Site, host: HostProcess
) -> None:
    assert call("POST", webhook(host), event(event_id="alone"), NOTIFICATION).status == 202
    many = [event(event_id="first"), event(event_id="second")]
    assert call("POST", webhook(host).replace("runtime/webhooks", "Runtime/Webhooks"), many, NOTIFICATION).status == 202

    seen = {record["id"]: record for record in shared_site.records("key_event")}
    assert {"alone", "first", "second"} <= seen.keys()
    assert seen["alone"]["data"] == {"ObjectName": "key"}
    assert seen["alone"]["kind"] == "EventGridEvent"


def test_an_event_that_is_not_handled_answers_500_so_that_it_is_sent_again(host: HostProcess) -> None:
    assert call("POST", webhook(host), [event(), event("fail")], NOTIFICATION).status == 500


@pytest.mark.parametrize(
    ("function", "body", "headers", "status"),
    [
        ("nobody", [], NOTIFICATION, 404),
        ("work", [], NOTIFICATION, 404),
        ("key_event", "no json", NOTIFICATION, 400),
        ("key_event", ["no object"], NOTIFICATION, 400),
        ("key_event", [], {"aeg-event-type": "SubscriptionValidation"}, 400),
        ("key_event", [], {"aeg-event-type": "Strange"}, 400),
        ("key_event", [], {"aeg-event-type": "Unsubscribe"}, 202),
    ],
)
def test_a_bad_delivery_is_refused(
    host: HostProcess, function: str, body: object, headers: Mapping[str, str], status: int
) -> None:
    assert call("POST", webhook(host, function), body, headers).status == status


def test_cloud_events_shake_hands_and_are_delivered(shared_site: Site, host: HostProcess) -> None:
    url = webhook(host, "cloud_event")
    handshake = call("OPTIONS", url, headers={"WebHook-Request-Origin": "eventgrid.azure.net"})
    assert (handshake.status, handshake.headers["WebHook-Allowed-Origin"]) == (200, "eventgrid.azure.net")

    body = {"specversion": "1.0", "id": "c-1", "source": "/vaults/v", "type": "t", "subject": "k", "data": {}}
    assert call("POST", url, body, {"Content-Type": "application/cloudevents+json"}).status == 202
    record = shared_site.wait_for("cloud_event", id="c-1")[0]
    assert (record["source"], record["kind"]) == ("/vaults/v", "CloudEvent")


def test_the_published_cloud_event_is_delivered_as_event_grid_posts_it(shared_site: Site, host: HostProcess) -> None:
    (published,) = json.loads((ROOT / "docs" / "near-expiry-cloud.json").read_text())
    headers = {"aeg-event-type": "Notification", "Content-Type": "application/cloudevents+json; charset=utf-8"}
    assert call("POST", webhook(host, "cloud_event"), published, headers).status == 202
    batch = {"Content-Type": "application/cloudevents-batch+json; charset=utf-8"}
    assert call("POST", webhook(host, "cloud_event"), [published | {"id": "batched"}], batch).status == 202
    for event_id in (published["id"], "batched"):
        assert shared_site.wait_for("cloud_event", id=event_id)[0]["kind"] == "CloudEvent"


def test_a_cloud_events_handshake_without_an_origin_is_refused(host: HostProcess) -> None:
    assert call("OPTIONS", webhook(host, "cloud_event")).status == 400


# Admin


def test_the_admin_api_tells_that_the_host_runs_and_what(host: HostProcess) -> None:
    assert call("GET", f"{host.url}/admin/host/status").json()["state"] == "Running"
    listed = {function["name"]: function for function in call("GET", f"{host.url}/admin/functions").json()}
    assert list(listed) == host.functions
    assert listed["work"]["config"]["bindings"][0]["queueName"] == "work-shared"


@pytest.mark.parametrize(
    ("function", "text", "facts"),
    [
        ("nightly", "", {"past_due": False}),
        ("Work", '{"by": "hand"}', {"body": {"by": "hand"}}),
        ("key_event", json.dumps(event(event_id="by hand")), {"id": "by hand"}),
    ],
)
def test_a_function_can_be_run_by_hand(
    shared_site: Site, host: HostProcess, function: str, text: str, facts: Record
) -> None:
    assert call("POST", f"{host.url}/admin/functions/{function}", {"input": text}).status == 202
    shared_site.wait_for(function.lower(), **facts)


@pytest.mark.parametrize(
    ("function", "body", "status"),
    [("nobody", {}, 404), ("echo", {}, 404), ("work", "no json", 400), ("work", {"input": 1}, 400)],
)
def test_a_bad_run_by_hand_is_refused(host: HostProcess, function: str, body: object, status: int) -> None:
    assert call("POST", f"{host.url}/admin/functions/{function}", body).status == status


# Disabled functions


def test_nothing_triggers_a_disabled_function_and_it_can_be_run_by_hand(site: Site) -> None:
    disabled = ("work", "nightly", "at_start", "key_event", "echo")
    site.values |= {f"AzureWebJobs.{name}.Disabled": "true" for name in disabled}
    host = site.start()
    listed = {function["name"]: function for function in call("GET", f"{host.url}/admin/functions").json()}
    assert list(listed) == host.functions
    assert {name for name, function in listed.items() if function["isDisabled"]} == set(disabled)

    assert not site.queue().exists(), "nobody asked for it"
    assert call("GET", f"{host.url}/api/echo/acme").status == 404
    assert call("POST", webhook(host), event(), NOTIFICATION).status == 404
    site.clock.move(timedelta(days=3))
    assert call("POST", f"{host.url}/admin/functions/work", {"input": '{"by": "hand"}'}).status == 202
    site.wait_for("work", body={"by": "hand"})
    host.stop()
    assert [site.records(name) for name in ("nightly", "at_start", "key_event")] == [[], [], []]
    assert len(site.records("work")) == 1


@pytest.mark.parametrize(
    ("name", "value", "disabled"),
    [
        ("AzureWebJobs.work.Disabled", "true", True),
        ("AzureWebJobs.Work.Disabled", "True", True),
        ("azurewebjobs.work.disabled", "1", True),
        ("AzureWebJobs_work_Disabled", "1", True),
        ("AzureWebJobs.work.Disabled", "false", False),
        ("AzureWebJobs.work.Disabled", "0", False),
        ("AzureWebJobs.work.Disabled", "", False),
        ("AzureWebJobs.work.Disabled", "yes", False),
        ("AzureWebJobs.work_poison.Disabled", "true", False),
        ("AzureWebJobs.other.Disabled", "true", False),
    ],
)
def test_a_function_is_disabled_by_the_setting_of_its_name_alone(name: str, value: str, disabled: bool) -> None:
    assert Settings({name: value}).disables("work") is disabled


# Configuration

BROKEN_APP = """
import azure.functions as func
app = func.FunctionApp()
@app.timer_trigger(arg_name="timer", schedule="0 0 0 * * *")
def broken(other: func.TimerRequest) -> None: ...
"""


@pytest.mark.parametrize(
    ("source", "host_json", "values", "code", "message"),
    [
        (None, "{", {}, 2, "host.json: not valid JSON"),
        (None, {"functionTimeout": "soon"}, {}, 2, 'functionTimeout must look like "hh:mm:ss"'),
        (None, {"extensions": {"queues": {"batchSize": 33}}}, {}, 2, "batchSize must be a whole number from 1 to 32"),
        (None, {}, {"NIGHTLY": "every night"}, 2, "function nightly: 'every night' is no NCRONTAB expression"),
        (None, {}, {"NIGHTLY": None}, 2, "function nightly: app setting NIGHTLY is not set"),
        (None, {}, {"Storage": None}, 2, "function chain: app setting Storage is not set"),
        (None, {}, {"Storage": "nonsense"}, 2, "function chain: app setting Storage is no connection string"),
        (BROKEN_APP, {}, {}, 1, "cannot load the broken function"),
        ("raise RuntimeError('at import')", {}, {}, 1, "at import"),
    ],
)
def test_a_host_that_cannot_start_says_why(
    site: Site,
    source: str | None,
    host_json: Mapping[str, object] | str,
    values: Mapping[str, str | None],
    code: int,
    message: str,
) -> None:
    site.change_app(source, host_json)
    site.values = {name: value for name, value in {**site.values, **values}.items() if value is not None}
    with pytest.raises(ServerStartError) as failure:
        site.start()
    assert f"code {code}" in str(failure.value)
    assert message in str(failure.value)


def test_host_json_defaults_are_those_of_the_real_host(tmp_path: Path) -> None:
    file = tmp_path / "host.json"
    file.write_text('{"version": "2.0", "somethingElse": 1}')
    parsed = HostJson.read(file)
    assert parsed.route_prefix == "api"
    assert parsed.function_timeout == timedelta(minutes=30)
    assert (parsed.queues.batch_size, parsed.queues.new_batch_threshold, parsed.queues.max_dequeue_count) == (16, 8, 5)
    assert parsed.queues.visibility_timeout == timedelta()
    assert parsed.queues.max_polling_interval == timedelta(minutes=1)
    assert parsed.queues.base64

    file.write_text('{"version": "2.0", "functionTimeout": "-1", "extensions": {"queues": {"batchSize": 4}}}')
    parsed = HostJson.read(file)
    assert parsed.function_timeout is None
    assert parsed.queues.new_batch_threshold == 2
