"""Desktops that somebody or something waits for: statements, each for one kind of them."""

from __future__ import annotations

import sqlalchemy as sa

from broker.domain.lifecycle import HOST_RUNS
from broker.domain.model import DesktopState, EndpointState, HostState, SessionState
from broker.store.sql import tables as t
from broker.store.sql.rows.machines import DESKTOP
from broker.store.sql.schema import among
from broker.store.sql.statements import constant

FAILED = tuple(
    sa.select(*DESKTOP)
    .where(t.desktops.c.state == constant(DesktopState.FAILED), concerned)
    .order_by(t.desktops.c.changed_at, t.desktops.c.id)
    .limit(sa.bindparam("most"))
    for concerned in (
        t.desktops.c.host_id.is_not(None) & t.desktops.c.owner_id.is_(None),
        t.desktops.c.owner_id.is_not(None)
        & sa.exists(
            sa.select(sa.literal_column("1"))
            .select_from(t.hosts)
            .where(t.hosts.c.id == t.desktops.c.host_id, among("hosts.state", HOST_RUNS))
            .correlate(t.desktops)
        ),
        sa.exists(
            sa.select(sa.literal_column("1"))
            .select_from(t.endpoints)
            .where(
                t.endpoints.c.id == t.desktops.c.endpoint_id,
                t.endpoints.c.state == constant(EndpointState.ONLINE),
            )
            .correlate(t.desktops)
        ),
    )
)
"""see DesktopStore.failed"""

_HELD_BY_DELIVERED = sa.exists(
    sa.select(sa.literal_column("1"))
    .select_from(t.sessions)
    .where(
        t.sessions.c.desktop_id == t.desktops.c.id,
        t.HOLDS_DESKTOP,
        t.sessions.c.state == constant(SessionState.DELIVERING),
    )
    .correlate(t.desktops)
)
_OWNER_QUEUES = sa.exists(
    sa.select(sa.literal_column("1"))
    .select_from(t.sessions)
    .where(
        t.sessions.c.user_id == t.desktops.c.owner_id,
        t.sessions.c.pool_id == t.desktops.c.pool_id,
        t.HOLDS_PLACE,
        t.sessions.c.state == constant(SessionState.QUEUED),
    )
    .correlate(t.desktops)
)
AWAITED = tuple(
    sa.select(*DESKTOP)
    .where(t.desktops.c.state == constant(state), waited_for)
    .order_by(t.desktops.c.changed_at, t.desktops.c.id)
    .limit(sa.bindparam("most"))
    for state, waited_for in (
        (DesktopState.PARKED, _HELD_BY_DELIVERED),
        (DesktopState.SUSPENDED, _OWNER_QUEUES),
        (DesktopState.FAILED, _OWNER_QUEUES),
    )
)
"""see DesktopStore.awaited"""

_IMAGE = t.desktops.c.image_id
_OLD = (
    t.pools.c.image_id > _IMAGE,
    t.pools.c.image_id < _IMAGE,
    _IMAGE.is_(None) & t.pools.c.image_since.is_not(None),
)
"""see broker.domain.images.is_outdated: each a range of the index, however many are not"""
POOLS_WITH_OLD = sa.select(t.pools.c.id).where(
    sa.or_(
        *(
            sa.exists(
                sa.select(sa.literal_column("1"))
                .select_from(t.desktops)
                .where(t.desktops.c.pool_id == t.pools.c.id, old, t.SPARES)
                .correlate(t.pools)
            )
            for old in _OLD
        )
    )
)
"""ids of pools that have spares of another image"""
OUTDATED = tuple(
    sa.select(*DESKTOP)
    .where(
        t.desktops.c.pool_id == sa.bindparam("pool"),
        old,
        t.pools.c.id == t.desktops.c.pool_id,
        t.SPARES,
        sa.exists(
            sa.select(sa.literal_column("1"))
            .select_from(t.hosts)
            .where(
                t.hosts.c.id == t.desktops.c.host_id,
                t.hosts.c.state == constant(HostState.UP),
            )
            .correlate(t.desktops)
        ),
    )
    .order_by(t.desktops.c.changed_at, t.desktops.c.id)
    .limit(sa.bindparam("most"))
    for old in _OLD
)
"""see DesktopStore.outdated; those of one pool"""
