"""The Bicep files: whole, and in step with the code that runs on what they describe."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import tree_sitter_bicep
from tree_sitter import Language, Node, Parser

from rotation.catalog import PENDING_SUFFIX, load
from rotation.expiry import Happening, parse
from rotation.kek import TASKS
from rotation.message import PARSERS
from rotation.rotators.registry import READERS
from shared.azure import wiring
from shared.settings import Settings
from shared.values import ObjectKind, ShardState

ROOT = Path(__file__).parent.parent
INFRA = ROOT / "infra"
MAIN = INFRA / "main.bicep"
FILES = sorted(INFRA.rglob("*.bicep"))
PARSER = Parser(Language(tree_sitter_bicep.language()))
SETTING = re.compile(r"\"(ATP_\w+|AzureWebJobsStorage\w*)\"|%(\w+)%")
LOCAL_ONLY = {"AzureWebJobsStorage", "ATP_LOCAL_STACK"}


def tree(file: Path) -> Node:
    return PARSER.parse(file.read_bytes()).root_node


def text(node: Node | None) -> str:
    assert node is not None
    assert node.text is not None
    return node.text.decode().strip("'")


def nodes(root: Node, kind: str) -> Iterator[Node]:
    if root.type == kind:
        yield root
    for child in root.children:
        yield from nodes(child, kind)


def array(file: str, name: str) -> list[str]:
    """The strings of `var name = [...]`, or of a default."""
    (found,) = (
        node
        for kind in ("variable_declaration", "parameter_declaration")
        for node in nodes(tree(INFRA / file), kind)
        if text(node.named_children[0]) == name
    )
    (items,) = (child for child in found.children if child.type == "array")
    return [text(item) for item in nodes(items, "string")]


def properties(node: Node) -> dict[str, str]:
    """The properties of an object as they are written."""
    return {
        text(child.named_children[0]): text(child.named_children[1])
        for child in node.named_children
        if child.type == "object_property" and len(child.named_children) > 1
    }


def parameters(file: Path) -> dict[str, bool]:
    """The parameters of a file, and whether each must be given."""
    declared = list(nodes(tree(file), "parameter_declaration"))
    return {text(node.named_children[0]): b"=" not in (node.text or b"") for node in declared}


def module_parameters(name: str) -> dict[str, str]:
    """What main.bicep gives to a module."""
    (module,) = (node for node in nodes(tree(MAIN), "module_declaration") if text(node.named_children[0]) == name)
    (given,) = (node for node in nodes(module, "object_property") if text(node.named_children[0]) == "params")
    return properties(given.named_children[1])


def app_settings() -> dict[str, str]:
    found = [node for node in nodes(tree(INFRA / "modules/app.bicep"), "object") if "ATP_VAULT_URL" in properties(node)]
    return properties(found[-1])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_file_parses_to_its_end(file: Path) -> None:
    wrong = [node.start_point for node in nodes(tree(file), "ERROR")]
    assert not wrong
    assert not tree(file).has_error


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_module_is_there_and_gets_its_parameters_and_no_others(file: Path) -> None:
    for module in nodes(tree(file), "module_declaration"):
        called = file.parent / text(module.named_children[1])
        given = next(
            properties(child.named_children[1])
            for child in nodes(module, "object_property")
            if text(child.named_children[0]) == "params"
        )
        declared = parameters(called)
        assert given.keys() <= declared.keys(), called
        assert {name for name, required in declared.items() if required} <= given.keys(), called


def test_every_module_is_used() -> None:
    called = {
        (file.parent / text(module.named_children[1])).resolve()
        for file in FILES
        for module in nodes(tree(file), "module_declaration")
    }
    assert called == set(FILES) - {INFRA / "main.bicep"}


def test_the_example_gives_every_parameter_that_has_no_default_and_no_unknown_one() -> None:
    given = re.findall(r"^param (\w+) =", (INFRA / "main.bicepparam").read_text(), re.MULTILINE)
    declared = parameters(INFRA / "main.bicep")
    assert set(given) <= declared.keys()
    assert {name for name, required in declared.items() if required} <= set(given)


def test_tables_and_queues_are_those_of_the_app() -> None:
    assert sorted(array("modules/storage.bicep", "tables")) == sorted(wiring.TABLES)
    assert sorted(array("modules/storage.bicep", "queues")) == sorted(wiring.QUEUES)


def test_the_app_may_reach_every_table_that_it_uses_and_only_one_of_them_freely() -> None:
    insert_only = set(array("modules/access.bicep", "insertOnlyTables"))
    no_delete = set(array("modules/access.bicep", "noDeleteTables"))
    assert "audit" in insert_only
    assert not insert_only & no_delete
    assert insert_only | no_delete == set(wiring.TABLES) - {"deks", "consumers", "checkpoints"}
    assert assigned("appOnDeks") == ("deks", "tableContributor")
    assert assigned("appOnConsumers") == ("consumers", "tableReader"), "to be written by services alone"
    assert assigned("appInserts") == ("insertOnly[index]", "inserter")
    assert assigned("appEdits") == ("noDelete[index]", "editor")


def test_what_the_roles_of_our_own_allow() -> None:
    rows = "Microsoft.Storage/storageAccounts/tableServices/tables/entities/"
    assert allowed("inserter") == {f"{rows}read", f"{rows}add/action"}
    assert allowed("editor") == allowed("inserter") | {f"{rows}update/action"}
    keys = "Microsoft.KeyVault/vaults/keys/"
    actions = ("read", "create/action", "update/action", "wrap/action", "unwrap/action")
    assert allowed("rotator") == {keys + action for action in actions}
    assert allowed("signer") == {f"{keys}read", f"{keys}sign/action"}
    blobs = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/"
    assert allowed("appender") == {f"{blobs}read", f"{blobs}add/action"}


def test_the_app_rotates_the_keks_of_the_catalog_and_can_do_nothing_with_another_key() -> None:
    assert assigned("appOnKeks") == ("kek[number]", "rotator")
    whole = {name for name in declarations("roleAssignments") if assigned(name)[0].startswith("vault")}
    assert whole == {"operatorOnVaults", "appOnVaults"}
    assert assigned("operatorOnVaults") == ("vault[number % length(vaults)]", "keyReader")
    assert assigned("appOnVaults") == ("vault[index]", "keyReader"), "which only looks, and sees no value"


def test_the_audit_app_may_sign_append_and_insert_and_can_delete_nothing_but_its_hosts_own() -> None:
    assert assigned_to("auditPrincipalId") == {
        ("auditHost", "blobOwner"),
        ("auditAppTable[index]", "inserter"),
        ("alerts", "editor"),
        ("signingKey", "signer"),
        ("evidence", "appender"),
        ("insights", "metricsPublisher"),
    }
    assert array("modules/access.bicep", "auditAppTables") == ["audit", "checkpoints"]
    host = (INFRA / "modules/audit-host.bicep").read_text()
    assert host.count("/containers@") == host.count("name: 'app-package'") == 1, "its package and no data"


def test_the_main_app_can_neither_sign_nor_reach_the_evidence_nor_the_audit_apps_code() -> None:
    scopes = {scope for scope, _ in assigned_to("appPrincipalId")}
    assert scopes == {
        "account",
        "deks",
        "insertOnly[index]",
        "noDelete[index]",
        "consumers",
        "audited[1]",
        "kek[number]",
        "vault[index]",
        "rotated[number]",
        "alertSecret[index]",
        "insights",
    }
    assert assigned("appOnAlertSecrets") == ("alertSecret[index]", "secretsUser")
    assert assigned("appOnCheckpoints") == ("audited[1]", "tableReader")
    assert "checkpoints" not in array("modules/access.bicep", "insertOnlyTables")


def test_auditors_read_the_trail_its_checkpoints_the_evidence_and_the_signing_key_and_write_nothing() -> None:
    assert array("modules/access.bicep", "auditedTables") == ["audit", "checkpoints"]
    assert {assigned(name) for name in declarations("roleAssignments") if name.startswith("auditor")} == {
        ("audited[number % length(auditedTables)]", "tableReader"),
        ("evidence", "blobReader"),
        ("signingKey", "keyReader"),
    }


def test_every_function_runs_in_exactly_one_of_the_two_apps() -> None:
    rotation, audit = set(array("main.bicep", "rotationFunctions")), set(array("main.bicep", "auditFunctions"))
    assert not rotation & audit
    functions = set(re.findall(r"^def (\w+)\(", (ROOT / "function_app.py").read_text(), re.MULTILINE))
    assert functions <= rotation | audit
    assert module_parameters("app")["disabledFunctions"] == "auditFunctions"
    assert module_parameters("auditApp")["disabledFunctions"] == "rotationFunctions"
    app = (INFRA / "modules/app.bicep").read_text()
    assert "toObject(disabledFunctions, name => 'AzureWebJobs.${name}.Disabled', name => 'true')" in app


def test_the_two_apps_share_no_identity_no_package_and_no_network() -> None:
    main, audit = module_parameters("app"), module_parameters("auditApp")
    for name in ("name", "identityId", "identityClientId", "hostStorageName", "subnetId", "evidenceUrl", "takesEvents"):
        assert main[name] != audit[name], name
    for name in ("storageName", "vaultUrl", "auditOrigin", "signingKeyName", "logLevel"):
        assert main[name] == audit[name], name
    assert (audit["alertWebhook"], audit["alertTeams"], audit["alertPagerdutyKey"]) == ("", "", "")
    assert (main["evidenceUrl"], main["takesEvents"], audit["takesEvents"]) == ("", "true", "false")


def test_the_evidence_is_kept_for_seven_years_and_may_grow_and_locking_is_explained() -> None:
    source = (INFRA / "modules/evidence.bicep").read_text()
    (policy,) = re.findall(r"^resource policy '(.*?)' = if \(!locked\) (.*?)^}$", source, re.MULTILINE | re.DOTALL)
    assert policy[0].startswith("Microsoft.Storage/storageAccounts/blobServices/containers/immutabilityPolicies@")
    assert "name: 'default'" in policy[1]
    assert "immutabilityPeriodSinceCreationInDays: 2557" in policy[1]
    assert "allowProtectedAppendWrites: true" in policy[1]
    assert "level: 'CanNotDelete'" in source
    assert "az storage container immutability-policy lock" in source
    assert f"name: '{wiring.LOCAL_EVIDENCE}'" in source
    assert parameters(MAIN)["evidenceLocked"] is False
    assert "az storage container immutability-policy lock" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("module", ["storage", "evidence", "audit-host"])
def test_every_storage_account_takes_no_keys_and_no_old_tls_and_says_who_wrote(module: str) -> None:
    source = (INFRA / "modules" / f"{module}.bicep").read_text()
    for line in (
        "allowSharedKeyAccess: false",
        "allowBlobPublicAccess: false",
        "minimumTlsVersion: 'TLS1_2'",
        "supportsHttpsTrafficOnly: true",
        "requireInfrastructureEncryption: true",
        "publicNetworkAccess: empty(endpointSubnetId) ? 'Enabled' : 'Disabled'",
        "category: 'StorageWrite'",
        "category: 'StorageDelete'",
    ):
        assert line in source, line
    assert source.count("'Microsoft.Storage/storageAccounts@") == 1


def test_the_key_that_signs_checkpoints_is_what_the_code_signs_with_and_stays_in_the_hsm() -> None:
    source = (INFRA / "modules/vault.bicep").read_text()
    (key,) = re.findall(r"^resource signingKey .*?^}$", source, re.MULTILINE | re.DOTALL)
    for line in ("kty: 'EC-HSM'", "curveName: 'P-256'", "keyOps: ['sign', 'verify']", "exportable: false"):
        assert line in key
    entry = load(ROOT / "rotation" / "catalog.toml", READERS).entries["audit-signing"]
    assert f"timeAfterCreate: 'P{entry.schedule.longest.days}D'" in key
    assert "type: 'rotate'" in key
    name = Settings("https://atp.vault.azure.net", None, None, None).audit_signing_key
    assert f"var signingKeyName = '{name}'" in MAIN.read_text()
    assert name not in array("main.bicep", "keks")


def test_operators_may_send_to_every_queue_that_a_person_asks_by_and_to_no_poison_queue() -> None:
    assert set(array("modules/access.bicep", "askedQueues")) == set(PARSERS)


def declarations(kind: str) -> dict[str, str]:
    """The resources of that kind in access.bicep, by their names."""
    source = (INFRA / "modules/access.bicep").read_text()
    found = re.findall(r"^resource (\w+) '[\w.]+/(\w+)@[\d-]+' = (.*?)^[}\]]$", source, re.MULTILINE | re.DOTALL)
    return {name: body for name, its_kind, body in found if its_kind == kind}


def assigned(name: str) -> tuple[str, str]:
    """Scope and role of an assignment."""
    body = declarations("roleAssignments")[name]
    (scope,) = re.findall(r"^ +scope: (.+)$", body, re.MULTILINE)
    (role,) = re.findall(r"roleDefinitionId: (?:.*roles\.)?(\w+)(?:\)|\.id)$", body, re.MULTILINE)
    return scope, role


def assigned_to(principal: str) -> set[tuple[str, str]]:
    """Scopes and roles of everything that is assigned to the principal of that parameter."""
    bodies = declarations("roleAssignments")
    return {assigned(name) for name, body in bodies.items() if f"principalId: {principal}\n" in body}


def allowed(role: str) -> set[str]:
    """What a role of our own allows."""
    body = declarations("roleDefinitions")[role]
    assert re.search(r"^ +actions: \[\]$", body, re.MULTILINE)
    (listed,) = re.findall(r"dataActions: \[\n(.*?)\]", body, re.DOTALL)
    return set(re.findall(r"'([^']+)'", listed))


def test_every_role_is_one_that_is_assigned() -> None:
    access = (INFRA / "modules/access.bicep").read_text()
    for name in re.findall(r"^  (\w+): '[0-9a-f-]{36}'", access, re.MULTILINE):
        assert f"roles.{name})" in access


def test_the_keks_are_those_of_the_catalog() -> None:
    assert array("main.bicep", "keks") == list(load(ROOT / "rotation" / "catalog.toml", READERS).keks)


def test_the_app_rotates_the_secrets_of_the_catalog_and_reads_no_other() -> None:
    rotated = load(ROOT / "rotation" / "catalog.toml", READERS).secrets.values()
    assert array("main.bicep", "secrets") == [policy.entry.object for policy in rotated]
    assert all(policy.entry.vault is None for policy in rotated)
    assert assigned("appOnSecrets") == ("rotated[number]", "secretRotator")
    doings = {action.split("/")[-2] for action in allowed("secretRotator")}
    assert doings == {"readMetadata", "getSecret", "setSecret", "update"}
    assert (
        f"'${{secrets[number / 2]}}${{number % 2 == 0 ? '' : '{PENDING_SUFFIX}'}}'"
        in (INFRA / "modules/access.bicep").read_text()
    )


def test_every_setting_that_the_code_reads_is_set_and_none_of_those_that_are_for_local_stacks() -> None:
    sources = (ROOT / "shared" / "settings.py").read_text() + (ROOT / "function_app.py").read_text()
    read = {found for pair in SETTING.findall(sources) for found in pair if found}
    assert "ATP_PLAN_SCHEDULE" in read
    assert read >= LOCAL_ONLY
    ours = {name for name in app_settings() if name.startswith("ATP_")}
    assert read - LOCAL_ONLY - {"AzureWebJobsStorage"} <= app_settings().keys()
    assert ours <= read
    assert not LOCAL_ONLY & app_settings().keys()


def test_settings_accept_what_is_set() -> None:
    values = {
        "vaultUrl": "https://atp-kv.vault.azure.net",
        "moreVaultUrls": "https://atp-kv2.vault.azure.net",
        "timestampUrl": "http://timestamp.example.com",
        "alertWebhook": "https://hooks.example.com/atp",
        "alertTeams": "https://prod-1.westeurope.logic.azure.com/workflows/1",
        "alertPagerdutyKey": "0" * 32,
        "planSchedule": "0 0 2 * * *",
        "driveSchedule": "0 * * * * *",
        "logLevel": "INFO",
        "evidenceUrl": "https://atpevi.blob.core.windows.net/audit-evidence",
        "auditOrigin": "atp-audit",
        "signingKeyName": "audit-signing",
        "${hostStorageName}": "atpaud",
        "${storageName}": "atprot",
        "${environment().suffixes.storage}": "core.windows.net",
    }

    def evaluated(value: str) -> str:
        for name, meant in values.items():
            value = value.replace(name, meant) if name.startswith("$") else meant if value == name else value
        return value

    settings = Settings.parse({name: evaluated(value) for name, value in app_settings().items()})
    assert settings.table_url == "https://atprot.table.core.windows.net"
    assert settings.queue_url == "https://atprot.queue.core.windows.net"
    assert settings.more_vault_urls == ("https://atp-kv2.vault.azure.net",)
    assert settings.timestamp_url == "http://timestamp.example.com"
    assert settings.alert_webhook is not None
    assert settings.alert_teams is not None
    assert settings.alert_pagerduty_key is not None
    assert settings.catalog.is_file()
    assert settings.evidence_url == "https://atpevi.blob.core.windows.net/audit-evidence"


def test_schedules_are_those_of_a_local_stack() -> None:
    local = json.loads((ROOT / "local.settings.example.json").read_text())["Values"]
    main = (INFRA / "main.bicep").read_text()
    for name, parameter in (("ATP_PLAN_SCHEDULE", "planSchedule"), ("ATP_DRIVE_SCHEDULE", "driveSchedule")):
        assert f"param {parameter} string = '{local[name]}'" in main


def test_there_are_as_many_threads_as_messages_are_taken_at_once() -> None:
    host = json.loads((ROOT / "host.json").read_text())
    local = json.loads((ROOT / "local.settings.example.json").read_text())["Values"]
    threads = app_settings()["PYTHON_THREADPOOL_THREAD_COUNT"]
    assert threads == local["PYTHON_THREADPOOL_THREAD_COUNT"] == str(host["extensions"]["queues"]["batchSize"])


def test_the_events_subscribed_to_are_those_that_the_app_understands_and_all_of_them() -> None:
    subscribed = re.findall(r"'(Microsoft\.KeyVault\.\w+)'", (INFRA / "modules/events.bicep").read_text())
    subscribed = [name for name in subscribed if not name.endswith(".vaults")]
    data = {"VaultName": "atp-kv", "ObjectName": "master-kek", "Version": "1"}
    events = [parse({"event_type": name, "data": data}) for name in subscribed]
    assert {(event.kind, event.happening) for event in events} == {
        (kind, what) for kind in ObjectKind for what in Happening
    }
    assert len(events) == 9


def test_the_subscribed_function_is_one_of_the_app() -> None:
    (name,) = re.findall(r"/functions/(\w+)", (INFRA / "modules/events.bicep").read_text())
    assert f"def {name}(event: func.EventGridEvent)" in (ROOT / "function_app.py").read_text()


@pytest.mark.parametrize(
    ("event", "source"),
    [
        ("alert", "rotation/alert_job.py"),
        ("planning started", "rotation/planner_job.py"),
        ("job put back", "rotation/worker.py"),
        ("KEK not served", "rotation/kek_job.py"),
        ("scanned the vaults", "rotation/scan_job.py"),
        ("throttled by the vault", "rotation/vault_budget.py"),
    ],
)
def test_alert_rules_look_for_what_the_app_logs(event: str, source: str) -> None:
    assert f'tostring(record.event) == "{event}"' in rules() or f'.event) == "{event}"' in rules()
    assert re.search(rf'log\.\w+\(\s*"{event}"', (ROOT / source).read_text())


def test_a_rule_tells_when_no_checkpoint_was_signed_for_ten_minutes() -> None:
    (rule,) = re.findall(r"\{[^{}]*name: 'not-checkpointed'.*?\n  \}", rules(), re.DOTALL)
    assert '.event) == "signed a checkpoint"' in rule
    assert "window: 'PT10M'" in rule
    assert re.search(r"operator: 'LessThan'\s+threshold: 1\b", rule)


def test_the_rule_on_progress_knows_the_phases_that_walk_and_what_is_logged_of_them() -> None:
    (walking,) = re.findall(r"let walking = dynamic\((\[.*?\])\)", rules())
    assert set(json.loads(walking)) == {phase.value for phase in TASKS}
    assert f'tostring(record.state) != "{ShardState.WORKING}"' in rules()
    (events,) = re.findall(r"event in \((.*)\)", rules())
    sources = "".join((ROOT / "rotation" / name).read_text() for name in ("kek_job.py", "rewrap_job.py"))
    for event in json.loads(f"[{events}]"):
        (told,) = re.findall(rf'log\.info\(\s*"{event}",\s*extra=\{{(.*?)\}}', sources, re.DOTALL)
        assert {'"run"', '"phase"'} <= set(re.findall(r'"\w+"', told))
        assert event != "rewrap batch" or {'"tenants"', '"state"'} <= set(re.findall(r'"\w+"', told))


def test_what_a_kek_rotation_alerts_of_is_critical_and_wakes_somebody() -> None:
    assert "format(alertRecords, 'critical')" in rules()
    for name in ("kek_job.py", "rewrap_job.py"):
        source = (ROOT / "rotation" / name).read_text()
        assert re.findall(r"severity=Severity\.(\w+)", source) == ["CRITICAL"]


def rules() -> str:
    return (INFRA / "modules" / "alerts.bicep").read_text()
