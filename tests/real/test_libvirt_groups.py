"""Hosts of which nobody knows which control groups they have, and hosts that have others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import libvirt
import pytest

from broker.domain.settings import Share
from broker.engines.libvirt import groups, xml
from broker.engines.libvirt.cpu_shares import Groups
from broker.engines.libvirt.knobs import Place
from tests.real.test_libvirt_limits import SIZE, in_group, operation
from tests.support.libvirt_bench import Bench, on_bench
from tests.support.libvirt_host import LibvirtHost
from tests.support.libvirt_lab import LibvirtLab, connected

HALF = {"guarantee": Share(memory=0.5)}


@pytest.fixture
async def bench(libvirt_lab: LibvirtLab) -> AsyncIterator[Bench]:
    async with on_bench(libvirt_lab) as bench:
        yield bench


def pid_at(host: LibvirtHost) -> int:
    [pid] = host.machine_pids().values()
    return pid


async def test_a_host_that_tells_nothing_is_known_by_the_first_machine_that_it_runs(
    bench: Bench, libvirt_lab: LibvirtLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "groups_here", lambda: None)
    before = {one.name for one in (await bench.engine.abilities(bench.case.host)).cannot}
    assert "weights_cpus" in before
    desktop = bench.desktop(resources=SIZE)
    wanted = operation(bench, "job_1", desktop, **HALF)
    await bench.engine.create(wanted)
    await bench.ready(desktop)
    pid = pid_at(libvirt_lab.first)
    assert in_group(pid, "cpu", "cpu.shares") == 384
    assert in_group(pid, "memory", "memory.soft_limit_in_bytes") == 128 * 1024 * 1024
    assert await bench.engine.drift(wanted) == ()
    # whoever begins anew finds it written on the machine, whose shares say nothing by themselves
    async with on_bench(libvirt_lab) as again:
        after = {one.name for one in (await again.engine.abilities(again.case.host)).can}
        assert {"weights_cpus", "guarantee_memory"} <= after
        assert await again.engine.drift(wanted) == ()


async def test_a_machine_has_the_figures_of_the_host_that_it_moved_to(
    bench: Bench, libvirt_lab: LibvirtLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of(_self: Any, _connection: Any, place: Place) -> Groups:
        return Groups.V2 if str(libvirt_lab.second.socket) in place.uri else Groups.V1

    monkeypatch.setattr(groups.HostGroups, "of", of)
    desktop = bench.desktop(resources=SIZE)
    await bench.engine.create(operation(bench, "job_1", desktop, **HALF))
    await bench.ready(desktop)
    wanted = operation(bench, "job_2", desktop, **HALF)
    await bench.engine.migrate(wanted, bench.case.other)
    with connected(libvirt_lab.second) as connection:
        [domain] = connection.listAllDomains(0)
        # as it runs, and as it is to start; these hosts are one machine, and so are their groups
        for flag in (0, libvirt.VIR_DOMAIN_XML_INACTIVE):
            root = xml.parse(domain.XMLDesc(flag))
            assert root.findtext("cputune/shares") == "30"
            assert root.find("memtune/soft_limit") is None
    assert await bench.engine.drift(wanted) == ()
    await bench.engine.migrate(operation(bench, "job_3", desktop, **HALF), bench.case.host)
    assert in_group(pid_at(libvirt_lab.first), "cpu", "cpu.shares") == 384
