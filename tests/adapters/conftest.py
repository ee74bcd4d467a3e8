"""One stack for the whole folder, and a fresh backend for each test."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from local.key_vault.client import KeyVaultProcess
from local.stack import Stack, running
from shared.azure.wiring import Adapters
from tests.adapters.backends import AzureBackend, Backend, SimulatorBackend


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Azurite and the Key Vault emulator; no functions host."""
    with running(tmp_path_factory.mktemp("adapters"), quota=False) as stack:
        yield stack


@pytest.fixture(scope="session")
def other_vault(stack: Stack) -> Iterator[KeyVaultProcess]:
    """A second vault, with a certificate authority of its own."""
    folder = stack.folder / "other-vault"
    folder.mkdir()
    with KeyVaultProcess.start(folder, stack.folder / "clock", stack.folder / "other-vault.log", quota=False) as vault:
        yield vault


@pytest.fixture(scope="session")
def other_adapters(stack: Stack, other_vault: KeyVaultProcess) -> Iterator[Adapters]:
    """The ports with the second vault as their only one."""
    assert stack.settings.local_stack is not None
    local = replace(stack.settings.local_stack, ca=other_vault.ca)
    adapters = Adapters(replace(stack.settings, vault_url=other_vault.url, local_stack=local))
    yield adapters
    adapters.close()


@pytest.fixture
def azure(stack: Stack, other_vault: KeyVaultProcess, other_adapters: Adapters) -> Iterator[AzureBackend]:
    """The adapters alone."""
    backend = AzureBackend(stack, other_adapters)
    yield backend
    stack.vault.clear_faults()
    other_vault.clear_faults()
    backend.close()


@pytest.fixture(params=["simulator", "azure"])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Both implementations, one after the other."""
    backend: Backend = SimulatorBackend() if request.param == "simulator" else request.getfixturevalue("azure")
    yield backend
