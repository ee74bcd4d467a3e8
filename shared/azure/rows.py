"""Reading back what we have written to a table.

Whoever may write to the storage account can put anything there, so that every column is checked as it is read: what we
cannot have written is Integrity, and nothing is done with it.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from shared.errors import Integrity
from shared.values import Etag


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

    def text(self, name: str) -> str:
        """A string."""
        return self._typed(name, str)

    def optional_text(self, name: str) -> str:
        """A string, empty where the column is not there: rows of earlier releases lack the columns of later ones."""
        return "" if self._entity.get(name) is None else self.text(name)

    def octets(self, name: str) -> bytes:
        """Bytes."""
        return self._typed(name, bytes)

    def moment(self, name: str) -> datetime:
        """An aware time."""
        return self._typed(name, datetime)

    def optional_moment(self, name: str) -> datetime | None:
        """An aware time, None where the column is not there."""
        return None if self._entity.get(name) is None else self.moment(name)

    def flag(self, name: str) -> bool:
        """True or False."""
        return self._typed(name, bool)

    def number(self, name: str) -> int:
        """A whole number from 0 on."""
        value = self._typed(name, int)
        if isinstance(value, bool) or value < 0:
            raise self.wrong(name)
        return value

    def one_of[E: StrEnum](self, name: str, choices: type[E]) -> E:
        """A member of an enumeration."""
        try:
            return choices(self.text(name))
        except ValueError:
            raise self.wrong(name) from None

    def numbers(self, name: str) -> tuple[int, ...]:
        """A JSON array of whole numbers."""
        value = self._json(name)
        if not isinstance(value, list) or not all(type(item) is int for item in value):
            raise self.wrong(name)
        return tuple(value)

    def texts(self, name: str) -> dict[str, str]:
        """A JSON object of strings."""
        value = self._json(name)
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            raise self.wrong(name)
        return value

    def wrong(self, column: str) -> Integrity:
        """The error to raise for a column whose value we cannot have written."""
        where = {"partition": self._entity.get("PartitionKey"), "row": self._entity.get("RowKey")}
        return Integrity("a stored row is not as we write it", column=column, **where)

    def _json(self, name: str) -> object:
        try:
            value: object = json.loads(self.text(name))
        except (ValueError, RecursionError):
            raise self.wrong(name) from None
        return value

    def _typed[T](self, name: str, kind: type[T]) -> T:
        value = self._entity.get(name)
        if not isinstance(value, kind):
            raise self.wrong(name)
        return value
