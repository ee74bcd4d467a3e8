"""`python -m local`, as a person starts it: what it says, what it leaves behind, and what happens when it is killed."""

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pytest

from local import __main__ as command_line
from local import demo
from local.load import EventStore, Work
from local.stack import ANY_PORTS, ROOT
from rotation.tenant_cipher import TenantCipher
from tests.local.scene import PATIENCE_S, living_with, until

RUN_PATIENCE_S = 900.0


def spawn(home: Path, *arguments: str) -> subprocess.Popen[str]:
    """`python -m local` with all that it stores, and all that it starts, recognisable by `home`."""
    home.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "local", "--die-with-parent", *arguments],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ensure_all_end(home: Path) -> None:
    until(lambda: not living_with(str(home)), f"no process is left: {living_with(str(home))}")


@contextmanager
def serving(home: Path, folder: Path) -> Iterator[list[str]]:
    """A stack that is being served; gives the commands that it tells people to try."""
    process = spawn(home, "serve", "--any-ports", "--folder", str(folder))
    assert process.stdout is not None
    try:
        said = ""
        while "new-version.json" not in said:
            line = process.stdout.readline()
            assert line, f"it ended with {process.wait()}: {said}"
            said += line
        yield said.partition("Try:\n")[2].replace("\\\n", "").splitlines()
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 128 + signal.SIGTERM, process.stdout.read()
        ensure_all_end(home)
    finally:
        process.kill()
        process.communicate()


def pasted(command: str) -> str:
    """What a command prints when pasted into a shell at the top of the project."""
    done = subprocess.run(
        ["/bin/sh", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_demo_that_is_killed_at_any_moment_leaves_no_process_behind(tmp_path: Path, seed: int) -> None:
    home = tmp_path / "home"
    process = spawn(home, "run", "--tenants", "20")
    with pytest.raises(subprocess.TimeoutExpired):
        process.communicate(timeout=random.Random(seed).uniform(0.2, 8))
    process.kill()
    process.communicate()
    ensure_all_end(home)


def test_a_demo_keeps_every_promise_though_one_before_it_was_killed(tmp_path: Path) -> None:
    home, summary = tmp_path / "home", tmp_path / "summary.json"
    killed = spawn(home, "run", "--tenants", "20")
    until(lambda: len(living_with(str(home))) >= 4, "demo, storage, vault and host are running")
    killed.kill()
    killed.communicate()

    process = spawn(home, "run", "--tenants", "20", "--json", str(summary))
    said, _ = process.communicate(timeout=RUN_PATIENCE_S)
    assert process.returncode == 0, said
    ensure_all_end(home)
    found = json.loads(summary.read_text())
    assert found["ok"] is True
    assert found["promises"]
    assert set(found["promises"].values()) == {True}
    assert (found["tenants"]["rotated"], found["audit"]["open_intents"]) == (20, 0)
    loads = {"load": found["load"], "load_afterwards": found["load_afterwards"], "kek": found["kek"]["load"]}
    for load in loads.values():
        assert load["writes"] > 0 < load["reads"]
        assert load["failed"] == 0
    kek = found["kek"]
    assert kek["root_before"] == kek["root_after"]
    assert (kek["rows"], kek["under_new"], kek["phase"], kek["old_disabled"]) == (40, 40, "closed", True)
    assert kek["rolled_back"] == kek["rolled_forward"] > 0
    for what, phase in (("during rotation", "load"), ("on the new DEKs", "load_afterwards")):
        assert re.search(rf"{what} +{found[phase]['writes']} writes, {found[phase]['reads']} reads, 0 failed", said)
    # Besides these: one event for each tenant before, and one large one at the end.
    assert found["ciphertexts"]["written"] == 20 + sum(load["writes"] for load in loads.values()) + 1
    assert not list(home.glob("atp-demo-*")), "not even of the one that was killed"
    assert found["ciphertexts"]["decrypted"] == found["ciphertexts"]["written"] > 20
    assert "BROKEN" not in said


def test_a_demo_that_breaks_a_promise_says_which_and_exits_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class TamperedStore(EventStore):
        def write(self, cipher: TenantCipher, tenant: str, size: int) -> None:
            super().write(cipher, tenant, size)
            event = self.events[-1]
            if len(self.events) == 2:
                envelope = bytearray(self._blobs.download_blob(event.blob).readall())
                envelope[-1] ^= 1
                self._blobs.upload_blob(event.blob, bytes(envelope), overwrite=True)

    monkeypatch.setattr(demo, "EventStore", TamperedStore)
    monkeypatch.setattr(demo, "MIB", 4096)
    summary = tmp_path / "summary.json"

    assert demo.run(2, summary) == 1
    said = capfd.readouterr().out
    assert re.search(r"BROKEN\s+every ciphertext ever written decrypts again", said)
    assert "NotAuthentic" in said
    found = json.loads(summary.read_text())
    assert found["ok"] is False
    assert found["promises"]["every ciphertext ever written decrypts again"] is False
    assert found["promises"]["every tenant's DEK was rotated, once"] is True
    assert found["ciphertexts"]["decrypted"] == found["ciphertexts"]["written"] - 1


@pytest.mark.parametrize(
    ("during", "afterwards", "held"),
    [
        (Work(3, 4, 0), Work(5, 6, 0), True),
        (Work(3, 4, 1), Work(5, 6, 0), False),
        (Work(3, 4, 0), Work(5, 6, 1), False),
        (Work(0, 4, 0), Work(5, 6, 0), False),
        (Work(3, 0, 0), Work(5, 6, 0), False),
    ],
)
def test_failures_of_both_phases_break_the_promise(during: Work, afterwards: Work, *, held: bool) -> None:
    report = demo.Report(1, load=during, load_afterwards=afterwards)
    promises = [kept for promise, kept in report.promises().items() if "during the rotation or afterwards" in promise]
    assert promises == [held]
    found = report.to_json()
    assert (found["load"], found["load_afterwards"]) == (asdict(during), asdict(afterwards))


def test_a_port_that_is_taken_is_told_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command_line, "AZURITE_PORTS", ANY_PORTS)
    monkeypatch.setattr(command_line, "VAULT_PORT", 0)
    handler = signal.getsignal(signal.SIGTERM)
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        monkeypatch.setattr(command_line, "HOST_PORT", port)
        try:
            assert command_line.main(["serve", "--folder", str(tmp_path)]) == 2
        finally:
            signal.signal(signal.SIGTERM, handler)
    said = capfd.readouterr().err
    assert f"port {port} cannot be used" in said
    assert "--any-ports --folder" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("mark", "name"),
    [("local.key_vault", "the vault"), ("azurite.js", "storage"), ("functions_host", "functions host 1")],
)
def test_a_process_that_ends_ends_the_stack_with_a_sentence(tmp_path: Path, mark: str, name: str) -> None:
    home = tmp_path / "home"
    process = spawn(home, "serve", "--any-ports", "--folder", str(tmp_path / "stack"))
    assert process.stdout is not None
    try:
        while "The local stack is up" not in (line := process.stdout.readline()):
            assert line, "it ended while starting"
        (victim,) = (pid for pid, command in living_with(str(home)).items() if mark in command)
        os.kill(victim, signal.SIGKILL)
        said, _ = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 2, said
    assert f"{name} has ended by itself" in said
    assert "Traceback" not in said
    ensure_all_end(home)


