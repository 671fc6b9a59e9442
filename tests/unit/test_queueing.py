"""The queue's order is fair between groups, and first come first served within one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.domain.queueing import (
    Supply,
    Waiting,
    expected_wait_s,
    fair_order,
    places,
    remaining_s,
)


def wait(session: str, group: str | None, at: int) -> Waiting:
    return Waiting(session_id=session, group_id=group, requested_at=at)


def test_a_class_that_came_first_does_not_stand_before_the_teacher() -> None:
    pupils = [wait(f"pupil-{n:02d}", "class-7a", n) for n in range(30)]
    order = fair_order([*pupils, wait("teacher", "staff", 100)])
    assert order[:3] == ("pupil-00", "teacher", "pupil-01")


def test_people_without_a_group_count_as_one_group() -> None:
    order = fair_order([wait("a", None, 1), wait("b", None, 2), wait("c", "g", 3)])
    assert order == ("a", "c", "b")


QUEUES = st.lists(
    st.builds(
        wait,
        st.integers(0, 10_000).map(str),
        st.sampled_from(["g1", "g2", "g3", None]),
        st.integers(0, 50),
    ),
    unique_by=lambda one: one.session_id,
    max_size=40,
)


@given(QUEUES)
def test_everybody_has_one_place_and_the_arrival_order_of_rows_does_not_matter(
    queue: list[Waiting],
) -> None:
    found = places(queue)
    assert sorted(found.values()) == list(range(1, len(queue) + 1))
    assert places(list(reversed(queue))) == found


@given(QUEUES)
def test_nobody_is_passed_by_a_later_member_of_his_own_group(queue: list[Waiting]) -> None:
    found = places(queue)
    for one in queue:
        for other in queue:
            if one.group_id == other.group_id and one.requested_at < other.requested_at:
                assert found[one.session_id] < found[other.session_id]


@given(QUEUES)
def test_no_group_gets_two_ahead_of_another_that_still_waits(queue: list[Waiting]) -> None:
    served: dict[str | None, int] = {}
    left: dict[str | None, int] = {}
    for one in queue:
        left[one.group_id] = left.get(one.group_id, 0) + 1
    group_of = {one.session_id: one.group_id for one in queue}
    for session_id in fair_order(queue):
        group = group_of[session_id]
        served[group] = served.get(group, 0) + 1
        left[group] -= 1
        for other, count in left.items():
            if count:
                assert served[group] <= served.get(other, 0) + 1


def test_those_in_front_get_the_machines_on_their_way_in_the_order_they_come() -> None:
    supply = Supply(coming_s=(50.0, 10.0, 30.0))
    assert [expected_wait_s(place, supply) for place in (1, 2, 3)] == [10.0, 30.0, 50.0]


def test_behind_them_the_recent_rate_counts() -> None:
    supply = Supply(coming_s=(10.0, 30.0), served_per_s=0.1)
    assert expected_wait_s(3, supply) == 40.0
    assert expected_wait_s(5, supply) == 60.0
    assert expected_wait_s(2, Supply(served_per_s=0.5)) == 4.0


def test_without_a_rate_nothing_is_said_of_those_behind() -> None:
    assert expected_wait_s(1, Supply()) is None
    assert expected_wait_s(3, Supply(coming_s=(1.0, 2.0))) is None


def test_a_wait_past_the_queues_own_limit_is_not_foretold() -> None:
    assert expected_wait_s(1800, Supply(served_per_s=1.0)) == 1800.0
    assert expected_wait_s(1801, Supply(served_per_s=1.0)) is None
    assert expected_wait_s(1, Supply(coming_s=(1801.0,))) is None


def test_a_machine_that_is_late_is_still_on_its_way() -> None:
    assert remaining_s(60.0, 20.0) == 40.0
    assert remaining_s(60.0, 55.0) == 6.0
    assert remaining_s(60.0, 500.0) == 6.0


@given(
    st.lists(st.floats(0, 300), max_size=8),
    st.floats(0.1, 10),
    st.integers(1, 40),
)
def test_nobody_is_told_a_shorter_wait_than_the_one_before_him(
    coming: list[float], rate: float, place: int
) -> None:
    supply = Supply(coming_s=tuple(coming), served_per_s=rate)
    before, after = expected_wait_s(place, supply), expected_wait_s(place + 1, supply)
    assert before is not None
    assert after is not None
    assert before <= after
