"""The DEKs of the tenants in memory: read, opened at the vault, kept for a bounded time, read again.

Every `refresh_after` a tenant's rows are read again. What they say holds from then on: what may no longer be used goes,
opened DEKs stay, whatever they are wrapped under meanwhile. When the vault refuses to open a row as remembered, it may
have been rewrapped since: it is read once more before the refusal is anybody's error. While the vault or the storage
does not answer, what is in memory goes on working until `keep_through_outage`, and few threads wait for them.
"""

import itertools
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from rotation.dek import ensure_sound
from rotation.envelope import UnknownVersion, header
from rotation.use_reports import Reported, UseReports
from rotation.wrapping import ensure_is
from rotation.xaes import PREFIX_BYTES
from shared.errors import AtpError, Integrity, Rejected, TenantDestroyed, Transient, UnknownTenant, UnusableKey
from shared.ports import Deks, Vault
from shared.secret import Secret
from shared.values import Keyring, KeyState, TenantId, TenantState, WrappedDek, tenant_id

log = logging.getLogger(__name__)

_LOOK_UP_AGAIN_S: Final = 1.0
_READ_AT_ONCE: Final = 4
"""Threads that read rows at the same time while others go on with memory: as many may hang when storage does."""
_REOPEN_AT_ONCE: Final = 2
"""The same of the vault; fewer, so that rows are read on while it hangs."""
_ASK_AGAIN_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """How long what is in memory may be used."""

    refresh_after: timedelta = timedelta(seconds=60)  # until the tenant's rows are read again
    reopen_after: timedelta = timedelta(hours=1)  # until a DEK is opened at the vault again
    keep_through_outage: timedelta = timedelta(hours=4)  # the same while vault or storage does not answer
    report_every: timedelta = timedelta(minutes=15)  # reports to the consumers table, when nothing changes
    max_tenants: int = 10_000


@dataclass(slots=True)
class Sealer:
    """Encrypts under one DEK version, all its nonces sharing one random prefix."""

    lead: bytes  # header and nonce prefix, as every envelope of this sealer begins
    header_length: int
    aes: AESGCM
    count: Iterator[int] = field(default_factory=lambda: itertools.count(2))  # the first message is its maker's


@dataclass(slots=True)
class OpenTenant:
    """What is in memory of one tenant."""

    keyring: Keyring
    since: float  # monotonic time of the first opening
    read_at: float  # when the rows were read last
    fresh_until: float
    lead_length: int  # bytes of header and nonce prefix of this tenant's envelopes
    seals_with: int  # the primary; the one before it while the vault does not open the primary
    deks: dict[int, Secret] = field(default_factory=dict)
    sealer: Sealer | None = None
    openers: dict[bytes, tuple[bytes, AESGCM]] = field(default_factory=dict)  # by header and nonce prefix
    looked_up_at: float = float("-inf")
    reported: Reported = field(default_factory=Reported)
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


