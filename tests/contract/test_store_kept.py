"""Desktops in which a person's work lies, in every store."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.domain.audit import AuditEntry, Outcome
from broker.domain.errors import ConflictError, IllegalTransitionError, NotFoundError
from broker.domain.lifecycle import DesktopEvent, EndpointEvent, HostEvent
from broker.domain.model import Desktop, DesktopState, LogOff, Pool, PoolKind, SessionState
from broker.ports import PageQuery, Store
from tests.support.builders import NOW
from tests.support.stores import (
    IDV,
    VDI,
    claim_one,
    claimed_session,
    fill,
    make_request,
    ready_desktops,
)

D = DesktopState
KEPT = replace(VDI, kind=PoolKind.DEDICATED, log_off=LogOff.KEEP)
KEPT_IDV = replace(IDV, kind=PoolKind.DEDICATED, log_off=LogOff.KEEP)


async def filled(store: Store, *pools: Pool) -> None:
    await fill(store)
    for pool in pools:
        await store.directory.save_pool(pool, new=False)


async def read(store: Store, desktop: Desktop) -> Desktop:
    found = await store.desktops.desktop(desktop.id)
    assert found is not None
    return found


async def fail(store: Store, desktop: Desktop, at: int = NOW) -> None:
    await store.desktops.advance(desktop.id, DesktopEvent.FAILED, at, note="lost")


# ------------------------------------------------------------------------- endpoints


@pytest.mark.parametrize("away", [DesktopEvent.FAILED, DesktopEvent.ENDPOINT_LOST])
async def test_an_endpoints_desktop_comes_back_as_its_owner_left_it(
    store: Store, away: DesktopEvent
) -> None:
    await filled(store, KEPT_IDV)
    (desktop,) = await ready_desktops(store, [1], KEPT_IDV, owner_id="usr_1")
    await store.desktops.advance(desktop.id, away, NOW)
    await store.endpoints.presence(
        "ept_1", EndpointEvent.CONNECTED, NOW + 1, fresh_deadline_at=NOW + 300
    )
    after = await read(store, desktop)
    assert (after.state, after.target, after.deadline_at) == (D.READY, None, None)
    assert (after.generation, after.changed_at) == (desktop.generation, NOW + 1)


@pytest.mark.parametrize(
    ("pool", "owner"),
    [
        (KEPT_IDV, None),
        (replace(KEPT_IDV, log_off=LogOff.RESET), "usr_1"),
        (replace(KEPT_IDV, kind=PoolKind.FLOATING), "usr_1"),
    ],
)
async def test_any_other_is_made_fresh(store: Store, pool: Pool, owner: str | None) -> None:
    await filled(store, pool)
    (desktop,) = await ready_desktops(store, [1], pool, owner_id=owner)
    await store.endpoints.presence("ept_1", EndpointEvent.LOST, NOW)
    await store.endpoints.presence("ept_1", EndpointEvent.CONNECTED, NOW, fresh_deadline_at=NOW + 9)
    after = await read(store, desktop)
    assert (after.state, after.target, after.deadline_at) == (D.RESETTING, D.READY, NOW + 9)


# --------------------------------------------------------------------------- failed


async def test_a_failed_one_whose_owner_waits_is_awaited(store: Store) -> None:
    await filled(store, KEPT)
    (mine,) = await ready_desktops(store, [1], KEPT, owner_id="usr_1")
    (theirs,) = await ready_desktops(store, [2], KEPT, owner_id="usr_2")
    for one in (mine, theirs):
        await fail(store, one)
    assert await store.desktops.awaited(9) == ()
    await claimed_session(store, make_request(1, KEPT))
    assert [one.id for one in await store.desktops.awaited(9)] == [mine.id]


async def test_owned_ones_that_nothing_can_be_done_for_keep_nobody_else_from_being_seen(
    store: Store,
) -> None:
    await filled(store, KEPT)
    owned = await ready_desktops(store, [1, 2, 3], KEPT, owner_id="usr_1")
    spoiled = await ready_desktops(store, [4, 5], KEPT)
    for at, one in enumerate([*owned, *spoiled]):
        await fail(store, one, NOW + at)
    assert [one.id for one in await store.desktops.failed(2)] == [
        *(one.id for one in spoiled),
        *(one.id for one in owned[:2]),
    ]
    await store.directory.move_host("hst_1", HostEvent.LOST, NOW)
    assert [one.id for one in await store.desktops.failed(9)] == [one.id for one in spoiled]


async def test_a_failed_one_is_resumed(store: Store) -> None:
    await filled(store, KEPT)
    (desktop,) = await ready_desktops(store, [1], KEPT, owner_id="usr_1")
    await fail(store, desktop)
    begun = await store.desktops.advance(
        desktop.id, DesktopEvent.RESUME_ASKED, NOW, deadline_at=NOW + 9
    )
    assert (begun.state, begun.target, begun.deadline_at) == (D.RESUMING, D.READY, NOW + 9)
    ready = await store.desktops.advance(desktop.id, DesktopEvent.REPORTED_READY, NOW)
    assert (ready.state, ready.generation) == (D.READY, desktop.generation)


# ----------------------------------------------------------------------------- claims


async def test_an_owner_waits_for_the_desktop_in_which_his_work_lies(store: Store) -> None:
    await filled(store, KEPT)
    (own,) = await ready_desktops(store, [1], KEPT, owner_id="usr_1")
    await fail(store, own)
    (spare,) = await ready_desktops(store, [2], KEPT)
    waiting = await claimed_session(store, make_request(1, KEPT))
    assert waiting.state is SessionState.QUEUED
    assert await store.sessions.serve_queue(KEPT, [waiting.id], NOW + 9, NOW) == ()
    await store.desktops.advance(own.id, DesktopEvent.RESUME_ASKED, NOW)
    await store.desktops.advance(own.id, DesktopEvent.REPORTED_READY, NOW)
    (served,) = await store.sessions.serve_queue(KEPT, [waiting.id], NOW + 9, NOW)
    assert served.desktop_id == own.id
    assert (await read(store, spare)).state is D.READY


@pytest.mark.parametrize("event", [DesktopEvent.FAILED, DesktopEvent.DELETE_ASKED])
async def test_who_owns_nothing_that_stays_is_given_another(
    store: Store, event: DesktopEvent
) -> None:
    pool = KEPT if event is DesktopEvent.DELETE_ASKED else replace(KEPT, log_off=LogOff.RESET)
    await filled(store, pool)
    (own,) = await ready_desktops(store, [1], pool, owner_id="usr_1")
    await store.desktops.advance(own.id, event, NOW)
    (spare,) = await ready_desktops(store, [2], pool)
    session = await claimed_session(store, make_request(1, pool))
    assert session.desktop_id == spare.id


async def test_an_owner_is_given_his_own_past_those_who_wait_for_one(store: Store) -> None:
    await filled(store, KEPT)
    await claimed_session(store, make_request(2, KEPT))
    (own,) = await ready_desktops(store, [1], KEPT, owner_id="usr_1")
    await ready_desktops(store, [2], KEPT)
    outcome = await claim_one(store, make_request(1, KEPT, queue_limit=1))
    assert outcome.session is not None
    assert (outcome.session.state, outcome.session.desktop_id) == (SessionState.DELIVERING, own.id)
    assert (await claim_one(store, make_request(3, KEPT, queue_limit=1))).queue_full


# ---------------------------------------------------------------- given and taken back


def entry(number: int) -> AuditEntry:
    return AuditEntry(
        id=f"aud_{number}", at=NOW, actor="usr_9", action="desktop.assign", outcome=Outcome.DONE
    )


async def test_a_desktop_is_given_to_one_person_once(store: Store) -> None:
    await filled(store, KEPT)
    first, second = await ready_desktops(store, [1, 2], KEPT)
    assign = store.desktops.assign
    given = await assign(first.id, "usr_1", first.generation, entry(1))
    assert given == replace(first, owner_id="usr_1")
    assert await read(store, first) == given
    assert (await assign(first.id, "usr_1", first.generation, entry(2))).owner_id == "usr_1"
    for desktop, user in ((second, "usr_1"), (first, "usr_2")):
        with pytest.raises(ConflictError):
            await assign(desktop.id, user, desktop.generation, entry(3))
    with pytest.raises(IllegalTransitionError):
        await assign(second.id, "usr_2", second.generation + 1, entry(4))
    await claimed_session(store, make_request(2, KEPT))
    with pytest.raises(IllegalTransitionError):
        await assign(second.id, "usr_3", second.generation, entry(5))
    with pytest.raises(NotFoundError):
        await assign("dsk_none", "usr_3", 1, entry(6))
    query = PageQuery(filters={"action": "desktop.assign"})
    assert {one.id for one in (await store.audit.entries(query)).items} == {"aud_1", "aud_2"}


@pytest.mark.parametrize("state", [D.READY, D.SUSPENDED, D.FAILED])
async def test_what_is_taken_back_is_nobodys_and_of_a_new_generation(
    store: Store, state: DesktopState
) -> None:
    await filled(store, KEPT)
    (desktop,) = await ready_desktops(store, [1], KEPT, owner_id="usr_1")
    events = {
        D.READY: (),
        D.SUSPENDED: (DesktopEvent.SUSPEND_ASKED, DesktopEvent.SUSPENDED),
        D.FAILED: (DesktopEvent.FAILED,),
    }
    for event in events[state]:
        await store.desktops.advance(desktop.id, event, NOW)
    taken = await store.desktops.advance(
        desktop.id, DesktopEvent.RESET_ASKED, NOW, fresh=True, disown=True
    )
    assert (taken.state, taken.owner_id) == (D.RESETTING, None)
    assert taken.generation == desktop.generation + 1
    assert await read(store, desktop) == taken
