"""What a list of all servers says of machines that somebody works on meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from broker import guest_wire
from broker.engines.linked_guests import LinkedGuests
from broker.engines.openstack.clouds import Cloud
from broker.engines.openstack.servers import Found
from broker.engines.openstack.watch import Watch
from broker.engines.reports import Reports
from broker.ports import MachineReport
from broker.system import SystemChance
from tests.support.clock import ManualClock
from tests.support.eventually import eventually
from tests.support.guest_links import Links

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
def links() -> Links:
    return Links()


@pytest.fixture
async def guests(spoken: Spoken, clock: ManualClock, links: Links) -> AsyncIterator[LinkedGuests]:
    made = LinkedGuests(clock=clock, chance=SystemChance(1), reports=spoken, links=links)
    async with asyncio.TaskGroup() as tasks:
        made.begin(tasks)
        yield made
        made.end()


@pytest.fixture
def watch(spoken: Spoken, clock: ManualClock, tmp_path: Path, guests: LinkedGuests) -> Watch:
    cloud = Cloud(name="campus", region="", clouds=tmp_path / "clouds.yaml")
    return Watch(
        cloud, installation_id="ins_1", clock=clock, chance=SystemChance(1), reports=spoken,
        is_busy=lambda _: False, left=lambda _: None,
        guests=guests,
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


async def test_one_that_fails_while_somebody_waits_for_it_says_what_was_asked(
    watch: Watch, spoken: Spoken, clock: ManualClock
) -> None:
    watch.expect("dsk_1", 1, "job_1")
    await clock.advance(1)
    watch._tell({"dsk_1": replace(FOUND, status="ERROR")}, clock.monotonic())
    assert [(one.ready, one.operation_id) for one in spoken.heard] == [(False, "job_1")]


LINKED = replace(FOUND, name="library-001")
"""one whose agent was given a ticket"""


def state(*, ready: bool, generation: int = 1) -> bytes:
    said = guest_wire.State(desktop_id="dsk_1", generation=generation, ready=ready)
    return guest_wire.encode(said)


async def test_a_server_whose_agent_links_up_is_ready_by_its_agents_word_alone(
    watch: Watch, spoken: Spoken, clock: ManualClock, links: Links
) -> None:
    watch.expect("dsk_1", 1, "job_1")
    await clock.advance(1)
    watch._tell({"dsk_1": LINKED}, clock.monotonic())
    await eventually(lambda: links.attending and links.attending["dsk_1", 1].heard)
    agent = links.attending["dsk_1", 1]
    [told] = agent.heard
    assert isinstance(told, guest_wire.Identify)
    assert (told.desktop_id, told.generation, told.name) == ("dsk_1", 1, "library-001")
    agent.said(state(ready=False))
    agent.said(state(ready=True, generation=9))
    assert spoken.heard == []
    agent.said(state(ready=True))
    assert [(one.ready, one.operation_id) for one in spoken.heard] == [(True, "job_1")]
    watch.expect("dsk_1", 1, "job_2")
    await clock.advance(1)
    watch._tell({"dsk_1": LINKED}, clock.monotonic())
    assert [one.operation_id for one in spoken.heard] == ["job_1", "job_2"]


async def test_a_linked_server_that_another_process_started_is_told_of_too(
    watch: Watch, spoken: Spoken, clock: ManualClock, links: Links
) -> None:
    watch._tell({"dsk_1": LINKED}, clock.monotonic())
    await eventually(lambda: links.attending)
    links.attending["dsk_1", 1].said(state(ready=True))
    links.attending["dsk_1", 1].said(state(ready=True))
    assert [(one.ready, one.operation_id) for one in spoken.heard] == [(True, "")]
    watch.forget("dsk_1")
    links.attending["dsk_1", 1].said(state(ready=True))
    assert len(spoken.heard) == 1
