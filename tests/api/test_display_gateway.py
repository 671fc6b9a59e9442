"""The display relay between a person's socket and a desktop's console."""

from __future__ import annotations

import asyncio

import pytest

from broker.domain.errors import (
    BadTicketError,
    BusyError,
    EngineError,
    IllegalTransitionError,
    UnavailableError,
)
from broker.domain.model import DesktopState
from broker.engines.simulated.frames import PRESSED, TEXT, InputEvent, input_message, records
from broker.gateway.display import DisplayGateway
from broker.gateway.ends import DisplayEnd
from broker.limits import DISPLAY_INPUT_BYTES_MAX, FRAME_BYTES_MAX
from broker.system import SystemClock
from tests.support.builders import make_desktop, make_host
from tests.support.clock import ManualClock
from tests.support.displays import EndlessConsole, FakeClient, FakeConsole, FakeDesk
from tests.support.engines import simulated_engine
from tests.support.eventually import eventually


class Open:
    """One display being served in the background of a test."""

    def __init__(self, group: asyncio.TaskGroup, gateway: DisplayGateway, ticket: str) -> None:
        self.client = FakeClient()
        self.task = group.create_task(gateway.serve(self.client, ticket=ticket))

    async def shown(self) -> None:
        await eventually(lambda: self.client.opened)

    async def ended(self) -> str:
        async with asyncio.timeout(30):
            return await self.task


def gateway_of(desk: FakeDesk, **limits: float) -> DisplayGateway:
    return DisplayGateway(desk=desk, clock=SystemClock(), **limits)  # type: ignore[arg-type]


async def test_frames_go_down_input_goes_up_and_both_are_counted_once() -> None:
    console = FakeConsole()
    gateway = gateway_of(desk := FakeDesk(console))
    async with asyncio.TaskGroup() as group:
        one = Open(group, gateway, "t-ses_1")
        await one.shown()
        assert one.client.opened == ("ses_1", 800, 600)
        console.show(b"picture", b"update")
        one.client.type(b"click")
        await eventually(lambda: len(one.client.frames) == 2 and console.input)
        await gateway.flush()
        await gateway.flush()
        one.client.type(b"")
        assert await one.ended() == DisplayEnd.CLIENT_CLOSED
    assert one.client.frames == [b"picture", b"update"]
    assert one.client.protocol == "simulated"
    assert console.input == [b"click"]
    assert desk.bytes == [{"ses_1": len(b"picture" + b"update" + b"click")}]
    assert desk.told == [("ses_1", "opened"), ("ses_1", DisplayEnd.CLIENT_CLOSED)]
    assert console.closed
    assert gateway.open_count == 0


@pytest.mark.parametrize("ticket", ["", "nonsense", "t-ses_1"])
async def test_a_bad_or_used_ticket_opens_nothing(ticket: str) -> None:
    console = FakeConsole()
    gateway = gateway_of(desk := FakeDesk(console))
    desk.used.add("t-ses_1")
    client = FakeClient()
    with pytest.raises(BadTicketError):
        await gateway.serve(client, ticket=ticket)
    assert console.asked == 0
    assert desk.told == []
    assert client.opened is None


async def test_a_ticket_of_another_session_is_refused_and_used_up() -> None:
    gateway = gateway_of(desk := FakeDesk(FakeConsole()))
    with pytest.raises(BadTicketError):
        await gateway.serve(FakeClient(), ticket="t-ses_2", session_id="ses_1")
    assert desk.used == {"t-ses_2"}
    assert desk.told == []


async def test_a_desktop_that_cannot_be_shown_leaves_nothing_behind() -> None:
    gateway = gateway_of(desk := FakeDesk())
    with pytest.raises(EngineError):
        await gateway.serve(FakeClient(), ticket="t-ses_1")
    assert desk.told == []
    assert not gateway.kill("ses_1")
    assert gateway.open_count == 0


