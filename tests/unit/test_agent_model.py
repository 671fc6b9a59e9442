"""Simulated lengths: from a seed, within bounds, compressed in time, and those of the file."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents import limits
from agents.calibration import CalibrationError, read_figures, shipped
from agents.chance import Chance, fraction_of, key_of
from agents.model import Figures, Length, Model


def test_the_built_in_figures_are_those_of_the_shipped_file() -> None:
    path = shipped()
    assert path is not None
    from_file, built_in = read_figures(path), Figures()
    assert dict(from_file.steps) == dict(built_in.steps)
    assert from_file.input_pause_s == built_in.input_pause_s
    assert from_file.delta_share == pytest.approx(built_in.delta_share)


@given(st.sampled_from(sorted(Figures().steps)), st.integers(), st.integers(1, 1000))
def test_a_step_lies_within_its_bounds_and_is_the_same_each_time(
    step: str, seed: int, ordinal: int
) -> None:
    key = key_of(seed, "desk")
    length = Figures().steps[step]
    drawn = Model().step_s(step, key, ordinal)
    assert length.low_s <= drawn <= length.high_s
    assert drawn == Model().step_s(step, key, ordinal)


def test_steps_differ_from_endpoint_to_endpoint_and_from_time_to_time() -> None:
    lengths = {
        Model().step_s("local_boot", key_of(1, name), ordinal)
        for name in range(20)
        for ordinal in range(20)
    }
    assert len(lengths) == 400


def test_speed_divides_simulated_lengths() -> None:
    key = key_of(1, "desk")
    ordinary, quick = Model(), Model(speed=20.0)
    assert quick.step_s("logon", key, 1) == pytest.approx(ordinary.step_s("logon", key, 1) / 20)


def test_a_person_pauses_for_the_mean_and_never_without_end() -> None:
    model = Model()
    pauses = [model.pause_s((turn + 0.5) / 10_000) for turn in range(10_000)]
    assert sum(pauses) / len(pauses) == pytest.approx(1.0, rel=0.05)
    assert max(pauses) <= 20
    assert min(Model(speed=1e6).pause_s(0.5) for _ in range(3)) == limits.INPUT_PAUSE_S_MIN


def test_a_file_without_some_figures_leaves_the_built_in_ones(tmp_path: Path) -> None:
    path = tmp_path / "figures.toml"
    path.write_text("[phases]\nlogon = { value = 7 }\n")
    figures = read_figures(path)
    assert figures.steps["logon"] == Length(low_s=7, high_s=7)
    assert figures.steps["os_start"] == Figures().steps["os_start"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("logon = ", "not valid TOML"),
        ("[phases]\nlogon = { low = 5 }", "phases.logon needs value"),
        ('[phases]\nlogon = { value = "long" }', "phases.logon needs value"),
        ("[phases]\nlogon = 5", "phases.logon is not a table"),
        ("[phases]\nos_start = { low = 5, high = 4 }", "phases.os_start: not 0 <= low"),
        ("[phases]\nos_start = { low = -1, high = 4 }", "phases.os_start: not 0 <= low"),
        ("[agents]\nreset = { value = 1e9 }", "agents.reset: not 0 <= low"),
        ("[agents]\ninput_pause = { value = 0 }", "not above 0"),
        ("[images]\nidv_delta = { value = 3 }\nidv_full = { value = 2 }", "not between 0 and 1"),
    ],
)
def test_a_file_with_an_impossible_figure_is_refused_by_name(
    tmp_path: Path, text: str, says: str
) -> None:
    path = tmp_path / "figures.toml"
    path.write_text(text)
    with pytest.raises(CalibrationError, match=says):
        read_figures(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="cannot be read"):
        read_figures(tmp_path / "none.toml")


def test_chance_is_even_and_depends_on_its_key_alone() -> None:
    chance = Chance(key_of("a"))
    drawn = [chance.uniform(10, 20) for _ in range(10_000)]
    assert all(10 <= one < 20 for one in drawn)
    assert sum(drawn) / len(drawn) == pytest.approx(15, abs=0.2)
    again = Chance(key_of("a"))
    assert [again.uniform(10, 20) for _ in range(5)] == drawn[:5]
    assert Chance(key_of("b")).uniform(10, 20) != drawn[0]


def test_keys_know_where_their_parts_end() -> None:
    assert key_of("a", "bc") != key_of("ab", "c")
    assert 0 <= fraction_of(key_of(1), "x") < 1
