"""A local stack in a test's hands: ask the app for things, wait for what must happen, look at what is stored."""

import contextlib
import itertools
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from azure.storage.blob import ContainerClient

from local.functions_host.client import HostProcess
from local.key_vault.client import KeyVaultProcess
from local.load import EventStore, Load, RequestLogs
from local.stack import ROOT, Stack, running
from rotation.__main__ import tenants
from rotation.audit import STREAMS, verify_chain
from rotation.dek import ensure_sound
from rotation.evidence_files import last_place
from rotation.message import ROTATION_JOBS, Action, Job, Trigger
from rotation.tenant_cipher import CachePolicy, TenantCipher
from rotation.trail import Trail
from rotation.wrapping import ensure_is
from shared.azure.wiring import QUEUES, TABLES
from shared.redact import KnownSecrets
from shared.values import Keyring, StoredRecord, Tenant, TenantId

PATIENCE_S = 180.0
_LOG_TAIL = 30
_POLL_S = 0.1


def until[T](look: Callable[[], T], what: str, logs: Sequence[Path] = ()) -> T:
    """Poll until `look` finds something; other processes' rows, queues and files cannot be awaited."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := look()):
        if time.monotonic() > deadline:
            tails = "\n".join(f"--- {log.name}\n{tail(log)}" for log in logs)
            raise AssertionError(f"never happened: {what}\n{tails}")
        time.sleep(_POLL_S)
    return found


def tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_TAIL:])


def living_with(mark: str) -> dict[int, str]:
    """Processes, but for this one, that have `mark` in their command line or in the environment they began with."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):  # it has ended while we looked, or is somebody else's
            command = (entry / "cmdline").read_bytes()
            if mark.encode() in command + (entry / "environ").read_bytes():
                found[int(entry.name)] = command.replace(b"\0", b" ").decode(errors="replace")
    return found


