"""What the SQL rotators read of a catalog entry, their templates and passwords; and optional packages."""

import json
import os
import re
import string
import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, cast, override

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rotation.fields import Fields
from rotation.rotators import azure_sql, mysql, postgresql, sql_logins
from rotation.rotators.base import Change, Credential, Place, Surroundings
from rotation.rotators.registry import ROTATORS
from rotation.rotators.sql_logins import Login, Server, Session, SqlLogins, SqlParameters, Template
from shared.clock import system_clock
from shared.errors import MissingPackage, Rejected
from shared.secret import Secret
from tests.rotators.sql import PAGE, drawn

TABLE: Final = {"users": ["app_a", "app_b"], "host": "db.example.net", "database": "shop"}
READERS: Final = {"postgresql": postgresql.read, "mysql": mysql.read, "azure-sql": azure_sql.read}


class NoServer(Server):
    """Refuses everybody."""

    @override
    def open(self, login: Login) -> Session | None:
        return None


def parsed(table: Mapping[str, Any], read: Callable[[Fields], SqlParameters] = postgresql.read) -> SqlParameters:
    mistakes: list[str] = []
    fields = Fields("[shop]", table, mistakes)
    parameters = read(fields)
    fields.finish()
    assert mistakes == []
    return parameters


def logins(parameters: SqlParameters, admin: bytes = b"", entropy: Callable[[int], bytes] = os.urandom) -> SqlLogins:
    return SqlLogins(
        parameters, NoServer(), Surroundings(lambda _: Secret(admin), cast("Any", None), entropy, system_clock)
    )


@pytest.mark.parametrize("dialect", READERS)
def test_an_entry_needs_no_more_than_users_host_and_database(dialect: str) -> None:
    parameters = parsed(TABLE, READERS[dialect])
    assert parameters.verified
    assert parameters.admin == ""
    assert parameters.template.parse(parameters.template.render("app_a", "abc")).username == "app_a"


@pytest.mark.parametrize(
    ("changes", "mistake"),
    [
        ({"users": ["app_a"]}, "two users"),
        ({"users": ["app_a", "APP_A"]}, "two users"),
        ({"users": ["app_a", "app_b", "app_c"]}, "two users"),
        ({"users": ["app_a", "app b"]}, "users of the database"),
        ({"host": "db;evil"}, "a host name"),
        ({"port": 0}, "1 to 65535"),
        ({"database": "shop?x=1"}, "a name of a database"),
        ({"tls": "on"}, "'verified'"),
        ({"template": "postgresql://{username}@db"}, "once each"),
        ({"template": "{username}{username}{password}"}, "once each"),
        ({"admin": "a b"}, "a name"),
        ({"ca_file": "ca.pem"}, "an absolute path"),
        ({"passwort": "x"}, "unknown field"),
    ],
)
def test_a_mistake_in_an_entry_is_told(changes: dict[str, object], mistake: str) -> None:
    mistakes: list[str] = []
    fields = Fields("[shop]", TABLE | changes, mistakes)
    postgresql.read(fields)
    fields.finish()
    assert any(mistake in each for each in mistakes), mistakes


TEMPLATES = st.sampled_from(
    [
        "postgresql://{username}:{password}@db:5432/shop",
        "Server=tcp:db,1433;User ID={username};Password={password};Encrypt=True;",
        '{"password": "{password}", "username": "{username}"}',
        "{username}:{password}",
    ]
)
USERNAMES = st.from_regex(r"\A[A-Za-z_][A-Za-z0-9_.-]{0,31}\Z")


@given(TEMPLATES, USERNAMES, st.text(string.ascii_letters + string.digits, min_size=1))
def test_what_a_template_makes_it_takes_apart(template: str, username: str, password: str) -> None:
    login = Template(template).parse(Template(template).render(username, password))
    assert (login.username, login.password.reveal().decode()) == (username, password)


@given(
    TEMPLATES, USERNAMES, st.text(st.characters(min_codepoint=32, exclude_characters="%", codec="ascii"), min_size=1)
)
@example("{username}:{password}", "app_a", "with:colons:")
@example("Server=tcp:db,1433;User ID={username};Password={password};Encrypt=True;", "app_a", "x;Password=y")
def test_a_password_that_a_person_has_chosen_may_hold_what_separates_it(
    template: str, username: str, password: str
) -> None:
    login = Template(template).parse(Template(template).render(username, password))
    assert (login.username, login.password.reveal().decode()) == (username, password)


def test_what_a_person_has_escaped_in_a_url_is_understood() -> None:
    value = Secret(b"mysql://app_a:" + b"p%40ss%2Fw%25rd" + b"@db:3306/shop")
    login = Template("mysql://{username}:{password}@db:3306/shop").parse(value)
    assert login.password.reveal() == b"p@ss/w%rd"


@pytest.mark.parametrize("value", [b"", b"\xff", b"mysql://app_a@db:3306/shop", b"mysql://a:b@elsewhere:3306/shop"])
def test_what_does_not_follow_the_template_is_refused(value: bytes) -> None:
    with pytest.raises(Rejected, match="does not follow the template"):
        Template("mysql://{username}:{password}@db:3306/shop").parse(Secret(value))


