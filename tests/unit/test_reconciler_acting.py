"""Acting on a plan: each command does its part, and none that fails stops the others."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import replace

import pytest

from broker import limits
from broker.domain.audit import Outcome
from broker.domain.errors import ConflictError, EngineError, TriviumError, UnavailableError
from broker.domain.lifecycle import DesktopEvent
from broker.domain.model import (
    DesktopState,
    HostState,
    JobState,
    JobVerb,
    Resources,
    SessionState,
)
from broker.domain.planning.breaker import BreakerState, state_of
from broker.domain.planning.commands import (
    ClearDesktop,
    Command,
    ExpireDesktop,
    ExpireHost,
    ExpireJob,
    ExpireSession,
    FreshenDesktop,
    MakeDesktop,
    MigrateDesktop,
    NoRoom,
    PowerHost,
    ResizeDesktop,
    ResumeDesktop,
    ServeQueue,
    SuspendDesktop,
)
from broker.domain.planning.view import View
from broker.domain.settings import PoolSettings
from broker.ports import PageQuery, Store
from broker.services.reconciler.acting import AWAY_MAX, SHARED, Acting, Look
from broker.services.reconciler.machines import NO_ROOM_AGAIN_S
from broker.services.shared_work import Work
from broker.store.memory import MemoryStore
from tests.support.brokers import Broker, HookedStore, broker_on, desktops, fill
from tests.support.builders import make_desktop, make_host, make_pool, make_session
from tests.support.stores import make_job

POOL = make_pool(spares_min=2, size_max=6)
TWO_HOSTS = (make_host(), make_host(id="hst_2", name="server-2"))
SIZE = Resources(cpus=4, memory_mib=8192)


def _acting(broker: Broker) -> Acting:
    return broker.services.reconciler._acting


async def _look_of(broker: Broker) -> Look:
    lease = await broker.services.shared.hold(Work.PLANNER)
    assert lease is not None
    loads = await broker.kit.store.directory.host_loads()
    view = View(now=broker.clock.now(), pools=(POOL,), counts={}, waiting={}, hosts=loads)
    return Look(view=view, lease=lease)


async def _carry_out(broker: Broker, *commands: Command) -> dict[str, str]:
    """What became of each command, by its name."""
    acting = _acting(broker)
    acting.results.clear()
    await acting.carry_out(commands, await _look_of(broker))
    return dict(acting.results.keys())


async def _jobs(store: Store, verb: JobVerb) -> int:
    return len((await store.jobs.jobs(PageQuery(limit=500, filters={"verb": verb.value}))).items)


async def _why(store: Store, action: str) -> list[str]:
    page = await store.audit.entries(PageQuery(limit=100, filters={"action": action}))
    return [entry.why for entry in page.items]


# ---------------------------------------------------------------------- each does its part


async def test_a_ready_machine_is_suspended_and_resumed_again() -> None:
    store = MemoryStore()
    await fill(store, pools=(POOL,))
    async with broker_on(store) as broker:
        await broker.look(3)
        [one, _] = await desktops(store, state="ready")
        results = await _carry_out(broker, SuspendDesktop(desktop=one, why="a second-level spare"))
        assert results == {"SuspendDesktop": "done"}
        await broker.settle()
        [asleep] = await desktops(store, state="suspended")
        assert broker.engine.asleep == {one.id}
        await _carry_out(broker, ResumeDesktop(desktop=asleep, why="somebody waits"))
        await broker.settle()
        assert len(await desktops(store, state="ready")) == 2
    assert await _why(store, "desktop.suspend") == ["a second-level spare"]
    assert await _why(store, "desktop.resume") == ["somebody waits"]


async def test_a_machine_is_resized_when_the_engine_has_done_it() -> None:
    store = MemoryStore()
    await fill(store, pools=(POOL,))
    async with broker_on(store) as broker:
        await broker.look(3)
        [one, _] = await desktops(store, state="ready")
        await _carry_out(broker, ResizeDesktop(desktop=one, to=SIZE, why="the pool was changed"))
        assert (await store.desktops.known([one.id]))[0].resources == one.resources
        await broker.settle()
        assert (await store.desktops.known([one.id]))[0].resources == SIZE
        assert broker.engine.sizes[one.id] == SIZE.memory_mib
    assert await _why(store, "desktop.resize") == ["the pool was changed"]


async def test_a_machine_migrates_and_counts_where_it_is() -> None:
    store = MemoryStore()
    await fill(store, pools=(POOL,), hosts=TWO_HOSTS)
    async with broker_on(store) as broker:
        await broker.look(3)
        one = (await desktops(store, state="ready"))[0]
        to = "hst_2" if one.host_id == "hst_1" else "hst_1"
        command = MigrateDesktop(desktop=one, to_host_id=to, why="maintenance")
        assert await _carry_out(broker, command) == {"MigrateDesktop": "done"}
        assert await _carry_out(broker, command) == {"MigrateDesktop": "overtaken"}
        await broker.settle()
        [moved] = await store.desktops.known([one.id])
        assert (moved.host_id, moved.moving_to) == (to, None)
    outcomes = [
        entry.outcome
        for entry in (
            await store.audit.entries(PageQuery(filters={"action": "desktop.migrate"}))
        ).items
    ]
    assert sorted(outcomes) == [Outcome.DONE, Outcome.REFUSED]


async def test_a_host_is_switched_off_and_on_and_one_that_is_late_is_down() -> None:
    store = MemoryStore()
    await fill(store, pools=(replace(POOL, spares_min=0),), hosts=TWO_HOSTS)
    async with broker_on(store) as broker:
        host = TWO_HOSTS[1]
        await _carry_out(broker, PowerHost(host=host, on=False, why="nothing ran on it"))
        await broker.settle()
        host = await broker.services.site.host(host.id)
        assert (host.state, broker.engine.off) == (HostState.OFF, {"hst_2"})
        broker.engine.failing.add("power_on")
        await _carry_out(broker, PowerHost(host=host, on=True, why="people wait"))
        await broker.settle()
        host = await broker.services.site.host(host.id)
        assert host.state is HostState.POWERING_ON
        broker.clock.advance(limits.POWER_S + 1)
        await broker.look()
        assert (await broker.services.site.host(host.id)).state is HostState.DOWN
    assert await _why(store, "host.power_off") == ["nothing ran on it"]
    [why] = await _why(store, "host.expire")
    assert "powering_on took longer" in why


async def test_a_lack_of_room_is_told_once_for_each_reason() -> None:
    store = MemoryStore()
    await fill(store, pools=(POOL,))
    async with broker_on(store) as broker:
        full = NoRoom(pool=POOL, missing=2, why="server-1 is full", reasons=("no memory",))
        gone = NoRoom(pool=POOL, missing=1, why="no host is up")
        for _ in range(3):
            await _carry_out(broker, full)
        await _carry_out(broker, gone)
        assert await _why(store, "pool.no_room") == ["server-1 is full"]
        broker.clock.advance(NO_ROOM_AGAIN_S)
        for _ in range(3):
            await _carry_out(broker, gone)
        assert await _why(store, "pool.no_room") == ["no host is up", "server-1 is full"]
        # once nothing was missing for a while the same reason is news again
        broker.clock.advance(NO_ROOM_AGAIN_S)
        await _carry_out(broker)
        await _carry_out(broker, gone)
        assert len(await _why(store, "pool.no_room")) == 3
        # having to wait for one's turn is no lack
        broker.clock.advance(NO_ROOM_AGAIN_S)
        await _carry_out(broker, NoRoom(pool=POOL, missing=1, why="busy", paced=True))
        assert len(await _why(store, "pool.no_room")) == 3


async def test_machines_that_never_boot_open_the_breaker_and_the_pool_pauses_there() -> None:
    pool = replace(POOL, settings=PoolSettings(failures_max=2, breaker_s=600))
    store = MemoryStore()
    await fill(store, pools=(pool,))
    async with broker_on(store) as broker:
        broker.engine.silent = True
        await broker.look(2)
        broker.clock.advance(limits.BOOT_S + 1)
        await broker.look(3)
        breaker = (await broker.services.breakers.all())[pool.id, "hst_1"]
        assert state_of(breaker, broker.clock.now()) is BreakerState.OPEN
        made = await _jobs(store, JobVerb.CREATE)
        for _ in range(5):
            broker.clock.advance(10)
            await broker.look()
        assert await _jobs(store, JobVerb.CREATE) == made
        # after the pause one is let through, and it closes the breaker
        broker.engine.silent = False
        broker.clock.advance(600)
        await broker.look()
        assert await _jobs(store, JobVerb.CREATE) == made + 1
        await broker.look(3)
        assert await broker.services.breakers.all() == {}
        assert len(await desktops(store, state="ready")) == 2
    assert len(await _why(store, "breaker.open")) == 1


async def test_a_deadline_that_is_heard_of_late_is_not_that_of_the_state_after() -> None:
    store = MemoryStore()
    await fill(store, pools=(POOL,))
    async with broker_on(store) as broker:
        await broker.look(3)
        [ready, *_] = await desktops(store, state="ready")
        late = replace(ready, state=DesktopState.RESETTING, deadline_at=1)
        now = broker.clock.now()
        going = await store.desktops.advance(
            ready.id, DesktopEvent.DELETE_ASKED, now, deadline_at=now + 60_000
        )
        with contextlib.suppress(TriviumError):
            await _carry_out(broker, ExpireDesktop(desktop=late))
        assert await store.desktops.desktop(ready.id) == going
        await _carry_out(broker, ExpireDesktop(desktop=going))
        again = await store.desktops.desktop(ready.id)
        assert again is not None
        assert again.state is DesktopState.DELETING
        assert again.deadline_at == now + limits.DELETE_S * 1000


async def test_a_desktop_that_is_late_under_its_session_fails_with_it() -> None:
    store = MemoryStore()
    await fill(store, pools=(POOL,))
    async with broker_on(store) as broker:
        await broker.look(3)
        one = (await desktops(store, state="ready"))[0]
        now = broker.clock.now()
        await store.desktops.advance(one.id, DesktopEvent.CLAIMED, now)
        parking = await store.desktops.advance(
            one.id, DesktopEvent.SUSPEND_ASKED, now, deadline_at=now + 1000
        )
        await _carry_out(broker, ExpireDesktop(desktop=parking))
        [failed] = await store.desktops.known([one.id])
        assert failed.state is DesktopState.FAILED


# -------------------------------------------------------------- none stops the others

_STRANGER = make_desktop(id="dsk_gone", name="gone", state=DesktopState.FAILED)
OVERTAKEN: tuple[Command, ...] = (
    ClearDesktop(desktop=_STRANGER, why="it failed"),
    SuspendDesktop(desktop=_STRANGER, why="spare"),
    ResumeDesktop(desktop=_STRANGER, why="spare"),
    MigrateDesktop(desktop=_STRANGER, to_host_id="hst_2", why="full"),
    PowerHost(host=make_host(id="hst_gone"), on=False, why="idle"),
    ExpireHost(host=make_host(id="hst_gone", state=HostState.POWERING_ON)),
    ExpireDesktop(desktop=_STRANGER),
    ExpireJob(job=make_job(id="job_gone")),
)


@pytest.mark.parametrize("command", OVERTAKEN, ids=lambda one: type(one).__name__)
async def test_what_the_world_overtook_is_left_alone_and_the_rest_goes_on(
    command: Command,
) -> None:
    store = MemoryStore()
    await fill(store, pools=(POOL,))
    async with broker_on(store) as broker:
        make = MakeDesktop(pool=POOL, host_id="hst_1", why="a spare")
        results = await _carry_out(broker, command, make)
        assert results == {type(command).__name__: "overtaken", "MakeDesktop": "done"}


_EVERY: tuple[Command, ...] = (
    *OVERTAKEN,
    MakeDesktop(pool=POOL, host_id="hst_1", why="a spare"),
    NoRoom(pool=POOL, missing=1, why="full"),
    ResizeDesktop(desktop=make_desktop(), to=SIZE, why="changed"),
    FreshenDesktop(desktop=replace(_STRANGER, host_id=None, endpoint_id="ept_1"), why="it failed"),
    ExpireSession(session=make_session(state=SessionState.QUEUED)),
    ServeQueue(pool=POOL),
)


@pytest.mark.parametrize("fault", [EngineError("no"), ConflictError("no"), ZeroDivisionError()])
@pytest.mark.parametrize("command", _EVERY, ids=lambda one: type(one).__name__)
async def test_whatever_a_command_raises_the_others_are_carried_out(
    command: Command, fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    store = MemoryStore()
    await fill(store, pools=(POOL,))
    async with broker_on(store) as broker:
        acting = _acting(broker)
        bugs: list[BaseException] = []

        async def fail(_: Command, __: Look) -> None:
            raise fault

        broker.services.reconciler.tell_bugs(bugs.append)
        handlers = dict(acting._handlers)
        handlers[type(command)] = fail
        acting._handlers = handlers
        power = PowerHost(host=make_host(), on=False, why="idle")
        expire = ExpireJob(job=make_job(id="job_gone"))
        with caplog.at_level(logging.CRITICAL, logger="trivium.reconciler"):
            results = await _carry_out(broker, command, power, expire)
    bug = isinstance(fault, ZeroDivisionError)
    expected = {"PowerHost": "done", "ExpireJob": "overtaken"}
    expected[type(command).__name__] = "bug" if bug else "failed"
    assert results == expected
    assert bugs == [fault] * acting.results[type(command).__name__, "bug"]


async def test_a_store_that_is_away_ends_the_look_after_a_few_commands() -> None:
    store = HookedStore(MemoryStore())
    await fill(store.as_store(), pools=(POOL,))
    async with broker_on(store.as_store()) as broker:
        look = await _look_of(broker)
        asked: list[str] = []

        async def away(name: str) -> None:
            if name.startswith("desktops."):
                asked.append(name)
                raise UnavailableError("the store is away")

        store.before = away
        commands = tuple(ClearDesktop(desktop=_STRANGER, why="it failed") for _ in range(20))
        await _acting(broker).carry_out(commands, look)
        assert len(asked) == AWAY_MAX


async def test_a_name_that_somebody_took_meanwhile_costs_one_look() -> None:
    store = MemoryStore()
    await fill(store, pools=(POOL,))
    async with broker_on(store) as broker:
        make = MakeDesktop(pool=POOL, host_id="hst_1", why="a spare")
        await _carry_out(broker, make)
        theirs = make_desktop(
            id="dsk_theirs", name="library-002", pool_id=POOL.id, state=DesktopState.PLANNED
        )
        await store.desktops.add([theirs], [])
        assert await _carry_out(broker, make) == {"MakeDesktop": "overtaken"}
        assert await _carry_out(broker, make) == {"MakeDesktop": "done"}
        names = {one.name for one in await desktops(store)}
        assert names == {"library-001", "library-002", "library-003"}


async def test_every_command_has_a_handler_and_a_side() -> None:
    async with broker_on(MemoryStore()) as broker:
        handled = set(_acting(broker)._handlers)
    assert handled == set(Command.__args__)
    assert handled > SHARED


async def test_a_job_whose_process_died_is_put_back() -> None:
    store = MemoryStore()
    await fill(store, pools=(POOL,))
    async with broker_on(store) as broker:
        await broker.services.reconciler.look()
        taken = await store.jobs.take(broker.clock.now(), broker.clock.now() + 1, 10)
        await _carry_out(broker, *[ExpireJob(job=job) for job in taken])
        page = await store.jobs.jobs(PageQuery(filters={"state": JobState.QUEUED.value}))
        assert len(page.items) == len(taken) == POOL.spares_min


async def test_rows_that_cannot_be_expired_do_not_keep_those_behind_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "RECONCILE_BATCH_MAX", 2)
    store = MemoryStore()
    await fill(store, pools=(replace(POOL, spares_min=0),))
    async with broker_on(store) as broker:
        now = broker.clock.now()
        for number in range(6):
            late = make_desktop(
                id=f"dsk_{number}",
                name=f"late-{number}",
                pool_id=POOL.id,
                state=DesktopState.PLANNED,
                target=DesktopState.READY,
                deadline_at=now + number,
            )
            await store.desktops.add([late], [])
        expire = broker.services.reconciler._acting._machines.expire

        async def the_oldest_fail(command: ExpireDesktop) -> None:
            if command.desktop.id in {"dsk_0", "dsk_1", "dsk_2"}:
                raise EngineError("it never can")
            await expire(command)

        monkeypatch.setattr(_acting(broker)._machines, "expire", the_oldest_fail)
        broker.clock.advance(1)
        for _ in range(5):
            await broker.services.reconciler.look()
        planned = {one.id for one in await desktops(store, state="planned")}
        assert planned == {"dsk_0", "dsk_1", "dsk_2"}
