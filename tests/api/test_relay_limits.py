"""The port of a relay: who may knock how often and how long, and what an end leaves behind."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from broker.config import Address
from broker.domain.errors import BadTicketError, BusyError, ConfigError, TriviumError
from broker.domain.viewers import ViewerKind
from broker.gateway.display import DisplayGateway
from broker.gateway.relay import RefusedError, Relay, Streams, Viewer, round_trip_s
from broker.limits import DISPLAY_INPUT_BYTES_MAX
from broker.ports import DisplayClient
from broker.services.viewers import Knock, Viewers
from broker.system import SystemClock
from tests.support.displays import FakeConsole, FakeDesk
from tests.support.eventually import eventually


@dataclass
class FakeViewers:
    """`over`: sign-ins that have ended."""

    doors: dict[ViewerKind, int] = field(default_factory=dict)
    over: set[str] = field(default_factory=set)

    async def signed_out(self, browsers: Collection[str]) -> frozenset[str]:
        return frozenset(self.over & set(browsers))

    async def told(self, error: TriviumError) -> TriviumError:
        return error


class LineGreet:
    """A protocol whose pass is one line: the session's id."""

    async def __call__(self, streams: Streams) -> tuple[Knock, Viewer]:
        line = (await streams[0].readuntil(b"\n")).decode().strip()
        if not line.startswith("ses_"):
            raise RefusedError("no session")
        return Knock(session_id=line, ticket=f"t-{line}", browser=f"tok_{line}"), Viewer(streams)


@contextlib.asynccontextmanager
async def relay_of(displays: Any, **limits: Any) -> AsyncIterator[tuple[Relay, FakeViewers]]:
    viewers = FakeViewers()
    relay = Relay(
        kind=ViewerKind.VNC, address=Address("127.0.0.1", 0), greet=LineGreet(),
        displays=displays, viewers=cast("Viewers", viewers), clock=SystemClock(),
        **{"new_per_source_max": 1000, **limits},
    )  # fmt: skip
    await relay.open()
    try:
        yield relay, viewers
    finally:
        await relay.close()
        assert relay.open_count == 0


def gateway_of(*consoles: FakeConsole) -> tuple[DisplayGateway, FakeDesk]:
    desk = FakeDesk(*consoles)
    return DisplayGateway(desk=desk, clock=SystemClock()), desk


async def dial(viewers: FakeViewers, said: bytes = b"") -> Streams:
    reader, writer = await asyncio.open_connection("127.0.0.1", viewers.doors[ViewerKind.VNC])
    writer.write(said)
    return reader, writer


async def hung_up(reader: asyncio.StreamReader) -> None:
    async with asyncio.timeout(60):
        with contextlib.suppress(ConnectionError):
            while await reader.read(65536):
                pass


async def test_bytes_go_both_ways_and_end_with_either_end() -> None:
    first, second = FakeConsole(), FakeConsole()
    gateway, _ = gateway_of(first, second)
    async with relay_of(gateway) as (relay, viewers):
        reader, writer = await dial(viewers, b"ses_1\n" + b"ahead")
        await eventually(lambda: first.input)
        first.show(b"picture")
        assert await reader.readexactly(7) == b"picture"
        writer.close()
        await eventually(lambda: relay.open_count == 0)
        assert first.input == [b"ahead"]
        assert first.closed
        reader, writer = await dial(viewers, b"ses_2\n")
        second.show(b"")
        await hung_up(reader)
        writer.close()


async def test_a_large_paste_comes_in_pieces_that_a_display_takes() -> None:
    console = FakeConsole()
    gateway, _ = gateway_of(console)
    async with relay_of(gateway) as (_, viewers):
        _, writer = await dial(viewers, b"ses_1\n")
        writer.write(b"x" * 100_000)
        await eventually(lambda: sum(map(len, console.input)) == 100_000)
        assert max(map(len, console.input)) <= DISPLAY_INPUT_BYTES_MAX
        writer.close()


async def test_whoever_shows_no_pass_in_time_is_let_go() -> None:
    gateway, desk = gateway_of()
    async with relay_of(gateway, handshake_s=0.05) as (relay, viewers):
        reader, writer = await dial(viewers, b"ses_")
        await hung_up(reader)
        writer.close()
        await eventually(lambda: relay.open_count == 0)
    assert desk.used == set()


async def test_a_pass_without_end_is_hung_up_on() -> None:
    gateway, _ = gateway_of()
    async with relay_of(gateway) as (relay, viewers):
        reader, writer = await dial(viewers, b"ses_" + b"x" * 200_000)
        await hung_up(reader)
        writer.close()
        await eventually(lambda: relay.open_count == 0)


async def test_a_source_that_knocks_too_often_is_turned_away_for_a_while() -> None:
    gateway, desk = gateway_of(FakeConsole(), FakeConsole(), FakeConsole())
    async with relay_of(gateway, new_per_source_max=2) as (_, viewers):
        opened = [await dial(viewers, f"ses_{number}\n".encode()) for number in range(3)]
        await hung_up(opened[2][0])
        await eventually(lambda: len(desk.used) == 2)
        for _, writer in opened:
            writer.close()


