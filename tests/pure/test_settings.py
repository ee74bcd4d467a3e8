"""Settings: all mistakes at once, no secret in any of them, and no local stack near a real vault."""

import json
from pathlib import Path
from typing import Any, cast

import pytest
from azure.data.tables import TableServiceClient
from azure.storage.queue import QueueServiceClient

from shared.errors import InvalidSettings
from shared.redact import mask
from shared.settings import Settings

ACCOUNT_KEY = "c2VjcmV0IGFjY291bnQga2V5IG9mIHRoZSB0ZXN0IDEyMw=="
CONNECTION = f"DefaultEndpointsProtocol=https;AccountName=acc;AccountKey={ACCOUNT_KEY};EndpointSuffix=core.windows.net"
IDENTITY = {
    "ATP_VAULT_URL": "https://atp.vault.azure.net",
    "AzureWebJobsStorage__tableServiceUri": "https://acc.table.core.windows.net",
    "AzureWebJobsStorage__queueServiceUri": "https://acc.queue.core.windows.net",
}


def mistakes(environment: dict[str, str]) -> str:
    with pytest.raises(InvalidSettings) as caught:
        Settings.parse(environment)
    return str(caught.value)


def test_the_settings_of_an_app_with_managed_identity() -> None:
    settings = Settings.parse(IDENTITY)
    assert settings.vault_url == "https://atp.vault.azure.net"
    assert settings.table_url == "https://acc.table.core.windows.net"
    assert settings.queue_url == "https://acc.queue.core.windows.net"
    assert settings.connection_string is None
    assert settings.catalog.name == "catalog.toml"
    assert settings.catalog.is_file()
    assert (settings.log_level, settings.local_stack, settings.timestamp_url) == ("INFO", None, None)


def test_without_more_said_there_is_no_evidence_copy_and_the_rest_of_the_audit_trail_has_its_names() -> None:
    settings = Settings.parse(IDENTITY | {"ATP_EVIDENCE_URL": "", "ATP_AUDIT_ORIGIN": "", "ATP_AUDIT_SIGNING_KEY": ""})
    assert settings == Settings.parse(IDENTITY)
    assert settings.evidence_url is None
    assert (settings.audit_origin, settings.audit_signing_key) == ("atp-audit", "audit-signing")


def test_evidence_copy_origin_and_signing_key_can_be_named() -> None:
    named = {
        "ATP_EVIDENCE_URL": "https://acc.blob.core.windows.net/audit-evidence/",
        "ATP_AUDIT_ORIGIN": "audit.example.com/atp",
        "ATP_AUDIT_SIGNING_KEY": "Audit-2",
    }
    settings = Settings.parse(IDENTITY | named)
    assert settings.evidence_url == "https://acc.blob.core.windows.net/audit-evidence", "without the slash at its end"
    assert (settings.audit_origin, settings.audit_signing_key) == ("audit.example.com/atp", "Audit-2")


def test_the_settings_of_an_app_with_a_connection_string() -> None:
    settings = Settings.parse({"ATP_VAULT_URL": "https://atp.vault.azure.net/", "AzureWebJobsStorage": CONNECTION})
    assert settings.connection_string is not None
    assert settings.connection_string.reveal().decode() == CONNECTION
    assert (settings.table_url, settings.queue_url) == (None, None)
    assert settings.vault_url == "https://atp.vault.azure.net", "without the slash at its end"
    assert ACCOUNT_KEY not in repr(settings)


def test_a_connection_string_and_the_key_in_it_are_masked_from_then_on() -> None:
    Settings.parse({"ATP_VAULT_URL": "https://atp.vault.azure.net", "AzureWebJobsStorage": CONNECTION})
    assert mask(f"signing with {ACCOUNT_KEY} failed") == "signing with [REDACTED:known] failed"
    assert mask("acc.table.core.windows.net") == "acc.table.core.windows.net", "names are no secrets"
    assert ACCOUNT_KEY not in mask(f"cannot connect: {CONNECTION}")


