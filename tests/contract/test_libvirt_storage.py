"""Classes of storage in libvirt: what a profile may name, which kinds of pools keep desktops and
how, and what libvirt's own schemas and its test driver make of what is written for each."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import libvirt
import pytest

from broker.domain.errors import EngineError, UnsupportedError
from broker.domain.features import Feature
from broker.domain.inspection import Verdict
from broker.domain.model import Host, Image
from broker.domain.storage import OWN, SAME
from broker.engines.libvirt import capabilities, hosts, pools, xml
from broker.engines.libvirt.abilities import abilities
from broker.engines.libvirt.capabilities import Capabilities, PoolRoom, look, rooms_of
from broker.engines.libvirt.classes import classes
from broker.engines.libvirt.events import run_events
from broker.engines.libvirt.kinds import KINDS, Clone
from broker.engines.libvirt.knobs import ClassKnob, parse_profile
from broker.engines.libvirt.looks import LOOKS
from broker.engines.libvirt.pool_kinds import POOL_KINDS
from broker.engines.libvirt.storage import Volumes, ceph_of, disk_pool
from broker.limits import LIBVIRT_THREADS
from broker.ports import Operation
from tests.contract.test_libvirt_kinds import found, valid
from tests.contract.test_libvirt_profiles import spec
from tests.support.builders import make_desktop, make_host
from tests.support.engines import IMAGE, listening
from tests.support.eventually import eventually
from tests.support.libvirt_cases import libvirt_engine, libvirt_test_case
from tests.support.libvirt_lab import remove

GIB: Final = 1 << 30
POOLS: Final = {
    "dir": "<target><path>/disks</path></target>",
    "fs": "<source><device path='/dev/sdz1'/></source><target><path>/disks-fs</path></target>",
    "netfs": "<source><host name='nas'/><dir path='/exports/desktops'/><format type='nfs'/>"
    "</source><target><path>/disks-nfs</path></target>",
    "logical": "<source><device path='/dev/sdz2'/><name>desktops</name><format type='lvm2'/>"
    "</source><target><path>/dev/desktops</path></target>",
    "rbd": "<source><host name='mon-1' port='6789'/><host name='mon-2'/><name>desktops</name>"
    "<auth type='ceph' username='trivium'><secret uuid='2ec115d7-3a88-3ceb-bc12-0ac909a6fd87'/>"
    "</auth></source>",
}  # fmt: skip
"""kind -> the rest of a pool's description"""


def pool_xml(kind: str) -> str:
    return f"<pool type='{kind}'><name>pool-{kind}</name>{POOLS[kind]}</pool>"


# ------------------------------------------------------------------- what a profile names


def test_a_profile_names_classes_with_their_pools_and_costs() -> None:
    place = parse_profile("qemu?classes=fast:ssd:4,bulk:nas:1.5:shared,own:lvm")
    assert place.classes == (
        ClassKnob(name="fast", pool="ssd", cost=4.0),
        ClassKnob(name="bulk", pool="nas", cost=1.5, shared=True),
        ClassKnob(name="own", pool="lvm"),
    )
    assert place.pools == ("trivium", "ssd", "nas", "lvm")
    assert (place.at("bulk").pool, place.at(OWN).pool) == ("nas", "trivium")
    with pytest.raises(EngineError, match="no storage class slow"):
        place.at("slow")


@pytest.mark.parametrize(
    "value",
    [
        "fast", "fast:", ":ssd", "fast:ssd:", "fast:ssd:dear", "fast:ssd:-1", "fast:../etc",
        "fast:ssd,fast:nas", "fast:ssd,", "fa st:ssd", "fast:ssd:1:mine",
        ",".join(f"c{n}:p" for n in range(17)),
    ],
)  # fmt: skip
def test_classes_that_are_none_are_refused(value: str) -> None:
    with pytest.raises(EngineError, match="knob classes"):
        parse_profile(f"qemu?classes={value}")


# ------------------------------------------------------------------- what a host has of it


