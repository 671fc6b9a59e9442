"""The queue's order is fair between groups, and first come first served within one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.queueing import (
    Supply,
    Waiting,
    after,
    expected_wait_s,
    fair_order,
    group_key,
    places,
    remaining_s,
    round_name,
    round_of,
    round_value,
)


def wait(session: str, group: str | None, at: int) -> Waiting:
    return Waiting(session_id=session, group_id=group, requested_at=at)


def test_a_class_that_came_first_does_not_stand_before_the_teacher() -> None:
    pupils = [wait(f"pupil-{n:02d}", "class-7a", n) for n in range(30)]
    order = fair_order([*pupils, wait("teacher", "staff", 100)])
    assert order[:3] == ("pupil-00", "teacher", "pupil-01")


def test_groups_take_turns_through_the_whole_queue() -> None:
    pupils = [wait(f"pupil-{n}", "class-7a", n) for n in range(4)]
    staff = [wait(f"teacher-{n}", "staff", 100 + n) for n in range(2)]
    order = fair_order([*pupils, *staff, wait("guest", "guests", 200)])
    assert order[:3] == ("pupil-0", "teacher-0", "guest")
    assert order[3:] == ("pupil-1", "teacher-1", "pupil-2", "pupil-3")


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


# ------------------------------------------------------------- desktops one at a time


def served_singly(queue: list[Waiting], arrivals: dict[int, list[Waiting]]) -> list[Waiting]:
    """Who is served, in order, one desktop after the other; `arrivals` come before a service."""
    served: frozenset[str] = frozenset()
    left, order = list(queue), []
    for number in range(len(queue) + sum(map(len, arrivals.values()))):
        left += arrivals.get(number, [])
        if not left:
            continue
        now = [replace(one, start=int(group_key(one.group_id) in served)) for one in left]
        first = fair_order(now)[0]
        (one,) = (each for each in left if each.session_id == first)
        left.remove(one)
        order.append(one)
        served = after(served, one.group_id)
    return order


def test_a_teacher_is_served_second_though_desktops_come_one_by_one() -> None:
    pupils = [wait(f"pupil-{n:02d}", "class-7a", n) for n in range(30)]
    order = served_singly(pupils, {1: [wait("teacher", "staff", 100)]})
    assert [one.session_id for one in order[:3]] == ["pupil-00", "teacher", "pupil-01"]


def test_singly_or_all_at_once_the_order_is_the_same() -> None:
    queue = [wait(f"{group}{n}", group, n) for group, many in (("a", 5), ("b", 3), ("c", 1))
             for n in range(many)]  # fmt: skip
    assert tuple(one.session_id for one in served_singly(queue, {})) == fair_order(queue)


def test_who_was_away_gets_no_turns_for_the_past() -> None:
    pupils = [wait(f"pupil-{n:02d}", "class-7a", n) for n in range(30)]
    late = [wait(f"late-{n}", "class-7b", 100 + n) for n in range(3)]
    order = [one.session_id for one in served_singly(pupils, {20: late})]
    assert order[20:26] == ["late-0", "pupil-20", "late-1", "pupil-21", "late-2", "pupil-22"]


ARRIVALS = st.dictionaries(st.integers(0, 30), st.lists(st.sampled_from("abcd"), max_size=8))


@given(ARRIVALS)
def test_nobodys_group_waits_for_more_than_its_share_and_one(arrivals: dict[int, str]) -> None:
    came: dict[int, list[Waiting]] = {}
    number = 0
    for at, groups in sorted(arrivals.items()):
        for group in groups:
            came.setdefault(at, []).append(wait(f"{number:04d}", group, number))
            number += 1
    at_of = {one.session_id: at for at, some in came.items() for one in some}
    order = served_singly([], came)
    assert len(order) <= number
    for group in "abcd":
        # while somebody of this group waits, no other is served twice more often
        others = dict.fromkeys(set("abcd") - {group}, 0)
        waiting = 0
        for place, one in enumerate(order):
            waiting = sum(
                each.group_id == group and at_of[each.session_id] <= place for each in order[place:]
            )
            if not waiting or one.group_id == group:
                others = dict.fromkeys(others, 0)
                continue
            others[one.group_id or ""] += 1
            assert max(others.values()) <= 2


# ---------------------------------------------------------------------- the round as it is stored


@given(st.frozensets(st.text(max_size=8), max_size=6))
def test_a_round_is_read_as_it_was_written(served: frozenset[str]) -> None:
    assert round_of(round_value(served)) == served


def test_a_round_is_written_in_one_way_whatever_its_order() -> None:
    assert round_value(frozenset({"b", "a", "c"})) == {"served": ["a", "b", "c"]}
    assert round_name("pol_1").endswith("pol_1")
    assert round_name("pol_1") != round_name("pol_2")


@pytest.mark.parametrize(
    "value", [{}, {"served": None}, {"served": "ab"}, {"served": 7}, {"x": []}]
)
def test_what_another_version_wrote_begins_a_new_round(value: dict[str, object]) -> None:
    assert round_of(value) == frozenset()


def test_a_group_that_had_its_turn_waits_for_the_others_whoever_is_in_no_group_too() -> None:
    nobody, one = wait("n1", None, 0), wait("a1", "class-a", 1)
    later = wait("n2", None, 2)
    assert fair_order([nobody, one, later]) == ("n1", "a1", "n2")
    assert group_key(None) == ""
    assert group_key("class-a") == "class-a"
    many = [wait(f"a{n}", "class-a", n) for n in range(4)] + [wait("b", "class-b", 9)]
    assert fair_order(many) == ("a0", "b", "a1", "a2", "a3")
