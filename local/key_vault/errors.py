"""Refusals in the service's own words.

Clients tell errors apart by status and code, people by the message, so both are kept as the service gives them.
Source: https://learn.microsoft.com/azure/key-vault/general/rest-error-codes and answers quoted in public issues of the
Azure SDKs.
"""

import math
from collections.abc import Mapping
from datetime import timedelta

from local.key_vault.wire import JsonObject


class VaultError(Exception):
    """A request that the vault refuses; `status` and `body` are what the client sees."""

    def __init__(
        self, status: int, code: str, message: str, inner: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.inner = inner
        self.headers = headers or {}

    @property
    def body(self) -> JsonObject:
        """The JSON body of the answer."""
        error: dict[str, str | dict[str, str]] = {"code": self.code, "message": str(self)}
        if self.inner:
            error["innererror"] = {"code": self.inner}
        return {"error": error}


def unauthorized(authority: str) -> VaultError:
    """The challenge that tells a client where to get a token, and for what."""
    challenge = f'Bearer authorization="{authority}", resource="https://vault.azure.net"'
    return VaultError(
        401,
        "Unauthorized",
        "AKV10000: Request is missing a Bearer or PoP token.",
        headers={"WWW-Authenticate": challenge},
    )


def bad_parameter(message: str) -> VaultError:
    """The request is malformed, whoever asks and whenever."""
    return VaultError(400, "BadParameter", message)


def invalid_property(name: str) -> VaultError:
    """A property of the body is missing, of the wrong type or out of range."""
    return bad_parameter(f"Property {name} has invalid value")


def forbidden(message: str, inner: str) -> VaultError:
    """The object exists, and its state or its allowed operations say no."""
    return VaultError(403, "Forbidden", message, inner)


def not_found(kind: str, name: str, version: str | None = None) -> VaultError:
    """No such object, or no such version of it."""
    full_name = f"{name}/{version}" if version else name
    return VaultError(
        404,
        f"{kind.title()}NotFound",
        f"A {kind} with (name/id) {full_name} was not found in this key vault. If you recently deleted this {kind} "
        "you may be able to recover it using the correct recovery command.",
    )


def deleted_not_found(kind: str, name: str) -> VaultError:
    """Nothing of that name waits for its purge."""
    return VaultError(404, f"{kind.title()}NotFound", f"Deleted {kind.title()} not found: {name}")


def name_is_deleted(kind: str, name: str) -> VaultError:
    """The name belongs to a soft-deleted object until that is recovered or purged."""
    return VaultError(
        409,
        "Conflict",
        f"{kind.title()} {name} is currently in a deleted but recoverable state, and its name cannot be reused; in "
        f"this state, the {kind} can only be recovered or purged.",
        "ObjectIsDeletedButRecoverable",
    )


def belongs_to_certificate(kind: str, name: str) -> VaultError:
    """A key or secret that was made with a certificate lives and dies with it."""
    return VaultError(
        403,
        "Forbidden",
        f"The operation is not allowed on {kind} {name}, since it is associated with a certificate. Please use the "
        "certificate operations instead.",
    )


def name_is_taken(kind: str, name: str) -> VaultError:
    """A certificate of that name would need a key and a secret that belong to somebody else."""
    return VaultError(409, "Conflict", f"There is already a {kind} {name} that belongs to no certificate.")


def name_is_in_use(kind: str, name: str) -> VaultError:
    """Recovery would overwrite a living object."""
    return VaultError(409, "Conflict", f"{kind.title()} {name} already exists.")


def throttled(retry_after: timedelta | None) -> VaultError:
    """A quota is used up. The real service names no waiting time; `retry_after` adds one."""
    headers = {} if retry_after is None else {"Retry-After": str(max(1, math.ceil(retry_after.total_seconds())))}
    return VaultError(
        429,
        "Throttled",
        "Request was not processed because too many requests were received. Reason: VaultRequestTypeLimitReached",
        headers=headers,
    )


_INJECTED_CODES = {401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 409: "Conflict", 503: "ServiceUnavailable"}


def injected(status: int) -> VaultError:
    """The answer of a fault rule."""
    if status == 429:
        return throttled(None)
    code = _INJECTED_CODES.get(status, "InternalServerError" if status >= 500 else "BadParameter")
    return VaultError(status, code, "This answer was asked for by a fault rule.")
