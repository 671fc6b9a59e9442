"""The floor: a bare aiohttp handler that does one claim in the same kind of database.

No identity, no admission, no ticket, no events: one transaction with full durability that takes
a ready desktop and stores a session. `python -m tests.bench.floor DATABASE` prints its port.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
from pathlib import Path

from aiohttp import web

SCHEMA = """
create table desktops (id text primary key, name text not null, pool text not null,
                       state text not null, owner text);
create unique index desktops_by_name on desktops (pool, state, name);
create table sessions (id integer primary key, user_id text not null, pool text not null,
                       desktop text not null, state text not null);
create unique index one_session_per_desktop on sessions (desktop) where state = 'live';
create unique index one_session_per_user_and_pool on sessions (user_id, pool) where state = 'live';
"""


def open_database(path: Path) -> sqlite3.Connection:
    """WAL and full sync, as the broker has it."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("pragma journal_mode = wal")
    database.execute("pragma synchronous = full")
    return database


def fill(path: Path, desktops: int) -> None:
    database = open_database(path)
    database.executescript(SCHEMA)
    database.execute("begin")
    database.executemany(
        "insert into desktops values (?, ?, 'p', 'ready', null)",
        [(f"d{n}", f"p-{n:06d}") for n in range(desktops)],
    )
    database.execute("commit")
    database.close()


def application(database: sqlite3.Connection) -> web.Application:
    async def claim(request: web.Request) -> web.Response:
        user = json.loads(await request.read())["user"]
        database.execute("begin immediate")
        row = database.execute(
            "update desktops set state = 'assigned' where id = (select id from desktops "
            "indexed by desktops_by_name where pool = 'p' and state = 'ready' "
            "order by name limit 1) returning id, name"
        ).fetchone()
        session = database.execute(
            "insert into sessions (user_id, pool, desktop, state) values (?, 'p', ?, 'live')",
            (user, row[0]),
        ).lastrowid
        database.execute("commit")
        body = json.dumps({"session": session, "desktop": row[1]})
        return web.Response(body=body.encode(), content_type="application/json")

    app = web.Application()
    app.router.add_post("/claim", claim)
    return app


async def _announce(app: web.Application) -> None:
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    sys.stdout.write(json.dumps({"host": host, "port": port}) + "\n")
    sys.stdout.flush()


def main() -> None:
    database = open_database(Path(sys.argv[1]))
    loop = asyncio.new_event_loop()
    loop.run_until_complete(_announce(application(database)))
    try:
        loop.run_forever()
    finally:
        database.close()


if __name__ == "__main__":
    main()
