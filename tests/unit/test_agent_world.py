"""Whatever happens in whatever order: in the end the endpoint and the broker agree."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isfinite

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents import limits
from tests.support.agent_world import World


def _outage(world: World) -> None:
    world.reachable = False
    world.cut()
    world.cut_displays()


def _back(world: World) -> None:
    world.reachable = True
    world.broker.garbled = False
    world.broker.refusing = False


def _garble(world: World) -> None:
    world.broker.garbled = True
    world.broker.push_owed()


def _refuse(world: World) -> None:
    world.broker.refusing = True
    world.cut()


def _spoil(world: World) -> None:
    world.spoiled += 1


ACTIONS: Mapping[str, Callable[[World], None]] = {
    "vdi 1": lambda world: world.broker.want("vdi", "dsk_1"),
    "vdi 2": lambda world: world.broker.want("vdi", "dsk_2"),
    "idv": lambda world: world.broker.want("idv", "dsk_3"),
    "voi": lambda world: world.broker.want("voi", "dsk_4"),
    "log off": lambda world: world.broker.log_off(),
    "cut": World.cut,
    "cut displays": World.cut_displays,
    "outage": _outage,
    "back": _back,
    "garble": _garble,
    "refuse": _refuse,
    "replay": World.replay,
    "tokens end": lambda world: world.broker.tokens.clear(),
    "spoil": _spoil,
    "all again": lambda world: world.broker.push_owed(),
}
PAUSES = st.sampled_from([0.0, 0.005, 0.015, 0.05, 0.3, 2.0, 6.0, 25.0, 100.0, 700.0])
STEPS = st.lists(st.tuples(st.sampled_from(sorted(ACTIONS)), PAUSES), max_size=30)


def settle(world: World) -> None:
    """Heal everything and give it the time that the slowest way takes: the widest pauses, a
    ticket that is not answered, another, and a boot."""
    _back(world)
    world.spoiled = 0
    world.run(4 * limits.BACKOFF_CAP_S + limits.HANDSHAKE_S + 2 * limits.GRANT_S + 100)


def agree(world: World) -> None:
    assert not world.finished
    assert isfinite(world.core.due)
    assert world.core.link.is_up
    states = {session_id: one.state for session_id, one in world.broker.sessions.items()}
    assert set(states.values()) <= {"live", "over"}, states
    live = {session_id for session_id, state in states.items() if state == "live"}
    assert {session.id for session in world.core.sessions if session.is_live} == live
    assert {session.id for session in world.core.sessions if session.carried} == live
    assert not world.broker.unfresh
    thin = {name for name in live if world.broker.sessions[name].architecture == "vdi"}
    assert set(world.displays) == thin
    assert not world.core._outbox


@given(st.sampled_from(["thin", "fat"]), STEPS, st.integers(0, 10_000))
def test_any_row_of_orders_and_failures_ends_in_agreement(
    kind: str, steps: list[tuple[str, float]], seed: int
) -> None:
    world = World(kind, seed)
    world.run(6)
    for action, pause in steps:
        ACTIONS[action](world)
        world.run(pause)
    settle(world)
    agree(world)


@pytest.mark.parametrize("architecture", ["vdi", "idv", "voi"])
@pytest.mark.parametrize("loss", ["cut", "outage"])
def test_a_link_lost_at_any_moment_of_a_delivery_does_not_lose_the_session(
    architecture: str, loss: str
) -> None:
    """The moments: every tenth of a second of the first four, then every second to live."""
    moments = [tenth / 10 for tenth in range(40)] + [float(second) for second in range(4, 50)]
    for moment in moments:
        world = World("thin" if architecture == "vdi" else "fat", seed=3)
        world.run(10)
        world.broker.want(architecture, "dsk_1")
        world.run(moment)
        ACTIONS[loss](world)
        world.run(2)
        settle(world)
        agree(world)
        (session,) = world.broker.sessions.values()
        assert (session.state, session.failures) == ("live", []), moment


def test_a_day_without_a_broker_suspends_the_session_and_the_agent_still_asks() -> None:
    world = World("fat", seed=1)
    world.run(10)
    world.broker.want("idv", "dsk_1")
    world.run(60)
    _outage(world)
    tries = len(world.connects)
    world.run(24 * 3600)
    tries = len(world.connects) - tries
    assert 24 * 3600 / limits.BACKOFF_CAP_S <= tries <= 24 * 3600 / 30
    assert not world.core.sessions
    settle(world)
    agree(world)
    (session,) = world.broker.sessions.values()
    assert session.failures == ["lease.expired"]


def test_the_same_seed_plays_the_same_world() -> None:
    def play() -> list[float]:
        world = World("fat", seed=5)
        for action in ("idv", "cut", "voi", "outage", "back", "log off"):
            ACTIONS[action](world)
            world.run(50)
        return [*world.connects, world.core.due]

    assert play() == play()
