"""A receiver of webhooks as a child process, and its counts: for tests and the local stack."""

import http.client
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

from local import process

_START_S: Final = 30.0
_ADMIN_S: Final = 30.0


class WebhookReceiverStartError(Exception):
    """The receiver ended, or did not listen in time; the message ends with the last lines of its log."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the webhooks since the receiver started."""

    verified: int
    refused: int
    unread: int  # there was no secret to verify them with: the vault has never answered


class WebhookReceiverProcess:
    """One running receiver. It dies with the thread that started it; as a context manager it stops at the end."""

    def __init__(self, child: subprocess.Popen[bytes], url: str) -> None:
        self._child = child
        self.url = url
        """What the catalog's `receivers` want."""

    @classmethod
    def start(
        cls, folder: Path, clock_file: Path, log_file: Path, vault: str, ca: Path, secret: str, port: int = 0
    ) -> Self:
        """Start a receiver that verifies with that secret of the vault at that URL, and return once it listens.

        `clock_file` is the file of a `MovableClock`; the output is appended to `log_file`. Port 0 is a free one. Raises
        WebhookReceiverStartError.
        """
        arguments = ["--port", str(port), "--state", str(folder.resolve()), "--clock", str(clock_file.resolve())]
        arguments += ["--vault", vault, "--ca", str(ca.resolve()), "--secret", secret]
        child = process.spawn([sys.executable, "-m", "local.webhook_receiver", *arguments], log_file)
        try:
            endpoint = process.endpoint_of(
                child, folder / "endpoint.json", log_file, "the webhook receiver", _START_S, WebhookReceiverStartError
            )
        except BaseException:
            process.stop(child)
            raise
        return cls(child, endpoint["url"])

    @property
    def port(self) -> int:
        """Where it listens, on loopback."""
        return urlsplit(self.url).port or 0

    def stop(self) -> None:
        """End it politely; returns when it is gone."""
        process.stop(self._child)

    def counts(self) -> Counts:
        """What became of the webhooks so far."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_ADMIN_S)
        try:
            connection.request("GET", "/_local/counts")
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise ValueError(f"the webhook receiver does not tell its counts: {response.status}")
        return Counts(**json.loads(text))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
