"""The `/_local/` interface, which no real vault has: faults, counts, quotas. JSON, without a token, loopback only.

POST   /_local/faults   arm a rule (see faults.Rule for its fields); "status" is a number or "drop"
GET    /_local/faults   the rules, with what is left of each
DELETE /_local/faults   disarm all
GET    /_local/counts   {"operations": {kind: number}, "throttled": number}
DELETE /_local/counts   start again from zero
POST   /_local/quota    {"enabled": bool, "retry_after": bool}; what is left out stays; gone at a restart
"""

import ipaddress
from collections import Counter
from dataclasses import dataclass, field

from aiohttp import web

from local.key_vault.body import Body
from local.key_vault.errors import VaultError
from local.key_vault.faults import Faults, Rule

PREFIX = "/_local/"


@dataclass(slots=True)
class Switches:
    """What the admin interface can see and change while the vault runs."""

    quota_enabled: bool
    retry_after: bool = False
    """Whether a 429 says when to come back, which the real service does not."""
    faults: Faults = field(default_factory=Faults)
    operations: Counter[str] = field(default_factory=Counter)
    """Operations that were let through to the vault, by kind, whatever came of them."""
    throttled: int = 0
    """Answers 429, those of fault rules included."""


def routes(switches: Switches) -> list[web.RouteDef]:
    """The admin interface of one vault."""

    async def add_fault(request: web.Request) -> web.Response:
        switches.faults.add(Rule.parse(await _body(request)))
        return web.json_response({}, status=201)

    async def list_faults(request: web.Request) -> web.Response:
        _check_loopback(request)
        return web.json_response({"rules": switches.faults.listing()})

    async def clear_faults(request: web.Request) -> web.Response:
        _check_loopback(request)
        switches.faults.clear()
        return web.Response(status=204)

    async def counts(request: web.Request) -> web.Response:
        _check_loopback(request)
        return web.json_response({"operations": dict(switches.operations), "throttled": switches.throttled})

    async def reset_counts(request: web.Request) -> web.Response:
        _check_loopback(request)
        switches.operations.clear()
        switches.throttled = 0
        return web.Response(status=204)

    async def set_quota(request: web.Request) -> web.Response:
        body = await _body(request)
        enabled, retry_after = body.optional_bool("enabled"), body.optional_bool("retry_after")
        switches.quota_enabled = switches.quota_enabled if enabled is None else enabled
        switches.retry_after = switches.retry_after if retry_after is None else retry_after
        return web.json_response({"enabled": switches.quota_enabled, "retry_after": switches.retry_after})

    return [
        web.post(f"{PREFIX}faults", add_fault),
        web.get(f"{PREFIX}faults", list_faults),
        web.delete(f"{PREFIX}faults", clear_faults),
        web.get(f"{PREFIX}counts", counts),
        web.delete(f"{PREFIX}counts", reset_counts),
        web.post(f"{PREFIX}quota", set_quota),
    ]


async def _body(request: web.Request) -> Body:
    _check_loopback(request)
    return Body.parse(await request.read())


def _check_loopback(request: web.Request) -> None:
    try:
        loopback = ipaddress.ip_address(request.remote or "").is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise VaultError(403, "Forbidden", "The admin interface answers this machine only.", "NotLoopback")
