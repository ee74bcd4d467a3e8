"""Lost requests, lost answers, and services that are away or silent: what only real connections can do."""

import json
import os
import socket
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from local.stack import Stack
from local.storage import AzuriteProcess
from rotation.audit import AuditEvent, Outcome, verify_chain
from rotation.audit_job import AuditTrail
from rotation.dek import ensure_sound
from rotation.dek_job import DekJobs
from rotation.message import PLAN_SHARDS, ROTATION_JOBS, Action
from rotation.primary_kek import PrimaryKek
from shared.azure import translate
from shared.azure.vault import AzureVault
from shared.azure.wiring import Adapters
from shared.errors import Conflict, Transient
from shared.ports import Evidence
from shared.secret import Secret
from shared.settings import Settings
from shared.values import (
    Alert,
    AlertEntry,
    ConsumerReport,
    DeadLetter,
    EvidenceFile,
    KekRecord,
    Keyring,
    Kid,
    Severity,
    TenantId,
    shard_of,
)
from tests.adapters.proxy import Loss, Proxy, proxy_to
from tests.adapters.test_checkpoints import checkpoint
from tests.adapters.test_keks import FIRST, POINTER, STALE, moved
from tests.adapters.test_records import records
from tests.adapters.test_registers import USE
from tests.adapters.test_runs import FIRST as PROGRESS
from tests.adapters.test_runs import SCHEDULE, page
from tests.adapters.test_secret_rotations import FULL as ROTATION
from tests.conftest import Tally
from tests.pure.keyrings import NOW, POLICY, job, keyring

MAX_RUNS = 5
TENANT = TenantId("acme")


@dataclass(frozen=True)
class Line:
    """Adapters whose storage is reached through proxies."""

    adapters: Adapters
    tables: Proxy
    queues: Proxy
    blobs: Proxy


@contextmanager
def line_to(stack: Stack) -> Iterator[Line]:
    blob_port, queue_port, table_port = stack.azurite.ports
    with proxy_to(table_port) as tables, proxy_to(queue_port) as queues, proxy_to(blob_port) as blobs:
        adapters = through(stack.settings, {table_port: tables.port, queue_port: queues.port, blob_port: blobs.port})
        try:
            yield Line(adapters, tables, queues, blobs)
        finally:
            adapters.close()
            for proxy in (tables, queues, blobs):
                proxy.closing.set()


def through(settings: Settings, ports: dict[int, int]) -> Adapters:
    """Adapters with the same settings that find the storage on other ports."""
    assert settings.connection_string is not None
    connection_string = settings.connection_string.reveal().decode()
    for old, new in ports.items():
        connection_string = connection_string.replace(f":{old}/", f":{new}/")
    return Adapters(replace(settings, connection_string=Secret(connection_string.encode())))


@pytest.fixture(scope="module")
def line(stack: Stack) -> Iterator[Line]:
    with line_to(stack) as line:
        yield line


