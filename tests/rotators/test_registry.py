"""The registry: every line leads to a file, and every file that rotates something has its line."""

from importlib import import_module
from pathlib import Path

import pytest

import rotation.rotators
from rotation.rotators.registry import READERS, ROTATORS

FILES = {path.stem for path in Path(rotation.rotators.__file__).parent.glob("*.py")}
SHARED = {"__init__", "base", "registry", "http_request", "sql_logins", "two_keys"}


def test_every_file_of_a_secret_type_has_one_line() -> None:
    assert {name.replace("-", "_") for name in ROTATORS} == FILES - SHARED
    assert READERS.keys() == ROTATORS.keys()


@pytest.mark.parametrize("name", ROTATORS)
def test_every_line_leads_to_a_file_that_reads_parameters_and_makes_a_rotator(name: str) -> None:
    module = import_module(f"rotation.rotators.{name.replace('-', '_')}")
    assert callable(module.read)
    assert callable(module.make)
