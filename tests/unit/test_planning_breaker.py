"""The circuit breaker of a pool on a host."""

from __future__ import annotations

from dataclasses import replace
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.planning.breaker import (
    CLOSED,
    TRIAL_MS,
    Breaker,
    BreakerState,
    begun,
    failed,
    pause_s,
    permits,
    state_of,
    succeeded,
    told,
    tries,
)
from broker.domain.settings import PoolSettings
from tests.support.builders import NOW

RULES = PoolSettings(failures_max=3, breaker_s=30, breaker_max_s=200)
OPEN = Breaker(failures=3, opened=1, since=NOW, until=NOW + 30_000, error="no answer")
UTC = ZoneInfo("UTC")


def test_single_failures_are_counted_and_pause_nothing() -> None:
    one = failed(CLOSED, RULES, NOW, "no answer")
    two = failed(one, RULES, NOW, "disk full")
    assert one == Breaker(failures=1, error="no answer")
    assert two == Breaker(failures=2, error="disk full")
    assert state_of(two, NOW) is BreakerState.CLOSED
    assert permits(two, NOW) is None


def test_enough_failures_in_a_row_open_it() -> None:
    breaker = CLOSED
    for _ in range(3):
        breaker = failed(breaker, RULES, NOW, "no answer")
    assert breaker == OPEN
    assert state_of(breaker, NOW + 29_999) is BreakerState.OPEN
    assert permits(breaker, NOW + 29_999) == 0
    assert state_of(breaker, NOW + 30_000) is BreakerState.HALF_OPEN


def test_a_success_closes_it_and_forgets_all() -> None:
    assert succeeded(Breaker(failures=2, error="x"), NOW) == CLOSED
    assert succeeded(OPEN, NOW + 30_000) == CLOSED


def test_half_open_lets_one_through_until_it_told() -> None:
    now = NOW + 30_000
    assert permits(OPEN, now) == 1
    trying = begun(OPEN, now)
    assert trying == replace(OPEN, trial_until=now + TRIAL_MS)
    assert permits(trying, now) == 0
    assert permits(trying, now + TRIAL_MS - 1) == 0
    assert permits(trying, now + TRIAL_MS) == 1
    assert TRIAL_MS == 600_000


def test_a_failed_trial_opens_it_again_for_twice_as_long() -> None:
    now = NOW + 30_000
    again = failed(begun(OPEN, now), RULES, now, "still no answer")
    assert again == Breaker(
        failures=4, opened=2, since=NOW, until=now + 60_000, error="still no answer"
    )
    assert permits(again, now + 60_000) == 1


def test_one_is_being_tried_from_when_it_was_let_through_until_it_told() -> None:
    now = NOW + 30_000
    assert not tries(CLOSED, now)
    assert not tries(OPEN, now - 1)
    assert not tries(OPEN, now)
    assert tries(begun(OPEN, now), now)
    assert not tries(begun(OPEN, now), now + TRIAL_MS)
    assert not tries(failed(begun(OPEN, now), RULES, now + 1, "x"), now + 1)


def test_it_counts_from_when_it_opened_first_in_a_row() -> None:
    older = replace(OPEN, since=None)
    assert failed(older, RULES, NOW + 30_000, "x").since == NOW + 30_000, "an older broker's"
    assert failed(replace(CLOSED, failures=2), RULES, NOW + 7, "x").since == NOW + 7
    assert succeeded(OPEN, NOW + 30_000).since is None


@pytest.mark.parametrize(("opened", "seconds"), [(1, 30), (2, 60), (3, 120), (4, 200), (9999, 200)])
def test_the_pause_doubles_up_to_its_limit(opened: int, seconds: int) -> None:
    assert pause_s(opened, RULES) == seconds


def test_what_was_begun_before_does_not_move_an_open_breaker() -> None:
    assert failed(OPEN, RULES, NOW + 1, "late") == replace(OPEN, failures=4, error="late")
    assert succeeded(OPEN, NOW + 1) == replace(OPEN, failures=0)
    assert begun(OPEN, NOW + 1) == OPEN


def test_a_closed_breaker_remembers_nothing_of_what_is_begun() -> None:
    assert begun(CLOSED, NOW) == CLOSED


def test_it_says_until_when_and_why_in_the_zones_time() -> None:
    assert told(OPEN, NOW, UTC) == "paused until 14:13 after 3 failures: no answer"
    berlin = ZoneInfo("Europe/Berlin")
    assert told(OPEN, NOW, berlin) == "paused until 16:13 after 3 failures: no answer"
    assert told(replace(OPEN, error=""), NOW, UTC) == "paused until 14:13 after 3 failures"
    half = "tries one desktop after 3 failures: no answer"
    assert told(OPEN, NOW + 30_000, UTC) == half
    assert told(Breaker(failures=3, error="no answer"), NOW, UTC) == half


@given(st.lists(st.tuples(st.sampled_from(["fail", "succeed", "begin"]), st.integers(0, 300))))
def test_whatever_happens_it_is_never_paused_for_longer_than_the_limit(
    happened: list[tuple[str, int]],
) -> None:
    breaker, now = CLOSED, NOW
    for what, seconds in happened:
        now += seconds * 1000
        match what:
            case "fail":
                breaker = failed(breaker, RULES, now, "x")
            case "succeed":
                breaker = succeeded(breaker, now)
            case _:
                breaker = begun(breaker, now)
        assert breaker.until is None or breaker.until <= now + RULES.breaker_max_s * 1000
        assert (permits(breaker, now) is None) == (state_of(breaker, now) is BreakerState.CLOSED)
