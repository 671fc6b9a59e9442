"""A whole roster in one transaction, and the two moves it is made of: replace and relate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa

from broker.limits import POOLS_MAX
from broker.ports import RosterChange
from broker.store.moves import check_new, check_new_endpoint
from broker.store.sql import capped, images
from broker.store.sql import tables as t
from broker.store.sql.rows import Values
from broker.store.sql.rows.directory import from_group, from_host, from_image, from_pool, from_user
from broker.store.sql.rows.machines import from_desktop, from_endpoint
from broker.store.sql.statements import any_of

Item = TypeVar("Item")

REVISION = "revision"
_STATED_ONCE = {"id", "created_at", REVISION}
"""columns that stay as they were when the record was made, or that no row says"""
HOSTS_OWN = {"prior_state", "state", "deadline_at", "changed_at", "note"}
"""what changes by DirectoryStore.move_host alone"""
_IMAGES_OWN = {"removed_at"}
"""what changes by DirectoryStore.remove_image alone"""
_ENDPOINTS_OWN = {"prior_state", "state", "public_key", "agent_version", "last_seen_at"}
"""what an endpoint itself brought"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """A table of (owner, position, member)."""

    table: sa.Table
    owner: str
    member: str


MEMBERSHIPS = Relation(table=t.memberships, owner="user_id", member="group_id")
ENTITLEMENTS = Relation(table=t.entitlements, owner="pool_id", member="group_id")
PLACES = Relation(table=t.endpoint_pools, owner="endpoint_id", member="pool_id")


def check(change: RosterChange) -> None:
    """Raises IllegalTransitionError: a new desktop is not in a first state."""
    check_new(change.desktops)


def apply(change: RosterChange, connection: sa.Connection) -> None:
    """Raises IllegalTransitionError: a new endpoint is not in its first state."""
    _put(connection, t.groups, change.groups, from_group)
    _put(connection, t.images, change.images, from_image, keep=_IMAGES_OWN)
    _put(connection, t.hosts, change.hosts, from_host, keep=HOSTS_OWN)
    _put(connection, t.users, change.users, from_user)
    relate(connection, MEMBERSHIPS, {one.id: one.group_ids for one in change.users})
    if change.pools:
        capped.lock(connection, t.pools)
        _put(connection, t.pools, change.pools, from_pool)
        capped.check(connection, t.pools, POOLS_MAX)
        images.check_there(connection, [one.image_id for one in change.pools])
    relate(connection, ENTITLEMENTS, {one.id: one.group_ids for one in change.pools})
    known = _known(connection, t.endpoints, [one.id for one in change.endpoints])
    for endpoint in change.endpoints:
        if endpoint.id not in known:
            check_new_endpoint(endpoint)
    _put(connection, t.endpoints, change.endpoints, from_endpoint, keep=_ENDPOINTS_OWN)
    relate(connection, PLACES, {one.id: one.pool_ids for one in change.endpoints})
    if change.desktops:
        rows = [from_desktop(one) for one in change.desktops]
        connection.execute(sa.insert(t.desktops), rows)


def _put(
    connection: sa.Connection,
    table: sa.Table,
    items: Iterable[Item],
    to_values: Callable[[Item], Values],
    keep: Iterable[str] = (),
) -> None:
    """Insert what is new, replace what is known but for the columns in `keep`."""
    rows = [to_values(item) for item in items]
    known = _known(connection, table, [row["id"] for row in rows])
    new = [row for row in rows if row["id"] not in known]
    if new:
        connection.execute(sa.insert(table), new)
    replace(connection, table, [row for row in rows if row["id"] in known], keep)


def _known(connection: sa.Connection, table: sa.Table, ids: Sequence[str]) -> set[str]:
    if not ids:
        return set()
    statement = sa.select(table.c.id).where(any_of(table.c.id, "ids"))
    return set(connection.execute(statement, {"ids": ids}).scalars())


def replace(
    connection: sa.Connection, table: sa.Table, rows: Sequence[Values], keep: Iterable[str] = ()
) -> int:
    """Write these rows over the ones of the same ids; how many there were. Where the table counts
    revisions, each is one later."""
    if not rows:
        return 0
    columns = [name for name in rows[0] if name not in _STATED_ONCE and name not in set(keep)]
    statement = (
        sa.update(table)
        .where(table.c.id == sa.bindparam("key"))
        .values({name: sa.bindparam(f"new_{name}") for name in columns})
    )
    if REVISION in table.c:
        statement = statement.values({REVISION: table.c[REVISION] + 1})
    parameters: list[dict[str, Any]] = [
        {"key": row["id"], **{f"new_{name}": row[name] for name in columns}} for row in rows
    ]
    return connection.execute(statement, parameters).rowcount


def relate(
    connection: sa.Connection, relation: Relation, members: Mapping[str, Sequence[str]]
) -> None:
    """Give each owner exactly these members, in this order."""
    if not members:
        return
    table, owner = relation.table, relation.table.c[relation.owner]
    connection.execute(sa.delete(table).where(any_of(owner, "ids")), {"ids": list(members)})
    rows = [
        {relation.owner: owner_id, "position": position, relation.member: member_id}
        for owner_id, ids in members.items()
        for position, member_id in enumerate(ids)
    ]
    if rows:
        connection.execute(sa.insert(table), rows)
