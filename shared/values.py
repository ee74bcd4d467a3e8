"""The values that cross module borders: what a row, a message or a key *means*, without how it is stored."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, NewType

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from shared.errors import Rejected

TenantId = NewType("TenantId", str)
Kid = NewType("Kid", str)
"""Full versioned Key Vault id of a key, `https://<vault>/keys/<name>/<version>`."""
Etag = NewType("Etag", str)
"""What the store said about the row when it was read; a write names it and fails if the row has changed since."""

SHARDS: Final = 64
"""Into how many parts the tenants are divided for parallel scans. Part of every row's address: never changes."""

_TENANT_ID: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")


def tenant_id(text: object) -> TenantId:
    """`text` as a tenant id: 1 to 64 of a-z, 0-9, dot, dash, underscore; begins and ends with a letter or digit."""
    if not isinstance(text, str) or not _TENANT_ID.fullmatch(text):
        raise Rejected("not a tenant id: 1 to 64 of a-z 0-9 . _ - beginning and ending with a letter or digit")
    return TenantId(text)


def shard_of(tenant: TenantId) -> int:
    """The shard a tenant belongs to, evenly spread and for ever the same."""
    return int.from_bytes(hashlib.sha256(tenant.encode()).digest()[:4]) % SHARDS


class KeyState(StrEnum):
    """What a key version may be used for. The moves between states are in rotation/lifecycle.py."""

    PENDING = "pending"  # created, used for nothing yet
    PRIMARY = "primary"  # new operations
    SECONDARY = "secondary"  # the previous one, still used during dual running
    RETIRED = "retired"  # only decrypts or verifies
    ARCHIVED = "archived"  # historical use, access restricted
    REVOKED = "revoked"  # compromised, trusted for nothing


class TenantState(StrEnum):
    """Where a tenant is in its life."""

    ACTIVE = "active"  # reads and writes, DEK rotates
    OFFBOARDED = "offboarded"  # reads only, DEK no longer rotates, retention period runs
    DESTROYING = "destroying"  # DEKs are being removed, nothing can be read any more
    DESTROYED = "destroyed"  # DEKs are gone; the row stays so that the name is never used again


@dataclass(frozen=True, slots=True)
class WrappedDek:
    """One version of a tenant's DEK as it is stored: never in the clear."""

    version: int  # 1, 2, 3 ...
    state: KeyState
    wrapped: bytes
    kid: Kid  # what wrapped it
    algorithm: str  # how
    wrap_generation: int  # 1 at birth, one more by every rewrap
    check_value: bytes  # 32 bytes, see rotation/wrapping.py
    created: datetime
    job: str  # id of the job that made it
    demoted: datetime | None = None  # when it stopped being primary
    etag: Etag | None = None


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant's row: its lifecycle and the pointer to its primary DEK. Every change to its keys moves this row."""

    tenant: TenantId
    state: TenantState
    added: datetime
    primary: int = 0  # version of the primary DEK, 0 before the first
    primary_since: datetime | None = None
    dual_running_since: datetime | None = None  # demotion of the oldest DEK still secondary
    offboarded: datetime | None = None
    destroy_after: datetime | None = None
    added_by: str = ""  # ids of the jobs that made it so
    offboarded_by: str = ""
    reinstated_by: str = ""
    destroyed_by: str = ""
    etag: Etag | None = None


@dataclass(frozen=True, slots=True)
class Keyring:
    """A tenant with all its DEK versions, ascending: what one entity group transaction can change as a whole."""

    tenant: Tenant
    deks: tuple[WrappedDek, ...] = ()

    def version(self, number: int) -> WrappedDek | None:
        """The DEK of that version, None if there is none."""
        return next((dek for dek in self.deks if dek.version == number), None)


@dataclass(frozen=True, slots=True)
class PublicKek:
    """One version of a KEK as the vault describes it: enough to wrap locally and to judge whether we may."""

    kid: Kid
    public_key: RSAPublicKey
    enabled: bool
    not_before: datetime | None
    expires: datetime | None
    operations: frozenset[str]  # JSON Web Key names: wrapKey, unwrapKey, ...


@dataclass(frozen=True, slots=True)
class KeyPointer:
    """Which version of a catalog key new operations use."""

    name: str
    kid: Kid
    since: datetime
    etag: Etag | None = None


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """An audit record at its place in a stream: its canonical JSON and its hash."""

    stream: int
    seq: int  # 1, 2, 3 ... without gaps
    event_id: str  # deterministic: the same event is stored once
    canonical: bytes
    leaf_hash: bytes  # 32 bytes


class Severity(StrEnum):
    """How urgently a person must look."""

    WARNING = "warning"  # next working day
    CRITICAL = "critical"  # now


@dataclass(frozen=True, slots=True)
class Alert:
    """Something a person must know. The same `id` is raised once."""

    id: str
    severity: Severity
    what: str
    subject: str  # the object concerned: `dek/acme`, `queue/rotation-jobs`
    raised: datetime
    details: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A queue message that could not be processed, kept until an operator sends it again or drops it."""

    queue: str
    id: str  # job id, or digest of a body that is no job
    reason: str
    body: str  # as received, or masked where it did not even parse
    kept: datetime
    can_resend: bool


@dataclass(frozen=True, slots=True)
class ConsumerReport:
    """Which DEK versions of a tenant one process of an ATP service uses."""

    consumer: str
    tenant: TenantId
    encrypts_with: int
    decrypts_with: tuple[int, ...]
    seen: datetime
