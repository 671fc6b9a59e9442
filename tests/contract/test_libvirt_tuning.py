"""What a machine may take: as libvirt is told when it starts, and what is changed while it runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from broker.domain.model import Resources
from broker.domain.settings import EQUAL_SHARES, Limits, Share
from broker.engines.libvirt.cpu_shares import Groups
from broker.engines.libvirt.tuning import DISK_WEIGHT, UNLIMITED_KIB, Tuning
from tests.contract.test_libvirt_profiles import described

SIZE = Resources(cpus=2, memory_mib=2048)
LARGE = Resources(cpus=1.5, memory_mib=2048, disk_iops=500, network_mbit=100)
LIMITS = Limits(disk_mib_s=20, network_peak_mbit=200, network_burst_mib=8)
HALF = Share(memory=0.5)
NOTHING, NO_LIMITS = Share(), Limits()
TWICE = Share(cpus=2.0, memory=1.0, disk=2.0, network=1.0)


USUAL_SHARES = 512
"""of 2 CPUs of weight 1, in control groups of version 1"""


def tuning(
    resources: Resources = SIZE, guarantee: Share = NOTHING, weights: Share = EQUAL_SHARES,
    limits: Limits = NO_LIMITS, groups: Groups | None = Groups.V1,
) -> Tuning:  # fmt: skip
    return Tuning.of(resources, guarantee, weights, limits, groups)


class CannotError(Exception):
    """Stands for libvirt's own."""


class Machine:
    """A running machine of libvirt's that remembers what it was told. `cannot`: its host's."""

    def __init__(self, *cannot: str, **now: Mapping[str, int]) -> None:
        self.now = {name: dict(value) for name, value in now.items()}
        self.told: list[tuple[str, dict[str, int]]] = []
        self.cannot = cannot

    def __getattr__(self, name: str) -> Any:
        what = re.sub(r"^set", "", name).removesuffix("Flags").lower()

        def ask(*words: Any) -> dict[str, int]:
            del words
            if what in self.cannot:
                raise CannotError(what)
            return self.now.get(what, {})

        def put(*words: Any) -> None:
            if what in self.cannot:
                raise CannotError(what)
            self.told.append((what, words[-2]))

        return put if name.startswith("set") else ask

    def tuned(
        self, tuning: Tuning, cpus: float = 2, mac: str = "", *, container: bool = False
    ) -> dict[str, dict[str, int]]:
        self.told.clear()
        tuning.apply(self, 1, cpus=cpus, mac=mac, cannot=CannotError, container=container)
        return dict(self.told)


def like_any_other() -> Machine:
    return Machine(
        schedulerparameters={
            "cpu_shares": USUAL_SHARES, "global_period": 100_000, "global_quota": 200_000,
        },
        memoryparameters={"soft_limit": UNLIMITED_KIB, "hard_limit": UNLIMITED_KIB},
        blkioparameters={"weight": 0},
        blockiotune={"total_bytes_sec": 0, "total_iops_sec": 0},
        interfaceparameters={"inbound.average": 0},
    )  # fmt: skip


def test_limits_are_what_libvirt_is_told() -> None:
    root = described(
        "qemu?network=lan", resources=LARGE, guarantee=HALF, weights=TWICE, limits=LIMITS
    )
    assert root.findtext("blkiotune/weight") == str(2 * DISK_WEIGHT)
    assert root.findtext("devices/disk/iotune/total_bytes_sec") == str(20 * 1024 * 1024)
    for way in ("inbound", "outbound"):
        found = root.find(f"devices/interface/bandwidth/{way}")
        assert found is not None
        # KiB/s of 100 and of 200 Mbit/s, and KiB of 8 MiB
        assert found.attrib == {"average": "12207", "peak": "24414", "burst": "8192"}


def test_a_machine_like_any_other_is_not_tuned() -> None:
    root = described("qemu?network=lan")
    for path in (
        "memtune", "blkiotune", "memoryBacking", "devices/disk/iotune",
        "devices/interface/bandwidth",
    ):  # fmt: skip
        assert root.find(path) is None, path
    assert [one.tag for one in root.iterfind("cputune/*")] == ["shares"]
    assert described("qemu?network=lan", groups=None).find("cputune") is None
    assert root.find("devices/memballoon/stats[@period='10']") is not None


def test_a_peak_without_an_average_is_left_out() -> None:
    root = described("qemu?network=lan", limits=LIMITS)
    assert root.find("devices/interface/bandwidth") is None


def test_pages_are_shared_unless_the_pool_says_no() -> None:
    assert described(share_pages=False).find("memoryBacking/nosharepages") is not None
    assert described().find("memoryBacking") is None


@pytest.mark.parametrize(
    ("weight", "told"), [(0.001, "10"), (0.5, "50"), (2, "200"), (999, "1000")]
)
def test_a_disk_weight_stays_within_what_the_controller_takes(weight: float, told: str) -> None:
    share = Share(cpus=1.0, memory=1.0, disk=weight, network=1.0)
    assert described(weights=share).findtext("blkiotune/weight") == told


