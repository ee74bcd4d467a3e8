"""Signed webhooks: the published vector, what a receiver accepts, and what it refuses."""

import base64
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotation.webhook import (
    ID,
    SIGNATURE,
    TIMESTAMP,
    TOLERANCE,
    is_well_formed,
    make_secret,
    previous_version,
    sign,
    verify,
)
from shared.errors import Rejected
from shared.secret import Secret
from shared.values import PREVIOUS_TAG, PREVIOUS_UNTIL_TAG, SecretVersion

# https://github.com/standard-webhooks/standard-webhooks, libraries/go/webhook_test.go, TestWebhookSign
PUBLISHED = Secret(b"whsec_" + b"MfKQ9r8GKYqrTwjU" + b"PD8ILPZIo2LaLaSw")
MESSAGE = "msg_p5jXN8AQM9LWM0D4loKWxJek"
BODY = b'{"test": 2432232314}'
AT = datetime.fromtimestamp(1614265330, UTC)
SIGNED = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

# The same file, TestWebhook: signatures that are none of this secret's, of two versions.
STRANGERS = (
    "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc=",
    "v2,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc=",
)
OTHER = make_secret(bytes(range(32)))


def test_the_published_example_is_signed_as_published() -> None:
    assert sign(MESSAGE, BODY, [PUBLISHED], AT) == {ID: MESSAGE, TIMESTAMP: "1614265330", SIGNATURE: SIGNED}


def headers(**changes: str) -> dict[str, str]:
    """Those of the published example."""
    return {ID: MESSAGE, TIMESTAMP: "1614265330", SIGNATURE: SIGNED} | {
        f"webhook-{name}": value for name, value in changes.items()
    }


def refused(given: dict[str, str], body: bytes = BODY, at: datetime = AT) -> str:
    """Why."""
    with pytest.raises(Rejected) as caught:
        verify(given, body, [PUBLISHED], at)
    return caught.value.message


def test_the_published_example_verifies_whatever_else_it_is_signed_with() -> None:
    verify(headers(), BODY, [PUBLISHED], AT)
    verify(headers(signature=" ".join([*STRANGERS, SIGNED, STRANGERS[0]])), BODY, [PUBLISHED], AT)
    verify(headers(), BODY, [OTHER, PUBLISHED], AT)
    verify({name.title(): value for name, value in headers().items()}, BODY, [PUBLISHED], AT)


# What is wrong with the published example, and how it is refused.
INCOMPLETE = "a webhook without id, time or signature"
LATE = "a webhook of another time"
FORGED = "a webhook that none of the secrets has signed"
WRONG: dict[str, tuple[dict[str, str], str]] = {
    "no id": (headers(id=""), INCOMPLETE),
    "no time": (headers(timestamp=""), INCOMPLETE),
    "no signature": (headers(signature=""), INCOMPLETE),
    "a full stop in the id": (headers(id=f"{MESSAGE}.1"), INCOMPLETE),
    "a blank in the id": (headers(id=f"{MESSAGE} "), INCOMPLETE),
    "a line break behind the time": (headers(timestamp="1614265330\n"), INCOMPLETE),
    "a time with a fraction": (headers(timestamp="1614265330.5"), INCOMPLETE),
    "a time before 1970": (headers(timestamp="-1614265330"), INCOMPLETE),
    "digits of another script": (headers(timestamp="١٦١٤٢٦٥٣٣٠"), INCOMPLETE),
    "a time too long ago": (headers(timestamp="946684800"), LATE),
    "a time far in the future": (headers(timestamp="99999999999"), LATE),
    "another id": (headers(id="msg_2KWPBgLlAfxdpx2AI54pPJ85f4W"), FORGED),
    "another time": (headers(timestamp="1614265331"), FORGED),
    "the same time written otherwise": (headers(timestamp="01614265330"), FORGED),
    "signatures of others": (headers(signature=" ".join(STRANGERS)), FORGED),
    "the signature under another version": (headers(signature=SIGNED.replace("v1", "v1a")), FORGED),
    "the signature without a version": (headers(signature=SIGNED.removeprefix("v1,")), FORGED),
    "the signature without its padding": (headers(signature=SIGNED.rstrip("=")), FORGED),
    "the signature with a character more": (headers(signature=SIGNED + "="), FORGED),
    "something that is not ASCII": (headers(signature=SIGNED + "\udcff ü"), FORGED),
    "nothing but blanks": (headers(signature="   "), FORGED),
}


@pytest.mark.parametrize(("given", "reason"), WRONG.values(), ids=list(WRONG))
def test_what_is_not_as_it_was_signed_is_refused(given: dict[str, str], reason: str) -> None:
    assert refused(given) == reason


def test_another_body_is_refused() -> None:
    assert refused(headers(), BODY + b" ") == FORGED


def test_a_message_without_headers_is_refused() -> None:
    assert refused({}) == INCOMPLETE


def test_nothing_verifies_without_a_secret() -> None:
    with pytest.raises(Rejected):
        verify(headers(), BODY, [], AT)


