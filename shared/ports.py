"""What the jobs need from the outside, named by what is guaranteed.

Every method may raise `Transient` (nothing is known about whether it took effect; call again or re-read) and, where it
reads what others wrote, `Integrity` (what is stored cannot be what we stored). A return means: durable and visible.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

from shared.secret import Secret
from shared.values import (
    Alert,
    ConsumerReport,
    DeadLetter,
    KeyPointer,
    Keyring,
    Kid,
    PublicKek,
    StoredRecord,
    Tenant,
    TenantId,
)

MAX_ROWS_PER_TRANSACTION = 100
"""Azure Table Storage's limit on the operations of one entity group transaction."""


class Deks(Protocol):
    """The tenants and their wrapped DEKs."""

    def read(self, tenant: TenantId) -> Keyring | None:
        """The tenant with all its DEKs, None if it was never added."""

    def scan(self, shard: int, after: TenantId | None, limit: int) -> Sequence[Tenant]:
        """Up to `limit` tenants of a shard in the order of their ids, beginning behind `after`; empty at the end."""

    def add(self, tenant: Tenant) -> None:
        """Insert a new tenant. Conflict if it exists."""

    def replace(self, old: Keyring, new: Keyring) -> None:
        """Turn `old` into `new`: all of it or nothing. Conflict if the tenant or a changed DEK is not as read.

        At most MAX_ROWS_PER_TRANSACTION rows may differ, the tenant's included.
        """


class Vault(Protocol):
    """Key Vault, as far as KEKs go."""

    def newest(self, name: str) -> PublicKek:
        """The newest version of a key. Rejected if there is no such key."""

    def version(self, kid: Kid) -> PublicKek:
        """That version of a key. Rejected if there is none."""

    def unwrap(self, kid: Kid, algorithm: str, wrapped: bytes) -> Secret:
        """Open what was wrapped with `kid` by RSA-OAEP-256, which every `algorithm` must be.

        UnusableKey if the vault forbids it, Integrity if it does not open or cannot have been wrapped by us.
        """


class KeyPointers(Protocol):
    """Which version of each catalog key is primary."""

    def read(self, name: str) -> KeyPointer | None:
        """The pointer, None before the first version was adopted."""

    def add(self, pointer: KeyPointer) -> None:
        """Insert a new pointer. Conflict if there is one."""


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


class Alerts(Protocol):
    """What people must know."""

    def raise_alert(self, alert: Alert) -> None:
        """Record the alert and make it heard; one `id` is recorded once."""

    def all(self) -> Sequence[Alert]:
        """Every recorded alert, oldest first."""


class DeadLetters(Protocol):
    """Messages that could not be processed."""

    def keep(self, letter: DeadLetter) -> None:
        """Store a letter; one message is stored once."""

    def all(self) -> Sequence[DeadLetter]:
        """Every letter that nobody has resolved."""

    def resolve(self, letter: DeadLetter) -> None:
        """Remove a letter that was sent again or dropped; no error if it is gone."""
