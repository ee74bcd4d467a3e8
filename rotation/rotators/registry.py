"""The registry of rotators: one line for each secret type, by the name that catalog entries use."""

from collections.abc import Callable, Mapping
from typing import Final

from rotation.fields import Fields
from rotation.rotators import (
    azure_sql,
    cosmos_db,
    http_api_key,
    manual,
    mysql,
    postgresql,
    service_bus,
    storage_account,
    webhook_hmac,
)
from rotation.rotators.base import Kind, Parameters

ROTATORS: Final[Mapping[str, Kind]] = {
    "azure-sql": Kind(azure_sql.read, azure_sql.make),
    "cosmos-db": Kind(cosmos_db.read, cosmos_db.make),
    "http-api-key": Kind(http_api_key.read, http_api_key.make),
    "manual": Kind(manual.read, manual.Manual),
    "mysql": Kind(mysql.read, mysql.make),
    "postgresql": Kind(postgresql.read, postgresql.make),
    "service-bus": Kind(service_bus.read, service_bus.make),
    "storage-account": Kind(storage_account.read, storage_account.make),
    "webhook-hmac": Kind(webhook_hmac.read, webhook_hmac.WebhookHmac),
}

READERS: Final[Mapping[str, Callable[[Fields], Parameters]]] = {name: kind.read for name, kind in ROTATORS.items()}
"""What the catalog needs of them."""
