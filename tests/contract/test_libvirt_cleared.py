"""What removed images left in a storage pool goes, and nothing that anything stands on."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import libvirt
import pytest

from broker.domain.errors import EngineError
from broker.engines.libvirt import cleared, xml
from broker.engines.libvirt.cleared import Clearing
from broker.engines.libvirt.knobs import parse_profile
from broker.engines.libvirt.machines import Machines
from broker.engines.libvirt.tags import machine_uuid, owner_mark
from tests.support.engines import IMAGE
from tests.support.libvirt_cases import INSTALLATION, libvirt_test_case
from tests.support.libvirt_lab import remove

OLD = replace(IMAGE, id="img_9", name="studio", version=9)
NEW = replace(OLD, id="img_10", version=10)
OWN, OTHERS = owner_mark(INSTALLATION), owner_mark("ins_2")
COPY = "studio-v9.qcow2"
MARK = f"trivium-{OWN}-{COPY}.mark"
GOLDEN = f"studio-v9-golden-{OWN}0123456789ab"
DISK, MEMORY = f"{GOLDEN}-gld_1.qcow2", f"{GOLDEN}-gld_1.save"

BELOW = f"""<source pool='trivium' volume='x.qcow2'/><backingStore type='file'>
<format type='qcow2'/><source file='/trivium/{DISK}'/></backingStore>"""


class Driver:
    """libvirt's test driver with a pool of desktops, in which files are as they are described."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.pool = connection.storagePoolLookupByName("trivium")
        self.locks: dict[str, threading.Lock] = defaultdict(threading.Lock)

    def file(self, name: str, on: str = "", form: str = "qcow2") -> None:
        backing = f"/trivium/{on}" if on else ""
        self.pool.createXML(xml.volume(name, 1 << 20, backing, form))

    def files(self) -> set[str]:
        return {one for one in self.pool.listVolumes() if not one.startswith(IMAGE.name)}

    def left(self) -> None:
        """By a version of which a golden desktop was booted."""
        self.file(COPY)
        self.file(MARK, form="raw")
        self.file(DISK, on=COPY)
        self.file(MEMORY, form="raw")

    def machine(self, source: str, *, name: str = "theirs", on: bool = True) -> None:
        text = f"""<domain type='test'><name>{name}</name><memory>1024</memory>
            <uuid>{machine_uuid(INSTALLATION, name.removeprefix("trivium-"))}</uuid>
            <os><type>hvm</type></os><devices><disk type='volume' device='disk'>
            <driver name='qemu' type='qcow2'/>{source}<target dev='vda'/></disk>
            </devices></domain>"""
        if on:
            self.connection.createXML(text, 0)
        else:
            self.connection.defineXML(text)

    def clear(self, *removed: Any) -> set[str]:
        machines = Machines(self.connection, "server-1", parse_profile("test"), INSTALLATION)
        clearing = Clearing(
            machines, "", lock=self.locks.__getitem__, check=lambda: None, mark=uuid4().hex
        )
        return set(clearing.clear(removed or (OLD,)))


@pytest.fixture
def driver() -> Iterator[Driver]:
    libvirt_test_case()
    connection = libvirt.open("test:///default")
    found = Driver(connection)
    yield found
    for domain in connection.listAllDomains(0):
        remove(domain)
    for name in found.files():
        found.pool.storageVolLookupByName(name).delete()
    connection.close()


def test_a_copy_its_mark_and_golden_desktops_go_and_those_of_other_versions_stay(
    driver: Driver,
) -> None:
    driver.left()
    driver.file("studio-v10.qcow2")
    driver.file(f"trivium-{OWN}-studio-v10.qcow2.mark", form="raw")
    driver.file(f"studio-v10-golden-{OWN}0123456789ab-gld_2.qcow2", on="studio-v10.qcow2")
    before = driver.files()
    assert driver.clear() == {COPY, MARK, DISK, MEMORY}
    assert driver.files() == before - {COPY, MARK, DISK, MEMORY}
    assert driver.clear() == set()
    assert driver.clear(NEW) == before - {COPY, MARK, DISK, MEMORY}


def test_what_a_clone_stands_on_stays_with_all_that_this_stands_on(driver: Driver) -> None:
    driver.left()
    driver.file("dsk_1-g3.qcow2", on=DISK)
    assert driver.clear() == {MEMORY}
    assert {COPY, MARK, DISK} <= driver.files()
    driver.pool.storageVolLookupByName("dsk_1-g3.qcow2").delete()
    assert driver.clear() == {COPY, MARK, DISK}


