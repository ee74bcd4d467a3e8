"""The command `secret drop`: a person hands over the value of a credential that only a person can make.

The value comes by standard input and goes into the vault, aside, where the rotation that waits for it looks. It is in
no argument, message, row, log line or output.
"""

import argparse
import getpass
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from rotation.catalog import PENDING_SUFFIX, SecretPolicy
from rotation.commands.grammar import Commands, add_command, add_origin
from rotation.commands.ports import Ports
from rotation.commands.secret_orders import add_name, order_from, policy_of, row_of
from rotation.message import SECRET_JOBS, SecretAction
from rotation.rotators.base import Credential, fingerprint
from rotation.secret_versions import Versions
from shared.errors import Rejected, Transient
from shared.secret import Secret
from shared.settings import Settings
from shared.values import SecretPhase, SecretRotation

_MOST_BYTES: Final = 25 * 1024
"""Key Vault's limit on the value of a secret."""


def add_to(secret: Commands) -> None:
    """Put the command into the command line."""
    purpose = "hand over the value that a rotation waits for; it is read from standard input and not shown"
    drop = add_command(secret, "drop", purpose, _drop, sample="secret drop partner-api-admin --reason 'ticket 4711'")
    add_name(drop)
    add_origin(drop, "drop")


def _drop(options: argparse.Namespace, settings: Settings, ports: Ports) -> Iterator[str]:
    policy = policy_of(options.secret, settings)
    row = _ensure_waiting(row_of(ports, policy.name))
    order = order_from(options, SecretAction.DRIVE, generation=row.generation)
    value = _value()
    versions = Versions(ports.secrets, policy.entry, ports.clock)
    _ensure_new(versions, row, value)
    if _ensure_waiting(row_of(ports, policy.name)).generation != row.generation:
        raise Rejected("another rotation has begun meanwhile: look at `secret status`", entry=row.name)
    # Dying behind this line leaves the value where the next run of the planner finds it.
    kept = versions.set_aside(row.generation, Credential(row.pending_slot, value))
    yield f"kept: version {kept.version} of {_aside(policy)}"
    ports.queues.send(SECRET_JOBS, order.to_json())
    yield f"asked: {order.id}"


def _ensure_waiting(row: SecretRotation) -> SecretRotation:
    """Rejected unless the rotation waits for a value from a person."""
    if row.phase is not SecretPhase.INTENDED or not row.task:
        raise Rejected("no rotation waits for a value of this secret", entry=row.name, phase=row.phase)
    return row


def _value() -> Secret:
    """What somebody types unseen, or what comes through a pipe, without the newline at its end."""
    if sys.stdin is None:
        raise Rejected("the value comes by standard input, which is closed")
    given = _typed() if sys.stdin.isatty() else sys.stdin.buffer.read(_MOST_BYTES + len(b"\r\n") + 1)
    given = given.removesuffix(b"\r\n") if given.endswith(b"\r\n") else given.removesuffix(b"\n")
    value = Secret(given)
    if not 1 <= len(given) <= _MOST_BYTES:
        raise Rejected("a value has at least one byte, and not more than a vault takes", most_bytes=_MOST_BYTES)
    try:
        given.decode()
    except UnicodeDecodeError:
        raise Rejected("a value is text in UTF-8; encode other bytes, in base64 say") from None
    return value


def _typed() -> bytes:
    try:
        value, again = (getpass.getpass(prompt) for prompt in ("new value: ", "once more: "))
    except EOFError:
        return b""
    if value != again:
        raise Rejected("the two are not the same: nothing was dropped")
    return value.encode(errors="surrogateescape")


def _ensure_new(versions: Versions, row: SecretRotation, value: Secret) -> None:
    """Rejected if it is the value in use, which is going to be revoked; unless that may not be read here."""
    current = None
    with suppress(Transient, Rejected):
        current = versions.value(row.current) if row.current else None
    if current is not None and fingerprint(current) == fingerprint(value):
        raise Rejected("that is the value in use, which will be revoked: make a new one", entry=row.name)


def _aside(policy: SecretPolicy) -> str:
    return policy.entry.object + PENDING_SUFFIX