async def test_a_session_that_ended_meanwhile_is_not_shown() -> None:
    console = FakeConsole()
    gateway = gateway_of(desk := FakeDesk(console))
    desk.refuse["opened"] = IllegalTransitionError("it has ended")
    client = FakeClient()
    with pytest.raises(IllegalTransitionError):
        await gateway.serve(client, ticket="t-ses_1")
    assert client.opened is None
    assert console.closed
    assert desk.told == []


async def test_kill_ends_a_display_and_no_frame_follows_it() -> None:
    console = FakeConsole()
    gateway = gateway_of(FakeDesk(console))
    async with asyncio.TaskGroup() as group:
        one = Open(group, gateway, "t-ses_1")
        await one.shown()
        await eventually(lambda: console.asked)
        console.show(b"secret of the next person")
        assert gateway.kill("ses_1")
        assert await one.ended() == DisplayEnd.KILLED
    assert one.client.frames == []
    assert one.client.closed == DisplayEnd.KILLED
    assert console.closed
    assert not gateway.kill("ses_1")
    assert not gateway.kill("ses_unknown")


async def test_kill_reaches_a_display_whose_desktop_never_stops_sending() -> None:
    gateway = gateway_of(FakeDesk(EndlessConsole()))
    async with asyncio.TaskGroup() as group:
        one = Open(group, gateway, "t-ses_1")
        await eventually(lambda: len(one.client.frames) > 100)
        gateway.kill("ses_1")
        assert await one.ended() == DisplayEnd.KILLED


async def test_kill_while_the_console_is_still_opening_is_not_lost() -> None:
    console = FakeConsole()
    gateway = gateway_of(desk := FakeDesk(console))
    desk.hold.clear()
    async with asyncio.TaskGroup() as group:
        one = Open(group, gateway, "t-ses_1")
        await eventually(lambda: desk.used)
        await asyncio.sleep(0)
        assert gateway.kill("ses_1")
        desk.hold.set()
        assert await one.ended() == DisplayEnd.KILLED
    assert one.client.opened is None
    assert console.asked == 0
    assert console.closed


async def test_a_second_display_of_a_session_takes_over_and_closes_the_first() -> None:
    first, second = FakeConsole(), FakeConsole()
    gateway = gateway_of(desk := FakeDesk(first, second))
    async with asyncio.TaskGroup() as group:
        here = Open(group, gateway, "t-ses_1/a")
        await here.shown()
        there = Open(group, gateway, "t-ses_1/b")
        await there.shown()
        assert await here.ended() == DisplayEnd.TAKEN_OVER
        assert here.client.closed == DisplayEnd.TAKEN_OVER
        assert first.closed
        second.show(b"picture")
        await eventually(lambda: there.client.frames)
        # the first one's end is no end of the session's display
        assert desk.told == [("ses_1", "opened"), ("ses_1", "opened")]
        assert gateway.kill("ses_1")
        assert await there.ended() == DisplayEnd.KILLED
    assert desk.told[2:] == [("ses_1", DisplayEnd.KILLED)]


async def test_a_take_over_that_fails_leaves_the_session_without_a_display_and_says_so() -> None:
    gateway = gateway_of(desk := FakeDesk(FakeConsole()))
    async with asyncio.TaskGroup() as group:
        here = Open(group, gateway, "t-ses_1/a")
        await here.shown()
        with pytest.raises(EngineError):
            await gateway.serve(FakeClient(), ticket="t-ses_1/b")
        assert await here.ended() == DisplayEnd.TAKEN_OVER
    assert [why for _, why in desk.told].count("opened") == 1
    assert len(desk.told) == 2


async def test_one_taken_over_while_it_was_opened_is_not_told_as_open() -> None:
    """Else the session would have a display that is nowhere, when the second fails, too."""
    gateway = gateway_of(desk := FakeDesk(FakeConsole()))
    desk.hold.clear()
    async with asyncio.TaskGroup() as group:
        here = Open(group, gateway, "t-ses_1/a")
        await eventually(lambda: desk.used)
        there = group.create_task(refused(gateway, "t-ses_1/b"))
        await eventually(lambda: len(desk.used) == 2)
        await asyncio.sleep(0)
        desk.hold.set()
        assert await here.ended() == DisplayEnd.TAKEN_OVER
        await there
    assert desk.told == []


