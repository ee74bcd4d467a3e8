"""Two logins of a database server that take turns: what PostgreSQL, MySQL and Azure SQL have in common.

Each secret has two users of the same rights, made once by a person. Consumers use one of them; a rotation gives the
other one a new password, and after the grace period the first one is shut out: its password is replaced or removed, it
may not log in, and what is still connected as it is disconnected. Nothing is ever done to the user that consumers use.

What alters a user is one statement, which the server carries out as a whole or not at all, so that a process that dies
leaves a user as it was or as it was to be. Every statement can be repeated. The login named by `admin` alters the two,
or else the user in use alters the other one and needs the right to.

A dialect implements `Server` and `Session` with its driver. Errors of a driver may quote statements or what a server
made of them; a dialect translates them without their text, by the server's own code.
"""

import json
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, override
from urllib.parse import unquote

import certifi

from rotation.fields import Fields
from rotation.rotators.base import Change, Credential, Place, Rotator, Surroundings
from shared.errors import Integrity, Rejected, Transient
from shared.secret import Secret

TIMEOUT_S: Final = 15
"""The longest that a connection attempt or a statement takes, in each dialect."""

_PASSWORD_LENGTH: Final = 43  # of 62 letters and digits: 256 bits
_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_UNBIASED: Final = 256 - 256 % len(_LETTERS)  # bytes below this choose each letter equally often
_USERNAME, _PASSWORD = "{username}", "{password}"

# 32 characters are the most that MySQL allows: https://dev.mysql.com/doc/refman/8.4/en/user-names.html
_USER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
_HOST: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252})")
_DATABASE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}")
_FILE: Final = re.compile(r"/[A-Za-z0-9_./-]{1,200}")

_WAITS_S: Final = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # between looking whether the disconnected are gone


@dataclass(frozen=True, slots=True)
class Login:
    """What a session is opened with."""

    username: str
    password: Secret


class Template:
    """How the vault's value is made of username and password, and taken apart again."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._is_url = f"://{_USERNAME}:{_PASSWORD}@" in text
        pattern = re.escape(text).replace(re.escape(_USERNAME), "(?P<username>.+?)", 1)
        self._pattern = re.compile(pattern.replace(re.escape(_PASSWORD), "(?P<password>.+)", 1))

    def render(self, username: str, password: str) -> Secret:
        """The value. Our usernames and passwords need no escaping in any connection string."""
        return Secret(self._text.replace(_USERNAME, username).replace(_PASSWORD, password).encode())

    def parse(self, value: Secret) -> Login:
        """The login in the value, which may have been written by a person: a URL may escape. Rejected if it is none."""
        try:
            found = self._pattern.fullmatch(value.reveal().decode())
        except UnicodeDecodeError:
            found = None
        if found is None:
            raise Rejected("the value does not follow the template")
        username, password = found["username"], found["password"]
        if self._is_url:
            username, password = unquote(username), unquote(password)
        return Login(username, Secret(password.encode()))


@dataclass(frozen=True, slots=True)
class SqlParameters:
    """What a catalog entry says of the two users and their server."""

    users: tuple[str, ...]  # two
    host: str
    port: int
    database: str
    verified: bool  # TLS with the server's certificate verified; False: without TLS
    ca_file: str  # certificates of the authorities that are trusted
    admin: str  # name of the vault secret with the login that alters the two; empty: the one in use does
    template: Template
    account_host: str = "%"  # MySQL: the part of an account behind the @
    users_of_database: bool = False  # Azure SQL: another database has other users of the same names

    @property
    def targets(self) -> frozenset[str]:
        """The two users. Spelling counts for less than with some servers: rather one entry too few."""
        server = f"{self.host}:{self.port}" + (f"/{self.database}" if self.users_of_database else "")
        return frozenset(f"user {user} at {server}".lower() for user in self.users)


def read(fields: Fields, port: int, template: Callable[[str, int, str], str]) -> SqlParameters:
    """Reads the table `parameters`; `port` and `template` are the dialect's own where the entry has none."""
    users = fields.texts("users", _USER, "users of the database (A-Z a-z 0-9 _ . -, at most 32)")
    if len({user.lower() for user in users}) != 2:  # some servers take no notice of case
        fields.mistake("users: must name two users, which take turns")
    host = fields.matching("host", _HOST, "a host name")
    port = fields.integer("port", 1, 65535, default=port)
    database = fields.matching("database", _DATABASE, "a name of a database (A-Z a-z 0-9 _ . -)")
    text = fields.text("template", default=template(host, port, database))
    if text.count(_USERNAME) != 1 or text.count(_PASSWORD) != 1:
        fields.mistake("template: must have {username} and {password} once each")
    return SqlParameters(
        users=users,
        host=host,
        port=port,
        database=database,
        verified=fields.one_of("tls", ("verified", "off"), default="verified") == "verified",
        ca_file=fields.matching("ca_file", _FILE, "an absolute path", default=certifi.where()),
        admin=fields.name("admin", default=""),
        template=Template(text),
    )


