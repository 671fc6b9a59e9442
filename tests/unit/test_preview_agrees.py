"""What a preview says is what a connect does: the same refusal, and a desktop or the same place."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from broker.domain.errors import TriviumError
from broker.domain.model import Endpoint, LogOff, PoolKind, SessionState
from broker.domain.policy.rules import Effect, QuotaScope
from broker.domain.settings import PoolSettings, ServiceState, TakeOver
from broker.services.origin import Origin
from broker.services.rulebook import QuotaWish, RuleWish
from tests.support.seats import thin
from tests.support.world import World, make_world

PEOPLE = ("pupil0", "pupil1", "pupil2", "stranger")
ASKING = (*PEOPLE[:3] * 3, "stranger")
POOLS = ("library", "art", "lab")
ASKED = ("library", "library", "library", "art", "lab")
SEATS = (None, None, "THIN-0", "THIN-1", "ART-0", "ART-1", "LAB-0")
BROWSERS = ("home", "school")
HERE = Origin(source="10.1.2.3")
WORLDS = 60
STEPS = 24


async def furnish(world: World, chance: random.Random) -> None:
    await thin(world, 0)
    await thin(world, 1)
    directory = world.kit.store.directory
    for name in POOLS:
        dedicated = chance.random() < 0.6
        state = ServiceState.OPEN if chance.random() < 0.85 else ServiceState.DRAINING
        take_over = chance.choice([*TakeOver, TakeOver.REFUSE])
        pool = replace(
            await world.pools.find(name),
            kind=PoolKind.DEDICATED if dedicated else PoolKind.FLOATING,
            log_off=LogOff.KEEP if dedicated and chance.random() < 0.7 else LogOff.RESET,
            settings=PoolSettings(take_over=take_over, state=state),
            spares_min=chance.choice((0, 1, 2)) if name == "library" else 0,
        )
        await directory.save_pool(pool, new=False)
    world.pools.forget()
    for name in ("ART-0", "ART-1", "LAB-0"):
        if chance.random() < 0.7:
            await world.online(name)
    await world.look(4)


async def rule(world: World, chance: random.Random) -> None:
    """Some rules and quotas, of every field."""
    book = world.services.rulebook
    for number in range(chance.choice((0, 0, 1, 3))):
        effect = chance.choice(list(Effect))
        named = chance.sample(PEOPLE, 2)
        wish = RuleWish(name=f"r{number}", effect=effect, users=named)
        if chance.random() < 0.5:
            wish = replace(wish, pools=chance.sample(POOLS, 1))
        if chance.random() < 0.4:
            wish = replace(wish, endpoints=[chance.choice(SEATS[2:]) or ""])
        if chance.random() < 0.3:
            wish = replace(wish, networks=[chance.choice(("10.1.0.0/16", "10.2.0.0/16"))])
        await book.add_rule(wish)
    for number in range(chance.choice((0, 0, 1, 2))):
        scope = chance.choice(list(QuotaScope))
        quota = QuotaWish(name=f"q{number}", scope=scope, sessions_max=chance.randint(0, 3))
        if scope is QuotaScope.GROUP:
            quota = replace(quota, group="pupils")
        if scope is QuotaScope.POOL:
            quota = replace(quota, pools=chance.sample(POOLS, 2))
        await book.add_quota(quota)


async def seat(world: World, name: str | None) -> Endpoint | None:
    return None if name is None else await world.kit.store.endpoints.endpoint_by_name(name)


Answer = tuple[str, bool, int | None]
"""the code of the refusal, whether it is a desktop at once, the place in the queue"""


async def foretold(
    world: World, name: str, pool: str, at: str | None, browser: str
) -> tuple[Answer, bool]:
    """And whether the person has a session of that pool already."""
    found = await world.services.previews.preview(
        world.users[name], endpoint=await seat(world, at), address=HERE.source, browser=browser
    )
    [told] = [one for one in found.pools if one.pool.name == pool]
    if told.refusal is not None:
        return (told.refusal.code, False, None), told.session is not None
    return ("", told.place is None, told.place), told.session is not None


async def done(world: World, name: str, pool: str, at: str | None, browser: str) -> Answer:
    try:
        answer = await world.connect.connect(world.who(name, browser), pool, at, origin=HERE)
    except TriviumError as error:
        return error.code, False, None
    session = answer.session
    queued = session.state is SessionState.QUEUED
    return "", not queued, answer.place if queued else None


async def act(world: World, chance: random.Random, name: str) -> None:
    """What happens between two requests."""
    for session in await world.sessions.own(world.who(name)):
        if session.state is SessionState.DELIVERING and chance.random() < 0.7:
            await world.sessions.live(session.id, session.endpoint_id, session.generation)
        elif chance.random() < 0.35:
            await world.sessions.log_off(world.who(name), session.id)
        elif session.state is SessionState.ACTIVE and chance.random() < 0.3:
            await world.sessions.lost(session, "it went away")
    if chance.random() < 0.5:
        await world.look(2)


@pytest.mark.parametrize("seed", range(WORLDS))
async def test_what_a_preview_says_is_what_a_connect_does(seed: int) -> None:
    chance = random.Random(seed)
    async with make_world() as world:
        await furnish(world, chance)
        await rule(world, chance)
        for step in range(STEPS):
            name, pool = chance.choice(ASKING), chance.choice(ASKED)
            at, browser = chance.choice(SEATS), chance.choice(BROWSERS)
            told, has_one = await foretold(world, name, pool, at, browser)
            answer = await done(world, name, pool, at, browser)
            about = f"step {step}: {name} asks for {pool} at {at or browser}"
            assert answer[0] == told[0], about
            if not has_one:
                assert answer == told, about
            await act(world, chance, name)


async def test_a_preview_of_somebody_disabled_says_no() -> None:
    async with make_world() as world:
        await world.look(3)
        user = replace(world.users["pupil1"], enabled=False)
        found = await world.services.previews.preview(user)
        assert not any(one.may for one in found.pools)
        assert {one.why for one in found.pools} == {"the account is disabled"}
