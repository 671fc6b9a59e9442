"""People, pools and hosts as administrators change them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from broker import limits
from broker.architectures import rules_of
from broker.domain.errors import (
    AlreadyExistsError,
    BadRequestError,
    BusyError,
    ConflictError,
    HostOccupiedError,
    NotFoundError,
)
from broker.domain.images import choose_image
from broker.domain.model import (
    Architecture,
    Group,
    Host,
    HostState,
    LogOff,
    Pool,
    PoolKind,
    Resources,
    Role,
    User,
)
from broker.domain.names import shown
from broker.domain.passwords import check_password, password_problem
from broker.domain.settings import HostSettings, PoolSettings
from broker.domain.settings_check import host_problems, pool_problems
from broker.ports import PageQuery
from broker.services.accounts import LOCAL_USERNAME, Accounts
from broker.services.host_profiles import HostProfiles
from broker.services.kit import Kit, name_key
from broker.services.known_profiles import KnownProfiles
from broker.services.naming import checked_label, checked_name, checked_username
from broker.services.pools import Pools
from broker.services.roster import Count, import_roster

_IMPORT_RETRY_S = 5.0


class Directory:
    def __init__(self, kit: Kit, pools: Pools, accounts: Accounts, profiles: HostProfiles) -> None:
        self._kit = kit
        self._pools = pools
        self._accounts = accounts
        self._profiles = profiles
        self._importing = False

    # ------------------------------------------------------------------ groups

    async def groups(self) -> tuple[Group, ...]:
        """All groups, by name."""
        found: list[Group] = []
        after: str | None = None
        while True:
            query = PageQuery(limit=limits.PAGE_LIMIT_MAX, after=after)
            page = await self._kit.store.directory.groups(query)
            found += page.items
            after = page.next_after
            if after is None:
                return tuple(found)

    async def group_ids(self, names: Sequence[str]) -> tuple[str, ...]:
        """Raises BadRequestError naming the first unknown group."""
        known = {group.name: group.id for group in await self.groups()}
        for name in names:
            if name not in known:
                text = f"there is no group {name!r}; groups are added by an import (groups.csv)"
                raise BadRequestError(text, fields={"field": "groups"})
        return tuple(known[name] for name in names)

    # ------------------------------------------------------------------ users

    async def user(self, ref: str) -> User:
        """By id or by username. Raises NotFoundError."""
        directory = self._kit.store.directory
        user = await directory.user(ref) or await directory.user_by_name(name_key(ref))
        if user is None:
            raise NotFoundError(f"there is no user {ref!r}")
        return user

    async def add_user(
        self,
        *,
        username: str,
        display_name: str,
        role: Role,
        groups: Sequence[str],
        password: str | None,
    ) -> User:
        """Raises AlreadyExistsError, BadRequestError."""
        user = User(
            id=self._kit.ids.new("usr"),
            username=checked_username(username),
            display_name=checked_label(display_name or username, "display_name"),
            role=role,
            enabled=True,
            group_ids=await self.group_ids(groups),
            created_at=self._kit.clock.now(),
        )
        if password is not None:
            # before the user is made: a refused password must not leave half of the wish behind
            check_password(password, username=user.username)
        await self._kit.store.directory.add_user(user, None)
        if password is not None:
            await self._accounts.set_passwords({user.id: password})
        self._kit.events.publish("user", id=user.id)
        return user

    async def change_user(
        self,
        ref: str,
        *,
        display_name: str | None = None,
        role: Role | None = None,
        enabled: bool | None = None,
        groups: Sequence[str] | None = None,
    ) -> User:
        """Change what is given; a changed role or a disabled account ends the user's sign-ins.

        Raises:
            NotFoundError, BadRequestError, ConflictError: the built-in account of the commands.
        """
        user = await self.user(ref)
        if user.username == LOCAL_USERNAME:
            raise ConflictError(f"{LOCAL_USERNAME} belongs to the broker and stays as it is")
        if display_name is not None:
            display_name = checked_label(display_name, "display_name")
        changed = replace(
            user,
            display_name=display_name if display_name is not None else user.display_name,
            role=role if role is not None else user.role,
            enabled=enabled if enabled is not None else user.enabled,
            group_ids=await self.group_ids(groups) if groups is not None else user.group_ids,
        )
        await self._kit.store.directory.update_user(changed)
        if changed.role is not user.role or not changed.enabled:
            await self._kit.store.credentials.revoke_user_tokens(user.id)
        self._accounts.forget_all()
        self._kit.events.publish("user", id=user.id)
        return changed

    async def set_passwords(self, by_username: Mapping[str, str]) -> int:
        """Set many people's passwords, all or none; ends their sign-ins. Answers how many.

        Raises:
            NotFoundError: naming the first unknown user. BadRequestError: naming the user whose
                password is not allowed.
        """
        by_id: dict[str, str] = {}
        for username, password in by_username.items():
            user = await self._kit.store.directory.user_by_name(name_key(username))
            if user is None or user.username == LOCAL_USERNAME:
                raise NotFoundError(f"there is no user {shown(username)}")
            problem = password_problem(password, username=user.username)
            if problem is not None:
                text = f"{shown(username)}: {problem}"
                raise BadRequestError(text, fields={"field": f"passwords.{user.username}"})
            by_id[user.id] = password
        await self._accounts.set_passwords(by_id)
        return len(by_id)

    # ------------------------------------------------------------------ rosters

    async def import_roster(
        self,
        texts: Mapping[str, str],
        *,
        check_only: bool,
        profiles: KnownProfiles | None = None,
    ) -> Mapping[str, Count]:
        """Import the files given as name -> text, one roster at a time; see import_roster.

        Raises:
            RosterError: bad lines; nothing was changed. BusyError: another import is under way.
        """
        if self._importing:
            raise BusyError("another roster is being imported", retry_after_s=_IMPORT_RETRY_S)
        kit = self._kit
        self._importing = True
        try:
            counts = await import_roster(
                kit.store, kit.clock, kit.ids, texts, check_only=check_only, profiles=profiles
            )
        finally:
            self._importing = False
        if not check_only:
            self._pools.forget()
            self._accounts.forget_all()
            for topic in ("user", "host", "pool", "endpoint", "desktop", "work"):
                kit.events.publish(topic)
        return counts

    # ------------------------------------------------------------------ pools

    async def add_pool(  # noqa: PLR0913 - a pool has that many fields
        self,
        *,
        name: str,
        title: str,
        architecture: Architecture,
        kind: PoolKind,
        image: str,
        resources: Resources,
        spares_min: int,
        size_max: int,
        log_off: LogOff,
        disconnect_grace_s: int,
        lease_s: int,
        groups: Sequence[str],
        settings: PoolSettings | None = None,
    ) -> Pool:
        """`image` is `name@version`, or `name` for its newest.

        Raises:
            AlreadyExistsError, BadRequestError: naming the field.
        """
        pool = Pool(
            id=self._kit.ids.new("pol"),
            name=checked_name(name),
            title=checked_label(title or name, "title"),
            architecture=architecture,
            kind=kind,
            image_id=await self._image_id(image, architecture),
            resources=resources,
            spares_min=spares_min,
            size_max=size_max,
            log_off=log_off,
            disconnect_grace_s=disconnect_grace_s,
            lease_s=lease_s,
            enabled=True,
            group_ids=await self.group_ids(groups),
            created_at=self._kit.clock.now(),
            settings=settings or PoolSettings(),
        )
        _check_pool(pool)
        await self._kit.store.directory.save_pool(pool, new=True)
        self._changed(pool)
        return pool

    async def _image_id(self, ref: str, architecture: Architecture) -> str:
        found = choose_image(await self._pools.images(), ref, architecture)
        if isinstance(found, str):
            raise BadRequestError(found, fields={"field": "image"})
        return found.id

    async def change_pool(  # noqa: PLR0913 - a pool has that many fields
        self,
        ref: str,
        *,
        title: str | None = None,
        spares_min: int | None = None,
        size_max: int | None = None,
        enabled: bool | None = None,
        log_off: LogOff | None = None,
        disconnect_grace_s: int | None = None,
        lease_s: int | None = None,
        groups: Sequence[str] | None = None,
        resources: Resources | None = None,
        image: str | None = None,
        settings: Callable[[PoolSettings], PoolSettings] = lambda settings: settings,
    ) -> Pool:
        """Change what is given; `settings` makes the new ones of those that are, and `image` is
        `name@version`, or `name` for its newest.

        Raises NotFoundError, BadRequestError.
        """
        if title is not None:
            title = checked_label(title, "title")
        self._pools.forget()
        pool = await self._pools.find(ref)
        if lease_s not in {None, pool.lease_s} and not rules_of(pool.architecture).leased:
            text = f"lease_s: desktops of {pool.name} run at no endpoint that could go on alone"
            raise BadRequestError(text, fields={"field": "lease_s"})
        changed = replace(
            pool,
            title=title if title is not None else pool.title,
            spares_min=spares_min if spares_min is not None else pool.spares_min,
            size_max=size_max if size_max is not None else pool.size_max,
            enabled=enabled if enabled is not None else pool.enabled,
            log_off=log_off if log_off is not None else pool.log_off,
            disconnect_grace_s=(
                disconnect_grace_s if disconnect_grace_s is not None else pool.disconnect_grace_s
            ),
            lease_s=lease_s if lease_s is not None else pool.lease_s,
            group_ids=await self.group_ids(groups) if groups is not None else pool.group_ids,
            resources=resources if resources is not None else pool.resources,
            settings=settings(pool.settings),
        )
        if image is not None:
            changed = await self._with_image(changed, image)
        _check_pool(changed)
        await self._kit.store.directory.save_pool(changed, new=False)
        self._changed(changed)
        return changed

    async def _with_image(self, pool: Pool, ref: str) -> Pool:
        image_id = await self._image_id(ref, pool.architecture)
        if image_id == pool.image_id:
            return pool
        return replace(pool, image_id=image_id, image_since=self._kit.clock.now())

    def _changed(self, pool: Pool) -> None:
        self._pools.forget()
        self._kit.events.publish("pool", id=pool.id)
        self._kit.events.publish("work", pool_id=pool.id)

    # ------------------------------------------------------------------ hosts

    async def add_host(
        self,
        *,
        name: str,
        engine: str,
        profile: str,
        capacity: Resources,
        overcommit_cpu: float,
        start_limit: int,
        settings: HostSettings | None = None,
    ) -> Host:
        """Raises AlreadyExistsError, BadRequestError."""
        self._profiles.check(engine, profile)
        host = Host(
            id=self._kit.ids.new("hst"),
            name=checked_name(name),
            engine=engine,
            profile=profile,
            state=HostState.UP,
            capacity=capacity,
            overcommit_cpu=overcommit_cpu,
            start_limit=start_limit,
            created_at=self._kit.clock.now(),
            settings=settings or HostSettings(),
        )
        _check_host(host)
        try:
            await self._kit.store.directory.save_host(host, new=True)
        except AlreadyExistsError:
            raise AlreadyExistsError(await self._taken(host.name)) from None
        self._kit.events.publish("host", id=host.id, revision=host.revision)
        self._kit.events.publish("work", host_id=host.id)
        return host

    async def _taken(self, name: str) -> str:
        """Which host has that name."""
        loads = await self._kit.store.directory.host_loads()
        states = {load.host.name: load.host.state for load in loads}
        if states.get(name) is not HostState.RETIRED:
            return f"a host {shown(name)} exists"
        text = f"a host {shown(name)} exists, retired; its name stays taken"
        return f"{text}, and it can be opened again where it comes back"

    async def change_host(
        self,
        ref: str,
        *,
        revision: int | None = None,
        profile: str | None = None,
        capacity: Callable[[Resources], Resources] = lambda capacity: capacity,
        overcommit_cpu: float | None = None,
        start_limit: int | None = None,
        settings: Callable[[HostSettings], HostSettings] = lambda settings: settings,
    ) -> Host:
        """Change what is given, with `revision` only if nobody changed the host since it was read
        so. Its state is changed by services.site.

        Raises:
            NotFoundError, BadRequestError. ConflictError: it was changed since, or others change
            it all the time. HostOccupiedError: desktops are there that could not be found any
            more with that profile.
        """
        for _ in range(limits.HOST_SAVES_MAX):
            host = await self._host(ref)
            if revision is not None and revision != host.revision:
                text = f"{host.name} was changed since: it is at revision {host.revision}"
                raise ConflictError(text, fields={"revision": host.revision})
            changed = replace(
                host,
                profile=profile if profile is not None else host.profile,
                capacity=capacity(host.capacity),
                overcommit_cpu=(
                    overcommit_cpu if overcommit_cpu is not None else host.overcommit_cpu
                ),
                start_limit=start_limit if start_limit is not None else host.start_limit,
                settings=settings(host.settings),
            )
            _check_host(changed)
            with contextlib.suppress(ConflictError):
                return await self._save_host(host, changed)
        raise ConflictError(f"{ref} is changed by others all the time")

    async def _host(self, ref: str) -> Host:
        hosts = await self._kit.store.directory.hosts()
        host = next((one for one in hosts if ref in {one.id, one.name}), None)
        if host is None:
            raise NotFoundError(f"there is no host {ref!r}")
        return host

    async def _save_host(self, before: Host, changed: Host) -> Host:
        if changed == before:
            return before
        gone: tuple[str, ...] = ()
        if changed.profile != before.profile:
            self._profiles.check(changed.engine, changed.profile)
            gone = self._profiles.left_behind(before, changed.profile)
        try:
            saved = await self._kit.store.directory.save_host(changed, new=False, vacant=bool(gone))
        except HostOccupiedError as error:
            text = f"{error.detail}; the new profile says another {', '.join(gone)}"
            raise HostOccupiedError(text, fields={**error.fields, "changed": list(gone)}) from None
        self._profiles.use(saved)
        self._kit.events.publish("host", id=saved.id, revision=saved.revision)
        self._kit.events.publish("work", host_id=saved.id)
        return saved


def _check_host(host: Host) -> None:
    """Raises BadRequestError."""
    for field, text in host_problems(host.settings):
        raise BadRequestError(text, fields={"field": field})


def _check_pool(pool: Pool) -> None:
    """Raises BadRequestError for values that contradict each other."""
    for field, text in pool_problems(pool):
        raise BadRequestError(text, fields={"field": field})
