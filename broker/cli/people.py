"""Who takes part in a campaign, and passwords for them.

People of role `user` alone take part: nobody who runs the installation. Their passwords are made
up and kept in one file (mode 0600), so that a second campaign need not set them again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from broker.cli.errors import CommandError
from broker.cli.private import read_json, write_private
from broker.cli.remote import Remote
from broker.domain.errors import BadCredentialsError
from broker.domain.model import Role
from broker.ports import Ids

PASSWORDS_AT_ONCE: Final = 40
"""passwords in one call: each costs the broker tens of milliseconds of a core"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody who may use these pools, by name."""

    username: str
    pools: tuple[str, ...]


def entitled(
    users: Iterable[Mapping[str, Any]], pools: Sequence[Mapping[str, Any]]
) -> list[Person]:
    """Everybody of role `user` who may sign in and use some of the pools."""
    found = []
    for user in users:
        if user["role"] != Role.USER or not user.get("enabled", True):
            continue
        mine = set(user["groups"])
        may_use = tuple(pool["name"] for pool in pools if mine & set(pool["groups"]))
        if may_use:
            found.append(Person(username=user["username"], pools=may_use))
    return found


def choose(people: Sequence[Person], count: int, seed: int) -> list[Person]:
    """`count` of them (all, if there are fewer), drawn by the seed, taking the pools in turn.

    In turn, so that a pool with few people has its share of them.
    """

    def drawn(person: Person) -> bytes:
        return hashlib.sha256(f"{seed}:{person.username}".encode()).digest()

    shuffled = sorted(people, key=drawn)
    names = sorted({pool for person in people for pool in person.pools})
    queues: list[Iterator[Person]] = [
        iter([person for person in shuffled if pool in person.pools]) for pool in names
    ]
    # A dictionary keeps the order in which they were drawn.
    chosen: dict[str, Person] = {}
    while queues and len(chosen) < count:
        for queue in list(queues):
            person = next((one for one in queue if one.username not in chosen), None)
            if person is None:
                queues.remove(queue)
            elif len(chosen) < count:
                chosen[person.username] = person
    return list(chosen.values())


async def passwords_for(
    remote: Remote,
    usernames: Sequence[str],
    file: Path,
    ids: Ids,
    told: Callable[[int, int], None],
) -> dict[str, str]:
    """A working password for each, from the file or set anew. `told` hears (done, of)."""
    stored = _stored(file)
    if not await _still_work(remote, stored, usernames):
        stored = {}
    missing = [name for name in usernames if name not in stored]
    told(0, len(missing))
    done = 0
    for start in range(0, len(missing), PASSWORDS_AT_ONCE):
        batch = missing[start : start + PASSWORDS_AT_ONCE]
        fresh = {name: ids.secret() for name in batch}
        await remote.post("users/passwords", {"passwords": fresh})
        # Kept at once, so that an interrupted preparation is not done twice.
        stored |= fresh
        write_private(file, _text(stored))
        done += len(fresh)
        told(done, len(missing))
    return {name: stored[name] for name in usernames}


async def _still_work(remote: Remote, stored: Mapping[str, str], usernames: Sequence[str]) -> bool:
    """Whether the stored passwords are this installation's: one of them is tried."""
    sample = next((name for name in usernames if name in stored), None)
    if sample is None:
        return True
    try:
        await remote.post("auth/login", {"username": sample, "password": stored[sample]})
    except CommandError as error:
        if error.code != BadCredentialsError.code:
            raise
        return False
    return True


def _stored(file: Path) -> dict[str, str]:
    found = read_json(file)
    passwords = found.get("passwords") if isinstance(found, dict) else None
    return dict(passwords) if isinstance(passwords, dict) else {}


def _text(passwords: Mapping[str, str]) -> str:
    return json.dumps({"version": 1, "passwords": dict(passwords)}, ensure_ascii=False) + "\n"
