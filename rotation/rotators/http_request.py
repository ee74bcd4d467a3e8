"""One HTTP request to a URL of the catalog, of whose answer only the status counts."""

import re
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlsplit

from requests import RequestException, Session
from urllib3.exceptions import HTTPError

from shared.errors import Transient
from shared.in_time import InTime

URL: Final = re.compile(
    r"(?:https://[A-Za-z0-9.-]{1,253}|http://(?:localhost|127\.0\.0\.1|\[::1\]))(?::[1-9][0-9]{0,4})?"
    r"(?:/[A-Za-z0-9._~/%+-]{0,1000})?"
)
URL_IN_WORDS: Final = "URLs (https; http on loopback) without credentials, query and fragment"
_CONNECT_S: Final = 5.0
_MOST_REQUESTS: Final = 32
"""At once to one host, those included whose answer does not end."""
_HOSTS: Final[dict[str, InTime]] = {}

type StatusOf = Callable[[str, str, Mapping[str, str], bytes | None, float], int]
"""`status_of`, or what stands in for it."""


def status_of(method: str, url: str, headers: Mapping[str, str], body: bytes | None, timeout_s: float) -> int:
    """The status of the answer; Transient if there is none in time. Redirects are not followed."""
    return in_time(host_of(url), timeout_s + _CONNECT_S, lambda: _status_of(method, url, headers, body, timeout_s))


def in_time[T](host: str, limit_s: float, call: Callable[[], T]) -> T:
    """What a request to that host comes to; Transient if it does not end in time."""
    return _HOSTS.setdefault(host, InTime(_MOST_REQUESTS)).call(limit_s, call)


def _status_of(method: str, url: str, headers: Mapping[str, str], body: bytes | None, timeout_s: float) -> int:
    try:
        with Session() as session:
            # Neither a proxy nor a password is taken from the environment or from ~/.netrc.
            session.trust_env = False
            with session.request(
                method,
                url,
                headers=dict(headers),
                data=body,
                timeout=(min(timeout_s, _CONNECT_S), timeout_s),
                stream=True,
                allow_redirects=False,
            ) as response:
                return response.status_code
    except (RequestException, HTTPError, OSError) as error:
        # Without its cause: that one may tell what a header held.
        raise Transient("no answer over HTTP", host=host_of(url), cause=type(error).__name__) from None


def host_of(url: str) -> str:
    """What errors and logs call it: a path can hold what only its receiver is to know."""
    return urlsplit(url).netloc
