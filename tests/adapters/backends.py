"""The two implementations of the ports, each with what a contract must be able to see or cause behind them."""

import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Protocol, override

from azure.data.tables import TableClient
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from local.stack import Stack
from shared.azure.deks import AzureDeks
from shared.azure.queues import AzureQueues
from shared.azure.records import AzureRecords
from shared.azure.registers import AzureAlerts, AzureConsumers, AzureDeadLetters, AzureKeyPointers
from shared.azure.vault import AzureVault
from shared.ports import Alerts, Consumers, DeadLetters, Deks, KeyPointers, Queues, Records, Vault
from shared.values import Kid, PublicKek
from tests import simulator
from tests.simulator import World

QUEUE = "contract"
PATIENCE_S = 30.0


class Backend(Protocol):
    """All ports on storage that nobody has used yet, and a vault of which each test has its own keys."""

    deks: Deks
    vault: Vault
    key_pointers: KeyPointers
    records: Records
    queues: Queues
    consumers: Consumers
    alerts: Alerts
    dead_letters: DeadLetters

    def new_kek(self, name: str, *operations: str) -> Kid:
        """Create a version of a key, or the key; without operations it may do all that KEKs do."""

    def disable(self, kid: Kid) -> None:
        """Disable that version."""

    def vault_operations(self) -> int:
        """What the vault was asked for so far."""

    def received(self) -> list[str]:
        """The messages of the queue QUEUE that are visible, taken off it."""

    def await_message(self, delay: timedelta) -> str:
        """The next message of that queue, which becomes visible after `delay`."""

    def close(self) -> None:
        """Forget what the test has made."""


class SimulatorBackend(Backend):
    """The simulator."""

    def __init__(self) -> None:
        self.world = World()
        self.deks = simulator.SimDeks(self.world)
        self.vault = simulator.SimVault(self.world)
        self.key_pointers = simulator.SimKeyPointers(self.world)
        self.records = simulator.SimRecords(self.world)
        self.queues = simulator.SimQueues(self.world)
        self.consumers = simulator.SimConsumers(self.world)
        self.alerts = simulator.SimAlerts(self.world)
        self.dead_letters = simulator.SimDeadLetters(self.world)

    @override
    def new_kek(self, name: str, *operations: str) -> Kid:
        return self.world.add_kek(name, **({"operations": frozenset(operations)} if operations else {}))

    @override
    def disable(self, kid: Kid) -> None:
        self.world.keks[kid] = replace(self.world.keks[kid], enabled=False)

    @override
    def vault_operations(self) -> int:
        return self.world.vault_operations

    @override
    def received(self) -> list[str]:
        visible = [message for message in self.world.messages if message.visible_at <= self.world.now]
        for message in visible:
            self.world.messages.remove(message)
        return [message.body for message in visible]

    @override
    def await_message(self, delay: timedelta) -> str:
        self.world.now += delay
        (body,) = self.received()
        return body

    @override
    def close(self) -> None:
        """Nothing outlives it."""


class AzureBackend(Backend):
    """The adapters, on tables and a queue of their own in a running stack."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._suffix = uuid.uuid4().hex[:12]
        self._tables: list[TableClient] = []
        self.pauses: list[float] = []
        self.deks_table = self._table("deks")
        self.audit_table = self._table("audit")
        self.keys_table = self._table("keys")
        self.consumers_table = self._table("consumers")
        self.alerts_table = self._table("alerts")
        self.letters_table = self._table("letters")
        self.queue = stack.adapters.queue_service.create_queue(f"{QUEUE}-{self._suffix}")
        self.deks = AzureDeks(self.deks_table)
        self.vault = AzureVault(stack.adapters.key_client, sleep=self.pauses.append)
        self.key_pointers = AzureKeyPointers(self.keys_table)
        self.records = AzureRecords(self.audit_table)
        self.queues = AzureQueues({QUEUE: self.queue})
        self.consumers = AzureConsumers(self.consumers_table)
        self.alerts = AzureAlerts(self.alerts_table)
        self.dead_letters = AzureDeadLetters(self.letters_table)

    @property
    def tables(self) -> list[TableClient]:
        """All of them."""
        return self._tables

    @override
    def new_kek(self, name: str, *operations: str) -> Kid:
        key = self._stack.adapters.key_client.create_rsa_key(
            f"{name}-{self._suffix}", size=2048, key_operations=list(operations or ("wrapKey", "unwrapKey"))
        )
        return Kid(str(key.id))

    @override
    def disable(self, kid: Kid) -> None:
        name, version = kid.split("/")[-2:]
        self._stack.adapters.key_client.update_key_properties(name, version, enabled=False)

    @override
    def vault_operations(self) -> int:
        return sum(self._stack.vault.counts().operations.values())

    @override
    def received(self) -> list[str]:
        bodies: list[str] = []
        for message in self.queue.receive_messages(messages_per_page=32):
            bodies.append(message.content)
            self.queue.delete_message(message)
        return bodies

    @override
    def await_message(self, delay: timedelta) -> str:
        return awaited(lambda: next(iter(self.received()), None), "the delayed message")

    @override
    def close(self) -> None:
        for table in self._tables:
            table.delete_table()
        self.queue.delete_queue()

    def _table(self, name: str) -> TableClient:
        table = self._stack.adapters.table(name + self._suffix)
        table.create_table()
        self._tables.append(table)
        return table


def awaited[T](probe: Callable[[], T | None], what: str) -> T:
    """What `probe` finds as soon as it finds something."""
    deadline = time.monotonic() + PATIENCE_S
    while (found := probe()) is None:
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.05)
    return found


def name_of(kid: Kid) -> str:
    """The key's name."""
    return kid.split("/")[-2]


def wrapped_under(kek: PublicKek, dek: bytes) -> bytes:
    """A DEK as the vault can open it."""
    return kek.public_key.encrypt(dek, padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None))
