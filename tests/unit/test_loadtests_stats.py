"""Percentiles against a reference, HDR histograms, intervals, axes and written figures."""

from __future__ import annotations

import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests import formats
from loadtests.charts.scales import even_axis, log_axis
from loadtests.histograms import Histogram
from loadtests.stats import (
    EMPTY,
    distribution,
    percentile,
    percentile_curve,
    ratio_interval,
    tells,
    thinned,
)

values_ms = st.lists(st.floats(0.001, 3_000_000), min_size=1, max_size=300)


@given(values=values_ms, percent=st.floats(0, 100))
def test_a_percentile_is_the_smallest_value_that_enough_do_not_exceed(
    values: list[float], percent: float
) -> None:
    found = percentile(sorted(values), percent)
    share = sum(1 for value in values if value <= found) / len(values)
    assert share >= percent / 100 - 1e-9
    smaller = [value for value in values if value < found]
    if smaller:
        assert len(smaller) / len(values) < percent / 100


def test_percentiles_agree_with_the_textbook() -> None:
    hundred = [float(n) for n in range(1, 101)]
    assert [percentile(hundred, p) for p in (0, 50, 90, 95, 99, 100)] == [1, 50, 90, 95, 99, 100]
    thousand = [float(n) for n in range(1, 1001)]
    assert percentile(thousand, 99.9) == 999
    cuts = statistics.quantiles(thousand, n=100, method="inclusive")
    assert abs(percentile(thousand, 95) - cuts[94]) <= 1


def test_no_values_have_no_percentile() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)
    assert distribution([]) == EMPTY


@given(values=values_ms)
def test_a_histogram_agrees_with_the_exact_values_to_three_digits(values: list[float]) -> None:
    histogram = Histogram.of(values)
    exact = max(values)
    assert histogram.count == len(values)
    assert abs(histogram.percentile_ms(100) - exact) <= exact / 1000 + 0.001


def test_histograms_of_two_processes_merge_into_that_of_both() -> None:
    one, other = Histogram.of([1.0, 2.0, 3.0]), Histogram.of([400.0, 5000.0])
    one.merge(other.encode())
    assert one.encode() == Histogram.of([1.0, 2.0, 3.0, 400.0, 5000.0]).encode()


def test_values_outside_the_range_are_held_at_its_ends() -> None:
    histogram = Histogram.of([-5.0, 10**12])
    assert histogram.count == 2
    assert histogram.percentile_ms(100) >= 3_599_000


def test_too_few_values_are_said_to_be_too_few() -> None:
    assert not tells(99, 99)
    assert tells(100, 99)
    assert distribution([float(n) for n in range(50)]).too_few == ("p99", "p999")
    assert distribution([float(n) for n in range(2000)]).too_few == ()


def test_the_interval_covers_the_true_median_about_as_often_as_it_says() -> None:
    covered = 0
    for trial in range(60):
        draw = random.Random(f"trial:{trial}")
        low, high = distribution([draw.expovariate(1) * 100 for _ in range(120)]).p50_ci_ms
        covered += low <= 69.31 <= high
    assert covered >= 50


def test_the_same_values_give_the_same_interval() -> None:
    values = [float(n % 37) for n in range(200)]
    assert distribution(values, 3) == distribution(values, 3)


def test_a_ratio_of_two_samples_holds_the_true_ratio() -> None:
    draw = random.Random("ratio")
    before = [draw.lognormvariate(3, 0.4) for _ in range(400)]
    after = [2 * draw.lognormvariate(3, 0.4) for _ in range(400)]
    found = ratio_interval(before, after, lambda values: percentile(values, 50))
    assert found is not None
    assert found[0] < 2 < found[1]
    assert found[1] - found[0] < 0.6
    assert ratio_interval([0.0, 0.0], after, lambda values: percentile(values, 50)) is None


@given(values=values_ms, most=st.integers(2, 50))
def test_thinning_keeps_both_ends(values: list[float], most: int) -> None:
    ordered = sorted(values)
    kept = thinned(ordered, most)
    assert len(kept) <= max(most, 1) or len(ordered) <= most
    assert kept[0] == ordered[0]
    assert kept[-1] == ordered[-1]


@given(values=st.lists(st.floats(0.001, 10_000), min_size=1, max_size=2000))
def test_a_percentile_curve_rises_and_ends_at_the_largest(values: list[float]) -> None:
    curve = percentile_curve(values)
    assert curve == sorted(curve)
    assert curve[-1] == (100.0, max(values))
    assert len(curve) <= 260


@given(most=st.floats(0.001, 1e9), steps=st.integers(1, 9))
def test_an_even_axis_reaches_its_largest_value_in_round_steps(most: float, steps: int) -> None:
    axis, ticks = even_axis(most, 0, 100, steps)
    assert axis.high >= most * 0.9999
    assert ticks[0] == 0
    assert len(ticks) <= steps + 2
    assert 0 <= axis.at(most) <= 100


@given(low=st.floats(0.01, 1e5), factor=st.floats(1, 1e6))
def test_a_log_axis_holds_its_values(low: float, factor: float) -> None:
    axis, ticks = log_axis(low, low * factor, 300, 0)
    assert axis.low <= low * 1.0001
    assert axis.high >= low * factor * 0.9999
    assert axis.at(axis.low) == 300
    assert axis.at(axis.high) == 0
    assert ticks == sorted(ticks)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (formats.ms(0.4211), "0.42 ms"),
        (formats.ms(9.97), "10 ms"),
        (formats.ms(999.7), "1.00 s"),
        (formats.ms(4204), "4.20 s"),
        (formats.ms(59_960), "1.0 min"),
        (formats.ms(None), "–"),
        (formats.size(0), "0 B"),
        (formats.ms(0.0), "0 ms"),
        (formats.size(1_240), "1.2 kB"),
        (formats.size(197e6), "197 MB"),
        (formats.size(99.97e6), "100 MB"),
        (formats.size(40e9), "40.0 GB"),
        (formats.minutes(127), "2.1 h"),
        (formats.minutes(33_500), "558 h"),
        (formats.kbit_s(0.04), "0.0 kbit/s"),
        (formats.kbit_s(1500), "1.5 Mbit/s"),
        (formats.count(1234567), "1\u202f234\u202f567"),
        (formats.between(0.2e9, 2e9, "byte"), "200 MB – 2.0 GB"),
        (formats.between(117e6, 117e6, "byte/s"), "117 MB/s"),
        (formats.between(15, 40, "s"), "15 – 40 s"),
        (formats.tick("1.0 s"), "1 s"),
        (formats.tick("2.50 s"), "2.5 s"),
        (formats.tick("100 kB"), "100 kB"),
    ],
)
def test_figures_are_written_with_their_unit(written: str, expected: str) -> None:
    assert written == expected


def test_what_is_endless_has_no_figure() -> None:
    assert formats.minutes(float("inf")) == formats.NONE