def test_a_copy_on_which_a_linked_clone_stands_stays(driver: Driver) -> None:
    driver.file(COPY)
    driver.file(MARK, form="raw")
    driver.file("dsk_1-g1.qcow2", on=COPY)
    assert driver.clear() == set()
    assert COPY in driver.files()


@pytest.mark.parametrize("on", [True, False], ids=["runs", "is off"])
@pytest.mark.parametrize(
    "source",
    [f"<source pool='trivium' volume='{DISK}'/>", BELOW],
    ids=["itself", "below its disk"],
)
def test_what_a_machine_is_described_with_stays_whoever_made_it(
    driver: Driver, source: str, *, on: bool
) -> None:
    driver.left()
    driver.file("x.qcow2")
    driver.machine(source, on=on)
    assert driver.clear() == {MEMORY}
    assert {COPY, MARK, DISK} <= driver.files()


def test_nothing_goes_where_a_desktops_disk_does_not_say_what_it_stands_on(
    driver: Driver,
) -> None:
    driver.left()
    driver.file("dsk_1-g1.qcow2", form="raw")
    with pytest.raises(EngineError, match=r"cannot read what dsk_1-g1\.qcow2 stands on"):
        driver.clear()
    assert {COPY, MARK, DISK, MEMORY} <= driver.files()


def test_nothing_goes_where_a_machine_has_a_disk_that_the_pool_does_not_show(
    driver: Driver,
) -> None:
    driver.left()
    driver.machine("<source pool='trivium' volume='dsk_1-g1.qcow2'/>", on=False)
    with pytest.raises(EngineError, match=r"does not see dsk_1-g1\.qcow2"):
        driver.clear()
    assert {COPY, MARK, DISK, MEMORY} <= driver.files()


def test_what_does_not_carry_this_installations_mark_stays(driver: Driver) -> None:
    driver.file(COPY)
    driver.file(f"studio-v9-golden-{OTHERS}0123456789ab-gld_1.qcow2", on=COPY)
    driver.file(f"trivium-{OTHERS}-{COPY}.mark", form="raw")
    before = driver.files()
    assert driver.clear() == set()
    assert driver.files() == before


def test_a_copy_that_another_installation_brought_too_is_left_to_it(driver: Driver) -> None:
    driver.file(COPY)
    driver.file(MARK, form="raw")
    driver.file(f"trivium-{OTHERS}-{COPY}.mark", form="raw")
    assert driver.clear() == {MARK}
    assert COPY in driver.files()


def test_a_copy_that_this_broker_is_bringing_is_left_for_the_next_look(driver: Driver) -> None:
    driver.left()
    with driver.locks[COPY]:
        assert driver.clear() == {DISK, MEMORY}
    assert driver.clear() == {COPY, MARK}


def test_half_a_copy_that_somebody_writes_stays_until_it_stands_still(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.file(COPY, form="raw")
    driver.file(MARK, form="raw")
    monkeypatch.setattr(cleared, "is_coming", lambda *_: True)
    assert driver.clear() == set()
    monkeypatch.setattr(cleared, "is_coming", lambda *_: False)
    assert driver.clear() == {COPY, MARK}


def test_a_golden_desktop_that_boots_for_nobody_is_ended_and_one_of_another_is_not(
    driver: Driver,
) -> None:
    driver.left()
    driver.machine(f"<source pool='trivium' volume='{DISK}'/>", name=f"trivium-{GOLDEN}")
    assert driver.clear() == {COPY, MARK, DISK, MEMORY}
    other = f"studio-v10-golden-{OWN}0123456789ab"
    driver.file(f"{other}-gld_1.qcow2")
    driver.machine(
        f"<source pool='trivium' volume='{other}-gld_1.qcow2'/>", name=f"trivium-{other}"
    )
    driver.clear()
    assert driver.connection.lookupByName(f"trivium-{other}").isActive()


def test_no_more_is_deleted_at_once_than_allowed(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleared, "IMAGES_CLEARED_MAX", 1)
    driver.left()
    done = [driver.clear() for _ in range(5)]
    assert [len(one) for one in done] == [1, 1, 1, 1, 0]
