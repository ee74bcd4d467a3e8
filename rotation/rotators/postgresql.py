"""Passwords of two PostgreSQL roles. Needs the package psycopg.

The server gets a SCRAM-SHA-256 verifier in place of the password, so that no log of statements can hold the password,
and logins insist on SCRAM: a server that lets anybody in would accept a wrong password too.

libpq gives no SQLSTATE for a login that was refused, only the server's text, so that a refusal is known by its words:
the server's `lc_messages` must be English, as it is on Azure. In another language a refusal counts as not known.
"""

import re
from typing import TYPE_CHECKING, Final, override

from rotation.fields import Fields
from rotation.rotators import sql_logins
from rotation.rotators.base import Rotator, Surroundings
from rotation.rotators.sql_logins import TIMEOUT_S, Login, Server, Session, SqlLogins, SqlParameters
from shared.errors import AtpError, MissingPackage, Rejected, Transient
from shared.secret import Secret

if TYPE_CHECKING:
    import psycopg
    from psycopg.sql import Composed

# src/backend/libpq/auth.c and src/backend/utils/init/miscinit.c of PostgreSQL 18
_REFUSED: Final = re.compile(
    r'FATAL: +(?:password authentication failed for user|role ".*" is not permitted to log in|role ".*" does not exist)'
)
_REASONS: Final = {
    "no pg_hba.conf entry for host": "the server lets nobody in from here: pg_hba.conf",
    "permission denied for database": "the user has no right to connect to the database",
    "authentication method requirement": "the server does not authenticate by SCRAM-SHA-256",
    "certificate verify failed": "the server's certificate is not trusted",
    "does not match host name": "the server's certificate is not trusted",
    "server does not support SSL": "the server has no TLS",
}
# Appendix A of the manual, by class: connection, resources, operator intervention, system, rollback, object state,
# and a server that is read-only after a failover.
_PASSING: Final = ("08", "25006", "40", "53", "55", "57", "58")


def read(fields: Fields) -> SqlParameters:
    """Reads the parameters of a catalog entry."""
    return sql_logins.read(
        fields,
        5432,
        lambda host, port, database: f"postgresql://{{username}}:{{password}}@{host}:{port}/{database}",
    )


def make(name: str, parameters: SqlParameters, surroundings: Surroundings) -> Rotator:  # noqa: ARG001 - as all makers
    """The rotator."""
    return SqlLogins(parameters, PostgresqlServer(parameters), surroundings)


class PostgresqlServer(Server):
    """One database of a PostgreSQL server."""

    def __init__(self, parameters: SqlParameters) -> None:
        try:
            import psycopg  # noqa: F401
        except ImportError:
            raise MissingPackage("psycopg is not installed", package="psycopg") from None
        self._parameters = parameters

    @override
    def open(self, login: Login) -> Session | None:
        import psycopg

        try:
            connection = psycopg.connect(
                host=self._parameters.host,
                port=self._parameters.port,
                dbname=self._parameters.database,
                user=login.username,
                password=login.password.reveal().decode(),
                sslmode="verify-full" if self._parameters.verified else "disable",
                sslrootcert=self._parameters.ca_file,
                gssencmode="disable",
                require_auth="scram-sha-256",
                connect_timeout=TIMEOUT_S,
                tcp_user_timeout=TIMEOUT_S * 1000,
                options=f"-c statement_timeout={TIMEOUT_S}s",
                application_name="atp-key-rotation",
                autocommit=True,
            )
        except psycopg.Error as error:
            text = str(error)
        else:
            return PostgresqlSession(connection)
        if _REFUSED.search(text):
            return None
        for words, reason in _REASONS.items():
            if words in text:
                raise Rejected(reason, user=login.username)
        raise Transient("no connection to the database server", user=login.username)


class PostgresqlSession(Session):
    """A connection by psycopg."""

    def __init__(self, connection: "psycopg.Connection") -> None:
        self._connection = connection

    @override
    def check(self) -> None:
        from psycopg.sql import SQL

        self._ask(SQL("SELECT 1").format())

    @override
    def let_in(self, user: str, password: Secret) -> None:
        import psycopg
        from psycopg.sql import SQL, Identifier, Literal

        try:
            verifier = self._connection.pgconn.encrypt_password(password.reveal(), user.encode(), b"scram-sha-256")
        except psycopg.Error:
            raise _translated(None, user) from None
        # A new password needs no end: it would be refused after that of an earlier one.
        statement = SQL("ALTER ROLE {} LOGIN PASSWORD {} VALID UNTIL 'infinity'")
        self._ask(statement.format(Identifier(user), Literal(verifier.decode())), user)

    @override
    def shut_out(self, user: str, password: Secret) -> None:
        from psycopg.sql import SQL, Identifier

        self._ask(SQL("ALTER ROLE {} NOLOGIN PASSWORD NULL").format(Identifier(user)), user)

    @override
    def disconnect(self, user: str) -> int:
        from psycopg.sql import SQL, Literal

        statement = SQL("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = {}")
        return self._ask(statement.format(Literal(user)), user)

    @override
    def close(self) -> None:
        self._connection.close()

    def _ask(self, statement: "Composed", user: str = "") -> int:
        """Have it executed; the first field of what is answered, 0 if it is no answer."""
        import psycopg

        try:
            cursor = self._connection.execute(statement)
            row = cursor.fetchone() if cursor.description else None
        except psycopg.Error as error:
            raise _translated(error.sqlstate, user) from None
        return int(row[0]) if row else 0


def _translated(sqlstate: str | None, user: str) -> AtpError:
    if sqlstate is None or sqlstate.startswith(_PASSING):
        return Transient("the database server did not carry out a statement", sqlstate=sqlstate, user=user)
    return Rejected("the database server refuses a statement", sqlstate=sqlstate, user=user)
