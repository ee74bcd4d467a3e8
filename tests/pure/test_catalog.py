"""The catalog: what it accepts, and that all its mistakes are reported at once."""

from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest

from rotation.calendar import Calendar, Every, Period
from rotation.catalog import DekPolicy, Entry, EntryKind, RotatedBy, SecretPolicy, ensure_vaults, load, parse
from rotation.fields import Fields
from rotation.rotators.registry import READERS
from shared import redact
from shared.errors import InvalidCatalog, Rejected
from shared.redact import mask
from shared.secret import Secret
from shared.values import ObjectKind
from tests.pure.keyrings import KEK_POLICY, POLICY

ROOT = Path(__file__).parents[2]
KEK = """
[master-kek]
kind = "kek"
owner = "security"
interval_days = 365
grace_days = 7
consumer_timeout_days = 3
soak_days = 5
scrub_percent = 50
headroom_percent = 20
"""
DEK = """
[tenant-dek]
kind = "dek"
owner = "security"
kek = "master-kek"
interval_days = 90
spread_days = 10
grace_days = 7
retention_days = 365
"""
KEY = """
[signing]
kind = "key"
owner = "security"
object = "atp-signing"
interval_days = 90
grace_days = 7
rotated_by = "key-vault"
controls = ["SOC 2 CC6.1"]
alert_days = [30, 7]
"""
CERTIFICATE = """
[clients]
kind = "certificate"
owner = "platform"
calendar = "yearly"
grace_days = 30
rotated_by = "person"
"""
SECRET = """
[webhook]
kind = "secret"
owner = "integration"
calendar = "quarterly"
grace_days = 7
rotator = "example"
vault = "https://other.vault.azure.net/"
parameters = { url = "https://hooks.example", tries = 3 }
"""
URL = "a URL (https) without credentials, query and fragment"
SHIPPED = Path(__file__).parents[2] / "rotation" / "catalog.toml"


def example(fields: Fields) -> tuple[str, int]:
    """What a rotator reads."""
    return fields.url("url"), fields.integer("tries", 1, 9, 5)


ROTATORS = {"example": example}


def mistakes(text: str) -> list[str]:
    """The lines of the refusal of a catalog."""
    with pytest.raises(InvalidCatalog) as caught:
        parse(text, "catalog.toml", ROTATORS)
    assert isinstance(caught.value, Rejected)
    return str(caught.value).splitlines()


def test_a_catalog_says_what_rotates_and_how() -> None:
    catalog = parse(KEK + DEK, "catalog.toml", READERS)
    assert catalog.keks == {"master-kek": KEK_POLICY}
    assert catalog.dek == POLICY


def test_every_kind_of_entry_says_what_all_have_in_common() -> None:
    catalog = parse(KEK + DEK + KEY + CERTIFICATE + SECRET, "catalog.toml", ROTATORS)
    assert list(catalog.entries) == ["master-kek", "tenant-dek", "signing", "clients", "webhook"]
    assert catalog.entries["signing"] == Entry(
        name="signing",
        kind=EntryKind.KEY,
        owner="security",
        schedule=Every(timedelta(days=90)),
        object="atp-signing",
        grace=timedelta(days=7),
        alert_days=(30, 7),
        controls=("SOC 2 CC6.1",),
        rotated_by=RotatedBy.VAULT,
    )
    clients, webhook = catalog.entries["clients"], catalog.entries["webhook"]
    assert (clients.object, clients.schedule, clients.alert_days) == ("clients", Calendar(Period.YEARLY), (30, 7, 1))
    assert (webhook.vault, webhook.rotated_by) == ("https://other.vault.azure.net", RotatedBy.APP)
    assert catalog.secrets["webhook"] == SecretPolicy(webhook, "example", ("https://hooks.example", 3))
    assert [entry.object_kind for entry in (clients, webhook)] == [ObjectKind.CERTIFICATE, ObjectKind.SECRET]


