"""Boots that share a host: the arithmetic, without a clock."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.model import Resources
from broker.engines.simulated import load_calibration
from broker.engines.simulated.hosts import SimulatedHost
from broker.engines.simulated.knobs import Knobs
from broker.engines.simulated.profile import HostUse, Profile, slowdown
from tests.support.builders import make_host

# two boots at once have all the storage they ask for; CPUs and memory are no limit
PROFILE = replace(
    load_calibration().profiles["bare-metal"],
    boot_iops=100.0, host_iops=200.0, boot_cpus=0.001, steady_cpus=0.001,
)  # fmt: skip


def host(profile: Profile = PROFILE) -> SimulatedHost:
    place = make_host(capacity=Resources(cpus=64, memory_mib=1_000_000))
    return SimulatedHost(place, profile, Knobs(), now=0.0)


def boot(place: SimulatedHost, *names: str, work_s: float = 10.0) -> None:
    for name in names:
        place.add(name, 1024)
        place.boot(name, work_s)


def test_boots_below_the_knee_do_not_slow_each_other_down() -> None:
    place = host()
    boot(place, "a", "b")
    assert place.settle(9.99) == []
    assert place.settle(10.0) == ["a", "b"]


def test_boots_past_the_knee_share_what_there_is() -> None:
    place = host()
    boot(place, "a", "b", "c", "d")
    assert place.settle(19.99) == []
    assert place.settle(20.0) == ["a", "b", "c", "d"]


def test_boots_go_faster_again_when_others_are_done() -> None:
    place = host()
    boot(place, "a", "b", work_s=5.0)
    boot(place, "c", "d", work_s=10.0)
    # at half speed until a and b end at 10, then alone with 5 left
    assert place.settle(10.0) == ["a", "b"]
    assert place.next_at() == pytest.approx(15.0)


def test_a_machine_removed_in_the_storm_gives_its_share_back() -> None:
    place = host()
    boot(place, "a", "b", "c", "d")
    place.settle(10.0)
    place.remove("a")
    place.stop("b")
    assert place.next_at() == pytest.approx(15.0)


def test_a_long_look_away_gives_the_same_ends_as_looking_often() -> None:
    often, once = host(), host()
    for place in (often, once):
        boot(place, "a", work_s=3.0)
        boot(place, "b", "c", work_s=7.0)
    seen = [name for tenth in range(200) for name in often.settle(tenth / 10)]
    assert once.settle(20.0) == seen == ["a", "b", "c"]


def test_running_desktops_leave_boots_fewer_cpus() -> None:
    profile = load_calibration().profiles["bare-metal"]
    use = HostUse(cpus=16, memory_total_mib=64_000, memory_mib=0, booting=4, running=0)
    assert slowdown(profile, replace(use, running=60)) > slowdown(profile, use)


def test_memory_past_the_hosts_own_slows_every_boot() -> None:
    profile = load_calibration().profiles["bare-metal"]
    use = HostUse(cpus=64, memory_total_mib=1000, memory_mib=1000, booting=1, running=0)
    assert slowdown(profile, use) == 1
    assert slowdown(profile, replace(use, memory_mib=1500)) == pytest.approx(1.5)


@pytest.mark.parametrize("name", ["bare-metal", "paravirtual", "hosted", "container"])
@given(booting=st.integers(1, 300), running=st.integers(0, 300))
def test_one_more_boot_never_makes_the_others_faster(name: str, booting: int, running: int) -> None:
    profile = load_calibration().profiles[name]
    use = HostUse(
        cpus=48, memory_total_mib=768_000, memory_mib=500_000, booting=booting, running=running
    )
    assert 1 <= slowdown(profile, use) <= slowdown(profile, replace(use, booting=booting + 1))


def test_the_kinds_of_hypervisor_differ_as_told() -> None:
    profiles = load_calibration().profiles
    use = HostUse(cpus=48, memory_total_mib=768_000, memory_mib=0, booting=20, running=0)
    storm = {name: profiles[name].boot_s * slowdown(profiles[name], use) for name in profiles}
    assert storm["container"] < storm["paravirtual"] < storm["bare-metal"] < storm["hosted"]


def test_the_published_boot_storm_fits_its_throttle() -> None:
    # RA-2020: 50 new desktops a minute over 6 nodes and at most 100 starting at once, which by
    # Little's law allows 120 s a boot; with 17 at once on one node ours must stay below that
    profile = load_calibration().profiles["bare-metal"]
    use = HostUse(cpus=48, memory_total_mib=1_500_000, memory_mib=0, booting=17, running=133)
    assert profile.boot_s * slowdown(profile, use) < 120


@given(st.lists(st.floats(0.1, 60), min_size=1, max_size=12), st.floats(0.01, 7))
def test_every_boot_ends_in_the_order_of_its_work(work: list[float], step: float) -> None:
    place = host()
    for number, work_s in enumerate(work):
        boot(place, f"{number:02}", work_s=work_s)
    ended: list[str] = []
    now = 0.0
    while len(ended) < len(work):
        now += step
        ended += place.settle(now)
        assert now < 60 * len(work) + step, "a boot never ends"
    assert [work[int(name)] for name in ended] == pytest.approx(sorted(work))
