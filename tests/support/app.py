"""A whole broker on a real socket for tests of the API: people, pools and desktops to play with.

Everything is the product's own but the password hashes (plain, so that tests are quick) and the
clock, which a test may put forward. The reconciler runs only where a test asks for it, so that
desktops stay as the test put them.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import secrets
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from broker.app import Broker, Seams, background_work, build
from broker.config import Address, load
from broker.domain.lifecycle import DesktopEvent
from broker.domain.model import (
    Architecture,
    Desktop,
    DesktopState,
    Endpoint,
    EndpointKind,
    EndpointState,
    Group,
    Image,
    PoolKind,
    Role,
    User,
)
from broker.ports import RosterChange
from broker.services.bundle import Services
from broker.system import SystemChance, SystemClock, SystemIds
from broker.web.guard import GuardLimits
from tests.support.builders import make_desktop, make_host, make_pool
from tests.support.fakes import PlainPasswords

PASSWORD = "a long enough pass phrase"
API = "/api/v1"
_LARGE_BYTES = 500_000
"""bodies that aiohttp's client wants as a file"""


class ShiftClock(SystemClock):
    """The system's clock, put forward by as much as the test says."""

    def __init__(self) -> None:
        self.shift_s = 0.0

    def now(self) -> int:
        return super().now() + int(self.shift_s * 1000)

    def monotonic(self) -> float:
        return super().monotonic() + self.shift_s


@dataclass(frozen=True)
class Reply:
    """An answer. `json` is the decoded body where it is JSON."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The problem's code; empty for other answers."""
        is_problem = self.headers.get("Content-Type", "").startswith("application/problem+json")
        return str(self.json["code"]) if is_problem else ""


@dataclass(frozen=True)
class Person:
    """Somebody signed in."""

    id: str
    username: str
    token: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


@dataclass
class App:
    """A broker that serves on `address`."""

    broker: Broker
    address: Address
    clock: ShiftClock
    http: aiohttp.ClientSession
    people: dict[str, Person] = field(default_factory=dict)

    @property
    def services(self) -> Services:
        return self.broker.services

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    async def call(
        self,
        method: str,
        path: str,
        who: Person | None = None,
        *,
        body: Any = None,
        raw: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        base: str = API,
    ) -> Reply:
        """One request; `base` is put before a path that is not a whole address of the broker."""
        sent = dict(who.headers if who is not None else {})
        data = raw
        if body is not None:
            data = json.dumps(body).encode()
        if data is not None:
            sent["Content-Type"] = "application/json"
        sent.update(headers or {})
        full = path if path.startswith(("/api/", "/agent/")) or path in ROOTS else base + path
        async with self.http.request(
            method,
            URL(self.url + full, encoded=True),
            data=io.BytesIO(data) if data is not None and len(data) > _LARGE_BYTES else data,
            headers=sent,
            allow_redirects=False,
            skip_auto_headers=("Content-Type",),
        ) as answer:
            return Reply(answer.status, answer.headers, await answer.read())

    async def person(
        self,
        username: str,
        role: Role = Role.USER,
        groups: Sequence[str] = (),
        *,
        password: bool = False,
    ) -> Person:
        """Make somebody and sign them in."""
        user = await self.services.directory.add_user(
            username=username,
            display_name=username.title(),
            role=role,
            groups=groups,
            password=PASSWORD if password else None,
        )
        return await self.signed_in(user)

    async def signed_in(self, user: User) -> Person:
        """One more sign-in of this user."""
        issued = await self.services.accounts.issue(user, "api")
        person = Person(id=user.id, username=user.username, token=issued.token)
        self.people[user.username] = person
        return person

    async def raw(self, data: bytes, *, last: bytes | None = None) -> bytes:
        """Send bytes as they are and read until the broker closes.

        `last`: sent after the first header of an answer, followed by the end of the stream.
        """
        reader, writer = await asyncio.open_connection(self.address.host, self.address.port)
        try:
            writer.write(data)
            await writer.drain()
            async with asyncio.timeout(30):
                if last is None:
                    return await reader.read()
                first = await reader.readuntil(b"\r\n\r\n")
                with contextlib.suppress(ConnectionError):
                    writer.write(last)
                    await writer.drain()
                    writer.write_eof()
                    return first + await reader.read()
                return first
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


def _without_reconciler(broker: Broker) -> dict[str, Coroutine[Any, Any, None]]:
    services = broker.services
    return {
        "claims": services.connect.run(),
        "watch": services.watch.run(),
        "delivery": services.delivery.run(),
        "link": broker.link.run(),
        "displays": broker.displays.run(),
        "viewers": broker.relays.run(),
    }


ROOTS = frozenset({"/healthz", "/readyz", "/metrics"})


