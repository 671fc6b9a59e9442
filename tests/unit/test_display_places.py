"""A display belongs to the place that its session is at; and what its person does is heard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import cast

import pytest

from broker import limits
from broker.domain.lifecycle import SessionEvent
from broker.domain.model import Session, SessionState
from broker.domain.session_time import Heard, Signs
from broker.gateway.desk import Desk, end_displays
from broker.gateway.display import DisplayGateway
from broker.ports import SessionChange, Store
from tests.support.displays import FakeClient, FakeConsole, FakeDesk
from tests.support.eventually import eventually
from tests.support.seats import read, sit_down, thin
from tests.support.world import HandClock, World, make_world


class OpenDisplays:
    """The Displays port as far as ending them goes: session -> the place it is open for."""

    def __init__(self) -> None:
        self.places: dict[str, str | None] = {}

    async def serve(self, *_: object, **__: object) -> str:
        raise NotImplementedError

    def kill(
        self, session_id: str, detail: str = "", code: str = "display.killed",
        browser: str | None = None,
    ) -> bool:  # fmt: skip
        del detail, code
        was_open = session_id in self.places
        self.places.pop(session_id, None)
        return was_open

    def elsewhere(self, session_id: str, endpoint_id: str | None, display: str | None) -> bool:
        del display
        return session_id in self.places and self.places[session_id] != endpoint_id

    def open_sessions(self) -> tuple[str, ...]:
        return tuple(self.places)


@asynccontextmanager
async def watched(world: World) -> AsyncIterator[OpenDisplays]:
    displays = OpenDisplays()
    task = asyncio.ensure_future(end_displays(world.kit, displays))
    await world.settle()
    try:
        yield displays
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_the_display_of_the_place_that_was_left_is_closed() -> None:
    async with make_world() as world, watched(world) as displays:
        await world.look(3)
        await thin(world, 0)
        begun = await sit_down(world, "pupil1", None)
        displays.places[begun.session.id] = None
        await world.settle()
        assert displays.open_sessions() == (begun.session.id,)
        await world.connect.connect(world.who("pupil1"), "library", "THIN-0")
        await world.settle()
        assert displays.open_sessions() == ()


async def test_a_hint_that_is_older_than_the_display_does_not_close_it() -> None:
    async with make_world() as world, watched(world) as displays:
        await world.look(3)
        endpoint = await thin(world, 0)
        begun = await sit_down(world, "pupil1", "THIN-0")
        displays.places[begun.session.id] = endpoint
        world.kit.events.publish(
            "session", id=begun.session.id, state=SessionState.ACTIVE, endpoint_id=None
        )
        await world.settle()
        assert displays.open_sessions() == (begun.session.id,)


class SlowSessions:
    """A store whose sessions are never answered."""

    def __init__(self) -> None:
        self.asked = 0
        self.sessions = self

    async def some(self, session_ids: Sequence[str]) -> Sequence[Session]:
        del session_ids
        self.asked += 1
        await asyncio.Event().wait()
        raise AssertionError


async def test_a_display_ends_by_its_hint_while_the_database_is_slow_about_another() -> None:
    async with make_world() as world:
        slow = SlowSessions()
        kit = replace(world.kit, store=cast("Store", slow))
        displays = OpenDisplays()
        displays.places |= {"ses_1": "ept_1", "ses_2": None}
        task = asyncio.ensure_future(end_displays(kit, displays))
        await world.settle()
        kit.events.publish("session", id="ses_1", state=SessionState.ACTIVE, endpoint_id=None)
        await world.settle()
        assert slow.asked == 1
        kit.events.publish("session", id="ses_2", state=SessionState.ENDED)
        await world.settle()
        assert displays.open_sessions() == ("ses_1",)
        task.cancel()
        await asyncio.wait([task])


@pytest.mark.parametrize("end", ["moved", "over"])
async def test_a_lost_hint_costs_a_while_and_nothing_else(end: str) -> None:
    async with make_world() as world, watched(world) as displays:
        await world.look(3)
        endpoint = await thin(world, 0)
        begun = await sit_down(world, "pupil1", None)
        displays.places[begun.session.id] = None
        now = world.clock.now()
        if end == "moved":
            await world.kit.store.sessions.advance(
                begun.session.id,
                SessionEvent.TAKEN_OVER,
                now,
                why="",
                deadline_at=now + 1000,
                change=SessionChange(move=True, move_to=endpoint),
            )
        else:
            await world.kit.store.sessions.advance(
                begun.session.id, SessionEvent.FAILED, now, why=""
            )
        await world.settle()
        assert displays.open_sessions() == (begun.session.id,)
        world.clock.advance(limits.DISPLAYS_CHECK_S)
        await world.settle()
        assert displays.open_sessions() == ()


async def test_input_at_a_display_is_what_idle_time_is_counted_from() -> None:
    async with make_world() as world:
        await world.look(3)
        begun = await sit_down(world, "pupil1", None)
        desk = Desk(
            world.kit,
            world.sessions,
            {"simulated": world.engine}.__getitem__,
            world.services.showing,
        )
        world.clock.advance(120)
        heard = Heard(at=world.clock.now(), desktop_id="dsk_1", generation=1, signs=Signs.INPUT)
        desk.inputs({begun.session.id: heard})
        await world.endpoints.flush()
        assert (await read(world, begun.session.id)).active_at == world.clock.now()


async def test_the_gateway_tells_when_the_last_input_came() -> None:
    console, clock, client = FakeConsole(), HandClock(), FakeClient()
    desk = FakeDesk(console)
    gateway = DisplayGateway(desk=desk, clock=clock)
    served = asyncio.ensure_future(gateway.serve(client, ticket="t-ses_1"))
    await eventually(lambda: client.opened)
    assert gateway.elsewhere("ses_1", "ept_1", None)
    assert not gateway.elsewhere("ses_1", None, None)
    client.type(b"key")
    await eventually(lambda: console.input)
    first = clock.now()
    await gateway.flush()
    [heard] = desk.last_inputs.values()
    assert (heard.at, heard.desktop_id, heard.signs) == (first, "dsk_1", Signs.INPUT)
    desk.last_inputs.clear()
    clock.advance(30)
    console.show(b"a picture is no input")
    await eventually(lambda: client.frames)
    await gateway.flush()
    assert desk.last_inputs == {}
    client.type(b"")
    await served
