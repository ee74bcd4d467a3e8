"""A MariaDB server on loopback, of the distribution, for tests."""

import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pymysql
import trustme

from local import process
from local.storage import free_port

PROGRAM: Final = Path("/usr/sbin/mariadbd")
ADMIN: Final = "operator"
_PATIENCE_S: Final = 180.0


@dataclass(frozen=True)
class MariaDb:
    """Where it listens, and an account that may do everything."""

    port: int
    password: str
    authority: Path
    """Who has signed the server's certificate."""
    host: str = "127.0.0.1"

    def connect(self, user: str, password: str, database: str | None = None) -> "pymysql.Connection":
        return pymysql.connect(
            host=self.host, port=self.port, user=user, password=password, database=database,
            connect_timeout=10, read_timeout=15, ssl_disabled=True, autocommit=True,
        )  # fmt: skip

    def execute(self, statement: str, *values: str) -> None:
        with self.connect(ADMIN, self.password) as connection, connection.cursor() as cursor:
            cursor.execute(statement, values or None)


@contextmanager
def running(folder: Path) -> Iterator[MariaDb]:
    """A server with an empty database `shop`; it is gone with its data when the block ends."""
    log = folder / "mariadb.log"
    home = Path(tempfile.mkdtemp(prefix="atp-mariadb-"))  # the path of its socket must be short
    password = secrets.token_hex(16)
    command = [
        str(PROGRAM),
        "--no-defaults",
        f"--datadir={home / 'data'}",
        "--skip-log-bin",
        "--innodb-log-file-size=4M",
    ]
    command += ["--innodb-buffer-pool-size=8M", f"--tmpdir={home}", *(["--user=root"] if os.geteuid() == 0 else [])]
    child = None
    try:
        (home / "data").mkdir()
        _initialise(command, password, log)
        authority, key = _certify(home)
        port = free_port()
        options = [f"--port={port}", "--bind-address=127.0.0.1", f"--socket={home}/socket", f"--pid-file={home}/pid"]
        options += [f"--ssl-cert={key}", f"--ssl-key={key}"]
        child = process.spawn([*command, *options], log)
        server = MariaDb(port, password, authority)
        _await(server, child, log)
        yield server
    finally:
        if child is not None:
            process.stop(child)
        shutil.rmtree(home, ignore_errors=True)


def _certify(home: Path) -> tuple[Path, Path]:
    """A certificate for loopback: the file of its authority, and the one with key and certificate."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(home / "ca.pem"))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(home / "server.pem"))
    return home / "ca.pem", home / "server.pem"


def _initialise(command: list[str], password: str, log: Path) -> None:
    """The system tables, by the distribution's own scripts, and the account."""
    share = Path("/usr/share/mysql")
    names = ("mysql_system_tables.sql", "mysql_performance_tables.sql", "mysql_system_tables_data.sql")
    statements = "CREATE DATABASE mysql;\nUSE mysql;\n" + "".join((share / name).read_text() for name in names)
    statements += "CREATE DATABASE shop;\nFLUSH PRIVILEGES;\n"
    statements += (
        f"CREATE USER {ADMIN}@'%' IDENTIFIED BY '{password}';\nGRANT ALL ON *.* TO {ADMIN}@'%' WITH GRANT OPTION;\n"
    )
    with log.open("ab") as output:
        subprocess.run(
            [*command, "--bootstrap"], input=statements.encode(), stdout=output, stderr=output, check=True,
            timeout=_PATIENCE_S,
        )  # fmt: skip


def _await(server: MariaDb, child: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while child.poll() is None and time.monotonic() < deadline:
        try:
            server.connect(ADMIN, server.password).close()
        except pymysql.OperationalError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("MariaDB did not start:\n" + "\n".join(log.read_text(errors="replace").splitlines()[-15:]))