def test_passwords_are_long_and_of_three_classes_whatever_the_entropy_brings() -> None:
    parameters = parsed(TABLE)
    unlucky = [b"\xff" * 64, b"a" * 64, bytes(range(26)) + bytes(38)]

    def entropy(size: int) -> bytes:
        return unlucky.pop() if unlucky else os.urandom(size)

    rotator = logins(parameters, entropy=entropy)
    new = rotator.obtain(Change("shop", 1, Place("app_b"), None))
    password = parameters.template.parse(new.value).password.reveal().decode()
    assert not unlucky
    assert len(password) == 43
    assert password.isalnum()
    assert password.isascii()
    assert any(map(str.isupper, password))
    assert any(map(str.islower, password))
    assert any(map(str.isdigit, password))


@pytest.mark.parametrize(
    "admin", [b"", b"{}", b"[]", b"\xff", b'{"username": "x"}', b'{"username": "x", "password": 7}']
)
def test_an_administrator_who_is_not_spelt_as_agreed_is_refused(admin: bytes) -> None:
    rotator = logins(parsed(TABLE | {"admin": "shop-admin"}), admin)
    with pytest.raises(Rejected, match="JSON with username and password") as caught:
        rotator.abandon(Change("shop", 1, Place("app_b"), None))
    assert caught.value.fields == {"secret": "shop-admin"}


def test_an_administrator_who_is_one_of_the_two_would_shut_itself_out() -> None:
    rotator = logins(
        parsed(TABLE | {"admin": "shop-admin"}), b'{"username": "app_b", "password": "%b"}' % drawn().encode()
    )
    with pytest.raises(Rejected, match="must not be one of the two"):
        rotator.abandon(Change("shop", 1, Place("app_b"), None))


@pytest.mark.parametrize(("dialect", "package"), [("postgresql", "psycopg"), ("mysql", "pymysql")])
def test_a_package_that_is_not_installed_is_named(dialect: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    surroundings = Surroundings(lambda _: Secret(b""), cast("Any", None), os.urandom, system_clock)
    with pytest.raises(MissingPackage, match="not installed"):
        ROTATORS[dialect].make("shop", parsed(TABLE, READERS[dialect]), surroundings)


def test_the_runbook_knows_every_error() -> None:
    page = " ".join(PAGE.read_text().split())
    sources = "".join(Path(str(module.__file__)).read_text() for module in (sql_logins, postgresql, mysql, azure_sql))
    messages = re.findall(r'(?:Rejected|Integrity|Transient|MissingPackage)\(\s*"([^"]+)"', sources)
    messages += [*postgresql._REASONS.values(), *mysql._FOR_ANOTHER_REASON.values()]
    assert len(messages) > 20
    assert [message for message in messages if message not in page] == []


def test_the_entry_in_the_runbook_is_one_that_the_catalog_accepts() -> None:
    (block,) = re.findall(r"^```toml\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (entry,) = tomllib.loads(block).values()
    assert parsed(entry["parameters"], READERS[entry["rotator"]]).admin == "shop-database-admin"


def test_every_parameter_is_explained_in_the_runbook() -> None:
    explained = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", PAGE.read_text(), re.MULTILINE))))
    sources = "".join(Path(str(module.__file__)).read_text() for module in (sql_logins, mysql))
    read = set(re.findall(r'fields\.(?:texts|matching|integer|text|one_of|name)\("(\w+)"', sources))
    assert len(read) == 9
    assert read <= explained


class OneLogin(Server):
    """Knows one login, and notes what it is asked."""

    def __init__(self, login: Login) -> None:
        self.login = login
        self.asked: list[str] = []

    @override
    def open(self, login: Login) -> Session | None:
        is_known = (login.username, login.password.reveal()) == (self.login.username, self.login.password.reveal())
        return Noted(self.asked) if is_known else None


class Noted(Session):
    """Notes every call."""

    def __init__(self, asked: list[str]) -> None:
        self.asked = asked

    @override
    def check(self) -> None:
        self.asked.append("check")

    @override
    def let_in(self, user: str, password: Secret) -> None:
        self.asked.append("let in")

    @override
    def shut_out(self, user: str, password: Secret) -> None:
        self.asked.append("shut out")

    @override
    def disconnect(self, user: str) -> int:
        self.asked.append("disconnect")
        return 0

    @override
    def close(self) -> None:
        self.asked.append("close")


@pytest.mark.parametrize("admin", ["", "rotator"])
@pytest.mark.parametrize("password", ["right", "wrong"])
def test_a_rehearsal_tries_the_login_that_will_alter_and_changes_nothing(admin: str, password: str) -> None:
    parameters = parsed(TABLE | ({"admin": "db-admin"} if admin else {}))
    server = OneLogin(Login(admin or "app_a", Secret(b"right")))
    stored = json.dumps({"username": "rotator", "password": password}).encode()
    around = Surroundings(lambda _: Secret(stored), cast("Any", None), os.urandom, system_clock)
    rotator = SqlLogins(parameters, server, around)
    current = Credential("app_a", parameters.template.render("app_a", password))
    if password == "right":
        rotator.rehearse("app_b", current)
        assert server.asked == ["check", "close"]
    else:
        with pytest.raises(Rejected, match="refuses the login that alters"):
            rotator.rehearse("app_b", current)
        assert server.asked == []
