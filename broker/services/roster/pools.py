"""Pools and who is entitled to them: a pool named there gets exactly the groups listed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from broker.architectures import Rules, rules_of
from broker.domain import names
from broker.domain.model import EndpointKind, LogOff, Pool, PoolKind, Resources
from broker.domain.roster import PoolRow
from broker.domain.settings_check import KEPT_FOR_NOBODY
from broker.services.roster.draft import Draft, same_or, sized

GRACE_S_DEFAULT = 900
LEASE_S_DEFAULT = 8 * 3600
"""a working day's hours without the broker"""


def plan_pools(draft: Draft) -> None:
    for row in draft.roster.pools:
        old = draft.pools.stored.get(row.name)
        image = draft.refer(draft.images, "images.csv", row.image, "pools.csv", row.line, "image")
        pool = _pool(draft, row, old, image.id if image is not None else "")
        _check_pool(draft, row, old, pool)
        if old is None and not rules_of(row.architecture).runs_on_endpoint:
            _check_name(draft, row)
        draft.pools.put(row.name, pool)


def _pool(draft: Draft, row: PoolRow, old: Pool | None, image_id: str) -> Pool:
    resources = Resources(cpus=row.cpus, memory_mib=row.memory_mib)
    base = old or Pool(
        id=draft.new_id("pol"),
        name=row.name,
        title=row.name,
        architecture=row.architecture,
        kind=PoolKind.FLOATING,
        image_id=image_id,
        resources=resources,
        spares_min=0,
        size_max=0,
        log_off=LogOff.RESET,
        disconnect_grace_s=GRACE_S_DEFAULT,
        lease_s=LEASE_S_DEFAULT if rules_of(row.architecture).leased else 0,
        enabled=True,
        group_ids=(),
        created_at=draft.now,
    )
    return replace(
        base,
        title=row.title or base.title,
        kind=row.kind or base.kind,
        image_id=image_id,
        image_since=base.image_since if base.image_id == image_id else draft.now,
        resources=sized(base.resources, row),
        spares_min=base.spares_min if row.spares is None else row.spares,
        size_max=base.size_max if row.max is None else row.max,
        log_off=row.log_off or base.log_off,
        disconnect_grace_s=(
            base.disconnect_grace_s if row.disconnect_grace_s is None else row.disconnect_grace_s
        ),
        lease_s=base.lease_s if row.lease_s is None else row.lease_s,
    )


def _check_name(draft: Draft, row: PoolRow) -> None:
    """Its machines will be `name-001` and so on, which no stored fat endpoint may be called."""
    for name, endpoint in draft.endpoints.stored.items():
        pool, _, number = name.rpartition("-")
        if endpoint.kind is EndpointKind.FAT and pool == row.name and number.isdecimal():
            text = f"its machines would be named like the endpoint {names.shown(name)}"
            draft.bad("pools.csv", row.line, "name", text)
            return


def _check_pool(draft: Draft, row: PoolRow, old: Pool | None, pool: Pool) -> None:
    rules = rules_of(row.architecture)
    if old is not None and old.architecture is not row.architecture:
        text = f"{names.shown(row.name)} is a pool of {old.architecture} and cannot change it"
        draft.bad("pools.csv", row.line, "architecture", text)
        return
    for column, text in _faults(rules, row, pool):
        draft.bad("pools.csv", row.line, column, text)


def plan_entitlements(draft: Draft) -> None:
    groups_of: dict[str, list[str]] = {}
    for row in draft.roster.entitlements:
        where = ("entitlements.csv", row.line)
        pool = draft.refer(draft.pools, "pools.csv", row.pool, *where, "pool")
        group = draft.refer(draft.groups, "groups.csv", row.group, *where, "group")
        if pool is not None and group is not None:
            groups_of.setdefault(row.pool, []).append(group.id)
    for name, group_ids in groups_of.items():
        pool = draft.pools.after[name]
        before = set(pool.group_ids)
        draft.entitlements.new += len(set(group_ids) - before)
        draft.entitlements.same += len(set(group_ids) & before)
        draft.entitlements.changed += len(before - set(group_ids))
        draft.pools.put(name, replace(pool, group_ids=same_or(pool.group_ids, group_ids)))


def _faults(rules: Rules, row: PoolRow, pool: Pool) -> Iterable[tuple[str, str]]:
    """(column, what is wrong) for the settings that do not go together."""
    if rules.runs_on_endpoint:
        if row.spares:
            yield "spares", f"{pool.architecture} desktops are endpoints; there are no spares"
        if row.max:
            yield "max", f"{pool.architecture} desktops are endpoints; leave the maximum empty"
        if pool.log_off is LogOff.DELETE:
            yield "log_off", f"{pool.architecture} desktops are endpoints and cannot be deleted"
    elif pool.size_max == 0:
        yield "max", "is empty or 0; a pool of machines on hosts needs a maximum"
    elif pool.spares_min > pool.size_max:
        yield "spares", f"{pool.spares_min} spares are more than the maximum of {pool.size_max}"
    if pool.kind is PoolKind.FLOATING and pool.log_off is LogOff.KEEP:
        yield "log_off", KEPT_FOR_NOBODY
    if rules.leased and pool.lease_s == 0:
        yield "lease_s", f"is 0; {pool.architecture} endpoints work by lease"
    if not rules.leased and row.lease_s:
        yield "lease_s", f"{pool.architecture} knows no lease; leave it empty"