@pytest.fixture
def silent_line(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    """Storage that takes requests and never answers, and adapters that lose their patience sooner than usual."""
    monkeypatch.setitem(translate.TIMEOUTS, "read_timeout", 0.1)
    with line_to(stack) as line:
        line.tables.lose_all(Loss.SILENCE)
        line.queues.lose_all(Loss.SILENCE)
        line.blobs.lose_all(Loss.SILENCE)
        yield line


class Process:
    """The part of a worker process that performs jobs."""

    def __init__(self, adapters: Adapters) -> None:
        kek = PrimaryKek(POLICY.kek, adapters.keks, adapters.vault, adapters.clock)
        self.audit = AuditTrail(adapters.records, adapters.clock)
        self.jobs = DekJobs(adapters.deks, adapters.vault, kek, self.audit, POLICY, adapters.clock, os.urandom)


def evidence_of(adapters: Adapters) -> Evidence:
    assert adapters.evidence is not None
    return adapters.evidence


def new_tenant() -> TenantId:
    return TenantId(f"t-{uuid.uuid4().hex}")


def outcomes(adapters: Adapters, job_id: str, tenant: TenantId) -> list[str]:
    """What the audit trail says of a job, in order; its stream must be sound."""
    event = AuditEvent(job_id, Outcome.INTENT, "dek.rotate", f"dek/{tenant}", "test", "manual", "to find the stream")
    stream = adapters.records.read(event.stream, 1, 1_000_000)
    verify_chain(stream)
    said = [json.loads(record.canonical) for record in stream]
    return [record["outcome"] for record in said if record["job"] == job_id]


@pytest.mark.parametrize("restart", [False, True], ids=["the same process goes on", "another process goes on"])
@pytest.mark.parametrize("loss", [Loss.REQUEST, Loss.ANSWER], ids=["request lost", "answer lost"])
@pytest.mark.parametrize("action", [Action.ADD_TENANT, Action.ROTATE_DEK])
def test_a_job_has_one_effect_and_one_outcome_whichever_of_its_requests_is_lost(
    stack: Stack, line: Line, tally: Tally, action: Action, loss: Loss, restart: bool
) -> None:
    number = 0
    while True:
        number += 1
        tenant = new_tenant()
        if action is Action.ROTATE_DEK:
            Process(stack.adapters).jobs.run(job(Action.ADD_TENANT, tenant=tenant))
        asked = job(action, tenant=tenant)
        process = Process(line.adapters)
        line.tables.lose(number, loss)
        for _ in range(MAX_RUNS):
            try:
                process.jobs.run(asked)
            except (Transient, Conflict):
                process = Process(line.adapters) if restart else process
            else:
                break
        else:
            pytest.fail(f"the job did not end although only request {number} was lost")
        if line.tables.lost == 0:
            break
        tally.count("jobs on real storage that lost a request or an answer")
        ring = stack.adapters.deks.read(tenant)
        assert ring is not None
        ensure_sound(ring)
        assert len(ring.deks) == (1 if action is Action.ADD_TENANT else 2), number
        assert outcomes(stack.adapters, asked.id, tenant) == ["intent", "succeeded"], number
    assert number > 5, "a job makes more requests than this"


@pytest.mark.parametrize("loss", [Loss.REQUEST, Loss.ANSWER], ids=["request lost", "answer lost"])
def test_a_message_whose_sending_lost_something_is_there_in_the_end_and_at_most_twice(
    stack: Stack, line: Line, loss: Loss
) -> None:
    body = f"message {uuid.uuid4()}"
    line.queues.lose(1, loss)
    try:
        line.adapters.queues.send(PLAN_SHARDS, body)
    except Transient:
        line.adapters.queues.send(PLAN_SHARDS, body)
    assert line.queues.lost == 1
    queue = stack.adapters.queue_service.get_queue_client(PLAN_SHARDS)
    assert [message.content for message in queue.receive_messages(messages_per_page=32)] in ([body], [body, body])
    queue.clear_messages()


REPORT = ConsumerReport("ingest-7", TENANT, 2, (1, 2), NOW)
RINGS = keyring(), replace(keyring(), tenant=replace(keyring().tenant, primary=1))
ALERT = Alert("an-alert", Severity.WARNING, "what", "queue/rotation-jobs", NOW, {}, "sre")
STORED_POINTER = replace(POINTER, etag=STALE)
NAMING = replace(STORED_POINTER, generation=1)
LETTER = DeadLetter(ROTATION_JOBS, "a-letter", "why", "{}", NOW, can_resend=True)


def test_a_report_whose_answer_was_lost_is_kept(stack: Stack, line: Line) -> None:
    for number in (1, 2):
        for seen in (NOW, NOW + timedelta(seconds=1)):
            report = replace(REPORT, tenant=TenantId(f"reported-{number}"), seen=seen)
            line.tables.lose(number, Loss.ANSWER)
            try:
                line.adapters.consumers.report(report)
            except Transient:
                line.adapters.consumers.report(report)
            assert list(stack.adapters.consumers.of(report.tenant)) == [report]


@pytest.mark.parametrize("loss", [Loss.REQUEST, Loss.ANSWER], ids=["request lost", "answer lost"])
def test_a_run_whose_writing_lost_something_is_as_before_or_as_wanted_as_a_whole(
    stack: Stack, line: Line, loss: Loss
) -> None:
    name = f"kek-{loss.name.lower()}"
    stack.adapters.keks.add(replace(POINTER, name=name))
    for step in range(3):
        before = stack.adapters.keks.read(name)
        assert before is not None
        wanted = (
            moved(before) if before.run else KekRecord(replace(before.pointer, generation=1), replace(FIRST, kek=name))
        )
        line.tables.lose(1, loss)
        with suppress(Transient, Conflict):
            line.adapters.keks.replace(before, wanted)
        assert line.tables.lost == 1
        after = stack.adapters.keks.read(name)
        if after == before:
            line.adapters.keks.replace(before, wanted)
            after = stack.adapters.keks.read(name)
        assert after is not None
        assert after.run is not None
        assert (after.pointer.generation, after.run.step) == (1, step)


@pytest.mark.parametrize("loss", [Loss.REQUEST, Loss.ANSWER], ids=["request lost", "answer lost"])
def test_a_checkpoint_a_schedule_or_a_secrets_row_whose_writing_lost_something_is_there_or_can_be_put_again(
    stack: Stack, line: Line, loss: Loss
) -> None:
    checkpoint = replace(PROGRESS, run=f"run-{loss.name.lower()}")
    schedule = replace(SCHEDULE, vault=f"https://{loss.name.lower()}.example")
    rotation = replace(ROTATION, name=f"secret-{loss.name.lower()}")
    ports = stack.adapters
    for write, read in (
        (lambda: line.adapters.shards.put(checkpoint), lambda: ports.shards.read(checkpoint.run, 1, 7)),
        (lambda: line.adapters.budgets.put(schedule), lambda: ports.budgets.read(schedule.vault)),
        (lambda: line.adapters.secret_rotations.put(rotation), lambda: ports.secret_rotations.read(rotation.name)),
    ):
        line.tables.lose(1, loss)
        with suppress(Transient, Conflict):
            write()
        assert line.tables.lost == 1
        if read() is None:
            write()
        assert read() is not None


@pytest.mark.parametrize("loss", [Loss.REQUEST, Loss.ANSWER], ids=["request lost", "answer lost"])
def test_alerts_and_letters_whose_writing_lost_something_are_there_once(stack: Stack, line: Line, loss: Loss) -> None:
    alert, letter = replace(ALERT, id=f"alert-{loss}"), replace(LETTER, id=f"letter-{loss}")
    writes: list[Callable[[], None]] = [
        lambda: line.adapters.alerts.raise_alert(alert),
        lambda: line.adapters.dead_letters.keep(letter),
    ]
    for write in writes:
        line.tables.lose(1, loss)
        try:
            write()
        except Transient:
            write()
    assert list(stack.adapters.alerts.all()).count(alert) == 1
    assert list(stack.adapters.dead_letters.all()).count(letter) == 1
    line.tables.lose(1, loss)
    line.adapters.dead_letters.resolve(letter)
    assert letter not in stack.adapters.dead_letters.all()


TABLE_CALLS: dict[str, Callable[[Adapters], object]] = {
    "Deks.read": lambda ports: ports.deks.read(TENANT),
    "Deks.scan": lambda ports: ports.deks.scan(0, None, 10),
    "Deks.add": lambda ports: ports.deks.add(keyring().tenant),
    "Deks.replace": lambda ports: ports.deks.replace(*RINGS),
    "Deks.page": lambda ports: ports.deks.page(0, None, 10),
    "Keks.pointer": lambda ports: ports.keks.pointer("master-kek"),
    "Keks.add": lambda ports: ports.keks.add(POINTER),
    "Keks.read": lambda ports: ports.keks.read("master-kek"),
    "Keks.replace": lambda ports: ports.keks.replace(KekRecord(STORED_POINTER), KekRecord(NAMING, FIRST)),
    "Keks.history": lambda ports: ports.keks.history("master-kek"),
    "Shards.read": lambda ports: ports.shards.read("a-run", 1, 7),
    "Shards.of_pass": lambda ports: ports.shards.of_pass("a-run", 1),
    "Shards.put": lambda ports: ports.shards.put(PROGRESS),
    "Shards.add_page": lambda ports: ports.shards.add_page(page()),
    "Shards.read_page": lambda ports: ports.shards.read_page("a-run", 7, 0),
    "Budgets.read": lambda ports: ports.budgets.read(SCHEDULE.vault),
    "Budgets.put": lambda ports: ports.budgets.put(SCHEDULE),
    "SecretRotations.read": lambda ports: ports.secret_rotations.read("database"),
    "SecretRotations.page": lambda ports: ports.secret_rotations.page(None, 10),
    "SecretRotations.put": lambda ports: ports.secret_rotations.put(ROTATION),
    "KekUses.report": lambda ports: ports.kek_uses.report(USE),
    "KekUses.all": lambda ports: ports.kek_uses.all(),
    "Records.read": lambda ports: ports.records.read(1, 1, 10),
    "Records.find": lambda ports: ports.records.find(1, "0" * 32),
    "Records.append": lambda ports: ports.records.append(records(1, 2)),
    "Checkpoints.read": lambda ports: ports.checkpoints.read(1, 10),
    "Checkpoints.append": lambda ports: ports.checkpoints.append(checkpoint(1)),
    "Consumers.report": lambda ports: ports.consumers.report(REPORT),
    "Consumers.of": lambda ports: ports.consumers.of(TENANT),
    "Alerts.raise_alert": lambda ports: ports.alerts.raise_alert(ALERT),
    "Alerts.resolve": lambda ports: ports.alerts.resolve(ALERT.id),
    "AlertRegister.read": lambda ports: ports.alert_register.read(ALERT.id),
    "AlertRegister.put": lambda ports: ports.alert_register.put(AlertEntry(ALERT)),
    "AlertRegister.owing": lambda ports: ports.alert_register.owing(),
    "Alerts.all": lambda ports: ports.alerts.all(),
    "DeadLetters.keep": lambda ports: ports.dead_letters.keep(LETTER),
    "DeadLetters.all": lambda ports: ports.dead_letters.all(),
    "DeadLetters.resolve": lambda ports: ports.dead_letters.resolve(LETTER),
}


@pytest.mark.parametrize("call", TABLE_CALLS.values(), ids=TABLE_CALLS.keys())
def test_tables_that_never_answer_are_given_up_after_three_tries_at_most(
    silent_line: Line, call: Callable[[Adapters], object]
) -> None:
    with pytest.raises(Transient):
        call(silent_line.adapters)
    assert 1 <= silent_line.tables.seen <= 3


def test_a_page_of_tenants_costs_one_request_or_one_more_where_it_may_have_been_cut(stack: Stack, line: Line) -> None:
    names = [name for name in (TenantId(f"zzzz-{number}") for number in range(1_000)) if shard_of(name) == 5][:3]
    for name in names:
        stack.adapters.deks.add(keyring(tenant=name).tenant)
    for rows, requests in ((2, 2), (3, 2), (4, 1), (1_000, 1)):
        line.tables.lose_all(None)
        before = line.tables.seen
        assert len(line.adapters.deks.page(5, TenantId("zzzz"), rows)) == min(rows, 3)
        assert line.tables.seen - before == requests


def test_queues_that_never_answer_are_given_up_after_three_tries_at_most(silent_line: Line) -> None:
    with pytest.raises(Transient):
        silent_line.adapters.queues.send(PLAN_SHARDS, "{}")
    assert 1 <= silent_line.queues.seen <= 3


EVIDENCE_CALLS: dict[str, Callable[[Evidence], object]] = {
    "files": lambda evidence: evidence.files(),
    "newest": lambda evidence: evidence.newest(),
    "create": lambda evidence: evidence.create("silent.jsonl"),
    "read": lambda evidence: evidence.read("silent.jsonl", 0, 10),
    "append": lambda evidence: evidence.append("silent.jsonl", 0, b"line\n"),
}


@pytest.mark.parametrize("call", EVIDENCE_CALLS.values(), ids=EVIDENCE_CALLS.keys())
def test_an_evidence_copy_that_never_answers_is_given_up_after_three_tries_at_most(
    silent_line: Line, call: Callable[[Evidence], object]
) -> None:
    with pytest.raises(Transient):
        call(evidence_of(silent_line.adapters))
    assert 1 <= silent_line.blobs.seen <= 3


@pytest.mark.parametrize("loss", [Loss.REQUEST, Loss.ANSWER], ids=["request lost", "answer lost"])
def test_a_file_or_a_block_whose_writing_lost_something_is_there_once(stack: Stack, line: Line, loss: Loss) -> None:
    name, content = f"{uuid.uuid4()}.jsonl", b""
    evidence, truth = evidence_of(line.adapters), evidence_of(stack.adapters)
    line.blobs.lose(1, loss)
    with suppress(Transient, Conflict):
        evidence.create(name)
    assert line.blobs.lost == 1
    if name not in {file.name for file in truth.files()}:
        evidence.create(name)
    for number in range(1, 4):
        block = f"block {number}\n".encode()
        line.blobs.lose(1, loss)
        with suppress(Transient, Conflict):
            evidence.append(name, len(content), block)
        assert line.blobs.lost == 1
        if truth.read(name, len(content), 1_000) == b"":
            evidence.append(name, len(content), block)
        content += block
        assert truth.read(name, 0, 1_000) == content
        assert EvidenceFile(name, len(content), number) in truth.files()


@pytest.mark.parametrize("call", EVIDENCE_CALLS.values(), ids=EVIDENCE_CALLS.keys())
def test_a_container_that_does_not_exist_is_transient(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, call: Callable[[Evidence], object]
) -> None:
    monkeypatch.setattr("shared.azure.wiring.LOCAL_EVIDENCE", "no-such-container")
    adapters = Adapters(stack.settings)
    try:
        with pytest.raises(Transient):
            call(evidence_of(adapters))
    finally:
        adapters.close()


def test_an_app_without_an_evidence_copy_says_so_once(stack: Stack, caplog: pytest.LogCaptureFixture) -> None:
    adapters = Adapters(replace(stack.settings, local_stack=None))
    try:
        assert [adapters.evidence, adapters.evidence] == [None, None]
    finally:
        adapters.close()
    assert [record.getMessage() for record in caplog.records] == ["the settings name no evidence copy"]


@pytest.mark.parametrize("loss", [Loss.REQUEST, Loss.ANSWER], ids=["request lost", "answer lost"])
def test_a_signed_checkpoint_whose_writing_lost_something_is_there_or_can_be_appended_again(
    stack: Stack, line: Line, loss: Loss
) -> None:
    written = checkpoint(1_000 + list(Loss).index(loss))
    line.tables.lose(1, loss)
    with suppress(Transient, Conflict):
        line.adapters.checkpoints.append(written)
    assert line.tables.lost == 1
    if not stack.adapters.checkpoints.read(written.number, 1):
        line.adapters.checkpoints.append(written)
    assert list(stack.adapters.checkpoints.read(written.number, 1)) == [written]


def test_a_vault_that_never_answers_is_given_up_after_three_tries_at_most(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(translate.TIMEOUTS, "read_timeout", 0.1)
    impatient = Adapters(stack.settings)
    stack.vault.inject("GET /keys/", latency_ms=1_000, times=None)
    try:
        with pytest.raises(Transient):
            impatient.vault.newest(POLICY.kek)
        assert 1 <= stack.vault.faults()[0]["struck"] <= 3
        stack.vault.clear_faults()
        stack.vault.inject("GET /secrets/", latency_ms=1_000, times=None)
        with pytest.raises(Transient):
            impatient.secrets.newest("database")
        assert 1 <= stack.vault.faults()[0]["struck"] <= 3
    finally:
        impatient.close()
        stack.vault.clear_faults()


def test_a_storage_that_is_away_is_transient_and_the_same_adapters_go_on_when_it_is_back(
    stack: Stack, tmp_path: Path
) -> None:
    azurite = AzuriteProcess.start(tmp_path, tmp_path / "log")
    adapters = through(stack.settings, dict(zip(stack.azurite.ports, azurite.ports, strict=True)))
    try:
        adapters.create_storage()
        adapters.deks.add(keyring().tenant)
        before = adapters.deks.read(TENANT)
        assert before is not None
        azurite.stop()
        calls: list[Callable[[], object]] = [
            lambda: adapters.deks.read(TENANT),
            lambda: adapters.deks.replace(before, Keyring(replace(before.tenant, primary=1))),
            lambda: adapters.queues.send(PLAN_SHARDS, "{}"),
        ]
        for call in calls:
            with pytest.raises(Transient):
                call()
        azurite.restart()
        assert adapters.deks.read(TENANT) == before
        adapters.queues.send(PLAN_SHARDS, "{}")
    finally:
        adapters.close()
        azurite.stop()


def test_a_vault_that_is_away_is_transient(stack: Stack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as placeholder:
        url = f"https://localhost:{placeholder.getsockname()[1]}"
    away = Adapters(replace(stack.settings, vault_url=url))
    try:
        calls: list[Callable[[], object]] = [
            lambda: away.vault.newest(POLICY.kek),
            lambda: away.secrets.newest("database"),
            lambda: away.secrets.put("database", Secret(b"a value of theirs"), {}, None),
            lambda: away.vault.unwrap(Kid(f"{url}/keys/{POLICY.kek}/{'0' * 32}"), "RSA-OAEP-256", bytes(256)),
        ]
        for call in calls:
            with pytest.raises(Transient):
                call()
    finally:
        away.close()


def test_a_key_id_of_another_vault_makes_no_connection_to_it(stack: Stack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other_vault:
        other_vault.setblocking(False)
        url = f"https://127.0.0.1:{other_vault.getsockname()[1]}"
        with pytest.raises(Exception, match="does not belong to a configured vault"):
            AzureVault({stack.vault.url: stack.adapters.key_client}).unwrap(
                Kid(f"{url}/keys/master-kek/{'0' * 32}"), "RSA-OAEP-256", bytes(256)
            )
        with pytest.raises(BlockingIOError):
            other_vault.accept()
