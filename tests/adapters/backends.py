"""The two implementations of the ports, each with what a contract must be able to see or cause behind them."""

import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol, override

from azure.data.tables import TableClient
from azure.keyvault.certificates import CertificatePolicy, CertificatePolicyAction, LifetimeAction
from azure.storage.blob import BlobServiceClient
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from local.stack import Stack
from rotation.alert_job import AlertDesk
from shared.azure.audit_signer import AzureAuditSigner
from shared.azure.checkpoints import AzureCheckpoints
from shared.azure.deks import AzureDeks
from shared.azure.evidence import AzureEvidence
from shared.azure.keks import AzureKeks
from shared.azure.queues import AzureQueues
from shared.azure.records import AzureRecords
from shared.azure.registers import AzureAlertRegister, AzureConsumers, AzureDeadLetters
from shared.azure.runs import AzureBudgets, AzureKekUses, AzureShards
from shared.azure.secret_rotations import AzureSecretRotations
from shared.azure.secrets import AzureSecrets
from shared.azure.vault import AzureVault
from shared.azure.vault_objects import AzureVaultObjects
from shared.azure.wiring import Adapters
from shared.ports import (
    AlertRegister,
    Alerts,
    AuditSigner,
    Budgets,
    Checkpoints,
    Consumers,
    DeadLetters,
    Deks,
    Evidence,
    Keks,
    KekUses,
    Queues,
    Records,
    SecretRotations,
    Secrets,
    Shards,
    Vault,
    VaultObjects,
)
from shared.values import KekVersion, KeyKind, Kid, ObjectKind
from tests import simulator
from tests.simulator import SIGNING_KEY, World

QUEUE = "contract"
PATIENCE_S = 120.0


