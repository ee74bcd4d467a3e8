"""Alert sinks over HTTP, on a server of this machine that answers as told."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, override

import pytest

from local.stack import Stack
from rotation.alert_formats import Json, generic, pagerduty, teams
from rotation.alerting import key_of, notice_of
from rotation.audit import Outcome
from rotation.audit_job import AuditTrail
from shared.alert_sinks import MAX_BODY, HttpAlertSink
from shared.azure.wiring import Adapters, app
from shared.errors import AtpError, Rejected, Throttled, Transient
from shared.secret import Secret
from shared.values import Alert, AlertEntry, Notice, Severity, SinkName
from tests.dripping import dripping
from tests.pure.keyrings import NOW

PATH = "/workflows/0123/triggers/manual/paths/invoke?sig=" + "not-to-be-seen-by-anybody"
ROUTING_KEY = "r0uting" * 4 + "keys"
ALERT = Alert("jobs/1", Severity.CRITICAL, "it is late", "queue/jobs", NOW, {"reason": "Zoë 密钥"}, "sre")
NOTICE = notice_of(AlertEntry(ALERT))
FORMS: dict[SinkName, Callable[[Notice], Mapping[str, Json]]] = {
    SinkName.WEBHOOK: generic,
    SinkName.TEAMS: teams,
    SinkName.PAGERDUTY: pagerduty,
}


class Server(HTTPServer):
    """Keeps what it is sent and answers with `status` and `headers`; None: closes the connection."""

    status: int | None = 202
    headers: Mapping[str, str] = {}

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.got: list[tuple[str, Mapping[str, str], Any]] = []

    @property
    def url(self) -> str:
        """With a path that is a secret."""
        return f"http://127.0.0.1:{self.server_port}{PATH}"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        """Take a document."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, dict(self.headers), json.loads(body)))
        if self.server.status is None:
            self.close_connection = True
            return
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join(30)


def sink(url: str, name: SinkName = SinkName.WEBHOOK, key: str = "", patience_s: float = 30.0) -> HttpAlertSink:
    routing_key = Secret(key.encode()) if key else None
    return HttpAlertSink(name, Secret(url.encode()), FORMS[name], routing_key, patience_s=patience_s)


@pytest.mark.parametrize("name", SinkName)
def test_a_sink_is_sent_its_document_as_json(server: Server, name: SinkName) -> None:
    sink(server.url, name).send(NOTICE)
    ((path, headers, document),) = server.got
    assert (path, headers["Content-Type"]) == (PATH, "application/json; charset=utf-8")
    assert document == json.loads(json.dumps(FORMS[name](NOTICE)))


def test_the_routing_key_is_sent_beside_the_event_and_is_seen_nowhere_else(server: Server) -> None:
    to = sink(server.url, SinkName.PAGERDUTY, ROUTING_KEY)
    to.send(NOTICE)
    ((_, _, document),) = server.got
    assert document == {**pagerduty(NOTICE), "routing_key": ROUTING_KEY}
    assert ROUTING_KEY not in f"{vars(to)}"


def test_a_sink_whose_answer_never_ends_is_waited_for_no_longer_and_not_asked_again_meanwhile() -> None:
    with dripping() as server:
        to = sink(server.url, patience_s=0.2)
        for _ in range(3):
            with pytest.raises(Transient):
                to.send(NOTICE)
        assert server.asked == 1
        server.end.set()
        for _ in range(500):
            with suppress(Transient):
                to.send(NOTICE)
                break
            time.sleep(0.02)
        assert server.asked >= 2


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_any_success_will_do(server: Server, status: int) -> None:
    server.status = status
    sink(server.url).send(NOTICE)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (301, Rejected),
        (400, Rejected),
        (401, Rejected),
        (403, Rejected),
        (404, Rejected),
        (410, Rejected),
        (408, Transient),
        (425, Transient),
        (429, Throttled),
        (500, Transient),
        (503, Transient),
        (None, Transient),
    ],
)
def test_an_answer_tells_whether_trying_again_helps(server: Server, status: int | None, error: type[AtpError]) -> None:
    server.status, server.headers = status, {"Location": "http://127.0.0.1:1/", "Content-Length": "0"}
    with pytest.raises(AtpError) as caught:
        sink(server.url).send(NOTICE)
    assert type(caught.value) is error
    assert len(server.got) == 1, "nobody is followed, nothing is sent twice"
    ensure_silent(caught.value)


