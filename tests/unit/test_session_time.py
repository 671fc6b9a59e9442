"""Idle and maximum time: nobody is put out unwarned, nobody stays for ever, and looks are rare."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.model import Notice, Session, SessionState
from broker.domain.session_time import Limit, Look, ends_at, idle_at, look, warning_id
from broker.domain.settings import PoolSettings
from broker.limits import SESSION_LOOK_S
from tests.support.builders import NOW, make_session

MINUTE = 60_000
IDLE = PoolSettings(idle_s=1800, warn_s=300)
ENDS = PoolSettings(session_max_s=3600, warn_s=300)


def live(**changes: object) -> Session:
    session = make_session(state=SessionState.ACTIVE, live_at=NOW, active_at=NOW, deadline_at=None)
    return replace(session, **changes)  # type: ignore[arg-type]


def warned(session: Session, found: Look, now: int) -> Session:
    assert found.warn is not None
    assert found.at is not None
    notice = Notice(id=warning_id(session, found.warn, found.at), text="soon", sender="", at=now)
    return replace(session, notice=notice, deadline_at=found.again_at)


def test_without_limits_a_session_is_looked_at_rarely_and_nothing_is_due() -> None:
    assert look(live(), PoolSettings(), NOW) == Look(again_at=NOW + SESSION_LOOK_S * 1000)


@pytest.mark.parametrize(("settings", "limit"), [(IDLE, Limit.IDLE), (ENDS, Limit.END)])
def test_a_limit_is_looked_at_when_its_warning_is_due_then_when_it_is_over(
    settings: PoolSettings, limit: Limit
) -> None:
    at = NOW + (settings.idle_s or settings.session_max_s) * 1000
    first = look(live(), settings, NOW)
    assert first == Look(again_at=at - 5 * MINUTE)
    second = look(live(), settings, first.again_at)
    assert second == Look(again_at=at, warn=limit, at=at)
    told = warned(live(), second, first.again_at)
    assert look(told, settings, at - 1) == Look(again_at=at)
    over = look(told, settings, at)
    assert (over.over, over.warn, over.at) == (limit, None, at)


def test_input_after_the_warning_moves_the_idle_limit_and_asks_for_a_new_warning() -> None:
    at = NOW + 30 * MINUTE
    found = look(live(), IDLE, at - 5 * MINUTE)
    told = warned(live(), found, at - 5 * MINUTE)
    busy = replace(told, active_at=at - MINUTE)
    later = look(busy, IDLE, at)
    assert later == Look(again_at=at - MINUTE + 25 * MINUTE)
    again = look(busy, IDLE, later.again_at)
    assert (again.warn, again.at) == (Limit.IDLE, at - MINUTE + 30 * MINUTE)


def test_a_limit_that_was_lowered_under_a_session_still_warns_in_full() -> None:
    now = NOW + 120 * MINUTE
    found = look(live(), ENDS, now)
    assert (found.warn, found.again_at) == (Limit.END, now + 5 * MINUTE)
    told = warned(live(), found, now)
    assert look(told, ENDS, now + 5 * MINUTE - 1).over is None
    assert look(told, ENDS, now + 5 * MINUTE).over is Limit.END


@pytest.mark.parametrize(("left_ms", "waits_ms"), [(150_000, 150_000), (149_999, 300_000)])
def test_a_warning_that_came_late_puts_the_end_off_only_with_less_than_half_its_time_left(
    left_ms: int, waits_ms: int
) -> None:
    now = NOW + 60 * MINUTE - left_ms
    found = look(live(), ENDS, now)
    assert found == Look(again_at=now + waits_ms, warn=Limit.END, at=NOW + 60 * MINUTE)
    told = warned(live(), found, now)
    assert look(told, ENDS, now + waits_ms - 1).over is None
    over = look(told, ENDS, now + waits_ms)
    assert over.over is Limit.END
    assert over.again_at == now + waits_ms + SESSION_LOOK_S * 1000


def test_of_two_limits_at_one_instant_the_one_that_was_named_ends_the_session() -> None:
    both = PoolSettings(session_max_s=3600, idle_s=3600, warn_s=300)
    at = NOW + 60 * MINUTE
    for limit in Limit:
        notice = Notice(id=f"ses_1:{limit}:{at}", text="soon", sender="", at=at - 5 * MINUTE)
        told = live(id="ses_1", notice=notice, deadline_at=at)
        assert look(told, both, at).over is limit


def test_another_message_after_the_warning_does_not_put_the_end_off() -> None:
    at = NOW + 60 * MINUTE
    told = warned(live(), look(live(), ENDS, at - 5 * MINUTE), at - 5 * MINUTE)
    other = replace(told, notice=Notice(id="ntc_1", text="hello", sender="op", at=at - MINUTE))
    assert look(other, ENDS, at).over is Limit.END


def test_an_extension_counts_from_the_old_end_and_replaces_the_pools_limit() -> None:
    extended = live(ends_at=NOW + 90 * MINUTE)
    assert ends_at(extended, ENDS) == NOW + 90 * MINUTE
    assert look(extended, ENDS, NOW + 60 * MINUTE).over is None
    assert ends_at(extended, PoolSettings()) is None
    assert ends_at(live(live_at=None), ENDS) is None


def test_idle_time_counts_from_the_last_input_or_from_going_live() -> None:
    assert idle_at(live(active_at=None), IDLE) == NOW + 30 * MINUTE
    assert idle_at(live(active_at=NOW + MINUTE), IDLE) == NOW + 31 * MINUTE
    assert idle_at(live(active_at=None, live_at=None), IDLE) is None
    assert idle_at(live(), PoolSettings()) is None


def test_without_a_warning_time_the_limit_acts_at_once() -> None:
    blunt = replace(ENDS, warn_s=0)
    assert look(live(), blunt, NOW) == Look(again_at=NOW + 60 * MINUTE)
    assert look(live(), blunt, NOW + 60 * MINUTE).over is Limit.END


def test_the_sooner_of_two_limits_is_told_first() -> None:
    both = PoolSettings(session_max_s=3600, idle_s=3540, warn_s=300)
    now = NOW + 57 * MINUTE
    found = look(live(), both, now)
    assert (found.warn, found.at) == (Limit.IDLE, NOW + 59 * MINUTE)
    told = warned(live(), found, now)
    assert look(told, both, NOW + 60 * MINUTE) == Look(again_at=found.again_at)
    assert look(told, both, found.again_at).over is Limit.IDLE


def test_who_comes_back_after_the_first_warning_is_warned_of_the_second_limit_then() -> None:
    both = PoolSettings(session_max_s=3600, idle_s=3540, warn_s=300)
    now = NOW + 57 * MINUTE
    told = warned(live(), look(live(), both, now), now)
    busy = replace(told, active_at=NOW + 58 * MINUTE)
    found = look(busy, both, NOW + 62 * MINUTE)
    assert (found.warn, found.again_at) == (Limit.END, NOW + 67 * MINUTE)


@given(
    idle_s=st.integers(0, 4000),
    max_s=st.integers(0, 8000),
    warn_s=st.integers(0, 900),
    inputs=st.lists(st.integers(1, 9_000_000), max_size=6),
    noise=st.lists(st.integers(1, 9_000_000), max_size=4),
    late_ms=st.integers(0, 200_000),
)
def test_followed_look_by_look_a_session_ends_in_time_and_never_unwarned(
    idle_s: int, max_s: int, warn_s: int, inputs: list[int], noise: list[int], late_ms: int
) -> None:
    """A broker that looks `late_ms` too late each time, a person who does something at `inputs`,
    staff who send messages at `noise`."""
    settings = PoolSettings(idle_s=idle_s, session_max_s=max_s, warn_s=warn_s)
    session, now = live(), NOW
    told: dict[tuple[Limit, int], int] = {}
    for _ in range(400):
        done = [NOW + one for one in inputs if NOW + one <= now]
        session = replace(session, active_at=max([NOW, *done]))
        found = look(session, settings, now)
        if found.over is not None:
            assert found.at is not None
            assert now >= found.at
            if warn_s:
                # both limits may fall on one instant, of which one warning told
                at = told.get((found.over, found.at)) or max(told.values())
                assert now - at >= warn_s * 1000 // 2
            break
        assert now < found.again_at <= now + SESSION_LOOK_S * 1000
        if found.warn is not None and found.at is not None:
            told.setdefault((found.warn, found.at), now)
            session = warned(session, found, now)
        before, now = now, found.again_at + late_ms
        for one in sorted(noise):
            if before < NOW + one <= now:
                notice = Notice(id=f"ntc_{one}", text="x", sender="op", at=NOW + one)
                session = replace(session, notice=notice)
        session = replace(session, deadline_at=found.again_at)
    else:
        assert not idle_s
        assert not max_s
