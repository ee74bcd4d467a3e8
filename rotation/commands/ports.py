"""What the commands need from the outside."""

import argparse
from collections.abc import Callable, Iterator
from typing import Protocol

from rotation.catalog import SecretPolicy
from rotation.rotators.base import Surroundings
from shared.clock import Clock
from shared.ports import (
    Alerts,
    AuditSigner,
    Checkpoints,
    DeadLetters,
    Deks,
    Evidence,
    Keks,
    KekUses,
    Queues,
    Records,
    SecretRotations,
    Secrets,
    Shards,
    Vault,
    VaultObjects,
)
from shared.settings import Settings


class Ports(Protocol):
    """Every port that some command uses. Only those of the command that is run are asked for."""

    @property
    def clock(self) -> Clock:
        """The time."""

    @property
    def records(self) -> Records:
        """Audit streams."""

    @property
    def checkpoints(self) -> Checkpoints:
        """Their signed checkpoints."""

    @property
    def audit_signer(self) -> AuditSigner:
        """What signs those."""

    @property
    def evidence(self) -> Evidence | None:
        """The second copy of the audit trail, if there is one."""

    @property
    def deks(self) -> Deks:
        """Tenants and their DEKs."""

    @property
    def keks(self) -> Keks:
        """KEKs and their rotations."""

    @property
    def shards(self) -> Shards:
        """Checkpoints of the rotations."""

    @property
    def kek_uses(self) -> KekUses:
        """Who has to do with which KEK versions."""

    @property
    def vault(self) -> Vault:
        """The key vaults."""

    @property
    def vault_objects(self) -> VaultObjects:
        """Everything that they hold."""

    @property
    def secrets(self) -> Secrets:
        """The secrets in the key vaults."""

    @property
    def secret_rotations(self) -> SecretRotations:
        """Where the secrets of the catalog stand."""

    def surroundings(self, policy: SecretPolicy) -> Surroundings:
        """What the rotator of a secret gets from the app."""

    @property
    def queues(self) -> Queues:
        """The job queues."""

    @property
    def alerts(self) -> Alerts:
        """What people must know."""

    @property
    def dead_letters(self) -> DeadLetters:
        """Messages that wait for an operator."""


type OfflineCommand = Callable[[argparse.Namespace], Iterator[str]]
"""The same without settings and ports."""

type Command = Callable[[argparse.Namespace, Settings, Ports], Iterator[str]]
"""Does what the options say and answers with the lines to print, as they come."""
