"""A small roster that has one of everything, and ways to plan it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from broker.domain.model import Endpoint, Group, Host, Image, Pool, User
from broker.ports import RosterChange
from broker.services.roster import Known, RosterPlan, plan_roster

NOW = 1_795_248_000_000


class CountingIds:
    """Ids in order: usr_1, grp_2 …"""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def new(self, prefix: str) -> str:
        return f"{prefix}_{next(self._numbers):06d}"

    def secret(self) -> str:
        return f"secret-{next(self._numbers):06d}"


def plan(
    texts: Mapping[str, str], known: Known | None = None, *, now: int = NOW, ids: str = ""
) -> RosterPlan:
    """`ids`: a prefix, so that two plans' ids differ."""
    numbers = CountingIds()
    return plan_roster(texts, known or Known(), now, lambda kind: ids + numbers.new(kind))


def after(known: Known, change: RosterChange) -> Known:
    """What is stored when the change has been made."""
    groups: dict[str, Group] = {one.name: one for one in change.groups}
    users: dict[str, User] = {one.username: one for one in change.users}
    images: dict[str, Image] = {f"{one.name}@{one.version}": one for one in change.images}
    hosts: dict[str, Host] = {one.name: one for one in change.hosts}
    pools: dict[str, Pool] = {one.name: one for one in change.pools}
    endpoints: dict[str, Endpoint] = {one.name: one for one in change.endpoints}
    return Known(
        groups={**known.groups, **groups},
        users={**known.users, **users},
        images={**known.images, **images},
        hosts={**known.hosts, **hosts},
        pools={**known.pools, **pools},
        endpoints={**known.endpoints, **endpoints},
        profiles=known.profiles,
    )
