"""Whatever await a mishap strikes, nothing is lost, nothing is left over, and a retry succeeds."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from broker.domain.lifecycle import SESSION
from broker.domain.model import Architecture, DesktopState, Pool, Session, SessionState
from broker.domain.settings import PoolSettings
from broker.services.bundle import Services
from broker.services.connect import Connected
from broker.services.pools import POOLS_FRESH_S
from broker.simulation.administrators import as_recorded
from tests.support.nth_await import Drill, Scenario, nth

SEED = 1
POINTS_MAX = 600
"""more awaits than any scenario has: past it something goes round in circles"""
ATTEMPTS_MAX = 5
"""of a person who is told that it failed"""
WAITS_MAX = 60


def pool_of(drill: Drill, architecture: Architecture) -> Pool:
    return next(one for one in drill.pools() if one.architecture is architecture)


async def until(drill: Drill, session_id: str, *states: SessionState) -> Session:
    """Wait as a client does, by long poll, until the session is in one of these states or over."""
    person = drill.people[0]
    for _ in range(WAITS_MAX):
        session = drill.state.sessions[session_id]
        if session.state in {*states, *SESSION.terminal}:
            return session
        seen = session.revision

        async def wait(services: Services, seen: int = seen) -> Session:
            return await services.sessions.wait(person.identity, session_id, seen, 5)

        await person.insist("wait", wait)
    raise AssertionError(f"{session_id} stays {drill.state.sessions[session_id].state}")


async def connect(drill: Drill, architecture: Architecture) -> Session:
    """Somebody connects at an endpoint, as often as it takes, until the desktop is there."""
    person, pool = drill.people[0], pool_of(drill, architecture)
    desk = drill.desks(architecture)[0]
    for attempt in range(ATTEMPTS_MAX):

        async def ask(services: Services, key: str = f"key-{attempt}") -> Connected:
            return await services.connect.connect(person.identity, pool.id, desk, key)

        found = await person.insist("connect", ask)
        if found is not None:
            session = await until(drill, found.session.id, SessionState.ACTIVE)
            if session.state is SessionState.ACTIVE:
                return session
    raise AssertionError("a retry did not succeed")


def connecting(architecture: Architecture) -> Scenario:
    async def scenario(drill: Drill) -> None:
        drill.armed = True
        await connect(drill, architecture)

    return scenario


def releasing(architecture: Architecture) -> Scenario:
    async def scenario(drill: Drill) -> None:
        session = await connect(drill, architecture)
        person = drill.people[0]
        drill.armed = True
        await person.insist(
            "log off", lambda all_: all_.sessions.log_off(person.identity, session.id)
        )
        await until(drill, session.id)

    return scenario


async def reclaiming(drill: Drill) -> None:
    """Away past the grace: the session ends and the desktop is there for the next."""
    pool = pool_of(drill, Architecture.VDI)
    drill.state.pools[pool.id] = replace(pool, disconnect_grace_s=5)
    await asyncio.sleep(POOLS_FRESH_S + 1)
    session = await connect(drill, Architecture.VDI)
    person = drill.people[0]
    drill.armed = drill.looks = True
    await person.insist(
        "disconnect", lambda all_: all_.sessions.disconnect(person.identity, session.id)
    )
    await until(drill, session.id)


async def provisioning(drill: Drill) -> None:
    """An administrator wants one more spare, and gets it."""
    pool = pool_of(drill, Architecture.VDI)

    def ready() -> int:
        rows = (drill.state.desktops[one] for one in drill.state.pool_desktops[pool.id])
        return sum(one.state is DesktopState.READY for one in rows)

    drill.state.pools[pool.id] = replace(pool, size_max=20, settings=PoolSettings())
    await asyncio.sleep(POOLS_FRESH_S + 1)
    before = ready()
    drill.armed = drill.looks = True
    actor, about = drill.administrator.identity.user_id, {"pool_id": pool.id}

    async def change(services: Services) -> None:
        await services.directory.change_pool(pool.id, spares_min=before + 1)

    await drill.administrator.insist(
        "change pool", lambda all_: as_recorded(all_, actor, "pool.change", about, change)
    )
    for _ in range(WAITS_MAX * 10):
        if ready() > before:
            return
        await asyncio.sleep(1)
    raise AssertionError("no spare was made")


SCENARIOS: dict[str, Scenario] = {
    "connect-vdi": connecting(Architecture.VDI),
    "connect-idv": connecting(Architecture.IDV),
    "connect-voi": connecting(Architecture.VOI),
    "release-vdi": releasing(Architecture.VDI),
    "release-idv": releasing(Architecture.IDV),
    "reclaim": reclaiming,
    "provision": provisioning,
}


@pytest.mark.parametrize("mishap", ["crash", "cancel", "error"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_every_await_may_go_wrong(name: str, mishap: str) -> None:
    for n in range(1, POINTS_MAX):
        outcome = nth(SCENARIOS[name], mishap, n, seed=SEED)
        assert outcome.violations == (), f"{mishap} at await {n}, {outcome.at}"
        if not outcome.reached:
            assert n > 10, "the scenario was hardly looked at"
            return
    raise AssertionError(f"the scenario has more than {POINTS_MAX} awaits")
