"""A process that claims desktops for many users at once; the storm test starts two.

`python -m tests.support.claimer URL HOW FIRST LAST CONNECTIONS`: says `ready`, waits for a line,
claims for the users FIRST to LAST and prints one JSON object: the claims as [user, session or
null, desktop or null], and the seconds that they took together.

HOW is `store` (the product), `quota` (the product, all under the quota QUOTA), or `naive`: read
the first ready desktop, then write that it is taken, as two statements. That is how brokers come
to give one desktop to several people.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from threading import local

import psycopg

from broker.domain.policy.rules import Quota, QuotaScope
from broker.store import open_store
from tests.support.builders import NOW
from tests.support.stores import VDI, claim_one, make_request

Claim = tuple[int, str | None, str | None]

QUOTA = Quota(id="quo_1", name="Some", scope=QuotaScope.GROUP, sessions_max=150, group_id="grp_1")


async def store_claims(
    url: str, connections: int, users: range, **changes: object
) -> Callable[[], Awaitable[object]]:
    store = open_store(url, migrate=False, connections=connections)
    await store.open()

    async def one(user: int) -> Claim:
        request = make_request(user, VDI, **_ids(user) | changes)
        outcome = await claim_one(store, request)
        session = outcome.session
        return user, session.id if session else None, session.desktop_id if session else None

    async def run() -> object:
        claims = await asyncio.gather(*(one(user) for user in users))
        await store.close()
        return claims

    return run


def _ids(user: int) -> dict[str, object]:
    """Ids that no other process makes."""
    own = f"{sys.argv[3]}_{user:06d}"
    return {
        "session_id": f"ses_{own}",
        "ticket_id": f"tkt_{own}",
        "ticket_secret_hash": own.encode(),
        "group_id": None,
    }


async def quota_claims(url: str, connections: int, users: range) -> Callable[[], Awaitable[object]]:
    return await store_claims(url, connections, users, group_id=QUOTA.group_id, quotas=(QUOTA,))


async def naive_claims(url: str, connections: int, users: range) -> Callable[[], Awaitable[object]]:
    executor = ThreadPoolExecutor(connections)
    mine = local()

    def one(user: int) -> Claim:
        if not hasattr(mine, "connection"):
            mine.connection = psycopg.connect(url, autocommit=True)
        try:
            return user, *naive_claim(mine.connection, user, f"ses_{_ids(user)['session_id']}")
        except psycopg.IntegrityError:
            return user, None, None

    async def run() -> object:
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(executor, one, user) for user in users))

    return run


def naive_claim(connection: psycopg.Connection, user: int, session_id: str) -> tuple[str, str]:
    row = connection.execute(
        "SELECT id FROM desktops WHERE pool_id = %s AND state = 'ready' ORDER BY name LIMIT 1",
        (VDI.id,),
    ).fetchone()
    assert row is not None
    connection.execute(
        "UPDATE desktops SET prior_state = 'ready', state = 'assigned' WHERE id = %s", row
    )
    connection.execute(
        "INSERT INTO sessions (id, user_id, pool_id, architecture, desktop_id, prior_state, state,"
        " generation, revision, why, requested_at, phases, control_bytes, display_bytes,"
        " image_bytes) VALUES (%s, %s, %s, 'vdi', %s, 'nothing', 'delivering', 1, 1, '', %s,"
        " '[]', 0, 0, 0)",
        (session_id, f"usr_{user}", VDI.id, row[0], NOW),
    )
    return session_id, row[0]


async def main(url: str, how: str, first: int, last: int, connections: int) -> None:
    prepare = {"store": store_claims, "quota": quota_claims, "naive": naive_claims}[how]
    run = await prepare(url, connections, range(first, last + 1))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.readline)
    started = time.monotonic()
    claims = await run()
    sys.stdout.write(json.dumps({"claims": claims, "took_s": time.monotonic() - started}))


if __name__ == "__main__":
    asyncio.run(
        main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
    )
