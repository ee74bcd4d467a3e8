"""The local stack as a whole: storage, vault, functions hosts, and the settings that make the app find them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

from local.functions_host.client import HostProcess
from local.key_vault.client import KeyVaultProcess
from local.storage import AzuriteProcess, Ports
from shared.azure.wiring import Adapters, load_catalog
from shared.clock import MovableClock
from shared.settings import Settings

ROOT: Final = Path(__file__).parent.parent
ANY_PORTS: Final[Ports] = (0, 0, 0)
AZURITE_PORTS: Final[Ports] = (10000, 10001, 10002)
VAULT_PORT: Final = 8443
HOST_PORT: Final = 7071
_KEK_LIFE: Final = timedelta(days=3 * 365)


@dataclass
class Stack:
    """Running processes and where they keep things. `running` makes one."""

    folder: Path
    azurite: AzuriteProcess
    vault: KeyVaultProcess
    clock: MovableClock
    settings_file: Path
    settings: Settings
    adapters: Adapters
    hosts: list[HostProcess] = field(default_factory=list)

    def add_host(self, *, port: int = 0, lease_s: int = 600) -> HostProcess:
        """Start one more functions host, as scale-out would."""
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
    """A stack without hosts in `folder`, with storage set up and every KEK of the catalog created; stopped at the end.

    With `keep` the storage is on disk and survives a restart on the same folder; the vault always does. Call it from
    the main thread: the children die with the thread that started them.
    """
    folder = folder.resolve()
    for part in ("vault", "host", "storage"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    clock = MovableClock(folder / "clock")
    # The vault first: it locks its folder, so that a second stack on this one ends before it touches the storage.
    vault = KeyVaultProcess.start(
        folder / "vault", folder / "clock", folder / "vault.log", port=vault_port, quota=quota
    )
    try:
        azurite = AzuriteProcess.start(folder / "storage" if keep else None, folder / "azurite.log", azurite_ports)
        try:
            settings_file = _write_settings(folder, azurite, vault)
            settings = Settings.parse(json.loads(settings_file.read_text())["Values"])
            adapters = Adapters(settings)
            adapters.create_storage()
            _create_keks(settings, adapters, clock)
            stack = Stack(folder, azurite, vault, clock, settings_file, settings, adapters)
            try:
                yield stack
            finally:
                for host in stack.hosts:
                    host.stop()
                adapters.close()
        finally:
            azurite.stop()
    finally:
        vault.stop()


def _write_settings(folder: Path, azurite: AzuriteProcess, vault: KeyVaultProcess) -> Path:
    """The app settings of this stack: those of the example, pointed at what runs here."""
    stack_file = folder / "stack.json"
    stack_file.write_text(json.dumps({"ca": str(vault.ca), "clock": str(folder / "clock")}))
    settings = json.loads((ROOT / "local.settings.example.json").read_text())
    settings["Values"] |= {
        "AzureWebJobsStorage": azurite.connection_string,
        "ATP_VAULT_URL": vault.url,
        "ATP_LOCAL_STACK": str(stack_file),
    }
    settings_file = folder / "local.settings.json"
    settings_file.write_text(json.dumps(settings, indent=2))
    return settings_file


def _create_keks(settings: Settings, adapters: Adapters, clock: MovableClock) -> None:
    """What the infrastructure does in Azure: the KEKs of the catalog, once."""
    there = {key.name for key in adapters.key_client.list_properties_of_keys()}
    for name in load_catalog(settings).keks.keys() - there:
        adapters.key_client.create_rsa_key(
            name, size=2048, expires_on=clock() + _KEK_LIFE, key_operations=["wrapKey", "unwrapKey"]
        )
