"""Snapshots of machines with a guest inside: what it wrote, and what is left where."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree as ET

import libvirt
import libvirt_qemu
import pytest

from broker.domain.errors import EngineError, UnsupportedError
from broker.domain.model import Desktop, HostState
from broker.ports import Machine
from tests.support.eventually import eventually
from tests.support.libvirt_bench import Bench, on_bench
from tests.support.libvirt_lab import LibvirtLab, connected

SNAPSHOTS = "urn:trivium:snapshots:1"


@pytest.fixture
async def bench(libvirt_lab: LibvirtLab) -> AsyncIterator[Bench]:
    async with on_bench(libvirt_lab) as bench:
        yield bench


async def snapshot(bench: Bench, desktop: Desktop, key: str) -> int | None:
    return await bench.engine.snapshot(bench.case.operation(f"job_take_{key}", desktop), key)


async def revert(bench: Bench, desktop: Desktop, key: str) -> None:
    operation = bench.case.operation(f"job_revert_{desktop.generation}", desktop)
    await bench.engine.revert(operation, key)
    await bench.ready(desktop)


def in_disk(bench: Bench, generation: int = 1) -> list[str]:
    """Names of the snapshots in the disk's file."""
    path = bench.lab.first.guests / f"dsk_1-g{generation}.qcow2"
    ran = subprocess.run(
        ["qemu-img", "snapshot", "-l", "-U", str(path)],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return [
        line.split()[1].removeprefix("trivium-")
        for line in ran.stdout.splitlines()
        if line[:1].isdigit()
    ]


def booked(bench: Bench) -> int:
    """Snapshots in libvirt's books, with which it would not move the machine."""
    with connected(bench.lab.first) as connection:
        [domain] = connection.listAllDomains(0)
        return int(domain.snapshotNum(0))


def the_domain(connection: Any) -> Any:
    [domain] = connection.listAllDomains(0)
    return domain


def metadata(bench: Bench) -> str:
    """What is kept on the machine of its snapshots."""
    with connected(bench.lab.first) as connection:
        return str(
            the_domain(connection).metadata(
                libvirt.VIR_DOMAIN_METADATA_ELEMENT, SNAPSHOTS, libvirt.VIR_DOMAIN_AFFECT_CONFIG
            )
        )


def described(bench: Bench) -> dict[str, str]:
    return {one.get("id", ""): one.text or "" for one in ET.fromstring(metadata(bench))}


def book(domain: Any, key: str, *, ours: bool = True) -> None:
    """As a call does that is interrupted then; or as somebody does by other means."""
    name = f"trivium-{key}" if ours else f"trivium-{key}-by-hand"
    domain.snapshotCreateXML(f"<domainsnapshot><name>{name}</name></domainsnapshot>", 0)


async def test_what_was_written_since_is_gone_and_what_was_before_is_back(bench: Bench) -> None:
    desktop = await bench.made()
    await bench.tell(desktop, "before-the-update")
    size = await snapshot(bench, desktop, "snp_1")
    assert size is not None
    assert size > 10 * 2**20  # its memory is in it
    await bench.tell(desktop, "after-the-update")
    back = bench.desktop(generation=2)
    await revert(bench, back, "snp_1")
    await eventually(lambda: bench.kept(back) == "before-the-update")
    # and forward again, by a snapshot that was taken in between
    await bench.tell(back, "another-way")
    await snapshot(bench, back, "snp_2")
    again = bench.desktop(generation=3)
    await revert(bench, again, "snp_1")
    await eventually(lambda: bench.kept(again) == "before-the-update")
    last = bench.desktop(generation=4)
    await revert(bench, last, "snp_2")
    await eventually(lambda: bench.kept(last) == "another-way")
    assert (in_disk(bench), booked(bench)) == (["snp_1", "snp_2"], 0)
    await bench.engine.drop_snapshot(bench.case.operation("job_drop", last), "snp_1")
    assert (in_disk(bench), booked(bench)) == (["snp_2"], 0)
    fresh = bench.desktop(generation=5)
    await bench.engine.reset(bench.case.operation("job_reset", fresh))
    await bench.ready(fresh)
    disks = sorted(path.name for path in bench.lab.first.guests.glob("dsk_*"))
    assert disks == ["dsk_1-g5.qcow2"]
    assert in_disk(bench, 5) == []


async def test_a_machine_that_stood_still_for_its_snapshot_is_told_the_time(bench: Bench) -> None:
    desktop = await bench.made()
    guest = bench.engine.guests.get(desktop.id)
    assert guest is not None
    await eventually(lambda: guest.time_due_s > 0)
    regularly = guest.time_due_s = 1e12
    await snapshot(bench, desktop, "snp_1")
    await eventually(lambda: 0 < guest.time_due_s < regularly)


async def test_a_suspended_machine_is_kept_with_its_memory_and_comes_back_to_it(
    bench: Bench,
) -> None:
    desktop = await bench.made()
    await bench.tell(desktop, "asleep")
    boot = bench.engine.guests.get(desktop.id)
    assert boot is not None
    await bench.engine.suspend(bench.case.operation("job_2", desktop))
    await snapshot(bench, desktop, "snp_1")
    assert bench.lab.first.machine_pids() == {}
    await bench.engine.resume(bench.case.operation("job_3", desktop))
    await bench.ready(desktop)
    await bench.tell(desktop, "awake")
    back = bench.desktop(generation=2)
    await revert(bench, back, "snp_1")
    await eventually(lambda: bench.kept(back) == "asleep")


async def test_a_machine_that_is_off_is_kept_and_boots_from_what_was_kept(bench: Bench) -> None:
    desktop = await bench.made()
    await bench.tell(desktop, "while-on")
    with connected(bench.lab.first) as connection:
        the_domain(connection).destroy()
    await eventually(lambda: bench.engine.guests.get(desktop.id) is None)
    bench.heard.clear()
    await snapshot(bench, desktop, "snp_1")
    await bench.engine.resume(bench.case.operation("job_3", desktop))
    await bench.ready(desktop)
    await bench.tell(desktop, "later")
    back = bench.desktop(generation=2)
    await revert(bench, back, "snp_1")
    await eventually(lambda: bench.kept(back) == "while-on")


async def test_what_an_interrupted_call_left_in_libvirts_books_is_finished_or_removed(
    bench: Bench,
) -> None:
    desktop = await bench.made()
    with connected(bench.lab.first) as connection:
        for name in ("snp_1", "snp_lost"):
            book(the_domain(connection), name)
    assert booked(bench) == 2
    await snapshot(bench, desktop, "snp_1")
    assert (in_disk(bench), booked(bench)) == (["snp_1"], 0)
    back = bench.desktop(generation=2)
    await revert(bench, back, "snp_1")
    # a broker that died in the middle of a drop
    with connected(bench.lab.first) as connection:
        book(the_domain(connection), "snp_2")
    await bench.engine.drop_snapshot(bench.case.operation("job_drop", back), "snp_2")
    assert (in_disk(bench), booked(bench)) == (["snp_1"], 0)


async def test_a_machine_that_an_interrupted_call_left_standing_still_runs_on(
    bench: Bench,
) -> None:
    desktop = await bench.made()
    await bench.engine.suspend(bench.case.operation("job_2", desktop))
    with connected(bench.lab.first) as connection:
        the_domain(connection).createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
    await bench.engine.resume(bench.case.operation("job_3", desktop))
    await bench.ready(desktop)


async def test_a_machine_with_snapshots_in_the_books_moves_with_what_is_its_own(
    bench: Bench,
) -> None:
    desktop = await bench.made()
    await bench.tell(desktop, "before-the-move")
    await snapshot(bench, desktop, "snp_1")
    with connected(bench.lab.first) as connection:
        book(the_domain(connection), "snp_lost")
    await bench.engine.migrate(bench.case.operation("job_3", desktop), bench.case.other)
    await eventually(lambda: bench.state(desktop) is not None)
    await bench.tell(desktop, "after-the-move")
    back = bench.desktop(generation=2)
    there = replace(bench.case.operation("job_4", back), host=bench.case.other)
    bench.heard.clear()
    await bench.engine.revert(there, "snp_1")
    await bench.ready(back)
    await eventually(lambda: bench.kept(back) == "before-the-move")
    assert in_disk(bench) == ["snp_1"]


async def test_a_reverted_machine_is_no_drift_and_its_disk_stays_with_it(bench: Bench) -> None:
    desktop = await bench.made()
    await snapshot(bench, desktop, "snp_1")
    back = bench.desktop(generation=2)
    await revert(bench, back, "snp_1")
    assert await bench.engine.drift(bench.case.operation("job_3", back)) == ()
    with pytest.raises(EngineError):
        await bench.engine.revert(bench.case.operation("j", bench.desktop(generation=3)), "snp_9")
    assert bench.lab.first.machine_pids()
    await bench.engine.destroy(bench.case.operation("job_4", back))
    assert not list(bench.lab.first.guests.glob("dsk_*"))


async def test_a_disk_that_keeps_none_is_told_at_once(bench: Bench) -> None:
    desktop = await bench.made()
    with connected(bench.lab.first) as connection:
        domain = the_domain(connection)
        described = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        domain.destroy()
        connection.defineXML(described.replace("type='qcow2'", "type='raw'"))
    with pytest.raises(UnsupportedError):
        await snapshot(bench, desktop, "snp_1")


async def test_what_somebody_else_made_stays_and_keeps_the_machine_where_it_is(
    bench: Bench,
) -> None:
    desktop = await bench.made()
    with connected(bench.lab.first) as connection:
        book(the_domain(connection), "snp_0", ours=False)
    await snapshot(bench, desktop, "snp_1")
    assert (sorted(in_disk(bench)), booked(bench)) == (["snp_0-by-hand", "snp_1"], 1)
    with pytest.raises(UnsupportedError, match="did not make"):
        await bench.engine.migrate(bench.case.operation("job_3", desktop), bench.case.other)
    assert [one.host_id for one in await bench.engine.machines()] == [bench.case.host.id]
    await bench.engine.destroy(bench.case.operation("job_4", desktop))
    assert not list(bench.lab.first.guests.glob("dsk_*"))


async def test_what_is_left_of_a_moved_machine_goes_without_the_disk_it_was_reverted_on(
    bench: Bench,
) -> None:
    desktop = await bench.made()
    await bench.tell(desktop, "mine")
    await snapshot(bench, desktop, "snp_1")
    back = bench.desktop(generation=2)
    await revert(bench, back, "snp_1")
    with connected(bench.lab.first) as connection:
        described = the_domain(connection).XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        await bench.engine.migrate(bench.case.operation("job_3", back), bench.case.other)
        connection.defineXML(described)
    left = Machine(desktop_id="dsk_1", generation=2, running=False, host_id=bench.case.host.id)
    await bench.engine.discard(left)
    assert [path.name for path in bench.lab.first.guests.glob("dsk_*")] == ["dsk_1-g1.qcow2"]
    assert [one.host_id for one in await bench.engine.machines()] == [bench.case.other.id]


async def test_what_was_left_before_a_revert_goes_without_the_disk_of_the_machine_elsewhere(
    bench: Bench,
) -> None:
    desktop = await bench.made()
    await snapshot(bench, desktop, "snp_1")
    left = Machine(desktop_id="dsk_1", generation=1, running=False, host_id=bench.case.host.id)
    with connected(bench.lab.first) as connection:
        definition = the_domain(connection).XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        await bench.engine.migrate(bench.case.operation("job_3", desktop), bench.case.other)
        back = bench.desktop(generation=2)
        there = replace(bench.case.operation("job_4", back), host=bench.case.other)
        await bench.engine.revert(there, "snp_1")
        await bench.ready(back)
        for state in (HostState.DOWN, HostState.UP):
            connection.defineXML(definition)
            bench.engine.features(replace(bench.case.other, state=state))
            await bench.engine.discard(left)
            disks = [path.name for path in bench.lab.first.guests.glob("dsk_*")]
            assert (disks, connection.listAllDomains(0)) == (["dsk_1-g1.qcow2"], [])
    assert [one.host_id for one in await bench.engine.machines()] == [bench.case.other.id]


async def test_what_is_kept_of_a_snapshot_does_not_grow_with_those_before_it(bench: Bench) -> None:
    desktop = await bench.made()
    await snapshot(bench, desktop, "snp_1")
    first = described(bench)["snp_1"]
    for number in (2, 3):
        desktop = bench.desktop(generation=number)
        await revert(bench, desktop, f"snp_{number - 1}")
        await snapshot(bench, desktop, f"snp_{number}")
        text = described(bench)[f"snp_{number}"]
        assert "snp_1" not in text
        assert len(text) < len(first) + 500
    assert list(described(bench)) == ["snp_1", "snp_2", "snp_3"]


async def test_a_suspended_machine_sleeps_on_when_its_snapshot_fails(bench: Bench) -> None:
    desktop = await bench.made()
    await bench.tell(desktop, "asleep")
    await bench.engine.suspend(bench.case.operation("job_2", desktop))
    with pytest.raises(EngineError):
        await snapshot(bench, desktop, "snp_not/a/name")
    assert bench.lab.first.machine_pids() == {}
    assert [one.suspended for one in await bench.engine.machines()] == [True]
    await bench.engine.resume(bench.case.operation("job_3", desktop))
    await bench.ready(desktop)
    await eventually(lambda: bench.kept(desktop) == "asleep")


async def test_a_machine_that_its_host_stopped_is_not_put_to_sleep_under_its_person(
    bench: Bench,
) -> None:
    desktop = await bench.made()
    before = bench.lab.first.machine_pids()
    with connected(bench.lab.first) as connection:
        libvirt_qemu.qemuMonitorCommand(the_domain(connection), '{"execute": "stop"}', 0)
        await eventually(
            lambda: the_domain(connection).state()[0] == libvirt.VIR_DOMAIN_PAUSED, within_s=30
        )
        await snapshot(bench, desktop, "snp_1")
        assert the_domain(connection).state()[0] == libvirt.VIR_DOMAIN_PAUSED
    assert bench.lab.first.machine_pids() == before


async def test_a_revert_that_libvirt_refuses_leaves_the_machine_as_it_is(bench: Bench) -> None:
    desktop = await bench.made()
    await snapshot(bench, desktop, "snp_1")
    spoiled = metadata(bench).replace("&lt;state&gt;running", "&lt;state&gt;dancing")
    with connected(bench.lab.first) as connection:
        the_domain(connection).setMetadata(
            libvirt.VIR_DOMAIN_METADATA_ELEMENT, spoiled, "trivium-snapshots", SNAPSHOTS,
            libvirt.VIR_DOMAIN_AFFECT_CONFIG,
        )  # fmt: skip
    before = bench.lab.first.machine_pids()
    back = bench.desktop(generation=2)
    with pytest.raises(EngineError):
        await bench.engine.revert(bench.case.operation("job_3", back), "snp_1")
    assert bench.lab.first.machine_pids() == before
    await bench.engine.suspend(bench.case.operation("job_4", desktop))
    with pytest.raises(EngineError):
        await bench.engine.revert(bench.case.operation("job_5", back), "snp_1")
    assert [one.suspended for one in await bench.engine.machines()] == [True]
