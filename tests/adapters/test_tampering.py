"""Rows that somebody changed in the storage account: the adapters read nothing that we cannot have written."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from azure.data.tables import EdmType, EntityProperty, TableClient, UpdateMode

from rotation.audit import AuditEvent, Outcome, verify_chain
from rotation.audit_job import AuditTrail
from rotation.dek import ensure_sound
from rotation.tenant_cipher import CachePolicy, TenantCipher
from rotation.wrapping import WriteTarget, new_dek
from shared.clock import system_clock
from shared.errors import Integrity
from shared.values import KekRecord, KeyPointer, Keyring, KeyState, Kid, TenantId, Wrap, shard_of
from tests.adapters.backends import AzureBackend
from tests.adapters.test_checkpoints import full as full_checkpoint
from tests.adapters.test_keks import FULL, KEK, MOVE, POINTER
from tests.adapters.test_outages import LETTER, REPORT
from tests.adapters.test_records import records
from tests.adapters.test_registers import ENTRY, USE
from tests.adapters.test_runs import FULL as PROGRESS
from tests.adapters.test_runs import SCHEDULE, page
from tests.adapters.test_secret_rotations import FULL as ROTATION
from tests.pure.keyrings import ACME, KID, NOW, keyring

INT64 = EntityProperty(2**40, EdmType.INT64)
FLOAT = EntityProperty(1.0, EdmType.DOUBLE)
FORGED_TIME = '{"teams": [1, "2026-01-01T00:00:00", ""]}'
type Read = Callable[[AzureBackend], object]


@dataclass(frozen=True)
class Register:
    """A kind of row: in which table it is, how it gets there and is read, and what its columns can be forged to."""

    table: Callable[[AzureBackend], TableClient]
    row: str
    write: Callable[[AzureBackend], object]
    read: Read
    forgeries: dict[str, list[Any]]


def write_keyring(backend: AzureBackend) -> None:
    wanted = keyring(KeyState.SECONDARY, KeyState.PRIMARY)
    previous = Wrap(b"wrapped before", Kid(KID[:-1] + "0"), "A256KW")
    wanted = replace(wanted, deks=(replace(wanted.deks[0], previous=previous), wanted.deks[1]))
    backend.deks.add(replace(wanted.tenant, primary=0, etag=None))
    old = backend.deks.read(ACME)
    assert old is not None
    backend.deks.replace(old, wanted)


def write_run(backend: AzureBackend) -> None:
    backend.keks.add(replace(POINTER, previous_kid=KID))
    old = backend.keks.read(KEK)
    assert old is not None
    backend.keks.replace(old, KekRecord(replace(old.pointer, generation=1), FULL))


def changed_move(**changes: object) -> str:
    """The move of the stored run with some of its fields changed."""
    fields: dict[str, object] = {name: getattr(MOVE, name) for name in MOVE.__dataclass_fields__}
    return json.dumps(fields | changes)


NO_MOMENT = ["2026-01-01", 1]
NO_NUMBER = ["1", -1, True, FLOAT, INT64]
RUN_FORGERIES: dict[str, list[Any]] = {
    "kek": ["other-kek", "", 1],
    "generation": [2, 0, "1"],
    "phase": ["forged", "", 1],
    "started": NO_MOMENT,
    "phase_since": NO_MOMENT,
    "old_kid": [1, b"x"],
    "request": [1],
    "new_kid": [1],
    "shape_kind": ["EC", "", 1],
    "shape_bits": NO_NUMBER,
    "vault": [1],
    "deadline": NO_MOMENT,
    "compromised": ["true", 1],
    "resumes": ["forged", 1],
    "flipped": NO_MOMENT,
    "retired": NO_MOMENT,
    "step": NO_NUMBER,
    "pass_number": NO_NUMBER,
    "pass_since": NO_MOMENT,
    "fanned_out": ["true", 1],
    "resent": NO_MOMENT,
    "clean_passes": NO_NUMBER,
    "held_shards": ["x", "{}", '["1"]', "[true]", "[64]", "[-1]", 1],
    "held_tenants_00": [b"x", b"{}", b"[1]", b'["ACME"]', b"\xff", "[]", 1],
    "rows": NO_NUMBER,
    "root_before": [1],
    "root_after": [1],
    "births": NO_NUMBER,
    "removed": NO_NUMBER,
    "verdict": [1],
    "move": [
        "x",
        "[]",
        "{}",
        "[" * 30_000,
        1,
        changed_move(at="forged"),
        changed_move(to=1),
        changed_move(to=["paused"]),
        changed_move(job=1),
        changed_move(reason=None),
        changed_move(applied="true"),
        changed_move(applied=1),
        changed_move(shard="7"),
        changed_move(shard=True),
        changed_move(shard=64),
        changed_move(tenant="ACME"),
        changed_move(tenant=1),
        changed_move(more="x"),
        changed_move().replace('"failure"', '"failed"'),
    ],
}
BY_KID_FORGERIES: list[Any] = [b"x", b"[]", b"1", b'{"a": "1"}', b'{"a": true}', b'{"a": -1}', b"\xff", "{}", 1]
CHECKPOINT_FORGERIES: dict[str, list[Any]] = {
    "pass_number": [13, *NO_NUMBER],
    "shard": [7, *NO_NUMBER],
    "started": NO_MOMENT,
    "updated": NO_MOMENT,
    "state": ["forged", "", 1],
    "after": ["ACME", "", 1],
    "tenants": NO_NUMBER,
    "rows": NO_NUMBER,
    "found": NO_NUMBER,
    "changed": NO_NUMBER,
    "verified": NO_NUMBER,
    "births": NO_NUMBER,
    "removed": NO_NUMBER,
    "by_kid_00": BY_KID_FORGERIES,
    "page": NO_NUMBER,
    "tree": [1],
    "problem": [1],
}
ROTATION_FORGERIES: dict[str, list[Any]] = {
    "phase": ["forged", "", 1],
    "phase_since": NO_MOMENT,
    "generation": NO_NUMBER,
    "since": NO_MOMENT,
    "previous_since": NO_MOMENT,
    "grace_until": NO_MOMENT,
    "claimed_until": NO_MOMENT,
    "asked_at": NO_MOMENT,
    **{name: [1, b"x"] for name in ("current", "slot", "previous", "previous_slot", "pending", "pending_slot")},
    **{name: [1, b"x"] for name in ("before", "order", "actor", "trigger", "reason", "task", "verdict")},
    **{name: [1, b"x"] for name in ("claim", "asked")},
    **{name: ["true", 1] for name in ("compromised", "rolled_back", "announced", "confirmed")},
}
MAY_BE_MISSING = frozenset(
    {
        "primary_since",
        "dual_running_since",
        "destroy_after",
        "demoted",
        "new_kid",
        "vault",
        "deadline",
        "resumes",
        "flipped",
        "retired",
        "pass_since",
        "resent",
        "move",
        "after",
    }
)

NEEDED_OF_A_ROTATION = ("phase", "phase_since", "generation")
MISSING_IN_EARLIER_RELEASES = {
    *(("rotation of a secret", column) for column in ROTATION_FORGERIES if column not in NEEDED_OF_A_ROTATION),
    ("pointer", "previous_kid"),
    ("pointer", "generation"),
    ("pointer with its run", "previous_kid"),
    ("alert", "owner"),
    ("alert", "resolved"),
    ("alert", "resolved_by"),
    ("alert", "revision"),
}

REGISTERS = {
    "tenant": Register(
        lambda backend: backend.deks_table,
        "tenant",
        write_keyring,
        lambda backend: (backend.deks.read(ACME), backend.deks.scan(shard_of(ACME), None, 10)),
        {
            "tenant": ["acme-2", "ACME", "", 1],
            "state": ["forged", "", 1],
            "added": ["2026-01-01", 1],
            "primary": ["2", -1, True, FLOAT, INT64],
            "primary_since": ["2026-01-01", 1],
            "dual_running_since": ["2026-01-01", 1],
            "destroy_after": ["2026-01-01", 1, True],
            "added_by": [1, b"x"],
        },
    ),
    "DEK": Register(
        lambda backend: backend.deks_table,
        "v0000000001",
        write_keyring,
        lambda backend: backend.deks.read(ACME),
        {
            "version": [2, "1", -1, True, FLOAT],
            "state": ["forged", 1],
            "wrapped": ["text", 256],
            "kid": [1, b"x"],
            "algorithm": [1],
            "wrap_generation": ["1", -1],
            "check_value": ["text", 32],
            "created": ["2026-01-01"],
            "job": [1],
            "demoted": ["2026-01-01"],
            "previous_wrapped": ["text", 256],
            "previous_kid": [1, b"x"],
            "previous_algorithm": [1, b"x"],
        },
    ),
    "DEK of a page": Register(
        lambda backend: backend.deks_table,
        "v0000000001",
        write_keyring,
        lambda backend: backend.deks.page(shard_of(ACME), None, 10),
        {"version": [2], "wrapped": ["text"], "previous_wrapped": ["text"], "previous_kid": [1]},
    ),
    "pointer": Register(
        lambda backend: backend.keys_table,
        "pointer",
        write_run,
        lambda backend: backend.keks.pointer(KEK),
        {"kid": [1, b"x"], "since": ["2026-01-01", 1], "previous_kid": [1, b"x"], "generation": ["1", -1, True, INT64]},
    ),
    "pointer with its run": Register(
        lambda backend: backend.keys_table,
        "pointer",
        write_run,
        lambda backend: backend.keks.read(KEK),
        {"kid": [1], "since": ["2026-01-01"], "previous_kid": [1], "generation": [0, 2, "1", -1]},
    ),
    "run": Register(
        lambda backend: backend.keys_table,
        "run-000001",
        write_run,
        lambda backend: backend.keks.read(KEK),
        RUN_FORGERIES,
    ),
    "run in the history": Register(
        lambda backend: backend.keys_table,
        "run-000001",
        write_run,
        lambda backend: backend.keks.history(KEK),
        RUN_FORGERIES,
    ),
    "checkpoint": Register(
        lambda backend: backend.runs_table,
        "",
        lambda backend: backend.shards.put(PROGRESS),
        lambda backend: backend.shards.read(PROGRESS.run, PROGRESS.pass_number, PROGRESS.shard),
        CHECKPOINT_FORGERIES,
    ),
    "checkpoint of a pass": Register(
        lambda backend: backend.runs_table,
        "",
        lambda backend: backend.shards.put(PROGRESS),
        lambda backend: backend.shards.of_pass(PROGRESS.run, PROGRESS.pass_number),
        CHECKPOINT_FORGERIES,
    ),
    "page": Register(
        lambda backend: backend.runs_table,
        "",
        lambda backend: backend.shards.add_page(page(tenants=1_000)),
        lambda backend: backend.shards.read_page(page().run, page().shard, page().number),
        {
            "shard": [8, "7", -1],
            "number": [1, "0", -1],
            "upto": ["ACME", "", 1],
            "count": [999, 1_001, "1000", -1],
            "tenants_00": ["text", 1, b"", b"\x01", b"\xff" * 100, bytes(41), b"\x01" + bytes(40) + b"A"],
            "tenants_01": ["text", 1, b"", b"\x01"],
            "by_kid_00": BY_KID_FORGERIES,
        },
    ),
    "schedule": Register(
        lambda backend: backend.budgets_table,
        "schedule",
        lambda backend: backend.budgets.put(SCHEDULE),
        lambda backend: backend.budgets.read(SCHEDULE.vault),
        {"vault": ["https://other.vault.azure.net", "", 1], "free_at": ["2026-01-01", 1]},
    ),
    "use of KEKs": Register(
        lambda backend: backend.consumers_table,
        "",
        lambda backend: backend.kek_uses.report(USE),
        lambda backend: backend.kek_uses.all(),
        {
            "consumer": [1],
            "kids": ["x", "{}", "[1]", "[null]", "[" * 30_000, 1],
            "refused": ["x", "{}", "[1]", 1],
            "seen": ["2026-01-01"],
        },
    ),
    "audit record": Register(
        lambda backend: backend.audit_table,
        f"{1:020d}",
        lambda backend: backend.records.append(records(1, 1)),
        lambda backend: backend.records.read(3, 1, 10),
        {"event": [1], "record": [1, b"x"], "hash": ["text", 32]},
    ),
    "audit event": Register(
        lambda backend: backend.audit_table,
        f"event-{records(1, 1)[0].event_id}",
        lambda backend: backend.records.append(records(1, 1)),
        lambda backend: backend.records.find(3, records(1, 1)[0].event_id),
        {"seq": ["x", "", "-1", "²", 1]},
    ),
    "signed checkpoint": Register(
        lambda backend: backend.checkpoints_table,
        f"{2:020d}",
        lambda backend: backend.checkpoints.append(full_checkpoint(2)),
        lambda backend: backend.checkpoints.read(1, 10),
        {
            "number": [1, 3, *NO_NUMBER],
            "stamped": [0, *NO_NUMBER],
            "token_size": [0, 127_999, *NO_NUMBER],
            "note_00": ["text", 1, b"\xff"],
            "trees_00": [b"x", b"[]", b"1", b'{"0": 1}', b'{"-1": ""}', b'{"01": ""}', b"\xff", "{}", 1],
            "trees_01": ["text", 1, b"x"],
            "token_00": ["text", 1, b"x"],
            "token_01": ["text", 1, b"x"],
        },
    ),
    "consumer": Register(
        lambda backend: backend.consumers_table,
        "",
        lambda backend: backend.consumers.report(REPORT),
        lambda backend: backend.consumers.of(ACME),
        {
            "consumer": [1],
            "encrypts_with": ["1", -1],
            "decrypts_with": ["x", "{}", '["1"]', "[1.5]", "[true]", "[" * 30_000, 1],
            "seen": ["2026-01-01"],
        },
    ),
    "rotation of a secret": Register(
        lambda backend: backend.rotations_table,
        "",
        lambda backend: backend.secret_rotations.put(ROTATION),
        lambda backend: backend.secret_rotations.read(ROTATION.name),
        ROTATION_FORGERIES,
    ),
    "rotation of a secret in a page": Register(
        lambda backend: backend.rotations_table,
        "",
        lambda backend: backend.secret_rotations.put(ROTATION),
        lambda backend: backend.secret_rotations.page(None, 10),
        {name: ROTATION_FORGERIES[name] for name in NEEDED_OF_A_ROTATION},
    ),
    "alert": Register(
        lambda backend: backend.alerts_table,
        "",
        lambda backend: backend.alert_register.put(ENTRY),
        lambda backend: backend.alerts.all(),
        {
            "owner": [1],
            "resolved": ["2026-01-01", 1],
            "resolved_by": [1],
            "revision": ["1", -1, True],
            "owed": ["x", "[]", '{"teams": 1}', '{"teams": [1, ""]}', '{"forged": [1, "", ""]}', FORGED_TIME, 1],
            "closings": ["x", "{}", "[1]", '[[1, "a"]]', '[["1", "a", "b"]]', 1],
            "id": [1],
            "severity": ["forged"],
            "what": [1],
            "subject": [1],
            "raised": ["2026-01-01"],
            "details": ["x", "[]", '{"a": 1}', 1],
        },
    ),
    "letter": Register(
        lambda backend: backend.letters_table,
        "",
        lambda backend: backend.dead_letters.keep(LETTER),
        lambda backend: backend.dead_letters.all(),
        {
            "queue": [1],
            "id": [1],
            "reason": [1],
            "body": ["text", b"\xff", 1],
            "kept": ["2026-01-01"],
            "can_resend": ["yes", 1],
        },
    ),
}
FORGERIES = [
    pytest.param(register, column, forged, id=f"{name}.{column}={str(forged)[:20]!r}")
    for name, register in REGISTERS.items()
    for column, values in register.forgeries.items()
    for forged in values
]
REMOVALS = [
    pytest.param(register, column, id=f"{name}.{column}")
    for name, register in REGISTERS.items()
    for column in register.forgeries
    if column not in MAY_BE_MISSING and (name, column) not in MISSING_IN_EARLIER_RELEASES
]


def forge(backend: AzureBackend, register: Register, change: Callable[[dict[str, Any]], None]) -> None:
    """Write the row, see that it reads, then change it behind the adapter's back."""
    register.write(backend)
    register.read(backend)
    table = register.table(backend)
    (row,) = [row for row in table.list_entities() if register.row in (row["RowKey"], "")]
    change(row)
    table.update_entity(row, UpdateMode.REPLACE)


