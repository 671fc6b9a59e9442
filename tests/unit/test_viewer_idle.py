"""Idle time where a viewer's own bytes look like input: what the desktop's agent tells counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.model import Session, SessionState
from broker.domain.session_time import Heard, Told, last_input
from broker.domain.settings import PoolSettings
from broker.gateway.desk import Desk
from broker.gateway.inputs import input_of
from broker.limits import ACTIVITY_S, GUEST_INPUT_S, GUEST_NEWS_S
from broker.ports import Hint
from broker.services.guest_news import GuestNews, GuestNewsBook
from tests.support.builders import NOW
from tests.support.seats import expire_due, read, set_pool, sit_down
from tests.support.world import World, make_world

IDLE = PoolSettings(idle_s=1800, warn_s=300)
SETTLED = int(GUEST_INPUT_S * 1000)
PROTOCOLS = ("vnc", "spice", "rdp", "simulated")


def bytes_of(protocol: str, at: int = NOW) -> Heard:
    signs = input_of(protocol).signs
    return Heard(at=at, desktop_id="dsk_1", generation=1, signs=signs)


@pytest.mark.parametrize(
    ("protocol", "whole", "believed"),
    [
        ("vnc", True, False),
        ("simulated", True, False),
        ("spice", False, True),
        ("spice", True, True),
        ("rdp", False, False),  # what comes through an RDP server passes devices by
        ("rdp", True, True),
    ],
)
def test_an_agent_that_sees_the_input_is_believed(
    protocol: str, whole: bool, believed: bool
) -> None:
    told = Told(at=NOW + SETTLED, idle_ms=600_000, whole=whole)
    agents = (NOW + SETTLED - 600_000, True)
    assert last_input(bytes_of(protocol), told) == (agents if believed else (NOW, True))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_where_no_agent_tells_bytes_count(protocol: str) -> None:
    assert last_input(bytes_of(protocol), None) == (NOW, True)


@given(st.integers(min_value=-60_000, max_value=60_000), st.integers(min_value=0, max_value=10**7))
def test_bytes_are_no_input_only_by_a_word_that_is_younger_than_they_are(
    later_ms: int, idle_ms: int
) -> None:
    at, settled = last_input(bytes_of("spice"), Told(at=NOW + later_ms, idle_ms=idle_ms))
    assert at == NOW + later_ms - idle_ms
    assert settled == (later_ms >= SETTLED)


# ------------------------------------------------------------------------------- in a session


class Viewed:
    """A session in a viewer, whose desktop's picture keeps changing."""

    def __init__(self, world: World, session: Session, protocol: str) -> None:
        self.world, self.session, self.protocol = world, session, protocol
        engines = {"simulated": world.engine}.__getitem__
        self.desk = Desk(world.kit, world.sessions, engines, world.services.showing)

    def told(self, idle_s: float, *, whole: bool = False) -> None:
        desktop_id = self.session.desktop_id or ""
        news = GuestNews(
            desktop_id=desktop_id, generation=self.session.generation,
            at=self.world.clock.now(), idle_s=idle_s, idle_whole=whole,
        )  # fmt: skip
        self.world.services.guests._news.note([news])

    def bytes(self) -> None:
        heard = Heard(
            at=self.world.clock.now(),
            desktop_id=self.session.desktop_id or "",
            generation=self.session.generation,
            signs=input_of(self.protocol).signs,
        )
        self.desk.inputs({self.session.id: heard})

    async def step(self, seconds: float) -> None:
        self.world.clock.advance(seconds)
        await self.world.endpoints.flush()
        await expire_due(self.world)

    async def now(self) -> Session:
        return await read(self.world, self.session.id)


async def viewed(world: World, protocol: str) -> Viewed:
    await world.look(3)
    await set_pool(world, "library", IDLE)
    begun = await sit_down(world, "pupil1", None)
    return Viewed(world, await read(world, begun.session.id), protocol)


@pytest.mark.parametrize(
    ("protocol", "whole", "tells", "stays"),
    [
        ("spice", False, "idle", False),
        ("spice", False, "input", True),
        ("spice", False, "nothing", True),
        ("rdp", False, "idle", True),
        ("rdp", True, "idle", False),
        ("rdp", True, "input", True),
        ("vnc", False, "idle", True),
    ],
)
async def test_bytes_that_flow_keep_a_session_unless_its_agent_tells_that_nobody_is_there(
    protocol: str, whole: bool, tells: str, stays: bool
) -> None:
    async with make_world() as world:
        one = await viewed(world, protocol)
        for minute in range(33):
            for _ in range(4):
                if tells != "nothing":
                    one.told(minute * 60 if tells == "idle" else 2.0, whole=whole)
                one.bytes()
                await one.step(15)
        state = SessionState.ACTIVE if stays else SessionState.DISCONNECTED
        assert (await one.now()).state is state
        if not stays:
            assert (await one.now()).why == "idle for too long"


async def test_a_key_that_the_agent_could_not_tell_of_yet_counts_when_it_does() -> None:
    async with make_world() as world:
        one = await viewed(world, "spice")
        await one.step(1000)
        one.told(990.0)
        one.bytes()
        pressed = world.clock.now()
        await one.step(GUEST_INPUT_S + 1)
        assert ((await one.now()).active_at or 0) < pressed
        one.told(GUEST_INPUT_S)
        await one.step(ACTIVITY_S)
        assert (await one.now()).active_at == pressed + 1000


async def test_bytes_count_once_an_agent_falls_silent_that_had_not_told_of_them() -> None:
    async with make_world() as world:
        one = await viewed(world, "spice")
        await one.step(1000)
        one.told(990.0)
        one.bytes()
        came = world.clock.now()
        await one.step(GUEST_NEWS_S + 1)
        await one.step(ACTIVITY_S)
        assert (await one.now()).active_at == came


async def test_bytes_that_were_none_of_the_persons_are_not_waited_for_any_longer() -> None:
    async with make_world() as world:
        one = await viewed(world, "spice")
        before = (await one.now()).active_at
        await one.step(1000)
        one.told(1000.0)
        one.bytes()
        await one.step(GUEST_INPUT_S)
        one.told(1015.0)
        await one.step(ACTIVITY_S)
        await one.step(GUEST_NEWS_S + ACTIVITY_S)
        assert (await one.now()).active_at == before


@pytest.mark.parametrize(("rest", "whole"), [([True], True), ([False], False), ([], False)])
async def test_another_process_hears_whether_the_idle_time_is_of_every_way_in(
    rest: list[bool], whole: bool
) -> None:
    async with make_world() as world:
        book, now = GuestNewsBook(world.kit), world.clock.now()
        row = ["dsk_1", 1, now, "ann", 7.0, ["10.0.0.5"], "laid", "", *rest]
        book.hear(Hint(topic="guest", data={"news": [row]}))
        assert book.told("dsk_1", 1) == Told(at=now, idle_ms=7000, whole=whole)
        book.hear(Hint(topic="guest", data={"news": [[*row[:4], None, *row[5:]]]}))
        assert book.told("dsk_1", 1) is None
