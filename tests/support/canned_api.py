"""An API in a thread that answers what a test tells it to, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from aiohttp import web


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request as it came."""

    method: str
    path: str
    query: Mapping[str, str]
    token: str
    body: Any


Answer: TypeAlias = tuple[int, Any] | tuple[int, Any, Mapping[str, str]]
Canned: TypeAlias = Answer | Callable[[Asked], Answer]


def problem(
    status: int, code: str, *, headers: Mapping[str, str] | None = None, **fields: Any
) -> Answer:
    """A problem+json answer."""
    document = {"title": f"title of {code}", "status": status, "code": code, **fields}
    return status, document, {"Content-Type": "application/problem+json", **(headers or {})}


@dataclass
class CannedApi:
    """`answers`: "GET /users" -> (status, document) or a function of the request."""

    url: str = ""
    answers: dict[str, Canned] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        text = await request.text()
        asked = Asked(
            method=request.method,
            path=request.path.removeprefix("/api/v1"),
            query=dict(request.query),
            token=request.headers.get("Authorization", "").removeprefix("Bearer "),
            body=json.loads(text) if text else None,
        )
        self.asked.append(asked)
        canned = self.answers.get(f"{asked.method} {asked.path}")
        if canned is None:
            canned = problem(404, "resource.not_found", detail=asked.path, request_id="r-404")
        made = canned(asked) if callable(canned) else canned
        status, document, headers = made if len(made) == 3 else (*made, {})
        if document is None:
            return web.Response(status=status, headers=dict(headers))
        if isinstance(document, str):
            return web.Response(status=status, text=document, headers=dict(headers))
        merged = {"Content-Type": "application/json", **headers}
        return web.Response(status=status, body=json.dumps(document).encode(), headers=merged)


@contextmanager
def canned_api() -> Iterator[CannedApi]:
    """Serves on a free port of 127.0.0.1 until the end of the block."""
    api = CannedApi()
    started: threading.Event = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        app = web.Application(client_max_size=16 * 2**20)
        app.router.add_route("*", "/{path:.*}", api.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        api.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        started.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        assert started.wait(10), "the canned API did not start"
        yield api
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()
