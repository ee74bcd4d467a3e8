"""Table `deks`: partition = shard prefix and tenant, rows = the tenant and one per DEK version.

All that belongs to a tenant is in one partition, so that every change is one entity group transaction. The shard
prefix makes a shard one contiguous range of partitions.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final, override

from azure.data.tables import TableClient, TableTransactionError, UpdateMode

from shared.azure.rows import StoredRow
from shared.azure.translate import IF_UNCHANGED, translated
from shared.errors import Conflict, Integrity, Rejected
from shared.ports import MAX_ROWS_PER_TRANSACTION, Deks
from shared.values import (
    Etag,
    Keyring,
    KeyState,
    Kid,
    Tenant,
    TenantId,
    TenantState,
    WrappedDek,
    shard_of,
    tenant_id,
)

TENANT_ROW: Final = "tenant"
_END: Final = "~"  # sorts behind every tenant id


class AzureDeks(Deks):
    """The port `Deks` on Azure Table Storage."""

    def __init__(self, table: TableClient) -> None:
        self._table = table

    @override
    def read(self, tenant: TenantId) -> Keyring | None:
        with translated("reading a tenant"):
            entities = self._table.query_entities("PartitionKey eq @key", parameters={"key": partition(tenant)})
            rows = [StoredRow(entity) for entity in entities]
        if not rows:
            return None
        if rows[0].key != TENANT_ROW:
            raise Integrity("DEKs without a tenant row", tenant=tenant)
        return Keyring(_tenant(rows[0]), tuple(_dek(row) for row in rows[1:]))

    @override
    def scan(self, shard: int, after: TenantId | None, limit: int) -> Sequence[Tenant]:
        low = partition_in(shard, after) if after else partition_in(shard, "")
        query = "PartitionKey gt @low and PartitionKey lt @high and RowKey eq @row"
        bounds = {"low": low, "high": partition_in(shard, _END), "row": TENANT_ROW}
        found: list[Tenant] = []
        with translated("scanning tenants"):
            for entity in self._table.query_entities(query, parameters=bounds, results_per_page=min(limit, 1000)):
                found.append(_tenant(StoredRow(entity)))
                if len(found) == limit:
                    break
        return found

    @override
    def add(self, tenant: Tenant) -> None:
        with translated("adding a tenant"):
            self._table.create_entity(_tenant_row(tenant))

    @override
    def replace(self, old: Keyring, new: Keyring) -> None:
        operations = list(_operations(old, new))
        if len(operations) > MAX_ROWS_PER_TRANSACTION:
            raise ValueError(f"{len(operations)} rows do not fit into one transaction")
        with translated("changing a tenant's DEKs"):
            try:
                self._table.submit_transaction(operations)
            except TableTransactionError as error:
                if error.status_code == 404:
                    raise Conflict("changing a tenant's DEKs: a row is gone") from error
                raise


def partition(tenant: TenantId) -> str:
    """The partition that holds everything of a tenant."""
    return partition_in(shard_of(tenant), tenant)


def partition_in(shard: int, tenant: str) -> str:
    """The same, for a known shard; with an empty tenant, the lower bound of the shard."""
    return f"{shard:02x}-{tenant}"


def _operations(old: Keyring, new: Keyring) -> Iterable[tuple[str, dict[str, Any], dict[str, Any]]]:
    """What turns `old` into `new`. The tenant's row always takes part: it serialises all changes of a tenant."""
    key = partition(old.tenant.tenant)
    before = {dek.version: dek for dek in old.deks}
    after = {dek.version: dek for dek in new.deks}
    yield "update", _tenant_row(new.tenant), _unchanged(old.tenant.etag) | {"mode": UpdateMode.REPLACE}
    for version, dek in after.items():
        if version not in before:
            yield "create", _dek_row(key, dek), {}
        elif dek != before[version]:
            yield "update", _dek_row(key, dek), _unchanged(before[version].etag) | {"mode": UpdateMode.REPLACE}
    for version, dek in before.items():
        if version not in after:
            yield "delete", {"PartitionKey": key, "RowKey": _dek_key(version)}, _unchanged(dek.etag)


def _unchanged(etag: Etag | None) -> dict[str, Any]:
    if etag is None:
        raise ValueError("only rows that were read can be changed")
    return {"etag": etag, "match_condition": IF_UNCHANGED}


def _dek_key(version: int) -> str:
    return f"v{version:010d}"


def _tenant_row(tenant: Tenant) -> dict[str, Any]:
    return _row(
        partition(tenant.tenant),
        TENANT_ROW,
        tenant=tenant.tenant,
        state=tenant.state.value,
        added=tenant.added,
        primary=tenant.primary,
        primary_since=tenant.primary_since,
        dual_running_since=tenant.dual_running_since,
        offboarded=tenant.offboarded,
        destroy_after=tenant.destroy_after,
        added_by=tenant.added_by,
        offboarded_by=tenant.offboarded_by,
        reinstated_by=tenant.reinstated_by,
        destroyed_by=tenant.destroyed_by,
    )


def _dek_row(key: str, dek: WrappedDek) -> dict[str, Any]:
    return _row(
        key,
        _dek_key(dek.version),
        version=dek.version,
        state=dek.state.value,
        wrapped=dek.wrapped,
        kid=dek.kid,
        algorithm=dek.algorithm,
        wrap_generation=dek.wrap_generation,
        check_value=dek.check_value,
        created=dek.created,
        job=dek.job,
        demoted=dek.demoted,
    )


def _row(partition_key: str, row_key: str, **columns: object) -> dict[str, Any]:
    return {"PartitionKey": partition_key, "RowKey": row_key} | {
        name: value for name, value in columns.items() if value is not None
    }


def _tenant(row: StoredRow) -> Tenant:
    return Tenant(
        tenant=_tenant_id(row),
        state=row.one_of("state", TenantState),
        added=row.moment("added"),
        primary=row.number("primary"),
        primary_since=row.optional_moment("primary_since"),
        dual_running_since=row.optional_moment("dual_running_since"),
        offboarded=row.optional_moment("offboarded"),
        destroy_after=row.optional_moment("destroy_after"),
        added_by=row.text("added_by"),
        offboarded_by=row.text("offboarded_by"),
        reinstated_by=row.optional_text("reinstated_by"),
        destroyed_by=row.text("destroyed_by"),
        etag=row.etag,
    )


def _tenant_id(row: StoredRow) -> TenantId:
    try:
        name = tenant_id(row.text("tenant"))
    except Rejected:
        raise row.wrong("tenant") from None
    if row.partition != partition(name):
        raise row.wrong("tenant")
    return name


def _dek(row: StoredRow) -> WrappedDek:
    dek = WrappedDek(
        version=row.number("version"),
        state=row.one_of("state", KeyState),
        wrapped=row.octets("wrapped"),
        kid=Kid(row.text("kid")),
        algorithm=row.text("algorithm"),
        wrap_generation=row.number("wrap_generation"),
        check_value=row.octets("check_value"),
        created=row.moment("created"),
        job=row.text("job"),
        demoted=row.optional_moment("demoted"),
        etag=row.etag,
    )
    if row.key != _dek_key(dek.version):
        raise row.wrong("version")
    return dek
