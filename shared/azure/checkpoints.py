"""Table `checkpoints`: one partition, row = 20-digit number, inserted and never changed.

What may be longer than one column is spread over several; the trees of all streams are some 30 KB at most.
"""

import json
import re
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Final, override

from azure.data.tables import TableClient

from shared.azure.rows import StoredRow, spread
from shared.azure.translate import translated
from shared.ports import Checkpoints
from shared.values import StoredCheckpoint

_PARTITION: Final = "checkpoints"
_LARGEST_PAGE: Final = 1_000
_NUMBER: Final = re.compile(r"0|[1-9][0-9]*", re.ASCII)


class AzureCheckpoints(Checkpoints):
    """The port `Checkpoints` on Azure Table Storage."""

    def __init__(self, table: TableClient) -> None:
        self._table = table

    @override
    def read(self, first: int, limit: int) -> Sequence[StoredCheckpoint]:
        # Without an upper bound: behind a row that somebody has removed, the end is not near.
        query, bounds = "PartitionKey eq @key and RowKey ge @first", {"key": _PARTITION, "first": _row_key(first)}
        with translated("reading checkpoints"):
            entities = self._table.query_entities(query, parameters=bounds, results_per_page=min(limit, _LARGEST_PAGE))
            rows = [StoredRow(entity) for entity in islice(entities, limit)]
        return [_checkpoint(row) for row in rows]

    @override
    def append(self, checkpoint: StoredCheckpoint) -> None:
        with translated("writing a checkpoint"):
            self._table.create_entity(_row(checkpoint))


def _row_key(number: int) -> str:
    return f"{number:020d}"


def _row(checkpoint: StoredCheckpoint) -> Mapping[str, Any]:
    trees = {str(stream): tree for stream, tree in checkpoint.trees.items()}
    return {
        "PartitionKey": _PARTITION,
        "RowKey": _row_key(checkpoint.number),
        "number": checkpoint.number,
        "stamped": checkpoint.stamped,
        "token_size": len(checkpoint.token),
        **spread("note", checkpoint.note.encode()),
        **spread("trees", json.dumps(trees).encode()),
        **spread("token", checkpoint.token),
    }


def _checkpoint(row: StoredRow) -> StoredCheckpoint:
    number = row.number("number")
    if row.key != _row_key(number):
        raise row.wrong("number")
    stamped, token = row.number("stamped"), row.gathered("token")
    if row.number("token_size") != len(token):
        raise row.wrong("token_size")
    if bool(stamped) != bool(token):
        raise row.wrong("stamped")
    try:
        note = row.gathered("note").decode()
    except UnicodeDecodeError:
        raise row.wrong("note") from None
    if not note:
        raise row.wrong("note")
    return StoredCheckpoint(number, note, _trees(row), stamped, token)


def _trees(row: StoredRow) -> Mapping[int, str]:
    """A JSON object with the numbers of streams for names."""
    value = row.parsed("trees", row.gathered("trees"))
    if not isinstance(value, dict) or not all(_NUMBER.fullmatch(stream) for stream in value):
        raise row.wrong("trees")
    if not all(isinstance(each, str) for each in value.values()):
        raise row.wrong("trees")
    return {int(stream): each for stream, each in value.items()}
