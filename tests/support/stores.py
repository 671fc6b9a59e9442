"""Stores for tests, and what they are filled with."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from broker.domain.lifecycle import DesktopEvent, EndpointEvent
from broker.domain.model import (
    Architecture,
    Campaign,
    CampaignState,
    Desktop,
    DesktopState,
    Endpoint,
    EndpointKind,
    EndpointState,
    Group,
    Image,
    Job,
    JobState,
    JobVerb,
    Pool,
    Role,
    Session,
    User,
)
from broker.ports import AuthToken, ClaimOutcome, ClaimRequest, RosterChange, Store
from tests.support.builders import NOW, make_desktop, make_endpoint, make_host, make_pool

_numbers = itertools.count(1)

VDI = make_pool()
IDV = make_pool(
    id="pol_2",
    name="laboratory",
    architecture=Architecture.IDV,
    image_id="img_1",
    group_ids=("grp_2", "grp_1"),
)
"""its groups stand in an order of their own"""


def make_user(number: int = 1, **changes: Any) -> User:
    values: dict[str, Any] = {
        "id": f"usr_{number}",
        "username": f"user-{number:04d}",
        "display_name": f"User {number}",
        "role": Role.USER,
        "enabled": True,
        "group_ids": ("grp_1",),
        "created_at": NOW,
    }
    return User(**(values | changes))


def make_group(number: int = 1, **changes: Any) -> Group:
    values: dict[str, Any] = {
        "id": f"grp_{number}",
        "name": f"group-{number}",
        "title": f"Group {number}",
        "created_at": NOW,
    }
    return Group(**(values | changes))


def make_image(number: int = 1, **changes: Any) -> Image:
    values: dict[str, Any] = {
        "id": f"img_{number}",
        "name": "office",
        "version": number,
        "size_bytes": 30 * 2**30,
        "boot_bytes": 2**30,
        "created_at": NOW,
    }
    return Image(**(values | changes))


def make_job(number: int = 1, **changes: Any) -> Job:
    values: dict[str, Any] = {
        "id": f"job_{number:03d}",
        "verb": JobVerb.CREATE,
        "desktop_id": "dsk_1",
        "host_id": "hst_1",
        "generation": 1,
        "state": JobState.QUEUED,
        "attempts": 0,
        "deadline_at": None,
        "not_before_at": NOW,
        "error": "",
        "created_at": NOW + number,
        "finished_at": None,
    }
    return Job(**(values | changes))


def make_campaign(number: int = 1, **changes: Any) -> Campaign:
    values: dict[str, Any] = {
        "id": f"cmp_{number}",
        "name": f"Campaign {number}",
        "seed": 2**52 + number,
        "plan_sha256": "0" * 64,
        "state": CampaignState.RUNNING,
        "verdict": "",
        "report_path": "",
        "summary": {"vdi": {"p95_ms": 12.5}, "notes": ["a", "b"]},
        "started_at": NOW,
        "finished_at": None,
    }
    return Campaign(**(values | changes))


def make_token(user_id: str = "usr_1", **changes: Any) -> AuthToken:
    number = next(_numbers)
    values: dict[str, Any] = {
        "id": f"tok_{number}",
        "secret_hash": number.to_bytes(32),
        "user_id": user_id,
        "kind": "api",
        "created_at": NOW,
        "expires_at": NOW + 1000,
    }
    return AuthToken(**(values | changes))


def make_request(user: int = 1, pool: Pool = VDI, **changes: Any) -> ClaimRequest:
    """A claim with ids of its own. Sessions made later sort later."""
    number = next(_numbers)
    values: dict[str, Any] = {
        "session_id": f"ses_{number:08d}",
        "user_id": f"usr_{user}",
        "group_id": "grp_1",
        "pool": pool,
        "endpoint_id": None,
        "runs_on_endpoint": pool.architecture is not Architecture.VDI,
        "ticket_id": f"tkt_{number:08d}",
        "ticket_secret_hash": number.to_bytes(32),
        "ticket_expires_at": NOW + 60_000,
        "deliver_deadline_at": NOW + 180_000,
        "queue_deadline_at": NOW + 1_800_000,
        "queue_limit": 1000,
    }
    return ClaimRequest(**(values | changes))


async def fill(store: Store, *, users: int = 10, endpoints: int = 4) -> None:
    """Groups 1 to 3, an image, a host, users usr_1…, the pools VDI and IDV, fat endpoints."""
    await store.directory.apply_roster(
        RosterChange(
            groups=tuple(make_group(number) for number in (1, 2, 3)),
            images=(make_image(1),),
            hosts=(make_host(),),
            users=tuple(make_user(number) for number in range(1, users + 1)),
            pools=(VDI, IDV),
            endpoints=tuple(new_endpoint(number) for number in range(1, endpoints + 1)),
        )
    )


def new_endpoint(number: int, **changes: Any) -> Endpoint:
    values: dict[str, Any] = {
        "id": f"ept_{number}",
        "name": f"LAB-{number:02d}",
        "kind": EndpointKind.FAT,
        "state": EndpointState.ENROLLED,
        "pool_ids": (IDV.id,),
        "created_at": NOW,
    }
    return make_endpoint(**(values | changes))


def new_desktop(number: int, pool: Pool = VDI, **changes: Any) -> Desktop:
    """A desktop in its first state: planned on the host, or unavailable on its endpoint."""
    on_endpoint = pool.architecture is not Architecture.VDI
    values: dict[str, Any] = {
        "id": f"dsk_{pool.name}_{number}",
        "name": f"{pool.name}-{number:04d}",
        "pool_id": pool.id,
        "architecture": pool.architecture,
        "host_id": None if on_endpoint else "hst_1",
        "endpoint_id": f"ept_{number}" if on_endpoint else None,
        "state": DesktopState.UNAVAILABLE if on_endpoint else DesktopState.PLANNED,
        "target": None if on_endpoint else DesktopState.READY,
    }
    return make_desktop(**(values | changes))


async def ready_desktops(
    store: Store, numbers: Iterable[int], pool: Pool = VDI, **changes: Any
) -> list[Desktop]:
    """Desktops of the pool, brought to `ready` along their lifecycle."""
    desktops = [new_desktop(number, pool, **changes) for number in numbers]
    await store.desktops.add(desktops, [])
    return [await make_ready(store, desktop) for desktop in desktops]


async def make_ready(store: Store, desktop: Desktop) -> Desktop:
    """Bring a new desktop to `ready`."""
    if desktop.endpoint_id is not None:
        await store.endpoints.presence(desktop.endpoint_id, EndpointEvent.CONNECTED, NOW)
        found = await store.desktops.desktop(desktop.id)
        assert found is not None
        if found.state is DesktopState.READY:
            return found
        return await store.desktops.advance(desktop.id, DesktopEvent.REPORTED_READY, NOW)
    for event in (DesktopEvent.CREATE_BEGUN, DesktopEvent.CREATED, DesktopEvent.REPORTED_READY):
        desktop = await store.desktops.advance(desktop.id, event, NOW)
    return desktop


async def claim_one(store: Store, request: ClaimRequest, now: int = NOW) -> ClaimOutcome:
    (outcome,) = await store.sessions.claim([request], now)
    return outcome


async def claimed_session(store: Store, request: ClaimRequest, now: int = NOW) -> Session:
    outcome = await claim_one(store, request, now)
    assert outcome.session is not None
    return outcome.session


def stored(session: Session, **changes: Any) -> Session:
    """The session as it is after a change, for comparing."""
    return replace(session, **changes)
