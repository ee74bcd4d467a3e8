"""The part that ATP services import: encrypt and decrypt data of a tenant.

    cipher = wiring.tenant_cipher(settings, consumer="ingest-7")
    envelope = cipher.encrypt("acme", b"...", context=b"stream/42")
    plaintext = cipher.decrypt("acme", envelope, context=b"stream/42")

A tenant's DEKs are opened at the vault once and kept in memory for a bounded time. Every `refresh_after` the tenant's
rows are read again, which is how a new version, a revocation, an off-boarding or a destruction is noticed without a
restart; a DEK version that an envelope names and we do not know yet is looked up at once. While the vault or the
storage does not answer, what is in memory goes on working until `keep_through_outage`, and few threads wait for them.
What the rows say holds from the moment they are read, whether the vault answers or not.

What an attacker with access to this process can take: the opened DEKs of the tenants it has used lately.
"""

import itertools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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
_READ_AT_ONCE: Final = 4
"""Threads that read rows at the same time while others go on with memory: as many may hang when storage does."""
_REOPEN_AT_ONCE: Final = 2
"""The same of the vault; fewer, so that rows are read on while it hangs."""
_ASK_AGAIN_S: Final = 5.0
_WAIT_FOR_REPORT_S: Final = 0.1
"""Longer than a report takes, so that those of a short-lived process arrive; what hangs is left to its thread."""


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
class _Reported:
    """What was said last to the consumers table about one tenant."""

    using: tuple[int, tuple[int, ...]] | None = None
    at: float = float("-inf")


@dataclass(slots=True)
class _OpenTenant:
    """What is in memory of one tenant."""

    keyring: Keyring
    since: float  # monotonic time of the first opening
    read_at: float  # when the rows were read last
    fresh_until: float
    lead_length: int  # bytes of header and nonce prefix of this tenant's envelopes
    seals_with: int  # the primary; the one before it while the vault does not open the primary
    deks: dict[int, Secret] = field(default_factory=dict)
    sealer: _Sealer | None = None
    openers: dict[bytes, tuple[bytes, AESGCM]] = field(default_factory=dict)  # by header and nonce prefix
    looked_up_at: float = float("-inf")
    reported: _Reported = field(default_factory=_Reported)
    decrypted_with: set[int] = field(default_factory=set)  # since the opening


