"""The app's settings: parsed and checked once, at the edge. Nothing else reads the environment."""

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from shared.errors import InvalidSettings
from shared.redact import KNOWN_SECRETS
from shared.secret import Secret

_ROOT: Final = Path(__file__).parent.parent
_SECRET_PARTS: Final = ("accountkey", "sharedaccesskey", "sharedaccesssignature")
_NAMES: Final = ("ATP_", "AzureWebJobsStorage")
_TITLE: Final = "app settings: "
_DEVELOPMENT_STORAGE: Final = re.compile(r"(?i:UseDevelopmentStorage)=true")
_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")
# https://learn.microsoft.com/rest/api/storageservices/naming-and-referencing-containers--blobs--and-metadata
_CONTAINER: Final = re.compile(r"(?=.{3,63}$)[a-z0-9]+(-[a-z0-9]+)*")
_KEY_NAME: Final = re.compile(r"[0-9a-zA-Z-]{1,127}")
_PAGERDUTY: Final = "https://events.pagerduty.com/v2/enqueue"
# https://developer.pagerduty.com/docs/events-api-v2/overview/: an integration key has 32 characters
_ROUTING_KEY: Final = re.compile(r"[0-9A-Za-z]{32}")
_LEAST_SECRET: Final = 16  # characters; what is shorter proves nothing, and stands in many texts
_ORIGIN: Final = re.compile(r"[!-*,-~]{1,100}")  # https://c2sp.org/signed-note: no blanks and no plus in names


