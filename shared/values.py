"""The values that cross module borders: what a row, a message or a key *means*, without how it is stored."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, NewType

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
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


class KeyKind(StrEnum):
    """Where a KEK lives and what it is, by its JSON Web Key type as Key Vault spells it."""

    RSA = "RSA"  # software-protected; wraps by its public key
    RSA_HSM = "RSA-HSM"  # the same in an HSM
    OCT_HSM = "oct-HSM"  # AES-256 in a Managed HSM; wraps and unwraps there only


@dataclass(frozen=True, slots=True)
class KeyShape:
    """What a KEK is made as."""

    kind: KeyKind
    bits: int


@dataclass(frozen=True, slots=True)
class Wrap:
    """A DEK as one KEK version has wrapped it."""

    wrapped: bytes
    kid: Kid
    algorithm: str


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
    previous: Wrap | None = None  # the same DEK under the other KEK version of a rotation that is not closed
    etag: Etag | None = None

    @property
    def wrap(self) -> Wrap:
        """How it is wrapped now."""
        return Wrap(self.wrapped, self.kid, self.algorithm)


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
class KekVersion:
    """One version of a KEK as the vault describes it: enough to wrap where that can be done here, and to judge it."""

    kid: Kid
    public_key: RSAPublicKey | None  # None: a symmetric key, which never leaves its HSM
    enabled: bool
    not_before: datetime | None
    expires: datetime | None
    operations: frozenset[str]  # JSON Web Key names: wrapKey, unwrapKey, ...
    kind: KeyKind = KeyKind.RSA
    run: str = ""  # id of the KEK rotation that had it made; empty for a version that came into being otherwise
    created: datetime | None = None

    @property
    def shape(self) -> KeyShape:
        """What it was made as."""
        return KeyShape(self.kind, self.public_key.key_size if self.public_key else 256)


@dataclass(frozen=True, slots=True)
class KeyPointer:
    """Which version of a catalog key new operations use."""

    name: str
    kid: Kid
    since: datetime
    previous_kid: Kid | None = None  # what new DEKs are wrapped under too, while a rotation can be rolled back
    generation: int = 0  # number of the newest rotation of this key
    etag: Etag | None = None


class Phase(StrEnum):
    """Where the rotation of a KEK stands. The moves between phases are in rotation/kek.py."""

    PLANNED = "planned"  # counting, and freezing the manifest of what must come out unchanged
    CANARY = "canary"  # the new version exists and has to prove itself on real keys
    FLIPPED = "flipped"  # new DEKs are wrapped under the new version
    SWEEPING = "sweeping"  # stored DEKs are rewrapped until two whole passes find none left
    SCRUBBING = "scrubbing"  # everything is compared with the manifest, samples are opened at the vault
    GRACE = "grace"  # both versions work; waiting for time and consumers
    RETIRING = "retiring"  # two more passes, then the old version is disabled
    SOAKING = "soaking"  # the old version is disabled, and enabled again if somebody misses it
    CLOSING = "closing"  # the kept previous wraps are dropped
    CLOSED = "closed"  # done
    PAUSED = "paused"  # by an operator; resumes where it was
    ROLLING_BACK = "rolling-back"  # new DEKs go under the old version, stored ones go back to it
    ROLLED_BACK = "rolled-back"  # as if it had not begun; the new version stays enabled, unused
    FAILED = "failed"  # refused before anything was changed


@dataclass(frozen=True, slots=True)
class Move:
    """A step of a run that has been decided and is being carried out: it ends, whoever was killed meanwhile."""

    at: Phase  # where it was decided
    to: Phase
    job: str  # id of what asked for it, the same for every retry
    action: str  # as the audit trail names it
    actor: str
    trigger: str
    reason: str
    applied: bool = False  # the run has moved; its outcome may not be recorded yet
    failure: str = ""  # why it could not be made
    shard: int | None = None  # rollback and resume of one shard
    tenant: TenantId | None = None  # the same of one tenant


@dataclass(frozen=True, slots=True)
class KekRun:
    """One rotation of one KEK."""

    kek: str
    generation: int  # 1, 2, 3 ...
    phase: Phase
    started: datetime
    phase_since: datetime
    old_kid: Kid
    request: str  # id of the order that started it
    new_kid: Kid | None = None  # None until the canary phase has it made
    shape: KeyShape | None = None  # to be made so; None: like the old version
    vault: str | None = None  # to be made there; None: where the old version is
    deadline: datetime | None = None
    compromised: bool = False  # the old version is in wrong hands: only forward
    resumes: Phase | None = None  # of a paused run: the phase it goes back to
    flipped: datetime | None = None  # when the write target moved last
    retired: datetime | None = None  # when the old version was disabled
    has_retired: bool = False  # the old version was to be disabled at least once
    dropping: bool = False  # kept previous wraps may be gone: it has been closing at least once
    step: int = 0  # number of the moves so far
    pass_number: int = 0  # of the current walk over all shards, never used again
    pass_since: datetime | None = None
    fanned_out: bool = False  # every shard has its message of this pass
    resent: datetime | None = None  # when somebody last began to send messages of this pass (again)
    clean_passes: int = 0  # how many in a row have found nothing to do
    held_shards: tuple[int, ...] = ()  # rolled back and kept there
    held_tenants: tuple[TenantId, ...] = ()
    rows: int = 0  # DEKs in the manifest
    root_before: str = ""  # of the manifest at the freeze, hex
    root_after: str = ""  # of the same DEKs at the end
    births: int = 0
    removed: int = 0
    verdict: str = ""  # for people: why it is where it is
    move: Move | None = None
    etag: Etag | None = None

    @property
    def id(self) -> str:
        """Name of the run, sortable."""
        return f"{self.kek}.{self.generation:06d}"


@dataclass(frozen=True, slots=True)
class KekRecord:
    """A KEK with its newest run: what one transaction can change as a whole."""

    pointer: KeyPointer
    run: KekRun | None = None


class ShardState(StrEnum):
    """Where one pass over one shard stands."""

    WORKING = "working"
    DONE = "done"
    STOPPED = "stopped"  # at a row that no program may touch; a person has been alerted


@dataclass(frozen=True, slots=True)
class ShardProgress:
    """One pass over one shard: its checkpoint and what it has counted. A hint; the truth is in the DEKs' rows."""

    run: str  # id of the run
    pass_number: int
    shard: int
    started: datetime
    updated: datetime
    state: ShardState = ShardState.WORKING
    after: TenantId | None = None  # everything up to this tenant is done
    tenants: int = 0
    rows: int = 0  # DEKs looked at
    found: int = 0  # DEKs that were not as this pass wants them
    changed: int = 0  # of those, what this pass has changed
    verified: int = 0  # DEKs opened at the vault as a sample
    births: int = 0
    removed: int = 0
    by_kid: Mapping[Kid, int] = field(default_factory=dict)
    page: int = 0  # manifest pages written or compared
    tree: str = ""  # state of the Merkle tree, see rotation/manifest.py
    problem: str = ""  # why it stopped
    etag: Etag | None = None


