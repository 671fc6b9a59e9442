"""A process dies between any two calls of the store, and another one brings the work to its end."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from broker.domain.lifecycle import DESKTOP, HOST
from broker.domain.model import HostState, JobState, Resources
from broker.domain.planning.commands import (
    ClearDesktop,
    Command,
    MakeDesktop,
    MigrateDesktop,
    PowerHost,
    ResizeDesktop,
    SuspendDesktop,
)
from broker.domain.planning.strays import HAS_MACHINE
from broker.domain.planning.view import View
from broker.limits import CREATE_S, LEASE_S, LEASE_SKEW_S
from broker.ports import PageQuery, Store
from broker.services.reconciler.acting import Look
from broker.services.shared_work import Work
from broker.store.memory import MemoryStore
from tests.support.brokers import Broker, HookedStore, broker_on, desktops, fill
from tests.support.builders import make_host, make_pool
from tests.support.prompt_engine import PromptEngine

POOL = make_pool(spares_min=3, size_max=5)
HOSTS = (
    make_host(),
    make_host(id="hst_2", name="server-2"),
    make_host(id="hst_3", name="server-3", state=HostState.OFF),
)
CALLS_MAX = 400
"""more than the store is called in any of these stories"""


class DiedError(BaseException):
    """The process is no more: nothing in it catches this."""


class Countdown:
    """Dies after the n-th call; `calls` tells whether it came to that."""

    def __init__(self, store: Store, at: int) -> None:
        self.hooked = HookedStore(store)
        self.hooked.after = self._count
        self.at = at
        self.calls = 0

    async def _count(self, _: str) -> None:
        self.calls += 1
        if self.calls >= self.at:
            raise DiedError


async def _finish(store: Store, engine: PromptEngine) -> None:
    """Another process takes over and looks until everything has come to rest."""
    async with broker_on(store, process="b", engine=engine) as other:
        other.clock.advance(LEASE_S + LEASE_SKEW_S + 1)
        for _ in range(40):
            other.clock.advance(CREATE_S / 8)
            await other.look()
        await _at_rest(other, store)


async def _at_rest(broker: Broker, store: Store) -> None:
    found = await desktops(store)
    assert all(one.state in DESKTOP.stable for one in found), [one.state for one in found]
    assert all(one.moving_to is None for one in found)
    assert len([one for one in found if one.state == "ready"]) >= POOL.spares_min
    assert len(found) <= POOL.size_max
    with_machine = {one.id: one.generation for one in found if one.state in HAS_MACHINE}
    assert broker.engine.known == with_machine
    assert {one.id: one.host_id for one in found} == {
        one: broker.engine.places[one] for one in with_machine
    }
    for load in await store.directory.host_loads():
        assert load.host.state in HOST.stable
    for state in (JobState.QUEUED, JobState.RUNNING):
        query = PageQuery(limit=500, filters={"state": state.value})
        assert not (await store.jobs.jobs(query)).items


async def test_filling_a_pool_is_brought_to_its_end_from_wherever_it_stopped() -> None:
    for at in range(1, CALLS_MAX):
        store, engine = MemoryStore(), PromptEngine()
        await fill(store, pools=(POOL,), hosts=HOSTS[:2])
        countdown = Countdown(store, at)
        async with broker_on(countdown.hooked.as_store(), engine=engine) as broker:
            with contextlib.suppress(DiedError):
                await broker.look(3)
        await _finish(store, engine)
        if countdown.calls < at:
            return
    raise AssertionError("the story is longer than CALLS_MAX calls")


async def test_whatever_is_done_to_machines_and_hosts_is_brought_to_its_end() -> None:
    for at in range(1, CALLS_MAX):
        store, engine = MemoryStore(), PromptEngine()
        await fill(store, pools=(POOL,), hosts=HOSTS)
        engine.off.add("hst_3")
        async with broker_on(store, process="c", engine=engine) as first:
            await first.look(3)
            await first.services.shared.stop()
        countdown = Countdown(store, at)
        async with broker_on(countdown.hooked.as_store(), engine=engine) as broker:
            with contextlib.suppress(DiedError):
                await _do_everything(broker, store)
        await _finish(store, engine)
        if countdown.calls < at:
            return
    raise AssertionError("the story is longer than CALLS_MAX calls")


async def _do_everything(broker: Broker, store: Store) -> None:
    one, two, three = await desktops(store, state="ready")
    to = "hst_2" if two.host_id == "hst_1" else "hst_1"
    commands: tuple[Command, ...] = (
        SuspendDesktop(desktop=one, why="spare"),
        MigrateDesktop(desktop=two, to_host_id=to, why="full"),
        ResizeDesktop(desktop=two, to=Resources(cpus=4, memory_mib=8192), why="changed"),
        ClearDesktop(desktop=three, why="surplus"),
        MakeDesktop(pool=POOL, host_id="hst_1", why="a spare"),
        PowerHost(host=HOSTS[2], on=True, why="people wait"),
    )
    lease = await broker.services.shared.hold(Work.PLANNER)
    view = View(now=broker.clock.now(), pools=(POOL,), counts={}, waiting={}, hosts=())
    acting = broker.services.reconciler._acting
    await acting.carry_out(commands, Look(view=replace(view), lease=lease))
    broker.services.engine_work.wake()
    await broker.settle()
