"""Masking what the jobs really say: no record and hardly a log line has anything taken from it, and no DEK gets out."""

import base64
import json
import logging

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rotation.message import Action, KekAction, Misfit
from shared.errors import InvalidMessage
from shared.log import MaskingFormatter, masked_copy
from shared.redact import KNOWN_SECRETS, find, mask
from shared.secret import Secret
from shared.values import Phase
from tests.conftest import Tally
from tests.jobs.platform import Platform
from tests.simulator import SimQueues

pytestmark = pytest.mark.usefixtures("few_shards")


@pytest.fixture
def platform() -> Platform:
    """A life: tenants, rotations of DEKs and KEK, refusals, an outage, an off-boarding."""
    platform = Platform()
    for number in range(6):
        platform.add_tenant(f"tenant-{number}", versions=2)
        platform.write(f"tenant-{number}")
    platform.ask(Action.ROTATE_DEK, "nobody", "r1")
    platform.drop("rotation-jobs", '{"schema": "rotation-job/1", "action": "dek.rotate"}')
    platform.drop("rotation-jobs", "no JSON at all")
    platform.order(KekAction.ROTATE)
    platform.run_until(Phase.CLOSED)
    platform.ask(Action.OFFBOARD_TENANT, "tenant-1", "r2")
    platform.settle()
    platform.start_plan()
    platform.settle()
    platform.read_and_write()
    return platform


def test_no_record_and_at_most_one_log_line_in_a_hundred_has_anything_masked(
    caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest, tally: Tally
) -> None:
    with caplog.at_level(logging.DEBUG):
        platform: Platform = request.getfixturevalue("platform")
    render = MaskingFormatter()._render
    lines = [render(record) for record in caplog.records]
    assert len(lines) > 80
    changed = [line for line in lines if find(line)]
    tally.count(f"log lines of the jobs, {len(changed)} with anything masked", len(lines))
    assert len(changed) <= len(lines) / 100, changed
    records = [record.canonical.decode() for stream in platform.world.streams.values() for record in stream]
    tally.count("audit records of the jobs, none with anything masked", len(records))
    assert len(records) > 30
    assert [record for record in records if find(record)] == []


def test_what_a_foreign_handler_is_given_says_the_same(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        Platform().add_tenant("tenant-1", versions=3)
    render = MaskingFormatter()._render
    for record in caplog.records:
        before, after = json.loads(render(record)), json.loads(render(masked_copy(record)))
        assert {name: str(value) for name, value in before.items()} == {
            name: str(value) for name, value in after.items()
        }


def test_every_dek_that_was_opened_is_known(platform: Platform) -> None:
    known = set(KNOWN_SECRETS.values())
    opened = [value for value in known if len(value) == 32]
    assert len(opened) >= 12
    shown = "\n".join(f"{Secret(value)} {base64.b64encode(value).decode()}" for value in opened[:200])
    assert not any(base64.b64encode(value).decode() in _masked(shown) for value in opened[:200])


KNOWN = Secret(b"a-known-value-that-is-25-b")
JOB = {"schema": "rotation-job/1", "action": "dek.rotate", "tenant": "acme", "reason": "r"}
HUNTER = "hunter2hunter2"
PLANTED = {
    "a number that is a password": ('{"schema": "rotation-job/1", "password": 8203919462}', "8203919462", "field"),
    "a known value in base64": (
        base64.b64encode(json.dumps({"schema": "x", "a": KNOWN.reveal().decode()}).encode()).decode(),
        KNOWN.reveal().decode(),
        "no schema",
    ),
    "a secret in a field with a grammar": (
        json.dumps({**JOB, "actor": f"glpat-{'x1' * 12}"}),
        "x1x1x1x1",
        "a field looks like a secret (field=actor)",
    ),
    "too many secrets": (
        json.dumps({"schema": "rotation-job/1", "a": f"password={HUNTER} " * 2_100}),
        "hunter",
        "large",
    ),
    "no JSON, with a password": (f"password={HUNTER}", "hunter", "not JSON"),
}


@pytest.mark.parametrize(("body", "secret", "reason"), PLANTED.values(), ids=list(PLANTED))
def test_the_letter_of_a_message_with_a_secret_says_what_was_wrong_with_it_before_it_was_masked(
    body: str, secret: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform = Platform()
    send = SimQueues.send
    # As the adapter does.
    monkeypatch.setattr(SimQueues, "send", lambda self, queue, body, *delay: send(self, queue, mask(body), *delay))
    platform.drop("rotation-jobs", body)
    platform.settle()
    (letter,) = platform.world.letters.values()
    (alert,) = (alert for alert in platform.world.alerts.values() if alert.details.get("letter") == letter.id)
    records = [record.canonical.decode() for stream in platform.world.streams.values() for record in stream]
    (record,) = (record for record in records if "message.refused" in record)
    for told in (letter.reason, alert.details["reason"], json.loads(record)["reason"]):
        assert reason in told
    assert secret not in repr((letter, alert, record))
    assert secret not in letter.body
    assert not letter.can_resend


def test_the_name_of_a_letter_is_of_no_use_for_guessing_the_secret_in_it() -> None:
    error = InvalidMessage("a message is not JSON in UTF-8")
    one, other = (Misfit.of(f'{{"password": "{word}"}}'.encode(), error) for word in ("hunter2", "hunter3"))
    assert one == other


@given(st.text(), st.text(max_size=200))
@example("\U0001f511" * 20_000, "x")
@example('password="' * 900, "x")
def test_a_misfit_comes_out_of_a_queue_as_it_went_in(body: str, reason: str) -> None:
    misfit = Misfit.of(body.encode(errors="replace"), InvalidMessage(reason))
    written = misfit.to_json()
    assert len(written.encode()) <= 64 * 1024
    read = Misfit.parse(mask(written).encode())
    assert reason.isprintable() or read is None
    if read:
        assert (read.reason, read.digest) == (misfit.reason, misfit.digest)
        assert misfit.text.startswith(read.text)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"schema": "misfit/1"}',
        b'{"schema": "misfit/1", "reason": 1, "digest": "00", "text": ""}',
        b'{"schema": "misfit/1", "reason": "", "digest": "00", "text": ""}',
        b'{"schema": "misfit/1", "reason": "", "digest": "00000000000000000000000000000000", "text": "\\ud800"}',
        b'{"schema": "misfit/2", "reason": "", "digest": "00000000000000000000000000000000", "text": ""}',
    ],
)
def test_what_is_no_misfit_is_not_taken_for_one(body: bytes) -> None:
    assert Misfit.parse(body) is None


def _masked(text: str) -> str:
    return KNOWN_SECRETS.mask(text)
