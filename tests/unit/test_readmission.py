"""Who waits is asked again before a desktop is given away: what forbids a connect by then forbids
the desktop, too, and says so."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from broker.domain.model import Session, SessionState
from broker.domain.policy.rules import Effect
from broker.domain.settings import PoolSettings, ServiceState
from broker.ports import PageQuery, RosterChange
from broker.services.origin import Origin
from broker.services.rulebook import RuleWish
from tests.support.seats import read, set_pool
from tests.support.world import World, make_world

HERE = Origin(source="10.1.2.3")


async def waits(
    world: World, username: str, pool: str = "library", endpoint: str | None = None
) -> Session:
    who = world.who(username)
    answer = await world.connect.connect(who, pool, endpoint, origin=HERE)
    assert answer.session.state is SessionState.QUEUED
    return answer.session


async def deny(world: World, **fields: Any) -> None:
    wish = replace(RuleWish(name="no", effect=Effect.DENY), **fields)
    await world.services.rulebook.add_rule(wish)


async def disable(world: World, username: str) -> None:
    user = await world.kit.store.directory.user(world.users[username].id)
    assert user is not None
    await world.kit.store.directory.update_user(replace(user, enabled=False))


async def leave_the_group(world: World, username: str) -> None:
    user = await world.kit.store.directory.user(world.users[username].id)
    assert user is not None
    await world.kit.store.directory.update_user(replace(user, group_ids=()))


_NO_GROUP = "none of your groups is entitled to library, and no rule allows it"
CHANGES: dict[str, tuple[Callable[[World], Awaitable[None]], str]] = {
    "a rule about the person": (
        lambda world: deny(world, users=["pupil1"]),
        "not admitted any more: the rule “no” does not allow library here or now",
    ),
    "a rule about the network that the request came from": (
        lambda world: deny(world, networks=["10.1.0.0/16"]),
        "not admitted any more: the rule “no” does not allow library here or now",
    ),
    "the account": (
        lambda world: disable(world, "pupil1"),
        "not admitted any more: the account is disabled",
    ),
    "the person's groups": (
        lambda world: leave_the_group(world, "pupil1"),
        f"not admitted any more: {_NO_GROUP}",
    ),
}


@pytest.mark.parametrize("change", list(CHANGES))
async def test_who_would_not_be_admitted_any_more_leaves_the_queue_with_why(change: str) -> None:
    async with make_world() as world:
        session = await waits(world, "pupil1")
        carry_out, why = CHANGES[change]
        await carry_out(world)
        await world.look(6)
        left = await read(world, session.id)
        assert (left.state, left.desktop_id, left.why) == (SessionState.CANCELLED, None, why)
        [entry] = (
            await world.kit.store.audit.entries(PageQuery(filters={"action": "session.cancelled"}))
        ).items
        assert (entry.session_id, entry.why) == (session.id, why)


async def test_the_next_one_gets_the_desktop() -> None:
    async with make_world() as world:
        first, second = await waits(world, "pupil1"), await waits(world, "pupil2")
        await deny(world, users=["pupil1"])
        await world.look(6)
        assert (await read(world, first.id)).state is SessionState.CANCELLED
        assert (await read(world, second.id)).state is SessionState.DELIVERING


async def test_rules_about_others_and_other_networks_take_nobody_out() -> None:
    async with make_world() as world:
        session = await waits(world, "pupil1")
        await deny(world, users=["pupil2"], networks=["10.2.0.0/16"])
        await world.look(6)
        assert (await read(world, session.id)).state is SessionState.DELIVERING


async def test_a_rule_about_the_endpoint_holds_for_who_waits_there() -> None:
    async with make_world() as world:
        here = await waits(world, "pupil1", "lab", "LAB-0")
        there = await waits(world, "pupil2", "lab", "LAB-1")
        await deny(world, endpoints=["LAB-0"])
        for name in ("LAB-0", "LAB-1"):
            await world.online(name)
        await world.look(3)
        assert (await read(world, here.id)).state is SessionState.CANCELLED
        assert (await read(world, there.id)).state is SessionState.DELIVERING


async def test_that_a_pool_closes_takes_nobody_out_of_its_queue() -> None:
    async with make_world() as world:
        session = await waits(world, "pupil1")
        await set_pool(world, "library", PoolSettings(state=ServiceState.DRAINING))
        await world.look(6)
        assert (await read(world, session.id)).state is SessionState.QUEUED


async def test_nobody_is_asked_whom_no_desktop_is_ready_for() -> None:
    async with make_world() as world:
        session = await waits(world, "pupil1", "lab", "LAB-0")
        await deny(world, users=["pupil1"])
        await world.online("LAB-1")
        await world.look(3)
        assert (await read(world, session.id)).state is SessionState.QUEUED


async def test_roster_changes_count_too() -> None:
    """An import that leaves somebody out of a class takes that one out of the class's queue."""
    async with make_world() as world:
        session = await waits(world, "pupil1")
        user = replace(world.users["pupil1"], group_ids=("grp_2",))
        await world.kit.store.directory.apply_roster(RosterChange(users=(user,)))
        await world.look(6)
        assert (await read(world, session.id)).state is SessionState.CANCELLED
