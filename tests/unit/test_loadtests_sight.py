"""Laps of one arrival: from the due instant, whenever it really started."""

from __future__ import annotations

import time

from loadtests.sight import Named, SessionView, Sight
from tests.support.campaigns import plan_of

ARRIVAL = plan_of(sessions=3).arrivals[0]
OFFSET_MS = 1_000_000.0


def epoch_ms(instant: float) -> float:
    return instant * 1000 + OFFSET_MS


def late_sight() -> Sight:
    """Due two seconds ago, started one second ago."""
    now = time.monotonic()
    return Sight(arrival=ARRIVAL, due=now - 2, started=now - 1)


def test_a_late_start_is_part_of_the_sign_in_and_of_the_total() -> None:
    sight = late_sight()
    for step in ("sign_in", "assign", "deliver"):
        sight.lap(step)
    sight.lap_total()
    record = sight.record(0, epoch_ms)
    assert record.sign_in_ms is not None
    assert record.sign_in_ms >= 2000
    assert 1000 <= record.lag_ms <= 1001
    assert record.total_ms is not None
    assert record.total_ms >= 2000
    assert record.total_ms - record.lag_ms >= 1000
    assert record.stay_ms >= 1000
    assert record.due_at_ms == epoch_ms(sight.due)


def test_the_laps_add_up_to_the_total() -> None:
    sight = late_sight()
    for step in ("sign_in", "assign", "queue", "deliver"):
        time.sleep(0.002)
        sight.lap(step)
    sight.lap_total()
    record = sight.record(0, epoch_ms)
    parts = (record.sign_in_ms, record.assign_ms, record.queue_ms, record.deliver_ms)
    assert all(part is not None for part in parts)
    assert record.total_ms is not None
    assert abs(record.total_ms - sum(part or 0.0 for part in parts)) < 0.01


def test_who_never_got_there_has_no_total() -> None:
    sight = late_sight()
    sight.lap("sign_in")
    record = sight.record(0, epoch_ms)
    assert record.total_ms is None
    assert record.queue_ms is None
    assert not record.live


def test_who_was_given_a_desktop_at_once_queued_for_no_time() -> None:
    sight = late_sight()
    for step in ("sign_in", "assign", "deliver"):
        sight.lap(step)
    assert sight.record(0, epoch_ms).queue_ms == 0


def test_a_desktop_is_held_from_when_it_was_seen_until_the_log_off_begins() -> None:
    sight = late_sight()
    sight.session = SessionView(
        id="ses_1", state="delivering", revision=2, desktop=Named(id="des_1")
    )
    sight.hold()
    sight.left_at = time.monotonic() + 1
    record = sight.record(0, epoch_ms)
    assert record.desktop_id == "des_1"
    assert record.held_from_at_ms is not None
    assert record.held_until_at_ms == epoch_ms(sight.left_at)
    assert record.held_from_at_ms < record.held_until_at_ms
