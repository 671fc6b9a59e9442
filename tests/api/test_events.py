"""Event streams: who hears what, that they live, and that they end."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from yarl import URL

from broker import limits
from broker.domain.model import Identity, Role
from broker.ports import Hint
from broker.web.api.events import Gathered
from tests.support.app import App, Person
from tests.support.eventually import eventually


class Stream:
    """An open stream, read event by event."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer
        self.heard: list[tuple[str, dict[str, Any]]] = []

    async def block(self) -> bytes:
        async with asyncio.timeout(30):
            return await self.answer.content.readuntil(b"\n\n")

    async def next(self) -> tuple[str, dict[str, Any]]:
        """The next event; comments are passed over."""
        while True:
            lines = (await self.block()).decode().strip().split("\n")
            found = dict(line.split(": ", 1) for line in lines if not line.startswith(":"))
            if "event" in found:
                event = (found["event"], json.loads(found["data"]))
                self.heard.append(event)
                return event

    async def until(self, topic: str, **data: Any) -> dict[str, Any]:
        while True:
            heard, said = await self.next()
            if heard == topic and data.items() <= said.items():
                return said


@contextlib.asynccontextmanager
async def listening(app: App, who: Person, query: str = "") -> AsyncIterator[Stream]:
    before = len(app.broker.web.web.running.streams)
    url = URL(f"{app.url}/api/v1/events{query}")
    async with app.http.get(url, headers=who.headers) as answer:
        assert answer.status == 200, await answer.read()
        stream = Stream(answer)
        assert b"retry:" in await stream.block()
        await eventually(lambda: len(app.broker.web.web.running.streams) > before)
        yield stream


async def connect(app: App, name: str, pool: str = "library") -> str:
    reply = await app.call("POST", "/sessions", app.people[name], body={"pool": pool})
    return str(reply.json["session"]["id"])


async def test_a_reader_hears_of_everybodys_sessions(app: App) -> None:
    async with listening(app, app.people["audrey"]) as stream:
        assert stream.answer.headers["Content-Type"] == "text/event-stream"
        assert stream.answer.headers["Cache-Control"] == "no-store"
        session = await connect(app, "ann")
        said = await stream.until("session", id=session)
        assert said["user_id"] == app.people["ann"].id


async def test_a_plain_user_hears_of_the_own_sessions_only(app: App) -> None:
    async with listening(app, app.people["bob"]) as stream:
        others = [await connect(app, "ann"), await connect(app, "cid", "design")]
        await app.call("PATCH", "/pools/library", app.people["alice"], body={"spares_min": 0})
        own = await connect(app, "bob")
        await stream.until("session", id=own)
        assert {topic for topic, _ in stream.heard} == {"session"}
        assert not any(said["id"] in others for _, said in stream.heard)


@pytest.mark.parametrize("query", ["?topics=desktop,pool,overview", "?topics=user", ""])
async def test_a_plain_user_cannot_ask_for_more(app: App, query: str) -> None:
    async with listening(app, app.people["bob"], query) as stream:
        events = app.services.kit.events
        for topic in ("desktop", "pool", "overview", "user", "endpoint", "work"):
            events.publish(topic, id="x", user_id=app.people["bob"].id)
        own = await connect(app, "bob")
        await stream.until("session", id=own)
        assert {topic for topic, _ in stream.heard} == {"session"}


async def test_only_the_topics_asked_for_are_told(app: App) -> None:
    async with listening(app, app.people["alice"], "?topics=pool,campaign") as stream:
        await connect(app, "ann")
        await app.call("PATCH", "/pools/library", app.people["alice"], body={"spares_min": 0})
        await stream.until("pool")
        assert {topic for topic, _ in stream.heard} == {"pool"}


@pytest.mark.parametrize("query", ["?topics=", "?topics=work", "?topics=a,b", "?x=1"])
async def test_an_unknown_topic_is_refused(app: App, query: str) -> None:
    assert (await app.call("GET", f"/events{query}", app.people["alice"])).status == 400


async def test_the_same_hint_many_times_at_once_is_told_once(app: App) -> None:
    async with listening(app, app.people["alice"], "?topics=desktop") as stream:
        for number in range(200):
            app.services.kit.events.publish("desktop", id="dsk_1", number=number)
        assert await stream.next() == ("desktop", {"id": "dsk_1", "number": 199})
        app.services.kit.events.publish("desktop", id="dsk_2")
        assert (await stream.next())[1]["id"] == "dsk_2"


