"""A real host says how it is at this moment."""

from __future__ import annotations

from broker.engines.libvirt.condition import KSM, seen_here
from tests.support.libvirt_bench import on_bench
from tests.support.libvirt_lab import LibvirtLab


async def test_a_host_on_this_machine_tells_all_of_it(libvirt_lab: LibvirtLab) -> None:
    async with on_bench(libvirt_lab) as bench:
        found = await bench.engine.condition(bench.case.host)
    assert found.memory_mib is not None
    assert found.memory_free_mib is not None
    assert 0 < found.memory_free_mib <= found.memory_mib
    assert found.disk_total is not None
    assert found.disk_free is not None
    assert 0 < found.disk_free <= found.disk_total
    assert (found.pressure is None) is (seen_here().pressure is None)
    assert found.page_sharing is not None
    assert found.page_sharing.on is ((KSM / "run").read_text().strip() == "1")
    missing = {"pressure"} if found.pressure is None else set()
    assert found.unknown.keys() == missing
