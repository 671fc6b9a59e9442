"""Settings of pools and hosts, in the API's words. What a change leaves out stays as it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from broker.domain.settings import (
    AfterGrace,
    Channels,
    Clipboard,
    HostSettings,
    Limits,
    PoolSettings,
    ScheduleEntry,
    ServiceState,
    Shadowing,
    Share,
    Spread,
    TakeOver,
    WhenIdle,
)
from broker.limits import SCHEDULE_ENTRIES_MAX
from broker.web.api.inputs import Body, Name, given_fields
from broker.web.api.windows import WindowBody, from_window, to_window

COUNT_MAX = 100_000
SECONDS_MAX = 30 * 24 * 3600

Count = Annotated[int, Meta(ge=0, le=COUNT_MAX)]
Seconds = Annotated[int, Meta(ge=0, le=SECONDS_MAX)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Weight = Annotated[float, Meta(gt=0, le=1000)]
Times = Annotated[float, Meta(ge=1, le=100)]
Labels = Annotated[list[Name], Meta(max_length=50)]


class GuaranteeBody(Body, frozen=True, kw_only=True):
    """The part of each resource, 0 to 1, that a desktop has for itself."""

    cpus: Fraction = 0.0
    memory: Fraction = 0.0
    disk: Fraction = 0.0
    network: Fraction = 0.0


class WeightsBody(Body, frozen=True, kw_only=True):
    """A desktop's share of what is contended, relative to others (1 is usual)."""

    cpus: Weight = 1.0
    memory: Weight = 1.0
    disk: Weight = 1.0
    network: Weight = 1.0


class LimitsBody(Body, frozen=True, kw_only=True):
    """At most, beside the size; 0: not limited. Disk in MiB/s, peak in Mbit/s, burst in MiB."""

    disk_mib_s: Annotated[int, Meta(ge=0, le=COUNT_MAX)] = 0
    network_peak_mbit: Annotated[int, Meta(ge=0, le=COUNT_MAX)] = 0
    network_burst_mib: Annotated[int, Meta(ge=0, le=COUNT_MAX)] = 0


class ScheduleBody(Body, frozen=True, kw_only=True):
    """While `window` holds, what is given here replaces the pool's own. Later entries win."""

    name: Name
    window: WindowBody
    spares_min: Count | None = None
    spares_suspended: Count | None = None
    size_min: Count | None = None
    open: bool | None = None
    power: bool | None = None


class ChannelsBody(Body, frozen=True, kw_only=True):
    """What may cross beside picture, keys and pointer. `clipboard`: as seen from the desktop."""

    clipboard: Clipboard = Clipboard.OFF
    usb: bool = False
    drives: bool = False
    printing: bool = False
    watermark: bool = False


Schedule = Annotated[list[ScheduleBody], Meta(max_length=SCHEDULE_ENTRIES_MAX)]


class PoolSettingsBody(Body, frozen=True, kw_only=True):
    """Times in seconds; 0 means no limit. What each does is in docs/pools.md."""

    state: ServiceState | UnsetType = UNSET
    size_min: Count | UnsetType = UNSET
    spares_suspended: Count | UnsetType = UNSET
    refill_batch: Annotated[int, Meta(ge=1, le=1000)] | UnsetType = UNSET
    after_grace: AfterGrace | UnsetType = UNSET
    keep_suspended_s: Seconds | UnsetType = UNSET
    idle_s: Seconds | UnsetType = UNSET
    when_idle: WhenIdle | UnsetType = UNSET
    session_max_s: Seconds | UnsetType = UNSET
    warn_s: Seconds | UnsetType = UNSET
    take_over: TakeOver | UnsetType = UNSET
    consent_s: Annotated[int, Meta(ge=5, le=600)] | UnsetType = UNSET
    lock_on_disconnect: bool | UnsetType = UNSET
    channels: ChannelsBody | UnsetType = UNSET
    shadowing: Shadowing | UnsetType = UNSET
    spread: Spread | UnsetType = UNSET
    guarantee: GuaranteeBody | UnsetType = UNSET
    weights: WeightsBody | UnsetType = UNSET
    limits: LimitsBody | UnsetType = UNSET
    share_pages: bool | UnsetType = UNSET
    labels: Labels | UnsetType = UNSET
    prefer_labels: Labels | UnsetType = UNSET
    storage: Annotated[str, Meta(max_length=64)] | UnsetType = UNSET
    apart: bool | UnsetType = UNSET
    time_zone: Annotated[str, Meta(max_length=64)] | UnsetType = UNSET
    schedule: Schedule | UnsetType = UNSET
    scale_in_after_s: Seconds | UnsetType = UNSET
    failures_max: Annotated[int, Meta(ge=1, le=100)] | UnsetType = UNSET
    breaker_s: Annotated[int, Meta(ge=1, le=SECONDS_MAX)] | UnsetType = UNSET
    breaker_max_s: Annotated[int, Meta(ge=1, le=SECONDS_MAX)] | UnsetType = UNSET


