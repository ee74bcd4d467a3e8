"""What the benches of the SQL rotators have in common: faults between rotator and server, and who can log in."""

import json
import os
import re
from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast, override

import pytest

from rotation.fields import Fields
from rotation.rotators.base import Change, Credential, Place, Rotator, Surroundings
from rotation.rotators.sql_logins import Login, Server, Session, SqlLogins, SqlParameters
from shared.clock import system_clock
from shared.errors import Integrity, Rejected
from shared.secret import Secret
from tests.jobs.secret_scene import NAME
from tests.rotators.contract import Bench, Engine, Faults, Mode

USERS: Final = ("app_a", "app_b")
ADMIN: Final = "rotator"
ADMIN_SECRET: Final = "shop-admin"
DATABASE: Final = "shop"
PAGE: Final = Path(__file__).parents[2] / "docs" / "runbooks" / "secrets-sql.md"
_BLOCK: Final = re.compile(r"^```sql\n(.*?)^```", re.MULTILINE | re.DOTALL)


def statements_of_page(heading: str) -> list[str]:
    """The SQL statements that the runbook shows below a heading."""
    section = PAGE.read_text().split(f"### {heading}\n")[1].split("\n##")[0]
    (block,) = _BLOCK.findall(section)
    return [statement.strip() for statement in re.sub(r"--.*", "", block).split(";") if statement.strip()]


def drawn() -> str:
    """A password."""
    return os.urandom(16).hex()


class FaultyServer(Server):
    """A server behind faults; it notes every password that a user is given."""

    def __init__(self, server: Server, faults: Faults, given: Callable[[str, Secret], None]) -> None:
        self._server = server
        self._faults = faults
        self._given = given

    @override
    def open(self, login: Login) -> Session | None:
        opened: list[Session | None] = []
        try:
            self._faults.around(lambda: opened.append(self._server.open(login)))
        except BaseException:
            for session in filter(None, opened):
                session.close()  # as the operating system does with what a dead process has open
            raise
        (answer,) = opened
        return answer and FaultySession(answer, self._faults, self._given)


class FaultySession(Session):
    """A session behind faults."""

    def __init__(self, session: Session, faults: Faults, given: Callable[[str, Secret], None]) -> None:
        self._session = session
        self._faults = faults
        self._given = given

    @override
    def check(self) -> None:
        self._faults.around(self._session.check)

    @override
    def let_in(self, user: str, password: Secret) -> None:
        self._given(user, password)
        self._faults.around(lambda: self._session.let_in(user, password))

    @override
    def shut_out(self, user: str, password: Secret) -> None:
        self._faults.around(lambda: self._session.shut_out(user, password))  # the password is nobody's: not noted

    @override
    def disconnect(self, user: str) -> int:
        return self._faults.around(lambda: self._session.disconnect(user))

    @override
    def close(self) -> None:
        self._session.close()


