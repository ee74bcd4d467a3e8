"""The contract of the port `Queues`."""

from datetime import timedelta

import pytest

from tests.adapters.backends import QUEUE, Backend


@pytest.mark.parametrize(
    "body",
    [
        '{"schema": "rotation-job/1"}',
        " Zoë 密钥 🔑 <&\"'>]]> &amp; \t\n trailing \n",
        "{" + "ä" * (20 * 1024) + "}",
        "x" * (64 * 1024),
    ],
    ids=["job", "hard to encode", "40 KB", "the largest"],
)
def test_a_body_arrives_as_it_was_sent(backend: Backend, body: str) -> None:
    backend.queues.send(QUEUE, body)
    assert backend.received() == [body]


@pytest.mark.parametrize("character", ["\0", "\x01", "\x1b", "\ud800", "\ufffe"])
def test_a_character_that_xml_cannot_carry_is_our_own_bug(backend: Backend, character: str) -> None:
    with pytest.raises((ValueError, AssertionError)):
        backend.queues.send(QUEUE, f"before{character}after")
    assert backend.received() == []


def test_a_sent_message_arrives_once(backend: Backend) -> None:
    backend.queues.send(QUEUE, "once")
    assert backend.received() == ["once"]
    assert backend.received() == []


def test_a_delayed_message_is_not_there_before_its_time(backend: Backend) -> None:
    backend.queues.send(QUEUE, "tomorrow", timedelta(days=1))
    backend.queues.send(QUEUE, "now")
    assert backend.received() == ["now"]
    assert backend.received() == []


@pytest.mark.parametrize("delay", [timedelta(milliseconds=100), timedelta(seconds=1)])
def test_a_delayed_message_comes_after_its_delay(backend: Backend, delay: timedelta) -> None:
    backend.queues.send(QUEUE, "soon", delay)
    assert backend.await_message(delay) == "soon"
