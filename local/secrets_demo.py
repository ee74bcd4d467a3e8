"""The part of the demo about secrets. It runs beside the others from the first moment to the last.

1. a PostgreSQL server whose clients are a pool of connections that takes its login from the vault, a receiver of
   webhooks that verifies each one, and a secret that nobody uses yet; each with its entry in the catalog of this stack
2. the others move the clock for the DEKs and the KEK: so the login of the database and the webhook secret fall due,
   and their dual runnings end
3. the secret that nobody uses gets near its end, and Key Vault says so, by HTTP as Event Grid does
4. the login before is refused now, and no query has failed and no webhook was refused all through
"""

import http.client
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Self

import psycopg
from psycopg_pool import ConnectionPool

from local.events import event
from local.postgres import PostgresServer
from local.posting import PATIENCE_S, post
from local.progress import Steps
from local.stack import Stack
from local.webhook_receiver.client import WebhookReceiverProcess
from rotation.secret_versions import current_value
from rotation.webhook import TOLERANCE, make_secret
from rotation.webhook_secrets import WebhookSecrets, WebhookSigner
from shared.azure.wiring import load_catalog
from shared.clock import Clock
from shared.errors import AtpError
from shared.secret import Secret
from shared.values import SecretPhase, SecretRotation

DATABASE: Final = "demo-database"
ADMIN: Final = "demo-database-admin"
WEBHOOK: Final = "demo-webhook"
PARTNER: Final = "demo-partner"
USERS: Final = ("app_a", "app_b")

_GRACE: Final = timedelta(days=7)
_DAYS_LEFT: Final = 20
_CONNECTIONS: Final = 3
_LIFETIME_S: Final = 2.0
_PAUSE_S: Final = 0.02
_KEPT_FAILURES: Final = 5
_WHAT: Final = (OSError, http.client.HTTPException, psycopg.Error, AtpError)


@dataclass(slots=True)
class SecretsReport:
    """What has become of the secrets."""

    logins: list[str] = field(default_factory=list)  # users of the database that were in use, in this order
    queries: int = 0
    failed_queries: int = 0
    former_login_refused: bool = False
    webhooks: int = 0  # that the receiver has verified
    refused_webhooks: int = 0
    unsent_webhooks: int = 0  # that could not be signed, or were not answered by a 2xx
    webhook_rotated: bool = False
    partner_rotated: bool = False  # upon the event
    failures: list[str] = field(default_factory=list)

    def promises(self) -> dict[str, bool]:
        """Every promise about secrets, and whether it held."""
        return {
            "the login of a real PostgreSQL server was rotated": self.logins == list(USERS),
            "no query of the database's clients failed": self.queries > 0 == self.failed_queries,
            "the former login of the database is refused": self.former_login_refused,
            "the webhook secret was rotated": self.webhook_rotated,
            "every webhook was verified all through": self.webhooks > 0 == self.refused_webhooks
            and self.unsent_webhooks == 0,
            "a secret near its end was rotated when Key Vault said so": self.partner_rotated,
        }

    def to_json(self) -> dict[str, Any]:
        """All of it, for machines."""
        fields = asdict(self)
        del fields["failures"]
        return fields

    def rows_told(self) -> list[tuple[str, str]]:
        """The same for people."""
        return [
            ("database", f"login {' > '.join(self.logins)}, {self.queries:,} queries, {self.failed_queries} failed"),
            ("webhooks", f"{self.webhooks:,} verified, {self.refused_webhooks} refused"),
        ]