@contextlib.asynccontextmanager
async def running_app(
    data: Path,
    *,
    env: Mapping[str, str] | None = None,
    guard: GuardLimits | None = None,
    reconcile: bool = False,
) -> AsyncIterator[App]:
    """A broker over the memory store, or what `env` says, serving until the end of the block."""
    settings = {
        "TRIVIUM_LISTEN": "127.0.0.1:0",
        "TRIVIUM_DATA": str(data),
        "TRIVIUM_DATABASE_URL": "memory:",
        **(env or {}),
    }
    clock = ShiftClock()
    seams = Seams(clock=clock, ids=SystemIds(), chance=SystemChance(1), hasher=PlainPasswords())
    ready: asyncio.Future[tuple[Broker, Address]] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()

    async def serve() -> None:
        # in a task of its own: fixtures begin and end in different tasks
        async with build(load(settings), seams) as broker, asyncio.TaskGroup() as tasks:
            if reconcile:
                if broker.config.database_url.startswith("sqlite"):
                    await broker.services.shared.inherit()
                works = background_work(broker)
            else:
                works = _without_reconciler(broker)
            background = [tasks.create_task(work, name=name) for name, work in works.items()]
            try:
                address = await broker.web.start(broker.config.listen, guard)
                await broker.relays.open()
                ready.set_result((broker, address))
                await stop.wait()
                await broker.relays.close()
                await broker.web.stop(1.0)
            finally:
                for task in background:
                    task.cancel()

    serving = asyncio.ensure_future(serve())
    either: list[asyncio.Future[Any]] = [serving, ready]
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        serving.result()
    broker, address = ready.result()
    async with aiohttp.ClientSession(
        cookie_jar=aiohttp.DummyCookieJar(), timeout=aiohttp.ClientTimeout(total=60)
    ) as http:
        try:
            yield App(broker=broker, address=address, clock=clock, http=http)
        finally:
            await http.close()
            stop.set()
            await serving


# --------------------------------------------------------------------------------- a school


async def furnish(app: App, *, desktops: int = 5) -> None:
    """Two classes, three pools with ready desktops, a laboratory's endpoints, four people.

    Pools: library (VDI, class-a), design (VDI, class-b), lab (IDV, class-a, endpoint LAB-01).
    People by name: ann and bob (class-a), cid (class-b), audrey, oliver, alice (the roles).
    """
    services, now = app.services, app.clock.now()
    ids = services.kit.ids
    classes = {
        name: Group(id=ids.new("grp"), name=name, title=name.title(), created_at=now)
        for name in ("class-a", "class-b")
    }
    image = Image(
        id=ids.new("img"), name="win", version=1, size_bytes=3_000_000, boot_bytes=1_500_000,
        created_at=now,
    )  # fmt: skip
    host = make_host(id=ids.new("hst"), created_at=now)
    made = {"created_at": now, "image_id": image.id, "spares_min": 0, "size_max": 100}
    a, b = classes["class-a"].id, classes["class-b"].id
    library = make_pool(id=ids.new("pol"), name="library", group_ids=(a,), **made)
    design = make_pool(
        id=ids.new("pol"), name="design", title="Design", group_ids=(b,),
        kind=PoolKind.DEDICATED, **made,
    )  # fmt: skip
    lab = make_pool(
        id=ids.new("pol"), name="lab", title="Laboratory", group_ids=(a,),
        architecture=Architecture.IDV, **made,
    )  # fmt: skip
    endpoint = Endpoint(
        id=ids.new("ept"), name="LAB-01", kind=EndpointKind.FAT, location="Room 1",
        state=EndpointState.ENROLLED, public_key=None, pool_ids=(lab.id,), agent_version="",
        last_seen_at=None, created_at=now,
    )  # fmt: skip
    place = make_desktop(
        id=ids.new("dsk"), name="LAB-01/lab", pool_id=lab.id, architecture=Architecture.IDV,
        host_id=None, endpoint_id=endpoint.id, state=DesktopState.UNAVAILABLE, created_at=now,
        changed_at=now,
    )  # fmt: skip
    await services.kit.store.directory.apply_roster(
        RosterChange(
            groups=tuple(classes.values()),
            images=(image,),
            hosts=(host,),
            pools=(library, design, lab),
            endpoints=(endpoint,),
            desktops=(place,),
        )
    )
    services.pools.forget()
    for pool in (library, design):
        await add_ready(app, pool.id, pool.name, host.id, desktops)
    for username, role, group in (
        ("ann", Role.USER, "class-a"),
        ("bob", Role.USER, "class-a"),
        ("cid", Role.USER, "class-b"),
        ("audrey", Role.AUDITOR, "class-a"),
        ("oliver", Role.OPERATOR, "class-a"),
        ("alice", Role.ADMINISTRATOR, "class-a"),
    ):
        await app.person(username, role, [group], password=True)


async def add_ready(app: App, pool_id: str, name: str, host_id: str, count: int) -> None:
    """Desktops of a VDI pool that are ready."""
    store, now = app.services.kit.store, app.clock.now()
    made: list[Desktop] = [
        make_desktop(
            id=app.services.kit.ids.new("dsk"),
            name=f"{name}-{secrets.token_hex(3)}",
            pool_id=pool_id,
            host_id=host_id,
            state=DesktopState.PLANNED,
            target=DesktopState.READY,
            created_at=now,
            changed_at=now,
        )
        for _ in range(count)
    ]
    await store.desktops.add(made, [])
    for desktop in made:
        for event in (
            DesktopEvent.CREATE_BEGUN,
            DesktopEvent.CREATED,
            DesktopEvent.REPORTED_READY,
        ):
            await store.desktops.advance(desktop.id, event, now)
