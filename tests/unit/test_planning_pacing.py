"""Having to wait for others to start is told apart from having no room."""

from __future__ import annotations

import pytest

from broker.domain.model import HostState, Resources
from broker.domain.planning import NoRoom
from broker.domain.planning.breaker import Breaker
from broker.domain.settings import SiteSettings
from tests.support.builders import NOW, make_pool
from tests.support.planning import decide, make_load, make_view, of

POOL = make_pool(spares_min=5, size_max=9)
SMALL = Resources(cpus=2, memory_mib=4096)


def test_a_host_that_starts_as_many_as_it_may_paces() -> None:
    full = make_load(id="hst_2", name="server-2", capacity=SMALL, used=SMALL)
    view = make_view(pools=(POOL,), hosts=(make_load(start_limit=2), full))
    (none,) = of(NoRoom, decide(view).commands)
    assert (none.paced, none.missing) == (True, 3)


def test_hosts_that_are_full_or_closed_do_not_pace_even_while_they_start_desktops() -> None:
    hosts = (
        make_load(start_limit=1, capacity=SMALL),
        make_load(id="hst_2", name="server-2", start_limit=1, starting=1, state=HostState.DRAINING),
    )
    (none,) = of(NoRoom, decide(make_view(pools=(POOL,), hosts=hosts)).commands)
    assert not none.paced


def test_a_paused_pool_is_not_paced() -> None:
    paused = Breaker(failures=5, opened=1, until=NOW + 60_000, error="no answer")
    hosts = (make_load(start_limit=1, starting=1),)
    view = make_view(pools=(POOL,), hosts=hosts, breakers={(POOL.id, "hst_1"): paused})
    (none,) = of(NoRoom, decide(view).commands)
    assert not none.paced


@pytest.mark.parametrize("site", [SiteSettings(desktops_max=1), SiteSettings(memory_mib_max=5000)])
def test_the_sites_own_limits_are_no_pacing(site: SiteSettings) -> None:
    (none,) = of(NoRoom, decide(make_view(pools=(POOL,), site=site)).commands)
    assert not none.paced