async def test_one_taken_over_while_the_services_heard_of_it_is_told_as_closed() -> None:
    gateway = gateway_of(desk := FakeDesk(FakeConsole()))
    desk.store.clear()
    async with asyncio.TaskGroup() as group:
        here = Open(group, gateway, "t-ses_1/a")
        await eventually(lambda: not desk.consoles)
        desk.hold.clear()
        there = group.create_task(refused(gateway, "t-ses_1/b"))
        await eventually(lambda: len(desk.used) == 2)
        await asyncio.sleep(0)
        desk.store.set()
        assert await here.ended() == DisplayEnd.TAKEN_OVER
        desk.hold.set()
        await there
    assert desk.closed_displays == ["a"]


async def test_the_services_hear_of_the_display_that_took_over_last() -> None:
    gateway = gateway_of(desk := FakeDesk(FakeConsole(), FakeConsole()))
    desk.store.clear()
    async with asyncio.TaskGroup() as group:
        here = Open(group, gateway, "t-ses_1/a")
        await eventually(lambda: len(desk.consoles) == 1)
        there = Open(group, gateway, "t-ses_1/b")
        await eventually(lambda: not desk.consoles)
        assert desk.asked_to_note == ["a"]
        desk.store.set()
        await there.shown()
        assert await here.ended() == DisplayEnd.TAKEN_OVER
        assert desk.asked_to_note == ["a", "b"]
        assert gateway.kill("ses_1")
        await there.ended()
    assert desk.closed_displays == ["b"]


async def test_the_last_of_three_is_told_last_though_the_second_still_waits_for_its_desktop() -> (
    None
):
    gateway = gateway_of(desk := FakeDesk(FakeConsole(), FakeConsole(), FakeConsole()))
    desk.store.clear()
    async with asyncio.TaskGroup() as group:
        first = Open(group, gateway, "t-ses_1/a")
        await eventually(lambda: len(desk.consoles) == 2)
        slow = desk.hold = asyncio.Event()
        second = Open(group, gateway, "t-ses_1/b")
        await eventually(lambda: len(desk.used) == 2)
        desk.hold = asyncio.Event()
        desk.hold.set()
        third = Open(group, gateway, "t-ses_1/c")
        await eventually(lambda: len(desk.consoles) == 1)
        assert desk.asked_to_note == ["a"]
        desk.store.set()
        await third.shown()
        slow.set()
        assert {await first.ended(), await second.ended()} == {DisplayEnd.TAKEN_OVER}
        assert desk.asked_to_note == ["a", "c"]
        assert gateway.kill("ses_1")
        await third.ended()
    assert desk.closed_displays == ["c"]


async def test_one_that_is_told_as_open_after_its_successor_failed_is_told_as_closed() -> None:
    gateway = gateway_of(desk := FakeDesk(FakeConsole()))
    desk.store.clear()
    async with asyncio.TaskGroup() as group:
        here = Open(group, gateway, "t-ses_1/a")
        await eventually(lambda: desk.asked_to_note)
        there = group.create_task(refused(gateway, "t-ses_1/b"))
        await eventually(lambda: len(desk.used) == 2)
        await asyncio.sleep(0)
        desk.store.set()
        assert await here.ended() == DisplayEnd.TAKEN_OVER
        await there
    assert desk.closed_displays == ["a"]
    assert gateway.open_sessions() == ()


async def test_who_signs_out_ends_the_display_of_that_sign_in_only() -> None:
    gateway = gateway_of(FakeDesk(FakeConsole()))
    async with asyncio.TaskGroup() as group:
        one = Open(group, gateway, "t-ses_1/there")
        await one.shown()
        assert not gateway.kill("ses_1", browser="here")
        assert gateway.kill("ses_1", browser="there")
        assert await one.ended() == DisplayEnd.KILLED


