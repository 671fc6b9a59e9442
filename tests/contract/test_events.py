"""Hints: what both buses owe their listeners, and what NATS adds between processes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from nats.aio.client import Client

from broker.domain.errors import ConfigError
from broker.events.memory import MISSED, MemoryEvents
from broker.events.nats import NatsEvents
from broker.limits import HINT_BYTES_MAX, HINTS_OUT_MAX
from broker.ports import Events, Hint, Subscription
from broker.system import SystemChance, SystemClock
from tests.support.eventually import eventually
from tests.support.nats import NatsServer, nats_server

Start = Callable[[], AbstractAsyncContextManager[Events]]


class QuickChance:
    """Jitter without the waiting."""

    def uniform(self, low: float, high: float) -> float:
        return min(low + 0.02, high)


@asynccontextmanager
async def memory_events() -> AsyncIterator[Events]:
    events = MemoryEvents()
    await events.open()
    yield events
    await events.close()


@asynccontextmanager
async def running(url: str, installation: str = "ins_1") -> AsyncIterator[NatsEvents]:
    """One process's end of the bus, connected or not."""
    events = NatsEvents(
        url=url, installation_id=installation, clock=SystemClock(), chance=QuickChance()
    )
    async with asyncio.TaskGroup() as group:
        await events.open()
        group.create_task(events.run())
        try:
            yield events
        finally:
            await events.close()


@asynccontextmanager
async def connected(url: str, installation: str = "ins_1") -> AsyncIterator[NatsEvents]:
    async with running(url, installation) as events:
        await eventually(lambda: events.connected)
        yield events


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    async with nats_server(tmp_path) as started:
        yield started


@pytest.fixture(params=["memory", "nats"])
async def start(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Start]:
    if request.param == "memory":
        yield memory_events
        return
    async with nats_server(tmp_path) as started:
        yield partial(connected, started.url)


async def take(subscription: Subscription, count: int) -> list[Hint]:
    """The next hints; the queue keeps what is not taken."""
    found: list[Hint] = []
    async with asyncio.timeout(30):
        async for hint in subscription:
            found.append(hint)
            if len(found) == count:
                break
    return found


# ------------------------------------------------------------------------------ both buses


async def test_a_listener_gets_the_hints_of_its_topics_in_order(start: Start) -> None:
    async with start() as events:
        subscription = events.subscribe("session", "desktop")
        events.publish("session", id="ses_1", state="active")
        events.publish("endpoint", id="ept_1")
        events.publish("desktop", id="dsk_1")
        assert await take(subscription, 2) == [
            Hint(topic="session", data={"id": "ses_1", "state": "active"}),
            Hint(topic="desktop", data={"id": "dsk_1"}),
        ]


async def test_a_hint_is_there_at_once_for_listeners_of_the_same_process(start: Start) -> None:
    async with start() as events:
        subscription = events.subscribe("session")
        events.publish("session", id="ses_1")
        waiting = aiter(subscription)
        task = asyncio.ensure_future(anext(waiting))
        await asyncio.sleep(0)
        assert task.done()
        assert (await task).data == {"id": "ses_1"}


async def test_every_listener_gets_every_hint(start: Start) -> None:
    async with start() as events:
        subscriptions = [events.subscribe("session") for _ in range(3)]
        events.publish("session", id="ses_1")
        for subscription in subscriptions:
            assert len(await take(subscription, 1)) == 1


async def test_a_slow_listener_loses_the_oldest_hints_and_is_told_once(start: Start) -> None:
    async with start() as events:
        slow = events.subscribe("session", queue_max=3)
        quick = events.subscribe("session")
        for number in range(10):
            events.publish("session", n=number)
        told, *kept = await take(slow, 4)
        assert told.topic == MISSED
        assert [hint.data["n"] for hint in kept] == [7, 8, 9]
        events.publish("session", n=10)
        assert [hint.data["n"] for hint in await take(slow, 1)] == [10]
        assert [hint.data["n"] for hint in await take(quick, 11)] == list(range(11))


async def test_hints_from_before_are_not_delivered(start: Start) -> None:
    async with start() as events:
        events.publish("session", n=1)
        subscription = events.subscribe("session")
        events.publish("session", n=2)
        assert [hint.data["n"] for hint in await take(subscription, 1)] == [2]


async def test_a_closed_subscription_ends_and_costs_nothing_more(start: Start) -> None:
    async with start() as events:
        subscription = events.subscribe("session", "desktop", "session")
        events.publish("session", n=1)
        subscription.close()
        subscription.close()
        events.publish("session", n=2)
        assert [hint async for hint in subscription] == []
        bus = events._local if isinstance(events, NatsEvents) else events
        assert isinstance(bus, MemoryEvents)
        assert bus._by_topic == {}


async def test_closing_the_bus_ends_every_subscription_also_later_ones(start: Start) -> None:
    async with start() as events:
        subscription = events.subscribe("session")
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            heard = group.create_task(take(subscription, 99))
            await asyncio.sleep(0)
            await events.close()
        assert heard.result() == []
        assert [hint async for hint in events.subscribe("session")] == []


async def test_a_subscription_needs_a_topic_and_room(start: Start) -> None:
    async with start() as events:
        with pytest.raises(ValueError, match="topic"):
            events.subscribe()
        with pytest.raises(ValueError, match="room"):
            events.subscribe("session", queue_max=0)


