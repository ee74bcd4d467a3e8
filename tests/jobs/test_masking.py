"""Masking what the jobs really say: no record and hardly a log line has anything taken from it, and no DEK gets out."""

import base64
import json
import logging

import pytest

from rotation.message import Action, KekAction
from shared.log import MaskingFormatter, masked_copy
from shared.redact import KNOWN_SECRETS, find
from shared.secret import Secret
from shared.values import Phase
from tests.jobs.platform import Platform

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
    caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest
) -> None:
    with caplog.at_level(logging.DEBUG):
        platform: Platform = request.getfixturevalue("platform")
    render = MaskingFormatter()._render
    lines = [render(record) for record in caplog.records]
    assert len(lines) > 80
    changed = [line for line in lines if find(line)]
    assert len(changed) <= len(lines) / 100, changed
    records = [record.canonical.decode() for stream in platform.world.streams.values() for record in stream]
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


def _masked(text: str) -> str:
    return KNOWN_SECRETS.mask(text)
