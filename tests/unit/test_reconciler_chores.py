"""What is done now and then: each by whoever has to, and none that fails stops the others."""

from __future__ import annotations

from broker import limits
from broker.domain.errors import UnavailableError
from broker.domain.lifecycle import EndpointEvent
from broker.domain.model import EndpointState, Identity, Role, Session, SessionState
from broker.services.reconciler.chores import SILENCE_S
from broker.services.shared_work import Work
from broker.store.memory import MemoryStore
from tests.support.brokers import Broker, HookedStore, broker_on, fill
from tests.support.builders import make_endpoint, make_pool
from tests.support.world import make_world

POOL = make_pool(spares_min=0, size_max=1)
EMPTY = make_pool(spares_min=0, size_max=0)


async def _waits(broker: Broker, number: int) -> Session:
    who = Identity(
        user_id=f"usr_{number}",
        username=f"user-{number:04d}",
        role=Role.USER,
        token_id="tok",
        group_ids=("grp_1",),
    )
    return (await broker.services.connect.connect(who, EMPTY.name)).session


async def _state(broker: Broker, session: Session) -> SessionState:
    found = await broker.kit.store.sessions.session(session.id)
    assert found is not None
    return found.state


async def test_a_client_that_went_away_loses_its_place_and_one_that_calls_keeps_it() -> None:
    async with make_world() as world:
        gone = (await world.connect.connect(world.who("pupil1"), "lab", "LAB-0")).session
        here = (await world.connect.connect(world.who("pupil2"), "lab", "LAB-0")).session
        for _ in range(limits.CLIENT_SILENT_S // 10 + 2):
            world.clock.advance(10)
            await world.sessions.wait(world.who("pupil2"), here.id, 0, 0.0)
            await world.look()
        assert (await world.sessions.get(world.who("pupil1"), gone.id)).state == "cancelled"
        assert (await world.sessions.get(world.who("pupil2"), here.id)).state == "queued"


async def test_only_the_sweeper_drops_clients() -> None:
    store = MemoryStore()
    await fill(store, pools=(EMPTY,))
    async with (
        broker_on(store, process="a") as sweeper,
        broker_on(store, process="b") as other,
    ):
        await sweeper.services.shared.hold(Work.SWEEPER)
        session = await _waits(other, 1)
        for broker in (sweeper, other):
            broker.clock.advance(limits.CLIENT_SILENT_S + SILENCE_S)
        await sweeper.services.shared.hold(Work.SWEEPER)
        await other.services.reconciler.look()
        assert await _state(other, session) is SessionState.QUEUED
        await sweeper.services.reconciler.look()
        assert await _state(other, session) is SessionState.CANCELLED


async def test_more_silent_endpoints_than_one_batch_are_lost_in_one_look() -> None:
    store = MemoryStore()
    number = limits.RECONCILE_BATCH_MAX + 20
    await fill(store, pools=(POOL,))
    async with broker_on(store) as broker:
        for n in range(number):
            endpoint = make_endpoint(id="", name=f"E-{n}")
            enrolled = await store.endpoints.enrol(
                name=endpoint.name,
                kind=endpoint.kind,
                location="",
                public_key=b"k" * 32,
                agent_version="1",
                new_id=f"ept_{n:04d}",
                now=broker.clock.now(),
            )
            await store.endpoints.presence(enrolled.id, EndpointEvent.CONNECTED, broker.clock.now())
        broker.clock.advance(limits.SILENT_S + 1)
        await broker.services.reconciler.look()
        states = [await store.endpoints.endpoint(f"ept_{n:04d}") for n in range(number)]
    assert {one.state for one in states if one is not None} == {EndpointState.OFFLINE}


async def test_a_chore_that_fails_is_counted_and_the_next_ones_are_done() -> None:
    store = HookedStore(MemoryStore())
    await fill(store.as_store(), pools=(EMPTY,))
    async with broker_on(store.as_store()) as broker:
        session = await _waits(broker, 1)
        broker.clock.advance(limits.CLIENT_SILENT_S + SILENCE_S)

        async def some_fail(name: str) -> None:
            if name == "endpoints.silent":
                raise UnavailableError("the store did not answer")
            if name == "credentials.purge":
                raise ZeroDivisionError

        bugs: list[BaseException] = []
        broker.services.reconciler.tell_bugs(bugs.append)
        store.before = some_fail
        await broker.services.reconciler.look()
        assert await _state(broker, session) is SessionState.CANCELLED
        failures = broker.services.reconciler.failures
    assert (failures["silent"], failures["purge"]) == (1, 1)
    assert [type(bug) for bug in bugs] == [ZeroDivisionError]