class Scene:
    """One stack and everything a test does to it."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.known = KnownSecrets(100_000)
        self._requests = itertools.count(1)

    # Asking

    def send(self, body: str, queue: str = ROTATION_JOBS) -> None:
        """Drop a message as it is."""
        self.stack.adapters.queues.send(queue, body)

    def ask(self, action: Action, *names: str, request: str = "", reason: str = "a test asks") -> None:
        """Drop a job for each tenant, under one request of its own unless it is given."""
        request = request or f"test-{next(self._requests)}"
        for name in names:
            self.send(Job(action, TenantId(name), request, Trigger.MANUAL, "tester", reason).to_json())

    def add(self, *names: str) -> None:
        """Add tenants and wait for their first DEK."""
        self.ask(Action.ADD_TENANT, *names)
        self.until(lambda: all(self.primary(name) for name in names), f"{len(names)} tenants are added")

    def operate(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the operator's command line on this stack."""
        return operate(self.stack.settings_file, *arguments)

    def cipher(self, consumer: str = "test") -> TenantCipher:
        """An ATP service that has just started."""
        ports, policy = self.stack.adapters, CachePolicy(refresh_after=timedelta(seconds=1))
        return TenantCipher(
            ports.deks, ports.vault, ports.consumers, ports.kek_uses, consumer, policy, self.stack.clock
        )

    @contextmanager
    def load(self, *names: str) -> Iterator[Load]:
        """Readers and writers at work for these tenants; at the end none of them may have failed."""
        with ContainerClient.from_connection_string(self.stack.azurite.connection_string, "events") as blobs:
            blobs.create_container()
            store = EventStore(blobs, RequestLogs(*self.stack.request_logs))
            cipher = self.cipher("load")
            for name in names:
                store.write(cipher, name, size=1)
            with Load(store, cipher, names) as load:
                yield load
            assert load.writes.failures + load.reads.failures == []
            newcomer = self.cipher("newcomer")
            for event in store.events:
                store.read(newcomer, event)

    def new_host(self) -> HostProcess:
        """A host that soon loses the messages of another one that died."""
        return self.stack.add_host(lease_s=4)

    # Waiting and looking

    def until[T](self, look: Callable[[], T], what: str) -> T:
        return until(look, what, self.stack.host_logs)

    def settle(self) -> None:
        """Wait until every queue is empty, with nothing under way or put off."""
        service = self.stack.adapters.queue_service

        def waiting() -> dict[str, int]:
            lengths = {
                name: service.get_queue_client(name).get_queue_properties().approximate_message_count or 0
                for name in QUEUES
            }
            return {name: length for name, length in lengths.items() if length}

        self.until(lambda: not waiting(), "every queue is empty")

    def tenants(self) -> dict[str, Tenant]:
        return {tenant.tenant: tenant for tenant in tenants(self.stack.adapters)}

    def keyring(self, name: str) -> Keyring:
        keyring = self.stack.adapters.deks.read(TenantId(name))
        assert keyring is not None, f"no tenant {name}"
        return keyring

    def primary(self, name: str) -> int:
        keyring = self.stack.adapters.deks.read(TenantId(name))
        return keyring.tenant.primary if keyring else 0

    def log_text(self) -> str:
        return "".join(log.read_text(errors="replace") for log in self.stack.host_logs)

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Every log line of the app, in any host, that reports this event."""
        lines = [line for line in self.log_text().splitlines() if f'"event": "{event}"' in line]
        return [json.loads(line) for line in lines]

    def audit(self) -> list[dict[str, Any]]:
        """Every audit record; the chain of each stream must verify."""
        found: list[dict[str, Any]] = []
        for stream in range(STREAMS):
            records: list[StoredRecord] = []
            while page := self.stack.adapters.records.read(stream, len(records) + 1, 1000):
                records += page
            assert verify_chain(records)[0] == len(records)
            found += [json.loads(record.canonical) for record in records]
        return found

    def sign(self) -> None:
        """Have everything recorded so far signed and copied to the evidence."""
        trail = Trail(self.stack.adapters.records, self.stack.adapters.checkpoints)

        def is_signed() -> bool:
            self.stack.clock.move(timedelta(minutes=1))
            evidence = self.stack.adapters.evidence
            copied = last_place(evidence) if evidence else None
            newest = trail.newest()
            if not newest or copied is None or copied.number < newest:
                return False
            streams = trail.streams_at(newest)
            return not any(self.stack.adapters.records.read(s, state.size + 1, 1) for s, state in streams.items())

        self.until(is_signed, "everything is signed and copied")

    # Checking

    def check(self) -> None:
        """What must hold with empty queues: sound keyrings of DEKs that open, a whole audit trail, no secrets."""
        self.settle()
        for name in self.tenants():
            ensure_sound(self.keyring(name))
            self.learn(name)
        outcomes = defaultdict(set)
        for record in self.audit():
            outcomes[record["job"]].add(record["outcome"])
        assert [job for job, seen in outcomes.items() if seen == {"intent"}] == []
        self.check_no_secrets()

    def learn(self, name: str) -> None:
        """Open every DEK of a tenant, prove that it is the right one, and look for it from now on."""
        for dek in self.keyring(name).deks:
            opened = self.stack.adapters.vault.unwrap(dek.kid, dek.algorithm, dek.wrapped)
            ensure_is(opened, TenantId(name), dek)
            self.known.add(opened.reveal())

    def check_no_secrets(self, *planted: str) -> None:
        """No DEK that we have seen, no storage key and nothing planted is in a log, a row, a message or a blob."""
        key = self.stack.azurite.connection_string.split("AccountKey=")[1].split(";")[0]
        for secret in (key, *planted):
            self.known.add(secret.encode())
        for place, text in self._stored():
            clean = self.known.mask(text)
            assert clean == text, f"a secret is in {place}: ...{_around_first_difference(clean, text)}..."

    def _stored(self) -> Iterator[tuple[str, str]]:
        for log in self.stack.host_logs:
            yield log.name, log.read_text(errors="replace")
        for name in TABLES:
            with self.stack.adapters.table(name) as table:
                for entity in table.list_entities():
                    yield f"table {name}", _flat(entity)
        for name in QUEUES:
            for message in self.stack.adapters.queue_service.get_queue_client(name).peek_messages(max_messages=32):
                yield f"queue {name}", str(message.content)
        evidence = self.stack.adapters.evidence
        for file in evidence.files() if evidence else ():
            yield f"evidence {file.name}", evidence.read(file.name, 0, file.size).decode() if evidence else ""


def _flat(entity: object) -> str:
    """A row as text that shows its bytes in the clear, in hex and as they are."""
    assert isinstance(entity, dict)
    parts = []
    for name, value in entity.items():
        parts.append(f"{name}={value!r}")
        if isinstance(value, bytes):
            parts += [value.hex(), value.decode(errors="replace")]
    return "\n".join(parts)


def _around_first_difference(clean: str, text: str) -> str:
    at = next(number for number, pair in enumerate(zip(clean, text, strict=False)) if pair[0] != pair[1])
    return clean[max(0, at - 200) : at + 200]


def operate(settings_file: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the operator's command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "rotation", "--settings", str(settings_file), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def restart_vault(stack: Stack) -> KeyVaultProcess:
    """The vault again, after it was killed: same keys, same address. It must be stopped by whoever asked for it."""
    return KeyVaultProcess.start(stack.folder / "vault", stack.folder / "clock", stack.folder / "vault.log")


@contextmanager
def scene_in(folder: Path, *, keep: bool = False, **app_settings: str) -> Iterator[Scene]:
    """A scene on a new stack without hosts, with app settings of its own; at the end everything must be in order."""
    with running(folder, keep=keep) as stack:
        settings = json.loads(stack.settings_file.read_text())
        settings["Values"] |= app_settings
        stack.settings_file.write_text(json.dumps(settings))
        scene = Scene(stack)
        yield scene
        scene.check()
