"""What one broker does to a machine, another that listens to it does not tell as a crash."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import libvirt
import pytest

from broker.domain.errors import EngineError
from broker.engines.libvirt import LibvirtEngine, connection, machines, moves
from broker.engines.libvirt import engine as engine_module
from broker.engines.libvirt.guests import Guest
from broker.engines.libvirt.hosts import HostLink
from broker.engines.libvirt.knobs import Place, parse_profile
from broker.engines.libvirt.machines import Found, Machines
from broker.engines.libvirt.tags import Tags
from broker.ports import MachineReport, Operation, PartialListError
from tests.support.builders import make_desktop, make_host
from tests.support.engines import IMAGE, EngineCase, listening
from tests.support.eventually import eventually
from tests.support.libvirt_cases import INSTALLATION, libvirt_engine, libvirt_test_case

DESKTOP = make_desktop()


@dataclass
class Pair:
    """Two brokers over one daemon; `other` listens to the machine that `engine` made, and heard
    nothing yet."""

    case: EngineCase
    engine: LibvirtEngine
    other: LibvirtEngine
    heard: list[MachineReport]

    def guest(self) -> Guest | None:
        return self.other.guests.get(DESKTOP.id)

    @property
    def link(self) -> HostLink:
        return self.other._hosts.know(self.case.host)

    async def look(self) -> None:
        """Once more, as at an event."""
        guest = self.guest()
        assert guest is not None
        await self.other._look_at(self.link, guest.uuid)
        for _ in range(10):  # what it said is heard
            await asyncio.sleep(0)


@asynccontextmanager
async def pair() -> AsyncIterator[Pair]:
    case = libvirt_test_case()
    engine, other = libvirt_engine(), libvirt_engine()
    async with listening(engine), listening(other) as heard:
        for host in (case.host, case.other):
            other.features(host)
        await engine.create(case.operation("job_1", DESKTOP))
        await other.adopt(DESKTOP, case.host)
        both = [other._hosts.know(host).connection for host in (case.host, case.other)]
        await eventually(lambda: not any(one.lost.is_set() for one in both))
        yield Pair(case, engine, other, heard)


async def test_a_machine_that_another_broker_suspended_is_not_told_as_stopped() -> None:
    async with pair() as here:
        assert here.guest() is not None
        await here.engine.suspend(here.case.operation("job_2", DESKTOP))
        await eventually(lambda: here.guest() is None)
        assert here.heard == []


async def test_a_machine_that_stopped_by_itself_is_told_as_that() -> None:
    async with pair() as here:
        guest = here.guest()
        assert guest is not None
        await here.link.connection.call(lambda one: one.lookupByUUIDString(guest.uuid).destroy())
        await eventually(lambda: here.heard)
        assert [(one.ready, one.detail) for one in here.heard] == [(False, "the machine stopped")]


def gone(monkeypatch: pytest.MonkeyPatch, *hosts: str) -> None:
    """From now on these have it no more. (The test driver moves nothing, and both hosts are one
    daemon.)"""
    found = Machines.find

    def find(self: Machines, desktop_id: str) -> Found | None:
        return None if self.host in hosts else found(self, desktop_id)

    monkeypatch.setattr(Machines, "find", find)


async def test_a_machine_that_another_broker_moved_is_listened_to_where_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with pair() as here:
        before = here.guest()
        assert before is not None
        before.ready = False
        before.waiting.append("job_9")
        gone(monkeypatch, here.case.host.name)
        await here.look()
        guest = here.guest()
        assert guest is not None
        assert guest.host_id == here.case.other.id
        await eventually(lambda: here.heard)
        assert [(one.ready, one.operation_id) for one in here.heard] == [(True, "job_9")]


async def test_a_machine_that_another_broker_removed_is_not_told_as_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with pair() as here:
        gone(monkeypatch, here.case.host.name, here.case.other.name)
        await here.look()
        assert here.guest() is None
        assert here.heard == []


async def test_a_move_asked_for_again_finds_its_guest_where_the_machine_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As after one that went through with nobody waiting."""
    async with pair() as here:
        gone(monkeypatch, here.case.host.name)
        monkeypatch.setattr(LibvirtEngine, "_need", lambda *_: None)
        await here.other.migrate(here.case.operation("job_2", DESKTOP), here.case.other)
        guest = here.guest()
        assert guest is not None
        assert guest.host_id == here.case.other.id
        assert here.heard == []


