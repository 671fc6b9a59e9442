"""Plans: the same seed gives the same bytes, nobody is in two places, the mix is exact."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.arrivals import PROCESSES
from loadtests.cast import Cast
from loadtests.plan import (
    Arrival,
    Plan,
    PlanError,
    check_people,
    encode_plan,
    make_plan,
    read_plan,
    sha256_of,
)
from loadtests.seating import SeatingError
from tests.support.campaigns import cast_of, plan_of, recipe_of


def shuffled(cast: Cast) -> Cast:
    return msgspec.structs.replace(
        cast,
        people=cast.people[::-1],
        endpoints=cast.endpoints[::-1],
        pools=cast.pools[::-1],
        url="http://elsewhere.test:9",
    )


def test_the_same_seed_and_cast_give_the_same_bytes() -> None:
    one, other = plan_of(seed=11), plan_of(seed=11)
    assert encode_plan(one) == encode_plan(other)
    assert sha256_of(encode_plan(one)) != sha256_of(encode_plan(plan_of(seed=12)))


def test_the_order_and_the_address_in_a_cast_do_not_change_the_plan() -> None:
    cast, recipe = cast_of(), recipe_of()
    assert encode_plan(make_plan(cast, recipe)) == encode_plan(make_plan(shuffled(cast), recipe))


def test_a_known_plan_has_the_hash_that_it_had_when_this_was_written() -> None:
    expected = "d1ae4ec2af432eb83974077ef1aae954eec2114d3a13aa23dd4c43ac29ada247"
    assert sha256_of(encode_plan(plan_of(seed=1, sessions=12))) == expected


def test_a_plan_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    plan = plan_of(sessions=30)
    body = encode_plan(plan)
    (tmp_path / "plan.jsonl").write_bytes(body)
    assert read_plan(tmp_path / "plan.jsonl") == (plan, sha256_of(body))


def test_a_plan_carries_neither_password_nor_address() -> None:
    body = encode_plan(plan_of(sessions=30))
    assert b"secret" not in body
    assert b"127.0.0.1" not in body


@pytest.mark.parametrize("text", [b"", b"{}\n", b'{"kind":"other"}\n', b"\xff\xfe\n"])
def test_what_is_not_a_plan_is_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "plan.jsonl").write_bytes(text)
    with pytest.raises(PlanError):
        read_plan(tmp_path / "plan.jsonl")


@pytest.mark.parametrize("name", PROCESSES)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 200), window=st.floats(0.5, 3600))
def test_every_process_gives_so_many_ordered_arrivals_within_the_window(
    name: str, seed: int, count: int, window: float
) -> None:
    offsets = PROCESSES[name](seed, count, window)
    assert len(offsets) == count
    assert offsets == sorted(offsets)
    assert offsets[0] >= 0
    assert offsets[-1] <= window


def test_a_flash_brings_most_people_within_a_moment() -> None:
    offsets = PROCESSES["flash"](3, 1000, 100.0)
    assert sum(1 for at in offsets if 30 <= at <= 35) >= 800


def test_normal_arrivals_peak_in_the_middle() -> None:
    offsets = PROCESSES["normal"](3, 3000, 60.0)
    within_one_sigma = sum(1 for at in offsets if 20 <= at < 40) / 3000
    assert 0.65 < within_one_sigma < 0.72


def test_poisson_arrivals_are_neither_even_nor_clustered() -> None:
    gaps = [after - before for before, after in pairwise(PROCESSES["poisson"](5, 4000, 4000.0))]
    mean = sum(gaps) / len(gaps)
    variance = sum((gap - mean) ** 2 for gap in gaps) / len(gaps)
    assert 0.9 < variance / mean**2 < 1.1


@given(
    sessions=st.integers(1, 120),
    weights=st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(1, 5)),
)
@settings(max_examples=40)
def test_the_mix_is_kept_to_within_one_session(
    sessions: int, weights: tuple[int, int, int]
) -> None:
    mix = dict(zip(("vdi", "idv", "voi"), map(float, weights), strict=True))
    plan = plan_of(sessions=sessions, mix=mix)
    for name, weight in mix.items():
        exact = sessions * weight / sum(mix.values())
        count = sum(1 for each in plan.arrivals if each.architecture == name)
        assert abs(count - exact) < 1


@given(
    seed=st.integers(0, 10_000),
    sessions=st.integers(1, 80),
    people=st.integers(1, 60),
    endpoints=st.integers(1, 30),
    turn=st.floats(0, 20),
    arrivals=st.sampled_from(sorted(PROCESSES)),
)
@settings(max_examples=60)
def test_nobody_and_no_endpoint_is_planned_into_two_sessions_at_once(
    seed: int, sessions: int, people: int, endpoints: int, turn: float, arrivals: str
) -> None:
    recipe = recipe_of(seed=seed, sessions=sessions, turn_s=turn, arrivals=arrivals, window_s=200.0)
    try:
        plan = make_plan(cast_of(people, endpoints), recipe)
    except SeatingError:
        return
    for key in ("username", "endpoint"):
        turns: dict[str, list[Arrival]] = {}
        for each in plan.arrivals:
            name = getattr(each, key)
            if name is not None:
                turns.setdefault(name, []).append(each)
        for mine in turns.values():
            for before, after in pairwise(mine):
                assert after.due_s >= before.due_s + before.work_s + turn - 1e-6


def test_everybody_sits_where_the_cast_allows() -> None:
    cast = cast_of()
    plan = make_plan(cast, recipe_of(sessions=40, browser_share=0.5, turn_s=1.0))
    serves = {endpoint.name: endpoint.pools for endpoint in cast.endpoints}
    kinds = {pool.name: pool.architecture for pool in cast.pools}
    for each in plan.arrivals:
        assert kinds[each.pool] == each.architecture
        if each.endpoint is None:
            assert each.architecture == "vdi"
        else:
            assert each.pool in serves[each.endpoint]
    assert any(each.endpoint is None for each in plan.arrivals)


def test_a_large_cast_is_not_used_twice() -> None:
    plan = plan_of(sessions=60, browser_share=0.0)
    assert len({each.username for each in plan.arrivals}) == 60
    assert len({each.endpoint for each in plan.arrivals}) == 60


@pytest.mark.parametrize(
    ("people", "endpoints", "missing"), [(2, 40, "no person"), (60, 1, "no endpoint")]
)
def test_a_cast_that_is_too_small_says_what_is_missing(
    people: int, endpoints: int, missing: str
) -> None:
    with pytest.raises(SeatingError, match=missing):
        make_plan(cast_of(people, endpoints), recipe_of(sessions=24, window_s=5.0))


def test_work_and_think_times_keep_to_the_recipe() -> None:
    plan = plan_of(sessions=50, work_min_s=4.0, work_max_s=9.0, think_mean_s=1.0)
    for each in plan.arrivals:
        assert 4.0 <= each.work_s <= 9.0
        assert sum(step.think_s for step in each.steps) <= each.work_s
    assert sum(len(each.steps) for each in plan.arrivals) > 100


@given(sessions=st.integers(1, 60), workers=st.integers(1, 9))
@settings(max_examples=30)
def test_the_shares_of_all_workers_are_the_plan_exactly(sessions: int, workers: int) -> None:
    plan = plan_of(sessions=sessions)
    shares = [plan.share(worker, workers) for worker in range(workers)]
    dealt = sorted((each for share in shares for each in share), key=lambda each: each.index)
    assert tuple(dealt) == plan.arrivals
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_there_is_no_share_for_a_worker_too_many() -> None:
    with pytest.raises(PlanError):
        plan_of().share(2, 2)


@pytest.mark.parametrize(
    "values",
    [
        {"arrivals": "never"},
        {"mix": {"vdi": 0.0}},
        {"mix": {"tele": 1.0}},
        {"work_min_s": 9.0, "work_max_s": 3.0},
        {"window_s": 0.0},
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(PlanError):
        make_plan(cast_of(), recipe_of(**values))


def test_a_plan_of_another_cast_is_refused() -> None:
    plan = plan_of()
    check_people(plan, cast_of(people=34, endpoints=24))
    with pytest.raises(PlanError, match="another cast"):
        check_people(plan, cast_of(people=1))


def test_an_empty_plan_has_empty_shares() -> None:
    assert Plan(recipe=recipe_of(), arrivals=()).share(0, 3) == ()
