"""The figures: each has a unit and a source, and a bad file is refused by name."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from broker.architectures import RULES
from broker.domain.errors import ConfigError
from broker.engines.simulated import load_calibration
from broker.engines.simulated.profile import (
    FEATURE_FIGURES,
    figures,
    parse_calibration,
    read_calibration,
)


def test_every_figure_has_a_unit_and_a_source() -> None:
    found = dict(figures(read_calibration()))
    assert len(found) > 60
    for name, figure in found.items():
        assert figure.get("unit"), name
        assert figure.get("source"), name
        assert set(figure) <= {"value", "low", "high", "unit", "source", "assumption"}, name
        assert ("value" in figure) != ({"low", "high"} <= figure.keys()), name
        assert figure.get("assumption", True) is True, name


def test_a_figure_without_a_measurement_is_marked_as_an_assumption() -> None:
    unmarked = [
        name
        for name, figure in figures(read_calibration())
        if any(word in figure["source"] for word in ("none found", "assumed", "as bare-metal"))
        and "assumption" not in figure
        and "RA-2020" not in figure["source"]
    ]
    assert unmarked == []
    assert "engine.profiles.bare-metal.boot_s" in load_calibration().assumptions


def test_every_simulated_step_of_every_architecture_has_its_figure() -> None:
    steps = {phase.name for rules in RULES.values() for phase in rules.phases if phase.simulated}
    assert steps <= read_calibration()["phases"].keys()


def test_shares_of_the_workloads_add_up_to_one() -> None:
    assert sum(one.share for one in load_calibration().display.workloads) == pytest.approx(1)


def test_a_profile_has_the_figures_of_its_features_and_no_others() -> None:
    for name, profile in load_calibration().profiles.items():
        for feature, needs in FEATURE_FIGURES.items():
            told = {figure for figure in needs if getattr(profile, figure) > 0}
            assert told == (set(needs) if feature in profile.features else set()), name


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("engine", "profiles", "hosted", "boot_s"), None, "engine.profiles.hosted.boot_s"),
        (("engine", "profiles", "hosted", "boot_s", "value"), 0, "boot_s"),
        (("engine", "profiles", "hosted", "host_iops", "value"), "many", "host_iops"),
        (("engine", "profiles"), None, "engine.profiles"),
        (("engine", "profiles", "hosted", "features"), None, "hosted.features"),
        (("engine", "profiles", "hosted", "features"), ["fly"], "suspend, migrate, resize"),
        (("engine", "profiles", "hosted", "save_mib_s"), None, "hosted.save_mib_s"),
        (("engine", "profiles", "container", "power_on_s", "value"), 0, "power_on_s"),
        (("display", "activity"), {"low": 9, "high": 3}, "display.activity"),
        (("display", "workloads"), {}, "display.workloads"),
    ],
)
def test_a_bad_figure_is_named(path: tuple[str, ...], value: Any, says: str) -> None:
    tree = copy.deepcopy(dict(read_calibration()))
    parent: Any = tree
    for part in path[:-1]:
        parent = parent[part]
    if value is None:
        del parent[path[-1]]
    else:
        parent[path[-1]] = value
    with pytest.raises(ConfigError, match=says):
        parse_calibration(tree)
