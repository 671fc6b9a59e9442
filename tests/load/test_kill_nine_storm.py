"""kill -9 in a sign-in storm on SQLite: nothing that was acknowledged is lost."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.process import Api, BrokerProcess, broker_process, small_roster

PEOPLE = 90
DESKTOPS = 70
ROUNDS = 3


@dataclass
class Acknowledged:
    """What the broker answered with 2xx before it was killed."""

    tokens: dict[str, str] = field(default_factory=dict)
    sessions: dict[str, dict[str, Any]] = field(default_factory=dict)


async def _ready_desktops(api: Api, count: int) -> None:
    async with asyncio.timeout(90):
        while True:
            pools = await api.all("/pools")
            if pools and pools[0]["desktops"].get("ready", 0) >= count:
                return
            await asyncio.sleep(0.1)


async def _person(broker: BrokerProcess, name: str, password: str, seen: Acknowledged) -> None:
    try:
        async with aiohttp.ClientSession() as http:
            api = Api(http, broker.url + "/api/v1")
            status, answer = await api.call(
                "POST", "/auth/login", {"username": name, "password": password}
            )
            if status != 200:
                return
            seen.tokens[name] = answer["token"]
            status, answer = await api.call(
                "POST",
                "/sessions",
                {"pool": "library"},
                Authorization=f"Bearer {answer['token']}",
            )
            if status in {200, 201, 202}:
                seen.sessions[name] = answer["session"]
    except (aiohttp.ClientError, ValueError):
        return  # it was killed under us: nothing was acknowledged


async def _check(broker: BrokerProcess, seen: Acknowledged) -> None:
    for name, token in seen.tokens.items():
        async with broker.http(token) as api:
            me = await api.ok("GET", "/auth/me")
            assert me["user"]["username"] == name if "user" in me else me["username"] == name
    async with broker.http() as api:
        known = {one["id"]: one for one in await api.all("/sessions")}
        live = await api.all("/sessions?live=true")
    for name, session in seen.sessions.items():
        assert session["id"] in known, f"the session of {name} is lost"
        now = known[session["id"]]
        assert now["user"]["username"] == name
        if session["desktop"] is not None:
            assert now["desktop"] == session["desktop"]
    held = [one["desktop"]["id"] for one in live if one["desktop"] is not None]
    assert len(held) == len(set(held)), "a desktop was given twice"


@pytest.mark.timeout(300)
async def test_nothing_acknowledged_is_lost_when_the_broker_is_killed_in_a_sign_in_storm(
    tmp_path: Path,
) -> None:
    chance = random.Random(20)
    seen = Acknowledged()
    async with broker_process(tmp_path / "data", TRIVIUM_SPEED="1000") as broker:
        passwords = {f"pupil{n:04d}": f"correct-horse-{n:04d}" for n in range(PEOPLE)}
        async with broker.http() as api:
            await api.ok("POST", "/imports", {"files": small_roster(PEOPLE, DESKTOPS)})
            await api.ok("POST", "/users/passwords", {"passwords": passwords})
            await _ready_desktops(api, DESKTOPS)
        for round_number in range(ROUNDS):
            mine = list(passwords)[round_number::ROUNDS]
            storm = asyncio.gather(*(_person(broker, name, passwords[name], seen) for name in mine))
            enough = len(seen.sessions) + chance.randint(3, len(mine) // 2)
            async with asyncio.timeout(60):
                while len(seen.sessions) < enough:
                    await asyncio.sleep(0.005)
            await broker.kill()
            await storm
            await broker.start()
            await _check(broker, seen)
        async with broker.http() as api:
            await api.ok("GET", "/overview")
    assert len(seen.sessions) >= 3 * ROUNDS
    with sqlite3.connect(tmp_path / "data" / "trivium.db") as database:
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)
