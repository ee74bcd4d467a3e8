"""Wrapping DEKs under a KEK, and knowing that what comes out is what went in.

Wrapping under an RSA key takes only its public half and is done here, so that a tenant's rotation costs no vault
operation; a symmetric KEK wraps at its vault. Unwrapping always needs the vault. The check value proves that an opened
DEK is the right one for its tenant and version.
"""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from shared.errors import AtpError, Integrity, UnusableKey
from shared.secret import Secret
from shared.values import KekVersion, KeyState, Kid, TenantId, Wrap, WrappedDek

DEK_BYTES: Final = 32
LEAST_RSA_BITS: Final = 2048  # NIST SP 800-131A Rev. 2, section 6
RSA_OAEP_256: Final = "RSA-OAEP-256"  # RFC 7518 section 4.3
A256KW: Final = "A256KW"  # RFC 7518 section 4.4: AES Key Wrap with 256 bits, RFC 3394
_OAEP_SHA256: Final = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
_CHECK_LABEL: Final = b"atp-dek-check-value/1"

type Entropy = Callable[[int], bytes]
"""Returns that many cryptographically random bytes: `os.urandom`."""
type RemoteWrap = Callable[[Kid, str, Secret], bytes]
"""Wraps at the vault: `Vault.wrap`."""


@dataclass(frozen=True, slots=True)
class WriteTarget:
    """What new DEKs are wrapped under."""

    primary: KekVersion
    previous: KekVersion | None = None  # too, while a rotation of the KEK can be rolled back


def check_value(dek: Secret, tenant: TenantId, version: int) -> bytes:
    """32 bytes that identify this DEK as this tenant's version and reveal nothing of it: HMAC-SHA256, RFC 2104.

    The label keeps it apart from every other use of the DEK.
    """
    message = b"\0".join((_CHECK_LABEL, tenant.encode(), str(version).encode()))
    return hmac.digest(dek.reveal(), message, hashlib.sha256)


def ensure_may_wrap(kek: KekVersion, now: datetime) -> None:
    """UnusableKey unless the vault itself would wrap with this version now.

    Local wrapping asks nobody, so the vault's own checks are ours: enabled, nbf, exp and key_ops
    (https://learn.microsoft.com/azure/key-vault/keys/about-keys-details).
    """
    if not kek.enabled:
        raise UnusableKey("the KEK version is disabled", kid=kek.kid)
    if kek.not_before and now < kek.not_before:
        raise UnusableKey("the KEK version is not valid yet", kid=kek.kid, not_before=kek.not_before)
    if kek.expires and now >= kek.expires:
        raise UnusableKey("the KEK version has expired", kid=kek.kid, expires=kek.expires)
    if kek.public_key is not None and kek.public_key.key_size < LEAST_RSA_BITS:
        raise UnusableKey("the KEK is too short", kid=kek.kid, bits=kek.public_key.key_size, least=LEAST_RSA_BITS)
    if not {"wrapKey", "unwrapKey"} <= kek.operations:
        raise UnusableKey("the KEK version does not allow wrapKey and unwrapKey", kid=kek.kid)


def may_wrap(kek: KekVersion, now: datetime) -> bool:
    """Whether `ensure_may_wrap` lets it."""
    try:
        ensure_may_wrap(kek, now)
    except UnusableKey:
        return False
    return True


def wrapped(dek: Secret, kek: KekVersion, remote: RemoteWrap) -> Wrap:
    """`dek` wrapped under `kek`: here by its public half, or by `remote` if it has none."""
    if kek.public_key is None:
        return Wrap(remote(kek.kid, A256KW, dek), kek.kid, A256KW)
    return Wrap(kek.public_key.encrypt(dek.reveal(), _OAEP_SHA256), kek.kid, RSA_OAEP_256)


def new_dek(
    tenant: TenantId, version: int, target: WriteTarget, now: datetime, job: str, entropy: Entropy, remote: RemoteWrap
) -> WrappedDek:
    """A new random 256-bit DEK, wrapped under `target`, as the tenant's primary. UnusableKey if it must not wrap."""
    ensure_may_wrap(target.primary, now)
    dek = Secret(entropy(DEK_BYTES))
    wrap = wrapped(dek, target.primary, remote)
    keeps_previous = target.previous is not None and may_wrap(target.previous, now)
    return WrappedDek(
        version=version,
        state=KeyState.PRIMARY,
        wrapped=wrap.wrapped,
        kid=wrap.kid,
        algorithm=wrap.algorithm,
        wrap_generation=1,
        check_value=check_value(dek, tenant, version),
        created=now,
        job=job,
        previous=_kept(dek, target.previous, remote) if target.previous and keeps_previous else None,
    )


def _kept(dek: Secret, kek: KekVersion, remote: RemoteWrap) -> Wrap | None:
    """A second wrap, if it can be had: a DEK's birth does not depend on it."""
    try:
        return wrapped(dek, kek, remote)
    except AtpError:
        return None


def ensure_is(dek: Secret, tenant: TenantId, stored: WrappedDek) -> None:
    """Integrity unless `dek`, as opened, is the one that `stored` was made for."""
    if not hmac.compare_digest(check_value(dek, tenant, stored.version), stored.check_value):
        raise Integrity("an opened DEK is not the one that was wrapped", tenant=tenant, version=stored.version)
