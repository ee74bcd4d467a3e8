"""The rotator of Azure SQL users, on a fake that understands the documented statements and nothing else."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, override

import pytest

from rotation.fields import Fields
from rotation.rotators import azure_sql
from rotation.rotators.azure_sql import AzureSqlServer, attribute, identifier, literal
from rotation.rotators.registry import ROTATORS
from rotation.rotators.sql_logins import Login, Server, SqlParameters
from shared.errors import MissingPackage, Rejected, Transient
from shared.secret import Secret
from tests.rotators.contract import RotatorContract
from tests.rotators.sql import ADMIN, DATABASE, USERS, SqlBench, SqlContract, drawn

PORT: Final = 1433
DRIVER: Final = "[Microsoft][ODBC Driver 18 for SQL Server]"

# https://learn.microsoft.com/sql/t-sql/statements/alter-user-transact-sql
_ALTER: Final = re.compile(r"ALTER USER \[((?:[^\]]|\]\])+)\] WITH PASSWORD = N'((?:[^']|'')+)'")
_OF_USER: Final = r"original_login_name = N'([^']+)' AND authenticating_database_id = DB_ID\(\)"
_SESSIONS: Final = re.compile(f"SELECT session_id FROM sys.dm_exec_sessions WHERE {_OF_USER}")
# https://learn.microsoft.com/sql/t-sql/language-elements/kill-transact-sql
_KILL: Final = re.compile(rf"IF EXISTS \({_SESSIONS.pattern} AND session_id = (\d+)\) KILL (\d+)")


class DriverError(Exception):
    """What mssql-python raises for what a server says."""


@dataclass
class FakeDatabase:
    """An Azure SQL database with contained users."""

    passwords: dict[str, str] = field(default_factory=dict)
    sessions: dict[int, "FakeConnection"] = field(default_factory=dict)
    started: int = 50
    says: Exception | None = None  # to whoever connects

    def connect(self, connection_str: str, *, autocommit: bool, timeout: int) -> "FakeConnection":
        """As `mssql_python.connect`."""
        assert autocommit
        assert timeout > 0
        attributes = dict(re.findall(r"(\w+)=(\{(?:[^}]|\}\})*\}|[^;]*);", connection_str))
        if self.says:
            raise self.says
        if attributes["Server"] != f"tcp:127.0.0.1,{PORT}":
            raise RuntimeError(f"{DRIVER}TCP Provider: Error code 0x2746")
        user, password = (attributes[name][1:-1].replace("}}", "}") for name in ("UID", "PWD"))
        if user not in self.passwords or self.passwords[user] != password:
            raise RuntimeError(f"{DRIVER}[SQL Server]Login failed for user '{user}'.")
        self.started += 1
        connection = self.sessions[self.started] = FakeConnection(self, self.started, user)
        return connection


@dataclass(eq=False)
class FakeConnection:
    """A session; its own cursor as well."""

    database: FakeDatabase
    number: int
    user: str
    answer: Sequence[Sequence[Any]] = ()

    def cursor(self) -> "FakeConnection":
        """As DB-API."""
        return self

    def fetchall(self) -> Sequence[Sequence[Any]]:
        """As DB-API."""
        return self.answer

    def close(self) -> None:
        """As DB-API."""
        self.database.sessions.pop(self.number, None)

    def execute(self, statement: str) -> None:
        """Only what is documented."""
        if self.number not in self.database.sessions:
            raise DriverError("Driver Error: Communication link failure; DDBC Error: the session was killed")
        if statement == "SELECT 1":
            self.answer = [(1,)]
        elif found := _ALTER.fullmatch(statement):
            self._alter(found[1].replace("]]", "]"), found[2].replace("''", "'"))
        elif found := _SESSIONS.fullmatch(statement):
            numbers = [number for number, each in self.database.sessions.items() if each.user == found[1]]
            self.answer = [(number,) for number in numbers]
        elif found := _KILL.fullmatch(statement):
            assert found[2] == found[3]
            if self.database.sessions[int(found[2])].user == found[1]:
                del self.database.sessions[int(found[2])]
        else:
            raise DriverError(
                f"Driver Error: Syntax error or access violation; DDBC Error: Incorrect syntax: {statement}"
            )

    def _alter(self, user: str, password: str) -> None:
        if self.user != ADMIN or user not in self.database.passwords:
            raise DriverError(
                "Driver Error: Syntax error or access violation; DDBC Error: "
                f"Cannot alter the user '{user}', because it does not exist or you do not have permission."
            )
        self.database.passwords[user] = password


class AzureSqlBench(SqlBench):
    """Two users of the fake, and an administrator."""

    def __init__(self) -> None:
        self.database = FakeDatabase()
        super().__init__(azure_sql.read, self._fake, PORT, drawn())

    def _fake(self, parameters: SqlParameters) -> Server:
        return AzureSqlServer(parameters, self.database.connect)

    @override
    def reset(self) -> None:
        self.database.passwords = {user: drawn() for user in USERS} | {ADMIN: self.admin_password}

    @override
    def set_password(self, user: str, password: str) -> None:
        self.database.passwords[user] = password

    @override
    def accepts(self, user: str, password: str) -> bool:
        return self.database.passwords[user] == password

    @override
    def connect(self, user: str, password: str) -> FakeConnection:
        text = f"Server=tcp:127.0.0.1,{PORT};Database={DATABASE};UID={{{user}}};PWD={{{password}}};"
        return self.database.connect(text, autocommit=True, timeout=1)

    @override
    def is_alive(self, connection: Any) -> bool:
        return connection.number in self.database.sessions


@pytest.fixture
def bench() -> AzureSqlBench:
    """A new database."""
    return AzureSqlBench()


class TestAzureSql(SqlContract, RotatorContract):
    """The contract."""

    def test_every_session_is_closed_in_the_end(self, bench: AzureSqlBench) -> None:
        engine, _ = bench.begun()
        engine.rotate()
        assert bench.database.sessions == {}


SAID: Final = {
    # what the server says: whether it is a refusal
    f"{DRIVER}[SQL Server]Login failed for user 'app_a'.": True,
    f"{DRIVER}[SQL Server]Login failed for user 'app_a'. Reason: The account is disabled.": True,
    f"{DRIVER}[SQL Server]Login failed for user 'app_a'. Reason: Server is in script upgrade mode.": False,
    f'{DRIVER}[SQL Server]Cannot open database "shop" requested by the login. The login failed. '
    f"{DRIVER}[SQL Server]Login failed for user 'app_a'.": False,
    f"{DRIVER}[SQL Server]Database 'shop' on server 'atp' is not currently available. Please retry later.": False,
    f"{DRIVER}Login timeout expired": False,
}


@pytest.mark.parametrize("said", SAID)
@pytest.mark.parametrize("kind", [RuntimeError, DriverError])
def test_only_a_definite_refusal_counts_as_one(said: str, kind: type[Exception], bench: AzureSqlBench) -> None:
    bench.adopt()
    bench.database.says = kind(said)
    login = Login(USERS[0], Secret(drawn().encode()))
    if SAID[said]:
        assert bench.server_of_driver().open(login) is None
    else:
        with pytest.raises(Transient):
            bench.server_of_driver().open(login)


def test_a_user_without_the_right_to_connect_is_no_matter_of_passwords(bench: AzureSqlBench) -> None:
    bench.database.says = DriverError(
        'The server principal "app_a" is not able to access the database "shop" under the current security context.'
    )
    with pytest.raises(Rejected, match="no right to connect"):
        bench.server_of_driver().open(Login(USERS[0], Secret(drawn().encode())))


@pytest.mark.parametrize(
    ("quote", "text", "quoted"),
    [
        (identifier, "app_a", "[app_a]"),
        (identifier, "a]; DROP USER b --", "[a]]; DROP USER b --]"),
        (literal, "abc", "N'abc'"),
        (literal, "a'; DROP USER b --", "N'a''; DROP USER b --'"),
        (attribute, "a;UID={b}", "{a;UID={b}}}"),
    ],
)
def test_what_stands_in_a_statement_is_quoted(quote: Callable[[str], str], text: str, quoted: str) -> None:
    assert quote(text) == quoted


def test_what_needs_quoting_arrives_as_it_is(bench: AzureSqlBench) -> None:
    bench.adopt()
    session = bench.server_of_driver().open(Login(ADMIN, Secret(bench.admin_password.encode())))
    assert session is not None
    session.let_in("app_b", Secret(b"it's ]new"))
    assert bench.database.passwords["app_b"] == "it's ]new"
    session.close()


def test_without_the_package_there_is_one_clear_error(bench: AzureSqlBench) -> None:
    with pytest.raises(MissingPackage, match="mssql-python"):
        ROTATORS["azure-sql"].make("shop", bench.parameters, bench.surroundings())


def test_the_value_is_what_ado_net_reads() -> None:
    mistakes: list[str] = []
    table = {"users": list(USERS), "host": "atp.database.windows.net", "database": DATABASE}
    parameters = azure_sql.read(Fields("[shop]", table, mistakes))
    assert mistakes == []
    assert parameters.verified
    rendered = parameters.template.render("app_a", "abc").reveal().decode()
    assert rendered == (
        "Server=tcp:atp.database.windows.net,1433;Initial Catalog=shop;User ID=app_a;Password=abc;Encrypt=True;"
    )