def test_serving_to_a_reader_that_has_gone_ends_quietly(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "local", "serve", "--any-ports", "--hosts", "0", "--folder", str(tmp_path)],
        cwd=ROOT,
        stdout=writer,
        stderr=subprocess.PIPE,
        timeout=PATIENCE_S,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


def test_what_serve_tells_people_to_try_works_and_outlives_a_restart(tmp_path: Path) -> None:
    home, folder = tmp_path / "home", tmp_path / "it's a stack"
    with serving(home, folder) as commands:
        add, tenants, rotate, plan_kek, rotate_kek, status, alerts, health, plan, event = commands

        def versions() -> dict[str, int]:
            rows = map(json.loads, pasted(f"{tenants} --json").splitlines())
            return {row["tenant"]: row["dek"] for row in rows}

        assert pasted(add).count("asked: tenant.add/") == 2
        assert versions() == {"acme": 1, "globex": 1}
        pasted(rotate)
        assert versions() == {"acme": 2, "globex": 1}
        assert "globex" in pasted(tenants)
        assert "vault operations" in pasted(plan_kek)
        assert "the rotation has begun" in pasted(rotate_kek)
        assert "master-kek" in pasted(status)
        assert pasted(alerts) == "none\n"
        assert json.loads(pasted(health))["healthy"] is True
        pasted(f"{plan} --fail")
        log = folder / "host-1.log"
        until(lambda: "planning started" in log.read_text(), "a plan is made")
        pasted(f"{event} --fail")
        assert "audit-signing" in pasted(alerts)

        second = spawn(home, "serve", "--any-ports", "--folder", str(folder))
        said, _ = second.communicate(timeout=PATIENCE_S)
        assert second.returncode == 2, said
        assert said == f"another `make serve` runs on this folder: {folder}\n"

    with serving(home, folder) as commands:
        _, tenants, rotate, _, _, status, alerts, *_ = commands
        assert versions() == {"acme": 2, "globex": 1}
        pasted(rotate)
        assert versions()["acme"] == 3
        assert "master-kek" in pasted(status)
        assert "audit-signing" in pasted(alerts)
