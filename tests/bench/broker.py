"""Brokers filled for a benchmark: a pool of ready desktops, people with tokens."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path

from broker.config import load
from broker.domain.lifecycle import DesktopEvent
from broker.domain.model import (
    Architecture,
    Desktop,
    DesktopState,
    Group,
    Host,
    HostState,
    Image,
    LogOff,
    Pool,
    PoolKind,
    Resources,
    Role,
    User,
)
from broker.ports import AuthToken, RosterChange
from broker.store import open_store
from broker.system import SystemClock

_SMALL = Resources(cpus=1, memory_mib=1024)


def _records(
    people: int, now: int, new_id: Callable[[str, int], str]
) -> tuple[RosterChange, Pool, Host]:
    group = Group(id=new_id("grp", 0), name="pupils", title="Pupils", created_at=now)
    image = Image(
        id=new_id("img", 0),
        name="win",
        version=1,
        size_bytes=2**35,
        boot_bytes=2**27,
        created_at=now,
    )
    host = Host(
        id=new_id("hst", 0),
        name="server-1",
        engine="simulated",
        profile="bare-metal",
        state=HostState.UP,
        capacity=Resources(cpus=1e6, memory_mib=10**9),
        overcommit_cpu=4.0,
        start_limit=1,
        created_at=now,
    )
    pool = Pool(
        id=new_id("pol", 0),
        name="library",
        title="Library",
        architecture=Architecture.VDI,
        kind=PoolKind.FLOATING,
        image_id=image.id,
        resources=_SMALL,
        spares_min=0,
        size_max=people,
        log_off=LogOff.RESET,
        disconnect_grace_s=600,
        lease_s=3600,
        enabled=True,
        group_ids=(group.id,),
        created_at=now,
    )
    users = tuple(
        User(
            id=new_id("usr", n),
            username=f"pupil{n:05d}",
            display_name=f"Pupil {n}",
            role=Role.USER,
            enabled=True,
            group_ids=(group.id,),
            created_at=now,
        )
        for n in range(people)
    )
    change = RosterChange(
        groups=(group,), users=users, images=(image,), hosts=(host,), pools=(pool,)
    )
    return change, pool, host


def token_of(number: int) -> str:
    """Person number's bearer token: a benchmark's, so it may be known."""
    return f"bench-token-{number:05d}".ljust(43, "x")


async def fill(data: Path, people: int) -> None:
    """A data directory with `people` users, a token each, and as many ready desktops."""
    await asyncio.to_thread(data.mkdir, parents=True, exist_ok=True)
    config = load({"TRIVIUM_DATA": str(data)})
    store = open_store(config.database_url)
    await store.open()
    now = SystemClock().now()
    change, pool, host = _records(people, now, lambda prefix, n: f"{prefix}_{n:022d}")
    await store.directory.apply_roster(change)
    for number, user in enumerate(change.users):
        secret = hashlib.sha256(token_of(number).encode()).digest()
        await store.credentials.add_token(
            AuthToken(
                id=f"tok_{number:022d}",
                secret_hash=secret,
                user_id=user.id,
                kind="api",
                created_at=now,
                expires_at=now + 86_400_000,
            )
        )
    desktops = [
        Desktop(
            id=f"dsk_{n:022d}",
            name=f"library-{n:05d}",
            pool_id=pool.id,
            architecture=Architecture.VDI,
            host_id=host.id,
            endpoint_id=None,
            owner_id=None,
            state=DesktopState.PLANNED,
            target=DesktopState.READY,
            deadline_at=None,
            generation=1,
            resources=_SMALL,
            note="",
            created_at=now,
            changed_at=now,
        )
        for n in range(people)
    ]
    await store.desktops.add(desktops, [])
    steps = (DesktopEvent.CREATE_BEGUN, DesktopEvent.CREATED, DesktopEvent.REPORTED_READY)
    for event in steps:
        for start in range(0, people, 500):
            await asyncio.gather(
                *(
                    store.desktops.advance(desktop.id, event, now)
                    for desktop in desktops[start : start + 500]
                )
            )
    await store.close()
