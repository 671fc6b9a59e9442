"""The cast of a campaign: pools, live endpoints, people with passwords; and the file it is kept in.

The file's form is that of loadtests/cast.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from broker.cli.errors import CommandError
from broker.cli.people import Person, choose, entitled, passwords_for
from broker.cli.private import write_private
from broker.cli.remote import Access, Remote
from broker.domain.model import EndpointState
from broker.ports import Ids

SEAT_S: Final = 44.0
"""of one endpoint for one session: the longest work of a plan and the rest after it"""
SEATS_SHARE: Final = 0.6
"""of what the endpoints could seat if people came evenly; they come by chance"""

Told = Callable[[str, int, int], None]
"""hears (what is done, how many, of how many)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CastWishes:
    """What a campaign wants. `usernames`: only these may take part; None: every plain user.
    `speed`, `bytes_scale`: how broker and fleet were told to compress."""

    people: int
    seed: int
    speed: float
    bytes_scale: float
    usernames: Collection[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    pools: tuple[Mapping[str, Any], ...]
    endpoints: tuple[Mapping[str, Any], ...]
    people: tuple[Person, ...]


def room(cast: Cast, window_s: float) -> int:
    """How many arrivals the endpoints can seat when each architecture has the same share.

    Raises:
        CommandError: no endpoint of an architecture is online.
    """
    of_pool = {pool["name"]: pool["architecture"] for pool in cast.pools}
    seats = dict.fromkeys(of_pool.values(), 0)
    for endpoint in cast.endpoints:
        for architecture in {of_pool[name] for name in endpoint["pools"]}:
            seats[architecture] += 1
    empty = sorted(name for name, count in seats.items() if not count)
    if empty:
        raise CommandError(
            "There are too few endpoints to measure with",
            detail=f"no endpoint of the {' and '.join(empty)} pools is online",
            advice="Start some: `trivium fleet`.",
            code="cli.no_cast",
        )
    uses = max(1.0, window_s / SEAT_S)
    return max(len(seats), int(len(seats) * min(seats.values()) * uses * SEATS_SHARE))


async def find_cast(remote: Remote, wishes: CastWishes) -> Cast:
    """Who and what can take part now.

    Raises:
        CommandError: there is no open pool, or nobody who may use one.
    """
    pools = [pool async for pool in remote.every("pools") if pool["enabled"]]
    names = {pool["name"] for pool in pools}
    endpoints = [
        {"name": one["name"], "pools": [name for name in one["pools"] if name in names]}
        async for one in remote.every("endpoints", state=EndpointState.ONLINE.value)
    ]
    users = [
        user
        async for user in remote.every("users", role="user")
        if wishes.usernames is None or user["username"] in wishes.usernames
    ]
    people = choose(entitled(users, pools), wishes.people, wishes.seed)
    if not pools or not people:
        raise CommandError(
            "There is nobody to measure with",
            detail="no open pool" if not pools else "no plain user is entitled to an open pool",
            advice="Import a roster first: `trivium import examples/school`.",
            code="cli.no_cast",
        )
    return Cast(pools=tuple(pools), endpoints=tuple(endpoints), people=tuple(people))


async def write_cast(
    remote: Remote, access: Access, cast: Cast, wishes: CastWishes, ids: Ids, told: Told
) -> Path:
    """Give the people passwords and write the cast's file; answers its path."""
    folder = access.data / "campaign"

    def set_so_far(done: int, total: int) -> None:
        told("passwords", done, total)

    usernames = [person.username for person in cast.people]
    passwords = await passwords_for(remote, usernames, folder / "people.json", ids, set_so_far)
    document = {
        "version": 1,
        "url": access.url,
        "token": access.token,
        "scale": {"speed": wishes.speed, "bytes_scale": wishes.bytes_scale},
        "pools": [
            {"name": pool["name"], "architecture": pool["architecture"]} for pool in cast.pools
        ],
        "endpoints": list(cast.endpoints),
        "people": [
            {
                "username": person.username,
                "password": passwords[person.username],
                "pools": list(person.pools),
            }
            for person in cast.people
        ],
    }
    file = folder / "cast.json"
    write_private(file, json.dumps(document, ensure_ascii=False))
    return file