ROUTING_KEY = "r0uting" * 4 + "keys"
WEBHOOK = "https://hooks.example.com/services/" + "not-to-be-seen-by-anybody"
SINKS = {
    "ATP_ALERT_WEBHOOK": WEBHOOK,
    "ATP_ALERT_TEAMS": "https://prod-1.westeurope.logic.azure.com:443/workflows/0123?sig=" + "nor-this-by-anybody",
    "ATP_ALERT_PAGERDUTY_KEY": ROUTING_KEY,
}


def test_alerts_are_sent_nowhere_unless_it_is_said_where() -> None:
    settings = Settings.parse(IDENTITY | dict.fromkeys([*SINKS, "ATP_ALERT_PAGERDUTY_URL"], ""))
    assert settings == Settings.parse(IDENTITY)
    assert (settings.alert_webhook, settings.alert_teams, settings.alert_pagerduty_key) == (None, None, None)
    assert settings.alert_pagerduty_url == "https://events.pagerduty.com/v2/enqueue"


def test_where_alerts_are_sent_is_a_secret_and_masked_from_then_on() -> None:
    settings = Settings.parse(IDENTITY | SINKS | {"ATP_ALERT_PAGERDUTY_URL": "http://127.0.0.1:8080/v2/enqueue"})
    for secret, text in zip(
        (settings.alert_webhook, settings.alert_teams, settings.alert_pagerduty_key), SINKS.values(), strict=True
    ):
        assert secret is not None
        assert secret.reveal().decode() == text
        assert text not in repr(settings)
        assert text not in mask(f"cannot reach {text}")
    assert "not-to-be-seen" not in mask("max retries exceeded with url: /services/not-to-be-seen-by-anybody (oh)")
    assert settings.alert_pagerduty_url == "http://127.0.0.1:8080/v2/enqueue"
    assert mask("https://hooks.example.com/") == "https://hooks.example.com/", "names are no secrets"


@pytest.mark.parametrize("name", ["ATP_ALERT_WEBHOOK", "ATP_ALERT_TEAMS", "ATP_ALERT_PAGERDUTY_URL"])
@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/x",
        "ftp://hooks.example.com/x",
        "https://",
        "https://user:word@hooks.example.com/x",
        "https://hooks.example.com/a b",
        "https://hooks.example.com/ä",
        "https://[::1",
        "@Microsoft.KeyVault(VaultName=atp-kv;SecretName=alert-webhook)",
    ],
)
def test_a_sink_that_no_secret_may_be_sent_to_is_refused(name: str, url: str) -> None:
    assert mistakes(IDENTITY | {name: url}) == (
        f"app settings: {name}: must be an https URL, or an http one on this machine"
    )


@pytest.mark.parametrize("key", ["short", ROUTING_KEY + "0", "ä" + ROUTING_KEY[1:]])
def test_what_is_no_routing_key_is_refused_and_not_shown(key: str) -> None:
    said = mistakes(IDENTITY | {"ATP_ALERT_PAGERDUTY_KEY": key})
    assert said == "app settings: ATP_ALERT_PAGERDUTY_KEY: must be a routing key, 32 letters and digits"


