"""A host's connection: what it says of itself when it is made, lost, refused or abandoned."""

from __future__ import annotations

import asyncio
import gc
import random
import socket
import threading
import weakref
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from broker.domain.errors import EngineError, UnsupportedError
from broker.engines.libvirt import connection as module
from broker.engines.libvirt.capabilities import read
from broker.engines.libvirt.connection import HostConnection
from broker.engines.libvirt.displays import Displays
from broker.engines.libvirt.hosts import HostLink, Hosts
from broker.engines.libvirt.knobs import parse_profile
from broker.engines.libvirt.turns import Turns
from broker.limits import LIBVIRT_SURVEY_PAUSE_S_MAX, LIBVIRT_SURVEY_PAUSE_S_MIN
from tests.support.builders import make_host
from tests.support.clock import ManualClock
from tests.support.eventually import eventually
from tests.support.libvirt_cases import driver_connection

SOON_S = 30


@pytest.fixture
async def host() -> AsyncIterator[HostConnection]:
    async with driver_connection() as host:
        yield host


class Made:
    """Connections that were made, and how many of them are still open."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.all: list[weakref.ref[Any]] = []
        self._connect = module.connect
        monkeypatch.setattr(module, "connect", self.connect)

    def connect(self, *told: Any) -> Any:
        made = self._connect(*told)
        self.all.append(weakref.ref(made))
        return made

    @property
    def open(self) -> int:
        gc.collect()
        return sum(one() is not None for one in self.all)


class Slow:
    """What a host is, read of it only when it is let."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reading = threading.Event()
        self.go_on = threading.Event()
        monkeypatch.setattr(module, "read", self.read)

    def read(self, *told: Any) -> Any:
        self.reading.set()
        assert self.go_on.wait(60)
        return read(*told)


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


async def test_a_host_that_refuses_is_left_with_no_connection_open(
    host: HostConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Made(monkeypatch)

    def refuse(*_: Any) -> None:
        raise UnsupportedError("it has no KVM")

    monkeypatch.setattr(module, "read", refuse)
    for _ in range(3):
        with pytest.raises(UnsupportedError):
            await host.open()
    await eventually(lambda: made.open == 0, within_s=SOON_S)
    assert len(made.all) == 3


async def test_a_connection_is_left_when_whoever_wanted_it_has_gone(
    host: HostConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, slow = Made(monkeypatch), Slow(monkeypatch)
    caller = asyncio.create_task(host.open())
    await eventually(slow.reading.is_set)
    caller.cancel()
    await asyncio.wait([caller])
    del caller  # what it raised knows the connection
    slow.go_on.set()
    await eventually(lambda: made.open == 0, within_s=SOON_S)
    await host.hear(lambda one: one.getType())
    assert (len(made.all), host.silence) == (2 + len(host.place.pools), None)


async def test_a_host_that_is_closed_while_it_is_reached_is_left_with_no_connection_open(
    host: HostConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, slow = Made(monkeypatch), Slow(monkeypatch)
    caller = asyncio.create_task(host.open())
    await eventually(slow.reading.is_set)
    await host.close()
    slow.go_on.set()
    with pytest.raises(EngineError):
        await caller
    del caller
    await eventually(lambda: made.open == 0, within_s=SOON_S)


async def test_a_host_that_hung_up_before_it_was_known_to_be_heard_is_not(
    host: HostConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Made(monkeypatch)
    with monkeypatch.context() as hung_up:
        hung_up.setattr(module, "_is_alive", lambda _: False)
        with pytest.raises(EngineError, match="hung up"):
            await host.open()
    assert (host.lost.is_set(), host.failing) == (True, True)
    await eventually(lambda: made.open == 0, within_s=SOON_S)


async def test_a_host_that_does_not_say_what_is_there_is_asked_again_after_a_pause() -> None:
    clock = ManualClock()
    asked = 0

    async def survey(_: HostLink) -> None:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        raise EngineError("it has too many calls to answer")

    hosts = Hosts(clock=clock, chance=random.Random(1), happened=lambda *_: None, survey=survey)
    hosts.know(make_host(engine="libvirt", profile="test"))
    async with asyncio.TaskGroup() as tasks:
        hosts.begin(tasks)
        await eventually(lambda: asked > 0)
        await clock.advance(LIBVIRT_SURVEY_PAUSE_S_MIN / 2)
        assert asked == 1
        await clock.advance(LIBVIRT_SURVEY_PAUSE_S_MAX)
        assert asked > 1
        hosts.end()
    await hosts.close()


async def test_a_display_that_nobody_waits_for_any_more_is_closed_when_it_comes(
    host: HostConnection,
) -> None:
    ours, theirs = socket.socketpair()
    opening, go_on = threading.Event(), threading.Event()

    class Opens:
        def display(self, *_: object) -> socket.socket:
            opening.set()
            assert go_on.wait(60)
            return ours

    none: Any = None
    link: Any = SimpleNamespace(
        connection=host, place=parse_profile("qemu"), machines=lambda *_: Opens()
    )
    found: Any = SimpleNamespace(tags=SimpleNamespace(desktop_id="dsk_1"))
    turns = Turns("tri_1")
    with theirs:
        async with asyncio.TaskGroup() as turns.tasks, turns.next("dsk_1", SOON_S) as turn:
            shown = Displays(none, none, turns)._handed_over(turn, link, found, "vnc")
            caller = asyncio.create_task(shown)
            await eventually(opening.is_set)
            caller.cancel()
            await asyncio.wait([caller])
            go_on.set()
        theirs.settimeout(SOON_S)
        assert (theirs.recv(1), ours.fileno()) == (b"", -1)
