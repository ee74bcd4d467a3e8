"""Masking: every encoding of every known value, the shapes of credentials, and nothing else."""

import base64
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.redact import MASK_KNOWN, KnownSecrets, mask

KEYS = st.binary(min_size=16, max_size=40).filter(lambda value: len(set(value)) > 8)
PASSWORDS = st.text(st.characters(min_codepoint=32, codec="utf-8"), min_size=10, max_size=30).filter(
    lambda text: len(set(text)) > 6 and "[REDACTED" not in text
)
# How a key may be written. "urlsafe" and "without padding" are what JOSE does (RFC 7515 section 2).
BINARY: dict[str, Callable[[bytes], str]] = {
    "hexadecimal": bytes.hex,
    "hexadecimal in capitals": lambda value: value.hex().upper(),
    "base64": lambda value: base64.b64encode(value).decode(),
    "base64 without padding": lambda value: base64.b64encode(value).decode().rstrip("="),
    "base64, urlsafe": lambda value: base64.urlsafe_b64encode(value).decode(),
    "base64, urlsafe without padding": lambda value: base64.urlsafe_b64encode(value).decode().rstrip("="),
    "base64 in a URL": lambda value: quote(base64.b64encode(value).decode(), safe=""),
    "repr": repr,
    "repr of a bytearray": lambda value: repr(bytearray(value)),
    "repr of something longer": lambda value: repr(b"key'=\"" + value + b"\";'"),
    "list of numbers": lambda value: str(list(value)),
    "tuple of numbers": lambda value: str(tuple(value)),
    "JSON list": lambda value: json.dumps(list(value)),
    "compact JSON list": lambda value: json.dumps(list(value), separators=(",", ":")),
}
TEXT: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "repr": repr,
    "repr with other quotes": lambda text: repr(f"'\"{text}'"),
    "JSON": json.dumps,
    "JSON in UTF-8": lambda text: json.dumps(text, ensure_ascii=False),
    "JSON in a JSON log line": lambda text: json.dumps(json.dumps({"password": text})),
    "JSON in UTF-8 in a JSON log line": lambda text: json.dumps(json.dumps(text, ensure_ascii=False)),
    "repr in a JSON log line": lambda text: json.dumps(str({"value": text})),
    "in a URL": lambda text: quote(text, safe=""),
    "in a form": quote_plus,
    "in UTF-8 bytes": lambda text: repr(text.encode()),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
}


def known(*values: bytes) -> KnownSecrets:
    secrets = KnownSecrets()
    for value in values:
        secrets.add(value)
    return secrets


@given(value=KEYS)
@pytest.mark.parametrize("write", BINARY.values(), ids=list(BINARY))
def test_a_known_key_is_masked_in_every_encoding(write: Callable[[bytes], str], value: bytes) -> None:
    written = write(value)
    core = written.strip("b'\"[]()").removeprefix("bytearray")
    for text in (written, json.dumps(f"before {written} behind")):
        masked = known(value).mask(text)
        assert MASK_KNOWN in masked
        assert core not in masked


@given(value=KEYS)
def test_nothing_of_an_encoded_key_but_its_quotes_is_left(value: bytes) -> None:
    for name in ("hexadecimal", "base64", "base64 without padding", "base64, urlsafe without padding"):
        assert known(value).mask(BINARY[name](value)) == MASK_KNOWN


@given(text=PASSWORDS)
@pytest.mark.parametrize("write", TEXT.values(), ids=list(TEXT))
def test_a_known_password_is_masked_in_every_quoting(write: Callable[[str], str], text: str) -> None:
    masked = known(text.encode()).mask(write(text))
    assert MASK_KNOWN in masked
    assert text not in masked


