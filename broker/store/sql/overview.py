"""Counts for the overview, asked for every second or two.

Sessions are never deleted, so counting all that ever ended takes longer every year. What ended
long enough ago does not change any more: it is counted once and remembered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from broker.domain.model import Instant
from broker.limits import ENDED_SETTLED_S
from broker.ports import Overview
from broker.store.sql import tables as t
from broker.store.sql.desktops import COUNTS

Counts = Mapping[tuple[str, str], int]

_LIVE = (
    sa.select(t.sessions.c.architecture, t.sessions.c.state, sa.func.count())
    .where(t.LIVE)
    .group_by(t.sessions.c.architecture, t.sessions.c.state)
)
_ENDED = (
    sa.select(t.sessions.c.architecture, t.sessions.c.state, sa.func.count())
    .where(
        t.sessions.c.ended_at >= sa.bindparam("since"),
        t.sessions.c.ended_at < sa.bindparam("before"),
    )
    .group_by(t.sessions.c.architecture, t.sessions.c.state)
)
_LAST = sa.select(sa.func.max(t.sessions.c.ended_at)).where(t.sessions.c.ended_at.is_not(None))
_ENDPOINTS = sa.select(t.endpoints.c.kind, t.endpoints.c.state, sa.func.count()).group_by(
    t.endpoints.c.kind, t.endpoints.c.state
)
_EVER: Instant = 2**62


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """How the sessions ended that ended before `until`."""

    until: Instant = 0
    counts: Counts = field(default_factory=dict)


class Overviews:
    """Answers Store.overview from a connection. Shared by the reading threads.

    `_settled` is replaced whole, so that a thread sees one version or the other.
    """

    def __init__(self) -> None:
        self._settled = Settled()

    def read(self, connection: sa.Connection) -> Overview:
        desktops: Counter[tuple[str, str]] = Counter()
        for _, architecture, state, count in connection.execute(COUNTS).all():
            desktops[architecture, state] += count
        return Overview(
            desktops=desktops,
            sessions=_counted(connection, _LIVE, {}),
            endpoints=_counted(connection, _ENDPOINTS, {}),
            ended_total=self._ended(connection),
        )

    def _ended(self, connection: sa.Connection) -> Counts:
        settled = self._settled = self._settle(connection, self._settled)
        recent = _counted(connection, _ENDED, {"since": settled.until, "before": _EVER})
        return Counter(settled.counts) + Counter(recent)

    def _settle(self, connection: sa.Connection, settled: Settled) -> Settled:
        last: Instant = connection.execute(_LAST).scalar() or 0
        until = last - ENDED_SETTLED_S * 1000
        if until - settled.until < ENDED_SETTLED_S * 1000:
            return settled
        more = _counted(connection, _ENDED, {"since": settled.until, "before": until})
        return Settled(until=until, counts=Counter(settled.counts) + Counter(more))


def _counted(
    connection: sa.Connection,
    statement: sa.Select[Any],
    parameters: dict[str, Instant],
) -> dict[tuple[str, str], int]:
    rows = connection.execute(statement, parameters).all()
    return {(one, other): count for one, other, count in rows}
