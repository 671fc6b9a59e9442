"""What is open stays open while the database is away: a real PostgreSQL that is killed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from broker.domain.model import SessionState
from tests.support.display_stage import Stage, rest, running_stage, some_frames
from tests.support.postgres import PostgresServer, running_postgres


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    """One that nobody else uses: it is killed."""
    with running_postgres() as server:
        yield server


@pytest.fixture
async def stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres: PostgresServer
) -> AsyncIterator[Stage]:
    env = {"TRIVIUM_DATABASE_URL": postgres.create()}
    async with running_stage(tmp_path, monkeypatch, env) as one:
        yield one


class Asked:
    """How often the store was asked in vain, by what it was asked."""

    def __init__(self) -> None:
        self.in_vain: dict[str, int] = {}

    def watch(self, monkeypatch: pytest.MonkeyPatch, part: Any, name: str) -> None:
        call: Callable[..., Awaitable[Any]] = getattr(part, name)

        async def counted(*args: Any, **named: Any) -> Any:
            try:
                return await call(*args, **named)
            except Exception:
                self.in_vain[name] = self.in_vain.get(name, 0) + 1
                raise

        monkeypatch.setattr(part, name, counted)


async def test_a_stream_outlives_a_database_that_is_killed(
    stage: Stage,
    postgres: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.ERROR)
    store, asked = stage.app.services.kit.store, Asked()
    asked.watch(monkeypatch, store.sessions, "some")
    asked.watch(monkeypatch, store.sessions, "note_phases")
    asked.watch(monkeypatch, store.credentials, "identities")
    async with stage.display() as socket:
        await some_frames(socket)
        with postgres.outage():
            ann = stage.app.people["ann"]
            refused = await stage.app.call("POST", "/sessions", ann, body={"pool": "library"})
            assert refused.status == 503, refused.json
            # whoever looks whether the session and the sign-in still are has looked in vain
            while not {"some", "identities"} <= asked.in_vain.keys():
                await some_frames(socket)
            await stage.displays.flush()
            assert "note_phases" in asked.in_vain
            carried = await some_frames(socket, 100)
        async with asyncio.timeout(60):
            while (await stage.app.call("GET", "/sessions", ann)).status != 200:
                await some_frames(socket)
        assert await stage.state() == SessionState.ACTIVE
        # what it carried meanwhile is counted
        await stage.displays.flush()
        session = await store.sessions.session(stage.session_id)
        assert session is not None
        assert session.traffic.display >= 64 * carried
        await stage.end("DELETE", "")
        await rest(socket)