def test_what_is_kept_elsewhere_may_have_the_name_of_what_a_vault_has() -> None:
    mesh = CERTIFICATE.replace("[clients]", "[mesh]").replace('"person"', '"service-mesh"') + 'object = "clients"\n'
    catalog = parse(KEK + DEK + CERTIFICATE + mesh, "catalog.toml", ROTATORS)
    assert [entry.in_vault for entry in catalog.entries.values()] == [True, False, True, False]


def test_the_shipped_catalog_is_sound() -> None:
    catalog = load(SHIPPED, READERS)
    assert catalog.dek.kek in catalog.keks
    assert catalog.dek.interval <= timedelta(days=92), "quarterly"
    assert all(entry.controls for entry in catalog.entries.values())


def test_what_signs_rotates_quarterly_in_the_shipped_catalog() -> None:
    entries = load(SHIPPED, READERS).entries
    for name in ("atp-signing", "jwt-signing", "audit-signing"):
        assert entries[name].schedule.longest <= timedelta(days=92)
        assert entries[name].rotated_by is RotatedBy.VAULT
    assert entries["tls-certificates"].schedule.longest == timedelta(days=90)
    assert entries["mtls-certificates"].schedule.longest == timedelta(days=1)


def test_secrets_rotate_quarterly_and_api_keys_monthly_in_the_shipped_catalog() -> None:
    secrets = load(SHIPPED, READERS).secrets
    periods = {policy.rotator: policy.entry.schedule for policy in secrets.values() if policy.rotator != "http-api-key"}
    assert {"azure-sql", "postgresql", "cosmos-db", "storage-account", "service-bus", "webhook-hmac"} <= periods.keys()
    assert set(periods.values()) == {Calendar(Period.QUARTERLY)}
    assert secrets["partner-api-key"].entry.schedule == Calendar(Period.MONTHLY)


def test_the_order_of_entries_does_not_matter() -> None:
    assert parse(DEK + KEK, "a", READERS) == parse(KEK + DEK, "b", READERS)


