"""Idle and maximum time, extension, messages: what a live session's person is told, and when it
is over."""

from __future__ import annotations

import pytest

from broker import limits
from broker.domain.errors import BadRequestError, ConflictError, ForbiddenError, NotFoundError
from broker.domain.model import SessionState
from broker.domain.settings import PoolSettings, WhenIdle
from broker.ports import NoticeOrder, StopOrder
from tests.support.seats import expire_due, read, set_pool, sit_down, thin
from tests.support.world import World, make_world

IDLE = PoolSettings(idle_s=1800, warn_s=300)


async def pass_time(world: World, seconds: float, step_s: float = 60) -> None:
    """Time goes by, and the reconciler looks at what is due."""
    left = seconds
    while left > 0:
        world.clock.advance(min(step_s, left))
        left -= step_s
        await expire_due(world)


async def test_an_idle_person_is_warned_and_then_disconnected() -> None:
    async with make_world() as world:
        await world.look(3)
        endpoint = await thin(world, 0)
        await set_pool(world, "library", IDLE)
        begun = await sit_down(world, "pupil1", "THIN-0")
        await pass_time(world, 1500)
        [order] = world.orders(endpoint, NoticeOrder)
        assert "disconnected in about 5 minutes" in order.notice.text
        assert (await read(world, begun.session.id)).state is SessionState.ACTIVE
        await pass_time(world, 300)
        away = await read(world, begun.session.id)
        assert (away.state, away.endpoint_id) == (SessionState.DISCONNECTED, None)
        assert away.why == "idle for too long"
        assert [one.moved for one in world.orders(endpoint, StopOrder)] == [True]


@pytest.mark.parametrize("how", ["heartbeat", "display"])
async def test_who_does_something_stays(how: str) -> None:
    async with make_world() as world:
        await world.look(3)
        endpoint = await thin(world, 0)
        await set_pool(world, "library", IDLE)
        begun = await sit_down(world, "pupil1", "THIN-0")
        for _ in range(60):
            if how == "heartbeat":
                await world.sessions.carried(endpoint, {begun.session.id}, {begun.session.id: 2.0})
            else:
                world.sessions.activity.note(begun.session.id, world.clock.now())
            await world.endpoints.flush()
            await pass_time(world, 60)
        session = await read(world, begun.session.id)
        assert session.state is SessionState.ACTIVE
        assert world.orders(endpoint, NoticeOrder) == []
        assert session.active_at is not None
        assert session.active_at >= world.clock.now() - 120_000


async def test_activity_is_written_at_most_once_in_a_while_and_never_of_the_future() -> None:
    async with make_world() as world:
        await world.look(3)
        begun = await sit_down(world, "pupil1", None)
        activity, now = world.sessions.activity, world.clock.now()
        activity.note(begun.session.id, now + 10_000_000)
        await activity.flush()
        assert (await read(world, begun.session.id)).active_at == now
        world.clock.advance(limits.ACTIVITY_S - 1)
        activity.note(begun.session.id, world.clock.now())
        await activity.flush()
        assert (await read(world, begun.session.id)).active_at == now
        world.clock.advance(1)
        await activity.flush()
        assert (await read(world, begun.session.id)).active_at == world.clock.now() - 1000


async def test_being_idle_logs_off_where_that_is_set_or_nothing_can_be_disconnected() -> None:
    async with make_world() as world:
        await world.look(3)
        await set_pool(world, "library", PoolSettings(idle_s=600, when_idle=WhenIdle.LOG_OFF))
        await set_pool(world, "lab", PoolSettings(idle_s=600))
        begun = await sit_down(world, "pupil1", None)
        lab = await world.online("LAB-0")
        other = await world.connect.connect(world.who("pupil2"), "lab", "LAB-0")
        await world.sessions.live(other.session.id, lab.id, other.session.generation)
        await pass_time(world, 600)
        assert (await read(world, begun.session.id)).state is SessionState.ENDED
        assert (await read(world, other.session.id)).state is SessionState.ENDING


async def test_the_maximum_time_warns_and_logs_off_however_busy_one_is() -> None:
    async with make_world() as world:
        await world.look(3)
        await set_pool(world, "library", PoolSettings(session_max_s=3600, warn_s=300))
        begun = await sit_down(world, "pupil1", None)
        for _ in range(55):
            world.sessions.activity.note(begun.session.id, world.clock.now())
            await pass_time(world, 60)
        warned = await read(world, begun.session.id)
        assert warned.notice is not None
        assert "maximum time" in warned.notice.text
        await pass_time(world, 300)
        over = await read(world, begun.session.id)
        assert (over.state, over.why) == (SessionState.ENDED, "its maximum time is over")


