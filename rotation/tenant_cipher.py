"""The part that ATP services import: encrypt and decrypt data of a tenant.

    cipher = wiring.tenant_cipher(settings, consumer="ingest-7")
    envelope = cipher.encrypt("acme", b"...", context=b"stream/42")
    plaintext = cipher.decrypt("acme", envelope, context=b"stream/42")

A tenant's DEKs are opened at the vault once and kept in memory for a bounded time. Every `refresh_after` the tenant's
rows are read again, which is how a new version, a revocation, an off-boarding or a destruction is noticed without a
restart; a DEK version that an envelope names and we do not know yet is looked up at once. While the vault or the
storage does not answer, what is in memory goes on working until `keep_through_outage`.

What an attacker with access to this process can take: the opened DEKs of the tenants it has used lately.
"""

import itertools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from io import BytesIO
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from rotation.dek import ensure_sound
from rotation.envelope import NotAuthentic, UnknownVersion, WrongTenant, header, parse
from rotation.wrapping import Entropy, ensure_is
from rotation.xaes import MAX_MESSAGES_PER_PREFIX, NONCE_BYTES, PREFIX_BYTES, TAG_BYTES, derive
from shared.clock import Clock, system_clock
from shared.errors import (
    AtpError,
    Integrity,
    Rejected,
    TenantDestroyed,
    TenantOffboarded,
    Transient,
    UnknownTenant,
)
from shared.ports import Consumers, Deks, Vault
from shared.secret import Secret
from shared.values import ConsumerReport, Keyring, KeyState, TenantId, TenantState, tenant_id

log = logging.getLogger(__name__)

_TAIL_BYTES: Final = NONCE_BYTES - PREFIX_BYTES
_IN_PLACE_FROM: Final = 16 * 1024
"""Plaintext size from which writing the ciphertext into place beats joining the parts (see bench/cipher.py)."""
_OPENERS_PER_TENANT: Final = 256
_LOOK_UP_AGAIN_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """How long what is in memory may be used."""

    refresh_after: timedelta = timedelta(seconds=60)  # until the tenant's rows are read again
    reopen_after: timedelta = timedelta(hours=1)  # until a DEK is opened at the vault again
    keep_through_outage: timedelta = timedelta(hours=4)  # the same while vault or storage does not answer
    report_every: timedelta = timedelta(minutes=15)  # reports to the consumers table, when nothing changes
    max_tenants: int = 10_000


@dataclass(slots=True)
class _Sealer:
    """Encrypts under one DEK version, all its nonces sharing one random prefix."""

    lead: bytes  # header and nonce prefix, as every envelope of this sealer begins
    header_length: int
    aes: AESGCM
    count: Iterator[int] = field(default_factory=lambda: itertools.count(2))  # the first message is its maker's


@dataclass(slots=True)
class _OpenTenant:
    """What is in memory of one tenant."""

    keyring: Keyring
    since: float  # monotonic time of the first opening
    read_at: float  # when the rows were read last
    fresh_until: float
    lead_length: int  # bytes of header and nonce prefix of this tenant's envelopes
    deks: dict[int, Secret] = field(default_factory=dict)
    sealer: _Sealer | None = None
    openers: dict[bytes, tuple[bytes, AESGCM]] = field(default_factory=dict)  # by header and nonce prefix
    looked_up_at: float = float("-inf")
    reported: tuple[int, tuple[int, ...]] | None = None
    reported_at: float = float("-inf")
    decrypted_with: set[int] = field(default_factory=set)  # since the opening


