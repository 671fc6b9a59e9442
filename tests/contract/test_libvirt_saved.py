"""libvirt's file of a saved machine is given to another machine, or left alone."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from broker.domain.errors import EngineError
from broker.domain.model import Resources
from broker.domain.settings import Limits, Share
from broker.engines.libvirt import xml
from broker.engines.libvirt.drift import facts
from broker.engines.libvirt.instant import as_clone, golden_name
from broker.engines.libvirt.knobs import Place, parse_profile
from broker.engines.libvirt.saved import HEADER_BYTES, SavedHead
from broker.ports import Operation
from tests.contract.test_libvirt_profiles import described
from tests.support.builders import make_desktop, make_host
from tests.support.engines import IMAGE

ROOM = 400
COOKIE = b"<cookie/>\0"


def saved(text: bytes = b"<domain/>", cookie: bytes = b"", **changes: object) -> bytes:
    """A file's head as libvirt writes it."""
    fields: dict[str, object] = {
        "magic": b"LibvirtQemudSave", "version": 2, "room": ROOM, "ran": 1, "compressed": 3,
        "cookie_at": len(text) + 1 if cookie else 0,
    }  # fmt: skip
    header = struct.pack("<16s5I56x", *(fields | changes).values())
    return header + (text + b"\0" + cookie).ljust(ROOM, b"\0")


def test_another_description_takes_the_place_of_the_first_and_nothing_else_changes() -> None:
    before = saved(cookie=COOKIE)
    head = SavedHead.read(before[:HEADER_BYTES])
    after = head.with_description(before[HEADER_BYTES:], "<domain><name>other</name></domain>")
    again = SavedHead.read(after[:HEADER_BYTES])
    assert len(after) == len(before)
    assert again.description(after[HEADER_BYTES:]) == "<domain><name>other</name></domain>"
    assert after[HEADER_BYTES + again.cookie_at :].startswith(COOKIE)
    assert (again.room, again.was_running, again.compressed) == (ROOM, 1, 3)


def test_a_file_without_a_cookie_gets_none() -> None:
    before = saved()
    head = SavedHead.read(before[:HEADER_BYTES])
    after = head.with_description(before[HEADER_BYTES:], "<other/>")
    assert SavedHead.read(after[:HEADER_BYTES]).cookie_at == 0
    assert after[HEADER_BYTES:] == b"<other/>".ljust(ROOM, b"\0")


def test_a_description_that_would_run_into_the_memory_is_refused() -> None:
    before = saved(cookie=COOKIE)
    head = SavedHead.read(before[:HEADER_BYTES])
    fits = "x" * (ROOM - len(COOKIE) - 1)
    assert len(head.with_description(before[HEADER_BYTES:], fits)) == len(before)
    with pytest.raises(EngineError):
        head.with_description(before[HEADER_BYTES:], fits + "x")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        saved()[: HEADER_BYTES - 1],
        saved(magic=b"LibvirtQemudPart")[:HEADER_BYTES],
        saved(version=3)[:HEADER_BYTES],
        saved(room=1 << 31)[:HEADER_BYTES],
        saved(cookie_at=ROOM + 1)[:HEADER_BYTES],
    ],
)
def test_what_is_not_a_whole_file_of_a_known_form_is_refused(data: bytes) -> None:
    with pytest.raises(EngineError):
        SavedHead.read(data)


def test_hosts_that_share_a_pool_have_golden_desktops_of_their_own() -> None:
    """What wakes a clone writes into the saved file, and two hosts would boot into one disk."""
    operation = Operation(
        id="job_1", desktop=make_desktop(), host=make_host(), image=IMAGE, deadline_s=60
    )
    place = parse_profile("qemu?storage=shared&clone=instant")
    first, second, again = (
        golden_name("ins_1", host, place, operation) for host in ("host-a", "host-b", "host-a")
    )
    assert first == again
    assert first != second


def test_one_memory_serves_desktops_whose_guests_see_the_same_machine() -> None:
    place = parse_profile("qemu?clone=instant")

    def named(place: Place = place, **size: float) -> str:
        resources = Resources(**({"cpus": 2, "memory_mib": 1024} | size))  # type: ignore[arg-type]
        operation = Operation(
            id="job_1", desktop=make_desktop(resources=resources), host=make_host(), image=IMAGE,
            deadline_s=60, weights=Share(cpus=size.get("cpus", 1.0)),
        )  # fmt: skip
        return golden_name("ins_1", "host-a", place, operation)

    alike = {named(), named(cpus=1.5), named(disk_iops=400), named(network_mbit=50)}
    assert len(alike) == 1
    others = {
        named(cpus=3), named(memory_mib=2048), named(parse_profile("qemu?clone=instant&cpu=max"))
    }  # fmt: skip
    assert len(others) == 3
    assert not alike & others


def test_a_clone_brings_all_of_its_own_that_its_guest_does_not_see() -> None:
    plain = described(resources=Resources(cpus=1, memory_mib=1024))
    own: dict[str, Any] = {
        "resources": Resources(cpus=0.5, memory_mib=1024, disk_iops=400),
        "guarantee": Share(memory=0.5),
        "weights": Share(cpus=2.0, disk=3.0),
        "limits": Limits(disk_mib_s=20),
        "share_pages": False,
    }
    clone = described("qemu?spice=yes", **own)
    both = facts(clone)
    woken = xml.parse(as_clone(xml.text_of(plain), clone))
    assert facts(woken) == both
    assert woken.find("memoryBacking/nosharepages") is not None
    # and nothing stays of a golden desktop, or of a clone before, that had more
    again = xml.parse(as_clone(xml.text_of(clone), plain))
    assert facts(again) == facts(plain)
    for path in ("memtune", "blkiotune", "memoryBacking", "devices/disk/iotune"):
        assert again.find(path) is None
