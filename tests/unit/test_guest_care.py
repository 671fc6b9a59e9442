"""What a session owes to the agent in its desktop is asked of it, once, and told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from broker import limits
from broker.domain.audit import AuditEntry, Outcome
from broker.domain.errors import (
    ConflictError,
    ForbiddenError,
    GuestRefusedError,
    GuestSilentError,
    UnsupportedError,
)
from broker.domain.lifecycle import SessionEvent
from broker.domain.model import Desktop, DesktopState, LogOff, PoolKind, Session, SessionState
from broker.domain.settings import Channels, Clipboard
from broker.ports import GuestVerb, PageQuery
from tests.support.eventually import eventually
from tests.support.world import World, make_world

D, S = DesktopState, SessionState


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with make_world() as world:
        world.engine.speaks = True
        care = asyncio.create_task(world.services.guest_care.run([world.engine]))
        yield world
        care.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await care


async def library(world: World, **changes: object) -> None:
    """Change the pool, and let everybody know."""
    pool = await world.pools.find("library")
    settings = replace(pool.settings, **changes.pop("settings", {}))  # type: ignore[arg-type] # fields of the tests' own
    changed = replace(pool, settings=settings, **changes)  # type: ignore[arg-type] # as above
    await world.kit.store.directory.save_pool(changed, new=False)
    world.pools.forget()


async def kept(world: World) -> None:
    await library(world, kind=PoolKind.DEDICATED, log_off=LogOff.KEEP, spares_min=0, size_max=3)


async def session_of(world: World, session_id: str) -> Session:
    session = await world.kit.store.sessions.session(session_id)
    assert session is not None
    return session


async def desktop_of(world: World, session: Session) -> Desktop:
    desktop = await world.kit.store.desktops.desktop(session.desktop_id or "")
    assert desktop is not None
    return desktop


async def live(world: World, who: str = "pupil0") -> Session:
    """In front of its person, in a browser."""
    asked = await world.connect.connect(world.who(who), "library")
    await world.look(4)
    session = await session_of(world, asked.session.id)
    await world.sessions.live(session.id, None, session.generation)
    session = await session_of(world, session.id)
    assert session.state is S.ACTIVE
    world.engine.users[session.desktop_id or ""] = who
    return session


async def told(world: World, action: str) -> list[AuditEntry]:
    page = await world.kit.store.audit.entries(PageQuery(limit=100, filters={"action": action}))
    return list(page.items)


async def in_state(world: World, session: Session, state: SessionState) -> Session:
    async def now() -> bool:
        return (await session_of(world, session.id)).state is state

    async with asyncio.timeout(30):
        while not await now():
            await asyncio.sleep(0.01)
    return await session_of(world, session.id)


# ---------------------------------------------------------------------------- policy


async def test_the_pools_policy_is_laid_down_when_a_session_begins_and_when_it_changes(
    world: World,
) -> None:
    await library(world, settings={"channels": Channels(clipboard=Clipboard.IN, usb=True)})
    session = await live(world)
    await eventually(lambda: "policy" in world.engine.verbs())
    [ask] = [one for one in world.engine.guest_asks.values() if one.what is GuestVerb.POLICY]
    assert ask.settings == {
        "clipboard": "in",
        "usb": "on",
        "drives": "off",
        "printing": "off",
        "watermark": "off",
        "person": "pupil0",
    }
    await library(world, settings={"channels": Channels()})
    world.kit.events.publish("session", id=session.id)
    await eventually(lambda: world.engine.verbs().count("policy") == 2)
    # and back: the same text again is laid down again
    await library(world, settings={"channels": Channels(clipboard=Clipboard.IN, usb=True)})
    world.kit.events.publish("session", id=session.id)
    await eventually(lambda: world.engine.verbs().count("policy") == 3)
    await world.settle()
    entries = await told(world, "guest.policy")
    assert {one.outcome for one in entries} == {Outcome.DONE}
    assert {one.session_id for one in entries} == {session.id}


async def test_a_guest_that_starts_anew_is_given_its_policy_again(world: World) -> None:
    session = await live(world)
    await eventually(lambda: world.engine.verbs().count("policy") == 1)
    world.engine.boots[session.desktop_id or ""] = 1
    world.kit.events.publish("session", id=session.id)
    await eventually(lambda: world.engine.verbs().count("policy") == 2)


async def test_a_policy_that_could_not_be_laid_down_is_told(world: World) -> None:
    world.engine.refusing.add("policy")
    session = await live(world)
    async with asyncio.timeout(30):
        while not await told(world, "guest.policy"):
            await asyncio.sleep(0.01)
    [entry] = await told(world, "guest.policy")
    assert (entry.outcome, entry.session_id) == (Outcome.FAILED, session.id)
    assert entry.why == "the agent could not"
    assert entry.details["code"] == "guest.refused"


# -------------------------------------------------------------------------- messages


async def test_a_message_of_the_staff_is_on_the_desktops_screen_once(world: World) -> None:
    session = await live(world)
    await world.sessions.message(world.who("operator"), session.id, "Please save.")
    await eventually(lambda: "message" in world.engine.verbs())
    world.kit.events.publish("session", id=session.id)
    await world.settle()
    [ask] = [one for one in world.engine.guest_asks.values() if one.what is GuestVerb.MESSAGE]
    assert (ask.text, ask.sender) == ("Please save.", "operator")
    assert len(await told(world, "guest.message")) == 1


# ---------------------------------------------------------------------------- locking


async def test_the_screen_is_locked_at_each_disconnect(world: World) -> None:
    session = await live(world)
    await world.sessions.disconnect(world.who("pupil0"), session.id)
    await eventually(lambda: world.engine.verbs().count("lock") == 1)
    back = await world.connect.connect(world.who("pupil0"), "library")
    await world.sessions.live(back.session.id, None, back.session.generation)
    world.clock.advance(5)
    await world.sessions.disconnect(world.who("pupil0"), session.id)
    await eventually(lambda: world.engine.verbs().count("lock") == 2)


async def test_a_pool_may_leave_the_screen_as_it_is(world: World) -> None:
    await library(world, settings={"lock_on_disconnect": False})
    session = await live(world)
    await world.sessions.disconnect(world.who("pupil0"), session.id)
    await world.settle()
    assert "lock" not in world.engine.verbs()


async def test_an_agent_that_gives_no_answer_is_asked_again_and_then_told_of(
    world: World,
) -> None:
    session = await live(world)
    world.engine.mute.add("lock")
    await world.sessions.disconnect(world.who("pupil0"), session.id)
    for tried in range(1, limits.GUEST_TRIES_MAX + 1):
        await eventually(lambda: "lock" in world.engine.verbs())
        await world.settle()
        assert len(await told(world, "guest.lock")) == (tried == limits.GUEST_TRIES_MAX)
        world.kit.events.publish("session", id=session.id)
        await world.settle()
    [entry] = await told(world, "guest.lock")
    assert (entry.outcome, entry.details["code"]) == (Outcome.FAILED, "guest.silent")
    assert world.engine.verbs().count("lock") == 1


async def test_the_staff_locks_a_screen(world: World) -> None:
    session = await live(world)
    await world.services.guests.lock(world.who("operator"), session.id)
    assert "lock" in world.engine.verbs()
    with pytest.raises(ForbiddenError):
        await world.services.guests.lock(world.who("auditor"), session.id)
    world.engine.refusing.add("lock")
    with pytest.raises(GuestRefusedError):
        await world.services.guests.lock(world.who("operator"), session.id)
    world.engine.speaks = False
    with pytest.raises(UnsupportedError):
        await world.services.guests.lock(world.who("operator"), session.id)
    await world.sessions.log_off(world.who("pupil0"), session.id)
    with pytest.raises(ConflictError):
        await world.services.guests.lock(world.who("operator"), session.id)


# --------------------------------------------------------------------------- log-off


async def test_a_kept_desktop_is_free_only_once_its_person_is_logged_off_in_it(
    world: World,
) -> None:
    await kept(world)
    session = await live(world)
    world.engine.deaf.add(session.desktop_id or "")
    ending = await world.sessions.log_off(world.who("pupil0"), session.id)
    await world.settle()
    assert ending.state is S.ENDING
    assert (await desktop_of(world, session)).state is D.ASSIGNED
    world.engine.deaf.clear()
    world.kit.events.publish("session", id=session.id)
    await in_state(world, session, S.ENDED)
    desktop = await desktop_of(world, session)
    assert (desktop.state, desktop.owner_id) == (D.READY, "usr_pupil0")
    assert world.engine.users == {}
    [entry] = await told(world, "guest.log_off")
    assert entry.outcome is Outcome.DONE


@pytest.mark.parametrize("how", ["refused", "silent"])
async def test_a_kept_desktop_whose_guest_logs_nobody_off_is_started_anew(
    world: World, how: str
) -> None:
    await kept(world)
    session = await live(world)
    if how == "refused":
        world.engine.refusing.add("log_off")
    else:
        world.engine.deaf.add(session.desktop_id or "")
    ending = await world.sessions.log_off(world.who("pupil0"), session.id)
    if how == "silent":
        world.clock.advance(limits.ENDING_S + 1)
        await world.sessions.expire(ending)
    await in_state(world, session, S.ENDED)
    await world.look(3)
    desktop = await desktop_of(world, session)
    assert (desktop.state, desktop.generation) == (D.READY, session.generation)
    assert ("restart", desktop.name) in world.engine.done
    [job] = (await world.kit.store.jobs.jobs(PageQuery(filters={"verb": "resume"}))).items
    assert job.arguments == {"restart": "true"}
    [entry] = await told(world, "guest.log_off")
    assert entry.outcome is Outcome.FAILED
    assert entry.why.endswith("; the desktop is started anew")


async def test_a_desktop_that_is_made_fresh_is_not_waited_for(world: World) -> None:
    session = await live(world)
    ended = await world.sessions.log_off(world.who("pupil0"), session.id)
    assert ended.state is S.ENDED
    assert "log_off" not in world.engine.verbs()


async def test_without_an_agent_everything_goes_on_as_before(world: World) -> None:
    await kept(world)
    world.engine.speaks = False
    session = await live(world)
    ended = await world.sessions.log_off(world.who("pupil0"), session.id)
    assert ended.state is S.ENDED
    assert (await desktop_of(world, session)).state is D.READY
    assert world.engine.guest_asks == {}


async def test_an_endpoint_that_let_go_does_not_free_a_desktop_in_which_somebody_is(
    world: World,
) -> None:
    await kept(world)
    endpoint = await world.online("THIN-0")
    asked = await world.connect.connect(world.who("pupil0"), "library", "THIN-0")
    await world.look(4)
    session = await session_of(world, asked.session.id)
    await world.sessions.live(session.id, endpoint.id, session.generation)
    world.engine.deaf.add(session.desktop_id or "")
    await world.sessions.ended(session.id, endpoint.id, session.generation)
    assert (await session_of(world, session.id)).state is S.ENDING
    world.engine.deaf.clear()
    world.kit.events.publish("session", id=session.id)
    await in_state(world, session, S.ENDED)


async def test_a_session_that_fails_under_its_person_leaves_nobody_logged_on(
    world: World,
) -> None:
    await kept(world)
    session = await live(world)
    await world.sessions.finish(session, SessionEvent.FAILED, "its display broke")
    await world.look(3)
    assert (await desktop_of(world, session)).state is D.READY
    assert ("restart", (await desktop_of(world, session)).name) in world.engine.done


# ------------------------------------------------------------------ several processes


async def test_an_ask_reaches_the_process_that_hears_the_agent(world: World) -> None:
    session = await live(world)
    desktop = await desktop_of(world, session)
    world.engine.deaf.add(desktop.id)
    asking = asyncio.create_task(world.services.guests.lock(world.who("operator"), session.id))
    book = world.services.guests._book
    async with asyncio.timeout(30):
        while not await book.waiting():
            await asyncio.sleep(0.01)
    [ask] = await book.waiting()
    assert (ask.desktop_id, ask.what) == (desktop.id, "lock")
    await book.settle(ask.id, "done", "")
    await asyncio.sleep(0)
    world.clock.advance(1)
    async with asyncio.timeout(30):
        await asking
    assert await book.find(ask.id) is None


async def test_who_hears_the_agent_carries_out_what_others_were_asked(world: World) -> None:
    session = await live(world)
    desktop = await desktop_of(world, session)
    world.engine.deaf.add(desktop.id)
    asking = asyncio.create_task(world.services.guests.lock(world.who("operator"), session.id))
    await world.settle()
    world.engine.deaf.clear()
    world.kit.events.publish("guest_ask")
    await eventually(lambda: "lock" in world.engine.verbs())
    await world.settle()
    world.clock.advance(1)
    async with asyncio.timeout(30):
        await asking


async def test_an_ask_that_nobody_hears_is_given_up(world: World) -> None:
    session = await live(world)
    world.engine.deaf.add(session.desktop_id or "")
    asking = asyncio.create_task(world.services.guests.lock(world.who("operator"), session.id))
    await world.settle()
    world.clock.advance(limits.GUEST_ASK_S + limits.GUEST_LOOK_S + 1)
    async with asyncio.timeout(30):
        with pytest.raises(GuestSilentError):
            await asking


# --------------------------------------------------------------------------- told


async def test_who_is_logged_on_and_how_long_idle_is_told(world: World) -> None:
    session = await live(world)
    news = world.services.guests.news

    def known() -> bool:
        one = news(session.desktop_id, session.generation)
        return one is not None and one.policy == "laid"

    async with asyncio.timeout(30):
        while not known():
            world.kit.events.publish("guest_ask")
            await asyncio.sleep(0.01)
    one = news(session.desktop_id, session.generation)
    assert one is not None
    assert (one.user, one.idle_s, one.addresses) == ("pupil0", 7.0, ("10.0.0.5",))
    assert news(session.desktop_id, session.generation + 1) is None
    world.clock.advance(limits.GUEST_NEWS_S + 1)
    assert news(session.desktop_id, session.generation) is None