class _Outage:
    """What this process has seen of an outage of the storage, or of the vault.

    Says when those may ask it who could go on with their memory: a few at once while it answers; from a failure until
    the next success one at a time, after a pause of 5 s, or as long as the failure took. So threads that serve tenants
    from memory do not queue up for time-outs, however many tenants there are.
    """

    def __init__(self, monotonic: Callable[[], float], at_once: int) -> None:
        self._monotonic = monotonic
        self._at_once = at_once
        self._lock = threading.Lock()
        self._asking = 0
        self._away_until: float | None = None

    def begin(self, *, urgent: bool = False) -> bool:
        """Whether to ask now, which `end` must follow. The urgent need not wait until others are done."""
        with self._lock:
            if self._away_until is None:
                may = urgent or self._asking < self._at_once
            else:
                may = self._asking == 0 and self._monotonic() >= self._away_until
            self._asking += may
            return may

    def end(self) -> None:
        """What was begun is over."""
        with self._lock:
            self._asking -= 1

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Learn from a call, whoever makes it."""
        began = self._monotonic()
        try:
            yield
        except Transient:
            failed = self._monotonic()
            self._away_until = failed + max(_ASK_AGAIN_S, failed - began)
            raise
        except AtpError:
            self._away_until = None
            raise
        self._away_until = None


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
        self._failed_at = [float("-inf") for _ in self._locks]
        self._remembering = threading.Lock()
        self._storage_outage = _Outage(monotonic, _READ_AT_ONCE)
        self._vault_outage = _Outage(monotonic, _REOPEN_AT_ONCE)
        self._unreported: dict[str, tuple[ConsumerReport, _Reported]] = {}
        self._reporter: threading.Thread | None = None
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """A forked child must go on neither with its parent's message counts nor with locks it cannot release."""
        self._open.clear()
        self._locks = [threading.RLock() for _ in self._locks]
        self._failed_at = [float("-inf") for _ in self._locks]
        self._remembering = threading.Lock()
        self._storage_outage = _Outage(self._monotonic, _READ_AT_ONCE)
        self._vault_outage = _Outage(self._monotonic, _REOPEN_AT_ONCE)
        self._unreported = {}
        self._reporter = None

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

    def _stripe(self, tenant: str) -> int:
        """The number of the tenant's lock, shared with few others: held for its reads and unwraps, each made once."""
        return hash(tenant) % len(self._locks)

    @contextmanager
    def _turn(self, tenant: str) -> Iterator[None]:
        """Hold the tenant's lock, for those who cannot do without what they ask for.

        Transient if it failed while we waited. Were every thread to wait for a time-out of its own, one after the
        other, the last would wait for all of them.
        """
        stripe = self._stripe(tenant)
        asked = self._monotonic()
        with self._locks[stripe]:
            if asked < self._failed_at[stripe]:
                raise Transient("vault or storage did not answer just now", tenant=tenant)
            try:
                yield
            except Transient:
                self._failed_at[stripe] = self._monotonic()
                raise

    def _refreshed(self, tenant: str, *, urgent: bool = False) -> _OpenTenant:
        """The tenant as the rows say now; as remembered if they cannot be read and the memory is young enough.

        Urgent is what memory cannot answer, though it goes on for everything else.
        """
        name = tenant_id(tenant)
        asked = self._monotonic()
        remembered = self._open.get(name)
        if remembered is None or not self._is_young(remembered, asked):
            opened = self._awaited(name)
        else:
            opened = self._refreshed_or_remembered(name, remembered, urgent=urgent)
        if opened.read_at >= asked:
            self._report(opened)
        return opened

    def _awaited(self, tenant: TenantId) -> _OpenTenant:
        with self._turn(tenant):
            now = self._monotonic()
            opened = self._open.get(tenant)
            if opened is not None and now < opened.fresh_until:
                return opened
            return self._read(tenant, opened if opened is not None and self._is_young(opened, now) else None, now)

    def _refreshed_or_remembered(self, tenant: TenantId, opened: _OpenTenant, *, urgent: bool) -> _OpenTenant:
        if not self._storage_outage.begin(urgent=urgent):
            return opened
        lock = self._locks[self._stripe(tenant)]
        try:
            if not lock.acquire(timeout=_LOOK_UP_AGAIN_S if urgent else 0):
                return opened
            try:
                now = self._monotonic()
                opened = self._open.get(tenant, opened)
                return opened if now < opened.fresh_until else self._read(tenant, opened, now)
            except Transient:
                log.warning("going on with the keys in memory: vault or storage does not answer")
                opened.fresh_until = self._monotonic() + self._policy.refresh_after.total_seconds()
                return opened
            finally:
                lock.release()
        finally:
            self._storage_outage.end()

    def _read(self, tenant: TenantId, opened: _OpenTenant | None, now: float) -> _OpenTenant:
        with self._storage_outage.watched():
            keyring = self._deks.read(tenant)
        if keyring is None:
            self._drop(tenant)
            raise UnknownTenant("no such tenant", tenant=tenant)
        ensure_sound(keyring)
        if keyring.tenant.state in (TenantState.DESTROYING, TenantState.DESTROYED):
            self._drop(tenant)
            raise TenantDestroyed("the tenant's DEKs were destroyed", tenant=tenant)
        fresh_until = now + self._policy.refresh_after.total_seconds()
        if opened is None:
            lead_length = len(header(tenant, 1)) + PREFIX_BYTES
            opened = _OpenTenant(keyring, now, now, fresh_until, lead_length, keyring.tenant.primary)
            self._remember(tenant, opened)
            return opened
        if keyring != opened.keyring:
            opened = _carried_over(opened, keyring)
            self._take_its_place(tenant, opened)
        opened.read_at = now
        opened.fresh_until = fresh_until
        return self._reopened(tenant, opened, now)

    def _is_young(self, opened: _OpenTenant, now: float) -> bool:
        return now < opened.since + self._policy.keep_through_outage.total_seconds()

    def _is_old(self, opened: _OpenTenant, now: float) -> bool:
        return now >= opened.since + self._policy.reopen_after.total_seconds()

    def _reopened(self, tenant: TenantId, old: _OpenTenant, now: float) -> _OpenTenant:
        """What takes the place of `old` when its DEKs have to be opened again, or its primary is not open yet.

        While the vault does not answer, `old` goes on; others see its rows already. A DEK that cannot be had for
        another reason is left out: its next use says why, and the tenant's other versions are not its hostages.
        """
        primary = old.keyring.tenant.primary
        is_old = self._is_old(old, now)
        if (not is_old and old.seals_with == primary) or not self._vault_outage.begin():
            return old
        new = replace(old, sealer=None, openers={}, seals_with=primary)
        used = set(old.decrypted_with)
        if old.seals_with in old.deks:
            used.add(primary)
        if is_old:
            new = replace(new, since=now, deks={}, decrypted_with=set())
        try:
            for version in used:
                with suppress(Rejected, Integrity):
                    self._dek(new, version)
        except Transient:
            log.warning("going on with the keys in memory: the vault does not answer")
            return old
        finally:
            self._vault_outage.end()
        self._remember(tenant, new)
        return new

    def _remember(self, tenant: TenantId, opened: _OpenTenant) -> None:
        with self._remembering:
            self._open.pop(tenant, None)
            self._open[tenant] = opened
            while len(self._open) > self._policy.max_tenants:
                del self._open[next(iter(self._open))]

    def _take_its_place(self, tenant: TenantId, opened: _OpenTenant) -> None:
        """Without a moment in which the tenant is not remembered, when others would wait for what we are doing."""
        with self._remembering:
            if tenant in self._open:
                self._open[tenant] = opened

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
        dek = opened.deks.get(version)
        if dek is not None:
            return dek
        with self._turn(tenant):
            dek = opened.deks.get(version)
            if dek is None:
                with self._vault_outage.watched():
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
        head = header(tenant.tenant, opened.seals_with)
        prefix = self._entropy(PREFIX_BYTES)
        dek = self._dek(opened, opened.seals_with)
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
            opened = self._refreshed(tenant, urgent=True)
        if opened.read_at < now and opened.keyring.version(version) is None:
            raise Transient("a DEK version is not known yet", tenant=tenant, version=version)
        return opened

    def _report(self, opened: _OpenTenant) -> None:
        """Have the versions in use reported if they changed or it is time; after a failure, at a later refresh."""
        now = self._monotonic()
        tenant, reported = opened.keyring.tenant.tenant, opened.reported
        using = opened.seals_with, tuple(sorted(opened.decrypted_with))
        if using == reported.using and now - reported.at < self._policy.report_every.total_seconds():
            return
        reported.using, reported.at = using, now
        with self._remembering:
            self._unreported[tenant] = ConsumerReport(self._consumer, tenant, *using, self._clock()), reported
            if self._reporter is not None:
                return
            reporter = self._reporter = threading.Thread(target=self._report_all, name="atp-reports", daemon=True)
        try:
            reporter.start()
        except RuntimeError as error:  # no more threads, or the interpreter is shutting down
            self._reporter = None
            reported.using = None
            log.warning("could not report the DEK versions in use", extra={"because": str(error)})
            return
        reporter.join(_WAIT_FOR_REPORT_S)

    def _report_all(self) -> None:
        while True:
            with self._remembering:
                if not self._unreported:
                    self._reporter = None
                    return
                report, reported = self._unreported.pop(next(iter(self._unreported)))
            try:
                self._consumers.report(report)
            except Exception as error:  # noqa: BLE001 - nobody's data waits for a report, whatever is wrong with it
                reported.using = None
                log.warning("could not report the DEK versions in use", extra={"because": str(error)})


def _carried_over(old: _OpenTenant, keyring: Keyring) -> _OpenTenant:
    """What is in memory, under what the rows say now: opened DEKs stay, what may no longer be used goes."""
    before = keyring.version(old.seals_with) if old.seals_with in old.deks else None
    usable = before is not None and before.state is not KeyState.REVOKED
    return replace(
        old,
        keyring=keyring,
        openers={},  # made again from the DEKs that may be used
        seals_with=old.seals_with if usable else keyring.tenant.primary,
        sealer=old.sealer if usable and keyring.tenant.state is TenantState.ACTIVE else None,
    )
