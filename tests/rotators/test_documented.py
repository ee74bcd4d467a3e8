"""The example of docs/new-rotator.md: what a newcomer is told to write keeps the contract as it stands there."""

import sys
from pathlib import Path
from types import ModuleType

from markdown_it import MarkdownIt

from rotation.catalog import parse
from rotation.rotators.registry import READERS
from tests.pure.test_catalog import DEK, KEK

PAGE = Path(__file__).parent.parent.parent / "docs" / "new-rotator.md"
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
