"""How values are written in the protocol: JSON, bytes in base64url, times in Unix seconds."""

import base64
from collections.abc import Mapping, Sequence

type Json = bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None
type JsonObject = Mapping[str, Json]


def to_base64url(octets: bytes) -> str:
    """Unpadded, as RFC 7515 section 2 defines it for JOSE."""
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def from_base64url(text: str) -> bytes:
    """Padded or not; raises ValueError on anything else."""
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
