"""What runs at once at one host: slow calls leave room for the others."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from broker.domain.errors import EngineError
from broker.engines.libvirt.connection import HostConnection
from broker.engines.libvirt.machines import Found
from broker.engines.libvirt.tags import Tags
from broker.engines.libvirt.verbs import Verbs
from broker.limits import LIBVIRT_THREADS, SNAPSHOTS_PER_HOST_MAX
from broker.ports import Operation
from tests.support.builders import make_desktop, make_host
from tests.support.engines import IMAGE
from tests.support.eventually import eventually
from tests.support.libvirt_cases import driver_connection


@pytest.fixture
async def host() -> AsyncIterator[HostConnection]:
    async with driver_connection() as host:
        yield host


class Slow:
    """Calls that end when they are told to. `most`: at once, so far."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self.go_on = threading.Event()
        self._lock = threading.Lock()

    def __call__(self, _: Any) -> None:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        assert self.go_on.wait(60)
        with self._lock:
            self.now -= 1


async def test_snapshots_leave_every_thread_of_the_others_free(host: HostConnection) -> None:
    snapshots, others = Slow(), Slow()
    async with asyncio.TaskGroup() as tasks:
        try:
            for _ in range(LIBVIRT_THREADS + SNAPSHOTS_PER_HOST_MAX):
                tasks.create_task(host.call(snapshots, slow=True))
            await eventually(lambda: snapshots.now == SNAPSHOTS_PER_HOST_MAX)
            for _ in range(LIBVIRT_THREADS):
                tasks.create_task(host.call(others))
            await eventually(lambda: others.now == LIBVIRT_THREADS)
            assert snapshots.most == SNAPSHOTS_PER_HOST_MAX
        finally:
            snapshots.go_on.set()
            others.go_on.set()
    assert snapshots.most == SNAPSHOTS_PER_HOST_MAX


async def test_snapshots_that_nobody_waits_for_any_more_hold_nobody_else_up(
    host: HostConnection,
) -> None:
    """They run on to their end, and count until then."""
    snapshots = Slow()
    try:
        left = [
            asyncio.create_task(host.call(snapshots, slow=True)) for _ in range(2 * LIBVIRT_THREADS)
        ]
        await eventually(lambda: snapshots.now == SNAPSHOTS_PER_HOST_MAX)
        for one in left:
            one.cancel()
        await asyncio.wait(left)
        assert await asyncio.wait_for(host.call(lambda one: one.getType()), 60) == "TEST"
        assert snapshots.now == snapshots.most == SNAPSHOTS_PER_HOST_MAX
    finally:
        snapshots.go_on.set()


class Told:
    """A turn in which nothing can be done. `slow`: what was said of each call."""

    def __init__(self) -> None:
        self.slow: list[bool] = []

    async def do(self, *_: Any, slow: bool = False) -> None:
        self.slow.append(slow)
        raise EngineError("not now")


class Nobody:
    def forget(self, _: str) -> None:
        return


@pytest.mark.parametrize("verb", ["snapshot", "revert", "drop_snapshot"])
async def test_what_is_done_about_snapshots_is_among_the_slow_calls(verb: str) -> None:
    none: Any = None
    verbs = Verbs(none, cast("Any", Nobody()), none, none, lambda _: None)
    desktop = make_desktop(generation=2)
    asked = Operation(id="job_1", desktop=desktop, host=make_host(), image=IMAGE, deadline_s=60)
    work = {
        "snapshot": verbs.snapshot("snp_1", []),
        "revert": verbs.revert(asked, "snp_1"),
        "drop_snapshot": verbs.drop_snapshot("snp_1"),
    }[verb]
    tags = Tags(installation_id="tri_1", desktop_id="dsk_1", generation=1)
    found = Found(uuid="u", tags=tags, memory_mib=64, active=True, running=True, saved=False)
    turn = Told()
    with pytest.raises(EngineError, match="not now"):
        await work(cast("Any", turn), none, found)
    assert turn.slow == [True]
