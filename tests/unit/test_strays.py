"""Strays: machines that nobody should have go, rows whose machine is gone fail."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import pytest

from broker import limits
from broker.domain.errors import EngineError, IllegalTransitionError, UnsupportedError
from broker.domain.lifecycle import DesktopEvent, HostEvent, SessionEvent
from broker.domain.model import Desktop, HostState, Identity, Role, Session, SessionState
from broker.ports import Engine, Machine, PageQuery, PartialListError, Store
from broker.services.strays import Strays
from broker.store.memory import MemoryStore
from tests.support.brokers import Broker, broker_on, desktops, fill
from tests.support.builders import make_host, make_pool
from tests.support.prompt_engine import ByItsBook, PromptEngine

POOL = make_pool(spares_min=2, size_max=6)
ONE = make_pool(spares_min=1, size_max=1)


def _strays(broker: Broker) -> Strays:
    return broker.services.reconciler._strays


async def _compare(broker: Broker, times: int = 1) -> None:
    engines: tuple[Engine, ...] = (broker.engine,)
    for _ in range(times):
        for _ in range(int(limits.STRAYS_S)):
            broker.clock.advance(1.0)
            await broker.services.shared.renew()  # as each look of the reconciler does
        await _strays(broker).look(engines)
        await broker.settle()


async def _ready(broker: Broker, store: Store) -> list[Desktop]:
    await broker.look(3)
    return await desktops(store, state="ready")


async def _actions(store: Store) -> list[str]:
    entries = (await store.audit.entries(PageQuery(limit=100))).items
    return [entry.action for entry in entries if entry.action.startswith("machine.")]


class Part(PromptEngine):
    """The machines of one process; other processes have the rest."""

    async def machines(self) -> tuple[Machine, ...]:
        raise UnsupportedError("other processes simulate the rest of the machines")


async def test_an_engine_that_has_a_part_of_the_machines_says_so_once_and_nothing_is_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = MemoryStore()
    await fill(store, pools=(POOL,))
    async with broker_on(store) as broker:
        ready = await _ready(broker, store)
        with caplog.at_level(logging.INFO, "trivium.strays"):
            for _ in range(3):
                broker.clock.advance(limits.STRAYS_S / 2)
                await broker.services.shared.renew()
                await _strays(broker).look((Part(),))
        [told] = [one for one in caplog.records if one.name == "trivium.strays"]
        assert told.levelno == logging.INFO
        assert "other processes" in told.getMessage()
        assert not _strays(broker).failures
        assert await desktops(store, state="ready") == ready
        assert await _actions(store) == []


async def test_what_is_as_it_should_be_is_left_alone() -> None:
    store = MemoryStore()
    await fill(store, pools=(POOL,))
    async with broker_on(store) as broker:
        ready = await _ready(broker, store)
        await _compare(broker, 5)
        assert await desktops(store, state="ready") == ready
        assert await _actions(store) == []


async def test_a_machine_that_the_store_does_not_know_is_removed_at_the_second_sight() -> None:
    store = MemoryStore()
    await fill(store, pools=(POOL,))
    async with broker_on(store) as broker:
        await _ready(broker, store)
        broker.engine.known["dsk_unknown"] = 1
        broker.engine.places["dsk_unknown"] = "hst_1"
        await _compare(broker)
        assert "dsk_unknown" in broker.engine.known
        await _compare(broker)
        assert "dsk_unknown" not in broker.engine.known
        assert await _actions(store) == ["machine.discard"]
        assert len(broker.engine.known) == POOL.spares_min


async def test_a_desktop_whose_machine_is_gone_fails_and_is_replaced() -> None:
    store = MemoryStore()
    await fill(store, pools=(POOL,))
    async with broker_on(store) as broker:
        one, _ = await _ready(broker, store)
        del broker.engine.known[one.id]
        await _compare(broker)
        assert len(await desktops(store, state="ready")) == 2
        await _compare(broker)
        await broker.look(4)
        ready = await desktops(store, state="ready")
        assert len(ready) == 2
        assert one.id not in {desktop.id for desktop in ready}
        assert await _actions(store) == ["machine.lost"]


async def test_a_session_whose_machine_is_gone_is_told() -> None:
    store = MemoryStore()
    await fill(store, pools=(POOL,))
    async with broker_on(store) as broker:
        await _ready(broker, store)
        answer = await _connected(broker)
        assert answer.desktop_id is not None
        del broker.engine.known[answer.desktop_id]
        await _compare(broker, 2)
        session = await store.sessions.session(answer.id)
        assert session is not None
        assert session.state is SessionState.FAILED
        assert "its machine is gone" in session.why


async def _connected(broker: Broker, number: int = 1) -> Session:
    who = Identity(
        user_id=f"usr_{number}",
        username=f"user-000{number}",
        role=Role.USER,
        token_id="tok",
        group_ids=("grp_1",),
    )
    answer = await broker.services.connect.connect(who, POOL.name)
    return await broker.kit.store.sessions.advance(
        answer.session.id, SessionEvent.REPORTED_LIVE, broker.clock.now(), why="live"
    )


async def _passed_on(broker: Broker, first: Session) -> Session:
    """The first one logs off, the desktop is made fresh, and the next one gets it."""
    store = broker.kit.store
    await broker.services.sessions.end(first, SessionEvent.LOG_OFF, "bye")
    await broker.look(6)
    second = await _connected(broker, 2)
    assert second.desktop_id == first.desktop_id
    assert second.generation > first.generation
    ended = await store.sessions.session(first.id)
    assert ended is not None
    assert ended.state is SessionState.ENDED
    return second


class Hangs(PromptEngine):
    """Somebody does something while a stray is removed."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: Callable[[], Awaitable[object]] | None = None

    async def discard(self, machine: Machine) -> None:
        await super().discard(machine)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            await meanwhile()