@pytest.mark.parametrize(("register", "column", "forged"), FORGERIES)
def test_a_column_that_we_cannot_have_written_is_an_integrity_failure(
    azure: AzureBackend, register: Register, column: str, forged: object
) -> None:
    forge(azure, register, lambda row: row.update({column: forged}))
    with pytest.raises(Integrity):
        register.read(azure)


@pytest.mark.parametrize(("register", "column"), REMOVALS)
def test_a_column_that_is_missing_is_an_integrity_failure(azure: AzureBackend, register: Register, column: str) -> None:
    forge(azure, register, lambda row: row.pop(column))
    with pytest.raises(Integrity):
        register.read(azure)


def test_a_consumers_forged_report_is_not_written_over(azure: AzureBackend) -> None:
    forge(azure, REGISTERS["consumer"], lambda row: row.update({"seen": "2026-01-01"}))
    with pytest.raises(Integrity):
        azure.consumers.report(REPORT)


@pytest.mark.parametrize("row_key", ["a", "tenant-2", "v1", "v0000000009", "zzz"])
def test_a_row_too_many_in_a_tenants_partition_is_an_integrity_failure(azure: AzureBackend, row_key: str) -> None:
    write_keyring(azure)
    (row,) = [row for row in azure.deks_table.list_entities() if row["RowKey"] == "v0000000001"]
    azure.deks_table.create_entity({**row, "RowKey": row_key})
    with pytest.raises(Integrity):
        azure.deks.read(ACME)


