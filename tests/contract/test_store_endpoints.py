"""Endpoints, their keys and their presence, in every store."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from broker.domain.errors import ConflictError, IllegalTransitionError, NotFoundError
from broker.domain.lifecycle import ENDPOINT, DesktopEvent, EndpointEvent
from broker.domain.model import DesktopState, Endpoint, EndpointKind, EndpointState
from broker.ports import Store
from tests.support.builders import NOW
from tests.support.stores import (
    IDV,
    claimed_session,
    fill,
    make_request,
    new_desktop,
    new_endpoint,
    ready_desktops,
)


async def enrol(store: Store, **changes: Any) -> Endpoint:
    values: dict[str, Any] = {
        "name": "LAB-01",
        "kind": EndpointKind.FAT,
        "location": "Elsewhere",
        "public_key": b"k" * 32,
        "agent_version": "2.0",
        "new_id": "ept_new",
        "now": NOW + 1,
    }
    return await store.endpoints.enrol(**(values | changes))


async def test_an_endpoint_of_the_roster_keeps_its_record_and_gets_a_key(store: Store) -> None:
    await fill(store)
    enrolled = await enrol(store)
    assert enrolled == new_endpoint(1, public_key=b"k" * 32, agent_version="2.0")
    assert await store.endpoints.endpoint("ept_1") == enrolled
    assert await store.endpoints.endpoint_by_name("LAB-01") == enrolled
    again = await enrol(store, public_key=b"n" * 32)
    assert again.public_key == b"n" * 32


async def test_an_unknown_endpoint_gets_a_record(store: Store) -> None:
    enrolled = await enrol(store, name="NEW", kind=EndpointKind.THIN)
    assert enrolled == Endpoint(
        id="ept_new",
        name="NEW",
        kind=EndpointKind.THIN,
        location="Elsewhere",
        state=EndpointState.ENROLLED,
        public_key=b"k" * 32,
        pool_ids=(),
        agent_version="2.0",
        last_seen_at=None,
        created_at=NOW + 1,
    )
    assert await store.endpoints.endpoint("ept_new") == enrolled
    assert await store.endpoints.endpoint("ept_9") is None
    assert await store.endpoints.endpoint_by_name("ept_new") is None


async def test_one_of_another_kind_or_retired_is_not_enrolled(store: Store) -> None:
    await fill(store)
    with pytest.raises(ConflictError):
        await enrol(store, kind=EndpointKind.THIN)
    await store.endpoints.presence("ept_1", EndpointEvent.RETIRED, NOW)
    with pytest.raises(ConflictError):
        await enrol(store)
    found = await store.endpoints.endpoint("ept_1")
    assert found is not None
    assert found.public_key is None


async def test_two_that_enrol_under_one_new_name_become_one_record(store: Store) -> None:
    both = await asyncio.gather(
        *(enrol(store, name="NEW", new_id=f"ept_{n}", public_key=bytes([n]) * 32) for n in (1, 2))
    )
    assert both[0].id == both[1].id
    stored = await store.endpoints.endpoint_by_name("NEW")
    assert stored in both


@pytest.mark.parametrize("event", list(EndpointEvent))
@pytest.mark.parametrize("state", list(EndpointState))
async def test_an_endpoint_moves_exactly_along_its_table(
    store: Store, state: EndpointState, event: EndpointEvent
) -> None:
    await fill(store)
    presence = store.endpoints.presence
    if state in {EndpointState.ONLINE, EndpointState.OFFLINE}:
        await presence("ept_1", EndpointEvent.CONNECTED, NOW + 1, agent_version="1.0")
    if state is EndpointState.OFFLINE:
        await presence("ept_1", EndpointEvent.LOST, NOW + 1)
    if state is EndpointState.RETIRED:
        await presence("ept_1", EndpointEvent.RETIRED, NOW + 1)
    before = await store.endpoints.endpoint("ept_1")
    assert before is not None
    assert before.state is state
    if not ENDPOINT.allows(state, event):
        with pytest.raises(IllegalTransitionError):
            await presence("ept_1", event, NOW + 50, agent_version="9")
        assert await store.endpoints.endpoint("ept_1") == before
        return
    moved = await presence("ept_1", event, NOW + 50)
    assert moved == replace(
        before,
        state=ENDPOINT.table[state, event].to,
        last_seen_at=before.last_seen_at if event is EndpointEvent.RETIRED else NOW + 50,
    )
    assert await store.endpoints.endpoint("ept_1") == moved


async def test_an_unknown_endpoint_has_no_presence(store: Store) -> None:
    with pytest.raises(NotFoundError):
        await store.endpoints.presence("ept_9", EndpointEvent.CONNECTED, NOW)


async def states(store: Store) -> dict[int, DesktopState]:
    found = {}
    for number in (1, 2):
        desktop = await store.desktops.desktop(new_desktop(number, IDV).id)
        assert desktop is not None
        found[number] = desktop.state
    return found


async def test_idle_desktops_come_and_go_with_their_endpoint(store: Store) -> None:
    await fill(store)
    await store.desktops.add([new_desktop(1, IDV), new_desktop(2, IDV)], [])
    presence = store.endpoints.presence
    away, resetting, ready = (
        DesktopState.UNAVAILABLE,
        DesktopState.RESETTING,
        DesktopState.READY,
    )
    await presence("ept_1", EndpointEvent.CONNECTED, NOW + 1, fresh_deadline_at=NOW + 300)
    assert await states(store) == {1: resetting, 2: away}
    desktop = await store.desktops.desktop("dsk_laboratory_1")
    assert desktop is not None
    assert (desktop.target, desktop.deadline_at, desktop.changed_at) == (
        ready,
        NOW + 300,
        NOW + 1,
    )
    await presence("ept_1", EndpointEvent.LOST, NOW + 2)
    assert await states(store) == {1: away, 2: away}
    desktop = await store.desktops.desktop("dsk_laboratory_1")
    assert desktop is not None
    assert (desktop.target, desktop.deadline_at, desktop.generation) == (None, None, 1)
    await presence("ept_1", EndpointEvent.CONNECTED, NOW + 3)
    await store.desktops.advance("dsk_laboratory_1", DesktopEvent.REPORTED_READY, NOW + 4)
    await presence("ept_1", EndpointEvent.CONNECTED, NOW + 5)
    assert await states(store) == {1: ready, 2: away}
    await presence("ept_1", EndpointEvent.RETIRED, NOW + 6)
    assert await states(store) == {1: away, 2: away}


async def test_a_failed_desktop_comes_back_with_its_endpoint(store: Store) -> None:
    await fill(store)
    await ready_desktops(store, [1], IDV)
    await store.desktops.advance("dsk_laboratory_1", DesktopEvent.FAILED, NOW, note="broken")
    await store.endpoints.presence("ept_1", EndpointEvent.CONNECTED, NOW)
    desktop = await store.desktops.desktop("dsk_laboratory_1")
    assert desktop is not None
    assert (desktop.state, desktop.note) == (DesktopState.RESETTING, "broken")


async def test_a_desktop_in_use_stays_as_it_is(store: Store) -> None:
    await fill(store)
    await ready_desktops(store, [1], IDV)
    await claimed_session(store, make_request(1, IDV, endpoint_id="ept_1"))
    before = await store.desktops.desktop("dsk_laboratory_1")
    for event in (EndpointEvent.LOST, EndpointEvent.CONNECTED, EndpointEvent.RETIRED):
        await store.endpoints.presence("ept_1", event, NOW + 9)
        assert await store.desktops.desktop("dsk_laboratory_1") == before


async def test_the_agents_version_is_kept_until_it_tells_another(store: Store) -> None:
    await fill(store)
    presence = store.endpoints.presence
    await presence("ept_1", EndpointEvent.CONNECTED, NOW, agent_version="3.1")
    assert (await presence("ept_1", EndpointEvent.LOST, NOW)).agent_version == "3.1"


async def test_silent_endpoints_are_those_online_without_a_sign_of_life(store: Store) -> None:
    await fill(store)
    presence = store.endpoints.presence
    for number in (1, 2, 3):
        await presence(f"ept_{number}", EndpointEvent.CONNECTED, NOW + number)
    await presence("ept_3", EndpointEvent.LOST, NOW)
    await store.endpoints.seen(["ept_1", "ept_9", "ept_4"], NOW + 50)
    found = await store.endpoints.silent(NOW + 51, 10)
    assert [one.id for one in found] == ["ept_2", "ept_1"]
    assert found[0].pool_ids == (IDV.id,)
    assert [one.id for one in await store.endpoints.silent(NOW + 51, 1)] == ["ept_2"]
    assert [one.id for one in await store.endpoints.silent(NOW + 50, 10)] == ["ept_2"]
    await store.endpoints.seen([], NOW)


async def test_a_sign_of_life_moves_nothing_else(store: Store) -> None:
    await fill(store)
    await store.endpoints.presence("ept_1", EndpointEvent.CONNECTED, NOW)
    before = await store.endpoints.endpoint("ept_1")
    assert before is not None
    await store.endpoints.seen(["ept_1"], NOW + 5)
    assert await store.endpoints.endpoint("ept_1") == replace(before, last_seen_at=NOW + 5)


async def test_a_sign_of_life_tells_who_counts_as_offline_all_the_same(store: Store) -> None:
    await fill(store)
    presence = store.endpoints.presence
    await presence("ept_1", EndpointEvent.CONNECTED, NOW)
    await presence("ept_2", EndpointEvent.CONNECTED, NOW)
    await presence("ept_2", EndpointEvent.LOST, NOW)
    await presence("ept_3", EndpointEvent.RETIRED, NOW)
    seen = await store.endpoints.seen(["ept_1", "ept_2", "ept_3", "ept_9"], NOW + 5)
    assert seen == ("ept_2",)
