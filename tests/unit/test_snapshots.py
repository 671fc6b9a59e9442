"""What administrators do with snapshots, and what is refused them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from broker import limits
from broker.domain.errors import (
    AlreadyExistsError,
    DesktopInUseError,
    IllegalTransitionError,
    NotFoundError,
    SnapshotRefusedError,
)
from broker.domain.features import Feature
from broker.domain.lifecycle import HostEvent
from broker.domain.model import Desktop, DesktopState, LogOff, PoolKind
from broker.domain.planning import SuspendDesktop
from broker.domain.settings import AfterGrace, PoolSettings
from broker.domain.snapshots import SnapshotState
from broker.ports import PageQuery
from broker.services.reconciler.running import Running
from broker.services.snapshots import Snapshots
from tests.support.seats import expire_due, set_pool, sit_down
from tests.support.world import World, make_world
from tests.unit.test_desktop_care import free, owned, read

D = DesktopState
N = SnapshotState
ADMIN = "usr_operator"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with make_world() as world:
        for name in ("library", "art"):
            pool = await world.pools.find(name)
            kept = replace(pool, kind=PoolKind.DEDICATED, log_off=LogOff.KEEP)
            await world.kit.store.directory.save_pool(kept, new=False)
        world.pools.forget()
        await world.look(4)
        yield world


def snapshots(world: World) -> Snapshots:
    return world.services.snapshots


async def taken(world: World, row: Desktop, name: str = "before") -> str:
    made = await snapshots(world).take(row.id, name, "an update", actor=ADMIN)
    assert made.state is N.MAKING
    await world.look(2)
    album = await snapshots(world).album(row.id)
    assert [one.state for one in album.snapshots if one.id == made.id] == [N.READY]
    return made.id


async def actions(world: World, desktop: Desktop) -> list[tuple[str, str]]:
    query = PageQuery(filters={"desktop_id": desktop.id})
    found = (await world.kit.store.audit.entries(query)).items
    return [(one.action, one.actor) for one in found if "snapshot" in str(one.details)]


async def test_a_desktop_is_kept_gone_back_to_and_the_snapshot_dropped(world: World) -> None:
    row = await owned(world)
    key = await taken(world, row)
    going = await snapshots(world).revert(row.id, key, actor=ADMIN)
    assert (going.state, going.generation, going.owner_id) == (
        D.RESETTING, row.generation + 1, row.owner_id,
    )  # fmt: skip
    assert going.note == "reverted to the snapshot 'before'"
    await world.look(3)
    assert (await read(world, row)).state is D.READY
    assert ("revert", row.name) in world.engine.done
    assert ("reset", row.name) not in world.engine.done
    dropping = await snapshots(world).drop(row.id, "before", actor=ADMIN)
    assert dropping.state is N.DROPPING
    assert (await snapshots(world).drop(row.id, key, actor=ADMIN)).state is N.DROPPING
    await world.look(2)
    assert (await snapshots(world).album(row.id)).snapshots == ()
    assert sorted(await actions(world, row)) == [
        *(2 * [("desktop.drop_snapshot", ADMIN)]),
        ("desktop.revert", ADMIN),
        ("desktop.snapshot", ADMIN),
    ]


async def test_a_session_may_go_on_under_a_snapshot_but_not_under_a_revert(world: World) -> None:
    row = await owned(world)
    key = await taken(world, row)
    asked = await world.connect.connect(world.who("pupil0"), "library")
    assert asked.desktop is not None
    assert asked.desktop.id == row.id
    await taken(world, row, "while it is used")
    with pytest.raises(DesktopInUseError):
        await snapshots(world).revert(row.id, key, actor=ADMIN)
    now = await read(world, row)
    assert (now.state, now.generation) == (D.ASSIGNED, row.generation)


async def test_the_desktop_of_a_person_who_is_away_rests_once_its_snapshot_is_made(
    world: World,
) -> None:
    row = await owned(world)
    pool = await set_pool(world, "library", PoolSettings(after_grace=AfterGrace.SUSPEND))
    begun = await sit_down(world, "pupil0", None)
    await world.sessions.disconnect(world.who("pupil0"), begun.session.id)
    world.clock.advance(pool.disconnect_grace_s)
    await snapshots(world).take(row.id, "before", "", actor=ADMIN)
    await expire_due(world)
    assert (await read(world, row)).state is D.ASSIGNED
    await world.look(2)
    assert (await read(world, row)).state is D.ASSIGNED
    world.clock.advance(limits.PARK_AGAIN_S)
    await expire_due(world)
    assert (await read(world, row)).state is D.PARKING
    await world.look(2)
    assert (await read(world, row)).state is D.PARKED


async def test_who_comes_back_under_a_snapshot_waits_for_its_end_and_loses_nothing(
    world: World,
) -> None:
    row = await owned(world)
    pool = await set_pool(world, "library", PoolSettings(after_grace=AfterGrace.SUSPEND))
    begun = await sit_down(world, "pupil0", None)
    await world.sessions.disconnect(world.who("pupil0"), begun.session.id)
    world.clock.advance(pool.disconnect_grace_s)
    await expire_due(world)
    await world.look(2)
    assert (await read(world, row)).state is D.PARKED
    world.engine.failing = {"snapshot", "resume"}
    await snapshots(world).take(row.id, "before", "", actor=ADMIN)
    await world.look(1)
    await world.connect.connect(world.who("pupil0"), "library")
    await world.look(1)
    waking, now = await read(world, row), world.clock.now()
    assert waking.state is D.UNPARKING
    assert waking.deadline_at == now + (limits.SUSPEND_S + limits.SNAPSHOT_S) * 1000
    world.clock.advance(limits.SUSPEND_S + 1)
    await world.look(1)
    assert (await read(world, row)).state is D.UNPARKING
    world.engine.failing = set()
    world.clock.advance(limits.JOB_PAUSE_S * limits.JOB_ATTEMPTS_MAX * 2)
    await world.look(3)
    assert (await read(world, row)).state is D.ASSIGNED


async def test_without_a_snapshot_waking_has_no_more_time_than_it_takes(world: World) -> None:
    row = await owned(world)
    pool = await set_pool(world, "library", PoolSettings(after_grace=AfterGrace.SUSPEND))
    begun = await sit_down(world, "pupil0", None)
    await taken(world, row)
    await world.sessions.disconnect(world.who("pupil0"), begun.session.id)
    world.clock.advance(pool.disconnect_grace_s)
    await expire_due(world)
    await world.look(2)
    world.engine.failing = {"resume"}
    await world.connect.connect(world.who("pupil0"), "library")
    await world.look(1)
    waking = await read(world, row)
    assert (waking.state, waking.deadline_at) == (
        D.UNPARKING, world.clock.now() + limits.SUSPEND_S * 1000,
    )  # fmt: skip


async def test_the_planner_puts_nothing_to_rest_of_which_a_snapshot_is_made(world: World) -> None:
    row = await owned(world)
    asleep = Running(world.kit, world.services.engine_work)
    command = SuspendDesktop(desktop=row, why="a second-level spare")
    world.engine.failing = {"snapshot"}
    await snapshots(world).take(row.id, "before", "", actor=ADMIN)
    with pytest.raises(IllegalTransitionError, match="'before' is making"):
        await asleep.suspend(command)
    assert (await read(world, row)).state is D.READY
    world.engine.failing = set()
    world.clock.advance(limits.JOB_PAUSE_S * limits.JOB_ATTEMPTS_MAX)
    await world.look(2)
    await asleep.suspend(command)
    assert (await read(world, row)).state is D.SUSPENDING


async def test_desktops_that_keep_nobodys_work_take_none(world: World) -> None:
    row = await free(world)
    with pytest.raises(SnapshotRefusedError, match="keeps nobody's work"):
        await snapshots(world).take(row.id, "before", "", actor=ADMIN)
    assert "keeps nobody's work" in (await snapshots(world).album(row.id)).refusal


async def test_a_host_that_keeps_none_is_named(world: World) -> None:
    row = await owned(world)
    key = await taken(world, row)
    assert (await snapshots(world).album(row.id)).refusal == ""
    world.engine.can = frozenset(Feature) - {Feature.SNAPSHOT}
    with pytest.raises(SnapshotRefusedError, match="keeps no snapshots"):
        await snapshots(world).take(row.id, "after", "", actor=ADMIN)
    with pytest.raises(SnapshotRefusedError, match="keeps no snapshots"):
        await snapshots(world).revert(row.id, key, actor=ADMIN)
    # what is there may go all the same
    assert (await snapshots(world).drop(row.id, key, actor=ADMIN)).state is N.DROPPING


async def test_a_host_that_is_down_takes_none(world: World) -> None:
    row = await owned(world)
    await world.kit.store.directory.move_host(row.host_id or "", HostEvent.LOST, 0)
    with pytest.raises(SnapshotRefusedError, match="does not run"):
        await snapshots(world).take(row.id, "before", "", actor=ADMIN)


async def test_names_are_not_used_twice_and_there_is_a_most(world: World) -> None:
    row = await owned(world)
    await taken(world, row)
    with pytest.raises(AlreadyExistsError):
        await snapshots(world).take(row.id, "before", "", actor=ADMIN)
    for number in range(1, limits.SNAPSHOTS_PER_DESKTOP_MAX):
        await taken(world, row, f"before {number}")
    with pytest.raises(SnapshotRefusedError, match="drop one first"):
        await snapshots(world).take(row.id, "one too many", "", actor=ADMIN)


async def test_what_does_not_exist_is_said_so(world: World) -> None:
    row = await owned(world)
    with pytest.raises(NotFoundError):
        await snapshots(world).album("dsk_none")
    for verb in (snapshots(world).revert, snapshots(world).drop):
        with pytest.raises(NotFoundError):
            await verb(row.id, "never", actor=ADMIN)


async def test_what_is_taken_from_its_owner_has_no_snapshots_any_more(world: World) -> None:
    row = await owned(world)
    await taken(world, row)
    await world.services.desktop_care.unassign(row.id, actor=ADMIN)
    await world.look(3)
    album = await snapshots(world).album(row.id)
    assert (album.snapshots, album.desktop.owner_id) == ((), None)
    assert world.engine.snapshots.get(row.id, []) == []
