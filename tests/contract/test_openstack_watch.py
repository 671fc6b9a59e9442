"""What a list of all servers says of machines that somebody works on meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.engines.openstack.clouds import Cloud
from broker.engines.openstack.servers import Found
from broker.engines.openstack.watch import Watch
from broker.engines.reports import Reports
from broker.ports import MachineReport
from broker.system import SystemChance
from tests.support.clock import ManualClock

FOUND = Found(
    id="1", desktop_id="dsk_1", generation=1, host_id="hst_1", operations=(), status="ACTIVE",
    task="", compute="", flavor=(2, 4096, 20), created_at="",
)  # fmt: skip


class Spoken(Reports):
    def __init__(self) -> None:
        super().__init__()
        self.heard: list[MachineReport] = []

    def say(self, report: MachineReport) -> None:
        self.heard.append(report)


@pytest.fixture
def spoken() -> Spoken:
    return Spoken()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def watch(spoken: Spoken, clock: ManualClock, tmp_path: Path) -> Watch:
    cloud = Cloud(name="campus", region="", clouds=tmp_path / "clouds.yaml")
    return Watch(
        cloud, installation_id="ins_1", clock=clock, chance=SystemChance(1), reports=spoken,
        is_busy=lambda _: False,
    )  # fmt: skip


async def test_a_list_begun_before_a_removal_says_nothing_of_the_machine(
    watch: Watch, spoken: Spoken, clock: ManualClock
) -> None:
    watch.expect("dsk_1", 1, "job_1")
    await clock.advance(1)
    began = clock.monotonic()
    await clock.advance(1)
    watch.forget("dsk_1")
    watch._tell({"dsk_1": FOUND}, began)
    await clock.advance(1)
    watch._tell({}, clock.monotonic())
    assert spoken.heard == []


async def test_a_list_begun_before_a_restart_does_not_make_the_machine_ready(
    watch: Watch, spoken: Spoken, clock: ManualClock
) -> None:
    began = clock.monotonic()
    await clock.advance(1)
    watch.expect("dsk_1", 1, "job_1")
    watch._tell({"dsk_1": FOUND}, began)
    assert spoken.heard == []
    await clock.advance(1)
    watch._tell({"dsk_1": FOUND}, clock.monotonic())
    assert [(one.ready, one.operation_id) for one in spoken.heard] == [(True, "job_1")]


async def test_a_machine_that_nobody_here_started_is_told_of_when_it_goes(
    watch: Watch, spoken: Spoken, clock: ManualClock
) -> None:
    """As after a restart of the broker."""
    watch._tell({"dsk_1": FOUND}, clock.monotonic())
    await clock.advance(1)
    watch._tell({}, clock.monotonic())
    assert [(one.desktop_id, one.ready) for one in spoken.heard] == [("dsk_1", False)]
