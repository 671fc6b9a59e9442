"""May this person have a desktop of this pool, here and now? Refused unless something allows it.

Entitled are the people of the pool's groups, and whom a rule allows it. A rule that denies wins
over everything, whatever the order of the rules. Then the pool must be open and the endpoint fit.
Quotas are not decided here: those that bind the request go with it, and the store holds them in
the claim's own transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final
from zoneinfo import ZoneInfo

from broker.domain.calendar import holds
from broker.domain.errors import (
    DeniedByRuleError,
    NotEntitledError,
    TriviumError,
    WrongEndpointError,
)
from broker.domain.model import Endpoint, EndpointKind, EndpointState, Instant, Pool
from broker.domain.planning.effective import zone_of
from broker.domain.policy.networks import Address, parse_address, within
from broker.domain.policy.opening import closed_because
from broker.domain.policy.rules import Effect, EntitlementRule, Quota, QuotaScope
from broker.domain.settings import SiteSettings

_UNBOUNDED: Final = 2**63
"""more sessions than any quota allows"""
APPLIES: Final = ""
"""what is said of a rule that matches, in place of why it does not"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """Who asks for what, from where, and when.

    `endpoint_kind` and `runs_on_endpoint` are the architecture's: which endpoints can carry it,
    and whether the desktop is the endpoint itself (IDV, VOI), so that one must be named.
    `anywhere`: the question is whether the pool is for the person at all, at whichever endpoint.
    `address` is the client's; None when nobody says which (a preview): then no rule about
    networks applies. One that cannot be read is in the networks of every rule that denies and
    of none that allows. `holds_session`: a session of this pool is live already, which being
    closed does not take away.
    """

    user_id: str
    group_ids: tuple[str, ...]
    pool: Pool
    endpoint: Endpoint | None
    endpoint_kind: EndpointKind
    runs_on_endpoint: bool
    address: str | None
    now: Instant
    holds_session: bool = False
    anywhere: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What an administrator has set."""

    rules: Sequence[EntitlementRule] = ()
    quotas: Sequence[Quota] = ()
    site: SiteSettings = field(default_factory=SiteSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One rule that was looked at. `mismatch` says why it does not apply; APPLIES if it does."""

    rule_id: str
    name: str
    effect: Effect
    mismatch: str

    @property
    def applies(self) -> bool:
        return self.mismatch == APPLIES

    @property
    def text(self) -> str:
        if self.applies:
            verb = "allows" if self.effect is Effect.ALLOW else "denies"
            return f"the rule “{self.name}” {verb} it"
        return f"the rule “{self.name}” does not apply: {self.mismatch}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """`refusal` is None when admitted; `why` is a sentence for a person at the help desk.

    `reasons`: one for each rule that was looked at, by name. `group_id`: the group that
    entitles, which the queue is fair between and group quotas count (of several the one whose
    quotas allow the most sessions); None when a rule names the person. `quotas`: those that bind
    this request, by id.
    """

    why: str
    refusal: TriviumError | None = None
    reasons: tuple[Reason, ...] = ()
    group_id: str | None = None
    quotas: tuple[Quota, ...] = ()

    @property
    def admitted(self) -> bool:
        return self.refusal is None


def evaluate(asking: Asking, policy: Policy) -> Decision:
    """Decide; the same answer for every order of rules, quotas and groups of the policy."""
    zone = zone_of(None, policy.site)
    address = parse_address(asking.address) if asking.address is not None else None
    rules = sorted(policy.rules, key=lambda rule: (rule.name, rule.id))
    reasons = tuple(
        Reason(
            rule_id=rule.id,
            name=rule.name,
            effect=rule.effect,
            mismatch=next(_mismatches(rule, asking, address, zone, policy.site), APPLIES),
        )
        for rule in rules
    )
    allowing = [
        rule
        for rule, reason in zip(rules, reasons, strict=True)
        if reason.applies and rule.effect is Effect.ALLOW
    ]
    pool = asking.pool
    of_pool = [one for one in asking.group_ids if one in pool.group_ids]
    if not of_pool and not allowing:
        text = f"none of your groups is entitled to {pool.name}, and no rule allows it"
        return Decision(why=text, refusal=NotEntitledError(text), reasons=reasons)
    refusal = _denial(reasons, pool) or _closed_or_unfit(asking, policy.site)
    if refusal is not None:
        return Decision(why=refusal.detail, refusal=refusal, reasons=reasons)
    group_id = _counted_group(
        of_pool or _allowed_groups(asking.group_ids, allowing), policy.quotas, pool.id
    )
    through = "through one of its groups" if of_pool else f"by the rule “{allowing[0].name}”"
    return Decision(
        why=f"entitled to {pool.name} {through}",
        reasons=reasons,
        group_id=group_id,
        quotas=binding(policy.quotas, asking.group_ids, group_id, pool.id),
    )


def binding(
    quotas: Iterable[Quota], group_ids: Sequence[str], group_id: str | None, pool_id: str
) -> tuple[Quota, ...]:
    """The quotas that count a session of this pool for a person of `group_ids` whom `group_id`
    entitles; by id."""
    found = [
        quota
        for quota in quotas
        if quota.enabled
        and (not quota.pool_ids or pool_id in quota.pool_ids)
        and _counts_person(quota, group_ids, group_id)
    ]
    return tuple(sorted(found, key=lambda quota: quota.id))


def _counts_person(quota: Quota, group_ids: Sequence[str], group_id: str | None) -> bool:
    match quota.scope:
        case QuotaScope.USER:
            return quota.group_id is None or quota.group_id in group_ids
        case QuotaScope.GROUP:
            return group_id is not None and quota.group_id == group_id
        case QuotaScope.POOL:
            return True


def _denial(reasons: Iterable[Reason], pool: Pool) -> TriviumError | None:
    for reason in reasons:
        if reason.applies and reason.effect is Effect.DENY:
            text = f"the rule “{reason.name}” does not allow {pool.name} here or now"
            return DeniedByRuleError(text)
    return None


def _closed_or_unfit(asking: Asking, site: SiteSettings) -> TriviumError | None:
    pool = asking.pool
    closed = closed_because(pool, site, asking.now)
    if closed is not None and not asking.holds_session:
        return closed
    unfit = _unfit(asking)
    return WrongEndpointError(unfit) if unfit else None


def _unfit(asking: Asking) -> str:
    """Why the pool's desktop cannot be had where it is asked for; empty if it can."""
    pool, endpoint = asking.pool, asking.endpoint
    if endpoint is None:
        needs_one = asking.runs_on_endpoint and not asking.anywhere
        text = (
            f"desktops of {pool.name} run on their endpoints: the one where you sit must be named"
        )
        return text if needs_one else ""
    if endpoint.state is EndpointState.RETIRED:
        return f"{endpoint.name} is retired"
    if endpoint.kind is not asking.endpoint_kind:
        needed = asking.endpoint_kind
        return (
            f"{endpoint.name} is a {endpoint.kind} endpoint, and {pool.name} needs a {needed} one"
        )
    if asking.runs_on_endpoint and pool.id not in endpoint.pool_ids:
        return f"{endpoint.name} does not belong to {pool.name}"
    return ""


def _allowed_groups(group_ids: Sequence[str], allowing: Sequence[EntitlementRule]) -> list[str]:
    """Those of the person's groups that a rule names."""
    named = {one for rule in allowing for one in rule.group_ids}
    return [one for one in group_ids if one in named]


def _counted_group(entitling: Sequence[str], quotas: Iterable[Quota], pool_id: str) -> str | None:
    """Of several groups that entitle, the one whose quotas allow the most sessions; of those the
    first by id. None without any."""
    most: dict[str, int] = {}
    for quota in quotas:
        of_groups = quota.enabled and quota.scope is QuotaScope.GROUP
        if of_groups and quota.group_id and (not quota.pool_ids or pool_id in quota.pool_ids):
            before = most.get(quota.group_id, quota.sessions_max)
            most[quota.group_id] = min(before, quota.sessions_max)
    return min(entitling, key=lambda one: (-most.get(one, _UNBOUNDED), one), default=None)


def _mismatches(
    rule: EntitlementRule,
    asking: Asking,
    address: Address | None,
    zone: ZoneInfo,
    site: SiteSettings,
) -> Iterator[str]:
    """Why the rule does not apply, what is cheap to see first; nothing if it does."""
    if not rule.enabled:
        yield "it is switched off"
    if rule.effect is Effect.ALLOW and not rule.user_ids and not rule.group_ids:
        yield "it names nobody"
    if rule.user_ids and asking.user_id not in rule.user_ids:
        yield "it is for other people"
    if rule.group_ids and not any(one in rule.group_ids for one in asking.group_ids):
        yield "it is for other groups"
    if rule.pool_ids and asking.pool.id not in rule.pool_ids:
        yield "it is for other pools"
    if rule.endpoint_ids and (
        asking.endpoint is None or asking.endpoint.id not in rule.endpoint_ids
    ):
        yield "it is for other endpoints"
    if rule.windows and not any(
        holds(window, asking.now, zone, site.holidays) for window in rule.windows
    ):
        yield "it is for other times"
    if rule.networks:
        yield from _network_mismatches(rule, asking, address)


def _network_mismatches(
    rule: EntitlementRule, asking: Asking, address: Address | None
) -> Iterator[str]:
    if asking.address is None:
        yield "it is for certain networks, and no address is given"
    elif address is None:
        # an address that nobody can read must not open a door, nor get past one that is shut
        if rule.effect is Effect.ALLOW:
            yield "the client's address is not known"
    elif not within(address, rule.networks):
        yield "it is for other networks"
