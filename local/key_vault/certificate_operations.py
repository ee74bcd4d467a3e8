"""Operations on certificates. Each also shows as a key and a secret of its name, marked as managed.

Source: https://learn.microsoft.com/rest/api/keyvault/certificates/operation-groups
"""

import asyncio
import base64
import hashlib
import uuid
from concurrent.futures import Executor
from typing import Any

from aiohttp import web

from local.key_vault import certificate_policy
from local.key_vault.body import Body
from local.key_vault.errors import bad_parameter
from local.key_vault.inventory import Inventory, attributes, object_name, object_version, unix
from local.key_vault.store import Store, Stored
from local.key_vault.versions import CertificateVersion, Change, KeyVersion, Operation, SecretVersion
from local.key_vault.wire import Json, JsonObject, to_base64url
from shared.clock import Clock


class CertificateOperations:
    """The certificates of one vault. Keys are made in `pool`, everything else happens on the event loop."""

    def __init__(self, store: Store, base_url: str, clock: Clock, pool: Executor) -> None:
        self._store = store
        self._base_url = base_url
        self._clock = clock
        self._pool = pool
        self.inventory = Inventory(store.certificates, base_url, clock, self._bundle, "id")

    async def create(self, request: web.Request) -> JsonObject:
        """A new certificate, or a new version of the one of that name, issued before the answer says "in progress"."""
        name = object_name(request)
        body = Body.parse(await request.read())
        change = Change.parse(body)
        if change.nbf is not None or change.exp is not None:
            raise bad_parameter("The dates of a certificate are those of its policy.")
        now = self._clock()
        living = self._store.certificates.find(name)
        previous = self._store.certificates.policy(name) if living else None
        policy = certificate_policy.checked(body.part("policy"), unix(now), previous)
        made = await asyncio.get_running_loop().run_in_executor(
            self._pool, lambda: certificate_policy.issue(policy, now)
        )
        version = uuid.uuid4().hex
        content_type = Body(policy).part("secret_props").text("contentType")
        when = unix(now)
        dates: dict[str, Any] = {
            "id": version,
            "created": when,
            "updated": when,
            "nbf": unix(made.nbf),
            "exp": unix(made.exp),
        }
        certificate = CertificateVersion(**dates, cer=made.cer).changed(change, when)
        key = KeyVersion(
            **dates,
            enabled=certificate.enabled,
            managed=True,
            shape=certificate_policy.key_shape(policy),
            key_ops=(Operation.SIGN, Operation.VERIFY),
            secret=made.key,
        )
        secret = SecretVersion(
            **dates, enabled=certificate.enabled, managed=True, value=made.bundle, content_type=content_type
        )
        stored = self._store.add_certificate(name, certificate, key, secret, policy, when)
        return self._operation(stored, "inProgress")

    async def pending(self, request: web.Request) -> JsonObject:
        """How far the newest creation is: it is done."""
        return self._operation(self._store.certificates.get(object_name(request)), "completed")

    async def get(self, request: web.Request) -> JsonObject:
        """A version; the current one with the policy."""
        version = object_version(request)
        stored = self._store.certificates.get(object_name(request), version)
        return self._bundle(stored) if version else {**self._bundle(stored), "policy": self._policy(stored.name)}

    async def update(self, request: web.Request) -> JsonObject:
        """Change attributes or tags of a version."""
        change = Change.parse(Body.parse(await request.read()))
        now = unix(self._clock())
        return self._bundle(self._store.change_certificate(object_name(request), object_version(request), change, now))

    async def get_policy(self, request: web.Request) -> JsonObject:
        """The policy by which the next version is made."""
        return self._policy(object_name(request))

    async def patch_policy(self, request: web.Request) -> JsonObject:
        """Change what the request names of the policy."""
        name = object_name(request)
        body = Body.parse(await request.read())
        previous = self._store.certificates.policy(name)
        self._store.certificates.set_policy(name, certificate_policy.checked(body, unix(self._clock()), previous))
        return self._policy(name)

    def _policy(self, name: str) -> JsonObject:
        return {"id": f"{self.inventory.identifier(name)}/policy", **(self._store.certificates.policy(name) or {})}

    def _operation(self, stored: Stored[CertificateVersion], status: str) -> JsonObject:
        identifier = self.inventory.identifier(stored.name)
        return {
            "id": f"{identifier}/pending",
            "issuer": {"name": "Self"},
            "cancellation_requested": False,
            "status": status,
            "request_id": stored.version.id,
            **({"target": identifier} if status == "completed" else {}),
        }

    def _bundle(self, stored: Stored[CertificateVersion]) -> dict[str, Json]:
        version = stored.version
        thumbprint = hashlib.sha1(base64.b64decode(version.cer)).digest()  # noqa: S324 - x5t, RFC 7517 section 4.8
        return {
            "id": self.inventory.identifier(stored.name, version.id),
            "kid": f"{self._base_url}/keys/{stored.name}/{version.id}",
            "sid": f"{self._base_url}/secrets/{stored.name}/{version.id}",
            "x5t": to_base64url(thumbprint),
            "cer": version.cer,
            "attributes": attributes(version),
            "tags": version.tags,
        }
