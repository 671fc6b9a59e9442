"""Desktops, hosts, images and jobs: what runs where, and out of what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Annotated, Final, Literal

from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from broker.domain import errors
from broker.domain.errors import BadRequestError, NotFoundError
from broker.domain.model import (
    Architecture,
    DesktopState,
    Host,
    JobState,
    JobVerb,
    Resources,
)
from broker.domain.placement import HostLoad
from broker.domain.roles import Permission
from broker.domain.settings import HostSettings, ServiceState
from broker.web.api import render
from broker.web.api.host_shapes import HostShape
from broker.web.api.inputs import (
    Body,
    Cpus,
    DiskMib,
    Iops,
    MemoryMib,
    Name,
    NetworkMbit,
    Profile,
    given,
)
from broker.web.api.settings import HostSettingsBody, host_settings
from broker.web.api.shapes import DesktopShape, ImageShape, JobShape
from broker.web.audited import Audited
from broker.web.call import Call
from broker.web.context import Web
from broker.web.lists import Listed, cut, listed, page_query
from broker.web.params import PAGE, TEXT, choice, text
from broker.web.routes import Route

START_LIMIT_MAX = 10_000

HostWish = Literal["up", "draining", "maintenance", "down"]
_SERVICE: Final[Mapping[HostWish, ServiceState]] = {
    "up": ServiceState.OPEN,
    "draining": ServiceState.DRAINING,
    "maintenance": ServiceState.MAINTENANCE,
}

StartLimit = Annotated[int, Meta(ge=1, le=START_LIMIT_MAX)]
Overcommit = Annotated[float, Meta(ge=1, le=100)]


class NewHost(Body, frozen=True, kw_only=True):
    """`start_limit`: desktops that may be on their way up at once."""

    name: Name
    engine: Name
    profile: Profile
    cpus: Cpus
    memory_mib: MemoryMib
    overcommit_cpu: Overcommit = 4.0
    start_limit: StartLimit = 8
    disk_mib: DiskMib = 0
    disk_iops: Iops = 0
    network_mbit: NetworkMbit = 0
    settings: HostSettingsBody | UnsetType = UNSET


class HostChanges(Body, frozen=True, kw_only=True):
    """What is left out stays as it is. With `revision` only if nobody changed the host since.

    state: `down`: an administrator says that the host is lost; the sessions on it end, and what
    ran there is made anew elsewhere. profile: how the host is reached and what it offers; one with
    which its desktops could not be found any more is refused while it has any.
    """

    profile: Profile | UnsetType = UNSET
    revision: Annotated[int, Meta(ge=1)] | UnsetType = UNSET
    state: HostWish | UnsetType = UNSET
    cpus: Cpus | UnsetType = UNSET
    memory_mib: MemoryMib | UnsetType = UNSET
    disk_mib: DiskMib | UnsetType = UNSET
    disk_iops: Iops | UnsetType = UNSET
    network_mbit: NetworkMbit | UnsetType = UNSET
    overcommit_cpu: Overcommit | UnsetType = UNSET
    start_limit: StartLimit | UnsetType = UNSET
    settings: HostSettingsBody | UnsetType = UNSET


def _capacity(body: HostChanges, now: Resources) -> Resources:
    """What the host has once these changes are made."""
    wanted = {name: given(getattr(body, name)) for name in _CAPACITY}
    return replace(now, **{name: value for name, value in wanted.items() if value is not None})


_CAPACITY: Final = ("cpus", "memory_mib", "disk_mib", "disk_iops", "network_mbit")


class Power(Body, frozen=True, kw_only=True):
    on: bool


class Retirement(Body, frozen=True, kw_only=True):
    """`give_up`: also the desktops in which their owners' work lies."""

    give_up: bool = False


