"""What the vault knows, in one SQLite file: a change is on disk when the method that made it returns.

The write-ahead log with `synchronous=FULL` makes every committed change survive SIGKILL and power loss alike. A
`Store` and its shelves belong to one thread; the state folder's lock keeps other processes out.
"""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from local.key_vault.errors import (
    belongs_to_certificate,
    deleted_not_found,
    name_is_deleted,
    name_is_in_use,
    name_is_taken,
    not_found,
)
from local.key_vault.versions import (
    RECOVERABLE_DAYS,
    CertificateVersion,
    Change,
    KeyVersion,
    SecretVersion,
    Version,
)
from local.key_vault.wire import JsonObject

_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
    kind    TEXT NOT NULL,
    folded  TEXT NOT NULL,              -- the name in lower case: names that differ in case only are one name
    name    TEXT NOT NULL,              -- as it was first spelled
    deleted INTEGER,                    -- Unix seconds of the soft delete; NULL while living
    policy  TEXT,                       -- of a key or certificate, JSON
    PRIMARY KEY (kind, folded)
) STRICT;
CREATE TABLE IF NOT EXISTS versions (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,   -- the highest is the current version
    kind    TEXT NOT NULL,
    folded  TEXT NOT NULL,
    id      TEXT NOT NULL,
    record  TEXT NOT NULL,              -- all the rest, JSON
    UNIQUE (kind, folded, id),
    FOREIGN KEY (kind, folded) REFERENCES objects (kind, folded) ON DELETE CASCADE
) STRICT;
CREATE INDEX IF NOT EXISTS versions_by_age ON versions (kind, folded, seq);
"""


class Kind(StrEnum):
    """The kinds of objects; each has its own names."""

    KEY = "key"
    SECRET = "secret"  # noqa: S105 - the kind, not a secret
    CERTIFICATE = "certificate"

    @property
    def plural(self) -> str:
        """As in paths."""
        return f"{self.value}s"


@dataclass(frozen=True, slots=True)
class Stored[V: Version]:
    """A version with the name of its object."""

    name: str
    version: V
    deleted: int | None = None
    """When the object was soft-deleted, in Unix seconds."""

    @property
    def scheduled_purge(self) -> int | None:
        """When the object goes for good, in Unix seconds."""
        return None if self.deleted is None else self.deleted + RECOVERABLE_DAYS * 86400


class Shelf[V: Version]:
    """All objects of one kind. Refusals are raised as the errors that the client gets.

    `parts` are the kinds that have an object of the same name for each one of this kind: they are deleted with it.
    """

    def __init__(
        self, database: sqlite3.Connection, kind: Kind, load: Callable[[dict[str, Any]], V], *parts: Kind
    ) -> None:
        self._database = database
        self._load = load
        self._kinds = json.dumps((kind, *parts))
        self.kind = kind

    def add(self, name: str, version: V, now: int) -> Stored[V]:
        """Make `version` the current one of `name`, a new object if need be. 409 while the name is soft-deleted."""
        self.purge_due(now)
        with _transaction(self._database):
            return self.insert(name, version)

    def insert(self, name: str, version: V) -> Stored[V]:
        """As `add`, as a part of the caller's transaction, and without looking for what is to be purged."""
        row = self._database.execute(
            "SELECT name, deleted FROM objects WHERE kind = ? AND folded = ?", (self.kind, name.lower())
        ).fetchone()
        if row is None:
            self._database.execute(
                "INSERT INTO objects (kind, folded, name) VALUES (?, ?, ?)", (self.kind, name.lower(), name)
            )
        elif row[1] is not None:
            raise name_is_deleted(self.kind, row[0])
        elif self.get(name).version.managed and not version.managed:
            raise belongs_to_certificate(self.kind, row[0])
        elif version.managed and not self.get(name).version.managed:
            raise name_is_taken(self.kind, row[0])
        self._database.execute(
            "INSERT INTO versions (kind, folded, id, record) VALUES (?, ?, ?, ?)",
            (self.kind, name.lower(), version.id, _dump(version)),
        )
        return Stored(name if row is None else row[0], version)

    def find(self, name: str, version: str | None = None) -> Stored[V] | None:
        """A version of a living object, by default the current one."""
        return self._find(name, version, deleted=False)

    def get(self, name: str, version: str | None = None) -> Stored[V]:
        """As `find`, but 404 when there is none."""
        found = self.find(name, version)
        if found is None:
            raise not_found(self.kind, name, version)
        return found

    def replace(self, name: str, version: V) -> None:
        """Overwrite the version of that id."""
        self._database.execute(
            "UPDATE versions SET record = ? WHERE kind = ? AND folded = ? AND id = ?",
            (_dump(version), self.kind, name.lower(), version.id),
        )

    def page(self, after: str, limit: int, *, deleted: bool) -> list[Stored[V]]:
        """Current versions of the objects whose names follow `after`, by name in lower case."""
        rows = self._database.execute(
            "SELECT o.name, o.deleted, v.record FROM objects o JOIN versions v ON v.seq ="
            " (SELECT max(seq) FROM versions WHERE kind = o.kind AND folded = o.folded)"
            " WHERE o.kind = ? AND o.folded > ? AND (o.deleted IS NOT NULL) = ? ORDER BY o.folded LIMIT ?",
            (self.kind, after.lower(), deleted, limit),
        )
        return [self._stored(row) for row in rows]

    def versions_page(self, name: str, after: str, limit: int) -> list[Stored[V]]:
        """Versions of a living object whose ids follow `after`, by id: an order that has nothing to do with age."""
        rows = self._database.execute(
            "SELECT o.name, o.deleted, v.record FROM objects o JOIN versions v USING (kind, folded)"
            " WHERE o.kind = ? AND o.folded = ? AND o.deleted IS NULL AND v.id > ? ORDER BY v.id LIMIT ?",
            (self.kind, name.lower(), after, limit),
        )
        return [self._stored(row) for row in rows]

    def delete(self, name: str, now: int) -> Stored[V]:
        """Soft-delete an object with all its versions. 404 when there is none."""
        found = self._own(self.get(name))
        self._set_deleted(name, now)
        return Stored(found.name, found.version, now)

    def get_deleted(self, name: str, now: int) -> Stored[V]:
        """The last current version of a soft-deleted object. 404 when there is none."""
        self.purge_due(now)
        found = self._find(name, None, deleted=True)
        if found is None:
            raise deleted_not_found(self.kind, name)
        return found

    def recover(self, name: str, now: int) -> Stored[V]:
        """Undo a soft delete. 404 when the name is not deleted, 409 when it lives."""
        if self.find(name) is not None:
            raise name_is_in_use(self.kind, name)
        found = self._own(self.get_deleted(name, now))
        self._set_deleted(name, None)
        return Stored(found.name, found.version)

    def purge(self, name: str, now: int) -> None:
        """Forget a soft-deleted object for good. 404 when there is none."""
        self._own(self.get_deleted(name, now))
        self._database.execute(
            "DELETE FROM objects WHERE kind IN (SELECT value FROM json_each(?)) AND folded = ?",
            (self._kinds, name.lower()),
        )

    def purge_due(self, now: int) -> None:
        """Forget what was deleted longer ago than it stays recoverable."""
        self._database.execute(
            "DELETE FROM objects WHERE kind IN (SELECT value FROM json_each(?)) AND deleted <= ?",
            (self._kinds, now - RECOVERABLE_DAYS * 86400),
        )

    def policy(self, name: str) -> JsonObject | None:
        """The policy of a living object, if it has one. 404 when there is no such object."""
        row = self._database.execute(
            "SELECT policy FROM objects WHERE kind = ? AND folded = ? AND deleted IS NULL", (self.kind, name.lower())
        ).fetchone()
        if row is None:
            raise not_found(self.kind, name)
        policy: JsonObject | None = row[0] and json.loads(row[0])
        return policy

    def set_policy(self, name: str, policy: JsonObject) -> None:
        """Keep a policy with a living object. 404 when there is no such object."""
        self.get(name)
        self._database.execute(
            "UPDATE objects SET policy = ? WHERE kind = ? AND folded = ?",
            (json.dumps(policy), self.kind, name.lower()),
        )

    def _find(self, name: str, version: str | None, *, deleted: bool) -> Stored[V] | None:
        row = self._database.execute(
            "SELECT o.name, o.deleted, v.record FROM objects o JOIN versions v USING (kind, folded)"
            " WHERE o.kind = :kind AND o.folded = :folded AND (o.deleted IS NOT NULL) = :deleted"
            " AND (:id IS NULL OR v.id = :id) ORDER BY v.seq DESC LIMIT 1",
            {"kind": self.kind, "folded": name.lower(), "deleted": deleted, "id": version and version.lower()},
        ).fetchone()
        return None if row is None else self._stored(row)

    def _set_deleted(self, name: str, when: int | None) -> None:
        self._database.execute(
            "UPDATE objects SET deleted = ? WHERE kind IN (SELECT value FROM json_each(?)) AND folded = ?",
            (when, self._kinds, name.lower()),
        )

    def _own(self, found: Stored[V]) -> Stored[V]:
        """The same, unless it belongs to a certificate: 403."""
        if found.version.managed:
            raise belongs_to_certificate(self.kind, found.name)
        return found

    def _stored(self, row: tuple[str, int | None, str]) -> Stored[V]:
        name, deleted, record = row
        return Stored(name, self._load(json.loads(record)), deleted)


