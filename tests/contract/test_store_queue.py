"""Serving queues, in every store."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from broker.domain.lifecycle import SessionEvent
from broker.domain.model import DesktopState, PoolKind, SessionState
from broker.domain.queueing import Waiting, fair_order
from broker.ports import Store
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


async def test_waiting_tells_who_waits_for_the_pool(store: Store) -> None:
    await fill(store)
    one = await claimed_session(store, make_request(1, group_id=None), NOW + 3)
    await claimed_session(store, make_request(2, IDV))
    assert await store.sessions.waiting(VDI.id) == (
        Waiting(session_id=one.id, group_id=None, requested_at=NOW + 3),
    )
    assert await store.sessions.waiting("pol_9") == ()


async def test_desktops_go_to_those_who_wait_in_the_order_given(store: Store) -> None:
    await fill(store)
    sessions = [await claimed_session(store, make_request(user)) for user in (1, 2, 3)]
    await ready_desktops(store, [1, 2], generation=4)
    order = [sessions[2].id, sessions[0].id, sessions[1].id]
    served = await store.sessions.serve_queue(VDI, order, NOW + 99, NOW + 9)
    assert served == (
        replace(
            sessions[2],
            state=SessionState.DELIVERING,
            desktop_id="dsk_library_1",
            deadline_at=NOW + 99,
            generation=4,
            revision=2,
            why="you were given library-0001 because it was"
            " the first ready desktop of Library by name",
            assigned_at=NOW + 9,
        ),
        replace(
            sessions[0],
            state=SessionState.DELIVERING,
            desktop_id="dsk_library_2",
            deadline_at=NOW + 99,
            generation=4,
            revision=2,
            why="you were given library-0002 because it was"
            " the first ready desktop of Library by name",
            assigned_at=NOW + 9,
        ),
    )
    for session in served:
        assert await store.sessions.session(session.id) == session
    desktop = await store.desktops.desktop("dsk_library_1")
    assert desktop is not None
    assert (desktop.state, desktop.changed_at) == (DesktopState.ASSIGNED, NOW + 9)
    assert [one.session_id for one in await store.sessions.waiting(VDI.id)] == [sessions[1].id]


async def test_without_a_ready_desktop_nobody_is_served(store: Store) -> None:
    await fill(store)
    session = await claimed_session(store, make_request())
    assert await store.sessions.serve_queue(VDI, [session.id], NOW + 9, NOW) == ()
    assert await store.sessions.serve_queue(VDI, [], NOW + 9, NOW) == ()
    assert await store.sessions.session(session.id) == session


async def test_who_left_the_queue_or_never_stood_there_is_passed_over(store: Store) -> None:
    await fill(store)
    left = await claimed_session(store, make_request(1))
    other_pool = await claimed_session(store, make_request(2, IDV))
    stays = await claimed_session(store, make_request(3))
    await store.sessions.advance(left.id, SessionEvent.CANCELLED, NOW, why="left")
    await ready_desktops(store, [1, 2, 3])
    order = [left.id, "ses_unknown", other_pool.id, stays.id]
    served = await store.sessions.serve_queue(VDI, order, NOW + 9, NOW)
    assert [one.id for one in served] == [stays.id]


async def test_a_session_that_needs_its_endpoint_waits_for_that_one_alone(store: Store) -> None:
    await fill(store)
    waits_1 = await claimed_session(store, make_request(1, IDV, endpoint_id="ept_1"))
    waits_2 = await claimed_session(store, make_request(2, IDV, endpoint_id="ept_2"))
    nowhere = await claimed_session(store, make_request(3, IDV))
    await ready_desktops(store, [2, 3], IDV)
    order = [waits_1.id, nowhere.id, waits_2.id]
    served = await store.sessions.serve_queue(IDV, order, NOW + 9, NOW)
    got = [(one.id, one.desktop_id, one.endpoint_id) for one in served]
    assert got == [(waits_2.id, "dsk_laboratory_2", "ept_2")]


async def test_a_thin_endpoint_binds_nobody_to_a_desktop(store: Store) -> None:
    await fill(store)
    session = await claimed_session(store, make_request(1, endpoint_id="ept_3"))
    await ready_desktops(store, [1])
    (served,) = await store.sessions.serve_queue(VDI, [session.id], NOW + 9, NOW)
    assert (served.endpoint_id, served.desktop_id) == ("ept_3", "dsk_library_1")


async def test_in_a_dedicated_pool_owners_get_their_own_and_others_none_of_it(
    store: Store,
) -> None:
    await fill(store)
    owned = replace(VDI, kind=PoolKind.DEDICATED)
    await store.directory.save_pool(owned, new=False)
    sessions = [await claimed_session(store, make_request(user, owned)) for user in (1, 2, 3)]
    await ready_desktops(store, [1], owner_id="usr_9")
    await ready_desktops(store, [2])
    await ready_desktops(store, [3], owner_id="usr_2")
    served = await store.sessions.serve_queue(owned, [one.id for one in sessions], NOW + 9, NOW)
    assert [one.desktop_id for one in served] == ["dsk_library_2", "dsk_library_3"]
    new_owner = await store.desktops.desktop("dsk_library_2")
    assert new_owner is not None
    assert new_owner.owner_id == "usr_1"


async def test_two_who_serve_one_queue_at_once_give_no_desktop_twice(store: Store) -> None:
    await fill(store, users=20)
    order = [(await claimed_session(store, make_request(user))).id for user in range(1, 21)]
    await ready_desktops(store, range(12))
    rounds = await asyncio.gather(
        *(store.sessions.serve_queue(VDI, order, NOW + 9, NOW) for _ in range(4))
    )
    # who skipped a locked desktop comes again, as the reconciler does
    rounds.append(await store.sessions.serve_queue(VDI, order, NOW + 9, NOW))
    served = [one for each in rounds for one in each]
    assert len(served) == 12
    assert len({one.id for one in served}) == 12
    assert len({one.desktop_id for one in served}) == 12


# ---------------------------------------------------------------- fair between groups


async def test_desktops_that_come_one_by_one_go_to_the_groups_in_turn(store: Store) -> None:
    await fill(store)
    for user in range(1, 6):
        await claimed_session(store, make_request(user, group_id="grp_1"), NOW + user)
    await claimed_session(store, make_request(6, group_id="grp_2"), NOW + 6)
    await claimed_session(store, make_request(7, group_id="grp_2"), NOW + 7)
    order: list[str] = []
    for number in range(1, 8):
        await ready_desktops(store, [number])
        fair = fair_order(await store.sessions.waiting(VDI.id))
        (served,) = await store.sessions.serve_queue(VDI, fair, NOW + 99, NOW + 50)
        assert served.id == fair[0]
        order.append(served.user_id)
    assert order == ["usr_1", "usr_6", "usr_2", "usr_7", "usr_3", "usr_4", "usr_5"]


async def test_a_group_that_was_idle_has_one_turn_and_no_more_for_it(store: Store) -> None:
    await fill(store)
    for user in (1, 2, 3, 4, 5):
        await claimed_session(store, make_request(user, group_id="grp_1"), NOW + user)
    for number in (1, 2):
        await ready_desktops(store, [number])
        fair = fair_order(await store.sessions.waiting(VDI.id))
        await store.sessions.serve_queue(VDI, fair, NOW + 99, NOW + 50)
    for user in (6, 7, 8):
        outcome = await claim_one(store, make_request(user, group_id="grp_2"), NOW + user)
        assert outcome.place == {6: 1, 7: 3, 8: 5}[user]
    waiting = await store.sessions.waiting(VDI.id)
    assert {(one.group_id, one.start) for one in waiting} == {("grp_1", 1), ("grp_2", 0)}


async def test_own_desktops_and_those_of_endpoints_are_nobodys_turn(store: Store) -> None:
    await fill(store)
    dedicated = replace(VDI, kind=PoolKind.DEDICATED)
    await store.directory.save_pool(dedicated, new=False)
    for pool, changes in ((dedicated, {}), (IDV, {"endpoint_id": "ept_1"})):
        one = await claimed_session(store, make_request(1, pool, **changes))
        await claimed_session(store, make_request(2, pool))
        await ready_desktops(store, [1], pool, owner_id="usr_1")
        (served,) = await store.sessions.serve_queue(pool, [one.id], NOW + 9, NOW)
        assert served.id == one.id
        assert [left.start for left in await store.sessions.waiting(pool.id)] == [0]
