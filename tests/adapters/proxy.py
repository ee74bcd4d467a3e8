"""A proxy in front of Azurite that loses requests or answers."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import override


class Loss(Enum):
    """What gets lost of a request; the client sees a closed connection, or nothing."""

    REQUEST = "never reaches the service"
    ANSWER = "takes effect, and the answer is lost"
    SILENCE = "neither arrives, and the connection stays open"


class Proxy(ThreadingHTTPServer):
    """Forwards to a local port, and loses what it is told to."""

    daemon_threads = False

    def __init__(self, upstream_port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream_port = upstream_port
        self.seen = 0
        self.lost = 0
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._losses: dict[int, Loss] = {}
        self._loss_of_all: Loss | None = None
        self.connections: set[socket.socket] = set()

    def hang_up(self) -> None:
        """End every connection, idle ones that a client keeps for later included."""
        self.closing.set()
        for connection in tuple(self.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    @property
    def port(self) -> int:
        return self.server_port

    def lose(self, number: int, loss: Loss) -> None:
        """Lose the request of that number, counted from here and from 1; forget what else was to be lost."""
        with self._lock:
            self._losses = {self.seen + number: loss}
            self.lost = 0

    def lose_all(self, loss: Loss | None) -> None:
        """Lose every request from now on; None: no more."""
        self._loss_of_all = loss

    def next_loss(self) -> Loss | None:
        """What happens to the request that has just come."""
        with self._lock:
            self.seen += 1
            loss = self._loss_of_all or self._losses.pop(self.seen, None)
            self.lost += loss is not None
        return loss


class _Handler(BaseHTTPRequestHandler):
    server: Proxy
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    @override
    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    @override
    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        super().finish()

    def do_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        loss = self.server.next_loss()
        if loss is Loss.SILENCE:
            self.server.closing.wait()
        self.close_connection = loss is not None
        if loss in (Loss.REQUEST, Loss.SILENCE):
            return
        upstream = HTTPConnection("127.0.0.1", self.server.upstream_port)
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                upstream.putheader(name, value)
            upstream.endheaders(body)
            answer = upstream.getresponse()
            content = answer.read()
        finally:
            upstream.close()
        if loss is Loss.ANSWER:
            return
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "content-length", "connection", "keep-alive"):
                self.send_header(name, value)
        if answer.status != 204:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_MERGE = do_HEAD = do_any  # noqa: N815 - http.server's names

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Azurite has a log."""


@contextmanager
def proxy_to(port: int) -> Iterator[Proxy]:
    """A running proxy."""
    with Proxy(port) as proxy:
        serving = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02})
        serving.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            serving.join()
            proxy.hang_up()
