"""The registry of rotators: one line for each secret type, by the name that catalog entries use.

A file is imported when its secret type is first needed, and with it the SDKs that it uses: who verifies an audit trail
has none of them installed.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Final

from rotation.fields import Fields
from rotation.rotators.base import Kind, Parameters, Rotator, Surroundings


def _in_file(name: str) -> Kind:
    """The functions `read` and `make` of a file beside this one."""

    def read(fields: Fields) -> Parameters:
        return import_module(f"{__package__}.{name}").read(fields)

    def make(entry: str, parameters: Parameters, surroundings: Surroundings) -> Rotator:
        rotator: Rotator = import_module(f"{__package__}.{name}").make(entry, parameters, surroundings)
        return rotator

    return Kind(read, make)


ROTATORS: Final[Mapping[str, Kind]] = {
    "azure-sql": _in_file("azure_sql"),
    "cosmos-db": _in_file("cosmos_db"),
    "http-api-key": _in_file("http_api_key"),
    "manual": _in_file("manual"),
    "mysql": _in_file("mysql"),
    "postgresql": _in_file("postgresql"),
    "service-bus": _in_file("service_bus"),
    "storage-account": _in_file("storage_account"),
    "webhook-hmac": _in_file("webhook_hmac"),
}

READERS: Final[Mapping[str, Callable[[Fields], Parameters]]] = {name: kind.read for name, kind in ROTATORS.items()}
"""What the catalog needs of them."""
