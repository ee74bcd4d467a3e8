"""The small tables: `consumers`, `alerts`, `deadletters`."""

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final, override

from azure.core.exceptions import ResourceNotFoundError
from azure.data.tables import TableClient, UpdateMode

from shared.azure.deks import partition
from shared.azure.rows import StoredRow, digest_key
from shared.azure.translate import IF_UNCHANGED, translated
from shared.errors import Conflict, Transient
from shared.ports import Alerts, Consumers, DeadLetters
from shared.redact import mask
from shared.redact.gate import gated
from shared.values import Alert, ConsumerReport, DeadLetter, Severity, TenantId

log = logging.getLogger(__name__)

_TRIES: Final = 5
_FREE_TEXT: Final = ("what", "details", "reason")


class AzureConsumers(Consumers):
    """The port `Consumers`; table `consumers`, partition = the tenant's, row = the consumer."""

    def __init__(self, table: TableClient) -> None:
        self._table = table

    @override
    def report(self, report: ConsumerReport) -> None:
        key, row_key = partition(report.tenant), digest_key(report.consumer)
        row = {
            "PartitionKey": key,
            "RowKey": row_key,
            "consumer": report.consumer,
            "encrypts_with": report.encrypts_with,
            "decrypts_with": json.dumps(report.decrypts_with),
            "seen": report.seen,
        }
        keep_newest(self._table, row)

    @override
    def of(self, tenant: TenantId) -> Sequence[ConsumerReport]:
        with translated("reading consumers"):
            entities = list(self._table.query_entities("PartitionKey eq @key", parameters={"key": partition(tenant)}))
        return [
            ConsumerReport(
                row.text("consumer"),
                tenant,
                row.number("encrypts_with"),
                row.numbers("decrypts_with"),
                row.moment("seen"),
            )
            for row in map(StoredRow, entities)
        ]


class AzureAlerts(Alerts):
    """The port `Alerts`; table `alerts`, and a log record at ERROR that the alert rules watch for."""

    _PARTITION: Final = "alerts"

    def __init__(self, table: TableClient) -> None:
        self._table = table

    @override
    def raise_alert(self, alert: Alert) -> None:
        row = {
            "PartitionKey": self._PARTITION,
            "RowKey": digest_key(alert.id),
            "id": alert.id,
            "severity": alert.severity.value,
            "what": alert.what,
            "subject": alert.subject,
            "raised": alert.raised,
            "details": json.dumps(dict(alert.details)),
        }
        log.error("alert", extra={"alert": alert.id, "severity": alert.severity, "what": alert.what, **alert.details})
        _insert_once(self._table, row, "recording an alert")

    @override
    def resolve(self, alert: str) -> None:
        with translated("resolving an alert"):
            self._table.delete_entity(self._PARTITION, digest_key(alert))

    @override
    def all(self) -> Sequence[Alert]:
        with translated("reading alerts"):
            entities = list(self._table.query_entities("PartitionKey eq @key", parameters={"key": self._PARTITION}))
        alerts = [
            Alert(
                row.text("id"),
                row.one_of("severity", Severity),
                row.text("what"),
                row.text("subject"),
                row.moment("raised"),
                row.texts("details"),
            )
            for row in map(StoredRow, entities)
        ]
        return sorted(alerts, key=lambda alert: alert.raised)


class AzureDeadLetters(DeadLetters):
    """The port `DeadLetters`; table `deadletters`."""

    _PARTITION: Final = "letters"

    def __init__(self, table: TableClient) -> None:
        self._table = table

    @override
    def keep(self, letter: DeadLetter) -> None:
        row = {
            "PartitionKey": self._PARTITION,
            "RowKey": digest_key(f"{letter.queue}/{letter.id}"),
            "queue": letter.queue,
            "id": letter.id,
            "reason": letter.reason,
            "body": mask(letter.body).encode(),
            "kept": letter.kept,
            "can_resend": letter.can_resend,
        }
        _insert_once(self._table, row, "keeping a dead letter")

    @override
    def all(self) -> Sequence[DeadLetter]:
        with translated("reading dead letters"):
            entities = list(self._table.query_entities("PartitionKey eq @key", parameters={"key": self._PARTITION}))
        return sorted((_letter(StoredRow(entity)) for entity in entities), key=lambda letter: letter.kept)

    @override
    def resolve(self, letter: DeadLetter) -> None:
        with translated("resolving a dead letter"):
            self._table.delete_entity(self._PARTITION, digest_key(f"{letter.queue}/{letter.id}"))


def keep_newest(table: TableClient, row: Mapping[str, Any]) -> None:
    """Store what a consumer has reported, unless something newer of it is there."""
    row = gated(row)
    for _ in range(_TRIES):
        try:
            with translated("reporting a consumer"):
                _keep_newer(table, row)
        except Conflict:
            continue  # another report of this consumer, or our own one whose answer was lost
        return
    raise Transient("a consumer's report keeps changing", consumer=row["consumer"])


def _keep_newer(table: TableClient, row: Mapping[str, Any]) -> None:
    try:
        stored = StoredRow(table.get_entity(row["PartitionKey"], row["RowKey"]))
    except ResourceNotFoundError:
        table.create_entity(row)
        return
    if stored.moment("seen") <= row["seen"]:
        try:
            table.update_entity(row, UpdateMode.REPLACE, etag=stored.etag, match_condition=IF_UNCHANGED)
        except ResourceNotFoundError as error:
            raise Conflict("reporting a consumer: removed meanwhile") from error


def _letter(row: StoredRow) -> DeadLetter:
    try:
        body = row.octets("body").decode()
    except UnicodeDecodeError:
        raise row.wrong("body") from None
    return DeadLetter(
        row.text("queue"), row.text("id"), row.text("reason"), body, row.moment("kept"), row.flag("can_resend")
    )


def _insert_once(table: TableClient, row: dict[str, Any], what: str) -> None:
    try:
        with translated(what):
            table.create_entity(gated(row, _FREE_TEXT))
    except Conflict:
        log.info("already there", extra={"row": row["RowKey"]})
