"""Placement: a table of cases, and what must hold for any hosts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.domain.model import HostState, Resources
from broker.domain.placement import HostLoad, choose
from tests.support.builders import make_host

NEED = Resources(cpus=2, memory_mib=4096)
NOTHING = Resources(cpus=0, memory_mib=0)


def load(
    name: str,
    *,
    used_mib: int = 0,
    used_cpus: float = 0,
    starting: int = 0,
    state: HostState = HostState.UP,
) -> HostLoad:
    host = make_host(
        id=f"hst_{name}",
        name=name,
        state=state,
        capacity=Resources(cpus=8, memory_mib=16384),
        overcommit_cpu=2.0,
        start_limit=4,
    )
    return HostLoad(
        host=host, used=Resources(cpus=used_cpus, memory_mib=used_mib), starting=starting
    )


def test_the_host_with_most_room_is_chosen_and_says_so() -> None:
    choice = choose([load("a", used_mib=8192), load("b")], NEED)
    assert choice.host_id == "hst_b"
    assert choice.why == "b has most room (75% left)"
    assert len(choice.reasons) == 2


def test_a_tie_goes_to_the_lower_name_in_any_order() -> None:
    assert choose([load("b"), load("a")], NEED).host_id == "hst_a"
    assert choose([load("a"), load("b")], NEED).host_id == "hst_a"


def test_each_host_that_does_not_fit_says_why() -> None:
    choice = choose(
        [
            load("a", used_mib=14336),
            load("b", used_cpus=15),
            load("c", state=HostState.DRAINING),
            load("d", starting=4),
        ],
        NEED,
    )
    assert choice.host_id is None
    assert choice.reasons == (
        "a lacks 2048 MiB of memory",
        "b lacks 1 CPUs",
        "c is draining",
        "d starts 4 desktops already (limit 4)",
    )
    assert choice.why.startswith("no host fits: a lacks 2048 MiB")


def test_without_hosts_it_says_that_there_are_none() -> None:
    assert choose([], NEED).why == "no host is known"


LOADS = st.lists(
    st.builds(
        load,
        st.sampled_from("abcdefgh"),
        used_mib=st.integers(0, 20000),
        used_cpus=st.floats(0, 20),
        starting=st.integers(0, 6),
        state=st.sampled_from(HostState),
    ),
    unique_by=lambda one: one.host.id,
    max_size=6,
)


@given(LOADS)
def test_a_chosen_host_always_has_room_is_up_and_may_start_one_more(loads: list[HostLoad]) -> None:
    choice = choose(loads, NEED)
    if choice.host_id is None:
        return
    chosen = next(one for one in loads if one.host.id == choice.host_id)
    assert chosen.host.state is HostState.UP
    assert chosen.used.memory_mib + NEED.memory_mib <= chosen.host.capacity.memory_mib
    assert chosen.used.cpus + NEED.cpus <= chosen.host.capacity.cpus * chosen.host.overcommit_cpu
    assert chosen.starting < chosen.host.start_limit


@given(LOADS, st.randoms())
def test_the_order_of_hosts_does_not_matter(loads: list[HostLoad], chance: object) -> None:
    shuffled = sorted(loads, key=lambda one: one.host.name, reverse=True)
    assert choose(loads, NEED).host_id == choose(shuffled, NEED).host_id


@given(LOADS)
def test_taking_away_a_host_that_was_not_chosen_changes_nothing(loads: list[HostLoad]) -> None:
    choice = choose(loads, NEED)
    for left_out in loads:
        if left_out.host.id != choice.host_id:
            rest = [one for one in loads if one is not left_out]
            assert choose(rest, NEED).host_id == choice.host_id
