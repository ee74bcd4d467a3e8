"""The rotator of PostgreSQL users, on a real server."""

from collections.abc import Iterator
from typing import Any, override

import psycopg
import pytest

from local.postgres import PostgresServer
from rotation.rotators import postgresql
from rotation.rotators.postgresql import PostgresqlServer
from tests.rotators.contract import RotatorContract
from tests.rotators.sql import DATABASE, USERS, SqlBench, SqlContract, drawn, statements_of_page

ADMIN_PASSWORD = drawn()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """One that was set up as the runbook says."""
    with PostgresServer(tmp_path_factory.mktemp("postgres")) as server:
        server.create_database(DATABASE)
        for statement in statements_of_page("PostgreSQL"):
            server.execute(statement.replace("<password>", ADMIN_PASSWORD), database=DATABASE)
        yield server


class PostgresqlBench(SqlBench):
    """Two users of a real server, and an administrator that may do no more than the runbook says."""

    def __init__(self, server: PostgresServer) -> None:
        super().__init__(postgresql.read, PostgresqlServer, server.port, ADMIN_PASSWORD)
        self.server = server

    @override
    def reset(self) -> None:
        for user in USERS:
            self.server.execute("ALTER ROLE {} NOLOGIN PASSWORD NULL", user)

    @override
    def set_password(self, user: str, password: str) -> None:
        self.server.execute("ALTER ROLE {} LOGIN PASSWORD {password}", user, password=password)

    @override
    def connect(self, user: str, password: str) -> "psycopg.Connection":
        return self.server.connect(user, password, DATABASE)

    @override
    def accepts(self, user: str, password: str) -> bool:
        try:
            self.connect(user, password).close()
        except psycopg.OperationalError:
            return False
        return True

    @override
    def is_alive(self, connection: Any) -> bool:
        try:
            connection.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True


@pytest.fixture
def bench(server: PostgresServer) -> PostgresqlBench:
    """Nothing in it yet."""
    return PostgresqlBench(server)


class TestPostgresql(SqlContract, RotatorContract):
    """The contract."""