def room(kind: str, **changes: Any) -> PoolRoom:
    values: dict[str, Any] = {"name": kind, "kind": kind, "running": True, "capacity": 9 * GIB}
    values |= {"available": 4 * GIB, "source": ""}
    return PoolRoom(**(values | changes))


def test_a_host_without_classes_has_none() -> None:
    assert classes(parse_profile("qemu"), found()) == {}


def test_a_class_is_what_the_host_says_it_is() -> None:
    place = parse_profile("qemu?classes=fast:dir,nas:netfs,lvm:logical,gone:gone,odd:iscsi,off:fs")
    pools = (
        room("dir"), room("netfs", source="nas:/exports"), room("logical"), room("iscsi"),
        room("fs", running=False, capacity=0, available=0),
    )  # fmt: skip
    told = classes(place, found(pools=(*found().pools, *pools)))
    assert {name: one.cost for name, one in told.items() if not one.refuses} == {
        OWN: 0.0, "fast": 1.0, "nas": 2.0, "lvm": 2.0,
    }  # fmt: skip
    assert (told["fast"].capacity, told["fast"].available) == (9 * GIB, 4 * GIB)
    assert [name for name, one in told.items() if one.whole] == ["lvm"]
    assert "no storage pool gone" in told["gone"].refuses
    assert "pools of kind iscsi" in told["odd"].refuses
    assert "is not running" in told["off"].refuses
    assert told["off"].capacity is None
    before = classes(place, None)
    assert {one.refuses for one in before.values()} == {""}
    assert before["fast"].kind == ""


def test_what_names_the_same_across_the_network_is_the_same_at_two_hosts() -> None:
    place = parse_profile("qemu?classes=fast:dir,said:fs:1:shared,nas:netfs,ceph:rbd")
    pools = (
        room("dir"), room("fs"), room("netfs", source="nas:/e"), room("rbd", source="mon:images"),
    )  # fmt: skip
    told = classes(place, found(pools=pools))
    shared = {name: one.shared for name, one in told.items()}
    assert shared == {
        OWN: "", "fast": "", "said": f"{SAME}: fs", "nas": "netfs nas:/e, as netfs",
        "ceph": "rbd mon:images, as rbd",
    }  # fmt: skip
    own = classes(replace(place, storage=parse_profile("qemu?storage=shared").storage), found())
    assert own[OWN].shared == SAME


def test_what_a_class_can_and_cannot_do_is_told_before_it_is_used() -> None:
    place = parse_profile("qemu?classes=fast:dir,gone:gone&clone=instant")
    seen = found(pools=(*found().pools, room("dir")))
    told = abilities(place, seen)
    assert "4.0 of 9.0 GiB free" in {one.name: one.says for one in told.can}["storage_fast"]
    assert "pool gone" in {one.name: one.says for one in told.cannot}["storage_gone"]
    step = LOOKS["storage"](place, seen)
    assert (step.verdict, "class gone" in step.says, bool(step.advice)) == (
        Verdict.MISSING, True, True,
    )  # fmt: skip
    whole = replace(place, classes=place.classes[:1])
    step = LOOKS["storage"](whole, seen)
    assert (step.verdict, "fast: the storage pool dir" in step.says) == (Verdict.OK, True)


@pytest.mark.parametrize(
    ("sort", "clone", "says"),
    [
        ("dir", Clone.INSTANT, ""),
        ("netfs", Clone.LINKED, ""),
        ("logical", Clone.LINKED, ""),
        ("logical", Clone.FULL, ""),
        ("logical", Clone.INSTANT, "kept in a file"),
        ("rbd", Clone.LINKED, ""),
        ("rbd", Clone.FULL, "layering only"),
        ("rbd", Clone.INSTANT, "kept in a file"),
    ],
)
def test_each_kind_of_pool_makes_the_clones_that_libvirt_can_make_there(
    sort: str, clone: Clone, says: str
) -> None:
    refused = POOL_KINDS[sort].refusal(KINDS["qemu"], clone)
    assert (says in refused) if says else refused == ""
    place = replace(parse_profile("qemu"), clone=clone)
    seen = found(pools=(room(sort, name="trivium"),))
    assert bool(seen.refuses(place)) is bool(says)
    told = {one.name: one.says for one in abilities(place, seen).cannot}
    assert (f"clone_{clone}" in told) is bool(says)


