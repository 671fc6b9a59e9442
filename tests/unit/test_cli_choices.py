"""Which endpoints and which people a fleet and a campaign take."""

from __future__ import annotations

from collections import Counter
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.cli import casting, endpoint_choice, people
from broker.cli.casting import Cast
from broker.cli.endpoint_choice import CATEGORIES, Place
from broker.cli.errors import CommandError
from broker.cli.people import Person


def place(category: str, number: int) -> Place:
    kind = "thin" if category == "thin" else "fat"
    return Place(name=f"{category}-{number:03}", kind=kind, location="", category=category)


PLACES = [
    place(category, number)
    for category, count in (("thin", 130), ("idv", 100), ("voi", 90))
    for number in range(count)
]


@given(
    st.dictionaries(st.sampled_from(CATEGORIES), st.integers(0, 500), min_size=1),
    st.integers(0, 2000),
)
def test_shares_add_up_and_keep_to_the_proportions(weights: dict[str, int], count: int) -> None:
    found = endpoint_choice.shares(weights, count)
    total = sum(weights.values())
    if total == 0:
        assert set(found.values()) == {0}
        return
    assert sum(found.values()) == count
    for name, weight in weights.items():
        assert abs(found[name] - count * weight / total) < 1


def test_a_count_alone_takes_the_rosters_proportions_spread_over_its_names() -> None:
    chosen = endpoint_choice.choose(PLACES, 300, None)
    assert Counter(one.category for one in chosen) == {"thin": 122, "idv": 94, "voi": 84}
    assert len({one.name for one in chosen}) == 300
    few = endpoint_choice.choose(PLACES, 32, None)
    numbers = [int(one.name.removeprefix("thin-")) for one in few if one.category == "thin"]
    assert numbers == sorted(numbers)
    assert numbers[-1] > 100


def test_nothing_asked_takes_everything_and_a_mix_takes_just_that() -> None:
    assert len(endpoint_choice.choose(PLACES, None, None)) == 320
    chosen = endpoint_choice.choose(PLACES, None, {"thin": 2, "voi": 1})
    assert Counter(one.category for one in chosen) == {"thin": 2, "voi": 1}
    scaled = endpoint_choice.choose(PLACES, 30, {"thin": 2, "voi": 1})
    assert Counter(one.category for one in scaled) == {"thin": 20, "voi": 10}


def test_more_than_the_roster_has_is_refused() -> None:
    with pytest.raises(CommandError, match="too few"):
        endpoint_choice.choose(PLACES, None, {"voi": 91})
    with pytest.raises(CommandError, match="too few"):
        endpoint_choice.choose(PLACES, 321, None)


@pytest.mark.parametrize("text", ["", "thin", "thin=x", "thick=3", "thin=1,thin=2", "idv=-1"])
def test_a_bad_mix_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        endpoint_choice.parse_mix(text)


def test_a_mix_is_read() -> None:
    assert endpoint_choice.parse_mix("thin=130, idv=100") == {"thin": 130, "idv": 100}


POOLS: list[dict[str, Any]] = [
    {"name": "library", "groups": ["a", "b"]},
    {"name": "art", "groups": ["b"]},
]


def user(name: str, *groups: str, role: str = "user", enabled: bool = True) -> dict[str, Any]:
    return {"username": name, "role": role, "enabled": enabled, "groups": list(groups)}


def test_only_plain_users_who_may_sign_in_and_use_a_pool_take_part() -> None:
    users = [
        user("a1", "a"),
        user("b1", "b", "x"),
        user("nobody"),
        user("boss", "a", role="administrator"),
        user("ops", "a", role="operator"),
        user("gone", "a", enabled=False),
    ]
    assert people.entitled(users, POOLS) == [
        Person(username="a1", pools=("library",)),
        Person(username="b1", pools=("library", "art")),
    ]


def test_people_are_drawn_by_seed_and_a_small_pool_has_its_share() -> None:
    crowd = [Person(username=f"a{number}", pools=("library",)) for number in range(500)]
    few = [Person(username=f"b{number}", pools=("art",)) for number in range(20)]
    chosen = people.choose(crowd + few, 100, seed=1)
    assert len({one.username for one in chosen}) == 100
    assert sum("art" in one.pools for one in chosen) == 20
    assert people.choose(crowd + few, 100, seed=1) == chosen
    assert people.choose(crowd + few, 100, seed=2) != chosen
    assert len(people.choose(crowd + few, 10_000, seed=1)) == 520
    assert people.choose([], 5, seed=1) == []


def cast(**endpoints: int) -> Cast:
    """A cast with one pool for each architecture and so many endpoints of it."""
    return Cast(
        pools=tuple({"name": f"{name}-pool", "architecture": name} for name in endpoints),
        endpoints=tuple(
            {"name": f"{name}-{number}", "pools": [f"{name}-pool"]}
            for name, count in endpoints.items()
            for number in range(count)
        ),
        people=(),
    )


def test_no_more_arrivals_are_planned_than_the_scarcest_endpoints_can_seat() -> None:
    assert casting.room(cast(vdi=122, idv=94, voi=84), 70.0) >= 210
    assert casting.room(cast(vdi=122, idv=94, voi=10), 20.0) == 18
    assert casting.room(cast(vdi=1, voi=1), 20.0) == 2
    with pytest.raises(CommandError, match="too few endpoints"):
        casting.room(cast(vdi=5, voi=0), 20.0)