class KeyCache:
    """What is in memory of each tenant, and how it gets there. Thread-safe."""

    def __init__(
        self, deks: Deks, vault: Vault, reports: UseReports, policy: CachePolicy, monotonic: Callable[[], float]
    ) -> None:
        self._deks = deks
        self._vault = vault
        self._reports = reports
        self._policy = policy
        self._monotonic = monotonic
        self.open: dict[str, OpenTenant] = {}
        """By tenant id, for looking only: what is there and not due for a refresh may be used as it is."""
        self.forget()

    def forget(self) -> None:
        """As new: a forked child must go on with neither its parent's message counts nor locks it cannot release."""
        self.open.clear()
        self._locks = [threading.RLock() for _ in range(64)]
        self._failed_at = [float("-inf") for _ in self._locks]
        self._remembering = threading.Lock()
        self._storage_outage = _Outage(self._monotonic, _READ_AT_ONCE)
        self._vault_outage = _Outage(self._monotonic, _REOPEN_AT_ONCE)

    def refreshed(self, tenant: str, *, urgent: bool = False) -> OpenTenant:
        """The tenant as the rows say now; as remembered if they cannot be read and the memory is young enough.

        Urgent is what memory cannot answer, though it goes on for everything else.
        """
        name = tenant_id(tenant)
        asked = self._monotonic()
        remembered = self.open.get(name)
        try:
            if remembered is None or not self._is_young(remembered, asked):
                opened = self._awaited(name)
            else:
                opened = self._refreshed_or_remembered(name, remembered, urgent=urgent)
        except Rejected:
            self._reports.send()
            raise
        if opened.read_at >= asked:
            using = opened.seals_with, tuple(sorted(opened.decrypted_with))
            self._reports.deks_used(name, using, opened.reported)
            self._reports.send()
        return opened

    def looked_up(self, opened: OpenTenant, tenant: str, version: int) -> OpenTenant:
        """Read the rows again for a version we do not know, at most once a second: made-up versions must not cost.

        Transient where that has told us nothing: the version may have been born since we read.
        """
        now = self._monotonic()
        if now - opened.looked_up_at >= _LOOK_UP_AGAIN_S:
            opened.looked_up_at = now
            opened.fresh_until = float("-inf")
            opened = self.refreshed(tenant, urgent=True)
        if opened.read_at < now and opened.keyring.version(version) is None:
            raise Transient("a DEK version is not known yet", tenant=tenant, version=version)
        return opened

    def dek(self, opened: OpenTenant, version: int) -> Secret:
        """The opened DEK of that version, proven to be the right one. UnusableKey if its KEK version is refused."""
        try:
            return self._dek(opened, version)
        except UnusableKey:
            self._reports.send()
            raise

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

    def _awaited(self, tenant: TenantId) -> OpenTenant:
        with self._turn(tenant):
            now = self._monotonic()
            opened = self.open.get(tenant)
            if opened is not None and now < opened.fresh_until:
                return opened
            return self._read(tenant, opened if opened is not None and self._is_young(opened, now) else None, now)

    def _refreshed_or_remembered(self, tenant: TenantId, opened: OpenTenant, *, urgent: bool) -> OpenTenant:
        if not self._storage_outage.begin(urgent=urgent):
            return opened
        lock = self._locks[self._stripe(tenant)]
        try:
            if not lock.acquire(timeout=_LOOK_UP_AGAIN_S if urgent else 0):
                return opened
            try:
                now = self._monotonic()
                opened = self.open.get(tenant, opened)
                return opened if now < opened.fresh_until else self._read(tenant, opened, now)
            except Transient:
                log.warning("going on with the keys in memory: vault or storage does not answer")
                opened.fresh_until = self._monotonic() + self._policy.refresh_after.total_seconds()
                return opened
            finally:
                lock.release()
        finally:
            self._storage_outage.end()

    def _read(self, tenant: TenantId, opened: OpenTenant | None, now: float) -> OpenTenant:
        keyring = self._rows(tenant)
        fresh_until = now + self._policy.refresh_after.total_seconds()
        if opened is None:
            lead_length = len(header(tenant, 1)) + PREFIX_BYTES
            opened = OpenTenant(keyring, now, now, fresh_until, lead_length, keyring.tenant.primary)
            self._remember(tenant, opened)
            return opened
        if _means_the_same(keyring, opened.keyring):
            opened.keyring = keyring
        else:
            opened = _carried_over(opened, keyring)
            self._take_its_place(tenant, opened)
        opened.read_at = now
        opened.fresh_until = fresh_until
        return self._reopened(tenant, opened, now)

    def _rows(self, tenant: TenantId) -> Keyring:
        """The rows as they are, of a tenant that still has its keys; any other one is dropped."""
        with self._storage_outage.watched():
            keyring = self._deks.read(tenant)
        if keyring is None:
            self._drop(tenant)
            raise UnknownTenant("no such tenant", tenant=tenant)
        ensure_sound(keyring)
        if keyring.tenant.state in (TenantState.DESTROYING, TenantState.DESTROYED):
            self._drop(tenant)
            raise TenantDestroyed("the tenant's DEKs were destroyed", tenant=tenant)
        self._reports.rows_read(tenant, (dek.kid for dek in keyring.deks))
        return keyring

    def _is_young(self, opened: OpenTenant, now: float) -> bool:
        return now < opened.since + self._policy.keep_through_outage.total_seconds()

    def _is_old(self, opened: OpenTenant, now: float) -> bool:
        return now >= opened.since + self._policy.reopen_after.total_seconds()

    def _reopened(self, tenant: TenantId, old: OpenTenant, now: float) -> OpenTenant:
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
            log.warning("going on with the keys in memory: vault or storage does not answer")
            return old
        finally:
            self._vault_outage.end()
        self._remember(tenant, new)
        return new

    def _remember(self, tenant: TenantId, opened: OpenTenant) -> None:
        with self._remembering:
            self.open.pop(tenant, None)
            self.open[tenant] = opened
            while len(self.open) > self._policy.max_tenants:
                del self.open[next(iter(self.open))]

    def _take_its_place(self, tenant: TenantId, opened: OpenTenant) -> None:
        """Without a moment in which the tenant is not remembered, when others would wait for what we are doing."""
        with self._remembering:
            if tenant in self.open:
                self.open[tenant] = opened

    def _drop(self, tenant: TenantId) -> None:
        self._reports.rows_read(tenant, ())
        with self._remembering:
            self.open.pop(tenant, None)

    def _dek(self, opened: OpenTenant, version: int) -> Secret:
        tenant = opened.keyring.tenant.tenant
        stored = _usable(opened.keyring, version)
        dek = opened.deks.get(version)
        if dek is not None:
            return dek
        with self._turn(tenant):
            dek = opened.deks.get(version)
            if dek is None:
                dek = opened.deks[version] = self._opened(opened, stored)
        return dek

    def _opened(self, opened: OpenTenant, stored: WrappedDek) -> Secret:
        """The DEK of that row; if the vault refuses to open it, of the row as it is now."""
        try:
            return self._unwrapped(opened, stored)
        except UnusableKey:
            current = self._current(opened, stored.version)
            if current.kid == stored.kid:
                self._reports.kek_refused(stored.kid)
                raise
        try:
            return self._unwrapped(opened, current)
        except UnusableKey:
            self._reports.kek_refused(current.kid)
            raise

    def _unwrapped(self, opened: OpenTenant, stored: WrappedDek) -> Secret:
        with self._vault_outage.watched():
            dek = self._vault.unwrap(stored.kid, stored.algorithm, stored.wrapped)
        ensure_is(dek, opened.keyring.tenant.tenant, stored)
        return dek

    def _current(self, opened: OpenTenant, version: int) -> WrappedDek:
        keyring = self._rows(opened.keyring.tenant.tenant)
        if _means_the_same(keyring, opened.keyring):
            opened.keyring = keyring
        else:
            opened.fresh_until = float("-inf")  # whoever uses it next takes up the rest
        return _usable(keyring, version)


def _usable(keyring: Keyring, version: int) -> WrappedDek:
    tenant, stored = keyring.tenant.tenant, keyring.version(version)
    if stored is None:
        raise UnknownVersion("the tenant has no such DEK version", tenant=tenant, version=version)
    if stored.state is KeyState.REVOKED:
        raise Rejected("the DEK version was revoked", tenant=tenant, version=version)
    return stored


def _means_the_same(one: Keyring, other: Keyring) -> bool:
    """Whether both let the same DEKs be used for the same: they may be wrapped differently."""
    return _meaning(one) == _meaning(other)


def _meaning(keyring: Keyring) -> tuple[object, ...]:
    deks = tuple((dek.version, dek.state is KeyState.REVOKED, dek.check_value) for dek in keyring.deks)
    return keyring.tenant.state, keyring.tenant.primary, deks


def _carried_over(old: OpenTenant, keyring: Keyring) -> OpenTenant:
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
