"""What an open display carried, by the second."""

from __future__ import annotations

from broker.domain.measures import DisplayMeasure
from tests.support.builders import NOW


def measure(seconds: float) -> DisplayMeasure:
    return DisplayMeasure(
        session_id="ses_1", at=NOW, seconds=seconds, bytes_down=4000, bytes_up=200
    )


def test_bytes_are_told_by_the_second_each_way() -> None:
    assert (measure(10).down_per_s, measure(10).up_per_s) == (400, 20)
    assert (measure(0.5).down_per_s, measure(0.5).up_per_s) == (8000, 400)


def test_an_interval_of_no_length_carried_nothing() -> None:
    assert (measure(0).down_per_s, measure(0).up_per_s) == (0, 0)
