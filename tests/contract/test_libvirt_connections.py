"""A host's connection: what it says of itself when it is made, lost, refused or abandoned."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from broker.domain.errors import EngineError
from broker.engines.libvirt.connection import HostConnection
from broker.engines.libvirt.knobs import parse_profile
from broker.engines.libvirt.route import Route
from broker.system import SystemClock

SOON_S = 30


@pytest.fixture
async def host() -> AsyncIterator[HostConnection]:
    place = parse_profile("test")
    host = HostConnection(
        name="server-1",
        place=place,
        route=Route("server-1", place, None),
        clock=SystemClock(),
        chance=random.Random(1),
        happened=lambda _: None,
    )
    yield host
    await host.close()


class Hanging:
    """Storage pools that do not answer until they are let."""

    def __init__(self, host: HostConnection, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked = asyncio.Event()
        self.answer = asyncio.Event()
        monkeypatch.setattr(host.pools, "glance", self.glance)

    async def glance(self) -> None:
        self.asked.set()
        await self.answer.wait()


async def test_a_host_is_heard_though_whoever_reached_it_left_while_its_pools_hung(
    host: HostConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    pools = Hanging(host, monkeypatch)
    async with asyncio.timeout(SOON_S):
        caller = asyncio.create_task(host.open())
        await pools.asked.wait()
        caller.cancel()
        await asyncio.wait([caller])
        await host.open()
    assert (host.silence, host.lost.is_set(), host.failing) == (None, False, False)


async def test_a_host_that_hangs_up_while_its_pools_hang_does_not_count_as_heard(
    host: HostConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    pools = Hanging(host, monkeypatch)
    async with asyncio.timeout(SOON_S):
        caller = asyncio.create_task(host.hear(lambda one: one.getType()))
        await pools.asked.wait()
        host._drop(host._hearing)
        pools.answer.set()
        with pytest.raises(EngineError, match="hung up"):
            await caller
        assert (host.silence is not None, host.lost.is_set()) == (True, True)
        assert await host.hear(lambda one: one.getType()) == "TEST"
    assert (host.silence, host.lost.is_set()) == (None, False)