class SecretsDemo:
    """The servers, the clients and what they have met."""

    def __init__(self, stack: Stack, database: PostgresServer, receiver: WebhookReceiverProcess) -> None:
        self._stack = stack
        self._database = database
        self._receiver = receiver
        self._first = current_value(stack.adapters.secrets, DATABASE)
        self.report = SecretsReport()
        self._pool = ConnectionPool(
            self._login, min_size=1, max_size=_CONNECTIONS, max_lifetime=_LIFETIME_S, timeout=PATIENCE_S, open=False
        )
        self._late = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=work) for work in (self._query, self._query, self._send)]

    @classmethod
    @contextmanager
    def running(cls, stack: Stack) -> Iterator[Self]:
        """The servers up, the secrets in vault and catalog, the clients at work; before the first host is started."""
        with ExitStack() as servers:
            database = servers.enter_context(PostgresServer(stack.folder))
            _set_up(stack, database)
            receiver = servers.enter_context(_receiver(stack))
            _extend_catalog(stack, database, receiver)
            demo = cls(stack, database, receiver)
            with demo._pool:
                for thread in demo._threads:
                    thread.start()
                try:
                    yield demo
                finally:
                    demo._stop.set()
                    for thread in demo._threads:
                        thread.join()
                    demo._conclude()

    def adopt(self, show: Steps) -> None:
        """Have the app look at the secrets that somebody has made."""
        self._stack.hosts[-1].fire("plan_secrets")
        show.until("looking at secrets", 2, lambda: sum(bool(row and row.current) for row in self._rows()))

    def play(self, show: Steps) -> None:
        """Wait for what fell due and is over; let Key Vault report a secret that is near its end."""
        show.until("rotating secrets", 2, lambda: sum(bool(row and row.generation) for row in self._rows()))
        self._stack.clock.move(_GRACE + timedelta(minutes=15))
        show.until("ending dual running", 2, lambda: sum(self._is_over(name) for name in (DATABASE, WEBHOOK)))
        self._tell_of_near_expiry()
        show.until("reacting to a near expiry", 1, lambda: int(self._generation(PARTNER) == 1))
        self._tell_of_new_version()
        self.report.partner_rotated = True

    def _is_over(self, name: str) -> bool:
        row = self._row(name)
        return row is not None and row.generation > 0 and row.phase is SecretPhase.STEADY

    def _generation(self, name: str) -> int:
        row = self._row(name)
        return row.generation if row is not None and row.phase in (SecretPhase.GRACE, SecretPhase.STEADY) else 0

    def _rows(self) -> list[SecretRotation | None]:
        return [self._row(DATABASE), self._row(WEBHOOK)]

    def _row(self, name: str) -> SecretRotation | None:
        return self._stack.adapters.secret_rotations.read(name)

    def _login(self) -> str:
        """What the pool connects by: the vault's newest version at that moment."""
        return current_value(self._stack.adapters.secrets, DATABASE).reveal().decode() + "?sslmode=disable"

    def _query(self) -> None:
        while not self._stop.wait(_PAUSE_S):
            try:
                with self._pool.connection() as connection:
                    row = connection.execute("SELECT current_user::text").fetchone()
            except _WHAT as error:
                self.report.failed_queries += 1
                self._note(f"query: {type(error).__name__}")
                continue
            self.report.queries += 1
            if row is not None and row[0] not in self.report.logins:
                self.report.logins.append(row[0])

    def _send(self) -> None:
        signer = WebhookSigner(WebhookSecrets(self._stack.adapters.secrets, WEBHOOK, None, self._stack.clock))
        clock = _Jumps(self._stack.clock)
        number = 0
        while not self._stop.wait(_PAUSE_S):
            number += 1
            clock.has_jumped()
            body = json.dumps({"type": "demo.event", "number": number}).encode()
            try:
                headers = signer.sign(f"demo-{number}", body) | {"Content-Type": "application/json"}
                post(self._receiver.url, body, headers)
            except _WHAT as error:
                if clock.has_jumped():
                    self._late += 1  # signed by another time than it was verified by
                else:
                    self.report.unsent_webhooks += 1
                    self._note(f"webhook: {type(error).__name__}: {error}")

    def _tell_of_near_expiry(self) -> None:
        """As Event Grid does: a version that expires soon, and then the event about it."""
        expires = self._stack.clock() + timedelta(days=_DAYS_LEFT)
        version = self._stack.adapters.secrets.put(PARTNER, _webhook_secret(), {}, expires)
        self._tell("SecretNearExpiry", version.version)

    def _tell_of_new_version(self) -> None:
        """As Event Grid does of what the app has published: what was said of the version before is over."""
        newest = self._stack.adapters.secrets.newest(PARTNER)
        if newest is not None:
            self._tell("SecretNewVersionCreated", newest.version)

    def _tell(self, happening: str, version: str) -> None:
        told = event(happening, f"{self._stack.settings.vault_url}/secrets/{PARTNER}/{version}", self._stack.clock)
        url = f"{self._stack.hosts[-1].url}/runtime/webhooks/EventGrid?functionName=key_vault_event"
        post(url, json.dumps([told]).encode(), {"aeg-event-type": "Notification", "Content-Type": "application/json"})

    def _conclude(self) -> None:
        counts = self._receiver.counts()
        self.report.webhooks = counts.verified
        self.report.refused_webhooks = counts.refused + counts.unread - self._late
        self.report.webhook_rotated = self._is_over(WEBHOOK)
        try:
            psycopg.connect(self._first.reveal().decode() + "?sslmode=disable", connect_timeout=PATIENCE_S).close()
        except psycopg.OperationalError:
            self.report.former_login_refused = True

    def _note(self, failure: str) -> None:
        if len(self.report.failures) < _KEPT_FAILURES:
            self.report.failures.append(failure)