@given(before=st.binary(max_size=40), value=KEYS, behind=st.binary(max_size=40))
def test_a_known_key_is_masked_inside_longer_base64_at_any_alignment(
    before: bytes, value: bytes, behind: bytes
) -> None:
    encoded = base64.b64encode(before + value + behind).decode()
    masked = known(value).mask(encoded)
    assert MASK_KNOWN in masked
    # At most the two characters on each side that it shares with its neighbours are left of it.
    left = masked.replace(MASK_KNOWN, "")
    assert len(left) <= len(encoded) - len(value) * 8 // 6 + 2


@given(value=KEYS, text=st.text(max_size=200))
def test_everything_around_a_known_value_stays(value: bytes, text: str) -> None:
    assert known(value).mask(f"{text}|{value.hex()}|{text}") == f"{text}|{MASK_KNOWN}|{text}"


@given(st.text(max_size=300))
def test_a_text_without_secrets_stays_as_it_is(text: str) -> None:
    assert known(b"something quite different").mask(text) == text


def test_a_value_that_begins_another_does_not_hide_its_rest() -> None:
    short, long = b"0123456789", b"0123456789-and-more"
    for order in ((short, long), (long, short)):
        assert known(*order).mask("0123456789-and-more") == MASK_KNOWN


def test_values_too_short_to_be_secrets_are_not_masked() -> None:
    assert known(b"", b"abc", b"1234567").mask("abc 1234567") == "abc 1234567"


def test_the_oldest_values_are_forgotten_and_those_for_ever_are_not() -> None:
    secrets = KnownSecrets(capacity=2)
    secrets.add(b"for ever and ever", for_ever=True)
    for number in range(4):
        secrets.add(f"password number {number}".encode())
    masked = [secrets.mask(f"password number {number}") == MASK_KNOWN for number in range(4)]
    assert masked == [False, False, True, True]
    assert secrets.mask("for ever and ever") == MASK_KNOWN
    assert len(secrets._seen) == 3


def test_forgetting_a_value_does_not_forget_another_that_is_written_the_same() -> None:
    raw = bytes(range(32))
    secrets = KnownSecrets(capacity=2)
    secrets.add(raw)
    secrets.add(raw.hex().encode())
    secrets.add(b"pushes the first one out")
    assert secrets.mask(raw.hex()) == MASK_KNOWN
    secrets.add(b"pushes the second one out")
    assert secrets.mask(raw.hex()) == raw.hex()
    for number in range(4):
        secrets.add(f"one more password {number}".encode())
    assert len(secrets._order) == 2


def test_a_value_added_again_is_known_once() -> None:
    secrets = KnownSecrets(capacity=2)
    for _ in range(5):
        secrets.add(b"the same password")
    assert len(secrets._order) == 1


def test_threads_may_add_and_mask_at_the_same_time() -> None:
    secrets = KnownSecrets(capacity=5)
    secrets.add(b"a value for all threads", for_ever=True)
    together = threading.Barrier(6)

    def work(number: int) -> None:
        together.wait()
        for turn in range(40):
            secrets.add(f"value {turn} of thread {number % 3}".encode())
            assert secrets.mask("a value for all threads") == MASK_KNOWN

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert len(secrets._seen) == 6


