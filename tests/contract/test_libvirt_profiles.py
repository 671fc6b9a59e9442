"""What a libvirt host's profile may say, and what of it reaches libvirt."""

from __future__ import annotations

from urllib.parse import quote
from uuid import UUID
from xml.etree import ElementTree as ET

import pytest

from broker.domain.errors import EngineError
from broker.domain.features import Feature
from broker.domain.model import Image, Resources
from broker.domain.settings import EQUAL_SHARES, Limits, Share
from broker.engines.libvirt import xml
from broker.engines.libvirt.abilities import abilities
from broker.engines.libvirt.capabilities import Capabilities
from broker.engines.libvirt.channel import Lines
from broker.engines.libvirt.cpu_shares import Groups
from broker.engines.libvirt.kinds import Clone
from broker.engines.libvirt.knobs import Accel, Off, parse_profile
from broker.engines.libvirt.tags import (
    Tags,
    image_volume,
    mac_address,
    machine_name,
    machine_uuid,
    read_tags,
    volume_of,
)
from broker.engines.libvirt.tuning import Tuning
from broker.engines.reach.wake import Wake
from broker.guest_wire import LINE_BYTES_MAX, PORT_NAME
from tests.support.builders import NOW

UUID_1 = UUID("c61573e7-02e4-5b1b-8ee8-079d01dab9e4")
TAGS = Tags(installation_id="ins_1", desktop_id="dsk_1", generation=3, name="library-001")


def spec(profile: str = "qemu", **changes: object) -> xml.MachineSpec:
    resources = changes.pop("resources", Resources(cpus=2, memory_mib=2048))
    guarantee, weights = changes.pop("guarantee", Share()), changes.pop("weights", EQUAL_SHARES)
    limits, groups = changes.pop("limits", Limits()), changes.pop("groups", Groups.V1)
    values: dict[str, object] = {
        "name": machine_name("dsk_1"),
        "uuid": UUID_1,
        "place": parse_profile(profile),
        "tags": TAGS,
        "resources": resources,
        "tuning": Tuning.of(resources, guarantee, weights, limits, groups),  # type: ignore[arg-type]
        "share_pages": True,
        "disk": xml.Disk(pool="trivium", volume="dsk_1-g3.qcow2"),
    }
    return xml.MachineSpec(**(values | changes))  # type: ignore[arg-type]


def described(profile: str = "qemu", **changes: object) -> ET.Element:
    return xml.parse(xml.domain(spec(profile, **changes)))


def test_a_profile_alone_means_this_machines_daemon_without_kvm() -> None:
    place = parse_profile("qemu")
    assert (place.uri, place.accel, place.clone) == ("qemu:///system", Accel.TCG, Clone.LINKED)
    assert place.is_local


def test_knobs_are_read_as_parts_of_an_address_are() -> None:
    uri = "qemu+ssh://operator@host-7/system"
    place = parse_profile(f"qemu?uri={quote(uri, safe='')}&pool=fast&accel=kvm&clone=full")
    assert (place.uri, place.pool, place.accel, place.clone) == (
        uri, "fast", Accel.KVM, Clone.FULL,
    )  # fmt: skip
    assert not place.is_local


@pytest.mark.parametrize(
    ("profile", "says"),
    [
        ("hal9000", "hal9000"),
        ("qemu?speed=1", "speed"),
        ("qemu?accel=fast", "accel"),
        ("qemu?pool=a&pool=b", "twice"),
        ("qemu?pool=../etc", "pool"),
        ("qemu?pool=", "pool"),
        ("qemu?network=a b", "network"),
        ("qemu?nothing", "key=value"),
        ("qemu?moves=exec:touch%20x", "moves"),
        ("qemu?uri=lxc:///system", "uri"),
        ("qemu?uri=qemu%2Bext:///system", "uri"),
        ("qemu?uri=qemu%2Bssh://h/system%3Fcommand%3D/bin/x", "command"),
        ("qemu?uri=qemu%2Btls://h/system%3Fno_verify%3D1", "no_verify"),
        ("qemu?uri=qemu%2Bssh://user:secret@h/system", "uri"),
        ("qemu?uri=http://h/", "uri"),
        ("qemu?uri=qemu+ssh://u@h/system", "write [+] as %2B"),
        ("qemu?append=%0a", "append"),
    ],
)
def test_what_a_profile_may_not_say_is_named(profile: str, says: str) -> None:
    with pytest.raises(EngineError, match=says):
        parse_profile(profile)


def test_a_machine_carries_its_tags_and_they_are_read_again() -> None:
    tags = TAGS.after("job_1").used_by("ses_1").used_by("ses_2").used_by("ses_1")
    root = described(tags=tags)
    [element] = root.findall("metadata/*")
    assert read_tags(element) == tags
    assert tags.users == ("ses_1", "ses_2")
    bare = xml.parse(xml.text_of(tags.element(bare=True)))
    assert read_tags(bare) == tags


def test_tags_keep_the_latest_operations_only() -> None:
    tags = TAGS
    for number in range(20):
        tags = tags.after(f"job_{number}")
    assert tags.operations == tuple(f"job_{number}" for number in range(12, 20))
    assert tags.after("job_15").operations[-1] == "job_15"


@pytest.mark.parametrize(
    "text", ["<desktop/>", "<other generation='1'/>", "<desktop generation='x'/>"]
)
def test_what_the_broker_did_not_write_is_no_tag(text: str) -> None:
    assert read_tags(xml.parse(text)) is None