class TenantCipher:
    """Encrypts and decrypts for any tenant. Thread-safe; make one per process.

    Errors: UnknownTenant, TenantOffboarded (encrypt only), TenantDestroyed; BadEnvelope and its subclasses for data
    that is not this tenant's, not whole or not authentic; Transient while nothing can be done; Integrity where the
    stored keys contradict themselves.
    """

    def __init__(
        self,
        deks: Deks,
        vault: Vault,
        consumers: Consumers,
        consumer: str,
        policy: CachePolicy | None = None,
        clock: Clock = system_clock,
        monotonic: Callable[[], float] = time.monotonic,
        entropy: Entropy = os.urandom,
    ) -> None:
        self._deks = deks
        self._vault = vault
        self._consumers = consumers
        self._consumer = consumer
        self._policy = policy or CachePolicy()
        self._clock = clock
        self._monotonic = monotonic
        self._entropy = entropy
        self._open: dict[str, _OpenTenant] = {}
        self._locks = [threading.RLock() for _ in range(64)]
        self._remembering = threading.Lock()
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """A forked child must go on neither with its parent's message counts nor with locks it cannot release."""
        self._open.clear()
        self._locks = [threading.RLock() for _ in self._locks]
        self._remembering = threading.Lock()

    def encrypt(self, tenant: str, plaintext: bytes, context: bytes = b"") -> bytes:
        """The plaintext as an envelope under the tenant's primary DEK, bound to `context` (not stored in it)."""
        opened = self._open.get(tenant)
        if opened is None or self._monotonic() >= opened.fresh_until:
            opened = self._refreshed(tenant)
        sealer = opened.sealer
        if sealer is None or next(sealer.count) > MAX_MESSAGES_PER_PREFIX:
            sealer = self._new_sealer(opened)
        tail = self._entropy(_TAIL_BYTES)
        lead = sealer.lead
        authenticated = lead[: sealer.header_length] + context
        if len(plaintext) < _IN_PLACE_FROM:
            return lead + tail + sealer.aes.encrypt(tail, plaintext, authenticated)
        start = len(lead) + _TAIL_BYTES
        whole = BytesIO()
        whole.seek(start + len(plaintext) + TAG_BYTES - 1)
        whole.write(b"\0")
        with whole.getbuffer() as view:
            view[:start] = lead + tail
            sealer.aes.encrypt_into(tail, plaintext, authenticated, view[start:])
        return whole.getvalue()

    def decrypt(self, tenant: str, envelope: bytes, context: bytes = b"") -> bytes:
        """The plaintext of an envelope of this tenant that was encrypted with the same context."""
        opened = self._open.get(tenant)
        if opened is None or self._monotonic() >= opened.fresh_until:
            opened = self._refreshed(tenant)
        at = opened.lead_length
        opener = opened.openers.get(envelope[:at])
        if opener is None or len(envelope) < at + _TAIL_BYTES + TAG_BYTES:
            opener = self._new_opener(opened, tenant, envelope)
        head, aes = opener
        body = memoryview(envelope)[at:]
        try:
            return aes.decrypt(body[:_TAIL_BYTES], body[_TAIL_BYTES:], head + context)
        except InvalidTag:
            raise NotAuthentic("an envelope or its context was altered", tenant=tenant) from None

    def _lock_of(self, tenant: str) -> threading.RLock:
        """One for the tenant, and for few others: held for its reads and unwraps, so that no two threads make one."""
        return self._locks[hash(tenant) % len(self._locks)]

    def _refreshed(self, tenant: str) -> _OpenTenant:
        """The tenant as the rows say now; as remembered if they cannot be read and the memory is young enough."""
        name = tenant_id(tenant)
        with self._lock_of(tenant):
            now = self._monotonic()
            opened = self._open.get(tenant)
            if opened is not None and now < opened.fresh_until:
                return opened
            try:
                return self._read(name, opened, now)
            except Transient:
                if opened is None or now >= opened.since + self._policy.keep_through_outage.total_seconds():
                    raise
                log.warning("going on with the keys in memory: vault or storage does not answer")
                opened.fresh_until = now + self._policy.refresh_after.total_seconds()
                return opened

    def _read(self, tenant: TenantId, opened: _OpenTenant | None, now: float) -> _OpenTenant:
        keyring = self._deks.read(tenant)
        if keyring is None:
            self._drop(tenant)
            raise UnknownTenant("no such tenant", tenant=tenant)
        ensure_sound(keyring)
        if keyring.tenant.state in (TenantState.DESTROYING, TenantState.DESTROYED):
            self._drop(tenant)
            raise TenantDestroyed("the tenant's DEKs were destroyed", tenant=tenant)
        if opened is None:
            opened = _OpenTenant(keyring, now, now, now, len(header(tenant, 1)) + PREFIX_BYTES)
            self._remember(tenant, opened)
        elif keyring.tenant != opened.keyring.tenant or self._is_old(opened, now):
            opened = self._reopened(opened, keyring, now)
            self._remember(tenant, opened)
        opened.read_at = now
        opened.fresh_until = now + self._policy.refresh_after.total_seconds()
        self._report(opened, now)
        return opened

    def _is_old(self, opened: _OpenTenant, now: float) -> bool:
        return now >= opened.since + self._policy.reopen_after.total_seconds()

    def _reopened(self, old: _OpenTenant, keyring: Keyring, now: float) -> _OpenTenant:
        """What takes the place of `old`, with every DEK in it that is in use.

        A vault that does not answer is Transient, and `old` goes on as it is. A DEK that cannot be had for another
        reason is left out: its next use says why, and the tenant's other versions are not its hostages.
        """
        new = replace(old, keyring=keyring, sealer=None, openers={})
        used = set(old.decrypted_with)
        if old.keyring.tenant.primary in old.deks:
            used.add(keyring.tenant.primary)
        if self._is_old(old, now):
            new = replace(new, since=now, deks={}, decrypted_with=set())
        for version in used:
            with suppress(Rejected, Integrity):
                self._dek(new, version)
        return new

    def _remember(self, tenant: TenantId, opened: _OpenTenant) -> None:
        with self._remembering:
            self._open.pop(tenant, None)
            self._open[tenant] = opened
            while len(self._open) > self._policy.max_tenants:
                del self._open[next(iter(self._open))]

    def _drop(self, tenant: TenantId) -> None:
        with self._remembering:
            self._open.pop(tenant, None)

    def _dek(self, opened: _OpenTenant, version: int) -> Secret:
        """The opened DEK of that version, proven to be the right one."""
        tenant = opened.keyring.tenant.tenant
        stored = opened.keyring.version(version)
        if stored is None:
            raise UnknownVersion("the tenant has no such DEK version", tenant=tenant, version=version)
        if stored.state is KeyState.REVOKED:
            raise Rejected("the DEK version was revoked", tenant=tenant, version=version)
        with self._lock_of(tenant):
            dek = opened.deks.get(version)
            if dek is None:
                dek = self._vault.unwrap(stored.kid, stored.algorithm, stored.wrapped)
                ensure_is(dek, tenant, stored)
                opened.deks[version] = dek
        return dek

    def _new_sealer(self, opened: _OpenTenant) -> _Sealer:
        tenant = opened.keyring.tenant
        if tenant.state is not TenantState.ACTIVE:
            raise TenantOffboarded("an off-boarded tenant takes no new data", tenant=tenant.tenant)
        if tenant.primary == 0:
            opened.fresh_until = float("-inf")
            raise Transient("the tenant's first DEK is not there yet", tenant=tenant.tenant)
        head = header(tenant.tenant, tenant.primary)
        prefix = self._entropy(PREFIX_BYTES)
        dek = self._dek(opened, tenant.primary)
        sealer = _Sealer(head + prefix, len(head), derive(dek.reveal(), prefix))
        opened.sealer = sealer
        return sealer

    def _new_opener(self, opened: _OpenTenant, tenant: str, envelope: bytes) -> tuple[bytes, AESGCM]:
        claimed = parse(envelope)
        if claimed.tenant != tenant:
            raise WrongTenant("an envelope belongs to another tenant", asked=tenant, claimed=claimed.tenant)
        if opened.keyring.version(claimed.version) is None:
            opened = self._looked_up(opened, tenant, claimed.version)
        dek = self._dek(opened, claimed.version)
        opened.decrypted_with.add(claimed.version)
        lead = envelope[: opened.lead_length]
        opener = claimed.raw, derive(dek.reveal(), lead[-PREFIX_BYTES:])
        if len(opened.openers) >= _OPENERS_PER_TENANT:
            opened.openers.clear()
        opened.openers[lead] = opener
        return opener

    def _looked_up(self, opened: _OpenTenant, tenant: str, version: int) -> _OpenTenant:
        """Read the rows again for a version we do not know, at most once a second: made-up versions must not cost.

        Transient where that has told us nothing: the version may have been born since we read.
        """
        now = self._monotonic()
        if now - opened.looked_up_at >= _LOOK_UP_AGAIN_S:
            opened.looked_up_at = now
            opened.fresh_until = float("-inf")
            opened = self._refreshed(tenant)
        if opened.read_at < now and opened.keyring.version(version) is None:
            raise Transient("a DEK version is not known yet", tenant=tenant, version=version)
        return opened

    def _report(self, opened: _OpenTenant, now: float) -> None:
        using = opened.keyring.tenant.primary, tuple(sorted(opened.decrypted_with))
        due = now - opened.reported_at >= self._policy.report_every.total_seconds()
        if using == opened.reported and not due:
            return
        report = ConsumerReport(self._consumer, opened.keyring.tenant.tenant, *using, self._clock())
        try:
            self._consumers.report(report)
        except AtpError as error:
            log.warning("could not report the DEK versions in use", extra={"because": str(error)})
            return
        opened.reported, opened.reported_at = using, now
