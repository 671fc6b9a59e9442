"""Desktops on hosts that are not up are given to nobody new, in every store."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.domain.lifecycle import HostEvent
from broker.domain.model import LogOff, PoolKind, SessionState
from broker.domain.silence import SILENCE_DOCUMENT, Silence, plain
from broker.ports import Store
from tests.support.builders import NOW, make_host
from tests.support.stores import VDI, claim_one, fill, make_request, ready_desktops

CLOSING = [HostEvent.LOST, HostEvent.DRAIN_ASKED, HostEvent.MAINTENANCE_ASKED]
LATER = NOW + 60_000


async def two_hosts(store: Store) -> None:
    await fill(store)
    await store.directory.save_host(make_host(id="hst_2", name="server-2"), new=True)


@pytest.mark.parametrize("event", CLOSING)
async def test_nobody_is_given_a_desktop_there(store: Store, event: HostEvent) -> None:
    await two_hosts(store)
    await ready_desktops(store, [1, 2])
    (open_one,) = await ready_desktops(store, [3], host_id="hst_2")
    await store.directory.move_host("hst_1", event, NOW)
    first = await claim_one(store, make_request(1))
    assert first.desktop is not None
    assert first.desktop.id == open_one.id
    second = await claim_one(store, make_request(2))
    assert second.session is not None
    assert second.session.state is SessionState.QUEUED


@pytest.mark.parametrize("event", CLOSING)
async def test_who_has_one_there_gets_it_back(store: Store, event: HostEvent) -> None:
    await two_hosts(store)
    await ready_desktops(store, [1])
    had = await claim_one(store, make_request(1))
    await store.directory.move_host("hst_1", event, NOW)
    again = await claim_one(store, make_request(1))
    assert again.session is not None
    assert had.session is not None
    assert again.session.id == had.session.id
    assert again.desktop == had.desktop


async def test_a_queue_is_served_from_it_once_it_is_up_again(store: Store) -> None:
    await two_hosts(store)
    await ready_desktops(store, [1])
    await store.directory.move_host("hst_1", HostEvent.DRAIN_ASKED, NOW)
    waiting = await claim_one(store, make_request(1))
    assert waiting.session is not None
    order = [waiting.session.id]
    assert await store.sessions.serve_queue(VDI, order, LATER, NOW) == ()
    await store.directory.move_host("hst_1", HostEvent.OPENED, NOW)
    (served,) = await store.sessions.serve_queue(VDI, order, LATER, NOW)
    assert served.state is SessionState.DELIVERING


@pytest.mark.parametrize(
    ("event", "given"),
    [(HostEvent.DRAIN_ASKED, True), (HostEvent.MAINTENANCE_ASKED, True), (HostEvent.LOST, False)],
)
async def test_ones_own_desktop_is_given_wherever_it_can_run(
    store: Store, event: HostEvent, given: bool
) -> None:
    await two_hosts(store)
    pool = replace(VDI, kind=PoolKind.DEDICATED, log_off=LogOff.KEEP)
    await store.directory.save_pool(pool, new=False)
    request = make_request(1, pool=pool)
    await ready_desktops(store, [1], owner_id=request.user_id)
    await store.directory.move_host("hst_1", event, NOW)
    outcome = await claim_one(store, request)
    assert (outcome.desktop is not None) is given


async def test_nobody_is_given_one_on_a_host_that_is_not_heard(store: Store) -> None:
    await two_hosts(store)
    await ready_desktops(store, [1, 2])
    (heard,) = await ready_desktops(store, [3], host_id="hst_2")
    silent = {"hst_1": Silence(since=NOW, why="it hung up")}
    await store.documents.save(SILENCE_DOCUMENT, plain(silent), revision=0)
    first = await claim_one(store, make_request(1))
    assert first.desktop is not None
    assert first.desktop.id == heard.id
    waiting = await claim_one(store, make_request(2))
    assert waiting.session is not None
    assert waiting.session.state is SessionState.QUEUED
    order = [waiting.session.id]
    assert await store.sessions.serve_queue(VDI, order, LATER, NOW) == ()
    await store.documents.save(SILENCE_DOCUMENT, plain({}), revision=1)
    (served,) = await store.sessions.serve_queue(VDI, order, LATER, NOW)
    assert served.state is SessionState.DELIVERING


async def test_ones_own_desktop_on_such_a_host_is_waited_for(store: Store) -> None:
    """Another one would be empty."""
    await two_hosts(store)
    pool = replace(VDI, kind=PoolKind.DEDICATED, log_off=LogOff.KEEP)
    await store.directory.save_pool(pool, new=False)
    request = make_request(1, pool=pool)
    (own,) = await ready_desktops(store, [1], owner_id=request.user_id)
    silent = {"hst_1": Silence(since=NOW, why="it hung up")}
    await store.documents.save(SILENCE_DOCUMENT, plain(silent), revision=0)
    outcome = await claim_one(store, request)
    assert outcome.desktop is not None
    assert outcome.desktop.id == own.id