def test_containers_are_files() -> None:
    assert "are files" in POOL_KINDS["logical"].refusal(KINDS["lxc"], Clone.FULL)
    assert POOL_KINDS["netfs"].refusal(KINDS["lxc"], Clone.FULL) == ""


def test_a_host_whose_own_pool_keeps_no_desktops_is_refused() -> None:
    seen = found(pools=(room("iscsi", name="trivium"),))
    assert "pools of kind iscsi" in seen.refuses(parse_profile("qemu"))


def test_a_host_with_any_shared_class_can_move_machines() -> None:
    place = parse_profile("qemu?classes=nas:netfs")
    told = abilities(place, found(pools=(*found().pools, room("netfs", source="nas:/e"))))
    assert Feature.MIGRATE in {one.name for one in told.can}


# ------------------------------------------------------------- what libvirt makes of it


@pytest.fixture
def driver() -> Iterator[Any]:
    """libvirt's test driver, with a pool of each kind: descriptions are parsed as anywhere."""
    run_events()
    libvirt_test_case()
    connection = libvirt.open("test:///default")
    made = []
    for kind in POOLS:
        pool = connection.storagePoolDefineXML(pool_xml(kind))
        pool.create()
        made.append(pool)
    yield connection
    for domain in connection.listAllDomains(0):
        remove(domain)
    for pool in made:
        for volume in pool.listAllVolumes():
            volume.delete()
        pool.destroy()
        pool.undefine()
    connection.close()


@pytest.mark.parametrize("sort", POOLS)
def test_descriptions_of_pools_are_ones_by_libvirts_own_schema(sort: str) -> None:
    assert valid(pool_xml(sort), "storagepool.rng") == ""


def test_kinds_and_sources_are_read_from_libvirt(driver: Any) -> None:
    told = {one.name: (one.kind, one.source) for one in rooms_of(driver)}
    assert {told[f"pool-{kind}"][0] for kind in POOLS} == set(POOLS)
    assert told["pool-netfs"][1] == "nas:/exports/desktops"
    assert told["pool-rbd"][1] == "mon-1,mon-2:desktops"
    assert told["pool-dir"][1] == told["pool-logical"][1] == ""


def test_a_disk_in_ceph_is_described_with_its_monitors_and_its_user(driver: Any) -> None:
    described = xml.parse(driver.storagePoolLookupByName("pool-rbd").XMLDesc(0))
    ceph = ceph_of(described, "dsk_1-g1.raw")
    assert ceph.name == "desktops/dsk_1-g1.raw"
    assert ceph.hosts == (("mon-1", "6789"), ("mon-2", ""))
    disk = xml.Disk(pool="pool-rbd", volume="dsk_1-g1.raw", form="raw", ceph=ceph)
    text = xml.domain(spec("qemu", disk=disk))
    assert valid(text, "domain.rng") == ""
    machine = xml.parse(text)
    source = machine.find("devices/disk/source")
    assert source is not None
    assert [one.get("name") for one in source.iterfind("host")] == ["mon-1", "mon-2"]
    secret = source.find("auth[@username='trivium']/secret[@type='ceph']")
    assert secret is not None
    assert secret.get("uuid") == "2ec115d7-3a88-3ceb-bc12-0ac909a6fd87"
    assert disk_pool(driver, machine, ("pool-dir", "pool-rbd")) == "pool-rbd"
    assert disk_pool(driver, machine, ("pool-dir",)) == ""