# One mistake each: what is written, and how it is reported behind "catalog.toml: ".
MISTAKES: dict[str, tuple[str, str]] = {
    "nothing": ("", "exactly one entry of kind 'dek' is needed, there are 0"),
    "no DEK": (KEK, "exactly one entry of kind 'dek' is needed, there are 0"),
    "two DEKs": (
        KEK + DEK + DEK.replace("tenant-dek", "other-dek"),
        "exactly one entry of kind 'dek' is needed, there are 2",
    ),
    "no KEK": (DEK, "[tenant-dek] kek: 'master-kek' is no entry of kind 'kek'"),
    "a DEK wrapped by itself": (
        KEK + DEK.replace('kek = "master-kek"', 'kek = "tenant-dek"'),
        "[tenant-dek] kek: 'tenant-dek' is no entry of kind 'kek'",
    ),
    "no owner": (
        KEK.replace('owner = "security"\n', "") + DEK,
        "[master-kek] owner: is missing",
    ),
    "an owner that is no name": (
        KEK.replace('"security"', '"the security team"') + DEK,
        "[master-kek] owner: 'the security team' is not a name (0-9 a-z A-Z -)",
    ),
    "an owner that is no text": (
        KEK.replace('"security"', "7") + DEK,
        "[master-kek] owner: 7 is not a name (0-9 a-z A-Z -)",
    ),
    "no KEK named": (KEK + DEK.replace('kek = "master-kek"\n', ""), "[tenant-dek] kek: is missing"),
    "no interval": (
        KEK.replace("interval_days = 365", "") + DEK,
        "[master-kek] interval_days: is missing (a whole number of days from 1 to 3650)",
    ),
    "an interval of 0": (
        KEK.replace("365", "0") + DEK,
        "[master-kek] interval_days: 0 is not a whole number of days from 1 to 3650",
    ),
    "an interval below 0": (
        KEK + DEK.replace("90", "-90"),
        "[tenant-dek] interval_days: -90 is not a whole number of days from 1 to 3650",
    ),
    "an interval of a century": (
        KEK.replace("365", "36500") + DEK,
        "[master-kek] interval_days: 36500 is not a whole number of days from 1 to 3650",
    ),
    "a fraction of a day": (
        KEK + DEK.replace("grace_days = 7", "grace_days = 0.5"),
        "[tenant-dek] grace_days: 0.5 is not a whole number of days from 1 to 3650",
    ),
    "a truth value": (
        KEK + DEK.replace("spread_days = 10", "spread_days = true"),
        "[tenant-dek] spread_days: True is not a whole number of days from 1 to 3650",
    ),
    "days as text": (
        KEK + DEK.replace("grace_days = 7", 'grace_days = "7"'),
        "[tenant-dek] grace_days: '7' is not a whole number of days from 1 to 3650",
    ),
    "retention below 0": (
        KEK + DEK.replace("retention_days = 365", "retention_days = -1"),
        "[tenant-dek] retention_days: -1 is not a whole number of days from 0 to 3650",
    ),
    "a share of nothing": (
        KEK.replace("scrub_percent = 50", "scrub_percent = 0") + DEK,
        "[master-kek] scrub_percent: 0 is not a percentage from 0.1 to 100",
    ),
    "a share of everything": (
        KEK.replace("headroom_percent = 20", "headroom_percent = 100") + DEK,
        "[master-kek] headroom_percent: 100 is not a percentage from 0 to 90",
    ),
    "a share as text": (
        KEK.replace("headroom_percent = 20", 'headroom_percent = "20"') + DEK,
        "[master-kek] headroom_percent: '20' is not a percentage from 0 to 90",
    ),
    "no share": (
        KEK.replace("scrub_percent = 50", "") + DEK,
        "[master-kek] scrub_percent: is missing (a percentage from 0.1 to 100)",
    ),
    "dual running longer than a rotation": (
        KEK + DEK.replace("grace_days = 7", "grace_days = 80"),
        "[tenant-dek] spread_days and grace_days together must be shorter than interval_days",
    ),
    "a misspelt field": (KEK + "intervall_days = 7\n" + DEK, "[master-kek] intervall_days is an unknown field"),
    "a field of another kind": (KEK + "spread_days = 7\n" + DEK, "[master-kek] spread_days is an unknown field"),
    "an unknown kind": (
        KEK + DEK + '[jwt]\nkind = "jtw"\n',
        "[jwt] kind is 'jtw'; known kinds: 'kek', 'dek', 'key', 'secret', 'certificate'",
    ),
    "no kind": (KEK + DEK + "[jwt]\n", "[jwt] kind is None; known kinds: 'kek', 'dek', 'key', 'secret', 'certificate'"),
    "a kind that is no text": (
        KEK + DEK + "[jwt]\nkind = []\n",
        "[jwt] kind is []; known kinds: 'kek', 'dek', 'key', 'secret', 'certificate'",
    ),
    "no schedule": (
        KEK + DEK + CERTIFICATE.replace('calendar = "yearly"\n', ""),
        "[clients] interval_days: is missing (a whole number of days from 1 to 3650)",
    ),
    "two schedules": (
        KEK + DEK + CERTIFICATE + "interval_days = 365\n",
        "[clients] has interval_days and calendar: one of them says when it is due",
    ),
    "an unknown calendar": (
        KEK + DEK + CERTIFICATE.replace("yearly", "weekly"),
        "[clients] calendar: 'weekly' is not one of 'monthly', 'quarterly', 'yearly'",
    ),
    "a calendar for the DEKs": (KEK + DEK + 'calendar = "monthly"\n', "[tenant-dek] calendar is an unknown field"),
    "a calendar for the vault": (
        KEK + DEK + KEY.replace("interval_days = 90", 'calendar = "quarterly"'),
        "[signing] calendar: Key Vault counts days from the making of a version: say interval_days",
    ),
    "an interval too short for the vault": (
        KEK
        + DEK
        + KEY.replace("interval_days = 90", "interval_days = 6")
        .replace("grace_days = 7", "grace_days = 0")
        .replace("[30, 7]", "[6, 1]"),
        "[signing] interval_days: Key Vault rotates after 7 days or more",
    ),
    "dual running longer than a quarter": (
        KEK + DEK + SECRET.replace("grace_days = 7", "grace_days = 92"),
        "[webhook] grace_days must be shorter than the time between two rotations",
    ),
    "no dual running said": (
        KEK + DEK + KEY.replace("grace_days = 7\n", ""),
        "[signing] grace_days: is missing (a whole number of days from 0 to 3650)",
    ),
    "nobody who rotates a key": (
        KEK + DEK + KEY.replace('rotated_by = "key-vault"\n', ""),
        "[signing] rotated_by: is missing (one of 'person', 'key-vault')",
    ),
    "a key rotated by cert-manager": (
        KEK + DEK + KEY.replace("key-vault", "cert-manager"),
        "[signing] rotated_by: 'cert-manager' is not one of 'person', 'key-vault'",
    ),
    "a certificate rotated by the app": (
        KEK + DEK + CERTIFICATE.replace("person", "app"),
        "[clients] rotated_by: 'app' is not one of 'person', 'key-vault', 'cert-manager', 'service-mesh'",
    ),
    "a secret rotated by somebody": (
        KEK + DEK + SECRET.replace("grace_days", 'rotated_by = "person"\ngrace_days'),
        "[webhook] rotated_by is an unknown field",
    ),
    "a certificate that does not expire": (
        KEK + DEK + CERTIFICATE + "expires = false\n",
        "[clients] expires is an unknown field",
    ),
    "an expiry that is no truth value": (
        KEK + DEK + KEY + 'expires = "no"\n',
        "[signing] expires: 'no' is not true or false",
    ),
    "controls that are no list": (
        KEK + DEK + CERTIFICATE + 'controls = "SOC 2"\n',
        "[clients] controls: 'SOC 2' is not a list of names of controls like 'SOC 2 CC6.1'",
    ),
    "a control that is no name": (
        KEK + DEK + CERTIFICATE + 'controls = ["SOC 2", ""]\n',
        "[clients] controls: ['SOC 2', ''] is not a list of names of controls like 'SOC 2 CC6.1'",
    ),
    "a control twice": (
        KEK + DEK + CERTIFICATE + 'controls = ["GDPR", "GDPR"]\n',
        "[clients] controls: names something twice",
    ),
    "alerts before the rotation before": (
        (KEK + DEK).replace("interval_days = 365\n", "interval_days = 360\nalert_days = [361, 7]\n"),
        "[master-kek] alert_days: 361 is longer than the time between two rotations",
    ),
    "alerts on no day": (KEK + DEK + CERTIFICATE + "alert_days = []\n", "[clients] alert_days: names no day"),
    "an alert on the day itself": (
        KEK + DEK + CERTIFICATE + "alert_days = [30, 0]\n",
        "[clients] alert_days: [30, 0] is not a list of whole numbers from 1 to 365",
    ),
    "an alert twice": (
        KEK + DEK + CERTIFICATE + "alert_days = [7, 7]\n",
        "[clients] alert_days: names something twice",
    ),
    "an object of another entry": (
        KEK + DEK + KEY + KEY.replace("[signing]", "[again]").replace("atp-signing", "ATP-Signing"),
        "[again] object: [signing] is about the same key of the vault",
    ),
    "a key that is a KEK": (
        KEK + DEK + KEY.replace("atp-signing", "master-kek"),
        "[signing] object: [master-kek] is about the same key of the vault",
    ),
    "an object that may be that of another entry": (
        KEK + DEK + SECRET + SECRET.replace("[webhook]", "[again]\nobject = 'Webhook'").replace("vault =", "#"),
        "[again] object: [webhook] is about the same secret of the vault, unless both say in which one they are",
    ),
    "an object in which the next value of a secret waits": (
        KEK + DEK + SECRET + SECRET.replace("[webhook]", "[webhook-Pending]"),
        "[webhook-Pending] object: [webhook] has 'webhook-Pending', too, where next values wait",
    ),
    "a secret whose next value waits in the object of another entry": (
        KEK + DEK + SECRET.replace("[webhook]", "[webhook-pending]") + SECRET,
        "[webhook] object: [webhook-pending] has 'webhook-pending', too, where next values wait",
    ),
    "an object that leaves no name for the next value": (
        KEK + DEK + SECRET + f'object = "{"o" * 120}"\n',
        "[webhook] object: is too long to have a secret beside it whose name ends with -pending",
    ),
    "an object that is no name": (
        KEK + DEK + KEY.replace("atp-signing", "atp signing"),
        "[signing] object: 'atp signing' is not a name (0-9 a-z A-Z -)",
    ),
    "a vault with a path that asks": (
        KEK + DEK + CERTIFICATE + 'vault = "https://a.example/?x"\n',
        f"[clients] vault: 'https://a.example/?x' is not {URL}",
    ),
    "no rotator": (
        KEK + DEK + SECRET.replace('rotator = "example"\n', ""),
        "[webhook] rotator: is missing (one of 'example')",
    ),
    "an unknown rotator": (
        KEK + DEK + SECRET.replace('"example"', '"oracle"'),
        "[webhook] rotator: 'oracle' is not one of 'example'",
    ),
    "an unknown rotator with parameters that another one would refuse": (
        KEK + DEK + SECRET.replace('"example"', '"oracle"').replace("tries", "trys"),
        "[webhook] rotator: 'oracle' is not one of 'example'",
    ),
    "a parameter of the wrong type": (
        KEK + DEK + SECRET.replace("tries = 3", 'tries = "3"'),
        "[webhook] parameters: tries: '3' is not a whole number from 1 to 9",
    ),
    "a misspelt parameter": (
        KEK + DEK + SECRET.replace("tries", "trys"),
        "[webhook] parameters: trys is an unknown field",
    ),
    "parameters that are no table": (
        KEK + DEK + SECRET.replace('{ url = "https://hooks.example", tries = 3 }', '"none"'),
        f"[webhook] parameters: must be a table\ncatalog.toml: [webhook] parameters: url: is missing ({URL})",
    ),
    "a name that Key Vault refuses": (
        KEK + DEK + KEK.replace("[master-kek]", '["master kek"]'),
        "[master kek] the name must be 1 to 127 of 0-9 a-z A-Z and dash, as Key Vault wants it",
    ),
}


