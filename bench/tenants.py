"""Tenants with real DEKs, put into a stack faster than by jobs: rows that the adapter wrote once, with other keys."""

import itertools
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from azure.data.tables import TableEntity

from local.stack import Stack
from rotation.wrapping import DEK_BYTES, RSA_OAEP_256, check_value, wrapped
from shared.azure.deks import TENANT_ROW, partition
from shared.secret import Secret
from shared.values import (
    SHARDS,
    KekVersion,
    Keyring,
    KeyState,
    Tenant,
    TenantId,
    TenantState,
    WrappedDek,
    shard_of,
)

_THREADS: Final = 8
_TEMPLATE: Final = TenantId("template")


def names(tenants: int, shards: Sequence[int] = range(SHARDS)) -> Sequence[TenantId]:
    """Names of that many tenants, as many in each of the shards, or one more in the first ones."""
    each, left = divmod(tenants, len(shards))
    wanted = {shard: each + (place < left) for place, shard in enumerate(shards)}
    return list(itertools.islice(_names(wanted), tenants))


def _names(wanted: dict[int, int]) -> Iterator[TenantId]:
    for number in itertools.count():
        name = TenantId(f"tenant-{number:08d}")
        shard = shard_of(name)
        if wanted.get(shard):
            wanted[shard] -= 1
            yield name


def add(stack: Stack, kek: KekVersion, tenants: Sequence[TenantId], versions: int) -> None:
    """Store these tenants, each with so many DEKs wrapped under `kek`."""
    table = stack.adapters.table("deks")
    tenant_row, *dek_rows = _template(stack, kek, versions)

    def store(name: TenantId) -> None:
        key = {"PartitionKey": partition(name)}
        rows: list[dict[str, Any]] = [{**tenant_row, **key, "tenant": name}]
        for version, row in enumerate(dek_rows, 1):
            dek = Secret(os.urandom(DEK_BYTES))
            wrap = wrapped(dek, kek, stack.adapters.vault.wrap)
            rows.append({**row, **key, "wrapped": wrap.wrapped, "check_value": check_value(dek, name, version)})
        table.submit_transaction([("create", row) for row in rows])

    with ThreadPoolExecutor(_THREADS) as pool:
        for _ in pool.map(store, tenants):
            pass


def _template(stack: Stack, kek: KekVersion, versions: int) -> Sequence[TableEntity]:
    """The rows of a tenant as the adapter writes them: its own, then those of its DEKs. They are taken away again."""
    now = stack.adapters.clock()
    deks, table = stack.adapters.deks, stack.adapters.table("deks")
    deks.add(Tenant(_TEMPLATE, TenantState.ACTIVE, now))
    empty = deks.read(_TEMPLATE)
    if empty is None:
        raise RuntimeError("a tenant that was added is not there")
    full = Keyring(
        Tenant(_TEMPLATE, TenantState.ACTIVE, now, primary=versions, primary_since=now),
        tuple(
            WrappedDek(
                version=version,
                state=KeyState.PRIMARY if version == versions else KeyState.RETIRED,
                wrapped=bytes(256),
                kid=kek.kid,
                algorithm=RSA_OAEP_256,
                wrap_generation=1,
                check_value=bytes(32),
                created=now,
                job="bench",
            )
            for version in range(1, versions + 1)
        ),
    )
    deks.replace(empty, full)
    rows = list(table.query_entities("PartitionKey eq @key", parameters={"key": partition(_TEMPLATE)}))
    table.submit_transaction([("delete", row) for row in rows])
    if rows[0]["RowKey"] != TENANT_ROW:
        raise RuntimeError("a tenant's own row is not its first")
    return rows
