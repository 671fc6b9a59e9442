"""Lists: pages by key, filters, search, and what they refuse; in every store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from broker.domain.lifecycle import DesktopEvent, EndpointEvent
from broker.domain.model import EndpointKind, Role
from broker.limits import PAGE_LIMIT_MAX
from broker.ports import Page, PageQuery, RosterChange, Store
from tests.support.builders import NOW
from tests.support.stores import (
    IDV,
    VDI,
    claimed_session,
    fill,
    make_campaign,
    make_group,
    make_job,
    make_request,
    make_user,
    new_desktop,
    new_endpoint,
    ready_desktops,
)

NAMES = ["users", "groups", "desktops", "endpoints", "sessions", "jobs", "campaigns"]

Read = Callable[[PageQuery], Awaitable[Page[Any]]]


def lists(store: Store) -> dict[str, Read]:
    return {
        "users": store.directory.users,
        "groups": store.directory.groups,
        "desktops": store.desktops.desktops,
        "endpoints": store.endpoints.endpoints,
        "sessions": store.sessions.sessions,
        "jobs": store.jobs.jobs,
        "campaigns": store.campaigns.campaigns,
    }


async def walk(read: Read, limit: int, **query: Any) -> list[Any]:
    """Every row, page by page; each page but the last is full."""
    found: list[Any] = []
    after: str | None = None
    while True:
        page = await read(PageQuery(limit=limit, after=after, **query))
        found.extend(page.items)
        if page.next_after is None:
            return found
        assert len(page.items) == limit
        after = page.next_after


async def ids(read: Read, **query: Any) -> list[str]:
    return [one.id for one in await walk(read, 2, **query)]


@pytest.fixture
async def full(store: Store) -> Store:
    """A few of everything."""
    await fill(store, users=5)
    await ready_desktops(store, [1, 2, 3])
    await ready_desktops(store, [1, 2], IDV)
    await store.desktops.add([], [make_job(n, desktop_id="dsk_library_1") for n in range(1, 6)])
    for user in (1, 2, 3):
        await claimed_session(store, make_request(user))
    await claimed_session(store, make_request(4, IDV, endpoint_id="ept_1"))
    await claimed_session(store, make_request(5))
    for number in range(1, 6):
        await store.campaigns.save(make_campaign(number))
    return store


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("limit", [1, 2, 3, 500])
async def test_pages_hold_every_row_once_in_order(full: Store, name: str, limit: int) -> None:
    read = lists(full)[name]
    rows = await walk(read, limit)
    keys = {"users": "username"}.get(name, "name")
    newest_first = name in {"sessions", "jobs", "campaigns"}
    got = [getattr(row, "id" if newest_first else keys) for row in rows]
    assert len(got) >= 3
    assert got == sorted(set(got), reverse=newest_first)


@pytest.mark.parametrize("name", NAMES)
async def test_a_page_after_the_last_row_is_empty(store: Store, name: str) -> None:
    page = await lists(store)[name](PageQuery(after="~"))
    assert page == Page(items=(), next_after=None)


@pytest.mark.parametrize("name", NAMES)
async def test_an_unknown_filter_is_refused(store: Store, name: str) -> None:
    read = lists(store)[name]
    with pytest.raises(ValueError, match="colour"):
        await read(PageQuery(filters={"colour": "red"}))
    for limit in (0, -1, PAGE_LIMIT_MAX + 1):
        with pytest.raises(ValueError, match="limit"):
            await read(PageQuery(limit=limit))


@pytest.mark.parametrize("name", ["sessions", "jobs"])
async def test_a_list_without_names_takes_no_text(store: Store, name: str) -> None:
    with pytest.raises(ValueError, match="names"):
        await lists(store)[name](PageQuery(text="a"))


async def test_names_are_ordered_by_code_point_in_every_script(store: Store) -> None:
    names = ["Zoo", "apple", "中文", "Äpfel", "zoo", "10", "9", "-", "_", "😀", "ﬁn"]
    users = tuple(
        make_user(number, username=name, group_ids=()) for number, name in enumerate(names)
    )
    await store.directory.apply_roster(RosterChange(users=users))
    found = [one.username for one in await walk(store.directory.users, 3)]
    assert found == sorted(names)


async def test_text_is_found_in_any_case_and_taken_literally(store: Store) -> None:
    groups = tuple(
        make_group(number, name=name, title="")
        for number, name in enumerate(["Straße 1", "ÄPFEL", "50%", "5000", "a_b", "axb", "张伟"])
    )
    await store.directory.apply_roster(RosterChange(groups=groups))

    async def found(text: str) -> list[str]:
        return [one.name for one in await walk(store.directory.groups, 2, text=text)]

    assert await found("STRASSE") == ["Straße 1"]
    assert await found("äpfel") == ["ÄPFEL"]
    assert await found("0%") == ["50%"]
    assert await found("A_B") == ["a_b"]
    assert await found("伟") == ["张伟"]
    assert await found("\\") == []
    assert len(await found("")) == 7


async def test_users_are_searched_by_both_names_and_filtered(full: Store) -> None:
    users = full.directory.users
    boss = make_user(60, username="boss", display_name="Ада Л.", group_ids=("grp_2", "grp_1"))
    await full.directory.add_user(boss, None)
    await full.directory.add_user(make_user(61, role=Role.AUDITOR, group_ids=()), None)
    assert await ids(users, text="BOSS") == ["usr_60"]
    assert await ids(users, text="ада") == ["usr_60"]
    assert await ids(users, filters={"group_id": "grp_2"}) == ["usr_60"]
    assert await ids(users, filters={"role": "auditor"}) == ["usr_61"]
    assert await ids(users, filters={"role": "auditor", "group_id": "grp_2"}) == []
    page = await users(PageQuery(filters={"group_id": "grp_2"}))
    assert page.items == (boss,)


async def test_desktops_are_filtered_by_each_field(full: Store) -> None:
    desktops = full.desktops.desktops
    assert await ids(desktops, filters={"pool_id": IDV.id}) == [
        "dsk_laboratory_1",
        "dsk_laboratory_2",
    ]
    assert await ids(desktops, filters={"endpoint_id": "ept_2"}) == ["dsk_laboratory_2"]
    assert await ids(desktops, filters={"state": "ready"}) == ["dsk_laboratory_2"]
    assert len(await ids(desktops, filters={"host_id": "hst_1"})) == 3
    assert len(await ids(desktops, filters={"architecture": "vdi", "state": "assigned"})) == 3
    assert await ids(desktops, text="LIBRARY-0002") == ["dsk_library_2"]


async def test_deleted_desktops_are_listed_only_when_asked_for(full: Store) -> None:
    (desktop,) = await ready_desktops(full, [7])
    for number in range(3):
        again = new_desktop(7, id=f"dsk_again_{number}")
        await full.desktops.advance(desktop.id, DesktopEvent.DELETE_ASKED, NOW)
        await full.desktops.advance(desktop.id, DesktopEvent.DELETED, NOW)
        await full.desktops.add([again], [])
        desktop = again
    listed = await ids(full.desktops.desktops, filters={"pool_id": VDI.id})
    assert listed == ["dsk_library_1", "dsk_library_2", "dsk_library_3", "dsk_again_2"]
    deleted = await ids(full.desktops.desktops, filters={"state": "deleted"})
    assert deleted == ["dsk_library_7", "dsk_again_1", "dsk_again_0"]


async def test_endpoints_are_filtered_by_each_field(full: Store) -> None:
    endpoints = full.endpoints.endpoints
    await full.endpoints.presence("ept_4", EndpointEvent.RETIRED, NOW)
    thin = new_endpoint(9, kind=EndpointKind.THIN, location="Hall", pool_ids=(VDI.id, IDV.id))
    await full.directory.apply_roster(RosterChange(endpoints=(thin,)))
    assert await ids(endpoints, filters={"state": "online"}) == ["ept_1", "ept_2"]
    assert await ids(endpoints, filters={"state": "retired"}) == ["ept_4"]
    assert await ids(endpoints, filters={"kind": "thin"}) == ["ept_9"]
    assert await ids(endpoints, filters={"location": "Hall"}) == ["ept_9"]
    assert await ids(endpoints, filters={"pool_id": VDI.id}) == ["ept_9"]
    assert await ids(endpoints, text="lab-03") == ["ept_3"]
    page = await endpoints(PageQuery(filters={"kind": "thin"}))
    assert page.items[0].pool_ids == (VDI.id, IDV.id)


async def test_sessions_are_filtered_by_each_field(full: Store) -> None:
    sessions = full.sessions.sessions

    async def users(**filters: str) -> list[str]:
        return [one.user_id for one in await walk(sessions, 2, filters=filters)]

    assert await users() == ["usr_5", "usr_4", "usr_3", "usr_2", "usr_1"]
    assert await users(user_id="usr_2") == ["usr_2"]
    assert await users(pool_id=IDV.id) == ["usr_4"]
    assert await users(architecture="vdi", state="delivering") == ["usr_3", "usr_2", "usr_1"]
    assert await users(desktop_id="dsk_library_2") == ["usr_2"]
    assert await users(endpoint_id="ept_1") == ["usr_4"]
    assert await users(state="queued") == ["usr_5"]
    assert await users(live="true", pool_id=VDI.id) == ["usr_5", "usr_3", "usr_2", "usr_1"]
    assert await users(live="false") == []
    with pytest.raises(ValueError, match="live"):
        await users(live="maybe")


async def test_jobs_and_campaigns_are_filtered_by_each_field(full: Store) -> None:
    await full.jobs.take(NOW + 9, NOW + 99, 2)
    jobs = full.jobs.jobs
    assert await ids(jobs, filters={"state": "running"}) == ["job_002", "job_001"]
    assert len(await ids(jobs, filters={"verb": "create", "host_id": "hst_1"})) == 5
    assert await ids(jobs, filters={"verb": "destroy"}) == []
    assert len(await ids(jobs, filters={"desktop_id": "dsk_library_1"})) == 5
    assert len(await ids(full.campaigns.campaigns, filters={"state": "running"})) == 5
    assert await ids(full.campaigns.campaigns, filters={"state": "failed"}) == []
    assert await ids(full.campaigns.campaigns, text="campaign 3") == ["cmp_3"]