async def test_one_source_has_only_so_many_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.gateway.relay.RELAYS_PER_SOURCE_MAX", 2)
    gateway, _ = gateway_of(FakeConsole())
    async with relay_of(gateway) as (relay, viewers):
        idle = [await dial(viewers) for _ in range(2)]
        await eventually(lambda: relay.open_count == 2)
        reader, writer = await dial(viewers, b"ses_1\n")
        await hung_up(reader)
        writer.close()
        for _, one in idle:
            one.close()
        await eventually(lambda: relay.open_count == 0)
        _, writer = await dial(viewers, b"ses_1\n")
        await eventually(lambda: gateway.open_sessions() == ("ses_1",))
        writer.close()


class LargeConsole(FakeConsole):
    """Always has a large frame, at once."""

    async def receive(self) -> bytes:
        self.asked += 1
        return bytes(200 * 1024)


async def test_a_slow_viewer_holds_the_desktop_back_and_nothing_piles_up() -> None:
    console = LargeConsole()
    gateway, _ = gateway_of(console)
    async with relay_of(gateway) as (relay, viewers):
        reader, writer = await dial(viewers, b"ses_1\n")
        async with asyncio.timeout(60):
            asked = -1
            while asked != console.asked:
                asked = console.asked
                await asyncio.sleep(0.2)
        (inside,) = relay._inside
        assert 0 < inside.transport.get_write_buffer_size() < 300 * 1024
        assert gateway.kill("ses_1")
        await eventually(lambda: relay.open_count == 0)
        await hung_up(reader)
        writer.close()


async def test_a_ticket_that_is_refused_ends_in_a_closed_connection() -> None:
    gateway, desk = gateway_of(FakeConsole())
    desk.used.add("t-ses_1")
    async with relay_of(gateway) as (relay, viewers):
        reader, writer = await dial(viewers, b"ses_1\n")
        await hung_up(reader)
        writer.close()
        await eventually(lambda: relay.open_count == 0)
    assert desk.told == []


async def test_only_the_viewers_of_those_who_signed_out_are_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("broker.gateway.relay.DISPLAY_SIGN_IN_S", 0.01)
    gateway, _ = gateway_of(FakeConsole(), FakeConsole())
    async with relay_of(gateway) as (relay, viewers), asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(relay.run())
        first, second = await dial(viewers, b"ses_1\n"), await dial(viewers, b"ses_2\n")
        await eventually(lambda: len(gateway.open_sessions()) == 2)
        viewers.over.add("tok_ses_1")
        await hung_up(first[0])
        await eventually(lambda: gateway.open_sessions() == ("ses_2",))
        await asyncio.sleep(0.05)
        assert gateway.open_sessions() == ("ses_2",)
        watching.cancel()
        for _, writer in (first, second):
            writer.close()


async def test_a_port_that_is_taken_is_told_by_its_setting() -> None:
    gateway, _ = gateway_of()
    async with relay_of(gateway) as (_, viewers):
        taken = Address("127.0.0.1", viewers.doors[ViewerKind.VNC])
        another = Relay(
            kind=ViewerKind.VNC, address=taken, greet=LineGreet(), displays=gateway,
            viewers=cast("Viewers", FakeViewers()), clock=SystemClock(),
        )  # fmt: skip
        with pytest.raises(ConfigError, match="vnc_listen"):
            await another.open()


class FailingDisplays:
    """The Displays port as far as `serve` goes."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def serve(self, client: DisplayClient, **more: object) -> str:
        raise self.error


@pytest.mark.parametrize("error", [BadTicketError(), BusyError("full"), RuntimeError("a bug")])
async def test_whatever_goes_wrong_frees_the_place_at_the_port(error: Exception) -> None:
    async with relay_of(FailingDisplays(error)) as (relay, viewers):
        reader, writer = await dial(viewers, b"ses_1\n")
        await hung_up(reader)
        writer.close()
        await eventually(lambda: relay.open_count == 0)


async def test_a_viewers_round_trip_is_what_the_kernel_measured() -> None:
    console = FakeConsole()
    gateway, _ = gateway_of(console)
    async with relay_of(gateway) as (relay, viewers):
        reader, writer = await dial(viewers, b"ses_1\n")
        console.show(b"picture")
        await reader.readexactly(7)
        (inside,) = relay._inside
        assert 0 < round_trip_s(inside) < 30
        writer.close()
        await eventually(lambda: relay.open_count == 0)
        assert round_trip_s(inside) == 0
        with pytest.raises(ConnectionError):
            await Viewer((reader, inside)).ping()


@pytest.mark.parametrize("turns", range(8))
async def test_who_comes_while_the_door_closes_is_cut_off_too(turns: int) -> None:
    """`turns` of the loop after the knock: accepted or not, told of or not yet."""
    gateway, _ = gateway_of()
    async with relay_of(gateway, handshake_s=600) as (relay, viewers):
        with socket.create_connection(("127.0.0.1", viewers.doors[ViewerKind.VNC])) as knocking:
            knocking.setblocking(False)
            for _ in range(turns):
                await asyncio.sleep(0)
            await relay.close()
            async with asyncio.timeout(30):
                with contextlib.suppress(ConnectionError):
                    assert await asyncio.get_running_loop().sock_recv(knocking, 1) == b""
