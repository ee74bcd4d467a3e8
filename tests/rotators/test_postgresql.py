"""The rotator of PostgreSQL users, on a real server."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, override

import psycopg
import pytest

from local.postgres import PostgresServer
from rotation.rotators import postgresql
from rotation.rotators.postgresql import PostgresqlServer
from rotation.rotators.registry import ROTATORS
from rotation.rotators.sql_logins import Login
from shared.errors import Rejected, Transient
from shared.secret import Secret
from tests.rotators.contract import RotatorContract
from tests.rotators.sql import ADMIN, DATABASE, USERS, SqlBench, SqlContract, drawn, statements_of_page

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


def test_no_log_of_the_server_holds_a_password_though_it_logs_every_statement(
    server: PostgresServer, bench: PostgresqlBench
) -> None:
    engine, _ = bench.begun()
    server.execute("ALTER SYSTEM SET log_statement = 'all'")
    server.execute("SELECT pg_reload_conf()")
    try:
        engine.rotate()
    finally:
        server.execute("ALTER SYSTEM RESET log_statement")
        server.execute("SELECT pg_reload_conf()")
    log = server.log.read_bytes()
    assert b"ALTER ROLE" in log
    assert [value for value in engine.seen if any(part in log for part in bench.hidden(value))] == []


def test_a_user_who_may_not_log_in_and_one_who_is_not_there_are_refused(
    server: PostgresServer, bench: PostgresqlBench
) -> None:
    _, login = bench.begun()
    server.execute("ALTER ROLE {} NOLOGIN", login.username)
    assert bench.server_of_driver().open(login) is None
    assert bench.server_of_driver().open(Login("nobody", login.password)) is None


def test_a_user_whose_last_password_has_expired_is_let_in_with_the_next_one(
    server: PostgresServer, bench: PostgresqlBench
) -> None:
    engine, login = bench.begun()
    (other,) = set(USERS) - {login.username}
    server.execute("ALTER ROLE {} VALID UNTIL '2001-01-01'", other)
    engine.rotate()
    assert engine.current is not None
    assert bench.parameters.template.parse(engine.current.value).username == other


def test_a_server_without_room_has_not_refused(server: PostgresServer, bench: PostgresqlBench) -> None:
    _, login = bench.begun()
    server.execute("ALTER ROLE {} CONNECTION LIMIT 0", login.username)
    try:
        with pytest.raises(Transient):
            bench.server_of_driver().open(login)
    finally:
        server.execute("ALTER ROLE {} CONNECTION LIMIT -1", login.username)


def test_a_user_who_may_not_use_the_database_is_no_matter_of_passwords(
    server: PostgresServer, bench: PostgresqlBench
) -> None:
    _, login = bench.begun()
    server.execute("CREATE DATABASE {}", "closed")
    server.execute("REVOKE CONNECT ON DATABASE {} FROM PUBLIC", "closed")
    with pytest.raises(Rejected, match="no right to connect"):
        PostgresqlServer(replace(bench.parameters, database="closed")).open(login)


def test_a_server_without_tls_is_not_given_a_password_where_tls_is_wanted(bench: PostgresqlBench) -> None:
    _, login = bench.begun()
    with pytest.raises(Rejected, match="has no TLS"):
        PostgresqlServer(replace(bench.parameters, verified=True)).open(login)


def test_a_server_that_lets_anybody_in_proves_nothing(server: PostgresServer, bench: PostgresqlBench) -> None:
    _, login = bench.begun()
    with server.connect(server.admin, server.password) as connection:
        row = connection.execute("SHOW hba_file").fetchone()
    assert row is not None
    rules = Path(row[0])
    kept = rules.read_text()
    rules.write_text(f"host all {login.username} 127.0.0.1/32 trust\n{kept}")
    server.execute("SELECT pg_reload_conf()")
    try:
        with pytest.raises(Rejected, match="SCRAM"):
            bench.server_of_driver().open(login)
    finally:
        rules.write_text(kept)
        server.execute("SELECT pg_reload_conf()")


def test_a_session_that_was_ended_tells_nothing_for_certain(server: PostgresServer, bench: PostgresqlBench) -> None:
    _, login = bench.begun()
    session = bench.server_of_driver().open(login)
    assert session is not None
    server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = {user}", user=login.username)
    with pytest.raises(Transient):
        session.check()
    session.close()


def test_without_the_right_to_alter_users_the_rotation_is_refused(
    server: PostgresServer, bench: PostgresqlBench
) -> None:
    bench.begun()
    server.execute("ALTER ROLE {} NOCREATEROLE", ADMIN)
    try:
        session = bench.server_of_driver().open(Login(ADMIN, Secret(ADMIN_PASSWORD.encode())))
        assert session is not None
        with pytest.raises(Rejected, match="refuses a statement") as caught:
            session.shut_out(USERS[1], Secret(drawn().encode()))
        assert caught.value.fields["sqlstate"] == "42501"
        session.close()
    finally:
        server.execute("ALTER ROLE {} CREATEROLE", ADMIN)


def test_the_registry_makes_a_rotator_that_works(bench: PostgresqlBench) -> None:
    value = bench.adopt()
    kind = ROTATORS["postgresql"]
    assert kind.make("shop", bench.parameters, bench.surroundings()).locate(value) == USERS[0]
