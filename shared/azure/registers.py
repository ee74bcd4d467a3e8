"""The small tables: `consumers`, `alerts`, `deadletters`."""

import json
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, override

from azure.core.exceptions import ResourceNotFoundError
from azure.data.tables import TableClient, UpdateMode

from shared.azure.deks import partition
from shared.azure.rows import StoredRow, digest_key
from shared.azure.translate import IF_UNCHANGED, translated
from shared.errors import Conflict, Integrity, Transient
from shared.ports import AlertRegister, Consumers, DeadLetters
from shared.redact import mask
from shared.redact.gate import fitting, gated, json_of
from shared.values import (
    Alert,
    AlertEntry,
    Closing,
    ConsumerReport,
    DeadLetter,
    Owed,
    Severity,
    SinkName,
    TenantId,
)

log = logging.getLogger(__name__)

_TRIES: Final = 5
_FREE_TEXT: Final = ("what", "details", "owed", "closings", "reason")


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


class AzureAlertRegister(AlertRegister):
    """The port `AlertRegister`; table `alerts`, one partition, row = a digest of the alert's id."""

    _PARTITION: Final = "alerts"

    def __init__(self, table: TableClient) -> None:
        self._table = table

    @override
    def read(self, alert_id: str) -> AlertEntry | None:
        with translated("reading an alert"):
            try:
                return _entry(StoredRow(self._table.get_entity(self._PARTITION, digest_key(alert_id))))
            except ResourceNotFoundError:
                return None

    @override
    def put(self, entry: AlertEntry) -> None:
        alert = entry.alert
        row: dict[str, Any] = {
            "PartitionKey": self._PARTITION,
            "RowKey": digest_key(alert.id),
            "id": alert.id,
            "severity": alert.severity.value,
            "what": alert.what,
            "subject": alert.subject,
            "raised": alert.raised,
            "details": json_of(alert.details),
            "owner": alert.owner,
            "resolved_by": alert.resolved_by,
            "revision": entry.revision,
            "owed": json.dumps({name: _owed_text(owed) for name, owed in entry.owed.items()}),
            "closings": json.dumps([[each.revision, each.by, _in_json(each.because)] for each in entry.closings]),
            "is_owing": entry.is_owing,
        }
        if alert.resolved is not None:
            row["resolved"] = alert.resolved
        row = gated(row, _FREE_TEXT)
        with translated("recording an alert"):
            if entry.etag is None:
                self._table.create_entity(row)
                return
            try:
                self._table.update_entity(row, UpdateMode.REPLACE, etag=entry.etag, match_condition=IF_UNCHANGED)
            except ResourceNotFoundError as error:
                raise Conflict("recording an alert: removed meanwhile") from error

    @override
    def owing(self) -> Sequence[AlertEntry]:
        entries = []
        for row in self._rows("PartitionKey eq @key and is_owing eq true"):
            try:
                entries.append(_entry(row))
            except Integrity as error:
                log.error("cannot tell of a damaged alert", extra={"because": str(error)})  # noqa: TRY400 - no bug
        return _oldest_first(entries)

    @override
    def all(self) -> Sequence[AlertEntry]:
        return _oldest_first([_entry(row) for row in self._rows("PartitionKey eq @key")])

    def _rows(self, condition: str) -> Sequence[StoredRow]:
        with translated("reading alerts"):
            return [
                StoredRow(entity)
                for entity in self._table.query_entities(condition, parameters={"key": self._PARTITION})
            ]


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


def _entry(row: StoredRow) -> AlertEntry:
    """Rows of earlier releases have neither owner nor outbox: of those nothing is owed."""
    alert = Alert(
        row.text("id"),
        row.one_of("severity", Severity),
        row.text("what"),
        row.text("subject"),
        row.moment("raised"),
        row.texts("details"),
        row.optional_text("owner"),
        row.optional_moment("resolved"),
        row.optional_text("resolved_by"),
    )
    if not row.has("revision"):
        return AlertEntry(alert, etag=row.etag)
    return AlertEntry(alert, row.number("revision"), _owed(row), _closings(row), row.etag)


def _oldest_first(entries: Sequence[AlertEntry]) -> Sequence[AlertEntry]:
    return sorted(entries, key=lambda entry: entry.alert.raised)


def _owed_text(owed: Owed) -> list[int | str]:
    return [owed.attempts, owed.due.isoformat() if owed.due else "", _in_json(owed.given_up)]


def _in_json(text: str) -> str:
    return fitting(text, lambda shown: json.dumps([[shown], shown]))


def _owed(row: StoredRow) -> dict[SinkName, Owed]:
    found = row.parsed("owed", row.text("owed"))
    if not isinstance(found, dict):
        raise row.wrong("owed")
    owed = {}
    for name, value in found.items():
        match value:
            case [int(attempts), str(due), str(given_up)]:
                try:
                    moment = datetime.fromisoformat(due) if due else None
                    owed[SinkName(name)] = Owed(attempts, moment, given_up)
                except ValueError:
                    raise row.wrong("owed") from None
                if moment is not None and moment.tzinfo is None:
                    raise row.wrong("owed")
            case _:
                raise row.wrong("owed")
    return owed


def _closings(row: StoredRow) -> tuple[Closing, ...]:
    found = row.parsed("closings", row.text("closings"))
    if not isinstance(found, list):
        raise row.wrong("closings")
    closings = []
    for value in found:
        match value:
            case [int(revision), str(by), str(because)]:
                closings.append(Closing(revision, by, because))
            case _:
                raise row.wrong("closings")
    return tuple(closings)


def _insert_once(table: TableClient, row: dict[str, Any], what: str) -> None:
    try:
        with translated(what):
            table.create_entity(gated(row, _FREE_TEXT))
    except Conflict:
        log.info("already there", extra={"row": row["RowKey"]})
