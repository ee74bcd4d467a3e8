"""XAES-256-GCM: AES-256-GCM with a 192-bit nonce, so that random nonces are safe for 2^80 messages under one key.

The first half of the nonce derives a key (by a NIST SP 800-108 KDF in counter mode with CMAC), the second half is the
nonce of AES-256-GCM under it. Whoever keeps the first half for many messages derives once and pays AES-GCM's own price
from then on; each such half is then good for 2^32 messages (NIST SP 800-38D section 8.3).

Source: C2SP XAES-256-GCM, https://c2sp.org/XAES-256-GCM
"""

from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 24
PREFIX_BYTES: Final = 12
TAG_BYTES: Final = 16
MAX_MESSAGES_PER_PREFIX: Final = 2**32


def derive(key: bytes, prefix: bytes) -> AESGCM:
    """The AES-256-GCM of all nonces that begin with `prefix` (12 bytes) under `key` (32 bytes)."""
    if len(key) != KEY_BYTES or len(prefix) != PREFIX_BYTES:
        raise ValueError("XAES-256-GCM takes a 32-byte key and derives from 12 bytes of nonce")
    aes = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305 - one block at a time, as CMAC is built
    # CMAC subkey K1, NIST SP 800-38B section 6.1.
    subkey = int.from_bytes(aes.update(bytes(16))) << 1
    if subkey >> 128:
        subkey ^= 1 << 128 | 0x87
    blocks = b"".join(
        (int.from_bytes(bytes((0, counter, ord("X"), 0)) + prefix) ^ subkey).to_bytes(16) for counter in (1, 2)
    )
    return AESGCM(aes.update(blocks))
