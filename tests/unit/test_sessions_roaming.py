"""A person goes to another endpoint: the session moves, or somebody is asked, or it stays; and
whatever the first endpoint says late hurts nobody."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable

import pytest

from broker import limits
from broker.domain.errors import (
    BadTicketError,
    ConflictError,
    ElsewhereError,
    ForbiddenError,
    NotFoundError,
)
from broker.domain.model import DesktopState, Session, SessionState
from broker.domain.settings import PoolSettings, TakeOver
from broker.gateway.desk import Desk
from broker.ports import ConsentOrder, StartOrder, StopOrder
from tests.support.seats import expire_due, let_others_in, read, set_pool, sit_down, thin
from tests.support.world import World, make_world

ASK = PoolSettings(take_over=TakeOver.ASK, consent_s=60)


async def furnished(world: World) -> tuple[str, str]:
    """Ready desktops and two thin endpoints; their ids."""
    await world.look(3)
    return await thin(world, 0), await thin(world, 1)


async def test_a_live_session_moves_to_the_endpoint_that_its_person_came_to() -> None:
    async with make_world() as world:
        first, second = await furnished(world)
        begun = await sit_down(world, "pupil1", "THIN-0")
        moved = await world.connect.connect(world.who("pupil1"), "library", "THIN-1")
        assert moved.session.id == begun.session.id
        assert moved.session.state is SessionState.DELIVERING
        assert moved.session.endpoint_id == second
        assert moved.session.desktop_id == begun.session.desktop_id
        [stop] = world.orders(first, StopOrder)
        assert stop.moved
        assert [one.session.id for one in world.orders(second, StartOrder)] == [begun.session.id]
        live = await world.sessions.live(begun.session.id, second, begun.session.generation)
        assert live is not None
        assert live.state is SessionState.ACTIVE


async def test_tickets_of_the_place_that_was_left_open_nothing() -> None:
    async with make_world() as world:
        first, second = await furnished(world)
        begun = await sit_down(world, "pupil1", None)
        [older] = [begun.ticket]
        assert older is not None
        await world.connect.connect(world.who("pupil1"), "library", "THIN-0")
        [start] = world.orders(first, StartOrder)
        await world.connect.connect(world.who("pupil1"), "library", "THIN-1")
        for ticket in (older, start.ticket):
            with pytest.raises(BadTicketError):
                await world.sessions.redeem_display(ticket, None, "tok")
            with pytest.raises(BadTicketError):
                await world.sessions.redeem_display(ticket, None)
        [now] = world.orders(second, StartOrder)
        session, _ = await world.sessions.redeem_display(now.ticket, None)
        assert session.endpoint_id == second


async def test_who_comes_back_to_the_first_endpoint_is_shown_the_session_there_again() -> None:
    async with make_world() as world:
        first, second = await furnished(world)
        begun = await sit_down(world, "pupil1", "THIN-0")
        world.clock.advance(60)
        await world.connect.connect(world.who("pupil1"), "library", "THIN-1")
        world.clock.advance(60)
        await world.connect.connect(world.who("pupil1"), "library", "THIN-0")
        assert len(world.orders(first, StartOrder)) == 2
        assert [one.moved for one in world.orders(second, StopOrder)] == [True]
        assert (await read(world, begun.session.id)).endpoint_id == first


async def test_an_endpoint_that_missed_the_order_is_told_when_it_says_what_it_carries() -> None:
    async with make_world() as world:
        first, _ = await furnished(world)
        begun = await sit_down(world, "pupil1", "THIN-0")
        await world.connect.connect(world.who("pupil1"), "library", "THIN-1")
        world.link.orders[first].clear()
        await world.sessions.carried(first, {begun.session.id})
        [stop] = world.orders(first, StopOrder)
        assert stop.moved


async def test_a_pool_that_refuses_says_where_the_session_is() -> None:
    async with make_world() as world:
        first, _ = await furnished(world)
        await set_pool(world, "library", PoolSettings(take_over=TakeOver.REFUSE))
        begun = await sit_down(world, "pupil1", "THIN-0")
        with pytest.raises(ElsewhereError) as refused:
            await world.connect.connect(world.who("pupil1"), "library", "THIN-1")
        assert refused.value.fields == {"session_id": begun.session.id, "endpoint": "THIN-0"}
        assert (await read(world, begun.session.id)).endpoint_id == first


@pytest.mark.parametrize(("pool", "here", "there"), [("art", "ART-0", "ART-1")])
async def test_a_desktop_that_is_its_endpoint_cannot_move(pool: str, here: str, there: str) -> None:
    async with make_world() as world:
        await world.online(here)
        await world.online(there)
        begun = await world.connect.connect(world.who("pupil1"), pool, here)
        with pytest.raises(ElsewhereError) as refused:
            await world.connect.connect(world.who("pupil1"), pool, there)
        assert here in refused.value.detail
        assert (await read(world, begun.session.id)).endpoint_id == begun.session.endpoint_id


async def test_the_person_at_the_first_endpoint_is_asked_and_lets_it_move() -> None:
    async with make_world() as world:
        first, second = await furnished(world)
        await set_pool(world, "library", ASK)
        begun = await sit_down(world, "pupil1", "THIN-0")
        asked = await world.connect.connect(world.who("pupil1"), "library", "THIN-1")
        assert asked.ticket is None
        assert asked.session.wish is not None
        assert asked.session.endpoint_id == first
        [question] = world.orders(first, ConsentOrder)
        assert question.endpoint_name == "THIN-1"
        await world.sessions.answered(begun.session.id, first, question.wish.id, granted=True)
        moved = await read(world, begun.session.id)
        assert (moved.state, moved.endpoint_id) == (SessionState.DELIVERING, second)
        assert moved.wish is None
        assert [one.moved for one in world.orders(first, StopOrder)] == [True]
        assert len(world.orders(second, StartOrder)) == 1


async def test_a_no_a_late_yes_and_a_strangers_yes_leave_it_where_it_is() -> None:
    async with make_world() as world:
        first, second = await furnished(world)
        await set_pool(world, "library", ASK)
        begun = await sit_down(world, "pupil1", "THIN-0")
        session_id = begun.session.id

        async def ask() -> str:
            asked = await world.connect.connect(world.who("pupil1"), "library", "THIN-1")
            assert asked.session.wish is not None
            return asked.session.wish.id

        wish = await ask()
        await world.sessions.answered(session_id, second, wish, granted=True)
        await world.sessions.answered(session_id, first, "wsh_other", granted=True)
        assert (await read(world, session_id)).wish is not None
        await world.sessions.answered(session_id, first, wish, granted=False)
        kept = await read(world, session_id)
        assert (kept.endpoint_id, kept.wish, kept.state) == (first, None, SessionState.ACTIVE)
        wish = await ask()
        world.clock.advance(ASK.consent_s)
        await world.sessions.answered(session_id, first, wish, granted=True)
        assert (await read(world, session_id)).endpoint_id == first


async def test_a_person_in_a_browser_answers_there() -> None:
    async with make_world() as world:
        first, _ = await furnished(world)
        await set_pool(world, "library", ASK)
        begun = await sit_down(world, "pupil1", None)
        asked = await world.connect.connect(world.who("pupil1"), "library", "THIN-0")
        wish = asked.session.wish
        assert wish is not None
        session_id = begun.session.id
        with pytest.raises(NotFoundError):
            await world.sessions.consent(world.who("pupil2"), session_id, wish.id, granted=True)
        with pytest.raises(ForbiddenError):
            await world.sessions.consent(world.who("operator"), session_id, wish.id, granted=True)
        me = world.who("pupil1")
        moved = await world.sessions.consent(me, session_id, wish.id, granted=True)
        assert moved.endpoint_id == first
        with pytest.raises(ConflictError):
            await world.sessions.consent(me, session_id, wish.id, granted=True)


async def test_who_asked_gets_the_session_once_the_first_endpoint_is_lost() -> None:
    async with make_world() as world:
        _, second = await furnished(world)
        await set_pool(world, "library", ASK)
        begun = await sit_down(world, "pupil1", "THIN-0")
        await world.connect.connect(world.who("pupil1"), "library", "THIN-1")
        await world.offline("THIN-0")
        away = await read(world, begun.session.id)
        assert (away.state, away.wish) == (SessionState.DISCONNECTED, None)
        again = await world.connect.connect(world.who("pupil1"), "library", "THIN-1")
        assert again.session.endpoint_id == second
        assert again.session.state is SessionState.DELIVERING


def late_reports(
    world: World, begun: Session, endpoint: str
) -> dict[str, Callable[[], Awaitable[object]]]:
    """What the first endpoint may still say of the session, as it was when it had it."""
    sessions, generation = world.sessions, begun.generation
    return {
        "live": lambda: sessions.live(begun.id, endpoint, generation),
        "ended": lambda: sessions.ended(begun.id, endpoint, generation),
        "could not": lambda: sessions.could_not(begun.id, endpoint, generation, "display.lost"),
        "carried": lambda: sessions.carried(endpoint, {begun.id}, {begun.id: 5.0}),
        "renewed": lambda: sessions.renewed(begun, world.clock.now() + 1),
        "gone": lambda: world.endpoints.gone(endpoint),
    }


async def test_in_whatever_order_late_reports_of_the_first_endpoint_come_the_session_stays() -> (
    None
):
    async with make_world() as world:
        first, second = await furnished(world)
        begun = await sit_down(world, "pupil1", "THIN-0")
        session_id, generation = begun.session.id, begun.session.generation
        await world.connect.connect(world.who("pupil1"), "library", "THIN-1")
        said = late_reports(world, begun.session, first)
        for order in itertools.permutations(said):
            for name in order:
                await said[name]()
            session = await read(world, session_id)
            assert (session.state, session.endpoint_id) == (SessionState.DELIVERING, second), order
        await world.sessions.live(session_id, second, generation)
        for name in said:
            await said[name]()
        session = await read(world, session_id)
        assert (session.state, session.endpoint_id) == (SessionState.ACTIVE, second)


@pytest.mark.parametrize("seed", range(40))
async def test_reports_that_cross_the_take_over_in_the_store_lose_to_it(seed: int) -> None:
    """Each is read before, between or after; none may act on what it was not about."""
    async with make_world() as world:
        first, second = await furnished(world)
        begun = await sit_down(world, "pupil1", "THIN-0")
        session_id, generation = begun.session.id, begun.session.generation
        let_others_in(world, seed)
        chance = random.Random(seed)
        late = list(late_reports(world, begun.session, first).values())
        late.append(lambda: world.sessions.lost(begun.session, "gone"))
        chance.shuffle(late)
        take_over = world.connect.connect(world.who("pupil1"), "library", "THIN-1")
        await asyncio.gather(take_over, *(one() for one in late))
        await asyncio.gather(*(one() for one in late))
        session = await read(world, session_id)
        assert session.endpoint_id == second
        assert session.state is SessionState.DELIVERING
        assert session.desktop_id == begun.session.desktop_id
        await world.sessions.live(session_id, second, generation)
        assert (await read(world, session_id)).state is SessionState.ACTIVE


@pytest.mark.parametrize("seed", range(40))
async def test_a_log_off_that_crosses_everything_ends_the_session_and_frees_its_desktop_once(
    seed: int,
) -> None:
    async with make_world() as world:
        first, second = await furnished(world)
        begun = await sit_down(world, "pupil1", "THIN-0")
        session_id, generation = begun.session.id, begun.session.generation
        let_others_in(world, seed)
        me, sessions = world.who("pupil1"), world.sessions
        work: list[Callable[[], Awaitable[object]]] = [
            lambda: sessions.log_off(me, session_id),
            lambda: world.connect.connect(me, "library", "THIN-1"),
            lambda: sessions.ended(session_id, first, generation),
            lambda: sessions.live(session_id, second, generation),
            lambda: world.endpoints.gone(first),
            lambda: sessions.desktop_lost(
                begun.session.desktop_id or "", generation, "the host died"
            ),
        ]
        random.Random(seed).shuffle(work)
        await asyncio.gather(*(one() for one in work), return_exceptions=True)
        world.clock.advance(limits.ENDING_S + 1)
        await expire_due(world)
        await world.look(2)
        over = await read(world, session_id)
        assert over.state in {SessionState.ENDED, SessionState.FAILED}
        desktop = await world.kit.store.desktops.desktop(over.desktop_id or "")
        assert desktop is not None
        lost = over.state is SessionState.FAILED
        assert desktop.generation == generation + (not lost)
        gone = {DesktopState.FAILED, DesktopState.DELETING, DesktopState.DELETED}
        assert desktop.state in (gone if lost else {DesktopState.READY})


async def test_a_display_of_the_place_that_was_left_is_refused_while_it_opens() -> None:
    async with make_world() as world:
        await furnished(world)
        begun = await sit_down(world, "pupil1", None)
        again = await world.connect.connect(world.who("pupil1"), "library")
        desk = Desk(
            world.kit,
            world.sessions,
            {"simulated": world.engine}.__getitem__,
            world.services.showing,
        )
        assert again.ticket is not None
        leave = await desk.redeem(again.ticket, begun.session.id, "tok")
        await world.connect.connect(world.who("pupil1"), "library", "THIN-0")
        with pytest.raises(BadTicketError):
            await desk.opened(leave)