async def refused(gateway: DisplayGateway, ticket: str) -> None:
    with pytest.raises(EngineError):
        await gateway.serve(FakeClient(), ticket=ticket)


async def test_displays_of_different_sessions_do_not_touch_each_other() -> None:
    consoles = [FakeConsole() for _ in range(3)]
    gateway = gateway_of(FakeDesk(*consoles))
    async with asyncio.TaskGroup() as group:
        opened = []
        for number in range(3):
            opened.append(Open(group, gateway, f"t-ses_{number}"))
            await opened[-1].shown()
        for number, console in enumerate(consoles):
            console.show(b"picture %d" % number)
        gateway.kill("ses_1")
        assert await opened[1].ended() == DisplayEnd.KILLED
        await eventually(lambda: opened[0].client.frames and opened[2].client.frames)
        assert gateway.open_count == 2
        await gateway.drain(0)
        for one in (opened[0], opened[2]):
            assert await one.ended() == DisplayEnd.BROKER_STOPS
    assert opened[0].client.frames == [b"picture 0"]
    assert opened[2].client.frames == [b"picture 2"]


async def test_a_slow_client_holds_the_desktop_back() -> None:
    console = EndlessConsole()
    gateway = gateway_of(FakeDesk(console))
    async with asyncio.TaskGroup() as group:
        one = Open(group, gateway, "t-ses_1")
        one.client.takes.clear()
        await eventually(lambda: console.asked)
        for _ in range(200):
            await asyncio.sleep(0)
        assert console.asked == 1
        one.client.takes.set()
        await eventually(lambda: console.asked > 10)
        gateway.kill("ses_1")


async def test_a_client_that_takes_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.gateway.display.DISPLAY_SEND_S", 0.05)
    console = EndlessConsole()
    gateway = gateway_of(FakeDesk(console))
    async with asyncio.TaskGroup() as group:
        one = Open(group, gateway, "t-ses_1")
        one.client.takes.clear()
        assert await one.ended() == DisplayEnd.CLIENT_STALLED
    assert console.closed


async def test_input_past_its_limit_ends_the_display_and_is_not_passed_on() -> None:
    console = FakeConsole()
    gateway = gateway_of(FakeDesk(console))
    async with asyncio.TaskGroup() as group:
        one = Open(group, gateway, "t-ses_1")
        one.client.type(b"x" * DISPLAY_INPUT_BYTES_MAX)
        one.client.type(b"x" * (DISPLAY_INPUT_BYTES_MAX + 1))
        assert await one.ended() == DisplayEnd.INPUT_TOO_LARGE
    assert [len(data) for data in console.input] == [DISPLAY_INPUT_BYTES_MAX]


async def test_a_frame_past_its_limit_ends_the_display_and_is_not_passed_on() -> None:
    console = FakeConsole()
    gateway = gateway_of(FakeDesk(console))
    async with asyncio.TaskGroup() as group:
        one = Open(group, gateway, "t-ses_1")
        console.show(b"x" * FRAME_BYTES_MAX, b"x" * (FRAME_BYTES_MAX + 1))
        assert await one.ended() == DisplayEnd.DESKTOP_FAILED
    assert [len(frame) for frame in one.client.frames] == [FRAME_BYTES_MAX]


async def test_a_desktop_that_goes_away_ends_the_display() -> None:
    console = FakeConsole()
    gateway = gateway_of(desk := FakeDesk(console))
    async with asyncio.TaskGroup() as group:
        one = Open(group, gateway, "t-ses_1")
        await one.shown()
        await console.close()
        assert await one.ended() == DisplayEnd.DESKTOP_CLOSED
    assert desk.told[-1] == ("ses_1", DisplayEnd.DESKTOP_CLOSED)


class BrokenClient(FakeClient):
    async def send(self, frame: bytes) -> None:
        raise ConnectionResetError

    async def close(self, code: str, detail: str) -> None:
        raise ConnectionResetError