@pytest.mark.parametrize(("text", "mistake"), MISTAKES.values(), ids=list(MISTAKES))
def test_each_mistake_is_reported_with_file_entry_and_reason_and_nothing_else_is(text: str, mistake: str) -> None:
    assert mistakes(text) == f"catalog.toml: {mistake}".splitlines()


def test_objects_of_one_name_are_two_where_both_entries_say_in_which_vault_they_are() -> None:
    elsewhere = SECRET.replace("[webhook]", "[again]\nobject = 'webhook'").replace("other.vault", "third.vault")
    assert set(parse(KEK + DEK + SECRET + elsewhere, "catalog.toml", ROTATORS).secrets) == {"webhook", "again"}


SQL: Final = """
[{name}]
kind = "secret"
owner = "shop"
interval_days = 30
grace_days = 7
rotator = "{rotator}"
parameters = {{ users = ["{one}", "{two}"], host = "{host}", database = "{database}" }}
"""
ACCOUNT: Final = """
[{name}]
kind = "secret"
owner = "shop"
interval_days = 30
grace_days = 7
rotator = "{rotator}"
[{name}.parameters]
subscription = "00000000-0000-0000-0000-00000000000{name}"
resource_group = "{name}"
{where}
"""


def sql(rotator: str, name: str, users: tuple[str, str], host: str = "db.example", database: str = "shop") -> str:
    return SQL.format(rotator=rotator, name=name, one=users[0], two=users[1], host=host, database=database)


