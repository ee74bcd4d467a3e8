"""What the jobs need from the outside, named by what is guaranteed.

Every method may raise `Transient` (nothing is known about whether it took effect; call again or re-read) and, where it
reads what others wrote, `Integrity` (what is stored cannot be what we stored). A return means: durable and visible.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from shared.secret import Secret
from shared.values import (
    Alert,
    AlertEntry,
    Budget,
    ConsumerReport,
    DeadLetter,
    EvidenceFile,
    FrozenPage,
    KekRecord,
    KekRun,
    KekUse,
    KekVersion,
    KeyPointer,
    Keyring,
    KeyShape,
    Kid,
    Notice,
    ObjectKind,
    RenewalPolicy,
    SecretRotation,
    SecretVersion,
    ShardProgress,
    SigningKey,
    SinkName,
    StoredCheckpoint,
    StoredRecord,
    Tenant,
    TenantId,
    VaultObject,
)

MAX_ROWS_PER_TRANSACTION = 100
"""Azure Table Storage's limit on the operations of one entity group transaction."""


class Deks(Protocol):
    """The tenants and their wrapped DEKs."""

    def read(self, tenant: TenantId) -> Keyring | None:
        """The tenant with all its DEKs, None if it was never added."""

    def scan(self, shard: int, after: TenantId | None, limit: int) -> Sequence[Tenant]:
        """Up to `limit` tenants of a shard in the order of their ids, beginning behind `after`; empty at the end."""

    def page(self, shard: int, after: TenantId | None, rows: int) -> Sequence[Keyring]:
        """Whole tenants with all their DEKs, in the order of their ids, beginning behind `after`; empty at the end.

        As many as fit into `rows` rows, a tenant's own one included, but at least one.
        """

    def add(self, tenant: Tenant) -> None:
        """Insert a new tenant. Conflict if it exists."""

    def replace(self, old: Keyring, new: Keyring) -> None:
        """Turn `old` into `new`: all of it or nothing. Conflict if the tenant or a changed DEK is not as read.

        At most MAX_ROWS_PER_TRANSACTION rows may differ, the tenant's included.
        """


class Vault(Protocol):
    """The configured key vaults, as far as KEKs go. A key id that belongs to none of them is Integrity."""

    def newest(self, name: str, vault: str | None = None) -> KekVersion:
        """The newest version of a key, in the first vault unless said otherwise. Rejected if there is none."""

    def version(self, kid: Kid) -> KekVersion:
        """That version of a key. Rejected if there is none."""

    def made_for(self, run: str, name: str, vault: str, shape: KeyShape) -> KekVersion:
        """The version of the key that was made for this run; makes it if there is none. Asked again, it is the same.

        It lives as long as the newest version does, and may wrap and unwrap.
        """

    def set_enabled(self, kid: Kid, *, enabled: bool) -> None:
        """Enable or disable that version; no error if it is so already. Rejected if there is none."""

    def wrap(self, kid: Kid, algorithm: str, dek: Secret) -> bytes:
        """Wrap at the vault, by A256KW: an RSA key wraps by its public half. UnusableKey if the vault forbids it."""

    def unwrap(self, kid: Kid, algorithm: str, wrapped: bytes) -> Secret:
        """Open what was wrapped with `kid` by RSA-OAEP-256 or A256KW.

        UnusableKey if the vault forbids it, Integrity if it does not open or cannot have been wrapped by us.
        """


class Keks(Protocol):
    """Which version of each KEK is primary, and its rotations."""

    def pointer(self, name: str) -> KeyPointer | None:
        """The pointer, None before the first version was adopted."""

    def add(self, pointer: KeyPointer) -> None:
        """Insert a new pointer. Conflict if there is one."""

    def read(self, name: str) -> KekRecord | None:
        """The pointer with the newest run, None before the first version was adopted."""

    def replace(self, old: KekRecord, new: KekRecord) -> None:
        """Turn `old` into `new`: pointer and run, or nothing. Conflict if either is not as read.

        A run of another generation than the old one is inserted.
        """

    def history(self, name: str) -> Sequence[KekRun]:
        """Every run of the KEK, oldest first."""


