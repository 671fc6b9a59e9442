"""People, groups, images, pools, hosts, and the rules about who may have what."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from broker.domain.lifecycle import HostEvent
from broker.domain.model import Group, Host, Image, Instant, Job, Pool, User
from broker.domain.placement import HostLoad
from broker.domain.policy.rules import EntitlementRule, Quota
from broker.ports.records import Page, PageQuery, RosterChange


class DirectoryStore(Protocol):
    """People, groups, images, pools, hosts."""

    async def users(self, query: PageQuery) -> Page[User]:
        """By username. Filters: group_id, role. Text: username or display name."""

    async def user(self, user_id: str) -> User | None: ...

    async def user_by_name(self, username: str) -> User | None:
        """Usernames are compared as stored (lower case, NFC; the service folds them)."""

    async def password_hash(self, user_id: str) -> str | None: ...

    async def add_user(self, user: User, password_hash: str | None) -> None:
        """Raises AlreadyExistsError when the username is taken."""

    async def update_user(self, user: User) -> None:
        """Everything but the password; raises NotFoundError."""

    async def set_passwords(self, hashes: Mapping[str, str]) -> None:
        """user id -> argon2 hash; unknown ids raise NotFoundError and nothing is changed."""

    async def has_administrator(self) -> bool:
        """Whether an enabled administrator with a password exists."""

    async def groups(self, query: PageQuery) -> Page[Group]: ...

    async def images(self) -> tuple[Image, ...]:
        """All that were not removed, by name then version."""

    async def removed_images(self) -> tuple[Image, ...]:
        """Those that were, by name then version."""

    async def remove_image(self, image_id: str, now: Instant) -> Image:
        """From now on no pool can start from it; its name and version stay taken. One that was
        removed before stays as it is. Raises NotFoundError; ImageInUseError: naming the pools
        that start from it."""

    async def pools(self) -> tuple[Pool, ...]:
        """All, by name; there are few (limit: POOLS_MAX)."""

    async def save_pool(self, pool: Pool, *, new: bool) -> None:
        """Raises AlreadyExistsError (new, name taken), NotFoundError (not new, unknown), or
        ConflictError: its image was removed, or new, and there are POOLS_MAX already."""

    async def host_loads(self) -> tuple[HostLoad, ...]:
        """Every host by name, with what its desktops take: all states but deleted and failed,
        and those that migrate to it, too. Suspended and parked ones take disk only.

        `starting` counts planned, creating, starting, resetting, resuming and unparking ones,
        `moving` those that migrate from it or to it.
        """

    async def hosts(self) -> tuple[Host, ...]:
        """Every host by name, without what its desktops take."""

    async def save_host(self, host: Host, *, new: bool, vacant: bool = False) -> Host:
        """What is stored now: a known host one revision later, its state as it was.

        Raises AlreadyExistsError (new, name taken) or NotFoundError (not new, unknown);
        ConflictError: not new, and somebody saved it since `host` was read. HostOccupiedError:
        `vacant`, and a desktop that is not deleted is there, or on its way there.
        """

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
        """Move one host along its lifecycle in one statement, with its job. IllegalTransitionError
        where the table does not allow it; NotFoundError if unknown."""

    async def rules(self) -> tuple[EntitlementRule, ...]:
        """All, by name; there are few (limit: RULES_MAX)."""

    async def save_rule(self, rule: EntitlementRule, *, new: bool) -> None:
        """Raises AlreadyExistsError (new, name taken), NotFoundError (not new, unknown), or
        ConflictError: new, and there are RULES_MAX already."""

    async def delete_rule(self, rule_id: str) -> None:
        """Raises NotFoundError."""

    async def quotas(self) -> tuple[Quota, ...]:
        """All, by name; there are few (limit: RULES_MAX)."""

    async def save_quota(self, quota: Quota, *, new: bool) -> None:
        """Raises AlreadyExistsError (new, name taken), NotFoundError (not new, unknown), or
        ConflictError: new, and there are RULES_MAX already."""

    async def delete_quota(self, quota_id: str) -> None:
        """Raises NotFoundError."""

    async def all_names(self) -> Mapping[str, Mapping[str, str]]:
        """kind (users, groups, images, hosts, pools, endpoints) -> name -> id, for the roster.

        An image's name is `name@version`; removed ones are left out.
        """

    async def names_of(self, kind: str, ids: Collection[str]) -> Mapping[str, str]:
        """id -> name of those that exist: what lists show instead of ids, in one read.

        `kind`: users (answers user names), people (users' display names), groups, desktops
        (deleted ones too) or endpoints; another raises ValueError. At most PAGE_LIMIT_MAX ids.
        """

    async def apply_roster(self, change: RosterChange) -> None:
        """All or nothing; ConflictError with more than POOLS_MAX pools, or with a pool whose image
        was removed. Passwords, states and keys of existing records stay."""
