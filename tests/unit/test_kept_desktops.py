"""What a person left in his own desktop stays his; what he left in anybody's goes to nobody."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from broker import limits
from broker.architectures import rules_of
from broker.domain.errors import QueueFullError
from broker.domain.lifecycle import DesktopEvent
from broker.domain.model import (
    Architecture,
    Desktop,
    DesktopState,
    LogOff,
    PoolKind,
    SessionState,
)
from broker.ports import FreshOrder, PageQuery
from tests.support.builders import make_pool
from tests.support.world import World, make_world

D = DesktopState


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with make_world() as world:
        yield world


async def dedicated(world: World, name: str = "library", *, size_max: int = 3) -> None:
    pool = await world.pools.find(name)
    kept = replace(pool, kind=PoolKind.DEDICATED, log_off=LogOff.KEEP, spares_min=0)
    await world.kit.store.directory.save_pool(replace(kept, size_max=size_max), new=False)
    world.pools.forget()


async def owned(world: World, *, size_max: int = 3) -> Desktop:
    """pupil0's own desktop, which he has left with his work in it."""
    await dedicated(world, size_max=size_max)
    asked = await world.connect.connect(world.who("pupil0"), "library")
    await world.look(4)
    session = await world.kit.store.sessions.session(asked.session.id)
    assert session is not None
    assert session.desktop_id is not None
    await world.sessions.log_off(world.who("pupil0"), session.id)
    await world.look(2)
    row = await read(world, session.desktop_id)
    assert (row.owner_id, row.state) == ("usr_pupil0", D.READY)
    return row


async def read(world: World, desktop_id: str) -> Desktop:
    row = await world.kit.store.desktops.desktop(desktop_id)
    assert row is not None
    return row


async def suspended(world: World, row: Desktop) -> None:
    store, now = world.kit.store.desktops, world.clock.now()
    later = now + 3600_000
    await store.advance(row.id, DesktopEvent.SUSPEND_ASKED, now, deadline_at=later)
    await store.advance(row.id, DesktopEvent.SUSPENDED, now)
    world.engine.asleep.add(row.id)


async def compare(world: World, times: int = 2) -> None:
    for _ in range(times):
        world.clock.advance(limits.STRAYS_S + 1)
        await world.reconciler._strays.look([world.engine])


def verbs(world: World, row: Desktop) -> list[str]:
    return [verb for verb, name in world.engine.done if name == row.name]


def wiped(world: World, row: Desktop) -> bool:
    return (
        row.id not in world.engine.known or {"destroy", "reset"} & set(verbs(world, row)) != set()
    )


# ------------------------------------------------------------------------- nobody else's


async def test_a_floating_desktop_is_made_fresh_although_an_older_database_says_keep() -> None:
    async with make_world() as world:
        pool = await world.pools.find("library")
        kept = replace(pool, log_off=LogOff.KEEP, spares_min=1, size_max=1)
        await world.kit.store.directory.save_pool(kept, new=False)
        world.pools.forget()
        await world.look(4)
        first = await world.connect.connect(world.who("pupil0"), "library")
        assert first.desktop is not None
        await world.sessions.log_off(world.who("pupil0"), first.session.id)
        await world.look(4)
        second = await world.connect.connect(world.who("pupil1"), "library")
        assert second.desktop is not None
        assert second.desktop.generation > first.desktop.generation


@pytest.mark.parametrize("architecture", list(Architecture))
def test_only_a_desktop_that_has_an_owner_is_kept(architecture: Architecture) -> None:
    rules = rules_of(architecture)
    floating = make_pool(architecture=architecture, log_off=LogOff.KEEP)
    dedicated = replace(floating, kind=PoolKind.DEDICATED)
    assert rules.release_event(floating, None) is DesktopEvent.RELEASED_RESET
    assert rules.release_event(floating, "usr_1") is DesktopEvent.RELEASED_RESET
    assert rules.release_event(dedicated, None) is DesktopEvent.RELEASED_RESET
    assert rules.release_event(dedicated, "usr_1") is DesktopEvent.RELEASED_KEEP


# --------------------------------------------------------------------- started again


