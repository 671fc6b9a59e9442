"""Importing a roster: gather what is stored, plan, and make the whole change or none of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from broker.domain.errors import RosterError
from broker.limits import PAGE_LIMIT_MAX
from broker.ports import Clock, Ids, Page, PageQuery, Store
from broker.services.accounts import LOCAL_USERNAME
from broker.services.known_profiles import KnownProfiles
from broker.services.roster.draft import Count, Known
from broker.services.roster.plan import RosterPlan, plan_roster

Item = TypeVar("Item")


async def import_roster(
    store: Store,
    clock: Clock,
    ids: Ids,
    texts: Mapping[str, str],
    *,
    check_only: bool = False,
    profiles: KnownProfiles | None = None,
) -> Mapping[str, Count]:
    """Import the files given as name -> text; with `check_only` change nothing.

    Answers kind -> how many records are new, changed, the same. Importing the same roster again
    changes nothing. `profiles`: for checking hosts.csv.

    Raises:
        RosterError: with fields `problems` (file, line, field, message; at most
            ROSTER_PROBLEMS_MAX) and `more` (how many beside those). Nothing was changed.
    """
    known = await _known(store, profiles)
    # A roster of 8 MiB takes seconds of CPU, in which heartbeats must not wait.
    plan = await asyncio.to_thread(plan_roster, texts, known, clock.now(), ids.new)
    if plan.problems:
        raise refusal(plan)
    if not check_only:
        await store.directory.apply_roster(plan.change)
    return plan.counts


def refusal(plan: RosterPlan) -> RosterError:
    """The error for a plan with problems."""
    total = len(plan.problems) + plan.more
    first = plan.problems[0]
    where = f"{first.file} line {first.line}" if first.line else first.file
    detail = f"{total} problem{'s' if total > 1 else ''}; the first: {where}: {first.message}"
    return RosterError(
        detail,
        fields={"problems": [one.as_fields() for one in plan.problems], "more": plan.more},
    )


async def _known(store: Store, profiles: KnownProfiles | None) -> Known:
    directory = store.directory
    return Known(
        groups={one.name: one for one in await _all(directory.groups)},
        users={one.username: one for one in await _all(directory.users)},
        images={f"{one.name}@{one.version}": one for one in await directory.images()},
        removed=[f"{one.name}@{one.version}" for one in await directory.removed_images()],
        hosts={load.host.name: load.host for load in await directory.host_loads()},
        pools={one.name: one for one in await directory.pools()},
        endpoints={one.name: one for one in await _all(store.endpoints.endpoints)},
        profiles=profiles,
        reserved=(LOCAL_USERNAME,),
    )


async def _all(read: Callable[[PageQuery], Awaitable[Page[Item]]]) -> list[Item]:
    """Every row of a list, page by page."""
    found: list[Item] = []
    after: str | None = None
    while True:
        page = await read(PageQuery(limit=PAGE_LIMIT_MAX, after=after))
        found.extend(page.items)
        if page.next_after is None:
            return found
        after = page.next_after
