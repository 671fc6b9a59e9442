"""Asks of one guest agent wait for their own answers, bounded in time and number."""

from __future__ import annotations

import asyncio
import math

import pytest

from broker.domain.errors import BusyError, EngineError, GuestRefusedError, GuestSilentError
from broker.engines.guest_asks import GuestAsks, state_of, text_of
from broker.guest_wire import Ask, Done, State
from broker.limits import GUEST_ADDRESSES_MAX, GUEST_ASKS_MAX, GUEST_TEXT_MAX
from broker.ports import GuestAsk, GuestVerb

LOCK = GuestAsk(id="a1", what=GuestVerb.LOCK)
POLICY = GuestAsk(id="a2", what=GuestVerb.POLICY, settings={"usb": "off"})
LONG_S = 60.0


class Line:
    """What was said to the agent."""

    def __init__(self) -> None:
        self.said: list[Ask] = []

    async def send(self, ask: Ask) -> None:
        self.said.append(ask)


async def begun(asks: GuestAsks, ask: GuestAsk, line: Line) -> asyncio.Task[None]:
    task = asyncio.create_task(asks.ask(ask, line.send, LONG_S))
    await asyncio.sleep(0)
    return task


async def test_each_ask_ends_with_its_own_answer() -> None:
    asks, line = GuestAsks("lab-1"), Line()
    lock, policy = await begun(asks, LOCK, line), await begun(asks, POLICY, line)
    assert line.said == [
        Ask(id="a1", what="lock"),
        Ask(id="a2", what="policy", settings={"usb": "off"}),
    ]
    asks.done(Done(id="a9", ok=True))
    asks.done(Done(id="a2", ok=True))
    asks.done(Done(id="a2", ok=False))
    await policy
    assert not lock.done()
    asks.done(Done(id="a1", ok=False, detail="no\x1b[31m lock\n here"))
    with pytest.raises(GuestRefusedError, match=r"lab-1 could not: no \[31m lock here"):
        await lock


async def test_an_agent_that_is_reached_anew_is_told_again_what_it_has_not_answered() -> None:
    asks, line, again = GuestAsks("lab-1"), Line(), Line()
    lock, policy = await begun(asks, LOCK, line), await begun(asks, POLICY, line)
    asks.done(Done(id="a1", ok=True))
    await lock
    await asks.again(again.send)
    assert [one.id for one in again.said] == ["a2"]
    asks.done(Done(id="a2", ok=True))
    await policy


async def test_no_answer_in_time_is_silence_and_so_is_a_line_that_takes_nothing() -> None:
    asks = GuestAsks("lab-1")
    with pytest.raises(GuestSilentError, match=r"no answer within 0\.01 s"):
        await asks.ask(LOCK, Line().send, 0.01)

    async def broken(_: Ask) -> None:
        raise EngineError("the guest's port is closed")

    with pytest.raises(GuestSilentError, match="the guest's port is closed"):
        await asks.ask(LOCK, broken, LONG_S)
    line = Line()
    await asks.again(line.send)
    assert line.said == []


async def test_who_asks_the_same_at_once_waits_for_the_one_answer() -> None:
    asks, line = GuestAsks("lab-1"), Line()
    one, other = await begun(asks, LOCK, line), await begun(asks, LOCK, line)
    one.cancel()
    await asyncio.sleep(0)
    asks.done(Done(id="a1", ok=True))
    await other


async def test_only_so_many_wait_for_one_agent() -> None:
    asks, line = GuestAsks("lab-1"), Line()
    waiting = [
        await begun(asks, GuestAsk(id=f"b{number}", what=GuestVerb.LOCK), line)
        for number in range(GUEST_ASKS_MAX)
    ]
    with pytest.raises(BusyError):
        await asks.ask(LOCK, line.send, LONG_S)
    for number in range(GUEST_ASKS_MAX):
        asks.done(Done(id=f"b{number}", ok=True))
    await asyncio.gather(*waiting)


def test_what_a_guest_tells_is_cut_to_what_can_be_shown() -> None:
    assert text_of("ann\n\x00\x1b[2J  bob") == "ann [2J bob"
    assert len(text_of("x" * 10_000)) == GUEST_TEXT_MAX
    said = State(
        desktop_id="dsk_1",
        generation=3,
        ready=True,
        user="ann\n",
        idle_s=math.nan,
        addresses=("10.0.0.1", "\n", *("x",) * 100),
    )
    told = state_of(said, 7, "boot")
    assert (told.user, told.idle_s, told.heard_at_ms, told.boot) == ("ann", None, 7, "boot")
    assert told.addresses[0] == "10.0.0.1"
    assert len(told.addresses) < GUEST_ADDRESSES_MAX
    for idle_s, shown in ((-5.0, 0.0), (math.inf, 1e7), (3.5, 3.5), (None, None)):
        said = State(desktop_id="dsk_1", generation=3, ready=True, idle_s=idle_s)
        assert state_of(said, 7).idle_s == shown
