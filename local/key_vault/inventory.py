"""What keys, secrets and certificates have in common: identifiers, attributes, lists in pages, soft delete.

Pages continue after the last name or version seen, so that a list stays complete while objects come and go.
"""

import re
from collections.abc import Callable
from datetime import datetime
from urllib.parse import urlencode

from aiohttp import web

from local.key_vault.errors import bad_parameter, invalid_property
from local.key_vault.store import Shelf, Stored
from local.key_vault.versions import RECOVERABLE_DAYS, Version
from local.key_vault.wire import Json, JsonObject, from_base64url, to_base64url
from shared.clock import Clock

_PAGE = 25
_NAME = re.compile(r"[0-9a-zA-Z-]{1,127}")


def object_name(request: web.Request) -> str:
    """The name in the path; a 400 unless it obeys the service's grammar."""
    name = request.match_info["name"]
    if not _NAME.fullmatch(name):
        raise bad_parameter(f"The request URI contains an invalid name: {name}")
    return name


def object_version(request: web.Request) -> str | None:
    """The version in the path; None means the current one, however the client left it out."""
    return request.match_info.get("version") or None


def unix(now: datetime) -> int:
    """The protocol's whole seconds."""
    return int(now.timestamp())


def attributes(version: Version) -> dict[str, Json]:
    """The attributes that every answer carries; dates that are not set are left out."""
    dates = {"nbf": version.nbf, "exp": version.exp}
    return {
        "enabled": version.enabled,
        **{name: date for name, date in dates.items() if date is not None},
        "created": version.created,
        "updated": version.updated,
        "recoveryLevel": "Recoverable+Purgeable",
        "recoverableDays": RECOVERABLE_DAYS,
    }


def managed(version: Version) -> dict[str, Json]:
    """What tells keys and secrets that belong to a certificate from all others."""
    return {"managed": True} if version.managed else {}


class Inventory[V: Version]:
    """The operations that mean the same for every kind of object.

    `bundle` renders a version as the answer of a GET does, but without what only a GET may tell; `id_property` is what
    the kind calls an identifier in lists.
    """

    def __init__(
        self, shelf: Shelf[V], base_url: str, clock: Clock, bundle: Callable[[Stored[V]], JsonObject], id_property: str
    ) -> None:
        self._shelf = shelf
        self._base_url = base_url
        self._clock = clock
        self._bundle = bundle
        self._id_property = id_property

    def identifier(self, name: str, version: str | None = None) -> str:
        """The full identifier, without a version unless one is given."""
        path = f"{self._shelf.kind.plural}/{name}"
        return f"{self._base_url}/{path}/{version}" if version else f"{self._base_url}/{path}"

    async def list_objects(self, request: web.Request) -> JsonObject:
        """The living objects with the attributes of their current versions."""
        after, limit = _position(request)
        found = self._shelf.page(after, limit + 1, deleted=False)
        return self._page(request, found, limit, [self._item(stored) for stored in found], lambda last: last.name)

    async def list_versions(self, request: web.Request) -> JsonObject:
        """All versions of one object; an empty list when there is no such object."""
        after, limit = _position(request)
        found = self._shelf.versions_page(object_name(request), after, limit + 1)
        items = [self._item(stored, stored.version.id) for stored in found]
        return self._page(request, found, limit, items, lambda last: last.version.id)

    async def list_deleted(self, request: web.Request) -> JsonObject:
        """The soft-deleted objects."""
        self._shelf.purge_due(unix(self._clock()))
        after, limit = _position(request)
        found = self._shelf.page(after, limit + 1, deleted=True)
        items = [{**self._item(stored), **self._deletion(stored)} for stored in found]
        return self._page(request, found, limit, items, lambda last: last.name)

    async def delete(self, request: web.Request) -> JsonObject:
        """Soft-delete an object with all its versions."""
        stored = self._shelf.delete(object_name(request), unix(self._clock()))
        return {**self._bundle(stored), **self._deletion(stored)}

    async def get_deleted(self, request: web.Request) -> JsonObject:
        """A soft-deleted object."""
        stored = self._shelf.get_deleted(object_name(request), unix(self._clock()))
        return {**self._bundle(stored), **self._deletion(stored)}

    async def recover(self, request: web.Request) -> JsonObject:
        """Bring a soft-deleted object back with all its versions."""
        return self._bundle(self._shelf.recover(object_name(request), unix(self._clock())))

    async def purge(self, request: web.Request) -> None:
        """Forget a soft-deleted object for good."""
        self._shelf.purge(object_name(request), unix(self._clock()))

    def _item(self, stored: Stored[V], version: str | None = None) -> dict[str, Json]:
        return {
            self._id_property: self.identifier(stored.name, version),
            "attributes": attributes(stored.version),
            "tags": stored.version.tags,
            **managed(stored.version),
        }

    def _deletion(self, stored: Stored[V]) -> dict[str, Json]:
        return {
            "recoveryId": f"{self._base_url}/deleted{self._shelf.kind.plural}/{stored.name}",
            "deletedDate": stored.deleted,
            "scheduledPurgeDate": stored.scheduled_purge,
        }

    def _page(
        self,
        request: web.Request,
        found: list[Stored[V]],
        limit: int,
        items: list[dict[str, Json]],
        key: Callable[[Stored[V]], str],
    ) -> JsonObject:
        """One page of `items`, rendered from `found`, which holds one more than a page when there is a next one."""
        if len(found) <= limit:
            return {"value": items, "nextLink": None}
        token = to_base64url(key(found[limit - 1]).encode())
        query = urlencode({"api-version": request.query["api-version"], "$skiptoken": token, "maxresults": limit})
        return {"value": items[:limit], "nextLink": f"{self._base_url}{request.path}?{query}"}


def _position(request: web.Request) -> tuple[str, int]:
    """After which name or version the page begins, and how many items it holds."""
    try:
        limit = int(request.query.get("maxresults", _PAGE))
        after = from_base64url(request.query.get("$skiptoken", "")).decode()
    except ValueError:
        raise invalid_property("maxresults or $skiptoken") from None
    if not 1 <= limit <= _PAGE:
        raise invalid_property("maxresults")
    return after, limit
