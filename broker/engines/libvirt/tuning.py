"""What a machine may take, in libvirt's terms: as it starts, and while it runs.

Where the version of control groups is not known, or there are none, a machine has no weight of CPUs
and no soft limit of memory. Of the rest a machine like any other has no element, so that a host
that lacks a controller carries it all the same; one that shall differ fails there, saying so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from xml.etree import ElementTree as ET

from broker.domain.model import Resources
from broker.domain.settings import Limits, Share
from broker.engines.libvirt.cpu_shares import Groups, cpu_shares

CPU_PERIOD_US: Final = 100_000
"""of the scheduler's bandwidth control; Linux's own default"""
DISK_WEIGHT: Final = 100
"""of a machine of weight 1: what Linux gives one of which nothing is said (blkio.bfq.weight,
io.bfq.weight, io.weight; only the CFQ of kernels before 5.0 gave 500)"""
BALLOON_STATS_S: Final = 10
"""between two reports of the guest's memory by its balloon"""
UNLIMITED_KIB: Final = 9_007_199_254_740_991
"""libvirt's word for a machine without a soft limit"""
DISK: Final = "vda"
_DISK_WEIGHTS: Final = (10, 1000)
_QUOTA_MIN_US: Final = 1000
"""libvirt takes no less"""
_KIB_PER_MIB: Final = 1024
_MIB: Final = 1024 * 1024
_MBIT_KIB_S: Final = 1_000_000 / 8 / 1024
"""KiB/s, libvirt's unit, in a Mbit/s"""
_WAYS: Final = ("inbound", "outbound")
_MACHINE_QUOTA: Final = ("global_period", "global_quota")
_CONTAINER_QUOTA: Final = ("vcpu_period", "vcpu_quota")


def cpu_quota_us(cpus: float) -> int:
    """What so many CPUs are in one period; for the whole machine, whatever its vCPUs."""
    return max(_QUOTA_MIN_US, round(cpus * CPU_PERIOD_US))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bandwidth:
    """Both ways alike: KiB/s on average and for a while, and KiB that may go at the peak at once;
    0: none is named."""

    average: int = 0
    peak: int = 0
    burst: int = 0

    def named(self) -> dict[str, int]:
        """What is named, in libvirt's words."""
        every = {"average": self.average, "peak": self.peak, "burst": self.burst}
        return {name: value for name, value in every.items() if value}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """`shares`: see cpu_shares; None: not to be told. `quota_us`: of the whole machine in a period;
    None: its vCPUs are all it may take. `soft_limit_kib`: memory that it keeps when its host has
    too little; 0: no more than others; None: not to be told."""

    shares: int | None
    quota_us: int | None
    soft_limit_kib: int | None
    disk_weight: int
    disk_iops: int
    disk_bytes_s: int
    bandwidth: Bandwidth

    @classmethod
    def of(
        cls, resources: Resources, guarantee: Share, weights: Share, limits: Limits,
        groups: Groups | None,
    ) -> Tuning:  # fmt: skip
        """`groups`: the host's; None: not known, or it has none."""
        is_part = resources.cpus != math.ceil(resources.cpus)
        low, high = _DISK_WEIGHTS
        shares = None if groups is None else cpu_shares(
            groups, cpus=resources.cpus, guarantee=guarantee.cpus, weight=weights.cpus
        )  # fmt: skip
        return cls(
            shares=shares,
            quota_us=cpu_quota_us(resources.cpus) if is_part else None,
            soft_limit_kib=_soft_limit_kib(resources, guarantee, groups),
            disk_weight=min(max(round(weights.disk * DISK_WEIGHT), low), high),
            disk_iops=resources.disk_iops,
            disk_bytes_s=limits.disk_mib_s * _MIB,
            bandwidth=_bandwidth(resources, limits),
        )

    # ------------------------------------------------------------------------- as it starts

    def describe(self, root: ET.Element) -> None:
        """Add what the machine's control groups are to be."""
        self.describe_shares(root)
        if self.quota_us is not None:
            tune = root.find("cputune")
            if tune is None:
                tune = ET.SubElement(root, "cputune")
            _text(tune, "global_period", CPU_PERIOD_US)
            _text(tune, "global_quota", self.quota_us)

    def describe_shares(self, root: ET.Element) -> None:
        """What the host's control groups divide by; any quota is its kind's."""
        if self.shares is not None:
            _text(ET.SubElement(root, "cputune"), "shares", self.shares)
        if self.soft_limit_kib:
            tune = ET.SubElement(root, "memtune")
            _text(tune, "soft_limit", self.soft_limit_kib, unit="KiB")
        if self.disk_weight != DISK_WEIGHT:
            _text(ET.SubElement(root, "blkiotune"), "weight", self.disk_weight)

    def rewrite(self, root: ET.Element) -> None:
        """In the description of a machine that is to run where this is meant for: the figures
        whose meaning differs between versions of control groups."""
        for group, name, value, unit in (
            ("cputune", "shares", self.shares, {}),
            ("memtune", "soft_limit", self.soft_limit_kib, {"unit": "KiB"}),
        ):
            tune = root.find(group)
            for old in tune.findall(name) if tune is not None else ():
                tune.remove(old)  # type: ignore[union-attr]  # there is one to look in
            if value:
                tune = ET.SubElement(root, group) if tune is None else tune
                _text(tune, name, value, **unit)

    def describe_disk(self, disk: ET.Element) -> None:
        wanted = {"total_bytes_sec": self.disk_bytes_s, "total_iops_sec": self.disk_iops}
        if any(wanted.values()):
            tune = ET.SubElement(disk, "iotune")
            for name, value in wanted.items():
                if value:
                    _text(tune, name, value)

    def describe_interface(self, interface: ET.Element) -> None:
        named = {name: str(value) for name, value in self.bandwidth.named().items()}
        if named:
            bandwidth = ET.SubElement(interface, "bandwidth")
            for way in _WAYS:
                ET.SubElement(bandwidth, way, named)

    # -------------------------------------------------------------------------- while it runs

    def apply(
        self, domain: Any, flag: int, *, cpus: float, mac: str, cannot: type[Exception],
        container: bool = False,
    ) -> None:  # fmt: skip
        """Make the running machine (or its next start, by `flag`) like this. `cpus`: of its size;
        `mac`: of its interface, empty: it has none. What is so already is not touched. Of a
        `container` libvirt changes neither disk limits nor its interface while it runs.

        Raises `cannot` (libvirt's error) where the host cannot."""
        period, quota = _CONTAINER_QUOTA if container else _MACHINE_QUOTA
        cpu = {period: CPU_PERIOD_US, quota: cpu_quota_us(cpus)}
        if self.shares is not None:
            cpu["cpu_shares"] = self.shares
        scheduler = _Dial(domain.schedulerParametersFlags, domain.setSchedulerParametersFlags)
        memory = _Dial(domain.memoryParameters, domain.setMemoryParameters)
        disks = _Dial(domain.blkioParameters, domain.setBlkioParameters)
        disk = _Dial(partial(domain.blockIoTune, DISK), partial(domain.setBlockIoTune, DISK))
        card = _Dial(
            partial(domain.interfaceParameters, mac),
            partial(domain.setInterfaceParameters, mac),
            whole=True,
        )
        kept: dict[str, int] = {}
        if self.soft_limit_kib is not None:
            kept["soft_limit"] = self.soft_limit_kib or UNLIMITED_KIB
        throughput = {"total_bytes_sec": self.disk_bytes_s, "total_iops_sec": self.disk_iops}
        bandwidth = dict(_both_ways(self.bandwidth)) if mac else {}
        whole: tuple[_Turn, ...] = (
            (scheduler, cpu, {}),
            (memory, kept, dict.fromkeys(kept, UNLIMITED_KIB)),
            (disks, {"weight": self.disk_weight}, {"weight": DISK_WEIGHT}),
        )
        devices: tuple[_Turn, ...] = (
            (disk, throughput, dict.fromkeys(throughput, 0)),
            (card, bandwidth, dict.fromkeys(bandwidth, 0)),
        )
        for dial, wanted, usual in whole if container else whole + devices:
            dial.turn(flag, wanted, usual, cannot)


