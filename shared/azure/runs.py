"""What the runs of KEK rotations leave in tables: `runs`, `budgets`, and their part of `consumers`.

Table `runs`: partition = the run, rows = one checkpoint per pass and shard, one per page of the manifest. What may be
longer than one column is spread over several.
"""

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, override

from azure.core.exceptions import ResourceNotFoundError
from azure.data.tables import TableClient

from shared.azure.registers import keep_newest
from shared.azure.rows import StoredRow, digest_key, put_row, spread
from shared.azure.translate import translated
from shared.ports import Budgets, KekUses, Shards
from shared.redact.gate import gated
from shared.values import Budget, FrozenPage, FrozenTenant, KekUse, Kid, ShardProgress, ShardState

_FROZEN: Final = struct.Struct(">BQ32s")
"""In front of every tenant's id in a page: the id's length, the primary version, the root."""


class AzureShards(Shards):
    """The port `Shards` on Azure Table Storage."""

    def __init__(self, table: TableClient) -> None:
        self._table = table

    @override
    def read(self, run: str, pass_number: int, shard: int) -> ShardProgress | None:
        with translated("reading a checkpoint"):
            try:
                return _progress(StoredRow(self._table.get_entity(run, _pass_key(pass_number, shard))))
            except ResourceNotFoundError:
                return None

    @override
    def of_pass(self, run: str, pass_number: int) -> Sequence[ShardProgress]:
        query = "PartitionKey eq @run and RowKey gt @low and RowKey lt @high"
        bounds = {"run": run, "low": _pass_prefix(pass_number), "high": _pass_prefix(pass_number + 1)}
        with translated("reading the checkpoints of a pass"):
            entities = list(self._table.query_entities(query, parameters=bounds))
        return [_progress(StoredRow(entity)) for entity in entities]

    @override
    def put(self, progress: ShardProgress) -> None:
        with translated("writing a checkpoint"):
            put_row(self._table, _progress_row(progress), progress.etag, ("problem",))

    @override
    def add_page(self, page: FrozenPage) -> None:
        with translated("writing a page of the manifest"):
            self._table.create_entity(gated(_page_row(page)))

    @override
    def read_page(self, run: str, shard: int, number: int) -> FrozenPage | None:
        with translated("reading a page of the manifest"):
            try:
                row = StoredRow(self._table.get_entity(run, _page_key(shard, number)))
            except ResourceNotFoundError:
                return None
        return _page(row)


class AzureBudgets(Budgets):
    """The port `Budgets`; table `budgets`, partition = digest of the vault's URL."""

    _ROW: Final = "schedule"

    def __init__(self, table: TableClient) -> None:
        self._table = table

    @override
    def read(self, vault: str) -> Budget | None:
        with translated("reading the schedule of a vault"):
            try:
                row = StoredRow(self._table.get_entity(digest_key(vault), self._ROW))
            except ResourceNotFoundError:
                return None
        if row.text("vault") != vault:
            raise row.wrong("vault")
        return Budget(vault, row.moment("free_at"), row.etag)

    @override
    def put(self, budget: Budget) -> Budget:
        row = {
            "PartitionKey": digest_key(budget.vault),
            "RowKey": self._ROW,
            "vault": budget.vault,
            "free_at": budget.free_at,
        }
        with translated("writing the schedule of a vault"):
            etag = put_row(self._table, row, budget.etag)
        return Budget(budget.vault, budget.free_at, etag)


class AzureKekUses(KekUses):
    """The port `KekUses`; table `consumers`, one partition, row = the consumer."""

    _PARTITION: Final = "keks"

    def __init__(self, table: TableClient) -> None:
        self._table = table

    @override
    def report(self, use: KekUse) -> None:
        row = {
            "PartitionKey": self._PARTITION,
            "RowKey": digest_key(use.consumer),
            "consumer": use.consumer,
            "kids": json.dumps(use.kids),
            "refused": json.dumps(use.refused),
            "seen": use.seen,
        }
        keep_newest(self._table, row)

    @override
    def all(self) -> Sequence[KekUse]:
        with translated("reading consumers"):
            entities = list(self._table.query_entities("PartitionKey eq @key", parameters={"key": self._PARTITION}))
        return [
            KekUse(
                row.text("consumer"),
                tuple(map(Kid, row.strings("kids"))),
                tuple(map(Kid, row.strings("refused"))),
                row.moment("seen"),
            )
            for row in map(StoredRow, entities)
        ]


