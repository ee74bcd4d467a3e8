"""One line per request, as it ends: what was asked and what came of it, never a body or a token."""

from datetime import datetime
from pathlib import Path

from aiohttp import web


class RequestLog:
    """Appends to a file; a line is there for other readers at once."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1, encoding="utf-8")

    def write(self, now: datetime, request: web.Request, outcome: str, ms: float) -> None:
        """Fields: time, method, path with query, status or "dropped", milliseconds, client request id or "-"."""
        client_id = "".join(request.headers.get("x-ms-client-request-id", "").split()) or "-"
        time = now.isoformat(timespec="milliseconds")
        self._file.write(f"{time} {request.method} {request.raw_path} {outcome} {ms:.1f} {client_id}\n")

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()
