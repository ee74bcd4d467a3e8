"""Passwords of two contained users of an Azure SQL database. Needs the package mssql-python.

A contained user is known to its database only and can log in by nothing but its password. To shut one out is therefore
to give it a password that nobody knows: one statement, which needs ALTER ANY USER and no right to deny CONNECT, and
which `let_in` undoes. https://learn.microsoft.com/sql/t-sql/statements/alter-user-transact-sql: OLD_PASSWORD is not
required of those who have ALTER ANY USER. A new password does not end sessions; KILL does, and needs KILL DATABASE
CONNECTION: https://learn.microsoft.com/sql/t-sql/language-elements/kill-transact-sql

ALTER USER and KILL take no parameters, so that names and passwords are quoted into the statement. The driver gives no
error number, only what the server says, and for some errors a constant text in place of the SQLSTATE.
"""

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, Protocol, override

from rotation.fields import Fields
from rotation.rotators import sql_logins
from rotation.rotators.base import Rotator, Surroundings
from rotation.rotators.sql_logins import TIMEOUT_S, Login, Server, Session, SqlLogins, SqlParameters
from shared.errors import MissingPackage, Rejected, Transient
from shared.secret import Secret

# Error 18456 and, for a login that was disabled, 18470. The same words with another reason (18401: the server is being
# upgraded) or behind 4060 (the database cannot be opened, which may pass) are no refusal.
# https://learn.microsoft.com/sql/relational-databases/errors-events/mssqlserver-18456-database-engine-error
_REFUSED: Final = re.compile(r"Login failed for user '[^']*'\.(?! *Reason: (?!The account is disabled))")
_NOT_OPENED: Final = "Cannot open database"
_NOT_FOR_THIS_USER: Final = re.compile("is not able to access the database")  # error 916
_FORBIDDEN: Final = re.compile(
    "does not have permission|you do not have permission|permission was denied|Password validation failed",
    re.IGNORECASE,
)


class Cursor(Protocol):
    """What is used of a DB-API 2.0 cursor."""

    def execute(self, statement: str) -> object:
        """Have a statement executed."""

    def fetchall(self) -> Sequence[Sequence[Any]]:
        """What is answered."""


class Connection(Protocol):
    """What is used of a DB-API 2.0 connection."""

    def cursor(self) -> Cursor:
        """For one statement."""

    def close(self) -> None:
        """End it."""


class Connect(Protocol):
    """What opens a connection, as `mssql_python.connect` does."""

    def __call__(self, connection_str: str, *, autocommit: bool, timeout: int) -> Connection:
        """The connection."""


def read(fields: Fields) -> SqlParameters:
    """Reads the parameters of a catalog entry."""
    return replace(sql_logins.read(fields, 1433, _template), users_of_database=True)


def make(name: str, parameters: SqlParameters, surroundings: Surroundings) -> Rotator:  # noqa: ARG001 - as all makers
    """The rotator."""
    try:
        import mssql_python
    except ImportError:
        raise MissingPackage("mssql-python is not installed", package="mssql-python") from None
    mssql_python.pooling(enabled=False)  # a pooled connection would answer for a password that works no more
    return SqlLogins(parameters, AzureSqlServer(parameters, mssql_python.connect), surroundings)


def _template(host: str, port: int, database: str) -> str:
    """As ADO.NET reads it."""
    login = "User ID={username};Password={password}"
    return f"Server=tcp:{host},{port};Initial Catalog={database};{login};Encrypt=True;"


def identifier(name: str) -> str:
    """The name as QUOTENAME quotes it."""
    return "[" + name.replace("]", "]]") + "]"


def literal(text: str) -> str:
    """The text as a Unicode string literal."""
    return "N'" + text.replace("'", "''") + "'"


def attribute(value: str) -> str:
    """The value as a connection string of ODBC quotes it."""
    return "{" + value.replace("}", "}}") + "}"


class AzureSqlServer(Server):
    """One database of Azure SQL."""

    def __init__(self, parameters: SqlParameters, connect: Connect) -> None:
        self._parameters = parameters
        self._connect = connect

    @override
    def open(self, login: Login) -> Session | None:
        attributes = {
            "Server": f"tcp:{self._parameters.host},{self._parameters.port}",
            "Database": self._parameters.database,
            "UID": attribute(login.username),
            "PWD": attribute(login.password.reveal().decode()),
            "Encrypt": "yes" if self._parameters.verified else "no",
            "TrustServerCertificate": "no",
        }
        text = "".join(f"{name}={value};" for name, value in attributes.items())
        try:
            return AzureSqlSession(self._connect(text, autocommit=True, timeout=TIMEOUT_S))
        except Exception as error:  # noqa: BLE001 - the driver raises RuntimeError as well as its own errors
            said = str(error)
        if _NOT_OPENED not in said and _REFUSED.search(said):
            return None
        if _NOT_FOR_THIS_USER.search(said):
            raise Rejected("the user has no right to connect to the database", user=login.username)
        raise Transient("no connection to the database server", user=login.username)


class AzureSqlSession(Session):
    """A connection by mssql-python."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @override
    def check(self) -> None:
        self._rows("SELECT 1")

    @override
    def let_in(self, user: str, password: Secret) -> None:
        self._execute(f"ALTER USER {identifier(user)} WITH PASSWORD = {literal(password.reveal().decode())}")

    @override
    def shut_out(self, user: str, password: Secret) -> None:
        self.let_in(user, password)

    @override
    def disconnect(self, user: str) -> int:
        of_user = f"original_login_name = {literal(user)} AND authenticating_database_id = DB_ID()"
        found = f"SELECT session_id FROM sys.dm_exec_sessions WHERE {of_user}"  # noqa: S608 - quoted as a literal
        sessions = self._rows(found)
        for (number,) in sessions:
            # The condition: a session's number is given to the next one as soon as it has ended.
            self._execute(f"IF EXISTS ({found} AND session_id = {int(number)}) KILL {int(number)}")
        return len(sessions)

    @override
    def close(self) -> None:
        with suppress(Exception):  # what was asked for is done, and the server ends the session when we are gone
            self._connection.close()

    def _rows(self, statement: str) -> Sequence[Sequence[Any]]:
        return self._translated(lambda: self._executed(statement).fetchall())

    def _execute(self, statement: str) -> None:
        self._translated(lambda: self._executed(statement))

    def _executed(self, statement: str) -> Cursor:
        cursor = self._connection.cursor()
        cursor.execute(statement)
        return cursor

    def _translated[T](self, call: Callable[[], T]) -> T:
        try:
            return call()
        except Exception as error:  # noqa: BLE001 - the driver raises RuntimeError as well as its own errors
            forbidden = _FORBIDDEN.search(str(error))
            kind = type(error).__name__
        if forbidden:
            raise Rejected("the database server refuses a statement", error=kind)
        raise Transient("the database server did not carry out a statement", error=kind)