async def test_who_gets_a_desktop_while_strays_are_removed_keeps_it() -> None:
    """It was compared before, under another person."""
    store = MemoryStore()
    await fill(store, pools=(ONE,))
    async with broker_on(store, engine=Hangs()) as broker:
        await broker.look(3)
        first = await _connected(broker)
        engine = broker.engine
        assert isinstance(engine, Hangs)
        engine.known["dsk_unknown"] = 1
        engine.halted.add(first.desktop_id or "")
        await _compare(broker)
        seconds: list[Session] = []

        async def meanwhile() -> None:
            engine.halted.clear()
            seconds.append(await _passed_on(broker, first))

        engine.meanwhile = meanwhile
        await _compare(broker)
        [second] = seconds
        assert await store.sessions.session(second.id) == second
        assert await _actions(store) == ["machine.discard"]


async def test_a_loss_that_was_read_under_another_person_ends_nobodys_session() -> None:
    store = MemoryStore()
    await fill(store, pools=(ONE,))
    async with broker_on(store) as broker:
        await broker.look(3)
        first = await _connected(broker)
        stale = await store.desktops.desktop(first.desktop_id or "")
        assert stale is not None
        second = await _passed_on(broker, first)
        with pytest.raises(IllegalTransitionError):
            await broker.services.engine_work.lost(stale, "its machine does not run")
        await broker.services.sessions.desktop_lost(stale.id, stale.generation, "gone")
        assert await store.sessions.session(second.id) == second


async def test_who_was_given_a_desktop_just_before_it_is_lost_is_told() -> None:
    """It is the same machine."""
    store = MemoryStore()
    await fill(store, pools=(ONE,))
    async with broker_on(store) as broker:
        [ready] = await _ready(broker, store)
        session = await _connected(broker)
        await broker.services.engine_work.lost(ready, "its host failed")
        lost = await store.sessions.session(session.id)
        assert lost is not None
        assert lost.state is SessionState.FAILED


async def test_one_machine_that_cannot_be_removed_does_not_keep_the_others() -> None:
    store = MemoryStore()
    await fill(store, pools=(POOL,))
    async with broker_on(store) as broker:
        one, _ = await _ready(broker, store)
        del broker.engine.known[one.id]
        broker.engine.known["dsk_unknown"] = 1
        broker.engine.failing.add("discard")
        await _compare(broker, 2)
        assert await _actions(store) == ["machine.lost", "machine.discard"]
        assert _strays(broker).failures["DiscardMachine"] == 1
        assert "dsk_unknown" in broker.engine.known
        broker.engine.failing.clear()
        await _compare(broker)
        assert "dsk_unknown" not in broker.engine.known


async def test_an_engine_that_cannot_list_its_machines_loses_nobody_his_desktop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = MemoryStore()
    await fill(store, pools=(POOL,))
    async with broker_on(store) as broker:
        ready = await _ready(broker, store)

        async def cannot() -> tuple[Machine, ...]:
            raise EngineError("a host does not answer")

        monkeypatch.setattr(broker.engine, "machines", cannot)
        await _compare(broker, 3)
        assert await desktops(store, state="ready") == ready
        assert _strays(broker).failures["machines of simulated"] == 3


