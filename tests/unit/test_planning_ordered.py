"""Where one desktop can be moved to because somebody asks, and in which words it cannot."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from broker import limits
from broker.domain.features import Feature
from broker.domain.model import DesktopState as D
from broker.domain.model import HostState, Resources
from broker.domain.planning.ordered import Destination, destinations, stays
from broker.domain.planning.rooms import Rooms
from broker.domain.planning.view import View
from broker.domain.storage import StorageClass
from tests.support.builders import make_desktop, make_pool
from tests.support.planning import ALL_FEATURES, make_load, make_view

BOTH = {"hst_1": ALL_FEATURES, "hst_2": ALL_FEATURES}
NO_MOVES = ALL_FEATURES - {Feature.MIGRATE}
ROW = make_desktop(state=D.ASSIGNED)


def site(
    source: dict[str, Any] | None = None, target: dict[str, Any] | None = None, **changes: Any
) -> View:
    first = make_load(**(source or {}))
    second = make_load(**({"id": "hst_2", "name": "server-2"} | (target or {})))
    return make_view(**({"hosts": (first, second), "features": BOTH} | changes))


def told(view: View, row: Any = ROW) -> tuple[str, bool]:
    return stays(view, Rooms(view), row)


def only(view: View, row: Any = ROW) -> Destination:
    (found,) = destinations(view, Rooms(view), row)
    return found


# ----------------------------------------------------------------------------- the source


@pytest.mark.parametrize("state", [D.READY, D.ASSIGNED])
@pytest.mark.parametrize("host", [HostState.UP, HostState.DRAINING, HostState.MAINTENANCE])
def test_one_that_runs_may_leave(state: D, host: HostState) -> None:
    view = site({"state": host})
    assert told(view, replace(ROW, state=state)) == ("", False)
    assert only(view) == Destination(host=view.hosts[1].host)


@pytest.mark.parametrize("state", [one for one in D if one not in {D.READY, D.ASSIGNED}])
def test_only_what_runs_is_moved(state: D) -> None:
    words = f"library-001 is {state}: only a desktop that runs is moved"
    assert told(site(), replace(ROW, state=state)) == (words, False)


def test_one_that_moves_already_is_left_to_arrive() -> None:
    words = "library-001 is on its way to another host already"
    assert told(site(), replace(ROW, moving_to="hst_2")) == (words, False)


@pytest.mark.parametrize("state", [HostState.DOWN, HostState.OFF, HostState.RETIRED])
def test_nothing_leaves_a_host_that_does_not_run(state: HostState) -> None:
    assert told(site({"state": state})) == ("the host of library-001 does not run", False)


def test_nothing_leaves_a_host_that_does_not_answer() -> None:
    assert told(site({"silent": True})) == ("server-1 does not answer", False)


def test_few_leave_a_host_at_once() -> None:
    busy = limits.MIGRATIONS_PER_HOST_MAX
    assert told(site({"moving": busy})) == (f"server-1 moves {busy} desktops already", False)
    assert told(site({"moving": busy - 1})) == ("", False)


def test_what_no_engine_moves_stays() -> None:
    view = site(features={"hst_1": NO_MOVES, "hst_2": ALL_FEATURES})
    assert told(view) == ("server-1 cannot move running desktops", True)
    own = replace(ROW, host_id=None, endpoint_id="ept_1")
    assert told(site(), own) == ("library-001 is its endpoint's own and stays there", True)
    assert destinations(site(), Rooms(site()), own) == ()
    lost = replace(ROW, host_id="hst_9")
    assert told(site(), lost) == ("no engine here knows the host of library-001", True)


# ----------------------------------------------------------------------------- the target


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ({"state": HostState.DRAINING}, "server-2 drains"),
        ({"state": HostState.MAINTENANCE}, "server-2 is under maintenance"),
        ({"state": HostState.OFF}, "server-2 is off"),
        ({"silent": True}, "server-2 does not answer"),
        ({"engine": "other"}, "server-2 has another engine"),
        ({"profile": "hosted"}, "server-2 is another kind of machine"),
        ({"used": Resources(cpus=128, memory_mib=0)}, "server-2 lacks 2 CPUs"),
        ({"used": Resources(cpus=0, memory_mib=131072)}, "server-2 lacks 4096 MiB of memory"),
        (
            {"moving": limits.MIGRATIONS_PER_HOST_MAX},
            f"server-2 moves {limits.MIGRATIONS_PER_HOST_MAX} desktops already",
        ),
        (
            {"storage": {"": StorageClass(name="", cost=1, shared="")}},
            "server-2 has not the disks of server-1",
        ),
    ],
)
def test_a_host_that_does_not_take_it_says_why(target: dict[str, Any], words: str) -> None:
    assert only(site(target=target)).refusal == words
    assert not only(site(target=target)).unsupported


def test_a_host_without_the_pools_label_does_not_take_it() -> None:
    pool = make_pool()
    asked = replace(pool, settings=replace(pool.settings, labels=("gpu",)))
    assert only(site(pools=(asked,))).refusal == "server-2 has no label gpu"


def test_a_host_whose_engine_takes_nothing_that_runs_never_will() -> None:
    found = only(site(features={"hst_1": ALL_FEATURES, "hst_2": NO_MOVES}))
    assert (found.refusal, found.unsupported) == ("server-2 cannot take running desktops", True)


def test_how_many_a_host_may_start_does_not_matter_to_one_that_runs() -> None:
    assert only(site(target={"starting": 99, "start_limit": 1})).refusal == ""


def test_a_desktop_whose_pool_is_not_known_goes_nowhere() -> None:
    assert only(site(pools=())).refusal == "the pool of library-001 is not known"
