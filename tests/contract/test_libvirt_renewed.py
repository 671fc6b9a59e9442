"""A libvirt host's profile changes while the broker runs: what the engine goes by then."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.domain.errors import EngineError, UnsupportedError
from broker.domain.homes import left_behind
from broker.engines.libvirt import LibvirtEngine
from broker.engines.openstack.knobs import parse_profile as parse_place
from tests.support.builders import make_desktop
from tests.support.engines import listening, said
from tests.support.eventually import eventually
from tests.support.libvirt_bench import SMALL
from tests.support.libvirt_cases import libvirt_engine, libvirt_test_case

FAR = "qemu?uri=qemu%2Bssh://trivium@server-7/system"


def gone(before: str, after: str) -> tuple[str, ...]:
    engine = libvirt_engine()
    return left_behind(engine.home(before), engine.home(after))


@pytest.mark.parametrize(
    ("after", "changed"),
    [
        (f"{FAR}&host_key=SHA256:{'a' * 43}", ()),
        (f"{FAR}&classes=fast:ssd:4&off=sudo&wake=52:54:00:12:34:56", ()),
        (f"{FAR}&moves_tls=yes&spice=yes&rdp=10.0.0.0/16&accel=kvm&network=x&storage=shared", ()),
        ("qemu?uri=qemu%2Bssh://root@SERVER-7:22/system", ()),
        ("qemu?uri=qemu%2Bssh://trivium@server-8/system", ("uri",)),
        ("qemu?uri=qemu%2Bssh://trivium@server-7:2222/system", ("uri",)),
        ("qemu?uri=qemu%2Btls://server-7/system", ("uri",)),
        ("qemu?uri=qemu%2Bssh://trivium@server-7/session", ("uri",)),
        ("qemu", ("uri",)),
        (f"{FAR}&pool=other", ("pool",)),
        (f"{FAR}&agent=none", ("agent",)),
    ],
)
def test_what_leads_to_the_same_machines_leaves_none_behind(
    after: str, changed: tuple[str, ...]
) -> None:
    assert gone(FAR, after) == changed


def test_a_class_of_storage_may_come_and_neither_go_nor_mean_another_pool() -> None:
    two = f"{FAR}&classes=fast:ssd,bulk:nas"
    assert gone(two, f"{FAR}&classes=bulk:nas:9:shared,fast:ssd:2,new:x") == ()
    assert gone(two, f"{FAR}&classes=fast:ssd") == ("class bulk",)
    assert gone(two, f"{FAR}&classes=fast:nvme,bulk:nas") == ("class fast",)


def test_two_people_of_one_host_have_two_session_daemons() -> None:
    ann, bob = (f"qemu?uri=qemu%2Bssh://{one}@server-7/session" for one in ("ann", "bob"))
    assert gone(ann, bob) == ("uri",)


def test_a_profile_that_makes_no_desktops_is_refused() -> None:
    engine = libvirt_engine()
    with pytest.raises(EngineError, match="no knob is called 'speed'"):
        engine.home("qemu?speed=9")
    with pytest.raises(UnsupportedError, match="no desktops are made on VMware"):
        engine.home("esx?uri=esx://vcenter/")


def test_a_place_of_a_cloud_is_the_cloud_its_region_and_its_compute_host() -> None:
    before = parse_place("nova?cloud=a&region=r&host=c").home
    same = parse_place("nova?cloud=a&region=r&host=c&zone=z&network=n&disk=9&display=none").home
    assert left_behind(before, same) == ()
    other = parse_place("nova?cloud=b&region=s&host=d&agent=none").home
    assert left_behind(before, other) == ("agent", "cloud", "host", "region")


async def reached(engine: LibvirtEngine) -> None:
    link = engine._hosts.get("hst_1")
    assert link is not None
    await eventually(lambda: not link.connection.lost.is_set())


async def test_a_machine_made_before_is_looked_after_over_the_new_connection() -> None:
    case = libvirt_test_case()
    engine, desktop = libvirt_engine(), make_desktop(resources=SMALL)
    async with listening(engine) as heard:
        await engine.create(case.operation("job_1", desktop))
        await eventually(lambda: said(heard) == [("dsk_1", 1, True)])
        link = engine._hosts.get("hst_1")
        assert link is not None
        before = link.connection
        changed = replace(case.host, profile="test?classes=fast:trivium:4", revision=2)
        engine.features(changed)
        assert link.connection is not before
        await reached(engine)
        assert set(engine.storage_classes(changed)) == {"", "fast"}
        await eventually(lambda: before._closed and not engine._hosts._left)
        # an operation that was begun before the change carries the host as it was
        await engine.suspend(case.operation("job_2", desktop))
        assert link.host == changed
        [machine] = await engine.machines()
        assert machine.suspended
        await engine.destroy(replace(case.operation("job_3", desktop), host=changed))
    assert said(heard) == [("dsk_1", 1, True)]


async def test_an_older_record_brings_no_old_profile_back() -> None:
    case, engine = libvirt_test_case(), libvirt_engine()
    changed = replace(case.host, profile="test?classes=fast:trivium", revision=2)
    async with listening(engine):
        engine.features(changed)
        link = engine._hosts.get("hst_1")
        assert link is not None
        engine.features(case.host)
        assert (link.host, len(link.place.classes)) == (changed, 1)