async def test_a_machine_that_was_shut_down_is_started_with_its_owners_work(world: World) -> None:
    row = await owned(world)
    world.engine.halted.add(row.id)
    await compare(world)
    assert (await read(world, row.id)).state is D.FAILED
    await world.look(2)
    after = await read(world, row.id)
    assert (after.state, after.generation, after.owner_id) == (
        D.READY,
        row.generation,
        "usr_pupil0",
    )
    assert not wiped(world, row)
    again = await world.connect.connect(world.who("pupil0"), "library")
    assert again.session.desktop_id == row.id


async def test_a_slow_resume_is_asked_again_and_nothing_is_lost(world: World) -> None:
    row = await owned(world)
    await suspended(world, row)
    world.engine.silent = True
    asked = await world.connect.connect(world.who("pupil0"), "library")
    await world.look(2)
    assert (await read(world, row.id)).state is D.RESUMING
    world.clock.advance(limits.SUSPEND_S + 1)
    await world.kit.store.sessions.active({asked.session.id: world.clock.now()})
    await world.look(1)
    world.engine.silent = False
    await world.look(3)
    session = await world.kit.store.sessions.session(asked.session.id)
    assert session is not None
    assert (session.state, session.desktop_id) == (SessionState.DELIVERING, row.id)
    assert not wiped(world, row)


async def test_a_suspend_that_fails_for_good_leaves_a_desktop_that_runs_again(
    world: World,
) -> None:
    row = await owned(world)
    store, now = world.kit.store.desktops, world.clock.now()
    await store.advance(row.id, DesktopEvent.SUSPEND_ASKED, now, deadline_at=now + 1000)
    world.clock.advance(2)
    await world.look(3)
    assert (await read(world, row.id)).state is D.READY
    assert not wiped(world, row)


async def test_one_that_cannot_be_started_stays_is_told_and_is_tried_ever_more_seldom(
    world: World,
) -> None:
    row = await owned(world)
    world.engine.halted.add(row.id)
    world.engine.failing.add("resume")
    await compare(world)
    for _ in range(360):
        world.clock.advance(30)
        await world.look()
    after = await read(world, row.id)
    assert after.state in {D.FAILED, D.RESUMING}
    assert not wiped(world, row)
    query = PageQuery(limit=500, filters={"desktop_id": row.id, "verb": "resume"})
    jobs = (await world.kit.store.jobs.jobs(query)).items
    # three hours: after 1, 2, 4, 8 and 16 minutes, then every half an hour
    assert 5 <= len(jobs) <= 11
    assert max(job.attempts for job in jobs) == limits.JOB_ATTEMPTS_MAX
    # the first start is gentle, later ones switch off what may hang
    assert [job.arguments for job in reversed(jobs)] == [{}] + [{"restart": "true"}] * (
        len(jobs) - 1
    )
    told = await world.services.explanations.of("desktop_id", row.id, PageQuery())
    assert any("resume failed as the test asked" in one.sentence for one in told.items)
    world.engine.failing.clear()
    for _ in range(70):
        world.clock.advance(30)
        await world.look()
    assert (await read(world, row.id)).state is D.READY


async def test_its_owner_waits_for_it_and_gets_no_second_one(world: World) -> None:
    row = await owned(world, size_max=9)
    world.engine.halted.add(row.id)
    world.engine.failing.add("resume")
    await compare(world)
    asked = await world.connect.connect(world.who("pupil0"), "library")
    for _ in range(4):
        world.clock.advance(20)
        await world.kit.store.sessions.active({asked.session.id: world.clock.now()})
        await world.look(2)
    session = await world.kit.store.sessions.session(asked.session.id)
    assert session is not None
    assert session.state is SessionState.QUEUED
    others = [one for one in await world.desktops() if one.host_id is not None]
    assert others == [await read(world, row.id)]  # none is made for him meanwhile
    world.engine.failing.clear()
    for _ in range(20):
        world.clock.advance(20)
        await world.kit.store.sessions.active({asked.session.id: world.clock.now()})
        await world.look(2)
        session = await world.kit.store.sessions.session(asked.session.id)
        assert session is not None
        if session.state is SessionState.DELIVERING:
            break
    assert (session.state, session.desktop_id) == (SessionState.DELIVERING, row.id)
    assert [one.id for one in await world.desktops() if one.owner_id == "usr_pupil0"] == [row.id]