@dataclass(frozen=True, slots=True)
class FrozenTenant:
    """A tenant as the manifest remembers it."""

    tenant: TenantId
    primary: int  # its DEK versions at that moment were 1 up to this
    root: bytes  # Merkle root over their check values


@dataclass(frozen=True, slots=True)
class FrozenPage:
    """Consecutive tenants of one shard in the manifest. Written once."""

    run: str
    shard: int
    number: int  # 0, 1, 2 ...
    upto: TenantId  # the last tenant that was looked at for it
    tenants: tuple[FrozenTenant, ...]
    by_kid: Mapping[Kid, int]  # how many of their DEKs were wrapped under what


@dataclass(frozen=True, slots=True)
class Budget:
    """The one schedule that all workers have for what they ask of a vault."""

    vault: str
    free_at: datetime  # until then its time is leased out
    etag: Etag | None = None


@dataclass(frozen=True, slots=True)
class KekUse:
    """Which versions of KEKs one process of an ATP service has to do with."""

    consumer: str
    kids: tuple[Kid, ...]  # of the DEKs it has read lately
    refused: tuple[Kid, ...]  # what the vault would not open for it since the last report
    seen: datetime


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """An audit record at its place in a stream: its canonical JSON and its hash."""

    stream: int
    seq: int  # 1, 2, 3 ... without gaps
    event_id: str  # deterministic: the same event is stored once
    canonical: bytes
    leaf_hash: bytes  # 32 bytes


