"""Failed desktops in which a person's work lies are started again, one by one and not at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from broker import limits
from broker.domain.keeping import Recovery
from broker.domain.model import DesktopState as D
from broker.domain.model import HostState, LogOff, PoolKind, Resources
from broker.domain.planning import Memory, ResumeDesktop
from broker.domain.planning.budget import Budget
from broker.domain.planning.recover import is_kept, recover, remembered
from broker.domain.planning.rooms import Rooms
from broker.domain.settings import SiteSettings
from tests.support.builders import NOW, make_desktop, make_pool
from tests.support.planning import make_load, make_view

KEEPS = make_pool(kind=PoolKind.DEDICATED, log_off=LogOff.KEEP, spares_min=0)


def failed(number: int = 1, **changes: Any) -> Any:
    values: dict[str, Any] = {
        "id": f"dsk_{number}",
        "state": D.FAILED,
        "owner_id": f"usr_{number}",
        "note": "it was shut down",
    }
    return make_desktop(**(values | changes))


def view_of(*rows: Any, **changes: Any) -> Any:
    values: dict[str, Any] = {
        "pools": (KEEPS,),
        "hosts": (make_load(),),
        "failed_desktops": rows,
    }
    return make_view(**(values | changes))


def started(view: Any, *busy: str) -> list[Any]:
    return recover(view, Rooms(view), Budget(view), set(busy))


def test_one_is_started_as_it_is_and_says_why() -> None:
    row = failed()
    assert started(view_of(row)) == [ResumeDesktop(desktop=row, why="it failed: it was shut down")]


def test_one_that_was_started_before_is_switched_off_and_on() -> None:
    memory = Memory(recoveries={"dsk_1": Recovery(tries=1, next_at=NOW)})
    first, second = started(view_of(failed(), failed(2), memory=memory))
    assert (first.restart, second.restart) == (True, False)


def test_what_has_to_wait_or_is_nobodys_keeps_no_other_from_it() -> None:
    later = Memory(recoveries={"dsk_2": Recovery(tries=1, next_at=NOW + 1)})
    rows = (
        failed(1, pool_id="pol_gone"), failed(2), failed(3, owner_id=None), failed(4),
        failed(5, host_id="hst_gone"), failed(6),
    )  # fmt: skip
    commands = started(view_of(*rows, memory=later), "dsk_4")
    assert [one.desktop.id for one in commands] == ["dsk_6"]


@pytest.mark.parametrize("state", [HostState.DOWN, HostState.OFF])
def test_one_whose_host_does_not_run_waits_for_it(state: HostState) -> None:
    assert started(view_of(failed(), hosts=(make_load(state=state),))) == []


def test_they_take_room_and_turns_as_all_machines_do() -> None:
    rows = tuple(failed(number) for number in range(5))
    tight = make_load(capacity=Resources(cpus=32, memory_mib=2 * 4096))
    assert len(started(view_of(*rows, hosts=(tight,)))) == 2
    few = make_load(start_limit=3)
    assert len(started(view_of(*rows, hosts=(few,)))) == 3


def test_the_sites_limits_hold_for_memory_and_not_for_desktops_that_exist() -> None:
    rows = tuple(failed(number) for number in range(3))
    counts = {(KEEPS.id, D.FAILED.value): 3}
    most = SiteSettings(desktops_max=3)
    assert len(started(view_of(*rows, counts=counts, site=most))) == 3
    memory = SiteSettings(memory_mib_max=2 * 4096)
    assert len(started(view_of(*rows, counts=counts, site=memory))) == 2


def test_one_look_begins_no_more_than_its_limit() -> None:
    view = view_of(failed())
    budget = Budget(view)
    budget.begun = limits.BEGUN_PER_LOOK_MAX - 1
    assert len(recover(view, Rooms(view), budget, set())) == 1
    assert recover(view, Rooms(view), budget, set()) == []


def test_only_what_was_started_because_it_failed_is_remembered() -> None:
    rows = failed(1), failed(2, state=D.SUSPENDED), failed(3)
    commands = [ResumeDesktop(desktop=row, why="") for row in rows[:2]]
    found = remembered(view_of(*rows), commands)
    assert found == {"dsk_1": Recovery(tries=1, next_at=NOW + limits.RECOVER_PAUSE_S * 1000)}


def test_whose_machine_stays_though_it_failed() -> None:
    row = failed()
    assert is_kept(row, KEEPS)
    assert is_kept(row, None), "nobody knows the pool: an owner's stays"
    assert not is_kept(row, replace(KEEPS, log_off=LogOff.RESET))
    for changes in ({"owner_id": None}, {"host_id": None}):
        assert not is_kept(replace(row, **changes), KEEPS)
        assert not is_kept(replace(row, **changes), None)
