"""Shadowing's rules: when a person may be asked, and when what was allowed is over."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from broker import limits
from broker.domain.model import SessionState
from broker.domain.settings import Shadowing
from broker.domain.shadowing import (
    ENDS,
    ShadowEnd,
    ShadowMode,
    ShadowState,
    allowed,
    kept,
    lapsed,
    may_be_asked,
    opened,
    over,
)
from tests.support.builders import NOW, make_session, make_shadow

SESSION = make_session(
    state=SessionState.ACTIVE, desktop_id="dsk_1", generation=3, display="b1.tkt_1", browser="tok_1"
)
VIEW, INTERACTIVE = ShadowMode.VIEW, ShadowMode.INTERACTIVE


NEVER = "sessions of this pool are not shadowed"
VIEW_ONLY = "sessions of this pool may be looked at, but nobody takes part in them"


@pytest.mark.parametrize(
    ("policy", "mode", "why"),
    [
        (Shadowing.OFF, VIEW, NEVER),
        (Shadowing.OFF, INTERACTIVE, NEVER),
        (Shadowing.VIEW, VIEW, ""),
        (Shadowing.VIEW, INTERACTIVE, VIEW_ONLY),
        (Shadowing.ASK, VIEW, ""),
        (Shadowing.ASK, INTERACTIVE, ""),
    ],
)
def test_the_policy_decides_what_may_be_asked(
    policy: Shadowing, mode: ShadowMode, why: str
) -> None:
    assert may_be_asked(SESSION, policy, mode) == why


@pytest.mark.parametrize("state", set(SessionState) - {SessionState.ACTIVE})
def test_only_who_has_the_desktop_in_front_of_him_is_asked(state: SessionState) -> None:
    why = may_be_asked(replace(SESSION, state=state), Shadowing.ASK, VIEW)
    assert why == f"the session is {state}: its display is not open"
    assert may_be_asked(replace(SESSION, desktop_id=None), Shadowing.ASK, VIEW)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, None),
        ({"state": SessionState.DISCONNECTED}, ShadowEnd.SESSION_OVER),
        ({"state": SessionState.ENDING}, ShadowEnd.SESSION_OVER),
        ({"desktop_id": "dsk_2"}, ShadowEnd.MOVED),
        ({"generation": 4}, ShadowEnd.MOVED),
        ({"display": "b1.tkt_2"}, ShadowEnd.MOVED),
        ({"endpoint_id": "ept_1"}, ShadowEnd.MOVED),
    ],
)
def test_it_holds_for_one_showing_of_one_desktop(
    changes: dict[str, Any], why: ShadowEnd | None
) -> None:
    now = replace(SESSION, **changes)
    for one in (make_shadow(), allowed(make_shadow(), NOW), opened(make_shadow(), NOW)):
        assert lapsed(one, now, NOW) is why


def test_it_does_not_outlive_its_session() -> None:
    assert lapsed(make_shadow(), None, NOW) is ShadowEnd.SESSION_OVER


@pytest.mark.parametrize(
    ("state", "why"),
    [
        (ShadowState.ASKED, ShadowEnd.NO_ANSWER),
        (ShadowState.ALLOWED, ShadowEnd.NOT_OPENED),
        (ShadowState.OPEN, ShadowEnd.BROKER_GONE),
    ],
)
def test_each_step_has_its_time(state: ShadowState, why: ShadowEnd) -> None:
    one = make_shadow(state=state)
    assert lapsed(one, SESSION, one.until - 1) is None
    assert lapsed(one, SESSION, one.until) is why


def test_who_said_yes_leaves_time_to_open_it_and_it_is_open_as_long_as_its_broker_lives() -> None:
    asked, later = make_shadow(ticket="abc"), NOW + 5000
    yes = allowed(asked, later)
    until = later + limits.SHADOW_OPEN_S * 1000
    assert yes == replace(asked, state=ShadowState.ALLOWED, changed_at=later, until=until)
    shown = opened(yes, later + 1)
    assert shown == replace(
        yes,
        state=ShadowState.OPEN,
        changed_at=later + 1,
        until=later + 1 + limits.SHADOW_LEASE_S * 1000,
        ends_at=later + 1 + limits.SHADOW_S_MAX * 1000,
        ticket="",
    )


def test_however_alive_it_is_it_ends() -> None:
    one = replace(opened(make_shadow(), NOW), until=NOW + 10**12)
    end = NOW + limits.SHADOW_S_MAX * 1000
    assert lapsed(one, SESSION, end - 1) is None
    assert lapsed(one, SESSION, end) is ShadowEnd.TIME_LIMIT


def test_what_is_over_has_no_ticket_and_says_why() -> None:
    one, later = opened(make_shadow(ticket="abc"), NOW), NOW + 5000
    ended = replace(
        one,
        state=ShadowState.ENDED,
        changed_at=later,
        until=later,
        why=ShadowEnd.STOPPED,
        ticket="",
    )
    assert over(replace(one, ticket="abc"), ShadowEnd.STOPPED, later) == ended
    assert set(ENDS) == set(ShadowEnd)
    refused = {why for why in ShadowEnd if over(one, why, NOW).state is ShadowState.REFUSED}
    assert refused == {ShadowEnd.REFUSED, ShadowEnd.NO_ANSWER}


def test_the_newest_of_what_is_over_is_kept_for_a_while_and_all_that_is_live() -> None:
    live = make_shadow(id="live", changed_at=NOW - 10**9)
    past = [over(make_shadow(id=f"p{at}"), ShadowEnd.ENDED, NOW + at) for at in range(5)]
    found = kept([past[3], live, *past[:3], past[4]], NOW + 1, 2)
    assert [one.id for one in found] == ["p3", "live", "p4"]
    assert kept([past[0]], NOW, 2) == ()
    assert kept(past[:2], NOW - 1, 3) == tuple(past[:2]), "fewer than may be kept"
    assert kept(past, NOW, 0) == ()
