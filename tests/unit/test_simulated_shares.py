"""What is contended on a simulated host is divided by weight, and nobody gets less than his own."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.model import Resources
from broker.domain.settings import EQUAL_SHARES, Share
from broker.engines.simulated import load_calibration
from broker.engines.simulated.hosts import SimulatedHost
from broker.engines.simulated.knobs import Knobs
from broker.engines.simulated.shares import Claim, parts
from tests.support.builders import make_desktop, make_host
from tests.support.clock import ManualClock
from tests.support.engines import during, listening, simulated_case, simulated_engine

# one boot at once has all the storage it asks for; CPUs and memory are no limit
PROFILE = replace(
    load_calibration().profiles["bare-metal"],
    boot_iops=100.0, host_iops=100.0, boot_cpus=0.001, steady_cpus=0.001,
)  # fmt: skip
SCARCE_CPUS = replace(PROFILE, boot_iops=0.001, boot_cpus=64.0, cpu_factor=1.0)


def weighing(**weights: float) -> Claim:
    return Claim(weights=replace(EQUAL_SHARES, **weights))


def booting(claims: dict[str, Claim], profile: object = PROFILE) -> SimulatedHost:
    host = make_host(capacity=Resources(cpus=64, memory_mib=1_000_000))
    place = SimulatedHost(host, profile, Knobs(), 0.0, claims)  # type: ignore[arg-type]
    for name in claims:
        place.add(name, 1024)
        place.boot(name, 10.0)
    return place


def test_who_weighs_three_times_as_much_gets_three_times_as_much_of_the_disk() -> None:
    place = booting({"heavy": weighing(disk=3.0), "light": weighing()})
    # three quarters of the disk: 10 s of work in 13.3 s; then the other goes on alone
    assert place.settle(13.33) == []
    assert place.settle(13.34) == ["heavy"]
    assert place.settle(19.99) == []
    assert place.settle(20.01) == ["light"]


def test_where_cpus_are_scarce_their_weights_count() -> None:
    claims = {"heavy": weighing(cpus=3.0), "light": weighing(disk=9.0)}
    place = booting(claims, SCARCE_CPUS)
    assert place.settle(13.5) == ["heavy"]


def test_without_contention_weights_do_not_matter() -> None:
    claims = {"heavy": weighing(disk=100.0), "light": weighing()}
    place = booting(claims, replace(PROFILE, host_iops=200.0))
    assert place.settle(10.0) == ["heavy", "light"]


def test_nobody_gets_less_than_he_is_guaranteed() -> None:
    kept = Claim(weights=Share(disk=0.001), guarantee=Share(disk=0.5))
    place = booting({"kept": kept, **{f"other{n}": weighing(disk=50.0) for n in range(9)}})
    assert place.settle(19.9) == []
    assert place.settle(20.1) == ["kept"]


def test_a_change_of_weights_counts_from_then_on() -> None:
    claims = {"a": weighing(), "b": weighing()}
    place = booting(claims)
    place.settle(10.0)
    claims["a"] = weighing(disk=4.0)
    # both have 5 s left; a at four fifths
    assert place.settle(16.2) == []
    assert place.settle(16.3) == ["a"]


@pytest.mark.parametrize("resource", ["disk", "network"])
def test_transfers_share_by_weight(resource: str) -> None:
    place = booting({})
    place._claims = {"heavy": weighing(**{resource: 3.0}), "light": weighing()}
    place.transfers |= {"heavy", "light"}
    assert place.sharing("heavy", resource) == pytest.approx(4 / 3)  # type: ignore[arg-type]
    assert place.sharing("light", resource) == pytest.approx(4)  # type: ignore[arg-type]


NUMBERS = st.floats(0, 100)
CLAIMS = st.dictionaries(
    st.text(min_size=1, max_size=3),
    st.builds(
        lambda weight, floor: Claim(weights=Share(cpus=weight), guarantee=Share(cpus=floor)),
        NUMBERS,
        st.floats(0, 1),
    ),
    min_size=1,
    max_size=6,
)


@given(CLAIMS, st.floats(0.1, 8))
def test_the_parts_add_up_and_keep_to_guarantees(claims: dict[str, Claim], total: float) -> None:
    given_out = parts(total, claims, "cpus")
    assert sum(given_out.values()) == pytest.approx(min(total, len(claims)), rel=1e-6)
    assert all(0 <= part <= 1 for part in given_out.values())
    promised = sum(claim.guarantee.cpus for claim in claims.values())
    for one, claim in claims.items():
        if promised <= total:
            assert given_out[one] >= claim.guarantee.cpus - 1e-9


async def test_the_engine_takes_weights_from_its_operations() -> None:
    clock = ManualClock()
    engine = simulated_engine(clock=clock, speed=1)
    case = simulated_case()
    async with listening(engine):
        names = [f"dsk_{number}" for number in range(3)]
        create = [
            engine.create(case.operation(f"job_{one}", make_desktop(id=one, name=one)))
            for one in names
        ]
        assert await during(clock, *create) == [None, None, None]
        asked = replace(
            case.operation("job_more", make_desktop(id="dsk_0", name="dsk_0")),
            weights=Share(cpus=9.0, memory=1.0, disk=9.0, network=1.0),
            guarantee=Share(disk=0.25),
        )
        assert await during(clock, engine.resize(asked, asked.desktop.resources)) == [None]
        assert engine.plant.claims["dsk_0"] == Claim(
            weights=asked.weights, guarantee=asked.guarantee
        )
        assert engine.plant.claims["dsk_1"] == Claim()
        gone = case.operation("job_gone", make_desktop(id="dsk_0", name="dsk_0"))
        assert await during(clock, engine.destroy(gone)) == [None]
        assert set(engine.plant.claims) == {"dsk_1", "dsk_2"}
