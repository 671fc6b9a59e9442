"""A session whose display went with its broker does not stay live for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from broker import limits
from broker.domain.errors import BusyError
from broker.domain.model import Session, SessionState
from broker.gateway.desk import Desk
from broker.gateway.display import DisplayGateway
from broker.services.shared_work import SharedWork
from broker.services.showing import Showing
from tests.support.displays import FakeClient, FakeConsole
from tests.support.eventually import eventually
from tests.support.world import World, make_world

WITHIN_S = 120
"""what docs/display.md promises"""
LOOK_S = 10


class Machines:
    def displays(self, _: object) -> frozenset[str]:
        return frozenset({"vnc"})

    async def console(self, *_: object) -> FakeConsole:
        return FakeConsole()


@dataclass
class Process:
    """Another broker over the same database, which gives signs of life only when told to."""

    showing: Showing
    gateway: DisplayGateway
    tasks: list[asyncio.Future[str]]

    async def shows(self, world: World, browser: str = "home", person: str = "pupil1") -> Session:
        """The person opens the session's display there."""
        answer = await world.connect.connect(world.who(person, browser), "library")
        assert answer.ticket is not None
        client = FakeClient()
        serving = self.gateway.serve(
            client, ticket=answer.ticket, session_id=answer.session.id, browser=browser
        )
        self.tasks.append(served := asyncio.ensure_future(serving))
        await eventually(lambda: client.opened or served.done())
        return await the_session(world, person)


def process(world: World, showing: Showing) -> Process:
    engine: Any = Machines()
    desk = Desk(world.kit, world.sessions, lambda _: engine, showing)
    return Process(showing, DisplayGateway(desk=desk, clock=world.clock), [])


def new_process(world: World) -> Process:
    showing = Showing(world.kit, SharedWork(world.kit), world.sessions)
    return process(world, showing)


@asynccontextmanager
async def two_processes() -> AsyncIterator[tuple[World, Process, Process]]:
    """`world` is the first's; time passes in looks of its reconciler."""
    async with make_world() as world:
        await world.look(3)
        here, there = process(world, world.services.showing), new_process(world)
        yield world, here, there
        for task in (*here.tasks, *there.tasks):
            task.cancel()


async def the_session(world: World, person: str = "pupil1") -> Session:
    [session] = await world.sessions.own(world.who(person))
    return session


async def pass_time(world: World, seconds: float, *living: Process) -> None:
    for _ in range(int(seconds / LOOK_S)):
        world.clock.advance(LOOK_S)
        for one in living:
            await one.showing.renew()
        await world.look()


async def test_a_session_whose_broker_and_browser_died_together_is_disconnected() -> None:
    async with two_processes() as (world, _, killed):
        shown = await killed.shows(world)
        assert shown.state is SessionState.ACTIVE
        await pass_time(world, limits.DARK_S)
        assert (await the_session(world)).state is SessionState.ACTIVE
        await pass_time(world, WITHIN_S - limits.DARK_S)
        session = await the_session(world)
        assert session.state is SessionState.DISCONNECTED
        assert session.why == "its display and the broker that showed it are gone"
        assert session.deadline_at is not None


async def test_more_of_them_than_one_look_handles_go_in_the_looks_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "RECONCILE_BATCH_MAX", 1)
    async with two_processes() as (world, _, killed):
        await killed.shows(world)
        await killed.shows(world, person="pupil2")
        await pass_time(world, WITHIN_S + LOOK_S)
        for person in ("pupil1", "pupil2"):
            assert (await the_session(world, person)).state is SessionState.DISCONNECTED


async def test_a_session_whose_broker_lives_stays_however_long_nobody_touches_it() -> None:
    async with two_processes() as (world, _, other):
        await other.shows(world)
        await pass_time(world, 4 * WITHIN_S, other)
        assert (await the_session(world)).state is SessionState.ACTIVE


async def test_a_browser_that_comes_back_in_time_keeps_its_session() -> None:
    async with two_processes() as (world, here, killed):
        await killed.shows(world)
        await pass_time(world, limits.DARK_S)
        back = await here.shows(world)
        await pass_time(world, 2 * WITHIN_S)
        assert (await the_session(world)).revision == back.revision


async def test_a_broker_that_was_replaced_at_once_left_its_displays_behind() -> None:
    """Its name is another's now, under the next fence."""
    async with two_processes() as (world, _, stopped):
        await stopped.shows(world)
        await stopped.showing.stop()
        successor = new_process(world)
        await pass_time(world, WITHIN_S, successor)
        assert (await the_session(world)).state is SessionState.DISCONNECTED


async def test_after_an_outage_nobody_is_cut_off_who_was_only_late_to_say_so() -> None:
    async with two_processes() as (world, _, other):
        await other.shows(world)
        world.clock.advance(10 * WITHIN_S)
        await world.look()  # every sign is old, and this process is the first to look
        await pass_time(world, 2 * WITHIN_S, other)
        assert (await the_session(world)).state is SessionState.ACTIVE


async def test_a_process_that_starts_after_an_outage_takes_nobody_elses_name() -> None:
    """The displays of whoever had it bear it, and are open."""
    async with two_processes() as (world, _, other):
        shown = await other.shows(world)
        world.clock.advance(limits.SHOWING_S + limits.LEASE_SKEW_S + 1)
        await world.look()
        started = new_process(world)
        await started.showing.renew()
        await pass_time(world, 2 * WITHIN_S, other, started)
        assert (await the_session(world)).revision == shown.revision


async def test_what_was_dark_before_a_gap_is_looked_at_anew() -> None:
    async with two_processes() as (world, _, killed):
        await killed.shows(world)
        await pass_time(world, limits.SHOWING_S + limits.DARK_S)
        world.clock.advance(limits.DARK_LOOK_GAP_S + 1)
        await world.look()
        assert (await the_session(world)).state is SessionState.ACTIVE


async def test_signs_of_processes_that_live_are_not_taken_from_them() -> None:
    async with two_processes() as (world, here, there):
        signs = {await one.showing.named("tkt") for one in (here, there, new_process(world))}
        assert signs == {"broker:0.1.tkt", "broker:1.1.tkt", "broker:2.1.tkt"}
        await pass_time(world, WITHIN_S, there)
        assert await there.showing.named("tkt") in signs
        assert await new_process(world).showing.named("tkt") == "broker:2.2.tkt"


async def test_a_process_too_many_opens_no_displays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BROKERS_MAX", 1)
    async with two_processes() as (world, here, there):
        await here.showing.renew()
        with pytest.raises(BusyError, match="more than 1 brokers"):
            await there.showing.named("tkt")
        await world.services.showing.stop()
        assert await there.showing.named("tkt") == "broker:0.2.tkt"