class Shards(Protocol):
    """What the runs know of each shard: checkpoints, and the pages of the manifest."""

    def read(self, run: str, pass_number: int, shard: int) -> ShardProgress | None:
        """The checkpoint of one pass over one shard, None before the first."""

    def of_pass(self, run: str, pass_number: int) -> Sequence[ShardProgress]:
        """The checkpoints of one pass, by shard."""

    def put(self, progress: ShardProgress) -> None:
        """Insert a checkpoint that has no etag, replace one that has. Conflict if it was put meanwhile."""

    def add_page(self, page: FrozenPage) -> None:
        """Insert a page. Conflict if there is one of that number."""

    def read_page(self, run: str, shard: int, number: int) -> FrozenPage | None:
        """That page, None if there is none."""


class Budgets(Protocol):
    """The schedules of the vaults."""

    def read(self, vault: str) -> Budget | None:
        """The schedule, None before the first lease."""

    def put(self, budget: Budget) -> Budget:
        """Insert a schedule that has no etag, replace one that has. Conflict if it was put meanwhile.

        Answers with what is stored then, so that it can be put again.
        """


class Records(Protocol):
    """The audit streams: rows that are only ever inserted."""

    def read(self, stream: int, first_seq: int, limit: int) -> Sequence[StoredRecord]:
        """Up to `limit` records from `first_seq` on, in order; empty behind the end."""

    def find(self, stream: int, event_id: str) -> int | None:
        """Sequence number of the event, None if it is not in the stream."""

    def append(self, records: Sequence[StoredRecord]) -> None:
        """Insert consecutive records of one stream: all or none. Conflict if a number or an event is taken.

        At most MAX_ROWS_PER_TRANSACTION / 2 records.
        """


class Checkpoints(Protocol):
    """The signed checkpoints of the audit trail: rows that are only ever inserted."""

    def read(self, first: int, limit: int) -> Sequence[StoredCheckpoint]:
        """Up to `limit` checkpoints from number `first` on, in order; empty behind the end."""

    def append(self, checkpoint: StoredCheckpoint) -> None:
        """Insert a checkpoint. Conflict if its number is taken."""


class Secrets(Protocol):
    """The secrets in the configured vaults; in the first one unless said otherwise."""

    def newest(self, name: str, vault: str | None = None) -> SecretVersion | None:
        """What is read by who names no version. None if there is no such secret, Rejected if it is disabled."""

    def versions(self, name: str, vault: str | None = None) -> Sequence[SecretVersion]:
        """Every version, disabled ones too, oldest first; none if there is no such secret.

        Those of one second are in the order of their ids, which is arbitrary.
        """

    def value(self, name: str, version: str, vault: str | None = None) -> Secret:
        """The value of that version. Rejected if there is none, or it is disabled."""

    def put(
        self, name: str, value: Secret, tags: Mapping[str, str], expires: datetime | None, vault: str | None = None
    ) -> SecretVersion:
        """A new version, the newest from now on. Asked again, there are two: look for the tags first.

        Text in UTF-8, at most 25 kB. Rejected if the vault keeps a deleted secret of that name.
        """

    def change(
        self, name: str, version: str, tags: Mapping[str, str], *, enabled: bool | None, vault: str | None = None
    ) -> None:
        """Set the tags of a version, all of them, and whether it is enabled; `None` leaves that as it is.

        Rejected if there is none.
        """


class SecretRotations(Protocol):
    """Where the secrets of the catalog stand."""

    def read(self, name: str) -> SecretRotation | None:
        """Where that secret stands, None before it was first looked at."""

    def page(self, after: str | None, limit: int) -> Sequence[SecretRotation]:
        """Up to `limit` of them in the order of their names, beginning behind `after`; empty at the end."""

    def put(self, rotation: SecretRotation) -> SecretRotation:
        """Insert one that has no etag, replace one that has; answers with what is stored then.

        Conflict if it was put meanwhile.
        """


class VaultObjects(Protocol):
    """Everything that the configured vaults hold, whoever made it; in the first vault unless said otherwise."""

    @property
    def vaults(self) -> Sequence[str]:
        """The vaults by their URLs without a slash, the first one first."""

    def of(self, kind: ObjectKind, vault: str | None = None) -> Iterator[VaultObject]:
        """Every living object of a kind with the attributes of its newest version, in no order.

        Read page by page as it is asked for: no more than a page is held. What comes or goes meanwhile may be missed.
        """

    def versions(self, kind: ObjectKind, name: str, vault: str | None = None) -> Sequence[VaultObject]:
        """Every version of an object, oldest first; none if there is no such object."""

    def renewal(self, kind: ObjectKind, name: str, vault: str | None = None) -> RenewalPolicy:
        """The policy of a key or certificate. Rejected if there is none such."""

    def set_renewal(self, kind: ObjectKind, name: str, policy: RenewalPolicy, vault: str | None = None) -> None:
        """Replace the policy of a key. Of a certificate only `rotates_before` can be set: its issuing sets the rest.

        Rejected if there is none such, or the vault takes no such policy.
        """


