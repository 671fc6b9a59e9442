"""Spares get their pool's new image: a few at a time, never one that somebody has."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from broker import limits
from broker.domain.images import is_outdated
from broker.domain.model import DesktopState, HostState, Pool
from broker.domain.planning import MakeDesktop, RenewDesktop
from tests.support.builders import NOW, make_desktop, make_pool
from tests.support.planning import PlannedWorld, make_world, of

D = DesktopState
OLD, NEW = "img_1", "img_2"


def changed(**changes: Any) -> Pool:
    """A pool whose image was changed a moment ago."""
    return make_pool(**({"image_id": NEW, "image_since": NOW} | changes))


def old_spares(world: PlannedWorld, count: int, **changes: Any) -> None:
    for _ in range(count):
        world.add(**({"image_id": OLD, "host_id": "hst_1"} | changes))


def images(world: PlannedWorld, *states: DesktopState) -> Counter[str | None]:
    return Counter(row.image_id for row in world.rows(*states))


def watched(world: PlannedWorld, looks: int = 60) -> int:
    """Look so often; the fewest that were ready at any time."""
    least = len(world.rows(D.READY))
    for _ in range(looks):
        world.look()
        least = min(least, len(world.rows(D.READY)))
        world.now += 1000
        world.finish()
    return least


@pytest.mark.parametrize(
    ("known", "since", "outdated"),
    [
        (NEW, NOW, False),
        (NEW, None, False),
        (OLD, None, True),
        (OLD, NOW, True),
        (None, None, False),
        (None, NOW, True),
    ],
)
def test_a_desktop_is_outdated_by_what_is_known_of_its_disk(
    known: str | None, since: int | None, *, outdated: bool
) -> None:
    pool = make_pool(image_id=NEW, image_since=since)
    assert is_outdated(make_desktop(image_id=known), pool) is outdated
    assert not is_outdated(make_desktop(host_id=None, endpoint_id="ept_1"), pool)


def test_every_spare_gets_the_new_image_and_as_many_as_are_wanted_stay_ready() -> None:
    world = make_world(changed(spares_min=6, size_max=12))
    old_spares(world, 6)
    assert watched(world) == 6
    assert images(world, D.READY)[OLD] == 0
    assert images(world, D.READY)[NEW] >= 6


def test_a_single_spare_is_replaced_before_it_goes() -> None:
    world = make_world(changed(spares_min=1, size_max=5))
    old_spares(world, 1)
    (command,) = of(MakeDesktop, world.look())
    assert command.why.startswith("it stands in while spares get the image of now")
    world.finish()
    assert watched(world) == 1
    assert OLD not in images(world)


def test_a_pool_that_may_have_no_more_lacks_one_at_a_time() -> None:
    world = make_world(changed(spares_min=4, size_max=4))
    old_spares(world, 4)
    assert watched(world) == 3
    assert images(world, D.READY) == {NEW: 4}


def test_one_that_somebody_uses_is_the_reason_why_the_pool_is_short_and_is_left_alone() -> None:
    world = make_world(changed(spares_min=3, size_max=3))
    old_spares(world, 2)
    old_spares(world, 1, state=D.ASSIGNED)
    assert watched(world) == 1
    assert images(world, D.READY) == {NEW: 2}
    assert images(world, D.ASSIGNED) == {OLD: 1}


def test_no_more_are_made_fresh_at_once_than_the_limit_says() -> None:
    world = make_world(changed(spares_min=0, size_max=30))
    old_spares(world, 10)
    assert len(of(RenewDesktop, world.look())) == limits.RENEWED_AT_ONCE_MAX
    # these are under way: no other goes before one of them is done
    assert of(RenewDesktop, world.look()) == []


def test_what_is_reset_for_another_reason_counts_too() -> None:
    world = make_world(changed(spares_min=0, size_max=30))
    old_spares(world, 10)
    old_spares(world, 3, state=D.RESETTING, deadline_at=NOW + 600_000)
    assert len(of(RenewDesktop, world.look())) == limits.RENEWED_AT_ONCE_MAX - 3


def test_suspended_spares_are_renewed_too_and_sleep_again() -> None:
    pool = changed(spares_min=1, size_max=8)
    pool = replace(pool, settings=replace(pool.settings, spares_suspended=2))
    world = make_world(pool)
    world.step_s = 30
    old_spares(world, 2, state=D.SUSPENDED)
    world.add(image_id=NEW, host_id="hst_1")
    assert len(of(RenewDesktop, world.look())) == 2
    world.finish()
    for _ in range(20):
        world.step()
    assert images(world) == {NEW: 3}
    assert len(world.rows(D.SUSPENDED)) == 2


def test_what_its_owner_keeps_is_left_alone() -> None:
    world = make_world(changed(spares_min=0, size_max=9))
    for state in (D.READY, D.SUSPENDED):
        old_spares(world, 1, state=state, owner_id="usr_1")
    watched(world, 5)
    assert images(world, D.READY, D.SUSPENDED) == {OLD: 2}


def test_nobody_waits_longer_because_of_a_renewal() -> None:
    world = make_world(changed(spares_min=1, size_max=9))
    world.serving = False
    old_spares(world, 3)
    world.waiting["pol_1"] = 1
    assert of(RenewDesktop, world.look()) == []
    world.waiting.clear()
    assert len(of(RenewDesktop, world.look())) == 2


@pytest.mark.parametrize("state", [HostState.DRAINING, HostState.OFF])
def test_nothing_is_renewed_where_nothing_may_start(state: HostState) -> None:
    world = make_world(changed(spares_min=0), hosts=1, state=state)
    old_spares(world, 2, state=D.SUSPENDED)
    assert of(RenewDesktop, world.look()) == []


def test_a_host_that_starts_as_many_as_it_may_takes_none_out_of_reach() -> None:
    world = make_world(changed(spares_min=0, size_max=9), hosts=1, start_limit=1)
    old_spares(world, 3)
    assert len(of(RenewDesktop, world.look())) == 1


def test_a_closed_pool_keeps_what_it_has() -> None:
    world = make_world(changed(enabled=False))
    old_spares(world, 3)
    assert of(RenewDesktop, world.look()) == []


def test_what_is_of_the_pools_image_stays_as_it_is() -> None:
    world = make_world(changed(spares_min=2))
    old_spares(world, 2, image_id=NEW)
    assert watched(world, 5) == 2
    assert {row.generation for row in world.rows()} == {1}
