"""The route table of the vault, and the seven steps that every request takes."""

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass

from aiohttp import web
from aiohttp.typedefs import Handler

from local.key_vault import admin
from local.key_vault.admin import Switches
from local.key_vault.certificate_operations import CertificateOperations
from local.key_vault.errors import VaultError, bad_parameter, injected, throttled, unauthorized
from local.key_vault.faults import Moment
from local.key_vault.inventory import Inventory
from local.key_vault.key_operations import KeyOperations
from local.key_vault.request_log import RequestLog
from local.key_vault.secret_operations import SecretOperations
from local.key_vault.store import Store
from local.key_vault.throttle import Bucket, Charge, Throttle
from local.key_vault.versions import Operation as Use
from local.key_vault.versions import Version
from local.key_vault.wire import JsonObject
from shared.clock import Clock

_log = logging.getLogger(__name__)
_AUTHORITY = "https://login.microsoftonline.com/00000000-0000-0000-0000-000000000001"

type Price = Callable[[web.Request], Awaitable[Charge]]
type Run = Callable[[web.Request], Awaitable[JsonObject | None]]


@dataclass(frozen=True, slots=True)
class Operation:
    """One row of the route table."""

    kind: str
    """As it is counted."""
    method: str
    path: str
    price: Price
    run: Run
    """Returns the body of the answer, or None for a 204."""
    status: int = 200


class _DroppedError(Exception):
    """A fault rule wants the connection closed without an answer."""


def operations(keys: KeyOperations, secrets: SecretOperations, certificates: CertificateOperations) -> list[Operation]:
    """The route table. Where two rows match a path, the first one wins."""
    create, rotate, use = keys.creation_price, keys.rotation_price, keys.use_price
    key, versioned = "/keys/{name}", "/keys/{name}/{version:[^/]*}"
    secret = "/secrets/{name}"  # noqa: S105 - a path
    return [
        Operation("create-key", "POST", f"{key}/create", create, keys.create),
        Operation("rotate-key", "POST", f"{key}/rotate", rotate, keys.rotate),
        Operation("import-key", "PUT", key, _fixed(Bucket.SETS_AND_IMPORTS), keys.import_key),
        Operation("get-rotation-policy", "GET", f"{key}/rotationpolicy", use, keys.get_policy),
        Operation("set-rotation-policy", "PUT", f"{key}/rotationpolicy", use, keys.put_policy),
        Operation("list-key-versions", "GET", f"{key}/versions", use, keys.inventory.list_versions),
        Operation("get-key", "GET", key, use, keys.get),
        Operation("get-key", "GET", versioned, use, keys.get),
        Operation("update-key", "PATCH", key, use, keys.update),
        Operation("update-key", "PATCH", versioned, use, keys.update),
        Operation("delete-key", "DELETE", key, use, keys.inventory.delete),
        *(Operation(use_of.lower(), "POST", f"{versioned}/{use_of.lower()}", use, keys.use(use_of)) for use_of in Use),
        *_common_operations("key", keys.inventory),
        Operation("set-secret", "PUT", secret, _fixed(Bucket.SETS_AND_IMPORTS), secrets.set),
        Operation("list-secret-versions", "GET", f"{secret}/versions", _OTHER, secrets.inventory.list_versions),
        Operation("get-secret", "GET", secret, _OTHER, secrets.get),
        Operation("get-secret", "GET", f"{secret}/{{version:[^/]*}}", _OTHER, secrets.get),
        Operation("update-secret", "PATCH", secret, _OTHER, secrets.update),
        Operation("update-secret", "PATCH", f"{secret}/{{version:[^/]*}}", _OTHER, secrets.update),
        Operation("delete-secret", "DELETE", secret, _OTHER, secrets.inventory.delete),
        *_common_operations("secret", secrets.inventory),
        *_certificate_operations(certificates),
    ]


def _certificate_operations(certificates: CertificateOperations) -> list[Operation]:
    path = "/certificates/{name}"
    versioned, policy, inventory = f"{path}/{{version:[^/]*}}", f"{path}/policy", certificates.inventory
    return [
        Operation("create-certificate", "POST", f"{path}/create", _OTHER, certificates.create, status=202),
        Operation("get-certificate-operation", "GET", f"{path}/pending", _OTHER, certificates.pending),
        Operation("get-certificate-policy", "GET", policy, _OTHER, certificates.get_policy),
        Operation("update-certificate-policy", "PATCH", policy, _OTHER, certificates.patch_policy),
        Operation("list-certificate-versions", "GET", f"{path}/versions", _OTHER, inventory.list_versions),
        Operation("get-certificate", "GET", path, _OTHER, certificates.get),
        Operation("get-certificate", "GET", versioned, _OTHER, certificates.get),
        Operation("update-certificate", "PATCH", path, _OTHER, certificates.update),
        Operation("update-certificate", "PATCH", versioned, _OTHER, certificates.update),
        Operation("delete-certificate", "DELETE", path, _OTHER, inventory.delete),
        *_common_operations("certificate", inventory),
    ]


