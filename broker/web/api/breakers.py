"""Circuit breakers: which pools' machines are not made on which hosts just now, and ending that."""

from __future__ import annotations

import msgspec
from aiohttp import web
from msgspec import UNSET, UnsetType

from broker.domain import errors
from broker.domain.planning import BreakerState
from broker.domain.planning.breaker import state_of, tries
from broker.domain.roles import Permission
from broker.web.api.inputs import Body, Name, given
from broker.web.audited import Audited
from broker.web.call import Call
from broker.web.context import Web
from broker.web.encoding import stamp_or_none
from broker.web.lists import Listed, cut, listed, page_query
from broker.web.params import PAGE, text
from broker.web.routes import Route


class BreakerShape(msgspec.Struct, frozen=True, kw_only=True):
    """`id`: pool and host. `since`: when machines stopped being made there; null while closed, or
    where an older broker wrote it. `until`: nothing is begun before; null while closed. `trying`:
    one is being made to see whether it works again. `failures`: in a row. `error`: what the latest
    said."""

    id: str
    pool_id: str
    pool: str
    host_id: str
    host: str
    state: BreakerState
    failures: int
    since: str | None
    until: str | None
    trying: bool
    error: str


class BreakersReset(Body, frozen=True, kw_only=True):
    """Without `pool`: those of every pool on the host."""

    pool: Name | UnsetType = UNSET


class ResetShape(msgspec.Struct, frozen=True, kw_only=True):
    reset: int


class BreakersApi:
    def __init__(self, web_: Web) -> None:
        self._web = web_

    async def breakers(self, call: Call) -> web.StreamResponse:
        services = self._web.services
        pools = {pool.id: pool.name for pool in await services.pools.all()}
        loads = await services.kit.store.directory.host_loads()
        hosts = {load.host.id: load.host.name for load in loads}
        now, wanted = services.kit.clock.now(), call.query.get("host")
        shapes = [
            BreakerShape(
                id=f"{pools[pool_id]} {hosts[host_id]}",
                pool_id=pool_id,
                pool=pools[pool_id],
                host_id=host_id,
                host=hosts[host_id],
                state=state_of(one, now),
                failures=one.failures,
                since=stamp_or_none(one.since),
                until=stamp_or_none(one.until),
                trying=tries(one, now),
                error=one.error,
            )
            for (pool_id, host_id), one in (await services.breakers.all()).items()
            if pool_id in pools and host_id in hosts and wanted in {None, host_id, hosts[host_id]}
        ]
        shapes.sort(key=lambda one: one.id)
        page = cut(shapes, page_query(call, "breakers"), lambda one: one.id)
        return call.answer(listed("breakers", list(page.items), page.next_after))

    async def reset(self, call: Call) -> web.StreamResponse:
        body: BreakersReset = call.body
        services = self._web.services
        host = await services.site.host(call.part("id"))
        wanted = given(body.pool)
        pool = await services.pools.find(wanted) if wanted is not None else None
        count = await services.breakers.reset(
            host.id, pool, actor=call.who.user_id, origin=call.origin
        )
        services.reconciler.wake()
        return call.answer(ResetShape(reset=count))

    def routes(self) -> tuple[Route, ...]:
        return (
            Route(
                method="GET",
                path="/api/v1/breakers",
                handler=self.breakers,
                need=Permission.READ,
                summary="Pools whose machines failed on a host, and whether they are made there",
                answers={200: Listed[BreakerShape]},
                query=(*PAGE, text("host", "only those of this host, by id or name")),
            ),
            Route(
                method="POST",
                path="/api/v1/hosts/{id}/breakers/reset",
                audit=Audited(action="breaker.reset", about="host_id", by_service=True),
                handler=self.reset,
                need=Permission.MANAGE_HOSTS,
                summary="Make machines on this host again at once, whatever failed before",
                request=BreakersReset,
                answers={200: ResetShape},
                errors=(errors.NotFoundError,),
            ),
        )
