"""CPUs that more want than there are: what each machine is weighed by, in either version of control
groups, and how the version is found out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import libvirt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.model import Resources
from broker.domain.placement import HostLoad, Room
from broker.domain.settings import Share
from broker.engines.libvirt import xml
from broker.engines.libvirt.cpu_shares import GUARANTEED, SCALES, Groups, cpu_shares
from broker.engines.libvirt.groups import HostGroups, groups_here, told_by
from broker.engines.libvirt.knobs import parse_profile
from tests.contract.test_libvirt_profiles import TAGS, spec
from tests.support.builders import make_host

LOCAL = parse_profile("qemu")
DISTANT = parse_profile("qemu?uri=qemu%2Btls://host-7/system")
Machine = tuple[float, float, float]
"""CPUs, the part of them that is guaranteed, weight"""


def divided(cpus: float, machines: list[Machine], shares: list[int]) -> list[float]:
    """The CPUs of each machine while all of them are busy: in proportion to shares, and what one
    cannot use among the others."""
    got = [0.0] * len(machines)
    open_ = set(range(len(machines)))
    left = cpus
    while open_ and left > 1e-9:
        total = sum(shares[one] for one in open_)
        full = {one for one in open_ if left * shares[one] / total >= machines[one][0]}
        for one in full or open_:
            got[one] = machines[one][0] if full else left * shares[one] / total
        if not full:
            break
        left -= sum(got[one] for one in full)
        open_ -= full
    return got


def admitted(capacity: float, overcommit: float, wanted: list[Machine]) -> list[Machine]:
    """Those of them that placement lets onto one host."""
    host = make_host(capacity=Resources(cpus=capacity, memory_mib=10**9), overcommit_cpu=overcommit)
    room = Room(HostLoad(host=host, used=Resources(cpus=0, memory_mib=0), starting=0), {})
    found = []
    for cpus, part, weight in wanted:
        need, share = Resources(cpus=cpus, memory_mib=1), Share(cpus=part)
        if room.lacks(need, share) is None:
            room.used = (room.used[0] + cpus, *room.used[1:])
            room.reserved = (room.reserved[0] + cpus * part, *room.reserved[1:])
            found.append((cpus, part, weight))
    return found


MACHINES = st.lists(
    st.tuples(
        st.sampled_from([0.5, 1.0, 1.5, 2.0, 4.0, 8.0]),
        st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0]),
        st.sampled_from([0.25, 0.5, 1.0, 2.0, 4.0]),
    ),
    min_size=1,
    max_size=60,
)


@given(
    MACHINES, st.sampled_from([1.0, 2.0, 4.0, 8.0]), st.sampled_from([8.0, 16.0, 64.0]),
    st.sampled_from(Groups),
)  # fmt: skip
def test_no_machine_that_placement_admits_gets_less_than_the_bound_of_its_guarantee(
    wanted: list[Machine], overcommit: float, capacity: float, groups: Groups
) -> None:
    machines = admitted(capacity, overcommit, wanted)
    shares = [cpu_shares(groups, cpus=c, guarantee=g, weight=w) for c, g, w in machines]
    promised = sum(c * g for c, g, _ in machines)
    above = sum(w * c * (1 - g) for c, g, w in machines)
    bound = min(1.0, capacity * GUARANTEED / max(GUARANTEED * promised + above, 1e-9))
    # figures are whole numbers, of which the smallest are a few
    rounded = 1 - 0.5 / SCALES[groups].unit * 4
    for (cpus, part, _), got in zip(machines, divided(capacity, machines, shares), strict=True):
        assert got >= cpus * part * bound * rounded


def test_a_desktop_that_is_guaranteed_all_has_all_beside_busy_ones() -> None:
    machines: list[Machine] = [(4.0, 1.0, 1.0), *[(1.0, 0.0, 1.0)] * 8]
    for groups in Groups:
        shares = [cpu_shares(groups, cpus=c, guarantee=g, weight=w) for c, g, w in machines]
        got = divided(8, machines, shares)
        assert got[0] == 4
        assert got[1:] == pytest.approx([0.5] * 8)


def test_weights_and_sizes_divide_what_nobody_is_guaranteed() -> None:
    for groups in Groups:
        usual = cpu_shares(groups, cpus=1, guarantee=0, weight=1)
        assert cpu_shares(groups, cpus=4, guarantee=0, weight=1) == 4 * usual
        assert cpu_shares(groups, cpus=1, guarantee=0, weight=2) == 2 * usual
        assert cpu_shares(groups, cpus=2, guarantee=0, weight=0.5) == usual


@pytest.mark.parametrize("groups", Groups)
def test_shares_stay_within_what_the_version_takes(groups: Groups) -> None:
    scale = SCALES[groups]
    assert cpu_shares(groups, cpus=0.1, guarantee=0, weight=0.01) == scale.low
    assert cpu_shares(groups, cpus=512, guarantee=1, weight=100) == scale.high


# ------------------------------------------------------------------ which version it is


def test_the_version_is_that_which_has_the_cpu_controller(tmp_path: Path) -> None:
    assert groups_here(tmp_path) is None
    (tmp_path / "cgroup.controllers").write_text("io memory\n")
    assert groups_here(tmp_path) is None
    (tmp_path / "cpu,cpuacct").mkdir()
    (tmp_path / "cpu,cpuacct/cgroup.procs").touch()
    assert groups_here(tmp_path) is Groups.V1
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory\n")
    assert groups_here(tmp_path) is Groups.V2


class Domain:
    """A machine that is on, by its description and its shares now."""

    def __init__(self, shares: int, **described: Any) -> None:
        self.shares = shares
        self.text = xml.domain(spec(**described))

    def XMLDesc(self, _flags: int) -> str:  # noqa: N802 - as libvirt calls it
        return self.text

    def schedulerParameters(self) -> dict[str, int]:  # noqa: N802
        return {"cpu_shares": self.shares}


class Connection:
    def __init__(self, *domains: Domain) -> None:
        self.domains = domains

    def listAllDomains(self, _flags: int) -> list[Domain]:  # noqa: N802
        return list(self.domains)


def tagged(groups: str) -> Domain:
    return Domain(777, tags=type(TAGS)(installation_id="other", desktop_id="dsk_9", generation=1,
                                       groups=groups))  # fmt: skip


def test_a_machine_tells_by_what_it_was_given_or_by_what_it_has_unsaid() -> None:
    assert told_by(Domain(1024, groups=None)) is Groups.V1
    assert told_by(Domain(100, groups=None)) is Groups.V2
    # somebody set it since, or it is no control group's
    assert told_by(Domain(333, groups=None)) is None
    # 100 that somebody wrote is nobody's default
    assert told_by(Domain(100)) is None
    assert told_by(tagged("v2")) is Groups.V2
    assert told_by(tagged("v9")) is None


def test_a_distant_host_is_known_once_one_of_its_machines_tells() -> None:
    groups = HostGroups()
    assert groups.of(Connection(), DISTANT) is None
    assert groups.of(Connection(Domain(333), tagged("v2")), DISTANT) is Groups.V2
    assert groups.of(Connection(), DISTANT) is Groups.V2
    groups.forget()
    assert groups.of(Connection(), DISTANT) is None
    domain: Any = Domain(100, groups=None)
    assert groups.learn(domain, DISTANT) is Groups.V2
    assert groups.of(Connection(), DISTANT) is Groups.V2


def test_a_users_own_daemon_has_no_control_groups() -> None:
    place = parse_profile("qemu?uri=qemu:///session")
    assert HostGroups().of(Connection(Domain(100, groups=None)), place) is None


def test_a_host_that_does_not_answer_tells_nothing() -> None:
    class Silent(Connection):
        def listAllDomains(self, _flags: int) -> list[Domain]:  # noqa: N802
            raise libvirt.libvirtError("away")

    assert HostGroups().of(Silent(), DISTANT) is None
