"""README and docs: links lead somewhere, commands are understood, examples run, names exist."""

import hashlib
import json
import math
import os
import re
import shlex
import tomllib
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from types import CodeType, SimpleNamespace
from typing import Any, cast
from urllib.parse import unquote

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from local.__main__ import _parser as local_parser
from local.stack import Stack, running
from rotation import kek, lifecycle, secret, secret_versions
from rotation.__main__ import _parser as rotation_parser
from rotation.alert_formats import generic
from rotation.alerting import KINDS, kind_of, notice_of
from rotation.audit import GENESIS, chained
from rotation.catalog import load
from rotation.inventory import Difference, State
from rotation.message import PARSERS, ROTATION_JOBS, Action, Job, KekOrder, SecretOrder, Trigger
from rotation.quota import MAX_ROWS_PER_BATCH, Operation, Question, estimate, rate, spoken
from rotation.rotators.registry import READERS
from rotation.webhook import make_secret
from shared import errors
from shared.azure import wiring
from shared.azure.records import AzureRecords
from shared.errors import AtpError, Rejected
from shared.redact.__main__ import _parser as redact_parser
from shared.redact.patterns import AZURE, GENERAL, VENDORS
from shared.redact.sweep import _parser as sweep_parser
from shared.values import SHARDS, Alert, AlertEntry, KeyKind, KeyShape, Severity, tenant_id
from tests.pure.keyrings import NOW
from tests.pure.test_audit import event

ROOT = Path(__file__).parent.parent
FILES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MARKDOWN = MarkdownIt("commonmark").enable("table")
SETTING = re.compile(r"\b(?:ATP_[A-Z_]+|AzureWebJobsStorage(?:__\w+)?)\b")
ENVIRONMENT = ("ATP_", "AzureWebJobsStorage")


@dataclass(frozen=True)
class Block:
    """A fenced block of code."""

    file: Path
    line: int
    language: str
    code: str

    def __str__(self) -> str:
        return f"{self.file.name}:{self.line}"


def tokens(file: Path) -> list[Token]:
    return MARKDOWN.parse(file.read_text(encoding="utf-8"))


def blocks(*languages: str) -> list[Block]:
    return [
        Block(file, token.map[0] + 1 if token.map else 0, token.info, token.content)
        for file in FILES
        for token in tokens(file)
        if token.type == "fence" and token.info in languages
    ]


def links(file: Path) -> Iterator[str]:
    for token in tokens(file):
        for child in token.children or ():
            if child.type == "link_open":
                yield str(child.attrGet("href"))