class MachinesApi:
    def __init__(self, web_: Web) -> None:
        self._web = web_

    # ------------------------------------------------------------------ desktops

    async def desktops(self, call: Call) -> web.StreamResponse:
        query = page_query(call, "desktops")
        page = await self._web.services.kit.store.desktops.desktops(query)
        shapes = await render.desktops(self._web, page.items)
        return call.answer(listed("desktops", shapes, page.next_after))

    async def desktop(self, call: Call) -> web.StreamResponse:
        desktop = await self._web.services.kit.store.desktops.desktop(call.part("id"))
        if desktop is None:
            raise NotFoundError
        return call.answer((await render.desktops(self._web, [desktop]))[0])

    # ------------------------------------------------------------------ hosts

    async def hosts(self, call: Call) -> web.StreamResponse:
        loads = await self._web.services.kit.store.directory.host_loads()
        silent = await self._web.services.host_silence.known()
        page = cut(loads, page_query(call, "hosts"), lambda load: load.host.name)
        return call.answer(
            listed(
                "hosts",
                [render.host(one, silent.get(one.host.id)) for one in page.items],
                page.next_after,
            )
        )

    async def add_host(self, call: Call) -> web.StreamResponse:
        body: NewHost = call.body
        self._check_profile(body.engine, body.profile)
        host = await self._web.services.directory.add_host(
            name=body.name,
            engine=body.engine,
            profile=body.profile,
            capacity=Resources(
                cpus=body.cpus,
                memory_mib=body.memory_mib,
                disk_mib=body.disk_mib,
                disk_iops=body.disk_iops,
                network_mbit=body.network_mbit,
            ),
            overcommit_cpu=body.overcommit_cpu,
            start_limit=body.start_limit,
            settings=host_settings(body.settings, HostSettings()),
        )
        empty = HostLoad(host=host, used=Resources(cpus=0, memory_mib=0), starting=0)
        return call.answer(render.host(empty), 201)

    def _check_profile(self, engine: str, profile: str) -> None:
        """Raises BadRequestError for an engine that is not here, or a profile that it does not
        understand."""
        profiles = self._web.profiles
        problem = profiles.problem(engine, profile) if profiles else None
        if problem is not None:
            text = f"{problem.field}: {problem.says}"
            raise BadRequestError(text, fields={"field": problem.field})

    async def change_host(self, call: Call) -> web.StreamResponse:
        body: HostChanges = call.body
        ref, profile, revision = call.part("id"), given(body.profile), given(body.revision)
        if profile is not None:
            before = await self._web.services.site.host(ref)
            self._check_profile(before.engine, profile)
            call.remarks["profile"] = {"before": before.profile, "after": profile}
            # so that what is written as the one before is what was replaced
            revision = before.revision if revision is None else revision
        host = await self._web.services.directory.change_host(
            ref,
            revision=revision,
            profile=profile,
            capacity=partial(_capacity, body),
            overcommit_cpu=given(body.overcommit_cpu),
            start_limit=given(body.start_limit),
            settings=partial(host_settings, body.settings),
        )
        await self._move_host(call, host, given(body.state))
        return call.answer(await self._shown(host.id))

    async def power(self, call: Call) -> web.StreamResponse:
        body: Power = call.body
        host = await self._web.services.host_power.ask(
            call.part("id"), on=body.on, actor=call.who.user_id, origin=call.origin
        )
        return call.answer(await self._shown(host.id), 202)

    async def retire(self, call: Call) -> web.StreamResponse:
        body: Retirement = call.body
        host = await self._web.services.host_retirement.retire(
            call.part("id"), give_up=body.give_up, actor=call.who.user_id, origin=call.origin
        )
        return call.answer(await self._shown(host.id))

    async def _shown(self, ref: str) -> HostShape:
        loads = await self._web.services.kit.store.directory.host_loads()
        load = next((one for one in loads if ref in {one.host.id, one.host.name}), None)
        if load is None:
            raise NotFoundError
        silent = await self._web.services.host_silence.known()
        return render.host(load, silent.get(load.host.id))

    async def _move_host(self, call: Call, host: Host, wish: HostWish | None) -> None:
        if wish is None or wish == host.state:
            return
        site, actor, origin = self._web.services.site, call.who.user_id, call.origin
        if wish == "down":
            why = "an administrator says that it is lost"
            await site.set_host_lost(host.id, lost=True, actor=actor, why=why, origin=origin)
            self._web.services.reconciler.wake()
        else:
            await site.set_host_state(host.id, _SERVICE[wish], actor=actor, origin=origin)

    # ------------------------------------------------------------------ images, jobs

    async def images(self, call: Call) -> web.StreamResponse:
        every = await self._web.services.pools.images()
        # names repeat: version 10 comes after version 9
        page = cut(every, page_query(call, "images"), lambda one: f"{one.name}@{one.version:06d}")
        return call.answer(
            listed("images", [render.image(one) for one in page.items], page.next_after)
        )

    async def jobs(self, call: Call) -> web.StreamResponse:
        page = await self._web.services.kit.store.jobs.jobs(page_query(call, "jobs"))
        shapes = await render.jobs(self._web, page.items)
        return call.answer(listed("jobs", shapes, page.next_after))

    async def job(self, call: Call) -> web.StreamResponse:
        job = await self._web.services.kit.store.jobs.job(call.part("id"))
        if job is None:
            raise NotFoundError
        return call.answer((await render.jobs(self._web, [job]))[0])

    def routes(self) -> tuple[Route, ...]:
        return (
            *self._desktop_routes(),
            *self._host_routes(),
            *self._host_turn_routes(),
            *self._other_routes(),
        )

    def _desktop_routes(self) -> tuple[Route, ...]:
        return (
            Route(
                method="GET",
                path="/api/v1/desktops",
                handler=self.desktops,
                need=Permission.READ,
                summary="Desktops, by name",
                answers={200: Listed[DesktopShape]},
                query=(
                    *PAGE,
                    TEXT,
                    text("pool_id", "only of this pool"),
                    text("image_id", "only those made from this version of an image"),
                    text("host_id", "only on this host"),
                    text("endpoint_id", "only of this endpoint"),
                    choice("state", DesktopState, "only in this state"),
                    choice("architecture", Architecture, "only under this architecture"),
                ),
            ),
            Route(
                method="GET",
                path="/api/v1/desktops/{id}",
                handler=self.desktop,
                need=Permission.READ,
                summary="One desktop",
                answers={200: DesktopShape},
                errors=(errors.NotFoundError,),
            ),
        )

    def _host_routes(self) -> tuple[Route, ...]:
        return (
            Route(
                method="GET",
                path="/api/v1/hosts",
                handler=self.hosts,
                need=Permission.READ,
                summary="Hosts with what is on them, by name",
                answers={200: Listed[HostShape]},
                query=(*PAGE, TEXT),
            ),
            Route(
                method="POST",
                path="/api/v1/hosts",
                audit=Audited(action="host.create", about="host_id"),
                handler=self.add_host,
                need=Permission.MANAGE_HOSTS,
                summary="Add a host",
                request=NewHost,
                answers={201: HostShape},
                errors=(errors.AlreadyExistsError,),
            ),
            Route(
                method="PATCH",
                path="/api/v1/hosts/{id}",
                audit=Audited(action="host.change", about="host_id"),
                handler=self.change_host,
                need=Permission.MANAGE_HOSTS,
                summary="Drain a host, empty it, put it back into service, or change its settings, "
                "how it is reached and what it offers",
                request=HostChanges,
                answers={200: HostShape},
                errors=(
                    errors.NotFoundError,
                    errors.ConflictError,
                    errors.HostOccupiedError,
                    errors.IllegalTransitionError,
                ),
            ),
        )

    def _host_turn_routes(self) -> tuple[Route, ...]:
        return (
            Route(
                method="POST",
                path="/api/v1/hosts/{id}/retire",
                audit=Audited(action="host.retire", about="host_id", by_service=True),
                handler=self.retire,
                need=Permission.MANAGE_HOSTS,
                summary="Take a host out for good: it gives up its machines",
                request=Retirement,
                answers={200: HostShape},
                errors=(
                    errors.NotFoundError,
                    errors.ConflictError,
                    errors.HostHoldsWorkError,
                    errors.IllegalTransitionError,
                ),
            ),
            Route(
                method="POST",
                path="/api/v1/hosts/{id}/power",
                audit=Audited(action="host.power", about="host_id"),
                handler=self.power,
                need=Permission.MANAGE_HOSTS,
                summary="Switch a host on or off: it is on its way then",
                request=Power,
                answers={202: HostShape},
                errors=(
                    errors.NotFoundError,
                    errors.ConflictError,
                    errors.IllegalTransitionError,
                    errors.UnsupportedError,
                ),
            ),
        )

    def _other_routes(self) -> tuple[Route, ...]:
        return (
            Route(
                method="GET",
                path="/api/v1/images",
                handler=self.images,
                need=Permission.READ,
                summary="Versions of images, by name",
                answers={200: Listed[ImageShape]},
                query=(*PAGE, TEXT),
            ),
            Route(
                method="GET",
                path="/api/v1/jobs",
                handler=self.jobs,
                need=Permission.READ,
                summary="Engine work, newest first",
                answers={200: Listed[JobShape]},
                query=(
                    *PAGE,
                    choice("state", JobState, "only in this state"),
                    choice("verb", JobVerb, "only of this kind"),
                    text("desktop_id", "only for this desktop"),
                    text("host_id", "only on this host"),
                ),
            ),
            Route(
                method="GET",
                path="/api/v1/jobs/{id}",
                handler=self.job,
                need=Permission.READ,
                summary="One piece of engine work",
                answers={200: JobShape},
                errors=(errors.NotFoundError,),
            ),
        )
