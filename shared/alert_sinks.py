"""Alert sinks, told over HTTPS: a JSON document each.

A sink's URL may prove who sends, as that of a Teams workflow does, and so does PagerDuty's routing key. Neither is in
any error or log record: errors name the sink, a status, or the kind of failure.
"""

import json
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final, override

from requests import RequestException, Response, Session
from urllib3.exceptions import HTTPError

from shared.errors import Rejected, Throttled, Transient
from shared.in_time import InTime
from shared.ports import AlertSink
from shared.redact.gate import cleaned, ensure_clean
from shared.secret import Secret
from shared.values import Notice, SinkName

MAX_BODY: Final = 28 * 1024
"""Bytes of one document: what Teams takes, and the others take more.
https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using"""
_PATIENCE_S: Final = 5.0
_HEADERS: Final = {"Content-Type": "application/json; charset=utf-8", "User-Agent": "atp-key-rotation"}
_AGAIN: Final = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)


class HttpAlertSink(AlertSink):
    """One sink. A connection for each alert, because alerts are rare."""

    def __init__(
        self,
        name: SinkName,
        url: Secret,
        document: Callable[[Notice], Mapping[str, object]],
        routing_key: Secret | None = None,
        *,
        patience_s: float = _PATIENCE_S,
    ) -> None:
        """`document` makes what is sent; `patience_s` is how long to wait for a connection, and for an answer."""
        self._name = name
        self._url = url
        self._document = document
        self._routing_key = routing_key
        self._patience_s = patience_s
        self._in_time = InTime(most=1)

    @property
    @override
    def name(self) -> SinkName:
        return self._name

    @override
    def send(self, notice: Notice) -> None:
        body = self._body(notice)
        # One answer that does not end would keep the timer from telling the other sinks.
        self._in_time.call(2 * self._patience_s, lambda: self._post(body))

    def _post(self, body: bytes) -> None:
        try:
            with Session() as session:
                # Neither a proxy nor a password is taken from the environment or from ~/.netrc.
                session.trust_env = False
                # A redirected POST becomes a GET, and leads to somebody whom nobody has chosen. What is answered is
                # not read: its status says all.
                with session.post(
                    self._url.reveal().decode(),
                    body,
                    headers=_HEADERS,
                    timeout=self._patience_s,
                    stream=True,
                    allow_redirects=False,
                ) as response:
                    self._ensure_taken(response)
        except (RequestException, HTTPError, OSError) as error:
            # Without the cause: its text names the URL.
            raise Transient("alert sink: no answer", sink=self._name, cause=type(error).__name__) from None

    def _body(self, notice: Notice) -> bytes:
        document = cleaned(self._document(notice))
        assert isinstance(document, dict)  # noqa: S101 - for the type checker
        try:
            ensure_clean(_json(document))
        except ValueError:
            raise Rejected("alert sink: a secret is in what was to be sent", sink=self._name) from None
        if self._routing_key is not None:
            document["routing_key"] = self._routing_key.reveal().decode()
        body = _json(document).encode(errors="replace")
        if len(body) > MAX_BODY:
            raise Rejected("alert sink: too much to be sent", sink=self._name, size=len(body), limit=MAX_BODY)
        return body

    def _ensure_taken(self, response: Response) -> None:
        status = response.status_code
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            stated = response.headers.get("Retry-After", "")
            wait = float(stated) if stated.isascii() and stated.isdigit() else None
            raise Throttled("alert sink: too many requests", sink=self._name, status=status, retry_after=wait)
        if status in _AGAIN or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise Transient("alert sink: no success", sink=self._name, status=status)
        if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            raise Rejected("alert sink: refused", sink=self._name, status=status)


def _json(document: Mapping[str, object]) -> str:
    return json.dumps(document, ensure_ascii=False)
