"""Which snapshots a desktop has, by the disk that they lie on."""

from __future__ import annotations

from typing import Any

import pytest

from broker.domain.lifecycle import SNAPSHOT
from broker.domain.model import DesktopState
from broker.domain.snapshots import SNAPSHOT_STATES, UNDER_WAY, SnapshotState, counts_for, under_way
from tests.support.builders import make_desktop, make_snapshot

D = DesktopState
GONE = {D.DELETING, D.DELETED}


@pytest.mark.parametrize("state", DesktopState)
def test_a_desktop_has_its_snapshots_until_its_disk_goes(state: DesktopState) -> None:
    desktop = make_desktop(state=state, generation=3)
    assert counts_for(make_snapshot(), desktop) is (state not in GONE)


@pytest.mark.parametrize(
    "changes",
    [{"generation": 2}, {"generation": 4}, {"id": "dsk_2"}, {"id": "dsk_2", "generation": 4}],
)
def test_what_lies_on_another_disk_does_not_count(changes: dict[str, Any]) -> None:
    desktop = make_desktop(**({"generation": 3} | changes))
    assert not counts_for(make_snapshot(), desktop)


def test_they_are_made_only_of_what_stays_where_it_is() -> None:
    assert {D.READY, D.ASSIGNED, D.SUSPENDED, D.PARKED} == SNAPSHOT_STATES


def test_what_is_under_way_ends_with_its_job_and_nothing_comes_back_once_it_is_dropped() -> None:
    assert set(SNAPSHOT.transient) == UNDER_WAY == {SnapshotState.MAKING, SnapshotState.DROPPING}
    assert not [edge for edge in SNAPSHOT.edges() if edge[0] is SnapshotState.DROPPED]


def test_a_machine_waits_for_what_is_under_way_on_the_disk_that_it_has_now() -> None:
    desktop = make_desktop(generation=3)
    past = make_snapshot(1, generation=2)
    ready = make_snapshot(2, state=SnapshotState.READY)
    failed = make_snapshot(3, state=SnapshotState.FAILED)
    making = make_snapshot(4)
    dropping = make_snapshot(5, state=SnapshotState.DROPPING)
    assert under_way([past, ready, failed], desktop) is None
    assert under_way([past, ready, making, dropping], desktop) is making
    assert under_way([failed, dropping], desktop) is dropping
