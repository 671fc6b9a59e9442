"""How many live sessions a quota counts."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from broker.domain.policy.rules import Quota, QuotaScope
from broker.store.sql import tables as t
from broker.store.sql.statements import any_of

_ALL = sa.select(sa.func.count()).select_from(t.sessions).where(t.HOLDS_PLACE)
_OF_GROUP = _ALL.where(t.sessions.c.group_id == sa.bindparam("group"))
_IN_POOLS = any_of(t.sessions.c.pool_id, "pools")


def count(quotas: Iterable[Quota], connection: sa.Connection) -> dict[str, int]:
    """Quota id -> live sessions that it counts; each by a range of an index."""
    found: dict[str, int] = {}
    for quota in quotas:
        statement = _OF_GROUP if quota.scope is QuotaScope.GROUP else _ALL
        if quota.pool_ids:
            statement = statement.where(_IN_POOLS)
        parameters = {"group": quota.group_id, "pools": list(quota.pool_ids)}
        found[quota.id] = connection.execute(statement, parameters).scalar_one()
    return found