def accounts(rotator: str, one: str, two: str) -> str:
    return "".join(ACCOUNT.format(rotator=rotator, name=name, where=where) for name, where in (("a", one), ("b", two)))


@pytest.mark.parametrize(
    ("text", "target"),
    [
        (
            sql("postgresql", "a", ("u1", "u2")) + sql("postgresql", "b", ("u3", "u2"), "DB.Example", "other"),
            "user u2 at db.example:5432",
        ),
        (sql("mysql", "a", ("u1", "u2")) + sql("mysql", "b", ("U1", "u3")), "user u1 at db.example:3306"),
        (
            sql("azure-sql", "a", ("u1", "u2")) + sql("azure-sql", "b", ("u1", "u3"), database="Shop"),
            "user u1 at db.example:1433/shop",
        ),
        (accounts("storage-account", 'account = "shop"', 'account = "shop"'), "keys of storage account shop"),
        (accounts("cosmos-db", 'account = "shop"', 'account = "shop"'), "primary key of Cosmos DB account shop"),
        (
            accounts(
                "service-bus",
                'namespace = "shopbus"\nrule = "send"\nqueue = "orders"',
                'namespace = "ShopBus"\nrule = "Send"\nqueue = "Orders"',
            ),
            "keys of rule send of shopbus/orders",
        ),
    ],
)
def test_two_entries_that_take_turns_with_the_same_users_or_keys_are_refused(text: str, target: str) -> None:
    with pytest.raises(InvalidCatalog) as caught:
        parse(KEK + DEK + text, "catalog.toml", READERS)
    assert f"catalog.toml: [b] parameters: [a] rotates the same {target}" in str(caught.value).splitlines()


