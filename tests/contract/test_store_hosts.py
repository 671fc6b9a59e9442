"""Hosts: their lifecycle, and what desktops take from them, in every store."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.domain.errors import (
    ConflictError,
    HostOccupiedError,
    IllegalTransitionError,
    NotFoundError,
)
from broker.domain.lifecycle import HOST, DesktopEvent, HostEvent
from broker.domain.model import Host, HostState, JobVerb, Resources
from broker.domain.placement import HostLoad
from broker.ports import Store
from tests.support.builders import NOW, make_host, make_pool
from tests.support.stores import (
    IDV,
    VDI,
    claim_one,
    fill,
    make_job,
    make_request,
    new_desktop,
    ready_desktops,
)

HOST_WAYS: dict[HostState, tuple[HostState, tuple[HostEvent, ...]]] = {
    HostState.POWERING_OFF: (HostState.UP, (HostEvent.POWER_OFF_ASKED,)),
    HostState.POWERING_ON: (HostState.OFF, (HostEvent.POWER_ON_ASKED,)),
    HostState.RETIRED: (HostState.DOWN, (HostEvent.RETIRED,)),
}
"""how a host comes to be in a state that it cannot begin in"""
SIZE = Resources(cpus=1.5, memory_mib=1000, disk_mib=50, disk_iops=20, network_mbit=10)


async def load_of(store: Store, host_id: str) -> HostLoad:
    return next(one for one in await store.directory.host_loads() if one.host.id == host_id)


async def host_of(store: Store, host_id: str) -> Host:
    return (await load_of(store, host_id)).host


async def test_saving_a_host_leaves_its_state_to_its_moves(store: Store) -> None:
    await fill(store)
    moved = await store.directory.move_host(
        "hst_1", HostEvent.DRAIN_ASKED, NOW + 5, deadline_at=NOW + 9, note="for repair"
    )
    await store.directory.save_host(make_host(state=HostState.DOWN, start_limit=1), new=False)
    (load,) = await store.directory.host_loads()
    assert load.host == replace(moved, start_limit=1, revision=2)
    powering = make_host(id="hst_2", name="b", state=HostState.POWERING_ON)
    with pytest.raises(IllegalTransitionError):
        await store.directory.save_host(powering, new=True)


async def test_a_host_that_somebody_saved_since_it_was_read_is_not_saved_over(
    store: Store,
) -> None:
    await fill(store)
    read = await host_of(store, "hst_1")
    await store.directory.save_host(replace(read, profile="hosted"), new=False)
    with pytest.raises(ConflictError, match="server-1 was changed meanwhile"):
        await store.directory.save_host(replace(read, start_limit=1), new=False)
    now = await host_of(store, "hst_1")
    assert (now.profile, now.start_limit) == ("hosted", read.start_limit)
    moved = await store.directory.move_host("hst_1", HostEvent.DRAIN_ASKED, NOW + 5)
    assert moved.revision == now.revision  # what administrators say of it is the same


async def test_a_host_is_saved_as_vacant_only_while_no_desktop_is_there_or_on_its_way_there(
    store: Store,
) -> None:
    await fill(store)
    await store.directory.save_host(make_host(id="hst_2", name="server-2"), new=True)
    (desktop,) = await ready_desktops(store, [1])

    async def saved_as_vacant(host_id: str) -> bool:
        read = await host_of(store, host_id)
        try:
            await store.directory.save_host(read, new=False, vacant=True)
        except HostOccupiedError:
            assert await host_of(store, host_id) == read
            return False
        return True

    assert not await saved_as_vacant("hst_1")
    assert await saved_as_vacant("hst_2")
    await store.directory.save_host(await host_of(store, "hst_1"), new=False)
    await store.desktops.begin_move(desktop.id, "hst_2", 1, make_job(desktop_id=desktop.id))
    assert not await saved_as_vacant("hst_2")
    await store.desktops.end_move(desktop.id, "hst_2", 1, moved=True)
    assert await saved_as_vacant("hst_1")
    await store.desktops.advance(desktop.id, DesktopEvent.FAILED, NOW)
    assert not await saved_as_vacant("hst_2")
    await store.desktops.advance(desktop.id, DesktopEvent.DELETE_ASKED, NOW)
    await store.desktops.advance(desktop.id, DesktopEvent.DELETED, NOW)
    assert await saved_as_vacant("hst_2")


@pytest.mark.parametrize("event", list(HostEvent))
@pytest.mark.parametrize("state", list(HostState))
async def test_a_host_moves_exactly_along_its_table(
    store: Store, state: HostState, event: HostEvent
) -> None:
    await fill(store)
    first, way = HOST_WAYS.get(state, (state, ()))
    await store.directory.save_host(make_host(id="hst_2", name="b", state=first), new=True)
    for step in way:
        await store.directory.move_host("hst_2", step, NOW)
    host = await host_of(store, "hst_2")
    assert host.state is state
    if not HOST.allows(state, event):
        with pytest.raises(IllegalTransitionError):
            await store.directory.move_host("hst_2", event, NOW + 5)
        assert await host_of(store, "hst_2") == host
        return
    job = make_job(verb=JobVerb.POWER_ON, desktop_id="", host_id="hst_2", generation=0)
    moved = await store.directory.move_host(
        "hst_2", event, NOW + 5, deadline_at=NOW + 9, note="why", job=job
    )
    assert moved == replace(
        host,
        state=HOST.table[state, event].to,
        deadline_at=NOW + 9,
        changed_at=NOW + 5,
        note="why",
    )
    assert await host_of(store, "hst_2") == moved
    assert await store.jobs.job(job.id) == job


async def test_a_host_that_is_not_there_does_not_move(store: Store) -> None:
    with pytest.raises(NotFoundError):
        await store.directory.move_host("hst_9", HostEvent.LOST, NOW)


async def test_a_move_without_a_note_keeps_the_note_and_clears_the_deadline(store: Store) -> None:
    await fill(store)
    await store.directory.move_host(
        "hst_1", HostEvent.POWER_OFF_ASKED, NOW, deadline_at=NOW + 5, note="empty"
    )
    moved = await store.directory.move_host("hst_1", HostEvent.POWERED_OFF, NOW + 1)
    assert (moved.note, moved.deadline_at, moved.changed_at) == ("empty", None, NOW + 1)


def times(count: int, size: Resources = SIZE) -> Resources:
    return Resources(
        cpus=count * size.cpus,
        memory_mib=count * size.memory_mib,
        disk_mib=count * size.disk_mib,
        disk_iops=count * size.disk_iops,
        network_mbit=count * size.network_mbit,
    )


async def test_a_load_counts_everything_and_by_pool(store: Store) -> None:
    await fill(store)
    other = make_pool(id="pol_3", name="office")
    await store.directory.save_pool(other, new=True)
    desktops = [
        *(new_desktop(number, resources=SIZE) for number in (1, 2)),
        new_desktop(3, other, resources=SIZE),
    ]
    await store.desktops.add(desktops, [])
    load = await load_of(store, "hst_1")
    assert load.used == times(3)
    assert load.by_pool == {VDI.id: times(2), other.id: times(1)}
    assert load.desktops_by_pool == {VDI.id: 2, other.id: 1}
    assert (load.starting, load.moving) == (3, 0)


async def test_a_suspended_desktop_takes_its_disk_only(store: Store) -> None:
    await fill(store)
    idle, used = await ready_desktops(store, [1, 2], resources=SIZE)
    await store.desktops.advance(idle.id, DesktopEvent.SUSPEND_ASKED, NOW)
    await claim_one(store, make_request())
    await store.desktops.advance(used.id, DesktopEvent.SUSPEND_ASKED, NOW)
    assert (await load_of(store, "hst_1")).used == times(2)
    for desktop in (idle, used):
        await store.desktops.advance(desktop.id, DesktopEvent.SUSPENDED, NOW)
    load = await load_of(store, "hst_1")
    assert load.used == Resources(cpus=0, memory_mib=0, disk_mib=2 * SIZE.disk_mib)
    assert load.desktops_by_pool == {VDI.id: 2}
    for desktop in (idle, used):
        await store.desktops.advance(desktop.id, DesktopEvent.RESUME_ASKED, NOW)
    load = await load_of(store, "hst_1")
    assert (load.used, load.starting) == (times(2), 2)


async def test_a_migrating_desktop_counts_on_both_hosts_until_it_is_there(store: Store) -> None:
    await fill(store)
    await store.directory.save_host(make_host(id="hst_2", name="server-2"), new=True)
    first, second = await ready_desktops(store, [1, 2], resources=SIZE)
    await store.desktops.begin_move(first.id, "hst_2", 1, make_job(desktop_id=first.id))
    here, there = await store.directory.host_loads()
    assert (here.used, here.moving, here.desktops_by_pool) == (times(2), 1, {VDI.id: 2})
    assert (there.used, there.moving, there.desktops_by_pool) == (times(1), 1, {VDI.id: 1})
    await store.desktops.end_move(first.id, "hst_2", 1, moved=True)
    here, there = await store.directory.host_loads()
    assert (here.used, here.moving) == (there.used, there.moving) == (times(1), 0)
    assert second.host_id == "hst_1"


async def test_what_starts_counts_where_it_is_and_not_where_it_goes(store: Store) -> None:
    await fill(store)
    await store.directory.save_host(make_host(id="hst_2", name="server-2"), new=True)
    (desktop,) = await ready_desktops(store, [1])
    await store.desktops.begin_move(desktop.id, "hst_2", 1, make_job(desktop_id=desktop.id))
    await claim_one(store, make_request())
    await store.desktops.advance(desktop.id, DesktopEvent.RELEASED_RESET, NOW, deadline_at=NOW + 9)
    here, there = await store.directory.host_loads()
    assert (here.starting, there.starting, there.moving) == (1, 0, 1)


async def test_failed_deleted_and_fat_endpoints_desktops_take_nothing(store: Store) -> None:
    await fill(store)
    failed, deleted = await ready_desktops(store, [1, 2], resources=SIZE)
    await ready_desktops(store, [1], IDV)
    await store.desktops.advance(failed.id, DesktopEvent.FAILED, NOW)
    await store.desktops.advance(deleted.id, DesktopEvent.DELETE_ASKED, NOW)
    assert (await load_of(store, "hst_1")).used == times(1)
    await store.desktops.advance(deleted.id, DesktopEvent.DELETED, NOW)
    load = await load_of(store, "hst_1")
    assert (load.used.cpus, load.by_pool, load.desktops_by_pool) == (0, {}, {})
