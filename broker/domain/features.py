"""What an engine can do on a host beyond making and removing machines."""

from __future__ import annotations

from enum import StrEnum


class Feature(StrEnum):
    """Engines say per host which of these they have; the planner asks for nothing else."""

    SUSPEND = "suspend"
    MIGRATE = "migrate"
    RESIZE = "resize"
    HOST_POWER = "host_power"
    SNAPSHOT = "snapshot"
    """snapshots of a desktop: made, reverted to, dropped"""
