"""The redaction file: what it adds and exempts, and all of its mistakes at once."""

from pathlib import Path

import pytest

from shared import redact
from shared.errors import InvalidSettings
from shared.redact import config, mask
from shared.redact.engine import Engine
from shared.settings import Settings

GOOD = """
[partner-token]
kind = "pattern"
shape = 'ptk_([a-z0-9]{8,})'
trigger = 'ptk_'
owner = "security-engineering"

[sample]
kind = "allow"
shape = 'hunter2hunter2'
reason = "stands in the documentation"
owner = "security-engineering"
"""


def engine(text: str) -> Engine:
    return config.parse(text, "file.toml").engine()


def mistakes(text: str) -> list[str]:
    with pytest.raises(InvalidSettings) as caught:
        config.parse(text, "file.toml")
    return str(caught.value).splitlines()


def test_a_pattern_masks_its_group_by_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redact, "_engine", engine(GOOD))
    assert mask("got ptk_abcdefgh1, then") == "got ptk_[REDACTED:partner-token], then"


def test_what_is_allowed_stays_where_it_is_the_whole_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redact, "_engine", engine(GOOD))
    assert mask("password=hunter2hunter2") == "password=hunter2hunter2"
    assert mask("password=hunter2hunter2" + "x") == "password=[REDACTED:credential]"


def test_a_pattern_without_a_trigger_is_found_all_the_same() -> None:
    assert engine(GOOD.replace("trigger = 'ptk_'", "")).find("ptk_abcdefgh1")


def test_every_mistake_is_reported_at_once_with_its_entry() -> None:
    text = """
top = "level"
["Bad Name"]
kind = "pattern"
shape = 'a[b'
owner = "x"
[jwt]
kind = "pattern"
shape = '(a)(b)c'
trigger = '('
owner = "two words"
[empty]
kind = "allow"
shape = 'x*'
owner = "x"
more = 1
[looks]
kind = "pattern"
shape = 'x(?=y)'
owner = "x"
[mask]
kind = "pattern"
shape = 'known'
owner = "x"
[none]
kind = "other"
[no-shape]
kind = "pattern"
"""
    said = mistakes(text)
    for expected in (
        "[top] must be a table, as in [name]",
        "[Bad Name] the name must be",
        "[Bad Name] shape: not a regular expression",
        "[jwt] there is a pattern of this name already",
        "[jwt] shape: has 2 groups; at most 1 can be used",
        "[jwt] trigger: not a regular expression",
        "[jwt] owner: does not match",
        "[empty] shape: finds what is no secret",
        "[empty] reason: is missing",
        "[empty] more: unknown field",
        "[looks] shape: not a regular expression",
        "[mask] shape: finds what is no secret",
        "[none] kind is 'other'; known kinds: 'allow', 'pattern'",
        "[no-shape] shape: is missing",
        "[no-shape] owner: is missing",
    ):
        assert any(line.startswith(f"file.toml: {expected}") for line in said), expected


def test_what_is_no_toml_or_no_file_is_refused(tmp_path: Path) -> None:
    assert "not TOML" in mistakes("[")[0]
    (tmp_path / "latin.toml").write_bytes(b"# \xe4\n")
    for name, why in (("none.toml", "No such file or directory"), ("latin.toml", "it is not UTF-8")):
        with pytest.raises(InvalidSettings) as caught:
            config.load(tmp_path / name)
        assert str(caught.value) == f"{tmp_path / name}: cannot be read: {why}"


def test_what_is_wrong_with_an_expression_is_said_as_text() -> None:
    (line,) = mistakes("[a]\nkind = 'pattern'\nowner = 'x'\nshape = '('\n")
    assert line.startswith("file.toml: [a] shape: not a regular expression: missing )")


def test_the_shipped_file_is_the_default_and_adds_nothing() -> None:
    settings = Settings.parse({"ATP_VAULT_URL": "https://v", "AzureWebJobsStorage": "UseDevelopmentStorage=true"})
    assert config.load(settings.redaction) == config.Redaction()
    named = {
        "ATP_VAULT_URL": "https://v",
        "AzureWebJobsStorage": "UseDevelopmentStorage=true",
        "ATP_REDACTION": "a.toml",
    }
    assert Settings.parse(named).redaction.name == "a.toml"


def test_the_examples_in_the_shipped_file_are_right() -> None:
    settings = Settings.parse({"ATP_VAULT_URL": "https://v", "AzureWebJobsStorage": "UseDevelopmentStorage=true"})
    lines = settings.redaction.read_text().splitlines()
    start = lines.index("# [partner-token]")
    found = config.parse("\n".join(line.removeprefix("# ").removeprefix("#") for line in lines[start:]), "examples")
    assert [pattern.kind for pattern in found.patterns] == ["partner-token"]
    assert len(found.allowed) == 1


def test_a_file_is_applied_to_the_whole_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redact, "_engine", redact._engine)
    (tmp_path / "file.toml").write_text(GOOD)
    config.apply(tmp_path / "file.toml")
    assert mask("ptk_abcdefgh1") == "ptk_[REDACTED:partner-token]"
