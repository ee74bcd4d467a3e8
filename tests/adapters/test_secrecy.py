"""What the app leaves in tables, queues and logs holds no DEK and no value of a secret."""

import base64
import logging
import os
import traceback
from dataclasses import replace
from typing import Literal

import pytest

from local.stack import Stack
from rotation.audit_job import AuditTrail
from rotation.dek_job import DekJobs
from rotation.kek_job import KekJobs
from rotation.message import ROTATION_JOBS, Action, SecretAction, SecretOrder, Trigger
from rotation.planner_job import Planner
from rotation.primary_kek import PrimaryKek
from rotation.rewrap_job import ShardWalk
from rotation.secret_job import SecretJobs
from rotation.tenant_cipher import TenantCipher
from rotation.vault_budget import VaultBudget
from rotation.worker import Worker
from rotation.wrapping import A256KW, DEK_BYTES
from shared.azure.wiring import TABLES
from shared.errors import AtpError, Integrity, Transient
from shared.log import MaskingFormatter
from shared.secret import Secret
from shared.values import KeyKind, SecretPhase, TenantId
from tests.adapters.backends import AzureBackend
from tests.jobs.secret_targets import Logins, Target
from tests.pure.keyrings import POLICY, job
from tests.simulator import World


def shapes_of(secret: bytes) -> list[str]:
    """The ways in which a careless line could have written it."""
    standard = base64.b64encode(secret).decode()
    return [secret.hex(), standard, standard.replace("+", "-").replace("/", "_").rstrip("="), repr(secret)[2:-1]]


def everything_stored(stack: Stack) -> str:
    """Every row and every message of the stack, as text."""
    adapters = stack.adapters
    rows = [repr(dict(row)) for name in TABLES for row in adapters.table(name).list_entities()]
    messages = adapters.queue_service.get_queue_client(ROTATION_JOBS).peek_messages(max_messages=32)
    return "\n".join([*rows, *(message.content for message in messages)])


def test_no_dek_is_in_any_row_message_log_line_or_error(stack: Stack, caplog: pytest.LogCaptureFixture) -> None:
    drawn: list[bytes] = []

    def entropy(size: int) -> bytes:
        drawn.append(os.urandom(size))
        return drawn[-1]

    ports = stack.adapters
    audit = AuditTrail(ports.records, ports.clock)
    kek = PrimaryKek(POLICY.kek, ports.keks, ports.vault, ports.clock)
    jobs = DekJobs(ports.deks, ports.vault, kek, audit, POLICY, ports.clock, entropy)
    planner = Planner(ports.deks, ports.queues, POLICY, ports.clock)
    kek_jobs = KekJobs(
        ports.deks,
        ports.keks,
        ports.shards,
        ports.vault,
        ports.kek_uses,
        audit,
        ports.queues,
        ports.alerts,
        {},
        ports.clock,
        entropy,
    )
    budget = VaultBudget(ports.budgets, ports.clock)
    walk = ShardWalk(
        ports.deks,
        ports.keks,
        ports.shards,
        ports.vault,
        budget,
        audit,
        ports.queues,
        ports.alerts,
        {},
        ports.clock,
    )
    secret_jobs = SecretJobs(
        {},
        ports.secret_rotations,
        ports.secrets,
        lambda policy: Target(policy.name, Logins).rotator(World()),
        audit,
        ports.alerts,
        ports.clock,
        entropy,
    )
    worker = Worker(
        jobs, kek_jobs, walk, secret_jobs, planner, audit, ports.queues, ports.alerts, ports.dead_letters, ports.clock
    )
    tenant = TenantId("secretive")
    with caplog.at_level(logging.DEBUG):
        for action in (Action.ADD_TENANT, Action.ROTATE_DEK):
            worker.handle(ROTATION_JOBS, job(action, tenant=tenant).to_json().encode(), "m1")
        cipher = TenantCipher(ports.deks, ports.vault, ports.consumers, ports.kek_uses, "test", entropy=entropy)
        assert cipher.decrypt(tenant, cipher.encrypt(tenant, b"data")) == b"data"
        deks = [value for value in drawn if len(value) == DEK_BYTES]
        leaking = b'{"reason": "%s"}' % base64.b64encode(deks[0])
        worker.bury(ROTATION_JOBS, leaking, "m2")
        stack.vault.inject("POST /keys/.*/unwrapkey", status=400)
        with pytest.raises(Integrity) as caught:
            TenantCipher(ports.deks, ports.vault, ports.consumers, ports.kek_uses, "test").encrypt(tenant, b"data")
    stack.vault.clear_faults()

    logged = "\n".join(MaskingFormatter().format(record) for record in caplog.records)
    text = "\n".join([everything_stored(stack), logged, repr(caught.value), str(caught.value)])
    assert "secretive" in text
    assert len(deks) == 2
    for dek in deks:
        for shape in shapes_of(dek):
            assert shape not in text