def anchors(file: Path) -> set[str]:
    """The anchors of headings, as GitHub makes them."""
    found = tokens(file)
    titles = [after.content for token, after in pairwise(found) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def commands(block: Block) -> Iterator[list[str]]:
    for line in block.code.replace("\\\n", " ").splitlines():
        yield shlex.split(line.replace("<", "[").replace(">", "]"))


def test_there_is_something_to_check() -> None:
    assert len(FILES) > 8
    assert len(blocks("sh")) > 5
    assert len(blocks("python")) >= 2


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_link_leads_to_a_file_and_a_heading_in_it(file: Path) -> None:
    for link in links(file):
        if link.startswith("https://"):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (file.parent / path).resolve() if path else file
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_no_line_is_longer_than_can_be_read_beside_another_file(file: Path) -> None:
    """Tables, code and links cannot be broken."""
    prose = re.sub(r"^```.*?^```|\(\S+\)", "", file.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert [line for line in prose.splitlines() if len(line) > 130 and not line.startswith("|")] == []


@pytest.mark.parametrize("block", blocks("sh"), ids=str)
def test_every_command_is_understood_and_every_file_that_it_names_is_there(block: Block) -> None:
    for words in commands(block):
        match words:
            case ["make", "secrets"]:
                pass
            case ["make", target, *arguments]:
                assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
                given = [word.removeprefix("ARGS=") for word in arguments if word.startswith("ARGS=")]
                understood(local_parser(), [target, *(shlex.split(given[0]) if given else [])])
            case [".venv/bin/python", "-m", "rotation", *arguments]:
                redirected = arguments.index("]") if "]" in arguments else len(arguments)  # see `commands`
                understood(rotation_parser(), arguments[:redirected])
            case [".venv/bin/python", "-m", "local", *arguments]:
                understood(local_parser(), arguments)
            case [".venv/bin/python", "-m", "shared.redact", *arguments]:
                understood(redact_parser(), arguments)
            case [".venv/bin/python", "-m", "shared.redact.sweep", *arguments]:
                understood(sweep_parser(), arguments)
            case [("curl" | "az" | "func" | "npm" | "cp" | "." | "git"), *_]:
                pass
            case _:
                pytest.fail(f"what is {words}?")
        for word in words:
            file = word.removeprefix("@")
            if re.fullmatch(r"(?:infra|docs|rotation|shared|local)/\S+", file):
                assert (ROOT / file).exists(), file


def understood(parser: ArgumentParser, arguments: list[str]) -> None:
    try:
        parser.parse_args(arguments)
    except SystemExit:
        pytest.fail(f"not understood: {arguments}")


@pytest.mark.parametrize("target", re.findall(r"`make (\w+)", (ROOT / "README.md").read_text()))
def test_every_make_target_in_the_text_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_the_curl_commands_of_the_readme_ask_for_functions_that_exist() -> None:
    source = (ROOT / "function_app.py").read_text()
    urls = [word for block in blocks("sh") for words in commands(block) if words[0] == "curl" for word in words]
    for name in [found for url in urls for found in re.findall(r"/admin/functions/(\w+)", url)]:
        assert f"def {name}(" in source
    assert any(url.endswith("/api/health") for url in urls)


def json_messages() -> list[str]:
    found = [block.code for block in blocks("json")]
    for block in blocks("sh"):
        found += [word for words in commands(block) for word in words if word.startswith("{") and "schema" in word]
    return found


@pytest.mark.parametrize("message", json_messages())
def test_every_message_shown_is_one_that_the_app_accepts(message: str) -> None:
    schema = json.loads(message)["schema"]
    (parse,) = [kind.parse for kind in (Job, KekOrder, SecretOrder) if schema == kind.SCHEMA]
    assert parse in PARSERS.values()
    assert parse(message.encode(), "by-hand-1").trigger is Trigger.MANUAL


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_setting_named_exists(file: Path) -> None:
    sources = "".join((ROOT / name).read_text() for name in ("shared/settings.py", "function_app.py"))
    assert set(SETTING.findall(file.read_text())) <= set(SETTING.findall(sources))


def test_every_setting_is_explained_in_architecture() -> None:
    sources = "".join((ROOT / name).read_text() for name in ("shared/settings.py", "function_app.py"))
    explained = set(SETTING.findall((ROOT / "docs" / "architecture.md").read_text()))
    assert set(SETTING.findall(sources)) <= explained


def test_the_state_diagrams_are_those_that_the_code_draws() -> None:
    drawn = [block.code.strip() for block in blocks("mermaid") if block.code.startswith("stateDiagram")]
    assert drawn == [lifecycle.diagram(), kek.diagram(), secret.diagram()]


def test_every_phase_of_a_rotation_is_explained() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    explained = {name for row in re.findall(r"^\| ([a-z, -]+) \|", page, re.MULTILINE) for name in row.split(", ")}
    assert {phase.value for phase in kek.MOVES} <= explained
    assert {phase.value for phase in secret.MOVES} <= explained


def test_every_tag_and_state_of_a_version_is_explained() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    tags = [value for name, value in vars(secret_versions).items() if name.endswith("_TAG")]
    assert len(tags) > 5
    assert [name for name in (*tags, *secret_versions.VersionState) if f"`{name}`" not in page] == []


def test_every_field_of_the_catalog_is_explained() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    catalog = tomllib.loads((ROOT / "rotation" / "catalog.toml").read_text())
    fields = {field for entry in catalog.values() for field in entry}
    assert len(fields) > 8
    assert [name for name in sorted(fields) if not re.search(rf"^\|[^|]*\| `{name}` \|", page, re.MULTILINE)] == []


def test_every_state_and_every_difference_of_the_inventory_is_explained() -> None:
    page = (ROOT / "docs" / "inventory.md").read_text()
    explained = {name for row in re.findall(r"^\| ([a-z, -]+) \|", page, re.MULTILINE) for name in row.split(", ")}
    assert {*State, *Difference} <= explained


def test_every_function_is_explained() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    functions = re.findall(r"^def (\w+)\(", (ROOT / "function_app.py").read_text(), re.MULTILINE)
    assert [name for name in functions if f"`{name}`" not in page] == []


def test_the_runbook_knows_every_alert_and_every_reason_of_a_kek_rotation_to_stop() -> None:
    sources = {name: (ROOT / "rotation" / name).read_text() for name in ("kek_job.py", "rewrap_job.py", "rewrap.py")}
    alerts = re.findall(r'_alert\(run, "([^"]+)"', sources["kek_job.py"])
    alerts += re.findall(r'what="([^"]+)"', sources["rewrap_job.py"])
    reasons = re.findall(r'Integrity\(\s*"([^"]+)"', sources["rewrap_job.py"] + sources["rewrap.py"])
    assert len(alerts) > 4
    assert len(reasons) > 5
    page = (ROOT / "docs" / "runbooks" / "kek-rotation.md").read_text()
    assert [text for text in {*alerts, *reasons} if text not in page] == []


def test_the_runbook_knows_every_phase_and_every_alert_of_secrets() -> None:
    page = (ROOT / "docs" / "runbooks" / "secrets.md").read_text()
    sources = [(ROOT / "rotation" / name).read_text() for name in ("secret_job.py", "secret_planner_job.py")]
    alerts = [text for source in sources for text in re.findall(r'[Ss]everity(?:\.[A-Z]+)?,\s*"([^"]+)"', source)]
    alerts += re.findall(r'"([^"]+)", Severity', (ROOT / "rotation" / "tasks.py").read_text())
    assert len(alerts) >= 6
    assert [text for text in alerts if f"| {text} |" not in page] == []
    assert [phase.value for phase in secret.MOVES if f"| {phase.value} |" not in page] == []


def test_the_runbook_knows_every_alert_of_the_audit_trail() -> None:
    page = " ".join((ROOT / "docs/runbooks/audit-trail.md").read_text().split())
    sources = {name: (ROOT / "rotation" / name).read_text() for name in ("checkpoint_job.py", "evidence_job.py")}
    sources |= {name: (ROOT / "rotation" / name).read_text() for name in ("intents_job.py", "sweep_job.py")}
    alerts = [text for source in sources.values() for text in re.findall(r'what="([^"]+)"', source)]
    alerts += re.findall(r'_alert\(\s*(?:f"[^"]*"|identity),\s*"([^"]+)"', sources["checkpoint_job.py"])
    alerts += re.findall(r'_alert\(record, "([^"]+)"', sources["intents_job.py"])
    assert len(alerts) >= 7
    assert [text for text in alerts if text not in page] == []
    differences = re.findall(r'_difference\("([^"]+)"', (ROOT / "rotation" / "comparison.py").read_text())
    assert [text for text in differences if text not in page] == []


def test_rows_that_are_put_back_as_the_runbook_of_the_audit_trail_says_are_those_that_the_app_writes() -> None:
    (record,) = chained([event()], 4711, GENESIS, NOW)
    written: list[tuple[str, dict[str, object]]] = []
    AzureRecords(cast("Any", SimpleNamespace(submit_transaction=written.extend))).append([record])
    line = record.canonical.decode()
    stream, found = f"s{record.stream:02d}", json.loads(line)["event"]
    by_hand = {"event": found, "record": line, "hash": hashlib.sha256(b"\0" + line.encode()).digest()}
    assert [row for _, row in written] == [
        {"PartitionKey": stream, "RowKey": f"{4711:020d}", **by_hand},
        {"PartitionKey": stream, "RowKey": f"event-{found}", "seq": "4711"},
    ]
    page = " ".join((ROOT / "docs/runbooks/audit-trail.md").read_text().split())
    assert "`seq` the number as a text (`Edm.String`), without zeros in front" in page


def test_every_kind_of_alert_leads_to_a_heading_and_is_on_the_page_of_alerts() -> None:
    lines = (ROOT / "docs/runbooks/alerts.md").read_text().splitlines()
    rows = [line for line in lines if line.startswith("| ")]
    for kind in (*KINDS.values(), kind_of("")):
        page, _, anchor = kind.runbook.partition("#")
        assert anchor in anchors(ROOT / page), kind.runbook
        if kind.what:
            link = f"({page.removeprefix('docs/runbooks/').removeprefix('alerts.md')}#{anchor})"
            (row,) = (row for row in rows if row.startswith(f"| {kind.what} | {kind.next} |"))
            assert link in row


def test_the_page_of_alerts_knows_every_field_of_the_generic_document() -> None:
    alert = Alert("a", Severity.WARNING, "w", "s/s", datetime(2026, 1, 1, tzinfo=UTC), {})
    fields = generic(notice_of(AlertEntry(alert)))
    page = (ROOT / "docs/runbooks/alerts.md").read_text()
    assert [name for name in fields if name != "schema" and f"`{name}`" not in page] == []


def test_the_runbooks_know_every_alert_rule() -> None:
    pages = "".join(file.read_text() for file in (ROOT / "docs" / "runbooks").iterdir())
    rules = re.findall(r"^    name: '([a-z-]+)'", (ROOT / "infra/modules/alerts.bicep").read_text(), re.MULTILINE)
    assert len(rules) > 6
    assert [name for name in rules if name not in ("critical", "warning") and f"`{name}`" not in pages] == []


VAULT = "https://atp-kv.vault.azure.net"
MANAGED = "https://atp.managedhsm.azure.net"
KEKS = (
    *((VAULT, kind, bits) for bits in (2048, 3072, 4096) for kind in (KeyKind.RSA, KeyKind.RSA_HSM)),
    *((MANAGED, KeyKind.RSA_HSM, bits) for bits in (2048, 3072, 4096)),
    (MANAGED, KeyKind.OCT_HSM, 256),
)
SECONDS_PER_DEK = 0.02 + 0.02  # an unwrap and a transaction, as docs/scale.md supposes
THREADS = 16
DAY = timedelta(days=1)


def scale_rows() -> Iterator[str]:
    """The computed rows of docs/scale.md."""
    policy = load(ROOT / "rotation" / "catalog.toml", READERS).keks["master-kek"]

    def question(vault: str, shape: KeyShape, rows: int) -> Question:
        return Question(rows, vault, shape, vault, shape, policy.sampled, policy.headroom)

    for vault, kind, bits in KEKS:
        shape = KeyShape(kind, bits)
        few, many = (estimate(question(vault, shape, rows)) for rows in (10**6, 10**8))
        bare = estimate(replace(question(vault, shape, 10**6), sampled=0.0, headroom=0.0))
        threads = math.ceil(few.allowed_per_second * SECONDS_PER_DEK)
        cells = [
            f"{kind} {bits}{', Managed HSM' if vault == MANAGED else ''}",
            f"{rate(vault, shape, Operation.UNWRAP):,}",
            spoken(bare.duration),
            f"{few.allowed_per_second:,.0f}",
            spoken(few.duration),
            spoken(many.duration),
            str(-(-many.duration // DAY)),
            f"{threads}: {-(-threads // THREADS)}",
        ]
        yield f"| {' | '.join(cells)} |"
    sizes = (10**6, 10**8)
    rsa, oct_ = KeyShape(KeyKind.RSA_HSM, 3072), KeyShape(KeyKind.OCT_HSM, 256)
    batches = [-(-2 * rows // MAX_ROWS_PER_BATCH) + 2 * SHARDS for rows in sizes]
    found = {
        "vault operations, RSA": [estimate(question(VAULT, rsa, rows)).vault_operations for rows in sizes],
        "vault operations, AES": [estimate(question(MANAGED, oct_, rows)).vault_operations for rows in sizes],
        "storage transactions": [estimate(question(VAULT, rsa, rows)).storage_transactions for rows in sizes],
        "batches in a pass": batches,
        "messages in 8 passes": [8 * each for each in batches],
        "pages of the manifest": [-(-2 * rows // MAX_ROWS_PER_BATCH) + SHARDS for rows in sizes],
        "MB of the manifest": [rows * (41 + 16) // 10**6 for rows in sizes],
        "seconds for a pass that only reads, at least": [2 * rows // 20_000 for rows in sizes],
    }
    for name, (few_, many_) in found.items():
        yield f"| {name} | {few_:,} | {many_:,} |"


def test_the_arithmetic_of_scale_is_that_of_the_code() -> None:
    lines = (ROOT / "docs" / "scale.md").read_text().splitlines()
    assert [row for row in scale_rows() if row not in lines] == []


def test_every_error_is_in_the_tree_of_errors() -> None:
    (tree,) = (block.code for block in blocks("text") if block.code.startswith("AtpError"))
    known = [name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, AtpError)]
    assert len(known) > 8
    assert [name for name in known if not re.search(rf"\b{name}\b", tree)] == []


def test_every_setting_of_host_json_is_explained_with_its_value() -> None:
    host = json.loads((ROOT / "host.json").read_text())
    page = (ROOT / "docs" / "architecture.md").read_text()
    for name, value in host["extensions"]["queues"].items():
        row = next(line for line in page.splitlines() if line.startswith(f"| `queues.{name}` |"))
        if isinstance(value, int):
            assert row.split("|")[2].strip() == str(value)
    for name in ("functionTimeout", "http.routePrefix", "logging.logLevel", "extensionBundle"):
        assert f"| `{name}` |" in page


def test_every_kind_of_secret_is_explained() -> None:
    page = (ROOT / "docs" / "secrets-detection.md").read_text()
    kinds = {pattern.kind for pattern in (*AZURE, *GENERAL, *VENDORS)} | {"known", "many", "credential", "private-key"}
    assert [kind for kind in sorted(kinds) if f"`{kind}`" not in page] == []


def test_every_table_and_queue_is_explained() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    assert [name for name in (*wiring.TABLES, *wiring.QUEUES) if f"`{name}`" not in page] == []


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Storage and vault, with the tenant acme that all examples are about."""
    with running(tmp_path_factory.mktemp("docs"), quota=False) as stack:
        perform(stack, Action.ADD_TENANT)
        yield stack


def perform(stack: Stack, action: Action) -> None:
    job = Job(action, tenant_id("acme"), "docs", Trigger.MANUAL, "docs", "the examples need it")
    wiring.app(stack.settings, stack.adapters).worker.handle(ROTATION_JOBS, job.to_json().encode(), "docs-1")


def example(name: str, containing: str) -> CodeType:
    (block,) = (block for block in blocks("python") if block.file.name == name and containing in block.code)
    return compile(block.code, str(block), "exec")


@pytest.fixture
def environment(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stack's settings as those of this process."""
    for name in [name for name in os.environ if name.startswith(ENVIRONMENT)]:
        monkeypatch.delenv(name)
    for name, value in json.loads(stack.settings_file.read_text())["Values"].items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("environment")
def test_the_example_for_services_encrypts_and_decrypts() -> None:
    names: dict[str, object] = {}
    exec(example("README.md", "tenant_cipher"), names)
    assert names["plaintext"] == b"user 4711 signed in"
    assert names["envelope"] != names["plaintext"]


@pytest.mark.usefixtures("environment")
def test_the_example_for_senders_and_receivers_of_webhooks_signs_and_verifies(stack: Stack) -> None:
    stack.adapters.secrets.put("order-hook", make_secret(bytes(range(32))), {}, None)
    names: dict[str, Any] = {}
    exec(example("secrets-webhooks.md", "webhook_secrets"), names)
    assert names["headers"]["webhook-signature"].startswith("v1,")
    with pytest.raises(Rejected):
        names["WebhookVerifier"](names["secrets"]).verify(names["headers"], names["body"] + b" ")


@pytest.mark.usefixtures("environment")
def test_the_comparison_after_a_restore_finds_a_lost_version(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    comparison = example("dek-rotation.md", "verify_chain")
    exec(comparison, {})
    assert capsys.readouterr().out == ""
    old = stack.adapters.deks.read(tenant_id("acme"))
    perform(stack, Action.ROTATE_DEK)
    assert old is not None
    table = stack.adapters.table("deks")
    for row in list(table.query_entities("RowKey eq 'v0000000002'")):
        table.delete_entity(row)
    tenant = table.get_entity(str(next(iter(table.list_entities()))["PartitionKey"]), "tenant")
    table.update_entity(tenant | {"primary": old.tenant.primary})
    exec(comparison, {})
    assert capsys.readouterr().out == "acme may have had version 2\n"
