"""What is told of places in a real OpenStack, and of servers that somebody else changed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from broker.domain.drift import Difference
from broker.domain.errors import EngineError, StaleGenerationError
from broker.domain.inspection import Abilities, Step, Verdict
from broker.domain.model import Resources
from broker.engines.openstack.servers import desktop_tag
from broker.ports import DriftInspector, HostInspector, HostWatcher
from tests.support.builders import make_desktop, make_host
from tests.support.engines import EngineCase, listening
from tests.support.eventually import eventually
from tests.support.openstack_cases import INSTALLATION, openstack_case, openstack_engine, profile
from tests.support.openstack_files import PASSWORD, REGION
from tests.support.openstack_lab import OpenStackLab

DESKTOP = make_desktop()
MEDIUM = (10, 8192, 1028)
"""CPUs, MiB and GiB of each of the lab's computes, as Nova's fake driver has them"""
_GIB = 1 << 30


@pytest.fixture
def case(openstack_lab: OpenStackLab) -> EngineCase:
    return openstack_case(openstack_lab)


@pytest.fixture
def cloud(openstack_lab: OpenStackLab) -> Iterator[Any]:
    """As its administrator sees it."""
    with contextlib.closing(openstack_lab.cloud()) as connection:
        yield connection


@pytest.fixture
def member(openstack_lab: OpenStackLab, cloud: Any, tmp_path: Path) -> Path:
    """A clouds.yaml that knows as "tenant" an account that administers nothing, as "wrong" one
    whose password is, one "away", and "moon" in a region that nobody serves."""
    project = cloud.identity.find_project("tenant") or cloud.identity.create_project(name="tenant")
    user = cloud.identity.find_user("tenant") or cloud.identity.create_user(
        name="tenant", password=PASSWORD, default_project_id=project.id
    )
    cloud.identity.assign_project_role_to_user(project, user, cloud.identity.find_role("member"))
    text = openstack_lab.clouds.read_text("utf-8").removeprefix("clouds:\n")
    own = text.replace("lab:", "tenant:").replace(": admin", ": tenant")
    wrong = text.replace("lab:", "wrong:").replace(f"password: {PASSWORD}", "password: other")
    away = text.replace("lab:", "away:").replace(openstack_lab.site.auth_url, "http://127.0.0.1:9")
    moon = text.replace("lab:", "moon:").replace(f"region_name: {REGION}", "region_name: moon")
    clouds = tmp_path / "clouds.yaml"
    clouds.touch(mode=0o600)
    clouds.write_text(f"clouds:\n{text}{own}{wrong}{away}{moon}", "utf-8")
    return clouds


def of(told: Abilities) -> dict[str, str]:
    return dict(told.facts)


def no(told: Abilities) -> dict[str, str]:
    return {one.name: one.says for one in told.cannot}


async def looked(engine: HostInspector, profile_: str) -> dict[str, Step]:
    host = make_host(id="hst_new", engine="openstack", profile=profile_)
    return {one.name: one async for one in engine.probe(host)}


# ----------------------------------------------------------------------------- places


async def test_a_compute_host_is_told_as_nova_counts_it(case: EngineCase, cloud: Any) -> None:
    async with listening(engine := case.start()) as heard:
        assert isinstance(engine, HostInspector)
        assert isinstance(engine, HostWatcher)
        empty = await engine.condition(case.host)
        assert empty.memory_mib == empty.memory_free_mib == MEDIUM[1]
        assert empty.disk_total == empty.disk_free == MEDIUM[2] * _GIB
        assert set(empty.unknown) == {"pressure", "page_sharing"}
        await engine.create(case.operation("job_1", DESKTOP))
        await eventually(lambda: heard)
        facts = of(await engine.abilities(case.host))
        assert facts["compute hosts"] == "compute-1: up, enabled"
        assert facts["hypervisor"].startswith("fake ")
        cpus, memory_mib, disk = MEDIUM
        assert facts["CPUs"].startswith(f"{cpus}, ")
        assert facts["memory"].startswith(f"{memory_mib:,} MiB, ")
        assert facts["disks"].startswith(f"{disk:,} GiB, ")
        assert facts["the account's quota"].endswith(" of 10 machines")
        both = await engine.condition(replace(case.host, id="hst_9", profile=profile()))
        assert both.memory_mib == 2 * memory_mib


async def test_a_compute_host_that_takes_nothing_is_told_with_its_reason(
    case: EngineCase, cloud: Any
) -> None:
    [service] = [one for one in cloud.compute.services() if one.host == "compute-2"]
    async with listening(engine := case.start()):
        assert isinstance(engine, HostInspector)
        try:
            cloud.compute.disable_service(service, disabled_reason="new memory")
            told = no(await engine.abilities(case.other))["desktops"]
            assert told == "Nova makes nothing there (compute-2: up, disabled (new memory))"
            assert "desktops" not in no(await engine.abilities(case.host))
            steps = await looked(engine, case.other.profile)
            assert steps["place"].verdict is Verdict.MISSING
            cloud.compute.enable_service(service)
            cloud.compute.update_service_forced_down(service, forced=True)
            told = no(await engine.abilities(case.other))["desktops"]
            assert "compute-2: forced down, enabled" in told
        finally:
            cloud.compute.enable_service(service)
            cloud.compute.update_service_forced_down(service, forced=False)


async def test_a_place_that_the_cloud_does_not_have_is_told(
    case: EngineCase,
) -> None:
    async with listening(engine := case.start()):
        assert isinstance(engine, HostInspector)
        for knobs, name in (({"host": "compute-9"}, "compute-9"), ({"zone": "moon"}, "moon")):
            where = f"nova?cloud=lab&{'&'.join(f'{key}={value}' for key, value in knobs.items())}"
            told = no(await engine.abilities(make_host(id=name, profile=where)))
            assert name in told["desktops"]
            step = (await looked(engine, where))["place"]
            assert step.verdict is Verdict.MISSING
            assert name in step.says
        steps = await looked(engine, "nova?cloud=lab&network=nowhere")
        assert steps["network"].verdict is Verdict.MISSING
        steps = await looked(engine, "nova?cloud=lab&region=nowhere")
        assert "no cloud lab with a region nowhere" in steps["sign_in"].says


async def test_a_region_without_a_compute_service_is_told(
    member: Path, openstack_lab: OpenStackLab
) -> None:
    engine = openstack_engine(openstack_lab, clouds=member)
    steps = await looked(engine, profile(cloud="moon"))
    assert steps["sign_in"].verdict is Verdict.OK
    assert steps["compute"].verdict is Verdict.MISSING
    assert steps["agent"].verdict is Verdict.UNKNOWN
    await engine.close()


async def test_a_new_place_is_told_with_what_it_has(case: EngineCase) -> None:
    async with listening(engine := case.start()):
        assert isinstance(engine, HostInspector)
        steps = await looked(engine, case.host.profile)
        assert {one.verdict for one in steps.values()} == {Verdict.OK, Verdict.UNKNOWN}
        assert [name for name, one in steps.items() if one.verdict is Verdict.UNKNOWN] == [
            "display"
        ]
        assert steps["room"].found == {"cpus": str(MEDIUM[0]), "memory_mib": str(MEDIUM[1])}


async def test_what_an_account_may_not_look_at_is_not_known(
    member: Path, openstack_lab: OpenStackLab
) -> None:
    async with listening(engine := openstack_engine(openstack_lab, clouds=member)):
        host = make_host(engine="openstack", profile=profile(cloud="tenant"))
        told = await engine.abilities(host)
        assert of(told)["compute hosts"].startswith("not known: ")
        assert not {"CPUs", "memory", "disks", "hypervisor"} & set(of(told))
        assert "desktops" in {one.name for one in told.can}
        found = await engine.condition(host)
        assert (found.memory_mib, found.disk_free) == (None, None)
        assert {"memory", "disk"} < set(found.unknown)
        steps = await looked(engine, profile("compute-1", cloud="tenant"))
        assert steps["place"].verdict is Verdict.UNKNOWN
        assert steps["room"].found == {"cpus": "20", "memory_mib": "51200"}, "its quota"


@pytest.mark.parametrize(
    ("cloud_name", "said"),
    [("wrong", "did not let"), ("away", "not reached"), ("nowhere", "has no cloud nowhere")],
)
async def test_a_cloud_that_does_not_let_the_broker_in_ends_the_look(
    member: Path, openstack_lab: OpenStackLab, cloud_name: str, said: str
) -> None:
    engine = openstack_engine(openstack_lab, clouds=member)
    steps = await looked(engine, profile(cloud=cloud_name))
    assert steps["sign_in"].verdict is Verdict.MISSING
    assert said in steps["sign_in"].says
    assert steps["sign_in"].advice
    rest = list(steps.values())[2:]
    assert {one.verdict for one in rest} == {Verdict.UNKNOWN}
    await engine.close()


# ------------------------------------------------------------------------------ drift


async def drifted(engine: object, case: EngineCase, **changes: Any) -> dict[str, Difference]:
    assert isinstance(engine, DriftInspector)
    operation = replace(case.operation("job_drift", DESKTOP), **changes)
    return {one.what: one for one in await engine.drift(operation)}


async def test_a_machine_that_is_as_it_was_made_does_not_differ(case: EngineCase) -> None:
    async with listening(engine := case.start()) as heard:
        with pytest.raises(EngineError, match="no machine"):
            await drifted(engine, case)
        await engine.create(case.operation("job_1", DESKTOP))
        await eventually(lambda: heard)
        assert await drifted(engine, case) == {}
        await engine.reset(case.operation("job_2", make_desktop(generation=2)))
        await eventually(lambda: len(heard) == 2)
        assert await drifted(engine, case, desktop=make_desktop(generation=2)) == {}
        assert await drifted(engine, case, desktop=make_desktop(generation=3)) == {}
        with pytest.raises(StaleGenerationError):
            await drifted(engine, case)


async def test_what_somebody_else_changed_at_the_cloud_is_told(
    case: EngineCase, cloud: Any
) -> None:
    async with listening(engine := case.start()) as heard:
        await engine.create(case.operation("job_1", DESKTOP))
        await eventually(lambda: heard)
        [server] = cloud.compute.servers()
        await asyncio.to_thread(cloud.compute.update_server, server, name="mine")
        await asyncio.to_thread(cloud.compute.lock_server, server)
        await asyncio.to_thread(
            cloud.compute.delete_server_metadata, server, ["trivium_generation"]
        )
        await asyncio.to_thread(cloud.compute.pause_server, server)
        await eventually(lambda: cloud.compute.get_server(server.id).status == "PAUSED")
        found = await drifted(engine, case)
        assert {what: (one.found, one.wanted) for what, one in found.items()} == {
            "name": ("mine", "trivium-dsk_1"),
            "locked": ("by somebody", ""),
            "metadata trivium_generation": ("", "1"),
            "state": ("paused", "active"),
        }
        cloud.compute.unlock_server(server)


async def test_size_image_and_tags_are_held_against_what_the_broker_wants(
    case: EngineCase, cloud: Any
) -> None:
    async with listening(engine := case.start()) as heard:
        await engine.create(case.operation("job_1", DESKTOP))
        await eventually(lambda: heard)
        larger = replace(DESKTOP, resources=Resources(cpus=4, memory_mib=1024))
        assert set(await drifted(engine, case, desktop=larger)) == {"CPUs", "memory"}
        [server] = cloud.compute.servers()
        [image] = [one for one in cloud.image.images() if one.name == "school-v1"]
        other = cloud.image.create_image(
            name="other", container_format="bare", disk_format="raw", data=bytes(65_536),
            validate_checksum=False, wait=True, timeout=60,
        )  # fmt: skip
        try:
            await asyncio.to_thread(cloud.compute.rebuild_server, server, image=other.id)
            await eventually(lambda: cloud.compute.get_server(server.id).status == "ACTIVE")
            cloud.compute.remove_tag_from_server(server, desktop_tag(INSTALLATION, DESKTOP.id))
            found = await drifted(engine, case)
            assert set(found) == {"image", "tags"}
            assert (found["image"].found, found["image"].wanted) == (other.id, "school-v1")
            assert image.id != other.id
        finally:
            cloud.image.delete_image(other)


async def test_a_machine_in_error_is_told(case: EngineCase, cloud: Any) -> None:
    async with listening(engine := case.start()) as heard:
        await engine.create(case.operation("job_1", DESKTOP))
        await eventually(lambda: heard)
        [server] = cloud.compute.servers()
        await asyncio.to_thread(cloud.compute.reset_server_state, server, "error")
        found = await drifted(engine, case)
        assert {what: one.found for what, one in found.items()} == {"state": "error"}
