"""Passwords of two MySQL accounts. Needs the package PyMySQL. Works with MariaDB 10.4 and newer too.

The password goes to the server in the statement that sets it; the server keeps it out of its logs:
https://dev.mysql.com/doc/refman/8.4/en/password-logging.html
"""

import re
import ssl
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, override

from rotation.fields import Fields
from rotation.rotators import sql_logins
from rotation.rotators.base import Rotator, Surroundings
from rotation.rotators.sql_logins import TIMEOUT_S, Login, Server, Session, SqlLogins, SqlParameters
from shared.errors import AtpError, MissingPackage, Rejected, Transient
from shared.secret import Secret

if TYPE_CHECKING:
    import pymysql

# https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html, https://mariadb.com/kb/en/mariadb-error-codes
_REFUSED: Final = {
    1045,  # ER_ACCESS_DENIED_ERROR
    1698,  # ER_ACCESS_DENIED_NO_PASSWORD_ERROR
    3118,  # ER_ACCOUNT_HAS_BEEN_LOCKED
    4151,  # the same of MariaDB
}
_FOR_ANOTHER_REASON: Final = {
    1044: "the user has no right to the database",  # ER_DBACCESS_DENIED_ERROR
    1049: "there is no database of that name",  # ER_BAD_DB_ERROR
    1130: "the server lets nobody in from here",  # ER_HOST_NOT_PRIVILEGED
    1862: "the user's password has expired",  # ER_MUST_CHANGE_PASSWORD_LOGIN
    2026: "the server has no TLS",  # CR_SSL_CONNECTION_ERROR, of PyMySQL
}
_FORBIDDEN: Final = {
    1044,
    1064,  # ER_PARSE_ERROR
    1142,  # ER_TABLEACCESS_DENIED_ERROR
    1095,  # ER_KILL_DENIED_ERROR
    1227,  # ER_SPECIFIC_ACCESS_DENIED_ERROR
    1396,  # ER_CANNOT_USER: there is no such account
    1819,  # ER_NOT_VALID_PASSWORD
    3638,  # ER_CREDENTIALS_CONTRADICT_TO_HISTORY
}
_NO_SUCH_THREAD: Final = 1094
_ACCOUNT_HOST: Final = re.compile(r"[A-Za-z0-9.%_:/-]{1,255}")


def read(fields: Fields) -> SqlParameters:
    """Reads the parameters of a catalog entry."""
    parameters = sql_logins.read(
        fields, 3306, lambda host, port, database: f"mysql://{{username}}:{{password}}@{host}:{port}/{database}"
    )
    account_host = fields.matching("account_host", _ACCOUNT_HOST, "the host part of an account, as 10.1.%", default="%")
    return replace(parameters, account_host=account_host)


def make(name: str, parameters: SqlParameters, surroundings: Surroundings) -> Rotator:  # noqa: ARG001 - as all makers
    """The rotator."""
    return SqlLogins(parameters, MysqlServer(parameters), surroundings)


class MysqlServer(Server):
    """One database of a MySQL server."""

    def __init__(self, parameters: SqlParameters) -> None:
        try:
            import pymysql  # noqa: F401
        except ImportError:
            raise MissingPackage("PyMySQL is not installed", package="PyMySQL") from None
        self._parameters = parameters

    @override
    def open(self, login: Login) -> Session | None:
        import pymysql

        # A context makes TLS a must: without one PyMySQL goes on in the clear if the server has no TLS.
        tls: dict[str, Any] = {"ssl_disabled": True}
        if self._parameters.verified:
            tls = {"ssl": ssl.create_default_context(cafile=self._parameters.ca_file)}
        try:
            connection = pymysql.connect(
                host=self._parameters.host,
                port=self._parameters.port,
                database=self._parameters.database,
                user=login.username,
                password=login.password.reveal(),
                charset="utf8mb4",
                connect_timeout=TIMEOUT_S,
                read_timeout=TIMEOUT_S,
                write_timeout=TIMEOUT_S,
                program_name="atp-key-rotation",
                autocommit=True,
                **tls,
            )
        except (pymysql.MySQLError, OSError) as error:
            code = _code(error)
            is_untrusted = isinstance(getattr(error, "original_exception", None), ssl.SSLCertVerificationError)
        else:
            return MysqlSession(connection, self._parameters.account_host)
        if is_untrusted:
            raise Rejected("the server's certificate is not trusted", user=login.username)
        if code in _REFUSED:
            return None
        if code in _FOR_ANOTHER_REASON:
            raise Rejected(_FOR_ANOTHER_REASON[code], code=code, user=login.username)
        raise Transient("no connection to the database server", code=code, user=login.username)


class MysqlSession(Session):
    """A connection by PyMySQL."""

    def __init__(self, connection: "pymysql.Connection", account_host: str) -> None:
        self._connection = connection
        self._account_host = account_host

    @override
    def check(self) -> None:
        self._ask("SELECT 1", ())

    @override
    def let_in(self, user: str, password: Secret) -> None:
        self._ask(
            "ALTER USER %s@%s IDENTIFIED BY %s ACCOUNT UNLOCK", (user, self._account_host, password.reveal().decode())
        )

    @override
    def shut_out(self, user: str, password: Secret) -> None:
        self._ask(
            "ALTER USER %s@%s IDENTIFIED BY %s ACCOUNT LOCK", (user, self._account_host, password.reveal().decode())
        )

    @override
    def disconnect(self, user: str) -> int:
        threads = self._ask("SELECT id FROM information_schema.processlist WHERE user = %s", (user,))
        for (thread,) in threads:
            self._ask("KILL %s", (int(thread),), harmless=_NO_SUCH_THREAD)
        return len(threads)

    @override
    def close(self) -> None:
        self._connection.close()

    def _ask(self, statement: str, values: tuple[object, ...], harmless: int = 0) -> tuple[tuple[Any, ...], ...]:
        """Have it executed, with the values as literals; what is answered. The error `harmless` is no error."""
        import pymysql

        try:
            with self._connection.cursor() as cursor:
                cursor.execute(statement, values)
                return tuple(cursor.fetchall())
        except (pymysql.MySQLError, OSError) as error:
            code = _code(error)
        if code and code == harmless:
            return ()
        raise _translated(code)


def _code(error: Exception) -> int:
    """The server's error number; 0 if it is not the server that complains."""
    number = error.args[0] if error.args and not isinstance(error, OSError) else 0
    return number if isinstance(number, int) else 0


def _translated(code: int) -> AtpError:
    if code in _FORBIDDEN:
        return Rejected("the database server refuses a statement", code=code)
    return Transient("the database server did not carry out a statement", code=code)