def test_deks_without_their_tenant_row_are_an_integrity_failure(azure: AzureBackend) -> None:
    write_keyring(azure)
    (row,) = [row for row in azure.deks_table.list_entities() if row["RowKey"] == "tenant"]
    azure.deks_table.delete_entity(row)
    with pytest.raises(Integrity):
        azure.deks.read(ACME)
    for rows in (1, 2, 10):
        with pytest.raises(Integrity):
            azure.deks.page(shard_of(ACME), None, rows)


def test_a_dek_that_was_removed_is_an_integrity_failure_of_the_keyring(azure: AzureBackend) -> None:
    write_keyring(azure)
    (row,) = [row for row in azure.deks_table.list_entities() if row["RowKey"] == "v0000000001"]
    azure.deks_table.delete_entity(row)
    ring = azure.deks.read(ACME)
    assert ring is not None
    with pytest.raises(Integrity):
        ensure_sound(ring)


def test_a_tenant_row_in_another_tenants_partition_stops_its_shards_scan(azure: AzureBackend) -> None:
    write_keyring(azure)
    (row,) = [row for row in azure.deks_table.list_entities() if row["RowKey"] == "tenant"]
    azure.deks_table.create_entity({**row, "PartitionKey": row["PartitionKey"] + "-2"})
    with pytest.raises(Integrity):
        azure.deks.scan(shard_of(ACME), None, 10)


