"""What is sent to each kind of sink: JSON documents, without any secret that proves who sends them."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from shared.values import Notice, Severity

type Json = str | int | Sequence["Json"] | Mapping[str, "Json"] | None

SCHEMA: Final = "atp-alert/1"
_LONGEST: Final = 250
"""Characters of one text. With _MOST_DETAILS it keeps a card below the 28 KB that Teams takes."""
_MOST_DETAILS: Final = 12
_LONGEST_NAME: Final = 40
_CLIENT: Final = "ATP key rotation"


def generic(notice: Notice) -> Mapping[str, Json]:
    """Everything, flat. `key` and `revision` together are the same for what is sent twice."""
    alert = notice.alert
    return {
        "schema": SCHEMA,
        "event": "resolved" if alert.resolved else "raised",
        "key": notice.key,
        "revision": notice.revision,
        "id": _short(alert.id),
        "severity": alert.severity.value,
        "what": _short(alert.what),
        "subject": _short(alert.subject),
        "owner": _short(alert.owner),
        "next": notice.next,
        "runbook": notice.runbook,
        "raised": _time(alert.raised),
        "resolved": _time(alert.resolved) if alert.resolved else None,
        "resolved_by": _short(alert.resolved_by),
        "details": _details(notice),
    }


def pagerduty(notice: Notice) -> Mapping[str, Json]:
    """An event of the Events API v2, without its routing key.

    https://developer.pagerduty.com/docs/events-api-v2/trigger-events/: `dedup_key` has at most 255 characters,
    `summary` at most 1,024; a trigger with the key of an open alert changes that one, a resolve without one nothing.
    """
    alert = notice.alert
    if alert.resolved:
        return {"event_action": "resolve", "dedup_key": notice.key}
    return {
        "event_action": "trigger",
        "dedup_key": notice.key,
        "client": _CLIENT,
        "payload": {
            "summary": _short(f"{alert.subject}: {alert.what}"),
            "source": _short(alert.subject),
            "severity": _PAGERDUTY_SEVERITIES[alert.severity],
            "timestamp": _time(alert.raised),
            "component": _short(alert.subject),
            "group": _short(alert.owner),
            "class": _short(alert.what),
            "custom_details": {
                "id": _short(alert.id),
                "owner": _short(alert.owner),
                "next": notice.next,
                "runbook": notice.runbook,
                **_details(notice),
            },
        },
    }


def teams(notice: Notice) -> Mapping[str, Json]:
    """A message with one Adaptive Card, as the Workflows trigger "When a Teams webhook request is received" takes it.

    https://learn.microsoft.com/connectors/teams/#microsoft-teams-webhook: `message`, with Adaptive Cards attached.
    https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using: 28 KB at most.
    All texts are text runs, which are shown as they are; the texts of other elements could bring links along.
    """
    alert = notice.alert
    title, color = ("resolved", "Good") if alert.resolved else _TEAMS_TITLES[alert.severity]
    facts: Mapping[str, str] = {
        "subject": alert.subject,
        "owner": alert.owner,
        "next": "" if alert.resolved else notice.next,
        "runbook": "" if alert.resolved else notice.runbook,
        "raised": _time(alert.raised),
        "resolved": _time(alert.resolved) if alert.resolved else "",
        "resolved by": alert.resolved_by,
        **_details(notice),
        "id": alert.id,
    }
    body: list[Json] = [
        _line({"text": f"{title}: ", "weight": "Bolder", "color": color}, {"text": _short(alert.what)}),
        *(
            _line({"text": f"{_short(name)}: ", "weight": "Bolder"}, {"text": _short(value)})
            for name, value in facts.items()
            if value
        ),
    ]
    card: Mapping[str, Json] = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": body,
    }
    return {
        "type": "message",
        "attachments": [
            {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card},
        ],
    }


_PAGERDUTY_SEVERITIES: Final = {Severity.WARNING: "warning", Severity.CRITICAL: "critical"}
_TEAMS_TITLES: Final = {Severity.WARNING: ("warning", "Warning"), Severity.CRITICAL: ("critical", "Attention")}


def _line(*runs: Mapping[str, Json]) -> Mapping[str, Json]:
    inlines: list[Json] = [{"type": "TextRun", **run} for run in runs]
    return {"type": "RichTextBlock", "inlines": inlines}


def _details(notice: Notice) -> Mapping[str, str]:
    details = list(notice.alert.details.items())[:_MOST_DETAILS]
    return {_short(name, _LONGEST_NAME): _short(value) for name, value in details}


def _short(text: str, longest: int = _LONGEST) -> str:
    """The text on one line, without what is not shown, and no longer than a card can have it."""
    plain = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
    return plain if len(plain) <= longest else f"{plain[: longest - 1]}\N{HORIZONTAL ELLIPSIS}"


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
