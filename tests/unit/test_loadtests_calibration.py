"""The calibration file as the report reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.calibration import CalibrationError, read_calibration

GOOD = """
[display.workloads.word]
kbit_s = { low = 10.0, high = 30.0, unit = "kbit/s", source = "a paper" }
share = { value = 0.75, unit = "share", source = "none found", assumption = true }
[display.workloads.web]
kbit_s = { value = 400.0, unit = "kbit/s", source = "a paper" }
share = { value = 0.25, unit = "share", source = "none found", assumption = true }
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "calibration.toml"
    path.write_text(text)
    return path


def test_the_projects_own_file_has_every_figure_that_a_report_uses() -> None:
    calibration = read_calibration()
    for name in ("images.voi_boot", "images.idv_delta", "images.idv_full", "network.gigabit"):
        figure = calibration[name]
        assert 0 < figure.low <= figure.high
        assert figure.source
    assert calibration["images.idv_delta"].assumption
    rate = calibration.display_kbit_s()
    assert 0 < rate.low < rate.mean < rate.high


def test_the_display_rate_is_weighted_by_the_shares(tmp_path: Path) -> None:
    rate = read_calibration(written(tmp_path, GOOD)).display_kbit_s()
    assert rate.low == pytest.approx(0.75 * 10 + 0.25 * 400)
    assert rate.mean == pytest.approx(0.75 * 20 + 0.25 * 400)
    assert rate.high == pytest.approx(0.75 * 30 + 0.25 * 400)


@pytest.mark.parametrize(
    "text",
    [
        "not toml",
        '[images]\nvoi_boot = { unit = "byte", source = "a paper" }',
        '[images]\nvoi_boot = { value = 3, source = "a paper" }',
        '[images]\nvoi_boot = { value = 3, unit = "byte" }',
        '[images]\nvoi_boot = { low = "many", unit = "byte", source = "a paper" }',
    ],
    ids=["toml", "value", "unit", "source", "number"],
)
def test_a_figure_without_value_unit_or_source_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(CalibrationError):
        read_calibration(written(tmp_path, text))


def test_a_figure_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"no figure images\.voi_boot"):
        read_calibration(written(tmp_path, GOOD))["images.voi_boot"]