async def test_a_move_asked_for_again_by_a_broker_that_never_heard_of_the_other_host_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It has gone through, so the machine is there, and nowhere else."""
    async with pair() as here, listening(third := libvirt_engine()):
        gone(monkeypatch, here.case.host.name)
        monkeypatch.setattr(LibvirtEngine, "_need", lambda *_: None)
        await third.migrate(here.case.operation("job_2", DESKTOP), here.case.other)
        guest = third.guests.get(DESKTOP.id)
        assert guest is not None
        assert guest.host_id == here.case.other.id


@pytest.mark.parametrize("unread", [False, True])
async def test_a_disk_that_a_host_which_cannot_be_read_may_need_stays(
    monkeypatch: pytest.MonkeyPatch, *, unread: bool
) -> None:
    """Another host of a newer broker's may have a machine on it: only the machine goes."""
    async with pair() as here:
        gone(monkeypatch, here.case.other.name)
        [machine] = await here.engine.machines()
        if unread:
            here.engine.features(
                make_host(
                    id="hst_3", name="server-3", engine="libvirt", profile="test?later_knob=1"
                )
            )
        await here.engine.discard(machine)
        disks = await here.link.connection.call(
            lambda one: [
                volume.name()
                for volume in one.storagePoolLookupByName("trivium").listAllVolumes()
                if not volume.name().startswith(IMAGE.name)
            ]
        )
        assert bool(disks) is unread


async def test_a_host_that_drops_packets_keeps_the_others_machines_from_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To reach it takes minutes."""
    let_go, connect = threading.Event(), connection.connect

    def slowly(host: str, place: Place) -> Any:
        if host == "server-9":
            let_go.wait(30)
        return connect(host, place)

    monkeypatch.setattr(connection, "connect", slowly)
    monkeypatch.setattr(engine_module, "LIST_HOST_S", 0.5)
    async with pair() as here:
        far = make_host(id="hst_9", name="server-9", engine="libvirt", profile="test")
        here.engine.features(far)
        try:
            with pytest.raises(PartialListError) as refused:
                await here.engine.machines()
        finally:
            let_go.set()
        assert refused.value.silent == {"hst_9"}
        assert "no answer" in refused.value.detail
        assert [one.desktop_id for one in refused.value.machines] == [DESKTOP.id]


async def test_a_machine_made_fresh_by_another_broker_is_listened_to_as_that() -> None:
    async with pair() as here:
        fresh = make_desktop(generation=2)
        await here.engine.reset(here.case.operation("job_2", fresh))
        await eventually(lambda: (guest := here.guest()) is not None and guest.generation == 2)
        assert [one.generation for one in here.heard if not one.ready] in ([], [1])


async def test_a_machine_that_a_move_left_standing_runs_on_only_where_no_other_host_has_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with pair() as here:
        guest = here.guest()
        assert guest is not None

        def look(work: str) -> Awaitable[object]:
            return here.link.connection.call(
                lambda one: getattr(one.lookupByUUIDString(guest.uuid), work)()
            )

        await look("suspend")
        monkeypatch.setattr(moves, "_LEFT", frozenset({libvirt.VIR_DOMAIN_PAUSED_USER}))
        with pytest.raises(EngineError, match="may run elsewhere"):
            await here.other.resume(here.case.operation("job_2", DESKTOP))
        assert await look("state") == [libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_USER]
        gone(monkeypatch, here.case.other.name)
        await here.other.resume(here.case.operation("job_3", DESKTOP))
        assert (await here.other.machines())[0].running


def test_a_move_for_which_nobody_waits_any_more_is_not_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its host may have been reached long after the deadline."""
    done: list[str] = []
    monkeypatch.setattr(machines, "connect", lambda *_: done.append("connect"))
    monkeypatch.setattr(Machines, "tag", lambda *_: done.append("tag"))
    monkeypatch.setattr(moves, "move", lambda *_: done.append("move"))
    place = parse_profile("qemu?storage=shared")
    tags = Tags(installation_id=INSTALLATION, desktop_id="dsk_1", generation=1, name="library-001")
    there = Found(uuid="u", tags=tags, memory_mib=1, active=True, running=True, saved=False)
    operation = Operation(id="job_1", desktop=DESKTOP, host=make_host(), image=IMAGE, deadline_s=60)

    def over() -> None:
        raise EngineError("nobody waits for this any more")

    with pytest.raises(EngineError, match="nobody waits"):
        Machines(None, "host-a", place, INSTALLATION).migrate(there, place, operation, None, over)
    assert done == ["connect"]
