"""The example of docs/new-rotator.md: what a newcomer is told to write keeps the contract as it stands there."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from markdown_it import MarkdownIt

from rotation.catalog import parse
from rotation.rotators.registry import READERS
from tests.pure.test_catalog import DEK, KEK

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "new-rotator.md"
ROTATOR, TESTS, ENTRY = (
    token.content for token in MarkdownIt("commonmark").parse(PAGE.read_text(encoding="utf-8")) if token.type == "fence"
)


def _module(name: str, code: str) -> ModuleType:
    """The code as the module of that name."""
    module = sys.modules[name] = ModuleType(name)
    exec(compile(code, f"{PAGE.name}: {name}", "exec"), vars(module))
    return module


rotator = _module("rotation.rotators.mqtt_broker", ROTATOR)
TestMqttBroker = _module("tests.rotators.test_mqtt_broker", TESTS).TestMqttBroker


def test_the_entry_is_one_that_the_catalog_takes() -> None:
    catalog = parse(KEK + DEK + ENTRY, PAGE.name, {**READERS, "mqtt-broker": rotator.read})
    assert catalog.secrets["telemetry-broker"].parameters.users == ("device-a", "device-b")
    assert catalog.entries["telemetry-broker"].controls, "as those of all entries that are shipped"


@pytest.mark.parametrize(
    ("file", "code"), [("rotation/rotators/mqtt_broker.py", ROTATOR), ("tests/rotators/test_mqtt_broker.py", TESTS)]
)
def test_the_code_passes_the_checks_of_all_code(file: str, code: str) -> None:
    # I001: that a module is ours is known by its file, and here is none.
    for check in (["check", "--ignore", "I001"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *check, "--quiet", "--stdin-filename", file, "-"]
        ended = subprocess.run(command, cwd=ROOT, input=code, capture_output=True, text=True, check=False)
        assert (ended.returncode, ended.stdout) == (0, "")