@dataclass(frozen=True, slots=True)
class LocalStack:
    """Where the processes of a local stack find what Azure would give them. Never present in Azure."""

    ca: Path  # certificate authority of the Key Vault emulator
    clock: Path  # see shared.clock.MovableClock


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be configured, with its default."""

    vault_url: str  # ATP_VAULT_URL, https://<vault>.vault.azure.net
    table_url: str | None  # AzureWebJobsStorage__tableServiceUri; with managed identity
    queue_url: str | None  # AzureWebJobsStorage__queueServiceUri; with managed identity
    connection_string: Secret | None  # AzureWebJobsStorage; instead of the two above, for local stacks
    more_vault_urls: tuple[str, ...] = ()  # ATP_MORE_VAULT_URLS, comma-separated: where KEKs come from or may go to
    catalog: Path = _ROOT / "rotation" / "catalog.toml"  # ATP_CATALOG, relative to the app's folder
    redaction: Path = _ROOT / "shared" / "redaction.toml"  # ATP_REDACTION, relative to the app's folder
    log_level: str = "INFO"  # ATP_LOG_LEVEL
    evidence_url: str | None = None  # ATP_EVIDENCE_URL, https://<account>.blob.core.windows.net/<container>
    audit_origin: str = "atp-audit"  # ATP_AUDIT_ORIGIN, the name in the signed checkpoints
    audit_signing_key: str = "audit-signing"  # ATP_AUDIT_SIGNING_KEY, in the vault of ATP_VAULT_URL
    local_stack: LocalStack | None = None  # ATP_LOCAL_STACK, a file that the local stack writes
    timestamp_url: str | None = None  # ATP_TSA_URL, an RFC 3161 time-stamp authority
    alert_webhook: Secret | None = None  # ATP_ALERT_WEBHOOK, a URL that takes alerts as generic JSON
    alert_teams: Secret | None = None  # ATP_ALERT_TEAMS, the URL of a Microsoft Teams workflow
    alert_pagerduty_key: Secret | None = None  # ATP_ALERT_PAGERDUTY_KEY, the routing key of a service
    alert_pagerduty_url: str = _PAGERDUTY  # ATP_ALERT_PAGERDUTY_URL, for accounts in the EU and for tests

    @staticmethod
    def parse(environment: Mapping[str, str]) -> "Settings":
        """The settings in app settings; InvalidSettings lists everything that is wrong with them."""
        given: Mapping[str, object] = environment  # it may come from JSON, which can hold anything
        mistakes = [
            f"{name}: must be text"
            for name, value in given.items()
            if name.startswith(_NAMES) and not isinstance(value, str)
        ]
        if mistakes:
            raise InvalidSettings(_TITLE + "; ".join(mistakes))

        def url(name: str, *, required: bool) -> str | None:
            value = environment.get(name, "").rstrip("/")
            if value and not _is_https(value):
                mistakes.append(f"{name}: must be an https URL of a host alone")
                return None
            if required and not value:
                mistakes.append(f"{name}: is missing")
            return value or None

        vault_url = url("ATP_VAULT_URL", required=True) or ""
        connection_string = environment.get("AzureWebJobsStorage", "")
        identity = not connection_string
        if connection_string:
            _keep_secret(connection_string)
            if not _is_connection_string(connection_string):
                mistakes.append("AzureWebJobsStorage: must be a connection string of a storage account")
        table_url = url("AzureWebJobsStorage__tableServiceUri", required=identity)
        queue_url = url("AzureWebJobsStorage__queueServiceUri", required=identity)
        log_level = environment.get("ATP_LOG_LEVEL") or "INFO"
        if log_level not in _LEVELS:
            mistakes.append(f"ATP_LOG_LEVEL: must be one of {', '.join(_LEVELS)}")
        more = [text.strip().rstrip("/") for text in environment.get("ATP_MORE_VAULT_URLS", "").split(",")]
        more_vault_urls = tuple(dict.fromkeys(text for text in more if text and text != vault_url))
        if not all(_is_https(text) for text in more_vault_urls):
            mistakes.append("ATP_MORE_VAULT_URLS: must be URLs like https://name.vault.azure.net, separated by commas")
        evidence_url = environment.get("ATP_EVIDENCE_URL", "").rstrip("/")
        if evidence_url and not _is_container(evidence_url):
            mistakes.append("ATP_EVIDENCE_URL: must be like https://account.blob.core.windows.net/container")
        audit_origin = environment.get("ATP_AUDIT_ORIGIN") or "atp-audit"
        if not _ORIGIN.fullmatch(audit_origin):
            mistakes.append("ATP_AUDIT_ORIGIN: must be 1 to 100 ASCII characters without blanks and plus signs")
        audit_signing_key = environment.get("ATP_AUDIT_SIGNING_KEY") or "audit-signing"
        if not _KEY_NAME.fullmatch(audit_signing_key):
            mistakes.append("ATP_AUDIT_SIGNING_KEY: must be the name of a key, of letters, digits and dashes")
        timestamp_url = environment.get("ATP_TSA_URL", "")
        if timestamp_url and not _is_timestamp_authority(timestamp_url):
            mistakes.append("ATP_TSA_URL: must be an https or http URL without credentials and query")
        for name in ("ATP_ALERT_WEBHOOK", "ATP_ALERT_TEAMS"):
            text = environment.get(name, "")
            _keep_secret_url(text)
            if text and not _is_sink(text):
                mistakes.append(f"{name}: must be an https URL, or an http one on this machine")
        routing_key = environment.get("ATP_ALERT_PAGERDUTY_KEY", "")
        if routing_key:
            _keep(routing_key)
            if not _ROUTING_KEY.fullmatch(routing_key):
                mistakes.append("ATP_ALERT_PAGERDUTY_KEY: must be a routing key, 32 letters and digits")
        pagerduty_url = environment.get("ATP_ALERT_PAGERDUTY_URL") or _PAGERDUTY
        if not _is_sink(pagerduty_url):
            mistakes.append("ATP_ALERT_PAGERDUTY_URL: must be an https URL, or an http one on this machine")
        local_stack = _local_stack(environment.get("ATP_LOCAL_STACK", ""), vault_url, mistakes)
        if evidence_url and local_stack:
            mistakes.append("ATP_EVIDENCE_URL: not on a local stack, which has the copy in its own storage")
        if mistakes:
            raise InvalidSettings(_TITLE + "; ".join(mistakes))
        return Settings(
            vault_url,
            table_url,
            queue_url,
            None if identity else Secret(connection_string.encode()),
            more_vault_urls,
            _ROOT / (environment.get("ATP_CATALOG") or "rotation/catalog.toml"),
            _ROOT / (environment.get("ATP_REDACTION") or "shared/redaction.toml"),
            log_level,
            evidence_url or None,
            audit_origin,
            audit_signing_key,
            local_stack,
            timestamp_url or None,
            _secret(environment.get("ATP_ALERT_WEBHOOK", "")),
            _secret(environment.get("ATP_ALERT_TEAMS", "")),
            _secret(routing_key),
            pagerduty_url,
        )


def _secret(text: str) -> Secret | None:
    return Secret(text.encode()) if text else None


def _is_https(url: str) -> bool:
    """Whether it names a host and nothing else: credentials in a URL would not be kept secret."""
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and url.lower() == f"https://{parts.netloc}".lower() and "@" not in parts.netloc
    except ValueError:
        return False


def _is_container(url: str) -> bool:
    """Whether it names a container on a host, and nothing else."""
    host, _, container = url.rpartition("/")
    return _is_https(host) and _CONTAINER.fullmatch(container) is not None


def _is_timestamp_authority(url: str) -> bool:
    """Whether it names a service and nothing that is a secret; http will do, because what it says is signed."""
    return _is_service(url) and url.isascii() and url.isprintable() and not set(url) & set(" @?#")


def _is_sink(url: str) -> bool:
    """Whether it is a URL to which a secret may be sent, without credentials in front of its host."""
    if not _is_service(url) or not url.isascii() or not url.isprintable() or " " in url:
        return False
    parts = urlsplit(url)
    is_here = parts.hostname in ("localhost", "127.0.0.1", "::1")
    return "@" not in parts.netloc and (parts.scheme == "https" or is_here)


def _is_connection_string(text: str) -> bool:
    """Whether it names an account and proves who asks; the SDKs would say so only when first used, by a ValueError."""
    if _DEVELOPMENT_STORAGE.fullmatch(text):
        return True
    pairs = [part.partition("=") for part in text.rstrip(";").split(";")]
    given = {name.lower(): value for name, _, value in pairs}
    if not all(name and value and value == value.strip() for name, value in given.items()):
        return False
    named = "accountname" in given or {"queueendpoint", "tableendpoint"} <= given.keys()
    proven = _is_base64(given["accountkey"]) if "accountkey" in given else "sharedaccesssignature" in given
    protocol = given.get("defaultendpointsprotocol", "https")
    endpoints = [value for name, value in given.items() if name.endswith("endpoint")]
    return (
        named
        and proven
        and ("accountkey" not in given or "accountname" in given)
        and all(_is_service(url) for url in (*endpoints, f"{protocol}://{given.get('accountname', 'account')}"))
    )


def _is_base64(text: str) -> bool:
    try:
        return bool(base64.b64decode(text, validate=True))
    except ValueError:
        return False


def _is_service(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _keep_secret(connection_string: str) -> None:
    """Masked for as long as the process lives, and so is the key in it where it stands alone."""
    KNOWN_SECRETS.add(connection_string.encode(), for_ever=True)
    for part in connection_string.split(";"):
        name, _, value = part.partition("=")
        if name.strip().lower() in _SECRET_PARTS:
            KNOWN_SECRETS.add(value.strip().encode(), for_ever=True)


def _keep_secret_url(url: str) -> None:
    """Masked for as long as the process lives, and what stands behind its host too: libraries name that alone."""
    _keep(url)
    _, slash, behind = url.partition("://")[2].partition("/")
    _keep(slash + behind)


def _keep(secret: str) -> None:
    if len(secret) >= _LEAST_SECRET:
        KNOWN_SECRETS.add(secret.encode(), for_ever=True)


def _local_stack(path: str, vault_url: str, mistakes: list[str]) -> LocalStack | None:
    if not path:
        return None
    if urlsplit(vault_url).hostname not in ("localhost", "127.0.0.1"):
        # With it an app takes its time from a file and its token from nobody: never against a real vault.
        mistakes.append("ATP_LOCAL_STACK: only allowed with a vault on localhost")
        return None
    try:
        stack = json.loads((_ROOT / path).read_text(encoding="utf-8"))
        return LocalStack(ca=Path(stack["ca"]), clock=Path(stack["clock"]))
    except (OSError, ValueError, KeyError, TypeError):
        mistakes.append("ATP_LOCAL_STACK: no local stack is described by that file; start one with `make serve`")
        return None
