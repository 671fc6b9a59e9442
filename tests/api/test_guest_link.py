"""Guest agents that link up over the network: the real agent, as a process, at a real broker."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType

from broker import guest_wire, limits
from broker.domain.errors import GuestRefusedError, GuestSilentError
from broker.domain.lifecycle import DesktopEvent
from broker.domain.model import Desktop, DesktopState
from broker.guest_wire import LINK_PATH, LINK_SUBPROTOCOL
from broker.ports import DesktopStore, GuestAsk, GuestVerb
from broker.services.guest_links import GuestLinks
from broker.web.guest_link import Pace
from tests.support.app import App, running_app
from tests.support.eventually import eventually
from tests.support.linked import (
    GENEROUS_S,
    agent_at,
    desk,
    given,
    starting_desktop,
    state_of,
    until_state,
)
from tests.support.postgres import PostgresServer, running_postgres
from tests.support.world import HandClock

LOG_OFF = GuestAsk(id="a1", what=GuestVerb.LOG_OFF)


async def link_of(
    app: App, first: str | bytes | None, **more: Any
) -> aiohttp.ClientWebSocketResponse[bool]:
    """A link whose first message is this."""
    ws: aiohttp.ClientWebSocketResponse[bool] = await app.http.ws_connect(
        app.url + LINK_PATH, protocols=(LINK_SUBPROTOCOL,), **more
    )
    if isinstance(first, str):
        await ws.send_str(first)
    elif first is not None:
        await ws.send_bytes(first)
    return ws


def present(ticket: str) -> str:
    return guest_wire.encode(guest_wire.Present(ticket=ticket)).decode()


async def closed_with(ws: aiohttp.ClientWebSocketResponse[bool]) -> int | None:
    async with asyncio.timeout(GENEROUS_S):
        while (await ws.receive()).type is WSMsgType.TEXT:
            pass
    return ws.close_code


# ------------------------------------------------------------------------------ the real agent


async def test_a_desktop_is_ready_when_its_agent_says_so_and_not_when_it_is_linked(
    bare: App, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    desktop = await starting_desktop(bare)
    folder, own = tmp_path / "machine", given(bare)
    async with desk(bare) as guests:
        with agent_at(folder, own):
            guests.expect(guests.listen(desktop.id, desktop.name, desktop.generation), "job_1")
            await eventually(lambda: guests.guest(desktop.id))
            assert (folder / "identity").read_text() == f"dsk_1 1 {desktop.name}"
            assert await state_of(bare) is DesktopState.STARTING
            (folder / "user").write_text("ann")
            (folder / "ready").touch()
            await until_state(bare, DesktopState.READY)
            await eventually(lambda: (told := guests.guest(desktop.id)) and told.user == "ann")
            told = guests.guest(desktop.id)
            assert told is not None
            assert told.addresses == ("10.20.0.4",)
            await eventually((folder / "time").exists)
            await guests.ask(desktop, LOG_OFF, GENEROUS_S)
            assert not (folder / "user").exists()
            await eventually(lambda: (told := guests.guest(desktop.id)) and told.user == "")
            with pytest.raises(GuestRefusedError, match="no lock here"):
                await guests.ask(desktop, GuestAsk(id="a2", what=GuestVerb.LOCK), GENEROUS_S)
        await eventually(lambda: not guests.heard())
        with pytest.raises(GuestSilentError):
            await guests.ask(desktop, LOG_OFF, 1)
    assert own["TRIVIUM_TICKET"].rpartition(".")[2] not in caplog.text


async def test_a_desktop_made_fresh_is_not_ready_by_what_the_last_machine_says(
    bare: App, tmp_path: Path
) -> None:
    desktop = await starting_desktop(bare)
    store = bare.services.kit.store
    async with desk(bare) as guests:
        with agent_at(tmp_path / "old", given(bare)):
            (tmp_path / "old" / "ready").touch()
            guests.expect(guests.listen(desktop.id, desktop.name, 1), "job_1")
            await until_state(bare, DesktopState.READY)
            fresh = await store.desktops.advance(
                desktop.id, DesktopEvent.RESET_ASKED, bare.clock.now(), fresh=True
            )
            assert fresh.generation == 2
            guests.expect(guests.listen(desktop.id, desktop.name, 2), "job_2")
            await eventually(lambda: str(guest_wire.CLOSE_OLD) in told_by(tmp_path / "old"))
            assert await state_of(bare) is DesktopState.RESETTING
            with agent_at(tmp_path / "new", given(bare, 2)):
                await eventually(lambda: guests.guest(desktop.id))
                assert await state_of(bare) is DesktopState.RESETTING
                (tmp_path / "new" / "ready").touch()
                await until_state(bare, DesktopState.READY)


def told_by(folder: Path) -> str:
    """What the agent said to whoever runs it."""
    return (folder / "stderr").read_text()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


async def test_the_agent_comes_back_when_the_broker_was_started_anew(tmp_path: Path) -> None:
    env = {
        "TRIVIUM_LISTEN": f"127.0.0.1:{free_port()}",
        "TRIVIUM_DATABASE_URL": f"sqlite:///{tmp_path / 'trivium.db'}",
    }
    folder = tmp_path / "machine"
    async with running_app(tmp_path, env=env) as app:
        desktop = await starting_desktop(app)
        own = given(app)
        assert own == app.broker.guests.given(desktop.id, 1)
    with agent_at(folder, own):
        await eventually(lambda: "refused" in told_by(folder))
        for name in ("first", "second"):
            (folder / "user").write_text(name)
            async with running_app(tmp_path, env=env) as app, desk(app) as guests:
                guests.listen(desktop.id, desktop.name, 1)
                await eventually(lambda: guests.guest(desktop.id))
                (folder / "ready").touch()
                await until_state(app, DesktopState.READY)
                told = guests.guest(desktop.id)
                assert told is not None
                assert told.user == name
                # as a broker does that stops
                app.broker.guests.close()
                await eventually(lambda: str(guest_wire.CLOSE_RESTART) in told_by(folder))


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


async def test_whichever_of_two_brokers_has_the_link_reports(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    env = {"TRIVIUM_DATABASE_URL": postgres.create()}
    folder = tmp_path / "machine"
    async with (
        running_app(tmp_path / "a", env=env) as a,
        running_app(tmp_path / "b", env=env) as b,
        desk(a) as at_a,
        desk(b) as at_b,
    ):
        desktop = await starting_desktop(a)
        at_a.expect(at_a.listen(desktop.id, desktop.name, 1), "job_1")
        at_b.listen(desktop.id, desktop.name, 1)
        # the ticket is A's, the link B's
        with agent_at(folder, given(a) | {"TRIVIUM_BROKER": b.url}):
            await eventually(lambda: at_b.guest(desktop.id))
            assert await state_of(a) is DesktopState.STARTING
            (folder / "ready").touch()
            await until_state(a, DesktopState.READY)
            assert at_a.guest(desktop.id) is None
            with pytest.raises(GuestSilentError):
                await at_a.ask(desktop, LOG_OFF, 1)
            await at_b.ask(desktop, LOG_OFF, GENEROUS_S)


# ------------------------------------------------------------------------------- who is let in


async def test_a_ticket_that_was_not_given_is_refused(bare: App) -> None:
    await starting_desktop(bare)
    good = bare.broker.guests.ticket("dsk_1", 1)
    seal = good.rpartition(".")[2]
    other = GuestLinks(
        store=bare.services.kit.store, installation_id="tri_other", key=b"key", address=""
    )
    for ticket in (
        "", "x", other.ticket("dsk_1", 1), f"dsk_1.2.{seal}", f"dsk_2.1.{seal}", f"dsk_1.01.{seal}",
        good[:-1], good + "A", f"{good}\n", "x" * (limits.GUEST_TICKET_CHARS_MAX),
    ):  # fmt: skip
        ws = await link_of(bare, present(ticket))
        assert await closed_with(ws) == guest_wire.CLOSE_REFUSED, ticket


async def test_a_ticket_of_another_generation_is_told_so(bare: App) -> None:
    await starting_desktop(bare)
    for ticket in (bare.broker.guests.ticket("dsk_1", 2), bare.broker.guests.ticket("dsk_9", 1)):
        ws = await link_of(bare, present(ticket))
        assert await closed_with(ws) == guest_wire.CLOSE_OLD


@pytest.mark.parametrize(
    "first",
    ["{}", "hello", '{"type":"hello","boot_id":"b"}', '{"type":"present"}', b"\x00",
     "x" * (guest_wire.LINE_BYTES_MAX + 1), '{"type":"present","ticket":"' + "x" * 300 + '"}'],
)  # fmt: skip
async def test_the_first_message_presents_a_ticket(bare: App, first: str | bytes) -> None:
    ws = await link_of(bare, first)
    assert await closed_with(ws) in {guest_wire.CLOSE_NOT_UNDERSTOOD, 1009}


async def test_who_says_nothing_is_let_go(bare: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "GUEST_PRESENT_S", 0.1)
    ws = await link_of(bare, None)
    assert await closed_with(ws) == guest_wire.CLOSE_SILENT


async def test_browsers_and_plain_requests_are_refused(bare: App) -> None:
    answer = await bare.call("GET", LINK_PATH)
    assert answer.status == 400
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await link_of(bare, None, origin=bare.url)
    assert refused.value.status == 403


async def test_of_two_links_of_one_desktop_the_newest_wins(bare: App) -> None:
    await starting_desktop(bare)
    ticket = bare.broker.guests.ticket("dsk_1", 1)
    async with desk(bare) as guests:
        guests.listen("dsk_1", "one", 1)
        first = await link_of(bare, present(ticket))
        assert (await first.receive()).type is WSMsgType.TEXT
        second = await link_of(bare, present(ticket))
        assert await closed_with(first) == guest_wire.CLOSE_REPLACED
        said = guest_wire.decode_to_guest((await second.receive()).data.encode())
        assert isinstance(said, guest_wire.Identify)
        assert (said.desktop_id, said.generation, said.name) == ("dsk_1", 1, "one")
        await second.close()


async def test_no_more_agents_are_linked_than_there_is_room_for(
    bare: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    await starting_desktop(bare)
    ticket = bare.broker.guests.ticket("dsk_1", 1)
    monkeypatch.setattr(limits, "GUEST_ADMISSIONS_MAX", 0)
    assert await closed_with(await link_of(bare, present(ticket))) == guest_wire.CLOSE_LATER
    monkeypatch.undo()
    monkeypatch.setattr(limits, "GUEST_LINKS_MAX", 0)
    assert await closed_with(await link_of(bare, present(ticket))) == guest_wire.CLOSE_LATER


class HeldStore:
    """A store that is asked for desktops only; a question waits until `open` is set."""

    def __init__(self, inner: DesktopStore) -> None:
        self.open = asyncio.Event()
        self.asked: list[str] = []
        self.desktops = self
        self._inner = inner

    async def desktop(self, desktop_id: str) -> Desktop | None:
        self.asked.append(desktop_id)
        await self.open.wait()
        return await self._inner.desktop(desktop_id)


async def test_a_guest_that_knocks_often_takes_no_other_guests_room(
    bare: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "GUEST_ADMISSIONS_MAX", 2)
    await starting_desktop(bare)
    guests = bare.broker.guests
    held = HeldStore(guests._store.desktops)
    monkeypatch.setattr(guests, "_store", held)
    knocks = [await link_of(bare, present(guests.ticket("dsk_1", 1))) for _ in range(2)]
    await eventually(lambda: held.asked)
    often = await link_of(bare, present(guests.ticket("dsk_1", 1)))
    assert await closed_with(often) == guest_wire.CLOSE_LATER
    other = await link_of(bare, present(guests.ticket("dsk_2", 1)))
    await eventually(lambda: "dsk_2" in held.asked)
    held.open.set()
    assert await closed_with(other) == guest_wire.CLOSE_OLD, "there is no such desktop"
    assert held.asked == ["dsk_1", "dsk_2"]
    for one in knocks:
        await one.close()


async def test_those_who_say_nothing_take_the_room_of_their_own_address_only(
    bare: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "GUEST_SILENT_MAX", 1)
    monkeypatch.setattr(limits, "GUEST_ADMISSIONS_MAX", 1)
    await starting_desktop(bare)
    ticket = bare.broker.guests.ticket("dsk_1", 1)
    async with desk(bare) as guests:
        guests.listen("dsk_1", "one", 1)
        near = aiohttp.TCPConnector(local_addr=("127.0.0.3", 0))
        async with aiohttp.ClientSession(connector=near) as http:
            url = bare.url + LINK_PATH
            silent = await http.ws_connect(url, protocols=(LINK_SUBPROTOCOL,))
            too_many = await http.ws_connect(url, protocols=(LINK_SUBPROTOCOL,))
            assert await closed_with(too_many) == guest_wire.CLOSE_LATER
            other = await link_of(bare, present(ticket))
            assert (await other.receive()).type is WSMsgType.TEXT
            assert not silent.closed
            await other.close()
            await silent.close()


async def test_an_agent_that_is_not_there_any_more_is_noticed(
    bare: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "GUEST_PING_S", 0.2)
    await starting_desktop(bare)
    async with desk(bare) as guests:
        guests.listen("dsk_1", "one", 1)
        # pings are heard, and not answered
        ws = await link_of(bare, present(bare.broker.guests.ticket("dsk_1", 1)), autoping=False)
        heard = []
        async with asyncio.timeout(GENEROUS_S):
            while (message := await ws.receive()).type in {WSMsgType.TEXT, WSMsgType.PING}:
                heard.append(message.type)
        assert heard[-1] is WSMsgType.PING
        await eventually(lambda: not bare.broker.guests._links)
        await ws.close()


async def test_an_open_link_outlives_a_drain_and_is_told_when_the_broker_stops(bare: App) -> None:
    await starting_desktop(bare)
    async with desk(bare) as guests:
        guests.listen("dsk_1", "one", 1)
        ws = await link_of(bare, present(bare.broker.guests.ticket("dsk_1", 1)))
        assert (await ws.receive()).type is WSMsgType.TEXT
        bare.broker.web.drain()
        state = guest_wire.State(desktop_id="dsk_1", generation=1, ready=True)
        await ws.send_str(guest_wire.encode(state).decode())
        await until_state(bare, DesktopState.READY)
        bare.broker.guests.close()
        assert await closed_with(ws) == guest_wire.CLOSE_RESTART


async def test_who_talks_without_end_is_held_back() -> None:
    clock = HandClock()
    pace = Pace(clock)
    for _ in range(limits.GUEST_MESSAGES_BURST):
        await asyncio.wait_for(pace.turn(), GENEROUS_S)
    one_more = asyncio.ensure_future(pace.turn())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not one_more.done()
    clock.advance(1 / limits.GUEST_MESSAGES_PER_S + 0.001)
    await asyncio.wait_for(one_more, GENEROUS_S)
