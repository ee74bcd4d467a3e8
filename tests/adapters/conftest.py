"""One stack for the whole folder, and a fresh backend for each test."""

from collections.abc import Iterator

import pytest

from local.stack import Stack, running
from tests.adapters.backends import AzureBackend, Backend, SimulatorBackend


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Azurite and the Key Vault emulator; no functions host."""
    with running(tmp_path_factory.mktemp("adapters"), quota=False) as stack:
        yield stack


@pytest.fixture
def azure(stack: Stack) -> Iterator[AzureBackend]:
    """The adapters alone."""
    backend = AzureBackend(stack)
    yield backend
    stack.vault.clear_faults()
    backend.close()


@pytest.fixture(params=["simulator", "azure"])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Both implementations, one after the other."""
    backend: Backend = SimulatorBackend() if request.param == "simulator" else request.getfixturevalue("azure")
    yield backend
