"""Whose desktops are read one by one in a look, and what all pools may begin in it."""

from __future__ import annotations

from typing import Any

import pytest

from broker.domain.model import Architecture, HostState, Resources
from broker.domain.model import DesktopState as D
from broker.domain.planning import Memory, full_hosts
from broker.domain.planning.budget import Budget
from broker.domain.planning.reading import hosts_to_read
from broker.domain.settings import SiteSettings
from tests.support.builders import make_pool
from tests.support.planning import ALL_FEATURES, make_load, make_view

POOL = make_pool(spares_min=0)


def read(load: Any, **changes: Any) -> bool:
    return load.host.id in hosts_to_read(make_view(pools=(POOL,), hosts=(load,), **changes))[0]


@pytest.mark.parametrize("state", [HostState.DRAINING, HostState.MAINTENANCE])
@pytest.mark.parametrize(
    ("load", "leaves"),
    [
        ({"desktops_by_pool": {}}, False),
        ({"desktops_by_pool": {POOL.id: 1}, "running": 1, "spares_by_pool": {POOL.id: 1}}, True),
        ({"desktops_by_pool": {POOL.id: 2}, "running": 1}, True),
        ({"desktops_by_pool": {POOL.id: 1}, "running": 1}, False),
    ],
    ids=["empty", "a spare", "one that sleeps", "what is used"],
)
def test_a_host_is_read_while_something_could_leave_it(
    state: HostState, load: dict[str, Any], leaves: bool
) -> None:
    assert read(make_load(state=state, **load)) is leaves
    # where the engine migrates, maintenance moves what is used, too
    moves = leaves or (state is HostState.MAINTENANCE and bool(load["desktops_by_pool"]))
    assert read(make_load(state=state, **load), features={"hst_1": ALL_FEATURES}) is moves


def test_a_host_that_stays_is_not_read() -> None:
    load = make_load(desktops_by_pool={POOL.id: 2}, running=1)
    assert not read(load, features={"hst_1": ALL_FEATURES})


def test_the_rows_go_on_where_the_last_look_ended() -> None:
    hosts = tuple(
        make_load(id=f"hst_{n:02d}", name=f"s{n}", state=HostState.DRAINING,
                  desktops_by_pool={POOL.id: 1})
        for n in range(25)
    )  # fmt: skip
    first, after = hosts_to_read(make_view(pools=(POOL,), hosts=hosts))
    assert list(first) == [f"hst_{n:02d}" for n in range(20)]
    view = make_view(pools=(POOL,), hosts=hosts, memory=Memory(read_after=after))
    second, _ = hosts_to_read(view)
    assert list(second) == [f"hst_{n:02d}" for n in (*range(20, 25), *range(15))]


def test_a_host_is_full_at_its_limit_of_starts_and_one_that_does_not_run_never_is() -> None:
    loads = {
        "below": make_load(id="below", starting=7),
        "at": make_load(id="at", starting=8),
        "down": make_load(id="down", starting=8, state=HostState.DOWN),
    }
    found = full_hosts(make_view(pools=(POOL,), hosts=tuple(loads.values())))
    assert found == ("at",)


def test_what_goes_already_is_not_asked_to_go_again_for_the_sites_memory() -> None:
    going = {(POOL.id, state.value): 1 for state in (D.DELETING, D.SUSPENDING, D.PARKING)}
    endpoints = make_pool(id="pol_2", name="lab", architecture=Architecture.IDV)
    going[endpoints.id, D.DELETING.value] = 7
    used = Resources(cpus=20, memory_mib=10 * 4096)
    view = make_view(
        pools=(POOL, endpoints),
        hosts=(make_load(used=used),),
        counts=going,
        site=SiteSettings(memory_mib_max=4 * 4096, desktops_max=2),
    )
    budget = Budget(view)
    assert (budget.over_memory_mib, budget.memory_mib) == (3 * 4096, 0)
    over = Budget(make_view(pools=(POOL,), counts={(POOL.id, D.READY.value): 3}, site=view.site,
                            hosts=view.hosts))  # fmt: skip
    assert over.over() == "the site may have 2 desktops and 16384 MiB of memory, and has more"


def test_what_runs_may_grow_up_to_the_sites_limit() -> None:
    site = SiteSettings(memory_mib_max=8192)
    budget = Budget(make_view(pools=(POOL,), site=site))
    assert budget.grow_refusal(8192) is None
    refused = "the site's limit of 8192 MiB of memory is reached"
    assert budget.grow_refusal(8193) == refused
    budget.grow(4096)
    assert budget.grow_refusal(4096) is None
    assert budget.grow_refusal(4097) == refused
