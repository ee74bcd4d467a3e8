"""Tenants rotated by one worker process, against a bare loop that makes the same storage calls.

Measured: one functions host with the app in it, as it would be deployed, on Azurite and the Key Vault emulator, working
off a full queue of due tenants: from the first record in the audit trail to the last.
Floor: one process with 16 threads, as many as the worker has, and the same SDK with the same pool of connections. For
each tenant it reads the partition, inserts an audit record, changes the DEK rows, inserts an audit record and deletes
the message: the calls without which no tenant can be rotated, and nothing else - no decisions, no keys, no wrapping, no
chained records, no log.
The app makes fewer calls than that where it can: events of one stream that wait at the same time share a transaction.
Azurite takes a good part of the machine in both cases.
"""

import json
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from azure.core import MatchConditions
from azure.data.tables import TableEntity, UpdateMode
from azure.storage.queue import QueueMessage

from bench.result import Result, in_turns
from local.stack import Stack, running
from rotation.audit import STREAMS
from rotation.message import ROTATION_JOBS, Action, Job, Trigger
from rotation.wrapping import RSA_OAEP_256
from shared.azure.deks import AzureDeks, partition
from shared.values import Keyring, KeyState, Kid, Tenant, TenantId, TenantState, WrappedDek

_TENANTS: Final = 400
_TENANTS_IF_QUICK: Final = 100
_RUNS: Final = 5
_TARGET: Final = 0.8
_THREADS: Final = 16
_BATCH: Final = 16
_PATIENCE_S: Final = 120.0
_FLOOR_TABLES: Final = ("floordeks", "flooraudit")
_FLOOR_QUEUE: Final = "floor-jobs"
_LONG_AGO: Final = datetime(2020, 1, 1, tzinfo=UTC)
_KID: Final = Kid(f"https://localhost:8443/keys/master-kek/{'0' * 32}")
_RECORD: Final = "x" * 560
"""About as long as an audit record of a rotation."""


def measure(quick: bool) -> Sequence[Result]:
    """Compare the worker with the loop, on one stack, with new tenants in each run."""
    tenants = _TENANTS_IF_QUICK if quick else _TENANTS
    with TemporaryDirectory() as folder, running(Path(folder)) as stack:
        app, floor = _App(stack, tenants), _Floor(stack, tenants)
        ours, least = in_turns(1 if quick else _RUNS, app.run, floor.run)
    what = f"{tenants} due tenants, one worker"
    return [Result("rotation", what, f"{ours:.0f} tenants/s", f"{least:.0f} tenants/s", ours / least, _TARGET, True)]


class _App:
    """The worker."""

    def __init__(self, stack: Stack, tenants: int) -> None:
        self._stack = stack
        self._tenants = tenants

    def run(self) -> float:
        """Tenants a second. RuntimeError if they were not all rotated in time."""
        adapters = self._stack.adapters
        keyrings = _due(self._tenants)
        _in_threads(lambda keyring: _store(adapters.deks, keyring), keyrings)
        _in_threads(lambda keyring: adapters.queues.send(ROTATION_JOBS, _job(keyring).to_json()), keyrings)
        host = self._stack.add_host()
        try:
            self._wait_until_empty()
        finally:
            host.stop()
        rings = [adapters.deks.read(keyring.tenant.tenant) for keyring in keyrings]
        if not all(ring and ring.tenant.primary == 2 for ring in rings):
            raise RuntimeError("not every tenant was rotated")
        jobs = {_job(keyring).id for keyring in keyrings}
        times = [moment for job, moment in self._recorded() if job in jobs]
        return self._tenants / (max(times) - min(times)).total_seconds()

    def _wait_until_empty(self) -> None:
        queue = self._stack.adapters.queue_service.get_queue_client(ROTATION_JOBS)
        deadline = time.monotonic() + _PATIENCE_S
        while queue.get_queue_properties().approximate_message_count:
            if time.monotonic() > deadline:
                raise RuntimeError("the worker did not finish in time")
            time.sleep(0.2)

    def _recorded(self) -> Iterator[tuple[str, datetime]]:
        for stream in range(STREAMS):
            for record in self._stack.adapters.records.read(stream, 1, 10**9):
                fields = json.loads(record.canonical)
                yield fields["job"], datetime.fromisoformat(fields["time"])


