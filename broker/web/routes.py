"""The table of routes: the one place that says which address exists and who may use it.

The OpenAPI document, the permission check, the body reader and the tests of roles are all made
from it, so none of them can disagree with what is served.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias

from aiohttp import web

from broker.domain.errors import TriviumError
from broker.domain.roles import Permission
from broker.limits import BODY_BYTES_MAX
from broker.web.access import Access, Need
from broker.web.audited import Audited
from broker.web.params import Param

if TYPE_CHECKING:
    from broker.web.call import Call

Handler: TypeAlias = "Callable[[Call], Awaitable[web.StreamResponse]]"

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing."""
_METHODS = frozenset({"GET", "POST", "PATCH", "PUT", "DELETE"})


class Surface(StrEnum):
    """Which headers and which form of errors a route's answers have."""

    API = "api"
    """JSON; listed in OpenAPI"""
    PAGE = "page"
    """HTML of the console; its handlers read their own forms"""
    AGENT = "agent"
    """endpoints' addresses"""
    SYSTEM = "system"
    """health and metrics"""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderParam:
    """A request header that the route looks at, for OpenAPI."""

    name: str
    says: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One method of one address.

    request: the struct of the JSON body, or None; the body is read and checked before the
        handler runs and is then `call.body`.
    upload: the media type of a body that is no JSON; the handler reads it, in pieces.
    answers: status -> struct, or None for an answer without a body of JSON.
    errors: what it may answer beyond what every route may (400, 401, 403, 500, 503).
    socket: the answer is a WebSocket, so the Origin is checked although the method is GET.
    stream: the answer has no end, so there is no HEAD for it.
    audit: how it gets into the audit trail; each route that is not safe names it, no other does.
    """

    method: str
    path: str
    handler: Handler
    need: Need
    summary: str
    request: Any = None
    request_bytes_max: int = BODY_BYTES_MAX
    upload: str = ""
    answers: Mapping[int, Any] = field(default_factory=dict)
    errors: tuple[type[TriviumError], ...] = ()
    query: tuple[Param, ...] = ()
    headers: tuple[HeaderParam, ...] = ()
    surface: Surface = Surface.API
    socket: bool = False
    stream: bool = False
    audit: Audited | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for a route that may not exist."""
        where = f"{self.method} {self.path}"
        if self.method not in _METHODS:
            raise ValueError(f"{where}: methods are {', '.join(sorted(_METHODS))}")
        if not self.path.startswith("/"):
            raise ValueError(f"{where}: a path begins with /")
        if not isinstance(self.need, Access | Permission) and not self.need:
            raise ValueError(f"{where}: a route names what it needs")
        if (self.request is not None or self.upload) and self.method in SAFE_METHODS:
            raise ValueError(f"{where}: a body would be ignored")
        if (self.audit is None) is not (self.method in SAFE_METHODS):
            raise ValueError(f"{where}: what changes something, and only that, names its `audit`")
        if (self.surface is Surface.AGENT) != (self.need is Access.AGENT):
            raise ValueError(f"{where}: agents' addresses need agents, and only they do")

    @property
    def params(self) -> tuple[str, ...]:
        """The names in the path, in order."""
        return tuple(part.split("}")[0].split(":")[0] for part in self.path.split("{")[1:])

    @property
    def template(self) -> str:
        """The path with its names but without their patterns."""
        parts = self.path.split("{")
        return parts[0] + "".join(
            "{" + part.split("}")[0].split(":")[0] + "}" + part.split("}", 1)[1]
            for part in parts[1:]
        )


class RouteTable:
    """Routes by address. Two routes for one method of one address are refused."""

    def __init__(self, routes: Iterable[Route] = ()) -> None:
        self._routes: dict[tuple[str, str], Route] = {}
        for route in routes:
            self.add(route)

    def add(self, route: Route) -> None:
        key = (route.method, route.template)
        if key in self._routes:
            raise ValueError(f"{route.method} {route.path} exists already")
        self._routes[key] = route

    def __iter__(self) -> Iterator[Route]:
        return iter(self._routes.values())

    def __len__(self) -> int:
        return len(self._routes)