WRONG: dict[str, tuple[dict[str, str], str]] = {
    "no vault": ({"ATP_VAULT_URL": ""}, "ATP_VAULT_URL: is missing"),
    "vault without TLS": ({"ATP_VAULT_URL": "http://atp.vault.azure.net"}, "ATP_VAULT_URL: must be an https URL"),
    "vault that is no URL": ({"ATP_VAULT_URL": "atp"}, "ATP_VAULT_URL: must be an https URL"),
    "vault without a host": ({"ATP_VAULT_URL": "https://"}, "ATP_VAULT_URL: must be an https URL"),
    "vault with a broken address": ({"ATP_VAULT_URL": "https://[::1"}, "ATP_VAULT_URL: must be an https URL"),
    "vault with a password": ({"ATP_VAULT_URL": "https://u:hunter2@h"}, "ATP_VAULT_URL: must be an https URL"),
    "vault with a path": ({"ATP_VAULT_URL": "https://h/keys"}, "ATP_VAULT_URL: must be an https URL"),
    "no tables": (
        {"AzureWebJobsStorage__tableServiceUri": ""},
        "AzureWebJobsStorage__tableServiceUri: is missing",
    ),
    "queues with a signature": (
        {"AzureWebJobsStorage__queueServiceUri": "https://acc.queue.core.windows.net?sig=hunter2"},
        "AzureWebJobsStorage__queueServiceUri: must be an https URL",
    ),
    "a time-stamp authority that is none": (
        {"ATP_TSA_URL": "ftp://tsa.example.com"},
        "ATP_TSA_URL: must be an https or http URL",
    ),
    "a level that is none": (
        {"ATP_LOG_LEVEL": "loud"},
        "ATP_LOG_LEVEL: must be one of DEBUG, INFO, WARNING, ERROR",
    ),
    "an evidence copy without TLS": (
        {"ATP_EVIDENCE_URL": "http://acc.blob.core.windows.net/audit-evidence"},
        "ATP_EVIDENCE_URL: must be like https",
    ),
    "an evidence copy without a container": (
        {"ATP_EVIDENCE_URL": "https://acc.blob.core.windows.net"},
        "ATP_EVIDENCE_URL: must be like https",
    ),
    "an evidence copy in a folder": (
        {"ATP_EVIDENCE_URL": "https://acc.blob.core.windows.net/audit/evidence"},
        "ATP_EVIDENCE_URL: must be like https",
    ),
    "an evidence copy with a signature": (
        {"ATP_EVIDENCE_URL": "https://acc.blob.core.windows.net/audit-evidence?sig=hunter2"},
        "ATP_EVIDENCE_URL: must be like https",
    ),
    "an evidence copy with a password": (
        {"ATP_EVIDENCE_URL": "https://u:hunter2@h/audit-evidence"},
        "ATP_EVIDENCE_URL: must be like https",
    ),
    "an origin with a blank": ({"ATP_AUDIT_ORIGIN": "atp audit"}, "ATP_AUDIT_ORIGIN: must be 1 to 100 ASCII"),
    "an origin with a plus": ({"ATP_AUDIT_ORIGIN": "atp+audit"}, "ATP_AUDIT_ORIGIN: must be 1 to 100 ASCII"),
    "an origin with a line end": ({"ATP_AUDIT_ORIGIN": "atp\n"}, "ATP_AUDIT_ORIGIN: must be 1 to 100 ASCII"),
    "an origin beyond ASCII": ({"ATP_AUDIT_ORIGIN": "atp-\xe4"}, "ATP_AUDIT_ORIGIN: must be 1 to 100 ASCII"),
    "an origin too long": ({"ATP_AUDIT_ORIGIN": "a" * 101}, "ATP_AUDIT_ORIGIN: must be 1 to 100 ASCII"),
    "a signing key by its id": (
        {"ATP_AUDIT_SIGNING_KEY": "https://atp.vault.azure.net/keys/audit-signing"},
        "ATP_AUDIT_SIGNING_KEY: must be the name of a key",
    ),
    "a number where text belongs": ({"ATP_LOG_LEVEL": cast("str", 7)}, "ATP_LOG_LEVEL: must be text"),
    "a list where text belongs": (
        {"AzureWebJobsStorage": cast("str", ["hunter2"])},
        "AzureWebJobsStorage: must be text",
    ),
    "a local stack with a real vault": (
        {"ATP_LOCAL_STACK": ".stack/stack.json"},
        "ATP_LOCAL_STACK: only allowed with a vault on localhost",
    ),
}


