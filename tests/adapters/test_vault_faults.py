"""The vault's bad moments, as only a vault spoken to over TLS has them."""

import pytest

from local.stack import Stack
from rotation.wrapping import RSA_OAEP_256
from shared.errors import AtpError, Transient
from shared.values import Kid
from tests.adapters.backends import AzureBackend, name_of, wrapped_under

DEK = bytes(range(32))
UNWRAP = "POST /keys/.*/unwrapkey"
PAUSES = [0.5, 1.0, 2.0]


@pytest.fixture
def wrapped(azure: AzureBackend) -> tuple[Kid, bytes]:
    """A wrapped DEK that was opened before, so that the next opening is one request."""
    kid = azure.new_kek("kek")
    wrapped = wrapped_under(azure.vault.version(kid), DEK)
    azure.vault.unwrap(kid, RSA_OAEP_256, wrapped)
    return kid, wrapped


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_throttled_unwrap_is_tried_again_after_growing_pauses(
    stack: Stack, azure: AzureBackend, wrapped: tuple[Kid, bytes], times: int
) -> None:
    stack.vault.inject(UNWRAP, status=429, times=times)
    assert azure.vault.unwrap(wrapped[0], RSA_OAEP_256, wrapped[1]).reveal() == DEK
    assert azure.pauses == [pytest.approx(pause, rel=0.2) for pause in PAUSES[:times]]


def test_an_unwrap_that_stays_throttled_is_put_back_after_the_last_pause(
    stack: Stack, azure: AzureBackend, wrapped: tuple[Kid, bytes]
) -> None:
    stack.vault.inject(UNWRAP, status=429, times=None)
    with pytest.raises(Transient) as caught:
        azure.vault.unwrap(wrapped[0], RSA_OAEP_256, wrapped[1])
    assert caught.value.fields["status"] == 429
    assert len(azure.pauses) == len(PAUSES)
    assert stack.vault.faults()[0]["struck"] == len(PAUSES) + 1


@pytest.mark.parametrize("status", [401, 403, 408, 500, 502, 503, 504])
def test_a_failing_vault_is_transient_and_not_paused_for(
    stack: Stack, azure: AzureBackend, wrapped: tuple[Kid, bytes], status: int
) -> None:
    stack.vault.inject(UNWRAP, status=status, times=None)
    with pytest.raises(Transient):
        azure.vault.unwrap(wrapped[0], RSA_OAEP_256, wrapped[1])
    assert stack.vault.faults()[0]["struck"] <= 3
    assert azure.pauses == []


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_one_failure_of_a_read_is_bridged(stack: Stack, azure: AzureBackend, status: int) -> None:
    kid = azure.new_kek("kek")
    stack.vault.inject("GET /keys/", status=status)
    assert azure.vault.newest(name_of(kid)).kid == kid


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_unwrap_whose_connection_breaks_succeeds_when_called_again(
    stack: Stack, azure: AzureBackend, wrapped: tuple[Kid, bytes], when: str
) -> None:
    stack.vault.inject(UNWRAP, status="drop", apply="after" if when == "after" else "before")
    try:
        dek = azure.vault.unwrap(wrapped[0], RSA_OAEP_256, wrapped[1])
    except Transient:
        dek = azure.vault.unwrap(wrapped[0], RSA_OAEP_256, wrapped[1])
    assert dek.reveal() == DEK
    assert stack.vault.faults()[0]["struck"] == 1


def test_an_error_of_the_vault_quotes_neither_the_wrapped_dek_nor_a_token(
    stack: Stack, azure: AzureBackend, wrapped: tuple[Kid, bytes]
) -> None:
    stack.vault.inject(UNWRAP, status=400)
    with pytest.raises(AtpError) as caught:
        azure.vault.unwrap(wrapped[0], RSA_OAEP_256, wrapped[1])
    assert set(caught.value.fields) == {"kid"}
