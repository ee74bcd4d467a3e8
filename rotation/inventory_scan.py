"""Takes the inventory: lists the vaults once, page by page, and says of each object and entry what there is to say.

What is held meanwhile grows with the catalog, not with the vaults.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final

from rotation.catalog import PENDING_SUFFIX, Catalog, Entry, EntryKind
from rotation.inventory import Known, Matching, Row, entry_row, stranger_row
from rotation.renewal import has_policy
from shared.errors import Rejected
from shared.ports import Keks, SecretRotations, VaultObjects
from shared.values import KekRecord, ObjectKind, RenewalPolicy, SecretRotation, VaultObject

_PAGE: Final = 1000


class InventoryScan:
    """One look at everything, with what it needs to look at."""

    def __init__(self, catalog: Catalog, objects: VaultObjects, keks: Keks, rotations: SecretRotations | None) -> None:
        """`rotations` may be None where the catalog has no secrets."""
        self._catalog = catalog
        self._objects = objects
        self._keks = keks
        self._rotations = rotations

    def rows(self, now: datetime, *, policies: bool = True, versions: bool = False) -> Iterator[Row]:
        """Every object and entry, in the order in which the vaults list them; entries without an object at the end.

        `policies` asks the vault for those of the entries that have one, `versions` for all versions of the entries.
        """
        keks = self._kek_records()
        rotations = self._secret_rotations()
        matching = Matching(self._catalog.entries.values(), keks, self._objects.vaults[0], PENDING_SUFFIX)
        for found in self._found():
            entry = matching.entry_of(found)
            if entry is not None:
                known = self._known(entry, found, keks, rotations, policies=policies, versions=versions)
                yield entry_row(entry, found, known, now)
            elif matching.is_stranger(found):
                yield stranger_row(found)
        for entry in matching.left():
            yield entry_row(entry, None, Known(rotations.get(entry.name), keks.get(entry.name)), now)

    def _found(self) -> Iterator[VaultObject]:
        for vault in self._objects.vaults:
            for kind in ObjectKind:
                yield from self._objects.of(kind, vault)

    def _known(
        self,
        entry: Entry,
        found: VaultObject,
        keks: Mapping[str, KekRecord],
        rotations: Mapping[str, SecretRotation],
        *,
        policies: bool,
        versions: bool,
    ) -> Known:
        every = self._objects.versions(found.kind, found.name, found.vault) if versions else ()
        return Known(
            rotation=rotations.get(entry.name),
            kek=keks.get(entry.name),
            policy=self._policy(found) if policies and has_policy(entry) else None,
            versions=len(every) if versions else None,
            newest=every[-1].version if every else "",
        )

    def _policy(self, found: VaultObject) -> RenewalPolicy | None:
        try:
            return self._objects.renewal(found.kind, found.name, found.vault)
        except Rejected:
            return None  # it was deleted since it was listed

    def _kek_records(self) -> dict[str, KekRecord]:
        names = [entry.name for entry in self._catalog.entries.values() if entry.kind is EntryKind.KEK]
        found = {name: self._keks.read(name) for name in names}
        return {name: record for name, record in found.items() if record is not None}

    def _secret_rotations(self) -> dict[str, SecretRotation]:
        """Of the secrets in the catalog; what was rotated once and has left it is not held."""
        found: dict[str, SecretRotation] = {}
        after: str | None = None
        while self._rotations is not None:
            page = self._rotations.page(after, _PAGE)
            if not page:
                break
            found |= {each.name: each for each in page if each.name in self._catalog.secrets}
            after = page[-1].name
        return found
