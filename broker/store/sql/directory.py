"""People, groups, images, pools and hosts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

import sqlalchemy as sa

from broker.domain.errors import IllegalTransitionError, NotFoundError
from broker.domain.lifecycle import HostEvent
from broker.domain.model import Group, Host, Image, Instant, Job, Pool, Role, User
from broker.domain.placement import HostLoad
from broker.limits import POOLS_MAX
from broker.ports import Page, PageQuery, RosterChange
from broker.store.moves import check_new_host, move_host
from broker.store.paging import check_names
from broker.store.sql import capped, hosts, images, roster
from broker.store.sql import tables as t
from broker.store.sql.pages import Listing, equals
from broker.store.sql.rows.directory import (
    GROUP,
    POOL,
    USER,
    from_host,
    from_pool,
    from_user,
    to_group,
    to_pool,
    to_user,
)
from broker.store.sql.rules import SqlRules
from broker.store.sql.statements import any_of, first, grouped

_GROUPS_OF_USERS = (
    sa.select(t.memberships.c.user_id, t.memberships.c.group_id)
    .where(any_of(t.memberships.c.user_id, "ids"))
    .order_by(t.memberships.c.user_id, t.memberships.c.position)
)
_USERS = Listing(
    USER,
    t.users.c.username,
    {
        **equals(t.users.c.role),
        "group_id": lambda value: t.users.c.id.in_(
            sa.select(t.memberships.c.user_id).where(t.memberships.c.group_id == value)
        ),
    },
    search=t.users.c.search,
)
_ONE_USER = (
    sa.select(t.memberships.c.group_id, *USER)
    .join_from(t.users, t.memberships, t.memberships.c.user_id == t.users.c.id, isouter=True)
    .order_by(t.memberships.c.position)
)
_USER = _ONE_USER.where(t.users.c.id == sa.bindparam("key"))
_USER_BY_NAME = _ONE_USER.where(t.users.c.username == sa.bindparam("key"))
_PASSWORD = sa.select(t.users.c.password_hash).where(t.users.c.id == sa.bindparam("key"))
_SET_PASSWORD = (
    sa.update(t.users)
    .where(t.users.c.id == sa.bindparam("key"))
    .values(password_hash=sa.bindparam("hash"))
)
_KNOWN_USERS = sa.select(t.users.c.id).where(any_of(t.users.c.id, "ids"))
_ADMINISTRATOR = (
    sa.select(t.users.c.id)
    .where(
        t.users.c.role == Role.ADMINISTRATOR.value,
        t.users.c.enabled,
        t.users.c.password_hash.is_not(None),
    )
    .limit(1)
)
_GROUPS = Listing(GROUP, t.groups.c.name, {}, search=t.groups.c.search)
_POOLS = sa.select(*POOL).order_by(t.pools.c.name).limit(POOLS_MAX)
_ENTITLED = sa.select(t.entitlements.c.pool_id, t.entitlements.c.group_id).order_by(
    t.entitlements.c.pool_id, t.entitlements.c.position
)
_IMAGE_NAME = t.images.c.name + "@" + sa.cast(t.images.c.version, sa.Text)
_NAMES: dict[str, sa.Select[Any]] = {
    "users": sa.select(t.users.c.username, t.users.c.id),
    "groups": sa.select(t.groups.c.name, t.groups.c.id),
    "images": sa.select(_IMAGE_NAME, t.images.c.id).where(t.images.c.removed_at.is_(None)),
    "hosts": sa.select(t.hosts.c.name, t.hosts.c.id),
    "pools": sa.select(t.pools.c.name, t.pools.c.id),
    "endpoints": sa.select(t.endpoints.c.name, t.endpoints.c.id),
}

_NAMES_OF: dict[str, sa.Select[Any]] = {
    "users": sa.select(t.users.c.id, t.users.c.username).where(any_of(t.users.c.id, "ids")),
    "people": sa.select(t.users.c.id, t.users.c.display_name).where(any_of(t.users.c.id, "ids")),
    "groups": sa.select(t.groups.c.id, t.groups.c.name).where(any_of(t.groups.c.id, "ids")),
    "desktops": sa.select(t.desktops.c.id, t.desktops.c.name).where(any_of(t.desktops.c.id, "ids")),
    "endpoints": sa.select(t.endpoints.c.id, t.endpoints.c.name).where(
        any_of(t.endpoints.c.id, "ids")
    ),
}


class SqlDirectory(SqlRules):
    """Implements broker.ports.DirectoryStore."""

    async def users(self, query: PageQuery) -> Page[User]:
        statement = _USERS.statement(query)

        def work(connection: sa.Connection) -> Page[User]:
            rows, after = _USERS.fetch(connection, query, statement)
            groups = grouped(connection, _GROUPS_OF_USERS, (row[0] for row in rows))
            items = tuple(to_user(row, groups.get(row[0], ())) for row in rows)
            return Page(items=items, next_after=after)

        return await self._database.view(work)

    async def user(self, user_id: str) -> User | None:
        return await self._database.read(partial(_one_user, _USER, user_id))

    async def user_by_name(self, username: str) -> User | None:
        return await self._database.read(partial(_one_user, _USER_BY_NAME, username))

    async def password_hash(self, user_id: str) -> str | None:
        def work(connection: sa.Connection) -> str | None:
            found: str | None = connection.execute(_PASSWORD, {"key": user_id}).scalar()
            return found

        return await self._database.read(work)

    async def add_user(self, user: User, password_hash: str | None) -> None:
        def work(connection: sa.Connection) -> None:
            values = {**from_user(user), "password_hash": password_hash}
            connection.execute(sa.insert(t.users), values)
            roster.relate(connection, roster.MEMBERSHIPS, {user.id: user.group_ids})

        await self._database.transaction(work)

    async def update_user(self, user: User) -> None:
        def work(connection: sa.Connection) -> None:
            if not roster.replace(connection, t.users, [from_user(user)]):
                raise NotFoundError("there is no such user")
            roster.relate(connection, roster.MEMBERSHIPS, {user.id: user.group_ids})

        await self._database.transaction(work)

    async def set_passwords(self, hashes: Mapping[str, str]) -> None:
        if not hashes:
            return

        def work(connection: sa.Connection) -> None:
            known = connection.execute(_KNOWN_USERS, {"ids": list(hashes)}).all()
            if len(known) < len(hashes):
                raise NotFoundError("there is no such user")
            rows = [{"key": user_id, "hash": text} for user_id, text in sorted(hashes.items())]
            connection.execute(_SET_PASSWORD, rows)

        await self._database.transaction(work)

    async def has_administrator(self) -> bool:
        return await self._database.read(
            lambda connection: first(connection.execute(_ADMINISTRATOR)) is not None
        )

    async def groups(self, query: PageQuery) -> Page[Group]:
        statement = _GROUPS.statement(query)

        def work(connection: sa.Connection) -> Page[Group]:
            rows, after = _GROUPS.fetch(connection, query, statement)
            return Page(items=tuple(map(to_group, rows)), next_after=after)

        return await self._database.read(work)

    async def images(self) -> tuple[Image, ...]:
        return await self._database.read(partial(images.listed, removed=False))

    async def removed_images(self) -> tuple[Image, ...]:
        return await self._database.read(partial(images.listed, removed=True))

    async def remove_image(self, image_id: str, now: Instant) -> Image:
        return await self._database.transaction(partial(images.remove, image_id, now))

    async def pools(self) -> tuple[Pool, ...]:
        def work(connection: sa.Connection) -> tuple[Pool, ...]:
            groups: dict[str, list[str]] = {}
            for pool_id, group_id in connection.execute(_ENTITLED):
                groups.setdefault(pool_id, []).append(group_id)
            rows = connection.execute(_POOLS).all()
            return tuple(to_pool(row, tuple(groups.get(row[0], ()))) for row in rows)

        return await self._database.view(work)

    async def save_pool(self, pool: Pool, *, new: bool) -> None:
        def work(connection: sa.Connection) -> None:
            if new:
                capped.lock(connection, t.pools)
                connection.execute(sa.insert(t.pools), from_pool(pool))
                capped.check(connection, t.pools, POOLS_MAX)
            elif not roster.replace(connection, t.pools, [from_pool(pool)]):
                raise NotFoundError("there is no such pool")
            images.check_there(connection, [pool.image_id])
            roster.relate(connection, roster.ENTITLEMENTS, {pool.id: pool.group_ids})

        await self._database.transaction(work)

    async def host_loads(self) -> tuple[HostLoad, ...]:
        return await self._database.view(hosts.loads)

    async def hosts(self) -> tuple[Host, ...]:
        return await self._database.read(hosts.every)

    async def save_host(self, host: Host, *, new: bool, vacant: bool = False) -> Host:
        def work(connection: sa.Connection) -> Host:
            if not new:
                return hosts.save(host, vacant, connection)
            connection.execute(sa.insert(t.hosts), from_host(host))
            return host

        if new:
            check_new_host(host)
        return await self._database.transaction(work)

    async def move_host(
        self,
        host_id: str,
        event: HostEvent,
        now: Instant,
        *,
        deadline_at: Instant | None = None,
        note: str | None = None,
        job: Job | None = None,
    ) -> Host:
        values = {"key": host_id, "now": now, "deadline": deadline_at, "words": note}
        moved = await self._database.transaction(partial(hosts.move, event, values, job))
        if moved is None:
            # say why: the same rules raise it
            found = await self._database.read(partial(hosts.one, host_id))
            move_host(found, event, now)
            raise IllegalTransitionError("the host changed at the same moment")
        return moved

    async def all_names(self) -> Mapping[str, Mapping[str, str]]:
        def work(connection: sa.Connection) -> Mapping[str, Mapping[str, str]]:
            return {
                kind: {name: row_id for name, row_id in connection.execute(statement)}  # noqa: C416
                for kind, statement in _NAMES.items()
            }

        return await self._database.view(work)

    async def names_of(self, kind: str, ids: Collection[str]) -> Mapping[str, str]:
        check_names(kind, ids)
        statement, parameters = _NAMES_OF[kind], {"ids": list(ids)}

        def work(connection: sa.Connection) -> Mapping[str, str]:
            rows = connection.execute(statement, parameters).all()
            return {row_id: name for row_id, name in rows}  # noqa: C416 - rows are not pairs to mypy

        return await self._database.read(work) if ids else {}

    async def apply_roster(self, change: RosterChange) -> None:
        roster.check(change)
        await self._database.transaction(partial(roster.apply, change))


def _one_user(statement: sa.Select[Any], key: str, connection: sa.Connection) -> User | None:
    rows = connection.execute(statement, {"key": key}).all()
    if not rows:
        return None
    return to_user(rows[0][1:], tuple(row[0] for row in rows if row[0] is not None))
