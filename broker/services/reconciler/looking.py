"""Looking: the snapshot that the planner decides from.

Counts and sums for everything, rows only for what may be acted on: a look costs about the same
whether there are a thousand desktops or a hundred thousand.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final

from broker import limits
from broker.domain.features import Feature
from broker.domain.model import Desktop, DesktopState, Host, JobState, JobVerb, Pool, PoolKind
from broker.domain.placement import Demand, HostLoad
from broker.domain.planning import ON_HOST_STATES, Memory, Rows, View, full_hosts, rows_needed
from broker.domain.planning.resize import growth
from broker.domain.settings import Share
from broker.domain.storage import StorageClass
from broker.ports import Engine, PageQuery, StorageTeller
from broker.services.breakers import Breakers
from broker.services.engine_work.carrying import resources_of
from broker.services.host_silence import heard
from broker.services.kit import Kit
from broker.services.pools import Pools
from broker.services.site import Site

_log = logging.getLogger("trivium.reconciler")

LATE_ROWS_MAX: Final = 10 * limits.RECONCILE_BATCH_MAX
"""rows of one kind that one look reads, those included that are stuck"""
_SUSPENDED = (DesktopState.SUSPENDED,)
_READY = (DesktopState.READY,)
_RUNNING = (DesktopState.READY, DesktopState.ASSIGNED)


class Looking:
    def __init__(
        self,
        kit: Kit,
        pools: Pools,
        site: Site,
        breakers: Breakers,
        engines: Callable[[str], Engine],
    ) -> None:
        self._kit = kit
        self._pools = pools
        self._site = site
        self._breakers = breakers
        self._engines = engines
        self._unknown: set[str] = set()

    async def due(self, stuck: int = 0) -> View:
        """What every process may act on: deadlines that passed, queues, failed desktops. It has
        no hosts, for without them nothing can be planned. `stuck`: rows with which the look
        before came to nothing; so many more are read, lest those behind them wait for ever."""
        return await self._due((), stuck)

    async def standing(self) -> View:
        """The hosts with their room and what they can do, and the pools: where one machine could
        go. Nothing that is due."""
        pools = await self._pools.all()
        # before the loads, as in `everything`
        resizing = await self._resizing(pools)
        hosts = self._known(await self._kit.store.directory.host_loads())
        return View(
            now=self._kit.clock.now(),
            pools=pools,
            counts={},
            waiting={},
            hosts=hosts,
            features=self._features(hosts),
            resizing=resizing,
        )

    async def _due(self, hosts: tuple[HostLoad, ...], stuck: int) -> View:
        store, now = self._kit.store, self._kit.clock.now()
        batch = _batch(stuck)
        return View(
            now=now,
            pools=await self._pools.all(),
            counts=await store.desktops.counts(),
            waiting=await store.sessions.queue_lengths(),
            hosts=hosts,
            site=await self._site.settings(),
            expired_sessions=await store.sessions.expired(now, batch),
            expired_desktops=await store.desktops.expired(now, batch),
            expired_jobs=await store.jobs.expired(now, batch),
            failed_desktops=await store.desktops.failed(batch),
        )

    async def everything(self, memory: Memory, stuck: int = 0) -> View:
        """`due`, and what the planner needs to make, suspend, move, resize and power."""
        store = self._kit.store
        # before the loads: what has grown by then is counted twice, never left out
        resizing = await self._resizing(await self._pools.all())
        loads = await store.directory.host_loads()
        hosts = self._known(loads)
        due = await self._due(hosts, stuck)
        owned: Mapping[tuple[str, str], int] = {}
        if any(pool.kind is PoolKind.DEDICATED for pool in due.pools):
            owned = await store.desktops.counts(owned=True)
        view = replace(
            due,
            owned=owned,
            features=self._features(hosts),
            breakers=await self._breakers.all(),
            awaited=await self._awaited(due),
            resizing=resizing,
            memory=memory,
        )
        if any(load.resets_waiting for load in loads):
            resets = await store.desktops.resets_waiting(
                full_hosts(view), limits.BEGUN_PER_LOOK_MAX
            )
            view = replace(view, resets=resets)
        rows = await self._rows(view)
        return replace(view, rows=replace(rows, outdated=await self._outdated()))

    async def _outdated(self) -> Mapping[str, tuple[Desktop, ...]]:
        """Pool id -> its spares of another image."""
        found: dict[str, tuple[Desktop, ...]] = {}
        for row in await self._kit.store.desktops.outdated(limits.OUTDATED_ROWS_MAX):
            found[row.pool_id] = (*found.get(row.pool_id, ()), row)
        return found

    def _known(self, loads: tuple[HostLoad, ...]) -> tuple[HostLoad, ...]:
        """Those whose engine this process has. Nothing can be made on any other."""
        known: list[HostLoad] = []
        for load in loads:
            try:
                engine = self._engines(load.host.engine)
            except KeyError:
                if load.host.engine not in self._unknown:
                    self._unknown.add(load.host.engine)
                    _log.warning("no engine here is called %r", load.host.engine)
            else:
                storage = _storage(engine, load.host)
                silent = heard(engine, load.host, self._kit.clock.now()) is not None
                plain = not storage and not silent
                known.append(load if plain else replace(load, storage=storage, silent=silent))
        return tuple(known)

    def _features(self, hosts: tuple[HostLoad, ...]) -> Mapping[str, frozenset[Feature]]:
        return {load.host.id: self._engines(load.host.engine).features(load.host) for load in hosts}

    async def _awaited(self, view: View) -> tuple[Desktop, ...]:
        asleep = {DesktopState.PARKED, DesktopState.SUSPENDED, DesktopState.FAILED}
        if not any(count for (_, state), count in view.counts.items() if state in asleep):
            return ()
        return await self._kit.store.desktops.awaited(limits.BEGUN_PER_LOOK_MAX)

    async def _resizing(self, pools: Iterable[Pool]) -> Mapping[str, tuple[Demand, ...]]:
        """Hosts with unfinished RESIZE jobs, and what each may still take."""
        guarantees = {pool.id: pool.settings.guarantee for pool in pools}
        found: dict[str, tuple[Demand, ...]] = {}
        for state in (JobState.QUEUED, JobState.RUNNING):
            filters = {"verb": JobVerb.RESIZE.value, "state": state.value}
            query = PageQuery(limit=limits.PAGE_LIMIT_MAX, filters=filters)
            for job in (await self._kit.store.jobs.jobs(query)).items:
                desktop = await self._kit.store.desktops.desktop(job.desktop_id)
                growing: tuple[Demand, ...] = ()
                if desktop is not None:
                    more = growth(desktop.resources, resources_of(job))
                    share = guarantees.get(desktop.pool_id, Share())
                    growing = (Demand(need=more, guarantee=share, starts=False),)
                found[job.host_id] = found.get(job.host_id, ()) + growing
        return found

    async def _rows(self, view: View) -> Rows:
        desktops, needed = self._kit.store.desktops, rows_needed(view)
        pools = {pool.id: pool for pool in view.pools}

        async def read(
            most: Mapping[str, int],
            one: Callable[[str, int], Awaitable[tuple[Desktop, ...]]],
        ) -> Mapping[str, tuple[Desktop, ...]]:
            return {key: await one(key, limit) for key, limit in most.items() if limit > 0}

        return Rows(
            ready=await read(
                needed.ready, lambda key, most: desktops.of_pool(key, _READY, most, unowned=True)
            ),
            suspended=await read(
                needed.suspended,
                lambda key, most: desktops.of_pool(key, _SUSPENDED, most, unowned=True),
            ),
            unlike=await read(
                needed.unlike,
                lambda key, most: desktops.of_pool(
                    key, _RUNNING, most, unlike=pools[key].resources
                ),
            ),
            on_host=await read(
                needed.on_host, lambda key, most: desktops.on_host(key, ON_HOST_STATES, most)
            ),
        )


def _storage(engine: Engine, host: Host) -> Mapping[str, StorageClass]:
    return engine.storage_classes(host) if isinstance(engine, StorageTeller) else {}


def _batch(stuck: int) -> int:
    return min(limits.RECONCILE_BATCH_MAX + stuck, LATE_ROWS_MAX)


def more_is_late(view: View, stuck: int) -> bool:
    """Whether as many rows were past their deadlines as that look read: look again soon."""
    late = (view.expired_sessions, view.expired_desktops, view.expired_jobs)
    return any(len(rows) >= _batch(stuck) for rows in late)
