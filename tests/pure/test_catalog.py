"""The catalog: what it accepts, and that all its mistakes are reported at once."""

from datetime import timedelta
from pathlib import Path

import pytest

from rotation.catalog import DekPolicy, load, parse
from rotation.rotators.registry import READERS
from shared.errors import InvalidCatalog, Rejected
from tests.pure.keyrings import KEK_POLICY, POLICY

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
SHIPPED = Path(__file__).parents[2] / "rotation" / "catalog.toml"


def mistakes(text: str) -> list[str]:
    """The lines of the refusal of a catalog."""
    with pytest.raises(InvalidCatalog) as caught:
        parse(text, "catalog.toml", READERS)
    assert isinstance(caught.value, Rejected)
    return str(caught.value).splitlines()


def test_a_catalog_says_what_rotates_and_how() -> None:
    catalog = parse(KEK + DEK, "catalog.toml", READERS)
    assert catalog.keks == {"master-kek": KEK_POLICY}
    assert catalog.dek == POLICY


def test_the_shipped_catalog_is_sound() -> None:
    catalog = load(SHIPPED, READERS)
    assert catalog.dek.kek in catalog.keks
    assert catalog.dek.interval <= timedelta(days=92), "quarterly"


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
    "a misspelt field": (KEK + "intervall_days = 7\n" + DEK, "[master-kek] intervall_days: unknown field"),
    "a field of another kind": (KEK + "spread_days = 7\n" + DEK, "[master-kek] spread_days: unknown field"),
    "an unknown kind": (
        KEK + DEK + '[jwt]\nkind = "jtw"\n',
        "[jwt] kind is 'jtw'; known kinds: 'kek', 'dek', 'key', 'secret', 'certificate'",
    ),
    "no kind": (KEK + DEK + "[jwt]\n", "[jwt] kind is None; known kinds: 'kek', 'dek', 'key', 'secret', 'certificate'"),
    "a kind that is no text": (
        KEK + DEK + "[jwt]\nkind = []\n",
        "[jwt] kind is []; known kinds: 'kek', 'dek', 'key', 'secret', 'certificate'",
    ),
    "a name that Key Vault refuses": (
        KEK + DEK + KEK.replace("[master-kek]", '["master kek"]'),
        "[master kek] the name must be 1 to 127 of 0-9 a-z A-Z and dash, as Key Vault wants it",
    ),
}


@pytest.mark.parametrize(("text", "mistake"), MISTAKES.values(), ids=list(MISTAKES))
def test_each_mistake_is_reported_with_file_entry_and_reason_and_nothing_else_is(text: str, mistake: str) -> None:
    assert mistakes(text) == [f"catalog.toml: {mistake}"]


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
        ("bad name", "colour: unknown field"),
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
    for name in ("absent.toml", "latin.toml", "."):
        with pytest.raises(InvalidCatalog, match="cannot be read") as caught:
            load(tmp_path / name, READERS)
        assert str(tmp_path / name) in str(caught.value)


def test_a_policy_is_a_value() -> None:
    assert isinstance(parse(KEK + DEK, "a", READERS).dek, DekPolicy)
    assert hash(parse(KEK + DEK, "a", READERS).dek) == hash(parse(KEK + DEK, "b", READERS).dek)
