"""Which host gets the next desktop: filter, score, choose, and say why.

Pure: the same hosts and the same load give the same answer. Breadth first: the host with the
largest free share of its scarcest resource wins, ties go to the name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from broker.domain.model import Host, HostState, Resources


@dataclass(frozen=True, slots=True, kw_only=True)
class HostLoad:
    """A host and what is on it: `used` counts machines that are still being made."""

    host: Host
    used: Resources
    starting: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The host chosen (or none) and a sentence for each host, in the order given."""

    host_id: str | None
    why: str
    reasons: tuple[str, ...]


def _refusal(load: HostLoad, need: Resources) -> str | None:
    host = load.host
    if host.state is not HostState.UP:
        return f"{host.name} is {host.state}"
    if load.starting >= host.start_limit:
        return f"{host.name} starts {load.starting} desktops already (limit {host.start_limit})"
    free_mib = host.capacity.memory_mib - load.used.memory_mib
    if free_mib < need.memory_mib:
        return f"{host.name} lacks {need.memory_mib - free_mib} MiB of memory"
    free_cpus = host.capacity.cpus * host.overcommit_cpu - load.used.cpus
    if free_cpus < need.cpus:
        return f"{host.name} lacks {need.cpus - free_cpus:g} CPUs"
    return None


def free_share(load: HostLoad, need: Resources) -> float:
    """The scarcest free share (0 to 1) of the host after it took `need`."""
    memory = 1 - (load.used.memory_mib + need.memory_mib) / load.host.capacity.memory_mib
    cpus = 1 - (load.used.cpus + need.cpus) / (load.host.capacity.cpus * load.host.overcommit_cpu)
    return min(memory, cpus)


def choose(loads: Sequence[HostLoad], need: Resources) -> Choice:
    """The host for one more desktop of size `need`."""
    reasons: list[str] = []
    best: tuple[float, str, str] | None = None
    for load in loads:
        refusal = _refusal(load, need)
        if refusal is not None:
            reasons.append(refusal)
            continue
        share = free_share(load, need)
        reasons.append(f"{load.host.name} would keep {share:.0%} free")
        if best is None or (-share, load.host.name) < (-best[0], best[1]):
            best = (share, load.host.name, load.host.id)
    if best is None:
        why = "no host fits: " + "; ".join(reasons) if reasons else "no host is known"
        return Choice(host_id=None, why=why, reasons=tuple(reasons))
    return Choice(
        host_id=best[2], why=f"{best[1]} has most room ({best[0]:.0%} left)", reasons=tuple(reasons)
    )
