"""What must never happen is noticed when it is planted, and only then."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from loadtests.collect import BrokerSession
from loadtests.invariants import Interval, check_invariants, overlaps
from loadtests.records import SessionRecord, Trouble
from tests.support.campaigns import at, broker_session_of, plan_of, record_of

PLAN = plan_of(sessions=12, browser_share=0.0)


def good() -> tuple[list[SessionRecord], list[BrokerSession]]:
    records = [record_of(arrival) for arrival in PLAN.arrivals]
    return records, [broker_session_of(record) for record in records]


def same_time(records: Sequence[SessionRecord], one: int, other: int) -> SessionRecord:
    """Record `other`, moved to where it overlaps record `one`."""
    first = records[one]
    assert first.held_from_at_ms is not None
    return msgspec.structs.replace(
        records[other],
        held_from_at_ms=first.held_from_at_ms + 10,
        held_until_at_ms=first.held_from_at_ms + 20,
    )


def test_a_good_campaign_keeps_them_all() -> None:
    found = check_invariants(*good())
    assert found.double_assignments == found.lost_sessions == found.unclaimed_sessions == 0
    assert found.broker_records
    assert found.examples == ()


def test_one_desktop_seen_by_two_clients_at_once_is_noticed_without_the_broker() -> None:
    records, _ = good()
    moved = same_time(records, 0, 1)
    records[1] = msgspec.structs.replace(moved, desktop_id=records[0].desktop_id)
    found = check_invariants(records, None)
    assert found.double_assignments == 1
    assert not found.broker_records
    assert records[0].session_id is not None
    assert records[0].session_id in found.examples[0]


def test_one_person_live_twice_in_a_pool_is_noticed() -> None:
    records, _ = good()
    pool = records[0].pool
    other = next(i for i, record in enumerate(records) if i and record.pool == pool)
    moved = same_time(records, 0, other)
    records[other] = msgspec.structs.replace(moved, username=records[0].username)
    assert check_invariants(records, None).double_assignments == 1


def test_a_double_assignment_in_the_brokers_records_alone_is_noticed() -> None:
    records, sessions = good()
    sessions[1] = msgspec.structs.replace(
        sessions[1],
        desktop=sessions[0].desktop,
        assigned_at=sessions[0].assigned_at,
        ended_at=sessions[0].ended_at,
    )
    assert check_invariants(records, sessions).double_assignments == 1


def test_a_pair_that_both_sides_show_counts_once() -> None:
    records, sessions = good()
    moved = same_time(records, 0, 1)
    records[1] = msgspec.structs.replace(moved, desktop_id=records[0].desktop_id)
    sessions[1] = msgspec.structs.replace(
        sessions[1], desktop=sessions[0].desktop, assigned_at=sessions[0].assigned_at
    )
    assert check_invariants(records, sessions).double_assignments == 1


def test_a_session_that_never_ended_holds_its_desktop_for_ever() -> None:
    records, sessions = good()
    sessions[0] = msgspec.structs.replace(sessions[0], ended_at=None, state="active")
    late = at((records[0].held_until_at_ms or 0) + 3_600_000)
    sessions[1] = msgspec.structs.replace(
        sessions[1], desktop=sessions[0].desktop, assigned_at=late, ended_at=late
    )
    later = at((records[0].held_until_at_ms or 0) + 3_700_000)
    sessions[1] = msgspec.structs.replace(sessions[1], ended_at=later)
    assert check_invariants(records, sessions).double_assignments == 1


def test_a_desktop_given_on_in_the_same_millisecond_is_no_double_assignment() -> None:
    records, sessions = good()
    sessions[1] = msgspec.structs.replace(
        sessions[1],
        desktop=sessions[0].desktop,
        assigned_at=sessions[0].ended_at,
        ended_at=at(sessions[0].ended_at.timestamp() * 1000 + 500)
        if sessions[0].ended_at
        else None,
    )
    assert check_invariants(records, sessions).double_assignments == 0


def test_a_new_session_while_the_old_one_is_ending_is_no_double_assignment() -> None:
    records, sessions = good()
    left = records[0].left_at_ms or 0
    slow_end = msgspec.structs.replace(sessions[0], ended_at=at(left + 9000))
    again = msgspec.structs.replace(
        sessions[0],
        id="ses_again",
        desktop=msgspec.structs.replace(slow_end.desktop, id="des_other")
        if slow_end.desktop
        else None,
        assigned_at=at(left + 2000),
        ended_at=at(left + 20_000),
    )
    found = check_invariants(records, [slow_end, *sessions[1:], again])
    assert found.double_assignments == 0
    assert found.unclaimed_sessions == 1


def test_an_acknowledged_session_that_the_broker_does_not_know_is_lost() -> None:
    records, sessions = good()
    found = check_invariants(records, sessions[1:])
    assert found.lost_sessions == 1
    assert "not known" in found.examples[0]


def test_a_session_that_stays_after_its_log_off_was_acknowledged_is_lost() -> None:
    records, sessions = good()
    sessions[3] = msgspec.structs.replace(sessions[3], state="ending", ended_at=None)
    assert check_invariants(records, sessions).lost_sessions == 1


def test_a_session_whose_log_off_never_arrived_is_not_lost_but_somebodys_trouble() -> None:
    records, sessions = good()
    sessions[3] = msgspec.structs.replace(sessions[3], state="active", ended_at=None)
    records[3] = msgspec.structs.replace(
        records[3],
        log_off_acknowledged=False,
        trouble=Trouble(step="log_off", error="transport:refused"),
    )
    assert check_invariants(records, sessions).lost_sessions == 0


def test_without_the_brokers_records_nothing_is_called_lost() -> None:
    records, _ = good()
    assert check_invariants(records, None).lost_sessions == 0


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 8), st.integers(0, 5)), max_size=14))
def test_overlaps_are_those_of_the_definition(spans: list[tuple[int, int, int]]) -> None:
    intervals = [
        Interval(session_id=f"s{name}", from_ms=start, until_ms=start + length)
        for start, length, name in spans
    ]
    expected = {
        (min(a.session_id, b.session_id), max(a.session_id, b.session_id))
        for a in intervals
        for b in intervals
        if a.session_id != b.session_id and max(a.from_ms, b.from_ms) < min(a.until_ms, b.until_ms)
    }
    assert overlaps(intervals) == expected
