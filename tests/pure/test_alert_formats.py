"""What sinks are sent: the documented shapes, within their limits, as plain text."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotation.alert_formats import Json, generic, pagerduty, teams
from rotation.alerting import key_of, notice_of
from shared.alert_sinks import MAX_BODY
from shared.values import Alert, AlertEntry, Severity
from tests.pure.keyrings import NOW

WHAT = "a message could not be processed and waits for an operator"
RUNBOOK = "docs/runbooks/dek-rotation.md#dead-letters"
ALERT = Alert("jobs/1", Severity.CRITICAL, WHAT, "queue/jobs", NOW, {"reason": "[click](https://evil)"}, "sre")
OVER = replace(ALERT, resolved=NOW + timedelta(hours=1), resolved_by="alice")
TIME = f"{NOW:%Y-%m-%dT%H:%M:%SZ}"


def document(form: Callable[..., Mapping[str, Json]], alert: Alert, revision: int = 1) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(json.dumps(form(notice_of(AlertEntry(alert, revision)))))
    return parsed


def test_a_generic_document_says_everything() -> None:
    said = document(generic, ALERT, 7)
    assert said.pop("next") != ""
    assert said == {
        "schema": "atp-alert/1",
        "event": "raised",
        "key": key_of("jobs/1"),
        "revision": 7,
        "id": "jobs/1",
        "severity": "critical",
        "what": WHAT,
        "subject": "queue/jobs",
        "owner": "sre",
        "runbook": RUNBOOK,
        "raised": TIME,
        "resolved": None,
        "resolved_by": "",
        "details": {"reason": "[click](https://evil)"},
    }
    over = document(generic, OVER, 8)
    assert (over["event"], over["resolved_by"]) == ("resolved", "alice")
    assert over["resolved"] == f"{NOW + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}"


@pytest.mark.parametrize(("severity", "name"), [(Severity.CRITICAL, "critical"), (Severity.WARNING, "warning")])
def test_a_trigger_has_the_fields_of_the_events_api(severity: Severity, name: str) -> None:
    said = document(pagerduty, replace(ALERT, severity=severity))
    payload = said.pop("payload")
    assert said == {"event_action": "trigger", "dedup_key": key_of("jobs/1"), "client": "ATP key rotation"}
    details = payload.pop("custom_details")
    assert payload == {
        "summary": f"queue/jobs: {WHAT}",
        "source": "queue/jobs",
        "severity": name,
        "timestamp": TIME,
        "component": "queue/jobs",
        "group": "sre",
        "class": WHAT,
    }
    assert {"id", "owner", "next", "runbook", "reason"} == set(details)


def test_a_resolve_names_the_key_of_the_trigger_and_nothing_else() -> None:
    assert document(pagerduty, OVER, 2) == {"event_action": "resolve", "dedup_key": key_of("jobs/1")}


@pytest.mark.parametrize(
    ("alert", "title", "color"),
    [
        (ALERT, "critical", "Attention"),
        (replace(ALERT, severity=Severity.WARNING), "warning", "Warning"),
        (OVER, "resolved", "Good"),
    ],
)
def test_a_message_for_teams_has_one_adaptive_card(alert: Alert, title: str, color: str) -> None:
    said = document(teams, alert)
    assert set(said) == {"type", "attachments"}
    assert said["type"] == "message"
    (attachment,) = said["attachments"]
    assert set(attachment) == {"contentType", "contentUrl", "content"}
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    card = attachment["content"]
    assert (card["type"], card["version"]) == ("AdaptiveCard", "1.4")
    first = card["body"][0]["inlines"]
    assert (first[0]["text"], first[0]["color"], first[1]["text"]) == (f"{title}: ", color, WHAT)
    shown = " ".join(run["text"] for block in card["body"] for run in block["inlines"])
    assert all(text in shown for text in ("queue/jobs", "sre", "jobs/1", TIME))
    assert (RUNBOOK in shown) is (alert.resolved is None)


def test_no_text_of_a_card_can_become_a_link() -> None:
    """Text blocks and facts are Markdown; text runs are not."""
    assert {kind for kind in kinds(document(teams, ALERT)) if kind != "message"} == {
        "AdaptiveCard",
        "RichTextBlock",
        "TextRun",
    }


def kinds(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        yield from ([value["type"]] if "type" in value else [])
        for each in value.values():
            yield from kinds(each)
    elif isinstance(value, list):
        for each in value:
            yield from kinds(each)


WIDE = "\N{GRINNING FACE}" * 10_000
LARGEST = replace(
    OVER, id=WIDE, what=WIDE, subject=WIDE, owner=WIDE, details={f"{n:02}{WIDE}": WIDE for n in range(40)}
)


@pytest.mark.parametrize("form", [generic, pagerduty, teams])
@pytest.mark.parametrize("over", [None, NOW])
def test_whatever_an_alert_says_its_documents_are_within_the_limits(
    form: Callable[..., Mapping[str, Json]], over: object
) -> None:
    notice = notice_of(AlertEntry(replace(LARGEST, resolved=over, resolved_by=WIDE)))  # type: ignore[arg-type]
    said = form(notice)
    assert len(json.dumps(said, ensure_ascii=False).encode()) <= MAX_BODY
    payload = said.get("payload")
    assert not isinstance(payload, dict) or len(payload["summary"]) <= 1024


@given(st.text(), st.dictionaries(st.text(), st.text()))
def test_every_text_can_be_sent(text: str, details: dict[str, str]) -> None:
    alert = replace(ALERT, id=text, subject=text, details=details)
    for form in (generic, pagerduty, teams):
        json.dumps(form(notice_of(AlertEntry(alert))), ensure_ascii=False).encode()
