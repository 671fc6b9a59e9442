"""What the OpenStack engine makes of clouds that fail halfway, or are set up otherwise."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from broker.domain.errors import EngineError, StaleGenerationError
from broker.domain.model import Host
from broker.engines.openstack import OpenStackEngine, verbs, watch
from broker.engines.openstack import engine as engine_module
from broker.engines.openstack.clouds import Cloud
from broker.engines.openstack.servers import Servers, installation_tag
from broker.ports import Operation, PartialListError
from broker.system import SystemChance, SystemClock
from tests.support.builders import make_desktop, make_host
from tests.support.engines import IMAGE, listening, said
from tests.support.eventually import eventually
from tests.support.guest_links import Links
from tests.support.pretend_nova import PretendNova


@dataclass
class Site:
    """Two clouds, a host in each, and an engine over them."""

    engine: OpenStackEngine
    clouds: Mapping[str, PretendNova]
    links: Links
    hosts: list[Host] = field(default_factory=list)

    @property
    def nova(self) -> PretendNova:
        return self.clouds["one"]

    def operation(
        self, number: int, generation: int = 1, at: int = 0, desktop_id: str = "dsk_1"
    ) -> Operation:
        desktop = make_desktop(id=desktop_id, generation=generation, host_id=self.hosts[at].id)
        return Operation(
            id=f"job_{number}", desktop=desktop, host=self.hosts[at], image=IMAGE, deadline_s=5
        )

    def linked(self, operation: Operation) -> Operation:
        """At a host whose desktops' agents link up."""
        profile = operation.host.profile.replace("agent=none", "agent=websocket")
        return replace(operation, host=replace(operation.host, profile=profile))


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Site:
    clouds = {"one": PretendNova(), "two": PretendNova()}
    monkeypatch.setattr(Cloud, "_connect", lambda self: clouds[self.name])
    for module in (verbs, watch):
        monkeypatch.setattr(module, "OPENSTACK_POLL_S", 0.01)
    monkeypatch.setattr(watch, "OPENSTACK_SURVEY_S", 0.02)
    links = Links()
    engine = OpenStackEngine(
        clock=SystemClock(), chance=SystemChance(1), installation_id="ins_1",
        clouds=tmp_path / "clouds.yaml", guest_links=links,
    )  # fmt: skip
    hosts = [
        make_host(id=f"hst_{cloud}", engine="openstack", profile=f"nova?cloud={cloud}&agent=none")
        for cloud in clouds
    ]
    for host in hosts:
        engine.features(host)
    return Site(engine, clouds, links, hosts)


# ---------------------------------------------------------------- rebuilds that fail


async def test_a_rebuild_that_nova_gave_up_early_is_no_fresh_machine(site: Site) -> None:
    """Image and metadata are the new ones; what runs is the machine of whoever had it before."""
    async with listening(site.engine) as heard:
        await site.engine.create(site.operation(1))
        await eventually(lambda: heard)
        [before] = site.nova.kept
        site.nova.rebuilds_fail = True
        await site.engine.reset(site.operation(2, generation=2))
        await eventually(lambda: len(heard) == 2)
        assert said(heard)[1] == ("dsk_1", 2, False)
        assert [one.running for one in await site.engine.machines()] == [False]
        with pytest.raises(EngineError, match="does not run"):
            await site.engine.console(site.operation(3, generation=2).desktop)
        await asyncio.sleep(0.1)
        assert len(heard) == 2, "later looks do not find it ready either"
        assert [*site.nova.kept] == [before]


@pytest.mark.parametrize("job", [2, 3])
@pytest.mark.parametrize("status", ["ACTIVE", "SUSPENDED", "SHUTOFF"])
@pytest.mark.parametrize("verb", ["create", "reset"])
async def test_a_machine_that_was_not_rebuilt_is_made_anew(
    site: Site, verb: str, status: str, job: int
) -> None:
    """Whatever became of it since; by the operation that failed, repeated, and by another."""
    async with listening(site.engine) as heard:
        await site.engine.create(site.operation(1))
        await eventually(lambda: heard)
        [before] = site.nova.kept
        site.nova.rebuilds_fail = True
        await site.engine.reset(site.operation(2, generation=2))
        await eventually(lambda: len(heard) == 2)
        site.nova.kept[before].status = status
        await getattr(site.engine, verb)(site.operation(job, generation=2))
        assert before not in site.nova.kept
        await eventually(lambda: len(heard) == 3)
        assert said(heard)[2] == ("dsk_1", 2, True)


