"""The command `inventory`: everything that rotates and everything in the vaults, and where the two differ."""

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Final

from rotation.catalog import Catalog, load
from rotation.commands.grammar import Commands, add_check, add_command
from rotation.commands.ports import Ports
from rotation.commands.tables import Cell, as_csv, in_json, rendered
from rotation.inventory import Row
from rotation.inventory_scan import InventoryScan
from rotation.rotators.registry import READERS
from shared.errors import Different
from shared.settings import Settings

_FIELDS: Final = (
    "entry",
    "kind",
    "object",
    "vault",
    "owner",
    "state",
    "version",
    "versions",
    "age_days",
    "rotated",
    "next",
    "expires",
    "rotated_by",
    "schedule",
    "controls",
    "differences",
    "details",
)


def add_to(nouns: Commands) -> None:
    """Put the command into the command line."""
    purpose = "every key, secret and certificate: owner, state, age, next rotation, expiry, differences to the catalog"
    parser = add_command(nouns, "inventory", purpose, _inventory, sample="inventory --differences --check")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="one JSON object a line, with every field")
    shape.add_argument("--csv", action="store_true", help="the same as CSV")
    parser.add_argument("--differences", action="store_true", help="only what is not as the catalog says")
    parser.add_argument("--versions", action="store_true", help="also count the versions of what is in the catalog")
    add_check(parser, "something is not as the catalog says")


def _inventory(options: argparse.Namespace, settings: Settings, ports: Ports) -> Iterator[str]:
    now = ports.clock()
    catalog = load(settings.catalog, READERS)
    known = unknown = different = 0

    def counted() -> Iterator[Row]:
        nonlocal known, unknown, different
        for row in scan(catalog, ports).rows(now, versions=options.versions):
            known, unknown = known + bool(row.entry), unknown + (not row.entry)
            different += bool(row.differences)
            if row.differences or not options.differences:
                yield row

    if options.json:
        yield from (json.dumps(in_json(_fields(row, now))) for row in counted())
    elif options.csv:
        yield from as_csv(_FIELDS, (_fields(row, now) for row in counted()))
    else:
        yield from _table(counted(), now, with_versions=options.versions)
        yield ""
        yield f"{known} in the catalog, {unknown} not; {different} with differences"
    if options.check and different:
        raise Different("vaults and catalog differ", objects=different)


def scan(catalog: Catalog, ports: Ports) -> InventoryScan:
    """What takes the inventory. Where no secret can have been rotated nobody is asked for one."""
    rotations = ports.secret_rotations if catalog.secrets else None
    return InventoryScan(catalog, ports.vault_objects, ports.keks, rotations)


def _fields(row: Row, now: datetime) -> Mapping[str, object]:
    """Every field, for programs."""
    age = row.age(now)
    values = (
        row.entry,
        row.kind,
        row.object,
        row.vault,
        row.owner,
        row.state,
        row.version,
        row.versions,
        None if age is None else age.days,
        row.rotated,
        row.next,
        row.expires,
        row.rotated_by,
        row.schedule,
        row.controls,
        row.differences,
        row.details,
    )
    return dict(zip(_FIELDS, values, strict=True))


def _table(rows: Iterable[Row], now: datetime, *, with_versions: bool) -> Iterator[str]:
    """For people: those of one owner together, what belongs to nobody at the end."""
    ordered = sorted(rows, key=lambda row: (row.owner == "", row.owner, row.kind, row.entry or row.object))
    yield from rendered((_cells(row, now, with_versions=with_versions) for row in ordered), as_json=False)


def _cells(row: Row, now: datetime, *, with_versions: bool) -> Mapping[str, Cell]:
    age = row.age(now)
    versions: dict[str, Cell] = {"version": row.version, "versions": row.versions} if with_versions else {}
    return {
        "owner": row.owner or "nobody",
        "kind": row.kind,
        "name": row.entry or row.object,
        "state": row.state.value,
        **versions,
        "rotated": row.rotated,
        "age": None if age is None else f"{age.days} d",
        "next": row.next,
        "expires": row.expires,
        "rotated_by": row.rotated_by,
        "differences": _differences(row),
    }


def _differences(row: Row) -> str:
    details = f"({'; '.join(row.details)})" if row.details else ""
    return " ".join(filter(None, ("; ".join(row.differences), details)))