class SqlBench(Bench):
    """Two users of one database."""

    def __init__(
        self,
        read: Callable[[Fields], SqlParameters],
        server: Callable[[SqlParameters], Server],
        port: int,
        admin_password: str,
    ) -> None:
        super().__init__()
        self.can_begin = bool(admin_password)
        self._server = server
        self._given: set[tuple[str, bytes]] = set()
        self.admin_password = admin_password
        table = {"users": list(USERS), "host": "127.0.0.1", "port": port, "database": DATABASE, "tls": "off"}
        mistakes: list[str] = []
        self.parameters = read(Fields("[shop]", table | ({"admin": ADMIN_SECRET} if admin_password else {}), mistakes))
        assert mistakes == []

    def surroundings(self) -> Surroundings:
        """What the app gives a rotator."""
        return Surroundings(self._secret, cast("Any", None), os.urandom, system_clock)

    def _secret(self, name: str) -> Secret:
        if name != ADMIN_SECRET:
            raise Rejected("no such secret", secret=name)
        return Secret(json.dumps({"username": ADMIN, "password": self.admin_password}).encode())

    def server_of_driver(self) -> Server:
        """Without faults."""
        return self._server(self.parameters)

    def altering(self, in_use: Login) -> Login:
        """Who alters the two."""
        return Login(ADMIN, Secret(self.admin_password.encode())) if self.can_begin else in_use

    def value(self, user: str, password: str) -> Secret:
        """As it stands in the vault."""
        return self.parameters.template.render(user, password)

    @override
    def rotator(self) -> Rotator:
        server = FaultyServer(self._server(self.parameters), self.faults, self._note)
        return SqlLogins(self.parameters, server, self.surroundings())

    @override
    def unreachable(self) -> Rotator:
        return SqlLogins(self.parameters, self._server(replace(self.parameters, port=1)), self.surroundings())

    @override
    def clear(self) -> None:
        self.faults.arm(0, Mode.KILLED_BEFORE)
        self._given.clear()
        self.reset()

    @override
    def adopt(self) -> Secret:
        self.clear()
        password = drawn()
        self.set_password(USERS[0], password)
        self._note(USERS[0], Secret(password.encode()))
        return self.value(USERS[0], password)

    @override
    def wrong(self) -> Secret:
        return self.value(USERS[0], drawn())

    @override
    def hidden(self, value: Secret) -> Sequence[bytes]:
        with suppress(Rejected):
            return [self.parameters.template.parse(value).password.reveal()]
        return [value.reveal()]

    @override
    def working(self) -> set[bytes]:
        # What is refused now works again only if it is given again.
        self._given = {each for each in self._given if self.accepts(each[0], each[1].decode())}
        return {self.value(user, password.decode()).reveal() for user, password in self._given}

    def begun(self) -> tuple[Engine, Login]:
        """An engine with a first credential, and its login."""
        engine = Engine(self)
        engine.adopt()
        assert engine.current is not None
        return engine, self.parameters.template.parse(engine.current.value)

    def _note(self, user: str, password: Secret) -> None:
        self._given.add((user, password.reveal()))

    @abstractmethod
    def reset(self) -> None:
        """Two users who cannot log in."""

    @abstractmethod
    def set_password(self, user: str, password: str) -> None:
        """By hand: the user can log in."""

    @abstractmethod
    def accepts(self, user: str, password: str) -> bool:
        """Asked of the server by its driver."""

    @abstractmethod
    def connect(self, user: str, password: str) -> Any:
        """As a consumer does."""

    @abstractmethod
    def is_alive(self, connection: Any) -> bool:
        """Whether a consumer's connection still is one."""


class SqlContract:
    """What the SQL rotators keep beside the contract of all rotators."""

    def test_a_consumer_that_still_uses_the_old_user_is_disconnected_by_its_revocation(self, bench: SqlBench) -> None:
        engine, old = bench.begun()
        consumer = bench.connect(old.username, old.password.reveal().decode())
        engine.until_published()
        assert bench.is_alive(consumer)
        engine.revoke()
        assert not bench.is_alive(consumer)

    def test_a_user_that_is_neither_of_the_two_is_not_adopted(self, bench: SqlBench) -> None:
        bench.adopt()
        with pytest.raises(Rejected, match="not one of the two"):
            bench.rotator().locate(bench.value("somebody", drawn()))

    def test_a_value_that_does_not_work_is_not_adopted(self, bench: SqlBench) -> None:
        bench.adopt()
        with pytest.raises(Rejected, match="does not accept"):
            bench.rotator().locate(bench.wrong())

    def test_the_user_in_use_is_never_altered(self, bench: SqlBench) -> None:
        engine, _ = bench.begun()
        current = engine.current
        assert current is not None
        wrong_turn = Change(NAME, 7, Place(current.slot), current)
        with pytest.raises(Integrity):
            bench.rotator().abandon(wrong_turn)
        with pytest.raises(Integrity):
            bench.rotator().install(wrong_turn, Credential(current.slot, bench.wrong()))
        with pytest.raises(Integrity):
            bench.rotator().revoke(current, current)
        engine.check()

    def test_without_an_administrator_there_is_no_first_credential(self, bench: SqlBench) -> None:
        if bench.can_begin:
            pytest.skip("there is one")
        with pytest.raises(Rejected, match="admin"):
            bench.rotator().place(None, 1)

    def test_what_alters_the_users_may_be_refused_itself(self, bench: SqlBench) -> None:
        engine, login = bench.begun()
        change = engine.place()
        new = engine.obtain(change)
        if bench.can_begin:
            bench.admin_password = drawn()
        else:
            bench.set_password(login.username, drawn())
        with pytest.raises(Rejected, match="refuses the login that alters") as caught:
            bench.rotator().install(change, new)
        assert caught.value.fields == {"user": bench.altering(login).username}

    def test_a_user_that_is_not_there_is_no_passing_failure(self, bench: SqlBench) -> None:
        _, login = bench.begun()
        session = bench.server_of_driver().open(bench.altering(login))
        assert session is not None
        with pytest.raises(Rejected):
            session.let_in("nobody'\"]`\\; DROP", Secret(drawn().encode()))
        session.close()
