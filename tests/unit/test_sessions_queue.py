"""Waiting: places are told, clients that went away leave, and a restart throws nobody out."""

from __future__ import annotations

import asyncio

from broker import limits
from broker.domain.model import SessionState
from broker.services.guest_reach import GuestReach
from broker.services.parking import Parking
from broker.services.sessions import Sessions
from tests.support.seats import read
from tests.support.world import World, make_world


async def queued(world: World, username: str, endpoint: str | None = None) -> str:
    answer = await world.connect.connect(world.who(username), "library", endpoint)
    assert answer.session.state is SessionState.QUEUED
    return answer.session.id


async def sweep(world: World) -> list[str]:
    """What the sweeper does; answers who was taken out."""
    before = world.clock.now() - limits.CLIENT_SILENT_S * 1000
    found = await world.kit.store.sessions.abandoned(before, 100)
    return [one.id for one in found if await world.sessions.abandon(one)]


async def test_a_client_that_went_away_leaves_the_queue_and_others_move_up() -> None:
    async with make_world() as world:
        gone, stays = await queued(world, "pupil1"), await queued(world, "pupil2")
        for _ in range(4):
            world.clock.advance(30)
            await world.sessions.get(world.who("pupil2"), stays)
            await world.endpoints.flush()
        assert await sweep(world) == [gone]
        left = await read(world, gone)
        assert (left.state, left.why) == (SessionState.CANCELLED, "its client went away")
        waiting = await read(world, stays)
        assert waiting.state is SessionState.QUEUED
        assert await world.connect.place(waiting) == 1


async def test_a_call_that_is_not_written_down_yet_counts() -> None:
    async with make_world() as world:
        session_id = await queued(world, "pupil1")
        world.clock.advance(limits.CLIENT_SILENT_S + 1)
        await world.sessions.get(world.who("pupil1"), session_id)
        assert await sweep(world) == []


async def test_somebody_elses_look_is_no_sign_of_life_but_an_event_stream_is() -> None:
    async with make_world() as world:
        session_id = await queued(world, "pupil1")
        world.clock.advance(limits.CLIENT_SILENT_S - 1)
        await world.sessions.here(world.who("pupil1"))
        world.clock.advance(limits.CLIENT_SILENT_S - 1)
        assert await sweep(world) == []
        await world.sessions.get(world.who("operator"), session_id)
        world.clock.advance(2)
        assert await sweep(world) == [session_id]


async def test_a_request_for_an_endpoint_waits_as_long_as_that_is_connected() -> None:
    async with make_world() as world:
        await world.online("THIN-0")
        session_id = await queued(world, "pupil1", "THIN-0")
        world.clock.advance(limits.CLIENT_SILENT_S + 1)
        assert await sweep(world) == []
        await world.offline("THIN-0")
        world.clock.advance(limits.CLIENT_SILENT_S + 1)
        assert await sweep(world) == [session_id]


async def test_after_a_restart_nobody_is_given_up_before_he_could_call() -> None:
    async with make_world() as world:
        session_id = await queued(world, "pupil1")
        world.clock.advance(3600)
        services = world.services
        restarted = Sessions(
            world.kit,
            services.pools,
            services.delivery,
            Parking(world.kit, {"simulated": world.engine}.__getitem__),
            services.queues,
            services.images,
            services.tally,
            services.watch,
            GuestReach(world.kit, {"simulated": world.engine}.__getitem__),
        )
        session = await read(world, session_id)
        assert not await restarted.abandon(session)
        world.clock.advance(limits.CLIENT_SILENT_S)
        assert await restarted.abandon(session)


async def test_who_was_served_meanwhile_is_not_thrown_out() -> None:
    async with make_world() as world:
        session_id = await queued(world, "pupil1")
        stale = await read(world, session_id)
        await world.look(4)
        assert (await read(world, session_id)).state is SessionState.DELIVERING
        world.clock.advance(limits.CLIENT_SILENT_S + 1)
        assert not await world.sessions.abandon(stale)
        assert (await read(world, session_id)).state is SessionState.DELIVERING


async def test_a_long_poll_is_answered_for_a_new_place_to_who_knows_the_old_one() -> None:
    async with make_world() as world:
        first, second = await queued(world, "pupil1"), await queued(world, "pupil2")
        me, revision = world.who("pupil2"), (await read(world, second)).revision
        knows = asyncio.ensure_future(world.sessions.wait(me, second, revision, 30, 2))
        knows_not = asyncio.ensure_future(world.sessions.wait(me, second, revision, 30))
        await world.settle()
        await world.sessions.log_off(world.who("pupil1"), first)
        world.clock.advance(limits.PLACE_ANSWER_S)
        # the watch looks again by itself in real time
        answered = await asyncio.wait_for(knows, 10)
        assert (answered.id, answered.revision) == (second, revision)
        assert not knows_not.done()
        world.clock.advance(30)
        await asyncio.wait_for(knows_not, 10)


async def test_the_expected_wait_is_what_is_coming_and_how_fast_the_queue_moved() -> None:
    async with make_world() as world:
        queues = world.services.queues
        waits = [await queued(world, f"pupil{n}") for n in range(3)]
        unknown = await queues.expected(await read(world, waits[2]))
        assert unknown is not None
        assert (unknown.place, unknown.wait_s) == (3, None)
        pool = await world.pools.find("library")
        world.clock.advance(10)
        await queues.served(pool, 1)
        world.clock.advance(30)
        known = await queues.expected(await read(world, waits[2]))
        assert known is not None
        assert known.wait_s == 90
        await world.look(4)
        served = await read(world, waits[0])
        assert served.state is SessionState.DELIVERING
        assert await queues.expected(served) is None
