"""A relay's port that speaks TLS from the first byte on: counted from the first connection on."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from broker.gateway.relay import Streams
from broker.gateway.relays import viewer_tls
from broker.limits import RELAY_BUFFER_BYTES
from tests.api.test_relay_limits import dial, gateway_of, hung_up, relay_of
from tests.support.certificates import Authority
from tests.support.displays import FakeConsole
from tests.support.eventually import eventually

STRANGERS = 3


@pytest.fixture
def tls(tmp_path: Path) -> ssl.SSLContext:
    Authority().vouch(tmp_path, "localhost", server=True)
    found = viewer_tls(tmp_path / "servercert.pem", tmp_path / "serverkey.pem")
    assert found is not None
    return found


@pytest.fixture
async def silent() -> AsyncIterator[list[Streams]]:
    """Connections that a test opened and says nothing over."""
    opened: list[Streams] = []
    yield opened
    for _, writer in opened:
        writer.close()


async def secured(tmp_path: Path, streams: Streams) -> Streams:
    trusting = ssl.create_default_context(cafile=str(tmp_path / "cacert.pem"))
    await streams[1].start_tls(trusting, server_hostname="127.0.0.1")
    return streams


@pytest.mark.parametrize("encrypted", [True, False])
async def test_of_one_source_only_so_many_wait_without_a_pass(
    tls: ssl.SSLContext, silent: list[Streams], encrypted: bool
) -> None:
    gateway, _ = gateway_of()
    limits = {"strangers_max": STRANGERS, "handshake_s": 60.0}
    async with relay_of(gateway, tls=tls if encrypted else None, **limits) as (relay, viewers):
        silent.extend([await dial(viewers) for _ in range(STRANGERS)])
        await eventually(lambda: relay.open_count == STRANGERS)
        reader, writer = await dial(viewers)
        await hung_up(reader)
        writer.close()
        assert relay.open_count == STRANGERS


async def test_who_has_shown_a_pass_takes_no_strangers_room(
    tls: ssl.SSLContext, tmp_path: Path
) -> None:
    consoles = [FakeConsole() for _ in range(2 * STRANGERS)]
    gateway, _ = gateway_of(*consoles)
    async with (
        relay_of(gateway, tls=tls, strangers_max=1) as (_, viewers),
        AsyncExitStack() as ends,
    ):
        for number, console in enumerate(consoles):
            _, writer = await secured(tmp_path, await dial(viewers))
            ends.callback(writer.close)
            writer.write(f"ses_{number}\nahead".encode())
            await eventually(console.input.copy)
            assert console.input == [b"ahead"]


async def test_no_more_is_kept_for_a_slow_viewer_because_it_is_encrypted(
    tls: ssl.SSLContext, tmp_path: Path
) -> None:
    kept: list[int] = []
    gateway, _ = gateway_of(FakeConsole())
    async with relay_of(gateway, tls=tls) as (relay, viewers):
        _, writer = await secured(tmp_path, await dial(viewers, b""))
        writer.write(b"ses_1\n")
        await eventually(lambda: gateway.open_count)
        for inside in relay._inside:
            _, high = inside.transport.get_write_buffer_limits()
            kept.append(high)
        writer.close()
    assert kept == [RELAY_BUFFER_BYTES]


async def test_what_is_no_tls_is_hung_up_on(tls: ssl.SSLContext) -> None:
    gateway, desk = gateway_of()
    async with relay_of(gateway, tls=tls) as (relay, viewers):
        reader, writer = await dial(viewers, b"ses_1\nin the clear\n" * 10)
        await hung_up(reader)
        writer.close()
        await eventually(lambda: relay.open_count == 0)
    assert desk.used == set()


async def test_a_tls_that_is_never_finished_ends_in_time(tls: ssl.SSLContext) -> None:
    gateway, _ = gateway_of()
    async with relay_of(gateway, tls=tls, handshake_s=0.05) as (relay, viewers):
        reader, writer = await dial(viewers, b"\x16\x03\x01")
        async with asyncio.timeout(60):
            await hung_up(reader)
        writer.close()
        await eventually(lambda: relay.open_count == 0)
