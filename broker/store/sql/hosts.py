"""Hosts: their moves, and what desktops take from them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from broker.domain.errors import NotFoundError
from broker.domain.lifecycle import HOST as LIFECYCLE
from broker.domain.lifecycle import HostEvent
from broker.domain.model import DesktopState, Host, Job, Resources
from broker.domain.placement import HostLoad
from broker.store.loads import ASLEEP, NOTHING, STARTING, Tally, added, load_of
from broker.store.moves import check_saved, check_vacant
from broker.store.sql import roster
from broker.store.sql import tables as t
from broker.store.sql.rows import Row, Values
from broker.store.sql.rows.directory import HOST, from_host, to_host
from broker.store.sql.rows.machines import from_job
from broker.store.sql.schema import among
from broker.store.sql.statements import by_state, constant, first, takes

_HOSTS = sa.select(*HOST).order_by(t.hosts.c.name)
_ONE = sa.select(*HOST).where(t.hosts.c.id == sa.bindparam("key"))
_LIVES_THERE = sa.select(sa.func.count()).where(
    sa.or_(
        t.desktops.c.host_id == sa.bindparam("key"), t.desktops.c.moving_to == sa.bindparam("key")
    ),
    t.desktops.c.state != constant(DesktopState.DELETED),
)


def _awake(column: sa.Column[Any]) -> sa.ColumnElement[Any]:
    return sa.func.sum(sa.case((among("state", ASLEEP), 0), else_=column))


def _taken(host: sa.Column[Any], where: sa.TextClause) -> sa.Select[Any]:
    """Host, pool, what its desktops take, how many they are, start, migrate, run, are ready."""
    row = t.desktops.c
    return (
        sa.select(
            host,
            row.pool_id,
            _awake(row.cpus),
            _awake(row.memory_mib),
            sa.func.sum(row.disk_mib),
            _awake(row.disk_iops),
            _awake(row.network_mbit),
            sa.func.count(),
            sa.func.sum(sa.case((among("state", STARTING), 1), else_=0)),
            sa.func.count(row.moving_to),
            sa.func.sum(sa.case((among("state", ASLEEP), 0), else_=1)),
            sa.func.sum(sa.case((among("state", [DesktopState.READY]), 1), else_=0)),
        )
        .where(where)
        .group_by(host, row.pool_id)
    )


_ON_HOSTS = _taken(t.desktops.c.host_id, t.ON_HOSTS)
_COMING = _taken(t.desktops.c.moving_to, t.MOVING)
_OWNED_READY = (
    sa.select(t.desktops.c.host_id, t.desktops.c.pool_id, sa.func.count())
    .where(
        t.desktops.c.owner_id.is_not(None),
        among("state", [DesktopState.READY]),
        t.desktops.c.host_id.is_not(None),
    )
    .group_by(t.desktops.c.host_id, t.desktops.c.pool_id)
)
_DELETING = (
    sa.select(t.desktops.c.host_id, t.desktops.c.pool_id, sa.func.count())
    .where(t.desktops.c.state == constant(DesktopState.DELETING), t.desktops.c.host_id.is_not(None))
    .group_by(t.desktops.c.host_id, t.desktops.c.pool_id)
)
_WAIT_FOR_RESET = (
    sa.select(t.desktops.c.host_id, sa.func.count())
    .where(t.WAITS_FOR_RESET)
    .group_by(t.desktops.c.host_id)
)


def _advancing(event: HostEvent) -> sa.Update:
    state = t.hosts.c.state
    return (
        sa.update(t.hosts)
        .where(t.hosts.c.id == sa.bindparam("key"), takes(LIFECYCLE, event))
        .values(
            prior_state=state,
            state=by_state(state, LIFECYCLE, event, constant),
            deadline_at=sa.bindparam("deadline"),
            changed_at=sa.bindparam("now"),
            note=sa.func.coalesce(sa.bindparam("words", type_=sa.Text), t.hosts.c.note),
        )
        .returning(*HOST)
    )


_ADVANCING = {event: _advancing(event) for event in HostEvent}


def move(
    event: HostEvent, parameters: Values, job: Job | None, connection: sa.Connection
) -> Host | None:
    """See DirectoryStore.move_host. None: the table does not allow it, or there is no such host."""
    row = first(connection.execute(_ADVANCING[event], parameters))
    if row is None:
        return None
    if job is not None:
        connection.execute(sa.insert(t.jobs), from_job(job))
    return to_host(row)


def one(host_id: str, connection: sa.Connection) -> Host | None:
    row = first(connection.execute(_ONE, {"key": host_id}))
    return to_host(row) if row is not None else None


def every(connection: sa.Connection) -> tuple[Host, ...]:
    return tuple(map(to_host, connection.execute(_HOSTS).all()))


def save(host: Host, vacant: bool, connection: sa.Connection) -> Host:  # noqa: FBT001 - by `partial`
    """A known host; see DirectoryStore.save_host."""
    # whoever puts a desktop there at this moment locks the row that it refers to, too
    row = first(connection.execute(_ONE.with_for_update(), {"key": host.id}))
    if row is None:
        raise NotFoundError("there is no such host")
    check_saved(host, to_host(row))
    if vacant:
        check_vacant(host, connection.execute(_LIVES_THERE, {"key": host.id}).scalar_one())
    roster.replace(connection, t.hosts, [from_host(host)], roster.HOSTS_OWN)
    return to_host(connection.execute(_ONE, {"key": host.id}).one())


def loads(connection: sa.Connection) -> tuple[HostLoad, ...]:
    """See DirectoryStore.host_loads."""
    by_pool: defaultdict[str, dict[str, Resources]] = defaultdict(dict)
    numbers: defaultdict[str, dict[str, int]] = defaultdict(dict)
    spares: defaultdict[str, Counter[str]] = defaultdict(Counter)
    tallies: defaultdict[str, Tally] = defaultdict(Tally)
    on_hosts = connection.execute(_ON_HOSTS).all()
    for row in (*on_hosts, *connection.execute(_COMING).all()):
        host_id, pool_id, count = row[0], row[1], row[7]
        by_pool[host_id][pool_id] = added(by_pool[host_id].get(pool_id, NOTHING), _resources(row))
        numbers[host_id][pool_id] = numbers[host_id].get(pool_id, 0) + int(count)
        tallies[host_id].moving += int(row[9])
        tallies[host_id].running += int(row[10])
    for row in on_hosts:
        tallies[row[0]].starting += int(row[8])
        spares[row[0]][row[1]] += int(row[11])
    for host_id, pool_id, count in connection.execute(_OWNED_READY).all():
        spares[host_id][pool_id] -= count
    for host_id, count in connection.execute(_WAIT_FOR_RESET).all():
        tallies[host_id].resets_waiting = count
        tallies[host_id].starting -= count
    deleting: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for host_id, pool_id, count in connection.execute(_DELETING).all():
        deleting[host_id][pool_id] = int(count)
    hosts: Iterable[Host] = every(connection)
    return tuple(
        replace(
            load_of(host, by_pool[host.id], numbers[host.id], spares[host.id], tallies[host.id]),
            deleting_by_pool=deleting[host.id],
        )
        for host in hosts
    )


def _resources(row: Row) -> Resources:
    cpus, memory_mib, disk_mib, disk_iops, network_mbit = row[2:7]
    return Resources(
        cpus=float(cpus),
        memory_mib=int(memory_mib),
        disk_mib=int(disk_mib),
        disk_iops=int(disk_iops),
        network_mbit=int(network_mbit),
    )