@pytest.mark.parametrize(("changes", "mistake"), WRONG.values(), ids=list(WRONG))
def test_each_mistake_is_named_and_its_value_is_not_quoted(changes: dict[str, str], mistake: str) -> None:
    text = mistakes(IDENTITY | changes)
    assert text.startswith(f"app settings: {mistake}")
    assert text.count(": ") == 2, "this mistake alone"
    assert "hunter2" not in text


@pytest.mark.parametrize(
    "text",
    [
        "hunter2hunter2",
        ";",
        "=",
        "AccountName=acc",
        "AccountKey=aHVudGVyMg==",
        "AccountName=acc;AccountKey=hunter2",
        "AccountName=acc;AccountKey=",
        "AccountName=acc;;AccountKey=aHVudGVyMg==",
        "AccountName=acc; AccountKey=aHVudGVyMg==",
        "AccountName=acc;AccountKey=aHVudGVyMg==\n",
        "AccountName=acc;AccountKey=aHVudGVyMg==;TableEndpoint=nowhere",
        "AccountName=acc;AccountKey=aHVudGVyMg==;TableEndpoint=http://[::1",
        "DefaultEndpointsProtocol=ftp;AccountName=acc;AccountKey=aHVudGVyMg==",
        "QueueEndpoint=https://q;TableEndpoint=https://t;AccountKey=aHVudGVyMg==",
        "QueueEndpoint=https://q;SharedAccessSignature=sig=hunter2",
        "UseDevelopmentStorage=false",
        "UseDevelopmentStorage=true;",
    ],
)
def test_a_connection_string_that_is_none_is_a_mistake_and_not_quoted(text: str) -> None:
    said = mistakes({"ATP_VAULT_URL": "https://atp.vault.azure.net", "AzureWebJobsStorage": text})
    assert said == "app settings: AzureWebJobsStorage: must be a connection string of a storage account"


@pytest.mark.parametrize(
    "text",
    [
        CONNECTION,
        f"{CONNECTION};",
        f"accountname=acc;accountkey={ACCOUNT_KEY}",
        "AccountName=acc;SharedAccessSignature=sv=2024-01-01&sig=aHVudGVyMg%3D%3D",
        "QueueEndpoint=https://q/;TableEndpoint=https://t/;SharedAccessSignature=sv=2024-01-01&sig=aHVudGVyMg%3D%3D",
        f"DefaultEndpointsProtocol=http;AccountName=acc;AccountKey={ACCOUNT_KEY};TableEndpoint=http://127.0.0.1:1/acc;",
        "UseDevelopmentStorage=true",
    ],
)
def test_every_kind_of_connection_string_is_accepted(text: str) -> None:
    settings = Settings.parse({"ATP_VAULT_URL": "https://atp.vault.azure.net", "AzureWebJobsStorage": text})
    assert settings.connection_string is not None
    for client in (TableServiceClient, QueueServiceClient):
        client.from_connection_string(settings.connection_string.reveal().decode()).close()


def test_all_mistakes_are_reported_at_once_and_nothing_of_a_connection_string() -> None:
    text = mistakes(
        {
            "AzureWebJobsStorage": CONNECTION,
            "AzureWebJobsStorage__tableServiceUri": "ftp://host",
            "ATP_LOG_LEVEL": "loud",
            "ATP_LOCAL_STACK": "stack.json",
        }
    )
    for name in ("ATP_VAULT_URL", "AzureWebJobsStorage__tableServiceUri", "ATP_LOG_LEVEL", "ATP_LOCAL_STACK"):
        assert text.count(f"{name}: ") == 1
    assert not any(part in text for part in (ACCOUNT_KEY, "AccountName", "acc;"))


def test_an_empty_environment_lacks_three_settings() -> None:
    assert mistakes({}).count(": is missing") == 3


@pytest.mark.parametrize(
    "url", ["http://tsa.example.com", "https://tsa.example.com/tsr", "http://127.0.0.1:318/", "https://[::1]:8443/a/b"]
)
def test_a_time_stamp_authority_may_be_reached_with_or_without_tls(url: str) -> None:
    assert Settings.parse(IDENTITY | {"ATP_TSA_URL": url}).timestamp_url == url


