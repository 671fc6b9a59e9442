"""Thousands of rows at once, written past the store."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from broker.domain.model import Desktop, DesktopState
from broker.store.sql import tables as t
from broker.store.sql.engine import make_engine, parse_url
from broker.store.sql.rows.machines import from_desktop
from tests.support.builders import NOW


def insert(url: str, table: sa.Table, rows: Iterable[dict[str, Any]]) -> None:
    engine = make_engine(parse_url(url))
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        driver.execute("BEGIN")
        connection.execute(sa.insert(table), list(rows))
        driver.commit()
    engine.dispose()


def run(url: str, statement: str) -> list[Any]:
    """One statement of any kind, and its rows."""
    engine = make_engine(parse_url(url))
    with engine.connect() as connection:
        result = connection.exec_driver_sql(statement)
        rows = list(result.all()) if result.returns_rows else []
    engine.dispose()
    return rows


def insert_ready(url: str, desktops: Iterable[Desktop]) -> None:
    """Desktops that are `ready` as if they had just started."""
    rows = [
        from_desktop(desktop)
        | {
            "prior_state": DesktopState.STARTING.value,
            "state": DesktopState.READY.value,
            "target": None,
        }
        for desktop in desktops
    ]
    insert(url, t.desktops, rows)


def insert_users(url: str, numbers: Iterable[int]) -> None:
    """Users usr_N without groups."""
    rows = [
        {
            "id": f"usr_{number}",
            "username": f"user-{number:06d}",
            "display_name": f"User {number}",
            "search": f"user-{number:06d}",
            "role": "user",
            "enabled": True,
            "created_at": NOW,
        }
        for number in numbers
    ]
    insert(url, t.users, rows)


def insert_ended(url: str, count: int, *, users: int) -> None:
    """The past: sessions that ended long ago, spread over users usr_1 to usr_N."""
    rows = [
        {
            "id": f"ses_0old{number:08d}",
            "user_id": f"usr_{number % users + 1}",
            "pool_id": "pol_1",
            "architecture": "vdi",
            "desktop_id": None,
            "endpoint_id": f"ept_{number % 50 + 1}",
            "group_id": None,
            "prior_state": "ending",
            "state": "ended",
            "generation": 1,
            "revision": 5,
            "why": "",
            "requested_at": NOW - 10**9 + 100 * number,
            "ended_at": NOW - 10**9 + 100 * number,
            "phases": "[]",
            "control_bytes": 0,
            "display_bytes": 0,
            "image_bytes": 0,
        }
        for number in range(count)
    ]
    insert(url, t.sessions, rows)


def insert_devices(url: str, numbers: Iterable[int]) -> None:
    """Fat endpoints ept_N that are offline."""
    rows = [
        {
            "id": f"ept_{number}",
            "name": f"BULK-{number:06d}",
            "search": f"bulk-{number:06d}",
            "kind": "fat",
            "location": "",
            "prior_state": "online",
            "state": "offline",
            "agent_version": "",
            "last_seen_at": NOW,
            "created_at": NOW,
        }
        for number in numbers
    ]
    insert(url, t.endpoints, rows)


def insert_tokens(url: str, users: Iterable[int]) -> None:
    """One token for each user."""
    rows = [
        {
            "id": f"tok_bulk_{number}",
            "secret_hash": b"bulk" + number.to_bytes(28),
            "user_id": f"usr_{number}",
            "kind": "web",
            "created_at": NOW,
            "expires_at": NOW + number,
        }
        for number in users
    ]
    insert(url, t.tokens, rows)
