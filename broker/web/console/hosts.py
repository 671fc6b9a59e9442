"""Hosts: adding one after a look at it, and what each can do."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from broker.domain.errors import EngineError, NotFoundError
from broker.domain.inspection import Abilities
from broker.domain.model import Host
from broker.domain.roles import Permission
from broker.limits import PROFILE_CHARS_MAX
from broker.web.call import Call
from broker.web.console.render import Pages
from broker.web.routes import Route, Surface


class HostPages:
    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    async def add(self, call: Call) -> web.StreamResponse:
        return self._wizard(call, self._engines(call), None)

    async def connection(self, call: Call) -> web.StreamResponse:
        """The same page for a host that there is: its engine, which stays, is the only one."""
        host = await _host(call)
        known = self._engines(call).get(host.engine, ())
        return self._wizard(call, {host.engine: known}, host)

    @staticmethod
    def _engines(call: Call) -> Mapping[str, tuple[str, ...]]:
        profiles = call.web.profiles
        return {} if profiles is None else profiles.names

    def _wizard(
        self, call: Call, engines: Mapping[str, tuple[str, ...]], host: Host | None
    ) -> web.StreamResponse:
        context = {"engines": engines, "host": host, "profile_chars": PROFILE_CHARS_MAX}
        return self._pages.answer(call, "add_host.html", context, here="/hosts")

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
                path="/hosts/{id}/connection",
                handler=self.connection,
                need=Permission.MANAGE_HOSTS,
                summary="Change how a host is reached and what it offers",
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
