"""Table `deks`: partition = shard prefix and tenant, rows = the tenant and one per DEK version.

All that belongs to a tenant is in one partition, so that every change is one entity group transaction. The shard
prefix makes a shard one contiguous range of partitions.
"""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, Final, override

from azure.data.tables import TableClient, TableTransactionError, UpdateMode

from shared.azure.rows import StoredRow
from shared.azure.translate import IF_UNCHANGED, translated
from shared.errors import Conflict, Integrity
from shared.ports import MAX_ROWS_PER_TRANSACTION, Deks
from shared.redact.gate import gated
from shared.values import (
    Etag,
    Keyring,
    KeyState,
    Kid,
    Tenant,
    TenantId,
    TenantState,
    Wrap,
    WrappedDek,
    shard_of,
)

TENANT_ROW: Final = "tenant"
_END: Final = "~"  # sorts behind every tenant id
_MAX_RESULTS: Final = 1000  # of one answer of the service
_PREVIOUS: Final = ("previous_wrapped", "previous_kid", "previous_algorithm")


class AzureDeks(Deks):
    """The port `Deks` on Azure Table Storage."""

    def __init__(self, table: TableClient) -> None:
        self._table = table

    @override
    def read(self, tenant: TenantId) -> Keyring | None:
        with translated("reading a tenant"):
            entities = self._table.query_entities("PartitionKey eq @key", parameters={"key": partition(tenant)})
            rows = [StoredRow(entity) for entity in entities]
        return _keyring(rows) if rows else None

    @override
    def scan(self, shard: int, after: TenantId | None, limit: int) -> Sequence[Tenant]:
        low = partition_in(shard, after) if after else partition_in(shard, "")
        query = "PartitionKey gt @low and PartitionKey lt @high and RowKey eq @row"
        bounds = {"low": low, "high": partition_in(shard, _END), "row": TENANT_ROW}
        found: list[Tenant] = []
        with translated("scanning tenants"):
            for entity in self._table.query_entities(
                query, parameters=bounds, results_per_page=min(limit, _MAX_RESULTS)
            ):
                found.append(_tenant(StoredRow(entity)))
                if len(found) == limit:
                    break
        return found

    @override
    def page(self, shard: int, after: TenantId | None, rows: int) -> Sequence[Keyring]:
        query = "PartitionKey gt @low and PartitionKey lt @high"
        bounds = {"low": partition_in(shard, after or ""), "high": partition_in(shard, _END)}
        found: dict[str, list[StoredRow]] = {}
        torn: set[str] = set()  # read in two answers, between which somebody may have changed them
        left = rows
        with translated("reading a page of tenants"):
            results = self._table.query_entities(query, parameters=bounds, results_per_page=min(rows, _MAX_RESULTS))
            for answer in results.by_page():
                before = next(reversed(found), "")
                for row in map(StoredRow, islice(answer, left)):
                    if row.partition == before:
                        torn.add(before)
                    found.setdefault(row.partition, []).append(row)
                    left -= 1
                if not left:
                    break
            if not left:
                cut, its_rows = next(reversed(found.items()))
                if self._goes_on(cut, its_rows[-1].key):
                    if len(found) == 1:
                        torn.add(cut)
                    else:
                        del found[cut]
        rings = ((key, _keyring(group)) for key, group in found.items())
        whole = (self.read(ring.tenant.tenant) if key in torn else ring for key, ring in rings)
        return [ring for ring in whole if ring is not None]

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

    def _goes_on(self, key: str, row_key: str) -> bool:
        """Whether there is another row behind this one in its partition."""
        query, place = "PartitionKey eq @key and RowKey gt @row", {"key": key, "row": row_key}
        return any(self._table.query_entities(query, parameters=place, select=["RowKey"], results_per_page=1))


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
        previous_wrapped=dek.previous.wrapped if dek.previous else None,
        previous_kid=dek.previous.kid if dek.previous else None,
        previous_algorithm=dek.previous.algorithm if dek.previous else None,
    )


def _row(partition_key: str, row_key: str, **columns: object) -> dict[str, Any]:
    keys = {"PartitionKey": partition_key, "RowKey": row_key}
    return dict(gated(keys | {name: value for name, value in columns.items() if value is not None}))


def _keyring(rows: Sequence[StoredRow]) -> Keyring:
    """The keyring in the rows of one partition."""
    if rows[0].key != TENANT_ROW:
        raise Integrity("DEKs without a tenant row", partition=rows[0].partition)
    return Keyring(_tenant(rows[0]), tuple(_dek(row) for row in rows[1:]))


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
    name = row.tenant("tenant")
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
        previous=_previous(row),
        etag=row.etag,
    )
    if row.key != _dek_key(dek.version):
        raise row.wrong("version")
    return dek


def _previous(row: StoredRow) -> Wrap | None:
    if not row.has(*_PREVIOUS):
        return None
    wrapped, kid, algorithm = _PREVIOUS
    return Wrap(row.octets(wrapped), Kid(row.text(kid)), row.text(algorithm))
