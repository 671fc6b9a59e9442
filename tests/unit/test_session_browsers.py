"""A browser is a place of its own, known by its sign-in; and of a session's displays one is its
own, whichever broker holds it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from broker import limits
from broker.domain.errors import (
    BadTicketError,
    ConflictError,
    ElsewhereError,
    EngineError,
    ForbiddenError,
)
from broker.domain.model import Session, SessionState
from broker.domain.settings import PoolSettings, TakeOver
from broker.gateway.desk import Desk, end_displays
from broker.gateway.display import DisplayGateway
from broker.gateway.ends import DisplayEnd
from broker.ports import ConsentOrder, Console, StartOrder
from broker.services.connect import Connected
from tests.support.displays import FakeClient, FakeConsole
from tests.support.eventually import eventually
from tests.support.seats import read, set_pool, thin
from tests.support.world import World, make_world

ASK = PoolSettings(take_over=TakeOver.ASK, consent_s=60)


class Machines:
    """An engine whose desktops all show a console, or `refuse` to."""

    refuse = False

    def displays(self, _: object) -> frozenset[str]:
        return frozenset({"vnc"})

    async def console(self, *_: object) -> Console:
        if self.refuse:
            raise EngineError("it does not run")
        return FakeConsole()


def gateway_of(world: World, machines: Machines | None = None) -> DisplayGateway:
    """The displays of one broker process."""
    engine: Any = machines or Machines()
    desk = Desk(world.kit, world.sessions, lambda _: engine, world.services.showing)
    return DisplayGateway(desk=desk, clock=world.clock)


def ended_with(client: FakeClient) -> str | None:
    return client.closed


@asynccontextmanager
async def ending(world: World, *gateways: DisplayGateway) -> AsyncIterator[None]:
    """Each process ends its displays of sessions that are not its own any more."""
    tasks = [asyncio.ensure_future(end_displays(world.kit, one)) for one in gateways]
    await world.settle()
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def asked_from(world: World, browser: str) -> Connected:
    return await world.connect.connect(world.who("pupil1", browser), "library")


async def opened(
    world: World, gateway: DisplayGateway, browser: str
) -> tuple[FakeClient, asyncio.Future[str]]:
    """Ask for the session in that browser and open its display in that process."""
    answer, client = await asked_from(world, browser), FakeClient()
    assert answer.ticket is not None
    served = asyncio.ensure_future(
        gateway.serve(client, ticket=answer.ticket, session_id=answer.session.id, browser=browser)
    )
    await eventually(lambda: client.opened or served.done())
    return client, served


async def the_session(world: World) -> Session:
    [session] = await world.sessions.own(world.who("pupil1"))
    return session


# -------------------------------------------------------------------------------- two browsers


async def test_a_session_in_one_browser_is_refused_to_another_and_opened_again_in_its_own() -> None:
    async with make_world() as world:
        await world.look(3)
        await set_pool(world, "library", PoolSettings(take_over=TakeOver.REFUSE))
        gateway = gateway_of(world)
        client, _ = await opened(world, gateway, "home")
        with pytest.raises(ElsewhereError) as refused:
            await asked_from(world, "school")
        assert refused.value.fields["endpoint"] == "another browser"
        assert client.closed is None
        again, _ = await opened(world, gateway, "home")
        assert again.opened is not None
        assert (await the_session(world)).state is SessionState.ACTIVE


async def test_the_person_in_the_first_browser_is_asked_and_nobody_else_may_answer() -> None:
    async with make_world() as world:
        await world.look(3)
        await set_pool(world, "library", ASK)
        first, second = gateway_of(world), gateway_of(world)
        async with ending(world, first, second):
            client, _ = await opened(world, first, "home")
            asked = await asked_from(world, "school")
            assert asked.ticket is None
            wish = asked.session.wish
            assert wish is not None
            assert (wish.endpoint_id, wish.browser) == (None, "school")
            assert client.closed is None
            session_id = asked.session.id
            with pytest.raises(ForbiddenError):
                await world.sessions.consent(
                    world.who("pupil1", "school"), session_id, wish.id, granted=True
                )
            assert (await the_session(world)).browser == "home"
            moved = await world.sessions.consent(
                world.who("pupil1", "home"), session_id, wish.id, granted=True
            )
            assert (moved.state, moved.browser) == (SessionState.DELIVERING, "school")
            await eventually(lambda: client.closed)
            assert ended_with(client) == DisplayEnd.TAKEN_OVER
            with pytest.raises(ConflictError):
                await world.sessions.consent(
                    world.who("pupil1", "home"), session_id, wish.id, granted=True
                )
            there, _ = await opened(world, second, "school")
            assert there.opened is not None
            session = await the_session(world)
            assert (session.state, session.browser) == (SessionState.ACTIVE, "school")


async def test_who_asks_in_a_browser_cannot_answer_for_the_endpoint() -> None:
    async with make_world() as world:
        await world.look(3)
        await set_pool(world, "library", ASK)
        endpoint = await thin(world, 0)
        begun = await world.connect.connect(world.who("pupil1", "home"), "library", "THIN-0")
        session = begun.session
        await world.sessions.live(session.id, endpoint, session.generation)
        asked = await asked_from(world, "home")
        assert asked.session.wish is not None
        wish_id = asked.session.wish.id
        with pytest.raises(ForbiddenError):
            await world.sessions.consent(
                world.who("pupil1", "home"), session.id, wish_id, granted=True
            )
        [question] = world.orders(endpoint, ConsentOrder)
        await world.sessions.answered(session.id, endpoint, question.wish.id, granted=True)
        moved = await the_session(world)
        assert (moved.endpoint_id, moved.browser) == (None, "home")


async def test_who_waits_is_served_in_the_browser_that_asked_last() -> None:
    async with make_world() as world:
        first = await asked_from(world, "home")
        assert first.session.state is SessionState.QUEUED
        await asked_from(world, "school")
        await world.look(3)
        session = await the_session(world)
        assert (session.state, session.browser) == (SessionState.DELIVERING, "school")


# ------------------------------------------------------------------------------------- tickets


async def test_an_endpoint_gets_its_ticket_with_its_order_and_nobody_else_gets_one() -> None:
    async with make_world() as world:
        await world.look(3)
        endpoint = await thin(world, 0)
        answer = await world.connect.connect(world.who("pupil1"), "library", "THIN-0")
        assert (answer.session.state, answer.ticket) == (SessionState.DELIVERING, None)
        assert answer.ticket_expires_at is None
        [start] = world.orders(endpoint, StartOrder)
        # shown at a person's socket, the endpoint's own ticket opens nothing either
        with pytest.raises(BadTicketError):
            await world.sessions.redeem_display(start.ticket, answer.session.id, "tok")
        await world.connect.connect(world.who("pupil2"), "library")


async def test_a_browsers_ticket_opens_nothing_in_another_browser_nor_at_an_endpoint() -> None:
    async with make_world() as world:
        await world.look(3)
        for browser in ("school", None):
            ticket = (await asked_from(world, "home")).ticket
            assert ticket is not None
            with pytest.raises(BadTicketError):
                await world.sessions.redeem_display(ticket, None, browser)


# ----------------------------------------------------------------------- displays and processes


async def test_two_windows_at_two_brokers_leave_the_newer_display_open() -> None:
    """The older one ends, and its end is not taken for the session's."""
    async with make_world() as world:
        await world.look(3)
        here, there = gateway_of(world), gateway_of(world)
        async with ending(world, here, there):
            older, served = await opened(world, here, "home")
            newer, _ = await opened(world, there, "home")
            await eventually(lambda: older.closed)
            assert older.closed == DisplayEnd.TAKEN_OVER
            assert await served == DisplayEnd.TAKEN_OVER
            await world.settle()
            assert (await the_session(world)).state is SessionState.ACTIVE
            assert newer.closed is None
            assert (here.open_count, there.open_count) == (0, 1)


