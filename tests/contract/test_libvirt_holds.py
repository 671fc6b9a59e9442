"""Which of a pool's resources machines are held to at a host is told, and which they are not."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from broker.domain.inspection import HELD
from broker.domain.model import Resources
from broker.domain.settings import Limits, Share
from broker.engines.libvirt import describe, xml
from broker.engines.libvirt.abilities import abilities
from broker.engines.libvirt.cpu_shares import Groups
from broker.engines.libvirt.knobs import parse_profile
from tests.contract.test_libvirt_kinds import found
from tests.contract.test_libvirt_profiles import spec

NAMES = frozenset(HELD)
NOWHERE = frozenset({"guarantee_disk", "guarantee_network", "weights_memory", "weights_network"})


def told(profile: str, groups: Groups | None) -> tuple[set[str], Mapping[str, str]]:
    """What machines are held to, and why not to the rest."""
    all_ = abilities(parse_profile(profile), found(domain_types=("qemu", "lxc")), None, groups)
    can = {one.name for one in all_.can} & NAMES
    return can, {one.name: one.says for one in all_.cannot if one.name in NAMES}


@pytest.mark.parametrize(
    ("profile", "groups", "lacks"),
    [
        ("qemu?network=lan", Groups.V1, set()),
        ("qemu?network=lan", Groups.V2, {"guarantee_memory"}),
        ("qemu", Groups.V1, {"limits_network"}),
        ("qemu?network=lan&uri=qemu%2Btls://host-7/system", None,
         {"guarantee_cpus", "guarantee_memory", "weights_cpus"}),
        ("lxc?network=lan", Groups.V1, {"limits_disk"}),
        ("lxc?network=lan", Groups.V2, {"limits_disk", "guarantee_memory"}),
        ("test", None, NAMES),
    ],
)  # fmt: skip
def test_each_of_a_pools_resources_is_held_to_or_said_not_to_be(
    profile: str, groups: Groups | None, lacks: set[str]
) -> None:
    can, cannot = told(profile, groups)
    assert cannot.keys() == lacks | NOWHERE
    assert can == NAMES - cannot.keys()
    assert all(cannot.values())


def test_a_guarantee_without_anything_behind_it_says_what_it_rests_on() -> None:
    _, cannot = told("qemu", Groups.V2)
    assert "placement" in cannot["guarantee_memory"]
    assert "version 2" in cannot["guarantee_memory"]
    _, unknown = told("qemu?uri=qemu%2Btls://host-7/system", None)
    assert "version" in unknown["guarantee_memory"]
    _, own = told("qemu?uri=qemu:///session", None)
    assert "own daemon" in own["weights_cpus"]


def test_the_page_of_a_host_names_its_control_groups_and_how_memory_moves() -> None:
    place = parse_profile("qemu?moves_tls=yes")
    facts = dict(abilities(place, found(), None, Groups.V2).facts)
    assert facts["control groups"] == "version 2"
    assert "encrypted" in facts["memory of those"]


def test_a_containers_card_has_its_limits_and_its_root_none() -> None:
    size = Resources(cpus=1, memory_mib=64, disk_iops=400, network_mbit=80)
    root = xml.parse(
        describe.domain(
            spec("lxc?network=lan", resources=size, limits=Limits(disk_mib_s=5),
                 guarantee=Share(memory=0.5), weights=Share(cpus=2.0, disk=3.0))
        )
    )  # fmt: skip
    for way in ("inbound", "outbound"):
        assert root.find(f"devices/interface/bandwidth/{way}[@average='9765']") is not None
    assert root.findtext("cputune/shares") == "512"
    assert root.findtext("cputune/quota") == "100000"
    assert root.findtext("memtune/soft_limit") == str(32 * 1024)
    assert root.findtext("blkiotune/weight") == "300"
