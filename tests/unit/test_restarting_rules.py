"""Which desktops may be switched off and on again, and in which words the others are refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.domain.model import DesktopState, HostState
from broker.domain.restarting import refusal
from broker.domain.snapshots import Snapshot, SnapshotState
from tests.support.builders import NOW, make_desktop, make_host

D = DesktopState
DESKTOP = make_desktop(name="library-001", state=D.ASSIGNED)
HOST = make_host(name="server-1")
SNAPSHOT = Snapshot(
    id="snp_1", desktop_id=DESKTOP.id, generation=DESKTOP.generation, name="before", note="",
    state=SnapshotState.MAKING, why="", resources=DESKTOP.resources, size_bytes=None,
    created_at=NOW, changed_at=NOW,
)  # fmt: skip


@pytest.mark.parametrize("state", [D.READY, D.ASSIGNED])
def test_one_that_runs_is_restarted(state: DesktopState) -> None:
    assert refusal(replace(DESKTOP, state=state), HOST) == ""


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (D.SUSPENDED, "is suspended: its machine does not run"),
        (D.PARKED, "is parked: its machine does not run"),
        (
            D.FAILED,
            "has failed: it starts again by itself if it keeps a person's work, else reset it",
        ),
        (D.UNAVAILABLE, "is unavailable"),
        (D.DELETING, "is deleting"),
        (D.DELETED, "is deleted"),
        *(
            (state, f"is {state} just now: wait until that is over")
            for state in (
                D.PLANNED, D.CREATING, D.STARTING, D.RESETTING, D.SUSPENDING, D.RESUMING,
                D.PARKING, D.UNPARKING,
            )
        ),
    ],
)  # fmt: skip
def test_one_that_does_not_run_says_why(state: DesktopState, words: str) -> None:
    assert refusal(replace(DESKTOP, state=state), HOST) == f"library-001 {words}"


def test_one_on_its_way_to_another_host_is_left_to_arrive() -> None:
    moving = replace(DESKTOP, moving_to="hst_2")
    words = "library-001 is on its way to another host: wait until it is there"
    assert refusal(moving, HOST) == words


@pytest.mark.parametrize("state", [None, *HostState])
def test_only_a_host_that_runs_restarts_anything(state: HostState | None) -> None:
    host = None if state is None else replace(HOST, state=state)
    runs = state in {HostState.UP, HostState.DRAINING, HostState.MAINTENANCE}
    assert refusal(DESKTOP, host) == ("" if runs else "the host of library-001 does not run")


def test_a_host_that_does_not_answer_is_waited_for() -> None:
    assert refusal(DESKTOP, HOST, silent=True) == "server-1 does not answer"


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (SnapshotState.MAKING, "making"),
        (SnapshotState.DROPPING, "dropping"),
        (SnapshotState.READY, ""),
        (SnapshotState.FAILED, ""),
    ],
)
def test_a_snapshot_under_way_is_waited_for(state: SnapshotState, words: str) -> None:
    told = f"the snapshot 'before' of library-001 is {words}: wait until that is over"
    found = refusal(DESKTOP, HOST, [replace(SNAPSHOT, state=state)])
    assert found == (told if words else "")


def test_a_snapshot_of_a_disk_that_is_gone_holds_nothing_up() -> None:
    older = replace(SNAPSHOT, generation=DESKTOP.generation - 1)
    assert refusal(DESKTOP, HOST, [older]) == ""
