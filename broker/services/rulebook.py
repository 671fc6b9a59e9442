"""Rules and quotas as administrators change them: names become ids; what cannot be is refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from broker import limits
from broker.domain.calendar import Window
from broker.domain.errors import BadRequestError, ConflictError, NotFoundError
from broker.domain.names import shown
from broker.domain.policy.check import quota_problems, rule_problems
from broker.domain.policy.rules import Effect, EntitlementRule, Quota, QuotaScope
from broker.domain.settings_check import Problem
from broker.services.directory import Directory
from broker.services.kit import Kit
from broker.services.naming import checked_label, checked_name
from broker.services.policies import Policies
from broker.services.pools import Pools

Kept = TypeVar("Kept", EntitlementRule, Quota)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleWish:
    """What a rule is to be; None leaves a field as it is. People, groups, pools and endpoints
    are named by name or id."""

    name: str | None = None
    effect: Effect | None = None
    users: Sequence[str] | None = None
    groups: Sequence[str] | None = None
    pools: Sequence[str] | None = None
    endpoints: Sequence[str] | None = None
    networks: Sequence[str] | None = None
    windows: Sequence[Window] | None = None
    enabled: bool | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaWish:
    """What a quota is to be; None leaves a field as it is. `group` "" takes the group away."""

    name: str | None = None
    scope: QuotaScope | None = None
    sessions_max: int | None = None
    group: str | None = None
    pools: Sequence[str] | None = None
    enabled: bool | None = None


class Rulebook:
    def __init__(self, kit: Kit, policies: Policies, directory: Directory, pools: Pools) -> None:
        self._kit = kit
        self._policies = policies
        self._directory = directory
        self._pools = pools

    # ------------------------------------------------------------------ rules

    async def rules(self) -> tuple[EntitlementRule, ...]:
        """As they are stored now, by name."""
        return await self._kit.store.directory.rules()

    async def rule(self, ref: str) -> EntitlementRule:
        """By id or by name. Raises NotFoundError."""
        return _found(await self.rules(), ref, "rule")

    async def add_rule(self, wish: RuleWish) -> EntitlementRule:
        """Raises AlreadyExistsError, BadRequestError naming the field, ConflictError: RULES_MAX."""
        _check_room(await self.rules(), "rules")
        effect = _needed(wish.effect, "effect")
        fresh = EntitlementRule(id=self._kit.ids.new("rul"), name="", effect=effect)
        rule = await self._wished_rule(fresh, replace(wish, name=_needed(wish.name, "name")))
        await self._kit.store.directory.save_rule(rule, new=True)
        self._changed()
        return rule

    async def change_rule(self, ref: str, wish: RuleWish) -> EntitlementRule:
        """Raises NotFoundError, AlreadyExistsError, BadRequestError naming the field."""
        rule = await self._wished_rule(await self.rule(ref), wish)
        await self._kit.store.directory.save_rule(rule, new=False)
        self._changed()
        return rule

    async def remove_rule(self, ref: str) -> EntitlementRule:
        """Raises NotFoundError."""
        rule = await self.rule(ref)
        await self._kit.store.directory.delete_rule(rule.id)
        self._changed()
        return rule

    async def _wished_rule(self, base: EntitlementRule, wish: RuleWish) -> EntitlementRule:
        changes: dict[str, Any] = {
            "name": checked_name(wish.name) if wish.name is not None else None,
            "note": _checked_note(wish.note) if wish.note is not None else None,
            "effect": wish.effect,
            "enabled": wish.enabled,
            "networks": _unique(wish.networks),
            "windows": _unique(wish.windows),
            "user_ids": await _ids(wish.users, self._user_id),
            "group_ids": await self._group_ids(wish.groups, "groups"),
            "pool_ids": await _ids(wish.pools, self._pool_id),
            "endpoint_ids": await _ids(wish.endpoints, self._endpoint_id),
        }
        rule = replace(base, **{name: one for name, one in changes.items() if one is not None})
        _refuse(rule_problems(rule))
        return rule

    # ------------------------------------------------------------------ quotas

    async def quotas(self) -> tuple[Quota, ...]:
        """As they are stored now, by name."""
        return await self._kit.store.directory.quotas()

    async def quota(self, ref: str) -> Quota:
        """By id or by name. Raises NotFoundError."""
        return _found(await self.quotas(), ref, "quota")

    async def add_quota(self, wish: QuotaWish) -> Quota:
        """Raises AlreadyExistsError, BadRequestError naming the field, ConflictError: RULES_MAX."""
        _check_room(await self.quotas(), "quotas")
        fresh = Quota(
            id=self._kit.ids.new("quo"),
            name="",
            scope=_needed(wish.scope, "scope"),
            sessions_max=_needed(wish.sessions_max, "sessions_max"),
        )
        quota = await self._wished_quota(fresh, replace(wish, name=_needed(wish.name, "name")))
        await self._kit.store.directory.save_quota(quota, new=True)
        self._changed()
        return quota

    async def change_quota(self, ref: str, wish: QuotaWish) -> Quota:
        """Raises NotFoundError, AlreadyExistsError, BadRequestError naming the field."""
        quota = await self._wished_quota(await self.quota(ref), wish)
        await self._kit.store.directory.save_quota(quota, new=False)
        self._changed()
        return quota

    async def remove_quota(self, ref: str) -> Quota:
        """Raises NotFoundError."""
        quota = await self.quota(ref)
        await self._kit.store.directory.delete_quota(quota.id)
        self._changed()
        return quota

    async def _wished_quota(self, base: Quota, wish: QuotaWish) -> Quota:
        changes: dict[str, Any] = {
            "name": checked_name(wish.name) if wish.name is not None else None,
            "scope": wish.scope,
            "sessions_max": wish.sessions_max,
            "enabled": wish.enabled,
            "pool_ids": await _ids(wish.pools, self._pool_id),
        }
        quota = replace(base, **{name: one for name, one in changes.items() if one is not None})
        if wish.group is not None:
            found = await self._group_ids([wish.group] if wish.group else [], "group")
            quota = replace(quota, group_id=next(iter(found or ()), None))
        _refuse(quota_problems(quota))
        return quota

    # ------------------------------------------------------------------ names

    def _changed(self) -> None:
        self._policies.forget()
        self._kit.events.publish("policy")

    async def _user_id(self, ref: str) -> str:
        try:
            return (await self._directory.user(ref)).id
        except NotFoundError as error:
            raise _unknown("users", ref) from error

    async def _pool_id(self, ref: str) -> str:
        try:
            return (await self._pools.find(ref)).id
        except NotFoundError as error:
            raise _unknown("pools", ref) from error

    async def _endpoint_id(self, ref: str) -> str:
        endpoints = self._kit.store.endpoints
        found = await endpoints.endpoint_by_name(ref) or await endpoints.endpoint(ref)
        if found is None:
            raise _unknown("endpoints", ref)
        return found.id

    async def _group_ids(self, refs: Sequence[str] | None, field: str) -> tuple[str, ...] | None:
        if refs is None:
            return None
        known = {
            ref: one.id for one in await self._directory.groups() for ref in (one.id, one.name)
        }
        for ref in refs:
            if ref not in known:
                raise _unknown(field, ref)
        return tuple(dict.fromkeys(known[ref] for ref in refs))


async def _ids(
    refs: Sequence[str] | None, find: Callable[[str], Awaitable[str]]
) -> tuple[str, ...] | None:
    if refs is None:
        return None
    return tuple(dict.fromkeys([await find(ref) for ref in refs]))


def _unique(values: Sequence[Any] | None) -> tuple[Any, ...] | None:
    return None if values is None else tuple(dict.fromkeys(values))


def _unknown(field: str, ref: str) -> BadRequestError:
    noun = field.removesuffix("s")
    return BadRequestError(f"there is no {noun} {shown(ref)}", fields={"field": field})


def _found(every: Iterable[Kept], ref: str, noun: str) -> Kept:
    found = [one for one in every if ref in {one.id, one.name}]
    if not found:
        raise NotFoundError(f"there is no {noun} {shown(ref)}")
    return found[0]


def _needed(value: Any, field: str) -> Any:
    if value is None:
        raise BadRequestError(f"the {field} is missing", fields={"field": field})
    return value


def _checked_note(text: str) -> str:
    if len(text) > limits.NOTE_CHARS_MAX:
        detail = f"the note has more than {limits.NOTE_CHARS_MAX} characters"
        raise BadRequestError(detail, fields={"field": "note"})
    for line in text.splitlines():
        # a note may be longer than a label, but is made of the same characters
        for start in range(0, len(line), limits.NAME_CHARS_MAX):
            checked_label(line[start : start + limits.NAME_CHARS_MAX], "note")
    return text.strip()


def _check_room(every: Sequence[object], nouns: str) -> None:
    if len(every) >= limits.RULES_MAX:
        raise ConflictError(f"there are {limits.RULES_MAX} {nouns}, and there is room for no more")


def _refuse(problems: Iterable[Problem]) -> None:
    for field, text in problems:
        raise BadRequestError(text, fields={"field": field})