class AuditSigner(Protocol):
    """The vault's key that signs checkpoints. Nobody else may use it, and nobody takes it out."""

    def newest(self) -> SigningKey:
        """The newest version of the key. Rejected if there is none."""

    def version(self, kid: Kid) -> SigningKey:
        """That version of the key. Rejected if there is none."""

    def sign(self, kid: Kid, text: bytes) -> bytes:
        """An ECDSA signature over SHA-256 of the text, in DER. UnusableKey if the vault forbids it."""


class Evidence(Protocol):
    """The second copy of the audit trail: append-only files that nobody can change or delete for years."""

    def files(self) -> Sequence[EvidenceFile]:
        """Every file, in the order of their names."""

    def newest(self) -> EvidenceFile | None:
        """The file with the last name, None if there is none."""

    def create(self, name: str) -> None:
        """Make an empty file. Conflict if it exists."""

    def read(self, name: str, start: int, limit: int) -> bytes:
        """Up to `limit` bytes from `start` on; empty behind the end."""

    def append(self, name: str, at: int, data: bytes) -> None:
        """Append `data`, 4 MiB at most, as one block: all or nothing. Conflict if the file is not `at` bytes long."""


class TimestampAuthority(Protocol):
    """Somebody else who says when something existed, RFC 3161."""

    def stamp(self, message: bytes) -> bytes:
        """A granted time-stamp response over SHA-256 of the message, in DER. Rejected if the authority will not."""


class Queues(Protocol):
    """The job queues."""

    def send(self, queue: str, body: str, delay: timedelta = timedelta()) -> None:
        """Enqueue a message that becomes visible after `delay`. After a Transient it may be there, twice even.

        At most 64 KiB in UTF-8, of characters that XML 1.0 can carry.
        """


class Consumers(Protocol):
    """Who uses which DEK versions."""

    def report(self, report: ConsumerReport) -> None:
        """Keep the newest report of a consumer about a tenant."""

    def of(self, tenant: TenantId) -> Sequence[ConsumerReport]:
        """All reports about a tenant."""


class KekUses(Protocol):
    """Who has to do with which KEK versions."""

    def report(self, use: KekUse) -> None:
        """Keep the newest report of a consumer."""

    def all(self) -> Sequence[KekUse]:
        """The newest report of every consumer."""


class Alerts(Protocol):
    """What people must know."""

    def raise_alert(self, alert: Alert) -> None:
        """Record the alert and make it heard; one `id` is told once, and again when it gets more severe.

        So too when it has another text and is as severe. After it was resolved it is opened again.
        """

    def resolve(self, alert_id: str, by: str = "", because: str = "") -> None:
        """Say that the cause of an alert is gone; no error if it is resolved, or was never raised.

        `by` and `because`: a person says so, which is recorded.
        """

    def all(self) -> Sequence[Alert]:
        """Every alert, the resolved ones included, oldest first."""


class AlertRegister(Protocol):
    """Where alerts are kept, with what has still to be told of them."""

    def read(self, alert_id: str) -> AlertEntry | None:
        """The alert, None if it was never raised."""

    def put(self, entry: AlertEntry) -> None:
        """Insert one that has no etag, replace one that has. Conflict if it was put meanwhile."""

    def owing(self) -> Sequence[AlertEntry]:
        """Those of which something has still to be told or recorded, oldest first. One that is damaged is left out."""

    def all(self) -> Sequence[AlertEntry]:
        """Every one, oldest first."""


class AlertSink(Protocol):
    """Somebody who is told of alerts."""

    @property
    def name(self) -> SinkName:
        """Which one it is."""

    def send(self, notice: Notice) -> None:
        """Tell it. After a Transient it may have been told. Rejected if it will never take this."""


class DeadLetters(Protocol):
    """Messages that could not be processed."""

    def keep(self, letter: DeadLetter) -> None:
        """Store a letter; one message is stored once."""

    def all(self) -> Sequence[DeadLetter]:
        """Every letter that nobody has resolved."""

    def resolve(self, letter: DeadLetter) -> None:
        """Remove a letter that was sent again or dropped; no error if it is gone."""
