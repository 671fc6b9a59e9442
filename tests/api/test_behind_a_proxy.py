"""A broker behind a proxy knows its clients by the address that a trusted proxy tells."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from broker.config import load
from broker.ports import PageQuery
from broker.web.guard import GuardLimits
from broker.web.proxies import Proxies
from tests.support.app import App, furnish, running_app

CLIENT = "198.51.100.7"
FORWARDED = {"X-Forwarded-For": f"127.0.0.1, {CLIENT}"}


@pytest.fixture(params=["trusted", "a stranger"])
async def behind(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[App]:
    env = {"TRIVIUM_TRUSTED_PROXIES": "127.0.0.1"} if request.param == "trusted" else {}
    async with running_app(tmp_path, env=env) as app:
        await furnish(app)
        yield app


def is_trusted(app: App) -> bool:
    return bool(app.broker.config.trusted_proxies)


async def test_the_audit_trail_names_the_client_that_a_trusted_proxy_tells(behind: App) -> None:
    body = {"username": "ann", "password": "wrong"}
    refused = await behind.call("POST", "/auth/login", body=body, headers=FORWARDED)
    assert refused.status == 401
    query = PageQuery(filters={"action": "user.sign_in"})
    [entry] = (await behind.broker.store.audit.entries(query)).items
    assert entry.source == (CLIENT if is_trusted(behind) else "127.0.0.1")


async def test_programs_behind_a_trusted_proxy_are_not_taken_for_local_ones(behind: App) -> None:
    """/metrics needs no token from loopback, and a proxy on this machine comes from there."""
    answer = await behind.call("GET", "/metrics", headers=FORWARDED)
    assert answer.status == (401 if is_trusted(behind) else 200)
    assert (await behind.call("GET", "/metrics")).status == 200


@pytest.mark.parametrize("trusted", [True, False])
async def test_a_trusted_proxy_brings_more_connections_than_one_client_may_have(
    tmp_path: Path, *, trusted: bool
) -> None:
    networks = load({"TRIVIUM_TRUSTED_PROXIES": "127.0.0.1"}).trusted_proxies if trusted else ()
    guard = GuardLimits(per_address_max=2, loopback_limited=True, proxies=Proxies(networks))
    async with running_app(tmp_path, guard=guard) as app, contextlib.AsyncExitStack() as stack:
        answered = []
        for _ in range(4):
            reader, writer = await asyncio.open_connection(app.address.host, app.address.port)
            stack.callback(writer.close)
            with contextlib.suppress(ConnectionError):
                writer.write(f"GET /healthz HTTP/1.1\r\nHost: {app.address}\r\n\r\n".encode())
                async with asyncio.timeout(30):
                    answered.append(await reader.readline())
        served = [line for line in answered if line.startswith(b"HTTP/1.1 200")]
        assert len(served) == (4 if trusted else 2)
