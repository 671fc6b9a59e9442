"""When an engine tells the time to the agents that it hears."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from broker import guest_wire
from broker.engines.linked_guests import LinkedGuests
from broker.engines.reports import Reports
from broker.limits import GUEST_CLOCK_S
from tests.support.clock import ManualClock
from tests.support.eventually import eventually
from tests.support.guest_links import Attending, Links
from tests.support.world import SeededChance


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def links() -> Links:
    return Links()


@pytest.fixture
async def guests(clock: ManualClock, links: Links) -> AsyncIterator[LinkedGuests]:
    one = LinkedGuests(clock=clock, chance=SeededChance(), reports=Reports(), links=links)
    async with asyncio.TaskGroup() as tasks:
        one.begin(tasks)
        yield one
        one.end()


def times(agent: Attending) -> list[int]:
    return [said.time_ms for said in agent.heard if isinstance(said, guest_wire.Time)]


def says(agent: Attending, generation: int = 1) -> None:
    said = guest_wire.State(desktop_id="dsk_1", generation=generation, ready=True)
    agent.said(guest_wire.encode(said))


async def linked(guests: LinkedGuests, links: Links) -> Attending:
    guests.listen("dsk_1", "one", 1)
    await eventually(lambda: links.attending and links.attending["dsk_1", 1].heard)
    return links.attending["dsk_1", 1]


async def test_an_agent_is_told_the_time_when_it_first_speaks_and_regularly(
    guests: LinkedGuests, links: Links, clock: ManualClock
) -> None:
    agent = await linked(guests, links)
    says(agent, generation=7)
    await clock.turns()
    assert times(agent) == []
    says(agent)
    await eventually(lambda: len(times(agent)) == 1)
    assert times(agent) == [clock.now()]
    guest = guests.get("dsk_1")
    assert guest is not None
    for seconds, told in ((GUEST_CLOCK_S - 1, 1), (1, 2), (1, 2), (GUEST_CLOCK_S, 3)):
        await clock.advance(seconds)
        guest.wake.set()  # in place of the look that comes every GUEST_IDENTIFY_S
        await clock.turns()
        assert len(times(agent)) == told
    assert times(agent)[-1] == clock.now()


async def test_an_agent_whose_machine_stood_still_is_told_the_time_at_once(
    guests: LinkedGuests, links: Links, clock: ManualClock
) -> None:
    agent = await linked(guests, links)
    says(agent)
    await eventually(lambda: len(times(agent)) == 1)
    await clock.advance(7)
    guests.tell_time("dsk_1")
    guests.tell_time("dsk_unknown")
    await eventually(lambda: len(times(agent)) == 2)
    assert times(agent)[-1] == clock.now()


async def test_an_agent_that_has_to_be_told_again_who_it_is_is_told_the_time_again(
    guests: LinkedGuests, links: Links
) -> None:
    agent = await linked(guests, links)
    says(agent)
    await eventually(lambda: len(times(agent)) == 1)
    says(agent, generation=9)
    await eventually(lambda: isinstance(agent.heard[-1], guest_wire.Identify))
    says(agent)
    await eventually(lambda: len(times(agent)) == 2)
