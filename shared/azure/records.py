"""Table `audit`: partition = stream, rows = 20-digit number, and one row per event id that points to its number.

Both rows of a record are inserted by one transaction, so that neither a number nor an event can be taken twice.
"""

from collections.abc import Sequence
from itertools import islice
from typing import Any, Final, override

from azure.core.exceptions import ResourceNotFoundError
from azure.data.tables import TableClient

from shared.azure.rows import StoredRow
from shared.azure.translate import translated
from shared.ports import MAX_ROWS_PER_TRANSACTION, Records
from shared.redact.gate import ensure_clean
from shared.values import StoredRecord

_LARGEST_PAGE: Final = 1_000


class AzureRecords(Records):
    """The port `Records` on Azure Table Storage."""

    def __init__(self, table: TableClient) -> None:
        self._table = table

    @override
    def read(self, stream: int, first_seq: int, limit: int) -> Sequence[StoredRecord]:
        # Up to the rows of events, not to the last number asked for: behind a row that is gone, the end is not near.
        query = "PartitionKey eq @stream and RowKey ge @first and RowKey lt @events"
        bounds = {"stream": _partition(stream), "first": _seq_key(first_seq), "events": _event_key("")}
        with translated("reading the audit trail"):
            entities = self._table.query_entities(query, parameters=bounds, results_per_page=min(limit, _LARGEST_PAGE))
            rows = [StoredRow(entity) for entity in islice(entities, limit)]
        return [_record(stream, row) for row in rows]

    @override
    def find(self, stream: int, event_id: str) -> int | None:
        with translated("looking for an audit record"):
            try:
                row = StoredRow(self._table.get_entity(_partition(stream), _event_key(event_id)))
            except ResourceNotFoundError:
                return None
        return _number(row, row.text("seq"))

    @override
    def append(self, records: Sequence[StoredRecord]) -> None:
        operations: list[tuple[str, dict[str, Any]]] = []
        for record in records:
            ensure_clean(record.canonical.decode())
            key = _partition(record.stream)
            operations.append(
                (
                    "create",
                    {
                        "PartitionKey": key,
                        "RowKey": _seq_key(record.seq),
                        "event": record.event_id,
                        "record": record.canonical.decode(),
                        "hash": record.leaf_hash,
                    },
                )
            )
            operations.append(
                ("create", {"PartitionKey": key, "RowKey": _event_key(record.event_id), "seq": str(record.seq)})
            )
        if len(operations) > MAX_ROWS_PER_TRANSACTION:
            raise ValueError(f"{len(records)} records do not fit into one transaction")
        with translated("writing the audit trail"):
            self._table.submit_transaction(operations)


def _partition(stream: int) -> str:
    return f"s{stream:02d}"


def _seq_key(seq: int) -> str:
    return f"{seq:020d}"


def _event_key(event_id: str) -> str:
    return f"event-{event_id}"


def _record(stream: int, row: StoredRow) -> StoredRecord:
    return StoredRecord(
        stream, _number(row, row.key), row.text("event"), row.text("record").encode(), row.octets("hash")
    )


def _number(row: StoredRow, digits: str) -> int:
    if not (digits.isascii() and digits.isdigit()):
        raise row.wrong("seq")
    return int(digits)