async def test_a_client_whose_connection_breaks_is_one_that_has_gone() -> None:
    console = FakeConsole()
    gateway = gateway_of(desk := FakeDesk(console))
    console.show(b"picture")
    async with asyncio.timeout(30):
        why = await gateway.serve(BrokenClient(), ticket="t-ses_1")
    assert why == DisplayEnd.CLIENT_CLOSED
    assert desk.told[-1] == ("ses_1", DisplayEnd.CLIENT_CLOSED)
    assert console.closed


async def test_a_display_that_is_cancelled_closes_its_console_and_is_told() -> None:
    console = FakeConsole()
    gateway = gateway_of(desk := FakeDesk(console))
    async with asyncio.TaskGroup() as group:
        one = Open(group, gateway, "t-ses_1")
        await one.shown()
        one.task.cancel()
    assert console.closed
    assert desk.told[-1] == ("ses_1", DisplayEnd.CLIENT_CLOSED)
    assert gateway.open_count == 0


async def test_a_display_stays_open_no_longer_than_one_may() -> None:
    clock = ManualClock()
    gateway = DisplayGateway(desk=FakeDesk(FakeConsole()), clock=clock, seconds_max=3600)
    async with asyncio.TaskGroup() as group:
        one = Open(group, gateway, "t-ses_1")
        await one.shown()
        await clock.advance(3599)
        assert not one.task.done()
        await clock.advance(2)
        assert await one.ended() == DisplayEnd.TIME_LIMIT


async def test_a_full_process_refuses_before_the_ticket_is_used() -> None:
    gateway = gateway_of(desk := FakeDesk(FakeConsole(), FakeConsole()), displays_max=1)
    async with asyncio.TaskGroup() as group:
        one = Open(group, gateway, "t-ses_1")
        await one.shown()
        with pytest.raises(BusyError) as refused:
            await gateway.serve(FakeClient(), ticket="t-ses_2")
        assert refused.value.retry_after_s
        assert desk.used == {"t-ses_1"}
        gateway.kill("ses_1")
        await one.ended()
        two = Open(group, gateway, "t-ses_2")
        await two.shown()
        gateway.kill("ses_2")


async def test_traffic_is_reported_at_intervals_and_kept_where_it_is_refused() -> None:
    clock, console = ManualClock(), FakeConsole()
    desk = FakeDesk(console)
    gateway = DisplayGateway(desk=desk, clock=clock, report_s=10)
    async with asyncio.TaskGroup() as group:
        reporting = group.create_task(gateway.run())
        one = Open(group, gateway, "t-ses_1")
        await one.shown()
        desk.refuse["traffic"] = UnavailableError("no database")
        console.show(b"12345")
        await eventually(lambda: one.client.frames)
        await clock.advance(10)
        assert desk.bytes == []
        del desk.refuse["traffic"]
        console.show(b"678")
        await eventually(lambda: len(one.client.frames) == 2)
        await clock.advance(10)
        assert desk.bytes == [{"ses_1": 8}]
        await clock.advance(100)
        assert len(desk.bytes) == 1
        gateway.kill("ses_1")
        reporting.cancel()


async def test_a_simulated_desktop_is_seen_and_answers_a_click_through_the_relay() -> None:
    engine = simulated_engine(speed=1)
    await engine.adopt(make_desktop(state=DesktopState.ASSIGNED), make_host())
    gateway = gateway_of(FakeDesk(await engine.console(make_desktop())))
    async with asyncio.TaskGroup() as group:
        one = Open(group, gateway, "t-ses_1")
        await eventually(lambda: one.client.frames)
        texts = [rec.payload for rec in records(one.client.frames[0]) if rec.type == TEXT]
        assert any(b"library-001, generation 1" in text for text in texts)
        one.client.type(input_message(InputEvent(kind=PRESSED, x=300, y=200, code=1)))
        await eventually(
            lambda: any(
                rec.box.w == 24 and abs(rec.box.x - 300) <= 24
                for frame in one.client.frames
                for rec in records(frame)
            )
        )
        await engine.close()
        assert await one.ended() == DisplayEnd.DESKTOP_CLOSED