async def test_an_older_window_that_is_closed_does_not_take_the_newer_ones_session() -> None:
    """Also where no hint came, and nobody has looked yet."""
    async with make_world() as world:
        await world.look(3)
        here, there = gateway_of(world), gateway_of(world)
        older, served = await opened(world, here, "home")
        newer, newest = await opened(world, there, "home")
        older.type(b"")
        assert await served == DisplayEnd.CLIENT_CLOSED
        assert (await the_session(world)).state is SessionState.ACTIVE
        assert newer.closed is None
        newer.type(b"")
        await newest
        assert (await the_session(world)).state is SessionState.DISCONNECTED


async def test_an_older_display_whose_hint_was_lost_is_found_by_the_next_look() -> None:
    async with make_world() as world:
        await world.look(3)
        here, there = gateway_of(world), gateway_of(world)
        older, _ = await opened(world, here, "home")
        await opened(world, there, "home")
        async with ending(world, here):
            assert older.closed is None
            world.clock.advance(limits.DISPLAYS_CHECK_S)
            await eventually(lambda: older.closed)
        assert ended_with(older) == DisplayEnd.TAKEN_OVER
        assert (await the_session(world)).state is SessionState.ACTIVE


async def test_a_display_that_is_still_being_opened_is_not_taken_for_an_old_one() -> None:
    async with make_world() as world:
        await world.look(3)
        gateway = gateway_of(world)
        await opened(world, gateway, "home")
        answer, client = await asked_from(world, "home"), FakeClient()
        assert answer.ticket is not None
        before = await the_session(world)
        served = asyncio.ensure_future(
            gateway.serve(
                client, ticket=answer.ticket, session_id=answer.session.id, browser="home"
            )
        )
        while before.display == (await the_session(world)).display:
            assert not gateway.elsewhere(before.id, None, before.display)
            await asyncio.sleep(0)
        await eventually(lambda: client.opened)
        assert not served.done()


async def test_a_new_window_that_cannot_open_leaves_the_session_without_a_display() -> None:
    """It took the older one over in its process; the session must not stay live with neither."""
    async with make_world() as world:
        await world.look(3)
        machines = Machines()
        gateway = gateway_of(world, machines)
        await opened(world, gateway, "home")
        session, answer = await the_session(world), await asked_from(world, "home")
        assert answer.ticket is not None
        machines.refuse = True
        with pytest.raises(EngineError):
            await gateway.serve(
                FakeClient(), ticket=answer.ticket, session_id=session.id, browser="home"
            )
        assert (await read(world, session.id)).state is SessionState.DISCONNECTED


async def test_a_display_that_ends_with_its_sign_in_leaves_the_session_to_be_asked_for() -> None:
    async with make_world() as world:
        await world.look(3)
        await set_pool(world, "library", PoolSettings(take_over=TakeOver.REFUSE))
        gateway = gateway_of(world)
        client, served = await opened(world, gateway, "home")
        gateway.kill((await the_session(world)).id, code="display.signed_out")
        await served
        assert client.closed == DisplayEnd.SIGNED_OUT
        assert (await the_session(world)).state is SessionState.DISCONNECTED
        again, _ = await opened(world, gateway, "home, signed in anew")
        assert again.opened is not None
