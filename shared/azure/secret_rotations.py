"""Table `rotations`: one partition, a row for each secret of the catalog."""

from collections.abc import Sequence
from dataclasses import fields, replace
from itertools import islice
from typing import Any, Final, override

from azure.core.exceptions import ResourceNotFoundError
from azure.data.tables import TableClient

from shared.azure.rows import StoredRow, put_row
from shared.azure.translate import translated
from shared.ports import SecretRotations
from shared.values import SecretPhase, SecretRotation

_PARTITION: Final = "secret"
_MAX_RESULTS: Final = 1000  # of one answer
_FREE_TEXT: Final = ("reason", "undone_because", "confirmed_because", "task", "verdict", "trouble")
_SPECIAL: Final = frozenset({"name", "phase", "etag"})
_COLUMNS: Final = tuple(field for field in fields(SecretRotation) if field.name not in _SPECIAL)


class AzureSecretRotations(SecretRotations):
    """The port `SecretRotations` on Azure Table Storage."""

    def __init__(self, table: TableClient) -> None:
        self._table = table

    @override
    def read(self, name: str) -> SecretRotation | None:
        with translated("reading where a secret stands"):
            try:
                return _rotation(StoredRow(self._table.get_entity(_PARTITION, name)))
            except ResourceNotFoundError:
                return None

    @override
    def page(self, after: str | None, limit: int) -> Sequence[SecretRotation]:
        query = "PartitionKey eq @key and RowKey gt @after"
        with translated("reading where secrets stand"):
            found = self._table.query_entities(
                query, parameters={"key": _PARTITION, "after": after or ""}, results_per_page=min(limit, _MAX_RESULTS)
            )
            # The service may answer with fewer than there are, with none even, and say where to go on.
            return [_rotation(StoredRow(entity)) for entity in islice(found, limit)]

    @override
    def put(self, rotation: SecretRotation) -> SecretRotation:
        with translated("changing where a secret stands"):
            return replace(rotation, etag=put_row(self._table, _row(rotation), rotation.etag, _FREE_TEXT))


def _row(rotation: SecretRotation) -> dict[str, Any]:
    columns = {field.name: getattr(rotation, field.name) for field in _COLUMNS}
    return {
        "PartitionKey": _PARTITION,
        "RowKey": rotation.name,
        "phase": rotation.phase.value,
        **{name: value for name, value in columns.items() if value is not None},
    }


def _rotation(row: StoredRow) -> SecretRotation:
    """Columns that a release before did not have read as their defaults."""
    values: dict[str, Any] = {}
    for field in _COLUMNS:
        if not row.has(field.name):
            continue
        if field.type is str:
            values[field.name] = row.text(field.name)
        elif field.type is bool:
            values[field.name] = row.flag(field.name)
        elif field.type is int:
            values[field.name] = row.number(field.name)
        else:
            values[field.name] = row.moment(field.name)
    for required in ("phase_since", "generation"):
        if required not in values:
            raise row.wrong(required)
    return SecretRotation(name=row.key, phase=row.one_of("phase", SecretPhase), etag=row.etag, **values)
