"""Route templates of HTTP triggers, matched as ASP.NET does.

Source: learn.microsoft.com/aspnet/core/fundamentals/routing#route-templates. Paths are matched without regard to case;
of several templates the most specific one wins, segment by segment: literal, constrained, free, catch-all.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import unquote

from local.functions_host.config import ConfigError

_CONSTRAINTS: Mapping[str, str] = {
    "int": r"[+-]?\d+",
    "long": r"[+-]?\d+",
    "bool": r"true|false",
    "alpha": r"[a-z]+",
    "guid": r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
}
_PARAMETER = re.compile(r"\{(?P<star>\*{0,2})(?P<name>\w+)(?::(?P<constraint>\w+))?(?P<optional>\?)?\}")


class NoRoute(Exception):
    """No template matches; `allowed` holds the methods that the path does have, if any."""

    def __init__(self, allowed: frozenset[str]) -> None:
        super().__init__("no route")
        self.allowed = allowed


@dataclass(frozen=True)
class Route:
    """One HTTP-triggered function's address."""

    function: str
    methods: frozenset[str]
    """Upper case; empty: all."""
    pattern: re.Pattern[str]
    rank: tuple[int, ...]
    """Per segment; the smallest is the most specific."""

    @classmethod
    def parse(cls, function: str, template: str, methods: Iterable[str]) -> Self:
        """Compile a template such as `keys/{tenant}/{version:int?}`; raises `ConfigError`."""
        pattern = ""
        rank = []
        for segment in filter(None, template.split("/")):
            if "{" not in segment and "}" not in segment:
                pattern += "/" + re.escape(segment)
                rank.append(0)
                continue
            parameter = _PARAMETER.fullmatch(segment)
            if parameter is None or parameter["constraint"] not in {None, *_CONSTRAINTS}:
                raise ConfigError(f"function {function}: {segment} in its route is not supported by this host")
            if parameter["star"]:
                pattern += f"(?:/(?P<{parameter['name']}>.*))?"
                rank.append(3)
                continue
            value = f"/(?P<{parameter['name']}>{_CONSTRAINTS.get(parameter['constraint'], '[^/]+')})"
            pattern += f"(?:{value})?" if parameter["optional"] else value
            rank.append(1 if parameter["constraint"] else 2)
        return cls(
            function, frozenset(method.upper() for method in methods), re.compile(pattern + "/?", re.I), tuple(rank)
        )


class RouteTable:
    """All routes of an app."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes = sorted(routes, key=lambda route: route.rank)

    def match(self, method: str, raw_path: str) -> tuple[str, dict[str, str]]:
        """The function for a request and its route parameters, `raw_path` still percent-encoded; raises `NoRoute`."""
        allowed: set[str] = set()
        for route in self._routes:
            if match := route.pattern.fullmatch(raw_path):
                if not route.methods or method in route.methods:
                    found = {name: unquote(value) for name, value in match.groupdict().items() if value is not None}
                    return route.function, found
                allowed |= route.methods
        raise NoRoute(frozenset(allowed))
