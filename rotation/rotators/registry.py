"""The registry of rotators: one line for each secret type, by the name that catalog entries use."""

from collections.abc import Callable, Mapping
from typing import Final

from rotation.fields import Fields
from rotation.rotators import azure_sql, mysql, postgresql
from rotation.rotators.base import Kind, Parameters

ROTATORS: Final[Mapping[str, Kind]] = {
    "azure-sql": Kind(azure_sql.read, azure_sql.make),
    "mysql": Kind(mysql.read, mysql.make),
    "postgresql": Kind(postgresql.read, postgresql.make),
}

READERS: Final[Mapping[str, Callable[[Fields], Parameters]]] = {name: kind.read for name, kind in ROTATORS.items()}
"""What the catalog needs of them."""
