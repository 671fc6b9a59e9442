"""An endpoint that is retired carries nothing: what is at it ends or goes on elsewhere."""

from __future__ import annotations

import pytest

from broker.domain.errors import WrongEndpointError
from broker.domain.lifecycle import EndpointEvent
from broker.domain.model import DesktopState, SessionState
from broker.ports import StopOrder
from broker.services.reconciler.chores import SILENCE_S
from tests.support.seats import read, sit_down, thin
from tests.support.world import World, make_world


async def retired_unseen(world: World, endpoint_id: str) -> None:
    """As by a broker that died right after it had written that down."""
    await world.kit.store.endpoints.presence(endpoint_id, EndpointEvent.RETIRED, world.clock.now())


@pytest.mark.parametrize("broker_died", [False, True])
async def test_a_desktop_of_the_server_is_kept_for_its_person_to_go_on_elsewhere(
    broker_died: bool,
) -> None:
    async with make_world() as world:
        await world.look(3)
        endpoint = await thin(world, 0)
        await thin(world, 1)
        begun = await sit_down(world, "pupil1", "THIN-0")
        orders = world.link.orders[endpoint]
        if broker_died:
            await retired_unseen(world, endpoint)
            assert (await read(world, begun.session.id)).state is SessionState.ACTIVE
            world.clock.advance(SILENCE_S)
            await world.look()
        else:
            await world.endpoints.retire(endpoint)
        kept = await read(world, begun.session.id)
        assert (kept.state, kept.endpoint_id) == (SessionState.DISCONNECTED, None)
        assert kept.why == "THIN-0 was taken out of service"
        assert [one.moved for one in orders if isinstance(one, StopOrder)] == [True]
        assert not world.link.connected(endpoint)
        with pytest.raises(WrongEndpointError):
            await world.connect.connect(world.who("pupil1"), "library", "THIN-0")
        again = await world.connect.connect(world.who("pupil1"), "library", "THIN-1")
        assert again.session.id == begun.session.id
        assert again.session.state is SessionState.DELIVERING


@pytest.mark.parametrize("online", [True, False])
async def test_a_desktop_that_is_the_endpoint_ends_with_it(
    online: bool,
) -> None:
    async with make_world() as world:
        endpoint = await world.online("ART-0")
        begun = await world.connect.connect(world.who("pupil1"), "art", "ART-0")
        await world.sessions.live(begun.session.id, endpoint.id, begun.session.generation)
        if not online:
            await world.offline("ART-0")
        orders = world.link.orders.get(endpoint.id, [])
        await world.endpoints.retire(endpoint.id)
        assert bool([one for one in orders if isinstance(one, StopOrder)]) is online
        over = await read(world, begun.session.id)
        assert over.state is SessionState.ENDED
        assert over.why == "ART-0 was taken out of service"
        desktop = await world.kit.store.desktops.desktop(over.desktop_id or "")
        assert desktop is not None
        assert desktop.state not in {DesktopState.ASSIGNED, DesktopState.READY}


async def test_nobody_waits_for_a_retired_endpoint() -> None:
    async with make_world() as world:
        waits = await world.connect.connect(world.who("pupil1"), "lab", "LAB-0")
        other = await world.connect.connect(world.who("pupil2"), "lab", "LAB-1")
        await world.endpoints.retire("ept_lab0")
        left = await read(world, waits.session.id)
        assert left.state is SessionState.CANCELLED
        assert left.why == "LAB-0 was taken out of service"
        assert await world.connect.place(other.session) == 1


async def test_a_link_that_another_process_has_is_closed_there_by_a_hint_or_by_the_next_look() -> (
    None
):
    async with make_world() as world:
        endpoint = await thin(world, 0)
        await world.settle()
        world.kit.events.publish("deliver", endpoint_id=endpoint, retired=True)
        await world.settle()
        assert not world.link.connected(endpoint)
        second = await thin(world, 1)
        await retired_unseen(world, second)
        assert world.link.connected(second)
        world.clock.advance(SILENCE_S)
        await world.look()
        assert not world.link.connected(second)
