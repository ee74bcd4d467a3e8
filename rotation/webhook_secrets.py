"""The secrets of webhooks as ATP services use them: read from the vault, kept for a minute, never longer than needed.

`WebhookSigner` is for who sends, `WebhookVerifier` for who receives. Both are thread-safe, and go on with what they
have when the vault does not answer: a secret changes once in months, and the one before it is valid for days.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from rotation import webhook
from shared.clock import Clock, Stopwatch, system_clock
from shared.errors import Rejected, Transient
from shared.secret import Secret
from shared.values import SecretVersion

log = logging.getLogger(__name__)

KEPT_S: Final = 60.0
"""How long what was read is used without asking again."""
PAUSE_S: Final = 5.0
"""How long the vault is left alone when it did not answer, and between messages that nobody known has signed."""


class ReadableSecrets(Protocol):
    """What a service needs of the port `Secrets`, and no right to write."""

    def newest(self, name: str, vault: str | None = None) -> SecretVersion | None:
        """What is read by who names no version. None if there is no such secret."""

    def value(self, name: str, version: str, vault: str | None = None) -> Secret:
        """The value of that version. Rejected if there is none, or it is disabled."""


@dataclass(frozen=True, slots=True)
class _Read:
    """What the vault said: the secrets, and the version whose tags tell how long the previous one is valid."""

    newest: SecretVersion
    current: Secret
    previous: Secret | None


class WebhookSecrets:
    """The valid secrets of one name in the vault."""

    def __init__(
        self,
        secrets: ReadableSecrets,
        name: str,
        vault: str | None = None,
        clock: Clock = system_clock,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._secrets = secrets
        self._name = name
        self._vault = vault
        self._clock = clock
        self._monotonic = monotonic
        self._asking = threading.Lock()
        self._read: _Read | None = None
        self._renew = True
        self._asked = Stopwatch(monotonic, clock)
        self._kept_s = 0.0  # from then on

    @property
    def now(self) -> datetime:
        """The time that messages are signed and verified at."""
        return self._clock()

    def valid(self) -> tuple[Secret, ...]:
        """The current secret, and during dual running the previous one.

        Transient as long as the vault has never answered; Rejected if it has no such secret.
        """
        # Who comes while another one asks goes on with what there is.
        if self._is_stale() and self._asking.acquire(blocking=self._read is None):
            try:
                if self._is_stale():
                    self._ask()
            finally:
                self._asking.release()
        read = self._read
        if read is None:
            raise Transient("the vault has not answered yet", entry=self._name)
        if read.previous is None or not webhook.previous_version(read.newest, self._clock()):
            return (read.current,)
        return (read.current, read.previous)

    def renew(self) -> None:
        """Have the next `valid` ask the vault: something says that it has changed."""
        self._renew = True

    def doubt(self) -> bool:
        """As `renew`, unless the vault was asked in the last seconds: anybody can send what does not verify."""
        if self._asked.seconds() < PAUSE_S:
            return False
        self._renew = True
        return True

    def _is_stale(self) -> bool:
        return self._renew or self._asked.seconds() >= self._kept_s

    def _ask(self) -> None:
        self._asked, self._kept_s = Stopwatch(self._monotonic, self._clock), 0.0
        self._renew = False  # before asking: what is wanted from now on may not be in the answer
        try:
            self._read = self._ask_vault()
            self._kept_s = KEPT_S
        except Transient as error:
            if self._read is None:
                raise
            self._kept_s = PAUSE_S
            log.warning("webhook secret not read again", extra={"entry": self._name, "because": str(error)})

    def _ask_vault(self) -> _Read:
        newest = self._secrets.newest(self._name, self._vault)
        if newest is None:
            raise Rejected("the vault has no such webhook secret", entry=self._name)
        current = self._secrets.value(self._name, newest.version, self._vault)
        return _Read(newest, current, self._previous(newest))

    def _previous(self, newest: SecretVersion) -> Secret | None:
        version = webhook.previous_version(newest, self._clock())
        if not version:
            return None
        try:
            return self._secrets.value(self._name, version, self._vault)
        except Rejected:  # disabled: its time has ended earlier than the tag says
            return None


class WebhookSigner:
    """Signs the messages of a sender with every valid secret."""

    def __init__(self, secrets: WebhookSecrets) -> None:
        self._secrets = secrets

    def sign(self, message_id: str, body: bytes) -> dict[str, str]:
        """The headers to send with this body, now. A message that is sent again keeps its id, and is signed again."""
        return webhook.sign(message_id, body, self._secrets.valid(), self._secrets.now)


class WebhookVerifier:
    """Verifies the messages of a receiver against every valid secret."""

    def __init__(self, secrets: WebhookSecrets) -> None:
        self._secrets = secrets

    def verify(self, headers: Mapping[str, str], body: bytes) -> None:
        """Returns if the message is genuine, else raises Rejected; the vault is asked before one is refused."""
        try:
            webhook.verify(headers, body, self._secrets.valid(), self._secrets.now)
        except Rejected:
            if not self._secrets.doubt():
                raise
            webhook.verify(headers, body, self._secrets.valid(), self._secrets.now)

    def renew(self) -> None:
        """A genuine message has said that the secret changes: read it again before the next one."""
        self._secrets.renew()