@dataclass(frozen=True, slots=True)
class StreamHead:
    """All that an audit stream held at one moment, in one hash."""

    size: int  # records 1 up to this
    root: bytes  # of the RFC 6962 tree over them, 32 bytes


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """A signed statement of how far every audit stream was at one moment, with what is needed to check the next one."""

    number: int  # 1, 2, 3 ... without gaps
    note: str  # a C2SP signed note, see rotation/checkpoint.py
    trees: Mapping[int, str] = field(default_factory=dict)  # state of every stream's tree; of one checkpoint an hour
    stamped: int = 0  # number of the checkpoint that `token` is about, 0 without one
    token: bytes = b""  # an RFC 3161 time-stamp response, DER


@dataclass(frozen=True, slots=True)
class EvidenceFile:
    """One append-only file of the evidence copy."""

    name: str  # sorts by time: 2026/11/21/0000.jsonl
    size: int  # bytes
    blocks: int  # appends so far; the store has a limit


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One version of the key that signs checkpoints."""

    kid: Kid
    public_key: EllipticCurvePublicKey  # P-256
    enabled: bool
    created: datetime


class ObjectKind(StrEnum):
    """What a vault holds, as its paths spell it without the s."""

    KEY = "key"
    SECRET = "secret"  # noqa: S105 - the kind, not a secret
    CERTIFICATE = "certificate"


@dataclass(frozen=True, slots=True)
class VaultObject:
    """A key, secret or certificate as a vault lists it, without its value."""

    kind: ObjectKind
    vault: str  # URL without a slash
    name: str  # as it was first spelled: names that differ in case only are one name
    enabled: bool
    created: datetime  # the version, the newest one where no version is named
    updated: datetime | None = None
    not_before: datetime | None = None
    expires: datetime | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    managed: bool = False  # a key or secret that is part of the certificate of its name
    version: str = ""  # 32 hex digits; empty in a list of objects, which does not name it


@dataclass(frozen=True, slots=True)
class RenewalPolicy:
    """When a vault makes the next version of a key or certificate by itself, and when it announces that one expires.

    Durations are what they can be at most, where a vault counts in months. None: it does not.
    """

    lifetime: timedelta | None = None  # from the making of a version to its expiry
    rotates_after: timedelta | None = None  # the making of the newest version
    rotates_before: timedelta | None = None  # its expiry
    notifies_before: timedelta | None = None  # its expiry

    @property
    def longest(self) -> timedelta | None:
        """The longest time between two versions, None if the vault makes none."""
        if self.rotates_after is not None:
            return self.rotates_after
        if self.rotates_before is None or self.lifetime is None:
            return None
        return self.lifetime - self.rotates_before


class SecretPhase(StrEnum):
    """Where the rotation of a secret stands. The moves between phases are in rotation/secret.py."""

    STEADY = "steady"  # nothing is under way: one credential, which consumers use
    INTENDED = "intended"  # the next one is decided on
    STAGED = "staged"  # its value is in the vault, aside, where no consumer looks
    INSTALLED = "installed"  # the target was told to accept it
    TESTED = "tested"  # the target accepts it
    GRACE = "grace"  # published: consumers use it, and the one before it still works
    RESTORING = "restoring"  # rolled back: consumers are being given the one before again
    REVOKING = "revoking"  # the one before is being made to fail
    ABANDONING = "abandoning"  # given up before it was published: the new one is being made to fail


SLOT_TAG: Final = "atp-slot"
"""The tag of a secret's version that says which credential of its target it holds."""
PREVIOUS_TAG: Final = "atp-previous"
"""The tag of the newest version that names the one before it, while that one still works."""
PREVIOUS_UNTIL_TAG: Final = "atp-previous-until"
"""The tag that says how long it does, as ISO time."""