async def test_an_operator_lets_a_session_last_longer() -> None:
    async with make_world() as world:
        await world.look(3)
        await set_pool(world, "library", PoolSettings(session_max_s=3600, warn_s=300))
        begun = await sit_down(world, "pupil1", None)
        went_live = world.clock.now()
        session_id = begun.session.id
        await pass_time(world, 3400)
        with pytest.raises(ForbiddenError):
            await world.sessions.extend(world.who("pupil1"), session_id, 60)
        for seconds in (0, limits.EXTEND_S_MAX + 1):
            with pytest.raises(BadRequestError):
                await world.sessions.extend(world.who("operator"), session_id, seconds)
        longer = await world.sessions.extend(world.who("operator"), session_id, 1800)
        assert longer.ends_at == went_live + 5400_000
        await pass_time(world, 1900)
        assert (await read(world, session_id)).state is SessionState.ACTIVE
        await pass_time(world, 200)
        assert (await read(world, session_id)).state is SessionState.ENDED
        with pytest.raises(ConflictError, match="a session that is ended has no end"):
            await world.sessions.extend(world.who("operator"), session_id, 60)


async def test_a_session_without_an_end_cannot_be_extended() -> None:
    async with make_world() as world:
        await world.look(3)
        begun = await sit_down(world, "pupil1", None)
        with pytest.raises(ConflictError, match=r"library ends none .* session_max_s is 0"):
            await world.sessions.extend(world.who("operator"), begun.session.id, 60)


async def test_a_limit_set_later_holds_for_live_sessions_within_the_bound() -> None:
    async with make_world() as world:
        await world.look(3)
        begun = await sit_down(world, "pupil1", None)
        await set_pool(world, "library", PoolSettings(session_max_s=60, warn_s=60))
        await pass_time(world, limits.SESSION_LOOK_S)
        assert (await read(world, begun.session.id)).notice is not None
        await pass_time(world, 120)
        assert (await read(world, begun.session.id)).state is SessionState.ENDED


async def test_a_message_reaches_the_endpoint_once_and_again_after_it_was_away() -> None:
    async with make_world() as world:
        await world.look(3)
        endpoint = await thin(world, 0)
        begun = await sit_down(world, "pupil1", "THIN-0")
        session_id = begun.session.id
        told = await world.sessions.message(world.who("operator"), session_id, "  Lights out \n")
        assert told.notice is not None
        assert (told.notice.text, told.notice.sender) == ("Lights out", "operator")
        [order] = world.orders(endpoint, NoticeOrder)
        await world.sessions.carried(endpoint, {session_id})
        assert len(world.orders(endpoint, NoticeOrder)) == 1
        await world.offline("THIN-0")
        await world.online("THIN-0")
        await world.sessions.live(session_id, endpoint, begun.session.generation)
        [again] = world.orders(endpoint, NoticeOrder)
        assert again.notice.id == order.notice.id
        world.clock.advance(limits.NOTICE_AGAIN_S)
        await world.offline("THIN-0")
        await world.online("THIN-0")
        await world.sessions.live(session_id, endpoint, begun.session.generation)
        assert world.orders(endpoint, NoticeOrder) == []


async def test_a_message_is_plain_text_of_bounded_length_from_the_staff_to_somebody_there() -> None:
    async with make_world() as world:
        await world.look(3)
        begun = await sit_down(world, "pupil1", None)
        operator, session_id = world.who("operator"), begun.session.id
        for text in ("", "  ", "x" * (limits.NOTICE_CHARS_MAX + 1), "a\x1b[31m", "a\u202eb"):
            with pytest.raises(BadRequestError):
                await world.sessions.message(operator, session_id, text)
        with pytest.raises(ForbiddenError):
            await world.sessions.message(world.who("pupil1"), session_id, "hello")
        with pytest.raises(NotFoundError):
            await world.sessions.message(operator, "ses_none", "hello")
        before = (await read(world, session_id)).deadline_at
        told = await world.sessions.message(operator, session_id, "one\ntwo")
        assert told.notice is not None
        assert told.deadline_at == before
        await world.sessions.log_off(world.who("pupil1"), session_id)
        with pytest.raises(ConflictError):
            await world.sessions.message(operator, session_id, "hello")
