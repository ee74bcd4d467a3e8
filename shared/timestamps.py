"""The time-stamp authority, asked over HTTP: RFC 3161, section 3.4.

Plain http is allowed. What is sent is a digest and a random number, which tell nobody anything; what comes back is
signed, and about that digest and that number, so that whoever sits on the line can withhold it and cannot forge it.
Many public authorities offer nothing else. TLS, where the authority has it, hides only when we ask.

Who signed, and under which root, is not checked here: whoever relies on the time-stamp has the roots and does
(`rotation.timestamp`).
"""

import time
from http import HTTPStatus
from typing import Final, override

from requests import RequestException, Response, Session
from rfc3161_client import (
    HashAlgorithm,
    PKIStatus,
    TimeStampRequest,
    TimestampRequestBuilder,
    decode_timestamp_response,
)
from urllib3.exceptions import HTTPError

from shared.errors import Rejected, Throttled, Transient
from shared.in_time import InTime
from shared.ports import TimestampAuthority

MAX_ANSWER: Final = 32 * 1024
"""Bytes. A token with its certificates has some 6,000, and must fit into a column of a table, which holds 64 Ki."""
_PATIENCE_S: Final = 20.0
_HEADERS: Final = {
    "Content-Type": "application/timestamp-query",
    "Accept": "application/timestamp-reply",
    "Accept-Encoding": "identity",  # so that the limit is one of what it says
}


class HttpTimestampAuthority(TimestampAuthority):
    """One authority, by its URL; a connection for each question, because questions are hours apart."""

    def __init__(self, url: str, *, patience_s: float = _PATIENCE_S) -> None:
        """`patience_s` is how long to wait for a connection, for a sign of life, and for the whole of an answer."""
        self._url = url
        self._patience_s = patience_s
        self._in_time = InTime(most=1)

    @override
    def stamp(self, message: bytes) -> bytes:
        builder = TimestampRequestBuilder().data(message).hash_algorithm(HashAlgorithm.SHA256)
        request = builder.nonce(nonce=True).cert_request(cert_request=True).build()
        query = request.as_bytes()
        # Headers that do not end would keep the timer that signs.
        answer = self._in_time.call(2 * self._patience_s, lambda: self._ask(query))
        _ensure_granted(request, answer)
        return answer

    def _ask(self, query: bytes) -> bytes:
        deadline = time.monotonic() + self._patience_s
        try:
            with Session() as session:
                # Neither a proxy nor a password is taken from the environment or from ~/.netrc.
                session.trust_env = False
                # A redirected POST becomes a GET, and leads to somebody whom nobody has chosen.
                with session.post(
                    self._url, query, headers=_HEADERS, timeout=self._patience_s, stream=True, allow_redirects=False
                ) as response:
                    _ensure_ok(response)
                    return _content(response, deadline)
        except (RequestException, HTTPError, OSError) as error:  # the last two: while the content is read
            raise Transient("time-stamp authority: no answer", cause=type(error).__name__) from error


def _ensure_ok(response: Response) -> None:
    status = response.status_code
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        stated = response.headers.get("Retry-After", "")
        wait = float(stated) if stated.isascii() and stated.isdigit() else None
        raise Throttled("time-stamp authority: too many requests", status=status, retry_after=wait)
    if status == HTTPStatus.REQUEST_TIMEOUT or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise Transient("time-stamp authority: no success", status=status)
    if status != HTTPStatus.OK:
        raise Rejected("time-stamp authority: refused", status=status)
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise Rejected("time-stamp authority: not an answer to our question")


def _content(response: Response, deadline: float) -> bytes:
    """All of it; neither longer than allowed nor later."""
    content = b""
    while chunk := response.raw.read1(MAX_ANSWER, decode_content=False):
        content += chunk
        if len(content) > MAX_ANSWER:
            raise Rejected("time-stamp authority: answer too long", limit=MAX_ANSWER)
        if time.monotonic() > deadline:
            raise Transient("time-stamp authority: answer too slow")
    return content


def _ensure_granted(request: TimeStampRequest, answer: bytes) -> None:
    """RFC 3161 section 2.2: look at the status first, then at what was signed, then at the nonce."""
    try:
        response = decode_timestamp_response(answer)
        status = response.status
        if status != PKIStatus.GRANTED:
            raise Rejected("time-stamp authority: refused", pki_status=status)
        info = response.tst_info
        imprint, asked = info.message_imprint, request.message_imprint
        same = (imprint.hash_algorithm, imprint.message, info.nonce) == (
            asked.hash_algorithm,
            asked.message,
            request.nonce,
        )
    except ValueError:
        raise Rejected("time-stamp authority: not an answer to our question") from None
    if not same:
        raise Rejected("time-stamp authority: answered another question")
