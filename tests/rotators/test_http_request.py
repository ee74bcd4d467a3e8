"""One HTTP request whose status counts: over a real connection, to what answers, what does not, and what misleads."""

import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import override

import pytest

from rotation.rotators import http_request
from rotation.rotators.http_request import host_of, status_of
from shared.errors import Transient
from tests.dripping import dripping

PLANTED = "planted" + "-" + "value"


@dataclass
class Service:
    """Answers with the status that its path names, and remembers what it was asked."""

    url: str
    asked: list[tuple[str, str, str | None, bytes]] = field(default_factory=list)


@pytest.fixture
def service() -> Iterator[Service]:
    """On loopback."""

    class Handler(BaseHTTPRequestHandler):
        @override
        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            found.asked.append((self.command, self.path, self.headers.get("Authorization"), body))
            self.send_response(int(self.path.strip("/")))
            self.send_header("Location", "/200")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST = answer  # noqa: N815 - the server's names

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found = Service(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield found
        server.shutdown()
        thread.join(20)


def test_an_answer_that_never_ends_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_request, "_CONNECT_S", 0.1)
    with dripping() as server, pytest.raises(Transient, match="an answer does not end"):
        status_of("GET", server.url, {}, None, 0.2)


@pytest.mark.parametrize("status", [200, 204, 401, 404, 503])
def test_the_status_is_the_answer_whatever_it_is(service: Service, status: int) -> None:
    assert status_of("POST", f"{service.url}/{status}", {"Authorization": "x"}, b"body", 5) == status
    assert service.asked == [("POST", f"/{status}", "x", b"body")]


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(service: Service, status: int) -> None:
    assert status_of("GET", f"{service.url}/{status}", {}, None, 5) == status
    assert len(service.asked) == 1


def test_neither_a_proxy_nor_a_password_is_taken_from_the_environment(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    assert status_of("GET", f"{service.url}/200", {}, None, 5) == 200
    assert service.asked[0][2] is None


def test_nobody_listening_is_no_answer_and_the_error_does_not_tell_what_was_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}/{PLANTED}"
    with pytest.raises(Transient) as caught:
        status_of("GET", url, {"Authorization": PLANTED}, PLANTED.encode(), 5)
    assert PLANTED not in f"{caught.value} {vars(caught.value)}"
    assert caught.value.__suppress_context__


def test_who_accepts_and_says_nothing_has_not_answered() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(Transient) as caught:
        status_of("GET", f"http://127.0.0.1:{silent.getsockname()[1]}/", {}, None, 0.2)
    assert caught.value.fields["cause"] == "ReadTimeout"


@pytest.mark.parametrize("value", ["two\nlines", " blank", "carriage\rreturn"])
def test_a_header_that_cannot_be_sent_is_not_shown(service: Service, value: str) -> None:
    with pytest.raises(Transient) as caught:
        status_of("GET", f"{service.url}/200", {"Authorization": value}, None, 5)
    assert value not in f"{caught.value} {vars(caught.value)}"
    assert service.asked == []


@pytest.mark.parametrize("url", ["https://a..example/", "https://127.0.0.1:99999/", "https://-/"])
def test_a_url_that_leads_nowhere_is_no_answer(url: str) -> None:
    with pytest.raises(Transient):
        status_of("GET", url, {}, None, 1)


def test_a_host_is_named_without_its_path() -> None:
    assert host_of("https://a.example:8443/T0/B0") == "a.example:8443"
