"""What one look of the planner costs: CPU per desktop at 1,000, 10,000 and 100,000 desktops.

Each size is the same school, so many times over: a host for each 100 desktops, a pool for each
250. Quiet: nothing is to be done. Busy: people wait in every pool, most pools lack spares, every
tenth host drains (what one look begins is bounded, so the largest site needs several). Everything
that a look does is in it: which rows to read, the plan itself, and its words; Python's collector
is as `serve` sets it. The figure at the smallest size is the floor that the others are divided by.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from rich.console import Console
from rich.table import Table

from broker.cli.collector import calm
from broker.domain.features import Feature
from broker.domain.model import (
    Architecture,
    Desktop,
    DesktopState,
    Host,
    HostState,
    LogOff,
    Pool,
    PoolKind,
    Resources,
)
from broker.domain.placement import HostLoad
from broker.domain.planning import Rows, View, plan, rows_needed
from broker.domain.settings import PoolSettings, Share
from tests.bench.goals import Misses, at_most

SIZES = (1_000, 10_000, 100_000)
ROUNDS = 5
DESKTOPS_LOOKED_AT = 200_000
"""in all looks at one size, at least: a look at a small site is too short to measure few times"""
GOAL = 1.3
"""CPU per desktop at the largest size, against the smallest: flat, with room for chance"""
PER_HOST, PER_POOL = 100, 250
EACH = Resources(cpus=2, memory_mib=4096)
NOW = 1_790_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """One size's figures; `cpu_us` is per desktop and look, the least of several looks."""

    desktops: int
    commands: int
    cpu_us: float


def _pool(number: int) -> Pool:
    return Pool(
        id=f"pol_{number}",
        name=f"pool-{number:04d}",
        title="",
        architecture=Architecture.VDI,
        kind=PoolKind.FLOATING,
        image_id="img_1",
        resources=EACH,
        spares_min=20,
        size_max=PER_POOL * 2,
        log_off=LogOff.RESET,
        disconnect_grace_s=600,
        lease_s=600,
        enabled=True,
        group_ids=(),
        created_at=NOW,
        settings=PoolSettings(spares_suspended=10, guarantee=Share(cpus=0.1, memory=0.5)),
    )


def _load(number: int, pools: int, *, busy: bool) -> HostLoad:
    host = Host(
        id=f"hst_{number}",
        name=f"server-{number:05d}",
        engine="simulated",
        profile="bare-metal",
        state=HostState.DRAINING if busy and number % 10 == 9 else HostState.UP,
        capacity=Resources(cpus=128, memory_mib=PER_HOST * 4096 + 65536),
        overcommit_cpu=4.0,
        start_limit=8,
        created_at=NOW,
    )
    used = Resources(cpus=PER_HOST * EACH.cpus, memory_mib=PER_HOST * EACH.memory_mib)
    pool_id = f"pol_{number % pools}"
    return HostLoad(
        host=host,
        used=used,
        starting=number % 4 if busy else 0,
        by_pool={pool_id: used},
        desktops_by_pool={pool_id: PER_HOST},
    )


def _desktop(number: int, pool_id: str, host_id: str, state: DesktopState) -> Desktop:
    return Desktop(
        id=f"dsk_{pool_id}_{host_id}_{number}",
        name=f"d-{number}",
        pool_id=pool_id,
        architecture=Architecture.VDI,
        host_id=host_id,
        endpoint_id=None,
        owner_id=None,
        state=state,
        target=None,
        deadline_at=None,
        generation=1,
        resources=EACH,
        note="",
        created_at=NOW,
        changed_at=NOW,
    )


def view_of(desktops: int, *, busy: bool) -> View:
    """A school of so many desktops: counts and sums as the store gives them."""
    pools, hosts = max(1, desktops // PER_POOL), desktops // PER_HOST
    counts: dict[tuple[str, str], int] = {}
    for number in range(pools):
        spare = 10 if busy and number % 4 else 20
        counts[f"pol_{number}", "ready"] = spare
        counts[f"pol_{number}", "suspended"] = 10
        counts[f"pol_{number}", "assigned"] = PER_POOL - spare
    return View(
        now=NOW,
        pools=tuple(_pool(number) for number in range(pools)),
        counts=counts,
        waiting={f"pol_{number}": 5 for number in range(pools) if busy},
        hosts=tuple(_load(number, pools, busy=busy) for number in range(hosts)),
        features={f"hst_{number}": frozenset(Feature) for number in range(hosts)},
    )


def _with_rows(view: View) -> View:
    needed = rows_needed(view)
    on_host = {
        host_id: tuple(
            _desktop(number, "pol_0", host_id, DesktopState.READY) for number in range(20)
        )
        for host_id in needed.on_host
    }
    asleep = {
        pool_id: tuple(
            _desktop(number, pool_id, "hst_0", DesktopState.SUSPENDED) for number in range(most)
        )
        for pool_id, most in needed.suspended.items()
    }
    return replace(view, rows=Rows(on_host=on_host, suspended=asleep))


def measure(desktops: int, *, busy: bool) -> Cost:
    view = view_of(desktops, busy=busy)
    full = _with_rows(view)
    best = float("inf")
    commands = 0
    for _ in range(max(ROUNDS, DESKTOPS_LOOKED_AT // desktops)):
        began = time.process_time()
        rows_needed(view)
        commands = len(plan(full).commands)
        best = min(best, time.process_time() - began)
    return Cost(desktops=desktops, commands=commands, cpu_us=best / desktops * 1e6)


def show(console: Console) -> Misses:
    """Print the table, and find whether the cost per desktop is flat."""
    table = Table(title="One look of the planner: CPU per desktop, against the smallest site")
    for heading in ("site", "desktops", "commands", "CPU µs per desktop", "ratio", "goal"):
        table.add_column(heading, justify="right")
    misses: Misses = ()
    calm()
    for busy in (False, True):
        costs = [measure(size, busy=busy) for size in SIZES]
        for cost in costs:
            ratio = cost.cpu_us / costs[0].cpu_us
            largest = cost.desktops == SIZES[-1]
            if largest:
                misses += at_most("the planner's cost at the largest site", ratio, GOAL)
            table.add_row(
                "busy" if busy else "quiet",
                f"{cost.desktops:,}",
                f"{cost.commands:,}",
                f"{cost.cpu_us:.2f}",
                f"{ratio:.2f}",
                f"≤ {GOAL}" if largest else "",
            )
    console.print(table)
    return misses