class HostSettingsBody(Body, frozen=True, kw_only=True):
    """`overcommit_*`: how many times over a resource may be promised."""

    overcommit_memory: Times | UnsetType = UNSET
    overcommit_disk: Times | UnsetType = UNSET
    overcommit_network: Times | UnsetType = UNSET
    labels: Labels | UnsetType = UNSET
    power_managed: bool | UnsetType = UNSET
    idle_off_s: Seconds | UnsetType = UNSET


def _share(body: GuaranteeBody | WeightsBody) -> Share:
    return Share(cpus=body.cpus, memory=body.memory, disk=body.disk, network=body.network)


def _entry(body: ScheduleBody) -> ScheduleEntry:
    return ScheduleEntry(
        name=body.name,
        window=to_window(body.window),
        spares_min=body.spares_min,
        spares_suspended=body.spares_suspended,
        size_min=body.size_min,
        open=body.open,
        power=body.power,
    )


def pool_settings(body: PoolSettingsBody | UnsetType, base: PoolSettings) -> PoolSettings:
    """`base` with what was sent."""
    if isinstance(body, UnsetType):
        return base
    changes: dict[str, Any] = given_fields(body)
    for name in ("guarantee", "weights"):
        if name in changes:
            changes[name] = _share(changes[name])
    if "limits" in changes:
        changes["limits"] = msgspec.convert(changes["limits"], Limits, from_attributes=True)
    if "channels" in changes:
        changes["channels"] = msgspec.convert(changes["channels"], Channels, from_attributes=True)
    for name in ("labels", "prefer_labels"):
        if name in changes:
            changes[name] = tuple(dict.fromkeys(changes[name]))
    if "schedule" in changes:
        changes["schedule"] = tuple(map(_entry, changes["schedule"]))
    return replace(base, **changes)


def host_settings(body: HostSettingsBody | UnsetType, base: HostSettings) -> HostSettings:
    """`base` with what was sent."""
    if isinstance(body, UnsetType):
        return base
    changes: dict[str, Any] = given_fields(body)
    if "labels" in changes:
        changes["labels"] = tuple(dict.fromkeys(changes["labels"]))
    return replace(base, **changes)


def _schedule(entry: ScheduleEntry) -> ScheduleBody:
    return ScheduleBody(
        name=entry.name,
        window=from_window(entry.window),
        spares_min=entry.spares_min,
        spares_suspended=entry.spares_suspended,
        size_min=entry.size_min,
        open=entry.open,
        power=entry.power,
    )


def show_pool_settings(settings: PoolSettings) -> PoolSettingsBody:
    """Everything, as it would be sent to set it."""
    own = ("guarantee", "weights", "limits", "channels", "labels", "prefer_labels", "schedule")
    plain = {
        name: getattr(settings, name)
        for name in PoolSettingsBody.__struct_fields__
        if name not in own
    }
    return PoolSettingsBody(
        **plain,
        guarantee=msgspec.convert(settings.guarantee, GuaranteeBody, from_attributes=True),
        weights=msgspec.convert(settings.weights, WeightsBody, from_attributes=True),
        limits=msgspec.convert(settings.limits, LimitsBody, from_attributes=True),
        channels=msgspec.convert(settings.channels, ChannelsBody, from_attributes=True),
        labels=list(settings.labels),
        prefer_labels=list(settings.prefer_labels),
        schedule=[_schedule(entry) for entry in settings.schedule],
    )


def show_host_settings(settings: HostSettings) -> HostSettingsBody:
    plain = {
        name: getattr(settings, name)
        for name in HostSettingsBody.__struct_fields__
        if name != "labels"
    }
    return HostSettingsBody(**plain, labels=list(settings.labels))