def test_a_disk_on_lvm_is_raw_and_takes_its_whole_size(driver: Any) -> None:
    text = xml.volume("d", GIB, "/dev/desktops/golden", "raw", whole=True)
    assert valid(text, "storagevol.rng") == ""
    made = xml.parse(text)
    assert made.findtext("capacity") == made.findtext("allocation") == str(GIB)
    disk = xml.Disk(pool="pool-logical", volume="dsk_1-g1.raw", form="raw")
    machine = xml.domain(spec("qemu", disk=disk))
    assert valid(machine, "domain.rng") == ""
    assert xml.parse(machine).find("devices/disk/driver[@type='raw']") is not None
    assert disk_pool(driver, xml.parse(machine), ("pool-logical",)) == "pool-logical"


def golden(driver: Any, sort: str, form: str) -> None:
    name = f"{IMAGE.name}-v{IMAGE.version}.{form}"
    text = xml.volume(name, 1 << 20, form=form)
    driver.storagePoolLookupByName(f"pool-{sort}").createXML(text)


def on_classes(clone: str = "full") -> Host:
    named = ",".join(f"{kind}:pool-{kind}" for kind in POOLS)
    return make_host(engine="libvirt", profile=f"test?clone={clone}&classes={named}")


def job(name: str, host: Host, storage: str, **changes: Any) -> Operation:
    desktop = make_desktop(**changes)
    return Operation(
        id=name, desktop=desktop, host=host, image=IMAGE, deadline_s=60, storage=storage
    )


@pytest.mark.parametrize(("sort", "form"), [("dir", "qcow2"), ("netfs", "qcow2"),
                                            ("logical", "raw")])  # fmt: skip
async def test_a_desktop_is_made_in_its_class_and_goes_from_there(
    driver: Any, sort: str, form: str
) -> None:
    golden(driver, sort, form)
    host = on_classes()
    pool = driver.storagePoolLookupByName(f"pool-{sort}")
    async with listening(engine := libvirt_engine()):
        await engine.create(job("job_1", host, sort))
        assert f"dsk_1-g1.{form}" in pool.listVolumes()
        _, capacity, taken = pool.storageVolLookupByName(f"dsk_1-g1.{form}").info()
        assert (taken == capacity) is POOL_KINDS[sort].whole
        # its pool names no class any more: it goes on where it is until it is made fresh
        await engine.reset(job("job_2", host, OWN, generation=2))
        assert f"dsk_1-g1.{form}" not in pool.listVolumes()
        own = driver.storagePoolLookupByName("trivium").listVolumes()
        assert "dsk_1-g2.qcow2" in own
        await engine.reset(job("job_3", host, sort, generation=3))
        await engine.destroy(job("job_4", host, OWN, generation=3))
        assert f"dsk_1-g3.{form}" not in pool.listVolumes()
        assert "dsk_1-g2.qcow2" not in driver.storagePoolLookupByName("trivium").listVolumes()


async def test_in_ceph_a_desktop_is_a_layered_clone_described_by_its_monitors(
    driver: Any,
) -> None:
    golden(driver, "rbd", "raw")
    host = on_classes("linked")
    async with listening(engine := libvirt_engine()):
        await engine.create(job("job_1", host, "rbd"))
        assert "dsk_1-g1.raw" in driver.storagePoolLookupByName("pool-rbd").listVolumes()
        [machine] = driver.listAllDomains(0)
        described = xml.parse(machine.XMLDesc(0))
        source = described.find("devices/disk[@type='network']/source[@protocol='rbd']")
        assert source is not None
        assert source.get("name") == "desktops/dsk_1-g1.raw"
        with pytest.raises(UnsupportedError, match="layering only"):
            await engine.create(job("job_2", on_classes("full"), "rbd", id="dsk_2"))


async def test_a_class_that_a_host_has_not_is_refused_in_words(driver: Any) -> None:
    del driver
    host = make_host(engine="libvirt", profile="test?clone=full&classes=gone:gone")
    async with listening(engine := libvirt_engine()):
        with pytest.raises(EngineError, match="no storage class fast"):
            await engine.create(job("job_1", host, "fast"))
        with pytest.raises(EngineError, match="pool gone"):
            await engine.create(job("job_2", host, "gone"))
        await engine.create(job("job_3", host, OWN))
        # a class whose pool is gone keeps nothing from being removed
        await engine.destroy(job("job_4", host, OWN))
        assert await engine.machines() == ()
        told = engine.storage_classes(host)
        assert "no storage pool gone" in told["gone"].refuses
        assert engine.storage_classes(make_host(id="hst_9", profile="hal9000")) == {}


