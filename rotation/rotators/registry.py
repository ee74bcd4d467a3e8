"""The registry of rotators: one line for each secret type, by the name that catalog entries use."""

from collections.abc import Callable, Mapping
from typing import Final

from rotation.fields import Fields
from rotation.rotators import azure_sql, manual, mysql, postgresql, webhook_hmac
from rotation.rotators.base import Kind, Parameters

ROTATORS: Final[Mapping[str, Kind]] = {
    "azure-sql": Kind(azure_sql.read, azure_sql.make),
    "manual": Kind(manual.read, manual.Manual),
    "mysql": Kind(mysql.read, mysql.make),
    "postgresql": Kind(postgresql.read, postgresql.make),
    "webhook-hmac": Kind(webhook_hmac.read, webhook_hmac.WebhookHmac),
}

READERS: Final[Mapping[str, Callable[[Fields], Parameters]]] = {name: kind.read for name, kind in ROTATORS.items()}
"""What the catalog needs of them."""
