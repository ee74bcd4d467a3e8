"""The composition root: the one place that knows which adapter stands behind which port, and with what credentials.

In Azure credentials come from azure-identity and the time from the machine. On a local stack the storage is reached by
connection string, the vault's CA and the movable clock come from the stack's own file, and any token will do.
"""

import logging
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from azure.core.credentials import AccessToken, TokenCredential
from azure.data.tables import TableClient, TableServiceClient
from azure.identity import DefaultAzureCredential
from azure.keyvault.certificates import CertificateClient
from azure.keyvault.keys import KeyClient
from azure.keyvault.secrets import SecretClient
from azure.storage.blob import BlobServiceClient, ContainerClient
from azure.storage.queue import QueueServiceClient

from rotation import alert_formats
from rotation.alert_job import AlertDelivery, AlertDesk
from rotation.alerting import owners_in
from rotation.audit_job import AuditTrail
from rotation.catalog import Catalog, SecretPolicy, ensure_vaults, load
from rotation.checkpoint_job import Checkpointer
from rotation.dek_job import DekJobs
from rotation.ended_causes import EndedCauses
from rotation.evidence_job import EvidenceCopy, Reconciler
from rotation.expiry_job import ExpiryWatch, Overview
from rotation.health import Health
from rotation.in_turn import InTurn
from rotation.intents_job import IntentWatch
from rotation.kek_job import KekJobs
from rotation.message import PARSERS, POISON_SUFFIX
from rotation.planner_job import Planner
from rotation.primary_kek import PrimaryKek
from rotation.rewrap_job import ShardWalk
from rotation.rotators.base import Surroundings
from rotation.rotators.registry import READERS, ROTATORS
from rotation.scan_job import VaultScan
from rotation.secret import is_confirmed
from rotation.secret_job import SecretJobs
from rotation.secret_planner_job import SecretPlanner
from rotation.secret_versions import Versions, current_value
from rotation.sweep_job import RecordSweep
from rotation.tenant_cipher import CachePolicy, TenantCipher
from rotation.trail import Trail
from rotation.vault_budget import VaultBudget
from rotation.webhook_secrets import WebhookSecrets
from rotation.worker import Worker
from shared.alert_sinks import HttpAlertSink
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
from shared.azure.translate import RETRIES, pooled_transport, translated
from shared.azure.vault import AzureVault
from shared.azure.vault_objects import AzureVaultObjects, VaultClients
from shared.clock import Clock, MovableClock, system_clock
from shared.errors import Conflict
from shared.ports import AlertSink
from shared.secret import Secret
from shared.settings import Settings
from shared.timestamps import HttpTimestampAuthority
from shared.values import SinkName

log = logging.getLogger(__name__)

TABLES: Final = (
    "deks",
    "keys",
    "runs",
    "rotations",
    "budgets",
    "audit",
    "checkpoints",
    "consumers",
    "alerts",
    "deadletters",
)
QUEUES: Final = tuple(name + suffix for name in PARSERS for suffix in ("", POISON_SUFFIX))

LOCAL_EVIDENCE: Final = "audit-evidence"
"""The container of the evidence copy on a local stack, in its one storage account."""


class _AnyToken(TokenCredential):
    """What the Key Vault emulator accepts."""

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:  # noqa: ANN401, ARG002 - the SDK's signature
        return AccessToken("local", int(time.time()) + 3600)