def _common_operations[V: Version](kind: str, inventory: Inventory[V]) -> list[Operation]:
    deleted = f"/deleted{kind}s/{{name}}"
    return [
        Operation(f"list-{kind}s", "GET", f"/{kind}s", _OTHER, inventory.list_objects),
        Operation(f"list-deleted-{kind}s", "GET", f"/deleted{kind}s", _OTHER, inventory.list_deleted),
        Operation(f"get-deleted-{kind}", "GET", deleted, _OTHER, inventory.get_deleted),
        Operation(f"purge-{kind}", "DELETE", deleted, _OTHER, inventory.purge),
        Operation(f"recover-{kind}", "POST", f"{deleted}/recover", _OTHER, inventory.recover),
    ]


def _fixed(bucket: Bucket) -> Price:
    async def price(_request: web.Request) -> Charge:
        return Charge(bucket)

    return price


_OTHER = _fixed(Bucket.OTHER)


class Gate:
    """Takes each request through the same seven steps."""

    def __init__(self, switches: Switches, clock: Clock) -> None:
        self._switches = switches
        self._clock = clock
        self._throttle = Throttle()

    def guard(self, operation: Operation) -> Handler:
        """The handler of one row of the route table."""

        async def handle(request: web.Request) -> web.Response:
            # 1. Who asks? The SDKs' first request carries neither token nor body, and is not the one that faults mean.
            scheme, _, token = request.headers.get("Authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not token.strip():
                raise unauthorized(_AUTHORITY)
            # 2. In which dialect?
            if not request.query.get("api-version"):
                raise bad_parameter("api-version must be specified")
            # 3. Faults that strike before anything happens.
            line = f"{request.method} {request.path}"
            await self._strike(Moment.BEFORE, line)
            # 4. The quota.
            await self._admit(operation, request)
            # 5. Count it: from here on the vault does the work.
            self._switches.operations[operation.kind] += 1
            # 6. Do it. What it changed is on disk when this returns.
            response = await _answer(operation, request)
            # 7. Faults that lose the answer.
            await self._strike(Moment.AFTER, line)
            return response

        return handle

    async def _strike(self, moment: Moment, line: str) -> None:
        strike = self._switches.faults.strike(moment, line)
        if strike.latency_ms:
            await asyncio.sleep(strike.latency_ms / 1000)
        if strike.drop:
            raise _DroppedError
        if strike.status is not None:
            raise injected(strike.status)

    async def _admit(self, operation: Operation, request: web.Request) -> None:
        if not self._switches.quota_enabled:
            return
        wait = self._throttle.admit(await operation.price(request), self._clock())
        if wait is not None:
            raise throttled(wait if self._switches.retry_after else None)


async def _answer(operation: Operation, request: web.Request) -> web.Response:
    try:
        body = await operation.run(request)
    except VaultError as refusal:
        return _refused(refusal)
    return web.Response(status=204) if body is None else web.json_response(body, status=operation.status)


def _refused(refusal: VaultError) -> web.Response:
    return web.json_response(refusal.body, status=refusal.status, headers=refusal.headers)


def build(
    store: Store, clock: Clock, base_url: str, pool: Executor, switches: Switches, request_log: RequestLog
) -> web.Application:
    """The vault as an aiohttp application; the caller owns and closes what it passes in."""
    gate = Gate(switches, clock)

    @web.middleware
    async def frame(request: web.Request, handler: Handler) -> web.StreamResponse:
        """Errors in the service's shape, the service's headers, and the line in the log."""
        if request.path.startswith(admin.PREFIX):
            return await _handled(request, handler)
        began = time.perf_counter()
        try:
            response = await _handled(request, handler)
            outcome = str(response.status)
        except _DroppedError:
            outcome = "dropped"
            if request.transport is not None:
                request.transport.abort()
            response = web.Response(status=500)  # aiohttp wants one; there is no connection left to send it on
        switches.throttled += response.status == 429
        response.headers.update(_service_headers(request))
        request_log.write(clock(), request, outcome, (time.perf_counter() - began) * 1000)
        return response

    app = web.Application(middlewares=[frame])
    app.router.add_routes(admin.routes(switches))
    for operation in operations(
        KeyOperations(store.keys, base_url, clock, pool),
        SecretOperations(store.secrets, base_url, clock),
        CertificateOperations(store, base_url, clock, pool),
    ):
        app.router.add_route(operation.method, operation.path, gate.guard(operation))
    return app


async def _handled(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except VaultError as refusal:
        return _refused(refusal)
    except web.HTTPException as refusal:
        return _refused(VaultError(refusal.status, "BadParameter", refusal.reason))
    except _DroppedError:
        raise
    except Exception:  # noqa: BLE001 - a bug of ours is a 500 for one client, not the end of the vault
        _log.exception("request failed", extra={"method": request.method, "path": request.path})
        return _refused(VaultError(500, "InternalServerError", "The vault emulator has a bug; its log has the cause."))


def _service_headers(request: web.Request) -> dict[str, str]:
    headers = {
        "Cache-Control": "no-cache",
        "Pragma": "no-cache",
        "Strict-Transport-Security": "max-age=31536000;includeSubDomains",
        "X-Content-Type-Options": "nosniff",
        "x-ms-keyvault-region": "local",
        "x-ms-keyvault-service-version": "1.9.0.0",
        "x-ms-request-id": str(uuid.uuid4()),
    }
    client_id = request.headers.get("x-ms-client-request-id")
    return headers if client_id is None else {**headers, "x-ms-client-request-id": client_id}
