"""The part that ATP services import: encrypt and decrypt data of a tenant.

    cipher = wiring.tenant_cipher(settings, consumer="ingest-7")
    envelope = cipher.encrypt("acme", b"...", context=b"stream/42")
    plaintext = cipher.decrypt("acme", envelope, context=b"stream/42")

The DEKs come from rotation/key_cache.py: opened at the vault once and kept in memory for a bounded time. A new version,
a revocation, an off-boarding or a destruction is noticed without a restart; a DEK version that an envelope names and we
do not know yet is looked up at once. What is used is reported by rotation/use_reports.py.

What an attacker with access to this process can take: the opened DEKs of the tenants it has used lately.
"""

import os
import time
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from rotation.envelope import NotAuthentic, WrongTenant, header, parse
from rotation.key_cache import CachePolicy, KeyCache, OpenTenant, Sealer
from rotation.use_reports import UseReports
from rotation.wrapping import Entropy
from rotation.xaes import MAX_MESSAGES_PER_PREFIX, NONCE_BYTES, PREFIX_BYTES, TAG_BYTES, derive
from shared.clock import Clock, system_clock
from shared.errors import TenantOffboarded, Transient
from shared.ports import Consumers, Deks, KekUses, Vault
from shared.values import TenantState

__all__ = ["CachePolicy", "TenantCipher"]

_TAIL_BYTES: Final = NONCE_BYTES - PREFIX_BYTES
_IN_PLACE_FROM: Final = 16 * 1024
"""Plaintext size from which writing the ciphertext into place beats joining the parts (see bench/cipher.py)."""
_OPENERS_PER_TENANT: Final = 256


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
        kek_uses: KekUses,
        consumer: str,
        policy: CachePolicy | None = None,
        clock: Clock = system_clock,
        monotonic: Callable[[], float] = time.monotonic,
        entropy: Entropy = os.urandom,
    ) -> None:
        policy = policy or CachePolicy()
        self._reports = UseReports(
            consumers, kek_uses, consumer, policy.report_every, policy.max_tenants, clock, monotonic
        )
        self._keys = KeyCache(deks, vault, self._reports, policy, monotonic)
        self._open: Mapping[str, OpenTenant] = self._keys.open
        self._monotonic = monotonic
        self._entropy = entropy
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._reports.forget()
        self._keys.forget()

    def encrypt(self, tenant: str, plaintext: bytes, context: bytes = b"") -> bytes:
        """The plaintext as an envelope under the tenant's primary DEK, bound to `context` (not stored in it)."""
        opened = self._open.get(tenant)
        if opened is None or self._monotonic() >= opened.fresh_until:
            opened = self._keys.refreshed(tenant)
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
            opened = self._keys.refreshed(tenant)
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

    def _new_sealer(self, opened: OpenTenant) -> Sealer:
        tenant = opened.keyring.tenant
        if tenant.state is not TenantState.ACTIVE:
            raise TenantOffboarded("an off-boarded tenant takes no new data", tenant=tenant.tenant)
        if tenant.primary == 0:
            opened.fresh_until = float("-inf")
            raise Transient("the tenant's first DEK is not there yet", tenant=tenant.tenant)
        head = header(tenant.tenant, opened.seals_with)
        prefix = self._entropy(PREFIX_BYTES)
        dek = self._keys.dek(opened, opened.seals_with)
        sealer = Sealer(head + prefix, len(head), derive(dek.reveal(), prefix))
        opened.sealer = sealer
        return sealer

    def _new_opener(self, opened: OpenTenant, tenant: str, envelope: bytes) -> tuple[bytes, AESGCM]:
        claimed = parse(envelope)
        if claimed.tenant != tenant:
            raise WrongTenant("an envelope belongs to another tenant", asked=tenant, claimed=claimed.tenant)
        if opened.keyring.version(claimed.version) is None:
            opened = self._keys.looked_up(opened, tenant, claimed.version)
        dek = self._keys.dek(opened, claimed.version)
        opened.decrypted_with.add(claimed.version)
        lead = envelope[: opened.lead_length]
        opener = claimed.raw, derive(dek.reveal(), lead[-PREFIX_BYTES:])
        if len(opened.openers) >= _OPENERS_PER_TENANT:
            opened.openers.clear()
        opened.openers[lead] = opener
        return opener