@pytest.mark.parametrize("status", [None, 403, 429, 500, "drop"])
def test_no_value_of_a_secret_is_in_any_row_message_log_line_or_error(
    stack: Stack, azure: AzureBackend, caplog: pytest.LogCaptureFixture, status: int | Literal["drop"] | None
) -> None:
    name, ports, world = azure.key_name("database"), stack.adapters, World()
    target, twin = Target(name, Logins), Target(name, Logins)
    azure.secrets.put(name, target.rotator(world).first().value, {}, None)
    jobs = SecretJobs(
        {name: target.policy},
        azure.secret_rotations,
        azure.secrets,
        lambda _: target.rotator(world),
        AuditTrail(ports.records, ports.clock),
        ports.alerts,
        ports.clock,
        os.urandom,
    )
    order = SecretOrder(SecretAction.ROTATE, name, "first", Trigger.MANUAL, "alice@atp", "asked for")
    said = ""
    with caplog.at_level(logging.DEBUG):
        for match in ("PUT /secrets/", "GET /secrets/", "PATCH /secrets/") if status is not None else ():
            stack.vault.inject(match, status=status, times=None)
            with pytest.raises(Transient) as caught:
                jobs.perform(order)
            said += "".join(traceback.format_exception(caught.value))
            stack.vault.clear_faults()
        jobs.perform(order)
        jobs.perform(replace(order, action=SecretAction.ROLLBACK, generation=1))
        jobs.perform(replace(order, request="second", compromised=True))
    row = azure.secret_rotations.read(name)
    assert row is not None
    assert (row.phase, row.generation) == (SecretPhase.STEADY, 2)
    raw = "\n".join(record.getMessage() for record in caplog.records)
    logged = "\n".join(MaskingFormatter().format(record) for record in caplog.records)
    stored = [repr(dict(row)) for table in azure.tables for row in table.list_entities()]
    text = "\n".join([everything_stored(stack), *stored, raw, logged, said])
    assert f"/secrets/{name}" in raw
    for value in [twin.draw() for _ in range(target.drawn)]:
        for shape in (value.decode(), *shapes_of(value)):
            assert shape not in text


@pytest.mark.parametrize("status", [None, 400, 403, 429, 500, "drop"])
def test_no_dek_that_a_vault_is_to_wrap_is_in_any_log_line_or_error(
    stack: Stack, azure: AzureBackend, caplog: pytest.LogCaptureFixture, status: int | Literal["drop"] | None
) -> None:
    kid = azure.new_kek("kek", kind=KeyKind.OCT_HSM)
    dek = os.urandom(DEK_BYTES)
    if status is not None:
        stack.vault.inject("POST /keys/.*/wrapkey", status=status, times=None)
    said = ""
    with caplog.at_level(logging.DEBUG):
        try:
            azure.vault.unwrap(kid, A256KW, azure.vault.wrap(kid, A256KW, Secret(dek)))
        except (AtpError, RuntimeError) as error:
            said = "".join(traceback.format_exception(error))
    assert bool(said) == (status is not None)
    raw = "\n".join(record.getMessage() for record in caplog.records)
    assert "wrapkey" in raw
    for shape in shapes_of(dek):
        assert shape not in raw + said
