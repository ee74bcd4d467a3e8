"""Tenants rotated by one worker process, against a bare loop that makes the same storage calls.

Measured: one functions host with the app in it, as it would be deployed, on Azurite and the Key Vault emulator, working
off a full queue of due tenants: from the first record in the audit trail to the last.
Floor: one process with 16 threads, as many as the worker has, and the same SDK with the same pool of connections. For
each tenant it reads the partition, inserts an audit record, changes the DEK rows, inserts an audit record and deletes
the message: the calls without which no tenant can be rotated, and nothing else - no decisions, no keys, no wrapping, no
chained records, no log.
The app makes fewer calls than that where it can: audit events of one stream that wait at the same time share a
transaction. This may make it faster than the floor.
Both spend most of their time waiting for Azurite; of the processor time of the worker about four fifths go to the SDK,
most of it for encoding and decoding transactions.
"""

import json
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from azure.core import MatchConditions
from azure.data.tables import TableEntity, UpdateMode
from azure.storage.queue import QueueClient, QueueMessage

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
_LONG_AGO: Final = datetime(2020, 1, 1, tzinfo=UTC)
_KID: Final = Kid(f"https://localhost:8443/keys/master-kek/{'0' * 32}")
_RECORD: Final = "x" * 560
"""About as long as an audit record of a rotation."""


def measure(quick: bool) -> Sequence[Result]:
    """Compare the worker with the loop, each time on a new stack: storage gets slower as it fills."""
    tenants = _TENANTS_IF_QUICK if quick else _TENANTS

    def on_a_new_stack(rate: Callable[[Stack, Sequence[Keyring]], float]) -> float:
        with TemporaryDirectory() as folder, running(Path(folder)) as stack:
            keyrings = [_due_tenant(TenantId(f"t-{uuid.uuid4().hex}")) for _ in range(tenants)]
            _in_threads(lambda keyring: _store(stack.adapters.deks, keyring), keyrings)
            _in_threads(lambda keyring: stack.adapters.queues.send(ROTATION_JOBS, _job(keyring).to_json()), keyrings)
            return rate(stack, keyrings)

    ours, least = in_turns(
        1 if quick else _RUNS, lambda: on_a_new_stack(_rate_of_app), lambda: on_a_new_stack(_rate_of_floor)
    )
    what = f"{tenants} due tenants, one worker"
    return [Result("rotation", what, f"{ours:.0f} tenants/s", f"{least:.0f} tenants/s", ours / least, _TARGET, True)]


def _rate_of_app(stack: Stack, keyrings: Sequence[Keyring]) -> float:
    """Tenants a second. RuntimeError if they were not all rotated in time."""
    stack.add_host()
    _wait_until_empty(stack.adapters.queue_service.get_queue_client(ROTATION_JOBS))
    rotated = [stack.adapters.deks.read(keyring.tenant.tenant) for keyring in keyrings]
    if not all(keyring and keyring.tenant.primary == 2 for keyring in rotated):
        raise RuntimeError("not every tenant was rotated")
    times = [
        datetime.fromisoformat(json.loads(record.canonical)["time"])
        for stream in range(STREAMS)
        for record in stack.adapters.records.read(stream, 1, 10**9)
    ]
    return len(keyrings) / (max(times) - min(times)).total_seconds()


def _wait_until_empty(queue: QueueClient) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while queue.get_queue_properties().approximate_message_count:
        if time.monotonic() > deadline:
            raise RuntimeError("the worker did not finish in time")
        time.sleep(0.2)


def _rate_of_floor(stack: Stack, keyrings: Sequence[Keyring]) -> float:
    """Tenants a second."""
    deks, audit = stack.adapters.table("deks"), stack.adapters.table("audit")
    queue = stack.adapters.queue_service.get_queue_client(ROTATION_JOBS)

    def rotate(message: QueueMessage) -> None:
        key = partition(Job.parse(message.content.encode(), message.id).tenant)
        tenant, dek = deks.query_entities("PartitionKey eq @key", parameters={"key": key})
        audit.submit_transaction(_record(key))
        deks.submit_transaction(
            [
                ("update", {**tenant, "primary": 2}, _if_unchanged(tenant)),
                ("update", {**dek, "state": "secondary", "demoted": _LONG_AGO}, _if_unchanged(dek)),
                ("create", {**dek, "RowKey": "v0000000002", "version": 2}),
            ]
        )
        audit.submit_transaction(_record(key))
        queue.delete_message(message)

    started = time.perf_counter()
    with ThreadPoolExecutor(_THREADS) as pool:
        pages = queue.receive_messages(messages_per_page=_BATCH).by_page()
        rotations = [pool.submit(rotate, message) for page in pages for message in page]
    elapsed = time.perf_counter() - started
    if sum(rotation.exception() is None for rotation in rotations) != len(keyrings):
        raise RuntimeError("not every tenant was rotated")
    return len(keyrings) / elapsed


def _record(key: str) -> list[tuple[str, dict[str, Any]]]:
    """The insertion of one audit record in one of the streams."""
    stream, number, event = f"s{hash(key) % STREAMS:02d}", uuid.uuid4().hex, uuid.uuid4().hex
    record = {"PartitionKey": stream, "RowKey": number, "event": event, "record": _RECORD, "hash": bytes(32)}
    return [("create", record), ("create", {"PartitionKey": stream, "RowKey": f"event-{event}", "seq": number})]


def _if_unchanged(row: TableEntity) -> dict[str, Any]:
    return {"etag": row.metadata["etag"], "match_condition": MatchConditions.IfNotModified, "mode": UpdateMode.REPLACE}


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