@dataclass(frozen=True, slots=True)
class _Dial:
    """A pair of libvirt's calls: what is, and what shall be. `whole`: what is not said is taken
    away."""

    ask: Callable[[int], Mapping[str, int]]
    put: Callable[[dict[str, int], int], object]
    whole: bool = False

    def turn(
        self, flag: int, wanted: Mapping[str, int], usual: Mapping[str, int],
        cannot: type[Exception],
    ) -> None:  # fmt: skip
        """Change what differs. A host that cannot tell is left alone where `wanted` is what it
        does `usual`ly."""
        if not wanted:
            return
        try:
            now = self.ask(flag)
        except cannot:
            if wanted == usual:
                return
            raise
        # 0: nothing was ever said of it
        before = {name: now.get(name, 0) or usual.get(name, 0) for name in wanted}
        changes = {name: value for name, value in wanted.items() if before[name] != value}
        if changes:
            self.put(dict(wanted) if self.whole else changes, flag)


_Turn = tuple[_Dial, Mapping[str, int], Mapping[str, int]]


def _soft_limit_kib(resources: Resources, guarantee: Share, groups: Groups | None) -> int | None:
    if groups is None:
        return None
    # version 2 has no minimum that libvirt gives: what it calls the same would hold the machine up
    part = min(max(guarantee.memory, 0.0), 1.0) if groups is Groups.V1 else 0.0
    return round(resources.memory_mib * _KIB_PER_MIB * part)


def _both_ways(bandwidth: Bandwidth) -> Iterator[tuple[str, int]]:
    named = bandwidth.named()
    for way in _WAYS:
        for name in ("average", "peak", "burst"):
            yield f"{way}.{name}", named.get(name, 0)


def _bandwidth(resources: Resources, limits: Limits) -> Bandwidth:
    """A peak or a burst without an average means nothing to libvirt."""
    if not resources.network_mbit:
        return Bandwidth()
    return Bandwidth(
        average=_kib_s(resources.network_mbit),
        peak=_kib_s(limits.network_peak_mbit) if limits.network_peak_mbit else 0,
        burst=limits.network_burst_mib * _KIB_PER_MIB,
    )


def _kib_s(mbit: float) -> int:
    return max(1, math.floor(mbit * _MBIT_KIB_S))


def _text(parent: ET.Element, tag: str, value: int, **attributes: str) -> None:
    ET.SubElement(parent, tag, attributes).text = str(value)
