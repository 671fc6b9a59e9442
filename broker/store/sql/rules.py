"""Entitlement rules and quotas."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import sqlalchemy as sa

from broker.domain.errors import NotFoundError
from broker.domain.policy.rules import Effect, EntitlementRule, Quota, QuotaScope
from broker.limits import RULES_MAX
from broker.store.sql import capped
from broker.store.sql import trail_tables as t
from broker.store.sql.roster import replace
from broker.store.sql.rows import Row, Values
from broker.store.sql.runner import Database

_TERMS: Final = ("user_ids", "group_ids", "pool_ids", "endpoint_ids", "networks", "windows")
"""fields of a rule that are kept as one JSON document"""
_RULES = sa.select(*t.rules.c).order_by(t.rules.c.name).limit(RULES_MAX)
_QUOTAS = sa.select(*t.quotas.c).order_by(t.quotas.c.name).limit(RULES_MAX)


def _to_rule(row: Row) -> EntitlementRule:
    rule_id, name, effect, enabled, terms, note = row
    kept: dict[str, Any] = msgspec.json.decode(terms)
    values = {
        "id": rule_id,
        "name": name,
        "effect": Effect(effect),
        "enabled": enabled,
        "note": note,
    }
    return msgspec.convert(kept | values, EntitlementRule)


def _from_rule(rule: EntitlementRule) -> Values:
    return {
        "id": rule.id,
        "name": rule.name,
        "effect": rule.effect.value,
        "enabled": rule.enabled,
        "terms": msgspec.json.encode({name: getattr(rule, name) for name in _TERMS}).decode(),
        "note": rule.note,
    }


def _to_quota(row: Row) -> Quota:
    quota_id, name, scope, sessions_max, group_id, pool_ids, enabled = row
    return Quota(
        id=quota_id,
        name=name,
        scope=QuotaScope(scope),
        sessions_max=sessions_max,
        group_id=group_id,
        pool_ids=msgspec.json.decode(pool_ids, type=tuple[str, ...]),
        enabled=enabled,
    )


def _from_quota(quota: Quota) -> Values:
    return {
        "id": quota.id,
        "name": quota.name,
        "scope": quota.scope.value,
        "sessions_max": quota.sessions_max,
        "group_id": quota.group_id,
        "pool_ids": msgspec.json.encode(quota.pool_ids).decode(),
        "enabled": quota.enabled,
    }


class SqlRules:
    """The part of broker.ports.DirectoryStore that is about rules and quotas."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def rules(self) -> tuple[EntitlementRule, ...]:
        rows = await self._database.read(lambda connection: connection.execute(_RULES).all())
        return tuple(map(_to_rule, rows))

    async def save_rule(self, rule: EntitlementRule, *, new: bool) -> None:
        await self._save(t.rules, _from_rule(rule), new=new)

    async def delete_rule(self, rule_id: str) -> None:
        await self._delete(t.rules, rule_id)

    async def quotas(self) -> tuple[Quota, ...]:
        rows = await self._database.read(lambda connection: connection.execute(_QUOTAS).all())
        return tuple(map(_to_quota, rows))

    async def save_quota(self, quota: Quota, *, new: bool) -> None:
        await self._save(t.quotas, _from_quota(quota), new=new)

    async def delete_quota(self, quota_id: str) -> None:
        await self._delete(t.quotas, quota_id)

    async def _save(self, table: sa.Table, values: Values, *, new: bool) -> None:
        def work(connection: sa.Connection) -> None:
            if new:
                capped.lock(connection, table)
                connection.execute(sa.insert(table), values)
                capped.check(connection, table, RULES_MAX)
            elif not replace(connection, table, [values]):
                raise NotFoundError("there is no such rule or quota")

        await self._database.transaction(work)

    async def _delete(self, table: sa.Table, row_id: str) -> None:
        statement = sa.delete(table).where(table.c.id == row_id)
        gone = await self._database.statement(lambda each: each.execute(statement).rowcount)
        if not gone:
            raise NotFoundError("there is no such rule or quota")
