"""A receiver of webhooks as a child process, and its counts: for tests and the local stack."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from local.server_process import ServerProcess
from local.serving import ENDPOINT


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the webhooks since the receiver started."""

    verified: int
    refused: int
    unread: int  # there was no secret to verify them with: the vault has never answered


class WebhookReceiverProcess(ServerProcess):
    """One running receiver; its URL is what the catalog's `receivers` want."""

    WHAT = "webhook receiver"

    @classmethod
    def start(
        cls, folder: Path, clock_file: Path, log_file: Path, vault: str, ca: Path, secret: str, port: int = 0
    ) -> Self:
        """Start a receiver that verifies with that secret of the vault at that URL, and return once it listens.

        `clock_file` is the file of a `MovableClock`; the output is appended to `log_file`. Port 0 is a free one. Raises
        ServerStartError.
        """
        arguments = ["--port", str(port), "--state", str(folder.resolve()), "--clock", str(clock_file.resolve())]
        arguments += ["--vault", vault, "--ca", str(ca.resolve()), "--secret", secret]
        return cls.launched("local.webhook_receiver", arguments, folder / ENDPOINT, log_file)

    def counts(self) -> Counts:
        """What became of the webhooks so far."""
        return Counts(**self.admin("GET", "counts"))