type Forgery = Callable[[dict[str, Any], dict[str, Any]], None]
"""Changes the first of two DEK rows, of different tenants."""


def another_tenants_wrap(row: dict[str, Any], other: dict[str, Any]) -> None:
    row["wrapped"] = other["wrapped"]


def another_tenants_dek(row: dict[str, Any], other: dict[str, Any]) -> None:
    row.update({name: other[name] for name in ("wrapped", "check_value")})


def another_key(row: dict[str, Any], other: dict[str, Any]) -> None:
    row["kid"] = row["kid"][:-32] + "0" * 32


def another_vault(row: dict[str, Any], other: dict[str, Any]) -> None:
    row["kid"] = Kid("https://evil.example/keys/" + row["kid"].split("/keys/")[1])


def another_algorithm(row: dict[str, Any], other: dict[str, Any]) -> None:
    row["algorithm"] = "RSA1_5"


def one_bit(row: dict[str, Any], other: dict[str, Any]) -> None:
    row["check_value"] = bytes([row["check_value"][0] ^ 1]) + row["check_value"][1:]


@pytest.mark.parametrize(
    "forgery", [another_tenants_wrap, another_tenants_dek, another_key, another_vault, another_algorithm, one_bit]
)
def test_no_service_encrypts_or_decrypts_with_a_dek_that_was_tampered_with(
    azure: AzureBackend, forgery: Forgery
) -> None:
    kek = azure.vault.version(azure.new_kek("kek"))
    for name in ("acme", "evil"):
        tenant = TenantId(name)
        azure.deks.add(replace(keyring(tenant=tenant).tenant, etag=None))
        old = azure.deks.read(tenant)
        assert old is not None
        dek = new_dek(tenant, 1, WriteTarget(kek), NOW, "dek.rotate/r1", os.urandom, azure.vault.wrap)
        azure.deks.replace(old, Keyring(replace(old.tenant, primary=1), (dek,)))

    def cipher() -> TenantCipher:
        return TenantCipher(azure.deks, azure.vault, azure.consumers, azure.kek_uses, "test", CachePolicy(timedelta(0)))

    envelope = cipher().encrypt("acme", b"data")
    row, other = [row for row in azure.deks_table.list_entities() if row["RowKey"] != "tenant"]
    if "acme" not in row["PartitionKey"]:
        row, other = other, row
    forgery(row, other)
    azure.deks_table.update_entity(row, UpdateMode.REPLACE)
    with pytest.raises(Integrity):
        cipher().encrypt("acme", b"data")
    with pytest.raises(Integrity):
        cipher().decrypt("acme", envelope)