async def test_a_class_that_does_not_run_holds_up_the_removal_of_its_own_desktops_only(
    driver: Any,
) -> None:
    host = make_host(engine="libvirt", profile="test?clone=full&classes=fast:pool-dir")
    golden(driver, "dir", "qcow2")
    pool = driver.storagePoolLookupByName("pool-dir")
    async with listening(engine := libvirt_engine()):
        await engine.create(job("job_1", host, OWN))
        await engine.create(job("job_2", host, "fast", id="dsk_2"))
        pool.destroy()
        try:
            await engine.destroy(job("job_3", host, OWN))
            assert [one.desktop_id for one in await engine.machines()] == ["dsk_2"]
            with pytest.raises(EngineError, match="pool-dir is not running"):
                await engine.destroy(job("job_4", host, "fast", id="dsk_2"))
            assert [one.desktop_id for one in await engine.machines()] == ["dsk_2"]
        finally:
            pool.create()
        await engine.destroy(job("job_5", host, "fast", id="dsk_2"))
        assert await engine.machines() == ()
        assert not [one for one in pool.listVolumes() if one.startswith("dsk_2")]


def test_a_look_that_stops_a_pool_starts_it_again(driver: Any) -> None:
    pool = Stopped(driver.storagePoolLookupByName("pool-dir"))
    looked_at = look(Looked(pool), "server-1", "pool-dir")
    assert looked_at is not None
    assert looked_at.running


class Stopped:
    """A storage pool that a failed refresh stops, as libvirt does."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def refresh(self, _flags: int) -> None:
        self._pool.destroy()
        raise libvirt.libvirtError("cannot open volume")


class Looked:
    def __init__(self, pool: Stopped) -> None:
        self._pool = pool

    def storagePoolLookupByName(self, _name: str) -> Stopped:  # noqa: N802 - libvirt's
        return self._pool


def test_volumes_of_a_pool_that_keeps_no_desktops_are_not_made(driver: Any) -> None:
    other = "<pool type='disk'><name>odd</name><source><device path='/dev/sdz'/></source>"
    pool = driver.storagePoolDefineXML(f"{other}<target><path>/dev</path></target></pool>")
    pool.create()
    try:
        volumes = Volumes(driver, "server-1", parse_profile("test?pool=odd"))
        with pytest.raises(UnsupportedError, match="pools of kind disk"):
            volumes.make(IMAGE, "dsk_1", 1)
    finally:
        pool.destroy()
        pool.undefine()


def test_capabilities_without_pools_refuse_nothing() -> None:
    assert Capabilities(hypervisor="x", domain_types=("qemu",)).refuses(parse_profile("qemu")) == ""


async def test_a_pool_that_hangs_takes_no_desktops_until_it_answers(
    driver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    golden(driver, "dir", "qcow2")
    golden(driver, "netfs", "qcow2")
    answers = threading.Event()
    answers.set()
    hang(monkeypatch, answers)
    host = on_classes("linked")
    async with listening(engine := libvirt_engine()):
        await engine.create(job("job_1", host, "netfs"))
        answers.clear()
        await eventually(lambda: engine.storage_classes(host)["netfs"].refuses != "")
        told = engine.storage_classes(host)
        assert {one.name: one.refuses for one in told.values() if one.refuses} == {
            "netfs": "the storage pool pool-netfs does not answer"
        }
        shown = {one.name: one.refuses for one in (await engine.condition(host)).storage}
        assert "does not answer" in shown["netfs"]
        assert {name for name, refuses in shown.items() if refuses} == {"netfs"}
        for verb, number in ((engine.create, 2), (engine.reset, 1), (engine.destroy, 1)):
            with pytest.raises(EngineError, match="pool-netfs does not answer"):
                await verb(job("job_9", host, "netfs", id=f"dsk_{number}", generation=2))
        # everybody else's goes on
        await engine.create(job("job_2", host, "dir", id="dsk_3"))
        await engine.destroy(job("job_3", host, "dir", id="dsk_3"))
        assert [one.desktop_id for one in await engine.machines()] == ["dsk_1"]
        answers.set()
        await eventually(lambda: engine.storage_classes(host)["netfs"].refuses == "")
        await engine.destroy(job("job_4", host, "netfs", generation=2))
        assert await engine.machines() == ()


async def test_what_hangs_in_one_pool_takes_no_other_pools_threads(
    driver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anybody has found out that it hangs."""
    golden(driver, "dir", "qcow2")
    golden(driver, "netfs", "qcow2")
    answers = threading.Event()
    real = Volumes.make

    def make(volumes: Volumes, image: Image, desktop_id: str, *rest: Any) -> xml.Disk:
        if volumes.pool == "pool-netfs":
            answers.wait()
        return real(volumes, image, desktop_id, *rest)

    monkeypatch.setattr(Volumes, "make", make)
    host = on_classes("linked")
    async with listening(engine := libvirt_engine()):
        try:
            async with asyncio.TaskGroup() as tasks:
                for number in range(2, LIBVIRT_THREADS + 4):
                    one = job(f"job_{number}", host, "netfs", id=f"dsk_{number}")
                    tasks.create_task(engine.create(one))
                await engine.create(job("job_1", host, "dir"))
                assert [one.desktop_id for one in await engine.machines()] == ["dsk_1"]
                answers.set()
        finally:
            answers.set()


