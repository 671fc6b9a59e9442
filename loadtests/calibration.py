"""Reads calibration.toml: the figures behind everything simulated, with their sources."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

CALIBRATION_FILE = Path(__file__).parent / "calibration.toml"


class CalibrationError(Exception):
    """The file is not a calibration; the text says where."""


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One figure. `low` = `high` where it is not a range. `name`: its path, dotted."""

    name: str
    low: float
    high: float
    unit: str
    source: str
    assumption: bool

    @property
    def mean(self) -> float:
        return (self.low + self.high) / 2


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """A value with what it could be at least and at most."""

    low: float
    mean: float
    high: float


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    figures: Mapping[str, Figure]

    def __getitem__(self, name: str) -> Figure:
        """The figure of that path.

        Raises:
            CalibrationError: there is none.
        """
        try:
            return self.figures[name]
        except KeyError:
            raise CalibrationError(f"the calibration has no figure {name}") from None

    def display_kbit_s(self) -> Spread:
        """Mean display traffic of one VDI desktop, over the workloads weighted by their share."""
        rate, share = "display.workloads.{}.kbit_s", "display.workloads.{}.share"
        names = [key.split(".")[2] for key in self.figures if key.endswith(".kbit_s")]
        weights = {name: self[share.format(name)].mean for name in names}
        total = sum(weights.values())
        parts = [(weights[name] / total, self[rate.format(name)]) for name in names]
        return Spread(
            low=sum(weight * figure.low for weight, figure in parts),
            mean=sum(weight * figure.mean for weight, figure in parts),
            high=sum(weight * figure.high for weight, figure in parts),
        )


def read_calibration(path: Path = CALIBRATION_FILE) -> Calibration:
    """Every figure of the file, in its order.

    Raises:
        CalibrationError: it is not TOML, or a figure lacks its value, unit or source.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CalibrationError(f"{path.name} cannot be read") from error
    return Calibration(figures={figure.name: figure for figure in _figures(content, ())})


def _figures(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[Figure]:
    for key, value in table.items():
        if not isinstance(value, Mapping):
            continue
        here = (*path, key)
        if "source" not in value and "unit" not in value:
            yield from _figures(value, here)
            continue
        name = ".".join(here)
        try:
            low = value["value"] if "value" in value else value["low"]
            yield Figure(
                name=name,
                low=float(low),
                high=float(value.get("high", low)),
                unit=str(value["unit"]),
                source=str(value["source"]),
                assumption=bool(value.get("assumption", False)),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CalibrationError(f"the figure {name} lacks a value, unit or source") from error
