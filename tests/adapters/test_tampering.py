"""Rows that somebody changed in the storage account: the adapters read nothing that we cannot have written."""

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
from rotation.wrapping import new_dek
from shared.clock import system_clock
from shared.errors import Integrity
from shared.values import KeyPointer, Keyring, KeyState, Kid, TenantId, shard_of
from tests.adapters.backends import AzureBackend
from tests.adapters.test_outages import ALERT, LETTER, REPORT
from tests.adapters.test_records import records
from tests.pure.keyrings import ACME, KID, NOW, keyring

INT64 = EntityProperty(2**40, EdmType.INT64)
FLOAT = EntityProperty(1.0, EdmType.DOUBLE)
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
    backend.deks.add(replace(wanted.tenant, primary=0, etag=None))
    old = backend.deks.read(ACME)
    assert old is not None
    backend.deks.replace(old, wanted)


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
        },
    ),
    "pointer": Register(
        lambda backend: backend.keys_table,
        "pointer",
        lambda backend: backend.key_pointers.add(KeyPointer("master-kek", KID, NOW)),
        lambda backend: backend.key_pointers.read("master-kek"),
        {"kid": [1, b"x"], "since": ["2026-01-01", 1]},
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
    "alert": Register(
        lambda backend: backend.alerts_table,
        "",
        lambda backend: backend.alerts.raise_alert(ALERT),
        lambda backend: backend.alerts.all(),
        {
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
    if column not in ("primary_since", "dual_running_since", "destroy_after", "demoted")
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
        dek = new_dek(tenant, 1, kek, NOW, "dek.rotate/r1", os.urandom)
        azure.deks.replace(old, Keyring(replace(old.tenant, primary=1), (dek,)))

    def cipher() -> TenantCipher:
        return TenantCipher(azure.deks, azure.vault, azure.consumers, "test", CachePolicy(timedelta(0)))

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