@pytest.mark.parametrize(
    "text",
    [
        sql("postgresql", "a", ("u1", "u2")) + sql("postgresql", "b", ("u3", "u4")),
        sql("postgresql", "a", ("u1", "u2")) + sql("postgresql", "b", ("u1", "u2"), "other.example"),
        sql("azure-sql", "a", ("u1", "u2")) + sql("azure-sql", "b", ("u1", "u2"), database="other"),
        accounts("cosmos-db", 'account = "shop"', 'account = "shop"\nkeys = "read-only"'),
        accounts("storage-account", 'account = "shop"', 'account = "other"'),
        accounts("service-bus", 'namespace = "shopbus"\nrule = "r"', 'namespace = "shopbus"\nrule = "r"\ntopic = "t"'),
    ],
)
def test_entries_with_users_or_keys_of_their_own_in_one_place_are_accepted(text: str) -> None:
    assert set(parse(KEK + DEK + text, "catalog.toml", READERS).secrets) == {"a", "b"}


def test_an_entry_that_is_no_table_is_a_mistake() -> None:
    assert "catalog.toml: [version] must be a table, as in [name]" in mistakes("version = 1\n" + KEK + DEK)


def test_all_mistakes_are_reported_at_once() -> None:
    text = """
        ["bad name"]
        kind = "kek"
        owner = "who?"
        interval_days = 0
        colour = "red"
        grace_days = 1
        consumer_timeout_days = 0
        soak_days = 1
        scrub_percent = 101
        headroom_percent = 20
        [no-kind]
        [one-dek]
        kind = "dek"
        kek = "nowhere"
        interval_days = 10
        spread_days = 5
        grace_days = 5
        [two-dek]
        kind = "dek"
        owner = "security"
        kek = "bad name"
        interval_days = 1.5
        spread_days = 1
        grace_days = 1
        retention_days = 1
    """
    reported = mistakes(text)
    expected = [
        ("bad name", "the name must"),
        ("bad name", "owner"),
        ("bad name", "interval_days: 0"),
        ("bad name", "colour is an unknown field"),
        ("bad name", "scrub_percent: 101 is not a percentage from 0.1 to 100"),
        ("no-kind", "kind is None"),
        ("one-dek", "owner: is missing"),
        ("one-dek", "retention_days: is missing"),
        ("one-dek", "spread_days and grace_days together"),
        ("one-dek", "kek: 'nowhere'"),
        ("two-dek", "kek: 'bad name' is not a name"),
        ("two-dek", "interval_days: 1.5"),
    ]
    for entry, reason in expected:
        assert any(line.startswith(f"catalog.toml: [{entry}] {reason}") for line in reported), (entry, reason)
    assert "catalog.toml: exactly one entry of kind 'dek' is needed, there are 2" in reported
    assert len(reported) == len(expected) + 1