async def test_a_listener_far_behind_is_told_to_look_at_everything(app: App) -> None:
    async with listening(app, app.people["alice"], "?topics=desktop") as stream:
        for number in range(limits.EVENTS_PENDING_MAX + 50):
            app.services.kit.events.publish("desktop", id=f"dsk_{number}")
        await stream.until("missed")


def gathered(role: Role, own: set[str]) -> Gathered:
    who = Identity(user_id="usr_1", username="x", role=role, token_id="tok_1")
    return Gathered(who, own)


def test_what_waits_for_one_listener_is_bounded() -> None:
    found = gathered(Role.AUDITOR, set())
    for number in range(10 * limits.EVENTS_PENDING_MAX):
        found.take(Hint(topic="desktop", data={"id": f"dsk_{number}", "x": "y" * 50}))
    assert len(found.text()) < 150 * limits.EVENTS_PENDING_MAX


def test_a_place_in_the_queue_is_told_to_the_one_who_waits() -> None:
    found = gathered(Role.USER, {"ses_1"})
    found.take(Hint(topic="place", data={"id": "ses_2"}))
    assert found.text() == b": alive\n\n"
    found.take(Hint(topic="place", data={"id": "ses_1"}))
    found.take(Hint(topic="session", data={"id": "ses_3", "user_id": "usr_1"}))
    found.take(Hint(topic="place", data={"id": "ses_3"}))
    assert found.text().count(b"event: place") == 2


def test_a_plain_user_hears_only_who_asks_to_see_the_own_desktop() -> None:
    found = gathered(Role.USER, set())
    found.take(Hint(topic="shadow", data={"id": "ses_2", "user_id": "usr_2"}))
    assert found.text() == b": alive\n\n"
    found.take(Hint(topic="shadow", data={"id": "ses_1", "user_id": "usr_1"}))
    assert b"event: shadow" in found.text()


async def test_a_stream_without_news_shows_that_it_lives(app: App) -> None:
    async with listening(app, app.people["bob"]) as stream:
        assert await stream.block() == b": alive\n\n"


@pytest.mark.parametrize("how", ["sign-out", "disable", "role"])
async def test_a_stream_ends_with_the_sign_in(app: App, how: str) -> None:
    oliver, alice = app.people["oliver"], app.people["alice"]
    async with listening(app, oliver) as stream:
        if how == "sign-out":
            await app.call("POST", "/auth/logout", oliver)
        else:
            body = {"enabled": False} if how == "disable" else {"role": "user"}
            await app.call("PATCH", f"/users/{oliver.id}", alice, body=body)
        app.clock.shift_s += limits.EVENTS_BEAT_S
        async with asyncio.timeout(30):
            await stream.answer.content.read()
    await eventually(lambda: not app.broker.web.web.running.streams)


async def test_streams_are_counted_out_when_their_listeners_leave(app: App) -> None:
    running = app.broker.web.web.running
    for _ in range(3):
        async with listening(app, app.people["alice"]):
            pass
    for number in range(50):
        app.services.kit.events.publish("desktop", id=f"dsk_{number}")
        await asyncio.sleep(0.02)
    await eventually(lambda: not running.streams)


async def test_there_are_so_many_streams_and_no_more(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.web.api.events.EVENT_STREAMS_MAX", 2)
    alice = app.people["alice"]
    async with listening(app, alice), listening(app, alice):
        refused = await app.call("GET", "/events", alice)
        assert (refused.status, refused.code) == (503, "server.busy")
        assert int(refused.headers["Retry-After"]) >= 1


async def test_one_person_cannot_take_all_the_streams(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.web.api.events.EVENT_STREAMS_PER_USER_MAX", 2)
    ann = app.people["ann"]
    async with listening(app, ann), listening(app, ann):
        assert (await app.call("GET", "/events", ann)).code == "server.busy"
        async with listening(app, app.people["bob"]):
            pass


async def test_a_stopping_broker_ends_its_streams(app: App) -> None:
    async with listening(app, app.people["alice"]) as stream:
        app.broker.web.drain()
        async with asyncio.timeout(30):
            await stream.answer.content.read()
    assert (await app.call("GET", "/events", app.people["alice"])).code == "server.busy"
