"""What displays carry is measured, told to the other processes, and forgotten in time."""

from __future__ import annotations

import asyncio

import pytest

from broker.domain.measures import DisplayMeasure
from broker.gateway.display import DisplayGateway
from broker.gateway.ends import DisplayEnd
from broker.limits import DISPLAY_MEASURE_S, DISPLAY_MEASURES_PER_HINT, DISPLAY_PING_S
from broker.services.measures import Measures
from tests.support.clock import ManualClock
from tests.support.displays import FakeClient, FakeConsole, FakeDesk
from tests.support.eventually import eventually
from tests.support.world import make_world


class LateClient(FakeClient):
    """Answers a ping `late_s` of the clock after it was sent."""

    def __init__(self, clock: ManualClock, late_s: float) -> None:
        super().__init__()
        self._clock = clock
        self._late_s = late_s

    async def ping(self) -> None:
        await self._clock.sleep(self._late_s)


def measure(number: int, at: int, **more: float) -> DisplayMeasure:
    return DisplayMeasure(
        session_id=f"ses_{number}",
        at=at,
        seconds=10.0,
        bytes_down=int(more.get("down", 4000)),
        bytes_up=200,
        round_trip_ms=more.get("trip", 12.5),
    )


async def test_a_display_is_measured_by_interval_both_ways_and_by_ping() -> None:
    clock, console = ManualClock(), FakeConsole()
    client = LateClient(clock, 0.25)
    gateway = DisplayGateway(desk=(desk := FakeDesk(console)), clock=clock, report_s=10)
    async with asyncio.TaskGroup() as group:
        reporting = group.create_task(gateway.run())
        serving = group.create_task(gateway.serve(client, ticket="t-ses_1"))
        await eventually(lambda: client.opened)
        console.show(b"x" * 700)
        client.type(b"keys")
        await eventually(lambda: client.frames and console.input)
        await clock.advance(10)
        (first,) = desk.measures
        assert (first.session_id, first.bytes_down, first.bytes_up) == ("ses_1", 700, 4)
        assert first.seconds == pytest.approx(10)
        assert first.round_trip_ms == pytest.approx(250)
        assert (first.down_per_s, first.up_per_s) == pytest.approx((70, 0.4))
        await clock.advance(10)
        assert (desk.measures[1].bytes_down, desk.measures[1].bytes_up) == (0, 0)
        console.show(b"last")
        await eventually(lambda: client.frames[-1] == b"last")
        gateway.kill("ses_1")
        await serving
        reporting.cancel()
    ((why, rest),) = desk.rests
    assert (why, rest.bytes_down) == (DisplayEnd.KILLED, 4)


async def test_a_ping_that_is_not_answered_is_no_round_trip_and_ends_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("broker.gateway.meter.DISPLAY_PING_ANSWER_S", 0.02)
    clock, client = ManualClock(), FakeClient()
    gateway = DisplayGateway(desk=(desk := FakeDesk(FakeConsole())), clock=clock)
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(gateway.serve(client, ticket="t-ses_1"))
        await eventually(lambda: client.opened)

        async def trip() -> float | None:
            await clock.advance(DISPLAY_PING_S)
            await asyncio.sleep(0.05)
            await gateway.flush()
            return desk.measures[-1].round_trip_ms

        assert await trip() == 0
        client.answers.clear()
        assert await trip() is None
        client.answers.set()
        assert await trip() == 0
        assert not serving.done()
        gateway.kill("ses_1")


async def test_measures_reach_every_process_and_the_newest_counts() -> None:
    async with make_world() as world:
        here, there = Measures(world.kit), Measures(world.kit)
        hearing = asyncio.ensure_future(there.run())
        await world.settle()
        now = world.clock.now()
        many = [measure(number, now) for number in range(DISPLAY_MEASURES_PER_HINT + 1)]
        here.note(many)
        await world.settle()
        assert [there.of(one.session_id) for one in many] == many
        here.note([measure(1, now + 10), measure(2, now - 10)])
        await world.settle()
        assert there.of("ses_1") == measure(1, now + 10)
        assert there.of("ses_2") == measure(2, now)
        # only what was carried here is counted here
        assert there.bytes_down == 0
        assert here.bytes_down == 4000 * (len(many) + 2)
        hearing.cancel()


async def test_an_old_measure_and_one_of_a_display_that_ended_are_none() -> None:
    async with make_world() as world:
        measures = Measures(world.kit)
        now = world.clock.now()
        measures.note([measure(1, now), measure(2, now)])
        measures.over("display.killed", measure(2, now))
        assert measures.of("ses_1") is not None
        assert measures.of("ses_2") is None
        assert measures.ends == {"display.killed": 1}
        world.clock.advance(DISPLAY_MEASURE_S + 1)
        assert measures.of("ses_1") is None


async def test_so_many_measures_are_kept_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.services.measures.DISPLAY_MEASURES_MAX", 3)
    async with make_world() as world:
        measures = Measures(world.kit)
        now = world.clock.now()
        measures.note([measure(number, now) for number in range(5)])
        known = [number for number in range(5) if measures.of(f"ses_{number}")]
        assert known == [2, 3, 4]


@pytest.mark.parametrize("rows", [None, [1], [["ses_1"]], [["ses_1", "x", 1, 1, 1, None]]])
async def test_a_measure_that_is_not_understood_is_passed_over(rows: object) -> None:
    async with make_world() as world:
        measures = Measures(world.kit)
        hearing = asyncio.ensure_future(measures.run())
        await world.settle()
        now = world.clock.now()
        world.kit.events.publish("display", measures=rows)
        world.kit.events.publish("display", measures=[["ses_1", now, 10.0, 5, 6, None]])
        await world.settle()
        found = measures.of("ses_1")
        assert found is not None
        assert found.bytes_down == 5
        assert found.round_trip_ms is None
        hearing.cancel()