def _pass_prefix(pass_number: int) -> str:
    return f"pass-{pass_number:06d}-"


def _pass_key(pass_number: int, shard: int) -> str:
    return f"{_pass_prefix(pass_number)}{shard:02x}"


def _page_key(shard: int, number: int) -> str:
    return f"page-{shard:02x}-{number:08d}"


def _progress_row(progress: ShardProgress) -> dict[str, Any]:
    row: dict[str, Any] = {
        "PartitionKey": progress.run,
        "RowKey": _pass_key(progress.pass_number, progress.shard),
        "pass_number": progress.pass_number,
        "shard": progress.shard,
        "started": progress.started,
        "updated": progress.updated,
        "state": progress.state.value,
        "tenants": progress.tenants,
        "rows": progress.rows,
        "found": progress.found,
        "changed": progress.changed,
        "verified": progress.verified,
        "births": progress.births,
        "removed": progress.removed,
        **_by_kid_columns(progress.by_kid),
        "page": progress.page,
        "tree": progress.tree,
        "problem": progress.problem,
    }
    return row if progress.after is None else row | {"after": progress.after}


def _progress(row: StoredRow) -> ShardProgress:
    progress = ShardProgress(
        run=row.partition,
        pass_number=row.number("pass_number"),
        shard=row.number("shard"),
        started=row.moment("started"),
        updated=row.moment("updated"),
        state=row.one_of("state", ShardState),
        after=row.optional_tenant("after"),
        tenants=row.number("tenants"),
        rows=row.number("rows"),
        found=row.number("found"),
        changed=row.number("changed"),
        verified=row.number("verified"),
        births=row.number("births"),
        removed=row.number("removed"),
        by_kid=_by_kid(row),
        page=row.number("page"),
        tree=row.text("tree"),
        problem=row.text("problem"),
        etag=row.etag,
    )
    if row.key != _pass_key(progress.pass_number, progress.shard):
        raise row.wrong("shard")
    return progress


def _page_row(page: FrozenPage) -> dict[str, Any]:
    packed = b"".join(
        _FROZEN.pack(len(each.tenant), each.primary, each.root) + each.tenant.encode() for each in page.tenants
    )
    return {
        "PartitionKey": page.run,
        "RowKey": _page_key(page.shard, page.number),
        "shard": page.shard,
        "number": page.number,
        "upto": page.upto,
        "count": len(page.tenants),
        **spread("tenants", packed),
        **_by_kid_columns(page.by_kid),
    }


def _page(row: StoredRow) -> FrozenPage:
    page = FrozenPage(
        run=row.partition,
        shard=row.number("shard"),
        number=row.number("number"),
        upto=row.tenant("upto"),
        tenants=tuple(_frozen_tenants(row)),
        by_kid=_by_kid(row),
    )
    if row.key != _page_key(page.shard, page.number):
        raise row.wrong("number")
    if len(page.tenants) != row.number("count"):
        raise row.wrong("count")
    return page


def _frozen_tenants(row: StoredRow) -> Iterator[FrozenTenant]:
    packed = row.gathered("tenants")
    at = 0
    while at < len(packed):
        try:
            length, primary, root = _FROZEN.unpack_from(packed, at)
            at += _FROZEN.size + length
            name = packed[at - length : at].decode("ascii")
        except (struct.error, UnicodeDecodeError):
            raise row.wrong("tenants") from None
        if len(name) != length:
            raise row.wrong("tenants")
        yield FrozenTenant(row.as_tenant("tenants", name), primary, root)


def _by_kid_columns(by_kid: Mapping[Kid, int]) -> dict[str, bytes]:
    return spread("by_kid", json.dumps(dict(by_kid)).encode())


def _by_kid(row: StoredRow) -> dict[Kid, int]:
    stored = row.parsed("by_kid", row.gathered("by_kid"))
    if not isinstance(stored, dict) or not all(type(number) is int and number >= 0 for number in stored.values()):
        raise row.wrong("by_kid")
    return {Kid(kid): number for kid, number in stored.items()}
