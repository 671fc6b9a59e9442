"""Further connections of a viewer, beside the display that its first one opened."""

from __future__ import annotations

import asyncio

import pytest

from broker.domain.errors import BadTicketError
from broker.gateway.channels import ChannelGateway
from broker.gateway.ends import DisplayEnd
from broker.system import SystemClock
from tests.support.displays import FakeClient, FakeConsole, FakeDesk
from tests.support.eventually import eventually


async def test_a_channel_comes_beside_its_own_display_and_not_beside_the_one_that_took_over() -> (
    None
):
    desk = FakeDesk(FakeConsole(), FakeConsole(), FakeConsole())
    gateway = ChannelGateway(desk=desk, clock=SystemClock())
    viewer, browser = FakeClient(), FakeClient()
    async with asyncio.TaskGroup() as group:
        first = group.create_task(gateway.serve(viewer, ticket="t-ses_1/viewer"))
        await eventually(lambda: viewer.opened)
        mine = gateway.shown("ses_1")
        second = group.create_task(gateway.serve(browser, ticket="t-ses_1/browser"))
        await eventually(lambda: browser.opened)
        assert await first == DisplayEnd.TAKEN_OVER
        with pytest.raises(BadTicketError):
            await gateway.beside(FakeClient(), "ses_1", mine)
        assert len(desk.consoles) == 1
        assert gateway.kill("ses_1")
        await second


async def test_a_killed_displays_channels_are_closed_before_their_desktop_is_asked_anything() -> (
    None
):
    viewer, channel = FakeClient(), FakeClient()
    console = WatchedConsole(channel)
    gateway = ChannelGateway(desk=FakeDesk(FakeConsole(), console), clock=SystemClock())
    async with asyncio.TaskGroup() as group:
        main = group.create_task(gateway.serve(viewer, ticket="t-ses_1"))
        await eventually(lambda: viewer.opened)
        beside = group.create_task(gateway.beside(channel, "ses_1", gateway.shown("ses_1")))
        await eventually(lambda: channel.opened)
        assert gateway.kill("ses_1")
        assert await main == await beside == DisplayEnd.KILLED
    assert console.channel_was == [DisplayEnd.KILLED]


class WatchedConsole(FakeConsole):
    """Remembers what the viewer's side had been closed with when this was to be closed."""

    def __init__(self, channel: FakeClient) -> None:
        super().__init__()
        self.channel_was: list[str | None] = []
        self._channel = channel

    async def close(self) -> None:
        self.channel_was.append(self._channel.closed)
        await super().close()
