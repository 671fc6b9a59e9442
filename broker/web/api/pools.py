"""Pools, and the ones that the caller may use."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType, structs

from broker.domain import errors
from broker.domain.images import named
from broker.domain.model import Architecture, LogOff, PoolKind, Resources
from broker.domain.roles import Permission
from broker.domain.settings import PoolSettings
from broker.web.api import render, render_sessions
from broker.web.api.inputs import (
    Body,
    Cpus,
    DiskMib,
    Iops,
    Label,
    MemoryMib,
    Name,
    Names,
    NetworkMbit,
    given,
)
from broker.web.api.settings import PoolSettingsBody, pool_settings
from broker.web.api.shapes import MyPoolShape, MyPoolsShape, PoolShape
from broker.web.audited import Audited
from broker.web.call import Call
from broker.web.context import Web
from broker.web.lists import Listed, cut, listed, page_query
from broker.web.params import PAGE, TEXT
from broker.web.routes import Route

SIZE_MAX = 100_000
"""desktops in one pool"""
GRACE_S_MAX = 30 * 24 * 3600
LEASE_S_MAX = 366 * 24 * 3600

Size = Annotated[int, Meta(ge=0, le=SIZE_MAX)]
GraceS = Annotated[int, Meta(ge=0, le=GRACE_S_MAX)]
LeaseS = Annotated[int, Meta(ge=0, le=LEASE_S_MAX)]


class NewResources(Body, frozen=True, kw_only=True):
    """What a desktop may take at most; 0 for disk and network: not counted."""

    cpus: Cpus
    memory_mib: MemoryMib
    disk_mib: DiskMib = 0
    disk_iops: Iops = 0
    network_mbit: NetworkMbit = 0


class NewPool(Body, frozen=True, kw_only=True):
    """`image` is `name@version`, or `name` for its newest."""

    name: Name
    title: Label = ""
    architecture: Architecture
    kind: PoolKind = PoolKind.FLOATING
    image: Name
    resources: NewResources
    spares_min: Size = 0
    size_max: Size
    log_off: LogOff = LogOff.RESET
    disconnect_grace_s: GraceS = 600
    lease_s: LeaseS = 7 * 24 * 3600
    groups: Names = msgspec.field(default_factory=list)
    settings: PoolSettingsBody | UnsetType = UNSET


class PoolChanges(Body, frozen=True, kw_only=True):
    """What is left out stays as it is. `image` is `name@version`, or `name` for its newest:
    machines are made from it then, and spares that nobody has are renewed a few at a time."""

    title: Label | UnsetType = UNSET
    spares_min: Size | UnsetType = UNSET
    size_max: Size | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    log_off: LogOff | UnsetType = UNSET
    disconnect_grace_s: GraceS | UnsetType = UNSET
    lease_s: LeaseS | UnsetType = UNSET
    groups: Names | UnsetType = UNSET
    resources: NewResources | UnsetType = UNSET
    image: Name | UnsetType = UNSET
    settings: PoolSettingsBody | UnsetType = UNSET


def _resources(body: NewResources) -> Resources:
    return Resources(**structs.asdict(body))


class PoolsApi:
    def __init__(self, web_: Web) -> None:
        self._web = web_

    async def pools(self, call: Call) -> web.StreamResponse:
        every = await self._web.services.pools.all()
        page = cut(every, page_query(call, "pools"), lambda pool: pool.name)
        shapes = await render.pools(self._web, page.items)
        return call.answer(listed("pools", shapes, page.next_after))

    async def pool(self, call: Call) -> web.StreamResponse:
        pool = await self._web.services.pools.find(call.part("id"))
        return call.answer((await render.pools(self._web, [pool]))[0])

    async def add(self, call: Call) -> web.StreamResponse:
        body: NewPool = call.body
        pool = await self._web.services.directory.add_pool(
            name=body.name,
            title=body.title,
            architecture=body.architecture,
            kind=body.kind,
            image=body.image,
            resources=_resources(body.resources),
            spares_min=body.spares_min,
            size_max=body.size_max,
            log_off=body.log_off,
            disconnect_grace_s=body.disconnect_grace_s,
            lease_s=body.lease_s,
            groups=body.groups,
            settings=pool_settings(body.settings, PoolSettings()),
        )
        return call.answer((await render.pools(self._web, [pool]))[0], 201)

    async def change(self, call: Call) -> web.StreamResponse:
        body: PoolChanges = call.body
        self._web.services.pools.forget()
        before = (await self._web.services.pools.find(call.part("id"))).image_id
        pool = await self._web.services.directory.change_pool(
            call.part("id"),
            title=given(body.title),
            spares_min=given(body.spares_min),
            size_max=given(body.size_max),
            enabled=given(body.enabled),
            log_off=given(body.log_off),
            disconnect_grace_s=given(body.disconnect_grace_s),
            lease_s=given(body.lease_s),
            groups=given(body.groups),
            resources=None if isinstance(body.resources, UnsetType) else _resources(body.resources),
            image=given(body.image),
            settings=partial(pool_settings, body.settings),
        )
        if pool.image_id != before:
            images = {one.id: named(one) for one in await self._web.services.pools.images()}
            was, now = images.get(before, "another image"), images.get(pool.image_id, "")
            call.remarks["image"] = {"from": was, "to": now}
            call.told = f"{pool.name} has {now} instead of {was}: machines are made from it now"
        return call.answer((await render.pools(self._web, [pool]))[0])

    async def mine(self, call: Call) -> web.StreamResponse:
        who = call.who
        held_now = await self._web.services.sessions.own(who)
        own = await render_sessions.sessions(self._web, held_now, who.role)
        # newest first: in a pool with an old one that still ends, the newer one counts
        held = {one.pool.id: one for one in reversed(own)}
        every = await self._web.services.pools.all()
        usable = await self._web.services.policies.usable(who, every, call.origin)
        shown = {*held, *(pool.id for pool in usable if pool.enabled)}
        pools = sorted(
            (pool for pool in every if pool.id in shown),
            key=lambda pool: pool.name,
        )
        return call.answer(
            MyPoolsShape(
                items=[
                    MyPoolShape(**structs.asdict(shape), session=held.get(shape.id))
                    for shape in await render.pools(self._web, pools)
                ]
            )
        )

    def routes(self) -> tuple[Route, ...]:
        return (
            Route(
                method="GET",
                path="/api/v1/pools",
                handler=self.pools,
                need=Permission.READ,
                summary="Pools, by name",
                answers={200: Listed[PoolShape]},
                query=(*PAGE, TEXT),
            ),
            Route(
                method="POST",
                path="/api/v1/pools",
                audit=Audited(action="pool.create", about="pool_id"),
                handler=self.add,
                need=Permission.MANAGE_POOLS,
                summary="Add a pool",
                request=NewPool,
                answers={201: PoolShape},
                errors=(errors.AlreadyExistsError,),
            ),
            Route(
                method="GET",
                path="/api/v1/pools/{id}",
                handler=self.pool,
                need=Permission.READ,
                summary="One pool, by id or name",
                answers={200: PoolShape},
                errors=(errors.NotFoundError,),
            ),
            Route(
                method="PATCH",
                path="/api/v1/pools/{id}",
                audit=Audited(action="pool.change", about="pool_id"),
                handler=self.change,
                need=Permission.MANAGE_POOLS,
                summary="Change a pool",
                request=PoolChanges,
                answers={200: PoolShape},
                errors=(errors.NotFoundError, errors.BadRequestError),
            ),
            Route(
                method="GET",
                path="/api/v1/me/pools",
                handler=self.mine,
                need=Permission.OWN_SESSIONS,
                summary="The pools that I may use, with my live session in each",
                answers={200: MyPoolsShape},
            ),
        )