class Adapters:
    """Every port on Azure, made when first asked for."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._local = settings.local_stack
        self._transport = pooled_transport()
        self._vault_transport = pooled_transport(self._local.ca) if self._local else self._transport

    @cached_property
    def clock(self) -> Clock:
        """The time."""
        return MovableClock(self._local.clock) if self._local else system_clock

    @cached_property
    def deks(self) -> AzureDeks:
        """Tenants and their DEKs."""
        return AzureDeks(self.table("deks"))

    @cached_property
    def records(self) -> AzureRecords:
        """Audit streams."""
        return AzureRecords(self.table("audit"))

    @cached_property
    def checkpoints(self) -> AzureCheckpoints:
        """Signed checkpoints of the audit streams."""
        return AzureCheckpoints(self.table("checkpoints"))

    @cached_property
    def audit_signer(self) -> AzureAuditSigner:
        """What signs them."""
        return AzureAuditSigner(self.key_client, self._settings.vault_url, self._settings.audit_signing_key)

    @cached_property
    def evidence(self) -> AzureEvidence | None:
        """The second copy of the audit trail; None, and a warning for whoever needs it, if the settings name none."""
        container = self._evidence_container
        if container is None:
            log.warning("the settings name no evidence copy")
            return None
        return AzureEvidence(container)

    @cached_property
    def keks(self) -> AzureKeks:
        """Primary versions of KEKs, and their rotations."""
        return AzureKeks(self.table("keys"))

    @cached_property
    def shards(self) -> AzureShards:
        """Checkpoints and manifests of the rotations of KEKs."""
        return AzureShards(self.table("runs"))

    @cached_property
    def budgets(self) -> AzureBudgets:
        """The schedules of the vaults."""
        return AzureBudgets(self.table("budgets"))

    @cached_property
    def kek_uses(self) -> AzureKekUses:
        """Who has to do with which KEK versions."""
        return AzureKekUses(self.table("consumers"))

    @cached_property
    def consumers(self) -> AzureConsumers:
        """Who uses which versions."""
        return AzureConsumers(self.table("consumers"))

    @cached_property
    def alert_register(self) -> AzureAlertRegister:
        """Alerts with their outboxes."""
        return AzureAlertRegister(self.table("alerts"))

    @cached_property
    def alerts(self) -> AlertDesk:
        """What people must know; for those who have no catalog to look owners up in."""
        return AlertDesk(self.alert_register, self.clock)

    @cached_property
    def alert_sinks(self) -> Sequence[AlertSink]:
        """Who is told of alerts."""
        settings = self._settings
        sinks: list[AlertSink] = []
        if settings.alert_webhook is not None:
            sinks.append(HttpAlertSink(SinkName.WEBHOOK, settings.alert_webhook, alert_formats.generic))
        if settings.alert_teams is not None:
            sinks.append(HttpAlertSink(SinkName.TEAMS, settings.alert_teams, alert_formats.teams))
        if settings.alert_pagerduty_key is not None:
            url, key = Secret(settings.alert_pagerduty_url.encode()), settings.alert_pagerduty_key
            sinks.append(HttpAlertSink(SinkName.PAGERDUTY, url, alert_formats.pagerduty, key))
        return sinks

    @cached_property
    def dead_letters(self) -> AzureDeadLetters:
        """Messages that wait for an operator."""
        return AzureDeadLetters(self.table("deadletters"))

    @cached_property
    def queues(self) -> AzureQueues:
        """The job queues."""
        return AzureQueues({name: self.queue_service.get_queue_client(name) for name in QUEUES})

    @cached_property
    def vault(self) -> AzureVault:
        """The KEKs, for those who wait a little when they are throttled."""
        return AzureVault(self._key_clients, clock=self.clock)

    @cached_property
    def budgeted_vault(self) -> AzureVault:
        """The KEKs, for those who keep to a budget and are told at once when it was wrong."""
        return AzureVault(self._key_clients, pauses=(), clock=self.clock)

    @cached_property
    def vault_objects(self) -> AzureVaultObjects:
        """Everything that the vaults hold."""
        return AzureVaultObjects(self.vault_clients)

    @cached_property
    def vault_clients(self) -> dict[str, VaultClients]:
        """The SDK's clients for every vault, by its URL."""
        return {
            url: VaultClients(
                keys,
                SecretClient(url, self._credential, **self._vault_options),
                CertificateClient(url, self._credential, **self._vault_options),
            )
            for url, keys in self._key_clients.items()
        }

    @cached_property
    def secrets(self) -> AzureSecrets:
        """The secrets in the vaults."""
        return AzureSecrets({url: clients.secrets for url, clients in self.vault_clients.items()})

    @cached_property
    def secret_rotations(self) -> AzureSecretRotations:
        """Where the secrets of the catalog stand."""
        return AzureSecretRotations(self.table("rotations"))

    def surroundings(self, policy: SecretPolicy) -> Surroundings:
        """What the rotator of a secret gets from the app."""
        own = Versions(self.secrets, policy.entry, self.clock)

        def dropped(generation: int) -> Secret | None:
            aside = own.aside(generation)
            return own.value_aside(aside.version) if aside else None

        def confirmed(slot: str) -> bool:
            row = self.secret_rotations.read(policy.name)
            return row is not None and is_confirmed(row, slot)

        return Surroundings(
            lambda name: current_value(self.secrets, name, policy.entry.vault),
            self._credential,
            os.urandom,
            self.clock,
            versions=own.all,
            value=own.value,
            dropped=dropped,
            confirmed=confirmed,
        )

    @property
    def key_client(self) -> KeyClient:
        """The SDK's client for the keys of the first vault."""
        return self._key_clients[self._settings.vault_url]

    @cached_property
    def _key_clients(self) -> dict[str, KeyClient]:
        urls = (self._settings.vault_url, *self._settings.more_vault_urls)
        return {url: KeyClient(url, self._credential, **self._vault_options) for url in urls}

    @property
    def _vault_options(self) -> dict[str, Any]:
        """Of the clients for vaults."""
        options: dict[str, Any] = RETRIES | {"transport": self._vault_transport}
        return options | {"verify_challenge_resource": False} if self._local else options

    @cached_property
    def queue_service(self) -> QueueServiceClient:
        """The SDK's client for queues; messages are plain text, as host.json has it."""
        options = self._storage_options
        secret = self._settings.connection_string
        if secret is not None:
            return QueueServiceClient.from_connection_string(secret.reveal().decode(), **options)
        return QueueServiceClient(str(self._settings.queue_url), credential=self._credential, **options)

    @property
    def _evidence_container(self) -> ContainerClient | None:
        """The SDK's client for the container of the evidence copy, None without one."""
        options = self._storage_options
        if self._settings.evidence_url is not None:
            return ContainerClient.from_container_url(self._settings.evidence_url, self._credential, **options)
        secret = self._settings.connection_string
        if self._local is None or secret is None:
            return None
        service = BlobServiceClient.from_connection_string(secret.reveal().decode(), **options)
        return service.get_container_client(LOCAL_EVIDENCE)

    @property
    def _storage_options(self) -> dict[str, Any]:
        """Of the clients for queues and blobs, which name their patience in another way than the one for tables."""
        return {
            "retry_total": RETRIES["retry_total"],
            "initial_backoff": 0.2,
            "increment_base": 1,
            "transport": self._transport,
        }

    def table(self, name: str) -> TableClient:
        """The SDK's client for a table."""
        return self._table_service.get_table_client(name)

    def create_storage(self) -> None:
        """Create the tables, queues and container that are missing. In Azure the infrastructure has made them."""
        for name in TABLES:
            with translated("creating a table"):
                self._table_service.create_table_if_not_exists(name)
        for name in QUEUES:
            try:
                with translated("creating a queue"):
                    self.queue_service.create_queue(name)
            except Conflict:
                continue
        container = self._evidence_container
        if container is not None:
            with suppress(Conflict), translated("creating a container"):
                container.create_container()

    def close(self) -> None:
        """Close the connections. For processes that end with a stack; a worker keeps its own for life."""
        self._transport.close()
        self._vault_transport.close()

    @cached_property
    def _table_service(self) -> TableServiceClient:
        options: dict[str, Any] = RETRIES | {"transport": self._transport}
        secret = self._settings.connection_string
        if secret is not None:
            return TableServiceClient.from_connection_string(secret.reveal().decode(), **options)
        return TableServiceClient(str(self._settings.table_url), credential=self._credential, **options)

    @cached_property
    def _credential(self) -> TokenCredential:
        return _AnyToken() if self._local else DefaultAzureCredential()