@pytest.mark.parametrize(
    "url",
    [
        "tsa.example.com",
        "file:///etc/passwd",
        "http://",
        "https://u:hunter2@tsa.example.com",
        "https://tsa.example.com/tsr?key=hunter2",
        "https://tsa.example.com/#hunter2",
        "http://[::1",
        "http://tsa.example.com:hunter2",
        "http://tsa.example.com/a b",
        "http://tsa.example.com/\n",
        " http://tsa.example.com",
    ],
)
def test_a_time_stamp_authority_that_cannot_be_asked_is_a_mistake_and_not_quoted(url: str) -> None:
    said = mistakes(IDENTITY | {"ATP_TSA_URL": url})
    assert said == "app settings: ATP_TSA_URL: must be an https or http URL without credentials and query"


LOCAL = {"ATP_VAULT_URL": "https://localhost:8443", "AzureWebJobsStorage": "UseDevelopmentStorage=true"}


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_local_stack_says_where_its_certificate_and_its_clock_are(tmp_path: Path, host: str) -> None:
    stack = tmp_path / "stack.json"
    stack.write_text(json.dumps({"ca": "/ca.pem", "clock": "/clock", "more": 1}))
    settings = Settings.parse(LOCAL | {"ATP_VAULT_URL": f"https://{host}:8443", "ATP_LOCAL_STACK": str(stack)})
    assert settings.local_stack is not None
    assert (settings.local_stack.ca, settings.local_stack.clock) == (Path("/ca.pem"), Path("/clock"))


@pytest.mark.parametrize(
    "vault",
    [
        "https://atp.vault.azure.net",
        "https://localhost.evil.example",
        "https://localhost@atp.vault.azure.net",
        "https://127.0.0.1.evil.example",
        "https://[::1",
        "",
    ],
)
def test_a_local_stack_is_refused_with_any_other_vault_even_if_its_file_is_good(tmp_path: Path, vault: str) -> None:
    stack = tmp_path / "stack.json"
    stack.write_text(json.dumps({"ca": "/ca.pem", "clock": "/clock"}))
    assert "ATP_LOCAL_STACK: only allowed" in mistakes(LOCAL | {"ATP_VAULT_URL": vault, "ATP_LOCAL_STACK": str(stack)})


@pytest.mark.parametrize(
    "content", [None, b"", b"{", b"[]", b"7", b"{}", b'{"ca": "/ca.pem"}', b'{"ca": 1, "clock": 2}', b"\xff"]
)
def test_a_local_stack_that_is_not_there_is_one_clear_mistake(tmp_path: Path, content: bytes | None) -> None:
    stack = tmp_path / "stack.json"
    if content is not None:
        stack.write_bytes(content)
    assert "start one with `make serve`" in mistakes(LOCAL | {"ATP_LOCAL_STACK": str(stack)})


def test_a_local_stack_names_no_evidence_copy_elsewhere(tmp_path: Path) -> None:
    stack = tmp_path / "stack.json"
    stack.write_text(json.dumps({"ca": "/ca.pem", "clock": "/clock"}))
    elsewhere = {"ATP_EVIDENCE_URL": "https://acc.blob.core.windows.net/audit-evidence", "ATP_LOCAL_STACK": str(stack)}
    assert mistakes(LOCAL | elsewhere).startswith("app settings: ATP_EVIDENCE_URL: not on a local stack")


def test_a_catalog_may_be_named_relative_to_the_app_or_absolutely(tmp_path: Path) -> None:
    root = Settings.parse(IDENTITY).catalog.parents[1]
    for named, expected in (("a/b.toml", root / "a/b.toml"), (str(tmp_path / "c.toml"), tmp_path / "c.toml")):
        changes: dict[str, Any] = {"ATP_CATALOG": named}
        assert Settings.parse(IDENTITY | changes).catalog == expected
