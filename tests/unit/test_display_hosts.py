"""Displays at a process whose engine has not been asked anything of the desktop's host yet."""

from __future__ import annotations

from typing import Any

import pytest

from broker.domain.errors import EngineError
from broker.domain.model import Desktop, Host
from broker.gateway.desk import Desk
from broker.gateway.display import DisplayLeave
from broker.gateway.shadows import ShadowGateway
from broker.ports import Console
from tests.support.displays import FakeConsole
from tests.support.seats import sit_down
from tests.support.world import World, make_world


class ToldEngine:
    """It knows the hosts that it was asked of, as the engines over libvirt and OpenStack do."""

    def __init__(self) -> None:
        self._hosts: set[str] = set()

    def displays(self, host: Host) -> frozenset[str]:
        self._hosts.add(host.id)
        return frozenset({"vnc"})

    async def console(self, desktop: Desktop, *_: object) -> Console:
        if desktop.host_id not in self._hosts:
            raise EngineError(f"{desktop.name} does not run")
        return FakeConsole()


async def shown(world: World, desktop: Desktop, session_id: str, engine: Any) -> Console:
    desk = Desk(world.kit, world.sessions, lambda _: engine, world.services.showing)
    leave = DisplayLeave(session_id=session_id, desktop=desktop, endpoint_id=None)
    return await desk.connect(leave)


async def shadowed(world: World, desktop: Desktop, _: str, engine: Any) -> Console:
    gateway = ShadowGateway(world.kit, world.services.shadows, lambda _: engine)
    return await gateway._connect(desktop)


@pytest.mark.parametrize("opened", [shown, shadowed])
async def test_a_display_opens_where_nothing_was_asked_of_its_host_before(opened: Any) -> None:
    """As after a restart, or at another process than the one that made the desktop."""
    async with make_world() as world:
        await world.look(3)
        session = (await sit_down(world, "pupil1", None)).session
        assert session.desktop_id is not None
        desktop = await world.kit.store.desktops.desktop(session.desktop_id)
        assert desktop is not None
        assert isinstance(await opened(world, desktop, session.id, ToldEngine()), FakeConsole)
