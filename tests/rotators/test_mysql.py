"""The rotator of MySQL users, on a real MariaDB server."""

from collections.abc import Iterator
from typing import Any, Final, override

import pymysql
import pytest

from rotation.rotators import mysql
from rotation.rotators.mysql import MysqlServer
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
