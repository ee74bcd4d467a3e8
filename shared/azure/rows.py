"""Writing rows on condition, and reading back what we have written to a table.

Whoever may write to the storage account can put anything there, so that every column is checked as it is read: what we
cannot have written is Integrity, and nothing is done with it.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from datetime import datetime
from enum import StrEnum
from itertools import batched, count, takewhile
from typing import Any, Final

from azure.core.exceptions import ResourceNotFoundError
from azure.data.tables import TableClient, UpdateMode

from shared.azure.translate import IF_UNCHANGED
from shared.errors import Conflict, Integrity, Rejected, Transient
from shared.redact.gate import gated
from shared.values import Etag, TenantId, tenant_id

_COLUMN_BYTES: Final = 60 * 1024  # of the 64 KiB that the service takes


def put_row(table: TableClient, row: Mapping[str, Any], etag: Etag | None, free_text: Collection[str] = ()) -> Etag:
    """Insert the row, or replace it where it still has that ETag; answers with its new one.

    The SDK's own conflicts come through; Conflict if the row is gone. Secrets in `free_text` columns are masked.
    """
    row = gated(row, free_text)
    if etag is None:
        try:
            return Etag(table.create_entity(row)["etag"])
        except ResourceNotFoundError as error:
            raise Transient("inserting a row: the table does not exist", status=404) from error
    try:
        stored = table.update_entity(row, UpdateMode.REPLACE, etag=etag, match_condition=IF_UNCHANGED)
    except ResourceNotFoundError as error:
        raise Conflict("replacing a row: it is gone") from error
    return Etag(stored["etag"])


def digest_key(text: str) -> str:
    """`text` as a partition or row key: keys cannot hold every character (slashes, for one)."""
    return hashlib.sha256(text.encode()).hexdigest()[:40]


def spread(name: str, octets: bytes) -> dict[str, bytes]:
    """Columns `name_00`, `name_01` ... for more bytes than one column takes; for `StoredRow.gathered` to read."""
    parts = batched(octets, _COLUMN_BYTES, strict=False)
    return {f"{name}_{number:02d}": bytes(part) for number, part in enumerate(parts)}


class StoredRow:
    """One entity, column by column; each raises Integrity if the column is missing or of another type."""

    def __init__(self, entity: Mapping[str, Any]) -> None:
        self._entity = entity

    @property
    def partition(self) -> str:
        """Its partition key."""
        return self.text("PartitionKey")

    @property
    def key(self) -> str:
        """Its row key."""
        return self.text("RowKey")

    @property
    def etag(self) -> Etag:
        """The ETag that came with it."""
        return Etag(self._entity.metadata["etag"])  # type: ignore[attr-defined] # TableEntity is a dict with metadata

    def has(self, *names: str) -> bool:
        """Whether any of these columns is there."""
        return any(self._entity.get(name) is not None for name in names)

    def text(self, name: str) -> str:
        """A string."""
        return self._typed(name, str)

    def optional_text(self, name: str) -> str:
        """A string, empty where the column is not there: rows of earlier releases lack the columns of later ones."""
        return self.text(name) if self.has(name) else ""

    def octets(self, name: str) -> bytes:
        """Bytes."""
        return self._typed(name, bytes)

    def gathered(self, name: str) -> bytes:
        """The bytes that `spread` has put into several columns; that none is missing is for the caller to check."""
        names = (f"{name}_{number:02d}" for number in count())
        return b"".join(self.octets(each) for each in takewhile(self.has, names))

    def tenant(self, name: str) -> TenantId:
        """A tenant id."""
        return self.as_tenant(name, self.text(name))

    def optional_tenant(self, name: str) -> TenantId | None:
        """A tenant id, None where the column is not there."""
        return self.tenant(name) if self.has(name) else None

    def moment(self, name: str) -> datetime:
        """An aware time."""
        return self._typed(name, datetime)

    def optional_moment(self, name: str) -> datetime | None:
        """An aware time, None where the column is not there."""
        return self.moment(name) if self.has(name) else None

    def flag(self, name: str) -> bool:
        """True or False."""
        return self._typed(name, bool)

    def number(self, name: str) -> int:
        """A whole number from 0 on."""
        value = self._typed(name, int)
        if isinstance(value, bool) or value < 0:
            raise self.wrong(name)
        return value

    def optional_number(self, name: str) -> int:
        """A whole number from 0 on, 0 where the column is not there."""
        return self.number(name) if self.has(name) else 0

    def one_of[E: StrEnum](self, name: str, choices: type[E]) -> E:
        """A member of an enumeration."""
        try:
            return choices(self.text(name))
        except ValueError:
            raise self.wrong(name) from None

    def numbers(self, name: str) -> tuple[int, ...]:
        """A JSON array of whole numbers."""
        value = self.parsed(name, self.text(name))
        if not isinstance(value, list) or not all(type(item) is int for item in value):
            raise self.wrong(name)
        return tuple(value)

    def strings(self, name: str) -> tuple[str, ...]:
        """A JSON array of strings."""
        return self.as_strings(name, self.parsed(name, self.text(name)))

    def as_strings(self, name: str, value: object) -> tuple[str, ...]:
        """`value`, found in `name`, as an array of strings."""
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.wrong(name)
        return tuple(value)

    def texts(self, name: str) -> dict[str, str]:
        """A JSON object of strings."""
        value = self.parsed(name, self.text(name))
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            raise self.wrong(name)
        return value

    def wrong(self, column: str) -> Integrity:
        """The error to raise for a column whose value we cannot have written."""
        where = {"partition": self._entity.get("PartitionKey"), "row": self._entity.get("RowKey")}
        return Integrity("a stored row is not as we write it", column=column, **where)

    def as_tenant(self, column: str, value: object) -> TenantId:
        """`value`, found in `column`, as a tenant id."""
        try:
            return tenant_id(value)
        except Rejected:
            raise self.wrong(column) from None

    def parsed(self, name: str, stored: str | bytes) -> object:
        """`stored`, found in `name`, as the JSON that it has to be."""
        try:
            value: object = json.loads(stored)
        except (ValueError, RecursionError):
            raise self.wrong(name) from None
        return value

    def _typed[T](self, name: str, kind: type[T]) -> T:
        value = self._entity.get(name)
        if not isinstance(value, kind):
            raise self.wrong(name)
        return value
