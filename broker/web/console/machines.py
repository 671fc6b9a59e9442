"""Desktops, endpoints and jobs: lists with filters, a page at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from broker.domain.model import (
    Architecture,
    Desktop,
    DesktopState,
    Endpoint,
    EndpointKind,
    EndpointState,
    Job,
    JobState,
    JobVerb,
    PoolKind,
)
from broker.domain.roles import Permission
from broker.limits import ENROLMENT_S
from broker.services.drifts import Drifted
from broker.web.call import Call
from broker.web.console.lists import (
    AFTER,
    ARCHITECTURES,
    Filters,
    filter_choice,
    filter_text,
    options,
    pool_options,
)
from broker.web.console.pools import image_words
from broker.web.console.render import Pages
from broker.web.names import GONE
from broker.web.routes import Route, Surface

_DESKTOP_FILTERS: Final = (
    filter_text("text", "part of a name"),
    filter_text("pool_id", "only of this pool"),
    filter_choice("state", DesktopState, "only in this state"),
    filter_choice("architecture", Architecture, "only of this one"),
    filter_text("host_id", "only on this host"),
    filter_text("endpoint_id", "only of this endpoint"),
    AFTER,
)
_ENDPOINT_FILTERS: Final = (
    filter_text("text", "part of a name"),
    filter_choice("kind", EndpointKind, "only of this kind"),
    filter_choice("state", EndpointState, "only in this state"),
    filter_text("pool_id", "only of this pool"),
    filter_text("location", "only at this place"),
    AFTER,
)
_JOB_FILTERS: Final = (
    filter_choice("state", JobState, "only in this state"),
    filter_choice("verb", JobVerb, "only of this kind"),
    AFTER,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DesktopRow:
    """`owner`: a username, or "". `dedicated`: its pool gives desktops for good. `drift`: how its
    machine differs from what it should be, in words. `image`: what it was made from, likewise."""

    desktop: Desktop
    pool: str
    host: str
    endpoint: str
    owner: str
    dedicated: bool
    drift: tuple[str, ...]
    image: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointRow:
    """`pools`: (id, title) of those that the endpoint belongs to."""

    endpoint: Endpoint
    pools: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    job: Job
    desktop: str
    host: str


def drift_of(desktop: Desktop, drifted: Mapping[str, Drifted]) -> tuple[str, ...]:
    """Of this generation only: what is made fresh since is another machine."""
    known = drifted.get(desktop.id)
    if known is None or known.generation != desktop.generation:
        return ()
    return tuple(map(str, known.differences))


async def host_names(call: Call) -> dict[str, str]:
    loads = await call.web.services.kit.store.directory.host_loads()
    return {load.host.id: load.host.name for load in loads}


async def pool_titles(call: Call) -> dict[str, str]:
    return {pool.id: pool.title for pool in await call.web.services.pools.all()}


class MachinePages:
    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    async def desktops(self, call: Call) -> web.StreamResponse:
        filters = Filters.of(call, _DESKTOP_FILTERS)
        page = await call.web.services.kit.store.desktops.desktops(filters.query())
        pools, hosts = await pool_titles(call), await host_names(call)
        names = await call.web.names.learn(
            endpoints=[one.endpoint_id for one in page.items],
            users=[one.owner_id for one in page.items],
        )
        every = await call.web.services.pools.all()
        dedicated = {pool.id for pool in every if pool.kind is PoolKind.DEDICATED}
        drifted = (await call.web.services.drifts.report()).desktops
        by_id = {pool.id: pool for pool in every}
        images = {one.id: one for one in await call.web.services.pools.images()}
        rows = [
            DesktopRow(
                desktop=one,
                pool=pools.get(one.pool_id, "?"),
                host=hosts.get(one.host_id or "", ""),
                endpoint=names.get(one.endpoint_id or "", ""),
                owner=names.get(one.owner_id, GONE) if one.owner_id is not None else "",
                dedicated=one.pool_id in dedicated,
                drift=drift_of(one, drifted),
                image=image_words(one, by_id.get(one.pool_id), images),
            )
            for one in page.items
        ]
        context = {
            **filters.context(page, rows),
            "pools": pool_options(every),
            "states": options(DesktopState),
            "architectures": ARCHITECTURES,
        }
        return self._pages.answer(
            call, "desktops.html", context, here="/desktops", parts=("list",), topics="desktop"
        )

    async def endpoints(self, call: Call) -> web.StreamResponse:
        filters = Filters.of(call, _ENDPOINT_FILTERS)
        page = await call.web.services.kit.store.endpoints.endpoints(filters.query())
        pools = await pool_titles(call)
        rows = [
            EndpointRow(
                endpoint=one,
                pools=tuple((pool_id, pools.get(pool_id, "?")) for pool_id in one.pool_ids),
            )
            for one in page.items
        ]
        context = {
            **filters.context(page, rows),
            "pools": pool_options(await call.web.services.pools.all()),
            "kinds": options(EndpointKind),
            "states": options(EndpointState),
            "enrolment_s": ENROLMENT_S,
        }
        return self._pages.answer(
            call, "endpoints.html", context, here="/endpoints", parts=("list",), topics="endpoint"
        )

    async def jobs(self, call: Call) -> web.StreamResponse:
        filters = Filters.of(call, _JOB_FILTERS)
        page = await call.web.services.kit.store.jobs.jobs(filters.query())
        hosts = await host_names(call)
        names = await call.web.names.learn(desktops=[job.desktop_id for job in page.items])
        rows = [
            JobRow(
                job=job,
                desktop=names.get(job.desktop_id, "?"),
                host=hosts.get(job.host_id, "?"),
            )
            for job in page.items
        ]
        context = {
            **filters.context(page, rows),
            "states": options(JobState),
            "verbs": options(JobVerb),
        }
        return self._pages.answer(
            call, "jobs.html", context, here="/jobs", parts=("list",), topics="host,desktop"
        )

    def routes(self) -> tuple[Route, ...]:
        lists = (
            ("/desktops", self.desktops, "Desktops", _DESKTOP_FILTERS),
            ("/endpoints", self.endpoints, "Endpoints", _ENDPOINT_FILTERS),
            ("/jobs", self.jobs, "Jobs", _JOB_FILTERS),
        )
        return tuple(
            Route(
                method="GET",
                path=path,
                handler=handler,
                need=Permission.READ,
                summary=summary,
                query=query,
                surface=Surface.PAGE,
            )
            for path, handler, summary, query in lists
        )
