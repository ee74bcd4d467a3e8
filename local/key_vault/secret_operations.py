"""Operations on secrets.

Source: https://learn.microsoft.com/rest/api/keyvault/secrets/operation-groups
"""

import uuid
from dataclasses import replace

from aiohttp import web

from local.key_vault.body import Body
from local.key_vault.errors import bad_parameter
from local.key_vault.inventory import Inventory, attributes, managed, object_name, object_version, unix
from local.key_vault.store import Shelf, Stored
from local.key_vault.versions import Change, SecretVersion
from local.key_vault.wire import Json, JsonObject
from shared.clock import Clock

_MAX_VALUE_BYTES = 25 * 1024


class SecretOperations:
    """The secrets of one vault."""

    def __init__(self, shelf: Shelf[SecretVersion], base_url: str, clock: Clock) -> None:
        self._shelf = shelf
        self._clock = clock
        self.inventory = Inventory(shelf, base_url, clock, self._bundle, "id")

    async def set(self, request: web.Request) -> JsonObject:
        """A new secret, or a new version of the secret of that name."""
        name = object_name(request)
        body = Body.parse(await request.read())
        value = body.text("value")
        if len(value.encode()) > _MAX_VALUE_BYTES:
            raise bad_parameter(f"Secret value is longer than the {_MAX_VALUE_BYTES} bytes allowed.")
        now = unix(self._clock())
        version = SecretVersion(
            id=uuid.uuid4().hex,
            created=now,
            updated=now,
            value=value,
            content_type=body.optional_text("contentType"),
        ).changed(Change.parse(body), now)
        return self._with_value(self._shelf.add(name, version, now))

    async def get(self, request: web.Request) -> JsonObject:
        """A version with its value; a 403 when it is disabled."""
        stored = self._shelf.get(object_name(request), object_version(request))
        stored.version.check_read()
        return self._with_value(stored)

    async def update(self, request: web.Request) -> JsonObject:
        """Change attributes, tags or content type of a version; never its value."""
        body = Body.parse(await request.read())
        stored = self._shelf.get(object_name(request), object_version(request))
        version = stored.version.changed(Change.parse(body), unix(self._clock()))
        content_type = body.optional_text("contentType")
        if content_type is not None:
            version = replace(version, content_type=content_type)
        self._shelf.replace(stored.name, version)
        return self._bundle(Stored(stored.name, version))

    def _bundle(self, stored: Stored[SecretVersion]) -> dict[str, Json]:
        version = stored.version
        return {
            "id": self.inventory.identifier(stored.name, version.id),
            "contentType": version.content_type,
            "attributes": attributes(version),
            "tags": version.tags,
            **managed(version),
        }

    def _with_value(self, stored: Stored[SecretVersion]) -> JsonObject:
        return {**self._bundle(stored), "value": stored.version.value}
