"""The time-stamp authority over HTTP: what it grants, everything that can go wrong, and the one of the local stack."""

import http.client
import socket
import stat
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rfc3161_client import HashAlgorithm, TimestampRequestBuilder, TimeStampResponse, decode_timestamp_response

from local.server_process import ServerStartError
from local.timestamp_authority.client import TimestampAuthorityProcess
from local.timestamp_authority.faults import RETRY_AFTER_S, Fault
from rotation.timestamp import roots_from_pem, verified
from shared.clock import MovableClock
from shared.errors import AtpError, Rejected, Throttled, Transient
from shared.ports import TimestampAuthority
from shared.timestamps import MAX_ANSWER, HttpTimestampAuthority
from tests.dripping import dripping

MESSAGE = b"atp.example/audit\n42\nroot\n"
NOT_OURS = "time-stamp authority: not an answer to our question"
ANOTHER = "time-stamp authority: answered another question"
REFUSED = "time-stamp authority: refused"

FAILURES: dict[Fault, tuple[type[AtpError], str, dict[str, object]]] = {
    Fault.UNAVAILABLE: (Transient, "time-stamp authority: no success", {"status": 503}),
    Fault.BUSY: (
        Throttled,
        "time-stamp authority: too many requests",
        {"status": 429, "retry_after": RETRY_AFTER_S},
    ),
    Fault.FORBIDDEN: (Rejected, REFUSED, {"status": 403}),
    Fault.MOVED: (Rejected, REFUSED, {"status": 302}),
    Fault.DROPPED: (Transient, "time-stamp authority: no answer", {"cause": "ConnectionError"}),
    Fault.CUT: (Transient, "time-stamp authority: no answer", {"cause": "ProtocolError"}),
    Fault.SILENT: (Transient, "time-stamp authority: no answer", {"cause": "ReadTimeout"}),
    Fault.TRICKLING: (Transient, "time-stamp authority: answer too slow", {}),
    Fault.ENDLESS: (Rejected, "time-stamp authority: answer too long", {"limit": MAX_ANSWER}),
    Fault.EMPTY: (Rejected, NOT_OURS, {}),
    Fault.GARBAGE: (Rejected, NOT_OURS, {}),
    Fault.COMPRESSED: (Rejected, NOT_OURS, {}),
    Fault.REJECTION: (Rejected, REFUSED, {"pki_status": 2}),
    Fault.WAITING: (Rejected, REFUSED, {"pki_status": 3}),
    Fault.WRONG_DIGEST: (Rejected, ANOTHER, {}),
    Fault.WRONG_NONCE: (Rejected, ANOTHER, {}),
    Fault.NO_NONCE: (Rejected, ANOTHER, {}),
}
IMPATIENT = {Fault.SILENT, Fault.TRICKLING}
"""Those that are waited out."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("timestamps")


@pytest.fixture(scope="module")
def process(folder: Path) -> Iterator[TimestampAuthorityProcess]:
    with started(folder) as process:
        yield process


@pytest.fixture
def authority(process: TimestampAuthorityProcess) -> Iterator[TimestampAuthority]:
    yield HttpTimestampAuthority(process.url)
    process.heal()


def test_an_authority_whose_headers_never_end_is_not_waited_for() -> None:
    with dripping() as server, pytest.raises(Transient, match="an answer does not end"):
        HttpTimestampAuthority(server.url, patience_s=0.2).stamp(b"message")


def started(folder: Path) -> TimestampAuthorityProcess:
    return TimestampAuthorityProcess.start(folder / "authority", folder / "clock", folder / "authority.log")


def asked(process: TimestampAuthorityProcess, query: bytes, kind: str = "application/timestamp-query") -> bytes:
    """The authority's answer to whatever is sent."""
    connection = http.client.HTTPConnection("127.0.0.1", process.port, timeout=30)
    try:
        connection.request("POST", "/", query, {"Content-Type": kind})
        return connection.getresponse().read()
    finally:
        connection.close()


def test_a_granted_time_stamp_verifies_and_says_the_time_of_the_authority(
    process: TimestampAuthorityProcess, authority: TimestampAuthority, folder: Path
) -> None:
    clock = MovableClock(folder / "clock")
    roots = roots_from_pem(process.roots.read_bytes())
    before = clock().replace(microsecond=0)
    time = verified(authority.stamp(MESSAGE), MESSAGE, roots)
    assert before <= time <= clock()
    clock.move(timedelta(days=4000))
    later = HttpTimestampAuthority(process.url + "/")
    assert before + timedelta(days=4000) <= verified(later.stamp(MESSAGE), MESSAGE, roots) <= clock()


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(message=st.binary(min_size=1, max_size=5_000))
def test_any_message_gets_a_time_stamp_of_its_own(
    process: TimestampAuthorityProcess, authority: TimestampAuthority, message: bytes
) -> None:
    first, second = decoded(authority.stamp(message)), decoded(authority.stamp(message))
    assert first.tst_info.serial_number != second.tst_info.serial_number
    assert first.tst_info.nonce != second.tst_info.nonce
    verified(authority.stamp(message), message, roots_from_pem(process.roots.read_bytes()))