async def test_a_machine_that_was_not_rebuilt_is_not_resumed(site: Site) -> None:
    async with listening(site.engine) as heard:
        await site.engine.create(site.operation(1))
        await eventually(lambda: heard)
        site.nova.rebuilds_fail = True
        await site.engine.reset(site.operation(2, generation=2))
        [server] = site.nova.kept.values()
        server.status = "SUSPENDED"
        with pytest.raises(EngineError, match="was not made fresh"):
            await site.engine.resume(site.operation(3, generation=2))
        assert server.status == "SUSPENDED"


async def test_the_agent_of_a_machine_that_was_not_rebuilt_is_not_listened_to(site: Site) -> None:
    """It has the new ticket: it reads it from its server's metadata."""
    async with listening(site.engine) as heard:
        await site.engine.create(site.linked(site.operation(1)))
        await eventually(lambda: ("dsk_1", 1) in site.links.attending)
        site.nova.rebuilds_fail = True
        await site.engine.reset(site.linked(site.operation(2, generation=2)))
        await eventually(lambda: heard)
        assert said(heard) == [("dsk_1", 2, False)]
        await asyncio.sleep(0.1)
        assert ("dsk_1", 2) not in site.links.attending
        await site.engine.reset(site.linked(site.operation(3, generation=2)))
        await eventually(lambda: ("dsk_1", 2) in site.links.attending)


async def test_a_rebuild_that_succeeds_keeps_the_server_however_often(site: Site) -> None:
    async with listening(site.engine) as heard:
        await site.engine.create(site.operation(1))
        for generation in (2, 3):
            await site.engine.reset(site.operation(generation, generation=generation))
            await eventually(lambda: heard and said(heard)[-1] == ("dsk_1", generation, True))  # noqa: B023
        assert [*site.nova.kept] == ["server-1"]


async def test_a_server_that_was_never_launched_is_not_rebuilt(site: Site) -> None:
    """Nothing would tell whether it was."""
    async with listening(site.engine) as heard:
        await site.engine.create(site.operation(1))
        await eventually(lambda: heard)
        [before] = site.nova.kept
        site.nova.kept[before].launched_at = None
        await site.engine.reset(site.operation(2, generation=2))
        assert before not in site.nova.kept


# ------------------------------------------------------------------------- pages


@pytest.mark.parametrize("count", [3, 4])
async def test_machines_are_listed_of_a_cloud_that_makes_pages_shorter_than_asked(
    site: Site, count: int
) -> None:
    site.nova.max_limit = 2
    async with listening(site.engine):
        ids = [f"dsk_{number}" for number in range(count)]
        for number, desktop_id in enumerate(ids):
            await site.engine.create(site.operation(number, desktop_id=desktop_id))
        assert [one.desktop_id for one in await site.engine.machines()] == ids


@pytest.mark.parametrize("left", [0, 1])
def test_the_list_goes_on_when_the_end_of_a_page_is_removed_meanwhile(left: int) -> None:
    """Nova answers "marker not found", whatever else there is."""
    nova = PretendNova(max_limit=2)
    servers = Servers(nova, "ins_1")
    tags, metadata = [installation_tag("ins_1")], {"trivium_installation": "ins_1"}
    for number in range(4):
        said_of_it = {"trivium_desktop": f"dsk_{number}", "trivium_generation": "1"}
        nova.create_server(name=f"{number}", tags=tags, metadata=metadata | said_of_it)
    listed = servers._tagged(*tags)
    first = [next(listed).desktop_id, next(listed).desktop_id]
    for server_id in [*nova.kept][left:2]:
        nova.delete_server(server_id)
    assert [*first, *(one.desktop_id for one in listed)] == ["dsk_0", "dsk_1", "dsk_2", "dsk_3"]


# --------------------------------------------------------------- clouds that are away


