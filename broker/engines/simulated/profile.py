"""What kind of host it is, in figures, and how machines on one host slow each other down.

The figures come from loadtests/calibration.toml, where each has its unit and source; it lies
beside the broker in a checkout and in an installed wheel. See it for what every field means.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import broker
from broker.domain.errors import ConfigError
from broker.domain.features import Feature
from broker.engines.simulated.shares import Resource

_CPU_LEFT_MIN = 0.1
"""share of a host's CPUs that boots get even when running desktops could use all of them"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One kind of hypervisor. Times in seconds on an otherwise idle host.

    The figures of a feature that it does not have are 0 (FEATURE_FIGURES).
    """

    name: str
    title: str
    features: frozenset[Feature]
    create_s: float
    boot_s: float
    reset_s: float
    destroy_s: float
    spread: float
    boot_iops: float
    host_iops: float
    boot_cpus: float
    steady_cpus: float
    cpu_factor: float
    memory_overhead_mib: float
    memory_factor: float
    suspend_s: float = 0.0
    resume_s: float = 0.0
    save_mib_s: float = 0.0
    load_mib_s: float = 0.0
    migrate_s: float = 0.0
    migrate_mib_s: float = 0.0
    resize_s: float = 0.0
    power_on_s: float = 0.0
    power_off_s: float = 0.0
    snapshot_s: float = 0.0
    revert_s: float = 0.0


FEATURE_FIGURES: Mapping[Feature, tuple[str, ...]] = {
    Feature.SUSPEND: ("suspend_s", "resume_s", "save_mib_s", "load_mib_s"),
    Feature.MIGRATE: ("migrate_s", "migrate_mib_s"),
    Feature.RESIZE: ("resize_s",),
    Feature.HOST_POWER: ("power_on_s", "power_off_s"),
    Feature.SNAPSHOT: ("snapshot_s", "revert_s"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HostUse:
    """What is on a host at one moment. `memory_mib` is what its machines really hold."""

    cpus: float
    memory_total_mib: float
    memory_mib: float
    booting: int
    running: int
    """machines up and past their boot"""


def slowdown(profile: Profile, use: HostUse) -> float:
    """How many times longer a boot takes here than alone; at least 1.

    The boots under way share the host's storage and the CPUs that running desktops leave them;
    the scarcer of the two sets the pace, so boots are free up to a knee and then slow each
    other down in proportion (a boot storm). Memory in use past the host's own slows all of it.
    So it is for boots of equal weights; for others `contention` is divided by weight (shares.py).
    """
    factor, _ = contention(profile, use)
    return factor * pressure(use)


def pressure(use: HostUse) -> float:
    """How many times longer everything takes for want of memory; at least 1."""
    return max(1.0, use.memory_mib / use.memory_total_mib)


def contention(profile: Profile, use: HostUse) -> tuple[float, Resource]:
    """How many times more the boots want than there is (at least 1), and of what."""
    storage = use.booting * profile.boot_iops / profile.host_iops
    taken = use.running * profile.steady_cpus * profile.cpu_factor
    cpus_left = max(use.cpus - taken, use.cpus * _CPU_LEFT_MIN)
    cpu = use.booting * profile.boot_cpus * profile.cpu_factor / cpus_left
    return max(1.0, storage, cpu), "disk" if storage >= cpu else "cpus"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What a person does, as traffic: kbit/s between two bounds, seconds between updates."""

    name: str
    kbit_s: tuple[float, float]
    share: float
    update_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DisplayModel:
    """`activity_s`: bounds of how long a person stays with one workload."""

    first_picture_bytes: int
    input_echo_bytes: int
    activity_s: tuple[float, float]
    workloads: tuple[Workload, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """`assumptions` names the figures that no source measured, for reports to print."""

    profiles: Mapping[str, Profile]
    display: DisplayModel
    assumptions: tuple[str, ...]


def read_calibration() -> Mapping[str, Any]:
    """The shipped file, parsed.

    Raises:
        ConfigError: it is not there, or not TOML.
    """
    place = Path(broker.__file__).parent.parent / "loadtests" / "calibration.toml"
    try:
        return tomllib.loads(place.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError("loadtests/calibration.toml is missing") from error
    except ValueError as error:
        raise ConfigError("loadtests/calibration.toml is not valid TOML") from error


def load_calibration() -> Calibration:
    """The shipped figures. Raises ConfigError."""
    return parse_calibration(read_calibration())


def _table(tree: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    found: Any = tree
    for part in path:
        found = found.get(part) if isinstance(found, Mapping) else None
    if not isinstance(found, Mapping):
        raise ConfigError(f"calibration: [{'.'.join(path)}] is missing")
    return found


def _bounds(tree: Mapping[str, Any], *path: str) -> tuple[float, float]:
    """A figure's `low` and `high`; both are its `value` where it has only that."""
    figure = _table(tree, *path)
    value = figure.get("value")
    low, high = figure.get("low", value), figure.get("high", value)
    numbers = isinstance(low, int | float) and isinstance(high, int | float)
    if not numbers or not 0 <= low <= high:
        raise ConfigError(f"calibration: {'.'.join(path)} needs value, or low and high, from 0")
    return float(low), float(high)


def _number(tree: Mapping[str, Any], *path: str, zero: bool = True) -> float:
    low, high = _bounds(tree, *path)
    if low != high or (low == 0 and not zero):
        raise ConfigError(f"calibration: {'.'.join(path)} needs one value above 0")
    return low


def figures(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every figure of a calibration with its dotted name."""
    for key, value in tree.items():
        name = f"{path}.{key}" if path else key
        if isinstance(value, Mapping):
            if {"value", "low", "high"} & value.keys():
                yield name, value
            else:
                yield from figures(value, name)


def _features(table: Mapping[str, Any], name: str) -> frozenset[Feature]:
    named = table.get("features")
    known = [feature.value for feature in Feature]
    if not isinstance(named, list) or not all(one in known for one in named):
        text = f"calibration: engine.profiles.{name}.features is a list of {', '.join(known)}"
        raise ConfigError(text)
    return frozenset(Feature(one) for one in named)


def _profile(tree: Mapping[str, Any], name: str) -> Profile:
    table = _table(tree, "engine", "profiles", name)
    features = _features(table, name)
    absent = {
        figure
        for feature, needs in FEATURE_FIGURES.items()
        if feature not in features
        for figure in needs
    }
    numbers = {
        one.name: _number(tree, "engine", "profiles", name, one.name, zero=one.name == "spread")
        for one in fields(Profile)
        if one.name not in {"name", "title", "features"} | absent
    }
    title = str(table.get("title", name))
    return Profile(name=name, title=title, features=features, **numbers)


def _display(tree: Mapping[str, Any]) -> DisplayModel:
    workloads = tuple(
        Workload(
            name=name,
            kbit_s=_bounds(tree, "display", "workloads", name, "kbit_s"),
            share=_number(tree, "display", "workloads", name, "share"),
            update_s=_number(tree, "display", "workloads", name, "update_s", zero=False),
        )
        for name in _table(tree, "display", "workloads")
    )
    if sum(one.share for one in workloads) <= 0:
        raise ConfigError("calibration: the shares of display.workloads add up to nothing")
    return DisplayModel(
        first_picture_bytes=int(_number(tree, "display", "first_picture")),
        input_echo_bytes=int(_number(tree, "display", "input_echo")),
        activity_s=_bounds(tree, "display", "activity"),
        workloads=workloads,
    )


def parse_calibration(tree: Mapping[str, Any]) -> Calibration:
    """Check and take over a parsed calibration file.

    Raises:
        ConfigError: naming the first figure that is missing or not a number.
    """
    return Calibration(
        profiles={name: _profile(tree, name) for name in _table(tree, "engine", "profiles")},
        display=_display(tree),
        assumptions=tuple(
            name for name, figure in figures(tree) if figure.get("assumption") is True
        ),
    )
