"""Operations on keys, and what each costs of the vault's quotas.

Source: https://learn.microsoft.com/rest/api/keyvault/keys/operation-groups
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import replace

from aiohttp import web

from local.key_vault import algorithms, key_material, rotation_policy
from local.key_vault.body import Body
from local.key_vault.errors import bad_parameter, invalid_property
from local.key_vault.inventory import Inventory, attributes, managed, object_name, object_version, unix
from local.key_vault.store import Shelf, Stored
from local.key_vault.throttle import Bucket, Charge, creation_charge, operation_charge
from local.key_vault.versions import Change, KeyShape, KeyVersion, Operation
from local.key_vault.wire import Json, JsonObject, to_base64url
from shared.clock import Clock

_DEFAULT_OPERATIONS = {
    "RSA": tuple(Operation),
    "EC": (Operation.SIGN, Operation.VERIFY),
    "oct": (Operation.ENCRYPT, Operation.DECRYPT, Operation.WRAP, Operation.UNWRAP),
}
_KNOWN_OPERATIONS = {*Operation, "import", "export"}


class KeyOperations:
    """The keys of one vault. Work on key material runs in `pool`, everything else on the event loop."""

    def __init__(self, shelf: Shelf[KeyVersion], base_url: str, clock: Clock, pool: Executor) -> None:
        self._shelf = shelf
        self._clock = clock
        self._pool = pool
        self.inventory = Inventory(shelf, base_url, clock, self._bundle, "kid")

    async def creation_price(self, request: web.Request) -> Charge:
        """Of the key that the body asks for."""
        return creation_charge(key_material.requested_shape(await _body(request)))

    async def rotation_price(self, request: web.Request) -> Charge:
        """Of one more key like the current version."""
        return creation_charge(self._shelf.get(object_name(request)).version.shape)

    async def use_price(self, request: web.Request) -> Charge:
        """Of the key that the path names; a key that does not exist costs the least."""
        stored = self._shelf.find(object_name(request), object_version(request))
        return Charge(Bucket.KEY_OPERATIONS) if stored is None else operation_charge(stored.version.shape)

    async def create(self, request: web.Request) -> JsonObject:
        """A new key, or a new version of the key of that name."""
        body = await _body(request)
        _refuse_release(body)
        shape = key_material.requested_shape(body)
        key_ops = _key_ops(body) or _DEFAULT_OPERATIONS[shape.kty.family]
        change = Change.parse(body)
        secret = await self._in_pool(lambda: key_material.generate(shape))
        return self._bundle(self._add(object_name(request), shape, secret, key_ops, change))

    async def import_key(self, request: web.Request) -> JsonObject:
        """A key made elsewhere, as a new key or version."""
        body = await _body(request)
        _refuse_release(body)
        jwk = body.part("key")
        to_hsm = body.optional_bool("Hsm") or False
        change = Change.parse(body)
        shape, secret = await self._in_pool(lambda: key_material.imported(jwk, to_hsm=to_hsm))
        key_ops = _key_ops(jwk) or _DEFAULT_OPERATIONS[shape.kty.family]
        return self._bundle(self._add(object_name(request), shape, secret, key_ops, change))

    async def rotate(self, request: web.Request) -> JsonObject:
        """A new version like the current one; its expiry is what the rotation policy says."""
        name = object_name(request)
        current = self._shelf.get(name).version
        secret = await self._in_pool(lambda: key_material.generate(current.shape))
        expires = rotation_policy.expiry(self._shelf.policy(name), unix(self._clock()))
        change = Change(enabled=None, nbf=None, exp=expires, tags=current.tags)
        return self._bundle(self._add(name, current.shape, secret, current.key_ops, change))

    async def get(self, request: web.Request) -> JsonObject:
        """The public part of a version; disabled ones answer too."""
        return self._bundle(self._shelf.get(object_name(request), object_version(request)))

    async def update(self, request: web.Request) -> JsonObject:
        """Change attributes, tags or allowed operations of a version."""
        body = await _body(request)
        stored = self._shelf.get(object_name(request), object_version(request))
        version = stored.version.changed(Change.parse(body), unix(self._clock()))
        key_ops = _key_ops(body)
        if key_ops is not None:
            version = replace(version, key_ops=key_ops)
        self._shelf.replace(stored.name, version)
        return self._bundle(Stored(stored.name, version))

    async def get_policy(self, request: web.Request) -> JsonObject:
        """The rotation policy, or the default one."""
        name = object_name(request)
        policy = self._shelf.policy(name) or rotation_policy.DEFAULT
        return {"id": f"{self.inventory.identifier(name)}/rotationpolicy", **policy}

    async def put_policy(self, request: web.Request) -> JsonObject:
        """Replace the rotation policy."""
        name = object_name(request)
        body = await _body(request)
        self._shelf.set_policy(name, rotation_policy.checked(body, unix(self._clock()), self._shelf.policy(name)))
        return await self.get_policy(request)

    def use(self, operation: Operation) -> Callable[[web.Request], Awaitable[JsonObject]]:
        """The handler of one cryptographic operation."""

        async def handle(request: web.Request) -> JsonObject:
            body = await _body(request)
            stored = self._shelf.get(object_name(request), object_version(request))
            version = stored.version
            version.check_use(operation, unix(self._clock()))
            result = await self._in_pool(lambda: _perform(operation, version, body))
            if operation is Operation.VERIFY:
                return {"value": result}
            return {"kid": self.inventory.identifier(stored.name, version.id), "value": result}

        return handle

    def _add(
        self, name: str, shape: KeyShape, secret: str, key_ops: tuple[str, ...], change: Change
    ) -> Stored[KeyVersion]:
        now = unix(self._clock())
        version = KeyVersion(
            id=uuid.uuid4().hex, created=now, updated=now, shape=shape, key_ops=key_ops, secret=secret
        ).changed(change, now)
        return self._shelf.add(name, version, now)

    def _bundle(self, stored: Stored[KeyVersion]) -> JsonObject:
        version = stored.version
        jwk: dict[str, Json] = {
            "kid": self.inventory.identifier(stored.name, version.id),
            **key_material.public_jwk(version.shape, version.secret),
            "key_ops": version.key_ops,
        }
        return {
            "key": jwk,
            "attributes": {**attributes(version), "exportable": False},
            "tags": version.tags,
            **managed(version),
        }

    async def _in_pool[T](self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)


def _perform(operation: Operation, version: KeyVersion, body: Body) -> str | bool:
    key = key_material.load(version.secret)
    algorithm = body.text("alg")
    match operation:
        case Operation.ENCRYPT | Operation.WRAP:
            return to_base64url(algorithms.encrypt(key, algorithm, body.octets("value")))
        case Operation.DECRYPT | Operation.UNWRAP:
            return to_base64url(algorithms.decrypt(key, algorithm, body.octets("value")))
        case Operation.SIGN:
            return to_base64url(algorithms.sign(key, algorithm, body.octets("value")))
        case Operation.VERIFY:
            return algorithms.verify(key, algorithm, body.octets("digest"), body.octets("value"))


def _key_ops(body: Body) -> tuple[str, ...] | None:
    key_ops = body.optional_texts("key_ops")
    if key_ops is not None and not _KNOWN_OPERATIONS.issuperset(key_ops):
        raise invalid_property(body.path("key_ops"))
    return key_ops


def _refuse_release(body: Body) -> None:
    if body.part("attributes").optional_bool("exportable"):
        raise bad_parameter("Exportable keys and secure key release are not emulated")


async def _body(request: web.Request) -> Body:
    return Body.parse(await request.read())
