"""What is closed gives nothing new, in every store, whatever was read before it was closed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.domain.audit import Outcome
from broker.domain.errors import IllegalTransitionError, PoolClosedError, SiteClosedError
from broker.domain.lifecycle import HostEvent
from broker.domain.model import Pool, PoolKind
from broker.domain.settings import ServiceState, SiteSettings
from broker.domain.site import SITE_DOCUMENT, plain
from broker.ports import PageQuery, Store
from tests.support.builders import NOW
from tests.support.stores import (
    VDI,
    claim_one,
    claimed_session,
    fill,
    make_ready,
    make_request,
    new_desktop,
    ready_desktops,
)

CLOSED = (ServiceState.DRAINING, ServiceState.MAINTENANCE)


def in_state(pool: Pool, state: ServiceState) -> Pool:
    return replace(pool, settings=replace(pool.settings, state=state))


@pytest.mark.parametrize("state", CLOSED)
async def test_a_pool_that_closed_since_admission_gives_nothing_new(
    store: Store, state: ServiceState
) -> None:
    await fill(store)
    await ready_desktops(store, [1])
    await store.directory.save_pool(in_state(VDI, state), new=False)
    request = make_request()
    outcome = await claim_one(store, request)
    assert isinstance(outcome.closed, PoolClosedError)
    assert (outcome.session, outcome.new, outcome.ticket_stored) == (None, False, False)
    assert await store.sessions.session(request.session_id) is None
    (entry,) = (await store.audit.entries(PageQuery())).items
    assert (entry.action, entry.outcome) == ("session.connect", Outcome.REFUSED)
    assert entry.why.startswith("refused: ")


async def test_a_pool_that_was_disabled_since_admission_gives_nothing_new(store: Store) -> None:
    await fill(store)
    await ready_desktops(store, [1])
    await store.directory.save_pool(replace(VDI, enabled=False), new=False)
    assert isinstance((await claim_one(store, make_request())).closed, PoolClosedError)


async def test_a_site_that_closed_since_admission_gives_nothing_new(store: Store) -> None:
    await fill(store)
    await ready_desktops(store, [1])
    closed = plain(SiteSettings(state=ServiceState.DRAINING))
    await store.documents.save(SITE_DOCUMENT, closed, revision=0)
    assert isinstance((await claim_one(store, make_request())).closed, SiteClosedError)


async def test_who_has_a_session_keeps_it_while_the_pool_drains(store: Store) -> None:
    await fill(store)
    await ready_desktops(store, [1])
    before = await claimed_session(store, make_request())
    await store.directory.save_pool(in_state(VDI, ServiceState.DRAINING), new=False)
    again = await claim_one(store, make_request())
    assert again.closed is None
    assert again.session is not None
    assert again.session.id == before.id


@pytest.mark.parametrize("state", CLOSED)
async def test_nobody_who_waits_is_served_once_the_pool_closed(
    store: Store, state: ServiceState
) -> None:
    await fill(store)
    waiting = await claimed_session(store, make_request())
    await ready_desktops(store, [1])
    await store.directory.save_pool(in_state(VDI, state), new=False)
    # the one who serves has read the pool while it was open
    assert await store.sessions.serve_queue(VDI, [waiting.id], NOW + 1000, NOW) == ()
    await store.directory.save_pool(VDI, new=False)
    (served,) = await store.sessions.serve_queue(VDI, [waiting.id], NOW + 1000, NOW)
    assert served.id == waiting.id


async def test_while_a_pool_drains_those_who_wait_get_their_own_and_no_other(
    store: Store,
) -> None:
    await fill(store)
    pool = replace(VDI, kind=PoolKind.DEDICATED)
    owner = await claimed_session(store, make_request(1, pool))
    other = await claimed_session(store, make_request(2, pool))
    desktops = [replace(new_desktop(1), owner_id="usr_1"), new_desktop(2)]
    await store.desktops.add(desktops, [])
    for desktop in desktops:
        await make_ready(store, desktop)
    await store.directory.save_pool(in_state(pool, ServiceState.DRAINING), new=False)
    served = await store.sessions.serve_queue(pool, [other.id, owner.id], NOW + 1000, NOW)
    assert [(one.id, one.desktop_id) for one in served] == [(owner.id, new_desktop(1).id)]


async def test_nothing_is_planned_on_a_host_that_closed_since_the_look(store: Store) -> None:
    await fill(store)
    desktop = new_desktop(1)
    assert desktop.host_id is not None
    lease = await store.leases.acquire("planner", "a", NOW, NOW + 60_000)
    assert lease is not None
    await store.directory.move_host(desktop.host_id, HostEvent.DRAIN_ASKED, NOW)
    with pytest.raises(IllegalTransitionError):
        await store.desktops.add([desktop], [], lease=lease)
    assert await store.desktops.desktop(desktop.id) is None
    await store.directory.move_host(desktop.host_id, HostEvent.OPENED, NOW)
    await store.desktops.add([desktop], [], lease=lease)
