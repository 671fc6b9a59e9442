"""Who may do what, and when: entitlement rules and quotas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aiohttp import web

from broker.domain.calendar import Window
from broker.domain.policy.rules import Effect, EntitlementRule, Quota, QuotaScope
from broker.domain.roles import Permission
from broker.web.api.windows import from_window
from broker.web.call import Call
from broker.web.console.lists import options, pool_options
from broker.web.console.machines import pool_titles
from broker.web.console.pools import DAY_CHOICES
from broker.web.console.render import Pages
from broker.web.routes import Route, Surface

GONE = "?"


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleRow:
    """A rule in words: whom it is for, what it is about, where from and when."""

    rule: EntitlementRule
    whom: str
    what: str
    where: str
    when: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaRow:
    quota: Quota
    says: str


def _listed(ids: Sequence[str], names: Mapping[str, str]) -> list[str]:
    return [names.get(one, GONE) for one in ids]


def when_words(windows: Sequence[Window]) -> str:
    """Such as "Monday to Friday 07:30-17:00; …"; empty for always."""
    found = []
    for window in windows:
        body = from_window(window)
        joined = ";".join(body.days)
        days = DAY_CHOICES.get(joined, joined.replace(";", ", "))
        on_holidays = "" if body.holidays == "never" else f", {body.holidays} on holidays"
        found.append(f"{days} {body.start} to {body.end}{on_holidays}")
    return "; ".join(found)


def _quota_says(quota: Quota, groups: Mapping[str, str], pools: Mapping[str, str]) -> str:
    over = ", ".join(_listed(quota.pool_ids, pools)) or "all pools together"
    group = groups.get(quota.group_id or "", "")
    whose = {
        QuotaScope.USER: f"each of {group}" if group else "each person",
        QuotaScope.GROUP: f"{group or GONE} together",
        QuotaScope.POOL: "everybody together",
    }[quota.scope]
    return f"at most {quota.sessions_max} live sessions: {whose}, over {over}"


class RulePages:
    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    async def rules(self, call: Call) -> web.StreamResponse:
        services = call.web.services
        rules, quotas = await services.rulebook.rules(), await services.rulebook.quotas()
        groups = {group.id: group.title for group in await services.directory.groups()}
        pools = await pool_titles(call)
        names = await call.web.names.learn(
            users=[one for rule in rules for one in rule.user_ids],
            endpoints=[one for rule in rules for one in rule.endpoint_ids],
        )
        context = {
            "rules": [
                RuleRow(
                    rule=rule,
                    whom=", ".join(_listed(rule.user_ids, names) + _listed(rule.group_ids, groups)),
                    what=", ".join(_listed(rule.pool_ids, pools)),
                    where=", ".join([*_listed(rule.endpoint_ids, names), *rule.networks]),
                    when=when_words(rule.windows),
                )
                for rule in rules
            ],
            "quotas": [
                QuotaRow(quota=quota, says=_quota_says(quota, groups, pools)) for quota in quotas
            ],
            "effects": options(Effect),
            "scopes": options(QuotaScope),
            "groups": [(group.name, group.title) for group in await services.directory.groups()],
            "pools": pool_options(await services.pools.all()),
            "day_choices": DAY_CHOICES,
        }
        return self._pages.answer(
            call, "rules.html", context, here="/rules", parts=("list",), topics="policy"
        )

    def routes(self) -> tuple[Route, ...]:
        return (
            Route(
                method="GET",
                path="/rules",
                handler=self.rules,
                need=Permission.READ,
                summary="Rules and quotas",
                surface=Surface.PAGE,
            ),
        )