@dataclass(frozen=True, slots=True)
class SecretVersion:
    """One version of a secret as the vault describes it, without its value."""

    version: str  # 32 hex digits
    enabled: bool
    created: datetime
    expires: datetime | None
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SecretRotation:
    """A secret of the catalog with its newest rotation: one row, changed by compare-and-swap."""

    name: str  # of the catalog entry
    phase: SecretPhase
    phase_since: datetime
    generation: int  # number of the newest rotation, 0: none yet
    current: str = ""  # the version in the vault that consumers use
    slot: str = ""  # where the target has it
    since: datetime | None = None  # when it was published
    previous: str = ""  # the version before, while it still works
    previous_slot: str = ""
    previous_since: datetime | None = None
    grace_until: datetime | None = None  # end of dual running
    pending: str = ""  # the version, of the secret set aside, that holds the new value
    pending_slot: str = ""
    before: str = ""  # fingerprint of what was in that slot
    order: str = ""  # id of the order that started the newest rotation
    actor: str = ""  # who gave it
    trigger: str = ""
    reason: str = ""
    undone_by: str = ""  # who ordered its rollback
    undone_trigger: str = ""
    undone_because: str = ""
    confirmed_by: str = ""  # who has said that the previous one was revoked
    confirmed_trigger: str = ""
    confirmed_because: str = ""
    compromised: bool = False  # the one before is in wrong hands: no dual running, no way back
    rolled_back: bool = False  # current and previous have changed places
    announced: bool = False  # consumers were told of the current one
    confirmed: bool = False  # a person has said that the previous one was revoked
    task: str = ""  # what a person has to do before it goes on
    verdict: str = ""  # for people: how the newest rotation went
    trouble: str = ""  # for people: why it got no further the last time
    claim: str = ""  # who works on it
    claimed_until: datetime | None = None  # and until when nobody else may
    asked: str = ""  # id of the last order that was sent for it by itself
    asked_at: datetime | None = None
    etag: Etag | None = None


class Severity(StrEnum):
    """How urgently a person must look."""

    WARNING = "warning"  # next working day
    CRITICAL = "critical"  # now


@dataclass(frozen=True, slots=True)
class Alert:
    """Something a person must know. The same `id` is raised once, until it is resolved."""

    id: str
    severity: Severity
    what: str
    subject: str  # the object concerned: `dek/acme`, `queue/rotation-jobs`
    raised: datetime
    details: Mapping[str, str]
    owner: str = ""  # who sees to it; empty: whoever owns the subject
    resolved: datetime | None = None  # when its cause was gone
    resolved_by: str = ""  # the person who said so; empty: the app has seen it


class SinkName(StrEnum):
    """To whom alerts are sent, besides the log."""

    WEBHOOK = "webhook"  # generic JSON
    TEAMS = "teams"  # a channel in Microsoft Teams
    PAGERDUTY = "pagerduty"  # Events API v2


@dataclass(frozen=True, slots=True)
class Owed:
    """That a sink has still to be told how an alert stands."""

    attempts: int = 0  # in vain, so far
    due: datetime | None = None  # not before; None: at once
    given_up: str = ""  # why nobody tries any more


@dataclass(frozen=True, slots=True)
class Closing:
    """That a person has resolved an alert, which is not on record yet."""

    revision: int
    by: str
    because: str


@dataclass(frozen=True, slots=True)
class AlertEntry:
    """An alert with its outbox: one row, changed by compare-and-swap."""

    alert: Alert
    revision: int = 1  # one more each time that it is opened, gets more severe or is resolved
    owed: Mapping[SinkName, Owed] = field(default_factory=dict)
    closings: tuple[Closing, ...] = ()
    etag: Etag | None = None

    @property
    def is_owing(self) -> bool:
        """Whether something has still to be told or recorded."""
        return bool(self.closings) or any(not owed.given_up for owed in self.owed.values())


@dataclass(frozen=True, slots=True)
class Notice:
    """What a sink is told: how an alert stands."""

    alert: Alert
    key: str  # the same for everything that is told of one alert
    revision: int  # with the key, the same for what is told twice
    next: str  # what happens by itself, and what a person has to do
    runbook: str  # page and heading


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
