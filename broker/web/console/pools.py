"""Pools and hosts: what there is of each, and how full it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from broker.architectures import rules_of
from broker.domain.images import is_outdated, named
from broker.domain.model import Architecture, Desktop, Image, Pool
from broker.domain.placement import HostLoad
from broker.domain.roles import Permission
from broker.domain.settings import ScheduleEntry
from broker.domain.silence import Silence
from broker.limits import PAGE_LIMIT_MAX
from broker.ports import PageQuery
from broker.web.api.windows import from_window
from broker.web.call import Call
from broker.web.console.lists import ARCHITECTURES, Filters, filter_choice, filter_text
from broker.web.console.render import Pages
from broker.web.console.why import why_of
from broker.web.console.words import LOG_OFF, StateGroup, desktop_groups
from broker.web.routes import Route, Surface

_FILTERS: Final = (
    filter_text("text", "part of a name or title"),
    filter_choice("architecture", Architecture, "only these"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRow:
    """`on_endpoints`: its desktops are its endpoints, so no size is set."""

    pool: Pool
    on_endpoints: bool
    image: str
    waiting: int
    total: int
    groups: tuple[StateGroup, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRow:
    """`cpu_limit`, `memory_limit_mib`: what may be given out, overcommit included. `switchable`:
    its engine can switch it on and off."""

    load: HostLoad
    cpu_limit: float
    switchable: bool
    silent: Silence | None
    memory_limit_mib: float


DAY_CHOICES: Final[Mapping[str, str]] = {
    "mon;tue;wed;thu;fri": "Monday to Friday",
    "": "every day",
    "sat;sun": "at weekends",
    "mon": "Mondays",
    "tue": "Tuesdays",
    "wed": "Wednesdays",
    "thu": "Thursdays",
    "fri": "Fridays",
    "sat": "Saturdays",
    "sun": "Sundays",
}
"""what a schedule's row offers; another set of days is shown as it is"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleRow:
    """An entry of a schedule as the form shows it. `days`: names joined by semicolons."""

    name: str
    days: str
    start: str
    end: str
    holidays: str
    spares_min: int | None
    spares_suspended: int | None
    size_min: int | None
    open: bool | None
    power: bool | None

    @classmethod
    def of(cls, entry: ScheduleEntry) -> ScheduleRow:
        window = from_window(entry.window)
        return cls(
            name=entry.name,
            days=";".join(window.days),
            start=window.start,
            end=window.end,
            holidays=window.holidays,
            spares_min=entry.spares_min,
            spares_suspended=entry.spares_suspended,
            size_min=entry.size_min,
            open=entry.open,
            power=entry.power,
        )


async def waiting_by_pool(call: Call) -> Counter[str]:
    """pool id -> people in its queue, for every pool, a page of the queued at a time."""
    found: Counter[str] = Counter()
    after: str | None = None
    while True:
        query = PageQuery(limit=PAGE_LIMIT_MAX, after=after, filters={"state": "queued"})
        page = await call.web.services.kit.store.sessions.sessions(query)
        found.update(session.pool_id for session in page.items)
        after = page.next_after
        if after is None:
            return found


async def desktops_by_pool(call: Call) -> dict[str, dict[str, int]]:
    """pool id -> state -> how many."""
    found: dict[str, dict[str, int]] = {}
    for (pool_id, state), count in (await call.web.services.kit.store.desktops.counts()).items():
        found.setdefault(pool_id, {})[state] = count
    return found


def image_words(desktop: Desktop, pool: Pool | None, images: Mapping[str, Image]) -> str:
    """What a machine was made from, and what its pool has now where that is another; "" for what
    is not known and an endpoint's affair."""
    known = images.get(desktop.image_id or "")
    words = named(known) if known is not None else ""
    if pool is None or not is_outdated(desktop, pool):
        return words
    now = images.get(pool.image_id)
    return f"{words or 'not known'}, the pool has {named(now) if now is not None else 'another'}"


def image_name(image: Image | None) -> str:
    return f"{image.name} v{image.version}" if image is not None else "?"


def _versions(images: Iterable[Image], now: Image) -> list[tuple[str, str]]:
    """(value, words) of every version there is: those of the pool's image first, newest first."""
    ordered = sorted(images, key=lambda one: (one.name != now.name, one.name, -one.version))
    return [(named(one), f"{one.name} version {one.version}") for one in ordered]


