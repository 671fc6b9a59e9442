"""A small broker that keeps everything in memory, for tests of the campaign harness.

Run as `python -m tests.support.fake_api '{"…": …}'`; it prints its port on one line and serves
until it is ended. It speaks the part of the API that a campaign uses, and it can be told to
misbehave, each fault being one that the harness must notice:

    pools            {name: [architecture, desktops]}
    deliver_s        from claim to live
    stall            [from_s, for_s] after the first sign-in: nothing is answered
    busy_first       this many sign-ins are answered 503 with Retry-After first
    retry_after      the value of that Retry-After
    double_desktop   every session of a pool gets the same desktop
    forget_every     every n-th session is left out of the lists and unknown by id
    answer_s         from the claim to a new session's answer
    log_off_s        before a log-off is heard
    never_end_every  every n-th session stays in `ending`
    fail_every       every n-th session fails while it is delivered
    no_display_every every n-th display is refused
    wrong_for        nobody is entitled to this pool
    die_after        the process ends without a word after so many requests
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aiohttp import WSMsgType, web

TOKEN = "auditor-token"
STEPS = {
    "vdi": ("display_open", "first_frame", "logon"),
    "idv": ("lease", "image_check", "image_fetch", "local_boot"),
    "voi": ("boot_order", "boot_stream", "os_start"),
}
TRAFFIC = {
    "vdi": {"control": 900, "display": 400_000, "image": 0},
    "idv": {"control": 1_100, "display": 0, "image": 9_000},
    "voi": {"control": 1_000, "display": 0, "image": 2_000_000},
}


@dataclass
class Session:
    id: str
    number: int
    username: str
    pool: str
    architecture: str
    endpoint: str | None
    requested_at: float
    state: str = "queued"
    revision: int = 1
    desktop: str | None = None
    assigned_at: float | None = None
    live_at: float | None = None
    ended_at: float | None = None
    phases: list[dict[str, Any]] = field(default_factory=list)
    traffic: dict[str, int] = field(default_factory=dict)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)


def stamp(at: float | None) -> str | None:
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class FakeBroker:
    def __init__(self, knobs: dict[str, Any]) -> None:
        self.knobs = knobs
        self.pools: dict[str, tuple[str, int]] = {
            name: (kind, int(count)) for name, (kind, count) in knobs["pools"].items()
        }
        self.free = {
            name: [f"{name}-d{i}" for i in range(count)] for name, (_, count) in self.pools.items()
        }
        self.sessions: dict[str, Session] = {}
        self.by_key: dict[tuple[str, str], Session] = {}
        self.waiting: dict[str, list[Session]] = {name: [] for name in self.pools}
        self.numbers = itertools.count(1)
        self.sign_ins = 0
        self.displays = 0
        self.requests = 0
        self.first_at: float | None = None
        self.tasks: set[asyncio.Task[None]] = set()

    def due(self, knob: str, number: int) -> bool:
        every = int(self.knobs.get(knob, 0))
        return bool(every) and number % every == 0

    def known(self, session: Session) -> bool:
        return not self.due("forget_every", session.number)

    async def change(self, session: Session, **values: object) -> None:
        async with session.changed:
            for name, value in values.items():
                setattr(session, name, value)
            session.revision += 1
            session.changed.notify_all()

    def spawn(self, work: Awaitable[None]) -> None:
        async def run() -> None:
            await work

        task = asyncio.get_running_loop().create_task(run())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def claim(self, session: Session) -> None:
        free = self.free[session.pool]
        if not free:
            self.waiting[session.pool].append(session)
            return
        desktop = free[0] if self.knobs.get("double_desktop") else free.pop(0)
        await self.change(session, state="delivering", desktop=desktop, assigned_at=time.time())
        if session.endpoint is not None:
            self.spawn(self.deliver(session))

    async def deliver(self, session: Session) -> None:
        steps = STEPS[session.architecture]
        each_s = float(self.knobs.get("deliver_s", 0.2)) / len(steps)
        for name in steps:
            await asyncio.sleep(each_s)
            if session.state != "delivering":
                return
            phase = {"name": name, "took_ms": each_s * 1000, "bytes_down": 1000, "bytes_up": 100}
            await self.change(session, phases=[*session.phases, phase])
        if self.due("fail_every", session.number):
            await self.finish(session, "failed")
            return
        await self.change(
            session,
            state="active",
            live_at=time.time(),
            traffic=dict(TRAFFIC[session.architecture]),
        )

    async def finish(self, session: Session, state: str) -> None:
        if session.desktop is not None and not self.knobs.get("double_desktop"):
            self.free[session.pool].append(session.desktop)
        await self.change(session, state=state, ended_at=time.time())
        waiting = self.waiting[session.pool]
        while waiting and self.free[session.pool]:
            await self.claim(waiting.pop(0))

    async def end(self, session: Session) -> None:
        if session.state in {"ended", "failed", "cancelled", "ending"}:
            return
        if session.state == "queued":
            self.waiting[session.pool].remove(session)
            await self.change(session, state="cancelled", ended_at=time.time())
            return
        await self.change(session, state="ending")
        if self.due("never_end_every", session.number):
            return

        async def later() -> None:
            await asyncio.sleep(0.05)
            await self.finish(session, "ended")

        self.spawn(later())


def shown(session: Session) -> dict[str, Any]:
    return {
        "id": session.id,
        "user": {"id": f"usr_{session.username}", "username": session.username},
        "pool": {"id": f"poo_{session.pool}", "name": session.pool},
        "architecture": session.architecture,
        "state": session.state,
        "why": "",
        "place": 1 if session.state == "queued" else None,
        "desktop": None
        if session.desktop is None
        else {"id": f"des_{session.desktop}", "name": session.desktop},
        "endpoint": None
        if session.endpoint is None
        else {"id": f"end_{session.endpoint}", "name": session.endpoint},
        "generation": 1,
        "revision": session.revision,
        "requested_at": stamp(session.requested_at),
        "assigned_at": stamp(session.assigned_at),
        "live_at": stamp(session.live_at),
        "ended_at": stamp(session.ended_at),
        "lease_until": None,
        "deadline_at": None,
        "phases": session.phases,
        "traffic": {"control": 0, "display": 0, "image": 0, **session.traffic},
    }


def problem(status: int, code: str, **headers: str) -> web.Response:
    body = {"type": "about:blank", "title": code, "status": status, "detail": code, "code": code}
    return web.json_response(
        body, status=status, content_type="application/problem+json", headers=headers
    )


BROKER: web.AppKey[FakeBroker] = web.AppKey("broker", FakeBroker)


@web.middleware
async def stall(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    broker = request.app[BROKER]
    if request.path.startswith("/api/"):
        broker.requests += 1
        if broker.requests == broker.knobs.get("die_after"):
            os._exit(1)
        broker.first_at = broker.first_at or time.monotonic()
        from_s, for_s = broker.knobs.get("stall", (0.0, 0.0))
        since = time.monotonic() - broker.first_at
        if from_s <= since < from_s + for_s:
            await asyncio.sleep(from_s + for_s - since)
    return await handler(request)


def user_of(request: web.Request) -> str:
    token = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if not token:
        raise web.HTTPUnauthorized
    return token


async def login(request: web.Request) -> web.Response:
    broker = request.app[BROKER]
    body = await request.json()
    broker.sign_ins += 1
    if broker.sign_ins <= int(broker.knobs.get("busy_first", 0)):
        again = str(broker.knobs.get("retry_after", "0.1"))
        return problem(503, "server.busy", **{"Retry-After": again})
    if body["password"] != f"secret of {body['username']}":
        return problem(401, "auth.bad_credentials")
    return web.json_response({"token": body["username"], "expires_at": stamp(time.time() + 3600)})


async def connect(request: web.Request) -> web.Response:
    broker = request.app[BROKER]
    username = user_of(request)
    body = await request.json()
    if body["pool"] not in broker.pools:
        return problem(404, "resource.not_found")
    if body["pool"] == broker.knobs.get("wrong_for"):
        return problem(403, "admission.not_entitled")
    key = (username, request.headers.get("Idempotency-Key", ""))
    session = broker.by_key.get(key) or next(
        (
            each
            for each in broker.sessions.values()
            if (each.username, each.pool) == (username, body["pool"])
            and each.state in {"queued", "delivering", "active"}
        ),
        None,
    )
    fresh = session is None
    if session is None:
        number = next(broker.numbers)
        session = Session(
            id=f"ses_{number:06}",
            number=number,
            username=username,
            pool=body["pool"],
            architecture=broker.pools[body["pool"]][0],
            endpoint=body.get("endpoint"),
            requested_at=time.time(),
        )
        broker.sessions[session.id] = session
        broker.by_key[key] = session
        await broker.claim(session)
        await asyncio.sleep(float(broker.knobs.get("answer_s", 0.0)))
    queued = session.state == "queued"
    answer = {
        "session": shown(session),
        "ticket": None if queued else f"ticket-{session.id}",
        "ticket_expires_at": None,
    }
    return web.json_response(answer, status=202 if queued else 201 if fresh else 200)


async def one(request: web.Request) -> web.Response:
    broker = request.app[BROKER]
    session = broker.sessions.get(request.match_info["id"])
    mine = session is not None and user_of(request) in {session.username, TOKEN}
    if session is None or not mine or (user_of(request) == TOKEN and not broker.known(session)):
        return problem(404, "resource.not_found")
    if "seen" in request.query:
        seen, wait_s = int(request.query["seen"]), float(request.query["wait_s"])
        try:
            async with asyncio.timeout(wait_s), session.changed:
                await session.changed.wait_for(lambda: session.revision > seen)
        except TimeoutError:
            pass
    return web.json_response(shown(session))


async def log_off(request: web.Request) -> web.Response:
    broker = request.app[BROKER]
    session = broker.sessions.get(request.match_info["id"])
    if session is None or session.username != user_of(request):
        return problem(404, "resource.not_found")
    await asyncio.sleep(float(broker.knobs.get("log_off_s", 0.0)))
    await broker.end(session)
    return web.json_response(shown(session), status=202)


async def every(request: web.Request) -> web.Response:
    broker = request.app[BROKER]
    if user_of(request) != TOKEN:
        return problem(403, "auth.forbidden")
    rows = sorted(
        (each for each in broker.sessions.values() if broker.known(each)), key=lambda s: s.id
    )
    after, limit = request.query.get("after", ""), min(int(request.query.get("limit", 100)), 7)
    rows = [each for each in rows if each.id > after]
    page = rows[:limit]
    following = page[-1].id if len(rows) > limit else None
    return web.json_response({"items": [shown(each) for each in page], "next": following})


async def display(request: web.Request) -> web.StreamResponse:
    broker = request.app[BROKER]
    session = broker.sessions[request.match_info["id"]]
    if user_of(request) != session.username or "Origin" not in request.headers:
        return problem(403, "auth.origin")
    socket = web.WebSocketResponse(compress=False)
    await socket.prepare(request)
    first = json.loads((await socket.receive(timeout=5)).data)
    broker.displays += 1
    refused = broker.due("no_display_every", broker.displays)
    if refused or first != {"type": "display_open", "ticket": f"ticket-{session.id}"}:
        await socket.send_json({"type": "display_refused", "code": "ticket.refused"})
        await socket.close()
        return socket
    await socket.send_json(
        {"type": "display_ready", "session_id": session.id, "width": 800, "height": 600}
    )
    await socket.send_bytes(b"p" * 3000)
    await broker.change(session, state="active", live_at=time.time(), traffic=dict(TRAFFIC["vdi"]))
    async for message in socket:
        if message.type is WSMsgType.CLOSE:
            break
    return socket


async def simple(request: web.Request) -> web.Response:
    user_of(request)
    return web.json_response({"items": [], "next": None})


async def health(request: web.Request) -> web.Response:
    return web.json_response({"status": "alive"})


async def metrics(request: web.Request) -> web.Response:
    lines = (
        "# TYPE process_cpu_seconds_total counter",
        f"process_cpu_seconds_total {time.process_time()}",
        "# TYPE process_resident_memory_bytes gauge",
        "process_resident_memory_bytes 5.0e+07",
    )
    return web.Response(text="\n".join(lines) + "\n", content_type="text/plain")


def application(knobs: dict[str, Any]) -> web.Application:
    app = web.Application(middlewares=[stall])
    app[BROKER] = FakeBroker(knobs)
    app.router.add_post("/api/v1/auth/login", login)
    app.router.add_get("/api/v1/auth/me", simple)
    app.router.add_get("/api/v1/me/pools", simple)
    app.router.add_post("/api/v1/sessions", connect)
    app.router.add_get("/api/v1/sessions", every)
    app.router.add_get("/api/v1/sessions/{id}", one)
    app.router.add_delete("/api/v1/sessions/{id}", log_off)
    app.router.add_get("/api/v1/sessions/{id}/display", display)
    app.router.add_get("/healthz", health)
    app.router.add_get("/metrics", metrics)
    return app


async def serve(knobs: dict[str, Any]) -> None:
    runner = web.AppRunner(application(knobs), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    sys.stdout.write(f"{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    try:
        asyncio.run(serve(json.loads(sys.argv[1])))
    except KeyboardInterrupt:
        sys.exit(0)