@pytest.mark.parametrize("direction", [-1, 1])
def test_a_message_is_accepted_for_five_minutes_in_either_direction(direction: int) -> None:
    assert timedelta(minutes=5) == TOLERANCE
    verify(headers(), BODY, [PUBLISHED], AT + direction * TOLERANCE)
    assert refused(headers(), at=AT + direction * (TOLERANCE + timedelta(seconds=1))) == LATE


def test_during_a_rotation_who_has_either_secret_accepts_and_who_has_neither_does_not() -> None:
    given = sign("msg_1", BODY, [OTHER, PUBLISHED], AT)
    assert len(given[SIGNATURE].split(" ")) == 2
    verify(given, BODY, [OTHER], AT)
    verify(given, BODY, [PUBLISHED], AT)
    with pytest.raises(Rejected):
        verify(given, BODY, [make_secret(bytes(range(1, 33)))], AT)


@given(st.binary(max_size=200), st.binary(min_size=24, max_size=64), st.data())
def test_every_message_verifies_and_no_bit_of_it_can_be_changed(body: bytes, key: bytes, data: st.DataObject) -> None:
    secret = make_secret(key)
    given = sign("msg_1", body, [secret], AT)
    verify(given, body, [secret], AT)
    raw = bytearray(base64.b64decode(given[SIGNATURE].removeprefix("v1,")) + body)
    place = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[place // 8] ^= 1 << place % 8
    changed = given | {SIGNATURE: f"v1,{base64.b64encode(raw[:32]).decode()}"}
    with pytest.raises(Rejected):
        verify(changed, bytes(raw[32:]), [secret], AT)


@given(st.binary(min_size=24, max_size=64))
def test_a_secret_that_was_made_is_well_formed(random: bytes) -> None:
    assert is_well_formed(make_secret(random))


def encoded(size: int) -> bytes:
    return base64.b64encode(bytes(range(size)))


MALFORMED: dict[str, bytes] = {
    "nothing": b"",
    "no prefix": encoded(32),
    "another prefix": b"whsk_" + encoded(32),
    "too short": b"whsec_" + encoded(23),
    "too long": b"whsec_" + encoded(65),
    "no padding": b"whsec_" + encoded(32).rstrip(b"="),
    "a line break behind it": b"whsec_" + encoded(32) + b"\n",
    "characters of another alphabet": b"whsec_" + encoded(32)[:-3] + b"-_=",
    "bits that stand for nothing": b"whsec_" + encoded(32)[:-2] + b"9=",
    "the prefix twice": b"whsec_whsec_" + encoded(30),
    "not ASCII": b"whsec_" + "ü".encode() * 20,
}


@pytest.mark.parametrize("value", MALFORMED.values(), ids=list(MALFORMED))
def test_what_is_no_webhook_secret_signs_nothing(value: bytes) -> None:
    assert not is_well_formed(Secret(value))
    with pytest.raises(Rejected):
        sign("msg_1", BODY, [Secret(value)], AT)


@pytest.mark.parametrize("size", [0, 23, 65])
def test_a_secret_of_another_size_is_not_made(size: int) -> None:
    with pytest.raises(ValueError, match="24 to 64 bytes"):
        make_secret(bytes(size))


@pytest.mark.parametrize("message", ["", "a.b", "a b", "ü", "x" * 201])
def test_an_id_that_could_be_read_in_two_ways_is_not_signed(message: str) -> None:
    with pytest.raises(ValueError, match="without a full stop"):
        sign(message, BODY, [OTHER], AT)


def test_nothing_is_sent_without_a_signature() -> None:
    with pytest.raises(ValueError, match="at least one secret"):
        sign("msg_1", BODY, [], AT)


# The tags of the newest version, and which version is valid beside it at AT.
BESIDE: dict[str, tuple[dict[str, str], str]] = {
    "no tags": ({}, ""),
    "no end": ({PREVIOUS_TAG: "old"}, "old"),
    "an end to come": ({PREVIOUS_TAG: "old", PREVIOUS_UNTIL_TAG: "2021-02-25T15:02:11Z"}, "old"),
    "an end that is now": ({PREVIOUS_TAG: "old", PREVIOUS_UNTIL_TAG: "2021-02-25T15:02:10Z"}, ""),
    "an end that has passed": ({PREVIOUS_TAG: "old", PREVIOUS_UNTIL_TAG: "2021-02-25T15:02:09Z"}, ""),
    "an end in another time zone": ({PREVIOUS_TAG: "old", PREVIOUS_UNTIL_TAG: "2021-02-25T16:02:10+01:00"}, ""),
    "an end without a time zone, which is UTC": ({PREVIOUS_TAG: "old", PREVIOUS_UNTIL_TAG: "2021-02-25T15:02:10"}, ""),
    "an end that is no time": ({PREVIOUS_TAG: "old", PREVIOUS_UNTIL_TAG: "soon"}, "old"),
    "an end of nothing": ({PREVIOUS_UNTIL_TAG: "2021-02-25T15:02:11Z"}, ""),
}


@pytest.mark.parametrize(("tags", "version"), BESIDE.values(), ids=list(BESIDE))
def test_the_tags_of_the_newest_version_say_what_is_valid_beside_it(tags: dict[str, str], version: str) -> None:
    newest = SecretVersion("new", enabled=True, created=AT, expires=None, tags=tags)
    assert previous_version(newest, AT) == version
