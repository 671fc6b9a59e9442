"""Profiles of hosts that other processes changed reach the engines of this one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

from broker.domain.model import HostState
from broker.engines.registry import EngineContext
from broker.engines.simulated import build
from broker.engines.simulated.engine import SimulatedEngine
from broker.services.host_profiles import HostProfiles
from broker.services.kit import Kit
from broker.store.memory import MemoryStore
from tests.support.brokers import fill, make_kit
from tests.support.builders import make_host
from tests.support.eventually import eventually
from tests.support.world import CountedIds, HandClock, SeededChance


def simulated() -> SimulatedEngine:
    context = EngineContext(
        clock=HandClock(), chance=SeededChance(), ids=CountedIds(), installation_id="ins_1"
    )
    engine = build(context)
    assert isinstance(engine, SimulatedEngine)
    return engine


@contextlib.asynccontextmanager
async def process(kit: Kit) -> AsyncIterator[SimulatedEngine]:
    """One that hears, and looks when time is put forward by so much as nobody waits for here."""
    engine = simulated()
    running = asyncio.ensure_future(HostProfiles(kit, {"simulated": engine}.__getitem__).run())
    try:
        await eventually(lambda: "hst_1" in engine.plant.hosts)
        yield engine
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_an_engine_of_another_process_goes_by_a_new_profile_once_that_hears_of_it() -> None:
    store = MemoryStore()
    await fill(store)
    kit = make_kit(store)
    async with process(kit) as engine:
        changed = replace(make_host(), profile="bare-metal?migrate=0")
        saved = await store.directory.save_host(changed, new=False)
        kit.events.publish("host", id=saved.id, revision=saved.revision)
        await eventually(lambda: engine.plant.hosts["hst_1"].host.profile == saved.profile)


async def test_without_a_hint_the_next_look_finds_it_and_tells_each_change_once() -> None:
    store = MemoryStore()
    await fill(store, hosts=(make_host(), make_host(id="hst_2", name="b", engine="other")))
    engine = simulated()
    profiles = HostProfiles(make_kit(store), {"simulated": engine}.__getitem__)
    await profiles.look()
    assert engine.plant.hosts.keys() == {"hst_1"}
    engine.plant.hosts.clear()
    await profiles.look()
    assert not engine.plant.hosts
    await store.directory.save_host(make_host(profile="bare-metal?resize=0"), new=False)
    await profiles.look()
    assert engine.plant.hosts["hst_1"].host.profile == "bare-metal?resize=0"


async def test_a_host_that_was_retired_is_not_reached_any_more() -> None:
    store = MemoryStore()
    await fill(store)
    engine = simulated()
    profiles = HostProfiles(make_kit(store), {"simulated": engine}.__getitem__)
    profiles.use(make_host(state=HostState.RETIRED))
    assert not engine.plant.hosts