@pytest.mark.parametrize("column", ["record", "hash", "event"])
def test_an_audit_record_that_was_edited_breaks_its_chain(azure: AzureBackend, column: str) -> None:
    trail = AuditTrail(azure.records, system_clock)
    for number in range(3):
        trail.record(
            AuditEvent(f"job/{number}", Outcome.INTENT, "dek.rotate", "dek/acme", "planner", "schedule", "is due")
        )
    (stream,) = {row["PartitionKey"] for row in azure.audit_table.list_entities()}
    number = int(stream[1:])
    assert verify_chain(azure.records.read(number, 1, 10))[0] == 3
    row = dict(azure.audit_table.get_entity(stream, f"{2:020d}"))
    value = row[column]
    row[column] = bytes(32) if isinstance(value, bytes) else value.replace("1", "2", 1)
    azure.audit_table.update_entity(row, UpdateMode.REPLACE)
    with pytest.raises(Integrity):
        verify_chain(azure.records.read(number, 1, 10))


def test_a_tenant_of_an_earlier_release_reads_without_the_columns_of_later_ones(azure: AzureBackend) -> None:
    register = REGISTERS["tenant"]
    forge(azure, register, lambda row: row.pop("reinstated_by"))
    register.read(azure)


def test_a_dek_of_an_earlier_release_reads_without_a_previous_wrap(azure: AzureBackend) -> None:
    def earlier(row: dict[str, Any]) -> None:
        for name in ("previous_wrapped", "previous_kid", "previous_algorithm"):
            row.pop(name)

    forge(azure, REGISTERS["DEK"], earlier)
    ring = azure.deks.read(ACME)
    assert ring is not None
    assert [dek.previous for dek in ring.deks] == [None, None]