class Backend(Protocol):
    """All ports on storage that nobody has used yet, and two vaults of which each test has its own keys."""

    deks: Deks
    vault: Vault
    secrets: Secrets
    secret_rotations: SecretRotations
    keks: Keks
    shards: Shards
    budgets: Budgets
    kek_uses: KekUses
    records: Records
    checkpoints: Checkpoints
    audit_signer: AuditSigner
    evidence: Evidence
    queues: Queues
    consumers: Consumers
    alert_register: AlertRegister
    alerts: Alerts
    dead_letters: DeadLetters
    vault_objects: VaultObjects
    vaults: tuple[str, str]

    def new_kek(self, name: str, *operations: str, kind: KeyKind = KeyKind.RSA, other_vault: bool = False) -> Kid:
        """Create a version of a key, or the key; without operations it may do all that KEKs do."""

    def new_object(self, kind: ObjectKind, name: str, expires: datetime | None = None) -> str:
        """Create a version of an object in the first vault, tagged `made: here`; answers with the object's name.

        A certificate is valid for a year at most and renews 30 days before it expires, whatever `expires` says.
        """

    def new_signing_key(self) -> Kid:
        """Create a version of the key that signs checkpoints, or the key."""

    def key_name(self, name: str) -> str:
        """The name that a key or secret of that name has in the vaults that all tests share."""

    def pass_a_second(self) -> None:
        """Let so much time pass that what is made afterwards is known to be newer."""

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
        self.secrets = simulator.SimSecrets(self.world)
        self.secret_rotations = simulator.SimSecretRotations(self.world)
        self.keks = simulator.SimKeks(self.world)
        self.shards = simulator.SimShards(self.world)
        self.budgets = simulator.SimBudgets(self.world)
        self.kek_uses = simulator.SimKekUses(self.world)
        self.records = simulator.SimRecords(self.world)
        self.checkpoints = simulator.SimCheckpoints(self.world)
        self.audit_signer = simulator.SimSigner(self.world)
        self.evidence = simulator.SimEvidence(self.world)
        self.queues = simulator.SimQueues(self.world)
        self.consumers = simulator.SimConsumers(self.world)
        self.alert_register = simulator.SimAlertRegister(self.world)
        self.alerts = simulator.SimAlerts(self.world)
        self.dead_letters = simulator.SimDeadLetters(self.world)
        self.vault_objects = simulator.SimVaultObjects(self.world)
        self.vaults = simulator.VAULT_URL, simulator.OTHER_VAULT_URL

    @override
    def new_kek(self, name: str, *operations: str, kind: KeyKind = KeyKind.RSA, other_vault: bool = False) -> Kid:
        allowed = {"operations": frozenset(operations)} if operations else {}
        return self.world.add_kek(name, self.vaults[other_vault], kind=kind, **allowed)

    @override
    def new_object(self, kind: ObjectKind, name: str, expires: datetime | None = None) -> str:
        if kind is ObjectKind.CERTIFICATE:
            expires = self.world.now + timedelta(days=365)
        return self.world.add_object(kind, name, expires=expires, tags={"made": "here"}).name

    @override
    def new_signing_key(self) -> Kid:
        return self.world.add_signing_key()

    @override
    def key_name(self, name: str) -> str:
        return name

    @override
    def pass_a_second(self) -> None:
        self.world.now += timedelta(seconds=1)

    @override
    def disable(self, kid: Kid) -> None:
        if kid in self.world.signing_keys:
            self.world.signing_keys[kid] = replace(self.world.signing_keys[kid], enabled=False)
        else:
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
    """The adapters, on tables, a queue and a container of their own in a running stack with a second vault."""

    def __init__(self, stack: Stack, other: Adapters) -> None:
        self._stack = stack
        self._suffix = uuid.uuid4().hex[:12]
        self._tables: list[TableClient] = []
        self.pauses: list[float] = []
        self.deks_table = self._table("deks")
        self.audit_table = self._table("audit")
        self.checkpoints_table = self._table("checkpoints")
        self.keys_table = self._table("keys")
        self.consumers_table = self._table("consumers")
        self.alerts_table = self._table("alerts")
        self.letters_table = self._table("letters")
        self.runs_table = self._table("runs")
        self.budgets_table = self._table("budgets")
        self.queue = stack.adapters.queue_service.create_queue(f"{QUEUE}-{self._suffix}")
        self.deks = AzureDeks(self.deks_table)
        self.rotations_table = self._table("rotations")
        self.clients = stack.adapters.vault_clients | other.vault_clients
        self.keys = {url: clients.keys for url, clients in self.clients.items()}
        self.secret_clients = {url: clients.secrets for url, clients in self.clients.items()}
        self.vaults = stack.adapters.key_client.vault_url, other.key_client.vault_url
        self.vault = AzureVault(self.keys, sleep=self.pauses.append, clock=stack.clock)
        self.secrets = AzureSecrets(self.secret_clients, sleep=self.pauses.append)
        self.secret_rotations = AzureSecretRotations(self.rotations_table)
        self.keks = AzureKeks(self.keys_table)
        self.shards = AzureShards(self.runs_table)
        self.budgets = AzureBudgets(self.budgets_table)
        self.kek_uses = AzureKekUses(self.consumers_table)
        self.records = AzureRecords(self.audit_table)
        self.checkpoints = AzureCheckpoints(self.checkpoints_table)
        self.audit_signer = AzureAuditSigner(
            stack.adapters.key_client, self.vaults[0], self.key_name(SIGNING_KEY), sleep=self.pauses.append
        )
        blobs = BlobServiceClient.from_connection_string(stack.azurite.connection_string)
        self.container = blobs.create_container(f"evidence-{self._suffix}")
        self.evidence = AzureEvidence(self.container)
        self.queues = AzureQueues({QUEUE: self.queue})
        self.consumers = AzureConsumers(self.consumers_table)
        self.alert_register = AzureAlertRegister(self.alerts_table)
        self.alerts = AlertDesk(self.alert_register, stack.clock)
        self.dead_letters = AzureDeadLetters(self.letters_table)
        self.vault_objects = AzureVaultObjects(self.clients)

    @property
    def tables(self) -> list[TableClient]:
        """All of them."""
        return self._tables

    @override
    def new_kek(self, name: str, *operations: str, kind: KeyKind = KeyKind.RSA, other_vault: bool = False) -> Kid:
        key = self.keys[self.vaults[other_vault]].create_key(
            self.key_name(name),
            kind.value,
            size=256 if kind is KeyKind.OCT_HSM else 2048,
            key_operations=list(operations or ("wrapKey", "unwrapKey")),
        )
        return Kid(str(key.id))

    @override
    def new_object(self, kind: ObjectKind, name: str, expires: datetime | None = None) -> str:
        name, clients, tags = self.key_name(name), self.clients[self.vaults[0]], {"made": "here"}
        match kind:
            case ObjectKind.KEY:
                clients.keys.create_ec_key(name, expires_on=expires, tags=tags)
            case ObjectKind.SECRET:
                clients.secrets.set_secret(name, "of no use", expires_on=expires, tags=tags)
            case ObjectKind.CERTIFICATE:
                renewal = LifetimeAction(CertificatePolicyAction.auto_renew, days_before_expiry=30)
                policy = CertificatePolicy("Self", subject="CN=a", key_type="EC", lifetime_actions=[renewal])
                clients.certificates.begin_create_certificate(name, policy, tags=tags, _polling_interval=0).result()
        return name

    @override
    def new_signing_key(self) -> Kid:
        keys, name = self._stack.adapters.key_client, self.key_name(SIGNING_KEY)
        return Kid(str(keys.create_ec_key(name, curve="P-256", key_operations=["sign", "verify"]).id))

    @override
    def key_name(self, name: str) -> str:
        return f"{name}-{self._suffix}"

    @override
    def pass_a_second(self) -> None:
        self._stack.clock.move(timedelta(seconds=1))

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
        self.container.delete_container()
        self.container.close()

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


def wrapped_under(kek: KekVersion, dek: bytes) -> bytes:
    """A DEK as the vault can open it."""
    assert kek.public_key is not None
    return kek.public_key.encrypt(dek, padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None))