@pytest.mark.parametrize("text", ["[", "a = ", KEK + KEK, "\x00", '[x]\nkind = "kek'])
def test_what_is_not_toml_is_said_to_be_so(text: str) -> None:
    (line,) = mistakes(text)
    assert line.startswith("catalog.toml: not TOML: ")


def test_a_file_that_is_not_there_or_not_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes(b"# \xe4\n")
    for name, why in (
        ("absent.toml", "No such file or directory"),
        ("latin.toml", "it is not UTF-8"),
        (".", "Is a directory"),
    ):
        with pytest.raises(InvalidCatalog) as caught:
            load(tmp_path / name, READERS)
        assert str(caught.value) == f"{tmp_path / name}: cannot be read: {why}"


def test_a_policy_is_a_value() -> None:
    assert isinstance(parse(KEK + DEK, "a", READERS).dek, DekPolicy)
    assert hash(parse(KEK + DEK, "a", READERS).dek) == hash(parse(KEK + DEK, "b", READERS).dek)


def test_an_entry_in_a_vault_that_the_settings_do_not_name_is_refused() -> None:
    elsewhere = """
[atp-signing]
kind = "key"
owner = "security"
interval_days = 90
grace_days = 7
rotated_by = "key-vault"
vault = "https://other.vault.azure.net"
"""
    catalog = parse(KEK + DEK + elsewhere, "catalog.toml", READERS)
    ensure_vaults(catalog, ["https://atp.vault.azure.net", "https://other.vault.azure.net"], "catalog.toml")
    with pytest.raises(InvalidCatalog) as caught:
        ensure_vaults(catalog, ["https://atp.vault.azure.net"], "catalog.toml")
    mistake = "catalog.toml: [atp-signing] vault: 'https://other.vault.azure.net' is no vault of the settings"
    assert str(caught.value) == mistake


def test_the_names_in_a_catalog_are_not_taken_for_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(redact, "_names", set())
    said = [
        "partner-api-key: http-api-key",
        '{"secret": "postgresql-admin"}',
        "[partner-api-key] admin: secret=partner-api-key: is no secret.",
        "secrets: [postgresql-admin, partner-api-key-pending]",
    ]
    assert [text for text in said if mask(text) == text] == []
    load(ROOT / "rotation/catalog.toml", READERS)
    assert [text for text in said if mask(text) != text] == []
    assert mask('{"secret": "postgresql-admins"}') == '{"secret": "[REDACTED:credential]"}'
    assert mask("password=xpostgresql-admin") == "password=[REDACTED:credential]"


def test_a_value_that_was_handled_or_has_a_shape_is_masked_even_if_the_catalog_has_it_for_a_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(redact, "_names", set())
    token = "glpat-" + "x1" * 10
    redact.let_pass(["a-name-and-a-value", token])
    Secret(b"a-name-and-a-value")
    assert mask("secret: a-name-and-a-value") == "secret: [REDACTED:known]"
    assert mask(f"secret: {token}") == "secret: [REDACTED:gitlab-token]"
