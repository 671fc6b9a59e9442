"""For whoever watches the process: is it alive, is it ready, how does it do."""

from __future__ import annotations

import asyncio

import msgspec
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from broker.domain.errors import TriviumError
from broker.limits import READY_S, STORE_PING_S
from broker.web.access import Access
from broker.web.call import Call
from broker.web.context import Web
from broker.web.metrics import Metrics
from broker.web.routes import Route, Surface


class Alive(msgspec.Struct, frozen=True, kw_only=True):
    status: str


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """Each part is `ok` or says in a word what is wrong. `work`: the shared work that this
    process does for all. `looked_s_ago`: the reconciler's last look; null before the first."""

    ready: bool
    store: str
    reconciler: str
    draining: bool
    work: tuple[str, ...]
    looked_s_ago: float | None


class Health:
    def __init__(self, web_: Web, metrics: Metrics) -> None:
        self._web = web_
        self._metrics = metrics

    async def alive(self, call: Call) -> web.StreamResponse:
        return call.answer(Alive(status="alive"))

    async def ready(self, call: Call) -> web.StreamResponse:
        store, reconciler = await self._store(), self._reconciler()
        draining = self._web.running.draining
        ready = store == reconciler == "ok" and not draining
        looked_at_s = self._web.services.reconciler.looked_at_s
        shape = Ready(
            ready=ready,
            store=store,
            reconciler=reconciler,
            draining=draining,
            work=tuple(self._web.services.shared.held),
            looked_s_ago=None if looked_at_s is None else self._age_s(looked_at_s),
        )
        return call.answer(shape, 200 if ready else 503, {} if ready else {"Retry-After": "1"})

    async def _store(self) -> str:
        try:
            async with asyncio.timeout(STORE_PING_S):
                await self._web.services.kit.store.ping()
        except TimeoutError:
            return "slow"
        except TriviumError:
            return "unavailable"
        return "ok"

    def _reconciler(self) -> str:
        looked_at_s = self._web.services.reconciler.looked_at_s
        if looked_at_s is None:
            return "starting"
        return "ok" if self._age_s(looked_at_s) <= READY_S else "behind"

    def _age_s(self, looked_at_s: float) -> float:
        return round(self._web.services.kit.clock.monotonic() - looked_at_s, 3)

    async def metrics(self, call: Call) -> web.StreamResponse:
        headers = call.headers()
        headers["Content-Type"] = CONTENT_TYPE_LATEST
        return web.Response(body=await self._metrics.render(), headers=headers)


def routes(web_: Web, metrics: Metrics) -> tuple[Route, ...]:
    health = Health(web_, metrics)
    return (
        Route(
            method="GET",
            path="/healthz",
            handler=health.alive,
            need=Access.PUBLIC,
            summary="The process answers",
            answers={200: Alive},
            surface=Surface.SYSTEM,
        ),
        Route(
            method="GET",
            path="/readyz",
            handler=health.ready,
            need=Access.PUBLIC,
            summary="The process can do its work, and does not stop",
            answers={200: Ready, 503: Ready},
            surface=Surface.SYSTEM,
        ),
        Route(
            method="GET",
            path="/metrics",
            handler=health.metrics,
            need=Access.LOCAL_READ,
            summary="For Prometheus",
            answers={200: None},
            surface=Surface.SYSTEM,
        ),
    )
