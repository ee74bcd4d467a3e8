"""One POST to a server of the local stack."""

import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Final

PATIENCE_S: Final = 10


def post(url: str, body: bytes, headers: Mapping[str, str]) -> None:
    """OSError unless the answer is a 2xx."""
    request = urllib.request.Request(url, body, dict(headers), method="POST")  # noqa: S310 - loopback
    try:
        urllib.request.urlopen(request, timeout=PATIENCE_S).close()  # noqa: S310 - loopback
    except urllib.error.HTTPError as error:
        error.close()
        raise OSError(f"HTTP {error.code}") from None
