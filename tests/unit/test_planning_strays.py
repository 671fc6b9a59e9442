"""Machines that nobody should have, and rows whose machine is gone."""

from __future__ import annotations

from typing import Any

import pytest

from broker import limits
from broker.domain.model import Desktop
from broker.domain.model import DesktopState as D
from broker.domain.planning import DiscardMachine, FailDesktop, SeenMachine, Suspects, compare
from broker.domain.planning.strays import Comparison
from tests.support.builders import NOW, make_desktop

HOSTS = frozenset({"hst_1", "hst_2"})


def machine(**changes: Any) -> SeenMachine:
    values: dict[str, Any] = {
        "engine": "simulated",
        "host_id": "hst_1",
        "desktop_id": "dsk_1",
        "generation": 1,
        "running": True,
    }
    return SeenMachine(**(values | changes))


def row(**changes: Any) -> Desktop:
    return make_desktop(**({"changed_at": NOW - 1} | changes))


def looks(
    seen: list[SeenMachine], rows: list[Desktop], *, hosts: frozenset[str] = HOSTS, count: int = 2
) -> Comparison:
    """The last of so many comparisons of the same things."""
    found = Comparison(commands=(), suspects=Suspects())
    for _ in range(count):
        found = compare(seen, rows, listed_at=NOW, hosts=hosts, before=found.suspects)
    return found


def test_what_fits_together_is_left_alone() -> None:
    found = looks([machine()], [row()])
    assert found == Comparison(commands=(), suspects=Suspects(at=NOW))


def test_a_machine_of_nobody_is_removed_at_the_second_look() -> None:
    first = looks([machine()], [], count=1)
    assert first.commands == ()
    assert first.suspects.machines == {("hst_1", "dsk_1", 1)}
    assert looks([machine()], []).commands == (
        DiscardMachine(machine=machine(), why="no desktop of that id is known"),
    )


def test_a_desktop_on_its_way_to_a_host_that_did_not_answer_is_not_missed() -> None:
    moving = row(moving_to="hst_3")
    assert looks([], [moving]).commands == ()
    assert looks([], [moving], hosts=HOSTS | {"hst_3"}).commands != ()


def test_what_changed_since_the_listing_hides_no_other() -> None:
    changed, gone = row(id="dsk_0", changed_at=NOW), row(id="dsk_1")
    seen = [machine(desktop_id="dsk_0", generation=2), machine(desktop_id="dsk_9")]
    found = looks(seen, [changed, gone])
    assert [one.why for one in found.commands] == [
        "no desktop of that id is known",
        "its machine is gone",
    ]


def test_one_of_nobody_hides_no_other() -> None:
    seen = [machine(desktop_id="dsk_8"), machine(desktop_id="dsk_9")]
    assert len(looks(seen, []).commands) == 2


def test_another_machine_of_the_same_desktop_is_suspect_for_itself() -> None:
    before = looks([machine()], [], count=1).suspects
    for other in (machine(host_id="hst_2"), machine(generation=2), machine(desktop_id="dsk_2")):
        assert compare([other], [], listed_at=NOW, hosts=HOSTS, before=before).commands == ()


def test_a_removed_desktops_machine_is_removed_again() -> None:
    (command,) = looks([machine()], [row(state=D.DELETED)]).commands
    assert isinstance(command, DiscardMachine)
    assert command.why == "library-001 was removed and its machine still exists"


@pytest.mark.parametrize("when", [NOW, NOW + 5])
def test_nothing_is_said_of_a_desktop_that_changed_since_the_list_was_asked_for(when: int) -> None:
    assert looks([machine()], [row(state=D.DELETED, changed_at=when)]).commands == ()
    assert looks([machine(generation=9)], [row(changed_at=when)]).commands == ()
    assert looks([], [row(changed_at=when)]).commands == ()


@pytest.mark.parametrize("state", [D.PLANNED, D.CREATING, D.RESETTING, D.DELETING, D.FAILED])
def test_a_machine_whose_row_is_in_the_middle_of_something_is_left_to_its_job(state: D) -> None:
    assert looks([machine()], [row(state=state, generation=2)]).commands == ()
    assert looks([], [row(state=state)]).commands == ()
    assert looks([machine(host_id="hst_2")], [row(state=state)]).commands == ()


