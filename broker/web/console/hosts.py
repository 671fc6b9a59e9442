"""Hosts: adding one after a look at it, and what each can do."""

from __future__ import annotations

from aiohttp import web

from broker.domain.errors import EngineError, NotFoundError
from broker.domain.inspection import Abilities
from broker.domain.model import Host
from broker.domain.roles import Permission
from broker.web.call import Call
from broker.web.console.render import Pages
from broker.web.routes import Route, Surface


class HostPages:
    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    async def add(self, call: Call) -> web.StreamResponse:
        profiles = call.web.profiles
        engines = {} if profiles is None else profiles.names
        return self._pages.answer(call, "add_host.html", {"engines": engines}, here="/hosts")

    async def abilities(self, call: Call) -> web.StreamResponse:
        host = await _host(call)
        found: Abilities | None = None
        problem = ""
        try:
            _, found = await call.web.services.host_checks.abilities(host.id)
        except EngineError as error:
            problem = error.detail
        context = {"host": host, "found": found, "problem": problem}
        return self._pages.answer(call, "host_abilities.html", context, here="/hosts")

    def routes(self) -> tuple[Route, ...]:
        return (
            Route(
                method="GET",
                path="/hosts/add",
                handler=self.add,
                need=Permission.MANAGE_HOSTS,
                summary="Add a host",
                surface=Surface.PAGE,
            ),
            Route(
                method="GET",
                path="/hosts/{id}/abilities",
                handler=self.abilities,
                need=Permission.READ,
                summary="What a host can do",
                surface=Surface.PAGE,
            ),
        )


async def _host(call: Call) -> Host:
    ref = call.part("id")
    loads = await call.web.services.kit.store.directory.host_loads()
    for load in loads:
        if load.host.id == ref:
            return load.host
    raise NotFoundError