async def test_an_engine_that_takes_too_long_is_told_with_a_reason(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = MemoryStore()
    await fill(store, pools=(POOL,))
    async with broker_on(store) as broker:

        async def late() -> tuple[Machine, ...]:
            raise TimeoutError

        monkeypatch.setattr(broker.engine, "machines", late)
        await _compare(broker)
        assert "did not list its machines: TimeoutError" in caplog.text


async def test_a_host_that_does_not_answer_stops_no_look_at_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = MemoryStore()
    await fill(store, pools=(POOL,), hosts=(make_host(), make_host(id="hst_2", name="srv-2")))
    async with broker_on(store) as broker:
        ready = await _ready(broker, store)
        there = next(one for one in ready if one.host_id == "hst_2")
        here = next(one for one in ready if one.host_id == "hst_1")
        broker.engine.known |= {"dsk_unknown": 1}
        broker.engine.places["dsk_unknown"] = "hst_1"
        del broker.engine.known[there.id], broker.engine.known[here.id]
        whole = broker.engine.machines

        async def without_one() -> tuple[Machine, ...]:
            answered = [one for one in await whole() if one.host_id != "hst_2"]
            raise PartialListError(answered, {"hst_2": "it does not answer"})

        monkeypatch.setattr(broker.engine, "machines", without_one)
        await _compare(broker, 2)
        assert "dsk_unknown" not in broker.engine.known
        lost = await store.audit.entries(PageQuery(filters={"action": "machine.lost"}))
        assert [entry.desktop_id for entry in lost.items] == [here.id]
        assert _strays(broker).failures["machines of simulated"] == 2


async def _suspended(broker: Broker, desktop_id: str) -> None:
    broker.engine.asleep.add(desktop_id)
    for event in (DesktopEvent.SUSPEND_ASKED, DesktopEvent.SUSPENDED):
        await broker.kit.store.desktops.advance(desktop_id, event, broker.clock.now())


@pytest.mark.parametrize(
    "away", [(HostEvent.POWER_OFF_ASKED, HostEvent.POWERED_OFF), (HostEvent.LOST,)]
)
async def test_what_is_suspended_on_a_host_that_is_off_or_down_waits_for_it(
    away: tuple[HostEvent, ...],
) -> None:
    store = MemoryStore()
    await fill(store, pools=(POOL,))
    async with broker_on(store, engine=ByItsBook()) as broker:
        ready = await _ready(broker, store)
        session = await _connected(broker)
        for one in ready:
            await _suspended(broker, one.id)
        for event in away:
            broker.engine.features(
                await store.directory.move_host("hst_1", event, broker.clock.now())
            )
        await _compare(broker, 3)
        assert len(await desktops(store, state="suspended")) == 1
        [parked] = await desktops(store, state="parked")
        assert parked.id == session.desktop_id
        assert await store.sessions.session(session.id) == session
        assert await _actions(store) == []


async def test_a_process_whose_engine_knows_no_hosts_or_old_records_loses_nobody_his_desktop() -> (
    None
):
    store = MemoryStore()
    await fill(store, pools=(POOL,), hosts=(make_host(), make_host(id="hst_2", name="srv-2")))
    async with broker_on(store, engine=ByItsBook()) as broker:
        ready = await _ready(broker, store)
        engine = broker.engine
        assert isinstance(engine, ByItsBook)
        for _ in range(3):
            engine.book = {"hst_2": make_host(id="hst_2", state=HostState.OFF)}
            await _compare(broker)
        assert {one.host_id for one in ready} == {"hst_1", "hst_2"}
        assert await desktops(store, state="ready") == ready
        assert await _actions(store) == []


async def test_the_work_stays_with_one_process_between_two_comparisons() -> None:
    """Comparisons are further apart than a lease lives; what was seen once is remembered."""
    store = MemoryStore()
    await fill(store, pools=(POOL,))
    async with broker_on(store, process="a") as first:
        await _ready(first, store)
        async with broker_on(store, process="b", engine=first.engine) as second:
            first.engine.known["dsk_unknown"] = 1
            await _compare(first)
            for _ in range(int(limits.STRAYS_S)):
                first.clock.advance(1.0)
                second.clock.advance(1.0)
                await first.look()
                await second.look()
            await _strays(second).look((second.engine,))
            assert first.services.shared.held["strays"] == 1
            await _strays(first).look((first.engine,))
            assert "dsk_unknown" not in first.engine.known


async def test_a_process_that_takes_the_work_over_looks_twice_itself() -> None:
    store = MemoryStore()
    await fill(store, pools=(POOL,))
    async with broker_on(store, process="a") as first:
        await _ready(first, store)
        async with broker_on(store, process="b", engine=first.engine) as second:
            first.engine.known["dsk_unknown"] = 1
            await _compare(first)
            await first.services.shared.stop()
            await _compare(second)
            assert "dsk_unknown" in first.engine.known
            await _compare(second)
            assert "dsk_unknown" not in first.engine.known


async def test_no_more_than_the_limit_is_removed_at_once() -> None:
    store = MemoryStore()
    await fill(store, pools=(POOL,))
    async with broker_on(store) as broker:
        for number in range(3 * limits.STRAYS_MAX):
            broker.engine.known[f"dsk_unknown{number}"] = 1
        await _compare(broker, 2)
        assert len(broker.engine.known) == 2 * limits.STRAYS_MAX
        await _compare(broker, 2)
        assert not broker.engine.known