@pytest.mark.parametrize(("at", "away"), [(0, "two"), (1, "one")])
async def test_a_stray_is_removed_while_another_cloud_is_away(
    site: Site, at: int, away: str
) -> None:
    async with listening(site.engine):
        await site.engine.create(site.operation(1, at=at))
        [stray] = await site.engine.machines()
        site.clouds[away].away = True
        await site.engine.discard(stray)
        assert not any(nova.kept for nova in site.clouds.values())


@pytest.mark.parametrize("host_id", ["hst_one", "hst_9"])
async def test_a_stray_that_is_not_where_it_should_be_is_looked_for_in_all_clouds(
    site: Site, host_id: str
) -> None:
    """One that does not answer may have another of it: that is told, once the rest is done."""
    async with listening(site.engine):
        await site.engine.create(site.operation(1, at=1))
        [stray] = await site.engine.machines()
        site.clouds["one"].away = True
        with pytest.raises(EngineError):
            await site.engine.discard(replace(stray, host_id=host_id))
        assert not site.clouds["two"].kept


@pytest.mark.parametrize("away", [True, False])
async def test_a_stray_never_costs_another_clouds_desktop_that_is_as_it_should_be(
    site: Site, *, away: bool
) -> None:
    """The stray is of a later generation (the records were restored from a backup), and is gone
    meanwhile, or its cloud is away; the one in the other cloud is somebody's."""
    async with listening(site.engine):
        await site.engine.create(site.operation(1, generation=3, at=1))
        [own] = await site.engine.machines()
        site.clouds["one"].away = away
        stray = replace(own, host_id="hst_one", generation=5)
        with pytest.raises(EngineError) if away else contextlib.nullcontext():
            await site.engine.discard(stray)
        assert [server.status for server in site.clouds["two"].kept.values()] == ["ACTIVE"]


async def test_a_stray_of_a_later_generation_stays(site: Site) -> None:
    async with listening(site.engine):
        await site.engine.create(site.operation(1, generation=2))
        [stray] = await site.engine.machines()
        with pytest.raises(StaleGenerationError):
            await site.engine.discard(replace(stray, generation=1))
        assert site.nova.kept


async def test_a_cloud_that_hangs_keeps_the_others_machines_from_nobody(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go = threading.Event()
    monkeypatch.setattr(engine_module, "LIST_HOST_S", 0.2)
    async with listening(site.engine):
        await site.engine.create(site.operation(1, at=1))
        monkeypatch.setattr(site.clouds["one"], "_answer", lambda: let_go.wait(30))
        try:
            with pytest.raises(PartialListError) as refused:
                await site.engine.machines()
        finally:
            let_go.set()
        assert refused.value.silent == {"hst_one"}
        assert [one.host_id for one in refused.value.machines] == ["hst_two"]


async def test_a_place_whose_profile_cannot_be_read_is_silent_and_the_others_are_listed(
    site: Site,
) -> None:
    async with listening(site.engine):
        await site.engine.create(site.operation(1))
        first, second = site.hosts
        site.engine.features(replace(second, profile=f"{second.profile}&later_knob=1"))
        with pytest.raises(PartialListError) as refused:
            await site.engine.machines()
        assert refused.value.silent == {second.id}
        assert [one.host_id for one in refused.value.machines] == [first.id]
        site.engine.features(second)
        assert len(await site.engine.machines()) == 1


# ------------------------------------------------------------------- deferred delete


@pytest.mark.parametrize("may_force", [True, False])
@pytest.mark.parametrize("verb", ["reset", "destroy"])
async def test_a_cloud_that_keeps_what_is_removed_holds_nobody_up(
    site: Site, verb: str, may_force: bool
) -> None:
    """It is removed for good where the account may, for a person's data lie on it."""
    site.nova.keeps_deleted, site.nova.may_force = True, may_force
    async with listening(site.engine) as heard:
        await site.engine.create(site.operation(1))
        await eventually(lambda: heard)
        [server] = site.nova.kept.values()
        server.status = "SHUTOFF"
        await getattr(site.engine, verb)(site.operation(2, generation=2))
        left = {one.id: one.status for one in site.nova.kept.values()}
        assert left.pop(server.id, None) == (None if may_force else "SOFT_DELETED")
        assert [*left.values()] == (["ACTIVE"] if verb == "reset" else [])
        assert len(await site.engine.machines()) == len(left)
