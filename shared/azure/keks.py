"""Table `keys`: partition = name of the KEK, rows = its pointer and one per rotation, numbered.

Pointer and run are changed by one entity group transaction, each on condition that it is as it was read: what new DEKs
are wrapped under and where the rotation stands cannot come apart.
"""

import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Final, override

from azure.core.exceptions import ResourceNotFoundError
from azure.data.tables import TableClient, TableTransactionError, UpdateMode

from shared.azure.rows import StoredRow, spread
from shared.azure.translate import IF_UNCHANGED, translated
from shared.errors import Conflict, Integrity
from shared.ports import Keks
from shared.redact.gate import gated
from shared.values import SHARDS, Etag, KekRecord, KekRun, KeyKind, KeyPointer, KeyShape, Kid, Move, Phase, TenantId

_POINTER_ROW: Final = "pointer"
_MOVE_FIELDS: Final = frozenset(field.name for field in fields(Move))
_MOVE_TEXTS: Final = ("job", "action", "actor", "trigger", "reason", "failure")


class AzureKeks(Keks):
    """The port `Keks` on Azure Table Storage."""

    def __init__(self, table: TableClient) -> None:
        self._table = table

    @override
    def pointer(self, name: str) -> KeyPointer | None:
        with translated("reading a key pointer"):
            try:
                return _pointer(StoredRow(self._table.get_entity(name, _POINTER_ROW)))
            except ResourceNotFoundError:
                return None

    @override
    def add(self, pointer: KeyPointer) -> None:
        with translated("adding a key pointer"):
            self._table.create_entity(_pointer_row(pointer))

    @override
    def read(self, name: str) -> KekRecord | None:
        with translated("reading a KEK with its run"):
            entities = self._table.query_entities("PartitionKey eq @key", parameters={"key": name})
            rows = [StoredRow(entity) for entity in entities]
        if not rows:
            return None
        pointer = _pointer(rows[0])
        newest = rows[-1]
        if newest.key != (_run_key(pointer.generation) if pointer.generation else _POINTER_ROW):
            raise Integrity("the pointer of a KEK does not name its newest run", name=name, row=newest.key)
        return KekRecord(pointer, _run(newest) if pointer.generation else None)

    @override
    def replace(self, old: KekRecord, new: KekRecord) -> None:
        if new.run is None or new.run.generation != new.pointer.generation:
            raise ValueError("the pointer must name the run")
        operations: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
            ("update", _pointer_row(new.pointer), _unchanged(old.pointer.etag))
        ]
        if old.run is None or old.run.generation != new.run.generation:
            operations.append(("create", _run_row(new.run), {}))
        else:
            operations.append(("update", _run_row(new.run), _unchanged(old.run.etag)))
        with translated("changing a KEK with its run"):
            try:
                self._table.submit_transaction(operations)
            except TableTransactionError as error:
                if error.status_code == 404:
                    raise Conflict("changing a KEK with its run: a row is gone") from error
                raise

    @override
    def history(self, name: str) -> Sequence[KekRun]:
        query = "PartitionKey eq @key and RowKey gt @pointer"
        with translated("reading the runs of a KEK"):
            entities = list(self._table.query_entities(query, parameters={"key": name, "pointer": _POINTER_ROW}))
        return [_run(StoredRow(entity)) for entity in entities]


def _unchanged(etag: Etag | None) -> dict[str, Any]:
    if etag is None:
        raise ValueError("only rows that were read can be changed")
    return {"etag": etag, "match_condition": IF_UNCHANGED, "mode": UpdateMode.REPLACE}


def _run_key(generation: int) -> str:
    return f"run-{generation:06d}"


def _pointer_row(pointer: KeyPointer) -> dict[str, Any]:
    row: dict[str, Any] = {
        "PartitionKey": pointer.name,
        "RowKey": _POINTER_ROW,
        "kid": pointer.kid,
        "since": pointer.since,
        "generation": pointer.generation,
    }
    return row if pointer.previous_kid is None else row | {"previous_kid": pointer.previous_kid}


def _pointer(row: StoredRow) -> KeyPointer:
    if row.key != _POINTER_ROW:
        raise Integrity("runs of a KEK without its pointer", name=row.partition)
    return KeyPointer(
        name=row.partition,
        kid=Kid(row.text("kid")),
        since=row.moment("since"),
        previous_kid=_optional_kid(row, "previous_kid"),
        generation=row.optional_number("generation"),
        etag=row.etag,
    )


