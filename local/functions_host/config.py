"""What the host is told: app settings (local.settings.json) and host.json, validated once.

Sources: learn.microsoft.com/azure/azure-functions/functions-host-json and
.../functions-bindings-storage-queue#hostjson-settings.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Self

type Binding = Mapping[str, object]
"""One binding of one function, as in a function.json."""

DEFAULT_FUNCTION_TIMEOUT = timedelta(minutes=30)
"""As on the Flex Consumption and Premium plans."""

_PERCENT_NAME = re.compile(r"%([^%]+)%")
_TIMESPAN = re.compile(r"(?:(\d+)\.)?(\d{1,2}):([0-5]\d):([0-5]\d(?:\.\d{1,7})?)")


class ConfigError(Exception):
    """The host cannot start as configured; the message says where and what is wrong."""


@dataclass(frozen=True)
class Settings:
    """The app settings."""

    values: Mapping[str, str]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file in the format of local.settings.json; raises `ConfigError`."""
        content = _json_object(path)
        values = content.get("Values")
        if content.get("IsEncrypted"):
            raise ConfigError(f"{path}: encrypted settings are not supported")
        if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
            raise ConfigError(f'{path}: "Values" must be an object that holds strings only')
        return cls(values)

    def export(self) -> None:
        """Put them into the environment of this process, where an app looks for them."""
        os.environ.update(self.values)

    def resolve(self, binding: Binding, function: str) -> Binding:
        """Replace every `%SETTING%` in the binding's texts; raises `ConfigError` for a missing setting."""

        def value_of(match: re.Match[str]) -> str:
            try:
                return self.values[match[1]]
            except KeyError:
                raise ConfigError(f"function {function}: app setting {match[1]} is not set") from None

        return {
            key: _PERCENT_NAME.sub(value_of, value) if isinstance(value, str) else value
            for key, value in binding.items()
        }

    def disables(self, function: str) -> bool:
        """Whether `AzureWebJobs.NAME.Disabled`, or its form without dots, says that nothing triggers the function.

        Source: learn.microsoft.com/azure/azure-functions/disable-function.
        """
        said = {name.lower(): value.lower() for name, value in self.values.items()}
        names = (f"azurewebjobs.{function.lower()}.disabled", f"azurewebjobs_{function.lower()}_disabled")
        return any(said.get(name) in ("true", "1") for name in names)

    def connection_string(self, binding: Binding, function: str) -> str:
        """The storage account of a binding; raises `ConfigError` when its setting holds no connection string."""
        name = binding.get("connection") or "AzureWebJobsStorage"
        for candidate in (f"{name}", f"AzureWebJobs{name}"):
            if value := self.values.get(candidate):
                return value
        raise ConfigError(f"function {function}: app setting {name} is not set (a storage connection string is needed)")


@dataclass(frozen=True)
class QueueOptions:
    """`extensions.queues` of host.json, with the real host's defaults."""

    batch_size: int = 16
    new_batch_threshold: int = 8
    max_dequeue_count: int = 5
    visibility_timeout: timedelta = timedelta()
    """How long a failed message rests before it is tried again."""
    max_polling_interval: timedelta = timedelta(minutes=1)
    base64: bool = True
    """Whether message bodies are base64 (`messageEncoding`)."""

    @classmethod
    def of(cls, section: Mapping[str, object]) -> Self:
        """Validate the section; raises `ConfigError`."""
        batch_size = _integer(section, "batchSize", cls.batch_size, 1, 32)
        encoding = section.get("messageEncoding", "base64")
        if not isinstance(encoding, str) or encoding.lower() not in ("base64", "none"):
            raise ConfigError(f'host.json: messageEncoding must be "base64" or "none", not {encoding!r}')
        return cls(
            batch_size=batch_size,
            new_batch_threshold=_integer(section, "newBatchThreshold", batch_size // 2, 0, 1000),
            max_dequeue_count=_integer(section, "maxDequeueCount", cls.max_dequeue_count, 1, 1_000_000),
            visibility_timeout=_duration(section, "visibilityTimeout", cls.visibility_timeout),
            max_polling_interval=_duration(section, "maxPollingInterval", cls.max_polling_interval),
            base64=encoding.lower() == "base64",
        )


@dataclass(frozen=True)
class HostJson:
    """What this host honours of host.json; everything else in the file is ignored."""

    queues: QueueOptions
    function_timeout: timedelta | None
    """None: unlimited."""
    route_prefix: str

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read and validate; raises `ConfigError`."""
        content = _json_object(path)
        if content.get("version") != "2.0":
            raise ConfigError(f'{path}: "version" must be "2.0"')
        extensions = _section(content, "extensions")
        prefix = _section(extensions, "http").get("routePrefix", "api")
        if not isinstance(prefix, str):
            raise ConfigError(f"host.json: routePrefix must be a string, not {prefix!r}")
        unlimited = content.get("functionTimeout") == "-1"
        return cls(
            queues=QueueOptions.of(_section(extensions, "queues")),
            function_timeout=None if unlimited else _duration(content, "functionTimeout", DEFAULT_FUNCTION_TIMEOUT),
            route_prefix=prefix.strip("/"),
        )


def _json_object(path: Path) -> dict[str, object]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: must hold a JSON object")
    return content


def _section(parent: Mapping[str, object], key: str) -> Mapping[str, object]:
    section = parent.get(key, {})
    if not isinstance(section, dict):
        raise ConfigError(f"host.json: {key} must be an object")
    return section


def _integer(section: Mapping[str, object], key: str, default: int, low: int, high: int) -> int:
    value = section.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ConfigError(f"host.json: {key} must be a whole number from {low} to {high}, not {value!r}")
    return value


def _duration(section: Mapping[str, object], key: str, default: timedelta) -> timedelta:
    if key not in section:
        return default
    match = _TIMESPAN.fullmatch(str(section[key]))
    if match is None:
        raise ConfigError(f'host.json: {key} must look like "hh:mm:ss", not {section[key]!r}')
    days, hours, minutes, seconds = match.groups(default="0")
    return timedelta(days=int(days), hours=int(hours), minutes=int(minutes), seconds=float(seconds))