def test_a_pointer_of_an_earlier_release_reads_and_its_first_run_can_begin(azure: AzureBackend) -> None:
    azure.keys_table.create_entity({"PartitionKey": KEK, "RowKey": "pointer", "kid": KID, "since": NOW})
    record = azure.keks.read(KEK)
    assert record is not None
    assert record.pointer == azure.keks.pointer(KEK) == KeyPointer(KEK, KID, NOW, etag=record.pointer.etag)
    assert record.run is None
    azure.keks.replace(record, KekRecord(replace(record.pointer, generation=1), FULL))
    begun = azure.keks.read(KEK)
    assert begun is not None
    assert begun.pointer.generation == 1


@pytest.mark.parametrize("gone", ["pointer", "run-000001"])
def test_a_kek_whose_pointer_or_run_is_gone_is_an_integrity_failure(azure: AzureBackend, gone: str) -> None:
    write_run(azure)
    azure.keys_table.delete_entity(KEK, gone)
    with pytest.raises(Integrity):
        azure.keks.read(KEK)


@pytest.mark.parametrize("row_key", ["a", "run-000002", "zzz"])
def test_a_row_too_many_in_a_keks_partition_is_an_integrity_failure(azure: AzureBackend, row_key: str) -> None:
    write_run(azure)
    row = dict(azure.keys_table.get_entity(KEK, "run-000001"))
    azure.keys_table.create_entity({**row, "RowKey": row_key})
    with pytest.raises(Integrity):
        azure.keks.read(KEK)


def test_a_checkpoint_moved_to_another_place_is_an_integrity_failure(azure: AzureBackend) -> None:
    azure.shards.put(PROGRESS)
    (row,) = azure.runs_table.list_entities()
    azure.runs_table.create_entity({**row, "RowKey": "pass-000012-07"})
    with pytest.raises(Integrity):
        azure.shards.read(PROGRESS.run, 12, 7)
    with pytest.raises(Integrity):
        azure.shards.of_pass(PROGRESS.run, 12)
