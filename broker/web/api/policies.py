"""Rules of entitlement, and quotas."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from broker.domain import errors
from broker.domain.policy.check import SESSIONS_MAX
from broker.domain.policy.rules import Effect, EntitlementRule, Quota, QuotaScope
from broker.domain.roles import Permission
from broker.limits import NOTE_CHARS_MAX, RULE_PARTS_MAX
from broker.services.rulebook import QuotaWish, RuleWish
from broker.web.api.inputs import Body, Label, Name, given
from broker.web.api.windows import WindowBody, from_window, to_window
from broker.web.audited import Audited
from broker.web.call import Call
from broker.web.context import Web
from broker.web.lists import Listed, cut, listed, page_query
from broker.web.names import GONE
from broker.web.params import PAGE, TEXT
from broker.web.routes import Route

Refs = Annotated[list[Name], Meta(max_length=RULE_PARTS_MAX)]
Networks = Annotated[
    list[Annotated[str, Meta(min_length=1, max_length=64)]], Meta(max_length=RULE_PARTS_MAX)
]
Windows = Annotated[list[WindowBody], Meta(max_length=RULE_PARTS_MAX)]
Note = Annotated[str, Meta(max_length=NOTE_CHARS_MAX)]
Most = Annotated[int, Meta(ge=0, le=SESSIONS_MAX)]


class RuleChanges(Body, frozen=True, kw_only=True):
    """What is left out stays as it is. People, groups, pools and endpoints by name or id; an
    empty list matches anything."""

    name: Name | UnsetType = UNSET
    effect: Effect | UnsetType = UNSET
    users: Refs | UnsetType = UNSET
    groups: Refs | UnsetType = UNSET
    pools: Refs | UnsetType = UNSET
    endpoints: Refs | UnsetType = UNSET
    networks: Networks | UnsetType = UNSET
    windows: Windows | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    note: Note | UnsetType = UNSET


class NewRule(RuleChanges, frozen=True, kw_only=True):
    """A rule that allows names at least a person or a group. Denying always wins."""

    name: Name
    effect: Effect


class QuotaChanges(Body, frozen=True, kw_only=True):
    """What is left out stays as it is. `group` "" takes the group away."""

    name: Name | UnsetType = UNSET
    scope: QuotaScope | UnsetType = UNSET
    sessions_max: Most | UnsetType = UNSET
    group: Label | UnsetType = UNSET
    pools: Refs | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET


class NewQuota(QuotaChanges, frozen=True, kw_only=True):
    """At most `sessions_max` live sessions: of each person (of `group`), of a group's people
    together, or of pools together; over `pools`, or all."""

    name: Name
    scope: QuotaScope
    sessions_max: Most


class RuleShape(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    name: str
    effect: Effect
    users: list[str]
    groups: list[str]
    pools: list[str]
    endpoints: list[str]
    networks: list[str]
    windows: list[WindowBody]
    enabled: bool
    note: str


class QuotaShape(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    name: str
    scope: QuotaScope
    sessions_max: int
    group: str | None
    pools: list[str]
    enabled: bool


class PoliciesApi:
    def __init__(self, web_: Web) -> None:
        self._web = web_

    # ------------------------------------------------------------------ rules

    async def rules(self, call: Call) -> web.StreamResponse:
        every = await self._web.services.rulebook.rules()
        page = cut(every, page_query(call, "rules"), lambda rule: rule.name)
        return call.answer(listed("rules", await self._shown(page.items), page.next_after))

    async def rule(self, call: Call) -> web.StreamResponse:
        rule = await self._web.services.rulebook.rule(call.part("id"))
        return call.answer((await self._shown([rule]))[0])

    async def add_rule(self, call: Call) -> web.StreamResponse:
        rule = await self._web.services.rulebook.add_rule(_rule_wish(call.body))
        return await self._changed_rule(call, rule, 201)

    async def change_rule(self, call: Call) -> web.StreamResponse:
        wish = _rule_wish(call.body)
        rule = await self._web.services.rulebook.change_rule(call.part("id"), wish)
        return await self._changed_rule(call, rule, 200)

    async def _changed_rule(
        self, call: Call, rule: EntitlementRule, status: int
    ) -> web.StreamResponse:
        call.remarks |= {"rule": rule.id, "name": rule.name}
        return call.answer((await self._shown([rule]))[0], status)

    async def remove_rule(self, call: Call) -> web.StreamResponse:
        rule = await self._web.services.rulebook.remove_rule(call.part("id"))
        call.remarks |= {"rule": rule.id, "name": rule.name}
        return call.done()

    async def _shown(self, rules: Sequence[EntitlementRule]) -> list[RuleShape]:
        names = await self._web.names.learn(
            users=[one for rule in rules for one in rule.user_ids],
            groups=[one for rule in rules for one in rule.group_ids],
            endpoints=[one for rule in rules for one in rule.endpoint_ids],
        )
        pools = await self._pool_names()
        return [
            RuleShape(
                id=rule.id,
                name=rule.name,
                effect=rule.effect,
                users=_named(rule.user_ids, names),
                groups=_named(rule.group_ids, names),
                pools=_named(rule.pool_ids, pools),
                endpoints=_named(rule.endpoint_ids, names),
                networks=list(rule.networks),
                windows=[from_window(window) for window in rule.windows],
                enabled=rule.enabled,
                note=rule.note,
            )
            for rule in rules
        ]

    async def _pool_names(self) -> Mapping[str, str]:
        return {pool.id: pool.name for pool in await self._web.services.pools.all()}

    # ------------------------------------------------------------------ quotas

    async def quotas(self, call: Call) -> web.StreamResponse:
        every = await self._web.services.rulebook.quotas()
        page = cut(every, page_query(call, "quotas"), lambda quota: quota.name)
        return call.answer(listed("quotas", await self._counted(page.items), page.next_after))

    async def quota(self, call: Call) -> web.StreamResponse:
        quota = await self._web.services.rulebook.quota(call.part("id"))
        return call.answer((await self._counted([quota]))[0])

    async def add_quota(self, call: Call) -> web.StreamResponse:
        quota = await self._web.services.rulebook.add_quota(_quota_wish(call.body))
        return await self._changed_quota(call, quota, 201)

    async def change_quota(self, call: Call) -> web.StreamResponse:
        wish = _quota_wish(call.body)
        quota = await self._web.services.rulebook.change_quota(call.part("id"), wish)
        return await self._changed_quota(call, quota, 200)

    async def _changed_quota(self, call: Call, quota: Quota, status: int) -> web.StreamResponse:
        call.remarks |= {"quota": quota.id, "name": quota.name}
        return call.answer((await self._counted([quota]))[0], status)

    async def remove_quota(self, call: Call) -> web.StreamResponse:
        quota = await self._web.services.rulebook.remove_quota(call.part("id"))
        call.remarks |= {"quota": quota.id, "name": quota.name}
        return call.done()

    async def _counted(self, quotas: Sequence[Quota]) -> list[QuotaShape]:
        names = await self._web.names.learn(groups=[quota.group_id for quota in quotas])
        pools = await self._pool_names()
        return [
            QuotaShape(
                id=quota.id,
                name=quota.name,
                scope=quota.scope,
                sessions_max=quota.sessions_max,
                group=None if quota.group_id is None else names.get(quota.group_id, GONE),
                pools=_named(quota.pool_ids, pools),
                enabled=quota.enabled,
            )
            for quota in quotas
        ]

    # ------------------------------------------------------------------ routes

    def routes(self) -> tuple[Route, ...]:
        return (*self._rule_routes(), *self._quota_routes())

    def _rule_routes(self) -> tuple[Route, ...]:
        writes = (errors.AlreadyExistsError, errors.ConflictError)
        return (
            Route(
                method="GET",
                path="/api/v1/rules",
                handler=self.rules,
                need=Permission.READ,
                summary="Rules of entitlement, by name",
                answers={200: Listed[RuleShape]},
                query=(*PAGE, TEXT),
            ),
            Route(
                method="POST",
                path="/api/v1/rules",
                audit=Audited(action="rule.create"),
                handler=self.add_rule,
                need=Permission.MANAGE_POLICIES,
                summary="Add a rule",
                request=NewRule,
                answers={201: RuleShape},
                errors=writes,
            ),
            Route(
                method="GET",
                path="/api/v1/rules/{id}",
                handler=self.rule,
                need=Permission.READ,
                summary="One rule, by id or name",
                answers={200: RuleShape},
                errors=(errors.NotFoundError,),
            ),
            Route(
                method="PATCH",
                path="/api/v1/rules/{id}",
                audit=Audited(action="rule.change"),
                handler=self.change_rule,
                need=Permission.MANAGE_POLICIES,
                summary="Change a rule",
                request=RuleChanges,
                answers={200: RuleShape},
                errors=(errors.NotFoundError, *writes),
            ),
            Route(
                method="DELETE",
                path="/api/v1/rules/{id}",
                audit=Audited(action="rule.delete"),
                handler=self.remove_rule,
                need=Permission.MANAGE_POLICIES,
                summary="Remove a rule",
                answers={204: None},
                errors=(errors.NotFoundError,),
            ),
        )

    def _quota_routes(self) -> tuple[Route, ...]:
        writes = (errors.AlreadyExistsError, errors.ConflictError)
        return (
            Route(
                method="GET",
                path="/api/v1/quotas",
                handler=self.quotas,
                need=Permission.READ,
                summary="Quotas, by name",
                answers={200: Listed[QuotaShape]},
                query=(*PAGE, TEXT),
            ),
            Route(
                method="POST",
                path="/api/v1/quotas",
                audit=Audited(action="quota.create"),
                handler=self.add_quota,
                need=Permission.MANAGE_POLICIES,
                summary="Add a quota",
                request=NewQuota,
                answers={201: QuotaShape},
                errors=writes,
            ),
            Route(
                method="GET",
                path="/api/v1/quotas/{id}",
                handler=self.quota,
                need=Permission.READ,
                summary="One quota, by id or name",
                answers={200: QuotaShape},
                errors=(errors.NotFoundError,),
            ),
            Route(
                method="PATCH",
                path="/api/v1/quotas/{id}",
                audit=Audited(action="quota.change"),
                handler=self.change_quota,
                need=Permission.MANAGE_POLICIES,
                summary="Change a quota",
                request=QuotaChanges,
                answers={200: QuotaShape},
                errors=(errors.NotFoundError, *writes),
            ),
            Route(
                method="DELETE",
                path="/api/v1/quotas/{id}",
                audit=Audited(action="quota.delete"),
                handler=self.remove_quota,
                need=Permission.MANAGE_POLICIES,
                summary="Remove a quota",
                answers={204: None},
                errors=(errors.NotFoundError,),
            ),
        )


def _named(ids: Iterable[str], names: Mapping[str, str]) -> list[str]:
    return sorted(names.get(one, GONE) for one in ids)


def _rule_wish(body: RuleChanges) -> RuleWish:
    windows = given(body.windows)
    return RuleWish(
        name=given(body.name),
        effect=given(body.effect),
        users=given(body.users),
        groups=given(body.groups),
        pools=given(body.pools),
        endpoints=given(body.endpoints),
        networks=given(body.networks),
        windows=None if windows is None else [to_window(window) for window in windows],
        enabled=given(body.enabled),
        note=given(body.note),
    )


def _quota_wish(body: QuotaChanges) -> QuotaWish:
    return QuotaWish(
        name=given(body.name),
        scope=given(body.scope),
        sessions_max=given(body.sessions_max),
        group=given(body.group),
        pools=given(body.pools),
        enabled=given(body.enabled),
    )