def test_a_name_with_marks_of_xml_changes_nothing_but_the_title() -> None:
    name = "a</title><devices/>&\x07"
    root = described(tags=Tags(installation_id="i", desktop_id="dsk_1", generation=1, name=name))
    assert root.findtext("title") == "a</title><devices/>&"
    assert len(root.findall("devices")) == 1


@pytest.mark.parametrize("bad", ["", "../dsk", "dsk 1", "dsk\n", "-dsk", "d" * 65])
def test_an_id_that_cannot_be_part_of_a_name_is_refused(bad: str) -> None:
    with pytest.raises(EngineError):
        machine_name(bad)


def test_an_image_whose_name_is_a_path_is_refused() -> None:
    image = Image(
        id="i", name="../../etc/passwd", version=1, size_bytes=1, boot_bytes=1, created_at=NOW
    )
    with pytest.raises(EngineError):
        image_volume(image)


def test_a_disks_name_tells_its_desktop_and_generation() -> None:
    assert volume_of("dsk_1-g7.qcow2", "dsk_1") == 7
    assert volume_of("dsk_1-g7.qcow2", "dsk_2") is None
    assert volume_of("school-v1.qcow2", "school") is None


def test_installations_never_share_a_machine() -> None:
    ids = {machine_uuid(one, two) for one in ("ins_1", "ins_2") for two in ("dsk_1", "dsk_2")}
    assert len(ids) == 4
    assert len({mac_address(one) for one in ids}) == 4
    assert all(mac_address(one).startswith("02:") for one in ids)


@pytest.mark.parametrize(
    "text",
    [
        "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>",
        "<a>" + "x" * 5_000_000 + "</a>",
        "<a>",
        "",
    ],
)
def test_a_description_that_is_too_long_or_has_entities_is_not_read(text: str) -> None:
    with pytest.raises(EngineError):
        xml.parse(text)


def test_a_machine_has_no_port_for_its_display_and_one_for_its_agent() -> None:
    root = described()
    assert root.find("devices/graphics/listen[@type='none']") is not None
    assert root.find(f"devices/channel/target[@name='{PORT_NAME}']") is not None
    assert root.get("type") == "qemu"
    assert described("qemu?accel=kvm").get("type") == "kvm"
    assert described("qemu?agent=none").find("devices/channel") is None


def test_resources_are_what_libvirt_is_told() -> None:
    root = described(
        "qemu?network=lan",
        resources=Resources(cpus=1.5, memory_mib=2048, disk_iops=500, network_mbit=100),
        guarantee=Share(memory=0.5),
        weights=Share(cpus=2.0, memory=1.0, disk=1.0, network=1.0),
    )
    read = {
        path: root.findtext(path)
        for path in (
            "memory", "vcpu", "cputune/shares", "cputune/global_quota", "memtune/soft_limit",
            "devices/disk/iotune/total_iops_sec",
        )
    }  # fmt: skip
    assert read == {
        "memory": str(2048 * 1024),
        "vcpu": "2",
        "cputune/shares": "768",
        "cputune/global_quota": "150000",
        "memtune/soft_limit": str(1024 * 1024),
        "devices/disk/iotune/total_iops_sec": "500",
    }
    bandwidth = root.find("devices/interface/bandwidth/inbound")
    assert bandwidth is not None
    assert bandwidth.get("average") == "12207"


def test_where_none_are_known_a_machine_asks_nothing_of_control_groups() -> None:
    root = described(groups=None)
    assert root.find("cputune") is None
    assert root.find("memtune") is None


def test_lines_are_whole_and_too_long_ones_are_passed_over() -> None:
    lines = Lines()
    assert list(lines.feed(b"one\ntw")) == [b"one"]
    assert list(lines.feed(b"o\n")) == [b"two"]
    assert list(lines.feed(b"x" * LINE_BYTES_MAX)) == []
    assert list(lines.feed(b"x" * LINE_BYTES_MAX)) == []
    assert list(lines.feed(b"tail\nthree\n")) == [b"three"]
    assert list(lines.feed(b"\n" * 1000 + b"four\n\n")) == [b"four"]


FAR = quote("qemu+ssh://trivium@server-1/system", safe="")
CARD = "52:54:00:12:34:56"


def test_a_host_is_switched_on_and_off_where_its_profile_says_how() -> None:
    place = parse_profile(f"qemu?uri={FAR}&off=sudo&wake={CARD}@10.1.0.255")
    assert Feature.HOST_POWER in place.features
    assert (place.off, place.wake) == (Off.SUDO, Wake(mac=CARD, address="10.1.0.255"))
    assert place.off is not None
    assert place.off.command == "sudo -n systemctl poweroff"
    seen = Capabilities(hypervisor="QEMU", domain_types=("qemu",))
    told = abilities(place, seen)
    assert "host_power" in {one.name for one in told.can}
    without = parse_profile(f"qemu?uri={FAR}")
    assert Feature.HOST_POWER not in without.features
    cannot = {one.name: one.says for one in abilities(without, seen).cannot}
    assert "off and wake" in cannot["host_power"]


@pytest.mark.parametrize(
    "knobs",
    [
        f"uri={FAR}&off=sudo",
        f"uri={FAR}&wake={CARD}",
        f"uri={FAR}&off=rm&wake={CARD}",
        f"uri={FAR}&off=systemctl%20reboot&wake={CARD}",
        f"uri={FAR}&off=sudo&wake=server-1",
        f"off=sudo&wake={CARD}",
        f"uri={quote('qemu+tls://server-1/system', safe='')}&off=sudo&wake={CARD}",
    ],
)
def test_power_that_could_not_be_is_refused_when_the_host_is_written_down(knobs: str) -> None:
    with pytest.raises(EngineError, match=r"off|wake"):
        parse_profile(f"qemu?{knobs}")
