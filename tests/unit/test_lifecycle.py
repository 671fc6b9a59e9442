"""The lifecycle tables: what is allowed, and that nothing can get stuck."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.errors import IllegalTransitionError
from broker.domain.lifecycle import (
    DESKTOP,
    ENDPOINT,
    HOST,
    JOB,
    SESSION,
    SESSION_HOLDS_DESKTOP,
    SESSION_HOLDS_PLACE,
    SNAPSHOT,
    DesktopEvent,
    EndpointEvent,
    HostEvent,
    JobEvent,
    Lifecycle,
    SessionEvent,
    SnapshotEvent,
)
from broker.domain.model import DesktopState, EndpointState, HostState, JobState, SessionState
from broker.domain.snapshots import SnapshotState

TABLES: list[tuple[Lifecycle[Any, Any], Any, Any]] = [
    (DESKTOP, DesktopState, DesktopEvent),
    (SESSION, SessionState, SessionEvent),
    (ENDPOINT, EndpointState, EndpointEvent),
    (JOB, JobState, JobEvent),
    (HOST, HostState, HostEvent),
    (SNAPSHOT, SnapshotState, SnapshotEvent),
]
BY_NOUN = pytest.mark.parametrize(
    ("table", "states", "events"), TABLES, ids=[table.noun for table, _, _ in TABLES]
)


@BY_NOUN
def test_every_state_is_stable_or_transient_or_terminal_and_only_one_of_them(
    table: Lifecycle[Any, Any], states: Any, events: Any
) -> None:
    for state in states:
        kinds = [state in table.stable, state in table.transient, state in table.terminal]
        assert kinds.count(True) == 1, f"{state}: {kinds}"


@BY_NOUN
def test_what_is_not_in_the_table_is_refused_with_both_names(
    table: Lifecycle[Any, Any], states: Any, events: Any
) -> None:
    refused = 0
    for state in states:
        for event in events:
            if table.allows(state, event):
                assert table.advance(state, event) is table.table[state, event].to
                continue
            refused += 1
            with pytest.raises(IllegalTransitionError) as caught:
                table.advance(state, event)
            assert state in caught.value.detail
            assert event in caught.value.detail
            told = f", only one that is: {', '.join(table.sources(event))}"
            assert caught.value.detail.endswith(told)
    assert refused > len(states)


@BY_NOUN
def test_terminal_states_are_never_left(
    table: Lifecycle[Any, Any], states: Any, events: Any
) -> None:
    assert not [state for state, _ in table.table if state in table.terminal]


@BY_NOUN
def test_every_state_can_be_reached_from_a_first_one(
    table: Lifecycle[Any, Any], states: Any, events: Any
) -> None:
    reached = set(table.first)
    while more := {to for one, to in table.edges() if one in reached} - reached:
        reached |= more
    assert reached == set(states)


@BY_NOUN
def test_every_transient_state_can_reach_its_target_and_has_a_way_out_by_deadline(
    table: Lifecycle[Any, Any], states: Any, events: Any
) -> None:
    # a snapshot's passing states end with their jobs, which have deadlines and tries
    out = {"failed"} if table is SNAPSHOT else {"deadline_passed", "delete_asked_again"}
    for state, target in table.transient.items():
        reached = {state}
        while more := {to for one, to in table.edges() if one in reached} - reached:
            reached |= more
        assert target in reached
        assert any(one is state and event.value in out for one, event in table.table), (
            f"{state} would be stuck for ever"
        )


def test_a_desktop_becomes_ready_only_by_a_report_or_as_its_owner_left_it() -> None:
    ways = {event for (_, event), rule in DESKTOP.table.items() if rule.to is DesktopState.READY}
    kept = {DesktopEvent.RELEASED_KEEP, DesktopEvent.ENDPOINT_BACK_KEPT}
    assert ways == {DesktopEvent.REPORTED_READY} | kept


def test_a_desktop_is_given_only_from_ready_and_comes_back_from_parking_to_whom_it_was() -> None:
    ways = {
        (state, event)
        for (state, event), rule in DESKTOP.table.items()
        if rule.to is DesktopState.ASSIGNED
    }
    assert ways == {
        (DesktopState.READY, DesktopEvent.CLAIMED),
        (DesktopState.UNPARKING, DesktopEvent.REPORTED_READY),
    }
    parked = {DesktopState.PARKING, DesktopState.PARKED, DesktopState.UNPARKING}
    into = {one for one, to in DESKTOP.edges() if to in parked} - parked
    assert into == {DesktopState.ASSIGNED}


def test_a_session_in_its_last_states_holds_neither_place_nor_desktop() -> None:
    assert not SESSION.terminal & (SESSION_HOLDS_PLACE | SESSION_HOLDS_DESKTOP)
    assert SessionState.QUEUED not in SESSION_HOLDS_DESKTOP
    assert SessionState.ENDING not in SESSION_HOLDS_PLACE


@given(st.lists(st.sampled_from(list(SessionEvent)), max_size=60))
def test_any_events_leave_a_session_in_a_known_state_and_deadlines_end_it(
    events: list[SessionEvent],
) -> None:
    state = SessionState.QUEUED
    for event in events:
        if SESSION.allows(state, event):
            state = SESSION.advance(state, event)
    for _ in range(10):
        if state in SESSION.transient or state is SessionState.DISCONNECTED:
            state = SESSION.advance(state, SessionEvent.DEADLINE_PASSED)
    assert state in SESSION.terminal or state is SessionState.ACTIVE


@BY_NOUN
def test_the_sources_of_an_event_are_the_states_that_take_it(
    table: Lifecycle[Any, Any], states: Any, events: Any
) -> None:
    for event in events:
        sources = table.sources(event)
        assert set(sources) == {state for state in states if table.allows(state, event)}
        assert list(sources) == [state for state, found in table.table if found is event]


def test_the_diagram_names_every_arrow_on_a_line_of_its_own() -> None:
    lines = JOB.mermaid().split("\n")
    assert lines[:2] == ["stateDiagram-v2", "    [*] --> queued"]
    assert lines[2 : 2 + len(JOB.table)] == [
        f"    {state} --> {rule.to}: {event}" for (state, event), rule in JOB.table.items()
    ]
    ends = [f"    {state} --> [*]" for state in sorted(JOB.terminal)]
    assert lines[2 + len(JOB.table) :] == [*ends, ""]
