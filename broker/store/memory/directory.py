"""People, groups, images, pools and hosts, in memory."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from broker.domain.errors import AlreadyExistsError, NotFoundError
from broker.domain.lifecycle import HostEvent
from broker.domain.model import Endpoint, Group, Host, Image, Instant, Job, Pool, Role, User
from broker.domain.placement import HostLoad
from broker.limits import POOLS_MAX
from broker.ports import Page, PageQuery, RosterChange
from broker.store.capped import check_number
from broker.store.loads import host_load
from broker.store.memory.rules import MemoryRules
from broker.store.memory.state import page
from broker.store.moves import (
    check_new,
    check_new_endpoint,
    check_new_host,
    check_saved,
    check_vacant,
    move_host,
)
from broker.store.paging import check_names, check_query, folded
from broker.store.removing import check_there, check_unused


def image_name(image: Image) -> str:
    return f"{image.name}@{image.version}"


class MemoryDirectory(MemoryRules):
    """Implements broker.ports.DirectoryStore."""

    async def users(self, query: PageQuery) -> Page[User]:
        check_query(query, filters={"group_id", "role"}, text=True)
        group_id, role = query.filters.get("group_id"), query.filters.get("role")
        part = folded(query.text or "")
        rows = (
            one
            for one in self._state.users.values()
            if (group_id is None or group_id in one.group_ids)
            and (role is None or one.role.value == role)
            and part in folded(one.username, one.display_name)
        )
        return page(rows, query, lambda one: one.username)

    async def user(self, user_id: str) -> User | None:
        return self._state.users.get(user_id)

    async def user_by_name(self, username: str) -> User | None:
        return self._state.users.get(self._state.names["users"].get(username, ""))

    async def password_hash(self, user_id: str) -> str | None:
        return self._state.passwords.get(user_id)

    async def add_user(self, user: User, password_hash: str | None) -> None:
        if user.id in self._state.users:
            raise AlreadyExistsError
        self._put_user(user)
        if password_hash is not None:
            self._state.passwords[user.id] = password_hash

    async def update_user(self, user: User) -> None:
        if user.id not in self._state.users:
            raise NotFoundError("there is no such user")
        self._put_user(user)

    def _put_user(self, user: User) -> None:
        for group_id in user.group_ids:
            self._state.must_know(self._state.groups, group_id)
        old = self._state.users.get(user.id)
        created_at = user.created_at if old is None else old.created_at
        user = replace(user, created_at=created_at)
        self._state.put_named("users", self._state.users, user.id, user.username, user)

    async def set_passwords(self, hashes: Mapping[str, str]) -> None:
        if not hashes.keys() <= self._state.users.keys():
            raise NotFoundError("there is no such user")
        self._state.passwords.update(hashes)

    async def has_administrator(self) -> bool:
        return any(
            one.role is Role.ADMINISTRATOR and one.enabled and one.id in self._state.passwords
            for one in self._state.users.values()
        )

    async def groups(self, query: PageQuery) -> Page[Group]:
        check_query(query, filters=(), text=True)
        part = folded(query.text or "")
        rows = (one for one in self._state.groups.values() if part in folded(one.name, one.title))
        return page(rows, query, lambda one: one.name)

    async def images(self) -> tuple[Image, ...]:
        return self._images(removed=False)

    async def removed_images(self) -> tuple[Image, ...]:
        return self._images(removed=True)

    def _images(self, *, removed: bool) -> tuple[Image, ...]:
        every = self._state.images.values()
        rows = [one for one in every if (one.removed_at is not None) is removed]
        return tuple(sorted(rows, key=lambda one: (one.name, one.version)))

    async def remove_image(self, image_id: str, now: Instant) -> Image:
        image = self._state.images.get(image_id)
        if image is None:
            raise NotFoundError("there is no such image")
        if image.removed_at is not None:
            return image
        check_unused(
            image, [one.name for one in self._state.pools.values() if one.image_id == image_id]
        )
        removed = self._state.images[image_id] = replace(image, removed_at=now)
        return removed

    async def pools(self) -> tuple[Pool, ...]:
        return tuple(sorted(self._state.pools.values(), key=lambda one: one.name))[:POOLS_MAX]

    async def save_pool(self, pool: Pool, *, new: bool) -> None:
        if new is (pool.id in self._state.pools):
            raise AlreadyExistsError if new else NotFoundError("there is no such pool")
        if new:
            check_number(len(self._state.pools) + 1, POOLS_MAX, "pools")
        self._put_pool(pool)

    def _put_pool(self, pool: Pool) -> None:
        self._state.must_know(self._state.images, pool.image_id)
        check_there(self._state.images[pool.image_id])
        for group_id in pool.group_ids:
            self._state.must_know(self._state.groups, group_id)
        old = self._state.pools.get(pool.id)
        pool = pool if old is None else replace(pool, created_at=old.created_at)
        self._state.put_named("pools", self._state.pools, pool.id, pool.name, pool)

    async def host_loads(self) -> tuple[HostLoad, ...]:
        state = self._state
        return tuple(
            host_load(host, [state.desktops[one] for one in sorted(state.host_desktops[host.id])])
            for host in sorted(state.hosts.values(), key=lambda one: one.name)
        )

    async def hosts(self) -> tuple[Host, ...]:
        return tuple(sorted(self._state.hosts.values(), key=lambda host: host.name))

    async def save_host(self, host: Host, *, new: bool, vacant: bool = False) -> Host:
        old = self._state.hosts.get(host.id)
        if new is (old is not None):
            raise AlreadyExistsError if new else NotFoundError("there is no such host")
        if old is not None:
            check_saved(host, old)
            if vacant:
                check_vacant(host, len(self._state.host_desktops[host.id]))
        return self._put_host(host)

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
        old = self._state.hosts.get(host_id)
        moved = move_host(old, event, now, deadline_at=deadline_at, note=note)
        if job is not None:
            self._state.add_job(job)
        self._state.hosts[host_id] = moved
        return moved

    def _put_host(self, host: Host) -> Host:
        """A known host's state, and what goes with it, changes by `move_host` alone."""
        old = self._state.hosts.get(host.id)
        if old is None:
            check_new_host(host)
        else:
            host = replace(
                host,
                state=old.state,
                deadline_at=old.deadline_at,
                changed_at=old.changed_at,
                note=old.note,
                created_at=old.created_at,
                revision=old.revision + 1,
            )
        self._state.put_named("hosts", self._state.hosts, host.id, host.name, host)
        return host

    async def all_names(self) -> Mapping[str, Mapping[str, str]]:
        kinds = ("users", "groups", "images", "hosts", "pools", "endpoints")
        found = {kind: dict(self._state.names[kind]) for kind in kinds}
        for image in self._images(removed=True):
            del found["images"][image_name(image)]
        return found

    async def names_of(self, kind: str, ids: Collection[str]) -> Mapping[str, str]:
        check_names(kind, ids)
        named_by = {"users": "username", "people": "display_name"}.get(kind, "name")
        rows = getattr(self._state, "users" if kind == "people" else kind)
        return {row_id: getattr(rows[row_id], named_by) for row_id in ids if row_id in rows}

    async def apply_roster(self, change: RosterChange) -> None:
        check_new(change.desktops)
        with self._all_or_nothing():
            for group in change.groups:
                self._put_group(group)
            for image in change.images:
                self._put_image(image)
            for host in change.hosts:
                self._put_host(host)
            for user in change.users:
                self._put_user(user)
            for pool in change.pools:
                self._put_pool(pool)
            check_number(len(self._state.pools), POOLS_MAX, "pools")
            for endpoint in change.endpoints:
                self._put_endpoint(endpoint)
            self._state.add_desktops(change.desktops)

    def _put_group(self, group: Group) -> None:
        old = self._state.groups.get(group.id)
        group = group if old is None else replace(group, created_at=old.created_at)
        self._state.put_named("groups", self._state.groups, group.id, group.name, group)

    def _put_image(self, image: Image) -> None:
        old = self._state.images.get(image.id)
        if old is not None:
            image = replace(image, created_at=old.created_at, removed_at=old.removed_at)
        self._state.put_named("images", self._state.images, image.id, image_name(image), image)

    def _put_endpoint(self, endpoint: Endpoint) -> None:
        for pool_id in endpoint.pool_ids:
            self._state.must_know(self._state.pools, pool_id)
        old = self._state.endpoints.get(endpoint.id)
        if old is None:
            check_new_endpoint(endpoint)
        else:
            endpoint = replace(
                old,
                name=endpoint.name,
                kind=endpoint.kind,
                location=endpoint.location,
                pool_ids=endpoint.pool_ids,
            )
        self._state.put_named(
            "endpoints", self._state.endpoints, endpoint.id, endpoint.name, endpoint
        )

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        state = self._state
        kept = {
            name: copy.copy(getattr(state, name))
            for name in ("users", "groups", "images", "hosts", "pools", "endpoints", "named")
        }
        names = {kind: dict(taken) for kind, taken in state.names.items()}
        try:
            yield
        except Exception:
            for name, rows in kept.items():
                getattr(state, name).clear()
                getattr(state, name).update(rows)
            state.names.clear()
            state.names.update(names)
            raise