async def test_nobody_listening_is_fine(start: Start) -> None:
    async with start() as events:
        for number in range(HINTS_OUT_MAX + 10):
            events.publish("session", n=number)


# ------------------------------------------------------------------------- between processes


async def test_a_hint_reaches_the_other_process_and_its_own_once(server: NatsServer) -> None:
    async with connected(server.url) as here, connected(server.url) as there:
        mine, theirs = here.subscribe("session"), there.subscribe("session")
        here.publish("session", id="ses_1")
        assert await take(theirs, 1) == [Hint(topic="session", data={"id": "ses_1"})]
        there.publish("session", id="ses_2")
        # an echo of the first would have come before the other's answer
        assert [hint.data["id"] for hint in await take(mine, 2)] == ["ses_1", "ses_2"]


async def test_two_installations_on_one_server_do_not_hear_each_other(
    server: NatsServer,
) -> None:
    async with (
        connected(server.url, "ins 1.>") as here,
        connected(server.url, "ins_2") as stranger,
        connected(server.url, "ins 1.>") as friend,
    ):
        strange, friendly = stranger.subscribe("session"), friend.subscribe("session")
        here.publish("session", id="ses_1")
        await take(friendly, 1)
        stranger.publish("session", id="ses_2")
        assert [hint.data["id"] for hint in await take(strange, 1)] == ["ses_2"]


async def test_without_a_bus_hints_go_on_within_the_process_and_nothing_raises() -> None:
    async with running("nats://127.0.0.1:1") as events:
        subscription = events.subscribe("session")
        for number in range(3):
            events.publish("session", n=number)
        assert [hint.data["n"] for hint in await take(subscription, 3)] == [0, 1, 2]
        assert not events.connected


async def test_a_bus_that_comes_back_is_used_again_and_listeners_look_for_what_they_missed(
    server: NatsServer,
) -> None:
    async with connected(server.url) as here, connected(server.url) as there:
        theirs = there.subscribe("session")
        await server.stop()
        await eventually(lambda: not here.connected and not there.connected)
        here.publish("session", id="during the outage")
        await server.start()
        await eventually(lambda: here.connected and there.connected)
        here.publish("session", id="after it")
        found: list[Hint] = []
        while Hint(topic="session", data={"id": "after it"}) not in found:
            found += await take(theirs, 1)
        assert found[0].topic == MISSED


async def test_outgoing_hints_are_bounded_while_the_bus_is_away() -> None:
    async with running("nats://127.0.0.1:1") as events:
        for number in range(HINTS_OUT_MAX + 7):
            events.publish("session", n=number)
        assert events.dropped == 7
        assert len(events._out) == HINTS_OUT_MAX


async def test_what_cannot_be_sent_stays_here_and_raises_nothing(server: NatsServer) -> None:
    async with connected(server.url) as here, connected(server.url) as there:
        mine, theirs = here.subscribe("session"), there.subscribe("session")
        here.publish("session", thing=object())
        here.publish("session", text="x" * HINT_BYTES_MAX)
        here.publish("session", id="ses_1")
        assert len(await take(mine, 3)) == 3
        assert [hint.data for hint in await take(theirs, 1)] == [{"id": "ses_1"}]
        assert here.dropped == 2


@pytest.mark.parametrize(
    "garbage", [b"", b"\xff\xfe", b"[1]", b'{"topic":1,"data":{}}', b'{"topic":"session"}',
                b'{"topic":"session","data":[]}', b"[" * 9000,
                b'{"topic":"session","data":{"id":"' + b"x" * HINT_BYTES_MAX + b'"}}'],
)  # fmt: skip
async def test_what_is_no_hint_is_ignored(server: NatsServer, garbage: bytes) -> None:
    async with connected(server.url) as events:
        subscription = events.subscribe("session")
        stranger = Client()
        await stranger.connect(server.url)
        await stranger.publish(events._subject, garbage)
        await stranger.publish(events._subject, b'{"topic":"session","data":{"id":"ses_1"}}')
        await stranger.flush()
        assert [hint.data["id"] for hint in await take(subscription, 1)] == ["ses_1"]
        await stranger.close()


async def test_a_server_that_talks_nonsense_is_tried_again_for_ever() -> None:
    knocks: list[int] = []

    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        knocks.append(1)
        writer.write(b"HELLO \xff\xff\r\n" if len(knocks) % 2 else b"")
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    listener = await asyncio.start_server(nonsense, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with running(f"nats://127.0.0.1:{port}") as events:
        await eventually(lambda: len(knocks) > 3)
        subscription = events.subscribe("session")
        events.publish("session", n=1)
        assert len(await take(subscription, 1)) == 1
    listener.close()
    await listener.wait_closed()


async def test_the_password_in_the_address_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.DEBUG):
        async with running("nats://broker:hunter2@127.0.0.1:1"):
            await eventually(lambda: caplog.records)
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize("url", ["", "nats", "http://127.0.0.1", "nats://", "127.0.0.1:4222"])
def test_an_address_that_is_none_is_refused_at_the_start(url: str) -> None:
    with pytest.raises(ConfigError):
        NatsEvents(url=url, installation_id="i", clock=SystemClock(), chance=SystemChance(1))
