"""A host over SSH is switched off by its own command and on by the packet for its network card."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from broker.domain.errors import EngineError
from broker.domain.features import Feature
from broker.domain.model import Host
from broker.engines.reach.commands import Command
from broker.engines.reach.ssh import broker_key, public_line
from tests.real.test_host_reach import looked, over_ssh
from tests.support.builders import make_desktop
from tests.support.engines import listening, said
from tests.support.eventually import eventually
from tests.support.far_power import PoweredHost, powered
from tests.support.libvirt_bench import SMALL
from tests.support.libvirt_cases import libvirt_engine, libvirt_qemu_case
from tests.support.libvirt_lab import LibvirtLab
from tests.support.real_school import GENEROUS_S, TINY, RealSchool, real_school
from tests.support.rfb import display_of
from tests.support.ssh_hosts import far_host

pytestmark = pytest.mark.timeout(2 * GENEROUS_S)
SHARED = {"storage": "shared", "moves": "tcp://127.0.0.1", "off": "sudo"}
DEADLINE_S = 100.0


@pytest.fixture
def data() -> Iterator[Path]:
    """A data directory of a short path: sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="tvd-") as folder:
        yield Path(folder)


@pytest.fixture
async def far(libvirt_lab: LibvirtLab, tmp_path: Path) -> AsyncIterator[PoweredHost]:
    async with (
        far_host(tmp_path) as far,
        powered(far, libvirt_lab.first, tmp_path / "door") as one,
    ):
        yield one


def switchable(one: PoweredHost, lab: LibvirtLab) -> Host:
    return over_ssh(one.far, lab, **SHARED, wake=one.wake)


async def test_a_host_goes_off_only_while_no_machine_runs_there_and_comes_on_again(
    libvirt_lab: LibvirtLab, far: PoweredHost, data: Path
) -> None:
    far.far.let_in(public_line(broker_key(data)))
    engine, host = libvirt_engine(data), switchable(far, libvirt_lab)
    case = replace(libvirt_qemu_case(libvirt_lab), host=host)
    assert Feature.HOST_POWER in engine.features(host)
    step = (await looked(engine, host))["power"]
    assert (step.verdict, "sudo -n systemctl poweroff" in step.says) == ("ok", True)
    desktop = make_desktop(resources=SMALL)
    async with listening(engine) as heard:
        await engine.create(case.operation("job_1", desktop))
        await eventually(lambda: said(heard) == [("dsk_1", 1, True)], within_s=100)
        with pytest.raises(EngineError, match="1 machines run"):
            await engine.power("job_2", host, on=False, deadline_s=DEADLINE_S)
        assert far.on
        told = await engine.condition(host)
        assert told.page_sharing is not None
        assert told.page_sharing.on is not None
        await engine.destroy(case.operation("job_3", desktop))
        for _ in range(2):
            await engine.power("job_4", host, on=False, deadline_s=DEADLINE_S)
            assert not far.on
        assert not libvirt_lab.first.answers()
        assert far.packets == []
        for _ in range(2):
            await engine.power("job_5", host, on=True, deadline_s=DEADLINE_S)
        assert libvirt_lab.first.answers()
        await engine.create(case.operation("job_6", make_desktop(resources=SMALL)))
        await eventually(lambda: len(said(heard)) == 2, within_s=100)
        await engine.destroy(case.operation("job_7", desktop))
    assert far.far.told.count(Command.SUDO_POWEROFF.value) == 1


async def test_a_host_that_does_not_let_itself_be_switched_off_says_so_and_stays(
    libvirt_lab: LibvirtLab, far: PoweredHost, data: Path
) -> None:
    far.far.let_in(public_line(broker_key(data)))
    far.far.obeys = None
    engine, host = libvirt_engine(data), switchable(far, libvirt_lab)
    assert (await looked(engine, host))["power"].verdict == "missing"
    async with listening(engine):
        with pytest.raises(EngineError, match="refuses to go off"):
            await engine.power("job_1", host, on=False, deadline_s=DEADLINE_S)
        assert far.on
        told = await engine.condition(host)
        assert told.pressure is None
        assert "run nothing" in told.unknown["pressure"]


async def host_of(school: RealSchool, name: str) -> dict[str, object]:
    page = await school.ok("GET", "/hosts?limit=100")
    return next(one for one in page["items"] if one["name"] == name)


async def test_a_host_is_emptied_switched_off_and_on_again_by_its_administrator(
    libvirt_lab: LibvirtLab, far: PoweredHost, data: Path
) -> None:
    far.far.let_in(public_line(broker_key(data)))
    lab = libvirt_lab
    async with real_school(lab, data, hosts=(lab.second,), image=TINY) as school:
        ann = await school.sign_in("ann")
        given = await school.connect(ann)
        desktop_id = given["session"]["desktop"]["id"]
        async with display_of(school.app, ann, given) as display:
            await display.look()
        profile = over_ssh(far.far, lab, **SHARED, wake=far.wake, clone="instant").profile
        body = {
            "name": "far", "engine": "libvirt", "profile": profile, "cpus": 4,
            "memory_mib": 1024, "overcommit_cpu": 1, "start_limit": 2,
        }  # fmt: skip
        await school.ok("POST", "/hosts", body=body)

        async def at(name: str) -> None:
            async def there() -> bool:
                found = await school.desktop(desktop_id)
                assert found["state"] == "assigned"
                return bool(found["host"]["name"] == name)

            await school.until(there, f"desktop at {name}")

        async def state(name: str, wanted: str) -> None:
            async def so() -> bool:
                return (await host_of(school, name))["state"] == wanted

            await school.until(so, f"{name} that is {wanted}")

        other = lab.second.name
        await school.ok("PATCH", f"/hosts/{other}", body={"state": "maintenance"})
        await at("far")
        refused = await school.app.call("POST", "/hosts/far/power", school.boss, body={"on": False})
        assert (refused.status, "machines run on far" in refused.json["detail"]) == (409, True)
        await school.ok("PATCH", f"/hosts/{other}", body={"state": "up"})
        await school.ok("PATCH", "/hosts/far", body={"state": "maintenance"})
        await at(other)
        await school.ok("POST", "/hosts/far/power", body={"on": False})
        await state("far", "off")
        assert (far.on, far.packets) == (False, [])
        await school.ok("POST", "/hosts/far/power", body={"on": True})
        await state("far", "up")
        assert far.on
        assert far.packets
        # it serves again
        await school.ok("PATCH", f"/hosts/{other}", body={"state": "maintenance"})
        await at("far")
