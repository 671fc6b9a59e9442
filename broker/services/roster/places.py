"""Endpoints, and the places of fat ones in pools: places are added, never taken away."""

from __future__ import annotations

from dataclasses import replace

from broker.architectures import rules_of
from broker.domain import names
from broker.domain.model import Desktop, Endpoint, EndpointKind, EndpointState, Pool
from broker.domain.roster import EndpointRow
from broker.services.roster.draft import Draft, same_or


def plan_endpoints(draft: Draft) -> None:
    machines = frozenset(
        name
        for name, pool in draft.pools.after.items()
        if not rules_of(pool.architecture).runs_on_endpoint
    )
    for row in draft.roster.endpoints:
        _check_name(draft, row, machines)
        old = draft.endpoints.stored.get(row.name)
        if old is not None and old.kind is not row.kind:
            text = f"{names.shown(row.name)} is a {old.kind} endpoint and cannot change that"
            draft.bad("endpoints.csv", row.line, "kind", text)
            continue
        endpoint = old or Endpoint(
            id=draft.new_id("ept"),
            name=row.name,
            kind=row.kind,
            location="",
            state=EndpointState.ENROLLED,
            public_key=None,
            pool_ids=(),
            agent_version="",
            last_seen_at=None,
            created_at=draft.now,
        )
        if row.location is not None:
            endpoint = replace(endpoint, location=row.location)
        if row.pools is not None:
            endpoint = _placed(draft, row, endpoint)
        draft.endpoints.put(row.name, endpoint)


def _check_name(draft: Draft, row: EndpointRow, machines: frozenset[str]) -> None:
    """A fat endpoint's desktop has its name, which no machine of a pool may come to have."""
    pool, _, number = row.name.rpartition("-")
    if row.kind is EndpointKind.FAT and pool in machines and number.isdecimal():
        text = f"{names.shown(row.name)} is how machines of pool {names.shown(pool)} are named"
        draft.bad("endpoints.csv", row.line, "name", text)


def _placed(draft: Draft, row: EndpointRow, endpoint: Endpoint) -> Endpoint:
    """The endpoint in the pools of its line, with a desktop for each new place."""
    pools: list[Pool] = []
    for name in row.pools or ():
        pool = draft.refer(draft.pools, "pools.csv", name, "endpoints.csv", row.line, "pools")
        if pool is None:
            continue
        rules = rules_of(pool.architecture)
        if rules.endpoint_kind is not endpoint.kind:
            text = f"{names.shown(name)} is {pool.architecture}, for {rules.endpoint_kind}"
            draft.bad("endpoints.csv", row.line, "pools", f"{text} endpoints")
            continue
        pools.append(pool)
    _keep_places(draft, row, endpoint, pools)
    for pool in pools:
        if rules_of(pool.architecture).runs_on_endpoint and pool.id not in endpoint.pool_ids:
            draft.desktops.append(_place(draft, endpoint, pool, first=pool is pools[0]))
    pool_ids = same_or(endpoint.pool_ids, (pool.id for pool in pools))
    return replace(endpoint, pool_ids=pool_ids)


def _keep_places(draft: Draft, row: EndpointRow, endpoint: Endpoint, pools: list[Pool]) -> None:
    """Name each place that the line would take away: sessions may be in it."""
    gone = set(endpoint.pool_ids) - {pool.id for pool in pools}
    for name, pool in draft.pools.after.items():
        if pool.id in gone and rules_of(pool.architecture).runs_on_endpoint:
            text = f"{names.shown(row.name)} has a place in {names.shown(name)}"
            draft.bad(
                "endpoints.csv",
                row.line,
                "pools",
                f"{text}; a roster adds places but takes none away",
            )


def _place(draft: Draft, endpoint: Endpoint, pool: Pool, *, first: bool) -> Desktop:
    plain = first and not endpoint.pool_ids
    return Desktop(
        id=draft.new_id("dsk"),
        name=endpoint.name if plain else f"{endpoint.name}/{pool.name}",
        pool_id=pool.id,
        architecture=pool.architecture,
        host_id=None,
        endpoint_id=endpoint.id,
        owner_id=None,
        state=rules_of(pool.architecture).first_state,
        target=None,
        deadline_at=None,
        generation=1,
        resources=pool.resources,
        note="",
        created_at=draft.now,
        changed_at=draft.now,
    )
