"""A vault as a child process, and its admin interface in Python: for tests, benchmarks and the demo."""

import http.client
import json
import ssl
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from local import process

_START_S = 30.0
_ADMIN_S = 30.0
_POLL_S = 0.02


class KeyVaultStartError(Exception):
    """The vault ended, or did not listen in time; the message ends with the last lines of its log."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What a vault has done since it started, or since the counts were reset."""

    operations: Mapping[str, int]
    """Operations that were let through to the vault, by kind: {"unwrapkey": 3, "get-key": 1}."""
    throttled: int
    """Answers 429, those of fault rules included."""


class KeyVaultProcess:
    """One running vault. It dies with the thread that started it; as a context manager it stops at the end."""

    def __init__(self, child: subprocess.Popen[bytes], url: str, ca: Path) -> None:
        self._child = child
        self.url = url
        self.ca = ca

    @classmethod
    def start(cls, state: Path, clock: Path, log: Path, port: int = 0, *, quota: bool = True) -> Self:
        """Start a vault on the folder `state` and return once it listens.

        `clock` is the file of a `MovableClock`; the vault's output is appended to `log`. Port 0 is the port of the last
        run on the same folder, else a free one. Raises KeyVaultStartError.
        """
        arguments = ["--port", str(port), "--state", str(state.resolve()), "--clock", str(clock.resolve())]
        child = process.spawn(
            [sys.executable, "-m", "local.key_vault", *arguments, "--quota" if quota else "--no-quota"], log
        )
        try:
            endpoint = process.endpoint_of(
                child, state / "endpoint.json", log, "the vault", _START_S, KeyVaultStartError
            )
        except BaseException:
            process.stop(child)
            raise
        return cls(child, endpoint["url"], Path(endpoint["ca"]))

    @property
    def port(self) -> int:
        """The port, which a restart keeps."""
        return urlsplit(self.url).port or 0

    def stop(self) -> None:
        """End the vault politely; returns when it is gone."""
        process.stop(self._child)

    def kill(self) -> None:
        """SIGKILL: nothing acknowledged is lost. Returns when it is gone."""
        self._child.kill()
        self._child.wait()

    def inject(
        self,
        match: str,
        *,
        status: int | Literal["drop"] | None = None,
        latency_ms: float = 0,
        apply: Literal["before", "after"] = "before",
        times: int | None = 1,
        probability: float = 1.0,
        seed: int = 0,
    ) -> None:
        """Arm a fault for requests whose "METHOD /path" the regular expression `match` is found in.

        `status` is what to answer, or "drop" to close the connection without an answer; None only delays. With `apply`
        "after" the operation takes effect first. `times` None is for ever.
        """
        rule = {
            "match": match,
            "status": status,
            "latency_ms": latency_ms,
            "apply": apply,
            "times": times,
            "probability": probability,
            "seed": seed,
        }
        self._admin("POST", "faults", rule)

    def drop_answer(self, match: str, *, times: int | None = 1) -> None:
        """The nastiest fault: the operation takes effect and the connection closes without an answer."""
        self.inject(match, status="drop", apply="after", times=times)

    def faults(self) -> list[dict[str, Any]]:
        """The rules, with what is `left` of each and how often it `struck`."""
        rules: list[dict[str, Any]] = self._admin("GET", "faults")["rules"]
        return rules

    def clear_faults(self) -> None:
        """Disarm all faults."""
        self._admin("DELETE", "faults")

    def counts(self) -> Counts:
        """What the vault has done so far."""
        answer = self._admin("GET", "counts")
        return Counts(answer["operations"], answer["throttled"])

    def reset_counts(self) -> None:
        """Count from zero again."""
        self._admin("DELETE", "counts")

    def set_quota(self, *, enabled: bool | None = None, retry_after: bool | None = None) -> None:
        """Switch throttling, and whether a 429 carries Retry-After; None leaves it as it is."""
        self._admin("POST", "quota", {"enabled": enabled, "retry_after": retry_after})

    def _admin(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:  # noqa: ANN401 - JSON
        context = ssl.create_default_context(cafile=str(self.ca))
        connection = http.client.HTTPSConnection("localhost", self.port, timeout=_ADMIN_S, context=context)
        try:
            connection.request(method, f"/_local/{path}", None if body is None else json.dumps(body))
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        if response.status >= 300:
            raise ValueError(f"the vault refused {method} {path}: {text.decode()}")
        return json.loads(text) if text else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