@pytest.mark.parametrize("state", [D.STARTING, D.READY, D.ASSIGNED, D.SUSPENDED, D.PARKED])
def test_a_row_whose_machine_is_gone_fails_at_the_second_look(state: D) -> None:
    lost = row(state=state)
    assert looks([], [lost], count=1).commands == ()
    assert looks([], [lost], count=1).suspects.desktops == {("dsk_1", 1)}
    assert looks([], [lost]).commands == (FailDesktop(desktop=lost, why="its machine is gone"),)


def test_a_row_that_was_made_fresh_between_two_looks_is_a_new_suspect() -> None:
    before = looks([], [row()], count=1).suspects
    again = compare([], [row(generation=2)], listed_at=NOW, hosts=HOSTS, before=before)
    assert again.commands == ()


def test_a_host_that_did_not_answer_has_lost_nothing() -> None:
    assert looks([], [row()], hosts=frozenset({"hst_2"})).commands == ()


def test_an_older_machine_under_a_ready_row_is_never_given_to_anybody() -> None:
    stale = row(generation=3)
    assert looks([machine(generation=2)], [stale]).commands == (
        FailDesktop(desktop=stale, why="its machine is of generation 2, it is of 3"),
    )


def test_a_later_machine_goes_and_so_does_the_row_that_does_not_know_it() -> None:
    stale = row(generation=1)
    discarded, lost = looks([machine(generation=4)], [stale]).commands
    assert isinstance(discarded, DiscardMachine)
    assert discarded.why.startswith("library-001 is of generation 1, the machine of 4: made by")
    assert lost == FailDesktop(desktop=stale, why="its machine is of generation 4, it is of 1")


@pytest.mark.parametrize("state", [D.READY, D.ASSIGNED])
def test_a_machine_that_should_run_and_does_not_is_lost(state: D) -> None:
    still = row(state=state)
    assert looks([machine(running=False)], [still]).commands == (
        FailDesktop(desktop=still, why="its machine does not run"),
    )


@pytest.mark.parametrize("state", [D.SUSPENDED, D.PARKED, D.STARTING])
def test_one_that_need_not_run_may_be_still(state: D) -> None:
    seen = machine(running=False, suspended=True)
    assert looks([seen], [row(state=state)]).commands == ()


def test_a_second_machine_on_another_host_is_left_over() -> None:
    other = machine(host_id="hst_2")
    assert looks([machine(), other], [row()]).commands == (
        DiscardMachine(
            machine=other, why="library-001 is on another host; this machine is left over"
        ),
    )


def test_a_machine_on_its_way_is_on_both_hosts() -> None:
    moving = row(moving_to="hst_2")
    there = machine(host_id="hst_2")
    assert looks([machine(), there], [moving]).commands == ()
    assert looks([there], [moving]).commands == ()


def test_a_machine_on_the_wrong_host_alone_loses_its_row_not_itself() -> None:
    wrong = row()
    assert looks([machine(host_id="hst_2")], [wrong]).commands == (
        FailDesktop(desktop=wrong, why="its machine is on another host than it should be"),
    )


def test_what_is_past_the_limit_waits_for_the_next_comparison(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = [machine(desktop_id=f"dsk_{n}") for n in range(limits.STRAYS_MAX + 7)]
    found = looks(seen, [])
    assert len(found.commands) == limits.STRAYS_MAX
    assert len(found.suspects.machines) == len(seen)
    left = seen[limits.STRAYS_MAX :]
    rest = compare(left, [], listed_at=NOW, hosts=HOSTS, before=found.suspects)
    assert len(rest.commands) == 7


def test_what_was_put_right_is_forgotten() -> None:
    before = looks([], [row()], count=1).suspects
    good = compare([machine()], [row()], listed_at=NOW + 9, hosts=HOSTS, before=before)
    assert good.suspects == Suspects(at=NOW + 9)


def test_an_older_machine_beside_the_right_one_on_its_host_is_left_over() -> None:
    desktop = row(state=D.READY, generation=3)
    seen = [machine(generation=2), machine(generation=3)]
    (command,) = looks(seen, [desktop]).commands
    assert isinstance(command, DiscardMachine)
    assert command.machine == seen[0]
    assert looks(seen, [desktop], count=1).commands == ()
