"""A small roster that has one of everything, and ways to plan it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from broker.domain.model import Endpoint, Group, Host, Image, Pool, User
from broker.ports import RosterChange
from broker.services.roster import Known, RosterPlan, plan_roster

NOW = 1_795_248_000_000

GOOD: Mapping[str, str] = {
    "groups.csv": "name,title\n7-maple,Year 7 Maple 枫\nteachers,Teachers\n",
    "users.csv": (
        "username,display_name,role,groups\n"
        "Li.Ming,李明,user,7-maple\n"
        "ann.smith,Ann Smith,,teachers;7-maple\n"
        "ops,Operator,operator,\n"
    ),
    "images.csv": "name,version,size_gib,boot_mib\nwin11,3,40,200\nubuntu,1,12.5,120\n",
    "hosts.csv": (
        "name,engine,profile,cpus,memory_mib,overcommit_cpu,start_limit\n"
        "srv-1,simulated,bare-metal,64,524288,4,20\n"
        "srv-2,,,32,262144,,\n"
    ),
    "pools.csv": (
        "name,title,architecture,kind,image,cpus,memory_mib,spares,max,log_off,"
        "disconnect_grace_s,lease_s\n"
        "library,Library 图书馆,vdi,floating,win11@3,2,4096,10,60,reset,600,\n"
        "art,Art studio,idv,dedicated,win11@3,4,8192,,,keep,600,14400\n"
        "lab,Computer lab,voi,,ubuntu@1,4,8192,,,,,\n"
    ),
    "entitlements.csv": (
        "pool,group\nlibrary,7-maple\nlibrary,teachers\nart,7-maple\nlab,teachers\n"
    ),
    "endpoints.csv": (
        "name,kind,location,pools\n"
        "lib-01,thin,Library,library\n"
        "art-01,fat,Art studio,art\n"
        "lab-01,fat,Lab 1,lab;art\n"
    ),
}


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