class _Floor:
    """The bare loop."""

    def __init__(self, stack: Stack, tenants: int) -> None:
        self._tenants = tenants
        self._deks, self._audit = (stack.adapters.table(name) for name in _FLOOR_TABLES)
        for table in (self._deks, self._audit):
            table.create_table()
        self._queue = stack.adapters.queue_service.create_queue(_FLOOR_QUEUE)

    def run(self) -> float:
        """Tenants a second."""
        deks = AzureDeks(self._deks)
        keyrings = _due(self._tenants)
        _in_threads(lambda keyring: _store(deks, keyring), keyrings)
        _in_threads(lambda keyring: self._queue.send_message(_job(keyring).to_json()), keyrings)
        started = time.perf_counter()
        with ThreadPoolExecutor(_THREADS) as pool:
            pages = self._queue.receive_messages(messages_per_page=_BATCH).by_page()
            done = [pool.submit(self._rotate, message) for page in pages for message in page]
        elapsed = time.perf_counter() - started
        for future in done:
            future.result()
        return len(done) / elapsed

    def _rotate(self, message: QueueMessage) -> None:
        key = partition(Job.parse(message.content.encode(), message.id).tenant)
        tenant, dek = self._deks.query_entities("PartitionKey eq @key", parameters={"key": key})
        self._record(key)
        self._deks.submit_transaction(
            [
                ("update", {**tenant, "primary": 2}, _if_unchanged(tenant)),
                ("update", {**dek, "state": "secondary", "demoted": _LONG_AGO}, _if_unchanged(dek)),
                ("create", {**dek, "RowKey": "v0000000002", "version": 2}),
            ]
        )
        self._record(key)
        self._queue.delete_message(message)

    def _record(self, key: str) -> None:
        stream, number, event = f"s{hash(key) % STREAMS:02d}", uuid.uuid4().hex, uuid.uuid4().hex
        self._audit.submit_transaction(
            [
                (
                    "create",
                    {"PartitionKey": stream, "RowKey": number, "event": event, "record": _RECORD, "hash": bytes(32)},
                ),
                ("create", {"PartitionKey": stream, "RowKey": f"event-{event}", "seq": number}),
            ]
        )


def _if_unchanged(row: TableEntity) -> dict[str, Any]:
    return {"etag": row.metadata["etag"], "match_condition": MatchConditions.IfNotModified, "mode": UpdateMode.REPLACE}


def _due(count: int) -> list[Keyring]:
    """Tenants nobody has seen before, each with one DEK of long ago."""
    return [_due_tenant(TenantId(f"t-{uuid.uuid4().hex}")) for _ in range(count)]


def _due_tenant(name: TenantId) -> Keyring:
    dek = WrappedDek(
        version=1,
        state=KeyState.PRIMARY,
        wrapped=bytes(256),
        kid=_KID,
        algorithm=RSA_OAEP_256,
        wrap_generation=1,
        check_value=bytes(32),
        created=_LONG_AGO,
        job="bench",
    )
    return Keyring(Tenant(name, TenantState.ACTIVE, _LONG_AGO, primary=1, primary_since=_LONG_AGO), (dek,))


def _store(deks: AzureDeks, keyring: Keyring) -> None:
    deks.add(keyring.tenant)
    empty = deks.read(keyring.tenant.tenant)
    if empty is None:
        raise RuntimeError("a tenant that was added is not there")
    deks.replace(empty, keyring)


def _job(keyring: Keyring) -> Job:
    tenant = keyring.tenant.tenant
    return Job(Action.ROTATE_DEK, tenant, "v2", Trigger.SCHEDULE, "planner", "rotation interval is over", target=2)


def _in_threads[T](act: Callable[[T], object], items: Sequence[T]) -> None:
    """Do it for all items, several at a time; the first error is raised."""
    with ThreadPoolExecutor(_THREADS) as pool:
        for _ in pool.map(act, items):
            pass
