"""What the OpenStack engine does beyond the contract, over a real OpenStack."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from broker.domain.errors import EngineError, StaleGenerationError, UnsupportedError
from broker.domain.model import Resources
from broker.engines.openstack import servers as asked
from broker.engines.openstack.knobs import DISK_GB
from broker.ports import Operation
from tests.support.builders import make_desktop, make_host
from tests.support.engines import IMAGE, EngineCase, listening, said
from tests.support.eventually import eventually
from tests.support.openstack_cases import openstack_case, openstack_engine, profile
from tests.support.openstack_files import PASSWORD
from tests.support.openstack_lab import OpenStackLab

TENANTS: Final = Resources(cpus=1, memory_mib=512)


@pytest.fixture
def case(openstack_lab: OpenStackLab) -> EngineCase:
    return openstack_case(openstack_lab)


@pytest.fixture
def cloud(openstack_lab: OpenStackLab) -> Iterator[Any]:
    """As its administrator sees it."""
    with contextlib.closing(openstack_lab.cloud()) as connection:
        yield connection


def all_servers(cloud: Any) -> list[Any]:
    return list(cloud.compute.servers(details=True))


def one_more(cloud: Any, server: Any, **changes: Any) -> Any:
    """Another server of the same flavor and image, as the account itself could make it."""
    made = cloud.compute.create_server(
        name=server.name, image_id=server.image.id, networks="none",
        flavor_id=next(one.id for one in cloud.compute.flavors() if one.ram == server.flavor.ram),
        **changes,
    )  # fmt: skip
    return cloud.compute.wait_for_server(made, interval=0.2, wait=60)


async def test_what_others_made_is_neither_listed_nor_removed(
    case: EngineCase, openstack_lab: OpenStackLab, cloud: Any
) -> None:
    theirs = openstack_engine(openstack_lab, "ins_2")
    async with listening(engine := case.start()), listening(theirs):
        await theirs.create(case.operation("job_1", make_desktop(generation=9)))
        [server] = await asyncio.to_thread(all_servers, cloud)
        await asyncio.to_thread(one_more, cloud, server)
        assert engine.features(case.host)
        assert await engine.machines() == ()
        await engine.create(case.operation("job_2", make_desktop()))
        await engine.destroy(case.operation("job_3", make_desktop()))
        assert await engine.machines() == ()
        assert [one.generation for one in await theirs.machines()] == [9]
    assert len(await asyncio.to_thread(all_servers, cloud)) == 2


async def test_of_two_servers_of_one_desktop_one_is_listed_and_the_other_goes(
    case: EngineCase, cloud: Any
) -> None:
    """As after a creation whose answer was lost."""
    async with listening(engine := case.start()) as heard:
        await engine.create(case.operation("job_1", make_desktop()))
        await eventually(lambda: heard)
        [server] = await asyncio.to_thread(all_servers, cloud)
        tags = list(server.tags)
        await asyncio.to_thread(one_more, cloud, server, tags=tags, metadata=server.metadata)
        assert len(await engine.machines()) == 1
        await engine.reset(case.operation("job_2", make_desktop(generation=2)))
        assert [one.id for one in await asyncio.to_thread(all_servers, cloud)] == [server.id]
        await asyncio.to_thread(one_more, cloud, server, tags=tags, metadata=server.metadata)
        await engine.destroy(case.operation("job_3", make_desktop(generation=2)))
        assert await asyncio.to_thread(all_servers, cloud) == []


async def test_machines_of_all_pages_are_listed(
    case: EngineCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asked, "OPENSTACK_PAGE", 1)
    async with listening(engine := case.start()):
        for number in range(3):
            desktop = make_desktop(id=f"dsk_{number}")
            await engine.create(case.operation(f"job_{number}", desktop))
        listed = [one.desktop_id for one in await engine.machines()]
        assert listed == ["dsk_0", "dsk_1", "dsk_2"]
        monkeypatch.setattr(asked, "OPENSTACK_SERVERS_MAX", 2)  # of three, so not all are told
        with pytest.raises(EngineError):
            await engine.machines()


async def test_a_machine_that_stops_by_itself_is_told_of_and_started_again_as_it_is(
    case: EngineCase, cloud: Any
) -> None:
    async with listening(engine := case.start()) as heard:
        await engine.create(case.operation("job_1", make_desktop()))
        await eventually(lambda: heard)
        [server] = await asyncio.to_thread(all_servers, cloud)
        await asyncio.to_thread(cloud.compute.stop_server, server)
        await eventually(lambda: len(heard) == 2)
        assert said(heard) == [("dsk_1", 1, True), ("dsk_1", 1, False)]
        assert [one.running for one in await engine.machines()] == [False]
        await engine.resume(case.operation("job_2", make_desktop()))
        await eventually(lambda: len(heard) == 3)
        assert heard[2].ready
        assert [one.id for one in await asyncio.to_thread(all_servers, cloud)] == [server.id]


async def test_a_machine_that_went_is_told_of(case: EngineCase, cloud: Any) -> None:
    async with listening(engine := case.start()) as heard:
        await engine.create(case.operation("job_1", make_desktop()))
        await eventually(lambda: heard)
        [server] = await asyncio.to_thread(all_servers, cloud)
        await asyncio.to_thread(cloud.compute.delete_server, server)
        await eventually(lambda: len(heard) == 2)
        assert not heard[1].ready


async def test_a_resume_that_restarts_switches_the_machine_off_first_and_once(
    case: EngineCase, cloud: Any
) -> None:
    async with listening(engine := case.start()) as heard:
        await engine.create(case.operation("job_1", make_desktop()))
        await eventually(lambda: heard)
        restart = replace(case.operation("job_2", make_desktop()), restart=True)
        await engine.resume(restart)
        await eventually(lambda: len(heard) == 2)
    async with listening(engine := case.start()) as heard:
        await engine.resume(restart)
        await eventually(lambda: heard)
    [server] = await asyncio.to_thread(all_servers, cloud)
    done = [one.action for one in cloud.compute.server_actions(server)]
    assert done.count("reboot") == 1


async def test_a_reset_rebuilds_where_it_can_and_makes_anew_where_the_size_has_changed(
    case: EngineCase, cloud: Any
) -> None:
    async with listening(engine := case.start()) as heard:
        await engine.create(case.operation("job_1", make_desktop()))
        await eventually(lambda: heard)
        [first] = await asyncio.to_thread(all_servers, cloud)
        await engine.reset(case.operation("job_2", make_desktop(generation=2)))
        await eventually(lambda: len(heard) == 2)
        assert [one.id for one in await asyncio.to_thread(all_servers, cloud)] == [first.id]
        larger = make_desktop(generation=3, resources=Resources(cpus=1.5, memory_mib=1024))
        await engine.reset(case.operation("job_3", larger))
        await eventually(lambda: len(heard) == 3)
        [other] = await asyncio.to_thread(all_servers, cloud)
        assert other.id != first.id
        assert (other.flavor.vcpus, other.flavor.ram) == (2, 1024)


async def test_a_machine_that_nova_moved_is_listed_where_it_is(
    case: EngineCase, cloud: Any
) -> None:
    async with listening(engine := case.start()) as heard:
        engine.features(case.other)
        await engine.create(case.operation("job_1", make_desktop()))
        await eventually(lambda: heard)
        [server] = await asyncio.to_thread(all_servers, cloud)
        cloud.compute.live_migrate_server(server, host="compute-2", block_migration="auto")
        async with asyncio.timeout(60):
            while [one.host_id for one in await engine.machines()] != ["hst_2"]:
                await asyncio.sleep(0.2)


@pytest.mark.parametrize(
    ("knobs", "said_of_it"),
    [
        ({"compute": "compute-9"}, "could not do what was asked"),
        ({"zone": "nowhere"}, "could not do what was asked"),
        ({"network": "nowhere"}, "0 networks called nowhere"),
    ],
)
async def test_a_place_that_the_cloud_does_not_have_fails_the_creation(
    case: EngineCase, knobs: dict[str, str], said_of_it: str
) -> None:
    host = make_host(engine="openstack", profile=profile(**knobs))
    async with listening(engine := case.start()):
        with pytest.raises(EngineError, match=said_of_it):
            await engine.create(replace(case.operation("job_1", make_desktop()), host=host))
        assert await engine.machines() == ()


async def test_an_image_that_the_cloud_does_not_have_is_named(case: EngineCase) -> None:
    async with listening(engine := case.start()):
        operation = case.operation("job_1", make_desktop())
        with pytest.raises(EngineError, match="0 images called school-v2"):
            await engine.create(replace(operation, image=replace(IMAGE, version=2)))


async def test_a_machine_beyond_the_accounts_quota_is_refused_in_plain_words(
    case: EngineCase,
) -> None:
    huge = make_desktop(resources=Resources(cpus=2, memory_mib=4_000_000))
    async with listening(engine := case.start()):
        with pytest.raises(EngineError, match="a quota is used up"):
            await engine.create(case.operation("job_1", huge))
        assert await engine.machines() == ()


async def test_a_machine_that_no_host_takes_fails_and_is_asked_for_again(
    case: EngineCase, cloud: Any
) -> None:
    anywhere = make_host(engine="openstack", profile=profile())
    huge = make_desktop(resources=Resources(cpus=2, memory_mib=20_000))
    async with listening(engine := case.start()) as heard:
        failing = replace(case.operation("job_1", huge), host=anywhere)
        for _ in range(2):
            with pytest.raises(EngineError, match="could not start"):
                await engine.create(failing)
        assert [one.running for one in await engine.machines()] == [False]
        assert len(await asyncio.to_thread(all_servers, cloud)) == 1
        await engine.create(replace(failing, id="job_2", desktop=make_desktop(generation=2)))
        await eventually(lambda: heard)
        assert said(heard) == [("dsk_1", 2, True)]


@pytest.fixture
def tenant(openstack_lab: OpenStackLab, cloud: Any, tmp_path: Path) -> Path:
    """A clouds.yaml that knows an account, too, that administers nothing."""
    project = cloud.identity.find_project("tenant") or cloud.identity.create_project(name="tenant")
    user = cloud.identity.find_user("tenant") or cloud.identity.create_user(
        name="tenant", password=PASSWORD, default_project_id=project.id
    )
    cloud.identity.assign_project_role_to_user(project, user, cloud.identity.find_role("member"))
    for flavor in cloud.compute.flavors():
        if flavor.ram == TENANTS.memory_mib:
            cloud.compute.delete_flavor(flavor)
    clouds = tmp_path / "clouds.yaml"
    clouds.touch(mode=0o600)
    text = openstack_lab.clouds.read_text("utf-8")
    own = text.removeprefix("clouds:\n").replace("lab:", "tenant:").replace(": admin", ": tenant")
    clouds.write_text(text + own, "utf-8")
    return clouds


async def test_an_account_that_administers_nothing_makes_desktops_of_flavors_that_are_there(
    case: EngineCase, tenant: Path, openstack_lab: OpenStackLab, cloud: Any
) -> None:
    host = make_host(engine="openstack", profile=profile(cloud="tenant"))
    engine = openstack_engine(openstack_lab, clouds=tenant)
    desktop = make_desktop(resources=TENANTS)

    def operation(number: int, generation: int = 1) -> Operation:
        asked = case.operation(f"job_{number}", replace(desktop, generation=generation))
        return replace(asked, host=host)

    async with listening(engine) as heard:
        with pytest.raises(EngineError, match="no flavor of 1 CPUs, 512 MiB"):
            await engine.create(operation(1))
        await asyncio.to_thread(
            cloud.compute.create_flavor, name="small", vcpus=1, ram=TENANTS.memory_mib, disk=DISK_GB
        )
        await engine.create(operation(1))
        await eventually(lambda: len(heard) == 1)
        await engine.suspend(operation(2))
        await engine.resume(operation(3))
        await eventually(lambda: len(heard) == 2)
        await engine.reset(operation(4, generation=2))
        await eventually(lambda: len(heard) == 3)
        [machine] = await engine.machines()
        assert (machine.generation, machine.host_id) == (2, "hst_1")
        no_disk = make_host(engine="openstack", profile=profile(cloud="tenant", disk="0"))
        with pytest.raises(EngineError, match="no flavor"):
            await engine.create(
                replace(operation(7), host=no_disk, desktop=replace(desktop, id="dsk_2"))
            )
        with pytest.raises(UnsupportedError):
            await engine.migrate(operation(5, generation=2), case.other)
        await engine.destroy(operation(6, generation=2))
        assert await engine.machines() == ()


async def test_a_machine_in_another_cloud_than_its_host_is_found_and_made_anew_at_home(
    case: EngineCase, tenant: Path, openstack_lab: OpenStackLab, cloud: Any
) -> None:
    """As after a host's place was changed."""
    await asyncio.to_thread(
        cloud.compute.create_flavor, name="small", vcpus=1, ram=TENANTS.memory_mib, disk=DISK_GB
    )
    desktop = make_desktop(resources=TENANTS)
    there = make_host(id="hst_9", engine="openstack", profile=profile(cloud="tenant"))
    async with listening(engine := openstack_engine(openstack_lab, clouds=tenant)) as heard:
        await engine.create(replace(case.operation("job_1", desktop), host=there))
        await eventually(lambda: heard)
        assert [one.host_id for one in await engine.machines()] == ["hst_9"]
        with pytest.raises(StaleGenerationError):
            await engine.destroy(case.operation("job_2", replace(desktop, generation=0)))
        await engine.reset(case.operation("job_3", replace(desktop, generation=2)))
        await eventually(lambda: len(heard) == 2)
        [machine] = await engine.machines()
        assert (machine.host_id, machine.generation) == ("hst_1", 2)
