"""Requests that change something, each made where it can be: for the trail's tests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from broker.domain.lifecycle import HostEvent, SnapshotEvent
from broker.domain.model import DesktopState, LogOff, PoolKind, Resources
from broker.domain.snapshots import SnapshotState
from broker.ports import PageQuery
from tests.support.app import App, Reply
from tests.support.stores import make_ready, new_desktop

Ask = Callable[[App], Awaitable[Reply]]


def as_alice(method: str, path: str, body: Any = None) -> Ask:
    async def ask(app: App) -> Reply:
        return await app.call(method, path, app.people["alice"], body=body)

    return ask


async def retire_a_host_that_is_down(app: App) -> Reply:
    host = await app.services.directory.add_host(
        name="server-8",
        engine="simulated",
        profile="hosted",
        capacity=Resources(cpus=4, memory_mib=4096),
        overcommit_cpu=1,
        start_limit=1,
    )
    await app.services.kit.store.directory.move_host(host.id, HostEvent.LOST, app.clock.now())
    return await as_alice("POST", "/hosts/server-8/retire", {"give_up": True})(app)


def on_desktop(method: str, path: str, body: Any = None, *, dedicated: bool = False) -> Ask:
    """A desktop of the pool design, which nobody has: another one for each path."""

    async def ask(app: App) -> Reply:
        pool = await app.services.pools.find("design")
        kind = PoolKind.DEDICATED if dedicated else pool.kind
        await app.services.kit.store.directory.save_pool(replace(pool, kind=kind), new=False)
        app.services.pools.forget()
        query = PageQuery(filters={"pool_id": pool.id})
        rows = (await app.services.kit.store.desktops.desktops(query)).items
        owned = [one for one in rows if one.owner_id is not None]
        ready = [one for one in rows if one.state is DesktopState.READY and one.owner_id is None]
        one = owned[0] if "unassign" in path else ready[0]
        full = path.replace("DESKTOP", f"/desktops/{one.id}")
        return await app.call(method, full, app.people["alice"], body=body)

    return ask


async def move_to_another_host(app: App) -> Reply:
    """A desktop that is ready, to a second host that is made for it."""
    [load, *_] = await app.services.kit.store.directory.host_loads()
    host = await app.services.directory.add_host(
        name="server-20",
        engine=load.host.engine,
        profile=load.host.profile,
        capacity=load.host.capacity,
        overcommit_cpu=load.host.overcommit_cpu,
        start_limit=1,
    )
    return await on_desktop("POST", "DESKTOP/move", {"host": host.name})(app)


def on_snapshot(method: str, path: str, body: Any = None) -> Ask:
    """One of a desktop that is ann's for good; by then it is whole, if it was taken before."""

    async def ask(app: App) -> Reply:
        store, pool = app.services.kit.store, await app.services.pools.find("design")
        kept = replace(pool, kind=PoolKind.DEDICATED, log_off=LogOff.KEEP)
        await store.directory.save_pool(kept, new=False)
        app.services.pools.forget()
        if await store.desktops.desktop("dsk_kept") is None:
            [load, *_] = await store.directory.host_loads()
            desktop = new_desktop(
                1, kept, id="dsk_kept", host_id=load.host.id, owner_id=app.people["ann"].id
            )
            await store.desktops.add([desktop], [])
            await make_ready(store, desktop)
        for one in await store.snapshots.of_desktop("dsk_kept"):
            if one.state is SnapshotState.MAKING:
                await store.snapshots.advance(one.id, SnapshotEvent.MADE, app.clock.now())
        where = f"/desktops/dsk_kept/snapshots{path}"
        return await app.call(method, where, app.people["alice"], body=body)

    return ask