def test_a_running_machine_is_told_what_differs_and_no_more() -> None:
    machine = like_any_other()
    assert machine.tuned(tuning(), mac="02:00:00:00:00:01") == {}
    wanted = tuning(LARGE, HALF, TWICE, LIMITS)
    assert machine.tuned(wanted, 1.5, mac="02:00:00:00:00:01") == {
        "schedulerparameters": {"cpu_shares": 768, "global_quota": 150_000},
        "memoryparameters": {"soft_limit": 1024 * 1024},
        "blkioparameters": {"weight": 200},
        "blockiotune": {"total_bytes_sec": 20 * 1024 * 1024, "total_iops_sec": 500},
        "interfaceparameters": {
            "inbound.average": 12207, "inbound.peak": 24414, "inbound.burst": 8192,
            "outbound.average": 12207, "outbound.peak": 24414, "outbound.burst": 8192,
        },
    }  # fmt: skip
    assert "interfaceparameters" not in machine.tuned(wanted, 1.5)


def test_what_was_limited_is_let_go_again() -> None:
    machine = Machine(
        schedulerparameters={
            "cpu_shares": 2048, "global_period": 100_000, "global_quota": 150_000,
        },
        memoryparameters={"soft_limit": 1024},
        blkioparameters={"weight": 1000},
        blockiotune={"total_bytes_sec": 5, "total_iops_sec": 5},
        interfaceparameters={"inbound.average": 5, "outbound.average": 5},
    )  # fmt: skip
    assert machine.tuned(tuning(), mac="02:00:00:00:00:01") == {
        "schedulerparameters": {"cpu_shares": USUAL_SHARES, "global_quota": 200_000},
        "memoryparameters": {"soft_limit": UNLIMITED_KIB},
        "blkioparameters": {"weight": DISK_WEIGHT},
        "blockiotune": {"total_bytes_sec": 0, "total_iops_sec": 0},
        "interfaceparameters": {
            "inbound.average": 0, "inbound.peak": 0, "inbound.burst": 0,
            "outbound.average": 0, "outbound.peak": 0, "outbound.burst": 0,
        },
    }  # fmt: skip


def test_a_host_without_a_controller_is_left_alone_until_somebody_wants_it() -> None:
    machine = like_any_other()
    machine.cannot = ("blkioparameters", "memoryparameters")
    assert machine.tuned(tuning()) == {}
    with pytest.raises(CannotError):
        machine.tuned(tuning(weights=TWICE))
    machine.cannot = ("schedulerparameters",)
    with pytest.raises(CannotError):
        machine.tuned(tuning())


def test_where_control_groups_are_not_known_no_figure_of_theirs_is_given() -> None:
    assert like_any_other().tuned(tuning(SIZE, HALF, groups=None)) == {}
    kept = described(guarantee=HALF, groups=None)
    assert kept.find("memtune") is None
    assert kept.find("cputune") is None
    # a part of a CPU means the same to both versions
    assert described(resources=LARGE, groups=None).findtext("cputune/global_quota") == "150000"


def test_a_minimum_of_memory_is_never_made_a_ceiling() -> None:
    """What version 2 calls a soft limit holds the machine up above it."""
    assert described(guarantee=HALF, groups=Groups.V1).find("memtune/soft_limit") is not None
    assert described(guarantee=HALF, groups=Groups.V2).find("memtune") is None
    machine = like_any_other()
    machine.now["memoryparameters"] = {"soft_limit": 1024 * 1024}
    told = machine.tuned(tuning(SIZE, HALF, groups=Groups.V2))
    assert told["memoryparameters"] == {"soft_limit": UNLIMITED_KIB}


def test_a_container_is_told_what_libvirt_changes_of_one_that_runs() -> None:
    machine = like_any_other()
    machine.now["schedulerparameters"] = {
        "cpu_shares": 1, "vcpu_period": 100_000, "vcpu_quota": 200_000,
    }  # fmt: skip
    wanted = tuning(LARGE, HALF, TWICE, LIMITS)
    assert machine.tuned(wanted, 1.5, mac="02:00:00:00:00:01", container=True) == {
        "schedulerparameters": {"cpu_shares": 768, "vcpu_quota": 150_000},
        "memoryparameters": {"soft_limit": 1024 * 1024},
        "blkioparameters": {"weight": 200},
    }


def test_a_machine_that_moves_has_the_figures_of_the_host_that_it_comes_to() -> None:
    root = described("qemu", resources=LARGE, guarantee=HALF, weights=TWICE)
    by_hand = root.find("cputune")
    assert by_hand is not None
    ET.SubElement(by_hand, "vcpupin", {"vcpu": "0", "cpuset": "1"})
    tuning(LARGE, HALF, TWICE, groups=Groups.V2).rewrite(root)
    assert root.findtext("cputune/shares") == "60"
    assert root.find("memtune/soft_limit") is None
    assert root.findtext("cputune/global_quota") == "150000"
    assert root.find("cputune/vcpupin") is not None
    tuning(LARGE, HALF, TWICE, groups=Groups.V1).rewrite(root)
    assert root.findtext("cputune/shares") == "768"
    assert root.findtext("memtune/soft_limit") == str(1024 * 1024)
    tuning(LARGE, HALF, TWICE, groups=None).rewrite(root)
    assert root.find("cputune/shares") is None
    assert root.find("memtune/soft_limit") is None
