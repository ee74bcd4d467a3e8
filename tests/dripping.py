"""A server of this machine that answers with one octet of a header after the other, each of them in time."""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import override


class Dripping(socketserver.ThreadingTCPServer):
    """Goes on for 20 s, or until it is told to end its answers."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Drip)
        self.asked = 0
        self.end = threading.Event()

    @property
    def url(self) -> str:
        """Of whatever is asked for."""
        return f"http://127.0.0.1:{self.server_address[1]}/"


class _Drip(socketserver.BaseRequestHandler):
    server: Dripping

    @override
    def handle(self) -> None:
        self.server.asked += 1
        self.request.sendall(b"HTTP/1.1 202 Accepted\r\nX-Drip: ")
        for _ in range(1000):
            if self.server.end.wait(0.02):
                break
            self.request.sendall(b"x")
        self.request.sendall(b"\r\nContent-Length: 0\r\n\r\n")


@contextmanager
def dripping() -> Iterator[Dripping]:
    """One that runs meanwhile."""
    with Dripping() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.end.set()
        server.shutdown()
        thread.join(20)