@dataclass(frozen=True, slots=True)
class App:
    """The parts that the triggers call."""

    worker: Worker
    planner: Planner
    secret_planner: SecretPlanner
    kek_jobs: KekJobs
    expiry: ExpiryWatch
    scan: VaultScan
    health: Health
    watch: InTurn
    alert_delivery: AlertDelivery
    audit_watch: InTurn
    reconciliation: InTurn  # of nothing where no evidence copy is configured


def load_catalog(settings: Settings) -> Catalog:
    """The catalog that the settings name; InvalidCatalog if it has mistakes, or a vault that they do not name."""
    catalog = load(settings.catalog, READERS)
    ensure_vaults(catalog, (settings.vault_url, *settings.more_vault_urls), str(settings.catalog))
    return catalog


def app(settings: Settings, adapters: Adapters | None = None) -> App:
    """The app, without having spoken to anything yet."""
    catalog = load_catalog(settings)
    policy = catalog.dek
    keks = {policy.kek: catalog.keks[policy.kek]}  # what wraps no DEK has nothing to rewrap
    ports = adapters or Adapters(settings)
    audit = AuditTrail(ports.records, ports.clock)
    alerts = AlertDesk(ports.alert_register, ports.clock, owners_in(catalog))
    kek = PrimaryKek(policy.kek, ports.keks, ports.vault, ports.clock)
    planner = Planner(ports.deks, ports.queues, policy, ports.clock)
    dek_jobs = DekJobs(ports.deks, ports.vault, kek, audit, policy, ports.clock, os.urandom)
    kek_jobs = KekJobs(
        ports.deks,
        ports.keks,
        ports.shards,
        ports.vault,
        ports.kek_uses,
        audit,
        ports.queues,
        alerts,
        keks,
        ports.clock,
        os.urandom,
    )
    walk = ShardWalk(
        ports.deks,
        ports.keks,
        ports.shards,
        ports.budgeted_vault,
        VaultBudget(ports.budgets, ports.clock),
        audit,
        ports.queues,
        alerts,
        keks,
        ports.clock,
    )
    secret_jobs = SecretJobs(
        catalog.secrets,
        ports.secret_rotations,
        ports.secrets,
        lambda policy: ROTATORS[policy.rotator].make(policy.name, policy.parameters, ports.surroundings(policy)),
        audit,
        alerts,
        ports.clock,
        os.urandom,
    )
    worker = Worker(
        dek_jobs,
        kek_jobs,
        walk,
        secret_jobs,
        planner,
        audit,
        ports.queues,
        alerts,
        ports.dead_letters,
        ports.clock,
    )
    secret_planner = SecretPlanner(catalog.secrets, ports.secret_rotations, ports.queues, alerts, ports.clock)
    objects = ports.vault_objects
    signing_key = settings.audit_signing_key
    overview = Overview(catalog, objects, ports.keks, ports.secret_rotations, signing_key)
    expiry = ExpiryWatch(catalog, overview, objects, kek_jobs, secret_planner, audit, alerts, ports.clock)
    scan = VaultScan(overview, objects, secret_planner, audit, alerts, ports.clock)
    trail = Trail(ports.records, ports.checkpoints)
    copy, copying, reconciling = None, [], []
    if ports.evidence is not None:
        copy = EvidenceCopy(trail, ports.evidence, alerts, ports.clock)
        copying = [copy.run]
        reconciling = [Reconciler(ports.records, trail, ports.evidence, alerts, ports.clock).run]
    checkpointer = Checkpointer(
        ports.records,
        ports.checkpoints,
        ports.audit_signer,
        copy,
        HttpTimestampAuthority(settings.timestamp_url) if settings.timestamp_url else None,
        audit,
        alerts,
        settings.audit_origin,
        ports.clock,
    )
    return App(
        worker,
        planner,
        secret_planner,
        kek_jobs,
        expiry,
        scan,
        Health(ports.deks, kek, ports.clock),
        InTurn(
            IntentWatch(trail, dek_jobs, ports.queues, alerts, ports.clock).run,
            RecordSweep(trail, alerts, ports.clock).run,
            EndedCauses(alerts, audit, ports.vault, ports.keks, ports.clock).run,
        ),
        AlertDelivery(ports.alert_register, alerts, ports.alert_sinks, audit, ports.clock),
        InTurn(checkpointer.run, *copying),
        InTurn(*reconciling),
    )


def webhook_secrets(settings: Settings, name: str, vault: str | None = None) -> WebhookSecrets:
    """What an ATP service signs or verifies webhooks with: one for each secret and process."""
    ports = Adapters(settings)
    return WebhookSecrets(ports.secrets, name, vault, ports.clock)


def tenant_cipher(settings: Settings, consumer: str, policy: CachePolicy | None = None) -> TenantCipher:
    """What an ATP service encrypts and decrypts with; `consumer` names the service and its instance."""
    ports = Adapters(settings)
    return TenantCipher(ports.deks, ports.vault, ports.consumers, ports.kek_uses, consumer, policy, ports.clock)
