"""What desktops' disks were made from, in every store."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.domain.errors import TriviumError
from broker.domain.lifecycle import DesktopEvent, HostEvent
from broker.domain.model import Desktop, DesktopState, JobVerb, PoolKind
from broker.ports import PageQuery, RosterChange, Store
from tests.support.builders import NOW, make_host
from tests.support.stores import (
    IDV,
    VDI,
    claim_one,
    fill,
    make_image,
    make_job,
    make_request,
    new_desktop,
    ready_desktops,
)

OLD, NEW, NEWER = "img_1", "img_2", "img_3"


async def changed_pool(store: Store, *, since: int | None = NOW) -> None:
    """The pool has image 2 of three by now."""
    await fill(store)
    await store.directory.apply_roster(RosterChange(images=(make_image(2), make_image(3))))
    pool = replace(VDI, image_id=NEW, image_since=since)
    await store.directory.save_pool(pool, new=False)
    assert pool in await store.directory.pools()


async def ids(store: Store, limit: int = 9) -> list[str]:
    return [one.id for one in await store.desktops.outdated(limit)]


async def suspended(store: Store, desktop: Desktop) -> None:
    for event in (DesktopEvent.SUSPEND_ASKED, DesktopEvent.SUSPENDED):
        await store.desktops.advance(desktop.id, event, NOW + 1)


async def test_a_desktop_keeps_what_it_was_made_from(store: Store) -> None:
    await changed_pool(store)
    (desktop,) = await ready_desktops(store, [1], image_id=OLD)
    assert desktop.image_id == OLD
    await ready_desktops(store, [2], image_id=NEW)
    await ready_desktops(store, [3])
    page = await store.desktops.desktops(PageQuery(filters={"image_id": OLD}))
    assert page.items == (desktop,)


async def test_no_desktop_is_made_from_what_does_not_exist(store: Store) -> None:
    await fill(store)
    with pytest.raises(TriviumError):
        await store.desktops.add([new_desktop(1, image_id="img_9")], [])


async def test_a_reset_that_begins_says_what_it_makes_it_from(store: Store) -> None:
    await changed_pool(store)
    (desktop,) = await ready_desktops(store, [1], image_id=OLD)
    asked = await store.desktops.advance(
        desktop.id, DesktopEvent.RESET_ASKED, NOW, generation=1, fresh=True
    )
    # it waits for its turn: its disk is the old one still
    assert (asked.state, asked.image_id) == (DesktopState.RESETTING, OLD)
    job = make_job(desktop_id=desktop.id, verb=JobVerb.RESET)
    begun = await store.desktops.begin_reset(desktop.id, 2, NOW + 9, job, image_id=NEW)
    assert begun.image_id == NEW
    assert await store.desktops.desktop(desktop.id) == begun


async def test_a_reset_of_an_unknown_pool_leaves_it_as_it_was(store: Store) -> None:
    await changed_pool(store)
    (desktop,) = await ready_desktops(store, [1], image_id=OLD)
    await store.desktops.advance(desktop.id, DesktopEvent.RESET_ASKED, NOW, fresh=True)
    job = make_job(desktop_id=desktop.id, verb=JobVerb.RESET)
    begun = await store.desktops.begin_reset(desktop.id, 2, NOW + 9, job)
    assert begun.image_id == OLD


async def test_spares_of_other_images_are_outdated_older_and_newer_ones(store: Store) -> None:
    await changed_pool(store)
    older, newer, same = [
        (await ready_desktops(store, [number], image_id=image_id))[0]
        for number, image_id in ((1, OLD), (2, NEWER), (3, NEW))
    ]
    assert await ids(store) == [older.id, newer.id]
    assert same.id not in await ids(store)
    assert await ids(store, 1) == [older.id]


async def test_suspended_ones_are_outdated_too_longest_unchanged_first(store: Store) -> None:
    await changed_pool(store)
    first, second = await ready_desktops(store, [1, 2], image_id=OLD)
    await suspended(store, first)
    assert await ids(store) == [second.id, first.id]


async def test_what_is_used_or_owned_or_on_a_closed_host_is_no_spare(store: Store) -> None:
    await changed_pool(store)
    await store.directory.save_host(make_host(id="hst_2", name="server-2"), new=True)
    (used,) = await ready_desktops(store, [1], image_id=OLD)
    await ready_desktops(store, [2], image_id=OLD, owner_id="usr_1")
    await ready_desktops(store, [3], image_id=OLD, host_id="hst_2")
    await store.desktops.advance(used.id, DesktopEvent.CLAIMED, NOW)
    await store.directory.move_host("hst_2", HostEvent.DRAIN_ASKED, NOW)
    assert await ids(store) == []


async def test_what_is_not_known_is_outdated_once_the_pools_image_was_changed(
    store: Store,
) -> None:
    await changed_pool(store, since=None)
    (unknown,) = await ready_desktops(store, [1])
    await ready_desktops(store, [1], IDV)
    assert await ids(store) == []
    pool = replace(VDI, image_id=NEWER, image_since=NOW)
    await store.directory.save_pool(pool, new=False)
    assert await ids(store) == [unknown.id]


async def test_who_comes_gets_one_of_the_pools_image_while_there_is_one(store: Store) -> None:
    await changed_pool(store)
    await ready_desktops(store, [1, 3], image_id=OLD)
    await ready_desktops(store, [2])
    await ready_desktops(store, [4, 5], image_id=NEW)
    given = [(await claim_one(store, make_request(number))).desktop for number in (1, 2, 3)]
    assert [one.id for one in given if one] == [
        "dsk_library_4",
        "dsk_library_5",
        "dsk_library_1",
    ]


async def test_a_batch_is_served_from_the_pools_image_first(store: Store) -> None:
    await changed_pool(store)
    await ready_desktops(store, [1, 2], image_id=OLD)
    await ready_desktops(store, [3], image_id=NEW)
    requests = [make_request(number) for number in (1, 2, 3, 4)]
    found = await store.sessions.claim(requests, NOW)
    assert [one.desktop.id if one.desktop else None for one in found] == [
        "dsk_library_3",
        "dsk_library_1",
        "dsk_library_2",
        None,
    ]


async def test_who_waits_gets_one_of_the_pools_image_too(store: Store) -> None:
    await changed_pool(store)
    first = (await claim_one(store, make_request(1))).session
    assert first is not None
    await ready_desktops(store, [1], image_id=OLD)
    await ready_desktops(store, [2], image_id=NEW)
    (served,) = await store.sessions.serve_queue(VDI, [first.id], NOW + 9, NOW)
    assert served.desktop_id == "dsk_library_2"


async def test_a_person_gets_the_own_desktop_whatever_it_was_made_from(store: Store) -> None:
    await changed_pool(store)
    pool = replace(VDI, kind=PoolKind.DEDICATED, image_id=NEW, image_since=NOW)
    await store.directory.save_pool(pool, new=False)
    (own,) = await ready_desktops(store, [2], image_id=OLD, owner_id="usr_1")
    await ready_desktops(store, [1], image_id=NEW)
    found = (await claim_one(store, make_request(1, pool))).desktop
    assert found is not None
    assert found.id == own.id
