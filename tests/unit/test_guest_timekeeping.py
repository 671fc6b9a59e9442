"""When the guest agent corrects its machine's clock, and how."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.guest import limits
from agents.guest.timekeeping import Correction, Timekeeper
from broker.limits import GUEST_CLOCK_S

LATER = limits.CLOCK_AGAIN_S


@pytest.mark.parametrize(
    ("off_s", "done"),
    [
        (0.0, None),
        (limits.CLOCK_SLEW_S, None),
        (0.5, Correction(0.5, at_once=False)),
        (limits.CLOCK_OFF_S, Correction(limits.CLOCK_OFF_S, at_once=False)),
        (30.0, Correction(30.0, at_once=True)),
    ],
)
def test_a_clock_that_is_behind_is_slewed_or_set_as_far_as_it_is_off(
    off_s: float, done: Correction | None
) -> None:
    assert Timekeeper().told(off_s, 0.0, kept=False) == done


@pytest.mark.parametrize("kept", [True, None])
@pytest.mark.parametrize("off_s", [-7200.0, -0.5, 0.5, 7200.0])
def test_a_clock_that_a_daemon_keeps_or_may_keep_is_left_alone(
    off_s: float, kept: bool | None
) -> None:
    one = Timekeeper()
    assert [one.told(off_s, at, kept=kept) for at in (0.0, 60.0, 120.0)] == [None] * 3


def test_a_clock_that_is_ahead_is_put_back_when_it_is_told_so_again_later() -> None:
    one = Timekeeper()
    assert one.told(-10.0, 0.0, kept=False) is None
    assert one.told(-10.1, LATER - 0.1, kept=False) is None
    assert one.told(-10.2, LATER, kept=False) == Correction(-10.0, at_once=True)
    assert one.told(-10.0, LATER + 1, kept=False) is None  # begins anew
    assert limits.CLOCK_AGAIN_S < GUEST_CLOCK_S


def test_a_line_that_came_late_puts_no_clock_back() -> None:
    one = Timekeeper()
    assert one.told(-40.0, 0.0, kept=False) is None
    assert one.told(0.01, GUEST_CLOCK_S, kept=False) is None
    assert one.told(-40.0, GUEST_CLOCK_S + 1, kept=False) is None


def test_lines_that_waited_and_came_together_put_no_clock_back() -> None:
    one = Timekeeper()
    for off_s in (-180.0, -120.0, -60.0, 0.0):
        assert one.told(off_s, 7.0, kept=False) is None


@given(
    st.floats(min_value=-1e6, max_value=1e6),
    st.lists(st.floats(min_value=0, max_value=1e3), min_size=1, max_size=20),
)
def test_however_late_lines_come_a_clock_is_never_put_past_the_right_time(
    off_s: float, delays: list[float]
) -> None:
    one, now = Timekeeper(), 0.0
    for delay_s in delays:
        now += GUEST_CLOCK_S
        done = one.told(off_s - delay_s, now, kept=False)
        if done is None:
            continue
        after = off_s - done.by_s
        # one that is behind stays behind, or right
        assert off_s <= 0 or after >= 0
        off_s = after
