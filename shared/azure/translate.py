"""What Azure SDKs raise and answer, turned into ours in one place."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from azure.core import MatchConditions
from azure.core.exceptions import (
    AzureError,
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
)
from azure.core.pipeline.transport import RequestsTransport
from requests import Session
from requests.adapters import HTTPAdapter

from shared.errors import Conflict, Throttled, Transient

IF_UNCHANGED: Final = MatchConditions.IfNotModified
LAST_DATE: Final = datetime.max.replace(tzinfo=UTC)

# An outage is waited out by putting the message back, so the SDK itself only bridges a hiccup.
RETRIES: Final = {
    "retry_total": 2,
    "retry_backoff_factor": 0.2,
    "retry_backoff_max": 2,
}
TIMEOUTS: Final = {"connection_timeout": 5, "read_timeout": 20}
"""Seconds. The transport must know them: a client that is given a transport ignores its own."""
_CONFLICT: Final = frozenset({409, 412})
_NOT_SET_UP: Final = frozenset({"TableNotFound", "QueueNotFound", "ContainerNotFound"})


def date_of(said: object) -> datetime | None:
    """A date of a vault. One behind the year 9999, which SDKs leave as the number that it is, is the last there is."""
    return said if said is None or isinstance(said, datetime) else LAST_DATE


def pooled_transport(ca: Path | None = None) -> RequestsTransport:
    """One pool of connections, large enough for every thread of a worker; trusts `ca` instead of the public CAs."""
    session = Session()
    session.mount("https://", HTTPAdapter(pool_maxsize=64))
    session.mount("http://", HTTPAdapter(pool_maxsize=64))
    return RequestsTransport(session=session, connection_verify=str(ca) if ca else True, **TIMEOUTS)


@contextmanager
def translated(what: str) -> Generator[None]:
    """Run SDK calls; their errors come out as Conflict, Transient or Throttled, saying `what` was tried.

    A missing row or blob is left to the caller; a request that the service calls wrong is a bug of ours. Refused access
    and missing tables count as Transient: they get repaired, a lost message does not.
    """
    try:
        yield
    except ResourceNotFoundError as error:
        if getattr(error, "error_code", None) in _NOT_SET_UP:
            raise Transient(f"{what}: the table, queue or container does not exist", status=404) from error
        raise
    except (ResourceExistsError, ResourceModifiedError) as error:
        raise Conflict(f"{what}: changed meanwhile") from error
    except HttpResponseError as error:
        status = error.status_code
        if getattr(error, "error_code", None) in _NOT_SET_UP:  # as a transaction says it
            raise Transient(f"{what}: the table, queue or container does not exist", status=404) from error
        if status in _CONFLICT:
            raise Conflict(f"{what}: changed meanwhile") from error
        if status == 429:
            raise Throttled(f"{what}: too many requests", status=status, retry_after=_retry_after(error)) from error
        if status is None or status in (401, 403, 408) or status >= 500:
            raise Transient(f"{what}: no success", status=status) from error
        raise RuntimeError(f"{what}: the service calls the request wrong (HTTP {status})") from error
    except AzureError as error:  # no answer: cannot connect, connection lost, timed out, no token
        raise Transient(f"{what}: no answer", cause=type(error).__name__) from error


def _retry_after(error: HttpResponseError) -> float | None:
    """The seconds that the service wants to be left alone for, if it says so; a date is not taken for an answer."""
    headers: Mapping[str, str] = getattr(error.response, "headers", None) or {}
    stated = headers.get("Retry-After", "")
    return float(stated) if stated.isascii() and stated.isdigit() else None
