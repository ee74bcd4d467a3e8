"""The format of ATP's encrypted data: a header that says who and which key, then nonce, ciphertext and tag.

    offset  bytes  what
    0       4      magic "ATPE"
    4       1      format version, 1
    5       1      algorithm, 1 = XAES-256-GCM
    6       4      DEK version, big-endian
    10      1      n, length of the tenant id
    11      n      tenant id
    11+n    24     nonce
    35+n    m      ciphertext, as long as the plaintext
    35+n+m  16     tag

Authenticated: everything before the nonce, followed by the caller's context. The header has a definite end, so header
and context cannot be shifted against each other. tests/vectors/envelope.json freezes the format.
"""

import struct
from dataclasses import dataclass
from typing import Final

from rotation.xaes import NONCE_BYTES, TAG_BYTES
from shared.errors import Rejected
from shared.values import TenantId, tenant_id

_MAGIC: Final = b"ATPE"
_FORMAT: Final = 1
_XAES_256_GCM: Final = 1
_FIXED: Final = struct.Struct(">4sBBIB")


class BadEnvelope(Rejected):
    """The bytes are not data that this tenant can decrypt. Subclasses say why."""


class UnknownFormat(BadEnvelope):
    """Not our magic, or a format version or algorithm that this release does not know."""


class Truncated(BadEnvelope):
    """Shorter than its own header, nonce and tag need."""


class WrongTenant(BadEnvelope):
    """Encrypted for another tenant than the one asked for."""


class UnknownVersion(BadEnvelope):
    """The header names a DEK version that the tenant never had."""


class NotAuthentic(BadEnvelope):
    """Header, context, nonce, ciphertext or tag is not what was written; nothing of the plaintext is given out."""


@dataclass(frozen=True, slots=True)
class Header:
    """What an envelope says about itself. Not to be believed before the tag has been checked."""

    tenant: TenantId
    version: int
    raw: bytes  # the header's own bytes, the first part of the authenticated data


def header(tenant: TenantId, version: int) -> bytes:
    """The header of data of `tenant` under its DEK `version`."""
    name = tenant.encode()
    return _FIXED.pack(_MAGIC, _FORMAT, _XAES_256_GCM, version, len(name)) + name


def parse(envelope: bytes) -> Header:
    """The header of an envelope; UnknownFormat or Truncated if it has none. Checks everything but authenticity."""
    if not envelope.startswith(_MAGIC[: len(envelope)]):
        raise UnknownFormat("not an ATP envelope")
    if len(envelope) < _FIXED.size:
        raise Truncated("an envelope ends inside its header", length=len(envelope))
    _, form, algorithm, version, length = _FIXED.unpack_from(envelope)
    if (form, algorithm) != (_FORMAT, _XAES_256_GCM):
        raise UnknownFormat("this release does not know the envelope's format", format=form, algorithm=algorithm)
    end = _FIXED.size + length
    if len(envelope) < end + NONCE_BYTES + TAG_BYTES:
        raise Truncated("an envelope ends before its tag", length=len(envelope))
    try:
        name = tenant_id(envelope[_FIXED.size : end].decode("ascii"))
    except (UnicodeDecodeError, Rejected):
        raise NotAuthentic("an envelope names an impossible tenant") from None
    return Header(name, version, envelope[:end])
