"""Signed webhooks, as Standard Webhooks 1.0.0 has them: what is signed, what a receiver accepts, what the vault says.

A message has an id, a time and a body, and carries them in headers with one signature for each secret that is valid:
HMAC-SHA256 over `id.time.body`. Neither id nor time holds a full stop, so that a signed text can be read in one way
only. A receiver accepts a message if any of its secrets made any of the signatures; so nobody has to change over at the
same moment while the sender signs with two.

Which secrets are valid stands in the vault alone: the newest version, and the one that its tags name as the previous
one, until the time that they tell. Sender and receivers read it there, and need no word from each other.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from shared.errors import Rejected
from shared.secret import Secret
from shared.values import PREVIOUS_TAG, PREVIOUS_UNTIL_TAG, SecretVersion

ID: Final = "webhook-id"
TIMESTAMP: Final = "webhook-timestamp"
SIGNATURE: Final = "webhook-signature"

ROTATED: Final = "secret.rotated"
REVOKED: Final = "secret.revoked"
TEST: Final = "secret.test"
"""Types of the messages that this app sends itself: the first two say that the vault is to be read again."""

TOLERANCE: Final = timedelta(minutes=5)
"""How far the time of a message may be from the receiver's."""
LEAST_BYTES: Final = 24
MOST_BYTES: Final = 64
"""Of a secret: "Random. At least 24 bytes (192 bits, 512 maximum)"."""

_PREFIX: Final = b"whsec_"
_VERSION: Final = "v1"
_ID: Final = re.compile(r"[!-\-/-~]{1,200}")  # printable ASCII without the full stop
_TIMESTAMP: Final = re.compile(r"[0-9]{1,11}")


def make_secret(random: bytes) -> Secret:
    """A secret from so many random bytes, as it is given to senders and receivers."""
    if not LEAST_BYTES <= len(random) <= MOST_BYTES:
        raise ValueError(f"a webhook secret has {LEAST_BYTES} to {MOST_BYTES} bytes")
    return Secret(_PREFIX + base64.b64encode(random))


def is_well_formed(secret: Secret) -> bool:
    """Whether it can be a webhook secret: `whsec_` and 24 to 64 bytes in base64."""
    value = secret.reveal()
    try:
        key = base64.b64decode(value.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        return False
    # Written anew, because some decoders let bits pass that stand for nothing.
    return LEAST_BYTES <= len(key) <= MOST_BYTES and value == _PREFIX + base64.b64encode(key)


def sign(message_id: str, body: bytes, secrets: Sequence[Secret], now: datetime) -> dict[str, str]:
    """The headers of a message that is sent now, with one signature for each secret.

    The id stays the same when the message is sent again; it is printable ASCII without a full stop.
    """
    if not _ID.fullmatch(message_id):
        raise ValueError("a message's id is printable ASCII without a full stop")
    if not secrets:
        raise ValueError("a message is signed with at least one secret")
    timestamp = str(int(now.timestamp()))
    signatures = [f"{_VERSION},{_signature(secret, message_id, timestamp, body)}" for secret in secrets]
    return {ID: message_id, TIMESTAMP: timestamp, SIGNATURE: " ".join(signatures)}


def verify(headers: Mapping[str, str], body: bytes, secrets: Sequence[Secret], now: datetime) -> None:
    """Returns if the message is genuine and of the last five minutes; raises Rejected otherwise.

    Names of headers in any case. The same message may come twice: whoever minds keeps the ids of five minutes.
    """
    found = {name.lower(): value for name, value in headers.items()}
    message_id, timestamp, signatures = (found.get(name, "") for name in (ID, TIMESTAMP, SIGNATURE))
    if not _ID.fullmatch(message_id) or not _TIMESTAMP.fullmatch(timestamp) or not signatures:
        raise Rejected("a webhook without id, time or signature")
    if abs(now - datetime.fromtimestamp(int(timestamp), UTC)) > TOLERANCE:
        raise Rejected("a webhook of another time", timestamp=timestamp)
    given = [text.encode(errors="replace") for text in signatures.split(" ")]
    expected = [f"{_VERSION},{_signature(secret, message_id, timestamp, body)}".encode() for secret in secrets]
    # All of them, in a time that does not depend on what they are.
    if True not in [hmac.compare_digest(one, other) for one in expected for other in given]:
        raise Rejected("a webhook that none of the secrets has signed")


def previous_version(newest: SecretVersion, now: datetime) -> str:
    """The version that is valid beside the newest one; empty if there is none."""
    until = _time(newest.tags.get(PREVIOUS_UNTIL_TAG, ""))
    return "" if until is not None and until <= now else newest.tags.get(PREVIOUS_TAG, "")


def _time(text: str) -> datetime | None:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _signature(secret: Secret, message_id: str, timestamp: str, body: bytes) -> str:
    if not is_well_formed(secret):
        raise Rejected("not a webhook secret")
    key = base64.b64decode(secret.reveal().removeprefix(_PREFIX))
    signed = f"{message_id}.{timestamp}.".encode() + body
    return base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