class Session(ABC):
    """One login's connection to the server.

    Methods raise Transient if it is not known whether they took effect, and Rejected, with the server's code, if the
    server will not.
    """

    @abstractmethod
    def check(self) -> None:
        """Ask the server for something."""

    @abstractmethod
    def let_in(self, user: str, password: Secret) -> None:
        """The user can log in, with this password only. As a whole or not at all."""

    @abstractmethod
    def shut_out(self, user: str, password: Secret) -> None:
        """The user cannot log in any more; `password`, known to nobody, is for servers that want one. As a whole."""

    @abstractmethod
    def disconnect(self, user: str) -> int:
        """Tell the server to end all sessions of the user: how many there were."""

    @abstractmethod
    def close(self) -> None:
        """End it. Raises nothing."""


class Server(ABC):
    """Where logins are tried."""

    @abstractmethod
    def open(self, login: Login) -> Session | None:
        """A session; None if the server refuses this username with this password.

        Transient if the server cannot be asked, Rejected if it refuses for a reason that has to do with neither.
        """


class SqlLogins(Rotator):
    """Rotates the passwords of two users that take turns. The slot is the username."""

    def __init__(self, parameters: SqlParameters, server: Server, surroundings: Surroundings) -> None:
        self._parameters = parameters
        self._server = server
        self._surroundings = surroundings

    @override
    def locate(self, value: Secret) -> str:
        login = self._login(value)
        if not self._accepts(login):
            raise Rejected("the server does not accept the credential that is to be adopted", user=login.username)
        return login.username

    @override
    def place(self, current: Credential | None, generation: int) -> Place:
        if current is None and not self._parameters.admin:
            raise Rejected("a first credential needs `admin`: there is no login in use that could make it")
        taken = self._login(current.value).username if current else ""
        return Place(next(user for user in self._parameters.users if user != taken))

    @override
    def rehearse(self, slot: str, current: Credential | None) -> None:
        with self._altering(slot, current) as session:
            session.check()

    @override
    def obtain(self, change: Change) -> Credential:
        user = change.place.slot
        return Credential(user, self._parameters.template.render(user, self._draw()))

    @override
    def install(self, change: Change, new: Credential) -> bool:
        """It is tried first: a server that forbids using a password again would refuse what an earlier try has set."""
        login = self._login(new.value)
        if not self._accepts(login):
            with self._altering(login.username, change.current) as session:
                session.let_in(login.username, login.password)
        return True

    @override
    def test(self, credential: Credential) -> bool:
        return self._accepts(self._login(credential.value))

    @override
    def revoke(self, old: Credential, current: Credential) -> None:
        self._shut_out(self._login(old.value).username, current)

    @override
    def abandon(self, change: Change) -> None:
        self._shut_out(change.place.slot, change.current)

    def _shut_out(self, user: str, current: Credential | None) -> None:
        with self._altering(user, current) as session:
            session.shut_out(user, Secret(self._draw().encode()))
            # Killed here: it is shut out again, which changes nothing, and then disconnected.
            for wait in _WAITS_S:
                if not session.disconnect(user):
                    return
                time.sleep(wait)
        raise Transient("sessions of a user that was shut out have not ended yet", user=user)

    @contextmanager
    def _altering(self, user: str, current: Credential | None) -> Iterator[Session]:
        """A session that may alter the user, who is not the one that consumers use."""
        in_use = self._login(current.value) if current else None
        if user not in self._parameters.users or (in_use and in_use.username == user):
            raise Integrity("the user to be altered is not the one whose turn it is", user=user)
        login = self._admin() if self._parameters.admin else in_use
        if login is None:
            raise Rejected("there is neither `admin` nor a login in use that could alter the user", user=user)
        session = self._server.open(login)
        if session is None:
            raise Rejected("the server refuses the login that alters the two users", user=login.username)
        try:
            yield session
        finally:
            session.close()

    def _accepts(self, login: Login) -> bool:
        session = self._server.open(login)
        if session is None:
            return False
        try:
            session.check()
        finally:
            session.close()
        return True

    def _login(self, value: Secret) -> Login:
        login = self._parameters.template.parse(value)
        if login.username not in self._parameters.users:
            raise Rejected("the value is for a user that is not one of the two")
        return login

    def _admin(self) -> Login:
        try:
            fields = json.loads(self._surroundings.secret(self._parameters.admin).reveal())
            username, password = fields["username"], fields["password"]
        except (ValueError, KeyError, TypeError):
            username = password = None
        if not (isinstance(username, str) and isinstance(password, str) and username and password):
            raise Rejected("`admin` must hold JSON with username and password", secret=self._parameters.admin)
        if username in self._parameters.users:
            raise Rejected("`admin` must not be one of the two users", secret=self._parameters.admin)
        return Login(username, Secret(password.encode()))

    def _draw(self) -> str:
        """A password with letters of both cases and digits.

        Azure SQL wants three classes: https://learn.microsoft.com/sql/relational-databases/security/password-policy
        """
        while True:
            drawn = (_LETTERS[byte % len(_LETTERS)] for byte in self._surroundings.entropy(64) if byte < _UNBIASED)
            password = "".join(drawn)[:_PASSWORD_LENGTH]
            has = (any(map(kind, password)) for kind in (str.isupper, str.islower, str.isdigit))
            if len(password) == _PASSWORD_LENGTH and all(has):
                return password