class _Jumps:
    """Notices when the demo moves the clock, which not every process learns of in the same moment."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset = self._now()
        self._jumped_at = float("-inf")

    def has_jumped(self) -> bool:
        """Whether it was moved within the last second."""
        offset = self._now()
        if abs(offset - self._offset) > TOLERANCE.total_seconds():
            self._offset, self._jumped_at = offset, time.monotonic()
        return time.monotonic() - self._jumped_at < 1

    def _now(self) -> float:
        return self._clock().timestamp() - time.monotonic()


def _set_up(stack: Stack, database: PostgresServer) -> None:
    """What a person does once: the two users, their rights, the first values."""
    first, admin = "first-" + database.password, "admin-" + database.password
    database.create_database("demo")
    database.create_user(USERS[0], first)
    database.create_user(USERS[1])
    database.create_user("rotator", admin)
    database.execute("ALTER ROLE rotator CREATEROLE")
    for user in USERS:
        database.execute("GRANT {} TO {} WITH ADMIN TRUE, INHERIT FALSE, SET FALSE", user, "rotator")
    database.execute("GRANT pg_signal_backend TO rotator")
    secrets = stack.adapters.secrets
    login = f"postgresql://{USERS[0]}:{first}@{database.host}:{database.port}/demo"
    secrets.put(DATABASE, Secret(login.encode()), {}, None)
    secrets.put(ADMIN, Secret(json.dumps({"username": "rotator", "password": admin}).encode()), {}, None)
    secrets.put(WEBHOOK, _webhook_secret(), {}, None)


def _webhook_secret() -> Secret:
    return make_secret(os.urandom(32))


def _receiver(stack: Stack) -> WebhookReceiverProcess:
    stack_file = json.loads((stack.folder / "stack.json").read_text())
    return WebhookReceiverProcess.start(
        stack.folder / "receiver",
        stack.folder / "clock",
        stack.folder / "receiver.log",
        stack.settings.vault_url,
        Path(stack_file["ca"]),
        WEBHOOK,
    )


def _extend_catalog(stack: Stack, database: PostgresServer, receiver: WebhookReceiverProcess) -> None:
    """The shipped catalog and the secrets of this demo, as the catalog of this stack."""
    entries: Mapping[str, str] = {
        DATABASE: f"""
rotator = "postgresql"
[{DATABASE}.parameters]
users = ["{USERS[0]}", "{USERS[1]}"]
host = "{database.host}"
port = {database.port}
database = "demo"
tls = "off"
admin = "{ADMIN}"
""",
        ADMIN: f"""
rotator = "manual"
[{ADMIN}.parameters]
instructions = "Give the role rotator a new password."
""",
        WEBHOOK: f"""
rotator = "webhook-hmac"
[{WEBHOOK}.parameters]
receivers = ["{receiver.url}/"]
""",
        PARTNER: """
rotator = "webhook-hmac"
""",
    }
    common = f'kind = "secret"\nowner = "platform-engineering"\ngrace_days = {_GRACE.days}\n'
    days = {ADMIN: 365, PARTNER: 365}
    text = stack.settings.catalog.read_text(encoding="utf-8")
    for name, rest in entries.items():
        text += f"\n[{name}]\n{common}interval_days = {days.get(name, 90)}{rest}"
    stack.use_catalog(text)
    load_catalog(stack.settings)
