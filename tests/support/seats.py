"""People at thin endpoints of a small world, and a store that lets others in between two calls."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import Any

from broker.domain.model import EndpointKind, EndpointState, Pool, Session, SessionState
from broker.domain.settings import PoolSettings
from broker.ports import RosterChange
from broker.services.connect import Connected
from tests.support.builders import make_endpoint
from tests.support.world import World


async def set_pool(world: World, name: str, settings: PoolSettings, **changes: Any) -> Pool:
    """Give the pool these settings, as an administrator does."""
    pool = replace(await world.pools.find(name), settings=settings, **changes)
    await world.kit.store.directory.save_pool(pool, new=False)
    world.pools.forget()
    return pool


async def thin(world: World, number: int) -> str:
    """The thin endpoint THIN-`number`, connected; answers its id."""
    name = f"THIN-{number}"
    if await world.kit.store.endpoints.endpoint_by_name(name) is None:
        made = make_endpoint(
            id=f"ept_thin{number}",
            name=name,
            kind=EndpointKind.THIN,
            pool_ids=(),
            state=EndpointState.ENROLLED,
        )
        await world.kit.store.directory.apply_roster(RosterChange(endpoints=(made,)))
    return (await world.online(name)).id


async def sit_down(world: World, username: str, endpoint: str | None) -> Connected:
    """Connect to the library at that endpoint (None: in a browser), and have the desktop."""
    answer = await world.connect.connect(world.who(username), "library", endpoint)
    assert answer.session.state is SessionState.DELIVERING
    session = answer.session
    await world.sessions.live(session.id, session.endpoint_id, session.generation)
    return answer


async def read(world: World, session_id: str) -> Session:
    session = await world.kit.store.sessions.session(session_id)
    assert session is not None
    return session


async def expire_due(world: World) -> None:
    """What the reconciler does about sessions whose deadline has passed."""
    now = world.clock.now()
    for session in await world.kit.store.sessions.expired(now, 100):
        await world.sessions.expire(session)


class InBetween:
    """Wraps one of the memory store's parts: others may run before and after every call."""

    def __init__(self, inner: Any, seed: int) -> None:
        self._inner = inner
        self._chance = random.Random(seed)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            await self._others()
            result = await method(*args, **kwargs)
            await self._others()
            return result

        return call

    async def _others(self) -> None:
        for _ in range(self._chance.randrange(5)):
            await asyncio.sleep(0)


def let_others_in(world: World, seed: int) -> None:
    """From now on every call about sessions may be interleaved with others."""
    store: Any = world.kit.store
    store._sessions = InBetween(store._sessions, seed)
