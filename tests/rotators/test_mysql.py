"""The rotator of MySQL users, on a real MariaDB server."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final, override

import certifi
import pymysql
import pytest

from rotation.fields import Fields
from rotation.rotators import mysql
from rotation.rotators.base import Credential
from rotation.rotators.mysql import MysqlServer
from rotation.rotators.sql_logins import Login
from shared.errors import Rejected, Transient
from shared.secret import Secret
from tests.rotators import mariadb
from tests.rotators.contract import RotatorContract
from tests.rotators.mariadb import MariaDb
from tests.rotators.sql import DATABASE, USERS, SqlBench, SqlContract, drawn, statements_of_page

pytestmark = pytest.mark.skipif(not mariadb.PROGRAM.exists(), reason="MariaDB (mariadb-server-core) is not installed")
ADMIN_PASSWORD: Final = drawn()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDb]:
    """One that was set up as the runbook says, without `admin`."""
    with mariadb.running(tmp_path_factory.mktemp("mariadb")) as server:
        for statement in statements_of_page("MySQL"):
            filled = statement.replace("<password>", ADMIN_PASSWORD)
            server.execute(filled.replace("CONNECTION_ADMIN", "CONNECTION ADMIN"))  # as MariaDB spells it
        for user in USERS:
            server.execute("GRANT CREATE USER, PROCESS, CONNECTION ADMIN ON *.* TO %s@'%%'", user)
        yield server


class MysqlBench(SqlBench):
    """Two users of a real server."""

    def __init__(self, server: MariaDb, admin_password: str) -> None:
        super().__init__(mysql.read, MysqlServer, server.port, admin_password)
        self.server = server

    @override
    def reset(self) -> None:
        for user in USERS:
            self.server.execute("ALTER USER %s@'%%' IDENTIFIED BY %s ACCOUNT LOCK", user, drawn())

    @override
    def set_password(self, user: str, password: str) -> None:
        self.server.execute("ALTER USER %s@'%%' IDENTIFIED BY %s ACCOUNT UNLOCK", user, password)

    @override
    def connect(self, user: str, password: str) -> "pymysql.Connection":
        return self.server.connect(user, password, DATABASE)

    @override
    def accepts(self, user: str, password: str) -> bool:
        try:
            self.connect(user, password).close()
        except pymysql.OperationalError:
            return False
        return True

    @override
    def is_alive(self, connection: Any) -> bool:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
        except pymysql.OperationalError:
            return False
        return True


@pytest.fixture(params=["admin", "the user in use"])
def bench(server: MariaDb, request: pytest.FixtureRequest) -> MysqlBench:
    """Who alters the two users."""
    return MysqlBench(server, ADMIN_PASSWORD if request.param == "admin" else "")


class TestMysql(SqlContract, RotatorContract):
    """The contract."""


def test_with_tls_the_server_must_be_certified_by_an_authority_that_is_trusted(
    server: MariaDb, bench: MysqlBench
) -> None:
    login = bench.begun()[1]
    trusting = replace(bench.parameters, verified=True, ca_file=str(server.authority))
    session = MysqlServer(trusting).open(login)
    assert session is not None
    session.check()
    session.close()
    for distrusting in (replace(trusting, ca_file=certifi.where()), replace(trusting, host="localhost")):
        with pytest.raises(Rejected, match="certificate is not trusted"):
            MysqlServer(distrusting).open(login)


def test_a_user_who_may_not_use_the_database_is_no_matter_of_passwords(bench: MysqlBench) -> None:
    login = bench.begun()[1]
    for database in ("mysql", "nowhere"):
        with pytest.raises(Rejected, match="no right to the database"):
            MysqlServer(replace(bench.parameters, database=database)).open(login)


def test_a_server_that_is_full_has_not_refused(server: MariaDb, bench: MysqlBench) -> None:
    login = bench.begun()[1]
    server.execute("ALTER USER %s@'%%' WITH MAX_CONNECTIONS_PER_HOUR 1", login.username)
    try:
        with pytest.raises(Transient):
            for _ in range(3):
                bench.rotator().test(Credential(login.username, bench.value(login.username, _text(login))))
    finally:
        server.execute("ALTER USER %s@'%%' WITH MAX_CONNECTIONS_PER_HOUR 0", login.username)


def test_a_session_that_was_killed_tells_nothing_for_certain(server: MariaDb, bench: MysqlBench) -> None:
    login = bench.begun()[1]
    session = bench.server_of_driver().open(login)
    assert session is not None
    with server.connect(mariadb.ADMIN, server.password) as connection, connection.cursor() as cursor:
        cursor.execute("KILL USER %s", (login.username,))
    with pytest.raises(Transient):
        session.check()
    session.close()


def test_without_the_right_to_alter_users_the_rotation_is_refused(server: MariaDb, bench: MysqlBench) -> None:
    _, login = bench.begun()
    altering = bench.altering(login)
    server.execute("REVOKE CREATE USER ON *.* FROM %s@'%%'", altering.username)
    try:
        session = bench.server_of_driver().open(altering)
        assert session is not None
        with pytest.raises(Rejected, match="refuses a statement"):
            session.let_in(USERS[1], Secret(drawn().encode()))
        session.close()
    finally:
        server.execute("GRANT CREATE USER ON *.* TO %s@'%%'", altering.username)


def test_the_account_is_that_of_the_host_that_the_catalog_names(server: MariaDb, bench: MysqlBench) -> None:
    mistakes: list[str] = []
    table = {"users": list(USERS), "host": "db", "database": DATABASE, "account_host": "10.1.%"}
    assert mysql.read(Fields("[shop]", table, mistakes)).account_host == "10.1.%"
    assert mistakes == []
    session = MysqlServer(replace(bench.parameters, account_host="10.1.%")).open(
        Login(mariadb.ADMIN, Secret(server.password.encode()))
    )
    assert session is not None
    with pytest.raises(Rejected):
        session.shut_out(USERS[0], Secret(drawn().encode()))
    session.close()


def _text(login: Login) -> str:
    return login.password.reveal().decode()
