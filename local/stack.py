"""The local stack as a whole: storage, vault, functions hosts, and the settings that make the app find them."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

from local.functions_host.client import HostProcess
from local.key_vault.client import KeyVaultProcess
from local.serving import ENDPOINT, claimed
from local.storage import AzuriteProcess, Ports
from local.timestamp_authority.client import TimestampAuthorityProcess
from shared.azure.wiring import Adapters, load_catalog
from shared.clock import MovableClock
from shared.settings import Settings

ROOT: Final = Path(__file__).parent.parent
ANY_PORTS: Final[Ports] = (0, 0, 0)
AZURITE_PORTS: Final[Ports] = (10000, 10001, 10002)
VAULT_PORT: Final = 8443
HOST_PORT: Final = 7071
_KEK_LIFE: Final = timedelta(days=2 * 365)


class PortTakenError(Exception):
    """Another process listens on a port that this stack was to have."""


@dataclass
class Stack:
    """Running processes and where they keep things. `running` makes one."""

    folder: Path
    azurite: AzuriteProcess
    vault: KeyVaultProcess
    authority: TimestampAuthorityProcess
    clock: MovableClock
    settings_file: Path
    settings: Settings
    adapters: Adapters
    hosts: list[HostProcess] = field(default_factory=list)

    def add_host(self, *, port: int = 0, lease_s: int = 600) -> HostProcess:
        """Start one more functions host, as scale-out would."""
        _ensure_free(port)
        name = f"host-{len(self.hosts) + 1}"
        host = HostProcess.start(
            ROOT,
            self.settings_file,
            self.folder / "host",
            self.folder / "clock",
            self.folder / f"{name}.log",
            name=name,
            lease_s=lease_s,
            port=port,
        )
        self.hosts.append(host)
        return host

    def use_catalog(self, text: str) -> None:
        """Have hosts that start from now on read this catalog."""
        file = self.folder / "catalog.toml"
        file.write_text(text, encoding="utf-8")
        self.use_settings(ATP_CATALOG=str(file))

    def use_settings(self, **values: str) -> None:
        """Have hosts that start from now on run with these app settings, too."""
        settings = json.loads(self.settings_file.read_text())
        settings["Values"] |= values
        self.settings_file.write_text(json.dumps(settings, indent=2))
        self.settings = Settings.parse(settings["Values"])

    def ended(self) -> tuple[str, Path] | None:
        """Which process of the stack has ended, and its log; None while all run."""
        # WNOWAIT: whoever started the process still learns how it ended.
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if found is None:
            return None
        for number, host in enumerate(self.hosts, 1):
            if host.pid == found.si_pid:
                return f"functions host {number}", self.folder / f"host-{number}.log"
        vault = json.loads((self.folder / "vault" / ENDPOINT).read_text())
        if vault["pid"] == found.si_pid:
            return "the vault", self.folder / "vault.log"
        if self.authority.pid == found.si_pid:
            return "the time-stamp authority", self.folder / "timestamps.log"
        return "storage", self.folder / "azurite.log"

    @property
    def request_logs(self) -> tuple[Path, Path]:
        """Where storage and vault log the requests that they get, as they get them."""
        return self.folder / "azurite.log", self.folder / "vault" / "requests.log"

    @property
    def host_logs(self) -> list[Path]:
        """What the functions hosts and the app in them have logged."""
        return sorted(self.folder.glob("host-*.log"))


@contextmanager
def running(
    folder: Path, *, keep: bool = False, azurite_ports: Ports = ANY_PORTS, vault_port: int = 0, quota: bool = True
) -> Iterator[Stack]:
    """A stack without hosts in `folder`, with storage set up and every key created; stopped at the end.

    With `keep` the storage is on disk and survives a restart on the same folder; the vault always does. Call it from
    the main thread: the children die with the thread that started them.
    """
    folder = folder.resolve()
    for part in ("vault", "host", "storage", "timestamps"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    with claimed(folder, f"another `make serve` runs on this folder: {folder}"):
        for port in (*azurite_ports, vault_port):
            _ensure_free(port)
        with _started(folder, azurite_ports, vault_port, keep=keep, quota=quota) as stack:
            yield stack


def _ensure_free(port: int) -> None:
    """PortTakenError if somebody listens there; 0 is always free."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        raise PortTakenError(f"port {port} cannot be used: another process has it") from None


@contextmanager
def _started(folder: Path, azurite_ports: Ports, vault_port: int, *, keep: bool, quota: bool) -> Iterator[Stack]:
    clock_file = folder / "clock"
    clock = MovableClock(clock_file)
    with ExitStack() as children:
        vault = KeyVaultProcess.start(folder / "vault", clock_file, folder / "vault.log", port=vault_port, quota=quota)
        children.callback(vault.stop)
        authority = TimestampAuthorityProcess.start(folder / "timestamps", clock_file, folder / "timestamps.log")
        children.callback(authority.stop)
        azurite = AzuriteProcess.start(folder / "storage" if keep else None, folder / "azurite.log", azurite_ports)
        children.callback(azurite.stop)
        settings_file = _write_settings(folder, azurite, vault, authority)
        settings = Settings.parse(json.loads(settings_file.read_text())["Values"])
        adapters = Adapters(settings)
        children.callback(adapters.close)
        adapters.create_storage()
        _create_keys(settings, adapters, clock)
        stack = Stack(folder, azurite, vault, authority, clock, settings_file, settings, adapters)
        try:
            yield stack
        finally:
            for host in stack.hosts:
                host.stop()


def _write_settings(
    folder: Path, azurite: AzuriteProcess, vault: KeyVaultProcess, authority: TimestampAuthorityProcess
) -> Path:
    """The app settings of this stack: those of the example, pointed at what runs here."""
    stack_file = folder / "stack.json"
    stack_file.write_text(json.dumps({"ca": str(vault.ca), "clock": str(folder / "clock")}))
    settings = json.loads((ROOT / "local.settings.example.json").read_text())
    settings["Values"] |= {
        "AzureWebJobsStorage": azurite.connection_string,
        "ATP_VAULT_URL": vault.url,
        "ATP_TSA_URL": authority.url,
        "ATP_LOCAL_STACK": str(stack_file),
    }
    settings_file = folder / "local.settings.json"
    settings_file.write_text(json.dumps(settings, indent=2))
    return settings_file


def _create_keys(settings: Settings, adapters: Adapters, clock: MovableClock) -> None:
    """What the infrastructure does in Azure: the KEKs of the catalog and the key that signs checkpoints, once."""
    there = {key.name for key in adapters.key_client.list_properties_of_keys()}
    for name in load_catalog(settings).keks.keys() - there:
        adapters.key_client.create_rsa_key(
            name, size=2048, expires_on=clock() + _KEK_LIFE, key_operations=["wrapKey", "unwrapKey"]
        )
    if settings.audit_signing_key not in there:
        adapters.key_client.create_ec_key(settings.audit_signing_key, curve="P-256", key_operations=["sign", "verify"])
