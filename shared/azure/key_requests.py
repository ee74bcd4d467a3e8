"""Cryptographic operations of keys, asked of their vaults with patience, and no answer believed unseen.

They are requests to the vault, never work of the SDK's CryptographyClient: that does here whatever it can, and for a
symmetric key, whose value no vault tells, it makes up a random one, wraps with that and forgets it.
"""

import base64
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from azure.core.exceptions import HttpResponseError
from azure.core.pipeline import PipelineResponse
from azure.core.rest import HttpRequest, HttpResponse
from azure.keyvault.keys import KeyClient

from shared.azure.translate import translated
from shared.errors import Integrity, Throttled, Transient
from shared.values import Kid

# A real 429 carries no Retry-After, and the SDK does not repeat such a POST: the pauses are ours. First part of
# https://learn.microsoft.com/azure/key-vault/general/overview-throttling; then the caller puts its job back.
PAUSES_S: Final = (0.5, 1.0, 2.0)
_LONGEST_PAUSE_S: Final = 10.0  # a whole window of the vault's quotas; for longer a job is put back

FORBIDDEN: Final = frozenset({"KeyDisabled", "KeyOperationForbidden", "KeyExpired", "KeyNotYetValid"})
"""Why a vault refuses to use a key that the caller may use."""


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """One operation on one value: `path` is `/keys/<name>/<version>` of the key `kid`."""

    path: str
    kid: Kid
    operation: str  # as the vault spells it in the path
    algorithm: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Patience:
    """Asks a throttled vault again after each of `pauses`, in seconds; without any it raises at once."""

    sleep: Callable[[float], None]
    pauses: tuple[float, ...] = PAUSES_S

    def ask(self, keys: KeyClient, asked: KeyRequest, what: str, ensure_done: Callable[[HttpResponse], None]) -> bytes:
        """What the vault makes of the value; `ensure_done` raises what an answer without success means.

        Transient if the answer is none of a vault, Integrity if it is about another key.
        """
        content = {"alg": asked.algorithm, "value": _to_base64url(asked.value)}
        request = HttpRequest("POST", f"{asked.path}/{asked.operation}", json=content)

        def answer() -> bytes:
            with translated(what):
                response = keys.send_request(request, raw_response_hook=stop_when_throttled)
                ensure_done(response)
                return _result(response, asked)

        return self.until_admitted(answer)

    def until_admitted[T](self, call: Callable[[], T]) -> T:
        """What `call` answers once it is not throttled; Throttled after the last pause, or if told to wait for long."""
        for pause in (*self.pauses, None):
            try:
                return call()
            except Throttled as error:
                stated = error.fields["retry_after"]
                wanted = stated if isinstance(stated, float) else 0.0
                if pause is None or wanted > _LONGEST_PAUSE_S:
                    raise
                jittered = pause * random.uniform(0.8, 1.2)  # noqa: S311 - spreads the load, protects nothing
                self.sleep(max(jittered, wanted))
        raise AssertionError("the last round returns or raises")


def inner_code(error: HttpResponseError) -> str | None:
    """The vault's own reason for a refusal."""
    inner = getattr(error.error, "innererror", None)
    return inner.get("code") if isinstance(inner, Mapping) else None


def stop_when_throttled(response: PipelineResponse[Any, Any]) -> None:
    """A hook that ends a request answered 429: the SDK would wait for as long as a Retry-After says, and try again.

    What it raises is none of the SDK's errors, because those are tried again, too.
    """
    if response.http_response.status_code == 429:
        response.http_response.read()
        with translated("asking a vault"):
            raise HttpResponseError(response=response.http_response)


def _result(response: HttpResponse, asked: KeyRequest) -> bytes:
    """The value in the answer."""
    try:
        answer = response.json()
        used, value = str(answer["kid"]), str(answer["value"])
        result = base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True)
    except (ValueError, KeyError, TypeError):
        raise Transient("a vault's answer cannot be read", kid=asked.kid) from None
    if not used.endswith(asked.path):
        raise Integrity("the vault has used another key than it was asked to", kid=asked.kid, used=used)
    return result


def _to_base64url(octets: bytes) -> str:
    """As RFC 7515 section 2 has it, without padding."""
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