# Shapes: what is written, and what must be left. The hyphens keep this file itself free of them.
PEM = "-----BEGIN RSA PRIVATE" + " KEY-----\nMIIEowIBAAKCAQEA\n-----END RSA PRIVATE" + " KEY-----"
JWT = "eyJhbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiJhbGljZSJ9" + ".c2lnbmF0dXJlc2lnbmF0dXJl"
SHAPES: dict[str, tuple[str, str]] = {
    "private key": (f"key: {PEM}.", "key: [REDACTED:private-key]."),
    "private key cut off": (f"key: {PEM[:60]}", "key: [REDACTED:private-key]"),
    "private key in JSON": (json.dumps({"pem": PEM}), '{"pem": "[REDACTED:private-key]"}'),
    "token": (f"got {JWT} back", "got [REDACTED:jwt] back"),
    "bearer": ("Authorization: Bearer abcdefghijklmnop", "Authorization: Bearer [REDACTED:bearer]"),
    "basic": ("Authorization: Basic dXNlcjpwYXNz", "Authorization: Basic [REDACTED:basic]"),
    "SAS": (
        "https://acc.queue.core.windows.net/q?sv=2024&sig=abcdefghijklmnop%3D&se=1",
        "https://acc.queue.core.windows.net/q?sv=2024&sig=[REDACTED:sas]&se=1",
    ),
    "URL": ("postgres://atp:hunter2@db/atp", "postgres://[REDACTED:url-password]@db/atp"),
    "connection string": (
        "DefaultEndpointsProtocol=https;AccountName=acc;AccountKey=abcdef+/==;EndpointSuffix=core",
        "DefaultEndpointsProtocol=https;AccountName=acc;AccountKey=[REDACTED:credential];EndpointSuffix=core",
    ),
    "assignment": ("PASSWORD = hunter2hunter2, ok", "PASSWORD = [REDACTED:credential], ok"),
    "JSON": ('{"client_secret": "hunter2hunter2", "a": 1}', '{"client_secret": "[REDACTED:credential]", "a": 1}'),
    "JSON in a JSON log line": (
        json.dumps({"event": json.dumps({"password": "hunter2hunter2", "a": 1})}),
        json.dumps({"event": json.dumps({"password": "[REDACTED:credential]", "a": 1})}),
    ),
    "a value that ends in a backslash": (
        json.dumps({"password": "hunter2hunter2\\", "a": 1}),
        json.dumps({"password": "[REDACTED:credential]", "a": 1}),
    ),
    "a value with a backslash in JSON in a JSON log line": (
        json.dumps({"event": json.dumps({"password": "hunter\\2hunter2\\", "a": 1})}),
        json.dumps({"event": json.dumps({"password": "[REDACTED:credential]", "a": 1})}),
    ),
    "YAML": ("api-key: x\napi_key: hunter2hunter2\n", "api-key: x\napi_key: [REDACTED:credential]\n"),
}


@pytest.mark.parametrize(("text", "masked"), SHAPES.values(), ids=list(SHAPES))
def test_the_shape_of_a_credential_is_masked_and_what_is_around_it_stays(text: str, masked: str) -> None:
    assert mask(text) == masked


HARMLESS = [
    "https://atp.vault.azure.net/keys/master-kek/0123456789abcdef0123456789abcdef",
    "dek.rotate/acme/v17",
    "sha256:6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "3f2504e0-4f89-11d3-9a0c-0305e82c3301",
    "W/\"datetime'2026-11-20T12%3A30%3A15.25Z'\"",
    "the password was changed",
    "secret: no",
    "2026-11-20T12:30:15.250000Z",
]


@pytest.mark.parametrize("text", HARMLESS)
def test_hashes_ids_and_versions_pass(text: str) -> None:
    assert mask(text) == text


# A private key that is cut off takes all that follows with it, the end of the line included.
PIECES = st.sampled_from(
    [text for name, (text, _) in SHAPES.items() if name != "private key cut off"]
    + [
        "password=",
        "secret: ",
        '"',
        "\\",
        "'",
        "[REDACTED:",
        "[REDACTED:known]",
        "]",
        "://",
        "@",
        ":",
        " ",
        ";",
        "x" * 9,
    ]
)


@given(st.lists(PIECES, max_size=8).map("".join))
@example("password=\\" + SHAPES["bearer"][0])
def test_a_mask_is_never_masked_again(text: str) -> None:
    once = mask(text)
    assert mask(once) == once


@given(
    st.dictionaries(st.sampled_from(["password", "event", "secret", "url"]), st.lists(PIECES, max_size=4).map("".join))
)
def test_a_masked_line_of_json_is_still_json(fields: dict[str, str]) -> None:
    assert json.loads(mask(json.dumps(fields))).keys() == fields.keys()
