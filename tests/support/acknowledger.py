"""A process that claims desktops and says which; the kill test ends it at a random moment.

`python -m tests.support.acknowledger URL FIRST`: claims for the users FIRST, FIRST+1, … in
batches of changing size until it is killed (or out of desktops). A line `user session desktop`
is written once the store has answered, as a server would answer its client.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys

from broker.store import open_store
from tests.support.builders import NOW
from tests.support.stores import make_request


async def main(url: str, first: int) -> None:
    store = open_store(url, migrate=False)
    await store.open()
    os.write(1, b"ready\n")
    users = itertools.count(first)
    for size in itertools.cycle((1, 1, 2, 16, 1, 64)):
        requests = [
            make_request(
                user,
                session_id=f"ses_{user:08d}",
                ticket_id=f"tkt_{user:08d}",
                ticket_secret_hash=user.to_bytes(32),
                group_id=None,
            )
            for user in itertools.islice(users, size)
        ]
        lines = [
            f"{one.session.user_id} {one.session.id} {one.desktop.id}\n"
            for one in await store.sessions.claim(requests, NOW)
            if one.session is not None and one.desktop is not None
        ]
        if len(lines) < size:
            return
        os.write(1, "".join(lines).encode())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
