"""Counts for the overview."""

from __future__ import annotations

from collections import Counter

import sqlalchemy as sa

from broker.domain.lifecycle import SESSION
from broker.ports import Overview
from broker.store.sql import tables as t
from broker.store.sql.desktops import COUNTS

_SESSIONS = sa.select(t.sessions.c.architecture, t.sessions.c.state, sa.func.count()).group_by(
    t.sessions.c.state, t.sessions.c.architecture
)
_ENDPOINTS = sa.select(t.endpoints.c.kind, t.endpoints.c.state, sa.func.count()).group_by(
    t.endpoints.c.kind, t.endpoints.c.state
)


def overview(connection: sa.Connection) -> Overview:
    """See Store.overview."""
    desktops: Counter[tuple[str, str]] = Counter()
    for _, architecture, state, count in connection.execute(COUNTS).all():
        desktops[architecture, state] += count
    terminal = {state.value for state in SESSION.terminal}
    sessions: dict[tuple[str, str], int] = {}
    ended: dict[tuple[str, str], int] = {}
    for architecture, state, count in connection.execute(_SESSIONS).all():
        (ended if state in terminal else sessions)[architecture, state] = count
    endpoints = {
        (kind, state): count for kind, state, count in connection.execute(_ENDPOINTS).all()
    }
    return Overview(desktops=desktops, sessions=sessions, endpoints=endpoints, ended_total=ended)
