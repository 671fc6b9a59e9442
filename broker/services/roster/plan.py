"""What a checked roster means beside the stored records: the change to make, or its problems.

Pure: the same roster and the same records give the same plan. Files name records by name; a
reference is good when its record is in the roster or stored already.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from broker.domain.model import Instant
from broker.domain.roster import Problem, Problems, read_roster
from broker.ports import RosterChange
from broker.services.roster.draft import Count, Draft, Known
from broker.services.roster.machines import plan_hosts, plan_images
from broker.services.roster.people import plan_groups, plan_users
from broker.services.roster.places import plan_endpoints
from broker.services.roster.pools import plan_entitlements, plan_pools


@dataclass(frozen=True, slots=True, kw_only=True)
class RosterPlan:
    """`change` is empty when there are problems; `more` counts those beyond the listed."""

    change: RosterChange
    counts: Mapping[str, Count]
    problems: tuple[Problem, ...]
    more: int


def plan_roster(
    texts: Mapping[str, str],
    known: Known,
    now: Instant,
    new_id: Callable[[str], str],
    problems: Problems | None = None,
) -> RosterPlan:
    """Read, check and plan a roster given as file name -> text.

    `new_id` makes an id from a prefix; `problems` may hold what was found before (undecodable
    files). Nothing in `texts` makes this raise: what is wrong is in the plan's problems.
    """
    found = Problems() if problems is None else problems
    draft = Draft(read_roster(texts, found), known, now, new_id, found)
    plan_groups(draft)
    plan_users(draft)
    plan_images(draft)
    plan_hosts(draft)
    plan_pools(draft)
    plan_entitlements(draft)
    plan_endpoints(draft)
    return RosterPlan(
        change=RosterChange() if len(found) else _change(draft),
        counts=_counts(draft),
        problems=found.listed,
        more=found.more,
    )


def _change(draft: Draft) -> RosterChange:
    return RosterChange(
        groups=draft.groups.changed,
        users=draft.users.changed,
        images=draft.images.changed,
        hosts=draft.hosts.changed,
        pools=draft.pools.changed,
        endpoints=draft.endpoints.changed,
        desktops=tuple(draft.desktops),
    )


def _counts(draft: Draft) -> dict[str, Count]:
    roster = draft.roster
    draft.groups.tally(row.key for row in roster.groups)
    draft.users.tally(row.key for row in roster.users)
    draft.images.tally(row.key for row in roster.images)
    draft.hosts.tally(row.key for row in roster.hosts)
    draft.endpoints.tally(row.key for row in roster.endpoints)
    entitled = {row.pool for row in roster.entitlements} & draft.pools.change.keys()
    draft.pools.tally(dict.fromkeys([*(row.key for row in roster.pools), *sorted(entitled)]))
    return {
        "groups": draft.groups.count,
        "users": draft.users.count,
        "images": draft.images.count,
        "hosts": draft.hosts.count,
        "pools": draft.pools.count,
        "entitlements": draft.entitlements,
        "endpoints": draft.endpoints.count,
        "desktops": Count(new=len(draft.desktops)),
    }
