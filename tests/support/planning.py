"""Views for the planner, and a small world in which its commands come true."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from broker import limits
from broker.domain.features import Feature
from broker.domain.images import is_outdated
from broker.domain.model import Desktop, DesktopState, Host, HostState, Pool, Resources
from broker.domain.placement import HostLoad
from broker.domain.planning import (
    ON_HOST_STATES,
    ClearDesktop,
    Command,
    MakeDesktop,
    Memory,
    MigrateDesktop,
    PowerHost,
    RenewDesktop,
    ResetDesktop,
    ResizeDesktop,
    ResumeDesktop,
    Rows,
    ServeQueue,
    SuspendDesktop,
    View,
    full_hosts,
    plan,
    rows_needed,
)
from broker.domain.planning.breaker import Breaker
from broker.domain.settings import SiteSettings
from tests.support.builders import NOW, make_desktop, make_host, make_pool

D = DesktopState
NOTHING = Resources(cpus=0, memory_mib=0)
ALL_FEATURES = frozenset(Feature)
SLEEPS = frozenset({D.SUSPENDED, D.PARKED})
GONE = frozenset({D.DELETED, D.FAILED})
STARTING = frozenset({D.PLANNED, D.CREATING, D.STARTING, D.RESETTING, D.RESUMING, D.UNPARKING})


def make_load(**changes: Any) -> HostLoad:
    """An empty host, unless told otherwise; what is not HostLoad's own is the host's."""
    own = {name: changes.pop(name) for name in tuple(changes) if name in HostLoad.__slots__}
    values: dict[str, Any] = {"host": make_host(**changes), "used": NOTHING, "starting": 0}
    return HostLoad(**(values | own))


def make_view(**changes: Any) -> View:
    values: dict[str, Any] = {
        "now": NOW,
        "pools": (make_pool(),),
        "counts": {},
        "waiting": {},
        "hosts": (make_load(),),
    }
    return View(**(values | changes))


def sleepers(count: int, **changes: Any) -> tuple[Any, ...]:
    """So many suspended desktops."""
    return tuple(
        make_desktop(**({"id": f"dsk_{n}", "state": D.SUSPENDED} | changes)) for n in range(count)
    )


def decide(view: View) -> Any:
    """The plan for this view, typed loosely: a test knows which commands it expects."""
    return plan(view)


def of(kind: type[Any], commands: Iterable[Command]) -> list[Any]:
    return [one for one in commands if isinstance(one, kind)]


def _sum(rows: Iterable[Desktop]) -> Resources:
    total = NOTHING
    for row in rows:
        more = row.resources
        asleep = row.state in SLEEPS
        total = Resources(
            cpus=total.cpus + (0 if asleep else more.cpus),
            memory_mib=total.memory_mib + (0 if asleep else more.memory_mib),
            disk_mib=total.disk_mib + more.disk_mib,
            disk_iops=total.disk_iops + (0 if asleep else more.disk_iops),
            network_mbit=total.network_mbit + (0 if asleep else more.network_mbit),
        )
    return total


def load_of(host: Host, rows: Iterable[Desktop]) -> HostLoad:
    """What the store would answer for this host and these desktops."""
    here = [
        row for row in rows if host.id in {row.host_id, row.moving_to} and row.state not in GONE
    ]
    pools = {row.pool_id for row in here}
    return HostLoad(
        host=host,
        used=_sum(here),
        starting=sum(
            row.state in STARTING and row.host_id == host.id and not waits_for_reset(row)
            for row in here
        ),
        by_pool={one: _sum(row for row in here if row.pool_id == one) for one in pools},
        desktops_by_pool=Counter(row.pool_id for row in here),
        moving=sum(row.moving_to is not None for row in here),
        deleting_by_pool=Counter(
            row.pool_id for row in here if row.state is D.DELETING and row.host_id == host.id
        ),
        spares_by_pool=Counter(
            row.pool_id
            for row in here
            if row.state is D.READY and row.owner_id is None and row.host_id == host.id
        ),
        running=sum(row.state not in SLEEPS for row in here),
        resets_waiting=sum(waits_for_reset(row) for row in here),
    )


def waits_for_reset(row: Desktop) -> bool:
    return row.state is D.RESETTING and row.deadline_at is None


@dataclass
class PlannedWorld:
    """Desktops and hosts as the planner's commands make them. One `step` is a look, its commands,
    and the time in which everything that was begun gets done."""

    pools: list[Pool]
    hosts: dict[str, Host]
    features: frozenset[Feature] = ALL_FEATURES
    desktops: dict[str, Desktop] = field(default_factory=dict)
    waiting: Counter[str] = field(default_factory=Counter)
    site: SiteSettings = field(default_factory=SiteSettings)
    breakers: dict[tuple[str, str], Breaker] = field(default_factory=dict)
    memory: Memory = field(default_factory=Memory)
    now: int = NOW
    step_s: int = 1
    awaited: tuple[str, ...] = ()
    made: int = 0
    serving: bool = True

    def add(self, **changes: Any) -> Desktop:
        self.made += 1
        values: dict[str, Any] = {"id": f"dsk_{self.made:06d}", "name": f"d-{self.made:06d}"}
        row = make_desktop(**({"changed_at": self.now} | values | changes))
        self.desktops[row.id] = row
        return row

    def rows(self, *states: DesktopState, pool_id: str | None = None) -> list[Desktop]:
        return [
            row
            for row in self.desktops.values()
            if (not states or row.state in states) and pool_id in {None, row.pool_id}
        ]

    def view(self) -> View:
        rows = list(self.desktops.values())
        view = View(
            now=self.now,
            pools=tuple(self.pools),
            counts=Counter((row.pool_id, row.state.value) for row in rows),
            owned=Counter((row.pool_id, row.state.value) for row in rows if row.owner_id),
            waiting=dict(self.waiting),
            hosts=tuple(load_of(host, rows) for host in self.hosts.values()),
            site=self.site,
            features=dict.fromkeys(self.hosts, self.features),
            breakers=self.breakers,
            awaited=tuple(self.desktops[one] for one in self.awaited if one in self.desktops),
            memory=self.memory,
            failed_desktops=tuple(self.rows(D.FAILED)),
        )
        full = full_hosts(view)
        waiting = [row for row in rows if waits_for_reset(row) and row.host_id not in full]
        return replace(view, rows=self._rows(view), resets=tuple(waiting))

    def _rows(self, view: View) -> Rows:
        needed = rows_needed(view)
        pools = {pool.id: pool for pool in self.pools}

        def of_pool(states: set[DesktopState], most: Mapping[str, int], *, free: bool) -> Any:
            return {
                key: tuple(
                    sorted(
                        (
                            row
                            for row in self.rows(*states, pool_id=key)
                            if not (free and row.owner_id)
                        ),
                        key=lambda row: row.changed_at,
                    )[:limit]
                )
                for key, limit in most.items()
            }

        unlike = {
            key: tuple(
                row
                for row in self.rows(D.READY, D.ASSIGNED, pool_id=key)
                if row.resources != pools[key].resources
            )[:limit]
            for key, limit in needed.unlike.items()
        }
        on_host = {
            key: tuple(
                row for row in self.rows(*ON_HOST_STATES) if key in {row.host_id, row.moving_to}
            )[:limit]
            for key, limit in needed.on_host.items()
        }
        outdated = {
            pool.id: tuple(
                row
                for row in self.rows(D.READY, D.SUSPENDED, pool_id=pool.id)
                if row.owner_id is None
                and is_outdated(row, pool)
                and self.hosts[row.host_id or ""].state is HostState.UP
            )[: limits.OUTDATED_ROWS_MAX]
            for pool in pools.values()
        }
        return Rows(
            outdated=outdated,
            ready=of_pool({D.READY}, needed.ready, free=True),
            suspended=of_pool({D.SUSPENDED}, needed.suspended, free=True),
            unlike=unlike,
            on_host=on_host,
        )

    def look(self) -> tuple[Command, ...]:
        """One look whose commands are begun."""
        planned = plan(self.view())
        self.memory = planned.memory
        for command in planned.commands:
            self._begin(command)
        return planned.commands

    def step(self) -> tuple[Command, ...]:
        commands = self.look()
        self.now += self.step_s * 1000
        self.finish()
        return commands

    def put(self, row: Desktop, **changes: Any) -> None:
        self.desktops[row.id] = replace(row, changed_at=self.now, **changes)

    def _begin(self, command: Command) -> None:
        match command:
            case MakeDesktop(pool=pool, host_id=host_id):
                self.add(
                    pool_id=pool.id,
                    host_id=host_id,
                    state=D.PLANNED,
                    resources=pool.resources,
                    image_id=pool.image_id,
                )
            case ResumeDesktop(desktop=row):
                self.put(row, state=D.UNPARKING if row.state is D.PARKED else D.RESUMING)
            case ResetDesktop() | RenewDesktop():
                self._begin_reset(command)
            case SuspendDesktop(desktop=row):
                assert row.state is D.READY
                self.put(row, state=D.SUSPENDING)
            case ClearDesktop(desktop=row):
                assert row.state in {D.READY, D.SUSPENDED, D.FAILED}
                self.put(row, state=D.DELETING)
            case MigrateDesktop(desktop=row, to_host_id=to):
                assert row.moving_to is None
                self.put(row, moving_to=to)
            case ResizeDesktop(desktop=row, to=resources):
                self.put(row, resources=resources)
            case PowerHost(host=host, on=on):
                state = HostState.POWERING_ON if on else HostState.POWERING_OFF
                self.hosts[host.id] = replace(host, state=state)
            case ServeQueue(pool=pool) if self.serving:
                for row in self.rows(D.READY, pool_id=pool.id):
                    up = self.hosts[row.host_id or ""].state is HostState.UP
                    free = row.owner_id is None and not row.moving_to
                    if self.waiting[pool.id] and free and up:
                        self.waiting[pool.id] -= 1
                        self.put(row, state=D.ASSIGNED)
            case _:
                pass

    def _begin_reset(self, command: ResetDesktop | RenewDesktop) -> None:
        row = command.desktop
        if isinstance(command, ResetDesktop):
            assert waits_for_reset(row)
            self.put(row, deadline_at=self.now + 600_000, image_id=command.image_id)
        else:
            assert row.owner_id is None
            assert row.state in {D.READY, D.SUSPENDED}
            self.put(row, state=D.RESETTING, generation=row.generation + 1)

    def finish(self) -> None:
        """Everything under way ends well."""
        ends = dict.fromkeys((D.PLANNED, D.RESUMING, D.RESETTING), D.READY)
        ends |= {D.SUSPENDING: D.SUSPENDED, D.UNPARKING: D.ASSIGNED, D.DELETING: D.DELETED}
        for row in list(self.desktops.values()):
            if row.moving_to is not None:
                self.put(row, host_id=row.moving_to, moving_to=None)
            elif row.state in ends and not waits_for_reset(row):
                self.put(row, state=ends[row.state], deadline_at=None)
                if ends[row.state] is D.DELETED:
                    del self.desktops[row.id]
        for host in list(self.hosts.values()):
            if host.state is HostState.POWERING_ON:
                self.hosts[host.id] = replace(host, state=HostState.UP)
            elif host.state is HostState.POWERING_OFF:
                self.hosts[host.id] = replace(host, state=HostState.OFF)

    def settle(self, looks: int = 60) -> int:
        """Look until nothing was begun for QUIET looks; how many looks began something."""
        quiet, busy = 0, 0
        for _ in range(looks):
            commands = of_effect(self.step())
            quiet = 0 if commands else quiet + 1
            busy += bool(commands)
            if quiet == QUIET:
                return busy
        raise AssertionError(f"not settled after {looks} looks: {of_effect(self.step())}")


QUIET = 6


def of_effect(commands: Iterable[Command]) -> list[Command]:
    """Those that change something."""
    acts = (MakeDesktop, ResumeDesktop, SuspendDesktop, ClearDesktop, MigrateDesktop)
    more = (ResizeDesktop, PowerHost)
    return [one for one in commands if isinstance(one, (*acts, *more))]


def make_world(*pools: Pool, hosts: int = 2, **host: Any) -> PlannedWorld:
    """Hosts server-1 … of one kind, and these pools."""
    made = [make_host(id=f"hst_{n}", name=f"server-{n}", **host) for n in range(1, hosts + 1)]
    return PlannedWorld(pools=list(pools) or [make_pool()], hosts={one.id: one for one in made})