def decoded(response: bytes) -> TimeStampResponse:
    return decode_timestamp_response(response)


def test_every_fault_is_tried() -> None:
    assert FAILURES.keys() == set(Fault)


@pytest.mark.parametrize("fault", FAILURES, ids=lambda fault: fault.value)
def test_a_failing_authority_is_told_apart_by_whether_trying_again_helps_and_works_the_next_time(
    process: TimestampAuthorityProcess, authority: TimestampAuthority, fault: Fault
) -> None:
    kind, text, fields = FAILURES[fault]
    before = process.requests()
    process.fail(fault)
    hasty = HttpTimestampAuthority(process.url, patience_s=0.3) if fault in IMPATIENT else authority
    with pytest.raises(AtpError) as caught:
        hasty.stamp(MESSAGE)
    assert type(caught.value) is kind
    assert (caught.value.message, caught.value.fields) == (text, fields)
    assert authority.stamp(MESSAGE)
    assert process.requests() - before == 2, "the adapter itself tries once"


def test_a_fault_may_last_until_it_is_healed(process: TimestampAuthorityProcess, authority: TimestampAuthority) -> None:
    process.fail(Fault.UNAVAILABLE, times=None)
    for _ in range(3):
        with pytest.raises(Transient):
            authority.stamp(MESSAGE)
    process.heal()
    assert authority.stamp(MESSAGE)


def test_an_authority_that_is_away_is_transient() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(Transient, match="no answer"):
        HttpTimestampAuthority(f"http://127.0.0.1:{port}").stamp(MESSAGE)


def test_an_authority_with_an_unknown_certificate_is_transient(process: TimestampAuthorityProcess) -> None:
    with pytest.raises(Transient, match="SSLError"):
        HttpTimestampAuthority(process.url.replace("http:", "https:")).stamp(MESSAGE)


def test_a_proxy_in_the_environment_is_not_asked(
    authority: TimestampAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert authority.stamp(MESSAGE)


# The authority of the local stack.


def query(message: bytes = MESSAGE, *, certificates: bool = True, algorithm: HashAlgorithm | None = None) -> bytes:
    builder = TimestampRequestBuilder().data(message).hash_algorithm(algorithm or HashAlgorithm.SHA256)
    return builder.cert_request(cert_request=certificates).build().as_bytes()


def test_certificates_come_only_if_they_are_asked_for(process: TimestampAuthorityProcess) -> None:
    for certificates in (True, False):
        response = decoded(asked(process, query(certificates=certificates)))
        assert len(response.signed_data.certificates) == certificates


def test_an_imprint_of_another_kind_is_repeated_as_it_was_sent(process: TimestampAuthorityProcess) -> None:
    response = decoded(asked(process, query(algorithm=HashAlgorithm.SHA512)))
    assert response.tst_info.message_imprint.hash_algorithm.dotted_string == "2.16.840.1.101.3.4.2.3"


@pytest.mark.parametrize(
    "sent",
    [b"", b"hello", query()[:-1], query() + b"\0", query().replace(b"\x04\x20", b"\x04\x1f", 1)],
    ids=["nothing", "text", "cut", "too much", "a digest of the wrong length"],
)
def test_a_malformed_request_is_refused_in_the_words_of_the_protocol(
    process: TimestampAuthorityProcess, sent: bytes
) -> None:
    assert decoded(asked(process, sent)).status == 2


def test_a_request_of_another_media_type_is_not_understood(process: TimestampAuthorityProcess) -> None:
    assert asked(process, query(), "text/plain") == b""


def test_a_restarted_authority_has_the_same_roots_and_keeps_its_key_to_itself(tmp_path: Path) -> None:
    with started(tmp_path) as first:
        token = HttpTimestampAuthority(first.url).stamp(MESSAGE)
        roots = first.roots.read_bytes()
    with started(tmp_path) as second:
        assert second.roots.read_bytes() == roots
        for each in (token, HttpTimestampAuthority(second.url).stamp(MESSAGE)):
            verified(each, MESSAGE, roots_from_pem(roots))
    assert b"PRIVATE" not in roots
    secret = next(path for path in second.roots.parent.iterdir() if b"PRIVATE" in path.read_bytes())
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600


def test_a_folder_is_served_by_one_authority_at_a_time(tmp_path: Path) -> None:
    with started(tmp_path), pytest.raises(ServerStartError, match="another time-stamp authority serves"):
        started(tmp_path)