@pytest.mark.parametrize(("stated", "wait"), [("30", 30.0), ("Fri, 20 Nov 2026 12:30:15 GMT", None), ("", None)])
def test_a_busy_sink_may_say_for_how_long(server: Server, stated: str, wait: float | None) -> None:
    server.status, server.headers = 429, {"Retry-After": stated}
    with pytest.raises(Throttled) as caught:
        sink(server.url).send(NOTICE)
    assert caught.value.fields["retry_after"] == wait


def test_a_sink_that_is_away_is_transient() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(Transient) as caught:
            sink(f"http://127.0.0.1:{taken.getsockname()[1]}{PATH}").send(NOTICE)
    ensure_silent(caught.value)


def test_a_sink_that_says_nothing_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(Transient) as caught:
        sink(f"http://127.0.0.1:{silent.getsockname()[1]}{PATH}", patience_s=0.2).send(NOTICE)
    assert caught.value.fields["cause"] == "ReadTimeout"
    ensure_silent(caught.value)


def ensure_silent(error: AtpError) -> None:
    """Neither the error nor what it comes from names the URL."""
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None
    assert "not-to-be-seen" not in repr(error.fields)


def test_a_proxy_in_the_environment_is_not_asked(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    sink(server.url).send(NOTICE)
    assert len(server.got) == 1


def test_no_secret_leaves(server: Server) -> None:
    known = b"orange-Boat-" + b"4711-door"
    alert = replace(ALERT, what=f"it is {known.decode()}", details={"reason": "password=" + "hunter3hunter3", "a": "b"})
    Secret(known)
    for name in SinkName:
        sink(server.url, name).send(notice_of(AlertEntry(alert)))
    sent = json.dumps([document for _, _, document in server.got])
    assert known.decode() not in sent
    assert "hunter3hunter3" not in sent
    assert sent.count("REDACTED") >= 4


def test_a_secret_that_shows_only_in_the_whole_is_not_sent(server: Server) -> None:
    """Masked text by text, it is not found: the name of a detail and its value together are what gives it away."""
    alert = replace(ALERT, details={"password": "hunter4" + "hunter4"})
    with pytest.raises(Rejected, match="a secret"):
        sink(server.url).send(notice_of(AlertEntry(alert)))
    assert server.got == []


def test_a_document_that_no_sink_takes_is_not_sent(server: Server) -> None:
    to = HttpAlertSink(SinkName.WEBHOOK, Secret(server.url.encode()), lambda _: {"text": "x y " * MAX_BODY})
    with pytest.raises(Rejected, match="too much"):
        to.send(NOTICE)
    assert server.got == []


def test_the_app_has_the_sinks_that_its_settings_name(stack: Stack) -> None:
    secrets = {name: Secret(f"https://hooks.example.com/{name}/{ROUTING_KEY}".encode()) for name in SinkName}
    settings = replace(
        stack.settings,
        alert_webhook=secrets[SinkName.WEBHOOK],
        alert_teams=secrets[SinkName.TEAMS],
        alert_pagerduty_key=secrets[SinkName.PAGERDUTY],
    )
    assert [each.name for each in Adapters(settings).alert_sinks] == list(SinkName)
    assert list(stack.adapters.alert_sinks) == []


def test_an_alert_that_was_raised_is_told_by_the_next_round_and_its_resolution_by_the_one_after(
    stack: Stack, server: Server
) -> None:
    settings = replace(stack.settings, alert_webhook=Secret(server.url.encode()))
    adapters = Adapters(settings)
    delivery = app(settings, adapters).alert_delivery
    alert = replace(ALERT, id="told/by/the/app", subject="key/master-kek")
    stack.adapters.alerts.raise_alert(alert)
    for _ in range(2):
        delivery.run()
    stack.adapters.alerts.resolve(alert.id, "alice", "mended")
    delivery.run()
    told = [document for _, _, document in server.got if document["id"] == alert.id]
    assert [(each["event"], each["resolved_by"]) for each in told] == [("raised", ""), ("resolved", "alice")]
    entry = adapters.alert_register.read(alert.id)
    assert entry is not None
    assert not entry.is_owing
    record = AuditTrail(adapters.records, adapters.clock).find(
        f"alert.resolve/{key_of(alert.id)}/2", Outcome.SUCCEEDED, f"alert/{key_of(alert.id)}"
    )
    assert record is not None
    assert (record.actor, record.reason) == ("alice", "mended")
    adapters.close()