async def test_a_host_is_reached_while_a_pool_of_its_hangs(
    driver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    golden(driver, "dir", "qcow2")
    answers = threading.Event()
    hang(monkeypatch, answers)
    host = on_classes("linked")
    try:
        async with listening(engine := libvirt_engine()):
            await engine.create(job("job_1", host, "dir"))
            assert "does not answer" in engine.storage_classes(host)["netfs"].refuses
            assert (await engine.condition(host)).disk_free is not None
            cannot = {one.name: one.says for one in (await engine.abilities(host)).cannot}
            assert "does not answer" in cannot["storage_netfs"]
            await engine.destroy(job("job_2", host, "dir"))
    finally:
        answers.set()


def hang(monkeypatch: pytest.MonkeyPatch, answers: threading.Event) -> None:
    """Looking at the pool of kind netfs takes until it answers."""
    for name in ("glance", "look"):
        real = getattr(capabilities, name)

        def slow(connection: Any, host: str, pool: str, real: Any = real) -> PoolRoom | None:
            if pool == "pool-netfs":
                answers.wait()
            found: PoolRoom | None = real(connection, host, pool)
            return found

        monkeypatch.setattr(pools, name, slow)
    monkeypatch.setattr(hosts, "STORAGE_LOOK_S", 0.01)
    monkeypatch.setattr(pools, "STORAGE_ANSWER_S", 0.2)
    monkeypatch.setattr(pools, "STORAGE_GLANCE_S", 0.2)


async def test_how_full_a_class_is_is_seen_again_and_again(
    driver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts, "STORAGE_LOOK_S", 0.01)
    host = on_classes()
    async with listening(engine := libvirt_engine()):
        engine.features(host)
        await eventually(lambda: bool(engine.storage_classes(host)["dir"].capacity))
        before = engine.storage_classes(host)["dir"].available
        assert before is not None
        golden(driver, "dir", "raw")
        driver.storagePoolLookupByName("pool-dir").createXML(
            xml.volume("large", 1 << 30, form="raw", whole=True)
        )
        await eventually(lambda: engine.storage_classes(host)["dir"].available != before)
        told = await engine.condition(host)
        assert {one.name for one in told.storage} == set(POOLS)
        driver.storagePoolLookupByName("pool-dir").destroy()
        await eventually(lambda: "not running" in engine.storage_classes(host)["dir"].refuses)
        driver.storagePoolLookupByName("pool-dir").create()