@pytest.mark.parametrize("state", [D.SUSPENDED, D.READY])
async def test_one_whose_host_died_waits_for_the_host(world: World, state: DesktopState) -> None:
    row = await owned(world)
    if state is D.SUSPENDED:
        await suspended(world, row)
    await world.services.site.set_host_lost("hst_1", lost=True, actor="adm")
    known = dict(world.engine.known)
    world.engine.known.clear()  # a host that does not answer lists nothing
    await compare(world)
    for _ in range(20):
        world.clock.advance(120)
        await world.look()
    assert (await read(world, row.id)).state is state
    world.engine.known.update(known)
    world.engine.halted.update({row.id} - world.engine.asleep)
    await world.services.site.set_host_lost("hst_1", lost=False, actor="adm")
    await compare(world)
    await world.look(3)
    assert (await read(world, row.id)).state is state
    assert not world.engine.halted
    assert not wiped(world, row)


async def test_one_that_failed_before_its_host_died_comes_back_with_the_host(world: World) -> None:
    row = await owned(world)
    await world.services.site.set_host_lost("hst_1", lost=True, actor="adm")
    await world.works.lost(row, "it crashed")
    for _ in range(20):
        world.clock.advance(120)
        await world.look()
    assert (await read(world, row.id)).state is D.FAILED
    await world.services.site.set_host_lost("hst_1", lost=False, actor="adm")
    await world.look(3)
    assert (await read(world, row.id)).state is D.READY
    assert not wiped(world, row)


async def test_a_failed_machine_without_an_owner_is_still_cleared(world: World) -> None:
    await world.look(4)
    row = next(one for one in await world.desktops(D.READY) if one.host_id is not None)
    await world.works.lost(row, "it crashed")
    await world.look(3)
    assert (await read(world, row.id)).state is D.DELETED


# ------------------------------------------------------------------------ on endpoints


@pytest.fixture
async def on_endpoint(world: World) -> Desktop:
    """pupil0's own desktop at ART-0, which he has left with his work in it."""
    await dedicated(world, "art")
    endpoint = await world.online("ART-0")
    asked = await world.connect.connect(world.who("pupil0"), "art", "ART-0")
    assert asked.desktop is not None
    await world.sessions.live(endpoint.id, asked.session.id, asked.session.generation)
    await world.sessions.log_off(world.who("pupil0"), asked.session.id)
    world.clock.advance(limits.ENDING_S + 1)
    await world.look(3)
    row = await read(world, asked.desktop.id)
    assert (row.state, row.owner_id) == (D.READY, "usr_pupil0")
    return row


async def test_a_power_cycle_of_an_endpoint_keeps_its_owners_work(
    world: World, on_endpoint: Desktop
) -> None:
    await world.offline("ART-0")
    assert (await read(world, on_endpoint.id)).state is D.UNAVAILABLE
    endpoint = await world.online("ART-0")
    after = await read(world, on_endpoint.id)
    assert (after.state, after.generation) == (D.READY, on_endpoint.generation)
    assert world.orders(endpoint.id, FreshOrder) == []


async def test_a_failed_desktop_of_an_endpoint_is_used_again_as_it_is(
    world: World, on_endpoint: Desktop
) -> None:
    asked = len(world.orders(on_endpoint.endpoint_id or "", FreshOrder))
    await world.works.lost(on_endpoint, "its display driver crashed")
    await world.look(2)
    after = await read(world, on_endpoint.id)
    assert (after.state, after.generation) == (D.READY, on_endpoint.generation)
    assert len(world.orders(on_endpoint.endpoint_id or "", FreshOrder)) == asked


async def test_what_nobody_owns_is_made_fresh_when_its_endpoint_is_back(world: World) -> None:
    await dedicated(world, "art")
    endpoint = await world.online("ART-0")
    await world.offline("ART-0")
    await world.online("ART-0")
    assert len(world.orders(endpoint.id, FreshOrder)) == 1


# --------------------------------------------------------------------------- the queue


async def test_an_owner_gets_his_own_desktop_although_the_queue_is_full(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = await owned(world, size_max=1)
    monkeypatch.setattr(limits, "POOL_QUEUE_MAX", 2)
    for name in ("pupil1", "pupil2"):
        asked = await world.connect.connect(world.who(name), "library")
        assert asked.session.state is SessionState.QUEUED
    with pytest.raises(QueueFullError):
        await world.connect.connect(world.who("pupil3"), "library")
    own = await world.connect.connect(world.who("pupil0"), "library")
    assert (own.session.state, own.session.desktop_id) == (SessionState.DELIVERING, row.id)
