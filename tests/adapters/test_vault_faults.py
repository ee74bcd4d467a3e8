"""The vault's bad moments, as only a vault spoken to over TLS has them."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, Literal

import pytest
from azure.keyvault.keys.crypto import KeyWrapAlgorithm

from local.stack import Stack
from rotation.wrapping import A256KW, RSA_OAEP_256
from shared.azure.vault import RUN_TAG, AzureVault
from shared.errors import AtpError, Integrity, Rejected, Throttled, Transient, UnusableKey
from shared.secret import Secret
from shared.values import KekVersion, KeyKind, KeyShape, Kid
from tests.adapters.backends import AzureBackend, name_of, wrapped_under

DEK = bytes(range(32))
UNWRAP = "POST /keys/.*/unwrapkey"
WRAP = "POST /keys/.*/wrapkey"
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


def test_a_throttled_wrap_is_tried_again_after_growing_pauses(stack: Stack, azure: AzureBackend) -> None:
    kid = azure.new_kek("kek", kind=KeyKind.OCT_HSM)
    stack.vault.inject(WRAP, status=429, times=2)
    wrapped = azure.vault.wrap(kid, A256KW, Secret(DEK))
    assert azure.vault.unwrap(kid, A256KW, wrapped).reveal() == DEK
    assert azure.pauses == [pytest.approx(pause, rel=0.2) for pause in PAUSES[:2]]


def test_without_pauses_a_throttled_wrap_or_unwrap_is_told_at_once(
    stack: Stack, azure: AzureBackend, wrapped: tuple[Kid, bytes]
) -> None:
    impatient = AzureVault(azure.keys, sleep=azure.pauses.append, pauses=())
    symmetric = azure.new_kek("kek", kind=KeyKind.OCT_HSM)
    stack.vault.inject(".*wrapkey", status=429, times=None)
    calls: list[Callable[[], object]] = [
        lambda: impatient.unwrap(wrapped[0], RSA_OAEP_256, wrapped[1]),
        lambda: impatient.wrap(symmetric, A256KW, Secret(DEK)),
    ]
    for number, call in enumerate(calls, 1):
        with pytest.raises(Throttled) as caught:
            call()
        assert caught.value.fields == {"status": 429, "retry_after": None}
        assert stack.vault.faults()[0]["struck"] == number
    assert azure.pauses == []


@pytest.fixture
def used_up(stack: Stack, azure: AzureBackend) -> Iterator[Kid]:
    """A key of a vault whose quota is used up, and which says when it will not be."""
    # The heaviest of all keys, so that few operations do it.
    keys = azure.keys[azure.vaults[0]]
    kid = Kid(str(keys.create_rsa_key(azure.key_name("kek"), size=4096, hardware_protected=True).id))
    impatient = AzureVault(azure.keys, pauses=())
    stack.vault.set_quota(enabled=True, retry_after=True)
    try:
        for _ in range(2_000):
            try:
                impatient.unwrap(kid, RSA_OAEP_256, b"no wrapped DEK")
            except Throttled:
                break
            except Integrity:
                continue
        yield kid
    finally:
        stack.vault.set_quota(enabled=False, retry_after=False)


def test_a_vault_that_says_for_how_long_is_left_alone_for_so_long(azure: AzureBackend, used_up: Kid) -> None:
    began = time.monotonic()
    with pytest.raises(Throttled) as caught:
        AzureVault(azure.keys, pauses=()).unwrap(used_up, RSA_OAEP_256, b"no wrapped DEK")
    stated = caught.value.fields["retry_after"]
    assert isinstance(stated, float)
    assert 1 <= stated <= 10
    with pytest.raises(Throttled):
        azure.vault.unwrap(used_up, RSA_OAEP_256, b"no wrapped DEK")
    assert len(azure.pauses) == len(PAUSES)
    for pause, least in zip(azure.pauses, PAUSES, strict=True):
        assert pause >= max(least * 0.8, stated - 1)
    assert time.monotonic() - began < 1, "the SDK has waited where only we may"


CALLS_WITH_FAULTS: dict[str, tuple[str, Callable[[AzureBackend, Kid], object]]] = {
    "newest": ("GET /keys/", lambda azure, kid: azure.vault.newest(name_of(kid))),
    "version": ("GET /keys/", lambda azure, kid: azure.vault.version(kid)),
    "made_for, looking": ("GET /keys/.*/versions", lambda azure, kid: made(azure, kid)),
    "made_for, making": ("POST /keys/.*/create", lambda azure, kid: made(azure, kid)),
    "set_enabled": ("PATCH /keys/", lambda azure, kid: azure.vault.set_enabled(kid, enabled=True)),
}


def made(azure: AzureBackend, kid: Kid, run: str = "run") -> KekVersion:
    return azure.vault.made_for(run, name_of(kid), azure.vaults[0], KeyShape(KeyKind.RSA, 2048))


@pytest.mark.parametrize(("match", "call"), CALLS_WITH_FAULTS.values(), ids=CALLS_WITH_FAULTS.keys())
def test_whatever_is_throttled_says_so(
    stack: Stack, azure: AzureBackend, match: str, call: Callable[[AzureBackend, Kid], object]
) -> None:
    kid = azure.new_kek("kek")
    stack.vault.inject(match, status=429, times=None)
    with pytest.raises(Throttled) as caught:
        call(azure, kid)
    assert caught.value.fields == {"status": 429, "retry_after": None}
    assert azure.pauses == []


@pytest.mark.parametrize("status", [401, 403, 500, 503, "drop"])
@pytest.mark.parametrize(("match", "call"), CALLS_WITH_FAULTS.values(), ids=CALLS_WITH_FAULTS.keys())
def test_whatever_fails_at_the_vault_is_transient(
    stack: Stack,
    azure: AzureBackend,
    match: str,
    call: Callable[[AzureBackend, Kid], object],
    status: int | Literal["drop"],
) -> None:
    kid = azure.new_kek("kek")
    stack.vault.inject(match, status=status, times=None)
    with pytest.raises(Transient):
        call(azure, kid)
    stack.vault.clear_faults()
    call(azure, kid)


def test_a_symmetric_key_wraps_at_the_vault_and_the_sdks_own_client_would_not(
    stack: Stack, azure: AzureBackend
) -> None:
    kid = azure.new_kek("kek", kind=KeyKind.OCT_HSM)
    stack.vault.reset_counts()
    wrapped = azure.vault.wrap(kid, A256KW, Secret(DEK))
    assert stack.vault.counts().operations == {"wrapkey": 1}
    assert AzureVault(azure.keys).unwrap(kid, A256KW, wrapped).reveal() == DEK
    assert stack.vault.counts().operations == {"wrapkey": 1, "unwrapkey": 1}

    keys = azure.keys[azure.vaults[0]]
    lost = keys.get_cryptography_client(name_of(kid), key_version=kid.split("/")[-1]).wrap_key(
        KeyWrapAlgorithm.aes_256, DEK
    )
    assert stack.vault.counts().operations["wrapkey"] == 1
    with pytest.raises(Integrity):
        azure.vault.unwrap(kid, A256KW, lost.encrypted_key)


def tagged(azure: AzureBackend, run: str) -> Kid:
    """A version that some worker has made for the run."""
    keys = azure.keys[azure.vaults[0]]
    return Kid(str(keys.create_rsa_key(azure.key_name("kek"), size=2048, tags={RUN_TAG: run}).id))


def test_of_several_versions_that_were_made_for_a_run_the_oldest_is_the_one(stack: Stack, azure: AzureBackend) -> None:
    first = tagged(azure, "run")
    stack.clock.move(timedelta(seconds=2))
    others = [tagged(azure, run) for run in ("run", "another-run", "run")]
    assert made(azure, first).kid == first
    assert len(others) == 3


def test_of_versions_that_were_made_in_the_same_second_everybody_takes_the_same(azure: AzureBackend) -> None:
    keys = azure.keys[azure.vaults[0]]
    kids = [tagged(azure, "run") for _ in range(4)]
    created = {kid: keys.get_key(name_of(kid), kid.split("/")[-1]).properties.created_on for kid in kids}
    assert made(azure, kids[0]).kid == min(kids, key=lambda kid: (created[kid], kid))


def test_workers_that_make_a_version_for_the_same_run_at_once_agree(azure: AzureBackend) -> None:
    kid = azure.new_kek("kek")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: made(azure, kid), range(8)))
        agreed = {version.kid for version in pool.map(lambda _: made(azure, kid), range(8))}
    assert len(agreed) == 1


def test_a_version_whose_making_was_not_answered_is_found_again(stack: Stack, azure: AzureBackend) -> None:
    kid = azure.new_kek("kek")
    stack.vault.drop_answer("POST /keys/.*/create")
    with pytest.raises(Transient):
        made(azure, kid)
    version = made(azure, kid)
    keys = azure.keys[azure.vaults[0]]
    tags = [each.tags for each in keys.list_properties_of_key_versions(name_of(kid))]
    assert sum(1 for each in tags if each and each.get(RUN_TAG) == "run") == 1
    assert version.run == "run"


def test_a_version_made_for_a_run_is_found_among_more_than_one_page_of_them(azure: AzureBackend) -> None:
    kids = [azure.new_kek("kek", kind=KeyKind.OCT_HSM) for _ in range(30)]
    version = made(azure, kids[0])
    assert [azure.new_kek("kek", kind=KeyKind.OCT_HSM) for _ in range(30)]
    assert made(azure, kids[0]) == version


def test_a_new_version_lives_as_long_as_the_newest_one_did(stack: Stack, azure: AzureBackend) -> None:
    keys, name = azure.keys[azure.vaults[0]], azure.key_name("kek")
    life = timedelta(days=400)
    old = keys.create_rsa_key(name, size=2048, expires_on=stack.clock() + life)
    stack.clock.move(timedelta(days=100))
    first = made(azure, Kid(str(old.id)))
    assert first.expires is not None
    assert abs(first.expires - (stack.clock() + life)) < timedelta(seconds=10)
    keys.create_rsa_key(name, size=2048)
    assert made(azure, first.kid, "next-run").expires is None


def test_a_key_that_the_vault_does_not_make_is_rejected(azure: AzureBackend) -> None:
    name = azure.key_name("kek")
    for shape in (KeyShape(KeyKind.RSA, 1000), KeyShape(KeyKind.OCT_HSM, 12)):
        with pytest.raises(Rejected):
            azure.vault.made_for("run", name, azure.vaults[0], shape)


def test_the_name_of_a_deleted_key_is_rejected(azure: AzureBackend) -> None:
    kid = azure.new_kek("kek")
    azure.keys[azure.vaults[0]].begin_delete_key(name_of(kid)).wait()
    with pytest.raises(Rejected):
        made(azure, kid)


@pytest.mark.parametrize("window", ["expired", "not yet valid"])
def test_a_symmetric_key_outside_its_time_does_not_wrap_and_still_unwraps(
    stack: Stack, azure: AzureBackend, window: str
) -> None:
    kid = azure.new_kek("kek", kind=KeyKind.OCT_HSM)
    wrapped = azure.vault.wrap(kid, A256KW, Secret(DEK))
    name, version = kid.split("/")[-2:]
    day = timedelta(days=1)
    dates: dict[str, Any] = (
        {"expires_on": stack.clock() - day} if window == "expired" else {"not_before": stack.clock() + day}
    )
    azure.keys[azure.vaults[0]].update_key_properties(name, version, **dates)
    with pytest.raises(UnusableKey):
        azure.vault.wrap(kid, A256KW, Secret(DEK))
    assert azure.vault.unwrap(kid, A256KW, wrapped).reveal() == DEK


def test_an_elliptic_key_cannot_be_a_kek(azure: AzureBackend) -> None:
    key = azure.keys[azure.vaults[0]].create_ec_key(azure.key_name("kek"))
    with pytest.raises(UnusableKey):
        azure.vault.version(Kid(str(key.id)))


type Answer = Callable[[dict[str, str]], object]


@pytest.mark.parametrize(
    ("forged", "error"),
    [
        (lambda answer: answer | {"kid": answer["kid"][:-1] + "x"}, Integrity),
        (lambda answer: answer | {"value": "AAAA"}, Integrity),
        (lambda answer: answer | {"value": "*"}, Transient),
        (lambda answer: {"kid": answer["kid"]}, Transient),
        (lambda answer: list(answer), Transient),
    ],
    ids=["another key", "too short", "not base64url", "no value", "no object"],
)
def test_an_answer_that_is_not_the_one_asked_for_is_never_taken_for_a_wrapped_dek(
    azure: AzureBackend, monkeypatch: pytest.MonkeyPatch, forged: Answer, error: type[AtpError]
) -> None:
    kid = azure.new_kek("kek", kind=KeyKind.OCT_HSM)
    keys = azure.keys[azure.vaults[0]]
    send = keys.send_request

    def sent(*args: Any, **options: Any) -> Any:
        response = send(*args, **options)
        answer = forged(response.json())
        monkeypatch.setattr(response, "json", lambda: answer)
        return response

    monkeypatch.setattr(keys, "send_request", sent)
    with pytest.raises(error):
        azure.vault.wrap(kid, A256KW, Secret(DEK))
