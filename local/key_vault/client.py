"""A vault as a child process, and its admin interface in Python: for tests, benchmarks and the demo."""

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, override

from local.server_process import ServerProcess
from local.serving import ENDPOINT


@dataclass(frozen=True, slots=True)
class Counts:
    """What a vault has done since it started, or since the counts were reset."""

    operations: Mapping[str, int]
    """Operations that were let through to the vault, by kind: {"unwrapkey": 3, "get-key": 1}."""
    throttled: int
    """Answers 429, those of fault rules included."""


class KeyVaultProcess(ServerProcess):
    """One running vault. Killed or not, a later one on its folder has everything that was acknowledged."""

    WHAT = "vault"

    @override
    def __init__(self, child: subprocess.Popen[bytes], announced: Mapping[str, Any]) -> None:
        super().__init__(child, announced)
        self.ca = Path(announced["ca"])
        """A PEM file: what it is trusted by."""

    @classmethod
    def start(cls, state: Path, clock: Path, log: Path, port: int = 0, *, quota: bool = True) -> Self:
        """Start a vault on the folder `state` and return once it listens.

        `clock` is the file of a `MovableClock`; the vault's output is appended to `log`. Port 0 is the port of the last
        run on the same folder, else a free one. Raises ServerStartError.
        """
        arguments = ["--port", str(port), "--state", str(state.resolve()), "--clock", str(clock.resolve())]
        arguments.append("--quota" if quota else "--no-quota")
        return cls.launched("local.key_vault", arguments, state / ENDPOINT, log)

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
        return self.admin(method, path, body, self.ca)
