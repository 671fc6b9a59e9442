"""Reads the figures of agents/model.py from a calibration file (loadtests/calibration.toml)."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agents.model import Figures, Length

_PLACES = {
    "logon": ("phases", "logon"),
    "local_boot": ("phases", "local_boot"),
    "os_start": ("phases", "os_start"),
    "reset": ("agents", "reset"),
}


class CalibrationError(Exception):
    """The file cannot be used; the text says where and why."""


def shipped() -> Path | None:
    """The project's own file: beside the agents in a checkout and in the wheel. An endpoint may
    be without it."""
    found = Path(__file__).parent.parent / "loadtests" / "calibration.toml"
    return found if found.is_file() else None


def read_figures(path: Path) -> Figures:
    """The figures of that file; the built-in one where the file has none.

    Raises:
        CalibrationError: the file cannot be read, is not TOML, or a figure is impossible.
    """
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CalibrationError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise CalibrationError(f"{path} is not valid TOML: {error}") from error
    try:
        return _figures(tree)
    except (ValueError, TypeError) as error:
        raise CalibrationError(f"{path}: {error}") from error


def _figures(tree: Mapping[str, Any]) -> Figures:
    built_in = Figures()
    steps = dict(built_in.steps)
    for step, place in _PLACES.items():
        if (found := _bounds(tree, *place)) is not None:
            try:
                steps[step] = Length(low_s=found[0], high_s=found[1])
            except ValueError as error:
                raise ValueError(f"{'.'.join(place)}: {error}") from error
    pause = _bounds(tree, "agents", "input_pause")
    delta, full = _bounds(tree, "images", "idv_delta"), _bounds(tree, "images", "idv_full")
    share = built_in.delta_share
    if delta is not None and full is not None and sum(full) > 0:
        share = sum(delta) / sum(full)
    return Figures(
        steps=steps,
        input_pause_s=built_in.input_pause_s if pause is None else sum(pause) / 2,
        delta_share=share,
    )


def _bounds(tree: Mapping[str, Any], table: str, name: str) -> tuple[float, float] | None:
    """A figure's `low` and `high`; both are its `value` where it has only that."""
    figures = tree.get(table, {})
    figure = figures.get(name) if isinstance(figures, Mapping) else None
    if figure is None:
        return None
    if not isinstance(figure, Mapping):
        raise TypeError(f"{table}.{name} is not a table")
    value = figure.get("value")
    low, high = figure.get("low", value), figure.get("high", value)
    if not (isinstance(low, int | float) and isinstance(high, int | float)):
        raise TypeError(f"{table}.{name} needs value, or low and high, as numbers")
    return float(low), float(high)
