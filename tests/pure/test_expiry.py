"""Key Vault events: read tolerantly, and each one alerted once."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotation.catalog import Catalog
from rotation.expiry import Happening, VaultEvent, alert_for, is_new_kek_version, parse
from shared.errors import InvalidMessage
from shared.values import Severity
from tests.pure.keyrings import KEK_POLICY, NOW, POLICY

VERSION = "0123456789abcdef0123456789abcdef"
DATA: dict[str, Any] = {
    "Id": f"https://atp.vault.azure.net/keys/master-kek/{VERSION}",
    "VaultName": "atp",
    "ObjectType": "Key",
    "ObjectName": "master-kek",
    "Version": VERSION,
    "NBF": None,
    "EXP": 1795000000,
}
NEAR = "Microsoft.KeyVault.KeyNearExpiry"
CATALOG = Catalog({"master-kek": KEK_POLICY}, POLICY)


@pytest.mark.parametrize("kind", ["Key", "Secret", "Certificate"])
@pytest.mark.parametrize("happening", Happening)
def test_every_type_of_event_about_every_kind_of_object_is_read(kind: str, happening: Happening) -> None:
    event = parse(f"Microsoft.KeyVault.{kind}{happening}", DATA)
    assert event == VaultEvent(kind.lower(), happening, "atp", "master-kek", VERSION)


AS_PUBLISHED: dict[str, dict[str, Any]] = {
    "a blank behind a name": {"ObjectName ": "master-kek"},
    "a blank before a value": {"Version": f" {VERSION}"},
    "names in small letters": {"objectname": "master-kek", "vaultname": "atp"},
    "dates as text": {"EXP": "1795000000", "NBF": ""},
    "something new": {"Region": "westeurope"},
}


@pytest.mark.parametrize("changes", AS_PUBLISHED.values(), ids=list(AS_PUBLISHED))
def test_events_are_read_as_the_published_examples_write_them(changes: dict[str, Any]) -> None:
    replaced = {name.strip().lower() for name in changes}
    data = {name: value for name, value in DATA.items() if name.lower() not in replaced} | changes
    assert parse(NEAR, data) == parse(NEAR, DATA)


WRONG: dict[str, tuple[str, object]] = {
    "another type": ("Microsoft.KeyVault.VaultAccessPolicyChanged", DATA),
    "another service": ("Microsoft.Storage.BlobCreated", DATA),
    "no type": ("", DATA),
    "a type with something behind it": (f"{NEAR}\n", DATA),
    "no data": (NEAR, None),
    "data as text": (NEAR, "{}"),
    "data as a list": (NEAR, [DATA]),
    "empty data": (NEAR, {}),
    "no version": (NEAR, {name: value for name, value in DATA.items() if name != "Version"}),
    "a name with a path": (NEAR, DATA | {"ObjectName": "../master-kek"}),
    "a vault that is a host": (NEAR, DATA | {"VaultName": "evil.example"}),
    "a name with a line break": (NEAR, DATA | {"ObjectName": "master\nkek"}),
}


@pytest.mark.parametrize(("event_type", "data"), WRONG.values(), ids=list(WRONG))
def test_what_is_no_event_of_ours_is_refused(event_type: str, data: object) -> None:
    with pytest.raises(InvalidMessage):
        parse(event_type, data)


@given(st.dictionaries(st.sampled_from(list(DATA)) | st.integers(), st.text() | st.none() | st.integers()))
def test_no_data_at_all_gets_past_with_another_error(data: dict[Any, Any]) -> None:
    try:
        event = parse(NEAR, data)
    except InvalidMessage:
        return
    assert alert_for(event, CATALOG, NOW)


# What has happened to which object, and how urgently a person must know.
MEANINGS: list[tuple[str, str, Severity | None]] = [
    ("KeyNearExpiry", "master-kek", Severity.WARNING),
    ("KeyExpired", "master-kek", Severity.CRITICAL),
    ("KeyNewVersionCreated", "master-kek", None),
    ("KeyNearExpiry", "somebody-elses", Severity.WARNING),
    ("KeyNewVersionCreated", "somebody-elses", Severity.WARNING),
    ("SecretExpired", "master-kek", Severity.WARNING),
    ("CertificateNearExpiry", "ingress", Severity.WARNING),
]


@pytest.mark.parametrize(("what", "name", "severity"), MEANINGS)
def test_a_person_is_told_what_has_to_be_done(what: str, name: str, severity: Severity | None) -> None:
    alert = alert_for(parse(f"Microsoft.KeyVault.{what}", DATA | {"ObjectName": name}), CATALOG, NOW)
    assert (alert.severity if alert else None) is severity
    if alert:
        assert (alert.subject.partition("/")[2], alert.raised) == (name, NOW)
        assert alert.details["owner"] == ("security" if alert.subject == "key/master-kek" else "nobody")


def test_an_event_that_comes_again_is_the_same_alert_and_another_version_is_not() -> None:
    def alert_id(**changes: Any) -> str:
        alert = alert_for(parse(NEAR, DATA | changes), CATALOG, NOW)
        assert alert is not None
        return alert.id

    assert alert_id() == alert_id(EXP=None)
    assert len({alert_id(), alert_id(Version="1"), alert_id(VaultName="dr"), alert_id(ObjectName="x")}) == 4


def test_only_a_new_version_of_a_kek_of_the_catalog_may_call_for_a_rotation() -> None:
    def calls(kind: str, happening: Happening, name: str) -> bool:
        return is_new_kek_version(VaultEvent(kind, happening, "atp", name, VERSION), CATALOG)

    assert calls("key", Happening.NEW_VERSION, "master-kek")
    assert not calls("secret", Happening.NEW_VERSION, "master-kek")
    assert not calls("key", Happening.NEAR_EXPIRY, "master-kek")
    assert not calls("key", Happening.NEW_VERSION, "somebody-elses-key")