def _run_row(run: KekRun) -> dict[str, Any]:
    columns = {
        "kek": run.kek,
        "generation": run.generation,
        "phase": run.phase.value,
        "started": run.started,
        "phase_since": run.phase_since,
        "old_kid": run.old_kid,
        "request": run.request,
        "new_kid": run.new_kid,
        "shape_kind": run.shape.kind.value if run.shape else None,
        "shape_bits": run.shape.bits if run.shape else None,
        "vault": run.vault,
        "deadline": run.deadline,
        "compromised": run.compromised,
        "resumes": run.resumes.value if run.resumes else None,
        "flipped": run.flipped,
        "retired": run.retired,
        "has_retired": run.has_retired,
        "dropping": run.dropping,
        "step": run.step,
        "pass_number": run.pass_number,
        "pass_since": run.pass_since,
        "fanned_out": run.fanned_out,
        "resent": run.resent,
        "clean_passes": run.clean_passes,
        "held_shards": json.dumps(run.held_shards),
        **spread("held_tenants", json.dumps(run.held_tenants).encode()),
        "rows": run.rows,
        "root_before": run.root_before,
        "root_after": run.root_after,
        "births": run.births,
        "removed": run.removed,
        "verdict": run.verdict,
        "move": _move_text(run.move) if run.move else None,
    }
    row = {"PartitionKey": run.kek, "RowKey": _run_key(run.generation)}
    return dict(gated(row | {name: value for name, value in columns.items() if value is not None}, ("verdict", "move")))


def _run(row: StoredRow) -> KekRun:
    run = KekRun(
        kek=row.text("kek"),
        generation=row.number("generation"),
        phase=row.one_of("phase", Phase),
        started=row.moment("started"),
        phase_since=row.moment("phase_since"),
        old_kid=Kid(row.text("old_kid")),
        request=row.text("request"),
        new_kid=_optional_kid(row, "new_kid"),
        shape=_shape(row),
        vault=row.text("vault") if row.has("vault") else None,
        deadline=row.optional_moment("deadline"),
        compromised=row.flag("compromised"),
        resumes=row.one_of("resumes", Phase) if row.has("resumes") else None,
        flipped=row.optional_moment("flipped"),
        retired=row.optional_moment("retired"),
        has_retired=row.flag("has_retired"),
        dropping=row.flag("dropping"),
        step=row.number("step"),
        pass_number=row.number("pass_number"),
        pass_since=row.optional_moment("pass_since"),
        fanned_out=row.flag("fanned_out"),
        resent=row.optional_moment("resent"),
        clean_passes=row.number("clean_passes"),
        held_shards=row.numbers("held_shards"),
        held_tenants=_held_tenants(row),
        rows=row.number("rows"),
        root_before=row.text("root_before"),
        root_after=row.text("root_after"),
        births=row.number("births"),
        removed=row.number("removed"),
        verdict=row.text("verdict"),
        move=_move(row) if row.has("move") else None,
        etag=row.etag,
    )
    if run.kek != row.partition:
        raise row.wrong("kek")
    if row.key != _run_key(run.generation):
        raise row.wrong("generation")
    if not all(0 <= shard < SHARDS for shard in run.held_shards):
        raise row.wrong("held_shards")
    return run


def _optional_kid(row: StoredRow, name: str) -> Kid | None:
    return Kid(row.text(name)) if row.has(name) else None


def _shape(row: StoredRow) -> KeyShape | None:
    if not row.has("shape_kind", "shape_bits"):
        return None
    return KeyShape(row.one_of("shape_kind", KeyKind), row.number("shape_bits"))


def _held_tenants(row: StoredRow) -> tuple[TenantId, ...]:
    name = "held_tenants"
    return tuple(row.as_tenant(name, each) for each in row.as_strings(name, row.parsed(name, row.gathered(name))))


def _move_text(move: Move) -> str:
    return json.dumps({field.name: getattr(move, field.name) for field in fields(move)})


def _move(row: StoredRow) -> Move:
    stored = row.parsed("move", row.text("move"))
    if not isinstance(stored, dict) or stored.keys() != _MOVE_FIELDS:
        raise row.wrong("move")
    if not all(isinstance(stored[name], str) for name in _MOVE_TEXTS) or not isinstance(stored["applied"], bool):
        raise row.wrong("move")
    shard = stored["shard"]
    if shard is not None and (type(shard) is not int or not 0 <= shard < SHARDS):
        raise row.wrong("move")
    try:
        at, to = Phase(stored["at"]), Phase(stored["to"])
    except ValueError:
        raise row.wrong("move") from None
    return Move(
        **{name: stored[name] for name in _MOVE_TEXTS},
        at=at,
        to=to,
        applied=stored["applied"],
        shard=shard,
        tenant=None if stored["tenant"] is None else row.as_tenant("move", stored["tenant"]),
    )
