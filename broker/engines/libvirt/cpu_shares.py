"""Linux's control groups, in the two versions that there are, and what a machine's part of a host's
CPUs is in figures of each.

libvirt passes the same figures on to both, though they mean other things: `shares` go unscaled to
`cpu.shares` (2 to 262144, 1024 where nothing is said) or to `cpu.weight` (1 to 10000, 100), and
`soft_limit` to `memory.soft_limit_in_bytes`, above which memory is taken first when it is short, or
to `memory.high`, above which a machine is held up at once: a minimum would become a ceiling.
(libvirt 9.0, src/util/vircgroupv1.c and vircgroupv2.c; Linux, Documentation/admin-guide/cgroup-v1
and cgroup-v2.rst.)
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

GUARANTEED: Final = 32
"""a guaranteed CPU, in CPUs of weight 1 that are not"""


class Groups(StrEnum):
    """The version that has the CPU controller: a host may have both mounted."""

    V1 = "v1"
    V2 = "v2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """unit: a CPU of weight 1 that is not guaranteed. usual: a machine of which nothing is said;
    it counts as four or five such CPUs. low, high: what is taken."""

    unit: int
    usual: int
    low: int
    high: int


SCALES: Final = {
    Groups.V1: Scale(unit=256, usual=1024, low=2, high=262_144),
    Groups.V2: Scale(unit=20, usual=100, low=1, high=10_000),
}


def cpu_shares(groups: Groups, *, cpus: float, guarantee: float, weight: float) -> int:
    """A machine's part of the CPUs while all want more than there are. `cpus`: its size;
    `guarantee`: the part of it, 0 to 1, that it has for itself.

    Linux (Documentation/scheduler/sched-design-CFS.rst) divides what is contended among groups in
    proportion to their shares, and what one does not want among the others. With g CPUs guaranteed
    of a size of c and a weight of w a machine is given

        shares = unit * (GUARANTEED * g + w * (c - g))

    so that its guarantee counts by what it promises, and weights divide what is above. (VMware
    keeps reservations and shares apart and divides by shares what is left above the reservations;
    Linux has one number for both.) Placement admits no more guaranteed CPUs G than a host's C, and
    sizes up to C times its overcommit O. With X the sum of w * (c - g), a machine gets at least

        g * min(1, C * GUARANTEED / (GUARANTEED * G + X))

    that is its whole guarantee wherever X <= GUARANTEED * (C - G): at weight 1 and O = 4 until 90 %
    of the CPUs are guaranteed; when all of them are, at least 91 % of it, and all without
    overcommit. The price: what is above is divided by weight among machines with equal guarantees,
    while one with a guarantee comes before one without any.

    Figures are cut to what the version takes: of one machine 32 (v1) or 15 (v2) guaranteed CPUs
    count, and of one CPU weights from 1/128 (v1) or 1/20 (v2).
    """
    scale = SCALES[groups]
    kept = cpus * min(max(guarantee, 0.0), 1.0)
    shares = scale.unit * (GUARANTEED * kept + weight * (cpus - kept))
    return min(max(round(shares), scale.low), scale.high)