def fits(pool: Pool, filters: Mapping[str, str]) -> bool:
    """Whether a pool passes the list's filters."""
    part = filters["text"].casefold()
    named = part in pool.name.casefold() or part in pool.title.casefold()
    return named and filters["architecture"] in {"", pool.architecture}


class PoolPages:
    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    async def pools(self, call: Call) -> web.StreamResponse:
        services = call.web.services
        filters = Filters.of(call, _FILTERS)
        images = {image.id: image for image in await services.pools.images()}
        counts = await desktops_by_pool(call)
        waiting = await waiting_by_pool(call)
        rows = [
            PoolRow(
                pool=pool,
                on_endpoints=rules_of(pool.architecture).runs_on_endpoint,
                image=image_name(images.get(pool.image_id)),
                waiting=waiting[pool.id],
                total=sum(counts.get(pool.id, {}).values()),
                groups=desktop_groups(counts.get(pool.id, {})),
            )
            for pool in sorted(await services.pools.all(), key=lambda pool: pool.name)
            if fits(pool, filters.values)
        ]
        context = {**filters.context(None, rows), "rows": rows, "architectures": ARCHITECTURES}
        return self._pages.answer(
            call,
            "pools.html",
            context,
            here="/pools",
            parts=("list",),
            topics="pool,desktop,session",
        )

    async def pool(self, call: Call) -> web.StreamResponse:
        services = call.web.services
        pool = await services.pools.find(call.part("pool_id"))
        counts = (await desktops_by_pool(call)).get(pool.id, {})
        entitled = [
            group for group in await services.directory.groups() if group.id in pool.group_ids
        ]
        rules = rules_of(pool.architecture)
        image, every = await services.pools.image(pool.image_id), await services.pools.images()
        context = {
            "pool": pool,
            "image": image,
            "image_ref": named(image),
            "versions": _versions(every, image),
            "counts": sorted((state, count) for state, count in counts.items() if count),
            "groups": desktop_groups(counts),
            "total": sum(counts.values()),
            "ready": counts.get("ready", 0),
            "waiting": len(await services.kit.store.sessions.waiting(pool.id)),
            "groups_entitled": entitled,
            "log_off_words": LOG_OFF[pool.log_off],
            "leased": rules.leased,
            "runs_on_endpoint": rules.runs_on_endpoint,
            "moves": rules.moves,
            "schedule": [ScheduleRow.of(entry) for entry in pool.settings.schedule],
            "day_choices": DAY_CHOICES,
            "why": await why_of(call, "pool_id", pool.id),
        }
        return self._pages.answer(
            call,
            "pool.html",
            context,
            here="/pools",
            parts=("standing",),
            topics="pool,desktop,session",
        )

    async def hosts(self, call: Call) -> web.StreamResponse:
        loads = await call.web.services.kit.store.directory.host_loads()
        silent = await call.web.services.host_silence.known()
        rows = [
            HostRow(
                load=load,
                silent=silent.get(load.host.id),
                switchable=call.web.services.host_power.can(load.host),
                cpu_limit=load.host.capacity.cpus * load.host.overcommit_cpu,
                memory_limit_mib=(
                    load.host.capacity.memory_mib * load.host.settings.overcommit_memory
                ),
            )
            for load in loads
        ]
        return self._pages.answer(
            call,
            "hosts.html",
            {"rows": rows},
            here="/hosts",
            parts=("list",),
            topics="host,desktop",
        )

    def routes(self) -> tuple[Route, ...]:
        return (
            Route(
                method="GET",
                path="/pools",
                handler=self.pools,
                need=Permission.READ,
                summary="Pools",
                query=_FILTERS,
                surface=Surface.PAGE,
            ),
            Route(
                method="GET",
                path="/pools/{pool_id}",
                handler=self.pool,
                need=Permission.READ,
                summary="One pool",
                surface=Surface.PAGE,
            ),
            Route(
                method="GET",
                path="/hosts",
                handler=self.hosts,
                need=Permission.READ,
                summary="Hosts",
                surface=Surface.PAGE,
            ),
        )