class Store:
    """The vault's file, opened or created."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.executescript(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;" + _SCHEMA
        )
        self.keys = Shelf(self._database, Kind.KEY, KeyVersion.from_record)
        self.secrets = Shelf(self._database, Kind.SECRET, SecretVersion.from_record)
        self.certificates = Shelf(
            self._database, Kind.CERTIFICATE, CertificateVersion.from_record, Kind.KEY, Kind.SECRET
        )

    def add_certificate(
        self,
        name: str,
        certificate: CertificateVersion,
        key: KeyVersion,
        secret: SecretVersion,
        policy: JsonObject,
        now: int,
    ) -> Stored[CertificateVersion]:
        """Make a certificate with its key, secret and policy the current one of `name`: all or nothing.

        409 while the name is soft-deleted, or where a key or secret of that name belongs to no certificate.
        """
        self.certificates.purge_due(now)
        with _transaction(self._database):
            stored = self.certificates.insert(name, certificate)
            self.keys.insert(name, key)
            self.secrets.insert(name, secret)
            self.certificates.set_policy(name, policy)
        return stored

    def change_certificate(
        self, name: str, version: str | None, change: Change, now: int
    ) -> Stored[CertificateVersion]:
        """Change a version, and the attributes of its key and secret with it. 404 when there is none."""
        with _transaction(self._database):
            stored = self.certificates.get(name, version)
            changed = stored.version.changed(change, now)
            self.certificates.replace(name, changed)
            dates = replace(change, tags=None)
            self.keys.replace(name, self.keys.get(name, changed.id).version.changed(dates, now))
            self.secrets.replace(name, self.secrets.get(name, changed.id).version.changed(dates, now))
        return Stored(stored.name, changed)

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()


@contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")


def _dump(version: Version) -> str:
    return json.dumps(version.to_record(), separators=(",", ":"))
